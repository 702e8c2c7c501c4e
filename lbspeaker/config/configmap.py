"""Where the ConfigMap of old MetalLB has its configuration: YAML inside YAML, as text under data.config."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from lbspeaker.config.documents import Document, path_text
from lbspeaker.config.place import described, nearest
from lbspeaker.config.text import compose
from lbspeaker.errors import Problem

TOP = ("peers", "bgp-communities", "address-pools", "bfd-profiles")

_DATA = ("data", "config")
_BLOCK = re.compile(r":\s+\|[-+1-9]*\s*(#.*)?$")  # a value that goes on, line by line, below its key


@dataclass(frozen=True, slots=True)
class Old:
    """What data.config says. `document` tells where: its file, its lines, and the ConfigMap's name.

    `source` has the lines of the text that those lines count.
    """

    value: Mapping[str, object]
    document: Document
    source: Sequence[str]


def looks_old(value: Mapping[str, object], strictly: bool = False) -> bool:
    """Return whether a mapping is written like data.config; `strictly`: hardly anything else is."""
    if "apiVersion" in value or "kind" in value or not value:
        return False
    if strictly:
        return "address-pools" in value or all(key in TOP for key in value)
    return any(nearest(key, TOP, 0.8) for key in value)


def bare(document: Document, text: str) -> Old:
    """Return a document that is data.config itself; `text` is that of its file."""
    return Old(document.value, document, text.split("\n"))


def opened(config_map: Document, text: str) -> tuple[Old | None, list[Problem]]:
    """Return what is in data.config of a ConfigMap; `text` is that of its file ("" if it has none)."""
    data = config_map.value.get("data")
    content = data.get("config") if isinstance(data, Mapping) else None
    if not isinstance(content, str) or not content.strip():
        found = f"here it is {described(content)}" if content else "here is none"
        what = f"MetalLB's configuration is text under data.config, and {found}"
        return None, [config_map.problem(_DATA, what, "give the ConfigMap that MetalLB reads")]
    file, base, source = _position(config_map, content, text)
    name = {"kind": config_map.kind, "metadata": {"name": config_map.name}}
    problems: list[Problem] = []
    found_values: list[tuple[object, Document]] = []
    for composed in compose("\n" * base + content):
        head = Document(file, name, composed.lines)
        for mistake in composed.mistakes:
            path = path_text(mistake.path)
            problems.append(Problem(file, mistake.line, head.object, path, mistake.what, mistake.hint))
        if not composed.mistakes:
            found_values.append((composed.value, head))
    old, wrong = _only(found_values, source)
    return old, [*problems, *wrong]


def _position(config_map: Document, content: str, text: str) -> tuple[str, int, list[str]]:
    """The file that lines of `content` are told in, the line before its first, and the lines of that file.

    Only a block scalar has its lines in the file. Others have their own, told as those of data.config.
    """
    line = config_map.lines.get(_DATA)
    source = text.split("\n")
    if line is not None and line <= len(source) and _BLOCK.search(source[line - 1].rstrip("\r")):
        return config_map.file, line, source
    return f"{config_map.file}: data.config", 0, content.split("\n")


def _only(
    found: Sequence[tuple[object, Document]], source: Sequence[str]
) -> tuple[Old | None, list[Problem]]:
    """The one document that MetalLB read: the first."""
    problems = [
        head.problem((), "MetalLB reads one document only, the first", "remove this one")
        for _, head in found[1:]
    ]
    if not found:
        return None, []
    value, head = found[0]
    if isinstance(value, Mapping):
        return Old(value, head, source), problems
    what = f"data.config is a mapping, and {described(value)} is not"
    return None, [head.problem((), what, f"its keys: {', '.join(TOP)}"), *problems]
