"""Budgets: never more than the burst and the rate allow, also when several speakers share one unasked."""

import heapq
import math
import random
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lbspeaker.core.budget import CROWDED_S, Bucket, SegmentBudget

RATE, BURST = 100, 20  # of a segment, in profile `standard`


def first(roll: float = 0.0, rate: float = RATE, burst: int = BURST) -> SegmentBudget:
    """A budget whose random waits are all the same part of what they may be."""
    return SegmentBudget(rate, burst, 0.0, lambda: roll)


def spend(budget: SegmentBudget, now: float, *, urgent: bool = False) -> int:
    """How many frames may leave at this moment."""
    count = 0
    while budget.may_send(now, urgent=urgent):
        count += 1
        assert count < 1000
    return count


def peak(times: list[float], window: float) -> int:
    """The most that left in any window (half-open) of that length."""
    times = sorted(times)
    most, begin = 0, 0
    for end, time in enumerate(times):
        while times[begin] <= time - window:
            begin += 1
        most = max(most, end - begin + 1)
    return most


# --- one bucket -----------------------------------------------------------------------------------------


def test_a_full_bucket_gives_its_burst_and_then_its_rate() -> None:
    bucket = Bucket(rate=8, burst=3, now=10.0)
    assert [bucket.take(10.0) for _ in range(4)] == [True, True, True, False]
    assert bucket.ready_at() == pytest.approx(10.125)
    assert not bucket.take(10.124)
    assert bucket.take(10.125)
    assert not bucket.take(10.125)
    assert [bucket.take(99.0) for _ in range(4)] == [True, True, True, False], "it holds no more than a burst"


def test_a_frame_that_costs_more_than_the_bucket_holds_takes_all_there_is() -> None:
    bucket = Bucket(rate=1, burst=1, now=0.0)
    assert bucket.take(0.0, cost=2)
    assert bucket.ready_at(cost=2) == 1.0
    assert not bucket.take(0.9, cost=2)
    assert bucket.take(1.0, cost=2)


def test_who_owes_more_than_a_burst_owes_a_burst() -> None:
    bucket = Bucket(rate=1, burst=3, now=0.0)
    bucket.owe(0.0, 2)
    assert bucket.take(0.0)
    assert not bucket.take(0.0)
    bucket.owe(0.0, 1000)
    assert bucket.ready_at() == 4.0, "three that it owes, and the one that is wanted"
    assert not bucket.take(3.9)
    assert bucket.take(4.0)


def test_a_bucket_without_limit_gives_always_also_after_it_was_owed() -> None:
    bucket = Bucket(rate=math.inf, burst=1, now=0.0)
    assert all(bucket.take(0.0) for _ in range(100))
    bucket.owe(0.0, 50)
    assert bucket.ready_at() == 0.0
    assert bucket.take(0.0)


def test_a_clock_that_steps_back_gives_nothing_and_takes_nothing() -> None:
    bucket = Bucket(rate=1, burst=3, now=100.0)
    assert bucket.take(100.0)
    assert [bucket.take(50.0) for _ in range(3)] == [True, True, False]
    assert not bucket.take(100.9), "what passed before, does not pass again"
    assert bucket.take(101.0)


@given(
    st.integers(1, 100),
    st.integers(1, 20),
    st.lists(st.tuples(st.integers(0, 50), st.integers(1, 2), st.booleans()), max_size=60),
)
def test_a_bucket_is_what_it_is_in_exact_numbers(
    rate: int, burst: int, steps: list[tuple[int, int, bool]]
) -> None:
    """Against a twin that counts in fractions; and in no window there is more than it allows."""
    bucket, tokens, now = Bucket(rate, burst, 0.0), Fraction(burst), Fraction(0)
    spent: list[tuple[Fraction, int]] = []
    for pause, cost, owed in steps:
        now += Fraction(pause, 64)
        tokens = min(Fraction(burst), tokens + Fraction(pause, 64) * rate)
        if owed:
            bucket.owe(float(now), cost)
            tokens = max(tokens - cost, Fraction(-burst))
            continue
        cost = min(cost, burst)
        assert bucket.holds(float(now), cost) == (tokens >= cost)
        assert bucket.take(float(now), cost) == (tokens >= cost)
        if tokens >= cost:
            tokens -= cost
            spent.append((now, cost))
        else:
            assert bucket.ready_at(cost) == pytest.approx(float(now + (cost - tokens) / rate))
            assert bucket.ready_at(cost) > now
    for number, (begin, _) in enumerate(spent):
        used = 0
        for at, cost in spent[number:]:
            used += cost
            assert used <= burst + (at - begin) * rate


