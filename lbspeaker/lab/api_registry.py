"""What the verbs mean: create, replace, patch, delete on stored objects. Values in, entries out; no I/O.

A request changes an object in these steps: decode (elsewhere), merge with what is stored, keep what only the
system may set, admit (defaults and refusals of its kind), compare, store. A write that changes nothing stores
nothing. `now` is the time as an RFC 3339 text in UTC.
"""

import random
import uuid
from collections.abc import Callable
from dataclasses import dataclass

from lbspeaker.lab import api_crds, api_events, api_kinds, api_objects, api_schema, api_services
from lbspeaker.lab.api_errors import (
    ApiStatus,
    Cause,
    Named,
    already_exists,
    conflict,
    invalid,
    not_found,
    refused,
    required,
    unmet,
    wrong,
)
from lbspeaker.lab.api_network import ServiceNetwork
from lbspeaker.lab.api_resources import CRDS, NAMESPACES, SERVICES, Catalog, Resource
from lbspeaker.lab.api_store import Entry, Json, Store, seal

EVENTS = ("", "events")
_SUFFIX = "bcdfghjklmnpqrstvwxz2456789"  # no vowels: no words (apimachinery's util/rand)
NOTHING = Named("", "", "")
NAMESPACE = next(r for r in Catalog() if r.table == NAMESPACES).named
# Kinds that answer a DELETE with the object itself, not with a Status.
RETURNED = {SERVICES, ("", "pods"), ("", "serviceaccounts")}


@dataclass(frozen=True, slots=True)
class Options:
    """What a write's query and DeleteOptions say."""

    dry_run: bool = False
    validation: str = "Warn"  # of unknown fields: Ignore, Warn or Strict
    uid: str = ""  # a precondition; of a new object: the one that a backup has
    resource_version: str = ""


@dataclass(frozen=True, slots=True)
class Written:
    """The outcome of a write. `created`: answer 201; `gone`: the object no longer exists."""

    entry: Entry
    created: bool = False
    gone: bool = False
    warnings: tuple[str, ...] = ()


