"""What a router must have, and what is said of one that has something else."""

from dataclasses import replace
from ipaddress import ip_network
from typing import Any

import pytest

from lbspeaker.core.upstream import expected, label, upstream
from lbspeaker.core.upstream_check import check
from lbspeaker.errors import Unable
from lbspeaker.model import BFDProfile, BGPAdvertisement, Config, Node, Peer, Pool, Snapshot
from lbspeaker.upstream import (
    Accepted,
    Filters,
    MapRule,
    Path,
    PrefixRule,
    RouterView,
    Session,
    Upstream,
)
from tests.build import ip, ips, pool, scope, selector, service, snapshot

PEER = Peer("router", 64513, 64512, ip("192.0.2.1"))
AD = BGPAdvertisement("all")


def cluster(
    *pools: Pool, ads: tuple[BGPAdvertisement, ...] = (AD,), peer: Peer = PEER, nodes: Any = None
) -> Snapshot:
    nodes = nodes or {
        "a": ips("192.0.2.201", "2001:db8::201"),
        "b": ips("192.0.2.202", "2001:db8::202"),
    }
    return Snapshot(
        Config(pools or (pool("lan", "203.0.113.0-203.0.113.255"),), (), ads, (peer,)),
        nodes={name: Node(name, addresses=addresses) for name, addresses in nodes.items()},
    )


def accepted(up: Upstream) -> list[str]:
    return [f"{a.network} {a.length}" for one in up.prefix_lists for a in one.entries]


# --- what it must have ----------------------------------------------------------------------------------


def test_each_node_is_a_neighbour_and_each_pool_a_list() -> None:
    up = upstream(cluster(), PEER)
    assert [(n.node, str(n.address)) for n in up.neighbors] == [("a", "192.0.2.201"), ("b", "192.0.2.202")]
    assert [one.name for one in up.prefix_lists] == ["LBS-router-V4-lan"]
    assert accepted(up) == ["203.0.113.0/24 32"]
    assert (up.families, up.paths, up.keepalive_s) == ((4,), 8, 30)


def test_many_nodes_need_as_many_next_hops() -> None:
    nodes = {f"n{i}": ips(f"192.0.2.{i}") for i in range(1, 21)}
    assert upstream(cluster(nodes=nodes), PEER).paths == 20


@pytest.mark.parametrize(
    ("ranges", "lengths", "networks"),
    [
        (["192.0.2.60-192.0.2.65"], [32], ["192.0.2.60/30 32", "192.0.2.64/31 32"]),
        (["192.0.2.60-192.0.2.65"], [28], ["192.0.2.48/28 28", "192.0.2.64/28 28"]),
        (["192.0.2.60-192.0.2.65"], [24, 32], ["192.0.2.0/24 24", "192.0.2.60/30 32", "192.0.2.64/31 32"]),
        (["192.0.2.0-192.0.2.7", "192.0.2.8-192.0.2.15"], [32], ["192.0.2.0/28 32"]),
        (["10.0.0.0-10.255.255.255"], [8, 32], ["10.0.0.0/8 8", "10.0.0.0/8 32"]),
    ],
)
def test_what_is_announced_is_taken_and_nothing_beside_it(
    ranges: list[str], lengths: list[int], networks: list[str]
) -> None:
    ads = tuple(BGPAdvertisement(f"ad{length}", aggregation_length=length) for length in lengths)
    assert accepted(upstream(cluster(pool("p", *ranges), ads=ads), PEER)) == networks


def test_only_pools_that_are_announced_to_this_peer_from_its_nodes() -> None:
    lan, wan, web = (pool(n, f"10.{i}.0.0-10.{i}.0.3") for i, n in enumerate(("lan", "wan", "web")))
    ads = (
        BGPAdvertisement("1", scope(pools=frozenset({"lan"}))),
        BGPAdvertisement("2", scope(pools=frozenset({"wan"})), peers=frozenset({"other"})),
        BGPAdvertisement("3", scope(pools=frozenset({"web"}), node_selectors=(selector(rack="z"),))),
    )
    assert accepted(upstream(cluster(lan, wan, web, ads=ads), PEER)) == ["10.0.0.0/30 32"]


def test_an_ip_that_a_service_keeps_from_a_pool_that_shrank_is_taken() -> None:
    kept = service("web", held="10.9.9.9", held_pool="lan")
    world = replace(cluster(), services={kept.key: kept})
    assert accepted(upstream(world, PEER)) == ["10.9.9.9/32 32", "203.0.113.0/24 32"]


def test_both_families_over_one_session_of_either() -> None:
    world = cluster(pool("lan", "203.0.113.0-203.0.113.3", "2001:db8:1::-2001:db8:1::3"))
    assert upstream(world, PEER).families == (4, 6)
    six = replace(PEER, address=ip("2001:db8::1"))
    up = upstream(cluster(*world.config.pools, peer=six), six)
    assert up.families == (4, 6)
    assert str(up.neighbors[0].address) == "2001:db8::201"
    assert up.notes == ()


