"""What the API server does to a Service: its defaults, and what is refused.

Source: the Kubernetes API reference for Service, and `pkg/registry/core/service` of the server itself.
"""

import re
from typing import Any

from lbspeaker.lab.api_errors import ApiStatus, Cause, forbidden, required, unsupported, wrong
from lbspeaker.lab.api_network import EXPOSED, ServiceNetwork, allocate, version_of

Json = dict[str, Any]

TYPES = ("ClusterIP", "ExternalName", "LoadBalancer", "NodePort")
_QUALIFIED = re.compile(r"([a-z0-9]([-a-z0-9.]*[a-z0-9])?/)?[A-Za-z0-9]([-A-Za-z0-9_.]*[A-Za-z0-9])?$")
QUALIFIED_RULE = (
    "name part must consist of alphanumeric characters, '-', '_' or '.', and must start and end with an "
    "alphanumeric character (e.g. 'MyName',  or 'my.name',  or '123-abc', regex used for validation is "
    "'([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]')"
)


_INTERNAL = ("clusterIP", "clusterIPs", "ipFamilies", "ipFamilyPolicy", "internalTrafficPolicy")


def default_service(new: Json, old: Json | None) -> Json:
    """Return `new` with every default, but nothing allocated; `old` is what it replaces."""
    spec = dict(new.get("spec") or {})
    before = (old or {}).get("spec") or {}
    kind = spec.setdefault("type", "ClusterIP")
    spec.setdefault("sessionAffinity", "None")
    if spec["sessionAffinity"] == "ClientIP":
        spec.setdefault("sessionAffinityConfig", {"clientIP": {"timeoutSeconds": 10800}})
    else:
        spec.pop("sessionAffinityConfig", None)
    if kind == "ExternalName":
        _drop_inherited(spec, before, *_INTERNAL)
    else:
        spec.setdefault("internalTrafficPolicy", "Cluster")
    if kind in EXPOSED:
        spec.setdefault("externalTrafficPolicy", "Cluster")
    else:
        _drop_inherited(spec, before, "externalTrafficPolicy")
    if kind == "LoadBalancer":
        spec.setdefault("allocateLoadBalancerNodePorts", True)
    else:
        _drop_inherited(spec, before, "allocateLoadBalancerNodePorts", "loadBalancerClass")
    if kind != "LoadBalancer" or spec.get("externalTrafficPolicy") != "Local":
        _drop_inherited(spec, before, "healthCheckNodePort")
    spec["ports"] = [_default_port(port, kind) for port in spec.get("ports") or []]
    if not spec["ports"]:
        del spec["ports"]
    return {**new, "spec": spec}


def _drop_inherited(spec: Json, before: Json, *names: str) -> None:
    """Drop the fields that no longer apply and are only there because nobody removed them."""
    for name in names:
        if name in spec and spec[name] == before.get(name):
            del spec[name]


def _default_port(port: Any, kind: str) -> Json:
    result = {"protocol": "TCP", **port} if isinstance(port, dict) else {"protocol": "TCP"}
    result.setdefault("targetPort", result.get("port"))
    if not result["targetPort"]:
        result["targetPort"] = result.get("port")
    if kind not in EXPOSED or not result.get("nodePort"):
        result.pop("nodePort", None)
    return result


# --- what is refused ------------------------------------------------------------------------------------


def validate(new: Json, old: Json | None) -> list[Cause]:
    """Return what is wrong with a defaulted Service."""
    spec: Json = new["spec"]
    causes: list[Cause] = []
    if spec["type"] not in TYPES:
        causes.append(unsupported("spec.type", spec["type"], TYPES))
    ports = spec.get("ports") or []
    if not ports and spec["type"] != "ExternalName" and spec.get("clusterIP") != "None":
        causes.append(required("spec.ports"))
    if spec["type"] == "ExternalName":
        if not spec.get("externalName"):
            causes.append(required("spec.externalName"))
        not_set = "may not be set for ExternalName services"
        causes += [forbidden(f"spec.{name}", not_set) for name in _INTERNAL[1:4] if spec.get(name)]
    if spec["type"] not in EXPOSED and spec.get("externalTrafficPolicy"):
        why = "may only be set for externally-accessible services"
        causes.append(wrong("spec.externalTrafficPolicy", spec["externalTrafficPolicy"], why))
    for at, port in enumerate(ports):
        causes += _validate_port(f"spec.ports[{at}]", port, named=len(ports) > 1)
    for name, allowed in (
        ("sessionAffinity", ("ClientIP", "None")),
        ("externalTrafficPolicy", ("Cluster", "Local")),
        ("internalTrafficPolicy", ("Cluster", "Local")),
    ):
        if spec.get(name, allowed[0]) not in allowed:
            causes.append(unsupported(f"spec.{name}", spec[name], allowed))
    return causes + _validate_class(spec, (old or {}).get("spec") or {})


