"""The owner of a service IP goes: how long does a client go without?

It is cut off, as by a power cut: with hellos, by which the others notice it; and without, when they wait for
its Lease to end. Or it is told to end, and hands over first: then no connection may be lost.

A client opens a connection every 10 ms; one that is not established at once does not count. The gap is the
longest time between two good ones. The reference is the longest gap while nothing happens.
"""

import contextlib
import itertools
import time
from collections.abc import Callable, Iterator
from ipaddress import IPv4Address
from typing import NamedTuple

from lbspeaker.core.speaker import LEASE_DURATION_S
from lbspeaker.errors import Unavailable
from lbspeaker.lab.lab import Lab
from tests.bench import cluster
from tests.bench.api import SERVICES, Api
from tests.bench.manifests import FIRST, service
from tests.bench.prober import Prober
from tests.bench.results import Goal, Reference, Result, result

_CUTS, _CUTS_BY_LEASE, _HANDOVERS = 12, 4, 6
_MOST_S = 1.0
_MOST_BY_LEASE_S = LEASE_DURATION_S + 1.0
_CALM_S, _AFTER_S = 1.0, 0.5
_SETTLED_S = 1.0
_UNDER_WAY_S = 0.1  # what began so long before is done
_PATIENCE_S = 30.0
_END_S = 20.0


class Round(NamedTuple):
    """Of a client: the longest gap and the connections that were lost, before the owner goes, and then."""

    calm: float
    calm_lost: int
    gap: float
    lost: int


def failover() -> list[Result]:
    with cluster.lab(hellos=False) as lab, Api(cluster.client_of(lab)) as api:
        ips = (FIRST + number for number in itertools.count())
        by_lease = [_cut(lab, api, next(ips), hellos=False) for _ in range(_CUTS_BY_LEASE)]
        cluster.provide_hellos(lab, api)
        cut = [_cut(lab, api, next(ips), hellos=True) for _ in range(_CUTS)]
        ended = [_hand_over(lab, api, next(ips)) for _ in range(_HANDOVERS)]
    calm_lost = Reference("nothing happens", [one.calm_lost for one in ended], "max")
    lost = [one.lost for one in ended]
    return [
        *_gaps("failover/cut", cut, _MOST_S),
        *_gaps("failover/cut-without-hellos", by_lease, _MOST_BY_LEASE_S),
        result("failover/handover-lost", "connections", lost, calm_lost, Goal("<=", 0), "max"),
        *_gaps("failover/handover", ended, None),
    ]


def _gaps(name: str, rounds: list[Round], most: float | None) -> list[Result]:
    gaps, calm = [one.gap for one in rounds], [one.calm for one in rounds]
    goal = None if most is None else Goal("<=", most)
    return [
        result(name, "s", gaps, Reference("nothing happens", calm)),
        result(f"{name}-worst", "s", gaps, Reference("nothing happens", calm, "max"), goal, "max"),
    ]


def _cut(lab: Lab, api: Api, ip: IPv4Address, *, hellos: bool) -> Round:
    with _served(lab, api, ip) as owner:
        found = _round(lab, ip, lambda: lab.cut(owner))
        lab.heal(owner)
    _settle(lab, owner, hellos=hellos)
    return found


def _hand_over(lab: Lab, api: Api, ip: IPv4Address) -> Round:
    with _served(lab, api, ip) as owner:
        found = _round(lab, ip, lambda: lab.stop(f"speaker-{owner}", _END_S))
        lab.start(f"speaker-{owner}")
    _settle(lab, owner, hellos=True)
    return found


@contextlib.contextmanager
def _served(lab: Lab, api: Api, ip: IPv4Address) -> Iterator[str]:
    """A Service with this IP, and its owner; a new one each time, as an IP that moves often is held."""
    name = f"web{int(ip) - int(FIRST)}"
    api.request("POST", SERVICES, service(name, loadBalancerIP=str(ip)))

    def owners() -> list[str]:
        return [frame.port for frame in cluster.announcements(lab, 0.0) if frame.target == str(ip)]

    try:
        cluster.until(lambda: bool(owners()) and _serves(lab, ip), _PATIENCE_S, f"an answer of {ip}")
        yield owners()[-1]
    finally:
        api.request("DELETE", f"{SERVICES}/{name}")


def _round(lab: Lab, ip: IPv4Address, disturb: Callable[[], None]) -> Round:
    """Let a client connect before, while and after something happens."""
    prober = Prober(lab, ip)
    try:
        time.sleep(_CALM_S)
        disturbed = time.monotonic()
        disturb()
        at_least = time.monotonic() + _AFTER_S
        cluster.until(lambda: prober.good_since(at_least), _PATIENCE_S, "the next owner")
    finally:
        seen = prober.stop()
    began, end = disturbed - _CALM_S, time.monotonic()
    return Round(
        seen.gap(began, disturbed),
        seen.failed(began, disturbed - _UNDER_WAY_S),
        seen.gap(disturbed - _UNDER_WAY_S, end),
        seen.failed(disturbed - _UNDER_WAY_S, end),
    )


def _settle(lab: Lab, node: str, *, hellos: bool) -> None:
    """Return when the node is back for all, and nothing goes on."""
    if hellos:
        cluster.until(lambda: cluster.all_hear(lab), _PATIENCE_S, f"the hellos of {node}")
    cluster.until(lambda: len(lab.members()) == len(lab.nodes), _PATIENCE_S, f"the Lease of {node}")
    time.sleep(_SETTLED_S)


def _serves(lab: Lab, ip: IPv4Address) -> bool:
    with contextlib.suppress(Unavailable):
        return bool(lab.curl(str(ip)))
    return False
