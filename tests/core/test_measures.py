"""How times are counted, and which Services are measured."""

from dataclasses import replace
from ipaddress import ip_address

import pytest

from lbspeaker.core.measures import DELAY_BOUNDS_S, Delays, Timing
from lbspeaker.model import Distribution, Service

WEB = Service("default/web", uid="1", held=(ip_address("192.0.2.10"),))
BARE = replace(WEB, held=())


def test_times_are_counted_by_their_bounds() -> None:
    timing = Timing((0.1, 1.0))
    for seconds in (0.05, 0.1, 0.5, 3.0):
        timing.add(seconds)
    assert timing.value() == Distribution((0.1, 1.0), (2, 3), 4, pytest.approx(3.65))


def test_a_new_service_is_measured_from_its_creation_and_from_its_allocation() -> None:
    delays = Delays()
    delays.observe(BARE, 1000.0, 50.0, listed=False)
    delays.observe(WEB, 1000.0, 52.0, listed=False)
    delays.observe(WEB, 1000.0, 53.0, listed=False)
    delays.announced(WEB.key, "layer2", 52.25, 1002.5)
    assert delays.value() == {
        ("layer2", "allocation"): spread(0.25),
        ("layer2", "creation"): spread(2.5),
    }


def spread(seconds: float) -> Distribution:
    timing = Timing(DELAY_BOUNDS_S)
    timing.add(seconds)
    return timing.value()


def test_only_the_first_announcement_counts_of_each_protocol() -> None:
    delays = Delays()
    delays.observe(WEB, None, 0.0, listed=False)
    for now in (1.0, 9.0):
        delays.announced(WEB.key, "layer2", now, 0.0)
        delays.announced(WEB.key, "bgp", now, 0.0)
    assert delays.value() == {(p, "allocation"): spread(1.0) for p in ("layer2", "bgp")}


def test_who_was_there_before_the_program_is_not_measured_even_if_it_gets_its_ip_later() -> None:
    delays = Delays()
    delays.observe(BARE, 1000.0, 0.0, listed=True)
    delays.observe(WEB, 1000.0, 5.0, listed=False)
    delays.announced(WEB.key, "layer2", 6.0, 2000.0)
    assert delays.value() == {}


def test_another_service_of_the_same_name_is_new() -> None:
    delays = Delays()
    delays.observe(WEB, None, 0.0, listed=True)
    delays.observe(replace(WEB, uid="2"), None, 5.0, listed=False)
    delays.announced(WEB.key, "layer2", 6.0, 0.0)
    delays.observe(replace(WEB, uid="3"), None, 10.0, listed=False)
    delays.announced(WEB.key, "layer2", 11.0, 0.0)
    assert delays.value()["layer2", "allocation"].count == 2


def test_who_is_gone_is_forgotten() -> None:
    delays = Delays()
    delays.observe(WEB, None, 0.0, listed=False)
    delays.forget(WEB.key)
    delays.announced(WEB.key, "layer2", 6.0, 0.0)
    assert delays.value() == {}


def test_a_clock_that_is_behind_makes_no_time_negative() -> None:
    delays = Delays()
    delays.observe(WEB, 1000.0, 0.0, listed=False)
    delays.announced(WEB.key, "layer2", 0.5, 999.0)
    assert delays.value()["layer2", "creation"].sum_s == 0.0
