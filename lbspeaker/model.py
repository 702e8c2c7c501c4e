"""The nouns: frozen values that every layer may hold, and none may change.

Addresses are `ipaddress` objects, a service is named "namespace/name", durations are seconds (suffix `_s`).
Nothing here does I/O or reads a clock.
"""

import enum
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from ipaddress import (
    IPv4Address,
    IPv4Interface,
    IPv4Network,
    IPv6Address,
    IPv6Interface,
    IPv6Network,
    ip_address,
)
from typing import Literal, NamedTuple

from lbspeaker.errors import Problem

Address = IPv4Address | IPv6Address
Network = IPv4Network | IPv6Network
Interface = IPv4Interface | IPv6Interface  # an address with its network
Family = Literal[4, 6]
Labels = Mapping[str, str]


def address(family: int, number: int) -> Address:
    """Return the address with this number."""
    return IPv4Address(number) if family == 4 else IPv6Address(number)


def address_of(text: str) -> Address | None:
    """Return the address that is written so; None if it is none."""
    try:
        return ip_address(text)
    except ValueError:
        return None


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
    POOL_CLOSED = "PoolClosed"  # the pool is disabled, or being deleted: it gives nothing any more
    QUOTA_REACHED = "QuotaReached"  # the namespace has as many IPs of the pool as it may have
    RESERVED = "Reserved"  # the requested IP is reserved for another service
    COOLING_DOWN = "CoolingDown"  # the requested IP was another service's until a moment ago
    CLASS_MISMATCH = "ClassMismatch"  # the service is of a loadBalancerClass that is not served here

    # a Service has an IP that it would not be given now
    OUTSIDE_POOL = "OutsidePool"  # its pool no longer contains the IP; it is kept (onShrink: Keep)

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
    NO_NODE_LINK = "NoNodeLink"  # no live node has a link that fits
    FLAPPING = "Flapping"  # it has moved too often, and is held where it is
    ADDRESS_CONFLICT = "AddressConflict"  # a host that is no speaker has this IP
    CONFLICTING_ADVERTISEMENTS = "ConflictingAdvertisements"  # same prefix, same peer, other attributes
    NO_NEXT_HOP = "NoNextHop"  # the session has no address of this family that could be the next hop
    FAMILY_NOT_NEGOTIATED = "FamilyNotNegotiated"  # the router does not take routes of this family
    REFUSED_BY_CHILD = "RefusedByChild"  # ExaBGP does not take the route


@dataclass(frozen=True, slots=True)
class Refusal:
    """A "no": the reason for machines, the message for people (what to change).

    `pools`: those that were asked, and could not give; empty where it is not about pools.
    """

    reason: Reason
    message: str
    pools: tuple[str, ...] = ()


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

MOST = 2**63 - 1  # the largest number that a status can hold


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
    """Which services a pool is for. `priority`: lower is asked first, 0 last.

    `exclusive`: these services get IPs of pools like this one, and of no other.
    """

    priority: int = 0
    namespaces: frozenset[str] = frozenset()
    namespace_selectors: tuple[Selector, ...] = ()
    service_selectors: tuple[Selector, ...] = ()
    exclusive: bool = False


@dataclass(frozen=True, slots=True)
class Reservation:
    """IPs of a pool that belong to `service` ("namespace/name"), also while it does not exist."""

    service: str
    ips: tuple[Address, ...]


@dataclass(frozen=True, slots=True)
class Pool:
    """An IPAddressPool: ranges in the order in which they are used up.

    `ranges` are those of spec.addresses without what is `excluded`. `disabled` and `deleted` (deletion was
    asked for, and services still hold its IPs) pools give nothing; what is held stays. `cooldown_s`: a
    released IP is given to nobody else for so long. `namespace_quota`: so many IPs at most for the services
    of one namespace; 0: no limit.
    """

    name: str
    ranges: tuple[Range, ...]
    labels: Labels = field(default_factory=dict)
    auto_assign: bool = True
    avoid_buggy_ips: bool = False
    service_allocation: ServiceAllocation | None = None
    excluded: tuple[Range, ...] = ()
    disabled: bool = False
    deleted: bool = False
    on_shrink: Literal["Keep", "Renumber"] = "Keep"
    strategy: Literal["LowestFirst", "Random"] = "LowestFirst"
    cooldown_s: float = 0.0
    sharing: Literal["Cluster", "Namespace"] = "Cluster"
    namespace_quota: int = 0
    reservations: tuple[Reservation, ...] = ()

    @property
    def closed(self) -> bool:
        """Whether it gives nothing any more."""
        return self.disabled or self.deleted

    def size(self, family: Family) -> int:
        """How many addresses of `family` it can give."""
        buggy = self.avoid_buggy_ips and family == 4
        return sum(r.size - (_buggy_in(r) if buggy else 0) for r in self.ranges if r.family == family)

    def __contains__(self, ip: Address) -> bool:
        if self.avoid_buggy_ips and is_buggy(ip.version, int(ip)):
            return False
        return any(ip in r for r in self.ranges)


