"""What ought to be announced, by whom, and what has to be done about it.

    snapshot, who holds which IP ──▶ l2() ──▶ per IP: owner and candidates    ─┐
                                 ──▶ bgp() ─▶ per node and peer: routes        ├▶ Desired of one node
    current, desired ──▶ plan() ──▶ claim, release, routes to set              ─┘

`plan` the command asks for the whole system, a speaker for its own node: both through these functions.
A service IP that is not announced has a reason, for the whole cluster (node None) or for one node.
"""

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from ipaddress import ip_network

from lbspeaker.core.election import rank
from lbspeaker.model import (
    Address,
    BGPAdvertisement,
    Config,
    Endpoint,
    L2Advertisement,
    L2Announcement,
    Network,
    Node,
    Peer,
    Pin,
    Pool,
    Reason,
    Refusal,
    Route,
    Service,
    Snapshot,
    Unannounced,
    any_selects,
)

Holders = Mapping[Address, tuple[Service, ...]]  # service IP → the services that share it


def holders(services: Iterable[Service]) -> Holders:
    """Who holds which IP, as the status of the services says."""
    found: dict[Address, list[Service]] = {}
    for service in services:
        for ip in service.held:
            found.setdefault(ip, []).append(service)
    return {ip: tuple(sorted(users, key=lambda user: user.key)) for ip, users in found.items()}


# --- nodes and endpoints --------------------------------------------------------------------------------


def node_refusal(snapshot: Snapshot, node: str) -> Refusal | None:
    """Why this node announces nothing at all."""
    known = snapshot.nodes.get(node)
    if known is None or node not in snapshot.members:
        return Refusal(Reason.NODE_NOT_LIVE, f"no live speaker on {node}")
    if known.excluded:
        label = "node.kubernetes.io/exclude-from-external-load-balancers"
        return Refusal(Reason.NODE_EXCLUDED, f"{node} has the label {label}")
    if known.network_unavailable:
        return Refusal(Reason.NODE_NETWORK_UNAVAILABLE, f"{node} has the condition NetworkUnavailable")
    return None


def serving_nodes(endpoints: Iterable[Endpoint]) -> frozenset[str]:
    """The nodes where traffic arrives; where endpoints are only on their way out, if there are no others."""
    serving = [e for e in endpoints if e.serving and e.node is not None]
    staying = [e for e in serving if e.ready]
    return frozenset(e.node for e in staying or serving if e.node is not None)


def endpoint_refusal(snapshot: Snapshot, service: Service, node: str | None) -> Refusal | None:
    """Why traffic for `service` would arrive nowhere (node None), or nowhere from `node`."""
    endpoints = snapshot.endpoints.get(service.key, ())
    if not any(endpoint.serving for endpoint in endpoints):
        state = "none is ready" if endpoints else "there are none"
        message = f"{service.key} has no endpoint that serves ({state}); check its selector and its Pods"
        return Refusal(Reason.NO_ENDPOINT, message)
    if node is not None and service.local and node not in serving_nodes(endpoints):
        message = f"externalTrafficPolicy is Local, and {service.key} has no serving endpoint on {node}"
        return Refusal(Reason.NO_LOCAL_ENDPOINT, message)
    return None


# --- layer 2 --------------------------------------------------------------------------------------------


class _Reach:
    """Which nodes have a link for an IP, as far as they tell; who tells nothing counts as if it had."""

    def __init__(self, snapshot: Snapshot) -> None:
        by_network: dict[Network, set[str]] = {}
        by_name: dict[str, set[str]] = {}
        for node, links in snapshot.links.items():
            for link in links:
                by_name.setdefault(link.name, set()).add(node)
                for network in link.networks:
                    by_network.setdefault(network, set()).add(node)
        self._by_network = by_network
        self._by_name = by_name
        self._all = {node for node, links in snapshot.links.items() if links}
        self._untold = snapshot.nodes.keys() - snapshot.links.keys()
        self._own = snapshot.links.get(snapshot.here, ())
        self._silent = snapshot.silent

    def nodes(self, ip: Address, interfaces: Iterable[str], any_subnet: bool) -> set[str]:
        """Those with one of the `interfaces`; without any, those near `ip`, or all if nobody is near."""
        if interfaces:
            return self._untold.union(*(self._by_name.get(name, ()) for name in interfaces))
        near = set().union(*(nodes for network, nodes in self._by_network.items() if ip in network))
        return self._untold | (self._all if any_subnet or not near else near)

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


