"""The lab as a whole: it comes up, delivers, is disturbed and healed, and leaves nothing behind."""

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from click.testing import CliRunner

from lbspeaker.cli.lab import lab as command
from lbspeaker.errors import Unable, Unavailable
from lbspeaker.lab import access, namespaces, rootless
from lbspeaker.lab.lab import Lab, directory_of, remove
from lbspeaker.lab.processes import Process

needs_namespaces = pytest.mark.skipif(bool(rootless.obstacle()), reason=rootless.obstacle())

RUN = f"t{os.getpid()}"
IPV4, IPV6 = "192.0.2.10", "2001:db8::10"


def eventually(question: Callable[[], Any], expected: Any, within_s: float = 15.0) -> Any:
    deadline = time.monotonic() + within_s
    while (answer := question()) != expected:
        assert time.monotonic() < deadline, f"{answer!r} is not {expected!r} after {within_s} s"
        time.sleep(0.02)
    return answer


def ask(lab: Lab, method: str, path: str, body: Any = None, kind: str = "application/json") -> Any:
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(lab.api() + path, data, {"Content-Type": kind}, method=method)  # noqa: S310
    with urllib.request.urlopen(request, timeout=5) as response:  # noqa: S310
        return json.load(response)


def create_service(lab: Lab, name: str = "web", **spec: Any) -> None:
    """A Service on port 80 that somebody gave its service IPs."""
    defaults = {
        "type": "LoadBalancer",
        "selector": {"app": "web"},
        "ports": [{"port": 80, "targetPort": 8080}],
        "ipFamilyPolicy": "RequireDualStack",
    }
    manifest = {"apiVersion": "v1", "kind": "Service", "metadata": {"name": name}, "spec": defaults | spec}
    ask(lab, "POST", "/api/v1/namespaces/default/services", manifest)
    status = {"status": {"loadBalancer": {"ingress": [{"ip": IPV4}, {"ip": IPV6}]}}}
    path = f"/api/v1/namespaces/default/services/{name}/status"
    ask(lab, "PATCH", path, status, "application/merge-patch+json")


def delete(lab: Lab, path: str) -> None:
    with contextlib.suppress(urllib.error.HTTPError):
        ask(lab, "DELETE", path)


def send_to(lab: Lab, node: str) -> None:
    """Let the client believe that the service IPs are at this node."""
    mac = next(n.mac.hex(":") for n in lab.nodes if n.name == node)
    lines = [f"neighbour replace {ip} lladdr {mac} dev eth0 nud permanent" for ip in (IPV4, IPV6)]
    namespaces.configure(lab.topology.namespace("client"), lines)


def curl(lab: Lab, ip: str = IPV4, **options: Any) -> str:
    try:
        return lab.curl(ip, **options).partition(" ")[0]
    except Unavailable as error:
        return "refused" if "refused" in str(error) or "reset" in str(error) else "silence"


@pytest.fixture(scope="module")
def lab() -> Iterator[Lab]:
    """Two nodes without our programs: the stand-ins alone."""
    if reason := rootless.obstacle():
        pytest.skip(reason)
    with Lab.up(RUN, 2, programs=False) as it:
        yield it


@pytest.fixture
def web(lab: Lab) -> Iterator[Lab]:
    create_service(lab)
    yield lab
    delete(lab, "/api/v1/namespaces/default/services/web")
    eventually(lambda: endpoints(lab), {})
    if len(pod_names(lab)) < 2:
        times = lab.log("cluster").count("ready")
        lab.restart("cluster")  # it registers all pods again
        eventually(lambda: lab.log("cluster").count("ready"), times + 1)


def pod_names(lab: Lab) -> list[str]:
    return [pod["metadata"]["name"] for pod in ask(lab, "GET", "/api/v1/namespaces/default/pods")["items"]]


def endpoints(lab: Lab) -> dict[str, list[str]]:
    listed = ask(lab, "GET", "/apis/discovery.k8s.io/v1/namespaces/default/endpointslices")["items"]
    return {found["metadata"]["name"]: [e["nodeName"] for e in found["endpoints"] or []] for found in listed}


