"""The bench measures right: its counting and comparing, on values."""

import pytest

from lbspeaker.errors import Unable
from lbspeaker.lab.frames import Frame, Kind, Op
from tests.bench.__main__ import chosen
from tests.bench.prober import Seen
from tests.bench.results import Goal, Reference, result, table
from tests.bench.storm import Storm
from tests.bench.takeover import Budget, Move


def frame(time: float, port: str, kind: Kind, sender: str, target: str = "") -> Frame:
    op: Op = "reply" if kind == "answer" else "request"
    return Frame(time, port, "02:00:c0:00:02:c9", "arp", op, kind, sender, target or sender)


def asked(time: float, ip: str) -> Frame:
    return frame(time, "client", "request", "192.0.2.2", ip)


def storm(*seen: Frame) -> Storm:
    """A storm that began at 100.0, told by its frames."""
    kinds = (("gratuitous", "probe"), ("answer",), ("request",))
    ips = frozenset(f.target for f in seen if f.kind in ("gratuitous", "probe"))
    told, answers, requests = ([f for f in seen if f.kind in some] for some in kinds)
    return Storm(100.0, ("node-a", "node-b"), ips, told, answers, requests)


class TestStorm:
    def test_the_peak_is_of_one_port_in_one_second(self) -> None:
        told = [frame(100 + n / 4, "node-a", "gratuitous", f"198.18.1.{n}") for n in range(8)]
        elsewhere = [frame(100 + n / 4, "node-b", "gratuitous", f"198.18.2.{n}") for n in range(8)]
        assert storm(*told, *elsewhere).peak(all_kinds=False) == 4

    def test_answers_count_only_where_all_kinds_do(self) -> None:
        both = storm(
            frame(100.1, "node-a", "gratuitous", "198.18.1.1"), frame(100.2, "node-a", "answer", "198.18.1.1")
        )
        assert (both.peak(all_kinds=False), both.peak(all_kinds=True)) == (1, 2)

    def test_probes_count_as_unsolicited_and_announce_nothing(self) -> None:
        seen = storm(
            frame(100.1, "node-a", "probe", "0.0.0.0", "198.18.1.1"),
            frame(100.4, "node-a", "gratuitous", "198.18.1.1"),
        )
        assert (seen.peak(all_kinds=False), seen.most_per_ip()) == (2, 2)
        assert seen.told_s() == pytest.approx(0.4)

    def test_an_ip_told_twice_was_told_when_it_was_told_first(self) -> None:
        twice = storm(
            frame(101.0, "node-a", "gratuitous", "198.18.1.1"),
            frame(105.0, "node-a", "gratuitous", "198.18.1.1"),
            frame(102.5, "node-b", "gratuitous", "198.18.1.2"),
        )
        assert twice.told_s() == pytest.approx(2.5)
        assert twice.most_per_ip() == 2

    @pytest.mark.parametrize(
        ("story", "at", "port", "count"),
        [
            ("announced while the answer waited", 101.5, "node-a", 1),
            ("announced before anybody asked", 100.9, "node-a", 0),
            ("was on its way when the request came", 101.01, "node-a", 0),
            ("announced after the answer", 102.1, "node-a", 0),
            ("announced on another port", 101.5, "node-b", 0),
        ],
    )
    def test_an_announcement_overtakes_an_answer(self, story: str, at: float, port: str, count: int) -> None:
        seen = storm(
            asked(100.5, "198.18.1.1"),  # not owned yet, so nobody answered
            asked(101.0, "198.18.1.1"),
            frame(102.0, "node-a", "answer", "198.18.1.1", "192.0.2.2"),
            frame(at, port, "gratuitous", "198.18.1.9"),
        )
        assert seen.overtaken() == count, story

    def test_an_ip_that_was_announced_has_an_owner_that_could_answer(self) -> None:
        seen = storm(
            frame(100.2, "node-a", "gratuitous", "198.18.1.1"),
            asked(100.5, "198.18.1.1"),
            frame(100.7, "node-a", "gratuitous", "198.18.1.2"),
            frame(100.8, "node-a", "gratuitous", "198.18.1.3"),
            asked(101.0, "198.18.1.1"),  # asked again, because nobody answered
            frame(101.1, "node-a", "answer", "198.18.1.1", "192.0.2.2"),
        )
        assert seen.overtaken() == 2


