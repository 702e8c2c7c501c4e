"""The examples on the wire: clients reach each IP, and it comes from the nodes that `lbspeaker plan` names.

The cluster of an example is played: the lab's nodes get its labels, and a Pod for each endpoint in its
cluster.yaml. Objects of kinds that the lab does not serve (Ingress, Gateway) are left out.
"""

import json
import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from ipaddress import ip_address
from pathlib import Path
from typing import Any

import pytest
import yaml

from lbspeaker.cli.plan import decide
from lbspeaker.errors import LbspeakerError
from lbspeaker.lab import namespaces, objects
from lbspeaker.lab.lab import Lab
from lbspeaker.lab.routers import Router, installed
from lbspeaker.lab.topology import SERVICE_NETWORKS, SWITCH, LabNode
from lbspeaker.observe import load
from tests.scenarios.conftest import World, wait_for

pytestmark = [
    pytest.mark.lab,
    pytest.mark.timeout(180),
    pytest.mark.skipif(shutil.which("kubectl") is None, reason="kubectl is not installed"),
]

EXAMPLES = Path(__file__).parent.parent.parent / "examples"
ROUTER = "192.0.2.1"


@pytest.fixture(scope="module")
def world() -> Iterator[World]:
    """A lab without any configuration, and without its own Pods."""
    try:
        lab = Lab.up(name=f"e{os.getpid()}")
    except LbspeakerError as error:
        pytest.skip(str(error))
    with lab:
        found = World(lab)
        kubectl(found, "delete", "pods", "--namespace=default", "--all")
        yield found


