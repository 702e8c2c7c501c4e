"""The composed speaker: what it does, and when."""

import random
from dataclasses import replace
from ipaddress import ip_interface, ip_network
from itertools import pairwise

import pytest

from lbspeaker.core.announce import Release, SetPeer, SetRoutes
from lbspeaker.core.election import rank
from lbspeaker.core.guard import Occasion
from lbspeaker.core.lifecycle import State
from lbspeaker.core.speaker import GATE, Announce, Effect, Leave, Renew, Speaker, Tell, WritePins
from lbspeaker.model import (
    EXCLUDE,
    BGPAdvertisement,
    Change,
    ConfigSet,
    Doubts,
    Endpoint,
    EndpointSlice,
    Kind,
    L2Advertisement,
    Lease,
    Link,
    LinkPolicy,
    MemberLink,
    Node,
    Pin,
    Pins,
    Secret,
    SecretRef,
    Service,
    Snapshot,
    Synced,
)
from tests.build import ROUTER, ip, pool, selector, service, snapshot

IP = ip("192.0.2.10")
WEB = service("web", held="192.0.2.10")  # of a, b, c: the owner is found by the ranking
SERVICES = [service(f"s{n}", held=f"192.0.2.{n + 10}") for n in range(30)]
NO_RENEWAL = float("inf")


def tell(speaker: Speaker, world: Snapshot, now: float) -> None:
    """Let the speaker observe everything in `world`."""
    speaker.observe(Change(Kind.CONFIG, "", ConfigSet(world.config)), now)
    for key, value in world.services.items():
        speaker.observe(Change(Kind.SERVICE, key, value), now)
        slice_ = EndpointSlice(f"{key}-1", key, world.endpoints[key])
        speaker.observe(Change(Kind.ENDPOINT_SLICE, slice_.key, slice_), now)
    for name, node in world.nodes.items():
        speaker.observe(Change(Kind.NODE, name, node), now)


def renew(speaker: Speaker, now: float, *nodes: str) -> None:
    for node in nodes:
        speaker.observe(Change(Kind.LEASE, node, Lease(node, str(now))), now)


def started(world: Snapshot, node: str = "a", *, resumed: bool = False) -> tuple[Speaker, list[Effect]]:
    """A speaker that has just been told everything, and what it did then."""
    speaker = Speaker(node, resumed=resumed)
    tell(speaker, world, 0.0)
    for kind in GATE | {Kind.LEASE}:
        speaker.observe(Synced(kind), 0.0)
    renew(speaker, 0.0, *world.members)
    return speaker, work(speaker, 0.0)


def work(speaker: Speaker, now: float) -> list[Effect]:
    """What it does now, its Lease aside."""
    return [effect for effect in speaker.advance(now) if not isinstance(effect, Renew)]


def announced(effects: list[Effect]) -> dict[str, Occasion]:
    return {str(effect.ip): effect.occasion for effect in effects if isinstance(effect, Announce)}


def change(speaker: Speaker, value: Service | None, now: float, key: str = "default/web") -> list[Effect]:
    speaker.observe(Change(Kind.SERVICE, key, value), now)
    return work(speaker, now)


def test_it_announces_nothing_before_it_has_seen_everything() -> None:
    speaker = Speaker("a")
    tell(speaker, snapshot(WEB, nodes="a"), 0.0)
    for kind in sorted(GATE | {Kind.LEASE}):
        assert work(speaker, 0.0) == []
        speaker.observe(Synced(kind), 0.0)
    assert work(speaker, 0.0) == [], "its own Lease has not come back: it does not know who else is there"
    renew(speaker, 0.0, "a")
    assert list(announced(work(speaker, 0.0))) == ["192.0.2.10"]
    assert speaker.state is State.SERVING


def test_three_speakers_share_the_ips_without_a_gap_and_without_an_overlap() -> None:
    world = snapshot(*SERVICES)
    owned = [set(announced(started(world, node)[1])) for node in "abc"]
    assert set.union(*owned) == {str(s.held[0]) for s in SERVICES}
    assert sum(map(len, owned)) == len(SERVICES)


def test_a_new_service_is_new_and_what_a_dead_member_owned_is_a_takeover() -> None:
    world = snapshot(*SERVICES)
    speaker, _ = started(world)
    for second in range(1, 8):
        renew(speaker, float(second), "a", "c")
        effects = work(speaker, float(second))
        if announced(effects):
            break
    assert second == 4
    taken = announced(effects)
    assert taken
    assert set(taken.values()) == {Occasion.TAKEOVER}
    assert not any(isinstance(effect, Release) for effect in effects)
    fresh = service("fresh", held="192.0.2.59")
    slice_ = EndpointSlice("default/fresh-1", fresh.key, world.endpoints["default/s0"])
    speaker.observe(Change(Kind.ENDPOINT_SLICE, slice_.key, slice_), 9.0)
    renew(speaker, 9.0, "a")
    speaker.observe(Change(Kind.LEASE, "c", None), 9.0)
    effects = change(speaker, fresh, 9.0, fresh.key)
    assert announced(effects)["192.0.2.59"] is Occasion.NEW


def test_after_a_start_it_matters_who_may_have_answered_before() -> None:
    alone = snapshot(WEB, nodes="a")
    assert announced(started(alone)[1]) == {"192.0.2.10": Occasion.NEW}, "nobody, as far as is known"
    assert announced(started(alone, resumed=True)[1]) == {"192.0.2.10": Occasion.REFRESH}, "itself, just now"
    first, _ = rank(IP, {"a": 0, "b": 0})
    both = snapshot(WEB, nodes="a b")
    assert announced(started(both, first)[1]) == {"192.0.2.10": Occasion.TAKEOVER}, "the other one"
    assert announced(started(both, first, resumed=True)[1]) == {"192.0.2.10": Occasion.TAKEOVER}


def doubting(node: str, doubts: Doubts, *, resumed: bool = False) -> list[Effect]:
    """What the first of two nodes does when it starts, if that node's Lease says so."""
    first, second = rank(IP, {"a": 0, "b": 0})
    speaker = Speaker(first, resumed=resumed)
    tell(speaker, snapshot(WEB, nodes="a b"), 0.0)
    for kind in GATE | {Kind.LEASE}:
        speaker.observe(Synced(kind), 0.0)
    for name in (first, second):
        own = doubts if name == (first if node == "itself" else second) else Doubts()
        speaker.observe(Change(Kind.LEASE, name, Lease(name, "0", doubts=own)), 0.0)
    return work(speaker, 0.0)


@pytest.mark.parametrize("doubts", [Doubts(frozenset({IP})), Doubts(everything=True)])
def test_what_another_host_may_have_is_asked_about_whoever_owns_it_next(doubts: Doubts) -> None:
    assert announced(doubting("the other", doubts)) == {"192.0.2.10": Occasion.NEW}
    assert announced(doubting("itself", doubts, resumed=True)) == {"192.0.2.10": Occasion.NEW}
    assert announced(doubting("itself", doubts)) == {"192.0.2.10": Occasion.TAKEOVER}, "that was long ago"


