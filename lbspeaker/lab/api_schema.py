"""A CRD's openAPIV3Schema at work on an object: defaults, unknown fields, and what is invalid.

The structural subset: types, required, enum, pattern, bounds, nested properties, items and
additionalProperties. Not CEL rules (x-kubernetes-validations), allOf/anyOf, formats or pruning of metadata.
"""

import re
from typing import Any

from lbspeaker.lab.api_errors import Cause, required, unsupported, wrong

Json = dict[str, Any]

_TYPES: dict[str, tuple[type, ...]] = {
    "object": (dict,),
    "array": (list,),
    "string": (str,),
    "boolean": (bool,),
    "integer": (int,),
    "number": (int, float),
}
_ROOT = ("apiVersion", "kind", "metadata")


def default(value: Any, schema: Json) -> Any:
    """Return `value` with the schema's defaults where a field is absent."""
    if isinstance(value, dict):
        result = dict(value)
        for name, inner in (schema.get("properties") or {}).items():
            if name not in result and "default" in inner:
                result[name] = inner["default"]
            if name in result:
                result[name] = default(result[name], inner)
        extra = schema.get("additionalProperties")
        if isinstance(extra, dict):
            known = schema.get("properties") or {}
            result |= {name: default(item, extra) for name, item in value.items() if name not in known}
        return result
    if isinstance(value, list) and isinstance(schema.get("items"), dict):
        return [default(item, schema["items"]) for item in value]
    return value


def prune(value: Any, schema: Json, path: str = "") -> tuple[Any, list[str]]:
    """Return `value` without the fields that the schema does not know, and the paths of those."""
    if schema.get("x-kubernetes-preserve-unknown-fields") or schema.get("x-kubernetes-embedded-resource"):
        return value, []
    unknown: list[str] = []
    if isinstance(value, dict):
        known = schema.get("properties") or {}
        extra = schema.get("additionalProperties")
        result: Json = {}
        for name, item in value.items():
            place = f"{path}.{name}" if path else name
            inner = known.get(name, extra)
            if not path and name in _ROOT:
                result[name] = item
            elif inner is None or inner is False:
                unknown.append(place)
            elif isinstance(inner, dict):
                result[name], deeper = prune(item, inner, place)
                unknown += deeper
            else:
                result[name] = item
        return result, unknown
    if isinstance(value, list) and isinstance(schema.get("items"), dict):
        pairs = [prune(item, schema["items"], f"{path}[{at}]") for at, item in enumerate(value)]
        return [item for item, _ in pairs], [place for _, places in pairs for place in places]
    return value, []


def check(value: Any, schema: Json, path: str = "") -> list[Cause]:
    """Return what the schema says against `value`; `path` is like "spec.addresses[0]"."""
    if value is None and schema.get("nullable"):
        return []
    kind = schema.get("type")
    if schema.get("x-kubernetes-int-or-string"):
        fits = isinstance(value, int | str) and not isinstance(value, bool)
        return [] if fits else [_mistyped(path, value, "integer,string")]
    if kind and not _is(value, kind):
        return [_mistyped(path, value, kind)]
    causes = _check_value(value, schema, path)
    if isinstance(value, dict):
        causes += _check_fields(value, schema, path)
    elif isinstance(value, list) and isinstance(schema.get("items"), dict):
        for at, item in enumerate(value):
            causes += check(item, schema["items"], f"{path}[{at}]")
    return causes


def _is(value: Any, kind: str) -> bool:
    if isinstance(value, bool):
        return kind == "boolean"
    if kind == "integer" and isinstance(value, float):
        return value.is_integer()
    return isinstance(value, _TYPES.get(kind, (object,)))


def _mistyped(path: str, value: Any, kind: str) -> Cause:
    found = next((name for name in _TYPES if _is(value, name)), "null")
    message = f'Invalid value: "{found}": {path} in body must be of type {kind}: "{found}"'
    return Cause(path, "FieldValueTypeInvalid", message)


def _check_value(value: Any, schema: Json, path: str) -> list[Cause]:
    if "enum" in schema and value not in schema["enum"]:
        return [unsupported(path, value, [str(choice) for choice in schema["enum"]])]
    body = f"{path} in body should"
    causes = []
    if isinstance(value, str):
        pattern = schema.get("pattern")
        if pattern and not re.search(pattern, value):
            causes.append(wrong(path, value, f"{body} match '{pattern}'"))
        if len(value) < schema.get("minLength", 0):
            causes.append(wrong(path, value, f"{body} be at least {schema['minLength']} chars long"))
        if len(value) > schema.get("maxLength", len(value)):
            causes.append(wrong(path, value, f"{body} be at most {schema['maxLength']} chars long"))
    elif isinstance(value, int | float) and not isinstance(value, bool):
        if value < schema.get("minimum", value):
            causes.append(wrong(path, value, f"{body} be greater than or equal to {schema['minimum']}"))
        if value > schema.get("maximum", value):
            causes.append(wrong(path, value, f"{body} be less than or equal to {schema['maximum']}"))
    elif isinstance(value, list):
        if len(value) < schema.get("minItems", 0):
            causes.append(wrong(path, len(value), f"{body} have at least {schema['minItems']} items"))
        if len(value) > schema.get("maxItems", len(value)):
            message = f"Too many: {len(value)}: must have at most {schema['maxItems']} items"
            causes.append(Cause(path, "FieldValueTooMany", message))
    return causes


def _check_fields(value: Json, schema: Json, path: str) -> list[Cause]:
    dot = f"{path}." if path else ""
    causes = [required(dot + name) for name in schema.get("required") or () if value.get(name) is None]
    known = schema.get("properties") or {}
    extra = schema.get("additionalProperties")
    for name, item in value.items():
        if not path and name in _ROOT:
            continue
        inner = known.get(name, extra)
        if isinstance(inner, dict):
            causes += check(item, inner, dot + name)
    return causes
