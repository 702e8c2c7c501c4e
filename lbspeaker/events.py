"""Events about services, for `kubectl describe`: rationed, and never in the way of anything else."""

import asyncio
import time
from typing import Any, Literal

import structlog

from lbspeaker.core.guard import Bucket
from lbspeaker.model import Service
from lbspeaker.shell.apiserver import ApiError, ApiServer
from lbspeaker.wire import kube

PER_S, AT_ONCE = 20.0, 100  # what exceeds it is in the log only
Component = Literal["lbspeaker-controller", "lbspeaker-speaker"]


class Events:
    """Tells users about their services, as one component on one node (or pod), `instance`."""

    def __init__(self, api: ApiServer, component: Component, instance: str) -> None:
        self._api = api
        self._component: Component = component
        self._instance = instance
        self._ration = Bucket(PER_S, AT_ONCE, time.monotonic())
        self._waiting: asyncio.Queue[tuple[str, bytes]] = asyncio.Queue(maxsize=2 * AT_ONCE)
        self._serial = 0
        self._log: Any = structlog.get_logger()

    def tell(
        self,
        service: Service,
        kind: Literal["Normal", "Warning"],
        reason: str,
        message: str,
        *,
        once: bool = False,
    ) -> None:
        """Put an event in line; when there are too many at once, the log has to do.

        `once`: not while the API still has the same from us, of an earlier time.
        """
        if self._waiting.full() or not self._ration.take(time.monotonic()):
            return
        self._serial += 1
        body = kube.event(
            service,
            kind,
            reason,
            message,
            component=self._component,
            instance=self._instance,
            now=time.time(),
            serial=self._serial,
            once=f"{reason.lower()}-{service.uid}" if once else "",
        )
        self._waiting.put_nowait((service.namespace, body))

    async def run(self) -> None:
        """Send what is in line, until cancelled."""
        while True:
            namespace, body = await self._waiting.get()
            try:
                await self._api.request("POST", f"/api/v1/namespaces/{namespace}/events", body=body)
            except ApiError as error:
                if error.status != 409:  # it is there already
                    self._log.warning("event-unsent", why=error.what)
