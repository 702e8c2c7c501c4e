"""The Kubernetes API server as the programs see it: requests, repeated where safe, and reflections."""

import asyncio
import time
from collections.abc import Mapping
from types import TracebackType
from typing import NoReturn, Self

from lbspeaker.shell.credentials import Credentials, credentials
from lbspeaker.shell.reflector import Put, Reflector, Resource, Timings, Troubles
from lbspeaker.shell.transport import ApiError, Query, Transport

__all__ = [
    "JSON",
    "MERGE_PATCH",
    "ApiError",
    "ApiServer",
    "Credentials",
    "Put",
    "Resource",
    "Timings",
    "credentials",
]

JSON = "application/json"
MERGE_PATCH = "application/merge-patch+json"

_IDEMPOTENT = {"GET", "HEAD", "PUT", "PATCH", "DELETE"}  # our patches are merge-patches, most with a version
_ATTEMPTS = 4
_PAUSE_S = 0.1


class ApiServer:
    """A client of one API server for one program ("controller", "speaker"), inside one event loop.

    `connections` bounds the requests under way: 16 reach the server's own bound for small writes, and more
    only add latency for everybody. Watches do not count.
    """

    def __init__(
        self,
        credentials: Credentials,
        program: str,
        connections: int = 16,
        timings: Timings | None = None,
    ) -> None:
        self._transport = Transport(credentials, program, connections)
        self._timings = timings or Timings()
        self._troubles = Troubles(credentials.host)

    @property
    def host(self) -> str:
        """Where it is: "https://address:port"."""
        return self._transport.credentials.host

    @property
    def requests(self) -> Mapping[str, int]:
        """How many were sent, by method; of watches (WATCH), how many began."""
        return self._transport.requests

    @property
    def failures(self) -> Mapping[tuple[str, str], int]:
        """How many of them failed, by method and reason."""
        return self._transport.failures

    def reconnect(self) -> None:
        """Follow everything anew, at once: what was silent may have left watches that never speak again."""
        self._transport.reconnect()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """Close all connections."""
        await self._transport.close()

    async def request(
        self,
        method: str,
        path: str,
        *,
        query: Query | None = None,
        body: bytes | None = None,
        content_type: str | None = None,
        timeout_s: float = 15.0,
    ) -> bytes:
        """Send `body` (by default as JSON, or as a merge-patch) and return the body of the answer.

        A request that the server put off (429), or that may be repeated and met a server in trouble, is sent
        again within `timeout_s`. Raises ApiError.
        """
        if body is not None and content_type is None:
            content_type = MERGE_PATCH if method == "PATCH" else JSON
        deadline = time.monotonic() + timeout_s
        for attempt in range(1, _ATTEMPTS + 1):
            left_s = deadline - time.monotonic()
            try:
                return await self._transport.exchange(method, path, query, body, content_type, left_s)
            except ApiError as error:
                pause_s = max(error.retry_after_s or 0.0, _PAUSE_S * 2**attempt)
                again = attempt < _ATTEMPTS and _may_repeat(method, error)
                if not again or time.monotonic() + pause_s >= deadline:
                    raise
            await asyncio.sleep(pause_s)
        raise AssertionError("the last attempt returns or raises")

    async def reflect(self, resource: Resource, put: Put) -> NoReturn:
        """Tell every object of `resource` and every change of it to `put`; Synced after the first full list.

        It runs until cancelled: trouble with the server is logged once, outlived, and takes back nothing.
        """
        await Reflector(self._transport, resource, put, self._troubles, self._timings).run()


def _may_repeat(method: str, error: ApiError) -> bool:
    """429 says that nothing was done; else only what does no harm when done twice is repeated."""
    if error.reason == "Certificate":
        return False
    return error.status == 429 or (error.away and method in _IDEMPOTENT)
