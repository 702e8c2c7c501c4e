"""The API servers under test, and a loud word at the end on which of them were used."""

import subprocess
from collections.abc import Iterator

import pytest

from tests.lab import apiserver_backends
from tests.lab.apiserver_backends import Client

REAL = apiserver_backends.real_binaries()


@pytest.fixture(scope="session")
def memory_api(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Client]:
    with apiserver_backends.memory(tmp_path_factory.mktemp("memory")) as client:
        yield client


@pytest.fixture(scope="session")
def real_api(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Client]:
    assert REAL
    with apiserver_backends.real(REAL, tmp_path_factory.mktemp("real")) as client:
        yield client


@pytest.fixture(scope="session", params=["memory", "real"] if REAL else ["memory"])
def api(request: pytest.FixtureRequest) -> Client:
    """Every server that must honour the contract, in turn."""
    client: Client = request.getfixturevalue(f"{request.param}_api")
    return client


@pytest.fixture
def namespace(api: Client) -> str:
    return api.namespace()


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Say which servers the contract was tested on; the reports tell, also those of parallel workers."""
    reports = [r for name in ("passed", "failed") for r in terminalreporter.stats.get(name, [])]
    asked = [r.nodeid for r in reports if "test_apiserver" in r.nodeid and r.when == "call"]
    counts = {name: sum(f"[{name}" in nodeid for nodeid in asked) for name in ("memory", "real")}
    if not any(counts.values()):
        return
    terminalreporter.section("API server", sep="=", bold=True)
    used = [f"{counts['memory']} tests on THE SERVER IN MEMORY"] if counts["memory"] else []
    if counts["real"] and REAL:
        line = [str(REAL / "kube-apiserver"), "--version"]
        version = subprocess.run(line, capture_output=True, text=True, check=False).stdout.strip()
        used.append(f"{counts['real']} tests on A REAL kube-apiserver, {version}")
    terminalreporter.line("the API contract held or failed on: " + ", and ".join(used), bold=True)
    if not counts["real"]:
        hint = "set KUBEBUILDER_ASSETS to a directory with kube-apiserver and etcd"
        terminalreporter.line(f"NOT TESTED ON A REAL kube-apiserver: {hint}", yellow=True)
