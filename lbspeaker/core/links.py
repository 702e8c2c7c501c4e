"""On which links a service IP is announced.

Named by the advertisement: on those, if they are there. Otherwise on the links whose network the IP is in;
and if it is in the network of none, on every link that can carry announcements.
"""

import hashlib
import re
from collections.abc import Sequence
from ipaddress import IPv4Address

from lbspeaker.model import Address, Link

# Interfaces of containers, overlays and virtual machines: nobody on a segment is behind them.
EXCLUDED = re.compile(
    r"lo$|docker|cbr|br-|dummy|virbr|lxcbr|lxc|veth|cali|tunl|flannel|kube-ipvs|kube-bridge|cni|nodelocaldns"
    r"|vxlan|cilium|ovn|wg|tap|fwbr|fwln|fwpr|gre|sit|ip6tnl"
)


def usable(link: Link) -> bool:
    """Whether ARP can be spoken on it at all."""
    return link.running and link.broadcast and not link.member and len(link.mac) == 6


def addresses_towards(peer: Address, links: Sequence[Link]) -> list[Address]:
    """Return this node's addresses, those on the network of `peer` first; none of containers' networks."""
    own = [
        (peer not in address.network, link.name, address.ip)
        for link in links
        if usable(link) and not EXCLUDED.match(link.name)
        for address in link.addresses
        if not address.ip.is_link_local
    ]
    return [address for _, _, address in sorted(own, key=lambda one: one[:2])]


def router_id(node: str) -> IPv4Address:
    """Return an identifier for a node without any IPv4 address: hardly that of another node (RFC 6286)."""
    return IPv4Address(hashlib.sha256(node.encode()).digest()[:4])


def choose(ip: Address, links: Sequence[Link], interfaces: frozenset[str]) -> tuple[str, ...]:
    """Return the names of the links on which to announce `ip`; empty if there is none."""
    if interfaces:
        return tuple(link.name for link in links if usable(link) and link.name in interfaces)
    eligible = [link for link in links if not EXCLUDED.match(link.name)]
    # A home that is down stays the home: its addresses have no business on another network.
    homes = [link for link in eligible if any(ip in address.network for address in link.addresses)]
    return tuple(link.name for link in homes or eligible if usable(link))
