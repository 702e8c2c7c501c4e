"""What BFD means for BGP: told as stories of a router."""

from collections.abc import Sequence
from dataclasses import replace
from ipaddress import ip_address

import pytest

from lbspeaker.core.gate import Gate, over_hops
from lbspeaker.model import BFDState, BFDStatus, Peer

ADMIN_DOWN, DOWN, INIT, UP = BFDState
SILENT = BFDStatus(DOWN)
BEGINS = BFDStatus(INIT, 0, DOWN, heard=True)
IS_UP = BFDStatus(UP, 0, UP, heard=True)
LOST = BFDStatus(DOWN, 1)
ITS_FALL = BFDStatus(DOWN, 3, DOWN, heard=True)
SHUT_DOWN = BFDStatus(DOWN, 3, ADMIN_DOWN, heard=True)
Heard = tuple[float, BFDStatus]


def gate(*story: Heard) -> tuple[Gate, list[float]]:
    """A gate that has heard this; and when it demanded an end."""
    one = Gate(ip_address("192.0.2.1"))
    one.watch(0.0, watched=True)
    return one, [at for at, status in story if one.heard(status, "nothing was heard", at)]


STORIES: list[tuple[str, Sequence[Heard], list[float], dict[float, bool]]] = [
    ("a router without BFD has BGP as usual", [], [], {0.0: False, 60.0: False}),
    ("BFD was never up, so nothing ends; it must come up first", [(1, BEGINS)], [], {1.5: True, 60: True}),
    ("up", [(1, BEGINS), (2, IS_UP)], [], {2: False}),
    ("a router that dies", [(1, BEGINS), (2, IS_UP), (9, LOST)], [9], {9: True, 11.9: True, 12.0: False}),
    ("it is back", [(2, IS_UP), (9, LOST), (10, BEGINS)], [9], {10: True, 100: True}),
    ("and up", [(2, IS_UP), (9, LOST), (10, BEGINS), (11, IS_UP)], [9], {11: False}),
    ("it hears us no more", [(2, IS_UP), (9, ITS_FALL), (9.1, BEGINS)], [9], {9: True, 60: True}),
    ("it shuts BFD down", [(2, IS_UP), (9, SHUT_DOWN)], [], {9: False, 60: False}),
    ("and has none any more", [(2, IS_UP), (9, SHUT_DOWN), (12, SILENT)], [], {12: False, 60: False}),
    ("and begins again", [(2, IS_UP), (9, SHUT_DOWN), (12, BEGINS)], [], {12: True}),
    ("down twice", [(2, IS_UP), (3, LOST), (4, BEGINS), (5, IS_UP), (6, LOST)], [3, 6], {6: True}),
    ("it falls silent before it was up", [(1, BEGINS), (4, SILENT)], [], {4: False}),
]


@pytest.mark.parametrize(("story", "heard", "ends", "shut"), STORIES, ids=[s[0] for s in STORIES])
def test_stories(story: str, heard: Sequence[Heard], ends: list[float], shut: dict[float, bool]) -> None:
    one, ended = gate(*heard)
    assert ended == ends, story
    assert {at: one.shut(at) is not None for at in shut} == shut


def test_it_says_why() -> None:
    one = Gate(ip_address("192.0.2.1"))
    one.watch(0.0, watched=True)
    one.heard(IS_UP, "", 1.0)
    assert one.heard(LOST, "nothing was heard", 2.0) == "BFD with 192.0.2.1 is down: nothing was heard"
    assert one.shut(2.0) == "BFD with 192.0.2.1 is down: nothing was heard"
    for at, status in ((2.2, BEGINS), (2.4, SILENT), (2.6, BEGINS), (60.0, BEGINS)):
        one.heard(status, "something else", at)
        assert one.shut(at) == "BFD with 192.0.2.1 is down: nothing was heard", "the first cause stays"


