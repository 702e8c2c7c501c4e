"""What becomes of announcements when a node is taken out: asked before it is done."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace

from lbspeaker.core.announce import Routes, picture
from lbspeaker.core.nodes import holders
from lbspeaker.core.pools import slot_of
from lbspeaker.model import EXCLUDE, Address, Network, Snapshot


@dataclass(frozen=True, slots=True)
class Change:
    """`what` (an IP, or a prefix and its peer) goes from who announces it now to who does then; () nobody."""

    what: str
    services: tuple[str, ...]
    now: tuple[str, ...]
    then: tuple[str, ...]


Absent = Callable[[str, str], bool]


def without(snapshot: Snapshot, node: str, absent: Absent = lambda _node, _peer: False) -> tuple[Change, ...]:
    """Return what changes when `node` announces nothing any more.

    `absent`: whether a node has no session with a peer, so that nothing is announced there.
    """
    labels = {**snapshot.nodes[node].labels, EXCLUDE: ""}
    after = replace(snapshot, nodes={**snapshot.nodes, node: replace(snapshot.nodes[node], labels=labels)})
    return tuple(_changes(snapshot, after, absent))


def _changes(before: Snapshot, after: Snapshot, absent: Absent) -> Iterator[Change]:
    held = holders(before.services.values())
    now, then = picture(before, held), picture(after, held)
    for ip, found in sorted(now.l2.items(), key=lambda one: slot_of(one[0])):
        later = then.l2.get(ip)
        owner = (later.owner,) if later is not None else ()
        if owner != (found.owner,):
            yield Change(str(ip), found.services, (found.owner,), owner)
    routes, later_routes = _routes(now.bgp, absent), _routes(then.bgp, absent)
    for (peer, prefix), (nodes, services) in sorted(routes.items(), key=lambda one: str(one[0])):
        left, _ = later_routes.get((peer, prefix), ((), ()))
        if left != nodes:
            yield Change(f"{prefix} at {peer}", services, nodes, left)


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


def moved(snapshot: Snapshot, key: str, node: str) -> dict[Address, str]:
    """By IP of this Service: who owns it on the segment when the Service prefers `node`."""
    wish = replace(snapshot.services[key], preferred_node=node)
    after = replace(snapshot, services={**snapshot.services, key: wish})
    found = picture(after, holders(after.services.values()))
    return {ip: found.l2[ip].owner for ip in wish.held if ip in found.l2}
