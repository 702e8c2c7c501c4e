"""What the programs are told, from an API server and from files: the same words, and never half of it."""

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from ipaddress import ip_address
from pathlib import Path
from typing import Any

import pytest
from structlog.testing import capture_logs

from lbspeaker.config.crds import crds
from lbspeaker.errors import Unable
from lbspeaker.lab.apiserver import ApiServer as Server
from lbspeaker.lab.apiserver import listening
from lbspeaker.model import (
    Allocation,
    Change,
    ConfigSet,
    Endpoint,
    Kind,
    Lease,
    Node,
    Pin,
    Pins,
    Secret,
    Service,
    Synced,
)
from lbspeaker.observe import from_api, from_files, load
from lbspeaker.observe.documents import files
from lbspeaker.shell.apiserver import ApiError, ApiServer, Credentials, Timings
from lbspeaker.shell.credentials import Loaded
from lbspeaker.wire import kube

NAMESPACE = "lbspeaker-system"
CRS = f"/apis/lbspeaker.io/v1beta1/namespaces/{NAMESPACE}"
KINDS = set(Kind) - {Kind.POD, Kind.OBJECT, Kind.PINS}  # pins are told with Leases
QUICK = Timings(backoff_s=(0.02, 0.1), spread_s=0.05)


class Told:
    def __init__(self) -> None:
        self.everything: list[Change | Synced] = []

    def put(self, change: Change | Synced) -> None:
        self.everything.append(change)

    @property
    def synced(self) -> set[Kind]:
        return {change.kind for change in self.everything if isinstance(change, Synced)}

    def of(self, kind: Kind) -> dict[str, Any]:
        """What one knows of `kind` who believed all of it."""
        known: dict[str, Any] = {}
        for change in self.everything:
            if isinstance(change, Change) and change.kind is kind:
                known[change.key] = change.value
        return {key: value for key, value in known.items() if value is not None}

    @property
    def configs(self) -> list[ConfigSet]:
        return [
            change.value
            for change in self.everything
            if isinstance(change, Change) and isinstance(change.value, ConfigSet)
        ]

    @property
    def pools(self) -> list[str]:
        return [pool.name for pool in self.configs[-1].config.pools] if self.configs else []


async def until(condition: Callable[[], bool], timeout_s: float = 15.0) -> None:
    async with asyncio.timeout(timeout_s):
        while not condition():
            await asyncio.sleep(0.005)


def pool(name: str, addresses: str) -> dict[str, Any]:
    return {
        "apiVersion": "lbspeaker.io/v1beta1",
        "kind": "IPAddressPool",
        "metadata": {"name": name, "namespace": NAMESPACE},
        "spec": {"addresses": [addresses]},
    }


# --- from an API server ---------------------------------------------------------------------------------


@asynccontextmanager
async def served(
    *documents: dict[str, Any], with_crds: bool = True
) -> AsyncIterator[tuple[Server, ApiServer]]:
    server = Server()
    server.load([{"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": NAMESPACE}}])
    if with_crds:
        server.load(crds())
    server.load(list(documents))
    await server.start([listening("127.0.0.1", 0)])
    try:
        async with ApiServer(Credentials(lambda: Loaded(server.url)), "test", timings=QUICK) as api:
            yield server, api
    finally:
        await server.stop()


@asynccontextmanager
async def observing(api: ApiServer, *kinds: Kind, effective: bool = False) -> AsyncIterator[Told]:
    told = Told()
    task = asyncio.create_task(from_api(api, kinds, told.put, namespace=NAMESPACE, effective=effective))
    try:
        yield told
        assert not task.done(), task.exception()
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task


