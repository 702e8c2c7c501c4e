"""A speaker without any cluster: YAML files in a directory, and an address on the wire."""

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from lbspeaker.lab import namespaces
from tests.scenarios.conftest import World, wait_for

pytestmark = [pytest.mark.lab, pytest.mark.timeout(120)]

CONFIGURATION = """
apiVersion: metallb.io/v1beta1
kind: IPAddressPool
metadata: {name: lan}
spec: {addresses: [192.0.2.60-192.0.2.69]}
---
apiVersion: metallb.io/v1beta1
kind: L2Advertisement
metadata: {name: lan}
---
apiVersion: v1
kind: Node
metadata: {name: node-a}
"""
SERVICE = """
apiVersion: v1
kind: Service
metadata: {name: %(name)s}
spec: {type: LoadBalancer, ports: [{port: 80}]}
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {name: %(name)s, labels: {kubernetes.io/service-name: %(name)s}}
addressType: IPv4
endpoints: [{addresses: [10.244.1.10], nodeName: node-a}]
"""


class Speaker:
    """A speaker on node-a that reads a directory."""

    def __init__(self, world: World, directory: Path) -> None:
        self.directory = directory
        self.log = directory.parent / "log"
        argv = [sys.executable, "-m", "lbspeaker", "speaker", "--node", "node-a", "--config", str(directory)]
        argv += ["--runtime-dir", str(directory.parent / "run"), "--metrics", "127.0.0.1:7474"]
        inside = ["ip", "netns", "exec", world.lab.topology.namespace("node-a"), *argv]
        with self.log.open("w") as log:
            self.process = subprocess.Popen(inside, stderr=log, cwd=os.getcwd())  # noqa: PTH109

    def says(self, what: str, seconds: float = 20.0) -> None:
        wait_for(lambda: what in self.log.read_text(), f"the log says {what!r}", seconds)

    def end(self) -> None:
        self.process.terminate()
        assert self.process.wait(10) == 0


@pytest.fixture
def speaker(world: World, tmp_path: Path) -> Iterator[Speaker]:
    world.lab.stop("speaker-node-a")
    directory = tmp_path / "announcements"
    directory.mkdir()
    (directory / "pools.yaml").write_text(CONFIGURATION)
    (directory / "web.yaml").write_text(SERVICE % {"name": "web"})
    running = Speaker(world, directory)
    yield running
    if running.process.poll() is None:
        running.end()


def arp(world: World, ip: str) -> bool:
    """Whether the client gets an answer for `ip` from node-a."""
    world.ask(ip)
    wait_for(lambda: world.owner(ip) == "node-a", f"{ip} is answered")
    return True


def ready(world: World) -> str:
    """What the speaker on node-a says when it is asked whether it is ready, and the status of HTTP."""
    words = ["curl", "-s", "-m", "1", "-w", "%{http_code}", "http://127.0.0.1:7474/readyz"]
    return " ".join(world.lab.exec("node-a", words).stdout.split())


def probed(world: World, since: float) -> set[str]:
    """The IPs that node-a has probed since then (Unix time)."""
    return {frame.target for frame in world.lab.switch.frames("node-a", "probe", since=since)}


def test_an_address_is_announced_from_files_alone(world: World, speaker: Speaker) -> None:
    speaker.says("allocated    service=default/web ips=192.0.2.60 pool=lan")
    speaker.says("claimed      service=default/web ip=192.0.2.60 link=eth0")
    assert arp(world, "192.0.2.60")


def test_it_is_ready_when_it_serves_and_says_why_not_before(world: World, speaker: Speaker) -> None:
    said: list[str] = []
    wait_for(lambda: said.append(ready(world)) or said[-1] == "ready 200", "it is ready", 20)
    assert any(answer.startswith("the answerer does not run") for answer in said)
    assert all(answer == "000" or answer.endswith(" 503") for answer in said[:-1])


