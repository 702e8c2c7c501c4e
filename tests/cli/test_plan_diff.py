"""`lbspeaker plan --diff`: what it compares, the form of the answer, and how it ends."""

import json
import re
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.cli.test_explain import namespaces, written
from tests.cli.test_plan import CLUSTER, run, service
from tests.lab import apiserver_backends

ROOT = Path(__file__).parent.parent.parent
LAYER2 = str(ROOT / "examples" / "layer2")
MARK = "---\napiVersion: metallb.io/v1beta1\nkind: IPAddressPool"
NODES, OURS = CLUSTER.partition(MARK)[0], (MARK + CLUSTER.partition(MARK)[2]).removeprefix("---\n")


@pytest.fixture
def old(tmp_path: Path) -> str:
    file = tmp_path / "old.yaml"
    file.write_text("\n---\n".join((CLUSTER, service("web"), service("dns"))))
    return str(file)


def diffed(text: str, old: str) -> tuple[int, Any]:
    done = run("--diff", "-", "--from", old, "-o", "json", text=text)
    assert done.returncode in (0, 1), done.stderr
    return done.returncode, json.loads(done.stdout)


def test_nothing_lost_is_0(old: str) -> None:
    nothing = {"ips": [], "owners": [], "routes": [], "notes": [], "sessions": []}
    assert diffed(OURS, old) == (0, {"lost": 0, "servicesKept": 2, **nothing})
    done = run("--diff", "-", "--from", old, text=OURS)
    assert (done.returncode, done.stdout) == (
        0,
        "nothing would change; 2 Services would keep what they have\n",
    )


def test_the_form_of_the_json_and_1_for_what_is_lost(old: str) -> None:
    new = OURS.replace("name: lan", "name: other").replace("192.0.2.10-192.0.2.60", "192.0.2.10-192.0.2.10")
    new = new.replace("name: bgp", "name: bgp2").replace("64512:31", "64512:32")
    code, found = diffed(new, old)
    assert (code, found["lost"], found["servicesKept"]) == (1, 1, 1)
    assert found["ips"] == [
        {
            "service": "shop/web",
            "before": ["192.0.2.11"],
            "after": [],
            "reason": "PoolExhausted",
            "message": "no free IPv4 address (other: 1 of 1 used); add addresses to a pool",
            "lost": True,
        }
    ]
    attributes = {"localPref": None, "med": None, "asPathPrepend": 0}
    assert found["routes"][0] == {
        "node": "node-a",
        "peer": "router",
        "prefix": "192.0.2.10/32",
        "before": {**attributes, "communities": ["64512:31"]},
        "after": {**attributes, "communities": ["64512:32"]},
        "lost": False,
    }
    assert yaml.safe_load(run("--diff", "-", "--from", old, "-o", "yaml", text=new).stdout) == found


def test_for_people_what_is_lost_comes_first_and_nodes_are_told_together(old: str) -> None:
    new = OURS.replace("192.0.2.10-192.0.2.60", "192.0.2.11-192.0.2.60")
    new = new.replace('["64512:31"]', '["64512:31"], localPref: 7, peers: [router]')
    done = run("--diff", "-", "--from", old, text=new.replace("name: lan", "name: wan"))
    assert done.returncode == 1
    lines = done.stdout.splitlines()
    assert lines[0] == "LOST  shop/dns changes its IP: 192.0.2.10 becomes 192.0.2.12"
    assert "      192.0.2.11/32 to router from node-a, node-b, node-c: localPref unset becomes 7" in lines
    assert lines[-1] == "1 would be lost; 1 Service would keep what it has"


def test_an_advertisement_that_goes_takes_its_ips_off_the_segment(old: str) -> None:
    lines = run("--diff", "-", "--from", old, text=OURS.replace(_l2(), "")).stdout.splitlines()
    assert lines[0] == (
        "LOST  192.0.2.10 (shop/dns) is announced on layer 2 no more:"
        " NoAdvertisement: no L2Advertisement selects pool lan"
    )


