"""One BGP peer: its session, its child, and the loop that keeps them together.

Each turn reads the clock once, gives what the child has said to the session, asks supervision whether the
child must be replaced, and sends what the session wants to be told. Peers share nothing, so one peer's
trouble stays its own.
"""

import asyncio
import contextlib
import errno
import hashlib
import itertools
import re
import socket
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from ipaddress import IPv4Address, ip_address
from pathlib import Path
from typing import Any

import structlog

from lbspeaker.core.gate import Gate
from lbspeaker.core.session import Session, State
from lbspeaker.core.supervision import Supervision
from lbspeaker.errors import LbspeakerError, Malformed, Unavailable
from lbspeaker.model import (
    Address,
    BFDStatus,
    Family,
    Network,
    Peer,
    Refusal,
    Route,
    SessionUp,
    Teardown,
)
from lbspeaker.shell.child import Child, own_user, shim_command
from lbspeaker.wire import bfd, exabgp

BFD_DOWN = 10  # RFC 9384 §3
GOODBYE_S = 0.3  # to say why a session ends to a router that most likely does not hear it

_serial = itertools.count()  # a peering and the one that replaces it never share a directory


@dataclass(frozen=True, slots=True)
class PeerStatus:
    """How one peer is.

    `state`: idle (not started), connecting, up, held (for a storm or BFD: `last_error`), draining or stopped.
    `since`: Unix time at which the state began. `sent` routes are on the wire, of `desired` that should be;
    `unservable`: those that should, too, and which the session cannot carry.
    `restarts` counts children after the first, `flaps` sessions that ended. `bfd`: its state in a word, ""
    without; `doubt`: what is worth a word about it, though BGP may be up.
    """

    name: str
    state: str
    since: float
    sent: int
    desired: int
    last_error: str | None
    restarts: int
    flaps: int
    bfd: str = ""
    doubt: str | None = None
    unservable: tuple[Network, ...] = ()


def local_address_towards(address: Address) -> Address:
    """Return the address from which the kernel would reach `address`; no packet is sent.

    Raises Unavailable if there is no route.
    """
    try:
        with _datagrams(address) as probe:
            probe.connect((str(address), 9))
            return ip_address(probe.getsockname()[0])
    except OSError as error:
        why = error.strerror or error
        raise Unavailable(f"no way to {address}: {why}", "check this node's routes") from error


def check_source(source: Address, address: Address) -> None:
    """Raises Unavailable if this node cannot dial `address` from `source`, which is not its own."""
    try:
        with _datagrams(source) as probe:
            probe.bind((str(source), 0))
    except OSError as error:
        if error.errno != errno.EADDRNOTAVAIL:
            return  # whoever dials will hear of it
        raise Unavailable(
            f"sourceAddress {source} is no address of this node,"
            f" which reaches {address} from {local_address_towards(address)}",
            "remove it, or give each node a BGPPeer of its own (nodeSelectors)",
        ) from error


def _datagrams(address: Address) -> socket.socket:
    return socket.socket(socket.AF_INET if address.version == 4 else socket.AF_INET6, socket.SOCK_DGRAM)


def _session_of(peer: Peer) -> Peer:
    """What of `peer` a child depends on: not who has it, whence the password is, and what BFD makes of it."""
    return replace(peer, node_selectors=(), password_secret=None, ebgp_multihop=False, bfd=None)


def directory_name(peer: str) -> str:
    """A short file name for `peer`, whose own name may be long and may hold any character."""
    readable = re.sub(r"[^A-Za-z0-9-]", "-", peer)[:20]
    return f"bgp-{readable}-{hashlib.sha256(peer.encode()).hexdigest()[:8]}"


def is_own(address: Address) -> bool:
    """Whether `address` is one of this node: only those are reached from themselves."""
    try:
        return local_address_towards(address) == address
    except Unavailable:
        return False


