"""The controller: gives services their IPs, and speakers their configuration.

    API server ─changes─▶ inbox ─▶ core.controller ─▶ Assign, Tell, Tidy ─▶ services/status, events
                                                   ─▶ Report, Protect ────▶ configuration objects
                                                   ─▶ Publish ────────────▶ the EffectiveConfiguration
                               at each turn's beginning, if missing ──────▶ the Secret of speakers' hellos

One loop owns the decider; writers report into the same inbox. Everything it knows is in the API, so it may
be killed at any time. Of several controllers one acts (`leading`); each turn begins with nothing.
"""

import asyncio
import contextlib
import os
import signal
import socket
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import structlog

from lbspeaker.core import controller as core
from lbspeaker.core.patience import RETRY_S, Patience
from lbspeaker.core.services import condition_of
from lbspeaker.errors import Unable
from lbspeaker.events import Events
from lbspeaker.leading import LeadershipLost, Leading
from lbspeaker.ledger import Ledger
from lbspeaker.measuring import Acting, Front, Meter
from lbspeaker.model import Allocation, Change, Condition, Kind, Reason, Refusal, Service, Synced
from lbspeaker.observe import from_api, from_files
from lbspeaker.page import serving
from lbspeaker.publishing import Publishing
from lbspeaker.shell import http
from lbspeaker.shell.apiserver import ApiError, ApiServer, credentials
from lbspeaker.wire import kube

WRITERS = 16  # as many as reach the API server's own bound; more only make everybody wait
WRITTEN_S = 1.0  # how long writes under way are waited for at the end of a turn
SETTLE_S = 0.3  # until a refusal is told
NEWS_S, MOST_NEWS = 0.1, 100  # allocated within that time is logged together, past that many as a count
KINDS = (Kind.SERVICE, Kind.NAMESPACE, Kind.NODE, Kind.CONFIG)


@dataclass(frozen=True, slots=True)
class Options:
    """How to run. Either an API server (`kubeconfig`, or in-cluster), or a directory of documents."""

    kubeconfig: str | None = None
    context: str | None = None
    namespace: str = "lbspeaker-system"
    group: str = "lbspeaker.io"
    directory: Path | None = None
    load_balancer_class: str | None = None
    metrics: tuple[str, int] | None = None
    metrics_compat: bool = False  # those of MetalLB, too
    page: tuple[str, int] | None = None
    page_token: Path | None = None

    def shown(self) -> serving.Options | None:
        """Where the status page is, if it is to be. Raises Unable where it cannot, or all could see it."""
        if self.page is None:
            if self.page_token is not None:
                raise Unable("--page-token without a page", "say where it is: --page [HOST]:PORT")
            return None
        if self.directory is not None:
            raise Unable("the page shows a cluster, and --config is none", "leave --page out")
        found = serving.Options(self.kubeconfig, self.context, self.namespace, self.page, self.page_token)
        serving.door(found)
        return found


@dataclass(frozen=True, slots=True)
class Done:
    """A write was done."""

    effect: core.Assign


@dataclass(frozen=True, slots=True)
class Failed:
    """A write did not happen."""

    effect: core.Effect


@dataclass(frozen=True, slots=True)
class Note:
    """Write the condition of a service, which was decided as `tell`."""

    tell: core.Tell
    service: Service
    condition: Condition | None


Item = Change | Synced | Done | Failed | None


async def run(options: Options) -> None:
    """Run until told to end (SIGTERM, SIGINT). Raises Unable where it cannot begin."""
    work = asyncio.ensure_future(_work(options))
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, work.cancel)
    with contextlib.suppress(asyncio.CancelledError):
        await work


async def _work(options: Options) -> None:
    shown = options.shown()
    if options.directory is not None:
        await _run_from_files(options.directory, options)
        return
    access = credentials(options.kubeconfig, options.context)
    # The Lease has a connection of its own: it must not stand in line behind slow writes.
    async with ApiServer(access, "controller", WRITERS) as api, ApiServer(access, "controller", 1) as own:
        await _take_turns(api, own, options, shown)


async def _run_from_files(directory: Path, options: Options) -> None:
    """Without an API server: allocate what the documents say, and keep it in the ledger."""
    ledger = Ledger(directory, options.load_balancer_class)
    inbox: asyncio.Queue[Change | Synced] = asyncio.Queue()
    meter = Meter("controller")
    front = Front(meter, lambda: "", compat=options.metrics_compat)
    front.acting = Acting(ledger.controller, time.time(), counts=ledger.counts)
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(from_files(directory, inbox.put_nowait))
        tasks.create_task(_serve(front, options.metrics))
        while True:
            changes = await _batch(inbox)
            began = time.monotonic()
            for change in changes:
                meter.observe(change, began)
                ledger.observe(change)
            ledger.advance()
            meter.turned(began)


async def _serve(front: Front, address: tuple[str, int] | None) -> None:
    """Serve what `front` says; what it does is worth more than what it says of that."""
    if address is not None:
        try:
            await http.serve(front.pages(), None, address)
        except Unable as error:
            log: Any = structlog.get_logger()
            log.error("metrics-unserved", why=error.what, hint=error.hint)


