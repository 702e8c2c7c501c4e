"""Which nodes have a link for an IP, and are heard there."""

from collections.abc import Iterable, Set

from lbspeaker.model import Address, MemberLink, Network, Reason, Refusal, Snapshot

_SHOWN = 8  # names of links


def _loud(snapshot: Snapshot, node: str, links: Iterable[MemberLink]) -> list[MemberLink]:
    """Those on which it says what it decides. All know it of all nodes, so that they change at once."""
    config = snapshot.config
    if not any(policy.dry_run for policy in config.link_policies):
        return list(links)
    labels = snapshot.nodes[node].labels if node in snapshot.nodes else {}
    return [link for link in links if not config.link_policy(labels, link.name).dry_run]


class Reach:
    """Which nodes have a link for an IP, as far as they tell; who tells nothing counts as if it had."""

    def __init__(self, snapshot: Snapshot) -> None:
        by_network: dict[Network, set[str]] = {}
        by_name: dict[str, set[str]] = {}
        self._rehearsing: set[str] = set()
        for node, links in snapshot.links.items():
            loud = _loud(snapshot, node, links)
            if not loud:
                self._rehearsing.add(node)
            for link in loud or links:
                by_name.setdefault(link.name, set()).add(node)
                for network in link.networks:
                    by_network.setdefault(network, set()).add(node)
        self._by_network = by_network
        self._by_name = by_name
        self._all = {node for node, links in snapshot.links.items() if links}
        self._untold = snapshot.nodes.keys() - snapshot.links.keys()
        self._own = snapshot.links.get(snapshot.here, ())
        self._silent = snapshot.silent

    def nodes(self, ip: Address, interfaces: Iterable[str], any_subnet: bool) -> Set[str]:
        """Those with one of the `interfaces`; without any, those near `ip`, or all if nobody is near."""
        if interfaces:
            return self._untold.union(*(self._by_name.get(name, ()) for name in interfaces))
        near = set().union(*(nodes for network, nodes in self._by_network.items() if ip in network))
        return self._untold | (self._all if any_subnet or not near else near)

    def without_rehearsals(self, nodes: Set[str]) -> Set[str]:
        """Those that say what they decide; if all only rehearse (`dryRun`), all."""
        return nodes - self._rehearsing or nodes

    def silent(self, ip: Address, interfaces: Iterable[str], any_subnet: bool) -> frozenset[str]:
        """The members that are not heard on any of the own links for `ip`."""
        if not self._silent:
            return frozenset()
        named = [link for link in self._own if link.name in interfaces]
        near = [link for link in self._own if any(ip in network for network in link.networks)]
        on = named if interfaces else self._own if any_subnet or not near else near
        heard_nowhere = [self._silent.get(link.name, frozenset()) for link in on]
        return frozenset.intersection(*heard_nowhere) if heard_nowhere else frozenset()

    def refusal(self, ip: Address, interfaces: frozenset[str]) -> Refusal:
        """Why no node has a link for `ip`."""
        wanted = f"named {' or '.join(sorted(interfaces))}" if interfaces else f"for {ip}"
        have = ", ".join(sorted(self._by_name)[:_SHOWN]) or "none"
        message = f"no live node has a link {wanted} that is up, and heard by the others (they have: {have})"
        return Refusal(Reason.NO_NODE_LINK, message)

    def lack(self, node: str, ip: Address, interfaces: frozenset[str]) -> Refusal:
        """Why this node has no link for `ip`."""
        have = ", ".join(sorted(n for n, nodes in self._by_name.items() if node in nodes)[:_SHOWN]) or "none"
        wanted = f"is {' or '.join(sorted(interfaces))}" if interfaces else f"is in a network of {ip}"
        return Refusal(Reason.NO_NODE_LINK, f"none of its links {wanted} (it has: {have})")
