"""The move from MetalLB as documented, and the way back. The commands are those of `migrate --preflight`.

MetalLB's speakers are stand-ins (see `metallb`), or the real ones, with METALLB_SPEAKER.
"""

import itertools
import json
import os
import re
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from ipaddress import ip_address
from pathlib import Path
from typing import Any

import pytest

from lbspeaker.errors import LbspeakerError, Unavailable
from lbspeaker.lab import namespaces
from lbspeaker.lab.lab import Lab
from tests.bench.asker import Asker
from tests.cli.test_migrate import KINDS as CONVERTED
from tests.cli.test_migrate import definition
from tests.scenarios.conftest import CONFIG, SERVICES, SYSTEM, Probe, World, wait_for
from tests.scenarios.metallb import SPEAKER, MetalLB
from tests.scenarios.metallb import SYSTEM as METALLB

pytestmark = [
    pytest.mark.lab,
    pytest.mark.timeout(300),
    pytest.mark.skipif(shutil.which("kubectl") is None, reason="kubectl is not installed"),
]
ROOT = Path(__file__).parents[2]
LAN = {
    "web0": ["192.0.2.110"],
    "web1": ["192.0.2.111"],
    "web2": ["192.0.2.112"],
    "both": ["192.0.2.113", "2001:db8::113"],
}
ROUTED = {"far0": ["203.0.113.10"], "far1": ["203.0.113.11"]}
HOLD = '{"spec":{"dryRun":true}}'
MOST_S = 1.0  # without an answer or a connection: on 2 cores it was 0.2 s
NODES = ("node-a", "node-b", "node-c")
KINDS = {
    **CONVERTED,
    "BFDProfile": "bfdprofiles",
    "ServiceL2Status": "servicel2statuses",
    "ServiceBGPStatus": "servicebgpstatuses",
    "ConfigurationState": "configurationstates",
}


