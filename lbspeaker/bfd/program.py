"""The loop: all sessions, driven by the orders that come through one socket.

Each turn reads the clock, then everything that has arrived, and only then believes that a router is silent.
"""

import contextlib
import gc
import math
import random
import select
import socket
import time
from collections.abc import Iterable

from lbspeaker.bfd.watched import Watched
from lbspeaker.core.bfd import arrival, discriminator
from lbspeaker.errors import Malformed, Unavailable
from lbspeaker.shell import datagram, priority
from lbspeaker.wire import bfd, orders, watch

STOOD_S = 0.05  # who is woken so much too late stood still
IDLE_S = 1.0
COUNTED_EVERY_S = 5.0
SETTLED_S = 0.5  # after a change
LISTEN_EVERY_S = 5.0  # between two tries to get a port that is taken
MOST_UNREAD = 1 << 20  # bytes of reports that wait for a speaker that does not read

_Port = tuple[int, int]  # family, number


class Detector:
    """All routers that are watched."""

    def __init__(self, control: socket.socket) -> None:
        self._control = control
        self._lines = orders.Lines()
        self._watched: dict[str, Watched] = {}
        self._leaving: dict[str, Watched] = {}  # shut down, and saying so
        self._by_mine: dict[int, Watched] = {}
        self._by_sender: dict[tuple[str, int], Watched] = {}  # by address, which has a zone, and port
        self._listening: dict[_Port, socket.socket] = {}
        self._listen_at = 0.0
        self._drained_at = 0.0  # nothing that is read later has arrived before
        self._epoll = select.epoll()
        self._unsent = bytearray()
        self._counted_at = 0.0
        self._left = False

    def run(self) -> None:
        """Work until the speaker is gone."""
        how, hint = priority.rise()
        self._report(watch.Ready(how, hint))
        gc.collect()
        gc.freeze()
        gc.disable()
        self._control.setblocking(False)
        self._epoll.register(self._control, select.EPOLLIN | select.EPOLLOUT)
        before = self._drained_at = time.monotonic()
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            while True:
                timeout = min(max(self._next_wakeup() - before, 0.0), IDLE_S)
                events = self._epoll.poll(timeout)
                now = time.monotonic()
                if now - before > timeout + STOOD_S:
                    self._stood(now - before - timeout)
                if not self._turn({fd for fd, _ in events}, now):
                    return
                before = time.monotonic()

    def _turn(self, ready: set[int], now: float) -> bool:
        if self._control.fileno() in ready and not self._read_orders(now):
            return False
        if now >= self._listen_at:
            self._listen(now)
        touched = self._read_all()
        for watched in (*self._watched.values(), *self._leaving.values()):
            if watched in touched or watched.wake_at <= now:
                watched.advance(now)
        for name in [name for name, one in self._leaving.items() if one.session.over <= now]:
            self._leaving.pop(name).close()
        if now >= self._counted_at:
            self._counted_at = now + COUNTED_EVERY_S
            for watched in self._watched.values():
                self._report(watched.counted())
        if self._unsent:
            self._send_reports()
        return True

    def _next_wakeup(self) -> float:
        moments = [one.wake_at for one in (*self._watched.values(), *self._leaving.values())]
        return min(moments, default=math.inf)

    def _stood(self, seconds: float) -> None:
        for watched in self._watched.values():
            watched.session.stood(seconds)
        if self._watched:
            self._report(watch.Stood(round(seconds, 3)))

    # -- packets --

    def _read_all(self) -> set[Watched]:
        """Read everything that has arrived; return whom it is from."""
        touched = set()
        for (_, port), opened in self._listening.items():
            while (arrived := datagram.receive(opened)) is not None:
                at = arrival(arrived.time, time.time(), time.monotonic(), self._drained_at)
                watched = self._take(arrived, port, at)
                if watched is not None:
                    touched.add(watched)
        self._drained_at = time.monotonic()
        return touched

    def _take(self, arrived: datagram.Datagram, port: int, at: float) -> Watched | None:
        known = self._by_sender.get((arrived.sender, port))
        try:
            packet = bfd.parse(arrived.data)
        except Malformed:
            if known is not None:
                known.dropped["malformed"] += 1
            return None
        watched = self._by_mine.get(packet.your) if packet.your else known
        if watched is None:
            if known is not None:  # it is for a session of an earlier process
                known.dropped["session"] += 1
            return None
        watched.heard(arrived, packet, port, at)
        return watched

    def _listen(self, now: float) -> None:
        """Have the sockets that sessions need, and no others."""
        self._listen_at = math.inf
        wanted: dict[_Port, list[Watched]] = {}
        for watched in self._watched.values():
            wanted.setdefault((watched.family, watched.port), []).append(watched)
        for gone in self._listening.keys() - wanted.keys():
            self._epoll.unregister(self._listening[gone])
            self._listening.pop(gone).close()
        for port in wanted.keys() - self._listening.keys():
            try:
                opened = datagram.listen(*port)
            except Unavailable as error:
                self._listen_at = now + LISTEN_EVERY_S
                for watched in wanted[port]:
                    watched.fail(error)
                continue
            self._listening[port] = opened
            self._epoll.register(opened, select.EPOLLIN)

    # -- orders --

    def _read_orders(self, now: float) -> bool:
        try:
            data = self._control.recv(1 << 16)
        except BlockingIOError:
            return True
        for line in self._lines.feed(data):
            match watch.order(line):
                case watch.Watch(targets):
                    self._watch({target.name: target for target in targets}, now)
                case watch.Leave():
                    self._left = True
                    self._shut_down(list(self._watched), now)
        return bool(data)

    def _watch(self, wanted: dict[str, watch.Target], now: float) -> None:
        if self._left:
            return
        self._shut_down(self._watched.keys() - wanted.keys(), now)
        for name, target in wanted.items():
            if name in self._watched:
                self._watched[name].adopt(target)
            else:
                if name in self._leaving:
                    self._leaving.pop(name).close()
                mine = discriminator(random.random, self._by_mine)
                self._by_mine[mine] = Watched(target, mine, self._report, now)
                self._watched[name] = self._by_mine[mine]
        self._by_sender = {(one.target.address, one.port): one for one in self._watched.values()}
        self._listen_at = now

    def _shut_down(self, names: Iterable[str], now: float) -> None:
        for name in names:
            watched = self._leaving[name] = self._watched.pop(name)
            del self._by_mine[watched.session.mine]
            watched.session.drain(now)
            watched.wake_at = now

    # -- reports --

    def _report(self, report: watch.Report) -> None:
        if isinstance(report, watch.Changed):  # with other timers, most likely
            self._counted_at = min(self._counted_at, time.monotonic() + SETTLED_S)
        if len(self._unsent) < MOST_UNREAD:
            self._unsent += watch.build(report)

    def _send_reports(self) -> None:
        """Send what the speaker takes; if it hangs, the reports wait, and the packets do not."""
        with contextlib.suppress(BlockingIOError):
            while self._unsent:
                del self._unsent[: self._control.send(self._unsent)]
        self._epoll.modify(self._control, select.EPOLLIN | (select.EPOLLOUT if self._unsent else 0))
