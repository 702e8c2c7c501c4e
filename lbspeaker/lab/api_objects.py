"""A request's object against the stored one: what is accepted, what is kept, what has changed. Pure."""

from typing import Any

from lbspeaker.lab import api_events, api_kinds, api_schema
from lbspeaker.lab.api_errors import ApiStatus, Named, bad_request, invalid, wrong
from lbspeaker.lab.api_resources import Resource

Json = dict[str, Any]

# What only the system sets in metadata, and what a client may.
_SYSTEM = ("uid", "creationTimestamp", "deletionTimestamp", "deletionGracePeriodSeconds", "generation")
_MINE = ("name", "generateName", "namespace", "labels", "annotations", "finalizers", "ownerReferences")


def accept(resource: Resource, body: Any, validation: str) -> tuple[Json, tuple[str, ...]]:
    """Return a request's object as it is stored, without kind and apiVersion, and warnings.

    `validation` says what unknown fields of custom resources are: Ignore, Warn or Strict (an error).
    Raises ApiStatus 400 or 422.
    """
    if not isinstance(body, dict):
        raise bad_request("the body of the request is not an object")
    version, kind = body.get("apiVersion"), body.get("kind")
    if resource.custom:
        _check_kind(resource, body)
    if version not in (None, "", resource.api_version):
        raise bad_request(
            f"the API version in the data ({version}) does not match the expected API version "
            f"({resource.api_version})"
        )
    if kind not in (None, "", resource.kind):
        raise bad_request(f"{kind} in the data does not match the expected kind {resource.kind}")
    obj = {key: value for key, value in _without_nulls(body).items() if key not in ("kind", "apiVersion")}
    _check_metadata(obj.setdefault("metadata", {}), resource)
    if resource.stored_in:
        obj = api_events.to_core(obj)
    warnings: tuple[str, ...] = ()
    if resource.schema is not None:
        obj, unknown = api_schema.prune(obj, resource.schema)
        warnings = tuple(f'unknown field "{path}"' for path in unknown if validation != "Ignore")
        if warnings and validation == "Strict":
            raise Undecodable(resource, f"strict decoding error: {', '.join(warnings)}")
    if why := api_kinds.undecodable(resource.table, obj):
        raise Undecodable(resource, why)
    return obj, warnings


def merge_system(resource: Resource, before: Json, body: Json, *, status: bool) -> Json:
    """Return `body` with everything that this request may not change taken from `before`."""
    kept = {name: before["metadata"][name] for name in _SYSTEM if name in before["metadata"]}
    if status and resource.custom:
        metadata = dict(before["metadata"])
    else:
        metadata = _tidy_metadata(body["metadata"]) | kept
        for name in ("name", "namespace", "generateName"):
            if name in before["metadata"]:
                metadata[name] = before["metadata"][name]
    if status:
        new = {**before, "metadata": metadata}
        new["status"] = body.get("status") or {}
        return new
    new = {**body, "metadata": metadata}
    if resource.status:
        new.pop("status", None)
        if "status" in before:
            new["status"] = before["status"]
    return new


class Undecodable(ApiStatus):
    """A 400: the object does not have the types of its kind; as the result of a patch, that is a 422."""

    def __init__(self, resource: Resource, why: str) -> None:
        kind = resource.kind
        message = f'{kind} in version "{resource.version}" cannot be handled as a {kind}: {why}'
        super().__init__(400, "BadRequest", message)
        self.why = why


def _check_kind(resource: Resource, body: Json) -> None:
    """Raise ApiStatus if a custom object does not say what it is, or says that it is something else."""
    kind = body.get("kind")
    if not kind:
        what = f"(must be of type {resource.kind}): Object 'Kind' is missing"
        raise bad_request(f"the object provided is unrecognized {what}")
    if kind != resource.kind:
        name = (body.get("metadata") or {}).get("name", "")
        raise invalid(
            Named(resource.group, resource.plural, kind),
            name,
            [wrong("kind", kind, f"must be {resource.kind}")],
        )


def blank(resource: Resource, name: str) -> Json:
    return {"kind": resource.kind, "apiVersion": resource.api_version, "metadata": {"name": name}}


def _without_nulls(value: Any) -> Any:
    """Drop null fields, as decoding into Go structures does."""
    if isinstance(value, dict):
        return {key: _without_nulls(item) for key, item in value.items() if item is not None}
    if isinstance(value, list):
        return [_without_nulls(item) for item in value]
    return value


def _check_metadata(metadata: Any, resource: Resource) -> None:
    if not isinstance(metadata, dict):
        raise bad_request(f"{resource.kind}: metadata is not an object")
    for name in ("labels", "annotations"):
        for key, value in (metadata.get(name) or {}).items():
            if not isinstance(value, str):
                field = f"ObjectMeta.metadata.{name} ({key})"
                why = f"json: cannot unmarshal {value!r} into Go struct field {field} of type string"
                raise Undecodable(resource, why)


def _tidy_metadata(metadata: Json) -> Json:
    """Return what a client may set; empty maps and lists are as good as absent."""
    return {name: metadata[name] for name in _MINE if metadata.get(name)}


def own_metadata(body: Json, resource: Resource, namespace: str) -> Json:
    metadata = _tidy_metadata(body["metadata"])
    if not resource.namespaced:
        metadata.pop("namespace", None)
        return metadata
    if metadata.get("namespace", namespace) != namespace:
        raise bad_request(
            "the namespace of the provided object does not match the namespace sent on the request"
        )
    return metadata | {"namespace": namespace}


def check_place(body: Any, resource: Resource, namespace: str, name: str) -> None:
    """Raise ApiStatus 400 if the object says that it is another one than the URL says."""
    metadata = (body.get("metadata") if isinstance(body, dict) else None) or {}
    if not metadata.get("name"):
        raise bad_request(
            f"the name of the object ({name} based on URL) was undeterminable: name must be provided"
        )
    if metadata["name"] != name:
        raise bad_request(
            f"the name of the object ({metadata['name']}) does not match the name on the URL ({name})"
        )
    if resource.namespaced and metadata.get("namespace", namespace) != namespace:
        raise bad_request(
            "the namespace of the provided object does not match the namespace sent on the request"
        )


def same(new: Json, before: Json) -> bool:
    metadata = {**new["metadata"], "resourceVersion": before["metadata"]["resourceVersion"]}
    return metadata == before["metadata"] and {**new, "metadata": None} == {**before, "metadata": None}


def respecified(resource: Resource, new: Json, before: Json) -> bool:
    """Whether the change counts in metadata.generation: not metadata, and not a status of its own."""
    ignored = {"metadata", "status"} if resource.status else {"metadata"}
    if {k: v for k, v in new.items() if k not in ignored} != {
        k: v for k, v in before.items() if k not in ignored
    }:
        return True
    slices = resource.plural == "endpointslices"
    return slices and new["metadata"].get("labels") != before["metadata"].get("labels")
