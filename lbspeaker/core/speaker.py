"""The composed decider of a speaker: what it observes goes in, what it has to do comes out.

    observe(change, now) ─▶ snapshot ─▶ advance(now) ─▶ announce, withdraw, peers, routes, renew, tell
                                                        ▲
    claimed(ip): another speaker was heard to claim it ─┘

It announces nothing before it has seen everything (`GATE`) and its own Lease has come back from the API;
an IP that it did not own before is a takeover if somebody else was seen to own it, and new if nobody was.
A drain leaves the election, keeps answering until the next owners are heard, and only then withdraws.
"""

from dataclasses import dataclass, replace
from typing import TypeVar

from lbspeaker.core import announce, lifecycle
from lbspeaker.core.allocator import ours
from lbspeaker.core.announce import Claim, Desired, Release, SetPeer, SetRoutes
from lbspeaker.core.guard import Occasion
from lbspeaker.core.lifecycle import Event, State
from lbspeaker.core.membership import Membership
from lbspeaker.model import (
    Address,
    Change,
    Config,
    ConfigSet,
    Endpoint,
    EndpointSlice,
    Kind,
    Lease,
    Node,
    Peer,
    Secret,
    Service,
    Snapshot,
    Synced,
)

GATE = frozenset({Kind.SERVICE, Kind.ENDPOINT_SLICE, Kind.NODE, Kind.CONFIG})
LEASE_DURATION_S = 3.0
RENEW_EVERY_S = 1.0
DEFEND_EVERY_S = 10.0  # RFC 5227 §2.4: DEFEND_INTERVAL
HANDOVER_S, HANDOVER_PER_S, MOST_HANDOVER_S = 5.0, 8.0, 25.0  # how long a drain waits for the next owners


@dataclass(frozen=True, slots=True)
class Announce:
    """Answer for `ip` on these interfaces (empty: all that fit), and tell the segment, for this occasion."""

    ip: Address
    interfaces: frozenset[str]
    occasion: Occasion
    services: tuple[str, ...]
    again: bool = False  # also where it is answered already


@dataclass(frozen=True, slots=True)
class Renew:
    """Renew the own Lease."""

    draining: bool


@dataclass(frozen=True, slots=True)
class Leave:
    """Everything is withdrawn: delete the own Lease and end."""


Effect = Announce | Release | SetPeer | SetRoutes | Renew | Leave