async def _show(page: serving.Options) -> None:
    """Serve the status page, if it can be."""
    try:
        await serving.serve(page)
    except Unable as error:
        log: Any = structlog.get_logger()
        log.error("page-unserved", why=error.what, hint=error.hint)


async def _take_turns(
    api: ApiServer, own: ApiServer, options: Options, shown: serving.Options | None
) -> None:
    """Act while it is our turn, and wait for it otherwise."""
    log: Any = structlog.get_logger()
    log.info("starting", program="controller", api=api.host)
    # A pod's name is its own, also after its container was restarted; else the process is.
    identity = os.environ.get("POD_NAME") or f"{socket.gethostname()}_{os.getpid()}"
    leading = Leading(own, options.namespace, identity)
    meter = Meter("controller", api, own)
    front = Front(meter, lambda: leading.trouble, compat=options.metrics_compat)
    beside = [asyncio.create_task(_serve(front, options.metrics))]
    if shown is not None:
        beside.append(asyncio.create_task(_show(shown)))
    try:
        while True:
            await leading.acquire()
            log.info("leading", identity=identity)
            program = Program(api, options, leading, meter)
            front.acting = program.acting()
            try:
                async with asyncio.TaskGroup() as tasks:
                    tasks.create_task(leading.hold())
                    tasks.create_task(program.run())
            except* LeadershipLost as lost:
                log.warning("leadership-lost", why=str(lost.exceptions[0]))
            front.acting = None
    finally:
        for task in beside:
            task.cancel()
        await leading.release()


