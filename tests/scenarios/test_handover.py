"""Who owns an IP when nodes fail, hang, are cut off, return or are cordoned: real processes, a real wire."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from lbspeaker.lab import namespaces
from tests.scenarios.conftest import CONFIG, SERVICES, Probe, World, wait_for

pytestmark = [pytest.mark.lab, pytest.mark.timeout(180)]

NODES = "/api/v1/nodes"


@pytest.fixture(autouse=True)
def web(world: World) -> Iterator[None]:
    """Each story begins with all nodes up, and one Service, which has never moved."""
    world.service("web")
    world.settle(world.ip("web"))
    yield
    for node in world.lab.nodes:
        world.lab.heal(node.name)
        world.lab.start(f"speaker-{node.name}")
    world.delete(f"{SERVICES}/web")


def answering(world: World, ip: str) -> set[str]:
    """The nodes that answer the client's question."""
    began = time.time()
    world.ask(ip)
    time.sleep(0.3)
    return {f.port for f in world.lab.switch.frames(kind="answer", since=began) if f.sender == ip}


def next_owner(world: World, ip: str, owner: str, seconds: float = 10.0) -> str:
    wait_for(lambda: world.owner(ip) not in ("", owner), "another owner", seconds)
    return world.owner(ip)


def test_a_power_cut_is_over_within_a_second_or_so(world: World) -> None:
    ip = world.ip("web")
    owner = world.settle(ip)
    with Probe(world, ip) as probe:
        time.sleep(0.5)
        world.lab.cut(owner)
        next_owner(world, ip, owner)
        time.sleep(1)
    assert probe.longest_gap() < 2.0, "and not the 4 s that a Lease and the guard take"


def test_who_dies_when_it_has_just_returned_is_replaced_as_fast(world: World) -> None:
    """It has claimed its IP, and was not heard for long enough yet to count as back."""
    ip = world.ip("web")
    owner = world.settle(ip)
    world.lab.signal(f"speaker-{owner}", signal.SIGKILL)
    wait_for(lambda: bool(answering(world, ip) - {owner}), "another one answers")
    said = world.log(owner).count("claimed ")
    world.lab.start(f"speaker-{owner}")
    wait_for(lambda: world.log(owner).count("claimed ") > said, "it is back")
    time.sleep(0.1)  # it has said a hello to everybody
    world.lab.signal(f"speaker-{owner}", signal.SIGKILL)
    began = time.monotonic()
    wait_for(lambda: bool(answering(world, ip) - {owner}), "another one answers again")
    assert time.monotonic() - began < 2.0, "and not the 3 s of a Lease"


def test_also_while_the_api_server_is_away(world: World) -> None:
    ip = world.ip("web")
    owner = world.settle(ip)
    world.lab.signal("apiserver", signal.SIGSTOP)
    try:
        time.sleep(5)  # longer than a Lease
        with Probe(world, ip) as probe:
            time.sleep(0.5)
            world.lab.cut(owner)
            next_owner(world, ip, owner)
            time.sleep(0.5)
        assert probe.longest_gap() < 2.0
        assert answering(world, ip) == {world.owner(ip)}
    finally:
        world.lab.signal("apiserver", signal.SIGCONT)


def test_a_planned_handover_loses_nothing(world: World) -> None:
    ip = world.ip("web")
    owner = world.settle(ip)
    with Probe(world, ip) as probe:
        time.sleep(0.5)
        world.lab.stop(f"speaker-{owner}")
        next_owner(world, ip, owner)
        time.sleep(0.5)
        world.lab.start(f"speaker-{owner}")
        wait_for(lambda: owner in world.lab.members(), "and back", 20)
        world.settle(ip)  # there, or where it is held because it has moved so often by now
        time.sleep(0.5)
    assert probe.longest_gap() < 0.25, "there and back"


def test_a_node_that_loses_the_api_alone_hands_over_without_a_gap(world: World) -> None:
    ip = world.ip("web")
    owner = world.settle(ip)
    control = world.lab.topology.namespace("control")
    began = world.quiet()
    with Probe(world, ip) as probe:
        namespaces.configure(control, [f"link set {owner} down"])
        other = next_owner(world, ip, owner, 15)
        wait_for(lambda: answering(world, ip) == {other}, "the other one alone answers")
        assert world.log(owner).rstrip().splitlines()[-1].split()[2] == "released"
        time.sleep(14)  # so long that it looks again whether the other one has it still
        assert answering(world, ip) == {other}
        claims = world.lab.switch.frames(kind="gratuitous", since=began)
        assert {claim.port for claim in claims if claim.target == ip} == {other}
        world.lab.heal(owner)
        world.settle(ip)  # it has its IP again; or the other one, as it has moved so often by now
    assert probe.longest_gap() < 0.5


