"""One BGP session as desired state against the wire.

The engine is an ExaBGP child that is told commands and reports which updates it has sent. Between the two it
re-orders: changes that wait are grouped by their attributes, groups go out in the order in which they were
first seen, the first batch of a session leaves out withdrawals, and an announcement equal to what it already
holds is dropped. So two quick changes of one prefix may end in the wrong one. The rules that make it right:

* act only while the session is up; on down forget what is on the wire, for the peer has forgotten it too;
* one command per prefix at a time: the next one waits until the first is seen on the wire, or for 1 s
  without any update; what changed meanwhile is coalesced, for only the latest desire is looked at;
* a child that loses its session keeps what it was told and sends it again by itself when it is back: expect
  that, and correct only what differs;
* what the wire shows and nobody desires is withdrawn, with the attributes with which it was announced;
* a route whose next hop is another one by now is announced anew, though nothing else of it has changed;
* what was told and is not on the wire after 1 s is asked for again, then after 2 and 4 s, for a child may
  also be slow; after three times it is given up.

    IDLE ──started──▶ CONNECTING ──SessionUp──▶ UP ──drain──▶ LEAVING ──1 s──▶ DRAINING ──gone──▶ STOPPED
      ◀──ended─────────────┘ ◀──SessionDown──────┘ └──stop──────────────────────────────────────────▲

Who leaves says so first: every route is announced once more with the community GRACEFUL_SHUTDOWN (RFC 8326
§4), so that the router prefers others before these are withdrawn.
"""

import enum
import math
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from itertools import groupby

from lbspeaker.core import endings, fit
from lbspeaker.model import (
    Address,
    Announce,
    EndOfRib,
    EndOfRibSent,
    Family,
    Negotiated,
    Network,
    Peer,
    Ping,
    Reason,
    Refusal,
    Resend,
    Route,
    Sent,
    SessionCommand,
    SessionDown,
    SessionEvent,
    SessionUp,
    Teardown,
    Withdraw,
)

CONFIRM_S = 1.0  # a command is overdue when nothing at all was sent for so long; doubled each time
CONFIRM_MAX_S = 8.0
PATIENCE_S = 30.0  # or when it is so old, whatever else is sent
TRIES = 3  # how often a prefix is asked for before it is given up
BATCH = 500  # prefixes in one command
WINDOW = 1000  # prefixes on their way: what waits here can still change for free
LEAVE_S = 1.0  # between the word that a route is about to go, and its end
QUIET_S = 5.0  # silence after which the child is asked for a sign of life
SILENT_S = 10.0  # and how long it may take to give one
NO_ANSWER_S = 10.0  # a router that neither accepts nor refuses an attempt for so long is worth a word
DEFAULT_LOCAL_PREF = 100  # what ExaBGP sends on iBGP when it is told nothing


class State(enum.StrEnum):
    IDLE = "idle"  # no child
    CONNECTING = "connecting"
    UP = "up"
    LEAVING = "leaving"
    DRAINING = "draining"
    STOPPED = "stopped"  # drained: to be ended


_ENDING = (State.LEAVING, State.DRAINING, State.STOPPED)


@dataclass(frozen=True, slots=True)
class View:
    """A session as others may see it. `since`: when the state began, on the clock of its caller."""

    state: State
    since: float
    last_error: str | None
    desired: int
    on_wire: int
    flaps: int


def usable_next_hop(address: Address) -> bool:
    """Whether a router can use `address`; any other would make it reset the session (RFC 7606 §7.3)."""
    return not (
        address.is_unspecified or address.is_multicast or address.is_loopback or address.is_link_local
    )


