"""The composed decider of a speaker: what it observes goes in, what it has to do comes out.

    observe(change, now) ──▶ snapshot ─▶ advance(now) ─▶ announce, release, peers, routes, renew, pins, tell
    heard, claimed, in_use ─────────────────▲

It announces nothing before it has seen everything (`GATE`) and its own Lease has come back from the API;
an IP that it did not own before is a takeover if somebody else was seen to own it, and new if nobody was.

An IP that goes to another living node is *lent*: answered here until the next owner is heard to claim it, or
until that takes too long. A drain leaves the election, lends everything, and ends when nothing is lent.

What others claim:
    a member, an IP that is lent      released: the next owner has it
    a member, an IP of ours           who comes before us in the ranking has it (the answerer stops at once);
                                      we look again after a moment. Otherwise claimed again, when the API says
                                      that it is ours; while the API is silent, it is left to who claims it
    a stranger                        `core.conflict`
"""

from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Literal

from lbspeaker.core import announce, lifecycle
from lbspeaker.core.announce import Claim, Desired, Release, SetPeer, SetRoutes
from lbspeaker.core.claims import MOST_YIELDED_S, YIELDED_S, Claims
from lbspeaker.core.conflict import Conflicts, Reaction
from lbspeaker.core.farewell import Farewell
from lbspeaker.core.guard import Occasion
from lbspeaker.core.lifecycle import Event, State
from lbspeaker.core.links import choose, default_gateway, member_links
from lbspeaker.core.membership import Membership
from lbspeaker.core.nodes import Holders, holders
from lbspeaker.core.placement import Placement
from lbspeaker.core.world import World
from lbspeaker.model import (
    Address,
    Change,
    Doubts,
    Kind,
    Lease,
    Link,
    MemberLink,
    Pin,
    Pins,
    Reason,
    Service,
    Snapshot,
    Synced,
)

GATE = frozenset({Kind.SERVICE, Kind.ENDPOINT_SLICE, Kind.NODE, Kind.CONFIG})
LEASE_DURATION_S = 3.0
RENEW_EVERY_S = 1.0
PIN_EVERY_S = 1.0  # pins are written no more often, whatever others write
TURN_S = 2.0  # twice what a new session of BGP takes until the router has its routes
ALL_TURNS_S = 60.0
INSIST_EVERY_S = 1.0  # of many that took us for dead, the first one to hear us is enough
PROVED_S = 8.0  # so long after somebody began to own an IP, it would be known that a host has it
_SOMEBODY = ""  # no node has this name


@dataclass(frozen=True, slots=True)
class Announce:
    """Answer for `ip` on these interfaces (empty: all that fit), and tell the segment, for this occasion."""

    ip: Address
    interfaces: frozenset[str]
    occasion: Occasion
    services: tuple[str, ...]
    again: bool = False  # also where it is answered already
    any_subnet: bool = False
    above: tuple[str, ...] = ()  # nodes that outrank this one, should they live


@dataclass(frozen=True, slots=True)
class Renew:
    """Renew the own Lease, and say in it on which links this node can announce; and what it doubts.

    `doubts` None: what the Lease says of them stays.
    """

    draining: bool
    links: tuple[MemberLink, ...] = ()
    doubts: Doubts | None = None


@dataclass(frozen=True, slots=True)
class WritePins:
    """Write down these pins, and no others."""

    pins: Mapping[Address, Pin]


@dataclass(frozen=True, slots=True)
class Tell:
    """Tell the users of these services. `mac`: whose vendor they should hear of, too."""

    services: tuple[str, ...]
    ip: Address
    kind: Literal["Normal", "Warning"]
    reason: Reason
    message: str
    mac: str = ""


@dataclass(frozen=True, slots=True)
class Leave:
    """Everything is withdrawn: delete the own Lease and end."""


