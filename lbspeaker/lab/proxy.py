"""The stand-in for kube-proxy: what each node does with packets for service IPs and cluster IPs, as nftables.

A connection goes to the pod of the node itself if there is one, else to another node's, from the node's own
address so that the answer comes back the same way. Traffic policy Local knows only pods of the node itself.
Packets for a service IP that no rule takes are rejected: if they were forwarded, they would leave by the link
they came from, and the node itself would ask the segment who has the IP.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from lbspeaker.lab.objects import Pod, Service, ServicePort
from lbspeaker.model import Address

TABLE = "lbspeaker_lab"


@dataclass(frozen=True, slots=True)
class Target:
    """A pod's address and port, and the node it is on."""

    node: str
    ip: Address
    port: int


@dataclass(frozen=True, slots=True)
class Frontend:
    """One IP and port that leads to pods; `local`: only to those of the node that has the packet."""

    ip: Address
    protocol: str  # "tcp", "udp" or "sctp"
    port: int
    targets: tuple[Target, ...]
    local: bool = False

    def target_on(self, node: str) -> Target | None:
        """Where `node` sends a connection."""
        own = next((target for target in self.targets if target.node == node), None)
        if own is not None or self.local:
            return own
        return self.targets[0] if self.targets else None


def frontends(services: Iterable[Service], pods: Sequence[Pod]) -> list[Frontend]:
    """Return every frontend of these services, with their ready pods."""
    found = []
    for service in services:
        matching = [pod for pod in pods if pod.ready and pod.matches(service)]
        local = service.spec.external_traffic_policy == "Local"
        for port in service.spec.ports:
            found += [_frontend(ip, port, matching, local=False) for ip in service.cluster_ips]
            found += [_frontend(ip, port, matching, local=local) for ip in service.service_ips]
    return found


def _frontend(ip: Address, port: ServicePort, pods: Iterable[Pod], *, local: bool) -> Frontend:
    targets = [
        Target(pod.spec.node_name, pod_ip, number)
        for pod in pods
        for pod_ip in pod.ips
        if pod_ip.version == ip.version and (number := pod.port(port.target_port, port.port))
    ]
    ordered = tuple(sorted(targets, key=lambda target: target.node))
    return Frontend(ip, port.protocol.lower(), port.port, ordered, local)


def ruleset(node: str, fronts: Iterable[Frontend], service_ips: Iterable[Address]) -> str:
    """Return what `nft -f` takes: the whole of our table, IPv4 and IPv6, replaced in one transaction."""
    chosen = {
        (front.ip, front.protocol, front.port): target
        for front in fronts
        if (target := front.target_on(node)) is not None
    }
    text = ""
    for version, family in ((4, "ip"), (6, "ip6")):
        targets = [
            f"{ip} . {protocol} . {port} : {target.ip} . {target.port}"
            for (ip, protocol, port), target in sorted(chosen.items(), key=lambda item: str(item[0]))
            if ip.version == version
        ]
        ips = sorted({str(ip) for ip in service_ips if ip.version == version})
        text += _table(family, "ipv4_addr" if version == 4 else "ipv6_addr", targets, ips)
    return text


def _table(family: str, address: str, targets: list[str], service_ips: list[str]) -> str:
    """One table. The first two lines make the replacement work whether or not it is there already."""
    to_pod = f"dnat {family} to {family} daddr . meta l4proto . th dport map @targets"
    return f"""table {family} {TABLE}
delete table {family} {TABLE}
table {family} {TABLE} {{
  map targets {{
    type {address} . inet_proto . inet_service : {address} . inet_service
{_elements(targets)}  }}
  set service_ips {{
    type {address}
{_elements(service_ips)}  }}
  chain from_outside {{
    type nat hook prerouting priority -100; policy accept;
    {to_pod}
  }}
  chain from_node {{
    type nat hook output priority -100; policy accept;
    {to_pod}
  }}
  chain to_other_nodes {{
    type nat hook postrouting priority 100; policy accept;
    ct status dnat oifname != "lo" masquerade
  }}
  chain rest {{
    type filter hook forward priority 0; policy accept;
    {family} daddr @service_ips meta l4proto tcp reject with tcp reset
    {family} daddr @service_ips reject
  }}
}}
"""


def _elements(elements: list[str]) -> str:
    """An empty list of elements is a syntax error to nft."""
    return f"    elements = {{ {', '.join(elements)} }}\n" if elements else ""
