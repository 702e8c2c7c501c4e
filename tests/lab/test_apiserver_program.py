"""The server as a program: what it prints, reads and writes, and how it ends."""

import http.client
import json
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

from tests.lab import apiserver_backends

PROGRAM = [sys.executable, "-m", "lbspeaker.lab.apiserver"]


def get(url: str, path: str) -> Any:
    parts = urlsplit(url)
    connection = http.client.HTTPConnection(parts.hostname or "", parts.port, timeout=5)
    try:
        connection.request("GET", path)
        return json.loads(connection.getresponse().read())
    finally:
        connection.close()


def test_it_loads_files_and_writes_a_kubeconfig(tmp_path: Path) -> None:
    (tmp_path / "b").mkdir()
    (tmp_path / "b" / "service.yaml").write_text(
        "apiVersion: v1\nkind: Service\nmetadata: {name: web, namespace: shop}\n"
        "spec: {type: LoadBalancer, ports: [{port: 80}]}\n"
        "status: {loadBalancer: {ingress: [{ip: 192.0.2.10}]}}\n"
        "---\napiVersion: v1\nkind: Namespace\nmetadata: {name: shop}\n"
    )
    node = {"apiVersion": "v1", "kind": "Node", "metadata": {"name": "n1"}, "status": {"phase": "Running"}}
    (tmp_path / "nodes.json").write_text(json.dumps({"kind": "List", "items": [node]}))
    more = ("--load", str(tmp_path / "b"), "--load", str(tmp_path / "nodes.json"))
    with apiserver_backends.memory(tmp_path, *more) as api:
        service = get(api.url, "/api/v1/namespaces/shop/services/web")
        assert service["status"]["loadBalancer"]["ingress"] == [{"ip": "192.0.2.10", "ipMode": "VIP"}]
        assert get(api.url, "/api/v1/nodes/n1")["status"]["phase"] == "Running"
        assert api.url in api.kubeconfig.read_text()


def test_the_kubeconfig_has_a_token_that_is_valid(tmp_path: Path) -> None:
    tokens = tmp_path / "tokens"
    tokens.write_text("old,admin,expired\nnew,admin\n")
    with apiserver_backends.memory(tmp_path, "--tokens", str(tokens)) as api:
        assert get(api.url, "/api/v1/nodes")["code"] == 401
        assert "token: new" in api.kubeconfig.read_text().replace('"', "")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        pytest.param("a: [", "objects.yaml: not YAML", id="not YAML"),
        pytest.param("- 1", "objects.yaml: a document that is no Kubernetes object", id="not an object"),
        pytest.param(
            "kind: Pool\napiVersion: x/v1\nmetadata: {name: a}",
            "Pool/a: no kind Pool in x/v1\n    hint: load its CustomResourceDefinition too",
            id="an unknown kind",
        ),
        pytest.param(
            "kind: Service\napiVersion: v1\nmetadata: {name: a}\nspec: {}",
            'Service/a: Service "a" is invalid: spec.ports: Required value',
            id="an invalid object",
        ),
    ],
)
def test_what_cannot_be_loaded_is_told(tmp_path: Path, text: str, expected: str) -> None:
    path = tmp_path / "objects.yaml"
    path.write_text(text)
    done = subprocess.run(
        [*PROGRAM, "--load", str(path)], capture_output=True, text=True, timeout=20, check=False
    )
    assert done.returncode == 3
    assert expected in done.stderr
    assert "Traceback" not in done.stderr


def test_an_address_that_is_taken_is_told() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        line = [*PROGRAM, "--listen", address]
        done = subprocess.run(line, capture_output=True, text=True, timeout=20, check=False)
    assert done.returncode == 3
    assert done.stderr.startswith(
        f"API server: cannot listen on {address}: Address already in use; choose another"
    )


def test_it_serves_on_an_inherited_socket_and_ends_on_sigterm() -> None:
    with socket.create_server(("127.0.0.1", 0)) as inherited:
        number = inherited.fileno()
        line = [*PROGRAM, "--fd", str(number)]
        process = subprocess.Popen(line, pass_fds=[number], stdout=subprocess.PIPE, text=True)
        try:
            assert process.stdout
            url = process.stdout.readline().strip()
            assert url == f"http://127.0.0.1:{inherited.getsockname()[1]}"
            assert get(url, "/version")["major"] == "1"
        finally:
            process.send_signal(signal.SIGTERM)
            assert process.wait(10) == 0
            process.stdout.close()


def test_it_ends_when_its_parent_dies() -> None:
    parent = (
        "import subprocess, sys\n"
        f"child = subprocess.Popen({[*PROGRAM, '--die-with-parent']!r}, stdout=subprocess.PIPE)\n"
        "child.stdout.readline()\n"
        "print(child.pid, flush=True)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", parent], capture_output=True, text=True, timeout=30, check=True
    )
    pid = int(done.stdout)
    give_up = time.monotonic() + 10
    while alive(pid):
        assert time.monotonic() < give_up, "the server outlived its parent"
        time.sleep(0.02)


def alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (ProcessLookupError, FileNotFoundError):
        return False
