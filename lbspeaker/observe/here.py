"""The machine that `lbspeaker doctor` runs on, as evidence: read once, nothing is changed."""

import asyncio
import socket
from collections.abc import Iterable, Iterator, Sequence

from lbspeaker.facts import Here, Listener
from lbspeaker.model import Link, Node
from lbspeaker.shell import links, machine
from lbspeaker.wire import proc_net

_EVERYWHERE = ("net.ipv4.ip_forward", "net.ipv6.conf.all.forwarding", "net.ipv4.ip_local_port_range")
_OF_LINKS = {
    4: ("rp_filter", "arp_ignore", "arp_announce", "forwarding"),
    6: ("disable_ipv6", "forwarding", "accept_ra"),
}
_PROTOCOLS = ("tcp", "tcp6", "udp", "udp6")


def look(name: str, ports: frozenset[int]) -> Here:
    """Return this machine as the node `name`; of sockets, those at `ports`. Raises Unable."""
    return _here(name, own_links(), ports)


def own_links() -> tuple[Link, ...]:
    """Return the links of this machine. Raises Unable."""
    return asyncio.run(links.now())


def which(nodes: Iterable[Node], own: Sequence[Link]) -> str:
    """Return the node that this machine is: the one that has an address of its; "" if there is none.

    The name of the host is no sign: a laptop may have that of a node, and never has its address.
    """
    here = {address.ip for link in own for address in link.addresses if not address.ip.is_loopback}
    return next((node.name for node in nodes if here & set(node.addresses)), "")


def hostname() -> str:
    return socket.gethostname()


def _here(name: str, own: tuple[Link, ...], ports: frozenset[int]) -> Here:
    wires = machine.wires()
    return Here(
        name,
        own,
        machine.settings(_names(own)),
        tuple(_listeners(ports)),
        wires.leased,
        machine.wireless(link.name for link in own),
        wires.bridges,
        wires.bridge_ports,
        wires.bonds,
        machine.firmware(),
    )


def _names(own: Sequence[Link]) -> Iterator[str]:
    yield from _EVERYWHERE
    for link in ("all", *(link.name for link in own)):
        for family, settings in _OF_LINKS.items():
            for setting in settings:
                yield f"net.ipv{family}.conf.{link}.{setting}"


def _listeners(ports: frozenset[int]) -> Iterator[Listener]:
    found = [
        (protocol.rstrip("6"), bound)
        for protocol in _PROTOCOLS
        for bound in proc_net.listening(protocol, machine.sockets(protocol))
        if bound.port in ports
    ]
    whose = machine.programs(frozenset(bound.inode for _, bound in found))
    for protocol, bound in found:
        yield Listener(protocol, bound.address, bound.port, whose.get(bound.inode, ""))
