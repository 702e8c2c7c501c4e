"""API servers for benchmarks, each a process of its own that is gone afterwards."""

import contextlib
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import IO, Any

import msgspec

from lbspeaker.errors import Unavailable
from lbspeaker.lab import apiserver
from tests.bench.api import Api
from tests.bench.manifests import GROUP, Manifest
from tests.bench.writer import write
from tests.lab import apiserver_backends
from tests.lab.apiserver_backends import Client

CRD = "CustomResourceDefinition"
COLLECTIONS = {  # in the order in which they must come
    "Namespace": "/api/v1/namespaces",
    CRD: "/apis/apiextensions.k8s.io/v1/customresourcedefinitions",
    "IPAddressPool": f"{GROUP}/ipaddresspools",
    "L2Advertisement": f"{GROUP}/l2advertisements",
    "Service": "/api/v1/namespaces/default/services",
}


class Memory:
    """Our server in memory. `forget` makes everybody list anew, `requests` says what was asked so far."""

    def __init__(self, process: subprocess.Popen[str], client: Client) -> None:
        self.process = process
        self.client = client

    def forget(self) -> None:
        self.process.send_signal(signal.SIGUSR1)

    def requests(self) -> dict[str, int]:
        assert self.process.stdout
        self.process.send_signal(signal.SIGUSR2)
        return msgspec.json.decode(self.process.stdout.readline(), type=dict[str, int])


@contextlib.contextmanager
def memory(objects: Sequence[Manifest] = ()) -> Iterator[Memory]:
    """Run our server, holding these objects. Raises Unavailable if it does not start."""
    with tempfile.TemporaryDirectory(prefix="lbspeaker-bench-") as name:
        directory = Path(name)
        (directory / "objects.json").write_bytes(msgspec.json.encode(list(objects)))
        argv = [sys.executable, "-m", "tests.bench.server", str(directory / "objects.json")]
        process = subprocess.Popen(argv, stdout=subprocess.PIPE, text=True)
        try:
            assert process.stdout
            url = process.stdout.readline().strip()
            if not url:
                raise Unavailable("the API server in memory did not start", "see what it said above")
            kubeconfig = directory / "kubeconfig"
            kubeconfig.write_text(apiserver.kubeconfig(url))
            yield Memory(process, Client("memory", url, kubeconfig))
        finally:
            end(process)


def controller(client: Client, log: IO[bytes], name: str) -> "subprocess.Popen[bytes]":
    """Start a controller; what it says goes to `log`."""
    argv = [sys.executable, "-m", "lbspeaker", "controller", "--kubeconfig", str(client.kubeconfig)]
    return subprocess.Popen(argv, stdout=log, stderr=log, env=os.environ | {"POD_NAME": name})


def said(log: IO[bytes]) -> bytes:
    return os.pread(log.fileno(), 1 << 24, 0)


def end(process: subprocess.Popen[Any]) -> None:
    """Ask the process to end, and kill it if it does not."""
    process.terminate()
    try:
        process.wait(15)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


@contextlib.contextmanager
def real(objects: Sequence[Manifest] = ()) -> Iterator[Client]:
    """Run a real kube-apiserver with etcd, holding these objects (of the kinds that COLLECTIONS knows)."""
    binaries = apiserver_backends.real_binaries()
    assert binaries
    with (
        tempfile.TemporaryDirectory(prefix="lbspeaker-bench-") as directory,
        apiserver_backends.real(binaries, Path(directory)) as client,
    ):
        for kind, path in COLLECTIONS.items():
            created = [manifest for manifest in objects if manifest["kind"] == kind]
            if kind == CRD:
                _create_crds(client, created)
            elif created:
                write(client, [("POST", path, json.dumps(manifest)) for manifest in created])
        yield client


def _create_crds(client: Client, crds: Sequence[Manifest]) -> None:
    """Create them, and wait until the server serves what they describe."""
    with Api(client) as api:
        for crd in crds:
            api.request("POST", COLLECTIONS[CRD], crd)
        for crd in crds:
            path = f"{COLLECTIONS[CRD]}/{crd['metadata']['name']}"
            deadline = time.monotonic() + 20
            while not _established(api.get(path)):
                if time.monotonic() > deadline:
                    raise Unavailable(f"{path} is not established after 20 s")
                time.sleep(0.1)


def _established(crd: Manifest) -> bool:
    conditions = crd.get("status", {}).get("conditions", [])
    return any(c["type"] == "Established" and c["status"] == "True" for c in conditions)
