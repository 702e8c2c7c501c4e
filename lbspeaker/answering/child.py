"""The answerer as the speaker's child: kept running, and told again what it has to know."""

import asyncio
import math
import sys
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import structlog
from msgspec.structs import replace

from lbspeaker.answering.aside import templates
from lbspeaker.core.guard import Occasion
from lbspeaker.errors import Malformed, Unable
from lbspeaker.model import Range
from lbspeaker.shell.linechild import LineChild
from lbspeaker.wire import orders

RESTART_S = (0.1, 5.0)  # first and longest pause before a restart
STEADY_S = 60.0  # who has run for so long begins with the first pause again, and is counted on
ALIVE_EVERY_S = 0.5
HUNG_S = 3.0  # an answerer that does not answer for so long hangs, or has no core to run on
REPLACED_S = 10.0  # and then it is replaced
UNSTEADY = (
    "the answerer has ended twice within a minute: while there are others, this node has no IPs until it has "
    "run for one"
)


@dataclass(frozen=True, slots=True)
class Steady:
    """Whether answerers of this node can be counted on, or end again and again."""

    steady: bool


class Answering:
    """What is to be answered, whichever process does it. `report` hears what the answerer says."""

    def __init__(self, node: str, report: Callable[[orders.Report | Steady], None]) -> None:
        self._node = node
        self._report = report
        self._child: LineChild | None = None
        self._ports = orders.Ports(())
        self._filter = orders.Filter(())
        self._keys = orders.Keys(())
        self._members = orders.Members({})
        self._leaving = False
        self.steady = True
        self.restarts = 0
        self._unanswered = 0  # beats
        self._announced: dict[str, orders.Announce] = {}
        self._answered: set[str] = set()  # of these, what was answered once
        self._log: Any = structlog.get_logger()

    def set_ports(self, ports: tuple[orders.Port, ...]) -> None:
        if ports != self._ports.ports:
            self._ports = orders.Ports(ports)
            self._send(self._ports)

    def set_keys(self, keys: tuple[str, ...]) -> None:
        """The keys of hellos, the newest first."""
        if keys != self._keys.keys:
            self._keys = orders.Keys(keys)
            self._send(self._keys)

    def set_members(self, members: orders.Members) -> None:
        if members != self._members:
            self._members = members
            self._send(self._members)

    def leave(self) -> None:
        """Tell the other members that this one goes."""
        self._leaving = True
        self._send(orders.Alive(leaving=True))

    def set_ranges(self, ranges: Iterable[Range]) -> None:
        """Only addresses in these ranges will ever be announced."""
        four: list[tuple[int, int]] = []
        six: list[tuple[int, int]] = []
        for r in ranges:
            (four if r.family == 4 else six).append((int(r.first), int(r.last)))
        wanted = orders.Filter(tuple(four), tuple(six))
        if wanted != self._filter:
            self._filter = wanted
            self._send(self._filter)

    def announce(self, order: orders.Announce) -> None:
        """Give the order now, or as soon as there is an answerer."""
        self._announced[order.ip] = order
        self._send(order)

    def answers(self, ip: str) -> None:
        """It is answered, and not probed any more."""
        self._answered.add(ip)

    def ports_of(self, ip: str) -> tuple[str, ...] | None:
        announced = self._announced.get(ip)
        return None if announced is None else announced.ports

    def release(self, ip: str) -> None:
        """Also what the answerer has said to be gone: an order to announce it may have been on its way."""
        self.gone(ip)
        self._send(orders.Release(ip))

    def gone(self, ip: str) -> None:
        """The answerer has stopped to answer for it by itself."""
        self._announced.pop(ip, None)
        self._answered.discard(ip)

    async def run(self) -> None:
        """Keep an answerer running, until cancelled."""
        setup = orders.Setup(self._node, await templates())
        pause, ended = RESTART_S[0], -math.inf
        while True:
            began = asyncio.get_running_loop().time()
            try:
                await self._live(setup)
            except Unable as error:
                hint = "has this node processes and memory left? It is tried again"
                self._log.error("answerer-not-started", why=error.what, hint=hint)
            before, ended = ended, asyncio.get_running_loop().time()
            if ended - before < STEADY_S:
                self._set_steady(False)
            if ended - began > STEADY_S:
                pause = RESTART_S[0]
            await asyncio.sleep(pause)
            pause = min(pause * 2, RESTART_S[1])
            self.restarts += 1

    async def _live(self, setup: orders.Setup) -> None:
        """One answerer, from start to end."""
        child = LineChild([sys.executable, "-m", "lbspeaker.answerer"])
        code: int | None = None
        try:
            await child.start()
            self._child, self._unanswered = child, 0
            self._tell_all(setup)
            heart = asyncio.create_task(self._beat(child))
            try:
                async for line in child.lines():
                    self._hear(line)
            finally:
                heart.cancel()
        finally:
            self._child = None
            code = await child.stop()
        self._log.error("answerer-ended", code=code, why="nothing is answered until it runs again")

    def _set_steady(self, steady: bool) -> None:
        if steady is self.steady:
            return
        self.steady = steady
        if steady:
            self._log.info("answerer-steady", why="it has run for a minute: this node takes part again")
        else:
            self._log.error("answerer-unsteady", why=UNSTEADY)
        self._report(Steady(steady))

    @property
    def runs(self) -> bool:
        """Whether there is a process that could answer."""
        return self._child is not None

    @property
    def hung_s(self) -> float:
        """For how long the answerer has not answered, if that is long."""
        silent_s = self._unanswered * ALIVE_EVERY_S
        return silent_s if silent_s > HUNG_S else 0.0

    async def _beat(self, child: LineChild) -> None:
        """Tell the answerer that the speaker lives: its loop turns; and see that the answerer's does.

        Beats are counted, as the speaker may have stood still, too.
        """
        steady_at = asyncio.get_running_loop().time() + STEADY_S
        while True:
            if asyncio.get_running_loop().time() >= steady_at:
                self._set_steady(True)
            told = self.hung_s
            self._send(orders.Alive(self._leaving))
            self._unanswered += 1
            if self.hung_s and not told:
                why = (
                    f"its answerer (process {child.pid}) does not run: others take over; it is replaced soon"
                )
                self._log.error("answerer-hangs", why=why)
            if self.hung_s > REPLACED_S:
                child.kill()
            await asyncio.sleep(ALIVE_EVERY_S)

    def _tell_all(self, setup: orders.Setup) -> None:
        for order in (setup, self._keys, self._filter, self._members, self._ports):
            self._send(order)
        # Neighbours still know this node for what was answered; unless others noticed, and took over.
        again = Occasion.TAKEOVER if self._members.macs else Occasion.REFRESH
        for ip, known in self._announced.items():
            self._send(replace(known, occasion=again.name) if ip in self._answered else known)

    def _hear(self, line: bytes) -> None:
        try:
            report = orders.report(line)
        except Malformed as error:
            self._log.error("answerer-garbled", why=error.what)
            return
        if isinstance(report, orders.Turns):
            self._unanswered = 0
        else:
            self._report(report)

    def _send(self, order: orders.Order) -> None:
        if self._child is not None:
            self._child.send(orders.build(order))
