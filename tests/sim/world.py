"""Nodes, the segment, the API and a controller: a cluster, and all that can happen to it."""

from collections.abc import Iterable
from dataclasses import dataclass, replace
from ipaddress import IPv4Address, IPv4Interface, ip_address
from random import Random
from typing import TYPE_CHECKING

from lbspeaker.core.allocator import allocate
from lbspeaker.core.layer2 import l2
from lbspeaker.core.lifecycle import State
from lbspeaker.core.nodes import holders
from lbspeaker.core.speaker import LEASE_DURATION_S
from lbspeaker.model import (
    Address,
    Allocation,
    Config,
    ConfigSet,
    Endpoint,
    EndpointSlice,
    Kind,
    L2Advertisement,
    L2Announcement,
    Lease,
    Link,
    LinkPolicy,
    MemberLink,
    Node,
    Pin,
    Pins,
    Secret,
    Service,
    Snapshot,
)
from tests.build import pool, service
from tests.sim.api import Api
from tests.sim.clock import Clock, Heap
from tests.sim.speaker import Program
from tests.sim.watch import Watch
from tests.sim.wire import Wire

if TYPE_CHECKING:
    from collections.abc import Callable

POOL = pool("lan", "10.0.2.1-10.0.2.250")
START_S = (0.5, 2.5)  # of a speaker, until it asks the API
STANDARD, EVERYWHERE = LinkPolicy("all"), L2Advertisement("l2")
KNOWN_S = 4.0  # so long after a change everybody has heard of it, and what was yielded is over
GRACE_S = 30.0  # a Pod that does not end by then is killed


@dataclass(frozen=True)
class Setting:
    """What kind of cluster, and what is to be expected of its network."""

    nodes: int = 3
    services: int = 6
    hellos: bool = True
    witness: bool = False  # there is a default gateway
    policy: LinkPolicy = STANDARD
    advertisement: L2Advertisement = EVERYWHERE
    loss: float = 0.0
    copies: float = 0.0
    trouble: float = 0.0  # share of writes that go wrong, twice
    skew: float = 0.0  # how much clocks may be too fast or slow
    clients: int = 3


