"""What a change does to living Services."""

from dataclasses import replace
from ipaddress import ip_network
from random import Random
from typing import Any

from lbspeaker.core.difference import Difference, changed, difference
from lbspeaker.core.outcome import outcome
from lbspeaker.model import (
    BGPAdvertisement,
    Config,
    L2Advertisement,
    MemberLink,
    Pin,
    Reason,
    Route,
    Snapshot,
)
from tests.build import LAN, ROUTER, ip, ips, pool, scope, selector, service, snapshot
from tests.core.test_explain import EXCLUDE, a_world

IP = ip("192.0.2.10")
BGP = (BGPAdvertisement("bgp"),)


def change(world: Snapshot, **config: Any) -> Difference:
    """What these fields of the configuration would do to `world`; nothing else is told of."""
    old = outcome(world)
    return difference(old, changed(old, Snapshot(replace(world.config, **config))))


def test_nothing_changes_where_nothing_is_changed() -> None:
    for seed in range(150):
        world = a_world(Random(seed))
        old = outcome(world)
        for new in (world, Snapshot(world.config)):
            found = difference(old, changed(old, new))
            rows = found.ips, found.owners, found.routes, found.notes, found.sessions
            assert (found.lost, rows) == (0, ((),) * 5), seed


def test_living_services_keep_what_they_hold_though_a_new_cluster_would_look_otherwise() -> None:
    world = snapshot(service("web"))
    found = change(world, pools=(pool("lan", "192.0.2.1-192.0.2.60"),))
    assert (found.ips, found.lost, found.kept) == ((), 0, 1)
    shrunk = change(world, pools=(pool("lan", "192.0.2.20"),))
    assert (shrunk.ips, shrunk.lost) == ((), 0)
    assert [(key, note.reason) for key, note in shrunk.notes] == [("default/web", Reason.OUTSIDE_POOL)]


def test_an_ip_that_changes_is_lost_and_told_with_its_reason() -> None:
    world = snapshot(service("a"), service("b"))
    found = change(world, pools=(pool("lan", "192.0.2.99", on_shrink="Renumber"),))
    assert [(row.service, row.before, row.after, row.lost) for row in found.ips] == [
        ("default/a", ips("192.0.2.10"), ips("192.0.2.99"), True)
    ]
    other = change(world, pools=(pool("other", "192.0.2.99"),))
    assert [(row.service, row.after, row.why and row.why.reason) for row in other.ips] == [
        ("default/a", ips("192.0.2.99"), None),
        ("default/b", (), Reason.POOL_EXHAUSTED),
    ]
    assert (other.lost, other.kept) == (2, 0), "what the IPs themselves say is not told again of owners"


def test_a_service_that_gains_an_ip_is_no_loss() -> None:
    found = change(snapshot(service("web"), pools=()), pools=(LAN,))
    assert [(row.before, row.after, row.lost) for row in found.ips] == [((), ips("192.0.2.10"), False)]
    assert [(row.before, row.lost) for row in found.owners] == [(None, False)]
    assert found.lost == 0


def test_an_owner_that_moves_is_no_loss_and_one_that_nobody_follows_is() -> None:
    world = snapshot(service("web"), node_fields={"a": {"labels": {"role": "edge"}}}, bgp=BGP)
    before = outcome(world).picture.l2[IP].owner
    edge = L2Advertisement("l2", scope(node_selectors=(selector(role="edge"),)))
    found = change(world, l2_advertisements=(edge,))
    assert [(row.before, row.after, row.lost) for row in found.owners] == [(before, "a", False)]
    assert found.lost == 0
    away = change(world, l2_advertisements=())
    (row,) = away.owners
    assert (row.ip, row.services, row.after, row.lost) == (IP, ("default/web",), None, True)
    assert row.why is not None and row.why.reason is Reason.NO_ADVERTISEMENT
    assert away.lost == 1


def test_a_route_is_lost_when_no_node_has_it_any_more() -> None:
    world = snapshot(service("web"), l2=(), bgp=BGP, node_fields={"a": {"labels": {"role": "edge"}}})
    fewer = BGPAdvertisement("bgp", scope(node_selectors=(selector(role="edge"),)))
    found = change(world, bgp_advertisements=(fewer,))
    assert [(row.node, row.after, row.lost) for row in found.routes] == [
        ("b", None, False),
        ("c", None, False),
    ]
    assert found.lost == 0
    gone = change(world, bgp_advertisements=())
    assert [(row.node, row.lost) for row in gone.routes] == [("a", True), ("b", True), ("c", True)]
    assert change(world, peers=()).lost == 3
    moved = change(world, pools=(pool("other", "192.0.2.99"),))
    assert (len(moved.routes), moved.lost) == (6, 1), "of an IP that changes, routes are not lost once more"


def test_a_longer_or_shorter_prefix_is_another_route_and_no_loss() -> None:
    world = snapshot(service("web"), l2=(), bgp=BGP, nodes="a")
    found = change(world, bgp_advertisements=(BGPAdvertisement("bgp", aggregation_length=24),))
    assert [(str(row.prefix), row.before is None, row.lost) for row in found.routes] == [
        ("192.0.2.0/24", True, False),
        ("192.0.2.10/32", False, False),
    ]


def test_attributes_and_sessions_that_change_are_told() -> None:
    world = snapshot(service("web"), l2=(), bgp=BGP, nodes="a")
    found = change(world, bgp_advertisements=(replace(BGP[0], med=5),), peers=(replace(ROUTER, port=1790),))
    (row,) = found.routes
    assert (row.before, row.after) == (Route(row.prefix), Route(row.prefix, med=5))
    assert (found.sessions, found.lost) == (("router",), 0)


def test_what_the_new_documents_have_of_the_cluster_counts_in_place_of_it_or_beside_it() -> None:
    old = outcome(snapshot(service("web"), service("old")))
    new = snapshot(service("web"), nodes="a b", node_fields={"a": {"labels": {EXCLUDE: ""}}})
    found = difference(old, changed(old, new))
    assert [(row.service, row.after, row.why) for row in found.ips] == [("default/old", (), None)]
    assert {row.after for row in found.owners} <= {"b"}
    added = difference(old, changed(old, new, added=True))
    assert added.ips == ()
    assert changed(old, new, added=True).snapshot.nodes.keys() == {"a", "b", "c"}
    dead = outcome(replace(old.snapshot, members=frozenset("b")))
    assert changed(dead, new, added=True).snapshot.members == {"b"}, "a document makes nobody live"
    only_nodes = changed(old, Snapshot(Config((LAN,), (L2Advertisement("l2"),)), nodes=new.nodes))
    assert only_nodes.snapshot.members == frozenset()
    assert only_nodes.snapshot.services.keys() == {"default/web", "default/old"}


def test_what_is_known_of_links_and_pins_stays() -> None:
    near = MemberLink("eth0", b"", (ip_network("192.0.2.0/24"),))
    world = replace(snapshot(service("web")), links={"a": (near,), "b": (near,)}, pins={IP: Pin("b", 1)})
    assert change(world).owners == ()
