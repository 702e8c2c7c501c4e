"""The ARP-storm guard: which frame may leave a link, and when.

Everything that a speaker says on a link passes here. Unsolicited frames share a token bucket: in any window
of `w` seconds at most `burst + rate * w` of them leave. What has to wait, waits in this order:

    TAKEOVER   an IP moved here: neighbours hold another MAC until they hear of it; those that clients
               have asked for lately, or ask for while they wait, go first
    PROBE      does anybody have this IP? It is not answered before that is known
    NEW        nobody has an entry for it yet, so nobody is wrong
    REPEAT     a second or third copy, against loss; the first copy of every IP goes before any second
    REFRESH    nothing changed; switches forget sooner than neighbours do

All speakers of a segment together have a budget, too (`core.budget`). While somebody storms there, each of
our frames but a takeover costs twice.

Answers have a bucket of their own (profile `standard`, `fast`), or go first out of the common one (`strict`:
for switch ports that count every ARP frame, like Dynamic ARP Inspection with its 15 a second). There a
takeover has its turn after three answers, or after one if that IP is asked for: one frame corrects every
neighbour, so questions must not stop it; so has what is new, when it has waited for ten seconds.
Nobody gets the same answer more often than a few times a second, whatever the bucket holds.

An IP waits at most once: asking again for what already waits changes nothing, or makes it more urgent.
A takeover is repeated after 1.1 s and 3.3 s, because frames get lost, and because Linux does not change an
entry that is younger than a second. Nothing is repeated that has been cancelled.

Links that are cables to one switch may have one guard; what waits is therefore a `key`: the link and the IP.

The guard is a timed engine: `submit`, `answer` and `cancel` put in, `due(now)` takes out, `next_wakeup`
says when to ask again. It neither reads a clock nor sends.
"""

import enum
import heapq
import math
from collections import Counter, deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import NamedTuple

from lbspeaker.core.budget import Bucket, SegmentBudget
from lbspeaker.model import LinkPolicy

Key = tuple[str, bytes]  # what is announced: the link, and the IP


class Occasion(enum.IntEnum):
    """Why an announcement leaves; the lower, the sooner."""

    TAKEOVER = 0
    PROBE = 1
    NEW = 2
    REPEAT = 3
    REFRESH = 4


@dataclass(frozen=True, slots=True)
class Profile:
    """How much a link may carry. Rates are frames per second, bursts are frames."""

    name: str
    rate: float
    burst: int
    answer_rate: float = 1000.0
    answer_burst: int = 200
    per_asker: float = 10  # equal answers in a second
    segment_rate: float = 100.0  # of all speakers on a segment
    segment_burst: int = 20
    together: bool = False  # answers spend from the same bucket, and go first
    takeover_at_s: tuple[float, ...] = (0.0, 1.1, 3.3)
    new_at_s: tuple[float, ...] = (0.0,)
    copies: int = 1

    def schedule(self, occasion: Occasion) -> tuple[float, ...]:
        if occasion is Occasion.TAKEOVER:
            return self.takeover_at_s
        return self.new_at_s if occasion is Occasion.NEW else (0.0,)


_UNPACED = (0.0, 1.1, 2.2, 3.3, 4.4)

PROFILES: Mapping[str, Profile] = {
    profile.name: profile
    for profile in (
        # At most 11 in any second by the arithmetic; 12 even if this process is held up for 100 ms.
        Profile("standard", rate=8, burst=3),
        Profile("strict", rate=8, burst=3, together=True),
        Profile(
            "fast",
            rate=100,
            burst=50,
            answer_rate=10_000,
            answer_burst=1_000,
            per_asker=100,
            segment_rate=500,
            segment_burst=100,
        ),
        # What a speaker without a guard does, for the lab: request and reply for every IP, five times.
        Profile(
            "off",
            rate=math.inf,
            burst=1,
            answer_rate=math.inf,
            per_asker=math.inf,
            segment_rate=math.inf,
            takeover_at_s=_UNPACED,
            new_at_s=_UNPACED,
            copies=2,
        ),
    )
}


UNPACED = 10  # frames for each IP: request and reply, five times; what MetalLB sends


