"""One router that is watched: its session, the socket by which packets go to it, and what it did so far."""

import contextlib
import random
import socket
from collections import Counter
from collections.abc import Callable
from ipaddress import ip_address

from lbspeaker.core.bfd import Session
from lbspeaker.errors import Unavailable
from lbspeaker.model import BFDPacket, BFDStatus
from lbspeaker.shell import datagram
from lbspeaker.wire import bfd, watch

SINGLE_HOP, MULTIHOP = 3784, 4784  # UDP ports: RFC 5881 §4, RFC 5883 §5


class Watched:
    """A session with `target`, in which we call ourselves `mine`; `report` hears what becomes of it."""

    def __init__(
        self, target: watch.Target, mine: int, report: Callable[[watch.Report], None], now: float
    ) -> None:
        self.target = target
        self.session = Session(target.profile, mine, random.random, now)
        self.received = 0
        self.sent = 0
        self.dropped: Counter[str] = Counter()
        self.wake_at = now
        self._report = report
        self._socket: socket.socket | None = None
        self._failure = ""

    @property
    def family(self) -> int:
        return ip_address(self.target.address).version

    @property
    def port(self) -> int:
        return MULTIHOP if self.target.multihop else SINGLE_HOP

    def adopt(self, target: watch.Target) -> None:
        """The same router, to be watched otherwise."""
        if target != self.target:
            self.target = target
            self.session.adopt(target.profile)

    def close(self) -> None:
        if self._socket is not None:
            self._socket.close()
            self._socket = None

    def heard(self, arrived: datagram.Datagram, packet: BFDPacket, port: int, at: float) -> None:
        """A packet that names this session, or came from this router `at` this time."""
        if reason := self._why_not(arrived, port):
            self.dropped[reason] += 1
            return
        self.received += 1
        self.session.receive(packet, at)

    def _why_not(self, arrived: datagram.Datagram, port: int) -> str:
        """Why it is not from this router, or from too far away (RFC 5881 §5, RFC 5883 §5.3)."""
        if arrived.sender != self.target.address or port != self.port:
            return "sender"
        if self.target.link and arrived.link != _index(self.target.link):
            return "link"
        lowest = self.target.profile.minimum_ttl if self.target.multihop else datagram.TTL
        return "ttl" if arrived.ttl < lowest else ""

    def advance(self, now: float) -> None:
        """Send and report what is due, and note when to look again."""
        for effect in self.session.advance(now):
            if isinstance(effect, BFDStatus):
                self._report(watch.Changed(self.target.name, effect))
            else:
                self._send(bfd.build(effect))
        self.wake_at = self.session.next_wakeup()

    def counted(self) -> watch.Counted:
        session = self.session
        return watch.Counted(
            self.target.name,
            self.sent,
            self.received,
            session.interval_us / 1000,
            session.detection_us / 1000,
            dict(self.dropped),
        )

    def fail(self, error: Unavailable) -> None:
        """Tell why the session cannot be had, when it is news."""
        if error.what != self._failure:
            self._failure = error.what
            self._report(watch.Failed(self.target.name, error.what, error.hint))

    def _send(self, data: bytes) -> None:
        try:
            if self._socket is None:
                self._socket = self._open()
            with contextlib.suppress(ConnectionRefusedError):  # that was an earlier one; it counts as lost
                self._socket.send(data)
            self.sent += 1
            self._failure = ""
        except Unavailable as error:
            self.fail(error)
        except OSError as error:  # its address or its link is gone: begin anew with the next packet
            self.close()
            what = f"no way to {self.target.address}: {error.strerror}"
            self.fail(Unavailable(what, "check this node's links, addresses and routes"))

    def _open(self) -> socket.socket:
        target = self.target
        return datagram.towards(target.address, self.port, target.source, target.link, random.random)


def _index(link: str) -> int:
    try:
        return socket.if_nametoindex(link)
    except OSError:
        return -1
