"""The answerer: the process that speaks ARP for a speaker. Orders in, frames out, reports back.

It is a process of its own so that nothing the speaker does (decoding ten thousand objects, collecting
garbage) delays an answer; it has one thread, one epoll loop, and no Kubernetes objects. Every frame passes
the guard of its link. When the speaker goes, the socket pair closes and the answerer ends: a dead speaker
answers nothing.

`python -m lbspeaker.answerer FD`, where FD is its end of the socket pair.
"""

import contextlib
import select
import signal
import socket
import sys
import time
from ipaddress import IPv4Address

from lbspeaker.core.answer import Verdict, decide
from lbspeaker.core.guard import PROFILES, Guard, Occasion
from lbspeaker.errors import LbspeakerError, Malformed
from lbspeaker.shell.packet import ETH_P_ARP, attach, open_link
from lbspeaker.wire import arp, bpf, orders

AT_ONCE = 64  # frames read from one link before the others get their turn
REPORT_EVERY_S = 1.0
MOST_UNREAD = 1 << 20  # bytes of reports that wait for a speaker that does not read


class OpenLink:
    """One link with its socket, its guard, and the IPs that are answered on it."""

    def __init__(self, port: orders.Port, program: bytes, setup: orders.Setup, now: float) -> None:
        self.port = port
        self.mac = bytes.fromhex(port.mac)
        self.socket = open_link(port.name, ETH_P_ARP, program)
        self.guard = Guard(PROFILES[setup.profile], now)
        self.owned: set[bytes] = set()
        self.claims: dict[bytes, tuple[float, bytes]] = {}  # who else claims an IP, and when it was told
        self._template = bytes.fromhex(setup.template)
        self._reported = 0

    def read(self, now: float) -> list[orders.Claimed]:
        """Answer what is asked, and return the claims of others."""
        claims = []
        for _ in range(AT_ONCE):
            try:
                packet = arp.parse(self.socket.recv(2048))
            except BlockingIOError:
                break
            except Malformed:
                continue
            except OSError:  # down, or gone: the kernel will tell the speaker which, by netlink
                break
            verdict = decide(*packet, self.owned, self.mac)
            if verdict is Verdict.ANSWER:
                frame = arp.reply(packet, self.mac)
                if self.guard.answer(packet.target_ip, frame, now):
                    self._send(frame)
            elif verdict is Verdict.CONFLICT and self._is_news(packet, now):
                ip = str(IPv4Address(packet.sender_ip))
                claims.append(orders.Claimed(ip, self.port.name, packet.sender_mac.hex(":")))
        return claims

    def _is_news(self, packet: arp.Packet, now: float) -> bool:
        before = self.claims.get(packet.sender_ip)
        if before is not None and now - before[0] < REPORT_EVERY_S and before[1] == packet.sender_mac:
            return False
        self.claims[packet.sender_ip] = (now, packet.sender_mac)
        return True

    def send_due(self, now: float) -> None:
        for sending in self.guard.due(now):
            frame = sending.frame or arp.announcement(self._template, self.mac, sending.ip)
            self._send(frame)

    def _send(self, frame: bytes) -> None:
        # A frame that a full queue or a vanished link does not take is lost, as frames may be: the guard
        # has counted it, and repeats are there for that.
        with contextlib.suppress(OSError):
            self.socket.send(frame)

    def stats(self) -> orders.Stats | None:
        """What the guard did, if that is news."""
        counts = self.guard.counts
        fingerprint = hash((counts.sent.total(), counts.held_back.total(), self.guard.queue_length))
        if fingerprint == self._reported:
            return None
        self._reported = fingerprint
        return orders.Stats(
            self.port.name,
            dict(counts.sent),
            dict(counts.held_back),
            self.guard.queue_length,
            round(counts.longest_wait_s, 3),
        )


