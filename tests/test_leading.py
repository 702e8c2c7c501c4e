"""The Lease on a server: taken, kept, given back, fought for and lost. Real time, short terms."""

import asyncio
import json
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest
from structlog.testing import capture_logs

from lbspeaker.core import leadership
from lbspeaker.lab.apiserver import ApiServer as Server
from lbspeaker.leading import LeadershipLost, Leading
from lbspeaker.shell.apiserver import MERGE_PATCH, ApiServer
from tests.shell.cluster import served, until

LEASES = "/apis/coordination.k8s.io/v1/namespaces/default/leases"
LEASE = f"{LEASES}/lbspeaker.controller"
Story = Callable[[Server, ApiServer], Awaitable[None]]


@pytest.fixture(autouse=True)
def _short_terms(monkeypatch: pytest.MonkeyPatch) -> None:
    """A Lease says whole seconds; all else may be shorter."""
    monkeypatch.setattr(leadership, "DURATION_S", 1.0)
    monkeypatch.setattr(leadership, "DEADLINE_S", 0.7)
    monkeypatch.setattr(leadership, "RENEW_EVERY_S", 0.1)
    monkeypatch.setattr(leadership, "LOOK_EVERY_S", 0.05)
    monkeypatch.setattr("lbspeaker.leading._REQUEST_S", 0.2)
    monkeypatch.setattr("lbspeaker.leading._AGAIN_S", 0.05)


def tell(story: Story) -> None:
    async def run() -> None:
        async with asyncio.timeout(20), served() as (server, api):
            await story(server, api)

    asyncio.run(run())


async def spec(api: ApiServer) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(await api.request("GET", LEASE))["spec"]
    return found


async def edit(api: ApiServer, **changes: object) -> None:
    body = json.dumps({"spec": changes}).encode()
    await api.request("PATCH", LEASE, body=body, content_type=MERGE_PATCH)


async def acquired(api: ApiServer, name: str) -> Leading:
    leading = Leading(api, "default", name)
    await leading.acquire()
    return leading


@asynccontextmanager
async def holding(leading: Leading) -> AsyncIterator[asyncio.Task[None]]:
    task = asyncio.create_task(leading.hold())
    try:
        yield task
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def lost(leading: Leading) -> tuple[str, float]:
    """Why it is lost, and after how many seconds."""
    began = time.monotonic()
    with pytest.raises(LeadershipLost) as error:
        await leading.hold()
    return str(error.value), time.monotonic() - began


def test_taken_kept_and_given_back() -> None:
    async def story(server: Server, api: ApiServer) -> None:
        leading = await acquired(api, "a")
        first = await spec(api)
        assert (first["holderIdentity"], first["leaseDurationSeconds"]) == ("a", 1)
        async with holding(leading):
            await until(lambda: server.requests[f"PUT {LEASE}"] >= 3)
            await asyncio.sleep(0.03)  # it is answered
        kept = await spec(api)
        assert kept["renewTime"] > first["renewTime"]
        assert kept["leaseTransitions"] == first["leaseTransitions"] == 1, "it is the same leader"
        await leading.release()
        assert (await spec(api))["holderIdentity"] == ""
        began = time.monotonic()
        await acquired(api, "b")
        assert time.monotonic() - began < 0.5, "at once"
        after = await spec(api)
        assert (after["holderIdentity"], after["leaseTransitions"] > 1) == ("b", True)

    tell(story)


@pytest.mark.parametrize("there", [False, True], ids=["no Lease yet", "one that was given back"])
def test_of_two_that_want_it_at_once_one_gets_it_and_the_other_after_him(there: bool) -> None:
    async def story(server: Server, api: ApiServer) -> None:
        if there:
            await (await acquired(api, "earlier")).release()
        leaders: list[str] = []

        async def candidate(name: str) -> None:
            leading = await acquired(api, name)
            leaders.append(name)
            await leading.hold()

        asked = f"PUT {LEASE}" if there else f"POST {LEASES}"
        before = server.requests[asked]
        server.freeze()
        tasks = {name: asyncio.create_task(candidate(name)) for name in "ab"}
        await until(lambda: server.requests[f"GET {LEASE}"] >= 2 + there)
        server.unfreeze()
        await until(lambda: server.requests[asked] >= before + 2)  # both saw the same, and wrote
        await asyncio.sleep(1.2)
        assert len(leaders) == 1
        (winner,) = leaders
        assert (await spec(api))["holderIdentity"] == winner
        tasks[winner].cancel()  # it dies, and gives nothing back
        began = time.monotonic()
        await until(lambda: len(leaders) == 2)
        assert leaders == [winner, "b" if winner == "a" else "a"]
        assert time.monotonic() - began > 0.8, "not before the term of the first is over"
        for task in tasks.values():
            task.cancel()
        await asyncio.gather(*tasks.values(), return_exceptions=True)

    tell(story)


