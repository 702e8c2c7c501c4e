"""A lab with everything in it, and words to tell stories about it."""

import itertools
import json
import os
import socket
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from ipaddress import ip_address
from typing import Any

import pytest

from lbspeaker.core.election import rank
from lbspeaker.errors import LbspeakerError, Unavailable
from lbspeaker.lab import namespaces
from lbspeaker.lab.lab import Lab

SYSTEM = "lbspeaker-system"
CONFIG = f"/apis/lbspeaker.io/v1beta1/namespaces/{SYSTEM}"
SERVICES = "/api/v1/namespaces/default/services"


class World:
    """The lab, as its users see it."""

    def __init__(self, lab: Lab) -> None:
        self.lab = lab

    # -- the API --

    def call(self, method: str, path: str, body: object = None, *, patch: bool = False) -> Any:
        request = urllib.request.Request(self.lab.api() + path, method=method)  # noqa: S310
        if body is not None:
            request.data = json.dumps(body).encode()
            kind = "application/merge-patch+json" if patch else "application/json"
            request.add_header("Content-Type", kind)
        with urllib.request.urlopen(request, timeout=10) as answer:  # noqa: S310
            return json.load(answer)

    def create(self, kind: str, name: str, **spec: Any) -> None:
        body = {"apiVersion": "lbspeaker.io/v1beta1", "kind": kind, "metadata": {"name": name}, "spec": spec}
        plural = f"{kind.lower().removesuffix('y')}ies" if kind.endswith("y") else f"{kind.lower()}s"
        self.call("POST", f"{CONFIG}/{plural}", body)

    def delete(self, path: str) -> None:
        try:
            self.call("DELETE", path)
        except urllib.error.HTTPError as error:
            if error.code != 404:
                raise

    def published(self) -> set[str]:
        """The objects that speakers follow."""
        try:
            found = self.call("GET", f"{CONFIG}/effectiveconfigurations/lbspeaker")
        except urllib.error.HTTPError:
            return set()
        return {f"{d['kind']}/{d['metadata']['name']}" for d in found["spec"].get("documents", ())}

    def advertised(self) -> dict[str, Any]:
        """What speakers follow as the spec of the first L2Advertisement."""
        found = self.call("GET", f"{CONFIG}/effectiveconfigurations/lbspeaker")["spec"]["documents"]
        return next((dict(d["spec"]) for d in found if d["kind"] == "L2Advertisement"), {})

    def service(self, name: str, **spec: Any) -> None:
        annotations = spec.pop("annotations", {})
        ports = [{"name": "http", "port": 80, "targetPort": 8080}]
        spec = {"type": "LoadBalancer", "selector": {"app": "web"}, "ports": ports, **spec}
        metadata = {"name": name, "annotations": annotations}
        self.call(
            "POST", SERVICES, {"apiVersion": "v1", "kind": "Service", "metadata": metadata, "spec": spec}
        )

    def ips(self, name: str) -> list[str]:
        status = self.call("GET", f"{SERVICES}/{name}")["status"]
        return [entry["ip"] for entry in status.get("loadBalancer", {}).get("ingress") or []]

    def ip(self, name: str) -> str:
        """The IP of a service, once it has one."""
        wait_for(lambda: bool(self.ips(name)), f"{name} gets an IP")
        return self.ips(name)[0]

    def events(self, name: str) -> list[str]:
        found = self.call("GET", "/api/v1/namespaces/default/events")["items"]
        return [f"{e['reason']}: {e['message']}" for e in found if e["involvedObject"]["name"] == name]

    # -- the segment --

    def ask(self, ip: str) -> None:
        """Make the client's kernel ask the segment who has `ip`, whatever it knew before."""
        self.lab.exec("client", ["ip", "neigh", "flush", "dev", "eth0", "nud", "all"])
        client = self.lab.topology.namespace("client")
        with namespaces.socket_in(client, socket.AF_INET, socket.SOCK_DGRAM) as datagram:
            datagram.sendto(b"", (ip, 9))

    def answers(self, ip: str, member: str = "client") -> bool:
        try:
            return "web-" in self.lab.curl(ip, member, timeout_s=2.0)
        except Unavailable:
            return False

    def reachable(self, ip: str, member: str = "client") -> None:
        wait_for(lambda: self.answers(ip, member), f"{ip} answers {member}", 10)

    def owner(self, ip: str) -> str:
        """The node whose MAC the client holds for `ip`."""
        shown = self.lab.exec("client", ["ip", "-j", "neigh", "show", ip, "dev", "eth0"]).stdout
        mac = next((entry.get("lladdr", "") for entry in json.loads(shown or "[]")), "")
        return next((n.name for n in self.lab.nodes if n.mac.hex(":") == mac), "")

    def settle(self, ip: str) -> str:
        """Wait until only the one whom all live nodes elect answers for `ip`, and return it."""
        elected = ""

        def owned() -> bool:
            nonlocal elected
            elected = self.elected(ip)
            began = time.time()
            self.ask(ip)
            time.sleep(0.2)
            frames = self.lab.switch.frames(kind="answer", since=began)
            answering = {frame.port for frame in frames if frame.sender == ip}
            return answering == {elected} and self.answers(ip)

        wait_for(owned, f"the elected one owns {ip}", 20)
        return elected

    def leases(self) -> list[dict[str, Any]]:
        path = f"/apis/coordination.k8s.io/v1/namespaces/{SYSTEM}/leases"
        return list(self.call("GET", path)["items"])

    def elected(self, ip: str) -> str:
        """The owner if all nodes live: the first of the ranking, unless the IP is pinned to another one."""
        annotations = [lease["metadata"].get("annotations", {}) for lease in self.leases()]
        written = [one.get("lbspeaker.io/pins") for one in annotations]
        pins = [pins[ip] for pins in map(json.loads, filter(None, written)) if ip in pins]
        first = rank(ip_address(ip), {node.name: 0 for node in self.lab.nodes})[0]
        return str(max(pins, key=lambda pin: pin[1])[0]) if pins else first

    def status(self, node: str) -> list[str]:
        """The command line of `lbspeaker status` there."""
        where = ["--runtime-dir", str(self.lab.directory / node)]
        return [sys.executable, "-m", "lbspeaker", "status", *where]

    def answerer(self, node: str) -> int:
        """The process of its answerer."""
        speaker = str(self.lab.processes[f"speaker-{node}"].pid)
        (pid,) = subprocess.run(
            ["pgrep", "-P", speaker, "-f", "lbspeaker.answerer"], capture_output=True, text=True, check=True
        ).stdout.split()
        return int(pid)

    def log(self, node: str) -> str:
        return self.lab.log(f"speaker-{node}")

    def unsolicited(self, since: float) -> list[str]:
        """The unsolicited frames that the switch saw from nodes since then (Unix time), in words."""
        nodes = {node.name for node in self.lab.nodes}
        seen = self.lab.switch.frames(kind="gratuitous", since=since)
        return [
            f"{frame.time - since:.2f} s: {frame.port} for {frame.target}"
            for frame in seen
            if frame.port in nodes
        ]

    def quiet(self) -> float:
        """Wait until nothing was sent for longer than any repeat waits; return when that was (Unix time)."""
        wait_for(lambda: not self.unsolicited(time.time() - 4), "the last repeat has left", 20)
        return time.time()


