"""A Service that is announced by BGP to nobody: the commands say so, and why."""

import json
import subprocess
import sys
from typing import Any

import pytest

from tests.scenarios.conftest import CONFIG, SERVICES, World, wait_for

pytestmark = [pytest.mark.lab, pytest.mark.timeout(180)]

POD = "/api/v1/namespaces/default/pods/web-node-{}"


@pytest.fixture(scope="module")
def bgp(world: World) -> World:
    """The lab, announcing by BGP alone."""
    router = str(world.lab.topology.router.ipv4)
    world.create("BGPPeer", "router", myASN=64513, peerASN=64512, peerAddress=router, holdTime="6s")
    world.create("BGPAdvertisement", "bgp")
    world.delete(f"{CONFIG}/l2advertisements/lan")
    world.service("web")
    world.ip("web")
    wait_for(lambda: asked(world, "status")[0] == 0, "all is well", 20)
    return world


def asked(world: World, *words: str) -> tuple[int, Any]:
    """What a command says in JSON, and its exit code."""
    argv = [sys.executable, "-m", "lbspeaker", *words, "-o", "json", "--kubeconfig", world.lab.kubeconfig]
    done = subprocess.run(argv, capture_output=True, text=True, timeout=60, check=False)
    return done.returncode, json.loads(done.stdout)


def problems(world: World) -> str:
    return "\n".join(asked(world, "status")[1]["problems"])


def test_pods_that_are_not_ready_are_a_problem(bgp: World) -> None:
    def ready(answer: str) -> None:
        for node in "abc":
            condition = {"type": "Ready", "status": answer}
            bgp.call(
                "PATCH", f"{POD.format(node)}/status", {"status": {"conditions": [condition]}}, patch=True
            )

    ip = bgp.ip("web")
    ready("False")
    try:
        told = f"default/web {ip}: default/web has no endpoint that serves (none is ready)"
        wait_for(lambda: problems(bgp).startswith(told), "nobody announces it", 20)
        assert asked(bgp, "status", "default/web")[0] == 1
        assert asked(bgp, "explain", "default/web")[0] == 1
    finally:
        ready("True")
    wait_for(lambda: asked(bgp, "status")[0] == 0, "all is well", 20)


def test_a_route_of_a_family_that_the_router_does_not_take_is_a_problem(bgp: World) -> None:
    """Though the session is up, and has sent the route of another Service."""
    bgp.service("six", ipFamilies=["IPv6"], ipFamilyPolicy="SingleStack")
    ip = bgp.ip("six")
    wait_for(lambda: asked(bgp, "status")[0] == 0, "all is well", 20)
    words = ["conf t", "router bgp 64512", "address-family ipv6 unicast", "no neighbor NODES activate"]
    argv = ["vtysh", "--vty_socket", str(bgp.lab.router.directory)]
    lines = [word for line in [*words, "exit", "end", "clear bgp *"] for word in ("-c", line)]
    assert bgp.lab.exec("router", argv + lines).returncode == 0
    node_lines = "node-a, node-b, node-c: peer router: "
    wait_for(lambda: f"{node_lines}{ip}/128 is not sent, though the session is up" in problems(bgp), "it", 40)
    code, found = asked(bgp, "status")
    assert code == 1
    (row,) = [row for row in found["services"] if row["service"] == "default/six"]
    assert row["why"].startswith("no router is told of it: FamilyNotNegotiated: BGPPeer/router: the router")
    (well,) = [row for row in found["services"] if row["service"] == "default/web"]
    assert well["why"] == ""
    assert all(peer["state"] == "up" and list(peer["unsent"]) == [f"{ip}/128"] for _, peer in found["peers"])
    code, found = asked(bgp, "explain", "default/six")
    assert code == 1
    assert "FamilyNotNegotiated: BGPPeer/router: the router does not take IPv6" in found["diagnosis"]
    assert found["nextStep"].startswith("activate the family ipv6 unicast")
    assert asked(bgp, "explain", "default/web")[0] == 0
    code, found = asked(bgp, "doctor")
    assert code == 1 and "is not sent, though the session is up" in json.dumps(found)
    listed = bgp.call("GET", f"{CONFIG}/speakers")["items"]
    assert all("FamilyNotNegotiated" in one["status"]["verdict"] for one in listed)
    bgp.delete(f"{SERVICES}/six")
    wait_for(lambda: asked(bgp, "status")[0] == 0, "all is well", 20)
