"""ExaBGP, with the patience of somebody who waits for a router: run as the child's program.

By itself ExaBGP dials less and less often, up to a minute apart, and nothing of its API can hurry it; and a
router that does not answer at all keeps one attempt waiting for as long as the kernel repeats its SYN, which
is two minutes. Here it dials every `LBSPEAKER_CONNECT_S` seconds, and an attempt is given up after 3 s.

Nor does it say why an attempt failed: it takes a socket with an error for a connection, which then "closes";
and one that it cannot even open, it opens again and again without a word. Here each failed attempt is told as
a session that is down, with this reason: `not connected (ETIMEDOUT): Connection timed out`.

Where an ExaBGP is not built as the one that this was written for (5.0), it runs unchanged, and says so.
"""

import errno
import os
import select
import socket
import sys
import time
from collections.abc import Iterator
from typing import Any

CONNECT_S = "LBSPEAKER_CONNECT_S"  # in the environment: seconds between two attempts
SYN_RETRIES = 1  # the first SYN, one more after 1 s, and 2 s in which to answer it (tcp(7), TCP_SYNCNT)


def hurry(connect_s: float) -> None:
    """Raises ImportError or AttributeError where ExaBGP has none of this."""
    from exabgp.reactor.delay import Delay
    from exabgp.reactor.network import outgoing

    def increase(self: Any) -> None:
        self._time = time.time() + min(self._next, connect_s)
        self._next = connect_s

    def create(*args: Any) -> socket.socket:
        opened: socket.socket = original(*args)
        opened.setsockopt(socket.IPPROTO_TCP, socket.TCP_SYNCNT, SYN_RETRIES)
        return opened

    original = outgoing.create
    if not callable(Delay.increase):
        raise AttributeError("Delay.increase")
    Delay.increase = increase
    outgoing.create = create


def explain() -> None:
    """Raises ImportError or AttributeError where ExaBGP has none of this."""
    from exabgp.reactor.network.error import NetworkError
    from exabgp.reactor.network.outgoing import Outgoing
    from exabgp.reactor.peer import Peer

    def establish(self: Any) -> Iterator[bool]:
        failed = self._connect()
        if failed is not None:
            raise failed
        yield from _until_writable(self.io)
        number = self.io.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
        if number:
            self.close()
            raise NetworkError from OSError(number, os.strerror(number))
        self.success()
        yield True

    def connect(self: Any) -> Iterator[Any]:
        try:
            yield from original(self)
        except NetworkError as error:
            self.reactor.processes.down(self.neighbor, _reason(error))
            raise

    original = Peer._connect
    if not callable(Outgoing.establish) or not callable(Outgoing._connect):
        raise AttributeError("Outgoing.establish")
    Outgoing.establish = establish
    Peer._connect = connect


def _until_writable(opened: socket.socket) -> Iterator[bool]:
    poller = select.poll()
    poller.register(opened, select.POLLOUT)  # an error is told unasked
    while not poller.poll(0):
        yield False


def _reason(error: BaseException) -> str:
    """ExaBGP's errors are caused by one of the system's, which they mostly hide."""
    cause = error.__cause__ or error.__context__
    if isinstance(cause, OSError) and cause.errno:
        return f"not connected ({errno.errorcode.get(cause.errno, '')}): {os.strerror(cause.errno)}"
    return f"not connected (): {error}"


def main() -> None:
    try:
        explain()
        hurry(float(os.environ.get(CONNECT_S, "2")))
    except (ImportError, AttributeError) as error:
        print(f"this ExaBGP dials at its own pace: {error}", file=sys.stderr)
    from exabgp.application.main import main as run

    run()


if __name__ == "__main__":
    main()
