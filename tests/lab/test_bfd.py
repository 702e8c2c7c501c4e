"""Our BFD against FRR's: both families, several hops, and who notices what within which time."""

import os
import shutil
import signal
import socket
import statistics
import struct
import time
from collections.abc import Callable, Iterator
from typing import NamedTuple

import pytest

from lbspeaker.errors import LbspeakerError
from lbspeaker.lab import namespaces
from lbspeaker.model import BFDPacket, BFDProfile, BFDState
from lbspeaker.shell import datagram
from lbspeaker.wire import bfd, watch
from tests.lab.detectors import (
    FAR,
    FAR6,
    LOCAL,
    NODE,
    NODE6,
    QUICK,
    ROUTER,
    ROUTER6,
    ROUTER_LOCAL,
    Bfdd,
    Bird,
    Detecting,
    cables,
    frr,
    installed,
)
from tests.lab.segment import hosts

pytestmark = [pytest.mark.lab, pytest.mark.skipif(not installed(), reason="FRR is not installed")]

ADMIN_DOWN, DOWN, INIT, UP = BFDState
TARGET = watch.Target(ROUTER, QUICK)


class Place(NamedTuple):
    node: str
    router: str
    far: str


@pytest.fixture(scope="module")
def place() -> Iterator[Place]:
    try:
        with hosts("node", "router", "far") as names, cables(*names):
            yield Place(*names)
    except LbspeakerError as error:
        pytest.skip(str(error))


@pytest.fixture
def ours(place: Place) -> Iterator[Detecting]:
    running = Detecting(place.node)
    try:
        running.wait(watch.Ready)
        yield running
    finally:
        running.end()


Start = Callable[..., Bfdd]


@pytest.fixture
def bfdd(place: Place) -> Iterator[Start]:
    """Start a bfdd with this configuration, on the router or far behind it."""
    started: list[Bfdd] = []

    def start(configuration: str, where: str = place.router) -> Bfdd:
        started.append(Bfdd(where, configuration))
        return started[-1]

    yield start
    for one in started:
        one.end()


WAYS = [
    ("IPv4", watch.Target(ROUTER, QUICK), "router", NODE, f"{NODE}"),
    ("IPv6", watch.Target(ROUTER6, QUICK), "router", NODE6, f"{NODE6}"),
    ("from an address", watch.Target(ROUTER, QUICK, source=NODE), "router", NODE,
     f"{NODE} local-address {ROUTER}"),
    ("link-local", watch.Target(ROUTER_LOCAL, QUICK, link="eth0"), "router", LOCAL,
     f"{LOCAL} local-address {ROUTER_LOCAL} interface eth0"),
    ("two hops", watch.Target(FAR, QUICK, multihop=True), "far", NODE,
     f"{NODE} multihop local-address {FAR}"),
    ("two hops, IPv6", watch.Target(FAR6, QUICK, multihop=True), "far", NODE6,
     f"{NODE6} multihop local-address {FAR6}"),
]  # fmt: skip


@pytest.mark.parametrize(("way", "target", "where", "node", "peer"), WAYS, ids=[way for way, *_ in WAYS])
def test_up_and_lost_and_up_again(
    place: Place,
    ours: Detecting,
    bfdd: Start,
    way: str,
    target: watch.Target,
    where: str,
    node: str,
    peer: str,
) -> None:
    minimum = ["  minimum-ttl 254"] if target.multihop else []
    configuration = frr(peer, more=minimum)
    router = bfdd(configuration, getattr(place, where))
    ours.watch(target)
    status = ours.state(UP)
    assert (status.remote_state in (INIT, UP), status.diagnostic) == (True, 0)
    router.wait(node, "up")
    ours.quiet(0.6)
    found = router.peer(node)
    assert (found["remote-detect-multiplier"], found["remote-transmit-interval"]) == (3, 100)
    assert found["remote-receive-interval"] == 100
    router.kill()
    killed = time.monotonic()
    status = ours.state(DOWN, 1.0)
    assert 0.15 < time.monotonic() - killed < 0.36
    assert (status.diagnostic, status.heard) == (1, False)
    again = bfdd(configuration, getattr(place, where))
    ours.state(UP)
    again.wait(node, "up")


