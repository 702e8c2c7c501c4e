"""The process that speaks BFD, as the speaker's child: kept running from the first peer on that wants it."""

import asyncio
import contextlib
import sys
from collections.abc import Callable, Mapping

import structlog

from lbspeaker.errors import LbspeakerError, Malformed
from lbspeaker.shell.linechild import LineChild
from lbspeaker.wire import watch

RESTART_S = (0.1, 5.0)  # first and longest pause before a restart
STEADY_S = 60.0  # who has run for so long begins with the first pause again
LEAVE_S = 0.5  # in which sessions say that they are shut down


class Ended:
    """The process ended, and with it all sessions; another one is on its way."""


Heard = watch.Report | Ended


class Detecting:
    """The routers that are watched, by the name of their peer. `report` hears what becomes of them."""

    def __init__(self, report: Callable[[Heard], None]) -> None:
        self._report = report
        self._targets: dict[str, watch.Target] = {}
        self._child: LineChild | None = None
        self._wanted = asyncio.Event()
        self._left = False
        self._log = structlog.get_logger()

    def watch(self, targets: Mapping[str, watch.Target]) -> None:
        """From now on these, and no others."""
        if self._left or targets == self._targets:
            return
        self._targets = dict(targets)
        if targets:
            self._wanted.set()
        self._tell()

    def peers(self, target: str) -> list[str]:
        """The peers whose router `target` is."""
        return [peer for peer, one in self._targets.items() if one.name == target]

    async def run(self) -> None:
        """Keep the process running while there is somebody to watch, until cancelled."""
        pause = RESTART_S[0]
        while True:
            await self._wanted.wait()
            began = asyncio.get_running_loop().time()
            try:
                await self._live()
            except LbspeakerError as error:
                self._log.error("bfd-not-started", why=error.what, hint=error.hint)
            if asyncio.get_running_loop().time() - began > STEADY_S:
                pause = RESTART_S[0]
            await asyncio.sleep(pause)
            pause = min(pause * 2, RESTART_S[1])

    async def leave(self) -> None:
        """Have all sessions shut down, and told so."""
        self._left = True
        if self._child is not None:
            self._child.send(watch.build(watch.Leave()))
            await asyncio.sleep(LEAVE_S)

    async def _live(self) -> None:
        """One process, from start to end."""
        child = LineChild([sys.executable, "-m", "lbspeaker.bfd"])
        code: int | None = None
        try:
            await child.start()
            self._child = child
            self._tell()
            async for line in child.lines():
                self._hear(line)
        finally:
            self._child = None
            code = await child.stop()
        self._log.error("bfd-ended", code=code, why="routers may take this node for dead until it runs again")
        self._report(Ended())

    def _tell(self) -> None:
        if self._child is not None:
            unique = {target.name: target for target in self._targets.values()}
            self._child.send(watch.build(watch.Watch(tuple(unique.values()))))

    def _hear(self, line: bytes) -> None:
        with contextlib.suppress(Malformed):
            self._report(watch.report(line))
            return
        self._log.error("bfd-garbled", line=line[:120])
