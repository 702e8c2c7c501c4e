"""The configuration of MikroTik RouterOS 7.20 and newer, as commands. From its documentation, not run.

A filter chain refuses what none of its rules accepts. A rule without `accept` goes on with the next one.
"""

from lbspeaker.upstream import Neighbor, Upstream
from lbspeaker.wire.upstream import (
    GRACEFUL_SHUTDOWN,
    PASSWORD,
    commented,
    head,
    inbound,
    name,
    outbound,
    own,
    ports,
)

_AFI = {4: "ip", 6: "ipv6"}


def build(up: Upstream) -> str:
    """Return the commands."""
    use = "Paste it into a terminal."
    doubt = "Whether this version shares traffic among several routes, see: /routing/route/print where bgp"
    told = ["From the documentation of RouterOS 7.20, not run.", *head(up, "RouterOS", use), doubt]
    lines = [*commented("#", told), *_filters(up), *_firewall(up)]
    lines.append(f"/routing/bgp/instance/add name={own(up)} as={up.asn:d} multipath={up.paths:d}")
    lines += [_connection(up, neighbor) for neighbor in up.neighbors]
    return "\n".join(lines) + "\n"


def _filters(up: Upstream) -> list[str]:
    community = ":".join(map(str, GRACEFUL_SHUTDOWN))
    rules = [f"if (bgp-communities includes {community}) {{ set bgp-local-pref 0; }}"]
    for one in up.prefix_lists:
        rules += [
            f"if (dst in {accepted.network} && dst-len == {accepted.length:d}) {{ accept; }}"
            for accepted in one.entries
        ]
    lines = [f'/routing/filter/rule/add chain={inbound(up)} rule="{rule}"' for rule in rules]
    return [*lines, f'/routing/filter/rule/add chain={outbound(up)} rule="reject;"']


def _firewall(up: Upstream) -> list[str]:
    where = "/ip" if up.family == 4 else "/ipv6"
    return [
        f"{where}/firewall/filter/add chain=input action=accept protocol={protocol} dst-port={port:d} "
        f"src-address={neighbor.address} place-before=0 comment={name(neighbor.label)}"
        for neighbor in up.neighbors
        for protocol, port in ports(up)
    ]


def _connection(up: Upstream, neighbor: Neighbor) -> str:
    words = [
        f"name={own(up)}-{name(neighbor.label)}",
        f"instance={own(up)}",
        f"remote.address={neighbor.address}",
        f"remote.as={up.nodes_asn:d}",
        f"local.role={'ibgp' if up.ibgp else 'ebgp'}",
        "connect=no listen=yes",
        f"afi={','.join(_AFI[family] for family in up.families)}",
        f"hold-time={up.hold_time_s:d}s keepalive-time={up.keepalive_s:d}s",
        f"input.filter={inbound(up)} output.filter-chain={outbound(up)}",
    ]
    if up.port != 179:
        words.append(f"local.port={up.port:d}")
    if up.password:
        words.append(f"tcp-md5-key={PASSWORD}")
    if up.ttl_hops is not None:
        words.append(f"multihop=yes local.ttl=255 remote.ttl={256 - up.ttl_hops:d}")
    elif up.multihop:
        words.append("multihop=yes")
    if up.bfd is not None:
        words.append("use-bfd=yes")
    return f"/routing/bgp/connection/add {' '.join(words)}"
