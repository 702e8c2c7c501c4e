"""What scapy is asked for: in processes that end, because it takes 40 MiB."""

import asyncio
import sys
from asyncio.subprocess import PIPE

from lbspeaker.errors import Unable
from lbspeaker.wire import orders

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

LONGEST_S = 30.0  # on a slow and busy node; it takes half a second otherwise
MOST_WANTED = 10  # MACs whose vendors are asked for at once: a flood may bring thousands
MOST_KNOWN = 1000
UNKNOWN = "vendor unknown"


async def templates() -> orders.Frames:
    """Have the frames that we originate built, in a process that ends: scapy takes 40 MiB.

    Raises Unable if that does not work.
    """
    output = await _aside(_TEMPLATES)
    return orders.Frames(*output.split())


def local(mac: str) -> str:
    """Return what a MAC is that no vendor gave; "" for others."""
    return "a locally administered MAC" if int(mac[:2], 16) & 2 else ""


class Vendors:
    """Who made the interfaces with these MACs. One process looks them up, one after the other."""

    def __init__(self) -> None:
        self._known: dict[str, str] = {}
        self._wanted: set[str] = set()
        self._turn = asyncio.Lock()

    def known(self, mac: str) -> str:
        """What is known without asking scapy; "" for nothing."""
        return local(mac) or self._known.get(mac, "")

    async def of(self, mac: str) -> str:
        """Ask scapy; of too many MACs at once, some stay unknown."""
        if not self.known(mac) and (mac in self._wanted or len(self._wanted) < MOST_WANTED):
            self._wanted.add(mac)
            try:
                async with self._turn:
                    if mac not in self._known:
                        self._remember(mac, await vendor(mac) or UNKNOWN)
            finally:
                self._wanted.discard(mac)
        return self.known(mac) or UNKNOWN

    def _remember(self, mac: str, made_by: str) -> None:
        if len(self._known) >= MOST_KNOWN:
            del self._known[next(iter(self._known))]
        self._known[mac] = made_by


async def vendor(mac: str) -> str:
    """Return who made the interface with this MAC, as scapy knows; "" if it does not."""
    try:
        named = (await _aside(_VENDOR, mac)).strip()
    except Unable:
        return ""
    return "" if named.lower() == mac.lower() else named


async def _aside(program: str, *arguments: str) -> str:
    """Run a piece of Python in a process of its own, and return what it prints."""
    argv = (sys.executable, "-c", program, *arguments)
    try:
        child = await asyncio.create_subprocess_exec(*argv, stdout=PIPE, stderr=PIPE)
    except OSError as error:
        raise Unable(f"{sys.executable} cannot be started: {error.strerror}") from None
    try:
        output, errors = await asyncio.wait_for(child.communicate(), LONGEST_S)
    except TimeoutError:
        raise Unable(f"scapy cannot be used: not within {LONGEST_S:.0f} s") from None
    finally:
        if child.returncode is None:
            child.kill()
            await child.wait()
    if child.returncode != 0:
        last = errors.decode().strip().rpartition("\n")[2]
        raise Unable(f"scapy cannot be used: {last}", "reinstall lbspeaker")
    return output.decode()
