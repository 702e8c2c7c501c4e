"""A thousand random bursts: how many end with another table than the last desire?

A burst is two to six quick changes of a few prefixes: other communities, another MED, a longer path, or gone.
Fifty go on at the same time, each with prefixes of its own; then the router's table is compared. In every
fourth round the router is killed and started again meanwhile, in every fourth it clears the session, in every
fourth 5,000 other routes change. The reference is ExaBGP alone, told each change as it comes.
"""

import asyncio
import random
import signal
import time
from collections.abc import Callable, Iterable
from ipaddress import IPv4Address, ip_network
from pathlib import Path

from lbspeaker.errors import Unavailable
from lbspeaker.model import Network, Route
from lbspeaker.wire import exabgp
from tests.bench import bgp
from tests.bench.results import Goal, Reference, Result, result
from tests.peers.conftest import Node, Seen, soon

BURSTS = 1000
TOGETHER = 50
PREFIXES = 3  # of one burst
BULK = 5000
SEED = 5
_SETTLE_S = 20.0  # a table that is wrong for so long stays wrong
_NAIVE_S = 2.0
_PAUSES_S = (0.0, 0.0, 0.001, 0.01, 0.05)

Table = dict[Network, Route]
Change = Callable[[Network, Route | None], None]


def bursts() -> list[Result]:
    with bgp.place(bgp.link(), bgp.link(bgp.BARE)) as (router, directory):
        naive = asyncio.run(_naive(router, directory))
        found = asyncio.run(_ours(router, directory))
    alone = Reference("ExaBGP alone, told each change", [naive])
    return [result("bgp-bursts", "wrong tables of 1000", [found], alone, Goal("<=", 0))]


# --- what happens ---------------------------------------------------------------------------------------


def blocks(first: str) -> list[list[Network]]:
    """Return the prefixes of the bursts of one round."""
    start = int(IPv4Address(first))
    return [
        [ip_network((start + PREFIXES * burst + n, 32)) for n in range(PREFIXES)] for burst in range(TOGETHER)
    ]


async def burst(dice: random.Random, prefixes: list[Network], change: Change) -> None:
    for _ in range(dice.randint(2, 6)):
        for prefix in dice.sample(prefixes, dice.randint(1, len(prefixes))):
            change(prefix, None if dice.random() < 0.3 else _route(dice, prefix))
        await asyncio.sleep(dice.choice(_PAUSES_S))


def _route(dice: random.Random, prefix: Network) -> Route:
    communities = dice.choice(((), ("65001:1",), ("65001:2", "large:65001:1:1")))
    return Route(prefix, None, communities, dice.choice((None, 1, 2)), dice.choice((0, 0, 1)))


def wrong(router: bgp.Router, desired: Table, burst_prefixes: Iterable[list[Network]], hop: str) -> int:
    """Return how many bursts ended with anything else than what is desired."""
    have = router.frr.table()
    want = {
        prefix: Seen(hop, None, route.communities, route.med, route.prepend)
        for prefix, route in desired.items()
    }
    return sum(any(have.get(p) != want.get(p) for p in prefixes) for prefixes in burst_prefixes)


# --- ours -----------------------------------------------------------------------------------------------


async def _ours(router: bgp.Router, directory: Path) -> float:
    dice = random.Random(SEED)
    desired: Table = {}
    prefixes = blocks("192.0.0.0")
    async with Node(router.segment, directory / "run", bgp.peer(bgp.link())) as node:
        await node.up(bgp.PATIENCE_S)

        def change(prefix: Network, route: Route | None) -> None:
            _set(desired, prefix, route)
            node.desire(*desired.values())

        total = 0
        for number in range(BURSTS // TOGETHER):
            rush = asyncio.gather(*(burst(dice, some, change) for some in prefixes))
            if number % 4 == 1:
                await asyncio.gather(rush, asyncio.to_thread(_kill, router))
            elif number % 4 == 2:
                await asyncio.gather(rush, asyncio.to_thread(router.frr.ask, "clear bgp *"))
            elif number % 4 == 3:
                desired |= {r.prefix: r for r in bgp.routes(BULK, f"65001:{number}")}
                await rush
            else:
                await rush
            total += await _judged(router, node, desired, prefixes)
            for route in bgp.routes(BULK):
                desired.pop(route.prefix, None)
            node.desire(*desired.values())
        if node.status.restarts:
            raise Unavailable(f"the child was replaced: {node.status.last_error}")
    return float(total)


def _kill(router: bgp.Router) -> None:
    router.frr.stop(signal.SIGKILL)
    router.frr.restart()


async def _judged(router: bgp.Router, node: Node, desired: Table, prefixes: list[list[Network]]) -> int:
    if not await soon(lambda: node.status.state == "up" and node.status.sent == len(desired), _SETTLE_S):
        raise Unavailable(f"the session does not settle: {node.status}")
    end = time.monotonic() + _SETTLE_S
    count = 1
    while count and time.monotonic() < end:
        count = await asyncio.to_thread(wrong, router, desired, prefixes, bgp.SPEAKER)
    return count


# --- alone ----------------------------------------------------------------------------------------------


async def _naive(router: bgp.Router, directory: Path) -> float:
    """Each round with other prefixes: what went wrong before stays wrong."""
    dice = random.Random(SEED)
    desired: Table = {}
    with bgp.Bare(router.segment, directory / "bare", bgp.link(bgp.BARE)) as bare:
        await asyncio.to_thread(bgp.wait, lambda: router.is_up(bgp.BARE), "the session of ExaBGP alone")

        def change(prefix: Network, route: Route | None) -> None:
            before = desired.get(prefix)
            _set(desired, prefix, route)
            if route is not None:
                bare.announce([route])
            elif before is not None:
                bare.tell(exabgp.withdraw([before], bare.hop, bare.asn))

        total = 0
        for number in range(BURSTS // TOGETHER):
            prefixes = blocks(f"192.1.{number}.0")
            await asyncio.gather(*(burst(dice, some, change) for some in prefixes))
            await asyncio.sleep(_NAIVE_S)
            total += await asyncio.to_thread(wrong, router, desired, prefixes, bgp.BARE)
    return float(total)


def _set(desired: Table, prefix: Network, route: Route | None) -> None:
    if route is None:
        desired.pop(prefix, None)
    else:
        desired[prefix] = route