class Host:
    """A node: its clock, its link, and the programs on it."""

    def __init__(self, world: "World", number: int) -> None:
        self.world = world
        self.name = f"n{number}"
        self.random = Random(f"{world.seed} {self.name}")
        skew = world.setting.skew
        self.rate = 1.0 + self.random.uniform(-skew, skew)
        self.clock = Clock(world.heap, self.random.uniform(1e3, 1e5), self.rate)
        self.mac = bytes([2, 0, 0, self.random.randrange(256), number >> 8, number & 255])
        self.on = True
        self.plugged = True
        self.program: Program | None = None
        self._address = IPv4Interface(f"10.0.{1 + number // 250}.{1 + number % 250}/16")
        self._start = 0  # the number of the start that is under way
        self._again_s = 1.0

    @property
    def links(self) -> tuple[Link, ...]:
        gateway = IPv4Address("10.0.0.1") if self.world.setting.witness else None
        return (Link("eth0", 2, self.mac, self.plugged, addresses=(self._address,), gateway=gateway),)

    @property
    def answering(self) -> Iterable[bytes]:
        """The IPs that it answers for at this moment."""
        answerer = self.program.answerer if self.program is not None else None
        return () if answerer is None or answerer.stopped else answerer.owned

    @property
    def serves(self) -> bool:
        program = self.program
        if program is None or program.stopped or program.core.state is not State.SERVING:
            return False
        return program.answerer is not None and not program.answerer.stopped

    @property
    def leaves(self) -> bool:
        return self.program is not None and self.program.draining and not self.program.stopped

    def answerer_changed(self) -> None:
        """The wire leads to the answerer of the moment."""
        wire, answerer = self.world.wire, self.program.answerer if self.program else None
        if answerer is None:
            wire.stations.pop(self.name, None)
        else:
            wire.join(self.name, answerer, self.mac)

    # -- what happens to it --

    def start(self, after_s: float) -> None:
        self._start += 1
        self.world.heap.after(after_s, self._boot, self._start)

    def _boot(self, start: int) -> None:
        if start != self._start or not self.on or self.program is not None:
            return
        if not self.world.api.reaches(self.name):
            self.world.heap.after(1.2, self._began, start, False)
            return
        lease = self.world.api.objects[Kind.LEASE].get(self.name)
        renewed = float(lease.renewed) if isinstance(lease, Lease) else -1e9
        self._began(start, 0 <= self.clock.now - renewed < LEASE_DURATION_S)

    def _began(self, start: int, resumed: bool) -> None:
        if start == self._start and self.on and self.program is None:
            self.world.tell(self.name, f"speaker starts{', resumed' if resumed else ''}")
            self.program = Program(self, resumed=resumed)

    def crash(self, again_after_s: float) -> None:
        self.kill()
        self.start(again_after_s)

    def kill(self) -> None:
        if self.program is not None:
            self.world.disturb(self.name, "speaker dies")
            self.program.kill()
            self.program = None
        self._start += 1
        self.answerer_changed()

    def drain(self, again_after_s: float) -> None:
        """As a rolling update does."""
        program = self.program
        if program is None or program.stopped or program.draining:
            return
        self.world.tell(self.name, "drains")
        self._again_s = again_after_s
        self.world.heap.after(GRACE_S, self._grace_is_over, program)
        program.drain()

    def _grace_is_over(self, program: Program) -> None:
        if program is self.program:
            self.world.watch.fail(f"{self.name} did not end within its grace period")
            self.crash(self._again_s)

    def left(self) -> None:
        self.world.tell(self.name, "speaker has left")
        self.program = None
        self.answerer_changed()
        self.start(self._again_s)

    def stop(self, *, speaker: bool = True, answerer: bool) -> None:
        if self.program is not None:
            both = "speaker and answerer" if answerer else "speaker"
            self.world.disturb(self.name, f"{both if speaker else 'answerer'} stops")
            if speaker:
                self.program.stop()
            if answerer and self.program.answerer is not None:
                self.program.answerer.stop()

    def wake(self) -> None:
        program = self.program
        if program is None:
            return
        answerer = program.answerer
        if program.stopped or (answerer is not None and answerer.stopped):
            self.world.disturb(self.name, "wakes")
        if answerer is not None and answerer.stopped:
            answerer.wake()
        if program.stopped:
            program.wake()

    def kill_answerer(self) -> None:
        if self.program is not None and self.program.answerer is not None:
            self.world.disturb(self.name, "answerer dies")
            self.program.answerer_died()

    def plug(self, plugged: bool) -> None:
        """The link has a carrier, or has none; the API is reached by another one."""
        if plugged is not self.plugged:
            self.plugged = plugged
            self.world.disturb(self.name, f"link is {'up' if plugged else 'down'}")
            if self.program is not None:
                self.program.take_all([self.links])
            if plugged:
                self.world.wire.unplugged.discard(self.name)
            else:
                self.world.wire.unplug(self.name)

    def power_off(self) -> None:
        self.world.disturb(self.name, "loses power")
        self.kill()
        self.on = False

    def power_on(self) -> None:
        if not self.on:
            self.world.disturb(self.name, "has power again")
            self.on = True
            self.start(self.random.uniform(*START_S))


