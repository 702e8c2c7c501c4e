"""The nouns: frozen values that every layer may hold, and none may change.

Addresses are `ipaddress` objects, a service is named "namespace/name", durations are seconds (suffix `_s`).
Nothing here does I/O or reads a clock.
"""

import enum
from collections.abc import Mapping
from dataclasses import dataclass, field
from ipaddress import (
    IPv4Address,
    IPv4Interface,
    IPv4Network,
    IPv6Address,
    IPv6Interface,
    IPv6Network,
)
from typing import Literal

from lbspeaker.errors import Problem

Address = IPv4Address | IPv6Address
Network = IPv4Network | IPv6Network
Interface = IPv4Interface | IPv6Interface  # an address with its network
Family = Literal[4, 6]
Labels = Mapping[str, str]


class Reason(enum.StrEnum):
    """Every "no" of the system. The same word reaches events, logs, metrics, `plan` and `explain`."""

    # a Service gets no IP
    NO_POOL = "NoPool"  # no pool at all, or none that may serve this service
    POOL_EXHAUSTED = "PoolExhausted"  # every pool that may serve it is full
    NO_POOL_FOR_FAMILY = "NoPoolForFamily"  # no pool has addresses of this family
    UNKNOWN_POOL = "UnknownPool"  # the requested pool does not exist
    POOL_NOT_FOR_SERVICE = "PoolNotForService"  # the pool's serviceAllocation excludes this service
    OUTSIDE_POOLS = "OutsidePools"  # the requested IP is in no pool
    WRONG_FAMILY = "WrongFamily"  # the requested IP is of a family the service does not have
    IN_USE = "InUse"  # the requested IP belongs to another service
    INVALID_REQUEST = "InvalidRequest"  # the request cannot be understood, or contradicts itself
    NO_CLUSTER_IP = "NoClusterIP"  # headless, or not yet given its cluster IP
    NOT_DUAL_STACK = "NotDualStack"  # RequireDualStack on a service with one family

    # a Service has an IP, and nobody announces it
    NO_ADVERTISEMENT = "NoAdvertisement"  # no advertisement selects its pool (or the service)
    NO_ENDPOINT = "NoEndpoint"  # no endpoint is ready or serving, anywhere
    NO_LOCAL_ENDPOINT = "NoLocalEndpoint"  # traffic policy Local, and none on this node
    NO_CANDIDATE = "NoCandidate"  # no live node may announce it
    NODE_EXCLUDED = "NodeExcluded"  # label node.kubernetes.io/exclude-from-external-load-balancers
    NODE_NETWORK_UNAVAILABLE = "NodeNetworkUnavailable"  # condition NetworkUnavailable
    NODE_NOT_SELECTED = "NodeNotSelected"  # the advertisement's nodeSelectors
    NODE_NOT_LIVE = "NodeNotLive"  # no live speaker on the node
    NO_PEER = "NoPeer"  # no BGP peer for this advertisement on any node
    NO_LINK = "NoLink"  # the owner has no such interface
    CONFLICTING_ADVERTISEMENTS = "ConflictingAdvertisements"  # same prefix, same peer, other attributes
    NO_NEXT_HOP = "NoNextHop"  # the session has no address of this family that could be the next hop
    FAMILY_NOT_NEGOTIATED = "FamilyNotNegotiated"  # the router does not take routes of this family
    REFUSED_BY_CHILD = "RefusedByChild"  # ExaBGP does not take the route


@dataclass(frozen=True, slots=True)
class Refusal:
    """A "no": the reason for machines, the message for people (what to change)."""

    reason: Reason
    message: str


# --- selectors ------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Requirement:
    """One condition on a label: In, NotIn, Exists or DoesNotExist."""

    key: str
    operator: Literal["In", "NotIn", "Exists", "DoesNotExist"]
    values: frozenset[str] = frozenset()

    def met_by(self, labels: Labels) -> bool:
        if self.operator == "In":
            return labels.get(self.key) in self.values
        if self.operator == "NotIn":
            return labels.get(self.key) not in self.values
        return (self.key in labels) == (self.operator == "Exists")


@dataclass(frozen=True, slots=True)
class Selector:
    """A Kubernetes LabelSelector; without requirements it selects everything."""

    requirements: tuple[Requirement, ...] = ()

    def selects(self, labels: Labels) -> bool:
        return all(requirement.met_by(labels) for requirement in self.requirements)