@pytest.mark.lab
def test_nodes_and_pods_are_registered(lab: Lab) -> None:
    nodes = ask(lab, "GET", "/api/v1/nodes")["items"]
    addresses = {node["metadata"]["name"]: node["status"]["addresses"][0]["address"] for node in nodes}
    assert addresses == {"node-a": "192.0.2.201", "node-b": "192.0.2.202"}
    assert sorted(pod_names(lab)) == ["web-node-a", "web-node-b"]
    named = {c["metadata"]["name"] for c in crds(lab)}
    assert "ipaddresspools.lbspeaker.io" in named


def crds(lab: Lab) -> list[Any]:
    found: list[Any] = ask(lab, "GET", "/apis/apiextensions.k8s.io/v1/customresourcedefinitions")["items"]
    return found


@pytest.mark.lab
def test_a_client_that_knows_the_way_reaches_the_pod_of_each_node(web: Lab) -> None:
    for ip in (IPV4, IPV6):
        for node in ("node-a", "node-b"):
            send_to(web, node)
            eventually(lambda ip=ip: curl(web, ip), f"web-{node}")
    assert web.curl("10.244.2.10", "node-a", port=8080) == "web-node-b 10.244.2.10", "pod to pod"


@pytest.mark.lab
def test_other_ports_are_refused_and_the_node_asks_nobody(web: Lab) -> None:
    send_to(web, "node-a")
    eventually(lambda: curl(web), "web-node-a")
    began = time.time()
    for ip in (IPV4, IPV6):
        assert curl(web, ip, port=81) == "refused"
    assert [f for f in web.switch.frames("node-a", since=began) if f.target in (IPV4, IPV6)] == []


@pytest.mark.lab
def test_when_a_pod_goes_its_node_borrows_one_unless_the_policy_is_local(web: Lab) -> None:
    eventually(lambda: endpoints(web), {"web-lab": ["node-a", "node-b"], "web-lab-v6": ["node-a", "node-b"]})
    ask(web, "DELETE", "/api/v1/namespaces/default/pods/web-node-b")
    eventually(lambda: endpoints(web), {"web-lab": ["node-a"], "web-lab-v6": ["node-a"]})
    send_to(web, "node-b")
    eventually(lambda: curl(web), "web-node-a")
    eventually(lambda: curl(web, IPV6), "web-node-a")

    local = {"spec": {"externalTrafficPolicy": "Local"}}
    path = "/api/v1/namespaces/default/services/web"
    ask(web, "PATCH", path, local, "application/merge-patch+json")
    eventually(lambda: curl(web), "refused")
    send_to(web, "node-a")
    assert curl(web) == "web-node-a"


@pytest.mark.lab
def test_slices_go_with_their_service(web: Lab) -> None:
    eventually(lambda: sorted(endpoints(web)), ["web-lab", "web-lab-v6"])
    ask(web, "DELETE", "/api/v1/namespaces/default/services/web")
    eventually(lambda: endpoints(web), {})
    send_to(web, "node-a")
    eventually(lambda: curl(web, timeout_s=0.2), "silence")


@pytest.mark.lab
def test_rules_follow_a_change_within_a_moment(web: Lab) -> None:
    send_to(web, "node-a")
    eventually(lambda: curl(web), "web-node-a")
    more = {
        "spec": {
            "ports": [
                {"port": 80, "targetPort": 8080, "name": "a"},
                {"port": 82, "targetPort": 8080, "name": "b"},
            ]
        }
    }
    ask(web, "PATCH", "/api/v1/namespaces/default/services/web", more, "application/merge-patch+json")
    began = time.monotonic()
    eventually(lambda: curl(web, port=82), "web-node-a")
    assert time.monotonic() - began < 2.0, "a tenth of a second on an idle machine"


@pytest.mark.lab
def test_a_cut_node_is_silent_until_it_is_healed(lab: Lab) -> None:
    def reaches(ip: str, member: str) -> str:
        return curl(lab, ip, member=member, port=9, timeout_s=0.3)  # nobody listens: refused means reached

    node = lab.nodes[1]
    for how in ({}, {"silent": True}, {"segment_only": True}):
        lab.cut(node.name, **how)
        assert reaches(str(node.ipv4), "client") == "silence", how
        heard = "refused" if "segment_only" in how else "silence"
        assert reaches(str(node.control), "control") == heard, how
        assert lab.switch.ports_down() == ([] if "silent" in how else [node.name])
        lab.heal(node.name)
        eventually(lambda: reaches(str(node.ipv4), "client"), "refused")
        eventually(lambda: reaches(str(node.control), "control"), "refused")