class Probe:
    """A client that connects to one IP all the time, and remembers when that worked."""

    def __init__(self, world: World, ip: str, every_s: float = 0.02, member: str = "client") -> None:
        self._world, self._ip, self._every_s, self._member = world, ip, every_s, member
        self._ok: list[float] = []
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run)

    def __enter__(self) -> "Probe":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._stop.wait(self._every_s):
            began = time.monotonic()
            try:
                self._world.lab.curl(self._ip, self._member, timeout_s=0.25)
            except Unavailable:
                continue
            self._ok.append(began)

    def longest_gap(self) -> float:
        times = self._ok
        return max((b - a for a, b in itertools.pairwise(times)), default=float("inf"))


def wait_for(condition: Callable[[], bool], what: str, seconds: float = 10.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            raise AssertionError(f"not within {seconds} s: {what}")
        time.sleep(0.05)


@pytest.fixture(scope="module")
def world() -> Iterator[World]:
    try:
        lab = Lab.up(name=f"s{os.getpid()}", guard="standard")
    except LbspeakerError as error:
        pytest.skip(str(error))
    with lab:
        found = World(lab)
        found.create("IPAddressPool", "lan", addresses=["192.0.2.100-192.0.2.150", "2001:db8::100/120"])
        found.create("L2Advertisement", "lan")
        wait_for(lambda: found.published() == {"IPAddressPool/lan", "L2Advertisement/lan"}, "configuration")
        yield found
