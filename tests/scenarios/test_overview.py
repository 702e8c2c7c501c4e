"""What an operator sees of a whole cluster, and moves in it: the commands, as they are typed."""

import json
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from typing import Any

import pytest

from lbspeaker.core.election import rank
from lbspeaker.wire.kube_objects import PREFERRED
from tests.scenarios.conftest import CONFIG, SERVICES, SYSTEM, Probe, World, ip_address, wait_for

pytestmark = [pytest.mark.lab, pytest.mark.timeout(180)]

NODES = ["node-a", "node-b", "node-c"]


@pytest.fixture(autouse=True)
def web(world: World) -> Iterator[None]:
    if "router" not in {one["metadata"]["name"] for one in world.call("GET", f"{CONFIG}/bgppeers")["items"]}:
        router = str(world.lab.topology.router.ipv4)
        world.create("BGPPeer", "router", myASN=64513, peerASN=64512, peerAddress=router, holdTime="6s")
        world.create("BGPAdvertisement", "bgp")
    world.service("web")
    world.settle(world.ip("web"))
    wait_for(lambda: serving(status(world)), "every node serves it, and all is well", 20)
    yield
    world.delete(f"{SERVICES}/web")


def lbspeaker(world: World, *arguments: str) -> "subprocess.CompletedProcess[str]":
    argv = [sys.executable, "-m", "lbspeaker", *arguments, "--kubeconfig", str(world.lab.kubeconfig)]
    return subprocess.run(argv, capture_output=True, text=True, timeout=90, check=False)


def status(world: World, *arguments: str) -> dict[str, Any]:
    return dict(json.loads(lbspeaker(world, "status", "-o", "json", *arguments).stdout))


def serving(found: dict[str, Any]) -> bool:
    """Whether all is well, and each node says that its session has the route of the one Service."""
    sent = [(peer["state"], peer["sent"]) for _, peer in found["peers"]]
    return found["verdict"] == "well" and sent == [("up", 1)] * len(NODES)


def problems(world: World) -> str:
    return "\n".join(status(world)["problems"])


def test_all_of_it_at_one_glance(world: World) -> None:
    found, ip = status(world), world.ip("web")
    assert (found["verdict"], found["problems"], found["unread"]) == ("well", [], [])
    (pool,) = [row for row in found["pools"] if row["family"] == 4]
    assert (pool["size"], pool["used"]) == (51, 1)
    (row,) = found["services"]
    assert (row["service"], row["ip"], row["mode"]) == ("default/web", ip, "layer2+bgp")
    assert (row["owner"], row["nodes"]) == (world.owner(ip), NODES)
    assert {(node, peer["state"], peer["sent"]) for node, peer in found["peers"]} == {
        (node, "up", 1) for node in NODES
    }
    assert [(one["node"], one["alive"], one["state"], one["config"]) for one in found["speakers"]] == [
        (node, True, "serving", "current") for node in NODES
    ]
    text = lbspeaker(world, "status").stdout
    assert text.splitlines()[0] == "well"
    assert f"default/web   {ip}" in text


@pytest.mark.skipif(shutil.which("kubectl") is None, reason="kubectl is not installed")
def test_kubectl_says_the_essential(world: World) -> None:
    argv = ["kubectl", "--kubeconfig", str(world.lab.kubeconfig), "get", "speakers", "-n", SYSTEM]
    head, *rows = subprocess.run(argv, capture_output=True, text=True, check=True).stdout.splitlines()
    assert head.split() == ["NAME", "REPORTED", "LAST-STATE", "OWNED", "SESSIONS", "LAST-VERDICT", "STARTED"]
    assert [row.split()[:1] + row.split()[2:3] + row.split()[4:6] for row in rows] == [
        [node, "serving", "1/1", "well"] for node in NODES
    ]
    assert sum(int(row.split()[3]) for row in rows) == 1