def test_every_kind_is_told_and_complete() -> None:
    service = {"apiVersion": "v1", "kind": "Service", "metadata": {"name": "web", "namespace": "default"}}
    password = {"name": "bgp", "namespace": NAMESPACE}
    documents = [
        service | {"spec": {"type": "LoadBalancer", "ports": [{"port": 80}]}},
        service | {"metadata": {"name": "inner", "namespace": "default"}, "spec": {"ports": [{"port": 80}]}},
        {"apiVersion": "v1", "kind": "Node", "metadata": {"name": "node-a"}},
        {"apiVersion": "v1", "kind": "Secret", "metadata": password, "type": "kubernetes.io/basic-auth",
         "data": {"password": "eA==", "username": "eQ=="}},
        {"apiVersion": "v1", "kind": "Secret", "metadata": password | {"name": "other"}, "data": {}},
        json.loads(kube.lease("node-a", NAMESPACE, 1.0)),
        {"apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice", "addressType": "IPv4",
         "metadata": {"name": "web-1", "namespace": "default",
                      "labels": {"kubernetes.io/service-name": "web"}},
         "endpoints": [{"addresses": ["10.0.0.1"], "nodeName": "node-a"}]},
    ]  # fmt: skip

    async def play() -> None:
        async with served(*documents) as (_, api), observing(api, *KINDS) as told:
            await until(lambda: told.synced == KINDS)
            assert list(told.of(Kind.SERVICE)) == ["default/web"]
            (node,) = told.of(Kind.NODE).values()
            assert isinstance(node, Node)
            assert (node.name, bool(node.uid)) == ("node-a", True)
            assert told.of(Kind.SECRET) == {f"{NAMESPACE}/bgp": Secret(f"{NAMESPACE}/bgp", "x")}
            assert told.of(Kind.LEASE) == {"node-a": Lease("node-a", "1970-01-01T00:00:01.000000Z")}
            assert told.of(Kind.ENDPOINT_SLICE)["default/web-1"].endpoints == (Endpoint("node-a"),)
            assert "default" in told.of(Kind.NAMESPACE)
            assert told.configs == [ConfigSet()]

    asyncio.run(play())


def test_a_service_that_becomes_a_load_balancer_appears_and_vanishes_again() -> None:
    document = {
        "apiVersion": "v1", "kind": "Service", "metadata": {"name": "web", "namespace": "default"},
        "spec": {"ports": [{"port": 80}]},
    }  # fmt: skip
    path = "/api/v1/namespaces/default/services/web"

    async def play() -> None:
        async with served(document) as (_, api), observing(api, Kind.SERVICE) as told:
            await until(lambda: told.synced == {Kind.SERVICE})
            assert told.of(Kind.SERVICE) == {}
            await api.request("PATCH", path, body=b'{"spec":{"type":"LoadBalancer"}}')
            await until(lambda: "default/web" in told.of(Kind.SERVICE))
            await api.request("PATCH", path, body=b'{"spec":{"type":"ClusterIP"}}')
            await until(lambda: told.of(Kind.SERVICE) == {})

    asyncio.run(play())


def test_a_service_that_was_made_after_a_pool_was_edited_finds_it_edited() -> None:
    """Though a configuration is only told when it has been quiet for a moment."""
    service = {"apiVersion": "v1", "kind": "Service", "metadata": {"name": "web", "namespace": "default"},
               "spec": {"type": "LoadBalancer", "ports": [{"port": 80}]}}  # fmt: skip
    pools = f"/apis/lbspeaker.io/v1beta1/namespaces/{NAMESPACE}/ipaddresspools"
    edit = json.dumps({"spec": {"addresses": ["192.0.2.20/32"]}}).encode()

    async def play() -> None:
        lan = pool("lan", "192.0.2.10/32")
        async with served(lan) as (_, api), observing(api, Kind.CONFIG, Kind.SERVICE) as told:
            await until(lambda: told.synced == {Kind.CONFIG, Kind.SERVICE})
            await api.request("PATCH", f"{pools}/lan", body=edit)
            body = json.dumps(service).encode()
            await api.request("POST", "/api/v1/namespaces/default/services", body=body)
            await until(lambda: "default/web" in told.of(Kind.SERVICE))
            kinds = [one.kind for one in told.everything if not isinstance(one, Synced)]
            assert kinds[-2:] == [Kind.CONFIG, Kind.SERVICE]
            (now,) = told.configs[-1].config.pools
            assert str(now.ranges[0].first) == "192.0.2.20"

    asyncio.run(play())


def test_what_we_write_the_server_takes_and_we_read_back() -> None:
    """The patch of an allocation, an event, a Lease (created, then renewed) and the configuration."""
    document = {
        "apiVersion": "v1", "kind": "Service", "metadata": {"name": "web", "namespace": "default"},
        "spec": {"type": "LoadBalancer", "ports": [{"port": 80}]},
    }  # fmt: skip

    async def play() -> None:
        async with served(document) as (_, api), observing(api, Kind.SERVICE, Kind.LEASE) as told:
            await until(lambda: told.synced == {Kind.SERVICE, Kind.LEASE})
            await writes_are_taken(api, told)

    asyncio.run(play())


