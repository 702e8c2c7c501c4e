"""The composed decider of the controller: what it observes goes in, what it has to write comes out.

    observe(change) ─▶ standing (core.standing) ─▶ compare with what the services hold ─▶ Assign, Tell, Tidy
                    ─▶ configuration            ─▶ Publish; verdicts and use of pools  ─▶ Report, Protect

A write that is under way counts as done (`assumed`), until the service is told to be as it was written, or
the write is reported as failed: so the next pass neither writes it again nor gives its IP to somebody else.
Each write demands the version that it was decided from; so between that version and its own there is none.
A pass that changes nothing yields nothing. `now` is Unix time: what is cooling outlives the program.
"""

import math
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, fields, replace
from operator import attrgetter
from typing import Literal, TypeVar

from lbspeaker.core.allocator import Result, ours
from lbspeaker.core.cooling import Coolings
from lbspeaker.core.objects import Objects, Protect, Report
from lbspeaker.core.overlap import overlaps
from lbspeaker.core.pools import PoolIndex, Slot, slot_of
from lbspeaker.core.standing import Standing
from lbspeaker.model import (
    ALLOCATED,
    Allocation,
    Change,
    Condition,
    ConfigSet,
    Kind,
    Namespace,
    Node,
    Pool,
    Reason,
    Refusal,
    Service,
    Synced,
    Written,
    address_of,
)

GATE = frozenset({Kind.SERVICE, Kind.NAMESPACE, Kind.NODE, Kind.CONFIG})
EFFECTIVE = "EffectiveConfiguration/lbspeaker"
T = TypeVar("T")

REPORT_EVERY_S = 1.0
FOREIGN_S = 30.0  # so long a service of another class may wait for its own controller
_LONGEST = 1024  # characters of a condition's message


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


def condition_of(result: Result | None) -> Condition | None:
    """The condition of a service with this result; None if there is nothing to say."""
    refusal = result.note if isinstance(result, Allocation) else result
    if refusal is None:
        return None
    has: Literal["True", "False"] = "True" if isinstance(result, Allocation) else "False"
    return Condition(ALLOCATED, has, refusal.reason.value, refusal.message[:_LONGEST])


