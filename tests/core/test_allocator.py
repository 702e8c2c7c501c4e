"""Which service gets which IP."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lbspeaker.core.allocator import allocate, ours
from lbspeaker.core.book import Cooling, families
from lbspeaker.core.sharing import Holding, backend_key
from lbspeaker.core.usage import usage
from lbspeaker.model import (
    Allocation,
    Namespace,
    Pool,
    Port,
    Reason,
    Refusal,
    Reservation,
    Service,
    ServiceAllocation,
)
from tests.build import ip, ips, pool, selector, service

HTTP, HTTPS = (Port("TCP", 80),), (Port("TCP", 443),)
FOR_SHOP = ServiceAllocation(namespaces=frozenset({"shop"}))
FOR_GOLD = ServiceAllocation(service_selectors=(selector(tier="gold"),))
ONE_APP = {"sharing_key": "k", "local": True, "selector": (("app", "x"),)}
WANTS_2 = {"requested_ips": "192.0.2.2"}
WEB = "default/web"
RESERVING = pool("r", "192.0.2.1-192.0.2.2", reservations=(Reservation(WEB, ips("192.0.2.1")),))
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
    "what it leaves is free for the next, but not before it is written that it was left": (
        [pool("p", "192.0.2.1-192.0.2.3")],
        [
            service("a", created="1", held="192.0.2.1", requested_ips="192.0.2.3"),
            service("b", created="2", requested_ips="192.0.2.1"),
        ],
        {"a": "192.0.2.3", "b": "InUse"},
    ),
    "nor what it may not keep": (
        [pool("p", "192.0.2.1"), pool("theirs", "192.0.2.2", service_allocation=FOR_SHOP)],
        [service("a", held="192.0.2.2"), service("shop/b", requested_pool="theirs")],
        {"a": "192.0.2.1", "shop/b": "PoolExhausted"},
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
    # pools that give nothing any more
    "a disabled pool gives nothing, and who has an IP of it keeps it": (
        [replace(TWO, disabled=True)],
        [service("a", held="192.0.2.1"), service("b"), service("c", requested_ips="192.0.2.2")],
        {"a": "192.0.2.1", "b": "PoolClosed", "c": "PoolClosed"},
    ),
    "a pool that is being deleted likewise, and the next one gives": (
        [replace(TWO, deleted=True), pool("more", "198.51.100.7")],
        [service("a", held="192.0.2.1"), service("b")],
        {"a": "192.0.2.1", "b": "198.51.100.7"},
    ),
    "a disabled pool does not even give what may be shared": (
        [replace(TWO, disabled=True)],
        [service("a", held="192.0.2.1", sharing_key="k"), service("b", sharing_key="k", ports=HTTPS)],
        {"a": "192.0.2.1", "b": "PoolClosed"},
    ),
    # a pool became smaller
    "who lives outside of his pool, that has shrunk, keeps his IP": (
        [pool("lan", "192.0.2.5")],
        [service("a", held="192.0.2.1", held_pool="lan"), service("b")],
        {"a": "192.0.2.1", "b": "192.0.2.5"},
    ),
    "unless the pool says that he is to move": (
        [pool("lan", "192.0.2.5", on_shrink="Renumber")],
        [service("a", held="192.0.2.1", held_pool="lan")],
        {"a": "192.0.2.5"},
    ),
    "but if there is no other for it, it keeps what it has": (
        [pool("lan", "192.0.2.5", on_shrink="Renumber")],
        [service("a", held="192.0.2.5"), service("b", held="192.0.2.1", held_pool="lan")],
        {"a": "192.0.2.5", "b": "192.0.2.1"},
    ),
    "also if it asked for just that": (
        [pool("lan", "192.0.2.5", on_shrink="Renumber")],
        [service("a", held="192.0.2.1", held_pool="lan", requested_ips="192.0.2.1")],
        {"a": "192.0.2.1"},
    ),
    "an IP that somebody wrote into the status by hand is none that was given": (
        [pool("lan", "192.0.2.5")],
        [service("a", held="203.0.113.9", held_pool="lan", given=ips("192.0.2.1"))],
        {"a": "192.0.2.5"},
    ),
    "or the pool is gone": (
        [pool("other", "192.0.2.5")],
        [service("a", held="192.0.2.1", held_pool="lan")],
        {"a": "192.0.2.5"},
    ),
    "of two families each has its pool": (
        [pool("four", "192.0.2.5"), pool("six", "2001:db8::5", on_shrink="Renumber")],
        [
            service(
                "a",
                held=["192.0.2.1", "2001:db8::1"],
                held_pool="four,six",
                ip_family_policy="RequireDualStack",
                **BOTH,
            )
        ],
        {"a": "192.0.2.1 2001:db8::5"},
    ),
    "nobody new gets what is outside, not even to share it": (
        [pool("lan", "192.0.2.5")],
        [
            service("a", held="192.0.2.1", held_pool="lan", sharing_key="k"),
            service("b", sharing_key="k", ports=HTTPS),
        ],
        {"a": "192.0.2.1", "b": "192.0.2.5"},
    ),
    "a buggy address is one that the pool does not contain": (
        [pool("p", "192.0.2.254-192.0.3.1", avoid_buggy_ips=True)],
        [service("a", requested_ips="192.0.2.255"), service("b", held="192.0.3.0")],
        {"a": "OutsidePools", "b": "192.0.2.254"},
    ),
    # quotas
    "a namespace has no more IPs than its quota": (
        [pool("lan", "192.0.2.1-192.0.2.9", namespace_quota=2)],
        [service("a"), service("b"), service("c"), service("shop/d")],
        {"a": "192.0.2.1", "b": "192.0.2.2", "c": "QuotaReached", "shop/d": "192.0.2.3"},
    ),
    "an IP that its services share counts once": (
        [pool("lan", "192.0.2.1-192.0.2.9", namespace_quota=1)],
        [service("a", sharing_key="k"), service("b", sharing_key="k", ports=HTTPS), service("c")],
        {"a": "192.0.2.1", "b": "192.0.2.1", "c": "QuotaReached"},
    ),
    "a requested IP counts, too": (
        [pool("lan", "192.0.2.1-192.0.2.9", namespace_quota=1)],
        [service("a"), service("b", requested_ips="192.0.2.9")],
        {"a": "192.0.2.1", "b": "QuotaReached"},
    ),
    "who has more than a new quota keeps it": (
        [pool("lan", "192.0.2.1-192.0.2.9", namespace_quota=1)],
        [service("a", held="192.0.2.1"), service("b", held="192.0.2.2")],
        {"a": "192.0.2.1", "b": "192.0.2.2"},
    ),
    "and both families of a service count": (
        [pool("d", "192.0.2.1", "2001:db8::1", namespace_quota=1)],
        [service("a", ip_family_policy="RequireDualStack", **BOTH)],
        {"a": "QuotaReached"},
    ),
    # exclusive pools
    "an exclusive pool is the only one for its namespace": (
        [TWO, pool("theirs", "198.51.100.7", service_allocation=replace(FOR_SHOP, exclusive=True))],
        [service("shop/a"), service("shop/b"), service("c")],
        {"shop/a": "198.51.100.7", "shop/b": "PoolExhausted", "c": "192.0.2.1"},
    ),
    "also for who asks for another": (
        [TWO, pool("theirs", "198.51.100.7", service_allocation=replace(FOR_SHOP, exclusive=True))],
        [service("shop/a", requested_pool="two"), service("shop/b", requested_ips="192.0.2.1")],
        {"shop/a": "PoolNotForService", "shop/b": "PoolNotForService"},
    ),
    "and who has an IP of another moves": (
        [TWO, pool("theirs", "198.51.100.7", service_allocation=replace(FOR_SHOP, exclusive=True))],
        [service("shop/a", held="192.0.2.1")],
        {"shop/a": "198.51.100.7"},
    ),
    # reservations
    "a reserved IP waits for its service": (
        [RESERVING],
        [service("a"), service("b"), service("web")],
        {"a": "192.0.2.2", "b": "PoolExhausted", "web": "192.0.2.1"},
    ),
    "nobody else gets it by asking": (
        [RESERVING],
        [service("a", requested_ips="192.0.2.1")],
        {"a": "Reserved"},
    ),
    "who had it before keeps it, and its service waits": (
        [RESERVING],
        [service("a", held="192.0.2.1"), service("web")],
        {"a": "192.0.2.1", "web": "InUse"},
    ),
    "a reservation opens a pool that is not for the service": (
        [replace(RESERVING, auto_assign=False, service_allocation=FOR_SHOP)],
        [service("web"), service("a")],
        {"web": "192.0.2.1", "a": "NoPool"},
    ),
    "what the service asks for itself counts more": (
        [RESERVING],
        [service("web", requested_ips="192.0.2.2")],
        {"web": "192.0.2.2"},
    ),
    "a reservation of one family leaves the other to the pool": (
        [pool("d", "192.0.2.1-192.0.2.9", "2001:db8::1", reservations=(Reservation(WEB, ips("192.0.2.7")),))],
        [service("web", ip_family_policy="RequireDualStack", **BOTH)],
        {"web": "192.0.2.7 2001:db8::1"},
    ),
    # sharing inside a namespace only
    "sharing keys may be confined to a namespace": (
        [replace(TWO, sharing="Namespace")],
        [
            service("a", sharing_key="k"),
            service("b", sharing_key="k", ports=HTTPS),
            service("shop/c", sharing_key="k", ports=(Port("TCP", 81),)),
        ],
        {"a": "192.0.2.1", "b": "192.0.2.1", "shop/c": "192.0.2.2"},
    ),
    "then asking for another namespace's IP is of no use": (
        [replace(TWO, sharing="Namespace")],
        [
            service("a", held="192.0.2.1", sharing_key="k"),
            service("shop/c", sharing_key="k", ports=HTTPS, requested_ips="192.0.2.1"),
        ],
        {"a": "192.0.2.1", "shop/c": "InUse"},
    ),
    "else they count in the whole cluster, as MetalLB's do": (
        [TWO],
        [service("a", sharing_key="k"), service("shop/c", sharing_key="k", ports=HTTPS)],
        {"a": "192.0.2.1", "shop/c": "192.0.2.1"},
    ),
    "two pools, where none has both families": (
        [TWO, SIX],
        [service("a", families=(6, 4), ip_family_policy="RequireDualStack")],
        {"a": "2001:db8:6::1 192.0.2.1"},
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


def test_strategy_random_spreads_and_comes_to_the_same_each_time() -> None:
    wide = pool("wide", "192.0.2.0-192.0.2.255", "2001:db8::-2001:db8:ffff::", strategy="Random")
    services = [
        service(f"s{n}", uid=str(n), families=(4, 6), ip_family_policy="RequireDualStack") for n in range(64)
    ]
    results = allocate([wide], services)
    assert allocate([wide], reversed(services)) == results
    given = [r.ips for r in results.values() if isinstance(r, Allocation)]
    assert len({v4 for v4, _ in given}) == len({v6 for _, v6 in given}) == 64
    assert {int(v4) & 0xC0 for v4, _ in given} == {0x00, 0x40, 0x80, 0xC0}, "from all quarters"
    full = pool("full", "192.0.2.0-192.0.2.63", strategy="Random")
    got_all = allocate([full], [service(f"s{n}") for n in range(65)])
    assert sum(isinstance(r, Allocation) for r in got_all.values()) == 64, "to the last one"


def test_a_released_ip_cools_down_for_others_and_not_for_who_had_it() -> None:
    cool = pool("two", "192.0.2.1-192.0.2.2", cooldown_s=60)
    cooling = {(4, int(ip("192.0.2.1"))): Cooling("default/was", "two", 99.0)}
    services = [service("a"), service("b"), service("c", requested_ips="192.0.2.1")]
    assert got([cool], *services, cooling=cooling) == {
        "a": "192.0.2.2", "b": "PoolExhausted", "c": "CoolingDown"
    }  # fmt: skip
    assert got([cool], service("a"), service("was"), cooling=cooling) == {
        "a": "192.0.2.2",
        "was": "192.0.2.1",
    }


def test_what_somebody_leaves_is_given_in_the_next_pass() -> None:
    moving = service("a", created="1", held="192.0.2.1", requested_ips="192.0.2.2")
    waiting = service("b", created="2")
    assert got([TWO], moving, waiting) == {"a": "192.0.2.2", "b": "PoolExhausted"}
    written = replace(moving, held=ips("192.0.2.2"))
    assert got([TWO], written, waiting) == {"a": "192.0.2.2", "b": "192.0.2.1"}


def test_four_thousand_services_with_one_sharing_key_are_no_quadratic_matter() -> None:
    """The same key and port: each needs an IP of its own. Counted in looks at an IP, not in seconds."""
    wide = pool("wide", "10.0.0.0-10.0.63.255")
    looks = 0
    original = Holding.refuses

    def counted(self: Holding, one: Service) -> str:
        nonlocal looks
        looks += 1
        return original(self, one)

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(Holding, "refuses", counted)
        results = allocate([wide], [service(f"s{n:04}", sharing_key="k") for n in range(4000)])
    assert len({r.ips for r in results.values() if isinstance(r, Allocation)}) == 4000
    assert looks <= 4000


def test_a_pool_that_was_left_out_is_named_and_why() -> None:
    pools = [replace(TWO, auto_assign=False), SIX]
    refusal = allocate(pools, [service("a")])["default/a"]
    assert isinstance(refusal, Refusal)
    assert refusal.reason is Reason.NO_POOL
    assert refusal.message == (
        "no pool with IPv4 addresses serves this service by itself"
        " (two: autoAssign: false, or serviceAllocation; tried: six)"
    )


def test_a_refusal_names_the_pools_that_were_asked() -> None:
    pools = [
        replace(TWO, disabled=True),
        pool("full", "198.51.100.7"),
        pool("few", "203.0.113.1-203.0.113.9", namespace_quota=1),
    ]
    services = [service("a", held="198.51.100.7"), service("b", held="203.0.113.1"), service("c")]
    refusal = allocate(pools, services)["default/c"]
    assert isinstance(refusal, Refusal)
    assert refusal.pools == ("two", "full", "few")
    assert refusal.message == (
        "no free IPv4 address (two: disabled, full: 1 of 1 used, few: namespace default has all IPs that it"
        " may have (1)); delete services, or raise namespaceQuota"
    )


def test_an_ip_outside_every_pool_is_explained() -> None:
    lan = pool(
        "lan", "192.0.2.1-192.0.2.2", "192.0.2.5-192.0.2.9", excluded=pool("", "192.0.2.3-192.0.2.4").ranges
    )
    refusal = allocate([lan], [service("a", requested_ips="192.0.2.3")])["default/a"]
    assert isinstance(refusal, Refusal)
    assert refusal.message == "192.0.2.3 is requested, but pool lan excludes it (spec.exclude)"


def test_an_ip_that_is_kept_though_its_pool_shrank_is_noted() -> None:
    result = allocate([pool("lan", "192.0.2.5")], [service("a", held="192.0.2.1", held_pool="lan")])[
        "default/a"
    ]
    assert isinstance(result, Allocation)
    assert result.pools == ("lan",)
    assert result.note is not None
    assert result.note.reason is Reason.OUTSIDE_POOL


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
    use = usage(results, [DUAL]).of("dual")
    assert (use.assigned, use.services, use.pending) == ({4: 1, 6: 0}, 2, 0)


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
            assert any(result.ips[0] in p and p.name == result.pools[0] for p in POOLS)
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
            if serves and address in ips(*ADDRESSES[:4], *SIX_ADDRESSES) and address.version in families(s):
                assert address in results[s.key].ips, s.key  # type: ignore[union-attr]
