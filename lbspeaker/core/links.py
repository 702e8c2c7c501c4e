"""On which links a service IP is announced.

Named by the advertisement: on those, if they are there. Otherwise on the links whose network the IP is in;
and if it is in the network of none, or any subnet will do, on every eligible link: one that can carry
announcements, and has a segment behind it on which nobody else of this machine speaks.
"""

import hashlib
import re
from collections.abc import Sequence
from ipaddress import IPv4Address

from lbspeaker.model import Address, Family, Interface, Link, MemberLink, Network

# Interfaces of containers, overlays and virtual machines: nobody on a segment is behind them.
EXCLUDED = re.compile(
    r"lo$|docker|cbr|br-|dummy|virbr|lxcbr|lxc|veth|cali|tunl|flannel|kube-ipvs|kube-bridge|cni|nodelocaldns"
    r"|vxlan|cilium|ovn|wg|tap|fwbr|fwln|fwpr|gre|sit|ip6tnl"
)
# The same by kind, whatever their names: tunnels to other nodes, and what leads nowhere.
EXCLUDED_KINDS = {"vxlan", "geneve", "wireguard", "tun", "ipip", "sit", "gre", "gretap", "dummy"}
# These are on the segment of their parent: both would answer there, most with different MACs.
SAME_SEGMENT_KINDS = {"macvlan", "macvtap", "ipvlan"}


def usable(link: Link) -> bool:
    """Whether ARP can be spoken on it at all."""
    return link.running and link.broadcast and not link.member and len(link.mac) == 6


def addresses_towards(peer: Address, links: Sequence[Link]) -> dict[Family, Address]:
    """Return this node's address of each family: in the network of `peer`, else on its link, else another.

    None of containers' networks, and none that may be somebody else's. One without a network around it may
    be another node's in a moment: only where there is no other.
    """
    own = [
        (peer not in address.network, not is_near(peer, [link]), _is_alone(address), link.name, address.ip)
        for link in links
        if usable(link) and not EXCLUDED.match(link.name)
        for address in link.addresses
        if not address.ip.is_link_local and address.ip not in link.unchecked
    ]
    found: dict[Family, Address] = {}
    for *_, address in sorted(own, key=lambda one: one[:4]):
        found.setdefault(address.version, address)
    return found


def _is_alone(address: Interface) -> bool:
    return address.network.prefixlen == address.max_prefixlen


def default_gateway(links: Sequence[Link]) -> IPv4Address | None:
    """Return that of the first link by name that has one."""
    by_name = sorted(links, key=lambda link: link.name)
    return next((link.gateway for link in by_name if link.gateway and usable(link)), None)


def is_near(peer: Address, links: Sequence[Link]) -> bool:
    """Whether `peer` is in the network of a link, so that nobody forwards what goes there."""
    return peer.is_link_local or any(peer in own.network for link in links for own in link.addresses)


def router_id(node: str) -> IPv4Address:
    """Return an identifier for a node without any IPv4 address: hardly that of another node (RFC 6286)."""
    return IPv4Address(hashlib.sha256(node.encode()).digest()[:4])


def eligible(links: Sequence[Link]) -> list[Link]:
    """Return the links that carry announcements where nobody names any."""
    return [link for link in _by_default(links) if usable(link)]


def choose(
    ip: Address, links: Sequence[Link], interfaces: frozenset[str], any_subnet: bool = False
) -> tuple[str, ...]:
    """Return the names of the links on which to announce `ip`; empty if there is none."""
    if interfaces:
        return tuple(link.name for link in links if usable(link) and link.name in interfaces)
    candidates = _by_default(links)
    # A home that is down stays the home: its addresses have no business on another network.
    homes = [link for link in candidates if any(ip in address.network for address in link.addresses)]
    found = candidates if any_subnet or not homes else homes
    return tuple(link.name for link in found if usable(link))


def member_links(links: Sequence[Link], named: frozenset[str] = frozenset()) -> tuple[MemberLink, ...]:
    """Return what a speaker tells the others of its links: the eligible ones, with their networks.

    `named`: those that some advertisement names; where they are not eligible by themselves, their networks
    count for nothing.
    """
    good = eligible(links)
    told = [MemberLink(link.name, link.mac, _networks(link)) for link in good]
    others = [link for link in links if usable(link) and link.name in named and link not in good]
    return (*told, *(MemberLink(link.name, link.mac) for link in others))


def _by_default(links: Sequence[Link]) -> list[Link]:
    """The links that neither name, kind nor place excludes, be they usable now or not."""
    parents = {link.index for link in links if usable(link)}
    return [
        link
        for link in links
        if not EXCLUDED.match(link.name)
        and link.kind not in EXCLUDED_KINDS
        and not (link.kind in SAME_SEGMENT_KINDS and link.parent in parents)
    ]


def _networks(link: Link) -> tuple[Network, ...]:
    """The networks that it reaches directly: those of a single address, of which there may be many, last."""
    networks = {address.network for address in link.addresses}
    shared = (network for network in networks if network.version == 4 or not network.is_link_local)
    return tuple(sorted(shared, key=lambda one: (one.prefixlen == one.max_prefixlen, one.version, one)))
