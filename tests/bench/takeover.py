"""All IPs of a node at once: it loses its power, and the other node takes over every one of them.

Two nodes; everything belongs to the first one while it lives. The same move happens under a profile, which a
LinkPolicy gives, and without a guard. Each first frame of an IP corrects its neighbours; so what counts is
when the last IP has had its first one, and how many frames the port of the new owner had to carry for that.
"""

import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from lbspeaker.lab import frames
from lbspeaker.lab.frames import Frame
from lbspeaker.lab.lab import Lab
from tests.bench import cluster
from tests.bench.api import Api
from tests.bench.manifests import FIRST, Manifest, services
from tests.bench.results import Goal, Reference, Result, result

OWNER, NEXT = "node-a", "node-b"
_DETECTION_S = 1.0  # until the other node is sure
_SLACK = 1.1  # of the time that the arithmetic demands
_QUIET_S = 3.0  # repeats come 2.2 s after those before
_PATIENCE_S = 60.0


class Budget(NamedTuple):
    """A profile, as a LinkPolicy gives it."""

    profile: str
    ips: int  # that move
    rate: int
    burst: int
    peak: int  # frames in any second, at most

    @property
    def policy(self) -> Manifest:
        return {"profile": self.profile, "rate": self.rate, "burst": self.burst}

    @property
    def told_s(self) -> float:
        """When the last IP must have had its first frame."""
        return (self.ips - self.burst) / self.rate * _SLACK + _DETECTION_S


BUDGETS = (Budget("standard", 50, 8, 3, peak=12), Budget("fast", 1000, 100, 50, peak=150))


@dataclass(frozen=True, slots=True)
class Move:
    """What the switch saw from the next owner. Times are epoch; results count from `cut`."""

    cut: float
    ips: frozenset[str]
    unsolicited: Sequence[Frame]

    def peak(self) -> int:
        return frames.peak([frame.time for frame in self.unsolicited])

    def most_per_ip(self) -> int:
        return max(Counter(frame.target for frame in self.unsolicited if frame.target in self.ips).values())

    def untold(self) -> int:
        return len(self.ips - self._firsts().keys())

    def first_s(self) -> float:
        return min(self._firsts().values()) - self.cut

    def told_s(self) -> float:
        """Until the last IP's first announcement."""
        return max(self._firsts().values()) - self.cut

    def _firsts(self) -> dict[str, float]:
        found: dict[str, float] = {}
        for frame in self.unsolicited:
            if frame.kind == "gratuitous" and frame.target in self.ips:
                found[frame.target] = min(frame.time, found.get(frame.target, frame.time))
        return found


def takeover() -> list[Result]:
    return [row for budget in BUDGETS for row in _compared(budget, *_moves(budget))]


def _moves(budget: Budget) -> tuple[Move, Move]:
    """Move everything with this budget, and without a guard.

    In a lab of its own, in which each IP moves three times: one that moves more often would be held.
    """
    with cluster.lab(nodes=2, guard="off", prefers=OWNER) as lab, Api(cluster.client_of(lab)) as api:
        began = cluster.create(cluster.client_of(lab), services(budget.ips))
        cluster.until(lambda: _announced(lab, OWNER, began) >= budget.ips, _PATIENCE_S, "the first owner")
        _await_quiet(lab)
        cluster.set_policy(api, budget.policy)  # it overrides what speakers were started with
        ours = _move(lab, budget.ips, budget.told_s + _PATIENCE_S)
        cluster.set_policy(api, None)
        _return(lab, budget.ips)
        return ours, _move(lab, budget.ips, _PATIENCE_S)


def _move(lab: Lab, count: int, patience_s: float) -> Move:
    """Cut the owner off, and watch until the other one has nothing more to say."""
    cluster.until(lambda: cluster.all_hear(lab), _PATIENCE_S, "the hellos of both")
    cut = time.time()
    lab.cut(OWNER)
    cluster.until(lambda: _announced(lab, NEXT, cut) >= count, patience_s, f"the move of {count} IPs")
    _await_quiet(lab)
    ips = frozenset(str(FIRST + number) for number in range(count))
    return Move(cut, ips, [frame for frame in cluster.unsolicited(lab, cut) if frame.port == NEXT])


def _return(lab: Lab, count: int) -> None:
    """Let the first owner have everything again."""
    healed = time.time()
    lab.heal(OWNER)
    cluster.until(lambda: _announced(lab, OWNER, healed) >= count, _PATIENCE_S, "the return of the owner")
    _await_quiet(lab)


def _announced(lab: Lab, port: str, since: float) -> int:
    time.sleep(0.2)
    return len({frame.target for frame in cluster.announcements(lab, since) if frame.port == port})


def _await_quiet(lab: Lab) -> None:
    def quiet() -> bool:
        time.sleep(0.2)
        return not cluster.announcements(lab, time.time() - _QUIET_S)

    cluster.until(quiet, 2 * _PATIENCE_S, "the end of all announcements")


def _compared(budget: Budget, ours: Move, theirs: Move) -> list[Result]:
    def row(of: str, unit: str, measure: Callable[[Move], float], most: float | None) -> Result:
        reference = Reference("without a guard", [measure(theirs)])
        goal = None if most is None else Goal("<=", most)
        return result(f"takeover-{budget.ips}/{of}", unit, [measure(ours)], reference, goal)

    return [
        row("peak", "unsolicited/s/port", Move.peak, budget.peak),
        row("per-ip", "unsolicited frames", Move.most_per_ip, 3),
        row("untold", "IPs", Move.untold, 0),
        row("first-told", "s", Move.first_s, _DETECTION_S),
        row("all-told", "s", Move.told_s, round(budget.told_s, 2)),
    ]
