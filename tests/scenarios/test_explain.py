"""What is explained of a cluster is so, and what a difference says comes true."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.scenarios.conftest import CONFIG, SERVICES, SYSTEM, World, wait_for
from tests.scenarios.test_overview import NODES, lbspeaker

pytestmark = [pytest.mark.lab, pytest.mark.timeout(180)]
POOL = f"{CONFIG}/ipaddresspools/lan"


@pytest.fixture(scope="module", autouse=True)
def web(world: World) -> None:
    router = str(world.lab.topology.router.ipv4)
    world.create("BGPPeer", "router", myASN=64513, peerASN=64512, peerAddress=router, holdTime="6s")
    world.create("BGPAdvertisement", "bgp")
    world.service("web")
    world.settle(world.ip("web"))


@pytest.fixture
def cut(world: World) -> Iterator[str]:
    """The owner of the IP, which nobody on its segment hears any more."""
    owner = world.settle(world.ip("web"))
    world.lab.exec("switch", ["ip", "link", "set", owner, "nomaster"])
    yield owner
    world.lab.exec("switch", ["ip", "link", "set", owner, "master", "br0"])
    world.settle(world.ip("web"))


def explained(world: World, *words: str) -> tuple[int, dict[str, Any]]:
    done = lbspeaker(world, "explain", *words, "-o", "json")
    assert done.returncode in (0, 1, 3) and not done.stderr, done.stderr
    return done.returncode, json.loads(done.stdout)


def lines(found: dict[str, Any], step: str) -> list[str]:
    return list(next(one["lines"] for one in found["steps"] if one["step"] == step))


def test_the_owner_and_the_routes_are_as_the_segment_and_the_router_have_them(world: World) -> None:
    ip = world.ip("web")
    everywhere = [f"{node} → router: {ip}/32:" for node in NODES]

    def routes() -> list[str]:
        return lines(explained(world, "default/web")[1], "routes")

    wait_for(lambda: [line.partition(" sent;")[0] for line in routes()] == everywhere, "routes", 30)
    wait_for(lambda: explained(world, "default/web")[0] == 0, "nothing is in the way", 30)
    owner = world.settle(ip)
    _, found = explained(world, "default/web")
    assert found["diagnosis"].startswith(f"{ip} of default/web is announced by {owner} on layer 2")
    assert lines(found, "speakers")[0].startswith(f"{owner}: owner for ")


def test_who_is_cut_off_is_told_with_what_it_says_itself(world: World, cut: str) -> None:
    def told() -> str:
        return str(explained(world, "default/web")[1]["diagnosis"])

    # It is named by itself, or by who has the IP now.
    wait_for(lambda: cut in told().partition("say both that they own it; ")[2], "two owners, and why", 30)
    code, found = explained(world, "--node", cut)
    assert code == 1
    assert found["diagnosis"].startswith(f"something is wrong with {cut}: eth0: no other speaker is heard")


def test_what_a_difference_says_comes_true(world: World, tmp_path: Path) -> None:
    before = world.ip("web")
    spec = {"addresses": ["192.0.2.140-192.0.2.150"], "onShrink": "Renumber"}
    new = {"apiVersion": "lbspeaker.io/v1beta1", "kind": "IPAddressPool", "spec": spec}
    new["metadata"] = {"name": "lan", "namespace": SYSTEM}
    file = tmp_path / "new.yaml"
    file.write_text(yaml.safe_dump(new))
    done = lbspeaker(world, "plan", "--diff", str(file), "-o", "json")
    assert done.returncode == 1, done.stderr
    said = json.loads(done.stdout)
    assert (said["lost"], [row["before"] for row in said["ips"]]) == (1, [[before]])
    (after,) = said["ips"][0]["after"]
    assert world.ips("web") == [before], "only asked"
    world.call("PATCH", POOL, {"spec": spec}, patch=True)
    wait_for(lambda: world.ips("web") == [after], "the IP that was said", 20)
    assert said["owners"] == [
        {
            "ip": after,
            "services": ["default/web"],
            "before": None,
            "after": world.settle(after),
            "reason": None,
            "message": None,
            "lost": False,
        }
    ]
    world.reachable(after)
    assert lbspeaker(world, "plan", "--diff", str(file)).stdout.startswith("nothing would change")


def test_a_service_without_endpoints_leads_nowhere(world: World) -> None:
    world.call("PATCH", f"{SERVICES}/web", {"spec": {"selector": {"app": "none"}}}, patch=True)
    wait_for(lambda: explained(world, "default/web")[0] == 1, "no endpoints", 20)
    assert "arrives nowhere" in explained(world, "default/web")[1]["diagnosis"]
