"""Events: rationed, and no warning is lost."""

import asyncio
import json

import pytest

from lbspeaker import events
from lbspeaker.events import Events
from tests.build import service
from tests.shell.cluster import served, until

EVENTS = "/api/v1/namespaces/default/events"


def test_warnings_wait_for_their_turn_and_good_news_does_not(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(events, "PER_S", 400.0)
    monkeypatch.setattr(events, "AT_ONCE", 10)

    async def play() -> None:
        async with served() as (server, api):
            telling = Events(api, "lbspeaker-controller", "test")
            for number in range(100):
                telling.tell(service(f"good{number}"), "Normal", "Allocated", "an IP")
                telling.tell(service(f"bad{number}"), "Warning", "NoPool", "first")
                telling.tell(service(f"bad{number}"), "Warning", "NoPool", "second")
            telling.withdraw(service("bad7"))
            running = asyncio.create_task(telling.run())
            await until(
                lambda: sum(n for what, n in server.requests.items() if what.startswith("POST")) >= 109
            )
            await asyncio.sleep(0.1)
            running.cancel()
            posted = sum(n for what, n in server.requests.items() if what.startswith("POST"))
            assert posted == 10 + 99, "ten of the good, and the last word of each warning but one"

    asyncio.run(play())


def test_what_is_told_once_is_not_told_again_while_it_is_there() -> None:
    async def play() -> None:
        async with served() as (_, api):
            for _ in range(2):
                telling = Events(api, "lbspeaker-controller", "test")
                telling.tell(service("a", uid="u1"), "Normal", "ClassMismatch", "not ours", once=True)
                running = asyncio.create_task(telling.run())
                await asyncio.sleep(0.1)
                running.cancel()
            items = json.loads(await api.request("GET", EVENTS))["items"]
            assert [item["message"] for item in items] == ["not ours"]

    asyncio.run(play())


def test_of_several_peers_that_are_down_each_is_told() -> None:
    async def play() -> None:
        async with served() as (_, api):
            telling = Events(api, "lbspeaker-speaker", "a")
            for about, why in (("one", "first"), ("two", "gone"), ("one", "last")):
                telling.tell_of_node("a", "PeerDown", f"no session with {about}: {why}", about)
            running = asyncio.create_task(telling.run())
            await asyncio.sleep(0.1)
            running.cancel()
            items = json.loads(await api.request("GET", EVENTS))["items"]
            assert sorted(item["message"] for item in items) == [
                "no session with one: last",
                "no session with two: gone",
            ]

    asyncio.run(play())
