"""Names for new objects: free ones, and ones that an object can have."""

import re
from collections.abc import Iterable

_NAME = re.compile("[a-z0-9]([-a-z0-9.]{0,251}[a-z0-9])?")


class Names:
    """The names that objects have, by kind."""

    def __init__(self, taken: Iterable[tuple[str, str]] = ()) -> None:
        self._taken = set(taken)
        self._last: dict[str, int] = {}

    def numbered(self, kind: str, base: str) -> str:
        """Take `base` with the next number: peer1, peer2 …"""
        number = self._last.get(kind, 0) + 1
        while (kind, f"{base}{number}") in self._taken:
            number += 1
        self._last[kind] = number
        self._taken.add((kind, f"{base}{number}"))
        return f"{base}{number}"

    def free(self, kind: str, name: str) -> str:
        """Take `name`, or the like if it is taken."""
        number, found = 1, name
        while (kind, found) in self._taken:
            number += 1
            found = f"{name[:240]}-{number}"
        self._taken.add((kind, found))
        return found

    def valid(self, kind: str, given: Iterable[str]) -> dict[str, str]:
        """Take a name that an object can have for each given one: itself, if it can."""
        names = list(dict.fromkeys(given))
        right = {name: name for name in names if _NAME.fullmatch(name)}
        self._taken |= {(kind, name) for name in right}
        return right | {name: self.free(kind, _like(name)) for name in names if name not in right}


def _like(name: str) -> str:
    """A name that an object can have, made as MetalLB's converter does."""
    plain = re.sub("[^-a-z0-9.]", "-", name.lower())
    return re.sub("^[^a-z]+", "", plain)[:63].rstrip("-.") or "unnamed"
