"""Watches over HTTP: what is told first, what is told then, and how it ends."""

import asyncio
import random
from collections.abc import Callable

from aiohttp import web

from lbspeaker.lab import api_render, api_request
from lbspeaker.lab.api_errors import ApiStatus, gone
from lbspeaker.lab.api_faults import Faults
from lbspeaker.lab.api_reply import style_of
from lbspeaker.lab.api_request import Target
from lbspeaker.lab.api_store import Forgotten, Store
from lbspeaker.lab.api_watch import Hub, Watch

BOOKMARK_EVERY_S = 60.0
LONGEST_S = (1800.0, 3600.0)  # of a watch that asks for no timeout


class Watching:
    """Serves watches on `store`. `bookmark_every_s` may be changed at any time, for the watches to come."""

    def __init__(self, store: Store, hub: Hub, faults: Faults, now_s: Callable[[], float]) -> None:
        self._store = store
        self._hub = hub
        self._faults = faults
        self._now_s = now_s
        self.bookmark_every_s = BOOKMARK_EVERY_S

    async def watch(self, request: web.BaseRequest, target: Target) -> web.StreamResponse:
        """Answer a watch until its time is over, the client is gone or the server ends it."""
        query = request.query
        watch = self._open(request, target)
        bookmarks = api_request.is_set(query, "allowWatchBookmarks")
        timeout_s = float(api_request.number(query, "timeoutSeconds")) or random.uniform(*LONGEST_S)  # noqa: S311
        response = web.StreamResponse(headers={"Content-Type": "application/json"})
        response.enable_chunked_encoding()
        try:
            await response.prepare(request)
            await self._stream(response, watch, timeout_s, bookmarks=bookmarks)
        finally:
            self._hub.close(watch)
        await response.write_eof()
        return response

    def _open(self, request: web.BaseRequest, target: Target) -> Watch:
        """Return a watch with its first lines queued, registered so that it misses nothing.

        Raises ApiStatus for options that make no sense.
        """
        query = request.query
        rv, initial = _start(query, self._store.rv)
        chosen = api_request.parse_filter(target, query)
        watch = Watch(target.resource, chosen, style_of(request), after=rv)
        if initial:
            for entry in self._store.entries(target.resource.table, target.namespace):
                if chosen.selects(entry.object):
                    watch.lines.append(self._hub.line(watch, "ADDED", entry))
            asked = api_request.is_set(query, "sendInitialEvents")
            if asked and api_request.is_set(query, "allowWatchBookmarks"):
                watch.add(api_render.bookmark(target.resource, self._store.rv, initial=True))
        else:
            self._replay(watch)
        if watch.lines:
            watch.awake.set()
        self._hub.open(watch)
        return watch

    def _replay(self, watch: Watch) -> None:
        try:
            for event in self._store.since(watch.resource.table, watch.after):
                self._hub.show(watch, event)
        except Forgotten as error:
            status = gone(f"too old resource version: {watch.after} ({error.oldest})")
            watch.add(api_render.error_line(status.body))
            watch.end()

    async def _stream(
        self, response: web.StreamResponse, watch: Watch, timeout_s: float, *, bookmarks: bool
    ) -> None:
        loop = asyncio.get_running_loop()
        ends = loop.time() + timeout_s
        next_bookmark = loop.time() + self.bookmark_every_s
        while True:
            until = min(ends, next_bookmark) if bookmarks else ends
            try:
                async with asyncio.timeout_at(until):
                    await watch.awake.wait()
            except TimeoutError:
                pass
            await self._faults.thawed()
            now = loop.time()
            due = bookmarks and (now >= next_bookmark or (now >= ends and timeout_s >= 2))
            if due:
                watch.lines.append(api_render.bookmark(watch.resource, max(self._store.rv, watch.after)))
                next_bookmark = now + self.bookmark_every_s
            if watch.lines:
                await response.write(watch.take())
            elif not watch.ended:
                watch.awake.clear()
            if now >= ends or (watch.ended and not watch.lines):
                return


def _start(query: api_request.Query, current: int) -> tuple[int, bool]:
    """Return the version after which to watch, and whether the current state comes first."""
    text = query.get("resourceVersion", "")
    if text and not text.isdigit():
        raise ApiStatus(500, "", api_request.not_a_version(text))
    rv = int(text or 0)
    if query.get("sendInitialEvents") is not None:
        return rv, _check_initial(query)
    if query.get("resourceVersionMatch"):
        why = "resourceVersionMatch is forbidden for watch unless sendInitialEvents is provided"
        raise api_request.list_error("resourceVersionMatch", why)
    return (rv, False) if rv else (current, True)


def _check_initial(query: api_request.Query) -> bool:
    if query.get("resourceVersionMatch") != "NotOlderThan":
        why = "sendInitialEvents requires setting resourceVersionMatch to NotOlderThan"
        raise api_request.list_error("resourceVersionMatch", why)
    return api_request.is_set(query, "sendInitialEvents")