def test_what_is_wrong_is_one_line_each(world: World) -> None:
    ip = world.ip("web")
    dead = next(node for node in NODES if node != world.owner(ip))
    world.lab.signal(f"speaker-{dead}", signal.SIGKILL)
    world.lab.stop("controller")
    try:
        wait_for(lambda: f"{dead}: its speaker has been silent for" in problems(world), "a dead speaker", 15)
        wait_for(lambda: "no controller acts" in problems(world), "no controller", 15)
        assert lbspeaker(world, "status").returncode == 1
        assert len(status(world)["problems"]) == 2
        (told,) = status(world, "default/web")["problems"]
        assert told.startswith("no controller acts")
        assert [row["node"] for row in status(world, "--problems")["speakers"]] == [dead]
    finally:
        world.lab.stop(f"speaker-{dead}", 0)
        world.lab.start(f"speaker-{dead}")
        world.lab.start("controller")


def test_a_node_is_taken_out_without_a_gap_and_comes_back(world: World) -> None:
    ip = world.ip("web")
    owner, following, _ = rank(ip_address(ip), dict.fromkeys(NODES, 0))
    assert world.settle(ip) == owner
    asked = lbspeaker(world, "drain", owner, "--simulate")
    assert asked.returncode == 0
    assert [line.split() for line in asked.stdout.splitlines()[1:2]] == [
        [ip, "default/web", owner, following]
    ]
    assert world.settle(ip) == owner, "nothing was done"
    with Probe(world, ip) as probe:
        time.sleep(0.3)
        done = lbspeaker(world, "drain", owner)
        time.sleep(0.3)
    assert done.returncode == 0, done
    assert "announces nothing any more" in done.stdout
    assert probe.longest_gap() < 0.5
    world.ask(ip)
    wait_for(lambda: world.owner(ip) == following, "the next one has it")
    (session,) = [peer for node, peer in status(world)["peers"] if node == owner]
    assert (session["state"], session["sent"]) == ("up", 0)
    assert lbspeaker(world, "drain", owner, "--undo").returncode == 0
    world.settle(ip)


def test_a_service_moves_where_it_is_wanted_and_back(world: World) -> None:
    ip = world.ip("web")
    owner, _, last = rank(ip_address(ip), dict.fromkeys(NODES, 0))
    with Probe(world, ip) as probe:
        time.sleep(0.3)
        done = lbspeaker(world, "move", "default/web", "--to", last)
        time.sleep(0.3)
    assert done.returncode == 0, done
    assert f"is at {last}, after" in done.stdout
    assert probe.longest_gap() < 0.5
    world.ask(ip)
    wait_for(lambda: world.owner(ip) == last, "it is there")
    assert world.call("GET", f"{SERVICES}/web")["metadata"]["annotations"][PREFERRED] == last
    assert lbspeaker(world, "move", "default/web", "--back").returncode == 0
    assert world.settle(ip) == owner


def test_what_cannot_be_is_refused_before_anything_is_changed(world: World) -> None:
    wrong = lbspeaker(world, "move", "default/wbe", "--to", "node-a")
    assert (wrong.returncode, "did you mean default/web?" in wrong.stderr) == (3, True)
    wrong = lbspeaker(world, "drain", "node-x")
    assert (wrong.returncode, "did you mean node-" in wrong.stderr) == (3, True)
    world.call("PATCH", f"{SERVICES}/web", {"spec": {"externalTrafficPolicy": "Local"}}, patch=True)
    only = world.owner(world.ip("web"))
    pods = "/api/v1/namespaces/default/pods"
    for node in NODES:
        if node != only:
            world.call("DELETE", f"{pods}/web-{node}")
    try:
        wait_for(lambda: lbspeaker(world, "drain", only, "--simulate").returncode == 1, "it would be lost")
        done = lbspeaker(world, "drain", only)
        assert (done.returncode, "NO announcer" in done.stdout) == (1, True)
        assert "labels" not in world.call("GET", f"/api/v1/nodes/{only}")["metadata"] or not any(
            "exclude" in key for key in world.call("GET", f"/api/v1/nodes/{only}")["metadata"]["labels"]
        )
    finally:
        world.call("PATCH", f"{SERVICES}/web", {"spec": {"externalTrafficPolicy": "Cluster"}}, patch=True)