def test_who_restarts_under_the_same_name_need_not_wait() -> None:
    async def story(server: Server, api: ApiServer) -> None:
        await acquired(api, "a")
        began = time.monotonic()
        await acquired(api, "a")
        assert time.monotonic() - began < 0.5

    tell(story)


def test_who_never_led_has_nothing_to_give_back() -> None:
    async def story(server: Server, api: ApiServer) -> None:
        await Leading(api, "default", "a").release()
        assert not server.requests

    tell(story)


def test_somebody_else_put_his_name_there() -> None:
    async def story(server: Server, api: ApiServer) -> None:
        leading = await acquired(api, "a")
        await edit(api, holderIdentity="thief")
        why, after_s = await lost(leading)
        assert why == "thief leads"
        assert after_s < 0.5, "it did not wait for its deadline"
        await leading.release()
        assert (await spec(api))["holderIdentity"] == "thief"
        await edit(api, holderIdentity="")
        await leading.acquire()
        async with holding(leading) as task:
            await asyncio.sleep(0.8)
            assert not task.done(), "it leads again"

    tell(story)


def test_another_change_of_the_lease_is_no_reason_to_leave() -> None:
    async def story(server: Server, api: ApiServer) -> None:
        leading = await acquired(api, "a")
        async with holding(leading) as task:
            await edit(api, acquireTime="2026-01-02T03:04:05.000000Z")
            before = server.requests[f"PUT {LEASE}"]
            await until(lambda: server.requests[f"PUT {LEASE}"] > before + 4)
            assert not task.done()
            assert (await spec(api))["holderIdentity"] == "a"

    tell(story)


def test_a_server_that_is_silent_for_long_ends_it_and_for_a_moment_does_not() -> None:
    async def story(server: Server, api: ApiServer) -> None:
        leading = await acquired(api, "a")
        async with holding(leading) as task:
            server.freeze()
            await asyncio.sleep(0.2)
            server.unfreeze()
            before = server.requests[f"PUT {LEASE}"]
            await until(lambda: server.requests[f"PUT {LEASE}"] > before + 4)
            server.fail(2, 403, method="PUT")
            await asyncio.sleep(1.0)
            assert not task.done()
        assert leading.leads
        server.freeze()
        why, after_s = await lost(leading)
        assert not leading.leads
        assert why.startswith("the Lease cannot be renewed: PUT ")
        assert 0.4 < after_s < 1.5

    tell(story)


def test_a_lease_that_is_deleted_is_lost() -> None:
    async def story(server: Server, api: ApiServer) -> None:
        leading = await acquired(api, "a")
        await api.request("DELETE", LEASE)
        why, after_s = await lost(leading)
        assert why.startswith("the Lease cannot be renewed: ")
        assert after_s > 0.4
        await leading.release()  # there is nothing to give back, and nothing to fail at
        await leading.acquire()

    tell(story)


def test_what_keeps_it_waiting_is_told_once() -> None:
    async def story(server: Server, api: ApiServer) -> None:
        server.fail(3, 403, path="/leases")
        with capture_logs() as logs:
            leading = await acquired(api, "a")
            waiting = asyncio.create_task(acquired(api, "b"))
            async with holding(leading):
                await asyncio.sleep(0.4)
            waiting.cancel()
        assert [(line["event"], line.get("holder")) for line in logs] == [
            ("lease-refused", None), ("standing-by", "a")
        ]  # fmt: skip

    tell(story)
