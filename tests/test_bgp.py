"""All peers of a node, with a stand-in for their children: what becomes of those that change."""

import asyncio
from collections.abc import Callable, Coroutine
from dataclasses import replace
from ipaddress import ip_interface, ip_network
from pathlib import Path
from typing import Any, Literal

import pytest
from structlog.testing import capture_logs

from lbspeaker import bgp as bgp_module
from lbspeaker import peering as module
from lbspeaker.bgp import BGP
from lbspeaker.core.announce import PlannedRoute
from lbspeaker.model import Link, Peer, Route
from tests.build import ip
from tests.children import Child, said, sent, session, until

LAN = Link("eth0", 1, bytes.fromhex("02000000000a"), addresses=(ip_interface("192.0.2.201/24"),))
PEER = Peer("router", 64513, 64512, ip("192.0.2.1"), graceful_restart_s=120)
X = ip_network("203.0.113.1/32")
ROUTES = {X: PlannedRoute(Route(X), ("default/web",))}
LEAVING = (65535, 0)  # RFC 8326


class Told:
    """Who is told, and what."""

    def __init__(self) -> None:
        self.events: list[tuple[str, str]] = []
        self.warnings: list[tuple[str, str]] = []
        self.services: list[tuple[str, str]] = []

    def event(self, key: str, kind: Literal["Normal", "Warning"], reason: str, message: str) -> bool:
        new = (reason, message) not in self.events
        self.events.append((reason, message))
        return new

    def announced(self, key: str, protocol: Literal["layer2", "bgp"]) -> None:
        self.services.append((key, protocol))

    def node_event(self, reason: str, message: str, about: str = "") -> None:
        self.warnings.append((reason, about))


@pytest.fixture
def children(monkeypatch: pytest.MonkeyPatch) -> list[Child]:
    """The children that were started."""
    monkeypatch.setattr(module, "local_address_towards", lambda _: ip("192.0.2.201"))
    monkeypatch.setattr(module, "check_source", lambda *_: None)
    return Child.stand_in(monkeypatch)


def play(story: Callable[[BGP, Told], Coroutine[Any, Any, None]], turn_s: float = 0.0) -> None:
    async def run() -> None:
        loop, told = asyncio.get_running_loop(), Told()
        report: Callable[[Any], Any] = lambda one: loop.call_soon(bgp.heard, one)  # noqa: E731
        bgp = BGP("a", Path("/nowhere"), told, loop.create_task, report, lambda: turn_s)
        bgp.set_links((LAN,))
        running = asyncio.create_task(bgp.run())
        try:
            await story(bgp, told)
        finally:
            await bgp.end()
            running.cancel()

    asyncio.run(asyncio.wait_for(run(), 30))


async def serving(bgp: BGP, children: list[Child]) -> Child:
    """A session that is up, and has sent its route."""
    bgp.set_peer("router", PEER)
    bgp.set_routes("router", ROUTES)
    child = await session(children)
    await said(child, "announce", str(X))
    sent(child, X)
    await until(lambda: [row.sent for row in bgp.rows()] == [1])
    return child


def test_what_is_announced_is_told_once(children: list[Child]) -> None:
    async def story(bgp: BGP, told: Told) -> None:
        await serving(bgp, children)
        assert set(told.events) == {("Announced", f"announcing {X} to router from a (BGP)")}
        assert told.services == [(key, "bgp") for key in ROUTES[X].services], "once"
        assert bgp.problems() == []

    play(story)