def test_an_ip_that_its_owner_holds_back_is_new_for_who_owns_it_after_that() -> None:
    first, second = rank(IP, {"a": 0, "b": 0})
    speaker, _ = started(snapshot(WEB, nodes="a b"), second)
    lease = Lease(first, "1", doubts=Doubts(frozenset({IP})))
    speaker.observe(Change(Kind.LEASE, first, lease), 1.0)
    renew(speaker, 1.0, second)
    assert work(speaker, 1.0) == []
    speaker.observe(Change(Kind.LEASE, first, None), 1.1)
    assert announced(work(speaker, 1.1)) == {"192.0.2.10": Occasion.NEW}


def test_what_it_doubts_is_told_at_once_and_so_is_that_it_doubts_no_more() -> None:
    speaker = Speaker("a")
    tell(speaker, snapshot(WEB, nodes="a"), 0.0)
    for kind in GATE | {Kind.LEASE}:
        speaker.observe(Synced(kind), 0.0)
    assert doubts_told(speaker, 0.0) == [None], "it takes no part yet: what it doubted before, it still does"
    renew(speaker, 0.0, "a")
    assert doubts_told(speaker, 0.1) == [Doubts(everything=True)]
    assert doubts_told(speaker, 0.2) == []
    speaker.answers(IP)
    assert doubts_told(speaker, 0.3) == [Doubts()]
    speaker.in_use(IP, 0.4, mac=STRANGER)
    assert doubts_told(speaker, 0.4) == [Doubts(frozenset({IP}))]


def doubts_told(speaker: Speaker, now: float) -> list[Doubts | None]:
    return [effect.doubts for effect in speaker.advance(now) if isinstance(effect, Renew)]


def test_a_resync_that_changes_nothing_does_nothing() -> None:
    world = snapshot(*SERVICES, bgp=(BGPAdvertisement("bgp"),))
    speaker, _ = started(world)
    tell(speaker, world, 1.0)
    for kind in GATE | {Kind.LEASE}:
        speaker.observe(Synced(kind), 1.0)
    renew(speaker, 1.0, "a", "b", "c")
    assert work(speaker, 1.0) == []


def test_a_service_that_goes_is_released() -> None:
    speaker, _ = started(snapshot(WEB, nodes="a"))
    assert change(speaker, None, 1.0) == [Release(ip("192.0.2.10"))]


def test_the_last_endpoint_goes_and_comes_back_without_a_takeover() -> None:
    world = snapshot(WEB, nodes="a")
    speaker, _ = started(world)
    speaker.observe(Change(Kind.ENDPOINT_SLICE, "default/web-1", None), 1.0)
    assert work(speaker, 1.0) == [Release(ip("192.0.2.10"))]
    slice_ = EndpointSlice("default/web-1", "default/web", world.endpoints["default/web"])
    speaker.observe(Change(Kind.ENDPOINT_SLICE, slice_.key, slice_), 2.0)
    assert announced(work(speaker, 2.0)) == {"192.0.2.10": Occasion.REFRESH}


def test_endpoints_of_several_slices_count_together_and_a_slice_may_change_its_service() -> None:
    world = snapshot(WEB, nodes="a", on="")
    speaker, effects = started(world)
    assert effects == []
    (endpoint,) = snapshot(WEB, nodes="a").endpoints["default/web"]
    speaker.observe(
        Change(Kind.ENDPOINT_SLICE, "default/x", EndpointSlice("default/x", "default/web", (endpoint,))), 1.0
    )
    assert announced(work(speaker, 1.0))
    speaker.observe(
        Change(Kind.ENDPOINT_SLICE, "default/x", EndpointSlice("default/x", "default/else", (endpoint,))), 2.0
    )
    assert work(speaker, 2.0) == [Release(ip("192.0.2.10"))]


def test_the_lease_is_renewed_every_second_whatever_else_happens() -> None:
    speaker, _ = started(snapshot(WEB))
    speaker.advance(0.0)
    times = [tenth / 10 for tenth in range(1, 51)]
    assert [t for t in times if renewed(speaker.advance(t))] == [1.0, 2.0, 3.0, 4.0, 5.0]


def renewed(effects: list[Effect]) -> list[tuple[bool, tuple[MemberLink, ...]]]:
    """What Leases say, but for doubts."""
    return [(effect.draining, effect.links) for effect in effects if isinstance(effect, Renew)]


def test_a_silent_api_withdraws_nothing() -> None:
    speaker, _ = started(snapshot(*SERVICES))
    assert [work(speaker, float(second)) for second in range(1, 120)] == [[]] * 119


def test_a_drain_leaves_the_election_and_answers_until_the_next_owner_is_heard() -> None:
    speaker, _ = started(snapshot(*SERVICES))
    mine = list(speaker.current.owned)
    speaker.drain(1.0)
    assert Renew(draining=True) in speaker.advance(1.0)
    assert work(speaker, 1.5) == []
    speaker.claimed(mine[0], 1.6, node="b")
    assert work(speaker, 1.6) == [Release(mine[0])]
    assert speaker.state is State.DRAINING
    for one in mine[1:]:
        speaker.claimed(one, 1.7, node="b")
    effects = work(speaker, 1.7)
    assert {e.ip for e in effects if isinstance(e, Release)} == set(mine[1:])
    assert effects[-1] == Leave()
    assert speaker.state is State.STOPPED


def test_a_drain_is_told_at_once_and_what_has_no_service_any_more_is_not_handed_over() -> None:
    speaker, _ = started(snapshot(*SERVICES))
    one = min(speaker.current.owned)
    speaker.advance(1.0)
    speaker.drain(1.3)
    assert Renew(draining=True) in speaker.advance(1.3)
    (gone,) = [s for s in SERVICES if s.held[0] == one]
    speaker.observe(Change(Kind.SERVICE, gone.key, None), 1.4)
    assert work(speaker, 1.4) == [Release(one)]
    assert one not in speaker.lent


def test_a_drain_does_not_wait_for_ever_nor_for_nobody() -> None:
    speaker, _ = started(snapshot(*SERVICES))
    enough = 1.0 + 10.0 + len(speaker.current.owned) / 8  # more to hand over takes longer
    speaker.drain(1.0)
    assert work(speaker, enough - 0.1) == []
    assert work(speaker, enough)[-1] == Leave()
    alone, _ = started(snapshot(WEB, nodes="a"))
    alone.drain(1.0)
    assert work(alone, 1.0) == [Release(ip("192.0.2.10")), Leave()]


def test_a_drain_ends_the_sessions_which_withdraw_the_routes() -> None:
    speaker, _ = started(snapshot(WEB, l2=(), bgp=(BGPAdvertisement("bgp"),)))
    speaker.drain(1.0)
    assert work(speaker, 1.0) == [SetPeer("router", None), Leave()]


def test_a_speaker_that_never_served_leaves_at_once() -> None:
    speaker = Speaker("a")
    speaker.drain(0.0)
    assert speaker.advance(0.0) == [Leave()]
    assert speaker.advance(0.0) == []
    assert speaker.next_wakeup(0.0) is None


def test_services_of_another_class_are_left_to_others() -> None:
    other = service("web", held="192.0.2.10", load_balancer_class="other")
    assert started(snapshot(other, nodes="a"))[1] == []


