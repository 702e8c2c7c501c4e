"""What speakers report in the cluster, and a look at all of it: at the API server in memory."""

import asyncio
import json
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
from msgspec import structs

from lbspeaker import reporting
from lbspeaker.config.crds import crds
from lbspeaker.errors import Unavailable
from lbspeaker.lab.apiserver import ApiServer as Server
from lbspeaker.lab.apiserver import kubeconfig
from lbspeaker.observe import look as look_module
from lbspeaker.observe.look import Look, look
from lbspeaker.observe.overview import overview
from lbspeaker.reporting import Reporting
from lbspeaker.shell.apiserver import ApiServer, Credentials
from lbspeaker.shell.credentials import Loaded
from lbspeaker.wire import kube, speaker_object
from tests.wire.test_status import STATUS

SYSTEM = "lbspeaker-system"
SPEAKERS = f"/apis/lbspeaker.io/v1beta1/namespaces/{SYSTEM}/speakers"
SAID = structs.replace(STATUS, node="node-a")
NODE = {"apiVersion": "v1", "kind": "Node", "metadata": {"name": "node-a", "uid": "u-1"}}

Story = Callable[[Server, ApiServer], Awaitable[None]]


def tell(story: Story, *documents: dict[str, Any]) -> None:
    async def run() -> None:
        server = Server()
        server.load([{"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": SYSTEM}}, *crds(), NODE])
        server.load(list(documents))
        await server.start()
        try:
            async with ApiServer(Credentials(lambda: Loaded(server.url)), "test") as api, asyncio.timeout(30):
                await story(server, api)
        finally:
            await server.stop()

    asyncio.run(run())


async def until(done: Callable[[], bool]) -> None:
    while not done():
        await asyncio.sleep(0.01)


# --- reports --------------------------------------------------------------------------------------------


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reporting, "EVERY_S", 0.05)


class Speaker:
    """What one says of itself, and what it has written."""

    def __init__(self, server: Server, api: ApiServer) -> None:
        self.says = SAID
        self._server = server
        self.reporting = Reporting(api, "node-a", SYSTEM, lambda: self.says, lambda: "u-1")
        self.task = asyncio.create_task(self.reporting.run())

    @property
    def writes(self) -> int:
        return self._server.requests[f"PATCH {SPEAKERS}/node-a/status"]


async def read(api: ApiServer) -> dict[str, Any]:
    return dict(json.loads(await api.request("GET", f"{SPEAKERS}/node-a")))


@pytest.mark.usefixtures("quick")
def test_it_is_written_on_news_only_and_ends_with_its_node() -> None:
    async def story(server: Server, api: ApiServer) -> None:
        speaker = Speaker(server, api)
        await until(lambda: speaker.writes == 1)
        await asyncio.sleep(0.4)
        assert speaker.writes == 1, "nothing has changed"
        found = await read(api)
        assert (found["status"]["state"], found["status"]["verdict"]) == (SAID.state, SAID.problems[0])
        (owner,) = found["metadata"]["ownerReferences"]
        assert (owner["kind"], owner["name"], owner["uid"]) == ("Node", "node-a", "u-1")

        guard = structs.replace(SAID.guards[0], queue=7)
        speaker.says = structs.replace(SAID, guards=(guard, *SAID.guards[1:]))
        await asyncio.sleep(0.3)
        assert speaker.writes == 1, "counters wait"
        speaker.says = structs.replace(SAID, problems=(), ips=SAID.ips[:1])
        await until(lambda: speaker.writes == 2)
        await asyncio.sleep(0.05)
        found = (await read(api))["status"]
        assert (found["verdict"], list(found["ips"])) == ("well", [SAID.ips[0].ip])
        speaker.task.cancel()
        speaker.says = structs.replace(SAID, state="stopped", ips=())
        await speaker.reporting.end()
        assert (await read(api))["status"]["state"] == "stopped"

    tell(story)


@pytest.mark.usefixtures("quick")
def test_counters_are_written_now_and_then(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reporting, "COUNTERS_S", 0.2)

    async def story(server: Server, api: ApiServer) -> None:
        speaker = Speaker(server, api)
        await until(lambda: speaker.writes == 1)
        speaker.says = structs.replace(SAID, guards=(structs.replace(SAID.guards[0], queue=7),))
        await until(lambda: speaker.writes == 2)
        speaker.task.cancel()

    tell(story)


