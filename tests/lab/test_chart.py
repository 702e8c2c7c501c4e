"""The picture of the wire: what it shows of how many frames, and where."""

from collections.abc import Sequence

import pytest

from lbspeaker.lab import chart

PACED = [0.0, 0.01, 0.02, 0.03, *(n / 8 for n in range(1, 14))]  # a burst of four, then eight a second
STORM = [n / 10_000 for n in range(34)]


def picture(times: Sequence[float], **options: object) -> str:
    lines = chart.chart(times, columns=20, limit=15, **options)  # type: ignore[arg-type]
    return "\n".join(line.rstrip() for line in lines)


PACED_SHOWN = """\
  15 ┤╌╌╌╌╌╌╌╌╌╌╌╌╌╌╌╌╌╌╌╌
     ┤
     ┤       ░░░░
     ┤   ░░░░░░░░░░░░░░░
     ┤▂░░░░░░░░░░░░░░░░░░░
     ┤█▂▂▂░▂▂▂▂░▂▂▂▂░▂▂░░░
   0 ┼┴─────────┴─────────
      0 s       1 s"""

STORM_SHOWN = """\
guard off
  36 ┤▂░░░░░░░░░
     ┤█░░░░░░░░░
     ┤█░░░░░░░░░
     ┤█░░░░░░░░░
     ┤█░░░░░░░░░
     ┤█░░░░░░░░░
  15 ┤█░░░░░░░░░╌╌╌╌╌╌╌╌╌╌
     ┤█░░░░░░░░░
     ┤█░░░░░░░░░
     ┤█░░░░░░░░░
     ┤█░░░░░░░░░
     ┤█░░░░░░░░░
   0 ┼✗─────────┴─────────
      0 s       1 s"""


def test_paced_frames_stay_below_the_line() -> None:
    assert picture(PACED) == PACED_SHOWN


def test_a_storm_crosses_it_at_once_and_shuts_the_port() -> None:
    assert picture(STORM, title="guard off", down=0.0015) == STORM_SHOWN


def test_silence_is_a_line_and_nothing_else() -> None:
    assert picture([]).count("╌") == 20
    assert not set(picture([])) & set("░▁▂▃▄▅▆▇█✗")


@pytest.mark.parametrize(
    ("frames", "touches"),
    [(14, False), (15, False), (16, True)],
    ids=["fewer than the limit", "as many as the limit", "one more"],
)
def test_the_line_is_touched_exactly_by_what_shuts_the_port(frames: int, touches: bool) -> None:
    spread = [n / frames for n in range(frames)]  # within one second, in no column more than two
    line = next(row for row in picture(spread).splitlines() if row.startswith("  15 ┤"))
    assert ("░" in line) is touches


@pytest.mark.parametrize(("columns", "labels"), [(20, "0 s 1 s"), (22, "0 s 1 s"), (23, "0 s 1 s 2 s")])
def test_seconds_are_labelled_where_there_is_room(columns: int, labels: str) -> None:
    lines = chart.chart([], columns=columns, limit=15)
    assert " ".join(lines[-1].split()) == labels
    assert len(lines[-1]) <= 6 + columns


def test_a_second_ends_where_it_ends() -> None:
    at_both_edges = [0.0] * 9 + [1.0] * 9  # nine and nine are never in one second
    assert chart.peak(at_both_edges) == 9
    assert chart.peak([0.001] * 9 + [1.0] * 9) == 18
    assert chart.peak([]) == 0


def test_every_frame_is_in_one_column() -> None:
    edges = [n / 10 for n in range(20)]  # on the edges, where binary fractions are a little off
    bottom = picture(edges).splitlines()[-3]
    assert bottom == "     ┤" + "▂" * 20


def test_two_charts_share_a_scale_and_stand_on_one_line() -> None:
    top = max(chart.peak(PACED), chart.peak(STORM))
    calm = chart.chart(PACED, columns=20, limit=15, top=top, title="guard strict")
    wild = chart.chart(STORM, columns=20, limit=15, top=top, title="guard off")
    both = chart.beside(calm, wild)
    assert len(calm) == len(wild) == len(both)
    assert both[0] == "guard strict                 guard off"
    assert all(len(line) <= 55 for line in both)
    lines = [line for line in both if "15 ┤" in line]
    assert len(lines) == 1 and lines[0].count("15 ┤") == 2


def test_a_lower_chart_is_filled_up_from_above() -> None:
    assert chart.beside(["a", "b"], ["c"]) == ["a", "b   c"]
    assert chart.beside(["c"], ["a", "b"]) == ["    a", "c   b"]


@pytest.mark.parametrize("limit", [1, 7, 15, 100])
@pytest.mark.parametrize("count", [0, 1, 99, 5000])
def test_it_is_never_taller_than_a_screen(limit: int, count: int) -> None:
    lines = chart.chart([n / 5000 for n in range(count)], columns=10, limit=limit, title="t")
    assert len(lines) <= 20
    assert {len(line) for line in lines[1:-1]} == {16}
