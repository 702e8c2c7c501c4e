"""What this machine says of itself, asked of the real kernel."""

import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from lbspeaker.lab import namespaces, rootless
from lbspeaker.shell import machine
from lbspeaker.wire import proc_net

needs_namespaces = pytest.mark.skipif(bool(rootless.obstacle()), reason=rootless.obstacle())


def test_settings_that_are_there_and_others() -> None:
    found = machine.settings(["net.ipv4.ip_forward", "net.ipv4.conf.lo.rp_filter", "net.ipv4.nonsense"])
    assert set(found) == {"net.ipv4.ip_forward", "net.ipv4.conf.lo.rp_filter"}
    assert found["net.ipv4.ip_forward"] in ("0", "1")


def test_links_may_have_dots_in_their_names() -> None:
    path = machine._setting_path("net.ipv4.conf.eth0.5.rp_filter")
    assert path == Path("/proc/sys/net/ipv4/conf/eth0.5/rp_filter")


def test_who_holds_a_socket() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        [bound] = [one for one in proc_net.listening("tcp", machine.sockets("tcp")) if one.port == port]
        assert str(bound.address) == "127.0.0.1"
        [program] = machine.programs(frozenset({bound.inode})).values()
        assert Path(sys.executable).name.split(".")[0][:6] in program
    assert machine.programs(frozenset({bound.inode})) == {}
    assert machine.programs(frozenset()) == {}


@contextmanager
def kubelet(directory: Path, *before: str) -> Iterator[None]:
    """A process that is called kubelet, started by the command `before`."""
    program = directory / "kubelet"
    shutil.copy(shutil.which("sleep") or "/bin/sleep", program)
    process = subprocess.Popen([*before, str(program), "60"])
    try:
        deadline = time.monotonic() + 10
        while Path(f"/proc/{process.pid}/comm").read_text().strip() != "kubelet":
            assert time.monotonic() < deadline, "it does not start"
            time.sleep(0.01)
        yield
    finally:
        process.kill()
        process.wait()


def test_a_kubelet(tmp_path: Path) -> None:
    if machine.has_kubelet():
        pytest.skip("this machine is a node")
    with kubelet(tmp_path):
        assert machine.has_kubelet()
    assert not machine.has_kubelet()


@pytest.mark.lab
@needs_namespaces
def test_the_kubelet_of_a_cluster_in_containers(tmp_path: Path) -> None:
    if machine.has_kubelet():
        pytest.skip("this machine is a node")
    name = f"mach{os.getpid()}"
    try:
        namespaces.add([name])
        with kubelet(tmp_path, "ip", "netns", "exec", name):
            assert not machine.has_kubelet()
            assert namespaces.inside(name, machine.has_kubelet)
    finally:
        namespaces.remove([name])


@pytest.mark.lab
@needs_namespaces
def test_bridges_and_their_ports() -> None:
    name = f"mach{os.getpid()}b"
    try:
        namespaces.add([name])
        bridge = "link add br0 type bridge ageing_time 6000 mcast_snooping 1 mcast_querier 1"
        namespaces.configure(name, [bridge, "link add p0 type veth peer name p1", "link set p0 master br0"])
        options = ["bridge", "link", "set", "dev", "p0", "learning", "off", "flood", "off"]
        assert namespaces.run(name, options).returncode == 0
        wires = namespaces.inside(name, machine.wires)
    finally:
        namespaces.remove([name])
    found = wires.bridges["br0"]
    assert (found.ageing_s, found.multicast_snooping, found.querier) == (60.0, True, True)
    assert set(wires.bridge_ports) == {"p0"}
    assert (wires.bridge_ports["p0"].bridge, set(wires.bridge_ports["p0"].filters)) == (
        "br0",
        {"flood off", "learning off"},
    )
    assert wires.leased == ()
