"""Who storms on a segment: more ARP frames from one MAC in one second than a switch should have to bear.

Counting every frame would cost more than it is worth, so there are two stages. A meter in the kernel counts
all frames; above `ARM_PER_S` the frames are looked at, and counted by MAC, until it is calm again. What is
alarming is a rate, never a total: a frugal host reaches any total in time.
"""

from collections import Counter

ARM_PER_S = 60.0
STORM_PER_S = 100  # one MAC
STORM_OF_MEMBER_PER_S = 200  # profile `fast` may send 150
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
        self._by_mac: Counter[bytes] = Counter()
        self._storming: dict[bytes, float] = {}  # when it last was too much

    def metered(self, frames: int, now: float) -> None:
        """So many frames passed since the last call."""
        passed = max(now - self._metered_at, SHORTEST_S)
        self._metered_at = now
        if frames > ARM_PER_S * passed:
            self._busy_at = now
        self.armed = now - self._busy_at < CALM_S
        if not self.armed:
            self._by_mac.clear()

    def seen(self, mac: bytes, now: float, *, member: bool = False) -> int:
        """Count a frame; return how many there were in this second if that is news, else 0."""
        if now >= self._second + 1.0:
            self._second = now
            self._by_mac.clear()
        if mac not in self._by_mac and len(self._by_mac) >= MOST_MACS:
            return 0
        self._by_mac[mac] += 1
        count = self._by_mac[mac]
        if count <= (STORM_OF_MEMBER_PER_S if member else STORM_PER_S):
            return 0
        known = now - self._storming.get(mac, -float("inf")) < CALM_S
        self._storming[mac] = now
        if known:
            return 0
        self.storms += 1
        return count

    def stormy(self, now: float) -> bool:
        """Whether somebody storms now."""
        self._storming = {mac: at for mac, at in self._storming.items() if now - at < CALM_S}
        return bool(self._storming)
