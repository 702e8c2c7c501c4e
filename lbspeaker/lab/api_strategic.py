"""Strategic merge patch: a merge patch that knows which lists are maps in disguise.

Lists of the kinds below merge item by item, by the field that identifies an item; all other lists are
replaced. Directives: `$patch: delete|replace|merge`, `$setElementOrder/<list>`,
`$deleteFromPrimitiveList/<list>`, `$retainKeys`. Source: apimachinery's documentation of strategic merge
patch, and the `patchStrategy` tags of the Kubernetes API types.
"""

from collections.abc import Mapping
from typing import Any

Json = dict[str, Any]

PRIMITIVE = ""  # a list of plain values that merges as a set

_ANY = {"metadata.finalizers": PRIMITIVE, "metadata.ownerReferences": "uid"}
_CONTAINER = {
    "ports": "containerPort",
    "env": "name",
    "volumeMounts": "mountPath",
    "volumeDevices": "devicePath",
}
_POD_SPEC = {
    **dict.fromkeys(("containers", "initContainers", "volumes", "imagePullSecrets"), "name"),
    **{f"containers.{path}": key for path, key in _CONTAINER.items()},
    **{f"initContainers.{path}": key for path, key in _CONTAINER.items()},
    "hostAliases": "ip",
    "topologySpreadConstraints": "topologyKey",
}
_CONDITIONS = {"status.conditions": "type"}
_TEMPLATE = {f"spec.template.spec.{path}": key for path, key in _POD_SPEC.items()} | _CONDITIONS

# kind → path of a list → the field that identifies its items
MERGE_KEYS: Mapping[str, Mapping[str, str]] = {
    "Service": {"spec.ports": "port", **_CONDITIONS},
    "Node": {"status.addresses": "type", "spec.podCIDRs": PRIMITIVE, **_CONDITIONS},
    "Pod": {**{f"spec.{p}": k for p, k in _POD_SPEC.items()}, "status.podIPs": "ip", **_CONDITIONS},
    "Deployment": _TEMPLATE,
    "DaemonSet": _TEMPLATE,
    "Namespace": _CONDITIONS,
    "PodDisruptionBudget": _CONDITIONS,
    "ServiceAccount": {"secrets": "name"},
}


def strategic_merge(document: Json, patch: Json, kind: str) -> Json:
    """Apply a strategic merge patch to an object of a built-in `kind`; neither is altered."""
    return _merge(document, patch, _ANY | dict(MERGE_KEYS.get(kind, {})), "")


def _merge(target: Any, patch: Json, keys: Mapping[str, str], path: str) -> Json:
    result: Json = dict(target) if isinstance(target, dict) else {}
    directive = patch.get("$patch")
    if directive == "replace":
        return {key: value for key, value in patch.items() if key != "$patch"}
    if directive == "delete":
        return {}
    if "$retainKeys" in patch:
        result = {key: value for key, value in result.items() if key in patch["$retainKeys"]}
    for key, value in patch.items():
        if key.startswith("$"):
            continue
        inner = f"{path}.{key}" if path else key
        if value is None:
            result.pop(key, None)
        elif isinstance(value, dict):
            if value.get("$patch") == "delete":
                result.pop(key, None)
            else:
                result[key] = _merge(result.get(key), value, keys, inner)
        elif isinstance(value, list) and inner in keys:
            result[key] = _merge_list(result.get(key) or [], value, keys, inner)
        else:
            result[key] = value
    _direct_lists(result, target if isinstance(target, dict) else {}, patch, keys, path)
    return result


def _merge_list(target: list[Any], patch: list[Any], keys: Mapping[str, str], path: str) -> list[Any]:
    key = keys[path]
    if key == PRIMITIVE:
        merged = target + [value for value in patch if value not in target]
        return _ordered(merged, patch, target, key)
    if any(item.get("$patch") == "replace" for item in patch):
        return [item for item in patch if "$patch" not in item]
    merged = list(target)
    for item in patch:
        at = next((n for n, old in enumerate(merged) if old.get(key) == item.get(key)), None)
        if item.get("$patch") == "delete":
            if at is not None:
                del merged[at]
        elif at is None:
            merged.append(_merge({}, item, keys, path))
        else:
            merged[at] = _merge(merged[at], item, keys, path)
    return _ordered(merged, [item.get(key) for item in patch], target, key)


def _direct_lists(result: Json, before: Json, patch: Json, keys: Mapping[str, str], path: str) -> None:
    """Do what the directives of `patch` say about the lists in `result`."""
    for directive, values in patch.items():
        name, _, field = directive.partition("/")
        if not isinstance(result.get(field), list):
            continue
        if name == "$deleteFromPrimitiveList":
            result[field] = [value for value in result[field] if value not in values]
        elif name == "$setElementOrder":
            key = keys.get(f"{path}.{field}" if path else field)
            if key is not None:
                wanted = [item.get(key) for item in values] if key else values
                result[field] = _ordered(result[field], wanted, before.get(field) or [], key)


def _ordered(merged: list[Any], wanted: list[Any], before: list[Any], key: str) -> list[Any]:
    """Sort a merged list: what the patch names in its order, and the rest around that as it was `before`.

    `wanted` are the values of `key` that the patch names.
    """

    def identity(item: Any) -> Any:
        return item.get(key) if key else item

    was = {_hashable(identity(item)): at for at, item in enumerate(before)}
    named = sorted((i for i in merged if identity(i) in wanted), key=lambda i: wanted.index(identity(i)))
    others = [item for item in merged if identity(item) not in wanted]
    result = []
    for item in named:
        place = was.get(_hashable(identity(item)))
        while place is not None and others and was[_hashable(identity(others[0]))] < place:
            result.append(others.pop(0))
        result.append(item)
    return result + others


def _hashable(value: Any) -> Any:
    return value if isinstance(value, str | int | float | bool | None) else repr(value)
