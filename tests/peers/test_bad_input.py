"""Routers that are not as they should be: what the status says of them, and that nobody else suffers.

Beside each of them there is a good router, with a session over IPv6 that must not notice anything.
"""

import asyncio
import json
import socket
import struct
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import replace
from ipaddress import ip_address, ip_network
from pathlib import Path

import pytest

from lbspeaker.core import session, supervision
from lbspeaker.core.fit import MESSAGE
from lbspeaker.model import Peer, Reason, Route
from tests.peers import raw
from tests.peers.conftest import (
    NODE_AS,
    NODE_IP,
    ROUTER_AS,
    ROUTER_IP,
    ROUTER_IP6,
    Frr,
    Node,
    Segment,
    run,
    seen,
    soon,
)
from tests.peers.raw import RawRouter, Talk, behaves
from tests.peers.test_frr import play

pytestmark = pytest.mark.peers

BAD = Peer("bad", NODE_AS, ROUTER_AS, ip_address(ROUTER_IP), hold_time_s=9, connect_s=0.2)
GOOD = Peer("good", NODE_AS, ROUTER_AS, ip_address(ROUTER_IP6), hold_time_s=9)
X, V6 = Route(ip_network("192.0.2.1/32")), Route(ip_network("2001:db8::1/128"))


@pytest.fixture
def node(segment: Segment, runtime: Path) -> Callable[..., Node]:
    return lambda peer=BAD: Node(segment, runtime, peer)


@asynccontextmanager
async def beside_a_good_one(segment: Segment, node: Callable[..., Node]) -> AsyncIterator[None]:
    """A good router and its session, which is up all the time, and has its route."""
    async with RawRouter(segment, behaves, ip=ROUTER_IP6) as router, node(GOOD) as good:
        good.desire(V6)
        await good.up()
        await good.settled()
        yield
        assert (good.status.state, good.status.sent, good.status.flaps) == ("up", 1, 0), good.status
        assert (good.status.last_error, len(router.talks)) == (None, 1)


def says(text: str, speaker: Node) -> Callable[[], bool]:
    return lambda: text in (speaker.status.last_error or "")


# --- what comes instead of BGP --------------------------------------------------------------------------

NOT_BGP = f"what {ROUTER_IP} sent is not BGP; is it a router that listens at port 179?"
IN_A_SESSION = {
    "text": (b"HTTP/1.1 400 Bad Request\r\nConnection: close\r\n\r\n", NOT_BGP),
    "another marker": (raw.message(raw.KEEPALIVE, marker=b"\0" * 16), NOT_BGP),
    "shorter than a header": (raw.message(raw.KEEPALIVE, length=18), NOT_BGP),
    "longer than a message": (raw.message(raw.UPDATE, b"x" * 5000), NOT_BGP),
    "as long as can be": (raw.message(raw.UPDATE, b"x" * 70000, length=65535), NOT_BGP),
    "an unknown type": (raw.message(9), NOT_BGP),
    "type 0": (raw.message(0), "ExaBGP did not know what to do with what the router sent"),
    "a keepalive with more": (raw.message(raw.KEEPALIVE, b"abc"), NOT_BGP),
    "an update of one byte": (raw.message(raw.UPDATE, b"\0"), NOT_BGP),
    "a notification of nothing": (raw.message(raw.NOTIFICATION), NOT_BGP),
    "a notification that nobody knows": (raw.message(raw.NOTIFICATION, b"\xc8\xc8"), "code 200 (200/200)"),
    "a notification with a line for us": (
        raw.message(raw.NOTIFICATION, b'\6\2\x20"\xff\n{ "exabgp": "5.0.0", "type": '),
        "administrative shutdown (6/2); somebody has shut this neighbor down on the router",
    ),
    "too many prefixes": (raw.message(raw.NOTIFICATION, b"\6\1"), "(6/1); raise the maximum of prefixes"),
}
# What ExaBGP does not look into: the router's routes are nothing to us.
IGNORED = (
    raw.message(raw.UPDATE, struct.pack("!H", 500) + b"\0" * 10),  # withdrawn routes beyond the end
    raw.message(raw.UPDATE, struct.pack("!HH", 0, 500)),  # attributes beyond the end
    raw.update([X.prefix], raw.attribute(1, b"12345")),  # an ORIGIN of five bytes
    raw.update([X.prefix], b""),  # a route without attributes
    raw.message(raw.UPDATE, struct.pack("!HH", 0, 0) + bytes([33, 1, 2, 3, 4, 5])),  # a prefix of 33 bits
    raw.opening(),
)


