"""`lbspeaker upstream`: what it prints, what it asks, and how it ends."""

import json
import shlex
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from lbspeaker.ledger import NAME
from tests.lab import apiserver_backends
from tests.lab.upstream import POOLS, lbspeaker
from tests.opnsense import KEY, SECRET, pages, serving

ROOT = Path(__file__).parent.parent.parent
EXAMPLE = ROOT / "examples" / "opnsense"
GOOD = {"OPNSENSE_KEY": KEY, "OPNSENSE_SECRET": SECRET}


def run(*words: str, text: str | None = None, **environment: str) -> subprocess.CompletedProcess[str]:
    if text is None:
        return lbspeaker("upstream", *words, **environment)
    argv = [sys.executable, "-m", "lbspeaker", "upstream", *words]
    return subprocess.run(argv, input=text, capture_output=True, text=True, timeout=60, check=False)


# --- config ---------------------------------------------------------------------------------------------


def test_the_example_says_what_the_command_prints() -> None:
    """examples/opnsense/README.md has the output, as it is: `python -m tests.cli.test_upstream` writes it."""
    assert (EXAMPLE / "README.md").read_text() == readme()


def readme() -> str:
    done = run("config", "--for", "opnsense", "examples/opnsense")
    assert done.returncode == 0, done.stderr
    return README % done.stdout


README = """\
# OPNsense as the router

`pools.yaml` is what one applies; `cluster.yaml` and `service.yaml` stand for a cluster, so that this works
without one:

```console
$ lbspeaker upstream config --for opnsense examples/opnsense
```

prints what OPNsense must have: steps for its pages, and the same as calls of its API. It is from the
documentation and the source of its plugin os-frr, and was not run on an OPNsense. When it is there:

```console
$ lbspeaker upstream check --opnsense https://192.0.2.1 --key-file apikey.txt
```

asks OPNsense what it has. The user of the key needs the privilege *Routing*; with *System: Deny config
write*, too, it can only look.

```sh
%s```
"""


def test_documents_from_standard_input_and_the_form_of_the_json() -> None:
    nodes = (EXAMPLE / "cluster.yaml").read_text()
    done = run("config", "--for", "frr", "-", "-o", "json", text=POOLS % "" + "---\n" + nodes)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert found["for"] == "frr"
    assert found["configuration"].startswith("! For BGPPeer router")
    up = found["upstream"]
    assert up["neighbors"][0] == {"node": "node-a", "address": "192.0.2.201"}
    assert up["prefixes"][0] == {"list": "LBS-router-V4-routed", "network": "203.0.113.0/24", "length": 32}
    assert (up["asn"], up["nodesASN"], up["paths"], up["holdTimeSeconds"]) == (64512, 64513, 8, 9)
    steps = json.loads(run("config", "--for", "opnsense", "-o", "json", str(EXAMPLE)).stdout)
    assert steps["steps"][0] == {"page": "Routing: General", "fields": [{"field": "Enable", "value": "✓"}]}
    assert steps["calls"][0]["path"] == "/api/quagga/general/set"


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (["config", str(EXAMPLE)], 2, "Missing option '--for'"),
        (["config", "--for", "quagga", str(EXAMPLE)], 2, "'quagga' is not one of"),
        (["config", "--for", "frr", "/nowhere"], 3, "/nowhere: no such file or directory"),
        (
            ["config", "--for", "frr", "--peer", "x", str(EXAMPLE)],
            3,
            "there is no BGPPeer x; there is: opnsense",
        ),
        (["config", "--for", "frr", str(ROOT / "examples/layer2")], 3, "there is no BGPPeer in the config"),
        (["config", "--for", "frr", str(EXAMPLE / "pools.yaml")], 3, "there is no Node in these documents"),
        (["config", "--for", "frr", "--kubeconfig", "x", str(EXAMPLE)], 2, "give either PATH or"),
        (["check", str(EXAMPLE)], 2, "give one of --frr, --bird and --opnsense"),
        (["check", "--frr", "a", "--bird", "b", str(EXAMPLE)], 2, "give one of --frr, --bird and --opnsense"),
        (["check", "--frr", "a", "--insecure", str(EXAMPLE)], 2, "go with --opnsense"),
        (["check", "--frr", "/nowhere/vtysh", str(EXAMPLE)], 3, "/nowhere/vtysh cannot be run"),
        (["check", "--bird", "echo hello", str(EXAMPLE)], 3, "is not BIRD's: 'hello show protocols all'"),
        (["check", "--frr", "echo", str(EXAMPLE)], 3, "is not JSON: '-c show bgp summary json'"),
        (["check", "--opnsense", "ftp://x", str(EXAMPLE)], 3, "is not the URL of a router"),
        (["check", "--opnsense", "http://127.0.0.1:1", str(EXAMPLE)], 3, "for everybody to read"),
        (["check", "--opnsense", "https://127.0.0.1:1", str(EXAMPLE)], 3, "no answer: Connection refused"),
    ],
)
def test_what_cannot_be_done_is_told_in_one_line(words: list[str], code: int, said: str) -> None:
    done = run(*words, **GOOD)
    assert done.returncode == code, done.stderr
    assert said in done.stderr
    assert done.stdout == ""
    assert "Traceback" not in done.stderr and SECRET not in done.stderr