def any_selects(selectors: tuple[Selector, ...], labels: Labels) -> bool:
    """Whether one of `selectors` selects `labels`; no selectors at all select everything."""
    return not selectors or any(selector.selects(labels) for selector in selectors)


# --- configuration --------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Range:
    """Addresses from `first` to `last`, both included, of one family."""

    first: Address
    last: Address

    @property
    def family(self) -> Family:
        return self.first.version

    @property
    def size(self) -> int:
        return int(self.last) - int(self.first) + 1

    def __contains__(self, ip: Address) -> bool:
        return ip.version == self.first.version and int(self.first) <= int(ip) <= int(self.last)

    def __str__(self) -> str:
        return f"{self.first}-{self.last}"


@dataclass(frozen=True, slots=True)
class ServiceAllocation:
    """Which services a pool is for. `priority`: lower is asked first, 0 last."""

    priority: int = 0
    namespaces: frozenset[str] = frozenset()
    namespace_selectors: tuple[Selector, ...] = ()
    service_selectors: tuple[Selector, ...] = ()


@dataclass(frozen=True, slots=True)
class Pool:
    """An IPAddressPool: ranges in the order in which they are used up."""

    name: str
    ranges: tuple[Range, ...]
    labels: Labels = field(default_factory=dict)
    auto_assign: bool = True
    avoid_buggy_ips: bool = False
    service_allocation: ServiceAllocation | None = None

    def size(self, family: Family) -> int:
        return sum(r.size for r in self.ranges if r.family == family)

    def __contains__(self, ip: Address) -> bool:
        return any(ip in r for r in self.ranges)


@dataclass(frozen=True, slots=True)
class NodePreference:
    """Nodes that `selector` selects gain `weight` (1 to 100) in the election."""

    weight: int
    selector: Selector


@dataclass(frozen=True, slots=True)
class Scope:
    """What an advertisement is about: these pools, on these nodes, for these services.

    Without pools and pool selectors: all pools. Without node (service) selectors: all nodes (services).
    """

    pools: frozenset[str] = frozenset()
    pool_selectors: tuple[Selector, ...] = ()
    node_selectors: tuple[Selector, ...] = ()
    service_selectors: tuple[Selector, ...] = ()

    def covers_pool(self, pool: Pool) -> bool:
        if not self.pools and not self.pool_selectors:
            return True
        return pool.name in self.pools or any(s.selects(pool.labels) for s in self.pool_selectors)

    def covers_node(self, labels: Labels) -> bool:
        return any_selects(self.node_selectors, labels)

    def covers_service(self, labels: Labels) -> bool:
        return any_selects(self.service_selectors, labels)


@dataclass(frozen=True, slots=True)
class L2Advertisement:
    """Announce by ARP and NDP; without interfaces: on every link that fits."""

    name: str
    scope: Scope = Scope()
    interfaces: frozenset[str] = frozenset()
    preferences: tuple[NodePreference, ...] = ()


@dataclass(frozen=True, slots=True)
class BGPAdvertisement:
    """Announce by BGP, to all peers or to the named ones.

    `communities` are canonical text: "64512:31" (RFC 1997) or "large:64512:1:2" (RFC 8092).
    """

    name: str
    scope: Scope = Scope()
    peers: frozenset[str] = frozenset()
    aggregation_length: int = 32
    aggregation_length_v6: int = 128
    local_pref: int | None = None
    communities: tuple[str, ...] = ()

    def length(self, family: Family) -> int:
        return self.aggregation_length if family == 4 else self.aggregation_length_v6


@dataclass(frozen=True, slots=True)
class SecretRef:
    """A Secret of type kubernetes.io/basic-auth; its key `password` is meant."""

    namespace: str
    name: str

    def __str__(self) -> str:
        return f"{self.namespace}/{self.name}"


@dataclass(frozen=True, slots=True)
class Peer:
    """A BGPPeer: one router, as every selected node sees it."""

    name: str
    my_asn: int
    peer_asn: int
    address: Address
    port: int = 179
    source_address: Address | None = None
    router_id: IPv4Address | None = None
    hold_time_s: int = 90
    ebgp_multihop: bool = False
    node_selectors: tuple[Selector, ...] = ()
    password: str | None = field(default=None, repr=False)
    password_secret: SecretRef | None = None

    @property
    def ibgp(self) -> bool:
        return self.my_asn == self.peer_asn


