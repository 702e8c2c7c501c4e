"""`lbspeaker explain`: what is asked and how, the form of the answer, and how it ends."""

import json
import subprocess
import sys
import time
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
import yaml
from msgspec import structs

from lbspeaker.cli.explain import of_cluster
from lbspeaker.cli.source import sufficient
from lbspeaker.config.documents import Document
from lbspeaker.core.election import rank
from lbspeaker.core.explain import Explanation
from lbspeaker.core.explain_node import explain_node
from lbspeaker.core.explain_service import explain_service
from lbspeaker.core.said import Said, SaidIP, SaidMember, SaidPeer
from lbspeaker.errors import Unable, Unavailable
from lbspeaker.model import EXCLUDE
from lbspeaker.observe.look import Look
from lbspeaker.observe.said import as_said
from lbspeaker.wire import speaker_object
from lbspeaker.wire.status import IP, Guard, Member, Peer, Status
from tests.build import ip, snapshot
from tests.cli.test_plan import CLUSTER, service
from tests.lab import apiserver_backends
from tests.test_overview import FIRST, NOW, OWNED, SECOND, THIRD, WEB, look, says

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
        (Member("node-b", True, ("eth0",), ("eth1",)),),
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
        {"node-b": SaidMember(("eth0",), ("eth1",))},
    )


# --- a cluster ------------------------------------------------------------------------------------------


def of(seen: Look, key: str = "default/web") -> Explanation:
    return explain_service(of_cluster(seen, None, NOW, "lbspeaker-system"), key)


def test_what_a_look_at_a_cluster_shows() -> None:
    found = of(look())
    assert found.verdict == "ok"
    assert next(one for one in found.steps if one.name == "speakers").lines == (
        f"{FIRST}: owner for 30 s, on eth0",
    )
    silent = replace(snapshot(WEB), members=frozenset("abc") - {FIRST})
    assert "owner" not in str(next(one for one in of(look(snapshot=silent)).steps if one.name == "speakers"))
    refused = of(look(refused=(("L2Advertisement/x", "unknown pool"),)))
    assert "L2Advertisement/x is not in force: unknown pool" in str(refused.steps)


def hears(*nodes: str) -> tuple[Member, ...]:
    """All others, of whom only these are heard."""
    return tuple(Member(n, True, *((("eth0",), ()) if n in nodes else ((), ("eth0",)))) for n in "abc")


CUT_OFF = (  # FIRST; the others hear each other
    says(FIRST, OWNED, members=hears(), problems=("eth0: no other speaker is heard any more",)),
    says(SECOND, members=hears(SECOND, THIRD)),
    says(THIRD, members=hears(SECOND, THIRD)),
)


def test_who_answers_and_is_not_heard_announces_nothing() -> None:
    """Its Lease is fresh, and it says that it owns the IP."""
    found = of(look(*CUT_OFF))
    steps = {one.name: one for one in found.steps}
    by = ", ".join(sorted((SECOND, THIRD)))
    assert found.verdict == "no"
    assert f"{FIRST}: {FIRST} is not heard on its links by {by}" in str(steps["candidates"].lines)
    assert steps["speakers"].why == f"{FIRST} answers for it, and {FIRST} is not heard on its links by {by}"
    assert found.next_step == f"look at the link of {FIRST}, and at the switch"
    assert steps["owner"].lines[0].startswith(SECOND)
    others = {name: {"labels": {EXCLUDE: ""}} for name in (SECOND, THIRD)}
    alone = of(look(*CUT_OFF, snapshot=snapshot(WEB, node_fields=others)))
    assert alone.verdict == "no"
    assert f"; {FIRST} is not heard on its links by {by}" in alone.diagnosis
    assert alone.next_step == f"look at the link of {FIRST}, and at the switch"


def test_a_node_that_is_not_heard_is_told_so_even_if_it_does_not_complain() -> None:
    silent = (structs.replace(CUT_OFF[0], problems=()), *CUT_OFF[1:])
    found = explain_node(of_cluster(look(*silent), None, NOW, "lbspeaker-system"), FIRST)
    assert found.diagnosis.startswith(
        f"something is wrong with {FIRST}: {FIRST} is not heard on its links by"
    )