def test_wrong_documents_are_not_printed_as_a_configuration() -> None:
    done = run("config", "--for", "frr", "-", text=POOLS % ", port: x")
    assert done.returncode == 1
    assert "BGPPeer/router" in done.stderr


def test_of_several_peers_one_must_be_named() -> None:
    nodes = (EXAMPLE / "cluster.yaml").read_text()
    second = POOLS % "" + "---" + (POOLS % "").split("---")[-1].replace("name: router", "name: other")
    text = second.replace("192.0.2.1,", "192.0.2.254,") + "---\n" + nodes
    done = run("config", "--for", "frr", "-", text=text)
    assert done.returncode == 2
    assert "choose one with --peer: other, router" in done.stderr
    assert "For BGPPeer other" in run("config", "--for", "frr", "--peer", "other", "-", text=text).stdout


@pytest.mark.parametrize("words", [["--help"], ["config", "--help"], ["check", "--help"]])
def test_help(words: list[str]) -> None:
    done = run(*words)
    assert done.returncode == 0
    if words != ["--help"]:
        assert "Example" in done.stdout and "Exit status" in " ".join(done.stdout.split())


# --- from the cluster -----------------------------------------------------------------------------------


def test_without_files_the_cluster_is_asked_what_is_in_force_there(tmp_path: Path) -> None:
    """More Nodes than fit on one page; what counts is what the controller has published."""
    published = list(yaml.safe_load_all(POOLS % ", password: s3cret"))
    effective = {
        "apiVersion": "lbspeaker.io/v1beta1",
        "kind": "EffectiveConfiguration",
        "metadata": {"name": "lbspeaker", "namespace": "lbspeaker-system"},
        "spec": {"documents": published},
    }
    nodes = [
        {
            "apiVersion": "v1",
            "kind": "Node",
            "metadata": {"name": f"n{n}"},
            "status": {"addresses": [{"type": "InternalIP", "address": f"10.0.{n // 250}.{n % 250 + 1}"}]},
        }
        for n in range(501)
    ]
    namespace = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "lbspeaker-system"}}
    file = tmp_path / "cluster.json"
    file.write_text(json.dumps({"apiVersion": "v1", "kind": "List", "items": [namespace, effective, *nodes]}))
    crds = ("--load", str(ROOT / "config" / "base" / "crds.yaml"))
    with apiserver_backends.memory(tmp_path, *crds) as api:
        empty = run("config", "--for", "frr", "--kubeconfig", str(api.kubeconfig))
    assert empty.returncode == 3
    assert "no configuration is published in namespace lbspeaker-system" in empty.stderr
    with apiserver_backends.memory(tmp_path, *crds, "--load", str(file)) as api:
        done = run("config", "--for", "frr", "--kubeconfig", str(api.kubeconfig), "-o", "json")
    assert done.returncode == 0, done.stderr
    assert "s3cret" not in done.stdout + done.stderr
    up = json.loads(done.stdout)["upstream"]
    assert (len(up["neighbors"]), up["paths"], up["asn"]) == (501, 501, 64512)


def test_a_cluster_that_cannot_be_reached(tmp_path: Path) -> None:
    done = run("config", "--for", "frr", "--kubeconfig", str(tmp_path / "none"))
    assert done.returncode == 3
    assert "name files with its objects" in done.stderr


# --- check: a vtysh that says what is in a file ----------------------------------------------------------

UP = {"state": "Established"}


def neighbor(**fields: Any) -> dict[str, Any]:
    extensions = {name: {"advertisedAndReceived": True} for name in ("ipv4Unicast", "ipv6Unicast")}
    family = {"acceptedPrefixCounter": 1, "inboundPathPolicyConfig": True}
    return {
        "remoteAs": 64513,
        "localAs": 64512,
        "bgpState": "Established",
        "authenticationEnabled": 1,
        "neighborCapabilities": {"multiprotocolExtensions": extensions},
        "addressFamilyInfo": {"ipv4Unicast": family, "ipv6Unicast": family},
        **fields,
    }


