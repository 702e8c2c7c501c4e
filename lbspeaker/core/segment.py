"""Who else lives on a segment, as hellos on that very segment say.

Each answerer says every 125 ms that it lives, and whom it hears. From that:

    UNMET ──it hears us, too──▶ ALIVE ──nothing for 500 ms──▶ SILENT ──a majority says so──▶ DEAD
      ▲                           ▲ └─────────◀──heard again──────┘                           │
      └── a new start             └───────────heard for 400 ms ─────────────────────────────┘

Who was silent for so long that the API, too, took it for dead is forgotten. When it is back, it is DEAD until
it was heard for 400 ms: it does not know that it was, and has to be told. So is who was DEAD, and has started
anew.

A hello counts only if it lists the number (`boot`) by which this answerer called itself when it started. So
the link works in both directions; and what was recorded before this start, and is replayed, counts for
nothing. Within one start, `sequence` only grows.

Silence is no proof of death: our own link may be the broken one. It is believed when the majority of the
roll, the members that are not dead, reports it, or when who is silent has said before that it leaves. Who is
believed dead leaves the roll, so that nodes may die one after the other. Two alone cannot have a majority:
there the default gateway is the third. If it answers us while the other is silent, we are on the side of the
living.

Of two links of one node on one segment only one speaks, or they would be two members of one name: the one
that hears more members, or else has the lower `boot`. The other begins, as if it had just started, when it
does not hear that one any more. So begins, too, who has heard another node of its own name, when that one is
silent: for others our start ended when they met the other one.

The engine reads no clock and sends nothing: `heard` and `witnessed` put in, `due` says what to say.
"""

import enum
import hashlib
import math
from collections import deque
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from lbspeaker.model import Heard, Hello

EVERY_S = 0.125
SILENT_AFTER_S = 0.5
RETURN_S = 0.4  # who was dead is heard for so long before it counts
TWIN_S = SILENT_AFTER_S / 2  # another link of this node is believed to speak for so long
NAMESAKE_S = 3.0  # without a word, and another node of our name is gone
SUSPECT_EVERY_S = 0.02  # news are told at once, but not more often than this
WITNESS_EVERY_S = 0.1
FORMER = 256  # starts that are over and are remembered, so that none of them comes back
MOST_MEMBERS = 130  # so many fit into a hello; more are known by their Leases only


class State(enum.StrEnum):
    UNMET = "unmet"
    ALIVE = "alive"
    SILENT = "silent"
    DEAD = "dead"


_SAYS = {
    State.UNMET: Heard.HEARD,
    State.ALIVE: Heard.HEARD,
    State.SILENT: Heard.SILENT,
    State.DEAD: Heard.DEAD,
}
_UNHEARD = (State.SILENT, State.DEAD)
_GONE = (Heard.SILENT, Heard.DEAD)


class View(NamedTuple):
    """What follows for elections: nodes that live here, and nodes that must be taken for dead.

    `silent`: of those that live, who is not heard now; it may be our own link that is cut. `returning`: of
    the dead, who is heard again, but not for long enough; `left`: of them, who has said that it leaves.
    """

    alive: frozenset[str]
    dead: frozenset[str]
    silent: frozenset[str] = frozenset()
    returning: frozenset[str] = frozenset()
    left: frozenset[str] = frozenset()


@dataclass(slots=True)
class _Member:
    boot: bytes
    state: State = State.UNMET
    sequence: int = -1
    said: Hello | None = None
    mac: bytes = b""
    last: float = -math.inf  # when it was last heard
    returns: float = math.inf  # since when it is heard again
    buried_us: bool = False  # it says that we are dead
    untold: bool = False  # it was taken for dead, and does not know it

    @property
    def returning(self) -> bool:
        """Whether it is heard again, since it was dead."""
        return self.state is State.DEAD and self.returns < math.inf

    def says_of(self, boot: bytes) -> Heard | None:
        """What it says of the member that calls itself `boot`; None: nothing."""
        return next((state for known, state in self.said.heard if known == boot), None) if self.said else None


