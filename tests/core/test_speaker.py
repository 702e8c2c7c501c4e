"""The composed speaker: what it does, and when."""

from dataclasses import replace

from lbspeaker.core.announce import Release, SetPeer, SetRoutes
from lbspeaker.core.guard import Occasion
from lbspeaker.core.lifecycle import State
from lbspeaker.core.speaker import GATE, Announce, Effect, Leave, Renew, Speaker
from lbspeaker.model import (
    BGPAdvertisement,
    Change,
    ConfigSet,
    EndpointSlice,
    Kind,
    Lease,
    Secret,
    SecretRef,
    Service,
    Snapshot,
    Synced,
)
from tests.build import ROUTER, ip, service, snapshot

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


def test_after_a_start_everything_is_a_takeover_unless_it_died_just_now() -> None:
    world = snapshot(WEB, nodes="a")
    assert announced(started(world)[1]) == {"192.0.2.10": Occasion.TAKEOVER}
    assert announced(started(world, resumed=True)[1]) == {"192.0.2.10": Occasion.REFRESH}


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
    times = [tenth / 10 for tenth in range(1, 51)]
    assert [t for t in times if Renew(draining=False) in speaker.advance(t)] == [1.0, 2.0, 3.0, 4.0, 5.0]


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


def test_a_drain_does_not_wait_for_ever_nor_for_nobody() -> None:
    speaker, _ = started(snapshot(*SERVICES))
    enough = 1.0 + 5.0 + len(speaker.current.owned) / 8  # more to hand over takes longer
    speaker.drain(1.0)
    assert work(speaker, enough - 0.1) == []
    assert work(speaker, enough)[-1] == Leave()
    alone, _ = started(snapshot(WEB, nodes="a"))
    alone.drain(1.0)
    assert work(alone, 1.0) == [Release(ip("192.0.2.10")), Leave()]


def test_a_drain_withdraws_the_routes_first_and_ends_the_sessions_last() -> None:
    speaker, _ = started(snapshot(WEB, l2=(), bgp=(BGPAdvertisement("bgp"),)))
    speaker.drain(1.0)
    assert work(speaker, 1.0) == [SetRoutes("router", {}), SetPeer("router", None), Leave()]


def test_a_speaker_that_never_served_leaves_at_once() -> None:
    speaker = Speaker("a")
    speaker.drain(0.0)
    assert speaker.advance(0.0) == [Leave()]
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
    renew(speaker, 7.9, "a")
    assert announced(work(speaker, 8.0)) == {"192.0.2.10": Occasion.TAKEOVER}


def test_a_speaker_joins_the_election_only_once_it_can_answer() -> None:
    speaker = Speaker("a")
    speaker.can_answer = False
    tell(speaker, snapshot(WEB, nodes="a"), 0.0)
    for kind in GATE | {Kind.LEASE}:
        speaker.observe(Synced(kind), 0.0)
    renew(speaker, 0.0, "a")
    assert speaker.advance(0.0) == [Renew(draining=True)]
    speaker.can_answer = True
    assert Renew(draining=False) in speaker.advance(0.2)
    assert Speaker("a", resumed=True).advance(0.0) == [Renew(draining=False)], "others still count on it"


def test_what_it_owns_when_it_joins_late_is_a_takeover() -> None:
    speaker = Speaker("a")
    tell(speaker, snapshot(WEB, nodes="a b"), 0.0)
    for kind in GATE | {Kind.LEASE}:
        speaker.observe(Synced(kind), 0.0)
    speaker.observe(Change(Kind.LEASE, "a", Lease("a", "0", draining=True)), 0.0)
    assert work(speaker, 0.0) == []
    renew(speaker, 1.0, "a")
    assert announced(work(speaker, 1.0)) == {"192.0.2.10": Occasion.TAKEOVER}


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


def test_without_an_api_every_known_node_counts() -> None:
    speaker = Speaker("a", leases=False)
    tell(speaker, snapshot(*SERVICES), 0.0)
    for kind in GATE:
        speaker.observe(Synced(kind), 0.0)
    effects = speaker.advance(0.0)
    assert not any(isinstance(effect, Renew) for effect in effects)
    assert 0 < len(announced(effects)) < len(SERVICES)