def answers(**changed: Any) -> dict[str, Any]:
    """What FRR says where all is well with the example: web on node-a and node-b."""
    hops = ["192.0.2.201", "192.0.2.202"]
    path = {"valid": True, "origin": "IGP", "path": "64513", "network": "203.0.113.1/32"}
    routes = [
        {**path, "peerId": hop, "nexthops": [{"ip": hop}], "bestpath": hop == hops[0], "multipath": True}
        for hop in hops
    ]
    route = {"prefix": "203.0.113.1/32", "protocol": "bgp", "installed": True}
    installed = {**route, "nexthops": [{"ip": hop, "fib": True} for hop in hops]}
    peers = {f"192.0.2.20{i}": neighbor() for i in (1, 2, 3)}
    return {
        "summary": {"ipv4Unicast": {"as": 64512, "peers": dict.fromkeys(peers, UP)}},
        "neighbors": peers,
        "bgp ipv4": {"routerId": "192.0.2.1", "localAS": 64512, "routes": {"203.0.113.1/32": routes}},
        "ip route": {"203.0.113.1/32": [installed]},
        **changed,
    }


@pytest.fixture
def vtysh(tmp_path: Path) -> Callable[..., str]:
    """A program that answers as FRR would, and the command that runs it."""

    def make(**changed: Any) -> str:
        said = tmp_path / "said.json"
        said.write_text(json.dumps(answers(**changed)))
        code = (
            "import json, sys\n"
            f"said = json.load(open({str(said)!r}))\n"
            "print(json.dumps(next((v for k, v in said.items() if f'show {k} ' in sys.argv[2] + ' '"
            " or f' {k} ' in sys.argv[2] and k in ('summary', 'neighbors')), {})))\n"
        )
        program = tmp_path / "vtysh.py"
        program.write_text(code)
        return shlex.join([sys.executable, str(program)])

    return make


def test_a_router_that_is_well(vtysh: Callable[..., str]) -> None:
    done = run("check", "--frr", vtysh(), str(EXAMPLE))
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.startswith("router of BGPPeer opnsense (192.0.2.1, FRR, AS 64512): well\n")
    assert "203.0.113.1/32   node-a, node-b   2 of 2     2 of 2   2 of 2" in done.stdout


def test_what_a_speaker_without_an_api_server_has_allocated_is_looked_for(
    vtysh: Callable[..., str], tmp_path: Path
) -> None:
    shutil.copytree(EXAMPLE, tmp_path, dirs_exist_ok=True)
    pools = tmp_path / "pools.yaml"
    pools.write_text(pools.read_text().replace("203.0.113.0/24", "203.0.112.0/22"))
    done = run("check", "--frr", vtysh(), str(tmp_path))
    assert (done.returncode, "not-there: 203.0.112." in done.stdout) == (1, True), done.stdout
    (tmp_path / NAME).write_text(json.dumps({"default/web": {"ips": ["203.0.113.1"], "pool": "routed"}}))
    done = run("check", "--frr", vtysh(), str(tmp_path))
    assert (done.returncode, "unexplained" in done.stdout) == (0, False), done.stdout


def test_findings_with_cause_and_remedy_as_text_and_as_json(vtysh: Callable[..., str]) -> None:
    peers = answers()["neighbors"] | {"192.0.2.203": neighbor(bgpState="Active", remoteAs=1)}
    command = vtysh(neighbors=peers)
    done = run("check", "--frr", command, str(EXAMPLE))
    assert done.returncode == 1
    assert (
        "error wrong-as: node-c (192.0.2.203)\n  the router expects AS 1, and the nodes are AS 64513"
        in done.stdout
    )
    assert "\n  → give the neighbour remote AS 64513" in done.stdout
    found = json.loads(run("check", "--frr", command, "-o", "json", str(EXAMPLE)).stdout)
    assert found["router"] == {"software": "FRR", "asn": 64512}
    assert [(f["code"], f["severity"]) for f in found["findings"]] == [("wrong-as", "error")]
    assert found["routes"] == [
        {
            "prefix": "203.0.113.1/32",
            "expected": ["node-a", "node-b"],
            "received": ["node-a", "node-b"],
            "nextHops": ["192.0.2.201", "192.0.2.202"],
            "installed": ["192.0.2.201", "192.0.2.202"],
        }
    ]
    assert found["sessions"][2]["state"] == "Active"