def is_buggy(family: int, number: int) -> bool:
    """Some old devices drop traffic to IPv4 addresses that end in .0 or .255 (Smurf protection)."""
    return family == 4 and number & 0xFF in (0, 255)


def _buggy_in(r: Range) -> int:
    """How many addresses of an IPv4 range end in .0 or .255."""

    def below(number: int) -> int:  # how many of the addresses from 0 to number - 1
        return 2 * (number >> 8) + min(number & 0xFF, 1)

    return below(int(r.last) + 1) - below(int(r.first))


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
    """Announce by ARP and NDP; without interfaces: on every link that fits.

    `any_subnet`: a link fits also if the IP is in none of its networks. `failback` Never: who owns an IP
    keeps it while it lives, though a node that is better placed returns. `on_cordon` Move: a node that is
    cordoned hands its IPs over, a few at a time.
    """

    name: str
    scope: Scope = Scope()
    interfaces: frozenset[str] = frozenset()
    preferences: tuple[NodePreference, ...] = ()
    any_subnet: bool = False
    failback: Literal["Always", "Never"] = "Always"
    on_cordon: Literal["Stay", "Move"] = "Stay"


@dataclass(frozen=True, slots=True)
class LinkPolicy:
    """How speakers behave on links: what the guard lets pass, and what they do beside answering.

    It is about these nodes and interfaces (without any: all); of several, the first by name counts. Rates are
    frames per second, bursts are frames; None: those of `profile`. `group`: all links of a node whose policy
    has the same one share a budget. `segment_rate`: of all speakers on a segment together.
    """

    name: str
    node_selectors: tuple[Selector, ...] = ()
    interfaces: frozenset[str] = frozenset()
    profile: str = "standard"  # core.guard.PROFILES
    rate: int | None = None
    burst: int | None = None
    answer_rate: int | None = None
    answer_burst: int | None = None
    segment_rate: int | None = None
    segment_burst: int | None = None
    group: str = ""
    refresh_s: int = 90  # 0: never
    refresh: Literal["Link", "IP"] = "Link"  # one frame for each of them
    dad: Literal["off", "fast", "rfc"] = "fast"
    on_conflict: Literal["Defend", "Yield"] = "Defend"
    dry_run: bool = False

    def covers(self, labels: Labels, interface: str) -> bool:
        on = not self.interfaces or interface in self.interfaces
        return on and any_selects(self.node_selectors, labels)


@dataclass(frozen=True, slots=True)
class BGPAdvertisement:
    """Announce by BGP, to all peers or to the named ones.

    `communities` are canonical text: "64512:31" (RFC 1997) or "large:64512:1:2" (RFC 8092). `prepend`: how
    often the own AS is in the path beyond the first time.
    """

    name: str
    scope: Scope = Scope()
    peers: frozenset[str] = frozenset()
    aggregation_length: int = 32
    aggregation_length_v6: int = 128
    local_pref: int | None = None
    communities: tuple[str, ...] = ()
    med: int | None = None
    prepend: int = 0
    when_no_endpoints: Literal["Withdraw", "Keep"] = "Withdraw"
    on_cordon: Literal["Stay", "Move"] = "Stay"

    @property
    def preferences(self) -> Mapping[str, int | None]:
        """What a route can have one of only, by the name of the field."""
        return {"localPref": self.local_pref, "med": self.med, "asPathPrepend": self.prepend}

    def length(self, family: Family) -> int:
        return self.aggregation_length if family == 4 else self.aggregation_length_v6


