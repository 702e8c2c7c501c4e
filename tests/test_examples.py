"""The examples: each is right, does what examples/README.md says, and can be applied with kubectl.

`python -m tests.test_examples` writes what `lbspeaker plan` says of each into examples/README.md. What they
do on the wire is tested in tests/scenarios/test_examples.py.
"""

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.controller.conftest import SYSTEM, Cluster, cluster_on, wait_for
from tests.lab import apiserver_backends
from tests.lab.apiserver_backends import Client

ROOT = Path(__file__).parent.parent
EXAMPLES = ROOT / "examples"
README = EXAMPLES / "README.md"
NAMES = sorted(path.name for path in EXAMPLES.iterdir() if path.is_dir())
REFUSED = {"quotas": {"office/wiki": "QuotaReached"}}  # by example; of all others nothing is
FROM_FILES = {"files"}  # for a speaker without a cluster: nobody applies them
OURS = {"lbspeaker.io/v1beta1"}
SERVED = {"v1", "discovery.k8s.io/v1"} | OURS
BLOCK = re.compile(r"^```console\n\$ lbspeaker plan examples/(\S+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)

each = pytest.mark.parametrize("name", NAMES)


def lbspeaker(*words: str) -> str:
    """Run the program as a reader of the README does; return what it prints."""
    argv = [sys.executable, "-m", "lbspeaker", *words]
    environment = os.environ | {"COLUMNS": "120"}
    done = subprocess.run(
        argv, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=60, check=False
    )
    assert (done.returncode, done.stderr) == (0, ""), done
    return done.stdout


def documents(path: Path) -> list[dict[str, Any]]:
    return [one for one in yaml.safe_load_all(path.read_text()) if one]


def files(name: str) -> list[Path]:
    """The YAML files of an example, the cluster first: namespaces must be there before what is in them."""
    return sorted((EXAMPLES / name).glob("*.yaml"))


def applied(name: str) -> list[Path]:
    """The files that an API server with our CRDs can be given, of those that serve no other purpose."""
    return [path for path in files(name) if {one.get("apiVersion") for one in documents(path)} <= SERVED]


def objects(name: str) -> list[dict[str, Any]]:
    return [one for path in applied(name) for one in documents(path)]


def key(one: dict[str, Any]) -> str:
    return f"{one['metadata'].get('namespace', 'default')}/{one['metadata']['name']}"


def plan(name: str) -> Any:
    return json.loads(lbspeaker("plan", f"examples/{name}", "-o", "json"))


# --- the papers -----------------------------------------------------------------------------------------


def written(name: str) -> str:
    """What `lbspeaker plan` says, without blanks at the ends of lines."""
    lines = lbspeaker("plan", f"examples/{name}").splitlines()
    return "".join(f"{line.rstrip()}\n" for line in lines)


def test_the_readme_has_every_example_in_its_table_and_with_its_plan() -> None:
    text = README.read_text()
    assert re.findall(r"^\| \[([^]]+)\]\(\1\) \|", text, re.MULTILINE) == [n for n, _ in BLOCK.findall(text)]
    assert sorted(name for name, _ in BLOCK.findall(text)) == NAMES


@each
def test_the_readme_says_what_is_planned(name: str) -> None:
    assert dict(BLOCK.findall(README.read_text()))[name] == written(name), "python -m tests.test_examples"


@each
def test_every_file_begins_with_what_it_is_for(name: str) -> None:
    for path in (EXAMPLES / name).iterdir():
        assert path.read_text().startswith("# "), path
    for path in set(files(name)) - set(applied(name)):
        head = " ".join(path.read_text().partition("\napiVersion")[0].replace("\n#", "").split())
        assert "its test leaves the file out" in head or "No Kubernetes object" in head, path


# --- without a cluster ----------------------------------------------------------------------------------


@each
def test_it_is_valid_without_a_warning(name: str) -> None:
    found = json.loads(lbspeaker("check", f"examples/{name}", "-o", "json"))
    assert found == {"valid": True, "problems": []}


@each
def test_every_service_gets_an_ip_that_is_announced_or_is_told_why_not(name: str) -> None:
    found = plan(name)
    refused = {row["service"]: row["reason"] for row in found["refusals"]}
    assert refused == REFUSED.get(name, {})
    served = {row["service"] for row in found["allocations"]}
    assert served | refused.keys() == {key(one) for one in objects(name) if one["kind"] == "Service"}
    assert served == {service for row in found["layer2"] + found["bgp"] for service in row["services"]}
    assert (found["notes"], found["changes"]) == ([], [])


# --- with an API server and a controller ----------------------------------------------------------------


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Client]:
    with apiserver_backends.memory(tmp_path_factory.mktemp("memory")) as client:
        yield client


@pytest.fixture
def cluster(server: Client) -> Iterator[Cluster]:
    with cluster_on(server) as made:
        yield made


@pytest.mark.parametrize("name", sorted(set(NAMES) - FROM_FILES))
def test_kubectl_can_apply_it_and_the_controller_does_what_was_planned(cluster: Cluster, name: str) -> None:
    cluster.kubectl("apply", "--validate=strict", *(f"--filename={path}" for path in applied(name)))
    for secret in {one.get("spec", {}).get("passwordSecret", {}).get("name") for one in objects(name)} - {
        None
    }:
        body = {
            "metadata": {"name": secret},
            "type": "kubernetes.io/basic-auth",
            "data": {"password": "eA=="},
        }
        cluster.client.good("POST", f"/api/v1/namespaces/{SYSTEM}/secrets", body)
    cluster.controller()
    configuration = [path for path in applied(name) if {one["apiVersion"] for one in documents(path)} == OURS]
    wanting = (f"--filename={path}" for path in configuration)
    cluster.kubectl("wait", "--for=condition=Accepted", "--timeout=15s", *wanting)
    wanted = {row["service"]: row["ips"] for row in plan(name)["allocations"]}
    wait_for(lambda: given(cluster) == wanted, f"the IPs of {name}")


def given(cluster: Cluster) -> dict[str, list[str]]:
    """The IPs that Services have."""
    found = cluster.client.good("GET", "/api/v1/services")["items"]
    lists = {key(one): one.get("status", {}).get("loadBalancer", {}).get("ingress") or [] for one in found}
    return {service: [entry["ip"] for entry in ips] for service, ips in lists.items() if ips}


if __name__ == "__main__":
    README.write_text(
        BLOCK.sub(
            lambda found: f"```console\n$ lbspeaker plan examples/{found[1]}\n{written(found[1])}```",
            README.read_text(),
        )
    )
