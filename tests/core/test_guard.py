"""The guard: never over its budget, nothing lost, the urgent first."""

import random
from collections import Counter
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lbspeaker.core.guard import (
    ANSWERS_WAITING,
    MOST_GIVEN,
    PROFILES,
    UNPACED,
    Guard,
    Key,
    Occasion,
    Profile,
    Sending,
    profile_of,
)
from lbspeaker.model import LinkPolicy

STANDARD, STRICT, FAST, OFF = (PROFILES[name] for name in ("standard", "strict", "fast", "off"))
LISTENED_S = 0.03  # who has been quiet listens for so long at most before its first frame


def ip(number: int, link: str = "eth0") -> Key:
    return link, number.to_bytes(4, "big")


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
    assert sent[-1][0] == pytest.approx((50 - 3) / 8, abs=LISTENED_S)
    assert guard.counts.held_back["new"] >= 47
    assert guard.counts.longest_wait_s == pytest.approx(5.875, abs=LISTENED_S)
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
    assert [at for at, _ in run(guard, 60, 5.0)] == pytest.approx([5.0, 6.1, 8.3], abs=LISTENED_S)


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
    left = run(guard, LISTENED_S)
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


@pytest.mark.parametrize("occasion", [Occasion.TAKEOVER, Occasion.PROBE, Occasion.NEW])
def test_in_strict_a_flood_of_questions_does_not_stop_first_copies(occasion: Occasion) -> None:
    guard = Guard(STRICT, 0.0)
    for number in range(20):
        guard.submit(ip(number), occasion, 0.0)
    sent = []
    for tick in range(2000):  # a hundred questions a second, for twenty seconds
        guard.answer(ip(99), b"%d" % tick, tick / 100)
        sent += guard.due(tick / 100)
    taken = [s for s in sent if s.occasion is occasion]
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
    assert len(run(guard, 100.0 + LISTENED_S, 100.0)) == 3
    assert guard.due(50.0) == []
    assert len(guard.due(100.5)) == 3


def test_probes_go_after_takeovers_and_before_what_is_new() -> None:
    guard = Guard(STANDARD, 0.0)
    for number, occasion in enumerate(reversed(Occasion)):
        guard.submit(ip(number), occasion, 0.0)
    sent = [s for at, s in run(guard, 1.0)]
    assert [s.occasion for s in sent] == [
        Occasion.TAKEOVER,
        Occasion.PROBE,
        Occasion.NEW,
        Occasion.REPEAT,
        Occasion.REFRESH,
    ]


def test_of_a_takeover_what_clients_ask_for_goes_first() -> None:
    guard = Guard(STANDARD, 0.0)
    for number in range(18):
        guard.submit(ip(number), Occasion.TAKEOVER, 0.0)
    for number in (18, 19):
        guard.submit(ip(number), Occasion.TAKEOVER, 0.0, hot=True)
    guard.submit(ip(50), Occasion.NEW, 0.0, hot=True)
    keys = [s.key for _, s in run(guard, 60)]
    assert keys[:20] == [ip(18), ip(19), *map(ip, range(18))]
    assert keys[20] == ip(50), "but it does not go before what is more urgent"


def test_what_clients_ask_for_while_it_waits_goes_before_the_rest() -> None:
    guard = Guard(STANDARD, 0.0)
    for number in range(20):
        guard.submit(ip(number), Occasion.TAKEOVER, 0.0)
    before = [s.key for _, s in run(guard, 0.1)]
    guard.answer(ip(19), b"here", 0.1)
    after = [s.key for _, s in run(guard, 60, 0.1) if s.occasion is Occasion.TAKEOVER]
    assert after[0] == ip(19) and sorted(before + after) == sorted(map(ip, range(20))), "each once"


def test_in_strict_what_clients_ask_for_is_told_of_though_they_ask_for_more_than_can_be_answered() -> None:
    guard = Guard(STRICT, 0.0)
    for number in range(20):
        guard.submit(ip(number), Occasion.TAKEOVER, 0.0)
    told = {}
    for tick in range(400):  # for each of three IPs five times a second
        now = tick / 100
        if tick % 20 < 3:
            guard.answer(ip(17 + tick % 20), b"to a client", now)
        told |= {s.key: now for s in guard.due(now) if s.occasion is Occasion.TAKEOVER}
    asked = [told[ip(number)] for number in (17, 18, 19)]
    assert max(asked) < 1.0 < max(told.values())