@dataclass(frozen=True, slots=True)
class BFDProfile:
    """How quickly the loss of a router is noticed (RFC 5880 §6.8); intervals are milliseconds.

    `passive`: the router begins. `minimum_ttl`: of what comes over several hops.
    """

    name: str = ""
    receive_ms: int = 300
    transmit_ms: int = 300
    multiplier: int = 3
    passive: bool = False
    minimum_ttl: int = 254


@dataclass(frozen=True, slots=True)
class SecretRef:
    """A Secret of type kubernetes.io/basic-auth; its key `password` is meant."""

    namespace: str
    name: str

    def __str__(self) -> str:
        return f"{self.namespace}/{self.name}"


PASSWORD_BYTES = 80  # TCP_MD5SIG_MAXKEYLEN of Linux
PASSWORDS = f"1 to {PASSWORD_BYTES} printable ASCII characters"
PASSWORD_HINT = "use letters, digits and punctuation; look for a line break at its end"  # noqa: S105


def is_password(text: str) -> bool:
    """Whether the password of a session can be this, on a router as well as here."""
    return text.isascii() and text.isprintable() and 0 < len(text) <= PASSWORD_BYTES


@dataclass(frozen=True, slots=True)
class Peer:
    """A BGPPeer: one router, as every selected node sees it.

    `address` None: the node's default gateway. `connect_s`: between two attempts to connect. `ttl_hops`: what
    comes from further away is not the router (GTSM, RFC 5082); None: not looked at. `graceful_restart_s`: how
    long the router keeps our routes while we are away (RFC 4724); None: not at all.
    """

    name: str
    my_asn: int
    peer_asn: int
    address: Address | None
    port: int = 179
    source_address: Address | None = None
    router_id: IPv4Address | None = None
    hold_time_s: int = 90
    connect_s: float = 2.0
    ebgp_multihop: bool = False
    ttl_hops: int | None = None
    graceful_restart_s: int | None = None
    bfd: BFDProfile | None = None
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
    link_policies: tuple[LinkPolicy, ...] = ()
    bfd_profiles: tuple[BFDProfile, ...] = ()

    def link_policy(self, labels: Labels, interface: str) -> LinkPolicy:
        """The policy of one link of a node with these labels."""
        found = (policy for policy in self.link_policies if policy.covers(labels, interface))
        return min(found, key=lambda policy: policy.name, default=LinkPolicy(""))

    def pool_for(self, service: "Service", ip: Address) -> Pool | None:
        """The pool of an IP that `service` holds: the one that contains it, else the one it is kept from."""
        containing = next((pool for pool in self.pools if ip in pool), None)
        name = service.pool_held(ip) if containing is None else None
        return containing or next((pool for pool in self.pools if pool.name == name), None)


# --- the cluster ----------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Condition:
    """A condition in the status of an object (meta/v1 Condition), apart from when it was set."""

    type: str
    status: Literal["True", "False"]
    reason: str
    message: str
    generation: int = 0  # of the object, when this was said; 0: objects of this kind have none


ALLOCATED = "lbspeaker.io/Allocated"  # our condition of a Service that lacks an IP, or something beside it


@dataclass(frozen=True, slots=True)
class Port:
    protocol: str
    port: int

    def __str__(self) -> str:
        return f"{self.protocol}/{self.port}"


