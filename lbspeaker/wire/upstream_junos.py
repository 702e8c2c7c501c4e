"""The configuration of Junos, as `set` commands. From its documentation, not run.

Several next hops need `multipath` and a policy of the forwarding table; `per-packet` means per flow there.
"""

from lbspeaker.upstream import Neighbor, PrefixList, Upstream
from lbspeaker.wire.upstream import (
    BGP_HOPS,
    GRACEFUL_SHUTDOWN,
    PASSWORD,
    commented,
    far,
    head,
    inbound,
    name,
    outbound,
    own,
)

_INET = {4: "inet", 6: "inet6"}
_ECMP = 16  # next hops that every platform has; more of them must be switched on


def build(up: Upstream) -> str:
    """Return the commands."""
    use = "Load it: load set terminal; then: commit."
    told = ["From the documentation of Junos, not run.", *head(up, "Junos", use)]
    if up.ttl_hops is not None:
        told.append(
            f"It has no ttl-security: a filter on lo0 must drop BGP with a TTL below {256 - up.ttl_hops}."
        )
    if up.paths > _ECMP:
        told.append(f"set chassis maximum-ecmp must allow {up.paths} next hops.")
    lines = [*commented("#", told), *_policies(up)]
    lines.append(f"set routing-options autonomous-system {up.asn:d}")
    lines += [f"set protocols bgp group {own(up)} {each}" for each in _group(up)]
    lines += [_neighbor(up, neighbor) for neighbor in up.neighbors]
    return "\n".join(lines) + "\n"


def _policies(up: Upstream) -> list[str]:
    community = ":".join(map(str, GRACEFUL_SHUTDOWN))
    lines = [
        f"set policy-options community LBS-GSHUT members {community}",
        f"set policy-options policy-statement {inbound(up)} term drain from community LBS-GSHUT",
        f"set policy-options policy-statement {inbound(up)} term drain then local-preference 0",
    ]
    for one in up.prefix_lists:
        lines += _term(f"set policy-options policy-statement {inbound(up)} term {name(one.name)}", one)
    return [
        *lines,
        f"set policy-options policy-statement {inbound(up)} term rest then reject",
        f"set policy-options policy-statement {outbound(up)} then reject",
        "set policy-options policy-statement LBS-ECMP then load-balance per-packet",
        "set routing-options forwarding-table export LBS-ECMP",
    ]


def _term(term: str, one: PrefixList) -> list[str]:
    lines = []
    for accepted in one.entries:
        exact = accepted.length == accepted.network.prefixlen
        how = "exact" if exact else f"prefix-length-range /{accepted.length}-/{accepted.length}"
        lines.append(f"{term} from route-filter {accepted.network} {how}")
    return [*lines, f"{term} then accept"]


def _group(up: Upstream) -> list[str]:
    words = [
        f"type {'internal' if up.ibgp else 'external'}",
        *([] if up.ibgp else [f"peer-as {up.nodes_asn:d}"]),
        "passive",
        f"hold-time {up.hold_time_s:d}",
        f"import {inbound(up)}",
        f"export {outbound(up)}",
        "multipath multiple-as",
        *(f"family {_INET[family]} unicast" for family in up.families),
    ]
    if up.password:
        words.append(f"authentication-key {PASSWORD}")
    if up.multihop or up.ttl_hops is not None:
        words.append(f"multihop ttl {BGP_HOPS}")
    if up.bfd is not None:
        words += [
            f"bfd-liveness-detection minimum-receive-interval {up.bfd.receive_ms:d}",
            f"bfd-liveness-detection transmit-interval minimum-interval {up.bfd.transmit_ms:d}",
            f"bfd-liveness-detection multiplier {up.bfd.multiplier:d}",
            f"bfd-liveness-detection session-mode {'multihop' if far(up) else 'single-hop'}",
        ]
    return words


def _neighbor(up: Upstream, neighbor: Neighbor) -> str:
    where = f"set protocols bgp group {own(up)} neighbor {neighbor.address}"
    return f"{where} description {name(neighbor.label)}"
