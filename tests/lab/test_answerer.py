"""The answerer on a real segment: real sockets, real clients, and a guard that holds."""

import json
import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from ipaddress import IPv4Address, IPv6Address
from typing import Any

import pytest
from scapy.layers.inet6 import ICMPv6ND_NA, ICMPv6ND_NS, ICMPv6NDOptSrcLLAddr, IPv6
from scapy.layers.l2 import ARP, Dot1Q, Ether

from lbspeaker.errors import LbspeakerError
from lbspeaker.lab import namespaces
from lbspeaker.model import LinkPolicy
from lbspeaker.wire import arp, ndp, orders

pytestmark = pytest.mark.lab

NODE_MAC, CLIENT_MAC = "02:00:00:00:00:0a", "02:00:00:00:00:cc"
BROADCAST = "ff:ff:ff:ff:ff:ff"
WEB, WEB6 = "192.0.2.10", "2001:db8::10"
POOL = orders.Filter(((int(IPv4Address("192.0.2.10")), int(IPv4Address("192.0.2.60"))),))
FRAMES = orders.Frames(
    *(build().hex() for build in (arp.template, arp.probe_template, ndp.template, ndp.probe_template))
)
LINK_BUILD = [
    "link add eth0 address {client} type veth peer name eth0 netns {node} address {mac}",
    "addr add 192.0.2.200/24 dev eth0",
    "addr add 2001:db8::200/64 dev eth0 nodad",
    "link set eth0 up",
]


class Segment:
    """Two hosts on one link: `node`, where the answerer runs, and `client`, which looks and asks."""

    def __init__(self, node: str, client: str) -> None:
        self.node, self.client = node, client
        self.tap = namespaces.socket_in(client, socket.AF_PACKET, socket.SOCK_RAW, socket.htons(3))
        self.tap.bind(("eth0", 3))
        self.tap.settimeout(0.3)

    def send(self, frame: Ether) -> None:
        self.tap.send(bytes(frame))

    def hears(self, matches: Callable[[Ether], bool], seconds: float = 1.0) -> list[tuple[float, Ether]]:
        """The frames from the node that match, with the time at which they came."""
        found, deadline = [], time.monotonic() + seconds
        while (left := deadline - time.monotonic()) > 0:
            self.tap.settimeout(left)
            try:
                frame = Ether(self.tap.recv(2048))
            except TimeoutError:
                break
            if frame.src == NODE_MAC and matches(frame):
                found.append((time.monotonic(), frame))
        return found

    def asks(self, frame: Ether, seconds: float = 0.4) -> list[Ether]:
        """The answers to one frame."""
        self.hears(lambda _: True, 0.05)  # what is still under way
        self.send(frame)
        return [answer for _, answer in self.hears(lambda f: is_answer(f), seconds)]

    def run(self, *argv: str) -> subprocess.CompletedProcess[str]:
        return namespaces.run(self.client, list(argv))


def is_answer(frame: Ether) -> bool:
    if ARP in frame:
        return bool(frame[ARP].op == 2)
    return ICMPv6ND_NA in frame and frame.dst == CLIENT_MAC


def who_has(ip: str = WEB, dst: str = BROADCAST, **fields: str) -> Ether:
    asked = {"hwsrc": CLIENT_MAC, "psrc": "192.0.2.200", "pdst": ip, **fields}
    return Ether(src=CLIENT_MAC, dst=dst) / ARP(**asked)


