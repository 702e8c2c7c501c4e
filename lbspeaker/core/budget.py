"""Token buckets: how much may leave a link, and how much all speakers of a segment may send together.

A bucket gives `burst` tokens at once and `rate` per second after that, so in any window of `w` seconds at
most `burst + rate * w`.

The segment's budget is shared without a word: each speaker keeps the bucket of the whole segment, and every
frame that it hears from another member takes a token out of it, as its own frames do. Before it sends, it
waits for a random moment and listens (as Wi-Fi stations do); if the token is gone by then, it waits for the
next. Who has listened and heard nobody is alone for a while, and need not wait. What collides all the same
is paid back, because the bucket may be in debt, by one burst at most. A small floor of its own keeps a
speaker from being starved by others that do not hear it: a twentieth of the rate, or less where there are so
many speakers that all floors together would be more than half of it.
"""

import math
from collections.abc import Callable

_WHOLE = 1 - 1e-9


class Bucket:
    """A token bucket."""

    def __init__(self, rate: float, burst: float, now: float) -> None:
        self._rate = rate
        self._burst = burst
        self._tokens = float(burst)
        self._at = now

    def take(self, now: float, cost: float = 1) -> bool:
        """Take `cost` tokens, if they are there; never more than fit into the bucket."""
        cost = min(cost, self._burst)
        if not self.holds(now, cost):
            return False
        self._tokens -= cost
        return True

    def flow(self, rate: float) -> None:
        """From the last look on it gives `rate` tokens a second."""
        self._rate = rate

    def holds(self, now: float, cost: float = 1) -> bool:
        if math.isinf(self._rate):
            self._tokens = self._burst
        else:  # a clock that steps back gives nothing, and takes nothing
            self._tokens = min(self._burst, self._tokens + max(now - self._at, 0.0) * self._rate)
        self._at = max(now, self._at)
        return self._tokens >= min(cost, self._burst) * _WHOLE

    def owe(self, now: float, cost: float = 1) -> None:
        """Take tokens whether they are there or not; the debt is one burst at most."""
        self.holds(now)
        self._tokens = max(self._tokens - cost, -self._burst)

    def ready_at(self, cost: float = 1) -> float:
        """When `cost` tokens are there, if nobody takes any."""
        missing = min(cost, self._burst) - self._tokens
        if math.isinf(self._rate) or missing <= 1e-9:
            return self._at
        return self._at + missing / self._rate


CROWDED_S = 5.0  # who was heard within this time may speak again; who has listened knows for so long
FLOOR = 1 / 20  # of the segment's rate: what nobody can take from a speaker, at most
FLOORS = 1 / 2  # of the segment's rate: all floors together, at most
URGENT, USUAL = (0.0, 0.5), (0.5, 3.0)  # the random wait, in tokens' time


class SegmentBudget:
    """The bucket of a whole segment, as one speaker keeps it. `roll` returns numbers from 0 to below 1."""

    def __init__(self, rate: float, burst: int, now: float, roll: Callable[[], float]) -> None:
        self._rate = rate
        self._bucket = Bucket(rate, burst, now)
        self._floor = Bucket(rate * FLOOR, 1, now)
        self._roll = roll
        self._heard_at = -math.inf
        self._listened_at = -math.inf  # when the last wait was over
        self._turn_at: float | None = None  # the moment that was rolled

    def shared_by(self, speakers: int) -> None:
        """So many speakers keep this bucket, this one included."""
        self._floor.flow(self._rate * min(FLOOR, FLOORS / speakers))

    def heard(self, frames: int, now: float) -> None:
        """Other members sent so many."""
        self._heard_at = now
        self._bucket.owe(now, frames)

    def owe(self, now: float, frames: int) -> None:
        """Take tokens whether they are there or not."""
        self._bucket.owe(now, frames)

    def may_send(self, now: float, *, urgent: bool) -> bool:
        """Whether a frame may leave now; if so, it counts."""
        if math.isinf(self._rate):
            return True
        if not self._bucket.holds(now):
            self._turn_at = None
            if self._floor.take(now):
                self._bucket.owe(now)
                return True
            return False
        alone = self._heard_at + CROWDED_S <= now < self._listened_at + CROWDED_S
        if not alone:
            if self._turn_at is None:
                low, high = URGENT if urgent else USUAL
                self._turn_at = now + (low + self._roll() * (high - low)) / self._rate
            if now < self._turn_at:
                return False
            self._listened_at = now
        self._turn_at = None
        return self._bucket.take(now)

    def ready_at(self) -> float:
        """When to ask again."""
        if self._turn_at is not None:
            return self._turn_at
        return min(self._bucket.ready_at(), self._floor.ready_at())
