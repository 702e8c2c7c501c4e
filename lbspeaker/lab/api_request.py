"""Requests as values: where a URL points, what its query asks for, what its body is."""

import base64
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import msgspec
import yaml

from lbspeaker.lab.api_errors import (
    ApiStatus,
    Json,
    Named,
    bad_request,
    forbidden,
    invalid,
    no_such_resource,
    required,
    unsupported,
    unsupported_media_type,
)
from lbspeaker.lab.api_registry import Options
from lbspeaker.lab.api_resources import Catalog, Resource
from lbspeaker.lab.api_select import Filter, parse_fields, parse_labels

JSON, YAML = "application/json", "application/yaml"
JSON_PATCH = "application/json-patch+json"
MERGE_PATCH = "application/merge-patch+json"
STRATEGIC_PATCH = "application/strategic-merge-patch+json"
APPLY_PATCH = "application/apply-patch+yaml"


@dataclass(frozen=True, slots=True)
class Target:
    """What a URL names: a collection (`name` is ""), an object, or its status."""

    resource: Resource
    namespace: str = ""
    name: str = ""
    status: bool = False


def parse_target(path: str, catalog: Catalog) -> Target | None:
    """Return what "/api/v1/namespaces/default/services/web" names.

    None: the path is not that of a resource at all, or its group is unknown. Raises ApiStatus 404.
    """
    parts = path.strip("/").split("/")
    if parts[0] == "api" and len(parts) > 2:
        group, version, rest = "", parts[1], parts[2:]
    elif parts[0] == "apis" and len(parts) > 3:
        group, version, rest = parts[1], parts[2], parts[3:]
    else:
        return None
    if version not in catalog.groups().get(group, ()):
        return None
    namespace = ""
    if rest[0] == "namespaces" and len(rest) > 2 and (len(rest) > 3 or rest[2] != "status"):
        namespace, rest = rest[1], rest[2:]
    resource = catalog.find(group, version, rest[0])
    if resource is None or len(rest) > 3 or (namespace and not resource.namespaced):
        raise no_such_resource()
    name = rest[1] if len(rest) > 1 else ""
    if len(rest) == 3 and (rest[2] != "status" or not resource.status):
        raise no_such_resource()
    if name and resource.namespaced and not namespace:
        raise no_such_resource()
    return Target(resource, namespace, name, status=len(rest) == 3)


# --- query ----------------------------------------------------------------------------------------------

Query = Mapping[str, str]


def is_set(query: Query, name: str) -> bool:
    return query.get(name, "").lower() in ("true", "1")


def number(query: Query, name: str) -> int:
    """Return a number of the query, 0 if it is absent; raises ApiStatus 400."""
    text = query.get(name, "") or "0"
    if not text.lstrip("-").isdigit():
        raise bad_request(f'strconv.ParseInt: parsing "{text}": invalid syntax')
    return int(text)


def parse_filter(target: Target, query: Query) -> Filter:
    """Return the selection that a list, watch or deletecollection asks for; raises ApiStatus 400."""
    resource, labels, fields = target.resource, query.get("labelSelector", ""), query.get("fieldSelector", "")
    if not labels and not fields:
        return Filter(target.namespace)
    known = resource.selectable
    return Filter(target.namespace, parse_labels(labels), parse_fields(fields, known), known)


def continue_token(rv: int, after: str) -> str:
    """Return the token for the page after the key `after` of the list at version `rv` (0: as it is then)."""
    text = json.dumps({"v": "meta.k8s.io/v1", "rv": rv, "start": after})
    return base64.urlsafe_b64encode(text.encode()).decode().rstrip("=")


def parse_continue(token: str) -> tuple[int, str]:
    """Return the version and the last key of a continue token; raises ApiStatus 400."""
    try:
        found = json.loads(base64.urlsafe_b64decode(token + "=" * (-len(token) % 4)))
        return int(found["rv"]), str(found["start"])
    except (ValueError, KeyError, TypeError):
        raise bad_request("invalid continue token: continue key is not valid") from None


def parse_options(query: Query, body: Json | None = None) -> Options:
    """Return the options of a write; `body` is the DeleteOptions of a DELETE."""
    body = body or {}
    before = body.get("preconditions") or {}
    return Options(
        dry_run="All" in (query.get("dryRun", ""), *(body.get("dryRun") or ())),
        validation=query.get("fieldValidation") or "Warn",
        uid=before.get("uid") or "",
        resource_version=before.get("resourceVersion") or "",
    )


# --- bodies ---------------------------------------------------------------------------------------------


class _Loader(getattr(yaml, "CSafeLoader", yaml.SafeLoader)):  # type: ignore[misc]
    """YAML as JSON would have it: times stay text."""


_Loader.yaml_implicit_resolvers = {
    first: [(tag, pattern) for tag, pattern in resolvers if tag != "tag:yaml.org,2002:timestamp"]
    for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
}


def load_documents(text: str) -> list[Any]:
    """Return the documents of a YAML text; raises yaml.YAMLError."""
    return [document for document in yaml.load_all(text, Loader=_Loader) if document is not None]


def decode(body: bytes, content_type: str) -> Any:
    """Return a request's body; raises ApiStatus 400 or 415."""
    kind = content_type.partition(";")[0].strip() or JSON
    if kind not in (JSON, YAML, APPLY_PATCH, JSON_PATCH, MERGE_PATCH, STRATEGIC_PATCH):
        raise unsupported_media_type((JSON, YAML))
    try:
        return msgspec.json.decode(body)
    except msgspec.DecodeError as error:
        if kind not in (YAML, APPLY_PATCH):
            raise bad_request(f"the object provided is unrecognized: {error}") from None
    try:
        documents = load_documents(body.decode())
        return documents[0] if documents else {}
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise bad_request(f"error decoding YAML: {error}") from None


def is_watch(query: Query) -> bool:
    return is_set(query, "watch")


def list_error(field: str, why: str) -> ApiStatus:
    """Return the 422 for a list's or watch's options that contradict each other."""
    return invalid(Named("meta.k8s.io", "", "ListOptions"), "", [forbidden(field, why)])


def unknown_match(value: str) -> ApiStatus:
    cause = unsupported("resourceVersionMatch", value, ("Exact", "NotOlderThan", ""))
    return invalid(Named("meta.k8s.io", "", "ListOptions"), "", [cause])


def no_manager() -> ApiStatus:
    """Return the 422 for an apply without a fieldManager."""
    cause = required("fieldManager", "is required for apply patch")
    return invalid(Named("meta.k8s.io", "", "PatchOptions"), "", [cause])


def not_a_version(text: str) -> str:
    why = f'strconv.ParseUint: parsing "{text}": invalid syntax'
    return f'resourceVersion: Invalid value: "{text}": {why}'
