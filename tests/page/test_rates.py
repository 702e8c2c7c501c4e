"""Frames per second out of counters that are told now and then."""

from dataclasses import replace
from ipaddress import ip_network

import pytest
from msgspec import structs

from lbspeaker.model import MemberLink
from lbspeaker.observe.look import Look
from lbspeaker.page.rates import KEPT_S, Rates, segments
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


def guard(sent: int, link: str = "eth0", protocol: str = "arp", rate: float = 8.0) -> Guard:
    """One that has sent so many unsolicited frames, and answered a lot."""
    counts = {"new": sent, "answer": 1000 * sent}
    return structs.replace(
        GUARD, link=link, protocol=protocol, sent=counts, rate=rate, segment_rate=rate and 100.0
    )


def told(at: float, **guards: tuple[Guard, ...]) -> Look:
    """What speakers have reported at a time."""
    return look(*(says(node, guards=some, reported=at) for node, some in guards.items()), snapshot=OWN)


def test_links_of_one_network_are_one_segment() -> None:
    assert [(one.name, one.ports, one.ips) for one in segments(told(NOW))] == [
        ("192.0.2.0/24", (("a", "eth0"), ("b", "ens1")), 1),
        ("a tap0", (("a", "tap0"),), 0),
        ("2001:db8::/64", (("c", "eth0"),), 0),
    ]


def test_where_service_ips_are_comes_first() -> None:
    links = {"a": (MemberLink("ctl0", b"\2" * 6, (ip_network("10.0.0.0/8"),)), *OWN.links["b"])}
    found = segments(look(snapshot=replace(OWN, links=links)))
    assert [one.name for one in found] == ["192.0.2.0/24", "10.0.0.0/8"]
    assert [one.idle for one in found] == [False, True]


def test_what_a_report_tells_more_is_spread_over_the_time_since_the_last() -> None:
    rates = Rates()
    first = rates.observe(told(NOW, a=(guard(100),), b=(guard(7, "ens1"),)), NOW)
    assert [one.samples for one in first] == [(), (), ()], "of a counter alone nothing follows"
    lan, *others = rates.observe(told(NOW + 2, a=(guard(116),), b=(guard(11, "ens1"),)), NOW + 3)
    (sample,) = lan.samples
    assert (sample.at, sample.busiest, sample.budget) == (NOW + 3, 8.0, 8.0)
    assert (sample.together, sample.segment_budget) == (10.0, 100.0)
    assert sample.shares == (1.0, 0.1)
    assert not any(one.samples for one in others)
    lan, *_ = rates.observe(told(NOW + 2, a=(guard(116),), b=(guard(11, "ens1"),)), NOW + 5)
    assert lan.samples[-1].together == 0, "no news"


@pytest.mark.parametrize(
    "later", [(guard(3),), (guard(3, "eth1"),), ()], ids=["began anew", "another link", "no link"]
)
def test_a_counter_that_is_another_one_tells_nothing(later: tuple[Guard, ...]) -> None:
    rates = Rates()
    rates.observe(told(NOW, a=(guard(50),)), NOW)
    assert not any(one.samples for one in rates.observe(told(NOW + 2, a=later), NOW + 2))


def test_of_both_protocols_the_one_that_is_nearer_to_its_budget_counts() -> None:
    rates = Rates()
    rates.observe(told(NOW, a=(guard(0), guard(0, protocol="ndp"))), NOW)
    lan, *_ = rates.observe(told(NOW + 2, a=(guard(4), guard(12, protocol="ndp"))), NOW + 2)
    assert lan.samples[-1].busiest == 6.0


def test_the_busiest_link_is_the_one_that_is_nearest_to_its_budget() -> None:
    rates = Rates()
    rates.observe(told(NOW, a=(guard(0, rate=100.0),), b=(guard(0, "ens1"),)), NOW)
    lan, *_ = rates.observe(told(NOW + 2, a=(guard(40, rate=100.0),), b=(guard(8, "ens1"),)), NOW + 2)
    assert (lan.samples[-1].busiest, lan.samples[-1].budget) == (4.0, 8.0)


def test_without_a_budget_there_is_no_share_of_it() -> None:
    rates = Rates()
    rates.observe(told(NOW, a=(guard(0, rate=0.0),)), NOW)
    lan, *_ = rates.observe(told(NOW + 2, a=(guard(4000, rate=0.0),)), NOW + 2)
    assert (lan.samples[-1].busiest, lan.samples[-1].shares) == (2000.0, (0.0, 0.0))


def test_ten_minutes_are_kept() -> None:
    rates = Rates()
    for number in range(400):
        at = NOW + 2 * number
        lan, *_ = rates.observe(told(at, a=(guard(number),)), at)
    assert (len(lan.samples), lan.samples[0].at) == (301, at - KEPT_S)