def test_a_route_that_is_not_sent_for_long_is_a_problem_with_its_cause(
    children: list[Child], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The router takes no IPv6; and of IPv4, ExaBGP is slow with one of two."""
    monkeypatch.setattr(bgp_module, "UNSENT_S", 0.3)
    y, z = ip_network("203.0.113.2/32"), ip_network("2001:db8::10/128")
    routes = {one: PlannedRoute(Route(one), (f"default/{one}",)) for one in (X, y, z)}
    six = replace(LAN, addresses=(*LAN.addresses, ip_interface("2001:db8::201/64")))

    async def story(bgp: BGP, told: Told) -> None:
        bgp.set_links((six,))
        bgp.set_peer("router", PEER)
        bgp.set_routes("router", routes)
        await until(lambda: bool(children))
        children[-1].says("negotiated", negotiated={"families": ["ipv4 unicast"]})
        children[-1].says("state", state="up")
        await said(children[-1], "announce", str(X))
        sent(children[-1], X)
        await until(lambda: [(row.sent, row.desired) for row in bgp.rows()] == [(1, 3)])
        assert (bgp.rows()[0].unsent, bgp.problems()) == ({}, []), "it may be that it is only late"
        await until(lambda: len(bgp.problems()) == 2)
        why = bgp.rows()[0].unsent
        assert why.keys() == {str(y), str(z)}
        assert why[str(z)].startswith("FamilyNotNegotiated: BGPPeer/router: the router does not take IPv6")
        assert f"peer router: {z} is not sent, though the session is up: {why[str(z)]}" in bgp.problems()
        sent(children[-1], y)
        await until(lambda: bgp.rows()[0].unsent.keys() == {str(z)})
        announced = {message for reason, message in told.events if reason == "Announced"}
        assert not any(str(z) in message for message in announced)
        bgp.set_routes("router", {X: routes[X], y: routes[y]})
        await until(lambda: bgp.problems() == [])
        await until(lambda: bgp.rows()[0].desired == 2)
        assert {message.split()[1] for reason, message in told.events if reason == "Announced"} == {
            str(X),
            str(y),
        }

    play(story)


def test_an_edited_session_begins_when_the_one_before_has_ended(
    children: list[Child], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also the third, though the second never began."""
    monkeypatch.setattr(Child, "stop_s", 0.3)

    async def story(bgp: BGP, _: Told) -> None:
        first = await serving(bgp, children)
        told = list(first.lines)
        bgp.set_peer("router", replace(PEER, hold_time_s=30))
        await asyncio.sleep(0.05)
        bgp.set_peer("router", replace(PEER, hold_time_s=60))
        bgp.set_routes("router", ROUTES)
        await asyncio.sleep(0.1)
        assert (children, first.stopped) == ([first], False)
        await until(lambda: len(children) == 2)
        assert (first.stopped, first.lines) == (True, told)
        assert "hold-time 60;" in children[1].configuration

    play(story)


def test_an_edited_session_goes_on_until_it_is_this_nodes_turn(children: list[Child]) -> None:
    """And has all that is new meanwhile."""
    y = ip_network("203.0.113.2/32")

    async def story(bgp: BGP, _: Told) -> None:
        first = await serving(bgp, children)
        bgp.set_peer("router", replace(PEER, hold_time_s=30))
        routes = ROUTES | {y: PlannedRoute(Route(y), ())}
        bgp.set_routes("router", routes)
        await said(first, "announce", str(y))
        assert (len(children), first.stopped) == (1, False)
        await until(lambda: len(children) == 2)
        assert first.stopped and "hold-time 30;" in children[1].configuration
        second = await session(children)
        await said(second, "announce", str(y))

    play(story, turn_s=0.4)


def test_an_edited_session_that_ends_by_itself_waits_for_no_turn(children: list[Child]) -> None:
    async def story(bgp: BGP, _: Told) -> None:
        first = await serving(bgp, children)
        bgp.set_peer("router", replace(PEER, password="other"))
        await asyncio.sleep(0.05)
        assert len(children) == 1
        first.says("state", state="down", reason="the router has another password by now")
        await until(lambda: len(children) == 2)
        assert children[1].configuration != first.configuration

    play(story, turn_s=20)


@pytest.mark.parametrize("last", [PEER, None], ids=["taken back", "removed"])
def test_an_edit_is_dropped_when_it_is(children: list[Child], last: Peer | None) -> None:
    async def story(bgp: BGP, _: Told) -> None:
        await serving(bgp, children)
        bgp.set_peer("router", replace(PEER, hold_time_s=30))
        bgp.set_peer("router", last)
        await asyncio.sleep(0.6)
        assert len(children) == 1

    play(story, turn_s=0.3)


@pytest.mark.parametrize("edit", [{"address": ip("192.0.2.2")}, {"port": 1790}], ids=["address", "port"])
def test_another_router_is_dialled_at_once_and_the_old_one_is_told_that_the_routes_go(
    children: list[Child], edit: dict[str, Any]
) -> None:
    """Though it would keep them for a restart: nobody comes back to it."""

    async def story(bgp: BGP, _: Told) -> None:
        old = await serving(bgp, children)
        bgp.set_peer("router", replace(PEER, **edit))
        bgp.set_routes("router", ROUTES)
        await until(lambda: len(children) == 2)
        new = await session(children)
        assert not old.stopped
        await said(old, "announce", "65535:0")
        sent(old, X, (LEAVING,))
        await said(new, "announce", str(X))
        sent(new, X)
        await until(lambda: [row.state for row in bgp.rows()] == ["up"])
        await said(old, "withdraw", str(X))
        assert bgp.problems() == []

    play(story)


def test_of_a_peer_that_is_removed_nothing_stays(children: list[Child]) -> None:
    async def story(bgp: BGP, told: Told) -> None:
        with capture_logs() as logs:
            for _ in range(2):
                bgp.set_peer("router", PEER)
                await until(lambda: [row.state for row in bgp.rows()] == ["connecting"])
                children[-1].says("state", state="down", reason="out of luck")
                await until(lambda: any("out of luck" in row.last_error for row in bgp.rows()))
                bgp.set_peer("router", None)
                assert (bgp.rows(), bgp.problems()) == ((), [])
                await until(lambda: children[-1].stopped)
                await asyncio.sleep(0.01)
        said = [log["event"] for log in logs if log["event"] != "bfd-ready"]
        assert said == ["peer-connecting", "peer-connecting", "peer-stopped"] * 2
        assert told.warnings == [("PeerDown", "router")] * 2

    play(story)
