"""MetalLB in a lab: its objects, and on each node a stand-in for its speaker, which a DaemonSet has there.

What a stand-in does is what MetalLB 0.15's speaker does. Layer 2: it answers ARP and NDP for the IPs that its
election gives it (SHA-256 of "node#ip", lowest first, of the first IP of a Service), and tells of new ones
five times, unasked. BGP: bgpd of FRR with the configuration that the FRR mode renders. With METALLB_SPEAKER,
a file, it is that program, in native mode: `go install go.universe.tf/metallb/speaker@v0.15.2` builds it.

    python -m tests.scenarios.metallb LINK MAC     layer 2 of one node; each line of stdin: its IPs
"""

import hashlib
import os
import select
import shutil
import signal
import socket
import struct
import subprocess
import sys
import threading
import time
import urllib.error
from collections.abc import Iterator, Mapping
from contextlib import suppress
from ipaddress import ip_address
from pathlib import Path
from typing import Any

from lbspeaker.lab import namespaces
from lbspeaker.lab.topology import LabNode
from tests.scenarios.conftest import World

SPEAKER = os.environ.get("METALLB_SPEAKER", "")
SYSTEM = "metallb-system"
DAEMONSETS = f"/apis/apps/v1/namespaces/{SYSTEM}/daemonsets"
OBJECTS = f"/apis/metallb.io/v1beta1/namespaces/{SYSTEM}"
_FRR = Path("/usr/lib/frr")
_GRACE_S = 2.0  # terminationGracePeriodSeconds of its manifest
_LOOK_S = 0.05

# MetalLB's internal/bgp/frr/templates, for one IPv4 neighbor
_CONF = """hostname {node}
ip nht resolve-via-default
route-map 192.0.2.1-in deny 20
ip prefix-list 192.0.2.1-64512:7-ipv4-community-prefixes seq 1 permit 203.0.113.0/24 le 32
route-map 192.0.2.1-out permit 1
  match ip address prefix-list 192.0.2.1-64512:7-ipv4-community-prefixes
  set community 64512:7 additive
  on-match next
{permits}
route-map 192.0.2.1-out permit 2
  match ip address prefix-list 192.0.2.1-allowed-ipv4
router bgp 64513
  no bgp ebgp-requires-policy
  no bgp network import-check
  no bgp default ipv4-unicast
  bgp graceful-restart preserve-fw-state
  neighbor 192.0.2.1 remote-as 64512
  neighbor 192.0.2.1 timers 3 9
  neighbor 192.0.2.1 timers connect 1
  {restart}
  address-family ipv4 unicast
    neighbor 192.0.2.1 activate
    neighbor 192.0.2.1 route-map 192.0.2.1-in in
    neighbor 192.0.2.1 route-map 192.0.2.1-out out
{networks}
  exit-address-family
"""


