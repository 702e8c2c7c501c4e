"""Events about services, for `kubectl describe`: rationed, and never in the way of anything else."""

import asyncio
import time
from collections import deque
from typing import Any, Literal

import structlog

from lbspeaker.core.budget import Bucket
from lbspeaker.model import Node, Service
from lbspeaker.shell.apiserver import ApiError, ApiServer
from lbspeaker.wire import kube

PER_S, AT_ONCE = 20.0, 100
Component = Literal["lbspeaker-controller", "lbspeaker-speaker"]
Kind = Literal["Normal", "Warning"]
_Post = tuple[str, bytes]  # namespace, body


class Events:
    """Tells users about their services, as one component on one node (or pod), `instance`.

    Of good news, what exceeds the ration is in the log only; a warning waits for its turn, the last of each
    service.
    """

    def __init__(self, api: ApiServer, component: Component, instance: str) -> None:
        self._api = api
        self._component: Component = component
        self._instance = instance
        self._ration = Bucket(PER_S, AT_ONCE, time.monotonic())
        self._news: deque[_Post] = deque()
        self._warnings: dict[str, _Post] = {}  # by service, or node, reason and what it is about
        self._there = asyncio.Event()
        self._serial = 0
        self._log: Any = structlog.get_logger()

    def tell(
        self,
        service: Service,
        kind: Kind,
        reason: str,
        message: str,
        *,
        once: bool = False,
    ) -> None:
        """Put an event in line. `once`: not while the API still has the same from us, of an earlier time."""
        if kind == "Normal" and (len(self._news) >= AT_ONCE or not self._ration.take(time.monotonic())):
            return
        body = self._body(service, kind, reason, message, f"{reason.lower()}-{service.uid}" if once else "")
        if kind == "Normal":
            self._news.append((service.namespace, body))
        else:
            self._warnings.pop(service.key, None)
            self._warnings[service.key] = (service.namespace, body)
        self._there.set()

    def tell_of_node(self, node: str, reason: str, message: str, about: str = "") -> None:
        """Put a warning about a node in line; of each reason, and of what it is `about`, the last one."""
        body = self._body(Node(node), "Warning", reason, message)
        self._warnings[f"{node} {reason} {about}"] = ("default", body)
        self._there.set()

    def _body(self, about: Service | Node, kind: Kind, reason: str, message: str, once: str = "") -> bytes:
        self._serial += 1
        return kube.event(
            about,
            kind,
            reason,
            message,
            component=self._component,
            instance=self._instance,
            now=time.time(),
            serial=self._serial,
            once=once,
        )

    def withdraw(self, service: Service) -> None:
        """What this service was to be warned of, and was not so far, is over."""
        self._warnings.pop(service.key, None)

    async def run(self) -> None:
        """Send what is in line, until cancelled."""
        while True:
            await self._there.wait()
            post = await self._next()
            if post is None:
                self._there.clear()
            else:
                await self._send(*post)

    async def _next(self) -> _Post | None:
        if self._news:
            return self._news.popleft()
        if self._warnings and not self._ration.take(time.monotonic()):
            await asyncio.sleep(1 / PER_S)
            return await self._next()
        first = next(iter(self._warnings), None)
        return None if first is None else self._warnings.pop(first)

    async def _send(self, namespace: str, body: bytes) -> None:
        try:
            await self._api.request("POST", f"/api/v1/namespaces/{namespace}/events", body=body)
        except ApiError as error:
            if error.status != 409:  # it is there already
                self._log.warning("event-unsent", why=error.what)
