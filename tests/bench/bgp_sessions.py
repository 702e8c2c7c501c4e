"""How soon a session is back: after ExaBGP was killed, and after the router was away; beside ExaBGP alone."""

import asyncio
import os
import signal
import time
from pathlib import Path

from lbspeaker.errors import Unavailable
from tests.bench import bgp
from tests.bench.results import Goal, Reference, Result, result
from tests.peers.conftest import Node, soon

ROUNDS = 5
COUNT = 200
AWAY = "LBSPEAKER_BENCH_AWAY_S"  # in the environment: how long the router is away
_AWAY_S = 60.0
_RESTARTED_S = 1.0
_BACK_S = 3.0
_SETTLE_S = 0.5  # for what comes after the last route: End-of-RIB, and what the router drops then


# --- killed ---------------------------------------------------------------------------------------------


def restart() -> list[Result]:
    """From the kill to the next session, as the router sees it; and the routes that it lost meanwhile."""
    with bgp.place(bgp.link(restart=True), bgp.link(bgp.BARE)) as (router, directory):
        alone = _alone(router, directory)
        found = asyncio.run(_killed(router, directory, restarts=True))
    with bgp.place(bgp.link()) as (router, directory):
        without = asyncio.run(_killed(router, directory, restarts=False))
    took, lost = zip(*found, strict=True)
    _, all_ = zip(*without, strict=True)
    return [
        result(
            "bgp-restart",
            "s",
            took,
            Reference("ExaBGP alone, started again at once", alone),
            Goal("<=", _RESTARTED_S),
            "max",
        ),
        result(
            "bgp-restart/lost",
            "routes",
            lost,
            Reference("without graceful restart", all_, "max"),
            Goal("<=", 0),
            "max",
        ),
    ]


def _alone(router: bgp.Router, directory: Path) -> list[float]:
    found = []
    with bgp.Bare(router.segment, directory / "bare", bgp.link(bgp.BARE)) as bare:
        for _ in range(ROUNDS):
            bgp.wait(lambda: router.is_up(bgp.BARE), "the session of ExaBGP alone")
            time.sleep(_SETTLE_S)
            before = router.sessions(bgp.BARE)
            began = time.monotonic()
            bare.stop()
            bare.start()
            bgp.wait(lambda n=before: router.sessions(bgp.BARE) > n, "its next session")
            found.append(time.monotonic() - began)
    return found


async def _killed(router: bgp.Router, directory: Path, *, restarts: bool) -> list[tuple[float, float]]:
    """Return of each round how long it took, and how many routes the router lacked at worst.

    A child that dies again within a minute waits before it is started: so each round has a child and a
    supervisor of its own.
    """
    found = []
    for number in range(ROUNDS if restarts else 1):
        peer = bgp.peer(bgp.link(restart=restarts))
        async with Node(router.segment, directory / f"run{number}", peer) as node:
            node.desire(*bgp.routes(COUNT))
            if not await soon(lambda: len(router.prefixes()) == COUNT, bgp.PATIENCE_S):
                raise Unavailable(f"{COUNT} routes do not arrive")
            await asyncio.sleep(_SETTLE_S)
            assert node.peering.pid
            os.kill(node.peering.pid, signal.SIGKILL)
            found.append(await asyncio.to_thread(_watch, router, time.monotonic()))
    return found


def _watch(router: bgp.Router, began: float) -> tuple[float, float]:
    """Look at the table until the session is back, and everything has come again."""
    before = router.sessions()
    least, took, end = COUNT, 0.0, began + bgp.PATIENCE_S
    while time.monotonic() < end:
        least = min(least, len(router.prefixes()))
        if not took and router.sessions() > before:
            took = time.monotonic() - began
        if took and router.count() == COUNT:
            end = min(end, time.monotonic() + _SETTLE_S)
    if not took:
        raise Unavailable("the session does not come back")
    return took, float(COUNT - least)


# --- away -----------------------------------------------------------------------------------------------


def away() -> list[Result]:
    """From the start of a router that was away to its session: both have waited for it."""
    away_s = float(os.environ.get(AWAY, _AWAY_S))
    with bgp.place(bgp.link(), bgp.link(bgp.BARE)) as (router, directory):
        found, alone = asyncio.run(_away(router, directory, away_s))
    back = Reference(f"ExaBGP alone, after {away_s:.0f} s", [alone])
    return [result("bgp-return", "s", [found], back, Goal("<=", _BACK_S))]


async def _away(router: bgp.Router, directory: Path, away_s: float) -> tuple[float, float]:
    ours = Node(router.segment, directory / "run", bgp.peer(bgp.link()))
    with bgp.Bare(router.segment, directory / "bare", bgp.link(bgp.BARE)):
        async with ours as node:
            await asyncio.to_thread(bgp.wait, lambda: router.is_up(bgp.BARE), "the session of ExaBGP alone")
            await node.up(bgp.PATIENCE_S)
            router.stop()
            await asyncio.sleep(away_s)
            began = time.monotonic()
            await asyncio.to_thread(router.start)
            await asyncio.to_thread(bgp.wait, router.is_up, "our session")
            found = time.monotonic() - began
            await asyncio.to_thread(bgp.wait, lambda: router.is_up(bgp.BARE), "that of ExaBGP", 90.0)
            return found, time.monotonic() - began
