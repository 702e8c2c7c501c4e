"""Tells when a prefix is in FRR's table: a process of its own, so that nobody's work delays what it sees.

    python -m tests.bench.bgp_watch SOCKET

Each line of standard input is a prefix. The answers are two lines: "waiting", as soon as it was seen not to
be there, and then the time (CLOCK_MONOTONIC, seconds) at which it was there.
"""

import sys
import time
from pathlib import Path

from tests.bench.bgp import ask, connect

EVERY_S = 0.0003


def main(path: str) -> None:
    asking = connect(Path(path))
    for line in sys.stdin:
        command = f"show bgp ipv4 unicast {line.strip()} json"
        waiting = False
        while b'"prefix"' not in ask(asking, command):
            if not waiting:
                print("waiting", flush=True)
                waiting = True
            time.sleep(EVERY_S)
        print(time.monotonic(), flush=True)


if __name__ == "__main__":
    main(sys.argv[1])