def test_a_claim_by_another_is_answered_by_one_of_ours_but_not_more_than_one_in_ten_seconds() -> None:
    speaker, _ = started(snapshot(WEB, nodes="a"))
    times = []
    for tenth in range(1, 250):
        renew(speaker, tenth / 10, "a")
        speaker.claimed(ip("192.0.2.10"), tenth / 10, node="b")
        times += [tenth / 10 for effect in work(speaker, tenth / 10) if isinstance(effect, Announce)]
    assert times == [0.1, 10.1, 20.1]


def test_a_claim_that_is_not_repeated_is_answered_once() -> None:
    speaker, _ = started(snapshot(WEB, nodes="a"))
    speaker.claimed(IP, 0.1, node="b")
    assert [when for when, _ in keep(speaker, 0.1, 40.0)] == [0.1]


def test_who_was_cut_off_does_not_insist_before_the_api_says_that_it_still_owns_it() -> None:
    world = snapshot(WEB, nodes="a")
    speaker, _ = started(world)
    speaker.claimed(ip("192.0.2.10"), 2.0, node="b")
    assert work(speaker, 2.0) == [], "its own Lease was not seen for two seconds"
    renew(speaker, 2.5, "a")
    again = Announce(ip("192.0.2.10"), frozenset(), Occasion.TAKEOVER, ("default/web",), again=True)
    assert work(speaker, 2.5) == [again]
    lost, _ = started(world)
    lost.claimed(ip("192.0.2.10"), 2.0, node="b")
    lost.observe(Change(Kind.SERVICE, "default/web", None), 2.5)
    renew(lost, 2.5, "a")
    assert work(lost, 2.5) == [Release(ip("192.0.2.10"))]


def test_who_has_not_seen_the_api_for_longer_than_a_lease_leaves_an_ip_to_who_claims_it() -> None:
    speaker, _ = started(snapshot(WEB, nodes="a"))
    speaker.claimed(ip("192.0.2.10"), 5.0, node="b")
    assert work(speaker, 5.0) == [Release(ip("192.0.2.10"))]
    renew(speaker, 6.0, "a")
    assert work(speaker, 6.0) == [], "and looks again after a moment"
    renew(speaker, 8.9, "a")
    assert announced(work(speaker, 9.0)) == {"192.0.2.10": Occasion.TAKEOVER}


def test_while_the_api_is_silent_it_asks_who_has_what_it_left_and_ever_more_rarely() -> None:
    speaker, _ = started(snapshot(WEB, nodes="a"))
    speaker.claimed(IP, 5.0, node="b")
    asked = []
    for now in (at / 10 for at in range(50, 1000)):
        if announced(work(speaker, now)):
            asked.append(now)
            speaker.in_use(IP, now, node="b")
    assert asked == pytest.approx([10.0, 20.0, 40.0, 60.0, 80.0], abs=0.2)
    speaker.heard("eth0", frozenset({"b"}))
    assert announced(work(speaker, 99.9)) == {"192.0.2.10": Occasion.NEW}, "who has claimed it is dead"


def test_a_speaker_joins_the_election_only_once_it_can_answer() -> None:
    speaker = Speaker("a")
    speaker.can_answer = False
    tell(speaker, snapshot(WEB, nodes="a"), 0.0)
    for kind in GATE | {Kind.LEASE}:
        speaker.observe(Synced(kind), 0.0)
    renew(speaker, 0.0, "a")
    assert speaker.advance(0.0) == [Renew(draining=True)]
    speaker.can_answer = True
    assert (False, ()) in renewed(speaker.advance(0.2))
    assert Speaker("a", resumed=True).advance(0.0) == [Renew(draining=False)], "others still count on it"


def test_what_it_owns_when_it_joins_late_and_alone_is_new() -> None:
    speaker = Speaker("a")
    tell(speaker, snapshot(WEB, nodes="a b"), 0.0)
    for kind in GATE | {Kind.LEASE}:
        speaker.observe(Synced(kind), 0.0)
    speaker.observe(Change(Kind.LEASE, "a", Lease("a", "0", draining=True)), 0.0)
    assert work(speaker, 0.0) == []
    renew(speaker, 1.0, "a")
    assert announced(work(speaker, 1.0)) == {"192.0.2.10": Occasion.NEW}


def test_a_peer_whose_secret_is_missing_is_not_used_without_it() -> None:
    peer = replace(ROUTER, password_secret=SecretRef("lbspeaker-system", "router"))
    world = snapshot(WEB, nodes="a", l2=(), bgp=(BGPAdvertisement("bgp"),), peers=(peer,))
    speaker, effects = started(world)
    assert effects == []
    secret = Secret("lbspeaker-system/router", "sesame")
    speaker.observe(Change(Kind.SECRET, secret.key, secret), 1.0)
    effects = work(speaker, 1.0)
    assert effects[0] == SetPeer("router", replace(peer, password="sesame"))
    assert "sesame" not in repr(effects)


GOES_ON = {
    "it is deleted": ((None,), "is missing"),
    "it gets a line break": (("sesame\n",), "is not 1 to 80 printable"),
    "it is emptied": (("",), "has no key"),
    "one mistake follows the other": (("sesame\n", None), "is missing"),
}


@pytest.mark.parametrize(("later", "why"), GOES_ON.values(), ids=GOES_ON)
def test_a_session_goes_on_with_its_password_when_the_secret_is_wrong_because(
    later: tuple[str | None, ...], why: str
) -> None:
    """Until another right one is there. Who begins only now has none."""
    key = "lbspeaker-system/router"
    peer = replace(ROUTER, password_secret=SecretRef(*key.split("/")))
    world = snapshot(WEB, nodes="a", l2=(), bgp=(BGPAdvertisement("bgp"),), peers=(peer,))
    speaker, _ = started(world)
    for password in ("sesame", *later):
        secret = Secret(key, password) if password is not None else None
        speaker.observe(Change(Kind.SECRET, key, secret), 1.0)
        effects = work(speaker, 1.0)
        assert bool(effects) == (password == "sesame")
    (trouble,) = speaker.world.without_password().values()
    assert why in trouble.why and trouble.goes_on
    speaker.observe(Change(Kind.SECRET, key, Secret(key, "open")), 2.0)
    assert SetPeer("router", replace(peer, password="open")) in work(speaker, 2.0)
    assert speaker.world.without_password() == {}


def test_a_password_is_forgotten_with_the_peer_whose_secret_is_gone() -> None:
    key = "lbspeaker-system/router"
    peer = replace(ROUTER, password_secret=SecretRef(*key.split("/")))
    world = snapshot(WEB, nodes="a", l2=(), bgp=(BGPAdvertisement("bgp"),), peers=(peer,))
    speaker, _ = started(world)
    speaker.observe(Change(Kind.SECRET, key, Secret(key, "sesame")), 1.0)
    assert work(speaker, 1.0)
    speaker.observe(Change(Kind.SECRET, key, None), 1.0)
    for peers in ((), (peer,)):
        speaker.observe(Change(Kind.CONFIG, "", ConfigSet(replace(world.config, peers=peers))), 2.0)
        assert [effect for effect in work(speaker, 2.0) if isinstance(effect, SetPeer)] == (
            [] if peers else [SetPeer("router", None)]
        )
    assert not speaker.world.without_password()["router"].goes_on


