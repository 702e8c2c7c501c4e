"""A whole cluster on one machine: made, found again, disturbed, and removed without a trace.

What runs is in `roster`, who lives where in `topology`. The state is a file, so that a later command finds
the lab; removal works with it and without it.
"""

import asyncio
import http.client
import os
import re
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

import msgspec
import yaml

from lbspeaker.errors import Unable, Unavailable
from lbspeaker.lab import access, namespaces, rootless, routers
from lbspeaker.lab.processes import Listen, Process
from lbspeaker.lab.roster import Roster
from lbspeaker.lab.routers import Router, RouterKind
from lbspeaker.lab.switch import DEFAULT_GUARD_PPS, Switch
from lbspeaker.lab.topology import CLIENT, CONTROL, ROUTER, SWITCH, LabNode, Topology, topology

DEFAULT_NAME = "lab"
STANDARD = "standard"  # the speakers' default guard profile

_NAME = re.compile(r"[a-z0-9](?:[a-z0-9-]{0,30}[a-z0-9])?")
_START_S = 60.0  # for processes to be ready, on a machine that is busy with other things
_END_S = 10.0
_CARRIER_S = 3.0

Tell = Callable[[str], None]


class State(msgspec.Struct):
    """What a later command must know. `holder`: the process in the foreground of a rootless lab, else 0."""

    name: str
    nodes: int
    router: RouterKind
    holder: int
    kubeconfig: str = ""
    api: str = ""
    processes: dict[str, Process] = {}


