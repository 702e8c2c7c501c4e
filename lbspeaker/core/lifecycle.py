"""The life of a speaker.

    STARTING ──synced──▶ SERVING ──drain──▶ DRAINING ──handed over──▶ STOPPED
        └───────────────drain─────────────────────────────────────────▲

STARTING: it does not yet know the cluster, so it announces nothing. SERVING: it announces what it owns.
DRAINING: it has left the elections, and answers for what it owned until the next owners claim it.
STOPPED: it answers for nothing.
"""

import enum


class State(enum.StrEnum):
    STARTING = "starting"
    SERVING = "serving"
    DRAINING = "draining"
    STOPPED = "stopped"


class Event(enum.StrEnum):
    SYNCED = "synced"
    DRAIN = "drain"
    HANDED_OVER = "handed-over"


TABLE = {
    (State.STARTING, Event.SYNCED): State.SERVING,
    (State.STARTING, Event.DRAIN): State.STOPPED,
    (State.SERVING, Event.DRAIN): State.DRAINING,
    (State.DRAINING, Event.HANDED_OVER): State.STOPPED,
}


def step(state: State, event: Event) -> State:
    """Return the next state; an event that means nothing in `state` leaves it."""
    return TABLE.get((state, event), state)
