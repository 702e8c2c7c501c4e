"""What BFD says about a BGP session: when it must end at once, and when it must wait (RFC 5882 §4).

* A fall from up is a failure: the session ends, and waits for BFD.
* A router that shuts BFD down (AdminDown) says nothing about the path: the session stays (RFC 5882 §4.2).
* While the router speaks BFD and it is not up, the path does not work in both directions: no new session.
* A router that is silent for 3 s has no BFD session with us now, for who has one says something each second
  (RFC 5880 §6.8.3). Then BGP goes first: where BFD was never configured, and with routers that begin BFD only
  when BGP is up.

So a session that BFD has ended is not back before BFD, or before the router has been silent for so long. The
cause of its end stays the reason until then, whatever BFD goes through meanwhile.
"""

import math

from lbspeaker.model import BFDState, BFDStatus, Peer

SILENT_S = 3.0
COMPLAIN_S = 10.0  # without BFD for so long is worth a word


def over_hops(peer: Peer, *, near: bool) -> bool:
    """Whether BFD with this router may go over several hops; `near`: it is in the network of a link."""
    return peer.ebgp_multihop or (peer.ttl_hops or 1) > 1 or (peer.ibgp and not near)


class Gate:
    """Between BFD and BGP of one router, watched or not; `address` is what it is called in messages."""

    def __init__(self, address: object) -> None:
        self._address = address
        self._watched = False
        self._status = BFDStatus(BFDState.DOWN)
        self._shut_down = False  # the router's last word was AdminDown
        self._since = 0.0  # since then both speak, and BFD is not up
        self._silent_since = 0.0
        self._fell_at = -math.inf
        self._why = ""  # why it fell, for as long as BGP waits since then

    @property
    def state(self) -> str:
        """In a word; "": not watched."""
        if not self._watched:
            return ""
        if self._shut_down:
            return "shut-down"
        status = self._status
        return str(status.state.name.lower()) if status.heard or status.diagnostic else "silent"

    def watch(self, now: float, *, watched: bool) -> None:
        """From now on BFD is spoken with it, or not; what was known before counts no more."""
        self._watched = watched
        self._status = BFDStatus(BFDState.DOWN)
        self._shut_down = False
        self._since = self._silent_since = now
        self._fell_at, self._why = -math.inf, ""

    def heard(self, status: BFDStatus, why: str, now: float) -> str | None:
        """BFD is like this now, and `why` says its diagnostic; return why the session must end, if so."""
        if self.shut(now) is None:
            self._fell_at, self._why = -math.inf, ""
        before, self._status = self._status, status
        spoke = before.heard and not self._shut_down
        if not status.heard and before.heard:
            self._silent_since = now
        if status.heard:
            self._shut_down = status.remote_state is BFDState.ADMIN_DOWN
        if not spoke or (before.state is BFDState.UP and status.state is not BFDState.UP):
            self._since = now
        if before.state is not BFDState.UP or status.state is BFDState.UP or self._shut_down:
            return None
        self._fell_at, self._why = now, f"BFD with {self._address} is down: {why}"
        return self._why

    def shut(self, now: float) -> str | None:
        """Why BGP must wait; None: it need not."""
        if not self._watched or self._shut_down or self._status.state is BFDState.UP:
            return None
        if self._status.heard:
            return self._why or f"waits for BFD with {self._address}, which is not up yet"
        return self._why if now < self._fell_at + SILENT_S else None

    def complaint(self, now: float) -> str | None:
        """What is worth a word about BFD, though BGP may be up."""
        if not self._watched or self._status.state is BFDState.UP:
            return None
        if self._shut_down:
            return f"BFD is shut down on the router at {self._address}; BGP goes on without it"
        if not self._status.heard and now >= self._silent_since + COMPLAIN_S:
            return (
                f"no BFD from {self._address} for {COMPLAIN_S:.0f} s;"
                " is bfd configured there for this neighbour?"
            )
        if self._status.heard and now >= self._since + COMPLAIN_S:
            return (
                f"{self._address} speaks BFD, and it does not come up for {COMPLAIN_S:.0f} s;"
                " does a firewall there drop it (UDP 3784, several hops 4784), or is its TTL too low?"
            )
        return None

    def next_wakeup(self, now: float) -> float | None:
        """When one of the answers may be another one, if nothing is heard before."""
        if not self._watched:
            return None
        moments = (self._fell_at + SILENT_S, self._silent_since + COMPLAIN_S, self._since + COMPLAIN_S)
        return min((moment for moment in moments if moment > now), default=None)
