"""Who is alive, as far as the Leases tell."""

from ipaddress import ip_address

import pytest

from lbspeaker.core.membership import Membership
from lbspeaker.model import Doubts, Lease, MemberLink


class World:
    """Speakers that renew once a second, and an API that may be silent."""

    def __init__(self, me: str, *others: str) -> None:
        self.me = me
        self.others = others
        self.membership = Membership(me)
        self.now = 0.0
        self.number = 0

    def second(self, *alive: str, api: bool = True) -> frozenset[str]:
        """One second passes, in which `alive` (and me) renew, as far as the API works."""
        self.now += 1.0
        self.number += 1
        if api:
            for node in (self.me, *alive):
                self.membership.observe(node, Lease(node, str(self.number)), self.now)
        return self.membership.members(self.now)


def test_nothing_is_known_before_the_own_lease_came_back() -> None:
    membership = Membership("a")
    membership.observe("b", Lease("b", "1"), 0.0)
    assert not membership.ready
    membership.observe("a", Lease("a", "1"), 0.5)
    assert membership.ready
    assert membership.members(0.5) == {"a", "b"}


def test_a_member_that_stops_renewing_is_dead_after_the_duration_of_its_lease() -> None:
    world = World("a", "b", "c")
    for _ in range(5):
        assert world.second("b", "c") == {"a", "b", "c"}
    died = world.now
    while world.second("c") == {"a", "b", "c"}:
        assert world.now < died + 10
    assert world.now - died == 4.0  # the first whole second after 3.0
    assert world.membership.members(world.now) == {"a", "c"}


def test_it_is_dead_at_once_and_not_at_the_next_renewal() -> None:
    world = World("a", "b")
    world.second("b")
    for _ in range(3):
        world.second()
    assert world.membership.members(world.now) == {"a", "b"}
    wakeup = world.membership.next_wakeup(world.now)
    assert wakeup is not None
    assert world.now < wakeup < world.now + 0.1
    assert world.membership.members(wakeup) == {"a"}


def test_a_silent_api_kills_nobody_however_long() -> None:
    world = World("a", "b", "c")
    for _ in range(3):
        world.second("b", "c")
    for _ in range(600):
        assert world.second(api=False) == {"a", "b", "c"}
    assert world.membership.next_wakeup(world.now) is None, "and nothing is to be looked at meanwhile"
    assert world.membership.silent_s(world.now) == 600


def test_when_it_is_back_everybody_has_time_to_be_seen_again() -> None:
    world = World("a", "b", "c")
    for _ in range(3):
        world.second("b", "c")
    for _ in range(60):
        world.second(api=False)
    assert world.second() == {"a", "b", "c"}
    assert world.second() == {"a", "b", "c"}
    assert world.second("b") == {"a", "b", "c"}
    world.second("b")
    assert world.second("b") == {"a", "b"}, "and who is dead since then is found out"


def test_who_was_dead_before_the_outage_does_not_come_to_life_by_it() -> None:
    world = World("a", "b")
    world.second("b")
    for _ in range(6):
        world.second()
    for _ in range(60):
        world.second(api=False)
    assert world.second() == {"a"}


def test_the_clocks_of_others_do_not_matter() -> None:
    membership = Membership("a")
    for second in range(20):
        now = float(second)
        membership.observe("a", Lease("a", f"{second}"), now)
        membership.observe("b", Lease("b", f"1970-01-01T00:00:{second:02d}Z"), now)
        assert membership.members(now) == {"a", "b"}


def test_seeing_the_same_renewal_again_is_no_sign_of_life() -> None:
    world = World("a", "b")
    for _ in range(9):
        world.second()
        world.membership.observe("b", Lease("b", "always the same"), world.now)
    assert world.membership.members(world.now) == {"a"}


def test_a_deleted_lease_is_a_farewell() -> None:
    world = World("a", "b")
    world.second("b")
    world.membership.observe("b", None, world.now)
    assert world.membership.members(world.now) == {"a"}


def test_who_drains_takes_no_part_although_it_lives() -> None:
    world = World("a", "b")
    world.second("b")
    world.membership.observe("b", Lease("b", "x", draining=True), world.now)
    assert world.membership.members(world.now) == {"a"}


def test_before_the_own_lease_was_seen_no_time_passes() -> None:
    membership = Membership("a")
    membership.observe("b", Lease("b", "1"), 0.0)
    assert membership.members(1000.0) == {"b"}
    assert membership.silent_s(1000.0) == 0.0
    assert membership.next_wakeup(1000.0) is None


def test_each_lease_lasts_as_long_as_it_says() -> None:
    membership = Membership("a")
    membership.observe("a", Lease("a", "0"), 0.0)
    membership.observe("b", Lease("b", "1", duration_s=10.0), 0.0)
    for second in range(1, 11):
        membership.observe("a", Lease("a", str(second)), second + 0.0)
        assert membership.members(second + 0.0) == {"a", "b"}
    membership.observe("a", Lease("a", "11"), 11.0)
    assert membership.members(11.0) == {"a"}


