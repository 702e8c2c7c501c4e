"""Single values: text, words, numbers, truth values, durations. See `schema` for what is made of them."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from lbspeaker.config.cel import Rule, matches, with_rules
from lbspeaker.config.place import Place, described, did_you_mean, shown

_BLANKS = " \t\r\n"  # CEL's trim() removes these too
_WORDS_OF = {False: ("off", "no"), True: ("on", "yes")}  # that YAML 1.1 reads as truth values


@dataclass(frozen=True, slots=True)
class Text:
    """Text, as str. With `pattern` (told as `form`) all of it must match.

    `longest` bounds what the pattern costs an API server; without it, the server can only say: no match.
    """

    pattern: str = ""
    form: str = ""
    example: str = ""
    longest: int = 0

    def parse(self, value: object, place: Place) -> str | None:
        if not isinstance(value, str):
            place.error(f"must be text, and {described(value)} is not", self._quoted(value))
            return None
        if self.longest and len(value) > self.longest:
            place.error(f"has {len(value)} characters; at most {self.longest} are read", self.example)
            return None
        if self.pattern and not re.fullmatch(self.pattern, value):
            place.error(f"{shown(value)} is not {self.form}", self.example)
            return None
        return value

    def openapi(self) -> dict[str, Any]:
        schema: dict[str, Any] = {"type": "string"}
        if self.longest:
            schema["maxLength"] = self.longest
        if not self.pattern:
            return schema
        if not self.longest:
            return {**schema, "pattern": f"^(?:{self.pattern})$"}
        return with_rules(
            schema, [Rule(matches("self", self.pattern), f"this is not {self.form}", self.example)]
        )

    def _quoted(self, value: object) -> str:
        if isinstance(value, bool):
            return "write it in quotes: without them, YAML reads no, off, yes and on as truth values"
        return f'write it in quotes, as in "{value}"' if isinstance(value, int | float) else ""


@dataclass(frozen=True, slots=True)
class Choice:
    """One of a few words, as str. `instead` has hints for words that are known, but not taken here."""

    words: tuple[str, ...]
    instead: Mapping[str, str] = field(default_factory=dict)

    def parse(self, value: object, place: Place) -> str | None:
        if isinstance(value, str) and value in self.words:
            return value
        place.error(f"{described(value)} is not one of {', '.join(self.words)}", self._hint(value))
        return None

    def openapi(self) -> dict[str, Any]:
        return {"type": "string", "enum": list(self.words)}

    def _hint(self, value: object) -> str:
        meant = _WORDS_OF[value] if isinstance(value, bool) else (value if isinstance(value, str) else "",)
        for word in meant:
            if word in self.instead:
                return self.instead[word]
            if word in self.words:
                return f'write "{word}", in quotes: without them, YAML reads it as a truth value'
        return did_you_mean(meant[0], self.words)


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


# --- durations ------------------------------------------------------------------------------------------

_SECOND_NS = 10**9
_DAY_NS = 86400 * _SECOND_NS
_UNITS_NS = {
    "ns": 1,
    "us": 10**3,
    "µs": 10**3,
    "μs": 10**3,
    "ms": 10**6,
    "s": _SECOND_NS,
    "m": 60 * _SECOND_NS,
    "h": 3600 * _SECOND_NS,
}
_PART = r"([0-9]+(?:\.[0-9]*)?|\.[0-9]+)(ns|us|µs|μs|ms|s|m|h)"
_DURATION = f"0|(?:{_PART})+"
_LONGEST_DURATION = 64


@dataclass(frozen=True, slots=True)
class Duration:
    """Text such as 90s or 1m30s (metav1.Duration), as float seconds, at most a day."""

    def parse(self, value: object, place: Place) -> float | None:
        if isinstance(value, int | float) and not isinstance(value, bool):
            place.error(f"{described(value)} has no unit", f"write {value}s")
            return None
        text = value.strip(_BLANKS) if isinstance(value, str) and len(value) <= _LONGEST_DURATION else ""
        if not re.fullmatch(_DURATION, text):
            place.error(
                f"{described(value)} is not a duration", "write a number with a unit, as in 90s or 1m30s"
            )
            return None
        duration_ns = sum(_part_ns(number, _UNITS_NS[unit]) for number, unit in re.findall(_PART, text))
        if duration_ns > _DAY_NS:
            place.error(f"{described(value)} is longer than a day", "write it shorter, as in 90s")
            return None
        return duration_ns / _SECOND_NS

    def openapi(self) -> dict[str, Any]:
        schema = {"type": "string", "maxLength": _LONGEST_DURATION}
        form = matches("self.trim()", _DURATION)
        return with_rules(
            schema,
            [
                Rule(
                    f"self == '' || {form}",
                    "this is not a duration",
                    "write a number with a unit, as in 90s or 1m30s",
                ),
                Rule(
                    f"!{form} || duration(self.trim()) <= duration('24h')",
                    "this is longer than a day",
                    "write it shorter, as in 90s",
                ),
            ],
        )


def _part_ns(number: str, unit_ns: int) -> int:
    """Whole nanoseconds, as Go counts them: what is left over is dropped."""
    whole, _, fraction = number.partition(".")
    scale: int = 10 ** len(fraction)
    return int(whole or 0) * unit_ns + int(fraction or 0) * unit_ns // scale


def duration_of(key: str) -> str:
    """Return the CEL expression for the duration in the field `key`; see `duration_is_given`."""
    return f"duration(self.{key}.trim())"


def duration_is_given(key: str) -> str:
    """Return the CEL expression that the field `key` is there, and is a duration."""
    return f"(has(self.{key}) && {matches(f'self.{key}.trim()', _DURATION)})"
