"""What is said about an IP: nothing before it is known to be free, nothing against a better right."""

import itertools
import random

import pytest

from lbspeaker.core.guard import PROFILES, Guard, Occasion
from lbspeaker.core.voice import MOST_HOT, Claim, Voice
from lbspeaker.model import LinkPolicy

ONE, TWO = b"\xc0\x00\x02\x0a", b"\xc0\x00\x02\x0b"
MAC, OTHER = bytes.fromhex("020000000001"), bytes.fromhex("020000000002")
NEVER = LinkPolicy("", refresh_s=0)
NEW, TAKEOVER, REFRESH, PROBE = Occasion.NEW, Occasion.TAKEOVER, Occasion.REFRESH, Occasion.PROBE


class Wire:
    """A voice and its guard, and what left, when: (time, IP, occasion); the time is 0.0 at first."""

    def __init__(self, roll: float = 0.5, **policy: object) -> None:
        policy = {"refresh_s": 0, **policy}
        self.guard = Guard(PROFILES["fast"], 0.0, lambda: 0.0)
        self.voice = Voice("eth0", self.guard, LinkPolicy("", **policy), 0.0, lambda: roll)  # type: ignore[arg-type]
        self.now = 0.0
        self.left: list[tuple[float, bytes, Occasion]] = []
        self.answered: list[tuple[float, bytes]] = []

    def own(self, ip: bytes, occasion: Occasion, *above: str, **fields: bool) -> bool:
        return self.voice.own(ip, occasion, self.now, above=frozenset(above), **fields)

    def run(self, until: float) -> list[str]:
        """Let time pass; return the occasions of what left meanwhile."""
        before = len(self.left)
        while True:
            self.answered += [(self.now, ip) for ip in self.voice.advance(self.now)]
            for sending in self.guard.due(self.now):
                link, ip = sending.key
                assert link == "eth0"
                assert sending.occasion is not None
                self.left.append((self.now, ip, sending.occasion))
                self.voice.left(ip, sending.occasion, self.now)
            wakeups = [self.voice.next_wakeup(), self.guard.next_wakeup()]
            wake = min(wakeup for wakeup in wakeups if wakeup is not None)
            assert wake > self.now, "who asks when to look again is not told: now"
            if wake > until:
                break
            self.now = wake
        self.now = until
        return [occasion.name for _, _, occasion in self.left[before:]]


# --- is it free? ----------------------------------------------------------------------------------------


def test_with_dad_off_a_new_ip_is_answered_at_once() -> None:
    wire = Wire(dad="off")
    assert wire.own(ONE, NEW)
    assert ONE in wire.voice.owned
    assert wire.run(9) == ["NEW"]


def test_with_dad_fast_it_is_answered_a_quarter_of_a_second_after_the_one_probe() -> None:
    wire = Wire(dad="fast")
    assert not wire.own(ONE, NEW)
    assert ONE not in wire.voice.owned
    assert wire.run(9) == ["PROBE", "NEW"]
    (probed, *_), (told, *_) = wire.left
    ((answered, ip),) = wire.answered
    assert ip == ONE
    assert answered == pytest.approx(probed + 0.25)
    assert not wire.voice.in_use(ONE), "what others say of it now is no answer to the probe"
    assert told == pytest.approx(answered, abs=0.002)


@pytest.mark.parametrize(("roll", "apart_s"), [(0.0, 1.0), (0.5, 1.5), (1.0, 2.0)])
def test_with_dad_rfc_there_are_three_probes_and_two_seconds_of_silence(roll: float, apart_s: float) -> None:
    wire = Wire(roll, dad="rfc")
    wire.own(ONE, NEW)
    assert wire.run(3 + 2 * apart_s) == ["PROBE", "PROBE", "PROBE", "NEW"]
    first, second, third, _ = (at for at, *_ in wire.left)
    assert (second - first, third - second) == pytest.approx((apart_s, apart_s), abs=0.01)
    assert wire.answered == [(pytest.approx(third + 2.0), ONE)]


