"""Who has an IP, or why nobody does."""

from collections.abc import Iterator

from lbspeaker.core.book import Book
from lbspeaker.core.explain import Case, Explanation, Step
from lbspeaker.core.explain_service import explain_service
from lbspeaker.core.pools import slot_of
from lbspeaker.core.refusals import outside_pools
from lbspeaker.core.words import listed
from lbspeaker.model import Address, Pool, Refusal, address_of


def explain_ip(case: Case, ip: Address) -> Explanation:
    """Explain `ip`: its pool, and the Service that has it; of several that share it, the first in the way."""
    book = Book(case.snapshot.config.pools, case.snapshot.namespaces, {})
    place = Step("pool", "ok", tuple(_place(book, ip)), ip)
    keys = [service.key for service in case.outcome.holders.get(ip, ())]
    if not keys:
        why, next_step = _why_nobody(case, book, ip)
        used = tuple(_used(case, ip))
        lines = (*used, *_waiting(case, ip)) or (why,)
        if used:
            why = f"{why}; but {used[0]}"
        nobody = Step("services", "no", lines, ip, why, None, next_step)
        return Explanation(str(ip), (place, nobody), f"no Service has {ip}: {why}", next_step)
    shares = "; they share it" if len(keys) > 1 else ""
    who = Step("services", "ok", (f"{listed(keys)}{shares}",), ip)
    found = [explain_service(case, key, ip) for key in keys]
    order = ("no", "unknown", "ok")
    told = min(found, key=lambda one: order.index(one.verdict))
    return Explanation(str(ip), (place, who, *told.steps), told.diagnosis, told.next_step)


def _place(book: Book, ip: Address) -> Iterator[str]:
    pool = book.index.pool_of(ip)
    if pool is None:
        yield outside_pools(book, ip)
        return
    yield f"{pool.name} ({listed([str(r) for r in pool.ranges if r.family == ip.version])})"
    owner = book.reserved.get(slot_of(ip))
    if owner is not None:
        yield f"reserved for {owner}"
    if pool.closed:
        yield "it gives nothing any more (disabled, or being deleted)"


def _why_nobody(case: Case, book: Book, ip: Address) -> tuple[str, str]:
    """Why no Service has it, and what to do."""
    pool = book.index.pool_of(ip)
    if pool is None:
        return outside_pools(book, ip), "add it to a pool, or look at an IP of a pool"
    waiting = [*_waiting(case, ip)]
    if waiting:
        return (
            f"it is asked for in vain: {waiting[0]}",
            "ask about that Service: lbspeaker explain NAMESPACE/SERVICE",
        )
    owner = book.reserved.get(slot_of(ip))
    if owner is not None:
        return f"pool {pool.name} keeps it for {owner}", f"create {owner}, or change the reservation"
    return f"it is free in pool {pool.name}", _request(pool, ip)


def _request(pool: Pool, ip: Address) -> str:
    if pool.closed:
        return f"set disabled: false in pool {pool.name}, so that it gives IPs"
    return f"a Service gets it that asks for it: annotation lbspeaker.io/loadBalancerIPs: {ip}"


def _waiting(case: Case, ip: Address) -> Iterator[str]:
    """The Services that ask for it and do not get it."""
    for service in case.outcome.passes[-1]:
        result = case.outcome.results[service.key]
        refusal = result if isinstance(result, Refusal) else result.note
        if ip in service.requested_ips and refusal is not None:
            yield f"{service.key}: {refusal.message}"


def _used(case: Case, ip: Address) -> Iterator[str]:
    """What else in the cluster has this address."""
    for node in case.snapshot.nodes.values():
        if ip in node.addresses:
            yield f"it is an address of node {node.name}"
        yield from (
            f"it is in the pod network {net} of {node.name}" for net in node.pod_networks if ip in net
        )
    for service in case.snapshot.services.values():
        if ip in map(address_of, service.cluster_ips):
            yield f"it is the cluster IP of {service.key}"
