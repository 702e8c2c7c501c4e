"""The routers of the lab: what they accept, what they say they have, and what their kernel then does."""

import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from ipaddress import ip_network
from pathlib import Path

import msgspec
import pytest

from lbspeaker.errors import Unable
from lbspeaker.lab import exarouter, namespaces, rootless, routers, topology
from lbspeaker.lab.routers import RouterKind

needs_namespaces = pytest.mark.skipif(bool(rootless.obstacle()), reason=rootless.obstacle())

FRR_SAYS = """{"routerId": "192.0.2.1", "routes": {
 "203.0.113.7/32": [
  {"valid": true, "multipath": true, "nexthops": [{"ip": "192.0.2.202", "used": true}]},
  {"valid": true, "bestpath": true, "nexthops": [{"ip": "192.0.2.201", "used": true}]}],
 "203.0.113.8/32": [
  {"valid": true, "nexthops": [{"ip": "192.0.2.203"}]},
  {"valid": true, "bestpath": true, "nexthops": [{"ip": "2001:db8::201"}, {"ip": "fe80::1"}]}]}}"""

BIRD_SAYS = """BIRD 2.0.12 ready.
Table master4:
203.0.113.7/32       unicast [node_a_4 12:00:00.000] * (100) [AS64513i]
\tvia 192.0.2.202 on eth0
                     unicast [node_b_4 12:00:00.000] (100) [AS64513i]
\tvia 192.0.2.201 on eth0

Table master6:
2001:db8::7/128      unicast [node_a_4 12:00:00.000] * (100) [AS64513i]
\tvia 2001:db8::201 on eth0
"""


def test_frr_says_which_routes_are_in_use() -> None:
    assert routers.frr_table(FRR_SAYS) == {
        "203.0.113.7/32": ["192.0.2.201", "192.0.2.202"],
        "203.0.113.8/32": ["2001:db8::201"],
    }
    assert routers.frr_table("{}") == {}


def test_bird_says_which_routes_are_in_use() -> None:
    assert routers.bird_table(BIRD_SAYS) == {
        "203.0.113.7/32": ["192.0.2.201", "192.0.2.202"],
        "2001:db8::7/128": ["2001:db8::201"],
    }
    assert routers.bird_table("BIRD 2.0.12 ready.\n") == {}


def said(peer: str, **message: object) -> str:
    neighbor = {"address": {"local": "192.0.2.1", "peer": peer}, **message}
    return msgspec.json.encode(
        {"type": "state" if "state" in message else "update", "neighbor": neighbor}
    ).decode()


def announced(peer: str, hop: str, *prefixes: str) -> str:
    listed = [{"nlri": prefix} for prefix in prefixes]
    return said(peer, message={"update": {"announce": {"ipv4 unicast": {hop: listed}}}})


def test_the_table_of_exabgp_follows_its_events() -> None:
    routes = exarouter.RoutingTable([ip_network("203.0.113.0/24"), ip_network("2001:db8::/64")])
    a, b = "192.0.2.201", "192.0.2.202"
    assert routes.learn(announced(b, b, "203.0.113.7/32")) == {"203.0.113.7/32"}
    assert routes.learn(announced(a, a, "203.0.113.7/32", "203.0.113.8/32")) == {
        "203.0.113.7/32",
        "203.0.113.8/32",
    }
    assert routes.table() == {"203.0.113.7/32": [a, b], "203.0.113.8/32": [a]}
    assert routes.learn(announced(a, a, "0.0.0.0/0", "198.51.100.0/24")) == set(), "not a service IP"

    gone = said(a, message={"update": {"withdraw": {"ipv4 unicast": [{"nlri": "203.0.113.8/32"}]}}})
    assert routes.learn(gone) == {"203.0.113.8/32"}
    assert routes.learn(said(b, state="down")) == {"203.0.113.7/32"}
    assert routes.table() == {"203.0.113.7/32": [a]}
    assert routes.learn("done") == set(), "an acknowledgement"


def test_the_kernel_is_told_all_next_hops_at_once() -> None:
    assert exarouter.kernel_line("203.0.113.7/32", ["192.0.2.201", "192.0.2.202"]) == (
        "route replace 203.0.113.7/32 proto bgp nexthop via 192.0.2.201 nexthop via 192.0.2.202"
    )
    assert exarouter.kernel_line("203.0.113.7/32", []) == "route delete 203.0.113.7/32 proto bgp"


