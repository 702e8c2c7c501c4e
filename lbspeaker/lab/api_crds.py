"""CustomResourceDefinitions: what creating one means for what is served."""

from collections.abc import Iterable
from typing import Any

from lbspeaker.lab.api_errors import Cause, required, wrong
from lbspeaker.lab.api_resources import Resource
from lbspeaker.lab.api_select import dotted
from lbspeaker.lab.api_store import TableName

Json = dict[str, Any]


def admit_crd(new: Json, old: Json | None, now: str) -> tuple[Json, list[Cause]]:
    """Return a CRD with its names completed and its conditions Established, and what is wrong with it."""
    spec = dict(new.get("spec") or {})
    names = dict(spec.get("names") or {})
    causes = [
        required(f"spec.{field}")
        for field, value in (
            ("group", spec.get("group")),
            ("names.plural", names.get("plural")),
            ("names.kind", names.get("kind")),
            ("scope", spec.get("scope")),
            ("versions", spec.get("versions")),
        )
        if not value
    ]
    if causes:
        return new, causes
    name = new["metadata"]["name"]
    if name != f"{names['plural']}.{spec['group']}":
        return new, [wrong("metadata.name", name, 'must be spec.names.plural+"."+spec.group')]
    stored = [version["name"] for version in spec["versions"] if version.get("storage")]
    if len(stored) != 1:
        why = "must have exactly one version marked as storage version"
        return new, [wrong("spec.versions", len(stored), why)]
    names.setdefault("singular", names["kind"].lower())
    names.setdefault("listKind", f"{names['kind']}List")
    spec |= {"names": names, "conversion": spec.get("conversion") or {"strategy": "None"}}
    status = {
        "conditions": _conditions(old, now),
        "acceptedNames": names,
        "storedVersions": list(dict.fromkeys([*_stored(old), *stored])),
    }
    return {**new, "spec": spec, "status": status}, []


def _conditions(old: Json | None, now: str) -> list[Json]:
    if old is not None:
        conditions: list[Json] = old["status"]["conditions"]
        return conditions
    return [
        {"type": kind, "status": "True", "lastTransitionTime": now, "reason": reason, "message": message}
        for kind, reason, message in (
            ("NamesAccepted", "NoConflicts", "no conflicts found"),
            ("Established", "InitialNamesAccepted", "the initial names have been accepted"),
        )
    ]


def _stored(old: Json | None) -> list[str]:
    stored: list[str] = old["status"]["storedVersions"] if old is not None else []
    return stored


def table_of(crd: Json) -> TableName:
    return crd["spec"]["group"], crd["spec"]["names"]["plural"]


def resources_of(crd: Json) -> tuple[Resource, ...]:
    """Return the resources that an admitted CRD serves: one per served version, storage version first."""
    spec = crd["spec"]
    versions = sorted(spec["versions"], key=lambda version: not version.get("storage"))
    return tuple(_resource(spec, version) for version in versions if version.get("served"))


def _resource(spec: Json, version: Json) -> Resource:
    names = spec["names"]
    fields: Iterable[Json] = version.get("selectableFields") or ()
    paths = [field["jsonPath"].lstrip(".") for field in fields]
    return Resource(
        spec["group"],
        version["name"],
        names["plural"],
        names["kind"],
        tuple(names.get("shortNames") or ()),
        namespaced=spec["scope"] == "Namespaced",
        status="status" in (version.get("subresources") or {}),
        counted=True,
        blind=False,
        custom=True,
        singular=names["singular"],
        categories=tuple(names.get("categories") or ()),
        fields={path: dotted(path) for path in paths},
        schema=(version.get("schema") or {}).get("openAPIV3Schema"),
        columns=tuple(version.get("additionalPrinterColumns") or ()),
    )