def _l2() -> str:
    start = OURS.index("---\napiVersion: metallb.io/v1beta1\nkind: L2Advertisement")
    return OURS[start : OURS.index("---", start + 3)]


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        ([LAYER2, "--from", LAYER2], 2, "--from, --prune, --kubeconfig and --context go with --diff"),
        ([LAYER2, "--prune"], 2, "go with --diff"),
        (["--diff", "-", "--from", "-"], 2, "stdin (-) can be PATH or --from, not both"),
        (["--diff", LAYER2, "--from", LAYER2, "--prune"], 2, "are about a cluster, --from is not"),
        (["--diff", f"{LAYER2}/service.yaml", "--from", LAYER2], 2, "there is no configuration in PATH"),
        (["--diff", "/nowhere", "--from", LAYER2], 3, "/nowhere: no such file or directory"),
        (["--diff", LAYER2, "--kubeconfig", "/nowhere"], 3, "name files with its objects"),
    ],
)
def test_wrong_usage(words: list[str], code: int, said: str) -> None:
    done = run(*words)
    assert (done.returncode, done.stdout) == (code, ""), done.stderr
    assert said in done.stderr and "Traceback" not in done.stderr


def test_wrong_documents_are_no_difference(old: str) -> None:
    done = run("--diff", "-", "--from", old, text=OURS.replace("-192.0.2.60", "-192.0.2.1"))
    assert (done.returncode, done.stdout) == (1, "")
    assert "ends before it starts" in done.stderr


def test_help_has_an_example() -> None:
    assert "lbspeaker plan --diff new.yaml --from old.yaml" in run("--help").stdout


def test_a_cluster_is_what_is_now(tmp_path: Path) -> None:
    """On the API server in memory. What is applied is added; what is pruned drains while it is in use."""
    ours = re.sub(r"metallb.io/v1beta\d", "lbspeaker.io/v1beta1", OURS).replace("metallb-", "lbspeaker-")
    objects = [*yaml.safe_load_all(NODES), *yaml.safe_load_all(service("web"))]
    objects[-2]["metadata"]["annotations"] = {
        "lbspeaker.io/ip-allocated-from-pool": "lan",
        "lbspeaker.io/allocated-ips": "192.0.2.44",
    }
    objects[-2]["status"] = {"loadBalancer": {"ingress": [{"ip": "192.0.2.44"}]}}
    file, new = tmp_path / "cluster.yaml", tmp_path / "new.yaml"
    published = written(list(yaml.safe_load_all(ours)), "node-a", "node-b", "node-c")
    file.write_text(yaml.safe_dump_all([*namespaces(), *objects, *published]))
    new.write_text(
        ours.partition("---")[0].replace("name: lan", "name: more").replace("192.0.2.", "192.0.9.")
    )
    crds = ("--load", str(ROOT / "config" / "base" / "crds.yaml"))
    with apiserver_backends.memory(tmp_path, *crds, "--load", str(file)) as api:
        cluster = ("--kubeconfig", str(api.kubeconfig), "-o", "json")
        applied = run("--diff", str(new), *cluster)
        pruned = run("--diff", str(new), "--prune", *cluster)
        beside = run("--diff", LAYER2, *cluster)
        instead = run("--diff", LAYER2, "--prune", *cluster)
    assert (applied.returncode, json.loads(applied.stdout)["servicesKept"]) == (0, 1), applied.stderr
    found = json.loads(pruned.stdout)
    assert (pruned.returncode, found["ips"]) == (1, []), "its pool drains, and is not gone"
    assert found["owners"][0]["reason"] == "NoAdvertisement"
    assert _lost(beside) == []
    assert _lost(instead) == ["shop/web"]
    assert [row["service"] for row in json.loads(beside.stdout)["ips"]] == ["default/dns", "default/web"]


def _lost(done: subprocess.CompletedProcess[str]) -> list[str]:
    return [row["service"] for row in json.loads(done.stdout)["ips"] if row["lost"]]