@pytest.mark.usefixtures("quick")
@pytest.mark.parametrize(
    "status_", [{"ips": {"192.0.2.99": {"role": "owner"}}}, {"guards": {"eth9/arp": {"queue": 1}}}, None]
)
def test_an_object_that_somebody_has_spoilt_or_deleted_is_written_anew(status_: Any) -> None:
    async def story(server: Server, api: ApiServer) -> None:
        if status_ is not None:
            await api.request("POST", SPEAKERS, body=kube.speaker("node-a", SYSTEM))
            body = json.dumps({"status": status_}).encode()
            await api.request("PATCH", f"{SPEAKERS}/node-a/status", body=body)
        speaker = Speaker(server, api)
        before = speaker.writes
        await until(lambda: speaker.writes > before)
        if status_ is None:
            await api.request("DELETE", f"{SPEAKERS}/node-a")
            before, speaker.says = speaker.writes, structs.replace(SAID, problems=())
            await until(lambda: speaker.writes > before + 1)
        await asyncio.sleep(0.1)
        found = (await read(api))["status"]
        assert "192.0.2.99" not in found["ips"] and "eth9/arp" not in found["guards"]
        assert found["ips"][SAID.ips[0].ip]["role"] == SAID.ips[0].role
        speaker.task.cancel()

    tell(story)


@pytest.mark.usefixtures("quick")
def test_trouble_with_the_server_ends_nothing() -> None:
    async def story(server: Server, api: ApiServer) -> None:
        server.fail(3, 403, path="/speakers")
        speaker = Speaker(server, api)
        await until(lambda: speaker.writes == 1)
        assert not speaker.task.done()
        speaker.task.cancel()

    tell(story)


# --- a look ---------------------------------------------------------------------------------------------

WEB = {
    "apiVersion": "v1",
    "kind": "Service",
    "metadata": {"name": "web", "namespace": "default"},
    "spec": {"type": "LoadBalancer", "ports": [{"port": 80}]},
    "status": {"loadBalancer": {"ingress": [{"ip": "192.0.2.10"}]}},
}
POOL = {
    "apiVersion": "lbspeaker.io/v1beta1",
    "kind": "IPAddressPool",
    "metadata": {"name": "lan", "namespace": SYSTEM},
    "spec": {"addresses": ["192.0.2.10-192.0.2.60"]},
    "status": {"assignedIPv4": 1, "availableIPv4": 50, "sizeIPv4": 51, "assignedIPv6": 0,
               "availableIPv6": 0, "sizeIPv6": 0, "pending": 2},
}  # fmt: skip
EFFECTIVE: dict[str, Any] = {
    "apiVersion": "lbspeaker.io/v1beta1",
    "kind": "EffectiveConfiguration",
    "metadata": {"name": "effective", "namespace": SYSTEM},
    "spec": {"documents": [{key: POOL[key] for key in ("apiVersion", "kind", "metadata", "spec")}]},
    "status": {"accepted": 1, "refused": 1, "refusals": [{"object": "BGPPeer/tor", "message": "no AS"}]},
}


def lease(node: str, now: float) -> dict[str, Any]:
    return dict(json.loads(kube.lease(node, SYSTEM, now)))


def reported() -> dict[str, Any]:
    obj: dict[str, Any] = json.loads(kube.speaker("node-a", SYSTEM))
    return {**obj, "status": speaker_object.body(SAID, 1764331300.0)}


async def looked(server: Server, tmp_path: Path) -> Look:
    path = tmp_path / "kubeconfig"
    path.write_text(kubeconfig(server.url))
    return await asyncio.to_thread(look, str(path), None, SYSTEM)


