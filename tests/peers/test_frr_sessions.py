"""What a session is made of, next to a real FRR: preference, farewell, distance, restart, patience."""

import asyncio
import os
import signal
import time
from collections.abc import Callable
from dataclasses import replace
from ipaddress import ip_address, ip_network
from pathlib import Path
from typing import Any

import pytest

from lbspeaker.model import GRACEFUL_SHUTDOWN, Network, Peer, Route
from tests.peers.conftest import (
    NODE_AS,
    NODE_IP,
    ROUTER_AS,
    ROUTER_IP,
    ROUTER_IP6,
    Frr,
    Node,
    Seen,
    Segment,
    run,
    soon,
)
from tests.peers.test_frr import PEER, PLAIN_X, X, Y, play, table

pytestmark = pytest.mark.peers

FAREWELL = "gracefulShutdown"  # as FRR calls the community


@pytest.fixture
def node(segment: Segment, runtime: Path) -> Callable[..., Node]:
    return lambda peer=PEER: Node(segment, runtime, peer)


class Watching:
    """Everything that a router's table was, as often as it can be asked, while this is entered."""

    def __init__(self, frr: Frr) -> None:
        self._frr = frr
        self.tables: list[dict[Network, Seen]] = []

    async def __aenter__(self) -> "Watching":
        self._task = asyncio.create_task(self._watch())
        return self

    async def __aexit__(self, *_: Any) -> None:
        self._task.cancel()
        await asyncio.wait({self._task})

    async def _watch(self) -> None:
        while True:
            self.tables.append(await asyncio.to_thread(self._frr.table))
            await asyncio.sleep(0.01)


def test_med_and_path_say_which_way_is_preferred(frr: Frr, node: Callable[..., Node]) -> None:
    async def story() -> None:
        frr.start()
        async with node() as speaker:
            for med, prepend in ((50, 2), (60, 2), (0, 0), (None, 1), (None, 0)):
                speaker.desire(Route(X, None, (), med, prepend))
                expected = {X: Seen(NODE_IP, None, (), med, prepend)}
                assert await soon(lambda expected=expected: frr.table() == expected), frr.table()
            assert speaker.status.flaps == 0, "attributes change within the session"

    play(story())


def test_within_one_as_there_is_no_path_to_make_longer(frr: Frr, node: Callable[..., Node]) -> None:
    async def story() -> None:
        frr.start(router_as=NODE_AS)
        async with node(replace(PEER, peer_asn=NODE_AS)) as speaker:
            speaker.desire(Route(X, 250, (), 50, 2))
            assert await soon(lambda: frr.table() == {X: Seen(NODE_IP, 250, (), 50)}), frr.table()

    play(story())


def test_who_leaves_says_so_before_its_routes_go(frr: Frr, node: Callable[..., Node]) -> None:
    async def story() -> None:
        frr.start()
        async with node() as speaker:
            speaker.desire(PLAIN_X, Route(Y, None, ("65001:1",)))
            assert await soon(lambda: len(frr.table()) == 2)
            async with Watching(frr) as watching:
                began = time.monotonic()
                await speaker.peering.drain(3.0)
                assert time.monotonic() - began < 2.5
                assert await soon(lambda: frr.table() == {})
        told = [seen for seen in watching.tables if all(FAREWELL in one.communities for one in seen.values())]
        assert {frozenset(seen) for seen in told if seen} >= {frozenset({X, Y})}
        assert any("65001:1" in seen[Y].communities for seen in told if Y in seen), "beside its own"
        assert frr.last_reset() == "Cease/Administrative Shutdown"

    play(story())


def test_a_route_that_is_about_to_go_is_the_last_choice(frr: Frr, node: Callable[..., Node]) -> None:
    async def story() -> None:
        frr.start()
        async with node() as speaker:
            speaker.desire(Route(X, None, (GRACEFUL_SHUTDOWN,)))
            assert await soon(lambda: frr.table() == {X: Seen(NODE_IP, 0, (FAREWELL,))}), frr.table()

    play(story())


HOPS = {
    "both demand one hop": ("ttl-security hops 1", 1, True),
    "the router alone does": ("ttl-security hops 1", None, False),
    "the speaker alone does": ("description plain", 1, False),
}


