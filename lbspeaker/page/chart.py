"""How near a segment came to its budgets in the last ten minutes, as a line."""

from collections.abc import Iterable, Iterator
from itertools import pairwise

from lbspeaker.page.markup import Element, e
from lbspeaker.page.rates import KEPT_S, Sample, Segment

WIDTH, HEIGHT = 560, 130
_LEFT, _RIGHT, _TOP, _BOTTOM = 52, 8, 10, 24
_HIGHEST = 1.5  # of a budget: a burst is more than its rate
_GAP_S = 90.0  # nobody looked


def chart(segment: Segment, now: float) -> Element:
    """Return the picture of a segment, with what it says in words."""
    lines = (("busiest", 0), ("together", 1))
    return e(
        "figure",
        e(
            "svg",
            *_scale(),
            *(line for name, which in lines for line in _lines(segment.samples, which, name, now)),
            viewBox=f"0 0 {WIDTH} {HEIGHT}",
            role="img",
            aria_label=f"Segment {segment.name}, the last ten minutes",
        ),
        e("figcaption", e("strong", segment.name), f": {said(segment)}"),
    )


def said(segment: Segment) -> str:
    """Return in words how much leaves now, and how much left at most."""
    if not segment.samples:
        return "nothing is known of its frames yet; speakers report within a minute"
    last = segment.samples[-1]
    peak = max(max(sample.shares) for sample in segment.samples)
    return (
        f"the busiest link sends {_per_s(last.busiest, last.budget)}, "
        f"all links together {_per_s(last.together, last.segment_budget)}; "
        f"at most {peak:.0%} of a budget in the last ten minutes"
    )


def _per_s(rate: float, budget: float) -> str:
    return f"{rate:.1f} of {budget:g} frames/s" if budget else f"{rate:.1f} frames/s (no limit)"


def _scale() -> Iterator[Element]:
    for share in (0.0, 0.5, 1.0):
        at = _y(share)
        class_ = "budget" if share == 1 else "grid"
        yield e("line", x1=_LEFT, y1=at, x2=WIDTH - _RIGHT, y2=at, class_=class_)
        label = "budget" if share == 1 else f"{share:.0%}"
        yield e("text", label, x=_LEFT - 6, y=at + 4, text_anchor="end")
    yield e("text", "10 minutes ago", x=_LEFT, y=HEIGHT - 6)
    yield e("text", "now", x=WIDTH - _RIGHT, y=HEIGHT - 6, text_anchor="end")


def _lines(samples: Iterable[Sample], which: int, name: str, now: float) -> Iterator[Element]:
    """The line of one budget; in pieces, where nobody looked meanwhile."""
    piece: list[Sample] = []
    for before, sample in pairwise((None, *samples)):
        if before is not None and sample is not None and sample.at - before.at > _GAP_S:
            yield _line(piece, which, name, now)
            piece = []
        if sample is not None:
            piece.append(sample)
    if piece:
        yield _line(piece, which, name, now)


def _line(piece: Iterable[Sample], which: int, name: str, now: float) -> Element:
    points = [f"{_x(sample.at, now):.1f},{_y(sample.shares[which]):.1f}" for sample in piece]
    return e("polyline", points=" ".join(points if len(points) > 1 else points * 2), class_=f"line {name}")


def _x(at: float, now: float) -> float:
    width = WIDTH - _LEFT - _RIGHT
    return _LEFT + width * min(max(1 - (now - at) / KEPT_S, 0.0), 1.0)


def _y(share: float) -> float:
    height = HEIGHT - _TOP - _BOTTOM
    return _TOP + height * (1 - min(share, _HIGHEST) / _HIGHEST)
