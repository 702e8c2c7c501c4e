"""Where packets for a service go on which node, and what EndpointSlices say."""

from ipaddress import ip_address

import msgspec
import pytest

from lbspeaker.lab import objects, proxy
from lbspeaker.lab.objects import Pod, Service
from lbspeaker.lab.proxy import Frontend, Target
from lbspeaker.lab.topology import topology
from lbspeaker.model import Kind

LAB = topology("t", 3)
A, B, C = LAB.nodes


def service(**spec: object) -> Service:
    """A dual-stack Service `web` on port 80, to pods app=web port 8080, with one service IP per family."""
    ingress = [{"ip": "192.0.2.10"}, {"ip": "2001:db8::10"}]
    defaults = {
        "selector": {"app": "web"},
        "ports": [{"port": 80, "targetPort": 8080, "protocol": "TCP"}],
        "clusterIPs": ["10.96.0.1", "fd00:10:96::1"],
    }
    manifest = {
        "metadata": {"name": "web", "namespace": "default"},
        "spec": defaults | spec,
        "status": {"loadBalancer": {"ingress": ingress}},
    }
    return msgspec.convert(manifest, Service)


def pods(*, ready: dict[str, bool] | None = None) -> list[Pod]:
    made = []
    for node in LAB.nodes:
        manifest = objects.pod_manifest(node)
        if ready is not None and not ready.get(node.name, False):
            manifest["status"]["conditions"] = [{"type": "Ready", "status": "False"}]
        made.append(msgspec.convert(manifest, Pod))
    return made


def chosen(fronts: list[Frontend], node: str, ip: str, port: int = 80) -> str | None:
    front = next(f for f in fronts if (f.ip, f.port) == (ip_address(ip), port))
    target = front.target_on(node)
    return target.node if target else None


@pytest.mark.parametrize(
    ("story", "policy", "ready", "ip", "expected"),
    [
        ("every node has a pod", "Cluster", "abc", "192.0.2.10", ["node-a", "node-b", "node-c"]),
        ("node-b borrows node-a's", "Cluster", "ac", "192.0.2.10", ["node-a", "node-a", "node-c"]),
        ("policy Local borrows nothing", "Local", "ac", "192.0.2.10", ["node-a", None, "node-c"]),
        ("but the cluster IP does", "Local", "ac", "10.96.0.1", ["node-a", "node-a", "node-c"]),
        ("no pod is ready", "Cluster", "", "192.0.2.10", [None, None, None]),
        ("IPv6 likewise", "Cluster", "bc", "2001:db8::10", ["node-b", "node-b", "node-c"]),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_which_pod_a_node_sends_to(
    story: str, policy: str, ready: str, ip: str, expected: list[str | None]
) -> None:
    fronts = proxy.frontends(
        [service(externalTrafficPolicy=policy)], pods(ready={f"node-{x}": True for x in ready})
    )
    assert [chosen(fronts, node.name, ip) for node in LAB.nodes] == expected


def test_a_port_may_be_called_by_the_name_that_the_container_gave_it() -> None:
    named = service(
        ports=[{"port": 80, "targetPort": "http"}, {"port": 81, "targetPort": "nobody", "name": "x"}]
    )
    fronts = proxy.frontends([named], pods())
    by_port = {(front.port, front.ip.version): front.targets for front in fronts}
    assert by_port[80, 4][0] == Target("node-a", A.pods[0], 8080)
    assert by_port[81, 4] == ()


def test_the_ruleset_sends_known_ports_to_pods_and_rejects_the_rest() -> None:
    target = Target("node-a", ip_address("10.244.1.10"), 8080)
    fronts = [Frontend(ip_address("192.0.2.10"), "tcp", 80, (target,))]
    text = proxy.ruleset("node-a", fronts, [ip_address("192.0.2.10"), ip_address("192.0.2.11")])
    four, _, six = text.partition("table ip6")
    assert "elements = { 192.0.2.10 . tcp . 80 : 10.244.1.10 . 8080 }" in four
    assert "elements = { 192.0.2.10, 192.0.2.11 }" in four
    assert "ip daddr @service_ips reject" in four
    assert "elements" not in six, "an empty list of elements is a syntax error"


def test_slices_list_the_pods_of_each_family() -> None:
    slices = objects.endpoint_slices(service(), pods(ready={"node-a": True, "node-b": False}))
    assert list(slices) == ["web-lab", "web-lab-v6"]
    four = slices["web-lab"]
    assert four["metadata"]["labels"]["kubernetes.io/service-name"] == "web"
    assert four["ports"] == [{"name": "", "port": 8080, "protocol": "TCP"}]
    seen = {e["nodeName"]: (e["addresses"], e["conditions"]["ready"]) for e in four["endpoints"]}
    assert seen == {
        "node-a": (["10.244.1.10"], True),
        "node-b": (["10.244.2.10"], False),
        "node-c": (["10.244.3.10"], False),
    }
    assert slices["web-lab-v6"]["addressType"] == "IPv6"
    assert slices["web-lab-v6"]["endpoints"][2]["addresses"] == ["fd00:244:3::10"]


@pytest.mark.parametrize(
    ("story", "spec"),
    [
        ("without a selector somebody else says where it leads", {"selector": None}),
        ("headless: no cluster IP, no family", {"clusterIPs": ["None"]}),
    ],
)
def test_services_without_slices(story: str, spec: dict[str, object]) -> None:
    assert objects.endpoint_slices(service(**spec), pods()) == {}


def test_lists_and_events_become_changes() -> None:
    page, event = objects.decoders(Kind.POD, Pod)
    manifest = objects.pod_manifest(A)
    manifest["metadata"]["resourceVersion"] = "7"
    listed = page(msgspec.json.encode({"metadata": {"resourceVersion": "9"}, "items": [manifest]}))
    assert (listed.version, [change.key for change in listed.changes]) == ("9", ["default/web-node-a"])
    gone = event(msgspec.json.encode({"type": "DELETED", "object": manifest}))
    assert (gone.version, gone.change.key, gone.change.value) == ("7", "default/web-node-a", None)
    bookmark = {"type": "BOOKMARK", "object": {"metadata": {"resourceVersion": "12"}}}
    assert event(msgspec.json.encode(bookmark)).change is None
    expired = {"type": "ERROR", "object": {"code": 410, "message": "too old"}}
    assert event(msgspec.json.encode(expired)).code == 410
