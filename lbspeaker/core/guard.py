"""The ARP-storm guard: which frame may leave a link, and when.

Everything that a speaker says on a link passes here. Unsolicited frames share a token bucket: in any window
of `w` seconds at most `burst + rate * w` of them leave. What has to wait, waits in this order:

    TAKEOVER   an IP moved here: neighbours hold another MAC until they hear of it
    NEW        nobody has an entry for it yet, so nobody is wrong
    REPEAT     a second or third copy, against loss; the first copy of every IP goes before any second
    REFRESH    nothing changed

Answers have a bucket of their own (profile `standard`, `fast`), or go first out of the common one (`strict`:
for switch ports that count every ARP frame, like Dynamic ARP Inspection with its 15 a second). There a
takeover has its turn after three answers: one frame corrects every neighbour, so questions must not stop it.

An IP waits at most once: asking again for what already waits changes nothing, or makes it more urgent.
A takeover is repeated after 1.1 s and 3.3 s, because frames get lost, and because Linux does not change an
entry that is younger than a second. Nothing is repeated that has been cancelled.

The guard is a timed engine: `submit`, `answer` and `cancel` put in, `due(now)` takes out, `next_wakeup`
says when to ask again. It neither reads a clock nor sends.
"""

import enum
import heapq
import math
from collections import Counter, deque
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import NamedTuple


class Occasion(enum.IntEnum):
    """Why an announcement leaves; the lower, the sooner."""

    TAKEOVER = 0
    NEW = 1
    REPEAT = 2
    REFRESH = 3


@dataclass(frozen=True, slots=True)
class Profile:
    """How much a link may carry. Rates are frames per second, bursts are frames."""

    name: str
    rate: float
    burst: int
    answer_rate: float = 1000.0
    answer_burst: int = 200
    together: bool = False  # answers spend from the same bucket, and go first
    takeover_at_s: tuple[float, ...] = (0.0, 1.1, 3.3)
    new_at_s: tuple[float, ...] = (0.0,)
    refresh_at_s: tuple[float, ...] = (0.0,)
    copies: int = 1

    def schedule(self, occasion: Occasion) -> tuple[float, ...]:
        if occasion is Occasion.TAKEOVER:
            return self.takeover_at_s
        return self.new_at_s if occasion is Occasion.NEW else self.refresh_at_s


_UNPACED = (0.0, 1.1, 2.2, 3.3, 4.4)

PROFILES: Mapping[str, Profile] = {
    profile.name: profile
    for profile in (
        # At most 11 in any second by the arithmetic; 12 even if this process is held up for 100 ms.
        Profile("standard", rate=8, burst=3),
        Profile("strict", rate=8, burst=3, together=True),
        Profile("fast", rate=100, burst=50, answer_rate=10_000, answer_burst=1_000),
        # What a speaker without a guard does, for the lab: request and reply for every IP, five times.
        Profile(
            "off",
            rate=math.inf,
            burst=1,
            answer_rate=math.inf,
            takeover_at_s=_UNPACED,
            new_at_s=_UNPACED,
            refresh_at_s=_UNPACED,
            copies=2,
        ),
    )
}


class Bucket:
    """A token bucket: `burst` at once, `rate` per second after that."""

    def __init__(self, rate: float, burst: int, now: float) -> None:
        self._rate = rate
        self._burst = burst
        self._tokens = float(burst)
        self._at = now

    def take(self, now: float) -> bool:
        if math.isinf(self._rate):
            return True
        # A clock that steps back gives nothing, and takes nothing.
        self._tokens = min(self._burst, self._tokens + max(now - self._at, 0.0) * self._rate)
        self._at = max(now, self._at)
        if self._tokens < 1 - 1e-9:
            return False
        self._tokens -= 1
        return True

    def ready_at(self) -> float:
        """When the next token is there."""
        if math.isinf(self._rate) or self._tokens >= 1 - 1e-9:
            return self._at
        return self._at + (1 - self._tokens) / self._rate


class Sending(NamedTuple):
    """One frame that may leave now: an answer (`frame` is what was given to `answer`), or an announcement."""

    ip: bytes
    occasion: Occasion | None  # None: an answer
    frame: bytes
    waited_s: float


@dataclass(slots=True)
class _Waiting:
    occasion: Occasion
    first: Occasion  # what the repeats belong to
    number: int  # how many rounds of it have left
    since: float  # when it could have left first
    due: float
    started: float | None = None  # when the first round left


@dataclass(slots=True)
class Counts:
    """What the guard did, since it began."""

    sent: Counter[str] = field(default_factory=Counter)  # by occasion, and "answer"
    held_back: Counter[str] = field(default_factory=Counter)  # could not leave when it was asked for
    coalesced: int = 0  # was waiting already
    expired: int = 0  # answers that nobody waited for any more
    longest_wait_s: float = 0.0


ANSWER_EXPIRES_S = 3.0  # a client has given up by then, or has asked again
ANSWERS_WAITING = 1024
ANSWERS_IN_A_ROW = 3  # out of a common budget, while a takeover waits


