"""How fast the answerer answers, next to the kernel that answers for an address of its own.

With 10 service IPs, with 10,000, and with 10,000 while the speaker beside it reads all its Services and
endpoints again and again. The guard looks at every answer: nobody gets the same one more than 100 times in a
second, so the client asks in the names of many. Three questions:

    one at a time, 500 a second        how long does one take?
    32 at a time, as fast as it goes   how many are there in a second?
    50,000 a second, come what may     does one get lost? The answerer has one core, the client the other
"""

import gc
import itertools
import os
import time
from collections.abc import Iterator, Sequence
from ipaddress import IPv4Address
from statistics import median, quantiles
from typing import NamedTuple

from lbspeaker.errors import Unavailable
from lbspeaker.lab import namespaces
from lbspeaker.shell import packet
from lbspeaker.wire import bpf
from tests.bench import cluster
from tests.bench.asker import Asker
from tests.bench.cable import CLIENT, NODE, Speaker, cable, scheduled_s, speaker
from tests.bench.manifests import FIRST
from tests.bench.results import Goal, Reference, Result, result

FEW, MANY = 10, 10_000
ROUNDS = 3
_ASKERS = [(IPv4Address("192.0.2.16") + n).packed for n in range(179)]  # a prime: all ask for all IPs
_PACED = 500  # requests, one every 2 ms
_WINDOW = 32  # requests under way
_CLOSED_S = 1.0
_OFFERED_PER_S, _OFFERED_S = 50_000, 2.0
_OFFERED_AT_LEAST = 49_000  # or nothing was proved
_LATE_S = 0.2  # for answers that are still under way
_MOST_SLOWER = 6  # than the kernel
_START_S = 90.0
_KERNEL = "the kernel, own address"
# Counts replies (RFC 826: operation 2), and keeps none.
_REPLIES = bpf.assemble([(0x28, 0, 0, 20), (0x15, 0, 1, 2), (0x06, 0, 0, 64), (0x06, 0, 0, 0)])


class Latency(NamedTuple):
    """Of one round, in µs."""

    middle: float
    p99: float


class Offer(NamedTuple):
    """What came of requests that were sent whether or not there were answers."""

    per_s: float  # requests
    lost: float  # answers, per cent
    cpu: float  # of the answerer, per cent of one core
    cost: float  # the same for each answer, µs
    waited: float  # how long the answerer had work and no core, per cent: the machine has other things to do


def answers() -> list[Result]:
    rows: list[Result] = []
    with cable() as (node, client), Asker(client, CLIENT) as asker:
        for count in (FEW, MANY):
            ips = [FIRST + number for number in range(count)]
            with speaker(node, ips) as running:
                _await_answer(asker, ips)
                rows += _latency(f"answers/latency-{count}", asker, ips)
                rows += _rate(f"answers/rate-{count}", asker, ips)
                rows += _offered(f"answers/offered-{count}", asker, ips, running, client)
                if count == MANY:
                    rows += _while_reading(asker, ips, running)
    return rows


def _await_answer(asker: Asker, ips: Sequence[IPv4Address]) -> None:
    """Return when the speaker answers for the first and the last, and has announced everything."""
    for ip in (ips[0], ips[-1]):
        cluster.until(lambda ip=ip: asker.resolve(ip.packed, 0.1), _START_S, f"an answer for {ip}")  # type: ignore[misc]
    time.sleep(1.0)


def _requests(asker: Asker, ips: Sequence[IPv4Address]) -> Iterator[tuple[bytes, bytes]]:
    """Return requests for ever, each with its IP: of everybody, for every IP."""
    pairs = zip(itertools.cycle(ips), itertools.cycle(_ASKERS), strict=False)
    return ((ip.packed, asker.request(ip.packed, sender)) for ip, sender in pairs)


def _of_kernel(asker: Asker) -> Iterator[tuple[bytes, bytes]]:
    ip = NODE.ipv4.packed
    return itertools.repeat((ip, asker.request(ip)))


# --- one at a time --------------------------------------------------------------------------------------


def _latency(name: str, asker: Asker, ips: Sequence[IPv4Address]) -> list[Result]:
    ours, kernel = [], []
    for _ in range(ROUNDS):
        kernel.append(_round_us(asker, _of_kernel(asker)))
        ours.append(_round_us(asker, _requests(asker, ips)))
    return [
        result(
            name,
            "µs (median)",
            [one.middle for one in ours],
            Reference(_KERNEL, [one.middle for one in kernel]),
            Goal("<=", _MOST_SLOWER, "ratio"),
        ),
        result(
            f"{name}-p99", "µs", [one.p99 for one in ours], Reference(_KERNEL, [one.p99 for one in kernel])
        ),
    ]


def _while_reading(asker: Asker, ips: Sequence[IPv4Address], running: Speaker) -> list[Result]:
    """The same while the speaker has work; and how much of a core that was."""
    with running.reading_again():
        time.sleep(1.5)
        began, worked = time.monotonic(), scheduled_s(running.process.pid)[0]
        rows = _latency(f"answers/latency-{len(ips)}-busy", asker, ips)
        share = 100 * (scheduled_s(running.process.pid)[0] - worked) / (time.monotonic() - began)
    return [
        *rows,
        result("answers/speaker-busy", "% of a core", [share], Reference("all of it", [100.0])),
    ]