class TestMove:
    def test_repeats_tell_nothing_new_and_all_frames_count(self) -> None:
        told = [(100.5, "198.18.1.1"), (100.6, "198.18.1.2"), (101.6, "198.18.1.1"), (103.8, "198.18.1.1")]
        seen = [frame(at, "node-b", "gratuitous", ip) for at, ip in told]
        question = frame(100.4, "node-b", "request", "192.0.2.202", "192.0.2.1")
        move = Move(100.0, frozenset({"198.18.1.1", "198.18.1.2", "198.18.1.3"}), [*seen, question])
        assert (move.first_s(), move.told_s()) == (pytest.approx(0.5), pytest.approx(0.6))
        assert (move.untold(), move.most_per_ip(), move.peak()) == (1, 3, 3)

    def test_the_last_ip_has_as_long_as_the_budget_demands(self) -> None:
        assert Budget("fast", 1000, 100, 50, peak=150).told_s == pytest.approx(9.5 * 1.1 + 1.0)


class TestProber:
    def test_the_gap_is_between_two_good_ones_of_the_time(self) -> None:
        seen = Seen(good=[1.0, 1.01, 1.5, 3.0], lost=[1.2])
        assert seen.gap(1.0, 2.0) == pytest.approx(0.49)
        assert (seen.failed(1.0, 2.0), seen.failed(2.0, 3.0)) == (1, 0)

    def test_without_a_good_one_everything_is_the_gap(self) -> None:
        assert Seen(good=[], lost=[]).gap(1.0, 3.0) == 2.0


class TestResults:
    def test_the_median_of_the_rounds_is_compared_with_the_reference(self) -> None:
        row = result("n", "ms", [30, 10, 20], Reference("bare", [5, 4, 6]), Goal("<", 50))
        assert (row.value, row.lowest, row.highest, row.rounds) == (20, 10, 30, 3)
        assert (row.reference_value, row.ratio, row.goal, row.met) == (5, 4, "< 50", True)

    @pytest.mark.parametrize(
        ("goal", "met"),
        [
            (Goal("<=", 12), True),
            (Goal("<", 12), False),
            (Goal(">=", 0.8, "ratio"), False),
            (Goal(">=", 0.6, "ratio"), True),
        ],
    )
    def test_goals_are_for_the_value_or_its_ratio(self, goal: Goal, met: bool) -> None:
        assert result("n", "frames", [12], Reference("bound", [20]), goal).met is met

    def test_a_ratio_to_nothing_meets_no_goal(self) -> None:
        row = result("n", "frames", [0], Reference("none", [0]), Goal(">=", 0.8, "ratio"))
        assert (row.ratio, row.met) == (None, False)

    def test_nothing_measured_is_no_result(self) -> None:
        with pytest.raises(ValueError, match="nothing was measured"):
            result("n", "ms", [], Reference("bare", [1]))

    def test_the_table_shouts_about_a_missed_goal(self) -> None:
        reference = Reference("bare", [1])
        rows = [
            result("good", "ms", [1], reference, Goal("<", 2)),
            result("bad", "ms", [3], reference, Goal("<", 2)),
        ]
        head, good, bad = table(rows).splitlines()
        assert head.split()[0] == "name"
        assert good.endswith("yes") and bad.endswith("NO")


class TestNames:
    def test_an_exact_name_means_itself_alone(self) -> None:
        assert chosen(["assign-10000"]) == ["assign-10000"]

    def test_a_beginning_means_all_that_begin_so(self) -> None:
        assert chosen(["storm"]) == ["storm-50", "storm-1000"]

    def test_an_unknown_name_is_told_with_the_known_ones(self) -> None:
        with pytest.raises(Unable, match=r"no benchmark 'strom'; there are allocation-pass"):
            chosen(["strom"])
