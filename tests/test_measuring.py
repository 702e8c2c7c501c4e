"""What a controller says of itself: in its turn, and while it stands by."""

import time

import pytest
from prometheus_client.parser import text_string_to_metric_families

from lbspeaker.core.controller import GATE, Controller
from lbspeaker.errors import Unavailable
from lbspeaker.measuring import Acting, Front, Meter, pages
from lbspeaker.model import Allocation, Change, ConfigSet, Kind, Synced
from lbspeaker.shell.http import Page
from tests.build import LAN, service, snapshot


def text(page: Page) -> str:
    return page[1]().decode()


def samples(front: Front) -> dict[str, float]:
    """Those without labels, and those with one, by its value."""
    return {
        ":".join((one.name, *one.labels.values())): one.value
        for family in text_string_to_metric_families(text(front.pages()["/metrics"]))
        for one in family.samples
        if len(one.labels) < 2
    }


def test_who_stands_by_is_ready_if_it_could_begin() -> None:
    trouble = ["GET https://api: no answer within 1 s"]
    front = Front(Meter("controller"), lambda: trouble[0], compat=False)
    with pytest.raises(Unavailable, match="it cannot stand by: GET https://api: no answer"):
        text(front.pages()["/readyz"])
    assert text(front.pages()["/healthz"]) == "alive\n"
    trouble[0] = ""
    assert text(front.pages()["/readyz"]) == "ready\n"
    found = samples(front)
    assert (found["lbspeaker_leader"], found["lbspeaker_ready"]) == (0, 1)
    assert "lbspeaker_configuration_loaded" not in found


def test_who_acts_is_ready_when_it_knows_the_cluster() -> None:
    meter, decider = Meter("controller"), Controller()
    front = Front(meter, lambda: "trouble of an earlier time", compat=True)
    front.acting = Acting(decider, 1000.0, lambda: 3)
    with pytest.raises(Unavailable, match="it waits for Configs, Namespaces, Nodes, Services"):
        text(front.pages()["/readyz"])
    assert samples(front)["lbspeaker_ready"] == 0
    world = snapshot(service("web"), service("asks", requested_ips="203.0.113.1"))
    told = [Change(Kind.CONFIG, "", ConfigSet(world.config))]
    told += [Change(Kind.SERVICE, key, one) for key, one in world.services.items()]
    for item in (*told, *map(Synced, GATE)):
        meter.observe(item, 0.0)
        decider.observe(item)
    decider.advance(time.time())
    assert text(front.pages()["/readyz"]) == "ready\n"
    assert isinstance(decider.results["default/web"], Allocation)
    found = samples(front)
    assert (found["lbspeaker_leader"], found["lbspeaker_leader_timestamp_seconds"]) == (1, 1000)
    assert (found["lbspeaker_services:allocated"], found["lbspeaker_services:pending"]) == (1, 1)
    assert found["lbspeaker_services_pending:OutsidePools"] == 1
    assert found["lbspeaker_changes_total:Service"] == 2
    assert found["lbspeaker_writes_waiting"] == 3
    assert found["metallb_allocator_addresses_total:lan"] == LAN.size(4)
    assert found["metallb_allocator_addresses_in_use_total:lan"] == 1


def test_a_turn_that_begins_knows_nothing_of_the_one_before() -> None:
    meter = Meter("controller")
    meter.observe(Change(Kind.CONFIG, "", ConfigSet()), 0.0)
    assert meter.value(ready=True).configured is not None
    meter.begin()
    assert meter.value(ready=True).configured is None
    assert meter.value(ready=True).counts == {("changes", "Config"): 1}, "counters go on"


def test_only_services_that_are_new_to_the_speaker_are_measured() -> None:
    meter = Meter("speaker")
    old, new = service("old", held="192.0.2.10"), service("new", held="192.0.2.11", uid="2")
    meter.observe(Change(Kind.SERVICE, old.key, old), 0.0)
    meter.observe(Synced(Kind.SERVICE), 0.0)
    meter.observe(Change(Kind.SERVICE, new.key, new), time.monotonic())
    for key in (old.key, new.key):
        meter.announced(key, "layer2")
    (delay,) = meter.delays().values()
    assert delay.count == 1
    assert delay.sum_s < 1.0


def test_the_process_is_measured_as_the_kernel_has_it() -> None:
    page = text(pages(lambda: (), lambda: None)["/metrics"])
    assert "process_cpu_seconds_total " in page
    assert "process_resident_memory_bytes " in page
