"""The same client against a real kube-apiserver, when KUBEBUILDER_ASSETS names one."""

import asyncio
import json
import os
import signal
import subprocess
from collections.abc import Iterator
from ipaddress import ip_address
from pathlib import Path
from typing import IO, Any

import pytest
from structlog.testing import capture_logs

from lbspeaker.config.crds import crds
from lbspeaker.model import Allocation, ConfigSet, Kind, Lease, Service
from lbspeaker.observe import from_api
from lbspeaker.shell.apiserver import ApiError, ApiServer, Timings, credentials
from lbspeaker.wire import kube
from tests.lab.apiserver_backends import Client, real, real_binaries
from tests.shell.cluster import NODES, Told, node, nodes, reflecting, until

pytestmark = [
    pytest.mark.skipif(
        not real_binaries(), reason="KUBEBUILDER_ASSETS names no directory with kube-apiserver and etcd"
    ),
    pytest.mark.timeout(180),
]

NAMESPACE = "lbspeaker-system"
CRS = f"/apis/lbspeaker.io/v1beta1/namespaces/{NAMESPACE}"
KINDS = set(Kind) - {Kind.POD, Kind.OBJECT}


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Client]:
    binaries = real_binaries()
    assert binaries
    with real(binaries, tmp_path_factory.mktemp("real")) as client:
        client.good("POST", "/api/v1/namespaces", {"metadata": {"name": NAMESPACE}})
        for crd in crds():
            client.good("POST", "/apis/apiextensions.k8s.io/v1/customresourcedefinitions", crd)
        yield client


def client_of(cluster: Client, timings: Timings | None = None) -> ApiServer:
    return ApiServer(credentials(str(cluster.kubeconfig)), "test", timings=timings)


def latest(told: Told, kind: Kind) -> dict[str, Any]:
    known = {change.key: change.value for change in told.changes if change.kind is kind}
    return {key: value for key, value in known.items() if value is not None}


def test_every_kind_and_everything_that_we_write(cluster: Client) -> None:
    async def play() -> None:
        told = Told()
        async with client_of(cluster) as api:
            observing = asyncio.create_task(
                from_api(api, KINDS, told.put, namespace=NAMESPACE, effective=False)
            )
            await until(lambda: set(told.synced) == KINDS, 20)
            service = {
                "metadata": {"name": "web"},
                "spec": {
                    "type": "LoadBalancer",
                    "ports": [{"port": 80}],
                    "ipFamilyPolicy": "PreferDualStack",
                },
            }
            services = "/api/v1/namespaces/default/services"
            await api.request("POST", services, body=json.dumps(service).encode())
            await until(lambda: "default/web" in latest(told, Kind.SERVICE))
            await allocation_comes_and_goes(api, told, f"{services}/web/status")
            await lease_comes_and_goes(api, told)
            await configuration_is_read_and_published(api, told)
            await api.request("DELETE", f"{services}/web")
            await until(lambda: not latest(told, Kind.SERVICE))
            observing.cancel()

    asyncio.run(play())


async def allocation_comes_and_goes(api: ApiServer, told: Told, status: str) -> None:
    def now() -> Service:
        found = latest(told, Kind.SERVICE)["default/web"]
        assert isinstance(found, Service)
        return found

    before = now()
    assert before.families == (4, 6)
    ips = (ip_address("192.0.2.10"), ip_address("2001:db8::a"))
    body = kube.allocation_patch(before, Allocation(ips, ("lan",) * len(ips)))
    answer = await api.request("PATCH", status, body=body)
    await until(lambda: now().held == ips and now().held_pool == "lan")
    assert kube.object_change(Kind.SERVICE, answer).value == now()  # type: ignore[union-attr]
    with pytest.raises(ApiError) as caught:
        await api.request("PATCH", status, body=kube.allocation_patch(before, None))
    assert (caught.value.status, caught.value.reason) == (409, "Conflict")
    event = kube.event(
        now(), "Normal", "Allocated", "why", component="lbspeaker-controller", instance="a", now=1.5, serial=7
    )
    await api.request("POST", "/api/v1/namespaces/default/events", body=event)
    await api.request("PATCH", status, body=kube.allocation_patch(now(), None))
    await until(lambda: now().held == () and now().held_pool is None)


async def lease_comes_and_goes(api: ApiServer, told: Told) -> None:
    leases = f"/apis/coordination.k8s.io/v1/namespaces/{NAMESPACE}/leases"
    await api.request("POST", leases, body=kube.lease("node-a", NAMESPACE, 1.0))
    body = kube.lease("node-a", NAMESPACE, 2.0, draining=True)
    await api.request("PATCH", f"{leases}/lbspeaker-node-a", body=body)
    expected = Lease("node-a", "1970-01-01T00:00:02.000000Z", draining=True)
    await until(lambda: latest(told, Kind.LEASE).get("node-a") == expected)
    await api.request("DELETE", f"{leases}/lbspeaker-node-a")
    await until(lambda: not latest(told, Kind.LEASE))


