"""The speaker's program on one node: does what `lbspeaker/speaker.py` and `lbspeaker/answering` do.

What it is told while it is stopped waits in its sockets. When it wakes, its loop turns once before it has
read them: time has passed, and nothing is known of it.
"""

from dataclasses import replace
from ipaddress import ip_address
from typing import TYPE_CHECKING

from lbspeaker.answering.child import ALIVE_EVERY_S
from lbspeaker.core import links as core_links
from lbspeaker.core import speaker as core
from lbspeaker.core.announce import Release
from lbspeaker.core.guard import Occasion
from lbspeaker.core.lifecycle import State
from lbspeaker.model import Address, Change, Kind, Lease, Link, Pins, Reason, Synced
from lbspeaker.speaker import PINS_RETRY_S
from lbspeaker.wire import orders
from tests.sim.answerer import LINK, Answerer
from tests.sim.clock import Alarm

if TYPE_CHECKING:
    from tests.sim.world import Host

PIPE_S = 0.0003  # from one process of a node to the other
ANSWERER_STARTS_S = (0.4, 1.2)
ANSWERER_AGAIN_S = 0.1
STILL_ALIVE_EVERY_S = 2.0  # in a quiet world: seldom, and still often enough
FROZEN = orders.Frames("", "", "", "")


