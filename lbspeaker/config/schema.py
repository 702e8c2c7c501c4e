"""What the schema of a kind is put together from: each part reads a value, and tells its OpenAPI v3.

`parse(value, place)` returns what the value means; or None when it is wrong, and then `place` has been told
everything that is wrong in it. An absent value (also null, and "" where text is optional) is never parsed:
its field's default is taken.
"""

from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from lbspeaker.config.cel import Rule, with_rules
from lbspeaker.config.place import Place, described, did_you_mean, shown
from lbspeaker.config.values import Text

_MANY = 20  # so many unknown keys of one mapping, or wrong items of one list, are told one by one
_ITEMS = 100_000  # more than fit into an object of a cluster


class Schema(Protocol):
    def parse(self, value: object, place: Place) -> Any: ...

    def openapi(self) -> dict[str, Any]: ...


# --- what is not looked into ------------------------------------------------------------------------------


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
    """A list, as tuple; an item that comes again is told, and left out.

    `most` only bounds what the rules about items may cost an API server; the parser takes more. `key`: items
    are mappings, and each has another value of this key.
    """

    item: Schema
    at_least: int = 0
    most: int = 0
    key: str = ""

    def parse(self, value: object, place: Place) -> tuple[Any, ...] | None:
        if not isinstance(value, Sequence) or isinstance(value, str):
            hint = f"write [{value}]" if isinstance(value, str) else "begin each item with - "
            place.error(f"must be a list, and {described(value)} is not", hint)
            return None
        if not self.at_least <= len(value) <= _ITEMS:
            place.error(
                f"has {len(value)} items; at most {_ITEMS} are read" if value else "must not be empty"
            )
            return None
        items = self._items(value, place)
        wrong = self.key and self._has_a_key_twice(value, place)
        return None if wrong or items is None else tuple(items)

    def openapi(self) -> dict[str, Any]:
        least = {"minItems": self.at_least} if self.at_least else {}
        most = {"maxItems": self.most} if self.most else {}
        keys = {"x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": [self.key]} if self.key else {}
        return {"type": "array", "items": self.item.openapi(), **least, **most, **keys}

    def _items(self, value: Sequence[object], place: Place) -> dict[Hashable, int] | None:
        items: dict[Hashable, int] = {}
        wrong = 0
        for number, one in enumerate(value):
            parsed = self.item.parse(one, place.at(number))
            if parsed is None:
                wrong += 1
            elif parsed in items:
                place.at(number).warn(
                    f"is the same as item {items[parsed]} (counted from 0)", "remove one of the two"
                )
            else:
                items[parsed] = number
            if wrong > _MANY:
                place.error(
                    f"more than {_MANY} items are wrong; those after item {number} were not looked at"
                )
                break
        return None if wrong else items

    def _has_a_key_twice(self, value: Sequence[object], place: Place) -> bool:
        seen: set[object] = set()
        twice = False
        for number, one in enumerate(value):
            found = one.get(self.key) if isinstance(one, Mapping) else None
            if isinstance(found, str) and found in seen:
                place.at(number, self.key).error(f"{shown(found)} is there already", "keep one of the two")
                twice = True
            seen.add(found if isinstance(found, str) else None)
        return twice


@dataclass(frozen=True, slots=True)
class TextMap:
    """A mapping from text to text, as dict: labels."""

    value: Text

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
        return {"type": "object", "additionalProperties": self.value.openapi()}


@dataclass(frozen=True, slots=True)
class Field:
    """A key of a record.

    `unless` names the key that may stand instead of a required one. `unserved` says why the key is refused,
    or, with `ignored`, why it changes nothing; a value that switches nothing on (false, "", {}) is fine.
    `absent` says what holds without the key, where no default does.
    """

    schema: Schema
    description: str
    required: bool = False
    unless: str = ""
    default: Any = None
    unserved: str = ""
    hint: str = ""
    ignored: bool = False
    absent: str = ""

    @property
    def textual(self) -> bool:
        return bool(self.schema.openapi()["type"] == "string")

    def openapi(self) -> dict[str, Any]:
        note = f" Without it: {self.absent}." if self.absent else ""
        note += f" Not served: {self.unserved}." if self.unserved else ""
        default = {} if self.default in (None, ()) else {"default": self.default}
        schema = self.schema.openapi()
        some = {"minLength": 1} if self.required and not self.unless and schema["type"] == "string" else {}
        return {"description": self.description + note, **schema, **some, **default}

    def rules(self, key: str) -> list[Rule]:
        """Return what an API server can tell a mapping that has this field under `key`."""
        given = f"(has(self.{key}) && self.{key} != '')" if self.textual else f"has(self.{key})"
        if self.unserved and not self.ignored:
            return [Rule(f"!{given}", self.unserved, self.hint, key)]
        if self.required and self.unless:
            return [Rule(f"{given} || has(self.{self.unless})", f"{key} is missing", self.hint)]
        return []


@dataclass(frozen=True, slots=True)
class Record:
    """A mapping with known keys, as dict with a value for every key.

    `elsewhere` has hints for keys that are known, but not here. `rules` are for an API server.
    """

    fields: Mapping[str, Field]
    elsewhere: Mapping[str, str] = field(default_factory=dict)
    rules: tuple[Rule, ...] = ()

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
            elif known.unserved and not known.ignored and given not in (False, 0, {}, []):
                place.at(key).error(known.unserved, known.hint)
                right = False
            else:
                if known.unserved and given not in (False, 0, {}, []):
                    place.at(key).warn(known.unserved, known.hint)
                parsed[key] = known.schema.parse(given, place.at(key))
                right &= parsed[key] is not None
        return parsed if right else None

    def openapi(self) -> dict[str, Any]:
        properties = {key: known.openapi() for key, known in sorted(self.fields.items())}
        required = sorted(key for key, known in self.fields.items() if known.required and not known.unless)
        schema = {"type": "object", "properties": properties, **({"required": required} if required else {})}
        of_fields = [rule for key, known in self.fields.items() for rule in known.rules(key)]
        return with_rules(schema, [*of_fields, *self.rules])

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
    """What `make(value, place)` makes of a parsed value; None: it is wrong, and the place was told.

    `rules` tell an API server what `make` refuses.
    """

    schema: Schema
    make: Callable[[Any, Place], Any]
    rules: tuple[Rule, ...] = ()

    def parse(self, value: object, place: Place) -> Any:
        parsed = self.schema.parse(value, place)
        return None if parsed is None else self.make(parsed, place)

    def openapi(self) -> dict[str, Any]:
        return with_rules(self.schema.openapi(), self.rules)
