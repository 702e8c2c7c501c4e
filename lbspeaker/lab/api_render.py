"""Entries as bytes: objects, lists, watch lines; as JSON, as Tables for people, or as metadata only."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import msgspec

from lbspeaker.lab import api_columns, api_events
from lbspeaker.lab.api_errors import not_acceptable
from lbspeaker.lab.api_resources import Resource
from lbspeaker.lab.api_store import Entry

Json = dict[str, Any]
Form = Literal["json", "table", "metadata"]

_OFFERED = ("application/json",)


@dataclass(frozen=True, slots=True)
class Style:
    """How the client wants objects: the form, and for a Table how much of each object a row carries."""

    form: Form = "json"
    include: str = "Metadata"  # None, Metadata or Object


PLAIN = Style()


def parse_accept(header: str, include: str = "Metadata") -> Style:
    """Return the first form in an Accept header that this server can produce; raises ApiStatus 406."""
    if not header or header in ("application/json", "*/*"):
        return PLAIN
    for offer in header.split(","):
        kind, *parameters = (part.strip() for part in offer.split(";"))
        if kind not in ("application/json", "application/*", "*/*"):
            continue
        wanted = dict(part.partition("=")[::2] for part in parameters).get("as", "")
        if wanted == "Table":
            return Style("table", include)
        if wanted.startswith("PartialObjectMetadata"):
            return Style("metadata")
        if not wanted:
            return PLAIN
    raise not_acceptable(_OFFERED)


def encode(value: Any) -> bytes:
    return msgspec.json.encode(value)


def whole(resource: Resource, entry: Entry) -> bytes:
    """Return the object as `resource` shows it."""
    if resource.stored_in:
        shown = {
            "kind": resource.kind,
            "apiVersion": resource.api_version,
            **api_events.from_core(entry.object),
        }
        return encode(shown)
    return resource.prefix + entry.tail


def _metadata_only(entry: Entry) -> Json:
    kind, version = "PartialObjectMetadata", "meta.k8s.io/v1"
    return {"kind": kind, "apiVersion": version, "metadata": entry.object["metadata"]}


def _table(resource: Resource, entries: Sequence[Entry], style: Style, now_s: float, *, header: bool) -> Json:
    def shown(entry: Entry) -> Any:
        if style.include == "None":
            return None
        return msgspec.Raw(whole(resource, entry)) if style.include == "Object" else _metadata_only(entry)

    columns, cells = api_columns.layout(resource)
    rows = [{"cells": cells(entry.object, now_s), "object": shown(entry)} for entry in entries]
    table = {"kind": "Table", "apiVersion": "meta.k8s.io/v1", "metadata": {}}
    return table | {"columnDefinitions": columns if header else [], "rows": rows}


def one(resource: Resource, entry: Entry, style: Style, now_s: float) -> bytes:
    """Return the body of a response that is one object."""
    if style.form == "table":
        table = _table(resource, [entry], style, now_s, header=True)
        return encode(table | {"metadata": {"resourceVersion": str(entry.rv)}})
    return encode(_metadata_only(entry)) if style.form == "metadata" else whole(resource, entry)


def many(resource: Resource, entries: Sequence[Entry], metadata: Json, style: Style, now_s: float) -> bytes:
    """Return the body of a list; `metadata` is the list's (resourceVersion, continue, …)."""
    if style.form == "table":
        return encode(_table(resource, entries, style, now_s, header=True) | {"metadata": metadata})
    if style.form == "metadata":
        shown = {"kind": "PartialObjectMetadataList", "apiVersion": "meta.k8s.io/v1", "metadata": metadata}
        return encode(shown | {"items": [_metadata_only(entry) for entry in entries]})
    kind = {"kind": f"{resource.kind}List", "apiVersion": resource.api_version}
    items = b",".join(_items(resource, entries))
    if resource.custom:  # lists of custom resources have their metadata last, and always a `continue`
        last = encode({"metadata": {"continue": "", **metadata}})[1:]
        return encode(kind)[:-1] + b',"items":[' + items + b"]," + last
    return encode(kind | {"metadata": metadata})[:-1] + b',"items":[' + items + b"]}"


def _items(resource: Resource, entries: Iterable[Entry]) -> Iterable[bytes]:
    if resource.stored_in:
        return (encode(api_events.from_core(entry.object)) for entry in entries)
    # items of built-in kinds do not repeat kind and apiVersion
    start = resource.prefix if resource.custom else b"{"
    return (start + entry.tail for entry in entries)


def watch_line(
    kind: str, resource: Resource, entry: Entry, style: Style, now_s: float, *, header: bool = False
) -> bytes:
    """Return one line of a watch; `header`: with the column definitions, if it is a Table."""
    if style.form == "json":
        shown = whole(resource, entry)
    elif style.form == "metadata":
        shown = encode(_metadata_only(entry))
    else:
        shown = encode(_table(resource, [entry], style, now_s, header=header))
    return b'{"type":"' + kind.encode() + b'","object":' + shown + b"}\n"


def bookmark(resource: Resource, rv: int, *, initial: bool = False) -> bytes:
    """Return a BOOKMARK line; `initial`: it ends the initial events that the client asked for."""
    metadata: Json = {"resourceVersion": str(rv)}
    if initial:
        metadata["annotations"] = {"k8s.io/initial-events-end": "true"}
    shown = {"kind": resource.kind, "apiVersion": resource.api_version, "metadata": metadata}
    return encode({"type": "BOOKMARK", "object": shown}) + b"\n"


def error_line(status: Json) -> bytes:
    return encode({"type": "ERROR", "object": status}) + b"\n"
