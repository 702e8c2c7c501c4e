"""The packet process of one node: does what `lbspeaker/answerer` does, with values in place of bytes.

One link, one protocol (ARP). While it is stopped, what comes waits, up to the size of a socket's buffer.
"""

from collections.abc import Callable
from ipaddress import IPv4Address
from typing import TYPE_CHECKING

from lbspeaker.answerer.program import DOUBT_S, HUNG_S, STOOD_S
from lbspeaker.core.answer import Verdict, decide
from lbspeaker.core.guard import Guard, Occasion, profile_of
from lbspeaker.core.segment import Segment, View
from lbspeaker.core.voice import Voice
from lbspeaker.model import Hello
from lbspeaker.wire import orders
from lbspeaker.wire.arp import Packet
from tests.sim.clock import Alarm
from tests.sim.wire import NOBODY, REPLY, REQUEST

if TYPE_CHECKING:
    from tests.sim.world import Host

LINK = "eth0"
WITNESS = b"gateway"
BUFFER = 300  # frames, or hellos
REPORT_EVERY_S = 1.0
_EMPTY = View(frozenset(), frozenset())


class _Link:
    """What there is while the link is there."""

    def __init__(self, host: "Host", port: orders.Port, guard: Guard, now: float) -> None:
        self.port = port
        self.voice = Voice(LINK, guard, port.policy, now, host.random.random)
        boot = host.random.randbytes(8)
        self.segment = Segment(host.name, boot, now, witness=bool(port.gateway and port.address))
        self.view = _EMPTY
        self.gists: dict[str, object] = {}  # what each member last said, but for the number


