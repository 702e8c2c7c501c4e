"""Address conflicts: a host that is no speaker uses an IP of ours (RFC 5227 §2.4).

    ANNOUNCED ──claimed──▶ DEFENDED ──claimed again within 10 s──┬─ policy Defend ─▶ DEFENDED, once per 10 s
        ▲                                                        └─ policy Yield ──▶ YIELDED
        └────────────────────── after 60 s: probe again ─────────────────────────────┘

Never answer a claim with a claim each time: two hosts that both do so send 25,000 frames a second. An IP that
is found in use while it is probed goes to YIELDED at once, whatever the policy: it was never ours.

Claims of members are no conflict; `core.voice` and `core.speaker` know what they mean.
"""

import enum
from collections.abc import Container
from dataclasses import dataclass
from typing import Literal

from lbspeaker.model import Address

DEFEND_INTERVAL_S = 10.0  # RFC 5227 §1.1
RETRY_S = 60.0
FORGET_S = 60.0  # without a claim for so long, the conflict is over


class Reaction(enum.Enum):
    DEFEND = "defend"  # announce once
    YIELD = "yield"  # stop to answer
    NOTHING = "nothing"


@dataclass(slots=True)
class _Conflict:
    mac: str
    last: float
    defended: float = -float("inf")
    yielded: float | None = None


class Conflicts:
    """All conflicts of one node, by IP."""

    def __init__(self) -> None:
        self._by_ip: dict[Address, _Conflict] = {}

    def claimed(self, ip: Address, mac: str, policy: Literal["Defend", "Yield"], now: float) -> Reaction:
        """A stranger with `mac` claims `ip`, which is announced here."""
        found = self._by_ip.get(ip)
        if found is None:
            found = self._by_ip[ip] = _Conflict(mac, now)
        found.mac, found.last = mac, now  # of several strangers, the last: they share one defence
        if found.yielded is not None:
            return Reaction.NOTHING
        if now >= found.defended + DEFEND_INTERVAL_S:
            found.defended = now
            return Reaction.DEFEND
        if policy == "Yield":
            found.yielded = now
            return Reaction.YIELD
        return Reaction.NOTHING

    def refused(self, ip: Address, mac: str, now: float) -> None:
        """Somebody with `mac` answered the probe for `ip`: it is in use."""
        self._by_ip[ip] = _Conflict(mac, now, yielded=now)

    def advance(self, now: float) -> list[Address]:
        """Return the IPs that are to be tried again; what has been calm for long enough is forgotten."""
        again = [ip for ip, c in self._by_ip.items() if c.yielded is not None and now >= c.yielded + RETRY_S]
        calm = [ip for ip, c in self._by_ip.items() if c.yielded is None and now >= c.last + FORGET_S]
        for ip in (*again, *calm):
            del self._by_ip[ip]
        return again

    def forget(self, ip: Address) -> None:
        """It is not announced here any more."""
        self._by_ip.pop(ip, None)

    def keep(self, ips: Container[Address]) -> None:
        """Forget the others: no Service has them any more."""
        self._by_ip = {ip: conflict for ip, conflict in self._by_ip.items() if ip in ips}

    def known(self, macs: Container[str]) -> None:
        """These are MACs of members: what those claimed before we knew is no conflict."""
        self._by_ip = {ip: conflict for ip, conflict in self._by_ip.items() if conflict.mac not in macs}

    @property
    def held_back(self) -> frozenset[Address]:
        """What must not be announced now."""
        return frozenset(ip for ip, conflict in self._by_ip.items() if conflict.yielded is not None)

    def mac_of(self, ip: Address) -> str | None:
        """Who else has it; None: nobody, as far as is known."""
        found = self._by_ip.get(ip)
        return found.mac if found else None

    def next_wakeup(self) -> float | None:
        return min(
            (
                c.yielded + RETRY_S if c.yielded is not None else c.last + FORGET_S
                for c in self._by_ip.values()
            ),
            default=None,
        )
