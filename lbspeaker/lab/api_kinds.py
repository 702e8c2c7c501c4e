"""What the API server does to objects of each kind before it stores them: defaults and refusals."""

import base64
import binascii
import re
from collections.abc import Callable
from typing import Any

from lbspeaker.lab.api_errors import Cause, required, unsupported, wrong
from lbspeaker.lab.api_network import version_of
from lbspeaker.lab.api_resources import CRDS, NAMESPACES, SERVICES
from lbspeaker.lab.api_store import TableName

Json = dict[str, Any]
Admit = Callable[[Json, Json | None], tuple[Json, list[Cause]]]

_MICRO_TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}(Z|[+-]\d\d:\d\d)$")
_SUBDOMAIN = re.compile(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*$")
_LABEL_1123 = re.compile(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?$")

SUBDOMAIN_RULE = (
    "a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.', and must "
    "start and end with an alphanumeric character (e.g. 'example.com', regex used for validation is "
    "'[a-z0-9]([-a-z0-9]*[a-z0-9])?(\\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*')"
)
LABEL_1123_RULE = (
    "a lowercase RFC 1123 label must consist of lower case alphanumeric characters or '-', and must start "
    "and end with an alphanumeric character (e.g. 'my-name',  or '123-abc', regex used for validation is "
    "'[a-z0-9]([-a-z0-9]*[a-z0-9])?')"
)


def validate_name(table: TableName, name: str) -> list[Cause]:
    """Return what is wrong with the name of an object."""
    field = "metadata.name"
    if table in (SERVICES, NAMESPACES):
        if len(name) > 63:
            return [wrong(field, name, "must be no more than 63 characters")]
        return [] if _LABEL_1123.match(name) else [wrong(field, name, LABEL_1123_RULE)]
    if table[0] == "rbac.authorization.k8s.io":  # path segments: system:node is fine
        return [wrong(field, name, "may not contain '/'")] if "/" in name else []
    if len(name) > 253:
        return [wrong(field, name, "must be no more than 253 characters")]
    return [] if _SUBDOMAIN.match(name) else [wrong(field, name, SUBDOMAIN_RULE)]


def _namespace(new: Json, old: Json | None) -> tuple[Json, list[Cause]]:
    metadata = new["metadata"]
    labels = {**(metadata.get("labels") or {}), "kubernetes.io/metadata.name": metadata["name"]}
    spec = (old or {}).get("spec") or {"finalizers": ["kubernetes"]}
    status = new.get("status") or {"phase": "Active"}
    return {**new, "metadata": {**metadata, "labels": labels}, "spec": spec, "status": status}, []


def _lease(new: Json, old: Json | None) -> tuple[Json, list[Cause]]:
    spec: Json = new.get("spec") or {}
    causes = []
    duration = spec.get("leaseDurationSeconds")
    if duration is not None and duration < 1:
        causes.append(wrong("spec.leaseDurationSeconds", duration, "must be greater than 0"))
    transitions = spec.get("leaseTransitions")
    if transitions is not None and transitions < 0:
        causes.append(wrong("spec.leaseTransitions", transitions, "must be greater than or equal to 0"))
    return {**new, "spec": spec}, causes


def undecodable(table: TableName, obj: Json) -> str:
    """Return why an object cannot be decoded as what it says it is; "" if it can."""
    if table == ("coordination.k8s.io", "leases") and (bad := micro_times(obj)):
        return f'parsing time "{bad[0]}" as "2006-01-02T15:04:05.000000Z07:00": cannot parse'
    if table == ("", "secrets"):
        try:
            for value in (obj.get("data") or {}).values():
                base64.b64decode(value, validate=True)
        except (binascii.Error, TypeError, ValueError):
            return "illegal base64 data"
    return ""


def micro_times(obj: Json) -> list[str]:
    """Return the times in a Lease's spec that are not a MicroTime: exactly six digits of a second."""
    spec = obj.get("spec") or {}
    values = (spec.get(name) for name in ("acquireTime", "renewTime"))
    return [str(value) for value in values if value is not None and not _MICRO_TIME.match(str(value))]


def _slice(new: Json, old: Json | None) -> tuple[Json, list[Cause]]:
    kind = new.get("addressType")
    causes = []
    if not kind:
        causes.append(required("addressType"))
    elif kind not in ("IPv4", "IPv6", "FQDN"):
        causes.append(unsupported("addressType", kind, ("FQDN", "IPv4", "IPv6")))
    elif old is not None and old.get("addressType") != kind:
        causes.append(wrong("addressType", kind, "field is immutable"))
    ports = [{"name": "", "protocol": "TCP", **port} for port in new.get("ports") or []]
    endpoints = [{"conditions": {}, **endpoint} for endpoint in new.get("endpoints") or []]
    for at, endpoint in enumerate(endpoints):
        causes += _check_addresses(f"endpoints[{at}].addresses", endpoint.get("addresses") or [], kind or "")
    return {**new, "endpoints": endpoints or None, "ports": ports or None}, causes


def _check_addresses(field: str, addresses: list[str], kind: str) -> list[Cause]:
    if not addresses:
        return [required(field, "must contain at least 1 address")]
    return [
        wrong(f"{field}[{at}]", ip, "must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)")
        for at, ip in enumerate(addresses)
        if kind in ("IPv4", "IPv6") and version_of(ip) is None
    ]


def _timed(status: Json, *times: str) -> Json:
    """Return a status whose conditions have their times, null where nobody set them."""
    if not status.get("conditions"):
        return status
    return {**status, "conditions": [{**dict.fromkeys(times), **c} for c in status["conditions"]]}


def _node(new: Json, old: Json | None) -> tuple[Json, list[Cause]]:
    spec = new.get("spec") or {}
    if spec.get("podCIDR") and "podCIDRs" not in spec:
        spec = {**spec, "podCIDRs": [spec["podCIDR"]]}
    status = _timed(new.get("status") or {}, "lastHeartbeatTime", "lastTransitionTime")
    return {**new, "spec": spec, "status": status}, []


def _pod(new: Json, old: Json | None) -> tuple[Json, list[Cause]]:
    spec = {
        "restartPolicy": "Always",
        "terminationGracePeriodSeconds": 30,
        "dnsPolicy": "ClusterFirst",
        "schedulerName": "default-scheduler",
        "securityContext": {},
        "enableServiceLinks": True,
        **(new.get("spec") or {}),
    }
    status = new.get("status") or {"phase": "Pending", "qosClass": "BestEffort"}
    causes = [] if spec.get("containers") else [required("spec.containers")]
    return {**new, "spec": spec, "status": _timed(status, "lastProbeTime", "lastTransitionTime")}, causes


def _secret(new: Json, old: Json | None) -> tuple[Json, list[Cause]]:
    secret = {"type": "Opaque", **new}
    plain = secret.pop("stringData", None)
    if plain:
        coded = {key: base64.b64encode(value.encode()).decode() for key, value in plain.items()}
        secret["data"] = {**(secret.get("data") or {}), **coded}
    if old is not None and old.get("type") != secret["type"]:
        return secret, [wrong("type", secret["type"], "field is immutable")]
    return secret, []


def _workload(new: Json, old: Json | None) -> tuple[Json, list[Cause]]:
    return {**new, "spec": {"revisionHistoryLimit": 10, **(new.get("spec") or {})}}, []


def _deployment(new: Json, old: Json | None) -> tuple[Json, list[Cause]]:
    spec = {"replicas": 1, **(new.get("spec") or {})}
    return _workload({"status": {}, **new, "spec": spec}, old)


def _daemon_set(new: Json, old: Json | None) -> tuple[Json, list[Cause]]:
    counts = ("currentNumberScheduled", "desiredNumberScheduled", "numberMisscheduled", "numberReady")
    return _workload({"status": dict.fromkeys(counts, 0), **new}, old)


def _budget(new: Json, old: Json | None) -> tuple[Json, list[Cause]]:
    counts = ("currentHealthy", "desiredHealthy", "disruptionsAllowed", "expectedPods")
    return {"status": dict.fromkeys(counts, 0), **new}, []


def _as_it_is(new: Json, old: Json | None) -> tuple[Json, list[Cause]]:
    return new, []


ADMIT: dict[TableName, Admit] = {
    NAMESPACES: _namespace,
    ("", "nodes"): _node,
    ("", "pods"): _pod,
    ("apps", "deployments"): _deployment,
    ("apps", "daemonsets"): _daemon_set,
    ("policy", "poddisruptionbudgets"): _budget,
    ("", "secrets"): _secret,
    ("coordination.k8s.io", "leases"): _lease,
    ("discovery.k8s.io", "endpointslices"): _slice,
}

# Kinds whose status may be set when they are created: kubelets register their node that way.
STATUS_AT_CREATION = {("", "nodes"), CRDS}


def admit(table: TableName, new: Json, old: Json | None) -> tuple[Json, list[Cause]]:
    """Return what is stored when `new` is created in `table` or replaces `old`, and what is wrong with it."""
    return ADMIT.get(table, _as_it_is)(new, old)