def test_one_node_after_the_other_has_its_turn() -> None:
    assert [with_links(*nodes).turn_s() for nodes in ("a", "ba", "abc")] == [0.0, 0.0, 0.0]
    many = [f"n{number:03}" for number in range(100)]
    speaker = Speaker(many[50])
    speaker._members = frozenset(many)
    assert speaker.turn_s() == pytest.approx(30.0)
    speaker._members = frozenset(many[49:])
    assert speaker.turn_s() == pytest.approx(60 / 51)
    speaker._members = frozenset(many[48:52])
    assert speaker.turn_s() == 4.0


BY_BGP = snapshot(WEB, nodes="a", l2=(), bgp=(BGPAdvertisement("bgp"),))


def routes(effects: list[Effect]) -> list[list[str]]:
    return [list(map(str, effect.routes)) for effect in effects if isinstance(effect, SetRoutes)]


def test_the_first_routes_after_a_restart_are_all_of_them() -> None:
    """Its own Lease says still that it leaves; a router that has kept routes would drop them."""
    speaker = Speaker("a")
    tell(speaker, BY_BGP, 0.0)
    for kind in GATE | {Kind.LEASE}:
        speaker.observe(Synced(kind), 0.0)
    speaker.observe(Change(Kind.LEASE, "a", Lease("a", "0", draining=True)), 0.0)
    effects = work(speaker, 0.0)
    assert speaker.state is State.SERVING
    assert routes(effects) == [["192.0.2.10/32"]]


def test_a_lease_that_is_deleted_withdraws_no_route() -> None:
    speaker, effects = started(BY_BGP)
    assert routes(effects) == [["192.0.2.10/32"]]
    speaker.observe(Change(Kind.LEASE, "a", None), 1.0)
    assert routes(work(speaker, 1.0)) == []
    assert routes(work(speaker, 5.0)) == []
    renew(speaker, 5.1, "a")
    assert routes(work(speaker, 5.1)) == []


def test_without_an_api_every_known_node_counts() -> None:
    speaker = Speaker("a", leases=False)
    tell(speaker, snapshot(*SERVICES), 0.0)
    for kind in GATE:
        speaker.observe(Synced(kind), 0.0)
    effects = speaker.advance(0.0)
    assert not any(isinstance(effect, Renew) for effect in effects)
    assert 0 < len(announced(effects)) < len(SERVICES)


@pytest.mark.parametrize("links", [(), ("192.0.2.1/24",)])
@pytest.mark.parametrize("leases", [True, False])
def test_by_bgp_alone_it_tells_of_no_link_and_owns_nothing(leases: bool, links: tuple[str, ...]) -> None:
    speaker = Speaker("a", leases=leases, layer2=False)
    alone = snapshot(WEB, nodes="a", bgp=(BGPAdvertisement("bgp"),), peers=(ROUTER,))
    tell(speaker, alone, 0.0)
    speaker.observe_links(tuple(link("eth0", address) for address in links))
    for kind in GATE | {Kind.LEASE}:
        speaker.observe(Synced(kind), 0.0)
    renew(speaker, 0.0, "a")
    effects = speaker.advance(0.0)
    assert announced(effects) == {}
    assert routes(effects) == [["192.0.2.10/32"]]
    assert renewed(effects)[-1:] == ([(False, ())] if leases else [])


# --- loans ----------------------------------------------------------------------------------------------


def released(effects: list[Effect]) -> set[str]:
    return {str(effect.ip) for effect in effects if isinstance(effect, Release)}


def told(effects: list[Effect]) -> list[str]:
    return [f"{effect.reason} {effect.ip}" for effect in effects if isinstance(effect, Tell)]


def lending() -> Speaker:
    """A speaker that was alone with all the IPs, when `b` came, at 1.0."""
    speaker, _ = started(snapshot(*SERVICES, nodes="a b", members="a"))
    assert len(speaker.current.owned) == len(SERVICES)
    renew(speaker, 1.0, "a", "b")
    assert work(speaker, 1.0) == [], "the next owner has not claimed anything yet"
    assert 5 < len(speaker.lent) < len(SERVICES) - 5
    return speaker


def test_what_goes_to_another_is_answered_until_that_one_claims_it() -> None:
    speaker = lending()
    one, two = sorted(speaker.lent)[:2]
    speaker.claimed(one, 1.1, node="b")
    assert work(speaker, 1.1) == [Release(one)]
    speaker.claimed(two, 1.2, mac="02:00:00:00:00:99")
    assert work(speaker, 1.2) == [], "a stranger is not the next owner"
    assert one not in speaker.lent
    assert two in speaker.lent


def test_what_is_not_claimed_is_released_when_its_next_owner_could_have_told_everything() -> None:
    speaker = lending()
    number = len(speaker.lent)
    times = []
    for tenth in range(10, 460):
        now = tenth / 10
        renew(speaker, now, "a", "b")
        times += [now] * len(released(work(speaker, now)))
    assert len(times) == number
    assert times[0] == times[-1] == pytest.approx(1.0 + 10.0 + number / 8, abs=0.1)


def test_however_much_is_lent_a_loan_has_an_end() -> None:
    many = [service(f"s{n}", held=f"192.0.{n // 200 + 2}.{n % 200 + 1}") for n in range(1800)]
    world = snapshot(*many, nodes="a b", members="a", pools=(pool("all", "192.0.0.0-192.0.255.255"),))
    speaker, _ = started(world)
    renew(speaker, 1.0, "a", "b")
    work(speaker, 1.0)
    for second in range(1, 121):
        renew(speaker, second + 0.9, "a", "b")
        work(speaker, second + 0.9)
    assert speaker.lent
    renew(speaker, 121.0, "a", "b")
    work(speaker, 121.0)
    assert not speaker.lent


def test_what_comes_back_while_it_is_lent_was_never_away() -> None:
    speaker = lending()
    lent = {str(one) for one in speaker.lent}
    speaker.observe(Change(Kind.LEASE, "b", None), 2.0)
    assert announced(work(speaker, 2.0)) == dict.fromkeys(lent, Occasion.REFRESH)
    assert not speaker.lent


def test_what_was_heard_to_be_claimed_before_it_was_seen_to_go_is_not_lent() -> None:
    local = service("web", held="192.0.2.10", local=True)
    speaker, _ = started(snapshot(local, on="a"))
    for second in range(1, 4):
        renew(speaker, float(second), "a", "b", "c")
    for at in (3.0, 4.1):  # b serves already, and has claimed it; what is put off is not forgotten
        speaker.claimed(IP, at, node="b")
        renew(speaker, at, "a", "b", "c")
        work(speaker, at)
    slice_ = EndpointSlice("default/web-1", "default/web", (Endpoint("b"),))
    speaker.observe(Change(Kind.ENDPOINT_SLICE, slice_.key, slice_), 5.0)
    assert work(speaker, 5.0) == [Release(IP)]
    assert not speaker.lent


def test_what_comes_back_is_told_again_if_this_node_was_taken_for_dead_while_it_was_lent() -> None:
    speaker = lending()
    lent = {str(one) for one in speaker.lent}
    speaker.missed()
    effects = work(speaker, 1.5)
    for second in range(2, 7):  # b dies
        renew(speaker, float(second), "a")
        effects += work(speaker, float(second))
    back = [e for e in effects if isinstance(e, Announce) and str(e.ip) in lent]
    assert {e.occasion for e in back} == {Occasion.TAKEOVER}
    assert all(e.again for e in back), "also where it is answered"
    assert len(back) == len(lent)


