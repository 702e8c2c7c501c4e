"""What the API serves: one `Resource` per kind and version, and the table of those that are built in."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from lbspeaker.lab.api_errors import Named
from lbspeaker.lab.api_select import Field, dotted
from lbspeaker.lab.api_store import TableName

Json = dict[str, Any]

VERBS = ("create", "delete", "deletecollection", "get", "list", "patch", "update", "watch")


@dataclass(frozen=True, slots=True)
class Resource:
    """One resource in one version.

    `counted`: it has metadata.generation. `upsert`: PUT creates what does not exist. `blind`: PUT without a
    resourceVersion is allowed. `schema` and `columns` are a CRD's; `table` says where the objects are stored.
    """

    group: str
    version: str
    plural: str
    kind: str
    short: tuple[str, ...] = ()
    namespaced: bool = True
    status: bool = False
    counted: bool = False
    upsert: bool = False
    blind: bool = True
    custom: bool = False
    singular: str = ""
    categories: tuple[str, ...] = ()
    fields: Mapping[str, Field] = field(default_factory=dict)
    schema: Json | None = None
    columns: tuple[Json, ...] = ()
    stored_in: TableName | None = None

    @property
    def table(self) -> TableName:
        return self.stored_in or (self.group, self.plural)

    @property
    def named(self) -> Named:
        return Named(self.group, self.plural, self.kind)

    @property
    def api_version(self) -> str:
        return f"{self.group}/{self.version}" if self.group else self.version

    @property
    def prefix(self) -> bytes:
        """The start of the JSON of every object; the `tail` of its entry follows."""
        return f'{{"kind":"{self.kind}","apiVersion":"{self.api_version}",'.encode()

    @property
    def selectable(self) -> dict[str, Field]:
        base = {"metadata.name": dotted("metadata.name")}
        if self.namespaced:
            base["metadata.namespace"] = dotted("metadata.namespace")
        return base | dict(self.fields)

    def key(self, namespace: str, name: str) -> str:
        return f"{namespace}/{name}" if self.namespaced else name


def _fields(*paths: str) -> dict[str, Field]:
    return {path: dotted(path) for path in paths}


def _event_fields(reference: str) -> dict[str, Field]:
    parts = ("kind", "namespace", "name", "uid", "apiVersion", "resourceVersion", "fieldPath")
    return {f"{reference}.{part}": dotted(f"involvedObject.{part}") for part in parts}


_RBAC = "rbac.authorization.k8s.io"

BUILT_IN: tuple[Resource, ...] = (
    Resource("", "v1", "namespaces", "Namespace", ("ns",), namespaced=False, status=True),
    Resource(
        "",
        "v1",
        "services",
        "Service",
        ("svc",),
        status=True,
        upsert=True,
        categories=("all",),
        fields=_fields("spec.clusterIP", "spec.type"),
    ),
    Resource(
        "",
        "v1",
        "nodes",
        "Node",
        ("no",),
        namespaced=False,
        status=True,
        fields=_fields("spec.unschedulable"),
    ),
    Resource(
        "",
        "v1",
        "pods",
        "Pod",
        ("po",),
        status=True,
        counted=True,
        categories=("all",),
        fields=_fields(
            "spec.nodeName",
            "spec.restartPolicy",
            "spec.schedulerName",
            "spec.serviceAccountName",
            "spec.hostNetwork",
            "status.phase",
            "status.podIP",
            "status.nominatedNodeName",
        ),
    ),
    Resource("", "v1", "secrets", "Secret", fields=_fields("type")),
    Resource("", "v1", "configmaps", "ConfigMap", ("cm",)),
    Resource("", "v1", "serviceaccounts", "ServiceAccount", ("sa",)),
    Resource("", "v1", "endpoints", "Endpoints", ("ep",), upsert=True),
    Resource(
        "",
        "v1",
        "events",
        "Event",
        ("ev",),
        upsert=True,
        fields={
            **_event_fields("involvedObject"),
            **_fields("reason", "type", "reportingComponent"),
            "source": dotted("source.component"),
        },
    ),
    Resource(
        "events.k8s.io",
        "v1",
        "events",
        "Event",
        ("ev",),
        upsert=True,
        fields={
            **_event_fields("regarding"),
            **_fields("reason", "type"),
            "reportingController": dotted("reportingComponent"),
        },
        stored_in=("", "events"),
    ),
    Resource("discovery.k8s.io", "v1", "endpointslices", "EndpointSlice", counted=True),
    Resource("coordination.k8s.io", "v1", "leases", "Lease", upsert=True, blind=False),
    Resource("apps", "v1", "deployments", "Deployment", ("deploy",), status=True, counted=True),
    Resource("apps", "v1", "daemonsets", "DaemonSet", ("ds",), status=True, counted=True),
    Resource(_RBAC, "v1", "roles", "Role", upsert=True),
    Resource(_RBAC, "v1", "rolebindings", "RoleBinding", upsert=True),
    Resource(_RBAC, "v1", "clusterroles", "ClusterRole", namespaced=False, upsert=True),
    Resource(_RBAC, "v1", "clusterrolebindings", "ClusterRoleBinding", namespaced=False, upsert=True),
    Resource(
        "policy",
        "v1",
        "poddisruptionbudgets",
        "PodDisruptionBudget",
        ("pdb",),
        status=True,
        counted=True,
        blind=False,
    ),
    Resource("networking.k8s.io", "v1", "networkpolicies", "NetworkPolicy", ("netpol",), counted=True),
    Resource("scheduling.k8s.io", "v1", "priorityclasses", "PriorityClass", ("pc",), namespaced=False),
    Resource(
        "apiextensions.k8s.io",
        "v1",
        "customresourcedefinitions",
        "CustomResourceDefinition",
        ("crd", "crds"),
        namespaced=False,
        status=True,
        counted=True,
        blind=False,
        categories=("api-extensions",),
    ),
)

SERVICES: TableName = ("", "services")
NAMESPACES: TableName = ("", "namespaces")
CRDS: TableName = ("apiextensions.k8s.io", "customresourcedefinitions")


class Catalog:
    """Every resource that is served now, by its place in a URL."""

    def __init__(self) -> None:
        self._by_place = {(r.group, r.version, r.plural): r for r in BUILT_IN}
        self.revision = 1  # grows with every change of what is served

    def __iter__(self) -> Any:
        return iter(list(self._by_place.values()))

    def find(self, group: str, version: str, plural: str) -> Resource | None:
        return self._by_place.get((group, version, plural))

    def by_kind(self, api_version: str, kind: str) -> Resource | None:
        """Return the resource of an object, as its apiVersion and kind name it."""
        found = (r for r in self._by_place.values() if r.kind == kind and r.api_version == api_version)
        return next(found, None)

    def replace(self, table: TableName, resources: tuple[Resource, ...]) -> None:
        """Serve `resources`, and nothing else, from `table`."""
        kept = {place: r for place, r in self._by_place.items() if r.table != table}
        self._by_place = kept | {(r.group, r.version, r.plural): r for r in resources}
        self.revision += 1

    def groups(self) -> dict[str, list[str]]:
        """Return the groups with their versions, preferred first; "" is core."""
        found: dict[str, list[str]] = {}
        for resource in self._by_place.values():
            versions = found.setdefault(resource.group, [])
            if resource.version not in versions:
                versions.append(resource.version)
        return found
