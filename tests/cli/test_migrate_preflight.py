"""`lbspeaker migrate --preflight`: what it finds in clusters with MetalLB, and which commands it prints."""

import asyncio
import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from lbspeaker.config.crds import crds
from lbspeaker.lab.apiserver import ApiServer, kubeconfig
from tests.cli.test_migrate import definition

Json = dict[str, Any]
KINDS = {
    "IPAddressPool": "ipaddresspools",
    "L2Advertisement": "l2advertisements",
    "BGPPeer": "bgppeers",
    "BGPAdvertisement": "bgpadvertisements",
    "ServiceL2Status": "servicel2statuses",
    "ServiceBGPStatus": "servicebgpstatuses",
}
CLUSTER = """
{apiVersion: v1, kind: Node, metadata: {name: a}}
---
{apiVersion: v1, kind: Node, metadata: {name: b}}
---
apiVersion: v1
kind: Service
metadata: {name: web, namespace: default}
spec: {type: LoadBalancer, clusterIP: 10.96.0.7, ports: [{port: 80}]}
status: {loadBalancer: {ingress: [{ip: 192.0.2.60}]}}
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {name: web-1, namespace: default, labels: {kubernetes.io/service-name: web}}
addressType: IPv4
endpoints: [{addresses: [10.244.1.10], nodeName: a, conditions: {ready: true}}]
---
apiVersion: apps/v1
kind: Deployment
metadata:
  name: lb-metallb-controller
  namespace: metallb-system
  annotations: {meta.helm.sh/release-name: lb}
spec: {replicas: 1, template: {spec: {containers: [{name: c, image: "quay.io/metallb/controller:v0.15.2"}]}}}
---
apiVersion: apps/v1
kind: DaemonSet
metadata: {name: lb-metallb-speaker, namespace: metallb-system}
spec:
  template:
    spec:
      containers:
      - {name: s, image: "quay.io/metallb/speaker:v0.15.2", env: [{name: METALLB_BGP_TYPE, value: MODE}]}
---
apiVersion: metallb.io/v1beta1
kind: IPAddressPool
metadata: {name: lan}
spec: {addresses: [192.0.2.0/24]}
---
{apiVersion: metallb.io/v1beta1, kind: L2Advertisement, metadata: {name: lan}, spec: {}}
---
{apiVersion: metallb.io/v1beta1, kind: BGPAdvertisement, metadata: {name: lan}, spec: {}}
---
apiVersion: metallb.io/v1beta2
kind: BGPPeer
metadata: {name: tor}
spec: {myASN: 64513, peerASN: 64512, peerAddress: 198.51.100.1, passwordSecret: {name: tor}}
---
apiVersion: metallb.io/v1beta1
kind: ServiceL2Status
metadata: {name: l2-x}
status: {serviceName: web, serviceNamespace: default, node: OWNER}
---
apiVersion: metallb.io/v1beta1
kind: ServiceBGPStatus
metadata: {name: bgp-a}
status: {serviceName: web, serviceNamespace: default, node: a, peers: [tor]}
---
apiVersion: metallb.io/v1beta1
kind: ServiceBGPStatus
metadata: {name: bgp-b}
status: {serviceName: web, serviceNamespace: default, node: b, peers: [tor]}
"""
OURS = """
{apiVersion: v1, kind: Namespace, metadata: {name: lbspeaker-system}}
---
apiVersion: apps/v1
kind: Deployment
metadata: {name: controller, namespace: lbspeaker-system}
spec: {replicas: 2, template: {spec: {containers: [{name: c, image: registry.example/lbspeaker:0.1.0}]}}}
---
apiVersion: apps/v1
kind: DaemonSet
metadata: {name: speaker, namespace: lbspeaker-system}
spec: {template: {spec: {containers: [{name: s, image: registry.example/lbspeaker:0.1.0}]}}}
---
apiVersion: lbspeaker.io/v1beta1
kind: BGPPeer
metadata: {name: tor, namespace: lbspeaker-system}
spec: {myASN: 64513, peerASN: 64512, peerAddress: 198.51.100.1}
"""


def documents(**words: str) -> list[Json]:
    """The cluster, with these words of it replaced."""
    text = CLUSTER
    for old, new in {"MODE": "frr", "OWNER": "b", **words}.items():
        text = text.replace(old, new)
    definitions = []
    for kind, plural in KINDS.items():
        crd = definition(kind, plural, "v1beta2" if kind == "BGPPeer" else "v1beta1")
        definitions.append(crd)
    found = list(yaml.safe_load_all(text))
    for one in found:
        if one["apiVersion"].startswith("metallb.io/"):
            one["metadata"]["namespace"] = "metallb-system"
    return [
        {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "metallb-system"}},
        *definitions,
        *found,
    ]


