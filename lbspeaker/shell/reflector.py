"""Keep a copy of one collection of the API server, and tell every change of it once.

    ┌─▶ list ──▶ watch ──┬─ ended, or broke after it began ──▶ watch again, at once
    │                    ├─ 410 ─────────────────────────────▶ list again
    │                    ├─ refused (403, 429 ...) ──────────▶ watch again, later
    └────────────────────┴─ no server ───────────────────────▶ list again, later

The copy survives all of it: a list is compared with the copy, and only the differences are told. After an
outage we list, although the version may still be good: a server restored from a backup has another history,
and a watch from a version that it has not reached yet stays silent.
"""

import asyncio
import random
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NoReturn

import structlog

from lbspeaker.errors import Malformed
from lbspeaker.model import Change, Kind, Page, Step, Synced, WatchError
from lbspeaker.shell.transport import ApiError, Transport

Put = Callable[[Change | Synced], None]

_PAGE = "500"  # objects; larger pages cost servers before 1.33 memory out of proportion
_GONE = 410
_VERSION_STAYS = {401, 403, 404, 429}  # these say nothing against the version that was asked for


@dataclass(frozen=True, slots=True)
class Resource:
    """A collection: where it is, which objects of it, and how they are read.

    `missing`: what to tell a person when the server does not know the collection (404).
    """

    kind: Kind
    path: str
    decode_list: Callable[[bytes], Page]
    decode_event: Callable[[bytes], Step | WatchError]
    field_selector: str = ""
    missing: str = ""


@dataclass(frozen=True, slots=True)
class Timings:
    """`silence_s`: without a byte for so long (bookmarks come each minute) a watch is opened anew."""

    list_s: float = 30.0  # for one page
    answer_s: float = 15.0  # until a watch begins
    silence_s: float = 90.0
    watch_s: tuple[int, int] = (300, 600)  # the server ends a watch after a time in between
    backoff_s: tuple[float, float] = (0.2, 10.0)
    spread_s: float = 1.0  # lists that the whole fleet wants at once are spread over so long


class Troubles:
    """Says once, for all reflectors together, that the server is in trouble, and once that it is over."""

    def __init__(self, host: str) -> None:
        self._log: Any = structlog.get_logger()
        self._host = host
        self._sufferers: dict[str, set[str]] = {}  # by subject: "" is the server itself

    def failed(self, resource: Resource, error: ApiError | Malformed, retry_s: float) -> None:
        away = isinstance(error, ApiError) and error.away
        missing = isinstance(error, ApiError) and error.status == 404 and resource.missing
        sufferers = self._sufferers.setdefault("" if away else missing or resource.path, set())
        if not sufferers:
            fields = {"why": missing or error.what, "hint": "" if missing else error.hint}
            told = {name: text for name, text in fields.items() if text}
            event = "api-unavailable" if away else "api-refused"
            self._log.warning(event, server=self._host, **told, retry_s=round(retry_s, 2))
        sufferers.add(resource.path)

    def over(self, resource: Resource) -> None:
        for subject, sufferers in list(self._sufferers.items()):
            sufferers.discard(resource.path)
            if not sufferers:
                del self._sufferers[subject]
                self._log.info("api-back", server=self._host, **({"was": subject} if subject else {}))