def test_of_many_that_took_it_for_dead_the_first_one_to_hear_it_is_enough() -> None:
    speaker, _ = started(snapshot(WEB, nodes="a"))
    speaker.answers(IP)
    told = []
    for tenth in range(10, 30):
        speaker.missed()
        renew(speaker, tenth / 10, "a")
        told += [tenth / 10] * len(announced(work(speaker, tenth / 10)))
    assert told == [1.0, 2.0]


def test_what_has_no_service_any_more_is_not_lent() -> None:
    speaker = lending()
    (gone,) = [s for s in SERVICES if s.held[0] == min(speaker.lent)]
    speaker.observe(Change(Kind.SERVICE, gone.key, None), 2.0)
    assert released(work(speaker, 2.0)) == {str(gone.held[0])}


# --- what others say ------------------------------------------------------------------------------------

STRANGER = "02:00:00:00:00:99"


def keep(speaker: Speaker, since: float, until: float) -> list[tuple[float, Effect]]:
    """Let time pass, ten times a second, while the API works; return what it did, and when."""
    done: list[tuple[float, Effect]] = []
    for tenth in range(round(since * 10), round(until * 10) + 1):
        renew(speaker, tenth / 10, *(speaker.members or {"a"}))
        done += [(tenth / 10, effect) for effect in work(speaker, tenth / 10)]
    return done


def test_what_a_stranger_has_is_not_announced_and_is_probed_again_after_a_minute() -> None:
    speaker, _ = started(snapshot(WEB, nodes="a"))
    speaker.in_use(IP, 1.0, mac=STRANGER)
    effects = work(speaker, 1.0)
    assert released(effects) == {"192.0.2.10"}, "also on links where nobody has it"
    assert told(effects) == ["AddressConflict 192.0.2.10"]
    (tell,) = [effect for effect in effects if isinstance(effect, Tell)]
    assert (tell.mac, tell.services) == (STRANGER, ("default/web",))
    assert speaker.held_back == {IP: STRANGER}
    assert speaker.conflict(IP) == STRANGER
    speaker.in_use(IP, 1.1, mac=STRANGER)
    ((when, again),) = keep(speaker, 1.1, 70.0)
    assert when == 61.0
    assert isinstance(again, Announce)
    assert again.occasion is Occasion.NEW, "which is probed; anything else would be answered at once"
    assert not speaker.held_back


def test_what_a_speaker_has_that_comes_before_us_is_left_to_it_for_a_moment() -> None:
    first, second = rank(IP, {"a": 0, "b": 0})
    speaker, _ = started(snapshot(WEB, nodes="a b", members=second), second)
    speaker.in_use(IP, 1.0, node=first, mac=STRANGER)
    assert work(speaker, 1.0) == [Release(IP)], "and nobody is told"
    assert speaker.held_back == {IP: ""}
    renew(speaker, 4.0, second)
    assert announced(work(speaker, 4.0)) == {"192.0.2.10": Occasion.TAKEOVER}


def test_what_a_speaker_has_that_returns_is_left_to_it_until_it_is_silent_again() -> None:
    first, second = rank(IP, {"a": 0, "b": 0})
    speaker, _ = started(snapshot(WEB, nodes="a b", members=second), second)
    speaker.heard("eth0", frozenset({first}), frozenset({first}))
    speaker.in_use(IP, 1.0, node=first, mac=STRANGER)
    assert work(speaker, 1.0) == [Release(IP)]
    assert work(speaker, 1.4) == []
    speaker.heard("eth0", frozenset({first}))
    assert announced(work(speaker, 1.5)) == {"192.0.2.10": Occasion.TAKEOVER}


def test_what_a_speaker_has_that_is_about_to_leave_is_taken_over_at_once() -> None:
    first, second = rank(IP, {"a": 0, "b": 0})
    speaker, _ = started(snapshot(WEB, nodes="a b", members=second), second)
    speaker.observe(Change(Kind.LEASE, first, Lease(first, "0.9", draining=True)), 0.9)
    speaker.in_use(IP, 1.0, node=first, mac=STRANGER)
    assert announced(work(speaker, 1.0)) == {"192.0.2.10": Occasion.TAKEOVER}


def test_what_another_speaker_has_answered_while_it_was_ours_is_taken_over_at_once() -> None:
    first, second = rank(IP, {"a": 0, "b": 0})
    speaker, _ = started(snapshot(WEB, nodes="a b"), first)
    speaker.in_use(IP, 1.0, node=second, mac=STRANGER)
    effects = work(speaker, 1.0)
    assert effects[0] == Release(IP), "it is not probed any more"
    assert announced(effects) == {"192.0.2.10": Occasion.TAKEOVER}


def test_a_stranger_that_turns_out_to_be_a_speaker_is_no_conflict() -> None:
    speaker, _ = started(snapshot(WEB, nodes="a"))
    speaker.in_use(IP, 1.0, mac=STRANGER)
    assert told(work(speaker, 1.0)) == ["AddressConflict 192.0.2.10"]
    links = (MemberLink("eth0", bytes.fromhex(STRANGER.replace(":", ""))),)
    speaker.observe(Change(Kind.LEASE, "b", Lease("b", "1.5", draining=True, links=links)), 1.5)
    renew(speaker, 1.5, "a")
    assert announced(work(speaker, 1.5)) == {"192.0.2.10": Occasion.NEW}
    assert not speaker.held_back


def test_that_something_is_in_use_that_is_not_ours_is_no_news() -> None:
    speaker, _ = started(snapshot(WEB, nodes="a"))
    speaker.in_use(ip("192.0.2.11"), 1.0, mac=STRANGER)
    assert work(speaker, 1.0) == []


def conflicts(policy: str, *times: float) -> list[tuple[float, str]]:
    """What is done when a stranger claims our IP at these times."""
    world = snapshot(WEB, nodes="a")
    policies = (LinkPolicy("1", interfaces=frozenset({"eth1"}), on_conflict=policy),)  # type: ignore[arg-type]
    world = replace(world, config=replace(world.config, link_policies=policies))
    speaker, _ = started(world)
    done = []
    for tenth in range(1, 1001):
        now = tenth / 10
        renew(speaker, now, "a")
        if now in times:
            speaker.claimed(IP, now, mac=STRANGER, link="eth1")
        for effect in work(speaker, now):
            kind = type(effect).__name__
            if isinstance(effect, Announce):
                kind = f"{effect.occasion.name} again" if effect.again else effect.occasion.name
            done.append((now, kind))
    return done


def test_a_stranger_that_claims_our_ip_is_told_once_in_ten_seconds_that_it_is_ours() -> None:
    done = conflicts("Defend", 1.0, 1.1, 5.0, 11.0, 12.0)
    assert done == [(1.0, "Tell"), (1.0, "NEW again"), (11.0, "Tell"), (11.0, "NEW again")]


