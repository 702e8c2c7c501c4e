"""The owner of a service IP is cut off, as by a power cut: how long does a client go without?

A client opens a connection every 10 ms; one that is not established at once does not count. The gap is the
longest time between two good ones. The reference is the longest gap while nothing happens.
"""

import contextlib
import itertools
import select
import socket
import threading
import time
from ipaddress import IPv4Address

from lbspeaker.errors import Unavailable
from lbspeaker.lab import namespaces
from lbspeaker.lab.lab import Lab
from tests.bench import cluster
from tests.bench.manifests import FIRST, service
from tests.bench.results import Reference, Result, result

ROUNDS = 3
_EVERY_S = 0.01
_GOOD_S = 0.2
_BEFORE_S, _AFTER_S = 2.0, 10.0


def failover() -> list[Result]:
    with cluster.lab() as lab:
        client = cluster.client_of(lab)
        began = cluster.create(client, [service("web")])
        cluster.until(lambda: bool(cluster.unsolicited(lab, began)), 30, "the announcement")
        cluster.until(lambda: _serves(lab), 30, "an answer of the Service")
        calm, cut = [], []
        for _ in range(ROUNDS):
            owner = cluster.unsolicited(lab, began)[-1].port
            quiet, gap = _round(lab, owner)
            calm.append(quiet)
            cut.append(gap)
            lab.heal(owner)
            cluster.until(lambda: _settled(lab), 30, "the return of the old owner")
    return [result("failover", "s", cut, Reference("nothing cut", calm))]


def _serves(lab: Lab) -> bool:
    with contextlib.suppress(Unavailable):
        return bool(lab.curl(str(FIRST)))
    return False


def _settled(lab: Lab) -> bool:
    """Whether everybody is a member again, and nothing was announced for a while."""
    seen = len(cluster.unsolicited(lab, 0.0))
    time.sleep(4.0)
    return (
        len(lab.members()) == len(lab.nodes) and len(cluster.unsolicited(lab, 0.0)) == seen and _serves(lab)
    )


def _round(lab: Lab, owner: str) -> tuple[float, float]:
    """Return the longest gap before the owner is cut off, and the longest one after."""
    prober = Prober(lab, FIRST)
    time.sleep(_BEFORE_S)
    cut = time.monotonic()
    lab.cut(owner)
    cluster.until(lambda: prober.good_since(cut + 0.5), _AFTER_S, "the next owner")
    time.sleep(0.5)
    good = prober.stop()
    return _longest([at for at in good if at < cut]), _longest([at for at in good if at > cut - 0.1])


def _longest(times: list[float]) -> float:
    return max((b - a for a, b in itertools.pairwise(times)), default=0.0)


class Prober:
    """Connects from the client to port 80 of `ip` every 10 ms, in a thread inside its namespace."""

    def __init__(self, lab: Lab, ip: IPv4Address) -> None:
        self._good: list[float] = []  # when those connections that were established at once began
        self._target = (str(ip), 80)
        self._stop = threading.Event()
        namespace = lab.topology.namespace("client")
        self._thread = threading.Thread(target=lambda: namespaces.inside(namespace, self._run), daemon=True)
        self._thread.start()

    def _run(self) -> None:
        open_now: dict[int, tuple[float, socket.socket]] = {}
        poller = select.epoll()
        next_at = time.monotonic()
        while not self._stop.is_set():
            now = time.monotonic()
            if now >= next_at:
                next_at = max(next_at + _EVERY_S, now)
                connection = socket.socket()
                connection.setblocking(False)
                with contextlib.suppress(OSError):
                    connection.connect_ex(self._target)
                    poller.register(connection, select.EPOLLOUT)
                open_now[connection.fileno()] = (now, connection)
            for fd, _ in poller.poll(max(next_at - time.monotonic(), 0)):
                began, connection = open_now.pop(fd)
                if not connection.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR):
                    self._good.append(began)
                connection.close()
            for fd, (began, connection) in list(open_now.items()):
                if time.monotonic() - began > _GOOD_S:
                    del open_now[fd]
                    connection.close()
        for _, connection in open_now.values():
            connection.close()
        poller.close()

    def good_since(self, moment: float) -> bool:
        return any(at > moment for at in self._good[-5:])

    def stop(self) -> list[float]:
        """End, and return when each good connection began, in order."""
        self._stop.set()
        self._thread.join()
        return sorted(self._good)
