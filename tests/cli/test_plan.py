"""`lbspeaker plan`: what the system would decide for documents on disk."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import yaml
from click.testing import CliRunner

from lbspeaker.cli.plan import plan
from lbspeaker.ledger import NAME
from tests.lab.upstream import eventually

CLUSTER = """
apiVersion: v1
kind: Node
metadata: {name: node-a}
---
apiVersion: v1
kind: Node
metadata: {name: node-b}
---
apiVersion: v1
kind: Node
metadata: {name: node-c}
---
apiVersion: metallb.io/v1beta1
kind: IPAddressPool
metadata: {name: lan, namespace: metallb-system}
spec: {addresses: [192.0.2.10-192.0.2.60]}
---
apiVersion: metallb.io/v1beta1
kind: L2Advertisement
metadata: {name: lan, namespace: metallb-system}
---
apiVersion: metallb.io/v1beta2
kind: BGPPeer
metadata: {name: router, namespace: metallb-system}
spec: {myASN: 64513, peerASN: 64512, peerAddress: 192.0.2.1}
---
apiVersion: metallb.io/v1beta1
kind: BGPAdvertisement
metadata: {name: bgp, namespace: metallb-system}
spec: {communities: ["64512:31"]}
"""
SERVICE = """
apiVersion: v1
kind: Service
metadata: {name: %(name)s, namespace: shop, annotations: {%(annotations)s}}
spec: {type: LoadBalancer, ports: [{port: 80}], externalTrafficPolicy: %(policy)s}
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {name: %(name)s-x, namespace: shop, labels: {kubernetes.io/service-name: %(name)s}}
addressType: IPv4
endpoints: [{addresses: [10.0.0.1], nodeName: node-a, conditions: {ready: true}}]
"""


def service(name: str, annotations: str = "", policy: str = "Cluster") -> str:
    return SERVICE % {"name": name, "annotations": annotations, "policy": policy}


def run(*arguments: str, text: str | None = None) -> subprocess.CompletedProcess[str]:
    argv = [sys.executable, "-m", "lbspeaker", "plan", *arguments]
    return subprocess.run(argv, input=text, capture_output=True, text=True, timeout=60, check=False)


def planned(*documents: str) -> Any:
    done = run("-", "-o", "json", text="\n---\n".join(documents))
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_the_form_of_the_json() -> None:
    found = planned(CLUSTER, service("web", policy="Local"))
    assert found == {
        "allocations": [{"service": "shop/web", "ips": ["192.0.2.10"], "pool": "lan"}],
        "changes": [],
        "refusals": [],
        "notes": [],
        "layer2": [
            {
                "ip": "192.0.2.10",
                "services": ["shop/web"],
                "owner": "node-a",
                "candidates": ["node-a"],
                "interfaces": [],
            }
        ],
        "bgp": [
            {
                "node": "node-a",
                "peer": "router",
                "prefix": "192.0.2.10/32",
                "services": ["shop/web"],
                "localPref": None,
                "med": None,
                "asPathPrepend": 0,
                "communities": ["64512:31"],
            }
        ],
        "unannounced": [
            {
                "service": "shop/web",
                "ip": "192.0.2.10",
                "protocol": "bgp",
                "node": node,
                "reason": "NoLocalEndpoint",
                "message": "externalTrafficPolicy is Local, and shop/web has no serving endpoint on " + node,
            }
            for node in ("node-b", "node-c")
        ],
        "pools": [
            {
                "name": "lan",
                "size": {"ipv4": 51, "ipv6": 0},
                "used": {"ipv4": 1, "ipv6": 0},
                "pending": 0,
            }
        ],
    }


def test_every_service_gets_an_allocation_or_a_refusal_with_its_reason() -> None:
    wish = "lbspeaker.io/loadBalancerIPs: %s"
    found = planned(
        CLUSTER,
        service("a"),
        service("outside", wish % "198.51.100.1"),
        service("taken", wish % "192.0.2.33"),
        service("first", wish % "192.0.2.33"),
        service("family", wish % "'2001:db8::1'"),
        service("nonsense", wish % "banana"),
        service("pool", "metallb.universe.tf/address-pool: wan"),
    )
    refused = {row["service"]: row["reason"] for row in found["refusals"]}
    assert refused == {
        "shop/outside": "OutsidePools",
        "shop/taken": "InUse",
        "shop/family": "WrongFamily",
        "shop/nonsense": "InvalidRequest",
        "shop/pool": "UnknownPool",
    }
    assert {row["service"] for row in found["allocations"]} == {"shop/a", "shop/first"}
    assert all(row["message"] for row in found["refusals"])


def test_a_service_of_another_class_is_refused_unless_somebody_serves_it() -> None:
    foreign = service("web").replace("type: LoadBalancer", "type: LoadBalancer, loadBalancerClass: x")
    assert [row["reason"] for row in planned(CLUSTER, foreign)["refusals"]] == ["ClassMismatch"]
    status = "status: {loadBalancer: {ingress: [{ip: 192.0.2.44}]}}"
    served = foreign.replace("spec: {type", f"{status}\nspec: {{type")
    assert planned(CLUSTER, served)["refusals"] == []


def test_who_holds_an_ip_in_its_status_keeps_it() -> None:
    holds = service("web").replace(
        "spec: {type", "status: {loadBalancer: {ingress: [{ip: 192.0.2.44}]}}\nspec: {type"
    )
    assert planned(CLUSTER, holds, service("aaa"))["allocations"] == [
        {"service": "shop/aaa", "ips": ["192.0.2.10"], "pool": "lan"},
        {"service": "shop/web", "ips": ["192.0.2.44"], "pool": "lan"},
    ]


def test_who_waits_for_what_another_leaves_gets_it_and_who_gets_half_is_told() -> None:
    status = "status: {loadBalancer: {ingress: [{ip: 192.0.2.44}]}}"
    wish = "lbspeaker.io/loadBalancerIPs: %s"
    leaves = service("aaa", wish % "192.0.2.50").replace("spec: {type", f"{status}\nspec: {{type")
    waits = service("a00", wish % "192.0.2.44")
    assert planned(CLUSTER, leaves, waits)["allocations"] == [
        {"service": "shop/a00", "ips": ["192.0.2.44"], "pool": "lan"},
        {"service": "shop/aaa", "ips": ["192.0.2.50"], "pool": "lan"},
    ]
    both = "type: LoadBalancer, ipFamilyPolicy: PreferDualStack"
    half = service("half").replace("type: LoadBalancer", both)
    found = planned(CLUSTER, half)
    assert found["refusals"] == []
    assert [(row["service"], row["reason"]) for row in found["notes"]] == [("shop/half", "NoPoolForFamily")]


def test_table_and_yaml_say_the_same() -> None:
    documents = "\n---\n".join((CLUSTER, service("web"), service("lost", "lbspeaker.io/address-pool: wan")))
    as_json = json.loads(run("-", "-o", "json", text=documents).stdout)
    assert yaml.safe_load(run("-", "-o", "yaml", text=documents).stdout) == as_json
    table = run("-", text=documents).stdout
    assert "shop/web" in table
    assert "1 of 51" in table
    assert "shop/lost gets no IP: UnknownPool: pool wan is requested, but it does not exist" in table


def test_what_a_speaker_without_an_api_server_has_allocated_stays(tmp_path: Path) -> None:
    """Its ledger is a real one; then the pool grows at its low end."""
    documents = tmp_path / "all.yaml"
    documents.write_text("\n---\n".join((CLUSTER, service("web"))))
    argv = [sys.executable, "-m", "lbspeaker", "controller", "--config", str(tmp_path)]
    controller = subprocess.Popen(argv, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    ledger = tmp_path / NAME
    try:
        eventually(ledger.exists, True)
    finally:
        controller.terminate()
        controller.wait(10)
    documents.write_text(documents.read_text().replace("192.0.2.10-", "192.0.2.1-"))
    held = [{"service": "shop/web", "ips": ["192.0.2.10"], "pool": "lan"}]
    kept = ledger.read_bytes()
    found = json.loads(run(str(tmp_path), "-o", "json").stdout)
    assert (found["allocations"], found["changes"]) == (held, [])
    assert {row["prefix"] for row in found["bgp"]} == {"192.0.2.10/32"}
    assert ledger.read_bytes() == kept
    assert planned(documents.read_text())["allocations"][0]["ips"] == ["192.0.2.1"], "no directory, no ledger"
    ledger.write_text("{")
    broken = run(str(tmp_path))
    assert broken.returncode == 3
    assert f"{ledger}: it cannot be read" in broken.stderr and "made anew" in broken.stderr


def test_documents_with_a_problem_are_not_planned() -> None:
    done = run("-", text=CLUSTER.replace("192.0.2.10-192.0.2.60", "192.0.2.60-192.0.2.10"))
    assert done.returncode == 1
    assert done.stdout == ""
    assert "ends before it starts" in done.stderr
    assert "hint: write 192.0.2.10-192.0.2.60" in done.stderr


def test_what_cannot_be_read_is_told_in_one_line() -> None:
    done = run("/nowhere")
    assert done.returncode == 3
    assert done.stderr.startswith("lbspeaker: /nowhere: no such file or directory")
    endless = run("/dev/zero")
    assert endless.returncode == 3
    assert "is larger than 64 MiB" in endless.stderr


def test_help_has_an_example() -> None:
    assert "lbspeaker plan examples/layer2" in run("--help").stdout


def test_it_says_whose_ip_would_change(tmp_path: Path) -> None:
    text = """\
apiVersion: lbspeaker.io/v1beta1
kind: IPAddressPool
metadata: {name: lan}
spec: {addresses: [192.0.2.0/28]}
---
apiVersion: v1
kind: Service
metadata: {name: out}
spec: {type: LoadBalancer, ports: [{port: 80}]}
status: {loadBalancer: {ingress: [{ip: 203.0.113.5}]}}
---
apiVersion: v1
kind: Service
metadata: {name: stays}
spec: {type: LoadBalancer, ports: [{port: 80}]}
status: {loadBalancer: {ingress: [{ip: 192.0.2.7}]}}
"""
    (tmp_path / "all.yaml").write_text(text)
    found = json.loads(CliRunner().invoke(plan, [str(tmp_path), "-o", "json"]).stdout)
    assert found["changes"] == [{"service": "default/out", "now": ["203.0.113.5"], "then": ["192.0.2.0"]}]
    shown = CliRunner().invoke(plan, [str(tmp_path)]).stdout
    assert "default/out changes its IP: 203.0.113.5 becomes 192.0.2.0" in shown
