"""Faults on demand: what a test makes the server do wrong."""

import asyncio
from collections import Counter
from dataclasses import dataclass

from lbspeaker.lab.api_errors import ApiStatus

REASONS = {
    429: "TooManyRequests",
    500: "InternalError",
    503: "ServiceUnavailable",
    504: "Timeout",
    403: "Forbidden",
}


@dataclass(slots=True)
class Failure:
    """`left` requests of this method ("" is any) whose path contains `path` get status `code`."""

    left: int
    code: int
    retry_after_s: int | None
    method: str
    path: str


class Faults:
    """`requests` counts what arrived, by "METHOD path"."""

    def __init__(self) -> None:
        self.requests: Counter[str] = Counter()
        self._failures: list[Failure] = []
        self._frozen = ""
        self._thawed = asyncio.Event()
        self._thawed.set()

    def fail(
        self, times: int, code: int, retry_after_s: int | None = None, *, method: str = "", path: str = ""
    ) -> None:
        """Answer the next `times` requests that fit with `code`; 429 asks to retry after 1 s, unless told."""
        if code == 429 and retry_after_s is None:
            retry_after_s = 1
        self._failures.append(Failure(times, code, retry_after_s, method, path))

    def freeze(self, path: str = "") -> None:
        """Accept connections and requests, answer none whose path contains `path`; watches go silent."""
        self._frozen = path
        self._thawed.clear()

    def unfreeze(self) -> None:
        self._thawed.set()

    async def thawed(self) -> None:
        if not self._thawed.is_set():
            await self._thawed.wait()

    async def strike(self, method: str, path: str) -> None:
        """Count a request and let it suffer; raises ApiStatus if it shall fail."""
        self.requests[f"{method} {path}"] += 1
        if self._frozen in path:
            await self.thawed()
        for failure in self._failures:
            if failure.left and failure.method in ("", method) and failure.path in path:
                failure.left -= 1
                if not failure.left:
                    self._failures.remove(failure)
                reason = REASONS.get(failure.code, "")
                message = f"the server was told to fail with {failure.code}"
                raise ApiStatus(failure.code, reason, message, retry_after_s=failure.retry_after_s)
