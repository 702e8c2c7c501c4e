"""What metrics say of a day in a cluster: a Service comes, its owner dies and comes back."""

import http.client
import re
import signal
import socket
from collections.abc import Callable

import pytest

from lbspeaker.wire import status
from tests.scenarios.conftest import World, wait_for

pytestmark = [pytest.mark.lab, pytest.mark.timeout(120)]


def metrics(world: World, node: str) -> dict[str, float]:
    """What the speaker of a node says on its socket; nothing, while nobody listens there."""
    connection = http.client.HTTPConnection("localhost", timeout=5)
    connection.sock = socket.socket(socket.AF_UNIX)
    try:
        connection.sock.connect(str(world.lab.directory / node / status.SOCKET))
        connection.request("GET", "/metrics")
        page = connection.getresponse().read().decode()
    except ConnectionError:
        return {}
    finally:
        connection.close()
    return {name: float(value) for name, value in re.findall(r"^(lbspeaker_\S+) (\S+)$", page, re.MULTILINE)}


def all_of(world: World, name: str, *, but: str = "") -> list[float]:
    nodes = [node.name for node in world.lab.nodes if node.name != but]
    return [metrics(world, node).get(name, 0.0) for node in nodes]


def claims(world: World, *nodes: str) -> float:
    reasons = ("new", "takeover", "refresh")
    names = [f'lbspeaker_claims_total{{reason="{reason}"}}' for reason in reasons]
    return sum(metrics(world, node)[name] for node in nodes for name in names)


def soon(question: Callable[[], object], answer: object, what: str) -> None:
    wait_for(lambda: question() == answer, what, 20)


IN, OUT = (f'lbspeaker_ip_moves_total{{direction="{direction}"}}' for direction in ("in", "out"))
OWNED = 'lbspeaker_ips{role="owner"}'


def test_a_service_comes_its_owner_dies_and_comes_back(world: World) -> None:
    world.service("web")
    address = world.ip("web")
    owner = world.settle(address)
    soon(lambda: sum(all_of(world, OWNED)), 1, "one owns it")
    labels = 'protocol="layer2",since="allocation"'
    assert all_of(world, f"lbspeaker_announcement_seconds_count{{{labels}}}").count(1) == 1, (
        "told by its owner"
    )
    spent = sum(all_of(world, f"lbspeaker_announcement_seconds_sum{{{labels}}}"))
    assert 0.25 <= spent < 2.0, "the probe alone takes 250 ms"
    assert claims(world, owner) == 1
    assert sum(all_of(world, IN)) == 0

    world.lab.signal(f"speaker-{owner}", signal.SIGKILL)
    others = [node.name for node in world.lab.nodes if node.name != owner]
    soon(lambda: claims(world, *others), 1, "another one claims it, as new if its owner died young")
    assert sum(all_of(world, OWNED, but=owner)) == 1
    assert sum(all_of(world, IN, but=owner)) == 1
    assert all_of(world, 'lbspeaker_deaths_total{sign="hello"}', but=owner) == [1.0, 1.0]
    for noticed in all_of(world, 'lbspeaker_last_detection_seconds{sign="hello"}', but=owner):
        assert 0.4 < noticed < 1.5
    soon(lambda: all_of(world, 'lbspeaker_deaths_total{sign="lease"}', but=owner), [1.0, 1.0], "Leases end")
    for noticed in all_of(world, 'lbspeaker_last_detection_seconds{sign="lease"}', but=owner):
        assert 2.9 < noticed < 6.0
    assert all_of(world, "lbspeaker_members_lost", but=owner) == [1.0, 1.0]

    world.lab.restart(f"speaker-{owner}")
    soon(lambda: metrics(world, owner).get(OWNED), 1.0, "it has it again")
    soon(lambda: all_of(world, "lbspeaker_members_lost"), [0.0] * 3, "nobody is missing")
    soon(lambda: sum(all_of(world, OUT, but=owner)) >= 1, True, "the one between gave it back")
    counted = f"lbspeaker_announcement_seconds_count{{{labels}}}"
    assert metrics(world, owner).get(counted, 0.0) == 0.0, "to who has just begun, the Service is old"