def test_what_becomes_more_urgent_has_waited_since_it_was_first_asked_for() -> None:
    guard = Guard(STANDARD, 0.0)
    for number in range(4):
        guard.submit(ip(number), Occasion.TAKEOVER, 0.0)
    guard.submit(ip(9), Occasion.REFRESH, 0.0)
    run(guard, LISTENED_S)
    guard.submit(ip(9), Occasion.TAKEOVER, 0.1)
    taken = [(s.key, s.waited_s) for _, s in run(guard, 0.4, 0.1) if s.occasion is Occasion.TAKEOVER]
    assert [key for key, _ in taken] == [ip(3), ip(9)]
    assert taken[1][1] > 0.2, "it waited since 0.0"


def test_a_takeover_while_repeats_of_it_wait_begins_anew_and_anything_else_does_not() -> None:
    guard = Guard(STANDARD, 0.0)
    guard.submit(ip(1), Occasion.TAKEOVER, 0.0)
    run(guard, 0.5)
    guard.submit(ip(1), Occasion.NEW, 0.5)
    assert run(guard, 1.0, 0.5) == []
    guard.submit(ip(1), Occasion.TAKEOVER, 1.0)
    again = run(guard, 60, 1.0)
    assert [at for at, _ in again] == pytest.approx([1.0, 2.1, 4.3], abs=LISTENED_S)
    assert again[0][1].waited_s < LISTENED_S


def test_nobody_gets_the_same_answer_more_than_ten_times_in_a_second() -> None:
    guard = Guard(STANDARD, 0.0)
    given = [tick for tick in range(200) if guard.answer(ip(1), b"to a flooder", tick / 100)]
    assert given == [*range(10), *range(100, 110)]
    assert guard.counts.repetitive == 180
    assert guard.answer(ip(1), b"to somebody else", 1.99)
    assert guard.due(2.0) == [], "nor later"
    fast = Guard(FAST, 0.0)
    assert sum(fast.answer(ip(1), b"answer", 0.0) for _ in range(200)) == 100
    off = Guard(OFF, 0.0)
    assert all(off.answer(ip(1), b"answer", 0.0) for _ in range(200))


def test_so_many_askers_that_they_are_not_told_apart_are_answered_all_the_same() -> None:
    guard = Guard(Profile("any", 8, 3, answer_rate=1e6, answer_burst=100_000), 0.0)
    assert all(guard.answer(ip(n), b"%d" % n, 0.0) for n in range(MOST_GIVEN + 1))
    assert all(guard.answer(ip(1), b"1", 0.0) for _ in range(10)), "it has begun to count anew"


def test_an_answer_that_cannot_leave_leaves_as_soon_as_it_may_and_then_others_too() -> None:
    guard = Guard(Profile("any", 8, 3, answer_rate=10, answer_burst=2), 0.0)
    at_once = [guard.answer(ip(n), b"%d" % n, 0.0) for n in range(4)]
    assert at_once == [True, True, False, False]
    assert guard.queue_length == 2
    assert guard.next_wakeup() == pytest.approx(0.1)
    assert [at for at, _ in run(guard, 1)] == pytest.approx([0.1, 0.2])
    assert not guard.answer(ip(9), b"9", 0.2)
    assert guard.queue_length == 1
    guard.cancel(ip(9))
    assert guard.queue_length == 0
    assert not guard.answer(ip(9), b"9", 0.21), "who is released and owned again may be asked again"
    assert guard.queue_length == 1


def test_whose_answer_had_to_wait_is_answered_the_next_time_too() -> None:
    guard = Guard(Profile("any", 8, 3, answer_rate=10, answer_burst=1), 0.0)
    for start in (0.0, 5.0):
        assert guard.answer(ip(1), b"to the first", start)
        assert not guard.answer(ip(2), b"to the second", start)
        assert [s.frame for _, s in run(guard, start + 1, start)] == [b"to the second"]
    assert guard.counts.held_back["answer"] == 2
    assert guard.counts.longest_wait_s == pytest.approx(0.1)


