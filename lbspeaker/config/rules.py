"""Rules between objects: what each may be alone, and not together.

Of two that exclude each other the earlier document stays.
"""

import itertools
from bisect import bisect_right, insort_right
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from ipaddress import ip_network
from typing import Any, Generic, TypeVar

from lbspeaker.config.place import Place, did_you_mean, shown
from lbspeaker.config.pools import DeclaredPool
from lbspeaker.config.ranges import RangeSet, joined, without
from lbspeaker.model import BGPAdvertisement, Family, LinkPolicy, Peer, Pool, Range, Selector

T = TypeVar("T")
_MANY = 20  # so many overlaps, or unknown names, of one object are told one by one


@dataclass(frozen=True, slots=True)
class Declared(Generic[T]):
    """What a document says, and where."""

    place: Place
    value: T


# --- overlaps -------------------------------------------------------------------------------------------

_Span = tuple[int, int, DeclaredPool, int]  # first, last, and of which pool it is which range


@dataclass(slots=True)
class _Taken:
    """Spans of one family that do not overlap, sorted, with where they are said."""

    spans: list[_Span] = field(default_factory=list)

    def overlapping(self, one: Range) -> _Span | None:
        index = bisect_right(self.spans, int(one.last), key=_first)
        if index and self.spans[index - 1][1] >= int(one.first):
            return self.spans[index - 1]
        return None

    def add(self, spans: list[_Span]) -> None:
        if len(spans) < len(self.spans) // 8:
            for span in spans:
                insort_right(self.spans, span, key=_first)
        else:  # one by one, this would take the square of the time
            self.spans = sorted(self.spans + spans, key=_first)


def _first(span: _Span) -> int:
    return span[0]


def without_overlaps(pools: Iterable[DeclaredPool]) -> list[DeclaredPool]:
    """Return the pools no range of which overlaps another range, its own pool's or an earlier pool's.

    A pool that is being deleted gives way: what another one has, too, is no longer its own. So a pool can be
    renamed.
    """
    taken: dict[Family, _Taken] = {4: _Taken(), 6: _Taken()}
    kept: list[DeclaredPool] = []
    for pool in sorted(pools, key=lambda pool: pool.value.deleted):
        if pool.value.deleted:
            pool = _without(pool, joined(one for other in kept for one in other.value.ranges))
        own = {family: _spans(pool, family) for family in taken}
        if any(_meets(taken[family], own[family]) for family in taken):
            _tell_overlaps(pool, taken)
        else:
            for family in taken:
                taken[family].add(own[family])
            kept.append(pool)
    return kept


def _without(pool: DeclaredPool, taken: RangeSet) -> DeclaredPool:
    parts = without(pool.value.ranges, taken)
    value = replace(pool.value, ranges=tuple(part for _, part in parts))
    return replace(pool, value=value, entries=tuple(pool.entries[number] for number, _ in parts))


def _spans(pool: DeclaredPool, family: Family) -> list[_Span]:
    numbered = enumerate(pool.value.ranges)
    spans = [(int(one.first), int(one.last), pool, at) for at, one in numbered if one.family == family]
    return sorted(spans, key=_first)


def _meets(taken: _Taken, spans: list[_Span]) -> bool:
    """Whether one of `spans` overlaps what is taken, or the next of them."""
    return any(one[1] >= two[0] for one, two in itertools.pairwise(spans)) or any(
        taken.overlapping(pool.value.ranges[at]) is not None for _, _, pool, at in spans
    )


def _tell_overlaps(pool: DeclaredPool, taken: Mapping[Family, _Taken]) -> None:
    own: dict[Family, _Taken] = {4: _Taken(), 6: _Taken()}
    told = 0
    for number, one in enumerate(pool.value.ranges):
        other = taken[one.family].overlapping(one) or own[one.family].overlapping(one)
        if other is None:
            own[one.family].add([(int(one.first), int(one.last), pool, number)])
        elif told < _MANY:
            told += 1
            _tell_overlap(one, _said_at(pool, number), pool.value.name, other)


def _said_at(pool: DeclaredPool, number: int) -> Place:
    return pool.place.at("spec", "addresses", pool.entries[number])


