"""Which IPs are cooling down: released a moment ago, and given to nobody else until neighbours forgot them.

An entry that is out of date in some neighbour's ARP cache must not send one tenant's traffic to another.
What is cooling is kept in the status of the pool, and so are the IPs in use: an IP that was in use when the
controller was last seen, and that nobody holds when it begins again, was released in between.
"""

import itertools
import math
from collections.abc import Iterable, Mapping

from lbspeaker.core.allocator import Result
from lbspeaker.core.book import Cooling
from lbspeaker.core.pools import Slot, slot_of
from lbspeaker.core.standing import Turn
from lbspeaker.core.usage import had
from lbspeaker.model import Address, Pool, Range, Released, address

_MOST_IN_USE = 1 << 16  # are looked at: more was never written by us


class Coolings:
    """The IPs that are cooling down. Times are Unix times: they outlive the program."""

    def __init__(self) -> None:
        self._all: dict[Slot, Cooling] = {}
        self._active: dict[Slot, Cooling] = {}  # replaced, never changed

    def active(self, now: float) -> Mapping[Slot, Cooling]:
        """What is cooling at `now`: the same object as before, if it is the same."""
        self._all = {slot: one for slot, one in self._all.items() if one.until > now}
        if self._all != self._active:
            self._active = dict(self._all)
        return self._active

    def next_end(self) -> float | None:
        """When the next IP has cooled down."""
        return min((one.until for one in self._all.values()), default=None)

    def restore(self, pool: Pool, released: Iterable[Released]) -> None:
        """Take over what a status says."""
        for one in released:
            if one.ip in pool and pool.cooldown_s:
                self._all[slot_of(one.ip)] = Cooling(one.service, pool.name, one.until)

    def missing(self, pool: Pool, in_use: Iterable[Range], held: frozenset[Slot], now: float) -> None:
        """These IPs were in use when last seen; those that nobody holds any more were released unseen."""
        if not pool.cooldown_s:
            return
        short = [r for r in in_use if r.size <= _MOST_IN_USE]
        numbers = ((r.family, number) for r in short for number in range(int(r.first), int(r.last) + 1))
        for slot in itertools.islice(numbers, _MOST_IN_USE):
            if slot not in held and address(*slot) in pool:
                self._cool(slot, "", pool, now)

    def lost(
        self,
        key: str,
        result: Result | None,
        held: Iterable[Address],
        pools: Mapping[str, Pool],
        now: float,
    ) -> None:
        """A service that had `result` holds this now: it is gone, was made anew, or its status was edited."""
        held_now = {slot_of(ip) for ip in held}
        for slot, name in _slots(result).items():
            if slot not in held_now:
                self._cool(slot, key, pools.get(name), now)

    def _cool(self, slot: Slot, key: str, pool: Pool | None, now: float) -> None:
        if pool is not None and pool.cooldown_s:
            self._all[slot] = Cooling(key, pool.name, _end(pool, now))

    def limit(self, pools: Mapping[str, Pool], now: float) -> None:
        """Nothing cools for longer than its pool says, also if that said more once, or a clock was wrong."""
        for slot, one in list(self._all.items()):
            pool = pools.get(one.pool)
            if pool is not None and not pool.cooldown_s:
                del self._all[slot]
            elif pool is not None and one.until > _end(pool, now):
                self._all[slot] = one._replace(until=_end(pool, now))

    def turned(self, turns: Iterable[Turn], pools: Mapping[str, Pool], now: float) -> None:
        """Take note of what services left, and of what they took."""
        taken = {slot for turn in turns for slot in _slots(turn.after)}
        for turn in turns:
            after = _slots(turn.after)
            for slot, name in _slots(turn.before).items():
                if slot not in after and turn.after is not None:
                    self._cool(slot, turn.key, pools.get(name), now)
        for slot in taken:
            self._all.pop(slot, None)


def _end(pool: Pool, now: float) -> float:
    """When an IP that is released now has cooled down: whole seconds, as a status can say it."""
    return float(math.ceil(now + pool.cooldown_s))


def _slots(result: Result | None) -> dict[Slot, str]:
    """The IPs of a result, each with its pool."""
    return {slot_of(ip): pool for pool, ip in had(result)}
