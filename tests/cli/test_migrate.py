"""`lbspeaker migrate` as its users meet it."""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from lbspeaker.cli.migrate import as_json, as_yaml
from lbspeaker.config.crds import crds
from lbspeaker.config.documents import Document, from_object, read
from lbspeaker.config.migration import Migration, migrate
from lbspeaker.lab.apiserver import kubeconfig
from lbspeaker.observe import load
from tests.lab.apiserver_backends import Client, memory

OLD = """\
apiVersion: v1
kind: ConfigMap
metadata:
  namespace: metallb-system
  name: config
data:
  config: |
    peers:
    - peer-address: 10.0.0.1
      peer-asn: 64500
      my-asn: 64500
      password: s3cret
    address-pools:
    - name: default
      protocol: bgp
      addresses:
      - 198.51.100.0/24
      bgp-advertisements:
      - localpref: 100
        communities: [no-advertise]
    - name: lan
      protocol: layer2
      addresses: [192.0.2.0/28]
    bgp-communities:
      no-advertise: 65535:65282
"""
NEW = """\
# MetalLB's configuration as objects of lbspeaker, by `lbspeaker migrate` from standard input.
#
#   check it:   lbspeaker check FILE
#   apply it:   kubectl apply -f FILE       (once lbspeaker is installed)
#
# Both announcing the same IPs is a conflict: stop MetalLB before lbspeaker takes over.
# There are passwords in here: guard this file like one.
---
apiVersion: v1
kind: Secret
metadata:
  name: peer1-password
  namespace: lbspeaker-system
type: kubernetes.io/basic-auth
stringData:
  password: s3cret
---
apiVersion: lbspeaker.io/v1beta1
kind: IPAddressPool
metadata:
  name: default
  namespace: lbspeaker-system
spec:
  addresses:
    - 198.51.100.0/24
---
apiVersion: lbspeaker.io/v1beta1
kind: IPAddressPool
metadata:
  name: lan
  namespace: lbspeaker-system
spec:
  addresses:
    - 192.0.2.0/28
---
apiVersion: lbspeaker.io/v1beta1
kind: L2Advertisement
metadata:
  name: l2advertisement1
  namespace: lbspeaker-system
spec:
  ipAddressPools:
    - lan
---
apiVersion: lbspeaker.io/v1beta1
kind: BGPPeer
metadata:
  name: peer1
  namespace: lbspeaker-system
spec:
  myASN: 64500
  peerASN: 64500
  peerAddress: 10.0.0.1
  passwordSecret:
    name: peer1-password
---
apiVersion: lbspeaker.io/v1beta1
kind: Community
metadata:
  name: communities
  namespace: lbspeaker-system
spec:
  communities:
    - name: no-advertise
      value: 65535:65282
---
apiVersion: lbspeaker.io/v1beta1
kind: BGPAdvertisement
metadata:
  name: bgpadvertisement1
  namespace: lbspeaker-system
spec:
  ipAddressPools:
    - default
  localPref: 100
  communities:
    - no-advertise
"""
CONVERTED = (
    "converted: 1 Secret, 2 IPAddressPool, 1 L2Advertisement, 1 BGPPeer, 1 Community, 1 BGPAdvertisement\n"
)
PEER = """\
apiVersion: metallb.io/v1beta2
kind: BGPPeer
metadata: {name: tor, namespace: metallb-system}
spec: {myASN: 64500, peerASN: 64501, peerAddress: 10.0.0.1, passwordSecret: {name: tor-password}}
"""
DEPLOYMENT = "apiVersion: apps/v1\nkind: Deployment\nmetadata: {name: controller}\n"


def run(*arguments: str, cwd: Path, stdin: str = "", command: str = "migrate") -> tuple[int, str, str]:
    """Run the program; return its exit status, output and error output."""
    line = [sys.executable, "-m", "lbspeaker", command, *arguments]
    environment = {key: value for key, value in os.environ.items() if not key.startswith("KUBE")}
    done = subprocess.run(
        line,
        cwd=cwd,
        input=stdin.encode(),
        env=environment | {"HOME": str(cwd)},
        capture_output=True,
        timeout=60,
        check=False,
    )
    return done.returncode, done.stdout.decode(), done.stderr.decode()


