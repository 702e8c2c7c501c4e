"""What controllers say of themselves: the one that acts, the one that stands by, one without a cluster."""

import contextlib
import re
import signal
import socket
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.controller.conftest import Cluster, wait_for


@pytest.fixture
def ports() -> tuple[int, int]:
    """Two that are free."""
    with socket.create_server(("127.0.0.1", 0)) as one, socket.create_server(("127.0.0.1", 0)) as two:
        return one.getsockname()[1], two.getsockname()[1]


def page(port: int, path: str = "/metrics") -> str:
    """What is said there; with the status of HTTP, if it is an error; nothing, if nobody listens."""
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=5) as answer:
            return str(answer.read().decode())
    except urllib.error.HTTPError as error:
        return f"{error.code} {error.read().decode()}"
    except OSError:
        return ""


def value(port: int, name: str) -> float | None:
    found = re.search(rf"^{re.escape(name)} (\S+)$", page(port), re.MULTILINE)
    return float(found[1]) if found else None


def test_one_acts_and_one_stands_by_and_both_are_ready(cluster: Cluster, ports: tuple[int, int]) -> None:
    first, second = ports
    cluster.create("IPAddressPool", "lan", addresses=["192.0.2.10-192.0.2.19"])
    one = cluster.controller("--metrics", f"127.0.0.1:{first}", POD_NAME="one").says("serving")
    cluster.controller("--metrics", f"127.0.0.1:{second}", POD_NAME="two").says("standing-by")
    assert page(first, "/readyz") == page(second, "/readyz") == "ready\n"
    assert (value(first, "lbspeaker_leader"), value(second, "lbspeaker_leader")) == (1, 0)
    wait_for(lambda: value(first, "lbspeaker_configuration_published") == 1, "it is published")
    assert value(first, 'lbspeaker_pool_size{family="4",pool="lan"}') == 10
    assert value(first, 'lbspeaker_configuration_objects{verdict="accepted"}') == 1
    assert value(second, "lbspeaker_configuration_loaded") is None
    assert "metallb" not in page(first)
    one.end(signal.SIGTERM)
    wait_for(lambda: value(second, "lbspeaker_leader") == 1, "the other one acts")
    assert value(second, "lbspeaker_leaderships_total") == 1
    wait_for(lambda: value(second, "lbspeaker_configuration_loaded") == 1, "it knows the configuration")


def test_who_cannot_reach_the_api_is_alive_and_not_ready(tmp_path: Path, ports: tuple[int, int]) -> None:
    closed, port = ports
    kubeconfig = tmp_path / "kubeconfig"
    kubeconfig.write_text(
        "{apiVersion: v1, kind: Config, current-context: x, users: [], "
        f"clusters: [{{name: x, cluster: {{server: 'http://127.0.0.1:{closed}'}}}}], "
        "contexts: [{name: x, context: {cluster: x}}]}"
    )
    with running("--kubeconfig", str(kubeconfig), "--metrics", f"127.0.0.1:{port}"):
        wait_for(lambda: "no connection" in page(port, "/readyz"), "it says what is wrong")
        assert page(port, "/readyz").startswith("503 it cannot stand by: GET http://127.0.0.1:")
        assert page(port, "/healthz") == "alive\n"
        name = 'lbspeaker_api_errors_total{method="GET",reason="NoConnection"}'
        assert (value(port, name) or 0) >= 1


FILES = """
apiVersion: lbspeaker.io/v1beta1
kind: IPAddressPool
metadata: {name: lan}
spec: {addresses: [192.0.2.60-192.0.2.69]}
---
apiVersion: v1
kind: Service
metadata: {name: web}
spec: {type: LoadBalancer, ports: [{port: 80}]}
"""


def test_without_a_cluster_it_says_the_same(tmp_path: Path, ports: tuple[int, int]) -> None:
    (tmp_path / "all.yaml").write_text(FILES)
    port = ports[0]
    with running("--config", str(tmp_path), "--metrics", f":{port}", "--metrics-compat", "metallb"):
        wait_for(lambda: value(port, 'lbspeaker_services{state="allocated"}') == 1, "it has allocated")
        assert page(port, "/readyz") == "ready\n"
        assert value(port, "lbspeaker_allocations_total") == 1
        assert value(port, 'metallb_allocator_addresses_in_use_total{pool="lan"}') == 1
        with socket.create_connection(("localhost", port), timeout=5):
            pass  # all addresses, whatever the name of this machine leads to


def test_a_port_that_is_taken_costs_the_metrics_alone(tmp_path: Path) -> None:
    (tmp_path / "all.yaml").write_text(FILES)
    with socket.create_server(("127.0.0.1", 0)) as taken:
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        with running("--config", str(tmp_path), "--metrics", address) as process:
            wait_for(lambda: (tmp_path / ".lbspeaker-allocations.json").exists(), "it allocates")
    log = process.stderr.read()  # type: ignore[union-attr]
    assert re.search("metrics-unserved .*in use.* hint='the address of --metrics must be free'", log), log


@contextlib.contextmanager
def running(*options: str) -> Iterator[subprocess.Popen[str]]:
    argv = [sys.executable, "-m", "lbspeaker", "controller", *options]
    process = subprocess.Popen(argv, stderr=subprocess.PIPE, text=True)
    try:
        yield process
    finally:
        process.terminate()
        process.wait(15)
