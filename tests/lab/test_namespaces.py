"""Namespaces come and go completely, and the picture of the lab is what the kernel then shows."""

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from lbspeaker.errors import Unable
from lbspeaker.lab import namespaces, rootless, topology

needs_namespaces = pytest.mark.skipif(bool(rootless.obstacle()), reason=rootless.obstacle())
lab = pytest.mark.lab

PREFIX = f"lbs-ns{os.getpid()}-"
ONE, TWO = PREFIX + "one", PREFIX + "two"


@pytest.fixture
def pair() -> Iterator[None]:
    """Two namespaces with a cable between them: 192.0.2.1 in the first, 192.0.2.2 in the second."""
    try:
        namespaces.add([ONE, TWO])
        namespaces.configure(ONE, [f"link add eth0 type veth peer name eth0 netns {TWO}"])
        namespaces.configure(ONE, ["link set eth0 up", "address add 192.0.2.1/24 dev eth0"])
        namespaces.configure(TWO, ["link set eth0 up", "address add 192.0.2.2/24 dev eth0"])
        yield
    finally:
        namespaces.remove([ONE, TWO])


@lab
@needs_namespaces
def test_a_socket_of_one_process_lives_in_another_namespace(pair: None) -> None:
    listener = namespaces.listen_in(ONE, "192.0.2.1", 80)
    caller = namespaces.socket_in(TWO, socket.AF_INET, socket.SOCK_STREAM)
    with listener, caller:
        caller.connect(("192.0.2.1", 80))
        with listener.accept()[0] as answerer:
            assert answerer.getpeername()[0] == "192.0.2.2"


@lab
@needs_namespaces
def test_parameters_of_one_namespace_are_not_those_of_another(pair: None) -> None:
    namespaces.sysctl(ONE, {"net/ipv4/ip_forward": "1"})
    read = ["cat", "/proc/sys/net/ipv4/ip_forward"]
    assert namespaces.run(ONE, read).stdout == "1\n"
    assert namespaces.run(TWO, read).stdout == "0\n"


@lab
@needs_namespaces
def test_removal_ends_whoever_is_inside_even_those_who_ignore_it(pair: None) -> None:
    stubborn = subprocess.Popen(
        namespaces.command(ONE, ["sh", "-c", "trap '' TERM HUP; echo ready; while :; do sleep 1; done"]),
        stdout=subprocess.PIPE,
        start_new_session=True,
    )
    assert stubborn.stdout
    with stubborn.stdout:
        assert stubborn.stdout.readline() == b"ready\n"
    namespaces.remove([ONE, TWO])
    assert not namespaces.running(stubborn.pid)
    assert namespaces.existing(PREFIX) == []


@lab
@needs_namespaces
def test_what_a_killed_owner_left_behind_is_removed_by_the_next() -> None:
    name = PREFIX + "orphan"
    owner = subprocess.Popen(
        [
            sys.executable,
            "-c",
            "import subprocess, time; from lbspeaker.lab import namespaces as n;"
            f"n.add([{name!r}]); p = subprocess.Popen(n.command({name!r}, ['sleep', '60']));"
            "print(p.pid, flush=True); time.sleep(60)",
        ],
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        assert owner.stdout
        with owner.stdout:
            orphan = int(owner.stdout.readline())
        owner.send_signal(signal.SIGKILL)
        owner.wait()
        assert namespaces.existing(PREFIX) == [name]
        deadline = time.monotonic() + 10
        while orphan not in namespaces.inhabitants([name]):  # `ip netns exec` takes a moment to get there
            assert time.monotonic() < deadline
            time.sleep(0.01)
        namespaces.remove(namespaces.existing(PREFIX))
        assert namespaces.existing(PREFIX) == []
        assert not namespaces.running(orphan)
    finally:
        owner.kill()
        namespaces.remove([name])


@lab
@needs_namespaces
def test_errors_say_which_line_and_what_to_do(pair: None) -> None:
    with pytest.raises(Unable, match=r"bogus.*lab down"):
        namespaces.configure(ONE, ["link set lo up", "link set bogus up"])
    with pytest.raises(Unable, match=r"left over: lbspeaker lab down"):
        namespaces.add([ONE])
    with pytest.raises(Unable, match="there is no network namespace"):
        namespaces.socket_in(PREFIX + "nowhere", socket.AF_INET, socket.SOCK_STREAM)


def test_a_process_is_its_id_and_the_time_it_began() -> None:
    child = subprocess.Popen(["sleep", "60"])
    try:
        assert namespaces.running(child.pid)
        began = namespaces.started_at(child.pid)
        assert began.isdigit()
        time.sleep(0.02)
        assert namespaces.started_at(child.pid) == began
    finally:
        child.kill()
    deadline = time.monotonic() + 5
    while namespaces.running(child.pid) and time.monotonic() < deadline:
        time.sleep(0.01)
    assert namespaces.started_at(child.pid) == ""


# --- the picture ----------------------------------------------------------------------------------------


def test_everybody_has_addresses_and_a_mac_of_their_own() -> None:
    big = topology.topology("big", 20)
    assert [node.name for node in big.nodes][:3] == ["node-a", "node-b", "node-c"]
    for key in ("name", "ipv4", "ipv6", "mac"):
        assert len({getattr(host, key) for host in big.hosts}) == 22
    assert all(host.ipv4 in topology.SEGMENT[0] and host.ipv6 in topology.SEGMENT[1] for host in big.hosts)
    assert all(host.mac[0] == 2 for host in big.hosts), "unicast, locally administered (IEEE 802)"
    assert all(len(host.name) < 16 for host in big.hosts), "the names are names of interfaces, too"


@pytest.mark.parametrize("nodes", [0, 21])
def test_a_lab_has_one_to_twenty_nodes(nodes: int) -> None:
    with pytest.raises(ValueError, match="1 to 20 nodes"):
        topology.topology("x", nodes)


REACHES = """
import socket, sys
for target in sys.argv[1:]:
    try:
        socket.create_connection((target, 9), timeout=2)
    except ConnectionRefusedError:  # it answers: nobody listens on the port
        continue
    sys.exit(f"{target} is not reached")
"""


@lab
@needs_namespaces
@pytest.mark.parametrize("nodes", [1, 3])
def test_everybody_reaches_whom_the_picture_says(nodes: int, tmp_path: Path) -> None:
    picture = topology.topology(f"pic{os.getpid()}", nodes)
    try:
        namespaces.build(picture)
        last = picture.nodes[-1]
        pods = [str(pod) for node in picture.nodes for pod in node.pods]
        segment = [str(ip) for host in picture.hosts for ip in (host.ipv4, host.ipv6)]
        for member, targets in {
            "client": [*segment, "198.51.100.2", "2001:db8:100::2"],
            "remote": [*segment],
            last.name: [*pods, "10.99.0.1", "198.51.100.2"],
        }.items():
            argv = [sys.executable, "-c", REACHES, *targets]
            done = namespaces.run(picture.namespace(member), argv)
            assert (done.returncode, done.stderr) == (0, ""), member
    finally:
        namespaces.remove(namespaces.existing(picture.prefix))
    assert namespaces.existing(picture.prefix) == []
