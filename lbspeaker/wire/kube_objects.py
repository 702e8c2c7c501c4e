"""Objects of the Kubernetes API, as far as a load balancer needs them, and what they are in the model.

Only these fields are decoded; the rest of an object is skipped unread, which makes a list of 10,000 Services
a matter of a tenth of a second. The structs hold no reference cycles, so they are hidden from the garbage
collector (gc=False), whose passes would cost more than the decoding.

Annotations are read under our prefix, then under `metallb.io/`, then under `metallb.universe.tf/`; the first
that is there counts, also when it is empty. Only the pool that an IP was given from counts under our prefix
alone: MetalLB's word explains no IP of ours.
"""

import base64
from collections.abc import Callable, Mapping
from functools import lru_cache
from ipaddress import ip_address, ip_network
from typing import Annotated, Any, Literal

import msgspec

from lbspeaker import model
from lbspeaker.errors import plain
from lbspeaker.model import ALLOCATED, Change, Kind, Reason, Refusal
from lbspeaker.wire.kube_status import condition, each

PREFIXES = ("lbspeaker.io/", "metallb.io/", "metallb.universe.tf/")
IPS = "loadBalancerIPs"
POOL = "address-pool"
SHARING = "allow-shared-ip"
ALLOCATED_FROM = "ip-allocated-from-pool"
ALLOCATED_IPS = "allocated-ips"  # ours alone: what we gave, so that an edited status explains nothing
PREFERRED_NODE = "preferred-node"  # ours alone
ANNOTATIONS = (IPS, POOL, SHARING, PREFERRED_NODE, ALLOCATED_FROM, ALLOCATED_IPS)
PREFERRED = PREFIXES[0] + PREFERRED_NODE
_OWN_POOL, _OWN_IPS = PREFIXES[0] + ALLOCATED_FROM, PREFIXES[0] + ALLOCATED_IPS
DRAINING = "lbspeaker.io/draining"
LINKS = "lbspeaker.io/links"
DOUBTS = "lbspeaker.io/held-back"  # IPs with commas between, or EVERYTHING
EVERYTHING = "*"
PINS = "lbspeaker.io/pins"
LEASE_PREFIX = "lbspeaker-"  # the Lease of node-a's speaker is lbspeaker-node-a
PINS_PREFIX = "lbspeaker.pins."  # the one with its pins is lbspeaker.pins.node-a
MOST_LINKS, MOST_NETWORKS = 64, 32  # of a member, of a link

_SERVICE_NAME = "kubernetes.io/service-name"


class Struct(msgspec.Struct, rename="camel", gc=False):
    """An object of the API, or a part of one."""


class Meta(Struct):
    name: str = ""
    namespace: str = ""
    uid: str = ""
    resource_version: str = ""
    creation_timestamp: str | None = None
    labels: dict[str, str] | None = None
    annotations: dict[str, str] | None = None


class ServicePort(Struct):
    port: int
    protocol: str = "TCP"


class ServiceSpec(Struct):
    type: str = "ClusterIP"
    load_balancer_class: str | None = None
    load_balancer_ip: str | None = msgspec.field(default=None, name="loadBalancerIP")
    cluster_ip: str | None = msgspec.field(default=None, name="clusterIP")
    cluster_ips: list[str] | None = msgspec.field(default=None, name="clusterIPs")
    ip_families: list[Literal["IPv4", "IPv6"]] | None = None
    ip_family_policy: Literal["SingleStack", "PreferDualStack", "RequireDualStack"] | None = None
    external_traffic_policy: str | None = None
    ports: list[ServicePort] | None = None
    selector: dict[str, str] | None = None


class Ingress(Struct):
    ip: str | None = None


class LoadBalancer(Struct):
    ingress: list[Ingress] | None = None


class ServiceStatus(Struct):
    load_balancer: LoadBalancer | None = None
    conditions: list[dict[str, Any]] | None = None


class Service(Struct):
    metadata: Meta
    spec: ServiceSpec = msgspec.field(default_factory=ServiceSpec)
    status: ServiceStatus | None = None


class Conditions(Struct):
    ready: bool | None = None
    serving: bool | None = None


class Endpoint(Struct):
    node_name: str | None = None
    conditions: Conditions | None = None


class EndpointSlice(Struct):
    metadata: Meta
    endpoints: list[Endpoint] | None = None


class NodeCondition(Struct):
    type: str = ""
    status: str = ""


class NodeAddress(Struct):
    type: str = ""
    address: str = ""


class NodeStatus(Struct):
    conditions: list[NodeCondition] | None = None
    addresses: list[NodeAddress] | None = None