def test_the_end_of_one_ip_changes_nothing_for_those_who_wait_for_another() -> None:
    guard = Guard(Profile("any", 8, 3, answer_rate=10, answer_burst=1), 0.0)
    for _ in range(2):
        for number in range(4):
            guard.answer(ip(number), b"%d" % number, 0.0)
        guard.cancel(ip(1))
    assert [s.frame for _, s in run(guard, 9)] == [b"2", b"3", b"0"]


def test_who_asks_again_keeps_his_place() -> None:
    guard = Guard(STANDARD, 0.0)
    for number in (1, 2, 1):
        guard.submit(ip(number), Occasion.NEW, 0.0)
    assert [s.key for _, s in run(guard, 9)] == [ip(1), ip(2)]


def test_what_is_too_much_to_wait_is_forgotten() -> None:
    guard = Guard(STANDARD, 0.0)
    for n in range(200 + ANSWERS_WAITING + 5):
        guard.answer(ip(n), b"%d" % n, 0.0)
    assert guard.queue_length == ANSWERS_WAITING
    assert guard.counts.expired == 5


def test_while_somebody_storms_every_frame_costs_twice() -> None:
    guard = Guard(STANDARD, 0.0)
    for number in range(60):
        guard.submit(ip(number), Occasion.NEW, 0.0)
    run(guard, 1.0)
    guard.slow_down(3.0)
    guard.slow_down(2.0)  # it is slow until the later of both
    stormy = [at for at, _ in run(guard, 3.0, 1.0)]
    assert len(stormy) == pytest.approx(8, abs=1)
    calm = [at for at, _ in run(guard, 5.0, 3.0)]
    assert len(calm) == pytest.approx(16, abs=1)


def test_another_profile_is_no_way_around_the_budget_and_loses_nothing() -> None:
    guard = Guard(STANDARD, 0.0)
    for number in range(30):
        guard.submit(ip(number), Occasion.NEW, 0.0)
    sent = run(guard, LISTENED_S)
    for flip in range(1, 10):
        now = flip / 10
        guard.adopt(replace(STANDARD, burst=3 + flip % 2), now)
        sent += run(guard, now + 0.099, now)
    assert peak([at for at, _ in sent]) <= 3 + 8
    sent += run(guard, 60, 1.0)
    assert sorted(s.key for _, s in sent) == [ip(number) for number in range(30)]


def test_another_profile_gives_no_second_burst_of_answers_nor_one_of_the_segment() -> None:
    guard = Guard(STANDARD, 0.0)
    before = sum(guard.answer(ip(n), b"a%d" % n, 0.0) for n in range(300))
    guard.adopt(replace(FAST, rate=10_000, segment_rate=100, segment_burst=20), 0.0)
    assert before == 200
    assert not guard.answer(ip(1), b"b", 0.0)
    for number in range(200):
        guard.submit(ip(number), Occasion.TAKEOVER, 0.0)
    early = [at for at, s in run(guard, 0.5) if s.occasion is not None]
    assert 45 <= len(early) <= 51, "a hundred a second, no burst, and its floor"


def test_the_same_profile_again_changes_nothing() -> None:
    guard = Guard(STRICT, 0.0)
    guard.adopt(replace(STRICT), 0.0)
    assert sum(guard.answer(ip(n), b"%d" % n, 0.0) for n in range(9)) == 3


def test_a_change_to_strict_leaves_its_bucket_empty_and_not_in_debt() -> None:
    guard = Guard(STANDARD, 0.0)
    guard.adopt(STRICT, 0.0)
    assert not guard.answer(ip(1), b"1", 0.0)
    assert [at for at, _ in run(guard, 1)] == pytest.approx([0.125])


def test_two_cables_to_one_switch_share_one_guard() -> None:
    guard = Guard(STANDARD, 0.0)
    for number in range(10):
        guard.submit(ip(number, "eth0"), Occasion.NEW, 0.0)
        guard.submit(ip(number, "eth1"), Occasion.NEW, 0.0)
    guard.cancel(ip(5, "eth1"))
    sent = run(guard, 60)
    assert peak([at for at, _ in sent]) <= 11
    keys = {s.key for _, s in sent}
    assert len(sent) == len(keys) == 19
    assert ip(5, "eth0") in keys


