"""The API server as a benchmark uses it: plain, over kept connections, and everything it tells has a time."""

import contextlib
import http.client
import json
import socket
import threading
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from types import TracebackType
from typing import Any, Self

from lbspeaker.errors import Unavailable
from tests.lab.apiserver_backends import Client

Manifest = dict[str, Any]

SERVICES = "/api/v1/namespaces/default/services"
_LONGEST_S = 120.0
_CLOSED = (OSError, ValueError, AttributeError, http.client.HTTPException)  # what a closed watch raises


class Api:
    """One connection, kept alive."""

    def __init__(self, client: Client) -> None:
        self._client = client
        self._connection = client.connect(_LONGEST_S)

    def request(self, method: str, path: str, body: Manifest | bytes | None = None) -> bytes:
        """Return the body of the answer. Raises Unavailable if it is not a good one."""
        data = body if isinstance(body, bytes) or body is None else json.dumps(body).encode()
        kind = "application/merge-patch+json" if method == "PATCH" else "application/json"
        self._connection.request(method, path, data, {"Content-Type": kind, **authorization(self._client)})
        response = self._connection.getresponse()
        answer = response.read()
        if response.status >= 300:
            raise Unavailable(f"{method} {path}: {response.status} {answer[:300].decode(errors='replace')}")
        return answer

    def get(self, path: str) -> Any:
        return json.loads(self.request("GET", path))

    def close(self) -> None:
        self._connection.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def authorization(client: Client) -> dict[str, str]:
    return {"Authorization": f"Bearer {client.token}"} if client.token else {}


Request = tuple[str, Manifest | None]  # path, body


def each(client: Client, method: str, requests: Sequence[Request], connections: int = 8) -> None:
    """Send all requests, over several connections at once. Raises Unavailable."""

    def some(part: Sequence[Request]) -> None:
        with Api(client) as api:
            for path, body in part:
                api.request(method, path, body)

    with ThreadPoolExecutor(connections) as pool:
        parts = [requests[number::connections] for number in range(connections)]
        for done in [pool.submit(some, part) for part in parts if part]:
            done.result()


class Watch:
    """Watches a collection from now on, and keeps (time, event) of everything it is told.

    Without `decode` it only listens, and costs as little as it can.
    """

    def __init__(self, client: Client, path: str, *, decode: bool = True) -> None:
        self.events: list[tuple[float, Manifest]] = []
        self.told = threading.Condition()
        with Api(client) as api:
            version = api.get(f"{path}?limit=1")["metadata"]["resourceVersion"]
        self._connection = client.connect(_LONGEST_S)
        query = f"watch=1&resourceVersion={version}&timeoutSeconds={_LONGEST_S:.0f}"
        self._connection.request("GET", f"{path}?{query}", headers=authorization(client))
        self._response = self._connection.getresponse()
        self._thread = threading.Thread(target=self._read if decode else self._listen, daemon=True)
        self._thread.start()

    def _listen(self) -> None:
        with contextlib.suppress(*_CLOSED):
            while self._response.read1(1 << 20):
                pass

    def _read(self) -> None:
        with contextlib.suppress(*_CLOSED):
            for line in iter(self._response.readline, b""):
                now = time.time()
                with self.told:
                    self.events.append((now, json.loads(line)))
                    self.told.notify_all()

    def ip_of(self, name: str, patience_s: float) -> tuple[float, str]:
        """Return when the Service was seen to have an IP, and which. Raises Unavailable if it gets none."""
        deadline = time.monotonic() + patience_s
        seen = 0
        with self.told:
            while True:
                for at, event in self.events[seen:]:
                    item = event["object"]
                    ingress = item.get("status", {}).get("loadBalancer", {}).get("ingress")
                    if item["metadata"].get("name") == name and ingress:
                        return at, ingress[0]["ip"]
                seen = len(self.events)
                if not self.told.wait(max(deadline - time.monotonic(), 0)) and time.monotonic() >= deadline:
                    raise Unavailable(f"Service {name} has no IP after {patience_s:.0f} s")

    def close(self) -> None:
        if self._connection.sock is not None:
            with contextlib.suppress(OSError):
                self._connection.sock.shutdown(socket.SHUT_RDWR)  # wakes the reader, which close() does not
        self._thread.join()
        self._connection.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