# --- the bucket of a segment, as one speaker has it ------------------------------------------------------


def test_who_listens_and_hears_nobody_spends_the_whole_burst_at_once() -> None:
    budget = first(roll=0.5)
    assert spend(budget, 0.0, urgent=True) == 0
    assert budget.ready_at() == pytest.approx(0.0025), "half of half a token's time"
    assert spend(budget, 0.0025, urgent=True) == BURST + 1, "and its floor"


def test_it_listens_again_when_it_has_not_for_a_while() -> None:
    budget = first(roll=0.5)
    budget.may_send(0.0, urgent=True)
    assert budget.may_send(0.0025, urgent=True)
    assert budget.may_send(5.0, urgent=True)
    assert not budget.may_send(5.0 + 0.0025, urgent=True)


@pytest.mark.parametrize(
    ("urgent", "roll", "wait_s"),
    [(True, 0.0, 0.0), (True, 1.0, 0.005), (False, 0.0, 0.005), (False, 1.0, 0.03)],
)
def test_every_urgent_frame_has_its_turn_before_every_usual_one(
    urgent: bool, roll: float, wait_s: float
) -> None:
    budget = first(roll)
    assert budget.may_send(0.0, urgent=urgent) is (wait_s == 0.0)
    assert budget.ready_at() == pytest.approx(wait_s)


def test_who_hears_others_waits_for_each_frame_until_they_have_been_quiet_for_a_while() -> None:
    budget = first(roll=0.5)
    budget.may_send(0.0, urgent=True)
    assert budget.may_send(0.0025, urgent=True)
    budget.heard(1, 1.0)
    for start in (1.0, 2.0, 3.0):
        assert not budget.may_send(start, urgent=True)
        assert budget.ready_at() == pytest.approx(start + 0.0025)
        assert budget.may_send(start + 0.0025, urgent=True)
    assert not budget.may_send(1.0 + CROWDED_S - 0.001, urgent=True)
    assert budget.may_send(1.0 + CROWDED_S, urgent=True)


def test_a_turn_is_lost_when_others_have_taken_the_token_meanwhile() -> None:
    budget = first(roll=0.5)
    budget.heard(BURST - 1, 0.0)
    assert not budget.may_send(0.0, urgent=True)
    assert budget.ready_at() == pytest.approx(0.0025)
    budget.heard(5, 0.001)
    assert budget.may_send(0.0025, urgent=True), "once in a while it may all the same: its floor"
    assert not budget.may_send(0.0026, urgent=True)
    assert budget.ready_at() == pytest.approx(0.06), "four that others owe, its own, and one to send"
    assert not budget.may_send(0.06, urgent=True), "and it waits anew"
    assert budget.may_send(0.0625, urgent=True)


def test_a_foreign_flood_leaves_a_twentieth() -> None:
    budget = first()
    sent = []
    for millisecond in range(10_000):
        now = millisecond / 1000
        budget.heard(1, now)  # ten times what the segment has
        sent += [now] * spend(budget, now)
    late = [at for at in sent if at >= 1.0]
    assert len(late) == pytest.approx(9 * RATE / 20, abs=1)
    assert peak(late, 1.0) <= 1 + RATE / 20


