"""Bodies of requests to the Kubernetes API. Time is an argument: Unix time in seconds."""

import base64
import math
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any, Literal

import msgspec

from lbspeaker import model
from lbspeaker.model import Address, Doubts, LeaderRecord, MemberLink, Pin
from lbspeaker.wire.kube_objects import (
    ALLOCATED_FROM,
    ALLOCATED_IPS,
    DOUBTS,
    DRAINING,
    EVERYTHING,
    LEASE_PREFIX,
    LINKS,
    MOST_LINKS,
    MOST_NETWORKS,
    PINS,
    PINS_PREFIX,
    PREFIXES,
)
from lbspeaker.wire.kube_status import condition_body, time_text

GROUP = "lbspeaker.io"
EFFECTIVE_NAME = "lbspeaker"  # the one EffectiveConfiguration
RELEASE = "lbspeaker.io/version"  # of the controller that acts, in its Lease
LEADER = "lbspeaker.controller"  # its Lease; no speaker's begins so (LEASE_PREFIX)
HELLO_SECRET = "lbspeaker-hello"  # noqa: S105  # by which speakers know each other's hellos

MOST_DOUBTS = 256  # that are named in a Lease
_MESSAGE_LENGTH = 1024  # of an Event

_encode = msgspec.json.Encoder().encode


def allocation_patch(
    service: model.Service,
    allocation: model.Allocation | None,
    condition: model.Condition | None = None,
    now: float = 0.0,
) -> bytes:
    """Return the merge-patch for services/status that gives `service` its IPs, or takes them away.

    `condition` is what our condition says from then on (None: it is absent). The one precondition is the
    version that the decision was made from; else the server answers 409.
    """
    allocated_from: dict[str, str | None]
    if allocation is None:
        allocated_from = _no_annotations()
    else:
        allocated_from = {
            PREFIXES[0] + ALLOCATED_FROM: allocation.pool,
            PREFIXES[0] + ALLOCATED_IPS: ",".join(map(str, allocation.ips)),
        }
    ips = allocation.ips if allocation else ()
    ingress = [{"ip": str(ip), "ipMode": "VIP"} for ip in ips]
    status = {"loadBalancer": {"ingress": ingress or None}, **_service_conditions(service, condition, now)}
    return _encode({"metadata": {"annotations": allocated_from, **_version(service)}, "status": status})


def condition_patch(service: model.Service, condition: model.Condition | None, now: float) -> bytes:
    """Return the merge-patch for services/status that sets our condition alone, of this very version."""
    return _encode({"metadata": _version(service), "status": _service_conditions(service, condition, now)})


def tidy_patch(service: model.Service) -> bytes:
    """Return the merge-patch for services/status of what is no LoadBalancer any more: nothing of ours stays.

    If it is another service of the same name by now, the server answers 409.
    """
    annotations = _no_annotations()
    metadata = {"annotations": annotations, **({"uid": service.uid} if service.uid else {})}
    return _encode({"metadata": metadata, "status": _service_conditions(service, None, 0.0)})


def _no_annotations() -> dict[str, str | None]:
    return dict.fromkeys([PREFIXES[0] + ALLOCATED_IPS, *(prefix + ALLOCATED_FROM for prefix in PREFIXES)])


def _version(service: model.Service) -> dict[str, str]:
    return {"resourceVersion": service.resource_version} if service.resource_version else {}


def _service_conditions(
    service: model.Service, condition: model.Condition | None, now: float
) -> dict[str, object]:
    """All conditions of a service, others' too (a merge-patch replaces lists); nothing if ours stays."""
    if condition == service.condition:
        return {}
    same = (
        condition is not None
        and service.condition is not None
        and condition.status == service.condition.status
    )
    since = service.condition_since if same and service.condition_since else time_text(now)
    ours = [condition_body(condition, since)] if condition else []
    return {"conditions": [*service.conditions, *ours] or None}