@dataclass(frozen=True, slots=True)
class Service:
    """A v1 Service, as far as a load balancer cares.

    `families`: of its cluster IPs, in order; empty while it has none. `held`: status.loadBalancer.ingress;
    `held_pool`: the pool it is from, by our own annotation (two, with a comma, if the IPs are of two pools);
    `given`: the IPs that we gave it, by another one.
    `created`: metadata.creationTimestamp (RFC 3339, UTC: sorts as text); "" if unknown, which sorts first.
    `invalid`: what its annotations ask for cannot be understood.
    `condition`: our own, and since when it has its status; `conditions`: all others, as they are.
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
    preferred_node: str = ""  # that owns its IPs on the segment, while it can
    held: tuple[Address, ...] = ()
    held_pool: str | None = None
    given: tuple[Address, ...] = ()
    invalid: Refusal | None = None
    cluster_ips: tuple[str, ...] = ()
    condition: Condition | None = None
    condition_since: str = ""
    conditions: tuple[Mapping[str, object], ...] = ()

    @property
    def age(self) -> tuple[str, str]:
        """Sorts services, oldest first."""
        return (self.created, self.key)

    def pool_held(self, ip: Address) -> str | None:
        """The pool that `ip` was given from, as its annotations say; None if they do not explain it."""
        if ip not in self.given:
            return None
        names = (self.held_pool or "").split(",")
        if len(names) == len(self.given):
            return names[self.given.index(ip)] or None
        return names[0] or None

    @property
    def namespace(self) -> str:
        return self.key.partition("/")[0]

    @property
    def name(self) -> str:
        return self.key.partition("/")[2]


@dataclass(frozen=True, slots=True)
class Endpoint:
    """One endpoint of a slice. `serving`: ready or serving, so traffic sent to it arrives.

    `ready` False: it is on its way out, and serves only as long as nobody better does.
    """

    node: str | None
    serving: bool = True
    ready: bool = True


@dataclass(frozen=True, slots=True)
class EndpointSlice:
    """A discovery.k8s.io/v1 EndpointSlice: `service` is "namespace/name" of the service it belongs to."""

    key: str
    service: str
    endpoints: tuple[Endpoint, ...] = ()


EXCLUDE = (
    "node.kubernetes.io/exclude-from-external-load-balancers"  # the label of nodes that announce nothing
)


@dataclass(frozen=True, slots=True)
class Node:
    """A v1 Node. `addresses` are its own, `pod_networks` those of its pods (spec.podCIDRs).

    `ready`: condition Ready is not False or Unknown. `cordoned`: spec.unschedulable.
    """

    name: str
    labels: Labels = field(default_factory=dict)
    network_unavailable: bool = False
    addresses: tuple[Address, ...] = ()
    pod_networks: tuple[Network, ...] = ()
    ready: bool = True
    cordoned: bool = False
    uid: str = ""

    @property
    def excluded(self) -> bool:
        return EXCLUDE in self.labels


@dataclass(frozen=True, slots=True)
class Namespace:
    name: str
    labels: Labels = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Lease:
    """A speaker's sign of life in the API. `renewed` is opaque: only its changes matter, never its clock.

    `links`: those on which it can announce now; None: it does not say. `doubts`: what it may not be able to
    announce.
    """

    node: str
    renewed: str
    draining: bool = False
    duration_s: float = 3.0
    links: tuple["MemberLink", ...] | None = None
    doubts: "Doubts" = field(default_factory=lambda: Doubts())


@dataclass(frozen=True, slots=True)
class Doubts:
    """IPs that hosts may have which are no speakers: their owner has found one there, or has not asked yet.

    `everything`: whatever the member owns, because it has just started, and asks.
    """

    ips: frozenset[Address] = frozenset()
    everything: bool = False

    def __contains__(self, ip: Address) -> bool:
        return self.everything or ip in self.ips


@dataclass(frozen=True, slots=True)
class MemberLink:
    """A link of a member, as it tells the others: with the networks that it reaches directly."""

    name: str
    mac: bytes
    networks: tuple[Network, ...] = ()


@dataclass(frozen=True, slots=True)
class Pin:
    """An IP whose owner is not the first of the ranking, but `node`. Of two pins the one with the higher
    `term` counts."""

    node: str
    term: int


@dataclass(frozen=True, slots=True)
class Pins:
    """The pins that the speaker of one node wrote down."""

    node: str
    pins: Mapping[Address, Pin] = field(default_factory=dict)


class Heard(enum.IntEnum):
    """What a member says of another one."""

    HEARD = 1
    SILENT = 2  # not for a while
    DEAD = 3  # and the majority says the same


class Hello(NamedTuple):
    """What the answerer of one node tells the others on a segment several times a second.

    `boot`: 8 random bytes, those of one start of the answerer. `sequence` grows within it. `heard`: what it
    says of each member that it knows, by that one's `boot`.
    """

    node: str
    boot: bytes
    sequence: int
    heard: tuple[tuple[bytes, Heard], ...] = ()
    stale: bool = False  # its speaker does not respond
    leaving: bool = False


@dataclass(frozen=True, slots=True)
class LeaderRecord:
    """The Lease of the controller that acts. `holder` "": nobody does. `renewed` is opaque, as in Lease."""

    holder: str = ""
    renewed: str = ""
    duration_s: float = 8.0
    version: str = ""
    transitions: int = 0


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
    PINS = "Pins"  # what a speaker wrote about owners, as a Pins
    SECRET = "Secret"  # noqa: S105
    CONFIG = "Config"  # the whole configuration, as one ConfigSet
    OBJECT = "Object"  # one configuration object of the API, as a Written


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
class Verdict:
    """What the judge of the configuration says of one object, `key` being "Kind/name"."""

    key: str
    accepted: bool
    message: str
    doubtful: bool = False  # accepted, and hardly as meant
    generation: int = 0  # of the object, that this is about


@dataclass(frozen=True, slots=True)
class ConfigSet:
    """The value of Kind.CONFIG: what is accepted, the documents that say so, what is wrong with the rest."""

    config: Config = Config()
    documents: tuple[Mapping[str, object], ...] = ()
    problems: tuple[Problem, ...] = ()
    verdicts: tuple[Verdict, ...] = ()


@dataclass(frozen=True, slots=True)
class Released:
    """An IP that a pool gives to nobody but `service` until `until` (Unix time)."""

    ip: Address
    service: str
    until: float


@dataclass(frozen=True, slots=True)
class PoolStatus:
    """How far a pool is used up. Counts are at most MOST.

    `pending`: services that wait for an IP of it. `released` and `in_use` only where the pool has a cooldown.
    """

    assigned_v4: int = 0
    assigned_v6: int = 0
    available_v4: int = 0
    available_v6: int = 0
    size_v4: int = 0
    size_v6: int = 0
    pending: int = 0
    released: tuple[Released, ...] = ()
    in_use: tuple[Range, ...] = ()


@dataclass(frozen=True, slots=True)
class Tally:
    """How many objects were accepted and refused; the refused ones, and why."""

    accepted: int
    refused: int
    refusals: tuple[tuple[str, str], ...]  # ("Kind/name", message)


@dataclass(frozen=True, slots=True)
class ObjectStatus:
    """The status of a configuration object."""

    conditions: tuple[Condition, ...] = ()
    pool: PoolStatus | None = None
    tally: Tally | None = None


@dataclass(frozen=True, slots=True)
class Written:
    """A configuration object as the API has it. `document` is what its author wrote, `status` what we did.

    `since`: when each condition got the status it has, as text, by type.
    """

    key: str  # "Kind/name"
    document: Mapping[str, object]
    generation: int = 0
    version: str = ""  # metadata.resourceVersion
    deleted: bool = False  # deletion was asked for
    finalizers: tuple[str, ...] = ()
    status: ObjectStatus = ObjectStatus()
    since: Mapping[str, str] = field(default_factory=dict)

    @property
    def kind(self) -> str:
        return self.key.partition("/")[0]

    @property
    def name(self) -> str:
        return self.key.partition("/")[2]

    @property
    def foreign(self) -> bool:
        """Whether it is MetalLB's object, whose status has no room for conditions."""
        return str(self.document.get("apiVersion", "")).startswith("metallb.io/")


