"""How near a segment came to its budgets in each second of the last ten minutes, as a line."""

from collections.abc import Iterator, Sequence

from lbspeaker.page.markup import Element, e
from lbspeaker.page.rates import KEPT_S, Sample, Segment, Span

WIDTH, HEIGHT = 560, 120
_LEFT, _RIGHT, _TOP, _BOTTOM = 52, 8, 8, 22
_HIGHEST = 1.2  # of a budget: what is more is drawn as this
_LATELY_S = 60


def chart(segment: Segment, now: float) -> Element:
    """Return the picture of a segment, with what it says in words."""
    lines = (("busiest", 0), ("together", 1))
    svg = e(
        "svg",
        *_scale(),
        *(_line(span, segment.samples, which, name, now) for span in segment.known for name, which in lines),
        viewBox=f"0 0 {WIDTH} {HEIGHT}",
        role="img",
        aria_label=f"Segment {segment.name}, the last ten minutes",
    )
    return e("figure", svg, e("figcaption", e("strong", segment.name), f": {said(segment, now)}"))


def said(segment: Segment, now: float) -> str:
    """Return in words how much left in the last minute, and how near that came to a budget before."""
    if not segment.samples:
        return "nothing has left unasked in the last ten minutes, as far as is known"
    lately = [sample for sample in segment.samples if sample.at >= now - _LATELY_S]
    peak = max(max(sample.shares) for sample in segment.samples)
    before = f"at most {peak:.0%} of a budget in the last ten"
    if not lately:
        return f"nothing has left unasked in the last minute; {before}"
    busiest = max(lately, key=lambda sample: sample.shares[0])
    together = max(lately, key=lambda sample: sample.shares[1])
    return (
        f"in any second of the last minute at most {_of(busiest.busiest, busiest.budget)} from one link, "
        f"{_of(together.together, together.segment_budget)} from all; {before}"
    )


def _of(frames: int, budget: int) -> str:
    return f"{frames} of {budget} frames" if budget else f"{frames} frames (no limit)"


def _scale() -> Iterator[Element]:
    for share in (0.0, 0.5, 1.0):
        at = _y(share)
        class_ = "budget" if share == 1 else "grid"
        yield e("line", x1=_LEFT, y1=at, x2=WIDTH - _RIGHT, y2=at, class_=class_)
        label = "budget" if share == 1 else f"{share:.0%}"
        yield e("text", label, x=_LEFT - 6, y=at + 4, text_anchor="end")
    yield e("text", "10 minutes ago", x=_LEFT, y=HEIGHT - 6)
    yield e("text", "now", x=WIDTH - _RIGHT, y=HEIGHT - 6, text_anchor="end")


def _line(span: Span, samples: Sequence[Sample], which: int, name: str, now: float) -> Element:
    """The line of one budget, as long as it is known: each second that has something is a step."""
    since, until = span
    points = [(since, 0.0)]
    for sample in samples:
        if since <= sample.at <= until:
            share = sample.shares[which]
            points += [(sample.at, 0.0), (sample.at, share), (sample.at + 1, share), (sample.at + 1, 0.0)]
    points.append((max(until, points[-1][0]), 0.0))
    text = " ".join(f"{_x(at, now):.1f},{_y(share):.1f}" for at, share in points)
    return e("polyline", points=text, class_=f"line {name}")


def _x(at: float, now: float) -> float:
    width = WIDTH - _LEFT - _RIGHT
    return _LEFT + width * min(max(1 - (now - at) / KEPT_S, 0.0), 1.0)


def _y(share: float) -> float:
    height = HEIGHT - _TOP - _BOTTOM
    return _TOP + height * (1 - min(share, _HIGHEST) / _HIGHEST)
