"""Why a service does not get what it asks for, in words that name what to change."""

import math
from collections.abc import Sequence
from dataclasses import replace

from lbspeaker.core.book import Book, families
from lbspeaker.core.pools import slot_of
from lbspeaker.core.words import listed
from lbspeaker.model import Address, Family, Pool, Reason, Refusal, Service

_REMEDIES = {
    Reason.QUOTA_REACHED: "delete services, or raise namespaceQuota",
    Reason.POOL_EXHAUSTED: "add addresses to a pool",
    Reason.POOL_CLOSED: "use another pool",
}


def requested_ip(book: Book, service: Service, ip: Address) -> Refusal | None:
    """Why `service` cannot have the IP that it asks for, or that is reserved for it; None if it can."""
    refusal = _requested_ip(book, service, ip)
    if refusal is None or service.requested_ips:
        return refusal
    return replace(refusal, message=refusal.message.replace("is requested", "is reserved for it", 1))


def _requested_ip(book: Book, service: Service, ip: Address) -> Refusal | None:
    if ip.version not in families(service):
        has = " and ".join(f"IPv{family}" for family in families(service))
        return Refusal(Reason.WRONG_FAMILY, f"{ip} is requested, but the service is {has}")
    pool = book.index.pool_of(ip)
    if pool is None:
        return Refusal(Reason.OUTSIDE_POOLS, f"{ip} is requested, but {outside_pools(book, ip)}")
    return _pool_of_ip(book, service, ip, pool) or _in_use(book, service, ip, pool)


def _pool_of_ip(book: Book, service: Service, ip: Address, pool: Pool) -> Refusal | None:
    """Why `pool` gives `service` no IP, not even this one."""
    if service.requested_pool is not None and service.requested_pool != pool.name:
        message = f"{ip} is requested from pool {service.requested_pool}, but it is in pool {pool.name}"
        return Refusal(Reason.INVALID_REQUEST, message)
    start = f"{ip} is requested, and its pool, {pool.name}, is"
    if pool.closed:
        return Refusal(Reason.POOL_CLOSED, f"{start} {_why_closed(pool)}", (pool.name,))
    owner = book.reserved.get(slot_of(ip), service.key)
    if owner != service.key:
        message = f"{ip} is requested, but pool {pool.name} reserves it for {owner}"
        return Refusal(Reason.RESERVED, message, (pool.name,))
    if slot_of(ip) in book.reserved:
        return None  # it is for this service, whomever the pool is for
    return not_eligible(book, service, pool, start)


def _in_use(book: Book, service: Service, ip: Address, pool: Pool) -> Refusal | None:
    why = book.refuses(service, ip)
    if why:
        return Refusal(Reason.IN_USE, f"{ip} is requested, but it is {why}", (pool.name,))
    cooling = book.cooling(service, ip)
    if cooling is not None and cooling.until == math.inf:
        message = f"{ip} is requested, but {cooling.service} is only about to leave it"
        return Refusal(Reason.IN_USE, message, (pool.name,))
    if cooling is not None:
        whose = (
            f"it was of {cooling.service} until lately" if cooling.service else "it was in use until lately"
        )
        message = f"{ip} is requested, but {whose}; pool {pool.name} keeps it free for {pool.cooldown_s:g}s"
        return Refusal(Reason.COOLING_DOWN, message, (pool.name,))
    if not book.quota_left(pool, service, slot_of(ip)):
        message = f"{ip} is requested, but in pool {pool.name} {_quota(pool, service)}"
        return Refusal(Reason.QUOTA_REACHED, message, (pool.name,))
    return None


def outside_pools(book: Book, ip: Address) -> str:
    """Why `ip` is in no pool, or the nearest one."""
    for pool in book.pools:
        if any(ip in r for r in pool.excluded):
            return f"pool {pool.name} excludes it (spec.exclude)"
        if any(ip in r for r in pool.ranges):
            return f"pool {pool.name} leaves it out (avoidBuggyIPs)"
    nearest = book.index.nearest(ip)
    if nearest is None:
        return f"no pool has IPv{ip.version} addresses"
    ranges = [str(r) for r in nearest.ranges if r.family == ip.version]
    return f"it is in no pool; the nearest is {nearest.name} ({listed(ranges)})"