def test_how_long_it_takes_until_every_ip_was_told_of_is_known() -> None:
    guard = Guard(STANDARD, 0.0)
    for number in range(16):
        guard.submit(ip(number), Occasion.TAKEOVER, 0.0)
    assert guard.projected_s == 2.0
    run(guard, 3.0)
    assert guard.projected_s == 0.0, "repeats do not count"
    assert guard.queue_length == 16
    off = Guard(OFF, 0.0)
    off.submit(ip(1), Occasion.NEW, 0.0)
    assert off.projected_s == 0.0


def test_what_would_have_left_without_a_guard_is_counted_whatever_became_of_it() -> None:
    guard = Guard(STANDARD, 0.0)
    for occasion in Occasion:
        guard.submit(ip(1), occasion, 0.0)
    assert guard.counts.unpaced == 2 * UNPACED, "for the takeover and for the new one"


def test_a_guard_counts_what_left_and_what_had_to_wait() -> None:
    guard = Guard(STANDARD, 0.0)
    for number in range(4):
        guard.submit(ip(number), Occasion.TAKEOVER, 0.0)
    run(guard, 60)
    assert guard.counts.sent == {"takeover": 4, "repeat": 8}
    assert guard.counts.held_back["takeover"] == 4, "three listened, one waited for a token"
    assert guard.answer(ip(1), b"answer", 60.0)
    assert guard.counts.sent["answer"] == 1


@pytest.mark.parametrize("seed", range(3))
def test_at_most_twelve_in_any_second_also_if_the_process_is_held_up(seed: int) -> None:
    """Frames leave when the process comes to it: up to 100 ms after the guard let them go."""
    roll = random.Random(seed)
    guard, now, left = Guard(STANDARD, 0.0, roll.random), 0.0, []
    for number in range(100):
        guard.submit(ip(number), Occasion.TAKEOVER, 0.0)
    while guard.queue_length:
        frames = guard.due(now)
        out = now + roll.choice([0.0, 0.0, 0.1])
        left += [out] * len(frames)
        now = max(guard.next_wakeup() or 0.0, out)
    assert len(left) == 300
    assert peak(left) <= 12


def test_what_the_segment_has_no_room_for_waits_and_takes_nothing_from_the_link() -> None:
    guard = Guard(STANDARD, 0.0)
    guard.heard(40, 0.0)
    for number in range(3):
        guard.submit(ip(number), Occasion.NEW, 0.0)
    sent = run(guard, 60)
    assert [at for at, _ in sent] == pytest.approx([0.0, 0.2, 0.2375], abs=1e-3), "floor, floor, its turn"


def test_where_the_segment_is_full_answers_of_strict_do_not_wait_for_a_takeover() -> None:
    guard = Guard(STRICT, 0.0)
    guard.heard(1000, 0.0)
    guard.submit(ip(1), Occasion.TAKEOVER, 0.0)
    guard.submit(ip(2), Occasion.TAKEOVER, 0.0)
    assert [s.key for s in guard.due(0.0)] == [ip(1)], "by the floor"
    answers = [guard.answer(ip(9), b"%d" % n, 0.0) for n in range(4)]
    assert answers == [True, True, False, False]
    for _, sending in run(guard, 0.12):
        assert sending.occasion is None
    left = [(at, s.occasion) for at, s in run(guard, 1.0, 0.12)]
    assert [occasion for _, occasion in left[:3]] == [None, None, Occasion.TAKEOVER]


