"""What the schema of a kind is put together from: each part reads a value, and tells its OpenAPI v3.

`parse(value, place)` returns what the value means; or None when it is wrong, and then `place` has been told
everything that is wrong in it. An absent value (also null, and "" where text is optional) is never parsed:
its field's default is taken.
"""

import re
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from lbspeaker.config.place import Place, described, did_you_mean, shown

_MANY = 20  # so many unknown keys of one mapping, or unknown names of one list, are told one by one


class Schema(Protocol):
    def parse(self, value: object, place: Place) -> Any: ...

    def openapi(self) -> dict[str, Any]: ...


# --- single values --------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Text:
    """Text, as str. With `pattern` (told as `form`) all of it must match."""

    pattern: str = ""
    form: str = ""
    example: str = ""

    def parse(self, value: object, place: Place) -> str | None:
        if not isinstance(value, str):
            place.error(f"must be text, and {described(value)} is not", self._quoted(value))
            return None
        if self.pattern and not re.fullmatch(self.pattern, value):
            place.error(f"{shown(value)} is not {self.form}", self.example)
            return None
        return value

    def openapi(self) -> dict[str, Any]:
        return {"type": "string"}

    def _quoted(self, value: object) -> str:
        if isinstance(value, bool):
            return "write it in quotes: without them, YAML reads no, off, yes and on as truth values"
        return f'write it in quotes, as in "{value}"' if isinstance(value, int | float) else ""


@dataclass(frozen=True, slots=True)
class Choice:
    """One of a few words, as str."""

    words: tuple[str, ...]

    def parse(self, value: object, place: Place) -> str | None:
        if isinstance(value, str) and value in self.words:
            return value
        word = value if isinstance(value, str) else ""
        place.error(
            f"{described(value)} is not one of {', '.join(self.words)}", did_you_mean(word, self.words)
        )
        return None

    def openapi(self) -> dict[str, Any]:
        return {"type": "string", "enum": list(self.words)}


@dataclass(frozen=True, slots=True)
class Whole:
    """A whole number from `low` to `high`, both included, as int."""

    low: int
    high: int

    def parse(self, value: object, place: Place) -> int | None:
        if isinstance(value, float) and value.is_integer():
            value = int(value)
        if not isinstance(value, int) or isinstance(value, bool):
            bare = value.strip() if isinstance(value, str) else ""
            hint = f"write {bare} without quotes" if re.fullmatch(r"[0-9]{1,10}", bare) else ""
            place.error(f"must be a whole number, and {described(value)} is not", hint)
            return None
        if not self.low <= value <= self.high:
            place.error(f"{described(value)} is not between {self.low} and {self.high}")
            return None
        return value

    def openapi(self) -> dict[str, Any]:
        bits = "int32" if self.low >= -(2**31) and self.high < 2**31 else "int64"
        return {"type": "integer", "format": bits, "minimum": self.low, "maximum": self.high}


@dataclass(frozen=True, slots=True)
class Flag:
    """true or false, as bool."""

    def parse(self, value: object, place: Place) -> bool | None:
        if not isinstance(value, bool):
            hint = "write it without quotes" if str(value).lower() in ("true", "false") else ""
            place.error(f"must be true or false, and {described(value)} is neither", hint)
            return None
        return value

    def openapi(self) -> dict[str, Any]:
        return {"type": "boolean"}


_UNITS_S = {"ns": 1e-9, "us": 1e-6, "µs": 1e-6, "μs": 1e-6, "ms": 1e-3, "s": 1.0, "m": 60.0, "h": 3600.0}
_DURATION = re.compile(r"([0-9]+(?:\.[0-9]*)?|\.[0-9]+)(ns|us|µs|μs|ms|s|m|h)")


@dataclass(frozen=True, slots=True)
class Duration:
    """Text such as 90s or 1m30s (metav1.Duration), as float seconds, at most a day."""

    def parse(self, value: object, place: Place) -> float | None:
        if isinstance(value, int | float) and not isinstance(value, bool):
            place.error(f"{described(value)} has no unit", f"write {value}s")
            return None
        text = value.strip() if isinstance(value, str) else ""
        parts = _DURATION.findall(text)
        if text != "0" and (not parts or "".join(number + unit for number, unit in parts) != text):
            place.error(
                f"{described(value)} is not a duration", "write a number with a unit, as in 90s or 1m30s"
            )
            return None
        seconds = round(sum(float(number) * _UNITS_S[unit] for number, unit in parts), 9)  # to the nanosecond
        if seconds > 86400:
            place.error(f"{described(value)} is longer than a day", "write it shorter, as in 90s")
            return None
        return seconds

    def openapi(self) -> dict[str, Any]:
        return {"type": "string"}


@dataclass(frozen=True, slots=True)
class Anything:
    """A mapping that is somebody else's; it is not looked into."""

    def parse(self, value: object, place: Place) -> object:
        return value

    def openapi(self) -> dict[str, Any]:
        return {"type": "object", "x-kubernetes-preserve-unknown-fields": True}


@dataclass(frozen=True, slots=True)
class AnyObjects:
    """A list of objects that are somebody else's."""

    def parse(self, value: object, place: Place) -> object:
        return value

    def openapi(self) -> dict[str, Any]:
        return {"type": "array", "items": Anything().openapi()}