BIRDS = [
    ("IPv4", watch.Target(ROUTER, QUICK), "router", NODE, f"{NODE} dev \"eth0\""),
    ("IPv6", watch.Target(ROUTER6, QUICK), "router", NODE6, f"{NODE6} dev \"eth0\""),
    # It sends with the kernel's TTL, 64.
    ("two hops", watch.Target(FAR, BFDProfile("", 100, 100, 3, minimum_ttl=60), multihop=True), "far", NODE,
     f"{NODE} local {FAR} multihop on"),
]  # fmt: skip


@pytest.mark.skipif(not shutil.which("birdc"), reason="BIRD is not installed")
@pytest.mark.parametrize(
    ("way", "target", "where", "node", "neighbor"), BIRDS, ids=[way for way, *_ in BIRDS]
)
def test_bird_notices_and_is_noticed(
    place: Place, ours: Detecting, way: str, target: watch.Target, where: str, node: str, neighbor: str
) -> None:
    bird = Bird(getattr(place, where), neighbor)
    try:
        ours.watch(target)
        ours.state(UP)
        bird.wait(node, "Up")
        ours.quiet(0.6)
        ours.watch()
        bird.wait(node, "Down", 0.3)
        ours.watch(target)
        ours.state(UP)
        bird.wait(node, "Up")
        bird.kill()
        killed = time.monotonic()
        assert ours.state(DOWN, 1.0).diagnostic == 1
        assert time.monotonic() - killed < 0.36
    finally:
        bird.end()


def test_frr_notices_that_we_are_gone(ours: Detecting, bfdd: Start) -> None:
    router = bfdd(frr(NODE))
    ours.watch(TARGET)
    ours.state(UP)
    router.wait(NODE, "up")
    time.sleep(0.5)
    ours.process.kill()
    killed = time.monotonic()
    assert 0.15 < router.wait(NODE, "down") - killed < 0.45
    assert router.peer(NODE)["diagnostic"] == "control detection time expired"


def test_each_end_tells_the_other_that_it_was_shut_down(ours: Detecting, bfdd: Start) -> None:
    router = bfdd(frr(NODE))
    ours.watch(TARGET)
    ours.state(UP)
    router.wait(NODE, "up")
    router.configure(f"peer {NODE}", "shutdown")
    status = ours.state(DOWN, 1.0)
    assert (status.diagnostic, status.remote_state, status.heard) == (3, ADMIN_DOWN, True)
    router.configure(f"peer {NODE}", "no shutdown")
    ours.state(UP)
    router.wait(NODE, "up")
    ours.tell(watch.Leave())
    began = time.monotonic()
    assert router.wait(NODE, "down") - began < 0.25, "not only when the detection time has passed"
    assert router.peer(NODE)["diagnostic"] == "neighbor signaled session down"
    assert ours.state(ADMIN_DOWN).diagnostic == 7


def test_a_router_that_is_watched_no_more_is_told_so_and_may_come_back(ours: Detecting, bfdd: Start) -> None:
    router = bfdd(frr(NODE))
    ours.watch(TARGET)
    ours.state(UP)
    ours.watch()
    router.wait(NODE, "down")
    ours.watch(TARGET)
    ours.state(UP)


@pytest.mark.parametrize("who", ["we", "FRR"])
def test_one_end_may_be_passive(ours: Detecting, bfdd: Start, who: str) -> None:
    router = bfdd(frr(NODE, more=["  passive-mode"] if who == "FRR" else []))
    ours.watch(watch.Target(ROUTER, BFDProfile("", 100, 100, 3, passive=who == "we")))
    ours.state(UP)
    router.wait(NODE, "up")


def test_both_passive_say_nothing(place: Place, ours: Detecting) -> None:
    ours.watch(watch.Target(ROUTER, BFDProfile("", 100, 100, 3, passive=True)))
    with listening(place.router) as heard:
        assert packets(heard, 1.5) == []


def test_other_timers_are_agreed_upon_while_it_is_up(ours: Detecting, bfdd: Start) -> None:
    router = bfdd(frr(NODE))
    ours.watch(TARGET)
    ours.state(UP)
    ours.watch(watch.Target(ROUTER, BFDProfile("", 400, 250, 4)))
    ours.wait(watch.Counted, lambda said: said.interval_ms == 250 and said.detection_ms == 1200, 12)
    found = router.peer(NODE)
    assert (found["remote-receive-interval"], found["remote-transmit-interval"]) == (400, 250)
    assert found["remote-detect-multiplier"] == 4
    ours.quiet(1.0)


# --- what is on the wire --------------------------------------------------------------------------------


def listening(namespace: str, port: int = 3784, family: int = 4) -> socket.socket:
    return namespaces.inside(namespace, lambda: datagram.listen(family, port))


