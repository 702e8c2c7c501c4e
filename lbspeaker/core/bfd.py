"""One BFD session (RFC 5880 §6.8): asynchronous mode, without echo and without authentication.

              ┌────────────── the detection time passes; the other end says Down or AdminDown ─────────┐
              ▼                                                                                        │
    ──▶ DOWN ──it says Down──▶ INIT ──it says Init or Up──▶ UP ────────────────────────────────────────┘
          └────────────it says Init─────────────────────────▲     (INIT falls back the same way)

    any ──drain──▶ ADMIN_DOWN

What is sent: a packet at each interval, jittered; at once, when it says something new; and the answer (F) to
a poll (P). The interval is the longer one of what we wish and what the other end can take, and not below one
second unless the session is up. Up, a change of an interval is told with P until F comes back. What would
surprise the other end if it did not know yet, to send less often or to be less patient, waits for that F.

Demand mode is the other end's wish to be left alone. It is not granted: packets that are sent all the same
harm nobody.

The engine reads no clock: `receive` puts in, `advance` says what to send and what has changed, in order.
"""

import math
from collections.abc import Callable, Collection, Mapping

from lbspeaker.model import BFDPacket, BFDProfile, BFDState, BFDStatus

SLOW_US = 1_000_000  # §6.8.3: not more often, unless it is up
EXPIRED, NEIGHBOR_DOWN, SHUT_DOWN = 1, 3, 7  # diagnostics, §4.1

Effect = BFDPacket | BFDStatus

_ADMIN_DOWN, _DOWN, _INIT, _UP = BFDState
# §6.8.6: (our state, what the other end says it is in) → our next state. What is not here changes nothing.
_STEP: Mapping[tuple[BFDState, BFDState], BFDState] = {
    (_DOWN, _DOWN): _INIT,
    (_DOWN, _INIT): _UP,
    (_INIT, _INIT): _UP,
    (_INIT, _UP): _UP,
    (_INIT, _ADMIN_DOWN): _DOWN,
    (_UP, _ADMIN_DOWN): _DOWN,
    (_UP, _DOWN): _DOWN,
}


def discriminator(roll: Callable[[], float], used: Collection[int]) -> int:
    """Return a number (1 to 2^32 - 1) by which no session in `used` calls itself; `roll`: in [0, 1)."""
    while True:
        number = 1 + int(roll() * (2**32 - 1))
        if number not in used:
            return number


def arrival(stamp: float, wall: float, now: float, drained_at: float) -> float:
    """Return when a packet arrived, on the clock of `now`.

    `stamp`: when, and `wall`: when it is read, both on the wall clock; that may have been set in between. So
    `drained_at` bounds it: the last time at which nothing was left to be read.
    """
    return max(min(now, now - (wall - stamp)), drained_at)


