"""Whether a document is configuration: of our kinds, or meant to be and misspelt."""

from collections.abc import Mapping
from dataclasses import dataclass

from lbspeaker.config.configmap import looks_old
from lbspeaker.config.documents import Document
from lbspeaker.config.kinds import ENVELOPES, KINDS, LEFT_ALONE, METALLB, OURS
from lbspeaker.config.place import Place, nearest, shown
from lbspeaker.config.schema import Record
from lbspeaker.config.text import compose

_GROUPS = ("lbspeaker.io", "metallb.io")
_ALIKE = 0.8  # of a group that is meant to be ours; others' groups are less alike
_KINDS = tuple(kind for kind in KINDS if kind not in LEFT_ALONE)


@dataclass(frozen=True, slots=True)
class Identity:
    """What the document is meant to be; `kind` is "" for what is left alone."""

    kind: str
    schema: Record | None = None


_LEFT_ALONE = Identity("")


def is_meant(document: Document) -> bool:
    """Whether the document is of our groups, or is written as if it were."""
    return _meant_group(document) != ""


def is_legacy(document: Document) -> bool:
    """Whether the document is the ConfigMap that MetalLB read before version 0.13, which had no kinds."""
    data = document.value.get("data")
    content = data.get("config") if isinstance(data, Mapping) else None
    if (document.api_version, document.kind) != ("v1", "ConfigMap") or not isinstance(content, str):
        return False
    first = next(compose(content), None)
    return first is not None and isinstance(first.value, Mapping) and looks_old(first.value, strictly=True)


def identify(place: Place) -> Identity:
    """Return what the document is meant to be, and tell `place` where it is misspelt."""
    document = place.document
    group = _meant_group(document)
    if not group:
        return _LEFT_ALONE
    version = document.api_version.rpartition("/")[2]
    if document.api_version.rpartition("/")[0] != group:
        _tell_group(place, group)
        version = OURS.partition("/")[2]
    if document.kind in LEFT_ALONE:
        return _LEFT_ALONE
    return _of_kind(place, group, version)


def _of_kind(place: Place, group: str, version: str) -> Identity:
    given = place.document.kind
    kind = given if given in KINDS else nearest(given, _KINDS)
    if given not in KINDS:
        hint = f"did you mean {kind}?" if kind else f"known kinds: {', '.join(_KINDS)}"
        place.at("kind").error(f"unknown kind {shown(given)}" if given else "kind is missing", hint)
    if not kind:
        return _LEFT_ALONE
    served = KINDS[kind].versions_in(group)
    wanted = f"{group}/{version}"
    if wanted not in served:
        best = served[0] if served else OURS
        place.at("apiVersion").error(f"{shown(wanted)} has no {kind}", f"write {best}")
        wanted = best
    return Identity(kind, ENVELOPES[kind, wanted])


def _meant_group(document: Document) -> str:
    """One of our groups, or "" when the document is somebody else's."""
    group = document.api_version.rpartition("/")[0]
    if group in _GROUPS:
        return group
    if group == "":  # a core object, or the group was forgotten
        core = document.api_version == "v1" and document.kind not in KINDS
        return "" if core or not _is_kind(document) else "lbspeaker.io"
    if group.endswith(tuple(f".{ours}" for ours in _GROUPS)):  # frrk8s.metallb.io
        return ""
    return nearest(group, _GROUPS, _ALIKE)


def _is_kind(document: Document) -> bool:
    return document.kind in KINDS or nearest(document.kind, _KINDS, _ALIKE) != ""


def _tell_group(place: Place, group: str) -> None:
    given = place.document.api_version
    if "/" in given:
        place.at("apiVersion").error(
            f"unknown group {shown(given.rpartition('/')[0])}", f"did you mean {group}?"
        )
    elif given:
        place.at("apiVersion").error(f"{shown(given)} names no group of ours", f"write {OURS} (or {METALLB})")
    else:
        place.error("apiVersion is missing", f"write apiVersion: {OURS}")
