"""What a speaker and its answerer say to each other: one JSON object per line, over a socket pair.

The answerer holds no state that the speaker does not have: after a restart it is told everything again.
MACs and templates are hexadecimal, service IPs are text.
"""

from collections.abc import Iterator

import msgspec

from lbspeaker.errors import Malformed


class Port(msgspec.Struct, frozen=True):
    """A link to talk on."""

    name: str
    index: int
    mac: str


# --- to the answerer ------------------------------------------------------------------------------------


class Setup(msgspec.Struct, frozen=True, tag="setup"):
    """The first order: the guard's profile, and the frames that announce (`template` of arp and ndp)."""

    profile: str
    arp: str
    ndp: str


class Ports(msgspec.Struct, frozen=True, tag="ports"):
    """These links, and no others."""

    ports: tuple[Port, ...]


class Filter(msgspec.Struct, frozen=True, tag="filter"):
    """Only these IPv4 ranges (first, last as numbers) concern us: the pools. IPv6 is not filtered by it."""

    ranges: tuple[tuple[int, int], ...]


class Announce(msgspec.Struct, frozen=True, tag="announce"):
    """Answer for `ip` on the links with these names; on those that are new for it, announce it."""

    ip: str
    ports: tuple[str, ...]
    occasion: str  # guard.Occasion's name
    again: bool = False  # announce it also where it is answered already


class Release(msgspec.Struct, frozen=True, tag="release"):
    ip: str


Order = Setup | Ports | Filter | Announce | Release


# --- from the answerer ----------------------------------------------------------------------------------


class Ready(msgspec.Struct, frozen=True, tag="ready"):
    """The answerer has its setup."""


class Answering(msgspec.Struct, frozen=True, tag="answering"):
    """From now on the answerer answers for `ip` on these links."""

    ip: str
    ports: tuple[str, ...]


class Failed(msgspec.Struct, frozen=True, tag="failed"):
    """A link cannot be used."""

    port: str
    what: str
    hint: str


class Claimed(msgspec.Struct, frozen=True, tag="claimed"):
    """Another MAC claims an IP that is ours; told at most once a second for each IP."""

    ip: str
    port: str
    mac: str


class Stats(msgspec.Struct, frozen=True, tag="stats"):
    """What the guard of one link did since it began; sent when it changed, at most once a second."""

    port: str
    protocol: str  # arp, ndp
    sent: dict[str, int]
    held_back: dict[str, int]
    queue: int
    longest_wait_s: float


Report = Ready | Answering | Failed | Claimed | Stats

_orders: msgspec.json.Decoder[Order] = msgspec.json.Decoder(Order)
_reports: msgspec.json.Decoder[Report] = msgspec.json.Decoder(Report)
_encoder = msgspec.json.Encoder()


def build(message: Order | Report) -> bytes:
    """Return the line for `message`."""
    return _encoder.encode(message) + b"\n"


class Lines:
    """Cuts a stream of bytes into lines."""

    def __init__(self) -> None:
        self._rest = b""

    def feed(self, data: bytes) -> Iterator[bytes]:
        *lines, self._rest = (self._rest + data).split(b"\n")
        yield from lines


def order(line: bytes) -> Order:
    """Raises Malformed."""
    try:
        return _orders.decode(line)
    except msgspec.DecodeError as error:
        raise Malformed(f"an order that cannot be read: {error}") from None


def report(line: bytes) -> Report:
    """Raises Malformed."""
    try:
        return _reports.decode(line)
    except msgspec.DecodeError as error:
        raise Malformed(f"a report that cannot be read: {error}") from None
