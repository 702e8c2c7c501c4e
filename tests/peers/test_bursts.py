"""The matrix of bursts against FRR's own table: whatever comes quickly after each other, the last one counts.

ExaBGP by itself ends most of these wrong: it groups what waits by attributes, sends the groups in the order
in which they were first seen, and leaves out withdrawals in the first batch of a session. Every row is played
for a prefix of its own, at every pace, all of them at the same time.
"""

import asyncio
import signal
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from ipaddress import ip_address, ip_network
from pathlib import Path

import pytest

from lbspeaker.model import Network, Peer, Route
from tests.peers.conftest import NODE_AS, NODE_IP, ROUTER_AS, ROUTER_IP, Frr, Node, Seen, Segment, soon
from tests.peers.test_frr import play

pytestmark = pytest.mark.peers

PEER = Peer("router", NODE_AS, ROUTER_AS, ip_address(ROUTER_IP), hold_time_s=9)
BULK = 5000
PACES_S = (0.0, 0.001, 0.02, 0.12)  # between two changes; with 0 the loop just goes round once
# a, b, c: other attributes each, of every kind that can change; -: withdrawn
ROWS = (
    "aba",
    "a-a",
    "a-",
    "ab",
    "abc",
    "ab-",
    "abab",
    "a-b",
    "a-b-",
    "a-b-a",
    "aab",
    "--a",
    "a-a-a-a",
    "abcabc",
)
ATTRIBUTES = {
    "a": Route(ip_network("0.0.0.0/0"), None, ("65001:1",), 1),
    "b": Route(ip_network("0.0.0.0/0"), None, ("65001:1",), 2, 1),
    "c": Route(ip_network("0.0.0.0/0"), None, ("large:65001:2:3",), 2),
}


class Rush:
    """All rows at all paces, each with a prefix of its own, over whatever else is announced."""

    def __init__(self, node: Node, *others: Route) -> None:
        self._node = node
        self.desired: dict[Network, Route] = {route.prefix: route for route in others}

    async def play(self, paces_s: tuple[float, ...] = PACES_S) -> None:
        pairs = [(row, pace_s) for row in ROWS for pace_s in paces_s]
        await asyncio.gather(
            *(
                self._row(row, ip_network(f"192.0.2.{number}/32"), pace_s)
                for number, (row, pace_s) in enumerate(pairs)
            )
        )

    async def _row(self, row: str, prefix: Network, pace_s: float) -> None:
        for change in row:
            if change == "-":
                self.desired.pop(prefix, None)
            else:
                self.desired[prefix] = replace(ATTRIBUTES[change], prefix=prefix)
            self._node.desire(*self.desired.values())
            await asyncio.sleep(pace_s)

    @property
    def table(self) -> dict[Network, Seen]:
        """What the router must have in the end."""
        return {
            prefix: Seen(NODE_IP, None, route.communities, route.med, route.prepend)
            for prefix, route in self.desired.items()
        }


def wrong(frr: Frr, rush: Rush) -> dict[Network, tuple[Seen | None, Seen | None]]:
    """What the router has, and what it should have, where the two differ."""
    have, want = frr.table(), rush.table
    differ = (prefix for prefix in have.keys() | want.keys() if have.get(prefix) != want.get(prefix))
    return {prefix: (have.get(prefix), want.get(prefix)) for prefix in differ}


@pytest.fixture
def speaker(frr: Frr, segment: Segment, runtime: Path) -> Callable[..., object]:
    @asynccontextmanager
    async def make() -> AsyncIterator[Node]:
        frr.start()
        async with Node(segment, runtime, PEER) as node:
            yield node

    return make


async def ends_right(frr: Frr, rush: Rush, node: Node, within_s: float = 15.0) -> None:
    await node.up()
    assert await soon(lambda: not wrong(frr, rush), within_s), wrong(frr, rush)
    assert node.status.sent == node.status.desired == len(rush.desired)


def bulk(community: str) -> list[Route]:
    return [Route(ip_network((0x0A000000 + n, 32)), None, (community,)) for n in range(BULK)]


def test_while_the_session_is_up(frr: Frr, speaker: Callable[..., Node]) -> None:
    async def story() -> None:
        async with speaker() as node:
            await node.up()
            rush = Rush(node)
            await rush.play()
            await ends_right(frr, rush, node)
            rush.desired.clear()
            node.desire()
            await ends_right(frr, rush, node)

    play(story())


def test_in_the_first_batch_of_a_session(frr: Frr, speaker: Callable[..., Node]) -> None:
    """From the moment at which the session is up, and before that moment has passed."""

    async def story() -> None:
        async with speaker() as node:
            while node.status.state != "up":
                await asyncio.sleep(0)
            rush = Rush(node)
            await rush.play()
            await ends_right(frr, rush, node)

    play(story())


def test_while_the_router_is_away(frr: Frr, speaker: Callable[..., Node]) -> None:
    """Twice: with a table that the child still holds, and will send again by itself."""

    async def story() -> None:
        async with speaker() as node:
            rush = Rush(node)
            for _ in range(2):
                await node.up()
                await asyncio.to_thread(frr.stop, signal.SIGKILL)
                assert await soon(lambda: node.status.state == "connecting")
                await rush.play()
                await asyncio.to_thread(frr.restart)
                await rush.play()
                await ends_right(frr, rush, node)
            assert node.status.restarts == 0

    play(story())


def test_during_a_bulk_of_5000_routes(frr: Frr, speaker: Callable[..., Node]) -> None:
    """While they come, while all of them change, while the router clears the session, and while they go."""

    async def story() -> None:
        async with speaker() as node:
            await node.up()
            paces_s = (0.01,)  # each change looks at all routes
            rush = Rush(node, *bulk("65001:8"))
            await rush.play(paces_s)
            rush.desired |= {route.prefix: route for route in bulk("65001:9")}
            await rush.play(paces_s)
            await ends_right(frr, rush, node, 30)
            clearing = asyncio.create_task(asyncio.to_thread(frr.ask, "clear bgp *"))
            await rush.play(paces_s)
            await clearing
            await ends_right(frr, rush, node, 30)
            for route in bulk(""):
                del rush.desired[route.prefix]
            await rush.play(paces_s)
            await ends_right(frr, rush, node, 30)
            assert (node.status.flaps, node.status.restarts) == (1, 0)

    play(story())
