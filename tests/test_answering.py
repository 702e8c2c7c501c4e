"""The answerer as the speaker's child, and what it is asked aside: nothing of that may end the speaker."""

import asyncio
import contextlib
import socket
import sys
import threading
import time
from dataclasses import replace
from ipaddress import ip_address, ip_interface
from pathlib import Path
from typing import Any

import pytest

from lbspeaker.answerer import program
from lbspeaker.answering import aside, child
from lbspeaker.answering.aside import MOST_KNOWN, MOST_WANTED, UNKNOWN, Vendors
from lbspeaker.answering.child import Answering, Steady
from lbspeaker.answering.layer2 import Layer2
from lbspeaker.core.announce import Duty
from lbspeaker.core.guard import Occasion
from lbspeaker.core.lifecycle import State
from lbspeaker.core.speaker import Announce, Speaker
from lbspeaker.errors import Unable
from lbspeaker.model import Change, Config, ConfigSet, Kind, Lease, Link, LinkPolicy
from lbspeaker.speaker import Drain, Options, Program
from lbspeaker.wire import orders

FRAMES = orders.Frames("", "", "", "")


class Log:
    """What was logged: (event, fields)."""

    def __init__(self) -> None:
        self.lines: list[tuple[str, dict[str, Any]]] = []

    def __getattr__(self, level: str) -> Any:
        return lambda event, **fields: self.lines.append((event, fields))


async def until(is_so: Any, seconds: float = 8.0) -> None:
    async with asyncio.timeout(seconds):
        while not is_so():
            await asyncio.sleep(0.01)


# --- the process ------------------------------------------------------------------------------------------


def test_an_answerer_that_cannot_be_started_is_tried_again(monkeypatch: pytest.MonkeyPatch) -> None:
    refusals = [OSError(11, "Resource temporarily unavailable")] * 2
    start = asyncio.create_subprocess_exec

    async def short_of_processes(*argv: Any, **options: Any) -> Any:
        if refusals:
            raise refusals.pop()
        return await start(*argv, **options)

    async def story() -> None:
        monkeypatch.setattr(child, "templates", templates)
        monkeypatch.setattr("asyncio.create_subprocess_exec", short_of_processes)
        said: list[orders.Report] = []
        answering = Answering("node", said.append)
        answering._log = log = Log()
        running = asyncio.create_task(answering.run())
        try:
            await until(lambda: orders.Ready() in said)
        finally:
            running.cancel()
            await asyncio.wait({running})
        assert [event for event, _ in log.lines] == [
            *["answerer-not-started"] * 2,
            "answerer-unsteady",
        ]
        assert "Resource temporarily unavailable" in log.lines[0][1]["why"]

    asyncio.run(story())