class Move:
    """A shell beside a lab with MetalLB."""

    def __init__(self, world: World, directory: Path) -> None:
        self.world, self._directory = world, directory
        (directory / "config").symlink_to(ROOT / "config")
        program = directory / "bin" / "lbspeaker"
        program.parent.mkdir()
        program.write_text(f'#!/bin/sh\nexec {sys.executable} -m lbspeaker "$@"\n')
        program.chmod(0o755)
        self._environment = os.environ | {
            "KUBECONFIG": str(world.lab.kubeconfig),
            "KUBECACHEDIR": str(directory / "cache"),
            "PATH": f"{program.parent}:{os.environ['PATH']}",
            "PYTHONPATH": str(ROOT),
        }

    def step(self, line: str) -> str:
        """Run a command. The lab's API server has no `scale`, and nobody starts what its workloads say."""
        if scaled := re.fullmatch(r"kubectl -n (\S+) scale deployment (\S+) --replicas=(\d)", line):
            namespace, name, replicas = scaled.groups()
            path = f"/apis/apps/v1/namespaces/{namespace}/deployments/{name}"
            self.world.call("PATCH", path, {"spec": {"replicas": int(replicas)}}, patch=True)
            if namespace == SYSTEM:
                self.world.lab.stop("controller")
            return ""
        if "rollout status" in line:
            self.world.lab.start_programs()
            return ""
        return self.shell(line)

    def shell(self, *lines: str, status: int = 0) -> str:
        done = subprocess.run(
            ["bash", "-eo", "pipefail", "-c", "\n".join(lines)],
            cwd=self._directory,
            env=self._environment,
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
        assert done.returncode == status, (lines, done.stdout, done.stderr)
        return done.stdout

    def preflight(self, status: int = 0) -> dict[str, Any]:
        return dict(json.loads(self.shell("lbspeaker migrate --preflight -o json", status=status)))

    def paths(self, prefix: str) -> dict[str, Any]:
        """The attributes of each path that the router has to a prefix, by next hop."""
        router = self.world.lab.router
        words = ["vtysh", "--vty_socket", str(router.directory), "-c", f"show bgp ipv4 unicast {prefix} json"]
        found = json.loads(self.world.lab.exec("router", words).stdout)
        wanted = ("aspath", "origin", "metric", "locPrf", "community")
        return {
            path["nexthops"][0]["ip"]: {key: path.get(key) for key in wanted}
            for path in found.get("paths", ())
        }

    def run(self, steps: list[dict[str, Any]]) -> None:
        for step in steps:
            for line in step["run"]:
                self.step(line)

    def held(self) -> dict[str, list[str]]:
        return {name: self.world.ips(name) for name in {**LAN, **ROUTED}}

    def told(self) -> dict[str, Any]:
        return {ips[0]: self.paths(f"{ips[0]}/32") for ips in ROUTED.values()}

    def is_back(self, node: str) -> bool:
        """Whether our speaker there has no session any more, and MetalLB's has one."""
        speaker = self.world.call("GET", f"{CONFIG}/speakers/{node}")["status"]
        address = next(str(one.ipv4) for one in self.world.lab.nodes if one.name == node)
        paths = [paths.get(address, {}) for paths in self.told().values()]
        there = all(path and "gracefulShutdown" not in str(path) for path in paths)
        return bool(speaker["sessions"] == "0/0" and there)

    def converged(self) -> bool:
        """Whether the router spreads traffic over all nodes."""
        table = self.world.lab.router.table()
        return all(len(table.get(f"{ips[0]}/32", ())) == len(NODES) for ips in ROUTED.values())


class Connections(Probe):
    """Connections to one IP from a member."""

    def __init__(self, world: World, ip: str, member: str) -> None:
        super().__init__(world, ip, every_s=0.1)
        self._member = member

    @property
    def ok(self) -> list[float]:
        return self._ok

    def _run(self) -> None:
        while not self._stop.wait(self._every_s):
            began = time.monotonic()
            with suppress(Unavailable):
                self._world.lab.curl(self._ip, self._member, timeout_s=0.25)
                self._ok.append(began)


def gap(times: list[float], since: float, until: float) -> float:
    """The longest time in which nothing worked."""
    return max(b - a for a, b in itertools.pairwise([since, *times, until]))


class Watch:
    """What clients and the router live through.

    `removed`: routes that the router's kernel lost. `fewest`: paths that the router had to a prefix at any
    time; `strange`: those that were not like MetalLB's at the beginning. Routes that
    say themselves that they go (RFC 8326) are left out.
    """

    def __init__(self, move: Move) -> None:
        world = self._world = move.world
        near = {ip: Connections(world, ip, "client") for ips in LAN.values() for ip in ips}
        self._probes = near | {ips[0]: Connections(world, ips[0], "remote") for ips in ROUTED.values()}
        self._answered: dict[bytes, list[float]] = {}
        self._stop = threading.Event()
        self._asks = [threading.Thread(target=one) for one in (self._ask, self._look)]
        self._move, self._told = move, move.told()
        self.removed: list[str] = []
        self.strange: list[Any] = []
        self.fewest = len(NODES)
        line = namespaces.command(
            world.lab.topology.namespace("router"), ["ip", "-o", "-4", "monitor", "route"]
        )
        self._monitor = subprocess.Popen(line, stdout=subprocess.PIPE, text=True)

    def __enter__(self) -> "Watch":
        self._began = time.monotonic()
        for thread in self._asks:
            thread.start()
        for probe in self._probes.values():
            probe.__enter__()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended = time.monotonic()
        for probe in self._probes.values():
            probe.__exit__()
        self._stop.set()
        for thread in self._asks:
            thread.join()
        self._monitor.terminate()
        self.removed = [line for line in self._monitor.communicate()[0].splitlines() if "Deleted" in line]

    def _ask(self) -> None:
        """Ask for each IP by ARP, each 100 ms, as one of many neighbours who do not know it yet."""
        asker = Asker(self._world.lab.topology.namespace("client"), self._world.lab.topology.client)
        ips = [ip_address(ips[0]).packed for ips in LAN.values()]
        self._answered = {ip: [] for ip in ips}
        while not self._stop.is_set():
            for ip in ips:
                asker.ask(ip)
            until = time.monotonic() + 0.1
            while (left := until - time.monotonic()) > 0:
                for ip in asker.answered(left):
                    self._answered[ip].append(time.monotonic())

    def _look(self) -> None:
        while not self._stop.wait(0.2):
            for ip, paths in self._move.told().items():
                self.fewest = min(self.fewest, len(paths))
                others = [one for one in paths.items() if one not in self._told[ip].items()]
                self.strange += [one for one in others if "gracefulShutdown" not in str(one)]

    def nothing_was_lost(self) -> None:
        during = self._began, self._ended
        gaps = {f"connections to {ip}": gap(probe.ok, *during) for ip, probe in self._probes.items()}
        for ip, times in self._answered.items():
            gaps[f"answers for {ip_address(ip)}"] = gap(times, *during)
        took_s, longest_s = self._ended - self._began, max(gaps.values())
        print(f"{took_s:.0f} s, longest gap {longest_s:.2f} s, paths {self.fewest}", gaps)
        assert max(gaps.values()) <= MOST_S, gaps
        assert self.removed == [], "the router's kernel had each route all the time"
        assert self.fewest >= len(NODES) - 1, "one node after the other"
        assert self.strange == [], "no path is preferred to another"


@pytest.fixture(scope="module")
def move(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Move]:
    directory = tmp_path_factory.mktemp("metallb")
    try:
        lab = Lab.up(name=f"m{os.getpid()}", router="frr", guard_pps=None, programs=False)
    except LbspeakerError as error:
        pytest.skip(str(error))
    with lab:
        world = World(lab)
        install(world)
        routes = {node: [f"{ips[0]}/32" for ips in ROUTED.values()] for node in NODES}
        with MetalLB(world, lab.directory, routes) as metallb:
            found = Move(world, directory)
            wait_for(lambda: metallb.works() and found.converged(), "MetalLB's routes", 20)
            for ips in LAN.values():
                world.reachable(ips[0])
            yield found


def install(world: World) -> None:
    """The objects of a cluster with MetalLB."""
    world.call("POST", "/api/v1/namespaces", {"metadata": {"name": METALLB}})
    for kind, plural in KINDS.items():
        crd = definition(kind, plural, "v1beta2" if kind == "BGPPeer" else "v1beta1")
        (version,) = crd["spec"]["versions"]
        version["subresources"] = {"status": {}}
        if kind == "BGPPeer":
            crd["spec"]["versions"].append({**version, "name": "v1beta1", "storage": False})
        world.call("POST", "/apis/apiextensions.k8s.io/v1/customresourcedefinitions", crd)
    peer = {"myASN": 64513, "peerASN": 64512, "peerAddress": "192.0.2.1", "peerPort": 179}
    lengths = {"aggregationLength": 32, "aggregationLengthV6": 128}  # the defaults, which are its schema's
    peer |= {} if SPEAKER else {"enableGracefulRestart": True}
    for kind, name, spec in (
        ("IPAddressPool", "lan", {"addresses": ["192.0.2.100-192.0.2.150", "2001:db8::100/120"]}),
        ("IPAddressPool", "far", {"addresses": ["203.0.113.0/24"]}),
        ("L2Advertisement", "lan", {"ipAddressPools": ["lan"]}),
        ("BGPPeer", "router", peer),
        ("BGPAdvertisement", "far", {"ipAddressPools": ["far"], "communities": ["64512:7"], **lengths}),
    ):
        version = "metallb.io/v1beta2" if kind == "BGPPeer" else "metallb.io/v1beta1"
        body = {"apiVersion": version, "kind": kind, "metadata": {"name": name}, "spec": spec}
        world.call("POST", f"/apis/{version}/namespaces/{METALLB}/{KINDS[kind]}", body)
    for kind, plural, name in (
        ("Deployment", "deployments", "controller"),
        ("DaemonSet", "daemonsets", "speaker"),
    ):
        label = {"app": "metallb", "component": name}
        mode = [{"name": "METALLB_BGP_TYPE", "value": "native" if SPEAKER else "frr"}]
        container = {"name": name, "image": f"quay.io/metallb/{name}:v0.15.2", "env": mode}
        template = {"metadata": {"labels": label}, "spec": {"containers": [container]}}
        spec = {"selector": {"matchLabels": label}, "template": template}
        body = {
            "apiVersion": "apps/v1",
            "kind": kind,
            "metadata": {"name": name, "labels": label},
            "spec": spec,
        }
        world.call("POST", f"/apis/apps/v1/namespaces/{METALLB}/{plural}", body)
    for node in world.lab.nodes if SPEAKER else ():  # by which speakers find each other
        label = {"app": "metallb", "component": "speaker"}
        spec = {"nodeName": node.name, "containers": [{"name": "speaker", "image": "speaker"}]}
        path, name = f"/api/v1/namespaces/{METALLB}/pods", f"speaker-{node.name}"
        world.call("POST", path, {"metadata": {"name": name, "labels": label}, "spec": spec})
        status = {"phase": "Running", "podIP": str(node.ipv4), "podIPs": [{"ip": str(node.ipv4)}]}
        world.call("PATCH", f"{path}/{name}/status", {"status": status}, patch=True)
    for name, node in itertools.product(ROUTED, () if SPEAKER else NODES):
        said = {"serviceName": name, "serviceNamespace": "default", "node": node, "peers": ["router"]}
        body = {"apiVersion": "metallb.io/v1beta1", "kind": "ServiceBGPStatus", "status": said}
        body["metadata"] = {"name": f"bgp-{name}-{node}"}
        path = f"/apis/metallb.io/v1beta1/namespaces/{METALLB}/servicebgpstatuses"
        world.call("POST", path, body)
        world.call("PATCH", f"{path}/bgp-{name}-{node}/status", {"status": said}, patch=True)
    for name, ips in {**LAN, **ROUTED}.items():
        annotations = {"metallb.io/ip-allocated-from-pool": "lan" if name in LAN else "far"}
        more = {"ipFamilyPolicy": "RequireDualStack"} if len(ips) > 1 else {}
        world.service(name, annotations=annotations, **more)
        status = {"loadBalancer": {"ingress": [{"ip": ip} for ip in ips]}}
        world.call("PATCH", f"{SERVICES}/{name}/status", {"status": status}, patch=True)


def test_the_move_the_way_back_and_the_move_again(move: Move) -> None:
    world = move.world
    before, told = move.held(), move.told()
    with Watch(move) as watch:
        *steps, end = move.preflight()["next"]
        move.run(steps)
    if not SPEAKER:
        assert undocumented([*steps, end]) == []
    watch.nothing_was_lost()
    assert (move.held(), move.told()) == (before, told)
    assert move.converged()
    assert [step["what"] for step in move.preflight()["next"]] == [end["what"]]
    assert all("claimed" in world.log(node) for node in ("node-b", "node-c")), "ours answer"

    with Watch(move) as watch:
        back(move)
    watch.nothing_was_lost()
    assert (move.held(), move.told()) == (before, told)
    assert move.converged()

    with Watch(move) as watch:
        move.run(move.preflight()["next"])
    watch.nothing_was_lost()
    assert (move.held(), move.told()) == (before, told)
    assert move.converged()
    found = move.preflight()
    assert found["next"] == [], "nothing is left"
    assert found["counts"]["FAIL"] == 0


def undocumented(steps: list[dict[str, Any]]) -> list[str]:
    """The commands that the documentation does not have; of several nodes it has the first."""
    text = (ROOT / "docs" / "metallb.md").read_text()
    lines = [line for step in steps for line in step["run"]]
    return [line for line in lines if line not in text and "node-b" not in line and "node-c" not in line]


def back(move: Move) -> None:
    """docs/metallb.md, Back."""
    for line in (
        f"kubectl -n {SYSTEM} scale deployment controller --replicas=0",
        f"kubectl -n {METALLB} scale deployment controller --replicas=1",
        "kubectl apply -f metallb.yaml",
        "sleep 5",
        f"kubectl -n {SYSTEM} patch linkpolicy 00-takeover --type=merge -p '{HOLD}'",
    ):
        move.step(line)
    for node in NODES:
        move.step(f"kubectl label node {node} lbspeaker.io/announcer=metallb --overwrite")
        wait_for(lambda node=node: move.is_back(node), f"MetalLB's session of {node}", 30)
