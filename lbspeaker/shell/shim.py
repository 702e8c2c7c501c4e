"""What ExaBGP starts as its API process: it hands its two pipes to the speaker, and then only waits.

So the speaker reads events and writes commands itself: nobody relays, and nothing can stall between them.
It runs with the bare interpreter and knows nothing of this package. For the waiting it becomes `cat`, which
takes a tenth of the memory of an interpreter.
"""

import os
import socket
import sys


def main(path: str) -> None:
    """Send stdin (events) and stdout (commands) over the unix socket at `path`; end when it closes."""
    speaker = socket.socket(socket.AF_UNIX)
    speaker.connect(path)
    socket.send_fds(speaker, [b"%d" % os.getpid()], [0, 1])
    nothing = os.open(os.devnull, os.O_RDWR)
    os.dup2(speaker.fileno(), 0)
    os.dup2(nothing, 1)
    try:
        os.execvp("cat", ["cat"])  # it ends when the socket does  # noqa: S606
    except OSError:
        while speaker.recv(1):
            pass


if __name__ == "__main__":
    main(sys.argv[1])
