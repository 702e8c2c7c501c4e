"""The switch of the lab: what it tells apart, how it counts, and when it shuts a port."""

import os
import signal
import socket
import struct
import subprocess
import time
from collections.abc import Iterator
from ipaddress import IPv6Address
from pathlib import Path

import pytest

from lbspeaker.lab import frames, namespaces, rootless, switch

MAC = bytes.fromhex("020000000001")
BROADCAST = b"\xff" * 6


def arp(op: int, sender: str, target: str, mac: bytes = MAC) -> bytes:
    header = BROADCAST + mac + b"\x08\x06\x00\x01\x08\x00\x06\x04" + struct.pack("!H", op)
    return header + mac + socket.inet_aton(sender) + bytes(6) + socket.inet_aton(target)


def ndp(kind: int, source: str, target: str, flags: int = 0) -> bytes:
    ethernet = b"\x33\x33\x00\x00\x00\x01" + MAC + b"\x86\xdd"
    ip = b"\x60\x00\x00\x00\x00\x18\x3a\xff" + IPv6Address(source).packed + IPv6Address("ff02::1").packed
    return ethernet + ip + bytes((kind, 0, 0, 0, flags, 0, 0, 0)) + IPv6Address(target).packed


@pytest.mark.parametrize(
    ("story", "frame", "expected"),
    [
        ("who has .10? tell .2", arp(1, "192.0.2.2", "192.0.2.10"), ("arp", "request", "request")),
        (".10 is at me, as you asked", arp(2, "192.0.2.10", "192.0.2.2"), ("arp", "reply", "answer")),
        (".10 is at me, all of you", arp(1, "192.0.2.10", "192.0.2.10"), ("arp", "request", "gratuitous")),
        ("the same, as a reply", arp(2, "192.0.2.10", "192.0.2.10"), ("arp", "reply", "gratuitous")),
        ("does anybody have .10?", arp(1, "0.0.0.0", "192.0.2.10"), ("arp", "request", "probe")),
        ("who has ::10?", ndp(135, "2001:db8::2", "2001:db8::10"), ("ndp", "request", "request")),
        ("does anybody have ::10?", ndp(135, "::", "2001:db8::10"), ("ndp", "request", "probe")),
        (
            "::10 is at me, as you asked",
            ndp(136, "fe80::1", "2001:db8::10", 0x60),
            ("ndp", "reply", "answer"),
        ),
        (
            "::10 is at me, all of you",
            ndp(136, "fe80::1", "2001:db8::10", 0x20),
            ("ndp", "reply", "gratuitous"),
        ),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_what_a_frame_is_for(story: str, frame: bytes, expected: tuple[str, str, str]) -> None:
    seen = frames.decode(frame, 1.5, "node-a")
    assert seen is not None
    assert (seen.protocol, seen.op, seen.kind) == expected
    assert (seen.time, seen.port, seen.mac) == (1.5, "node-a", "02:00:00:00:00:01")


@pytest.mark.parametrize(
    ("story", "frame"),
    [
        ("nothing", b""),
        ("cut off in the middle", arp(1, "192.0.2.2", "192.0.2.10")[:41]),
        (
            "ARP for something that is not IPv4",
            arp(1, "192.0.2.2", "192.0.2.10").replace(b"\x08\x00", b"\x08\x01"),
        ),
        ("reverse ARP", arp(3, "192.0.2.2", "192.0.2.10")),
        ("a router solicitation", ndp(133, "fe80::1", "::")),
        ("a neighbour advertisement without its target", ndp(136, "fe80::1", "2001:db8::10")[:70]),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_what_is_neither_arp_nor_neighbour_discovery_is_left_out(story: str, frame: bytes) -> None:
    assert frames.decode(frame, 0.0, "node-a") is None


@pytest.mark.parametrize(
    ("story", "times", "window_s", "expected"),
    [
        ("silence", [], 1.0, 0),
        ("a burst", [5.0, 5.001, 5.002], 1.0, 3),
        ("two seconds are two windows", [0.0, 0.5, 1.0, 1.5], 1.0, 2),
        ("a window lies anywhere, not on the full second", [0.9, 0.95, 1.05, 1.1], 1.0, 4),
        ("the order does not matter", [1.1, 0.9, 1.05, 0.95], 1.0, 4),
        ("a shorter window", [0.0, 0.05, 0.12, 0.13, 0.14], 0.1, 4),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_the_peak_is_over_sliding_windows(
    story: str, times: list[float], window_s: float, expected: int
) -> None:
    assert frames.peak(times, window_s) == expected


def test_the_guard_tolerates_its_limit_in_every_second_and_not_one_more() -> None:
    guard = frames.PortGuard(3)
    assert [guard.arrive(t) for t in (0.0, 0.5, 0.75, 1.0, 1.5, 1.75)] == [0] * 6
    assert guard.arrive(1.9) == 4
    assert guard.arrive(1.9) == 0, "what arrived before the port was down does not count again"
    assert [guard.arrive(t) for t in (2.0, 2.1, 2.2)] == [0] * 3, "the count starts anew"
    assert guard.arrive(2.3) == 4


# --- real frames ----------------------------------------------------------------------------------------

PREFIX = f"lbs-sw{os.getpid()}-"
SWITCH, NODE_A, NODE_B = PREFIX + "switch", PREFIX + "a", PREFIX + "b"
needs_namespaces = pytest.mark.skipif(bool(rootless.obstacle()), reason=rootless.obstacle())


@pytest.fixture
def wire(tmp_path: Path) -> Iterator[switch.Switch]:
    """Two guarded ports, node-a and node-b, and one that is trusted."""
    try:
        namespaces.add([SWITCH, NODE_A, NODE_B])
        namespaces.sysctl(SWITCH, {"net/ipv6/conf/default/disable_ipv6": "1"})
        for name in (NODE_A, NODE_B):
            namespaces.sysctl(name, {"net/ipv6/conf/default/disable_ipv6": "1"})
        lines = ["link add br0 type bridge", "link set br0 up"]
        for port, namespace in {"node-a": NODE_A, "node-b": NODE_B, "router": NODE_B}.items():
            far = "eth1" if port == "router" else "eth0"
            lines += [
                f"link add {port} type veth peer name {far} netns {namespace}",
                f"link set {port} master br0 up",
            ]
        namespaces.configure(SWITCH, lines)
        namespaces.configure(NODE_A, ["link set eth0 up"])
        namespaces.configure(NODE_B, ["link set eth0 up", "link set eth1 up"])
        log = tmp_path / "switch.jsonl"
        argv = switch.argv(["node-a", "node-b", "router"], log, 15, ["node-a", "node-b"])
        process = subprocess.Popen(namespaces.command(SWITCH, argv))
        try:
            it = switch.Switch(SWITCH, log)
            it.wait_ready()
            yield it
        finally:
            process.send_signal(signal.SIGTERM)
            process.wait(10)
    finally:
        namespaces.remove([SWITCH, NODE_A, NODE_B])


def send(namespace: str, count: int, link: str = "eth0", *, spread_s: float = 0.0) -> None:
    out = namespaces.socket_in(namespace, socket.AF_PACKET, socket.SOCK_RAW)
    with out:
        out.bind((link, 0))
        for number in range(count):
            out.send(arp(1, f"192.0.2.{number % 200 + 1}", f"192.0.2.{number % 200 + 1}"))
            time.sleep(spread_s / count)


def wait_for_frames(wire: switch.Switch, count: int) -> None:
    deadline = time.monotonic() + 5
    while len(wire.frames()) < count and time.monotonic() < deadline:
        time.sleep(0.01)


@pytest.mark.lab
@needs_namespaces
def test_fifteen_frames_in_a_second_stay_and_the_sixteenth_shuts_the_port(wire: switch.Switch) -> None:
    send(NODE_A, 15)
    wait_for_frames(wire, 15)
    assert (wire.peak("node-a"), wire.ports_down()) == (15, [])

    time.sleep(1.1)
    send(NODE_A, 16)
    wait_for_frames(wire, 31)
    assert wire.ports_down() == ["node-a"]
    (event,) = wire.shut()
    assert (event.port, event.frames, event.limit) == ("node-a", 16, 15)
    assert wire.peak("node-a", kind="gratuitous") == 16
    assert wire.peak("node-a", kind="answer") == 0
    assert wire.peak("node-b") == 0, "what leaves by a port is not counted there"

    wire.restore("node-a")
    assert wire.ports_down() == []
    send(NODE_A, 15)
    wait_for_frames(wire, 46)
    assert wire.ports_down() == [], "a restored port starts with an empty count"


@pytest.mark.lab
@needs_namespaces
def test_a_trusted_port_may_storm_and_every_frame_is_written_down(wire: switch.Switch) -> None:
    began = time.time()
    send(NODE_B, 2000, "eth1")
    wait_for_frames(wire, 2000)
    seen = wire.frames("router", "gratuitous")
    assert len(seen) == 2000
    assert wire.ports_down() == []
    assert all(began - 0.1 < frame.time < time.time() + 0.1 for frame in seen)
    assert wire.frames(since=seen[1499].time) == seen[1500:]


@pytest.mark.lab
@needs_namespaces
def test_frames_spread_over_time_have_a_low_peak(wire: switch.Switch) -> None:
    send(NODE_A, 20, spread_s=2.0)
    wait_for_frames(wire, 20)
    assert wire.ports_down() == []
    assert 9 <= wire.peak("node-a") <= 12
