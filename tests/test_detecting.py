"""The process of BFD as a child: real processes, and what is made of their reports."""

import asyncio
import os
import signal
from collections.abc import Callable
from dataclasses import replace
from ipaddress import ip_interface
from pathlib import Path

import pytest
from msgspec import structs

from lbspeaker.detecting import Detecting, Ended, Heard, routers
from lbspeaker.model import BFDProfile, BFDState, BFDStatus, Link, Peer
from lbspeaker.wire import watch
from tests.build import ip

ROUTER = watch.Target("192.0.2.1", BFDProfile("fast", 100, 100, passive=True))  # so that nothing is sent
OTHER = watch.Target("192.0.2.9", BFDProfile())
PEER = Peer("router", 64513, 64512, ip("192.0.2.1"))
UP, DOWN = BFDStatus(BFDState.UP, 0, BFDState.UP, heard=True), BFDStatus(BFDState.DOWN)
LOST = BFDStatus(BFDState.DOWN, 1)


async def until(is_so: Callable[[], bool], seconds: float = 8.0) -> None:
    async with asyncio.timeout(seconds):
        while not is_so():
            await asyncio.sleep(0.01)


def test_it_is_started_when_it_is_wanted_and_again_when_it_dies() -> None:
    async def story() -> None:
        said: list[Heard] = []
        detecting = Detecting(said.append)
        running = asyncio.create_task(detecting.run())
        try:
            await asyncio.sleep(0.2)
            assert detecting.pid is None
            detecting.want({"router": ROUTER})
            await until(lambda: sum(isinstance(one, watch.Counted) for one in said) == 1)
            assert detecting.pid is not None
            os.kill(detecting.pid, signal.SIGKILL)
            await until(lambda: any(isinstance(one, Ended) for one in said))
            await until(lambda: sum(isinstance(one, watch.Counted) for one in said) == 2)
            pid = detecting.pid
            await detecting.leave()
        finally:
            running.cancel()
            await asyncio.wait({running})
        assert pid is not None
        await until(lambda: not os.path.exists(f"/proc/{pid}"))  # noqa: PTH110

    asyncio.run(story())


def test_it_runs_for_as_long_as_somebody_is_watched(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("lbspeaker.detecting.IDLE_S", 0.2)

    async def story() -> None:
        said: list[Heard] = []
        detecting = Detecting(said.append)
        running = asyncio.create_task(detecting.run())
        try:
            detecting.want({"router": ROUTER})
            await until(lambda: any(isinstance(one, watch.Counted) for one in said))
            pid = detecting.pid
            detecting.want({})
            detecting.want({"router": ROUTER})
            await asyncio.sleep(0.4)
            assert detecting.pid == pid, "it was wanted again in time"
            detecting.want({})
            await until(lambda: not Path(f"/proc/{pid}").exists())
            assert not any(isinstance(one, Ended) for one in said), "nothing is missed"
            said.clear()
            detecting.want({"router": ROUTER})
            await until(lambda: any(isinstance(one, watch.Counted) for one in said))
        finally:
            running.cancel()
            await asyncio.wait({running})

    asyncio.run(story())


def test_what_it_says_reaches_the_peers_of_the_router() -> None:
    detecting = Detecting(lambda _: None)
    assert detecting.want({"one": ROUTER, "two": ROUTER, "three": OTHER}) == ["one", "three", "two"]
    assert detecting.heard(watch.Changed("192.0.2.1", UP)) == [("one", UP), ("two", UP)]
    assert (detecting.known("two"), detecting.known("three"), detecting.known("four")) == (UP, DOWN, None)
    assert detecting.heard(watch.Changed("192.0.2.77", UP)) == []
    assert detecting.heard(watch.Changed("192.0.2.1", LOST)) == [("one", LOST), ("two", LOST)]
    assert detecting.heard(Ended()) == [("one", None), ("two", None), ("three", None)]
    assert detecting.known("one") == DOWN


def test_a_router_that_is_reached_otherwise_has_another_session() -> None:
    detecting = Detecting(lambda _: None)
    detecting.want({"one": ROUTER, "three": OTHER})
    detecting.heard(watch.Changed("192.0.2.1", UP))
    far = watch.Target("192.0.2.1", ROUTER.profile, multihop=True)
    assert detecting.want({"one": far, "three": OTHER}) == ["one"]
    assert detecting.known("one") == DOWN
    assert [row.router for row in detecting.rows()] == ["192.0.2.1 multihop", "192.0.2.9"]
    assert detecting.want({"one": far, "three": structs.replace(OTHER, profile=ROUTER.profile)}) == []
    assert detecting.want({"three": OTHER, "two": OTHER}) == ["one", "two"]


NEAR = Link("eth0", 1, bytes(6), addresses=(ip_interface("192.0.2.201/24"),))
FAST, SLOW = BFDProfile("fast", 100, 100), BFDProfile("slow", 900, 900)
FIRST = replace(PEER, name="a", bfd=FAST, source_address=ip("192.0.2.201"))
SECOND = replace(PEER, name="b", bfd=SLOW, port=1790)

TOGETHER = {
    "one router, two ports": ((FIRST, SECOND), {"a": ("192.0.2.201", FAST), "b": ("192.0.2.201", FAST)}),
    "in whatever order": ((SECOND, FIRST), {"a": ("192.0.2.201", FAST), "b": ("192.0.2.201", FAST)}),
    "one of them without BFD": ((replace(FIRST, bfd=None), SECOND), {"b": ("", SLOW)}),
    "two routers": (
        (FIRST, replace(SECOND, address=ip("192.0.2.2"))),
        {"a": ("192.0.2.201", FAST), "b": ("", SLOW)},
    ),
    "one router, but over several hops": (
        (FIRST, replace(SECOND, ebgp_multihop=True)),
        {"a": ("192.0.2.201", FAST), "b": ("", SLOW)},
    ),
    "a router that is not known": ((replace(FIRST, address=None),), {}),
}


@pytest.mark.parametrize(("peers", "expected"), TOGETHER.values(), ids=TOGETHER)
def test_peers_with_one_router_share_one_session(
    peers: tuple[Peer, ...], expected: dict[str, tuple[str, BFDProfile]]
) -> None:
    found = routers({peer.name: peer for peer in peers}, (NEAR,))
    assert {name: (target.source, target.profile) for name, target in found.items()} == expected


def test_problems_are_told_until_they_are_over() -> None:
    detecting = Detecting(lambda _: None)
    detecting.want({"one": ROUTER})
    detecting.heard(watch.Failed("192.0.2.1", "no way to 192.0.2.1", "check routes"))
    assert detecting.problems() == ["BFD with 192.0.2.1: no way to 192.0.2.1; check routes"]
    detecting.heard(watch.Counted("192.0.2.1", 3, 0, 1000, 0, {"ttl": 2}))
    assert "too low a TTL" in detecting.problems()[0]
    detecting.heard(watch.Changed("192.0.2.1", UP))
    assert detecting.problems() == []
    detecting.heard(watch.Ready("ordinary", "add SYS_NICE"))
    assert "may be late: add SYS_NICE" in detecting.problems()[0]