class Guard:
    """The guard of one link."""

    def __init__(self, profile: Profile, now: float) -> None:
        self.profile = profile
        self.counts = Counts()
        self._budget = Bucket(profile.rate, profile.burst, now)
        self._answer_budget = (
            self._budget if profile.together else Bucket(profile.answer_rate, profile.answer_burst, now)
        )
        self._waiting: dict[bytes, _Waiting] = {}
        self._later: list[tuple[float, int, bytes, _Waiting]] = []  # by due
        self._ready: list[tuple[int, float, int, bytes, _Waiting]] = []  # by urgency
        self._answers: deque[tuple[float, bytes, bytes]] = deque()
        self._asked: set[tuple[bytes, bytes]] = set()
        self._serial = 0
        self._in_a_row = 0  # answers since the last announcement

    @property
    def queue_length(self) -> int:
        return len(self._waiting) + len(self._answers)

    # -- in --

    def submit(self, ip: bytes, occasion: Occasion, now: float) -> None:
        """Ask to announce `ip`. What is less urgent than what waits already changes nothing."""
        present = self._waiting.get(ip)
        if present is not None:
            self.counts.coalesced += 1
            if present.started is None and present.occasion <= occasion:
                return
            if present.started is not None and occasion is not Occasion.TAKEOVER:
                return
        since = present.since if present is not None and present.started is None else now
        self._enter(ip, _Waiting(occasion, occasion, 0, since, now))

    def cancel(self, ip: bytes) -> None:
        """Forget everything about `ip` that has not left."""
        self._waiting.pop(ip, None)
        if any(answer[1] == ip for answer in self._answers):
            self._answers = deque(answer for answer in self._answers if answer[1] != ip)
            self._asked = {(answer[1], answer[2]) for answer in self._answers}

    def answer(self, ip: bytes, frame: bytes, now: float) -> bool:
        """Whether the answer `frame` may leave at once; if not, it waits, and `due` will return it."""
        if not self._answers and not self._its_turn() and self._answer_budget.take(now):
            self._in_a_row += 1
            self.counts.sent["answer"] += 1
            return True
        if (ip, frame) in self._asked:
            self.counts.coalesced += 1
        elif len(self._answers) >= ANSWERS_WAITING:
            self.counts.expired += 1
        else:
            self.counts.held_back["answer"] += 1
            self._answers.append((now, ip, frame))
            self._asked.add((ip, frame))
        return False

    # -- out --

    def due(self, now: float) -> list[Sending]:
        """Return what may leave now, in order; it counts as sent."""
        fresh = self._become_ready(now)
        sendings = self._due_answers(now)
        while self._ready and (self._its_turn() or not (self.profile.together and self._answers)):
            *_, ip, waiting = self._ready[0]
            if self._waiting.get(ip) is waiting:
                if not self._budget.take(now):
                    break
                sendings += self._sent(ip, waiting, now)
            heapq.heappop(self._ready)
        for ip, waiting in fresh:
            if self._waiting.get(ip) is waiting:
                self.counts.held_back[waiting.occasion.name.lower()] += 1
        return sendings

    def next_wakeup(self) -> float | None:
        """When `due` may next have something; None: not before somebody asks."""
        moments = []
        if self._answers:
            moments.append(self._answer_budget.ready_at())
        if self._ready:
            moments.append(self._budget.ready_at())
        if self._later:
            moments.append(self._later[0][0])
        return min(moments, default=None)

    # -- inside --

    def _become_ready(self, now: float) -> list[tuple[bytes, _Waiting]]:
        """Move what is due from `_later` to `_ready`."""
        fresh = []
        while self._later and self._later[0][0] <= now:
            _, serial, ip, waiting = heapq.heappop(self._later)
            if self._waiting.get(ip) is waiting:
                heapq.heappush(self._ready, (waiting.occasion, waiting.since, serial, ip, waiting))
                fresh.append((ip, waiting))
        return fresh

    def _due_answers(self, now: float) -> list[Sending]:
        sendings = []
        while self._answers:
            since, ip, frame = self._answers[0]
            if now - since > ANSWER_EXPIRES_S:
                self.counts.expired += 1
            elif self._its_turn():
                break
            elif self._answer_budget.take(now):
                self._in_a_row += 1
                sendings.append(Sending(ip, None, frame, now - since))
                self._count("answer", now - since)
            else:
                break
            self._answers.popleft()
            self._asked.discard((ip, frame))
        return sendings

    def _its_turn(self) -> bool:
        """Whether the next token of a common budget is for a takeover."""
        if not self.profile.together or self._in_a_row < ANSWERS_IN_A_ROW or not self._ready:
            return False
        *_, ip, waiting = self._ready[0]
        return waiting.occasion is Occasion.TAKEOVER and self._waiting.get(ip) is waiting

    def _enter(self, ip: bytes, waiting: _Waiting) -> None:
        self._waiting[ip] = waiting
        self._serial += 1
        heapq.heappush(self._later, (waiting.due, self._serial, ip, waiting))

    def _sent(self, ip: bytes, waiting: _Waiting, now: float) -> list[Sending]:
        """Count one round of `ip`, and let the next one wait."""
        waited = now - waiting.since
        copies = self.profile.copies
        for _ in range(copies):
            self._count(waiting.occasion.name.lower(), waited)
        del self._waiting[ip]
        self._in_a_row = 0
        schedule = self.profile.schedule(waiting.first)
        number = waiting.number + 1
        if number < len(schedule):
            started = now if waiting.started is None else waiting.started
            due = started + schedule[number] - schedule[0]
            self._enter(ip, _Waiting(Occasion.REPEAT, waiting.first, number, due, due, started))
        return [Sending(ip, waiting.occasion, b"", waited)] * copies

    def _count(self, what: str, waited_s: float) -> None:
        self.counts.sent[what] += 1
        self.counts.longest_wait_s = max(self.counts.longest_wait_s, waited_s)
