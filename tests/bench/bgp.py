"""What the benchmarks of BGP share: a router (FRR) that is asked quickly, and ExaBGP alone beside it.

The node and the router are two namespaces with a cable between them. The reference is ExaBGP without us: the
same configuration and settings, and a pipe that gives it the same commands.
"""

import contextlib
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from ipaddress import IPv4Address, ip_address, ip_network
from pathlib import Path
from typing import Any, Self

import msgspec

from lbspeaker.errors import Unable, Unavailable
from lbspeaker.model import Peer, Route
from lbspeaker.shell.child import own_user
from lbspeaker.wire import exabgp
from tests.peers.conftest import BGPD, NODE_IP, Frr, Segment, joined, run
from tests.peers.daemons import Link, frr_lines

SPEAKER, BARE = "10.99.0.1", "10.99.0.3"  # addresses of the node, one for each
ROUTER = "10.99.0.2"
PATIENCE_S = 60.0
_CALLS = "neighbor-changes; negotiated; send { parsed; update; } "


def link(node: str = SPEAKER, *, restart: bool = False, router: str = ROUTER) -> Link:
    return Link(f"from-{node}", node, router, restart=restart)


def peer(end: Link) -> Peer:
    """As the speaker is told; long enough for a machine that is busy."""
    return replace(end.peer(), hold_time_s=30)


def routes(count: int, *communities: str, first: str = "172.16.0.0") -> list[Route]:
    start = int(IPv4Address(first))
    return [Route(ip_network((start + number, 32)), None, communities) for number in range(count)]


class Router:
    """FRR, asked over its socket: a tenth of a millisecond instead of a process each time."""

    def __init__(self, segment: Segment, directory: Path, links: Sequence[Link]) -> None:
        directory.mkdir()
        (directory / "bgpd.conf").write_text("\n".join(frr_lines(links)) + "\n")
        self.segment = segment
        self.frr = Frr(segment, directory)
        self._asking: socket.socket | None = None

    @property
    def socket(self) -> Path:
        return self.frr.directory / "bgpd.vty"

    def start(self) -> None:
        self.frr.restart()

    def stop(self) -> None:
        """Without a word, as a router whose power is cut."""
        if self._asking is not None:
            self._asking.close()
            self._asking = None
        self.frr.stop(9)

    def ask(self, command: str) -> Any:
        """Return what it answers in JSON; None if it is not there."""
        try:
            if self._asking is None:
                self._asking = connect(self.socket)
            return msgspec.json.decode(ask(self._asking, f"{command} json"))
        except (OSError, msgspec.DecodeError):
            return None

    def count(self, node: str = SPEAKER) -> int:
        """Return how many routes it has from there."""
        return int(self._neighbor(node).get("pfxRcd", 0))

    def is_up(self, node: str = SPEAKER) -> bool:
        return self._neighbor(node).get("state") == "Established"

    def sessions(self, node: str = SPEAKER) -> int:
        """Return how often a session with it has begun."""
        return int(self._neighbor(node).get("connectionsEstablished", 0))

    def prefixes(self) -> set[str]:
        return set((self.ask("show bgp ipv4 unicast") or {}).get("routes", ()))

    def _neighbor(self, node: str) -> dict[str, Any]:
        summary = self.ask("show bgp ipv4 unicast summary") or {}
        return dict(summary.get("peers", {}).get(node, {}))


def connect(path: Path) -> socket.socket:
    asking = socket.socket(socket.AF_UNIX)
    asking.settimeout(10.0)
    try:
        asking.connect(str(path))
    except OSError:
        asking.close()
        raise
    return asking


def ask(asking: socket.socket, command: str) -> bytes:
    """Say one command to a daemon of FRR as vtysh does; a zero ends it, three and a status end the answer.

    Raises OSError if the daemon is gone.
    """
    asking.sendall(command.encode() + b"\0")
    answer = b""
    while answer[-4:-1] != b"\0\0\0":
        data = asking.recv(1 << 20)
        if not data:
            raise ConnectionResetError(f"FRR closed its socket during {command!r}")
        answer += data
    return answer[:-4]


@contextlib.contextmanager
def place(*links: Link) -> Iterator[tuple[Router, Path]]:
    """A router that knows `links`, running, and a directory. Raises Unable where FRR is not installed."""
    if os.geteuid() != 0:
        raise Unable("network namespaces need root", "run it as root")
    if not BGPD.exists() or not shutil.which("vtysh"):
        raise Unable("FRR is not installed", "apt install frr")
    with tempfile.TemporaryDirectory(prefix="lbb") as temporary, joined() as segment:
        for node in {one.node for one in links} - {NODE_IP}:
            run("ip", "-n", segment.node, "addr", "add", f"{node}/24", "dev", "eth0")
        for own in {one.router for one in links} - {ROUTER}:
            run("ip", "-n", segment.router, "addr", "add", f"{own}/24", "dev", "eth0")
        router = Router(segment, Path(temporary) / "frr", links)
        try:
            router.start()
            yield router, Path(temporary)
        finally:
            router.stop()


class Bare:
    """ExaBGP alone: what is written into a pipe is what it is told; nobody listens to what it says."""

    def __init__(self, segment: Segment, directory: Path, end: Link) -> None:
        self.directory = directory
        self.hop, self.asn = ip_address(end.node), end.node_as
        directory.mkdir()
        self._pipe = directory / "commands"
        os.mkfifo(self._pipe)
        text = exabgp.configuration(peer(end), self.hop, IPv4Address(end.node), ["/bin/cat", str(self._pipe)])
        (directory / "conf").write_text(text.replace(_CALLS, ""))
        words = [sys.executable, "-m", "exabgp", "server", str(directory / "conf")]
        self._command = segment.command(segment.node, *words)
        self._environment = dict(os.environ) | exabgp.environment(own_user()) | {"exabgp_api_ack": "false"}
        self._handle = os.open(self._pipe, os.O_RDWR)
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        with (self.directory / "log").open("ab") as log:
            self.process = subprocess.Popen(
                self._command, env=self._environment, stdin=subprocess.DEVNULL, stdout=log, stderr=log
            )

    def stop(self) -> None:
        """Kill it, and the process that reads the pipe."""
        if self.process is not None:
            tree = descendants(self.process.pid)
            for pid in tree:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, 9)
            self.process.wait()
            self.process = None

    def tell(self, *lines: str) -> None:
        data = "".join(f"{line}\n" for line in lines).encode()
        while data:
            data = data[os.write(self._handle, data) :]

    def announce(self, some: Sequence[Route]) -> None:
        self.tell(exabgp.announce(some, self.hop, self.asn))

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()
        os.close(self._handle)


def descendants(pid: int) -> list[int]:
    """Return `pid` and all that it has started, those that still run."""
    found = [pid]
    for task in Path(f"/proc/{pid}/task").glob("*/children"):
        with contextlib.suppress(OSError):
            for child in task.read_text().split():
                found += descendants(int(child))
    return found


def wait(done: Callable[[], bool], what: str, patience_s: float = PATIENCE_S) -> float:
    """Return how long it took until `done`. Raises Unavailable if it takes longer."""
    began = time.monotonic()
    while not done():
        if time.monotonic() > began + patience_s:
            raise Unavailable(f"{what}: not within {patience_s:.0f} s")
        time.sleep(0.002)
    return time.monotonic() - began