def test_what_may_not_be_read_is_not_taken_for_absent() -> None:
    some = (Document("cluster", {}),)

    def checked(**fields: Any) -> Look:
        return sufficient(look(documents=some, **fields), "lbspeaker-system")

    with pytest.raises(Unable, match="endpointslices: forbidden; without that nothing can be told"):
        checked(unread=("endpointslices: forbidden",))
    nobody = replace(snapshot(WEB), members=frozenset())
    found = of(checked(snapshot=nobody, unread=("leases: forbidden",)))
    assert found.verdict == "unknown"
    assert found.diagnosis.endswith(
        "as far as can be seen: which speakers live is not known (leases: forbidden)"
    )
    assert of(checked(snapshot=nobody)).verdict == "no"
    assert of(replace(checked(unread=("speakers: forbidden",)), speakers={})).verdict == "unknown"
    with pytest.raises(Unavailable, match="no configuration is published in namespace lbspeaker-system"):
        sufficient(look(), "lbspeaker-system")


def test_who_may_be_dead_is_not_said_to_serve() -> None:
    """Without Leases: FIRST was killed, its Speaker object says what it was, and SECOND has taken over."""
    nobody = replace(snapshot(WEB), members=frozenset())
    said = (says(FIRST, OWNED, members=hears(*"abc")), says(SECOND, OWNED), says(THIRD))
    unread = ("leases: GET: forbidden; needed: list leases",)
    seen = look(*said, snapshot=nobody, unread=unread, documents=(Document("cluster", {}),))
    seen = sufficient(seen, "lbspeaker-system")
    found = of(seen)
    assert found.verdict == "unknown"
    assert found.diagnosis.endswith(f"which speakers live is not known ({unread[0]})")
    node = explain_node(of_cluster(seen, None, NOW, "lbspeaker-system"), FIRST)
    assert (node.verdict, node.steps[0].verdict) == ("unknown", "unknown")
    assert node.next_step == "get the right to list leases in namespace lbspeaker-system, and ask again"


def test_a_cluster_is_asked(tmp_path: Path) -> None:
    """On the API server in memory: what a controller and two speakers wrote, of three nodes."""
    documents = [*yaml.safe_load_all(CLUSTER), *yaml.safe_load_all(service("web"))]
    inside = yaml.safe_load(service("inside").partition("---")[0].replace("LoadBalancer", "ClusterIP"))
    del inside["spec"]["externalTrafficPolicy"]
    ours = [d for d in documents if d["apiVersion"].startswith("metallb.io")]
    others = [d for d in documents if d not in ours]
    others[-2]["status"] = {"loadBalancer": {"ingress": [{"ip": "192.0.2.44"}]}}
    second, first = rank(ip("192.0.2.44"), dict.fromkeys(("node-a", "node-b"), 0))[::-1]
    file = tmp_path / "cluster.yaml"
    file.write_text(yaml.safe_dump_all([*namespaces(), inside, *others, *written(ours, first, second)]))
    crds = ("--load", str(ROOT / "config" / "base" / "crds.yaml"))
    with apiserver_backends.memory(tmp_path, *crds) as api:
        empty = run("shop/web", "--kubeconfig", str(api.kubeconfig))
    assert (empty.returncode, empty.stdout) == (3, "")
    assert "no configuration is published in namespace lbspeaker-system; does the contr" in empty.stderr
    with apiserver_backends.memory(tmp_path, *crds, "--load", str(file)) as api:
        done = run("shop/web", "--kubeconfig", str(api.kubeconfig), "-o", "json")
        kind = run("shop/inside", "--kubeconfig", str(api.kubeconfig))
    assert done.returncode == 0, done.stdout + done.stderr
    lines = {step["step"]: step["lines"] for step in json.loads(done.stdout)["steps"]}
    assert lines["allocation"] == ["its status has 192.0.2.44", "it holds 192.0.2.44, from pool lan"]
    assert lines["candidates"] == [
        "node-a: candidate",
        "node-b: candidate",
        "node-c: no live speaker on node-c",
    ]
    assert lines["speakers"][0].startswith(f"{first}: owner for ")
    assert "sent; session up for" in lines["routes"][0]
    assert "its type is not LoadBalancer" in kind.stdout


