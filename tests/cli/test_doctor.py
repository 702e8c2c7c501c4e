"""`lbspeaker doctor`: what it reads, prints, and how it ends."""

import asyncio
import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from lbspeaker.lab.apiserver import ApiServer, kubeconfig
from tests.lab import apiserver_backends
from tests.lab.apiserver_backends import Client

Asked = subprocess.CompletedProcess[str]
ROOT = Path(__file__).parent.parent.parent
OPERATIONS = ROOT / "docs" / "operations.md"
CONFIG = """
apiVersion: lbspeaker.io/v1beta1
kind: IPAddressPool
metadata: {name: lan, namespace: lbspeaker-system}
spec: {addresses: [192.0.2.60-192.0.2.110]}
---
apiVersion: lbspeaker.io/v1beta1
kind: L2Advertisement
metadata: {name: lan, namespace: lbspeaker-system}
"""
WEB = """
apiVersion: v1
kind: Service
metadata: {name: web, namespace: shop}
spec:
  type: LoadBalancer
  clusterIP: 10.96.0.7
  selector: {app: web}
  sessionAffinity: ClientIP
  ports: [{port: 80, targetPort: %s}]
---
apiVersion: v1
kind: Pod
metadata: {name: web-1, namespace: shop, labels: {app: web}}
spec: {nodeName: a, containers: [{name: web, image: nginx, ports: [{containerPort: 80}]}]}
status: {phase: Running, conditions: [{type: Ready, status: "True"}]}
"""
MERGE = "application/merge-patch+json"
API = """
apiVersion: v1
kind: Service
metadata: {name: api, namespace: shop}
spec: {type: LoadBalancer, clusterIP: 10.96.0.8, selector: {app: %s}, ports: [{port: 80}]}
---
apiVersion: v1
kind: Pod
metadata: {name: api-1, namespace: shop, labels: {app: api}}
spec: {nodeName: a, containers: [{name: api, image: nginx, ports: [{containerPort: 80}]}]}
status: {phase: Running, conditions: [{type: Ready, status: "True"}]}
"""
BROKEN = "---".join([CONFIG, WEB % 8080, API % "ap"])
MENDED = "---".join([CONFIG, WEB % 80, API % "api"])


def run(*words: str, text: str | None = None, **environment: str) -> subprocess.CompletedProcess[str]:
    argv = [sys.executable, "-m", "lbspeaker", "doctor", *words]
    env = {**os.environ, "KUBECONFIG": "/nowhere", "HOME": "/nowhere", **environment}
    return subprocess.run(argv, input=text, capture_output=True, text=True, timeout=60, check=False, env=env)


def findings(done: subprocess.CompletedProcess[str], *grades: str) -> list[tuple[str, str]]:
    """(code, subject) of what has one of `grades`, as JSON says."""
    found = json.loads(done.stdout)["findings"]
    return [(one["code"], one["subject"]) for one in found if one["grade"] in grades]


# --- files ----------------------------------------------------------------------------------------------


def test_the_manual_shows_what_it_prints(tmp_path: Path) -> None:
    (tmp_path / "shop.yaml").write_text(BROKEN)
    done = run("--problems", str(tmp_path / "shop.yaml"))
    assert (done.returncode, done.stderr) == (1, "")
    shown = (
        OPERATIONS.read_text().partition("$ lbspeaker doctor --problems shop.yaml\n")[2].partition("```")[0]
    )
    assert done.stdout.startswith(shown)


def test_broken_and_mended() -> None:
    broken = run("-", "-o", "json", text=BROKEN)
    assert broken.returncode == 1
    assert findings(broken, "FAIL") == [("selector", "shop/api"), ("target-port", "shop/web")]
    mended = run("-", "-o", "json", text=MENDED)
    assert (mended.returncode, findings(mended, "FAIL")) == (0, [])
    assert findings(mended, "WARN") == [("affinity", "shop/web")]


def test_the_form_of_the_json() -> None:
    found = json.loads(run("-", "-o", "json", text=BROKEN).stdout)
    assert set(found) == {"counts", "findings"}
    assert list(found["counts"]) == ["FAIL", "WARN", "UNKNOWN", "PASS"]
    assert {tuple(one) for one in found["findings"]} == {
        ("code", "grade", "subject", "what", "why", "remedy")
    }