def _tell_overlap(one: Range, where: Place, name: str, other: _Span) -> None:
    first, last, pool, number = other
    make = type(one.first)
    whose = "this pool" if pool.value.name == name else f"pool {pool.value.name}"
    common = Range(max(one.first, make(first)), min(one.last, make(last)))
    what = f"{one} overlaps {make(first)}-{make(last)} of {whose}{_said_at(pool, number).aside}"
    where.error(what, f"take {common} out of one of the two")


# --- names ----------------------------------------------------------------------------------------------


def warn_unknown(place: Place, key: str, kind: str, declared: Mapping[str, object]) -> None:
    """Warn of names in `spec.<key>` of the document, a name or a list, that no document of `kind` has."""
    spec: Any = place.document.value.get("spec") or {}
    given = spec.get(key) or ()
    places = {(): given} if isinstance(given, str) else {(number,): name for number, name in enumerate(given)}
    unknown = [(at, name) for at, name in places.items() if name not in declared]
    for at, name in unknown[:_MANY]:
        known = ", ".join(list(declared)[:5])
        hint = did_you_mean(name, declared) or (f"there are: {known}" if known else f"add the {kind}")
        place.at("spec", key, *at).warn(f"there is no {kind} {shown(name)}", hint)


# --- links ----------------------------------------------------------------------------------------------

_Covered = tuple[frozenset[Selector], frozenset[str]]  # nodes and interfaces; none: all


def warn_never_first(policies: Iterable[Declared[LinkPolicy]]) -> None:
    """Warn of each policy all links of which an earlier one has, too; they come in the order that counts.

    Only what is certain without the labels of nodes: both have the same selectors, or the earlier one is
    about all nodes; interfaces likewise.
    """
    earlier: dict[_Covered, Declared[LinkPolicy]] = {}
    for policy in policies:
        nodes, interfaces = _covered(policy.value)
        everything = not nodes and not interfaces
        wider = itertools.product((frozenset(), nodes), (frozenset(), interfaces))
        other = next((earlier[one] for one in wider if one in earlier), None)
        if other is None:
            earlier[nodes, interfaces] = policy
            continue
        what = "everything" if everything else "all of these links"
        policy.place.at("metadata", "name").warn(
            f"LinkPolicy/{other.value.name}{other.place.aside} is about {what}, too, and the first by name"
            " counts: this one changes nothing",
            "remove one of the two, or give one nodeSelectors or interfaces"
            if everything
            else "rename one of the two, so that the one for fewer links comes first",
        )


def _covered(policy: LinkPolicy) -> _Covered:
    nodes = frozenset(policy.node_selectors)
    return frozenset() if Selector() in nodes else nodes, policy.interfaces


# --- what BGP announces ---------------------------------------------------------------------------------


def check_aggregation(ad: Declared[BGPAdvertisement], pools: Iterable[DeclaredPool]) -> None:
    """Refuse an advertisement whose aggregate would announce addresses that are not in the pool.

    What is excluded is in it here: single addresses that are not given, among those that are.
    """
    lengths: dict[Family, tuple[str, int]] = {
        4: ("aggregationLength", ad.value.aggregation_length),
        6: ("aggregationLengthV6", ad.value.aggregation_length_v6),
    }
    if lengths[4][1] == 32 and lengths[6][1] == 128:
        return
    covering = [pool for pool in pools if ad.value.scope.covers_pool(pool.value)]
    for pool in covering:
        for family, (best, one) in pool.longest.items():
            key, length = lengths[family]
            if best > length:
                what = f"a /{length} is more than {one} of pool {pool.value.name}: at most a /{best} fits"
                ad.place.at("spec", key).error(what, f"write {best} or more, or name other pools")
                return


def check_preferences(
    ads: Sequence[Declared[BGPAdvertisement]], pools: Sequence[DeclaredPool]
) -> list[Declared[BGPAdvertisement]]:
    """Return the advertisements that give no route a second LOCAL_PREF, MED or path.

    Two do that if they certainly meet (a pool, a length, a peer and a node in common) and select all
    services; what depends on services' and nodes' labels is decided when they are known.
    """
    if len({tuple(ad.value.preferences.values()) for ad in ads}) < 2:
        return list(ads)
    families = [(pool.value, frozenset(one.family for one in pool.value.ranges)) for pool in pools]
    kept: list[tuple[Declared[BGPAdvertisement], _Footprint]] = []
    for ad in ads:
        footprint = _footprint(ad.value, families)
        other = next(
            (one for one, of_one in kept if footprint & of_one and _conflict(one.value, ad.value)), None
        )
        if other is None:
            kept.append((ad, footprint))
            continue
        key = next(iter(_differ(other.value, ad.value)))
        first, second = (one.preferences[key] for one in (other.value, ad.value))
        ad.place.at("spec", key).error(
            f"{key} is {_or_none(second)} here and {_or_none(first)} in BGPAdvertisement/{other.value.name}"
            f"{other.place.aside}, for the same routes",
            f"give both the same {key}, or different pools, peers or aggregation lengths",
        )
    return [ad for ad, _ in kept]


