"""Traffic that comes to a node where it is lost: for the sake of an aggregate of another Service.

With externalTrafficPolicy Local a node without an endpoint announces nothing for a Service. If it announces
an aggregate around its IP because of another one, and nobody announces a longer prefix, the router sends it a
share of the traffic all the same.
"""

from collections.abc import Iterator
from dataclasses import replace
from ipaddress import ip_network

from lbspeaker.core.announce import Picture
from lbspeaker.model import Address, Family, Network, Reason, Unannounced

_Announcing = dict[tuple[str, Network], set[str]]  # nodes, by peer and prefix


def with_detours(found: Picture) -> Picture:
    """Return `found`, where the refusal of a node that gets such traffic says so."""
    announcing: _Announcing = {}
    for node, routes in found.bgp.items():
        for peer, table in routes.items():
            for prefix in table:
                announcing.setdefault((peer, prefix), set()).add(node)
    lengths = {family: _lengths(announcing, family) for family in (4, 6)}
    rows = (_with_detour(row, found, announcing, lengths[row.ip.version]) for row in found.unannounced)
    return replace(found, unannounced=tuple(rows))


def _lengths(announcing: _Announcing, family: Family) -> list[int]:
    """Of all prefixes, the longest first."""
    return sorted({p.prefixlen for _, p in announcing if p.version == family}, reverse=True)


def _with_detour(
    row: Unannounced, found: Picture, announcing: _Announcing, lengths: list[int]
) -> Unannounced:
    if row.node is None or row.protocol != "bgp" or row.refusal.reason is not Reason.NO_LOCAL_ENDPOINT:
        return row
    for peer, table in found.bgp[row.node].items():
        best = next(_around(row.ip, peer, announcing, lengths), None)
        if best in table:
            services = ", ".join(table[best].services)
            detour = f"its traffic comes there by {best}, announced to {peer} for {services}, and is lost"
            message = f"{row.refusal.message}; {detour}"
            return replace(row, refusal=replace(row.refusal, message=message))
    return row


def _around(ip: Address, peer: str, announcing: _Announcing, lengths: list[int]) -> Iterator[Network]:
    """The prefixes with `ip` that anybody announces to `peer`, the longest first."""
    for length in lengths:
        prefix: Network = ip_network((ip, length), strict=False)
        if (peer, prefix) in announcing:
            yield prefix