def kubectl(world: World, *words: str, text: str | None = None) -> str:
    argv = ["kubectl", "--kubeconfig", str(world.lab.kubeconfig), *words]
    done = subprocess.run(argv, input=text, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


class Example:
    """One example: what is in its files, and what is planned."""

    def __init__(self, name: str) -> None:
        self.directory = EXAMPLES / name
        self.services = self._read("service.yaml")
        self.cluster = self._read("cluster.yaml")
        self.plan = decide(load([str(self.directory)]).snapshot)
        peers = [one for one in self._read("pools.yaml") if one["kind"] == "BGPPeer"]
        self.peers = {one["metadata"]["name"]: one["spec"]["peerAddress"] for one in peers}

    def _read(self, file: str) -> list[dict[str, Any]]:
        return list(yaml.safe_load_all((self.directory / file).read_text()))

    @property
    def files(self) -> list[str]:
        return [f"--filename={self.directory / name}" for name in ("service.yaml", "pools.yaml")]

    def of(self, kind: str) -> list[dict[str, Any]]:
        return [one for one in self.cluster if one["kind"] == kind]

    def pods(self, nodes: tuple[LabNode, ...]) -> list[dict[str, Any]]:
        """A Pod for each endpoint; its named ports are the one that the lab's backends listen at."""
        known = {f"{one['metadata']['namespace']}/{one['metadata']['name']}": one for one in self.services}
        found = {}
        for one in self.of("EndpointSlice"):
            place = one["metadata"]
            service = known[f"{place['namespace']}/{place['labels']['kubernetes.io/service-name']}"]
            for name in (endpoint["nodeName"] for endpoint in one["endpoints"]):
                pod = objects.pod_manifest(next(node for node in nodes if node.name == name))
                labels = service["spec"]["selector"]
                pod["metadata"] = {"name": f"{'-'.join(labels.values())}-{name}", "labels": labels}
                pod["metadata"]["namespace"] = place["namespace"]
                named = {port.get("targetPort") for port in service["spec"]["ports"]}
                ports = [{"name": port, "containerPort": 8080} for port in named if isinstance(port, str)]
                pod["spec"]["containers"][0]["ports"] += ports
                found[place["namespace"], pod["metadata"]["name"]] = pod
        return list(found.values())

    def ports(self, ip: str) -> list[int]:
        """The TCP ports of this IP behind which the lab's backends are."""
        keys = {row["service"] for row in self.plan["allocations"] if ip in row["ips"]}
        return [
            port["port"]
            for one in self.services
            if f"{one['metadata']['namespace']}/{one['metadata']['name']}" in keys
            for port in one["spec"]["ports"]
            if port.get("protocol", "TCP") == "TCP" and port.get("targetPort", port["port"]) != 15021
            if isinstance(port.get("targetPort"), str) or port.get("targetPort", port["port"]) in (80, 8080)
        ]

    def routes(self, nodes: tuple[LabNode, ...]) -> dict[str, dict[str, set[str]]]:
        """What each router should have, by its address: the addresses of nodes, by prefix."""
        addresses = {node.name: str(node.ipv4) for node in nodes}
        found: dict[str, dict[Any, set[str]]] = {address: {} for address in self.peers.values()}
        for row in self.plan["bgp"]:
            table = found[self.peers[row["peer"]]]
            table.setdefault(row["prefix"], set()).add(addresses[row["node"]])
        return found


class Stage:
    """An example that is applied."""

    def __init__(self, world: World, name: str) -> None:
        self.world = world
        self.example = Example(name)
        self.routers = {ROUTER: world.lab.router}

    def __enter__(self) -> "Stage":
        for one in self.example.of("Node"):
            labels = [f"{key}={value}" for key, value in one["metadata"].get("labels", {}).items()]
            if labels:
                kubectl(self.world, "label", "node", one["metadata"]["name"], *labels)
        pods = self.example.pods(self.world.lab.nodes)
        around = yaml.safe_dump_all([*self.example.of("Namespace"), *pods])
        kubectl(self.world, "apply", "--filename=-", *self.example.files, text=around)
        for pod in pods:
            path = f"/api/v1/namespaces/{pod['metadata']['namespace']}/pods/{pod['metadata']['name']}/status"
            self.world.call("PATCH", path, {"status": pod["status"]}, patch=True)
        return self

    def __exit__(self, *_: object) -> None:
        kubectl(self.world, "delete", *self.example.files)
        for pod in self.example.pods(self.world.lab.nodes):
            self.world.delete(
                f"/api/v1/namespaces/{pod['metadata']['namespace']}/pods/{pod['metadata']['name']}"
            )

    # --- what must be -----------------------------------------------------------------------------------

    def holds(self) -> None:
        """Everything is as planned: IPs, who announces them, and who answers at each port."""
        wanted = {row["service"]: row["ips"] for row in self.example.plan["allocations"]}
        wait_for(lambda: self.given() == wanted, f"{self.given()} is {wanted}", 15)
        for row in self.example.plan["layer2"]:
            self.owned(row["ip"], row["owner"])
        self.routed(self.example.routes(self.world.lab.nodes))
        for ips in wanted.values():
            for ip in ips:
                self.reached(ip)

    def given(self) -> dict[str, list[str]]:
        found = {}
        for one in self.example.services:
            namespace, name = one["metadata"]["namespace"], one["metadata"]["name"]
            status = self.world.call("GET", f"/api/v1/namespaces/{namespace}/services/{name}")["status"]
            ingress = status.get("loadBalancer", {}).get("ingress") or []
            found[f"{namespace}/{name}"] = [entry["ip"] for entry in ingress]
        return found

    def owned(self, ip: str, owner: str) -> None:
        """The switch hears answers for `ip` from this node alone; of IPv6 the client's kernel is asked."""

        def owned() -> bool:
            if ":" not in ip:
                return answering(self.world, ip) == {owner}
            self.curl("client", ip, 80)
            return self.world.owner(ip) == owner

        wait_for(owned, f"{owner} alone answers for {ip}", 15)

    def routed(self, wanted: dict[str, dict[str, set[str]]]) -> None:
        """Each router has its prefixes over these nodes, and no others."""
        for address, table in wanted.items():
            router = self.routers[address]
            there = lambda router=router: {p: set(hops) for p, hops in router.table().items()}  # noqa: E731
            wait_for(lambda there=there, table=table: there() == table, f"{address} has {table}", 20)

    def reached(self, ip: str) -> None:
        """A client answers for each port; on the segment where layer 2 is, behind the router where BGP is."""
        layer2 = {row["ip"]: row for row in self.example.plan["layer2"]}
        places = ["client"] if ip in layer2 else []
        if any(
            row["prefix"].startswith(f"{ip}/") and row["peer"] in self.example.peers for row in self.bgp()
        ):
            places.append("remote")
        for member in places:
            for port in self.example.ports(ip):
                wait_for(
                    lambda m=member, p=port: "web-node-" in self.curl(m, ip, p),
                    f"{ip}:{port} answers {member}",
                )

    def bgp(self) -> list[dict[str, Any]]:
        return [row for row in self.example.plan["bgp"] if self.example.peers[row["peer"]] == ROUTER]

    def curl(self, member: str, ip: str, port: int) -> str:
        host = f"[{ip}]" if ip_address(ip).version == 6 else ip
        return self.world.lab.exec(member, ["curl", "-s", "-m", "2", f"http://{host}:{port}/"]).stdout


def answering(world: World, ip: str) -> set[str]:
    """The ports at which the switch hears answers for this IPv4 address."""
    began = time.time()
    world.ask(ip)
    time.sleep(0.15)
    return {frame.port for frame in world.lab.switch.frames(kind="answer", since=began) if frame.sender == ip}


@pytest.mark.parametrize("name", ["layer2", "dual-stack", "sharing", "ingress", "one-ip", "gateways", "bgp"])
def test_an_example_does_what_was_planned(world: World, name: str) -> None:
    with Stage(world, name) as stage:
        stage.holds()


def test_an_ip_by_both_ways_is_reached_from_everywhere_also_without_bgp(world: World) -> None:
    with Stage(world, "mixed") as stage:
        stage.holds()
        kubectl(world, "delete", "bgppeer", "router", "--namespace=lbspeaker-system")
        stage.routed({ROUTER: {}})
        assert "web-node-" in stage.curl("remote", "192.0.2.64", 80), "the router asks by ARP"
        assert stage.curl("remote", "203.0.113.1", 80) == ""
        kubectl(world, "apply", *stage.example.files)


def test_local_keeps_clients_addresses_and_follows_the_pods(world: World) -> None:
    with Stage(world, "local") as stage:
        stage.holds()
        before = connections(world, "node-a")
        assert "web-node-a" in stage.curl("client", "192.0.2.60", 80)
        wait_for(lambda: bool(connections(world, "node-a") - before), "the connection has ended")
        (peer,) = connections(world, "node-a") - before
        assert peer.startswith("192.0.2.2:"), "the Pod saw the client itself"
        kubectl(world, "delete", "pod", "web-node-a", "--namespace=default")
        stage.owned("192.0.2.60", "node-b")
        stage.routed({ROUTER: {"203.0.113.1/32": {"192.0.2.202"}}})
        assert "web-node-b" in stage.curl("client", "192.0.2.60", 80)
        assert "web-node-b" in stage.curl("remote", "203.0.113.1", 80)


def connections(world: World, node: str) -> set[str]:
    """The addresses and ports that have called the backend there in the last minute: it hangs up first."""
    listed = world.lab.exec(node, ["ss", "-Htn", "state", "time-wait", "sport = :8080"]).stdout
    return {line.split()[3] for line in listed.splitlines()}


# --- several routers ------------------------------------------------------------------------------------


def add_router(world: World, address: str) -> Router:
    """One more FRR on the segment, which goes with the lab."""
    lab, name = world.lab, f"tor{address.rpartition('.')[2]}"
    namespace = lab.topology.namespace(name)
    namespaces.add([namespace])
    namespaces.configure(
        lab.topology.namespace(SWITCH),
        [f"link add {name} type veth peer name eth0 netns {namespace}", f"link set {name} master br0 up"],
    )
    namespaces.configure(namespace, ["link set eth0 up", f"address add {address}/24 dev eth0"])

    def spawn(daemon: str, argv: Any, environment: dict[str, str]) -> None:
        process = lab.roster.process(f"{name}-{daemon}", argv, name)
        process.environment = environment
        process.start()

    router = Router("frr", namespace, lab.directory / name)
    router.start(lab.topology, spawn, SERVICE_NETWORKS)
    return router


def typed(router: Router, line: str) -> str:
    words = ["vtysh", "--vty_socket", str(router.directory), "-c", line]
    return namespaces.run(router.namespace, words).stdout


@pytest.mark.skipif("frr" not in installed(), reason="FRR is not installed")
def test_routers_of_each_rack_have_its_nodes_and_the_backups_worse_routes(world: World) -> None:
    stage = Stage(world, "routers")
    others = sorted(set(stage.example.peers.values()) - {ROUTER})
    stage.routers |= {address: add_router(world, address) for address in others}
    with stage:
        stage.holds()
        told = {}
        for name, address in stage.example.peers.items():
            router = stage.routers[address]
            paths = json.loads(typed(router, "show bgp ipv4 unicast 203.0.113.1/32 json"))["paths"]
            told[name] = {
                (path["aspath"]["string"], path["metric"], path["community"]["string"]) for path in paths
            }
            nodes = len({row["node"] for row in stage.example.plan["bgp"] if row["peer"] == name})
            wait_for(
                lambda r=router, n=nodes: (
                    len(re.findall(r"192\.0\.2\.20\d +up", typed(r, "show bfd peers brief"))) == n
                ),
                f"BFD is up at {name}",
            )
        primary, backup = {("64513", 10, "64512:100")}, {("64513 64513 64513", 100, "64512:100 64512:666")}
        assert told == {"tor-1a": primary, "tor-1b": backup, "tor-2a": primary, "tor-2b": backup}


# --- no cluster -----------------------------------------------------------------------------------------


def test_a_box_without_a_cluster_answers_for_what_its_files_say(world: World, tmp_path: Path) -> None:
    """node-a is the box: it does as the comments and the unit of the example say."""
    files = tmp_path / "files"
    shutil.copytree(EXAMPLES / "files", files)
    service = (files / "service.yaml").read_text()
    commands = re.findall(r"^#   (.*)$", service, re.MULTILINE)
    assert len(commands) == 2
    serve = ["http.server", "--bind", "192.0.2.60", "80", "--directory", str(files)]
    world.lab.stop("speaker-node-a")
    for line in commands:
        done = world.lab.exec("node-a", line.split())
        assert done.returncode == 0, done.stderr
    box = world.lab.topology.namespace("node-a")
    lines = [namespaces.command(box, argv) for argv in (unit(files), [sys.executable, "-m", *serve])]
    with (tmp_path / "log").open("w") as log:
        running = [subprocess.Popen(line, stdout=log, stderr=log) for line in lines]
    try:
        wait_for(lambda: "default/web" in ledger(world), f"it is reached: {tmp_path}/log", 20)
        wait_for(lambda: answering(world, "192.0.2.60") == {"node-a"}, "the box alone answers")
        (files / "service.yaml").write_text(service.replace("{ready: true}", "{ready: false}"))
        wait_for(lambda: not answering(world, "192.0.2.60"), "it falls silent", 5)
        time.sleep(0.2)
        assert not answering(world, "192.0.2.60"), "and stays so"
    finally:
        for process in running:
            process.terminate()
            process.wait(15)


def unit(files: Path) -> list[str]:
    """The command line of the unit for systemd, with its capabilities, for files that are here."""
    text = (files / "lbspeaker.service").read_text()
    (words,) = re.findall(r"^ExecStart=/usr/local/bin/lbspeaker (.*)$", text, re.MULTILINE)
    (kept,) = re.findall(r"^CapabilityBoundingSet=(.*)$", text, re.MULTILINE)
    powers = ["-all", *(power.lower().replace("cap_", "+") for power in kept.split())]
    argv = [
        "setpriv",
        "--no-new-privs",
        f"--bounding-set={','.join(powers)}",
        sys.executable,
        "-m",
        "lbspeaker",
    ]
    argv += words.replace("/etc/lbspeaker", str(files)).split()
    return [*argv, "--runtime-dir", str(files.parent / "run")]


def ledger(world: World) -> str:
    """What the client reads at the service IP: the file in which the speaker keeps its allocations."""
    words = ["curl", "-s", "-m", "2", "http://192.0.2.60/.lbspeaker-allocations.json"]
    return world.lab.exec("client", words).stdout
