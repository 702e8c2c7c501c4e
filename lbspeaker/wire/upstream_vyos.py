"""The configuration of VyOS 1.4: `set` commands for its configuration mode. From its documentation, not run.

FRR is inside, which honours GRACEFUL_SHUTDOWN by itself (RFC 8326 §4.3).
"""

from lbspeaker.upstream import Accepted, Neighbor, Upstream
from lbspeaker.wire.upstream import BGP_HOPS, IP, PASSWORD, commented, head, inbound, name, outbound, own
from lbspeaker.wire.upstream_frr import cautions

_LISTS = {4: "prefix-list", 6: "prefix-list6"}


def build(up: Upstream) -> str:
    """Return the commands."""
    use = "Paste it in configuration mode; then: commit, save."
    told = ["From the documentation of VyOS 1.4, not run.", *head(up, "VyOS", use), *cautions(up)]
    lines = commented("#", told)
    for one in up.prefix_lists:
        for number, accepted in enumerate(one.entries, 1):
            lines += _rule(f"set policy {_LISTS[one.family]} {name(one.name)} rule {10 * number}", accepted)
    for number, one in enumerate(up.prefix_lists, 1):
        rule = f"set policy route-map {inbound(up)} rule {10 * number}"
        match = f"match {IP[one.family]} address prefix-list {name(one.name)}"
        lines += [f"{rule} action permit", f"{rule} {match}"]
    lines.append(f"set policy route-map {outbound(up)} rule 10 action deny")
    if up.bfd is not None:
        profile = f"set protocols bfd profile {own(up)} interval"
        lines += [
            f"{profile} receive {up.bfd.receive_ms:d}",
            f"{profile} transmit {up.bfd.transmit_ms:d}",
            f"{profile} multiplier {up.bfd.multiplier:d}",
        ]
    lines.append(f"set protocols bgp system-as {up.asn:d}")
    kind = "ibgp" if up.ibgp else "ebgp"
    for family in up.families:
        lines.append(
            f"set protocols bgp address-family ipv{family}-unicast maximum-paths {kind} {up.paths:d}"
        )
    for neighbor in up.neighbors:
        lines += _neighbor(up, neighbor)
    return "\n".join(lines) + "\n"


def _rule(rule: str, accepted: Accepted) -> list[str]:
    lines = [f"{rule} action permit", f"{rule} prefix {accepted.network}"]
    if accepted.length != accepted.network.prefixlen:
        lines += [f"{rule} ge {accepted.length:d}", f"{rule} le {accepted.length:d}"]
    return lines


def _neighbor(up: Upstream, neighbor: Neighbor) -> list[str]:
    words = [
        f"remote-as {up.nodes_asn:d}",
        f"description {name(neighbor.label)}",
        "passive",
        f"timers keepalive {up.keepalive_s:d}",
        f"timers holdtime {up.hold_time_s:d}",
    ]
    if up.password:
        words.append(f"password {PASSWORD}")
    if up.ttl_hops is not None:
        words.append(f"ttl-security hops {up.ttl_hops:d}")
    elif up.multihop:
        words.append(f"ebgp-multihop {BGP_HOPS}")
    if up.bfd is not None:
        words.append(f"bfd profile {own(up)}")
    for family in up.families:
        where = f"address-family ipv{family}-unicast route-map"
        words += [f"{where} import {inbound(up)}", f"{where} export {outbound(up)}"]
    return [f"set protocols bgp neighbor {neighbor.address} {each}" for each in words]