class MetalLB:
    """Its DaemonSet's controller, and what runs on each node; until it is closed."""

    def __init__(self, world: World, directory: Path, routes: Mapping[str, list[str]]) -> None:
        """`routes`: by node, the prefixes that it tells the router."""
        self._world, self._directory, self._routes = world, directory, routes
        self._running: dict[str, list[subprocess.Popen[str]]] = {}
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run)
        self._failed: BaseException | None = None

    def __enter__(self) -> "MetalLB":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()
        for node in [*self._running]:
            self._end(node)

    def works(self) -> bool:
        """Whether it still does. Raises what it failed with."""
        if self._failed is not None:
            raise self._failed
        return True

    def _run(self) -> None:
        try:
            while not self._stop.wait(_LOOK_S):
                self._look()
        except BaseException as error:
            self._failed = error

    def _look(self) -> None:
        """Start and end what the DaemonSet selects, as its controller does, and tell layer 2 what is its."""
        labels = {
            one["metadata"]["name"]: one["metadata"].get("labels") or {}
            for one in self._list("/api/v1/nodes")
        }
        wanted = self._selected(labels)
        for node in self._world.lab.nodes:
            if node.name in wanted and node.name not in self._running:
                self._running[node.name] = [*self._start(node)]
            elif node.name not in wanted and node.name in self._running:
                self._end(node.name)
        if SPEAKER:
            return
        announced = bool(self._list(f"{OBJECTS}/l2advertisements"))
        mine: dict[str, list[str]] = {node: [] for node in self._running}
        for service in self._list("/api/v1/services") if announced and mine else []:
            ingress = (service.get("status") or {}).get("loadBalancer", {}).get("ingress") or []
            ips = [one["ip"] for one in ingress if not one["ip"].startswith("203.0.113.")]
            if ips:
                mine[elected(ips[0], mine)] += ips
        for node, ips in mine.items():
            layer2 = self._running[node][0].stdin
            assert layer2 is not None
            layer2.write(" ".join(ips) + "\n")
            layer2.flush()

    def _selected(self, labels: Mapping[str, Mapping[str, str]]) -> set[str]:
        try:
            spec = self._world.call("GET", f"{DAEMONSETS}/speaker")["spec"]["template"]["spec"]
        except urllib.error.HTTPError:
            return set()
        wanted = (spec.get("nodeSelector") or {}).items()
        return {node for node, said in labels.items() if wanted <= said.items()}

    def _list(self, path: str) -> list[dict[str, Any]]:
        return list(self._world.call("GET", path)["items"])

    # -- on a node --

    def _start(self, node: LabNode) -> Iterator[subprocess.Popen[str]]:
        if SPEAKER:
            yield self._spawn(
                node, [SPEAKER, "--port=7472", "--log-level=info"], _environment(self._world, node)
            )
            return
        yield self._spawn(node, [sys.executable, "-m", "tests.scenarios.metallb", "eth0", node.mac.hex()], {})
        directory = self._directory / f"metallb-{node.name}"
        directory.mkdir(exist_ok=True)
        shutil.chown(directory, "frr", "frr")
        (directory / "bgpd.conf").write_text(_configuration(node.name, self._routes.get(node.name, [])))
        (directory / "zebra.conf").write_text("hostname node\n")
        for daemon in ("zebra", "bgpd"):
            files = f"-f {directory}/{daemon}.conf -i {directory}/{daemon}.pid -z {directory}/zserv.api"
            sockets = f"--vty_socket {directory} --vty_port 0 {'-p 0' if daemon == 'bgpd' else ''}"
            yield self._spawn(
                node, [str(_FRR / daemon), *files.split(), *sockets.split(), "--log", "stdout"], {}
            )
            _wait_for(directory / ("zserv.api" if daemon == "zebra" else "bgpd.vty"))

    def _spawn(self, node: LabNode, argv: list[str], environment: Mapping[str, str]) -> subprocess.Popen[str]:
        line = namespaces.command(self._world.lab.topology.namespace(node.name), argv)
        with (self._directory / f"metallb-{node.name}.log").open("a") as log:
            return subprocess.Popen(
                line, stdin=subprocess.PIPE, stdout=log, stderr=log, text=True, env=os.environ | environment
            )

    def _end(self, node: str) -> None:
        """As a kubelet does: SIGTERM, and SIGKILL after the grace."""
        processes = self._running.pop(node)
        for process in processes:
            process.send_signal(signal.SIGTERM)
        deadline = time.monotonic() + _GRACE_S
        for process in processes:
            with suppress(subprocess.TimeoutExpired):
                process.wait(max(deadline - time.monotonic(), 0.01))
            process.kill()
            process.wait()
            if process.stdin:
                with suppress(BrokenPipeError):
                    process.stdin.close()


def elected(ip: str, nodes: Mapping[str, object]) -> str:
    """speaker/layer2_controller.go of MetalLB: the lowest hash of "node#ip"."""
    return min(nodes, key=lambda node: hashlib.sha256(f"{node}#{ip}".encode()).digest())


def _configuration(node: str, prefixes: list[str]) -> str:
    permit = "ip prefix-list 192.0.2.1-allowed-ipv4 seq {} permit {}"
    permits = [permit.format(number, prefix) for number, prefix in enumerate(prefixes, 1)]
    return _CONF.format(
        node=node,
        permits="\n".join(permits),
        networks="\n".join(f"    network {prefix}" for prefix in prefixes),
        restart="neighbor 192.0.2.1 graceful-restart",
    )


