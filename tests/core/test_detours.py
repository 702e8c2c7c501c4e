"""Traffic that an aggregate brings to a node without an endpoint."""

from dataclasses import replace
from ipaddress import ip_network

import pytest

from lbspeaker.core.announce import picture
from lbspeaker.core.detours import with_detours
from lbspeaker.core.nodes import holders
from lbspeaker.model import BGPAdvertisement, Endpoint, Peer, Snapshot, Unannounced
from tests.build import ROUTER, ip, service, snapshot

WIDE, EXACT = BGPAdvertisement("wide", aggregation_length=26), BGPAdvertisement("exact")
OTHER = Peer("other", 64513, 64514, ip("192.0.2.2"))
LOST = "its traffic comes there by 192.0.2.0/26, announced to {} for default/web, and is lost"


def world(*ads: BGPAdvertisement, peers: tuple[Peer, ...] = (ROUTER,)) -> Snapshot:
    """web is on both nodes; loc, with policy Local, on a alone."""
    web = service("web", held="192.0.2.10", local=True)
    loc = service("loc", held="192.0.2.11", local=True)
    found = snapshot(web, loc, nodes="a b", l2=(), bgp=ads, peers=peers)
    return replace(found, endpoints={**found.endpoints, loc.key: (Endpoint("a"),)})


def rows(found: Snapshot) -> list[Unannounced]:
    return list(with_detours(picture(found, holders(found.services.values()))).unannounced)


@pytest.mark.parametrize(
    ("found", "lost"),
    [
        pytest.param(world(WIDE), LOST.format("router"), id="the aggregate of another service"),
        pytest.param(world(EXACT), "", id="no aggregate"),
        pytest.param(world(WIDE, EXACT), "", id="a longer prefix from where the endpoint is"),
        pytest.param(
            world(WIDE, replace(EXACT, peers=frozenset({"router"})), peers=(ROUTER, OTHER)),
            LOST.format("other"),
            id="a longer prefix to one router alone",
        ),
    ],
)
def test_traffic_that_is_lost_is_told_where_the_node_is_left_out(found: Snapshot, lost: str) -> None:
    (row,) = rows(found)
    assert (row.service, row.node) == ("default/loc", "b")
    why = "externalTrafficPolicy is Local, and default/loc has no serving endpoint on b"
    assert row.refusal.message == "; ".join([why, lost] if lost else [why])


def test_nobody_else_announces_it() -> None:
    found = world(WIDE)
    found = replace(found, endpoints={**found.endpoints, "default/web": (Endpoint("a"),)})
    assert {(row.service, row.node) for row in rows(found)} == {("default/loc", "b"), ("default/web", "b")}
    assert not any("lost" in row.refusal.message for row in rows(found))


def test_ipv6() -> None:
    found = world(BGPAdvertisement("wide", aggregation_length_v6=64))
    six = {"default/web": "2001:db8::1", "default/loc": "2001:db8::2"}
    services = {key: replace(one, held=(ip(six[key]),)) for key, one in found.services.items()}
    (pool,) = found.config.pools
    inside = replace(pool.ranges[0], first=ip("2001:db8::"), last=ip("2001:db8::ff"))
    config = replace(found.config, pools=(replace(pool, ranges=(inside,)),))
    (row,) = rows(replace(found, services=services, config=config))
    assert str(ip_network("2001:db8::/64")) in row.refusal.message