def test_an_answerer_that_ends_again_and_again_is_not_counted_on(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(child, "templates", templates)
    monkeypatch.setattr(child, "STEADY_S", 2.0)

    async def story() -> None:
        said: list[orders.Report | Steady] = []
        answering = Answering("node", said.append)
        answering._log = Log()
        running = asyncio.create_task(answering.run())
        try:
            for ends in range(2):
                await until(lambda ends=ends: said.count(orders.Ready()) == ends + 1)
                assert answering.runs
                assert answering.steady, "once may happen"
                assert answering._child is not None
                answering._child.kill()
                await until(lambda: not answering.runs)
            await until(lambda: Steady(False) in said)
            assert not answering.steady
            await until(lambda: said.count(orders.Ready()) == 3)
            await until(lambda: Steady(True) in said)
            assert answering.steady
        finally:
            running.cancel()
            await asyncio.wait({running})

    asyncio.run(story())


async def templates() -> orders.Frames:
    return FRAMES


class Told:
    """In place of the process: what it was told."""

    def __init__(self) -> None:
        self.orders: list[orders.Order] = []

    def send(self, line: bytes) -> None:
        self.orders.append(orders.order(line))


@pytest.mark.parametrize(("others", "again"), [(True, "TAKEOVER"), (False, "REFRESH")])
def test_an_answerer_that_begins_anew_goes_on_with_what_was_probed(others: bool, again: str) -> None:
    answering = Answering("node", lambda _: None)
    answering.set_members(orders.Members({"other": ("020000000001",)} if others else {}))

    def begin() -> list[tuple[str, str]]:
        answering._child = told = Told()  # type: ignore[assignment]
        answering._tell_all(orders.Setup("node", FRAMES))
        return [(one.ip, one.occasion) for one in told.orders if isinstance(one, orders.Announce)]

    assert begin() == []
    for ip in ("192.0.2.1", "192.0.2.2", "192.0.2.3"):
        answering.announce(orders.Announce(ip, ("eth0",), "NEW"))
    answering.answers("192.0.2.1")
    answering.answers("192.0.2.3")
    assert begin() == begin() == [("192.0.2.1", again), ("192.0.2.2", "NEW"), ("192.0.2.3", again)]
    answering.release("192.0.2.1")
    answering.gone("192.0.2.3")
    for ip in ("192.0.2.1", "192.0.2.3"):
        answering.announce(orders.Announce(ip, ("eth0",), "NEW"))
    assert {occasion for _, occasion in begin()} == {"NEW"}, "they are new again"


def test_an_answerer_whose_reports_nobody_reads_ends_rather_than_lose_one(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(program, "MOST_UNREAD", 10_000)
    ours, theirs = socket.socketpair()
    ours.settimeout(5.0)
    running = threading.Thread(target=program.Answerer(theirs).run)
    running.start()
    with ours, theirs:
        order = orders.build(orders.Announce("192.0.2.1", (), "NEW"))
        for _ in range(100):
            ours.sendall(order * 10)
            time.sleep(0.001)
        assert running.is_alive(), "the kernel has room for these"
        with contextlib.suppress(TimeoutError):
            while running.is_alive():
                ours.sendall(order * 100)
                running.join(0.01)
        running.join(5.0)
        assert not running.is_alive()


# --- what it says, and what follows -----------------------------------------------------------------------


class Users:
    """Whom nobody tells anything."""

    def __getattr__(self, _: str) -> Any:
        return lambda *_, **__: True


ETH0, ETH1 = (
    Link(f"eth{n}", n + 1, bytes((2, 0, 0, 0, 0, n)), addresses=(ip_interface(f"192.0.2{n}.1/24"),))
    for n in range(2)
)


def layer2() -> tuple[Layer2, Speaker]:
    """Layer 2 on node a, with two links; b and c have Leases."""
    decider = Speaker("a")
    found = Layer2("a", "standard", decider, Users(), lambda _: None)
    found._log = found._answering._log = Log()
    for node in "abc":
        decider.observe(Change(Kind.LEASE, node, Lease(node, "1")), 0.0)
    decider._members = frozenset("abc")
    found.set_password("tuesday")
    found.set_links((ETH0, ETH1))
    return found, decider


@pytest.mark.parametrize(
    "links",
    [
        (ETH1,),
        (replace(ETH0, running=False), ETH1),
        (replace(ETH0, mac=b"\x02\0\0\0\0\x09"), ETH1),
        (replace(ETH0, index=9), ETH1),
    ],
    ids=["is gone", "is down", "has another MAC", "is another one"],
)
def test_what_was_seen_is_forgotten_when_the_link(links: tuple[Link, ...]) -> None:
    found, decider = layer2()
    for link in ("eth0", "eth1"):
        found.heard(orders.Seen(link, ("c",), ("b",)), 0.0)
    found.set_links((ETH1, ETH0))
    assert {member.node: member.silent_on for member in found.members()}["b"] == ("eth0", "eth1")
    assert decider.snapshot().silent == {"eth0": {"b"}, "eth1": {"b"}}
    found.set_links(links)
    assert {member.node: member.silent_on for member in found.members()}["b"] == ("eth1",)
    assert decider.snapshot().silent == {"eth1": {"b"}}


def test_what_is_said_of_a_link_that_is_not_used_any_more_counts_for_nothing() -> None:
    found, decider = layer2()
    found.set_links((ETH1,))
    found.heard(orders.Seen("eth0", (), ("b",)), 0.0)
    assert decider.snapshot().silent == {}
    assert [problem for problem in found.problems(0.0, found.ips()) if "b has a Lease" in problem] == []


def test_a_node_without_an_answerer_that_lasts_takes_no_part_and_says_so() -> None:
    found, decider = layer2()
    decider.can_answer = False
    decider.state = State.SERVING
    (problem,) = found.problems(0.0, found.ips())[:1]
    assert problem.startswith("nothing is answered here: there is no answerer")
    found._answering._child = Told()  # type: ignore[assignment]
    found.heard(orders.Ready(), 0.0)
    assert decider.can_answer
    assert not [one for one in found.problems(0.0, found.ips()) if "answerer" in one]
    found._answering.steady = False
    found.heard(Steady(False), 0.0)
    found.heard(orders.Ready(), 0.0)
    assert not decider.can_answer
    assert "the answerer has ended twice within a minute" in found.problems(0.0, found.ips())[0]
    found._answering.steady = True
    found.heard(Steady(True), 0.0)
    assert decider.can_answer


def test_an_ip_that_a_member_has_is_in_no_conflict() -> None:
    found, decider = layer2()
    address = ip_address("192.0.20.9")
    for node in ("b", ""):
        decider.current = replace(decider.current, owned={address: Duty()})
        found.heard(orders.InUse(str(address), "eth0", "02:00:00:00:00:99", node), 0.0)
        assert address not in decider.current.owned
        assert decider.conflict(address) == ("" if node else "02:00:00:00:00:99")


def test_what_is_answered_is_no_beginning_for_the_next_answerer() -> None:
    found, _ = layer2()
    address = ip_address("192.0.20.9")
    found.announce(Announce(address, frozenset(), Occasion.NEW, ("default/web",)))
    assert found._answering._answered == set()
    found.heard(orders.Answering(str(address), ("eth0",)), 0.0)
    assert found._answering._answered == {str(address)}


# --- vendors ----------------------------------------------------------------------------------------------


class LookUps:
    """In place of scapy: what was looked up, and how many at a time at most."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.macs: list[str] = []
        self.now = self.most = 0
        monkeypatch.setattr(aside, "_aside", self._aside)

    async def _aside(self, program: str, mac: str) -> str:
        self.macs.append(mac)
        self.now += 1
        self.most = max(self.most, self.now)
        await asyncio.sleep(0.001)
        self.now -= 1
        if mac.endswith("ff"):
            raise Unable("scapy cannot be used")
        return f"maker of {mac}\n"


def mac(number: int) -> str:
    return (number << 8).to_bytes(6, "big").hex(":")


def test_a_vendor_is_looked_up_once_and_one_after_the_other(monkeypatch: pytest.MonkeyPatch) -> None:
    looked_up = LookUps(monkeypatch)

    async def story() -> list[str]:
        vendors = Vendors()
        asked = [mac(1)] * 50 + [mac(2)] * 50
        found = await asyncio.gather(*map(vendors.of, asked))
        assert await vendors.of(mac(1)) == vendors.known(mac(1)) == f"maker of {mac(1)}"
        return found

    assert asyncio.run(story()) == [f"maker of {mac(1)}"] * 50 + [f"maker of {mac(2)}"] * 50
    assert looked_up.macs == [mac(1), mac(2)]
    assert looked_up.most == 1


def test_a_flood_of_macs_is_not_looked_up_and_not_remembered(monkeypatch: pytest.MonkeyPatch) -> None:
    looked_up = LookUps(monkeypatch)

    async def story() -> None:
        vendors = Vendors()
        found = await asyncio.gather(*(vendors.of(mac(n)) for n in range(100)))
        assert found[MOST_WANTED:] == [UNKNOWN] * (100 - MOST_WANTED)
        assert len(looked_up.macs) == MOST_WANTED
        for number in range(MOST_KNOWN + 1):
            await vendors.of(mac(number))
        assert len(vendors._known) == MOST_KNOWN
        assert vendors.known(mac(0)) == ""
        assert vendors.known(mac(MOST_KNOWN)) == f"maker of {mac(MOST_KNOWN)}"

    asyncio.run(story())


def test_what_cannot_be_looked_up_is_unknown_and_not_tried_again(monkeypatch: pytest.MonkeyPatch) -> None:
    looked_up = LookUps(monkeypatch)
    vendors, lost = Vendors(), "00:00:00:00:00:ff"
    assert [asyncio.run(vendors.of(lost)) for _ in range(2)] == [UNKNOWN] * 2
    assert looked_up.macs == [lost]


def test_a_mac_that_no_vendor_gave_needs_no_look_up(monkeypatch: pytest.MonkeyPatch) -> None:
    looked_up = LookUps(monkeypatch)
    assert asyncio.run(Vendors().of("02:00:00:00:00:01")) == "a locally administered MAC"
    assert looked_up.macs == []


def test_a_process_that_cannot_be_started_costs_a_name_and_nothing_else(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(sys, "executable", "/nowhere")
    assert asyncio.run(Vendors().of(mac(1))) == UNKNOWN


def test_who_does_not_wait_any_more_leaves_no_process_behind(tmp_path: Path) -> None:
    told = tmp_path / "pid"
    sleeper = f"import os, time; open({str(told)!r}, 'w').write(str(os.getpid())); time.sleep(60)"

    async def story() -> None:
        asking = asyncio.create_task(aside._aside(sleeper))
        await until(lambda: told.exists() and told.read_text())
        asking.cancel()
        await asyncio.wait({asking})

    asyncio.run(story())
    assert not Path(f"/proc/{told.read_text()}").exists()


def test_a_speaker_that_ends_does_not_wait_for_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Program, "_background", lambda _: [])

    async def story() -> None:
        speaker = Program(Options("node", directory=tmp_path, runtime_dir=tmp_path), None)
        running = asyncio.create_task(speaker.run())
        await asyncio.sleep(0.05)
        speaker.aside(asyncio.sleep(60))
        await asyncio.sleep(0.05)
        speaker._inbox.put_nowait(Drain())
        await asyncio.wait_for(running, 2.0)

    asyncio.run(story())


def test_scapy_knows_a_vendor() -> None:
    assert "Cisco" in asyncio.run(Vendors().of("00:00:0c:00:00:01"))


def test_the_log_says_once_who_fell_silent_and_not_that_one_who_returns_did() -> None:
    found, _ = layer2()
    for alive, dead in ((("b", "c"), ()), (("c",), ("b",)), (("c",), ()), (("c",), ("b",)), (("b", "c"), ())):
        found.heard(orders.Seen("eth0", alive, dead), 0.0)
    found.heard(orders.Seen("eth0", ("b",), ("c",), left=("c",)), 0.0)
    assert [(event, fields.get("dead", fields["heard"])) for event, fields in found._log.lines] == [
        ("heard", "b,c"),
        ("silent", "b"),
        ("heard", "b,c"),
        ("left", "b"),
    ]


def test_the_log_says_once_that_others_did_not_hear_this_node_and_every_time_is_acted_on() -> None:
    found, decider = layer2()
    for now in (0.0, 0.1, 0.2, 60.0):
        decider._missed = False
        found.heard(orders.Missed("eth0"), now)
        assert decider._missed
    assert [event for event, _ in found._log.lines] == ["missed"] * 2


def test_what_happens_on_the_segment_is_counted() -> None:
    found, decider = layer2()
    found.heard(orders.Seen("eth0", ("b", "c"), ()), 0.0)
    found.heard(orders.Seen("eth1", ("b", "c"), ()), 0.0)
    for link in ("eth0", "eth1"):
        found.heard(orders.Seen(link, ("c",), ("b",), noticed_s=0.512), 1.0)
    found.heard(orders.Seen("eth0", (), ("b", "c"), left=("c",), noticed_s=0.512), 2.0)
    for node in ("b", ""):
        found.heard(orders.Claimed("192.0.20.9", "eth0", "02:00:00:00:00:99", node), 3.0)
        found.heard(orders.InUse("192.0.20.9", "eth0", "02:00:00:00:00:99", node), 4.0)
    decider._placement.turnover["in"] += 2
    assert found.counts == {
        ("deaths", "hello"): 1,
        **{(what, of): 1 for what in ("heard", "in-use") for of in ("member", "stranger")},
        ("moves", "in"): 2,
    }
    assert found.detection_s == {"hello": 0.512}


def test_a_lease_that_ends_is_a_death_and_one_that_is_deleted_is_none() -> None:
    found, decider = layer2()
    for now in (1.0, 2.0, 3.0, 4.0):
        decider.observe(Change(Kind.LEASE, "a", Lease("a", f"{now}")), now)
    decider.observe(Change(Kind.LEASE, "c", None), 4.0)
    found.lost({"b", "c"}, 4.0)
    assert found.counts == {("deaths", "lease"): 1}
    assert found.detection_s == {"lease": 4.0}


def test_an_ip_is_only_rehearsed_where_all_its_links_are() -> None:
    found, decider = layer2()
    one, both = ip_address("192.0.20.9"), ip_address("203.0.113.9")  # the latter is on no link's network
    decider.current = replace(decider.current, owned={one: Duty(), both: Duty()})
    for address in (one, both):
        found.announce(Announce(address, frozenset(), Occasion.NEW, ("default/web",)))

    def roles(*policies: LinkPolicy) -> list[str]:
        config = Config(link_policies=policies)
        decider.observe(Change(Kind.CONFIG, "", ConfigSet(config)), 0.0)
        return [row.role for row in found.ips()]

    quiet = LinkPolicy("quiet", dry_run=True)
    assert roles() == ["probing", "probing"]
    assert roles(replace(quiet, interfaces=frozenset({"eth0"}))) == ["dry-run", "probing"]
    assert roles(quiet) == ["dry-run", "dry-run"]


def test_what_left_unasked_lately_is_told_second_by_second(monkeypatch: pytest.MonkeyPatch) -> None:
    found, _ = layer2()
    now = 1_764_331_200.0
    monkeypatch.setattr("time.time", lambda: now)

    def recent(**sent: int) -> dict[str, int]:
        nonlocal now
        now += 1.0
        found.heard(orders.Stats("eth0", "arp", sent, {}, 0, 0.0), now)
        (guard,) = found.guards()
        assert (guard.budget, guard.segment_budget) == (11, 120), "the profile is standard"
        return guard.recent

    assert recent(new=3) == {"1764331201.0": 3}
    assert recent(new=3, answer=500) == {"1764331201.0": 3}
    assert recent(new=8, probe=3, answer=500) == {"1764331201.0": 3, "1764331203.0": 8}
    assert recent(takeover=2) == {"1764331201.0": 3, "1764331203.0": 8, "1764331204.0": 2}, "a new answerer"
    now += 69
    assert recent(takeover=2) == {"1764331204.0": 2}
    now += 9
    assert recent(takeover=2) == {}
    found.heard(orders.Stats("eth0", "arp", {"takeover": 20}, {}, 0, 0.0, span_s=3.1), now)
    assert [*recent(takeover=20).values()] == [6, 6, 6], "three seconds, in which the speaker was busy"
    found.heard(orders.Stats("eth0", "arp", {"takeover": 22}, {}, 0, 0.0), now)
    found.heard(orders.Stats("eth0", "arp", {"takeover": 23}, {}, 0, 0.0), now)
    assert [*recent(takeover=23).values()][-1] == 3, "two reports in one turn"
