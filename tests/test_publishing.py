"""What the controller writes to configuration objects when the server says no."""

import asyncio
import base64
import contextlib
import json

import pytest
from structlog.testing import capture_logs

from lbspeaker import publishing as module
from lbspeaker.config.crds import crds
from lbspeaker.core.objects import Protect, Report
from lbspeaker.model import Condition, ObjectStatus, Written
from lbspeaker.publishing import Publishing
from lbspeaker.shell.apiserver import ApiServer
from tests.shell.cluster import served, until

BASE = "/apis/lbspeaker.io/v1beta1/namespaces/default/l2advertisements"
DOCUMENT = {"apiVersion": "lbspeaker.io/v1beta1", "kind": "L2Advertisement", "metadata": {"name": "lan"}}
STATUS = ObjectStatus((Condition("Accepted", "True", "Accepted", "in force", 1),))


def test_it_tries_again_later_and_later_and_says_so_once() -> None:
    async def play() -> None:
        async with served() as (server, api):
            server.load(crds())
            await api.request("POST", BASE, body=json.dumps(DOCUMENT).encode())
            server.fail(3, 403, path="/status")
            report = Report(Written("L2Advertisement/lan", DOCUMENT), STATUS)
            publishing: Publishing

            def failed(effect: Report | Protect) -> None:
                publishing.report(effect)

            publishing = Publishing(api, "default", failed)
            publishing.report(report)
            running = asyncio.create_task(publishing.run())
            began = asyncio.get_running_loop().time()

            def tries() -> int:
                return server.requests[f"PATCH {BASE}/lan/status"]

            await until(lambda: tries() == 4, 10)
            assert asyncio.get_running_loop().time() - began > 3.0, "0.5 s, 1 s, 2 s"
            await asyncio.sleep(0.2)
            running.cancel()
            found = json.loads(await api.request("GET", f"{BASE}/lan"))
            assert found["status"]["conditions"][0]["message"] == "in force"

    with capture_logs() as logs:
        asyncio.run(play())
    assert [line["event"] for line in logs] == ["unreported"]


# --- the Secret of hellos -------------------------------------------------------------------------------

SECRETS = "/api/v1/namespaces/default/secrets"


async def provide(api: ApiServer) -> dict[str, str]:
    """Let the Secret be created; return what is in it then."""
    with contextlib.suppress(TimeoutError):
        work = Publishing(api, "default", lambda effect: None)._provide_hello_secret()
        await asyncio.wait_for(work, 0.3)
    found = json.loads(await api.request("GET", f"{SECRETS}/lbspeaker-hello"))
    assert found["type"] == "kubernetes.io/basic-auth"
    return {name: base64.b64decode(value).decode() for name, value in found["data"].items()}


def test_two_clusters_have_different_passwords_for_hellos_of_32_bytes_each() -> None:
    async def play() -> dict[str, str]:
        async with served() as (_, api):
            return await provide(api)

    first, second = asyncio.run(play()), asyncio.run(play())
    assert first["username"] == "lbspeaker"
    assert len(base64.b64decode(first["password"], validate=True)) == 32
    assert first["password"] != second["password"]


def test_a_secret_that_is_there_stays_and_nothing_is_said() -> None:
    async def play() -> None:
        async with served() as (server, api):
            before = await provide(api)
            assert await provide(api) == before
            assert server.requests[f"POST {SECRETS}"] == 2

    with capture_logs() as logs:
        asyncio.run(play())
    assert not logs


def test_a_secret_that_cannot_be_created_is_tried_again_and_told_once(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(module, "HELLO_RETRY_S", 0.05)

    async def play() -> str:
        async with served() as (server, api):
            server.fail(3, 403, path="/secrets", method="POST")
            password = (await provide(api))["password"]
            assert server.requests[f"POST {SECRETS}"] >= 4
            return password

    with capture_logs() as logs:
        password = asyncio.run(play())
    (line,) = logs
    assert line["event"] == "hello-secret-uncreated"
    assert "403" in line["why"]
    assert "lbspeaker-hello" in line["hint"]
    assert password not in str(line)


def test_a_secret_that_is_deleted_is_made_anew(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "HELLO_RETRY_S", 0.05)

    async def play() -> None:
        async with served() as (_, api):
            before = await provide(api)
            await api.request("DELETE", f"{SECRETS}/lbspeaker-hello")
            assert (await provide(api))["password"] != before["password"]

    asyncio.run(play())
