"""What scapy is asked for: in processes that end, because it takes 40 MiB."""

import asyncio
import subprocess
import sys

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


async def templates() -> orders.Frames:
    """Have the frames that we originate built, in a process that ends: scapy takes 40 MiB.

    Raises Unable if that does not work.
    """
    output = await _aside(_TEMPLATES)
    return orders.Frames(*output.split())


def local(mac: str) -> str:
    """Return what a MAC is that no vendor gave; "" for others."""
    return "a locally administered MAC" if int(mac[:2], 16) & 2 else ""


async def vendor(mac: str) -> str:
    """Return who made the interface with this MAC, as scapy knows; "" if it does not."""
    if local(mac):
        return local(mac)
    try:
        named = (await _aside(_VENDOR, mac)).strip()
    except Unable:
        return ""
    return "" if named.lower() == mac.lower() else named


async def _aside(program: str, *arguments: str) -> str:
    """Run a piece of Python in a process of its own, and return what it prints."""
    ended = await asyncio.to_thread(
        subprocess.run, [sys.executable, "-c", program, *arguments], capture_output=True, text=True
    )
    if ended.returncode != 0:
        last = ended.stderr.strip().rpartition("\n")[2]
        raise Unable(f"scapy cannot be used: {last}", "reinstall lbspeaker")
    return ended.stdout
