"""`lbspeaker status` over 10,000 Services on three nodes: from its start to the last line of its JSON.

The server is in memory, and in Python: how long it takes for the same lists is the reference.
"""

import json
import os
import resource
import subprocess
import sys
import time
from typing import Any

from lbspeaker.errors import Unavailable
from lbspeaker.wire import kube, speaker_object, status
from tests.bench import servers
from tests.bench.api import Api
from tests.bench.manifests import FIRST, GROUP, NAMESPACE, configuration, endpoints, preloaded
from tests.bench.results import Goal, Reference, Result, result
from tests.bench.servers import Memory

COUNT = 10_000
NODES = ("node-a", "node-b", "node-c")
ROUNDS = 3
_LISTS = (
    "/api/v1/services",
    "/apis/discovery.k8s.io/v1/endpointslices",
    f"{GROUP}/speakers",
)


def overview() -> list[Result]:
    with servers.memory(_objects()) as server, Api(server.client) as api:
        plain = [_seconds_to_list(api) for _ in range(ROUNDS)]
        asked = [_ask(server) for _ in range(ROUNDS)]
    lists = Reference("the same lists, each in one GET, parsed", plain)
    return [
        result("status-10000", "s", [wall for wall, _ in asked], lists, Goal("<", 1.5)),
        result("status-10000/cpu", "s", [cpu for _, cpu in asked], lists),
    ]


def _objects() -> list[dict[str, Any]]:
    objects = preloaded(COUNT)
    names = [one["metadata"]["name"] for one in objects if one["kind"] == "Service"]
    for number, one in enumerate(one for one in objects if one["kind"] == "Service"):
        one["status"] = {"loadBalancer": {"ingress": [{"ip": str(FIRST + number)}]}}
    nodes = [{"apiVersion": "v1", "kind": "Node", "metadata": {"name": node}} for node in NODES]
    slices = [endpoints(name, NODES[number % 3]) for number, name in enumerate(names)]
    leases = [json.loads(kube.lease(node, NAMESPACE, time.time())) for node in NODES]
    effective = json.loads(kube.effective_configuration(tuple(configuration().values())))
    effective["metadata"] |= {"namespace": NAMESPACE}
    return [*objects, *nodes, *slices, *leases, effective, *map(_speaker, NODES)]


def _speaker(node: str) -> dict[str, Any]:
    first = NODES.index(node)
    ips = tuple(
        status.IP(str(FIRST + number), (), "owner", ("eth0",), time.time() - 60, "new")
        for number in range(first, COUNT, len(NODES))
    )
    said = status.Status(node, "0", "serving", time.time(), 0.0, (), ips, (), {}, ())
    return {**json.loads(kube.speaker(node, NAMESPACE)), "status": speaker_object.body(said, time.time())}


def _seconds_to_list(api: Api) -> float:
    began = time.monotonic()
    found = [len(api.get(path)["items"]) for path in _LISTS]
    if found != [COUNT, COUNT, len(NODES)]:
        raise Unavailable(f"the server has {found}", "see what it says")
    return time.monotonic() - began


def _ask(server: Memory) -> tuple[float, float]:
    """How long the command takes, and how much of a core, in seconds."""
    argv = [sys.executable, "-m", "lbspeaker", "status", "-o", "json"]
    argv += ["--kubeconfig", str(server.client.kubeconfig)]
    before, began = resource.getrusage(resource.RUSAGE_CHILDREN), time.monotonic()
    done = subprocess.run(argv, capture_output=True, check=False, env=dict(os.environ))
    wall, after = time.monotonic() - began, resource.getrusage(resource.RUSAGE_CHILDREN)
    rows = json.loads(done.stdout)["services"] if done.stdout else []
    if len(rows) != COUNT:
        raise Unavailable(f"{len(rows)} Services are shown: {done.stderr[-300:]!r}", "see what it says")
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return wall, cpu
