"""What users live through with BFD: real speakers, FRR with bfdd, and power cuts."""

import itertools
import os
import re
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator
from datetime import datetime

import pytest

from lbspeaker.errors import LbspeakerError
from lbspeaker.lab import namespaces
from lbspeaker.lab.lab import Lab
from tests.lab.detectors import installed
from tests.scenarios.conftest import CONFIG, World, wait_for
from tests.scenarios.test_bgp import children, hops, typed

pytestmark = [
    pytest.mark.alone,
    pytest.mark.lab,
    pytest.mark.timeout(180),
    pytest.mark.skipif(not installed(), reason="FRR is not installed"),
]


@pytest.fixture(scope="module")
def bfd() -> Iterator[World]:
    """A lab that announces by BGP, with BFD at 100 ms × 3, up everywhere."""
    try:
        lab = Lab.up(name=f"b{os.getpid()}", router="frr")
    except LbspeakerError as error:
        pytest.skip(str(error))
    with lab:
        world = World(lab)
        world.create("IPAddressPool", "lan", addresses=["192.0.2.100-192.0.2.150"])
        world.create("BFDProfile", "fast", receiveInterval=100, transmitInterval=100)
        peer = {"myASN": 64513, "peerASN": 64512, "peerAddress": "192.0.2.1", "holdTime": "90s"}
        world.create("BGPPeer", "router", **peer, bfdProfile="fast")
        world.create("BGPAdvertisement", "bgp")
        world.service("web")
        all_up(world)
        yield world


def configure(world: World, *lines: str) -> None:
    typed(world, "configure terminal", *lines)


def sessions(world: World) -> dict[str, str]:
    """What the router says about BFD with each node."""
    said = typed(world, "show bfd peers brief")
    return {found[1]: found[2] for found in re.finditer(r"(192\.0\.2\.20\d) +(\w+)", said)}


def told(world: World) -> str:
    """What the router and the speakers say, for somebody who wonders."""
    said = [f"{node.name}:\n{world.log(node.name)[-1500:]}" for node in world.lab.nodes]
    return "\n".join([typed(world, "show bfd peers", "show bgp summary"), *said])


def three_hops(world: World) -> None:
    try:
        wait_for(lambda: hops(world, world.ip("web")) == 3, "three next hops", 30)
    except AssertionError as error:
        raise AssertionError(f"{error}; {told(world)}") from None


def all_up(world: World) -> None:
    three_hops(world)
    try:
        wait_for(lambda: list(sessions(world).values()) == ["up"] * 3, "BFD is up with all", 10)
    except AssertionError as error:
        raise AssertionError(f"{error}; {told(world)}") from None
    time.sleep(0.6)


def gone_after(world: World, ip: str, node: str, cut: Callable[[], None]) -> float:
    """Cut, and return the seconds until the kernel of the router has no way to `ip` by `node`."""
    address = next(str(one.ipv4) for one in world.lab.nodes if one.name == node)
    line = namespaces.command(world.lab.router.namespace, ["stdbuf", "-oL", "ip", "-ts", "monitor", "route"])
    with subprocess.Popen(line, stdout=subprocess.PIPE, text=True) as monitor:
        try:
            assert monitor.stdout
            time.sleep(0.3)
            began = time.time()
            cut()
            for said in monitor.stdout:
                if ip in said or said.startswith("["):
                    at = re.match(r"\[(\S+)\]", said)
                    still = world.lab.exec("router", ["ip", "route", "show", ip]).stdout
                    if at and address not in still:
                        return datetime.fromisoformat(at[1]).timestamp() - began
        finally:
            monitor.kill()
    raise AssertionError("the monitor ended")


@pytest.mark.skipif(not shutil.which("stdbuf"), reason="there is no stdbuf")
def test_a_node_without_power_is_out_of_the_routers_table_in_less_than_400_ms(bfd: World) -> None:
    ip = bfd.ip("web")
    took = []
    for node in ("node-a", "node-b", "node-c"):
        try:
            took.append(gone_after(bfd, ip, node, lambda node=node: bfd.lab.cut(node)))  # type: ignore[misc]
            assert hops(bfd, ip) == 2, "the others are not touched"
        finally:
            bfd.lab.heal(node)
        all_up(bfd)
    assert max(took) < 0.4, took


def test_the_speaker_ends_bgp_waits_and_is_back_with_bfd(bfd: World) -> None:
    before = children(bfd, "node-b")
    began = len(bfd.log("node-b"))
    bfd.lab.cut("node-b", segment_only=True)
    try:
        wait_for(lambda: not children(bfd, "node-b"), "BGP waits", 2)
        wait_for(lambda: "peer-held" in bfd.log("node-b")[began:], "it is told", 2)
        why = "BFD with 192.0.2.1 is down: nothing was heard for the detection time"
        assert why in bfd.log("node-b")[began:]
    finally:
        bfd.lab.heal("node-b")
    all_up(bfd)
    assert children(bfd, "node-b") != before