class World:
    """The whole cluster. Every change that happens to it is a method."""

    def __init__(
        self, setting: Setting, seed: object = 0, hear: "Callable[[str], None] | None" = None
    ) -> None:
        self.setting = setting
        self.seed = seed
        self.random = Random(f"{seed} world")
        self.heap = Heap()
        self.api = Api(self.heap, Random(f"{seed} api"), setting.trouble)
        self.wire = Wire(self.heap, Random(f"{seed} wire"), setting.loss, setting.copies)
        self.watch = Watch(self)
        self.disturbed_at = 0.0  # when something happened that is nobody's plan
        self._still_since = 0.0
        self.still = False  # hellos go on, as all did for a while, without being simulated
        self.hear = hear
        self.hosts = {f"n{number}": Host(self, number) for number in range(setting.nodes)}
        self._allocating = False
        self._serial = 0
        self.slices: dict[str, frozenset[str]] = {}  # by service: where its endpoints are
        if setting.hellos:
            secret = Secret("lbspeaker-system/lbspeaker-hello", "sesame")
            self.api.put(Kind.SECRET, secret.key, secret)
        for number in range(setting.clients):
            self.wire.add_client(f"c{number}")
        self.advertise(setting.advertisement)
        zones = ("a", "b", "c")
        for number, name in enumerate(self.hosts):
            labels = {"zone": zones[number % 3], "kubernetes.io/hostname": name}
            self.api.put(Kind.NODE, name, Node(name, labels))
        for _ in range(setting.services):
            self.create_service()
        self._allocate()
        for host in self.hosts.values():
            host.start(self.random.uniform(0.0, 1.0))

    def tell(self, who: str, what: str) -> None:
        if self.hear is not None:
            self.hear(f"{self.heap.now:9.3f} {who:8} {what}")

    @property
    def healthy(self) -> bool:
        """Whether nothing is broken, and everybody knows what there is to know."""
        wire, api = self.wire, self.api
        return (
            self.heap.now - self.disturbed_at > KNOWN_S
            and wire.whole
            and not wire.loss
            and not api.trouble
            and all(api.reaches(name) for name in self.hosts)
            and all(host.serves or host.leaves for host in self.hosts.values())
        )

    def disturb(self, who: str, what: str) -> None:
        self.disturbed_at = self.heap.now
        self.tell(who, what)

    def hush(self, still: bool) -> None:
        """From now on, while all is well, hellos are taken for granted; or they are said again."""
        if still and not self.still:
            self._still_since = self.heap.now
        elif self.still and not still:
            for host in self.hosts.values():
                if host.program is not None and host.program.answerer is not None:
                    host.program.answerer.skip((self.heap.now - self._still_since) * host.rate)
        self.still = self.api.still = still

    def run(self, seconds: float) -> None:
        """Time passes; the watch looks four times a second, if anything is going on."""
        end = self.heap.now + seconds
        while self.heap.now < end:
            self.heap.run_until(min(self.heap.now + (1.0 if self.still else 0.25), end))
            self.watch.look()

    # -- the API's objects --

    @property
    def config(self) -> Config:
        value = self.api.objects[Kind.CONFIG][""]
        assert isinstance(value, ConfigSet)
        return value.config

    def advertise(self, *ads: L2Advertisement) -> None:
        self.disturb("config", "; ".join(map(_described, ads)) or "nothing is advertised")
        config = Config((POOL,), ads, link_policies=(self.setting.policy,))
        self.api.put(Kind.CONFIG, "", ConfigSet(config))

    @property
    def services(self) -> dict[str, Service]:
        return self.api.objects[Kind.SERVICE]  # type: ignore[return-value]

    def create_service(self, *, local: bool = False, on: Iterable[str] | None = None) -> str:
        self._serial += 1
        key = f"default/s{self._serial}"
        self.disturb("user", f"creates {key}{' (Local)' if local else ''}")
        self.set_endpoints(key, self.hosts if on is None else on)
        created = f"2026-01-01T00:{self._serial // 60:02d}:{self._serial % 60:02d}Z"
        self.api.put(Kind.SERVICE, key, service(key, local=local, created=created))
        self._allocate_soon()
        return key

    def delete_service(self, key: str) -> None:
        held = ", ".join(map(str, self.services[key].held))
        self.disturb("user", f"deletes {key}, which holds {held or 'nothing'}")
        self.api.put(Kind.SERVICE, key, None)
        self.heap.after(self.random.uniform(0.0, 0.3), self.api.put, Kind.ENDPOINT_SLICE, f"{key}-1", None)
        self.slices.pop(key, None)
        self._allocate_soon()

    def set_endpoints(self, key: str, nodes: Iterable[str]) -> None:
        self.slices[key] = frozenset(nodes)
        self.disturb("pods", f"of {key} are on {', '.join(sorted(self.slices[key])) or 'no node'}")
        endpoints = tuple(Endpoint(node) for node in sorted(self.slices[key]))
        self.api.put(Kind.ENDPOINT_SLICE, f"{key}-1", EndpointSlice(f"{key}-1", key, endpoints))

    def set_local(self, key: str, local: bool) -> None:
        self.disturb("user", f"makes {key} {'Local' if local else 'Cluster'}")
        self.api.put(Kind.SERVICE, key, replace(self.services[key], local=local))

    def change_node(self, name: str, **fields: object) -> None:
        node = self.api.objects[Kind.NODE][name]
        assert isinstance(node, Node)
        self.disturb("user", f"{name}: {fields}")
        self.api.put(Kind.NODE, name, replace(node, **fields))  # type: ignore[arg-type]

    def _allocate_soon(self) -> None:
        if not self._allocating:
            self._allocating = True
            self.heap.after(self.random.uniform(0.05, 0.5), self._allocate)

    def _allocate(self) -> None:
        """What the controller does: every Service gets what the pass says."""
        self._allocating = False
        if self.api.down:
            self._allocate_soon()
            return
        services = dict(self.services)
        for key, result in allocate((POOL,), services.values()).items():
            ips = result.ips if isinstance(result, Allocation) else ()
            if services[key].held != ips:
                self.disturb("control", f"gives {key} {', '.join(map(str, ips)) or 'nothing'}")
                held = replace(services[key], held=ips, given=ips, held_pool=POOL.name)
                self.api.put(Kind.SERVICE, key, held)

    # -- what happens --

    def split(self, *groups: Iterable[str]) -> None:
        """Only those of one group hear each other; whoever is in none is with the first."""
        parts = [set(group) for group in groups]
        everybody = {*self.hosts, *self.wire.clients, "gateway"}
        parts[0] |= everybody - set().union(*parts)
        # Who is on the side of all nodes but one hears whatever an owner says that is not cut off itself.
        most = {
            n for part in parts if len(part & self.hosts.keys()) >= max(len(self.hosts) - 1, 2) for n in part
        }
        self.wire.misses |= self.wire.clients.keys() - most
        for number, part in enumerate(parts):
            for other in parts[number + 1 :]:
                self.disturb("segment", f"{_names(part)} | {_names(other)}")
                self.wire.split(part, other)

    def deafen(self, speaker: str, hearers: Iterable[str]) -> None:
        hearers = list(hearers)
        self.disturb("segment", f"{speaker} is not heard by {_names(hearers)}")
        self.wire.deafen([speaker], hearers)

    def heal(self) -> None:
        self.disturb("segment", "is whole")
        self.wire.heal()

    def cut_api(self, nodes: Iterable[str]) -> None:
        nodes = list(nodes)
        self.disturb("api", f"cannot be reached by {_names(nodes)}")
        self.api.cut(nodes)

    def mend_api(self, nodes: Iterable[str] | None = None) -> None:
        nodes = list(self.hosts if nodes is None else nodes)
        self.disturb("api", f"can be reached by {_names(nodes)}")
        self.api.mend(nodes)

    def api_down(self) -> None:
        self.disturb("api", "is down")
        self.api.go_down()

    def api_up(self) -> None:
        self.disturb("api", "is up")
        self.api.down = False

    def calm(self) -> None:
        """Everything is mended, and everybody runs."""
        self.disturb("calm", "begins")
        self.heal()
        self.mend_api()
        self.api_up()
        self.api.trouble = 0.0
        self.wire.loss = self.wire.copies = 0.0
        for host in self.hosts.values():
            host.plug(True)
            host.wake()
            host.power_on()
            if host.program is None:
                host.start(1.0)
        for name, node in list(self.api.objects[Kind.NODE].items()):
            if isinstance(node, Node) and not node.ready:
                self.change_node(name, ready=True)

    # -- what is, and what ought to be --

    def answering(self) -> dict[Address, list[str]]:
        """Who answers for which IP."""
        found: dict[Address, list[str]] = {}
        for name, host in self.hosts.items():
            for ip in host.answering:
                found.setdefault(IPv4Address(ip), []).append(name)
        return found

    @property
    def pins(self) -> dict[Address, Pin]:
        """Those that count, by the rule of `Pin`; of two with the same term that of the first author."""
        found: dict[Address, Pin] = {}
        for _, pins in sorted(self.api.objects[Kind.PINS].items()):
            assert isinstance(pins, Pins)
            for ip, pin in pins.pins.items():
                if ip not in found or found[ip].term < pin.term:
                    found[ip] = pin
        return found

    def truth(self) -> dict[Address, L2Announcement]:
        """Who ought to answer for which IP, were all things known to everybody, and all nodes alive."""
        nodes: dict[str, Node] = self.api.objects[Kind.NODE]  # type: ignore[assignment]
        slices = self.api.objects[Kind.ENDPOINT_SLICE].values()
        endpoints = {s.service: s.endpoints for s in slices if isinstance(s, EndpointSlice)}
        networks = (IPv4Interface("10.0.0.0/16").network,)
        links = {name: (MemberLink("eth0", host.mac, networks),) for name, host in self.hosts.items()}
        snapshot = Snapshot(
            self.config, self.services, endpoints, nodes, {}, frozenset(self.hosts), links, pins=self.pins
        )
        return l2(snapshot, holders(self.services.values()))[0]

    def owner(self, ip: str) -> str:
        return self.truth()[ip_address(ip)].owner


def _names(names: Iterable[str]) -> str:
    return " ".join(sorted(names)) or "nobody"


def _described(ad: L2Advertisement) -> str:
    words = [ad.name, f"failback {ad.failback}", f"onCordon {ad.on_cordon}"]
    if ad.scope.node_selectors:
        words.append(f"on {ad.scope.node_selectors}")
    if ad.preferences:
        words.append(f"preferring {ad.preferences}")
    return ", ".join(words)
