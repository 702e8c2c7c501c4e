"""One link of the answerer: its sockets, and what comes in and goes out by them.

ARP socket ───▶ questions ──▶ answers               behind a kernel filter that knows the pools
NDP socket ───▶ claims ─────▶ yielded, or reported
hello socket ─▶ `core.segment`
meter ────────▶ `core.storm`                        never read: the kernel counts what it drops
watch socket ─▶ `core.storm`, by MAC                its filter passes nothing until there is cause to look

Readers say whether there is more to do than what they have done: most of what comes are questions that were
answered at once.
"""

import contextlib
import errno
import os
import random
import socket
from collections.abc import Callable, Mapping
from ipaddress import ip_address

from lbspeaker.answerer.direct import Direct
from lbspeaker.core.answer import Verdict, decide, decide_ndp
from lbspeaker.core.budget import Bucket
from lbspeaker.core.guard import Guard, Occasion, Sending
from lbspeaker.core.segment import Segment, View
from lbspeaker.core.storm import StormDetector
from lbspeaker.core.voice import Voice
from lbspeaker.errors import Malformed, Unavailable
from lbspeaker.shell import packet
from lbspeaker.shell.groups import Groups
from lbspeaker.wire import arp, bpf, hello, ndp, orders

AT_ONCE = 64  # frames read from one socket before the others get their turn
METER_EVERY_S = 0.25
WATCHED = 512  # frames, each time: enough to see who storms
FRAME_BYTES = 416  # of a buffer, for each; the kernel doubles both
ASKED = (1.0, 10)  # of the gateway: questions in a second, and those that are asked at once
WITNESS = b"gateway"  # what the guard calls the question to the default gateway
ARP, NDP = "arp", "ndp"
_NO_IP = bytes(4)
_WIDER = {ARP: bpf.all_arp(), NDP: bpf.ndp()}  # of the kernel's filters

Report = Callable[[orders.Report], None]


