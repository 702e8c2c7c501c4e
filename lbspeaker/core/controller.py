"""The composed decider of the controller: what it observes goes in, what it has to write comes out.

    observe(change) ─▶ services (core.services) ─▶ standing (core.standing) ─▶ Assign, Tell, Mention, Tidy
                    ─▶ configuration ─▶ Publish;  verdicts, use of pools (core.objects) ─▶ Report, Protect

A pass that changes nothing yields nothing. `now` is Unix time: what is cooling outlives the program.
"""

import math
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from typing import TypeVar

from lbspeaker.core.allocator import Result, lack
from lbspeaker.core.book import Cooling
from lbspeaker.core.cooling import Coolings
from lbspeaker.core.objects import Objects, Protect, Report, pool_status, released_of
from lbspeaker.core.overlap import overlaps
from lbspeaker.core.pools import PoolIndex, Slot, slot_of
from lbspeaker.core.services import Services, condition_of, holds
from lbspeaker.core.standing import Standing
from lbspeaker.model import (
    Allocation,
    Change,
    Condition,
    ConfigSet,
    Kind,
    Namespace,
    Node,
    Pool,
    PoolStatus,
    Reason,
    Refusal,
    Service,
    Synced,
    Written,
    address_of,
)

GATE = frozenset({Kind.SERVICE, Kind.NAMESPACE, Kind.NODE, Kind.CONFIG})
EFFECTIVE = "EffectiveConfiguration/lbspeaker"
REPORT_EVERY_S = 1.0
MOST_PASSES = 5
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Assign:
    """Write to the status of `service` what it holds now; None: nothing."""

    service: Service
    allocation: Allocation | None


@dataclass(frozen=True, slots=True)
class Tell:
    """Tell the user of `service`, by an event and a condition: a refusal, or what it did not get beside."""

    service: Service
    refusal: Refusal


@dataclass(frozen=True, slots=True)
class Mention:
    """Say to the user of a service that is not ours why we leave it alone."""

    service: Service
    refusal: Refusal


@dataclass(frozen=True, slots=True)
class Tidy:
    """The service is gone, or no longer of type LoadBalancer: then what we wrote to it is to be removed."""

    service: Service


@dataclass(frozen=True, slots=True)
class Publish:
    """Make these documents the effective configuration of all speakers."""

    config: ConfigSet


Effect = Assign | Tell | Mention | Tidy | Publish | Report | Protect