def test_the_own_lease_never_ends_by_the_own_clock() -> None:
    membership = Membership("a", duration_s=3.0)
    membership.observe("a", Lease("a", "1", duration_s=0.1), 0.0)
    assert membership.members(1.4) == {"a"}


def test_it_is_looked_again_when_the_first_of_them_may_be_dead() -> None:
    membership = Membership("a")
    membership.observe("a", Lease("a", "1"), 0.0)
    membership.observe("b", Lease("b", "1", duration_s=1.0), 0.0)
    membership.observe("c", Lease("c", "1", duration_s=2.0), 0.0)
    assert membership.next_wakeup(0.5) == 1.0 + 1e-3
    assert membership.members(1.0 + 1e-3) == {"a", "c"}
    assert membership.next_wakeup(1.0 + 1e-3) == 2.0 + 1e-3
    assert membership.next_wakeup(1.5) is None, "the own Lease was not seen for half its duration"


def test_a_clock_that_steps_back_kills_nobody() -> None:
    world = World("a", "b")
    world.second("b")
    world.now = -100.0
    for _ in range(3):
        assert world.second("b") == {"a", "b"}


def test_links_are_those_of_who_tells_of_them_and_a_change_is_news() -> None:
    membership = Membership("a")
    eth0, eth1 = (MemberLink("eth0", b""),), (MemberLink("eth1", b""),)
    news = [
        membership.observe("b", Lease("b", "1", links=eth0), 0.0),
        membership.observe("b", Lease("b", "2", links=eth0), 1.0),
        membership.observe("b", Lease("b", "2", links=eth1), 1.0),
        membership.observe("c", Lease("c", "1"), 1.0),
        membership.observe("c", Lease("c", "2"), 2.0),
    ]
    assert news == [True, False, True, True, False]
    assert membership.links == {"b": eth1}
    assert membership.known == {"b", "c"}
    assert membership.observe("b", None, 2.0)
    assert not membership.observe("c", None, 2.0)
    assert not membership.observe("z", None, 2.0)
    assert membership.links == {}
    assert membership.known == frozenset()


def test_what_a_member_doubts_is_remembered_when_it_has_left() -> None:
    membership, ips = Membership("a"), frozenset({ip_address("192.0.2.9")})
    assert ip_address("192.0.2.9") not in membership.doubts("b")
    assert membership.observe("b", Lease("b", "1", doubts=Doubts(ips)), 0.0)
    assert not membership.observe("b", Lease("b", "2", doubts=Doubts(ips)), 1.0)
    membership.observe("b", None, 2.0)
    assert ip_address("192.0.2.9") in membership.doubts("b")
    assert ip_address("192.0.2.8") not in membership.doubts("b")
    assert membership.observe("b", Lease("b", "3", doubts=Doubts(everything=True)), 3.0)
    assert ip_address("192.0.2.8") in membership.doubts("b")


@pytest.mark.parametrize("says_hellos", [True, False])
def test_who_is_dead_and_claims_lives_by_its_hellos_and_without_any_by_its_lease(says_hellos: bool) -> None:
    """Until it returns for good, or dies at this very moment."""
    membership = Membership("a")
    dead, returning = frozenset("b"), frozenset("b" if says_hellos else "")
    membership.seen("eth0", dead)
    membership.seen("eth0", dead, returning)
    assert membership.silent == {"eth0": {"b"}}
    assert membership.fallen() == (frozenset() if says_hellos else dead)
    assert membership.lives("eth0", "b")
    assert membership.silent == {} and not membership.fallen()
    membership.seen("eth0", dead)
    assert membership.silent == ({"eth0": {"b"}} if says_hellos else {})


def test_who_is_silent_on_a_link_is_known_until_it_is_heard_or_the_link_is_gone() -> None:
    membership = Membership("a")
    membership.seen("eth0", frozenset("b"))
    membership.seen("eth1", frozenset("bc"))
    membership.seen("eth2", frozenset())
    assert membership.silent == {"eth0": {"b"}, "eth1": {"b", "c"}}
    membership.seen("eth1", frozenset())
    assert membership.silent == {"eth0": {"b"}}
    membership.seen("eth1", frozenset("b"))
    membership.keep_links(frozenset({"eth1"}))
    assert membership.silent == {"eth1": {"b"}}


def test_for_how_long_who_is_dead_was_not_renewed() -> None:
    world = World("a", "b", "c")
    for _ in range(3):
        world.second("b", "c")
    assert world.membership.unrenewed_s("b", world.now) is None, "it lives"
    for _ in range(4):
        world.second("c")
    assert world.membership.unrenewed_s("b", world.now) == 4.0
    assert world.membership.unrenewed_s("x", world.now) is None, "nobody knows it"
    world.membership.observe("b", Lease("b", "9", draining=True), world.now)
    assert world.membership.unrenewed_s("b", world.now) is None, "it leaves"
    world.membership.observe("b", None, world.now)
    assert world.membership.unrenewed_s("b", world.now) is None, "it has left"
