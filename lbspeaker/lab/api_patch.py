"""Patches, as pure functions: JSON Patch (RFC 6902), JSON Merge Patch (RFC 7396), strategic merge.

None of them alters the document it is given; what they do not touch is shared with the result.
"""

from collections.abc import Sequence
from typing import Any

Json = dict[str, Any]


class BadPatch(Exception):
    """The patch itself cannot be understood."""


class Unfitting(Exception):
    """A JSON Patch does not fit the document: a test failed, a path is not there, an operation is unknown."""


def merge(target: Any, patch: Any) -> Any:
    """Apply a JSON Merge Patch (RFC 7396 §2): null removes, objects merge, all else replaces."""
    if not isinstance(patch, dict):
        return patch
    result = dict(target) if isinstance(target, dict) else {}
    for key, value in patch.items():
        if value is None:
            result.pop(key, None)
        elif isinstance(value, dict):
            result[key] = merge(result.get(key), value)
        else:
            result[key] = value
    return result


# --- JSON Patch -----------------------------------------------------------------------------------------


def json_patch(document: Any, operations: Any) -> Any:
    """Apply a JSON Patch (RFC 6902 §4), all operations or none.

    Raises BadPatch if an operation is malformed, Unfitting if it does not fit the document.
    """
    if not isinstance(operations, list):
        raise BadPatch("a JSON Patch is a list of operations")
    for operation in operations:
        document = _operate(document, operation)
    return document


def _operate(document: Any, operation: Any) -> Any:
    try:
        name, path = operation["op"], _pointer(operation["path"])
        if name in ("add", "replace", "test"):
            value = operation["value"]
        elif name in ("move", "copy"):
            value = _read(document, _pointer(operation["from"]))
    except (KeyError, TypeError) as error:
        raise BadPatch(f"operation {operation!r} lacks {error}") from None
    if name == "test":
        if _read(document, path) != value:
            raise Unfitting(f"testing path {operation['path']} failed: test failed")
        return document
    if name == "remove":
        return _edit(document, path, "remove", None)
    if name == "move":
        return _edit(_edit(document, _pointer(operation["from"]), "remove", None), path, "add", value)
    if name in ("add", "copy"):
        return _edit(document, path, "add", value)
    if name == "replace":
        return _edit(document, path, "replace", value)
    raise Unfitting(f"unknown operation {name!r}")


def _pointer(text: str) -> list[str]:
    """Split a JSON Pointer (RFC 6901 §3) into its unescaped tokens."""
    if text and not text.startswith("/"):
        raise BadPatch(f"path {text!r} does not start with /")
    return [token.replace("~1", "/").replace("~0", "~") for token in text.split("/")[1:]]


def _index(items: Sequence[Any], text: str, *, end: bool = False) -> int:
    if end and text == "-":
        return len(items)
    if not text.isdigit() or int(text) >= len(items) + end:
        raise Unfitting(f"no element {text!r} in a list of {len(items)}")
    return int(text)


def _read(document: Any, path: Sequence[str]) -> Any:
    for token in path:
        if isinstance(document, list):
            document = document[_index(document, token)]
        elif isinstance(document, dict) and token in document:
            document = document[token]
        else:
            raise Unfitting(f"nothing at {token!r}")
    return document


def _edit(document: Any, path: Sequence[str], how: str, value: Any) -> Any:
    if not path:
        return value
    token, rest = path[0], path[1:]
    if isinstance(document, list):
        copied = list(document)
        if rest:
            at = _index(copied, token)
            copied[at] = _edit(copied[at], rest, how, value)
        elif how == "add":
            copied.insert(_index(copied, token, end=True), value)
        elif how == "remove":
            del copied[_index(copied, token)]
        else:
            copied[_index(copied, token)] = value
        return copied
    if not isinstance(document, dict) or ((rest or how != "add") and token not in document):
        raise Unfitting(f"nothing at {token!r}")
    changed = dict(document)
    if rest:
        changed[token] = _edit(changed[token], rest, how, value)
    elif how == "remove":
        del changed[token]
    else:
        changed[token] = value
    return changed