def packets(opened: socket.socket, seconds: float) -> list[tuple[datagram.Datagram, BFDPacket]]:
    found = []
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if (arrived := datagram.receive(opened)) is None:
            time.sleep(0.002)
        else:
            found.append((arrived, bfd.parse(arrived.data)))
    return found


class Hand:
    """A router's end, by hand."""

    def __init__(self, place: Place) -> None:
        self.listener = listening(place.router)
        self.sender = namespaces.socket_in(place.router, socket.AF_INET, socket.SOCK_DGRAM)
        self.sender.bind((ROUTER, 50000))
        self.their = 0

    def hears(self, seconds: float = 1.5) -> BFDPacket:
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            if (arrived := datagram.receive(self.listener)) is not None:
                said = bfd.parse(arrived.data)
                self.their = said.mine
                return said
            time.sleep(0.002)
        raise AssertionError("nothing is heard")

    def says(self, state: BFDState, ttl: int = 255, port: int = 3784, **fields: int) -> None:
        packet = BFDPacket(state, 0, 3, 77, self.their, 1_000_000, 1_000_000)._replace(**fields)  # type: ignore[arg-type]
        self.sender.setsockopt(socket.IPPROTO_IP, socket.IP_TTL, ttl)
        self.sender.sendto(bfd.build(packet), (NODE, port))

    def close(self) -> None:
        self.listener.close()
        self.sender.close()


@pytest.fixture
def hand(place: Place) -> Iterator[Hand]:
    one = Hand(place)
    yield one
    one.close()


def test_ttl_port_and_traffic_class_are_those_of_the_standards(place: Place, ours: Detecting) -> None:
    with namespaces.socket_in(place.router, socket.AF_PACKET, socket.SOCK_DGRAM, socket.htons(0x0800)) as tap:
        tap.settimeout(3)
        ours.watch(TARGET)
        ports = set()
        for _ in range(2):
            data = tap.recv(2048)
            while data[9] != 17:
                data = tap.recv(2048)
            ports.add(struct.unpack_from("!HH", data, 20))
            assert (data[1], data[8]) == (0xC0, 255)
        ((source, destination),) = ports
        assert destination == 3784
        assert 49152 <= source <= 65535


def test_what_comes_from_further_away_or_from_others_is_not_believed(hand: Hand, ours: Detecting) -> None:
    ours.watch(TARGET)
    hand.hears()
    for ttl in (254, 64, 1):
        hand.says(DOWN, ttl=ttl, your=0)
    hand.says(DOWN, your=1)  # a session that there is not
    hand.sender.sendto(b"\x20" + bytes(23), (NODE, 3784))
    ours.quiet(0.3)
    counted = ours.wait(watch.Counted, lambda said: bool(said.dropped), 8)
    assert counted.dropped == {"ttl": 3, "session": 1, "malformed": 1}
    assert counted.received == 0
    hand.says(DOWN, your=0)
    ours.state(INIT)


def test_another_host_cannot_speak_for_the_router(place: Place, hand: Hand, ours: Detecting) -> None:
    ours.watch(TARGET)
    hand.hears()
    other = namespaces.socket_in(place.router, socket.AF_INET, socket.SOCK_DGRAM)
    with other:
        other.bind(("198.51.100.1", 50000))
        other.setsockopt(socket.IPPROTO_IP, socket.IP_TTL, 255)
        packet = BFDPacket(DOWN, 0, 3, 78, hand.their, 1_000_000, 1_000_000)
        other.sendto(bfd.build(packet), (NODE, 3784))
        other.sendto(bfd.build(packet._replace(your=0)), (NODE, 3784))
        ours.quiet(0.3)


def test_a_poll_is_answered_at_once(hand: Hand, ours: Detecting) -> None:
    ours.watch(TARGET)
    hand.hears()
    hand.says(DOWN)
    assert hand.hears().state is INIT
    hand.says(INIT)
    said = hand.hears()
    assert (said.state, said.poll, said.desired_us) == (UP, True, 100_000)
    hand.says(UP, poll=1)
    began = time.monotonic()
    while not (said := hand.hears()).final:
        pass
    assert not said.poll
    assert time.monotonic() - began < 0.1


