"""What people do with kubectl, done with the real kubectl.

Each test runs on the server in memory, and on a real kube-apiserver if there is one (see conftest.py).
"""

import json
import shutil
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml

from tests.lab.apiserver_backends import MERGE_PATCH, Client
from tests.lab.test_apiserver_kinds import CRDS, definition

pytestmark = pytest.mark.skipif(shutil.which("kubectl") is None, reason="kubectl is not installed")

Kubectl = Callable[..., str]

WEB = """\
apiVersion: v1
kind: Service
metadata:
  name: web
  labels: {app: web}
spec:
  type: LoadBalancer
  selector: {app: web}
  ports:
    - {name: http, port: 80}
    - {name: https, port: 443, targetPort: 8443}
"""


def command(api: Client, namespace: str, tmp_path: Path, *arguments: str) -> list[str]:
    place = [
        f"--kubeconfig={api.kubeconfig}",
        f"--cache-dir={tmp_path / 'cache'}",
        f"--namespace={namespace}",
    ]
    return ["kubectl", *place, *arguments]


@pytest.fixture
def kubectl(api: Client, namespace: str, tmp_path: Path) -> Kubectl:
    def run(*arguments: str, stdin: str = "", status: int = 0) -> str:
        """Run kubectl with `stdin`; return what it prints, errors last."""
        line = command(api, namespace, tmp_path, *arguments)
        done = subprocess.run(line, input=stdin, capture_output=True, text=True, timeout=30, check=False)
        assert done.returncode == status, done.stderr
        return done.stdout + done.stderr

    return run


def rows(text: str) -> list[list[str]]:
    return [line.split() for line in text.splitlines()]


def assign(api: Client, namespace: str, ip: str) -> None:
    status = {"status": {"loadBalancer": {"ingress": [{"ip": ip}]}}}
    api.good("PATCH", f"/api/v1/namespaces/{namespace}/services/web/status", status, MERGE_PATCH)


def test_apply_says_created_unchanged_and_configured(kubectl: Kubectl) -> None:
    assert kubectl("apply", "-f", "-", stdin=WEB) == "service/web created\n"
    assert kubectl("apply", "-f", "-", stdin=WEB) == "service/web unchanged\n"
    changed = WEB.replace("port: 443", "port: 444")
    assert kubectl("apply", "-f", "-", stdin=changed) == "service/web configured\n"
    ports = json.loads(kubectl("get", "service", "web", "-o", "json"))["spec"]["ports"]
    assert [(port["name"], port["port"]) for port in ports] == [("http", 80), ("https", 444)]


def test_a_list_of_objects_is_applied_as_one(kubectl: Kubectl) -> None:
    both = [yaml.safe_load(WEB) for _ in range(2)]
    both[1]["metadata"]["name"] = "other"
    text = json.dumps({"apiVersion": "v1", "kind": "List", "items": both})
    assert kubectl("apply", "-f", "-", stdin=text) == "service/web created\nservice/other created\n"


def test_apply_on_the_server_side(kubectl: Kubectl) -> None:
    arguments = ("apply", "--server-side", "-f", "-")
    assert kubectl(*arguments, stdin=WEB) == "service/web serverside-applied\n"
    assert kubectl(*arguments, stdin=WEB) == "service/web serverside-applied\n"
    assert kubectl("get", "svc", "web", "-o", "jsonpath={.spec.type}") == "LoadBalancer"


def test_get_shows_the_external_ip_once_there_is_one(api: Client, namespace: str, kubectl: Kubectl) -> None:
    kubectl("apply", "-f", "-", stdin=WEB)
    header, row = rows(kubectl("get", "svc"))
    assert header == ["NAME", "TYPE", "CLUSTER-IP", "EXTERNAL-IP", "PORT(S)", "AGE"]
    assert (row[0], row[1], row[3]) == ("web", "LoadBalancer", "<pending>")
    assign(api, namespace, "192.0.2.10")
    header, row = rows(kubectl("get", "svc", "-o", "wide"))
    assert (header[-1], row[3], row[-1]) == ("SELECTOR", "192.0.2.10", "app=web")
    ports = row[4].split(",")
    assert [port.split(":")[0] for port in ports] == ["80", "443"]