@dataclass(frozen=True, slots=True)
class Config:
    """Everything the configuration says, resolved and trusted: aliases replaced, conflicts absent."""

    pools: tuple[Pool, ...] = ()
    l2_advertisements: tuple[L2Advertisement, ...] = ()
    bgp_advertisements: tuple[BGPAdvertisement, ...] = ()
    peers: tuple[Peer, ...] = ()

    def pool_of(self, ip: Address) -> Pool | None:
        return next((pool for pool in self.pools if ip in pool), None)


# --- the cluster ----------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Port:
    protocol: str
    port: int

    def __str__(self) -> str:
        return f"{self.protocol}/{self.port}"


@dataclass(frozen=True, slots=True)
class Service:
    """A v1 Service, as far as a load balancer cares.

    `families`: of its cluster IPs, in order; empty while it has none. `held`: status.loadBalancer.ingress.
    `created`: metadata.creationTimestamp (RFC 3339, UTC: sorts as text); "" if unknown, which sorts first.
    `invalid`: what its annotations ask for cannot be understood.
    """

    key: str
    uid: str = ""
    resource_version: str = ""
    created: str = ""
    labels: Labels = field(default_factory=dict)
    load_balancer: bool = True
    load_balancer_class: str | None = None
    families: tuple[Family, ...] = (4,)
    ip_family_policy: Literal["SingleStack", "PreferDualStack", "RequireDualStack"] = "SingleStack"
    local: bool = False
    ports: tuple[Port, ...] = ()
    selector: tuple[tuple[str, str], ...] = ()
    requested_ips: tuple[Address, ...] = ()
    requested_pool: str | None = None
    sharing_key: str | None = None
    held: tuple[Address, ...] = ()
    held_pool: str | None = None
    invalid: Refusal | None = None

    @property
    def namespace(self) -> str:
        return self.key.partition("/")[0]

    @property
    def name(self) -> str:
        return self.key.partition("/")[2]


@dataclass(frozen=True, slots=True)
class Endpoint:
    """One endpoint of a slice. `serving`: ready or serving, so traffic sent to it arrives."""

    node: str | None
    serving: bool = True


@dataclass(frozen=True, slots=True)
class EndpointSlice:
    """A discovery.k8s.io/v1 EndpointSlice: `service` is "namespace/name" of the service it belongs to."""

    key: str
    service: str
    endpoints: tuple[Endpoint, ...] = ()


@dataclass(frozen=True, slots=True)
class Node:
    name: str
    labels: Labels = field(default_factory=dict)
    network_unavailable: bool = False

    @property
    def excluded(self) -> bool:
        return "node.kubernetes.io/exclude-from-external-load-balancers" in self.labels


@dataclass(frozen=True, slots=True)
class Namespace:
    name: str
    labels: Labels = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Lease:
    """A speaker's sign of life in the API. `renewed` is opaque: only its changes matter, never its clock."""

    node: str
    renewed: str
    draining: bool = False
    duration_s: float = 3.0


@dataclass(frozen=True, slots=True)
class Secret:
    """A Secret of type kubernetes.io/basic-auth, "namespace/name"; None without a readable `password`."""

    key: str
    password: str | None = field(default=None, repr=False)


class Kind(enum.StrEnum):
    """What can be observed."""

    SERVICE = "Service"
    ENDPOINT_SLICE = "EndpointSlice"
    NODE = "Node"
    POD = "Pod"  # only in the lab: speakers need not know pods
    NAMESPACE = "Namespace"
    LEASE = "Lease"
    SECRET = "Secret"  # noqa: S105
    CONFIG = "Config"  # the whole configuration, as one ConfigSet


@dataclass(frozen=True, slots=True)
class Change:
    """`key` of this kind is now `value`; None: it is gone."""

    kind: Kind
    key: str
    value: object | None


@dataclass(frozen=True, slots=True)
class Synced:
    """The first full list of this kind is complete: what was not told by now does not exist."""

    kind: Kind


@dataclass(frozen=True, slots=True)
class Page:
    """One page of a list. `version`: of the whole list; `next`: token of the next page, "" on the last."""

    version: str
    next: str
    changes: tuple[Change, ...]


@dataclass(frozen=True, slots=True)
class Step:
    """One event of a watch: the list is now at `version`; without a change, it only says so."""

    version: str
    change: Change | None


@dataclass(frozen=True, slots=True)
class WatchError:
    """The server ends a watch: `code` as in HTTP; 410 means that the version asked for is too old."""

    code: int
    message: str


