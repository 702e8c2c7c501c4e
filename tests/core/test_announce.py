"""Who announces what, and why somebody does not."""

from dataclasses import replace
from ipaddress import ip_network
from typing import Any, Literal

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
    outline,
    picture,
    plan,
)
from lbspeaker.core.election import rank
from lbspeaker.core.layer2 import l2
from lbspeaker.core.nodes import holders, serving_nodes
from lbspeaker.model import (
    EXCLUDE,
    BGPAdvertisement,
    Endpoint,
    L2Advertisement,
    L2Announcement,
    MemberLink,
    NodePreference,
    Peer,
    Pin,
    Reason,
    Refusal,
    Snapshot,
    Unannounced,
)
from tests.build import LAN, ROUTER, ip, pool, scope, selector, service, snapshot

WEB = service("web", held="192.0.2.10")
LOCAL = service("web", held="192.0.2.10", local=True)
BGP = BGPAdvertisement("bgp")
WITHIN = replace(ROUTER, peer_asn=ROUTER.my_asn)
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


# --- links ----------------------------------------------------------------------------------------------


def links(**by_node: str) -> dict[str, tuple[MemberLink, ...]]:
    """`a="eth0:192.0.2.0/24,eth1"`: what members tell of their links; "": that they have none."""
    found = {}
    for node, told in by_node.items():
        parts = [part.partition(":") for part in told.split(",") if part]
        found[node] = tuple(
            MemberLink(name, b"", tuple(map(ip_network, networks.split("+"))) if networks else ())
            for name, _, networks in parts
        )
    return found


NEAR, FAR = "192.0.2.0/24", "198.51.100.0/24"
ETH1 = (L2Advertisement("l2", interfaces=frozenset({"eth1"})),)
EITHER = (L2Advertisement("l2", interfaces=frozenset({"eth1", "eth2"})),)
ANYWHERE = (L2Advertisement("l2", any_subnet=True),)
ALL_NEAR = links(a=f"eth0:{NEAR}", b=f"eth0:{NEAR}", c=f"eth0:{NEAR}")
MIXED = links(a=f"eth0:{NEAR}", b=f"eth0:{FAR}", c="")

REACH = {
    "nobody tells of links: everybody": (snapshot(WEB), "a b c"),
    "those near the IP": (replace(snapshot(WEB), links=MIXED), "a"),
    "on one of several links, by one of several networks": (
        replace(snapshot(WEB), links=links(a=f"eth0:{FAR}", b=f"eth0:{FAR},eth1:{FAR}+{NEAR}", c="")),
        "b",
    ),
    "who tells nothing counts as near": (
        replace(snapshot(WEB), links=links(a=f"eth0:{NEAR}", b=f"eth0:{FAR}")),
        "a c",
    ),
    "nobody is near: all that have a link": (
        replace(snapshot(WEB), links=links(a=f"eth0:{FAR}", b="eth0", c="")),
        "a b",
    ),
    "any subnet will do: the same": (replace(snapshot(WEB, l2=ANYWHERE), links=MIXED), "a b"),
    "those with the link that is named, whatever its network": (
        replace(snapshot(WEB, l2=ETH1), links=links(a=f"eth0:{NEAR}", b=f"eth1:{FAR}", c="eth1")),
        "b c",
    ),
    "one of the links that are named": (
        replace(snapshot(WEB, l2=EITHER), links=links(a="eth0", b="eth1", c="eth2")),
        "b c",
    ),
    "nobody has a link that is named": (
        replace(snapshot(WEB, l2=ETH1), links=links(a="eth0", b="eth0", c="eth0")),
        "",
    ),
    "who is near must live, too": (replace(snapshot(WEB, members="b c"), links=MIXED), ""),
}


@pytest.mark.parametrize(("world", "expected"), REACH.values(), ids=REACH)
def test_which_nodes_have_a_link_for_it(world: Snapshot, expected: str) -> None:
    assert candidates(world) == expected