class Segment:
    """The members on one link of `node`, whose answerer calls itself `boot` (8 random bytes)."""

    def __init__(self, node: str, boot: bytes, now: float, *, witness: bool = False) -> None:
        self.node = node
        self.boot = boot
        self.witness = witness  # whether there is a default gateway to ask
        self.missed = False  # others took us for dead, and hear us again: see `take_missed`
        self.noticed_s = 0.0  # after how long a silence the last death was believed
        self.twins: Sequence[Segment] = ()  # those of the other links of this node
        self._members: dict[str, _Member] = {}
        self._twin_heard: dict[bytes, int] = {}  # its last sequence
        self._twin_at = -math.inf  # when another link was heard that speaks for this one
        self._quiet = False  # while it does
        self._namesake_at = math.inf  # when another node of our name was heard
        self._left: dict[str, tuple[bytes, int]] = {}  # who was forgotten: its boot, and what it said last
        self._former: deque[bytes] = deque(maxlen=FORMER)
        self._macs: dict[bytes, str] = {}
        self._newcomers: dict[str, bytes] = {}  # other starts of known nodes, which do not hear us yet
        self._sequence = 0
        self._due_at = now
        self._told_at = -math.inf
        self._asked_at = -math.inf
        self._witnessed_at = -math.inf

    # -- in --

    def heard(self, said: Hello, mac: bytes, now: float) -> None:
        """Somebody with the right key said this, from `mac`."""
        if said.node == self.node:
            self._heard_twin(said, now)
            return
        full = len(self._members) >= MOST_MEMBERS and said.node not in self._members
        if full or said.boot in self._former:
            return
        member = self._members.get(said.node)
        mutual = any(boot == self.boot for boot, _ in said.heard)
        if member is None:
            left = self._left.pop(said.node, None)
            sequence = left[1] if left is not None and left[0] == said.boot else -1
            member = _Member(said.boot, sequence=sequence, untold=left is not None)
            self._members[said.node] = member
            self._hurry(now)  # it waits to be heard
        elif said.boot != member.boot:
            if not mutual and member.state is not State.UNMET:
                # Perhaps it has started anew; it is listed, and believed when it answers.
                self._meet(said, now)
                return
            if member.state is not State.UNMET:  # else it may be a recording, and the other one the real one
                self._former.append(member.boot)
            member.untold |= member.state is State.DEAD
            member.boot, member.sequence, member.said, member.state = said.boot, -1, None, State.UNMET
        if said.sequence <= member.sequence:
            return
        member.sequence, member.said = said.sequence, said
        self._newcomers.pop(said.node, None)
        if mutual:
            if member.mac != mac:
                self._macs.pop(member.mac, None)
                self._macs[mac], member.mac = said.node, mac
            self._lives(member, now)

    def witnessed(self, now: float) -> None:
        """The default gateway has answered."""
        self._witnessed_at = now

    def keep(self, nodes: Iterable[str]) -> None:
        """Forget those that are not heard, and are not among `nodes`, who live as the API says.

        So they have no place in the roll any more. What they said once they cannot say again.
        """
        alive = set(nodes)
        gone = [n for n, m in self._members.items() if m.state in _UNHEARD and n not in alive]
        for node in gone:
            member = self._members.pop(node)
            self._left[node] = member.boot, member.sequence
            while len(self._left) > FORMER:
                del self._left[next(iter(self._left))]
            self._macs.pop(member.mac, None)

    # -- out --

    def due(self, now: float, *, stale: bool = False, leaving: bool = False) -> Hello | None:
        """What to say now, if it is time to say something."""
        self._judge(now)
        if now < self._due_at:
            return None
        if now < self._twin_at + TWIN_S:
            self._quiet, self._due_at = True, self._twin_at + TWIN_S
            return None
        if self._quiet or now >= self._namesake_at + NAMESAKE_S:  # for others, that began when ours ended
            self._quiet, self._namesake_at = False, math.inf
            self.boot = hashlib.sha256(self.boot).digest()[:8]
        self._due_at, self._told_at = now + EVERY_S, now
        self._sequence += 1
        known = [(member.boot, _SAYS[member.state]) for member in self._members.values()]
        known += [(boot, Heard.HEARD) for boot in self._newcomers.values()]
        return Hello(self.node, self.boot, self._sequence, tuple(known[:MOST_MEMBERS]), stale, leaving)

    def asks_witness(self, now: float) -> bool:
        """Whether to ask the default gateway whether it hears us."""
        if not self._needs_witness() or now < self._asked_at + WITNESS_EVERY_S:
            return False
        asks = any(member.state is State.SILENT for member in self._members.values())
        if asks:
            self._asked_at = now
        return asks

    def next_wakeup(self) -> float:
        moments = [self._due_at]
        asks = self._needs_witness()
        for member in self._members.values():
            if member.state is State.ALIVE:
                moments.append(member.last + SILENT_AFTER_S)
            elif member.state is State.SILENT and asks:
                moments.append(self._asked_at + WITNESS_EVERY_S)
            elif member.returning:
                moments.append(member.last + SILENT_AFTER_S)
        return min(moments)

    def view(self) -> View:
        alive: set[str] = set()
        dead: set[str] = set()
        for node, member in self._members.items():
            if member.state in (State.ALIVE, State.SILENT):
                out = member.said is not None and (member.said.stale or member.said.leaving)
                (dead if out else alive).add(node)
            elif member.state is State.DEAD:
                dead.add(node)
        members = self._members.items()
        silent = alive & {node for node, member in members if member.state is State.SILENT}
        returning = frozenset(node for node, member in members if member.returning)
        left = dead & {node for node, member in members if member.said is not None and member.said.leaving}
        return View(frozenset(alive), frozenset(dead), frozenset(silent), returning, frozenset(left))

    def node_of(self, mac: bytes) -> str:
        """The member that says its hellos from `mac`; "": none."""
        return self._macs.get(mac, "")

    def take_missed(self) -> bool:
        """Whether, since the last call, somebody hears us again who took us for dead."""
        missed, self.missed = self.missed, False
        return missed

    # -- inside --

    def _heard_twin(self, said: Hello, now: float) -> None:
        twin = next((twin for twin in self.twins if twin.boot == said.boot), None)
        if twin is None and said.boot != self.boot:
            self._namesake_at = now
        if twin is None or said.sequence <= self._twin_heard.get(said.boot, -1):
            return
        self._twin_heard = {said.boot: said.sequence}
        theirs = sum(state is Heard.HEARD for _, state in said.heard)
        ours = sum(member.state is State.ALIVE for member in self._members.values())
        if theirs > ours or (theirs == ours and said.boot < self.boot):
            self._twin_at = now

    def _meet(self, said: Hello, now: float) -> None:
        if said.node not in self._newcomers:
            self._hurry(now)
        self._newcomers[said.node] = said.boot

    def _hurry(self, now: float) -> None:
        """Say the next hello as soon as may be."""
        self._due_at = min(self._due_at, max(now, self._told_at + SUSPECT_EVERY_S))

    def _lives(self, member: _Member, now: float) -> None:
        """It was heard, and hears us or did."""
        if member.untold:
            member.untold, member.state, member.last = False, State.DEAD, -math.inf
        if member.state is State.DEAD:
            if now >= member.last + SILENT_AFTER_S or not member.returning:
                member.returns = now
            if now - member.returns >= RETURN_S:
                member.state = State.ALIVE
        else:
            member.state = State.ALIVE
        member.last = now
        says = member.says_of(self.boot)
        if says is Heard.DEAD:
            member.buried_us = True
        elif says is Heard.HEARD and member.buried_us:
            member.buried_us = False
            self.missed = True

    def _judge(self, now: float) -> None:
        for member in self._members.values():
            if now < member.last + SILENT_AFTER_S:
                continue
            if member.state is State.ALIVE:
                member.state = State.SILENT
                self._hurry(now)
            member.returns = math.inf
        for member in self._members.values():
            if member.state is State.SILENT and self._is_believed(member):
                member.state = State.DEAD
                self.noticed_s = now - member.last

    def _roll(self) -> list[_Member]:
        """The others whose word counts, those that are silent included."""
        return [m for m in self._members.values() if m.state in (State.ALIVE, State.SILENT)]

    def _needs_witness(self) -> bool:
        """Whether we are two, and have a gateway to ask."""
        return self.witness and len(self._roll()) == 1

    def _is_believed(self, silent: _Member) -> bool:
        if silent.said is not None and silent.said.leaving:
            return True  # it has said so itself
        roll = self._roll()
        size, votes = len(roll) + 1, 1
        votes += sum(m.state is State.ALIVE and m.says_of(silent.boot) in _GONE for m in roll)
        if size == 2 and self._witnessed_at > silent.last + SILENT_AFTER_S:
            size, votes = 3, 2
        return votes * 2 > size
