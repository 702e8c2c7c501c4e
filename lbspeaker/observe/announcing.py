"""Which nodes announce what by BGP: those that should, and of them those whose routers are told."""

from collections.abc import Set
from dataclasses import dataclass
from ipaddress import ip_network

from lbspeaker.core.announce import Outline, Told
from lbspeaker.model import Address
from lbspeaker.observe.look import Look


@dataclass(frozen=True, slots=True)
class Nodes:
    """How many nodes should announce something; which do; and who says why a route is not sent, and what."""

    should: int = 0
    do: tuple[str, ...] = ()
    unsent: str = ""


class Announcing:
    """What should be was decided; speakers say which sessions they have, and which routes are not sent."""

    def __init__(self, decided: Outline, look: Look) -> None:
        self._told = decided.bgp
        self._without = {
            (node, peer.name)
            for node in look.speakers
            for peer in look.snapshot.config.peers
            if look.without_session(node, peer.name)
        }
        self._unsent = look.unsent()
        self._lengths = {prefix.prefixlen for routes in self._unsent.values() for prefix in routes}
        self._counted: dict[int, Nodes] = {}  # by identity: very many have the same

    def of(self, service: str, ip: Address) -> Nodes:
        """Who announces this IP for the sake of this Service ("namespace/name")."""
        told = self._told.get((service, ip.version), {})
        missing = self._missing(ip)
        if missing:
            found = self._count(told, missing.keys())
            whys = [why for (node, peer), why in missing.items() if peer in told.get(node, ())]
            return Nodes(found.should, found.do, whys[0] if whys else "")
        if id(told) not in self._counted:
            self._counted[id(told)] = self._count(told, frozenset())
        return self._counted[id(told)]

    def _missing(self, ip: Address) -> dict[tuple[str, str], str]:
        """The nodes and peers between which the route to this IP is not sent though there is a session."""
        lengths = [length for length in self._lengths if length <= ip.max_prefixlen]
        around = [ip_network((ip, length), strict=False) for length in lengths]
        return {
            where: routes[prefix]
            for where, routes in self._unsent.items()
            for prefix in around
            if prefix in routes
        }

    def _count(self, told: Told, missing: Set[tuple[str, str]]) -> Nodes:
        def sent(node: str, peer: str) -> bool:
            return (node, peer) not in self._without and (node, peer) not in missing

        do = (node for node, peers in told.items() if any(sent(node, peer) for peer in peers))
        return Nodes(len(told), tuple(sorted(do)))
