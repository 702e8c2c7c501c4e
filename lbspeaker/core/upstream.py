"""What the router behind a BGPPeer must have: its neighbours, and the routes that it must take from them.

    configuration, Nodes, what Services hold ──▶ upstream() ──▶ Upstream ──▶ text for a router (wire)
                                             ──▶ expected() ──▶ the routes that it should be told

A router takes exactly what may be announced: addresses of the pools, as long as their advertisements make
them. What is announced and taken by nobody is the commonest reason for a router that has no route.
"""

import hashlib
import re
from collections.abc import Iterable, Sequence
from dataclasses import replace
from ipaddress import collapse_addresses, summarize_address_range

from lbspeaker.core.allocator import allocate, ours
from lbspeaker.core.announce import bgp, peers_of
from lbspeaker.core.nodes import holders
from lbspeaker.core.services import with_allocation
from lbspeaker.errors import Unable
from lbspeaker.model import (
    Address,
    Allocation,
    BGPAdvertisement,
    Config,
    Family,
    Network,
    Node,
    Peer,
    Pool,
    Range,
    Route,
    Service,
    Snapshot,
    address,
)
from lbspeaker.upstream import Accepted, Expected, Neighbor, PrefixList, Upstream

_FAMILIES: tuple[Family, ...] = (4, 6)
_LONGEST = 20  # of a part of a name; two of them, and what marks them, are the 63 that routers take


def label(text: str, longest: int = _LONGEST) -> str:
    """Return `text` as routers can have it in a name: [A-Za-z0-9-], and no two texts alike."""
    plain = re.sub(r"[^A-Za-z0-9-]+", "-", text)[:longest].strip("-")
    if plain and plain == text:
        return plain
    return f"{plain}-{hashlib.sha256(text.encode()).hexdigest()[:6]}".strip("-")


def upstream(snapshot: Snapshot, peer: Peer) -> Upstream:
    """Return what the router behind `peer` must have.

    Raises Unable if no node has a session with it, the address of no such node is known, or nothing is
    announced to it.
    """
    nodes = _nodes(snapshot, peer)
    family = _family(peer)
    neighbors = _neighbors(nodes, peer, family)
    lists = _lists(snapshot, peer, nodes)
    if not neighbors:
        names = ", ".join(node.name for node in nodes)
        hint = "give the Nodes as the cluster has them: kubectl get nodes -o yaml"
        raise Unable(f"no IPv{family} address of {names} is known (status.addresses)", hint)
    if not lists:
        what = f"nothing is announced to BGPPeer {peer.name}: no BGPAdvertisement selects it, or no pool"
        raise Unable(what, "lbspeaker plan says what would be announced")
    return Upstream(
        peer=peer.name,
        label=label(peer.name),
        asn=peer.peer_asn,
        nodes_asn=peer.my_asn,
        address=peer.address,
        port=peer.port,
        neighbors=tuple(neighbors),
        prefix_lists=tuple(lists),
        families=tuple(f for f in _FAMILIES if any(one.family == f for one in lists)),
        hold_time_s=peer.hold_time_s,
        password=_password(peer),
        multihop=peer.ebgp_multihop,
        ttl_hops=peer.ttl_hops,
        graceful_restart_s=peer.graceful_restart_s,
        bfd=peer.bfd,
        notes=tuple(_notes(peer, nodes, neighbors, lists)),
    )


def expected(snapshot: Snapshot, peer: str, load_balancer_class: str | None = None) -> Expected:
    """Return the routes that the nodes announce to `peer`, by prefix and node.

    Services have the IPs that their status says. Where none says any, as in files that no cluster has seen,
    they have those that a plan gives them. Nodes that are not ready are not waited for.
    """
    services = [s for s in snapshot.services.values() if ours(s, load_balancer_class)]
    if not any(service.held for service in services):
        services = _planned(snapshot, services)
    there = frozenset(name for name, node in snapshot.nodes.items() if node.ready)
    world = replace(
        snapshot, services={s.key: s for s in services}, members=snapshot.members & there or there
    )
    found: dict[Network, dict[str, Route]] = {}
    held = holders(services)
    for node in sorted(world.nodes):
        for prefix, planned in bgp(world, held, node)[0].get(peer, {}).items():
            found.setdefault(prefix, {})[node] = planned.route
    return found


def _planned(snapshot: Snapshot, services: Sequence[Service]) -> list[Service]:
    results = allocate(snapshot.config.pools, services, snapshot.namespaces)
    return [
        with_allocation(s, result if isinstance(result := results[s.key], Allocation) else None)
        for s in services
    ]


# --- who talks to it ------------------------------------------------------------------------------------


def _nodes(snapshot: Snapshot, peer: Peer) -> list[Node]:
    nodes = [snapshot.nodes[name] for name in sorted(snapshot.nodes)]
    if not nodes:
        hint = "give them, too: kubectl get nodes -o yaml | lbspeaker upstream … - pools.yaml"
        raise Unable("there is no Node in these documents, and each one is a neighbour of the router", hint)
    chosen = [node for node in nodes if peer in peers_of(snapshot.config, node.labels)]
    if not chosen:
        raise Unable(
            f"nodeSelectors of BGPPeer {peer.name} select no Node", "look at the labels of the Nodes"
        )
    return chosen


