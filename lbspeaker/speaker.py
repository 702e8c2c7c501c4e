"""The speaker of one node: announces what the node owns.

    API server ─changes─▶ ┌───────┐                        ┌─▶ answerer (own process): ARP, NDP, guarded
    kernel ──────links──▶ │ inbox │ ─▶ core.speaker ───────┼─▶ one ExaBGP child per peer
    answerer ──reports──▶ └───────┘    (one loop owns it)  └─▶ Lease, events, log
    children ───status──▶

SIGTERM drains: it leaves the elections, keeps answering until the next owners are heard, and then withdraws.
"""

import asyncio
import contextlib
import errno
import hashlib
import json
import signal
import socket
import time
from collections import Counter
from collections.abc import Coroutine, Iterator
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, Literal

import structlog
from prometheus_client.core import Metric

from lbspeaker import __version__, detecting
from lbspeaker.answering.child import Steady
from lbspeaker.answering.layer2 import Layer2
from lbspeaker.bgp import BGP, Word, unusable_row
from lbspeaker.core import speaker as core
from lbspeaker.core.announce import Release, SetPeer, SetRoutes, peers_of
from lbspeaker.core.lifecycle import State
from lbspeaker.errors import Unable, Unavailable
from lbspeaker.events import Events
from lbspeaker.ledger import Ledger
from lbspeaker.measuring import Meter, is_ready, pages
from lbspeaker.model import (
    Change,
    ConfigSet,
    Kind,
    Link,
    Synced,
)
from lbspeaker.observe import from_api, from_files
from lbspeaker.reporting import Reporting
from lbspeaker.shell import http, links, place
from lbspeaker.shell.apiserver import ApiError, ApiServer, credentials
from lbspeaker.shell.packet import ETH_P_ARP, open_link
from lbspeaker.wire import bpf, kube, metrics_metallb, metrics_speaker, orders, status, watch
from lbspeaker.wire.measures import OfSpeaker

KINDS = (Kind.SERVICE, Kind.ENDPOINT_SLICE, Kind.NODE, Kind.LEASE, Kind.SECRET, Kind.CONFIG)
CONNECTIONS = 4
PINS_RETRY_S = 2.0
ALONE_EVERY_S = 0.2
STARTS_S = 5.0  # who is not ready after this says why
RENEWAL_TIMEOUT_S = 1.2  # so that one lost request does not cost the Lease


@dataclass(frozen=True, slots=True)
class Options:
    """How to run. Either an API server (`kubeconfig`, or in-cluster), or a directory of documents."""

    node: str
    guard: str = "standard"
    kubeconfig: str | None = None
    context: str | None = None
    namespace: str = "lbspeaker-system"
    directory: Path | None = None
    load_balancer_class: str | None = None
    runtime_dir: Path = Path("/run/lbspeaker")
    metrics: tuple[str, int] | None = None
    metrics_compat: bool = False  # those of MetalLB, too
    layer2: bool = True  # False: BGP alone


class Drain:
    """Somebody wants the speaker to end."""


Item = Change | Synced | tuple[Link, ...] | orders.Report | Steady | detecting.Heard | Word | Drain


async def run(options: Options) -> None:
    """Run until drained (SIGTERM, SIGINT), or cancelled. Raises Unable where it cannot begin."""
    if options.layer2:
        # Without the permission it must not even be a candidate: it would own IPs and answer for none.
        open_link("lo", ETH_P_ARP, bpf.nothing()).close()
    with await _alone(options.node):
        if options.directory is not None:
            await Program(options, None).run()
            return
        api = ApiServer(credentials(options.kubeconfig, options.context), "speaker", CONNECTIONS)
        async with api:
            await Program(options, api).run()


async def _alone(node: str) -> socket.socket:
    """Wait until no other speaker of `node` runs in this network namespace, and return what says so.

    That is a name which the kernel gives to one process, and takes back when it ends (unix(7), abstract).
    """
    taken = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    name = hashlib.sha256(node.encode()).hexdigest()  # a node's own may be longer than such a name can be
    told = False
    while True:
        try:
            taken.bind(f"\0lbspeaker-speaker-{name}")
        except OSError as error:
            if error.errno != errno.EADDRINUSE:
                raise
            if not told:
                why = "another speaker of this node runs here; this one waits until that has ended"
                structlog.get_logger().warning("another-speaker", node=node, why=why)
            told = True
            await asyncio.sleep(ALONE_EVERY_S)
        else:
            return taken


