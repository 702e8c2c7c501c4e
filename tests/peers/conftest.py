"""Real routers in network namespaces: a node and a router, joined by a veth pair, for each test."""

import asyncio
import itertools
import json
import os
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from ipaddress import IPv4Address, IPv6Address, ip_network
from pathlib import Path
from typing import Any

import pytest

from lbspeaker.model import Address, Family, Network, Peer, Route
from lbspeaker.peering import Peering, PeerStatus

BGPD = Path("/usr/lib/frr/bgpd")
NODE_IP, ROUTER_IP = "10.99.0.1", "10.99.0.2"
NODE_IP6, ROUTER_IP6 = "fd99::1", "fd99::2"
ROUTER_AS, NODE_AS = 65002, 65001
_serial = itertools.count()


def run(*command: str, check: bool = True, timeout: float = 10) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command, check=check, timeout=timeout, capture_output=True, text=True)


def eventually(is_so: Callable[[], bool], within_s: float = 8.0) -> bool:
    end = time.monotonic() + within_s
    while time.monotonic() < end:
        if is_so():
            return True
        time.sleep(0.03)
    return is_so()


async def soon(is_so: Callable[[], bool], within_s: float = 8.0) -> bool:
    """Like `eventually`, while the event loop goes on. `is_so` may take a while: it runs in a thread."""
    end = time.monotonic() + within_s
    while time.monotonic() < end:
        if await asyncio.to_thread(is_so):
            return True
        await asyncio.sleep(0.03)
    return await asyncio.to_thread(is_so)


@dataclass
class Segment:
    """Two namespaces, `node` and `router`, and a veth pair between them."""

    node: str
    router: str

    def command(self, namespace: str, *words: str) -> list[str]:
        return ["ip", "netns", "exec", namespace, *words]


@dataclass(frozen=True)
class Seen:
    """One route as a router has it: its attributes, and the next hop."""

    next_hop: str
    local_pref: int | None = None
    communities: tuple[str, ...] = ()
    med: int | None = None
    prepend: int = 0  # how often the first AS of the path is in it, beyond the first time


def seen(entries: list[dict[str, Any]]) -> Seen:
    path = next(entry for entry in entries if "aspath" in entry)
    large = path.get("largeCommunity", {}).get("list", [])
    hops = [hop["ip"] for hop in path["nexthops"] if hop.get("scope") != "link-local"]
    return Seen(
        hops[0],
        path.get("localpref", path.get("locPrf")),
        (*path.get("community", {}).get("list", []), *(f"large:{each}" for each in large)),
        path.get("metric", path.get("med")),
        max(len(path["aspath"].get("string", "").replace("Local", "").split()) - 1, 0),
    )


@dataclass
class Frr:
    """A bgpd without zebra, in the namespace of the router."""

    segment: Segment
    directory: Path
    process: subprocess.Popen[bytes] | None = None

    def start(self, *neighbor: str, router_as: int = ROUTER_AS, node_as: int = NODE_AS) -> None:
        """Write the configuration, with more lines about the neighbor, and start."""
        lines = [
            "hostname router",
            f"router bgp {router_as}",
            f" bgp router-id {ROUTER_IP}",
            " no bgp ebgp-requires-policy",
            " no bgp network import-check",
            " bgp default ipv6-unicast",
        ]
        for address in (NODE_IP, NODE_IP6):
            lines += [f" neighbor {address} remote-as {node_as}", f" neighbor {address} passive"]
            lines += [f" neighbor {address} timers connect 1"]
            lines += [f" neighbor {address} {words}" for words in neighbor]
        lines += [" address-family ipv6 unicast", f"  neighbor {NODE_IP} activate"]
        lines += [f"  neighbor {NODE_IP6} activate"]
        (self.directory / "bgpd.conf").write_text("\n".join(lines) + "\n")
        self.restart()

    def restart(self) -> None:
        self.stop()
        words = [str(BGPD), "-n", "--no_zebra", "--skip_runas", "-P", "0"]
        words += ["-f", str(self.directory / "bgpd.conf"), "-i", str(self.directory / "bgpd.pid")]
        words += ["--vty_socket", str(self.directory), "-l", "0.0.0.0", "-l", "::"]
        log = (self.directory / "log").open("ab")
        self.process = subprocess.Popen(
            self.segment.command(self.segment.router, *words), stdout=log, stderr=log
        )
        if not eventually(lambda: self.ask("show version") != ""):
            raise RuntimeError(f"bgpd does not start: {(self.directory / 'log').read_text()}")

    def stop(self, how: int = signal.SIGTERM) -> None:
        if self.process is not None:
            self.process.send_signal(how)
            with suppress(subprocess.TimeoutExpired):
                self.process.wait(3)
            self.process.kill()
            self.process.wait()
            self.process = None

    def ask(self, command: str) -> str:
        done = run("vtysh", "--vty_socket", str(self.directory), "-d", "bgpd", "-c", command, check=False)
        return done.stdout if done.returncode == 0 else ""

    def table(self, family: int = 4) -> dict[Network, Seen]:
        """What it has in its table."""
        answer = self.ask(f"show bgp ipv{family} unicast json detail")
        try:
            routes = json.loads(answer or "{}").get("routes", {})
        except ValueError:
            return {}
        return {ip_network(prefix): seen(entries) for prefix, entries in routes.items()}

    def last_reset(self) -> str:
        """Why it says that the session with the node ended the last time."""
        answer = json.loads(self.ask(f"show bgp neighbor {NODE_IP} json"))
        return str(answer[NODE_IP].get("lastNotificationReason", ""))