class Reflector:
    """The copy of one collection. `run` never returns; only a bug or cancellation ends it."""

    def __init__(
        self, transport: Transport, resource: Resource, put: Put, troubles: Troubles, timings: Timings
    ) -> None:
        self._transport = transport
        self._resource = resource
        self._put = put
        self._troubles = troubles
        self._timings = timings
        self._selector = resource.field_selector
        self._known: dict[tuple[Kind, str], object] = {}  # one list may tell of several kinds
        self._version = ""  # that `_known` is at; "" asks for a list
        self._synced = False
        self._failures = 0

    async def run(self) -> NoReturn:
        while True:
            try:
                if not self._version:
                    await self._list()
                await self._watch()
            except (ApiError, Malformed) as error:
                delay_s = self._after(error)
            else:
                delay_s = self._delay_s() if self._failures > 1 else 0.0
            await asyncio.sleep(delay_s)

    async def _list(self) -> None:
        query, seen, version = {**self._selection(), "limit": _PAGE}, set[tuple[Kind, str]](), ""
        while True:
            path, timeout_s = self._resource.path, self._timings.list_s
            page = self._resource.decode_list(
                await self._transport.exchange("GET", path, query, timeout_s=timeout_s)
            )
            version = version or page.version
            for change in page.changes:
                seen.add((change.kind, change.key))
                self._tell(change)
            if not page.next:
                break
            query["continue"] = page.next
        for kind, key in self._known.keys() - seen:
            self._tell(Change(kind, key, None))
        self._version = version
        if not self._synced:
            self._synced = True
            self._put(Synced(self._resource.kind))

    async def _watch(self) -> None:
        """Follow the collection until the watch ends. Raises ApiError if it does not begin, or by error."""
        duration_s = random.randint(*self._timings.watch_s)  # noqa: S311
        query = {
            **self._selection(),
            "watch": "1",
            "allowWatchBookmarks": "true",
            "resourceVersion": self._version,
            "timeoutSeconds": str(duration_s),
        }
        began = time.monotonic()
        steps = 0
        async with self._transport.stream(
            self._resource.path,
            query,
            answer_s=self._timings.answer_s,
            silence_s=self._timings.silence_s,
            total_s=duration_s + self._timings.answer_s,
        ) as lines:
            self._troubles.over(self._resource)
            try:
                async for line in lines:
                    self._step(self._resource.decode_event(line))
                    steps += 1
            except ApiError as error:
                if error.status:
                    raise
                # It broke: that is one way in which watches end. If the server is gone, the next will tell.
        useful = steps > 0 or time.monotonic() - began >= 1.0
        self._failures = 0 if useful else self._failures + 1  # a server that ends all at once gets a pause

    def _step(self, step: Step | WatchError) -> None:
        if isinstance(step, WatchError):
            raise ApiError(f"WATCH {self._resource.path}", step.code, "Ended", step.message)
        if step.change is not None:
            self._tell(step.change)
        self._version = step.version

    def _tell(self, change: Change) -> None:
        which = (change.kind, change.key)
        if change.value is None:
            if self._known.pop(which, None) is not None:
                self._put(change)
        elif self._known.get(which) != change.value:
            self._known[which] = change.value
            self._put(change)

    def _after(self, error: ApiError | Malformed) -> float:
        """Decide what comes next after `error`; return the seconds until then."""
        self._failures += 1
        delay_s = self._delay_s()
        if isinstance(error, Malformed):
            self._version = ""
        elif error.status == 400 and self._selector and "field label" in error.message:
            self._selector, self._version = "", ""  # an old server; what we need not is left to the reader
            return 0.0
        elif error.status not in _VERSION_STAYS:
            self._version = ""
        if isinstance(error, ApiError) and error.status == _GONE:
            return max(delay_s, random.uniform(0, self._timings.spread_s))  # noqa: S311
        if isinstance(error, ApiError) and error.retry_after_s is not None:
            delay_s = max(delay_s, min(error.retry_after_s, 3 * self._timings.backoff_s[1]))
        # A server that restarts behind a balancer is back before anybody need know.
        if self._failures > 1 or getattr(error, "reason", "") == "Timeout":
            self._troubles.failed(self._resource, error, delay_s)
        return delay_s

    def _delay_s(self) -> float:
        shortest, longest = self._timings.backoff_s
        doubled = shortest * 2 ** min(self._failures - 1, 20)
        return float(min(longest, doubled) * random.uniform(0.75, 1.25))  # noqa: S311

    def _selection(self) -> dict[str, str]:
        return {"fieldSelector": self._selector} if self._selector else {}
