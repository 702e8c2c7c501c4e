"""A copy of a collection stays right whatever the server does: nothing is lost, nothing is told twice."""

import asyncio
import json
import random
from collections.abc import Callable, Coroutine
from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from structlog.testing import capture_logs

from lbspeaker.lab.apiserver import ApiServer as Server
from lbspeaker.lab.apiserver import listening
from lbspeaker.model import Kind, Node
from lbspeaker.shell.apiserver import ApiError, ApiServer
from lbspeaker.shell.reflector import Troubles
from tests.shell.cluster import NODES, QUICK, Told, node, nodes, plain, reflecting, served, until


def run(test: Callable[..., Coroutine[Any, Any, None]]) -> Callable[[], None]:
    """A test that is a coroutine."""

    def test_function() -> None:
        asyncio.run(test())

    test_function.__name__ = test.__name__
    test_function.__doc__ = test.__doc__
    return test_function


async def create(api: ApiServer, name: str, **labels: str) -> None:
    await api.request("POST", NODES, body=node(name, **labels))


async def label(api: ApiServer, name: str, value: str) -> None:
    body = json.dumps({"metadata": {"labels": {"colour": value}}}).encode()
    await api.request("PATCH", f"{NODES}/{name}", body=body)


async def delete(api: ApiServer, name: str) -> None:
    await api.request("DELETE", f"{NODES}/{name}")


@run
async def test_what_is_there_is_told_then_that_it_is_all_then_every_change() -> None:
    async with served() as (_, api):
        await create(api, "a")
        await create(api, "b")
        async with reflecting(api) as told:
            assert told.keys == ["a", "b"]
            assert told.synced == [Kind.NODE]
            await create(api, "c")
            await label(api, "a", "red")
            await delete(api, "b")
            await until(lambda: len(told.keys) == 5)
            assert told.keys == ["a", "b", "c", "a", "-b"]
            assert told.synced == [Kind.NODE]


@run
async def test_a_change_that_means_nothing_to_us_is_no_change() -> None:
    async with served() as (_, api):
        await create(api, "a")
        async with reflecting(api) as told:
            await api.request("PATCH", f"{NODES}/a", body=b'{"metadata":{"annotations":{"x":"1"}}}')
            await create(api, "b")
            await until(lambda: "b" in told.keys)
            assert told.keys == ["a", "b"]


@run
async def test_a_list_longer_than_a_page() -> None:
    async with served() as (server, api):
        server.load([json.loads(node(f"n{number:04}")) for number in range(1203)])
        async with reflecting(api) as told:
            assert len(told.state) == 1203
            assert server.requests[f"GET {NODES}"] >= 3


@run
async def test_a_watch_that_the_server_ends_goes_on_where_it_was() -> None:
    async with served() as (server, api), reflecting(api) as told:
        for name in "abcde":
            server.drop_watches()
            await create(api, name)
            await until(lambda name=name: name in told.keys)
        assert told.keys == list("abcde")


@run
async def test_what_was_over_before_a_watch_ended_is_not_told_again() -> None:
    async with served() as (server, api), reflecting(api) as told:
        await create(api, "a")
        await delete(api, "a")
        await until(lambda: told.keys == ["a", "-a"])
        server.drop_watches()
        await create(api, "b")
        await until(lambda: "b" in told.keys)
        assert told.keys == ["a", "-a", "b"]


