"""Who storms on a segment: one MAC, or many, with more ARP frames in one second than a switch should bear.

Counting every frame would cost more than it is worth, so there are two stages. A meter in the kernel counts
all frames; above `ARM_PER_S` the frames are looked at, and counted by MAC, until it is calm again. What is
alarming is a rate, never a total: a frugal host reaches any total in time. A flood whose source MAC changes
with every frame is a storm of `MANY`: of strangers together, each of whom counts for at most `STORM_PER_S`.
"""

from collections import Counter

ARM_PER_S = 60.0
STORM_PER_S = 100  # one MAC
STORM_OF_MEMBER_PER_S = 200  # profile `fast` may send 150
STORM_OF_MANY_PER_S = 400  # strangers; members have a budget together
MANY = b""  # in place of a MAC
CALM_S = 5.0  # so long after the last storm it is over
SHORTEST_S = 0.25  # what comes in less time than this counts as if it took so long
MOST_MACS = 4096


class StormDetector:
    """The watch on one link. `metered` is told the count of the meter, `seen` each frame while `armed`."""

    def __init__(self, now: float) -> None:
        self.armed = False
        self.storms = 0
        self._metered_at = now
        self._busy_at = -float("inf")
        self._second = now
        self._counts: Counter[bytes] = Counter()  # of this second, by MAC, and of MANY
        self._storming: dict[bytes, float] = {}  # when it last was too much

    def metered(self, frames: int, now: float) -> None:
        """So many frames passed since the last call."""
        passed = max(now - self._metered_at, SHORTEST_S)
        self._metered_at = now
        if frames > ARM_PER_S * passed:
            self._busy_at = now
        self.armed = now - self._busy_at < CALM_S
        if not self.armed:
            self._counts.clear()

    def seen(self, mac: bytes, now: float, *, member: bool = False) -> tuple[bytes, int] | None:
        """Count a frame; return who storms (a MAC, or `MANY`), and how many frames, if it is news."""
        if now >= self._second + 1.0:
            self._second = now
            self._counts.clear()
        if mac in self._counts or len(self._counts) < MOST_MACS:
            limit = STORM_OF_MEMBER_PER_S if member else STORM_PER_S
            if self._counted(mac) > limit:
                return self._storm(mac, now)
        if not member and self._counted(MANY) > STORM_OF_MANY_PER_S:
            return self._storm(MANY, now)
        return None

    def _counted(self, who: bytes) -> int:
        self._counts[who] += 1
        return self._counts[who]

    def _storm(self, who: bytes, now: float) -> tuple[bytes, int] | None:
        known = now - self._storming.get(who, -float("inf")) < CALM_S
        self._storming[who] = now
        if known:
            return None
        self.storms += 1
        return who, self._counts[who]

    def stormy(self, now: float) -> bool:
        """Whether somebody storms now."""
        self._storming = {mac: at for mac, at in self._storming.items() if now - at < CALM_S}
        return bool(self._storming)
