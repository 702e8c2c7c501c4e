"""Which service gets which IP."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lbspeaker.core.allocator import allocate, backend_key, ours, usage
from lbspeaker.model import (
    Allocation,
    Namespace,
    Pool,
    Port,
    Reason,
    Refusal,
    Service,
    ServiceAllocation,
)
from tests.build import ip, ips, pool, selector, service

HTTP, HTTPS = (Port("TCP", 80),), (Port("TCP", 443),)
FOR_SHOP = ServiceAllocation(namespaces=frozenset({"shop"}))
FOR_GOLD = ServiceAllocation(service_selectors=(selector(tier="gold"),))
ONE_APP = {"sharing_key": "k", "local": True, "selector": (("app", "x"),)}
WANTS_2 = {"requested_ips": "192.0.2.2"}
TWO = pool("two", "192.0.2.1-192.0.2.2")
DUAL = pool("dual", "192.0.2.1-192.0.2.9", "2001:db8::1-2001:db8::9")
SIX = pool("six", "2001:db8:6::1-2001:db8:6::9")
BOTH = {"families": (4, 6)}


def got(pools: list[Pool], *services: Service, **more: object) -> dict[str, str]:
    """What each service ends with, as text: its IPs, or the reason of its refusal."""
    results = allocate(pools, services, **more)  # type: ignore[arg-type]
    return {
        key.removeprefix("default/"): (
            " ".join(map(str, r.ips)) if isinstance(r, Allocation) else r.reason.value
        )
        for key, r in results.items()
    }


STORIES = {
    "the lowest free address, oldest service first": (
        [TWO],
        [service("young", created="2026-02"), service("old", created="2026-01")],
        {"old": "192.0.2.1", "young": "192.0.2.2"},
    ),
    "of the same age: by name": ([TWO], [service("b"), service("a")], {"a": "192.0.2.1", "b": "192.0.2.2"}),
    "who holds an IP keeps it, however young": (
        [TWO],
        [service("old", created="1"), service("young", created="2", held="192.0.2.1")],
        {"old": "192.0.2.2", "young": "192.0.2.1"},
    ),
    "a full pool refuses the youngest": (
        [TWO],
        [service("a"), service("b"), service("c")],
        {"a": "192.0.2.1", "b": "192.0.2.2", "c": "PoolExhausted"},
    ),
    "the next pool, when the first is full": (
        [TWO, pool("more", "198.51.100.7")],
        [service("a"), service("b"), service("c")],
        {"a": "192.0.2.1", "b": "192.0.2.2", "c": "198.51.100.7"},
    ),
    "two hold the same IP: the older keeps it": (
        [TWO],
        [service("a", created="2", held="192.0.2.1"), service("b", created="1", held="192.0.2.1")],
        {"a": "192.0.2.2", "b": "192.0.2.1"},
    ),
    "an IP outside every pool is replaced": (
        [TWO],
        [service("a", held="203.0.113.9")],
        {"a": "192.0.2.1"},
    ),
    "no pool at all": ([], [service("a")], {"a": "NoPool"}),
    "only pools that are not given out by themselves": (
        [replace(TWO, auto_assign=False)],
        [service("a"), service("b", requested_pool="two")],
        {"a": "NoPool", "b": "192.0.2.1"},
    ),
    "no cluster IP": ([TWO], [service("a", families=())], {"a": "NoClusterIP"}),
    "buggy addresses are skipped": (
        [pool("p", "192.0.2.255-192.0.3.1", avoid_buggy_ips=True)],
        [service("a")],
        {"a": "192.0.3.1"},
    ),
    "the requested IP": ([TWO], [service("a", requested_ips="192.0.2.2")], {"a": "192.0.2.2"}),
    "the requested IP is held by another": (
        [TWO],
        [service("a", held="192.0.2.2"), service("b", requested_ips="192.0.2.2")],
        {"a": "192.0.2.2", "b": "InUse"},
    ),
    "of two who request one IP, the older gets it": (
        [TWO],
        [service("a", created="2", **WANTS_2), service("b", created="1", **WANTS_2)],
        {"a": "InUse", "b": "192.0.2.2"},
    ),
    "the requested IP is in no pool": (
        [TWO],
        [service("a", requested_ips="192.0.2.99")],
        {"a": "OutsidePools"},
    ),
    "the requested IP is of a family that the service lacks": (
        [DUAL],
        [service("a", requested_ips="2001:db8::1")],
        {"a": "WrongFamily"},
    ),
    "the requested IP is not in the requested pool": (
        [TWO, DUAL.__class__("other", pool("x", "198.51.100.1").ranges)],
        [service("a", requested_ips="192.0.2.1", requested_pool="other")],
        {"a": "InvalidRequest"},
    ),
    "the requested pool": (
        [TWO, pool("more", "198.51.100.7")],
        [service("a", requested_pool="more")],
        {"a": "198.51.100.7"},
    ),
    "the requested pool does not exist": (
        [TWO],
        [service("a", requested_pool="tow")],
        {"a": "UnknownPool"},
    ),
    "who now requests another IP moves to it": (
        [TWO],
        [service("a", held="192.0.2.1", requested_ips="192.0.2.2")],
        {"a": "192.0.2.2"},
    ),
    "and keeps the old one while the other is taken": (
        [TWO],
        [service("a", held="192.0.2.1", requested_ips="192.0.2.2"), service("b", held="192.0.2.2")],
        {"a": "192.0.2.1", "b": "192.0.2.2"},
    ),
    "what it leaves is free for the next": (
        [pool("p", "192.0.2.1-192.0.2.3")],
        [
            service("a", created="1", held="192.0.2.1", requested_ips="192.0.2.3"),
            service("b", created="2", requested_ips="192.0.2.1"),
        ],
        {"a": "192.0.2.3", "b": "192.0.2.1"},
    ),
    "a request that makes no sense keeps what is held": (
        [TWO],
        [service("a", held="192.0.2.2", invalid=Refusal(Reason.INVALID_REQUEST, "?"))],
        {"a": "192.0.2.2"},
    ),
    "and gets nothing new": (
        [TWO],
        [service("a", invalid=Refusal(Reason.INVALID_REQUEST, "?"))],
        {"a": "InvalidRequest"},
    ),
    # sharing
    "s2 shares the IP of s1, with the same key and another port": (
        [TWO],
        [service("s1", sharing_key="k", ports=HTTP), service("s2", sharing_key="k", ports=HTTPS)],
        {"s1": "192.0.2.1", "s2": "192.0.2.1"},
    ),
    "not with the same port": (
        [TWO],
        [service("s1", sharing_key="k"), service("s2", sharing_key="k")],
        {"s1": "192.0.2.1", "s2": "192.0.2.2"},
    ),
    "not with another key": (
        [TWO],
        [service("s1", sharing_key="k"), service("s2", sharing_key="l", ports=HTTPS)],
        {"s1": "192.0.2.1", "s2": "192.0.2.2"},
    ),
    "UDP and TCP of one number do not clash": (
        [TWO],
        [service("s1", sharing_key="k"), service("s2", sharing_key="k", ports=(Port("UDP", 80),))],
        {"s1": "192.0.2.1", "s2": "192.0.2.1"},
    ),
    "Local and Cluster do not share": (
        [TWO],
        [service("s1", sharing_key="k"), service("s2", sharing_key="k", ports=HTTPS, local=True)],
        {"s1": "192.0.2.1", "s2": "192.0.2.2"},
    ),
    "Local services share with the same selector, in one namespace": (
        [TWO],
        [
            service("s1", **ONE_APP),
            service("s2", ports=HTTPS, **ONE_APP),
            service("other/s3", ports=(Port("TCP", 81),), **ONE_APP),
        ],
        {"s1": "192.0.2.1", "s2": "192.0.2.1", "other/s3": "192.0.2.2"},
    ),
    "an IP that is already shared comes before a free lower one": (
        [TWO],
        [service("s1", held="192.0.2.2", sharing_key="k"), service("s2", sharing_key="k", ports=HTTPS)],
        {"s1": "192.0.2.2", "s2": "192.0.2.2"},
    ),
    # families
    "a dual-stack service gets both, primary family first": (
        [DUAL],
        [service("a", families=(6, 4), ip_family_policy="RequireDualStack")],
        {"a": "2001:db8::1 192.0.2.1"},
    ),
    "RequireDualStack with one family only": (
        [DUAL],
        [service("a", ip_family_policy="RequireDualStack")],
        {"a": "NotDualStack"},
    ),
    "RequireDualStack gets both or nothing": (
        [TWO],
        [service("a", ip_family_policy="RequireDualStack", **BOTH)],
        {"a": "NoPoolForFamily"},
    ),
    "PreferDualStack takes what there is": (
        [TWO],
        [service("a", ip_family_policy="PreferDualStack", **BOTH)],
        {"a": "192.0.2.1"},
    ),
    "and gains the other family later, without moving": (
        [TWO, SIX],
        [service("a", ip_family_policy="PreferDualStack", held="192.0.2.2", **BOTH)],
        {"a": "192.0.2.2 2001:db8:6::1"},
    ),
    "both families from one pool, if one has both": (
        [TWO, SIX, DUAL.__class__("d", pool("x", "198.51.100.1", "2001:db8:d::1").ranges)],
        [service("a", ip_family_policy="RequireDualStack", **BOTH)],
        {"a": "198.51.100.1 2001:db8:d::1"},
    ),
    "the IPv6 stays when only the IPv4 is asked for anew": (
        [DUAL],
        [
            service(
                "a",
                held=["192.0.2.5", "2001:db8::5"],
                requested_ips="192.0.2.7",
                ip_family_policy="RequireDualStack",
                **BOTH,
            )
        ],
        {"a": "192.0.2.7 2001:db8::5"},
    ),
    "PreferDualStack with an IPv4 of its wish needs no IPv6": (
        [TWO],
        [service("a", requested_ips="192.0.2.2", ip_family_policy="PreferDualStack", **BOTH)],
        {"a": "192.0.2.2"},
    ),
    "a service that lost a family loses that IP only": (
        [DUAL],
        [service("a", held=["192.0.2.5", "2001:db8::5"])],
        {"a": "192.0.2.5"},
    ),
    "no pool for the family": ([TWO], [service("a", families=(6,))], {"a": "NoPoolForFamily"}),
    # whom pools are for
    "a pool for a namespace comes before one for all": (
        [TWO, pool("theirs", "198.51.100.7", service_allocation=FOR_SHOP)],
        [service("shop/a"), service("b")],
        {"shop/a": "198.51.100.7", "b": "192.0.2.1"},
    ),
    "the lower priority number first, 0 last": (
        [
            pool("zero", "192.0.2.1", service_allocation=ServiceAllocation(priority=0)),
            pool("nine", "192.0.2.2", service_allocation=ServiceAllocation(priority=9)),
            pool("five", "192.0.2.3", service_allocation=ServiceAllocation(priority=5)),
        ],
        [service("a"), service("b"), service("c")],
        {"a": "192.0.2.3", "b": "192.0.2.2", "c": "192.0.2.1"},
    ),
    "a requested pool must be for the service": (
        [pool("theirs", "198.51.100.7", service_allocation=FOR_SHOP)],
        [service("a", requested_pool="theirs"), service("b", requested_ips="198.51.100.7"), service("c")],
        {"a": "PoolNotForService", "b": "PoolNotForService", "c": "NoPool"},
    ),
    "by the labels of the service": (
        [pool("gold", "198.51.100.7", service_allocation=FOR_GOLD)],
        [service("a", labels={"tier": "gold"}), service("b", labels={"tier": "tin"})],
        {"a": "198.51.100.7", "b": "NoPool"},
    ),
    "who holds an IP of a pool that is no longer for it, moves": (
        [
            TWO,
            pool("theirs", "198.51.100.7", service_allocation=FOR_SHOP),
        ],
        [service("a", held="198.51.100.7")],
        {"a": "192.0.2.1"},
    ),
}  # fmt: skip


@pytest.mark.parametrize(("pools", "services", "expected"), STORIES.values(), ids=STORIES)
def test_stories(pools: list[Pool], services: list[Service], expected: dict[str, str]) -> None:
    assert got(pools, *services) == expected
    assert got(pools, *reversed(services)) == expected, "independent of the order of arrival"


def test_namespace_selectors_that_match_nothing_open_the_pool_to_nobody() -> None:
    rule = ServiceAllocation(namespace_selectors=(selector(team="a"),))
    pools = [pool("p", "192.0.2.1-192.0.2.9", service_allocation=rule)]
    namespaces = {"shop": Namespace("shop", {"team": "a"}), "default": Namespace("default")}
    results = got(pools, service("shop/a"), service("b", requested_pool="p"), namespaces=namespaces)
    assert results == {"shop/a": "192.0.2.1", "b": "PoolNotForService"}


def test_a_refusal_says_what_to_change() -> None:
    full = allocate([TWO], [service("a"), service("b"), service("c")])["default/c"]
    assert isinstance(full, Refusal)
    assert full.message == "no free IPv4 address (two: 2 of 2 used); add addresses to a pool"
    outside = allocate([TWO], [service("a", requested_ips="192.0.2.99")])["default/a"]
    assert isinstance(outside, Refusal)
    assert "the nearest is two (192.0.2.1-192.0.2.2)" in outside.message
    taken = allocate([TWO], [service("a", held="192.0.2.1"), service("b", requested_ips="192.0.2.1")])
    assert "in use by default/a" in taken["default/b"].message  # type: ignore[union-attr]


def test_a_preferred_family_that_is_missing_is_noted() -> None:
    result = allocate([TWO], [service("a", ip_family_policy="PreferDualStack", families=(4, 6))])["default/a"]
    assert isinstance(result, Allocation)
    assert result.note is not None
    assert result.note.reason is Reason.NO_POOL_FOR_FAMILY


def test_a_huge_pool_costs_nothing() -> None:
    huge = pool("huge", "2001:db8::-2001:db8:ffff:ffff:ffff:ffff:ffff:ffff")
    assert got([huge], service("a", families=(6,))) == {"a": "2001:db8::"}


def test_usage_counts_a_shared_ip_once() -> None:
    results = allocate([DUAL], [service("a", sharing_key="k"), service("b", sharing_key="k", ports=HTTPS)])
    assert usage(results, [DUAL]) == {"dual": {4: 1, 6: 0}}


def test_only_services_of_our_class_are_ours() -> None:
    assert ours(service("a"))
    assert not ours(service("a", load_balancer=False))
    assert not ours(service("a", load_balancer_class="other"))
    assert ours(service("a", load_balancer_class="mine"), "mine")
    assert not ours(service("a"), "mine")


# --- for all clusters -----------------------------------------------------------------------------------

POOLS = [
    pool("small", "192.0.2.0-192.0.2.3"),
    pool("dual", "198.51.100.0-198.51.100.5", "2001:db8::-2001:db8::3"),
    pool("shop", "203.0.113.0-203.0.113.1", service_allocation=FOR_SHOP),
]  # fmt: skip
ADDRESSES = [
    str(ip(text)) for text in ("192.0.2.0", "192.0.2.1", "198.51.100.0", "203.0.113.0", "192.0.2.77")
]
SIX_ADDRESSES = ["2001:db8::", "2001:db8::1"]
anybody = st.builds(
    service,
    st.sampled_from([f"{ns}/{n}" for ns in ("default", "shop") for n in "abcdefghij"]),
    created=st.sampled_from(["1", "2", "3"]),
    families=st.sampled_from([(), (4,), (6,), (4, 6), (6, 4)]),
    ip_family_policy=st.sampled_from(["SingleStack", "PreferDualStack", "RequireDualStack"]),
    local=st.booleans(),
    ports=st.sampled_from([HTTP, HTTPS, HTTP + HTTPS]),
    sharing_key=st.sampled_from([None, None, "k", "l"]),
    requested_pool=st.sampled_from([None, None, None, "small", "dual", "shop", "nowhere"]),
    requested_ips=st.lists(st.sampled_from(ADDRESSES), max_size=1),
    held=st.one_of(
        st.just([]),
        st.tuples(st.sampled_from(ADDRESSES)),
        st.tuples(st.sampled_from(ADDRESSES), st.sampled_from(SIX_ADDRESSES)),
    ),
)
clusters = st.lists(anybody, max_size=14, unique_by=lambda s: s.key)


def may_share(one: Service, other: Service) -> bool:
    same = one.sharing_key and one.sharing_key == other.sharing_key
    return bool(same) and backend_key(one) == backend_key(other) and not set(one.ports) & set(other.ports)


@given(clusters)
def test_everybody_gets_an_answer_and_no_ip_is_given_twice_unless_shared(services: list[Service]) -> None:
    results = allocate(POOLS, services)
    assert results.keys() == {s.key for s in services}
    users: dict[object, list[Service]] = {}
    for s in services:
        result = results[s.key]
        if isinstance(result, Allocation):
            assert result.ips
            assert {address.version for address in result.ips} <= set(s.families)
            assert any(result.ips[0] in p and p.name == result.pool for p in POOLS)
            for address in result.ips:
                users.setdefault(address, []).append(s)
    for address, sharers in users.items():
        for number, one in enumerate(sharers):
            assert all(may_share(one, other) for other in sharers[number + 1 :]), address


@given(clusters, st.randoms(use_true_random=False))
def test_the_result_is_stable_and_independent_of_order(services: list[Service], random: object) -> None:
    results = allocate(POOLS, services)
    shuffled = list(services)
    random.shuffle(shuffled)  # type: ignore[attr-defined]
    assert allocate(POOLS, shuffled) == results
    # Whoever got something holds it from now on: the next pass moves nobody.
    for _ in range(2):
        held = {k: r.ips for k, r in results.items() if isinstance(r, Allocation)}
        services = [replace(s, held=held.get(s.key, ())) for s in services]
        after = allocate(POOLS, services)
        for s in services:
            if s.held and s.invalid is None and not (s.requested_ips or s.requested_pool):
                kept = after[s.key]
                assert isinstance(kept, Allocation)
                assert set(s.held) <= set(kept.ips), f"{s.key} moved"
        results = after


@given(clusters)
def test_a_held_ip_that_is_still_right_never_moves(services: list[Service]) -> None:
    """Right: in a pool for the service, of its family, asked for by nobody older, and not shared."""
    alone = [s for s in services if sum(bool(set(s.held) & set(o.held)) for o in services) == 1]
    results = allocate(POOLS, services)
    for s in alone:
        if s.requested_ips or s.requested_pool or not isinstance(results[s.key], Allocation):
            continue
        for address in s.held:
            serves = address in POOLS[0] or address in POOLS[1] or s.namespace == "shop"
            if serves and address in ips(*ADDRESSES[:4], *SIX_ADDRESSES) and address.version in s.families:
                assert address in results[s.key].ips, s.key  # type: ignore[union-attr]
