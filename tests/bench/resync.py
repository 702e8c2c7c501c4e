"""A resync that changes nothing says nothing: no frame, no write."""

import time
from collections.abc import Callable

from lbspeaker.lab.lab import Lab
from tests.bench import cluster, servers
from tests.bench.api import SERVICES, Api, each
from tests.bench.manifests import GROUP, configuration, services
from tests.bench.results import Goal, Reference, Result, result
from tests.bench.servers import Memory

COUNT = 50
_QUIET_S = 6.0  # longer than every repeat, and than a reflector's pause after it has to list anew


def resync() -> list[Result]:
    with servers.memory() as server, cluster.lab(client=server.client) as lab:
        began = cluster.create(server.client, services(COUNT))
        cluster.until(lambda: cluster.announced(lab, began) >= COUNT, 30, "the first announcements")
        time.sleep(_QUIET_S)
        first = Reference("when all were new", [len(cluster.unsolicited(lab, began))])
        writes = Reference("when all were new", [sum(_writes(server).values())])
        rows = []
        for name, disturb in (
            ("relist", lambda: server.forget()),
            ("labels", lambda: _touch_labels(server)),
            ("configuration", lambda: _apply_again(server)),
        ):
            frames, written = _quiet(server, lab, disturb)
            rows.append(result(f"resync/{name}-frames", "unsolicited frames", [frames], first, Goal("<=", 0)))
            rows.append(result(f"resync/{name}-writes", "writes by the controller", [written], writes))
        return rows


def _quiet(server: Memory, lab: Lab, disturb: Callable[[], None]) -> tuple[int, int]:
    """Return the unsolicited frames and the controller's writes that follow."""
    before, since = _writes(server), time.time()
    disturb()
    time.sleep(_QUIET_S)
    written = {path: count - before.get(path, 0) for path, count in _writes(server).items()}
    return len(cluster.unsolicited(lab, since)), sum(written.values())


def _writes(server: Memory) -> dict[str, int]:
    """Return how often the controller wrote: statuses, and the effective configuration."""
    return {
        asked: count
        for asked, count in server.requests().items()
        if not asked.startswith("GET ") and (asked.endswith("/status") or "/effectiveconfigurations" in asked)
    }


def _touch_labels(server: Memory) -> None:
    body = {"metadata": {"labels": {"touched": str(time.time_ns())}}}
    each(server.client, "PATCH", [(f"{SERVICES}/{s['metadata']['name']}", body) for s in services(COUNT)])


def _apply_again(server: Memory) -> None:
    """What `kubectl apply` of the same files does: the objects get a new version, and say the same."""
    with Api(server.client) as api:
        for plural, manifest in configuration().items():
            annotated = {
                "metadata": {"annotations": {"applied": str(time.time_ns())}},
                "spec": manifest["spec"],
            }
            api.request("PATCH", f"{GROUP}/{plural}/{manifest['metadata']['name']}", annotated)
