"""Values under other names: from a place in one text to a path in a new object, and their lines with them.

A shape is a function that reads a spot and returns what it says under the new names. What does not have the
form that the shape expects is returned as it is, for `parse` to judge; only unknown keys are told here,
because nobody else could.
"""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from lbspeaker.config.place import Place
from lbspeaker.config.schema import Anything, Field, Record
from lbspeaker.config.text import Path


@dataclass(frozen=True, slots=True)
class Spot:
    """A value of the old form, where it is, and where it goes in a new object with these `lines`."""

    value: object
    place: Place
    source: Sequence[str]  # the old text, which the lines of `place` count
    path: Path = ()
    lines: dict[Path, int] = field(default_factory=dict)

    def at(self, old: str | int, new: str | int) -> "Spot":
        """The value under the key or number `old`, which goes to `new`."""
        value = self.value[old] if isinstance(self.value, Mapping | list) else None  # type: ignore[index]
        return Spot(value, self.place.at(old), self.source, (*self.path, new), self.lines)

    def going_to(self, path: Path) -> "Spot":
        """The same value as the beginning of another object."""
        return Spot(self.value, self.place, self.source, path, {})

    def note(self) -> None:
        """Note the line of the value for the new object."""
        line = self.place.document.line_of(self.place.path)
        if line is not None:
            self.lines[self.path] = line


Shape = Callable[[Spot], object]


def as_is(spot: Spot) -> object:
    """The value as it was."""
    spot.note()
    if isinstance(spot.value, Mapping):
        return {key: as_is(spot.at(key, key)) for key in spot.value}
    if isinstance(spot.value, list):
        return [as_is(spot.at(number, number)) for number in range(len(spot.value))]
    return spot.value


def as_text(spot: Spot) -> object:
    """Text; a number that is written where text belongs was text to MetalLB."""
    if isinstance(spot.value, int | float) and not isinstance(spot.value, bool):
        line = spot.place.document.line_of(spot.place.path) or 0
        written = spot.source[line - 1] if 0 < line <= len(spot.source) else ""
        if re.search(rf"(?<![\w.+-]){re.escape(str(spot.value))}(?![\w.])", written):
            spot.note()
            return str(spot.value)
    return as_is(spot)


def list_of(shape: Shape) -> Shape:
    """A list of `shape`."""

    def made(spot: Spot) -> object:
        if not isinstance(spot.value, list):
            return as_is(spot)
        spot.note()
        return [shape(spot.at(number, number)) for number in range(len(spot.value))]

    return made


def text_map(spot: Spot) -> object:
    """A mapping from text to text."""
    if not isinstance(spot.value, Mapping):
        return as_is(spot)
    spot.note()
    return {key: as_text(spot.at(key, key)) for key in spot.value}


@dataclass(frozen=True, slots=True)
class Key:
    """A key of the old form: its new name, what it holds, and the value that need not be said."""

    new: str
    shape: Shape = as_is
    default: object = None


@dataclass(frozen=True, slots=True)
class Keys:
    """The keys of a mapping; those in `apart` are looked at elsewhere."""

    keys: Mapping[str, Key]
    apart: tuple[str, ...] = ()
    hints: Mapping[str, str] = field(default_factory=dict)

    def __call__(self, spot: Spot) -> object:
        """Return the mapping under its new keys; what has no new key is told."""
        if not isinstance(spot.value, Mapping):
            return as_is(spot)
        spot.note()
        self.check(spot.value, spot.place)
        made = {}
        for key, known in self.keys.items():
            if spot.value.get(key) not in (None, ""):
                value = known.shape(spot.at(key, known.new))
                if type(value) is not type(known.default) or value != known.default:
                    made[known.new] = value
        return made

    def check(self, value: object, place: Place) -> None:
        """Tell the keys that are unknown."""
        known = {key: Field(Anything(), "") for key in (*self.apart, *self.keys)}
        Record(known, self.hints).parse(value, place)
