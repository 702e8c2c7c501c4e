"""Who uses which IP, and how far each pool is used up: what a pass of the allocator knows.

First everybody's `keep` is entered, oldest first; then the allocator (`core.allocator`) enters what it gives,
and takes out what is left. The book decides nothing but what is free.

What is held is kept where a pool contains it and serves the service; and where no pool contains it any more,
but the service's annotations name a pool that exists, and say that it was given from there. (With `onShrink:
Renumber` the allocator looks for another one.)
"""

import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

from lbspeaker.core.pools import Eligibility, Line, PoolIndex, Slot, line_of, slot_of, start_of
from lbspeaker.core.sharing import Group, GroupKey, Holding, group_key
from lbspeaker.model import Address, Family, Namespace, Pool, Refusal, Service, address, is_buggy


class Cooling(NamedTuple):
    """An IP that `service` released, or is about to; nobody else gets it until `until` (Unix time).

    `until` is infinite while the API still shows that the service has the IP.
    """

    service: str
    pool: str
    until: float


def families(service: Service) -> tuple[Family, ...]:
    """The families of the IPs that a service is to have, primary first."""
    return service.families[:1] if service.ip_family_policy == "SingleStack" else service.families


class Book:
    """The holdings of all services. Pools, and what is known of them, are public, and not to be changed."""

    def __init__(
        self,
        pools: Sequence[Pool],
        namespaces: Mapping[str, Namespace],
        cooling: Mapping[Slot, Cooling],
    ) -> None:
        self.pools = pools
        self.by_name = {pool.name: pool for pool in pools}
        self.index = PoolIndex(pools)
        self.eligible = Eligibility(pools, namespaces)
        every: tuple[Family, Family] = (4, 6)
        both = [(pool, family) for pool in pools for family in every]
        self.sizes: dict[tuple[str, int], int] = {(p.name, f): p.size(f) for p, f in both}
        self.used: Counter[tuple[str, int]] = Counter()  # by pool and family
        self.reserved: dict[Slot, str] = {}  # for which service
        self.reserved_for: dict[str, list[Address]] = {}
        for pool in pools:
            for reservation in pool.reservations:
                self.reserved_for.setdefault(reservation.service, []).extend(reservation.ips)
                self.reserved.update((slot_of(ip), reservation.service) for ip in reservation.ips)
        self._lines: dict[tuple[str, int], Line] = {(p.name, f): line_of(p, f) for p, f in both}
        self._holdings: dict[Slot, Holding] = {}
        self._kept: dict[str, tuple[Address, ...]] = {}
        self._homes: dict[tuple[str, Slot], Pool] = {}  # by service and IP that no pool contains
        self._groups: dict[GroupKey, Group] = {}
        self._cursors: dict[tuple[str, int], int] = {}  # below it, nothing of (pool, family) is free
        # Where there is a quota: users by pool, namespace and IP; IPs by pool and namespace.
        self._users: Counter[tuple[str, str, Slot]] = Counter()
        self._quota_used: Counter[tuple[str, str]] = Counter()
        self._left: dict[Slot, Cooling] = {}  # in this pass: nobody else gets it in the same one
        self.refused: dict[tuple[object, ...], Refusal] = {}  # as long as nobody enters or leaves
        self.cool(cooling)

    def cool(self, cooling: Mapping[Slot, Cooling], anew: bool = True) -> None:
        """A pass begins, and these IPs are cooling down; not `anew`: the same as in the one before."""
        if not anew and not self._left:
            return
        self._left = {}
        self.refused.clear()
        self._cursors.clear()
        self._cooling = cooling
        self._cooling_for: dict[str, list[Slot]] = {}
        for slot, one in cooling.items():
            self._cooling_for.setdefault(one.service, []).append(slot)

    # -- what is held --

    def keep(self, service: Service) -> bool:
        """Enter what `service` holds and may keep; where two hold what they cannot share, the older wins.

        Returns False if somebody younger is in the way, who was entered earlier.
        """
        kept: list[Address] = []
        in_order = True
        for ip in service.held:
            if any(other.version == ip.version for other in kept):
                continue
            containing = self.index.pool_of(ip)
            home = self._home(service, ip, containing)
            if home is None or ip.version not in families(service):
                self._leave_to_nobody(service, ip, containing)
                continue
            holding = self._holdings.get(slot_of(ip))
            if holding is not None and holding.refuses(service):
                in_order = in_order and all(user.age < service.age for user in holding.others(service))
                continue
            kept.append(ip)
            self._enter(service, ip, home, outside=containing is None)
        self._kept[service.key] = tuple(kept)
        return in_order

    def kept(self, service: Service) -> tuple[Address, ...]:
        return self._kept[service.key]

    def forget(self, key: str, held: Iterable[Address]) -> None:
        """Take the service out that has `held`: it is gone, or will be entered anew."""
        self._kept.pop(key, None)
        for ip in held:
            holding = self._holdings.get(slot_of(ip))
            if holding is not None and key in holding.users:
                self._leave(holding.users[key], ip)

    def give(self, service: Service, ip: Address) -> None:
        """`service` has this IP from now on; a pool contains it."""
        self._enter(service, ip, self._containing(ip), outside=False)

    def take_back(self, service: Service, ips: Iterable[Address]) -> None:
        """What was given in this pass comes to nothing."""
        for ip in ips:
            self._leave(service, ip)

    def release(self, service: Service, ips: Iterable[Address]) -> None:
        """The service leaves what it held: free for others once that is written, and has cooled down."""
        for ip in ips:
            pool = self.pool_of(service, ip)
            self._leave(service, ip)
            self._leave_to_nobody(service, ip, pool)

    def _leave_to_nobody(self, service: Service, ip: Address, pool: Pool | None) -> None:
        if pool is not None:
            self._left[slot_of(ip)] = Cooling(service.key, pool.name, math.inf)

    def pool_of(self, service: Service, ip: Address) -> Pool:
        """The pool of an IP that `service` has, or that some pool contains."""
        slot = slot_of(ip)
        if self._homes and (service.key, slot) in self._homes:
            return self._homes[service.key, slot]
        holding = self._holdings.get(slot)
        return holding.pool if holding else self._containing(ip)

    @property
    def has_outside(self) -> bool:
        """Whether anybody keeps an IP that no pool contains."""
        return bool(self._homes)

    def is_outside(self, service: Service, ip: Address) -> bool:
        """Whether `service` keeps this IP though no pool contains it."""
        return (service.key, slot_of(ip)) in self._homes

    def is_to_move(self, service: Service, ip: Address) -> bool:
        """Whether the pool of an IP that it no longer contains wants `service` to have another one."""
        return self.is_outside(service, ip) and self.pool_of(service, ip).on_shrink == "Renumber"

    def refuses(self, service: Service, ip: Address) -> str:
        """Why `service` may not use this IP beside those who do; empty if it may."""
        holding = self._holdings.get(slot_of(ip))
        return holding.refuses(service) if holding else ""

    def cooling(self, service: Service, ip: Address) -> Cooling | None:
        """Whose the IP was until lately, if that keeps `service` from having it."""
        slot = slot_of(ip)
        one = self._left.get(slot) or self._cooling.get(slot)
        return one if one is not None and one.service != service.key and slot not in self._holdings else None

    def has_cooling(self, service: Service) -> bool:
        """Whether there are IPs that `service` released, and nobody else gets."""
        return service.key in self._cooling_for

    def quota_left(self, pool: Pool, service: Service, slot: Slot | None = None) -> bool:
        """Whether the service's namespace may have one more IP of the pool.

        With `slot`: whether it may have that one, for which the service leaves what it has of its family.
        """
        if not pool.namespace_quota:
            return True
        if slot is not None and (pool.name, service.namespace, slot) in self._users:
            return True
        kept = self._kept.get(service.key, ())
        leaves = slot is not None and any(
            ip.version == slot[0] and self._users.get((pool.name, service.namespace, slot_of(ip))) == 1
            for ip in kept
        )
        return self._quota_used[pool.name, service.namespace] - leaves < pool.namespace_quota

    def _home(self, service: Service, ip: Address, pool: Pool | None) -> Pool | None:
        """The pool in which `service` may keep `ip`; `pool` is the one that contains it."""
        if pool is None:
            pool = self.by_name.get(service.pool_held(ip) or "")
        if pool is None or self.reserved.get(slot_of(ip)) == service.key:
            return pool
        return pool if self.eligible.may_have(pool, service) else None

    def _containing(self, ip: Address) -> Pool:
        pool = self.index.pool_of(ip)
        assert pool is not None
        return pool

    def _enter(self, service: Service, ip: Address, pool: Pool, outside: bool) -> None:
        slot = slot_of(ip)
        self.refused.clear()
        if outside:
            self._homes[service.key, slot] = pool
        holding = self._holdings.get(slot)
        if holding is None:
            self._holdings[slot] = Holding(pool, {service.key: service})
            self.used[pool.name, slot[0]] += not outside
        else:
            holding.users[service.key] = service
        if service.sharing_key:
            key = group_key(pool, slot[0], service)
            self._groups.setdefault(key, Group()).add(slot[1], service)
        if pool.namespace_quota:
            user = (pool.name, service.namespace, slot)
            self._quota_used[pool.name, service.namespace] += user not in self._users
            self._users[user] += 1

    def _leave(self, service: Service, ip: Address) -> None:
        slot = slot_of(ip)
        pool = self.pool_of(service, ip)
        outside = self._homes.pop((service.key, slot), None) is not None
        holding = self._holdings[slot]
        del holding.users[service.key]
        self.refused.clear()
        if service.sharing_key:
            key = group_key(pool, slot[0], service)
            self._groups[key].remove(slot[1], service)
            if not self._groups[key].numbers:
                del self._groups[key]
        if pool.namespace_quota:
            self._leave_quota((pool.name, service.namespace, slot))
        if not holding.users:
            del self._holdings[slot]
            if not outside:
                self.used[pool.name, slot[0]] -= 1
                self._lower_cursor(pool, slot)

    def _leave_quota(self, user: tuple[str, str, Slot]) -> None:
        self._users[user] -= 1
        if not self._users[user]:
            del self._users[user]
            self._quota_used[user[:2]] -= 1
            if not self._quota_used[user[:2]]:
                del self._quota_used[user[:2]]

    def _lower_cursor(self, pool: Pool, slot: Slot) -> None:
        cursor = self._cursors.get((pool.name, slot[0]))
        if cursor is not None:
            position = self._lines[pool.name, slot[0]].position(slot[1])
            self._cursors[pool.name, slot[0]] = min(cursor, position)

    # -- what is free --

    def free(self, pool: Pool, service: Service, family: Family) -> Address | None:
        """The IP of `pool` that `service` would get; None: there is none for it."""
        line = self._lines[pool.name, family]
        if pool.closed or not line.length:
            return None
        if service.sharing_key:
            shared = self._shareable(pool, service, family)
            if shared is not None:
                return address(family, shared)
        full = self.used[pool.name, family] >= self.sizes[pool.name, family]
        if full or not self.quota_left(pool, service):
            return None
        number = self._cooled(pool, service, family) if service.key in self._cooling_for else None
        if number is None and pool.strategy == "Random":
            number = self._first(pool, family, start_of(pool, service, line.length))
        if number is None:
            number = self._lowest(pool, family)
        return None if number is None else address(family, number)

    def _shareable(self, pool: Pool, service: Service, family: Family) -> int | None:
        group = self._groups.get(group_key(pool, family, service))
        for number in group.fitting(service) if group else ():
            slot = (family, number)
            if (
                not self._holdings[slot].refuses(service)
                and self.reserved.get(slot, service.key) == service.key
                and self.quota_left(pool, service, slot)
                and self.index.pool_of(address(family, number)) is pool
            ):
                return number
        return None

    def _cooled(self, pool: Pool, service: Service, family: Family) -> int | None:
        """The IP that this very service released lately."""
        mine = (slot for slot in sorted(self._cooling_for[service.key]) if slot[0] == family)
        free = (slot for slot in mine if slot not in self._holdings and slot not in self.reserved)
        return next((n for _, n in free if self.index.pool_of(address(family, n)) is pool), None)

    def _lowest(self, pool: Pool, family: Family) -> int | None:
        line = self._lines[pool.name, family]
        for position, number in line.walk(self._cursors.get((pool.name, family), 0)):
            if self._is_free(pool, family, number):
                self._cursors[pool.name, family] = position
                return number
        self._cursors[pool.name, family] = line.length
        return None

    def _first(self, pool: Pool, family: Family, start: int) -> int | None:
        """The first free address at position `start` or after it."""
        line = self._lines[pool.name, family]
        return next((n for _, n in line.walk(start) if self._is_free(pool, family, n)), None)

    def _is_free(self, pool: Pool, family: Family, number: int) -> bool:
        slot = (family, number)
        if slot in self._holdings or slot in self.reserved or slot in self._cooling or slot in self._left:
            return False
        return not (pool.avoid_buggy_ips and is_buggy(family, number))
