"""A router that is configured as `lbspeaker upstream config` says, nodes that speak to it, and the check.

The segment of the lab, with a real FRR or BIRD in the place of the router; on the nodes ExaBGP announces what
a speaker would. The documents that both commands read are the same.
"""

import contextlib
import itertools
import json
import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from lbspeaker.lab import namespaces, topology
from lbspeaker.lab.topology import LabNode
from lbspeaker.shell.child import exabgp_command

FRR = Path("/usr/lib/frr")
_serial = itertools.count()
POOLS = """
apiVersion: lbspeaker.io/v1beta1
kind: IPAddressPool
metadata: {name: routed, namespace: lbspeaker-system}
spec: {addresses: [203.0.113.0/24, "2001:db8:203::/120"]}
---
apiVersion: lbspeaker.io/v1beta1
kind: BGPAdvertisement
metadata: {name: routed, namespace: lbspeaker-system}
---
apiVersion: lbspeaker.io/v1beta1
kind: BGPPeer
metadata: {name: router, namespace: lbspeaker-system}
spec: {myASN: 64513, peerASN: 64512, peerAddress: 192.0.2.1, holdTime: 9s%s}
"""
_NODE = """---
apiVersion: v1
kind: Node
metadata: {name: %s}
status: {addresses: [{type: InternalIP, address: %s}, {type: InternalIP, address: "%s"}]}
"""
_SERVICE = """---
apiVersion: v1
kind: Service
metadata: {name: web, namespace: default}
spec:
  type: LoadBalancer
  externalTrafficPolicy: Local
  ipFamilyPolicy: RequireDualStack
  ipFamilies: [IPv4, IPv6]
  clusterIPs: [10.96.0.1, "fd00:96::1"]
  ports: [{port: 80}]
status: {loadBalancer: {ingress: [{ip: 203.0.113.7}, {ip: "2001:db8:203::7"}]}}
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {name: web, namespace: default, labels: {kubernetes.io/service-name: web}}
addressType: IPv4
endpoints: [%s]
"""
FOUR, SIX = "203.0.113.7/32", "2001:db8:203::7/128"


