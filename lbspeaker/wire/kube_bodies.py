"""Bodies of requests to the Kubernetes API. Time is an argument: Unix time in seconds."""

import math
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Literal

import msgspec

from lbspeaker import model
from lbspeaker.wire.kube_objects import ALLOCATED_FROM, DRAINING, LEASE_PREFIX, PREFIXES

GROUP = "lbspeaker.io"
EFFECTIVE_NAME = "lbspeaker"  # the one EffectiveConfiguration

_MESSAGE_LENGTH = 1024  # of an Event

_encode = msgspec.json.Encoder().encode


def allocation_patch(service: model.Service, allocation: model.Allocation | None) -> bytes:
    """Return the merge-patch for services/status that gives `service` its IPs, or takes them away.

    Its one precondition is the version that the decision was made from; else the server answers 409.
    """
    allocated_from: dict[str, str | None]
    if allocation is None:
        allocated_from = {prefix + ALLOCATED_FROM: None for prefix in PREFIXES}
    else:
        allocated_from = {PREFIXES[0] + ALLOCATED_FROM: allocation.pool}
    metadata: dict[str, object] = {"annotations": allocated_from}
    if service.resource_version:
        metadata["resourceVersion"] = service.resource_version
    ips = allocation.ips if allocation else ()
    ingress = [{"ip": str(ip), "ipMode": "VIP"} for ip in ips]
    return _encode({"metadata": metadata, "status": {"loadBalancer": {"ingress": ingress or None}}})


def event(
    service: model.Service,
    kind: Literal["Normal", "Warning"],
    reason: str,
    message: str,
    *,
    component: Literal["lbspeaker-controller", "lbspeaker-speaker"],
    instance: str,
    now: float,
    serial: int = 0,
) -> bytes:
    """Return a new core/v1 Event about `service`, for POST into its namespace.

    `instance` names the reporter (its node or pod). Events of one service with
    one `now` need different `serial` numbers, of which 16 bits make the name unique.
    """
    time = _utc(now).strftime("%Y-%m-%dT%H:%M:%SZ")
    unique = f"{int(now * 1e6) & 0xFFFFFFFFFFFF:012x}{serial & 0xFFFF:04x}"
    regarding = {
        "apiVersion": "v1",
        "kind": "Service",
        "namespace": service.namespace,
        "name": service.name,
        "uid": service.uid,
        "resourceVersion": service.resource_version,
    }
    return _encode(
        {
            "apiVersion": "v1",
            "kind": "Event",
            "metadata": {"namespace": service.namespace, "name": f"{service.name}.{unique}"},
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
) -> bytes:
    """Return the whole Lease of a node's speaker: for POST, and as a merge-patch of the one there.

    PUT needs the `version` of the one there. renewTime is a MicroTime: exactly six digits, and Z.
    """
    metadata = {
        "name": LEASE_PREFIX + node,
        "namespace": namespace,
        "labels": {"app.kubernetes.io/name": "lbspeaker", "app.kubernetes.io/component": "speaker"},
        "annotations": {DRAINING: "true" if draining else "false"},
    }
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