class NodeSpec(Struct):
    unschedulable: bool = False
    pod_cidr: str | None = msgspec.field(default=None, name="podCIDR")
    pod_cidrs: list[str] | None = msgspec.field(default=None, name="podCIDRs")


class Node(Struct):
    metadata: Meta
    spec: NodeSpec | None = None
    status: NodeStatus | None = None


class Namespace(Struct):
    metadata: Meta


class LeaseSpec(Struct):
    renew_time: str | None = None
    lease_duration_seconds: int | None = None


class Lease(Struct):
    metadata: Meta
    spec: LeaseSpec | None = None


class MemberLink(Struct):
    """One of the annotation LINKS."""

    name: Annotated[str, msgspec.Meta(min_length=1, max_length=15)]  # IFNAMSIZ
    mac: Annotated[str, msgspec.Meta(pattern=r"\A([0-9a-f]{2}:){5}[0-9a-f]{2}\Z")]
    networks: Annotated[list[str], msgspec.Meta(max_length=MOST_NETWORKS)]


PinEntry = tuple[
    Annotated[str, msgspec.Meta(min_length=1, max_length=253)],  # the node
    Annotated[int, msgspec.Meta(ge=0, le=2**63 - 1)],  # the term
]


class LeaderSpec(Struct):
    holder_identity: str | None = None
    renew_time: str | None = None
    lease_duration_seconds: int | None = None
    lease_transitions: int | None = None


class LeaderLease(Struct):
    metadata: Meta
    spec: LeaderSpec | None = None


class Secret(Struct):
    metadata: Meta
    type: str = "Opaque"
    data: dict[str, str] | None = None
    string_data: dict[str, str] | None = None


# --- to the model ---------------------------------------------------------------------------------------


def service(obj: Service) -> model.Service:
    """Return the Service as a load balancer sees it; a request that makes no sense is in `invalid`."""
    metadata, spec = obj.metadata, obj.spec
    annotations = metadata.annotations or {}
    requested, invalid = _requested_ips(annotations, spec.load_balancer_ip)
    load_balancer = obj.status.load_balancer if obj.status else None
    conditions = (obj.status.conditions if obj.status else None) or ()
    mine = next((c for c in conditions if c.get("type") == ALLOCATED), {}) if conditions else {}
    return model.Service(
        key=_key(metadata),
        uid=metadata.uid,
        resource_version=metadata.resource_version,
        created=metadata.creation_timestamp or "",
        labels=metadata.labels or {},
        load_balancer=spec.type == "LoadBalancer",
        load_balancer_class=spec.load_balancer_class or None,
        families=_families(spec),
        ip_family_policy=spec.ip_family_policy or "SingleStack",
        local=spec.external_traffic_policy == "Local",
        ports=tuple(model.Port(port.protocol, port.port) for port in spec.ports or ()),
        selector=tuple(sorted(spec.selector.items())) if spec.selector else (),
        requested_ips=requested,
        requested_pool=_annotation(annotations, POOL),
        sharing_key=_annotation(annotations, SHARING),
        preferred_node=annotations.get(PREFERRED) or "",
        held=_held(load_balancer),
        held_pool=annotations.get(_OWN_POOL) or None,
        given=_given(annotations.get(_OWN_IPS)),
        invalid=invalid,
        cluster_ips=tuple(spec.cluster_ips or ([spec.cluster_ip] if spec.cluster_ip else ())),
        condition=condition(mine) if mine else None,
        condition_since=str(mine.get("lastTransitionTime") or ""),
        conditions=tuple(c for c in conditions if c is not mine) if conditions else (),
    )


def endpoint_slice(obj: EndpointSlice) -> model.EndpointSlice:
    """Return the slice; an endpoint serves if it is ready (or nobody knows), or still serving."""
    owner = (obj.metadata.labels or {}).get(_SERVICE_NAME, "")
    return model.EndpointSlice(
        key=_key(obj.metadata),
        service=f"{obj.metadata.namespace}/{owner}" if owner else "",
        endpoints=tuple(
            model.Endpoint(endpoint.node_name or None, *_state(endpoint.conditions))
            for endpoint in obj.endpoints or ()
        ),
    )


def node(obj: Node) -> model.Node:
    status, spec = obj.status or NodeStatus(), obj.spec or NodeSpec()
    conditions = status.conditions or ()
    unavailable = any(c.type == "NetworkUnavailable" and c.status == "True" for c in conditions)
    return model.Node(
        obj.metadata.name,
        obj.metadata.labels or {},
        unavailable,
        tuple(each(_ip, (one.address for one in status.addresses or () if one.type.endswith("IP")))),
        tuple(each(ip_network, spec.pod_cidrs or ([spec.pod_cidr] if spec.pod_cidr else ()))),
        ready=all(c.status == "True" for c in conditions if c.type == "Ready"),
        cordoned=spec.unschedulable,
        uid=obj.metadata.uid,
    )


