"""Routes arrive in a real FRR, and stay there whatever happens to either side."""

import asyncio
import os
import random
import signal
import subprocess
import sys
from collections.abc import Callable, Coroutine
from contextlib import AsyncExitStack
from dataclasses import replace
from ipaddress import IPv6Address, ip_address, ip_network
from pathlib import Path
from typing import Any

import pytest

from lbspeaker.core import session
from lbspeaker.model import Peer, Route
from tests.peers.conftest import (
    NODE_AS,
    NODE_IP,
    NODE_IP6,
    ROUTER_AS,
    ROUTER_IP,
    ROUTER_IP6,
    Frr,
    Node,
    Seen,
    Segment,
    eventually,
    run,
    soon,
)

pytestmark = pytest.mark.peers

PEER = Peer("router", NODE_AS, ROUTER_AS, ip_address(ROUTER_IP), hold_time_s=9)
X, Y = ip_network("192.0.2.1/32"), ip_network("192.0.2.2/32")
V6 = ip_network("2001:db8::1/128")
PLAIN_X, PLAIN_Y = Route(X), Route(Y)


def table(*routes: Route) -> dict[Any, Seen]:
    """What an eBGP router has when it has got `routes` over IPv4."""
    return {each.prefix: Seen(NODE_IP, None, each.communities) for each in routes}


@pytest.fixture
def node(segment: Segment, runtime: Path) -> Callable[..., Node]:
    def make(peer: Peer = PEER, next_hop_v6: IPv6Address | None = None) -> Node:
        return Node(segment, runtime, peer, next_hop_v6)

    return make


def play(story: Coroutine[Any, Any, None]) -> None:
    asyncio.run(asyncio.wait_for(story, 40))


def test_routes_come_change_and_go(frr: Frr, node: Callable[..., Node]) -> None:
    async def story() -> None:
        frr.start()
        async with node(next_hop_v6=IPv6Address(NODE_IP6)) as speaker:
            rich = Route(X, None, ("65001:1", "65535:65281", "large:4200000001:0:2"))
            speaker.desire(rich, PLAIN_Y, Route(V6, None, ("65001:7",)))
            await speaker.up()
            await speaker.settled()
            expected = {X: Seen(NODE_IP, None, ("65001:1", "noExport", "large:4200000001:0:2"))}
            assert await soon(lambda: frr.table() == expected | table(PLAIN_Y)), frr.table()
            assert await soon(lambda: frr.table(6) == {V6: Seen(NODE_IP6, None, ("65001:7",))}), frr.table(6)

            changed = Route(X, None, ("65001:9",))
            speaker.desire(changed, Route(V6))
            assert await soon(lambda: frr.table() == table(changed)), frr.table()
            assert await soon(lambda: frr.table(6) == {V6: Seen(NODE_IP6)}), frr.table(6)

            speaker.desire()
            assert await soon(lambda: frr.table() == frr.table(6) == {})
            assert speaker.status.flaps == speaker.status.restarts == 0

    play(story())


def test_local_preference_within_one_as(frr: Frr, node: Callable[..., Node]) -> None:
    async def story() -> None:
        frr.start(router_as=NODE_AS)
        async with node(Peer("router", NODE_AS, NODE_AS, ip_address(ROUTER_IP))) as speaker:
            speaker.desire(Route(X, 250), Route(Y))
            expected = {X: Seen(NODE_IP, 250), Y: Seen(NODE_IP, 100)}
            assert await soon(lambda: frr.table() == expected), frr.table()

    play(story())


async def burst(speaker: Node, dice: random.Random, desired: dict[Any, Route]) -> None:
    """A few quick changes, each of a few of 24 routes."""
    for _ in range(dice.randint(2, 6)):
        for number in dice.sample(range(1, 25), dice.randint(0, 8)):
            prefix = ip_network(f"192.0.2.{number}/32")
            desired[prefix] = Route(prefix, None, (f"65001:{dice.randint(1, 3)}",))
            if dice.random() < 0.4:
                del desired[prefix]
        speaker.desire(*desired.values())
        await asyncio.sleep(dice.choice([0, 0, 0.001, 0.01]))


