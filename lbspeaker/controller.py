"""The controller: gives services their IPs, and speakers their configuration.

    API server ─changes─▶ inbox ─▶ core.controller ─▶ Assign ──▶ one patch of services/status, by 16 writers
                                                   ─▶ Tell ────▶ events, rationed
                                                   ─▶ Publish ─▶ the EffectiveConfiguration

One loop owns the decider; writers report into the same inbox. Everything it knows is in the API, so it may
be killed at any time.
"""

import asyncio
import contextlib
import json
import signal
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import structlog

from lbspeaker.core import controller as core
from lbspeaker.events import Events
from lbspeaker.ledger import Ledger
from lbspeaker.model import Allocation, Change, ConfigSet, Kind, Refusal, Service, Synced
from lbspeaker.observe import from_api, from_files
from lbspeaker.shell.apiserver import ApiError, ApiServer, credentials
from lbspeaker.wire import kube

WRITERS = 16  # as many as reach the API server's own bound; more only make everybody wait
RETRY_S = 0.5
SETTLE_S = 0.3  # until a refusal is told
NEWS_S, MOST_NEWS = (
    0.1,
    100,
)  # what was allocated within that time is logged together, past that many as a count
KINDS = (Kind.SERVICE, Kind.NAMESPACE, Kind.CONFIG)


@dataclass(frozen=True, slots=True)
class Options:
    """How to run. Either an API server (`kubeconfig`, or in-cluster), or a directory of documents."""

    kubeconfig: str | None = None
    context: str | None = None
    namespace: str = "lbspeaker-system"
    group: str = "lbspeaker.io"
    directory: Path | None = None
    load_balancer_class: str | None = None


@dataclass(frozen=True, slots=True)
class Done:
    """A write was done."""

    assign: core.Assign


@dataclass(frozen=True, slots=True)
class Failed:
    """A write did not happen."""

    assign: core.Assign


async def run(options: Options) -> None:
    """Run until told to end (SIGTERM, SIGINT). Raises Unable where it cannot begin."""
    work = asyncio.ensure_future(_work(options))
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, work.cancel)
    with contextlib.suppress(asyncio.CancelledError):
        await work


async def _work(options: Options) -> None:
    if options.directory is not None:
        await _run_from_files(options.directory, options)
        return
    api = ApiServer(credentials(options.kubeconfig, options.context), "controller", WRITERS)
    async with api:
        await Program(api, options).run()


async def _run_from_files(directory: Path, options: Options) -> None:
    """Without an API server: allocate what the documents say, and keep it in the ledger."""
    ledger = Ledger(directory, options.load_balancer_class)
    inbox: asyncio.Queue[Change | Synced] = asyncio.Queue()
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(from_files(directory, inbox.put_nowait))
        while True:
            for change in await _batch(inbox):
                ledger.observe(change)
            ledger.advance()


