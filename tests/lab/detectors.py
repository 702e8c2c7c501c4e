"""Our end of BFD in a namespace, told what to do as a speaker does; and FRR's bfdd at the other end.

node eth0 ── eth0 router eth1 ── eth0 far
192.0.2.1    192.0.2.2, 198.51.100.1    198.51.100.2      (IPv6: 2001:db8::1 and so on, fe80::…)
"""

import contextlib
import json
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, TypeVar

from lbspeaker.lab import namespaces
from lbspeaker.model import BFDProfile, BFDState, BFDStatus
from lbspeaker.wire import orders, watch

R = TypeVar("R", bound=watch.Report)
FRR = Path("/usr/lib/frr")
NODE, ROUTER, FAR = "192.0.2.1", "192.0.2.2", "198.51.100.2"
NODE6, ROUTER6, FAR6 = "2001:db8::1", "2001:db8::2", "2001:db8:100::2"
LOCAL, ROUTER_LOCAL = "fe80::1", "fe80::2"
QUICK = BFDProfile("quick", 100, 100, 3)
_DAEMONS = ("zebra", "bfdd")


def installed() -> bool:
    return all((FRR / daemon).exists() for daemon in _DAEMONS) and bool(shutil.which("vtysh"))


@contextlib.contextmanager
def cables(node: str, router: str, far: str) -> Iterator[None]:
    """Join the three namespaces, with addresses and routes."""
    node6, router6 = f"addr add {NODE6}/64 dev eth0 nodad", f"addr add {ROUTER6}/64 dev eth0 nodad"
    for name in (node, router, far):  # link-local addresses are those that we give
        namespaces.sysctl(name, {"net/ipv6/conf/default/addr_gen_mode": "1"})
    forwarding = {"net/ipv4/ip_forward": "1", "net/ipv6/conf/all/forwarding": "1"}
    namespaces.sysctl(router, forwarding)
    lines = [
        f"link add eth0 type veth peer name eth0 netns {node}",
        f"link add eth1 type veth peer name eth0 netns {far}",
        f"addr add {ROUTER}/24 dev eth0",
        router6,
        f"addr add {ROUTER_LOCAL}/64 dev eth0 nodad",
        "addr add 198.51.100.1/24 dev eth1",
        "addr add 2001:db8:100::1/64 dev eth1 nodad",
        "link set eth0 up",
        "link set eth1 up",
    ]
    namespaces.configure(router, lines)
    lines = [f"addr add {NODE}/24 dev eth0", node6, f"addr add {LOCAL}/64 dev eth0 nodad", "link set eth0 up"]
    lines += [f"route add default via {ROUTER}", f"route add default via {ROUTER6}"]
    namespaces.configure(node, lines)
    lines = [f"addr add {FAR}/24 dev eth0", f"addr add {FAR6}/64 dev eth0 nodad", "link set eth0 up"]
    lines += ["route add default via 198.51.100.1", "route add default via 2001:db8:100::1"]
    namespaces.configure(far, lines)
    yield


class Detecting:
    """Our process, in a namespace."""

    def __init__(self, namespace: str, prefix: Sequence[str] = ()) -> None:
        self.reports: list[tuple[float, watch.Report]] = []
        self.control, theirs = socket.socketpair()
        argv = [*prefix, sys.executable, "-m", "lbspeaker.bfd", str(theirs.fileno())]
        self.process = subprocess.Popen(
            namespaces.command(namespace, argv),
            pass_fds=(theirs.fileno(),),
            stderr=subprocess.PIPE,
            text=True,
        )
        theirs.close()
        self._lines = orders.Lines()
        self._seen = 0

    def tell(self, order: watch.Order) -> None:
        self.control.sendall(watch.build(order))

    def watch(self, *targets: watch.Target) -> None:
        self.tell(watch.Watch(targets))

    def read(self, seconds: float) -> bool:
        """Take in what it says within this time; False: nothing."""
        self.control.settimeout(max(seconds, 1e-4))
        try:
            data = self.control.recv(1 << 16)
        except TimeoutError:
            return False
        self.reports += [(time.monotonic(), watch.report(line)) for line in self._lines.feed(data)]
        return bool(data)

    def wait(self, kind: type[R], matches: Callable[[R], bool] = lambda _: True, seconds: float = 5.0) -> R:
        """The next report of this kind that matches; what was reported before it is passed over."""
        deadline = time.monotonic() + seconds
        while True:
            while self._seen < len(self.reports):
                _, report = self.reports[self._seen]
                self._seen += 1
                if isinstance(report, kind) and matches(report):
                    return report
            left = deadline - time.monotonic()
            assert left > 0 and self.read(left), f"no such {kind.__name__}: {self.reports[-5:]}"

    def state(self, state: BFDState, seconds: float = 5.0) -> BFDStatus:
        """Wait until a session is in this state."""
        return self.wait(watch.Changed, lambda report: report.status.state is state, seconds).status

    def said(self, kind: type[R], seconds: float = 0.05) -> list[R]:
        """All reports of this kind, up to now and `seconds` from now."""
        deadline = time.monotonic() + seconds
        while (left := deadline - time.monotonic()) > 0 and self.read(left):
            pass
        return [report for _, report in self.reports if isinstance(report, kind)]

    def quiet(self, seconds: float) -> None:
        """Let time pass, and see that no session changes."""
        before = len(self.said(watch.Changed))
        deadline = time.monotonic() + seconds
        while (left := deadline - time.monotonic()) > 0:
            self.read(left)
        after = self.said(watch.Changed)
        assert len(after) == before, after[before:]

    def cpu_s(self) -> float:
        """The processor time that it has used."""
        return int(Path(f"/proc/{self.process.pid}/schedstat").read_text().split()[0]) / 1e9

    def end(self) -> None:
        self.control.close()
        try:
            self.process.wait(5)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait(5)
            raise
        finally:
            if self.process.stderr:
                self.process.stderr.close()


