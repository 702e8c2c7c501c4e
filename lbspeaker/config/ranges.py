"""Sets of addresses as ranges: joined, cut out, in common. Never address by address, however large."""

from bisect import bisect_left
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from lbspeaker.model import Address, Family, Range, address

_FAMILIES: tuple[Family, Family] = (4, 6)


@dataclass(frozen=True, slots=True)
class RangeSet:
    """Addresses of both families, as sorted spans that neither overlap nor touch."""

    firsts: dict[Family, list[int]]
    lasts: dict[Family, list[int]]

    def __contains__(self, ip: Address) -> bool:
        return any(True for _ in self.common(Range(ip, ip)))

    def common(self, one: Range) -> Iterator[Range]:
        """Yield the parts of `one` that are in the set, lowest first."""
        firsts, lasts = self.firsts[one.family], self.lasts[one.family]
        low, high = int(one.first), int(one.last)
        index = bisect_left(lasts, low)
        while index < len(firsts) and firsts[index] <= high:
            yield _range(one.family, max(firsts[index], low), min(lasts[index], high))
            index += 1

    def rest(self, one: Range) -> Iterator[Range]:
        """Yield the parts of `one` that are not in the set, lowest first."""
        holes = list(self.common(one))
        if not holes:
            yield one
            return
        start = int(one.first)
        for hole in holes:
            if start < int(hole.first):
                yield _range(one.family, start, int(hole.first) - 1)
            start = int(hole.last) + 1
        if start <= int(one.last):
            yield _range(one.family, start, int(one.last))

    def ranges(self) -> Iterator[Range]:
        for family in _FAMILIES:
            for first, last in zip(self.firsts[family], self.lasts[family], strict=True):
                yield _range(family, first, last)


def joined(ranges: Iterable[Range]) -> RangeSet:
    """Return all addresses of `ranges`, which may overlap."""
    spans: dict[Family, list[tuple[int, int]]] = {4: [], 6: []}
    for one in ranges:
        spans[one.family].append((int(one.first), int(one.last)))
    found = RangeSet({4: [], 6: []}, {4: [], 6: []})
    for family in _FAMILIES:
        firsts, lasts = found.firsts[family], found.lasts[family]
        for first, last in sorted(spans[family]):
            if lasts and first <= lasts[-1] + 1:
                lasts[-1] = max(lasts[-1], last)
            else:
                firsts.append(first)
                lasts.append(last)
    return found


def without(ranges: Sequence[Range], holes: RangeSet) -> list[tuple[int, Range]]:
    """Return what is left of `ranges`, in their order, each part with the number of its range."""
    return [(number, part) for number, one in enumerate(ranges) for part in holes.rest(one)]


def shortest_prefix(one: Range) -> int:
    """Return the length of the largest CIDR that fits into a range."""
    first, last = int(one.first), int(one.last)
    bits = one.size.bit_length() - 1  # of a CIDR as large as the range, which may not lie well
    aligned = -(-first >> bits) << bits
    if aligned + (1 << bits) - 1 > last:
        bits -= 1  # half as large always fits
    return one.first.max_prefixlen - bits


def _range(family: Family, first: int, last: int) -> Range:
    return Range(address(family, first), address(family, last))