def test_what_is_not_bgp_ends_the_session_and_no_more(
    segment: Segment, node: Callable[..., Node], monkeypatch: pytest.MonkeyPatch
) -> None:
    """All of it over one child, which is not replaced: each time the next session has the route again."""
    monkeypatch.setattr(supervision, "STORM_UPS", 1000)

    async def story() -> None:
        go = asyncio.Semaphore(0)

        def script(*words: bytes) -> raw.Script:
            async def bad(talk: Talk) -> None:
                await talk.establish()
                while await talk.hear() != raw.UPDATE:
                    pass
                await go.acquire()
                talk.say(b"".join(words))
                await talk.listen()

            return bad

        scripts = [script(data) for data, _ in IN_A_SESSION.values()]
        async with (
            beside_a_good_one(segment, node),
            RawRouter(segment, *scripts, script(*IGNORED)) as router,
            node() as speaker,
        ):
            speaker.desire(X)
            for number, (name, (_, expected)) in enumerate(IN_A_SESSION.items(), 1):
                assert await soon(lambda n=number: speaker.status.sent == 1 and len(router.talks) == n), name
                go.release()
                assert await soon(lambda n=number: speaker.status.flaps == n), name
                assert expected in (speaker.status.last_error or ""), name
            assert await soon(lambda: speaker.status.sent == 1)
            go.release()
            await asyncio.sleep(0.5)
            assert (speaker.status.state, speaker.status.sent) == ("up", 1)
            assert (speaker.status.flaps, speaker.status.restarts) == (len(IN_A_SESSION), 0)

    play(story())


# --- what comes instead of a session --------------------------------------------------------------------


def tells(*words: bytes) -> raw.Script:
    async def script(talk: Talk) -> None:
        talk.say(b"".join(words))
        await talk.listen()

    return script


async def closes(talk: Talk) -> None:
    await talk.hear()


async def is_silent(talk: Talk) -> None:
    await talk.listen()


NO_BGP = "does the router at {ip} port 179 run BGP and know this neighbor?"
NO_ANSWER = "no answer from {ip} port 179 for 2 s; is the router up, the port open"
NO_ID = raw.message(raw.OPEN, struct.pack("!BHH4sB", 4, ROUTER_AS, 90, b"\0" * 4, 0))
INSTEAD_OF_A_SESSION: dict[str, tuple[raw.Script | None, str]] = {
    "nobody listens": (None, NO_BGP),
    "closes at once": (closes, NO_BGP),
    "says nothing": (is_silent, NO_ANSWER),
    "half an OPEN": (tells(raw.opening()[:40]), NO_ANSWER),
    "text": (tells(b"SSH-2.0-OpenSSH_9.2p1 Debian-2\r\n"), "what {ip} sent is not BGP"),
    "BGP-3": (tells(raw.opening(version=3)), "does the router speak BGP-4?"),
    "a hold time of 1 s": (tells(raw.opening(hold_s=1)), "wants a hold time under 3 s"),
    "no router ID": (tells(NO_ID), "the router at {ip} has an unusable router ID"),
    "another AS": (tells(raw.opening(asn=65003)), "the router at {ip} is not in AS 65002 (peerASN)"),
    "routes first": (tells(raw.update([X.prefix])), "{ip} said something out of turn"),
    "no": (
        tells(raw.message(raw.NOTIFICATION, b"\6\5")),
        "the router at {ip} takes no session from this node",
    ),
}


def test_what_is_no_session_is_told_with_what_to_look_at(
    segment: Segment, node: Callable[..., Node], monkeypatch: pytest.MonkeyPatch
) -> None:
    """All at the same time: routers at addresses of their own, and one where there is no host at all."""
    monkeypatch.setattr(session, "NO_ANSWER_S", 2.0)
    rows = {f"10.99.0.{number}": row for number, row in enumerate(INSTEAD_OF_A_SESSION.items(), 20)}
    for ip in rows:
        run("ip", "-n", segment.router, "addr", "add", f"{ip}/24", "dev", "eth0")

    async def story() -> None:
        async with beside_a_good_one(segment, node), AsyncExitStack() as stack:
            speakers = {}
            for ip, (name, (script, _)) in rows.items():
                if script:
                    await stack.enter_async_context(RawRouter(segment, script, ip=ip))
                peer = replace(BAD, name=name, address=ip_address(ip))
                speakers[ip] = await stack.enter_async_context(node(peer))
            for ip, (name, (_, expected)) in rows.items():
                speaker = speakers[ip]
                assert await soon(says(expected.format(ip=ip), speaker)), (name, speaker.status)
                assert (speaker.status.state, speaker.status.sent) == ("connecting", 0), name

    play(story())


