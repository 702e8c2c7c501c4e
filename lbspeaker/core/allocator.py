"""Which service gets which IP: one pass over the whole cluster.

First every service keeps what it holds and may keep (`core.book`); then the others, oldest first, get the IP
they ask for, or that is reserved for them, or one of the pool they ask for, or one of the pools in order
(`core.pools`). So the result does not depend on the order in which things were told, a restart changes
nothing, and every service ends with an allocation or with a refusal that says what to change.

Inside a pool: ranges in order, addresses ascending, lowest free one first (with strategy Random: from a place
that only the service determines); a service with a sharing key first looks for an IP that it may share
(`core.sharing`).
"""

from collections.abc import Iterable, Mapping, Sequence

from lbspeaker.core import refusals
from lbspeaker.core.book import Book, Cooling, families
from lbspeaker.core.pools import Slot
from lbspeaker.model import Address, Allocation, Family, Namespace, Pool, Reason, Refusal, Service

Result = Allocation | Refusal


def lack(result: Result | None) -> Refusal | None:
    """What a service with this result does not get; None if it lacks nothing."""
    return result.note if isinstance(result, Allocation) else result


def ours(service: Service, load_balancer_class: str | None = None) -> bool:
    """Whether this service is for us: of type LoadBalancer, and of our class (none, unless one is set)."""
    return service.load_balancer and service.load_balancer_class == load_balancer_class


def allocate(
    pools: Sequence[Pool],
    services: Iterable[Service],
    namespaces: Mapping[str, Namespace] | None = None,
    cooling: Mapping[Slot, Cooling] | None = None,
) -> dict[str, Result]:
    """Return what each of `services` gets, by its key. `services` are those that are `ours`."""
    book = Book(pools, namespaces or {}, cooling or {})
    ordered = sorted(services, key=lambda service: service.age)
    for service in ordered:
        book.keep(service)
    return {service.key: settle(book, service) for service in ordered}


def settle(book: Book, service: Service) -> Result:
    """Decide for one service, after everybody's `keep`, and enter what it gets."""
    kept = book.kept(service)
    refusal = _unservable(service)
    if refusal is not None:
        book.release(service, kept)
        return refusal
    if service.invalid is not None:
        return _allocation(book, service, kept, service.invalid) if kept else service.invalid
    wanted = requested(book, service)
    if kept and _is_as_requested(book, service, kept, wanted):
        return _complete(book, service, kept)
    return _give(book, service, kept, wanted)


def _unservable(service: Service) -> Refusal | None:
    """Why a service can have no IP at all."""
    if not service.families:
        message = (
            "the service has no cluster IP so far; with clusterIP: None it never gets one: take that out"
        )
        return Refusal(Reason.NO_CLUSTER_IP, message)
    if service.ip_family_policy == "RequireDualStack" and len(service.families) < 2:
        message = "ipFamilyPolicy RequireDualStack, but the service has cluster IPs of one family only"
        return Refusal(Reason.NOT_DUAL_STACK, message)
    return None


def requested(book: Book, service: Service) -> tuple[Address, ...]:
    """The IPs that the service asks for; if none, those that are reserved for it, one of each family."""
    if service.requested_ips:
        return service.requested_ips
    found: dict[int, Address] = {}
    for ip in book.reserved_for.get(service.key, ()):
        if ip.version in families(service) and _is_of_requested_pool(book, service, ip):
            found.setdefault(ip.version, ip)
    return tuple(found.values())


def _is_as_requested(
    book: Book, service: Service, ips: tuple[Address, ...], requested: tuple[Address, ...]
) -> bool:
    return set(requested) <= set(ips) and all(_may_stay(book, service, ip) for ip in ips)


def _may_stay(book: Book, service: Service, ip: Address) -> bool:
    return _is_of_requested_pool(book, service, ip) and not book.is_to_move(service, ip)


def _is_of_requested_pool(book: Book, service: Service, ip: Address) -> bool:
    return service.requested_pool is None or book.pool_of(service, ip).name == service.requested_pool


def _complete(book: Book, service: Service, kept: tuple[Address, ...]) -> Result:
    """Add the family that is missing to what is kept."""
    have = {ip.version for ip in kept}
    missing = next((family for family in families(service) if family not in have), None)
    if missing is None:
        return _allocation(book, service, kept, None)
    found = _find(book, service, missing, prefer=book.pool_of(service, kept[0]))
    if isinstance(found, Refusal):
        return _allocation(book, service, kept, found)
    book.give(service, found)
    return _allocation(book, service, (*kept, found), None)