async def writes_are_taken(api: ApiServer, told: Told) -> None:
    def service() -> Service:
        found = told.of(Kind.SERVICE)["default/web"]
        assert isinstance(found, Service)
        return found

    status = "/api/v1/namespaces/default/services/web/status"
    before = service()
    allocation = Allocation((ip_address("192.0.2.10"),), ("lan",))
    await api.request("PATCH", status, body=kube.allocation_patch(before, allocation))
    await until(lambda: service().held == (ip_address("192.0.2.10"),) and service().held_pool == "lan")
    with pytest.raises(ApiError) as caught:
        await api.request("PATCH", status, body=kube.allocation_patch(before, None))
    assert caught.value.reason == "Conflict"
    await api.request("PATCH", status, body=kube.allocation_patch(service(), None))
    await until(lambda: service().held == () and service().held_pool is None)

    body = kube.event(
        service(),
        "Normal",
        "Allocated",
        "192.0.2.10 from lan",
        component="lbspeaker-controller",
        instance="node-a",
        now=1_767_323_045.5,
    )
    await api.request("POST", "/api/v1/namespaces/default/events", body=body)

    leases = f"/apis/coordination.k8s.io/v1/namespaces/{NAMESPACE}/leases"
    await api.request("POST", leases, body=kube.lease("node-a", NAMESPACE, 1.0))
    await api.request("PATCH", f"{leases}/lbspeaker-node-a", body=kube.lease("node-a", NAMESPACE, 2.0))
    await until(lambda: renewed(told) == "1970-01-01T00:00:02.000000Z")
    pins = Pins("node-a", {ip_address("192.0.2.1"): Pin("node-b", 7)})
    await api.request("POST", leases, body=kube.pins_lease("node-a", NAMESPACE, pins.pins))
    await until(lambda: told.of(Kind.PINS) == {"node-a": pins})
    await api.request("DELETE", f"{leases}/{kube.PINS_PREFIX}node-a")
    await until(lambda: told.of(Kind.PINS) == {})
    await api.request("DELETE", f"{leases}/lbspeaker-node-a")
    await until(lambda: told.of(Kind.LEASE) == {})

    body = kube.effective_configuration((pool("lan", "192.0.2.0/28"),))
    await api.request("POST", f"{CRS}/effectiveconfigurations", body=body)
    body = kube.effective_configuration(())
    answer = await api.request("PATCH", f"{CRS}/effectiveconfigurations/lbspeaker", body=body)
    assert json.loads(answer)["spec"] == {"documents": []}


def renewed(told: Told) -> str:
    lease = told.of(Kind.LEASE).get("node-a")
    return lease.renewed if isinstance(lease, Lease) else ""


def test_a_directory_of_objects_applied_at_once_is_few_configurations() -> None:
    async def play() -> None:
        async with served(pool("first", "192.0.2.0/28")) as (_, api), observing(api, Kind.CONFIG) as told:
            await until(lambda: told.synced == {Kind.CONFIG})
            assert told.pools == ["first"]
            assert len(told.configs) == 1
            for number in range(20):
                body = json.dumps(pool(f"p{number:02}", f"198.51.100.{8 * number}/29")).encode()
                await api.request("POST", f"{CRS}/ipaddresspools", body=body)
            await until(lambda: len(told.pools) == 21)
            assert len(told.configs) <= 6

    asyncio.run(play())


def test_a_pool_that_is_edited_into_nonsense_stays_as_it_was_and_the_mistake_is_told() -> None:
    async def play() -> None:
        documents = [pool("lan", "192.0.2.0/28"), pool("wan", "198.51.100.0/28")]
        async with served(*documents) as (_, api), observing(api, Kind.CONFIG) as told:
            await until(lambda: told.synced == {Kind.CONFIG})
            body = b'{"spec":{"addresses":["192.0.2.90-192.0.2.60"]}}'
            await api.request("PATCH", f"{CRS}/ipaddresspools/lan", body=body)
            await until(lambda: bool(told.configs[-1].problems))
            assert told.pools == ["lan", "wan"]
            assert str(told.configs[-1].config.pools[0].ranges[0].first) == "192.0.2.0"
            assert told.configs[-1].problems[0].object == "IPAddressPool/lan"
            published = {document["metadata"]["name"]: document for document in told.configs[-1].documents}
            assert published["lan"]["spec"]["addresses"] == ["192.0.2.0/28"]
            await api.request("DELETE", f"{CRS}/ipaddresspools/lan")
            await until(lambda: told.pools == ["wan"])
            assert told.configs[-1].problems == ()

    asyncio.run(play())


def test_a_pool_that_never_made_sense_leaves_the_others_alone() -> None:
    async def play() -> None:
        documents = [pool("lan", "192.0.2.0/28"), pool("wrong", "192.0.2.90-192.0.2.60")]
        async with served(*documents) as (_, api), observing(api, Kind.CONFIG) as told:
            await until(lambda: told.synced == {Kind.CONFIG})
            assert told.pools == ["lan"]
            assert [document["metadata"]["name"] for document in told.configs[-1].documents] == ["lan"]

    asyncio.run(play())


