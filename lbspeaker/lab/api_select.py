"""Selectors in a request's query: labelSelector and fieldSelector, as text and as predicates."""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from lbspeaker.lab.api_errors import bad_request
from lbspeaker.model import Requirement, Selector

Json = dict[str, Any]
Field = Callable[[Json], str]

_KEY = r"[A-Za-z0-9][-A-Za-z0-9_./]*"
_SET = re.compile(rf"({_KEY})\s+(in|notin)\s+\(([^()]*)\)$")
_EQUALITY = re.compile(rf"({_KEY})\s*(==|=|!=)\s*([-A-Za-z0-9_.]*)$")
_EXISTS = re.compile(rf"(!?)\s*({_KEY})$")
_COMMA = re.compile(r",(?![^(]*\))")  # not between parentheses


def parse_labels(text: str) -> Selector:
    """Parse a label selector like "app=web,tier in (a, b),!old"; empty text selects everything.

    Raises ApiStatus 400 if it cannot be understood.
    """
    parts = [part.strip() for part in _COMMA.split(text)] if text.strip() else []
    return Selector(tuple(_requirement(part, text) for part in parts))


def _requirement(part: str, text: str) -> Requirement:
    if match := _SET.match(part):
        key, operator, values = match.groups()
        chosen = frozenset(value.strip() for value in values.split(","))
        return Requirement(key, "In" if operator == "in" else "NotIn", chosen)
    if match := _EQUALITY.match(part):
        key, operator, value = match.groups()
        return Requirement(key, "NotIn" if operator == "!=" else "In", frozenset({value}))
    if match := _EXISTS.match(part):
        negated, key = match.groups()
        return Requirement(key, "DoesNotExist" if negated else "Exists")
    raise bad_request(f"unable to parse requirement: {part!r} in label selector {text!r}")


@dataclass(frozen=True, slots=True)
class FieldTerm:
    field: str
    operator: Literal["=", "!="]
    value: str


def parse_fields(text: str, known: Mapping[str, Field]) -> tuple[FieldTerm, ...]:
    """Parse a field selector like "spec.type=LoadBalancer,metadata.name!=x".

    `known` are the fields of the resource that can be selected.
    Raises ApiStatus 400 if it cannot be understood or names another field.
    """
    terms = []
    for part in filter(None, (part.strip() for part in text.split(","))):
        match = re.match(r"([^=!]+)(==|=|!=)(.*)$", part)
        if match is None:
            raise bad_request(f"invalid selector: {text!r}; can't understand {part!r}")
        name, operator, value = match.groups()
        if name not in known:
            raise bad_request(f"field label not supported: {name}")
        terms.append(FieldTerm(name, "!=" if operator == "!=" else "=", value))
    return tuple(terms)


def dotted(path: str) -> Field:
    """Return a reader of the field at `path` ("spec.type"); what is absent reads as ""."""
    names = path.split(".")

    def read(obj: Json) -> str:
        value: Any = obj
        for name in names:
            value = value.get(name) if isinstance(value, dict) else None
        if isinstance(value, bool):
            return str(value).lower()
        return "" if value is None else str(value)

    return read


EVERYTHING = Selector()


@dataclass(frozen=True, slots=True)
class Filter:
    """What a list or a watch is about: one namespace ("" is all), labels and fields."""

    namespace: str = ""
    labels: Selector = EVERYTHING
    fields: tuple[FieldTerm, ...] = ()
    known: Mapping[str, Field] | None = None

    @property
    def everything(self) -> bool:
        return not self.labels.requirements and not self.fields

    def selects(self, obj: Json) -> bool:
        metadata = obj["metadata"]
        if self.namespace and metadata.get("namespace") != self.namespace:
            return False
        if self.labels.requirements and not self.labels.selects(metadata.get("labels") or {}):
            return False
        for term in self.fields:
            assert self.known is not None
            if (self.known[term.field](obj) == term.value) != (term.operator == "="):
                return False
        return True
