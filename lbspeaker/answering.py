"""The speaker's side of the answerer: keeps it running, and tells it again what it has to know."""

import asyncio
import sys
from collections.abc import Callable, Iterable
from typing import Any

import structlog

from lbspeaker.core.guard import Occasion
from lbspeaker.errors import Malformed, Unable
from lbspeaker.model import Link, Range
from lbspeaker.shell.linechild import LineChild
from lbspeaker.wire import orders

RESTART_S = (0.1, 5.0)  # first and longest pause before a restart
STEADY_S = 60.0  # who has run for so long begins with the first pause again
_TEMPLATES = "from lbspeaker.wire import arp, ndp; print(arp.template().hex(), ndp.template().hex())"


async def templates() -> tuple[str, str]:
    """Have the announcements (ARP, NDP) built, in a process that ends: scapy takes 40 MiB."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", _TEMPLATES, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE
    )
    try:
        output, complaint = await process.communicate()
    except asyncio.CancelledError:
        process.kill()
        await process.wait()
        raise
    if process.returncode != 0:
        last = complaint.decode(errors="replace").strip().rpartition("\n")[2]
        raise Unable(f"scapy cannot build the announcements: {last}", "reinstall lbspeaker")
    arp, ndp = output.decode().split()
    return arp, ndp


class Answering:
    """What is to be answered, whichever process does it. `report` hears what the answerer says."""

    def __init__(self, profile: str, report: Callable[[orders.Report], None]) -> None:
        self._profile = profile
        self._report = report
        self._child: LineChild | None = None
        self._ports = orders.Ports(())
        self._filter = orders.Filter(())
        self._announced: dict[str, orders.Announce] = {}
        self._log: Any = structlog.get_logger()

    def set_links(self, links: Iterable[Link]) -> None:
        ports = tuple(orders.Port(link.name, link.index, link.mac.hex()) for link in links)
        if ports != self._ports.ports:
            self._ports = orders.Ports(ports)
            self._send(self._ports)

    def set_ranges(self, ranges: Iterable[Range]) -> None:
        """Only addresses in these ranges will ever be announced."""
        numbers = tuple((int(r.first), int(r.last)) for r in ranges if r.family == 4)
        if numbers != self._filter.ranges:
            self._filter = orders.Filter(numbers)
            self._send(self._filter)

    def announce(self, order: orders.Announce) -> None:
        """Give the order now, or as soon as there is an answerer."""
        sent = self._send(order)
        # After a restart its neighbours still know this node for it.
        occasion = Occasion.REFRESH.name if sent else order.occasion
        self._announced[order.ip] = orders.Announce(order.ip, order.ports, occasion)

    def ports_of(self, ip: str) -> tuple[str, ...] | None:
        announced = self._announced.get(ip)
        return None if announced is None else announced.ports

    def release(self, ip: str) -> None:
        if self._announced.pop(ip, None) is not None:
            self._send(orders.Release(ip))

    async def run(self) -> None:
        """Keep an answerer running, until cancelled."""
        setup = orders.Setup(self._profile, *await templates())
        pause = RESTART_S[0]
        while True:
            began = asyncio.get_running_loop().time()
            await self._live(setup)
            if asyncio.get_running_loop().time() - began > STEADY_S:
                pause = RESTART_S[0]
            await asyncio.sleep(pause)
            pause = min(pause * 2, RESTART_S[1])

    async def _live(self, setup: orders.Setup) -> None:
        """One answerer, from start to end."""
        child = LineChild([sys.executable, "-m", "lbspeaker.answerer"])
        code: int | None = None
        try:
            await child.start()
            self._child = child
            self._tell_all(setup)
            async for line in child.lines():
                self._hear(line)
        finally:
            self._child = None
            code = await child.stop()
        self._log.error("answerer-ended", code=code, why="nothing is answered until it runs again")

    def _tell_all(self, setup: orders.Setup) -> None:
        for order in (setup, self._filter, self._ports):
            self._send(order)
        for announced in list(self._announced.values()):
            self.announce(announced)

    def _hear(self, line: bytes) -> None:
        try:
            self._report(orders.report(line))
        except Malformed as error:
            self._log.error("answerer-garbled", why=error.what)

    def _send(self, order: orders.Order) -> bool:
        if self._child is not None:
            self._child.send(orders.build(order))
        return self._child is not None