@pytest.mark.lab
def test_processes_are_stopped_started_and_found_again(lab: Lab) -> None:
    found = Lab.find(RUN)
    assert found.processes.keys() == lab.processes.keys()
    assert found.processes["backend-node-a"].running
    found.signal("backend-node-a", signal.SIGKILL)
    eventually(lambda: lab.processes["backend-node-a"].running, False)
    with pytest.raises(Unavailable, match="backend-node-a is not running"):
        lab.signal("backend-node-a", signal.SIGTERM)
    lab.start("backend-node-a")
    eventually(lambda: curl(lab, "10.244.1.10", member="node-a"), "web-node-a")
    with pytest.raises(Unable, match=r"no process 'bogus'.*it has .*cluster"):
        lab.start("bogus")


@pytest.mark.lab
def test_a_second_lab_of_the_same_name_is_refused(lab: Lab) -> None:
    with pytest.raises(Unable, match=rf"here already.*lab down --name {RUN}"):
        Lab.up(RUN, 1)
    assert lab.processes["cluster"].running, "and the first is not touched"


# --- with our programs ----------------------------------------------------------------------------------

POOL = [
    {
        "apiVersion": "lbspeaker.io/v1beta1",
        "kind": "IPAddressPool",
        "metadata": {"name": "lan", "namespace": "lbspeaker-system"},
        "spec": {"addresses": ["192.0.2.10-192.0.2.20"]},
    },
    {
        "apiVersion": "lbspeaker.io/v1beta1",
        "kind": "L2Advertisement",
        "metadata": {"name": "lan", "namespace": "lbspeaker-system"},
        "spec": {"ipAddressPools": ["lan"]},
    },
]
PLURAL = {"IPAddressPool": "ipaddresspools", "L2Advertisement": "l2advertisements"}


@pytest.mark.lab
@needs_namespaces
def test_a_service_is_reached_over_arp(tmp_path: Path) -> None:
    with Lab.up(f"{RUN}p", 2, "exabgp") as it:
        assert it.members() == {"node-a", "node-b"}
        for document in POOL:
            path = f"/apis/lbspeaker.io/v1beta1/namespaces/lbspeaker-system/{PLURAL[document['kind']]}"
            ask(it, "POST", path, document)
        spec = {
            "type": "LoadBalancer",
            "selector": {"app": "web"},
            "ports": [{"port": 80, "targetPort": 8080}],
        }
        manifest = {"apiVersion": "v1", "kind": "Service", "metadata": {"name": "web"}, "spec": spec}
        ask(it, "POST", "/api/v1/namespaces/default/services", manifest)
        first = eventually(lambda: curl(it, timeout_s=1.0)[:4], "web-")
        assert first
        ports = eventually(lambda: len({f.port for f in it.switch.frames() if f.sender == IPV4}), 1)
        assert ports == 1, "one node says that it has the IP"
    assert namespaces.existing(it.topology.prefix) == []
    assert not it.directory.exists()
    assert not any(process.running for process in it.processes.values())


@pytest.mark.lab
@needs_namespaces
def test_an_api_server_that_exists_is_used(tmp_path: Path) -> None:
    kubeconfig = tmp_path / "kubeconfig"
    argv = [sys.executable, "-m", "lbspeaker.lab.apiserver", "--kubeconfig", str(kubeconfig)]
    server = subprocess.Popen(argv, stdout=subprocess.PIPE)
    try:
        assert server.stdout
        with server.stdout:
            server.stdout.readline()
        with Lab.up(f"{RUN}k", 1, "exabgp", kubeconfig=kubeconfig) as it:
            assert it.kubeconfig == kubeconfig
            assert "apiserver" not in it.processes
            assert it.members() == {"node-a"}
            assert [node["metadata"]["name"] for node in ask(it, "GET", "/api/v1/nodes")["items"]] == [
                "node-a"
            ]
            assert "bgppeers.lbspeaker.io" in {c["metadata"]["name"] for c in crds(it)}
    finally:
        server.terminate()
        server.wait(10)


# --- what is left behind: nothing -----------------------------------------------------------------------


