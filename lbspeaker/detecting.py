"""The process that speaks BFD, as the speaker's child: kept running for as long as a peer wants it."""

import asyncio
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import structlog

from lbspeaker.core import gate
from lbspeaker.core import links as core_links
from lbspeaker.errors import LbspeakerError, Malformed
from lbspeaker.model import BFDState, BFDStatus, Link, Peer
from lbspeaker.shell.linechild import LineChild
from lbspeaker.wire import bfd, status, watch

RESTART_S = (0.1, 5.0)  # first and longest pause before a restart
STEADY_S = 60.0  # who has run for so long begins with the first pause again
LEAVE_S = 0.5  # in which sessions say that they are shut down
IDLE_S = 5.0  # the same where nobody waits for it; a peer that comes back finds the process


def routers(peers: Mapping[str, Peer], links: Sequence[Link]) -> dict[str, watch.Target]:
    """Return the routers that those of `peers` watch who want BFD, by their names; `links`: of this node.

    There is one session with a router (RFC 5881 §4), be it the router of several: the first of them by name
    says how, and from where.
    """
    found: dict[str, watch.Target] = {}
    shared: dict[tuple[str, bool], watch.Target] = {}
    for name, peer in sorted(peers.items()):
        if peer.bfd is None or peer.address is None:
            continue
        multihop = gate.over_hops(peer, near=core_links.is_near(peer.address, links))
        target = watch.Target(str(peer.address), peer.bfd, str(peer.source_address or ""), multihop=multihop)
        found[name] = shared.setdefault((target.address, multihop), target)
    return found


class Ended:
    """The process ended, and with it all sessions; another one is on its way."""


Heard = watch.Report | Ended
News = tuple[str, BFDStatus | None]  # of a peer; None: nothing is known of it any more