_SHOWN = 8  # names of links


def l2(snapshot: Snapshot, held: Holders) -> tuple[dict[Address, L2Announcement], list[Unannounced]]:
    """Return who owns each IP that layer 2 can announce, and which services it cannot, and why."""
    announcements: dict[Address, L2Announcement] = {}
    missed: list[Unannounced] = []
    refusals = {name: node_refusal(snapshot, name) for name in snapshot.nodes}
    may = {n: snapshot.nodes[n] for n, why in refusals.items() if why is None or why.reason is _DEAD}
    live = frozenset(name for name, why in refusals.items() if why is None)
    reach = _Reach(snapshot)
    for ip, services in held.items():
        found, why_not = _l2_of(snapshot, may, live, reach, ip, services)
        missed += [Unannounced(key, ip, "layer2", None, refusal) for key, refusal in why_not.items()]
        if found is not None:
            announcements[ip] = found
    return announcements, missed


_DEAD = Reason.NODE_NOT_LIVE


def _l2_of(
    snapshot: Snapshot,
    may: Mapping[str, Node],
    live: frozenset[str],
    reach: _Reach,
    ip: Address,
    services: tuple[Service, ...],
) -> tuple[L2Announcement | None, dict[str, Refusal]]:
    """Rank the nodes that may announce `ip` for any of the services that share it."""
    scores: dict[str, int] = {}
    fit: set[str] = set()
    used: list[L2Advertisement] = []
    announced: list[str] = []
    refusals: dict[str, Refusal] = {}
    for service in services:
        ads = l2_advertisements(snapshot.config, ip, service)
        if isinstance(ads, Refusal):
            refusals[service.key] = ads
            continue
        selected = _selected(snapshot, may, live, service, ads)
        if isinstance(selected, Refusal):
            refusals[service.key] = selected
            continue
        names, anywhere = _interfaces(ads), any(ad.any_subnet for ad in ads)
        near = reach.nodes(ip, names, anywhere)
        candidates = (near & live & selected.keys()) - reach.silent(ip, names, anywhere)
        if not candidates:
            refusals[service.key] = reach.refusal(ip, names)
            continue
        announced.append(service.key)
        used += ads
        fit |= candidates
        for node, score in selected.items():
            scores[node] = max(scores.get(node, 0), score)
    if not announced:
        return None, refusals
    ranking = rank(ip, scores)
    ready = {node for node in fit if may[node].ready}
    best_first = [node for node in ranking if node in (ready or fit)]
    pin = snapshot.pins.get(ip)
    if pin is not None and pin.node in best_first:
        best_first = [pin.node, *(node for node in best_first if node != pin.node)]
    top = scores[best_first[0]]
    found = L2Announcement(
        ip,
        tuple(announced),
        tuple(best_first),
        frozenset(_interfaces(used)),
        any(ad.any_subnet for ad in used),
        ranking,
        frozenset(node for node in best_first if scores[node] == top),
        any(ad.failback == "Never" for ad in used),
        any(ad.on_cordon == "Move" for ad in used),
    )
    return found, refusals


def _interfaces(ads: Iterable[L2Advertisement]) -> frozenset[str]:
    """The links that they name together; none: all that fit, because one of them names none."""
    named = [ad.interfaces for ad in ads]
    return frozenset().union(*named) if all(named) else frozenset()


