"""`lbspeaker doctor` on a node that is really broken, and mended: what a client sees, and what doctor says.

::

    client ── segment 192.0.2.0/24 ── eth0  node  veth0 ── pod 10.244.1.10:8080
       └──── uplink 198.51.100.0/24 ─ up0 ┘  (default route)
"""

import json
import os
import socket
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
import yaml
from click.testing import CliRunner, Result

from lbspeaker.cli.doctor import doctor as command
from lbspeaker.lab import namespaces, objects, proxy, rootless
from lbspeaker.model import address_of

pytestmark = [
    pytest.mark.lab,
    pytest.mark.skipif(bool(rootless.obstacle()), reason=rootless.obstacle()),
]

NODE, CLIENT, POD = (f"doc{os.getpid()}{end}" for end in "ncp")
IP, POD_IP, FAR = "192.0.2.60", "10.244.1.10", "203.0.113.5"
PATIENCE_S = 0.5
CLUSTER = """
apiVersion: v1
kind: Node
metadata: {name: node-a}
spec: {podCIDR: 10.244.1.0/24}
status: {addresses: [{type: InternalIP, address: 192.0.2.201}]}
---
apiVersion: lbspeaker.io/v1beta1
kind: IPAddressPool
metadata: {name: lan, namespace: lbspeaker-system}
spec: {addresses: [192.0.2.60-192.0.2.110]}
---
apiVersion: lbspeaker.io/v1beta1
kind: L2Advertisement
metadata: {name: lan, namespace: lbspeaker-system}
spec: {interfaces: [eth0]}
---
apiVersion: lbspeaker.io/v1beta1
kind: BGPPeer
metadata: {name: router, namespace: lbspeaker-system}
spec: {myASN: 64513, peerASN: 64512, peerAddress: 192.0.2.2, bfdProfile: fast}
---
apiVersion: lbspeaker.io/v1beta1
kind: BFDProfile
metadata: {name: fast, namespace: lbspeaker-system}
---
apiVersion: v1
kind: Pod
metadata: {name: web-1, namespace: default, labels: {app: web}}
spec: {nodeName: node-a, containers: [{name: web, image: web, ports: [{name: http, containerPort: 8080}]}]}
status:
  phase: Running
  podIPs: [{ip: 10.244.1.10}]
  conditions: [{type: Ready, status: "True"}]
"""
SERVICE = """
apiVersion: v1
kind: Service
metadata: {name: web, namespace: default}
spec:
  type: LoadBalancer
  clusterIPs: [10.96.0.7]
  selector: {app: web}
  ports: [{port: 80, targetPort: 8080, protocol: TCP}]
status: {loadBalancer: {ingress: [{ip: 192.0.2.60}]}}
"""


@pytest.fixture(scope="module", autouse=True)
def node() -> Iterator[None]:
    """A node with its pod, and a client, for all tests here."""
    names = [NODE, CLIENT, POD]
    try:
        namespaces.add(names)
        wire = "link add {} netns {} type veth peer name {} netns {}"
        lines = (("eth0", NODE, "eth0", CLIENT), ("up0", NODE, "up0", CLIENT), ("veth0", NODE, "eth0", POD))
        namespaces.configure(NODE, [wire.format(*words) for words in lines])
        namespaces.configure(NODE, ["link set eth0 address 02:00:c0:00:02:c9"])
        _up(NODE, "eth0 192.0.2.201/24", "up0 198.51.100.2/24", "veth0 10.244.1.1/24")
        _up(CLIENT, "eth0 192.0.2.2/24", "up0 198.51.100.1/24", f"lo {FAR}/32")
        _up(POD, f"eth0 {POD_IP}/24")
        namespaces.configure(NODE, ["route add default via 198.51.100.1 dev up0"])
        namespaces.configure(POD, ["route add default via 10.244.1.1"])
        namespaces.configure(CLIENT, ["route add 10.244.1.0/24 via 192.0.2.201"])
        yield
    finally:
        namespaces.remove(names)


def _up(name: str, *links: str) -> None:
    for words in links:
        link, address = words.split()
        namespaces.configure(name, [f"link set {link} up", f"address add {address} dev {link}"])


@pytest.fixture(autouse=True)
def healthy(node: None) -> None:
    """Every test begins with a node on which nothing is wrong."""
    settings = {"net/ipv4/ip_forward": "1"}
    for link in ("all", "eth0", "up0"):
        settings |= {
            f"net/ipv4/conf/{link}/{name}": "0" for name in ("rp_filter", "arp_ignore", "arp_announce")
        }
    namespaces.sysctl(NODE, settings)
    namespaces.configure(
        CLIENT, ["neigh flush dev eth0", "neigh replace 192.0.2.201 lladdr 02:00:c0:00:02:c9 dev eth0"]
    )