class Running:
    """An answerer in the node's namespace, told what to do as a speaker does."""

    def __init__(self, node: str, profile: str, *, confined: bool = False) -> None:
        self.control, theirs = socket.socketpair()
        argv = namespaces.command(node, [sys.executable, "-m", "lbspeaker.answerer", str(theirs.fileno())])
        if confined:
            argv = [*argv[:4], "setpriv", "--bounding-set=-net_raw", "--inh-caps=-net_raw", *argv[4:]]
        self.process = subprocess.Popen(argv, pass_fds=(theirs.fileno(),), stderr=subprocess.PIPE, text=True)
        theirs.close()
        self.lines = orders.Lines()
        self.profile = profile
        self.tell(orders.Setup("node", FRAMES), POOL)

    def tell(self, *what: orders.Order) -> None:
        self.control.sendall(b"".join(map(orders.build, what)))

    def use(self, index: int, **policy: Any) -> None:
        found = LinkPolicy("", **{"profile": self.profile, "dad": "off", "refresh_s": 0, **policy})
        self.tell(orders.Ports((orders.Port("eth0", index, NODE_MAC.replace(":", ""), found),)))

    def announce(self, *ips: str, occasion: str = "NEW") -> None:
        self.tell(*(orders.Announce(ip, ("eth0",), occasion) for ip in ips))
        for ip in ips:
            self.wait(lambda r, ip=ip: isinstance(r, orders.Answering) and r.ip == ip)  # type: ignore[misc]

    def wait(self, matches: Callable[[orders.Report], bool], seconds: float = 5.0) -> orders.Report:
        deadline = time.monotonic() + seconds
        pending: list[orders.Report] = getattr(self, "pending", [])
        while time.monotonic() < deadline:
            for number, report in enumerate(pending):
                if matches(report):
                    self.pending = pending[number + 1 :]
                    return report
            pending = []
            self.control.settimeout(max(deadline - time.monotonic(), 0.01))
            try:
                data = self.control.recv(65536)
            except TimeoutError:
                break
            pending = [orders.report(line) for line in self.lines.feed(data)]
        raise AssertionError("the answerer did not say it")

    def end(self) -> None:
        self.control.close()
        self.process.wait(5)


@pytest.fixture
def segment() -> Iterator[Segment]:
    names = [f"lbs-ans-{os.getpid()}-{role}" for role in ("node", "client")]
    node, client = names
    try:
        namespaces.add(names)
    except LbspeakerError as error:
        pytest.skip(str(error))
    try:
        namespaces.configure(
            client, [line.format(client=CLIENT_MAC, node=node, mac=NODE_MAC) for line in LINK_BUILD]
        )
        up = ["addr add 192.0.2.1/24 dev eth0", "addr add 2001:db8::1/64 dev eth0 nodad", "link set eth0 up"]
        namespaces.configure(node, up)
        found = Segment(node, client)
        yield found
        found.tap.close()
    finally:
        namespaces.remove(names)


def index(node: str) -> int:
    shown = namespaces.run(node, ["ip", "-j", "link", "show", "eth0"])
    return int(json.loads(shown.stdout)[0]["ifindex"])


@pytest.fixture
def answerer(segment: Segment) -> Iterator[Running]:
    running = Running(segment.node, "standard")
    running.use(index(segment.node))
    yield running
    running.end()


def test_a_client_finds_the_service_ip(segment: Segment, answerer: Running) -> None:
    answerer.announce(WEB, WEB6)
    (answer,) = segment.asks(who_has())
    assert (answer.src, answer[ARP].hwsrc, answer[ARP].psrc) == (NODE_MAC, NODE_MAC, WEB)
    if shutil.which("arping"):
        asked = segment.run("arping", "-c", "2", "-w", "3", "-i", "eth0", WEB)
        assert NODE_MAC in asked.stdout, asked
    if shutil.which("ndisc6"):
        asked = segment.run("ndisc6", "-1", "-q", "-r", "3", WEB6, "eth0")
        assert asked.stdout.strip().lower() == NODE_MAC, asked


def test_the_clients_kernel_finds_it_too_and_finds_it_again_by_a_unicast_probe(
    segment: Segment, answerer: Running
) -> None:
    answerer.announce(WEB, WEB6)
    for ip in (WEB, WEB6):
        segment.run("ping", "-c", "1", "-W", "1", ip) if shutil.which("ping") else connect(segment, ip)
        wait_for(lambda ip=ip: "REACHABLE" in neighbour(segment, ip))  # type: ignore[misc]
        namespaces.configure(segment.client, [f"neigh change {ip} dev eth0 lladdr {NODE_MAC} nud probe"])
        wait_for(lambda ip=ip: "REACHABLE" in neighbour(segment, ip))  # type: ignore[misc]