class Answerer:
    """One start of it; `report` gets what it says to its speaker."""

    def __init__(self, host: "Host", report: Callable[[orders.Report], None]) -> None:
        self.host = host
        self.alive = True
        self.stopped = False
        self.link: _Link | None = None
        self._heap, self._clock, self._wire = host.world.heap, host.clock, host.world.wire
        self._to_speaker = report
        self._owned: dict[str, orders.Announce] = {}
        self._guard: Guard | None = None
        self._keys = False
        self._macs: dict[bytes, str] = {}
        self._alive_at = self._turned_at = self._wake_at = self._clock.now
        self._report_at = self._clock.now + REPORT_EVERY_S
        self._leaving = self._mute = self._doubtful = False
        self._said: Hello | None = None
        self._gist: object = None
        self._orders: list[orders.Order] = []  # these wait, while it is stopped
        self._frames: list[Packet] = []
        self._hellos: list[tuple[Hello, object, bytes]] = []
        self._lost = False
        self._alarm = Alarm(self._heap, self._clock, f"answerer of {host.name}", self._turn)

    @property
    def owned(self) -> dict[bytes, frozenset[str]]:
        """What is answered, be it stopped or not."""
        return self.link.voice.owned if self.link is not None and self.alive else {}

    # -- in --

    def order(self, order: orders.Order) -> None:
        if not self.alive:
            return
        if self.stopped:
            self._orders.append(order)
            return
        self._alive_at = self._clock.now
        self._obey(order, self._clock.now)
        self._turn()

    def frame(self, packet: Packet) -> None:
        if not self.alive or self.link is None:
            return
        if self.stopped:
            self._lost |= len(self._frames) >= BUFFER
            if not self._lost:
                self._frames.append(packet)
            return
        self._hear(packet, self._clock.now)
        self._turn()

    def hello(self, said: Hello, gist: object, mac: bytes) -> None:
        if not self.alive or self.link is None or not self._keys:
            return
        if self.stopped:
            if len(self._hellos) < BUFFER:
                self._hellos.append((said, gist, mac))
            return
        link = self.link
        link.segment.heard(said, mac, self._clock.now)
        if link.segment.take_missed():
            self._report(orders.Missed(LINK))
        # Who lives and says the same as before changes nothing.
        if link.gists.get(said.node) is not gist or said.node not in link.view.alive:
            link.gists[said.node] = gist
            self._turn()

    def stop(self) -> None:
        self.stopped = True

    def wake(self) -> None:
        self.stopped = False
        now = self._clock.now
        if now > max(self._turned_at, self._wake_at) + STOOD_S:
            self._catch_up(now)
        for packet in self._frames:
            self._hear(packet, now)
        for said, gist, mac in self._hellos:
            self.hello(said, gist, mac)
        waiting, self._orders, self._frames, self._hellos = self._orders, [], [], []
        self._lost = False
        if waiting:
            self._alive_at = now
        for order in waiting:
            self._obey(order, now)
        self._turn()

    def skip(self, seconds: float) -> None:
        """For so long hellos were taken for granted: for the segment this time has not passed."""
        if self.link is None:
            return
        segment = self.link.segment
        for member in segment._members.values():
            member.last += seconds
            member.returns += seconds
        segment._due_at += seconds
        segment._told_at += seconds
        segment._asked_at += seconds
        segment._witnessed_at += seconds
        self._heap.after(0.0, self._turn)

    def end(self) -> None:
        self.alive = False

    def _catch_up(self, now: float) -> None:
        """See `Answerer._catch_up` and `OpenLink.catch_up`."""
        gone: list[bytes] = []
        if self.link is not None:
            self._mute = self._doubtful = True
            for packet in self._frames:
                self._hear(packet, now)
            for said, _, mac in self._hellos:
                self.link.segment.heard(said, mac, now)
            if self.link.segment.take_missed():
                self._report(orders.Missed(LINK))
            self._mute = self._doubtful = False
            gone = list(self.link.voice.owned) if self._lost else []
            for ip in gone:
                self.link.voice.release(ip)
        self._frames, self._hellos = [], []
        self._report(orders.Woke(round(now - self._turned_at, 3), tuple(sorted(map(_text, gone)))))

    # -- orders --

    def _obey(self, order: orders.Order, now: float) -> None:
        match order:
            case orders.Announce():
                self._owned[order.ip] = order
                if self.link is not None:
                    if LINK in order.ports:
                        self._own(order, Occasion[order.occasion], now)
                    else:
                        self.link.voice.release(_packed(order.ip))
                self._tell_answering(order.ip)
            case orders.Release():
                self._owned.pop(order.ip, None)
                if self.link is not None:
                    answered = _packed(order.ip) in self.link.voice.owned
                    self.link.voice.release(_packed(order.ip))
                    if answered:
                        self.host.world.watch.released(self.host, IPv4Address(order.ip))
            case orders.Alive():
                if order.leaving and not self._leaving and self._guard is not None:
                    self._guard.take(LINK)
                self._leaving = order.leaving
            case orders.Members():
                self._macs = {bytes.fromhex(mac): node for node, macs in order.macs.items() for mac in macs}
                if self.link is not None:
                    self.link.segment.keep(order.alive)
            case orders.Keys():
                self._keys = bool(order.keys)
            case orders.Ports():
                self._set_ports(order.ports, now)
            case orders.Setup():
                self._report(orders.Ready())

    def _set_ports(self, ports: tuple[orders.Port, ...], now: float) -> None:
        if not ports:
            if self.link is not None:
                for ip in [*self.link.voice.owned, *self.link.voice.probes]:
                    self.link.voice.release(ip)
            self.link = None
        elif self.link is None:
            (port,) = ports
            if self._guard is None:
                self._guard = Guard(profile_of(port.policy), now, self.host.random.random)
            self.link = _Link(self.host, port, self._guard, now)
            for order in self._owned.values():
                if LINK in order.ports:
                    self._own(order, Occasion.TAKEOVER, now)

    def _own(self, order: orders.Announce, occasion: Occasion, now: float) -> None:
        assert self.link is not None
        voice, ip = self.link.voice, _packed(order.ip)
        voice.own(ip, occasion, now, above=frozenset(order.above), again=order.again)

    def _tell_answering(self, ip: str) -> None:
        voice = self.link.voice if self.link is not None else None
        if voice is None or _packed(ip) not in voice.probes:
            answers = voice is not None and _packed(ip) in voice.owned
            self._report(orders.Answering(ip, (LINK,) if answers else ()))

    # -- frames --

    def _hear(self, said: Packet, now: float) -> None:
        link, mac = self.link, self.host.mac
        if link is None:
            return
        verdict = decide(
            said.operation, said.sender_mac, said.sender_ip, said.target_ip, link.voice.owned, mac
        )
        if verdict is Verdict.ANSWER:
            if not self._mute:
                answer = Packet(REPLY, mac, said.target_ip, said.sender_ip)
                frame = said.sender_mac + said.target_ip
                if link.voice.guard.answer((LINK, said.target_ip), frame, now):
                    self._wire.unicast(self.host.name, said.sender_mac, answer)
            return
        if verdict is Verdict.BAD_SENDER:
            return
        voice, ip = link.voice, said.sender_ip
        node = link.segment.node_of(said.sender_mac) or self._macs.get(said.sender_mac, "")
        if node and ip in (said.target_ip, NOBODY):
            voice.guard.heard(1, now)
        if verdict is Verdict.CONFLICT:
            claim = voice.claimed(ip, said.sender_mac, node, now, doubtful=self._doubtful)
            if claim is not None:
                what = (_text(ip), LINK, said.sender_mac.hex(":"), node, claim.yielded)
                self._report(orders.Claimed(*what))
        elif ip in voice.probes:
            self._in_use(ip, said.sender_mac, node)
        elif said.operation == REQUEST and ip != said.target_ip:
            probes = ip == NOBODY and said.target_ip in voice.probes
            if probes and not node and said.sender_mac < mac:
                self._in_use(said.target_ip, said.sender_mac, node)
            elif ip != NOBODY:
                voice.asked(said.target_ip, now)

    def _in_use(self, ip: bytes, mac: bytes, node: str) -> None:
        assert self.link is not None
        if self.link.voice.in_use(ip):
            self._report(orders.InUse(_text(ip), LINK, mac.hex(":"), node))

    def _witnessed(self) -> None:
        if self.alive and not self.stopped and self.link is not None:
            self.link.segment.witnessed(self._clock.now)
            self._turn()

    # -- time --

    def _turn(self) -> None:
        if not self.alive or self.stopped:
            return
        now, link = self._clock.now, self.link
        self._turned_at = now
        if now >= self._report_at:
            self._report_at = now + REPORT_EVERY_S
        stale = now - self._alive_at > HUNG_S
        moments = [self._report_at]
        if link is not None:
            self._doubtful = now - self._alive_at > DOUBT_S and bool(self._macs)
            if self._keys and not self.host.world.still:
                self._converse(link, now, stale)
                moments.append(link.segment.next_wakeup())
            for ip in link.voice.advance(now):
                self._tell_answering(_text(ip))
            guard = link.voice.guard
            for sending in guard.due(now):
                self._transmit(link, sending.key[1], sending.occasion, sending.frame, now)
            moments.append(link.voice.next_wakeup())
            if (wakeup := guard.next_wakeup()) is not None:
                moments.append(wakeup)
        self._wake_at = min(moments)
        self._alarm.set(self._wake_at)

    def _converse(self, link: _Link, now: float, stale: bool) -> None:
        said = link.segment.due(now, stale=stale, leaving=self._leaving)
        if said is not None:
            last = self._said
            if last is None or last._replace(sequence=said.sequence) != said:
                self._gist = object()
            self._said = said
            self._wire.hello(self.host.name, said, self._gist, self.host.mac)
        if link.segment.asks_witness(now):
            link.voice.guard.submit((LINK, WITNESS), Occasion.PROBE, now)
        view = link.segment.view()
        if view != link.view:
            link.view = view
            link.voice.guard.shared_by(len(view.alive) + 1)
            sets = (view.alive, view.dead, frozenset[str](), view.returning, view.left)
            self._report(orders.Seen(LINK, *(tuple(sorted(one)) for one in sets)))

    def _transmit(self, link: _Link, ip: bytes, occasion: Occasion | None, frame: bytes, now: float) -> None:
        mac, name = self.host.mac, self.host.name
        if occasion is None:
            self._wire.unicast(name, frame[:6], Packet(REPLY, mac, ip, NOBODY))
            return
        self.host.world.watch.sent(self.host, ip, occasion)
        if ip == WITNESS:
            self._wire.ask_gateway(name, self._witnessed)
            return
        sender = NOBODY if ip in link.voice.probes else ip
        self._wire.broadcast(name, Packet(REQUEST, mac, sender, ip))
        link.voice.left(ip, occasion, now)

    def _report(self, report: orders.Report) -> None:
        if isinstance(report, orders.InUse) or (isinstance(report, orders.Claimed) and report.yielded):
            self._owned.pop(report.ip, None)
        self._to_speaker(report)


def _text(ip: bytes) -> str:
    return str(IPv4Address(ip))


def _packed(ip: str) -> bytes:
    return IPv4Address(ip).packed