def l2_advertisements(config: Config, ip: Address, service: Service) -> tuple[L2Advertisement, ...] | Refusal:
    pool = config.pool_for(service, ip)
    if pool is None:
        return _outside(ip)
    of_pool = [ad for ad in config.l2_advertisements if ad.scope.covers_pool(pool)]
    ads = tuple(ad for ad in of_pool if ad.scope.covers_service(service.labels))
    return ads or _unadvertised("L2Advertisement", pool, bool(of_pool))


def _outside(ip: Address) -> Refusal:
    return Refusal(Reason.OUTSIDE_POOLS, f"{ip} is in no pool")


def _unadvertised(kind: str, pool: Pool, selected: bool) -> Refusal:
    lack = "the service (serviceSelectors)" if selected else f"pool {pool.name}"
    return Refusal(Reason.NO_ADVERTISEMENT, f"no {kind} selects {lack}")


def _selected(
    snapshot: Snapshot,
    may: Mapping[str, Node],
    live: frozenset[str],
    service: Service,
    ads: tuple[L2Advertisement, ...],
) -> dict[str, int] | Refusal:
    """Return the nodes that are to announce the service, dead or alive, with their preferences."""
    refusal = endpoint_refusal(snapshot, service, None)
    if refusal:
        return refusal
    if not live:
        return Refusal(Reason.NO_CANDIDATE, _why_no_node(snapshot))
    selected = {
        n: _preference(ads, node)
        for n, node in may.items()
        if any(ad.scope.covers_node(node.labels) for ad in ads)
    }
    if live.isdisjoint(selected):
        message = "the nodeSelectors of its L2Advertisements select no live node"
        return Refusal(Reason.NODE_NOT_SELECTED, message)
    if not service.local:
        return selected
    serving = serving_nodes(snapshot.endpoints.get(service.key, ()))
    local = {node: score for node, score in selected.items() if node in serving}
    if live.isdisjoint(local):
        message = "externalTrafficPolicy is Local, and no node that may announce it has a serving endpoint"
        return Refusal(Reason.NO_LOCAL_ENDPOINT, message)
    return local


def _why_no_node(snapshot: Snapshot) -> str:
    refusals = [refusal for node in sorted(snapshot.nodes) if (refusal := node_refusal(snapshot, node))]
    return "; ".join(r.message for r in refusals[:3]) or "no node is known"


def _preference(ads: tuple[L2Advertisement, ...], node: Node) -> int:
    return sum(p.weight for ad in ads for p in ad.preferences if p.selector.selects(node.labels))


# --- BGP ------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class PlannedRoute:
    """A route, and for the sake of which services it is announced."""

    route: Route
    services: tuple[str, ...]


Routes = dict[str, dict[Network, PlannedRoute]]  # by peer and prefix


def bgp(snapshot: Snapshot, held: Holders, node: str) -> tuple[Routes, list[Unannounced]]:
    """Return what `node` announces to each of its peers, and what it does not, and why."""
    routes: Routes = {}
    missed: list[Unannounced] = []
    refusal = node_refusal(snapshot, node)
    labels = snapshot.nodes[node].labels if node in snapshot.nodes else {}
    peers = {peer.name: peer for peer in peers_of(snapshot.config, labels)}
    for ip, services in held.items():
        for service in services:
            ads = bgp_advertisements(snapshot.config, ip, service)
            if isinstance(ads, Refusal):
                continue
            mine = [(ad, p) for ad in ads if ad.scope.covers_node(labels) for p in _peers(ad, peers)]
            if not mine:
                continue
            why = refusal or endpoint_refusal(snapshot, service, node) or _conflict(mine, ip)
            if why is not None:
                missed.append(Unannounced(service.key, ip, "bgp", node, why))
                continue
            for ad, peer in mine:
                _add(routes.setdefault(peer.name, {}), ad, ip, service.key)
    return routes, missed