class Detecting:
    """The routers that are watched, by the name of their peer. `report` is given what the process says."""

    def __init__(self, report: Callable[[Heard], None]) -> None:
        self._report = report
        self._targets: dict[str, watch.Target] = {}
        self._statuses: dict[str, BFDStatus] = {}  # by target
        self._counted: dict[str, watch.Counted] = {}  # by target
        self._failures: dict[str, watch.Failed] = {}  # by target
        self._hint = ""  # how to get a better priority
        self._child: LineChild | None = None
        self._wanted = asyncio.Event()
        self._left = False
        self.restarts = 0  # of the process, but for those that were dismissed
        self._log: Any = structlog.get_logger()

    @property
    def pid(self) -> int | None:
        """The process that runs."""
        return self._child.pid if self._child else None

    def want(self, targets: Mapping[str, watch.Target]) -> list[str]:
        """From now on these, and no others; return the peers whose session began, ended or is another."""
        if self._left or targets == self._targets:
            return []
        before, self._targets = self._targets, dict(targets)
        names = {peer: target.name for peer, target in targets.items()}
        for kept in (self._statuses, self._counted, self._failures):
            for gone in kept.keys() - names.values():
                del kept[gone]
        if targets:
            self._wanted.set()
        self._tell()
        other = {peer: target.name for peer, target in before.items()}
        return sorted(peer for peer in names.keys() | other.keys() if names.get(peer) != other.get(peer))

    def known(self, peer: str) -> BFDStatus | None:
        """How BFD with a peer's router is; None: it is not spoken."""
        if peer not in self._targets:
            return None
        return self._statuses.get(self._targets[peer].name, BFDStatus(BFDState.DOWN))

    async def run(self) -> None:
        """Keep the process running while there is somebody to watch, until cancelled."""
        pause = RESTART_S[0]
        while True:
            await self._wanted.wait()
            began = asyncio.get_running_loop().time()
            try:
                await self._live()
            except LbspeakerError as error:
                self._log.error("bfd-not-started", why=error.what, hint=error.hint)
            if asyncio.get_running_loop().time() - began > STEADY_S:
                pause = RESTART_S[0]
            await asyncio.sleep(pause)
            pause = min(pause * 2, RESTART_S[1])

    async def leave(self) -> None:
        """Have all sessions shut down, and routers told so."""
        self._left = True
        if self._child is not None:
            self._child.send(watch.build(watch.Leave()))
            await asyncio.sleep(LEAVE_S)

    # -- what it says --

    def heard(self, report: Heard) -> list[News]:
        """Log what is worth it; return the peers that something is new for."""
        match report:
            case watch.Ready():
                self._hint = report.hint
                level = self._log.warning if report.hint else self._log.info
                level("bfd-ready", priority=report.priority, **({"hint": report.hint} if report.hint else {}))
            case watch.Changed():
                return self._changed(report)
            case watch.Failed():
                self._failures[report.target] = report
                self._log.error("bfd-unusable", router=report.target, why=report.what, hint=report.hint)
            case watch.Stood():
                why = "routers may have missed packets of this node"
                self._log.warning("bfd-stood-still", seconds=report.seconds, why=why)
            case watch.Counted():
                self._count(report)
            case Ended():
                self._statuses.clear()
                return [(peer, None) for peer in self._targets]
        return []

    def _count(self, report: watch.Counted) -> None:
        before = self._counted.get(report.target)
        self._counted[report.target] = report
        if report.received:
            self._failures.pop(report.target, None)
        elif report.dropped.get("ttl") and (before is None or not before.dropped.get("ttl")):
            what = "its packets come with too low a TTL: from further away than they may"
            hint = (
                "over several hops: lower minimumTtl (BIRD sends with 64); else the router must send with 255"
            )
            self._failures[report.target] = watch.Failed(report.target, what, hint)
            self._log.warning("bfd-unusable", router=report.target, why=what, hint=hint)

    def _changed(self, report: watch.Changed) -> list[News]:
        target, now = report.target, report.status
        before = self._statuses.get(target, BFDStatus(BFDState.DOWN))
        self._statuses[target] = now
        peers = [peer for peer, one in self._targets.items() if one.name == target]
        fields = {"router": target, "peer": ",".join(peers)}
        if now.state is BFDState.UP:
            self._failures.pop(target, None)
            if before.state is not BFDState.UP:
                self._log.info("bfd-up", **fields)
        elif before.state is BFDState.UP:
            self._log.warning("bfd-down", why=bfd.diagnostic(now.diagnostic), **fields)
        return [(peer, now) for peer in peers]

    # -- for `lbspeaker status` --

    def rows(self) -> tuple[status.BFD, ...]:
        """Every router that is watched."""
        found = []
        for target in {one.name: one for one in self._targets.values()}.values():
            now = self._statuses.get(target.name, BFDStatus(BFDState.DOWN))
            counted = self._counted.get(target.name, watch.Counted(target.name, 0, 0, 0.0, 0.0))
            found.append(
                status.BFD(
                    target.name,
                    now.state.name.lower(),
                    bfd.diagnostic(now.diagnostic) if now.diagnostic else "",
                    counted.interval_ms,
                    counted.detection_ms,
                    counted.sent,
                    counted.received,
                    counted.dropped,
                )
            )
        return tuple(found)

    def problems(self) -> list[str]:
        found = [f"BFD with {one.target}: {one.what}; {one.hint}" for one in self._failures.values()]
        if self._hint and self._targets:
            found.append(f"BFD has no better priority than others, and may be late: {self._hint}")
        return found

    # -- the process --

    async def _live(self) -> None:
        """One process, from start to end; that it ends is told, unless it was dismissed."""
        child = LineChild([sys.executable, "-m", "lbspeaker.bfd"])
        code: int | None = None
        try:
            await child.start()
            self._child = child
            self._tell()
            async for line in child.lines():
                self._hear(line)
        finally:
            dismissed, self._child = self._child is None, None
            code = await child.stop()
        if dismissed:
            return
        self._log.error("bfd-ended", code=code, why="routers may take this node for dead until it runs again")
        self.restarts += 1
        self._report(Ended())

    def _dismiss(self) -> None:
        """End the process, unless somebody wants it again."""
        if self._child is not None and not self._targets:
            self._wanted.clear()
            self._child.kill()
            self._child = None

    def _tell(self) -> None:
        if self._child is not None:
            unique = {target.name: target for target in self._targets.values()}
            self._child.send(watch.build(watch.Watch(tuple(unique.values()))))
            if not unique:
                asyncio.get_running_loop().call_later(IDLE_S, self._dismiss)

    def _hear(self, line: bytes) -> None:
        try:
            self._report(watch.report(line))
        except Malformed as error:
            self._log.error("bfd-garbled", why=error.what)
