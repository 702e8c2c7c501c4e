"""The table and the kernel's routes of a router that is ExaBGP, which by itself has neither.

ExaBGP runs this as its helper: events come in as JSON lines; routes go to the kernel through one `ip -batch`
that stays open, and the table goes to a file. A peer whose session ends takes its routes with it (RFC 4271
§8.2.2: all that was learned from it is deleted).

    python -m lbspeaker.lab.exarouter TABLE.json NETWORK…
"""

import os
import select
import subprocess
import sys
from collections.abc import Iterable, Iterator, Sequence
from ipaddress import IPv4Network, ip_address, ip_network
from pathlib import Path

import msgspec

from lbspeaker.lab.routers import MULTIPATH, Table
from lbspeaker.model import Network


class _Nlri(msgspec.Struct):
    nlri: str


class _Update(msgspec.Struct):
    announce: dict[str, dict[str, list[_Nlri]]] = {}
    withdraw: dict[str, list[_Nlri]] = {}


class _Message(msgspec.Struct):
    update: _Update = msgspec.field(default_factory=_Update)


class _Address(msgspec.Struct):
    peer: str


class _Neighbor(msgspec.Struct):
    address: _Address
    state: str = ""
    message: _Message = msgspec.field(default_factory=_Message)


class _Event(msgspec.Struct):
    type: str
    neighbor: _Neighbor | None = None


_DECODER = msgspec.json.Decoder(_Event)


class RoutingTable:
    """Who announces what, and which next hops follow: routes of all peers are equally good."""

    def __init__(self, networks: Sequence[Network]) -> None:
        self._networks = networks
        self._routes: dict[str, dict[str, str]] = {}  # prefix → peer → next hop

    def learn(self, line: str) -> set[str]:
        """Take one line of ExaBGP; return the prefixes that it changed."""
        if not line.startswith("{"):
            return set()
        event = _DECODER.decode(line)
        if event.neighbor is None:
            return set()
        peer = event.neighbor.address.peer
        if event.type == "state" and event.neighbor.state == "down":
            return self._withdraw(peer, list(self._routes))
        update = event.neighbor.message.update
        changed = self._withdraw(peer, [n.nlri for listed in update.withdraw.values() for n in listed])
        for hops in update.announce.values():
            for hop, listed in hops.items():
                changed |= self._announce(peer, hop, [n.nlri for n in listed])
        return changed

    def next_hops(self, prefix: str) -> list[str]:
        hops = set(self._routes.get(prefix, {}).values())
        return sorted(hops, key=lambda hop: int(ip_address(hop)))[:MULTIPATH]

    def table(self) -> Table:
        return {prefix: self.next_hops(prefix) for prefix in sorted(self._routes)}

    def _announce(self, peer: str, hop: str, prefixes: Iterable[str]) -> set[str]:
        accepted = {prefix for prefix in prefixes if self._accepts(ip_network(prefix))}
        for prefix in accepted:
            self._routes.setdefault(prefix, {})[peer] = hop
        return accepted

    def _withdraw(self, peer: str, prefixes: Iterable[str]) -> set[str]:
        changed = {prefix for prefix in prefixes if self._routes.get(prefix, {}).pop(peer, None)}
        for prefix in changed:
            if not self._routes[prefix]:
                del self._routes[prefix]
        return changed

    def _accepts(self, prefix: Network) -> bool:
        return any(_is_within(prefix, network) for network in self._networks)


def _is_within(prefix: Network, network: Network) -> bool:
    if isinstance(prefix, IPv4Network):
        return isinstance(network, IPv4Network) and prefix.subnet_of(network)
    return not isinstance(network, IPv4Network) and prefix.subnet_of(network)


def kernel_line(prefix: str, hops: Sequence[str]) -> str:
    """Return the line of `ip` that makes the kernel's route to `prefix` follow these next hops."""
    if not hops:
        return f"route delete {prefix} proto bgp"
    return f"route replace {prefix} proto bgp " + " ".join(f"nexthop via {hop}" for hop in hops)


def _lines() -> Iterator[list[str]]:
    """Everything that ExaBGP has said since the last time, at once; ends when ExaBGP does."""
    rest = b""
    while True:
        select.select([0], [], [])
        chunk = os.read(0, 1 << 20)
        if not chunk:
            return
        *complete, rest = (rest + chunk).split(b"\n")
        yield [line.decode() for line in complete]


def main() -> None:
    """Follow ExaBGP's events on standard input until it ends."""
    file, networks = Path(sys.argv[1]), [ip_network(text) for text in sys.argv[2:]]
    routes = RoutingTable(networks)
    kernel = subprocess.Popen(["ip", "-force", "-batch", "-"], stdin=subprocess.PIPE, text=True)
    if kernel.stdin is None:
        raise AssertionError("it was asked for a pipe")
    for lines in _lines():
        changed = set().union(*(routes.learn(line.strip()) for line in lines))
        if not changed:
            continue
        for prefix in sorted(changed):
            kernel.stdin.write(kernel_line(prefix, routes.next_hops(prefix)) + "\n")
        kernel.stdin.flush()
        fresh = file.with_suffix(".new")
        fresh.write_bytes(msgspec.json.encode(routes.table()))
        fresh.replace(file)


if __name__ == "__main__":
    main()
