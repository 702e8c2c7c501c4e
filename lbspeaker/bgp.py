"""BGP on one node: what the decider says becomes sessions, and what they say of themselves comes back.

Each peer has a peering, which runs as a task of its own. One process speaks BFD with the routers of those
that want it.
"""

import asyncio
import math
import time
from collections import defaultdict
from collections.abc import Callable, Coroutine, Iterator, Mapping
from dataclasses import dataclass, field
from ipaddress import IPv4Address
from pathlib import Path
from typing import Any, Literal, Protocol

import structlog

from lbspeaker import detecting
from lbspeaker.core import links as core_links
from lbspeaker.core.announce import PlannedRoute
from lbspeaker.core.words import listed
from lbspeaker.detecting import Detecting
from lbspeaker.model import Address, Family, Link, Network, Peer
from lbspeaker.peering import Peering, PeerStatus
from lbspeaker.wire import status

MOST_NAMED = 3
DRAIN_S = 5.0
SESSION_S = 5.0  # a session that takes longer is a problem
NOTE_S = 1.0
UNSENT_S = 5.0  # and so is a route that is not sent for so long, though the session is up


class Told(Protocol):
    """Who is told of a service (`event`, by "namespace/name"; `announced` from this node) or of the node."""

    def event(self, key: str, kind: Literal["Normal", "Warning"], reason: str, message: str) -> bool: ...

    def announced(self, key: str, protocol: Literal["layer2", "bgp"]) -> None: ...

    def node_event(self, reason: str, message: str, about: str = "") -> None: ...


@dataclass(slots=True)
class Served:
    """A peer: what keeps its session, which routes it should have, and what was said of it.

    `said`: its state, and why it is in it. `down_since`: when (Unix time) it was found without a session.
    `lacking`: the routes that were missing on a session that is up, since when (Unix time).
    `edited`: what it becomes when it is this node's turn, or without a session.
    """

    peering: Peering
    running: asyncio.Task[None]
    routes: Mapping[Network, PlannedRoute] = field(default_factory=dict)
    said: tuple[str, str | None] = ("", None)
    doubt: str | None = None
    down_since: float | None = None
    lacking: Mapping[Network, float] = field(default_factory=dict)
    noted: float = -math.inf  # when (monotonic) it was looked after these
    edited: Peer | None = None

    def note(self, now: PeerStatus) -> None:
        """Note which routes are missing; that takes as long as there are many of them."""
        missing = () if _is_complete(now) else self.peering.unsent()
        at = time.time()
        self.lacking = {prefix: self.lacking.get(prefix, at) for prefix in missing}
        self.noted = time.monotonic()


def _is_complete(now: PeerStatus) -> bool:
    """Whether nothing is missing that a session could carry, or there is none."""
    return now.state != "up" or (now.sent >= now.desired and not now.unservable)


@dataclass(frozen=True, slots=True)
class Word:
    """What is new with a peer."""

    served: Served
    status: PeerStatus


