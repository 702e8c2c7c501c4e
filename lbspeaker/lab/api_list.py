"""Lists over HTTP: of which version, which page of it, and in which form."""

import asyncio
from collections.abc import Callable

from aiohttp import web

from lbspeaker.lab import api_render, api_request
from lbspeaker.lab.api_errors import ApiStatus, Json, bad_request, gone, too_large
from lbspeaker.lab.api_reply import compressed, style_of
from lbspeaker.lab.api_request import Query, Target
from lbspeaker.lab.api_store import Entry, Forgotten, Store

FUTURE_WAIT_S = 3.0  # how long a list waits for a version that is not reached yet
EXPIRED_PAGE = (
    "The provided continue parameter is too old to display a consistent list result. You can start a new "
    "list without the continue parameter, or use the continue token in this response to retrieve the "
    "remainder of the results. Continuing with the provided token results in an inconsistent list - objects "
    "that were created, modified, or deleted between the time the first chunk was returned and now may show "
    "up in the list."
)


class Listing:
    """Serves lists of `store`. `now_s` reads the clock, for the ages in Tables."""

    def __init__(self, store: Store, now_s: Callable[[], float]) -> None:
        self._store = store
        self._now_s = now_s

    async def answer(self, request: web.BaseRequest, target: Target) -> web.Response:
        """Answer a list; raises ApiStatus 400, 406, 410, 422 or 504."""
        style, query = style_of(request), request.query
        chosen = api_request.parse_filter(target, query)
        limit, token = api_request.number(query, "limit"), query.get("continue", "")
        rv, start = await self._version(query, limit, token)
        entries = self._entries(target, rv, token, start)
        if not chosen.everything:
            entries = [entry for entry in entries if chosen.selects(entry.object)]
        shown_rv = self._store.rv if rv is None else rv
        metadata: Json = {"resourceVersion": str(shown_rv)}
        if 0 < limit < len(entries):
            metadata["continue"] = api_request.continue_token(shown_rv, entries[limit - 1].key)
            if chosen.everything:
                metadata["remainingItemCount"] = len(entries) - limit
            entries = entries[:limit]
        return await compressed(
            request, api_render.many(target.resource, entries, metadata, style, self._now_s())
        )

    def _entries(self, target: Target, rv: int | None, token: str, start: str) -> list[Entry]:
        try:
            entries = self._store.entries(target.resource.table, target.namespace, rv)
        except Forgotten:
            if token:
                raise gone(EXPIRED_PAGE, api_request.continue_token(0, start)) from None
            raise gone("The resourceVersion for the provided list is too old.") from None
        return [entry for entry in entries if entry.key > start] if start else entries

    async def _version(self, query: Query, limit: int, token: str) -> tuple[int | None, str]:
        """Return the version to list (None: the newest) and the key after which to start."""
        text, match = query.get("resourceVersion", ""), query.get("resourceVersionMatch", "")
        if token:
            rv, start = api_request.parse_continue(token)
            if text not in ("", "0"):
                raise bad_request("specifying resource version is not allowed when using continue")
            return rv or None, start
        _check_match(text, match)
        rv = int(text or 0)
        await self._reach(rv)
        exact = match == "Exact" or (limit and not match)
        return (rv if exact and rv else None), ""

    async def _reach(self, rv: int) -> None:
        if rv > self._store.rv:
            await asyncio.sleep(FUTURE_WAIT_S)
        if rv > self._store.rv:
            raise too_large(rv, self._store.rv)


def _check_match(text: str, match: str) -> None:
    """Raise ApiStatus 400 or 422 for a resourceVersion and a resourceVersionMatch that make no sense."""
    if match and not text:
        why = "resourceVersionMatch is forbidden unless resourceVersion is provided"
        raise api_request.list_error("resourceVersionMatch", why)
    if match not in ("", "Exact", "NotOlderThan"):
        raise api_request.unknown_match(match)
    if text and not text.isdigit():
        raise ApiStatus(400, "BadRequest", f"invalid resource version: {api_request.not_a_version(text)}")
