"""What speakers say of themselves, as far as an explanation needs it."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from lbspeaker.model import Address


@dataclass(frozen=True, slots=True)
class SaidIP:
    """`role`: owner, probing, lent, held-back or dry-run (see `wire.status.IP`). `since`: Unix time."""

    role: str
    links: tuple[str, ...] = ()
    since: float = 0.0
    conflict: str = ""  # MAC and vendor of a host that uses it, too


@dataclass(frozen=True, slots=True)
class SaidPeer:
    """A session: `sent` routes are on the wire, of `desired`."""

    state: str
    since: float = 0.0
    sent: int = 0
    desired: int = 0
    last_error: str = ""

    @property
    def complete(self) -> bool:
        return self.state == "up" and self.sent >= self.desired


@dataclass(frozen=True, slots=True)
class Said:
    """Of one node. `waiting`: frames that its guards hold."""

    state: str = "serving"
    ips: Mapping[Address, SaidIP] = field(default_factory=dict)
    peers: Mapping[str, SaidPeer] = field(default_factory=dict)
    problems: tuple[str, ...] = ()
    waiting: int = 0
