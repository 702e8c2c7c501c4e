"""Who owns an IP other than by the ranking: pins, written by one speaker and read by all.

The ranking needs no memory, and everybody computes the same. What does need memory is written down as a pin,
"this IP is at that node", by the one speaker that it is about, the present owner:

* `failback: Never`: it has taken an IP over from another node, and keeps it when a better placed one returns
  (who is only the first to start has taken nothing over);
* spread: it carries more than 1.25 of the average, and gives some away to who has less than the average;
* a node is cordoned (`onCordon: Move`), and gives away what it has;
* an IP has moved four times in three minutes, and has to stay where it is for as long.

A pin counts while the node that it names may announce the IP. A pin that has become needless is taken back by
who wrote it. A few IPs move at a time, and none while anything else is going on: after each change the world
has to be calm for a while, or the cure is the next illness.
"""

import math
from collections import Counter, deque
from collections.abc import Mapping
from dataclasses import dataclass
from fractions import Fraction

from lbspeaker.model import Address, L2Announcement, Node, Pin

AT_A_TIME = 4
CALM_S = 10.0  # nothing has moved for so long
FLAPS, FLAP_S = 4, 180.0
MOST_MOVES, MOVES_S = 100, 3600.0  # that are remembered of each IP
SPREAD = Fraction(5, 4)
MOST_PINS = 3000  # in one Lease: an object has room for 256 KiB of annotations

Owners = Mapping[Address, L2Announcement]


@dataclass(frozen=True, slots=True)
class Flapping:
    """An IP that is held, as it moved so often."""

    ip: Address
    moves: int


