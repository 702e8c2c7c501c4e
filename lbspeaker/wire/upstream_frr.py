"""The configuration of FRR (8 and newer).

`vtysh -f FILE` adds it to what runs, and changes nothing of other neighbours. Neighbours are passive: nodes
dial, and never listen. FRR itself makes a route with GRACEFUL_SHUTDOWN the last choice (RFC 8326 §4.3).
"""

from lbspeaker.upstream import Neighbor, Upstream
from lbspeaker.wire.upstream import (
    BGP_HOPS,
    IP,
    PASSWORD,
    commented,
    far,
    head,
    inbound,
    lengths,
    name,
    outbound,
    own,
)


def build(up: Upstream) -> str:
    """Return the text of the configuration."""
    use = "Load it: vtysh -f FILE; keep it: vtysh -c 'write memory'."
    lines = commented("!", [*head(up, "FRR", use), *cautions(up)])
    lines += [*_lists(up), *_maps(up), *_bfd(up), f"router bgp {up.asn:d}"]
    for neighbor in up.neighbors:
        lines += _neighbor(up, neighbor)
    for family in (4, 6):
        lines += _family(up, family)
    return "\n".join([*lines, "exit", ""])


def cautions(up: Upstream) -> list[str]:
    """Return what it does in its own way."""
    if up.bfd is None or up.ttl_hops is None or far(up):
        return []
    return ["With ttl-security its BFD is that of several hops, and the nodes' is not: use one of the two."]


def _lists(up: Upstream) -> list[str]:
    return [
        f"{IP[one.family]} prefix-list {name(one.name)} seq {5 * number} "
        f"permit {accepted.network}{lengths(accepted)}"
        for one in up.prefix_lists
        for number, accepted in enumerate(one.entries, 1)
    ]


def _maps(up: Upstream) -> list[str]:
    lines = []
    for number, one in enumerate(up.prefix_lists, 1):
        lines += [
            f"route-map {inbound(up)} permit {10 * number}",
            f" match {IP[one.family]} address prefix-list {name(one.name)}",
            "exit",
        ]
    return [*lines, f"route-map {outbound(up)} deny 10", "exit"]


def _bfd(up: Upstream) -> list[str]:
    if up.bfd is None:
        return []
    return [
        "bfd",
        f" profile {own(up)}",
        f"  receive-interval {up.bfd.receive_ms:d}",
        f"  transmit-interval {up.bfd.transmit_ms:d}",
        f"  detect-multiplier {up.bfd.multiplier:d}",
        " exit",
        "exit",
    ]


def _neighbor(up: Upstream, neighbor: Neighbor) -> list[str]:
    words = [
        f"remote-as {up.nodes_asn:d}",
        f"description {name(neighbor.label)}",
        "passive",
        f"timers {up.keepalive_s:d} {up.hold_time_s:d}",
    ]
    if up.password:
        words.append(f"password {PASSWORD}")
    if up.ttl_hops is not None:
        words.append(f"ttl-security hops {up.ttl_hops:d}")
    elif up.multihop:
        words.append(f"ebgp-multihop {BGP_HOPS}")
    if up.bfd is not None:
        words += ["bfd", f"bfd profile {own(up)}"]
    return [f" neighbor {neighbor.address} {each}" for each in words]


def _family(up: Upstream, family: int) -> list[str]:
    """IPv4 unicast is active by itself, so a session that does not carry it must say so."""
    if family not in up.families:
        if family == 6:
            return []
        words = [f"  no neighbor {neighbor.address} activate" for neighbor in up.neighbors]
    else:
        words = []
        for neighbor in up.neighbors:
            words += [
                f"  neighbor {neighbor.address} activate",
                f"  neighbor {neighbor.address} route-map {inbound(up)} in",
                f"  neighbor {neighbor.address} route-map {outbound(up)} out",
            ]
        words.append(f"  maximum-paths {'ibgp ' if up.ibgp else ''}{up.paths:d}")
    return [f" address-family ipv{family} unicast", *words, " exit-address-family"]
