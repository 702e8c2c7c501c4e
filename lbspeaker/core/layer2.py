"""Who owns each service IP on its segment: the candidates, ranked.

A candidate is a live node that an advertisement selects, that is heard by the others, that has a link for the
IP, and, with traffic policy Local, a serving endpoint. Nodes that are not Ready come into question only when
there are no others; a pin puts one candidate before all, and the node that a Service asks for comes before
that.
"""

from collections.abc import Iterable, Mapping, Set
from typing import NamedTuple

from lbspeaker.core.election import rank
from lbspeaker.core.nodes import (
    Holders,
    endpoint_refusal,
    miss,
    no_local_endpoint,
    no_node,
    node_refusal,
    outside,
    serving_nodes,
    unadvertised,
    where_it_is,
)
from lbspeaker.core.reach import Reach
from lbspeaker.model import (
    Address,
    Config,
    L2Advertisement,
    L2Announcement,
    Node,
    Reason,
    Refusal,
    Service,
    Snapshot,
    Unannounced,
)


class _Choice:
    """The nodes that advertisements select, and how they prefer them: the same for most IPs."""

    def __init__(self, may: Mapping[str, Node], live: frozenset[str]) -> None:
        self._may = may
        self._live = live
        self._known: dict[tuple[str, ...], tuple[Mapping[str, int], Set[str]]] = {}
        self.ready = {name for name, node in may.items() if node.ready}

    def of(self, ads: tuple[L2Advertisement, ...]) -> tuple[Mapping[str, int], Set[str]]:
        """Return the nodes that any of `ads` selects, with their preferences, and those of them that live."""
        names = tuple(ad.name for ad in ads)
        if names not in self._known:
            scores = {
                name: _preference(ads, node)
                for name, node in self._may.items()
                if any(ad.scope.covers_node(node.labels) for ad in ads)
            }
            self._known[names] = scores, self._live & scores.keys()
        return self._known[names]


class _Sieve(NamedTuple):
    """The nodes that are left for a service after each question. `scores`: of the dead, too."""

    scores: Mapping[str, int]
    selected: Set[str]  # live, and selected by an advertisement
    serving: Set[str]  # with an endpoint, where one is needed
    near: Set[str]  # with a link for the IP
    heard: Set[str]
    candidates: Set[str]  # not only rehearsing, if there are others


class _Look:
    """One look at a snapshot, for all IPs."""

    def __init__(self, snapshot: Snapshot) -> None:
        self.snapshot = snapshot
        self.refusals = {name: node_refusal(snapshot, name) for name in snapshot.nodes}
        may = {n: snapshot.nodes[n] for n, why in self.refusals.items() if why is None or why.reason is _DEAD}
        self.live = frozenset(name for name, why in self.refusals.items() if why is None)
        self.reach = Reach(snapshot)
        self.choice = _Choice(may, self.live)

    def sift(self, ip: Address, service: Service, ads: tuple[L2Advertisement, ...]) -> _Sieve:
        """Ask one question after the other which nodes may announce `ip` for `service`."""
        scores, selected = self.choice.of(ads)
        serving = selected
        if service.local:
            with_endpoint = serving_nodes(self.snapshot.endpoints.get(service.key, ()))
            scores = {node: score for node, score in scores.items() if node in with_endpoint}
            serving = selected & with_endpoint
        names, anywhere = _interfaces(ads), any(ad.any_subnet for ad in ads)
        near = serving & self.reach.nodes(ip, names, anywhere)
        heard = near - self.reach.silent(ip, names, anywhere)
        return _Sieve(scores, selected, serving, near, heard, self.reach.without_rehearsals(heard))

    def refusal(
        self, ip: Address, service: Service, ads: tuple[L2Advertisement, ...], sieve: _Sieve
    ) -> Refusal | None:
        """Why nobody announces `ip` for `service`; None if somebody may."""
        refusal = endpoint_refusal(self.snapshot, service, None)
        if refusal or sieve.candidates:
            return refusal
        if not self.live:
            return no_node(self.snapshot)
        if not sieve.selected:
            message = "the nodeSelectors of its L2Advertisements select no live node"
            return Refusal(Reason.NODE_NOT_SELECTED, message)
        if not sieve.serving:
            message = (
                "externalTrafficPolicy is Local, and no node that may announce it has a serving endpoint"
            )
            return Refusal(Reason.NO_LOCAL_ENDPOINT, message + where_it_is(self.snapshot, service))
        return self.reach.refusal(ip, _interfaces(ads))

    def why_not(
        self, node: str, ip: Address, service: Service, ads: tuple[L2Advertisement, ...], sieve: _Sieve
    ) -> Refusal | None:
        """At which question `node` falls out; None: it is a candidate."""
        refusal = self.refusals[node]
        if refusal is not None:
            return refusal
        if node not in sieve.selected:
            names = ", ".join(ad.name for ad in ads)
            return Refusal(Reason.NODE_NOT_SELECTED, f"nodeSelectors of L2Advertisement {names}")
        if node not in sieve.serving:
            return no_local_endpoint(service, node)
        if node not in sieve.near:
            return self.reach.lack(node, ip, _interfaces(ads))
        if node not in sieve.heard:
            message = f"it is not heard by {self.snapshot.here} on the segment of {ip}"
            return Refusal(Reason.NO_NODE_LINK, message)
        if node not in sieve.candidates:
            return Refusal(Reason.NO_NODE_LINK, "its links only rehearse (LinkPolicy with dryRun)")
        return None