class Controller:
    """Allocates; knows nothing of who announces."""

    def __init__(self, load_balancer_class: str | None = None) -> None:
        self._class = load_balancer_class
        self._synced: set[Kind] = set()
        self._config: ConfigSet | None = None
        self._published: ConfigSet | None = None
        self._pools: tuple[Pool, ...] = ()
        self._doubts: Mapping[str, str] | None = None  # None: to be looked for
        self._index = PoolIndex(())
        self._services: dict[str, Service] = {}
        self._seen: dict[str, Service] = {}  # as they will be once what is under way is written
        self._foreign: dict[str, tuple[Service, float | None]] = {}  # of other classes, and since when
        self._namespaces: dict[str, Namespace] = {}
        self._nodes: dict[str, Node] = {}
        self._objects = Objects()
        self._standing = Standing()
        self._coolings = Coolings()
        self._assumed: dict[str, Allocation | None] = {}
        self._done: set[str] = set()  # of these, the write is done, and its echo has not come
        self._told: dict[str, Refusal] = {}
        self._left: list[Service] = []
        self._changed: set[str] = set()
        self._uncertain: set[str] = set()  # whose IPs may be of a pool that is wrong at the moment
        self._dirty = True  # something changed that is not a service
        self._unreported = False  # objects may have to be told something
        self._report_at = 0.0
        self._begun = False

    @property
    def ready(self) -> bool:
        return self._synced >= GATE

    @property
    def results(self) -> Mapping[str, Result]:
        """What each service gets, by its key."""
        return self._standing.results

    @property
    def doubts(self) -> Mapping[str, str]:
        """What is doubtful about pools, by name, beside their verdicts."""
        return self._doubts or {}

    def refusal(self, key: str) -> Refusal | None:
        """What is to be told to the user of a service, as things are now."""
        result = self.results.get(key)
        return result.note if isinstance(result, Allocation) else result

    def service(self, key: str) -> Service | None:
        """The service as it was last told."""
        return self._services.get(key)

    # -- in --

    def observe(self, change: Change | Synced) -> None:
        """Take note of what is now. The echo of a write brings nothing new, and costs no pass."""
        if isinstance(change, Synced):
            self._synced.add(change.kind)
        elif change.kind is Kind.SERVICE:
            self._observe_service(change.key, change.value if isinstance(change.value, Service) else None)
            return
        elif change.kind is Kind.NAMESPACE:
            _enter(self._namespaces, change.key, change.value, Namespace)
        elif change.kind is Kind.NODE:
            _enter(self._nodes, change.key, change.value, Node)
            self._doubts = None
        elif change.kind is Kind.OBJECT:
            self._observe_object(change.key, change.value if isinstance(change.value, Written) else None)
            return
        elif isinstance(change.value, ConfigSet):
            self._config = change.value
        self._dirty = True

    def _observe_object(self, key: str, written: Written | None) -> None:
        self._objects.observe(key, written)
        self._unreported = True
        if key == EFFECTIVE and self._published is not None:
            spec = written.document.get("spec") if written else None
            documents = spec.get("documents", ()) if isinstance(spec, Mapping) else None
            if documents is None or list(documents) != list(self._published.documents):
                self._published = None  # somebody took it away, or edited it
                self._dirty = True

    def _observe_service(self, key: str, service: Service | None) -> None:
        before = self._services.get(key)
        if before is not None and service is not None and before.uid != service.uid:
            self._forget(key)  # another service of the same name
            self._told.pop(key, None)
        _enter(self._foreign, key, self._as_foreign(key, service), tuple)
        if service is None or not ours(service, self._class):
            self._leave(key, service or before)
            return
        as_decided = self._seen.get(key)
        self._services[key] = service
        if key in self._assumed and (key in self._done or self._holds(service, self._assumed[key])):
            self._forget(key)
        self._see(key)
        if as_decided is None or not _alike(as_decided, self._seen[key]):
            self._changed.add(key)

    def _as_foreign(self, key: str, service: Service | None) -> tuple[Service, float | None] | None:
        if service is None or not service.load_balancer or ours(service, self._class) or service.held:
            return None
        return (service, self._foreign[key][1] if key in self._foreign else None)

    def _leave(self, key: str, service: Service | None) -> None:
        """A service is gone, or not ours any more."""
        if key in self._services:
            self._changed.add(key)
        for table in (self._services, self._seen, self._assumed, self._told):
            table.pop(key, None)
        self._done.discard(key)
        others = service is not None and service.load_balancer and service.load_balancer_class != self._class
        if service is not None and not others and (service.held_pool or service.condition):
            self._left.append(service)

    def written(self, effect: Assign) -> None:
        """This write is done: what is told of its service next is no older than that."""
        key = effect.service.key
        if not self._under_way(effect):
            return
        if self._services[key].resource_version != effect.service.resource_version:
            self._forget(key)  # it was told already, and something else with it
            self._changed.add(key)
        else:
            self._done.add(key)

    def failed(self, effect: Effect) -> None:
        """This write did not happen: what was seen is what there is."""
        if isinstance(effect, Report | Protect):
            self._objects.failed(effect)
            self._unreported = True
        elif isinstance(effect, Tell):
            self._told.pop(effect.service.key, None)
            self._changed.add(effect.service.key)
        elif isinstance(effect, Assign) and self._under_way(effect):
            self._forget(effect.service.key)
            self._changed.add(effect.service.key)

    def _under_way(self, assign: Assign) -> bool:
        """Whether this is the write that is assumed: a later one may have taken its place."""
        key = assign.service.key
        return key in self._assumed and self._assumed[key] is assign.allocation

    def _forget(self, key: str) -> None:
        self._assumed.pop(key, None)
        self._done.discard(key)
        self._see(key)

    def _see(self, key: str) -> None:
        """Have the service as it will be once what is under way is written."""
        service = self._services.get(key)
        if service is None:
            self._seen.pop(key, None)
        elif key in self._assumed:
            assumed = self._assumed[key]
            held = (assumed.ips, assumed.pool) if assumed else ((), None)
            condition = condition_of(assumed) if assumed else service.condition
            self._seen[key] = replace(service, held=held[0], held_pool=held[1], condition=condition)
        else:
            self._seen[key] = service

    # -- out --

    def advance(self, now: float) -> list[Effect]:
        """Return what has to be written now."""
        if not self.ready or self._config is None:
            return []
        effects: list[Effect] = [Tidy(service) for service in self._left]
        self._left.clear()
        effects += self._mentions(now)
        cooling_over = (self._coolings.next_end() or now + 1) <= now
        told_anew = self._dirty  # verdicts are not for later
        if self._dirty or self._changed or cooling_over:
            anew = self._configure(self._config)
            effects += self._publish(self._config)
            effects += self._allocate(now, anew)
            self._dirty, self._unreported = False, True
        if told_anew or (self._unreported and not 0 < self._report_at - now <= REPORT_EVERY_S):
            effects += self._report(self._config, now)
        return effects

    def next_wakeup(self) -> float | None:
        """When to call `advance` again, if nothing is observed before."""
        moments = [since + FOREIGN_S for _, since in self._foreign.values() if since is not None]
        moments += [end for end in (self._coolings.next_end(),) if end is not None]
        moments += [self._report_at] if self._unreported else []
        return min((moment for moment in moments if moment < math.inf), default=None)

    # -- inside --

    def _report(self, config: ConfigSet, now: float) -> Iterator[Effect]:
        """What the objects are to be told: at most once in a while, for what changes with every Service."""
        self._unreported, self._report_at = False, now + REPORT_EVERY_S
        cooling = self._coolings.active(now)
        yield from self._objects.advance(config, self.doubts, self._standing.usage, cooling)
        yield from self._objects.tally(EFFECTIVE, config)

    def _configure(self, config: ConfigSet) -> bool:
        """Take the pools over; whether they changed."""
        anew = not self._begun or config.config.pools != self._pools
        if anew:
            self._pools = config.config.pools
            self._index = PoolIndex(self._pools)
        if anew or self._doubts is None or any(map(self._overlaps, self._changed)):
            self._doubts = overlaps(self._pools, self._nodes.values(), self._services.values())
        return anew

    def _overlaps(self, key: str) -> bool:
        """Whether a cluster IP of this service is in a pool."""
        service = self._services.get(key)
        ips = map(address_of, service.cluster_ips if service else ())
        return any(ip is not None and self._index.pool_of(ip) is not None for ip in ips)

    def _publish(self, config: ConfigSet) -> Iterator[Publish]:
        if self._published != config:
            self._published = config
            yield Publish(config)

    def _allocate(self, now: float, anew: bool) -> Iterator[Effect]:
        by_name = {pool.name: pool for pool in self._pools}
        if not self._begun:
            self._begin(by_name, now)
        changed, self._changed = self._changed, set()
        for key in changed - self._seen.keys():
            self._coolings.gone(key, self.results.get(key), by_name, now)
        cooling = self._coolings.active(now)
        turns = self._standing.update(self._pools, self._namespaces, cooling, self._seen, changed)
        self._coolings.turned(turns, by_name, now)
        keys: Collection[str] = self._seen.keys() if anew else {*changed, *(turn.key for turn in turns)}
        yield from self._compare_all(keys)

    def _begin(self, pools: Mapping[str, Pool], now: float) -> None:
        """Take over what the status of the pools says of IPs that were released."""
        self._begun = True
        held: frozenset[Slot] = frozenset(slot_of(ip) for s in self._seen.values() for ip in s.held)
        for name, pool in pools.items():
            written = self._objects.get(f"IPAddressPool/{name}")
            if written is not None and written.status.pool is not None:
                self._coolings.missing(pool, written.status.pool.in_use, held, now)
                self._coolings.restore(pool, written.status.pool.released)

    def _compare_all(self, keys: Iterable[str]) -> Iterator[Effect]:
        assert self._config is not None
        refused = any(not v.accepted and v.key.startswith("IPAddressPool/") for v in self._config.verdicts)
        keys, self._uncertain = {*keys, *self._uncertain}, set()
        services = [self._services[key] for key in keys if key in self._services]
        for service in sorted(services, key=lambda service: service.age):
            # An IP in no pool may be one of a pool that is wrong at the moment: nobody loses it then.
            uncertain = refused and any(self._index.pool_of(ip) is None for ip in service.held)
            if uncertain:
                self._uncertain.add(service.key)
            yield from self._compare(service, bool(self._pools) and not uncertain, not uncertain)

    def _compare(self, service: Service, may_clear: bool, may_move: bool) -> Iterator[Effect]:
        key = service.key
        result = self.results[key]
        wanted = result if isinstance(result, Allocation) else None
        if not self._holds(self._seen[key], wanted) and (may_move if wanted else may_clear):
            self._assumed[key] = wanted
            self._see(key)
            yield Assign(service, wanted)
        refusal = self.refusal(key)
        if refusal is None:
            self._told.pop(key, None)
        elif self._told.get(key) != refusal:
            self._told[key] = refusal
            if service.condition != condition_of(result):
                yield Tell(service, refusal)

    @staticmethod
    def _holds(service: Service, wanted: Allocation | None) -> bool:
        """Whether nothing need be written to the service; what it was refused, `Tell` writes."""
        if wanted is None:
            return not service.held
        alike = service.held == wanted.ips and service.held_pool == wanted.pool
        return alike and service.condition == condition_of(wanted)

    def _mentions(self, now: float) -> Iterator[Mention]:
        """Who is of another class, and has waited for long."""
        for key, (service, since) in list(self._foreign.items()):
            if since is None:
                self._foreign[key] = (service, now)
            elif now >= since + FOREIGN_S:
                self._foreign[key] = (service, math.inf)  # once is enough
                yield Mention(service, class_mismatch(service, self._class))


def class_mismatch(service: Service, served: str | None) -> Refusal:
    """Why a service of another class is left alone."""
    has = f"loadBalancerClass {service.load_balancer_class}" if service.load_balancer_class else "no class"
    here = f"of loadBalancerClass {served}" if served else "without a loadBalancerClass"
    message = (
        f"the service has {has}, and lbspeaker here serves those {here}; make it anew with the right class"
    )
    return Refusal(Reason.CLASS_MISMATCH, message)


_content = attrgetter(*(name.name for name in fields(Service) if name.name != "resource_version"))


def _alike(one: Service, other: Service) -> bool:
    """Whether two versions of a service are the same but for their version."""
    return bool(_content(one) == _content(other))


def _enter(table: dict[str, T], key: str, value: object, kind: type[T]) -> None:
    if isinstance(value, kind):
        table[key] = value
    else:
        table.pop(key, None)
