"""What a speaker and its answerer say to each other: one JSON object per line, over a socket pair.

The answerer holds no state that the speaker does not have: after a restart it is told everything again.
MACs and templates are hexadecimal, service IPs are text.
"""

from collections.abc import Iterator

import msgspec

from lbspeaker.errors import Malformed
from lbspeaker.model import LinkPolicy


class Port(msgspec.Struct, frozen=True):
    """A link to talk on, and how. `address`, `gateway`: own IPv4 address there, and the default gateway's."""

    name: str
    index: int
    mac: str
    policy: LinkPolicy = LinkPolicy("")
    address: str = ""
    gateway: str = ""

    @property
    def identity(self) -> tuple[object, ...]:
        """What makes it another link if it changes."""
        return self.index, self.mac, self.policy.dry_run


# --- to the answerer ------------------------------------------------------------------------------------


class Frames(msgspec.Struct, frozen=True):
    """Templates of the frames that we originate."""

    arp: str
    arp_probe: str
    ndp: str
    ndp_probe: str


class Setup(msgspec.Struct, frozen=True, tag="setup"):
    """The first order: whose answerer it is, and what to send."""

    node: str
    frames: Frames


class Keys(msgspec.Struct, frozen=True, tag="keys"):
    """The keys of hellos, the newest first; without any, no hellos are sent. Any of them opens one."""

    keys: tuple[str, ...]


class Ports(msgspec.Struct, frozen=True, tag="ports"):
    """These links, and no others."""

    ports: tuple[Port, ...]


class Filter(msgspec.Struct, frozen=True, tag="filter"):
    """Only these ranges (first, last as numbers) concern us: the pools, IPv4 and IPv6."""

    ranges: tuple[tuple[int, int], ...]
    ranges6: tuple[tuple[int, int], ...] = ()


class Members(msgspec.Struct, frozen=True, tag="members"):
    """The other nodes with a speaker, as the API has them, and the MACs of their links.

    `near`: by link of ours, the MACs of live members that have a link in one of its networks. `alive`: who
    takes part in elections.
    """

    macs: dict[str, tuple[str, ...]]
    near: dict[str, tuple[str, ...]] = {}
    alive: tuple[str, ...] = ()


class Announce(msgspec.Struct, frozen=True, tag="announce"):
    """Answer for `ip` on the links with these names; on those that are new for it, announce it.

    `above`: the nodes that come before this one in the ranking, should they live.
    """

    ip: str
    ports: tuple[str, ...]
    occasion: str  # guard.Occasion's name
    again: bool = False  # announce it also where it is answered already
    above: tuple[str, ...] = ()


class Release(msgspec.Struct, frozen=True, tag="release"):
    ip: str


class Alive(msgspec.Struct, frozen=True, tag="alive"):
    """The speaker lives. `leaving`: not for long."""

    leaving: bool = False


Order = Setup | Keys | Ports | Filter | Members | Announce | Release | Alive


# --- from the answerer ----------------------------------------------------------------------------------


class Ready(msgspec.Struct, frozen=True, tag="ready"):
    """The answerer has its setup."""


class Turns(msgspec.Struct, frozen=True, tag="turns"):
    """The answerer's loop turns; so each `Alive` is answered."""


class Answering(msgspec.Struct, frozen=True, tag="answering"):
    """From now on the answerer answers for `ip` on these links; where it is still probed, it does not."""

    ip: str
    ports: tuple[str, ...]


class Opened(msgspec.Struct, frozen=True, tag="opened"):
    """A link is used from now on."""

    port: str


class Failed(msgspec.Struct, frozen=True, tag="failed"):
    """A link cannot be used, or not wholly. It is tried again."""

    port: str
    what: str
    hint: str


class Claimed(msgspec.Struct, frozen=True, tag="claimed"):
    """Another MAC claims an IP that is ours. `node`: the member whose MAC it is; "": a stranger.

    Told at most once a second for each IP, of members for each MAC of theirs; but always if `yielded`: it is
    not answered here any more.
    """

    ip: str
    port: str
    mac: str
    node: str = ""
    yielded: bool = False


class InUse(msgspec.Struct, frozen=True, tag="in-use"):
    """An IP that was probed belongs to somebody else; it is not answered. `node`: as in `Claimed`."""

    ip: str
    port: str
    mac: str
    node: str = ""


class Seen(msgspec.Struct, frozen=True, tag="seen"):
    """Which members are heard on the segment of a link, and which must be taken for dead; told on change.

    `silent`: who is not heard, and counts as alive all the same. Of the dead, `returning` are heard again,
    and `left` have said that they leave. `noticed_s`: after how long a silence the last death was believed.
    """

    port: str
    alive: tuple[str, ...]
    dead: tuple[str, ...]
    silent: tuple[str, ...] = ()
    returning: tuple[str, ...] = ()
    left: tuple[str, ...] = ()
    noticed_s: float = 0.0


class Missed(msgspec.Struct, frozen=True, tag="missed"):
    """Others on the segment took us for dead for a while."""

    port: str


class Woke(msgspec.Struct, frozen=True, tag="woke"):
    """The answerer stood still for so long; `ips` are not answered any more, as claims may have been lost."""

    stood_s: float
    ips: tuple[str, ...]


class Storm(msgspec.Struct, frozen=True, tag="storm"):
    """Somebody sends so many ARP frames in a second; without a MAC: many strangers together."""

    port: str
    mac: str
    frames: int
    node: str = ""


class Stats(msgspec.Struct, frozen=True, tag="stats"):
    """What the guard of one link did since it began; sent when it changed, at most once a second.

    `projected_s`: until all that waits has been told once. `unpaced`: frames, had there been no guard.
    """

    port: str
    protocol: str  # arp, ndp
    sent: dict[str, int]
    held_back: dict[str, int]
    queue: int
    longest_wait_s: float
    projected_s: float = 0.0
    unpaced: int = 0
    coalesced: int = 0
    expired: int = 0
    repetitive: int = 0
    segment_per_s: float = 0.0  # unsolicited frames of other members that were heard
    storms: int = 0
    dry_run: bool = False
    span_s: float = 1.0  # since the answerer looked the last time, and could tell

    @property
    def unasked(self) -> int:
        """Frames that were no answers."""
        return sum(self.sent.values()) - self.sent.get("answer", 0)


Report = Ready | Turns | Answering | Opened | Failed | Claimed | InUse | Seen | Missed | Woke | Storm | Stats

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
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise Malformed(f"an order that cannot be read: {error}") from None


def report(line: bytes) -> Report:
    """Raises Malformed."""
    try:
        return _reports.decode(line)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise Malformed(f"a report that cannot be read: {error}") from None