def test_yaml_and_json_name_their_kind(kubectl: Kubectl) -> None:
    kubectl("apply", "-f", "-", stdin=WEB)
    text = kubectl("get", "svc", "web", "-o", "yaml")
    assert text.startswith("apiVersion: v1\nkind: Service\n")
    found = json.loads(kubectl("get", "svc", "-o", "json"))
    assert found["kind"] == "List"
    assert found["items"][0]["kind"] == "Service"


def test_describe_shows_ingress_endpoints_and_events(api: Client, namespace: str, kubectl: Kubectl) -> None:
    kubectl("apply", "-f", "-", stdin=WEB)
    assign(api, namespace, "192.0.2.10")
    uid = api.good("GET", f"/api/v1/namespaces/{namespace}/services/web")["metadata"]["uid"]
    endpoints = [{"addresses": ["10.244.1.10"], "conditions": {"ready": True}}]
    slice_ = {"name": "web-1", "labels": {"kubernetes.io/service-name": "web"}}
    ports = [{"name": "http", "port": 80}, {"name": "https", "port": 8443}]
    body = {"metadata": slice_, "addressType": "IPv4", "endpoints": endpoints, "ports": ports}
    api.good("POST", f"/apis/discovery.k8s.io/v1/namespaces/{namespace}/endpointslices", body)
    event = {
        "metadata": {"name": "web.1"},
        "eventTime": "2026-01-01T00:00:00.000000Z",
        "reportingController": "lbspeaker.io/controller",
        "reportingInstance": "c1",
        "action": "Allocate",
        "reason": "Allocated",
        "type": "Normal",
        "note": "192.0.2.10 from pool lan",
        "regarding": {"kind": "Service", "namespace": namespace, "name": "web", "uid": uid},
    }
    api.good("POST", f"/apis/events.k8s.io/v1/namespaces/{namespace}/events", event)
    text = kubectl("describe", "svc", "web")
    assert "LoadBalancer Ingress:     192.0.2.10 (VIP)" in text
    assert "10.244.1.10:80" in text
    assert "Allocated" in text
    assert "192.0.2.10 from pool lan" in text
    assert "service/web" in kubectl("get", "events")


def test_label_and_annotate(kubectl: Kubectl) -> None:
    kubectl("apply", "-f", "-", stdin=WEB)
    assert kubectl("label", "svc", "web", "tier=front") == "service/web labeled\n"
    assert kubectl("annotate", "svc", "web", "lbspeaker.io/pool=lan") == "service/web annotated\n"
    assert rows(kubectl("get", "svc", "-l", "tier=front", "--no-headers"))[0][0] == "web"
    assert kubectl("label", "svc", "web", "tier-") == "service/web unlabeled\n"
    assert "No resources found" in kubectl("get", "svc", "-l", "tier=front")


def test_the_status_is_patched_by_hand(kubectl: Kubectl) -> None:
    kubectl("apply", "-f", "-", stdin=WEB)
    patch = '{"status": {"loadBalancer": {"ingress": [{"ip": "192.0.2.11"}]}}}'
    arguments = ("patch", "svc", "web", "--subresource=status", "--type=merge", "-p", patch)
    assert kubectl(*arguments) == "service/web patched\n"
    path = "jsonpath={.status.loadBalancer.ingress[0].ip}"
    assert kubectl("get", "svc", "web", "-o", path) == "192.0.2.11"


def test_patches_of_every_type(kubectl: Kubectl) -> None:
    kubectl("apply", "-f", "-", stdin=WEB)
    kubectl("patch", "svc", "web", "-p", '{"spec": {"ports": [{"name": "alt", "port": 8080}]}}')
    kubectl(
        "patch",
        "svc",
        "web",
        "--type=json",
        "-p",
        '[{"op": "add", "path": "/metadata/labels/a", "value": "b"}]',
    )
    found = json.loads(kubectl("get", "svc", "web", "-o", "json"))
    assert {port["port"] for port in found["spec"]["ports"]} == {80, 443, 8080}
    assert found["metadata"]["labels"] == {"app": "web", "a": "b"}