# --- several values -------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class ListOf:
    """A list, as tuple; an item that comes again is told, and left out."""

    item: Schema
    at_least: int = 0

    def parse(self, value: object, place: Place) -> tuple[Any, ...] | None:
        if not isinstance(value, Sequence) or isinstance(value, str):
            hint = f"write [{value}]" if isinstance(value, str) else "begin each item with - "
            place.error(f"must be a list, and {described(value)} is not", hint)
            return None
        if len(value) < self.at_least:
            place.error("must not be empty")
            return None
        items: dict[Hashable, int] = {}
        wrong = False
        for number, one in enumerate(value):
            parsed = self.item.parse(one, place.at(number))
            wrong |= parsed is None
            if parsed in items:
                place.at(number).warn(
                    f"is the same as item {items[parsed]} (counted from 0)", "remove one of the two"
                )
            elif parsed is not None:
                items[parsed] = number
        return None if wrong else tuple(items)

    def openapi(self) -> dict[str, Any]:
        least = {"minItems": self.at_least} if self.at_least else {}
        return {"type": "array", "items": self.item.openapi(), **least}


@dataclass(frozen=True, slots=True)
class TextMap:
    """A mapping from text to text, as dict: labels."""

    value: Text = Text()

    def parse(self, value: object, place: Place) -> dict[str, str] | None:
        if not isinstance(value, Mapping):
            place.error(f"must be a mapping, and {described(value)} is not", "write key: value")
            return None
        parsed = {key: self.value.parse(one, place.at(key)) for key, one in value.items()}
        return (
            {key: one for key, one in parsed.items() if one is not None}
            if None not in parsed.values()
            else None
        )

    def openapi(self) -> dict[str, Any]:
        return {"type": "object", "additionalProperties": {"type": "string"}}


@dataclass(frozen=True, slots=True)
class Field:
    """A key of a record.

    `unless` names the key that may stand instead of a required one. `unserved` says why the key is refused,
    or, with `ignored`, why it changes nothing; a value that switches nothing on (false, "", {}) is fine.
    """

    schema: Schema
    description: str
    required: bool = False
    unless: str = ""
    default: Any = None
    unserved: str = ""
    hint: str = ""
    ignored: bool = False

    @property
    def textual(self) -> bool:
        return bool(self.schema.openapi()["type"] == "string")

    def openapi(self) -> dict[str, Any]:
        note = f" Not served: {self.unserved}." if self.unserved else ""
        default = {} if self.default in (None, ()) else {"default": self.default}
        return {"description": self.description + note, **self.schema.openapi(), **default}


@dataclass(frozen=True, slots=True)
class Record:
    """A mapping with known keys, as dict with a value for every key.

    `elsewhere` has hints for keys that are known, but not here.
    """

    fields: Mapping[str, Field]
    elsewhere: Mapping[str, str] = field(default_factory=dict)

    @property
    def demanding(self) -> bool:
        """Whether something must be said."""
        return any(known.required for known in self.fields.values())

    def defaults(self) -> dict[str, Any]:
        """Return what a mapping means that says nothing."""
        return {key: known.default for key, known in self.fields.items()}

    def parse(self, value: object, place: Place) -> dict[str, Any] | None:
        if not isinstance(value, Mapping):
            place.error(
                f"must be a mapping, and {described(value)} is not", f"its keys: {', '.join(self.fields)}"
            )
            return None
        right = self._known(value, place)
        parsed: dict[str, Any] = {}
        for key, known in self.fields.items():
            given = value.get(key)
            if given is None or (given == "" and known.textual):
                right &= self._absent(key, known, value, place)
                parsed[key] = known.default
            elif known.unserved and given not in (False, 0, {}, []):
                tell = place.at(key).warn if known.ignored else place.at(key).error
                tell(known.unserved, known.hint)
                right &= known.ignored
                parsed[key] = given
            else:
                parsed[key] = known.schema.parse(given, place.at(key))
                right &= parsed[key] is not None
        return parsed if right else None

    def openapi(self) -> dict[str, Any]:
        properties = {key: known.openapi() for key, known in sorted(self.fields.items())}
        required = sorted(key for key, known in self.fields.items() if known.required and not known.unless)
        return {"type": "object", "properties": properties, **({"required": required} if required else {})}

    def _absent(self, key: str, known: Field, value: Mapping[str, object], place: Place) -> bool:
        if not known.required or (known.unless and value.get(known.unless)):
            return True
        where = place.at(key) if key in value else place
        where.error(f"{key} is missing", known.hint)
        return False

    def _known(self, value: Mapping[str, object], place: Place) -> bool:
        unknown = [key for key in value if key not in self.fields]
        for key in unknown[:_MANY]:
            hint = self.elsewhere.get(key) or did_you_mean(key, self.fields)
            place.at(key).error("unknown key", hint or f"known here: {', '.join(self.fields)}")
        if len(unknown) > _MANY:
            place.error(f"{len(unknown) - _MANY} more unknown keys", f"known here: {', '.join(self.fields)}")
        return not unknown


@dataclass(frozen=True, slots=True)
class Made:
    """What `make(value, place)` makes of a parsed value; None: it is wrong, and the place was told."""

    schema: Schema
    make: Callable[[Any, Place], Any]

    def parse(self, value: object, place: Place) -> Any:
        parsed = self.schema.parse(value, place)
        return None if parsed is None else self.make(parsed, place)

    def openapi(self) -> dict[str, Any]:
        return self.schema.openapi()
