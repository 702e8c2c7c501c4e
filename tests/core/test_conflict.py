"""Conflicts with hosts that are no speakers: defended sparingly, given up where that is wanted."""

import itertools
from typing import Literal

from hypothesis import given
from hypothesis import strategies as st

from lbspeaker.core.conflict import Conflicts, Reaction
from tests.build import ip

WEB, DNS = ip("192.0.2.10"), ip("192.0.2.53")
PRINTER, CAMERA = "02:00:00:00:00:01", "02:00:00:00:00:02"
DEFEND, YIELD, NOTHING = Reaction.DEFEND, Reaction.YIELD, Reaction.NOTHING

Policy = Literal["Defend", "Yield"]


def claims(conflicts: Conflicts, policy: Policy, *times: float, mac: str = PRINTER) -> list[Reaction]:
    return [conflicts.claimed(WEB, mac, policy, now) for now in times]


def test_a_claim_is_answered_at_once_and_not_again_within_ten_seconds() -> None:
    found = claims(Conflicts(), "Defend", 100.0, 100.1, 109.9, 110.0, 110.1)
    assert found == [DEFEND, NOTHING, NOTHING, DEFEND, NOTHING]


def test_who_yields_defends_once_and_gives_up_at_the_second_claim() -> None:
    conflicts = Conflicts()
    assert claims(conflicts, "Yield", 100.0) == [DEFEND]
    assert WEB not in conflicts.held_back
    assert claims(conflicts, "Yield", 109.9, 110.0, 130.0) == [YIELD, NOTHING, NOTHING]
    assert WEB in conflicts.held_back


def test_claims_that_come_rarely_are_defended_each_time_also_by_who_yields() -> None:
    assert claims(Conflicts(), "Yield", 0.0, 10.0, 20.0) == [DEFEND] * 3


def test_each_ip_has_a_conflict_of_its_own() -> None:
    conflicts = Conflicts()
    claims(conflicts, "Yield", 0.0, 1.0)
    assert conflicts.claimed(DNS, PRINTER, "Yield", 1.0) is DEFEND
    assert DNS not in conflicts.held_back


def test_two_strangers_share_one_defence() -> None:
    conflicts = Conflicts()
    assert claims(conflicts, "Defend", 0.0) == [DEFEND]
    assert claims(conflicts, "Defend", 0.1, 9.9, mac=CAMERA) == [NOTHING] * 2
    assert conflicts.mac_of(WEB) == CAMERA
    assert claims(conflicts, "Yield", 9.9) == [YIELD]
    assert claims(conflicts, "Yield", 10.5, mac=CAMERA) == [NOTHING], "it is not ours now, whoever has it"
    assert WEB in conflicts.held_back


def test_what_is_in_use_when_it_is_probed_is_not_announced_whatever_the_policy() -> None:
    conflicts = Conflicts()
    conflicts.refused(WEB, PRINTER, 100.0)
    assert WEB in conflicts.held_back
    assert conflicts.mac_of(WEB) == PRINTER
    assert claims(conflicts, "Defend", 130.0) == [NOTHING]


def test_it_is_tried_again_a_minute_after_it_was_given_up_and_not_after_the_last_claim() -> None:
    conflicts = Conflicts()
    claims(conflicts, "Yield", 95.0, 100.0, 159.0)
    assert conflicts.next_wakeup() == 160.0
    assert conflicts.advance(159.9) == []
    assert conflicts.advance(160.0) == [WEB]
    assert WEB not in conflicts.held_back
    assert conflicts.mac_of(WEB) is None
    assert conflicts.advance(160.0) == []
    assert conflicts.next_wakeup() is None
    assert claims(conflicts, "Yield", 161.0) == [DEFEND], "and all begins anew"


def test_a_conflict_without_a_claim_for_a_minute_is_over_and_nothing_has_to_be_tried() -> None:
    conflicts = Conflicts()
    claims(conflicts, "Defend", 0.0, 30.0)
    assert conflicts.next_wakeup() == 90.0
    conflicts.advance(89.9)
    assert conflicts.mac_of(WEB) == PRINTER
    assert conflicts.advance(90.0) == []
    assert conflicts.mac_of(WEB) is None


def test_of_several_the_next_one_wakes() -> None:
    conflicts = Conflicts()
    claims(conflicts, "Defend", 10.0)
    conflicts.refused(DNS, PRINTER, 5.0)
    assert conflicts.next_wakeup() == 65.0
    conflicts.advance(65.0)
    assert conflicts.next_wakeup() == 70.0


def test_what_is_not_announced_any_more_has_no_conflict() -> None:
    conflicts = Conflicts()
    conflicts.refused(WEB, PRINTER, 0.0)
    conflicts.forget(WEB)
    conflicts.forget(DNS)
    assert WEB not in conflicts.held_back
    assert conflicts.mac_of(WEB) is None
    assert conflicts.next_wakeup() is None


@given(
    st.lists(
        st.tuples(st.floats(0, 15), st.sampled_from("abc"), st.sampled_from(["Defend", "Yield", "refused"])),
        max_size=60,
    )
)
def test_whatever_comes_it_is_defended_once_in_ten_seconds_and_never_while_given_up(
    events: list[tuple[float, str, Policy | Literal["refused"]]],
) -> None:
    conflicts, now, defended = Conflicts(), 0.0, []
    for pause, mac, what in events:
        now += pause
        conflicts.advance(now)
        held_back = WEB in conflicts.held_back
        if what == "refused":
            conflicts.refused(WEB, mac, now)
        elif conflicts.claimed(WEB, mac, what, now) is DEFEND:
            assert not held_back
            defended.append(now)
        wakeup = conflicts.next_wakeup()
        assert wakeup is not None
        assert wakeup > now
    assert all(after - before >= 10 - 1e-6 for before, after in itertools.pairwise(defended))


def test_what_no_service_has_any_more_is_forgotten() -> None:
    conflicts = Conflicts()
    conflicts.refused(WEB, PRINTER, 0.0)
    conflicts.refused(DNS, CAMERA, 0.0)
    conflicts.keep({DNS})
    assert (WEB in conflicts.held_back, DNS in conflicts.held_back) == (False, True)