@dataclass(frozen=True, slots=True)
class ConfigSet:
    """The value of Kind.CONFIG: what is accepted, the documents that say so, what is wrong with the rest."""

    config: Config = Config()
    documents: tuple[Mapping[str, object], ...] = ()
    problems: tuple[Problem, ...] = ()


@dataclass(frozen=True, slots=True)
class Snapshot:
    """The world as one program sees it, at one moment."""

    config: Config = Config()
    services: Mapping[str, Service] = field(default_factory=dict)
    endpoints: Mapping[str, tuple[Endpoint, ...]] = field(default_factory=dict)  # by service
    nodes: Mapping[str, Node] = field(default_factory=dict)
    namespaces: Mapping[str, Namespace] = field(default_factory=dict)
    members: frozenset[str] = frozenset()  # nodes with a live speaker that takes part in elections


# --- decisions ------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Allocation:
    """What a service gets: one IP per family, primary family first, and the pool (the first IP's)."""

    ips: tuple[Address, ...]
    pool: str
    note: Refusal | None = None  # what it did not get: the second family of PreferDualStack


@dataclass(frozen=True, slots=True)
class L2Announcement:
    """One service IP on the segment: who may announce it, best first; the first is the owner."""

    ip: Address
    services: tuple[str, ...]
    candidates: tuple[str, ...]
    interfaces: frozenset[str] = frozenset()

    @property
    def owner(self) -> str:
        return self.candidates[0]


@dataclass(frozen=True, slots=True)
class Route:
    """One prefix as it is announced to one peer, next hop self."""

    prefix: Network
    local_pref: int | None = None
    communities: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Unannounced:
    """A service IP that nobody (node None) or that this node does not announce, and why."""

    service: str
    ip: Address
    protocol: Literal["layer2", "bgp"]
    node: str | None
    refusal: Refusal


@dataclass(frozen=True, slots=True)
class Link:
    """An interface, as the kernel tells of it. `mac` is empty where the link has none.

    `running`: up, and with carrier. `member`: part of a bridge or bond, which is the link to use instead.
    """

    name: str
    index: int
    mac: bytes
    running: bool = True
    broadcast: bool = True
    member: bool = False
    addresses: tuple[Interface, ...] = ()


# --- BGP sessions: what a child reports, and what it is told ---------------------------------------------


@dataclass(frozen=True, slots=True)
class SessionUp:
    """The session is established."""


@dataclass(frozen=True, slots=True)
class Negotiated:
    """The families that both sides speak on this session."""

    families: frozenset[Family]


@dataclass(frozen=True, slots=True)
class SessionDown:
    """The session ended, or an attempt failed; `notification` is (code, subcode), RFC 4271 §4.5."""

    reason: str
    notification: tuple[int, int] | None = None
    by_peer: bool = False


@dataclass(frozen=True, slots=True)
class Sent:
    """One UPDATE as it went out on the wire."""

    announced: tuple[Route, ...] = ()
    withdrawn: tuple[Network, ...] = ()


@dataclass(frozen=True, slots=True)
class EndOfRibSent:
    """The End-of-RIB marker of this family went out (RFC 4724 §2)."""

    family: Family


@dataclass(frozen=True, slots=True)
class Ack:
    """The child has understood a command, or has not; neither says what was sent."""

    ok: bool


@dataclass(frozen=True, slots=True)
class Other:
    """Something that a session has no use for, but a sign of life."""


SessionEvent = SessionUp | Negotiated | SessionDown | Sent | EndOfRibSent | Ack | Other


@dataclass(frozen=True, slots=True)
class Announce:
    """Announce `routes`: one family, the same attributes in each."""

    routes: tuple[Route, ...]
    next_hop: Address


@dataclass(frozen=True, slots=True)
class Withdraw:
    """Withdraw `routes`, given as they were announced: one family, the same attributes in each."""

    routes: tuple[Route, ...]
    next_hop: Address


@dataclass(frozen=True, slots=True)
class EndOfRib:
    """Tell the peer that the first full set of this family is complete (RFC 4724 §2)."""

    family: Family


@dataclass(frozen=True, slots=True)
class Resend:
    """Send everything again that was announced."""


@dataclass(frozen=True, slots=True)
class Teardown:
    """End the session with a Cease, Administrative Shutdown (RFC 4486 §3)."""


@dataclass(frozen=True, slots=True)
class Ping:
    """Ask for a sign of life."""


SessionCommand = Announce | Withdraw | EndOfRib | Resend | Teardown | Ping