class OpenLink:
    """A link in use. Raises Unable or Unavailable if it cannot be opened."""

    def __init__(
        self,
        port: orders.Port,
        setup: orders.Setup,
        pools: orders.Filter,
        guards: Mapping[str, Guard],  # by protocol
        report: Report,
        now: float,
    ) -> None:
        self.port, self._witness = port, _witness(port)
        self.name = port.name
        self.mac = bytes.fromhex(port.mac)
        self.guards = guards
        self.voices = {p: Voice(port.name, guards[p], port.policy, now, random.random) for p in (ARP, NDP)}
        self.segment = Segment(setup.node, os.urandom(8), now, witness=self._witness is not None)
        self.storm = StormDetector(now)
        self.keys: tuple[bytes, ...] = ()
        self.sends_with = b""
        self.macs: dict[bytes, str] = {}  # of members, as the API has them
        self.near: list[bytes] = []  # of those, who should be heard here
        self.ours: frozenset[bytes] = frozenset()  # MACs of all links of this node: two may be on one segment
        self.doubtful = False  # every member outranks us now
        self._mute = False
        self._frames = setup.frames
        self._filter = pools
        self._report = report
        self._groups = Groups(port.index)
        self._joined: set[bytes] = set()
        self._view = View(frozenset(), frozenset())
        self._direct = Direct()
        self._questions = Bucket(*ASKED, now)
        self._metered_at = now
        self._heard_since = (now, 0)  # unsolicited frames of members since then
        self.segment_per_s = 0.0
        self._by_protocol: dict[str, socket.socket] = {}
        self._counted: list[socket.socket] = []
        self.readers: dict[socket.socket, Callable[[float], bool]] = {}
        try:
            self._open()
        except BaseException:
            self.close()
            raise

    def _open(self) -> None:
        name = self.name
        for protocol, ethertype, read in (
            (ARP, packet.ETH_P_ARP, self._read_arp),
            (NDP, packet.ETH_P_IPV6, self._read_ndp),
        ):
            opened = packet.open_link(name, ethertype, _WIDER[protocol])
            self._by_protocol[protocol] = opened
            self.readers[opened] = read
        self.set_filter(self._filter)
        self._hello = packet.open_link(name, hello.ETHERTYPE, bpf.hello())
        self.readers[self._hello] = self._read_hello
        try:
            packet.join(self._hello, self.port.index, hello.GROUP)
        except OSError as error:
            raise Unavailable(f"link {name} cannot be used: {error.strerror}") from None
        for program, buffer in ((bpf.meter(), 0), (bpf.nothing(), WATCHED * FRAME_BYTES)):
            self._counted.append(packet.open_link(name, packet.ETH_P_ARP, program, buffer))
        self._meter, self._watch = self._counted

    def close(self) -> None:
        for opened in (*self.readers, *self._counted):
            opened.close()
        for protocol, voice in self.voices.items():
            for ip in [*voice.owned, *voice.probes]:
                self.release(protocol, ip)
        self._groups.close()

    # -- orders --

    def set_filter(self, pools: orders.Filter) -> None:
        """Have the kernel drop what does not concern us; what it passes is judged all the same."""
        self._filter = pools
        try:
            for protocol, program in ((ARP, self._arp_filter()), (NDP, bpf.ndp(pools.ranges6))):
                packet.attach(self._by_protocol[protocol], program, _WIDER[protocol])
        except OSError as error:
            what = f"IPs of new pools may not be found on {self.name}: its filter stays: {error.strerror}"
            self._report(orders.Failed(self.name, what, "is net.core.optmem_max 20480 or more?"))

    def _arp_filter(self) -> bytes:
        gateway = [int(ip_address(self.port.gateway))] * 2 if self.port.gateway else []
        return bpf.arp([*self._filter.ranges, *([(gateway[0], gateway[1])] if gateway else [])])

    def adopt(self, port: orders.Port, guards: Mapping[str, Guard], now: float) -> None:
        """The same link, to be treated otherwise; what waits in a guard that it leaves waits in the next."""
        self.port, self._witness = port, _witness(port)
        for protocol, guard in guards.items():
            if guard is not self.guards[protocol]:
                self.voices[protocol].guard = guard
                for key, occasion in self.guards[protocol].take(self.name):
                    guard.submit(key, occasion, now)
        self.guards = guards
        self.segment.witness = self._witness is not None
        for voice in self.voices.values():
            voice.policy = port.policy
        self.set_filter(self._filter)

    def release(self, protocol: str, ip: bytes) -> None:
        self.voices[protocol].release(ip)
        if ip in self._joined:
            self._joined.discard(ip)
            self._groups.leave(ndp.solicited_node(ip))

    # -- in --

    def _read_arp(self, now: float) -> bool:
        receive, owned, mac = self._by_protocol[ARP].recv, self.voices[ARP].owned, self.mac
        guard, name, more = self.guards[ARP], self.name, False
        for _ in range(AT_ONCE):
            try:
                asked = arp.parse(receive(2048))
            except Malformed:
                continue
            except OSError:  # nothing there; or down or gone: the kernel will tell the speaker, by netlink
                break
            verdict = decide(*asked, owned, mac)
            if verdict is Verdict.ANSWER:
                if self._mute:
                    continue
                answer = arp.reply(asked, mac)
                if guard.answer((name, asked.target_ip), answer, now):
                    self._send(ARP, answer)
                else:
                    more = True
            elif verdict is not Verdict.BAD_SENDER:
                self._arp_of_others(asked, verdict, now)
                more = True
        return more

    def _arp_of_others(self, said: arp.Packet, verdict: Verdict, now: float) -> None:
        if said.sender_mac in self.ours:
            return
        voice, ip = self.voices[ARP], said.sender_ip
        node = self._node_of(said.sender_mac)
        if said.operation == arp.REPLY and (ip, said.target_ip) == self._witness:
            self.segment.witnessed(now)
        if node and ip in (said.target_ip, _NO_IP):
            self._hear_member(ARP, now)
        if verdict is Verdict.CONFLICT:
            self._claimed(ARP, ip, said.sender_mac, node, now)
        elif ip in voice.probes:
            self._in_use(ARP, ip, said.sender_mac, node)
        elif said.operation == arp.REQUEST and ip != said.target_ip:
            if ip == _NO_IP and said.target_ip in voice.probes and _first(said.sender_mac, node, self.mac):
                self._in_use(ARP, said.target_ip, said.sender_mac, node)
            elif ip != _NO_IP:
                voice.asked(said.target_ip, now)

    def _read_ndp(self, now: float) -> bool:
        voice, more = self.voices[NDP], False
        for _ in range(AT_ONCE):
            try:
                said = ndp.parse(self._by_protocol[NDP].recv(2048))
            except Malformed:
                continue
            except OSError:
                break
            asks = said.type == ndp.SOLICITATION
            verdict = decide_ndp(asks, said.mac, said.target_ip, voice.owned, self.mac)
            if verdict is Verdict.ANSWER:
                if self._mute:
                    continue
                answer = ndp.reply(said, self.mac)
                if self.guards[NDP].answer((self.name, said.target_ip), answer, now):
                    self._send(NDP, answer)
                else:
                    more = True
            elif verdict is not Verdict.BAD_SENDER:
                self._ndp_of_others(said, asks, verdict, now)
                more = True
        return more

    def _ndp_of_others(self, said: ndp.Message, asks: bool, verdict: Verdict, now: float) -> None:
        if said.mac in self.ours:
            return
        voice, ip = self.voices[NDP], said.target_ip
        node = self._node_of(said.mac)
        probes = asks and said.sender_ip == ndp.NOBODY
        if node and (probes or not asks):
            self._hear_member(NDP, now)
        if verdict is Verdict.CONFLICT:
            self._claimed(NDP, ip, said.mac, node, now)
        elif ip in voice.probes and (not asks or (probes and _first(said.mac, node, self.mac))):
            self._in_use(NDP, ip, said.mac, node)
        elif asks and not probes:
            voice.asked(ip, now)

    def _read_hello(self, now: float) -> bool:
        for _ in range(AT_ONCE):
            try:
                frame = self._hello.recv(2048)
                said = hello.parse(frame, self.keys)
            except Malformed:
                continue
            except OSError:
                break
            self.segment.heard(said, frame[6:12], now)
            self._direct.heard(said.node, frame[6:12], now, alone=frame[:6] != hello.GROUP)
        if self.segment.take_missed():
            self._report(orders.Missed(self.name))
        return True

    def _read_watch(self, now: float) -> None:
        """See who sends what was counted; not frame by frame, so that a storm does not keep us busy."""
        for _ in range(WATCHED if self.storm.armed else 0):
            try:
                mac = self._watch.recv(64)[6:12]
            except OSError:
                return
            if mac in self.ours:
                continue
            node = self._node_of(mac)
            if news := self.storm.seen(mac, now, member=bool(node)):
                who, frames = news
                self._report(orders.Storm(self.name, who.hex(":") if who else "", frames, node))

    def _node_of(self, mac: bytes) -> str:
        return self.segment.node_of(mac) or self.macs.get(mac, "")

    def _hear_member(self, protocol: str, now: float) -> None:
        self.guards[protocol].heard(1, now)
        self._heard_since = (self._heard_since[0], self._heard_since[1] + 1)

    def _claimed(self, protocol: str, ip: bytes, mac: bytes, node: str, now: float) -> None:
        claim = self.voices[protocol].claimed(ip, mac, node, now, doubtful=self.doubtful)
        if claim is not None:
            if claim.yielded:
                self.release(protocol, ip)
            what = (str(ip_address(ip)), self.name, mac.hex(":"), node, claim.yielded)
            self._report(orders.Claimed(*what))

    def _in_use(self, protocol: str, ip: bytes, mac: bytes, node: str) -> None:
        if self.voices[protocol].in_use(ip):
            self.release(protocol, ip)
            self._report(orders.InUse(str(ip_address(ip)), self.name, mac.hex(":"), node))

    # -- time --

    def tick(self, now: float, *, stale: bool, leaving: bool) -> list[bytes]:
        """Do what is due; return the IPs that are answered from now on."""
        if now >= self._metered_at + METER_EVERY_S:
            self._measure(now)
        if self._says_hello:
            said = self.segment.due(now, stale=stale, leaving=leaving)
            if said is not None:
                self._say(hello.build(said, self.mac, self.sends_with), now)
            if self.segment.asks_witness(now) and self._questions.take(now):
                self.guards[ARP].submit((self.name, WITNESS), Occasion.PROBE, now)
        view = self.segment.view() if self._says_hello else View(frozenset(), frozenset())
        if view != self._view:
            self._view = view
            for guard in self.guards.values():
                guard.shared_by(len(view.alive) + 1)
            heard = view.alive - view.silent
            sets = (heard, view.dead, view.silent, view.returning, view.left)
            alive, dead, silent, returning, left = (tuple(sorted(one)) for one in sets)
            noticed_s = round(self.segment.noticed_s, 3)
            self._report(orders.Seen(self.name, alive, dead, silent, returning, left, noticed_s))
        return [ip for voice in self.voices.values() for ip in voice.advance(now)]

    def next_wakeup(self) -> float:
        moments = [voice.next_wakeup() for voice in self.voices.values()]
        moments.append(self._metered_at + METER_EVERY_S)
        if self._says_hello:
            moments.append(self.segment.next_wakeup())
        return min(moments)

    @property
    def _says_hello(self) -> bool:
        return bool(self.keys) and not self.port.policy.dry_run

    def _measure(self, now: float) -> None:
        self._dropped()  # so that `catch_up` sees what was dropped since now
        counted, was_armed = packet.taken(self._meter)[0], self.storm.armed
        self.storm.metered(counted, now)
        if self.storm.armed is not was_armed:
            packet.attach(self._watch, bpf.meter() if self.storm.armed else bpf.nothing())
        self._read_watch(now)
        if self.storm.stormy(now):
            for guard in self.guards.values():
                guard.slow_down(now + 2 * METER_EVERY_S)
        self._metered_at = now
        since, count = self._heard_since
        if now - since >= 1.0:
            self.segment_per_s = round(count / (now - since), 1)
            self._heard_since = (now, 0)

    def _say(self, frame: bytes, now: float) -> None:
        for to in (
            hello.GROUP,
            *self._direct.due({mac: self.macs[mac] for mac in self.near}, self._view.alive, now),
        ):
            _write(self._hello, to + frame[6:])

    # -- out --

    def transmit(self, protocol: str, sending: Sending, ip: bytes, now: float) -> None:
        """Send what the guard lets go. Joining a group makes the kernel send, too: so it waits its turn."""
        if ip == WITNESS:
            if self._witness:
                gateway, own = self._witness
                self._send(ARP, arp.question(self.mac, own, gateway))
            return
        if sending.occasion is None:
            self._send(protocol, sending.frame)
            return
        voice = self.voices[protocol]
        if protocol == NDP and ip not in self._joined and not self.port.policy.dry_run:
            self._join(ip)
        self._send(protocol, self._original(protocol, ip, ip in voice.probes))
        voice.left(ip, sending.occasion, now)

    def _join(self, ip: bytes) -> None:
        """If the kernel refuses, the next frame about `ip` is another try."""
        try:
            self._groups.join(ndp.solicited_node(ip))
            self._joined.add(ip)
        except OSError as error:
            if error.errno != errno.ENODEV:  # on a link that is gone there is nobody to hear
                what = f"IPv6 may not be found on {self.name}: no multicast group can be joined"
                hint = "is net.ipv6.conf.LINK.disable_ipv6 set, or is memory short (net.core.optmem_max)?"
                self._report(orders.Failed(self.name, f"{what}: {error.strerror}", hint))

    def _original(self, protocol: str, ip: bytes, probe: bool) -> bytes:
        frames = self._frames
        if protocol == ARP:
            build, template = (arp.probe, frames.arp_probe) if probe else (arp.announcement, frames.arp)
        else:
            build, template = (ndp.probe, frames.ndp_probe) if probe else (ndp.announcement, frames.ndp)
        return build(bytes.fromhex(template), self.mac, ip)

    def _send(self, protocol: str, frame: bytes) -> None:
        if not self.port.policy.dry_run:
            _write(self._by_protocol[protocol], frame)

    # -- after a stand-still --

    def catch_up(self, now: float) -> list[bytes]:
        """Read what came meanwhile, without answering; return what must be released, as claims were lost."""
        self._mute = self.doubtful = True
        try:
            for opened, read in self.readers.items():
                for _ in range(200):
                    read(now)
                    if not packet.waits(opened):
                        break
        finally:
            self._mute = self.doubtful = False
        return [ip for voice in self.voices.values() for ip in voice.owned] if self._dropped() else []

    def _dropped(self) -> int:
        """How many frames the kernel had no room for, since the last call."""
        return sum([packet.taken(opened)[1] for opened in self._by_protocol.values()])


def _witness(port: orders.Port) -> tuple[bytes, bytes] | None:
    """The default gateway, and the own address that it is asked from."""
    if not port.gateway or not port.address:
        return None
    return ip_address(port.gateway).packed, ip_address(port.address).packed


def _write(opened: socket.socket, frame: bytes) -> None:
    # A frame that a full queue or a vanished link does not take is lost, as frames may be: the guard
    # has counted it, and repeats are there for that.
    with contextlib.suppress(OSError):
        opened.send(frame)


def _first(mac: bytes, node: str, ours: bytes) -> bool:
    """Whether who probes for what we probe for, too, goes first (RFC 5227 §2.1.1).

    A member's probe says nothing: it does not know yet either, and the ranking is known without it.
    """
    return not node and mac < ours