class BGP:
    """The peers of `node`. `spawn` runs a task; what `report` is given shall come back to `heard`.

    `turn_s` says how long this node leaves others the turn, when an edit ends the sessions of all nodes.
    """

    def __init__(
        self,
        node: str,
        runtime_dir: Path,
        told: Told,
        spawn: Callable[[Coroutine[Any, Any, None]], asyncio.Task[None]],
        report: Callable[[Word | detecting.Heard], None],
        turn_s: Callable[[], float] = lambda: 0.0,
    ) -> None:
        self._node = node
        self._runtime_dir = runtime_dir
        self._told = told
        self._spawn = spawn
        self._report = report
        self._turn_s = turn_s
        self._log: Any = structlog.get_logger()
        self._links: tuple[Link, ...] = ()
        self._detecting = Detecting(report)
        self._served: dict[str, Served] = {}
        self._parting: dict[asyncio.Task[None], Served] = {}  # that end in order

    async def run(self) -> None:
        """Keep BFD running, until cancelled."""
        await self._detecting.run()

    async def end(self) -> None:
        """Withdraw everything from everybody at once."""
        for served in self._served.values():
            served.edited = None
        await asyncio.gather(*(_end(one, DRAIN_S) for one in self._served.values()), *self._parting)
        self._served.clear()
        await self._detecting.leave()  # last, as routers end BGP with it

    # -- what is to be done --

    def set_links(self, links: tuple[Link, ...]) -> None:
        self._links = links
        for served in self._served.values():
            served.peering.moved(self._addresses(served.peering.peer))
        self._watch_routers()

    def set_peer(self, name: str, peer: Peer | None) -> None:
        """Have a session with this peer, as it is now; None: have none.

        A session that is up, and must begin anew for that, does so when it is this node's turn: an edit
        reaches all nodes at once, and one of them at least should have its routes at the router.
        """
        present = self._served.pop(name, None)
        if present is not None and (peer is None or not _same_router(peer, present.peering.peer)):
            self._part(present)
            present = None
        if present is not None:
            present.edited = None
        if peer is not None and present is not None and present.peering.adopt(peer):
            self._served[name] = present
        elif peer is not None and present is not None and self._waits_for_turn(present):
            present.edited = peer
            self._served[name] = present
        elif peer is not None:
            self._served[name] = self._serve(peer, present)
            self._begin_bfd(name)
        self._watch_routers()

    def _waits_for_turn(self, served: Served) -> bool:
        wait_s = self._turn_s()
        if served.peering.status.state != "up" or wait_s <= 0:
            return False
        self._log.info("peer-edited", peer=served.peering.peer.name, new_session_in_s=round(wait_s, 1))
        asyncio.get_running_loop().call_later(wait_s, self._take_turn, served)
        return True

    def _take_turn(self, served: Served) -> None:
        """Begin the session anew, if it still has to."""
        name, peer = served.peering.peer.name, served.edited
        if peer is not None and self._served.get(name) is served:
            served.edited = None
            self._served[name] = self._serve(peer, served)
            self.set_routes(name, served.routes)
            self._begin_bfd(name)
            self._watch_routers()

    def set_routes(self, name: str, routes: Mapping[Network, PlannedRoute]) -> None:
        """Announce exactly these routes to this peer."""
        served = self._served.get(name)
        if served is not None:
            served.routes = routes
            served.peering.desire({prefix: planned.route for prefix, planned in routes.items()})

    def _serve(self, peer: Peer, before: Served | None) -> Served:
        """Begin, and where there was one `before`, when that has ended."""
        addresses = self._addresses(peer)
        v4 = addresses.get(4)
        router_id = v4 if isinstance(v4, IPv4Address) else core_links.router_id(self._node)

        def report(now: PeerStatus) -> None:
            self._report(Word(served, now))

        peering = Peering(peer, router_id, addresses, self._runtime_dir, report)
        served = Served(peering, self._spawn(_follow(before, peering)))
        return served

    def _addresses(self, peer: Peer) -> dict[Family, Address]:
        return core_links.addresses_towards(peer.address, self._links) if peer.address else {}

    def _part(self, served: Served) -> None:
        """End the session in order, and BFD only then."""
        task = self._spawn(_end(served, DRAIN_S))
        self._parting[task] = served
        task.add_done_callback(self._parted)

    def _parted(self, task: asyncio.Task[None]) -> None:
        del self._parting[task]
        self._watch_routers()

    def _watch_routers(self) -> None:
        """Have BFD with all routers that want it."""
        parting = [served.peering.peer for served in self._parting.values()]
        peers = {name: served.peering.peer for name, served in self._served.items()}
        wanted = detecting.routers({f"{one.name}, leaving": one for one in parting} | peers, self._links)
        for name in self._detecting.want(wanted):
            self._begin_bfd(name)

    def _begin_bfd(self, name: str) -> None:
        """Let a peer begin anew with what is known of BFD with its router."""
        if name in self._served:
            self._served[name].peering.watch(self._detecting.known(name))

    # -- what is told --

    def heard(self, item: Word | detecting.Heard) -> None:
        if isinstance(item, Word):
            self._changed(item.served, item.status)
            return
        for name, found in self._detecting.heard(item):
            if name in self._served and found is not None:
                self._served[name].peering.hear_bfd(found)
            else:
                self._begin_bfd(name)

    def _changed(self, served: Served, now: PeerStatus) -> None:
        if now.state != "up":
            self._take_turn(served)
        if now.state not in ("idle", "connecting", "held"):
            served.down_since = None
        elif served.down_since is None:
            served.down_since = time.time()
        if _is_complete(now) or time.monotonic() - served.noted > NOTE_S:
            served.note(now)
        if (now.state, now.last_error) != served.said:
            served.said = (now.state, now.last_error)
            self._tell(now)
        if now.doubt and now.doubt != served.doubt:
            self._log.warning("bfd-doubtful", peer=now.name, why=now.doubt)
        served.doubt = now.doubt
        self._tell_unservable(served)
        if now.state == "up" and now.sent >= now.desired:
            for prefix, planned in served.routes.items():
                for key in planned.services if prefix not in now.unservable else ():
                    message = f"announcing {prefix} to {now.name} from {self._node} (BGP)"
                    if self._told.event(key, "Normal", "Announced", message):
                        self._told.announced(key, "bgp")

    def _tell(self, now: PeerStatus) -> None:
        trouble = now.last_error is not None and now.state not in ("up", "draining", "stopped")
        level = self._log.warning if trouble else self._log.info
        fields = {"why": now.last_error} if trouble else {}
        level(f"peer-{now.state}", peer=now.name, routes=now.desired, **fields)
        if trouble:
            message = f"no BGP session with {now.name}: {now.last_error}"
            self._told.node_event("PeerDown", message, now.name)

    def _tell_unservable(self, served: Served) -> None:
        """Say which routes a session cannot carry, each once."""
        name = served.peering.peer.name
        for prefix, refusal in served.peering.unservable.items():
            planned = served.routes.get(prefix)
            for key in planned.services if planned is not None else ():
                message = f"{prefix} is not announced to {name} from {self._node}: {refusal.message}"
                if self._told.event(key, "Warning", refusal.reason.value, message):
                    fields = {"service": key, "prefix": str(prefix), "peer": name}
                    why = refusal.message
                    self._log.warning("unannounced", **fields, reason=refusal.reason.value, why=why)

    # -- for those who ask --

    def not_running(self) -> dict[str, str]:
        """The peers for which no ExaBGP runs, though nothing holds it, and why."""
        statuses = {
            name: served.peering.status
            for name, served in sorted(self._served.items())
            if served.peering.pid is None
        }
        return {name: one.last_error or "not yet" for name, one in statuses.items() if one.state != "held"}

    def rows(self) -> tuple[status.Peer, ...]:
        """Every peer."""
        return tuple(_row(served) for _, served in sorted(self._served.items()))

    def bfd_rows(self) -> tuple[status.BFD, ...]:
        """Every router that is watched."""
        return self._detecting.rows()

    @property
    def restarts(self) -> int:
        """Of the process that speaks BFD."""
        return self._detecting.restarts

    def problems(self) -> list[str]:
        doubts = {name: served.peering.status.doubt for name, served in self._served.items()}
        found = [f"peer {name}: {doubt}" for name, doubt in doubts.items() if doubt]
        now = time.time()
        for name, served in self._served.items():
            if served.down_since is not None and now - served.down_since > SESSION_S:
                why = served.peering.status.last_error or "it has not answered"
                found.append(f"peer {name}: no session for {now - served.down_since:.0f} s: {why}")
            found += [f"peer {name}: {line}" for line in _unsent_lines(_unsent(served))]
        return found + self._detecting.problems()


