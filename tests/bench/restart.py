"""A controller that begins again over 10,000 Services that have their IPs; and then one Service more.

It writes nothing, changes no IP, and is ready as soon as it has listed and compared everything.
"""

import contextlib
import tempfile
import time
from collections.abc import Iterator

from lbspeaker.errors import Unavailable
from tests.bench import cluster, servers
from tests.bench.api import SERVICES, Api, Watch
from tests.bench.manifests import preloaded, service
from tests.bench.results import Goal, Reference, Result, result
from tests.bench.servers import Memory

COUNT = 10_000
ROUNDS = 3
CHANGES = 50
_QUIET_S = 3.0


def restart() -> list[Result]:
    with servers.memory(preloaded(COUNT)) as server, Api(server.client) as api:
        with _controller(server, "first"):
            cluster.until(lambda: len(cluster.assigned(api)) == COUNT, 120, f"IPs of {COUNT} Services")
            time.sleep(_QUIET_S)
        before = cluster.assigned(api)
        listed = [_seconds_to_list(api) for _ in range(ROUNDS)]
        ready, written = [], []
        for number in range(ROUNDS):
            writes = _writes(server)
            with _controller(server, f"again{number}") as began_s:
                ready.append(began_s)
                time.sleep(_QUIET_S)
                written.append(_writes(server) - writes)
        changed = sum(before[name] != ip for name, ip in cluster.assigned(api).items())
        with _controller(server, "last"), Watch(server.client, SERVICES) as watch:
            change = [_change(api, watch, number) for number in range(CHANGES)]
    plain = Reference("one GET of all Services, parsed", listed)
    nothing = Reference("all that it wrote before", [float(COUNT)])
    return [
        result("restart-10000/ready", "s", ready, plain, Goal("<", 3), pick="max"),
        result("restart-10000/writes", "writes", written, nothing, Goal("<=", 0), pick="max"),
        result("restart-10000/changed", "IPs", [float(changed)], nothing, Goal("<=", 0)),
        result(
            "change-among-10000",
            "ms",
            change,
            Reference("a restart", [1000 * s for s in ready]),
            Goal("<", 20),
        ),
    ]


@contextlib.contextmanager
def _controller(server: Memory, name: str) -> Iterator[float]:
    """Run a controller; tell the seconds from the start of its process until it serves."""
    with tempfile.TemporaryFile() as log:
        began = time.monotonic()
        process = servers.controller(server.client, log, name)
        try:
            while b" serving " not in servers.said(log):
                if process.poll() is not None or time.monotonic() > began + 60:
                    raise Unavailable(f"the controller does not serve: {servers.said(log)[-500:]!r}")
                time.sleep(0.005)
            yield time.monotonic() - began
        finally:
            servers.end(process)


def _seconds_to_list(api: Api) -> float:
    began = time.monotonic()
    if len(cluster.assigned(api)) != COUNT:
        raise Unavailable("not every Service has an IP")
    return time.monotonic() - began


def _change(api: Api, watch: Watch, number: int) -> float:
    """Milliseconds from the request that creates a Service to the watch's word that it has an IP."""
    time.sleep(0.05)
    began = time.time()
    api.request("POST", SERVICES, service(f"more{number}"))
    return (watch.ip_of(f"more{number}", 10.0)[0] - began) * 1000


def _writes(server: Memory) -> float:
    """All writes but those of Leases: nobody else is there."""
    asked = server.requests().items()
    return float(sum(n for what, n in asked if not what.startswith("GET ") and "/leases" not in what))