def _environment(world: World, node: LabNode) -> dict[str, str]:
    return {
        "KUBECONFIG": str(world.lab.node_kubeconfig),
        "METALLB_NODE_NAME": node.name,
        "METALLB_POD_NAME": f"speaker-{node.name}",
        "METALLB_NAMESPACE": SYSTEM,
        "METALLB_BGP_TYPE": "native",
        "METALLB_HOST": "127.0.0.1",
        "METALLB_ML_BIND_ADDR": str(node.ipv4),
        "METALLB_ML_LABELS": "app=metallb,component=speaker",
    }


def _wait_for(path: Path) -> None:
    deadline = time.monotonic() + 10
    while not path.exists():
        if time.monotonic() > deadline:
            raise AssertionError(f"{path} is not there")
        time.sleep(0.02)


# --- layer 2 of one node ---------------------------------------------------------------------------------

_TOLD, _EVERY_S = 5, 1.1  # how often a new IP is told, and how far apart


def layer2(link: str, mac: bytes) -> None:
    """Answer for the IPs of the last line of stdin, until SIGTERM or its end."""
    arp = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(0x0806))
    arp.bind((link, 0x0806))
    ndp = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(0x86DD))
    ndp.bind((link, 0x86DD))
    index = socket.if_nametoindex(link)
    ndp.setsockopt(263, 1, struct.pack("iHH8s", index, 2, 0, b""))  # all of multicast
    mine: dict[bytes, list[float]] = {}  # IP, and when it is told again
    rest = b""
    while True:
        ready, _, _ = select.select([0, arp, ndp], [], [], 0.05)
        if 0 in ready:
            data = os.read(0, 65536)
            if not data:
                return
            *lines, rest = (rest + data).split(b"\n")
            if lines:
                now = time.monotonic()
                ips = [ip_address(word).packed for word in lines[-1].decode().split()]
                mine = {ip: mine.get(ip, [now + _EVERY_S * n for n in range(_TOLD)]) for ip in ips}
        if arp in ready:
            frame = arp.recv(2048)
            if frame[20:22] == b"\x00\x01" and frame[38:42] in mine and frame[6:12] != mac:
                arp.send(_arp(mac, 2, frame[38:42], frame[6:12], frame[22:28], frame[28:32]))
        if ndp in ready:
            frame = ndp.recv(2048)
            if frame[20] == 58 and frame[54:55] == b"\x87" and frame[62:78] in mine and frame[6:12] != mac:
                ndp.send(_advertisement(mac, frame[62:78], frame[6:12], frame[22:38]))
        for ip, due in mine.items():
            if due and time.monotonic() >= due[0]:
                due.pop(0)
                if len(ip) == 4:
                    arp.send(_arp(mac, 1, ip, b"\xff" * 6, b"\xff" * 6, ip))
                    arp.send(_arp(mac, 2, ip, b"\xff" * 6, b"\xff" * 6, ip))


def _arp(mac: bytes, op: int, ip: bytes, to: bytes, target_mac: bytes, target: bytes) -> bytes:
    fixed = b"\x08\x06\x00\x01\x08\x00\x06\x04" + struct.pack("!H", op)
    return to + mac + fixed + mac + ip + target_mac + target


def _advertisement(mac: bytes, ip: bytes, to: bytes, target: bytes) -> bytes:
    """A solicited neighbour advertisement, without the override flag (RFC 4861 §4.4)."""
    body = b"\x88\x00\x00\x00\x40\x00\x00\x00" + ip + b"\x02\x01" + mac
    pseudo = ip + target + struct.pack("!IHBB", len(body), 0, 0, 58)
    total = sum(struct.unpack(f"!{len(pseudo + body) // 2}H", pseudo + body))
    total = (total & 0xFFFF) + (total >> 16)
    total = (total & 0xFFFF) + (total >> 16)
    body = body[:2] + struct.pack("!H", ~total & 0xFFFF) + body[4:]
    return to + mac + b"\x86\xdd" + struct.pack("!IHBB", 0x60000000, len(body), 58, 255) + ip + target + body


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, lambda *_: os._exit(0))
    layer2(sys.argv[1], bytes.fromhex(sys.argv[2]))
