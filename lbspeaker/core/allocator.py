"""Which service gets which IP: one pass over the whole cluster.

First every service keeps what it holds and may keep; then the others, oldest first, get the IP they ask
for, or one of the pool they ask for, or one of the pools in order. So the result does not depend on the
order in which things were told, a restart changes nothing, and every service ends with an allocation or
with a refusal that says what to change.

Pools are asked in this order: those whose `serviceAllocation` matches the service, by priority (lower
first, 0 last), and only if none of them can give anything, those without `serviceAllocation`, in the order
of the configuration. Inside a pool: ranges in order, addresses ascending, lowest free one first; a service
with a sharing key first looks for an IP that it may share.

Two services may share an IP if they have the same sharing key, no port in common, and, with traffic policy
Local, the same endpoints (namespace and selector).
"""

import bisect
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from lbspeaker.model import (
    Address,
    Allocation,
    Family,
    Namespace,
    Pool,
    Port,
    Range,
    Reason,
    Refusal,
    Service,
    any_selects,
)

Slot = tuple[int, int]  # (family, address as a number): hashes ten times faster than an address object


def slot_of(ip: Address) -> Slot:
    return (ip.version, int(ip))


def ours(service: Service, load_balancer_class: str | None = None) -> bool:
    """Whether this service is for us: of type LoadBalancer, and of our class (none, unless one is set)."""
    return service.load_balancer and service.load_balancer_class == load_balancer_class


def allocate(
    pools: Sequence[Pool],
    services: Iterable[Service],
    namespaces: Mapping[str, Namespace] | None = None,
) -> dict[str, Allocation | Refusal]:
    """Return what each of `services` gets, by its key. `services` are those that are `ours`."""
    book = Book(pools, namespaces or {})
    ordered = sorted(services, key=lambda service: (service.created, service.key))
    for service in ordered:
        book.keep(service)
    return {service.key: book.settle(service) for service in ordered}


def usage(
    allocations: Mapping[str, Allocation | Refusal], pools: Sequence[Pool]
) -> dict[str, dict[Family, int]]:
    """How many distinct IPs of each pool are in use, by pool name and family."""
    used: dict[str, set[Slot]] = {pool.name: set() for pool in pools}
    index = PoolIndex(pools)
    for allocation in allocations.values():
        if isinstance(allocation, Allocation):
            for ip in allocation.ips:
                pool = index.pool_of(ip)
                if pool is not None:
                    used[pool.name].add(slot_of(ip))
    return {
        name: {4: sum(f == 4 for f, _ in slots), 6: sum(f == 6 for f, _ in slots)}
        for name, slots in used.items()
    }


def backend_key(service: Service) -> tuple[object, ...]:
    """Services whose traffic policy is Local may share an IP only if they have the same endpoints."""
    return (service.namespace, service.selector) if service.local else ()


@dataclass(slots=True)
class Holding:
    """Who uses one IP, and with which ports."""

    users: dict[str, Service] = field(default_factory=dict)
    ports: dict[Port, str] = field(default_factory=dict)

    def add(self, service: Service) -> None:
        self.users[service.key] = service
        self.ports.update(dict.fromkeys(service.ports, service.key))

    def remove(self, service: Service) -> None:
        del self.users[service.key]
        self.ports = {port: user for port, user in self.ports.items() if user != service.key}

    def refuses(self, service: Service) -> str:
        """Why `service` may not use this IP too; empty if it may."""
        other = next((user for user in self.users.values() if user.key != service.key), None)
        if other is None:
            return ""
        if not service.sharing_key or service.sharing_key != other.sharing_key:
            return f"in use by {other.key}, and the two have no sharing key in common"
        if backend_key(service) != backend_key(other):
            return f"in use by {other.key}, and with traffic policy Local only the same endpoints may share"
        for port in service.ports:
            if self.ports.get(port, service.key) != service.key:
                return f"in use by {self.ports[port]} with the same port, {port}"
        return ""


class Span(NamedTuple):
    first: int
    last: int
    pool: Pool


class PoolIndex:
    """Finds the pool of an address; pools do not overlap (the configuration saw to that)."""

    def __init__(self, pools: Sequence[Pool]) -> None:
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
        return span.pool if number <= span.last else None

    def nearest(self, ip: Address) -> Pool | None:
        """The pool of the same family whose edge is closest to `ip`."""
        number = int(ip)
        spans = self._spans[ip.version]
        if not spans:
            return None
        return min(spans, key=lambda s: max(s.first - number, number - s.last)).pool


