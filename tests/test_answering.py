"""The answerer as the speaker's child, and what it is asked aside: nothing of that may end the speaker."""

import asyncio
import sys
from pathlib import Path
from typing import Any

import pytest

from lbspeaker.answering import aside, child
from lbspeaker.answering.aside import MOST_KNOWN, MOST_WANTED, UNKNOWN, Vendors
from lbspeaker.answering.child import Answering
from lbspeaker.errors import Unable
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
        assert [event for event, _ in log.lines] == ["answerer-not-started"] * 2
        assert "Resource temporarily unavailable" in log.lines[0][1]["why"]

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
        program = Program(Options("node", directory=tmp_path, runtime_dir=tmp_path), None)
        running = asyncio.create_task(program.run())
        await asyncio.sleep(0.05)
        program.aside(asyncio.sleep(60))
        await asyncio.sleep(0.05)
        program._inbox.put_nowait(Drain())
        await asyncio.wait_for(running, 2.0)

    asyncio.run(story())


def test_scapy_knows_a_vendor() -> None:
    assert "Cisco" in asyncio.run(Vendors().of("00:00:0c:00:00:01"))
