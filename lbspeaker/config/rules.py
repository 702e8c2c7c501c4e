"""Rules between objects: what each may be alone, and not together.

Of two that exclude each other the earlier document stays.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from ipaddress import summarize_address_range
from typing import Any, Generic, TypeVar

from lbspeaker.config.place import Place, did_you_mean, shown
from lbspeaker.model import BGPAdvertisement, Family, Peer, Pool, Range, Selector

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Declared(Generic[T]):
    """What a document says, and where."""

    place: Place
    value: T


@dataclass(slots=True)
class _Taken:
    """Ranges that do not overlap, sorted, with their owners."""

    ranges: list[tuple[int, int, Place, str]] = field(default_factory=list)

    def index(self, number: int) -> int:
        """How many ranges start at `number` or before."""
        low, high = 0, len(self.ranges)
        while low < high:
            middle = (low + high) // 2
            if self.ranges[middle][0] <= number:
                low = middle + 1
            else:
                high = middle
        return low

    def overlapping(self, wanted: Range) -> tuple[int, int, Place, str] | None:
        index = self.index(int(wanted.last))
        if index and self.ranges[index - 1][1] >= int(wanted.first):
            return self.ranges[index - 1]
        return None

    def add(self, taken: Range, place: Place, name: str) -> None:
        self.ranges.insert(self.index(int(taken.first)), (int(taken.first), int(taken.last), place, name))

    def remove(self, taken: Range) -> None:
        del self.ranges[self.index(int(taken.first)) - 1]


def without_overlaps(pools: Iterable[Declared[Pool]]) -> list[Declared[Pool]]:
    """Return the pools no range of which overlaps another range, its own pool's or an earlier pool's."""
    taken: dict[Family, _Taken] = {4: _Taken(), 6: _Taken()}
    kept = []
    for pool in pools:
        added: list[Range] = []
        for number, one in enumerate(pool.value.ranges):
            where = pool.place.at("spec", "addresses", number)
            other = taken[one.family].overlapping(one)
            if other is None:
                taken[one.family].add(one, where, pool.value.name)
                added.append(one)
            else:
                _tell_overlap(one, where, pool.value.name, other)
        if pool.place.refused:
            for one in added:
                taken[one.family].remove(one)
        else:
            kept.append(pool)
    return kept


def _tell_overlap(one: Range, where: Place, name: str, other: tuple[int, int, Place, str]) -> None:
    first, last, place, other_name = other
    make = type(one.first)
    whose = "this pool" if other_name == name else f"pool {other_name}"
    common = Range(max(one.first, make(first)), min(one.last, make(last)))
    what = f"{one} overlaps {make(first)}-{make(last)} of {whose} ({place})"
    where.error(what, f"take {common} out of one of the two")


def warn_unknown(place: Place, key: str, kind: str, declared: Mapping[str, object]) -> None:
    """Warn of names in the list `spec.<key>` of the document that no document of `kind` has."""
    spec: Any = place.document.value.get("spec") or {}
    for number, name in enumerate(spec.get(key) or ()):
        if name not in declared:
            known = ", ".join(list(declared)[:5])
            hint = did_you_mean(name, declared) or (f"there are: {known}" if known else f"add the {kind}")
            place.at("spec", key, number).warn(f"there is no {kind} {shown(name)}", hint)


def check_aggregation(ad: Declared[BGPAdvertisement], pools: Iterable[Declared[Pool]]) -> None:
    """Refuse an advertisement whose aggregate would announce addresses that are not in the pool."""
    lengths: dict[Family, tuple[str, int]] = {
        4: ("aggregationLength", ad.value.aggregation_length),
        6: ("aggregationLengthV6", ad.value.aggregation_length_v6),
    }
    if lengths[4][1] == 32 and lengths[6][1] == 128:
        return
    for pool in pools:
        if not ad.value.scope.covers_pool(pool.value):
            continue
        for one in pool.value.ranges:
            key, length = lengths[one.family]
            best = min(net.prefixlen for net in summarize_address_range(one.first, one.last))
            if best > length:
                what = f"a /{length} is more than {one} of pool {pool.value.name}: at most a /{best} fits"
                ad.place.at("spec", key).error(what, f"write {best} or more, or name other pools")
                return


def check_local_prefs(
    ads: Sequence[Declared[BGPAdvertisement]], pools: Sequence[Declared[Pool]]
) -> list[Declared[BGPAdvertisement]]:
    """Return the advertisements that give no route a second LOCAL_PREF.

    Two do that if they certainly meet (a pool, a length, a peer and a node in common) and select all
    services; what depends on services' and nodes' labels is decided when they are known.
    """
    if len({ad.value.local_pref for ad in ads}) < 2:
        return list(ads)
    kept: list[Declared[BGPAdvertisement]] = []
    for ad in ads:
        other = next((one for one in kept if _conflict(one.value, ad.value, pools)), None)
        if other is None:
            kept.append(ad)
            continue
        first, second = other.value.local_pref or "none", ad.value.local_pref or "none"
        ad.place.at("spec", "localPref").error(
            f"localPref is {second} here and {first} in BGPAdvertisement/{other.value.name} ({other.place}),"
            " for the same routes",
            "give both the same localPref, or different pools, peers or aggregation lengths",
        )
    return kept


def _conflict(one: BGPAdvertisement, two: BGPAdvertisement, pools: Sequence[Declared[Pool]]) -> bool:
    if one.local_pref == two.local_pref or one.scope.service_selectors or two.scope.service_selectors:
        return False
    if one.peers and two.peers and not one.peers & two.peers:
        return False
    return _meet(one.scope.node_selectors, two.scope.node_selectors) and any(
        _covered(one, pool.value) & _covered(two, pool.value) for pool in pools
    )


def _covered(ad: BGPAdvertisement, pool: Pool) -> set[tuple[Family, int]]:
    """The families and lengths with which `ad` announces `pool`."""
    if not ad.scope.covers_pool(pool):
        return set()
    return {(one.family, ad.length(one.family)) for one in pool.ranges}


def _meet(one: Sequence[Selector], two: Sequence[Selector]) -> bool:
    """Whether both certainly select a common node, if they select any."""
    return not one or not two or not set(one).isdisjoint(two)


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
                f"BGPPeer/{other.value.name} ({other.place}) is the same router, for the same nodes",
                "remove one of the two, or give them different nodeSelectors",
            )
        same.append(peer)