def kinds(text: str) -> list[str]:
    return [f"{one['kind']}/{one['metadata']['name']}" for one in yaml.safe_load_all(text)]


# --- files -----------------------------------------------------------------------------------------------


def test_the_old_config_map_from_standard_input(tmp_path: Path) -> None:
    assert run("-", cwd=tmp_path, stdin=OLD) == (0, NEW, CONVERTED)


def test_the_output_is_valid_and_its_passwords_are_found(tmp_path: Path) -> None:
    (tmp_path / "new.yaml").write_text(NEW)
    status, output, _ = run("new.yaml", cwd=tmp_path, command="check")
    assert status == 0, output
    loaded = load([str(tmp_path / "new.yaml")])
    assert [peer.password for peer in loaded.config.peers] == ["s3cret"]
    assert len(loaded.config.pools) == 2


def test_as_json(tmp_path: Path) -> None:
    status, output, _ = run("-", "-o", "json", "--target-namespace", "lb", cwd=tmp_path, stdin=OLD)
    assert status == 0
    found = json.loads(output)
    assert (found["apiVersion"], found["kind"]) == ("v1", "List")
    assert {item["metadata"]["namespace"] for item in found["items"]} == {"lb"}
    ours = json.dumps({"apiVersion": "v1", "kind": "List", "items": found["items"][1:]})
    again = run("-", "-o", "json", "--target-namespace", "lb", cwd=tmp_path, stdin=ours)
    assert json.loads(again[1])["items"] == found["items"][1:], "what is ours stays as it is"


def test_held_it_says_nothing_yet(tmp_path: Path) -> None:
    selectors = (
        "nodeSelectors: [{matchLabels: {rack: one}}, {matchExpressions: [{key: k, operator: Exists}]}]"
    )
    peers = (
        PEER + "---\n" + PEER.replace("tor", "two").replace("passwordSecret", f"{selectors}, passwordSecret")
    )
    status, output, _ = run("-", "--hold", cwd=tmp_path, stdin=OLD + "---\n" + peers)
    assert status == 0
    found = {f"{one['kind']}/{one['metadata']['name']}": one for one in yaml.safe_load_all(output)}
    assert found["LinkPolicy/00-takeover"]["spec"] == {"dryRun": True, "dad": "off"}
    turn = {"lbspeaker.io/announcer": "lbspeaker"}
    for name in ("BGPPeer/peer1", "BGPPeer/tor"):
        assert found[name]["spec"]["nodeSelectors"] == [{"matchLabels": turn}]
    assert found["BGPPeer/two"]["spec"]["nodeSelectors"] == [
        {"matchLabels": {"rack": "one", **turn}},
        {"matchExpressions": [{"key": "k", "operator": "Exists"}], "matchLabels": turn},
    ]
    (tmp_path / "held.yaml").write_text(run("-", "--hold", cwd=tmp_path, stdin=OLD)[1])
    status, output, _ = run("held.yaml", cwd=tmp_path, command="check")
    assert status == 0, output
    assert "LinkPolicy" not in run("-", "--hold", cwd=tmp_path, stdin=PEER)[1], "nothing is on layer 2"


def test_the_med_that_frr_sends(tmp_path: Path) -> None:
    def advertisements(*more: str) -> list[Any]:
        objects = yaml.safe_load_all(run("-", *more, cwd=tmp_path, stdin=OLD)[1])
        return [one["spec"].get("med") for one in objects if one["kind"].endswith("Advertisement")]

    assert (advertisements(), advertisements("--med", "0")) == ([None, None], [None, 0])


