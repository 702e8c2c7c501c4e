"""An upgrade under load, node after node as a DaemonSet does it: no IP changes, and nobody notices.

From the newest release (a tag v…), or from what $LBSPEAKER_PREVIOUS names to git; without either, this tree
replaces itself.
"""

import io
import json
import os
import subprocess
import sys
import tarfile
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

from lbspeaker.lab.processes import Process
from tests.scenarios.conftest import Probe, World, wait_for

pytestmark = [pytest.mark.lab, pytest.mark.timeout(240)]

ROOT = Path(__file__).parents[2]
L2, BGP = ("web-1", "web-2", "web-3"), "routed"
READY_S = 3.0  # minReadySeconds, so to say


def git(*words: str) -> bytes:
    return subprocess.run(["git", "-C", ROOT, *words], capture_output=True, check=True).stdout


def previous() -> str:
    """What git calls the version to come from; "" where there is none."""
    if wanted := os.environ.get("LBSPEAKER_PREVIOUS"):
        return wanted
    try:
        tags = git("tag", "--list", "v*", "--sort=-version:refname").decode().split()
    except (OSError, subprocess.CalledProcessError):
        return ""
    return tags[0] if tags else ""


@pytest.fixture(scope="module")
def before(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tree of that version."""
    name = previous()
    if not name:
        return ROOT
    directory = tmp_path_factory.mktemp("previous")
    with tarfile.open(fileobj=io.BytesIO(git("archive", name, "lbspeaker"))) as archive:
        archive.extractall(directory, filter="data")
    return directory


def programs(world: World) -> list[Process]:
    """Those that an upgrade replaces, in order: the controller, then one speaker after the other."""
    return [
        world.lab.processes[name] for name in ("controller", *(f"speaker-{n.name}" for n in world.lab.nodes))
    ]


def replace(world: World, program: Process, tree: Path) -> None:
    """End it in order, start it from that tree, and wait until it is as good as its predecessor."""
    world.lab.stop(program.name, patience_s=45)
    said = len(world.lab.log(program.name))
    argv = program.argv[program.argv.index(sys.executable) :]
    program.argv = ["env", f"--chdir={tree}", f"PYTHONPATH={tree}", *argv]
    world.lab.start(program.name)
    word = "leading" if program.name == "controller" else "serving"
    wait_for(lambda: word in world.lab.log(program.name)[said:], f"{program.name} is {word}", 30)


def hops(world: World, ip: str) -> int:
    return len({str(prefix): to for prefix, to in world.lab.router.table().items()}.get(f"{ip}/32", ()))


@contextmanager
def watched(world: World, ip: str) -> Iterator[list[int]]:
    """Over how many next hops the router reaches `ip`, again and again."""
    seen: list[int] = []
    over = threading.Event()

    def watch() -> None:
        while not over.wait(0.1):
            seen.append(hops(world, ip))

    thread = threading.Thread(target=watch)
    thread.start()
    try:
        yield seen
    finally:
        over.set()
        thread.join()


def test_an_upgrade_moves_no_ip_and_loses_no_route(world: World, before: Path) -> None:
    for program in programs(world) if before != ROOT else ():
        replace(world, program, before)
    router = next(str(h.ipv4) for h in world.lab.topology.hosts if h.name == "router")
    world.create("IPAddressPool", "routed", addresses=["203.0.113.0/28"], autoAssign=False)
    world.create("BGPPeer", "router", myASN=64513, peerASN=64512, peerAddress=router, holdTime="9s")
    world.create("BGPAdvertisement", "routed", ipAddressPools=["routed"])
    for name in L2:
        world.service(name)
    world.service(BGP, annotations={"lbspeaker.io/address-pool": "routed"})
    ips = {name: world.ip(name) for name in (*L2, BGP)}
    for name in L2:
        world.settle(ips[name])
    wait_for(lambda: hops(world, ips[BGP]) == 3, "all nodes announce it", 20)

    with ExitStack() as watching:
        probes = [watching.enter_context(Probe(world, ips[name])) for name in L2]
        far = watching.enter_context(Probe(world, ips[BGP], member="remote"))
        table = watching.enter_context(watched(world, ips[BGP]))
        for program in programs(world):
            replace(world, program, ROOT)
            wait_for(lambda: hops(world, ips[BGP]) == 3, "its routes are back", 20)
            threading.Event().wait(READY_S)

    assert {name: world.ip(name) for name in ips} == ips
    assert [probe.longest_gap() < 1.0 for probe in probes] == [True] * 3, [p.longest_gap() for p in probes]
    assert far.longest_gap() < 1.0, far.longest_gap()
    assert min(table) == 2, "one node after the other was away, and never the whole route"
    told = world.lab.exec("control", [*version(world), "-o", "json"])
    found = json.loads(told.stdout)
    assert told.returncode == 0, told
    assert found["warnings"] == []
    assert {found["client"]} == {found["controller"], *found["speakers"].values()}


def version(world: World) -> list[str]:
    return [sys.executable, "-m", "lbspeaker", "version", "--kubeconfig", str(world.lab.node_kubeconfig)]
