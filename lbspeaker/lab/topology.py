"""The picture of the lab, as values: who exists, which addresses they have, which lines of `ip` make it so.

::

     client ──┐                     ┌── node-a ──┐
              ├── switch (bridge) ──┼── node-b ──┼── control (bridge): the API server
     router ──┘    the segment      └── node-c ──┘
       └── remote

* The segment is 192.0.2.0/24 and 2001:db8::/64: router .1, client .2, nodes from .201 (RFC 5737, RFC 3849).
  .10 to .199 are free for service IPs. Client and router take 198.18.0.0/16 (RFC 2544) for on-link, too:
  room for large pools.
* 203.0.113.0/24 and 2001:db8:203::/64 are on no link: the router learns them by BGP or not at all.
* Behind the router: 198.51.100.0/24 and 2001:db8:100::/64, `remote` is .2.
* The control network is 10.99.0.0/24: the API server .1, nodes from .201. Speakers reach the API server here,
  so that the segment carries nothing but what it is about.
* Pods of the n-th node: 10.244.n.10 and fd00:244:n::10.

All who live on the segment know each other's MAC beforehand (permanent neighbour entries). So every ARP frame
on the wire is about a service IP, and a count of frames counts speakers, not kernels.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network

from lbspeaker.model import Address, Network

MAX_NODES = 20
ROUTER_AS = 64512
NODES_AS = 64513
API_ADDRESS = "10.99.0.1"
API_PORT = 6443
POD_PORTS = (80, 8080)

SEGMENT: tuple[Network, ...] = (IPv4Network("192.0.2.0/24"), IPv6Network("2001:db8::/64"))
ON_LINK: tuple[Network, ...] = (IPv4Network("198.18.0.0/16"),)
ROUTED: tuple[Network, ...] = (IPv4Network("203.0.113.0/24"), IPv6Network("2001:db8:203::/64"))
SERVICE_NETWORKS: tuple[Network, ...] = (*SEGMENT, *ON_LINK, *ROUTED)  # what the router accepts by BGP

SWITCH, CONTROL, CLIENT, ROUTER, REMOTE = "switch", "control", "client", "router", "remote"


@dataclass(frozen=True, slots=True)
class Host:
    """Somebody on the segment: its interface there is eth0, its port on the switch has its name."""

    name: str
    ipv4: IPv4Address
    ipv6: IPv6Address

    @property
    def mac(self) -> bytes:
        """6 bytes: locally administered, and the IPv4 address; so a capture can be read without a table."""
        return bytes((2, 0)) + self.ipv4.packed


@dataclass(frozen=True, slots=True)
class LabNode(Host):
    """A node: the `number`-th (from 1), also on the control network (ctl0), with one pod."""

    number: int

    @property
    def control(self) -> IPv4Address:
        return IPv4Address(f"10.99.0.{200 + self.number}")

    @property
    def pods(self) -> tuple[Address, Address]:
        return IPv4Address(f"10.244.{self.number}.10"), IPv6Address(f"fd00:244:{self.number}::10")

    @property
    def pod_networks(self) -> tuple[Network, Network]:
        return IPv4Network(f"10.244.{self.number}.0/24"), IPv6Network(f"fd00:244:{self.number}::/64")


@dataclass(frozen=True, slots=True)
class Topology:
    """The lab `name` with its nodes."""

    name: str
    nodes: tuple[LabNode, ...]
    client: Host = Host(CLIENT, IPv4Address("192.0.2.2"), IPv6Address("2001:db8::2"))
    router: Host = Host(ROUTER, IPv4Address("192.0.2.1"), IPv6Address("2001:db8::1"))

    @property
    def prefix(self) -> str:
        return f"lbs-{self.name}-"

    def namespace(self, member: str) -> str:
        """Return the namespace of a node, or of client, router, remote, switch or control."""
        return self.prefix + member

    @property
    def hosts(self) -> tuple[Host, ...]:
        """Everybody on the segment; each has a port of the same name on the switch."""
        return (self.client, self.router, *self.nodes)

    @property
    def members(self) -> tuple[str, ...]:
        """Everybody who has a namespace."""
        return (SWITCH, CONTROL, REMOTE, *(host.name for host in self.hosts))


def topology(name: str = "lab", nodes: int = 3) -> Topology:
    """Describe a lab of `nodes` nodes, called node-a, node-b and so on.

    Raises ValueError unless there are 1 to 20.
    """
    if not 1 <= nodes <= MAX_NODES:
        raise ValueError(f"a lab has 1 to {MAX_NODES} nodes, not {nodes}")
    return Topology(name, tuple(_node(number) for number in range(1, nodes + 1)))


def _node(number: int) -> LabNode:
    name = f"node-{chr(ord('a') + number - 1)}"
    last = 200 + number
    return LabNode(name, IPv4Address(f"192.0.2.{last}"), IPv6Address(f"2001:db8::{last}"), number)


def parameters(member: str) -> Mapping[str, str]:
    """Return the kernel parameters of a member, to be set before it has interfaces."""
    if member == SWITCH:  # a switch has no address and says nothing of its own
        return {"net/ipv6/conf/all/disable_ipv6": "1", "net/ipv6/conf/default/disable_ipv6": "1"}
    quiet = {
        "net/ipv6/conf/all/disable_ipv6": "0",
        "net/ipv6/conf/default/disable_ipv6": "0",
        "net/ipv6/conf/default/accept_dad": "0",  # addresses are usable at once
        "net/ipv6/conf/default/accept_ra": "0",
        "net/ipv6/conf/default/router_solicitations": "0",
    }
    if member in (CLIENT, REMOTE, CONTROL):
        return quiet
    forwarding = {
        "net/ipv4/ip_forward": "1",
        "net/ipv6/conf/all/forwarding": "1",
        "net/ipv4/conf/all/send_redirects": "0",  # the way back of a packet may leave by the link it came
        "net/ipv4/conf/default/send_redirects": "0",
        "net/ipv4/conf/all/rp_filter": "0",  # answers may take another way than requests
        "net/ipv4/conf/default/rp_filter": "0",
    }
    if member == ROUTER:
        # spread connections, not pairs of hosts, over equal routes
        spread = {"net/ipv4/fib_multipath_hash_policy": "1", "net/ipv6/fib_multipath_hash_policy": "1"}
        return quiet | forwarding | spread
    return quiet | forwarding


def links(lab: Topology) -> dict[str, list[str]]:
    """Return the `ip` lines that create every link, by member; the far ends are moved to their owners."""
    switch = ["link add br0 type bridge", "link set br0 up"]
    for host in lab.hosts:
        far = f"peer name eth0 address {_text(host.mac)} netns {lab.namespace(host.name)}"
        switch += [f"link add {host.name} type veth {far}", f"link set {host.name} master br0 up"]
    control = ["link add br0 type bridge", f"address add {API_ADDRESS}/24 dev br0", "link set br0 up"]
    for node in lab.nodes:
        far = f"peer name ctl0 netns {lab.namespace(node.name)}"
        control += [f"link add {node.name} type veth {far}", f"link set {node.name} master br0 up"]
    router = [f"link add remote0 type veth peer name eth0 netns {lab.namespace(REMOTE)}"]
    return {SWITCH: switch, CONTROL: control, ROUTER: router}


def addresses(lab: Topology) -> dict[str, list[str]]:
    """Return the `ip` lines that give everybody addresses, routes and neighbours, by member."""
    lines = {host.name: _on_segment(lab, host) for host in lab.hosts}
    lines[CLIENT] += _default_routes(lab.router.ipv4, lab.router.ipv6)
    lines[CLIENT] += [f"route add {network} dev eth0" for network in ON_LINK]
    lines[ROUTER] += [f"route add {network} dev eth0" for network in ON_LINK]
    lines[ROUTER] += [
        "link set remote0 up",
        "address add 198.51.100.1/24 dev remote0",
        "address add 2001:db8:100::1/64 dev remote0 nodad",
    ]
    lines[REMOTE] = [
        "link set eth0 up",
        "address add 198.51.100.2/24 dev eth0",
        "address add 2001:db8:100::2/64 dev eth0 nodad",
        *_default_routes(IPv4Address("198.51.100.1"), IPv6Address("2001:db8:100::1")),
    ]
    for node in lab.nodes:
        lines[node.name] += _of_node(lab, node)
    return lines


def _on_segment(lab: Topology, host: Host) -> list[str]:
    lines = [
        "link set eth0 up",
        f"address add {host.ipv4}/24 dev eth0",
        f"address add {host.ipv6}/64 dev eth0 nodad",
    ]
    for other in lab.hosts:
        if other != host:
            known = f"lladdr {_text(other.mac)} dev eth0 nud permanent"
            lines += [f"neighbour replace {other.ipv4} {known}", f"neighbour replace {other.ipv6} {known}"]
    return lines


def _of_node(lab: Topology, node: LabNode) -> list[str]:
    lines = ["link set ctl0 up", f"address add {node.control}/24 dev ctl0"]
    lines += [f"address add {pod}/{pod.max_prefixlen} dev lo" for pod in node.pods]
    lines += _default_routes(lab.router.ipv4, lab.router.ipv6)
    for other in lab.nodes:
        if other != node:
            for network, via in zip(other.pod_networks, (other.ipv4, other.ipv6), strict=True):
                lines.append(f"route add {network} via {via}")
    return lines


def _default_routes(ipv4: Address, ipv6: Address) -> list[str]:
    return [f"route add default via {ipv4}", f"route add default via {ipv6}"]


def _text(mac: bytes) -> str:
    return mac.hex(":")