def test_what_is_due_at_once_is_not_asked_for_again_and_again() -> None:
    """Whatever waits for whatever: after `due`, nothing is due at the same moment, or soon nothing is."""
    for seed in range(20):
        roll = random.Random(seed)
        guard, now = Guard(STRICT, 0.0, roll.random), 0.0
        for step in range(200):
            now += roll.choice([0.0, 0.01, 0.1])
            number = roll.randrange(6)
            match roll.randrange(5):
                case 0:
                    guard.heard(roll.randrange(60), now)
                case 1:
                    guard.submit(ip(number), roll.choice(list(Occasion)), now)
                case 2:
                    guard.cancel(ip(number))
                case 3:
                    guard.slow_down(now + 1)
                case _:
                    guard.answer(ip(number), b"%d" % step, now)
            for _ in range(3):
                guard.due(now)
            wakeup = guard.next_wakeup()
            assert wakeup is None or wakeup > now, f"seed {seed}, step {step}"


def test_in_strict_a_cancelled_takeover_does_not_cost_the_next_one_its_turn() -> None:
    guard = Guard(STRICT, 0.0)
    for number in range(5):
        guard.submit(ip(number), Occasion.TAKEOVER, 0.0)
    taken = [s for _, s in run(guard, LISTENED_S)]
    assert [s.key for s in taken] == [ip(0), ip(1), ip(2)]
    guard.cancel(ip(3))
    for tick in range(100, 200):
        guard.answer(ip(99), b"%d" % tick, tick / 100)
        taken += [s for s in guard.due(tick / 100) if s.occasion is Occasion.TAKEOVER]
    assert ip(4) in [s.key for s in taken]


def test_in_strict_answers_that_waited_count_when_a_takeover_waits() -> None:
    guard = Guard(STRICT, 0.0)
    for number in range(12):
        guard.answer(ip(99), b"answer %d" % number, 0.0)  # three leave, nine wait
    guard.submit(ip(1), Occasion.TAKEOVER, 0.0)
    guard.submit(ip(2), Occasion.TAKEOVER, 0.0)
    order = [s.occasion for _, s in run(guard, 1.0)]
    first = order.index(Occasion.TAKEOVER)
    assert first <= 1, "three in a row had left before; one more, while it listened"
    assert order[first + 1 :][:4] == [None, None, None, Occasion.TAKEOVER]


def test_the_numbers_of_the_profiles_are_those_that_are_promised() -> None:
    def numbers(profile: Profile) -> tuple[object, ...]:
        of_answers = (profile.answer_rate, profile.answer_burst, profile.per_asker)
        of_segment = (profile.segment_rate, profile.segment_burst)
        return profile.rate, profile.burst, *of_answers, *of_segment, profile.together

    assert numbers(STANDARD) == (8, 3, 1000, 200, 10, 100, 20, False)
    assert numbers(STRICT) == (8, 3, 1000, 200, 10, 100, 20, True)
    assert numbers(FAST) == (100, 50, 10_000, 1_000, 100, 500, 100, False)
    assert {p.takeover_at_s for p in (STANDARD, STRICT, FAST)} == {(0.0, 1.1, 3.3)}
    assert {p.new_at_s for p in (STANDARD, STRICT, FAST)} == {(0.0,)}


OVERRIDES = {
    "nothing said: the profile": (LinkPolicy(""), STANDARD),
    "another profile": (LinkPolicy("", profile="fast"), FAST),
    "a rate, and half a second of it": (LinkPolicy("", rate=4), replace(STANDARD, rate=4, burst=2)),
    "but not more than the profile bursts": (LinkPolicy("", rate=50), replace(STANDARD, rate=50, burst=3)),
    "and at least one frame": (LinkPolicy("", rate=1), replace(STANDARD, rate=1, burst=1)),
    "a rate and a burst": (LinkPolicy("", rate=1, burst=7), replace(STANDARD, rate=1, burst=7)),
    "a burst alone": (LinkPolicy("", burst=2), replace(STANDARD, burst=2)),
    "how many answers": (
        LinkPolicy("", answer_rate=5, answer_burst=2),
        replace(STANDARD, answer_rate=5, answer_burst=2),
    ),
    "what all may send together": (
        LinkPolicy("", profile="strict", segment_rate=10, segment_burst=5),
        replace(STRICT, segment_rate=10, segment_burst=5),
    ),
}


@pytest.mark.parametrize(("policy", "expected"), OVERRIDES.values(), ids=OVERRIDES)
def test_the_profile_of_a_policy(policy: LinkPolicy, expected: Profile) -> None:
    assert profile_of(policy) == expected


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
