"""The routes of a node that is taken out: they stay for a second, as about to go (RFC 8326 §4).

So routers prefer others before these are withdrawn. It is for who goes on running: a session that ends says
so by itself.
"""

from collections.abc import Mapping
from dataclasses import replace

from lbspeaker.core.announce import Desired, PlannedRoute, Routes
from lbspeaker.model import Network

LEAVE_S = 1.0


class Farewell:
    """Of one node. `until`: when its routes go; None: they do not."""

    def __init__(self) -> None:
        self.until: float | None = None
        self._routes: Routes = {}
        self._excluded = False

    def over(self, now: float) -> bool:
        """Whether the time has come."""
        return self.until is not None and now >= self.until

    def say(self, excluded: bool, current: Desired, wanted: Desired, now: float) -> Desired:
        """Return what is wanted, with what was announced until the node was `excluded`, for a second."""
        if excluded and not self._excluded and current.routes:
            self.until = now + LEAVE_S
            self._routes = {peer: _leaving(routes) for peer, routes in current.routes.items()}
        self._excluded = excluded
        if not excluded or self.over(now):
            self.until, self._routes = None, {}
            return wanted
        kept = {peer: routes for peer, routes in self._routes.items() if peer in wanted.peers}
        return replace(wanted, routes=kept) if kept else wanted


def _leaving(routes: Mapping[Network, PlannedRoute]) -> dict[Network, PlannedRoute]:
    return {prefix: replace(planned, route=planned.route.leaving()) for prefix, planned in routes.items()}
