"""Routes arrive in a real BIRD."""

import asyncio
from ipaddress import IPv6Address, ip_address, ip_network
from pathlib import Path

import pytest

from lbspeaker.model import Peer, Route
from tests.peers.conftest import NODE_AS, NODE_IP, NODE_IP6, ROUTER_AS, ROUTER_IP, Bird, Node, Segment, soon

pytestmark = pytest.mark.peers

X, Y, V6 = ip_network("192.0.2.1/32"), ip_network("192.0.2.2/32"), ip_network("2001:db8::1/128")


@pytest.mark.parametrize("router_as", [ROUTER_AS, NODE_AS])
def test_routes_come_change_and_go(bird: Bird, segment: Segment, runtime: Path, router_as: int) -> None:
    peer = Peer("bird", NODE_AS, router_as, ip_address(ROUTER_IP), password="bird;song")

    async def story() -> None:
        bird.start('password "bird;song"', router_as=router_as)
        async with Node(segment, runtime, peer, IPv6Address(NODE_IP6)) as speaker:
            communities = ("65001:1", "65535:0", "large:65001:1:2")
            speaker.desire(Route(X, 300, communities), Route(Y), Route(V6, None, ("65001:6",)))
            assert await soon(lambda: set(bird.table()) == {X, Y, V6}), (speaker.status, bird.table())
            seen = bird.table()
            assert seen[X]["community"] == "(65001,1) (65535,0)"
            assert seen[X]["large_community"] == "(65001, 1, 2)"
            assert seen[X]["next_hop"] == NODE_IP
            assert seen[X]["local_pref"] == ("300" if router_as == NODE_AS else "100")
            assert seen[V6]["next_hop"] == NODE_IP6
            assert seen[V6]["community"] == "(65001,6)"

            speaker.desire(Route(X, 300, ("65001:9",)))
            assert await soon(lambda: set(bird.table()) == {X})
            assert await soon(lambda: bird.table()[X].get("community") == "(65001,9)")
            await speaker.peering.drain(2.0)
            assert await soon(lambda: bird.table() == {})
            assert "Administrative Shutdown" in bird.ask("show protocols all node")

    asyncio.run(asyncio.wait_for(story(), 30))


def test_a_router_that_speaks_ipv4_only(bird: Bird, segment: Segment, runtime: Path) -> None:
    peer = Peer("bird", NODE_AS, ROUTER_AS, ip_address(ROUTER_IP))

    async def story() -> None:
        bird.start(families=(4,))
        async with Node(segment, runtime, peer, IPv6Address(NODE_IP6)) as speaker:
            speaker.desire(Route(X), Route(V6))
            assert await soon(lambda: set(bird.table()) == {X})
            assert await soon(lambda: V6 in speaker.peering.unservable)
            assert "activate the family ipv6 unicast" in speaker.peering.unservable[V6].message
            assert (speaker.status.sent, speaker.status.desired) == (1, 1)

    asyncio.run(asyncio.wait_for(story(), 30))