def l2(snapshot: Snapshot, held: Holders) -> tuple[dict[Address, L2Announcement], list[Unannounced]]:
    """Return who owns each IP that layer 2 can announce, and which services it cannot, and why."""
    announcements: dict[Address, L2Announcement] = {}
    missed: list[Unannounced] = []
    look = _Look(snapshot)
    for ip, services in held.items():
        found, why_not = _l2_of(look, ip, services)
        missed += [Unannounced(key, ip, "layer2", None, refusal) for key, refusal in why_not.items()]
        if found is not None:
            announcements[ip] = found
    return announcements, missed


def candidacy(
    snapshot: Snapshot, ip: Address, services: tuple[Service, ...], service: Service
) -> dict[str, Refusal | None]:
    """Return for each node why it is no candidate for `ip` for the sake of `service`; None: it is one.

    `services` are those that share `ip`. Empty without an advertisement.
    """
    return _candidacy(_Look(snapshot), ip, services, service, sorted(snapshot.nodes))


def why_not(snapshot: Snapshot, held: Holders, node: str) -> dict[tuple[Address, str], Refusal]:
    """Return why `node` is no candidate, by IP and service; those for which it is one are not there."""
    look = _Look(snapshot)
    found = {
        (ip, service.key): _candidacy(look, ip, services, service, [node]).get(node)
        for ip, services in held.items()
        for service in services
    }
    return {where: refusal for where, refusal in found.items() if refusal is not None}


def _candidacy(
    look: _Look, ip: Address, services: tuple[Service, ...], service: Service, nodes: Iterable[str]
) -> dict[str, Refusal | None]:
    ads = l2_advertisements(look.snapshot.config, ip, service)
    if isinstance(ads, Refusal):
        return {}
    found, _ = _l2_of(look, ip, services)
    sieve = look.sift(ip, service, ads)
    verdicts = {node: look.why_not(node, ip, service, ads, sieve) for node in nodes}
    late = Refusal(Reason.NO_CANDIDATE, "it is not Ready, and others are")
    for node, why in verdicts.items():
        if why is None and found is not None and node not in found.candidates:
            verdicts[node] = late
    return verdicts


_DEAD = Reason.NODE_NOT_LIVE


def _l2_of(
    look: _Look, ip: Address, services: tuple[Service, ...]
) -> tuple[L2Announcement | None, dict[str, Refusal]]:
    """Rank the nodes that may announce `ip` for any of the services that share it."""
    scores: Mapping[str, int] = {}
    fit: set[str] = set()
    used: list[L2Advertisement] = []
    announced: list[str] = []
    asked_for: list[str] = []
    refusals: dict[str, Refusal] = {}
    for service in services:
        ads = l2_advertisements(look.snapshot.config, ip, service)
        if isinstance(ads, Refusal):
            refusals[service.key] = ads
            continue
        sieve = look.sift(ip, service, ads)
        refusal = look.refusal(ip, service, ads, sieve)
        if refusal is not None:
            refusals[service.key] = refusal
            continue
        announced.append(service.key)
        asked_for += [service.preferred_node] if service.preferred_node in sieve.scores else []
        used += ads
        fit |= sieve.candidates
        selected = sieve.scores
        if scores:  # of several services, the one that prefers a node most
            selected = {n: max(scores.get(n, 0), selected.get(n, 0)) for n in (*scores, *selected)}
        scores = selected
    if not announced:
        return None, refusals
    ranking = rank(ip, scores)
    ready = fit & look.choice.ready
    best_first = [node for node in ranking if node in (ready or fit)]
    moves = any(ad.on_cordon == "Move" for ad in used)
    asked_for = [node for node in asked_for if not (moves and look.snapshot.nodes[node].cordoned)]
    preferred = asked_for[0] if asked_for and asked_for[0] in best_first else ""
    if asked_for:
        ranking = _first(asked_for[0], ranking)
    pin = look.snapshot.pins.get(ip)
    if preferred:
        best_first = list(_first(preferred, best_first))
    elif pin is not None and pin.node in best_first:
        best_first = list(_first(pin.node, best_first))
    top = scores[best_first[0]]
    equals = {preferred} if preferred else {node for node in best_first if scores[node] == top}
    found = L2Announcement(
        ip,
        tuple(announced),
        tuple(best_first),
        frozenset(_interfaces(used)),
        any(ad.any_subnet for ad in used),
        ranking,
        frozenset(equals),
        any(ad.failback == "Never" for ad in used),
        moves,
        bool(preferred),
    )
    return found, refusals


def _first(node: str, others: Iterable[str]) -> tuple[str, ...]:
    """`node`, and then the others."""
    return (node, *(other for other in others if other != node))


def _interfaces(ads: Iterable[L2Advertisement]) -> frozenset[str]:
    """The links that they name together; none: all that fit, because one of them names none."""
    named = [ad.interfaces for ad in ads]
    return frozenset().union(*named) if all(named) else frozenset()


def l2_advertisements(config: Config, ip: Address, service: Service) -> tuple[L2Advertisement, ...] | Refusal:
    pool = config.pool_for(service, ip)
    if pool is None:
        return outside(ip)
    misses = [(ad, miss(ad.scope, pool, service)) for ad in config.l2_advertisements]
    ads = tuple(ad for ad, what in misses if not what)
    return ads or unadvertised("L2Advertisement", pool, any(what == "service" for _, what in misses))


def _preference(ads: tuple[L2Advertisement, ...], node: Node) -> int:
    return sum(p.weight for ad in ads for p in ad.preferences if p.selector.selects(node.labels))