def namespace(obj: Namespace) -> model.Namespace:
    return model.Namespace(obj.metadata.name, obj.metadata.labels or {})


def speaker_lease(obj: Lease) -> model.Lease | None:
    """Return the sign of life of a speaker; None for a Lease that is not a speaker's."""
    name, spec = obj.metadata.name, obj.spec or LeaseSpec()
    if not name.startswith(LEASE_PREFIX):
        return None
    annotations = obj.metadata.annotations or {}
    return model.Lease(
        node=name.removeprefix(LEASE_PREFIX),
        renewed=spec.renew_time or "",
        draining=annotations.get(DRAINING) == "true",
        duration_s=_seconds(spec.lease_duration_seconds, model.Lease("", "").duration_s),
        links=_links(annotations.get(LINKS, "")),
        doubts=_doubts(annotations.get(DOUBTS, "")),
    )


_decode_links = msgspec.json.Decoder(Annotated[list[MemberLink], msgspec.Meta(max_length=MOST_LINKS)]).decode
_decode_pins = msgspec.json.Decoder(dict[str, Any]).decode


@lru_cache(maxsize=1024)  # it comes again with every renewal, of every member
def _links(text: str) -> tuple[model.MemberLink, ...] | None:
    """What a member says of its links; None if it cannot be read, or is too much to be meant so."""
    try:
        return tuple(
            model.MemberLink(
                link.name,
                bytes.fromhex(link.mac.replace(":", "")),
                _networks(link.networks),
            )
            for link in _decode_links(text)
        )
    except (msgspec.DecodeError, ValueError, RecursionError):
        return None


def _doubts(text: str) -> model.Doubts:
    """What cannot be read may be anything: then everything is asked for."""
    try:
        return model.Doubts(frozenset(map(ip_address, filter(None, text.split(",")))), False)
    except ValueError:
        return model.Doubts(everything=True)


def _networks(texts: list[str]) -> tuple[model.Network, ...]:
    if any("%" in text for text in texts):
        raise ValueError("a zone has no meaning for others")
    return tuple(map(ip_network, texts))


def speaker_pins(obj: Lease) -> model.Pins | None:
    """Return the pins of a speaker, those that can be read; None for a Lease that is not about pins."""
    if not obj.metadata.name.startswith(PINS_PREFIX):
        return None
    text = (obj.metadata.annotations or {}).get(PINS, "{}")
    try:
        entries = _decode_pins(text)
    except (msgspec.DecodeError, ValueError, RecursionError):
        entries = {}
    return model.Pins(obj.metadata.name.removeprefix(PINS_PREFIX), dict(each(_pin, entries.items())))


def _pin(entry: tuple[str, Any]) -> tuple[model.Address, model.Pin] | None:
    try:
        return _ip(entry[0]), model.Pin(*msgspec.convert(entry[1], PinEntry))
    except msgspec.ValidationError:
        return None


def _seconds(number: int | None, otherwise: float) -> float:
    """A duration; the API allows 32 bits for it."""
    return float(number) if number and 0 < number < 2**31 else otherwise


def leader_record(obj: LeaderLease) -> model.LeaderRecord:
    spec = obj.spec or LeaderSpec()
    return model.LeaderRecord(
        spec.holder_identity or "",
        spec.renew_time or "",
        _seconds(spec.lease_duration_seconds, model.LeaderRecord().duration_s),
        obj.metadata.resource_version,
        spec.lease_transitions or 0,
    )


def secret(obj: Secret) -> model.Secret:
    """Return the Secret's password: base64 in `data`, plain in a document's `stringData`."""
    password = (obj.string_data or {}).get("password")
    encoded = (obj.data or {}).get("password")
    if password is None and encoded is not None:
        try:
            password = base64.b64decode(encoded, validate=True).decode()
        except ValueError:
            password = None
    return model.Secret(_key(obj.metadata), password)


def _given(text: str | None) -> tuple[model.Address, ...]:
    return tuple(each(_ip, text.split(","))) if text else ()


def _key(metadata: Meta) -> str:
    return f"{metadata.namespace}/{metadata.name}"


def _annotation(annotations: Mapping[str, str], name: str) -> str | None:
    """The value under the first prefix that has it; None if there is none, or if it is empty."""
    found = _annotated(annotations, name)
    return found[1] if found else None