def profile_of(policy: LinkPolicy) -> Profile:
    """Return the profile that a policy means: the one it names, with the numbers that it gives itself.

    A rate without a burst gets a burst of half a second, at most that of the profile.
    """
    named = PROFILES[policy.profile]
    burst = policy.burst
    if policy.rate is not None and burst is None:
        burst = max(1, min(named.burst, policy.rate // 2))
    given = {
        "rate": policy.rate,
        "burst": burst,
        "answer_rate": policy.answer_rate,
        "answer_burst": policy.answer_burst,
        "segment_rate": policy.segment_rate,
        "segment_burst": policy.segment_burst,
    }
    return replace(named, **{name: value for name, value in given.items() if value is not None})  # type: ignore[arg-type]


class Sending(NamedTuple):
    """One frame that may leave now: an answer (`frame` is what was given to `answer`), or an announcement."""

    key: Key
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
    hot: bool = False  # clients have asked for it lately


@dataclass(slots=True)
class Counts:
    """What the guard did, since it began."""

    sent: Counter[str] = field(default_factory=Counter)  # by occasion, and "answer"
    held_back: Counter[str] = field(default_factory=Counter)  # could not leave when it was asked for
    coalesced: int = 0  # was waiting already
    expired: int = 0  # answers that nobody waited for any more
    repetitive: int = 0  # answers that somebody had several times in this second
    unpaced: int = 0  # frames that would have left without a guard
    longest_wait_s: float = 0.0


ANSWER_EXPIRES_S = 3.0  # a client has given up by then, or has asked again
ANSWERS_WAITING = 1024
MOST_GIVEN = 10_000  # different answers in one second that are told apart
ANSWERS_IN_A_ROW = 3  # out of a common budget, while a takeover waits
STARVED_S = 10.0  # what is new, and has waited for so long, is treated like a takeover


class Guard:
    """The guard of one link, or of several on one switch. `roll` returns numbers from 0 to below 1."""

    def __init__(self, profile: Profile, now: float, roll: Callable[[], float] = lambda: 0.5) -> None:
        self.counts = Counts()
        self._roll = roll
        self._speakers = 1
        self._fill(profile, now)
        self._stormy_until = -math.inf
        self._waiting: dict[Key, _Waiting] = {}
        self._later: list[tuple[float, int, Key, _Waiting]] = []  # by due
        self._ready: list[tuple[int, bool, float, int, Key, _Waiting]] = []  # by urgency
        self._answers: deque[tuple[float, Key, bytes]] = deque()
        self._asked: set[tuple[Key, bytes]] = set()
        self._given: Counter[bytes] = Counter()  # answers of this second
        self._given_until = now
        self._cost = 1  # tokens for a frame
        self._segment_at = now  # before that, the segment has no room
        self._now = now  # when `due` was last asked
        self._serial = 0
        self._in_a_row = 0  # answers since the last announcement

    def adopt(self, profile: Profile, now: float) -> None:
        """From now on another profile; its buckets are empty at first, so that a change is no way around."""
        if profile != self.profile:
            self._fill(profile, now)
            self.empty(now)

    def empty(self, now: float) -> None:
        """Begin without any tokens: what it guards was guarded by another one until now."""
        self._budget.owe(now, self.profile.burst)
        self._segment.owe(now, self.profile.segment_burst)
        if not self.profile.together:
            self._answer_budget.owe(now, self.profile.answer_burst)

    def _fill(self, profile: Profile, now: float) -> None:
        self.profile = profile
        self._budget = Bucket(profile.rate, profile.burst, now)
        self._answer_budget = (
            self._budget if profile.together else Bucket(profile.answer_rate, profile.answer_burst, now)
        )
        self._segment = SegmentBudget(profile.segment_rate, profile.segment_burst, now, self._roll)
        self._segment.shared_by(self._speakers)

    @property
    def queue_length(self) -> int:
        return len(self._waiting) + len(self._answers)

    @property
    def projected_s(self) -> float:
        """How long it takes until every IP that waits has been told of once."""
        firsts = sum(waiting.occasion is not Occasion.REPEAT for waiting in self._waiting.values())
        return 0.0 if math.isinf(self.profile.rate) else firsts / self.profile.rate

    # -- in --

    def submit(self, key: Key, occasion: Occasion, now: float, *, hot: bool = False) -> None:
        """Announce `key` when there is room. What waits already becomes more urgent, if that is news."""
        if occasion in (Occasion.TAKEOVER, Occasion.NEW):
            self.counts.unpaced += UNPACED
        present = self._waiting.get(key)
        if present is not None:
            self.counts.coalesced += 1
            if present.started is None and present.occasion <= occasion:
                return
            if present.started is not None and occasion is not Occasion.TAKEOVER:
                return
        since = present.since if present is not None and present.started is None else now
        self._enter(key, _Waiting(occasion, occasion, 0, since, now, hot=hot))

    def cancel(self, key: Key) -> None:
        """Forget everything about `key` that has not left."""
        self._waiting.pop(key, None)
        if any(answer[1] == key for answer in self._answers):
            self._answers = deque(answer for answer in self._answers if answer[1] != key)
            self._asked = {(answer[1], answer[2]) for answer in self._answers}

    def answer(self, key: Key, frame: bytes, now: float) -> bool:
        """Whether the answer `frame` may leave at once; if not, it waits, and `due` will return it."""
        self.asked(key, now)
        if self._is_repetitive(frame, now):
            self.counts.repetitive += 1
            return False
        if not self._answers and not self._its_turn(now) and self._answer_budget.take(now):
            self._in_a_row += 1
            self.counts.sent["answer"] += 1
            return True
        if (key, frame) in self._asked:
            self.counts.coalesced += 1
        elif len(self._answers) >= ANSWERS_WAITING:
            self.counts.expired += 1
        else:
            self.counts.held_back["answer"] += 1
            self._answers.append((now, key, frame))
            self._asked.add((key, frame))
        return False

    def asked(self, key: Key, now: float) -> None:
        """Somebody asks for it: what waits about it goes before what nobody asks for."""
        waiting = self._waiting.get(key)
        if waiting is not None and not waiting.hot:
            waiting.hot = True
            if waiting.due <= now:
                self._make_ready(key, waiting)

    def take(self, link: str) -> list[tuple[Key, Occasion]]:
        """Give up what is to be said about this link; return it, so that another guard may have it.

        Answers that wait are still given.
        """
        taken = [(key, waiting.occasion) for key, waiting in self._waiting.items() if key[0] == link]
        for key, _ in taken:
            del self._waiting[key]
        return taken

    def heard(self, frames: int, now: float) -> None:
        """Other members of the segment sent so many unsolicited frames."""
        self._segment.heard(frames, now)

    def shared_by(self, speakers: int) -> None:
        """So many speakers have the segment in common, this one included."""
        self._speakers = speakers
        self._segment.shared_by(speakers)

    def slow_down(self, until: float) -> None:
        """Somebody storms: until then every frame but a takeover costs twice."""
        self._stormy_until = max(self._stormy_until, until)

    # -- out --

    def due(self, now: float) -> list[Sending]:
        """Return what may leave now, in order; it counts as sent."""
        self._now = now
        fresh = self._become_ready(now)
        sendings = self._due_answers(now)
        while first := self._first():
            key, waiting = first
            if self.profile.together and self._answers and not self._its_turn(now):
                break
            if not self._may_send(waiting.occasion, now):
                break
            heapq.heappop(self._ready)
            sendings += self._sent(key, waiting, now)
        for key, waiting in fresh:
            if self._waiting.get(key) is waiting:
                self.counts.held_back[waiting.occasion.name.lower()] += 1
        return sendings

    def next_wakeup(self) -> float | None:
        """When `due` may next have something; None: not before somebody asks."""
        moments = []
        if self._answers:
            moments.append(self._answer_budget.ready_at(self._cost if self._its_turn(self._now) else 1))
        if self._ready:
            moments.append(max(self._budget.ready_at(self._cost), self._segment_at))
        if self._later:
            moments.append(self._later[0][0])
        return min(moments, default=None)

    # -- inside --

    def _become_ready(self, now: float) -> list[tuple[Key, _Waiting]]:
        """Move what is due from `_later` to `_ready`."""
        fresh = []
        while self._later and self._later[0][0] <= now:
            *_, key, waiting = heapq.heappop(self._later)
            if self._waiting.get(key) is waiting:
                self._make_ready(key, waiting)
                fresh.append((key, waiting))
        return fresh

    def _make_ready(self, key: Key, waiting: _Waiting) -> None:
        """Also again, when it has become more urgent; it leaves once all the same."""
        self._serial += 1
        urgency = (waiting.occasion, not waiting.hot, waiting.since, self._serial)
        heapq.heappush(self._ready, (*urgency, key, waiting))

    def _may_send(self, occasion: Occasion, now: float) -> bool:
        """Whether both buckets, that of the link and that of the segment, let one go."""
        urgent = occasion is Occasion.TAKEOVER
        self._cost = 2 if now < self._stormy_until and not urgent else 1
        if not self._budget.holds(now, self._cost):
            return False
        if not self._segment.may_send(now, urgent=urgent):
            self._segment_at = self._segment.ready_at()
            return False
        return self._budget.take(now, self._cost)

    def _is_repetitive(self, frame: bytes, now: float) -> bool:
        if math.isinf(self.profile.per_asker):
            return False
        if now >= self._given_until or len(self._given) > MOST_GIVEN:
            self._given.clear()
            self._given_until = now + 1.0
        self._given[frame] += 1
        return self._given[frame] > self.profile.per_asker

    def _due_answers(self, now: float) -> list[Sending]:
        sendings = []
        while self._answers:
            since, key, frame = self._answers[0]
            if now - since > ANSWER_EXPIRES_S:
                self.counts.expired += 1
            elif self._its_turn(now):
                break
            elif self._answer_budget.take(now):
                self._in_a_row += 1
                sendings.append(Sending(key, None, frame, now - since))
                self._count("answer", now - since)
            else:
                break
            self._answers.popleft()
            self._asked.discard((key, frame))
        return sendings

    def _its_turn(self, now: float) -> bool:
        """Whether the next token of a common budget is for an announcement; the segment has room for it."""
        if not self.profile.together or not self._in_a_row or now < self._segment_at:
            return False
        first = self._first()
        if first is None or first[1].occasion > Occasion.NEW:
            return False
        waiting = first[1]
        urgent = waiting.occasion is Occasion.TAKEOVER
        if self._in_a_row < (1 if urgent and waiting.hot else ANSWERS_IN_A_ROW):
            return False
        return urgent or now >= waiting.since + STARVED_S

    def _first(self) -> tuple[Key, _Waiting] | None:
        """What is ready, and most urgent."""
        while self._ready:
            *_, key, waiting = self._ready[0]
            if self._waiting.get(key) is waiting:
                return key, waiting
            heapq.heappop(self._ready)  # it was cancelled, or has become more urgent
        return None

    def _enter(self, key: Key, waiting: _Waiting) -> None:
        self._waiting[key] = waiting
        self._serial += 1
        heapq.heappush(self._later, (waiting.due, self._serial, key, waiting))

    def _sent(self, key: Key, waiting: _Waiting, now: float) -> list[Sending]:
        """Count one round of `key`, and let the next one wait."""
        waited = now - waiting.since
        copies = self.profile.copies
        for _ in range(copies):
            self._count(waiting.occasion.name.lower(), waited)
        del self._waiting[key]
        self._in_a_row = 0
        schedule = self.profile.schedule(waiting.first)
        number = waiting.number + 1
        if number < len(schedule):
            started = now if waiting.started is None else waiting.started
            due = started + schedule[number] - schedule[0]
            self._enter(key, _Waiting(Occasion.REPEAT, waiting.first, number, due, due, started))
        return [Sending(key, waiting.occasion, b"", waited)] * copies

    def _count(self, what: str, waited_s: float) -> None:
        self.counts.sent[what] += 1
        self.counts.longest_wait_s = max(self.counts.longest_wait_s, waited_s)