@dataclass(frozen=True, slots=True)
class Snapshot:
    """The world as one program sees it, at one moment; `here`: on which node, if that matters."""

    config: Config = Config()
    services: Mapping[str, Service] = field(default_factory=dict)
    endpoints: Mapping[str, tuple[Endpoint, ...]] = field(default_factory=dict)  # by service
    nodes: Mapping[str, Node] = field(default_factory=dict)
    namespaces: Mapping[str, Namespace] = field(default_factory=dict)
    members: frozenset[str] = frozenset()  # nodes with a live speaker that takes part in elections
    links: Mapping[str, tuple[MemberLink, ...]] = field(default_factory=dict)  # of members that tell theirs
    silent: Mapping[str, frozenset[str]] = field(default_factory=dict)  # by own link: members not heard there
    pins: Mapping[Address, Pin] = field(default_factory=dict)
    here: str = ""


# --- decisions ------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Allocation:
    """What a service gets: one IP per family, primary family first, and the pool of each.

    `note`: what it did not get (the second family of PreferDualStack), or would not get any more.
    """

    ips: tuple[Address, ...]
    pools: tuple[str, ...]
    note: Refusal | None = None

    @property
    def pool(self) -> str:
        """The pool, or both if there are two, as text: "lan", "lan,lan6"."""
        return ",".join(dict.fromkeys(self.pools))


