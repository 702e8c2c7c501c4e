"""Discovery: which groups, versions and resources there are, in both shapes; and a minimal OpenAPI v3."""

from collections.abc import Iterable
from typing import Any

from lbspeaker.lab.api_resources import VERBS, Catalog, Resource

Json = dict[str, Any]

AGGREGATED = "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList"
STATUS_VERBS = ("get", "patch", "update")


def version() -> Json:
    return {
        "major": "1",
        "minor": "36",
        "gitVersion": "v1.36.3+lbspeaker-lab",
        "gitCommit": "",
        "gitTreeState": "",
        "buildDate": "1970-01-01T00:00:00Z",
        "goVersion": "none",
        "compiler": "none",
        "platform": "linux/amd64",
    }


def _of(catalog: Catalog, group: str, version: str) -> list[Resource]:
    return [r for r in catalog if (r.group, r.version) == (group, version)]


def aggregated(catalog: Catalog, *, core: bool) -> Json:
    """Return an APIGroupDiscoveryList (apidiscovery.k8s.io/v2): of the core group, or of all others."""
    groups = {group: versions for group, versions in catalog.groups().items() if (group == "") == core}
    items = [
        {
            "metadata": {"name": group} if group else {},
            "versions": [
                {
                    "version": version,
                    "resources": [_aggregated_resource(r) for r in _of(catalog, group, version)],
                    "freshness": "Current",
                }
                for version in versions
            ],
        }
        for group, versions in groups.items()
    ]
    kind, api_version = "APIGroupDiscoveryList", "apidiscovery.k8s.io/v2"
    return {"kind": kind, "apiVersion": api_version, "metadata": {}, "items": items}


def _aggregated_resource(r: Resource) -> Json:
    kind = {"group": r.group, "version": r.version, "kind": r.kind}
    found: Json = {
        "resource": r.plural,
        "responseKind": kind,
        "scope": "Namespaced" if r.namespaced else "Cluster",
        "singularResource": r.singular or r.kind.lower(),
        "verbs": list(VERBS),
    }
    if r.short:
        found["shortNames"] = list(r.short)
    if r.categories:
        found["categories"] = list(r.categories)
    if r.status:
        found["subresources"] = [{"subresource": "status", "responseKind": kind, "verbs": list(STATUS_VERBS)}]
    return found


def core_versions() -> Json:
    return {"kind": "APIVersions", "versions": ["v1"], "serverAddressByClientCIDRs": []}


def _group(name: str, versions: Iterable[str]) -> Json:
    named = [{"groupVersion": f"{name}/{version}", "version": version} for version in versions]
    return {"name": name, "versions": named, "preferredVersion": named[0]}


def group_list(catalog: Catalog) -> Json:
    groups = [_group(name, versions) for name, versions in catalog.groups().items() if name]
    return {"kind": "APIGroupList", "apiVersion": "v1", "groups": groups}


def one_group(catalog: Catalog, name: str) -> Json | None:
    versions = catalog.groups().get(name)
    return {"kind": "APIGroup", "apiVersion": "v1", **_group(name, versions)} if versions else None


def resource_list(catalog: Catalog, group: str, version: str) -> Json | None:
    """Return an APIResourceList; None if there is no such group and version."""
    resources = _of(catalog, group, version)
    if not resources:
        return None
    listed = []
    for r in resources:
        found: Json = {
            "name": r.plural,
            "singularName": r.singular or r.kind.lower(),
            "namespaced": r.namespaced,
            "kind": r.kind,
            "verbs": list(VERBS),
        }
        if r.short:
            found["shortNames"] = list(r.short)
        if r.categories:
            found["categories"] = list(r.categories)
        listed.append(found)
        if r.status:
            status = {"name": f"{r.plural}/status", "singularName": "", "namespaced": r.namespaced}
            listed.append(status | {"kind": r.kind, "verbs": list(STATUS_VERBS)})
    shown = {"kind": "APIResourceList", "apiVersion": "v1", "groupVersion": resources[0].api_version}
    return shown | {"resources": listed}


# --- OpenAPI v3 -----------------------------------------------------------------------------------------


def _document_path(group: str, version: str) -> str:
    return f"apis/{group}/{version}" if group else f"api/{version}"


def openapi_index(catalog: Catalog, revision: int) -> Json:
    """Return the index of documents, one per group and version; `revision` changes when they do."""
    paths = [
        _document_path(group, version) for group, versions in catalog.groups().items() for version in versions
    ]
    return {"paths": {p: {"serverRelativeURL": f"/openapi/v3/{p}?hash={revision}"} for p in paths}}


def openapi_document(catalog: Catalog, path: str) -> Json | None:
    """Return the document at `path` ("api/v1"), or None.

    It holds what kubectl looks for before it applies: that PATCH knows `fieldValidation`; and the schemas
    of custom resources.
    """
    parts = path.split("/")
    group, version = (parts[1], parts[2]) if len(parts) == 3 else ("", parts[-1])
    resources = _of(catalog, group, version)
    if not resources or path != _document_path(group, version):
        return None
    paths, schemas = {}, {}
    for r in resources:
        kind = {"group": r.group, "version": r.version, "kind": r.kind}
        place = f"/{path}/" + ("namespaces/{namespace}/" if r.namespaced else "") + f"{r.plural}/{{name}}"
        string = {"type": "string", "uniqueItems": True}
        parameter = {"name": "fieldValidation", "in": "query", "schema": string}
        action = {"parameters": [parameter], "responses": {"200": {"description": "OK"}}}
        paths[place] = {"patch": action | {"x-kubernetes-group-version-kind": kind}}
        if r.schema is not None:
            name = ".".join([*reversed(r.group.split(".")), r.version, r.kind])
            schemas[name] = {**r.schema, "x-kubernetes-group-version-kind": [kind]}
    about = {"title": "Kubernetes", "version": "v1.36.3"}
    return {"openapi": "3.0.0", "info": about, "paths": paths, "components": {"schemas": schemas}}
