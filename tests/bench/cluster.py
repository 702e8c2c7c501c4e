"""Labs for benchmarks: of a name of their own, configured, and gone afterwards."""

import contextlib
import itertools
import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import msgspec

from lbspeaker.errors import Unavailable
from lbspeaker.lab import lab as labs
from lbspeaker.lab.frames import Frame
from lbspeaker.lab.lab import Lab
from tests.bench.api import SERVICES, Api, each
from tests.bench.asker import Asker
from tests.bench.manifests import GROUP, Manifest, configuration
from tests.lab.apiserver_backends import Client

_numbers = itertools.count(1)
_PATIENCE_S = 30.0


@contextlib.contextmanager
def lab(*, guard: str = "standard", client: Client | None = None) -> Iterator[Lab]:
    """Bring up three nodes whose speakers have a pool to announce; the switch counts and shuts nothing.

    `client`: of an API server to use instead of the lab's own. Raises Unable or Unavailable.
    """
    name = f"bench{os.getpid()}-{next(_numbers)}"
    kubeconfig = client.kubeconfig if client else None
    with contextlib.ExitStack() as cleaning:
        cleaning.callback(labs.remove, name)
        made = Lab.up(name, 3, "exabgp", guard_pps=None, guard=guard, kubeconfig=kubeconfig)
        with Api(client or client_of(made)) as api:
            for plural, manifest in configuration().items():
                api.request("POST", f"{GROUP}/{plural}", manifest)
            _await_published(api)
        yield made


def client_of(made: Lab) -> Client:
    return Client("memory", made.api(), made.kubeconfig)


def _await_published(api: Api) -> None:
    """Return when the controller has published the configuration, and the speakers had time to read it."""
    path = f"{GROUP}/effectiveconfigurations/lbspeaker"

    def published() -> bool:
        with contextlib.suppress(Unavailable):
            return len(api.get(path)["spec"]["documents"]) == 2
        return False

    until(published, _PATIENCE_S, "the effective configuration")
    time.sleep(0.3)


def create(client: Client, services: list[Manifest]) -> float:
    """Create Services, several at once; return when the first one was sent (epoch)."""
    began = time.time()
    each(client, "POST", [(SERVICES, service) for service in services])
    return began


def until(done: Callable[[], bool], patience_s: float, what: str) -> None:
    """Return when `done`. Raises Unavailable if it takes longer."""
    deadline = time.monotonic() + patience_s
    while not done():
        if time.monotonic() > deadline:
            raise Unavailable(f"{what}: not within {patience_s:.0f} s")
        time.sleep(0.02)


def unsolicited(made: Lab, since: float) -> list[Frame]:
    """Return the unsolicited ARP frames of all nodes since then (epoch)."""
    nodes = {node.name for node in made.nodes}
    frames = made.switch.frames(kind="gratuitous", protocol="arp", since=since)
    return [frame for frame in frames if frame.port in nodes]


def answers(made: Lab, since: float) -> list[Frame]:
    """Return the answers of all nodes since then (epoch)."""
    nodes = {node.name for node in made.nodes}
    frames = made.switch.frames(kind="answer", protocol="arp", since=since)
    return [frame for frame in frames if frame.port in nodes]


def asker(made: Lab) -> Asker:
    """Return the client of the lab, asking by hand."""
    return Asker(made.topology.namespace("client"), made.topology.client)


def assigned(api: Api) -> dict[str, str]:
    """Return the IP of every Service that has one, by name."""
    items = msgspec.json.decode(api.request("GET", SERVICES))["items"]
    found = {i["metadata"]["name"]: i.get("status", {}).get("loadBalancer", {}).get("ingress") for i in items}
    return {name: ingress[0]["ip"] for name, ingress in found.items() if ingress}


def resident_mib(pid: int) -> float:
    """Return the resident memory of one process, without its children (proc(5), VmRSS)."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1]) / 1024
    raise Unavailable(f"process {pid} has no memory: it has ended")