def test_a_router_that_is_not_here_is_told_with_one_that_is(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nonexistent")
    assert routers.choose(None) == "exabgp"
    with pytest.raises(Unable, match=r"router bird cannot run here: it is not installed; --router exabgp"):
        routers.choose("bird")


# --- real routers ---------------------------------------------------------------------------------------


class Bench:
    """Two nodes and a router in namespaces; `processes` by name."""

    def __init__(self, picture: topology.Topology, router: routers.Router, directory: Path) -> None:
        self.picture = picture
        self.router = router
        self.directory = directory
        self.processes: dict[str, subprocess.Popen[bytes]] = {}

    def spawn(self, member: str, name: str, argv: Sequence[str], environment: dict[str, str]) -> None:
        with (self.directory / f"{name}.log").open("ab") as log:
            self.processes[name] = subprocess.Popen(
                namespaces.command(self.picture.namespace(member), argv),
                env=os.environ | environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )

    def speak(self, node: topology.LabNode, *routes: str) -> None:
        """Announce fixed routes from a node: a BGP speaker without any of our code."""
        lines = [
            f"neighbor {self.picture.router.ipv4} {{",
            f"  router-id {node.ipv4}; local-address {node.ipv4};",
            f"  local-as {topology.NODES_AS}; peer-as {topology.ROUTER_AS}; hold-time 3;",
            "  family { ipv4 unicast; ipv6 unicast; }",
            f"  static {{ {' '.join(f'route {route};' for route in routes)} }}",
            "}",
        ]
        file = self.directory / f"{node.name}.conf"
        file.write_text("\n".join(lines) + "\n")
        settings = {"exabgp_daemon_user": "root", "exabgp_daemon_drop": "false", "exabgp_api_cli": "false"}
        self.spawn(node.name, node.name, [sys.executable, "-m", "exabgp", "server", str(file)], settings)


@pytest.fixture
def directory() -> Iterator[Path]:
    """A directory that FRR's own user can get to; pytest's are for their owner alone."""
    with tempfile.TemporaryDirectory(prefix="lbs-routers-") as name:
        Path(name).chmod(0o755)
        yield Path(name)


@pytest.fixture(params=routers.KINDS)
def bench(request: pytest.FixtureRequest, directory: Path) -> Iterator[Bench]:
    kind: RouterKind = request.param
    if kind not in routers.installed():
        pytest.skip(f"router {kind} cannot run here")
    picture = topology.topology(f"{kind}{os.getpid()}", 2)
    router = routers.Router(kind, picture.namespace("router"), directory / "router")
    it = Bench(picture, router, directory)
    try:
        namespaces.build(picture)
        router.start(picture, lambda name, argv, env: it.spawn("router", name, argv, env))
        yield it
    finally:
        namespaces.remove(namespaces.existing(picture.prefix))
        for process in it.processes.values():
            process.wait(10)


def eventually(question: Callable[[], object], expected: object, within_s: float = 20.0) -> float:
    """Ask until the answer is as expected; return the seconds that it took."""
    began = time.monotonic()
    while (answer := question()) != expected:
        assert time.monotonic() - began < within_s, f"{answer} is not {expected} after {within_s} s"
        time.sleep(0.05)
    return time.monotonic() - began


@pytest.mark.lab
@pytest.mark.peers
@needs_namespaces
def test_two_nodes_share_a_prefix_until_one_of_them_dies(bench: Bench) -> None:
    a, b = bench.picture.nodes
    four, six = "203.0.113.7/32", "2001:db8:203::7/128"
    for node in (a, b):
        bench.speak(
            node,
            f"{four} next-hop {node.ipv4}",
            f"{six} next-hop {node.ipv6}",
            "198.51.100.0/24 next-hop self",  # not a service network: the router must not take it
        )
    both = {four: ["192.0.2.201", "192.0.2.202"], six: ["2001:db8::201", "2001:db8::202"]}
    eventually(bench.router.table, both)
    eventually(bench.router.kernel, both)

    one = {four: ["192.0.2.201"], six: ["2001:db8::201"]}
    bench.processes[b.name].send_signal(signal.SIGKILL)  # its connection closes
    eventually(bench.router.table, one)
    eventually(bench.router.kernel, one)

    bench.speak(b, f"{four} next-hop {b.ipv4}", f"{six} next-hop {b.ipv6}")  # it comes back
    eventually(bench.router.table, both)
    eventually(bench.router.kernel, both)

    namespaces.configure(bench.picture.namespace("switch"), ["link set node-b down"])  # a silent death
    took_s = eventually(bench.router.table, one)
    assert took_s > 1.0, "nobody told the router: the hold time of 3 s did"
    eventually(bench.router.kernel, one)
