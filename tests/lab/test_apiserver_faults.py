"""What a test can make the server in memory do wrong, and its tokens: its Python API, on real sockets."""

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from lbspeaker.lab.apiserver import ApiServer, listening

Story = Callable[[ApiServer, aiohttp.ClientSession], Awaitable[None]]
MAPS = "/api/v1/namespaces/default/configmaps"


def tell(story: Story, **options: Any) -> None:
    """Run a story with a server of its own, and a client."""

    async def run() -> None:
        server = ApiServer(**options)
        await server.start()
        try:
            async with asyncio.timeout(20), aiohttp.ClientSession(server.url) as client:
                await story(server, client)
        finally:
            await server.stop()

    asyncio.run(run())


async def create(client: aiohttp.ClientSession, name: str) -> int:
    async with client.post(MAPS, json={"metadata": {"name": name}}) as answer:
        return answer.status


async def events(answer: aiohttp.ClientResponse) -> AsyncIterator[Any]:
    async for line in answer.content:
        yield json.loads(line)


def test_the_next_requests_fail_as_told_and_then_no_more() -> None:
    async def story(server: ApiServer, client: aiohttp.ClientSession) -> None:
        server.fail(2, 429, retry_after_s=7)
        server.fail(1, 503, method="POST")
        seen = []
        for method in ("GET", "GET", "GET", "POST", "POST"):
            async with client.request(method, MAPS, json={"metadata": {"name": "a"}}) as answer:
                seen.append((method, answer.status, answer.headers.get("Retry-After")))
                assert (await answer.json())["kind"] in ("Status", "ConfigMap", "ConfigMapList")
        assert seen == [
            ("GET", 429, "7"),
            ("GET", 429, "7"),
            ("GET", 200, None),
            ("POST", 503, None),
            ("POST", 201, None),
        ]

    tell(story)


def test_only_the_path_that_was_named_fails() -> None:
    async def story(server: ApiServer, client: aiohttp.ClientSession) -> None:
        server.fail(1, 500, path="/services")
        assert await create(client, "a") == 201
        async with client.get("/api/v1/services") as answer:
            assert answer.status == 500
        async with client.get("/api/v1/services") as answer:
            assert answer.status == 200

    tell(story)


def test_requests_are_counted() -> None:
    async def story(server: ApiServer, client: aiohttp.ClientSession) -> None:
        for name in ("a", "b"):
            await create(client, name)
        assert server.requests == {f"POST {MAPS}": 2}

    tell(story)


def test_dropped_watches_end_cleanly_and_resume_without_loss() -> None:
    async def story(server: ApiServer, client: aiohttp.ClientSession) -> None:
        version = str(server.store.rv)
        query = {"watch": "true", "resourceVersion": version}
        async with client.get(MAPS, params=query) as answer:
            await create(client, "a")
            first = await anext(events(answer))
            server.drop_watches()
            assert [event async for event in events(answer)] == []  # the end, and no error
        await create(client, "b")
        query["resourceVersion"] = first["object"]["metadata"]["resourceVersion"]
        async with client.get(MAPS, params=query) as answer:
            assert (await anext(events(answer)))["object"]["metadata"]["name"] == "b"

    tell(story)


def test_a_connection_that_is_cut_is_an_error_and_not_an_end() -> None:
    async def story(server: ApiServer, client: aiohttp.ClientSession) -> None:
        async with client.get(
            MAPS, params={"watch": "true", "resourceVersion": str(server.store.rv)}
        ) as answer:
            server.cut_connections()
            with pytest.raises(aiohttp.ClientError):
                await answer.content.readline()

    tell(story)


def test_after_the_history_is_forgotten_every_old_version_is_gone() -> None:
    async def story(server: ApiServer, client: aiohttp.ClientSession) -> None:
        for name in ("a", "b"):
            await create(client, name)
        async with client.get(MAPS, params={"limit": "1"}) as answer:
            listed = (await answer.json())["metadata"]
        server.forget_history()
        async with client.get(
            MAPS, params={"watch": "true", "resourceVersion": listed["resourceVersion"]}
        ) as answer:
            assert answer.status == 200
            (error,) = [event async for event in events(answer)]
        assert (error["type"], error["object"]["code"], error["object"]["reason"]) == (
            "ERROR",
            410,
            "Expired",
        )
        assert error["object"]["message"].startswith("too old resource version: ")
        exact = {"resourceVersion": listed["resourceVersion"], "resourceVersionMatch": "Exact"}
        async with client.get(MAPS, params=exact) as answer:
            assert answer.status == 410
        async with client.get(MAPS, params={"limit": "1", "continue": listed["continue"]}) as answer:
            assert answer.status == 410
            rest = (await answer.json())["metadata"]["continue"]
        async with client.get(MAPS, params={"limit": "1", "continue": rest}) as answer:
            page = await answer.json()
        assert [item["metadata"]["name"] for item in page["items"]] == ["b"]
        fresh = {"watch": "true", "resourceVersion": page["metadata"]["resourceVersion"]}
        async with client.get(MAPS, params=fresh) as answer:
            await create(client, "c")
            assert (await anext(events(answer)))["object"]["metadata"]["name"] == "c"

    tell(story)


def test_a_short_history_forgets_by_itself() -> None:
    async def story(server: ApiServer, client: aiohttp.ClientSession) -> None:
        version = str(server.store.rv)
        for n in range(11):
            await create(client, f"m{n}")
        async with client.get(MAPS, params={"watch": "true", "resourceVersion": version}) as answer:
            assert (await anext(events(answer)))["object"]["code"] == 410

    tell(story, history=10)