def test_a_node_without_a_next_hop_of_the_other_family_is_noted() -> None:
    both = pool("lan", "203.0.113.0-203.0.113.3", "2001:db8:1::-2001:db8:1::3")
    six = replace(PEER, address=ip("2001:db8::1"))
    needed = "IPv{0} routes need an IPv{0} address as next hop; none is known of a"
    for peer, own, lacks in ((PEER, "192.0.2.201", 6), (six, "2001:db8::201", 4)):
        world = cluster(both, peer=peer, nodes={"a": ips(own)})
        assert upstream(world, peer).notes == (needed.format(lacks),)


def test_of_several_addresses_the_one_like_the_routers() -> None:
    world = cluster(nodes={"a": ips("10.0.0.5", "192.0.2.201", "172.16.0.5")})
    up = upstream(world, PEER)
    assert str(up.neighbors[0].address) == "192.0.2.201"
    assert up.notes == ("a has several IPv4 addresses; 192.0.2.201 is the nearest to the router",)
    there = replace(PEER, source_address=ip("172.16.0.5"))
    assert str(
        upstream(cluster(nodes={"a": ips("10.0.0.5", "172.16.0.5")}, peer=there), there).neighbors[0].address
    ) == ("172.16.0.5")


def test_nodes_of_other_racks_and_nodes_without_address() -> None:
    peer = replace(PEER, node_selectors=(selector(rack="x"),))
    nodes = {
        "a": Node("a", {"rack": "x"}, addresses=ips("192.0.2.201")),
        "b": Node("b", {"rack": "x"}),
        "c": Node("c", {"rack": "y"}, addresses=ips("192.0.2.203")),
    }
    up = upstream(replace(cluster(peer=peer), nodes=nodes), peer)
    assert [n.node for n in up.neighbors] == ["a"]
    assert up.notes == ("left out, because an IPv4 address is not known of them: b",)


@pytest.mark.parametrize(
    ("world", "what"),
    [
        (replace(cluster(), nodes={}), "there is no Node in these documents"),
        (replace(cluster(), nodes={"a": Node("a")}), "no IPv4 address of a is known"),
        (cluster(ads=()), "nothing is announced to BGPPeer router"),
        (cluster(peer=replace(PEER, node_selectors=(selector(x="y"),))), "select no Node"),
    ],
)
def test_what_cannot_be_decided_is_said(world: Snapshot, what: str) -> None:
    with pytest.raises(Unable, match=what):
        upstream(world, world.config.peers[0])


def test_names_become_names_for_routers_and_stay_different() -> None:
    assert label("lan") == "lan"
    strange = ["a.b", "a-b", 'x"; drop', "x\n! y", "ünïcode", "a" * 300, "a" * 301, "", "-", "{}"]
    labels = [label(each) for each in strange]
    assert len(set(labels)) == len(strange)
    for each in labels:
        assert each and len(each) <= 31 and set(each) <= set("abcdefghijklmnopqrstuvwxyz0123456789-nc")


def test_expected_are_the_routes_of_nodes_that_announce() -> None:
    world = snapshot(service("web", held="192.0.2.10", local=True), on="a b", l2=(), bgp=(AD,))
    assert {str(p): sorted(nodes) for p, nodes in expected(world, "router").items()} == {
        "192.0.2.10/32": ["a", "b"]
    }
    down = {**world.nodes, "b": replace(world.nodes["b"], ready=False)}
    routes = expected(replace(world, nodes=down), "router")
    assert {str(p): sorted(nodes) for p, nodes in routes.items()} == {"192.0.2.10/32": ["a"]}
    planned = snapshot(service("web"), l2=(), bgp=(AD,))
    assert [str(p) for p in expected(planned, "router")] == ["192.0.2.10/32"], (
        "files that no cluster has seen"
    )


# --- what is wrong --------------------------------------------------------------------------------------

UP = upstream(cluster(), PEER)
A, B = (n.address for n in UP.neighbors)
PREFIX = ip_network("203.0.113.7/32")
EXPECTED = {PREFIX: {"a": None, "b": None}}


def session(address: Any, **fields: Any) -> Session:
    filters = {4: Filters(route_map="IN")}
    values: dict[str, Any] = {
        "state": "Established",
        "remote_asn": 64513,
        "local_asn": 64512,
        "filters": filters,
    }
    values |= {"families": frozenset({4}), "password": False, "bfd": "", "accepted": {4: 1}, **fields}
    return Session(address, **values)