def test_who_stood_still_reads_what_arrived_before_it_believes_a_silence(
    ours: Detecting, bfdd: Start
) -> None:
    """Its own packets were missing meanwhile, so the router says down: that is why, and nothing else."""
    bfdd(frr(NODE))
    ours.watch(TARGET)
    ours.state(UP)
    time.sleep(0.3)
    ours.process.send_signal(signal.SIGSTOP)
    time.sleep(1.5)
    ours.process.send_signal(signal.SIGCONT)
    assert ours.wait(watch.Stood).seconds > 1.0
    assert ours.state(DOWN).diagnostic == 3
    ours.state(UP)


def test_a_short_stop_is_not_noticed_by_anybody(ours: Detecting, bfdd: Start) -> None:
    router = bfdd(frr(NODE))
    ours.watch(TARGET)
    ours.state(UP)
    router.wait(NODE, "up")
    for _ in range(5):
        ours.process.send_signal(signal.SIGSTOP)
        time.sleep(0.12)
        ours.process.send_signal(signal.SIGCONT)
        time.sleep(0.35)
    ours.quiet(0.3)


def test_it_ends_with_the_speaker_and_says_nothing_more(ours: Detecting, bfdd: Start) -> None:
    router = bfdd(frr(NODE))
    ours.watch(TARGET)
    ours.state(UP)
    router.wait(NODE, "up")
    ours.control.shutdown(socket.SHUT_RDWR)
    assert ours.process.wait(1) == 0
    router.wait(NODE, "down", 1)
    assert router.peer(NODE)["diagnostic"] == "control detection time expired"


def test_a_port_that_is_taken_is_told_and_used_when_it_is_free(
    place: Place, ours: Detecting, bfdd: Start
) -> None:
    bfdd(frr(NODE))
    with listening(place.node):
        ours.watch(TARGET)
        failed = ours.wait(watch.Failed)
        assert failed.what == "UDP port 3784 is taken"
        assert "ss -lunp 'sport = 3784'" in failed.hint
    ours.state(UP, 8)


def test_a_router_without_a_way_to_it_is_told_and_found_later(
    place: Place, ours: Detecting, bfdd: Start
) -> None:
    bfdd(frr(NODE))
    ours.watch(watch.Target(ROUTER, QUICK, source="192.0.2.77"))
    assert ours.wait(watch.Failed).what.startswith(f"no way to {ROUTER} from 192.0.2.77: ")
    namespaces.configure(place.node, ["link set eth0 down"])
    ours.watch(TARGET)
    try:
        assert ours.wait(watch.Failed).what.startswith(f"no way to {ROUTER}: ")
    finally:
        again = [f"addr replace {NODE6}/64 dev eth0 nodad", f"addr replace {LOCAL}/64 dev eth0 nodad"]
        routes = [f"route replace default via {ROUTER}", f"route replace default via {ROUTER6}"]
        namespaces.configure(place.node, ["link set eth0 up", *again, *routes])
    ours.state(UP, 8)


def test_priority_is_told_with_a_hint_where_it_is_missing(place: Place) -> None:
    confined = Detecting(place.node, ["setpriv", "--bounding-set=-sys_nice", "--inh-caps=-sys_nice"])
    try:
        ready = confined.wait(watch.Ready)
        assert ready.priority == "ordinary"
        assert "SYS_NICE" in ready.hint
    finally:
        confined.end()
    able = Detecting(place.node)
    try:
        ready = able.wait(watch.Ready)
        policy = os.sched_getscheduler(able.process.pid)
        nice = os.getpriority(os.PRIO_PROCESS, able.process.pid)
        assert (ready.priority, policy, nice, ready.hint) in (
            ("real time", os.SCHED_RR | os.SCHED_RESET_ON_FORK, 0, ""),
            ("nice -20", os.SCHED_OTHER, -20, ""),
        )
    finally:
        able.end()


def test_detection_takes_between_two_and_three_intervals(place: Place, ours: Detecting, hand: Hand) -> None:
    """Measured from the last packet that the kernel took, five times."""
    took = []
    ours.watch(TARGET)
    for _ in range(5):
        hand.hears()
        hand.says(DOWN, your=0)
        ours.state(INIT)
        hand.says(INIT, desired_us=100_000, required_us=1_000_000)
        ours.state(UP)
        for _ in range(5):
            time.sleep(0.08)
            hand.says(UP, desired_us=100_000, required_us=1_000_000)
        last = time.monotonic()
        ours.state(DOWN, 1.0)
        took.append(ours.reports[-1][0] - last)
        packets(hand.listener, 0.02)
    assert min(took) > 0.298 and max(took) < 0.33, took
    assert statistics.median(took) < 0.31, took