class Controller:
    """Allocates; knows nothing of who announces."""

    def __init__(self, load_balancer_class: str | None = None) -> None:
        self._class = load_balancer_class
        self._synced: set[Kind] = set()
        self._config: ConfigSet | None = None
        self._published: ConfigSet | None = None
        self._pools: tuple[Pool, ...] = ()
        self._index = PoolIndex(())
        self._doubts: Mapping[str, str] | None = None  # None: to be looked for
        self._namespaces: dict[str, Namespace] = {}
        self._nodes: dict[str, Node] = {}
        self._services = Services(load_balancer_class)
        self._standing = Standing()
        self._coolings = Coolings()
        self._objects = Objects()
        self._kept_free: tuple[Mapping[Slot, Cooling], int, Mapping[Slot, Cooling]] = {}, -1, {}
        self._asked: dict[str, tuple[str, Condition]] = {}  # by service: its uid, the condition to be written
        self._shown: set[str] = set()  # whose condition was seen to be there
        self._uncertain: dict[str, Refusal] = {}  # whose IPs may be of a pool that is wrong at the moment
        self._dirty = True  # something changed that is not a service
        self._unreported = False  # objects may have to be told something
        self._report_at = 0.0
        self._restored: set[str] | None = None  # pools whose status was taken over

    @property
    def ready(self) -> bool:
        return self._synced >= GATE

    @property
    def awaits(self) -> tuple[str, ...]:
        """What is still to be known before it can decide."""
        return tuple(f"{kind.value}s" for kind in sorted(GATE - self._synced))

    @property
    def results(self) -> Mapping[str, Result]:
        """What each service gets, by its key."""
        return self._standing.results

    def pools(self, now: float) -> dict[str, PoolStatus]:
        """How far each pool is used up."""
        usage = self._standing.usage
        released = released_of(usage, self._coolings.active(now))
        return {pool.name: pool_status(pool, usage, released.get(pool.name, ())) for pool in self._pools}

    @property
    def doubts(self) -> Mapping[str, str]:
        """What is doubtful about pools, by name, beside their verdicts."""
        return self._doubts or {}

    def refusal(self, key: str) -> Refusal | None:
        """What is to be told to the user of a service, as things are now."""
        return self._uncertain.get(key) or lack(self.results.get(key))

    def condition(self, key: str) -> Condition | None:
        """The condition that a service is to have, as things are now."""
        result, why = self.results.get(key), self._uncertain.get(key)
        if why is not None:
            return condition_of(Allocation((), (), why))
        return condition_of(result)

    def service(self, key: str) -> Service | None:
        """The service as it was last told."""
        return self._services.told.get(key)

    # -- in --

    def observe(self, change: Change | Synced) -> None:
        """Take note of what is now."""
        if isinstance(change, Synced):
            self._synced.add(change.kind)
        elif change.kind is Kind.SERVICE:
            self._services.observe(change.key, change.value if isinstance(change.value, Service) else None)
            return
        elif change.kind is Kind.OBJECT:
            self._observe_object(change.key, change.value if isinstance(change.value, Written) else None)
            return
        elif change.kind is Kind.NAMESPACE:
            _enter(self._namespaces, change.key, change.value, Namespace)
        elif change.kind is Kind.NODE:
            _enter(self._nodes, change.key, change.value, Node)
            self._doubts = None
        elif isinstance(change.value, ConfigSet):
            self._config = change.value
        self._dirty = True

    def _observe_object(self, key: str, written: Written | None) -> None:
        self._objects.observe(key, written)
        self._unreported = True
        if key == EFFECTIVE and self._published is not None:
            spec = written.document.get("spec") if written else None
            documents = spec.get("documents") if isinstance(spec, Mapping) else None
            if written is None or (documents or []) != list(self._published.documents):
                self._published = None  # somebody took it away, or edited it
                self._dirty = True

    def written(self, effect: Assign) -> None:
        """This write is done."""
        self._services.written(effect.service, effect.allocation)

    def failed(self, effect: Effect) -> None:
        """This write did not happen: what was seen is what there is."""
        if isinstance(effect, Report | Protect):
            self._objects.failed(effect)
            self._unreported = True
        elif isinstance(effect, Tell):
            self._asked.pop(effect.service.key, None)
            self._services.changed.add(effect.service.key)
        elif isinstance(effect, Assign):
            self._services.failed(effect.service.key, effect.allocation)

    # -- out --

    def advance(self, now: float) -> list[Effect]:
        """Return what has to be written now."""
        if not self.ready or self._config is None:
            return []
        effects: list[Effect] = [Tidy(service) for service in self._services.gone]
        self._services.gone.clear()
        effects += [Mention(s, class_mismatch(s, self._class)) for s in self._services.neglected(now)]
        end = self._coolings.next_end()
        told_anew = self._dirty  # verdicts are not for later
        if self._dirty or self._services.changed or (end is not None and end <= now):
            anew = self._configure(self._config)
            if self._published != self._config:
                self._published = self._config
                effects.append(Publish(self._config))
            effects += self._allocate(now, anew)
            self._dirty, self._unreported = False, True
        if told_anew or (self._unreported and not 0 < self._report_at - now <= REPORT_EVERY_S):
            effects += self._report(self._config, now)
        return effects

    def next_wakeup(self) -> float | None:
        """When to call `advance` again, if nothing is observed before."""
        if not self.ready or self._config is None:
            return None
        report_at = self._report_at if self._unreported else None
        moments = (self._services.next_neglected(), self._coolings.next_end(), report_at)
        return min((moment for moment in moments if moment is not None), default=None)

    # -- inside --

    def _report(self, config: ConfigSet, now: float) -> Iterator[Effect]:
        """What the objects are to be told: at most once in a while, for what changes with every service."""
        self._unreported, self._report_at = False, now + REPORT_EVERY_S
        cooling = self._coolings.active(now)
        yield from self._objects.advance(config, self.doubts, self._standing.usage, cooling)
        yield from self._objects.tally(EFFECTIVE, config)

    def _configure(self, config: ConfigSet) -> bool:
        """Take the pools over; whether they changed."""
        anew = self._restored is None or config.config.pools != self._pools
        if anew:
            self._pools = config.config.pools
            self._index = PoolIndex(self._pools)
        if anew or self._doubts is None or any(map(self._may_overlap, self._services.changed)):
            self._doubts = overlaps(self._pools, self._nodes.values(), self._services.told.values())
        return anew

    def _may_overlap(self, key: str) -> bool:
        """Whether a cluster IP of this service is in a pool, or was."""
        service = self.service(key)
        if any(key in doubt for doubt in self.doubts.values()):
            return True
        ips = map(address_of, service.cluster_ips if service else ())
        return any(ip is not None and self._index.pool_of(ip) is not None for ip in ips)

    def _allocate(self, now: float, anew: bool) -> Iterator[Effect]:
        seen, by_name = self._services.seen, {pool.name: pool for pool in self._pools}
        if anew:
            self._restore(by_name, now)
        changed, self._services.changed = self._services.changed, set()
        for key in changed:
            if key not in seen:
                self._asked.pop(key, None)
                self._shown.discard(key)
            held = seen[key].held if key in seen else ()
            self._coolings.lost(key, self.results.get(key), held, by_name, now)
        for _ in range(MOST_PASSES):  # what one gets or leaves may change what others are told
            not_free = self._not_free(now)
            turns = self._standing.update(self._pools, self._namespaces, not_free, seen, changed)
            self._coolings.turned(turns, by_name, now)
            yield from self._compare_all(seen.keys() if anew else {*changed, *(turn.key for turn in turns)})
            if not turns:
                break
            changed, anew = set(), False

    def _not_free(self, now: float) -> Mapping[Slot, Cooling]:
        """The IPs that are cooling down, and those that somebody is only about to leave."""
        cooling, leavings = self._coolings.active(now), self._services.leavings
        if cooling is not self._kept_free[0] or leavings != self._kept_free[1]:
            both = {slot: Cooling(key, "", math.inf) for slot, key in self._services.leaving.items()}
            self._kept_free = cooling, leavings, {**cooling, **both} if both else cooling
        return self._kept_free[2]

    def _restore(self, pools: Mapping[str, Pool], now: float) -> None:
        """Take over what the status of pools, new to us, says of IPs that were released."""
        news = pools.keys() - (self._restored or set())
        held: frozenset[Slot] = frozenset(
            slot_of(ip) for service in self._services.seen.values() for ip in service.held if news
        )
        for name in news:
            written = self._objects.get(f"IPAddressPool/{name}")
            if written is not None and written.status.pool is not None:
                self._coolings.missing(pools[name], written.status.pool.in_use, held, now)
                self._coolings.restore(pools[name], written.status.pool.released)
        self._restored = set(pools)
        self._coolings.limit(pools, now)

    def _compare_all(self, keys: Collection[str]) -> Iterator[Effect]:
        wrong = self._wrong_pools()
        keys, self._uncertain = {*keys, *self._uncertain}, {}
        services = [service for key in keys if (service := self.service(key)) is not None]
        for service in sorted(services, key=lambda service: service.age):
            why = self._why_uncertain(service, wrong) if wrong else None
            if why is not None:
                self._uncertain[service.key] = why
            else:
                yield from self._compare(service)
            yield from self._tell(service)

    def _wrong_pools(self) -> frozenset[str]:
        """The pools that are refused, and of which no right version is in force."""
        assert self._config is not None
        keys = (v.key.partition("/") for v in self._config.verdicts if not v.accepted)
        refused = {name for kind, _, name in keys if kind == "IPAddressPool"}
        return frozenset(refused - {pool.name for pool in self._pools})

    def _why_uncertain(self, service: Service, wrong: frozenset[str]) -> Refusal | None:
        """An IP in no pool may be one of a pool that is wrong at the moment: nobody loses it then."""
        if service.requested_ips or service.requested_pool:
            return None
        for ip in service.held:
            name = service.pool_held(ip)
            if self._index.pool_of(ip) is None and (name is None or name in wrong):
                pools = name or ", ".join(sorted(wrong)[:3])
                message = f"{ip} is in no pool in force, and {pools} is refused: kept until that is mended"
                return Refusal(Reason.OUTSIDE_POOL, message)
        return None

    def _compare(self, service: Service) -> Iterator[Assign]:
        """Have the service hold what it is to hold. Without any pool nobody loses what he has."""
        result = self.results[service.key]
        wanted = result if isinstance(result, Allocation) else None
        if not holds(self._services.seen[service.key], wanted) and (wanted or self._pools):
            self._services.assume(service.key, wanted)
            yield Assign(service, wanted)

    def _tell(self, service: Service) -> Iterator[Tell]:
        """Have the user of the service told what he is not told yet, or not any more."""
        key, refusal, condition = service.key, self.refusal(service.key), self.condition(service.key)
        if refusal is None or condition is None:
            self._asked.pop(key, None)
            self._shown.discard(key)
        elif service.condition == condition:
            self._asked[key] = (service.uid, condition)
            self._shown.add(key)
        elif self._asked.get(key) != (service.uid, condition) or key in self._shown:
            self._asked[key] = (service.uid, condition)
            self._shown.discard(key)
            yield Tell(service, refusal)


def class_mismatch(service: Service, served: str | None) -> Refusal:
    """Why a service of another class is left alone."""
    has = f"loadBalancerClass {service.load_balancer_class}" if service.load_balancer_class else "no class"
    here = f"of loadBalancerClass {served}" if served else "without a loadBalancerClass"
    message = (
        f"the service has {has}, and lbspeaker here serves those {here}; make it anew with the right class"
    )
    return Refusal(Reason.CLASS_MISMATCH, message)


def _enter(table: dict[str, T], key: str, value: object, kind: type[T]) -> None:
    if isinstance(value, kind):
        table[key] = value
    else:
        table.pop(key, None)
