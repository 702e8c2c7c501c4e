"""The allocations of a cluster, kept from change to change: what `allocate` would say, for less.

    changed services ─┐
    those that wait  ─┴▶ out of the book ─▶ keep, oldest first ─▶ settle, oldest first ─▶ what is new

Who holds what he was given, and lacks nothing, stays as he is in any pass: his part is to be in the book. So
after a change only the changed services are decided anew, and those that are not content: they wait for
something, or do not hold yet what they were given. One thing alone concerns the content, too: somebody older
who now claims what they hold. Then, and when pools or namespaces change, everything is decided anew.

The whole pass, `allocate`, is the judge: a property test compares the two.
"""

from collections.abc import Collection, Mapping, Sequence
from typing import NamedTuple

from lbspeaker.core.allocator import Result, lack, settle
from lbspeaker.core.book import Book, Cooling
from lbspeaker.core.pools import Slot
from lbspeaker.core.usage import Usage
from lbspeaker.model import Allocation, Namespace, Pool, Reason, Service


class Turn(NamedTuple):
    """What one service had, and what it has now; None: there is no such service."""

    key: str
    before: Result | None
    after: Result | None


class Standing:
    """The results of all services, by key, and the use of all pools."""

    def __init__(self) -> None:
        self.results: dict[str, Result] = {}
        self.usage = Usage(())
        self._pools: Sequence[Pool] | None = None
        self._namespaces: Mapping[str, Namespace] = {}
        self._cooling: Mapping[Slot, Cooling] = {}
        self._book: Book
        self._waiting: set[str] = set()  # who wants more than there is
        self._moving: set[str] = set()  # who did not hold yet what was decided

    def update(
        self,
        pools: Sequence[Pool],
        namespaces: Mapping[str, Namespace],
        cooling: Mapping[Slot, Cooling],
        services: Mapping[str, Service],
        changed: Collection[str],
    ) -> list[Turn]:
        """Decide anew after the services of these keys changed, came or went; return what that changes.

        Neither mapping may change afterwards, but for the services: of those, `changed` says it.
        """
        if pools is not self._pools or self._concerns(namespaces):
            self._pools, self._namespaces = pools, dict(namespaces)
            return self._everything(cooling, services)
        self._book.cool(cooling, anew=cooling is not self._cooling)
        self._cooling = cooling
        self._moving = {key for key in self._moving if not self._arrived(key, services)}
        again = {*changed, *self._waiting, *self._moving}
        for key in again:
            before = self.results.get(key)
            self._book.forget(key, before.ips if isinstance(before, Allocation) else ())
        there = sorted((services[key] for key in again if key in services), key=lambda one: one.age)
        if not all(self._book.keep(service) for service in there):
            return self._everything(cooling, services)
        return [
            *self._settle(there),
            *(turn for key in again if key not in services for turn in self._note(key, None)),
        ]

    def _everything(self, cooling: Mapping[Slot, Cooling], services: Mapping[str, Service]) -> list[Turn]:
        """Decide about all services; `allocate` does the same."""
        assert self._pools is not None
        self._cooling = cooling
        self._book = Book(self._pools, self._namespaces, cooling)
        self._waiting, self._moving = set(), set()
        before, self.results = self.results, {}
        self.usage = Usage(self._pools)
        ordered = sorted(services.values(), key=lambda one: one.age)
        for service in ordered:
            self._book.keep(service)
        self._settle(ordered)
        return [
            Turn(key, before.get(key), self.results.get(key))
            for key in before.keys() | self.results.keys()
            if before.get(key) != self.results.get(key)
        ]

    def _settle(self, services: Sequence[Service]) -> list[Turn]:
        turns: list[Turn] = []
        for service in services:
            result = settle(self._book, service)
            turns += self._note(service.key, result)
            if _wants_more(result):
                self._waiting.add(service.key)
            elif not isinstance(result, Allocation) or result.ips != service.held:
                self._moving.add(service.key)
        return turns

    def _note(self, key: str, result: Result | None) -> list[Turn]:
        """Enter a result in place of the one before."""
        before = self.results.get(key)
        self._waiting.discard(key)
        self._moving.discard(key)
        if before == result:
            return []
        if before is not None:
            self.usage.remove(key, before)
        if result is None:
            del self.results[key]
        else:
            self.results[key] = result
            self.usage.add(key, result)
        return [Turn(key, before, result)]

    def _arrived(self, key: str, services: Mapping[str, Service]) -> bool:
        """Whether a service holds now what was decided."""
        result, service = self.results.get(key), services.get(key)
        return isinstance(result, Allocation) and service is not None and service.held == result.ips

    def _concerns(self, namespaces: Mapping[str, Namespace]) -> bool:
        """Whether pools are for other services, now that the namespaces are these."""
        selective = any(
            p.service_allocation and p.service_allocation.namespace_selectors for p in self._pools or ()
        )
        return selective and namespaces != self._namespaces


def _wants_more(result: Result) -> bool:
    refusal = lack(result)
    return refusal is not None and refusal.reason is not Reason.OUTSIDE_POOL
