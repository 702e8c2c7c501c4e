"""Segments with answerers on them: namespaces, a tap with the kernel's clock, the speaker's end of orders.

`Segment` is one node and a client on a cable; `Wire` is a switch with several nodes and a client. What is
heard comes with the time at which the kernel took it, so that it does not matter when a test reads it.
"""

import contextlib
import json
import os
import socket
import struct
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from ipaddress import IPv4Address, IPv6Address
from pathlib import Path
from typing import Any, TypeVar

from scapy.layers.inet6 import ICMPv6ND_NA, ICMPv6ND_NS, ICMPv6NDOptSrcLLAddr, IPv6
from scapy.layers.l2 import ARP, Ether

from lbspeaker.lab import namespaces
from lbspeaker.model import LinkPolicy
from lbspeaker.wire import arp, hello, ndp, orders

R = TypeVar("R", bound=orders.Report)
Matches = Callable[[Ether], bool]
Heard = list[tuple[float, Ether]]  # with the time (Unix)

NODE_MAC, CLIENT_MAC = "02:00:00:00:00:0a", "02:00:00:00:00:cc"
BROADCAST, ALL_NODES = "ff:ff:ff:ff:ff:ff", "33:33:00:00:00:01"
CLIENT_IP, CLIENT_IP6 = "192.0.2.200", "2001:db8::200"
WEB, WEB6 = "192.0.2.10", "2001:db8::10"
POOL = orders.Filter(
    ((int(IPv4Address("192.0.2.10")), int(IPv4Address("192.0.2.60"))),),
    ((int(IPv6Address("2001:db8::10")), int(IPv6Address("2001:db8::60"))),),
)
FRAMES = orders.Frames(
    *(build().hex() for build in (arp.template, arp.probe_template, ndp.template, ndp.probe_template))
)
KEY, NEW_KEY = (hello.derive(password).hex() for password in ("tuesday", "wednesday"))
_SO_TIMESTAMPNS = 35
_CLIENT_UP = [f"addr add {CLIENT_IP}/24 dev eth0", f"addr add {CLIENT_IP6}/64 dev eth0 nodad"]


class Tap:
    """What a client hears of the nodes whose MACs these are, and what it says."""

    def __init__(self, client: str, macs: Sequence[str]) -> None:
        self.client = client
        self.macs = {bytes.fromhex(mac.replace(":", "")) for mac in macs}
        self._socket = namespaces.socket_in(client, socket.AF_PACKET, socket.SOCK_RAW, socket.htons(3))
        self._socket.setsockopt(socket.SOL_SOCKET, _SO_TIMESTAMPNS, 1)
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4 << 20)
        self._socket.bind(("eth0", 3))

    def close(self) -> None:
        self._socket.close()

    def send(self, frame: Ether | bytes) -> None:
        self._socket.send(bytes(frame))

    def hears(self, matches: Matches = lambda _: True, seconds: float = 1.0) -> Heard:
        """The frames from the nodes that match: those that wait, and those of the next `seconds`."""
        found, deadline = [], time.monotonic() + seconds
        while True:
            self._socket.settimeout(max(deadline - time.monotonic(), 1e-6))
            try:
                data, extra, *_ = self._socket.recvmsg(2048, 128)
            except TimeoutError:
                return found
            if data[6:12] in self.macs and matches(frame := Ether(data)):
                second, nanosecond = struct.unpack("qq", extra[0][2])
                found.append((second + nanosecond / 1e9, frame))

    def asks(self, frame: Ether | bytes, seconds: float = 0.4) -> list[Ether]:
        """The answers to one frame."""
        self.hears(seconds=0.05)  # what is still under way
        self.send(frame)
        return [answer for _, answer in self.hears(is_answer, seconds)]

    def run(self, *argv: str) -> subprocess.CompletedProcess[str]:
        return namespaces.run(self.client, list(argv))

    @contextlib.contextmanager
    def sends_on(self, frames: Sequence[bytes], per_s: float) -> Iterator[None]:
        """Send these frames, in turn, for as long as it lasts."""
        ended = threading.Event()

        def send() -> None:
            began, count = time.monotonic(), 0
            while not ended.wait(0.004):
                while count < (time.monotonic() - began) * per_s:
                    self._socket.send(frames[count % len(frames)])
                    count += 1

        thread = threading.Thread(target=send)
        thread.start()
        try:
            yield
        finally:
            ended.set()
            thread.join()


class Segment(Tap):
    """Two hosts on one cable: `node`, where the answerer runs, and `client`."""

    def __init__(self, node: str, client: str) -> None:
        cable = f"link add eth0 address {CLIENT_MAC} type veth peer name eth0 netns {node} address {NODE_MAC}"
        namespaces.configure(client, [cable, *_CLIENT_UP, "link set eth0 up"])
        up = ["addr add 192.0.2.1/24 dev eth0", "addr add 2001:db8::1/64 dev eth0 nodad", "link set eth0 up"]
        namespaces.configure(node, up)
        self.node = node
        super().__init__(client, [NODE_MAC])


