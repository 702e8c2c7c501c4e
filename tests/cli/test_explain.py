"""`lbspeaker explain`: what is asked and how, the form of the answer, and how it ends."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from lbspeaker.cli.explain import as_said
from lbspeaker.core.said import Said, SaidIP, SaidPeer
from lbspeaker.wire.status import IP, Guard, Member, Peer, Status
from tests.build import ip
from tests.cli.test_plan import CLUSTER, service
from tests.lab import apiserver_backends

ROOT = Path(__file__).parent.parent.parent
LAYER2 = str(ROOT / "examples" / "layer2")


def run(*words: str, text: str | None = None) -> subprocess.CompletedProcess[str]:
    argv = [sys.executable, "-m", "lbspeaker", "explain", *words]
    return subprocess.run(argv, input=text, capture_output=True, text=True, timeout=60, check=False)


def told(*words: str, text: str | None = None) -> Any:
    return json.loads(run(*words, "-o", "json", text=text).stdout)


def test_the_form_of_the_json() -> None:
    documents = "\n---\n".join((CLUSTER, service("web", policy="Local")))
    found = told("shop/web", "-", text=documents)
    assert found.keys() == {"subject", "verdict", "steps", "diagnosis", "nextStep"}
    assert (found["subject"], found["verdict"]) == ("shop/web", "ok")
    assert found["steps"][1] == {
        "step": "pools",
        "ip": None,
        "verdict": "ok",
        "reason": None,
        "lines": ["lan: chosen: the first that has an IP for it: 192.0.2.10"],
    }
    assert [step["step"] for step in found["steps"] if step["ip"] == "192.0.2.10"] == [
        "advertisements",
        "candidates",
        "owner",
        "routes",
    ]
    assert found["diagnosis"] == (
        "192.0.2.10 of shop/web is announced by node-a on layer 2, and by BGP from node-a"
    )


def test_for_people_it_ends_with_one_diagnosis_and_one_next_step() -> None:
    documents = "\n---\n".join((CLUSTER, service("web", "lbspeaker.io/address-pool: wan")))
    done = run("shop/web", "-", text=documents)
    assert done.returncode == 1
    lines = done.stdout.splitlines()
    assert lines[0] == "shop/web: something is in the way"
    assert lines[1] == "  ok  class       none: served here"
    assert lines[2] == "  NO  pools       lan: not asked: pool wan is requested"
    assert lines[-2:] == [
        "diagnosis: shop/web gets no IP: pool wan is requested, but it does not exist (pools: lan)",
        "next step: mend its annotation lbspeaker.io/address-pool, or create the pool",
    ]


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        ([], 2, "ask for something: NAMESPACE/SERVICE, --ip IP or --node NODE"),
        ([LAYER2], 2, "is a PATH; name a Service before it"),
        (["web", LAYER2], 2, "web is no NAMESPACE/SERVICE; did you mean default/web?"),
        (["--ip", "192.0.2.1", "--node", "a", LAYER2], 2, "ask for one thing"),
        (["--ip", "192.0.2", LAYER2], 2, "--ip 192.0.2 is no IP address"),
        (["default/web", "--kubeconfig", "x", LAYER2], 2, "give either PATH or"),
        (["default/wbe", LAYER2], 3, "there is no Service default/wbe; did you mean default/web?"),
        (["shop/else", LAYER2], 3, "there is no Service shop/else; there are: default/dns, default/web"),
        (["--node", "node-z", LAYER2], 3, "there is no Node node-z; did you mean node-"),
        (["default/web", "/nowhere"], 3, "/nowhere: no such file or directory"),
        (["default/web", "--kubeconfig", "/nowhere"], 3, "name files with its objects"),
    ],
)
def test_wrong_questions(words: list[str], code: int, said: str) -> None:
    done = run(*words)
    assert done.returncode == code, done.stderr
    assert said in done.stderr
    assert done.stdout == "" and "Traceback" not in done.stderr


def test_wrong_documents_are_not_explained() -> None:
    done = run("shop/web", "-", text=CLUSTER.replace("192.0.2.10-192.0.2.60", "192.0.2.60-192.0.2.10"))
    assert done.returncode == 1
    assert "hint: write 192.0.2.10-192.0.2.60" in done.stderr


def test_an_ip_and_a_node() -> None:
    found = run("--ip", "192.0.2.60", LAYER2)
    assert found.returncode == 0
    assert "diagnosis: 192.0.2.60 of default/web is announced by node-a on layer 2" in found.stdout
    wrong = run("--ip", "192.0.3.60", LAYER2)
    assert wrong.returncode == 1
    assert "next step: did you mean 192.0.2.60? Else add it to a pool" in wrong.stdout
    node = told("--node", "node-a", LAYER2)
    assert node["steps"][1]["lines"][0] == "it owns 1 of 2 IPs on layer 2: 192.0.2.60"


def test_documents_that_say_too_little_end_with_3() -> None:
    configuration = CLUSTER.replace("kind: Node\n", "kind: Namespace\n")
    done = run("shop/web", "-", text="\n---\n".join((configuration, service("web"))))
    assert done.returncode == 3
    assert "next step: give the Nodes, too: kubectl get nodes -o yaml" in done.stdout


def test_help_has_examples() -> None:
    assert "lbspeaker explain default/web examples/layer2" in run("--help").stdout


def test_what_is_taken_of_a_status() -> None:
    guard = Guard("eth0", "arp", "standard", False, {}, {}, 3, 0.0, 0.0, 0, 0, 0, 0, 0.0, 0)
    status = Status(
        "node-a",
        "0.1.0",
        "serving",
        1.0,
        0.0,
        (Member("node-b", False),),
        (IP("192.0.2.10", ("shop/web",), "owner", ("eth0",), 5.0, "new", "02:00:00:00:00:01", "Brother"),),
        (guard, guard),
        {"192.0.2.11": "node-b"},
        ("something",),
        (),
        (Peer("router", "192.0.2.1", 64512, "up", 7.0, 1, 2, 0, 0, "", ""),),
    )
    assert as_said(status) == Said(
        "serving",
        {ip("192.0.2.10"): SaidIP("owner", ("eth0",), 5.0, "02:00:00:00:00:01 Brother")},
        {"router": SaidPeer("up", 7.0, 1, 2)},
        ("something",),
        6,
    )


def test_a_cluster_is_asked_and_what_its_speakers_do_not_say_is_open(tmp_path: Path) -> None:
    """On the API server in memory, with what a controller published, and a Service that holds its IP."""
    documents = [*yaml.safe_load_all(CLUSTER), *yaml.safe_load_all(service("web"))]
    ours = [d for d in documents if d["apiVersion"].startswith("metallb.io")]
    others = [d for d in documents if d not in ours]
    others[-2]["status"] = {"loadBalancer": {"ingress": [{"ip": "192.0.2.44"}]}}
    namespaces = [
        {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}}
        for name in ("shop", "lbspeaker-system")
    ]
    published = {
        "apiVersion": "lbspeaker.io/v1beta1",
        "kind": "EffectiveConfiguration",
        "metadata": {"name": "lbspeaker", "namespace": "lbspeaker-system"},
        "spec": {"documents": ours},
    }
    file = tmp_path / "cluster.yaml"
    file.write_text(yaml.safe_dump_all([*namespaces, *others, published]))
    crds = ("--load", str(ROOT / "config" / "crds.yaml"))
    with apiserver_backends.memory(tmp_path, *crds, "--load", str(file)) as api:
        done = run("shop/web", "--kubeconfig", str(api.kubeconfig), "-o", "json")
    assert done.returncode == 3, done.stderr
    found = json.loads(done.stdout)
    assert found["steps"][2]["lines"] == [
        "its status has 192.0.2.44",
        "it holds 192.0.2.44, from pool lan",
    ]
    assert {s["step"] for s in found["steps"] if s["verdict"] == "unknown"} == {"speakers", "routes"}
