"""The guard: never over its budget, nothing lost, the urgent first."""

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lbspeaker.core.guard import PROFILES, Guard, Key, Occasion, Profile, Sending

STANDARD, STRICT, OFF = (PROFILES[name] for name in ("standard", "strict", "off"))


def ip(number: int) -> Key:
    return "eth0", number.to_bytes(4, "big")


def run(guard: Guard, until: float, start: float = 0.0) -> list[tuple[float, Sending]]:
    """Let virtual time pass, and return what left when."""
    now, sent = start, []
    while True:
        sent += [(now, sending) for sending in guard.due(now)]
        wake = guard.next_wakeup()
        if wake is None or wake > until:
            return sent
        now = max(now, wake)


def peak(times: list[float], window: float = 1.0) -> int:
    """The most that left in any window (half-open) of that length."""
    return max((sum(t <= other < t + window for other in times) for t in times), default=0)


def test_fifty_new_ips_leave_once_each_and_not_more_than_twelve_in_a_second() -> None:
    guard = Guard(STANDARD, 0.0)
    for number in range(50):
        guard.submit(ip(number), Occasion.NEW, 0.0)
    sent = run(guard, 60)
    assert [s.key for _, s in sent] == [ip(number) for number in range(50)]
    assert peak([at for at, _ in sent]) == 10
    assert sent[-1][0] == pytest.approx((50 - 3) / 8)
    assert guard.counts.held_back["new"] == 47
    assert guard.counts.longest_wait_s == pytest.approx(5.875)
    assert guard.next_wakeup() is None


def test_a_takeover_is_told_three_times_and_every_first_frame_precedes_any_second() -> None:
    guard = Guard(STANDARD, 0.0)
    for number in range(30):
        guard.submit(ip(number), Occasion.TAKEOVER, 0.0)
    sent = run(guard, 60)
    assert Counter(s.key for _, s in sent) == dict.fromkeys(map(ip, range(30)), 3)
    first, rest = sent[:30], sent[30:]
    assert {s.occasion for _, s in first} == {Occasion.TAKEOVER}
    assert {s.occasion for _, s in rest} == {Occasion.REPEAT}
    started = {s.key: at for at, s in first}
    for number in range(30):
        later = [at - started[ip(number)] for at, s in rest if s.key == ip(number)]
        assert later[0] >= 1.1
        assert later[1] >= 3.3


def test_one_takeover_alone_is_told_at_0_and_1_1_and_3_3_seconds() -> None:
    guard = Guard(STANDARD, 5.0)
    guard.submit(ip(1), Occasion.TAKEOVER, 5.0)
    assert [at for at, _ in run(guard, 60, 5.0)] == pytest.approx([5.0, 6.1, 8.3])


def test_takeovers_overtake_what_waits() -> None:
    guard = Guard(STANDARD, 0.0)
    for number in range(100):
        guard.submit(ip(number), Occasion.NEW, 0.0)
    guard.due(0.0)
    guard.submit(ip(777), Occasion.TAKEOVER, 0.1)
    sent = run(guard, 60, 0.1)
    assert sent[0][1].key == ip(777)


def test_asking_again_adds_nothing_unless_it_is_more_urgent() -> None:
    guard = Guard(STANDARD, 0.0)
    for _ in range(3):
        for number in range(20):
            guard.submit(ip(number), Occasion.NEW, 0.0)
    guard.submit(ip(19), Occasion.TAKEOVER, 0.0)
    sent = run(guard, 60)
    assert Counter(s.key for _, s in sent) == {**dict.fromkeys(map(ip, range(19)), 1), ip(19): 3}
    assert sent[0][1].key == ip(19)
    assert guard.counts.coalesced == 41


def test_what_is_cancelled_never_leaves() -> None:
    guard = Guard(STANDARD, 0.0)
    for number in range(10):
        guard.submit(ip(number), Occasion.TAKEOVER, 0.0)
    left = guard.due(0.0)
    for number in range(10):
        guard.cancel(ip(number))
    assert len(left) == 3
    assert run(guard, 60) == []
    assert guard.queue_length == 0


def test_answers_do_not_wait_for_announcements() -> None:
    guard = Guard(STANDARD, 0.0)
    for number in range(1000):
        guard.submit(ip(number), Occasion.NEW, 0.0)
    guard.due(0.0)
    assert all(guard.answer(ip(n), b"to-client-%d" % n, 0.0) for n in range(200))
    assert not guard.answer(ip(1), b"to-flooder", 0.0), "but they are not without limit"
    assert guard.due(0.002)[0].frame == b"to-flooder"


