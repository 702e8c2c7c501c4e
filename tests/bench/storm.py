"""Many Services at once: how many frames does a switch port get to see, and how long until all is announced?

The reference is the same without a guard: what a speaker does that sends when it has something to send.
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
from tests.bench.asker import Crowd
from tests.bench.manifests import FIRST, services
from tests.bench.results import Goal, Reference, Result, result

_REPEATS_S = 5.0  # after the first frames: repeats and stragglers
_PATIENCE_S = 180.0


@dataclass(frozen=True, slots=True)
class Storm:
    """What the switch saw of many Services at once. Times are epoch; results count from `began`."""

    began: float  # the first request to create
    ports: tuple[str, ...]  # of nodes
    unsolicited: Sequence[Frame]
    answers: Sequence[Frame]
    requests: Sequence[Frame]  # of the client, which asks for each IP until it is answered

    def peak(self, *, all_kinds: bool) -> int:
        """The most frames that any port saw in any window of a second."""
        counted = [*self.unsolicited, *(self.answers if all_kinds else ())]
        by_port = {port: [f.time for f in counted if f.port == port] for port in self.ports}
        return max(frames.peak(times) for times in by_port.values())

    def most_per_ip(self) -> int:
        return max(Counter(frame.sender for frame in self.unsolicited).values())

    def told_s(self) -> float:
        """Until the last IP's first announcement."""
        return self._last_first(self.unsolicited)

    def answered_s(self) -> float:
        """Until the last IP's first answer."""
        return self._last_first(self.answers)

    def _last_first(self, seen: Sequence[Frame]) -> float:
        return max(frame.time for frame in _firsts(seen).values()) - self.began

    def overtaken(self) -> int:
        """How many announcements left a port while an IP's first answer waited there."""
        asked: dict[str, list[float]] = {}
        for request in self.requests:
            asked.setdefault(request.target, []).append(request.time)
        answered = _firsts(self.answers)
        announced = _firsts(self.unsolicited)
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


def storm(guard: str, count: int, every_s: float) -> Storm:
    """Bring up a lab, create `count` Services, and let a client ask for each IP every `every_s`.

    Raises Unavailable if not all are announced and answered in time.
    """
    burst_s = min(count / 2000, every_s / 2)  # 2000 requests a second are enough of a crowd
    ips = [FIRST + number for number in range(count)]
    with cluster.lab(guard=guard) as lab, cluster.asker(lab) as asker:
        crowd = Crowd(asker, ips, every_s=every_s, burst_s=burst_s, patience_s=_PATIENCE_S)
        try:
            began = cluster.create(cluster.client_of(lab), services(count))
            cluster.until(
                lambda: _announced(lab, began) >= count, _PATIENCE_S, f"announcements of {count} IPs"
            )
            crowd.wait()
            time.sleep(_REPEATS_S)
        finally:
            crowd.stop()
        if crowd.unanswered:
            raise Unavailable(f"{len(crowd.unanswered)} of {count} IPs were never answered")
        return Storm(
            began,
            tuple(node.name for node in lab.nodes),
            cluster.unsolicited(lab, began),
            cluster.answers(lab, began),
            lab.switch.frames("client", "request", protocol="arp", since=began),
        )


def _announced(lab: Lab, since: float) -> int:
    time.sleep(0.5)
    return len({frame.sender for frame in cluster.unsolicited(lab, since)})


def storm_50() -> list[Result]:
    return _standard("storm-50", 50, rounds=3, every_s=0.25)


def storm_1000() -> list[Result]:
    return _standard("storm-1000", 1000, rounds=1, every_s=1.0)


def _standard(name: str, count: int, rounds: int, every_s: float) -> list[Result]:
    ours, theirs = [], []
    for _ in range(rounds):
        ours.append(storm("standard", count, every_s))
        theirs.append(storm("off", count, every_s))
    compare = Comparison(name, ours, theirs, "without a guard")
    return [
        compare.worst("peak", "unsolicited/s/port", lambda storm: storm.peak(all_kinds=False), 12),
        compare.worst("per-ip", "unsolicited frames", Storm.most_per_ip, 3),
        compare.usual("all-announced", "s", Storm.told_s),
        compare.usual("all-answered", "s", Storm.answered_s),
    ]


def strict_50() -> list[Result]:
    """Answers included: everything that a port guard like Dynamic ARP Inspection counts."""
    ours, theirs = [], []
    for _ in range(3):
        ours.append(storm("strict", 50, 0.25))
        theirs.append(storm("standard", 50, 0.25))
    compare = Comparison("strict-50", ours, theirs, "profile standard")
    return [
        compare.worst("peak", "frames/s/port", lambda storm: storm.peak(all_kinds=True), 12),
        compare.worst("overtaken-answers", "announcements", Storm.overtaken, 0),
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