def preflight(
    tmp_path: Path, objects: list[Json], *more: str, spoil: Callable[[ApiServer], None] = lambda _: None
) -> subprocess.CompletedProcess[str]:
    async def story() -> subprocess.CompletedProcess[str]:
        server = ApiServer()
        server.load(objects)
        await server.start()
        spoil(server)
        path = tmp_path / "kubeconfig"
        path.write_text(kubeconfig(server.url))
        line = [sys.executable, "-m", "lbspeaker", "migrate", "--preflight", "--kubeconfig", str(path), *more]
        ask = lambda: subprocess.run(line, capture_output=True, text=True, timeout=60, check=False)  # noqa: E731
        try:
            return await asyncio.to_thread(ask)
        finally:
            await server.stop()

    return asyncio.run(story())


def found(done: subprocess.CompletedProcess[str], *grades: str) -> list[tuple[str, str, str]]:
    findings = json.loads(done.stdout)["findings"]
    return [(one["code"], one["subject"], one["what"]) for one in findings if one["grade"] in grades]


def commands(done: subprocess.CompletedProcess[str]) -> list[str]:
    return [line for step in json.loads(done.stdout)["next"] for line in step["run"]]


def test_a_cluster_as_it_is(tmp_path: Path) -> None:
    done = preflight(tmp_path, documents())
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("well: 11 PASS\n")
    for line in (
        "lb-metallb-controller: runs quay.io/metallb/controller:v0.15.2, of the Helm release lb\n",
        "PASS    metallb: BGP: mode frr\n",
        "PASS    ips: 1 Service: keeps its IP\n",
        "PASS    owners: layer 2: 1 of 1 IP stay on their nodes\n",
        "PASS    routes: routes: 2 announcements (Service, node, peer) would stay\n",
        "\n# 3. MetalLB's controller gives no IPs any more\n"
        "kubectl -n metallb-system scale deployment lb-metallb-controller --replicas=0\n",
        " --med 0 --hold | kubectl apply -f -\n",
        "kubectl get secret tor -n metallb-system -o yaml | ",
        "kubectl -n metallb-system patch daemonset lb-metallb-speaker --type=merge -p ",
        "kubectl label node b lbspeaker.io/announcer=lbspeaker --overwrite\n",
    ):
        assert line in done.stdout, done.stdout


EXCLUDED = "name: b, labels: {node.kubernetes.io/exclude-from-external-load-balancers: ''}}"
CHANGES = (
    ({"192.0.2.0/24": "192.0.2.0/27"}, "FAIL", "ips: default/web: 192.0.2.60 becomes 192.0.2.0"),
    ({"OWNER": "a"}, "WARN", "owners: 192.0.2.60: moves from a to b"),
    ({"b, peers: [tor]": "b, peers: [x]"}, "FAIL", "routes: default/web: b tells x of it, and would no more"),
    (
        {"b, peers: [tor]": "b, peers: []"},
        "WARN",
        "routes: default/web: b would tell tor of it, and does not now",
    ),
    (
        {"peerASN: 64512": "peerASN: 64513", "MODE": "native"},
        "WARN",
        "attributes: tor: LOCAL_PREF 0 becomes 100: native mode sends what is unset as 0",
    ),
    ({"name: b}": EXCLUDED}, "WARN", "one-path: a: it alone announces 192.0.2.60/32"),
)


@pytest.mark.parametrize(("words", "grade", "finding"), CHANGES)
def test_what_would_change(tmp_path: Path, words: dict[str, str], grade: str, finding: str) -> None:
    done = preflight(tmp_path, documents(**words), "-o", "json")
    assert finding in [": ".join(one) for one in found(done, grade)], done.stdout
    assert done.returncode == (1 if found(done, "FAIL") else 0)


def test_what_is_refused(tmp_path: Path) -> None:
    done = preflight(tmp_path, documents(**{"passwordSecret: {name: tor}": "vrf: red"}), "-o", "json")
    assert done.returncode == 1
    assert [one[:2] for one in found(done, "FAIL")].count(("configuration", "BGPPeer/tor")) == 1
    assert ("routes", "default/web", "a tells tor of it, and would no more") in found(done, "FAIL")


def test_both_run_and_get_in_each_others_way(tmp_path: Path) -> None:
    objects = [*documents(), *crds(), *yaml.safe_load_all(OURS)]
    done = preflight(tmp_path, objects, "-o", "json")
    assert done.returncode == 1
    assert {one[:2] for one in found(done, "FAIL")} == {
        ("both", "Deployment metallb-system/lb-metallb-controller"),
        ("both", "tor"),
    }
    assert not [line for line in commands(done) if "crds.yaml" in line or "apply -k" in line], "done already"


CLASSED = {"name: c, image": 'name: c, args: ["--lb-class=metallb"], image'}


