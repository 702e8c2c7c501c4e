"""Which processes a lab has, where each lives, and how it is started. Values only: nothing is started here.

==================  =========  ==============================================================
process             where      what it is
==================  =========  ==============================================================
apiserver           here       the API server in memory (or `forward`, to one that exists)
switch              switch     writes down ARP frames, shuts ports that storm
backend-NODE        NODE       the pod: a tiny HTTP server
cluster             control    stand-ins: Nodes, Pods, EndpointSlices, kube-proxy
router              router     FRR (with router-zebra, router-bfdd), BIRD or ExaBGP: see `routers`
controller          control    ours
speaker-NODE        NODE       ours
==================  =========  ==============================================================
"""

import sys
from collections.abc import Sequence
from pathlib import Path

from lbspeaker.lab import switch
from lbspeaker.lab.processes import Listen, Process
from lbspeaker.lab.topology import API_ADDRESS, API_PORT, CONTROL, POD_PORTS, SWITCH, LabNode, Topology

_PYTHON = [sys.executable, "-m"]


class Roster:
    """Names and command lines of the processes of one lab, whose files are in `directory`."""

    def __init__(self, lab: Topology, directory: Path) -> None:
        self._lab = lab
        self._directory = directory
        self.kubeconfig = directory / "kubeconfig-nodes"  # for everybody inside
        self.crds = directory / "crds.yaml"
        self.switch_log = directory / "switch.jsonl"

    def process(self, name: str, argv: Sequence[str], member: str = "") -> Process:
        """Return a process of the lab; without a member it lives where its starter does."""
        namespace = self._lab.namespace(member) if member else ""
        return Process(name, list(argv), str(self._directory / f"{name}.log"), namespace)

    def api_on_control(self) -> Listen:
        """Where programs inside reach the API server."""
        return Listen(API_ADDRESS, API_PORT, self._lab.namespace(CONTROL))

    def apiserver(self, address: str, port: int) -> Process:
        process = self.process("apiserver", [*_PYTHON, "lbspeaker.lab.apiserver", "--load", str(self.crds)])
        process.listens = [Listen(address, port), self.api_on_control()]
        return process

    def forward(self, host: str, port: int) -> Process:
        process = self.process("forward", [*_PYTHON, "lbspeaker.lab.forward", f"{host}:{port}"])
        process.listens = [self.api_on_control()]
        return process

    def switch(self, guard_pps: int | None) -> Process:
        ports = [host.name for host in self._lab.hosts]
        guarded = [node.name for node in self._lab.nodes]
        return self.process("switch", switch.argv(ports, self.switch_log, guard_pps, guarded), SWITCH)

    def backend(self, node: LabNode) -> Process:
        argv = [*_PYTHON, "lbspeaker.lab.backend", f"web-{node.name}"]
        process = self.process(f"backend-{node.name}", argv, node.name)
        namespace = self._lab.namespace(node.name)
        process.listens = [Listen(str(pod), port, namespace) for pod in node.pods for port in POD_PORTS]
        return process

    def cluster(self, *, with_crds: bool) -> Process:
        """`with_crds`: the API server does not have them yet."""
        argv = [*_PYTHON, "lbspeaker.lab.cluster", "--kubeconfig", str(self.kubeconfig)]
        argv += ["--lab", self._lab.name, "--nodes", str(len(self._lab.nodes))]
        return self.process("cluster", [*argv, "--crds", str(self.crds)] if with_crds else argv, CONTROL)

    def controller(self) -> Process:
        argv = [*_PYTHON, "lbspeaker", "controller", "--kubeconfig", str(self.kubeconfig)]
        return self.process("controller", argv, CONTROL)

    def speaker(self, node: LabNode, guard: str) -> Process:
        """The speaker of a node, with this guard profile."""
        argv = [*_PYTHON, "lbspeaker", "speaker", "--node", node.name, "--kubeconfig", str(self.kubeconfig)]
        argv += ["--runtime-dir", str(self._directory / node.name), "--guard", guard]
        return self.process(f"speaker-{node.name}", argv, node.name)