class Program:
    """The controller of one cluster, for one turn."""

    def __init__(self, api: ApiServer, options: Options, leading: Leading, meter: Meter) -> None:
        self._api = api
        self._options = options
        self._leading = leading
        self._meter = meter
        self._log: Any = structlog.get_logger()
        self._core = core.Controller(options.load_balancer_class)
        self._inbox: asyncio.Queue[Item] = asyncio.Queue()
        self._writes: asyncio.Queue[core.Assign | core.Tidy | Note] = asyncio.Queue()
        self._writing: set[asyncio.Future[None]] = set()
        self._patience = Patience()  # with writes, by service
        self._news: list[tuple[Service, Allocation]] = []
        self._events = Events(api, "lbspeaker-controller", "lbspeaker-controller")
        self._publishing = Publishing(api, options.namespace, lambda e: self._inbox.put_nowait(Failed(e)))
        # What each service was told last: its uid, whether it has an IP, and the refusal.
        self._refusals: dict[str, tuple[str, str, Refusal]] = {}
        self._serving = False
        self._alarm: asyncio.TimerHandle | None = None

    def acting(self) -> Acting:
        """What is to be asked about this turn, which begins."""
        self._meter.begin()
        self._meter.counts["leaderships", ""] += 1
        return Acting(self._core, time.time(), self._writes.qsize, lambda: self._publishing.published)

    async def run(self) -> None:
        try:
            await self._run()
        finally:
            if self._writing:
                await asyncio.wait(self._writing, timeout=WRITTEN_S)

    async def _run(self) -> None:
        options = self._options
        async with asyncio.TaskGroup() as tasks:
            observing = from_api(
                self._api,
                KINDS,
                self._inbox.put_nowait,
                namespace=options.namespace,
                group=options.group,
                effective=False,
            )
            tasks.create_task(observing)
            tasks.create_task(self._publishing.run())
            tasks.create_task(self._events.run())
            for _ in range(WRITERS):
                tasks.create_task(self._write_all())
            while True:
                self._take(await _batch(self._inbox))
                self._wake()

    def _wake(self) -> None:
        """Have a turn when something is due, also if nothing is told until then."""
        if self._alarm is not None:
            self._alarm.cancel()
        due = self._core.next_wakeup()
        if due is not None:
            put = self._inbox.put_nowait
            self._alarm = asyncio.get_running_loop().call_later(max(due - time.time(), 0.0), put, None)

    def _take(self, batch: list[Item]) -> None:
        """One turn of the loop: note what is new, decide, and hand out the work."""
        began = time.monotonic()
        for item in batch:
            if isinstance(item, Done):
                self._core.written(item.effect)
            elif isinstance(item, Failed):
                self._core.failed(item.effect)
            elif item is not None:
                self._meter.observe(item, began)
                self._core.observe(item)
        for effect in self._core.advance(time.time()):
            self._hand_out(effect)
        self._publishing.doubt(self._core.doubts)
        if self._core.ready and not self._serving:
            self._serving = True
            self._log.info("serving", services=len(self._core.results), namespace=self._options.namespace)
        self._meter.turned(began)

    def _hand_out(self, effect: core.Effect) -> None:
        if isinstance(effect, core.Assign | core.Tidy):
            if isinstance(effect, core.Tidy) or (effect.allocation and not effect.allocation.note):
                self._refusals.pop(effect.service.key, None)
                self._events.withdraw(effect.service)
            self._writes.put_nowait(effect)
        elif isinstance(effect, core.Tell):
            asyncio.get_running_loop().call_later(SETTLE_S, self._refused, effect)
        elif isinstance(effect, core.Mention):
            refusal = effect.refusal
            self._events.tell(effect.service, "Normal", refusal.reason.value, refusal.message, once=True)
        elif isinstance(effect, core.Publish):
            self._publishing.publish(effect.config)
        else:
            self._publishing.report(effect)

    # -- the status of services --

    async def _write_all(self) -> None:
        while True:
            effect = await self._writes.get()
            if not self._leading.leads:
                self._decide_anew(effect, RETRY_S)  # unless the turn is over
                continue
            writing = asyncio.ensure_future(self._write(effect))
            self._writing.add(writing)
            writing.add_done_callback(self._writing.discard)
            try:
                await asyncio.shield(writing)  # what the server may have got already is waited for
                self._patience.done(effect.service.key)
            except ApiError as error:
                self._not_written(effect, error)

    async def _write(self, effect: core.Assign | core.Tidy | Note) -> None:
        service = effect.service
        path = f"/api/v1/namespaces/{service.namespace}/services/{service.name}/status"
        if isinstance(effect, core.Assign):
            allocation = effect.allocation
            condition = condition_of(allocation) if allocation else service.condition
            body = kube.allocation_patch(service, allocation, condition, time.time())
        elif isinstance(effect, Note):
            body = kube.condition_patch(service, effect.condition, time.time())
        else:
            body = kube.tidy_patch(service)
        await self._api.request("PATCH", path, body=body)
        if isinstance(effect, core.Assign):
            self._inbox.put_nowait(Done(effect))
            self._allocated(service, effect.allocation)

    def _not_written(self, effect: core.Assign | core.Tidy | Note, error: ApiError) -> None:
        """Decide anew, after the watch had time to tell what a conflict (409) or a 404 was about."""
        told_elsewhere = error.status in (404, 409)
        if isinstance(effect, core.Tidy) and told_elsewhere:
            return  # it is gone, or another one
        key = effect.service.key
        self._meter.counts["unwritten", ""] += not told_elsewhere
        retry_s, is_news = self._patience.failed(key, error.what)
        if is_news and not told_elsewhere:
            self._log.warning("unwritten", service=key, why=error.what, retry_s=retry_s)
        self._decide_anew(effect, retry_s)

    def _decide_anew(self, effect: core.Assign | core.Tidy | Note, after_s: float) -> None:
        later = asyncio.get_running_loop().call_later
        if isinstance(effect, core.Tidy):
            later(after_s, self._writes.put_nowait, effect)
        else:
            later(
                after_s, self._inbox.put_nowait, Failed(effect.tell if isinstance(effect, Note) else effect)
            )

    def _allocated(self, service: Service, allocation: Allocation | None) -> None:
        if allocation is None:
            self._meter.counts["releases", ""] += 1
            self._log.info("released", service=service.key)
            return
        if allocation.ips == service.held:
            return  # what was written is beside the IPs
        self._meter.counts["allocations", ""] += 1
        if not self._news:
            asyncio.get_running_loop().call_later(NEWS_S, self._log_allocated)
        self._news.append((service, allocation))
        ips = ", ".join(map(str, allocation.ips))
        instead = f", instead of {', '.join(map(str, service.held))}" if service.held else ""
        message = f"allocated {ips} from pool {allocation.pool}{instead}"
        self._events.tell(service, "Normal", "Allocated", message)

    def _log_allocated(self) -> None:
        """A line for each service; for very many at once, one for all."""
        news, self._news = self._news, []
        if len(news) > MOST_NEWS:
            pools = ",".join(sorted({pool for _, allocation in news for pool in allocation.pools}))
            self._log.info("allocated", count=len(news), pools=pools, waiting=self._writes.qsize())
            return
        for service, allocation in news:
            ips = ",".join(map(str, allocation.ips))
            self._log.info("allocated", service=service.key, ips=ips, pool=allocation.pool)

    def _refused(self, tell: core.Tell) -> None:
        """Tell a refusal that still stands: who applies a pool and a service together need not hear of it."""
        service = self._core.service(tell.service.key)
        refusal = self._core.refusal(tell.service.key)
        if service is None or refusal is None or refusal != tell.refusal:
            return
        condition = self._core.condition(service.key)
        said = (service.uid, condition.status if condition else "", refusal)
        if self._refusals.get(service.key) != said:  # else only its condition was not written
            self._refusals[service.key] = said
            reason, why = refusal.reason.value, refusal.message
            self._meter.counts["refusals", reason] += 1
            self._log.warning("refused", service=service.key, reason=reason, why=why)
            has = condition is not None and condition.status == "True"
            fine = has and refusal.reason is Reason.NO_POOL_FOR_FAMILY  # PreferDualStack, with what there is
            self._events.tell(service, "Normal" if fine else "Warning", reason, why)
        if service.condition != condition:
            self._writes.put_nowait(Note(tell, service, condition))


async def _batch(inbox: asyncio.Queue[Any]) -> list[Any]:
    """Wait for something, and take everything that is there with it."""
    items = [await inbox.get()]
    with contextlib.suppress(asyncio.QueueEmpty):
        while True:
            items.append(inbox.get_nowait())
    return items