def test_a_router_that_opens_and_closes_in_a_loop_is_held(
    segment: Segment, node: Callable[..., Node]
) -> None:
    async def opens_and_closes(talk: Talk) -> None:
        await talk.establish()

    async def story() -> None:
        async with (
            beside_a_good_one(segment, node),
            RawRouter(segment, opens_and_closes) as router,
            node() as speaker,
        ):
            speaker.desire(X)
            assert await soon(lambda: speaker.status.state == "held"), speaker.status
            assert speaker.peering.pid is None
            assert says("the session came up 6 times in 10 s; held for 30 s; the last end: ", speaker)()
            calls = len(router.talks)
            await asyncio.sleep(0.5)
            assert len(router.talks) == calls, "it is left alone"

    play(story())


# --- what is too much, or too little --------------------------------------------------------------------


def test_a_full_table_costs_no_memory(segment: Segment, node: Callable[..., Node]) -> None:
    """100,000 routes at a hold time of 3 s; then a last word, which tells that all of them were read."""
    routes = [ip_network(((11 << 24) + (n << 8), 24)) for n in range(100_000)]
    updates = [raw.update(routes[n : n + 10]) for n in range(0, len(routes), 10)]

    async def full(talk: Talk) -> None:
        await talk.establish(raw.opening(hold_s=3))
        hearing = asyncio.create_task(talk.listen())
        await begin.wait()
        for n in range(0, len(updates), 100):
            talk.say(b"".join(updates[n : n + 100]))
            await talk.writer.drain()
            await asyncio.sleep(0.04)
        talk.say(raw.message(raw.NOTIFICATION, b"\6\x08"))
        await hearing

    begin = asyncio.Event()

    async def story() -> None:
        async with (
            beside_a_good_one(segment, node),
            RawRouter(segment, full, behaves) as router,
            node() as speaker,
        ):
            speaker.desire(X)
            await speaker.up()
            await speaker.settled()
            before = resident_mib(speaker)
            begin.set()
            assert await soon(says("(6/8)", speaker), 30), speaker.status
            assert resident_mib(speaker) < before + 2
            heard = [kind for kind, _ in router.talks[0].heard]
            assert heard.count(raw.KEEPALIVE) >= 3, "while it reads, it says that it lives"
            await speaker.up()
            assert speaker.status.restarts == 0

    play(story())


def resident_mib(speaker: Node) -> float:
    status = Path(f"/proc/{speaker.peering.pid}/status").read_text()
    return next(int(line.split()[1]) for line in status.splitlines() if line.startswith("VmRSS")) / 1024


def test_a_router_that_does_not_take_a_family(
    segment: Segment, node: Callable[..., Node], runtime: Path
) -> None:
    async def takes_ipv4(talk: Talk) -> None:
        await talk.establish(raw.opening(families=[1]))
        await talk.listen()

    async def story() -> None:
        async with beside_a_good_one(segment, node), RawRouter(segment, takes_ipv4) as router:
            made = Node(segment, runtime, BAD, ip_address("fd99::1"))
            async with made as speaker:
                speaker.desire(X, V6)
                await speaker.up()
                await speaker.settled()
                assert (speaker.status.sent, speaker.status.desired) == (1, 1)
                refusal = speaker.peering.unservable[V6.prefix]
                assert refusal.reason is Reason.FAMILY_NOT_NEGOTIATED
                assert "activate the family ipv6 unicast for this neighbor on the router" in refusal.message
                assert all(b"\x20\x01\x0d\xb8" not in body for _, body in router.talks[0].heard)

    play(story())