def test_what_the_controller_published_is_what_a_speaker_reads_and_keeps() -> None:
    async def play() -> None:
        async with served() as (_, api), observing(api, Kind.CONFIG, effective=True) as told:
            await until(lambda: told.synced == {Kind.CONFIG})
            assert told.configs == []
            path = f"{CRS}/effectiveconfigurations"
            body = kube.effective_configuration((pool("lan", "192.0.2.0/28"),))
            await api.request("POST", path, body=body)
            await until(lambda: told.pools == ["lan"])
            await api.request("DELETE", f"{path}/lbspeaker")
            await asyncio.sleep(0.1)
            assert told.pools == ["lan"]

    with capture_logs() as logs:
        asyncio.run(play())
    assert [line["event"] for line in logs] == ["config-unpublished", "config-deleted"]


def test_a_cluster_without_our_crds_is_told_what_to_do_and_awaited() -> None:
    async def play() -> None:
        async with served(with_crds=False) as (server, api), observing(api, Kind.CONFIG, Kind.NODE) as told:
            await until(lambda: Kind.NODE in told.synced and bool(logs))
            assert Kind.CONFIG not in told.synced
            server.load(crds())
            await until(lambda: Kind.CONFIG in told.synced)

    with capture_logs() as logs:
        asyncio.run(play())
    refused = [line for line in logs if line["event"] == "api-refused"]
    assert [line["why"] for line in refused] == [
        "the CRDs of lbspeaker are not installed: kubectl apply -f config/base/crds.yaml"
    ]


# --- from files -----------------------------------------------------------------------------------------

POOLS = """\
apiVersion: lbspeaker.io/v1beta1
kind: IPAddressPool
metadata: {name: lan}
spec:
  addresses: [192.0.2.0/28]
"""
WEB = """\
apiVersion: v1
kind: Service
metadata: {name: web}
spec: {type: LoadBalancer, ports: [{port: 80}]}
"""
NODES = """\
{apiVersion: v1, kind: Node, metadata: {name: node-a}}
---
{apiVersion: v1, kind: Node, metadata: {name: node-b}}
"""


@asynccontextmanager
async def watching(directory: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Told]:
    told = Told()
    quick = files.changes
    monkeypatch.setattr(files, "changes", lambda where: quick(where, interval_s=0.02, settle_s=0.02))
    task = asyncio.create_task(from_files(directory, told.put))
    try:
        await until(lambda: told.synced == set(Kind) or task.done())
        yield told
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task


