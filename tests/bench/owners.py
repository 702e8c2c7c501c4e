"""Two owners of one IP on one wire: how long until only the better placed one answers?

Two answerers, driven by orders as speakers drive them, so that both own the IP; a client asks all the time.
It counts from the first frame of the one that comes first in the ranking to the last answer of the other.
The reference is the round trip of one question on that wire.
"""

import contextlib
import os
import socket
import struct
import subprocess
import sys
import time
from collections.abc import Iterator
from statistics import median
from typing import NamedTuple, Self

from lbspeaker.errors import Unavailable
from lbspeaker.lab import namespaces
from lbspeaker.lab.topology import CLIENT, LabNode, Topology, topology
from lbspeaker.model import LinkPolicy
from lbspeaker.wire import arp, ndp, orders
from tests.bench import cluster
from tests.bench.asker import Asker
from tests.bench.manifests import FIRST
from tests.bench.results import Goal, Reference, Result, result

ROUNDS = 20
_MOST_MS = 100
_EVERY_S = 0.001  # between two questions
_BEFORE_S, _AFTER_S, _PAUSE_S = 0.1, 0.3, 0.3
_PATIENCE_S = 10.0
_SO_TIMESTAMPNS = 35
_REPLY = b"\x00\x02"
_FRAMES = orders.Frames(
    *(build().hex() for build in (arp.template, arp.probe_template, ndp.template, ndp.probe_template))
)


def two_owners() -> list[Result]:
    with _segment() as lab, contextlib.ExitStack() as stack:
        first, second = (stack.enter_context(Owner(lab, node)) for node in lab.nodes)
        client = stack.enter_context(Client(lab))
        rounds = [_round(client, first, second) for _ in range(ROUNDS)]
    both = [one.both_ms for one in rounds]
    trips = Reference("round trip of a question", [one.trip_ms for one in rounds])
    return [
        result("two-owners", "ms", both, trips),
        result("two-owners/worst", "ms", both, trips, Goal("<=", _MOST_MS), "max"),
    ]


@contextlib.contextmanager
def _segment() -> Iterator[Topology]:
    lab = topology(f"bench{os.getpid()}-owners", 2)
    try:
        namespaces.build(lab)
        yield lab
    finally:
        namespaces.remove(namespaces.existing(lab.prefix))


class Owner:
    """An answerer on a node, and the end of the socket by which it is told what to do."""

    def __init__(self, lab: Topology, node: LabNode) -> None:
        self.node = node
        self._above = tuple(other.name for other in lab.nodes if other.number < node.number)
        self._control, theirs = socket.socketpair()
        namespace = lab.namespace(node.name)
        argv = [sys.executable, "-m", "lbspeaker.answerer", str(theirs.fileno())]
        self._process = subprocess.Popen(namespaces.command(namespace, argv), pass_fds=(theirs.fileno(),))
        theirs.close()
        self._control.setblocking(False)
        self._lines = orders.Lines()
        self._reports: list[orders.Report] = []
        index = namespaces.inside(namespace, lambda: socket.if_nametoindex("eth0"))
        policy = LinkPolicy("", dad="off", refresh_s=0)
        self.tell(
            orders.Setup(node.name, _FRAMES),
            orders.Filter(((int(FIRST), int(FIRST) + 255),)),
            orders.Ports((orders.Port("eth0", index, node.mac.hex(), policy),)),
            orders.Members({other.name: (other.mac.hex(),) for other in lab.nodes if other != node}),
        )

    def tell(self, *what: orders.Order) -> None:
        self._control.sendall(b"".join(map(orders.build, what)))

    def own(self) -> None:
        self.tell(orders.Announce(str(FIRST), ("eth0",), "TAKEOVER", above=self._above))

    def release(self) -> None:
        self.tell(orders.Release(str(FIRST)))

    def live(self) -> None:
        """Say that its speaker lives, and hear what it has to say."""
        self.tell(orders.Alive())
        with contextlib.suppress(BlockingIOError):
            while data := self._control.recv(1 << 16):
                self._reports += map(orders.report, self._lines.feed(data))

    def said(self, kind: type[orders.Report]) -> bool:
        """Whether it has said this since it was last asked for it."""
        self.live()
        found = any(isinstance(report, kind) for report in self._reports)
        self._reports = [report for report in self._reports if not isinstance(report, kind)]
        return found

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._control.close()  # it ends with its speaker
        self._process.wait(_PATIENCE_S)


class Heard(NamedTuple):
    """A frame that came to the client: when (kernel's time), from which MAC, and whether it is an answer."""

    time: float
    mac: bytes
    answers: bool


class Round(NamedTuple):
    both_ms: float  # how long both were heard
    trip_ms: float


class Client:
    """Asks for the IP all the time, and writes down who says what."""

    def __init__(self, lab: Topology) -> None:
        self._asker = Asker(lab.namespace(CLIENT), lab.client)
        self._asker.socket.setsockopt(socket.SOL_SOCKET, _SO_TIMESTAMPNS, 1)

    def listen(self) -> list[Heard]:
        heard = []
        with contextlib.suppress(BlockingIOError):
            while True:
                frame, ancillary, _, _ = self._asker.socket.recvmsg(128, 64)
                seconds, nanoseconds = struct.unpack("qq", ancillary[0][2])
                heard.append(Heard(seconds + nanoseconds / 1e9, frame[6:12], frame[20:22] == _REPLY))
        return heard

    def ask(self, seconds: float) -> tuple[list[float], list[Heard]]:
        """Ask for so long; return when, and what was heard."""
        asked, heard = [], []
        end = time.time() + seconds
        while (now := time.time()) < end:
            asked.append(now)
            self._asker.ask(FIRST.packed)
            time.sleep(_EVERY_S)
            heard += self.listen()
        return asked, heard

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._asker.close()


def _round(client: Client, first: Owner, second: Owner) -> Round:
    """Let the second one own the IP, then the first one, too. Raises Unavailable if both stay owners."""
    second.said(orders.Answering)
    second.own()
    cluster.until(lambda: second.said(orders.Answering), _PATIENCE_S, "the second owner")
    first.live()
    client.listen()
    before, alone = client.ask(_BEFORE_S)
    first.own()
    _, both = client.ask(_AFTER_S)
    first.live()
    time.sleep(_PAUSE_S)
    heard = [*alone, *both, *client.listen()]
    trip = _trip_ms(before, alone)
    began = min((one.time for one in heard if one.mac == first.node.mac), default=0.0)
    last = max((one.time for one in heard if one.mac == second.node.mac and one.answers), default=began)
    if not began or not second.said(orders.Claimed):
        raise Unavailable("the two owners did not hear each other")
    first.release()
    second.release()
    return Round(max(last - began, 0.0) * 1000, trip)


def _trip_ms(asked: list[float], heard: list[Heard]) -> float:
    """Return the median time from a question to the next answer."""
    answers = [one.time for one in heard if one.answers]
    trips = [next((at - ask for at in answers if at >= ask), None) for ask in asked]
    found = [trip * 1000 for trip in trips if trip is not None]
    if not found:
        raise Unavailable("nobody answered")
    return median(found)
