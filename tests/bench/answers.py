"""How fast the answerer answers, next to the kernel that answers for an address of its own.

Two namespaces and a cable; a speaker that runs from files. The lab's switch would be measured too, so there
is none.
"""

import contextlib
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from ipaddress import IPv4Address, IPv6Address
from pathlib import Path
from statistics import median

import yaml

from lbspeaker.errors import Unavailable
from lbspeaker.lab import namespaces
from lbspeaker.lab.topology import Host
from tests.bench import cluster, servers
from tests.bench.asker import Asker
from tests.bench.manifests import configuration, service
from tests.bench.results import Reference, Result, result

SERVICE_IP = IPv4Address("198.18.1.0")
CLIENT = Host("client", IPv4Address("192.0.2.2"), IPv6Address("2001:db8::2"))
NODE = Host("node", IPv4Address("192.0.2.201"), IPv6Address("2001:db8::201"))
ROUNDS = 3
_PACED = 500  # requests, one every 2 ms: fewer than the guard lets be answered in a second
_WINDOW = 32  # requests under way
_FLOOD_S = 2.0


def answers() -> list[Result]:
    paced, kernel_paced, fast, kernel_fast = [], [], [], []
    with _cable() as (node, client), Asker(client, CLIENT) as asker:
        with _speaker(node, "standard"):
            _await_answer(asker)
            for _ in range(ROUNDS):
                kernel_paced.append(_latency_us(asker, NODE.ipv4.packed))
                paced.append(_latency_us(asker, SERVICE_IP.packed))
        with _speaker(node, "off"):  # the guard would end it at 1000 answers a second
            _await_answer(asker)
            for _ in range(ROUNDS):
                kernel_fast.append(_rate(asker, NODE.ipv4.packed))
                fast.append(_rate(asker, SERVICE_IP.packed))
    return [
        result("answers/latency", "µs (median)", paced, Reference("the kernel, own address", kernel_paced)),
        result("answers/rate", "answers/s", fast, Reference("the kernel, own address", kernel_fast)),
    ]


@contextlib.contextmanager
def _cable() -> Iterator[tuple[str, str]]:
    """Two namespaces, joined by their eth0."""
    node, client = (f"lbs-bench{os.getpid()}-{name}" for name in ("node", "client"))
    try:
        namespaces.add([node, client])
        namespaces.configure(
            node,
            [
                f"link add eth0 address {NODE.mac.hex(':')} type veth "
                f"peer name eth0 address {CLIENT.mac.hex(':')} netns {client}",
                *_on_segment(NODE, CLIENT),
            ],
        )
        namespaces.configure(client, _on_segment(CLIENT, NODE))
        yield node, client
    finally:
        namespaces.remove([node, client])


def _on_segment(host: Host, other: Host) -> list[str]:
    """What `host` is given; the two know each other, so that they do not ask."""
    return [
        "link set eth0 up",
        f"address add {host.ipv4}/24 dev eth0",
        f"neighbour replace {other.ipv4} lladdr {other.mac.hex(':')} dev eth0 nud permanent",
    ]


@contextlib.contextmanager
def _speaker(namespace: str, guard: str) -> Iterator[None]:
    """A speaker that runs from files, and owns SERVICE_IP."""
    with tempfile.TemporaryDirectory(prefix="lbspeaker-bench-") as name, tempfile.TemporaryFile() as log:
        documents = Path(name, "documents")
        documents.mkdir()
        (documents / "all.yaml").write_text(yaml.safe_dump_all(_documents()))
        argv = [sys.executable, "-m", "lbspeaker", "speaker", "--node", NODE.name, "--guard", guard]
        argv += ["--config", str(documents), "--runtime-dir", str(Path(name, "run"))]
        process = subprocess.Popen(namespaces.command(namespace, argv), stdout=log, stderr=log)
        try:
            yield
            if process.poll() is not None:
                raise Unavailable(f"the speaker ended with {process.returncode}")
        finally:
            servers.end(process)


def _documents() -> list[dict[str, object]]:
    metadata = {"name": "web", "namespace": "default", "labels": {"kubernetes.io/service-name": "web"}}
    endpoint = {"addresses": ["10.244.1.10"], "nodeName": NODE.name, "conditions": {"ready": True}}
    return [
        *configuration().values(),
        service("web", clusterIP="10.96.0.10", loadBalancerIP=str(SERVICE_IP)),
        {"apiVersion": "v1", "kind": "Node", "metadata": {"name": NODE.name}},
        {
            "apiVersion": "discovery.k8s.io/v1",
            "kind": "EndpointSlice",
            "metadata": metadata,
            "addressType": "IPv4",
            "endpoints": [endpoint],
            "ports": [{"name": "http", "port": 8080}],
        },
    ]


def _await_answer(asker: Asker) -> None:
    """Return when the speaker answers, and has announced."""
    cluster.until(lambda: asker.resolve(SERVICE_IP.packed, 0.1), 15, f"an answer for {SERVICE_IP}")
    time.sleep(0.5)


def _latency_us(asker: Asker, ip: bytes) -> float:
    """Return the median time from request to answer, one at a time. Raises Unavailable if one is lost."""
    times = []
    for _ in range(_PACED):
        time.sleep(0.002)
        began = time.perf_counter()
        if not asker.resolve(ip, 1.0):
            raise Unavailable(f"a request for {IPv4Address(ip)} was not answered within a second")
        times.append((time.perf_counter() - began) * 1e6)
    return median(times)


def _rate(asker: Asker, ip: bytes) -> float:
    """Return the answers per second with `_WINDOW` requests under way. Raises Unavailable if one is lost."""
    asker.answered(0.0)
    asker.socket.setblocking(True)
    asker.socket.settimeout(1.0)
    send, receive, request = asker.socket.send, asker.socket.recv, asker.request(ip)
    count = 0
    try:
        for _ in range(_WINDOW):
            send(request)
        began = time.perf_counter()
        while time.perf_counter() - began < _FLOOD_S:
            for _ in range(_WINDOW):
                receive(64)
                send(request)
            count += _WINDOW
        rate = count / (time.perf_counter() - began)
        for _ in range(_WINDOW):
            receive(64)
    except TimeoutError:
        raise Unavailable(f"an answer for {IPv4Address(ip)} was lost after {count}") from None
    finally:
        asker.socket.setblocking(False)
    return rate
