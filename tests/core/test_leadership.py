"""One acts: who may take the Lease when, by his own clock alone, and when the one before has stopped."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lbspeaker.core.leadership import DEADLINE_S, DURATION_S, LOOK_EVERY_S, RENEW_EVERY_S, Standby, must_stop
from lbspeaker.model import LeaderRecord

HIS = LeaderRecord("him", "10:00:00", 8.0, version="9")
HERS = LeaderRecord("her", "10:00:00", 8.0, version="1")
AGAIN = replace(HERS, renewed="10:00:02", version="2")
NOBODYS = replace(HERS, holder="")
MINE = replace(HERS, holder="me")
QUICK = replace(HERS, duration_s=3.0)

# What I see, and when: whether I may take it then.
STORIES = {
    "there is no Lease": [(0.0, LeaderRecord(), True)],
    "it was given back": [(0.0, HERS, False), (1.0, NOBODYS, True)],
    "it is mine, from before my restart": [(0.0, MINE, True)],
    "hers, for as long as she said": [(100.0, HERS, False), (107.9, HERS, False), (108.0, HERS, True)],
    "and she said less": [(0.0, QUICK, False), (2.9, QUICK, False), (3.0, QUICK, True)],
    "each renewal begins the wait anew": [
        (0.0, HERS, False), (7.9, AGAIN, False), (15.8, AGAIN, False), (15.9, AGAIN, True)
    ],
    "also one seen when it should be over": [(0.0, HERS, False), (9.0, AGAIN, False), (17.0, AGAIN, True)],
    "also one by somebody else": [
        (0.0, HERS, False), (7.0, HIS, False), (8.0, HIS, False)
    ],
    "and whatever else becomes of it": [(0.0, HERS, False), (8.0, replace(HERS, version="2"), False)],
    "an old renewal by her clock says nothing": [(0.0, replace(HERS, renewed="1970"), False)],
    "who looks for the first time waits, however long it lay there": [(1e9, HERS, False)],
}  # fmt: skip


@pytest.mark.parametrize("story", STORIES)
def test_a_lease_is_free(story: str) -> None:
    standby = Standby("me")
    assert [(at, standby.is_free(record, at)) for at, record, _ in STORIES[story]] == [
        (at, free) for at, _, free in STORIES[story]
    ]


def test_who_cannot_renew_stops_in_time() -> None:
    assert not must_stop(100.0, 100.0 + DEADLINE_S - 0.001)
    assert must_stop(100.0, 100.0 + DEADLINE_S)


def test_there_is_time_for_two_renewals_that_fail_and_for_writes_under_way() -> None:
    assert 2 * RENEW_EVERY_S < DEADLINE_S
    assert DEADLINE_S + LOOK_EVERY_S < DURATION_S, "what was sent before the deadline has arrived"
    assert LeaderRecord().duration_s == DURATION_S, "also of a Lease that says nothing of it"


seconds = st.floats(0.0, DEADLINE_S)
late = st.floats(0.0, LOOK_EVERY_S)


@given(st.lists(st.tuples(seconds, seconds, seconds), max_size=8), late, late, st.floats(-1e6, 1e6))
def test_nobody_takes_it_before_the_leader_has_stopped(
    story: list[tuple[float, float, float]], phase: float, late_s: float, offset: float
) -> None:
    """A renewal counts from when it is sent; it arrives, is answered, and is seen later. Clocks differ.

    Not even then if the server let it, which demands the very version that was seen.
    """
    renewals = [(0.0, 0.0, 0.0)]  # sent, there, answered
    for pause_s, there_s, back_s in story:
        before, _, ready = renewals[-1]
        sent = ready + pause_s
        answered = sent + there_s + back_s
        if must_stop(before, answered):
            break
        renewals.append((sent, sent + there_s, answered))
    standby, now = Standby("me"), phase
    while True:
        seen = sum(there + late_s <= now for _, there, _ in renewals)
        if seen and standby.is_free(replace(HERS, renewed=str(seen)), now + offset):
            break
        now += LOOK_EVERY_S
    assert must_stop(max(sent for sent, _, answered in renewals if answered <= now), now)