def test_that_no_node_has_a_link_is_said_with_those_that_they_have() -> None:
    world = replace(snapshot(WEB, l2=EITHER), links=links(a="eth0", b="bond0", c=""))
    (found,) = seen(world).unannounced
    assert row(found) == "layer2 - NoNodeLink"
    assert "named eth1 or eth2" in found.refusal.message
    assert "(they have: bond0, eth0)" in found.refusal.message
    (found,) = seen(replace(snapshot(WEB, l2=ETH1), links=links(a="", b="", c=""))).unannounced
    assert "(they have: none)" in found.refusal.message


TWO_LINKS = links(a=f"eth0:{NEAR},eth1:{NEAR},eth2:{FAR}", b=f"eth0:{NEAR}", c=f"eth0:{NEAR}")
B, BC = frozenset("b"), frozenset("bc")

SILENT = {
    "who is silent on the own link for it is none": (ALL_NEAR, snapshot(WEB), {"eth0": B}, "a c"),
    "nor who is silent on all of them": (TWO_LINKS, snapshot(WEB), {"eth0": BC, "eth1": B}, "a c"),
    "but who is heard on one": (TWO_LINKS, snapshot(WEB), {"eth0": BC}, "a b c"),
    "what is heard on other links does not matter": (TWO_LINKS, snapshot(WEB), {"eth2": BC}, "a b c"),
    "unless any link will do": (
        TWO_LINKS,
        snapshot(WEB, l2=ANYWHERE),
        {"eth0": BC, "eth1": BC, "eth2": B},
        "a c",
    ),
    "or no own link is near": (
        links(a=f"eth2:{FAR}", b=f"eth0:{NEAR}", c=f"eth0:{NEAR}"),
        snapshot(WEB),
        {"eth2": B},
        "c",
    ),
    "of the links that are named": (
        links(a="eth1,eth2", b="eth1", c="eth1"),
        snapshot(WEB, l2=ETH1),
        {"eth1": B, "eth2": BC},
        "a c",
    ),
    "without any own link nothing is known": (
        links(a="", b=f"eth0:{NEAR}", c=f"eth0:{NEAR}"),
        snapshot(WEB),
        {"eth0": BC},
        "b c",
    ),
}


@pytest.mark.parametrize(("told", "world", "silent", "expected"), SILENT.values(), ids=SILENT)
def test_who_is_silent_on_a_segment_is_no_candidate_there(
    told: dict[str, tuple[MemberLink, ...]],
    world: Snapshot,
    silent: dict[str, frozenset[str]],
    expected: str,
) -> None:
    assert candidates(replace(world, links=told, silent=silent, here="a")) == expected


# --- who comes first, and after whom --------------------------------------------------------------------

NOT_READY = {"ready": False}


def found(world: Snapshot) -> L2Announcement:
    return seen(world).l2[ip("192.0.2.10")]


def test_a_node_that_is_not_ready_is_a_candidate_only_where_none_is() -> None:
    ranking = found(snapshot(WEB)).ranking
    assert found(snapshot(WEB)).candidates == ranking
    first, second, third = ranking
    one = found(snapshot(WEB, node_fields={first: NOT_READY}))
    assert (one.candidates, one.ranking) == ((second, third), ranking)
    none = found(snapshot(WEB, node_fields=dict.fromkeys("abc", NOT_READY)))
    assert none.candidates == ranking


ENDPOINTS = {
    "those that stay": ([Endpoint("a"), Endpoint("b", ready=False)], {"a"}),
    "only where there are none, those on their way out": (
        [Endpoint("a", serving=False, ready=False), Endpoint("b", ready=False)],
        {"b"},
    ),
    "none that does not serve": ([Endpoint("a", serving=False)], set()),
    "none without a node, and it does not make the others worse": (
        [Endpoint(None), Endpoint("b", ready=False)],
        {"b"},
    ),
}


@pytest.mark.parametrize(("endpoints", "nodes"), ENDPOINTS.values(), ids=ENDPOINTS)
def test_where_traffic_arrives(endpoints: list[Endpoint], nodes: set[str]) -> None:
    assert serving_nodes(endpoints) == nodes


