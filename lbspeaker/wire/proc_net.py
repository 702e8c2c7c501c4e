"""/proc/net/tcp, tcp6, udp and udp6: who listens where (proc(5)).

A line is `0: 0100007F:00B3 00000000:0000 0A … inode`; an address is its bytes as numbers of 32 bits of this
machine, in hexadecimal.
"""

import re
import struct
from collections.abc import Iterator
from ipaddress import ip_address
from typing import NamedTuple

from lbspeaker.model import Address

_LISTEN = "0A"  # TCP_LISTEN
_CLOSE = "07"  # of a UDP socket that is connected to nobody
_LOCAL = re.compile(r"([0-9A-F]{8}|[0-9A-F]{32}):([0-9A-F]{4})")


class Bound(NamedTuple):
    address: Address
    port: int
    inode: int


def listening(protocol: str, text: str) -> Iterator[Bound]:
    """Yield the sockets that wait, of one of these files. Lines of another shape are left out."""
    state = _LISTEN if protocol.startswith("tcp") else _CLOSE
    for line in text.splitlines()[1:]:
        words = line.split()
        local = _LOCAL.fullmatch(words[1]) if len(words) > 9 and words[3] == state else None
        if local and words[9].isdecimal():
            yield Bound(_address(local[1]), int(local[2], 16), int(words[9]))


def _address(text: str) -> Address:
    words = [int(text[start : start + 8], 16) for start in range(0, len(text), 8)]
    return ip_address(struct.pack(f"={len(words)}I", *words))