def _give(book: Book, service: Service, kept: tuple[Address, ...], requested: tuple[Address, ...]) -> Result:
    """Find new IPs. Who holds an IP that he did not ask for keeps it until he gets the other."""
    found: list[Address] = []
    refusal: Refusal | None = None
    strict = service.ip_family_policy != "PreferDualStack"
    requests = {ip.version: ip for ip in requested}
    # Requested IPs of a family that the service does not have are looked at, too: to be refused.
    for family in dict.fromkeys((*families(service), *requests)):
        request = requests.get(family)
        answer = _of_family(book, service, family, request, kept, found)
        if isinstance(answer, Refusal):
            refusal = refusal or answer
            strict = strict or request is not None
        else:
            found.append(answer)
            if answer not in kept:
                book.give(service, answer)
    if refusal is not None and (strict or not found):
        book.take_back(service, [ip for ip in found if ip not in kept])
        return _allocation(book, service, kept, refusal) if kept else refusal
    if kept:
        book.release(service, [ip for ip in kept if ip not in found])
    return _allocation(book, service, tuple(found), refusal)


def _of_family(
    book: Book,
    service: Service,
    family: Family,
    request: Address | None,
    kept: tuple[Address, ...],
    found: Sequence[Address],
) -> Address | Refusal:
    """The IP of one family: what was requested, else what is held, else a new one."""
    held = next((ip for ip in kept if ip.version == family), None)
    if request is not None and request == held and not book.is_to_move(service, held):
        return request
    if request is not None:
        return refusals.requested_ip(book, service, request) or request
    if held is not None and _may_stay(book, service, held):
        return held  # what is asked for anew is the other family
    prefer = book.pool_of(service, found[0]) if found else _pool_for_all(book, service)
    return _find(book, service, family, prefer)


def _allocation(book: Book, service: Service, ips: tuple[Address, ...], note: Refusal | None) -> Allocation:
    if len(ips) > 1 and ips[0].version != service.families[0]:
        ips = ips[::-1]
    pools = tuple(book.pool_of(service, ip).name for ip in ips)
    if note is None and book.has_outside:
        note = refusals.kept_outside(book, service, ips)
    return Allocation(ips, pools, note)


def _pool_for_all(book: Book, service: Service) -> Pool | None:
    """The first pool that can give both families, so that both IPs come from one pool."""
    wanted = families(service)
    if len(wanted) < 2 or service.requested_ips or service.requested_pool is not None:
        return None
    candidates = (pool for group in book.eligible.door(service).groups for pool in group)
    return next((p for p in candidates if all(book.free(p, service, family) for family in wanted)), None)


def _find(book: Book, service: Service, family: Family, prefer: Pool | None) -> Address | Refusal:
    """An IP of `family` for `service`: out of `prefer` if that has one, else by the order of pools."""
    if service.requested_pool is not None:
        return _find_in_requested_pool(book, service, family, service.requested_pool)
    if prefer is not None and book.eligible.may_have(prefer, service):
        ip = book.free(prefer, service, family)
        if ip is not None:
            return ip
    door = book.eligible.door(service)
    # Whoever asks the same pools, and may share nothing, gets the same answer.
    alike = (door.number, family, service.namespace) if not service.sharing_key else ()
    if alike in book.refused and not book.has_cooling(service):
        return book.refused[alike]
    asked: list[Pool] = []
    for group in door.groups:
        for pool in group:
            asked.append(pool)
            ip = book.free(pool, service, family)
            if ip is not None:
                return ip
    refusal = refusals.nothing_free(book, asked, service, family)
    if alike:
        book.refused[alike] = refusal
    return refusal


def _find_in_requested_pool(book: Book, service: Service, family: Family, name: str) -> Address | Refusal:
    pool = book.by_name.get(name)
    if pool is None:
        return refusals.unknown_pool(book, name)
    refusal = refusals.not_eligible(book, service, pool, f"pool {name} is requested, but it is")
    if refusal is not None:
        return refusal
    return book.free(pool, service, family) or refusals.nothing_free(book, [pool], service, family)