@dataclass
class Bird:
    """A BIRD 2, in the namespace of the router."""

    segment: Segment
    directory: Path
    process: subprocess.Popen[bytes] | None = None

    def start(
        self,
        *neighbor: str,
        router_as: int = ROUTER_AS,
        node_as: int = NODE_AS,
        families: tuple[int, ...] = (4, 6),
    ) -> None:
        options = " ".join(f"{words};" for words in neighbor)
        channels = " ".join(f"ipv{family} {{ import all; export none; }};" for family in families)
        self.serve(
            f"router id {ROUTER_IP};\nprotocol device {{}}\n"
            f"protocol bgp node {{ local {ROUTER_IP} as {router_as}; neighbor {NODE_IP} as {node_as};"
            f" passive; {options} {channels} }}\n"
        )

    def serve(self, configuration: str) -> None:
        (self.directory / "bird.conf").write_text(configuration)
        log = (self.directory / "log").open("ab")
        words = ["bird", "-f", "-c", str(self.directory / "bird.conf"), "-s", str(self.directory / "ctl")]
        words += ["-P", str(self.directory / "bird.pid")]
        self.process = subprocess.Popen(
            self.segment.command(self.segment.router, *words), stdout=log, stderr=log
        )
        if not eventually(lambda: "BIRD" in self.ask("show status")):
            raise RuntimeError(f"bird does not start: {(self.directory / 'log').read_text()}")

    def stop(self) -> None:
        if self.process is not None:
            self.process.terminate()
            with suppress(subprocess.TimeoutExpired):
                self.process.wait(3)
            self.process.kill()
            self.process.wait()
            self.process = None

    def ask(self, command: str) -> str:
        return run("birdc", "-r", "-s", str(self.directory / "ctl"), command, check=False).stdout

    def table(self) -> dict[Network, dict[str, str]]:
        """What it has in its tables: for each prefix, its BGP attributes as it writes them."""
        routes: dict[Network, dict[str, str]] = {}
        for line in self.ask("show route all").splitlines():
            words = line.split()
            if words and "/" in words[0] and not line[0].isspace():
                attributes = routes.setdefault(ip_network(words[0]), {})
            elif line.strip().startswith("BGP."):
                name, _, value = line.strip().partition(": ")
                attributes[name.removeprefix("BGP.")] = value
        return routes


@pytest.fixture
def segment() -> Iterator[Segment]:
    if os.geteuid() != 0:
        pytest.skip("network namespaces need root (or: unshare --map-root-user --net --mount)")
    with joined() as made:
        yield made