class Program:
    """The speaker of one node; without an API server, from files."""

    def __init__(self, options: Options, api: ApiServer | None) -> None:
        self._options = options
        self._api = api
        self._log: Any = structlog.get_logger()
        self._inbox: asyncio.Queue[Item] = asyncio.Queue()
        mine = options.load_balancer_class
        self._core = core.Speaker(
            options.node, leases=api is not None, load_balancer_class=mine, layer2=options.layer2
        )
        self._core.can_answer = not options.layer2  # until the answerer runs
        directory = options.directory
        self._ledger = Ledger(directory, mine) if directory else None
        self._layer2 = Layer2(options.node, options.guard, self._core, self, self._inbox.put_nowait)
        self._events = Events(api, "lbspeaker-speaker", options.node) if api else None
        self._meter = Meter("speaker", *([api] if api is not None else []))
        self._bgp = BGP(
            options.node, options.runtime_dir, self, self._spawn, self._inbox.put_nowait, self._core.turn_s
        )
        where = (options.node, options.namespace)
        self._reporting = Reporting(api, *where, self._status, lambda: self._core.uid) if api else None
        self._told: dict[str, set[str]] = {}  # by service: what events were sent
        self._renewals: asyncio.Queue[core.Renew] = asyncio.Queue()
        self._pins_due: asyncio.Queue[core.WritePins] = asyncio.Queue()
        self._tasks: asyncio.TaskGroup
        self._besides: set[asyncio.Task[None]] = set()  # that nothing waits for
        self._unusable: dict[str, str] = {}  # links and peers, and why: each is told once
        self._knows_secrets = False
        self._left = False
        self._started = time.time()

    async def run(self) -> None:
        where = self._api.host if self._api else str(self._options.directory)
        self._log.info("starting", program="speaker", node=self._options.node, source=where)
        place.sweep(self._options.runtime_dir)
        self._catch_signals()
        if self._api is not None:
            self._core.resumed = await self._died_just_now(self._api)
        async with asyncio.TaskGroup() as self._tasks:
            background = [self._tasks.create_task(work) for work in self._background()]
            bgp = self._tasks.create_task(self._bgp.run())
            try:
                while not self._left:
                    await self._turn()
            finally:
                for task in (*background, *self._besides):
                    if not task.cancelling():  # a second time disturbs who is tidying up
                        task.cancel()
            await self._bgp.end()
            bgp.cancel()
        if self._reporting is not None:
            await self._reporting.end()
        if self._api is not None:
            await self._delete_lease(self._api)

    def _background(self) -> list[Any]:
        work: list[Any] = [links.watch(self._inbox.put_nowait), self._serve_status()]
        if self._options.layer2:
            work.append(self._layer2.run())
        if self._api is not None:
            namespace = self._options.namespace
            put = self._inbox.put_nowait
            work.append(from_api(self._api, KINDS, put, namespace=namespace, effective=True))
            work.append(self._renew_all(self._api))
            work.append(self._write_pins(self._api))
        if self._events is not None:
            work.append(self._events.run())
        if self._reporting is not None:
            work.append(self._reporting.run())
        if self._options.directory is not None:
            work.append(from_files(self._options.directory, self._inbox.put_nowait))
        return work

    async def _serve_status(self) -> None:
        served: dict[str, http.Page] = pages(self._families, self._check_ready)
        served["/status"] = ("application/json", lambda: status.build(self._status()))
        socket_path = self._options.runtime_dir / status.SOCKET
        if self._options.metrics is not None:
            try:
                await http.serve(served, socket_path, self._options.metrics)
            except Unable as error:  # what it announces is worth more than what it says of that
                self._log.error("metrics-unserved", why=error.what, hint=error.hint)
        await http.serve(served, socket_path)

    def _families(self) -> Iterator[Metric]:
        """What it says of itself, as metrics."""
        compat, now = self._options.metrics_compat, self._status()
        counts = self._layer2.counts + Counter({("child-restarts", "bfd"): self._bgp.restarts})
        announced = sorted((key, how, str(ip)) for key, how, ip in self._core.announced) if compat else ()
        more = OfSpeaker(
            self._meter.delays(), self._layer2.detection_s, self._core.unannounced, tuple(announced)
        )
        measures = self._meter.value(ready=is_ready(self._check_ready), counts=counts)
        yield from metrics_speaker.speaker(now, measures, more)
        if compat:
            yield from metrics_metallb.speaker(now, measures, more)

    def _check_ready(self) -> None:
        """Raises Unavailable while something is missing that this speaker itself needs to announce."""
        if self._core.state is State.STARTING:
            raise Unavailable(f"it waits for {', '.join(self._core.awaits)}")
        if self._core.state is not State.SERVING:
            raise Unavailable(f"it is {self._core.state}")
        if not self._core.can_answer:
            raise Unavailable("the answerer does not run, or has ended twice within the last minute")
        without_password = self._core.world.without_password()
        for name, why in self._bgp.not_running().items():
            if name not in without_password:
                raise Unavailable(f"ExaBGP does not run for {name}: {why}")

    def _status(self) -> status.Status:
        now, ips = time.monotonic(), self._layer2.ips()
        return status.Status(
            self._options.node,
            __version__,
            self._core.state.value,
            self._started,
            round(self._core.api_silent_s(now), 1),
            self._layer2.members(),
            ips,
            self._layer2.guards(),
            {str(ip): pin.node for ip, pin in self._core.world.pins.items()},
            (
                *self._not_serving(),
                *self._layer2.problems(now, ips),
                *(f"{what}: {why}" for what, why in self._unusable.items()),
                *self._bgp.problems(),
            ),
            self._bgp.bfd_rows(),
            (*self._bgp.rows(), *self._unusable_peers()),
            self._meter.configuration,
            {str(ip): n for ip, n in self._core.moved(now).items() if ip not in self._core.current.owned},
        )

    def _unusable_peers(self) -> Iterator[status.Peer]:
        """Those of this node that have no session for want of their password."""
        lacking = self._core.world.without_password() if self._knows_secrets else {}
        for peer in peers_of(self._core.world.config, self._core.world.labels):
            if peer.name in lacking and not lacking[peer.name].goes_on:
                yield unusable_row(peer, "; ".join(lacking[peer.name][:2]))

    def _not_serving(self) -> list[str]:
        waited_s = time.time() - self._started
        if self._core.state is not State.STARTING or waited_s < STARTS_S:
            return []
        where = self._api.host if self._api else str(self._options.directory)
        awaits = ", ".join(self._core.awaits)
        return [
            f"nothing is announced from here yet: for {waited_s:.0f} s it has waited for {awaits}; does "
            f"{where} answer, and may the speaker read there? See its log"
        ]

    def _catch_signals(self) -> None:
        for number in (signal.SIGTERM, signal.SIGINT):
            asyncio.get_running_loop().add_signal_handler(number, self._inbox.put_nowait, Drain())

    # -- the loop --

    async def _turn(self) -> None:
        """Wait for something, take everything that is there, decide, and act."""
        items = await self._wait()
        before = self._core.state
        now = time.monotonic()
        for item in items:
            self._take(item, now)
        if self._ledger is not None:
            for change in self._ledger.advance():
                self._meter.observe_service(change, now)
                self._core.observe(change, now)
        drained, members = self._core.state, self._core.members
        for effect in self._core.advance(now):
            self._act(effect)
        for earlier, state in ((before, drained), (drained, self._core.state)):
            if state is not earlier:
                self._log.info(state.value, node=self._options.node)
        if self._core.state is State.SERVING and before is State.STARTING and not self._core.knows_itself:
            why = "the cluster has no Node of this name, so nothing is announced from here"
            self._log.error("node-unknown", node=self._options.node, why=why, hint="--node, or $NODE_NAME")
        if self._core.state is State.SERVING and self._knows_secrets:
            self._tell_of_passwords()
        self._layer2.set_members()
        self._meter.turned(now)
        if self._core.members != members:
            self._layer2.lost(members - self._core.members, now)
            there = ",".join(sorted(self._core.members))
            joined = ",".join(sorted(self._core.members - members)) or "-"
            lost = ",".join(sorted(members - self._core.members)) or "-"
            self._log.info("members", joined=joined, lost=lost, members=there)

    def _tell_of_passwords(self) -> None:
        found = self._core.world.without_password()
        for peer, (why, hint, goes_on) in found.items():
            if goes_on:
                why += "; the session goes on with the one before"
            self.unusable("password" if goes_on else "peer", peer, why, hint)
        for what in [w for w in self._unusable if w.startswith(("peer ", "password "))]:
            if what.partition(" ")[2] not in found:
                del self._unusable[what]

    def unusable(self, kind: str, name: str, why: str, hint: str) -> None:
        """Tell that a link, a peer, or the password of one, cannot be used; again only for another reason."""
        what, problem = f"{kind} {name}", f"{why}; {hint}"
        if self._unusable.get(what) == problem:
            return
        self._unusable[what] = problem
        if kind == "link":
            self._log.error("link-unusable", link=name, why=why, hint=hint)
        else:
            event = "peer-unusable" if kind == "peer" else "password-unusable"
            self._log.error(event, peer=name, why=why, hint=hint)
        if kind == "peer":
            self.node_event("PeerDown", f"no BGP session with {name}: {problem}", name)
        elif kind == "password":
            self.node_event("PasswordUnusable", f"BGP session with {name}: {problem}", name)

    def usable(self, kind: str, name: str) -> None:
        self._unusable.pop(f"{kind} {name}", None)

    async def _wait(self) -> list[Item]:
        wakeup = self._core.next_wakeup(time.monotonic())
        timeout = None if wakeup is None else max(wakeup - time.monotonic(), 0.0)
        items: list[Item] = []
        with contextlib.suppress(TimeoutError):
            items.append(await asyncio.wait_for(self._inbox.get(), timeout))
        while not self._inbox.empty():
            items.append(self._inbox.get_nowait())
        return items

    def _take(self, item: Item, now: float) -> None:
        if isinstance(item, Change | Synced):
            self._observe(item, now)
        elif isinstance(item, tuple):
            self._unusable = {w: why for w, why in self._unusable.items() if not w.startswith("link ")}
            self._layer2.set_links(item)
            self._bgp.set_links(item)
        elif isinstance(item, Word | watch.Report | detecting.Ended):
            self._bgp.heard(item)
        elif isinstance(item, Drain):
            self._core.drain(now)
            self._layer2.leave()
        else:
            self._layer2.heard(item, now)

    def _observe(self, item: Change | Synced, now: float) -> None:
        self._meter.observe(item, now)
        if isinstance(item, Change) and isinstance(item.value, ConfigSet):
            self._layer2.set_pools(item.value.config.pools)
        if self._ledger is not None:
            item = self._ledger.observe(item)
        if isinstance(item, Change) and item.kind is Kind.SERVICE and item.value is None:
            self._told.pop(item.key, None)
        self._core.observe(item, now)
        if isinstance(item, Synced) and item.kind is Kind.SECRET:
            self._knows_secrets = True
        if isinstance(item, Change) and item.kind in (Kind.CONFIG, Kind.NODE):
            self._layer2.set_ports()
        elif isinstance(item, Change) and item.kind is Kind.SECRET:
            password = self._core.world.password(f"{self._options.namespace}/{kube.HELLO_SECRET}")
            if password is not None:
                self._layer2.set_password(password)

    def _act(self, effect: core.Effect) -> None:
        if isinstance(effect, core.Announce):
            self._layer2.announce(effect)
        elif isinstance(effect, Release):
            self._layer2.release(effect.ip)
        elif isinstance(effect, SetPeer):
            self._bgp.set_peer(effect.name, effect.peer)
        elif isinstance(effect, SetRoutes):
            self._bgp.set_routes(effect.peer, effect.routes)
        elif isinstance(effect, core.Renew):
            self._renewals.put_nowait(effect)
        elif isinstance(effect, core.WritePins):
            self._pins_due.put_nowait(effect)
            self._log.info(
                "pinned", ips=",".join(f"{ip}@{pin.node}" for ip, pin in effect.pins.items()) or "-"
            )
        elif isinstance(effect, core.Tell):
            self.aside(self._layer2.tell(effect))
        else:
            self._left = True

    # -- the Lease --

    def _lease_path(self, name: str = "") -> str:
        base = f"/apis/coordination.k8s.io/v1/namespaces/{self._options.namespace}/leases"
        return f"{base}/{name}" if name else base

    async def _renew_all(self, api: ApiServer) -> None:
        """Renew when the decider says so; of several renewals that wait, the last one."""
        failing = False
        while True:
            renewal = await self._renewals.get()
            while not self._renewals.empty():
                renewal = self._renewals.get_nowait()
            try:
                await self._renew(api, renewal)
            except ApiError as error:
                if not failing:
                    self._log.warning("lease-unrenewed", why=error.what)
                failing = True
            else:
                if failing:
                    self._log.info("lease-renewed", node=self._options.node)
                    api.reconnect()
                failing = False

    async def _renew(self, api: ApiServer, renewal: core.Renew) -> None:
        node = self._options.node
        body = kube.lease(
            node,
            self._options.namespace,
            time.time(),
            duration_s=core.LEASE_DURATION_S,
            draining=renewal.draining,
            links=renewal.links,
            uid=self._core.uid,
            doubts=renewal.doubts,
        )
        await self._write(api, kube.LEASE_PREFIX + node, body)

    async def _write(self, api: ApiServer, name: str, body: bytes) -> None:
        """Change a Lease, or create it."""
        try:
            await api.request("PATCH", self._lease_path(name), body=body, timeout_s=RENEWAL_TIMEOUT_S)
        except ApiError as error:
            if error.status != 404:
                raise
            await api.request("POST", self._lease_path(), body=body, timeout_s=RENEWAL_TIMEOUT_S)

    async def _write_pins(self, api: ApiServer) -> None:
        """Write down what the decider wants written down, the last of it, until it is."""
        while True:
            due = await self._pins_due.get()
            while True:
                while not self._pins_due.empty():
                    due = self._pins_due.get_nowait()
                node = self._options.node
                body = kube.pins_lease(node, self._options.namespace, due.pins, self._core.uid)
                try:
                    await self._write(api, kube.PINS_PREFIX + node, body)
                    break
                except ApiError as error:
                    self._log.warning("pins-unwritten", why=error.what, retry_s=PINS_RETRY_S)
                    await asyncio.sleep(PINS_RETRY_S)

    async def _died_just_now(self, api: ApiServer) -> bool:
        """Whether the own Lease, by this node's own clock, has not expired: nobody has taken over then."""
        try:
            path = self._lease_path(kube.LEASE_PREFIX + self._options.node)
            lease = json.loads(await api.request("GET", path, timeout_s=RENEWAL_TIMEOUT_S))
            renewed = datetime.fromisoformat(lease["spec"]["renewTime"]).timestamp()
        except (ApiError, LookupError, TypeError, ValueError):
            return False
        return 0 <= time.time() - renewed < core.LEASE_DURATION_S

    async def _delete_lease(self, api: ApiServer) -> None:
        with contextlib.suppress(ApiError):
            path = self._lease_path(kube.LEASE_PREFIX + self._options.node)
            await api.request("DELETE", path, timeout_s=RENEWAL_TIMEOUT_S)

    def event(self, key: str, kind: Any, reason: str, message: str) -> bool:
        """Tell the user of a service; False: he was told before."""
        service = self._core.service(key)
        told = self._told.setdefault(key, set())
        if service is None or message in told:
            return False
        told.add(message)
        if self._events is not None:
            self._events.tell(service, kind, reason, message)
        return True

    def announced(self, key: str, protocol: Literal["layer2", "bgp"]) -> None:
        self._meter.announced(key, protocol)

    def node_event(self, reason: str, message: str, about: str = "") -> None:
        """Warn whoever looks at the node; of each thing that it is about."""
        if self._events is not None:
            self._events.tell_of_node(self._options.node, reason, message, about)

    def aside(self, work: Coroutine[Any, Any, None]) -> None:
        """Let something be done that nothing waits for, not even the end."""
        task = self._spawn(work)
        self._besides.add(task)
        task.add_done_callback(self._besides.discard)

    def _spawn(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        return self._tasks.create_task(work)