class Session:
    """One end of a session, which calls itself `mine`. `roll` returns a number in [0, 1)."""

    def __init__(self, profile: BFDProfile, mine: int, roll: Callable[[], float], now: float) -> None:
        self.mine = mine
        self.state = BFDState.DOWN
        self.diagnostic = 0
        self._profile = profile
        self._roll = roll
        self._remote: BFDPacket | None = None  # what the other end said last; None: it is silent
        self._desired_us = self._wished_us()  # as we say
        self._required_us = profile.receive_ms * 1000
        self._paced_us = self._desired_us  # as we do: the same, except while a poll is under way
        self._patient_us = self._required_us
        self._polls = 0  # that are to be answered, one after the other
        self._answers = False  # a poll of the other end is to be answered
        self._told: BFDPacket | None = None  # what we sent last
        self._sent_at = now
        self._scheduled_us = 0
        self._send_at = now
        self._detect_at = math.inf
        self._ends_at = math.inf
        self._changes: list[BFDStatus] = []

    # -- what others may know --

    @property
    def status(self) -> BFDStatus:
        remote = self._remote
        if remote is None:
            return BFDStatus(self.state, self.diagnostic)
        return BFDStatus(self.state, self.diagnostic, remote.state, remote.diagnostic, heard=True)

    @property
    def interval_us(self) -> int:
        """Between two packets of ours, before jitter (§6.8.2)."""
        return max(self._paced_us, self._remote.required_us if self._remote else 1)

    @property
    def detection_us(self) -> int:
        """The silence after which the other end is lost (§6.8.4); 0: it is not heard at all."""
        if self._remote is None:
            return 0
        return self._remote.multiplier * max(self._patient_us, self._remote.desired_us)

    @property
    def over(self) -> float:
        """When a session that was shut down has said so for long enough (§6.8.16)."""
        return self._ends_at

    # -- in --

    def receive(self, packet: BFDPacket, at: float) -> None:
        """A packet of the other end arrived `at` this time, which may be a little earlier than now."""
        if self.state is BFDState.ADMIN_DOWN:
            return
        before, self._remote = self._remote, packet
        if packet.final and self._polls:
            self._poll_answered()
        following = _STEP.get((self.state, packet.state))
        if following is not None:
            self._enter(following, NEIGHBOR_DOWN if following is BFDState.DOWN else 0)
        elif before is None or before.state is not packet.state:
            self._changes.append(self.status)
        self._answers |= packet.poll
        self._detect_at = at + self.detection_us / 1e6
        if self.interval_us != self._scheduled_us:
            self._schedule()

    def adopt(self, profile: BFDProfile) -> None:
        """Go on with other timers (§6.8.3)."""
        self._profile = profile
        self._desired_us, self._required_us = self._wished_us(), profile.receive_ms * 1000
        if self.state is BFDState.UP:
            self._paced_us = min(self._paced_us, self._desired_us)
            self._patient_us = max(self._patient_us, self._required_us)
            # The answer that comes next may be to what was asked before.
            self._polls = min(self._polls + 1, 2)
        else:
            self._paced_us, self._patient_us = self._desired_us, self._required_us

    def drain(self, now: float) -> None:
        """Tell the other end that the session is shut down, so that it does not miss us."""
        if self.state is BFDState.ADMIN_DOWN:
            return
        # As often as before, for as long as the other end would wait: one of these packets will arrive.
        wait_s = self._profile.multiplier * self.interval_us / 1e6
        self._ends_at = now + (wait_s if self._remote else 0.0)
        paced_us = self._paced_us
        self._enter(BFDState.ADMIN_DOWN, SHUT_DOWN)
        self._paced_us, self._detect_at = paced_us, math.inf

    def stood(self, seconds: float) -> None:
        """This process, or the machine, stood still for so long: nobody's silence counts meanwhile."""
        self._detect_at += seconds

    # -- out --

    def advance(self, now: float) -> list[Effect]:
        """What has changed, and what to send now. Everything that has arrived must have been received."""
        if now >= self._detect_at:
            self._expire()
        effects: list[Effect] = list(self._changes)
        self._changes.clear()
        packet = self._packet()
        if self._answers:
            self._answers = False
            effects.append(packet._replace(final=True))
            self._told = packet
        if self._speaks() and (now >= self._send_at or packet != self._told):
            effects.append(packet._replace(poll=self._polls > 0))
            self._told, self._sent_at = packet, now
            self._schedule()
        return effects

    def next_wakeup(self) -> float:
        """When `advance` should be called next, if nothing is received before."""
        if self._changes or self._answers:
            return 0.0
        return min(self._detect_at, self._send_at if self._speaks() else math.inf)

    # -- inside --

    def _wished_us(self) -> int:
        """§6.8.3: slowly, unless the session is up."""
        wished = self._profile.transmit_ms * 1000
        return wished if self.state is BFDState.UP else max(wished, SLOW_US)

    def _enter(self, state: BFDState, diagnostic: int) -> None:
        self.state, self.diagnostic = state, diagnostic
        self._desired_us = self._paced_us = self._wished_us()
        self._patient_us = self._required_us
        self._polls = 1 if state is BFDState.UP else 0
        self._changes.append(self.status)

    def _poll_answered(self) -> None:
        self._polls -= 1
        if not self._polls:
            self._paced_us, self._patient_us = self._desired_us, self._required_us

    def _expire(self) -> None:
        """Nothing was heard for the detection time: forget the other end, also where it was not up."""
        self._remote, self._detect_at = None, math.inf
        if self.state in (BFDState.INIT, BFDState.UP):
            self._enter(BFDState.DOWN, EXPIRED)
        else:
            self._changes.append(self.status)

    def _speaks(self) -> bool:
        """§6.8.7: not before the other end if passive, and not to who wants to hear nothing."""
        return not self._profile.passive if self._remote is None else self._remote.required_us > 0

    def _packet(self) -> BFDPacket:
        return BFDPacket(
            self.state,
            self.diagnostic,
            self._profile.multiplier,
            self.mine,
            self._remote.mine if self._remote else 0,
            self._desired_us,
            self._required_us,
        )

    def _schedule(self) -> None:
        """The next packet, 75 to 100 % of the interval after the last; 75 to 90 % if none may be lost."""
        self._scheduled_us = self.interval_us
        spread = 0.25 if self._profile.multiplier > 1 else 0.15
        self._send_at = self._sent_at + self._scheduled_us / 1e6 * (0.75 + spread * self._roll())