@pytest.mark.parametrize(("words", "hops", "works"), HOPS.values(), ids=HOPS)
def test_who_is_further_away_is_not_the_router(
    frr: Frr, node: Callable[..., Node], words: str, hops: int | None, works: bool
) -> None:
    async def story() -> None:
        frr.start(words)
        async with node(replace(PEER, ttl_hops=hops)) as speaker:
            speaker.desire(PLAIN_X)
            assert await soon(lambda: frr.table() == table(PLAIN_X), 8 if works else 3) is works

    play(story())


def test_an_as_number_of_its_own_for_one_router(frr: Frr, node: Callable[..., Node]) -> None:
    async def story() -> None:
        frr.start(node_as=64999)
        async with node(replace(PEER, my_asn=64999)) as speaker:
            speaker.desire(Route(X, None, (), None, 1))
            assert await soon(lambda: frr.table() == {X: Seen(NODE_IP, prepend=1)}), frr.table()
            assert "64999 64999" in frr.ask("show bgp ipv4 unicast")

    play(story())


def test_with_graceful_restart_a_killed_child_costs_no_route(frr: Frr, node: Callable[..., Node]) -> None:
    async def story() -> None:
        frr.start("graceful-restart-helper")
        many = [Route(ip_network((0x0A000000 + n, 32))) for n in range(200)]
        async with node(replace(PEER, graceful_restart_s=120)) as speaker:
            speaker.desire(*many)
            assert await soon(lambda: frr.table() == table(*many))
            async with Watching(frr) as watching:
                before = speaker.peering.pid
                assert before
                speaker.desire(*many[1:])  # and what is gone by then goes, when the rest is there
                os.kill(before, signal.SIGKILL)
                assert await soon(lambda: speaker.peering.pid not in (None, before))
                await speaker.up()
                assert await soon(lambda: frr.table() == table(*many[1:])), len(frr.table())
            assert min(len(seen) for seen in watching.tables if seen) >= 199
            assert {} not in watching.tables

    play(story())


def test_a_router_that_was_away_is_found_within_three_seconds(
    frr: Frr, node: Callable[..., Node], segment: Segment
) -> None:
    """Meanwhile its port is closed over IPv4, and over IPv6 nothing comes back.

    ExaBGP by itself would be at an interval of 5 s by then, and of a minute later.
    """

    async def story() -> None:
        frr.start()
        rules = ["ip", "netns", "exec", segment.router, "nft"]
        over_ipv6 = replace(PEER, name="silent", address=ip_address(ROUTER_IP6))
        async with node() as closed, node(over_ipv6) as silent:
            await asyncio.gather(closed.up(), silent.up())
            run(*rules, "add table ip6 away; add chain ip6 away in { type filter hook input priority 0; };"
                " add rule ip6 away in tcp dport 179 drop")  # fmt: skip
            await asyncio.to_thread(frr.stop, signal.SIGKILL)
            assert await soon(lambda: closed.status.state == silent.status.state == "connecting")
            await asyncio.sleep(10.3)  # it would be 4.7 s more
            await asyncio.to_thread(frr.restart)
            run(*rules, "delete table ip6 away")
            began = time.monotonic()
            await asyncio.gather(closed.up(4.0), silent.up(4.0))
            assert time.monotonic() - began < 3.5
            assert closed.status.restarts == silent.status.restarts == 0

    play(story())


def test_a_gateway_that_is_not_there_is_said(frr: Frr, node: Callable[..., Node]) -> None:
    async def story() -> None:
        async with node(Peer("router", NODE_AS, ROUTER_AS, None)) as speaker:
            assert await soon(lambda: "no IPv4 default gateway" in (speaker.status.last_error or ""), 3)
            assert speaker.peering.pid is None

    play(story())


def test_the_word_of_the_router_is_told(frr: Frr, node: Callable[..., Node]) -> None:
    async def story() -> None:
        frr.start(node_as=64777)
        async with node() as speaker:
            expected = f"the router at {ROUTER_IP} expects another AS than {NODE_AS} (myASN) from this node"
            assert await soon(lambda: expected in (speaker.status.last_error or "")), speaker.status
            assert ip_address(ROUTER_IP)

    play(story())
