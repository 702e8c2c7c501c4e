"""A speaker's report in the cluster: the status of the `Speaker` object of its node.

Written on news, at most every two seconds; what changes all the time, the counters of guards, once a minute,
so `reported` tells how old it is. The object ends with its Node. Who lives is said by Leases.
"""

import asyncio
import contextlib
import json
import time
from collections.abc import Callable
from typing import Any

import structlog

from lbspeaker.core.patience import Patience
from lbspeaker.errors import Malformed
from lbspeaker.shell.apiserver import ApiError, ApiServer
from lbspeaker.wire import kube, speaker_object
from lbspeaker.wire.status import Status

EVERY_S = 2.0
COUNTERS_S = 60.0
NODE_S, NODE_EVERY_S = 10.0, 0.2  # so long its Node is waited for
_KEY = "speaker"


class Reporting:
    """Reports what `status` returns about `node`; `uid` is that of its Node, "" while it is not known."""

    def __init__(
        self,
        api: ApiServer,
        node: str,
        namespace: str,
        status: Callable[[], Status],
        uid: Callable[[], str],
    ) -> None:
        self._api = api
        self._node = node
        self._namespace = namespace
        self._status = status
        self._uid = uid
        self._log: Any = structlog.get_logger()
        self._path = f"/apis/{kube.GROUP}/v1beta1/namespaces/{namespace}/speakers"
        self._written: dict[str, Any] | None = None  # as the API has it; None: not known
        self._counted_at = 0.0
        self._patience = Patience()

    async def run(self) -> None:
        """Report, until cancelled."""
        for _ in range(round(NODE_S / NODE_EVERY_S)):
            if not self._uid():
                await asyncio.sleep(NODE_EVERY_S)
        while True:
            wait_s = EVERY_S
            try:
                await self._report()
                self._patience.done(_KEY)
            except ApiError as error:
                self._written = None
                wait_s, is_news = self._patience.failed(_KEY, error.what)
                if is_news:
                    self._log.warning("unreported", object=f"Speaker/{self._node}", why=error.what)
            await asyncio.sleep(max(wait_s, EVERY_S))

    async def end(self) -> None:
        """Say that this speaker has stopped, and has nothing any more."""
        if self._written is not None:
            with contextlib.suppress(ApiError):  # its Lease says it, too
                await self._write(speaker_object.body(self._status(), time.time()))

    async def _report(self) -> None:
        if self._written is None:
            self._written = await self._present()
        now, body = asyncio.get_running_loop().time(), speaker_object.body(self._status(), time.time())
        news = speaker_object.news(body) != speaker_object.news(self._written)
        if news or now >= self._counted_at + COUNTERS_S:
            self._counted_at = now
            await self._write(body)

    async def _write(self, body: dict[str, Any]) -> None:
        changes = speaker_object.patch(self._written or {}, body)
        if changes:
            await self._patch(changes)
            self._written = body

    async def _patch(self, changes: dict[str, Any]) -> None:
        text = json.dumps({"status": changes}).encode()
        await self._api.request("PATCH", f"{self._path}/{self._node}/status", body=text)

    async def _present(self) -> dict[str, Any]:
        """The status that is there; where there is no object, it is made."""
        try:
            found = json.loads(await self._api.request("GET", f"{self._path}/{self._node}"))
        except ApiError as error:
            if error.status != 404:
                raise
            body = kube.speaker(self._node, self._namespace, self._uid())
            found = json.loads(await self._api.request("POST", self._path, body=body))
        status = found.get("status")
        if not isinstance(status, dict):
            return {}
        try:
            speaker_object.parse(found)
        except Malformed:  # somebody else's hand: it is written anew
            await self._patch(dict.fromkeys(status))
            return {}
        return status