def _validate_port(field: str, port: Json, *, named: bool) -> list[Cause]:
    causes = []
    if named and not port.get("name"):
        causes.append(required(f"{field}.name"))
    number = port.get("port")
    if not isinstance(number, int) or not 1 <= number <= 65535:
        causes.append(wrong(f"{field}.port", number or 0, "must be between 1 and 65535, inclusive"))
    target = port["targetPort"]
    if isinstance(target, int) and not 1 <= target <= 65535:
        causes.append(wrong(f"{field}.targetPort", target, "must be between 1 and 65535, inclusive"))
    if port["protocol"] not in ("SCTP", "TCP", "UDP"):
        causes.append(unsupported(f"{field}.protocol", port["protocol"], ("SCTP", "TCP", "UDP")))
    return causes


def _validate_class(spec: Json, before: Json) -> list[Cause]:
    balancer = "LoadBalancer"
    wanted = spec.get("loadBalancerClass")
    if spec["type"] != balancer:
        if wanted is not None:
            return [forbidden("spec.loadBalancerClass", "may only be used when `type` is 'LoadBalancer'")]
        return []
    if wanted is not None and not _QUALIFIED.match(wanted):
        return [wrong("spec.loadBalancerClass", wanted, QUALIFIED_RULE)]
    if before.get("type") == balancer and wanted != before.get("loadBalancerClass"):
        value = "null" if wanted is None else wanted
        return [Cause("spec.loadBalancerClass", "FieldValueInvalid", _immutable(value))]
    return []


def _immutable(value: str) -> str:
    shown = value if value == "null" else f'"{value}"'
    return f"Invalid value: {shown}: may not change once set"


def default_status(status: Json) -> Json:
    """Return a Service's status with ipMode VIP where an ingress has an IP and no mode."""
    balancer = status.get("loadBalancer") or {}
    if not balancer.get("ingress"):
        return {**status, "loadBalancer": balancer}
    ingress = [
        {**point, "ipMode": "VIP"} if point.get("ip") and "ipMode" not in point else point
        for point in balancer["ingress"]
    ]
    return {**status, "loadBalancer": {**balancer, "ingress": ingress}}


def validate_status(status: Json, kind: str) -> list[Cause]:
    """Return what is wrong with a Service's status, the Service being of type `kind`."""
    ingress = (status.get("loadBalancer") or {}).get("ingress") or []
    field = "status.loadBalancer.ingress"
    if ingress and kind != "LoadBalancer":
        return [forbidden(field, "may only be used when `spec.type` is 'LoadBalancer'")]
    causes: list[Cause] = []
    for at, point in enumerate(ingress):
        ip, mode, place = point.get("ip"), point.get("ipMode"), f"{field}[{at}]"
        if ip and version_of(ip) is None:
            why = "must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)"
            causes.append(wrong(f"{place}.ip", ip, why))
        if mode is not None and not ip:
            causes.append(forbidden(f"{place}.ipMode", "may not be specified when `ip` is not set"))
        elif mode is not None and mode not in ("VIP", "Proxy"):
            causes.append(unsupported(f"{place}.ipMode", mode, ("Proxy", "VIP")))
    return causes


def admit_service(new: Json, old: Json | None, network: ServiceNetwork) -> tuple[Json, list[Cause]]:
    """Return what is stored when `new` is created or replaces `old`, and what is wrong with it."""
    try:
        service = default_service(new, old)
        causes = validate(service, old)
        if not causes:
            service, causes = allocate(service, old, network)
    except (AttributeError, TypeError, KeyError) as error:  # not the shape of a Service at all
        message = f'Service in version "v1" cannot be handled as a Service: {error}'
        raise ApiStatus(400, "BadRequest", message) from None
    status = default_status(service.get("status") or {})
    if service["spec"]["type"] != "LoadBalancer":
        status = {**status, "loadBalancer": {}}
    return {**service, "status": status}, causes