def test_with_policy_local_an_ip_leaves_a_node_whose_endpoint_is_on_its_way_out() -> None:
    world = snapshot(LOCAL)
    assert (
        candidates(replace(world, endpoints={LOCAL.key: (Endpoint("a", ready=False), Endpoint("b"))})) == "b"
    )
    assert candidates(replace(world, endpoints={LOCAL.key: (Endpoint("a", ready=False),)})) == "a"


def pinned(node: str, world: Snapshot) -> Snapshot:
    return replace(world, pins={ip("192.0.2.10"): Pin(node, 1)})


def above(world: Snapshot) -> tuple[str, ...]:
    """Who outranks the owner, as the owner has it."""
    return want(world, found(world).owner).owned[ip("192.0.2.10")].above


def test_a_pin_puts_one_candidate_first_and_leaves_the_others_as_they_are() -> None:
    first, second, third = found(snapshot(WEB)).ranking
    moved = found(pinned(third, snapshot(WEB)))
    assert (moved.candidates, moved.ranking) == ((third, first, second), (first, second, third))
    for gone in (
        pinned(third, snapshot(WEB, members=f"{first} {second}")),
        pinned(third, snapshot(WEB, node_fields={third: NOT_READY})),
        pinned("z", snapshot(WEB)),
    ):
        assert found(gone).owner == first, "a pin to who may not announce it counts for nothing"


def test_whoever_comes_before_the_owner_outranks_it_dead_or_alive() -> None:
    first, second, third = found(snapshot(WEB)).ranking
    assert above(snapshot(WEB)) == ()
    assert above(snapshot(WEB, members=third)) == (first, second)
    assert above(snapshot(WEB, node_fields={first: NOT_READY})) == (first,)
    assert above(snapshot(WEB, node_fields={first: EXCLUDED})) == ()
    assert above(pinned(third, snapshot(WEB))) == (), "whoever is pinned comes before all"
    assert above(pinned(third, snapshot(WEB, members=f"{first} {second}"))) == (third,)
    assert above(pinned(third, snapshot(WEB, members=second))) == (third, first)


def test_equals_are_the_candidates_that_are_preferred_as_much_as_the_owner() -> None:
    preferred = NodePreference(10, selector(disk="fast"))
    labels = {"labels": {"disk": "fast"}}
    world = snapshot(
        WEB, l2=(L2Advertisement("l2", preferences=(preferred,)),), node_fields={"a": labels, "b": labels}
    )
    assert found(world).equals == {"a", "b"}
    assert found(replace(world, members=frozenset("bc"))).equals == {"b"}
    assert found(pinned("c", world)).equals == {"c"}
    assert found(snapshot(WEB)).equals == {"a", "b", "c"}


def test_what_one_advertisement_wants_counts_for_the_ip() -> None:
    plain = found(snapshot(WEB))
    assert (plain.sticky, plain.moves_on_cordon, plain.any_subnet) == (False, False, False)
    wants = L2Advertisement("2", failback="Never", on_cordon="Move", any_subnet=True)
    both = found(snapshot(WEB, l2=(L2Advertisement("1"), wants)))
    assert (both.sticky, both.moves_on_cordon, both.any_subnet) == (True, True, True)
    duty = want(snapshot(WEB, l2=(L2Advertisement("1"), wants)), both.owner).owned[ip("192.0.2.10")]
    assert duty.any_subnet