class Wire(Tap):
    """A switch, the nodes n1, n2 … with the IPs 192.0.2.1, .2 …, and a client. A higher number: a higher MAC.

    The port of n1 at the switch is p1.
    """

    def __init__(self, switch: str, client: str, nodes: Sequence[str]) -> None:
        self.switch, self.nodes = switch, dict(zip(names(len(nodes)), nodes, strict=True))
        lines = ["link add br0 type bridge mcast_snooping 0", "link set br0 up"]
        for number, node in enumerate(nodes, 1):
            lines += self._cable(f"p{number}", node, "eth0", mac_of(f"n{number}"))
        lines += self._cable("pc", client, "eth0", CLIENT_MAC)
        namespaces.configure(switch, lines)
        for number, node in enumerate(nodes, 1):
            namespaces.configure(node, [f"addr add 192.0.2.{number}/24 dev eth0", "link set eth0 up"])
        namespaces.configure(client, [*_CLIENT_UP, "link set eth0 up"])
        super().__init__(client, [mac_of(name) for name in self.nodes])

    @staticmethod
    def _cable(port: str, host: str, link: str, mac: str) -> list[str]:
        cable = f"link add {port} type veth peer name {link} netns {host} address {mac}"
        return [cable, f"link set {port} master br0", f"link set {port} up"]

    def second_link(self, name: str, mac: str) -> None:
        """Give a node an eth1 on the same switch."""
        port = f"q{name[1:]}"
        namespaces.run(self.switch, ["ip", "link", "del", port])  # of an earlier test
        namespaces.configure(self.switch, self._cable(port, self.nodes[name], "eth1", mac))
        namespaces.configure(self.nodes[name], ["link set eth1 up"])
        self.macs.add(bytes.fromhex(mac.replace(":", "")))

    def cut(self, name: str) -> None:
        namespaces.configure(self.switch, [f"link set p{name[1:]} down"])

    def heal(self, name: str) -> None:
        namespaces.configure(self.switch, [f"link set p{name[1:]} up"])


def names(count: int) -> list[str]:
    return [f"n{number}" for number in range(1, count + 1)]


def mac_of(name: str) -> str:
    return f"02:00:00:00:00:{int(name[1:]):02x}"


def is_answer(frame: Ether) -> bool:
    if ARP in frame:
        return bool(frame[ARP].op == 2)
    return ICMPv6ND_NA in frame and frame.dst == CLIENT_MAC


def is_announcement(frame: Ether) -> bool:
    if ARP in frame:
        return bool(frame[ARP].op == 1 and frame[ARP].psrc == frame[ARP].pdst)
    return ICMPv6ND_NA in frame and frame.dst == ALL_NODES


def is_probe(frame: Ether) -> bool:
    if ARP in frame:
        return bool(frame[ARP].op == 1 and frame[ARP].psrc == "0.0.0.0")
    return ICMPv6ND_NS in frame and frame[IPv6].src == "::" and about(frame) != "fe80::"


def is_hello(frame: Ether) -> bool:
    return bool(frame.type == hello.ETHERTYPE)


def about(frame: Ether) -> str:
    """The IP that an announcement, an answer or a probe is about."""
    if ARP in frame:
        return str(frame[ARP].pdst if is_probe(frame) else frame[ARP].psrc)
    return str(frame[ICMPv6ND_NA if ICMPv6ND_NA in frame else ICMPv6ND_NS].tgt)


def who_has(ip: str = WEB, dst: str = BROADCAST, **fields: Any) -> Ether:
    asked = {"hwsrc": CLIENT_MAC, "psrc": CLIENT_IP, "pdst": ip, **fields}
    return Ether(src=CLIENT_MAC, dst=dst) / ARP(**asked)


def who_has6(ip: str = WEB6, dst: str = "", **fields: Any) -> Ether:
    """A solicitation from the client, to the group of `ip` unless `dst` says to which MAC."""
    low = int(ip.rpartition(":")[2] or "0", 16)
    group, mac = f"ff02::1:ff00:{low:x}", f"33:33:ff:00:{low >> 8:02x}:{low & 0xFF:02x}"
    packet = IPv6(**{"src": CLIENT_IP6, "dst": ip if dst else group, "hlim": 255, **fields})
    asked = ICMPv6ND_NS(tgt=ip) / ICMPv6NDOptSrcLLAddr(lladdr=CLIENT_MAC)
    return Ether(src=CLIENT_MAC, dst=dst or mac) / packet / asked


def claim(ip: str = WEB, mac: str = CLIENT_MAC) -> Ether:
    return Ether(src=mac, dst=BROADCAST) / ARP(hwsrc=mac, psrc=ip, pdst=ip)


