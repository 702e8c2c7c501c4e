"""Who may use one IP together.

Two services may if they have the same sharing key, no port in common, and, with traffic policy Local, the
same endpoints (namespace and selector). A pool may confine its sharing keys to one namespace each
(`sharing: Namespace`).
"""

import bisect
from collections.abc import Iterator
from dataclasses import dataclass, field

from lbspeaker.model import Pool, Port, Service

GroupKey = tuple[object, ...]


def backend_key(service: Service) -> tuple[object, ...]:
    """Services whose traffic policy is Local may share an IP only if they have the same endpoints."""
    return (service.namespace, service.selector) if service.local else ()


def group_key(pool: Pool, family: int, service: Service) -> GroupKey:
    """Services with the same one may share IPs of `pool`, as far as their ports allow."""
    confined = service.namespace if pool.sharing == "Namespace" else ""
    return (pool.name, family, service.sharing_key, confined, backend_key(service))


@dataclass(slots=True)
class Holding:
    """Who uses one IP of `pool`."""

    pool: Pool
    users: dict[str, Service]

    def others(self, service: Service) -> Iterator[Service]:
        return (user for user in self.users.values() if user.key != service.key)

    def refuses(self, service: Service) -> str:
        """Why `service` may not use this IP too; empty if it may."""
        other = min(self.others(service), key=lambda user: user.age, default=None)
        if other is None:
            return ""
        if not service.sharing_key or service.sharing_key != other.sharing_key:
            return f"in use by {other.key}, and the two have no sharing key in common"
        if self.pool.sharing == "Namespace" and service.namespace != other.namespace:
            return f"in use by {other.key}, and sharing keys of its pool count inside one namespace only"
        if backend_key(service) != backend_key(other):
            return f"in use by {other.key}, and with traffic policy Local only the same endpoints may share"
        for user in sorted(self.others(service), key=lambda user: user.age):
            clash = next((port for port in service.ports if port in user.ports), None)
            if clash is not None:
                return f"in use by {user.key} with the same port, {clash}"
        return ""


@dataclass(slots=True)
class Group:
    """The addresses (as numbers, ascending) that services of one group share, and the ports taken on each."""

    numbers: list[int] = field(default_factory=list)
    users: dict[int, int] = field(default_factory=dict)
    taken: dict[Port, set[int]] = field(default_factory=dict)

    def add(self, number: int, service: Service) -> None:
        if number not in self.users:
            bisect.insort(self.numbers, number)
        self.users[number] = self.users.get(number, 0) + 1
        for port in service.ports:
            self.taken.setdefault(port, set()).add(number)

    def remove(self, number: int, service: Service) -> None:
        self.users[number] -= 1
        if not self.users[number]:
            del self.users[number]
            del self.numbers[bisect.bisect_left(self.numbers, number)]
        for port in service.ports:
            self.taken[port].discard(number)
            if not self.taken[port]:
                del self.taken[port]

    def fitting(self, service: Service) -> Iterator[int]:
        """The addresses on which all ports of `service` are free, ascending."""
        taken = [numbers for port in service.ports if (numbers := self.taken.get(port))]
        if any(len(numbers) == len(self.numbers) for numbers in taken):
            return
        for number in self.numbers:
            if not any(number in numbers for numbers in taken):
                yield number