def test_what_passes_can_be_hidden() -> None:
    every, problems = run("-", text=MENDED).stdout, run("-", "--problems", text=MENDED).stdout
    assert "\nPASS" in every and "\nPASS" not in problems
    assert every.partition("\n")[0] == problems.partition("\n")[0], "the first line counts all"


def test_one_service() -> None:
    done = run("shop/web", "-", "-o", "json", text=BROKEN)
    assert findings(done, "FAIL") == [("target-port", "shop/web")]
    near = run("shop/wbe", "-", text=BROKEN)
    assert near.returncode == 3
    assert near.stderr == "lbspeaker: there is no Service shop/wbe; did you mean shop/web?\n"


@pytest.mark.parametrize("word", ["web", "shop/web/x", "Shop/Web", "nowhere.yaml"])
def test_what_is_neither_a_file_nor_a_service(word: str) -> None:
    done = run(word)
    assert done.returncode == 2
    assert "neither a file nor NAMESPACE/SERVICE" in done.stderr


def test_files_and_a_cluster_are_not_asked_together() -> None:
    assert run("-", "--kubeconfig", "x", text="").returncode == 2


def test_nothing_to_look_at() -> None:
    done = run("--no-node-facts")
    assert done.returncode == 3
    assert "no Kubernetes API server" in done.stderr and "name files" in done.stderr
    empty = run("-", "--no-node-facts", text="")
    assert empty.returncode == 3
    assert not {line.partition(" ")[0] for line in empty.stdout.splitlines()[1:]} & {"PASS", "WARN", "FAIL"}


def test_a_document_with_a_mistake_is_a_finding() -> None:
    wrong = BROKEN.replace("targetPort: 8080", "targetPort: [8080]")
    done = run("-", "-o", "json", text=wrong)
    found = [one for one in json.loads(done.stdout)["findings"] if one["code"] == "configuration"]
    assert found[0]["subject"] == "Service/web (-:12)" or found[0]["subject"].startswith("Service/web (-:")
    assert "spec.ports[0].targetPort" in found[0]["what"]


