"""A client that opens a connection to a service IP every 10 ms, and writes down which were established."""

import contextlib
import itertools
import select
import socket
import threading
import time
from collections.abc import Sequence
from ipaddress import IPv4Address
from typing import NamedTuple

from lbspeaker.lab import namespaces
from lbspeaker.lab.lab import Lab

_EVERY_S = 0.01
_AT_ONCE_S = 0.2  # who has to wait longer was not served at once
_LOST_S = 0.9  # a SYN that is lost is sent again after a second


class Seen(NamedTuple):
    """When connections began (monotonic, in order): those established at once, and those that were lost."""

    good: Sequence[float]
    lost: Sequence[float]

    def gap(self, since: float, until: float) -> float:
        """Return the longest time between two good ones."""
        times = [at for at in self.good if since <= at <= until]
        return max((b - a for a, b in itertools.pairwise(times)), default=until - since)

    def failed(self, since: float, until: float) -> int:
        return sum(since <= at <= until for at in self.lost)


class Prober:
    """Connects from the client to port 80 of `ip`, in a thread inside its namespace."""

    def __init__(self, lab: Lab, ip: IPv4Address) -> None:
        self._good: list[float] = []
        self._lost: list[float] = []
        self._target = (str(ip), 80)
        self._stop = threading.Event()
        namespace = lab.topology.namespace("client")
        self._thread = threading.Thread(target=lambda: namespaces.inside(namespace, self._run), daemon=True)
        self._thread.start()

    def _run(self) -> None:
        open_now: dict[int, tuple[float, socket.socket]] = {}
        poller = select.epoll()
        next_at = time.monotonic()
        while not self._stop.is_set() or open_now:
            now = time.monotonic()
            if now >= next_at and not self._stop.is_set():
                next_at = max(next_at + _EVERY_S, now)
                connection = self._connect()
                poller.register(connection, select.EPOLLOUT)
                open_now[connection.fileno()] = (now, connection)
            for fd, _ in poller.poll(min(max(next_at - time.monotonic(), 0.001), _EVERY_S)):
                poller.unregister(fd)  # closing is not enough while a fork of this process has it, too
                self._done(*open_now.pop(fd))
            for fd, (began, connection) in list(open_now.items()):
                if time.monotonic() - began <= _LOST_S:
                    break  # the others are younger
                del open_now[fd]
                poller.unregister(fd)
                self._lost.append(began)
                connection.close()
        poller.close()

    def _connect(self) -> socket.socket:
        connection = socket.socket()
        connection.setblocking(False)
        with contextlib.suppress(OSError):
            connection.connect_ex(self._target)
        return connection

    def _done(self, began: float, connection: socket.socket) -> None:
        if connection.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR):
            self._lost.append(began)
        elif time.monotonic() - began <= _AT_ONCE_S:
            self._good.append(began)
        connection.close()

    def good_since(self, moment: float) -> bool:
        return any(at > moment for at in self._good[-5:])

    def stop(self) -> Seen:
        """End, once it is known what became of each connection."""
        self._stop.set()
        self._thread.join()
        return Seen(sorted(self._good), sorted(self._lost))