def test_five_hundred_routes_with_long_attributes_take_several_messages(
    frr: Frr, node: Callable[..., Node]
) -> None:
    """One message has room for a part of them; and one route has as many communities as fit at all."""
    long = tuple(f"65001:{n}" for n in range(250)) + tuple(f"large:65001:{n}:1" for n in range(100))
    routes = [Route(ip_network((0x0A000000 + n, 32)), None, long) for n in range(500)]
    assert MESSAGE < 250 * 4 + 100 * 12 + 500 * 5
    longest = Route(X.prefix, None, tuple(f"65001:{n}" for n in range(1011)))
    too_long = Route(ip_network("192.0.2.2/32"), None, tuple(f"65001:{n}" for n in range(1012)))

    async def story() -> None:
        frr.start()
        async with node() as speaker:
            speaker.desire(*routes, longest, too_long)
            await speaker.settled(20)
            assert await soon(lambda: "501 routes" in frr.ask("show bgp ipv4 unicast"))
            for route in (routes[0], routes[-1], longest):
                path = json.loads(frr.ask(f"show bgp ipv4 unicast {route.prefix} json"))["paths"]
                assert sorted(seen(path).communities) == sorted(route.communities)
            assert "1012 communities do not fit" in speaker.peering.unservable[too_long.prefix].message
            assert (speaker.status.flaps, speaker.status.restarts) == (0, 0)

    play(story())


# --- time -----------------------------------------------------------------------------------------------


def test_hold_times_of_0_and_3_seconds(segment: Segment, node: Callable[..., Node]) -> None:
    """0 means no keepalives (RFC 4271 §4.4), 3 one a second; and who says nothing for 3 s is gone."""

    def with_hold_time(hold_s: int, *, answers: bool) -> raw.Script:
        async def script(talk: Talk) -> None:
            await talk.establish(raw.opening(hold_s=hold_s))
            while kind := await talk.hear():
                if kind == raw.KEEPALIVE and answers:
                    talk.say(raw.message(raw.KEEPALIVE))

        return script

    ways = {"10.99.0.20": (0, False), "10.99.0.21": (3, True), "10.99.0.22": (3, False)}
    for ip in ways:
        run("ip", "-n", segment.router, "addr", "add", f"{ip}/24", "dev", "eth0")

    async def story() -> None:
        async with beside_a_good_one(segment, node), AsyncExitStack() as stack:
            routers, speakers = [], []
            for ip, (hold_s, answers) in ways.items():
                script = with_hold_time(hold_s, answers=answers)
                routers.append(await stack.enter_async_context(RawRouter(segment, script, ip=ip)))
                peer = replace(BAD, name=ip, address=ip_address(ip), hold_time_s=hold_s)
                speakers.append(await stack.enter_async_context(node(peer)))
            timeless, quick, silent = speakers
            expected = "hold timer expired (4/0); nothing came from 10.99.0.22 for the hold time"
            assert await soon(says(expected, silent)), silent.status
            for speaker in (timeless, quick):
                assert (speaker.status.state, speaker.status.flaps) == ("up", 0)
            counts = [[kind for kind, _ in each.talks[0].heard].count(raw.KEEPALIVE) for each in routers]
            assert counts[0] == 1, "the one that belongs to the opening"
            assert counts[1] >= 3

    play(story())


# --- ourselves ------------------------------------------------------------------------------------------


def test_port_179_of_the_node_is_nothing_to_us(segment: Segment, node: Callable[..., Node]) -> None:
    async def story() -> None:
        async with RawRouter(segment, behaves), node() as speaker:
            with socket.create_server((NODE_IP, 179)):  # the node's namespace has been entered
                speaker.desire(X)
                await speaker.settled()
                await speaker.up()

    play(story())


def test_exabgp_is_missing(
    segment: Segment, node: Callable[..., Node], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "exabgp", None)
    monkeypatch.setenv("PATH", "/nowhere")

    async def story() -> None:
        async with node() as speaker:
            assert await soon(says("ExaBGP is not installed; run: ", speaker), 3), speaker.status
            assert (speaker.status.state, speaker.peering.pid) == ("connecting", None)

    play(story())


def test_another_exabgp_is_named(
    segment: Segment, node: Callable[..., Node], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    information = tmp_path / "exabgp-4.2.22.dist-info"
    information.mkdir()
    (information / "METADATA").write_text("Metadata-Version: 2.1\nName: exabgp\nVersion: 4.2.22\n")
    monkeypatch.syspath_prepend(tmp_path)

    async def story() -> None:
        async with node() as speaker:
            expected = f"ExaBGP 4.2.22 is installed, and 5 is needed; run: {sys.executable} -m pip install"
            assert await soon(says(expected, speaker), 3), speaker.status
            assert (speaker.status.state, speaker.peering.pid) == ("connecting", None)

    play(story())
