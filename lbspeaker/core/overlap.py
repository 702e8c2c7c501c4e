"""Pools that overlap what the cluster uses itself: told, not refused.

MetalLB refused such pools once, and took it back: there are set-ups in which it is meant.
"""

from collections.abc import Iterable, Iterator

from lbspeaker.core.pools import PoolIndex
from lbspeaker.model import Node, Pool, Service, address_of


def overlaps(pools: Iterable[Pool], nodes: Iterable[Node], services: Iterable[Service]) -> dict[str, str]:
    """Return, by name of a pool, what it overlaps, with an example of each."""
    pools, found = tuple(pools), dict[str, dict[str, list[str]]]()
    index = PoolIndex(pools)
    for node in nodes:
        for ip in node.addresses:
            pool = index.pool_of(ip)
            if pool is not None:
                _note(found, pool, "node", f"{ip}, the address of node {node.name}")
        for network in node.pod_networks:
            for pool in pools:
                if any(
                    r.family == network.version
                    and int(r.first) <= int(network[-1])
                    and int(network[0]) <= int(r.last)
                    for r in pool.ranges
                ):
                    _note(found, pool, "pod", f"addresses of pods on {node.name} ({network})")
    for service in services:
        for text in service.cluster_ips:
            cluster_ip = address_of(text)
            pool = index.pool_of(cluster_ip) if cluster_ip else None
            if pool is not None:
                _note(found, pool, "service", f"{text}, the cluster IP of {service.key}")
    return {
        name: f"the pool contains {', and '.join(_told(kinds))}: use spec.exclude"
        for name, kinds in found.items()
    }


def _note(found: dict[str, dict[str, list[str]]], pool: Pool, kind: str, what: str) -> None:
    found.setdefault(pool.name, {}).setdefault(kind, []).append(what)


def _told(kinds: dict[str, list[str]]) -> Iterator[str]:
    for _, whats in sorted(kinds.items()):
        more = f" and {len(whats) - 1} more like it" if len(whats) > 1 else ""
        yield min(whats) + more