def most_in_a_second(heard: Heard) -> int:
    times = [at for at, _ in heard]
    return max((sum(at <= other < at + 1.0 for other in times) for at in times), default=0)


def index(namespace: str, link: str = "eth0") -> int:
    shown = namespaces.run(namespace, ["ip", "-j", "link", "show", link])
    return int(json.loads(shown.stdout)[0]["ifindex"])


def wait_for(condition: Callable[[], bool], seconds: float = 5.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)


class Running:
    """An answerer in a namespace, told what to do as a speaker does, and that the speaker lives."""

    def __init__(
        self, node: str, profile: str = "standard", *, name: str = "node", confined: bool = False
    ) -> None:
        self.node, self.profile, self.name = node, profile, name
        self.mac = NODE_MAC if name == "node" else mac_of(name)
        self.reports: list[orders.Report] = []
        self.hung = False  # the speaker
        self._waited_for = 0
        self._lines = orders.Lines()
        self._lock = threading.Lock()
        self.control, theirs = socket.socketpair()
        argv = namespaces.command(node, [sys.executable, "-m", "lbspeaker.answerer", str(theirs.fileno())])
        if confined:
            argv = [*argv[:4], "setpriv", "--bounding-set=-net_raw", "--inh-caps=-net_raw", *argv[4:]]
        self.process = subprocess.Popen(argv, pass_fds=(theirs.fileno(),), stderr=subprocess.PIPE, text=True)
        theirs.close()
        self._ended = threading.Event()
        self._heart = threading.Thread(target=self._beat)
        self._heart.start()
        self.tell(orders.Setup(name, FRAMES), POOL)

    def _beat(self) -> None:
        while not self._ended.wait(0.5):
            if not self.hung:
                with contextlib.suppress(OSError):
                    self.tell(orders.Alive())

    def tell(self, *what: orders.Order) -> None:
        with self._lock:
            self.control.sendall(b"".join(map(orders.build, what)))

    def port(self, index: int, link: str = "eth0", mac: str = "", **fields: Any) -> orders.Port:
        """A link with a policy of these fields; and with `address` and `gateway`, if they are given."""
        ends = {end: fields.pop(end) for end in ("address", "gateway") if end in fields}
        policy = LinkPolicy("", **{"profile": self.profile, "dad": "off", "refresh_s": 0, **fields})
        return orders.Port(link, index, (mac or self.mac).replace(":", ""), policy, **ends)

    def use(self, index: int, **fields: Any) -> None:
        """Use eth0."""
        self.tell(orders.Ports((self.port(index, **fields),)))

    def announce(self, *ips: str, occasion: str = "NEW", above: tuple[str, ...] = ()) -> None:
        """Have these announced, and return when they are answered."""
        self.tell(*(orders.Announce(ip, ("eth0",), occasion, above=above) for ip in ips))
        for ip in ips:
            self.wait(orders.Answering, ip=ip)

    def wait(self, kind: type[R], seconds: float = 5.0, **fields: object) -> R:
        """The next report of this kind with these fields; what was reported before it is passed over."""
        deadline = time.monotonic() + seconds
        while True:
            while self._waited_for < len(self.reports):
                report = self.reports[self._waited_for]
                self._waited_for += 1
                if isinstance(report, kind) and all(getattr(report, n) == v for n, v in fields.items()):
                    return report
            left = deadline - time.monotonic()
            assert left > 0 and self._read(left), f"{self.name} did not say {kind.__name__} {fields}"

    def said(self, kind: type[R], seconds: float = 0.05) -> list[R]:
        """All reports of this kind, up to now and `seconds` from now."""
        deadline = time.monotonic() + seconds
        while (left := deadline - time.monotonic()) > 0 and self._read(left):
            pass
        return [report for report in self.reports if isinstance(report, kind)]

    def _read(self, seconds: float) -> bool:
        """Take in what the answerer says within this time; False: nothing."""
        self.control.settimeout(seconds)
        try:
            data = self.control.recv(65536)
        except TimeoutError:
            return False
        finally:
            self.control.settimeout(None)
        self.reports += [orders.report(line) for line in self._lines.feed(data)]
        return bool(data)

    def cpu_s(self) -> float:
        """The processor time that it has used."""
        return int(Path(f"/proc/{self.process.pid}/schedstat").read_text().split()[0]) / 1e9

    def end(self) -> None:
        self._ended.set()
        self._heart.join()
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


@contextlib.contextmanager
def hosts(*roles: str) -> Iterator[list[str]]:
    """Namespaces for these roles, empty; removed at the end. Raises Unable where there can be none."""
    made = [f"lbs-ans-{os.getpid()}-{role}" for role in roles]
    try:
        namespaces.add(made)
        yield made
    finally:
        namespaces.remove(made)
