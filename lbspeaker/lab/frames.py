"""What the switch saw: records of ARP and neighbour discovery frames, how they are told apart, and rates.

Pure: bytes and records in, records and numbers out.
"""

import bisect
from collections import deque
from collections.abc import Sequence
from ipaddress import IPv4Address, IPv6Address
from typing import Literal

import msgspec

Kind = Literal["request", "answer", "gratuitous", "probe"]
Op = Literal["request", "reply"]
Protocol = Literal["arp", "ndp"]

_ARP, _IPV6 = b"\x08\x06", b"\x86\xdd"
_NEIGHBOUR_SOLICITATION, _NEIGHBOUR_ADVERTISEMENT = 135, 136
_SOLICITED = 0x40  # the S flag of a neighbour advertisement (RFC 4861 §4.4)


class Frame(msgspec.Struct, frozen=True, tag_field="event", tag="frame"):
    """A frame that entered the switch from `port`; `time` is the kernel's, in seconds since the epoch.

    `mac` is the Ethernet source, `kind` is what the frame is for:
    gratuitous: nobody asked (ARP: sender IP = target IP; neighbour advertisement: not solicited).
    probe: asks whether somebody has the IP, without having one (RFC 5227 §2.1.1, RFC 4862 §5.4).
    """

    time: float
    port: str
    mac: str
    protocol: Protocol
    op: Op
    kind: Kind
    sender: str
    target: str


class Ready(msgspec.Struct, frozen=True, tag_field="event", tag="ready"):
    """From here on every frame is in the log."""

    time: float


class PortDown(msgspec.Struct, frozen=True, tag_field="event", tag="port-down"):
    """The guard shut the port: `frames` ARP frames within one second, and only `limit` are tolerated."""

    time: float
    port: str
    frames: int
    limit: int


class Lost(msgspec.Struct, frozen=True, tag_field="event", tag="lost"):
    """The switch itself could not keep up: so many frames of this port are missing from the log."""

    time: float
    port: str
    frames: int


Event = Frame | Ready | PortDown | Lost

_DECODER: msgspec.json.Decoder[Event] = msgspec.json.Decoder(Event)


def parse(line: bytes) -> Event:
    """Return the event of one line of the switch's log. Raises msgspec.DecodeError on anything else."""
    return _DECODER.decode(line)


def decode(frame: bytes, time: float, port: str) -> Frame | None:
    """Return what an Ethernet frame says, or None if it is neither ARP for IPv4 nor neighbour discovery."""
    said = None
    if frame[12:14] == _ARP and len(frame) >= 42:
        said = _arp(frame[14:42])
    elif frame[12:14] == _IPV6 and len(frame) >= 78 and frame[20] == 58:
        said = _ndp(frame)
    return Frame(time, port, frame[6:12].hex(":"), *said) if said else None


def _arp(packet: bytes) -> tuple[Protocol, Op, Kind, str, str] | None:
    op = int.from_bytes(packet[6:8], "big")
    if packet[:6] != b"\x00\x01\x08\x00\x06\x04" or op not in (1, 2):
        return None
    sender, target = packet[14:18], packet[24:28]
    kind: Kind = "request" if op == 1 else "answer"
    if sender == target:
        kind = "gratuitous"
    elif sender == bytes(4):
        kind = "probe"
    return "arp", "request" if op == 1 else "reply", kind, str(IPv4Address(sender)), str(IPv4Address(target))


def _ndp(frame: bytes) -> tuple[Protocol, Op, Kind, str, str] | None:
    source, target = str(IPv6Address(frame[22:38])), str(IPv6Address(frame[62:78]))
    if frame[54] == _NEIGHBOUR_SOLICITATION:
        return "ndp", "request", "probe" if source == "::" else "request", source, target
    if frame[54] == _NEIGHBOUR_ADVERTISEMENT:
        return "ndp", "reply", "answer" if frame[58] & _SOLICITED else "gratuitous", source, target
    return None


def peak(times: Sequence[float], window_s: float = 1.0) -> int:
    """Return the greatest number of `times` (any order) that lie within any window of this length.

    A window includes its beginning and not its end: two frames exactly `window_s` apart are not in one.
    """
    ordered = sorted(times)
    return max((bisect.bisect_left(ordered, t + window_s) - i for i, t in enumerate(ordered)), default=0)


class PortGuard:
    """Dynamic ARP Inspection's rate limit: more than `limit` frames in any one second shut the port.

    That is the default of many access switches for untrusted ports (15 a second, then err-disable).
    """

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self._recent: deque[float] = deque()
        self._since = float("-inf")

    def arrive(self, now: float) -> int:
        """Count a frame that arrived at `now`; return how many there were in the last second if too many.

        Otherwise return 0. After it has struck, frames from before that moment no longer count.
        """
        if now <= self._since:
            return 0
        while self._recent and self._recent[0] <= now - 1.0:
            self._recent.popleft()
        self._recent.append(now)
        seen = len(self._recent)
        if seen <= self.limit:
            return 0
        self._recent.clear()
        self._since = now
        return seen
