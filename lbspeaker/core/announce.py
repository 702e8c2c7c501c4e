"""What ought to be announced, by whom, and what has to be done about it.

    snapshot, who holds which IP ──▶ l2() ──▶ per IP: owner and candidates    ─┐
                                 ──▶ bgp() ─▶ per node and peer: routes        ├▶ Desired of one node
    current, desired ──▶ plan() ──▶ claim, release, routes to set              ─┘

`plan` the command asks for the whole system, a speaker for its own node: both through these functions.
A service IP that is not announced has a reason, for the whole cluster (node None) or for one node.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from ipaddress import IPv4Network, IPv6Network

from lbspeaker.core.layer2 import l2
from lbspeaker.core.nodes import (
    Holders,
    endpoint_refusal,
    miss,
    no_node,
    node_refusal,
    outside,
    serving_nodes,
    unadvertised,
    where_it_is,
)
from lbspeaker.model import (
    GRACEFUL_SHUTDOWN,
    Address,
    BGPAdvertisement,
    Config,
    L2Announcement,
    Network,
    Peer,
    Pin,
    Reason,
    Refusal,
    Route,
    Service,
    Snapshot,
    Unannounced,
    any_selects,
)

# --- BGP ------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class PlannedRoute:
    """A route, and for the sake of which services it is announced."""

    route: Route
    services: tuple[str, ...]


Routes = dict[str, dict[Network, PlannedRoute]]  # by peer and prefix


def bgp(snapshot: Snapshot, held: Holders, node: str) -> tuple[Routes, list[Unannounced]]:
    """Return what `node` announces to each of its peers, and what it does not, and why."""
    if not snapshot.config.bgp_advertisements:
        return {}, []
    missed: list[Unannounced] = []
    refusal = node_refusal(snapshot, node)
    labels = snapshot.nodes[node].labels if node in snapshot.nodes else {}
    peers = {peer.name: peer for peer in peers_of(snapshot.config, labels)}
    told = told_from(snapshot.config, labels)
    tables: dict[str, dict[Network, _Forming]] = {name: {} for name in peers}
    for ip, service, mine in _offers(snapshot.config, held, told, peers, tables):
        why = refusal or endpoint_refusal(snapshot, service, node)
        if why is not None and why.reason is Reason.NO_ENDPOINT:
            kept = [(ad, forming) for ad, forming in mine if ad.when_no_endpoints == "Keep"]
            mine, why = (kept, None) if kept else (mine, why)
        for ad, forming in mine if why is None else ():
            conflict = _conflict(forming, ad)
            if conflict is None:
                forming.add(ad, service.key, leaving=_moves(ad, snapshot, node))
            why = why or conflict
        if why is not None:
            missed.append(Unannounced(service.key, ip, "bgp", node, why))
    formed = {peer: [one for one in table.values() if one.services] for peer, table in tables.items()}
    routes = {peer: {one.prefix: one.planned() for one in some} for peer, some in formed.items() if some}
    return routes, missed


@dataclass(slots=True)
class _Forming:
    """A route to be. `ad` decides what it has one of only; of communities and services it has all."""

    peer: Peer
    prefix: Network
    ad: BGPAdvertisement
    communities: set[str] = field(default_factory=set)
    services: set[str] = field(default_factory=set)

    def add(self, ad: BGPAdvertisement, service: str, *, leaving: bool) -> None:
        self.communities.update(ad.communities, [GRACEFUL_SHUTDOWN] if leaving else [])
        self.services.add(service)

    def planned(self) -> PlannedRoute:
        communities = tuple(sorted(self.communities))
        route = Route(self.prefix, self.ad.local_pref, communities, self.ad.med, self.ad.prepend)
        return PlannedRoute(route, tuple(sorted(self.services)))


def _offers(
    config: Config,
    held: Holders,
    told: Mapping[str, Sequence[str]],
    peers: Mapping[str, Peer],
    tables: Mapping[str, dict[Network, _Forming]],
) -> list[tuple[Address, Service, list[tuple[BGPAdvertisement, _Forming]]]]:
    """Enter into the peers' `tables` what would be announced if all had endpoints, and return for whom.

    `told`: the peers of each advertisement. Of several for one prefix the first by name decides, whether its
    Services have endpoints or not: those come and go, and each node has others.
    """
    offers = []
    for ip, services in held.items():
        for service in services:
            ads = bgp_advertisements(config, ip, service)
            mine = []
            for ad in ads if not isinstance(ads, Refusal) else ():
                prefix = prefix_of(ad, ip)
                for peer in told.get(ad.name, ()):
                    forming = tables[peer].get(prefix)
                    if forming is None:
                        forming = tables[peer][prefix] = _Forming(peers[peer], prefix, ad)
                    elif ad.name < forming.ad.name:
                        forming.ad = ad
                    mine.append((ad, forming))
            if mine:
                offers.append((ip, service, mine))
    return offers


def _conflict(forming: _Forming, ad: BGPAdvertisement) -> Refusal | None:
    """Why `ad` does not count for this route; None: it agrees with the one that decides."""
    first = forming.ad
    if ad is first:
        return None
    unsent = "asPathPrepend" if forming.peer.ibgp else "localPref"  # RFC 4271 §5.1.2, §5.1.5
    for key, value in first.preferences.items():
        if key != unsent and ad.preferences[key] != value:
            message = (
                f"BGPAdvertisements {first.name} and {ad.name} give {forming.prefix} different {key} "
                f"({value} and {ad.preferences[key]}) for peer {forming.peer.name}; {first.name} alone counts"
            )
            return Refusal(Reason.CONFLICTING_ADVERTISEMENTS, message)
    return None


def _moves(ad: BGPAdvertisement, snapshot: Snapshot, node: str) -> bool:
    return ad.on_cordon == "Move" and snapshot.nodes[node].cordoned


def peers_of(config: Config, labels: Mapping[str, str]) -> tuple[Peer, ...]:
    """The peers of a node with these labels."""
    return tuple(peer for peer in config.peers if any_selects(peer.node_selectors, labels))


def bgp_advertisements(
    config: Config, ip: Address, service: Service
) -> tuple[BGPAdvertisement, ...] | Refusal:
    pool = config.pool_for(service, ip)
    if pool is None:
        return outside(ip)
    misses = [(ad, miss(ad.scope, pool, service)) for ad in config.bgp_advertisements]
    ads = tuple(ad for ad, what in misses if not what)
    return ads or unadvertised("BGPAdvertisement", pool, any(what == "service" for _, what in misses))


def told_from(config: Config, labels: Mapping[str, str]) -> dict[str, list[str]]:
    """The peers that a node with these labels tells of what each advertisement is about, by its name.

    Advertisements that do not select the node are not there.
    """
    peers = [peer.name for peer in peers_of(config, labels)]
    here = [ad for ad in config.bgp_advertisements if ad.scope.covers_node(labels)]
    return {ad.name: [name for name in peers if not ad.peers or name in ad.peers] for ad in here}


def prefix_of(ad: BGPAdvertisement, ip: Address) -> Network:
    network = IPv4Network if ip.version == 4 else IPv6Network
    return network((int(ip), ad.length(ip.version)), strict=False)


# --- the whole system -----------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Picture:
    """Everything that is announced, and everything that is not."""

    l2: Mapping[Address, L2Announcement]
    bgp: Mapping[str, Routes]  # by node
    unannounced: tuple[Unannounced, ...]


def picture(snapshot: Snapshot, held: Holders) -> Picture:
    """Decide for every node at once: what `plan` shows."""
    announcements, rows = l2(snapshot, held)
    routes: dict[str, Routes] = {}
    for node in sorted(snapshot.nodes):
        routes[node], missed = bgp(snapshot, held, node)
        rows += missed
    said = {(row.service, row.ip) for row in rows if row.protocol == "bgp"}
    rows += [row for row in _by_bgp(snapshot, held)[1] if (row.service, row.ip) not in said]
    return Picture(announcements, routes, tuple(_without_needless(rows)))


Told = Mapping[str, frozenset[str]]  # peers by node


@dataclass(frozen=True, slots=True)
class Outline:
    """What is announced, and what by no node at all, without a route for each node: for very many of both.

    `bgp`: by Service and family, which peers each node tells of it; many have the same.
    """

    l2: Mapping[Address, L2Announcement]
    bgp: Mapping[tuple[str, int], Told]
    unannounced: tuple[Unannounced, ...]


def outline(snapshot: Snapshot, held: Holders) -> Outline:
    """Decide for every node at once what `status` needs to know."""
    announcements, rows = l2(snapshot, held)
    told, missed = _by_bgp(snapshot, held)
    return Outline(announcements, told, tuple(_without_needless([*rows, *missed])))


def _by_bgp(snapshot: Snapshot, held: Holders) -> tuple[dict[tuple[str, int], Told], list[Unannounced]]:
    """Which nodes tell which peers, by Service and family; and what no node at all announces, and why.

    What one node of several has against it is not said here: it says so itself.
    """
    tellers = _Tellers(snapshot)
    found: dict[tuple[str, int], Told] = {}
    missed = []
    for ip, services in held.items():
        for service in services:
            told = tellers.of(ip, service)
            if isinstance(told, Refusal):
                missed.append(Unannounced(service.key, ip, "bgp", None, told))
            else:
                found[service.key, ip.version] = told
    return found, missed


class _Tellers:
    """Which nodes tell which peers of what an advertisement is about."""

    def __init__(self, snapshot: Snapshot) -> None:
        self._snapshot = snapshot
        config, nodes = snapshot.config, snapshot.nodes if snapshot.config.bgp_advertisements else {}
        self._told = {name: told_from(config, node.labels) for name, node in nodes.items()}
        self._chosen = {ad for told in self._told.values() for ad, peers in told.items() if peers}
        self._able = [name for name in self._told if node_refusal(snapshot, name) is None]
        self._by_ads: dict[tuple[str, ...], Told] = {}

    def of(self, ip: Address, service: Service) -> Told | Refusal:
        """The peers that each node tells of `ip` for the sake of `service`; or why none does."""
        ads = bgp_advertisements(self._snapshot.config, ip, service)
        if isinstance(ads, Refusal):
            return ads
        if not any(ad.name in self._chosen for ad in ads):
            return _no_peer(self._snapshot.config, ads)
        without_endpoint = endpoint_refusal(self._snapshot, service, None)
        if without_endpoint is not None:
            kept = tuple(ad.name for ad in ads if ad.when_no_endpoints == "Keep")
            return self._of(kept) or without_endpoint
        told = self._of(tuple(ad.name for ad in ads))
        if not told:
            return self._no_node(ads)
        if not service.local:
            return told
        serving = serving_nodes(self._snapshot.endpoints.get(service.key, ()))
        return {node: told[node] for node in sorted(serving) if node in told} or self._not_here(service)

    def _no_node(self, ads: Sequence[BGPAdvertisement]) -> Refusal:
        if not self._able:
            return no_node(self._snapshot)
        names = ", ".join(ad.name for ad in ads)
        message = f"BGPAdvertisement {names} selects no live node that has a peer"
        return Refusal(Reason.NODE_NOT_SELECTED, message)

    def _not_here(self, service: Service) -> Refusal:
        message = "externalTrafficPolicy is Local, and no node that may announce it has a serving endpoint"
        return Refusal(Reason.NO_LOCAL_ENDPOINT, message + where_it_is(self._snapshot, service))

    def _of(self, ads: tuple[str, ...]) -> Told:
        if ads not in self._by_ads:
            peers = {
                node: frozenset(peer for ad in ads for peer in self._told[node].get(ad, ()))
                for node in self._able
            }
            self._by_ads[ads] = {node: some for node, some in peers.items() if some}
        return self._by_ads[ads]


def _no_peer(config: Config, ads: Sequence[BGPAdvertisement]) -> Refusal:
    if not config.peers:
        return Refusal(Reason.NO_PEER, "there is no BGPPeer; create one for the router")
    names = ", ".join(ad.name for ad in ads)
    return Refusal(Reason.NO_PEER, f"BGPAdvertisement {names} selects no peer on any node")


def _without_needless(rows: list[Unannounced]) -> list[Unannounced]:
    """Who has an advertisement of one protocol does not miss the other one."""
    lacks = Counter((r.service, r.ip) for r in rows if r.refusal.reason is Reason.NO_ADVERTISEMENT)
    kept = [r for r in rows if r.refusal.reason is not Reason.NO_ADVERTISEMENT or lacks[r.service, r.ip] == 2]
    return sorted(kept, key=lambda r: (r.service, r.ip.version, int(r.ip), r.protocol, r.node or ""))


# --- one node -------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Duty:
    """How an owned IP is announced: on these interfaces (empty: those whose network has it, or any).

    `above`: the nodes that come before this one in the ranking, should they live.
    """

    interfaces: frozenset[str] = frozenset()
    any_subnet: bool = False
    above: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Desired:
    """What one node ought to announce: how by owned IP, routes by peer. And what all do on the segment."""

    owned: Mapping[Address, Duty] = field(default_factory=dict)
    announcements: Mapping[Address, L2Announcement] = field(default_factory=dict)
    peers: Mapping[str, Peer] = field(default_factory=dict)
    routes: Mapping[str, Mapping[Network, PlannedRoute]] = field(default_factory=dict)
    unannounced: tuple[Unannounced, ...] = ()

    def owner(self, ip: Address) -> str | None:
        found = self.announcements.get(ip)
        return found.owner if found else None

    def announced(self, services: Mapping[str, Service]) -> set[tuple[str, str, Address]]:
        """The services that this node announces: by their keys, the protocol, and the IP."""
        found = {(key, "layer2", ip) for ip in self.owned for key in self.announcements[ip].services}
        for routes in self.routes.values():
            for prefix, planned in routes.items():
                for key in planned.services:
                    held = services[key].held if key in services else ()
                    found |= {(key, "bgp", ip) for ip in held if ip in prefix}
        return found

    def unannounced_ips(self) -> Counter[str]:
        """How many IPs no node announces, by reason; also what BGP announces, and layer 2 should, too."""
        found = {
            (row.refusal.reason.value, row.ip)
            for row in self.unannounced
            if row.node is None and row.ip not in self.announcements
        }
        return Counter(reason for reason, _ in found)


def desired(snapshot: Snapshot, held: Holders, node: str) -> Desired:
    """What `node` ought to announce of what services hold.

    By BGP it does so as long as it has sessions, whatever its Lease says: nobody else decides for it. Of
    nodes with the same peers the first one tells which advertisements contradict each other.
    """
    announcements, missed = l2(snapshot, held)
    snapshot = replace(snapshot, members=snapshot.members | {node})
    routes, refused = bgp(snapshot, held, node)
    conflicts = [row for row in refused if row.refusal.reason is Reason.CONFLICTING_ADVERTISEMENTS]
    peers = _peers_of(snapshot, node)
    if conflicts and node == min(one for one in snapshot.members if _peers_of(snapshot, one) == peers):
        missed += conflicts
    if snapshot.config.bgp_advertisements:  # without one, nobody is missed there
        missed = _without_needless([*missed, *_by_bgp(snapshot, held)[1]])
    return Desired(
        {
            ip: _duty(found, None if found.preferred else snapshot.pins.get(ip))
            for ip, found in announcements.items()
            if found.owner == node
        },
        announcements,
        {peer.name: peer for peer in peers},
        routes,
        tuple(missed),
    )


def _peers_of(snapshot: Snapshot, node: str) -> tuple[Peer, ...]:
    found = snapshot.nodes.get(node)
    return peers_of(snapshot.config, found.labels if found else {})


def _duty(found: L2Announcement, pin: Pin | None) -> Duty:
    owner = found.owner
    above = found.ranking[: found.ranking.index(owner)]
    if pin is not None:  # whoever is pinned comes before the others
        above = () if pin.node == owner else (pin.node, *above)
    return Duty(found.interfaces, found.any_subnet, above)


@dataclass(frozen=True, slots=True)
class Claim:
    """Become the one who answers for `ip`."""

    ip: Address
    duty: Duty


@dataclass(frozen=True, slots=True)
class Release:
    """Stop answering for `ip`."""

    ip: Address


@dataclass(frozen=True, slots=True)
class SetPeer:
    """Have a session with this peer, as it is now; None: have none."""

    name: str
    peer: Peer | None


@dataclass(frozen=True, slots=True)
class SetRoutes:
    """Announce exactly these routes to this peer."""

    peer: str
    routes: Mapping[Network, PlannedRoute]


Step = Claim | Release | SetPeer | SetRoutes


def plan(current: Desired, wanted: Desired) -> list[Step]:
    """The steps from `current` to `wanted`; nothing for what stays as it is. Claims come before releases."""
    steps: list[Step] = []
    for ip, duty in wanted.owned.items():
        if current.owned.get(ip) != duty:
            steps.append(Claim(ip, duty))
    steps += [Release(ip) for ip in current.owned if ip not in wanted.owned]
    for name in current.peers.keys() | wanted.peers.keys():
        if current.peers.get(name) != wanted.peers.get(name):
            steps.append(SetPeer(name, wanted.peers.get(name)))
    for name, peer in wanted.peers.items():
        routes = wanted.routes.get(name, {})
        if current.peers.get(name) != peer or current.routes.get(name, {}) != routes:
            steps.append(SetRoutes(name, routes))
    return steps