def test_its_metrics_say_how_long_a_new_service_waited(world: World, speaker: Speaker) -> None:
    speaker.says("claimed      service=default/web")
    (speaker.directory / "late.yaml").write_text(SERVICE % {"name": "late"})
    speaker.says("claimed      service=default/late")
    page = world.lab.exec("node-a", ["curl", "-s", "-m", "2", "http://127.0.0.1:7474/metrics"]).stdout
    name = "lbspeaker_announcement_seconds_count"
    assert [line for line in page.splitlines() if line.startswith(name)] == [
        f'{name}{{protocol="layer2",since="allocation"}} 1.0'
    ], "of the other one nobody knows how long it had been there"


def test_files_may_come_be_wrong_and_go_and_nothing_announced_is_lost(world: World, speaker: Speaker) -> None:
    speaker.says("claimed      service=default/web")
    (speaker.directory / "a.yaml").write_text(SERVICE % {"name": "aaa"})
    speaker.says("service=default/aaa ips=192.0.2.61")
    (speaker.directory / "web.yaml").write_text("kind: [broken")
    speaker.says("config-wrong")
    assert arp(world, "192.0.2.60")
    (speaker.directory / "a.yaml").unlink()
    speaker.says("released     ip=192.0.2.61")
    assert arp(world, "192.0.2.60")


def test_a_link_that_flaps_during_a_probe_does_not_end_it(world: World, speaker: Speaker) -> None:
    speaker.says("claimed      service=default/web")
    policy = "apiVersion: lbspeaker.io/v1beta1\nkind: LinkPolicy\nmetadata: {name: all}\nspec: {dad: rfc}\n"
    (speaker.directory / "policy.yaml").write_text(policy)
    (speaker.directory / "z.yaml").write_text(SERVICE % {"name": "zzz"})
    began = time.time()
    wait_for(lambda: "192.0.2.61" in probed(world, began), "it is probed")
    node, client = map(world.lab.topology.namespace, ("node-a", "client"))
    namespaces.configure(node, ["link set eth0 down"])
    try:
        namespaces.configure(client, ["address add 192.0.2.61/32 dev eth0"])
        time.sleep(0.3)
        namespaces.configure(node, ["link set eth0 up"])
        speaker.says("in-use       ip=192.0.2.61")
    finally:
        namespaces.configure(client, ["address del 192.0.2.61/32 dev eth0"])
    assert "claimed      service=default/zzz" not in speaker.log.read_text()


def test_a_directory_that_is_not_there_costs_one_line_and_nothing_else() -> None:
    longest = "a" * 253  # RFC 1123, §2.1: what a node can be called
    argv = [sys.executable, "-m", "lbspeaker", "speaker", "--node", longest, "--config", "/nonexistent"]
    ended = subprocess.run(argv, capture_output=True, text=True, check=False, timeout=20)
    assert ended.returncode == 3
    _starting, *rest = ended.stderr.splitlines()
    assert rest == [
        "lbspeaker: /nonexistent: no such directory; name the directory that holds the YAML files"
    ]


def test_a_restart_moves_nobody(world: World, speaker: Speaker) -> None:
    speaker.says("claimed      service=default/web")
    speaker.end()
    (speaker.directory / "a.yaml").write_text(SERVICE % {"name": "aaa"})
    again = Speaker(world, speaker.directory)
    again.says("service=default/aaa ips=192.0.2.61")
    again.says("claimed      service=default/web ip=192.0.2.60")
    ledger = json.loads((speaker.directory / ".lbspeaker-allocations.json").read_text())
    assert ledger == {
        "default/aaa": {"ips": ["192.0.2.61"], "pool": "lan"},
        "default/web": {"ips": ["192.0.2.60"], "pool": "lan"},
    }
    again.end()


def test_the_controller_allocates_the_same_from_files(tmp_path: Path) -> None:
    (tmp_path / "pools.yaml").write_text(CONFIGURATION + "---" + SERVICE % {"name": "web"})
    argv = [sys.executable, "-m", "lbspeaker", "controller", "--config", str(tmp_path)]
    process = subprocess.Popen(argv, stderr=subprocess.DEVNULL)
    ledger = tmp_path / ".lbspeaker-allocations.json"
    wait_for(ledger.exists, "the ledger")
    time.sleep(0.2)
    process.terminate()
    assert process.wait(5) == 0
    assert json.loads(ledger.read_text()) == {"default/web": {"ips": ["192.0.2.60"], "pool": "lan"}}
