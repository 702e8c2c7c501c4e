"""Objects of the API as doctor needs them."""

import json
from typing import Any

import pytest
import yaml

from lbspeaker.errors import Malformed
from lbspeaker.facts import Pod, PodPort, Program, Proxy, WiredPort, Wiring
from lbspeaker.wire.kube import WrongDocument
from lbspeaker.wire.kube_facts import config_map, facts_of, page, proxy
from tests.build import ip

POD = """
kind: Pod
metadata: {name: web-1, namespace: shop, labels: {app: web}}
spec:
  nodeName: a
  initContainers:
  - {name: once, ports: [{containerPort: 1}]}
  - {name: sidecar, restartPolicy: Always, ports: [{containerPort: 9090}]}
  containers:
  - name: web
    image: nginx
    ports: [{name: http, containerPort: 8080, protocol: TCP}, {containerPort: 53, protocol: UDP}]
    readinessProbe: {httpGet: {port: 8081}}
    livenessProbe: {tcpSocket: {port: http}}
status:
  phase: Running
  podIPs: [{ip: 10.0.0.1}, {ip: "fd00::1"}]
  conditions: [{type: Ready, status: "True"}]
"""


def facts(text: str, **changes: Any) -> list[Any]:
    return facts_of(yaml.safe_load(text) | changes)


def test_a_pod() -> None:
    assert facts(POD) == [
        Pod(
            "shop/web-1",
            {"app": "web"},
            "a",
            ports=(PodPort(8080, "http"), PodPort(53, "", "UDP"), PodPort(9090)),
            probed=frozenset({8081, "http"}),
            addresses=(ip("10.0.0.1"), ip("fd00::1")),
        )
    ]


UNSCHEDULED = {
    "type": "PodScheduled",
    "status": "False",
    "reason": "Unschedulable",
    "message": "no node fits",
}


def container(**state: Any) -> dict[str, Any]:
    """A status in which the only container is not ready."""
    return {"containerStatuses": [{"ready": False, "state": state}]}


@pytest.mark.parametrize(
    ("status", "trouble"),
    [
        (container(waiting={"reason": "ImagePullBackOff"}), "ImagePullBackOff"),
        (container(terminated={"reason": "OOMKilled"}), "OOMKilled"),
        (container(running={}), "its readiness probe fails"),
        ({"phase": "Pending"}, "Pending"),
        ({"conditions": [UNSCHEDULED]}, "Unschedulable: no node fits"),
        ({}, ""),
    ],
)
def test_why_a_pod_is_not_ready(status: dict[str, Any], trouble: str) -> None:
    [pod] = facts(POD, status={"phase": "Running"} | status)
    assert (pod.ready, pod.trouble) == (False, trouble)


def test_pods_that_have_ended_or_are_ending_are_none() -> None:
    assert facts(POD, status={"phase": "Succeeded"}) == []
    going = {"name": "web-1", "namespace": "shop", "deletionTimestamp": "2026-01-01T00:00:00Z"}
    assert facts(POD, metadata=going) == []


def test_a_manifest_that_no_cluster_has_seen_counts_as_ready() -> None:
    [pod] = facts("{kind: Pod, metadata: {name: web}, spec: {containers: [{image: nginx}]}}")
    assert pod == Pod("default/web")


def test_what_uses_the_network_of_its_node_is_also_a_program() -> None:
    environment = [{"name": "a", "value": "b"}, {"name": "c", "valueFrom": {}}]
    one = {"image": "kube-vip", "args": ["manager"], "env": environment}
    found = facts(POD, spec={"hostNetwork": True, "containers": [one]})
    assert found[0].host_network
    assert found[1] == Program("Pod shop/web-1", ("kube-vip",), ("manager",), {"a": "b"})
    with_port = facts(POD, spec={"containers": [{"image": "klipper-lb", "ports": [{"hostPort": 80}]}]})
    assert with_port[1].images == ("klipper-lb",)


def test_a_daemon_set() -> None:
    text = """
    kind: DaemonSet
    metadata: {name: speaker, namespace: x}
    spec: {template: {spec: {containers: [{image: one, command: [run], args: [--a=b]}, {image: two}]}}}
    """
    assert facts(text) == [Program("DaemonSet x/speaker", ("one", "two"), ("run", "--a=b"))]


def test_a_service() -> None:
    text = """
    kind: Service
    metadata: {name: web, namespace: shop, annotations: {metallb.universe.tf/address-pool: lan}}
    spec:
      type: NodePort
      selector: {app: web}
      sessionAffinity: ClientIP
      externalIPs: [192.0.2.1]
      ports:
      - {port: 80}
      - {port: 81, targetPort: http, nodePort: 30081}
      - {name: dns, port: 53, targetPort: "5353", protocol: UDP}
    """
    assert facts(text) == [
        Wiring(
            "shop/web",
            "NodePort",
            {"app": "web"},
            (
                WiredPort(80, 80),
                WiredPort(81, "http", node_port=30081),
                WiredPort(53, 5353, "dns", "UDP"),
            ),
            sticky=True,
            external_ips=("192.0.2.1",),
            asks=True,
        )
    ]


def test_other_kinds_say_nothing_and_wrong_shapes_are_told() -> None:
    assert facts_of({"kind": "Deployment"}) == []
    with pytest.raises(WrongDocument) as told:
        facts("{kind: Service, metadata: {name: a}, spec: {ports: [{port: 80, targetPort: [1]}]}}")
    assert told.value.path == "spec.ports[0].targetPort"


def test_pages_of_a_list() -> None:
    items = [yaml.safe_load(POD), {"metadata": {"name": "x"}, "status": {"phase": "Failed"}}]
    body = json.dumps({"metadata": {"continue": "more"}, "items": items}).encode()
    found, token = page("Pod", body)
    assert ([one.key for one in found], token) == (["shop/web-1"], "more")
    assert page("Pod", b'{"metadata": {}, "items": null}') == ([], "")
    for wrong in (b"", b"[]", b'{"metadata": {}, "items": [{"spec": 1}]}', b"\xff"):
        with pytest.raises(Malformed):
            page("Pod", wrong)


def test_config_maps() -> None:
    assert config_map({"metadata": {"name": "a", "namespace": "b"}, "data": {"c": "d"}}) == (
        "b/a",
        {"c": "d"},
    )
    assert config_map({"metadata": 1}) == ("", {})


def test_the_configuration_of_kube_proxy() -> None:
    told = {"mode": "ipvs", "ipvs": {"strictARP": True}, "clusterCIDR": "10.0.0.0/16,fd00::/48"}
    found = proxy(told)
    assert found is not None
    assert (found.mode, found.strict_arp, list(map(str, found.networks))) == (
        "ipvs",
        True,
        ["10.0.0.0/16", "fd00::/48"],
    )
    assert proxy({"mode": None, "ipvs": None, "clusterCIDR": ""}) == Proxy()
    assert proxy({"mode": 7}) is None
