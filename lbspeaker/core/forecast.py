"""What becomes of announcements when a node is taken out: asked before it is done."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace

from lbspeaker.core.announce import Routes, picture
from lbspeaker.core.hearing import Cuts, cuts, unheard, without_cuts
from lbspeaker.core.layer2 import candidacy, l2
from lbspeaker.core.nodes import holders
from lbspeaker.core.pools import slot_of
from lbspeaker.core.said import Said
from lbspeaker.model import EXCLUDE, Address, Network, Reason, Refusal, Service, Snapshot


@dataclass(frozen=True, slots=True)
class Change:
    """`what` (an IP, or a prefix and its peer) goes from who announces it now to who does then; () nobody."""

    what: str
    services: tuple[str, ...]
    now: tuple[str, ...]
    then: tuple[str, ...]


NOTHING: Mapping[str, Said] = {}
Absent = Callable[[str, str], bool]


def without(
    snapshot: Snapshot,
    node: str,
    absent: Absent = lambda _node, _peer: False,
    said: Mapping[str, Said] = NOTHING,
) -> tuple[Change, ...]:
    """Return what changes when `node` announces nothing any more.

    `absent`: whether a node has no session with a peer, so that nothing is announced there. `said`: what live
    speakers say, by node; it counts for more than what is computed. Who is not heard takes nothing over.
    """
    heard = without_cuts(snapshot, cuts(said, snapshot.links))
    labels = {**heard.nodes[node].labels, EXCLUDE: ""}
    after = replace(heard, nodes={**heard.nodes, node: replace(heard.nodes[node], labels=labels)})
    return tuple(_changes(node, heard, after, absent, said))


def _changes(
    node: str, before: Snapshot, after: Snapshot, absent: Absent, said: Mapping[str, Said]
) -> Iterator[Change]:
    held = holders(before.services.values())
    now, then = picture(before, held), picture(after, held)
    for ip, services in sorted(held.items(), key=lambda one: slot_of(one[0])):
        found, later = now.l2.get(ip), then.l2.get(ip)
        elected = (found.owner,) if found is not None else ()
        owners = tuple(sorted(name for name, one in said.items() if one.owns(ip))) or elected
        if node in owners:
            keys = found.services if found is not None else tuple(service.key for service in services)
            yield Change(str(ip), keys, owners, (later.owner,) if later is not None else ())
    routes, later_routes = _routes(now.bgp, absent), _routes(then.bgp, absent)
    for (peer, prefix), (nodes, whose) in sorted(routes.items(), key=lambda one: str(one[0])):
        left, _ = later_routes.get((peer, prefix), ((), ()))
        if left != nodes:
            yield Change(f"{prefix} at {peer}", whose, nodes, left)


def _routes(
    by_node: Mapping[str, Routes], absent: Absent
) -> dict[tuple[str, Network], tuple[tuple[str, ...], tuple[str, ...]]]:
    """By peer and prefix: which nodes announce it, and for which Services."""
    found: dict[tuple[str, Network], tuple[set[str], set[str]]] = {}
    for node, tables in by_node.items():
        for peer, table in tables.items():
            for prefix, planned in table.items() if not absent(node, peer) else ():
                nodes, services = found.setdefault((peer, prefix), (set(), set()))
                nodes.add(node)
                services.update(planned.services)
    return {key: (tuple(sorted(nodes)), tuple(sorted(s))) for key, (nodes, s) in found.items()}


def lost(changes: tuple[Change, ...]) -> list[Change]:
    """Those after which nobody announces it any more."""
    return [change for change in changes if not change.then]


def hindrances(
    snapshot: Snapshot, key: str, node: str, said: Mapping[str, Said] = NOTHING
) -> dict[Address, str]:
    """By IP of this Service: why the node would not own it on the segment if the Service preferred it."""
    wish = replace(snapshot.services[key], preferred_node=node)
    cut = cuts(said, snapshot.links)
    after = without_cuts(replace(snapshot, services={**snapshot.services, key: wish}), cut)
    held = {ip: services for ip, services in holders(after.services.values()).items() if ip in wish.held}
    found, missed = l2(after, held)
    whys = {ip: _why_not(after, held[ip], ip, wish, node, cut) for ip in wish.held}
    nowhere = {row.ip: _nowhere(row.refusal) for row in missed if row.service == key}
    owners = {ip: one.owner for ip, one in found.items()}
    return {
        ip: whys[ip] or nowhere.get(ip, "") or f"other Services on it prefer {owners[ip]}"
        for ip in wish.held
        if owners.get(ip) != node
    }


def _nowhere(refusal: Refusal) -> str:
    """Why no node at all owns it."""
    if refusal.reason is Reason.NO_ADVERTISEMENT:
        return f"it is not on layer 2, where one node owns an IP ({refusal.message})"
    return refusal.message


def _why_not(
    snapshot: Snapshot, services: tuple[Service, ...], ip: Address, service: Service, node: str, cut: Cuts
) -> str:
    why = candidacy(snapshot, ip, services, service).get(node)
    if why is not None and why.reason is Reason.NO_NODE_LINK:
        return unheard(node, cut) or why.message
    if why is None and snapshot.nodes[node].cordoned:
        return "it is cordoned, and onCordon is Move"
    return why.message if why is not None else ""