class Lab:
    """A lab that is up. As a context manager it is removed at the end."""

    def __init__(self, state: State) -> None:
        self._state = state
        self.name = state.name
        self.directory = directory_of(state.name)
        self.topology: Topology = topology(state.name, state.nodes)
        self.roster = Roster(self.topology, self.directory)
        self.switch = Switch(self.topology.namespace(SWITCH), self.roster.switch_log)
        self.router = Router(state.router, self.topology.namespace(ROUTER), self.directory / "router")

    # --- up, found, down --------------------------------------------------------------------------------

    @classmethod
    def up(
        cls,
        name: str = DEFAULT_NAME,
        nodes: int = 3,
        router: RouterKind | None = None,
        *,
        guard_pps: int | None = DEFAULT_GUARD_PPS,
        guard: str = STANDARD,
        kubeconfig: Path | None = None,
        programs: bool = True,
        tell: Tell = lambda _: None,
    ) -> Self:
        """Bring up a lab and return when everything in it is ready.

        `guard_pps`: of the switch's ports to nodes, None without; `guard`: the speakers' profile;
        `kubeconfig`: of an API server to use instead of one in memory; without `programs` neither controller
        nor speakers are started (`start_programs` does it later). `tell` hears one line per step.

        Raises Unable or Unavailable; then nothing of it is left.
        """
        _check(name)
        holder = os.getpid() if rootless.inside() else 0
        lab = cls(State(name, nodes, routers.choose(router), holder))
        try:
            lab._build(guard_pps, guard, kubeconfig, tell)
            if programs:
                tell("controller and speakers")
                lab.start_programs()
        except BaseException:
            lab.down()
            raise
        return lab

    @classmethod
    def find(cls, name: str = DEFAULT_NAME) -> Self:
        """Return the lab of this name that somebody has brought up. Raises Unable if there is none."""
        try:
            content = (directory_of(name) / "state.json").read_bytes()
        except OSError as error:
            raise Unable(f"there is no lab {name!r} here", "lbspeaker lab up makes one") from error
        return cls(msgspec.json.decode(content, type=State))

    def down(self) -> None:
        """End every process, delete every namespace and file of the lab."""
        remove(self.name)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.down()

    # --- what it offers ---------------------------------------------------------------------------------

    @property
    def nodes(self) -> tuple[LabNode, ...]:
        return self.topology.nodes

    @property
    def holder(self) -> int:
        """The process that a rootless lab lives in, 0 for any other."""
        return self._state.holder

    @property
    def processes(self) -> dict[str, Process]:
        return self._state.processes

    @property
    def kubeconfig(self) -> Path:
        """For programs on this machine."""
        return Path(self._state.kubeconfig)

    @property
    def node_kubeconfig(self) -> Path:
        """For programs on nodes and in `control`."""
        return self.roster.kubeconfig

    def api(self) -> str:
        """Return the URL of the API server, as this machine reaches it."""
        return self._state.api

    def exec(
        self, member: str, argv: Sequence[str], *, timeout_s: float = 30.0, text: str | None = None
    ) -> subprocess.CompletedProcess[str]:
        """Run a command where a node, client, router, remote, switch or control is."""
        return namespaces.run(self.topology.namespace(member), argv, timeout_s=timeout_s, text=text)

    def curl(self, ip: str, member: str = CLIENT, *, port: int = 80, timeout_s: float = 2.0) -> str:
        """Return what http://IP:PORT/ says to `member`, on a new connection.

        Raises Unavailable if it does not answer in time.
        """

        def fetch() -> str:
            connection = http.client.HTTPConnection(ip, port, timeout=timeout_s)
            try:
                connection.request("GET", "/")
                return connection.getresponse().read().decode().strip()
            finally:
                connection.close()

        try:
            return namespaces.inside(self.topology.namespace(member), fetch)
        except (OSError, http.client.HTTPException) as error:
            raise Unavailable(f"http://{ip}:{port}/ does not answer {member}: {error}") from error

    def cut(self, node: str, *, segment_only: bool = False, silent: bool = False) -> None:
        """Take a node off the segment and the control network, as others see a power cut.

        `segment_only`: the API server still hears it. `silent`: its own links stay up, as when a switch
        further away fails.
        """
        for member in (SWITCH,) if segment_only else (SWITCH, CONTROL):
            if silent:
                self._bridge_port(member, node, forwarding=False)
            else:
                namespaces.configure(self.topology.namespace(member), [f"link set {node} down"])

    def heal(self, node: str) -> None:
        """Undo every `cut` of the node."""
        for member in (SWITCH, CONTROL):
            namespaces.configure(self.topology.namespace(member), [f"link set {node} up"])
            self._bridge_port(member, node, forwarding=True)

    def _bridge_port(self, member: str, node: str, *, forwarding: bool) -> None:
        """Switch a port; one that has just come up refuses until the kernel has noticed its carrier."""
        state = "3" if forwarding else "0"  # BR_STATE_FORWARDING, BR_STATE_DISABLED
        deadline = time.monotonic() + _CARRIER_S
        while True:
            done = self.exec(member, ["bridge", "link", "set", "dev", node, "state", state])
            if done.returncode == 0:
                return
            if time.monotonic() > deadline:
                raise Unable(f"the port {node} of {member} cannot be switched: {done.stderr.strip()}")
            time.sleep(0.02)

    # --- processes --------------------------------------------------------------------------------------

    def start(self, name: str) -> None:
        """Start a process that is not running. Raises Unable if the lab has none of this name."""
        process = self._process(name)
        if process.running:
            return
        listeners = [_listener(listen) for listen in process.listens]
        try:
            process.start(listeners)
        finally:
            for listener in listeners:
                listener.close()
        self._save()

    def stop(self, name: str, patience_s: float = _END_S) -> None:
        """Ask a process to end, wait, and kill it after `patience_s` (0: kill it at once)."""
        self._process(name).stop(patience_s)

    def restart(self, name: str) -> None:
        self.stop(name)
        self.start(name)

    def signal(self, name: str, number: signal.Signals) -> None:
        """Send a signal to a process. Raises Unavailable if it is not running."""
        try:
            self._process(name).signal(number)
        except ProcessLookupError as error:
            raise Unavailable(f"{name} is not running", f"see {self._process(name).log}") from error

    def log(self, name: str) -> str:
        """Return everything that a process has written."""
        return self._process(name).said()

    def start_programs(self) -> None:
        """Start the controller and all speakers; returns when every speaker is a member of the cluster.

        Raises Unavailable if one of them ends, or does not become a member.
        """
        for name in ("controller", *(f"speaker-{node.name}" for node in self.nodes)):
            self.start(name)
        wanted = {node.name for node in self.nodes}
        self._wait(lambda: self.members() >= wanted, "controller")

    def members(self) -> set[str]:
        """Return the nodes whose speakers take part in elections. Raises ApiError."""
        from lbspeaker.lab.cluster import leases  # it brings the API client, half a second to import

        ask = leases(self.node_kubeconfig)
        return namespaces.inside(self.topology.namespace(CONTROL), lambda: asyncio.run(ask))

    def set_guard(self, profile: str) -> None:
        """Give all speakers another guard profile; those that run are restarted."""
        for node in self.nodes:
            process = self._process(f"speaker-{node.name}")
            process.argv = self.roster.speaker(node, profile).argv
            if process.running:
                self.restart(process.name)
        self._save()

    def _process(self, name: str) -> Process:
        if name not in self._state.processes:
            raise Unable(f"the lab has no process {name!r}", f"it has {', '.join(self._state.processes)}")
        return self._state.processes[name]

    def _save(self) -> None:
        fresh = self.directory / "state.new"
        fresh.write_bytes(msgspec.json.encode(self._state))
        fresh.replace(self.directory / "state.json")

    # --- bringing up ------------------------------------------------------------------------------------

    def _build(self, guard_pps: int | None, guard: str, kubeconfig: Path | None, tell: Tell) -> None:
        tell(f"namespaces: {', '.join(sorted(self.topology.members))}")
        self.directory.mkdir(mode=0o755, parents=True)
        namespaces.build(self.topology)
        self._save()

        tell(f"API server of {kubeconfig}" if kubeconfig else "API server in memory")
        self._write_crds()
        self._start(self._use_server(kubeconfig.absolute()) if kubeconfig else self._own_server())

        tell("switch, pods, stand-ins of a cluster")
        self._start(
            self.roster.switch(guard_pps),
            *(self.roster.backend(node) for node in self.nodes),
            self.roster.cluster(with_crds=kubeconfig is not None),
        )
        tell(f"router: {self.router.kind}")
        self.router.start(self.topology, self._start_router)

        for program in (self.roster.controller(), *(self.roster.speaker(node, guard) for node in self.nodes)):
            self._state.processes[program.name] = program
        self._save()
        self._wait(lambda: "ready" in self.log("cluster").split(), "cluster")
        self.switch.wait_ready()

    def _start(self, *processes: Process | None) -> None:
        for process in processes:
            if process is not None:
                self._state.processes[process.name] = process
                self.start(process.name)

    def _start_router(self, name: str, argv: Sequence[str], environment: dict[str, str]) -> None:
        process = self.roster.process(name, argv, ROUTER)
        process.environment = environment
        self._start(process)

    def _own_server(self) -> Process:
        """The API server in memory listens on this machine's loopback and on the control network."""
        with rootless.api_socket() or socket.create_server(("127.0.0.1", 0)) as listener:
            address, port = listener.getsockname()
        self._state.api = f"http://{address}:{port}"
        self._state.kubeconfig = str(self.directory / "kubeconfig")
        self.kubeconfig.write_text(access.plain(self._state.api))
        inside = self.roster.api_on_control()
        self.node_kubeconfig.write_text(access.plain(f"http://{inside.address}:{inside.port}"))
        return self.roster.apiserver(address, port)

    def _use_server(self, kubeconfig: Path) -> Process | None:
        """An API server that exists: nodes reach it through a forwarder, ours or the one outside."""
        try:
            text = kubeconfig.read_text()
        except OSError as error:
            raise Unable(f"kubeconfig {kubeconfig}: {error.strerror}", "give one that exists") from error
        host, port = access.server(text, str(kubeconfig))
        self._state.api = access.url(text, str(kubeconfig))
        self._state.kubeconfig = str(kubeconfig)
        inside = self.roster.api_on_control()
        self.node_kubeconfig.touch(0o600)  # it may hold credentials
        self.node_kubeconfig.write_text(access.redirected(text, str(kubeconfig), inside.address, inside.port))
        if rootless.hand_to_forwarder(lambda: _listener(inside)):
            return None
        return self.roster.forward(host, port)

    def _write_crds(self) -> None:
        from lbspeaker.config.crds import crds  # the schemas of all kinds, which only this step needs

        self.roster.crds.write_text(yaml.safe_dump_all(crds()))

    def _wait(self, done: Callable[[], bool], name: str) -> None:
        """Return when `done`. Raises Unavailable if a process ends meanwhile, or if it takes too long."""
        deadline = time.monotonic() + _START_S
        while not done():
            for process in self._state.processes.values():
                if process.pid and not process.running:
                    raise Unavailable(f"{process.name} ended while the lab came up: {process.last_words()}")
            if time.monotonic() > deadline:
                words = self._process(name).last_words()
                raise Unavailable(f"{name} was not ready within {_START_S:.0f} s: {words}")
            time.sleep(0.02)