def path(neighbor: Any, **fields: Any) -> Path:
    values: dict[str, Any] = {"used": True, "as_path": (64513,), **fields}
    return Path(PREFIX, neighbor, neighbor, **values)


def view(*sessions: Session, paths: Any = None, **fields: Any) -> RouterView:
    known = {each.address: each for each in sessions or (session(A), session(B))}
    paths = (path(A), path(B)) if paths is None else paths
    values: dict[str, Any] = {
        "installed": {PREFIX: frozenset({A, B})},
        "prefix_lists": {(4, "P"): (PrefixRule(True, ip_network("203.0.113.0/24"), 32, 32),)},
        "route_maps": {"IN": (MapRule(True, ("P",)),)},
        **fields,
    }
    return RouterView("FRR", 64512, known, tuple(paths), **values)


def codes(found: RouterView, up: Upstream = UP, **options: Any) -> list[str]:
    return [f"{f.code} {' '.join(f.subjects)}" for f in check(up, EXPECTED, found, **options)]  # type: ignore[arg-type]


def test_all_is_well() -> None:
    assert codes(view()) == []


def down(**fields: Any) -> RouterView:
    return view(session(A), session(B, **{"state": "Active", "families": None, **fields}), paths=[path(A)])


ON_B = "b (192.0.2.202)"


@pytest.mark.parametrize(
    ("found", "code"),
    [
        (down(), "no-session"),
        (down(remote_asn=65000), "wrong-as"),
        (down(local_asn=65000), "wrong-as"),
        (down(last_error="OPEN Message Error/Bad Peer AS"), "wrong-as"),
        (down(password=True), "password"),
        (down(state="Idle (Admin)"), "shutdown"),
        (down(state="Idle (PfxCt)"), "max-prefix"),
        (down(last_error="Cease/Maximum Number of Prefixes Reached"), "max-prefix"),
        (down(last_error="No path to specified Neighbor"), "no-path"),
        (down(last_error="Cease/Connection collision resolution"), "collision"),
        (down(last_error="BFD down received"), "bfd-down"),
        (down(last_error="Hold Timer Expired"), "hold-timer"),
        (down(last_error="whatever", wait_s=42.0), "waiting"),
        (down(bfd="up"), "stuck"),
    ],
)
def test_a_session_that_is_down_has_one_cause(found: RouterView, code: str) -> None:
    assert codes(found) == [f"{code} {ON_B}"], "and no route is missed beside it"


def test_passwords_that_differ_are_thought_of_where_there_is_one() -> None:
    for up, known in ((UP, False), (replace(UP, password="somewhere"), True)):
        for state in (down(bfd="up", password=known), down(password=known)):
            (finding,) = check(up, EXPECTED, state)
            assert ("passwords differ" in finding.what) is known


def test_a_password_that_only_the_nodes_have() -> None:
    assert codes(down(), replace(UP, password="somewhere")) == [f"password {ON_B}"]
    found = check(replace(UP, password="somewhere"), EXPECTED, down(password=True))  # type: ignore[arg-type]
    assert found[0].code == "no-session" and "the passwords differ" in found[0].what


def up_with(**fields: Any) -> RouterView:
    return view(session(A), session(B, **fields))


@pytest.mark.parametrize(
    ("found", "code"),
    [
        (up_with(limits={4: 10}), "max-prefix-limit"),
        (up_with(bfd="down"), "bfd-unwanted"),
        (up_with(families=frozenset({6})), "no-family"),
        (up_with(ungoverned=frozenset({4})), "no-policy"),
    ],
)
def test_a_session_that_is_up_and_not_as_it_should_be(found: RouterView, code: str) -> None:
    assert codes(found) == [f"{code} {ON_B}"]


def test_bfd() -> None:
    up = replace(UP, bfd=BFDProfile())
    assert codes(view(session(A, bfd="up"), session(B, bfd="")), up) == [f"no-bfd {ON_B}"]
    assert codes(view(session(A, bfd="up"), session(B, bfd="down")), up) == [f"bfd-down {ON_B}"]
    graceful = replace(up, graceful_restart_s=120)
    both = view(session(A, bfd="up"), session(B, bfd="up"))
    assert codes(both, graceful) == ["restart-with-bfd router"]


P24 = ip_network("203.0.113.0/24")


def missing(**fields: Any) -> RouterView:
    return view(paths=[path(A)], installed={PREFIX: frozenset({A})}, **fields)


@pytest.mark.parametrize(
    ("found", "code"),
    [
        (missing(prefix_lists={(4, "P"): (PrefixRule(True, P24, 24, 24),)}), "prefix-length"),
        (missing(prefix_lists={(4, "P"): ()}), "policy-refuses"),
        (missing(prefix_lists={}), "policy-refuses"),
        (missing(route_maps={"IN": (MapRule(False),)}), "policy-refuses"),
        (missing(route_maps={"IN": ()}), "policy-refuses"),
        (missing(route_maps={"IN": (MapRule(True, unclear=True),)}), "not-there"),
        (missing(), "not-there"),
    ],
)
def test_a_route_that_is_missing(found: RouterView, code: str) -> None:
    assert codes(found) == [f"{code} {PREFIX} from {ON_B}"]