def test_a_killed_bgp_daemon_is_held_for_one_cause(bfd: World) -> None:
    """Its bfdd goes through several states meanwhile, and none of them is another cause."""
    began = {node.name: len(bfd.log(node.name)) for node in bfd.lab.nodes}
    bfd.lab.stop("router", 0)
    try:
        time.sleep(2)
    finally:
        bfd.lab.start("router")
    alive = ["vtysh", "--vty_socket", str(bfd.lab.router.directory), "-d", "bgpd", "-c", "show version"]
    wait_for(lambda: bfd.lab.exec("router", alive).returncode == 0, "bgpd is back", 10)
    all_up(bfd)
    for node, at in began.items():
        said = bfd.log(node)[at:]
        held = ["peer-held" in line for line in said.splitlines() if " peer-" in line]
        assert any(held), said
        assert not any(one and following for one, following in itertools.pairwise(held)), said
        assert "waits for BFD" not in said
        assert "does not come up" not in said


def test_status_tells_of_bfd(bfd: World) -> None:
    def row() -> list[str]:
        said = subprocess.run(bfd.status("node-a"), capture_output=True, text=True, check=False).stdout
        return next((line.split() for line in said.splitlines() if line.startswith("192.0.2.1 ")), [])

    wait_for(lambda: row()[1:6] == ["up", "100", "ms", "300", "ms"], "the timers", 8)


def test_an_edited_profile_and_one_that_is_taken_away_leave_bgp_alone(bfd: World) -> None:
    before = children(bfd, "node-a")
    spec = {"spec": {"transmitInterval": 200, "receiveInterval": 200}}
    bfd.call("PATCH", f"{CONFIG}/bfdprofiles/fast", spec, patch=True)
    time.sleep(2.5)
    assert list(sessions(bfd).values()) == ["up"] * 3
    assert children(bfd, "node-a") == before
    spec = {"spec": {"transmitInterval": 100, "receiveInterval": 100}}
    bfd.call("PATCH", f"{CONFIG}/bfdprofiles/fast", spec, patch=True)
    all_up(bfd)
    assert children(bfd, "node-a") == before


def test_a_speaker_that_ends_withdraws_before_bfd_ends(bfd: World) -> None:
    bfd.lab.stop("speaker-node-c")
    assert hops(bfd, bfd.ip("web")) == 2
    assert "bfd-down" not in bfd.log("node-c").rpartition("draining")[2]
    bfd.lab.start("speaker-node-c")
    all_up(bfd)


def test_a_router_without_bfd_has_bgp_and_is_named(bfd: World) -> None:
    configure(bfd, "router bgp 64512", "no neighbor NODES bfd")
    try:
        time.sleep(1)
        three_hops(bfd)
        told = "no BFD from 192.0.2.1 for 10 s; is bfd configured there for this neighbour?"
        wait_for(lambda: told in bfd.log("node-a"), "it is told", 20)
        said = subprocess.run(bfd.status("node-a"), capture_output=True, text=True, check=False).stdout
        assert f"peer router: {told}" in said
    finally:
        configure(bfd, "router bgp 64512", "neighbor NODES bfd profile NODES")
    all_up(bfd)


def test_a_router_that_shuts_bfd_down_keeps_bgp(bfd: World) -> None:
    before = {node.name: children(bfd, node.name) for node in bfd.lab.nodes}
    configure(bfd, "bfd", "profile NODES", "shutdown")
    try:
        told = "BFD is shut down on the router at 192.0.2.1; BGP goes on without it"
        wait_for(lambda: told in bfd.log("node-a"), "it is told", 5)
        time.sleep(1)
        assert hops(bfd, bfd.ip("web")) == 3
        assert {node.name: children(bfd, node.name) for node in bfd.lab.nodes} == before
    finally:
        configure(bfd, "bfd", "profile NODES", "no shutdown")
    all_up(bfd)


def test_a_profile_that_is_taken_away_here_costs_a_moment_with_this_frr(bfd: World) -> None:
    """FRR 8.4 takes the word that BFD is shut down for a failure, and is dialled again at once."""
    before = children(bfd, "node-a")
    bfd.call("PATCH", f"{CONFIG}/bgppeers/router", {"spec": {"bfdProfile": None}}, patch=True)
    time.sleep(1.5)
    wait_for(lambda: hops(bfd, bfd.ip("web")) == 3, "BGP is back", 3)
    assert children(bfd, "node-a") == before
    bfd.call("PATCH", f"{CONFIG}/bgppeers/router", {"spec": {"bfdProfile": "fast"}}, patch=True)
    configure(bfd, "router bgp 64512", "no neighbor NODES bfd")  # that was forgotten with the old session
    configure(bfd, "router bgp 64512", "neighbor NODES bfd profile NODES")
    all_up(bfd)
