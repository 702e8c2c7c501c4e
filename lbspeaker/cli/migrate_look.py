"""A cluster with MetalLB, looked at once, for `lbspeaker migrate --preflight`. Only GET is sent.

What may not be read is a finding of its own; the rest is looked at all the same.
"""

from collections.abc import Awaitable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar

from lbspeaker.cli.migrate import COLLECTIONS, metallb_objects
from lbspeaker.cli.migrate_programs import Workload, workload
from lbspeaker.config.documents import Document, read, unpack
from lbspeaker.config.kinds import AUTHORED
from lbspeaker.config.migration import HOLD, Migration, Origin, migrate
from lbspeaker.facts import Finding, Grade, Proxy
from lbspeaker.observe import Loaded
from lbspeaker.observe.documents import loaded
from lbspeaker.wire import kube_facts

T = TypeVar("T")
_WORLD = (
    ("nodes", "/api/v1/nodes", "list nodes"),
    ("namespaces", "/api/v1/namespaces", "list namespaces"),
    ("services", "/api/v1/services", "list services"),
    ("endpointslices", "/apis/discovery.k8s.io/v1/endpointslices", "list endpointslices.discovery.k8s.io"),
)
_OURS = tuple(kind.plural for kind in AUTHORED)
_VITAL = frozenset({"nodes", "services", "endpointslices", "MetalLB's objects"})


@dataclass(frozen=True, slots=True)
class Seen:
    """A cluster at one moment.

    `migration`: MetalLB's objects as ours; `ours`: those of ours that are there; `then`: the world with both.
    `owners` and `tellers`: what MetalLB's speakers say that they announce, by Service (and node); None: they
    do not say. `kinds`: of MetalLB, that the cluster has. `installed`: it has ours. `unread`: what could not
    be read, each as a finding.
    """

    origin: Origin
    target: str
    migration: Migration
    ours: tuple[Document, ...]
    then: Loaded
    workloads: tuple[Workload, ...]
    owners: Mapping[str, str] | None
    tellers: Mapping[tuple[str, str], frozenset[str]] | None
    kinds: tuple[str, ...]
    installed: bool
    proxy: Proxy | None
    unread: tuple[Finding, ...]

    @property
    def blind(self) -> bool:
        """Whether something is missing without which nothing can be told."""
        return any(one.subject in _VITAL for one in self.unread)


@dataclass(slots=True)
class _Asked:
    """What could not be read so far, and whether the server has told anything."""

    unread: list[Finding] = field(default_factory=list)
    told: bool = False

    async def willing(self, what: str, asking: Awaitable[T], otherwise: T, right: str) -> T:
        """What is told; `otherwise`, if it is not there or may not be read, which is noted, too.

        Raises Unavailable if the server tells nothing at all.
        """
        from lbspeaker.shell.apiserver import ApiError

        try:
            found = await asking
        except ApiError as error:
            if error.status in (0, 401) or error.status >= 500:
                raise
            self.told = True
            if error.status != 404:
                remedy = f"it takes the right to {right}"
                self.unread.append(
                    Finding("unread", Grade.UNKNOWN, what, "not looked at", error.what, remedy)
                )
            return otherwise
        self.told = True
        return found


async def look(access: Any, origin: Origin, target: str) -> Seen:
    """Return what the cluster has. Raises Unavailable if it does not answer."""
    from lbspeaker.observe import once
    from lbspeaker.shell.apiserver import ApiServer

    asked = _Asked()
    async with ApiServer(access, "migrate") as api:
        world: list[Document] = []
        for what, path, right in _WORLD:
            world += await asked.willing(what, once.documents(api, path), [], right)
        right = f"list all of metallb.io -n {origin.namespace}"
        theirs: tuple[list[Document], list[str]] = ([], [])
        theirs = await asked.willing(
            "MetalLB's objects", metallb_objects(api, origin.namespace), theirs, right
        )
        ours: list[Document] = []
        installed = True
        for plural in _OURS:
            path = f"/apis/lbspeaker.io/v1beta1/namespaces/{target}/{plural}"
            pages = await asked.willing(
                plural, once.documents(api, path), None, f"list {plural}.lbspeaker.io"
            )
            installed = installed and pages is not None
            ours += pages or []
        workloads: list[Workload] = []
        for kind in ("Deployment", "DaemonSet"):
            path, right = f"/apis/apps/v1/{kind.lower()}s", f"list {kind.lower()}s.apps"
            found = await asked.willing(f"{kind}s", once.objects(api, path), [], right)
            workloads += [workload(kind, one) for one in found]
        said = {}
        for plural in ("servicel2statuses", "servicebgpstatuses"):
            path = f"/apis/metallb.io/v1beta1/namespaces/{origin.namespace}/{plural}"
            said[plural] = await asked.willing(
                plural, once.objects(api, path), None, f"list {plural}.metallb.io"
            )
        proxy = await asked.willing("kube-proxy", _proxy(api), None, "get configmaps -n kube-system")
    migration = migrate(theirs[0], {}, target, origin)
    own = tuple(unpack(ours)[0])
    return Seen(
        origin=origin,
        target=target,
        migration=migration,
        ours=own,
        then=loaded([*world, *_configuration(migration, own)]),
        workloads=tuple(workloads),
        owners=_owners(said["servicel2statuses"]),
        tellers=_tellers(said["servicebgpstatuses"]),
        kinds=tuple(plural for plural in COLLECTIONS if plural not in (*theirs[1], "addresspools")),
        installed=installed,
        proxy=proxy,
        unread=tuple(asked.unread),
    )


def _configuration(migration: Migration, ours: Sequence[Document]) -> Iterator[Document]:
    """All that there will be: MetalLB's as ours, and what is ours already. Secrets are not judged here."""
    yield from (one for one in migration.objects if one.kind != "Secret")
    made = {one.object for one in migration.objects}
    yield from (one for one in ours if one.object not in made and one.name != HOLD)


async def _proxy(api: Any) -> Proxy | None:
    """kube-proxy, as its ConfigMap says."""
    body = await api.request("GET", "/api/v1/namespaces/kube-system/configmaps/kube-proxy")
    _, data = kube_facts.config_map(kube_facts.mapping(body))
    inside, _ = read(data.get("config.conf", ""), "cluster")
    return next((kube_facts.proxy(one.value) for one in inside if one.kind == "KubeProxyConfiguration"), None)


def _owners(statuses: Sequence[Mapping[str, Any]] | None) -> Mapping[str, str] | None:
    if statuses is None:
        return None
    found = [one.get("status") or {} for one in statuses]
    return {_service(one): one.get("node", "") for one in found}


def _tellers(statuses: Sequence[Mapping[str, Any]] | None) -> Mapping[tuple[str, str], frozenset[str]] | None:
    if statuses is None:
        return None
    found = [one.get("status") or {} for one in statuses]
    return {(_service(one), one.get("node", "")): frozenset(one.get("peers") or ()) for one in found}


def _service(status: Mapping[str, Any]) -> str:
    return f"{status.get('serviceNamespace', '')}/{status.get('serviceName', '')}"
