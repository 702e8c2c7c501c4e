"""BFD against FRR's bfdd, 100 ms × 3: how soon a death is noticed, what a session costs, and false alarms.

False alarms are counted while there are twice as many busy processes as cores, of ordinary priority. bfdd has
the highest, as a router has a machine of its own.

`python -m tests.bench.bfd --minutes 10` counts them for as long as promised; the bench for one minute only.
"""

import argparse
import contextlib
import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from typing import NamedTuple

from lbspeaker.errors import Unavailable
from lbspeaker.lab import namespaces
from lbspeaker.model import BFDState
from lbspeaker.wire import watch
from tests.bench.cable import scheduled_s
from tests.bench.results import Goal, Reference, Result, result, table
from tests.lab.detectors import NODE, QUICK, ROUTER, Bfdd, Detecting, cables, frr, installed
from tests.lab.segment import hosts

_TARGET = watch.Target(ROUTER, QUICK)
_ROUNDS = 10
_CPU_S = 20.0
_SETTLED_S = 0.6
_DETECTION_MS = 300
_MOST_MS = 310  # from the cut: the last packet came before it
_MOST_AT_ROUTER_MS = 400  # asking bfdd takes a while
_MOST_CPU = 1.0


class Pair(NamedTuple):
    """Our process on the node, and bfdd on the router; BFD is up."""

    ours: Detecting
    router: Bfdd
    router_namespace: str

    def up(self) -> None:
        self.ours.state(BFDState.UP, 10)
        self.router.wait(NODE, "up", 10)
        time.sleep(_SETTLED_S)


def bfd(minutes: float = 1.0) -> list[Result]:
    if not installed():
        raise Unavailable("FRR is not installed", "apt-get install frr")
    with _pair() as pair:
        noticed = [_cut(pair) for _ in range(_ROUNDS)]
        ours, theirs = _cpu(pair)
        false_ours, false_theirs, late_ms = _under_load(pair, minutes)
    missed = [_death() for _ in range(3)]
    bound = Reference("the detection time", [_DETECTION_MS])
    return [
        result("bfd/cut-noticed", "ms", noticed, bound, Goal("<=", _MOST_MS), "max"),
        result("bfd/death-noticed-by-frr", "ms", missed, bound, Goal("<=", _MOST_AT_ROUTER_MS), "max"),
        result("bfd/cpu", "% of a core", [ours], Reference("bfdd", [theirs]), Goal("<=", _MOST_CPU)),
        result(
            f"bfd/false-downs-{minutes:g}min",
            "downs, ours and bfdd's",
            [false_ours + false_theirs],
            Reference("nothing happens", [0]),
            Goal("<=", 0),
        ),
        result(
            f"bfd/longest-wait-for-a-core-{minutes:g}min",
            "ms in a second",
            [late_ms],
            Reference("between two packets", [QUICK.transmit_ms]),
        ),
    ]


@contextlib.contextmanager
def _pair() -> Iterator[Pair]:
    with hosts("node", "router", "far") as names, cables(*names):
        router = Bfdd(names[1], frr(NODE))
        ours = Detecting(names[0])
        try:
            for pid in router.pids:
                os.setpriority(os.PRIO_PROCESS, pid, -20)
            ours.wait(watch.Ready)
            ours.watch(_TARGET)
            pair = Pair(ours, router, names[1])
            pair.up()
            yield pair
        finally:
            router.end()
            ours.end()


def _cut(pair: Pair) -> float:
    """Cut the cable; return the milliseconds until our process says that the router is lost."""
    drop = [
        "nft",
        "add table inet cut; add chain inet cut out { type filter hook output priority 0; policy drop; }",
    ]
    namespaces.run(pair.router_namespace, drop)
    cut = time.monotonic()
    pair.ours.state(BFDState.DOWN, 2)
    noticed, _ = pair.ours.reports[-1]
    namespaces.run(pair.router_namespace, ["nft", "delete table inet cut"])
    pair.up()
    return (noticed - cut) * 1000


def _death() -> float:
    """Kill our process; return the milliseconds until bfdd shows that it is lost."""
    with _pair() as pair:
        pair.ours.process.kill()
        killed = time.monotonic()
        return (pair.router.wait(NODE, "down", 2) - killed) * 1000


def _cpu(pair: Pair) -> tuple[float, float]:
    """Return what one session costs us and bfdd, in per cent of a core."""
    pids = pair.ours.process.pid, pair.router.pids[-1]
    before = [scheduled_s(pid)[0] for pid in pids]
    time.sleep(_CPU_S)
    ours, theirs = ((scheduled_s(p)[0] - b) / _CPU_S * 100 for p, b in zip(pids, before, strict=True))
    return ours, theirs


def _under_load(pair: Pair, minutes: float) -> tuple[int, int, float]:
    """Return the downs that we and bfdd saw, and the most that our process waited for a core in a second."""
    pair.ours.said(watch.Changed)
    before, downs = len(pair.ours.reports), _downs(pair)
    longest, waited = 0.0, scheduled_s(pair.ours.process.pid)[1]
    with _busy(2 * len(os.sched_getaffinity(0))):
        deadline = time.monotonic() + minutes * 60
        while time.monotonic() < deadline:
            pair.ours.read(1.0)
            now = scheduled_s(pair.ours.process.pid)[1]
            longest, waited = max(longest, now - waited), now
    said = [report for _, report in pair.ours.reports[before:]]
    ours = sum(isinstance(r, watch.Changed) and r.status.state is BFDState.DOWN for r in said)
    return ours, _downs(pair) - downs, longest * 1000


def _downs(pair: Pair) -> int:
    counters = json.loads(pair.router.ask("show bfd peers counters json"))
    return sum(int(one["session-down"]) for one in counters)


@contextlib.contextmanager
def _busy(count: int) -> Iterator[None]:
    hogs = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(count)]
    try:
        yield
    finally:
        for hog in hogs:
            hog.kill()
            hog.wait()


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.bench.bfd", description=__doc__)
    parser.add_argument("--minutes", type=float, default=10.0, help="how long false alarms are counted")
    print(table(bfd(parser.parse_args().minutes)))


if __name__ == "__main__":
    main()