def test_the_wait_begins_when_the_probe_has_left_and_not_when_it_was_asked_for() -> None:
    wire = Wire(dad="fast")
    wire.own(ONE, NEW)
    assert wire.voice.advance(100.0) == []
    assert wire.voice.next_wakeup() == float("inf")
    wire.voice.left(ONE, PROBE, 100.0)
    assert wire.voice.advance(100.24) == []
    assert wire.voice.next_wakeup() == 100.25
    assert wire.voice.advance(100.25) == [ONE]
    assert wire.voice.advance(100.25) == []


def test_a_probe_that_has_to_wait_is_asked_for_once() -> None:
    wire = Wire(dad="rfc")
    wire.own(ONE, NEW)
    wire.voice.left(ONE, PROBE, 0.0)
    wire.guard.cancel(("eth0", ONE))
    for now in (1.5, 2.0):
        assert wire.voice.advance(now) == []
        assert wire.voice.next_wakeup() == float("inf")
    assert wire.guard.queue_length == 1
    assert wire.guard.counts.coalesced == 0


def test_what_else_leaves_is_no_probe() -> None:
    wire = Wire(dad="fast")
    wire.own(ONE, NEW)
    wire.voice.left(ONE, NEW, 0.0)
    wire.voice.left(TWO, PROBE, 0.0)
    assert wire.voice.next_wakeup() == float("inf")


@pytest.mark.parametrize("occasion", [TAKEOVER, REFRESH])
def test_an_ip_that_moves_or_stays_is_not_probed(occasion: Occasion) -> None:
    wire = Wire(dad="rfc")
    assert wire.own(ONE, occasion)
    assert wire.run(1) == [occasion.name]


def test_a_takeover_ends_a_probe() -> None:
    wire = Wire(dad="rfc")
    wire.own(ONE, NEW, "z")
    wire.run(0.1)
    assert wire.own(ONE, TAKEOVER, "a")
    assert wire.run(9) == ["TAKEOVER", "REPEAT", "REPEAT"]
    assert wire.voice.owned == {ONE: {"a"}}
    assert wire.voice.probes == {}
    waits = Wire(dad="fast")
    waits.own(ONE, NEW)
    assert waits.own(ONE, TAKEOVER)
    assert waits.run(9) == ["TAKEOVER", "REPEAT", "REPEAT"], "and the probe that waited does not leave either"


def test_what_is_told_again_is_probed_to_the_end() -> None:
    wire = Wire(dad="fast")
    assert not wire.own(ONE, NEW)
    assert wire.run(0.1) == ["PROBE"]
    assert not wire.own(ONE, REFRESH)
    wire.run(1)
    ((answered, _),) = wire.answered
    assert answered == pytest.approx(wire.left[0][0] + 0.25)


def test_asking_for_it_again_while_it_is_probed_changes_who_outranks_us_and_nothing_else() -> None:
    wire = Wire(dad="fast")
    wire.own(ONE, NEW, "a")
    wire.run(0.1)
    assert not wire.own(ONE, NEW, "b", again=True)
    assert wire.run(9) == ["NEW"]
    assert wire.voice.owned == {ONE: {"b"}}


def test_an_ip_that_is_in_use_is_given_up_and_that_is_news_once() -> None:
    wire = Wire(dad="rfc")
    wire.own(ONE, NEW)
    wire.run(0.1)
    assert wire.voice.in_use(ONE)
    assert not wire.voice.in_use(ONE)
    assert wire.run(30) == []
    assert wire.voice.owned == {}
    wire.own(TWO, TAKEOVER)
    assert not wire.voice.in_use(TWO), "nobody asked"
    assert TWO in wire.voice.owned


def test_a_release_while_it_is_probed_leaves_nothing_behind() -> None:
    wire = Wire(dad="fast")
    wire.own(ONE, NEW)
    wire.voice.release(ONE)
    assert wire.guard.queue_length == 0
    wire.own(TWO, NEW)
    wire.run(0.1)
    wire.voice.release(TWO)
    assert wire.run(9) == []
    assert wire.voice.owned == {}


# --- owned twice, and again ------------------------------------------------------------------------------