def test_or_it_gets_the_ip_and_we_look_again_after_a_minute() -> None:
    assert conflicts("Yield", 1.0, 2.0, 3.0) == [
        (1.0, "Tell"),
        (1.0, "NEW again"),
        (2.0, "Tell"),
        (2.0, "Release"),
        (62.0, "NEW"),
    ]


def test_a_conflict_is_over_when_the_ip_is_not_ours_any_more() -> None:
    speaker, _ = started(snapshot(WEB, nodes="a"))
    speaker.claimed(IP, 1.0, mac=STRANGER)
    assert told(work(speaker, 1.0)) == ["AddressConflict 192.0.2.10"]
    change(speaker, None, 1.5)
    assert speaker.conflict(IP) == ""


def test_what_the_answerer_yielded_is_looked_at_again_after_three_seconds() -> None:
    speaker, _ = started(snapshot(WEB, nodes="a"))
    speaker.claimed(IP, 1.0, node="b", yielded=True)
    assert work(speaker, 1.0) == [Release(IP)], "on its other links, too"
    assert speaker.held_back == {IP: ""}
    ((when, again),) = keep(speaker, 1.1, 10.0)
    assert when == 4.0
    assert announced([again]) == {"192.0.2.10": Occasion.TAKEOVER}, "somebody else had it meanwhile"


def test_what_was_yielded_while_it_was_lent_is_lent_no_more() -> None:
    speaker = lending()
    one = min(speaker.lent)
    speaker.claimed(one, 1.1, node="b", yielded=True)
    assert work(speaker, 1.1) == [Release(one)]
    assert one not in speaker.lent
    assert one not in speaker.held_back, "it is not ours, as we know ourselves"


def test_who_was_taken_for_dead_tells_of_everything_again_and_at_once() -> None:
    speaker, _ = started(snapshot(*SERVICES[:3], nodes="a"))
    for one in SERVICES[:3]:
        speaker.answers(one.held[0])
    speaker.claimed(SERVICES[0].held[0], 1.0, node="b")
    renew(speaker, 1.0, "a")
    assert len(work(speaker, 1.0)) == 1
    speaker.missed()
    renew(speaker, 2.0, "a")
    effects = work(speaker, 2.0)
    assert announced(effects) == {f"192.0.2.{n + 10}": Occasion.TAKEOVER for n in range(3)}
    assert all(effect.again for effect in effects if isinstance(effect, Announce))
    assert keep(speaker, 2.1, 4.0) == []


def test_who_was_taken_for_dead_goes_on_to_ask_who_has_what_is_new() -> None:
    speaker, _ = started(snapshot(*SERVICES[:2], nodes="a"))
    speaker.answers(SERVICES[0].held[0])
    speaker.missed()
    renew(speaker, 1.0, "a")
    assert list(announced(work(speaker, 1.0))) == ["192.0.2.10"]


def test_without_hellos_who_saw_no_api_for_longer_than_a_lease_tells_of_everything_again() -> None:
    speaker, _ = started(snapshot(WEB, nodes="a"))
    speaker.answers(IP)
    renew(speaker, 2.0, "a")
    assert work(speaker, 2.0) == []
    renew(speaker, 5.5, "a")
    assert announced(work(speaker, 5.5)) == {"192.0.2.10": Occasion.TAKEOVER}
    speaker.heard("eth0", frozenset())
    renew(speaker, 9.0, "a")
    assert work(speaker, 9.0) == [], "where hellos are heard, they say so"


def test_what_a_missed_node_has_to_tell_is_not_lost_while_the_api_is_silent() -> None:
    speaker, _ = started(snapshot(*SERVICES[:3], nodes="a"))
    for one in SERVICES[:3]:
        speaker.answers(one.held[0])
    speaker.claimed(SERVICES[0].held[0], 2.0, node="b")
    speaker.missed()
    told_of = set(announced(work(speaker, 2.0)))
    renew(speaker, 2.5, "a")
    told_of |= set(announced(work(speaker, 2.5)))
    assert told_of == {f"192.0.2.{n + 10}" for n in range(3)}


def test_what_an_answerer_gave_up_that_stood_still_is_taken_again_soon() -> None:
    speaker, _ = started(snapshot(*SERVICES[:3], nodes="a"))
    speaker.woke((ip("192.0.2.10"), ip("192.0.2.11")), 1.0)
    assert released(work(speaker, 1.0)) == {"192.0.2.10", "192.0.2.11"}
    done = keep(speaker, 1.1, 10.0)
    assert {when for when, _ in done} == {2.5}
    assert announced([effect for _, effect in done]) == {
        "192.0.2.10": Occasion.TAKEOVER,
        "192.0.2.11": Occasion.TAKEOVER,
    }


# --- links ----------------------------------------------------------------------------------------------

NEAR, FAR = ip_network("192.0.2.0/24"), ip_network("198.51.100.0/24")


def link(name: str, address: str) -> Link:
    return Link(name, 1, b"\x02" + bytes(5), addresses=(ip_interface(address),))


def with_links(*nodes: str) -> Speaker:
    """A speaker that owns nothing but what its link allows; the links of others as their Leases tell."""
    world = snapshot(*SERVICES, nodes=" ".join(nodes))
    speaker, _ = started(world)
    speaker.observe_links((link("eth0", "192.0.2.1/24"),))
    for name in nodes[1:]:
        lease = Lease(name, "links", links=(MemberLink("eth0", b"", (NEAR,)),))
        speaker.observe(Change(Kind.LEASE, name, lease), 0.5)
    work(speaker, 0.5)
    return speaker


def test_the_own_links_are_told_in_the_lease_and_at_once_when_they_change() -> None:
    speaker, _ = started(snapshot(WEB, nodes="a"))
    near = MemberLink("eth0", b"\x02" + bytes(5), (NEAR,))
    speaker.observe_links((link("eth0", "192.0.2.1/24"),))
    wakeup = speaker.next_wakeup(0.3)
    assert wakeup is not None
    assert wakeup <= 0.3
    assert renewed(speaker.advance(0.3)) == [(False, (near,))]
    speaker.observe_links((link("eth0", "192.0.2.1/24"),))
    assert renewed(speaker.advance(0.4)) == [], "nothing has changed"
    assert renewed(speaker.advance(1.3)) == [(False, (near,))]
    speaker.observe_links(())
    assert renewed(speaker.advance(1.4)) == [(False, ())]


def test_a_link_that_is_named_from_now_on_is_told_from_now_on() -> None:
    world = snapshot(WEB, nodes="a")
    speaker, _ = started(world)
    speaker.observe_links((link("cni0", "10.0.0.1/24"),))
    speaker.advance(0.2)
    assert renewed(speaker.advance(1.2)) == [(False, ())]
    named = replace(world.config, l2_advertisements=(L2Advertisement("l2", interfaces=frozenset({"cni0"})),))
    speaker.observe(Change(Kind.CONFIG, "", ConfigSet(named)), 1.3)
    speaker.advance(1.3)
    (renewal,) = [e for e in speaker.advance(1.3) if isinstance(e, Renew)]
    assert [told.name for told in renewal.links] == ["cni0"]


def test_before_the_first_renewal_links_change_nothing_about_when_it_is() -> None:
    speaker = Speaker("a")
    speaker.observe_links((link("eth0", "192.0.2.1/24"),))
    assert len([e for e in speaker.advance(0.0) if isinstance(e, Renew)]) == 1