class Program:
    """One start of the speaker of `host`."""

    def __init__(self, host: "Host", *, resumed: bool) -> None:
        self.host = host
        self.node = host.name
        self.world = host.world
        self.alive = True
        self.stopped = False
        self.answerer: Answerer | None = None
        self.core = core.Speaker(host.name, resumed=resumed)
        self.core.can_answer = False
        self.awake_since = self.world.heap.now
        self.draining = False
        self.flapping_until = 0.0
        self._heap, self._clock, self._api = self.world.heap, host.clock, self.world.api
        self._inbox: list[object] = []
        self._links: tuple[Link, ...] = ()
        self._announced: dict[Address, core.Announce] = {}
        self._orders: dict[str, orders.Announce] = {}  # what the answerer has to know
        self._ports: tuple[orders.Port, ...] = ()
        self._keys = orders.Keys(())
        self._members: dict[str, tuple[str, ...]] = {}
        self._leases_changed = True
        self._links_of: dict[str, object] = {}
        self._renewal: core.Renew | None = None
        self._renewing = False
        self._pins: core.WritePins | None = None
        self._pinning = False
        self._alarm = Alarm(self._heap, self._clock, f"speaker of {host.name}", self._turn)
        self.streams = self._api.watch(self)
        self._start_answerer()
        self._beat()
        self.take_all([host.links])

    # -- life --

    def kill(self) -> None:
        """It is gone at once, and its answerer with it."""
        self.alive = False
        self._api.unwatch(self.node)
        if self.answerer is not None:
            self.answerer.end()
            self.answerer = None

    def stop(self) -> None:
        self.stopped = True

    def wake(self) -> None:
        self.stopped = False
        self.awake_since = self._heap.now
        waiting, self._inbox = self._inbox, []
        self._turn()
        for part in (waiting[: len(waiting) // 2], waiting[len(waiting) // 2 :]):
            self.take_all(part)
        if self._renewal is not None:
            self._renew()
        self._send(orders.Alive(self.draining))

    def drain(self) -> None:
        self.draining = True
        self.core.drain(self._clock.now)
        self._send(orders.Alive(leaving=True))
        self._turn()

    # -- the answerer --

    def _start_answerer(self) -> None:
        self._heap.after(self.world.random.uniform(*ANSWERER_STARTS_S), self._answerer_started)

    def _answerer_started(self) -> None:
        if not self.alive:
            return
        self.answerer = Answerer(self.host, self._heard_from)
        setup = orders.Setup(self.node, FROZEN)
        for order in (setup, self._keys, orders.Members(self._members), orders.Ports(self._ports)):
            self._send(order)
        for announced in list(self._orders.values()):
            self._announce(announced)
        self.host.answerer_changed()

    def answerer_died(self) -> None:
        if self.answerer is not None:
            self.answerer.end()
            self.answerer = None
            self._heap.after(ANSWERER_AGAIN_S, self._start_answerer)
            self.host.answerer_changed()

    def _beat(self) -> None:
        if self.alive:
            if not self.stopped:
                self._send(orders.Alive(self.draining))
            every_s = STILL_ALIVE_EVERY_S if self.world.still else ALIVE_EVERY_S
            self._heap.after(every_s / self.host.rate, self._beat)

    def _send(self, order: orders.Order) -> bool:
        if self.answerer is None:
            return False
        self._heap.after(PIPE_S, self.answerer.order, order)
        return True

    def _announce(self, order: orders.Announce) -> None:
        sent = self._send(order)
        again = Occasion.TAKEOVER if self._members else Occasion.REFRESH
        occasion = again.name if sent else order.occasion
        self._orders[order.ip] = orders.Announce(order.ip, order.ports, occasion, above=order.above)

    def _heard_from(self, report: orders.Report) -> None:
        self._heap.after(PIPE_S, self.take_all, [report])

    # -- the loop --

    def take_all(self, items: list[object]) -> None:
        if not self.alive:
            return
        self._inbox += items
        if not self.stopped:
            self._turn()

    def _turn(self) -> None:
        if not self.alive or self.stopped:
            return
        now, items = self._clock.now, self._inbox
        self._inbox = []
        for item in items:
            self._take(item, now)
        before = self.core.state
        left = False
        for effect in self.core.advance(now):
            if isinstance(effect, core.Leave):
                left = True
            else:
                self._act(effect)
        if self.core.state is not before:
            self.world.tell(self.node, f"is {self.core.state}")
        if self._leases_changed:
            self._leases_changed = False
            self._set_members()
        if left:
            self._leave()
            return
        self._alarm.set(self.core.next_wakeup(now))

    def _take(self, item: object, now: float) -> None:
        if isinstance(item, Change | Synced):
            self._observe(item, now)
        elif isinstance(item, tuple):
            self._set_links(item)
        else:
            self._heard(item, now)

    def _observe(self, item: Change | Synced, now: float) -> None:
        self.core.observe(item, now)
        if not isinstance(item, Change):
            return
        if item.kind is Kind.LEASE:
            links = item.value.links if isinstance(item.value, Lease) else None
            self._leases_changed |= self._links_of.get(item.key, ()) != links
            self._links_of[item.key] = links
        elif item.kind in (Kind.CONFIG, Kind.NODE):
            self._set_ports()
        elif item.kind is Kind.SECRET and not self._keys.keys:
            self._keys = orders.Keys(("key",))
            self._send(self._keys)

    def _set_links(self, found: tuple[Link, ...]) -> None:
        self._links = found
        self.core.observe_links(found)
        self._set_ports()
        for ip, effect in self._announced.items():
            ports = self._ports_for(effect)
            known = self._orders.get(str(ip))
            if ports != (known.ports if known else None):
                self._announced[ip] = replace(effect, occasion=Occasion.TAKEOVER)
                self._tell_answerer(self._announced[ip])

    def _ports_for(self, effect: core.Announce) -> tuple[str, ...]:
        return core_links.choose(effect.ip, self._links, effect.interfaces, effect.any_subnet)

    def _set_ports(self) -> None:
        ports = tuple(self._port(link) for link in core_links.eligible(self._links))
        if ports != self._ports:
            self._ports = ports
            self._send(orders.Ports(ports))

    def _port(self, link: Link) -> orders.Port:
        policy = self.core.world.config.link_policy(self.core.world.labels, link.name)
        policy = replace(policy, node_selectors=(), interfaces=frozenset())
        own = next((str(a.ip) for a in link.addresses if link.gateway and link.gateway in a.network), "")
        return orders.Port(LINK, link.index, link.mac.hex(), policy, own, str(link.gateway) if own else "")

    def _set_members(self) -> None:
        members = self.core.member_macs
        if members != self._members:
            self._members = members
            self._send(orders.Members(members))

    # -- what the decider wants --

    def _act(self, effect: core.Effect) -> None:
        match effect:
            case core.Announce():
                self._announced[effect.ip] = effect
                again = ", again" if effect.again else ""
                self.world.tell(self.node, f"announces {effect.ip} ({effect.occasion.name}{again})")
                self._tell_answerer(effect)
            case Release():
                self._announced.pop(effect.ip, None)
                self.world.tell(self.node, f"releases {effect.ip}")
                if self._orders.pop(str(effect.ip), None) is not None:
                    self._send(orders.Release(str(effect.ip)))
            case core.Renew():
                self._renewal = effect
                self._renew()
            case core.WritePins():
                pins = ", ".join(f"{ip}@{pin.node}/{pin.term}" for ip, pin in effect.pins.items())
                self.world.tell(self.node, f"pins {pins or 'nothing'}")
                self._pins = effect
                self._write_pins()
            case core.Tell() if effect.reason is Reason.FLAPPING:
                self.world.tell(self.node, effect.message)

    def _tell_answerer(self, effect: core.Announce) -> None:
        ports = self._ports_for(effect)
        order = orders.Announce(str(effect.ip), ports, effect.occasion.name, effect.again, effect.above)
        self._announce(order)

    # -- what the answerer says --

    def _heard(self, report: object, now: float) -> None:
        tell = self.world.tell
        match report:
            case orders.Ready():
                self.core.can_answer = True
                self.core.heard(LINK, frozenset())
            case orders.Claimed():
                ip, who = ip_address(report.ip), report.node or report.mac
                tell(self.node, f"{'yields' if report.yielded else 'hears a claim of'} {ip} to {who}")
                if report.yielded:
                    self._gone(report.ip)
                self.core.claimed(
                    ip, now, node=report.node, mac=report.mac, link=report.port, yielded=report.yielded
                )
            case orders.InUse():
                mac = report.mac.replace(":", "")
                node = next((n for n, macs in self.core.member_macs.items() if mac in macs), "")
                tell(self.node, f"finds {report.ip} in use by {node or report.mac}")
                self._gone(report.ip)
                self.core.in_use(ip_address(report.ip), now, node=node, mac=report.mac)
            case orders.Seen():
                tell(self.node, f"hears {_list(report.alive)}, takes for dead {_list(report.dead)}")
                self.core.heard(report.port, frozenset(report.dead))
            case orders.Missed():
                tell(self.node, "was taken for dead")
                self.core.missed()
            case orders.Woke():
                tell(self.node, f"stood still for {report.stood_s:.1f} s, gave up {len(report.ips)}")
                for text in report.ips:
                    self._gone(text)
                self.core.woke(tuple(ip_address(text) for text in report.ips), now)

    def _gone(self, ip: str) -> None:
        self._orders.pop(ip, None)
        self._announced.pop(ip_address(ip), None)

    # -- the API --

    def _renew(self) -> None:
        if self._renewing or self._renewal is None or not self.alive or self.stopped:
            return
        due, self._renewal, self._renewing = self._renewal, None, True
        lease = Lease(self.node, f"{self._clock.now:.6f}", due.draining, core.LEASE_DURATION_S, due.links)
        self.host.renewed_at = self._clock.now
        self._api.write(self.node, lambda: self._api.put(Kind.LEASE, self.node, lease), self._renewed)

    def _renewed(self, _: bool) -> None:
        self._renewing = False
        self._renew()

    def _write_pins(self) -> None:
        if self._pinning or self._pins is None or not self.alive or self.stopped:
            return
        due, self._pins, self._pinning = self._pins, None, True
        pins = Pins(self.node, dict(due.pins))

        def done(written: bool) -> None:
            self._pinning = False
            if not written:
                self._pins = self._pins or due
                self._heap.after(PINS_RETRY_S, self._write_pins)
            else:
                self._write_pins()

        self._api.write(self.node, lambda: self._api.put(Kind.PINS, self.node, pins), done)

    def _leave(self) -> None:
        self.kill()
        self._api.write(self.node, lambda: self._api.put(Kind.LEASE, self.node, None), lambda _: None)
        self.host.left()

    @property
    def sees_api_since(self) -> float | None:
        """Since when it is told everything, and can follow; None: it is not."""
        opened = [stream.open_since for stream in self.streams]
        if self.stopped or self.core.state is State.STARTING or None in opened:
            return None
        return max(self.awake_since, *(since for since in opened if since is not None))


def _list(names: tuple[str, ...]) -> str:
    return ",".join(names) or "nobody"
