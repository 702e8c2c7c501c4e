"""How things are said in a line: some of many names, how long ago."""

import re
from collections.abc import Iterator, Mapping, Sequence

MOST = 5  # names in a message
_FOR = re.compile(r" for \d+ s\b")


def listed(words: Sequence[str], most: int = MOST) -> str:
    """Return the first words, and how many more there are."""
    more = f" and {len(words) - most} more" if len(words) > most else ""
    return ", ".join(words[:most]) + more


def timeless(text: str) -> str:
    """Return it without for how long it is so: what is the same of many differs only in that."""
    return _FOR.sub("", text)


def alike(problems: Mapping[str, Sequence[str]]) -> Iterator[tuple[list[str], str]]:
    """Yield what is told, each once: by whom, of these names, and in the words of the first."""
    same: dict[str, tuple[list[str], str]] = {}
    for name, told in sorted(problems.items()):
        for problem in told:
            same.setdefault(timeless(problem), ([], problem))[0].append(name)
    yield from same.values()


def ago(then: float, now: float) -> str:
    """ "5 min": how long ago `then` was, both Unix times."""
    seconds = max(now - then, 0.0)
    for unit, size in (("d", 86400), ("h", 3600), ("min", 60)):
        if seconds >= 2 * size:
            return f"{seconds / size:.0f} {unit}"
    return f"{seconds:.0f} s"