async def configuration_is_read_and_published(api: ApiServer, told: Told) -> None:
    pool = {
        "apiVersion": "lbspeaker.io/v1beta1",
        "kind": "IPAddressPool",
        "metadata": {"name": "lan", "namespace": NAMESPACE},
        "spec": {"addresses": ["192.0.2.0/28"]},
    }
    await api.request("POST", f"{CRS}/ipaddresspools", body=json.dumps(pool).encode())

    def written() -> ConfigSet:
        found = latest(told, Kind.CONFIG)[""]
        assert isinstance(found, ConfigSet)
        return found

    await until(lambda: len(written().config.pools) == 1)
    assert written().problems == ()
    await api.request(
        "POST", f"{CRS}/effectiveconfigurations", body=kube.effective_configuration(written().documents)
    )
    published = Told()
    reading = asyncio.create_task(
        from_api(api, [Kind.CONFIG], published.put, namespace=NAMESPACE, effective=True)
    )
    await until(lambda: published.synced == [Kind.CONFIG])
    read = latest(published, Kind.CONFIG)[""]
    assert isinstance(read, ConfigSet)
    assert read.config == written().config
    reading.cancel()
    body = kube.effective_configuration(())
    answer = await api.request("PATCH", f"{CRS}/effectiveconfigurations/lbspeaker", body=body)
    assert json.loads(answer)["spec"] == {"documents": []}


def test_watches_that_end_every_second_lose_nothing(cluster: Client) -> None:
    async def play() -> None:
        timings = Timings(watch_s=(1, 2))
        async with client_of(cluster, timings) as api, reflecting(api) as told:
            for number in range(60):
                await api.request("POST", NODES, body=node(f"n{number:02}"))
                await asyncio.sleep(0.05)
            for number in range(0, 60, 2):
                await api.request("DELETE", f"{NODES}/n{number:02}")
            await until(lambda: len(told.state) == 30)
            for number in range(1, 60, 2):
                await api.request("DELETE", f"{NODES}/n{number:02}")
            await until(lambda: told.state == {})
            assert len(told.keys) == 120

    with capture_logs() as logs:
        asyncio.run(play())
    assert logs == []


def test_a_field_selector_that_the_server_refuses_is_given_up(cluster: Client) -> None:
    async def play() -> None:
        others = nodes("/api/v1/namespaces", "spec.nonsense=1")
        async with client_of(cluster) as api, reflecting(api, others) as told:
            assert "default" in told.state

    asyncio.run(play())


def test_a_server_that_stops_for_a_while_is_followed_again(cluster: Client) -> None:
    async def play() -> None:
        timings = Timings(answer_s=1.0, list_s=2.0, silence_s=1.0, backoff_s=(0.1, 0.5))
        async with client_of(cluster, timings) as api, reflecting(api) as told:
            os.kill(process, signal.SIGSTOP)
            try:
                await asyncio.sleep(4)
            finally:
                os.kill(process, signal.SIGCONT)
            await api.request("POST", NODES, body=node("after"))
            await until(lambda: "after" in told.state)
            await until(lambda: logs[-1]["event"] == "api-back")
            await api.request("DELETE", f"{NODES}/after")

    process = apiserver_of(cluster)
    with capture_logs() as logs:
        asyncio.run(play())
    assert [line["event"] for line in logs] == ["api-unavailable", "api-back"]


def test_a_server_that_dies_and_comes_back_is_compared(cluster: Client, tmp_path: Path) -> None:
    """The last test: the server that the others used ends here."""

    async def play(log: IO[bytes]) -> None:
        timings = Timings(backoff_s=(0.1, 0.5))
        async with client_of(cluster, timings) as api:
            for name in ("kept", "lost"):
                await api.request("POST", NODES, body=node(name))
            async with reflecting(api) as told:
                command = Path(f"/proc/{process}/cmdline").read_bytes().rstrip(b"\0").split(b"\0")
                os.kill(process, signal.SIGKILL)
                await asyncio.sleep(1)
                assert set(told.state) == {"kept", "lost"}
                again = subprocess.Popen(["setpriv", "--pdeathsig", "KILL", *command], stdout=log, stderr=log)
                try:
                    await patiently(api, "DELETE", f"{NODES}/lost")
                    await patiently(api, "POST", NODES, node("new"))
                    await until(lambda: "new" in told.state and "lost" not in told.state, 30)
                    assert sorted(told.keys[2:]) == ["-lost", "new"]
                finally:
                    again.kill()
                    again.wait()

    process = apiserver_of(cluster)
    with (tmp_path / "log").open("wb") as log:
        asyncio.run(play(log))


async def patiently(api: ApiServer, method: str, path: str, body: bytes | None = None) -> None:
    """Ask until the server is up."""
    async with asyncio.timeout(60):
        while True:
            try:
                await api.request(method, path, body=body)
            except ApiError as error:
                assert error.away or error.status in (401, 403), error
                await asyncio.sleep(0.2)
            else:
                return


def apiserver_of(cluster: Client) -> int:
    """The process of the kube-apiserver that listens where `cluster` is, a child of ours."""
    port = cluster.url.rpartition(":")[2]
    for pid in subprocess.check_output(["ps", "-o", "pid=", "--ppid", str(os.getpid())], text=True).split():
        path = Path(f"/proc/{pid}/cmdline")
        if path.exists() and f"--secure-port={port}".encode() in path.read_bytes().split(b"\0"):
            return int(pid)
    raise AssertionError("no such process")
