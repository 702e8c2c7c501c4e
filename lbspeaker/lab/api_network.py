"""Cluster IPs and node ports: which are free, and which a Service gets.

Source: the Kubernetes API reference for Service (clusterIPs, ipFamilies, ipFamilyPolicy, nodePort).
"""

import ipaddress
from collections.abc import Iterable
from typing import Any

from lbspeaker.lab.api_errors import Cause, internal, unsupported, wrong

Json = dict[str, Any]

EXPOSED = ("LoadBalancer", "NodePort")  # types with node ports
FAMILIES = {4: "IPv4", 6: "IPv6"}
POLICIES = ("SingleStack", "PreferDualStack", "RequireDualStack")


class ServiceNetwork:
    """The cluster IPs and node ports that Services use.

    `cidrs` are one network per family, the default family first; `node_ports` both bounds, included.
    Choosing does not take: `commit` does, once the Service is stored.
    """

    def __init__(
        self,
        cidrs: tuple[str, ...] = ("10.96.0.0/16", "fd00:10:96::/112"),
        node_ports: tuple[int, int] = (30000, 32767),
    ) -> None:
        self._networks = {f"IPv{net.version}": net for net in map(ipaddress.ip_network, cidrs)}
        self.families = tuple(self._networks)
        self.node_ports = node_ports
        self._used: set[str | int] = set()
        self._next_ip = dict.fromkeys(self.families, 16)  # as clusters keep the first for their own
        self._next_port = node_ports[0]

    def commit(self, old: Json | None, new: Json | None) -> None:
        """Take what `new` uses and give back what only `old` used; both are whole Services or None."""
        self._used -= set(_held(old))
        self._used |= set(_held(new))

    def is_used(self, value: str | int) -> bool:
        return value in self._used

    def in_range(self, family: str, ip: str) -> bool:
        return family in self._networks and ipaddress.ip_address(ip) in self._networks[family]

    def pick_ip(self, family: str) -> str:
        """Return a free cluster IP of `family`; raises ApiStatus 500 if the range is full."""
        network = self._networks[family]
        size = network.num_addresses
        for step in range(size):
            offset = (self._next_ip[family] + step) % size
            ip = str(network[offset])
            if 0 < offset < size - 1 and ip not in self._used:
                self._next_ip[family] = offset + 1
                return ip
        raise internal("failed to allocate a serviceIP: range is full")

    def pick_port(self, taken: Iterable[int]) -> int:
        """Return a free node port that is not in `taken`; raises ApiStatus 500 if the range is full."""
        first, last = self.node_ports
        for step in range(last - first + 1):
            port = first + (self._next_port - first + step) % (last - first + 1)
            if port not in self._used and port not in taken:
                self._next_port = port + 1
                return port
        raise internal("failed to allocate a nodePort: range is full")


def _held(service: Json | None) -> list[str | int]:
    """Return the cluster IPs and node ports of a Service."""
    if service is None:
        return []
    spec = service.get("spec") or {}
    held: list[str | int] = [ip for ip in spec.get("clusterIPs") or [] if ip != "None"]
    held += [port["nodePort"] for port in spec.get("ports") or [] if port.get("nodePort")]
    if spec.get("healthCheckNodePort"):
        held.append(spec["healthCheckNodePort"])
    return held


# --- what a Service gets ---------------------------------------------------------------------------------


def allocate(new: Json, old: Json | None, network: ServiceNetwork) -> tuple[Json, list[Cause]]:
    """Return a defaulted Service with its cluster IPs and node ports, and what is wrong with its requests."""
    spec = dict(new["spec"])
    before = (old or {}).get("spec") or {}
    causes: list[Cause] = []
    if spec["type"] != "ExternalName":
        causes += _allocate_ips(spec, before, network)
    if not causes:
        causes += _allocate_ports(spec, before, network)
    return {**new, "spec": spec}, causes


def _allocate_ips(spec: Json, before: Json, network: ServiceNetwork) -> list[Cause]:
    ips = _requested_ips(spec, before)
    policy = spec.get("ipFamilyPolicy")
    headless = ips[:1] == ["None"]
    families = _families(spec, before, ips, policy, network)
    if policy is None:
        without_selector = headless and not spec.get("selector")
        policy = "RequireDualStack" if without_selector else "SingleStack"
        if without_selector and "ipFamilies" not in spec:
            families = list(network.families)
    if causes := _refuse_families(families, policy, network, headless=headless):
        return causes
    spec |= {"ipFamilyPolicy": policy, "ipFamilies": families}
    if headless:
        spec |= {"clusterIP": "None", "clusterIPs": ["None"]}
        return []
    ips = ips[: len(families)]
    held = before.get("clusterIPs") or []
    if held and before.get("type") != "ExternalName" and ips[:1] != held[:1]:
        return [_listed("spec.clusterIPs[0]", ips, "may not change once set")]
    for at, ip in enumerate(ips):
        if ip not in held and (cause := _refuse_ip(at, ips, families[at], network)) is not None:
            return [cause]
    ips += [network.pick_ip(family) for family in families[len(ips) :]]
    spec |= {"clusterIP": ips[0], "clusterIPs": ips}
    return []


