"""`doctor`: from a Service to its Pods, each fault broken and mended."""

from dataclasses import replace

from lbspeaker.facts import Grade, PodPort, WiredPort
from lbspeaker.model import Endpoint
from tests.core.findings import about, evidence, only, passes, pod, wiring, wrong


def test_a_selector_with_a_slip_of_the_pen() -> None:
    pods = [pod("shop/web-1"), pod("shop/web-2"), pod("shop/db-1", labels={"app": "database"})]
    found = only(evidence(wiring(selector={"app": "wbe"}), pods=pods), "selector")
    assert found.grade is Grade.FAIL
    assert found.what == (
        "its selector app=wbe selects no Pod; the nearest (web-1 and 1 like it) has app=web"
    )
    assert passes(evidence(pods=pods), "selector")


def test_pods_of_one_owner_are_alike_but_for_a_number() -> None:
    pods = [pod(f"shop/web-{n}", labels={"app": "web", "pod-template-hash": f"5{n}"}) for n in range(3)]
    assert (
        "(web-0 and 2 like it)" in only(evidence(wiring(selector={"app": "wbe"}), pods=pods), "selector").what
    )


def test_a_selector_with_a_part_of_the_value() -> None:
    pods = [pod(labels={"app": "web-frontend-of-the-shop"})]
    assert "has app=web-frontend-of-the-shop" in only(evidence(pods=pods), "selector").what
    whole = evidence(wiring(selector={"app": "web-frontend-of-the-shop"}), pods=[pod()])
    assert only(whole, "selector").what.endswith("has app=web")


def test_a_selector_with_one_label_too_many() -> None:
    told = evidence(wiring(selector={"app": "web", "tier": "front"}), pods=[pod()])
    assert only(told, "selector").what.endswith("the nearest (web-1) has no label tier")


def test_a_selector_that_is_right_in_another_namespace() -> None:
    found = only(evidence(wiring("default/web"), pods=[pod("shop/web-1")]), "selector")
    assert "in default; Pods with these labels are in shop" in found.what
    assert "only Pods of its own namespace" in found.remedy


def test_a_selector_that_is_like_nothing_there() -> None:
    found = only(evidence(wiring(selector={"app": "zzz"}), pods=[pod()]), "selector")
    assert found.what.endswith("no Pod there has labels like it")
    assert found.remedy == "kubectl -n shop get pods --show-labels"
    assert only(evidence(pods=()), "selector").what.endswith("there are no Pods in shop")


def test_one_cause_is_told_once() -> None:
    assert wrong(evidence(pods=(), endpoints={})) == {"selector": Grade.FAIL}


def test_pods_that_are_not_ready() -> None:
    broken = [pod("shop/web-1", ready=False, trouble="CrashLoopBackOff"), pod("shop/web-2", ready=False)]
    found = only(evidence(pods=broken, endpoints={"shop/web": (Endpoint("a", False, False),)}), "pods-ready")
    assert found.grade is Grade.FAIL
    assert found.what == "2 of 2 Pods not ready (CrashLoopBackOff, no reason is told)"
    assert found.remedy == "kubectl -n shop describe pod web-1"
    some = evidence(pods=[broken[0], pod("shop/web-2")])
    assert only(some, "pods-ready").grade is Grade.WARN
    assert passes(evidence(), "pods-ready")


def test_no_endpoints_though_pods_are_ready() -> None:
    found = only(evidence(endpoints={}), "endpoints")
    assert found.what.startswith("it has no endpoints") and "kube-controller-manager" in found.remedy
    late = evidence(endpoints={"shop/web": (Endpoint("a", False, False),)})
    assert only(late, "endpoints").what.startswith("none of its endpoints is ready")
    assert passes(evidence(), "endpoints")


def test_a_service_without_a_selector_needs_endpoints_of_its_own() -> None:
    found = only(evidence(wiring(selector={}), endpoints={}), "endpoints")
    assert found.grade is Grade.FAIL and "no selector" in found.what
    assert passes(evidence(wiring(selector={})), "endpoints")


def test_a_target_port_that_no_pod_has() -> None:
    found = only(evidence(wiring(port=80)), "target-port")
    assert found.grade is Grade.FAIL
    assert found.what == "port 80/TCP leads to 80, and no Pod declares that (they have http=8080/TCP)"
    assert found.remedy.startswith("write targetPort: 8080")
    assert passes(evidence(wiring(port=8080)), "target-port")


def test_a_target_port_of_the_wrong_protocol() -> None:
    found = only(evidence(wiring(port=53), pods=[pod("shop/dns", PodPort(53, "", "UDP"))]), "target-port")
    assert found.remedy.startswith("write protocol: UDP")


def test_a_target_port_that_only_some_pods_have() -> None:
    told = evidence(pods=[pod("shop/web-1"), pod("shop/web-2", PodPort(9090))])
    assert only(told, "target-port").grade is Grade.WARN


def test_a_port_that_is_probed_or_not_declared_at_all_is_no_fault() -> None:
    probed = pod("shop/web-1", PodPort(9090), probed=frozenset({8080}))
    silent = replace(pod(), ports=())
    assert passes(evidence(pods=[probed]), "target-port")
    assert passes(evidence(pods=[silent]), "target-port")


def test_a_port_name_that_no_pod_has() -> None:
    found = only(evidence(wiring(port="htpt")), "port-name")
    assert found.grade is Grade.FAIL and found.remedy.startswith("did you mean http?")
    assert passes(evidence(wiring(port="http")), "port-name")
    assert passes(evidence(wiring(port="htpt")), "target-port"), "one cause is told once"


def test_a_port_name_that_only_some_pods_have() -> None:
    told = evidence(wiring(port="http"), pods=[pod("shop/web-1"), pod("shop/web-2", PodPort(8080))])
    assert only(told, "port-name").grade is Grade.WARN


def test_a_named_port_of_another_protocol_is_another_port() -> None:
    ports = (WiredPort(53, "dns", protocol="UDP"),)
    tcp = evidence(wiring(ports=ports), pods=[pod("shop/dns", PodPort(53, "dns"))])
    assert only(tcp, "port-name").grade is Grade.FAIL
    udp = evidence(wiring(ports=ports), pods=[pod("shop/dns", PodPort(53, "dns", "UDP"))])
    assert passes(udp, "port-name")


def test_services_of_other_types_are_looked_at_when_asked_for() -> None:
    told = evidence(wiring("shop/web", type="ClusterIP", port=80))
    assert passes(told, "target-port")
    asked = evidence(wiring("shop/web", type="ClusterIP", port=80), only=frozenset({"shop/web"}))
    assert len(about(asked, "target-port")) == 1 and not passes(asked, "target-port")
