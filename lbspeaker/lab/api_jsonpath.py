r"""The part of Kubernetes' JSONPath that printer columns use.

Names (`.spec.type`, with `\.` for a dot in a name, or `['a.b']`), indices (`[0]`, `[-1]`), `[*]`, and filters
on equality (`[?(@.type=="Ready")]`).
"""

import re
from collections.abc import Sequence
from functools import lru_cache
from typing import Any

_STEP = re.compile(
    r"""\.(?P<name>(?:\\.|[^.\[\]\\])+)
      | \[(?P<index>-?\d+)\]
      | \[(?P<all>\*)\]
      | \['(?P<quoted>[^']*)'\]
      | \[\?\(\s*@\.(?P<field>[^=!\s]+)\s*==\s*["'](?P<value>[^"']*)["']\s*\)\]""",
    re.VERBOSE,
)


class BadPath(ValueError):
    """The path uses something that is not supported here."""


@lru_cache(maxsize=256)
def parse(path: str) -> Sequence[tuple[str, str, str]]:
    """Return the steps of a path, each (kind, name or index or field, value); raises BadPath."""
    steps, at = [], 0
    text = path.strip("{}")
    while at < len(text):
        match = _STEP.match(text, at)
        if match is None:
            raise BadPath(f"{path}: cannot understand {text[at:]!r}")
        found = match.groupdict()
        if found["name"]:
            steps.append(("name", re.sub(r"\\(.)", r"\1", found["name"]), ""))
        elif found["field"]:
            steps.append(("filter", found["field"], found["value"] or ""))
        else:
            kind = next(kind for kind in ("index", "all", "quoted") if found[kind] is not None)
            steps.append(("name" if kind == "quoted" else kind, found[kind], ""))
        at = match.end()
    return tuple(steps)


def find(document: Any, path: str) -> list[Any]:
    """Return every value that `path` leads to; nothing if there is none; raises BadPath."""
    values = [document]
    for kind, name, wanted in parse(path):
        values = [found for value in values for found in _step(value, kind, name, wanted)]
    return values


def _step(value: Any, kind: str, name: str, wanted: str) -> list[Any]:
    if kind == "name":
        return [value[name]] if isinstance(value, dict) and name in value else []
    if kind == "all" and isinstance(value, dict):
        return list(value.values())
    if not isinstance(value, list):
        return []
    if kind == "all":
        return list(value)
    if kind == "filter":
        return [item for item in value if isinstance(item, dict) and str(item.get(name)) == wanted]
    at = int(name)
    return [value[at]] if -len(value) <= at < len(value) else []