def test_a_hung_speaker_is_replaced_and_harmless_when_it_wakes(world: World) -> None:
    ip = world.ip("web")
    owner = world.settle(ip)
    with Probe(world, ip) as probe:
        world.lab.signal(f"speaker-{owner}", signal.SIGSTOP)
        try:
            other = next_owner(world, ip, owner, 15)
            assert answering(world, ip) == {other}, "from the first frame on"
        finally:
            world.lab.signal(f"speaker-{owner}", signal.SIGCONT)
        time.sleep(0.2)
        assert len(answering(world, ip)) == 1
    assert probe.longest_gap() < 0.5
    world.settle(ip)


def test_a_hung_node_answers_no_old_question_when_it_wakes(world: World) -> None:
    ip = world.ip("web")
    owner = world.settle(ip)
    answerer = world.answerer(owner)
    world.lab.signal(f"speaker-{owner}", signal.SIGSTOP)
    os.kill(answerer, signal.SIGSTOP)
    try:
        other = next_owner(world, ip, owner)
        for _ in range(20):  # the hung one's socket fills with questions
            world.ask(ip)
            time.sleep(0.02)
        woke = time.time()
    finally:
        os.kill(answerer, signal.SIGCONT)
        world.lab.signal(f"speaker-{owner}", signal.SIGCONT)
    time.sleep(0.15)
    old = [f for f in world.lab.switch.frames(owner, "answer", since=woke) if f.sender == ip]
    assert other != owner
    assert old == []
    wait_for(lambda: "stood-still" in world.log(owner), "it says so")
    world.settle(ip)


def test_an_answerer_that_hangs_is_noticed_by_its_own_speaker_and_replaced(world: World) -> None:
    ip = world.ip("web")
    owner = world.settle(ip)
    answerer = world.answerer(owner)
    os.kill(answerer, signal.SIGSTOP)
    next_owner(world, ip, owner)
    wait_for(lambda: "answerer-hangs" in world.log(owner), "its speaker has noticed")
    said = world.lab.exec(owner, world.status(owner))
    assert said.returncode == 1
    assert "nothing is answered here: the answerer has not run for" in said.stdout
    wait_for(lambda: "answerer-ended" in world.log(owner).rpartition("answerer-hangs")[2], "it is ended", 20)
    wait_for(lambda: "heard" in world.log(owner).rpartition("answerer-ended")[2], "there is another one", 20)
    assert world.answerer(owner) != answerer
    world.settle(ip)


def test_a_speaker_that_cannot_begin_says_for_what_it_waits(world: World) -> None:
    node = world.lab.nodes[0].name
    world.lab.stop(f"speaker-{node}")
    world.lab.signal("apiserver", signal.SIGSTOP)
    try:
        world.lab.start(f"speaker-{node}")
        wait_for(
            lambda: "it has waited for" in world.lab.exec(node, world.status(node)).stdout, "it says so", 20
        )
    finally:
        world.lab.signal("apiserver", signal.SIGCONT)
    wait_for(lambda: node in world.lab.members(), "it is back", 20)


def test_a_second_speaker_of_a_node_waits_until_the_first_has_ended(world: World, tmp_path: Path) -> None:
    node = world.lab.nodes[0].name
    config = [
        "--kubeconfig",
        str(world.lab.directory / "kubeconfig-nodes"),
        "--runtime-dir",
        str(tmp_path / "run"),
    ]
    argv = [sys.executable, "-m", "lbspeaker", "speaker", "--node", node, *config]
    inside = namespaces.command(world.lab.topology.namespace(node), argv)
    with (tmp_path / "log").open("w") as log, subprocess.Popen(inside, stdout=log, stderr=log) as second:
        try:
            wait_for(lambda: "another-speaker" in (tmp_path / "log").read_text(), "it waits", 15)
            time.sleep(1)
            assert "starting" not in (tmp_path / "log").read_text()
            world.lab.stop(f"speaker-{node}")
            wait_for(lambda: "starting" in (tmp_path / "log").read_text(), "its turn has come", 15)
        finally:
            second.terminate()
            second.wait(20)
    world.lab.start(f"speaker-{node}")
    wait_for(lambda: node in world.lab.members(), "it is back", 20)


def test_a_link_that_goes_down_moves_its_ips_at_once(world: World) -> None:
    ip = world.ip("web")
    owner = world.settle(ip)
    began = time.time()
    world.lab.cut(owner, segment_only=True)
    next_owner(world, ip, owner)
    told = [f for f in world.lab.switch.frames(kind="gratuitous", since=began) if f.sender == ip]
    assert told[0].time - began < 1.0
    assert answering(world, ip) == {world.owner(ip)}