def _round_us(asker: Asker, requests: Iterator[tuple[bytes, bytes]]) -> Latency:
    """Raises Unavailable if a request is not answered within a second."""
    times = []
    for ip, request in itertools.islice(requests, _PACED):
        time.sleep(0.002)
        began = time.perf_counter()
        if not asker.resolve(ip, 1.0, request):
            raise Unavailable(f"a request for {IPv4Address(ip)} was not answered within a second")
        times.append((time.perf_counter() - began) * 1e6)
    return Latency(median(times), quantiles(times, n=100)[98])


# --- many at a time -------------------------------------------------------------------------------------


def _rate(name: str, asker: Asker, ips: Sequence[IPv4Address]) -> list[Result]:
    ours, kernel = [], []
    for _ in range(ROUNDS):
        kernel.append(_closed_per_s(asker, _of_kernel(asker)))
        ours.append(_closed_per_s(asker, _requests(asker, ips)))
    return [result(name, "answers/s", ours, Reference(_KERNEL, kernel))]


def _closed_per_s(asker: Asker, requests: Iterator[tuple[bytes, bytes]]) -> float:
    """Return the answers per second with `_WINDOW` requests under way. Raises Unavailable if one is lost."""
    frames = itertools.cycle([request for _, request in itertools.islice(requests, 1 << 15)])
    asker.answered(0.0)
    asker.socket.settimeout(1.0)
    send, receive = asker.socket.send, asker.socket.recv
    count = 0
    try:
        for _ in range(_WINDOW):
            send(next(frames))
        began = time.perf_counter()
        while time.perf_counter() - began < _CLOSED_S:
            for _ in range(_WINDOW):
                receive(64)
                send(next(frames))
            count += _WINDOW
        rate = count / (time.perf_counter() - began)
        for _ in range(_WINDOW):
            receive(64)
    except TimeoutError:
        raise Unavailable(f"an answer was lost after {count}") from None
    finally:
        asker.socket.setblocking(False)
    return rate


# --- come what may --------------------------------------------------------------------------------------


def _offered(
    name: str, asker: Asker, ips: Sequence[IPv4Address], running: Speaker, client: str
) -> list[Result]:
    answerer = running.answerer()
    cores = sorted(os.sched_getaffinity(0))
    counter = namespaces.inside(client, lambda: packet.open_link("eth0", packet.ETH_P_ARP, _REPLIES, 0))
    ours: list[Offer] = []
    kernel: list[Offer] = []
    try:
        os.sched_setaffinity(0, cores[:1])
        os.sched_setaffinity(answerer, cores[-1:])
        for _ in range(ROUNDS):
            for offers, requests in ((kernel, _of_kernel(asker)), (ours, _requests(asker, ips))):
                worked, waited, began = *scheduled_s(answerer), time.monotonic()
                sent, per_s = _send(asker, requests)
                time.sleep(_LATE_S)
                took = time.monotonic() - began
                worked, waited = (b - a for a, b in zip((worked, waited), scheduled_s(answerer), strict=True))
                answered = packet.taken(counter)[0]
                offers.append(
                    Offer(
                        per_s,
                        100 * (1 - answered / sent),
                        100 * worked * per_s / sent,
                        1e6 * worked / max(answered, 1),
                        100 * waited / took,
                    )
                )
    finally:
        os.sched_setaffinity(0, cores)
        os.sched_setaffinity(answerer, cores)
        counter.close()
    return [
        result(
            name,
            "requests/s",
            [one.per_s for one in ours],
            Reference(_KERNEL, [one.per_s for one in kernel]),
            Goal(">=", _OFFERED_AT_LEAST),
        ),
        result(
            f"{name}-lost",
            "%",
            [one.lost for one in ours],
            Reference(_KERNEL, [one.lost for one in kernel]),
            Goal("<=", 0),
        ),
        result(f"{name}-cpu", "% of a core", [one.cpu for one in ours], Reference("all of it", [100.0])),
        result(
            f"{name}-cost",
            "µs of CPU",
            [one.cost for one in ours],
            Reference("what a core has for each", [1e6 / _OFFERED_PER_S]),
            Goal("<", 1, "ratio"),
        ),
        result(f"{name}-waited", "% of the time", [one.waited for one in ours], Reference("always", [100.0])),
    ]


def _send(asker: Asker, requests: Iterator[tuple[bytes, bytes]]) -> tuple[int, float]:
    """Send `_OFFERED_PER_S` requests a second, evenly; return how many, and how many a second it became."""
    total = int(_OFFERED_PER_S * _OFFERED_S)
    frames = [request for _, request in itertools.islice(requests, total)]
    send, clock = asker.socket.send, time.perf_counter
    asker.socket.setblocking(True)
    gc.disable()
    try:
        began, sent = clock(), 0
        while sent < total:
            due = min(int((clock() - began) * _OFFERED_PER_S), total)
            for frame in frames[sent:due]:
                send(frame)
            sent = max(sent, due)
        took = clock() - began
    finally:
        gc.enable()
        asker.socket.setblocking(False)
        asker.answered(0.0)
    return total, total / took
