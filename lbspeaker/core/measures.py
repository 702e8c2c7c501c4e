"""What is measured about the programs: times by how long they were, and how long Services wait.

A Service is measured if it is new since the program began: what was there before had its time elsewhere.
Two times are taken of it, for layer 2 and for BGP: since its creation, and since it was seen to have an IP.
"""

from bisect import bisect_left
from dataclasses import dataclass, field
from itertools import accumulate
from typing import Literal

from lbspeaker.model import Distribution, Service

Protocol = Literal["layer2", "bgp"]
Since = Literal["creation", "allocation"]

TURN_BOUNDS_S = (0.001, 0.005, 0.02, 0.1, 0.5, 2.0)
DELAY_BOUNDS_S = (0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0)


class Timing:
    """Counts times by their length."""

    def __init__(self, bounds_s: tuple[float, ...]) -> None:
        self._bounds_s = bounds_s
        self._counts = [0] * (len(bounds_s) + 1)
        self._sum_s = 0.0

    def add(self, seconds: float) -> None:
        self._counts[bisect_left(self._bounds_s, seconds)] += 1
        self._sum_s += seconds

    def value(self) -> Distribution:
        """Return what was counted so far."""
        *at_most, count = accumulate(self._counts)
        return Distribution(self._bounds_s, tuple(at_most), count, self._sum_s)


@dataclass(slots=True)
class _Waiting:
    """A new Service that has an IP: since when (both clocks), and which protocols have not announced it."""

    uid: str
    seen: float
    created: float | None  # Unix time
    left: set[Protocol] = field(default_factory=lambda: {"layer2", "bgp"})


class Delays:
    """How long new Services wait until one node announces them."""

    def __init__(self) -> None:
        self._new: dict[str, _Waiting] = {}
        self._old: dict[str, str] = {}  # uids of those that were there before, by key
        self._timings: dict[tuple[Protocol, Since], Timing] = {}

    def observe(self, service: Service, created: float | None, now: float, *, listed: bool) -> None:
        """Take note of a Service. `listed`: it may have been there before the program was."""
        key = service.key
        if listed:
            self._old[key] = service.uid
        if self._old.get(key) == service.uid or not service.held:
            return
        if key not in self._new or self._new[key].uid != service.uid:
            self._new[key] = _Waiting(service.uid, now, created)

    def forget(self, key: str) -> None:
        """There is no such Service any more."""
        self._new.pop(key, None)
        self._old.pop(key, None)

    def announced(self, key: str, protocol: Protocol, now: float, unix_now: float) -> None:
        """It is announced here; only the first time counts."""
        waiting = self._new.get(key)
        if waiting is None or protocol not in waiting.left:
            return
        waiting.left.discard(protocol)
        self._add(protocol, "allocation", now - waiting.seen)
        if waiting.created is not None:
            self._add(protocol, "creation", unix_now - waiting.created)

    def _add(self, protocol: Protocol, since: Since, seconds: float) -> None:
        timing = self._timings.setdefault((protocol, since), Timing(DELAY_BOUNDS_S))
        timing.add(max(seconds, 0.0))  # clocks of two machines differ

    def value(self) -> dict[tuple[str, str], Distribution]:
        """Return what was measured so far, by protocol and since when."""
        return {which: timing.value() for which, timing in self._timings.items()}