def _annotated(annotations: Mapping[str, str], name: str) -> tuple[str, str] | None:
    for prefix in PREFIXES:
        value = annotations.get(prefix + name)
        if value is not None:
            return (prefix + name, plain(value.strip())) if value.strip() else None
    return None


def _requested_ips(
    annotations: Mapping[str, str], spec_ip: str | None
) -> tuple[tuple[model.Address, ...], Refusal | None]:
    annotated = _annotated(annotations, IPS)
    requests = [(f"annotation {annotated[0]}", annotated[1])] if annotated else []
    if spec_ip and spec_ip.strip():
        requests.append(("spec.loadBalancerIP", spec_ip.strip()))
    asked = []
    for where, text in requests:
        ips, why = _ips(text)
        if why:
            return (), Refusal(Reason.INVALID_REQUEST, f"{where}: {why}")
        asked.append(ips)
    if not asked:
        return (), None
    if not set(asked[-1]) <= set(asked[0]):
        what = f"{requests[0][0]} asks for {requests[0][1]}, spec.loadBalancerIP for {requests[1][1]}"
        return (), Refusal(Reason.INVALID_REQUEST, f"{what}: remove one of them")
    return asked[0], None


def _ips(text: str) -> tuple[tuple[model.Address, ...], str]:
    """The addresses of a comma-separated list, or why it cannot be understood."""
    ips: list[model.Address] = []
    for part in text.split(","):
        try:
            ip = _ip(part.strip())
        except ValueError:
            return (), f"{part.strip()!r} is not an IP address"
        if any(other.version == ip.version for other in ips):
            return (), f"{text!r} has more than one IPv{ip.version} address; one per family is possible"
        ips.append(ip)
    return tuple(ips), ""


def _ip(text: str) -> model.Address:
    if "%" in text:
        raise ValueError("a zone has no meaning for others")
    return ip_address(text)


def _families(spec: ServiceSpec) -> tuple[model.Family, ...]:
    ips = spec.cluster_ips or ([spec.cluster_ip] if spec.cluster_ip else [])
    if ips:
        return tuple(6 if ":" in ip else 4 for ip in ips if ip not in ("None", ""))
    # A manifest that no server has seen: what a server with both families would make of it.
    dual = spec.ip_family_policy in ("PreferDualStack", "RequireDualStack")
    named: tuple[model.Family, ...] = tuple(4 if f == "IPv4" else 6 for f in spec.ip_families or ())
    first: model.Family = named[0] if named else 4
    other: model.Family = 6 if first == 4 else 4
    return named if len(named) > 1 else (first, other) if dual else (first,)


def _held(load_balancer: LoadBalancer | None) -> tuple[model.Address, ...]:
    """Our addresses in the status; names, which other load balancers put there, are not ours."""
    if load_balancer is None or not load_balancer.ingress:
        return ()
    return tuple(each(_ip, (ingress.ip or "" for ingress in load_balancer.ingress)))


def _state(conditions: Conditions | None) -> tuple[bool, bool]:
    """Whether it serves, and whether it is ready."""
    ready = conditions is None or conditions.ready is not False
    return ready or (conditions is not None and conditions.serving is True), ready


# --- changes ----------------------------------------------------------------------------------------------


def _service(obj: Service) -> Change:
    value = service(obj)
    return Change(Kind.SERVICE, value.key, value)


def _endpoint_slice(obj: EndpointSlice) -> Change:
    value = endpoint_slice(obj)
    return Change(Kind.ENDPOINT_SLICE, value.key, value)


def _node(obj: Node) -> Change:
    return Change(Kind.NODE, obj.metadata.name, node(obj))


def _namespace(obj: Namespace) -> Change:
    return Change(Kind.NAMESPACE, obj.metadata.name, namespace(obj))


def _lease(obj: Lease) -> Change | None:
    if (pins := speaker_pins(obj)) is not None:
        return Change(Kind.PINS, pins.node, pins)
    value = speaker_lease(obj)
    return None if value is None else Change(Kind.LEASE, value.node, value)


def _secret(obj: Secret) -> Change:
    value = secret(obj)
    return Change(Kind.SECRET, value.key, value)


# How each kind is decoded, and what becomes of it; None is told to nobody.
CONVERSIONS: dict[Kind, tuple[Any, Callable[[Any], Change | None]]] = {
    Kind.SERVICE: (Service, _service),
    Kind.ENDPOINT_SLICE: (EndpointSlice, _endpoint_slice),
    Kind.NODE: (Node, _node),
    Kind.NAMESPACE: (Namespace, _namespace),
    Kind.LEASE: (Lease, _lease),
    Kind.SECRET: (Secret, _secret),
}
