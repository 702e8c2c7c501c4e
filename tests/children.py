"""A stand-in for the child of a peering, for stories in which no router matters."""

import asyncio
import itertools
import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, ClassVar

import pytest

from lbspeaker import peering
from lbspeaker.model import Network


class Child:
    """What `shell.child.Child` is to a peering: it answers as ExaBGP does, and there is no process."""

    serial = itertools.count(1)
    started: ClassVar[list["Child"]] = []
    start_s = stop_s = 0.0
    fails: Exception | None = None

    def __init__(self, _: Path, on_line: Callable[[bytes], None], on_end: Callable[[str], None]) -> None:
        self.on_line, self.end = on_line, on_end
        self.pid = next(self.serial)
        self.lines: list[str] = []
        self.stopped = False

    @classmethod
    def stand_in(cls, monkeypatch: pytest.MonkeyPatch) -> list["Child"]:
        """Be the child of peerings; return those that will have been started."""
        monkeypatch.setattr(cls, "started", [])
        monkeypatch.setattr(peering, "Child", cls)
        return cls.started

    async def start(self, configuration: str, _: Mapping[str, str]) -> None:
        await asyncio.sleep(self.start_s)
        if self.fails is not None:
            raise self.fails
        self.configuration = configuration
        self.started.append(self)

    def says(self, kind: str, **neighbor: Any) -> None:
        self.on_line(json.dumps({"type": kind, "neighbor": neighbor}).encode())

    def up(self) -> None:
        self.says("negotiated", negotiated={"families": ["ipv4 unicast", "ipv6 unicast"]})
        self.says("state", state="up")

    def send(self, line: str) -> None:
        self.lines.append(line)

    async def stop(self) -> None:
        await asyncio.sleep(self.stop_s)
        self.stopped = True


async def until(is_so: Callable[[], bool], within_s: float = 5.0) -> None:
    async with asyncio.timeout(within_s):
        while not is_so():
            await asyncio.sleep(0.005)


async def session(children: list[Child]) -> Child:
    """Let the session of the last child come up."""
    await until(lambda: bool(children))
    children[-1].up()
    return children[-1]


async def said(child: Child, *words: str) -> None:
    """Wait until it was told a line with all these words."""
    await until(lambda: any(all(word in line for word in words) for line in child.lines))


def sent(child: Child, prefix: Network, communities: tuple[tuple[int, int], ...] = ()) -> None:
    """Let it report that it has announced this."""
    announced = {f"ipv{prefix.version} unicast": {"192.0.2.201": [{"nlri": str(prefix)}]}}
    update = {"announce": announced, "attribute": {"community": communities}}
    child.says("update", direction="send", message={"update": update})