def test_owning_what_is_owned_says_nothing_unless_it_is_to_be_said_again() -> None:
    wire = Wire(dad="fast")
    wire.own(ONE, TAKEOVER, "a")
    wire.run(9)
    assert wire.own(ONE, TAKEOVER, "b")
    assert wire.own(ONE, NEW, "b"), "what is answered is not probed"
    assert wire.run(18) == []
    assert wire.voice.owned == {ONE: {"b"}}
    assert wire.own(ONE, NEW, "b", again=True)
    assert wire.run(27) == ["NEW"]


def test_what_is_released_is_not_answered_and_nothing_more_is_said_of_it() -> None:
    wire = Wire()
    wire.own(ONE, TAKEOVER)
    assert wire.run(0.5) == ["TAKEOVER"]
    wire.voice.release(ONE)
    assert wire.run(9) == []
    assert wire.voice.owned == {}


# --- claims of others ------------------------------------------------------------------------------------

CLAIMS = {
    "a stranger: the speaker decides": ("", False, False),
    "a member that comes after us: the speaker decides": ("z", False, False),
    "a member that comes before us": ("a", False, True),
    "any member, when we are in doubt": ("z", True, True),
    "but no stranger": ("", True, False),
}


@pytest.mark.parametrize(("node", "doubtful", "yields"), CLAIMS.values(), ids=CLAIMS)
def test_whether_we_yield_to(node: str, doubtful: bool, yields: bool) -> None:
    wire = Wire()
    wire.own(ONE, TAKEOVER, "a", "b")
    wire.run(0.5)
    claim = wire.voice.claimed(ONE, MAC, node, 0.5, doubtful=doubtful)
    assert claim == Claim(ONE, MAC, node, yielded=yields)
    assert (ONE in wire.voice.owned) is not yields
    assert wire.run(9) == ([] if yields else ["REPEAT", "REPEAT"]), "who yields says nothing more"


def test_claims_of_strangers_are_told_once_in_a_second_and_those_of_members_at_once() -> None:
    wire = Wire()
    wire.own(ONE, TAKEOVER)
    told = [tenth for tenth in range(25) if wire.voice.claimed(ONE, MAC, "", tenth / 10)]
    assert told == [0, 10, 20]
    assert not wire.voice.claimed(ONE, OTHER, "", 2.5), "MACs cost a stranger nothing"
    assert wire.voice.claimed(ONE, OTHER, "b", 2.5) == Claim(ONE, OTHER, "b", yielded=False)
    wire.own(TWO, TAKEOVER)
    assert wire.voice.claimed(TWO, OTHER, "", 2.5), "it is about another IP"


def test_who_owns_it_anew_is_told_of_claims_anew() -> None:
    wire = Wire()
    wire.own(ONE, TAKEOVER)
    assert wire.voice.claimed(ONE, MAC, "", 0.0)
    wire.voice.release(ONE)
    wire.own(ONE, TAKEOVER)
    assert wire.voice.claimed(ONE, MAC, "", 0.1)


def test_there_is_nothing_to_yield_where_nothing_is_answered() -> None:
    wire = Wire()
    assert wire.voice.claimed(ONE, MAC, "a", 0.0, doubtful=True) == Claim(ONE, MAC, "a", yielded=False)


def test_two_that_take_over_the_same_ip_become_one_in_one_frame() -> None:
    first, second = Wire(), Wire()
    first.own(ONE, TAKEOVER)
    second.own(ONE, TAKEOVER, "first")
    assert first.voice.claimed(ONE, MAC, "second", 0.0) == Claim(ONE, MAC, "second", yielded=False)
    assert second.voice.claimed(ONE, OTHER, "first", 0.0) == Claim(ONE, OTHER, "first", yielded=True)


# --- what clients ask for --------------------------------------------------------------------------------


def test_what_was_asked_for_within_a_minute_goes_first() -> None:
    wire = Wire()
    wire.voice.asked(b"%4d" % 7, -59.9)
    wire.voice.asked(b"%4d" % 3, -60.0)
    for number in range(10):
        wire.own(b"%4d" % number, TAKEOVER)
    wire.run(0.5)
    assert [int(ip) for _, ip, _ in wire.left] == [7, 0, 1, 2, 3, 4, 5, 6, 8, 9]