@contextmanager
def joined() -> Iterator[Segment]:
    """Make the two namespaces and what joins them; remove them in the end. Skips where there are none."""
    serial = next(_serial)
    names = [f"lbp{os.getpid()}-{serial}{side}" for side in ("n", "r")]
    try:
        for name in names:
            run("ip", "netns", "add", name)
    except (OSError, subprocess.CalledProcessError) as error:
        remove(names)
        pytest.skip(f"network namespaces are not to be had: {error}")
    try:
        run("ip", "link", "add", "eth0", "netns", names[0], "type", "veth", "peer", "eth0", "netns", names[1])
        for name, ip, ip6 in ((names[0], NODE_IP, NODE_IP6), (names[1], ROUTER_IP, ROUTER_IP6)):
            run("ip", "-n", name, "addr", "add", f"{ip}/24", "dev", "eth0")
            run("ip", "-n", name, "addr", "add", f"{ip6}/64", "dev", "eth0", "nodad")
            for link in ("lo", "eth0"):
                run("ip", "-n", name, "link", "set", link, "up")
        yield Segment(*names)
    finally:
        remove(names)


def remove(names: list[str]) -> None:
    for name in names:
        for pid in run("ip", "netns", "pids", name, check=False).stdout.split():
            with suppress(ProcessLookupError):
                os.kill(int(pid), signal.SIGKILL)
        run("ip", "netns", "del", name, check=False)


@pytest.fixture
def runtime() -> Iterator[Path]:
    """A directory whose path is short: sockets are in it."""
    with tempfile.TemporaryDirectory(prefix="lbp") as directory:
        yield Path(directory) / "run"


@pytest.fixture
def frr(segment: Segment, tmp_path: Path) -> Iterator[Frr]:
    if not BGPD.exists() or not shutil.which("vtysh"):
        pytest.skip("FRR is not installed (apt install frr)")
    directory = tmp_path / "frr"
    directory.mkdir()
    router = Frr(segment, directory)
    try:
        yield router
    finally:
        router.stop()


@pytest.fixture
def bird(segment: Segment, tmp_path: Path) -> Iterator[Bird]:
    if not shutil.which("bird") or not shutil.which("birdc"):
        pytest.skip("BIRD is not installed (apt install bird2)")
    directory = tmp_path / "bird"
    directory.mkdir()
    router = Bird(segment, directory)
    try:
        yield router
    finally:
        router.stop()


@dataclass
class Node:
    """A peering that runs in the namespace of the node, while it is entered."""

    segment: Segment
    directory: Path
    peer: Peer
    next_hop_v6: IPv6Address | None = None
    has_ipv4: bool = True
    reports: list[PeerStatus] = field(default_factory=list)

    async def __aenter__(self) -> "Node":
        self._home = os.open("/proc/thread-self/ns/net", os.O_RDONLY)
        enter(f"/run/netns/{self.segment.node}")
        mine = IPv4Address(NODE_IP)
        addresses: dict[Family, Address] = {4: mine} if self.has_ipv4 else {}
        if self.next_hop_v6 is not None:
            addresses[6] = self.next_hop_v6
        self.peering = Peering(self.peer, mine, addresses, self.directory, self.reports.append)
        self.task = asyncio.create_task(self.peering.run())
        return self

    async def __aexit__(self, *_: object) -> None:
        try:
            self.task.cancel()
            await asyncio.wait({self.task})
        finally:
            enter(f"/proc/self/fd/{self._home}")
            os.close(self._home)
        if not self.task.cancelled():
            self.task.result()

    @property
    def status(self) -> PeerStatus:
        return self.peering.status

    def desire(self, *routes: Route) -> None:
        self.peering.desire({route.prefix: route for route in routes})

    async def up(self, within_s: float = 8.0) -> None:
        assert await soon(lambda: self.status.state == "up", within_s), self.status

    async def settled(self, within_s: float = 8.0) -> None:
        """Everything that is desired has been sent."""
        assert await soon(lambda: self.status.sent == self.status.desired, within_s), self.status


def enter(path: str) -> None:
    """Move this thread into the network namespace at `path`."""
    import ctypes

    handle = os.open(path, os.O_RDONLY)
    try:
        if ctypes.CDLL(None, use_errno=True).setns(handle, 0x40000000) != 0:
            raise OSError(ctypes.get_errno(), f"cannot enter {path}")
    finally:
        os.close(handle)