class Answerer:
    """All links, driven by the orders that come through `control`."""

    def __init__(self, control: socket.socket) -> None:
        self._control = control
        self._lines = orders.Lines()
        self._setup: orders.Setup | None = None
        self._program = bpf.nothing()
        self._links: dict[str, OpenLink] = {}
        self._owned: dict[str, orders.Announce] = {}
        self._epoll = select.epoll()
        self._by_fd: dict[int, OpenLink] = {}
        self._report_at = 0.0
        self._unsent = bytearray()

    def run(self) -> None:
        """Work until the speaker is gone."""
        self._control.setblocking(False)
        self._epoll.register(self._control, select.EPOLLIN)
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            while self._turn():
                pass

    def _turn(self) -> bool:
        events = self._epoll.poll(self._timeout())
        now = time.monotonic()
        for fd, _ in events:
            if fd == self._control.fileno():
                if not self._read_orders(now):
                    return False
            elif fd in self._by_fd:
                for claim in self._by_fd[fd].read(now):
                    self._report(claim)
        for link in self._links.values():
            link.send_due(now)
        if now >= self._report_at:
            self._report_at = now + REPORT_EVERY_S
            for stats in filter(None, [link.stats() for link in self._links.values()]):
                self._report(stats)
        if self._unsent:
            self._send_reports()
        return True

    def _timeout(self) -> float:
        """Seconds until the next frame may leave, at most until the next report."""
        now = time.monotonic()
        wakeups = [w for link in self._links.values() if (w := link.guard.next_wakeup()) is not None]
        return max(min([*wakeups, max(self._report_at, now + 0.001)]) - now, 0.0) if self._links else 1.0

    # -- orders --

    def _read_orders(self, now: float) -> bool:
        try:
            data = self._control.recv(1 << 16)
        except BlockingIOError:
            return True
        for line in self._lines.feed(data):
            self._obey(orders.order(line), now)
        return bool(data)

    def _obey(self, order: orders.Order, now: float) -> None:
        if isinstance(order, orders.Setup):
            self._setup = order
        elif isinstance(order, orders.Filter):
            self._program = bpf.arp(order.ranges)
            for link in self._links.values():
                attach(link.socket, self._program)
        elif isinstance(order, orders.Ports):
            self._set_ports(order.ports, now)
        elif isinstance(order, orders.Announce):
            self._announce(order, now)
        else:
            self._owned.pop(order.ip, None)
            for link in self._links.values():
                self._release(link, order.ip)

    def _set_ports(self, ports: tuple[orders.Port, ...], now: float) -> None:
        wanted = {port.name: port for port in ports}
        for name, link in list(self._links.items()):
            if wanted.get(name) != link.port:
                self._close(link)
        for name, port in wanted.items():
            if name not in self._links:
                self._open(port, now)

    def _open(self, port: orders.Port, now: float) -> None:
        if self._setup is None:
            raise Malformed("links before the setup")
        try:
            link = OpenLink(port, self._program, self._setup, now)
        except LbspeakerError as error:
            self._report(orders.Failed(port.name, error.what, error.hint))
            return
        self._links[port.name] = link
        self._by_fd[link.socket.fileno()] = link
        self._epoll.register(link.socket, select.EPOLLIN)
        for order in self._owned.values():
            if port.name in order.ports:
                self._own(link, order.ip, Occasion.TAKEOVER, now)

    def _close(self, link: OpenLink) -> None:
        del self._links[link.port.name], self._by_fd[link.socket.fileno()]
        self._epoll.unregister(link.socket)
        link.socket.close()

    def _announce(self, order: orders.Announce, now: float) -> None:
        self._owned[order.ip] = order
        occasion = Occasion[order.occasion]
        for name, link in self._links.items():
            if name in order.ports:
                self._own(link, order.ip, occasion, now)
            else:
                self._release(link, order.ip)
        self._report(orders.Answering(order.ip, tuple(name for name in order.ports if name in self._links)))

    @staticmethod
    def _own(link: OpenLink, ip: str, occasion: Occasion, now: float) -> None:
        packed = IPv4Address(ip).packed
        if packed not in link.owned:
            link.owned.add(packed)
            link.guard.submit(packed, occasion, now)

    @staticmethod
    def _release(link: OpenLink, ip: str) -> None:
        packed = IPv4Address(ip).packed
        link.owned.discard(packed)
        link.claims.pop(packed, None)
        link.guard.cancel(packed)

    def _report(self, report: orders.Report) -> None:
        if len(self._unsent) < MOST_UNREAD:
            self._unsent += orders.build(report)

    def _send_reports(self) -> None:
        """Send what the speaker takes; if it hangs, the reports wait, and the answers do not."""
        with contextlib.suppress(BlockingIOError):
            while self._unsent:
                del self._unsent[: self._control.send(self._unsent)]
        wanted = select.EPOLLIN | (select.EPOLLOUT if self._unsent else 0)
        self._epoll.modify(self._control, wanted)


def main() -> None:
    # Signals are for the speaker; the answerer ends when the speaker lets go of the socket.
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)
    Answerer(socket.socket(fileno=int(sys.argv[1]))).run()


if __name__ == "__main__":
    main()
