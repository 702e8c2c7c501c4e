"""How fast routes arrive at the router: one at a time, and ten thousand; beside ExaBGP alone."""

import asyncio
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Self

from lbspeaker.core.session import batches
from lbspeaker.errors import Unavailable
from lbspeaker.model import Route
from lbspeaker.wire import exabgp
from tests.bench import bgp
from tests.bench.results import Goal, Reference, Result, result
from tests.peers.conftest import Node

SAMPLES = 300
_WARM = 5  # more, which do not count: a session that has just begun is busy with its beginning
COUNT = 10_000
ROUNDS = 3
_SHARE = 0.9  # of the rate of ExaBGP alone
_COMMUNITIES = ("65001:1", "65001:2")


# --- one route ------------------------------------------------------------------------------------------


class Watcher:
    """The process that waits for prefixes in the router's table."""

    def __init__(self, router: bgp.Router) -> None:
        argv = [sys.executable, "-m", "tests.bench.bgp_watch", str(router.socket)]
        self._process = subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def _line(self) -> str:
        assert self._process.stdout
        line = self._process.stdout.readline()
        if not line:
            raise Unavailable("the process that watches the router has ended")
        return line

    def expect(self, route: Route) -> None:
        """Return when it waits for `route`."""
        assert self._process.stdin
        self._process.stdin.write(f"{route.prefix}\n")
        self._process.stdin.flush()
        self._line()

    def seen(self) -> float:
        return float(self._line())

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._process.kill()
        self._process.wait()


def latency() -> list[Result]:
    """From the wish that a route be there, to the router's table."""
    with bgp.place(bgp.link(), bgp.link(bgp.BARE)) as (router, directory), Watcher(router) as watcher:
        alone = _alone(router, directory, watcher)
        found = asyncio.run(_ours(router, directory, watcher))
    return [
        result("bgp-latency", "ms", found, Reference("ExaBGP alone", alone)),
        result("bgp-latency/p99", "ms", [_p99(found)], Reference("ExaBGP alone", [_p99(alone)])),
    ]


def _p99(values: Sequence[float]) -> float:
    return statistics.quantiles(values, n=100)[-1]


def _alone(router: bgp.Router, directory: Path, watcher: Watcher) -> list[float]:
    with bgp.Bare(router.segment, directory / "bare", bgp.link(bgp.BARE)) as bare:
        bgp.wait(lambda: router.is_up(bgp.BARE), "the session of ExaBGP alone")
        found = []
        for route in bgp.routes(_WARM + SAMPLES, first="172.18.0.0"):
            watcher.expect(route)
            began = time.monotonic()
            bare.announce([route])
            found.append((watcher.seen() - began) * 1000)
    return found[_WARM:]


async def _ours(router: bgp.Router, directory: Path, watcher: Watcher) -> list[float]:
    async with Node(router.segment, directory / "run", bgp.peer(bgp.link())) as node:
        await node.up(bgp.PATIENCE_S)
        found, announced = [], []
        for route in bgp.routes(_WARM + SAMPLES):
            await asyncio.to_thread(watcher.expect, route)
            announced.append(route)
            began = time.monotonic()
            node.desire(*announced)
            found.append((await asyncio.to_thread(watcher.seen) - began) * 1000)
    return found[_WARM:]


# --- ten thousand ---------------------------------------------------------------------------------------


def ten_thousand() -> list[Result]:
    """Announced and withdrawn, in routes a second; the commands are the same."""
    many = bgp.routes(COUNT, *_COMMUNITIES)
    with bgp.place(bgp.link(), bgp.link(bgp.BARE)) as (router, directory):
        alone = _rates_alone(router, directory, many)
        found = asyncio.run(_rates(router, directory, many))
    names = ("bgp-10000/announced", "bgp-10000/withdrawn")
    return [
        result(name, "routes/s", ours, Reference("ExaBGP alone", bare), Goal(">=", _SHARE, "ratio"))
        for name, ours, bare in zip(names, zip(*found, strict=True), zip(*alone, strict=True), strict=True)
    ]


def _rates_alone(router: bgp.Router, directory: Path, many: list[Route]) -> list[tuple[float, float]]:
    with bgp.Bare(router.segment, directory / "bare", bgp.link(bgp.BARE)) as bare:
        come = [exabgp.announce(batch, bare.hop, bare.asn) for batch in batches(many)]
        go = [exabgp.withdraw(batch, bare.hop, bare.asn) for batch in batches(many)]
        bgp.wait(lambda: router.is_up(bgp.BARE), "the session of ExaBGP alone")
        return [
            (
                _rate(lambda: bare.tell(*come), lambda: router.count(bgp.BARE) == COUNT),
                _rate(lambda: bare.tell(*go), lambda: router.count(bgp.BARE) == 0),
            )
            for _ in range(ROUNDS)
        ]


async def _rates(router: bgp.Router, directory: Path, many: list[Route]) -> list[tuple[float, float]]:
    async with Node(router.segment, directory / "run", bgp.peer(bgp.link())) as node:
        await node.up(bgp.PATIENCE_S)
        found = []
        for _ in range(ROUNDS):
            announced = await _rate_soon(lambda: node.desire(*many), lambda: router.count() == COUNT)
            withdrawn = await _rate_soon(node.desire, lambda: router.count() == 0)
            found.append((announced, withdrawn))
    return found


def _rate(act: Callable[[], None], done: Callable[[], bool]) -> float:
    began = time.monotonic()
    act()
    bgp.wait(done, f"{COUNT} routes")
    return COUNT / (time.monotonic() - began)


async def _rate_soon(act: Callable[[], None], done: Callable[[], bool]) -> float:
    began = time.monotonic()
    act()
    await asyncio.to_thread(bgp.wait, done, f"{COUNT} routes")
    return COUNT / (time.monotonic() - began)