class Book:
    """The pass in progress: who uses what, and how far each pool is used up."""

    def __init__(self, pools: Sequence[Pool], namespaces: Mapping[str, Namespace]) -> None:
        self._pools = pools
        self._by_name = {pool.name: pool for pool in pools}
        self._index = PoolIndex(pools)
        self._namespaces = namespaces
        self._holdings: dict[Slot, Holding] = {}
        self._kept: dict[str, tuple[Address, ...]] = {}
        self._shared: dict[tuple[str, tuple[object, ...]], set[Slot]] = {}
        self._cursors: dict[tuple[str, int], int] = {}  # below it, nothing of (pool, family) is free
        self._sizes = {pool.name: {4: pool.size(4), 6: pool.size(6)} for pool in pools}
        self._used: dict[tuple[str, int], int] = {}

    # -- what is held --

    def keep(self, service: Service) -> None:
        """Enter what `service` holds and may keep; where two hold what they cannot share, the older wins."""
        kept: list[Address] = []
        for ip in service.held:
            if any(other.version == ip.version for other in kept):
                continue
            if not self._why_not_keep(service, ip):
                kept.append(ip)
                self._enter(service, ip)
        self._kept[service.key] = tuple(kept)

    def _why_not_keep(self, service: Service, ip: Address) -> str:
        if ip.version not in service.families:
            return "family"
        pool = self._index.pool_of(ip)
        if pool is None or not self._serves(pool, service):
            return "pool"
        holding = self._holdings.get(slot_of(ip))
        return holding.refuses(service) if holding else ""

    def _enter(self, service: Service, ip: Address) -> None:
        slot = slot_of(ip)
        holding = self._holdings.get(slot)
        if holding is None:
            holding = self._holdings[slot] = Holding()
            pool = self._index.pool_of(ip)
            if pool is not None:
                self._used[pool.name, ip.version] = self._used.get((pool.name, ip.version), 0) + 1
        holding.add(service)
        if service.sharing_key:
            self._shared.setdefault((service.sharing_key, backend_key(service)), set()).add(slot)

    def _leave(self, service: Service, ip: Address) -> None:
        slot = slot_of(ip)
        holding = self._holdings[slot]
        holding.remove(service)
        if not holding.users:
            del self._holdings[slot]
            pool = self._index.pool_of(ip)
            if pool is not None:
                self._used[pool.name, ip.version] -= 1
                self._cursors.pop((pool.name, ip.version), None)

    # -- what is given --

    def settle(self, service: Service) -> Allocation | Refusal:
        """Decide for one service, after everybody's `keep`."""
        kept = self._kept[service.key]
        wanted = self._wanted(service)
        if isinstance(wanted, Refusal):
            for ip in kept:
                self._leave(service, ip)
            return wanted
        if service.invalid is not None:
            return self._allocation(service, kept, service.invalid) if kept else service.invalid
        if kept and self._as_requested(service, kept):
            return self._complete(service, kept, wanted)
        return self._give(service, kept, wanted)

    def _wanted(self, service: Service) -> tuple[Family, ...] | Refusal:
        """The families to serve, primary first."""
        if not service.families:
            message = "the service has no cluster IP; set type: LoadBalancer without clusterIP: None"
            return Refusal(Reason.NO_CLUSTER_IP, message)
        if service.ip_family_policy == "SingleStack":
            return service.families[:1]
        if service.ip_family_policy == "RequireDualStack" and len(service.families) < 2:
            message = "ipFamilyPolicy RequireDualStack, but the service has cluster IPs of one family only"
            return Refusal(Reason.NOT_DUAL_STACK, message)
        return service.families

    def _as_requested(self, service: Service, ips: tuple[Address, ...]) -> bool:
        if service.requested_ips and not set(service.requested_ips) <= set(ips):
            return False
        if service.requested_pool is None:
            return True
        return all(self._of_requested_pool(service, ip) for ip in ips)

    def _of_requested_pool(self, service: Service, ip: Address) -> bool:
        pool = self._index.pool_of(ip)
        return service.requested_pool is None or (pool is not None and pool.name == service.requested_pool)

    def _complete(
        self, service: Service, kept: tuple[Address, ...], wanted: tuple[Family, ...]
    ) -> Allocation | Refusal:
        """Add the families that are missing to what is kept."""
        have = {ip.version for ip in kept}
        missing = tuple(family for family in wanted if family not in have)
        if not missing:
            return self._allocation(service, kept, None)
        found = self._find(service, missing[0], prefer=self._index.pool_of(kept[0]))
        if isinstance(found, Refusal):
            return self._allocation(service, kept, found)
        self._enter(service, found)
        return self._allocation(service, (*kept, found), None)

    def _give(
        self, service: Service, kept: tuple[Address, ...], wanted: tuple[Family, ...]
    ) -> Allocation | Refusal:
        """Find new IPs. Who holds an IP that he did not ask for keeps it until he gets the other."""
        found: list[Address] = []
        refusal: Refusal | None = None
        strict = service.ip_family_policy != "PreferDualStack"
        for family in self._families_to_find(service, wanted):
            requested = next((ip for ip in service.requested_ips if ip.version == family), None)
            held = next((ip for ip in kept if ip.version == family), None)
            if requested is not None:
                answer = self._check_requested(service, requested)
            elif held is not None and self._of_requested_pool(service, held):
                answer = held  # what is asked for anew is the other family
            else:
                prefer = self._index.pool_of(found[0]) if found else self._pool_for_all(service, wanted)
                answer = self._find(service, family, prefer)
            if isinstance(answer, Refusal):
                refusal = refusal or answer
                strict = strict or requested is not None
            else:
                found.append(answer)
        if not found or (refusal is not None and strict):
            assert refusal is not None
            return self._allocation(service, kept, refusal) if kept else refusal
        for ip in kept:
            if ip not in found:
                self._leave(service, ip)
        for ip in found:
            if ip not in kept:
                self._enter(service, ip)
        return self._allocation(service, tuple(found), refusal)

    def _families_to_find(self, service: Service, wanted: tuple[Family, ...]) -> tuple[Family, ...]:
        """The wanted families, and those of requested IPs that the service does not have (to be refused)."""
        extra = tuple(ip.version for ip in service.requested_ips if ip.version not in wanted)
        if service.ip_family_policy == "SingleStack" and service.requested_ips:
            return tuple(ip.version for ip in service.requested_ips)
        return (*wanted, *extra)

    def _allocation(self, service: Service, ips: tuple[Address, ...], note: Refusal | None) -> Allocation:
        order = {family: position for position, family in enumerate(service.families)}
        ips = tuple(sorted(ips, key=lambda ip: order.get(ip.version, 2)))
        pool = self._index.pool_of(ips[0])
        assert pool is not None
        return Allocation(ips, pool.name, note)

    # -- requested IPs --

    def _check_requested(self, service: Service, ip: Address) -> Address | Refusal:
        if ip.version not in service.families:
            families = " and ".join(f"IPv{family}" for family in service.families)
            return Refusal(Reason.WRONG_FAMILY, f"{ip} is requested, but the service is {families}")
        pool = self._index.pool_of(ip)
        if pool is None:
            return Refusal(Reason.OUTSIDE_POOLS, self._outside(ip))
        if service.requested_pool is not None and service.requested_pool != pool.name:
            message = f"{ip} is requested from pool {service.requested_pool}, but it is in pool {pool.name}"
            return Refusal(Reason.INVALID_REQUEST, message)
        if not self._serves(pool, service):
            return self._not_for(pool, service, f"{ip} is in pool {pool.name}, which is")
        holding = self._holdings.get(slot_of(ip))
        why = holding.refuses(service) if holding else ""
        return Refusal(Reason.IN_USE, f"{ip} is requested, but it is {why}") if why else ip

    def _outside(self, ip: Address) -> str:
        nearest = self._index.nearest(ip)
        if nearest is None:
            return f"{ip} is requested, but no pool has IPv{ip.version} addresses"
        ranges = ", ".join(str(r) for r in nearest.ranges if r.family == ip.version)
        return f"{ip} is requested, but it is in no pool; the nearest is {nearest.name} ({ranges})"

    @staticmethod
    def _not_for(pool: Pool, service: Service, start: str) -> Refusal:
        message = f"{start} not for this service (serviceAllocation of {pool.name}: namespaces or selectors)"
        return Refusal(Reason.POOL_NOT_FOR_SERVICE, message)

    # -- pools --

    def _serves(self, pool: Pool, service: Service) -> bool:
        rule = pool.service_allocation
        if rule is None:
            return True
        if rule.namespaces or rule.namespace_selectors:
            namespace = self._namespaces.get(service.namespace)
            labels = namespace.labels if namespace else {}
            if service.namespace not in rule.namespaces and not any(
                selector.selects(labels) for selector in rule.namespace_selectors
            ):
                return False
        return any_selects(rule.service_selectors, service.labels)

    def _candidates(self, service: Service) -> Iterator[Sequence[Pool]]:
        """Groups of pools; a later group is asked only if the earlier ones have nothing."""
        if service.requested_pool is not None:
            pool = self._by_name.get(service.requested_pool)
            yield [pool] if pool else []
            return
        pinned = [
            p for p in self._pools if p.service_allocation and p.auto_assign and self._serves(p, service)
        ]
        yield sorted(pinned, key=_priority)
        yield [pool for pool in self._pools if pool.auto_assign and pool.service_allocation is None]

    def _pool_for_all(self, service: Service, wanted: tuple[Family, ...]) -> Pool | None:
        """The first pool that can give every wanted family, so that both IPs come from one pool."""
        if len(wanted) < 2 or service.requested_ips:
            return None
        for group in self._candidates(service):
            for pool in group:
                if self._serves(pool, service) and all(self._free(pool, service, f) for f in wanted):
                    return pool
        return None

    def _find(self, service: Service, family: Family, prefer: Pool | None) -> Address | Refusal:
        """An IP of `family` for `service`: out of `prefer` if that has one, else by the order of pools."""
        if service.requested_pool is not None:
            pool = self._by_name.get(service.requested_pool)
            if pool is None:
                known = ", ".join(sorted(self._by_name)) or "none"
                message = (
                    f"pool {service.requested_pool} is requested, but it does not exist (pools: {known})"
                )
                return Refusal(Reason.UNKNOWN_POOL, message)
            if not self._serves(pool, service):
                return self._not_for(pool, service, f"pool {pool.name} is requested, but it is")
        if prefer is not None and (ip := self._free(prefer, service, family)) is not None:
            return ip
        asked: list[Pool] = []
        for group in self._candidates(service):
            for pool in group:
                asked.append(pool)
                ip = self._free(pool, service, family)
                if ip is not None:
                    return ip
        return self._nothing(asked, family)

    def _nothing(self, asked: list[Pool], family: Family) -> Refusal:
        if not self._pools:
            message = "there is no IPAddressPool in the controller's namespace; create one there"
            return Refusal(Reason.NO_POOL, message)
        if not asked:
            message = "no pool serves this service automatically (autoAssign: false, or serviceAllocation)"
            return Refusal(Reason.NO_POOL, message)
        fitting = [pool for pool in asked if self._sizes[pool.name][family]]
        if not fitting:
            names = ", ".join(pool.name for pool in asked)
            return Refusal(Reason.NO_POOL_FOR_FAMILY, f"no pool has IPv{family} addresses (asked: {names})")
        fill = ", ".join(
            f"{pool.name}: {self._used.get((pool.name, family), 0)} of {self._sizes[pool.name][family]} used"
            for pool in fitting
        )
        return Refusal(
            Reason.POOL_EXHAUSTED, f"no free IPv{family} address ({fill}); add addresses to a pool"
        )

    def _free(self, pool: Pool, service: Service, family: Family) -> Address | None:
        if service.sharing_key:
            shared = self._shareable(pool, service, family)
            if shared is not None:
                return shared
        return self._lowest_free(pool, family)

    def _shareable(self, pool: Pool, service: Service, family: Family) -> Address | None:
        assert service.sharing_key is not None
        slots = self._shared.get((service.sharing_key, backend_key(service)), ())
        for slot in sorted(slots):
            holding = self._holdings.get(slot)
            if slot[0] != family or holding is None or holding.refuses(service):
                continue
            ip = _address(pool, slot)
            if ip is not None:
                return ip
        return None

    def _lowest_free(self, pool: Pool, family: Family) -> Address | None:
        position = self._cursors.get((pool.name, family), 0)
        passed = 0  # offset of the range inside the pool, in addresses of this family
        for r in pool.ranges:
            if r.family != family:
                continue
            first = int(r.first)
            for offset in range(max(position - passed, 0), r.size):
                number = first + offset
                if (family, number) in self._holdings or (pool.avoid_buggy_ips and _buggy(family, number)):
                    continue
                self._cursors[pool.name, family] = passed + offset
                return type(r.first)(number)
            passed += r.size
        self._cursors[pool.name, family] = passed
        return None


def _priority(pool: Pool) -> tuple[bool, int]:
    priority = pool.service_allocation.priority if pool.service_allocation else 0
    return (priority == 0, priority)


def _buggy(family: int, number: int) -> bool:
    """Some old devices drop traffic to IPv4 addresses that end in .0 or .255 (Smurf protection)."""
    return family == 4 and number & 0xFF in (0, 255)


def _address(pool: Pool, slot: Slot) -> Address | None:
    def holds(r: Range) -> bool:
        return r.family == slot[0] and int(r.first) <= slot[1] <= int(r.last)

    r = next(filter(holds, pool.ranges), None)
    return type(r.first)(slot[1]) if r else None