class Registry:
    def __init__(
        self, store: Store, catalog: Catalog, network: ServiceNetwork, seed: int | None = None
    ) -> None:
        self.store = store
        self.catalog = catalog
        self.network = network
        self._random = random.Random(seed)  # noqa: S311 - names and uids, no secrets

    # --- read -------------------------------------------------------------------------------------------

    def get(self, resource: Resource, namespace: str, name: str) -> Entry:
        """Return the entry; raises ApiStatus 404 if there is none."""
        entry = self.store.get(resource.table, resource.key(namespace, name))
        if entry is None:
            raise not_found(resource.named, name)
        return entry

    # --- create -----------------------------------------------------------------------------------------

    def create(
        self, resource: Resource, namespace: str, body: Json, now: str, options: Options = Options()
    ) -> Written:
        """Store a new object; raises ApiStatus 400, 404 (no namespace), 409 (exists) or 422."""
        body, warnings = api_objects.accept(resource, body, options.validation)
        metadata = api_objects.own_metadata(body, resource, namespace)
        if body["metadata"].get("resourceVersion"):
            raise ApiStatus(500, "", "resourceVersion should not be set on objects to be created")
        if not metadata.get("name"):
            if not metadata.get("generateName"):
                raise invalid(
                    resource.named, "", [required("metadata.name", "name or generateName is required")]
                )
            metadata["name"] = metadata["generateName"] + "".join(self._random.choices(_SUFFIX, k=5))
        name = metadata["name"]
        self._check_home(resource, namespace, name)
        key = resource.key(namespace, name)
        if self.store.get(resource.table, key) is not None:
            raise already_exists(resource.named, name)
        metadata |= {
            "uid": options.uid or str(uuid.UUID(int=self._random.getrandbits(128), version=4)),
            "creationTimestamp": now,
        }
        if resource.counted:
            metadata["generation"] = 1
        new = {**body, "metadata": metadata}
        if resource.status and resource.table not in api_kinds.STATUS_AT_CREATION:
            new.pop("status", None)
        new, causes = self._admit(resource, new, None, now)
        causes = [*api_kinds.validate_name(resource.table, name), *causes]
        if causes:
            raise invalid(resource.named, name, causes)
        return Written(self._put(resource, key, new, options), created=True, warnings=warnings)

    def _check_home(self, resource: Resource, namespace: str, name: str) -> None:
        if not resource.namespaced:
            return
        home = self.store.get(NAMESPACES, namespace)
        if home is None:
            raise not_found(NAMESPACE, namespace)
        if "deletionTimestamp" in home.object["metadata"]:
            why = f"unable to create new content in namespace {namespace} because it is being terminated"
            raise refused(resource.named, name, why)

    # --- update -----------------------------------------------------------------------------------------

    def replace(
        self,
        resource: Resource,
        namespace: str,
        name: str,
        body: Json,
        now: str,
        options: Options = Options(),
        *,
        status: bool = False,
    ) -> Written:
        """PUT: replace the object, or only its status; raises ApiStatus 400, 404, 409 or 422."""
        api_objects.check_place(body, resource, namespace, name)
        old = self.store.get(resource.table, resource.key(namespace, name))
        if old is None:
            if resource.upsert and not status:
                return self.create(resource, namespace, body, now, options)
            raise not_found(resource.named, name)
        body, warnings = api_objects.accept(resource, body, options.validation)
        if not body["metadata"].get("resourceVersion") and not resource.blind:
            cause = wrong("metadata.resourceVersion", 0, "must be specified for an update")
            plural = Named(resource.group, resource.plural, resource.plural)  # as the real one says it
            raise invalid(plural, name, [cause])
        written = self._update(resource, old, body, now, options, status=status)
        return Written(written.entry, gone=written.gone, warnings=warnings)

    def patch(
        self,
        resource: Resource,
        namespace: str,
        name: str,
        change: Callable[[Json], Json],
        now: str,
        options: Options = Options(),
        *,
        status: bool = False,
        upsert: bool = False,
    ) -> Written:
        """PATCH: store what `change` makes of the object; `upsert`: create it if it is not there."""
        old = self.store.get(resource.table, resource.key(namespace, name))
        if old is None:
            if upsert and not status:
                return self.create(
                    resource, namespace, change(api_objects.blank(resource, name)), now, options
                )
            raise not_found(resource.named, name)
        changed = change(
            {"kind": resource.kind, "apiVersion": resource.api_version, **self.view(resource, old)}
        )
        api_objects.check_place(changed, resource, namespace, name)
        uid = changed["metadata"].get("uid")
        if uid and uid != old.object["metadata"]["uid"]:
            raise invalid(resource.named, name, [wrong("metadata.uid", uid, "field is immutable")])
        try:
            changed, warnings = api_objects.accept(resource, changed, options.validation)
        except api_objects.Undecodable as error:
            raise invalid(NOTHING, "", [wrong("patch", "…", error.why)]) from None
        written = self._update(resource, old, changed, now, options, status=status)
        return Written(written.entry, gone=written.gone, warnings=warnings)

    def _update(
        self, resource: Resource, old: Entry, body: Json, now: str, options: Options, *, status: bool
    ) -> Written:
        name, before = old.name, old.object
        wanted = body["metadata"].get("resourceVersion")
        if wanted and wanted != str(old.rv):
            raise conflict(resource.named, name)
        uid = body["metadata"].get("uid")
        if uid and uid != before["metadata"]["uid"]:
            actual = before["metadata"]["uid"]
            why = f"Precondition failed: UID in precondition: {uid}, UID in object meta: {actual}"
            raise conflict(resource.named, name, why)
        new = api_objects.merge_system(resource, before, body, status=status)
        new, causes = self._admit(resource, new, before, now, status=status)
        if causes:
            raise invalid(resource.named, name, causes)
        if api_objects.same(new, before):
            return Written(old)
        if resource.counted and api_objects.respecified(resource, new, before):
            new["metadata"]["generation"] = before["metadata"].get("generation", 0) + 1
        finished = "deletionTimestamp" in new["metadata"] and not new["metadata"].get("finalizers")
        if finished and not options.dry_run:
            return Written(self._remove(resource, old, new), gone=True)
        return Written(self._put(resource, old.key, new, options))

    # --- delete -----------------------------------------------------------------------------------------

    def delete(
        self, resource: Resource, namespace: str, name: str, now: str, options: Options = Options()
    ) -> Written:
        """Delete the object, or mark it while it has finalizers; raises ApiStatus 404 or 409."""
        old = self.get(resource, namespace, name)
        metadata = old.object["metadata"]
        if options.uid and options.uid != metadata["uid"]:
            why = f"the UID in the precondition ({options.uid}) does not match the UID in record"
            more = "The object might have been deleted and then recreated"
            raise unmet(resource.named, name, f"{why} ({metadata['uid']}). {more}")
        if options.resource_version and options.resource_version != str(old.rv):
            wanted = options.resource_version
            why = f"the ResourceVersion in the precondition ({wanted}) does not match"
            raise unmet(
                resource.named,
                name,
                f"{why} the ResourceVersion in record ({old.rv}). The object might have been modified",
            )
        if not metadata.get("finalizers"):
            return Written(old if options.dry_run else self._remove(resource, old), gone=True)
        if "deletionTimestamp" in metadata:
            return Written(old)
        marked = {**metadata, "deletionTimestamp": now, "deletionGracePeriodSeconds": 0}
        if "generation" in marked:
            marked["generation"] += 1
        return Written(self._put(resource, old.key, {**old.object, "metadata": marked}, options))

    def _remove(self, resource: Resource, old: Entry, last: Json | None = None) -> Entry:
        if resource.table == NAMESPACES:
            for table in list(self.store.tables):
                for entry in self.store.entries(table, namespace=old.name):
                    self.store.remove(table, entry.key)
                    if table == SERVICES:
                        self.network.commit(entry.object, None)
        if resource.table == CRDS:
            table = api_crds.table_of(old.object)
            self.catalog.replace(table, ())
            for entry in self.store.entries(table):
                self.store.remove(table, entry.key)
        if resource.table == SERVICES:
            self.network.commit(old.object, None)
        return self.store.remove(resource.table, old.key, last)

    # --- parts ------------------------------------------------------------------------------------------

    def view(self, resource: Resource, entry: Entry) -> Json:
        """Return the object as `resource` shows it, without kind and apiVersion."""
        return api_events.from_core(entry.object) if resource.stored_in else entry.object

    def _put(self, resource: Resource, key: str, new: Json, options: Options) -> Entry:
        if options.dry_run:
            return seal(key, new, self.store.rv if self.store.get(resource.table, key) else 0)
        old = self.store.get(resource.table, key)
        if resource.table == SERVICES:
            self.network.commit(old.object if old else None, new)
        if resource.table == CRDS:
            self.catalog.replace(api_crds.table_of(new), api_crds.resources_of(new))
        return self.store.put(resource.table, key, new)

    def _admit(
        self, resource: Resource, new: Json, old: Json | None, now: str, *, status: bool = False
    ) -> tuple[Json, list[Cause]]:
        if resource.table == SERVICES:
            if status:
                new = {**new, "status": api_services.default_status(new["status"])}
                return new, api_services.validate_status(new["status"], new["spec"]["type"])
            return api_services.admit_service(new, old, self.network)
        if resource.table == CRDS:
            return (new, []) if status else api_crds.admit_crd(new, old, now)
        if resource.table == EVENTS:
            event, causes = api_events.admit_event(new, old)
            if resource.stored_in and old is None:
                causes = [*api_events.missing_in_modern(event), *causes]
            return event, causes
        if resource.schema is not None:
            new = api_schema.default(new, resource.schema)
            return new, api_schema.check(new, resource.schema)
        return api_kinds.admit(resource.table, new, old)
