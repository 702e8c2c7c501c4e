"""Ten thousand Services wait when the controller starts: how fast are all of them served?

The bound is the API server: so the same patches are sent to an identical one by a writer that does nothing
else, with as many connections as the controller has and one watch of the Services, as the controller has.
The controller is watched by its log, because another watch would slow the server down.
"""

import os
import re
import subprocess
import sys
import tempfile
import time
from typing import NamedTuple

from lbspeaker.controller import WRITERS
from lbspeaker.errors import Unavailable
from lbspeaker.model import Allocation, Kind, Service
from lbspeaker.wire import kube
from tests.bench import servers
from tests.bench.api import Api, Watch
from tests.bench.manifests import FIRST, preloaded
from tests.bench.results import Goal, Reference, Result, result
from tests.bench.writer import Request, write
from tests.lab.apiserver_backends import Client

COUNT = 10_000
PATIENCE_S = 60.0  # a controller that has not served all by then is measured by what it has
_LIST = "/api/v1/services?fieldSelector=spec.type%3DLoadBalancer"


def in_memory() -> list[Result]:
    with servers.memory(preloaded(COUNT)) as server:
        return _assign("assign-10000", server.client, rounds=4)


def real() -> list[Result]:
    with servers.real(preloaded(COUNT)) as client:
        return _assign("assign-10000-real", client, rounds=2)


def _assign(name: str, client: Client, rounds: int) -> list[Result]:
    bounds, served = [], []
    for _ in range(rounds):
        bounds.append(COUNT / _bound(client))
        _take_back(client)
        served.append(_controller(client))
        _take_back(client)
    writing = [(found.written - found.before) / (found.last - found.first) for found in served]
    from_start = [found.written / (found.last - found.began) for found in served]
    reference = Reference(f"a lean writer, {WRITERS} connections", bounds, "max")
    return [
        result(f"{name}/writing", "assignments/s", writing, reference, Goal(">=", 0.8, "ratio"), "max"),
        result(f"{name}/from-process-start", "assignments/s", from_start, reference, pick="max"),
    ]


def _bound(client: Client) -> float:
    """Return the seconds that the server needs for the patches that a controller would send."""
    requests = [
        _patch(service, Allocation((FIRST + number,), ("bench",)))
        for number, service in enumerate(_services(client))
    ]
    with Watch(client, "/api/v1/services", decode=False):
        return write(client, requests, WRITERS)


def _take_back(client: Client) -> None:
    """Make all Services pending again."""
    write(client, [_patch(service, None) for service in _services(client)], WRITERS)


def _services(client: Client) -> list[Service]:
    with Api(client) as api:
        page = kube.codec(Kind.SERVICE).page(api.request("GET", _LIST))
    found = [change.value for change in page.changes if isinstance(change.value, Service)]
    if len(found) != COUNT:
        raise Unavailable(f"the API server has {len(found)} Services instead of {COUNT}")
    return found


def _patch(service: Service, allocation: Allocation | None) -> Request:
    path = f"/api/v1/namespaces/{service.namespace}/services/{service.name}/status"
    return "PATCH", path, kube.allocation_patch(service, allocation).decode()


class Served(NamedTuple):
    """What a controller has done. `before` are those that the first line of its log is about."""

    began: float
    first: float
    last: float
    written: int
    before: int


def _controller(client: Client) -> Served:
    """Run the controller until it has served all, or for `PATIENCE_S`."""
    argv = [sys.executable, "-m", "lbspeaker", "controller", "--kubeconfig", str(client.kubeconfig)]
    with tempfile.TemporaryFile() as log:
        began = time.monotonic()
        process = subprocess.Popen(argv, stdout=log, stderr=log)
        try:
            served = _follow(log.fileno(), process, began)
        finally:
            servers.end(process)
    if served.written == COUNT:
        _verify(client)
    return served


def _follow(log: int, process: "subprocess.Popen[bytes]", began: float) -> Served:
    """Read the log until all are served, or patience is over. Raises Unavailable if nothing is."""
    deadline = began + PATIENCE_S
    position, written, before, first, last = 0, 0, 0, 0.0, 0.0
    while written < COUNT and time.monotonic() < deadline and process.poll() is None:
        said = os.pread(log, 1 << 22, position)
        position += len(said)
        if count := _allocated(said):
            last = time.monotonic()
            first, before = (first, before) if first else (last, count)
            written += count
        time.sleep(0.01)
    if last == first:
        end = os.pread(log, 2000, max(position - 2000, 0)).decode(errors="replace")
        raise Unavailable(f"the controller served {written} of {COUNT} Services: {end}")
    return Served(began, first, last, written, before)


def _verify(client: Client) -> None:
    """Raises Unavailable unless every Service has an IP of its own."""
    ips = {ip for service in _services(client) for ip in service.held}
    if len(ips) != COUNT:
        raise Unavailable(f"{len(ips)} distinct IPs instead of {COUNT}")


def _allocated(said: bytes) -> int:
    """How many Services these lines of the log are about: one each, or as many as they count."""
    counted = re.findall(rb" allocated .*?(?:count=(\d+)|service=)", said)
    return sum(int(count or 1) for count in counted)