@pytest.mark.parametrize(
    "story",
    [
        [(1, BEGINS)],
        [(1, IS_UP), (2, LOST), (5, BEGINS)],
        [(1, IS_UP), (2, ITS_FALL), (4, SILENT), (6, BEGINS)],
        [(1, IS_UP), (2, ITS_FALL), (3, SHUT_DOWN), (3.5, BEGINS)],
    ],
    ids=["it was never up", "BGP went first", "the same, later", "BFD was shut down since"],
)
def test_a_cause_of_which_bgp_was_free_counts_no_more(story: Sequence[Heard]) -> None:
    one, _ = gate(*story)
    assert one.shut(7.0) == "waits for BFD with 192.0.2.1, which is not up yet"


def test_a_router_without_bfd_is_named_after_ten_seconds() -> None:
    one, _ = gate()
    assert one.complaint(9.9) is None
    assert one.next_wakeup(0.0) == 10.0
    assert one.complaint(10.0) == (
        "no BFD from 192.0.2.1 for 10 s; is bfd configured there for this neighbour?"
    )
    assert one.state == "silent"
    one.heard(IS_UP, "", 11.0)
    assert (one.complaint(60.0), one.state) == (None, "up")


def test_one_that_is_lost_is_silent_for_ten_seconds_first() -> None:
    one, _ = gate((5, IS_UP), (50, LOST))
    assert (one.complaint(59.9), one.state) == (None, "down")
    assert "no BFD from" in str(one.complaint(60.0))


def test_silence_is_counted_from_its_begin() -> None:
    one, _ = gate((5, IS_UP), (50, LOST), (58, SILENT))
    assert "no BFD from" in str(one.complaint(60.0))


def test_one_that_fell_has_ten_seconds_to_come_up_again() -> None:
    one, _ = gate((5, IS_UP), (50, ITS_FALL))
    assert one.complaint(59.9) is None
    assert "does not come up" in str(one.complaint(60.0))


def test_one_that_does_not_come_up_and_one_that_is_shut_down_are_named() -> None:
    one, _ = gate((1, BEGINS))
    assert "does not come up" in str(one.complaint(11.0))
    one.heard(SHUT_DOWN, "", 11.0)
    assert one.complaint(11.0) == "BFD is shut down on the router at 192.0.2.1; BGP goes on without it"
    assert one.state == "shut-down"


@pytest.mark.parametrize(
    "story",
    [[(50, BEGINS)], [(1, IS_UP), (2, LOST), (50, BEGINS)], [(1, IS_UP), (2, SHUT_DOWN), (50, BEGINS)]],
    ids=["the first time", "after a fall", "after it was shut down"],
)
def test_a_router_that_begins_late_has_ten_seconds_from_then_on(story: Sequence[Heard]) -> None:
    one, _ = gate(*story)
    assert one.complaint(59.9) is None
    assert one.next_wakeup(59.9) == 60.0
    assert "does not come up" in str(one.complaint(60.0))


def test_without_a_profile_there_is_no_gate_and_what_was_known_counts_no_more() -> None:
    one, _ = gate((5, IS_UP), (6, LOST))
    one.watch(6.5, watched=False)
    assert (one.shut(6.5), one.complaint(60), one.next_wakeup(6.5), one.state) == (None, None, None, "")
    one.watch(7.0, watched=True)
    assert one.shut(7.0) is None
    assert (one.complaint(16.9), one.complaint(17.0) is None) == (None, False)


EBGP, IBGP = (Peer("router", 64513, asn, ip_address("192.0.2.1")) for asn in (64512, 64513))
HOPS = [
    ("eBGP, on the same segment", EBGP, True, False),
    ("eBGP elsewhere, and nobody says so", EBGP, False, False),
    ("eBGP, as it is said", replace(EBGP, ebgp_multihop=True), True, True),
    ("GTSM with one hop", replace(EBGP, ttl_hops=1), True, False),
    ("GTSM with more", replace(EBGP, ttl_hops=2), True, True),
    ("iBGP, on the same segment", IBGP, True, False),
    ("iBGP elsewhere", IBGP, False, True),
]


@pytest.mark.parametrize(("story", "peer", "near", "over"), HOPS, ids=[story for story, *_ in HOPS])
def test_how_far_away_a_router_is(story: str, peer: Peer, near: bool, over: bool) -> None:
    assert over_hops(peer, near=near) is over, story
