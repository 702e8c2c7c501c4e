"""How far each pool is used up, and who uses it: counted from results, one result at a time."""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from itertools import groupby
from typing import NamedTuple

from lbspeaker.core.allocator import Result
from lbspeaker.core.pools import Slot, slot_of
from lbspeaker.model import Address, Allocation, Family, Pool


class Use(NamedTuple):
    """Of one pool: distinct IPs in use by family, the services that have them, how many wait for it."""

    assigned: Mapping[Family, int]
    services: int
    pending: int


class Usage:
    """The use of all pools, by name. IPs that a pool no longer contains count with their service only."""

    def __init__(self, pools: Sequence[Pool]) -> None:
        self._pools = {pool.name: pool for pool in pools}
        self._users: dict[str, Counter[Slot]] = {name: Counter() for name in self._pools}
        self._assigned: Counter[tuple[str, int]] = Counter()
        self._services: dict[str, set[str]] = {name: set() for name in self._pools}
        self._pending: Counter[str] = Counter()

    def add(self, key: str, result: Result) -> None:
        """Count the result of a service."""
        for name, ip in had(result):
            if name not in self._pools:
                continue
            self._services[name].add(key)
            slot = slot_of(ip)
            self._users[name][slot] += 1
            if self._users[name][slot] == 1 and ip in self._pools[name]:
                self._assigned[name, slot[0]] += 1
        for name in _waiting(result):
            self._pending[name] += 1

    def remove(self, key: str, result: Result) -> None:
        """Take back what was added."""
        for name, ip in had(result):
            if name not in self._pools:
                continue
            self._services[name].discard(key)
            slot = slot_of(ip)
            self._users[name][slot] -= 1
            if not self._users[name][slot]:
                del self._users[name][slot]
                if ip in self._pools[name]:
                    self._assigned[name, slot[0]] -= 1
        for name in _waiting(result):
            self._pending[name] -= 1

    def of(self, name: str) -> Use:
        assigned: dict[Family, int] = {4: self._assigned[name, 4], 6: self._assigned[name, 6]}
        return Use(assigned, len(self._services[name]), self._pending[name])

    def services(self, name: str) -> frozenset[str]:
        """Who has IPs of this pool."""
        return frozenset(self._services.get(name, ()))

    def in_use(self, name: str, slot: Slot) -> bool:
        return slot in self._users.get(name, ())

    def spans(self, name: str) -> Iterator[tuple[Slot, Slot]]:
        """The IPs in use, as ranges (first, last), ascending."""
        slots = sorted(self._users.get(name, ()))
        for _, run in groupby(enumerate(slots), key=lambda item: (item[1][0], item[1][1] - item[0])):
            members = [slot for _, slot in run]
            yield members[0], members[-1]


class Outcomes(NamedTuple):
    """How many services have IPs; by reason, how many have none, and how many have one and lack something."""

    allocated: int
    pending: Mapping[str, int]
    lacking: Mapping[str, int]


def outcomes(results: Mapping[str, Result]) -> Outcomes:
    """Count what services got."""
    refused = Counter(one.reason.value for one in results.values() if not isinstance(one, Allocation))
    notes = (one.note for one in results.values() if isinstance(one, Allocation))
    lacking = Counter(note.reason.value for note in notes if note is not None)
    return Outcomes(len(results) - refused.total(), refused, lacking)


def usage(results: Mapping[str, Result], pools: Sequence[Pool]) -> Usage:
    """Return the use of `pools` that `results` make."""
    found = Usage(pools)
    for key, result in results.items():
        found.add(key, result)
    return found


def had(result: Result | None) -> Iterator[tuple[str, Address]]:
    """The IPs of a result, each after its pool."""
    return zip(result.pools, result.ips, strict=True) if isinstance(result, Allocation) else iter(())


def _waiting(result: Result) -> tuple[str, ...]:
    """The pools from which something was wanted that they could not give."""
    return () if isinstance(result, Allocation) else result.pools
