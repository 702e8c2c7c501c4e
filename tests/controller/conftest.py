"""Controllers as processes, on API servers of both kinds, with kubectl as their user."""

import contextlib
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from lbspeaker.config.crds import crds
from tests.lab import apiserver_backends
from tests.lab.apiserver_backends import MERGE_PATCH, Client, Json

SYSTEM = "lbspeaker-system"
OURS = f"/apis/lbspeaker.io/v1beta1/namespaces/{SYSTEM}"
SERVICES = "/api/v1/namespaces/default/services"
REAL = apiserver_backends.real_binaries()
PLURALS = {"Community": "communities"}


def wait_for(condition: Callable[[], object], what: str, seconds: float = 15.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"not within {seconds} s: {what}"
        time.sleep(0.03)


class Controller:
    """One controller, and what it said."""

    def __init__(self, kubeconfig: Path, *more: str, **environment: str) -> None:
        self._log = tempfile.TemporaryFile("w+")  # noqa: SIM115
        argv = [sys.executable, "-m", "lbspeaker", "controller", "--kubeconfig", str(kubeconfig), *more]
        env = os.environ | environment
        self.process = subprocess.Popen(argv, stdout=self._log, stderr=self._log, env=env)

    @property
    def log(self) -> str:
        return os.pread(self._log.fileno(), 1 << 24, 0).decode()

    def says(self, word: str, seconds: float = 15.0) -> "Controller":
        wait_for(lambda: re.search(rf" {word}\b", self.log) or self.process.poll() is not None, word, seconds)
        assert re.search(rf" {word}\b", self.log), self.log
        return self

    def end(self, number: int = signal.SIGTERM) -> int:
        if self.process.poll() is None:
            self.process.send_signal(number)
        return self.process.wait(15)


class Cluster:
    """An API server with our CRDs, and whoever uses it."""

    def __init__(self, client: Client, namespace: str = SYSTEM) -> None:
        self.client = client
        self.system = namespace
        self._running: list[Controller] = []

    def controller(self, *more: str, **environment: str) -> Controller:
        """Start a controller: the same pod each time, so that it need not wait for its own Lease."""
        environment = {"POD_NAME": "controller-0", **environment}
        made = Controller(self.client.kubeconfig, "--namespace", self.system, *more, **environment)
        self._running.append(made)
        return made

    def end(self) -> None:
        for one in self._running:
            one.end(signal.SIGKILL)

    # -- configuration --

    def object(self, kind: str, name: str, **spec: Any) -> Json:
        return {
            "apiVersion": "lbspeaker.io/v1beta1",
            "kind": kind,
            "metadata": {"name": name, "namespace": self.system},
            "spec": spec,
        }

    def path(self, kind: str, name: str = "", group: str = "lbspeaker.io/v1beta1") -> str:
        plural = PLURALS.get(kind, kind.lower() + "s")
        return f"/apis/{group}/namespaces/{self.system}/{plural}" + (f"/{name}" if name else "")

    def create(self, kind: str, name: str, **spec: Any) -> None:
        self.client.good("POST", self.path(kind), self.object(kind, name, **spec))

    def edit(self, kind: str, name: str, **spec: Any) -> int:
        """Change the spec; return the generation that it has then."""
        changed = self.client.good("PATCH", self.path(kind, name), {"spec": spec}, MERGE_PATCH)
        return int(changed["metadata"]["generation"])

    def get(self, kind: str, name: str) -> Json:
        found: Json = self.client.good("GET", self.path(kind, name))
        return found

    def status(self, kind: str, name: str) -> Json:
        found: Json = self.get(kind, name).get("status") or {}
        return found

    def condition(self, kind: str, name: str, of: str = "Accepted") -> Json:
        conditions = self.status(kind, name).get("conditions") or []
        return next((c for c in conditions if c["type"] == of), {})

    def exists(self, kind: str, name: str) -> bool:
        return self.client.ask("GET", self.path(kind, name)).status == 200

    def published(self) -> set[str]:
        answer = self.client.ask("GET", self.path("EffectiveConfiguration", "lbspeaker"))
        documents = answer.json["spec"].get("documents", []) if answer.status == 200 else []
        return {f"{d['kind']}/{d['metadata']['name']}" for d in documents}

    # -- Services --

    def service(self, name: str, annotations: Json | None = None, **spec: Any) -> None:
        body = {
            "apiVersion": "v1",
            "kind": "Service",
            "metadata": {"name": name, "annotations": annotations or {}},
            "spec": {
                "type": "LoadBalancer",
                "selector": {"app": "web"},
                "ports": [{"name": "http", "port": 80, "targetPort": 8080}],
                "allocateLoadBalancerNodePorts": False,
                **spec,
            },
        }
        self.client.good("POST", SERVICES, body)

    def edit_service(self, name: str, **changes: Any) -> None:
        self.client.good("PATCH", f"{SERVICES}/{name}", changes, MERGE_PATCH)

    def delete_service(self, name: str) -> None:
        self.client.good("DELETE", f"{SERVICES}/{name}")

    def services(self) -> dict[str, Json]:
        return {one["metadata"]["name"]: one for one in self.client.good("GET", SERVICES)["items"]}

    def ips(self, name: str) -> list[str]:
        status = self.client.good("GET", f"{SERVICES}/{name}").get("status") or {}
        return [one["ip"] for one in (status.get("loadBalancer") or {}).get("ingress") or []]

    def ip(self, name: str) -> str:
        wait_for(lambda: self.ips(name), f"{name} gets an IP")
        return self.ips(name)[0]

    def allocated(self, name: str) -> Json:
        """Our condition of a Service."""
        status = self.client.good("GET", f"{SERVICES}/{name}").get("status") or {}
        found = [c for c in status.get("conditions") or [] if c["type"] == "lbspeaker.io/Allocated"]
        return found[0] if found else {}

    def events(self, name: str) -> list[str]:
        found = self.client.good("GET", "/api/v1/namespaces/default/events")["items"]
        return [f"{e['reason']}: {e['message']}" for e in found if e["involvedObject"]["name"] == name]

    def kubectl(self, *arguments: str, text: str | None = None) -> str:
        program = shutil.which("kubectl")
        if program is None:
            pytest.skip("kubectl is not installed")
        argv = [program, "--kubeconfig", str(self.client.kubeconfig), *arguments]
        return subprocess.run(argv, input=text, text=True, capture_output=True, check=True, timeout=60).stdout


@contextlib.contextmanager
def cluster_on(client: Client) -> Iterator[Cluster]:
    client.ask("POST", "/api/v1/namespaces", {"metadata": {"name": SYSTEM}})
    for crd in crds():
        client.ask("POST", "/apis/apiextensions.k8s.io/v1/customresourcedefinitions", crd)
    plurals = {crd["spec"]["names"]["plural"] for crd in crds()}
    wait_for(lambda: all(client.ask("GET", f"{OURS}/{p}").status == 200 for p in plurals), "the CRDs")
    cluster = Cluster(client)
    try:
        yield cluster
    finally:
        cluster.end()
        _clean(cluster, plurals)


def _clean(cluster: Cluster, plurals: set[str]) -> None:
    """Leave the server as it was found, for the next story."""
    client = cluster.client
    for plural in sorted(plurals):
        for one in client.good("GET", f"{OURS}/{plural}")["items"]:
            path = f"{OURS}/{plural}/{one['metadata']['name']}"
            client.ask("PATCH", path, {"metadata": {"finalizers": None}}, MERGE_PATCH)
            client.ask("DELETE", path)
    for one in client.good("GET", "/api/v1/services")["items"]:
        metadata = one["metadata"]
        if metadata["name"] != "kubernetes":
            client.ask("DELETE", f"/api/v1/namespaces/{metadata['namespace']}/services/{metadata['name']}")
    leases = f"/apis/coordination.k8s.io/v1/namespaces/{SYSTEM}/leases"
    client.ask("DELETE", f"{leases}/lbspeaker.controller")
    client.ask("DELETE", f"/api/v1/namespaces/{SYSTEM}/secrets/lbspeaker-hello")
    events = "/api/v1/namespaces/default/events"
    for one in client.good("GET", events)["items"]:
        client.ask("DELETE", f"{events}/{one['metadata']['name']}")


@pytest.fixture(scope="session", params=["memory", "real"] if REAL else ["memory"])
def server(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Client]:
    directory = tmp_path_factory.mktemp(request.param)
    if request.param == "real":
        assert REAL
        with apiserver_backends.real(REAL, directory) as client:
            yield client
    else:
        with apiserver_backends.memory(directory) as client:
            yield client


@pytest.fixture
def cluster(server: Client) -> Iterator[Cluster]:
    with cluster_on(server) as made:
        yield made
