"""How many frames left unasked on each segment, second by second, beside what its budgets allow.

Speakers tell of the last minute what left in each second: within two seconds when something moves, else once
a minute. So the last minute may still change, and what nobody looked at for longer is not known.
"""

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from ipaddress import ip_network

from lbspeaker.model import Network
from lbspeaker.observe.look import Look
from lbspeaker.wire.status import Guard

KEPT_S = 600
TOLD_S = 60  # so far a report reaches back
SKEW_S = 2  # so much clocks may differ
Port = tuple[str, str]  # a node, and a link of it
Span = tuple[float, float]  # from, to


@dataclass(frozen=True, slots=True)
class Sample:
    """Frames that left within the second `at` (Unix time), with their budgets, 0 where there is none.

    `busiest`: of the link that was nearest to its budget; `together`: of all links of the segment.
    """

    at: int
    busiest: int
    budget: int
    together: int
    segment_budget: int

    @property
    def shares(self) -> tuple[float, float]:
        """The same as parts of the budgets."""
        return _share(self.busiest, self.budget), _share(self.together, self.segment_budget)


@dataclass(frozen=True, slots=True)
class Segment:
    """Links that hear each other: their network, or "node link" for one without any.

    `ips`: how many service IPs are of this network. `samples`: seconds in which something left, of the spans
    that are `known`.
    """

    name: str
    ports: tuple[Port, ...]
    ips: int = 0
    samples: tuple[Sample, ...] = ()
    known: tuple[Span, ...] = ()

    @property
    def idle(self) -> bool:
        """Whether nothing happens there that concerns us."""
        return not self.ips and not self.samples


def segments(look: Look) -> tuple[Segment, ...]:
    """Return which links are on one segment, as far as their networks tell; most service IPs first."""
    ports: dict[str, list[Port]] = {}
    known: dict[str, Network] = {}
    for node, links in sorted(look.snapshot.links.items()):
        for link in links:
            networks = sorted(link.networks, key=lambda one: (one.version, one.is_link_local, int(one[0])))
            name = str(networks[0]) if networks else f"{node} {link.name}"
            ports.setdefault(name, []).append((node, link.name))
            if networks:
                known[name] = networks[0]
    lengths = {network.prefixlen for network in known.values()}
    within = Counter(
        ip_network((ip, length), strict=False)
        for service in look.snapshot.services.values()
        for ip in service.held
        for length in lengths
        if length <= ip.max_prefixlen
    )
    ips = {name: within[network] for name, network in known.items()}
    found = [Segment(name, tuple(some), ips.get(name, 0)) for name, some in ports.items()]
    return tuple(sorted(found, key=lambda one: -one.ips))


Key = tuple[str, str, str]  # node, link, protocol
Seconds = dict[int, dict[Key, Sample]]  # what each guard told of a second


@dataclass(slots=True)
class Rates:
    """The last ten minutes."""

    _left: dict[str, Seconds] = field(default_factory=dict)
    _known: list[Span] = field(default_factory=list)

    def observe(self, look: Look, now: float) -> tuple[Segment, ...]:
        """Take note of what speakers have told up to `now` (Unix time); return what is known."""
        found = segments(look)
        on = {port: segment.name for segment in found for port in segment.ports}
        home = {node: name for (node, _), name in reversed(on.items())}  # of guards of several links
        for node, said in look.speakers.items():
            for guard in said.guards:
                self._take(on.get((node, guard.link), home.get(node, "")), node, guard, now)
        self._left = {
            name: {second: rows for second, rows in seconds.items() if second >= now - KEPT_S}
            for name, seconds in self._left.items()
        }
        if self._known and self._known[-1][1] >= now - TOLD_S:
            self._known[-1] = (self._known[-1][0], now)
        else:
            self._known.append((now - TOLD_S, now))
        self._known = [(since, until) for since, until in self._known if until >= now - KEPT_S]
        return tuple(
            replace(one, samples=tuple(_samples(self._left.get(one.name, {}))), known=tuple(self._known))
            for one in found
        )

    def _take(self, segment: str, node: str, guard: Guard, now: float) -> None:
        key = (node, guard.link, guard.protocol)
        for at, frames in guard.recent.items():
            second = int(float(at))
            if not now - KEPT_S <= second <= now + SKEW_S:
                continue  # that clock is another one than ours
            here = self._left.setdefault(segment, {}).setdefault(second, {})
            if key not in here or here[key].busiest < frames:
                here[key] = Sample(second, frames, guard.budget, frames, guard.segment_budget)


def _samples(seconds: Seconds) -> Iterator[Sample]:
    for _, told in sorted(seconds.items()):
        yield max(
            (_sum(told, protocol) for protocol in {key[-1] for key in told}), key=lambda one: one.shares
        )


def _sum(told: Mapping[Key, Sample], protocol: str) -> Sample:
    """One second of one protocol, which has budgets of its own."""
    rows = [row for (*_, of), row in told.items() if of == protocol]
    busiest = max(rows, key=lambda row: (row.shares[0], row.busiest))
    together = sum(row.busiest for row in rows)
    return replace(busiest, together=together, segment_budget=max(row.segment_budget for row in rows))


def _share(frames: int, budget: int) -> float:
    return frames / budget if budget else 0.0
