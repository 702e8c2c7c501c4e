"""Numbers, what they are compared with, and how they are shown. Pure."""

from collections.abc import Callable, Mapping, Sequence
from statistics import median
from typing import Literal

import msgspec

Pick = Literal["median", "max", "min"]
_PICK: Mapping[Pick, Callable[[Sequence[float]], float]] = {"median": median, "max": max, "min": min}


class Goal(msgspec.Struct, frozen=True):
    """A bound for the value, or for its ratio to the reference."""

    sign: Literal["<=", "<", ">="]
    bound: float
    of: Literal["value", "ratio"] = "value"

    def met(self, value: float, ratio: float | None) -> bool:
        measured = value if self.of == "value" else ratio
        if measured is None:
            return False
        if self.sign == ">=":
            return measured >= self.bound
        return measured <= self.bound if self.sign == "<=" else measured < self.bound

    def __str__(self) -> str:
        return f"{self.sign} {self.bound:g}" + (" of the reference" if self.of == "ratio" else "")


class Reference(msgspec.Struct, frozen=True):
    """What the same quantity is elsewhere: `what` says where; `values` are those of all rounds."""

    what: str
    values: Sequence[float]
    pick: Pick = "median"

    @property
    def value(self) -> float:
        return float(_PICK[self.pick](self.values))


class Result(msgspec.Struct, frozen=True):
    """One row. `lowest` and `highest` are those of `rounds` rounds; without a goal, `met` is None."""

    name: str
    value: float
    unit: str
    reference: str
    reference_value: float
    ratio: float | None
    goal: str | None
    met: bool | None
    lowest: float
    highest: float
    rounds: int


def result(
    name: str,
    unit: str,
    values: Sequence[float],
    reference: Reference,
    goal: Goal | None = None,
    pick: Pick = "median",
) -> Result:
    """Return the row for what was measured in all rounds. Raises ValueError without any."""
    if not values or not reference.values:
        raise ValueError(f"{name}: nothing was measured")
    value = float(_PICK[pick](values))
    ratio = value / reference.value if reference.value else None
    return Result(
        name,
        _short(value),
        unit,
        reference.what,
        _short(reference.value),
        None if ratio is None else _short(ratio),
        None if goal is None else str(goal),
        None if goal is None else goal.met(value, ratio),
        _short(min(values)),
        _short(max(values)),
        len(values),
    )


def _short(value: float) -> float:
    """Four significant digits; more are noise."""
    return float(f"{value:.4g}")


_HEAD = ("name", "value", "range", "unit", "reference", "ratio", "goal", "met")
_NUMBERS = {"value", "ratio"}


def table(results: Sequence[Result]) -> str:
    """Return the rows as aligned text."""
    rows = [_HEAD, *(_cells(result) for result in results)]
    widths = [max(len(row[column]) for row in rows) for column in range(len(_HEAD))]
    return "\n".join(_line(row, widths) for row in rows)


def _line(row: Sequence[str], widths: Sequence[int]) -> str:
    cells = [
        cell.rjust(width) if head in _NUMBERS else cell.ljust(width)
        for head, cell, width in zip(_HEAD, row, widths, strict=True)
    ]
    return "  ".join(cells).rstrip()


def _cells(row: Result) -> tuple[str, ...]:
    return (
        row.name,
        f"{row.value:g}",
        f"{row.lowest:g}…{row.highest:g}" if row.rounds > 1 else "",
        row.unit,
        f"{row.reference_value:g} ({row.reference})",
        "" if row.ratio is None else f"{row.ratio:.2f}",
        row.goal or "",
        "" if row.met is None else "yes" if row.met else "NO",
    )
