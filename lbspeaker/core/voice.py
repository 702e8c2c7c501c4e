"""One protocol on one link: which IPs are answered there, and what is said about them unasked.

    own(NEW) ──▶ PROBED ──nobody has it──▶ ANSWERED ──release, or claimed by a member that outranks us──▶ ─
                   └── somebody does ──▶ ─
    own(TAKEOVER, REFRESH) ──────────────▶ ANSWERED

An IP that was never announced is probed first (RFC 5227 §2.1, RFC 4862 §5.4), so that a printer that has it
keeps it; one that moves is not, because then every moment counts. A stranger that probes for it at the same
time goes first if its MAC is lower; a member does not, as the ranking is known without it.

A member that claims an IP which is answered here proves that it lives. If it comes before us in the ranking,
we stop at once; so two owners on one wire become one in one frame. If it does not, the speaker decides.
When the speaker hangs, or we did, everybody comes before us.

Now and then one IP is told again, because switches forget where a MAC is sooner than neighbours do.

Like the guard, a voice reads no clock and sends nothing.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

from lbspeaker.core.guard import Guard, Occasion
from lbspeaker.model import LinkPolicy

PROBE_WAIT_S = 0.25  # for one probe: a host on the segment answers within a millisecond
RFC_PROBES = 3  # RFC 5227 §1.1: PROBE_NUM, between PROBE_MIN and PROBE_MAX apart, and ANNOUNCE_WAIT
RFC_PROBE_S = (1.0, 2.0)
RFC_ANNOUNCE_WAIT_S = 2.0
HOT_S = 60.0  # who was asked for within this time goes first
MOST_HOT = 4096
TOLD_AGAIN_S = 1.0  # the same claim is told once in this time


class Claim(NamedTuple):
    """Somebody claims an IP that is answered here. `node`: which member; "": a stranger."""

    ip: bytes
    mac: bytes
    node: str
    yielded: bool


@dataclass(slots=True)
class _Probe:
    left: int  # probes that have not left yet
    above: frozenset[str]
    at: float = math.inf  # when the next step is


class Voice:
    """What is said on `link` by one protocol; its guard counts by (link, IP)."""

    def __init__(
        self, link: str, guard: Guard, policy: LinkPolicy, now: float, roll: Callable[[], float] = lambda: 0.5
    ) -> None:
        self.link = link
        self.guard = guard
        self.policy = policy
        self.owned: dict[bytes, frozenset[str]] = {}  # what is answered, and who outranks us there
        self.probes: dict[bytes, _Probe] = {}
        self._hot: dict[bytes, float] = {}
        self._claims: dict[bytes, tuple[float, bytes]] = {}  # who else claims an IP, and when that was told
        self._roll = roll
        self._refreshed_at, self._jitter = now, roll()

    # -- in --

    def own(
        self,
        ip: bytes,
        occasion: Occasion,
        now: float,
        *,
        above: frozenset[str] = frozenset(),
        again: bool = False,
    ) -> bool:
        """Whether `ip` is answered from now on; if not, it is probed first. `above`: who outranks us."""
        if ip in self.probes:
            self.probes[ip].above = above
            if occasion is not Occasion.TAKEOVER:
                return False
            self._forget_probe(ip)
        if ip in self.owned:
            self.owned[ip] = above
            if not again:
                return True
        if occasion is Occasion.NEW and self.policy.dad != "off" and ip not in self.owned:
            self.probes[ip] = _Probe(RFC_PROBES if self.policy.dad == "rfc" else 1, above)
            self.guard.submit((self.link, ip), Occasion.PROBE, now, hot=self._is_hot(ip, now))
            return False
        self._answer(ip, above, occasion, now)
        return True

    def release(self, ip: bytes) -> None:
        self._forget_probe(ip)
        self.owned.pop(ip, None)
        self._claims.pop(ip, None)
        self.guard.cancel((self.link, ip))

    def asked(self, ip: bytes, now: float) -> None:
        """Somebody asks for an IP that is not answered here."""
        self.guard.asked((self.link, ip), now)
        self._hot.pop(ip, None)
        if len(self._hot) >= MOST_HOT:
            del self._hot[next(iter(self._hot))]
        self._hot[ip] = now

    def left(self, ip: bytes, occasion: Occasion | None, now: float) -> None:
        """The guard has let a frame about `ip` go."""
        probe = self.probes.get(ip)
        if occasion is not Occasion.PROBE or probe is None or probe.at < math.inf:  # a second copy
            return
        probe.left -= 1
        if self.policy.dad != "rfc":
            probe.at = now + PROBE_WAIT_S
        elif probe.left:
            probe.at = now + RFC_PROBE_S[0] + self._roll() * (RFC_PROBE_S[1] - RFC_PROBE_S[0])
        else:
            probe.at = now + RFC_ANNOUNCE_WAIT_S

    def in_use(self, ip: bytes) -> bool:
        """Somebody else has `ip`; return whether that is news to a probe."""
        if ip not in self.probes:
            return False
        self.release(ip)
        return True

    def claimed(
        self, ip: bytes, mac: bytes, node: str, now: float, *, doubtful: bool = False
    ) -> Claim | None:
        """Another claims `ip`; return what is worth telling. `doubtful`: everybody outranks us now."""
        if node and ip in self.owned and (doubtful or node in self.owned[ip]):
            self.release(ip)
            return Claim(ip, mac, node, yielded=True)
        at, before = self._claims.get(ip, (-math.inf, b""))
        if now - at < TOLD_AGAIN_S and (before == mac or not node):  # strangers are told of by the IP
            return None
        self._claims[ip] = (now, mac)
        return Claim(ip, mac, node, yielded=False)

    # -- out --

    def advance(self, now: float) -> list[bytes]:
        """Return the IPs that are answered from now on, because nobody has answered the probes for them."""
        if now >= self._refresh_at():
            self._refresh(now)
        done = []
        for ip, probe in [(ip, probe) for ip, probe in self.probes.items() if now >= probe.at]:
            probe.at = math.inf
            if probe.left:
                self.guard.submit((self.link, ip), Occasion.PROBE, now)
            else:
                del self.probes[ip]
                self._answer(ip, probe.above, Occasion.NEW, now)
                done.append(ip)
        return done

    def next_wakeup(self) -> float:
        return min([self._refresh_at(), *(probe.at for probe in self.probes.values())])

    # -- inside --

    def _answer(self, ip: bytes, above: frozenset[str], occasion: Occasion, now: float) -> None:
        self.owned[ip] = above
        self.guard.submit((self.link, ip), occasion, now, hot=self._is_hot(ip, now))

    def _is_hot(self, ip: bytes, now: float) -> bool:
        return now - self._hot.get(ip, -math.inf) < HOT_S

    def _forget_probe(self, ip: bytes) -> None:
        if self.probes.pop(ip, None) is not None:
            self.guard.cancel((self.link, ip))

    def _refresh(self, now: float) -> None:
        """Tell one IP again: all of them are at the same MAC, so for a switch one is as good as all."""
        self._refreshed_at, self._jitter = now, self._roll()
        if self.owned:
            ip = next(iter(self.owned))
            self.owned[ip] = self.owned.pop(ip)  # the next time it is another one's turn
            self.guard.submit((self.link, ip), Occasion.REFRESH, now)

    def _refresh_at(self) -> float:
        """Between two thirds and four thirds of the period after the last time, for each link or each IP."""
        if not self.policy.refresh_s:
            return math.inf
        each = max(len(self.owned), 1) if self.policy.refresh == "IP" else 1
        return self._refreshed_at + self.policy.refresh_s * (2 / 3 + self._jitter * 2 / 3) / each