def test_ours_serve_the_class_that_metallb_serves(tmp_path: Path) -> None:
    done = preflight(tmp_path, documents(**CLASSED), "-o", "json")
    what = "MetalLB serves Services of the loadBalancerClass metallb"
    assert ("metallb", "Deployment metallb-system/lb-metallb-controller", what) in found(done, "WARN")
    given = [line for line in commands(done) if "--lb-class=metallb" in line]
    assert [line.split()[4:6] for line in given] == [["deployment", "controller"], ["daemonset", "speaker"]]

    ours = [*crds(), *yaml.safe_load_all(OURS.partition("---\napiVersion: lbspeaker.io")[0])]
    done = preflight(tmp_path, [*documents(**CLASSED), *ours], "-o", "json")
    assert done.returncode == 1
    assert len([line for line in commands(done) if "--lb-class=metallb" in line]) == 2
    lacking = [
        subject for code, subject, what in found(done, "FAIL") if "without a loadBalancerClass" in what
    ]
    assert lacking == ["Deployment lbspeaker-system/controller", "DaemonSet lbspeaker-system/speaker"]
    text = yaml.safe_dump_all(ours).replace(
        "image: registry", "args: [--lb-class, metallb]\n        image: registry"
    )
    done = preflight(tmp_path, [*documents(**CLASSED), *yaml.safe_load_all(text)], "-o", "json")
    assert not [what for _, _, what in found(done, "FAIL") if "loadBalancerClass" in what]
    assert not [line for line in commands(done) if "--lb-class" in line]


def test_a_mirror_may_call_its_images_anything(tmp_path: Path) -> None:
    mirrored = {"quay.io/metallb/": "registry.example/lb/"}
    done = preflight(tmp_path, documents(**mirrored), "-o", "json")
    assert done.returncode == 3
    assert [one[2] for one in found(done, "UNKNOWN")] == [
        "MetalLB's controller is not found",
        "MetalLB's speaker is not found",
    ]
    named = "name: lb-metallb-speaker"
    labelled = {named: f"labels: {{app: metallb, component: speaker}}, {named}"}
    done = preflight(tmp_path, documents(**mirrored, **labelled), "-o", "json")
    assert ("metallb", "BGP", "mode frr") in found(done, "PASS")
    assert [one[2] for one in found(done, "UNKNOWN")] == ["MetalLB's controller is not found"]
    done = preflight(tmp_path, documents(MODE="frr-k8s"), "-o", "json")
    assert (done.returncode, found(done, "UNKNOWN")[0][2]) == (3, "MetalLB's frr-k8s is not found")


def test_what_is_ours_already_is_not_applied_again_with_bfd_neither(tmp_path: Path) -> None:
    theirs = {"apiVersion": "metallb.io/v1beta1", "kind": "BFDProfile"}
    crd = definition("BFDProfile", "bfdprofiles", "v1beta1")
    profile = {**theirs, "metadata": {"name": "fast", "namespace": "metallb-system"}, "spec": {}}
    kinds = {
        "IPAddressPool": "lan",
        "L2Advertisement": "lan",
        "BGPAdvertisement": "lan",
        "BFDProfile": "fast",
    }
    ours = [
        {
            "apiVersion": "lbspeaker.io/v1beta1",
            "kind": kind,
            "metadata": {"name": name, "namespace": "lbspeaker-system"},
            "spec": {"addresses": ["192.0.2.0/24"]} if kind == "IPAddressPool" else {},
        }
        for kind, name in kinds.items()
    ]
    objects = [*documents(), crd, profile, *crds(), *yaml.safe_load_all(OURS), *ours]
    done = preflight(tmp_path, objects, "-o", "json")
    assert not [line for line in commands(done) if "--hold" in line], done.stdout


def test_kube_proxy_without_strict_arp(tmp_path: Path) -> None:
    proxy = {
        "apiVersion": "kubeproxy.config.k8s.io/v1alpha1",
        "kind": "KubeProxyConfiguration",
        "mode": "ipvs",
    }
    metadata = {"name": "kube-proxy", "namespace": "kube-system"}
    data = {"config.conf": yaml.safe_dump(proxy)}
    space = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "kube-system"}}
    objects = [
        *documents(),
        space,
        {"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata, "data": data},
    ]
    done = preflight(tmp_path, objects, "-o", "json")
    assert [one[0] for one in found(done, "FAIL")] == ["kube-proxy"]


def test_what_may_not_be_read_is_said_and_the_rest_is_looked_at(tmp_path: Path) -> None:
    done = preflight(
        tmp_path, documents(), "-o", "json", spoil=lambda api: api.fail(9, 403, path="/daemonsets")
    )
    assert done.returncode == 3, "who owns what now is not known"
    assert found(done, "UNKNOWN") == [("unread", "DaemonSets", "not looked at")]
    assert ("ips", "1 Service", "keeps its IP") in found(done, "PASS")

    done = preflight(
        tmp_path, documents(), "-o", "json", spoil=lambda api: api.fail(9, 403, path="/services")
    )
    assert done.returncode == 3, "without Services nothing can be told"
    assert (found(done, "UNKNOWN"), commands(done)) == ([("unread", "services", "not looked at")], [])


def test_it_goes_with_a_cluster_only(tmp_path: Path) -> None:
    line = [sys.executable, "-m", "lbspeaker", "migrate", "--preflight"]
    environment = {key: value for key, value in os.environ.items() if not key.startswith("KUBE")}
    for more, status in (["metallb.yaml"], 2), (["--hold"], 2), (["-o", "yaml"], 2), ([], 3):
        done = subprocess.run(
            [*line, *more],
            cwd=tmp_path,
            env=environment | {"HOME": str(tmp_path)},
            capture_output=True,
            check=False,
        )
        assert done.returncode == status, done.stderr