def test_a_frozen_server_accepts_and_answers_nothing_until_it_thaws() -> None:
    async def story(server: ApiServer, client: aiohttp.ClientSession) -> None:
        watch = {"watch": "true", "resourceVersion": str(server.store.rv)}
        async with client.get(MAPS, params=watch) as answer:
            server.freeze()
            request = asyncio.create_task(create(client, "a"))
            line = asyncio.create_task(answer.content.readline())
            _, waiting = await asyncio.wait({request, line}, timeout=0.3)
            assert waiting == {request, line}
            server.unfreeze()
            assert await request == 201
            assert json.loads(await line)["object"]["metadata"]["name"] == "a"

    tell(story)


def test_a_watch_whose_client_left_is_forgotten() -> None:
    async def story(server: ApiServer, client: aiohttp.ClientSession) -> None:
        async with client.get(MAPS, params={"watch": "true"}) as answer:
            assert len(server.hub) == 1
            answer.close()
        while len(server.hub):
            await asyncio.sleep(0.01)

    tell(story)


def test_bookmarks_come_as_often_as_told() -> None:
    async def story(server: ApiServer, client: aiohttp.ClientSession) -> None:
        server.watching.bookmark_every_s = 0.05
        query = {"watch": "true", "resourceVersion": str(server.store.rv), "allowWatchBookmarks": "true"}
        async with client.get(MAPS, params=query) as answer:
            stream = events(answer)
            assert [(await anext(stream))["type"] for _ in range(3)] == ["BOOKMARK"] * 3

    tell(story)


def test_who_has_no_good_token_is_turned_away(tmp_path: Path) -> None:
    tokens = tmp_path / "tokens"
    tokens.write_text("one,controller\ntwo,speaker,expired\n")

    async def status(client: aiohttp.ClientSession, header: str) -> int:
        async with client.get(MAPS, headers={"Authorization": header} if header else {}) as answer:
            if answer.status != 200:
                found = await answer.json()
                assert (found["reason"], found["message"]) == ("Unauthorized", "Unauthorized")
            return answer.status

    async def story(server: ApiServer, client: aiohttp.ClientSession) -> None:
        expected = {
            "": 401,
            "Bearer one": 200,
            "bearer one": 200,
            "Bearer two": 401,
            "Bearer x": 401,
            "one": 401,
        }
        assert {header: await status(client, header) for header in expected} == expected
        tokens.write_text("three,controller\n")  # rotated
        assert [await status(client, f"Bearer {token}") for token in ("one", "three")] == [401, 200]
        tokens.unlink()
        assert await status(client, "Bearer three") == 401

    tell(story, tokens=tokens)


def test_it_listens_on_several_sockets_and_stops_on_all() -> None:
    async def run() -> None:
        server = ApiServer()
        sockets = [listening("127.0.0.1", 0), listening("127.0.0.2", 0), listening("::1", 0)]
        await server.start(sockets)
        urls = list(server.addresses)
        assert len(urls) == 3
        async with aiohttp.ClientSession() as client:
            for url in urls:
                async with client.get(f"{url}/healthz") as answer:
                    assert await answer.text() == "ok"
            async with client.get(urls[0] + MAPS, params={"watch": "true"}) as answer:
                await server.stop()
                assert await answer.content.read() == b""
            for url in urls:
                with pytest.raises(aiohttp.ClientConnectionError):
                    await client.get(f"{url}/healthz")

    asyncio.run(run())


def test_a_stopped_server_can_be_started_again_with_what_it_held() -> None:
    async def run() -> None:
        server = ApiServer()
        for expected in (201, 409):
            await server.start()
            async with aiohttp.ClientSession(server.url) as client:
                assert await create(client, "a") == expected
            await server.stop()

    asyncio.run(run())


def test_with_a_namespace_goes_what_is_in_it() -> None:
    async def story(server: ApiServer, client: aiohttp.ClientSession) -> None:
        await client.post("/api/v1/namespaces", json={"metadata": {"name": "shop"}})
        service = {"metadata": {"name": "web"}, "spec": {"ports": [{"port": 80}]}}
        async with client.post("/api/v1/namespaces/shop/services", json=service) as answer:
            ip = (await answer.json())["spec"]["clusterIP"]
        async with client.delete("/api/v1/namespaces/shop") as answer:
            assert answer.status == 200
        async with client.get("/api/v1/services") as answer:
            assert (await answer.json())["items"] == []
        again = {"metadata": {"name": "new"}, "spec": {"ports": [{"port": 80}], "clusterIP": ip}}
        async with client.post("/api/v1/namespaces/default/services", json=again) as answer:
            assert answer.status == 201

    tell(story)


def test_a_broken_request_harms_nobody_else() -> None:
    async def story(server: ApiServer, client: aiohttp.ClientSession) -> None:
        parts = server.url.removeprefix("http://").split(":")
        for nonsense in (b"\x00\xff\r\n\r\n", b"GET", b"POST / HTTP/1.1\r\nContent-Length: x\r\n\r\n"):
            reader, writer = await asyncio.open_connection(parts[0], int(parts[1]))
            writer.write(nonsense)
            writer.write_eof()
            await reader.read()
            writer.close()
        assert await create(client, "a") == 201

    tell(story)