def test_a_directory_with_all_sorts_of_things(tmp_path: Path) -> None:
    (tmp_path / "metallb").mkdir()
    (tmp_path / "metallb" / "peer.yaml").write_text(PEER + "---\n" + DEPLOYMENT + "---\n" + DEPLOYMENT)
    (tmp_path / "metallb" / "old.yaml").write_text(OLD)
    (tmp_path / "bare.yml").write_text(
        "address-pools: [{name: x, protocol: layer2, addresses: [10.9.0.0/24]}]\n"
    )
    status, output, errors = run("metallb", "bare.yml", cwd=tmp_path)
    assert status == 0
    assert kinds(output)[:3] == ["Secret/peer1-password", "IPAddressPool/default", "IPAddressPool/lan"]
    assert "BGPPeer/tor" in kinds(output)
    assert "from metallb, bare.yml.\n" in output
    assert "left out: 2 Deployment\n" in errors
    assert errors.endswith(
        "Secret metallb-system/tor-password is not read; copy it:\n"
        "    kubectl get secret tor-password -n metallb-system -o yaml"
        " | sed 's/^  namespace: .*/  namespace: lbspeaker-system/' | kubectl apply -f -\n"
    )


def test_what_is_wrong_is_told_beside_what_is_printed(tmp_path: Path) -> None:
    (tmp_path / "old.yaml").write_text(
        OLD.replace("192.0.2.0/28", "192.0.2.9-192.0.2.1").replace("name: d", "nmae: d")
    )
    status, output, errors = run("old.yaml", cwd=tmp_path)
    assert status == 1
    assert (
        "---\n# error: spec.addresses[0]: '192.0.2.9-192.0.2.1' ends before it starts\n#   write " in output
    )
    assert (
        "old.yaml:14: ConfigMap/config: address-pools[0].nmae: unknown key\n    hint: did you mean n"
        in errors
    )
    assert "old.yaml:23: IPAddressPool/lan: spec.addresses[0]: '192.0.2.9-192.0.2.1' ends before" in errors


@pytest.mark.parametrize(
    ("stdin", "errors"),
    [
        ("", "nothing to convert in standard input\n"),
        (DEPLOYMENT, "left out: 1 Deployment\nnothing to convert in standard input\n"),
        ("address-pools: []\n", "left out: 1 object without kind\nnothing to convert in standard input\n"),
        (
            "- a\n",
            "-:1: a document is a mapping with apiVersion, kind and metadata; this is a list\n"
            "    hint: separate documents with lines of ---\n",
        ),
    ],
)
def test_nothing_to_convert(tmp_path: Path, stdin: str, errors: str) -> None:
    assert run("-", cwd=tmp_path, stdin=stdin) == (1, "", errors)


@pytest.mark.parametrize(
    ("arguments", "status", "errors"),
    [
        ([], 2, "Error: give either files or --from-cluster\n"),
        (["-", "--from-cluster"], 2, "Error: give either files or --from-cluster\n"),
        (["-", "--context", "x"], 2, "Error: --kubeconfig and --context go with --from-cluster\n"),
        (["-", "--target-namespace", "a b"], 2, "'a b' is not the name of an object\n"),
        (["nowhere"], 3, "lbspeaker: nowhere: no such file or directory;"),
        (["--from-cluster"], 3, "give --kubeconfig FILE, or FILE... with what kubectl gets\n"),
    ],
)
def test_what_cannot_be_done(tmp_path: Path, arguments: list[str], status: int, errors: str) -> None:
    code, output, found = run(*arguments, cwd=tmp_path)
    assert (code, output) == (status, "")
    assert errors in found


def test_help_has_examples_and_exit_statuses(tmp_path: Path) -> None:
    status, output, _ = run("--help", cwd=tmp_path)
    assert status == 0
    assert "kubectl get cm -n metallb-system config -o yaml | lbspeaker migrate -\n" in output
    assert "Exit status: 0 all converted" in output


# --- what is printed means the same, whatever is in it ----------------------------------------------------

TEXTS = st.one_of(
    st.text(max_size=8),
    st.sampled_from(
        ["no", "Y", "1e3", "0o14", "0x1", "64512:31", "1_000", "~", "- a", "a: b", "# a", "2001-01-01"]
    ),
)
VALUES = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(-(2**63), 2**63 - 1), TEXTS),
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(TEXTS, inner, max_size=3)),
    max_leaves=8,
)


