"""Many Services at once: how many frames does a switch port get to see, and how long until all is announced?

A new IP is probed, answered, and announced once; all that nobody asked for counts. The reference is the same
without a guard: what a speaker does that sends when it has something to send.
"""

import time
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from lbspeaker.errors import Unavailable
from lbspeaker.lab import frames
from lbspeaker.lab.frames import Frame
from lbspeaker.lab.lab import Lab
from tests.bench import cluster
from tests.bench.asker import Asker, Crowd
from tests.bench.manifests import FIRST, services
from tests.bench.results import Goal, Reference, Result, result

_REPEATS_S = 5.0  # after the first frames: repeats and stragglers
_PATIENCE_S = 180.0


@dataclass(frozen=True, slots=True)
class Storm:
    """What the switch saw of many Services at once. Times are epoch; results count from `began`."""

    began: float  # the first request to create
    ports: tuple[str, ...]  # of nodes
    ips: frozenset[str]
    unsolicited: Sequence[Frame]  # of nodes
    answers: Sequence[Frame]  # of nodes
    requests: Sequence[Frame]  # of the client, which asks for each IP until it is answered

    def peak(self, *, all_kinds: bool) -> int:
        """The most frames that any port saw in any window of a second."""
        counted = [*self.unsolicited, *(self.answers if all_kinds else ())]
        by_port = {port: [f.time for f in counted if f.port == port] for port in self.ports}
        return max(frames.peak(times) for times in by_port.values())

    def most_per_ip(self) -> int:
        """The most unsolicited frames about one of the IPs, probes included."""
        return max(Counter(frame.target for frame in self.unsolicited if frame.target in self.ips).values())

    def told_s(self) -> float:
        """Until the last IP's first announcement."""
        return self._last_first(self._announcements())

    def answered_s(self) -> float:
        """Until the last IP's first answer."""
        return self._last_first(self.answers)

    def _announcements(self) -> list[Frame]:
        return [frame for frame in self.unsolicited if frame.kind == "gratuitous"]

    def _last_first(self, seen: Sequence[Frame]) -> float:
        firsts = _firsts(seen)
        return max(frame.time for ip, frame in firsts.items() if ip in self.ips) - self.began

    def overtaken(self) -> int:
        """How many announcements and probes left a port while an IP's first answer waited there."""
        asked: dict[str, list[float]] = {}
        for request in self.requests:
            asked.setdefault(request.target, []).append(request.time)
        answered = _firsts(self.answers)
        announced = _firsts(self._announcements())
        count = 0
        for ip, answer in answered.items():
            told = announced[ip].time if ip in announced else answer.time
            since = _waits_since([at for at in asked[ip] if at <= answer.time], told)
            count += sum(
                since + _TURN_S < frame.time < answer.time
                for frame in self.unsolicited
                if frame.port == answer.port
            )
        return count


def _firsts(seen: Iterable[Frame]) -> dict[str, Frame]:
    """The first frame of each IP."""
    found: dict[str, Frame] = {}
    for frame in seen:
        if frame.sender not in found or frame.time < found[frame.sender].time:
            found[frame.sender] = frame
    return found


def _waits_since(asked: Sequence[float], announced: float) -> float:
    """When the first request came that could be answered: the IP had an owner once it was announced.

    Without a request since then only the last one is sure to have found an owner.
    """
    return next((at for at in asked if at >= announced), asked[-1])


_TURN_S = 0.02  # a frame that was on its way when the request came has not overtaken anybody


def storms(guard: str, count: int, every_s: float, rounds: int = 1) -> list[Storm]:
    """Create `count` Services at once, several times, while a client asks for each IP every `every_s`.

    Raises Unavailable if not all are announced and answered in time.
    """
    with cluster.lab(guard=guard) as lab, cluster.asker(lab) as asker:
        return [_storm(lab, asker, count, every_s, number) for number in range(rounds)]


def _storm(lab: Lab, asker: Asker, count: int, every_s: float, number: int) -> Storm:
    """The `number`-th round: with Services and IPs of its own; those of earlier ones stay."""
    burst_s = min(count / 2000, every_s / 2)  # 2000 requests a second are enough of a crowd
    ips = [FIRST + number * count + n for n in range(count)]
    wanted = [
        manifest | {"spec": manifest["spec"] | {"loadBalancerIP": str(ip)}}
        for ip, manifest in zip(ips, services(count, f"r{number}-"), strict=True)
    ]
    crowd = Crowd(asker, ips, every_s=every_s, burst_s=burst_s, patience_s=_PATIENCE_S)
    try:
        began = cluster.create(cluster.client_of(lab), wanted)
        cluster.until(lambda: _announced(lab, began) >= count, _PATIENCE_S, f"announcements of {count} IPs")
        crowd.wait()
        time.sleep(_REPEATS_S)
    finally:
        crowd.stop()
    if crowd.unanswered:
        raise Unavailable(f"{len(crowd.unanswered)} of {count} IPs were never answered")
    return Storm(
        began,
        tuple(node.name for node in lab.nodes),
        frozenset(map(str, ips)),
        cluster.unsolicited(lab, began),
        cluster.answers(lab, began),
        lab.switch.frames("client", "request", protocol="arp", since=began),
    )


def _announced(lab: Lab, since: float) -> int:
    time.sleep(0.5)
    return cluster.announced(lab, since)


def storm_50() -> list[Result]:
    return _standard("storm-50", 50, rounds=3, every_s=0.25)


def storm_1000() -> list[Result]:
    return _standard("storm-1000", 1000, rounds=1, every_s=2.0)


def _standard(name: str, count: int, rounds: int, every_s: float) -> list[Result]:
    ours = storms("standard", count, every_s, rounds)
    theirs = storms("off", count, every_s, rounds)
    compare = Comparison(name, ours, theirs, "without a guard")
    return [
        compare.worst("peak", "unsolicited/s/port", lambda storm: storm.peak(all_kinds=False), 12),
        compare.worst("per-ip", "unsolicited frames", Storm.most_per_ip, 3),
        compare.usual("all-announced", "s", Storm.told_s),
        compare.usual("all-answered", "s", Storm.answered_s),
    ]


def strict_50() -> list[Result]:
    """Answers included: everything that a port guard like Dynamic ARP Inspection counts."""
    ours, theirs = storms("strict", 50, 0.25, rounds=3), storms("standard", 50, 0.25, rounds=3)
    compare = Comparison("strict-50", ours, theirs, "profile standard")
    return [
        compare.worst("peak", "frames/s/port", lambda storm: storm.peak(all_kinds=True), 12),
        compare.worst("overtaken-answers", "unsolicited frames", Storm.overtaken, 0),
        compare.usual("all-answered", "s", Storm.answered_s),
    ]


Measure = Callable[[Storm], float]


class Comparison(NamedTuple):
    """Rounds of one kind beside rounds of another."""

    name: str
    ours: Sequence[Storm]
    theirs: Sequence[Storm]
    what: str

    def worst(self, of: str, unit: str, measure: Measure, most: float) -> Result:
        reference = Reference(self.what, [measure(storm) for storm in self.theirs], "max")
        values = [measure(storm) for storm in self.ours]
        return result(f"{self.name}/{of}", unit, values, reference, Goal("<=", most), "max")

    def usual(self, of: str, unit: str, measure: Measure) -> Result:
        reference = Reference(self.what, [measure(storm) for storm in self.theirs])
        return result(f"{self.name}/{of}", unit, [measure(storm) for storm in self.ours], reference)