def test_after_the_flood_it_pays_back_one_burst_at_most() -> None:
    budget = first()
    budget.heard(100_000, 0.0)
    assert spend(budget, 0.0) == 1, "its floor"
    assert spend(budget, 0.19) == 0
    assert spend(budget, 0.2) == 1
    assert not budget.may_send(0.219, urgent=True)
    assert budget.may_send(0.22, urgent=True), "twenty tokens of debt, the floor's, and this one"


def test_without_a_limit_nobody_waits_for_anybody() -> None:
    budget = SegmentBudget(math.inf, 1, 0.0, lambda: 0.5)
    budget.heard(1000, 0.0)
    assert all(budget.may_send(0.0, urgent=False) for _ in range(1000))


def test_a_segment_whose_clock_steps_back_neither_bursts_nor_sticks() -> None:
    budget = first()
    assert spend(budget, 100.0, urgent=True) == BURST + 1
    assert spend(budget, 40.0, urgent=True) == 0
    assert 1 <= spend(budget, 100.5, urgent=True) <= BURST + 1


# --- several speakers, each with its own copy ------------------------------------------------------------


class Segment:
    """Speakers that hear each other a millisecond late; each has so many frames to say."""

    def __init__(self, frames: list[int], urgent: frozenset[int] = frozenset(), seed: int = 1) -> None:
        roll = random.Random(seed).random
        self.left = list(frames)
        self.urgent = urgent
        self.sent: list[tuple[float, int]] = []
        self._budgets = [SegmentBudget(RATE, BURST, 0.0, roll) for _ in frames]
        for budget in self._budgets:
            budget.shared_by(len(frames))
        self._wake = [0.0] * len(frames)
        self._on_the_way: list[tuple[float, int]] = []

    def run(self) -> list[float]:
        """Let time pass until all is said; return when each frame left."""
        while any(self.left):
            now = min(wake for wake, left in zip(self._wake, self.left, strict=True) if left)
            while self._on_the_way and self._on_the_way[0][0] <= now:
                arrived, to = heapq.heappop(self._on_the_way)
                self._budgets[to].heard(1, arrived)
            for speaker, budget in enumerate(self._budgets):
                if self._wake[speaker] <= now:
                    self._speak(speaker, budget, now)
        return [at for at, _ in self.sent]

    def _speak(self, speaker: int, budget: SegmentBudget, now: float) -> None:
        while self.left[speaker] and budget.may_send(now, urgent=speaker in self.urgent):
            self.left[speaker] -= 1
            self.sent.append((now, speaker))
            for other in range(len(self._budgets)):
                if other != speaker:
                    heapq.heappush(self._on_the_way, (now + 0.001, other))
        self._wake[speaker] = budget.ready_at()
        assert not self.left[speaker] or self._wake[speaker] > now, (
            "who may not send is told when to ask again"
        )

    def done(self, speaker: int) -> float:
        return max(at for at, who in self.sent if who == speaker)


@pytest.mark.parametrize("speakers", [1, 4, 8])
@pytest.mark.parametrize("seed", [1, 2])
def test_however_many_they_are_together_they_keep_to_one_budget(speakers: int, seed: int) -> None:
    times = Segment([400 // speakers] * speakers, seed=seed).run()
    ideal = (400 - BURST) / RATE
    assert peak(times, 0.01) <= 2 * BURST + 3, "two may begin in the same millisecond"
    assert peak(times, 1.0) <= BURST + RATE + speakers, "but that is paid back at once"
    assert ideal - 0.1 <= max(times) <= ideal + 0.15


def test_where_there_are_many_their_floors_are_small() -> None:
    times = Segment([40] * 40).run()
    steady = [at for at in times if at >= 2.0]
    assert len(steady) > 1000
    assert peak(steady, 1.0) <= 1.65 * RATE, "and not more than twice as much"


def test_a_takeover_on_one_node_overtakes_what_is_new_on_seven_others() -> None:
    segment = Segment([20] + [60] * 7, urgent=frozenset({0}))
    segment.run()
    assert segment.done(0) < 0.6
    assert min(segment.done(other) for other in range(1, 8)) > 3.0
