"""Who owns a service IP on a segment: rendezvous hashing among the candidates, preferences first.

Every speaker computes the same ranking from the same live members, without asking anybody. A node that
joins or leaves moves only the IPs that it gains or owned. The hash is the one that MetalLB's users have
(SHA-256 of "node#ip", lowest first), so that coming from there moves no IP.
"""

import functools
import hashlib
from collections.abc import Mapping

from lbspeaker.model import Address


def rank(ip: Address, candidates: Mapping[str, int]) -> tuple[str, ...]:
    """Return the candidates, the owner first. `candidates`: node → preference (higher is better)."""
    order = _order(ip, tuple(candidates))
    if len(set(candidates.values())) <= 1:
        return order
    return tuple(sorted(order, key=lambda node: -candidates[node]))


@functools.lru_cache(maxsize=1 << 14)  # nodes come and go, but not with every decision
def _order(ip: Address, nodes: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(sorted(nodes, key=lambda node: (hashlib.sha256(f"{node}#{ip}".encode()).digest(), node)))
