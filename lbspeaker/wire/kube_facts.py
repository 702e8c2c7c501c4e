"""Objects of the Kubernetes API as `lbspeaker doctor` needs them, which is more than what speakers watch.

Only these fields are decoded, page by page: a cluster may have fifty thousand Pods, and most of a Pod says
nothing about how it is reached.
"""

from collections.abc import Callable, Iterable, Mapping
from ipaddress import ip_address, ip_network
from typing import Any, Generic, TypeVar

import msgspec

from lbspeaker.errors import Malformed
from lbspeaker.facts import Pod, PodPort, Program, Proxy, WiredPort, Wiring
from lbspeaker.model import Network
from lbspeaker.wire.kube import wrong_document
from lbspeaker.wire.kube_objects import IPS, POOL, PREFIXES, SHARING, Meta, Struct
from lbspeaker.wire.kube_status import each

# --- shapes ---------------------------------------------------------------------------------------------


class _Port(Struct):
    container_port: int = 0
    host_port: int = 0
    name: str | None = None
    protocol: str | None = None


class _Http(Struct):
    port: int | str = 0


class _Probe(Struct):
    http_get: _Http | None = None
    tcp_socket: _Http | None = None


class _Variable(Struct):
    name: str = ""
    value: str | None = None


class _Container(Struct):
    name: str = ""
    image: str | None = None
    command: list[str] | None = None
    args: list[str] | None = None
    env: list[_Variable] | None = None
    ports: list[_Port] | None = None
    readiness_probe: _Probe | None = None
    liveness_probe: _Probe | None = None
    restart_policy: str | None = None  # of an init container: Always makes it a sidecar


class _PodSpec(Struct):
    node_name: str | None = None
    host_network: bool = False
    containers: list[_Container] | None = None
    init_containers: list[_Container] | None = None


class _Condition(Struct):
    type: str = ""
    status: str = ""
    reason: str | None = None
    message: str | None = None


class _State(Struct):
    waiting: _Condition | None = None
    terminated: _Condition | None = None


class _ContainerStatus(Struct):
    ready: bool = False
    state: _State | None = None


class _PodIP(Struct):
    ip: str = ""


class _PodStatus(Struct):
    phase: str | None = None
    pod_ips: list[_PodIP] | None = msgspec.field(default=None, name="podIPs")
    conditions: list[_Condition] | None = None
    container_statuses: list[_ContainerStatus] | None = None


class _PodMeta(Meta):
    deletion_timestamp: str | None = None


class _Pod(Struct):
    metadata: _PodMeta
    spec: _PodSpec = msgspec.field(default_factory=_PodSpec)
    status: _PodStatus | None = None


class _Template(Struct):
    spec: _PodSpec = msgspec.field(default_factory=_PodSpec)


class _WorkloadSpec(Struct):
    template: _Template = msgspec.field(default_factory=_Template)


class _DaemonSet(Struct):
    metadata: Meta
    spec: _WorkloadSpec = msgspec.field(default_factory=_WorkloadSpec)


class _ServicePort(Struct):
    port: int
    target_port: int | str | None = None
    name: str | None = None
    protocol: str | None = None
    node_port: int | None = None


class _ServiceSpec(Struct):
    type: str = "ClusterIP"
    selector: dict[str, str] | None = None
    ports: list[_ServicePort] | None = None
    session_affinity: str | None = None
    external_name: str | None = None
    external_ips: list[str] | None = msgspec.field(default=None, name="externalIPs")


class _Service(Struct):
    metadata: Meta
    spec: _ServiceSpec = msgspec.field(default_factory=_ServiceSpec)


class _Cidrs(Struct):
    cidrs: list[str] | None = None


class _ServiceCidr(Struct):
    metadata: Meta
    spec: _Cidrs = msgspec.field(default_factory=_Cidrs)


class _ConfigMap(Struct):
    metadata: Meta
    data: dict[str, str] | None = None


# --- to facts -------------------------------------------------------------------------------------------


def _key(metadata: Meta) -> str:
    return f"{metadata.namespace or 'default'}/{metadata.name}"


def _wiring(obj: _Service) -> Wiring:
    spec, annotations = obj.spec, obj.metadata.annotations or {}
    wishes = {prefix + name for prefix in PREFIXES for name in (IPS, POOL, SHARING)}
    return Wiring(
        key=_key(obj.metadata),
        type=spec.type,
        selector=spec.selector or {},
        ports=tuple(_wired(port) for port in spec.ports or ()),
        sticky=spec.session_affinity == "ClientIP",
        external_name=spec.external_name or "",
        external_ips=tuple(spec.external_ips or ()),
        asks=any(name in wishes for name in annotations),
    )


def _wired(port: _ServicePort) -> WiredPort:
    target = port.target_port
    if isinstance(target, str) and target.isascii() and target.isdecimal():
        target = int(target)
    return WiredPort(
        port.port, target or port.port, port.name or "", port.protocol or "TCP", port.node_port or 0
    )


def _pod(obj: _Pod) -> Pod | None:
    """Return the Pod; None if it has ended, and if a Service does not count it any more."""
    status, spec = obj.status or _PodStatus(), obj.spec
    if status.phase in ("Succeeded", "Failed") or obj.metadata.deletion_timestamp:
        return None
    containers = _containers(spec)
    conditions = status.conditions or ()
    ready = obj.status is None or any(one.type == "Ready" and one.status == "True" for one in conditions)
    return Pod(
        key=_key(obj.metadata),
        labels=obj.metadata.labels or {},
        node=spec.node_name or "",
        ready=ready,
        trouble="" if ready else _trouble(status),
        ports=tuple(
            PodPort(port.container_port, port.name or "", port.protocol or "TCP")
            for container in containers
            for port in container.ports or ()
        ),
        probed=frozenset(port for container in containers for port in _probed(container)),
        host_network=spec.host_network,
        addresses=tuple(each(ip_address, (one.ip for one in status.pod_ips or ()))),
    )