def _family(peer: Peer) -> Family:
    """That of the session; the default gateway that is meant by `auto` is one of IPv4."""
    return 4 if peer.address is None else peer.address.version


def _neighbors(nodes: Iterable[Node], peer: Peer, family: Family) -> list[Neighbor]:
    found = []
    for node in nodes:
        dialing = _dialing(node, peer, family)
        if dialing is not None:
            found.append(Neighbor(node.name, label(node.name), dialing))
    return found


def _dialing(node: Node, peer: Peer, family: Family) -> Address | None:
    """The address from which the node dials: of several, the one that is most like the router's."""
    own = [one for one in node.addresses if one.version == family]
    if peer.source_address is not None:
        return peer.source_address if peer.source_address in own else None
    if peer.address is None:
        return own[0] if own else None
    router = int(peer.address)
    return min(own, key=lambda one: (int(one) ^ router).bit_length(), default=None)


# --- what it must take ----------------------------------------------------------------------------------


def _lists(snapshot: Snapshot, peer: Peer, nodes: Sequence[Node]) -> list[PrefixList]:
    """One for each pool and family of which something can be announced to the peer."""
    ads = [
        ad
        for ad in snapshot.config.bgp_advertisements
        if (not ad.peers or peer.name in ad.peers) and any(ad.scope.covers_node(n.labels) for n in nodes)
    ]
    kept = _kept(snapshot.config, snapshot.services.values())
    found = []
    for pool in snapshot.config.pools:
        about = [ad for ad in ads if ad.scope.covers_pool(pool)]
        for family in _FAMILIES:
            ranges = [r for r in (*pool.ranges, *kept.get(pool.name, ())) if r.family == family]
            entries = _entries(ranges, about, family)
            if entries:
                name = f"LBS-{label(peer.name)}-V{family}-{label(pool.name)}"
                found.append(PrefixList(name, label(pool.name), family, entries))
    return found


def _kept(config: Config, services: Iterable[Service]) -> dict[str, list[Range]]:
    """IPs that Services keep from a pool that does not contain them any more."""
    found: dict[str, list[Range]] = {}
    for service in services:
        for ip in service.held:
            pool: Pool | None = config.pool_for(service, ip)
            if pool is not None and ip not in pool:
                found.setdefault(pool.name, []).append(Range(ip, ip))
    return found


def _entries(
    ranges: Sequence[Range], ads: Iterable[BGPAdvertisement], family: Family
) -> tuple[Accepted, ...]:
    """The networks that hold what `ranges` become when they are announced, and nothing beside it."""
    entries = []
    for length in sorted({ad.length(family) for ad in ads}):
        networks: list[Network] = []
        for one in ranges:
            networks += _cover(one, length)
        entries += [Accepted(network, length) for network in collapse_addresses(networks)]  # type: ignore[type-var]
    return tuple(entries)


def _cover(one: Range, length: int) -> Iterable[Network]:
    """The fewest networks that consist of all networks of `length` in which `one` has addresses."""
    bits = one.first.max_prefixlen - length
    first = address(one.family, int(one.first) >> bits << bits)
    last = address(one.family, int(one.last) | ((1 << bits) - 1))
    return summarize_address_range(first, last)


# --- what else there is to say --------------------------------------------------------------------------


def _password(peer: Peer) -> str:
    if peer.password_secret is not None:
        return f"key password of Secret {peer.password_secret}"
    return f"spec.password of BGPPeer {peer.name}" if peer.password is not None else ""


def _notes(
    peer: Peer, nodes: Sequence[Node], neighbors: Sequence[Neighbor], lists: Sequence[PrefixList]
) -> list[str]:
    family = _family(peer)
    known = {neighbor.node: neighbor.address for neighbor in neighbors}
    notes = []
    if missing := ", ".join(label(node.name) for node in nodes if node.name not in known):
        whose = (
            f"the sourceAddress {peer.source_address}" if peer.source_address else f"an IPv{family} address"
        )
        notes.append(f"left out, because {whose} is not known of them: {missing}")
    for node in nodes:
        if node.name in known and sum(one.version == family for one in node.addresses) > 1:
            taken = "the nearest to the router" if peer.address else "the first one"
            notes.append(
                f"{label(node.name)} has several IPv{family} addresses; {known[node.name]} is {taken}"
            )
    if peer.address is None:
        notes.append("nodes dial their default gateway: a router needs only those whose gateway it is")
    for other in {one.family for one in lists} - {family}:
        lacking = [label(n.name) for n in nodes if not any(one.version == other for one in n.addresses)]
        if lacking:
            needed = f"IPv{other} routes need an IPv{other} address as next hop"
            notes.append(f"{needed}; none is known of {', '.join(lacking)}")
    if peer.port != 179:
        notes.append(f"nodes dial TCP port {peer.port}; the router must listen there")
    return notes