@settings(deadline=None, max_examples=200)
@given(st.dictionaries(st.sampled_from(["addresses", "autoAssign", "odd"]), VALUES), TEXTS)
def test_yaml_is_read_as_it_was_meant(spec: dict[str, Any], name: str) -> None:
    value = {
        "apiVersion": "metallb.io/v1beta1",
        "kind": "IPAddressPool",
        "metadata": {"name": name},
        "spec": spec,
    }
    done = migrate([from_object(value)], {}, "lb")
    text = as_yaml(done, "x", done.problems)
    documents, problems = read(text, "f")
    assert not problems
    assert [one.value for one in documents] == [one.value for one in done.objects]
    assert [one for one in yaml.safe_load_all(text) if one] == [one.value for one in done.objects]
    assert json.loads(as_json(done))["items"] == [one.value for one in done.objects]


def test_what_is_shared_is_written_out() -> None:
    shared = {"a": "b"}
    document = Document("f", {"kind": "X", "one": shared, "two": shared})
    assert as_yaml(Migration((document,), (), (), ()), "x", ()).endswith("one:\n  a: b\ntwo:\n  a: b\n")


# --- a cluster -------------------------------------------------------------------------------------------

KINDS = {
    "IPAddressPool": "ipaddresspools",
    "L2Advertisement": "l2advertisements",
    "BGPPeer": "bgppeers",
    "BGPAdvertisement": "bgpadvertisements",
    "Community": "communities",
}
OBJECTS = {
    "IPAddressPool": {"addresses": ["192.0.2.0/28"], "autoAssign": True},
    "L2Advertisement": {"ipAddressPools": ["one"]},
    "BGPPeer": {
        "myASN": 64500,
        "peerASN": 64501,
        "peerAddress": "10.0.0.1",
        "passwordSecret": {"name": "s"},
    },
}
SYSTEM = "/api/v1/namespaces/metallb-system"


def definition(kind: str, plural: str, version: str) -> dict[str, Any]:
    """A CRD as small as it can be."""
    schema = {"openAPIV3Schema": {"type": "object", "x-kubernetes-preserve-unknown-fields": True}}
    return {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": f"{plural}.metallb.io"},
        "spec": {
            "group": "metallb.io",
            "scope": "Namespaced",
            "names": {"kind": kind, "plural": plural, "singular": kind.lower(), "listKind": f"{kind}List"},
            "versions": [{"name": version, "served": True, "storage": True, "schema": schema}],
        },
    }


def install(api: Client, peers: str = "v1beta2") -> None:
    """Make it a cluster with MetalLB's kinds."""
    for kind, plural in KINDS.items():
        version = peers if kind == "BGPPeer" else "v1beta1"
        crd = definition(kind, plural, version)
        api.good("POST", "/apis/apiextensions.k8s.io/v1/customresourcedefinitions", crd)
        path = f"/apis/metallb.io/{version}/namespaces/metallb-system/{plural}"
        if kind in OBJECTS:
            body = {
                "apiVersion": f"metallb.io/{version}",
                "kind": kind,
                "metadata": {"name": "one"},
                "spec": OBJECTS[kind],
            }
            api.good("POST", path, body)


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[Client]:
    with memory(tmp_path) as client:
        client.good("POST", "/api/v1/namespaces", {"metadata": {"name": "metallb-system"}})
        yield client


def from_cluster(cluster: Client, tmp_path: Path, *more: str) -> tuple[int, str, str]:
    return run("--from-cluster", "--kubeconfig", str(cluster.kubeconfig), *more, cwd=tmp_path)


def test_a_cluster_without_metallb(cluster: Client, tmp_path: Path) -> None:
    status, output, errors = from_cluster(cluster, tmp_path)
    assert (status, output) == (1, "")
    assert errors.startswith(
        f"nothing to convert in {cluster.url}: ConfigMap metallb-system/config (not installed: "
    )
    assert "bgppeers" in errors