def doctor(*options: str, service: str = SERVICE) -> dict[str, str]:
    """What fails or warns on the node: the line of each code."""

    def ask() -> Result:
        return CliRunner().invoke(command, ["-", "-o", "json", *options], input=f"{CLUSTER}---{service}")

    done = namespaces.inside(NODE, ask)
    found = [one for one in json.loads(done.stdout)["findings"] if one["grade"] in ("FAIL", "WARN")]
    assert done.exit_code == any(one["grade"] == "FAIL" for one in found)
    return {one["code"]: f"{one['subject']}: {one['what']}" for one in found}


def test_a_healthy_node() -> None:
    assert doctor() == {}
    argv = [sys.executable, "-m", "lbspeaker", "doctor", "-"]
    done = namespaces.run(NODE, argv, text=f"{CLUSTER}---{SERVICE}")
    assert (done.returncode, done.stderr) == (0, "")
    assert "PASS    rp-filter: node-a: rp_filter drops nothing" in done.stdout


# --- who answers ----------------------------------------------------------------------------------------


def answered() -> bool:
    """Whether the node's kernel answers the client's question for the service IP."""
    namespaces.configure(CLIENT, ["neigh flush dev eth0"])
    with namespaces.socket_in(CLIENT, socket.AF_INET, socket.SOCK_DGRAM) as asking:
        asking.sendto(b"?", (IP, 9))
        told = namespaces.run(CLIENT, ["timeout", "0.5", "ip", "monitor", "neigh"]).stdout
        told += namespaces.run(CLIENT, ["ip", "neigh", "show", IP]).stdout
    return any(IP in line and "lladdr" in line for line in told.splitlines())


def test_ipvs_without_strict_arp_answers_for_every_service_ip() -> None:
    # It is down, as kube-proxy has it; and not every kernel has dummies.
    link = "link add kube-ipvs0 type veth peer name veth9"
    namespaces.configure(NODE, [link, f"address add {IP}/32 dev kube-ipvs0"])
    try:
        assert answered()
        assert doctor() == {
            "ipvs-arp": "node-a: IPVS without strict ARP (eth0: arp_ignore 0, arp_announce 0,"
            " up0: arp_ignore 0, arp_announce 0)"
        }
        strict = {"net/ipv4/conf/all/arp_ignore": "1", "net/ipv4/conf/all/arp_announce": "2"}
        namespaces.sysctl(NODE, strict)
        assert not answered()
        assert doctor() == {}
    finally:
        namespaces.configure(NODE, ["link delete kube-ipvs0"])


def test_a_service_ip_on_a_link_is_answered_by_the_kernel() -> None:
    namespaces.configure(NODE, [f"address add {IP}/32 dev eth0"])
    try:
        assert answered()
        assert doctor() == {
            "address-taken": f"node-a: {IP}, a service IP of default/web, is an address of its link eth0"
        }
    finally:
        namespaces.configure(NODE, [f"address delete {IP}/32 dev eth0"])
    assert not answered()
    assert doctor() == {}


# --- what the kernel lets through -----------------------------------------------------------------------


def connects(ip: str, port: int) -> str:
    """What a client sees who connects: "" if it works."""
    with namespaces.socket_in(CLIENT, socket.AF_INET, socket.SOCK_STREAM) as calling:
        calling.settimeout(PATIENCE_S)
        try:
            calling.connect((ip, port))
        except OSError as error:
            return type(error).__name__
    return ""


def test_a_kernel_that_does_not_forward() -> None:
    with namespaces.listen_in(POD, POD_IP, 8080):
        namespaces.sysctl(NODE, {"net/ipv4/ip_forward": "0"})
        assert connects(POD_IP, 8080) == "TimeoutError"
        assert doctor() == {"forwarding": "node-a: net.ipv4.ip_forward is 0"}
        namespaces.sysctl(NODE, {"net/ipv4/ip_forward": "1"})
        assert connects(POD_IP, 8080) == ""
        assert doctor() == {}


def test_strict_reverse_path_filtering() -> None:
    def arrives() -> bool:
        """Whether what a client of another network sends comes in over the segment."""
        with (
            namespaces.socket_in(NODE, socket.AF_INET, socket.SOCK_DGRAM) as hearing,
            namespaces.socket_in(CLIENT, socket.AF_INET, socket.SOCK_DGRAM) as calling,
        ):
            hearing.bind(("192.0.2.201", 5000))
            hearing.settimeout(PATIENCE_S)
            calling.bind((FAR, 0))
            calling.sendto(b"!", ("192.0.2.201", 5000))
            try:
                return hearing.recv(10) == b"!"
            except TimeoutError:
                return False

    namespaces.sysctl(NODE, {"net/ipv4/conf/eth0/rp_filter": "1"})
    assert not arrives()
    assert doctor() == {
        "rp-filter": "node-a: rp_filter is 1 (strict) on eth0, and the default route is over up0"
    }
    namespaces.sysctl(NODE, {"net/ipv4/conf/eth0/rp_filter": "2"})
    assert arrives()
    assert doctor() == {}