def event(
    about: model.Service | model.Node,
    kind: Literal["Normal", "Warning"],
    reason: str,
    message: str,
    *,
    component: Literal["lbspeaker-controller", "lbspeaker-speaker"],
    instance: str,
    now: float,
    serial: int = 0,
    once: str = "",
) -> bytes:
    """Return a new core/v1 Event about a Service, for POST into its namespace; or a Node, into "default".

    `instance` names the reporter (its node or pod). Events of one service with
    one `now` need different `serial` numbers, of which 16 bits make the name unique; with `once` (letters and
    digits) in its name, there is one such event at a time.
    """
    time = time_text(now)
    unique = once or f"{int(now * 1e6) & 0xFFFFFFFFFFFF:012x}{serial & 0xFFFF:04x}"
    namespace, regarding = "default", {"apiVersion": "v1", "kind": "Node", "name": about.name}
    if isinstance(about, model.Service):
        namespace = about.namespace
        regarding |= {"kind": "Service", "namespace": namespace, "uid": about.uid}
        regarding["resourceVersion"] = about.resource_version
    else:
        regarding["uid"] = about.name  # as the kubelet does; so `kubectl describe node` finds it
    return _encode(
        {
            "apiVersion": "v1",
            "kind": "Event",
            "metadata": {"namespace": namespace, "name": f"{about.name}.{unique}"},
            "involvedObject": {name: value for name, value in regarding.items() if value},
            "type": kind,
            "reason": reason,
            "message": message[:_MESSAGE_LENGTH],
            "source": {"component": component, "host": instance},
            "reportingComponent": component,
            "reportingInstance": instance,
            "firstTimestamp": time,
            "lastTimestamp": time,
            "count": 1,
        }
    )


def lease(
    node: str,
    namespace: str,
    now: float,
    *,
    duration_s: float = 3.0,
    draining: bool = False,
    version: str = "",
    links: tuple[MemberLink, ...] | None = None,
    uid: str = "",
    doubts: Doubts | None = None,
) -> bytes:
    """Return the whole Lease of a node's speaker: for POST, and as a merge-patch of the one there.

    `links` or `doubts` None: what the one there says of them stays. PUT needs the `version` of the one
    there. `uid` is that of the Node: the Lease is removed with it ("": it is not).
    renewTime is a MicroTime: exactly six digits, and Z.
    """
    draining_text = "true" if draining else "false"
    metadata = _speakers(LEASE_PREFIX, node, namespace, {DRAINING: draining_text}, uid)
    if links is not None:
        metadata["annotations"][LINKS] = _links(links)
    if doubts is not None:
        many = doubts.everything or len(doubts.ips) > MOST_DOUBTS
        metadata["annotations"][DOUBTS] = EVERYTHING if many else ",".join(sorted(map(str, doubts.ips)))
    if version:
        metadata["resourceVersion"] = version
    return _encode(
        {
            "apiVersion": "coordination.k8s.io/v1",
            "kind": "Lease",
            "metadata": metadata,
            "spec": {
                "holderIdentity": node,
                "leaseDurationSeconds": max(1, math.ceil(duration_s)),
                "renewTime": _utc(now).strftime("%Y-%m-%dT%H:%M:%S.%fZ"),
            },
        }
    )


def pins_lease(node: str, namespace: str, pins: Mapping[Address, Pin], uid: str = "") -> bytes:
    """Return the Lease in which a node's speaker writes its pins down: for POST, and as a merge-patch.

    `uid`: as in `lease`.
    """
    sorted_pins = sorted(pins.items(), key=lambda one: (one[0].version, int(one[0])))
    text = _encode({str(ip): (pin.node, pin.term) for ip, pin in sorted_pins}).decode()
    return _encode(
        {
            "apiVersion": "coordination.k8s.io/v1",
            "kind": "Lease",
            "metadata": _speakers(PINS_PREFIX, node, namespace, {PINS: text}, uid),
            "spec": {"holderIdentity": node},
        }
    )


