"""What the programs measure of themselves: counted where it happens, read when somebody scrapes.

    loop ──turns, changes, configuration──▶ Meter ──▶ wire.measures ──▶ wire.metrics ──▶ /metrics
    API server's clients ──requests, errors──▲

A meter lives as long as its program; of a controller, longer than its turns as the leader.
"""

import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Literal

from prometheus_client.core import Metric
from prometheus_client.process_collector import ProcessCollector

from lbspeaker import __version__
from lbspeaker.core.controller import Controller
from lbspeaker.core.measures import TURN_BOUNDS_S, Delays, Protocol, Timing
from lbspeaker.core.usage import outcomes
from lbspeaker.errors import Unavailable
from lbspeaker.model import Change, ConfigSet, Distribution, Kind, Service, Synced
from lbspeaker.shell.apiserver import ApiServer
from lbspeaker.shell.http import Page
from lbspeaker.wire import measures, metrics, metrics_controller, metrics_metallb


class Meter:
    """The measures of one program, and of its clients of the API server."""

    def __init__(self, program: Literal["controller", "speaker"], *apis: ApiServer) -> None:
        self._program: Literal["controller", "speaker"] = program
        self._apis = apis
        self._turns = Timing(TURN_BOUNDS_S)
        self._configured: measures.Configured | None = None
        self._listed: set[Kind] = set()
        self.counts: Counter[measures.Count] = Counter()
        self._delays = Delays()

    def begin(self) -> None:
        """From now on everything is told anew."""
        self._configured, self._listed = None, set()

    def observe(self, item: Change | Synced, now: float) -> None:
        """Take note of what is told of the cluster."""
        if isinstance(item, Synced):
            self._listed.add(item.kind)
            return
        self.counts["changes", item.kind.value] += 1
        if isinstance(item.value, ConfigSet):
            self._configured = measures.configured(item.value, time.time())
        elif item.kind is Kind.SERVICE and self._program == "speaker":
            self.observe_service(item, now)

    def observe_service(self, change: Change, now: float) -> None:
        """The same, of a Service, which need not be news of the cluster."""
        service = change.value
        if isinstance(service, Service):
            listed = Kind.SERVICE not in self._listed
            self._delays.observe(service, _unix(service.created), now, listed=listed)
        else:
            self._delays.forget(change.key)

    def announced(self, key: str, protocol: Protocol) -> None:
        """A Service is announced from here, for the first time."""
        self._delays.announced(key, protocol, time.monotonic(), time.time())

    def delays(self) -> dict[tuple[str, str], Distribution]:
        """How long new Services waited until they were announced, by protocol and since when."""
        return self._delays.value()

    def turned(self, began: float) -> None:
        """A turn of the loop has ended, that began then (monotonic)."""
        self._turns.add(time.monotonic() - began)

    @property
    def configuration(self) -> str:
        """Which configuration is followed, in a word; "": none yet."""
        return self._configured.word if self._configured is not None else ""

    def value(self, *, ready: bool, counts: Mapping[measures.Count, int] | None = None) -> measures.Measures:
        """Return what was measured so far; `counts`: those of others beside."""
        requests: Counter[str] = Counter()
        failures: Counter[tuple[str, str]] = Counter()
        for api in self._apis:
            requests += Counter(api.requests)
            failures += Counter(api.failures)
        return measures.Measures(
            self._program,
            __version__,
            ready,
            self._turns.value(),
            self.counts + Counter(counts or {}),
            requests,
            failures,
            self._configured,
        )


def pages(families: Callable[[], Iterable[Metric]], check: Callable[[], None]) -> dict[str, Page]:
    """What both programs serve: metrics, those of this process as the kernel has them, too; and probes.

    `check` raises Unavailable while the program is not ready.
    """
    process = ProcessCollector(registry=None)

    def content() -> bytes:
        return metrics.text([*families(), *process.collect()])

    def ready() -> bytes:
        check()
        return b"ready\n"

    return {
        "/metrics": (metrics.CONTENT_TYPE, content),
        "/healthz": ("text/plain", lambda: b"alive\n"),
        "/readyz": ("text/plain", ready),
    }


def is_ready(check: Callable[[], None]) -> bool:
    try:
        check()
    except Unavailable:
        return False
    return True


def _unix(created: str) -> float | None:
    """Read a creationTimestamp (RFC 3339); None if there is none."""
    try:
        return datetime.fromisoformat(created).timestamp()
    except ValueError:
        return None


# --- a controller ---------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Acting:
    """A controller's turn: its decider, since when (Unix time), and what else is to be asked then."""

    core: Controller
    since: float
    writes_waiting: Callable[[], int] = lambda: 0
    published: Callable[[], bool] = lambda: True
    counts: Mapping[measures.Count, int] = field(default_factory=dict)


class Front:
    """What a controller says of itself, in its turn (`acting`) and while it stands by.

    `trouble` says what is in the way of standing by; "": nothing.
    """

    def __init__(self, meter: Meter, trouble: Callable[[], str], *, compat: bool) -> None:
        self.acting: Acting | None = None
        self._meter = meter
        self._trouble = trouble
        self._compat = compat

    def pages(self) -> dict[str, Page]:
        return pages(self._families, self._check)

    def _check(self) -> None:
        """Raises Unavailable while it can neither act nor stand by."""
        if self.acting is not None:
            if not self.acting.core.ready:
                raise Unavailable(f"it waits for {', '.join(self.acting.core.awaits)}")
        elif self._trouble():
            raise Unavailable(f"it cannot stand by: {self._trouble()}")

    def _families(self) -> Iterator[Metric]:
        counts = self.acting.counts if self.acting is not None else None
        common = self._meter.value(ready=is_ready(self._check), counts=counts)
        if self.acting is None:
            common = replace(common, configured=None, follows=False)
        more = self._more()
        yield from metrics_controller.controller(common, more)
        if self._compat:
            yield from metrics_metallb.controller(common, more)

    def _more(self) -> measures.OfController:
        acting = self.acting
        if acting is None:
            return measures.OfController()
        found = outcomes(acting.core.results)
        return measures.OfController(
            acting.since,
            found.allocated,
            found.pending,
            found.lacking,
            acting.core.pools(time.time()),
            acting.writes_waiting(),
            acting.published(),
        )
