"""One acts: who may take the Lease when, by his own clock alone, and when the one before has stopped."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lbspeaker.core import leadership
from lbspeaker.core.leadership import DEADLINE_S, DURATION_S, LOOK_EVERY_S, RENEW_EVERY_S, Standby, must_stop
from lbspeaker.model import LeaderRecord

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
        (0.0, HERS, False), (7.9, AGAIN, False), (8.0, AGAIN, False), (15.8, AGAIN, False), (15.9, AGAIN, True)
    ],
    "also one that I see when it should be over": [(0.0, HERS, False), (9.0, AGAIN, False), (17.0, AGAIN, True)],
    "also one by somebody else": [
        (0.0, HERS, False), (7.0, replace(HERS, holder="him"), False), (8.0, replace(HERS, holder="him"), False)
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


delays = st.floats(0.0, LOOK_EVERY_S)


@given(
    st.lists(st.tuples(st.floats(0.0, DEADLINE_S, exclude_max=True), delays), min_size=1, max_size=8),
    st.floats(0.0, LOOK_EVERY_S),
    delays,
    st.floats(-1e6, 1e6),
)
def test_nobody_takes_it_before_the_leader_has_stopped(
    renewals: list[tuple[float, float]], phase: float, late: float, offset: float
) -> None:
    """The leader counts from when a renewal is sent; it arrives late, and is seen later. Clocks differ."""
    sent, moments = 0.0, []
    for pause_s, under_way_s in renewals:
        sent += pause_s
        moments.append((sent, sent + under_way_s))
    taken, now = None, phase
    standby = Standby("me")
    while taken is None:
        arrived = sum(there + late <= now for _, there in moments)
        if arrived and standby.is_free(replace(HERS, renewed=str(arrived)), now + offset):
            taken = now
        now += LOOK_EVERY_S
    last = max((s for s, _ in moments if s <= taken), default=0.0)
    stopped = next(
        (s + DEADLINE_S for s, after in zip(moments, [*moments[1:], None], strict=True) if 0) , last
    ) if False else last + DEADLINE_S
    assert taken >= stopped