def test_the_whole_cluster_is_seen(tmp_path: Path) -> None:
    now = time.time()
    renewed = lease("x", now)["spec"]["renewTime"]
    leader = {"apiVersion": "coordination.k8s.io/v1", "kind": "Lease",
              "metadata": {"name": kube.LEADER, "namespace": SYSTEM},
              "spec": {"holderIdentity": "one", "renewTime": renewed}}  # fmt: skip

    async def story(server: Server, _: ApiServer) -> None:
        found = await looked(server, tmp_path)
        assert found.unread == ()
        assert found.controller == "one"
        assert found.snapshot.members == {"node-a"}
        assert found.silent_s["node-b"] == pytest.approx(30, abs=1)
        assert [pool.name for pool in found.snapshot.config.pools] == ["lan"]
        assert list(found.snapshot.services) == ["default/web"]
        assert found.pools["lan"].pending == 2
        assert found.refused == (("BGPPeer/tor", "no AS"),)
        assert found.speakers["node-a"].problems == SAID.problems

    two = {"apiVersion": "v1", "kind": "Node", "metadata": {"name": "node-b"}}
    tell(
        story, two, WEB, POOL, EFFECTIVE, leader, lease("node-a", now), lease("node-b", now - 30), reported()
    )


def test_a_clock_that_differs_kills_nobody_and_leases_that_nobody_renews_are_dead(tmp_path: Path) -> None:
    async def early(server: Server, _: ApiServer) -> None:
        assert (await looked(server, tmp_path)).snapshot.members == {"node-a"}

    async def late(server: Server, _: ApiServer) -> None:
        assert (await looked(server, tmp_path)).snapshot.members == set()

    tell(early, lease("node-a", time.time() - 40))
    tell(late, lease("node-a", time.time() - 400))


def test_what_may_not_be_read_is_said_and_the_rest_is_shown(tmp_path: Path) -> None:
    async def story(server: Server, _: ApiServer) -> None:
        server.fail(1, 403, path="/leases")
        found = await looked(server, tmp_path)
        (missing,) = found.unread
        assert missing.startswith("leases: ") and missing.endswith("; needed: list leases")
        assert found.controller is None
        assert list(found.snapshot.services) == ["default/web"]

    tell(story, WEB)


def test_a_server_that_says_nothing_is_unavailable(tmp_path: Path) -> None:
    path = tmp_path / "kubeconfig"
    path.write_text(kubeconfig("http://127.0.0.1:9"))
    with pytest.raises(Unavailable):
        look(str(path), None, SYSTEM)


def test_one_list_that_hangs_does_not_hold_back_the_rest(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Here the lists of speakers."""
    monkeypatch.setattr(look_module, "ANSWER_S", 0.5)

    async def story(server: Server, _: ApiServer) -> None:
        server.freeze("/speakers")
        began = time.monotonic()
        found = await looked(server, tmp_path)
        assert time.monotonic() - began < 3
        (missing,) = found.unread
        assert missing.startswith("speakers: ") and missing.endswith("no answer within 0.5 s")
        assert list(found.snapshot.services) == ["default/web"]
        server.unfreeze()

    tell(story, WEB)


def test_where_nothing_of_ours_is_nothing_can_be_told(tmp_path: Path) -> None:
    async def story(server: Server, _: ApiServer) -> None:
        assert (await looked(server, tmp_path)).is_empty

    async def ours(server: Server, _: ApiServer) -> None:
        assert not (await looked(server, tmp_path)).is_empty

    tell(story, WEB)
    tell(ours, lease("node-a", time.time()))
    tell(ours, EFFECTIVE)


def test_what_is_in_force_and_hardly_as_meant_is_a_doubt(tmp_path: Path) -> None:
    odd = {
        "apiVersion": "lbspeaker.io/v1beta1",
        "kind": "L2Advertisement",
        "metadata": {"name": "l2", "namespace": SYSTEM},
        "spec": {"ipAddressPools": ["tinny"]},
    }
    documents = [*EFFECTIVE["spec"]["documents"], odd]

    async def story(server: Server, _: ApiServer) -> None:
        found = await looked(server, tmp_path)
        ((object_, why),) = found.doubts
        assert object_ == "L2Advertisement/l2" and "tinny" in why
        ((line),) = overview(found, time.time()).doubts
        assert line.startswith("L2Advertisement/l2: ")

    tell(story, {**EFFECTIVE, "spec": {"documents": documents}})
