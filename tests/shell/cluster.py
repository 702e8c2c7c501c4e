"""A server of the lab, a client of it, and what a reflector told: the stage of the tests here."""

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from typing import Any

from lbspeaker.lab.apiserver import ApiServer as Server
from lbspeaker.lab.apiserver import listening
from lbspeaker.model import Change, Kind, Synced
from lbspeaker.shell.apiserver import ApiServer, Credentials, Resource, Timings
from lbspeaker.shell.credentials import Loaded
from lbspeaker.wire import kube

NODES = "/api/v1/nodes"
QUICK = Timings(
    list_s=2.0, answer_s=0.5, silence_s=1.0, watch_s=(20, 30), backoff_s=(0.02, 0.1), spread_s=0.05
)


def nodes(path: str = NODES, selector: str = "") -> Resource:
    codec = kube.codec(Kind.NODE)
    return Resource(
        Kind.NODE, path, codec.page, codec.event, selector, missing="the cluster has no such thing"
    )


def node(name: str, **labels: str) -> bytes:
    return json.dumps(
        {"metadata": {"name": name, "labels": labels}, "kind": "Node", "apiVersion": "v1"}
    ).encode()


class Told:
    """Everything that was put, in order."""

    def __init__(self) -> None:
        self.everything: list[Change | Synced] = []

    def put(self, change: Change | Synced) -> None:
        self.everything.append(change)

    @property
    def changes(self) -> list[Change]:
        return [change for change in self.everything if isinstance(change, Change)]

    @property
    def synced(self) -> list[Kind]:
        return [change.kind for change in self.everything if isinstance(change, Synced)]

    @property
    def keys(self) -> list[str]:
        """What was told, in order: "a" is there or changed, "-a" is gone."""
        return [("-" if change.value is None else "") + change.key for change in self.changes]

    @property
    def state(self) -> dict[str, object]:
        """What one knows who believed all of it. Fails if something was told that was no news."""
        state: dict[str, object] = {}
        for change in self.changes:
            assert state.get(change.key) != change.value, f"told twice: {change}"
            if change.value is None:
                del state[change.key]
            else:
                state[change.key] = change.value
        return state


async def until(condition: Callable[[], bool], timeout_s: float = 15.0) -> None:
    """Wait until `condition` holds; a test that waits in vain fails here."""
    async with asyncio.timeout(timeout_s):
        while not condition():
            await asyncio.sleep(0.005)


def plain(url: str) -> Credentials:
    return Credentials(lambda: Loaded(url))


@asynccontextmanager
async def served(**options: Any) -> AsyncIterator[tuple[Server, ApiServer]]:
    """A server with nothing but its namespaces, and a client of it."""
    server = Server(**options)
    await server.start([listening("127.0.0.1", 0)])
    try:
        async with ApiServer(plain(server.url), "test", timings=QUICK) as api:
            yield server, api
    finally:
        await server.stop()


@asynccontextmanager
async def reflecting(api: ApiServer, resource: Resource | None = None) -> AsyncIterator[Told]:
    """A reflector at work, synced."""
    told = Told()
    task = asyncio.create_task(api.reflect(resource or nodes(), told.put))
    try:
        await until(lambda: bool(told.synced) or task.done())
        yield told
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task
