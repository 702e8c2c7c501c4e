"""Which pools were looked at for one service, in which order, and why each gave nothing.

The book is brought to where the allocator had it when the turn of the service came: all have kept what they
may, and everybody older is settled. Then each pool is asked as the allocator asks it.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from lbspeaker.core.allocator import requested, settle
from lbspeaker.core.book import Book, families
from lbspeaker.core.refusals import lack_of, not_eligible, requested_ip
from lbspeaker.model import Address, Allocation, Family, Namespace, Pool, Service


@dataclass(frozen=True, slots=True)
class Tried:
    """One pool, for one family. `aside`: it was not asked at all. `why` is half a sentence."""

    pool: str
    family: Family
    verdict: Literal["chosen", "no", "aside"]
    why: str


def tried(
    pools: Sequence[Pool], services: Sequence[Service], namespaces: Mapping[str, Namespace], key: str
) -> tuple[Tried, ...]:
    """Return what came of each pool for the service `key`; `services` as the deciding pass found them.

    Empty if the service can have no IP of any pool.
    """
    book = Book(pools, namespaces, {})
    ordered = sorted(services, key=lambda service: service.age)
    for one in ordered:
        book.keep(one)
    for one in ordered:
        if one.key == key:
            return tuple(_tried(book, one))
        settle(book, one)
    return ()


def deciding(passes: Sequence[Sequence[Service]], key: str) -> Sequence[Service]:
    """Return the last of the passes in which the service got or lost something; the first if none did."""
    of = [next(s for s in services if s.key == key) for services in passes]
    changing = [number for number in range(len(of) - 1) if of[number] != of[number + 1]]
    return passes[changing[-1] if changing else 0]


def _tried(book: Book, service: Service) -> Iterator[Tried]:
    kept, wanted = book.kept(service), requested(book, service)
    order = _order(book, service)
    lacks = {
        (pool.name, family): _lack(book, pool, service, family, _of(wanted, family))
        for pool in order
        for family in families(service)
    }
    result = settle(book, service)
    given, names = (result.ips, result.pools) if isinstance(result, Allocation) else ((), ())
    for family in families(service):
        wish, ip = _of(wanted, family), _of(given, family)
        name = names[given.index(ip)] if ip is not None else ""
        before = True  # the pool that it has an IP of
        for pool in order:
            if ip is not None and pool.name == name:
                before = False
                yield Tried(pool.name, family, "chosen", _why_chosen(book, service, ip, kept))
                continue
            aside = _aside(book, service, pool, wish)
            if aside is None and ip is not None and (wish is None or wish not in pool):
                if ip in kept:
                    aside = f"it keeps {ip}, of {name}"
                elif not before:
                    aside = f"{name} comes before it"
            if aside is not None:
                yield Tried(pool.name, family, "aside", aside)
            else:
                both = (
                    f"both families come from one pool, {name}"
                    if name
                    else "it has one, but not all that is asked for can be had"
                )
                yield Tried(pool.name, family, "no", lacks[pool.name, family] or both)


def _of(ips: Sequence[Address], family: Family) -> Address | None:
    return next((ip for ip in ips if ip.version == family), None)


def _order(book: Book, service: Service) -> list[Pool]:
    """Those to be asked, as they are asked; then the others."""
    asked = [pool for group in book.eligible.door(service).groups for pool in group]
    return [*asked, *(pool for pool in book.pools if pool not in asked)]


def _lack(book: Book, pool: Pool, service: Service, family: Family, wish: Address | None) -> str | None:
    """What the pool lacks; None if it has an IP for the service."""
    if wish is not None and wish in pool:
        refusal = requested_ip(book, service, wish)
        return refusal.message if refusal else None
    if not book.sizes[pool.name, family]:
        return f"it has no IPv{family} addresses"
    if book.free(pool, service, family) is not None:
        return None
    return lack_of(book, pool, service, family)[1].removeprefix(f"{pool.name}: ")


def _why_chosen(book: Book, service: Service, ip: Address, kept: Sequence[Address]) -> str:
    if ip in service.requested_ips:
        return f"{ip} is requested"
    if ip in book.reserved_for.get(service.key, ()):
        return f"it reserves {ip} for this service"
    if ip in kept:
        outside = ", though it no longer contains it" if book.is_outside(service, ip) else ""
        return f"the service keeps {ip}{outside}"
    if service.requested_pool is not None:
        return f"it is requested, and has {ip} for it"
    return f"the first that has an IP for it: {ip}"


def _aside(book: Book, service: Service, pool: Pool, wish: Address | None) -> str | None:
    """Why the pool is not asked, whatever it has. `wish`: the IP that is requested, or reserved."""
    if wish is not None:
        what = "requested" if wish in service.requested_ips else "reserved for it"
        return None if wish in pool else f"{wish} is {what}, which is not in it"
    if service.requested_pool is not None and service.requested_pool != pool.name:
        return f"pool {service.requested_pool} is requested"
    refusal = not_eligible(book, service, pool, "it is")
    if refusal is not None:
        return refusal.message.removeprefix("it is ")
    if not pool.auto_assign and service.requested_pool is None:
        return "autoAssign is false: only for services that ask for it"
    return None
