"""What an API server says about an object by the rules of its kind's CRD, worked out here.

CEL itself is a package's; the functions that Kubernetes adds are here.
"""

import functools
import re
from collections.abc import Callable, Iterator
from datetime import timedelta
from ipaddress import IPv4Address, IPv6Address, ip_address
from typing import Any

import cel

from lbspeaker.config.crds import crds
from lbspeaker.lab import api_schema

Json = dict[str, Any]
SCHEMAS: dict[str, Json] = {
    crd["spec"]["names"]["kind"]: crd["spec"]["versions"][0]["schema"]["openAPIV3Schema"] for crd in crds()
}
RESERVED = {"namespace"}  # CEL's own words, of those that are keys here
_SECONDS = {
    "ns": 1e-9,
    "us": 1e-6,
    "\u00b5s": 1e-6,
    "\u03bcs": 1e-6,
    "ms": 1e-3,
    "s": 1.0,
    "m": 60.0,
    "h": 3600.0,
}


def _ip(text: str) -> IPv4Address | IPv6Address:
    """Go's netip, without zones and IPv4 in IPv6."""
    ip = ip_address(text)
    if isinstance(ip, IPv6Address) and (ip.scope_id is not None or ip.ipv4_mapped is not None):
        raise ValueError(text)
    return ip


def _is_ip(text: str) -> bool:
    try:
        _ip(text)
    except ValueError:
        return False
    return True


def _is_global_unicast(text: str) -> bool:
    """Go's netip.Addr.IsGlobalUnicast: private and reserved ones, too."""
    ip = _ip(text)
    special = ip.is_unspecified or ip.is_loopback or ip.is_multicast or ip.is_link_local
    return not special and text != "255.255.255.255"


def _split(text: str, separator: str, limit: int = -1) -> list[str]:
    return text.split(separator, limit - 1 if limit > 0 else -1)


def _duration(text: str) -> timedelta:
    parts = re.findall(f"([0-9.]+)({'|'.join(_SECONDS)})", text)
    if "".join(number + unit for number, unit in parts) != text and text != "0":
        raise ValueError(text)
    return timedelta(seconds=sum(float(number) * _SECONDS[unit] for number, unit in parts))


FUNCTIONS: dict[str, Callable[..., Any]] = {
    "isIP": _is_ip,
    "ip": lambda text: str(_ip(text)),
    "isGlobalUnicast": _is_global_unicast,
    "isLinkLocalUnicast": lambda text: _ip(text).is_link_local,
    "split": _split,
    "trim": str.strip,
    "lowerAscii": str.lower,
    "go_duration": _duration,
}


@functools.cache
def _compiled(rule: str) -> cel.Program:
    return cel.compile(rule.replace("duration(", "go_duration("))  # the package's own knows no µs


def _holds(rule: str, value: object) -> bool:
    context = cel.Context()
    for name, function in FUNCTIONS.items():
        context.add_function(name, function)
    context.add_variable("self", _escaped(value))
    try:
        return bool(_compiled(rule).execute(context))
    except (RuntimeError, ValueError, TypeError, KeyError):  # a rule that fails refuses, too
        return False


def _escaped(value: object) -> object:
    if isinstance(value, dict):
        return {
            f"__{key}__" if key in RESERVED else key: _escaped(one)
            for key, one in value.items()
            if one is not None
        }
    return [_escaped(one) for one in value] if isinstance(value, list) else value


def by_rules(kind: str, spec: object) -> list[str]:
    """Return what the rules of `kind` say against a spec, as an API server that fills in defaults."""
    schema = SCHEMAS[kind]["properties"]["spec"]
    return [
        f"{path}: {message}" for path, message in _broken(api_schema.default(spec, schema), schema, "spec")
    ]


def by_schema(kind: str, spec: object) -> list[str]:
    """Return what is wrong with a spec by types, bounds and lengths alone: then no rule is looked at."""
    schema = SCHEMAS[kind]["properties"]["spec"]
    return [cause.message for cause in api_schema.check(api_schema.default(spec, schema), schema, "spec")]


def _broken(value: object, schema: Json, path: str) -> Iterator[tuple[str, str]]:
    for rule in schema.get("x-kubernetes-validations", ()):
        if not _holds(rule["rule"], value):
            yield path + rule.get("fieldPath", ""), rule["message"]
    if isinstance(value, dict):
        for key, inner in (schema.get("properties") or {}).items():
            if value.get(key) is not None:
                yield from _broken(value[key], inner, f"{path}.{key}")
    if isinstance(value, list):
        for number, one in enumerate(value):
            yield from _broken(one, schema["items"], f"{path}[{number}]")
