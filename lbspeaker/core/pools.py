"""Pools as places: whose an address is, which service may have IPs of which pool, and what is free.

Pools are asked in this order: those whose `serviceAllocation` matches the service, by priority (lower first,
0 last), and only if none of them can give anything, those without `serviceAllocation`, in the order of the
configuration. A service that an `exclusive` pool matches is asked for at exclusive pools alone.
"""

import bisect
import hashlib
from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

from lbspeaker.model import Address, Family, Namespace, Pool, Range, Service, any_selects

Slot = tuple[int, int]  # (family, address as a number): hashes ten times faster than an address object


def slot_of(ip: Address) -> Slot:
    return (ip.version, int(ip))


class Span(NamedTuple):
    first: int
    last: int
    pool: Pool


class PoolIndex:
    """Finds the pool of an address; pools do not overlap (the configuration saw to that)."""

    def __init__(self, pools: Sequence[Pool]) -> None:
        self.pools = tuple(pools)
        self._spans: dict[int, list[Span]] = {4: [], 6: []}
        for pool in pools:
            for r in pool.ranges:
                self._spans[r.family].append(Span(int(r.first), int(r.last), pool))
        for spans in self._spans.values():
            spans.sort(key=lambda span: span.first)
        self._firsts = {family: [span.first for span in spans] for family, spans in self._spans.items()}

    def pool_of(self, ip: Address) -> Pool | None:
        number = int(ip)
        position = bisect.bisect_right(self._firsts[ip.version], number) - 1
        if position < 0:
            return None
        span = self._spans[ip.version][position]
        if number > span.last or (span.pool.avoid_buggy_ips and ip not in span.pool):
            return None
        return span.pool

    def nearest(self, ip: Address) -> Pool | None:
        """The pool of the same family whose edge is closest to `ip`."""
        number = int(ip)
        spans = self._spans[ip.version]
        if not spans:
            return None
        return min(spans, key=lambda s: max(s.first - number, number - s.last)).pool


_MOST_DOORS = 10_000


class Door(NamedTuple):
    """What is open to services of one namespace with certain labels. `number`: no two have the same."""

    number: int
    named: frozenset[str]  # pools whose serviceAllocation includes them
    exclusive: Pool | None  # the first of those that is to be their only one
    groups: tuple[tuple[Pool, ...], ...]  # to be asked one after the other


class Eligibility:
    """Which pools a service may have IPs of. Services that look alike to the pools are looked at once."""

    def __init__(self, pools: Sequence[Pool], namespaces: Mapping[str, Namespace]) -> None:
        self._pools = pools
        self._namespaces = namespaces
        self._number = 0
        self._doors: dict[tuple[str | None, ...], Door] = {}
        selectors = [s for p in pools if p.service_allocation for s in p.service_allocation.service_selectors]
        self._labels = sorted({requirement.key for s in selectors for requirement in s.requirements})

    def serves(self, pool: Pool, service: Service) -> bool:
        """Whether the pool's serviceAllocation includes the service."""
        return pool.service_allocation is None or pool.name in self.door(service).named

    def shut_out(self, pool: Pool, service: Service) -> Pool | None:
        """The exclusive pool that keeps `service` from having IPs of `pool`; None if nothing does."""
        return None if _exclusive(pool) else self.door(service).exclusive

    def may_have(self, pool: Pool, service: Service) -> bool:
        """Whether `service` may have IPs of `pool`."""
        return self.serves(pool, service) and self.shut_out(pool, service) is None

    def door(self, service: Service) -> Door:
        """Which pools to ask for `service` without being told which."""
        key = (service.namespace, *map(service.labels.get, self._labels))
        door = self._doors.get(key)
        if door is None:
            if len(self._doors) >= _MOST_DOORS:
                self._doors.clear()
            door = self._doors[key] = self._look(service)
        return door

    def _look(self, service: Service) -> Door:
        serving = sorted((pool for pool in self._pools if self._includes(pool, service)), key=_priority)
        exclusive = [pool for pool in serving if _exclusive(pool)]
        groups = [exclusive] if exclusive else [serving, [p for p in self._pools if not p.service_allocation]]
        self._number += 1
        return Door(
            self._number,
            frozenset(pool.name for pool in serving),
            exclusive[0] if exclusive else None,
            tuple(tuple(pool for pool in group if pool.auto_assign) for group in groups),
        )

    def _includes(self, pool: Pool, service: Service) -> bool:
        """Whether there is a serviceAllocation, and it names this service."""
        rule = pool.service_allocation
        if rule is None or not any_selects(rule.service_selectors, service.labels):
            return False
        if not rule.namespaces and not rule.namespace_selectors:
            return True
        namespace = self._namespaces.get(service.namespace)
        labels = namespace.labels if namespace else {}
        return service.namespace in rule.namespaces or any(
            s.selects(labels) for s in rule.namespace_selectors
        )


def _exclusive(pool: Pool) -> bool:
    return pool.service_allocation is not None and pool.service_allocation.exclusive


def _priority(pool: Pool) -> tuple[bool, int]:
    priority = pool.service_allocation.priority if pool.service_allocation else 0
    return (priority == 0, priority)


class Line(NamedTuple):
    """The addresses of one family of a pool, one after the other: position 0 is the first to be given."""

    ranges: tuple[Range, ...]
    length: int

    def walk(self, start: int) -> Iterator[tuple[int, int]]:
        """The positions from `start` to the end, and the addresses there, as numbers."""
        passed = 0
        for r in self.ranges:
            first = int(r.first)
            for offset in range(max(start - passed, 0), r.size):
                yield passed + offset, first + offset
            passed += r.size

    def position(self, number: int) -> int:
        """Where an address stands that is in it."""
        passed = 0
        for r in self.ranges:
            if int(r.first) <= number <= int(r.last):
                return passed + number - int(r.first)
            passed += r.size
        raise ValueError(f"{number} is not in the pool")


def line_of(pool: Pool, family: Family) -> Line:
    ranges = tuple(r for r in pool.ranges if r.family == family)
    return Line(ranges, sum(r.size for r in ranges))


def start_of(pool: Pool, service: Service, length: int) -> int:
    """Where strategy Random begins to look for this very service: the same at each time it is asked."""
    seed = f"{pool.name}\0{service.key}\0{service.uid}".encode()
    return int.from_bytes(hashlib.sha256(seed).digest()) % length