def test_services_that_share_an_ip_share_their_advertisements_and_their_candidates() -> None:
    fast = NodePreference(10, selector(disk="fast"))
    of_web = L2Advertisement(
        "web", scope(service_selectors=(selector(app="web"),)), frozenset({"eth0"}), (fast,)
    )
    of_other = L2Advertisement(
        "other", scope(service_selectors=(selector(app="other"),)), frozenset({"eth1"})
    )
    web = replace(WEB, labels={"app": "web"}, local=True)
    other = service("other", held="192.0.2.10", labels={"app": "other"}, local=True)
    world = snapshot(web, other, l2=(of_web, of_other), node_fields={"b": {"labels": {"disk": "fast"}}})
    world = replace(
        world, endpoints={web.key: (Endpoint("b"), Endpoint("c")), other.key: (Endpoint("a"), Endpoint("b"))}
    )
    assert found(world).interfaces == {"eth0", "eth1"}
    assert candidates(world) == "a b c"
    assert found(world).owner == "b", "the better of what two say of it"


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
    "one of two advertisements has a peer": (
        snapshot(WEB, l2=NO_L2, bgp=(BGP, BGPAdvertisement("2", peers=frozenset({"other"})))),
        [],
    ),
    "no endpoint: not said of nodes that have no peer": (
        snapshot(
            WEB,
            on="",
            l2=NO_L2,
            bgp=(BGP,),
            peers=(replace(ROUTER, node_selectors=(selector(rack="1"),)),),
            node_fields={"b": {"labels": {"rack": "1"}}},
        ),
        ["bgp b NoEndpoint"],
    ),
    "two advertisements that contradict each other": (
        snapshot(WEB, l2=NO_L2, nodes="a", bgp=(BGP, BGPAdvertisement("2", med=200))),
        ["bgp a ConflictingAdvertisements"],
    ),
    "two that contradict each other in what this router is not told": (
        snapshot(WEB, l2=NO_L2, nodes="a", bgp=(BGP, BGPAdvertisement("2", local_pref=200))),
        [],
    ),
    "two that contradict each other in what a router of our AS is told": (
        snapshot(WEB, l2=NO_L2, nodes="a", bgp=(BGP, BGPAdvertisement("2", local_pref=200)), peers=(WITHIN,)),
        ["bgp a ConflictingAdvertisements"],
    ),
    "two that contradict each other in what a router of our AS is not told": (
        snapshot(WEB, l2=NO_L2, nodes="a", bgp=(BGP, BGPAdvertisement("2", prepend=2)), peers=(WITHIN,)),
        [],
    ),
    "two that contradict each other in another way": (
        snapshot(WEB, l2=NO_L2, nodes="a", bgp=(replace(BGP, med=1), BGPAdvertisement("2", med=2))),
        ["bgp a ConflictingAdvertisements"],
    ),
    "no endpoint, and routes that are kept": (
        snapshot(WEB, on="", l2=NO_L2, nodes="a b", bgp=(replace(BGP, when_no_endpoints="Keep"),)),
        [],
    ),
    "kept routes are not those of an excluded node": (
        snapshot(
            WEB,
            on="",
            l2=NO_L2,
            nodes="a b",
            bgp=(replace(BGP, when_no_endpoints="Keep"),),
            node_fields={"b": EXCLUDED},
        ),
        ["bgp b NodeExcluded"],
    ),
    "kept routes are not those of a node without an endpoint, while others have some": (
        snapshot(LOCAL, on="a", l2=NO_L2, bgp=(replace(BGP, when_no_endpoints="Keep"),), nodes="a b"),
        ["bgp b NoLocalEndpoint"],
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


def test_of_two_advertisements_one_may_keep_its_routes() -> None:
    keeping = BGPAdvertisement("2", aggregation_length=24, when_no_endpoints="Keep")
    routes = seen(snapshot(WEB, on="", l2=NO_L2, nodes="a", bgp=(BGP, keeping))).bgp["a"]["router"]
    assert list(map(str, routes)) == ["192.0.2.0/24"]


@pytest.mark.parametrize(("on_cordon", "leaving"), [("Stay", ()), ("Move", ("65535:0",))])
def test_a_cordoned_node_may_be_the_last_choice(
    on_cordon: Literal["Stay", "Move"], leaving: tuple[str, ...]
) -> None:
    ad = replace(BGP, communities=("64512:1",), on_cordon=on_cordon, med=7, prepend=2)
    world = snapshot(WEB, l2=NO_L2, nodes="a b", bgp=(ad,), node_fields={"b": {"cordoned": True}})
    found = {node: next(iter(routes["router"].values())).route for node, routes in seen(world).bgp.items()}
    assert found["a"].communities == ("64512:1",)
    assert found["b"].communities == ("64512:1", *leaving)
    assert {(route.med, route.prepend) for route in found.values()} == {(7, 2)}


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


FIRST = BGPAdvertisement("1", scope(service_selectors=(selector(app="web"),)), local_pref=100, med=10)
OTHER = BGPAdvertisement("2", scope(service_selectors=(selector(app="other"),)), local_pref=200, med=20)


@pytest.mark.parametrize("ads", [(FIRST, OTHER), (OTHER, FIRST)])
@pytest.mark.parametrize("name", ["a", "z"], ids=["the Service comes first", "the Service comes last"])
def test_services_that_share_an_ip_cannot_want_one_route_in_two_ways(
    ads: tuple[BGPAdvertisement, ...], name: str
) -> None:
    """The first advertisement by name decides on every node, wherever endpoints are."""
    web = service(name, held="192.0.2.10", labels={"app": "web"}, local=True)
    other = service("m", held="192.0.2.10", labels={"app": "other"}, local=True)
    endpoints = {web.key: (Endpoint("a"), Endpoint("b")), other.key: (Endpoint("b"), Endpoint("c"))}
    world = replace(snapshot(web, other, l2=NO_L2, bgp=ads), endpoints=endpoints)
    found = seen(world)
    for node in "ab":
        (planned,) = found.bgp[node]["router"].values()
        assert (planned.route.local_pref, planned.route.med) == (100, 10)
        assert planned.services == (web.key,)
    assert found.bgp["c"] == {}
    refused = [(one.node, one.service, one.refusal) for one in found.unannounced if one.node != "a"]
    words = "BGPAdvertisements 1 and 2 give 192.0.2.10/32 different med (10 and 20)"
    conflict = Refusal(Reason.CONFLICTING_ADVERTISEMENTS, f"{words} for peer router; 1 alone counts")
    assert ("b", other.key, conflict) in refused
    assert ("c", other.key, conflict) in refused
    assert not any(service == web.key and node == "b" for node, service, _ in refused)


def test_ips_in_one_aggregate_cannot_want_it_in_two_ways() -> None:
    pools = (LAN, pool("far", "192.0.2.100-192.0.2.150"))
    ads = tuple(
        BGPAdvertisement(name, scope(pools=frozenset({of})), aggregation_length=24, med=med)
        for name, of, med in (("2", "lan", 2), ("1", "far", 1))
    )
    far = service("far", held="192.0.2.100")
    found = seen(snapshot(WEB, far, l2=NO_L2, nodes="a", bgp=ads, pools=pools))
    (planned,) = found.bgp["a"]["router"].values()
    assert (planned.route.med, planned.services) == (1, ("default/far",))
    assert [(one.service, row(one)) for one in found.unannounced] == [
        ("default/web", "bgp a ConflictingAdvertisements")
    ]


def test_what_two_say_to_different_nodes_or_peers_is_no_conflict() -> None:
    racks = {node: {"labels": {"rack": node}} for node in "ab"}
    by_node = tuple(
        BGPAdvertisement(rack, scope(node_selectors=(selector(rack=rack),)), med=med)
        for rack, med in (("a", 1), ("b", 2))
    )
    found = seen(snapshot(WEB, l2=NO_L2, nodes="a b", bgp=by_node, node_fields=racks))
    assert [next(iter(found.bgp[node]["router"].values())).route.med for node in "ab"] == [1, 2]
    second = replace(ROUTER, name="second", address=ip("192.0.2.2"))
    by_peer = (replace(BGP, peers=frozenset({"router"}), med=1), BGPAdvertisement("2", med=2))
    found = seen(snapshot(WEB, l2=NO_L2, nodes="a", bgp=by_peer[1:], peers=(ROUTER, second)))
    assert found.unannounced == ()
    found = seen(snapshot(WEB, l2=NO_L2, nodes="a", bgp=by_peer, peers=(ROUTER, second)))
    meds = {peer: next(iter(table.values())).route.med for peer, table in found.bgp["a"].items()}
    assert meds == {"router": 2, "second": 2}, "of two for one peer, the first by name"
    assert [row(one) for one in found.unannounced] == ["bgp a ConflictingAdvertisements"]


def test_only_the_peers_of_the_node_and_of_the_advertisement() -> None:
    rack = replace(ROUTER, name="rack", address=ip("192.0.2.2"), node_selectors=(selector(rack="1"),))
    world = snapshot(
        WEB, l2=NO_L2, bgp=(BGP,), peers=(ROUTER, rack), node_fields={"a": {"labels": {"rack": "1"}}}
    )
    routes = seen(world).bgp
    assert set(routes["a"]) == {"router", "rack"}
    assert set(routes["b"]) == {"router"}
    assert set(want(world, "a").peers) == {"router", "rack"}
    assert set(want(world, "b").peers) == set(want(world, "unknown").peers) == {"router"}


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


def test_who_decides_for_itself_lives() -> None:
    """For BGP; who owns an IP on the segment is decided by all."""
    world = snapshot(WEB, nodes="a b", members="b", bgp=(BGP,))
    mine = want(world, "a")
    assert list(map(str, mine.routes["router"])) == ["192.0.2.10/32"]
    assert mine.owner(ip("192.0.2.10")) == "b"
    for node in ({"labels": EXCLUDED["labels"]}, {"network_unavailable": True}):
        assert want(replace(world, nodes=snapshot(node_fields={"a": node}).nodes), "a").routes == {}
    assert want(world, "unknown").routes == {}


def test_what_no_node_announces_is_counted_by_reason() -> None:
    web, api, db = (service(name, held=f"192.0.2.1{n}") for n, name in enumerate(("web", "api", "db")))
    gone = replace(snapshot(web, api, db), endpoints={api.key: (Endpoint("a"),), db.key: (Endpoint("a"),)})

    def counted(world: Snapshot) -> dict[str, int]:
        found = desired(world, holders(world.services.values()), "a")
        return found.unannounced_ips()

    assert counted(gone) == {"NoEndpoint": 1}
    bare = replace(gone, config=replace(gone.config, l2_advertisements=()))
    assert counted(bare) == {"NoAdvertisement": 3}
    routed = snapshot(web, api, db, l2=(), bgp=(BGPAdvertisement("bgp"),))
    assert counted(routed) == {}
    assert counted(replace(routed, endpoints=gone.endpoints)) == {"NoEndpoint": 1}
    both = replace(gone, config=replace(routed.config, l2_advertisements=gone.config.l2_advertisements))
    assert counted(both) == {"NoEndpoint": 1}, "by neither of two ways, and yet one IP"
    assert counted(replace(routed, config=replace(routed.config, peers=()))) == {"NoPeer": 3}


NOBODY: dict[str, tuple[dict[str, Any], Reason, str]] = {
    "no endpoint": (
        {"on": ""},
        Reason.NO_ENDPOINT,
        "has no endpoint that serves (none is ready)",
    ),
    "Pods only where nothing may be announced": (
        {"on": "c", "node_fields": {"c": EXCLUDED}},
        Reason.NO_LOCAL_ENDPOINT,
        f"has a serving endpoint: c has the label {EXCLUDE}",
    ),
    "all taken out": (
        {"node_fields": dict.fromkeys("abc", EXCLUDED)},
        Reason.NODE_EXCLUDED,
        f"a has the label {EXCLUDE}, b has the label {EXCLUDE}, c has the label {EXCLUDE}",
    ),
    "no speaker": ({"members": ""}, Reason.NO_CANDIDATE, "no live speaker on a, no live speaker on b"),
    "a peer on dead nodes only": (
        {
            "members": "b c",
            "node_fields": {"a": {"labels": {"side": "east"}}},
            "peers": (replace(ROUTER, node_selectors=(selector(side="east"),)),),
        },
        Reason.NODE_NOT_SELECTED,
        "BGPAdvertisement bgp selects no live node that has a peer",
    ),
}


@pytest.mark.parametrize(("fields", "reason", "message"), NOBODY.values(), ids=NOBODY)
def test_why_nobody_announces_it_by_bgp(fields: dict[str, Any], reason: Reason, message: str) -> None:
    world = snapshot(replace(WEB, local=True), l2=(), bgp=(BGPAdvertisement("bgp"),), **fields)
    if fields.get("on") == "":
        world = replace(world, endpoints={WEB.key: (Endpoint("a", serving=False, ready=False),)})
    (row,) = outline(world, holders(world.services.values())).unannounced
    assert (row.node, row.protocol, row.refusal.reason) == (None, "bgp", reason)
    assert message in row.refusal.message


def test_who_is_announced_from_here() -> None:
    web, api = service("web", held="192.0.2.10"), service("api", held="192.0.2.11")
    world = snapshot(web, api, nodes="a", bgp=(BGPAdvertisement("bgp", aggregation_length=24),))
    found = desired(world, holders(world.services.values()), "a").announced(world.services)
    assert found == {(one.key, protocol, one.held[0]) for one in (web, api) for protocol in ("layer2", "bgp")}


# --- the outline is the picture, without its routes ----------------------------------------------------

SIDES = st.sampled_from([(), (selector(side="east"),), (selector(side="west"),)])
ADS = st.builds(
    lambda name, sides, peers, keep: BGPAdvertisement(
        name,
        scope(node_selectors=sides),
        peers=frozenset(peers),
        when_no_endpoints="Keep" if keep else "Withdraw",
    ),
    st.sampled_from(["one", "two"]),
    SIDES,
    st.sets(st.sampled_from(["router", "tor"]), max_size=1),
    st.booleans(),
)
PEERS = st.lists(
    st.builds(lambda name, sides: replace(ROUTER, name=name, node_selectors=sides),
              st.sampled_from(["router", "tor"]), SIDES),
    max_size=2, unique_by=lambda peer: peer.name,
)  # fmt: skip


@given(
    st.lists(ADS, max_size=2, unique_by=lambda ad: ad.name),
    PEERS,
    st.booleans(),
    st.sets(st.sampled_from("abcd")),
    st.sets(st.sampled_from("abcd")),
)
def test_the_outline_is_the_picture_without_its_routes(
    ads: list[BGPAdvertisement], peers: list[Peer], local: bool, on: set[str], members: set[str]
) -> None:
    services = (
        service("web", held="192.0.2.10", local=local),
        service("dns", held="192.0.2.11"),
        service("odd", held="198.51.100.1"),
    )
    fields = {
        "a": {"labels": {"side": "east"}},
        "b": {"labels": {"side": "east"} | EXCLUDED["labels"]},
        "c": {"labels": {"side": "west"}},
    }
    world = snapshot(
        *services,
        nodes="a b c d",
        on=" ".join(sorted(on)),
        members=" ".join(sorted(members)),
        bgp=tuple(ads),
        peers=tuple(peers),
        node_fields=fields,
    )
    held = holders(world.services.values())
    drawn, found = picture(world, held), outline(world, held)
    told: dict[tuple[str, int], dict[str, set[str]]] = {}
    for node, tables in drawn.bgp.items():
        for peer, table in tables.items():
            for prefix, planned in table.items():
                for key in planned.services:
                    told.setdefault((key, prefix.version), {}).setdefault(node, set()).add(peer)
    assert {about: {node: {*some} for node, some in one.items()} for about, one in found.bgp.items()} == told
    assert found.l2 == drawn.l2
    of_nodes = {(row.service, row.ip) for row in drawn.unannounced if row.node and row.protocol == "bgp"}
    assert {row for row in drawn.unannounced if row.node is None} == {
        row for row in found.unannounced if row.protocol != "bgp" or (row.service, row.ip) not in of_nodes
    }
    announced = {(key, ip.version) for key, ip in ((one.key, one.held[0]) for one in services)}
    refused = {(row.service, row.ip.version) for row in found.unannounced}
    assert announced <= refused | told.keys() | {
        (key, 4) for one in found.l2.values() for key in one.services
    }, "who is announced by nobody has a reason"
