"""Lines between the speaker and the process that speaks BFD, each a message: orders in, reports out.

The process keeps the sessions that the last `Watch` names, and tells of each whenever it changes.
"""

import msgspec

from lbspeaker.errors import Malformed
from lbspeaker.model import BFDProfile, BFDStatus

# --- to the process -------------------------------------------------------------------------------------


class Target(msgspec.Struct, frozen=True):
    """A router to have a session with.

    `source`: the address to send from; "": the one that the kernel takes. `link`: the name of the link on
    which a link-local address means it. `multihop`: it may be several hops away (RFC 5883).
    """

    address: str
    profile: BFDProfile
    source: str = ""
    link: str = ""
    multihop: bool = False

    @property
    def name(self) -> str:
        """By which reports call it."""
        way = f"%{self.link}" if self.link else " multihop" if self.multihop else ""
        return f"{self.address}{way}" + (f" from {self.source}" if self.source else "")


class Watch(msgspec.Struct, frozen=True, tag="watch"):
    """Have sessions with these, and no others."""

    targets: tuple[Target, ...]


class Leave(msgspec.Struct, frozen=True, tag="leave"):
    """Shut all sessions down: the speaker ends."""


Order = Watch | Leave

# --- from the process -----------------------------------------------------------------------------------


class Ready(msgspec.Struct, frozen=True, tag="ready"):
    """It runs, with this priority; `hint`: how to get a better one."""

    priority: str
    hint: str = ""


class Changed(msgspec.Struct, frozen=True, tag="changed"):
    """The session with `target` is as `status` says, now."""

    target: str
    status: BFDStatus


class Failed(msgspec.Struct, frozen=True, tag="failed"):
    """A session cannot be had now; it is tried again."""

    target: str
    what: str
    hint: str


class Stood(msgspec.Struct, frozen=True, tag="stood"):
    """The process stood still for so long; routers may have missed its packets."""

    seconds: float


class Counted(msgspec.Struct, frozen=True, tag="counted"):
    """What a session did since it began; told every few seconds.

    `interval_ms`, `detection_ms`: as negotiated; 0: the router is not heard. `dropped`: packets that did not
    count, by why.
    """

    target: str
    sent: int
    received: int
    interval_ms: float
    detection_ms: float
    dropped: dict[str, int] = {}


Report = Ready | Changed | Failed | Stood | Counted

_orders: msgspec.json.Decoder[Order] = msgspec.json.Decoder(Order)
_reports: msgspec.json.Decoder[Report] = msgspec.json.Decoder(Report)
_encoder = msgspec.json.Encoder()


def build(message: Order | Report) -> bytes:
    """Return the line for `message`."""
    return _encoder.encode(message) + b"\n"


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
