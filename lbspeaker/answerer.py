"""The answerer: the process that speaks ARP and NDP for a speaker. Orders in, frames out, reports back.

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
from collections.abc import Callable, Container
from ipaddress import ip_address
from typing import NamedTuple

from lbspeaker.core.answer import Verdict, decide, decide_ndp
from lbspeaker.core.guard import PROFILES, Guard, Occasion
from lbspeaker.errors import LbspeakerError, Malformed
from lbspeaker.shell.groups import Groups
from lbspeaker.shell.packet import ETH_P_ARP, ETH_P_IPV6, attach, open_link
from lbspeaker.wire import arp, bpf, ndp, orders

AT_ONCE = 64  # frames read from one link before the others get their turn
REPORT_EVERY_S = 1.0
MOST_UNREAD = 1 << 20  # bytes of reports that wait for a speaker that does not read


class Protocol(NamedTuple):
    """One of the two protocols by which a segment learns where an IP is."""

    name: str
    ethertype: int
    hear: Callable[[bytes, Container[bytes], bytes], "Heard"]  # (frame, owned IPs, own MAC), or Malformed
    announcement: Callable[[bytes, bytes, bytes], bytes]  # (template, own MAC, IP)


class Heard(NamedTuple):
    """What a frame means for us. `ip` is the one asked for or claimed; `answer` the frame to send."""

    verdict: Verdict
    ip: bytes
    mac: bytes
    answer: bytes = b""


def _hear_arp(frame: bytes, owned: Container[bytes], mac: bytes) -> Heard:
    packet = arp.parse(frame)
    verdict = decide(*packet, owned, mac)
    if verdict is Verdict.ANSWER:
        return Heard(verdict, packet.target_ip, packet.sender_mac, arp.reply(packet, mac))
    return Heard(verdict, packet.sender_ip, packet.sender_mac)


def _hear_ndp(frame: bytes, owned: Container[bytes], mac: bytes) -> Heard:
    message = ndp.parse(frame)
    verdict = decide_ndp(message.type == ndp.SOLICITATION, message.mac, message.target_ip, owned, mac)
    answer = ndp.reply(message, mac) if verdict is Verdict.ANSWER else b""
    return Heard(verdict, message.target_ip, message.mac, answer)


ARP = Protocol("arp", ETH_P_ARP, _hear_arp, arp.announcement)
NDP = Protocol("ndp", ETH_P_IPV6, _hear_ndp, ndp.announcement)


class Voice:
    """One protocol on one link: its socket, its guard, and the IPs that are answered."""

    def __init__(
        self, port: orders.Port, protocol: Protocol, program: bytes, guard: Guard, template: str
    ) -> None:
        self.port = port
        self.protocol = protocol
        self.socket = open_link(port.name, protocol.ethertype, program)
        self.guard = guard
        self.owned: set[bytes] = set()
        self._mac = bytes.fromhex(port.mac)
        self._template = bytes.fromhex(template)
        self._groups = Groups(port.index)
        self._joined: set[bytes] = set()
        self._claims: dict[bytes, tuple[float, bytes]] = {}  # who else claims an IP, and when it was told
        self._reported = 0

    def own(self, ip: bytes, occasion: Occasion, now: float, again: bool = False) -> None:
        if again or ip not in self.owned:
            self.owned.add(ip)
            self.guard.submit(ip, occasion, now)

    def release(self, ip: bytes) -> None:
        self.owned.discard(ip)
        self._claims.pop(ip, None)
        self.guard.cancel(ip)
        if ip in self._joined:
            self._joined.discard(ip)
            self._groups.leave(ndp.solicited_node(ip))

    def close(self) -> None:
        for ip in list(self.owned):
            self.release(ip)
        self.socket.close()
        self._groups.close()

    def read(self, now: float) -> list[orders.Claimed]:
        """Answer what is asked, and return the claims of others."""
        claims = []
        for _ in range(AT_ONCE):
            try:
                heard = self.protocol.hear(self.socket.recv(2048), self.owned, self._mac)
            except BlockingIOError:
                break
            except Malformed:
                continue
            except OSError:  # down, or gone: the kernel will tell the speaker which, by netlink
                break
            if heard.verdict is Verdict.ANSWER:
                if self.guard.answer(heard.ip, heard.answer, now):
                    self._send(heard.answer)
            elif heard.verdict is Verdict.CONFLICT and self._is_news(heard, now):
                claims.append(orders.Claimed(str(ip_address(heard.ip)), self.port.name, heard.mac.hex(":")))
        return claims

    def _is_news(self, heard: Heard, now: float) -> bool:
        before = self._claims.get(heard.ip)
        if before is not None and now - before[0] < REPORT_EVERY_S and before[1] == heard.mac:
            return False
        self._claims[heard.ip] = (now, heard.mac)
        return True

    def send_due(self, now: float) -> None:
        """Send what the guard lets go. Joining a group makes the kernel send, too: so it waits its turn."""
        for sending in self.guard.due(now):
            if self.protocol is NDP and sending.occasion is not None and sending.ip not in self._joined:
                self._joined.add(sending.ip)
                self._groups.join(ndp.solicited_node(sending.ip))
            self._send(sending.frame or self.protocol.announcement(self._template, self._mac, sending.ip))

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
            self.protocol.name,
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
        self._voices: dict[tuple[str, str], Voice] = {}  # by link and protocol
        self._by_fd: dict[int, Voice] = {}
        self._owned: dict[str, orders.Announce] = {}
        self._guards: dict[tuple[str, str], Guard] = {}
        self._epoll = select.epoll()
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
        for voice in self._voices.values():
            voice.send_due(now)
        if now >= self._report_at:
            self._report_at = now + REPORT_EVERY_S
            for stats in filter(None, [voice.stats() for voice in self._voices.values()]):
                self._report(stats)
        if self._unsent:
            self._send_reports()
        return True

    def _timeout(self) -> float:
        """Seconds until the next frame may leave, at most until the next report."""
        now = time.monotonic()
        wakeups = [w for voice in self._voices.values() if (w := voice.guard.next_wakeup()) is not None]
        return max(min([*wakeups, max(self._report_at, now + 0.001)]) - now, 0.0) if self._voices else 1.0

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
            self._report(orders.Ready())
        elif isinstance(order, orders.Filter):
            self._program = bpf.arp(order.ranges)
            for voice in self._voices.values():
                if voice.protocol is ARP:
                    attach(voice.socket, self._program)
        elif isinstance(order, orders.Ports):
            self._set_ports(order.ports, now)
        elif isinstance(order, orders.Announce):
            self._announce(order, now)
        else:
            self._owned.pop(order.ip, None)
            for voice in self._voices_for(order.ip):
                voice.release(ip_address(order.ip).packed)

    def _voices_for(self, ip: str) -> list[Voice]:
        protocol = ARP if ip_address(ip).version == 4 else NDP
        return [voice for voice in self._voices.values() if voice.protocol is protocol]

    def _set_ports(self, ports: tuple[orders.Port, ...], now: float) -> None:
        wanted = {port.name: port for port in ports}
        for voice in list(self._voices.values()):
            if wanted.get(voice.port.name) != voice.port:
                self._close(voice)
        for port in ports:
            for protocol in (ARP, NDP):
                if (port.name, protocol.name) not in self._voices:
                    self._open(port, protocol, now)

    def _open(self, port: orders.Port, protocol: Protocol, now: float) -> None:
        if self._setup is None:
            raise Malformed("links before the setup")
        program, template = (
            (self._program, self._setup.arp) if protocol is ARP else (bpf.ndp(), self._setup.ndp)
        )
        try:
            voice = Voice(port, protocol, program, self._guard(port.name, protocol, now), template)
        except LbspeakerError as error:
            self._report(orders.Failed(port.name, error.what, error.hint))
            return
        self._voices[port.name, protocol.name] = voice
        self._by_fd[voice.socket.fileno()] = voice
        self._epoll.register(voice.socket, select.EPOLLIN)
        for order in self._owned.values():
            if port.name in order.ports and voice in self._voices_for(order.ip):
                voice.own(ip_address(order.ip).packed, Occasion.TAKEOVER, now)

    def _guard(self, link: str, protocol: Protocol, now: float) -> Guard:
        """The guard of a link outlives its socket: a link that flaps has one budget, not one each time."""
        assert self._setup is not None
        key = (link, protocol.name)
        if key not in self._guards:
            self._guards[key] = Guard(PROFILES[self._setup.profile], now)
        return self._guards[key]

    def _close(self, voice: Voice) -> None:
        del self._voices[voice.port.name, voice.protocol.name], self._by_fd[voice.socket.fileno()]
        self._epoll.unregister(voice.socket)
        voice.close()

    def _announce(self, order: orders.Announce, now: float) -> None:
        self._owned[order.ip] = order
        ip = ip_address(order.ip).packed
        answering = []
        for voice in self._voices_for(order.ip):
            if voice.port.name in order.ports:
                voice.own(ip, Occasion[order.occasion], now, order.again)
                answering.append(voice.port.name)
            else:
                voice.release(ip)
        self._report(orders.Answering(order.ip, tuple(answering)))

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
