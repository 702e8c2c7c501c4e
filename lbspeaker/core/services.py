"""The services of one class: as they were told, and as they will be once what is under way is written.

A write that is under way counts as done (`assume`), until the service is told to be as it was written, or the
write is reported as failed: so the next pass neither writes it again nor gives its IP to somebody else. Each
write demands the version that it was decided from; so between that version and its own there is none.
"""

import math
from collections.abc import Iterator
from dataclasses import fields, replace
from operator import attrgetter
from typing import Literal

from lbspeaker.core.allocator import Result, lack, ours
from lbspeaker.core.pools import Slot, slot_of
from lbspeaker.model import ALLOCATED, Allocation, Condition, Service

FOREIGN_S = 30.0  # so long a service of another class may wait for its own controller
_LONGEST = 1024  # characters of a condition's message


def condition_of(result: Result | None) -> Condition | None:
    """The condition of a service with this result; None if there is nothing to say."""
    refusal = lack(result)
    if refusal is None:
        return None
    status: Literal["True", "False"] = "True" if isinstance(result, Allocation) else "False"
    return Condition(ALLOCATED, status, refusal.reason.value, refusal.message[:_LONGEST])


def holds(service: Service, wanted: Allocation | None) -> bool:
    """Whether no allocation need be written to `service`."""
    if wanted is None:
        return not service.held
    alike = service.held == service.given == wanted.ips and service.held_pool == wanted.pool
    return alike and service.condition == condition_of(wanted)


def with_allocation(service: Service, allocation: Allocation | None) -> Service:
    """The service as it is once this is written."""
    if allocation is None:
        return replace(service, held=(), held_pool=None, given=())
    return replace(service, held=allocation.ips, held_pool=allocation.pool, given=allocation.ips)


class Services:
    """What is known of services.

    `changed`: keys of those about which there is news. `gone`: those that went away. `leaving`: IPs that the
    API shows on a service, and that it will not have once what is under way is written.
    """

    def __init__(self, load_balancer_class: str | None) -> None:
        self.told: dict[str, Service] = {}
        self.seen: dict[str, Service] = {}  # as they will be
        self.changed: set[str] = set()
        self.gone: list[Service] = []
        self.leaving: dict[Slot, str] = {}
        self.leavings = 0  # how often that changed
        self._class = load_balancer_class
        self._assumed: dict[str, Allocation | None] = {}
        self._left_by: dict[str, list[Slot]] = {}
        self._done: set[str] = set()  # of these, the write is done, and its echo has not come
        self._foreign: dict[str, tuple[Service, float | None]] = {}  # of other classes, and since when

    def observe(self, key: str, service: Service | None) -> None:
        """Take note of a service. The echo of a write is no news."""
        before = self.told.get(key)
        if before is not None and service is not None and before.uid != service.uid:
            self._forget(key)  # another service of the same name
        self._observe_foreign(key, service)
        if service is None or not ours(service, self._class):
            self._leave(key, service or before)
            return
        as_decided = self.seen.get(key)
        self.told[key] = service
        if key in self._assumed and (key in self._done or holds(service, self._assumed[key])):
            self._forget(key)
        self._see(key)
        if as_decided is None or not _alike(as_decided, self.seen[key]):
            self.changed.add(key)

    def assume(self, key: str, allocation: Allocation | None) -> None:
        """This is being written."""
        before = self._assumed.get(key)  # it may be written by now, and its echo not be here
        self._assumed[key] = allocation
        self._see(key)
        staying = allocation.ips if allocation else ()
        had = (*self.told[key].held, *(before.ips if before else ()))
        left = [slot_of(ip) for ip in had if ip not in staying]
        if left:
            self._has_left(key)
            self._left_by[key] = left
            self.leaving.update(dict.fromkeys(left, key))
            self.leavings += 1

    def written(self, decided: Service, allocation: Allocation | None) -> None:
        """This write is done: what is told of its service next is no older than that."""
        key = decided.key
        if not self._is_under_way(key, allocation):
            return
        if self.told[key].resource_version != decided.resource_version:
            self._forget(key)  # it was told already, and something else with it
            self.changed.add(key)
        else:
            self._done.add(key)
            self._has_left(key)

    def failed(self, key: str, allocation: Allocation | None) -> None:
        """This write did not happen: what the service was told to hold is what it holds."""
        if self._is_under_way(key, allocation):
            self._forget(key)
            self.changed.add(key)

    def _is_under_way(self, key: str, allocation: Allocation | None) -> bool:
        """Whether this is the write that is assumed: a later one may have taken its place."""
        return key in self._assumed and self._assumed[key] is allocation

    def _forget(self, key: str) -> None:
        self._assumed.pop(key, None)
        self._done.discard(key)
        self._has_left(key)
        self._see(key)

    def _has_left(self, key: str) -> None:
        """What the service was leaving is free: somebody may wait for it."""
        left = self._left_by.pop(key, ())
        for slot in left:
            self.leaving.pop(slot, None)
        if left:
            self.leavings += 1
            self.changed.add(key)

    def _see(self, key: str) -> None:
        service = self.told.get(key)
        if service is None:
            self.seen.pop(key, None)
        elif key not in self._assumed:
            self.seen[key] = service
        elif (assumed := self._assumed[key]) is not None:
            given = with_allocation(service, assumed)
            self.seen[key] = replace(given, condition=condition_of(assumed))
        else:
            self.seen[key] = with_allocation(service, None)

    def _leave(self, key: str, service: Service | None) -> None:
        """A service is gone, or not ours any more: then something of ours may be left on it."""
        if key in self.told:
            self.changed.add(key)
        self.told.pop(key, None)
        self._forget(key)
        others = service is not None and service.load_balancer and not ours(service, self._class)
        if service is not None and not others and (service.held_pool or service.condition):
            self.gone.append(service)

    # -- other classes --

    def _observe_foreign(self, key: str, service: Service | None) -> None:
        waits = service is not None and service.load_balancer and not service.held
        if service is not None and waits and not ours(service, self._class):
            since = self._foreign[key][1] if key in self._foreign else None
            self._foreign[key] = (service, since)
        else:
            self._foreign.pop(key, None)

    def neglected(self, now: float) -> Iterator[Service]:
        """The services of other classes that have waited for long; each is told once."""
        for key, (service, since) in self._foreign.items():
            if since is None:
                self._foreign[key] = (service, now)
            elif now >= since + FOREIGN_S:
                self._foreign[key] = (service, math.inf)
                yield service

    def next_neglected(self) -> float | None:
        """When the next one has waited for long."""
        moments = (since + FOREIGN_S for _, since in self._foreign.values() if since is not None)
        return min((moment for moment in moments if moment < math.inf), default=None)


_BESIDE = {"resource_version", "condition_since"}
_content = attrgetter(*(one.name for one in fields(Service) if one.name not in _BESIDE))


def _alike(one: Service, other: Service) -> bool:
    """Whether two versions of a service are the same, but for their version."""
    return bool(_content(one) == _content(other))