def test_wait_for_the_ip_and_for_the_end(
    api: Client, namespace: str, kubectl: Kubectl, tmp_path: Path
) -> None:
    kubectl("apply", "-f", "-", stdin=WEB)
    path = "jsonpath={.status.loadBalancer.ingress[0].ip}=192.0.2.12"
    line = command(api, namespace, tmp_path, "wait", f"--for={path}", "svc/web", "--timeout=20s")
    with subprocess.Popen(line, stdout=subprocess.PIPE, text=True) as waiting:
        time.sleep(0.3)
        assert waiting.poll() is None
        assign(api, namespace, "192.0.2.12")
        output, _ = waiting.communicate(timeout=20)
    assert output == "service/web condition met\n"
    assert kubectl("delete", "svc", "web") == 'service "web" deleted\n'
    kubectl("wait", "--for=delete", "svc/web", "--timeout=5s")


def test_get_watch_prints_each_change(api: Client, namespace: str, kubectl: Kubectl, tmp_path: Path) -> None:
    kubectl("apply", "-f", "-", stdin=WEB)
    line = command(api, namespace, tmp_path, "get", "svc", "-w", "--no-headers")
    with subprocess.Popen(line, stdout=subprocess.PIPE, text=True) as watching:
        assert watching.stdout
        assert "<pending>" in watching.stdout.readline()
        assign(api, namespace, "192.0.2.13")
        assert watching.stdout.readline().split()[3] == "192.0.2.13"
        watching.terminate()


def test_what_is_refused_reads_well(kubectl: Kubectl) -> None:
    text = kubectl("get", "svc", "nope", status=1)
    assert text == 'Error from server (NotFound): services "nope" not found\n'
    broken = WEB.replace("type: LoadBalancer", "type: Cloud")
    text = kubectl("apply", "-f", "-", stdin=broken, status=1)
    assert text.startswith('The Service "web" is invalid: spec.type: Unsupported value: "Cloud"')


def test_namespaces_nodes_and_resources(kubectl: Kubectl, namespace: str) -> None:
    kubectl("apply", "-f", "-", stdin=f"apiVersion: v1\nkind: Node\nmetadata: {{name: {namespace}}}\n")
    assert rows(kubectl("get", "nodes", namespace, "--no-headers"))[0][:3] == [namespace, "Unknown", "<none>"]
    found = [row[:2] for row in rows(kubectl("get", "ns"))]
    assert {"default", "kube-system", "kube-public"} <= {row[0] for row in found}
    assert [namespace, "Active"] in found
    resources = rows(kubectl("api-resources", "--no-headers"))
    assert ["services", "svc", "v1", "true", "Service"] in resources
    assert "service/web" in kubectl("apply", "-f", "-", stdin=WEB)
    assert "service/web" in kubectl("get", "all")


def test_a_custom_resource_from_its_definition_to_its_columns(
    api: Client, namespace: str, kubectl: Kubectl
) -> None:
    group = f"{namespace}.example.com"
    crd = json.dumps(definition(group))
    assert kubectl("apply", "-f", "-", stdin=crd).endswith("created\n")
    assert "condition met" in kubectl("wait", "--for=condition=Established", f"crd/pools.{group}")
    give_up = time.monotonic() + 10
    while api.ask("GET", f"/apis/{group}/v1beta1/pools").status != 200:
        assert time.monotonic() < give_up
        time.sleep(0.1)
    pool = f"apiVersion: {group}/v1beta1\nkind: Pool\nmetadata: {{name: lan}}\n"
    good = pool + "spec: {addresses: [192.0.2.0/24]}\n"
    assert kubectl("apply", "-f", "-", stdin=good) == f"pool.{group}/lan created\n"
    assert kubectl("apply", "-f", "-", stdin=good) == f"pool.{group}/lan unchanged\n"
    header, row = rows(kubectl("get", f"pools.{group}"))
    assert header == ["NAME", "AUTO", "ADDRESSES", "ACCEPTED", "AGE"]
    assert row[:3] == ["lan", "true", '["192.0.2.0/24"]']
    assert rows(kubectl("get", "pl", "--no-headers"))[0][0] == "lan"
    bad = pool + "spec: {addresses: []}\n"
    assert "spec.addresses" in kubectl("apply", "-f", "-", stdin=bad, status=1)
    unknown = pool + "spec: {addresses: ['::1'], colour: red}\n"
    assert 'unknown field "spec.colour"' in kubectl("apply", "-f", "-", stdin=unknown, status=1)
    assert kubectl("delete", f"pools.{group}", "lan") == f'pool.{group} "lan" deleted\n'
    api.good("DELETE", f"{CRDS}/pools.{group}")
