"""What a change of configuration does to living Services: two outcomes, compared.

What Services hold before the change they hold when it comes; so what is told is what would happen, and not
what a cluster that begins anew would look like. Lost is: an IP that a Service has to give up, an IP that
layer 2 announces no more, an IP that a peer is told of no more. An IP that moves to another node is not lost.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import TypeVar

from lbspeaker.core.announce import PlannedRoute
from lbspeaker.core.layer2 import l2_advertisements
from lbspeaker.core.outcome import Outcome, outcome
from lbspeaker.core.pools import slot_of
from lbspeaker.model import Address, Network, Refusal, Route, Service, Snapshot

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class IPs:
    """The IPs of one service. `why` it gets none, or not all: None also if it is gone itself."""

    service: str
    before: tuple[Address, ...]
    after: tuple[Address, ...]
    why: Refusal | None

    @property
    def lost(self) -> bool:
        return not set(self.before) <= set(self.after)


@dataclass(frozen=True, slots=True)
class Owner:
    """Who owns an IP on layer 2; None: nobody. `why` nobody does afterwards."""

    ip: Address
    services: tuple[str, ...]
    before: str | None
    after: str | None
    why: Refusal | None

    @property
    def lost(self) -> bool:
        return self.after is None


@dataclass(frozen=True, slots=True)
class Told:
    """What a node tells a peer of a prefix; None: nothing. `lost`: no other node tells the peer, either."""

    node: str
    peer: str
    prefix: Network
    before: Route | None
    after: Route | None
    lost: bool


@dataclass(frozen=True, slots=True)
class Difference:
    """Everything that is not as before.

    `notes`: who keeps what it has, and is told that something is wrong with it. `sessions`: peers whose
    sessions may have to begin anew. `kept`: services that lose no IP.
    """

    ips: tuple[IPs, ...]
    owners: tuple[Owner, ...]
    routes: tuple[Told, ...]
    notes: tuple[tuple[str, Refusal], ...]
    sessions: tuple[str, ...]
    kept: int

    @property
    def lost(self) -> int:
        """How many things are lost."""
        return sum(row.lost for rows in (self.ips, self.owners, self.routes) for row in rows)


def changed(
    old: Outcome, new: Snapshot, load_balancer_class: str | None = None, *, added: bool = False
) -> Outcome:
    """Return what `new` comes to where `old` is now.

    Kinds of the cluster of which `new` has none are as in `old`; `added`: what it has is added to those.
    """
    before = old.snapshot
    beside = new.members - before.nodes.keys() if added else new.members
    world = replace(
        before,
        config=new.config,
        services=_kind(before.services, new.services, added=added),
        endpoints=_kind(before.endpoints, new.endpoints, added=added),
        nodes=_kind(before.nodes, new.nodes, added=added),
        namespaces=_kind(before.namespaces, new.namespaces, added=added),
        members=before.members | beside if added or not new.nodes else beside,
    )
    services = {key: _as_now(service, old) for key, service in world.services.items()}
    return outcome(replace(world, services=services), load_balancer_class)


def _kind(before: Mapping[str, T], new: Mapping[str, T], *, added: bool) -> Mapping[str, T]:
    return {**before, **new} if added else new or before


def _as_now(service: Service, old: Outcome) -> Service:
    now = old.snapshot.services.get(service.key)
    if now is None:
        return service
    return replace(service, held=now.held, held_pool=now.held_pool, given=now.given)


def difference(old: Outcome, new: Outcome) -> Difference:
    """Return what is not in `new` as it is in `old`."""
    rows = tuple(_ips(old, new))
    before, after = old.snapshot.config.peers, new.snapshot.config.peers
    peers = {peer.name: peer for peer in after}
    return Difference(
        rows,
        tuple(_owners(old, new)),
        tuple(_routes(old, new)),
        tuple((key, note) for key, note in sorted(new.notes.items()) if _is_news(key, note, old, rows)),
        tuple(peer.name for peer in before if peer.name in peers and peers[peer.name] != peer),
        sum(bool(service.held) for service in old.snapshot.services.values()) - sum(row.lost for row in rows),
    )


def _is_news(key: str, note: Refusal, old: Outcome, rows: Iterable[IPs]) -> bool:
    return old.notes.get(key) != note and key not in {row.service for row in rows}


def _ips(old: Outcome, new: Outcome) -> Iterator[IPs]:
    keys = sorted(old.snapshot.services.keys() | new.snapshot.services.keys())
    for key in keys:
        before, after = (
            one.snapshot.services[key].held if key in one.snapshot.services else () for one in (old, new)
        )
        if set(before) != set(after):
            yield IPs(key, before, after, new.refusals.get(key) or new.notes.get(key))


def _owners(old: Outcome, new: Outcome) -> Iterator[Owner]:
    """Of IPs that are not gone themselves, which is told already."""
    before, after = old.picture.l2, new.picture.l2
    rows = new.picture.unannounced
    why = {row.ip: row.refusal for row in rows if row.protocol == "layer2" and row.node is None}
    for ip in sorted(before.keys() | after.keys(), key=slot_of):
        was, is_ = before.get(ip), after.get(ip)
        owners = (was.owner if was else None, is_.owner if is_ else None)
        if owners[0] != owners[1] and ip in new.holders:
            services = is_.services if is_ else was.services if was else ()
            yield Owner(ip, services, *owners, _why(ip, new, why) if is_ is None else None)


def _why(ip: Address, new: Outcome, layer2: Mapping[Address, Refusal]) -> Refusal | None:
    """Why no node owns it. Who has another protocol is not told by the outcome that this one is missing."""
    if ip in layer2:
        return layer2[ip]
    found = (l2_advertisements(new.snapshot.config, ip, service) for service in new.holders[ip])
    return next((one for one in found if isinstance(one, Refusal)), None)


_Table = Mapping[tuple[str, str, Network], PlannedRoute]  # by node, peer and prefix


def _table(one: Outcome) -> _Table:
    return {
        (node, peer, prefix): planned
        for node, routes in one.picture.bgp.items()
        for peer, table in routes.items()
        for prefix, planned in table.items()
    }


def _routes(old: Outcome, new: Outcome) -> Iterator[Told]:
    before, after = _table(old), _table(new)
    told = {(peer, ip) for (_, peer, prefix), planned in after.items() for ip in _about(new, prefix, planned)}
    for where in sorted(before.keys() | after.keys(), key=lambda one: (one[1], str(one[2]), one[0])):
        was, is_ = before.get(where), after.get(where)
        routes = (was.route if was else None, is_.route if is_ else None)
        if routes[0] != routes[1]:
            node, peer, prefix = where
            gone = _about(old, prefix, was) if was is not None and is_ is None else ()
            lost = any((peer, ip) not in told and ip in new.holders for ip in gone)
            yield Told(node, peer, prefix, *routes, lost)


def _about(one: Outcome, prefix: Network, planned: PlannedRoute) -> Iterator[Address]:
    """The IPs for the sake of which a route is announced."""
    for key in planned.services:
        for ip in one.snapshot.services[key].held:
            if ip.version == prefix.version and ip in prefix:
                yield ip