_Footprint = frozenset[tuple[str, Family, int]]  # pools, families and lengths that are announced


def _footprint(ad: BGPAdvertisement, families: Iterable[tuple[Pool, frozenset[Family]]]) -> _Footprint:
    covered = [(pool, of_pool) for pool, of_pool in families if ad.scope.covers_pool(pool)]
    return frozenset(
        (pool.name, family, ad.length(family)) for pool, of_pool in covered for family in of_pool
    )


def _differ(one: BGPAdvertisement, two: BGPAdvertisement) -> list[str]:
    """In which fields the two give a route something else."""
    return [key for key, value in one.preferences.items() if two.preferences[key] != value]


def _or_none(value: int | None) -> str:
    return "none" if value is None else str(value)


def _conflict(one: BGPAdvertisement, two: BGPAdvertisement) -> bool:
    if not _differ(one, two) or one.scope.service_selectors or two.scope.service_selectors:
        return False
    if one.peers and two.peers and not one.peers & two.peers:
        return False
    return _meet(one.scope.node_selectors, two.scope.node_selectors)


def _meet(one: Sequence[Selector], two: Sequence[Selector]) -> bool:
    """Whether both certainly select a common node, if they select any."""
    return not one or not two or not set(one).isdisjoint(two)


def warn_no_effect(
    ads: Iterable[Declared[BGPAdvertisement]], peers: Iterable[Peer], refused: Iterable[str]
) -> None:
    """Warn of what an advertisement says to no router: LOCAL_PREF to other ASs, a longer path to the own one.

    `refused`: names of peers of which more is not known.
    """
    known, unknown = list(peers), frozenset(refused)
    for ad in ads:
        one = ad.value
        told = [peer for peer in known if not one.peers or peer.name in one.peers]
        if not told or (unknown & one.peers if one.peers else unknown):
            continue
        inside = {peer.ibgp for peer in told}
        if one.local_pref is not None and inside == {False}:
            what = "localPref is told within one AS only, and all routers of this are in another AS"
            ad.place.at("spec", "localPref").warn(what, "remove it; for another AS: med, asPathPrepend")
        if one.prepend and inside == {True}:
            what = (
                "asPathPrepend is told to another AS only, and all routers of this are in the speakers' own"
            )
            ad.place.at("spec", "asPathPrepend").warn(what, "remove it; within one AS: localPref")


def warn_same_router(peers: Iterable[Declared[Peer]]) -> None:
    """Warn of a second session of one node to one router, which the router will not accept."""
    earlier: dict[tuple[object, int], list[Declared[Peer]]] = {}
    for peer in peers:
        same = earlier.setdefault((peer.value.address, peer.value.port), [])
        other = next(
            (one for one in same if _meet(one.value.node_selectors, peer.value.node_selectors)), None
        )
        if other is not None:
            peer.place.at("spec", "peerAddress").warn(
                f"BGPPeer/{other.value.name}{other.place.aside} is the same router, for the same nodes",
                "remove one of the two, or give them different nodeSelectors",
            )
        same.append(peer)


def warn_given_away(peers: Iterable[Declared[Peer]], pools: Sequence[DeclaredPool]) -> None:
    """Warn of a router whose address a Service may get."""
    for peer in peers:
        address = peer.value.address
        if address is None:
            continue
        pool = next((pool for pool in pools if address in pool.value), None)
        if pool is not None:
            peer.place.at("spec", "peerAddress").warn(
                f"{address} is in IPAddressPool/{pool.value.name}{pool.place.aside}: a Service may get it",
                f"exclude {ip_network(address)} there, or write the router's address",
            )