@run
async def test_an_event_that_arrives_in_pieces_and_one_that_is_cut_short() -> None:
    event = b'{"type":"ADDED","object":{"metadata":{"name":"%s","resourceVersion":"2"}}}\n'
    asked: list[bytes] = []

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        asked.append(await reader.readuntil(b"\r\n\r\n"))
        writer.write(b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n")
        if b"watch=1" not in asked[-1]:
            pieces = [b'{"metadata":{"resourceVersion":"1"},"items":[]}']
        elif len(asked) == 2:
            pieces = [event[:9], event[9:40], event[40:] % b"a" + event % b"b", (event % b"c")[:30]]
        else:
            pieces = [event % b"c"]
        for piece in pieces:
            writer.write(piece)
            await asyncio.sleep(0.01)
        writer.close()

    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    async with ApiServer(plain(url), "test", timings=QUICK) as api, reflecting(api) as told:
        await until(lambda: len(told.keys) == 3)
        assert told.keys == ["a", "b", "c"]
    server.close()
    assert b"resourceVersion=2&" in asked[2]


def test_trouble_of_many_is_told_once_and_is_over_when_it_is_over_for_all() -> None:
    away = ApiError("GET /", 0, "NoConnection", "no connection", hint="look")
    refused = ApiError("GET /", 403, "Forbidden", "may not")
    a, b = nodes("/a"), nodes("/b")
    with capture_logs() as logs:
        troubles = Troubles("http://h")
        for resource in (a, b, a):
            troubles.failed(resource, away, 1.0)
        troubles.over(a)
        assert [line["event"] for line in logs] == ["api-unavailable"]
        troubles.failed(a, refused, 1.0)
        troubles.over(b)
        troubles.over(a)
    assert [(line["event"], line.get("was")) for line in logs[1:]] == [
        ("api-refused", None),
        ("api-back", None),
        ("api-back", "/a"),
    ]


@run
async def test_a_connection_that_breaks_goes_on_where_it_was_and_nobody_is_bothered() -> None:
    with capture_logs() as logs:
        async with served() as (server, api), reflecting(api) as told:
            await create(api, "a")
            server.cut_connections()
            await asyncio.sleep(0.05)
            await create(api, "b")
            await until(lambda: "b" in told.keys)
            assert told.keys == ["a", "b"]
    assert logs == []


@run
async def test_history_that_is_gone_is_made_up_by_a_list_of_which_only_the_differences_are_told() -> None:
    async with served() as (server, api):
        for name in "abc":
            await create(api, name)
        async with reflecting(api) as told:
            server.fail(2, 503, method="GET", path=NODES)  # the watch stays away for a moment
            server.drop_watches()
            await delete(api, "a")
            await label(api, "b", "red")
            await create(api, "d")
            server.forget_history()
            await until(lambda: len(told.keys) >= 6)
            await asyncio.sleep(0.1)
            assert told.keys[:3] == ["a", "b", "c"]
            assert sorted(told.keys[3:]) == ["-a", "b", "d"]
            assert told.synced == [Kind.NODE]


@run
async def test_a_server_that_freezes_is_noticed_told_once_and_followed_again() -> None:
    with capture_logs() as logs:
        async with served() as (server, api), reflecting(api) as told:
            others = nodes("/api/v1/namespaces")  # a second reflector, for the same trouble
            other = asyncio.create_task(api.reflect(others, Told().put))
            await until(lambda: server.requests["GET /api/v1/namespaces"] == 2)
            server.freeze()
            server.load([json.loads(node("a"))])
            await asyncio.sleep(2.5)  # silence, and several attempts
            assert told.keys == []
            server.unfreeze()
            await until(lambda: told.keys == ["a"])
            await until(lambda: logs[-1]["event"] == "api-back")
            other.cancel()
    assert [line["event"] for line in logs] == ["api-unavailable", "api-back"]
    assert "no answer within" in logs[0]["why"]
    assert logs[0]["retry_s"] > 0


@run
async def test_what_follows_a_server_can_be_told_to_do_so_anew() -> None:
    async with served() as (server, api), reflecting(api) as told:
        await create(api, "a")
        await until(lambda: told.keys == ["a"])
        before = server.requests[f"GET {NODES}"]
        api.reconnect()
        await until(lambda: server.requests[f"GET {NODES}"] > before)
        await create(api, "b")
        await until(lambda: told.keys == ["a", "b"])


@run
async def test_a_server_that_dies_takes_nothing_back_and_is_compared_when_it_returns_from_a_backup() -> None:
    server = Server()
    await server.start([listening("127.0.0.1", 0)])
    port = int(server.url.rpartition(":")[2])
    server.load([json.loads(node(name)) for name in ("kept", "lost", "changed")])
    for _ in range(20):  # its counter is far ahead of the one that follows
        server.load([json.loads(node("kept"))])
    with capture_logs() as logs:
        async with ApiServer(plain(server.url), "test", timings=QUICK) as api, reflecting(api) as told:
            listed = json.loads(await api.request("GET", NODES))["items"]
            backup = {one["metadata"]["name"]: {"kind": "Node", "apiVersion": "v1", **one} for one in listed}
            await server.stop()
            await asyncio.sleep(0.3)
            assert sorted(told.state) == ["changed", "kept", "lost"]
            successor = Server()
            kept, changed = backup["kept"], backup["changed"]
            changed["metadata"]["labels"] = {"colour": "red"}
            successor.load([kept, changed])
            await successor.start([listening("127.0.0.1", port)])
            try:
                await until(lambda: len(told.keys) == 5)
                assert sorted(told.keys[3:]) == ["-lost", "changed"]
                await create(api, "new")
                await until(lambda: told.keys[-1] == "new")
            finally:
                await successor.stop()
    assert [line["event"] for line in logs][:2] == ["api-unavailable", "api-back"]
    assert "Connect call failed" in logs[0]["why"] or "refused" in logs[0]["why"]


@run
async def test_a_server_that_is_not_there_at_first() -> None:
    with listening("127.0.0.1", 0) as reserved:
        port = reserved.getsockname()[1]
    told = Told()
    async with ApiServer(plain(f"http://127.0.0.1:{port}"), "test", timings=QUICK) as api:
        task = asyncio.create_task(api.reflect(nodes(), told.put))
        await asyncio.sleep(0.2)
        assert told.everything == []
        server = Server()
        server.load([json.loads(node("a"))])
        await server.start([listening("127.0.0.1", port)])
        await until(lambda: told.synced == [Kind.NODE])
        assert told.keys == ["a"]
        task.cancel()
        await server.stop()


@run
async def test_a_collection_that_the_server_does_not_know_is_told_in_our_words_and_awaited() -> None:
    with capture_logs() as logs:
        async with served() as (server, api):
            task = asyncio.create_task(api.reflect(nodes("/apis/example.com/v1/nothings"), Told().put))
            await asyncio.sleep(0.3)
            assert server.requests["GET /apis/example.com/v1/nothings"] > 2
            assert not task.done()
            task.cancel()
    assert [line["event"] for line in logs] == ["api-refused"]
    assert logs[0]["why"] == "the cluster has no such thing"


@run
async def test_a_field_selector_that_an_old_server_refuses_is_given_up() -> None:
    async with served() as (_, api):
        await create(api, "a")
        async with reflecting(api, nodes(selector="spec.unknown=1")) as told:
            assert told.keys == ["a"]


@run
async def test_a_server_that_ends_every_watch_at_once_is_not_hammered() -> None:
    async with served() as (server, api), reflecting(api):
        before = server.requests[f"GET {NODES}"]
        end = asyncio.get_running_loop().time() + 1.0
        while asyncio.get_running_loop().time() < end:
            server.drop_watches()
            await asyncio.sleep(0.001)
        assert server.requests[f"GET {NODES}"] - before < 40


FAULTS = {
    "drop": lambda server: server.drop_watches(),
    "cut": lambda server: server.cut_connections(),
    "forget": lambda server: server.forget_history(),
    "429": lambda server: server.fail(1, 429, 0, method="GET"),
    "503": lambda server: server.fail(3, 503, method="GET"),
    "blink": lambda server: (server.freeze(), server.unfreeze()),
}


@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    st.lists(
        st.one_of(
            st.tuples(st.sampled_from(["create", "label", "delete"]), st.sampled_from("abcd")),
            st.tuples(st.sampled_from(sorted(FAULTS)), st.just("")),
        ),
        max_size=30,
    ),
    st.randoms(use_true_random=False),
)
def test_who_believes_what_is_told_knows_what_the_server_knows(
    story: list[tuple[str, str]], dice: random.Random
) -> None:
    async def play() -> None:
        async with served() as (server, api), reflecting(api) as told:
            there: dict[str, dict[str, str]] = {}
            for number, (what, name) in enumerate(story):
                if what in FAULTS:
                    FAULTS[what](server)
                elif what == "create" and name not in there:
                    await create(api, name)
                    there[name] = {}
                elif what == "label" and name in there:
                    await label(api, name, str(number))
                    there[name] = {"colour": str(number)}
                elif what == "delete" and name in there:
                    await delete(api, name)
                    del there[name]
                await asyncio.sleep(dice.choice([0.002, 0.005, 0.02]))
            await create(api, "last")
            await until(lambda: "last" in told.state)
            believed = {name: value.labels for name, value in told.state.items() if isinstance(value, Node)}
            assert believed == there | {"last": {}}

    asyncio.run(play())