def speaker(node: str, namespace: str, uid: str = "") -> bytes:
    """Return the object in whose status a node's speaker says how it is: for POST. `uid`: as in `lease`."""
    metadata = _speakers("", node, namespace, {}, uid)
    return _encode({"apiVersion": f"{GROUP}/v1beta1", "kind": "Speaker", "metadata": metadata, "spec": {}})


def _speakers(
    prefix: str, node: str, namespace: str, annotations: dict[str, str], uid: str
) -> dict[str, Any]:
    """The metadata of an object that a speaker writes, and that ends with its node."""
    owner = {"apiVersion": "v1", "kind": "Node", "name": node, "uid": uid}
    return {
        "name": prefix + node,
        "namespace": namespace,
        "labels": {"app.kubernetes.io/name": "lbspeaker", "app.kubernetes.io/component": "speaker"},
        "annotations": annotations,
        **({"ownerReferences": [owner]} if uid else {}),
    }


def _links(links: tuple[MemberLink, ...]) -> str:
    """The annotation LINKS: no more than others read."""
    told = [
        {
            "name": link.name,
            "mac": link.mac.hex(":"),
            "networks": list(map(str, link.networks[:MOST_NETWORKS])),
        }
        for link in links[:MOST_LINKS]
    ]
    return _encode(told).decode()


def leader_lease(record: LeaderRecord, namespace: str, now: float, release: str) -> bytes:
    """Return the Lease of the controller that acts: for POST, and (with its version) for PUT.

    `release` is the version of the program that acts.
    """
    version = {"resourceVersion": record.version} if record.version else {}
    return _encode(
        {
            "apiVersion": "coordination.k8s.io/v1",
            "kind": "Lease",
            "metadata": {
                "name": LEADER,
                "namespace": namespace,
                "labels": {
                    "app.kubernetes.io/name": "lbspeaker",
                    "app.kubernetes.io/component": "controller",
                },
                "annotations": {RELEASE: release},
                **version,
            },
            "spec": {
                "holderIdentity": record.holder,
                "leaseDurationSeconds": max(1, math.ceil(record.duration_s)),
                "renewTime": _utc(now).strftime("%Y-%m-%dT%H:%M:%S.%fZ"),
                "leaseTransitions": record.transitions,
            },
        }
    )


def hello_secret(namespace: str, password: bytes) -> bytes:
    """Return the Secret with the password of speakers' hellos, for POST: a Secret's password is text."""
    return _encode(
        {
            "apiVersion": "v1",
            "kind": "Secret",
            "metadata": {
                "name": HELLO_SECRET,
                "namespace": namespace,
                "labels": {"app.kubernetes.io/name": "lbspeaker"},
            },
            "type": "kubernetes.io/basic-auth",
            "stringData": {"username": "lbspeaker", "password": base64.b64encode(password).decode()},
        }
    )


def finalizers_patch(written: model.Written, finalizer: str, present: bool) -> bytes:
    """Return the merge-patch of an object that adds or takes away a finalizer, in this very version of it."""
    others = [name for name in written.finalizers if name != finalizer]
    finalizers = [*others, *([finalizer] if present else [])]
    metadata = {"resourceVersion": written.version, "finalizers": finalizers or None}
    return _encode({"metadata": metadata})


def effective_configuration(documents: tuple[Mapping[str, object], ...]) -> bytes:
    """Return the configuration that all speakers follow: for POST, and as a merge-patch of the one there."""
    return _encode(
        {
            "apiVersion": f"{GROUP}/v1beta1",
            "kind": "EffectiveConfiguration",
            "metadata": {"name": EFFECTIVE_NAME},
            "spec": {"documents": documents},
        }
    )


def _utc(now: float) -> datetime:
    return datetime.fromtimestamp(now, UTC)
