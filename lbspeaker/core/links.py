"""On which links a service IP is announced.

Named by the advertisement: on those, if they are there. Otherwise on the links whose network the IP is in;
and if it is in the network of none, on every link that can carry announcements.
"""

import re
from collections.abc import Iterable

from lbspeaker.model import Address, Link

# Interfaces of containers, overlays and virtual machines: nobody on a segment is behind them.
EXCLUDED = re.compile(
    r"lo$|docker|cbr|br-|dummy|virbr|lxcbr|lxc|veth|cali|tunl|flannel|kube-ipvs|kube-bridge|cni|nodelocaldns"
    r"|vxlan|cilium|ovn|wg|tap|fwbr|fwln|fwpr|gre|sit|ip6tnl"
)


def usable(link: Link) -> bool:
    """Whether ARP can be spoken on it at all."""
    return link.running and link.broadcast and not link.member and len(link.mac) == 6


def choose(ip: Address, links: Iterable[Link], interfaces: frozenset[str]) -> tuple[str, ...]:
    """Return the names of the links on which to announce `ip`; empty if there is none."""
    usables = [link for link in links if usable(link)]
    if interfaces:
        return tuple(link.name for link in usables if link.name in interfaces)
    usables = [link for link in usables if not EXCLUDED.match(link.name)]
    inside = [link for link in usables if any(ip in address.network for address in link.addresses)]
    return tuple(link.name for link in inside or usables)