def peers_of(config: Config, labels: Mapping[str, str]) -> tuple[Peer, ...]:
    """The peers of a node with these labels."""
    return tuple(peer for peer in config.peers if any_selects(peer.node_selectors, labels))


def bgp_advertisements(
    config: Config, ip: Address, service: Service
) -> tuple[BGPAdvertisement, ...] | Refusal:
    pool = config.pool_for(service, ip)
    if pool is None:
        return _outside(ip)
    of_pool = [ad for ad in config.bgp_advertisements if ad.scope.covers_pool(pool)]
    ads = tuple(ad for ad in of_pool if ad.scope.covers_service(service.labels))
    return ads or _unadvertised("BGPAdvertisement", pool, bool(of_pool))


def _peers(ad: BGPAdvertisement, peers: Mapping[str, Peer]) -> list[Peer]:
    return [peer for name, peer in peers.items() if not ad.peers or name in ad.peers]


def prefix_of(ad: BGPAdvertisement, ip: Address) -> Network:
    network: Network = ip_network((ip, ad.length(ip.version)), strict=False)
    return network


def _conflict(mine: list[tuple[BGPAdvertisement, Peer]], ip: Address) -> Refusal | None:
    """Two advertisements of one prefix to one peer must agree about LOCAL_PREF."""
    seen: dict[tuple[str, Network], BGPAdvertisement] = {}
    for ad, peer in mine:
        other = seen.setdefault((peer.name, prefix_of(ad, ip)), ad)
        if other.local_pref != ad.local_pref:
            message = (
                f"BGPAdvertisements {other.name} and {ad.name} give {prefix_of(ad, ip)} different localPref "
                f"({other.local_pref} and {ad.local_pref}) for peer {peer.name}"
            )
            return Refusal(Reason.CONFLICTING_ADVERTISEMENTS, message)
    return None


def _add(routes: dict[Network, PlannedRoute], ad: BGPAdvertisement, ip: Address, service: str) -> None:
    """Enter a route; advertisements and services with the same prefix share it, communities add up."""
    prefix = prefix_of(ad, ip)
    before = routes.get(prefix)
    communities = set(ad.communities)
    services = {service}
    if before is not None:
        communities.update(before.route.communities)
        services.update(before.services)
    route = Route(prefix, ad.local_pref, tuple(sorted(communities)))
    routes[prefix] = PlannedRoute(route, tuple(sorted(services)))


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
    for ip, services in held.items():
        for service in services:
            refusal = _bgp_refusal(snapshot, ip, service)
            if refusal is not None:
                rows.append(Unannounced(service.key, ip, "bgp", None, refusal))
    rows = _without_needless(rows)
    return Picture(announcements, routes, tuple(rows))


def _bgp_refusal(snapshot: Snapshot, ip: Address, service: Service) -> Refusal | None:
    """Why no node at all announces `ip` by BGP, apart from what each node says itself."""
    ads = bgp_advertisements(snapshot.config, ip, service)
    if isinstance(ads, Refusal):
        return ads
    for node in snapshot.nodes.values():
        peers = {peer.name: peer for peer in peers_of(snapshot.config, node.labels)}
        if any(ad.scope.covers_node(node.labels) and _peers(ad, peers) for ad in ads):
            return None
    if not snapshot.config.peers:
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


def desired(snapshot: Snapshot, held: Holders, node: str) -> Desired:
    """What `node` ought to announce of what services hold."""
    announcements, missed = l2(snapshot, held)
    routes, _ = bgp(snapshot, held, node)
    labels = snapshot.nodes[node].labels if node in snapshot.nodes else {}
    return Desired(
        {
            ip: _duty(found, snapshot.pins.get(ip))
            for ip, found in announcements.items()
            if found.owner == node
        },
        announcements,
        {peer.name: peer for peer in peers_of(snapshot.config, labels)},
        routes,
        tuple(missed),
    )


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
