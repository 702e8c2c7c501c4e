"""The composed decider of the controller: what it observes goes in, what it has to write comes out.

    observe(change) ─▶ allocate() ─▶ compare with what the services hold ─▶ Assign, Tell, Publish

A write that is under way counts as done (`assumed`), until the service is told to be as it was written, or
the write is reported as failed: so the next pass neither writes it again nor gives its IP to somebody else.
Each write demands the version that it was decided from; so between that version and its own there is none.
A pass that changes nothing yields nothing.
"""

from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from operator import attrgetter

from lbspeaker.core.allocator import PoolIndex, allocate, ours
from lbspeaker.model import (
    Allocation,
    Change,
    ConfigSet,
    Kind,
    Namespace,
    Refusal,
    Service,
    Synced,
)

GATE = frozenset({Kind.SERVICE, Kind.NAMESPACE, Kind.CONFIG})


@dataclass(frozen=True, slots=True)
class Assign:
    """Write to the status of `service` what it holds now; None: nothing."""

    service: Service
    allocation: Allocation | None


@dataclass(frozen=True, slots=True)
class Tell:
    """Tell the user of `service`, by an event: a refusal, or what it did not get beside its allocation."""

    service: Service
    refusal: Refusal


@dataclass(frozen=True, slots=True)
class Publish:
    """Make these documents the effective configuration of all speakers."""

    config: ConfigSet


Effect = Assign | Tell | Publish


class Controller:
    """Allocates; knows nothing of who announces."""

    def __init__(self, load_balancer_class: str | None = None) -> None:
        self.allocations: Mapping[str, Allocation | Refusal] = {}
        self._class = load_balancer_class
        self._synced: set[Kind] = set()
        self._config: ConfigSet | None = None
        self._published: ConfigSet | None = None
        self._services: dict[str, Service] = {}
        self._namespaces: dict[str, Namespace] = {}
        self._assumed: dict[str, Allocation | None] = {}
        self._written: set[str] = set()  # of these, the write is done, and its echo has not come
        self._told: dict[str, Refusal] = {}
        self._changed = False

    @property
    def ready(self) -> bool:
        return self._synced >= GATE

    # -- in --

    def observe(self, change: Change | Synced) -> None:
        """Take note of what is now. The echo of a write brings nothing new, and costs no pass."""
        if isinstance(change, Change) and change.kind is Kind.SERVICE:
            self._observe_service(change.key, change.value if isinstance(change.value, Service) else None)
            return
        self._changed = True
        if isinstance(change, Synced):
            self._synced.add(change.kind)
        elif change.kind is Kind.NAMESPACE and isinstance(change.value, Namespace):
            self._namespaces[change.key] = change.value
        elif change.kind is Kind.NAMESPACE:
            self._namespaces.pop(change.key, None)
        elif change.kind is Kind.CONFIG and isinstance(change.value, ConfigSet):
            self._config = change.value

    def _observe_service(self, key: str, service: Service | None) -> None:
        before = self._services.get(key)
        if before is not None and service is not None and before.uid != service.uid:
            self._forget(key)  # another service of the same name
            self._told.pop(key, None)
        if service is None or not ours(service, self._class):
            for table in (self._services, self._assumed, self._told):
                table.pop(key, None)
            self._written.discard(key)
            self._changed = self._changed or before is not None
            return
        as_decided = self._seen(before) if before is not None else None
        self._services[key] = service
        if key in self._assumed and (key in self._written or _holds(service, self._assumed[key])):
            self._forget(key)
        if as_decided is None or not _alike(as_decided, self._seen(service)):
            self._changed = True

    def written(self, assign: Assign) -> None:
        """This write is done: what is told of its service next is no older than that."""
        key = assign.service.key
        if not self._under_way(assign):
            return
        if self._services[key].resource_version != assign.service.resource_version:
            self._forget(key)  # it was told already, and something else with it
            self._changed = True
        else:
            self._written.add(key)

    def failed(self, assign: Assign) -> None:
        """This write did not happen: what its service was seen to hold is what it holds."""
        if self._under_way(assign):
            self._forget(assign.service.key)
            self._changed = True

    def _under_way(self, assign: Assign) -> bool:
        """Whether this is the write that is assumed: a later one may have taken its place."""
        key = assign.service.key
        return key in self._assumed and self._assumed[key] is assign.allocation

    def _forget(self, key: str) -> None:
        self._assumed.pop(key, None)
        self._written.discard(key)

    # -- out --

    def advance(self) -> list[Effect]:
        """Return what has to be written now."""
        if not self.ready or not self._changed or self._config is None:
            return []
        self._changed = False
        effects: list[Effect] = []
        if self._published != self._config:
            self._published = self._config
            effects.append(Publish(self._config))
        pools = self._config.config.pools
        refused = any(p.severity == "error" and "IPAddressPool/" in p.object for p in self._config.problems)
        index = PoolIndex(pools)
        self.allocations = allocate(pools, map(self._seen, self._services.values()), self._namespaces)
        for key, result in self.allocations.items():
            service = self._services[key]
            # An IP that is in no pool may be one of a pool that is wrong at the moment: nobody loses it then.
            uncertain = refused and any(index.pool_of(ip) is None for ip in service.held)
            effects += self._compare(service, result, bool(pools) and not uncertain, not uncertain)
        return effects

    # -- inside --

    def _seen(self, service: Service) -> Service:
        """The service as it will be once what is under way is written."""
        if service.key not in self._assumed:
            return service
        assumed = self._assumed[service.key]
        return replace(
            service,
            held=assumed.ips if assumed else (),
            held_pool=assumed.pool if assumed else None,
        )

    def _compare(
        self, service: Service, result: Allocation | Refusal, may_clear: bool, may_move: bool
    ) -> list[Effect]:
        effects: list[Effect] = []
        wanted = result if isinstance(result, Allocation) else None
        if not _holds(self._seen(service), wanted) and (may_move if wanted else may_clear):
            self._assumed[service.key] = wanted
            effects.append(Assign(service, wanted))
        refusal = result if isinstance(result, Refusal) else result.note
        if refusal is None:
            self._told.pop(service.key, None)
        elif self._told.get(service.key) != refusal:
            self._told[service.key] = refusal
            effects.append(Tell(service, refusal))
        return effects


_content = attrgetter(*(name.name for name in fields(Service) if name.name != "resource_version"))


def _alike(one: Service, other: Service) -> bool:
    """Whether two versions of a service are the same but for their version."""
    return bool(_content(one) == _content(other))


def _holds(service: Service, allocation: Allocation | None) -> bool:
    if allocation is None:
        return not service.held
    return service.held == allocation.ips and service.held_pool == allocation.pool
