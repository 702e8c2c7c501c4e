"""One whole pass of the allocator over 10,000 Services, new ones and settled ones."""

import json
import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any

from lbspeaker.core.allocator import allocate
from lbspeaker.model import Allocation, Kind, Pool, Range, Service
from lbspeaker.wire import kube
from tests.bench.manifests import FIRST, services
from tests.bench.results import Goal, Reference, Result, result

COUNT = 10_000
ROUNDS = 7
_POOL = Pool("bench", (Range(FIRST, FIRST + 15_000),))


def allocation_pass() -> list[Result]:
    body = _list()
    page = kube.codec(Kind.SERVICE).page(body)
    fresh = [change.value for change in page.changes if isinstance(change.value, Service)]
    given = allocate([_POOL], fresh)
    held = [_holding(service, given[service.key]) for service in fresh]
    parsed, new, settled = [], [], []
    for _ in range(ROUNDS):
        parsed.append(_milliseconds(lambda: json.loads(body)))
        new.append(_milliseconds(lambda: allocate([_POOL], fresh)))
        settled.append(_milliseconds(lambda: allocate([_POOL], held)))
    reference = Reference("json.loads of the same Services", parsed)
    return [
        result("allocation-pass/new", "ms", new, reference, Goal("<", 150)),
        result("allocation-pass/held", "ms", settled, reference, Goal("<", 150)),
    ]


def _list() -> bytes:
    """The Services as an API server lists them."""
    items = []
    for number, manifest in enumerate(services(COUNT)):
        metadata = manifest["metadata"] | {
            "uid": f"00000000-0000-4000-8000-{number:012}",
            "resourceVersion": str(1000 + number),
            "creationTimestamp": f"2026-01-01T{number // 3600:02}:{number // 60 % 60:02}:{number % 60:02}Z",
        }
        cluster_ip = f"10.96.{number // 250}.{number % 250 + 1}"
        spec = manifest["spec"] | {
            "clusterIP": cluster_ip,
            "clusterIPs": [cluster_ip],
            "ipFamilies": ["IPv4"],
            "ipFamilyPolicy": "SingleStack",
        }
        items.append(manifest | {"metadata": metadata, "spec": spec, "status": {"loadBalancer": {}}})
    listed = {
        "kind": "ServiceList",
        "apiVersion": "v1",
        "metadata": {"resourceVersion": "20000"},
        "items": items,
    }
    return json.dumps(listed).encode()


def _holding(service: Service, given: Any) -> Service:
    assert isinstance(given, Allocation)
    return replace(service, held=given.ips, held_pool=given.pool)


def _milliseconds(call: Callable[[], object]) -> float:
    began = time.perf_counter()
    call()
    return (time.perf_counter() - began) * 1000