def test_strict_counts_everything_together_and_answers_first() -> None:
    guard = Guard(STRICT, 0.0)
    for number in range(40):
        guard.submit(ip(number), Occasion.NEW, 0.0)
    at_once = [0.0 for number in range(40) if guard.answer(ip(number), b"answer %d" % number, 0.0)]
    sent = run(guard, 60)
    assert len(at_once) == 3
    answered = [at for at, s in sent if s.occasion is None]
    announced = [at for at, s in sent if s.occasion is Occasion.NEW]
    assert len(announced) == 40
    assert max(answered) <= min(announced)
    assert peak(at_once + [at for at, _ in sent]) == 10


def test_in_strict_a_flood_of_questions_does_not_stop_takeovers() -> None:
    guard = Guard(STRICT, 0.0)
    for number in range(20):
        guard.submit(ip(number), Occasion.TAKEOVER, 0.0)
    sent = []
    for tick in range(1000):  # a hundred questions a second, for ten seconds
        guard.answer(ip(99), b"%d" % tick, tick / 100)
        sent += guard.due(tick / 100)
    taken = [s for s in sent if s.occasion is Occasion.TAKEOVER]
    assert len(taken) >= 20
    assert sum(s.occasion is None for s in sent) > 2 * len(taken), "and most are answers"


def test_strict_forgets_answers_that_nobody_waits_for_any_more() -> None:
    guard = Guard(STRICT, 0.0)
    for number in range(40):
        guard.answer(ip(number), b"answer %d" % number, 0.0)
    sent = run(guard, 60)
    assert max(s.waited_s for _, s in sent) <= 3.0
    assert guard.counts.sent["answer"] + guard.counts.expired == 40
    assert guard.counts.expired > 0


def test_a_client_that_asks_again_while_its_answer_waits_gets_one_answer() -> None:
    guard = Guard(STRICT, 0.0)
    while guard.answer(ip(9), b"to somebody", 0.0):
        pass
    for _ in range(5):
        for number in range(6):
            guard.answer(ip(number), b"to the client", 0.0)
    assert Counter(s.key for _, s in run(guard, 60)) == dict.fromkeys(map(ip, [9, *range(6)]), 1)


def test_without_a_guard_every_ip_costs_ten_frames_in_bursts() -> None:
    guard = Guard(OFF, 0.0)
    for number in range(17):
        guard.submit(ip(number), Occasion.NEW, 0.0)
    sent = run(guard, 60)
    assert len(sent) == 170
    assert peak([at for at, _ in sent], 0.01) == 34


def test_a_clock_that_steps_back_neither_bursts_nor_sticks() -> None:
    guard = Guard(STANDARD, 100.0)
    for number in range(30):
        guard.submit(ip(number), Occasion.NEW, 100.0)
    assert len(guard.due(100.0)) == 3
    assert guard.due(50.0) == []
    assert len(guard.due(100.5)) == 3


profiles = st.builds(
    Profile,
    name=st.just("any"),
    rate=st.floats(1, 200),
    burst=st.integers(1, 50),
    together=st.booleans(),
)
actions = st.lists(
    st.tuples(
        st.sampled_from(["new", "takeover", "refresh", "cancel", "answer"]),
        st.integers(0, 12),
        st.floats(0, 2),
    ),
    max_size=120,
)


@given(profiles, actions)
def test_never_over_budget_and_nothing_lost(profile: Profile, steps: list[tuple[str, int, float]]) -> None:
    guard, now = Guard(profile, 0.0), 0.0
    sent: list[tuple[float, Sending]] = []
    at_once: list[float] = []
    asked: dict[Key, int] = {}  # what has to leave, and how much had left when it was asked for
    for action, number, pause in steps:
        sent += run(guard, now + pause, now)
        now += pause
        if action == "cancel":
            guard.cancel(ip(number))
            asked.pop(ip(number), None)
        elif action == "answer":
            if guard.answer(ip(number), b"answer", now):
                at_once.append(now)
        else:
            guard.submit(ip(number), Occasion[action.upper()], now)
            asked[ip(number)] = len(sent)
    sent += run(guard, now + 10_000, now)
    budgeted = [at for at, s in sent if profile.together or s.occasion is not None]
    budgeted = sorted(budgeted + (at_once if profile.together else []))
    for window in (0.01, 0.1, 1.0, 5.0):
        assert peak(budgeted, window) <= profile.burst + profile.rate * window + 1e-6
    for address, position in asked.items():
        after = [s for _, s in sent[position:] if s.key == address and s.occasion is not None]
        assert after, f"{address!r} was asked for and never left"
    assert guard.queue_length == 0
