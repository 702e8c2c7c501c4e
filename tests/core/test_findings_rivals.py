"""`doctor`: other programs that give or announce IPs, each at work and out of the way."""

from typing import Any

import pytest

from lbspeaker.facts import Finding, Grade, Program
from tests.core.findings import evidence, only

OURS = Program("DaemonSet lbspeaker-system/speaker", ("registry.example/lbspeaker:0.1.0",), ("speaker",))


def judged(
    image: str,
    *arguments: str,
    environment: dict[str, str] | None = None,
    ours: Program = OURS,
    **fields: Any,
) -> Finding:
    program = Program("DaemonSet x/y", (image,), arguments, environment or {})
    return only(evidence(programs=(ours, program), **fields), "rivals")


METALLB = "quay.io/metallb/speaker:v0.15.2@sha256:0123"
KUBE_VIP = "ghcr.io/kube-vip/kube-vip:v0.9.1"
SERVICES = {"svc_enable": "true"}
CILIUM = "quay.io/cilium/cilium:v1.17.4@sha256:0123"
CALICO = "docker.io/calico/node:v3.30.0"


def test_nobody_else() -> None:
    assert only(evidence(programs=(OURS,)), "rivals").grade is Grade.PASS
    assert judged("docker.io/library/nginx").grade is Grade.PASS


@pytest.mark.parametrize(
    ("image", "arguments", "environment", "grade"),
    [
        (METALLB, (), {}, Grade.FAIL),
        (METALLB, ("--lb-class=metallb",), {}, Grade.PASS),
        (METALLB, ("--lb-class", "metallb"), {}, Grade.PASS),
        ("registry.example:5000/mirror/metallb/speaker", (), {}, Grade.FAIL),
        (KUBE_VIP, ("manager",), SERVICES, Grade.FAIL),
        (KUBE_VIP, ("manager", "--services"), {}, Grade.FAIL),
        (KUBE_VIP, ("manager",), {"cp_enable": "true"}, Grade.PASS),
        (KUBE_VIP, ("manager",), SERVICES | {"lb_class_only": "true"}, Grade.PASS),
        ("rancher/klipper-lb:v0.4.9", (), {}, Grade.FAIL),
        (CALICO, (), {"CALICO_NETWORKING_BACKEND": "bird"}, Grade.WARN),
        (CALICO, (), {"CALICO_NETWORKING_BACKEND": "vxlan"}, Grade.PASS),
        ("plndr/kube-vip:0.3.6", ("manager",), SERVICES, Grade.FAIL),
        ("cloudnativelabs/kube-router", ("--run-loadbalancer=true",), {}, Grade.FAIL),
        ("cloudnativelabs/kube-router", ("--advertise-loadbalancer-ip",), {}, Grade.WARN),
        ("cloudnativelabs/kube-router", ("--run-router=true",), {}, Grade.WARN),
        ("cloudnativelabs/kube-router", ("--run-router=false",), {}, Grade.PASS),
        ("registry.gitlab.com/purelb/purelb/lbnodeagent:v0.13.0", (), {}, Grade.FAIL),
        ("openelb/openelb:v0.6.0", (), {}, Grade.PASS),
        ("ghcr.io/loxilb-io/loxilb:v0.9.8", (), {}, Grade.PASS),
    ],
)
def test_rivals(image: str, arguments: tuple[str, ...], environment: dict[str, str], grade: Grade) -> None:
    assert judged(image, *arguments, environment=environment).grade is grade


@pytest.mark.parametrize(
    ("agents", "grade"),
    [
        ({"enable-l2-announcements": "true", "enable-ipv4": "true"}, Grade.WARN),
        ({"enable-bgp-control-plane": "true", "enable-ipv4": "true"}, Grade.WARN),
        ({"enable-ipv4": "true"}, Grade.PASS),
        ({}, Grade.WARN),
    ],
)
def test_cilium_does_what_its_config_map_says(agents: dict[str, str], grade: Grade) -> None:
    assert judged(CILIUM, agents=agents).grade is grade


def test_calico_does_what_its_config_map_says() -> None:
    told = judged(CALICO, environment={}, agents={"calico_backend": "vxlan"})
    assert told.grade is Grade.PASS


def test_a_class_of_our_own_keeps_others_out_of_the_way() -> None:
    classy = Program(OURS.key, OURS.images, ("speaker", "--lb-class=lbspeaker"))
    assert judged(METALLB, ours=classy).grade is Grade.PASS
    assert judged("rancher/klipper-lb", ours=classy).grade is Grade.PASS
    assert judged(METALLB, "--lb-class=lbspeaker", ours=classy).grade is Grade.FAIL


def test_the_class_of_a_rival_is_named() -> None:
    classy = Program(OURS.key, OURS.images, ("speaker", "--lb-class", "lbspeaker"))
    assert judged(METALLB, ours=classy).what == "MetalLB serves the class (none), and not ours"
    assert judged(METALLB, "--lb-class=x").what == "MetalLB serves the class x, and not ours"


def test_a_rival_is_told_once_by_its_daemon_set() -> None:
    pods = [Program(f"Pod x/y-{number}", (METALLB,)) for number in range(3)]
    found = only(evidence(programs=(*pods, Program("DaemonSet x/y", (METALLB,)))), "rivals")
    assert found.subject == "DaemonSet x/y"
