"""The configuration of Cisco IOS and IOS XE. From its documentation, not run.

The default of `maximum-paths` is 1. NX-OS and IOS XR have other words for the same.
"""

from lbspeaker.upstream import Accepted, Neighbor, Upstream
from lbspeaker.wire.upstream import (
    BGP_HOPS,
    GRACEFUL_SHUTDOWN,
    IP,
    PASSWORD,
    commented,
    far,
    head,
    inbound,
    name,
    outbound,
)

_COMMUNITY = GRACEFUL_SHUTDOWN[0] << 16 | GRACEFUL_SHUTDOWN[1]  # understood in every format of communities


def build(up: Upstream) -> str:
    """Return the commands for configuration mode."""
    use = "Paste it in configuration mode; keep it: write memory."
    told = ["From the documentation of IOS XE, not run; NX-OS and IOS XR differ.", *head(up, "IOS", use)]
    lines = [*commented("!", told), f"ip community-list standard LBS-GSHUT permit {_COMMUNITY}"]
    for one in up.prefix_lists:
        lines += [
            f"{IP[one.family]} prefix-list {name(one.name)} seq {5 * number} permit {_matched(accepted)}"
            for number, accepted in enumerate(one.entries, 1)
        ]
    lines += [*_maps(up), f"router bgp {up.asn:d}"]
    for neighbor in up.neighbors:
        lines += _neighbor(up, neighbor)
    for family in (4, 6):
        lines += _family(up, family)
    return "\n".join([*lines, "end", ""])


def _matched(accepted: Accepted) -> str:
    """`ge` alone means up to the longest there is."""
    network, length = accepted.network, accepted.length
    if length == network.prefixlen:
        return str(network)
    return f"{network} ge {length:d}" + ("" if length == network.max_prefixlen else f" le {length:d}")


def _maps(up: Upstream) -> list[str]:
    """Each list twice: routes of nodes that are about to go are the last choice (RFC 8326 §4.3)."""
    lines = []
    for number, one in enumerate(up.prefix_lists):
        match = f" match {IP[one.family]} address prefix-list {name(one.name)}"
        lines += [
            f"route-map {inbound(up)} permit {20 * number + 10}",
            match,
            " match community LBS-GSHUT",
            " set local-preference 0",
            f"route-map {inbound(up)} permit {20 * number + 20}",
            match,
        ]
    return [*lines, f"route-map {outbound(up)} deny 10"]


def _neighbor(up: Upstream, neighbor: Neighbor) -> list[str]:
    words = [
        f"remote-as {up.nodes_asn:d}",
        f"description {name(neighbor.label)}",
        "transport connection-mode passive",
        f"timers {up.keepalive_s:d} {up.hold_time_s:d}",
    ]
    if up.password:
        words.append(f"password {PASSWORD}")
    if up.ttl_hops is not None:
        words.append(f"ttl-security hops {up.ttl_hops:d}")
    elif up.multihop:
        words.append(f"ebgp-multihop {BGP_HOPS}")
    if up.bfd is not None:
        words.append(f"fall-over bfd{' multi-hop' if far(up) else ''}")
    return [f" neighbor {neighbor.address} {each}" for each in words]


def _family(up: Upstream, family: int) -> list[str]:
    if family not in up.families:
        words = [f"  no neighbor {neighbor.address} activate" for neighbor in up.neighbors]
        return [" address-family ipv4", *words, " exit-address-family"] if family == 4 else []
    lines = [f" address-family {'ipv4' if family == 4 else 'ipv6'}"]
    for neighbor in up.neighbors:
        lines += [
            f"  neighbor {neighbor.address} activate",
            f"  neighbor {neighbor.address} route-map {inbound(up)} in",
            f"  neighbor {neighbor.address} route-map {outbound(up)} out",
        ]
    lines.append(f"  maximum-paths {'ibgp ' if up.ibgp else ''}{up.paths:d}")
    return [*lines, " exit-address-family"]
