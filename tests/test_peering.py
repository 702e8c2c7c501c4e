"""One peering, with a stand-in for its child: when there is another one, and what it is told."""

import asyncio
import socket
from collections.abc import Callable, Coroutine
from dataclasses import replace
from ipaddress import IPv4Address, ip_network
from pathlib import Path
from typing import Any

import pytest

from lbspeaker import peering as module
from lbspeaker.bfd.program import Detector
from lbspeaker.errors import Unavailable
from lbspeaker.model import Address, BFDProfile, Peer, Route, SecretRef
from lbspeaker.peering import Peering, PeerStatus, check_source, local_address_towards
from lbspeaker.shell import datagram
from lbspeaker.wire import orders, watch
from tests.build import ip, selector
from tests.children import Child, said, sent, session, until

PEER = Peer("router", 64513, 64512, ip("192.0.2.1"))
ROUTER_ID = IPv4Address("192.0.2.201")


@pytest.fixture
def children(monkeypatch: pytest.MonkeyPatch) -> list[Child]:
    """The children that were started."""
    monkeypatch.setattr(module, "local_address_towards", lambda _: ROUTER_ID)
    monkeypatch.setattr(module, "check_source", lambda *_: None)
    return Child.stand_in(monkeypatch)


def peering(peer: Peer = PEER, report: Callable[[PeerStatus], None] = lambda _: None) -> Peering:
    return Peering(peer, ROUTER_ID, {4: ROUTER_ID}, Path("/nowhere"), report)


def play(story: Coroutine[Any, Any, None]) -> None:
    asyncio.run(asyncio.wait_for(story, 20))


# --- a node on which something is missing ---------------------------------------------------------------


@pytest.fixture
def without_ipv6(monkeypatch: pytest.MonkeyPatch) -> None:
    """As with the kernel's parameter ipv6.disable=1."""
    create = socket.socket

    def refuse(family: int = -1, *args: Any, **fields: Any) -> socket.socket:
        if family == socket.AF_INET6:
            raise OSError(97, "Address family not supported by protocol")
        return create(family, *args, **fields)

    monkeypatch.setattr(socket, "socket", refuse)


@pytest.mark.usefixtures("without_ipv6")
def test_without_ipv6_a_peer_of_ipv6_is_out_of_reach() -> None:
    with pytest.raises(Unavailable, match="no way to 2001:db8::1: Address family not supported"):
        local_address_towards(ip("2001:db8::1"))
    check_source(ip("2001:db8::2"), ip("2001:db8::1"))
    for wants in (
        lambda: datagram.listen(6, 0),
        lambda: datagram.towards("2001:db8::1", 3784, "", "", lambda: 0.5),
    ):
        with pytest.raises(Unavailable, match="no socket of IPv6: Address family not supported"):
            wants()


@pytest.mark.usefixtures("without_ipv6")
def test_without_ipv6_the_other_sessions_of_bfd_go_on() -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        detector = Detector(theirs)
        quiet = BFDProfile(passive=True)
        targets = [watch.Target(address, quiet) for address in ("2001:db8::1", "127.0.0.9")]
        ours.sendall(watch.build(watch.Watch(tuple(targets))))
        theirs.setblocking(False)
        detector._epoll.register(theirs)
        assert detector._turn({theirs.fileno()}, 0.0)
        told = [watch.report(line) for line in orders.Lines().feed(ours.recv(1 << 16))]
        (failed,) = [one for one in told if isinstance(one, watch.Failed)]
        assert failed.target == "2001:db8::1"
        assert list(detector._listening) == [(4, 3784)]
        for opened in detector._listening.values():
            opened.close()


def test_whatever_keeps_a_child_from_starting_is_that_peer_s_alone(
    children: list[Child], monkeypatch: pytest.MonkeyPatch
) -> None:
    async def story() -> None:
        monkeypatch.setattr(Child, "fails", OSError(24, "Too many open files"))
        one = peering()
        running = asyncio.create_task(one.run())
        await until(lambda: "Too many open files" in (one.status.last_error or ""))
        monkeypatch.setattr(Child, "fails", None)
        await until(lambda: len(children) == 1)
        await one.drain(0.0)
        await running

    play(story())


# --- a node whose addresses change ----------------------------------------------------------------------

X, V6 = ip_network("203.0.113.1/32"), ip_network("2001:db8:1::1/128")


