"""Both families over a session of IPv6: IPv4 routes have the node's IPv4 address as next hop."""

import asyncio
from collections.abc import Coroutine
from ipaddress import ip_address, ip_network
from pathlib import Path
from typing import Any

import pytest

from lbspeaker.model import Peer, Reason, Route
from tests.peers.conftest import (
    NODE_AS,
    NODE_IP,
    NODE_IP6,
    ROUTER_AS,
    ROUTER_IP,
    ROUTER_IP6,
    Bird,
    Frr,
    Node,
    Seen,
    Segment,
    soon,
)

pytestmark = pytest.mark.peers

X, V6 = ip_network("203.0.113.1/32"), ip_network("2001:db8::1/128")


def play(story: Coroutine[Any, Any, None]) -> None:
    asyncio.run(asyncio.wait_for(story, 40))


def peer(router_as: int = ROUTER_AS) -> Peer:
    return Peer("router", NODE_AS, router_as, ip_address(ROUTER_IP6))


def test_frr_takes_both_families(frr: Frr, segment: Segment, runtime: Path) -> None:
    async def story() -> None:
        frr.start()
        async with Node(segment, runtime, peer()) as speaker:
            speaker.desire(Route(X), Route(V6))
            assert await soon(lambda: frr.table() == {X: Seen(NODE_IP)}), (speaker.status, frr.table())
            assert await soon(lambda: frr.table(6) == {V6: Seen(NODE_IP6)}), frr.table(6)
            speaker.desire(Route(V6))
            assert await soon(lambda: frr.table() == {}), frr.table()
            assert speaker.status.flaps == 0

    play(story())


@pytest.mark.parametrize("router_as", [ROUTER_AS, NODE_AS])
def test_bird_takes_both_families(bird: Bird, segment: Segment, runtime: Path, router_as: int) -> None:
    async def story() -> None:
        bird.serve(
            f"router id {ROUTER_IP};\nprotocol device {{}}\nprotocol direct {{ ipv4; ipv6; }}\n"
            f"protocol bgp node {{ local {ROUTER_IP6} as {router_as}; neighbor {NODE_IP6} as {NODE_AS};"
            " passive; ipv4 { import all; export none; }; ipv6 { import all; export none; }; }\n"
        )
        async with Node(segment, runtime, peer(router_as)) as speaker:
            speaker.desire(Route(X), Route(V6))
            assert await soon(lambda: {X, V6} <= set(bird.table())), (speaker.status, bird.table())
            assert (bird.table()[X]["next_hop"], bird.table()[V6]["next_hop"]) == (NODE_IP, NODE_IP6)
            assert speaker.status.flaps == 0

    play(story())


def test_a_node_without_an_ipv4_address_says_why_not(frr: Frr, segment: Segment, runtime: Path) -> None:
    async def story() -> None:
        frr.start()
        async with Node(segment, runtime, peer(), has_ipv4=False) as speaker:
            speaker.desire(Route(X), Route(V6))
            assert await soon(lambda: frr.table(6) == {V6: Seen(NODE_IP6)}), frr.table(6)
            refusal = speaker.peering.unservable[X]
            assert refusal.reason is Reason.NO_NEXT_HOP
            assert "this node has no IPv4 address that can be the next hop" in refusal.message
            assert frr.table() == {}
            assert (speaker.status.sent, speaker.status.desired) == (1, 1)

    play(story())
