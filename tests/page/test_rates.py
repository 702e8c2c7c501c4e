"""Frames second by second, out of what speakers tell now and then."""

from dataclasses import replace
from ipaddress import ip_network

from msgspec import structs

from lbspeaker.model import MemberLink
from lbspeaker.observe.look import Look
from lbspeaker.page.rates import KEPT_S, Rates, Sample, segments
from lbspeaker.wire.status import Guard
from tests.build import snapshot
from tests.test_overview import NOW, WEB, look, says
from tests.wire.test_status import GUARD

LAN, LAN6 = ip_network("192.0.2.0/24"), ip_network("2001:db8::/64")
OWN = replace(
    snapshot(WEB),
    links={
        "a": (MemberLink("eth0", b"\2" * 6, (LAN6, LAN)), MemberLink("tap0", b"\3" * 6)),
        "b": (MemberLink("ens1", b"\4" * 6, (LAN,)),),
        "c": (MemberLink("eth0", b"\5" * 6, (LAN6,)),),
    },
)
AT = int(NOW)


def guard(recent: dict[float, int], link: str = "eth0", protocol: str = "arp", budget: int = 11) -> Guard:
    told = {f"{AT + at:.1f}": frames for at, frames in recent.items()}
    most = 120 if budget else 0
    return structs.replace(
        GUARD, link=link, protocol=protocol, budget=budget, segment_budget=most, recent=told
    )


def told(**guards: tuple[Guard, ...]) -> Look:
    """What speakers have told."""
    return look(*(says(node, guards=some) for node, some in guards.items()), snapshot=OWN)


def test_links_of_one_network_are_one_segment() -> None:
    assert [(one.name, one.ports, one.ips) for one in segments(told())] == [
        ("192.0.2.0/24", (("a", "eth0"), ("b", "ens1")), 1),
        ("a tap0", (("a", "tap0"),), 0),
        ("2001:db8::/64", (("c", "eth0"),), 0),
    ]


def test_where_service_ips_are_comes_first() -> None:
    links = {"a": (MemberLink("ctl0", b"\2" * 6, (ip_network("10.0.0.0/8"),)), *OWN.links["b"])}
    found = segments(look(snapshot=replace(OWN, links=links)))
    assert [one.name for one in found] == ["192.0.2.0/24", "10.0.0.0/8"]
    assert [one.idle for one in found] == [False, True]


def test_each_second_has_the_busiest_link_and_all_links_together() -> None:
    said = told(a=(guard({-5.0: 8, -3.2: 2}),), b=(guard({-4.7: 3}, "ens1"),), c=(guard({-5: 9}),))
    lan, tap, other = Rates().observe(said, NOW)
    assert lan.samples == (Sample(AT - 5, 8, 11, 11, 120), Sample(AT - 4, 2, 11, 2, 120))
    assert lan.samples[0].shares == (8 / 11, 11 / 120)
    assert (tap.samples, len(other.samples)) == ((), 1)


def test_what_is_told_again_counts_once_and_what_is_told_late_counts_then() -> None:
    rates = Rates()
    rates.observe(told(a=(guard({-5.0: 8}),)), NOW)
    lan, *_ = rates.observe(told(a=(guard({-5.0: 8}),), b=(guard({-5.0: 4}, "ens1"),)), NOW + 50)
    assert lan.samples == (Sample(AT - 5, 8, 11, 12, 120),)


def test_the_busiest_link_is_the_one_that_is_nearest_to_its_budget() -> None:
    fast = guard({-5.0: 40}, budget=150)
    lan, *_ = Rates().observe(told(a=(fast,), b=(guard({-5.0: 6}, "ens1"),)), NOW)
    assert lan.samples == (Sample(AT - 5, 6, 11, 46, 120),)


def test_each_protocol_has_budgets_of_its_own() -> None:
    both = (guard({-5.0: 10}), guard({-5.0: 11}, protocol="ndp"))
    lan, *_ = Rates().observe(told(a=both), NOW)
    assert lan.samples == (Sample(AT - 5, 11, 11, 11, 120),)


def test_a_clock_that_is_another_one_is_left_out() -> None:
    lan, *_ = Rates().observe(told(a=(guard({3600.0: 8, 1.0: 3, -7200.0: 2}),)), NOW)
    assert [sample.at for sample in lan.samples] == [AT + 1]


def test_without_a_budget_there_is_no_share_of_it() -> None:
    lan, *_ = Rates().observe(told(a=(guard({-5.0: 2000}, budget=0),)), NOW)
    assert lan.samples[0].shares == (0.0, 0.0)


def test_ten_minutes_are_kept_and_what_nobody_looked_at_is_not_known() -> None:
    rates = Rates()
    for at in range(0, 400, 2):
        lan, *_ = rates.observe(told(a=(guard({float(at): 1}),)), NOW + at)
    assert lan.known == ((NOW - 60, NOW + 398),)
    lan, *_ = rates.observe(told(), NOW + 500)
    assert lan.known == ((NOW - 60, NOW + 398), (NOW + 440, NOW + 500))
    lan, *_ = rates.observe(told(), NOW + 700)
    assert lan.samples[0].at == AT + 700 - KEPT_S
    lan, *_ = rates.observe(told(), NOW + 1500)
    assert (lan.samples, lan.known) == ((), ((NOW + 1440, NOW + 1500),))


def test_a_guard_of_several_links_counts_for_the_first_segment_of_its_node() -> None:
    lan, *_ = Rates().observe(told(a=(guard({-5.0: 5}, "group core"),)), NOW)
    assert lan.samples[0].busiest == 5