def test_kube_proxy_in_its_config_map() -> None:
    inside = "apiVersion: kubeproxy.config.k8s.io/v1alpha1\nkind: KubeProxyConfiguration\nmode: ipvs\n"
    data = {"config.conf": inside}
    metadata = {"name": "kube-proxy", "namespace": "kube-system"}
    proxy = yaml.safe_dump({"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata, "data": data})
    assert findings(run("-", "-o", "json", text=proxy), "FAIL") == [("ipvs-arp", "kube-proxy")]
    strict = yaml.safe_dump(
        {
            "apiVersion": "v1",
            "kind": "ConfigMap",
            "metadata": metadata,
            "data": {"config.conf": inside + "ipvs: {strictARP: true}\n"},
        }
    )
    assert findings(run("-", "-o", "json", text=strict), "FAIL") == []


def test_what_others_have_written_neither_paints_nor_moves_the_cursor() -> None:
    evil = BROKEN.replace("{app: ap}", '{app: "\\e[2Jx"}')
    assert "\x1b" not in run("-", text=evil).stdout


# --- a cluster ------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Client]:
    """The API server in memory, with the broken shop in it, and no configuration."""
    with apiserver_backends.memory(tmp_path_factory.mktemp("api")) as client:
        client.good("POST", "/api/v1/namespaces", {"metadata": {"name": "shop"}})
        client.good("POST", "/api/v1/nodes", {"metadata": {"name": "a"}})
        for document in yaml.safe_load_all("---".join([WEB % 8080, API % "ap"])):
            plural = f"{document['kind'].lower()}s"
            client.good("POST", f"/api/v1/namespaces/shop/{plural}", document)
            if document["kind"] == "Pod":
                name = document["metadata"]["name"]
                path = f"/api/v1/namespaces/shop/pods/{name}/status"
                client.good("PATCH", path, {"status": document["status"]}, MERGE)
        yield client


def ask(cluster: Client, *words: str) -> subprocess.CompletedProcess[str]:
    return run("--kubeconfig", str(cluster.kubeconfig), *words)


def test_a_cluster(cluster: Client) -> None:
    done = ask(cluster, "-o", "json")
    assert done.returncode == 1, done.stderr
    assert ("selector", "shop/api") in findings(done, "FAIL")
    assert ("target-port", "shop/web") in findings(done, "FAIL")
    unknown = [one for one in json.loads(done.stdout)["findings"] if one["grade"] == "UNKNOWN"]
    assert {one["subject"] for one in unknown} == {"configuration", "this node", "speakers"}
    assert "does the controller run?" in unknown[0]["remedy"]


def with_server(documents: list[dict[str, Any]], tmp_path: Path, spoil: Callable[[ApiServer], None]) -> Asked:
    """Ask a server of our own that has `documents`, and that `spoil` makes refuse something."""

    async def story() -> Asked:
        server = ApiServer()
        server.load([{"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "shop"}}, *documents])
        await server.start()
        spoil(server)
        path = tmp_path / "kubeconfig"
        path.write_text(kubeconfig(server.url))
        try:
            words = ("--kubeconfig", str(path), "--no-node-facts", "-o", "json")
            return await asyncio.to_thread(run, *words)
        finally:
            await server.stop()

    return asyncio.run(story())


def shop() -> list[dict[str, Any]]:
    return list(yaml.safe_load_all("---".join([WEB % 8080, API % "ap"])))


def test_what_may_not_be_listed_is_named_and_the_rest_is_looked_at(tmp_path: Path) -> None:
    def spoil(server: ApiServer) -> None:
        server.fail(9, 403, path="/pods")
        server.fail(9, 403, path="/configmaps")

    done = with_server([one for one in shop() if one["kind"] == "Service"], tmp_path, spoil)
    found = json.loads(done.stdout)["findings"]
    unknown = {(one["subject"], one["why"]) for one in found if one["grade"] == "UNKNOWN"}
    assert ("pods", "no permission to list pods") in unknown
    assert ("kube-proxy", "no permission to get configmaps in namespace kube-system") in unknown
    [remedy] = {one["remedy"] for one in found if one["subject"] == "pods"}
    assert "kubectl create clusterrole doctor --verb=list --resource=pods" in remedy
    assert ("affinity", "shop/web") in findings(done, "WARN")
    # Without Pods a Service without endpoints is still one.
    assert findings(done, "FAIL") == [("endpoints", "shop/api"), ("endpoints", "shop/web")]
    assert done.returncode == 1


def test_nothing_may_be_read(tmp_path: Path) -> None:
    done = with_server(shop(), tmp_path, lambda server: server.fail(99, 403))
    assert done.returncode == 3
    assert {one["grade"] for one in json.loads(done.stdout)["findings"]} == {"UNKNOWN"}


def test_a_server_that_is_not_there(tmp_path: Path) -> None:
    path = tmp_path / "kubeconfig"
    path.write_text(kubeconfig("http://127.0.0.1:9"))
    done = run("--kubeconfig", str(path))
    assert (done.returncode, done.stdout) == (3, "")
    assert "127.0.0.1:9" in done.stderr


def test_all_pages_of_a_list_are_read(tmp_path: Path) -> None:
    pod = shop()[1]
    many = [{**pod, "metadata": {**pod["metadata"], "name": f"web-{number}"}} for number in range(1100)]
    last = {**pod, "metadata": {**pod["metadata"], "name": "zzz", "labels": {"app": "ap"}}}
    done = with_server([*shop(), *many, last], tmp_path, lambda server: None)
    assert "selector" not in dict(findings(done, "FAIL"))


def test_what_the_controller_has_published_and_what_it_has_refused(tmp_path: Path) -> None:
    published = {
        "apiVersion": "lbspeaker.io/v1beta1",
        "kind": "EffectiveConfiguration",
        "metadata": {"name": "lbspeaker", "namespace": "lbspeaker-system"},
        "spec": {"documents": list(yaml.safe_load_all(CONFIG))},
        "status": {
            "accepted": 2,
            "refused": 1,
            "refusals": [{"object": "BGPPeer/tor", "message": "spec.peerASN: a number is missing"}],
        },
    }
    crds = list(yaml.safe_load_all((ROOT / "config" / "base" / "crds.yaml").read_text()))
    namespace = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "lbspeaker-system"}}
    done = with_server([*crds, namespace, published], tmp_path, lambda server: None)
    assert findings(done, "UNKNOWN") == []
    assert findings(done, "FAIL") == [("configuration", "BGPPeer/tor"), ("controller", "controller")]
    (refused,) = [one for one in json.loads(done.stdout)["findings"] if one["subject"] == "BGPPeer/tor"]
    assert refused["remedy"] == "mend it: kubectl -n lbspeaker-system edit bgppeer tor"
    assert ("advertised", "configuration") in findings(done, "PASS")
