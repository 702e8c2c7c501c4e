"""Which of several controllers acts: the one whose name is in the Lease.

    standing by ──the Lease is free──▶ write my name, in this very version of it ──▶ leading
         ▲                                                                              │
         └──────────── its renewals fail for DEADLINE_S, or another's name is there ◀───┘

A Lease is free if it names nobody, or me, or if it was not renewed for its duration while I looked, by my
clock; clocks of others are never compared. Who leads stops to write DEADLINE_S after its last renewal, before
anybody else can find the Lease free. Then it begins anew: it lists everything before it writes again.
"""

from lbspeaker.model import LeaderRecord

DURATION_S = 8.0
DEADLINE_S = 5.0
RENEW_EVERY_S = 2.0
LOOK_EVERY_S = 1.0


class Standby:
    """A controller that waits for its turn."""

    def __init__(self, identity: str) -> None:
        self._identity = identity
        self._last: LeaderRecord | None = None
        self._since = 0.0  # when `_last` was first seen

    def is_free(self, record: LeaderRecord, now: float) -> bool:
        """Whether `identity` may write its name into the Lease that says this; `now`: of any steady clock."""
        if record != self._last:
            self._last, self._since = record, now
        return record.holder in ("", self._identity) or now >= self._since + record.duration_s


def must_stop(renewed: float, now: float) -> bool:
    """Whether who was last known to lead at `renewed` must not write any more."""
    return now >= renewed + DEADLINE_S