@pytest.mark.parametrize("seed", [1, 2])
def test_bursts_end_right(frr: Frr, node: Callable[..., Node], seed: int) -> None:
    """A B A, A withdraw A, and any other rush: the router ends with the last desire.

    So it does if it was killed, and they went on until it was back.
    """

    async def story() -> None:
        dice = random.Random(seed)
        desired: dict[Any, Route] = {}
        frr.start()
        async with node(replace(PEER, connect_s=1.0)) as speaker:
            await speaker.up()
            for number in range(15):
                if number % 5 == 4:
                    await asyncio.to_thread(frr.stop, signal.SIGKILL)
                    coming = asyncio.create_task(asyncio.to_thread(frr.restart))
                    while not coming.done() or speaker.status.state != "up":
                        await burst(speaker, dice, desired)
                await burst(speaker, dice, desired)
                wanted = table(*desired.values())
                assert await soon(lambda wanted=wanted: frr.table() == wanted), (wanted, frr.table())
            assert (speaker.status.flaps, speaker.status.restarts) == (3, 0)

    play(story())


def test_bursts_end_right_while_the_router_clears_the_session(frr: Frr, node: Callable[..., Node]) -> None:
    async def story() -> None:
        dice = random.Random(3)
        frr.start()
        prefixes = [ip_network(f"192.0.2.{n}/32") for n in range(1, 41)]
        async with node() as speaker:
            for _ in range(2):
                await speaker.up()  # also after the last time: the table alone does not say it
                clearing = asyncio.create_task(asyncio.to_thread(frr.ask, "clear bgp *"))
                for _ in range(25):
                    some = dice.sample(prefixes, dice.randint(0, 40))
                    routes = [Route(p, None, (f"65001:{dice.randint(1, 3)}",)) for p in some]
                    speaker.desire(*routes)
                    await asyncio.sleep(dice.choice([0, 0.001, 0.01]))
                await clearing
                wanted = table(*routes)
                assert await soon(lambda wanted=wanted: frr.table() == wanted), (wanted, frr.table())
            assert speaker.status.flaps == 2
            assert speaker.status.restarts == 0

    play(story())


def test_a_new_peering_takes_over_while_the_old_one_drains(frr: Frr, node: Callable[..., Node]) -> None:
    async def story() -> None:
        frr.start()
        async with node() as old:
            old.desire(PLAIN_X)
            assert await soon(lambda: frr.table() == table(PLAIN_X))
            async with node(replace(PEER, hold_time_s=12)) as new:
                new.desire(PLAIN_Y)
                await old.peering.drain(2.0)
                assert await soon(lambda: frr.table() == table(PLAIN_Y)), (new.status, frr.table())

    play(story())


KILLED = {
    "the child": ("signal SIGKILL",),
    "its helper": ("the helper that held ExaBGP's pipes has died", "exit status 1"),
}


@pytest.mark.parametrize(("who", "says"), KILLED.items(), ids=KILLED)
def test_one_is_killed_and_the_table_comes_back(
    frr: Frr, node: Callable[..., Node], who: str, says: tuple[str, ...]
) -> None:
    """With what is desired by then: the first hundred routes go meanwhile."""

    async def story() -> None:
        frr.start()
        routes = [Route(ip_network((0x0A000000 + n, 32)), None, (f"65001:{n % 3}",)) for n in range(300)]
        async with node() as speaker:
            speaker.desire(*routes)
            assert await soon(lambda: frr.table() == table(*routes))
            before = speaker.peering.pid
            assert before is not None
            (helper,) = Path(f"/proc/{before}/task/{before}/children").read_text().split()
            os.kill(before if who == "the child" else int(helper), signal.SIGKILL)
            speaker.desire(*routes[100:])
            assert await soon(lambda: speaker.status.restarts == 1)
            await speaker.up()
            assert await soon(lambda: frr.table() == table(*routes[100:]), 6)
            assert speaker.peering.pid != before
            assert speaker.status.restarts == speaker.status.flaps == 1
            assert any(words in (speaker.status.last_error or "") for words in says)

    play(story())


