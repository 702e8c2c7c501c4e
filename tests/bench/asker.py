"""A host that asks the segment who has an IP, frame by frame, at a rate of its own."""

import itertools
import select
import socket
import threading
import time
from collections.abc import Iterable
from ipaddress import IPv4Address
from types import TracebackType
from typing import Self

from lbspeaker.lab import namespaces
from lbspeaker.lab.topology import Host

_ETH_P_ARP = 0x0806
_REQUEST, _REPLY = b"\x08\x06\x00\x01\x08\x00\x06\x04\x00\x01", b"\x00\x02"  # RFC 826
_SOL_PACKET, _PACKET_IGNORE_OUTGOING = 263, 23
_CLIENTS = [((IPv4Address("192.0.2.16") + n).packed, bytes((2, 1, 0, 0, 0, n))) for n in range(150)]


class Asker:
    """A packet socket on eth0 of a namespace, speaking as `host`."""

    def __init__(self, namespace: str, host: Host) -> None:
        self.socket = namespaces.socket_in(namespace, socket.AF_PACKET, socket.SOCK_RAW, 0)
        self.socket.setsockopt(_SOL_PACKET, _PACKET_IGNORE_OUTGOING, 1)
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4 << 20)
        self.socket.bind(("eth0", _ETH_P_ARP))
        self.socket.setblocking(False)
        self._mac, self._ip = host.mac, host.ipv4.packed
        self._clients = itertools.cycle(_CLIENTS)

    def request(self, ip: bytes, sender: bytes = b"", mac: bytes = b"") -> bytes:
        """Return the broadcast request for `ip` (4 bytes), as if `sender` at `mac` asked; 42 bytes."""
        mac = mac or self._mac
        return b"\xff" * 6 + mac + _REQUEST + mac + (sender or self._ip) + bytes(6) + ip

    def ask(self, ip: bytes) -> None:
        """Ask as one client of many: one alone that asks for a lot is a storm, and slows speakers down."""
        self.socket.send(self.request(ip, *next(self._clients)))

    def answered(self, patience_s: float) -> set[bytes]:
        """Return who was told to have a MAC since the last call; wait up to `patience_s` for one."""
        found = set()
        if select.select([self.socket], [], [], patience_s)[0]:
            try:
                while True:
                    frame = self.socket.recv(128)
                    if frame[20:22] == _REPLY:
                        found.add(frame[28:32])
            except BlockingIOError:
                pass
        return found

    def resolve(self, ip: bytes, patience_s: float, request: bytes = b"") -> bool:
        """Ask once; return whether there was an answer within `patience_s`."""
        self.answered(0.0)
        self.socket.send(request or self.request(ip))
        deadline = time.monotonic() + patience_s
        while ip not in self.answered(max(deadline - time.monotonic(), 0.0)):
            if time.monotonic() > deadline:
                return False
        return True

    def close(self) -> None:
        self.socket.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


class Crowd:
    """Asks for many IPs in a thread, until each was answered: for each once per `every_s`, in a burst.

    A burst spreads over `burst_s`; the answers themselves are in the switch's log, with the kernel's time.
    """

    def __init__(
        self, asker: Asker, ips: Iterable[IPv4Address], *, every_s: float, burst_s: float, patience_s: float
    ) -> None:
        self.unanswered = {ip.packed for ip in ips}
        self._asker = asker
        self._every_s = every_s
        self._gap_s = burst_s / len(self.unanswered)
        self._deadline = time.monotonic() + patience_s
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        while self.unanswered and time.monotonic() < self._deadline and not self._stop.is_set():
            again = time.monotonic() + self._every_s
            for ip in sorted(self.unanswered):
                self._asker.ask(ip)
                self.unanswered -= self._asker.answered(0.0)
                if self._gap_s > 0:
                    time.sleep(self._gap_s)
            while self.unanswered and (left := again - time.monotonic()) > 0:
                self.unanswered -= self._asker.answered(min(left, 0.05))

    def wait(self) -> None:
        """Return when all were answered, or patience is over."""
        self._thread.join()

    def stop(self) -> None:
        self._stop.set()
        self._thread.join()