class Bench:
    """Three nodes and a router in namespaces, and documents that describe them."""

    def __init__(self, name: str, directory: Path, peer: str = "") -> None:
        self.picture = topology.topology(f"{name}{os.getpid()}x{next(_serial)}", 3)
        self.directory = directory
        self.processes: dict[str, subprocess.Popen[bytes]] = {}
        self.documents = directory / "documents.yaml"
        self.describe(peer)
        namespaces.build(self.picture)

    def close(self) -> None:
        namespaces.remove(namespaces.existing(self.picture.prefix))
        for process in self.processes.values():
            process.kill()  # whoever had not entered its namespace yet
            process.wait(10)

    def describe(self, peer: str = "", pools: str = POOLS) -> None:
        """Write the documents; `peer` is what else the BGPPeer says, like ", password: x"."""
        nodes = "".join(_NODE % (n.name, n.ipv4, n.ipv6) for n in self.picture.nodes)
        endpoints = ", ".join(
            f"{{addresses: [10.0.0.1], nodeName: {n.name}, conditions: {{ready: true}}}}"
            for n in self.picture.nodes
        )
        self.documents.write_text(pools % peer + nodes + _SERVICE % endpoints)

    def spawn(self, member: str, name: str, argv: Sequence[str], **environment: str) -> None:
        with (self.directory / f"{name}.log").open("ab") as log:
            self.processes[name] = subprocess.Popen(
                namespaces.command(self.picture.namespace(member), argv),
                env=os.environ | environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )

    # -- the nodes --

    def speak(
        self, node: LabNode, extra: str = "", attributes: str = "", asn: int = 64513, family: int = 4
    ) -> None:
        """Announce the IPs of the Service from a node. `extra` is about the session, which is of `family`."""
        router = self.picture.router
        theirs, own = (router.ipv4, node.ipv4) if family == 4 else (router.ipv6, node.ipv6)
        lines = [
            f"neighbor {theirs} {{",
            f"  router-id {node.ipv4}; local-address {own};",
            f"  local-as {asn}; peer-as 64512; hold-time 9; {extra}",
            "  family { ipv4 unicast; ipv6 unicast; } capability { route-refresh enable; }",
            f"  static {{ route {FOUR} next-hop {node.ipv4} {attributes};",
            f"    route {SIX} next-hop {node.ipv6} {attributes}; }}",
            "}",
        ]
        file = self.directory / f"{node.name}.conf"
        file.write_text("\n".join(lines) + "\n")
        settings = {"exabgp_daemon_user": "root", "exabgp_daemon_drop": "false", "exabgp_api_cli": "false"}
        settings["PYTHONUNBUFFERED"] = "1"  # else it may lose the signal that ends it
        self.spawn(node.name, node.name, [*exabgp_command(), "server", str(file)], **settings)

    def say(self, node: LabNode, words: bytes) -> None:
        """Dial the router from a node whose speaker is silent, say this, and wait until it hangs up."""

        def talk() -> None:
            with contextlib.suppress(ConnectionError):
                address = str(self.picture.router.ipv4), 179
                with socket.create_connection(address, 3, (str(node.ipv4), 0)) as connection:
                    connection.sendall(words)
                    while connection.recv(4096):
                        pass

        namespaces.inside(self.picture.namespace(node.name), talk)

    def silence(self, node: LabNode) -> None:
        process = self.processes.pop(node.name)
        process.terminate()
        process.wait(10)

    # -- the router --

    @property
    def frr_command(self) -> str:
        return f"vtysh --vty_socket {self.directory}/frr"

    @property
    def bird_command(self) -> str:
        return f"birdc -r -s {self.directory}/bird.ctl"

    def start_frr(self) -> None:
        """Its daemons, without any configuration."""
        directory = self.directory / "frr"
        directory.mkdir()
        shutil.chown(directory, "frr", "frr")
        for daemon in ("zebra", "bgpd", "staticd", "bfdd"):
            (directory / f"{daemon}.conf").write_text("hostname router\n")
            argv = [str(FRR / daemon), "-f", f"{directory}/{daemon}.conf", "-i", f"{directory}/{daemon}.pid"]
            argv += ["-z", f"{directory}/zserv.api", "--vty_socket", str(directory), "--vty_port", "0"]
            control = ["--bfdctl", f"{directory}/bfdd.sock"] if daemon == "bfdd" else []
            self.spawn("router", daemon, [*argv, "--log", "stdout", *control])
            eventually((directory / f"{daemon}.vty").exists, True)

    def vtysh(self, *commands: str) -> str:
        """Run commands in FRR; the first may be `configure terminal`."""
        argv = self.frr_command.split() + [word for each in commands for word in ("-c", each)]
        done = subprocess.run(argv, capture_output=True, text=True, timeout=20, check=False)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    def load_frr(self, text: str) -> None:
        """As a person would: vtysh -f FILE. Anything that it says is an error."""
        file = self.directory / "lbspeaker.conf"
        file.write_text(text)
        argv = [*self.frr_command.split(), "-f", str(file)]
        done = subprocess.run(argv, capture_output=True, text=True, timeout=20, check=False)
        assert (done.returncode, done.stdout, done.stderr) == (0, "", "")

    def start_bird(self, text: str) -> None:
        file = self.directory / "bird.conf"
        file.write_text(text)
        argv = ["bird", "-f", "-c", str(file), "-s", f"{self.directory}/bird.ctl"]
        self.spawn("router", "bird", [*argv, "-P", f"{self.directory}/bird.pid"])
        eventually((self.directory / "bird.ctl").exists, True)

    def reload_bird(self, change: Callable[[str], str]) -> None:
        file = self.directory / "bird.conf"
        before = file.read_text()
        after = change(before)
        assert after != before, "nothing was changed"
        file.write_text(after)
        assert "Reconfigur" in self.birdc("configure")

    def birdc(self, command: str) -> str:
        argv = ["birdc", "-s", f"{self.directory}/bird.ctl", command]
        return subprocess.run(argv, capture_output=True, text=True, timeout=20, check=False).stdout

    # -- the commands --

    def config(self, router: str, *options: str) -> str:
        done = lbspeaker("upstream", "config", "--for", router, *options, str(self.documents))
        assert done.returncode == 0, done.stderr
        return done.stdout

    def check(self, *options: str) -> dict[str, Any]:
        """What `upstream check -o json` says, with its exit code."""
        done = lbspeaker("upstream", "check", *options, "-o", "json", str(self.documents))
        assert done.returncode in (0, 1), done.stderr
        return {**json.loads(done.stdout), "code": done.returncode}


def lbspeaker(*words: str, **environment: str) -> subprocess.CompletedProcess[str]:
    argv = [sys.executable, "-m", "lbspeaker", *words]
    return subprocess.run(
        argv, capture_output=True, text=True, timeout=60, check=False, env=os.environ | environment
    )


def eventually(question: Callable[[], object], expected: object, within_s: float = 25.0) -> None:
    began = time.monotonic()
    while (answer := question()) != expected:
        assert time.monotonic() - began < within_s, f"{answer} is not {expected} after {within_s} s"
        time.sleep(0.1)