class Dialling:
    """A peering that runs, and the addresses of its node: those that are `own`, the first of them in use."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, *own: str) -> None:
        self.own = list(own)
        monkeypatch.setattr(module, "is_own", lambda address: str(address) in self.own)
        monkeypatch.setattr(module, "local_address_towards", self._towards)

    def _towards(self, address: Address) -> Address:
        if not self.own:
            raise Unavailable(f"no way to {address}")
        return ip(self.own[0])

    async def __aenter__(self) -> "Dialling":
        self.peering = peering()
        self.running = asyncio.create_task(self.peering.run())
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.peering.drain(0.0)
        await self.running

    def move(self, *own: str) -> None:
        self.own = list(own)
        self.peering.moved({ip(one).version: ip(one) for one in reversed(own)})


def test_an_address_that_comes_later_is_a_next_hop_from_then_on(
    children: list[Child], monkeypatch: pytest.MonkeyPatch
) -> None:
    async def story() -> None:
        async with Dialling(monkeypatch, "192.0.2.201") as node:
            child = await session(children)
            node.peering.desire({X: Route(X), V6: Route(V6)})
            await said(child, "announce", "next-hop 192.0.2.201", str(X))
            assert set(node.peering.unservable) == {V6}
            node.move("192.0.2.201", "2001:db8::201")
            await said(child, "announce", "next-hop 2001:db8::201", str(V6))
            assert (children, child.stopped) == ([child], False)

    play(story())


MOVES = {
    "the one that it dials from is gone": (True, ("192.0.2.7",), True),
    "there is a better one, and the session is up": (True, ("192.0.2.7", "192.0.2.201"), False),
    "there is a better one, and no session": (False, ("192.0.2.7", "192.0.2.201"), True),
    "there is none": (False, (), False),
    "they are the same": (False, ("192.0.2.201",), False),
}


@pytest.mark.parametrize(("up", "own", "another"), MOVES.values(), ids=MOVES)
def test_when_a_child_dials_from_the_wrong_address(
    children: list[Child], monkeypatch: pytest.MonkeyPatch, up: bool, own: tuple[str, ...], another: bool
) -> None:
    async def story() -> None:
        async with Dialling(monkeypatch, "192.0.2.201") as node:
            await until(lambda: bool(children))
            if up:
                children[0].up()
                await until(lambda: node.peering.status.state == "up")
            node.move(*own)
            if not another:
                await asyncio.sleep(0.05)
                assert len(children) == 1
                assert not children[0].stopped
                return
            await until(lambda: len(children) == 2)
            assert children[0].stopped
            assert "local-address 192.0.2.7;" in children[1].configuration
            assert "router-id 192.0.2.201;" in children[1].configuration
            assert node.peering.status.last_error is None

    play(story())


def test_a_better_address_does_not_cut_a_farewell_short(
    children: list[Child], monkeypatch: pytest.MonkeyPatch
) -> None:
    async def story() -> None:
        async with Dialling(monkeypatch, "192.0.2.201") as node:
            child = await session(children)
            node.peering.desire({X: Route(X)})
            await said(child, "announce", str(X))
            draining = asyncio.create_task(node.peering.drain(0.5))
            await asyncio.sleep(0.05)
            node.move("192.0.2.7", "192.0.2.201")
            await asyncio.sleep(0.1)
            assert not child.stopped
            await draining

    play(story())


# --- a peer that is edited ------------------------------------------------------------------------------

EDITS = {
    "the nodes that have it": ({"node_selectors": (selector(rack="a"), selector(rack="b"))}, True),
    "another Secret with the same password": ({"password_secret": SecretRef("default", "other")}, True),
    "how far away it may be for BFD": ({"ebgp_multihop": True}, True),
    "BFD": ({"bfd": BFDProfile("fast")}, True),
    "the password": ({"password": "sesame"}, False),
    "the hold time": ({"hold_time_s": 9}, False),
    "how far away it may be": ({"ttl_hops": 1}, False),
    "the router": ({"address": ip("192.0.2.2")}, False),
}


@pytest.mark.parametrize(("edit", "stays"), EDITS.values(), ids=EDITS)
def test_which_edits_a_session_survives(edit: dict[str, Any], stays: bool) -> None:
    one = peering()
    edited = replace(PEER, **edit)
    assert one.adopt(edited) is stays
    assert one.peer == (edited if stays else PEER)


# --- an end ---------------------------------------------------------------------------------------------


def test_a_child_whose_place_is_taken_at_once_says_nothing_more(children: list[Child]) -> None:
    """With graceful restart the router keeps what it was told last: that the routes leave, say."""

    async def story() -> None:
        reports: list[PeerStatus] = []
        one = peering(report=reports.append)
        running = asyncio.create_task(one.run())
        child = await session(children)
        one.desire({X: Route(X)})
        await said(child, "announce", str(X))
        sent(child, X)
        await until(lambda: one.status.sent == 1 and "announce eor ipv6 unicast" in child.lines)
        told = list(child.lines)
        began = asyncio.get_running_loop().time()
        await one.drain(0.0)
        await running
        assert asyncio.get_running_loop().time() - began < 0.5
        assert (child.stopped, child.lines) == (True, told)
        assert reports[-1].state == "stopped"

    play(story())


@pytest.mark.parametrize("timeout_s", [0.0, 10.0])
def test_a_drain_that_begins_while_a_child_starts_ends_with_that(
    children: list[Child], monkeypatch: pytest.MonkeyPatch, timeout_s: float
) -> None:
    async def story() -> None:
        monkeypatch.setattr(Child, "start_s", 0.3)
        one = peering()
        one.desire({X: Route(X)})
        running = asyncio.create_task(one.run())
        await asyncio.sleep(0.05)
        began = asyncio.get_running_loop().time()
        await one.drain(timeout_s)
        await running
        assert 0.1 < asyncio.get_running_loop().time() - began < 1.0
        (child,) = children
        assert (child.stopped, child.lines, one.status.state) == (True, [], "stopped")

    play(story())
