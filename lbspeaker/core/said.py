"""What speakers say of themselves, as far as an explanation needs it."""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from lbspeaker.model import Address, Pin, Snapshot


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
    """Of one node. `alive`: whether it takes others for alive. `waiting`: frames that its guards hold."""

    state: str = "serving"
    ips: Mapping[Address, SaidIP] = field(default_factory=dict)
    peers: Mapping[str, SaidPeer] = field(default_factory=dict)
    alive: Mapping[str, bool] = field(default_factory=dict)
    pins: Mapping[Address, str] = field(default_factory=dict)
    problems: tuple[str, ...] = ()
    waiting: int = 0


def with_said(snapshot: Snapshot, said: Mapping[str, Said]) -> Snapshot:
    """Return the snapshot as the speakers see it: who lives, and what is pinned.

    A node lives if its speaker says something, and most others do not call it dead.
    """
    if not said:
        return snapshot
    votes: Counter[str] = Counter()
    for node, one in said.items():
        for other, alive in one.alive.items():
            if other != node:
                votes[other] += 1 if alive else -1
    pins = {ip: Pin(node, 0) for one in said.values() for ip, node in one.pins.items()}
    members = frozenset(node for node in said if votes[node] >= 0)
    return replace(snapshot, members=members, pins={**pins, **snapshot.pins})
