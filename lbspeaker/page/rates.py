"""How many frames left for each segment lately, beside what its budgets allow.

Speakers report what their guards have counted: within two seconds when something moves, else once a minute.
What a report tells more than the one before is spread over the time between them.
"""

from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from lbspeaker.model import Network
from lbspeaker.observe.look import Look

KEPT_S = 600.0
Port = tuple[str, str]  # a node, and a link of it


@dataclass(frozen=True, slots=True)
class Sample:
    """Unsolicited frames per second at a moment (Unix time), with their budgets, 0 where there is none.

    `busiest`: of the link that is nearest to its budget; `together`: of all links of the segment.
    """

    at: float
    busiest: float
    budget: float
    together: float
    segment_budget: float

    @property
    def shares(self) -> tuple[float, float]:
        """The same as parts of the budgets."""
        return _share(self.busiest, self.budget), _share(self.together, self.segment_budget)


@dataclass(frozen=True, slots=True)
class Segment:
    """Links that hear each other: their network, or "node link" for one without any.

    `ips`: how many service IPs are of this network.
    """

    name: str
    ports: tuple[Port, ...]
    ips: int = 0
    samples: tuple[Sample, ...] = ()

    @property
    def idle(self) -> bool:
        """Whether nothing happens there that concerns us."""
        return not self.ips and not any(sample.together for sample in self.samples)


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
    held = [ip for service in look.snapshot.services.values() for ip in service.held]
    ips = {name: sum(ip in network for ip in held) for name, network in known.items()}
    found = [Segment(name, tuple(some), ips.get(name, 0)) for name, some in ports.items()]
    return tuple(sorted(found, key=lambda one: -one.ips))


@dataclass(slots=True)
class _Counted:
    reported: float
    frames: int


@dataclass(slots=True)
class Rates:
    """The last ten minutes."""

    _last: dict[tuple[str, str, str], _Counted] = field(default_factory=dict)
    _samples: dict[str, deque[Sample]] = field(default_factory=dict)

    def observe(self, look: Look, now: float) -> tuple[Segment, ...]:
        """Take note of what speakers have reported up to `now` (Unix time); return what is known."""
        rates = self._news(look)
        found = segments(look)
        on = {port: segment.name for segment in found for port in segment.ports}
        home = {node: name for (node, _), name in reversed(on.items())}  # of guards of several links
        by_segment: dict[str, list[tuple[float, float, float]]] = {segment.name: [] for segment in found}
        for (node, link), row in rates.items():
            name = on.get((node, link), home.get(node, ""))
            by_segment.get(name, []).append(row)
        for name, rows in by_segment.items():
            kept = self._samples.setdefault(name, deque())
            if rows:
                kept.append(_sample(now, rows))
            while kept and kept[0].at < now - KEPT_S:
                kept.popleft()
        self._samples = {name: kept for name, kept in self._samples.items() if kept}
        return tuple(replace(one, samples=tuple(self._samples.get(one.name, ()))) for one in found)

    def _news(self, look: Look) -> Mapping[Port, tuple[float, float, float]]:
        """By link: frames per second of the protocol that is nearest to its budget, and the budgets."""
        found: dict[Port, tuple[float, float, float]] = {}
        last: dict[tuple[str, str, str], _Counted] = {}
        for node, said in look.speakers.items():
            for guard in said.guards if node in look.snapshot.members else ():
                key = (node, guard.link, guard.protocol)
                now, before = _Counted(said.reported, guard.unsolicited), self._last.get(key)
                last[key] = now
                if before is None or now.frames < before.frames:
                    continue  # the first report, or a new answerer
                took_s = now.reported - before.reported
                rate = (now.frames - before.frames) / took_s if took_s > 0 else 0.0
                row = (rate, guard.rate, guard.segment_rate)
                found[node, guard.link] = max(found.get((node, guard.link), row), row)
        self._last = last
        return found


def _sample(now: float, rows: list[tuple[float, float, float]]) -> Sample:
    busiest, budget, _ = max(rows, key=lambda row: (_share(row[0], row[1]), row[0]))
    together = sum(rate for rate, _, _ in rows)
    return Sample(now, busiest, budget, together, max(of_segment for *_, of_segment in rows))


def _share(rate: float, budget: float) -> float:
    return rate / budget if budget else 0.0
