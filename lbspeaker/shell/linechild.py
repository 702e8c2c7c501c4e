"""A child process that is spoken to in lines, over a socket pair that it gets as its last argument.

It is expected to end when its end of the pair closes, so it cannot outlive its parent.
"""

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator, Sequence

from lbspeaker.errors import Unable

MOST_BYTES = 1 << 22  # of a line: an answerer that gives up ten thousand IPs says so in one
_END_S = 2.0


class LineChild:
    """One child; `start` it, then `send` and read `lines` until it ends, then `stop`."""

    def __init__(self, argv: Sequence[str]) -> None:
        self._argv = argv
        self._process: asyncio.subprocess.Process | None = None
        self._reader: asyncio.StreamReader | None = None
        self._writer: asyncio.StreamWriter | None = None

    @property
    def pid(self) -> int | None:
        return self._process.pid if self._process else None

    async def start(self) -> None:
        """Raises Unable if the program cannot be started."""
        try:
            ours, theirs = socket.socketpair()
        except OSError as error:
            raise self._unable(error) from None
        with theirs:
            try:
                self._process = await asyncio.create_subprocess_exec(
                    *self._argv, str(theirs.fileno()), pass_fds=(theirs.fileno(),)
                )
            except OSError as error:
                ours.close()
                raise self._unable(error) from None
        self._reader, self._writer = await asyncio.open_connection(sock=ours, limit=MOST_BYTES)

    def _unable(self, error: OSError) -> Unable:
        return Unable(f"{self._argv[0]} cannot be started: {error.strerror}")

    def send(self, line: bytes) -> None:
        """Send a line; after the child has ended, nothing happens."""
        if self._writer is not None and not self._writer.is_closing():
            self._writer.write(line)

    async def lines(self) -> AsyncIterator[bytes]:
        """Yield its lines, until it ends."""
        assert self._reader is not None
        with contextlib.suppress(ConnectionError):
            while line := await self._reader.readline():
                yield line.rstrip(b"\n")

    def kill(self) -> None:
        """End it at once; `lines` ends, too."""
        if self._process is not None and self._process.returncode is None:
            self._process.kill()

    async def stop(self) -> int | None:
        """Let go of it, kill it if it does not end by itself, and return its exit code."""
        if self._writer is not None:
            self._writer.close()
        if self._process is None:
            return None
        try:
            return await asyncio.wait_for(self._process.wait(), _END_S)
        except TimeoutError:
            self._process.kill()
            return await self._process.wait()
