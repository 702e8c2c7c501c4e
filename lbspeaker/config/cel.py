"""Rules that an API server checks itself, in CEL: what one object can say about itself before it is stored.

The parser is the judge: a rule never refuses what the parser accepts, and leaves to it what CEL cannot tell
or what costs too much. A rule stands beside the part of the parser that says the same.

What rules may cost is counted from the longest text and list that a schema allows, so these are bounded.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

_KEY = "x-kubernetes-validations"


@dataclass(frozen=True, slots=True)
class Rule:
    """`cel` says about `self` what must hold; otherwise `what` is wrong, with `hint`, at the field `key`."""

    cel: str
    what: str
    hint: str = ""
    key: str = ""

    def openapi(self) -> dict[str, str]:
        path = {"fieldPath": f".{self.key}"} if self.key else {}
        message = f"{self.what}; {self.hint}" if self.hint else self.what
        return {"rule": self.cel, "message": message, **path}


def with_rules(schema: dict[str, Any], rules: Sequence[Rule]) -> dict[str, Any]:
    """Return the OpenAPI schema with `rules` besides those that it has."""
    if not rules:
        return schema
    return {**schema, _KEY: [*schema.get(_KEY, ()), *(rule.openapi() for rule in rules)]}


def quoted(text: str) -> str:
    """Return text as a literal of CEL."""
    escaped = text.replace("\\", "\\\\").replace("'", "\\'")
    return f"'{escaped}'"


def matches(subject: str, pattern: str) -> str:
    """Return the expression that all of `subject` matches `pattern`, which Python and RE2 read alike."""
    return f"{subject}.matches({quoted(f'^(?:{pattern})$')})"