# --- links and ports ------------------------------------------------------------------------------------


def test_a_bridge_port_that_is_isolated() -> None:
    namespaces.configure(
        NODE,
        [
            "link add br0 type bridge ageing_time 3000",
            "link add port0 type veth peer name veth8",
            "link set port0 master br0",
            "link set br0 up",
        ],
    )
    try:
        assert doctor() == {}
        isolate = ["bridge", "link", "set", "dev", "port0", "isolated", "on", "neigh_suppress", "on"]
        assert namespaces.run(NODE, isolate).returncode == 0
        assert doctor() == {
            "bridge-filter": "node-a: port0, a port of bridge br0, has neigh_suppress on, isolated on"
        }
    finally:
        namespaces.configure(NODE, ["link delete br0", "link delete port0"])


def test_others_at_the_ports_of_bgp_and_bfd() -> None:
    with (
        namespaces.listen_in(NODE, "0.0.0.0", 179),
        namespaces.socket_in(NODE, socket.AF_INET, socket.SOCK_DGRAM) as bfd,
    ):
        bfd.bind(("", 3784))
        found = doctor()
    assert found.keys() == {"bgp-port", "bfd-port"}
    myself = Path("/proc/self/comm").read_text().strip()
    assert myself in found["bgp-port"], "it names who listens"
    assert "has UDP port 3784" in found["bfd-port"]
    assert doctor() == {}


def test_an_address_from_a_dhcp_server() -> None:
    namespaces.configure(NODE, ["address change 192.0.2.201/24 dev eth0 valid_lft 3600 preferred_lft 3600"])
    try:
        assert list(doctor()) == ["pool-dhcp"]
    finally:
        forever = "valid_lft forever preferred_lft forever"
        namespaces.configure(NODE, [f"address change 192.0.2.201/24 dev eth0 {forever}"])
    assert doctor() == {}


# --- what kube-proxy makes of a Service -----------------------------------------------------------------


def test_a_pod_that_listens_for_nobody_else() -> None:
    """Its containerPort is declared, and its program listens at 127.0.0.1."""
    with namespaces.listen_in(POD, "127.0.0.1", 8080):
        assert doctor() == {}
        said = "default/web: port 80/TCP: 1 (10.244.1.10:8080) of 1 refuse connections"
        assert doctor("--connect") == {"connect": said}
    with namespaces.listen_in(POD, "0.0.0.0", 8080):
        assert doctor("--connect") == {}
        undeclared = SERVICE.replace("targetPort: 8080", "targetPort: 8081")
        assert list(doctor(service=undeclared)) == ["target-port"]
    with namespaces.listen_in(POD, "0.0.0.0", 8081):
        assert doctor("--connect", service=undeclared) == {}, "who accepts need not declare"


@pytest.fixture
def pod_that_listens() -> Iterator[None]:
    namespaces.configure(CLIENT, [f"route add {IP}/32 via 192.0.2.201"])
    try:
        with namespaces.listen_in(POD, POD_IP, 8080):
            yield
    finally:
        namespaces.configure(CLIENT, [f"route delete {IP}/32"])
        for family in ("ip", "ip6"):
            namespaces.run(NODE, ["nft", "delete", "table", family, proxy.TABLE])


def route(service: str) -> None:
    """Have the stand-in for kube-proxy do on the node what it does for this Service."""

    def read(text: str, kind: str) -> list[Any]:
        return [one for one in yaml.safe_load_all(text) if one["kind"] == kind]

    services = msgspec.convert(read(service, "Service"), list[objects.Service])
    pods = msgspec.convert(read(CLUSTER, "Pod"), list[objects.Pod])
    fronts = proxy.frontends(services, pods)
    ip = address_of(IP)
    assert ip is not None
    done = namespaces.run(NODE, ["nft", "-f", "-"], text=proxy.ruleset("node-a", fronts, [ip]))
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(
    ("right", "broken", "code"),
    [
        ("targetPort: 8080", "targetPort: 8081", "target-port"),
        ("targetPort: 8080", "targetPort: htpt", "port-name"),
        ("selector: {app: web}", "selector: {app: wbe}", "selector"),
    ],
)
def test_a_refused_connection(pod_that_listens: None, right: str, broken: str, code: str) -> None:
    route(SERVICE.replace(right, broken))
    assert connects(IP, 80) == "ConnectionRefusedError"
    assert list(doctor(service=SERVICE.replace(right, broken))) == [code]
    route(SERVICE)
    assert connects(IP, 80) == ""
    assert doctor() == {}
