"""Who announces what, and why somebody does not."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lbspeaker.core.announce import (
    Claim,
    Desired,
    Duty,
    Release,
    SetPeer,
    SetRoutes,
    desired,
    holders,
    l2,
    picture,
    plan,
)
from lbspeaker.core.election import rank
from lbspeaker.model import (
    BGPAdvertisement,
    L2Advertisement,
    NodePreference,
    Snapshot,
    Unannounced,
)
from tests.build import LAN, ROUTER, ip, scope, selector, service, snapshot

WEB = service("web", held="192.0.2.10")
LOCAL = service("web", held="192.0.2.10", local=True)
BGP = BGPAdvertisement("bgp")
NO_L2: tuple[L2Advertisement, ...] = ()
EXCLUDED = {"labels": {"node.kubernetes.io/exclude-from-external-load-balancers": ""}}


def seen(world: Snapshot):  # type: ignore[no-untyped-def]
    return picture(world, holders(world.services.values()))


def candidates(world: Snapshot) -> str:
    """The candidates for the one IP of `world`, sorted."""
    announcements, _ = l2(world, holders(world.services.values()))
    return " ".join(sorted(announcements[ip("192.0.2.10")].candidates)) if announcements else ""


def row(found: Unannounced) -> str:
    return f"{found.protocol} {found.node or '-'} {found.refusal.reason}"


# --- election -------------------------------------------------------------------------------------------


def test_the_ranking_is_the_one_that_metallb_users_have() -> None:
    abc = dict.fromkeys(["node-a", "node-b", "node-c"], 0)
    assert rank(ip("10.0.0.1"), abc) == ("node-b", "node-a", "node-c")
    assert rank(ip("10.0.0.2"), abc) == ("node-b", "node-c", "node-a")
    five = dict.fromkeys([f"node{n}" for n in range(1, 6)], 0)
    assert rank(ip("192.168.1.240"), five) == ("node5", "node3", "node4", "node1", "node2")
    assert rank(ip("2001:db8::1"), five) == ("node3", "node2", "node5", "node1", "node4")


def test_preference_comes_before_the_hash() -> None:
    assert rank(ip("10.0.0.1"), {"node-a": 0, "node-b": 0, "node-c": 1})[0] == "node-c"


@given(st.sets(st.text("abcdef", min_size=1), min_size=2, max_size=8), st.ip_addresses())
def test_who_leaves_moves_only_what_was_his(nodes: set[str], address) -> None:  # type: ignore[no-untyped-def]
    before = rank(address, dict.fromkeys(nodes, 0))
    for gone in nodes:
        after = rank(address, dict.fromkeys(nodes - {gone}, 0))
        assert after == tuple(node for node in before if node != gone)


# --- layer 2 --------------------------------------------------------------------------------------------

CANDIDATES = {
    "every live node": (snapshot(WEB), "a b c"),
    "a node without a speaker is none": (snapshot(WEB, members="a c"), "a c"),
    "nor one that is excluded": (snapshot(WEB, node_fields={"b": EXCLUDED}), "a c"),
    "nor one without a network": (snapshot(WEB, node_fields={"b": {"network_unavailable": True}}), "a c"),
    "traffic policy Cluster needs an endpoint anywhere": (snapshot(WEB, on="a"), "a b c"),
    "traffic policy Local needs it on the node": (snapshot(LOCAL, on="a c"), "a c"),
    "the nodes that the advertisement selects": (
        snapshot(
            WEB,
            l2=(L2Advertisement("l2", scope(node_selectors=(selector(rack="1"),))),),
            node_fields={"b": {"labels": {"rack": "1"}}},
        ),
        "b",
    ),
    "several advertisements add up": (
        snapshot(
            WEB,
            l2=tuple(L2Advertisement(r, scope(node_selectors=(selector(rack=r),))) for r in "12"),
            node_fields={"b": {"labels": {"rack": "1"}}, "c": {"labels": {"rack": "2"}}},
        ),
        "b c",
    ),
    "no advertisement for its pool": (snapshot(WEB, l2=(L2Advertisement("l2", scope(pools={"wan"})),)), ""),
    "by the labels of the pool": (
        snapshot(
            WEB,
            pools=(replace(LAN, labels={"zone": "x"}),),
            l2=(L2Advertisement("l2", scope(pool_selectors=(selector(zone="x"),))),),
        ),
        "a b c",
    ),
}


@pytest.mark.parametrize(("world", "expected"), CANDIDATES.values(), ids=CANDIDATES)
def test_candidates(world: Snapshot, expected: str) -> None:
    assert candidates(world) == expected


def test_the_owner_is_the_best_of_the_preferred() -> None:
    preferred = NodePreference(10, selector(disk="fast"))
    world = snapshot(
        WEB,
        l2=(L2Advertisement("l2", preferences=(preferred,)),),
        node_fields={"c": {"labels": {"disk": "fast"}}},
    )
    assert seen(world).l2[ip("192.0.2.10")].owner == "c"


def test_interfaces_add_up_and_one_advertisement_for_all_means_all() -> None:
    one, two = (
        L2Advertisement("1", interfaces=frozenset({"eth0"})),
        L2Advertisement("2", interfaces=frozenset({"eth1"})),
    )
    assert seen(snapshot(WEB, l2=(one, two))).l2[ip("192.0.2.10")].interfaces == {"eth0", "eth1"}
    assert (
        seen(snapshot(WEB, l2=(one, L2Advertisement("all")))).l2[ip("192.0.2.10")].interfaces == frozenset()
    )


def test_services_that_share_an_ip_have_one_owner_and_it_stays_while_one_of_them_serves() -> None:
    other = service("other", held="192.0.2.10", sharing_key="k")
    world = snapshot(WEB, other)
    assert seen(world).l2[ip("192.0.2.10")].services == ("default/other", "default/web")
    world = replace(world, endpoints={"default/web": world.endpoints["default/web"]})
    found = seen(world)
    assert found.l2[ip("192.0.2.10")].services == ("default/web",)
    assert [f"{r.service} {row(r)}" for r in found.unannounced] == ["default/other layer2 - NoEndpoint"]


# --- why not --------------------------------------------------------------------------------------------

WHY_NOT = {
    "nothing is missing": (snapshot(WEB), []),
    "no advertisement at all": (
        snapshot(WEB, l2=NO_L2),
        ["bgp - NoAdvertisement", "layer2 - NoAdvertisement"],
    ),
    "who is announced by BGP does not miss layer 2": (snapshot(WEB, l2=NO_L2, bgp=(BGP,)), []),
    "no endpoint": (snapshot(WEB, on=""), ["layer2 - NoEndpoint"]),
    "no endpoint, by both": (
        snapshot(WEB, on="", bgp=(BGP,), nodes="a b"),
        ["bgp a NoEndpoint", "bgp b NoEndpoint", "layer2 - NoEndpoint"],
    ),
    "no live node": (snapshot(WEB, members=""), ["layer2 - NoCandidate"]),
    "no node that the advertisement selects": (
        snapshot(WEB, l2=(L2Advertisement("l2", scope(node_selectors=(selector(rack="9"),))),)),
        ["layer2 - NodeNotSelected"],
    ),
    "Local, with its endpoint where nobody may announce": (
        snapshot(LOCAL, on="b", node_fields={"b": EXCLUDED}),
        ["layer2 - NoLocalEndpoint"],
    ),
    "Local by BGP: the nodes without an endpoint": (
        snapshot(LOCAL, on="a", l2=NO_L2, bgp=(BGP,)),
        ["bgp b NoLocalEndpoint", "bgp c NoLocalEndpoint"],
    ),
    "an excluded node": (
        snapshot(WEB, l2=NO_L2, bgp=(BGP,), node_fields={"b": EXCLUDED}),
        ["bgp b NodeExcluded"],
    ),
    "no peer": (snapshot(WEB, l2=NO_L2, bgp=(BGP,), peers=()), ["bgp - NoPeer"]),
    "a peer that no node has": (
        snapshot(WEB, l2=NO_L2, bgp=(replace(BGP, peers=frozenset({"other"})),)),
        ["bgp - NoPeer"],
    ),
    "two advertisements that contradict each other": (
        snapshot(WEB, l2=NO_L2, nodes="a", bgp=(BGP, BGPAdvertisement("2", local_pref=200))),
        ["bgp a ConflictingAdvertisements"],
    ),
    "advertised for other services only": (
        snapshot(WEB, l2=(L2Advertisement("l2", scope(service_selectors=(selector(tier="x"),))),)),
        ["bgp - NoAdvertisement", "layer2 - NoAdvertisement"],
    ),
}


@pytest.mark.parametrize(("world", "expected"), WHY_NOT.values(), ids=WHY_NOT)
def test_why_not(world: Snapshot, expected: list[str]) -> None:
    assert [row(found) for found in seen(world).unannounced] == expected


# --- BGP ------------------------------------------------------------------------------------------------


def test_every_node_announces_the_same_to_the_router() -> None:
    ad = replace(BGP, local_pref=150, communities=("64512:1",))
    routes = seen(snapshot(WEB, l2=NO_L2, bgp=(ad,))).bgp
    assert set(routes) == {"a", "b", "c"}
    (planned,) = {
        *routes["a"]["router"].values(),
        *routes["b"]["router"].values(),
        *routes["c"]["router"].values(),
    }
    assert str(planned.route.prefix) == "192.0.2.10/32"
    assert planned.route.local_pref == 150
    assert planned.route.communities == ("64512:1",)
    assert planned.services == ("default/web",)


def test_an_aggregate_stays_while_one_service_needs_it() -> None:
    ad = replace(BGP, aggregation_length=24)
    other = service("other", held="192.0.2.11")
    world = snapshot(WEB, other, l2=NO_L2, bgp=(ad,), nodes="a")
    (planned,) = seen(world).bgp["a"]["router"].values()
    assert str(planned.route.prefix) == "192.0.2.0/24"
    assert planned.services == ("default/other", "default/web")
    (planned,) = seen(replace(world, services={"default/web": WEB})).bgp["a"]["router"].values()
    assert planned.services == ("default/web",)


def test_communities_of_two_advertisements_add_up() -> None:
    ads = (replace(BGP, communities=("1:1",)), BGPAdvertisement("2", communities=("2:2",)))
    (planned,) = seen(snapshot(WEB, l2=NO_L2, bgp=ads, nodes="a")).bgp["a"]["router"].values()
    assert planned.route.communities == ("1:1", "2:2")


def test_only_the_peers_of_the_node_and_of_the_advertisement() -> None:
    rack = replace(ROUTER, name="rack", address=ip("192.0.2.2"), node_selectors=(selector(rack="1"),))
    world = snapshot(
        WEB, l2=NO_L2, bgp=(BGP,), peers=(ROUTER, rack), node_fields={"a": {"labels": {"rack": "1"}}}
    )
    routes = seen(world).bgp
    assert set(routes["a"]) == {"router", "rack"}
    assert set(routes["b"]) == {"router"}


# --- one node -------------------------------------------------------------------------------------------


def want(world: Snapshot, node: str) -> Desired:
    return desired(world, holders(world.services.values()), node)


def test_exactly_one_node_owns_an_ip_and_all_agree_who() -> None:
    services = [service(f"s{n}", held=f"192.0.2.{n + 10}") for n in range(40)]
    world = snapshot(*services)
    owned = {node: set(want(world, node).owned) for node in "abc"}
    assert sum(map(len, owned.values())) == 40
    assert set.union(*owned.values()) == {s.held[0] for s in services}
    assert min(map(len, owned.values())) > 5, "and they are spread"


def test_the_plan_says_only_what_changes_and_claims_before_it_releases() -> None:
    one, two = service("one", held="192.0.2.10"), service("two", held="192.0.2.11")
    before = want(snapshot(one, nodes="a"), "a")
    after = want(snapshot(two, nodes="a"), "a")
    assert plan(before, after) == [Claim(ip("192.0.2.11"), Duty()), Release(ip("192.0.2.10"))]
    assert plan(after, after) == []


def test_a_changed_peer_gets_its_routes_again_and_the_other_peer_hears_nothing() -> None:
    other = replace(ROUTER, name="other", address=ip("192.0.2.2"))
    before = want(snapshot(WEB, nodes="a", l2=NO_L2, bgp=(BGP,), peers=(ROUTER, other)), "a")
    changed = replace(ROUTER, hold_time_s=30)
    after = want(snapshot(WEB, nodes="a", l2=NO_L2, bgp=(BGP,), peers=(changed, other)), "a")
    peer, routes = plan(before, after)
    assert peer == SetPeer("router", changed)
    assert isinstance(routes, SetRoutes)
    assert routes.peer == "router"
    assert len(routes.routes) == 1
    gone = want(snapshot(WEB, nodes="a", l2=NO_L2, bgp=(BGP,), peers=(other,)), "a")
    assert plan(after, gone) == [SetPeer("router", None)]