def directory_of(name: str) -> Path:
    """Return the directory of a lab: its state, logs, sockets and kubeconfigs."""
    return rootless.runtime_directory() / f"lbspeaker-{name}"


def remove(name: str = DEFAULT_NAME) -> bool:
    """Remove a lab, or what a crash left of it. Return whether there was anything."""
    directory = directory_of(name)
    left = namespaces.existing(topology(name, 1).prefix)
    try:
        lab = Lab.find(name)
    except (Unable, msgspec.DecodeError):
        pass
    else:
        if "switch" in lab.processes:
            lab.stop("switch", 1.0)  # it writes down what it lost
        namespaces.end([p.pid for p in lab.processes.values() if p.running], patience_s=0.0)
    namespaces.remove(left)
    existed = directory.exists()
    shutil.rmtree(directory, ignore_errors=True)
    return existed or bool(left)


def _check(name: str) -> None:
    if not _NAME.fullmatch(name):
        raise Unable(f"a lab cannot be called {name!r}", "use up to 32 lower-case letters, digits and '-'")
    rootless.require_programs()
    if reason := rootless.obstacle():
        raise Unable(f"the lab cannot be made: {reason}", "run it as root: sudo lbspeaker lab up")
    if namespaces.existing(topology(name, 1).prefix) or directory_of(name).exists():
        named = "" if name == DEFAULT_NAME else f" --name {name}"
        raise Unable(f"a lab {name!r} is here already, or left over", f"lbspeaker lab down{named}")


def _listener(listen: Listen) -> socket.socket:
    if listen.namespace:
        return namespaces.listen_in(listen.namespace, listen.address, listen.port)
    return rootless.api_socket() or socket.create_server((listen.address, listen.port), backlog=128)
