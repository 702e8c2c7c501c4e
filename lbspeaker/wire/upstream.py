"""What the configurations of all routers have in common: comments at the head, names, ports.

Whatever becomes part of a router's configuration is a number, an address, or a `name`. Nothing that a person
may write freely reaches the text.
"""

import re
from collections.abc import Iterable

from lbspeaker.model import Family
from lbspeaker.upstream import Accepted, Upstream

PASSWORD = "REPLACE-WITH-THE-PASSWORD"  # noqa: S105
BGP_HOPS = 255  # what multihop is set to: any distance
BFD_PORTS = {False: 3784, True: 4784}  # RFC 5881 §4, and RFC 5883 §5 over several hops
GRACEFUL_SHUTDOWN = (65535, 0)  # RFC 8326 §4.1
IP: dict[Family, str] = {4: "ip", 6: "ipv6"}  # as FRR and its relatives call the families

_NAME = re.compile(r"[A-Za-z0-9-]{1,63}")


def name(text: str) -> str:
    """Return `text` if a router can have it as a name. Raises ValueError."""
    if not _NAME.fullmatch(text):
        raise ValueError(f"{text!r} is not a name for routers: letters, digits and -")
    return text


def own(up: Upstream) -> str:
    """Return the name of what the router has for this peer alone; other names begin with it."""
    return f"LBS-{name(up.label)}"


def inbound(up: Upstream) -> str:
    """Return the name of the filter for what comes in."""
    return f"{own(up)}-IN"


def outbound(up: Upstream) -> str:
    """Return the name of the filter for what goes out: nothing."""
    return f"{own(up)}-OUT"


def head(up: Upstream, router: str, use: str) -> list[str]:
    """Return the lines to begin with, without the mark of comments: what this is, what to do with it, and
    what it cannot do by itself. `use` says how it is loaded."""
    count = len(up.neighbors)
    nodes = f"{count} node of AS" if count == 1 else f"{count} nodes of AS"
    lines = [
        f"For BGPPeer {name(up.label)}: {router} as AS {up.asn}, with {nodes} {up.nodes_asn}.",
        f"By `lbspeaker upstream config`; when nodes, pools or advertisements change, ask it again. {use}",
    ]
    if up.password:
        lines.append(f"{PASSWORD} stands for the password of the session: see the BGPPeer.")
    lines += up.notes
    return [*lines, *firewall(up)]


def firewall(up: Upstream) -> list[str]:
    """Return what its firewall must let in, for a person."""
    sources = ", ".join(str(neighbor.address) for neighbor in up.neighbors)
    wanted = " and ".join(f"{protocol.upper()} port {port}" for protocol, port in ports(up))
    return [f"Its firewall must let in {wanted} from {sources}."]


def ports(up: Upstream) -> list[tuple[str, int]]:
    """Return what nodes send to the router: ("tcp", 179), with BFD also a UDP port."""
    found = [("tcp", up.port)]
    if up.bfd:
        found.append(("udp", BFD_PORTS[far(up)]))
    return found


def far(up: Upstream) -> bool:
    """Whether nodes may be more than one hop away."""
    return up.multihop or (up.ttl_hops or 1) > 1


def lengths(accepted: Accepted) -> str:
    """Return the lengths after a network, as prefix lists of FRR and its relatives have them."""
    exact = accepted.length == accepted.network.prefixlen
    return "" if exact else f" ge {accepted.length} le {accepted.length}"


def commented(mark: str, lines: Iterable[str]) -> list[str]:
    return [f"{mark} {line}".rstrip() for line in lines]