def _containers(spec: _PodSpec) -> list[_Container]:
    """Those that run beside each other: an init container that is always restarted is one of them."""
    sidecars = [one for one in spec.init_containers or () if one.restart_policy == "Always"]
    return [*(spec.containers or ()), *sidecars]


def _probed(container: _Container) -> Iterable[int | str]:
    for probe in (container.readiness_probe, container.liveness_probe):
        for asked in (probe.http_get, probe.tcp_socket) if probe else ():
            if asked is not None:
                yield asked.port


def _trouble(status: _PodStatus) -> str:
    """Why a Pod is not ready, in a word or two of the kubelet."""
    for one in status.container_statuses or ():
        state = one.state or _State()
        told = state.waiting or state.terminated
        if told is not None and told.reason and not one.ready:
            return told.reason
    for condition in status.conditions or ():
        if condition.type == "PodScheduled" and condition.status == "False":
            return f"{condition.reason or 'not scheduled'}: {condition.message or ''}".rstrip(": ")
    if status.phase == "Pending":
        return "Pending"
    if any(not one.ready for one in status.container_statuses or ()):
        return "its readiness probe fails"
    return ""


def _program(obj: _DaemonSet) -> Program:
    return _made(f"DaemonSet {_key(obj.metadata)}", obj.spec.template.spec)


def _host_program(obj: _Pod) -> Program | None:
    """A Pod that uses the network of its node, as static Pods do; None for all others."""
    ports = (port for container in obj.spec.containers or () for port in container.ports or ())
    if not obj.spec.host_network and not any(port.host_port for port in ports):
        return None
    return _made(f"Pod {_key(obj.metadata)}", obj.spec)


def _made(key: str, spec: _PodSpec) -> Program:
    containers = spec.containers or []
    words = [word for one in containers for word in (*(one.command or ()), *(one.args or ()))]
    environment = {v.name: v.value for one in containers for v in one.env or () if v.value is not None}
    return Program(key, tuple(one.image or "" for one in containers), tuple(words), environment)


def _service_networks(obj: _ServiceCidr) -> list[Network]:
    return list(each(ip_network, obj.spec.cidrs or ()))


def _pod_facts(obj: _Pod) -> list[Pod | Program]:
    return [one for one in (_pod(obj), _host_program(obj)) if one is not None]


# How an object of each kind is decoded, and what it says.
KINDS: dict[str, tuple[Any, Callable[[Any], list[Any]]]] = {
    "Service": (_Service, lambda obj: [_wiring(obj)]),
    "Pod": (_Pod, _pod_facts),
    "DaemonSet": (_DaemonSet, lambda obj: [_program(obj)]),
    "ServiceCIDR": (_ServiceCidr, _service_networks),
}


def facts_of(value: Mapping[str, object]) -> list[Any]:
    """Return what an object (a plain mapping) says: Wiring, Pod, Program, Network; nothing of other kinds.

    Raises WrongDocument if it is not of the shape of its kind.
    """
    struct, convert = KINDS.get(str(value.get("kind")), (None, None))
    if struct is None or convert is None:
        return []
    try:
        return convert(msgspec.convert(value, struct))
    except msgspec.ValidationError as error:
        raise wrong_document(error) from error


# --- pages of lists -------------------------------------------------------------------------------------

_T = TypeVar("_T")


class _ListMeta(Struct):
    continue_: str = msgspec.field(default="", name="continue")


class _Items(Struct, Generic[_T]):
    metadata: _ListMeta
    items: list[_T] | None = None


def page(kind: str, body: bytes) -> tuple[list[Any], str]:
    """Return what one page of a list of `kind` says, and the token of the next page. Raises Malformed."""
    struct, convert = KINDS[kind]
    try:
        found = msgspec.json.decode(body, type=_Items[struct])  # type: ignore[valid-type]
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise Malformed(
            f"the API server sent a list of {kind} that its API does not allow: {error}"
        ) from None
    return [fact for item in found.items or () for fact in convert(item)], found.metadata.continue_


# --- ConfigMaps -----------------------------------------------------------------------------------------


def config_map(value: object) -> tuple[str, Mapping[str, str]]:
    """Return "namespace/name" of a ConfigMap and what it holds; ("", {}) if it is none."""
    try:
        obj = msgspec.convert(value, _ConfigMap)
    except msgspec.ValidationError:
        return "", {}
    return _key(obj.metadata), obj.data or {}


def mapping(body: bytes) -> dict[str, Any]:
    """Return a ConfigMap as a plain mapping. Raises Malformed."""
    try:
        found = msgspec.json.decode(body, type=dict[str, Any])
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise Malformed(f"the API server sent no object: {error}") from None
    return {"kind": "ConfigMap", **found}


class _Ipvs(Struct):
    strict_arp: bool = msgspec.field(default=False, name="strictARP")


class _ProxyConfiguration(Struct):
    mode: str | None = None
    ipvs: _Ipvs | None = None
    cluster_cidr: str | None = msgspec.field(default=None, name="clusterCIDR")


def proxy(value: object) -> Proxy | None:
    """Return what a KubeProxyConfiguration says (a plain mapping); None if it is none."""
    try:
        found = msgspec.convert(value, _ProxyConfiguration)
    except msgspec.ValidationError:
        return None
    networks: tuple[Network, ...] = tuple(each(ip_network, (found.cluster_cidr or "").split(",")))
    return Proxy((found.mode or "").lower(), bool(found.ipvs and found.ipvs.strict_arp), networks)