def test_what_a_member_has_no_link_for_any_more_is_taken_over_at_once() -> None:
    speaker = with_links("a", "b")
    mine = len(speaker.current.owned)
    assert mine < len(SERVICES)
    far = Lease("b", "links", links=(MemberLink("eth0", b"", (FAR,)),))
    speaker.observe(Change(Kind.LEASE, "b", far), 0.6)
    assert set(announced(work(speaker, 0.6)).values()) == {Occasion.TAKEOVER}
    assert len(speaker.current.owned) == len(SERVICES)


def test_who_is_silent_on_the_segment_loses_its_ips_there_and_has_them_back_when_it_is_heard() -> None:
    speaker = with_links("a", "b", "c")
    before = set(speaker.current.owned)
    speaker.heard("eth0", frozenset("b"))
    taken = announced(work(speaker, 0.6))
    assert taken
    assert set(taken.values()) == {Occasion.TAKEOVER}
    speaker.heard("eth0", frozenset())
    assert work(speaker, 0.7) == [], "they are lent"
    assert set(speaker.current.owned) == before
    assert len(speaker.lent) == len(taken)
    speaker.heard("eth0", frozenset("b"))
    work(speaker, 0.8)
    speaker.observe_links((link("eth9", "192.0.2.1/24"),))
    work(speaker, 0.9)
    assert set(speaker.current.owned) == before
    speaker.observe_links((link("eth0", "192.0.2.1/24"),))
    work(speaker, 1.0)
    assert set(speaker.current.owned) == before, "what was heard before the link was gone counts no more"


def test_that_no_node_has_a_link_is_told_once_and_by_one_speaker() -> None:
    effects = []
    for name in "ab":
        world = snapshot(WEB, nodes="a b", l2=(L2Advertisement("l2", interfaces=frozenset({"eth7"})),))
        speaker, _ = started(world, name)
        speaker.observe_links((link("eth0", "192.0.2.1/24"),))
        other = Lease("ab"[name == "a"], "links", links=())
        speaker.observe(Change(Kind.LEASE, other.node, other), 0.5)
        effects.append(told(work(speaker, 0.5)))
        assert told(change(speaker, replace(WEB, uid="other"), 0.6)) == [], "it was told"
    assert effects == [["NoNodeLink 192.0.2.10"], []]
    speaker, _ = started(world, "a")
    speaker.observe_links((link("eth0", "192.0.2.1/24"),))
    speaker.observe(Change(Kind.LEASE, "b", Lease("b", "links", links=())), 0.5)
    assert told(work(speaker, 0.5)) == ["NoNodeLink 192.0.2.10"]
    speaker.observe_links((link("eth7", "192.0.2.1/24"),))
    assert told(work(speaker, 0.6)) == []
    speaker.observe_links((link("eth0", "192.0.2.1/24"),))
    assert told(work(speaker, 0.7)) == ["NoNodeLink 192.0.2.10"], "it is news again"


def test_that_advertisements_contradict_each_other_is_told_once_and_by_the_first_with_these_peers() -> None:
    rack = replace(ROUTER, name="rack", node_selectors=(selector(rack="1"),))
    ads = tuple(BGPAdvertisement(name, med=med) for name, med in (("1", 1), ("2", 2)))
    found = {}
    for name in "abc":
        labels = {"c": {"labels": {"rack": "1"}}}
        world = snapshot(WEB, nodes="a b c", l2=(), bgp=ads, peers=(ROUTER, rack), node_fields=labels)
        speaker, effects = started(world, name)
        found[name] = told(effects)
        assert told(change(speaker, replace(WEB, uid="other"), 0.6)) == [], "it was told"
    assert found == {name: [] if name == "b" else ["ConflictingAdvertisements 192.0.2.10"] for name in "abc"}


def test_a_node_that_is_taken_out_says_so_to_routers_before_its_routes_go() -> None:
    speaker, _ = started(
        snapshot(WEB, nodes="a b", l2=(), bgp=(BGPAdvertisement("bgp", communities=("1:2",)),)), "a"
    )

    def told_routers(effects: list[Effect]) -> list[list[tuple[str, ...]]]:
        found = [effect.routes.values() for effect in effects if isinstance(effect, SetRoutes)]
        return [[planned.route.communities for planned in one] for one in found]

    out = {EXCLUDE: ""}
    speaker.observe(Change(Kind.NODE, "a", Node("a", labels=out)), 1.0)
    assert told_routers(work(speaker, 1.0)) == [[("1:2", "65535:0")]]
    speaker.observe(Change(Kind.NODE, "a", Node("a", labels={**out, "other": "1"})), 1.5)
    assert told_routers(work(speaker, 1.5)) == []
    assert speaker.next_wakeup(1.5) is not None and speaker.next_wakeup(1.5) <= 2.0  # type: ignore[operator]
    assert told_routers(work(speaker, 2.0)) == [[]]
    speaker.observe(Change(Kind.NODE, "a", Node("a")), 3.0)
    assert told_routers(work(speaker, 3.0)) == [[("1:2",)]]


# --- pins -----------------------------------------------------------------------------------------------

STICKY = (L2Advertisement("l2", failback="Never"),)


def pins(effects: list[Effect]) -> list[dict[str, str]]:
    found = [effect.pins for effect in effects if isinstance(effect, WritePins)]
    return [{str(address): f"{pin.node} {pin.term}" for address, pin in written.items()} for written in found]


def test_pins_are_written_only_while_the_api_answers() -> None:
    world = snapshot(*SERVICES, nodes="a b", l2=STICKY)
    speaker, _ = started(world)
    speaker.observe(Change(Kind.LEASE, "b", None), 0.5)
    (written,) = pins(work(speaker, 0.5))
    assert written, "what it has taken over"
    assert set(written.values()) == {"a 1"}
    late, _ = started(world)
    late.observe(Change(Kind.LEASE, "b", None), 1.6)
    assert pins(work(late, 1.6)) == [], "the API was not seen for too long"
    renew(late, 2.0, "a")
    assert pins(work(late, 2.0)) == [written]
    assert pins(work(late, 2.1)) == []


def test_pins_are_written_once_a_second_however_often_they_change() -> None:
    speaker, _ = started(snapshot(*SERVICES, nodes="a b", l2=STICKY))
    written = []
    for tenth in range(5, 60):
        now = tenth / 10
        renew(speaker, now, "a")
        speaker.observe(Change(Kind.LEASE, "b", None), now)
        rivals = {service.held[0]: Pin("b" if tenth % 2 else "a", tenth) for service in SERVICES}
        speaker.observe(Change(Kind.PINS, "b", Pins("b", rivals)), now)
        written += [now] * len(pins(work(speaker, now)))
    assert 3 <= len(written) <= 6
    assert all(later - earlier >= 1.0 for earlier, later in pairwise(written))


