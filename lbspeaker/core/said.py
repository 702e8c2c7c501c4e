"""What speakers say of themselves, as far as explanations and forecasts need it."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from lbspeaker.model import Address, Network


@dataclass(frozen=True, slots=True)
class SaidIP:
    """`role`: owner, probing, lent, held-back or dry-run (see `wire.status.IP`). `since`: Unix time."""

    role: str
    links: tuple[str, ...] = ()
    since: float = 0.0
    conflict: str = ""  # MAC and vendor of a host that uses it, too


@dataclass(frozen=True, slots=True)
class SaidPeer:
    """A session: `sent` routes are on the wire, of `desired`. `unsent`: which are not, and why."""

    state: str
    since: float = 0.0
    sent: int = 0
    desired: int = 0
    last_error: str = ""
    unsent: Mapping[Network, str] = field(default_factory=dict)

    @property
    def complete(self) -> bool:
        return self.state == "up" and self.sent >= self.desired

    def has_sent(self, prefix: Network) -> bool | None:
        """Whether this route is on the wire; None: some are, and it does not tell which."""
        if self.state != "up" or prefix in self.unsent or not self.sent:
            return False
        return True if self.sent + len(self.unsent) >= self.desired else None


@dataclass(frozen=True, slots=True)
class SaidMember:
    """Another node: on which links of its own the speaker hears it, and on which not (any more)."""

    heard_on: tuple[str, ...] = ()
    silent_on: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Said:
    """Of one node. `waiting`: frames that its guards hold. `members`: the other nodes, as it hears them."""

    state: str = "serving"
    ips: Mapping[Address, SaidIP] = field(default_factory=dict)
    peers: Mapping[str, SaidPeer] = field(default_factory=dict)
    problems: tuple[str, ...] = ()
    waiting: int = 0
    members: Mapping[str, SaidMember] = field(default_factory=dict)

    def owns(self, ip: Address) -> bool:
        """Whether it answers for this IP, and will."""
        one = self.ips.get(ip)
        return one is not None and one.role == "owner" and bool(one.links)
