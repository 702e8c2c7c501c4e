"""ExaBGP, with the patience of somebody who waits for a router: run as the child's program.

By itself ExaBGP dials less and less often, up to a minute apart, and nothing of its API can hurry it; and a
router that does not answer at all keeps one attempt waiting for as long as the kernel repeats its SYN, which
is two minutes. Here it dials every `LBSPEAKER_CONNECT_S` seconds, and an attempt is given up after 3 s.

Where an ExaBGP is not built as the one that this was written for (5.0), it runs unchanged, and says so.
"""

import os
import socket
import sys
import time
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


def main() -> None:
    try:
        hurry(float(os.environ.get(CONNECT_S, "2")))
    except (ImportError, AttributeError) as error:
        print(f"this ExaBGP dials at its own pace: {error}", file=sys.stderr)
    from exabgp.application.main import main as run

    run()


if __name__ == "__main__":
    main()
