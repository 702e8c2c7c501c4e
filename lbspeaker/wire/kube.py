"""Lists, watches and documents of the Kubernetes API → changes; and, by the same door, request bodies."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any, Generic, TypeVar

import msgspec

from lbspeaker.errors import Malformed
from lbspeaker.model import Change, Kind, LeaderRecord, Page, Step, WatchError
from lbspeaker.wire.kube_bodies import (
    EFFECTIVE_NAME,
    GROUP,
    HELLO_SECRET,
    LEADER,
    RELEASE,
    allocation_patch,
    condition_patch,
    effective_configuration,
    event,
    finalizers_patch,
    hello_secret,
    leader_lease,
    lease,
    pins_lease,
    speaker,
    tidy_patch,
)
from lbspeaker.wire.kube_objects import (
    ANNOTATIONS,
    CONVERSIONS,
    LEASE_PREFIX,
    PINS_PREFIX,
    PREFIXES,
    LeaderLease,
    Meta,
    Struct,
    leader_record,
)
from lbspeaker.wire.kube_status import status_patch, written

__all__ = [
    "ANNOTATIONS",
    "EFFECTIVE_NAME",
    "GROUP",
    "HELLO_SECRET",
    "LEADER",
    "LEASE_PREFIX",
    "PINS_PREFIX",
    "PREFIXES",
    "RELEASE",
    "Codec",
    "WrongDocument",
    "allocation_patch",
    "codec",
    "condition_patch",
    "configuration",
    "effective_configuration",
    "event",
    "finalizers_patch",
    "from_document",
    "hello_secret",
    "leader_lease",
    "leading",
    "lease",
    "pins_lease",
    "speaker",
    "status_patch",
    "tidy_patch",
    "written",
    "wrong_document",
]


class WrongDocument(Malformed):
    """An object that is not of the shape of its kind; `path` like "spec.ports[0].port"."""

    def __init__(self, what: str, path: str, hint: str = "") -> None:
        super().__init__(what, hint)
        self.path = path


# --- lists and watches ----------------------------------------------------------------------------------


class _ListMeta(Struct):
    resource_version: str = ""
    continue_: str = msgspec.field(default="", name="continue")


_T = TypeVar("_T")


class _List(Struct, Generic[_T]):
    metadata: _ListMeta
    items: list[_T] | None
    api_version: str = ""
    kind: str = ""


class _Event(Struct):
    type: str
    object: msgspec.Raw


class _Versioned(Struct):
    metadata: Meta


class _Status(Struct):
    code: int = 0
    message: str = ""


_decode_event = msgspec.json.Decoder(_Event).decode
_decode_versioned = msgspec.json.Decoder(_Versioned).decode
_decode_status = msgspec.json.Decoder(_Status).decode


@dataclass(frozen=True, slots=True)
class Codec:
    """How a collection is read: a page of a list, an event of a watch, one object. All raise Malformed."""

    page: Callable[[bytes], Page]
    event: Callable[[bytes], Step | WatchError]
    object: Callable[[bytes], Change | None]


@cache
def codec(kind: Kind) -> Codec:
    """Return the codec of a kind; Kind.CONFIG reads any object, as `configuration` says."""
    if kind is Kind.CONFIG:
        return _codec(dict[str, Any], configuration)
    struct, convert = CONVERSIONS[kind]
    return _codec(struct, lambda obj: convert(obj))


def object_change(kind: Kind, body: bytes) -> Change | None:
    """Return one object, as the answer to a write brings it. Raises Malformed."""
    return codec(kind).object(body)


_leader = msgspec.json.Decoder(LeaderLease).decode


def leading(body: bytes) -> LeaderRecord:
    """Return what the Lease of the controllers says. Raises Malformed."""
    return leader_record(_decoded(_leader, body))


def configuration(obj: dict[str, Any]) -> Change:
    """Return an object of the API as Written; its document is only what its author wrote, and when.

    A change of its status, or of who manages which field, is therefore no change of the document.
    """
    metadata = obj.get("metadata", {})
    if not isinstance(metadata, dict):
        raise Malformed("the API server sent an object whose metadata is no mapping")
    kept = ("name", "namespace", "labels", "creationTimestamp", "generation", "deletionTimestamp")
    document = {name: value for name, value in obj.items() if name != "status"}
    document["metadata"] = {name: metadata[name] for name in kept if metadata.get(name)}
    key = f"{obj.get('kind', '')}/{metadata.get('name', '')}"
    return Change(Kind.CONFIG, key, written(key, obj, document))


def _codec(struct: Any, convert: Callable[[Any], Change | None]) -> Codec:
    decode_list = msgspec.json.Decoder(_List[struct]).decode
    decode_object = msgspec.json.Decoder(struct).decode

    def page(body: bytes) -> Page:
        found = _decoded(decode_list, body)
        items = found.items or ()
        if struct == dict[str, Any]:  # items of a list may leave out what the list says
            kind = found.kind.removesuffix("List")
            items = [{"apiVersion": found.api_version, "kind": kind, **item} for item in items]
        changes = (convert(item) for item in items)
        metadata = found.metadata
        return Page(metadata.resource_version, metadata.continue_, tuple(c for c in changes if c is not None))

    def event(line: bytes) -> Step | WatchError:
        found = _decoded(_decode_event, line)
        if found.type == "ERROR":
            status = _decoded(_decode_status, found.object)
            return WatchError(status.code, status.message)
        version = _decoded(_decode_versioned, found.object).metadata.resource_version
        if found.type == "BOOKMARK":
            return Step(version, None)
        change = convert(_decoded(decode_object, found.object))
        if change is not None and found.type == "DELETED":
            change = Change(change.kind, change.key, None)
        return Step(version, change)

    def one(body: bytes) -> Change | None:
        return convert(_decoded(decode_object, body))

    return Codec(page, event, one)


def _decoded(decode: Callable[[Any], Any], data: object) -> Any:
    try:
        return decode(data)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise Malformed(f"the API server sent what its API does not allow: {error}") from error


# --- documents on disk ----------------------------------------------------------------------------------

_DOCUMENTS: dict[tuple[str, str], Kind] = {
    ("v1", "Service"): Kind.SERVICE,
    ("discovery.k8s.io/v1", "EndpointSlice"): Kind.ENDPOINT_SLICE,
    ("v1", "Node"): Kind.NODE,
    ("v1", "Namespace"): Kind.NAMESPACE,
    ("v1", "Secret"): Kind.SECRET,
}
_NAMESPACED = {Kind.SERVICE, Kind.ENDPOINT_SLICE, Kind.SECRET}


def from_document(value: Mapping[str, object]) -> Change | None:
    """Return a plain mapping (from YAML) as a change; None if it is of a kind that is not read here.

    Without a namespace it is in "default". Raises WrongDocument with the path of the first mistake.
    """
    kind = _DOCUMENTS.get((str(value.get("apiVersion")), str(value.get("kind"))))
    if kind is None:
        return None
    struct, convert = CONVERSIONS[kind]
    try:
        obj = msgspec.convert(value, struct)
    except msgspec.ValidationError as error:
        raise wrong_document(error) from error
    if not obj.metadata.name:
        raise WrongDocument("a name is missing", "metadata.name", "every object has a name")
    if kind in _NAMESPACED and not obj.metadata.namespace:
        obj.metadata.namespace = "default"
    return convert(obj)


def wrong_document(error: msgspec.ValidationError) -> WrongDocument:
    """Return what is wrong with an object, in words for who has written it."""
    what, _, path = str(error).partition(" - at `$")
    return WrongDocument(_plain(what), path.rstrip("`").lstrip("."))


_WORDS = {
    "`int`": "a whole number",
    "`str`": "text",
    "`bool`": "true or false",
    "`array`": "a list",
    "`object`": "a mapping",
    "`null`": "nothing",
    "`float`": "a number",
    "Expected": "expected",
    "got": "found",
    "Object missing required field": "missing:",
    " | ": " or ",
}


def _plain(what: str) -> str:
    for word, plain in _WORDS.items():
        what = what.replace(word, plain)
    return what.replace("`", "'")