class Peering:
    """Keeps `peer` supplied with the routes that are desired.

    `router_id`: of this node; it stays, whatever becomes of the addresses. `addresses`: this node's, of each
    family the nearest to the router.
    """

    def __init__(
        self,
        peer: Peer,
        router_id: IPv4Address,
        addresses: Mapping[Family, Address],
        runtime_dir: Path,
        report: Callable[[PeerStatus], None],
    ) -> None:
        self._peer = peer
        self._router_id = peer.router_id or router_id
        self._addresses = addresses
        self._moved = False  # `addresses` are others than the child knows of
        self._local: Address | None = None  # from which it dials
        self._directory = runtime_dir / f"{directory_name(peer.name)}-{next(_serial)}"
        self._report = report
        self._session = Session(peer)
        self._gate = Gate(peer.address)
        self._fallen: str | None = None  # why BFD wants the session to end
        self._waits: str | None = None  # why BFD wants none to begin
        self._supervision = Supervision(peer.connect_s)
        self._child: Child | None = None
        self._inbox: list[bytes] = []
        self._child_error: str | None = None
        self._log: Any = structlog.get_logger()
        self._wake = asyncio.Event()
        self._drain_until: float | None = None
        self._held = False
        self._starts = 0
        self._running: asyncio.Task[None] | None = None
        self._status = PeerStatus(peer.name, State.IDLE, time.time(), 0, 0, None, 0, 0)

    @property
    def status(self) -> PeerStatus:
        return self._status

    @property
    def peer(self) -> Peer:
        return self._peer

    def adopt(self, peer: Peer) -> bool:
        """Go on with `peer`, if the session itself stays as it is."""
        same = _session_of(peer) == _session_of(self._peer)
        if same:
            self._peer = peer
        return same

    def moved(self, addresses: Mapping[Family, Address]) -> None:
        """This node has these addresses now."""
        self._addresses, self._moved = addresses, True
        self._wake.set()

    def watch(self, status: BFDStatus | None) -> None:
        """From now on another session of BFD counts, which is like this; None: BFD is not spoken."""
        self._gate.watch(self._now(), watched=status is not None)
        if status is not None:
            self.hear_bfd(status)
        self._wake.set()

    def hear_bfd(self, status: BFDStatus) -> None:
        """BFD with the router is like this."""
        why = bfd.diagnostic(status.diagnostic)
        self._fallen = self._gate.heard(status, why, self._now()) or self._fallen
        self._wake.set()

    @property
    def unservable(self) -> Mapping[Network, Refusal]:
        """Desired routes that this session cannot carry, and why."""
        return self._session.unservable

    def unsent(self) -> list[Network]:
        """Desired routes that are not on the wire."""
        return self._session.unsent()

    @property
    def pid(self) -> int | None:
        """The process id of the child that runs."""
        return self._child.pid if self._child else None

    def desire(self, routes: Mapping[Network, Route]) -> None:
        """From now on the peer should have `routes`, and nothing else."""
        self._session.desire(routes, self._now())
        self._wake.set()

    async def run(self) -> None:
        """Keep the session, until cancelled or drained. Whatever goes wrong shows in the status."""
        self._running = asyncio.current_task()
        try:
            while self._drain_until is None:
                await self._rest()
                if self._drain_until is None and await self._start():
                    await self._serve()
        finally:
            await self._end(None)
            self._running = None

    async def drain(self, timeout_s: float) -> None:
        """Withdraw everything, wait until that is on the wire, and end the session and the child.

        Routes are announced as leaving for a second before, so that the router prefers others; and the peer
        sees a Cease, if there is time. With `timeout_s` 0 the child just ends, for one that takes its place
        at once. Takes `timeout_s` at most, and the 2 s in which a child must end when it is told to; but a
        child that is being started is waited for before.
        """
        now = self._now()
        self._drain_until = now + timeout_s
        if timeout_s:
            self._session.drain(now)
        else:
            self._session.stop(now)
        self._wake.set()
        if self._running is not None:
            await asyncio.wait({self._running})
        self._tell()

    # --- the life of a child ----------------------------------------------------------------------------

    async def _rest(self) -> None:
        """Wait until the next child may start."""
        while self._drain_until is None:
            now = self._now()
            wait_s = self._supervision.start_at - now
            self._waits = self._gate.shut(now)
            if wait_s <= 0 and self._waits is None:
                return
            self._tell()
            await self._wait(wait_s if wait_s > 0 else self._until(now, [self._gate.next_wakeup(now)]))

    async def _start(self) -> bool:
        child = Child(self._directory, self._hear, self._lose)
        self._inbox, self._child_error, self._held, self._fallen = [], None, False, None
        self._moved = False
        try:
            address = exabgp.address_of(self._peer)
            local = self._local = self._source()
            text = exabgp.configuration(self._peer, local, self._router_id, shim_command(self._directory))
            check_source(local, address)
            await child.start(text, exabgp.environment(own_user(), self._peer.connect_s))
        except (LbspeakerError, OSError) as error:  # whatever it is, it is this peer's alone
            now = self._now()
            self._session.ended(str(error), now)
            self._supervision.ended(now)
            self._tell()
            return False
        self._child = child
        self._starts += 1
        self._session.started(self._next_hops(local), self._now())
        return True

    async def _serve(self) -> None:
        """Talk with the child until it must be replaced, has ended, or is drained."""
        while True:
            now = self._now()
            self._take(now)
            if self._child_error is not None:
                self._supervision.ended(now)
                await self._end(self._child_error)
                return
            if self._fallen is not None and self._drain_until is None:
                await self._tear_down(self._fallen)
                return
            if self._moved and not self._stays():
                await self._end(None)
                return
            verdict = self._supervision.judge(
                self._session.view, self._session.stuck, self._session.misconfigured, now
            )
            if verdict is not None:
                self._held = not verdict.quietly and self._supervision.start_at > now
                await self._end(None if verdict.quietly else verdict.reason)
                return
            for command in self._session.advance(now):
                self._send(exabgp.build(command, self._peer.my_asn))
            self._tell()
            if self._drained(now):
                return
            await self._wait(self._until_next(now))

    def _source(self) -> Address:
        """From which address of this node to dial. Raises Unavailable, or Unable."""
        return self._peer.source_address or local_address_towards(exabgp.address_of(self._peer))

    def _stays(self) -> bool:
        """Whether the child that runs fits this node's addresses; its routes then get their next hops anew.

        It does not where it dials from another one than it should. A session that is up stays on its own
        while the node has that, and where there is no way at all, there is none for another child either.
        """
        self._moved = False
        assert self._local is not None
        try:
            connecting = self._session.view.state is State.CONNECTING
            if (connecting or not is_own(self._local)) and self._source() != self._local:
                return False
        except LbspeakerError:
            pass
        self._session.reach(self._next_hops(self._local))
        return True

    async def _tear_down(self, why: str) -> None:
        """BFD has lost the router: end the session, and say so in case that it hears it."""
        self._waits = why
        self._send(exabgp.build(Teardown(BFD_DOWN), self._peer.my_asn))
        until = self._now() + GOODBYE_S
        while self._session.view.state is State.UP and self._child_error is None and self._now() < until:
            await self._wait(until - self._now())
            self._take(self._now())
        await self._end(why)

    async def _end(self, error: str | None) -> None:
        child, self._child = self._child, None
        if child is not None:
            await child.stop()
            self._session.ended(error, self._now())
        self._tell()

    def _drained(self, now: float) -> bool:
        if self._drain_until is None:
            return False
        return self._session.view.state is State.STOPPED or now >= self._drain_until

    # --- one turn ---------------------------------------------------------------------------------------

    def _take(self, now: float) -> None:
        """Give the session what the child has said."""
        lines, self._inbox = self._inbox, []
        for line in lines:
            try:
                event = exabgp.parse(line)
            except Malformed as error:
                self._child_error = str(error)
                return
            self._session.receive(event, now)
            if isinstance(event, SessionUp):
                self._supervision.came_up(now)

    def _send(self, line: str) -> None:
        if self._child is not None:
            self._log.debug("told", peer=self._peer.name, line=line)
            self._child.send(line)

    def _until_next(self, now: float) -> float | None:
        moments = [self._session.next_wakeup(), self._supervision.next_wakeup(self._session.view)]
        return self._until(now, [*moments, self._gate.next_wakeup(now), self._drain_until])

    def _until(self, now: float, moments: Sequence[float | None]) -> float | None:
        known = [when for when in moments if when is not None]
        return max(0.0, min(known) - now) if known else None

    async def _wait(self, timeout_s: float | None) -> None:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(timeout_s):
                await self._wake.wait()
        self._wake.clear()

    def _hear(self, line: bytes) -> None:
        self._inbox.append(line)
        self._wake.set()

    def _lose(self, error: str) -> None:
        self._child_error = error
        self._wake.set()

    def _next_hops(self, local: Address) -> dict[Family, Address]:
        """By family: this end of the session, and this node's address of the other family, if it has one."""
        return {**self._addresses, local.version: local}

    def _now(self) -> float:
        return time.monotonic()

    def _tell(self) -> None:
        """Report the status, if it is another one."""
        view = self._session.view
        state = str(view.state)
        if view.state is State.IDLE and (self._starts or view.last_error or self._waits):
            state = "held" if self._held or self._waits else str(State.CONNECTING)
        since = self._status.since if state == self._status.state else time.time()
        status = PeerStatus(
            self._peer.name,
            state,
            since,
            view.on_wire,
            view.desired,
            (self._waits if state == "held" else None) or view.last_error,
            max(0, self._starts - 1),
            view.flaps,
            self._gate.state,
            self._gate.complaint(self._now()),
            tuple(self.unservable),
        )
        if status != self._status:
            self._status = status
            self._report(status)