def unusable_row(peer: Peer, why: str) -> status.Peer:
    """The row of a peer with which no session can be."""
    address, asn = str(peer.address or "auto"), peer.peer_asn or 0
    return status.Peer(peer.name, address, asn, "unusable", 0.0, 0, 0, 0, 0, "", why, peer.port)


def _unsent(served: Served) -> dict[str, str]:
    """Routes that have been missing for long on a session that is up, and why."""
    served.note(served.peering.status)
    unservable = served.peering.unservable if served.lacking else {}
    why = {prefix: f"{one.reason.value}: {one.message}" for prefix, one in unservable.items()}
    long_ago = time.time() - UNSENT_S
    late = "ExaBGP has not sent it yet; if that stays so, look at the log of this speaker"
    return {str(prefix): why.get(prefix, late) for prefix, at in served.lacking.items() if at <= long_ago}


def _unsent_lines(unsent: Mapping[str, str]) -> Iterator[str]:
    """One for all that are missing for the same reason."""
    prefixes: dict[str, list[str]] = defaultdict(list)
    for prefix, why in unsent.items():
        prefixes[why].append(prefix)
    for why, some in prefixes.items():
        verb = "is" if len(some) == 1 else "are"
        yield f"{listed(some, MOST_NAMED)} {verb} not sent, though the session is up: {why}"


def _row(served: Served) -> status.Peer:
    peering, one = served.peering, served.peering.status
    return status.Peer(
        one.name,
        str(peering.peer.address or "auto"),
        peering.peer.peer_asn or 0,
        one.state,
        one.since,
        one.sent,
        one.desired + len(one.unservable),
        one.flaps,
        one.restarts,
        one.bfd,
        one.last_error or "",
        peering.peer.port,
        _unsent(served),
    )


def _same_router(one: Peer, two: Peer) -> bool:
    """Whether the router has one session with this node for the two."""
    return (one.address, one.port) == (two.address, two.port)


async def _follow(before: Served | None, peering: Peering) -> None:
    """Run a peering after the one whose place it takes: a router has one session with one address."""
    if before is not None:
        await _end(before, 0.0)
    await peering.run()


async def _end(served: Served, drain_s: float) -> None:
    """End the session, or let it not begin; and wait for those that it follows."""
    await served.peering.drain(drain_s)
    await served.running
