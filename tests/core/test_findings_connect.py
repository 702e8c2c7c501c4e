"""`doctor --connect`: what Pods say to who connects."""

from dataclasses import replace

from lbspeaker.core.findings_connect import targets
from lbspeaker.facts import Attempt, Evidence, Grade, PodPort, WiredPort
from tests.build import ip, ips, service
from tests.core.findings import about, evidence, only, passes, pod, wiring, wrong

ONE, TWO = (ip("10.0.0.1"), 8080), (ip("10.0.0.2"), 8080)
PODS = [pod("shop/web-1", addresses=ips("10.0.0.1")), pod("shop/web-2", addresses=ips("10.0.0.2"))]


def said(first: Attempt, second: Attempt) -> Evidence:
    return evidence(pods=PODS, tried={ONE: first, TWO: second})


def test_where_to_connect() -> None:
    assert targets(evidence(pods=PODS)) == [ONE, TWO]
    assert targets(evidence(wiring(port="http"), pods=PODS)) == [ONE, TWO]
    assert targets(evidence(wiring(port="nobody"), pods=PODS)) == []
    assert targets(evidence(pods=[pod(ready=False, addresses=ips("10.0.0.1"))])) == []
    assert targets(evidence(wiring(port=65536), pods=PODS)) == []
    dual = [pod(addresses=ips("10.0.0.1", "fd00::1"))]
    assert targets(evidence(pods=dual)) == [ONE], "the Service has one family"
    both = service("shop/web", families=(4, 6))
    assert targets(evidence(pods=dual, models=[both])) == [ONE, (ip("fd00::1"), 8080)]
    udp = wiring(ports=(WiredPort(53, 53, protocol="UDP"),))
    assert targets(evidence(udp, pods=PODS)) == []
    assert targets(evidence(wiring("shop/a"), wiring("shop/b"), pods=PODS)) == [ONE, TWO]
    assert targets(evidence(wiring("shop/a", type="ClusterIP"), pods=PODS)) == []


def test_who_was_not_asked_says_nothing() -> None:
    assert about(evidence(pods=PODS), "connect") == []


def test_pods_that_refuse() -> None:
    every = only(said(Attempt.REFUSED, Attempt.REFUSED), "connect")
    assert every.grade is Grade.FAIL
    assert every.what == "port 80/TCP: 2 (10.0.0.1:8080, 10.0.0.2:8080) of 2 refuse connections"
    assert only(said(Attempt.REFUSED, Attempt.ACCEPTED), "connect").grade is Grade.WARN
    assert passes(said(Attempt.ACCEPTED, Attempt.ACCEPTED), "connect")


def test_pods_that_do_not_answer() -> None:
    found = only(said(Attempt.SILENT, Attempt.ACCEPTED), "connect")
    assert found.grade is Grade.WARN and "1 (10.0.0.1:8080) of 2 do not answer" in found.what


def test_where_nobody_answers_it_is_who_asks() -> None:
    found = only(said(Attempt.SILENT, Attempt.SILENT), "connect")
    assert (found.grade, found.what) == (Grade.UNKNOWN, "none of 2 addresses answers")


def test_who_accepts_need_not_declare() -> None:
    silent = [pod("shop/web-1", PodPort(9090), addresses=ips("10.0.0.1"))]
    assert only(evidence(pods=silent), "target-port").grade is Grade.FAIL
    assert passes(evidence(pods=silent, tried={ONE: Attempt.ACCEPTED}), "target-port")
    refusing = evidence(pods=silent, tried={ONE: Attempt.REFUSED})
    assert wrong(refusing) == {"target-port": Grade.FAIL}, "one cause is told once"
    nothing = evidence(pods=[replace(silent[0], ports=())], tried={ONE: Attempt.REFUSED})
    assert wrong(nothing) == {"connect": Grade.FAIL}
