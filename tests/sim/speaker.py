"""The speaker's program on one node: does what `lbspeaker/speaker.py` does, and has the product's `Layer2`.

What it is told while it is stopped waits in its sockets. When it wakes, its loop turns once before it has
read them: time has passed, and nothing is known of it.
"""

from collections.abc import Coroutine
from ipaddress import IPv4Address
from typing import TYPE_CHECKING, Any

from lbspeaker.answering.child import ALIVE_EVERY_S
from lbspeaker.answering.layer2 import Layer2
from lbspeaker.core import speaker as core
from lbspeaker.core.announce import Release
from lbspeaker.core.lifecycle import State
from lbspeaker.model import Change, ConfigSet, Doubts, Kind, Lease, Pins, Reason, Secret, Synced
from lbspeaker.speaker import PINS_RETRY_S
from lbspeaker.wire import orders
from tests.sim.answerer import Answerer
from tests.sim.clock import Alarm

if TYPE_CHECKING:
    from tests.sim.world import Host

PIPE_S = 0.0003  # from one process of a node to the other
ANSWERER_STARTS_S = (0.4, 1.2)
ANSWERER_AGAIN_S = 0.1
STILL_ALIVE_EVERY_S = 2.0  # in a quiet world: seldom, and still often enough
SETUP_FRAMES = orders.Frames("", "", "", "")  # frames have no bytes here


class _Mute:
    """In place of the log and of events."""

    def __getattr__(self, name: str) -> Any:
        return lambda *args, **fields: True

    def aside(self, work: Coroutine[Any, Any, None]) -> None:
        work.close()


class _Child:
    """In place of the answerer as a process: what is sent arrives a moment later, as long as it lives."""

    def __init__(self, host: "Host", answerer: Answerer) -> None:
        self._heap = host.world.heap
        self._answerer = answerer

    def send(self, line: bytes) -> None:
        self._heap.after(PIPE_S, self._answerer.order, orders.order(line))


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
        self._heap, self._clock, self._api = self.world.heap, host.clock, self.world.api
        self._inbox: list[object] = []
        self.layer2 = Layer2(host.name, "standard", self.core, _Mute(), self._heard_from)
        self._answering = self.layer2._answering
        self.layer2._log = self._answering._log = _Mute()
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
        self._answering._send(orders.Alive(self.draining))

    def drain(self) -> None:
        self.draining = True
        self.core.drain(self._clock.now)
        self.layer2.leave()
        self._turn()

    # -- the answerer --

    def _start_answerer(self) -> None:
        self._heap.after(self.world.random.uniform(*ANSWERER_STARTS_S), self._answerer_started)

    def _answerer_started(self) -> None:
        if not self.alive:
            return
        if self.stopped:  # it does not start anything before it wakes
            self._heap.after(ANSWERER_AGAIN_S, self._answerer_started)
            return
        self.answerer = Answerer(self.host, self._heard_from)
        self._answering._child = _Child(self.host, self.answerer)  # type: ignore[assignment]
        self._answering._tell_all(orders.Setup(self.node, SETUP_FRAMES))
        self.host.answerer_changed()

    def answerer_died(self) -> None:
        if self.answerer is not None:
            self.answerer.end()
            self.answerer = self._answering._child = None
            self._heap.after(ANSWERER_AGAIN_S, self._start_answerer)
            self.host.answerer_changed()

    def _beat(self) -> None:
        if self.alive:
            if not self.stopped:
                self._answering._send(orders.Alive(self.draining))
            every_s = STILL_ALIVE_EVERY_S if self.world.still else ALIVE_EVERY_S
            self._heap.after(every_s / self.host.rate, self._beat)

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
        before, members = self.core.state, self.core.members
        left = False
        for effect in self.core.advance(now):
            if isinstance(effect, core.Leave):
                left = True
            else:
                self._act(effect)
        if self.core.state is not before:
            self.world.tell(self.node, f"is {self.core.state}")
        if self._leases_changed or self.core.members != members:
            self._leases_changed = False
            self.layer2.set_members()
        if left:
            self._leave()
            return
        self._alarm.set(self.core.next_wakeup(now))

    def _take(self, item: object, now: float) -> None:
        if isinstance(item, Change | Synced):
            self._observe(item, now)
        elif isinstance(item, tuple):
            self.layer2.set_links(item)
        else:
            self._heard(item, now)

    def _observe(self, item: Change | Synced, now: float) -> None:
        if isinstance(item, Change) and isinstance(item.value, ConfigSet):
            self.layer2.set_pools(item.value.config.pools)
        self.core.observe(item, now)
        if not isinstance(item, Change):
            return
        if item.kind is Kind.LEASE:
            links = item.value.links if isinstance(item.value, Lease) else None
            self._leases_changed |= self._links_of.get(item.key, ()) != links
            self._links_of[item.key] = links
        elif item.kind in (Kind.CONFIG, Kind.NODE):
            self.layer2.set_ports()
        elif item.kind is Kind.SECRET and isinstance(item.value, Secret) and item.value.password:
            self.layer2.set_password(item.value.password)

    # -- what the decider wants --

    def _act(self, effect: core.Effect) -> None:
        match effect:
            case core.Announce():
                again = ", again" if effect.again else ""
                self.world.tell(self.node, f"announces {effect.ip} ({effect.occasion.name}{again})")
                self.layer2.announce(effect)
            case Release():
                self.world.tell(self.node, f"releases {effect.ip}")
                self.layer2.release(effect.ip)
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

    # -- what the answerer says --

    def _heard(self, report: Any, now: float) -> None:
        if (told := _told(report)) is not None:
            self.world.tell(self.node, told)
        self.layer2.heard(report, now)

    # -- the API --

    def _renew(self) -> None:
        if self._renewing or self._renewal is None or not self.alive or self.stopped:
            return
        due, self._renewal, self._renewing = self._renewal, None, True
        before = self._api.objects[Kind.LEASE].get(self.node)
        stays = before.doubts if isinstance(before, Lease) else Doubts()
        doubts = stays if due.doubts is None else due.doubts
        duration_s = core.LEASE_DURATION_S
        lease = Lease(self.node, f"{self._clock.now:.6f}", due.draining, duration_s, due.links, doubts)
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
        answered = [IPv4Address(ip) for ip in self.host.answering]
        self.kill()
        for ip in answered:
            self.world.watch.released(self.host, ip)
        self._api.write(self.node, lambda: self._api.put(Kind.LEASE, self.node, None), lambda _: None)
        self.host.left()

    @property
    def sees_api_since(self) -> float | None:
        """Since when it is told everything, and can follow; None: it is not."""
        opened = [stream.open_since for stream in self.streams]
        if self.stopped or self.core.state is State.STARTING or None in opened:
            return None
        return max(self.awake_since, *(since for since in opened if since is not None))


def _told(report: object) -> str | None:
    match report:
        case orders.Claimed():
            what = "yields" if report.yielded else "hears a claim of"
            return f"{what} {report.ip} to {report.node or report.mac}"
        case orders.InUse():
            return f"finds {report.ip} in use by {report.mac}"
        case orders.Seen():
            return f"hears {_list(report.alive)}, takes for dead {_list(report.dead)}"
        case orders.Missed():
            return "was taken for dead"
        case orders.Woke():
            return f"stood still for {report.stood_s:.1f} s, gave up {len(report.ips)}"
    return None


def _list(names: tuple[str, ...]) -> str:
    return ",".join(names) or "nobody"
