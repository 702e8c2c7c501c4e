"""Two namespaces and a cable: a node with a speaker that runs from files, and a client that asks it.

The lab's switch would be measured, too, so there is none.
"""

import contextlib
import json
import os
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator, Sequence
from ipaddress import IPv4Address, IPv6Address
from pathlib import Path
from typing import NamedTuple

from lbspeaker.errors import Unavailable
from lbspeaker.lab import namespaces
from lbspeaker.lab.topology import Host
from tests.bench import servers
from tests.bench.manifests import FIRST, Manifest, configuration, endpoints, link_policy, service

CLIENT = Host("client", IPv4Address("192.0.2.2"), IPv6Address("2001:db8::2"))
NODE = Host("node", IPv4Address("192.0.2.201"), IPv6Address("2001:db8::201"))
_TOUCH_EVERY_S = 0.5
_ANSWERER = b"lbspeaker.answerer"

# The guard is there, and looks at each answer; only its numbers do not stop the benchmark.
UNLIMITED = {
    "profile": "fast",
    "rate": 100_000,
    "burst": 10_000,
    "segmentRate": 100_000,
    "segmentBurst": 10_000,
    "answerRate": 1_000_000,
    "answerBurst": 100_000,
    "dad": "off",
}


@contextlib.contextmanager
def cable() -> Iterator[tuple[str, str]]:
    """Two namespaces, joined by their eth0: of the node, and of the client."""
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


class Speaker(NamedTuple):
    """A speaker that runs; `objects`: the files that its Services and their endpoints are in."""

    process: "subprocess.Popen[bytes]"
    namespace: str
    objects: tuple[Path, ...]

    def answerer(self) -> int:
        """Return the id of its answerer. Raises Unavailable if there is none."""
        for pid in namespaces.inhabitants([self.namespace]):
            with contextlib.suppress(OSError):
                if _ANSWERER in Path(f"/proc/{pid}/cmdline").read_bytes():
                    return pid
        raise Unavailable("the speaker has no answerer")

    @contextlib.contextmanager
    def reading_again(self) -> Iterator[None]:
        """Meanwhile, have it read all its Services and endpoints again and again."""
        stop = threading.Event()

        def touch() -> None:
            while not stop.wait(_TOUCH_EVERY_S):
                for file in self.objects:
                    os.utime(file)

        thread = threading.Thread(target=touch, daemon=True)
        thread.start()
        try:
            yield
        finally:
            stop.set()
            thread.join()


@contextlib.contextmanager
def speaker(namespace: str, ips: Sequence[IPv4Address]) -> Iterator[Speaker]:
    """Run a speaker from files that owns `ips`, and may answer as often as it can."""
    with tempfile.TemporaryDirectory(prefix="lbspeaker-bench-") as name, tempfile.TemporaryFile() as log:
        documents = Path(name, "documents")
        documents.mkdir()
        objects = (documents / "services.yaml", documents / "endpoints.yaml")
        _write(objects[0], [_service(ip) for ip in ips])
        _write(objects[1], [endpoints(_name(ip), NODE.name) for ip in ips])
        node = {"apiVersion": "v1", "kind": "Node", "metadata": {"name": NODE.name}}
        _write(documents / "all.yaml", [*configuration().values(), link_policy(UNLIMITED), node])
        argv = [sys.executable, "-m", "lbspeaker", "speaker", "--node", NODE.name, "--log-level", "warning"]
        argv += ["--config", str(documents), "--runtime-dir", str(Path(name, "run"))]
        process = subprocess.Popen(namespaces.command(namespace, argv), stdout=log, stderr=log)
        try:
            yield Speaker(process, namespace, objects)
            if process.poll() is not None:
                raise Unavailable(
                    f"the speaker ended with {process.returncode}: {servers.said(log)[-500:]!r}"
                )
        finally:
            servers.end(process)


def _write(path: Path, objects: Sequence[Manifest]) -> None:
    path.write_text("\n---\n".join(map(json.dumps, objects)))  # JSON is YAML


def _name(ip: IPv4Address) -> str:
    return f"s{int(ip) - int(FIRST):05}"


def _service(ip: IPv4Address) -> Manifest:
    cluster_ip = IPv4Address("10.96.0.10") + int(ip) - int(FIRST)
    return service(_name(ip), clusterIP=str(cluster_ip), loadBalancerIP=str(ip))


def scheduled_s(pid: int) -> tuple[float, float]:
    """Return how long a process (its first thread) has had a core, and how long it has waited for one.

    From proc(5), schedstat, in nanoseconds; what `stat` says is in hundredths of a second.
    """
    worked, waited = Path(f"/proc/{pid}/schedstat").read_text().split()[:2]
    return int(worked) / 1e9, int(waited) / 1e9
