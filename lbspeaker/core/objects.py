"""What the configuration objects are told: their status, and the finalizer that protects a pool in use.

verdicts, use of pools ─▶ the status that an object ought to have ─┐
                          the status that it has                  ─┴▶ Report, Protect
"""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from lbspeaker.core.book import Cooling
from lbspeaker.core.pools import Slot, slot_of
from lbspeaker.core.usage import Usage
from lbspeaker.core.words import listed
from lbspeaker.model import (
    MOST,
    Condition,
    ConfigSet,
    ObjectStatus,
    Pool,
    PoolStatus,
    Range,
    Released,
    Tally,
    Verdict,
    Written,
    address,
)

FINALIZER = "lbspeaker.io/in-use"
_LONGEST = 1024  # characters of a condition's message
_MOST_REFUSALS, _SHORT = 100, 256  # are listed in one status, each that long: it has to fit into etcd
_MOST_RELEASED = 2000


@dataclass(frozen=True, slots=True)
class Report:
    """Write the status of an object."""

    written: Written
    status: ObjectStatus


@dataclass(frozen=True, slots=True)
class Protect:
    """Have the finalizer on an object, or not."""

    written: Written
    protect: bool


class Objects:
    """The configuration objects as the API has them, and what was written to them."""

    def __init__(self) -> None:
        self._written: dict[str, Written] = {}
        self._reported: dict[str, ObjectStatus] = {}  # not seen yet
        self._protected: dict[str, bool] = {}  # not seen yet

    def observe(self, key: str, written: Written | None) -> None:
        """Take note of an object as it is now; None: it is gone."""
        if written is None:
            for table in (self._written, self._reported, self._protected):
                table.pop(key, None)
            return
        self._written[key] = written
        if self._reported.get(key) == written.status:
            del self._reported[key]
        if self._protected.get(key) == (FINALIZER in written.finalizers):
            del self._protected[key]

    def get(self, key: str) -> Written | None:
        return self._written.get(key)

    def failed(self, effect: Report | Protect) -> None:
        """This write was not done: what the object was seen to have is what it has."""
        table: dict[str, object] = self._reported if isinstance(effect, Report) else self._protected  # type: ignore[assignment]
        table.pop(effect.written.key, None)

    def advance(
        self,
        config: ConfigSet,
        doubts: Mapping[str, str],
        usage: Usage,
        cooling: Mapping[Slot, Cooling],
    ) -> Iterator[Report | Protect]:
        """What has to be written. `doubts`: by name of a pool, what is doubtful beside its verdict."""
        pools = {pool.name: pool for pool in config.config.pools}
        released = released_of(usage, cooling)
        for verdict in config.verdicts:
            written = self._written.get(verdict.key)
            if written is None:
                continue
            pool = pools.get(written.name) if written.kind == "IPAddressPool" else None
            conditions = [_accepted(verdict, doubts.get(written.name, "") if pool else "")]
            status = None
            if pool is None and written.kind == "IPAddressPool" and written.deleted:
                yield from self._protect(written, False)  # it was never in force, or is not any more
            if pool is not None:
                conditions += _draining(pool, usage, verdict.generation)
                status = pool_status(pool, usage, released.get(pool.name, ()))
                yield from self._protect(written, bool(usage.of(pool.name).services))
            yield from self._report(written, ObjectStatus(tuple(conditions), status))

    def tally(self, key: str, config: ConfigSet) -> Iterator[Report]:
        """What the object `key` is told about all of the configuration."""
        written = self._written.get(key)
        if written is not None:
            refused = [verdict for verdict in config.verdicts if not verdict.accepted]
            refusals = tuple((v.key, _short(v.message, _SHORT)) for v in refused[:_MOST_REFUSALS])
            tally = Tally(len(config.verdicts) - len(refused), len(refused), refusals)
            yield from self._report(written, ObjectStatus(tally=tally))

    def _report(self, written: Written, status: ObjectStatus) -> Iterator[Report]:
        if written.foreign:
            if status.pool is None:
                return
            status = ObjectStatus(pool=_as_metallb(status.pool))
        if self._reported.get(written.key, written.status) != status:
            self._reported[written.key] = status
            yield Report(written, status)

    def _protect(self, written: Written, wanted: bool) -> Iterator[Protect]:
        """MetalLB's own pools are left as they are: it would not know how to take the finalizer away."""
        present = self._protected.get(written.key, FINALIZER in written.finalizers)
        if written.foreign or present == wanted or (wanted and written.deleted):
            return
        self._protected[written.key] = wanted
        yield Protect(written, wanted)


def released_of(usage: Usage, cooling: Mapping[Slot, Cooling]) -> dict[str, list[Released]]:
    """The IPs that are cooling down, by pool, ascending."""
    released: dict[str, list[Released]] = {}
    for slot, one in sorted(cooling.items()):
        if not usage.in_use(one.pool, slot):
            released.setdefault(one.pool, []).append(Released(address(*slot), one.service, one.until))
    return released


def pool_status(pool: Pool, usage: Usage, released: Sequence[Released] = ()) -> PoolStatus:
    """Return how far a pool is used up."""
    use = usage.of(pool.name)
    sizes = pool.size(4), pool.size(6)
    reserved = {ip for one in pool.reservations for ip in one.ips} | {one.ip for one in released}
    kept_free = Counter(ip.version for ip in reserved if not usage.in_use(pool.name, slot_of(ip)))
    free = 0 if pool.closed else 1
    return PoolStatus(
        assigned_v4=use.assigned[4],
        assigned_v6=use.assigned[6],
        available_v4=min(sizes[0] - use.assigned[4] - kept_free[4], MOST) * free,
        available_v6=min(sizes[1] - use.assigned[6] - kept_free[6], MOST) * free,
        size_v4=min(sizes[0], MOST),
        size_v6=min(sizes[1], MOST),
        pending=use.pending,
        released=tuple(released[:_MOST_RELEASED]),
        in_use=tuple(Range(address(*a), address(*b)) for a, b in usage.spans(pool.name))
        if pool.cooldown_s
        else (),
    )


def _as_metallb(pool: PoolStatus) -> PoolStatus:
    """What MetalLB's own objects have room for."""
    return PoolStatus(pool.assigned_v4, pool.assigned_v6, pool.available_v4, pool.available_v6)


def _accepted(verdict: Verdict, doubt: str) -> Condition:
    message = "; ".join(text for text in (verdict.message, doubt) if text)
    doubtful = verdict.doubtful or bool(doubt)
    reason = "Invalid" if not verdict.accepted else "Doubtful" if doubtful else "Accepted"
    return Condition(
        "Accepted",
        "True" if verdict.accepted else "False",
        reason,
        _short(message or "in force"),
        verdict.generation,
    )


def _draining(pool: Pool, usage: Usage, generation: int) -> Iterator[Condition]:
    """A pool that gives nothing any more: who still has IPs of it."""
    if not pool.closed:
        return
    users = sorted(usage.services(pool.name))
    if users:
        message = f"no new IPs are given; still in use by {listed(users)}"
    else:
        message = "no new IPs are given; nobody has any"
    reason = "Deleted" if pool.deleted else "Disabled"
    yield Condition("Draining", "True" if users else "False", reason, _short(message), generation)


def _short(message: str, most: int = _LONGEST) -> str:
    return message if len(message) <= most else message[: most - 1] + "…"
