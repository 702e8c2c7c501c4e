"""The speaker's side of the answerer: keeps it running, and tells it again what it has to know."""

import asyncio
import sys
from collections.abc import Callable, Iterable
from typing import Any

import structlog

from lbspeaker.core.guard import Occasion
from lbspeaker.errors import Malformed, Unable
from lbspeaker.model import Range
from lbspeaker.shell.linechild import LineChild
from lbspeaker.wire import orders

RESTART_S = (0.1, 5.0)  # first and longest pause before a restart
STEADY_S = 60.0  # who has run for so long begins with the first pause again
ALIVE_EVERY_S = 0.5
_TEMPLATES = """
from lbspeaker.wire import arp, ndp
for build in (arp.template, arp.probe_template, ndp.template, ndp.probe_template):
    print(build().hex())
"""
_VENDOR = """
import sys
from scapy.config import conf
import scapy.data
print(conf.manufdb.lookup(sys.argv[1])[1])
"""


async def templates() -> orders.Frames:
    """Have the frames that we originate built, in a process that ends: scapy takes 40 MiB.

    Raises Unable if that does not work.
    """
    output = await _aside(_TEMPLATES)
    return orders.Frames(*output.split())


async def vendor(mac: str) -> str:
    """Return who made the interface with this MAC, as scapy knows; "" if it does not."""
    if int(mac[:2], 16) & 2:
        return "no vendor: locally administered"
    try:
        named = (await _aside(_VENDOR, mac)).strip()
    except Unable:
        return ""
    return "" if named.lower() == mac.lower() else named


async def _aside(program: str, *arguments: str) -> str:
    """Run a piece of Python in a process of its own, and return what it prints."""
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-c",
        program,
        *arguments,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    try:
        output, complaint = await process.communicate()
    except asyncio.CancelledError:
        process.kill()
        await process.wait()
        raise
    if process.returncode != 0:
        last = complaint.decode(errors="replace").strip().rpartition("\n")[2]
        raise Unable(f"scapy cannot be used: {last}", "reinstall lbspeaker")
    return output.decode()


class Answering:
    """What is to be answered, whichever process does it. `report` hears what the answerer says."""

    def __init__(self, node: str, report: Callable[[orders.Report], None]) -> None:
        self._node = node
        self._report = report
        self._child: LineChild | None = None
        self._ports = orders.Ports(())
        self._filter = orders.Filter(())
        self._keys = orders.Keys(())
        self._members = orders.Members({})
        self._leaving = False
        self._announced: dict[str, orders.Announce] = {}
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

    def set_members(self, macs: dict[str, tuple[str, ...]]) -> None:
        """The other nodes with a speaker, and the MACs of their links."""
        if macs != self._members.macs:
            self._members = orders.Members(macs)
            self._send(self._members)

    def leave(self) -> None:
        """Tell the other members that this one goes."""
        self._leaving = True
        self._send(orders.Alive(leaving=True))

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
        self._announced[order.ip] = orders.Announce(order.ip, order.ports, occasion, above=order.above)

    def ports_of(self, ip: str) -> tuple[str, ...] | None:
        announced = self._announced.get(ip)
        return None if announced is None else announced.ports

    def release(self, ip: str) -> None:
        if self._announced.pop(ip, None) is not None:
            self._send(orders.Release(ip))

    def gone(self, ip: str) -> None:
        """The answerer has stopped to answer for it by itself."""
        self._announced.pop(ip, None)

    async def run(self) -> None:
        """Keep an answerer running, until cancelled."""
        setup = orders.Setup(self._node, await templates())
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
            heart = asyncio.create_task(self._beat())
            try:
                async for line in child.lines():
                    self._hear(line)
            finally:
                heart.cancel()
        finally:
            self._child = None
            code = await child.stop()
        self._log.error("answerer-ended", code=code, why="nothing is answered until it runs again")

    async def _beat(self) -> None:
        """Tell the answerer that the speaker lives: its loop turns."""
        while True:
            self._send(orders.Alive(self._leaving))
            await asyncio.sleep(ALIVE_EVERY_S)

    def _tell_all(self, setup: orders.Setup) -> None:
        for order in (setup, self._keys, self._filter, self._members, self._ports):
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
