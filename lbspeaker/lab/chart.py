"""The picture of the wire: ARP frames over time, in characters. Pure: times in, lines of text out.

A switch counts frames in any one second, a burst is over in milliseconds; so one column, a tenth of a second,
shows both: a bar for its own frames, and a shade up to the count of the second that ends there. The shade is
what the port guard looks at, and it touches the line exactly when there are more than the guard tolerates.
"""

import math
from bisect import bisect_left, bisect_right
from collections.abc import Sequence

STEP_S = 0.1
WINDOW_S = 1.0
LEGEND = "█ ARP frames in 100 ms   ░ in the last second   ╌ more than this shut the port   ✗ port down"

_EIGHTHS = "▁▂▃▄▅▆▇█"
_MAX_ROWS = 12


def chart(
    times: Sequence[float],
    *,
    columns: int,
    limit: int,
    title: str = "",
    top: int = 0,
    down: float | None = None,
) -> list[str]:
    """Return the lines of a chart of frames that left at `times` (seconds since its left edge, any order).

    It is 6 + `columns` characters wide. `limit`: frames in a second that are still tolerated; `top`: what the
    scale must reach, so that two charts can share one (`peak` of both); `down`: when the port went down.
    """
    ordered = sorted(times)
    bars = [len(_between(ordered, n * STEP_S, (n + 1) * STEP_S)) for n in range(columns)]
    shades = [_last_second(ordered, n) for n in range(columns)]
    unit = _unit(max([top, limit + 1, *bars, *shades]), limit)
    rows = math.ceil(max([top, limit + 1, *bars, *shades]) / unit)
    lines = [f"{title:<{6 + columns}}"] if title else []
    for row in reversed(range(rows)):
        low = row * unit
        cells = "".join(_cell(bar, shade, low, unit, limit) for bar, shade in zip(bars, shades, strict=True))
        label = str(limit) if low == limit else str(low + unit) if row == rows - 1 else ""
        lines.append(f"{label:>4} ┤{cells}")
    return [*lines, *_axis(columns, down)]


def peak(times: Sequence[float]) -> int:
    """Return the highest count of any one second, which a shared scale must reach."""
    ordered = sorted(times)
    return max((_ending(ordered, time) for time in ordered), default=0)


def beside(left: Sequence[str], right: Sequence[str], gap: int = 3) -> list[str]:
    """Return two charts next to each other, standing on the same line."""
    width = max(map(len, left), default=0)
    height = max(len(left), len(right))
    padded = [[""] * (height - len(lines)) + list(lines) for lines in (left, right)]
    return [f"{a:<{width + gap}}{b}".rstrip() for a, b in zip(*padded, strict=True)]


def _between(ordered: Sequence[float], begin: float, end: float) -> Sequence[float]:
    # a moment on the edge of two columns is in the later one, whatever the rounding of 0.1 says
    return ordered[bisect_left(ordered, begin - 1e-9) : bisect_left(ordered, end - 1e-9)]


def _ending(ordered: Sequence[float], time: float) -> int:
    """How many frames the second up to and with `time` has."""
    return bisect_right(ordered, time) - bisect_right(ordered, time - WINDOW_S)


def _last_second(ordered: Sequence[float], column: int) -> int:
    """The greatest count of a second that ends in this column."""
    begin, end = column * STEP_S, (column + 1) * STEP_S
    ends = _between(ordered, begin, end) or [end - 1e-9]
    return max(_ending(ordered, time) for time in ends)


def _unit(top: int, limit: int) -> int:
    """Frames per row: a divisor of the limit, so that the limit is the edge of a row."""
    divisors = [unit for unit in range(1, limit + 1) if limit % unit == 0]
    return next(
        (unit for unit in divisors if top <= unit * _MAX_ROWS), math.ceil(top / _MAX_ROWS / limit) * limit
    )


def _cell(bar: int, shade: int, low: int, unit: int, limit: int) -> str:
    if bar > low:
        return _EIGHTHS[min(8 * (bar - low) // unit, 8) - 1]
    if shade > low:
        return "░"
    return "╌" if low == limit else " "


def _axis(columns: int, down: float | None) -> list[str]:
    """The axis with a tick a second, and the seconds below."""
    line = ["┴" if n % 10 == 0 else "─" for n in range(columns)]
    if down is not None and 0 <= down < columns * STEP_S:
        line[int(down / STEP_S)] = "✗"
    seconds = "".join(f"{f'{n // 10} s':<10}" for n in range(0, columns - 2, 10))
    return ["   0 ┼" + "".join(line), " " * 6 + seconds.rstrip()]
