"""The one clock of a simulation, and the clocks that its nodes take for the time."""

import heapq
from collections.abc import Callable
from typing import Any

SHORTEST_S = 1e-5  # a wakeup that is due now rings so much later, as no loop turns in no time
SPINS = 400  # turns within SPIN_S, without any input, are a loop that spins
SPIN_S = 0.05


class Spinning(Exception):
    """A program asks to be woken at once, again and again."""


class Heap:
    """Events in the order of their time."""

    def __init__(self) -> None:
        self.now = 0.0
        self._events: list[tuple[float, int, Callable[..., None], tuple[Any, ...]]] = []
        self._serial = 0

    def at(self, when: float, act: Callable[..., None], *args: Any) -> None:
        self._serial += 1
        heapq.heappush(self._events, (when, self._serial, act, args))

    def after(self, seconds: float, act: Callable[..., None], *args: Any) -> None:
        self.at(self.now + seconds, act, *args)

    def run_until(self, end: float) -> None:
        events, pop = self._events, heapq.heappop
        while events and events[0][0] <= end:
            self.now, _, act, args = pop(events)
            act(*args)
        self.now = end


class Clock:
    """What one node takes for the time."""

    def __init__(self, heap: Heap, offset: float = 0.0, rate: float = 1.0) -> None:
        self._heap = heap
        self._offset = offset
        self._rate = rate

    @property
    def now(self) -> float:
        return self._offset + self._heap.now * self._rate

    def true(self, local: float) -> float:
        return (local - self._offset) / self._rate


class Alarm:
    """Rings once at the local time that it was last set to; None: not at all."""

    def __init__(self, heap: Heap, clock: Clock, whose: str, ring: Callable[[], None]) -> None:
        self._whose = whose
        self._heap = heap
        self._clock = clock
        self._ring = ring
        self._due = self._planned = float("inf")
        self._spin_since = 0.0
        self._spins = 0

    def set(self, local: float | None) -> None:
        if local is None or local == float("inf"):
            self._due = float("inf")
            return
        self._due = max(self._clock.true(local) + 1e-7, self._heap.now + SHORTEST_S)
        if self._due < self._planned:
            self._plan()

    def _plan(self) -> None:
        self._planned = self._due
        self._heap.at(self._due, self._rings, self._due)

    def _rings(self, planned: float) -> None:
        if planned != self._planned:
            return
        self._planned = float("inf")
        if self._due > self._heap.now:
            if self._due < float("inf"):
                self._plan()
            return
        self._due = float("inf")
        if self._heap.now - self._spin_since > SPIN_S:
            self._spin_since, self._spins = self._heap.now, 0
        self._spins += 1
        if self._spins > SPINS:
            raise Spinning(self._whose)
        self._ring()
