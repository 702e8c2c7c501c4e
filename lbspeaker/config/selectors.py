"""Kubernetes label selectors, and what labels may look like."""

from collections.abc import Mapping
from typing import Any, cast

from lbspeaker.config.cel import Rule
from lbspeaker.config.place import Place
from lbspeaker.config.schema import Field, ListOf, Made, Record, TextMap
from lbspeaker.config.values import Choice, Text
from lbspeaker.model import Requirement, Selector

_WORD = "[A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?"
_KEY = Text(
    rf"([a-z0-9]([-a-z0-9.]{{0,251}}[a-z0-9])?/)?{_WORD}",
    "a label's key",
    "write it like app or example.com/app, the name at most 63 characters",
)
_VALUE = Text(
    f"({_WORD})?", "a label's value", "use at most 63 letters, digits and - _ . (not first or last)"
)
_SELECTORS = 1000
_EXPRESSIONS = 100
_OPERATORS = ("In", "NotIn", "Exists", "DoesNotExist")

LABELS = Made(TextMap(_VALUE), lambda labels, place: _with_right_keys(labels, place))


def _with_right_keys(labels: Mapping[str, str], place: Place) -> Mapping[str, str] | None:
    keys = [_KEY.parse(key, place.at(key)) for key in labels]
    return labels if None not in keys else None


_REQUIREMENT_RULES = (
    Rule(
        "!(self.operator in ['In', 'NotIn']) || (has(self.values) && size(self.values) > 0)",
        "In and NotIn need values",
        "write the values, or use Exists or DoesNotExist",
    ),
    Rule(
        "!(self.operator in ['Exists', 'DoesNotExist']) || !has(self.values) || size(self.values) == 0",
        "Exists and DoesNotExist take no values",
        "remove them, or use In or NotIn",
        "values",
    ),
)


def _requirement(parsed: dict[str, Any], place: Place) -> Requirement | None:
    key, operator, values = parsed["key"], parsed["operator"], frozenset(parsed["values"])
    if operator in ("In", "NotIn") and not values:
        place.error(f"{operator} needs values", "write the values, or use Exists or DoesNotExist")
        return None
    if operator in ("Exists", "DoesNotExist") and values:
        place.at("values").error(f"{operator} takes no values", "remove them, or use In or NotIn")
        return None
    return Requirement(key, operator, values)


def _selector(parsed: dict[str, Any], place: Place) -> Selector:
    pairs = parsed["matchLabels"] or {}
    equal = tuple(Requirement(key, "In", frozenset({value})) for key, value in sorted(pairs.items()))
    return Selector(equal + cast(tuple[Requirement, ...], parsed["matchExpressions"]))


_EXPRESSION = Record(
    {
        "key": Field(_KEY, "The label's key.", required=True),
        "operator": Field(Choice(_OPERATORS), "How the label relates to the values.", required=True),
        "values": Field(ListOf(_VALUE), "Values of In and NotIn.", default=()),
    }
)

LABEL_SELECTOR = Made(
    Record(
        {
            "matchLabels": Field(LABELS, "Labels that must all have these values."),
            "matchExpressions": Field(
                ListOf(Made(_EXPRESSION, _requirement, _REQUIREMENT_RULES), most=_EXPRESSIONS),
                "Conditions that must all hold.",
                default=(),
            ),
        }
    ),
    _selector,
)
SELECTORS = ListOf(LABEL_SELECTOR, most=_SELECTORS)