def connect(segment: Segment, ip: str) -> None:
    """Make the kernel ask for the neighbour."""
    family = socket.AF_INET6 if ":" in ip else socket.AF_INET
    with namespaces.socket_in(segment.client, family, socket.SOCK_DGRAM) as datagram:
        datagram.sendto(b"", (ip, 9))


def neighbour(segment: Segment, ip: str) -> str:
    return segment.run("ip", "neigh", "show", ip, "dev", "eth0").stdout


def wait_for(condition: Callable[[], bool], seconds: float = 5.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_what_must_not_be_answered(segment: Segment, answerer: Running) -> None:
    answerer.announce(WEB)
    silence = {
        "an IP of the pool that is not announced": who_has("192.0.2.11"),
        "an IP outside every pool": who_has("192.0.2.99"),
        "another VLAN": Ether(src=CLIENT_MAC, dst=BROADCAST) / Dot1Q(vlan=100) / who_has().payload,
        "a frame for another host": who_has(dst="02:00:00:00:00:99"),
        "a sender that cannot be": who_has(hwsrc="ff:ff:ff:ff:ff:ff"),
        "a truncated packet": Ether(bytes(who_has())[:30]),
    }
    answered = [what for what, frame in silence.items() if segment.asks(frame, 0.2)]
    assert answered == []
    assert segment.asks(who_has(dst=NODE_MAC)), "but a unicast request for ours is"
    assert segment.asks(who_has(psrc="0.0.0.0")), "and so is a probe"


def test_neighbour_solicitations_by_unicast_and_by_probe(segment: Segment, answerer: Running) -> None:
    answerer.announce(WEB6)
    unicast = Ether(src=CLIENT_MAC, dst=NODE_MAC) / IPv6(src="2001:db8::200", dst=WEB6, hlim=255)
    unicast /= ICMPv6ND_NS(tgt=WEB6) / ICMPv6NDOptSrcLLAddr(lladdr=CLIENT_MAC)
    (answer,) = segment.asks(unicast)
    assert (answer[ICMPv6ND_NA].S, answer[ICMPv6ND_NA].O) == (1, 1)
    probe = Ether(src=CLIENT_MAC, dst="33:33:ff:00:00:10") / IPv6(src="::", dst="ff02::1:ff00:10", hlim=255)
    segment.send(probe / ICMPv6ND_NS(tgt=WEB6))
    told = segment.hears(lambda f: ICMPv6ND_NA in f and f.dst == "33:33:00:00:00:01", 0.5)
    assert [frame[ICMPv6ND_NA].S for _, frame in told] == [0]


def test_the_groups_of_ipv6_are_joined_and_left(segment: Segment, answerer: Running) -> None:
    def joined() -> bool:
        return "ff02::1:ff00:10" in namespaces.run(segment.node, ["ip", "maddr", "show", "eth0"]).stdout

    answerer.announce(WEB6)
    wait_for(joined)
    answerer.tell(orders.Release(WEB6))
    wait_for(lambda: not joined())


def test_forty_new_ips_stay_within_the_budget_and_each_is_told_once(
    segment: Segment, answerer: Running
) -> None:
    ips = [f"192.0.2.{n}" for n in range(10, 50)]
    answerer.announce(*ips)
    told = segment.hears(lambda f: ARP in f and f[ARP].op == 1 and f[ARP].psrc == f[ARP].pdst, 6.0)
    times = [at for at, _ in told]
    assert sorted(IPv4Address(frame[ARP].psrc) for _, frame in told) == [IPv4Address(ip) for ip in ips]
    assert max(sum(at <= other < at + 1.0 for other in times) for at in times) <= 12


def test_a_takeover_is_told_three_times(segment: Segment, answerer: Running) -> None:
    answerer.announce(WEB, WEB6, occasion="TAKEOVER")
    told = segment.hears(lambda f: (ARP in f and f[ARP].psrc == WEB) or ICMPv6ND_NA in f, 4.0)
    arps = [at for at, frame in told if ARP in frame]
    assert [round(at - arps[0], 1) for at in arps] == [0.0, 1.1, 3.3]
    assert sum(ICMPv6ND_NA in frame for _, frame in told) == 3
    assert {IPv6Address(f[ICMPv6ND_NA].tgt) for _, f in told if ICMPv6ND_NA in f} == {IPv6Address(WEB6)}


def test_asking_again_for_the_same_sends_nothing(segment: Segment, answerer: Running) -> None:
    answerer.announce(WEB)
    segment.hears(lambda _: True, 0.3)
    answerer.announce(WEB)
    answerer.announce(WEB, occasion="REFRESH")
    answerer.use(index(segment.node))
    assert segment.hears(lambda f: ARP in f, 0.5) == []


def test_what_is_released_is_not_answered_any_more(segment: Segment, answerer: Running) -> None:
    answerer.announce(WEB)
    assert segment.asks(who_has())
    answerer.tell(orders.Release(WEB))
    assert not segment.asks(who_has())


def test_another_that_claims_the_ip_is_reported_with_its_mac(segment: Segment, answerer: Running) -> None:
    answerer.announce(WEB)
    for _ in range(50):
        segment.send(Ether(src=CLIENT_MAC, dst=BROADCAST) / ARP(hwsrc=CLIENT_MAC, psrc=WEB, pdst=WEB))
    claimed = answerer.wait(lambda report: isinstance(report, orders.Claimed))
    assert claimed == orders.Claimed(WEB, "eth0", CLIENT_MAC)
    assert segment.asks(who_has()), "and it goes on answering"


def test_garbage_does_not_stop_it(segment: Segment, answerer: Running) -> None:
    answerer.announce(WEB)
    real = bytes(who_has())
    for size in range(14, 60):
        for noise in (os.urandom(size), real[:size], real[:20] + os.urandom(size)):
            segment.tap.send(real[:12] + b"\x08\x06" + noise[14:].ljust(1, b"\0"))
    time.sleep(1.0)  # nobody gets the same answer more than ten times in a second
    assert segment.asks(who_has())


def test_it_ends_with_its_speaker(segment: Segment) -> None:
    running = Running(segment.node, "standard")
    running.use(index(segment.node))
    running.announce(WEB)
    assert segment.asks(who_has())
    running.control.close()
    assert running.process.wait(2) == 0
    assert not segment.asks(who_has())


def test_without_the_permission_it_says_what_is_missing_and_stays(segment: Segment) -> None:
    running = Running(segment.node, "standard", confined=True)
    running.use(index(segment.node))
    failed = running.wait(lambda report: isinstance(report, orders.Failed))
    assert isinstance(failed, orders.Failed)
    assert failed.what == "no permission for a packet socket on eth0: the capability NET_RAW is missing"
    assert "securityContext.capabilities.add" in failed.hint
    assert running.process.poll() is None
    running.end()


def test_a_link_that_goes_and_comes_back(segment: Segment, answerer: Running) -> None:
    answerer.announce(WEB)
    segment.hears(lambda _: True, 0.3)
    namespaces.configure(segment.node, ["link set eth0 down"])
    answerer.tell(orders.Ports(()))
    namespaces.configure(segment.node, ["link set eth0 up"])
    time.sleep(0.1)
    answerer.use(index(segment.node))
    assert segment.hears(lambda f: ARP in f and f[ARP].psrc == WEB, 0.5), "it tells the segment again"
    assert segment.asks(who_has())
    answerer.tell(orders.Ports((orders.Port("eth7", 99, NODE_MAC.replace(":", "")),)))
    failed = answerer.wait(lambda report: isinstance(report, orders.Failed))
    assert isinstance(failed, orders.Failed)
    assert failed.what == "link eth7 cannot be used: No such device"