@pytest.mark.lab
@needs_namespaces
def test_a_lab_whose_owner_was_killed_is_removed_by_name() -> None:
    name = f"{RUN}x"
    script = (
        "import time; from lbspeaker.lab.lab import Lab; tell = lambda line: print(line, flush=True);"
        f"Lab.up({name!r}, 1, 'exabgp', programs=False, tell=tell); time.sleep(60)"
    )
    owner = subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True)
    try:
        assert owner.stdout
        with owner.stdout:
            for line in owner.stdout:
                if line.startswith("router"):  # half of it is there
                    break
        owner.kill()
        owner.wait()
        left = Lab.find(name).processes.values()
        assert any(process.running for process in left)
        result = CliRunner().invoke(command, ["down", "--name", name])
        assert (result.exit_code, result.output) == (0, f"lab {name} is gone\n")
        assert not any(process.running for process in left)
        assert namespaces.existing(f"lbs-{name}-") == []
        assert not directory_of(name).exists()
        result = CliRunner().invoke(command, ["down", "--name", name])
        assert (result.exit_code, result.output) == (0, f"there is no lab {name}\n")
    finally:
        owner.kill()
        remove(name)


@pytest.mark.lab
@needs_namespaces
def test_a_lab_that_cannot_come_up_leaves_nothing(tmp_path: Path) -> None:
    missing = tmp_path / "kubeconfig"
    with pytest.raises(Unable, match="No such file"):
        Lab.up(f"{RUN}f", 1, "exabgp", kubeconfig=missing)
    assert namespaces.existing(f"lbs-{RUN}f-") == []
    assert not directory_of(f"{RUN}f").exists()


def test_a_process_is_not_mistaken_for_another_with_its_id(tmp_path: Path) -> None:
    process = Process("sleeper", ["sleep", "60"], str(tmp_path / "log"))
    process.start()
    try:
        assert process.running
        stranger = Process("stranger", [], "", pid=process.pid, started="1")
        assert not stranger.running
        stranger.stop(0.0)
        assert process.running, "a stranger's process is left alone"
    finally:
        process.stop(0.0)
    assert not process.running


# --- the command line -----------------------------------------------------------------------------------


@pytest.mark.lab
@needs_namespaces
def test_the_commands_up_status_exec_down() -> None:
    name = f"{RUN}c"

    def lbspeaker(*arguments: str) -> subprocess.CompletedProcess[str]:
        line = [sys.executable, "-m", "lbspeaker", "lab", *arguments]
        return subprocess.run(line, capture_output=True, text=True, timeout=60, check=False)

    try:
        up = lbspeaker("up", "--name", name, "--nodes", "2", "--router", "exabgp")
        assert up.returncode == 0, up.stderr
        assert f"export KUBECONFIG={directory_of(name)}/kubeconfig" in up.stdout
        assert f"lbspeaker lab exec --name {name} client curl" in up.stdout

        status = lbspeaker("status", "--name", name, "-o", "json")
        facts = json.loads(status.stdout)
        assert [node["name"] for node in facts["nodes"]] == ["node-a", "node-b"]
        assert all(process["running"] for process in facts["processes"])
        assert (facts["router"], facts["portsDown"]) == ("exabgp", [])
        table = lbspeaker("status", "--name", name).stdout
        assert "speaker-node-b" in table

        inside = lbspeaker("exec", "--name", name, "node-b", "ip", "-br", "address", "show", "eth0")
        assert "192.0.2.202/24" in inside.stdout
        assert lbspeaker("exec", "--name", name, "client", "false").returncode == 1
        nobody = lbspeaker("exec", "--name", name, "nobody", "true")
        assert (nobody.returncode, "node-b, remote, router" in nobody.stderr) == (2, True)

        again = lbspeaker("up", "--name", name)
        assert (again.returncode, f"lbspeaker lab down --name {name}" in again.stderr) == (3, True)
    finally:
        down = lbspeaker("down", "--name", name)
    assert (down.returncode, down.stdout) == (0, f"lab {name} is gone\n")
    gone = lbspeaker("status", "--name", name)
    assert (gone.returncode, "lbspeaker lab up makes one" in gone.stderr) == (3, True)


# A mount namespace in which somebody unprivileged can read the Python of this test, wherever it lives.
AS_NOBODY = """
set -e
for path in {paths}; do
  private=$(echo "$path" | cut -d/ -f1-2)
  mkdir -p {scratch}/hold; mount --bind "$path" {scratch}/hold
  mount -t tmpfs hidden "$private"; chmod 755 "$private"
  mkdir -p "$path"; mount --move {scratch}/hold "$path"
done
exec setpriv --reuid=65534 --regid=65534 --clear-groups "$@"
"""