def test_files_come_go_and_change(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def play() -> None:
        async with watching(tmp_path, monkeypatch) as told:
            assert told.pools == ["lan"]
            assert set(told.of(Kind.NODE)) == {"node-a", "node-b"}
            (tmp_path / "deep" / "web.yml").write_text(WEB)
            await until(lambda: "default/web" in told.of(Kind.SERVICE))
            (tmp_path / "deep" / "web.yml").write_text(WEB.replace("name: web", "name: shop"))
            await until(lambda: set(told.of(Kind.SERVICE)) == {"default/shop"})
            (tmp_path / "deep" / "web.yml").unlink()
            await until(lambda: not told.of(Kind.SERVICE))
            before = len(told.everything)
            (tmp_path / "nodes.json").write_text(NODES + "# a comment\n")
            await asyncio.sleep(0.2)
            assert len(told.everything) == before

    (tmp_path / "deep").mkdir()
    (tmp_path / "pools.yaml").write_text(POOLS)
    (tmp_path / "nodes.json").write_text(NODES)
    (tmp_path / "README.txt").write_text("a: [")
    (tmp_path / "..data").mkdir()
    (tmp_path / "..data" / "pools.yaml").write_text(POOLS)
    with capture_logs() as logs:
        asyncio.run(play())
    assert logs == []


@pytest.mark.parametrize(
    ("story", "file", "text", "event"),
    [
        ("broken YAML", "pools.yaml", "a: [", "config-wrong"),
        ("a pool that makes no sense", "pools.yaml", POOLS.replace("192.0.2.0/28", "x"), "config-wrong"),
        ("a Service of the wrong shape", "web.yaml", WEB.replace("80", "http"), "config-wrong"),
        ("not text", "pools.yaml", b"\xff\xfe\xff", "file-unreadable"),
    ],
)
def test_a_file_with_a_mistake_says_what_it_said_before(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, story: str, file: str, text: str | bytes, event: str
) -> None:
    async def play() -> None:
        async with watching(tmp_path, monkeypatch) as told:
            (tmp_path / file).write_bytes(text if isinstance(text, bytes) else text.encode())
            await until(lambda: bool(logs))
            await asyncio.sleep(0.15)
            assert told.pools == ["lan"]
            assert told.configs[-1].documents[0]["spec"] == {"addresses": ["192.0.2.0/28"]}
            assert set(told.of(Kind.SERVICE)) == {"default/web"}
            (tmp_path / file).write_text(POOLS.replace("lan", "new") if file == "pools.yaml" else "")
            await until(lambda: told.pools == ["new"] if file == "pools.yaml" else not told.of(Kind.SERVICE))

    (tmp_path / "pools.yaml").write_text(POOLS)
    (tmp_path / "web.yaml").write_text(WEB)
    with capture_logs() as logs:
        asyncio.run(play())
    assert [line["event"] for line in logs] == [event]
    assert logs[0]["file"] == str(tmp_path / file)


def test_a_directory_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(Unable, match="no such directory"):
        asyncio.run(from_files(tmp_path / "none", Told().put))


def test_a_directory_that_goes_away_takes_nothing_with_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def play() -> None:
        async with watching(tmp_path / "config", monkeypatch) as told:
            (tmp_path / "config").rename(tmp_path / "elsewhere")
            await asyncio.sleep(0.15)
            assert told.pools == ["lan"]

    (tmp_path / "config").mkdir()
    (tmp_path / "config" / "pools.yaml").write_text(POOLS)
    asyncio.run(play())


# --- load -----------------------------------------------------------------------------------------------


def test_a_plan_is_made_of_files_and_directories(tmp_path: Path) -> None:
    (tmp_path / "pools.yaml").write_text(POOLS)
    (tmp_path / "cluster").mkdir()
    (tmp_path / "cluster" / "nodes.yaml").write_text(NODES)
    (tmp_path / "cluster" / "web.yaml").write_text(
        f"""{WEB}
---
apiVersion: v1
kind: List
items:
- {{apiVersion: v1, kind: Namespace, metadata: {{name: default, labels: {{team: a}}}}}}
- apiVersion: discovery.k8s.io/v1
  kind: EndpointSlice
  metadata: {{name: web-2, labels: {{kubernetes.io/service-name: web}}}}
  endpoints: [{{addresses: [10.0.0.2], nodeName: node-b}}]
- apiVersion: discovery.k8s.io/v1
  kind: EndpointSlice
  metadata: {{name: web-1, labels: {{kubernetes.io/service-name: web}}}}
  endpoints: [{{addresses: [10.0.0.1], nodeName: node-a}}]
- {{apiVersion: apps/v1, kind: Deployment, metadata: {{name: web}}}}
"""
    )
    found = load([str(tmp_path / "pools.yaml"), str(tmp_path / "cluster")])
    assert found.problems == []
    assert [pool.name for pool in found.config.pools] == ["lan"]
    assert list(found.snapshot.services) == ["default/web"]
    assert found.snapshot.endpoints == {"default/web": (Endpoint("node-a"), Endpoint("node-b"))}
    assert found.snapshot.members == {"node-a", "node-b"}
    assert found.snapshot.namespaces["default"].labels == {"team": "a"}
    assert found.snapshot.config is found.config
    assert found.ignored == 1
    assert len(found.documents) == 8


def test_mistakes_have_their_place(tmp_path: Path) -> None:
    file = tmp_path / "web.yaml"
    file.write_text(WEB.replace("{type: LoadBalancer, ports: [{port: 80}]}", "\n  ports:\n  - port: http\n"))
    (problem,) = load([str(file)]).problems
    assert (problem.line, problem.object, problem.path) == (6, "Service/web", "spec.ports[0].port")
    assert problem.what == "expected a whole number, found text"


def test_of_an_object_that_is_there_twice_the_last_counts(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text(WEB)
    (tmp_path / "b.yaml").write_text(WEB.replace("80", "81"))
    found = load([str(tmp_path)])
    assert found.snapshot.services["default/web"].ports[0].port == 81
    (problem,) = found.problems
    assert (problem.severity, problem.line) == ("warning", 3)
    assert problem.what == f"Service default/web is there already ({tmp_path}/a.yaml:1)"


@pytest.mark.parametrize(("name", "why"), [("none.yaml", "no such file"), ("latin.yaml", "is not UTF-8")])
def test_files_that_cannot_be_read(tmp_path: Path, name: str, why: str) -> None:
    (tmp_path / "latin.yaml").write_bytes("name: Zürich".encode("latin-1"))
    with pytest.raises(Unable, match=why):
        load([str(tmp_path / name)])