def test_its_own_pins_of_before_it_was_started_are_known_and_what_it_reads_later_is_not_its_own() -> None:
    speaker = Speaker("a")
    away = {ip(f"192.0.2.{n}"): Pin("b", 3) for n in (200, 201)}
    speaker.observe(Change(Kind.PINS, "a", Pins("a", away)), 0.0)
    tell(speaker, snapshot(WEB, nodes="a"), 0.0)
    for kind in GATE | {Kind.LEASE}:
        speaker.observe(Synced(kind), 0.0)
    renew(speaker, 0.0, "a")
    assert pins(work(speaker, 0.0)) == [{}], "nobody announces these IPs"
    speaker.observe(Change(Kind.PINS, "a", Pins("a", away)), 1.0)
    assert pins(work(speaker, 1.0)) == []


def test_of_two_pins_the_later_counts_and_none_of_an_author_that_is_no_node() -> None:
    speaker, _ = started(snapshot(WEB, nodes="a b"))
    for author, pin in (("a", Pin("a", 2)), ("b", Pin("b", 3)), ("z", Pin("z", 9))):
        speaker.observe(Change(Kind.PINS, author, Pins(author, {IP: pin})), 0.0)
    assert speaker.world.pins == {IP: Pin("b", 3)}
    speaker.observe(Change(Kind.PINS, "a", Pins("a", {IP: Pin("a", 3)})), 0.0)
    assert speaker.world.pins == {IP: Pin("a", 3)}, "of two equal ones, the first author's: all agree"
    speaker.observe(Change(Kind.NODE, "b", None), 0.0)
    speaker.observe(Change(Kind.PINS, "a", None), 0.0)
    assert speaker.world.pins == {}


def test_a_pin_moves_an_ip() -> None:
    speaker, _ = started(snapshot(WEB, nodes="a b"))
    before = IP in speaker.current.owned
    to = "b" if before else "a"
    speaker.observe(Change(Kind.PINS, "b", Pins("b", {IP: Pin(to, 1)})), 1.0)
    effects = work(speaker, 1.0)
    assert (IP in speaker.current.owned) is not before
    assert announced(effects) == ({} if before else {"192.0.2.10": Occasion.TAKEOVER})


def test_an_ip_that_moves_too_often_is_told_of_and_pinned_where_it_is() -> None:
    world = snapshot(*SERVICES[:8], nodes="a b")
    speaker, _ = started(world)
    news: list[str] = []
    held: list[dict[str, str]] = []
    for second in range(1, 12):
        renew(speaker, second + 0.0, "a")
        lives = Lease("b", str(second), draining=second // 2 % 2 == 0)
        speaker.observe(Change(Kind.LEASE, "b", lives), second + 0.0)
        effects = work(speaker, second + 0.0)
        news += told(effects)
        held += pins(effects)
    assert news
    assert {text.split()[0] for text in news} == {"Flapping"}
    assert len(news) == len(set(news))
    assert set(held[-1]) == {text.split()[1] for text in news}


# --- time -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(6))
def test_it_never_asks_to_be_called_for_what_is_past(seed: int) -> None:
    """Whatever happens, in whatever state: a loop that does as it says does not spin."""
    roll = random.Random(seed)
    ad = L2Advertisement("l2", failback="Never", on_cordon="Move")
    world = snapshot(*SERVICES, nodes="a b c", l2=(ad,))
    speaker, _ = started(world)
    now = 0.0
    for step in range(300):
        now += roll.choice([0.0, 0.05, 0.5, 2.0])
        one = roll.choice(SERVICES).held[0]
        match roll.randrange(14):
            case 0:
                speaker.claimed(one, now, node="b", yielded=roll.random() < 0.5)
            case 1:
                speaker.claimed(one, now, mac=STRANGER)
            case 2:
                speaker.in_use(one, now, node=roll.choice(["", "b"]), mac=STRANGER)
            case 3:
                speaker.woke((one,), now)
            case 4:
                speaker.missed()
            case 5:
                speaker.heard("eth0", frozenset(roll.sample("bc", roll.randrange(3))))
            case 6:
                speaker.observe_links(roll.choice([(), (link("eth0", "192.0.2.1/24"),)]))
            case 7:
                speaker.observe(Change(Kind.NODE, "a", Node("a", cordoned=roll.random() < 0.5)), now)
            case 8:
                speaker.observe(Change(Kind.SERVICE, "default/s1", roll.choice([None, SERVICES[1]])), now)
            case 9 if step > 200:
                speaker.drain(now)
            case _:
                renew(speaker, now, *roll.choice(["a", "ab", "abc"]))
        for effect in speaker.advance(now) + speaker.advance(now):
            if isinstance(effect, WritePins) and roll.random() < 0.8:
                speaker.observe(Change(Kind.PINS, "a", Pins("a", effect.pins)), now)
                speaker.advance(now)
        speaker.advance(now)
        wakeup = speaker.next_wakeup(now)
        assert wakeup is None or wakeup > now, f"step {step}"
        if wakeup is None:
            break
    else:
        assert speaker.state is not State.STOPPED


# --- what others ask it ---------------------------------------------------------------------------------


def test_it_tells_what_it_knows_of_members_of_its_node_and_of_secrets() -> None:
    speaker = with_links("a", "b")
    assert speaker.members == {"a", "b"}
    assert speaker.member_macs == {"b": ("",)}
    assert speaker.world.labels == {}
    speaker.observe(Change(Kind.NODE, "a", Node("a", labels={"rack": "1"})), 1.0)
    assert speaker.world.labels == {"rack": "1"}
    assert speaker.knows_itself
    secret = Secret("lbspeaker-system/hello", "sesame")
    speaker.observe(Change(Kind.SECRET, secret.key, secret), 1.0)
    assert speaker.world.password("lbspeaker-system/hello") == "sesame"
    assert speaker.world.password("lbspeaker-system/other") is None
    stranger = Speaker("z", leases=False)
    assert (stranger.member_macs, stranger.world.labels, stranger.knows_itself) == ({}, {}, False)


def test_of_what_is_gone_nothing_stays_in_the_snapshot() -> None:
    speaker, _ = started(snapshot(WEB, nodes="a"))
    assert set(speaker.snapshot().endpoints) == {"default/web"}
    speaker.observe(Change(Kind.ENDPOINT_SLICE, "default/web-1", None), 1.0)
    change(speaker, None, 1.0)
    assert speaker.snapshot().endpoints == {}
    assert speaker.snapshot().services == {}
    assert speaker.service("default/web") is None


def test_who_cannot_answer_for_long_takes_no_part_while_there_are_others() -> None:
    speaker, _ = started(snapshot(*SERVICES, bgp=(BGPAdvertisement("bgp"),)))
    speaker.can_answer = False
    assert renewed(speaker.advance(1.0)) == [(True, ())]
    speaker.observe(Change(Kind.LEASE, "a", Lease("a", "1", draining=True)), 1.0)
    mine = list(speaker.current.owned)
    assert work(speaker, 1.0) == [], "its routes stay"
    assert sorted(speaker.lent) == sorted(mine), "it answers as well as it can until others do"
    speaker.can_answer = True
    assert renewed(speaker.advance(2.0)) == [(False, ())]
    renew(speaker, 2.0, "a")
    assert set(announced(work(speaker, 2.0))) == set(map(str, mine))


def test_who_cannot_answer_for_long_is_better_than_nobody() -> None:
    speaker, _ = started(snapshot(*SERVICES, nodes="a"))
    speaker.can_answer = False
    assert renewed(speaker.advance(1.0)) == [(False, ())]