@dataclass(frozen=True, slots=True)
class L2Announcement:
    """One service IP on the segment: who may announce it, best first; the first is the owner.

    `ranking`: the same with those that cannot now, and without pins. `preferred`: the first is what a Service
    asks for, so pins do not count.
    """

    ip: Address
    services: tuple[str, ...]
    candidates: tuple[str, ...]
    interfaces: frozenset[str] = frozenset()
    any_subnet: bool = False
    ranking: tuple[str, ...] = ()
    equals: frozenset[str] = frozenset()  # candidates that are preferred as much as the owner
    sticky: bool = False  # failback: Never
    moves_on_cordon: bool = False
    preferred: bool = False

    @property
    def owner(self) -> str:
        return self.candidates[0]


GRACEFUL_SHUTDOWN = "65535:0"  # RFC 8326 §4.1: the community of a route that is about to go


@dataclass(frozen=True, slots=True)
class Route:
    """One prefix as it is announced to one peer, next hop self. `prepend`: see BGPAdvertisement."""

    prefix: Network
    local_pref: int | None = None
    communities: tuple[str, ...] = ()
    med: int | None = None
    prepend: int = 0

    def leaving(self) -> "Route":
        """The same, about to go: whoever has another route prefers that (RFC 8326 §4.1)."""
        return replace(self, communities=tuple(sorted({*self.communities, GRACEFUL_SHUTDOWN})))


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
    `kind`: "vlan", "macvlan", "bond" …, "" for hardware; `parent`: index of the link that it sits on, or 0.
    `gateway`: the next hop of the default route over it, IPv4. `addresses`: the first of a
    network is the one to prefer; `unchecked` are those that may turn out to be somebody else's (RFC 4862).
    """

    name: str
    index: int
    mac: bytes
    running: bool = True
    broadcast: bool = True
    member: bool = False
    addresses: tuple[Interface, ...] = ()
    kind: str = ""
    parent: int = 0
    gateway: IPv4Address | None = None
    unchecked: frozenset[Address] = frozenset()


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
    """The session ended, or an attempt failed; `notification` is (code, subcode), RFC 4271 §4.5.

    `here`: the attempt did not leave this node.
    """

    reason: str
    notification: tuple[int, int] | None = None
    by_peer: bool = False
    here: bool = False


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
    """End the session with a Cease: Administrative Shutdown (RFC 4486 §3), or BFD Down (RFC 9384 §3)."""

    subcode: int = 2


@dataclass(frozen=True, slots=True)
class Ping:
    """Ask for a sign of life."""


SessionCommand = Announce | Withdraw | EndOfRib | Resend | Teardown | Ping

# --- BFD ------------------------------------------------------------------------------------------------


class BFDState(enum.IntEnum):
    """Of one end of a BFD session, as it stands in packets (RFC 5880 §4.1)."""

    ADMIN_DOWN = 0
    DOWN = 1
    INIT = 2
    UP = 3


class BFDPacket(NamedTuple):
    """A control packet (RFC 5880 §4.1); intervals are microseconds.

    `diagnostic`: why the sender is in this state. `your`: what the sender knows of our discriminator; 0:
    nothing.
    """

    state: BFDState
    diagnostic: int
    multiplier: int
    mine: int
    your: int
    desired_us: int
    required_us: int
    required_echo_us: int = 0
    poll: bool = False
    final: bool = False
    independent: bool = False
    demand: bool = False


@dataclass(frozen=True, slots=True)
class BFDStatus:
    """One session as it is since its last change; diagnostics are those of RFC 5880 §4.1.

    `heard`: the other end says something, whatever it is.
    """

    state: BFDState
    diagnostic: int = 0
    remote_state: BFDState = BFDState.DOWN
    remote_diagnostic: int = 0
    heard: bool = False


# --- what was measured ----------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Distribution:
    """Times that were measured: how many were at most each of `bounds_s`, all of them, and their sum."""

    bounds_s: tuple[float, ...]
    at_most: tuple[int, ...]
    count: int
    sum_s: float