def _refuse_families(
    families: list[str], policy: str, network: ServiceNetwork, *, headless: bool
) -> list[Cause]:
    field = "spec.ipFamilyPolicy"
    if policy not in POLICIES:
        return [unsupported(field, policy, sorted(POLICIES))]
    if missing := [family for family in families if family not in network.families]:
        return [wrong("spec.ipFamilies[0]", missing[0], "not configured on this cluster")]
    if policy == "SingleStack" and len(families) > 1:
        why = "must be 'RequireDualStack' or 'PreferDualStack' when multiple IP families are specified"
        return [wrong(field, policy, why)]
    if policy == "RequireDualStack" and len(families) < 2 and not headless:
        return [wrong(field, policy, "this cluster is not configured for dual-stack services")]
    return []


def _requested_ips(spec: Json, before: Json) -> list[str]:
    """Return the cluster IPs that the Service names; clusterIP leads where only one of the two was given."""
    single, many = spec.get("clusterIP"), list(spec.get("clusterIPs") or [])
    if single and (not many or (many == before.get("clusterIPs") and single != many[0])):
        many = [single]
    if not many and before.get("clusterIPs") and before.get("type") != "ExternalName":
        many = list(before["clusterIPs"])
    return many


def _families(
    spec: Json, before: Json, ips: list[str], policy: str | None, network: ServiceNetwork
) -> list[str]:
    families = list(spec.get("ipFamilies") or [])
    if not families and ips and ips[0] != "None":
        families = [FAMILIES[version] for ip in ips if (version := version_of(ip)) is not None]
    if not families:
        families = [network.families[0]]
    if policy in ("PreferDualStack", "RequireDualStack") and len(families) == 1:
        families += [family for family in network.families if family not in families]
    if policy == "SingleStack" and before.get("ipFamilyPolicy") not in (None, "SingleStack"):
        families = families[:1]
    return families


def _refuse_ip(at: int, ips: list[str], family: str, network: ServiceNetwork) -> Cause | None:
    ip, field = ips[at], f"spec.clusterIPs[{at}]"
    version = version_of(ip)
    if version is None:
        return wrong(field, ip, "must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)")
    if FAMILIES[version] != family:
        return wrong(field, ip, f"expected an {family} value as indicated by `ipFamilies[{at}]`")
    failed = f"failed to allocate IP {ip}"
    if not network.in_range(family, ip):
        return _listed(
            "spec.clusterIPs", ips, f"{failed}: the provided network does not match the current range"
        )
    if network.is_used(ip):
        return _listed("spec.clusterIPs", ips, f"{failed}: provided IP is already allocated")
    return None


def _listed(field: str, values: list[str], why: str) -> Cause:
    shown = ",".join(f'"{value}"' for value in values)
    return Cause(field, "FieldValueInvalid", f"Invalid value: [{shown}]: {why}")


def version_of(ip: str) -> int | None:
    """Return 4 or 6; None if `ip` is no address."""
    try:
        return ipaddress.ip_address(ip).version
    except ValueError:
        return None


def _allocate_ports(spec: Json, before: Json, network: ServiceNetwork) -> list[Cause]:
    if spec["type"] not in EXPOSED:
        return []
    held = {(p["protocol"], p["port"]): p.get("nodePort") for p in before.get("ports") or []}
    mine = set(_held({"spec": before}))
    wanted = spec["type"] == "NodePort" or spec.get("allocateLoadBalancerNodePorts") is not False
    taken: list[int] = [port["nodePort"] for port in spec.get("ports") or [] if port.get("nodePort")]
    causes, ports = [], []
    for at, port in enumerate(spec.get("ports") or []):
        chosen = port.get("nodePort")
        if chosen and chosen not in mine and (why := _refuse_port(chosen, network)):
            causes.append(wrong(f"spec.ports[{at}].nodePort", chosen, why))
        elif not chosen and wanted:
            chosen = held.get((port["protocol"], port.get("port")))
            if not chosen or chosen in taken:
                chosen = network.pick_port(taken)
            taken.append(chosen)
            port = {**port, "nodePort": chosen}
        ports.append(port)
    if ports:
        spec["ports"] = ports
    local = spec["type"] == "LoadBalancer" and spec.get("externalTrafficPolicy") == "Local"
    if local and not spec.get("healthCheckNodePort"):
        spec["healthCheckNodePort"] = before.get("healthCheckNodePort") or network.pick_port(taken)
    return causes


def _refuse_port(port: int, network: ServiceNetwork) -> str:
    first, last = network.node_ports
    if not first <= port <= last:
        return f"provided port is not in the valid range. The range of valid ports is {first}-{last}"
    return "provided port is already allocated" if network.is_used(port) else ""
