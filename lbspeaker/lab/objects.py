"""The Services and Pods of the API as the lab's stand-ins read them, and the objects that they write.

Pure: JSON in, values out; values in, manifests out.
"""

from collections.abc import Callable, Iterable, Mapping
from ipaddress import ip_address
from typing import Any, Generic, TypeVar

import msgspec

from lbspeaker.errors import Malformed
from lbspeaker.lab.topology import POD_PORTS, LabNode
from lbspeaker.model import Address, Change, Kind, Page, Step, WatchError

T = TypeVar("T")
Manifest = dict[str, Any]

MANAGER = "lab.lbspeaker.io"
APP = "web"


class Struct(msgspec.Struct, rename="camel", frozen=True):
    """Fields as the API writes them; unknown ones are passed over."""


class Metadata(Struct, frozen=True):
    name: str = ""
    namespace: str = ""
    labels: dict[str, str] | None = None
    resource_version: str = ""
    deletion_timestamp: str | None = None

    @property
    def key(self) -> str:
        return f"{self.namespace}/{self.name}" if self.namespace else self.name


class ServicePort(Struct, frozen=True):
    port: int
    name: str = ""
    protocol: str = "TCP"
    target_port: int | str = 0


class ServiceSpec(Struct, frozen=True):
    selector: dict[str, str] | None = None
    ports: list[ServicePort] = []
    cluster_ips: list[str] = msgspec.field(default_factory=list, name="clusterIPs")
    external_traffic_policy: str = ""


class Ingress(Struct, frozen=True):
    ip: str = ""


class LoadBalancer(Struct, frozen=True):
    ingress: list[Ingress] | None = None


class ServiceStatus(Struct, frozen=True):
    load_balancer: LoadBalancer = LoadBalancer()


class Service(Struct, frozen=True):
    metadata: Metadata
    spec: ServiceSpec = ServiceSpec()
    status: ServiceStatus = ServiceStatus()

    @property
    def cluster_ips(self) -> list[Address]:
        return [ip_address(text) for text in self.spec.cluster_ips if text not in ("", "None")]

    @property
    def service_ips(self) -> list[Address]:
        return [ip_address(ingress.ip) for ingress in self.status.load_balancer.ingress or [] if ingress.ip]


class ContainerPort(Struct, frozen=True):
    container_port: int
    name: str = ""


class Container(Struct, frozen=True):
    ports: list[ContainerPort] | None = None


class PodSpec(Struct, frozen=True):
    node_name: str = ""
    containers: list[Container] = []


class PodIP(Struct, frozen=True):
    ip: str


class Condition(Struct, frozen=True):
    type: str
    status: str


class PodStatus(Struct, frozen=True):
    pod_ips: list[PodIP] | None = msgspec.field(default=None, name="podIPs")
    conditions: list[Condition] | None = None


class Pod(Struct, frozen=True):
    metadata: Metadata
    spec: PodSpec = PodSpec()
    status: PodStatus = PodStatus()

    @property
    def ready(self) -> bool:
        """Ready, and not about to end."""
        ready = any(c.type == "Ready" and c.status == "True" for c in self.status.conditions or [])
        return ready and self.metadata.deletion_timestamp is None

    @property
    def ips(self) -> list[Address]:
        return [ip_address(entry.ip) for entry in self.status.pod_ips or []]

    def matches(self, service: Service) -> bool:
        labels, wanted = self.metadata.labels or {}, service.spec.selector
        same = self.metadata.namespace == service.metadata.namespace
        return same and bool(wanted) and all(labels.get(k) == v for k, v in (wanted or {}).items())

    def port(self, target: int | str, port: int) -> int | None:
        """The container's port that a Service's targetPort means; None if it names one that is not there."""
        if isinstance(target, int):
            return target or port
        ports = [entry for container in self.spec.containers for entry in container.ports or []]
        return next((entry.container_port for entry in ports if entry.name == target), None)


# --- lists and watches ----------------------------------------------------------------------------------


class _ListMeta(Struct, frozen=True):
    resource_version: str = ""
    continue_: str = msgspec.field(default="", name="continue")


class _List(Struct, Generic[T], frozen=True):
    metadata: _ListMeta
    items: list[T] | None = None


class _Event(Struct, frozen=True):
    type: str
    object: msgspec.Raw


class _Versioned(Struct, frozen=True):
    metadata: Metadata = Metadata()


class _Status(Struct, frozen=True):
    code: int = 0
    message: str = ""


def decoders(
    kind: Kind, struct: type[Any]
) -> tuple[Callable[[bytes], Page], Callable[[bytes], Step | WatchError]]:
    """Return what reads a list and what reads an event of a watch, for Service, Pod or Metadata-bearers."""
    listing = msgspec.json.Decoder(_List[struct])  # type: ignore[valid-type]

    def page(body: bytes) -> Page:
        found = _checked(lambda: listing.decode(body))
        changes = tuple(Change(kind, item.metadata.key, item) for item in found.items or [])
        return Page(found.metadata.resource_version, found.metadata.continue_, changes)

    def event(line: bytes) -> Step | WatchError:
        found = _checked(lambda: msgspec.json.decode(line, type=_Event))
        if found.type == "ERROR":
            status = _checked(lambda: msgspec.json.decode(found.object, type=_Status))
            return WatchError(status.code, status.message)
        if found.type == "BOOKMARK":
            metadata = _checked(lambda: msgspec.json.decode(found.object, type=_Versioned)).metadata
            return Step(metadata.resource_version, None)
        item = _checked(lambda: msgspec.json.decode(found.object, type=struct))
        value = None if found.type == "DELETED" else item
        return Step(item.metadata.resource_version, Change(kind, item.metadata.key, value))

    return page, event


