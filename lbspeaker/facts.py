"""The nouns of `lbspeaker doctor`: what is looked at, and what is found.

`Evidence` is one look at a cluster and at the machine that doctor runs on; a `Finding` is what one check says
of it. Frozen values, like those of `model`: deciders and formats both hold them. What speakers need not know
(Pods, ports of Pods, other programs) is here and not there, so that nobody watches it.
"""

import enum
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property

from lbspeaker.errors import Problem
from lbspeaker.model import Address, L2Advertisement, Link, Network, Node, Snapshot

# --- what is found --------------------------------------------------------------------------------------


class Grade(enum.StrEnum):
    """How bad it is, the worst first."""

    FAIL = "FAIL"  # traffic does not arrive, or will not
    WARN = "WARN"  # hardly meant, or it will hurt one day
    UNKNOWN = "UNKNOWN"  # could not be looked at
    PASS = "PASS"  # noqa: S105


@dataclass(frozen=True, slots=True)
class Finding:
    """What one check says of one thing: what is so, why that matters, and what to do about it.

    `code` is for machines. `why` and `remedy` are empty where nothing is wrong.
    """

    code: str
    grade: Grade
    subject: str
    what: str
    why: str = ""
    remedy: str = ""


# --- what is looked at: the cluster ---------------------------------------------------------------------


LATE_S = 4.0  # without a renewal of its Lease, which is for 3 s, this speaker is silent


class Part(enum.StrEnum):
    """One source of evidence, by the name that people know."""

    CONFIG = "configuration"
    SERVICES = "services"
    ENDPOINTS = "endpointslices"
    NODES = "nodes"
    PODS = "pods"
    PROGRAMS = "daemonsets"
    PROXY = "kube-proxy"
    SPEAKERS = "speakers"
    HERE = "this node"


@dataclass(frozen=True, slots=True)
class Lack:
    """A part that could not be looked at: why, and what to do so that it can."""

    part: Part
    why: str
    remedy: str


@dataclass(frozen=True, slots=True)
class PodPort:
    """A containerPort. `name` "": it has none."""

    number: int
    name: str = ""
    protocol: str = "TCP"

    def __str__(self) -> str:
        return f"{self.name + '=' if self.name else ''}{self.number}/{self.protocol}"


@dataclass(frozen=True, slots=True)
class Pod:
    """A v1 Pod that has not ended. `trouble`: why it is not ready, as the kubelet says; "" if unknown.

    `probed`: ports that its probes ask, which it therefore has, too.
    """

    key: str
    labels: Mapping[str, str] = field(default_factory=dict)
    node: str = ""
    ready: bool = True
    trouble: str = ""
    ports: tuple[PodPort, ...] = ()
    probed: frozenset[int | str] = frozenset()
    host_network: bool = False
    addresses: tuple[Address, ...] = ()

    @property
    def namespace(self) -> str:
        return self.key.partition("/")[0]


@dataclass(frozen=True, slots=True)
class WiredPort:
    """A port of a Service: `target` is a number, or the name of a containerPort. `node_port` 0: none."""

    number: int
    target: int | str
    name: str = ""
    protocol: str = "TCP"
    node_port: int = 0

    def __str__(self) -> str:
        return f"{self.number}/{self.protocol}"


@dataclass(frozen=True, slots=True)
class Wiring:
    """Where a Service of any type leads: what of it a load balancer need not know.

    `asks`: it has annotations for a load balancer. `sticky`: sessionAffinity ClientIP.
    """

    key: str
    type: str = "LoadBalancer"
    selector: Mapping[str, str] = field(default_factory=dict)
    ports: tuple[WiredPort, ...] = ()
    sticky: bool = False
    external_name: str = ""
    external_ips: tuple[str, ...] = ()
    asks: bool = False

    @property
    def namespace(self) -> str:
        return self.key.partition("/")[0]

    @property
    def balanced(self) -> bool:
        return self.type == "LoadBalancer"


Target = tuple[Address, int]  # where to connect: an address and a TCP port


class Attempt(enum.StrEnum):
    """What came of a connection to a Pod."""

    ACCEPTED = "accepted"
    REFUSED = "refused"
    SILENT = "silent"


@dataclass(frozen=True, slots=True)
class Program:
    """A DaemonSet, or a Pod that uses the network of its node. `key`: "Kind namespace/name"."""

    key: str
    images: tuple[str, ...] = ()
    arguments: tuple[str, ...] = ()
    environment: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Proxy:
    """kube-proxy, as its ConfigMap says. `mode` "": the default, iptables."""

    mode: str = ""
    strict_arp: bool = False
    networks: tuple[Network, ...] = ()  # clusterCIDR: of Pods


# --- what is looked at: this machine --------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Listener:
    """A socket that waits. `program`: whose it is, as its command line; "" where that cannot be seen."""

    protocol: str  # "tcp" or "udp"
    address: Address
    port: int
    program: str = ""


@dataclass(frozen=True, slots=True)
class Bridge:
    """`ageing_s`: after so long without a frame from a MAC its port is forgotten."""

    ageing_s: float
    multicast_snooping: bool = False
    querier: bool = False