class Program:
    """The controller of one cluster."""

    def __init__(self, api: ApiServer, options: Options) -> None:
        self._api = api
        self._options = options
        self._core = core.Controller(options.load_balancer_class)
        self._log: Any = structlog.get_logger()
        self._inbox: asyncio.Queue[Change | Synced | Done | Failed] = asyncio.Queue()
        self._writes: asyncio.Queue[core.Assign] = asyncio.Queue()
        self._unpublished = ""  # why, as it was told last
        self._news: list[tuple[Service, Allocation]] = []
        self._events = Events(api, "lbspeaker-controller", "lbspeaker-controller")
        self._config: asyncio.Queue[ConfigSet] = asyncio.Queue()

    async def run(self) -> None:
        self._log.info("starting", program="controller", api=self._api.host)
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
            tasks.create_task(self._publish_all())
            tasks.create_task(self._events.run())
            for _ in range(WRITERS):
                tasks.create_task(self._write_all())
            while True:
                self._take(await _batch(self._inbox))

    def _take(self, batch: list[Change | Synced | Done | Failed]) -> None:
        """One turn: note what is new, decide, and hand out the work."""
        for item in batch:
            if isinstance(item, Done):
                self._core.written(item.assign)
            elif isinstance(item, Failed):
                self._core.failed(item.assign)
            else:
                self._core.observe(item)
        for effect in self._core.advance():
            if isinstance(effect, core.Assign):
                self._writes.put_nowait(effect)
            elif isinstance(effect, core.Tell):
                later = asyncio.get_running_loop().call_later
                later(SETTLE_S, self._refused, effect.service, effect.refusal)
            else:
                self._config.put_nowait(effect.config)

    # -- the status of services --

    async def _write_all(self) -> None:
        while True:
            await self._write(await self._writes.get())

    async def _write(self, assign: core.Assign) -> None:
        service = assign.service
        path = f"/api/v1/namespaces/{service.namespace}/services/{service.name}/status"
        body = kube.allocation_patch(service, assign.allocation)
        try:
            await self._api.request("PATCH", path, body=body)
        except ApiError as error:
            self._not_written(assign, error)
            return
        self._inbox.put_nowait(Done(assign))
        self._allocated(service, assign.allocation)

    def _not_written(self, assign: core.Assign, error: ApiError) -> None:
        """Decide anew, after the watch had time to tell what a conflict (409) or a 404 was about."""
        if error.status not in (404, 409):
            self._log.warning("unwritten", service=assign.service.key, why=error.what, retry_s=RETRY_S)
        asyncio.get_running_loop().call_later(RETRY_S, self._inbox.put_nowait, Failed(assign))

    def _allocated(self, service: Service, allocation: Allocation | None) -> None:
        if allocation is None:
            self._log.info("released", service=service.key)
            return
        if not self._news:
            asyncio.get_running_loop().call_later(NEWS_S, self._log_allocated)
        self._news.append((service, allocation))
        ips = ", ".join(map(str, allocation.ips))
        self._events.tell(service, "Normal", "Allocated", f"allocated {ips} from pool {allocation.pool}")

    def _log_allocated(self) -> None:
        """A line for each service; for very many at once, one for all."""
        news, self._news = self._news, []
        if len(news) > MOST_NEWS:
            pools = ",".join(sorted({allocation.pool for _, allocation in news}))
            self._log.info("allocated", count=len(news), pools=pools, waiting=self._writes.qsize())
            return
        for service, allocation in news:
            ips = ",".join(map(str, allocation.ips))
            self._log.info("allocated", service=service.key, ips=ips, pool=allocation.pool)

    def _refused(self, service: Service, refusal: Refusal) -> None:
        """Tell a refusal that still stands: who applies a pool and a service together need not hear of it."""
        result = self._core.allocations.get(service.key)
        if (result.note if isinstance(result, Allocation) else result) != refusal:
            return
        self._log.warning("refused", service=service.key, reason=refusal.reason.value, why=refusal.message)
        self._events.tell(service, "Warning", refusal.reason.value, refusal.message)

    # -- the effective configuration --

    async def _publish_all(self) -> None:
        while True:
            config = await self._config.get()
            while not self._config.empty():
                config = self._config.get_nowait()
            for problem in config.problems:
                event = "config-wrong" if problem.severity == "error" else "config-doubtful"
                fields = {"object": problem.object, "path": problem.path, "what": problem.what}
                fields["hint"] = problem.hint
                self._log.warning(event, **{name: value for name, value in fields.items() if value})
            self._unpublished = ""
            while self._config.empty() and not await self._publish(config):
                await asyncio.sleep(RETRY_S)

    async def _publish(self, config: ConfigSet) -> bool:
        """Write the effective configuration if it differs from what is there; False: try again."""
        base = f"/apis/lbspeaker.io/v1beta1/namespaces/{self._options.namespace}/effectiveconfigurations"
        body = kube.effective_configuration(config.documents)
        try:
            present = await self._present(f"{base}/{kube.EFFECTIVE_NAME}")
            if present is None:
                await self._api.request("POST", base, body=body)
            elif present != json.loads(body)["spec"]:
                await self._api.request("PATCH", f"{base}/{kube.EFFECTIVE_NAME}", body=body)
            else:
                return True
        except ApiError as error:
            if error.what != self._unpublished:
                self._log.warning("config-unpublished", why=error.what, retry_s=RETRY_S)
            self._unpublished = error.what
            return False
        pools = len(config.config.pools)
        self._log.info("config", documents=len(config.documents), pools=pools, problems=len(config.problems))
        return True

    async def _present(self, path: str) -> object | None:
        try:
            present: dict[str, object] = json.loads(await self._api.request("GET", path))
            return present.get("spec")
        except ApiError as error:
            if error.status == 404:
                return None
            raise


async def _batch(inbox: asyncio.Queue[Any]) -> list[Any]:
    """Wait for something, and take everything that is there with it."""
    items = [await inbox.get()]
    with contextlib.suppress(asyncio.QueueEmpty):
        while True:
            items.append(inbox.get_nowait())
    return items