@pytest.mark.parametrize(
    ("paths", "code"),
    [
        ([path(A), path(B, used=False)], "multipath"),
        ([path(A), path(B, used=False, med=50)], "attributes-differ"),
        ([path(A), path(B, used=False, origin="incomplete")], "attributes-differ"),
        ([path(A, used=False), path(B, used=False), path(ip("192.0.2.9"))], "shadowed"),
        ([path(A, used=False), path(B, used=False)], "not-best"),
    ],
)
def test_routes_that_are_there_and_not_used(paths: list[Path], code: str) -> None:
    assert codes(view(paths=paths))[0] == f"{code} {PREFIX}"


def test_a_route_that_is_stale_unreachable_or_about_to_go() -> None:
    assert codes(view(paths=[path(A), path(B, stale=True)])) == [f"stale {PREFIX} from {ON_B}"]
    one = {"installed": {PREFIX: frozenset({A})}}
    assert codes(view(paths=[path(A), path(B, used=False, valid=False)], **one)) == [
        f"next-hop {PREFIX} from {ON_B}"
    ]
    leaving = path(B, used=False, local_pref=0, communities=frozenset({"65535:0"}))
    assert codes(view(paths=[path(A), leaving], **one)) == []
    assert codes(view(paths=[path(A), path(B, used=False, local_pref=0)], **one)) == [], "FRR without detail"


def test_a_route_of_a_node_whose_address_is_not_known_is_never_well() -> None:
    up = replace(UP, neighbors=UP.neighbors[:1])
    one = {"paths": [path(A)], "installed": {PREFIX: frozenset({A})}}
    assert codes(view(session(A), **one), up) == ["no-address b"]


def test_no_route_is_missed_in_silence() -> None:
    """Whatever the families are that we think of: the router has none of what is expected."""
    for families in ((), (4,), (6,)):
        assert codes(view(paths=[], installed={}), replace(UP, families=families))


def test_what_is_not_in_the_table_that_forwards() -> None:
    assert codes(view(installed={})) == [f"not-installed {PREFIX}"]
    assert codes(view(installed={PREFIX: frozenset({A})})) == [f"not-installed {PREFIX}"]
    assert codes(view(installed=None)) == [], "it does not say"
    one_used = [path(A), path(B, used=False)]
    assert codes(view(paths=one_used, installed={})) == [f"not-installed {PREFIX}"], (
        "and not that more could be"
    )
    assert codes(view(paths=one_used, installed={PREFIX: frozenset({A})})) == [f"multipath {PREFIX}"]


def test_what_nobody_expects() -> None:
    other = ip_network("203.0.113.9/32")
    mine, strange = (replace(path(who), prefix=other) for who in (A, ip("192.0.2.9")))
    assert codes(view(paths=[path(A), path(B), mine])) == [f"unexplained {other} from a (192.0.2.201)"]
    assert codes(view(paths=[path(A), path(B), strange])) == [f"foreign {other}"]
    outside = replace(mine, prefix=ip_network("10.0.0.0/8"))
    assert codes(view(paths=[path(A), path(B), outside])) == []


def test_a_pool_on_a_link() -> None:
    link, alone = ip_network("203.0.112.0/23"), ip_network("203.0.113.9/32")
    assert codes(view(connected=(link, alone))) == ["pool-on-link pool lan"]


def test_nothing_there_and_nothing_expected() -> None:
    assert codes(RouterView("FRR", None, {}, ())) == ["no-bgp router"]
    assert codes(view(session(A), paths=[path(A)], installed={PREFIX: frozenset({A})})) == [
        f"no-neighbor {ON_B}"
    ]
    assert [f.code for f in check(UP, {}, view(paths=[]))] == ["no-routes"]


def test_the_same_about_several_is_told_once_and_the_worst_first() -> None:
    states = {"state": "Active", "families": None}
    found = view(session(A, **states), session(B, **states), paths=[], connected=(P24,))
    assert codes(found, spreads=True)[:2] == [
        f"no-session a (192.0.2.201) {ON_B}",
        "pool-on-link pool lan",
    ]
    assert codes(found, spreads=True)[2] == "rehash router"


def test_an_entry_admits_its_length_alone() -> None:
    entry = Accepted(P24, 32)
    assert entry.admits(PREFIX)
    assert not entry.admits(P24) and not entry.admits(ip_network("203.0.114.1/32"))
    assert not entry.admits(ip_network("::/32"))
