"""How far pools are used up: one result at a time, there and back."""

from collections.abc import Iterable
from dataclasses import replace
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lbspeaker.core.allocator import Result
from lbspeaker.core.pools import Slot, slot_of
from lbspeaker.core.usage import Usage, outcomes, usage
from lbspeaker.model import Allocation, Pool, Reason, Refusal, address
from tests.build import ip, ips, pool

LAN = pool("lan", "192.0.2.1-192.0.2.9", "2001:db8::-2001:db8::f")
WAN = pool("wan", "198.51.100.0-198.51.100.9", avoid_buggy_ips=True)
POOLS = (LAN, WAN)
DUAL = Allocation(ips("192.0.2.1", "2001:db8::1"), ("lan", "lan"))
LACKING = Allocation(ips("192.0.2.1"), ("lan",), Refusal(Reason.POOL_EXHAUSTED, "no IPv6", ("wan",)))
WAITING = Refusal(Reason.POOL_EXHAUSTED, "full", ("lan", "wan"))


def one(*addresses: str, name: str = "lan") -> Allocation:
    return Allocation(ips(*addresses), (name,) * len(addresses))


Counts = tuple[int, int, int, int]  # IPv4 and IPv6 addresses, services, and waiting
# What is counted of lan, and of wan.
STORIES: dict[str, tuple[list[Result], Counts, Counts]] = {
    "nobody": ([], (0, 0, 0, 0), (0, 0, 0, 0)),
    "both families": ([DUAL], (1, 1, 1, 0), (0, 0, 0, 0)),
    "a shared IP counts once, its services each": ([DUAL, one("192.0.2.1")], (1, 1, 2, 0), (0, 0, 0, 0)),
    "a family from each pool": (
        [Allocation(ips("198.51.100.1", "2001:db8::1"), ("wan", "lan"))], (0, 1, 1, 0), (1, 0, 1, 0)
    ),
    "who waits, waits for each pool that was asked": ([WAITING, WAITING], (0, 0, 0, 2), (0, 0, 0, 2)),
    "who has one family does not wait for the other": ([LACKING], (1, 0, 1, 0), (0, 0, 0, 0)),
    "kept outside: the service counts, the IP does not": ([one("203.0.113.1")], (0, 0, 1, 0), (0, 0, 0, 0)),
    "nor one that the pool leaves out": ([one("198.51.100.0", name="wan")], (0, 0, 0, 0), (0, 0, 1, 0)),
    "a pool that is no more": ([one("203.0.113.1", name="old")], (0, 0, 0, 0), (0, 0, 0, 0)),
}  # fmt: skip


@pytest.mark.parametrize("story", STORIES)
def test_the_use_of_a_pool(story: str) -> None:
    results, *expected = STORIES[story]
    found = usage({f"default/{number}": result for number, result in enumerate(results)}, POOLS)
    for its, (v4, v6, services, pending) in zip(POOLS, expected, strict=True):
        use = found.of(its.name)
        assert (use.assigned, use.services, use.pending) == ({4: v4, 6: v6}, services, pending)
        assert len(found.services(its.name)) == services
    assert (found.services("old"), list(found.spans("old"))) == (frozenset(), [])


def texts(spans: Iterable[tuple[Slot, Slot]]) -> list[str]:
    return [f"{address(*first)}-{address(*last)}" for first, last in spans]


def test_addresses_side_by_side_are_one_span_and_families_are_not_joined() -> None:
    held = ("192.0.2.3", "192.0.2.1", "192.0.2.2", "192.0.2.9", "::cb00:7102", "::cb00:7103", "203.0.113.1")
    found = usage({f"default/{n}": one(text) for n, text in enumerate(held)}, [LAN])
    assert texts(found.spans("lan")) == [
        "192.0.2.1-192.0.2.3", "192.0.2.9-192.0.2.9", "203.0.113.1-203.0.113.1", "::cb00:7102-::cb00:7103"
    ]  # fmt: skip
    assert found.in_use("lan", slot_of(ip("203.0.113.1"))), "also outside the pool"
    assert not found.in_use("lan", slot_of(ip("192.0.2.4")))
    assert not found.in_use("old", slot_of(ip("192.0.2.1")))


def test_the_last_of_those_that_share_an_ip_frees_it() -> None:
    found = usage({"default/a": one("192.0.2.1"), "default/b": one("192.0.2.1")}, POOLS)
    found.remove("default/a", one("192.0.2.1"))
    assert (found.of("lan").assigned[4], found.services("lan")) == (1, frozenset({"default/b"}))
    found.remove("default/b", one("192.0.2.1"))
    assert (found.of("lan").assigned[4], list(found.spans("lan"))) == (0, [])


# --- for all results ------------------------------------------------------------------------------------

some_ips = st.sampled_from(
    ["192.0.2.1", "192.0.2.2", "192.0.2.3", "198.51.100.0", "198.51.100.1", "203.0.113.1"]
)
some_pool = st.sampled_from(["lan", "lan", "wan", "old"])
some_result = st.one_of(
    st.builds(one, some_ips, name=some_pool),
    st.builds(one, some_ips, st.sampled_from(["2001:db8::1", "2001:db8::2"]), name=some_pool),
    st.builds(lambda names: replace(WAITING, pools=tuple(names)), st.lists(some_pool, unique=True)),
)
some_results = st.dictionaries(st.sampled_from("abcdefgh"), some_result)


def told(found: Usage, pools: Iterable[Pool]) -> list[object]:
    return [(found.of(p.name), found.services(p.name), list(found.spans(p.name))) for p in pools]


@given(some_results, some_results, st.randoms(use_true_random=False))
def test_what_was_added_and_removed_again_leaves_no_trace(
    stay: dict[str, Result], leave: dict[str, Result], random: object
) -> None:
    found = usage(stay, POOLS)
    steps = [(key + "!", result) for key, result in leave.items()]
    for key, result in steps:
        found.add(key, result)
    both = usage({**stay, **dict(steps)}, POOLS)
    assert told(found, POOLS) == told(both, POOLS)
    random.shuffle(steps)  # type: ignore[attr-defined]
    for key, result in steps:
        found.remove(key, result)
    assert told(found, POOLS) == told(usage(stay, POOLS), POOLS)


@given(some_results)
def test_it_is_what_one_counts_by_hand(results: dict[str, Result]) -> None:
    found = usage(results, POOLS)
    for its in POOLS:
        had = [(key, i) for key, r in results.items() if isinstance(r, Allocation)
               for i, name in zip(r.ips, r.pools, strict=True) if name == its.name]  # fmt: skip
        within = {i for _, i in had if i in its}
        use = found.of(its.name)
        assert use.assigned == {f: sum(i.version == f for i in within) for f in (4, 6)}
        assert found.services(its.name) == {key for key, _ in had}
        assert use.pending == sum(isinstance(r, Refusal) and its.name in r.pools for r in results.values())
        spans = list(found.spans(its.name))
        assert {(f, n) for (f, a), (_, b) in spans for n in range(a, b + 1)} == {slot_of(i) for _, i in had}
        assert all(a[0] != b[0] or a[1] + 1 < b[1] for (_, a), (b, _) in pairwise(spans))


def test_what_services_got_is_counted_by_reason() -> None:
    found = outcomes({"a": DUAL, "b": LACKING, "c": WAITING, "d": WAITING, "e": Refusal(Reason.NO_POOL, "")})
    assert found == (2, {"PoolExhausted": 2, "NoPool": 1}, {"PoolExhausted": 1})
    assert outcomes({}) == (0, {}, {})