def unknown_pool(book: Book, name: str) -> Refusal:
    known = listed(sorted(book.by_name)) or "none"
    message = f"pool {name} is requested, but it does not exist (pools: {known})"
    return Refusal(Reason.UNKNOWN_POOL, message)


def not_eligible(book: Book, service: Service, pool: Pool, start: str) -> Refusal | None:
    """Why `pool` is not for `service`; None if it is. `start` begins the message, and ends with "is"."""
    if not book.eligible.serves(pool, service):
        message = f"{start} not for this service (serviceAllocation of {pool.name}: namespaces or selectors)"
        return Refusal(Reason.POOL_NOT_FOR_SERVICE, message, (pool.name,))
    keeper = book.eligible.shut_out(pool, service)
    if keeper is not None:
        message = f"{start} not for this service: {keeper.name} is the only pool for it (exclusive)"
        return Refusal(Reason.POOL_NOT_FOR_SERVICE, message, (pool.name,))
    return None


def nothing_free(book: Book, asked: Sequence[Pool], service: Service, family: Family) -> Refusal:
    """Say which pools were asked, and what each lacks."""
    if not book.pools:
        message = (
            "there is no IPAddressPool in the controller's namespace (lbspeaker-system, unless --namespace"
            " says another); create one there"
        )
        return Refusal(Reason.NO_POOL, message)
    if not asked:
        message = "no pool serves this service automatically (autoAssign: false, or serviceAllocation)"
        return Refusal(Reason.NO_POOL, f"{message}; pools: {listed([pool.name for pool in book.pools])}")
    fitting = [pool for pool in asked if book.sizes[pool.name, family]]
    if not fitting:
        names = tuple(pool.name for pool in asked)
        others = [pool.name for pool in book.pools if book.sizes[pool.name, family]]
        if others:
            message = (
                f"no pool with IPv{family} addresses serves this service by itself ({listed(others)}:"
                f" autoAssign: false, or serviceAllocation; tried: {listed(names)})"
            )
            return Refusal(Reason.NO_POOL, message)
        message = f"no pool has IPv{family} addresses (tried: {listed(names)})"
        return Refusal(Reason.NO_POOL_FOR_FAMILY, message, names)
    lacks = [lack_of(book, pool, service, family) for pool in fitting]
    reason = next(reason for reason in _REMEDIES if reason in {reason for reason, _ in lacks})
    message = f"no free IPv{family} address ({listed([text for _, text in lacks])})"
    remedy = _REMEDIES[reason]
    if reason is Reason.POOL_CLOSED and any(not pool.deleted for pool in fitting):
        remedy += ", or set disabled: false"
    return Refusal(reason, f"{message}; {remedy}", tuple(pool.name for pool in fitting))


def lack_of(book: Book, pool: Pool, service: Service, family: Family) -> tuple[Reason, str]:
    """What keeps `pool` from giving `service` an IP of `family`, if it gives none."""
    if pool.closed:
        return Reason.POOL_CLOSED, f"{pool.name}: {_why_closed(pool)}"
    used, size = book.used[pool.name, family], book.sizes[pool.name, family]
    if used >= size:
        return Reason.POOL_EXHAUSTED, f"{pool.name}: {used} of {size} used"
    if not book.quota_left(pool, service):
        return Reason.QUOTA_REACHED, f"{pool.name}: {_quota(pool, service)}"
    return Reason.POOL_EXHAUSTED, f"{pool.name}: what is free of {size} is reserved, or was released lately"


def kept_outside(book: Book, service: Service, ips: Sequence[Address]) -> Refusal | None:
    """Say that an IP is kept which its pool no longer contains."""
    for ip in ips:
        if book.is_outside(service, ip):
            pool = book.pool_of(service, ip).name
            message = (
                f"pool {pool} no longer contains {ip}, and it is kept (onShrink: Keep); delete the service to"
                " free it, request another IP, or set onShrink: Renumber"
            )
            return Refusal(Reason.OUTSIDE_POOL, message, (pool,))
    return None


def _why_closed(pool: Pool) -> str:
    return "being deleted" if pool.deleted else "disabled"


def _quota(pool: Pool, service: Service) -> str:
    return f"namespace {service.namespace} has all IPs that it may have ({pool.namespace_quota})"
