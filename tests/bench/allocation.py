"""The allocator over 10,000 Services and 20 pools, with selectors and shared IPs: whole passes; a change."""

import json
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any

from lbspeaker.core.allocator import allocate
from lbspeaker.core.controller import GATE, Assign, Controller
from lbspeaker.model import (
    Allocation,
    Change,
    Config,
    ConfigSet,
    Kind,
    Namespace,
    Pool,
    Range,
    Requirement,
    Selector,
    Service,
    ServiceAllocation,
    Synced,
)
from lbspeaker.wire import kube
from tests.bench.manifests import FIRST, services
from tests.bench.results import Goal, Reference, Result, result

COUNT = 10_000
ROUNDS = 7
NAMESPACES = {f"ns{n}": Namespace(f"ns{n}", {"env": f"e{n % 10}"}) for n in range(40)}


def allocation_pass() -> list[Result]:
    body = _list()
    pools, fresh = _pools(), _fresh(body)
    given = allocate(pools, fresh, NAMESPACES)
    held = [_holding(service, given[service.key]) for service in fresh]
    parsed, new, settled = [], [], []
    for _ in range(ROUNDS):
        parsed.append(_milliseconds(lambda: json.loads(body)))
        new.append(_milliseconds(lambda: allocate(pools, fresh, NAMESPACES)))
        settled.append(_milliseconds(lambda: allocate(pools, held, NAMESPACES)))
    reference = Reference("json.loads of the same Services", parsed)
    memory = [_resident_mib("import tests.bench.allocation as one; one.whole_pass()") for _ in range(3)]
    bare = Reference("the same without Services", [_resident_mib("import tests.bench.allocation")])
    return [
        # 250 ms where the reference takes 142: machines are noisy.
        result("allocation-pass/new", "ms", new, reference, Goal("<=", 1.75, "ratio")),
        result("allocation-pass/held", "ms", settled, reference, Goal("<=", 1.75, "ratio")),
        result("allocation-pass/memory", "MiB resident", memory, bare, Goal("<", 150)),
        *_changes(pools, held, settled),
    ]


def _changes(pools: tuple[Pool, ...], held: list[Service], settled: list[float]) -> list[Result]:
    """One Service more, from the bytes of the watch's event to those of the patch."""
    controller = Controller()
    controller.observe(Change(Kind.CONFIG, "", ConfigSet(Config(pools))))
    for namespace in NAMESPACES.values():
        controller.observe(Change(Kind.NAMESPACE, namespace.name, namespace))
    for service in held:
        controller.observe(Change(Kind.SERVICE, service.key, service))
    for kind in GATE:
        controller.observe(Synced(kind))
    writes = [effect for effect in controller.advance(0.0) if isinstance(effect, Assign)]
    assert not writes, "all hold what they were given"
    decode = kube.codec(Kind.SERVICE).event
    found = []
    for number in range(50):
        item = _item(COUNT + number, services(1, f"new{number}-")[0])
        event = json.dumps({"type": "ADDED", "object": item}).encode()

        def change(event: bytes = event) -> bytes:
            step = decode(event)
            controller.observe(step.change)  # type: ignore[union-attr,arg-type]
            (assign,) = [e for e in controller.advance(0.0) if isinstance(e, Assign)]
            return kube.allocation_patch(assign.service, assign.allocation)

        found.append(_milliseconds(change))
    whole = Reference("a whole pass", settled)
    return [result("allocation-change", "ms", found, whole, Goal("<", 20), pick="max")]


def whole_pass() -> None:
    """Read the Services of a cluster, and give each its IP."""
    allocate(_pools(), _fresh(_list()), NAMESPACES)


def _fresh(body: bytes) -> list[Service]:
    page = kube.codec(Kind.SERVICE).page(body)
    return [change.value for change in page.changes if isinstance(change.value, Service)]


def _pools() -> tuple[Pool, ...]:
    """Twenty: for everybody, for a team's Services, for a namespace, for namespaces with a label."""
    rules = (
        lambda n: None,
        lambda n: ServiceAllocation(n, service_selectors=(_selector("team", f"t{n}"),)),
        lambda n: ServiceAllocation(n, namespaces=frozenset({f"ns{n}"})),
        lambda n: ServiceAllocation(namespace_selectors=(_selector("env", f"e{n % 10}"),), exclusive=n == 3),
    )
    ranges = [Range(FIRST + n * 4096, FIRST + n * 4096 + 4095) for n in range(20)]
    return tuple(
        Pool(f"p{n:02}", (r,), service_allocation=rules[n % 4](n), namespace_quota=4000 if n % 5 == 0 else 0)
        for n, r in enumerate(ranges)
    )


def _selector(key: str, value: str) -> Selector:
    return Selector((Requirement(key, "In", frozenset({value})),))


def _list() -> bytes:
    """The Services as an API server lists them."""
    items = [_item(number, manifest) for number, manifest in enumerate(services(COUNT))]
    listed = {
        "kind": "ServiceList",
        "apiVersion": "v1",
        "metadata": {"resourceVersion": "20000"},
        "items": items,
    }
    return json.dumps(listed).encode()


def _item(number: int, manifest: dict[str, Any]) -> dict[str, Any]:
    """A Service as the server has it: in one of 40 namespaces; every fourth shares its IP with others."""
    metadata = manifest["metadata"] | {
        "namespace": f"ns{number % 40}",
        "uid": f"00000000-0000-4000-8000-{number:012}",
        "resourceVersion": str(1000 + number),
        "creationTimestamp": f"2026-01-01T{number // 3600:02}:{number // 60 % 60:02}:{number % 60:02}Z",
        "labels": {"app": "web", "team": f"t{number % 25}"},
        "annotations": {"metallb.io/allow-shared-ip": f"key{number // 8}"} if number % 4 == 0 else {},
    }
    cluster_ip = f"10.96.{number // 250}.{number % 250 + 1}"
    spec = manifest["spec"] | {
        "clusterIP": cluster_ip,
        "clusterIPs": [cluster_ip],
        "ipFamilies": ["IPv4"],
        "ipFamilyPolicy": "SingleStack",
        "ports": [{"name": "http", "port": 8000 + number // 4 % 4, "targetPort": 8080}],
    }
    return manifest | {"metadata": metadata, "spec": spec, "status": {"loadBalancer": {}}}


def _holding(service: Service, given: Any) -> Service:
    assert isinstance(given, Allocation)
    return replace(service, held=given.ips, held_pool=given.pool, given=given.ips)


def _milliseconds(call: Callable[[], object]) -> float:
    began = time.perf_counter()
    call()
    return (time.perf_counter() - began) * 1000


def _resident_mib(program: str) -> float:
    """The most that a process needed which ran this (proc(5), VmHWM: unlike ru_maxrss, its own alone)."""
    tell = "print(next(line.split()[1] for line in open('/proc/self/status') if line.startswith('VmHWM:')))"
    done = subprocess.run(
        [sys.executable, "-c", f"{program}\n{tell}"], capture_output=True, text=True, check=True
    )
    return int(done.stdout) / 1024