Effect = Announce | Release | SetPeer | SetRoutes | Renew | WritePins | Tell | Leave


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
        layer2: bool = True,
    ) -> None:
        self.node = node
        self._layer2 = layer2
        self.resumed = resumed
        self.can_answer = True  # False: not yet, or never for long
        self.state = State.STARTING
        self.current = Desired()
        self._membership = Membership(node, LEASE_DURATION_S) if leases else None
        self._unserved = True  # nothing was decided yet
        self.world = World(node, load_balancer_class)
        self._synced: set[Kind] = set()
        self._links: tuple[Link, ...] = ()
        self._told_links: tuple[MemberLink, ...] = ()
        self._placement = Placement(node)
        self._farewell = Farewell()
        self._place_at = float("-inf")  # then pins may have to change, though nothing else does
        self._pinned_at = float("-inf")
        self._conflicts = Conflicts()
        self._owners: dict[Address, str] = {}  # who was last seen to own it
        self._proved_at: dict[Address, float] = {}  # from then on, whoever owned it has answered for it
        self._members: frozenset[str] = frozenset()
        self._changed = True
        self._renew_at = float("-inf")
        self._unproved: set[Address] = set()  # since the start: it is not known whether somebody has them
        self._asked: set[Address] = set()  # new, and not answered yet
        self._told_doubts: Doubts | None = None
        self._claims = Claims()
        self._reactions: list[Effect] = []
        self._missed = False  # others have taken us for dead
        self._insisted_at = float("-inf")
        self._told: set[tuple[str, Address, Reason]] = set()
        self._counted: tuple[object, Mapping[str, int]] = None, {}

    # -- in --

    def observe(self, change: Change | Synced, now: float) -> None:
        """Take note of what is now."""
        if isinstance(change, Synced):
            self._synced.add(change.kind)
            self._changed = True
            return
        if change.kind is Kind.LEASE:
            if self._membership is not None:
                lease = change.value if isinstance(change.value, Lease) else None
                silent_s = self._membership.silent_s(now)
                self._changed |= self._membership.observe(change.key, lease, now)
                works = self._membership.silent_s(now) < silent_s
                if works and silent_s > LEASE_DURATION_S and not self._membership.hears:
                    self._missed = True  # without hellos nobody says so
            return
        self._changed |= self.world.observe(change)
        mine = change.kind is Kind.PINS and change.key == self.node
        if mine and self.state is State.STARTING and isinstance(change.value, Pins):
            self._placement.learned(change.value.pins)

    def observe_links(self, links: tuple[Link, ...]) -> None:
        """These are the links of this node."""
        self._changed |= default_gateway(links) != default_gateway(self._links)
        self._links = links
        self._tell_links()
        if self._membership is not None:
            self._membership.keep_links(frozenset(link.name for link in links))

    def _tell_links(self) -> None:
        told = member_links(self._links, self.world.named_links) if self._layer2 else ()
        if told != self._told_links:
            self._told_links = told
            self._changed = True
            if self._renew_at > float("-inf"):
                self._renew_at = 0.0  # others wait for it

    def heard(self, link: str, dead: frozenset[str], returning: frozenset[str] = frozenset()) -> None:
        """On the segment of this link these nodes must be taken for dead; of them, some are heard again."""
        if self._membership is not None:
            self._membership.seen(link, dead, returning)
            self._changed = True

    def missed(self) -> None:
        """Others took this node for dead, and hear it again: meanwhile they told neighbours otherwise."""
        self._missed = True

    def claimed(
        self, ip: Address, now: float, *, node: str = "", mac: str = "", link: str = "", yielded: bool = False
    ) -> None:
        """Another was heard to claim `ip`: the member `node`, or a stranger.

        `yielded`: the answerer has stopped to answer for it already.
        """
        if node and self._membership is not None:
            self._changed |= self._membership.lives(link, node)
            self._claims.heard(ip, node, now)
        if yielded:
            self._gone(ip, now + self._patience_s(now), node)
        elif ip in self._claims.lent:
            if node:
                self._claims.returned(ip)
        elif ip in self.current.owned and self.state is State.SERVING:
            if node:
                self._claims.contested.add(ip)
            else:
                self._in_conflict(ip, mac, link, now)

    def in_use(self, ip: Address, now: float, *, node: str = "", mac: str = "") -> None:
        """The probe for `ip` was answered by `mac`; the answerer does not announce it."""
        if ip not in self.current.owned:
            return
        left = self._api_is_silent(now) and self._claims.claimant(ip) == node  # and it has it still
        leaves = self._membership is not None and self._membership.draining(node)
        above = node in self.current.owned[ip].above and not leaves
        if node and (left or above):  # it knows something that we do not
            self._gone(ip, now + self._patience_s(now), node)
            return
        if node:  # it has answered while we could not; it is ours now, and neighbours have to hear of that
            self._owners[ip], self._proved_at[ip] = node, now
            self._gone(ip, None)
            return
        self._conflicts.refused(ip, mac, now)
        self._tell_conflict(ip, mac, "it is not announced, and tried again in a minute")
        self._gone(ip, None)

    def answers(self, ip: Address) -> None:
        """It is answered here: nobody else has it."""
        self._unproved.discard(ip)
        self._asked.discard(ip)

    def woke(self, ips: tuple[Address, ...], now: float) -> None:
        """The answerer stood still, and does not answer for these any more."""
        for ip in ips:
            self._gone(ip, now + YIELDED_S / 2)

    def _gone(self, ip: Address, until: float | None, to: str = "") -> None:
        """It is not answered any more on one link at least: so let it be answered on none."""
        if ip in self.current.owned or ip in self._claims.lent:
            self._reactions.append(Release(ip))
        owned = {other: duty for other, duty in self.current.owned.items() if other != ip}
        self.current = replace(self.current, owned=owned)
        self._claims.end([ip])
        if until is not None:
            self._claims.leave(ip, until, to)
        self._changed = True

    def _in_conflict(self, ip: Address, mac: str, link: str, now: float) -> None:
        policy = self.world.config.link_policy(self.world.labels, link).on_conflict
        reaction = self._conflicts.claimed(ip, mac, policy, now)
        if reaction is Reaction.DEFEND:
            self._tell_conflict(ip, mac, "it is defended, at most once in 10 s")
            duty = self.current.owned[ip]
            users = self._users(ip)
            self._reactions.append(
                Announce(ip, duty.interfaces, Occasion.NEW, users, True, duty.any_subnet, duty.above)
            )
        elif reaction is Reaction.YIELD:
            self._tell_conflict(ip, mac, "it is given up for a minute (onConflict: Yield)")
            self._gone(ip, None)

    def _tell_conflict(self, ip: Address, mac: str, then: str) -> None:
        message = f"{ip} is also used by a host that is no speaker: {mac}, {{vendor}}; {then}"
        tell = Tell(self._users(ip), ip, "Warning", Reason.ADDRESS_CONFLICT, message, mac)
        self._reactions.append(tell)

    def _users(self, ip: Address) -> tuple[str, ...]:
        found = self.current.announcements.get(ip)
        return found.services if found else ()

    def drain(self, now: float) -> None:
        """Begin to leave; `advance` says the rest."""
        if self.state is State.SERVING:
            self._claims.bequeath(self.current.owned.keys(), now)
            self.current = replace(self.current, owned={})
            self._renew_at = now
        self.state = lifecycle.step(self.state, Event.DRAIN)
        self._changed = True

    # -- out --

    def advance(self, now: float) -> list[Effect]:
        """Return what has to be done now."""
        effects: list[Effect] = self._renewal(now) + self._reactions
        self._reactions = []
        if self.state is State.STARTING and not self.awaits:
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
        serving = self.state is State.SERVING
        moments: list[float | None] = [*self._claims.wakeups(serving=serving)]
        if serving:
            moments += [self._conflicts.next_wakeup(), self._farewell.until]
        if self._membership is not None and serving:
            moments.append(self._placement.next_wakeup(now))
            moments += [self._place_at] if now < self._place_at < float("inf") else []
        if self._membership is not None:
            moments += [self._membership.next_wakeup(now), self._renew_at]
        known = [moment for moment in moments if moment is not None and moment > float("-inf")]
        return None if self.state is State.STOPPED else min(known, default=None)

    @property
    def uid(self) -> str:
        """That of the own Node, "" if it is not known."""
        node = self.world.nodes.get(self.node)
        return node.uid if node else ""

    @property
    def knows_itself(self) -> bool:
        """Whether the cluster has a Node of this name."""
        return self.node in self.world.nodes

    @property
    def members(self) -> frozenset[str]:
        return self._members

    def moves_of(self, ip: Address, now: float) -> int:
        """How often an IP has moved in the last hour."""
        return self._placement.moves_of(ip, now)

    def moved(self, now: float) -> Mapping[Address, int]:
        """How often IPs have moved in the last hour, wherever they are; of those that have."""
        return self._placement.moved(now)

    def turn_s(self) -> float:
        """How long this node leaves others the turn, where one after the other must do without something."""
        before = sum(node < self.node for node in self._members)
        return before * min(TURN_S, ALL_TURNS_S / max(len(self._members), 1))

    def service(self, key: str) -> Service | None:
        return self.world.services.get(key)

    def snapshot(self) -> Snapshot:
        """The world as it was last told; a peer whose Secret is missing is left out."""
        snapshot = self.world.snapshot(self._members, default_gateway(self._links))
        if self._membership is None:
            return snapshot if self._layer2 else replace(snapshot, links={self.node: ()})
        links = dict(self._membership.links)
        if self._links or not self._layer2:
            links[self.node] = self._told_links
        silent = self._membership.silent
        return replace(snapshot, links=links, silent=silent, pins=self.world.pins, here=self.node)

    @property
    def member_macs(self) -> dict[str, tuple[str, ...]]:
        """The other nodes with a Lease, and the MACs of their links (hexadecimal)."""
        if self._membership is None:
            return {}
        links = self._membership.links
        others = self._membership.known - {self.node}
        return {node: tuple(link.mac.hex() for link in links.get(node, ())) for node in sorted(others)}

    @property
    def near_macs(self) -> dict[str, tuple[str, ...]]:
        """By link of ours: the MACs (hexadecimal) of live members with a link in one of its networks."""
        if self._membership is None:
            return {}
        others = [
            (link.mac.hex(), set(link.networks))
            for node, links in sorted(self._membership.links.items())
            if node in self._members and node != self.node
            for link in links
        ]
        return {
            own.name: tuple(mac for mac, networks in others if not networks.isdisjoint(own.networks))
            for own in self._told_links
        }

    @property
    def held_back(self) -> dict[Address, str]:
        """What would be ours, and is left to others for the moment; the MAC of who has it, or ""."""
        ours = {ip for ip, found in self.current.announcements.items() if found.owner == self.node}
        conflicts = {ip: self._conflicts.mac_of(ip) or "" for ip in self._conflicts.held_back & ours}
        return dict.fromkeys(self._claims.yielded.keys() & ours, "") | conflicts

    @property
    def turnover(self) -> Mapping[str, int]:
        """How many IPs changed their owner so far: "in" to this node, "out" of it, or "elsewhere"."""
        return self._placement.turnover

    def unrenewed_s(self, node: str, now: float) -> float | None:
        """For how long the Lease of a node was not renewed, if that is why it is no member."""
        return self._membership.unrenewed_s(node, now) if self._membership is not None else None

    @property
    def announced(self) -> set[tuple[str, str, Address]]:
        """The services that this node announces: by their keys, the protocol, and the IP."""
        return self.current.announced(self.world.services)

    @property
    def unannounced(self) -> Mapping[str, int]:
        """How many service IPs no node announces, by reason."""
        if self._counted[0] is not self.current.unannounced:
            rows = self.current.unannounced
            self._counted = rows, self.current.unannounced_ips()
        return self._counted[1]

    @property
    def lent(self) -> frozenset[Address]:
        """What is answered here until its next owner is heard."""
        return frozenset(self._claims.lent)

    def conflict(self, ip: Address) -> str:
        """The MAC of the stranger that uses `ip`, too; "": nobody does."""
        return self._conflicts.mac_of(ip) or ""

    # -- inside --

    @property
    def awaits(self) -> tuple[str, ...]:
        """What is still to be known before it can serve."""
        gate = GATE if self._membership is None else GATE | {Kind.LEASE}
        kinds = tuple(f"{kind.value}s" for kind in sorted(gate - self._synced))
        if self._membership is None:
            return kinds
        lease = () if self._membership.ready else (f"the Lease of {self.node}",)
        answerer = () if self.can_answer else ("the answerer",)
        return (*kinds, *lease, *answerer)

    def _renewal(self, now: float) -> list[Effect]:
        if self._membership is None or self.state is State.STOPPED:
            return []
        doubts = self._doubts() if self.state is State.SERVING else None
        if now < self._renew_at and doubts in (None, self._told_doubts):
            return []
        self._renew_at = now + RENEW_EVERY_S
        self._told_doubts = doubts or self._told_doubts
        # Who cannot answer yet takes no part, unless it died so lately that others still count on it; and who
        # never can for long, none while there are others.
        answers = self.can_answer or self._members <= {self.node}
        counts = answers if self.state is State.SERVING else self.state is State.STARTING and self.resumed
        return [Renew(not counts, self._told_links, doubts)]

    def _doubts(self) -> Doubts | None:
        if self._unserved:
            return None if self.resumed else Doubts(everything=True)
        return Doubts(self._conflicts.held_back, everything=bool(self._unproved))

    def _doubted(self, node: str, ip: Address) -> bool:
        """Whether that node, for all that it says, does not answer for `ip` though it owns it."""
        return self._membership is not None and ip in self._membership.doubts(node)

    def _serve(self, now: float) -> list[Effect]:
        """From what is announced to what ought to be; nothing, if nothing has changed."""
        members = frozenset(self.world.nodes) if self._membership is None else self._membership.members(now)
        again = self._conflicts.advance(now)
        fallen = self._membership.fallen() if self._membership is not None else frozenset()
        over = self._claims.expire(now, fallen, self._patience_s(now))
        if not self._api_is_silent(now):  # who has taken it was heard, but not seen in the cluster
            self._owners.update(dict.fromkeys(over, _SOMEBODY))
            self._proved_at.update(dict.fromkeys(over, now))
        effects: list[Effect] = [Release(ip) for ip in self._claims.settled(now)]
        if self._api_is_silent(now):  # others may know better
            self._claims.leave_contested(now + self._patience_s(now))
        gone = self._farewell.over(now)
        idle = not (self._changed or self._claims.contested or self._missed or again or over or gone)
        if members == self._members and idle:
            return effects + self._place(now)
        self._members, self._changed = members, False
        self._place_at = max(now, self._pinned_at + PIN_EVERY_S)
        self._tell_links()
        held = holders(self.world.services.values())
        wanted = announce.desired(self.snapshot(), held, self.node)
        for ip in self.current.owned.keys() - wanted.owned.keys():
            self._conflicts.forget(ip)
        self._conflicts.keep(held)
        macs = (mac for macs in self.member_macs.values() for mac in macs)
        self._conflicts.known({bytes.fromhex(mac).hex(":") for mac in macs})
        known = self.world.nodes.get(self.node)
        wanted = self._farewell.say(known is not None and known.excluded, self.current, wanted, now)
        ours = wanted.owned.keys()
        withheld = self._claims.yielded.keys() | self._conflicts.held_back
        owned = {ip: duty for ip, duty in wanted.owned.items() if ip not in withheld}
        wanted = replace(wanted, owned=owned)
        effects += self._steps(wanted, held, now)
        self._claims.see(lambda ip: ip in ours)
        effects += self._without_owner(lambda ip: wanted.owner(ip) is not None)
        effects += self._defend(wanted, now)
        self._remember_owners(wanted, held, now)
        self._unproved &= wanted.owned.keys()
        self._asked &= wanted.owned.keys()
        self.current = wanted
        effects += self._tell_unannounced(wanted)
        effects += [
            Tell(self._users(flap.ip), flap.ip, "Warning", Reason.FLAPPING, _flapping(flap.ip, flap.moves))
            for flap in self._placement.observe(wanted.announcements, now)
        ]
        self._unserved = self._unserved and self.node not in members
        return effects + self._place(now)

    def _remember_owners(self, wanted: Desired, held: Holders, now: float) -> None:
        for ip in self._owners.keys() - held.keys():
            del self._owners[ip]  # whoever has it meanwhile: when it is given again, it is new
        held_back = self._conflicts.held_back
        for ip, found in wanted.announcements.items():
            doubted = found.owner != self.node and self._doubted(found.owner, ip)
            if doubted or ip in held_back:
                self._owners.pop(ip, None)  # a stranger may have it: when it is tried again, it is new
            elif ip in self._claims.yielded:
                self._owners.pop(ip, None)
            else:
                if ip not in self._owners:
                    self._proved_at[ip] = now if self._unserved else now + PROVED_S
                self._owners[ip] = found.owner

    def _steps(self, wanted: Desired, held: Holders, now: float) -> list[Effect]:
        effects: list[Effect] = []
        lent: list[Address] = []
        for step in announce.plan(self.current, wanted):
            if isinstance(step, Claim):
                effects.append(self._announce(step.ip, step.duty, held, wanted, now))
                self._claims.end([step.ip])
            elif isinstance(step, Release) and (owner := wanted.owner(step.ip)) and owner != self.node:
                # Its next owner was heard before we knew of it, or nothing is heard any more.
                if self._claims.has_heard(step.ip, owner, now) or not self._has_link_for(step.ip):
                    effects.append(step)
                else:
                    lent.append(step.ip)
            else:
                effects.append(step)
        telling = Counter(found.owner for found in wanted.announcements.values()) if lent else Counter()
        patience_s = self._patience_s(now) if self._api_is_silent(now) else 0.0
        for ip in lent:
            number = telling[wanted.announcements[ip].owner]
            self._claims.lend(ip, now, number=number, patience_s=patience_s)
        return effects

    def _has_link_for(self, ip: Address) -> bool:
        duty = self.current.owned[ip]
        return not self._links or bool(choose(ip, self._links, duty.interfaces, duty.any_subnet))

    def _announce(
        self, ip: Address, duty: announce.Duty, held: Holders, wanted: Desired, now: float
    ) -> Announce:
        users = tuple(service.key for service in held[ip])
        occasion = self._occasion(ip, wanted, now)
        if occasion is Occasion.NEW:
            self._asked.add(ip)
            if self._unserved:
                self._unproved.add(ip)
        again = ip in self._claims.overtaken
        return Announce(ip, duty.interfaces, occasion, users, again, duty.any_subnet, duty.above)

    def _without_owner(self, has_owner: Callable[[Address], bool]) -> list[Effect]:
        """Release what is lent to nobody any more."""
        over = self._claims.end(ip for ip in self._claims.lent if not has_owner(ip))
        return [Release(ip) for ip in over]

    def api_silent_s(self, now: float) -> float:
        """For how long the API has not shown that it works."""
        return self._membership.silent_s(now) if self._membership is not None else 0.0

    def _api_is_silent(self, now: float) -> bool:
        """For so long that others may have taken this node for dead."""
        return self.api_silent_s(now) > LEASE_DURATION_S

    def _patience_s(self, now: float) -> float:
        """For how long an IP is left to a member that claims it: the longer, the less is known."""
        return min(max(YIELDED_S, self.api_silent_s(now)), MOST_YIELDED_S)

    def _defend(self, wanted: Desired, now: float) -> list[Effect]:
        """Claim again what other members claimed, once the API says that it is still ours."""
        contested = self._claims.contested & wanted.owned.keys()
        if contested and self.api_silent_s(now) > RENEW_EVERY_S * 1.5:
            return []
        at_once, self._missed = self._missed and now >= self._insisted_at + INSIST_EVERY_S, False
        if at_once:
            self._insisted_at = now
            self._claims.overtake()
        ips = sorted(wanted.owned.keys() - self._asked if at_once else contested, key=str)
        return [self._again(ip, wanted) for ip in self._claims.defended(ips, now, at_once=at_once)]

    def _again(self, ip: Address, wanted: Desired) -> Announce:
        duty, users = wanted.owned[ip], wanted.announcements[ip].services
        return Announce(ip, duty.interfaces, Occasion.TAKEOVER, users, True, duty.any_subnet, duty.above)

    def _tell_unannounced(self, wanted: Desired) -> list[Effect]:
        """Tell of what no node can announce for want of a link, and of contradictions: one does for all."""
        first = min(self._members, default="") == self.node
        missing = {
            (one.service, one.ip, one.refusal.reason): one.refusal.message
            for one in wanted.unannounced
            if one.refusal.reason is Reason.CONFLICTING_ADVERTISEMENTS
            or (one.refusal.reason is Reason.NO_NODE_LINK and first)
        }
        news = [about for about in missing if about not in self._told]
        self._told = set(missing)
        return [Tell((about[0],), about[1], "Warning", about[2], missing[about]) for about in news]

    def _place(self, now: float) -> list[Effect]:
        """Write down where IPs are to stay or to go, while the API can be written to."""
        if self._membership is None or now < self._place_at or self.api_silent_s(now) > RENEW_EVERY_S * 1.5:
            return []
        self._place_at = self._placement.next_wakeup(now) or float("inf")
        pins = self._placement.advance(self.current.announcements, self.world.pins, self.world.nodes, now)
        if pins is None:
            return []
        self._pinned_at = now
        return [WritePins(pins)]

    def _occasion(self, ip: Address, wanted: Desired, now: float) -> Occasion:
        """Why the segment has to hear of `ip`: what do neighbours believe that is wrong?

        What nobody is known to have answered before is new, and somebody else may have it.
        """
        if ip in self._claims.lent and ip not in self._claims.overtaken:
            return Occasion.REFRESH
        if self._unserved:
            candidates = wanted.announcements[ip].candidates
            before = next((node for node in candidates if node != self.node), None)
            alone = self._members <= {self.node}
            if self._doubted(self.node if self.resumed or before is None else before, ip):
                return Occasion.NEW
            if self.resumed:
                return Occasion.REFRESH if alone else Occasion.TAKEOVER
            return Occasion.NEW if before is None else Occasion.TAKEOVER
        owner = self._owners.get(ip)
        if owner == self.node:
            return Occasion.NEW if ip in self._asked else Occasion.REFRESH
        return Occasion.NEW if owner is None or now < self._proved_at[ip] else Occasion.TAKEOVER

    def _hand_over(self, now: float) -> list[Effect]:
        """Release what others have claimed; at the end, everything."""
        effects: list[Effect] = []
        if self._changed:  # the drain has begun; told again, it is the same
            effects += [SetPeer(peer, None) for peer in self.current.peers]
            self._changed = False
            held = holders(self.world.services.values())
            effects += self._without_owner(lambda ip: ip in held)
        alone = self._membership is None or self._membership.members(now) <= {self.node}
        over = self._claims.end(list(self._claims.lent)) if alone else self._claims.settled(now)
        effects += [Release(ip) for ip in over]
        if not self._claims.lent:
            effects.append(Leave())
            self.current = Desired()
            self.state = lifecycle.step(self.state, Event.HANDED_OVER)
        return effects


def _flapping(ip: Address, moves: int) -> str:
    return (
        f"{ip} moved {moves} times within 3 minutes, so it stays at this node for 3 minutes; "
        "look at the speakers' Leases and logs (members)"
    )