POD = """
apiVersion: v1
kind: Pod
metadata: {name: web-1, namespace: shop, labels: {app: web}}
spec: {nodeName: node-a, containers: [{name: web, ports: [{containerPort: 8080, name: http}]}]}
status: {phase: Running, conditions: [{type: Ready, status: "True"}], podIPs: [{ip: 10.0.0.1}]}
"""


def wired(target: str) -> str:
    ports = f"selector: {{app: web}}, ports: [{{port: 80, targetPort: {target}}}]"
    return service("web").replace("ports: [{port: 80}]", ports)


@pytest.mark.parametrize(("target", "code"), [("http", 0), ("8080", 0), ("htpp", 1), ("9999", 3)])
def test_ports_that_lead_nowhere(target: str, code: int) -> None:
    done = run("shop/web", "-", text="\n---\n".join((CLUSTER, wired(target), POD)))
    assert done.returncode == code, done.stdout
    assert ("diagnosis: clients of shop/web are refused: port 80/TCP leads to" in done.stdout) is (code == 1)
    assert ("as far as can be seen: port 80/TCP leads to 9999" in done.stdout) is (code == 3)
    by_ip = run("--ip", "192.0.2.10", "-", text="\n---\n".join((CLUSTER, wired(target), POD)))
    assert by_ip.returncode == code


def test_ports_of_a_cluster_are_looked_at(tmp_path: Path) -> None:
    documents = [*yaml.safe_load_all(CLUSTER), *yaml.safe_load_all(wired("htpp")), yaml.safe_load(POD)]
    ours = [d for d in documents if d["apiVersion"].startswith("metallb.io")]
    others = [d for d in documents if d not in ours]
    others[-3]["status"] = {"loadBalancer": {"ingress": [{"ip": "192.0.2.44"}]}}
    first = rank(ip("192.0.2.44"), dict.fromkeys(("node-a", "node-b"), 0))[0]
    second = "node-a" if first == "node-b" else "node-b"
    file = tmp_path / "cluster.yaml"
    file.write_text(yaml.safe_dump_all([*namespaces(), *others, *written(ours, first, second)]))
    crds = ("--load", str(ROOT / "config" / "base" / "crds.yaml"))
    with apiserver_backends.memory(tmp_path, *crds, "--load", str(file)) as api:
        done = run("shop/web", "--kubeconfig", str(api.kubeconfig), "-o", "json")
    assert (done.returncode, done.stderr) == (1, "")
    found = json.loads(done.stdout)
    assert [step["step"] for step in found["steps"] if step["verdict"] == "no"] == ["ports"]
    assert found["nextStep"].startswith("did you mean http?")


def namespaces() -> list[dict[str, Any]]:
    names = ("shop", "lbspeaker-system")
    return [{"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}} for name in names]


def written(documents: list[Any], *nodes: str) -> list[dict[str, Any]]:
    """What is published, and for each node a Lease and what its speaker says; the first one owns."""
    now = datetime.now(UTC)
    renewed = now.isoformat(timespec="microseconds").replace("+00:00", "Z")
    peer = Peer("router", "192.0.2.1", 64512, "up", now.timestamp() - 60, 1, 1, 0, 0, "", "")
    published = {"documents": documents}
    found = [_object("lbspeaker.io/v1beta1", "EffectiveConfiguration", "lbspeaker", spec=published)]
    for node in nodes:
        owned = (OWNED,) if node == nodes[0] else ()
        said = says(node, *(structs.replace(one, ip="192.0.2.44") for one in owned), peers=(peer,))
        spec = {"holderIdentity": node, "leaseDurationSeconds": 3, "renewTime": renewed}
        found.append(_object("coordination.k8s.io/v1", "Lease", f"lbspeaker-{node}", spec=spec))
        found.append(
            _object("lbspeaker.io/v1beta1", "Speaker", node, status=speaker_object.body(said, time.time()))
        )
    return found


def _object(version: str, kind: str, name: str, **fields: Any) -> dict[str, Any]:
    return {
        "apiVersion": version,
        "kind": kind,
        "metadata": {"name": name, "namespace": "lbspeaker-system"},
        **fields,
    }
