"""Sets of addresses as ranges, compared with sets of addresses one by one."""

from ipaddress import IPv4Address, ip_address, summarize_address_range

from hypothesis import given
from hypothesis import strategies as st

from lbspeaker.config.ranges import joined, shortest_prefix, without
from lbspeaker.model import Range


def span(first: int, size: int) -> Range:
    return Range(IPv4Address(first), IPv4Address(first + size))


def each(ranges: list[Range]) -> list[int]:
    return [number for one in ranges for number in range(int(one.first), int(one.last) + 1)]


SPANS = st.builds(span, st.integers(0, 80), st.integers(0, 20))


@given(st.lists(SPANS, max_size=5), st.lists(SPANS, max_size=5))
def test_what_is_left_is_what_is_in_no_hole_in_the_order_of_the_ranges(
    ranges: list[Range], holes: list[Range]
) -> None:
    parts = without(ranges, joined(holes))
    excluded = set(each(holes))
    for number, one in enumerate(ranges):
        left = [part for of, part in parts if of == number]
        assert each(left) == [address for address in each([one]) if address not in excluded]
    assert [of for of, _ in parts] == sorted(of for of, _ in parts)


@given(st.lists(SPANS, max_size=6), SPANS)
def test_joined_ranges_hold_the_same_and_neither_overlap_nor_touch(ranges: list[Range], one: Range) -> None:
    together = joined(ranges)
    assert each(list(together.ranges())) == sorted(set(each(ranges)))
    assert each(list(together.common(one))) == sorted(set(each(ranges)) & set(each([one])))
    assert (one.first in together) == (int(one.first) in each(ranges))
    gaps = [part.first for part in together.ranges()]
    assert all(address - 1 not in together for address in gaps if int(address))


def test_families_do_not_meet() -> None:
    everything = joined([Range(ip_address("::"), ip_address("ffff:" * 7 + "ffff"))])
    one = Range(ip_address("0.0.0.0"), ip_address("255.255.255.255"))
    assert without([one], everything) == [(0, one)]
    assert without(list(everything.ranges()), everything) == []


@given(st.integers(0, 2**32 - 1), st.integers(0, 2**12))
def test_the_shortest_prefix_is_that_of_the_largest_of_the_cidrs_of_a_range(first: int, size: int) -> None:
    one = Range(IPv4Address(first), IPv4Address(min(first + size, 2**32 - 1)))
    assert shortest_prefix(one) == min(net.prefixlen for net in summarize_address_range(one.first, one.last))
