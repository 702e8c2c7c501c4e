"""Labs for benchmarks: of a name of their own, configured, and gone afterwards."""

import contextlib
import itertools
import os
import secrets
import socket
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import msgspec

from lbspeaker.errors import Unavailable
from lbspeaker.lab import lab as labs
from lbspeaker.lab.frames import Frame
from lbspeaker.lab.lab import Lab
from lbspeaker.wire import kube, status
from tests.bench.api import SERVICES, Api, each
from tests.bench.asker import Asker
from tests.bench.manifests import GROUP, NAMESPACE, Manifest, configuration, link_policy
from tests.lab.apiserver_backends import Client

_numbers = itertools.count(1)
_PATIENCE_S = 30.0
_FULL_S = 2.0  # a bucket that has just been changed is empty


@contextlib.contextmanager
def lab(
    *,
    nodes: int = 3,
    guard: str = "standard",
    client: Client | None = None,
    hellos: bool = True,
    prefers: str = "",
) -> Iterator[Lab]:
    """Bring up nodes whose speakers have a pool to announce; the switch counts and shuts nothing.

    `client`: of an API server to use instead of the lab's own. `hellos` False: speakers have no password for
    them, until `provide_hellos`. `prefers`: the node that owns everything. Raises Unable or Unavailable.
    """
    name = f"bench{os.getpid()}-{next(_numbers)}"
    kubeconfig = client.kubeconfig if client else None
    with contextlib.ExitStack() as cleaning:
        cleaning.callback(labs.remove, name)
        made = Lab.up(
            name, nodes, "exabgp", guard_pps=None, guard=guard, kubeconfig=kubeconfig, programs=hellos
        )
        with Api(client or client_of(made)) as api:
            if not hellos:
                _start_without_hellos(made, api)
            for plural, manifest in configuration(prefers).items():
                api.request("POST", f"{GROUP}/{plural}", manifest)
            _await_published(api, {"IPAddressPool", "L2Advertisement"})
        yield made


_SECRETS = f"/api/v1/namespaces/{NAMESPACE}/secrets"


def _start_without_hellos(made: Lab, api: Api) -> None:
    """The controller provides the password once, when its turn begins: so take it away after that."""
    made.start("controller")

    def taken_away() -> bool:
        with contextlib.suppress(Unavailable):
            api.request("DELETE", f"{_SECRETS}/{kube.HELLO_SECRET}")
            return True
        return False

    until(taken_away, _PATIENCE_S, "the Secret of hellos")
    made.start_programs()


def provide_hellos(made: Lab, api: Api) -> None:
    """Give the speakers a password; return when all of them hear each other on the segment."""
    api.request("POST", _SECRETS, kube.hello_secret(NAMESPACE, secrets.token_bytes(32)))
    until(lambda: all_hear(made), _PATIENCE_S, "the hellos of all")


def all_hear(made: Lab) -> bool:
    """Whether every speaker hears all others on the segment."""
    others = len(made.nodes) - 1
    with contextlib.suppress(OSError, ValueError):
        found = [status_of(made, node.name).members for node in made.nodes]
        return all(sum(one.alive and "eth0" in one.heard_on for one in seen) == others for seen in found)
    return False


def status_of(made: Lab, node: str) -> status.Status:
    """Return what the speaker says about itself. Raises OSError or ValueError while it does not."""
    with socket.socket(socket.AF_UNIX) as asking:
        asking.settimeout(5.0)
        asking.connect(str(made.directory / node / status.SOCKET))
        asking.sendall(b"GET /status HTTP/1.0\r\n\r\n")
        answer = b"".join(iter(lambda: asking.recv(1 << 16), b""))
    return status.parse(answer.partition(b"\r\n\r\n")[2])


def client_of(made: Lab) -> Client:
    return Client("memory", made.api(), made.kubeconfig)


def set_policy(api: Api, spec: Manifest | None) -> None:
    """Let this LinkPolicy, or none, hold for all links; return when that is so, and all buckets are full."""
    path = f"{GROUP}/linkpolicies"
    if any(item["metadata"]["name"] == "bench" for item in api.get(path)["items"]):
        api.request("DELETE", f"{path}/bench")
    kinds = {"IPAddressPool", "L2Advertisement"}
    _await_published(api, kinds)
    if spec is not None:
        api.request("POST", path, link_policy(spec))
        _await_published(api, kinds | {"LinkPolicy"})
    time.sleep(_FULL_S)


def _await_published(api: Api, kinds: set[str]) -> None:
    """Return when the controller has published objects of just these kinds, and speakers could read them."""
    path = f"{GROUP}/effectiveconfigurations/lbspeaker"

    def published() -> bool:
        with contextlib.suppress(Unavailable):
            return {document["kind"] for document in api.get(path)["spec"]["documents"]} == kinds
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
    """Return the ARP frames of all nodes since then (epoch) that answer nobody.

    Announcements, probes, and the question whether the gateway is there. A kernel asks nothing in a lab.
    """
    return [frame for frame in _of_nodes(made, since) if frame.kind != "answer"]


def announcements(made: Lab, since: float) -> list[Frame]:
    """Return the gratuitous ARP frames of all nodes since then (epoch)."""
    return [frame for frame in _of_nodes(made, since) if frame.kind == "gratuitous"]


def announced(made: Lab, since: float) -> int:
    """Return how many IPs were announced since then (epoch)."""
    return len({frame.target for frame in announcements(made, since)})


def answers(made: Lab, since: float) -> list[Frame]:
    """Return the answers of all nodes since then (epoch)."""
    return [frame for frame in _of_nodes(made, since) if frame.kind == "answer"]


def _of_nodes(made: Lab, since: float) -> list[Frame]:
    nodes = {node.name for node in made.nodes}
    return [frame for frame in made.switch.frames(protocol="arp", since=since) if frame.port in nodes]


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
