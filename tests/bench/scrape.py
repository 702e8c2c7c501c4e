"""What a scrape of a speaker costs: CPU of its process, with a thousand IPs on a node full of Pods."""

import asyncio
import logging
import tempfile
import time
from ipaddress import ip_address, ip_interface
from pathlib import Path

import structlog

from lbspeaker.core.speaker import GATE
from lbspeaker.measuring import pages
from lbspeaker.model import (
    Change,
    Config,
    ConfigSet,
    Endpoint,
    EndpointSlice,
    Kind,
    L2Advertisement,
    Link,
    Node,
    Pool,
    Range,
    Service,
    Synced,
)
from lbspeaker.speaker import Options, Program
from lbspeaker.wire import orders, status
from tests.bench.results import Goal, Reference, Result, result

COUNT = 1000
PODS = 60  # of which each has a link on the node
ROUNDS = 9
EVERY_S = 15.0  # as Prometheus scrapes mostly
FIRST = ip_address("10.1.0.0")


def scrape() -> list[Result]:
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.CRITICAL))
    try:
        program = asyncio.run(_at_work())
    finally:
        structlog.reset_defaults()
    _, page = pages(program._families, program._check_ready)["/metrics"]
    whole = [_milliseconds(page) for _ in range(ROUNDS)]
    same = [_milliseconds(lambda: status.build(program._status())) for _ in range(ROUNDS)]
    assert page().count(b"\n") < 500, "no line for each Service"
    reference = Reference("the status as JSON", same)
    share = [100 * ms / 1000 / EVERY_S for ms in whole]
    nothing = Reference("no scrape", [0.0])
    return [
        result("scrape-1000", "ms", whole, reference),
        result("scrape-1000/share", f"% of a core, each {EVERY_S:.0f} s", share, nothing, Goal("<", 1)),
    ]


async def _at_work() -> Program:
    """A speaker that owns a thousand IPs, and answers for them."""
    with tempfile.TemporaryDirectory() as directory:
        return await _fed(Path(directory))


async def _fed(directory: Path) -> Program:
    program = Program(Options("a", directory=directory, runtime_dir=directory), None)
    program._layer2.set_links(_links())
    program._core.can_answer = True
    ips = [FIRST + n for n in range(COUNT)]
    pool = Pool("lan", (Range(ips[0], ips[-1]),))
    config = Config((pool,), (L2Advertisement("l2"),))
    told: list[Change | Synced] = [Change(Kind.CONFIG, "", ConfigSet(config))]
    told.append(Change(Kind.NODE, "a", Node("a")))
    for n, ip in enumerate(ips):
        key = f"default/s{n}"
        told.append(Change(Kind.SERVICE, key, Service(key, held=(ip,), held_pool="lan", given=(ip,))))
        told.append(Change(Kind.ENDPOINT_SLICE, key, EndpointSlice(key, key, (Endpoint("a"),))))
    for item in (*told, *map(Synced, GATE)):
        program._inbox.put_nowait(item)
    await program._turn()
    for ip in ips:
        program._inbox.put_nowait(orders.Answering(str(ip), ("eth0",)))
    await program._turn()
    return program


def _links() -> tuple[Link, ...]:
    home = Link("eth0", 2, b"\x02\0\0\0\0\x01", addresses=(ip_interface("10.1.255.1/16"),))
    pods = (Link(f"veth{n}", n + 3, b"\x02\0\0\0\0\x02", kind="veth") for n in range(PODS))
    return (home, *pods)


def _milliseconds(call: object) -> float:
    assert callable(call)
    began = time.process_time()
    call()
    return (time.process_time() - began) * 1000