class Speaker:
    """The speaker on `node`. `leases` False: without an API, where every known node counts as alive.

    `resumed`: this speaker died so lately that nobody can have taken over, so its IPs are still its own.
    """

    def __init__(
        self,
        node: str,
        *,
        leases: bool = True,
        resumed: bool = False,
        load_balancer_class: str | None = None,
    ) -> None:
        self.node = node
        self.resumed = resumed
        self.can_answer = True  # False: not yet
        self.state = State.STARTING
        self.current = Desired()
        self._membership = Membership(node, LEASE_DURATION_S) if leases else None
        self._class = load_balancer_class
        self._unserved = True  # nothing was decided yet
        self._synced: set[Kind] = set()
        self._config = Config()
        self._services: dict[str, Service] = {}
        self._slices: dict[str, dict[str, EndpointSlice]] = {}  # by service, by key
        self._service_of: dict[str, str] = {}  # by key of the slice
        self._endpoints: dict[str, tuple[Endpoint, ...]] = {}
        self._nodes: dict[str, Node] = {}
        self._secrets: dict[str, Secret] = {}
        self._owners: dict[Address, str] = {}  # who was last seen to own it
        self._members: frozenset[str] = frozenset()
        self._changed = True
        self._renew_at = float("-inf")
        self._drain_ends: float | None = None
        self._handed_over: list[Address] = []
        self._contested: set[Address] = set()  # claimed by others while it was ours, as far as we knew
        self._defended: dict[Address, float] = {}

    # -- in --

    def observe(self, change: Change | Synced, now: float) -> None:
        """Take note of what is now."""
        if isinstance(change, Synced):
            self._synced.add(change.kind)
            self._changed = True
            return
        kind, key, value = change.kind, change.key, change.value
        if kind is Kind.LEASE:
            if self._membership is not None:
                self._membership.observe(key, value if isinstance(value, Lease) else None, now)
            return
        if kind is Kind.CONFIG and isinstance(value, ConfigSet):
            self._config = value.config
        elif kind is Kind.ENDPOINT_SLICE:
            if not self._observe_slice(key, value if isinstance(value, EndpointSlice) else None):
                return
        elif kind is Kind.SERVICE:
            mine = isinstance(value, Service) and ours(value, self._class)
            _enter(self._services, key, value if isinstance(value, Service) and mine else None)
        elif kind is Kind.NODE:
            _enter(self._nodes, key, value if isinstance(value, Node) else None)
        elif kind is Kind.SECRET:
            _enter(self._secrets, key, value if isinstance(value, Secret) else None)
        self._changed = True

    def _observe_slice(self, key: str, value: EndpointSlice | None) -> bool:
        """Whether it is about a service of ours."""
        services = set()
        if (before := self._service_of.pop(key, None)) is not None:
            services.add(before)
            del self._slices[before][key]
        if value is not None:
            services.add(value.service)
            self._service_of[key] = value.service
            self._slices.setdefault(value.service, {})[key] = value
        for service in services:
            slices = self._slices[service]
            self._endpoints[service] = tuple(e for _, s in sorted(slices.items()) for e in s.endpoints)
            if not slices:
                del self._slices[service], self._endpoints[service]
        return any(service in self._services for service in services)

    def claimed(self, ip: Address) -> None:
        """Another was heard to claim `ip`: what a drain waits for; else something to answer (`_defend`)."""
        if self.state is State.DRAINING and ip in self.current.owned:
            self._handed_over.append(ip)
        elif self.state is State.SERVING and ip in self.current.owned:
            self._contested.add(ip)

    def drain(self, now: float) -> None:
        """Begin to leave; `advance` says the rest."""
        if self.state is State.SERVING:
            needed = HANDOVER_S + len(self.current.owned) / HANDOVER_PER_S
            self._drain_ends = now + min(needed, MOST_HANDOVER_S)
            self._renew_at = now
        self.state = lifecycle.step(self.state, Event.DRAIN)
        self._changed = True

    # -- out --

    def advance(self, now: float) -> list[Effect]:
        """Return what has to be done now."""
        effects: list[Effect] = self._renewal(now)
        if self.state is State.STARTING and self._ready():
            self.state = lifecycle.step(self.state, Event.SYNCED)
            self._renew_at = now
            effects += self._renewal(now)
        if self.state is State.SERVING:
            effects += self._serve(now)
        elif self.state is State.DRAINING:
            effects += self._hand_over(now)
        elif self.state is State.STOPPED and self._changed:  # drained before it served
            effects.append(Leave())
            self._changed = False
        return effects

    def next_wakeup(self, now: float) -> float | None:
        """When to call `advance` again, if nothing is observed before."""
        moments = [self._drain_ends]
        if self._membership is not None:
            moments += [self._membership.next_wakeup(now), self._renew_at]
        known = [moment for moment in moments if moment is not None and moment > float("-inf")]
        return None if self.state is State.STOPPED else min(known, default=None)

    @property
    def knows_itself(self) -> bool:
        """Whether the cluster has a Node of this name."""
        return self.node in self._nodes

    @property
    def members(self) -> frozenset[str]:
        return self._members

    def service(self, key: str) -> Service | None:
        return self._services.get(key)

    def snapshot(self) -> Snapshot:
        """The world as it was last told; a peer whose Secret is missing is left out."""
        peers = tuple(p for peer in self._config.peers if (p := self._with_password(peer)) is not None)
        config = replace(self._config, peers=peers)
        return Snapshot(config, self._services, self._endpoints, self._nodes, {}, self._members)

    def without_password(self) -> dict[str, str]:
        """The peers that cannot be used because their password is not known, and why."""
        return {
            peer.name: f"Secret {peer.password_secret} is missing, or has no key `password`"
            for peer in self._config.peers
            if self._with_password(peer) is None
        }

    def _with_password(self, peer: Peer) -> Peer | None:
        if peer.password_secret is None or peer.password is not None:
            return peer
        secret = self._secrets.get(str(peer.password_secret))
        if secret is None or not secret.password:
            return None
        return replace(peer, password=secret.password)

    # -- inside --

    def _ready(self) -> bool:
        if self._membership is None:
            return self._synced >= GATE
        return self._synced >= GATE | {Kind.LEASE} and self._membership.ready and self.can_answer

    def _renewal(self, now: float) -> list[Effect]:
        if self._membership is None or self.state is State.STOPPED or now < self._renew_at:
            return []
        self._renew_at = now + RENEW_EVERY_S
        # Who cannot answer yet takes no part, unless it died so lately that others still count on it.
        counts = self.state is State.SERVING or (self.state is State.STARTING and self.resumed)
        return [Renew(draining=not counts)]

    def _serve(self, now: float) -> list[Effect]:
        """From what is announced to what ought to be; nothing, if nothing has changed."""
        members = frozenset(self._nodes) if self._membership is None else self._membership.members(now)
        if members == self._members and not self._changed and not self._contested:
            return []
        self._members, self._changed = members, False
        held = announce.holders(self._services.values())
        wanted = announce.desired(self.snapshot(), held, self.node)
        effects = [self._effect(step, held) for step in announce.plan(self.current, wanted)]
        effects += self._defend(wanted, held, now)
        self._owners.update(wanted.owners)
        self.current = wanted
        self._unserved = self._unserved and self.node not in members
        return effects

    def _defend(self, wanted: Desired, held: announce.Holders, now: float) -> list[Effect]:
        """Claim again what others claimed while we were cut off, once the API says that it is still ours."""
        if self._membership is not None and self._membership.silent_s(now) > RENEW_EVERY_S * 1.5:
            return []
        effects: list[Effect] = []
        for ip in sorted(self._contested & wanted.owned.keys(), key=str):
            if now >= self._defended.get(ip, float("-inf")) + DEFEND_EVERY_S:
                self._defended[ip] = now
                users = tuple(service.key for service in held[ip])
                effects.append(Announce(ip, wanted.owned[ip], Occasion.TAKEOVER, users, again=True))
        self._contested.clear()
        return effects

    def _effect(self, step: announce.Step, held: announce.Holders) -> Effect:
        if not isinstance(step, Claim):
            return step
        users = tuple(service.key for service in held[step.ip])
        return Announce(step.ip, step.interfaces, self._occasion(step.ip), users)

    def _occasion(self, ip: Address) -> Occasion:
        """Why the segment has to hear of `ip`: what do neighbours believe that is wrong?"""
        if self._unserved:
            return Occasion.REFRESH if self.resumed else Occasion.TAKEOVER
        owner = self._owners.get(ip)
        if owner is None:
            return Occasion.NEW
        return Occasion.REFRESH if owner == self.node else Occasion.TAKEOVER

    def _hand_over(self, now: float) -> list[Effect]:
        """Release what others have claimed; at the end, everything."""
        effects: list[Effect] = []
        if self._changed:  # the drain has begun; told again, it is the same
            effects += [SetRoutes(peer, {}) for peer in self.current.peers]
            self._changed = False
        alone = self._membership is None or self._membership.members(now) <= {self.node}
        over = alone or self._drain_ends is None or now >= self._drain_ends
        released = tuple(self.current.owned) if over else tuple(self._handed_over)
        effects += [Release(ip) for ip in released if ip in self.current.owned]
        owned = {ip: on for ip, on in self.current.owned.items() if ip not in released}
        self.current, self._handed_over = replace(self.current, owned=owned), []
        if not owned:
            effects += [SetPeer(peer, None) for peer in self.current.peers]
            effects.append(Leave())
            self.current = Desired()
            self.state = lifecycle.step(self.state, Event.HANDED_OVER)
        return effects


Value = TypeVar("Value")


def _enter(table: dict[str, Value], key: str, value: Value | None) -> None:
    if value is None:
        table.pop(key, None)
    else:
        table[key] = value
