"""What the demo says about itself: claims, each measured and judged."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class Claim:
    """`numbers`: what was measured, for programs; units are in their names."""

    part: str
    what: str
    measured: str
    goal: str
    held: bool
    numbers: Mapping[str, float] = field(default_factory=dict)


def all_of(part: str, what: str, count: int, total: int, note: str = "", **numbers: float) -> Claim:
    """Claim that something is so for every one of `total`."""
    measured = f"{count} of {total}" + (f"; {note}" if note else "")
    return Claim(part, what, measured, f"{total} of {total}", count == total, {"count": count, **numbers})


def at_most(part: str, what: str, number: float, goal: float, *, unit: str = "", note: str = "") -> Claim:
    """Claim that a number, which has been measured, is not above its goal; `unit` is "s" or nothing."""
    form = ".2f" if unit else ".0f"
    measured = f"{number:{form}} {unit}".rstrip() + (f" ({note})" if note else "")
    name = "seconds" if unit == "s" else "count"
    return Claim(part, what, measured, f"≤ {goal:{form}} {unit}".rstrip(), number <= goal, {name: number})


def yes(part: str, what: str, held: bool, measured: str, goal: str = "yes", **numbers: float) -> Claim:
    return Claim(part, what, measured, goal, held, numbers)


def held(claims: Sequence[Claim]) -> bool:
    """Whether there are claims, and every one held."""
    return bool(claims) and all(claim.held for claim in claims)