def test_another_mac_is_told_at_once(world: World) -> None:
    ip = world.ip("web")
    owner = world.settle(ip)
    node = next(node for node in world.lab.nodes if node.name == owner)
    began = time.time()
    world.lab.exec(owner, ["ip", "link", "set", "eth0", "address", "02:00:00:00:00:77"])
    try:
        wait_for(
            lambda: any(
                f.mac == "02:00:00:00:00:77" and f.sender == ip
                for f in world.lab.switch.frames(owner, "gratuitous", since=began)
            ),
            "the new MAC is told",
        )
    finally:
        world.lab.exec(owner, ["ip", "link", "set", "eth0", "address", node.mac.hex(":")])


def test_an_ip_that_a_host_has_is_not_taken(world: World) -> None:
    printer = "192.0.2.140"
    world.lab.exec("client", ["ip", "address", "add", f"{printer}/24", "dev", "eth0"])
    try:
        began = time.time()
        world.service("late", annotations={"lbspeaker.io/loadBalancerIPs": printer})
        wait_for(lambda: any(e.startswith("AddressConflict") for e in world.events("late")), "an event")
        (event,) = [e for e in world.events("late") if e.startswith("AddressConflict")]
        client = world.lab.topology.client.mac.hex(":")
        assert f"{printer} is also used by a host that is no speaker: {client}" in event
        nodes = {node.name for node in world.lab.nodes}
        claims = [
            f
            for f in world.lab.switch.frames(since=began)
            if f.sender == printer and f.port in nodes and f.kind != "probe"
        ]
        assert claims == []
    finally:
        world.lab.exec("client", ["ip", "address", "del", f"{printer}/24", "dev", "eth0"])
        world.delete(f"{SERVICES}/late")


def test_who_took_over_keeps_it_where_failback_is_never(world: World) -> None:
    ip = world.ip("web")
    owner = world.settle(ip)
    world.call("PATCH", f"{CONFIG}/l2advertisements/lan", {"spec": {"failback": "Never"}}, patch=True)
    wait_for(lambda: world.advertised().get("failback") == "Never", "it is in force")
    try:
        world.lab.stop(f"speaker-{owner}")
        other = next_owner(world, ip, owner)
        wait_for(lambda: world.elected(ip) == other, "it is pinned")
        began = time.time()
        world.lab.start(f"speaker-{owner}")
        wait_for(lambda: owner in world.lab.members(), "it is back", 20)
        time.sleep(3)
        assert answering(world, ip) == {other}
        assert not [f for f in world.lab.switch.frames(owner, "gratuitous", since=began) if f.sender == ip]
    finally:
        world.call("PATCH", f"{CONFIG}/l2advertisements/lan", {"spec": {"failback": "Always"}}, patch=True)


def test_a_cordoned_node_hands_over_where_it_is_asked_to(world: World) -> None:
    ip = world.ip("web")
    owner = world.settle(ip)
    world.call("PATCH", f"{CONFIG}/l2advertisements/lan", {"spec": {"onCordon": "Move"}}, patch=True)
    world.call("PATCH", f"{NODES}/{owner}", {"spec": {"unschedulable": True}}, patch=True)
    try:
        with Probe(world, ip) as probe:
            next_owner(world, ip, owner, 25)
        assert probe.longest_gap() < 0.25
        assert answering(world, ip) == {world.owner(ip)}
    finally:
        world.call("PATCH", f"{NODES}/{owner}", {"spec": {"unschedulable": None}}, patch=True)
        world.call("PATCH", f"{CONFIG}/l2advertisements/lan", {"spec": {"onCordon": "Stay"}}, patch=True)


def test_a_dry_run_says_nothing(world: World) -> None:
    ip = world.ip("web")
    world.create("LinkPolicy", "quiet", dryRun=True)
    wait_for(lambda: "LinkPolicy/quiet" in world.published(), "it is in force")
    try:
        wait_for(lambda: answering(world, ip) == set(), "nobody answers")
        began = time.time()
        world.service("quiet")
        world.ip("quiet")
        for name in ("web", "quiet"):
            told = f"DryRun: {world.ip(name)} would be announced from "
            wait_for(
                lambda name=name, told=told: world.events(name)[-1].startswith(told), f"{name} hears of it"
            )
        time.sleep(1)
        assert world.unsolicited(began) == []
        owners = {each: world.elected(each) for each in (ip, world.ip("quiet"))}
        began = time.time()
        world.delete(f"{CONFIG}/linkpolicies/quiet")
        for each, owner in owners.items():
            wait_for(lambda each=each, owner=owner: answering(world, each) == {owner}, f"{each} is answered")
        wait_for(lambda: world.events("quiet")[-1].startswith("Announced: "), "it is announced")
        time.sleep(4)
        claims = world.lab.switch.frames(kind="gratuitous", since=began)
        assert {(c.target, c.port) for c in claims if c.target in owners} == set(owners.items())
    finally:
        world.delete(f"{CONFIG}/linkpolicies/quiet")
        world.delete(f"{SERVICES}/quiet")