def test_a_cluster_with_the_old_config_map(cluster: Client, tmp_path: Path) -> None:
    cluster.good("POST", f"{SYSTEM}/configmaps", yaml.safe_load(OLD))
    status, output, errors = from_cluster(cluster, tmp_path)
    assert (status, errors) == (0, CONVERTED)
    assert output.partition("---")[2] == NEW.partition("---")[2], "but for where it comes from"
    assert cluster.url in output
    assert from_cluster(cluster, tmp_path, "--configmap", "other")[0] == 1


def test_a_cluster_that_does_not_answer(tmp_path: Path) -> None:
    (tmp_path / "kubeconfig").write_text(kubeconfig("http://127.0.0.1:1"))
    status, output, errors = run("--from-cluster", "--kubeconfig", "kubeconfig", cwd=tmp_path)
    assert (status, output) == (3, "")
    assert errors.startswith(
        "lbspeaker: GET http://127.0.0.1:1/apis/metallb.io/v1beta1/namespaces/metallb-system/"
    )


@pytest.mark.parametrize("version", ["v1beta2", "v1beta1"])
def test_a_cluster_with_objects(cluster: Client, tmp_path: Path, version: str) -> None:
    install(cluster, version)
    cluster.good("POST", f"{SYSTEM}/configmaps", yaml.safe_load(OLD))
    status, output, errors = from_cluster(cluster, tmp_path)
    assert status == 0, errors
    found = list(yaml.safe_load_all(output))
    assert {one["kind"]: one["spec"] for one in found} == OBJECTS
    assert {json.dumps(one["metadata"]) for one in found} == {
        '{"name": "one", "namespace": "lbspeaker-system"}'
    }
    assert errors.startswith(
        "ConfigMap metallb-system/config is left out: MetalLB reads the objects instead\n"
    )
    assert "Secret metallb-system/s is not read; copy it:\n" in errors
    assert from_cluster(cluster, tmp_path, "--namespace", "default")[0] == 1


@pytest.mark.skipif(shutil.which("kubectl") is None, reason="kubectl is not installed")
def test_kubectl_gets_and_applies(cluster: Client, tmp_path: Path) -> None:
    def kubectl(*arguments: str, stdin: str = "") -> str:
        options = [f"--kubeconfig={cluster.kubeconfig}", f"--cache-dir={tmp_path / 'cache'}"]
        line = ["kubectl", *options, *arguments]
        done = subprocess.run(line, input=stdin, capture_output=True, text=True, timeout=60, check=False)
        assert done.returncode == 0, done.stderr
        return done.stdout

    cluster.good("POST", "/api/v1/namespaces", {"metadata": {"name": "lbspeaker-system"}})
    kubectl("apply", "-f", "-", stdin=json.dumps({"apiVersion": "v1", "kind": "List", "items": crds()}))
    kubectl("apply", "-f", "-", stdin=OLD)
    got = kubectl("get", "cm", "-n", "metallb-system", "config", "-o", "yaml")
    status, output, errors = run("-", cwd=tmp_path, stdin=got)
    assert (status, output, errors) == (0, NEW, CONVERTED)
    assert kubectl("apply", "-f", "-", stdin=output).count(" created\n") == 7
    peers = json.loads(kubectl("get", "bgppeers.lbspeaker.io", "-n", "lbspeaker-system", "-o", "json"))[
        "items"
    ]
    assert [peer["spec"]["passwordSecret"]["name"] for peer in peers] == ["peer1-password"]
    _, listed, _ = run("-", "-o", "json", cwd=tmp_path, stdin=OLD)
    assert kubectl("apply", "-f", "-", stdin=listed).count(" created\n") == 0
    copied = PEER.replace("tor-password", "peer1-password").replace(
        "namespace: metallb-system", "namespace: lbspeaker-system"
    )
    _, _, errors = run("-", "--target-namespace", "default", cwd=tmp_path, stdin=copied)
    copy = errors.splitlines()[-1].replace("kubectl", f"kubectl --kubeconfig={cluster.kubeconfig}")
    subprocess.run(["bash", "-ec", copy], check=True, capture_output=True, timeout=60)
    assert (
        kubectl("get", "secret", "peer1-password", "-n", "default", "-o", "jsonpath={.data.password}")
        == "czNjcmV0"
    )
