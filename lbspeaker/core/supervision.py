"""When a child is started, and when it is replaced.

* A child that ends is started again at once, then after 1, 2, 4 … 30 s; a session that was up for a minute
  resets that.
* A child whose session was refused for what only a person can change ends, and the next one starts after
  2, 4 … 30 s: it would dial every other second, and each time fill the router's log.
* A child that has had no session for so long that it should have dialled several times is replaced: it may
  wait for a router that has accepted it and says nothing, or not work at all without knowing it.
* A session that comes up more than five times in ten seconds is a storm, most likely because the router
  rejects a route that is sent again each time. The child is held for 30, 60 … 300 s.
"""

from dataclasses import dataclass

from lbspeaker.core.session import State, View

BACKOFF_MAX_S = 30.0
STEADY_S = 60.0  # up for so long: all is forgiven
PATIENCE_S = 60.0  # with a child that has no session: ExaBGP waits so long for an OPEN
STORM_UPS = 5
STORM_S = 10.0
HOLD_S = 30.0
HOLD_MAX_S = 300.0


@dataclass(frozen=True, slots=True)
class Replace:
    """End this child, for this reason; `quietly`: it is routine, and no error."""

    reason: str
    quietly: bool = False


class Supervision:
    """Decides about the child of one peer, which dials it every `connect_s`."""

    def __init__(self, connect_s: float) -> None:
        self._patience_s = max(PATIENCE_S, 3 * connect_s)
        self._failures = 0
        self._storms = 0
        self._refused = 0
        self._ups: list[float] = []
        self._not_before = 0.0

    @property
    def start_at(self) -> float:
        """When the next child may start."""
        return self._not_before

    def came_up(self, now: float) -> None:
        self._ups = [when for when in self._ups if when > now - STORM_S] + [now]
        self._refused = 0

    def ended(self, now: float) -> None:
        """The child ended by itself, or could not start."""
        wait_s = min(BACKOFF_MAX_S, 2.0 ** (self._failures - 1)) if self._failures else 0.0
        self._not_before = max(self._not_before, now + wait_s)
        self._failures = min(self._failures + 1, 10)

    def judge(self, view: View, stuck: str | None, misconfigured: bool, now: float) -> Replace | None:
        """Whether the child that runs must be replaced now."""
        if view.state is State.UP and now - view.since >= STEADY_S:
            self._failures = self._storms = 0
        if len(self._ups) > STORM_UPS:
            return self._hold(view, now)
        if stuck:
            self._not_before = now
            return Replace(stuck)
        if misconfigured:
            self._refused = min(self._refused + 1, 10)
            self._not_before = now + min(BACKOFF_MAX_S, 2.0**self._refused)
            return Replace("dial later", quietly=True)
        over = self.next_wakeup(view)
        if over is not None and now >= over:
            self._not_before = now
            return Replace("dial anew", quietly=True)
        return None

    def next_wakeup(self, view: View) -> float | None:
        """When to judge it again, if nothing happens before; None: not at all."""
        return view.since + self._patience_s if view.state is State.CONNECTING else None

    def _hold(self, view: View, now: float) -> Replace:
        wait_s = min(HOLD_MAX_S, HOLD_S * 2**self._storms)
        self._storms += 1
        self._not_before = now + wait_s
        ups, self._ups = len(self._ups), []
        cause = f"; the last end: {view.last_error}" if view.last_error else ""
        return Replace(f"the session came up {ups} times in {STORM_S:.0f} s; held for {wait_s:.0f} s{cause}")
