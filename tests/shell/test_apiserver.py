"""Requests: what is repeated, what is not, and what the user reads when the server says no."""

import asyncio
import json
import socket
import time
from collections.abc import Callable, Coroutine
from typing import Any

import pytest

from lbspeaker import __version__
from lbspeaker.shell.apiserver import ApiError, ApiServer
from tests.shell.cluster import NODES, node, plain, served


def refused(call: Coroutine[Any, Any, bytes]) -> Coroutine[Any, Any, ApiError]:
    """The error that `call` ends in."""

    async def caught() -> ApiError:
        with pytest.raises(ApiError) as info:
            await call
        return info.value

    return caught()


def test_a_round_trip() -> None:
    async def play() -> None:
        async with served() as (_, api):
            await api.request("POST", NODES, body=node("a"))
            body = b'{"metadata":{"labels":{"zone":"1"}}}'
            patched = await api.request("PATCH", f"{NODES}/a", body=body)
            assert json.loads(patched)["metadata"]["labels"] == {"zone": "1"}
            listed = await api.request("GET", NODES, query={"labelSelector": "zone=1"})
            assert [item["metadata"]["name"] for item in json.loads(listed)["items"]] == ["a"]
            await api.request("DELETE", f"{NODES}/a")

    asyncio.run(play())


@pytest.mark.parametrize(
    ("story", "method", "path", "body", "status", "reason", "message"),
    [
        ("not there", "GET", f"{NODES}/x", None, 404, "NotFound", 'nodes "x" not found'),
        ("there already", "POST", NODES, node("a"), 409, "AlreadyExists", 'nodes "a" already exists'),
        ("no such group", "GET", "/apis/none/v1/x", None, 404, "NotFound", "404 page not found"),
        ("not an object", "POST", NODES, b"[]", 400, "BadRequest", None),
    ],
)
def test_a_no_says_what_where_and_why(
    story: str, method: str, path: str, body: bytes | None, status: int, reason: str, message: str | None
) -> None:
    async def play() -> None:
        async with served() as (server, api):
            await api.request("POST", NODES, body=node("a"))
            error = await refused(api.request(method, path, body=body))
            assert (error.status, error.reason) == (status, reason)
            assert error.what.startswith(f"{method} {server.url}{path}: {status} {reason}: ")
            if message is not None:
                assert error.message == message

    asyncio.run(play())


@pytest.mark.parametrize(
    ("story", "method", "status", "asked"),
    [
        ("a server that is busy did nothing: anything may be repeated", "POST", 429, 2),
        ("a server in trouble: what does no harm twice is repeated", "PATCH", 503, 2),
        ("a server in trouble: what would be done twice is not", "POST", 500, 1),
        ("a no that will stay a no", "PATCH", 403, 1),
    ],
)
def test_what_is_asked_again(story: str, method: str, status: int, asked: int) -> None:
    async def play() -> None:
        async with served() as (server, api):
            await api.request("POST", NODES, body=node("a"))
            before = server.requests.total()
            server.fail(1, status, 0, method=method)
            path = NODES if method == "POST" else f"{NODES}/a"
            call = api.request(method, path, body=node("b") if method == "POST" else b"{}")
            if asked == 1:
                assert (await refused(call)).status == status
            else:
                await call
            assert server.requests.total() - before == asked

    asyncio.run(play())


def test_the_pause_that_the_server_asks_for_is_kept() -> None:
    async def play() -> None:
        async with served() as (server, api):
            server.fail(1, 429, 1)
            began = time.monotonic()
            await api.request("GET", NODES)
            assert time.monotonic() - began >= 1.0

    asyncio.run(play())


def test_a_pause_that_would_outlast_the_time_we_have_is_not_made() -> None:
    async def play() -> None:
        async with served() as (server, api):
            server.fail(1, 429, 60)
            began = time.monotonic()
            error = await refused(api.request("GET", NODES, timeout_s=2.0))
            assert (error.status, error.retry_after_s) == (429, 60.0)
            assert time.monotonic() - began < 1.0

    asyncio.run(play())


def test_a_server_that_never_answers() -> None:
    async def play() -> None:
        async with served() as (server, api):
            server.freeze()
            error = await refused(api.request("GET", NODES, timeout_s=0.3))
            assert (error.status, error.reason) == (0, "Timeout")
            assert str(error).startswith(f"GET {server.url}{NODES}: no answer within 0.3 s; is this address")

    asyncio.run(play())


def test_a_server_that_is_not_there() -> None:
    with socket.create_server(("127.0.0.1", 0)) as reserved:
        url = f"http://127.0.0.1:{reserved.getsockname()[1]}"

    async def play() -> None:
        async with ApiServer(plain(url), "test") as api:
            error = await refused(api.request("POST", NODES, body=node("a")))
            assert (error.status, error.reason) == (0, "NoConnection")
            assert "Connect call failed" in error.message or "refused" in error.message

    asyncio.run(play())


def test_the_server_hears_our_name_and_that_we_take_gzip() -> None:
    heard: list[bytes] = []

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        heard.append(await reader.readuntil(b"\r\n\r\n"))
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}")
        await writer.drain()
        writer.close()

    assert b"User-Agent: lbspeaker/%b (controller)\r\n" % __version__.encode() in ask(answer, heard)
    assert b"gzip" in heard[0].split(b"Accept-Encoding:")[1].split(b"\r\n")[0]


def ask(answer: Callable[..., Coroutine[Any, Any, None]], heard: list[bytes]) -> bytes:
    """What a server with `answer` heard of a GET."""

    async def play() -> None:
        server = await asyncio.start_server(answer, "127.0.0.1", 0)
        url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        async with ApiServer(plain(url), "controller") as api:
            await api.request("GET", NODES)
        server.close()

    asyncio.run(play())
    return heard[0]


def test_no_more_connections_than_agreed() -> None:
    open_now: set[asyncio.StreamWriter] = set()
    most = 0

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal most
        open_now.add(writer)
        most = max(most, len(open_now))
        try:
            while await reader.readuntil(b"\r\n\r\n"):
                await asyncio.sleep(0.01)
                writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}")
        except asyncio.IncompleteReadError:
            pass
        finally:
            open_now.discard(writer)
            writer.close()

    async def play() -> None:
        server = await asyncio.start_server(answer, "127.0.0.1", 0)
        url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        async with ApiServer(plain(url), "test", connections=3) as api:
            await asyncio.gather(*(api.request("GET", NODES) for _ in range(30)))
        server.close()

    asyncio.run(play())
    assert most == 3


def test_requests_are_counted_and_failures_by_why() -> None:
    async def play() -> None:
        async with served() as (_, api):
            await api.request("POST", NODES, body=node("a"))
            await refused(api.request("GET", f"{NODES}/x"))
            await refused(api.request("POST", NODES, body=node("a")))
            assert api.requests == {"POST": 2, "GET": 1}
            assert api.failures == {("GET", "NotFound"): 1, ("POST", "AlreadyExists"): 1}

    asyncio.run(play())