class Bfdd:
    """FRR's bfdd, with zebra, in a namespace."""

    def __init__(self, namespace: str, configuration: str) -> None:
        self.namespace = namespace
        self.directory = Path(tempfile.mkdtemp(prefix="lbspeaker-bfdd-"))
        self.directory.chmod(0o755)
        shutil.chown(self.directory, "frr", "frr")
        self._processes: list[subprocess.Popen[bytes]] = []
        (self.directory / "zebra.conf").write_text("hostname zebra\n")
        (self.directory / "bfdd.conf").write_text(configuration)
        for daemon in _DAEMONS:
            self._start(daemon)

    def _start(self, daemon: str) -> None:
        at = self.directory
        words = [str(FRR / daemon), "-f", str(at / f"{daemon}.conf"), "-i", str(at / f"{daemon}.pid")]
        words += ["-z", str(at / "zserv.api"), "--vty_socket", str(at), "-P", "0"]
        if daemon == "bfdd":
            words += ["--bfdctl", str(at / "bfdd.sock")]
        with (at / f"{daemon}.log").open("ab") as log:
            self._processes.append(
                subprocess.Popen(namespaces.command(self.namespace, words), stdout=log, stderr=log)
            )
        deadline = time.monotonic() + 10
        while not (at / f"{daemon}.vty").exists() or (daemon == "zebra" and not (at / "zserv.api").exists()):
            assert time.monotonic() < deadline, (at / f"{daemon}.log").read_text()
            time.sleep(0.02)

    def ask(self, *commands: str) -> str:
        words = ["vtysh", "--vty_socket", str(self.directory), "-d", "bfdd"]
        for command in commands:
            words += ["-c", command]
        return subprocess.run(words, capture_output=True, text=True, check=False, timeout=10).stdout

    def configure(self, *lines: str) -> None:
        self.ask("configure terminal", "bfd", *lines)

    def peers(self) -> list[dict[str, Any]]:
        found = self.ask("show bfd peers json")
        try:
            return list(json.loads(found or "[]"))
        except ValueError:
            return []

    def peer(self, address: str) -> dict[str, Any]:
        return next((peer for peer in self.peers() if peer["peer"] == address), {})

    def wait(self, address: str, status: str, seconds: float = 5.0) -> float:
        """Return when its session with `address` has this status, and say when that was seen."""
        deadline = time.monotonic() + seconds
        while (found := self.peer(address)).get("status") != status:
            assert time.monotonic() < deadline, found
            time.sleep(0.01)
        return time.monotonic()

    @property
    def pids(self) -> list[int]:
        """Of zebra and of bfdd."""
        return [process.pid for process in self._processes]

    def kill(self) -> None:
        """As by a power cut."""
        for process in self._processes:
            process.kill()
            process.wait()

    def end(self) -> None:
        self.kill()
        shutil.rmtree(self.directory, ignore_errors=True)


def frr(*peers: str, receive_ms: int = 100, transmit_ms: int = 100, more: Sequence[str] = ()) -> str:
    """Return bfdd's configuration: these peers, each as FRR writes one, with a profile of these intervals."""
    lines = ["hostname bfdd", "bfd", " profile quick", "  detect-multiplier 3"]
    lines += [f"  receive-interval {receive_ms}", f"  transmit-interval {transmit_ms}", *more, " exit"]
    for peer in peers:
        lines += [f" peer {peer}", "  profile quick", " exit"]
    return "\n".join(lines) + "\n"


class Bird:
    """BIRD with BFD alone, in a namespace."""

    def __init__(self, namespace: str, *neighbors: str) -> None:
        self.directory = Path(tempfile.mkdtemp(prefix="lbspeaker-bird-"))
        timers = "min rx interval 100 ms; min tx interval 100 ms; multiplier 3;"
        lines = ["router id 192.0.2.2;", "protocol device {}", "protocol bfd {"]
        lines += [f'  interface "*" {{ {timers} }};', f"  multihop {{ {timers} }};"]
        lines += [*(f"  neighbor {neighbor};" for neighbor in neighbors), "}"]
        (self.directory / "bird.conf").write_text("\n".join(lines) + "\n")
        at = self.directory
        words = ["bird", "-f", "-c", f"{at}/bird.conf", "-s", f"{at}/ctl", "-P", f"{at}/pid"]
        with (at / "log").open("ab") as log:
            self.process = subprocess.Popen(namespaces.command(namespace, words), stdout=log, stderr=log)

    def wait(self, address: str, state: str, seconds: float = 5.0) -> float:
        """Return when its session with `address` is in this state, and say when that was seen."""
        deadline = time.monotonic() + seconds
        while True:
            words = ["birdc", "-s", str(self.directory / "ctl"), "show bfd sessions"]
            said = subprocess.run(words, capture_output=True, text=True, check=False, timeout=5).stdout
            if any(line.split()[:1] == [address] and state in line.split() for line in said.splitlines()):
                return time.monotonic()
            assert time.monotonic() < deadline, said
            time.sleep(0.01)

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()

    def end(self) -> None:
        self.kill()
        shutil.rmtree(self.directory, ignore_errors=True)