def test_a_node_without_the_password_fights_with_nobody(world: World) -> None:
    """It says no hellos, so others take it for dead; but it lives, and is heard to claim what is its own."""
    ip = world.ip("web")
    owner = world.settle(ip)
    secret = "/api/v1/namespaces/lbspeaker-system/secrets/lbspeaker-hello"
    kept = world.call("GET", secret)
    world.lab.stop("controller")  # which would make another one
    world.delete(secret)
    try:
        world.lab.stop(f"speaker-{owner}", 0)
        world.lab.start(f"speaker-{owner}")
        wait_for(lambda: owner in world.lab.members(), "it is back", 20)
        time.sleep(6)
        began = time.time()
        time.sleep(12)
        told = [f for f in world.lab.switch.frames(kind="gratuitous", since=began) if f.sender == ip]
        assert told == [], "whoever has it has it"
        assert len(answering(world, ip)) == 1
        status = world.lab.exec(owner, world.status(owner))
        assert status.returncode == 1
        assert "there is no password for hellos" in status.stdout
    finally:
        body = {name: kept[name] for name in ("apiVersion", "kind", "type", "data")}
        body["metadata"] = {"name": "lbspeaker-hello"}
        world.call("POST", secret.rpartition("/")[0], body)
        world.lab.start("controller")


def test_an_ip_that_was_released_and_taken_by_a_host_is_not_taken_back(world: World) -> None:
    ip = world.ip("web")
    world.delete(f"{SERVICES}/web")
    wait_for(lambda: answering(world, ip) == set(), "nobody answers")
    world.lab.exec("client", ["ip", "address", "add", f"{ip}/24", "dev", "eth0"])
    try:
        world.service("web", annotations={"lbspeaker.io/loadBalancerIPs": ip})
        wait_for(lambda: any(e.startswith("AddressConflict") for e in world.events("web")), "an event")
    finally:
        world.lab.exec("client", ["ip", "address", "del", f"{ip}/24", "dev", "eth0"])


def test_a_policy_that_is_edited_costs_no_frame(world: World) -> None:
    ip = world.ip("web")
    world.settle(ip)
    began = world.quiet()
    world.create("LinkPolicy", "cables", group="cables", refreshSeconds=0)
    wait_for(lambda: "LinkPolicy/cables" in world.published(), "it is in force")
    time.sleep(1)
    world.delete(f"{CONFIG}/linkpolicies/cables")
    time.sleep(1.5)
    assert world.unsolicited(began) == []
    assert len(answering(world, ip)) == 1


def test_a_printer_keeps_its_ip_whoever_comes_next(world: World) -> None:
    ip = "192.0.2.149"
    world.lab.exec("client", ["ip", "address", "add", f"{ip}/24", "dev", "eth0"])
    nodes = [node.name for node in world.lab.nodes]
    try:
        world.service("printer", annotations={"lbspeaker.io/loadBalancerIPs": ip})
        wait_for(lambda: any(e.startswith("AddressConflict") for e in world.events("printer")), "an event")
        first = world.elected(ip)
        began = time.time()
        world.lab.stop(f"speaker-{first}")
        wait_for(lambda: any(held_back(world, n, ip) for n in nodes if n != first), "the next one asks", 15)
        world.lab.start(f"speaker-{first}")
        wait_for(lambda: held_back(world, first, ip), "and so does who comes back", 15)
        for node in nodes:
            world.lab.stop(f"speaker-{node}")
        for node in nodes:
            world.lab.start(f"speaker-{node}")
        wait_for(lambda: held_back(world, world.elected(ip), ip), "and all, when they start", 20)
        time.sleep(1)
        claims = [f for f in world.lab.switch.frames(kind="gratuitous", since=began) if f.target == ip]
        assert [claim.port for claim in claims] == []
    finally:
        world.lab.exec("client", ["ip", "address", "del", f"{ip}/24", "dev", "eth0"])
        world.delete(f"{SERVICES}/printer")


def held_back(world: World, node: str, ip: str) -> bool:
    """Whether the speaker there leaves an IP to who has it."""
    argv = [*world.status(node), "-o", "json"]
    said = subprocess.run(argv, capture_output=True, text=True, check=False).stdout
    found = json.loads(said or "{}").get("ips", [])
    return any(one["ip"] == ip and one["role"] == "held-back" for one in found)