def _checked(decode: Callable[[], Any]) -> Any:
    try:
        return decode()
    except msgspec.DecodeError as error:
        raise Malformed(f"the API server sent what its API does not allow: {error}") from error


# --- manifests ------------------------------------------------------------------------------------------


def node_manifest(node: LabNode, kernel: str) -> Manifest:
    """Return a v1 Node, Ready, as `kubectl get nodes -o wide` likes to see it."""
    addresses = [("InternalIP", str(node.ipv4)), ("InternalIP", str(node.ipv6)), ("Hostname", node.name)]
    conditions = [("Ready", "True", "LabReady"), ("NetworkUnavailable", "False", "LabNetwork")]
    return {
        "apiVersion": "v1",
        "kind": "Node",
        "metadata": {
            "name": node.name,
            "labels": {"kubernetes.io/hostname": node.name, "kubernetes.io/os": "linux"},
        },
        "spec": {
            "podCIDR": str(node.pod_networks[0]),
            "podCIDRs": [str(network) for network in node.pod_networks],
        },
        "status": {
            "addresses": [{"type": kind, "address": address} for kind, address in addresses],
            "conditions": [
                {"type": kind, "status": status, "reason": reason} for kind, status, reason in conditions
            ],
            "nodeInfo": {
                "architecture": "",
                "bootID": "",
                "containerRuntimeVersion": "none://",
                "kernelVersion": kernel,
                "kubeProxyVersion": "",
                "kubeletVersion": "lab",
                "machineID": "",
                "operatingSystem": "linux",
                "osImage": "network namespace",
                "systemUUID": "",
            },
        },
    }


def pod_name(node: LabNode) -> str:
    return f"{APP}-{node.name}"


def pod_manifest(node: LabNode) -> Manifest:
    """Return the v1 Pod `web-NODE`, running and Ready, with the label app=web."""
    ips = [{"ip": str(ip)} for ip in node.pods]
    ports = [
        {"name": "http" if port == 8080 else f"http-{port}", "containerPort": port} for port in POD_PORTS
    ]
    state = [
        ("PodScheduled", "True"),
        ("Initialized", "True"),
        ("ContainersReady", "True"),
        ("Ready", "True"),
    ]
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": pod_name(node), "namespace": "default", "labels": {"app": APP}},
        "spec": {
            "nodeName": node.name,
            "containers": [{"name": APP, "image": "lbspeaker.lab/backend", "ports": ports}],
            "tolerations": [{"operator": "Exists"}],
        },
        "status": {
            "phase": "Running",
            "podIP": ips[0]["ip"],
            "podIPs": ips,
            "hostIP": str(node.ipv4),
            "conditions": [{"type": kind, "status": status} for kind, status in state],
            "containerStatuses": [
                {
                    "name": APP,
                    "image": "lbspeaker.lab/backend",
                    "imageID": "",
                    "ready": True,
                    "restartCount": 0,
                    "started": True,
                    "state": {"running": {}},
                }
            ],
        },
    }


def endpoint_slices(service: Service, pods: Iterable[Pod]) -> Mapping[str, Manifest]:
    """Return the EndpointSlices of a Service by name, one per family of its cluster IPs.

    Empty for a Service without a selector: somebody else says where it leads.
    """
    if not service.spec.selector:
        return {}
    matching = sorted((pod for pod in pods if pod.matches(service)), key=lambda pod: pod.metadata.key)
    slices = {}
    for version in sorted({ip.version for ip in service.cluster_ips}):
        name = f"{service.metadata.name}-lab" + ("-v6" if version == 6 else "")
        slices[name] = _endpoint_slice(name, service, matching, version)
    return slices


def _endpoint_slice(name: str, service: Service, pods: list[Pod], version: int) -> Manifest:
    endpoints = []
    for pod in pods:
        addresses = [str(ip) for ip in pod.ips if ip.version == version]
        if addresses:
            conditions = {"ready": pod.ready, "serving": pod.ready, "terminating": False}
            conditions["terminating"] = pod.metadata.deletion_timestamp is not None
            target = {"kind": "Pod", "name": pod.metadata.name, "namespace": pod.metadata.namespace}
            endpoints.append(
                {
                    "addresses": addresses[:1],
                    "conditions": conditions,
                    "nodeName": pod.spec.node_name,
                    "targetRef": target,
                }
            )
    ports = []
    for port in service.spec.ports:
        number = next((n for pod in pods if (n := pod.port(port.target_port, port.port))), None)
        if number is not None:
            ports.append({"name": port.name, "port": number, "protocol": port.protocol})
    labels = {
        "kubernetes.io/service-name": service.metadata.name,
        "endpointslice.kubernetes.io/managed-by": MANAGER,
    }
    return {
        "apiVersion": "discovery.k8s.io/v1",
        "kind": "EndpointSlice",
        "metadata": {"name": name, "namespace": service.metadata.namespace, "labels": labels},
        "addressType": f"IPv{version}",
        "endpoints": endpoints,
        "ports": ports,
    }
