"""The loop of the answerer: all links, driven by the orders that come through one socket."""

import contextlib
import math
import random
import select
import socket
import time
from collections.abc import Collection
from ipaddress import ip_address

from msgspec import structs

from lbspeaker.answerer.link import ARP, NDP, OpenLink
from lbspeaker.core.guard import Guard, Occasion, profile_of
from lbspeaker.errors import LbspeakerError, Malformed
from lbspeaker.wire import orders

REPORT_EVERY_S = 1.0
MOST_UNREAD = 1 << 23  # bytes of reports that wait for a speaker; that ten thousand IPs are answered is one
REOPENED_S = 5.0  # after so long a link that could not be opened is tried again
HUNG_S = 3.0  # a speaker that says nothing for so long hangs
DOUBT_S = HUNG_S / 2  # or may do so: others take it for dead when its Lease ends, and that was renewed before
STOOD_S = 0.5  # who stands still for so long is taken for dead by others (`core.segment`)
KEY_SETTLES_S = 5.0  # until everybody knows a new key, hellos are signed with the one before

_Key = tuple[str, str]  # link, or group of links; and protocol


class Answerer:
    """All links of this machine, and what is to be answered on them."""

    def __init__(self, control: socket.socket) -> None:
        self._control = control
        self._lines = orders.Lines()
        self._setup: orders.Setup | None = None
        self._filter = orders.Filter(())
        self._ports: tuple[orders.Port, ...] = ()
        self._open_at = math.inf  # when those that are missing are tried again
        self._links: dict[str, OpenLink] = {}
        self._by_fd: dict[int, tuple[OpenLink, socket.socket]] = {}
        self._owned: dict[str, orders.Announce] = {}
        self._answered: set[str] = set()  # of these, what was answered on any link
        self._guards: dict[_Key, Guard] = {}
        self._keys: tuple[bytes, ...] = ()
        self._sends_with = b""
        self._newest_at = 0.0  # when the newest key is used
        self._macs: dict[bytes, str] = {}
        self._near: dict[str, list[bytes]] = {}  # by link: the MACs of members that should be heard there
        self._alive_at = 0.0  # when the speaker was last heard
        self._leaving = False
        self._epoll = select.epoll()
        self._report_at, self._stats_at = 0.0, time.monotonic()
        self._reported: dict[_Key, orders.Stats] = {}
        self._unsent = bytearray()
        self._wake_at = 0.0

    def run(self) -> None:
        """Work until the speaker is gone."""
        self._control.setblocking(False)
        self._epoll.register(self._control, select.EPOLLIN)
        self._alive_at = before = time.monotonic()
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            while True:
                timeout = max(self._wake_at - time.monotonic(), 0.0) if self._links else 1.0
                events = self._epoll.poll(timeout)
                now = time.monotonic()
                if now - before > timeout + STOOD_S:
                    self._catch_up(now, now - before - timeout)
                before = now
                if not self._turn(events, now):
                    return

    def _turn(self, events: list[tuple[int, int]], now: float) -> bool:
        more = now >= self._wake_at
        for fd, _ in events:
            if fd == self._control.fileno():
                if not self._read_orders(now):
                    return False
                more = True
            elif fd in self._by_fd:
                link, opened = self._by_fd[fd]
                more |= link.readers[opened](now)
        if now >= self._open_at:
            self._open_missing(now)
            more = True
        if more:
            self._advance(now)
        if now >= self._report_at:
            self._report_at = now + REPORT_EVERY_S
            self._send_reports()
            self._report_stats(now)
        if self._unsent:
            self._send_reports()
        # A speaker that lost reports would be wrong for good; with another answerer it begins anew.
        return len(self._unsent) < MOST_UNREAD

    def _advance(self, now: float) -> None:
        """Let leave what may, and find out when to look again."""
        if self._keys and self._sends_with != self._keys[0] and now >= self._newest_at:
            self._set_keys()
        stale = now - self._alive_at > HUNG_S
        moments = [self._report_at]
        for link in self._links.values():
            link.doubtful = now - self._alive_at > DOUBT_S and bool(self._macs)
            for ip in link.tick(now, stale=stale, leaving=self._leaving):
                self._tell_answering(str(ip_address(ip)))
            moments.append(link.next_wakeup())
        if self._leaving:
            self._fall_silent()
        for (_, protocol), guard in self._guards.items():
            for sending in guard.due(now):
                name, ip = sending.key
                if name in self._links:
                    self._links[name].transmit(protocol, sending, ip, now)
            if (wakeup := guard.next_wakeup()) is not None:
                moments.append(wakeup)
        self._wake_at = min(moments)

    def _catch_up(self, now: float, stood_s: float) -> None:
        """This process stood still: what others claimed meanwhile is theirs, and old questions are old."""
        gone = []
        for link in self._links.values():
            for ip in link.catch_up(now):
                gone.append(str(ip_address(ip)))
                link.release(ARP if len(ip) == 4 else NDP, ip)
        self._report(orders.Woke(round(stood_s, 3), tuple(sorted(set(gone)))))

    # -- orders --

    def _read_orders(self, now: float) -> bool:
        try:
            data = self._control.recv(1 << 16)
        except BlockingIOError:
            return True
        self._alive_at = now
        for line in self._lines.feed(data):
            self._obey(orders.order(line), now)
        return bool(data)

    def _obey(self, order: orders.Order, now: float) -> None:
        match order:
            case orders.Announce():
                self._announce(order, now)
            case orders.Release():
                self._forget(order.ip)
                for link in self._links.values():
                    link.release(*_of(order.ip))
            case orders.Alive():
                self._leaving = order.leaving
                self._report(orders.Turns())
            case orders.Members():
                self._set_members(order)
            case orders.Ports():
                self._set_ports(order.ports, now)
            case orders.Filter():
                self._filter = order
                for link in self._links.values():
                    link.set_filter(order)
            case orders.Keys():
                self._keys = tuple(bytes.fromhex(key) for key in order.keys)
                self._newest_at = now + (KEY_SETTLES_S if self._sends_with in self._keys[1:] else 0.0)
                if self._newest_at <= now:
                    self._set_keys()
                for link in self._links.values():
                    link.keys = self._keys
            case orders.Setup():
                self._setup = order
                self._report(orders.Ready())

    def _fall_silent(self) -> None:
        """Answer as before, and claim nothing any more: the next owners would yield to who is about to go."""
        for link in self._links.values():
            for guard in link.guards.values():
                guard.take(link.name)

    def _set_keys(self) -> None:
        self._sends_with = self._keys[0] if self._keys else b""
        for link in self._links.values():
            link.keys, link.sends_with = self._keys, self._sends_with

    def _set_members(self, order: orders.Members) -> None:
        self._macs = {bytes.fromhex(mac): node for node, macs in order.macs.items() for mac in macs}
        self._near = {
            name: [mac for mac in map(bytes.fromhex, macs) if mac in self._macs]
            for name, macs in order.near.items()
        }
        for link in self._links.values():
            link.macs, link.near = self._macs, self._near.get(link.name, [])
            link.segment.keep(order.alive)

    def _set_ports(self, ports: tuple[orders.Port, ...], now: float) -> None:
        self._ports, wanted = ports, {port.name: port for port in ports}
        rehearsed = {name for name, link in self._links.items() if link.port.policy.dry_run}
        for name, link in list(self._links.items()):
            port = wanted.get(name)
            if port is None or port.identity != link.port.identity:
                self._close(link)
            elif port != link.port:
                link.adopt(port, {protocol: self._guard(port, protocol, now) for protocol in (ARP, NDP)}, now)
        self._open_missing(now, rehearsed)

    def _open_missing(self, now: float, rehearsed: Collection[str] = ()) -> None:
        for port in self._ports:
            if port.name not in self._links:
                self._open(port, now, rehearsed=port.name in rehearsed)
        self._open_at = now + REOPENED_S if len(self._links) < len(self._ports) else math.inf
        ours = frozenset(link.mac for link in self._links.values())
        for link in self._links.values():
            link.ours = ours
            link.segment.twins = [other.segment for other in self._links.values() if other is not link]

    def _open(self, port: orders.Port, now: float, *, rehearsed: bool) -> None:
        """Use a link. `rehearsed`: nobody was answered there so far."""
        if self._setup is None:
            raise Malformed("links before the setup")
        guards = {protocol: self._guard(port, protocol, now) for protocol in (ARP, NDP)}
        try:
            link = OpenLink(port, self._setup, self._filter, guards, self._report, now)
        except LbspeakerError as error:
            self._report(orders.Failed(port.name, error.what, error.hint))
            return
        link.keys, link.sends_with, link.macs = self._keys, self._sends_with, self._macs
        link.near = self._near.get(link.name, [])
        self._links[port.name] = link
        self._report(orders.Opened(port.name))
        for opened in link.readers:
            self._by_fd[opened.fileno()] = (link, opened)
            self._epoll.register(opened, select.EPOLLIN)
        for order in self._owned.values():
            if port.name in order.ports:
                unknown = order.occasion == Occasion.NEW.name and order.ip not in self._answered
                occasion = Occasion.NEW if rehearsed or unknown else Occasion.TAKEOVER
                self._own(link, order, occasion, now)
                self._tell_answering(order.ip)

    def _guard(self, port: orders.Port, protocol: str, now: float) -> Guard:
        """The guard of a link outlives its sockets: a link that flaps has one budget, not one each time."""
        key = (f"group {port.policy.group}" if port.policy.group else port.name, protocol)
        profile = profile_of(port.policy)
        if key not in self._guards:
            self._guards[key] = Guard(profile, now, random.random)
            if port.name in self._links:  # an edit is no way around a budget
                self._guards[key].empty(now)
        self._guards[key].adopt(profile, now)
        return self._guards[key]

    def _close(self, link: OpenLink) -> None:
        del self._links[link.name]
        for opened in link.readers:
            self._by_fd.pop(opened.fileno(), None)
            self._epoll.unregister(opened)
        link.close()

    def _announce(self, order: orders.Announce, now: float) -> None:
        self._owned[order.ip] = order
        for link in self._links.values():
            if link.name in order.ports:
                self._own(link, order, Occasion[order.occasion], now)
            else:
                link.release(*_of(order.ip))
        self._tell_answering(order.ip)

    def _own(self, link: OpenLink, order: orders.Announce, occasion: Occasion, now: float) -> None:
        protocol, ip = _of(order.ip)
        link.voices[protocol].own(ip, occasion, now, above=frozenset(order.above), again=order.again)

    def _tell_answering(self, ip: str) -> None:
        protocol, packed = _of(ip)
        ports = tuple(n for n, link in self._links.items() if packed in link.voices[protocol].owned)
        probing = any(packed in link.voices[protocol].probes for link in self._links.values())
        if not probing:
            self._report(orders.Answering(ip, ports))
        if ports:
            self._answered.add(ip)

    def _forget(self, ip: str) -> None:
        self._owned.pop(ip, None)
        self._answered.discard(ip)

    # -- reports --

    def _report_stats(self, now: float) -> None:
        if self._unsent:  # later ones will say the same, and more
            return
        span_s, self._stats_at = round(now - self._stats_at, 1), now
        for (name, protocol), guard in self._guards.items():
            members = [link for link in self._links.values() if link.guards[protocol] is guard]
            counts = guard.counts
            stats = orders.Stats(
                name,
                protocol,
                dict(counts.sent),
                dict(counts.held_back),
                guard.queue_length,
                round(counts.longest_wait_s, 3),
                round(guard.projected_s, 1),
                counts.unpaced,
                counts.coalesced,
                counts.expired,
                counts.repetitive,
                max((link.segment_per_s for link in members), default=0.0) if protocol == ARP else 0.0,
                sum(link.storm.storms for link in members) if protocol == ARP else 0,
                any(link.port.policy.dry_run for link in members),
            )
            if stats != self._reported.get((name, protocol)):
                self._reported[name, protocol] = stats
                self._report(structs.replace(stats, span_s=span_s))

    def _report(self, report: orders.Report) -> None:
        if isinstance(report, orders.InUse) or (isinstance(report, orders.Claimed) and report.yielded):
            self._forget(report.ip)
        self._unsent += orders.build(report)

    def _send_reports(self) -> None:
        """Send what the speaker takes; if it hangs, the reports wait, and the answers do not."""
        with contextlib.suppress(BlockingIOError):
            while self._unsent:
                del self._unsent[: self._control.send(self._unsent)]
        wanted = select.EPOLLIN | (select.EPOLLOUT if self._unsent else 0)
        self._epoll.modify(self._control, wanted)


def _of(ip: str) -> tuple[str, bytes]:
    """The protocol that announces an IP, and the IP as it stands in frames."""
    address = ip_address(ip)
    return ARP if address.version == 4 else NDP, address.packed