class Session:
    """Decides what a child must be told so that the wire shows what is desired."""

    def __init__(self, peer: Peer) -> None:
        self._peer = peer
        self._state = State.IDLE
        self._since = 0.0
        self._last_error: str | None = None
        self._misconfigured = False
        self._flaps = 0
        self._next_hops: Mapping[Family, Address] = {}
        self._families: frozenset[Family] | None = None  # None: not negotiated yet
        self._asked_for: Mapping[Network, Route] = {}  # as the caller gave it
        self._desired: dict[Network, Route] = {}  # what of it can be served, as it will look on the wire
        self._unservable: dict[Network, Refusal] = {}
        self._given_up: dict[Network, Route] = {}
        self._told: dict[Network, Route] = {}  # what the child holds
        self._by: dict[Network, Address] = {}  # with which next hop it was told last
        self._wire: dict[Network, Route] = {}  # what the peer holds
        self._waiting: dict[Network, float] = {}  # on its way since
        self._dirty: dict[Network, None] = {}  # to be looked at, in this order
        self._tries: dict[Network, int] = {}
        self._initial: set[Network] | None = None  # still missing before End-of-RIB; None: marked
        self._progress = 0.0
        self._confirm_s = CONFIRM_S
        self._heard = 0.0
        self._pinged: float | None = None
        self._silent_at = math.inf  # then the router has not answered for so long
        self._torn_down = False
        self._farewell_at: float | None = None  # when every route was on the wire as about to go
        self._stuck: str | None = None

    # --- what others may know ---------------------------------------------------------------------------

    @property
    def view(self) -> View:
        return View(
            self._state,
            self._since,
            self._last_error,
            len(self._desired),
            len(self._wire),
            self._flaps,
        )

    @property
    def unservable(self) -> dict[Network, Refusal]:
        """Desired routes that this session cannot carry, and why."""
        given_up = {
            prefix: Refusal(Reason.REFUSED_BY_CHILD, f"ExaBGP was told {TRIES} times and never sent it")
            for prefix in self._given_up
        }
        return self._unservable | given_up

    def unsent(self) -> list[Network]:
        """Which routes should be with the peer and are not on the wire."""
        return [prefix for prefix in self._asked_for if prefix not in self._wire]

    @property
    def stuck(self) -> str | None:
        """Why this child must be replaced, if it must."""
        return self._stuck

    @property
    def misconfigured(self) -> bool:
        """Whether the last attempt failed for what only a person can change (RFC 4271 §6.2)."""
        return self._misconfigured

    # --- what happens -----------------------------------------------------------------------------------

    def desire(self, routes: Mapping[Network, Route], now: float) -> None:
        """From now on `routes` should be with the peer, and nothing else."""
        if self._state not in _ENDING:
            self._asked_for = dict(routes)
            self._assess()

    def started(self, next_hops: Mapping[Family, Address], now: float) -> None:
        """A child runs, and holds nothing; `next_hops`: what routes of each family are reached by."""
        self._forget_child()
        self._next_hops = _usable(next_hops)
        self._heard, self._pinged, self._stuck = now, None, None
        self._misconfigured, self._silent_at = False, now + NO_ANSWER_S
        if self._state not in _ENDING:
            self._enter(State.CONNECTING, now)
        self._assess()

    def reach(self, next_hops: Mapping[Family, Address]) -> None:
        """This node has other addresses: from now on routes of each family are reached by these."""
        if _usable(next_hops) == self._next_hops:
            return
        self._next_hops = _usable(next_hops)
        self._assess()
        self._dirty |= dict.fromkeys(prefix for prefix in self._wire if not self._is_right(prefix))

    def ended(self, error: str | None, now: float) -> None:
        """The child is gone."""
        if self._state is State.UP:
            self._flaps += 1
        self._forget_child()
        self._last_error = error or self._last_error
        if self._state not in _ENDING:
            self._enter(State.IDLE, now)
        else:
            self._enter(State.STOPPED, now)

    def receive(self, event: SessionEvent, now: float) -> None:
        """The child reports `event`."""
        self._heard, self._pinged = now, None
        match event:
            case Sent(announced, withdrawn):
                self._sent(announced, withdrawn, now)
            case Negotiated(families):
                self._families = families
                self._assess()
            case SessionUp():
                self._up(now)
            case SessionDown():
                self._down(event, now)
            case EndOfRibSent():
                self._progress = now
            case _:
                pass

    def drain(self, now: float) -> None:
        """Say that everything goes, withdraw it, and when nothing is left on the wire, end the session."""
        if self._state in _ENDING:
            return
        if self._state is not State.UP:
            self.stop(now)
            return
        self._last_error = None  # it was of an attempt before: this session ends because it shall
        self._asked_for = {prefix: route.leaving() for prefix, route in self._asked_for.items()}
        self._assess()
        self._enter(State.LEAVING if self._asked_for else State.DRAINING, now)

    def stop(self, now: float) -> None:
        """End without a word: the child is told nothing more."""
        self._asked_for = {}
        self._assess()
        self._enter(State.STOPPED, now)

    def advance(self, now: float) -> list[SessionCommand]:
        """What the child must be told now."""
        if self._state is State.LEAVING and self._farewell_at is None and not (self._waiting or self._dirty):
            self._farewell_at = now
        if self._state is State.LEAVING and now >= self._leaves_at():
            self._asked_for = {}
            self._assess()
            self._enter(State.DRAINING, now)
        if self._state in (State.UP, State.LEAVING, State.DRAINING):
            commands = self._overdue(now) + self._changes(now) + self._end_of_rib() + self._teardown()
        else:
            commands = []
            self._complain(now)
        return commands + self._ping(now)

    def next_wakeup(self) -> float | None:
        """When `advance` should be called next, if nothing happens before; None: not at all."""
        if self._state in (State.IDLE, State.STOPPED):
            return None
        leaves = [self._leaves_at()] if self._state is State.LEAVING else []
        times = [*leaves, self._heard + QUIET_S if self._pinged is None else self._pinged + SILENT_S]
        if self._waiting and self._state is not State.CONNECTING:
            oldest = next(iter(self._waiting.values()))
            times.append(min(max(oldest, self._progress) + self._confirm_s, oldest + PATIENCE_S))
        if self._state is State.CONNECTING:
            times.append(self._silent_at)
        return min(times)

    def _leaves_at(self) -> float:
        """A moment after the router has been told; and not much later, if it does not take it."""
        told = self._since + LEAVE_S if self._farewell_at is None else self._farewell_at
        return told + LEAVE_S

    # --- desire -----------------------------------------------------------------------------------------

    def _assess(self) -> None:
        """Sort what is asked for into what can be served and what cannot; note what changed."""
        before = self._desired
        self._desired, self._unservable = {}, {}
        for prefix, route in self._asked_for.items():
            sent = self._as_sent(route)
            refusal = self._refuse(prefix.version) or self._too_long(sent)
            if refusal:
                self._unservable[prefix] = refusal
            else:
                self._desired[prefix] = sent
        for prefix in before.keys() | self._desired.keys():
            if before.get(prefix) != self._desired.get(prefix):
                self._dirty[prefix] = None
                self._given_up.pop(prefix, None)

    def _refuse(self, family: Family) -> Refusal | None:
        if self._state is not State.IDLE and family not in self._next_hops:
            return Refusal(
                Reason.NO_NEXT_HOP,
                f"BGPPeer/{self._peer.name}: this node has no IPv{family} address that can be the next hop"
                f" on a session with {self._peer.address}; add a peer with an IPv{family} address",
            )
        if self._families is not None and family not in self._families:
            return Refusal(
                Reason.FAMILY_NOT_NEGOTIATED,
                f"BGPPeer/{self._peer.name}: the router does not take IPv{family} routes on this session;"
                f" activate the family ipv{family} unicast for this neighbor on the router",
            )
        return None

    def _too_long(self, route: Route) -> Refusal | None:
        if fit.fits(route, path=0 if self._peer.ibgp else route.prepend + 1):
            return None
        return Refusal(
            Reason.REFUSED_BY_CHILD,
            f"BGPPeer/{self._peer.name}: {len(route.communities)} communities do not fit into an UPDATE of"
            f" {fit.MESSAGE} bytes; name fewer in the BGPAdvertisements",
        )

    def _as_sent(self, route: Route) -> Route:
        """`route` as it appears on the wire.

        Local preference exists within one AS only (RFC 4271 §5.1.5), and a path between two only (§5.1.2).
        """
        local_pref, prepend = None, route.prepend
        if self._peer.ibgp:
            local_pref = DEFAULT_LOCAL_PREF if route.local_pref is None else route.local_pref
            prepend = 0
        return Route(route.prefix, local_pref, tuple(sorted(set(route.communities))), route.med, prepend)

    # --- the session's life -----------------------------------------------------------------------------

    def _enter(self, state: State, now: float) -> None:
        if state is not self._state:
            self._state, self._since = state, now

    def _forget_child(self) -> None:
        for known in (self._told, self._wire, self._waiting, self._tries, self._given_up, self._dirty):
            known.clear()
        self._by.clear()
        self._families, self._initial = None, None

    def _up(self, now: float) -> None:
        if self._state in _ENDING:
            return  # torn down, and back before it could be ended
        self._wire.clear()
        self._given_up.clear()
        self._tries.clear()
        # What the child holds, it sends by itself. A withdrawal that was on its way may come or not.
        self._waiting = dict.fromkeys([*self._told, *self._waiting], now)
        self._initial = self._desired.keys() | self._told.keys()
        self._dirty = dict.fromkeys(self._desired)
        self._progress, self._confirm_s = now, CONFIRM_S
        self._misconfigured = False
        self._enter(State.UP, now)

    def _down(self, event: SessionDown, now: float) -> None:
        self._silent_at = now + self._peer.connect_s + NO_ANSWER_S  # it is dialled again only then
        if self._state in _ENDING:
            self._enter(State.STOPPED, now)
            return
        self._misconfigured = endings.hopeless(event)
        self._last_error = endings.explain(self._peer, event, was_up=self._state is State.UP)
        self._flaps += self._state is State.UP
        self._wire.clear()
        self._waiting = {p: asked for p, asked in self._waiting.items() if p not in self._told}
        self._families = None
        self._enter(State.CONNECTING, now)
        self._assess()

    def _complain(self, now: float) -> None:
        if self._state is not State.CONNECTING or now < self._silent_at:
            return
        self._silent_at = math.inf
        password = ", are the passwords the same" if self._peer.password else ", does it want a password"
        self._last_error = (
            f"no answer from {self._peer.address} port {self._peer.port} for {NO_ANSWER_S:.0f} s;"
            f" is the router up, the port open{password}?"
        )

    # --- the wire ---------------------------------------------------------------------------------------

    def _sent(self, announced: Iterable[Route], withdrawn: Iterable[Network], now: float) -> None:
        self._progress = now
        for prefix in withdrawn:
            self._wire.pop(prefix, None)
            self._seen(prefix)
        for route in announced:
            self._wire[route.prefix] = self._as_sent(route)
            self._seen(route.prefix)

    def _seen(self, prefix: Network) -> None:
        """The wire says something about `prefix`: the answer to our command, or a surprise."""
        have = self._wire.get(prefix)
        if prefix in self._waiting and have == self._told.get(prefix):
            del self._waiting[prefix]
            self._tries.pop(prefix, None)
            if self._initial:
                self._initial.discard(prefix)
        if not self._is_right(prefix):
            self._dirty[prefix] = None
        else:
            self._given_up.pop(prefix, None)

    def _is_right(self, prefix: Network) -> bool:
        """Whether the wire shows what is desired, with the next hop that it should have."""
        want = self._desired.get(prefix)
        if want is None or prefix not in self._by:
            return want == self._wire.get(prefix)
        return want == self._wire.get(prefix) and self._by[prefix] == self._next_hops[prefix.version]

    def _is_told(self, route: Route) -> bool:
        """Whether this is what the child holds."""
        prefix = route.prefix
        return self._told.get(prefix) == route and self._by.get(prefix) == self._next_hops[prefix.version]

    def _overdue(self, now: float) -> list[SessionCommand]:
        """Give a second thought to commands whose update was not seen in time."""
        if not self._waiting:
            self._confirm_s = CONFIRM_S
            return []
        stalled = now >= self._progress + self._confirm_s
        late = [
            prefix
            for prefix, asked in self._waiting.items()
            if now >= asked + (self._confirm_s if stalled else PATIENCE_S)
        ]
        if stalled and late:
            self._confirm_s = min(2 * self._confirm_s, CONFIRM_MAX_S)
        again = [prefix for prefix in late if self._reconsider(prefix, now)]
        return [Resend()] if again else []

    def _reconsider(self, prefix: Network, now: float) -> bool:
        """Decide about one overdue prefix; True: everything the child holds must be sent again."""
        del self._waiting[prefix]
        want, have = self._desired.get(prefix), self._wire.get(prefix)
        if self._initial:
            self._initial.discard(prefix)
        if self._is_right(prefix):
            return False
        tries = self._tries[prefix] = self._tries.get(prefix, 0) + 1
        if tries >= TRIES and want is not None and have is None:
            self._given_up[prefix] = want
        elif tries >= TRIES:
            self._stuck = f"ExaBGP does not {'change' if want else 'withdraw'} {prefix}"
        elif want is not None and self._is_told(want):
            self._waiting[prefix] = now
            return True
        else:
            self._dirty[prefix] = None
        return False

    def _changes(self, now: float) -> list[SessionCommand]:
        """Commands for the prefixes that differ, as many as the window allows."""
        announce: dict[Address, list[Route]] = defaultdict(list)
        withdraw: dict[Address, list[Route]] = defaultdict(list)
        resend = False
        for prefix in list(self._dirty):
            if len(self._waiting) >= WINDOW:
                break
            del self._dirty[prefix]
            if prefix in self._waiting:
                continue
            if self._is_right(prefix) or prefix in self._given_up:
                if self._initial:
                    self._initial.discard(prefix)  # it went before its turn came
                continue
            self._waiting[prefix] = now
            want = self._desired.get(prefix)
            if want is None:
                self._told.pop(prefix, None)
                hop = self._by[prefix] if prefix in self._by else self._next_hops[prefix.version]
                withdraw[hop].append(self._wire[prefix])
            elif self._is_told(want):
                resend = True
            else:
                self._told[prefix] = want
                self._by[prefix] = self._next_hops[prefix.version]
                announce[self._by[prefix]].append(want)
        commands: list[SessionCommand] = [Resend()] if resend else []
        commands += [Withdraw(batch, hop) for hop, routes in withdraw.items() for batch in batches(routes)]
        commands += [Announce(batch, hop) for hop, routes in announce.items() for batch in batches(routes)]
        return commands

    def _end_of_rib(self) -> list[SessionCommand]:
        if self._initial is None or self._initial:
            return []
        self._initial = None
        return [EndOfRib(family) for family in sorted(self._families or ())]

    def _teardown(self) -> list[SessionCommand]:
        if self._state is not State.DRAINING or self._wire or self._waiting or self._torn_down:
            return []
        self._torn_down = True
        return [Teardown()]

    def _ping(self, now: float) -> list[SessionCommand]:
        if self._state in (State.IDLE, State.STOPPED):
            return []
        if self._pinged is not None:
            if now >= self._pinged + SILENT_S:
                self._stuck = f"ExaBGP has not answered for {SILENT_S:.0f} s"
            return []
        if now < self._heard + QUIET_S:
            return []
        self._pinged = now
        return [Ping()]


def _usable(next_hops: Mapping[Family, Address]) -> dict[Family, Address]:
    return {family: hop for family, hop in next_hops.items() if usable_next_hop(hop)}


def batches(routes: Iterable[Route]) -> Iterable[tuple[Route, ...]]:
    """Group `routes` by family and attributes, at most BATCH in each group."""

    def attributes(route: Route) -> tuple[object, ...]:
        med = -1 if route.med is None else route.med
        return route.prefix.version, route.local_pref or 0, route.communities, med, route.prepend

    for _, group in groupby(sorted(routes, key=attributes), key=attributes):
        same = tuple(group)
        for start in range(0, len(same), BATCH):
            yield same[start : start + BATCH]