def test_what_a_router_says_cannot_write_to_the_terminal(vtysh: Callable[..., str]) -> None:
    peers = answers()["neighbors"] | {
        "192.0.2.203": neighbor(bgpState="Active\x1b[31m", lastNotificationReason="BFD\x1b]0;x\x07\n[bold]y")
    }
    done = run("check", "--frr", vtysh(neighbors=peers), str(EXAMPLE))
    assert done.returncode == 1
    assert "\x1b" not in done.stdout and "\x07" not in done.stdout


def test_a_slow_router_is_not_waited_for(tmp_path: Path) -> None:
    slow = tmp_path / "vtysh"
    slow.write_text("#!/bin/sh\nsleep 60\n")
    slow.chmod(0o755)
    done = run("check", "--frr", str(slow), "--timeout", "0.5", str(EXAMPLE))
    assert done.returncode == 3
    assert "gave no answer within 0.5 s; does it ask for a password?" in done.stderr


# --- check: OPNsense ------------------------------------------------------------------------------------


@pytest.fixture
def opnsense() -> Iterator[tuple[str, list[str]]]:
    said = answers()
    with serving(pages(lambda command: said.get(_key(command), {}), [])) as served:
        yield served


def _key(command: str) -> str:
    words = command.split()
    return words[2] if words[2] in ("summary", "neighbors") else " ".join(words[1:3])


def test_an_opnsense_that_is_well(opnsense: tuple[str, list[str]]) -> None:
    url, asked = opnsense
    done = run("check", "--opnsense", url, "--insecure", str(EXAMPLE), **GOOD)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "OPNsense, AS 64512): well" in done.stdout
    assert all(path.startswith("/api/quagga/") for path in asked)
    assert not any("set" in path or "get" in path for path in asked), "nothing is changed, no secret is read"


def test_keys_that_are_wrong_missing_or_in_a_file(opnsense: tuple[str, list[str]], tmp_path: Path) -> None:
    url, _ = opnsense
    options = ["check", "--opnsense", url, "--insecure", str(EXAMPLE)]
    wrong = run(*options, OPNSENSE_KEY=KEY, OPNSENSE_SECRET="wr0ng")
    assert wrong.returncode == 3
    assert "401: the key is refused" in wrong.stderr and "wr0ng" not in wrong.stderr
    lacking = run(*options, OPNSENSE_KEY="", OPNSENSE_SECRET="")
    assert lacking.returncode == 3 and "set OPNSENSE_KEY and OPNSENSE_SECRET" in lacking.stderr
    file = tmp_path / "apikey.txt"
    file.write_text(f"key={KEY}\r\nsecret={SECRET}\r\n")
    assert run(*options, "--key-file", str(file)).returncode == 0
    file.write_text("nothing")
    assert "has no lines key=" in run(*options, "--key-file", str(file)).stderr


def test_an_opnsense_without_the_plugin_and_one_that_says_nonsense() -> None:
    with serving({}) as (url, _):
        done = run("check", "--opnsense", url, "--insecure", str(EXAMPLE), **GOOD)
    assert done.returncode == 3 and "install its plugin os-frr" in done.stderr
    nonsense = dict.fromkeys(pages(lambda _: {}, []), lambda: b"<html>login</html>")
    with serving(nonsense) as (url, _):
        done = run("check", "--opnsense", url, "--insecure", str(EXAMPLE), **GOOD)
    assert done.returncode == 3 and "is not JSON: '<html>login</html>'" in done.stderr


def test_its_certificate_is_verified_unless_that_is_turned_off(tmp_path: Path) -> None:
    certificate, key = tmp_path / "cert.pem", tmp_path / "key.pem"
    made = [
        "openssl",
        "req",
        "-x509",
        "-newkey",
        "rsa:2048",
        "-nodes",
        "-days",
        "2",
        "-subj",
        "/CN=127.0.0.1",
    ]
    made += ["-addext", "subjectAltName=IP:127.0.0.1", "-keyout", str(key), "-out", str(certificate)]
    try:
        subprocess.run(made, check=True, capture_output=True, timeout=60)
    except FileNotFoundError:
        pytest.skip("openssl is not installed")
    said = answers()
    with serving(pages(lambda c: said.get(_key(c), {}), []), (certificate, key)) as (url, asked):
        options = ["check", "--opnsense", url, str(EXAMPLE)]
        done = run(*options, **GOOD)
        assert done.returncode == 3 and "its certificate is not believed" in done.stderr
        assert asked == [], "no key was sent"
        assert run(*options, "--ca", str(certificate), **GOOD).returncode == 0
        assert run(*options, "--insecure", **GOOD).returncode == 0


if __name__ == "__main__":
    (EXAMPLE / "README.md").write_text(readme())