@pytest.mark.lab
@pytest.mark.skipif(os.geteuid() != 0, reason="it plays somebody who is not root, which only root can")
@needs_namespaces
def test_somebody_unprivileged_has_a_lab_in_the_foreground(tmp_path: Path) -> None:
    name, runtime = f"{RUN}r", Path(f"/tmp/{RUN}-nobody")
    python = Path(sys.executable).resolve().parents[1]
    closed = [place for place in python.parents if not place.stat().st_mode & 0o001]
    private = (
        [str(python)] if closed else []
    )  # an interpreter in somebody's home is moved to where all can go
    script = AS_NOBODY.format(paths=" ".join(private), scratch=tmp_path)
    environment = os.environ | {"XDG_RUNTIME_DIR": str(runtime), "HOME": "/"}
    base = ["unshare", "--mount", "bash", "-c", script, "bash", sys.executable, "-m", "lbspeaker", "lab"]

    def lbspeaker(*arguments: str) -> subprocess.CompletedProcess[str]:
        argv = [*base, *arguments, "--name", name]
        return subprocess.run(argv, capture_output=True, text=True, env=environment, timeout=60, check=False)

    runtime.mkdir()
    os.chown(runtime, 65534, 65534)
    try:
        up = subprocess.Popen(
            [*base, "up", "--nodes", "1", "--name", name],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            env=environment,
            text=True,
        )
        assert up.stdout
        with up.stdout:
            said = ""
            for text in up.stdout:
                said += text
                if "Ctrl-C" in text:
                    break
            if "neither" in said:
                pytest.skip(f"this machine has no user namespaces for others: {said}")
            assert "Ctrl-C removes it" in said, said
            kubeconfig = next(line for line in said.splitlines() if "KUBECONFIG=" in line).partition("=")[2]
            server = yaml.safe_load(Path(kubeconfig).read_text())["clusters"][0]["cluster"]["server"]
            with urllib.request.urlopen(f"{server}/api/v1/nodes", timeout=5) as answer:  # noqa: S310
                nodes = json.load(answer)["items"]
            assert [node["metadata"]["name"] for node in nodes] == ["node-a"], "from outside of the lab"
            facts = json.loads(lbspeaker("status", "-o", "json").stdout)
            assert all(process["running"] for process in facts["processes"])
            assert facts["router"] != "frr", "which cannot run there"
            assert namespaces.existing(f"lbs-{name}-") == [], "the machine itself has no trace of it"
            down = lbspeaker("down")
            assert (down.returncode, down.stdout) == (0, f"lab {name} is gone\n"), down.stderr
        assert up.wait(10) == 0
        assert list((runtime / "lbspeaker").iterdir()) == []
    finally:
        up.kill()
        subprocess.run(["rm", "-rf", str(runtime)], check=True)


# --- kubeconfigs ----------------------------------------------------------------------------------------

REAL = """
apiVersion: v1
kind: Config
current-context: prod
clusters:
- name: other
  cluster: {server: "https://198.51.100.9:6443"}
- name: prod
  cluster: {server: "https://api.example.org:8443/k8s", certificate-authority: pki/ca.crt}
contexts:
- name: prod
  context: {cluster: prod, user: me}
users:
- name: me
  user: {client-certificate: /etc/pki/me.crt, client-key: me.key}
"""


def test_nodes_get_a_kubeconfig_that_leads_through_the_forwarder() -> None:
    assert access.server(REAL, "/home/me/config") == ("api.example.org", 8443)
    config = yaml.safe_load(access.redirected(REAL, "/home/me/config", "10.99.0.1", 6443))
    other, prod = (entry["cluster"] for entry in config["clusters"])
    assert prod == {
        "server": "https://10.99.0.1:6443/k8s",
        "certificate-authority": "/home/me/pki/ca.crt",
        "tls-server-name": "api.example.org",
    }
    assert other["server"] == "https://198.51.100.9:6443"
    assert config["users"][0]["user"] == {
        "client-certificate": "/etc/pki/me.crt",
        "client-key": "/home/me/me.key",
    }


@pytest.mark.parametrize(
    ("text", "complaint"),
    [("", "empty"), ("{", "not YAML"), ("current-context: x", "names no server")],
)
def test_a_file_that_is_no_kubeconfig_is_told(text: str, complaint: str) -> None:
    with pytest.raises(Unable, match=complaint):
        access.server(text, "config")