@dataclass(frozen=True, slots=True)
class BridgePort:
    """Of a link in a bridge: `filters` are the flags that keep frames of ours or of clients back."""

    bridge: str
    filters: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Here:
    """The machine that doctor runs on. `name`: which node it is.

    `settings`: sysctls by name, as text; those that cannot be read are not there. `leased`: networks in which
    it has its address from a DHCP server. `bonds`: mode by name. `machine`: what its firmware says it is.
    """

    name: str
    links: tuple[Link, ...] = ()
    settings: Mapping[str, str] = field(default_factory=dict)
    listeners: tuple[Listener, ...] = ()
    leased: tuple[Network, ...] = ()
    wireless: frozenset[str] = frozenset()
    bridges: Mapping[str, Bridge] = field(default_factory=dict)
    bridge_ports: Mapping[str, BridgePort] = field(default_factory=dict)
    bonds: Mapping[str, str] = field(default_factory=dict)
    machine: str = ""

    def setting(self, name: str) -> int | None:
        """A sysctl that is a number; None if it cannot be told."""
        text = self.settings.get(name, "").strip()
        return int(text) if text.lstrip("-").isdecimal() and text.isascii() else None

    def of_link(self, link: str, name: str, family: int = 4) -> int | None:
        """A sysctl of a link as it counts: the larger one of its own and that of all links.

        So it is for rp_filter, arp_ignore and arp_announce (ip-sysctl.rst).
        """
        every = self.setting(f"net.ipv{family}.conf.all.{name}")
        own = self.setting(f"net.ipv{family}.conf.{link}.{name}")
        return None if every is None or own is None else max(every, own)


@dataclass(frozen=True, slots=True)
class Ours:
    """What our own programs say. `controller`: who acts, "" nobody; `release`: its version, "" not known.

    `silent_s`: by node with a speaker, for how long it has not renewed its Lease. `problems`: by node, what
    its speaker complains of, each in one line with what to do. `releases`: by node, its speaker's version.
    """

    controller: str = ""
    silent_s: Mapping[str, float] = field(default_factory=dict)
    problems: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    release: str = ""
    releases: Mapping[str, str] = field(default_factory=dict)


# --- together -------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Evidence:
    """All that is looked at, at one moment. `known`: the parts that were; the others are empty here.

    `problems`: what is wrong in the configuration. `service_networks`: of cluster IPs. `agents`: what other
    networks' ConfigMaps say ("enable-l2-announcements": "true"). `tried`: connections to Pods. `only`: the
    Services that are asked for; empty: all of type LoadBalancer.
    """

    known: frozenset[Part] = frozenset()
    lacks: tuple[Lack, ...] = ()
    snapshot: Snapshot = field(default_factory=Snapshot)
    problems: tuple[Problem, ...] = ()
    services: Mapping[str, Wiring] = field(default_factory=dict)
    pods: tuple[Pod, ...] = ()
    programs: tuple[Program, ...] = ()
    proxy: Proxy | None = None
    service_networks: tuple[Network, ...] = ()
    agents: Mapping[str, str] = field(default_factory=dict)
    ours: Ours | None = None
    here: Here | None = None
    tried: Mapping[Target, Attempt] = field(default_factory=dict)
    only: frozenset[str] = frozenset()

    @property
    def asked(self) -> list[Wiring]:
        """The Services whose ways are looked at, by name."""
        return [
            one
            for key, one in sorted(self.services.items())
            if (key in self.only if self.only else one.balanced)
        ]

    @property
    def families(self) -> frozenset[int]:
        """The families that pools have addresses of."""
        return frozenset(r.family for pool in self.snapshot.config.pools for r in pool.ranges)

    @property
    def own_node(self) -> Node | None:
        """The Node that this machine is; None if it is none, or not looked at."""
        return self.snapshot.nodes.get(self.here.name) if self.here else None

    @property
    def own_advertisements(self) -> list[L2Advertisement]:
        """Those of layer 2 that are about this node; all of them, if its labels are not known."""
        node = self.own_node
        ads = self.snapshot.config.l2_advertisements
        return [ad for ad in ads if node is None or (not node.excluded and ad.scope.covers_node(node.labels))]

    @cached_property
    def accepting(self) -> frozenset[Target]:
        """Where a connection was accepted."""
        return frozenset(target for target, came in self.tried.items() if came is Attempt.ACCEPTED)

    @cached_property
    def behind(self) -> Mapping[str, tuple[Pod, ...]]:
        """The Pods that each Service selects, by its key; none where it has no selector."""
        labelled: dict[tuple[str, str, str], list[Pod]] = {}
        for pod in self.pods:
            for label, value in pod.labels.items():
                labelled.setdefault((pod.namespace, label, value), []).append(pod)
        return {key: _selected(one, labelled) for key, one in self.services.items()}


def _selected(one: Wiring, labelled: Mapping[tuple[str, str, str], list[Pod]]) -> tuple[Pod, ...]:
    wanted = one.selector.items()
    lists = [labelled.get((one.namespace, label, value), []) for label, value in wanted]
    fewest = min(lists, key=len, default=[])
    return tuple(pod for pod in fewest if all(pod.labels.get(label) == value for label, value in wanted))
