"""The nouns of the router's side: what a router must have, what it has, and what is wrong with it.

`Upstream` is decided from the configuration and the Nodes, and becomes the text of a router's configuration;
`RouterView` is read from a router's answers; a `Finding` is where the two differ. Frozen values, like those
of `model`: deciders and formats both hold them.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from lbspeaker.model import Address, BFDProfile, Family, Network, Route

MULTIPATH = 8  # more next hops than most clusters need, and fewer than any router allows

# --- what the router must have --------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Neighbor:
    """A node, as the router knows it: the address that it dials from. `label`: its name, [A-Za-z0-9-]."""

    node: str
    label: str
    address: Address


@dataclass(frozen=True, slots=True)
class Accepted:
    """Routes that the router takes: those inside `network` whose prefix has exactly this `length`."""

    network: Network
    length: int

    def admits(self, prefix: Network) -> bool:
        return prefix.prefixlen == self.length and _within(prefix, self.network)


@dataclass(frozen=True, slots=True)
class PrefixList:
    """The routes of one pool and one family. `name`, and `label` of the pool alone: [A-Za-z0-9-] only."""

    name: str
    label: str
    family: Family
    entries: tuple[Accepted, ...]


@dataclass(frozen=True, slots=True)
class Upstream:
    """All that the router behind one BGPPeer must have.

    `asn` is the router's AS. `address`: where nodes dial; None: each one's default gateway. There is at least
    one neighbor. `families`: those that a session carries. `password`: where the password is to be found, ""
    if there is none; never the password. `ttl_hops`: as in Peer. `notes`: what a person must look after.
    """

    peer: str
    label: str
    asn: int
    nodes_asn: int
    address: Address | None
    port: int
    neighbors: tuple[Neighbor, ...]
    prefix_lists: tuple[PrefixList, ...]
    families: tuple[Family, ...]
    hold_time_s: int
    password: str = ""
    multihop: bool = False
    ttl_hops: int | None = None
    graceful_restart_s: int | None = None
    bfd: BFDProfile | None = None
    notes: tuple[str, ...] = ()

    @property
    def family(self) -> Family:
        """That of the sessions themselves."""
        return self.neighbors[0].address.version

    @property
    def paths(self) -> int:
        """How many equal routes to one prefix the router must use."""
        return max(MULTIPATH, len(self.neighbors))

    @property
    def keepalive_s(self) -> int:
        """What a router is told; it speaks earlier if that is what a third of the hold time is."""
        return max(self.hold_time_s // 3, 1) if self.hold_time_s else 0

    @property
    def ibgp(self) -> bool:
        return self.asn == self.nodes_asn

    def lists(self, family: Family) -> tuple[PrefixList, ...]:
        return tuple(one for one in self.prefix_lists if one.family == family)


Expected = Mapping[Network, Mapping[str, Route]]  # what the router should be told: by prefix, by node


# --- what the router has --------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class PrefixRule:
    """One line of a prefix list of the router: inside `network`, lengths from `shortest` to `longest`."""

    permit: bool
    network: Network
    shortest: int
    longest: int

    def covers(self, prefix: Network) -> bool:
        """Whether `prefix` is inside, whatever its length."""
        return _within(prefix, self.network)

    def matches(self, prefix: Network) -> bool:
        return self.covers(prefix) and self.shortest <= prefix.prefixlen <= self.longest


@dataclass(frozen=True, slots=True)
class MapRule:
    """One rule of a route map: it applies if one of `lists` matches; without any, to all.

    `unclear`: it has other conditions, too, or does more than permit or deny.
    """

    permit: bool
    lists: tuple[str, ...] = ()
    unclear: bool = False


@dataclass(frozen=True, slots=True)
class Filters:
    """What routes of one family from one neighbour must pass; "" where there is none.

    `other`: there is a filter, and it cannot be looked into.
    """

    prefix_list: str = ""
    route_map: str = ""
    other: str = ""


@dataclass(frozen=True, slots=True)
class Session:
    """What the router says of one neighbour. None: it does not say.

    `state` is its own word; "Established" is up. `ungoverned`: families whose routes it drops because they
    have no policy (RFC 8212). `refused`: how many routes its policy dropped. `limits`: numbers of routes
    beyond which it ends the session. `bfd`: "up", "down", "" (not configured). `wait_s`: so long it lets
    nobody in after an error. `dynamic`: accepted by a range, not by name.
    """

    address: Address
    state: str
    remote_asn: int | None = None
    local_asn: int | None = None
    families: frozenset[Family] | None = None
    filters: Mapping[Family, Filters] = field(default_factory=dict)
    ungoverned: frozenset[Family] = frozenset()
    accepted: Mapping[Family, int] = field(default_factory=dict)
    refused: Mapping[Family, int] = field(default_factory=dict)
    limits: Mapping[Family, int] = field(default_factory=dict)
    password: bool | None = None
    bfd: str | None = None
    last_error: str = ""
    wait_s: float = 0.0
    dynamic: bool = False

    @property
    def up(self) -> bool:
        return self.state.lower() == "established"


@dataclass(frozen=True, slots=True)
class Path:
    """One route that the router has by BGP. `neighbor`: who sent it. `used`: best, or as good as the best.

    `origin` is "IGP", "EGP" or "incomplete"; `med` 0 if there is none.
    """

    prefix: Network
    neighbor: Address
    next_hop: Address
    used: bool
    valid: bool = True
    stale: bool = False
    as_path: tuple[int, ...] = ()
    origin: str = "IGP"
    med: int = 0
    local_pref: int | None = None
    communities: frozenset[str] | None = None


@dataclass(frozen=True, slots=True)
class RouterView:
    """What a router says of itself. None: it does not say.

    `software`: "FRR", "BIRD" or "OPNsense". `installed`: next hops by prefix, of the routes by BGP that
    forward packets. `connected`: the networks on its links.
    """

    software: str
    asn: int | None
    sessions: Mapping[Address, Session]
    paths: tuple[Path, ...]
    installed: Mapping[Network, frozenset[Address]] | None = None
    connected: tuple[Network, ...] = ()
    prefix_lists: Mapping[tuple[Family, str], tuple[PrefixRule, ...]] = field(default_factory=dict)
    route_maps: Mapping[str, tuple[MapRule, ...]] = field(default_factory=dict)


# --- what is wrong --------------------------------------------------------------------------------------

Severity = Literal["error", "warning", "note"]


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that is wrong: about whom (`subjects`), what and why, and what to do about it.

    `code` is for machines. A note is worth knowing, and nothing is wrong.
    """

    code: str
    severity: Severity
    subjects: tuple[str, ...]
    what: str
    remedy: str


def _within(inner: Network, outer: Network) -> bool:
    if inner.version != outer.version or inner.prefixlen < outer.prefixlen:
        return False
    shift = outer.max_prefixlen - outer.prefixlen
    return int(inner.network_address) >> shift == int(outer.network_address) >> shift
