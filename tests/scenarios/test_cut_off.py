"""A node that nobody on the segment hears, and whose Lease is fresh: nothing may be moved to it."""

from collections.abc import Iterator

import pytest

from lbspeaker.model import EXCLUDE
from tests.scenarios.conftest import SERVICES, Probe, World, wait_for
from tests.scenarios.test_overview import lbspeaker

pytestmark = [pytest.mark.lab, pytest.mark.timeout(180)]
NODES = "/api/v1/nodes"


@pytest.fixture
def cut(world: World) -> Iterator[tuple[str, str, str]]:
    """The owner, which was cut off; who has taken over; and the third, which announces nothing."""
    world.service("web")
    owner = world.settle(world.ip("web"))
    world.lab.exec("switch", ["ip", "link", "set", owner, "nomaster"])
    world.ask(world.ip("web"))
    wait_for(lambda: world.owner(world.ip("web")) not in ("", owner), "another one has it", 20)
    other = world.owner(world.ip("web"))
    (third,) = {node.name for node in world.lab.nodes} - {owner, other}
    label(world, third, "")
    yield owner, other, third
    world.lab.exec("switch", ["ip", "link", "set", owner, "master", "br0"])
    for node in world.lab.nodes:
        label(world, node.name, None)
    world.delete(f"{SERVICES}/web")


def label(world: World, node: str, value: str | None) -> None:
    world.call("PATCH", f"{NODES}/{node}", {"metadata": {"labels": {EXCLUDE: value}}}, patch=True)


def test_nothing_is_moved_to_who_is_cut_off(world: World, cut: tuple[str, str, str]) -> None:
    owner, other, third = cut
    ip = world.ip("web")
    unheard = f"{owner} is not heard on its eth0 by {', '.join(sorted((other, third)))}"
    wait_for(lambda: unheard in lbspeaker(world, "explain", "default/web").stdout, "speakers say so", 20)
    with Probe(world, ip) as probe:
        assert lbspeaker(world, "drain", other, "--simulate").returncode == 1
        done = lbspeaker(world, "drain", other)
        assert done.returncode == 1, done
        assert f"without {other}, 1 of these will have NO announcer" in done.stdout
        assert f"{unheard}, so it takes nothing over there" in done.stdout
        moved = lbspeaker(world, "move", "default/web", "--to", owner, "--timeout", "5")
        assert moved.returncode == 3, moved
        assert f"{owner} cannot own {ip} of default/web: {unheard}" in moved.stderr
        assert lbspeaker(world, "explain", "default/web").returncode == 1
        assert lbspeaker(world, "drain", third, "--simulate").returncode == 0
    assert probe.longest_gap() < 0.5
    assert world.owner(ip) == other


def test_when_only_that_one_is_left_an_explanation_says_so(world: World, cut: tuple[str, str, str]) -> None:
    owner, other, _ = cut
    lbspeaker(world, "drain", other, "--force", "--timeout", "20")
    ip = world.ip("web")
    world.ask(ip)
    wait_for(lambda: not world.answers(ip), "an outage", 20)
    done = lbspeaker(world, "explain", "default/web")
    assert done.returncode == 1, done.stdout
    assert f"; {owner} is not heard on its eth0 by" in done.stdout.splitlines()[-2]
    assert done.stdout.splitlines()[-1] == f"next step: look at the link of {owner}, and at the switch"
