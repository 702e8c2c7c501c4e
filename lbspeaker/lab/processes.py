"""The processes of the lab: started apart from whoever starts them, known by id and start time.

A process outlives the command that made the lab, so another command must find it again, and must never take
somebody else's process for it after a crash: the id alone is reused, id and start time are not.
"""

import os
import signal
import socket
from collections.abc import Sequence
from pathlib import Path

import msgspec

from lbspeaker.lab import namespaces

_LINES = 5  # of a log, in an error message


class Listen(msgspec.Struct, frozen=True):
    """A TCP socket that a process is given, listening, as `--fd N`. Without a namespace: where we are."""

    address: str
    port: int
    namespace: str = ""


class Process(msgspec.Struct):
    """A process: how it is started, and, once it was, who it is."""

    name: str
    argv: list[str]
    log: str
    namespace: str = ""
    environment: dict[str, str] = {}
    listens: list[Listen] = []
    pid: int = 0
    started: str = ""

    @property
    def running(self) -> bool:
        return bool(self.pid) and namespaces.running(self.pid) and self._is_it()

    def start(self, listeners: Sequence[socket.socket] = ()) -> None:
        """Start it in a session of its own, its output appended to its log; `listeners` go with it."""
        for listener in listeners:
            os.set_inheritable(listener.fileno(), True)
        argv = [*self.argv, *(f"--fd={listener.fileno()}" for listener in listeners)]
        line = namespaces.command(self.namespace, argv) if self.namespace else argv
        Path(self.log).parent.mkdir(parents=True, exist_ok=True)
        append = os.O_WRONLY | os.O_CREAT | os.O_APPEND
        self.pid = os.posix_spawnp(
            line[0],
            line,
            os.environ | self.environment,
            file_actions=[
                (os.POSIX_SPAWN_OPEN, 0, os.devnull, os.O_RDONLY, 0),
                (os.POSIX_SPAWN_OPEN, 1, self.log, append, 0o644),
                (os.POSIX_SPAWN_DUP2, 1, 2),
            ],
            setsid=True,
        )
        self.started = namespaces.started_at(self.pid)
        for listener in listeners:
            os.set_inheritable(listener.fileno(), False)

    def stop(self, patience_s: float) -> None:
        """End it: politely, if there is patience. What is not running is no error."""
        if self.running:
            namespaces.end([self.pid], patience_s)

    def signal(self, number: signal.Signals) -> None:
        """Send a signal. Raises ProcessLookupError if it is not running."""
        if not self.running:
            raise ProcessLookupError(self.name)
        os.kill(self.pid, number)

    def said(self) -> str:
        """Return the whole log; empty if there is none."""
        try:
            return Path(self.log).read_text(errors="replace")
        except FileNotFoundError:
            return ""

    def last_words(self) -> str:
        """Return the end of the log, on one line, for an error message."""
        lines = [line.strip() for line in self.said().splitlines() if line.strip()]
        return " | ".join(lines[-_LINES:]) or "it said nothing"

    def _is_it(self) -> bool:
        return namespaces.started_at(self.pid) == self.started