def test_probes_for_what_clients_ask_for_go_first_too() -> None:
    wire = Wire(dad="fast")
    wire.voice.asked(TWO, 0.0)
    wire.own(ONE, NEW)
    wire.own(TWO, NEW)
    wire.run(0.1)
    assert [ip for _, ip, _ in wire.left] == [TWO, ONE]


def test_of_more_than_can_be_remembered_those_asked_for_last_are() -> None:
    wire = Wire()
    for number in range(MOST_HOT):
        wire.voice.asked(b"%4d" % number, 0.0)
    wire.voice.asked(b"%4d" % 1, 0.0)
    wire.voice.asked(b"9999", 0.0)
    for number in (0, 1, 2):
        wire.own(b"%4d" % number, TAKEOVER)
    wire.run(0.5)
    assert [int(ip) for _, ip, _ in wire.left] == [1, 2, 0], "0 was the one asked for longest ago"


# --- now and then ---------------------------------------------------------------------------------------


def times(wire: Wire, until: float) -> list[float]:
    """When something was told again."""
    before = len(wire.left)
    wire.run(until)
    assert {occasion for *_, occasion in wire.left[before:]} <= {REFRESH}
    return [at for at, *_ in wire.left[before:]]


@pytest.mark.parametrize(("roll", "every_s"), [(0.0, 60.0), (0.5, 90.0), (1.0, 120.0)])
def test_one_ip_of_a_link_is_told_again_between_two_thirds_and_four_thirds_of_the_period(
    roll: float, every_s: float
) -> None:
    wire = Wire(roll, refresh_s=90)
    wire.own(ONE, REFRESH)
    wire.own(TWO, REFRESH)
    wire.run(1)
    assert times(wire, 1000) == pytest.approx(
        [every_s * n for n in range(1, int(1000 / every_s) + 1)], abs=0.1
    )


def test_every_ip_has_its_turn() -> None:
    wire = Wire(refresh_s=90)
    ips = [b"%4d" % number for number in range(5)]
    for ip in ips:
        wire.own(ip, REFRESH)
    wire.run(1)
    wire.run(90 * 10 + 1)
    assert [ip for _, ip, _ in wire.left[5:]] == ips * 2


def test_or_each_ip_is_told_again_once_in_the_period() -> None:
    wire = Wire(refresh_s=90, refresh="IP")
    ips = [b"%4d" % number for number in range(9)]
    for ip in ips:
        wire.own(ip, REFRESH)
    wire.run(1)
    found = times(wire, 91)
    assert found == pytest.approx([10.0 * n for n in range(1, 10)], abs=0.1)
    assert sorted(ip for _, ip, _ in wire.left[9:]) == ips
    for ip in ips[1:]:
        wire.voice.release(ip)
    assert times(wire, 280) == pytest.approx([180.0, 270.0], abs=0.1), "the fewer, the more rarely"


def test_with_nothing_to_tell_nothing_is_told() -> None:
    for kind in ("Link", "IP"):
        wire = Wire(refresh_s=90, refresh=kind)
        assert wire.run(1000) == []


def test_a_period_that_is_edited_counts_at_once() -> None:
    wire = Wire(refresh_s=0)
    wire.own(ONE, REFRESH)
    wire.run(1)
    assert times(wire, 1000) == []
    wire.voice.policy = LinkPolicy("", refresh_s=90)
    assert times(wire, 1100) == pytest.approx([1000.0, 1090.0], abs=0.1)
    wire.voice.policy = LinkPolicy("", refresh_s=10)
    assert times(wire, 1121) == pytest.approx([1100.0, 1110.0, 1120.0], abs=0.1)
    wire.voice.policy = NEVER
    assert times(wire, 2000) == []


def test_links_do_not_tell_again_all_at_the_same_time() -> None:
    roll = random.Random(1).random
    voices = [Voice("eth0", Guard(PROFILES["fast"], 0.0), LinkPolicy(""), 0.0, roll) for _ in range(200)]
    moments = sorted(voice.next_wakeup() for voice in voices)
    assert 60 <= moments[0] < 62
    assert 118 < moments[-1] < 120
    assert max(after - before for before, after in itertools.pairwise(moments)) < 4