class Placement:
    """The pins of the speaker on `node`."""

    def __init__(self, node: str) -> None:
        self._node = node
        self._mine: dict[Address, Pin] = {}
        self._held: dict[Address, float] = {}  # flapping IPs, until when
        self._moves: dict[Address, deque[float]] = {}
        self._taken: set[Address] = set()  # from another owner
        self._moved_at = -math.inf
        self._before: dict[Address, str] = {}
        self.turnover: Counter[str] = Counter()  # so far: "in" to this node, "out" of it, or "elsewhere"

    def learned(self, pins: Mapping[Address, Pin]) -> None:
        """What this speaker wrote down before it was started."""
        self._mine = dict(pins)

    @property
    def mine(self) -> Mapping[Address, Pin]:
        return self._mine

    def observe(self, owners: Owners, now: float) -> list[Flapping]:
        """Take note of who owns what now; return the IPs of this node that move too often."""
        news = []
        after = {ip: found.owner for ip, found in owners.items()}
        for ip, owner in after.items():
            before = self._before.get(ip)
            if before is None or before == owner:
                continue
            way = "in" if owner == self._node else "out" if before == self._node else "elsewhere"
            self.turnover[way] += 1
            self._moved_at = now
            (self._taken.add if owner == self._node else self._taken.discard)(ip)
            moves = self._moves.setdefault(ip, deque(maxlen=MOST_MOVES))
            moves.append(now)
            flaps = len(moves) >= FLAPS and now - moves[-FLAPS] <= FLAP_S
            if flaps and owner == self._node and ip not in self._held:
                self._held[ip] = now + FLAP_S
                news.append(Flapping(ip, FLAPS))
        for ip in self._moves.keys() - after.keys():
            del self._moves[ip]
        self._taken &= after.keys()
        if after.keys() != self._before.keys():
            self._moved_at = now
        self._before = after
        return news

    def moved(self, now: float) -> dict[Address, int]:
        """How often IPs have moved in the last hour; of those that have."""
        found = {ip: self.moves_of(ip, now) for ip in self._moves}
        return {ip: moves for ip, moves in found.items() if moves}

    def moves_of(self, ip: Address, now: float) -> int:
        """How often it has moved in the last hour, as far as this node has seen."""
        return sum(now - at <= MOVES_S for at in self._moves.get(ip, ()))

    def next_wakeup(self, now: float) -> float | None:
        """When `advance` may have something to do: while pins or loads can change nothing, never."""
        moments = (self._moved_at + CALM_S, *self._held.values())
        return min((moment for moment in moments if moment > now), default=None)

    def advance(
        self, owners: Owners, pins: Mapping[Address, Pin], nodes: Mapping[str, Node], now: float
    ) -> Mapping[Address, Pin] | None:
        """Return the pins to be written down; None if they are as they were."""
        before = dict(self._mine)
        self._held = {ip: until for ip, until in self._held.items() if until > now}
        self._forget(owners, pins)
        self._hold(owners, pins)
        if now >= self._moved_at + CALM_S and not self._relax(owners, pins, nodes):
            moves = self._off_a_cordoned_node(owners, nodes) or self._spread(owners, nodes)
            for ip, target in moves[:AT_A_TIME]:
                self._pin(ip, target, pins)
        return None if self._mine == before else dict(self._mine)

    # -- inside --

    def _pin(self, ip: Address, target: str, pins: Mapping[Address, Pin]) -> None:
        before = self._mine.get(ip)
        if before is not None and before.node == target:
            return  # written down, though perhaps not seen yet
        if before is not None or len(self._mine) < MOST_PINS:
            term = max((pin.term for pin in (pins.get(ip), before) if pin), default=0)
            self._mine[ip] = Pin(target, term + 1)

    def _forget(self, owners: Owners, pins: Mapping[Address, Pin]) -> None:
        """Pins of IPs that nobody announces any more, or for which another pin counts."""
        self._mine = {
            ip: pin
            for ip, pin in self._mine.items()
            if ip in owners and (pins.get(ip, pin) == pin or pins[ip].term < pin.term)
        }

    def _hold(self, owners: Owners, pins: Mapping[Address, Pin]) -> None:
        for ip, found in owners.items():
            if found.owner != self._node:
                continue
            pin = self._mine.get(ip) or pins.get(ip)
            if pin is not None and pin.node in found.candidates:
                continue  # it is pinned here, or is about to go
            away = found.ranking[0] != self._node
            if (found.sticky and away and ip in self._taken) or ip in self._held:
                self._pin(ip, self._node, pins)

    def _relax(self, owners: Owners, pins: Mapping[Address, Pin], nodes: Mapping[str, Node]) -> bool:
        """Take back what is needless: a few at a time, as each may move an IP. Return whether one does."""
        loads, averages = _loads(owners), _averages(owners)
        taken = 0
        for ip, pin in list(self._mine.items()):
            found = owners[ip]
            unseen = pins.get(ip) != pin
            if unseen or ip in self._held or (found.sticky and pin.node == found.owner):
                continue
            first = next(node for node in found.ranking if node in found.candidates)
            moves = first != found.owner
            if moves:
                busy = first in found.equals and loads[first] + 1 > averages[first]
                if busy or (found.moves_on_cordon and _cordoned(nodes, first)):
                    continue
                loads[first] += 1
            if taken < AT_A_TIME:
                del self._mine[ip]
                taken += moves
        return taken > 0

    def _off_a_cordoned_node(self, owners: Owners, nodes: Mapping[str, Node]) -> list[tuple[Address, str]]:
        if not _cordoned(nodes, self._node):
            return []
        loads = _loads(owners)
        moves = []
        for ip, found in owners.items():
            if found.owner == self._node and found.moves_on_cordon and ip not in self._held:
                others = [n for n in found.candidates if n != self._node and not _cordoned(nodes, n)]
                if others:
                    target = min(others, key=lambda n: (n not in found.equals, loads[n]))
                    loads[target] += 1
                    moves.append((ip, target))
        return moves

    def _spread(self, owners: Owners, nodes: Mapping[str, Node]) -> list[tuple[Address, str]]:
        loads, averages = _loads(owners), _averages(owners)
        excess = loads[self._node] - math.ceil(SPREAD * averages.get(self._node, Fraction(0)))
        if excess <= 0:
            return []
        mine = [
            found
            for ip, found in owners.items()
            if found.owner == self._node and not found.sticky and ip not in self._held
        ]
        # What came here because its first node is away goes first: it moves anyway.
        mine.sort(key=lambda found: (-found.ranking.index(self._node), int(found.ip)))
        moves: list[tuple[Address, str]] = []
        for found in mine:
            for target in found.candidates:
                free = target in found.equals and loads[target] < averages[target]
                if free and not _cordoned(nodes, target):
                    loads[target] += 1
                    moves.append((found.ip, target))
                    break
            if len(moves) == excess:
                break
        return moves


def _cordoned(nodes: Mapping[str, Node], node: str) -> bool:
    return node in nodes and nodes[node].cordoned


def _loads(owners: Owners) -> Counter[str]:
    return Counter(found.owner for found in owners.values())


def _averages(owners: Owners) -> dict[str, Fraction]:
    """What each node would carry if every IP were shared by all that may carry it."""
    shares: dict[str, Fraction] = {}
    groups = Counter(found.equals for found in owners.values())
    for nodes, ips in groups.items():
        for node in nodes:
            shares[node] = shares.get(node, Fraction(0)) + Fraction(ips, len(nodes))
    return shares
