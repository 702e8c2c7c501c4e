"""The configuration of BIRD 2.

A whole file, which BIRD takes as it is. Who has a configuration already leaves out what it has: its own
`protocol device`, and the `protocol kernel` of a table, of which there can be one only.

BIRD takes nothing from an eBGP neighbour without filters (RFC 8212), gives the kernel one next hop unless
`merge paths` is on, and does nothing about GRACEFUL_SHUTDOWN (RFC 8326) unless a filter does.
"""

from lbspeaker.upstream import Accepted, Neighbor, Upstream
from lbspeaker.wire.upstream import BGP_HOPS, GRACEFUL_SHUTDOWN, PASSWORD, commented, far, head, name

_BFD_TTL = 64  # what the kernel gives
_PREFERENCE = "  if ({}, {}) ~ bgp_community then bgp_local_pref = 0;".format(*GRACEFUL_SHUTDOWN)


def build(up: Upstream) -> str:
    """Return the text of the configuration."""
    use = "A whole bird.conf; leave out what yours has already (protocol device, kernel, bfd)."
    lines = commented("#", [*head(up, "BIRD 2", use), *_cautions(up)])
    lines += ["protocol device { }"]
    if _looks_up(up):
        lines.append("protocol direct { ipv4; ipv6; }")
    if up.bfd is not None:
        lines.append("protocol bfd { }")
    for family in up.families:
        lines += [*_kernel(up, family), *_filter(up, family)]
    for neighbor in up.neighbors:
        lines += _neighbor(up, neighbor)
    return "\n".join(lines) + "\n"


def _cautions(up: Upstream) -> list[str]:
    if up.bfd is None or not far(up) or up.bfd.minimum_ttl <= _BFD_TTL:
        return []
    return [
        f"It sends BFD over several hops with a TTL of {_BFD_TTL}: minimumTtl of the BFDProfile is too high."
    ]


def _symbol(text: str) -> str:
    """BIRD has no - in its names."""
    return name(text).replace("-", "_")


def _filter_name(up: Upstream, family: int) -> str:
    return f"lbs_{_symbol(up.label)}_v{family}"


def _looks_up(up: Upstream) -> bool:
    """Whether next hops are looked up in its table, so that links and routes of the kernel must be there."""
    return up.ibgp or up.multihop or far(up)


def _kernel(up: Upstream, family: int) -> list[str]:
    imported = "all" if _looks_up(up) else "none"
    return [
        f"protocol kernel lbs_kernel{family} {{",
        *(["  learn;"] if _looks_up(up) else []),
        f"  ipv{family} {{ import {imported}; export where source = RTS_BGP; }};",
        f"  merge paths on limit {up.paths:d};",
        "}",
    ]


def _filter(up: Upstream, family: int) -> list[str]:
    lines = [f"filter {_filter_name(up, family)} {{", _PREFERENCE]
    for one in up.prefix_lists:
        if one.family == family:
            inner = ", ".join(_pattern(accepted) for accepted in one.entries)
            lines.append(f"  if net ~ [ {inner} ] then accept;  # pool {name(one.label)}")
    return [*lines, "  reject;", "}"]


def _pattern(accepted: Accepted) -> str:
    return f"{accepted.network}{{{accepted.length:d},{accepted.length:d}}}"


def _neighbor(up: Upstream, neighbor: Neighbor) -> list[str]:
    lines = [
        f"protocol bgp lbs_{_symbol(up.label)}_{_symbol(neighbor.label)} {{",
        f'  description "{name(neighbor.label)}";',
        f"  local {f'port {up.port:d} ' if up.port != 179 else ''}as {up.asn:d};",
        f"  neighbor {neighbor.address} as {up.nodes_asn:d};",
        "  passive on;",
        f"  hold time {up.hold_time_s:d};",
        "  error wait time 1, 10;  # else a mistake that was mended looks broken for minutes",
    ]
    if up.keepalive_s:
        lines.insert(-1, f"  keepalive time {up.keepalive_s:d};")
    if up.password:
        lines.append(f'  password "{PASSWORD}";')
    if up.multihop or far(up):
        lines.append(f"  multihop {up.ttl_hops or BGP_HOPS:d};")
    if up.ttl_hops is not None:
        lines.append("  ttl security on;")
    if up.bfd is not None:
        lines += [
            "  bfd {",
            f"    min rx interval {up.bfd.receive_ms:d} ms;",
            f"    min tx interval {up.bfd.transmit_ms:d} ms;",
            f"    multiplier {up.bfd.multiplier:d};",
            "  };",
        ]
    lines += [
        f"  ipv{family} {{ import filter {_filter_name(up, family)}; export none; }};"
        for family in up.families
    ]
    return [*lines, "}"]
