"""The user of the demo's cluster: applies documents, creates Services, and looks at what becomes of them.

All of it goes through the API, from the control network, where it can be reached however the lab was made.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar

import msgspec
import yaml

from lbspeaker.lab import namespaces, objects
from lbspeaker.lab.cluster import NAMESPACE
from lbspeaker.lab.lab import Lab
from lbspeaker.lab.topology import CONTROL, NODES_AS, ROUTER_AS
from lbspeaker.model import Change, Kind, Synced
from lbspeaker.shell.apiserver import ApiServer, Resource, credentials

T = TypeVar("T")
Call = Callable[[ApiServer], Awaitable[T]]

POOL = f"""\
apiVersion: lbspeaker.io/v1beta1
kind: IPAddressPool
metadata: {{name: lan, namespace: {NAMESPACE}}}
spec:
  addresses: [192.0.2.10-192.0.2.199]
"""
L2_ADVERTISEMENT = f"""\
apiVersion: lbspeaker.io/v1beta1
kind: L2Advertisement
metadata: {{name: lan, namespace: {NAMESPACE}}}
spec:
  ipAddressPools: [lan]
"""
BGP_HOLD_S = 3
BGP = f"""\
apiVersion: lbspeaker.io/v1beta1
kind: BGPPeer
metadata: {{name: router, namespace: {NAMESPACE}}}
spec: {{myASN: {NODES_AS}, peerASN: {ROUTER_AS}, peerAddress: 192.0.2.1, holdTime: {BGP_HOLD_S}s}}
---
apiVersion: lbspeaker.io/v1beta1
kind: BGPAdvertisement
metadata: {{name: lan, namespace: {NAMESPACE}}}
spec:
  ipAddressPools: [lan]
"""
SERVICE = """\
apiVersion: v1
kind: Service
metadata: {{name: {name}, namespace: default}}
spec:
  type: LoadBalancer
  selector: {{app: web}}
  ports: [{{port: 80, targetPort: 8080}}]
"""
POOL_SIZE = 190

_PLURALS = {
    "IPAddressPool": "ipaddresspools",
    "L2Advertisement": "l2advertisements",
    "BGPPeer": "bgppeers",
    "BGPAdvertisement": "bgpadvertisements",
}
_SERVICES = "/api/v1/namespaces/default/services"
_APPLY = {"fieldManager": "demo", "force": "true"}
_APPLY_TYPE = "application/apply-patch+yaml"


def ask(lab: Lab, call: Call[T]) -> T:
    """Return what `call` finds out from the lab's API server. Raises ApiError."""

    async def connected() -> T:
        async with ApiServer(credentials(str(lab.node_kubeconfig)), "demo", connections=50) as api:
            return await call(api)

    return namespaces.inside(lab.topology.namespace(CONTROL), lambda: asyncio.run(connected()))


def apply(lab: Lab, text: str) -> None:
    """Apply configuration documents, as `kubectl apply --server-side` does. Raises ApiError."""

    async def call(api: ApiServer) -> None:
        for document in yaml.safe_load_all(text):
            body = msgspec.json.encode(document)
            await api.request("PATCH", _path(document), query=_APPLY, body=body, content_type=_APPLY_TYPE)

    ask(lab, call)


def delete(lab: Lab, text: str) -> None:
    """Delete the objects of these documents. Raises ApiError."""

    async def call(api: ApiServer) -> None:
        for document in yaml.safe_load_all(text):
            await api.request("DELETE", _path(document))

    ask(lab, call)


def _path(document: Mapping[str, Any]) -> str:
    metadata = document["metadata"]
    plural = _PLURALS[document["kind"]]
    return f"/apis/{document['apiVersion']}/namespaces/{metadata['namespace']}/{plural}/{metadata['name']}"


# --- Services -------------------------------------------------------------------------------------------


@dataclass(slots=True)
class Births:
    """When Services were asked for, and when their IPs were seen (monotonic), by name."""

    asked: dict[str, float] = field(default_factory=dict)
    served: dict[str, float] = field(default_factory=dict)
    ips: dict[str, str] = field(default_factory=dict)

    @property
    def waits(self) -> list[float]:
        """Seconds from the request that creates a Service until a watch shows its IP, in order."""
        return sorted(self.served[name] - self.asked[name] for name in self.served)


def create_services(lab: Lab, count: int, births: Births, patience_s: float) -> None:
    """Create Services all at once; note in `births` what becomes of them, until each has an IP.

    After `patience_s` it returns without those that have none. Raises ApiError.
    """
    names = [f"web-{number:02}" for number in range(1, count + 1)]
    ask(lab, lambda api: _create_services(api, names, births, patience_s))


async def _create_services(api: ApiServer, names: Sequence[str], births: Births, patience_s: float) -> None:
    synced, complete = asyncio.Event(), asyncio.Event()

    def observe(change: Change | Synced) -> None:
        if isinstance(change, Synced):
            synced.set()
        elif isinstance(change.value, objects.Service) and change.value.service_ips:
            name = change.value.metadata.name
            births.served.setdefault(name, time.monotonic())
            births.ips[name] = str(change.value.service_ips[0])
            if births.ips.keys() >= set(names):
                complete.set()

    async def create(name: str, body: bytes) -> None:
        births.asked[name] = time.monotonic()
        await api.request("POST", _SERVICES, body=body)

    bodies = {name: msgspec.json.encode(yaml.safe_load(SERVICE.format(name=name))) for name in names}
    resource = Resource(Kind.SERVICE, _SERVICES, *objects.decoders(Kind.SERVICE, objects.Service))
    watching = asyncio.get_running_loop().create_task(api.reflect(resource, observe))
    try:
        async with asyncio.timeout(patience_s):
            await synced.wait()
            await asyncio.gather(*(create(name, body) for name, body in bodies.items()))
            await complete.wait()
    except TimeoutError:
        pass
    finally:
        watching.cancel()


def touch_services(lab: Lab, names: Sequence[str], mark: str) -> None:
    """Give Services a label that means nothing to anybody. Raises ApiError."""
    body = msgspec.json.encode({"metadata": {"labels": {"demo": mark}}})

    async def call(api: ApiServer) -> None:
        await asyncio.gather(*(api.request("PATCH", f"{_SERVICES}/{name}", body=body) for name in names))

    ask(lab, call)


def renewals(lab: Lab) -> dict[str, str]:
    """Return when each speaker last renewed its Lease, by node, as it says. Raises ApiError."""

    async def call(api: ApiServer) -> bytes:
        return await api.request("GET", f"/apis/coordination.k8s.io/v1/namespaces/{NAMESPACE}/leases")

    leases = msgspec.json.decode(ask(lab, call))["items"]
    renewed = [lease["spec"] for lease in leases if "renewTime" in lease["spec"]]  # those of pins are not
    return {spec["holderIdentity"]: spec["renewTime"] for spec in renewed}