def test_a_child_that_hangs_is_replaced(
    frr: Frr, node: Callable[..., Node], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(session, "QUIET_S", 0.3)
    monkeypatch.setattr(session, "SILENT_S", 0.7)

    async def story() -> None:
        frr.start()
        async with node() as speaker:
            speaker.desire(PLAIN_X)
            assert await soon(lambda: frr.table() == table(PLAIN_X))
            hung = speaker.peering.pid
            assert hung is not None
            os.kill(hung, signal.SIGSTOP)
            assert await soon(lambda: speaker.peering.pid not in (hung, None), 10)
            assert await soon(lambda: frr.table() == table(PLAIN_X))
            assert "has not answered" in (speaker.status.last_error or "")

    play(story())


def test_the_router_restarts_and_gets_what_is_desired_by_then(frr: Frr, node: Callable[..., Node]) -> None:
    async def story() -> None:
        frr.start()
        async with node() as speaker:
            speaker.desire(PLAIN_X, Route(Y, None, ("65001:1",)))
            assert await soon(lambda: len(frr.table()) == 2)
            await asyncio.to_thread(frr.stop, signal.SIGKILL)
            assert await soon(lambda: speaker.status.state == "connecting")
            changed = Route(Y, None, ("65001:2",))
            speaker.desire(changed)
            await asyncio.to_thread(frr.restart)
            assert await soon(lambda: frr.table() == table(changed)), frr.table()
            assert speaker.status.restarts == 0

    play(story())


def test_a_password_is_used(frr: Frr, node: Callable[..., Node]) -> None:
    async def story() -> None:
        secret = """it's"quite{secret};"""
        frr.start(f"password {secret}")
        peer = Peer("router", NODE_AS, ROUTER_AS, ip_address(ROUTER_IP), password=secret)
        async with node(peer) as speaker:
            speaker.desire(PLAIN_X)
            assert await soon(lambda: frr.table() == table(PLAIN_X)), speaker.status

    play(story())


def test_a_wrong_password_is_suspected_when_nobody_answers(
    frr: Frr, node: Callable[..., Node], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(session, "NO_ANSWER_S", 2.0)

    async def story() -> None:
        frr.start("password one")
        peer = Peer("router", NODE_AS, ROUTER_AS, ip_address(ROUTER_IP), password="two")
        async with node(peer) as speaker:
            assert await soon(lambda: "are the passwords the same" in (speaker.status.last_error or ""))
            assert speaker.status.state == "connecting"

    play(story())


@pytest.mark.parametrize(
    ("frr_wants", "peer", "says"),
    [
        pytest.param(65009, PEER, "expects another AS than 65001 (myASN)", id="the router expects another"),
        pytest.param(
            NODE_AS,
            Peer("router", NODE_AS, 65009, ip_address(ROUTER_IP)),
            "is not in AS 65009 (peerASN)",
            id="the node expects another",
        ),
    ],
)
def test_a_wrong_as_is_named(
    frr: Frr, node: Callable[..., Node], frr_wants: int, peer: Peer, says: str
) -> None:
    async def story() -> None:
        frr.start(node_as=frr_wants)
        async with node(peer) as speaker:
            assert await soon(lambda: says in (speaker.status.last_error or "")), speaker.status
            assert speaker.status.state == "connecting"
            assert "bad peer AS (2/2)" in (speaker.status.last_error or "")

    play(story())


def test_a_router_that_is_not_there(segment: Segment, node: Callable[..., Node]) -> None:
    async def story() -> None:
        async with node() as speaker:
            says = f"does the router at {ROUTER_IP} port 179 run BGP"
            assert await soon(lambda: says in (speaker.status.last_error or "")), speaker.status

    play(story())


def test_the_last_word_is_how_it_is_now(
    segment: Segment, node: Callable[..., Node], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A router that refuses; whose firewall drops; that refuses again; and is cut off."""
    monkeypatch.setattr(session, "NO_ANSWER_S", 5.0)  # an attempt is given up after 3 s
    nft = ("ip", "netns", "exec", segment.router, "nft")
    drop = "table ip f { chain in { type filter hook input priority 0; tcp dport 179 drop; }; }"
    refused, silent = (
        f"does the router at {ROUTER_IP} port 179 run BGP",
        f"no answer from {ROUTER_IP} port 179",
    )

    async def story() -> None:
        async with node(replace(PEER, connect_s=1.0)) as speaker:
            for says, happens in (
                (refused, ()),
                (silent, (*nft, drop)),
                (refused, (*nft, "delete table ip f")),
                (silent, ("ip", "-n", segment.router, "link", "set", "eth0", "down")),
            ):
                if happens:
                    run(*happens)
                assert await soon(lambda word=says: word in (speaker.status.last_error or ""), 9), says
            words = [report.last_error for report in speaker.reports]
            await asyncio.sleep(5)  # two more attempts, which say nothing new
            assert [report.last_error for report in speaker.reports] == words

    play(story())


def test_a_source_that_is_no_address_of_the_node(frr: Frr, node: Callable[..., Node]) -> None:
    """Before the session, which begins as soon as the node has it; and while it lasts."""
    source = ("10.99.0.9/24", "dev", "eth0")

    async def story() -> None:
        frr.start()
        wanting = replace(PEER, source_address=ip_address("10.99.0.9"))
        async with node(wanting) as speaker:
            says = (
                "sourceAddress 10.99.0.9 is no address of this node, which reaches"
                f" {ROUTER_IP} from {NODE_IP};"
                " remove it, or give each node a BGPPeer of its own (nodeSelectors)"
            )
            assert await soon(lambda: speaker.status.last_error == says), speaker.status
            run("ip", "-n", frr.segment.node, "addr", "add", *source)
            says = f"does the router at {ROUTER_IP} port 179 run BGP and know this neighbor?"
            assert await soon(lambda: says in (speaker.status.last_error or ""))
            run("ip", "-n", frr.segment.node, "addr", "del", *source)
            says = "this node cannot connect: Cannot assign requested address; look at this node's addresses"
            assert await soon(lambda: says in (speaker.status.last_error or "")), speaker.status

    play(story())


def test_no_way_to_the_router(segment: Segment, node: Callable[..., Node]) -> None:
    async def story() -> None:
        peer = Peer("router", NODE_AS, ROUTER_AS, ip_address("198.51.100.1"))
        async with node(peer) as speaker:
            says = "no way to 198.51.100.1: Network is unreachable; check this node's routes"
            assert await soon(lambda: speaker.status.last_error == says), speaker.status

    play(story())


def test_one_peer_s_trouble_stays_its_own(frr: Frr, node: Callable[..., Node]) -> None:
    async def story() -> None:
        frr.start()
        broken = Peer("broken", NODE_AS, 65009, ip_address(ROUTER_IP6))
        async with AsyncExitStack() as stack:
            bad = await stack.enter_async_context(node(broken))
            good = await stack.enter_async_context(node())
            good.desire(PLAIN_X)
            assert await soon(lambda: "peerASN" in (bad.status.last_error or ""))
            assert await soon(lambda: frr.table() == table(PLAIN_X))
            assert (good.status.state, good.status.last_error, good.status.flaps) == ("up", None, 0)

    play(story())


def test_drain_leaves_nothing_and_says_goodbye(frr: Frr, node: Callable[..., Node], runtime: Path) -> None:
    async def story() -> None:
        frr.start()
        async with node() as speaker:
            speaker.desire(PLAIN_X, PLAIN_Y)
            assert await soon(lambda: len(frr.table()) == 2)
            pid = speaker.peering.pid
            await speaker.peering.drain(2.0)
            assert (speaker.status.state, speaker.status.sent) == ("stopped", 0)
            assert not Path(f"/proc/{pid}").exists()
            assert await soon(lambda: frr.table() == {})
            assert "Cease/Administrative Shutdown" in frr.last_reset()
            assert list(runtime.iterdir()) == []
        assert [report.state for report in speaker.reports][-1] == "stopped"

    play(story())


SPEAKER = """
import asyncio, sys
from ipaddress import IPv4Address
from pathlib import Path
from lbspeaker.model import Peer
from lbspeaker.peering import Peering

async def main():
    peer = Peer("router", 65001, 65002, IPv4Address("10.99.0.2"))
    peering = Peering(peer, IPv4Address("10.99.0.1"), {}, Path(sys.argv[1]), lambda status: None)
    task = asyncio.create_task(peering.run())
    while peering.pid is None:
        await asyncio.sleep(0.05)
    print(peering.pid, flush=True)
    await task

asyncio.run(main())
"""


def test_a_speaker_that_is_killed_takes_its_child_with_it(segment: Segment, tmp_path: Path) -> None:
    speaker = subprocess.Popen(
        segment.command(segment.node, sys.executable, "-c", SPEAKER, str(tmp_path)), stdout=subprocess.PIPE
    )
    try:
        assert speaker.stdout is not None
        child = int(speaker.stdout.readline())
        assert Path(f"/proc/{child}").exists()
    finally:
        speaker.kill()
        speaker.wait()
    assert eventually(lambda: not alive(child)), "the child lives on"
    assert eventually(
        lambda: (
            not subprocess.run(
                ["ip", "netns", "pids", segment.node], capture_output=True, check=True
            ).stdout.split()
        )
    ), "its helper lives on"


def alive(pid: int) -> bool:
    try:
        return "Z" not in Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return False
