"""Changes as an API server tells them."""

import asyncio
from collections.abc import Iterable
from typing import Any

import structlog

from lbspeaker.config.documents import from_object, unpack
from lbspeaker.config.kinds import AUTHORED
from lbspeaker.model import Change, ConfigSet, Kind, Synced, Written
from lbspeaker.observe.configuration import Configuration
from lbspeaker.shell.apiserver import ApiServer, Put, Resource
from lbspeaker.wire import kube

DEBOUNCE_S = 0.05  # `kubectl apply` of a whole directory is one change

_GROUP = "lbspeaker.io"
_NO_CRDS = "the CRDs of lbspeaker are not installed: kubectl apply -f config/base/crds.yaml"
_NO_METALLB = "the CRDs of MetalLB are not installed"


async def from_api(
    api: ApiServer,
    kinds: Iterable[Kind],
    put: Put,
    *,
    namespace: str,
    group: str = _GROUP,
    effective: bool,
) -> None:
    """See `lbspeaker.observe.from_api`."""
    async with asyncio.TaskGroup() as reflectors:
        wanted = set(kinds)
        if Kind.CONFIG in wanted and effective:
            reflectors.create_task(api.reflect(_effective(namespace), _Published(put).put))
        elif Kind.CONFIG in wanted:
            there = [kind for kind in AUTHORED if kind.versions_in(group)]
            resources = [_custom(kind.plural, namespace, group) for kind in there]
            resources.append(_effective(namespace))
            authored = _Authored(put, len(resources))
            for resource in resources:
                reflectors.create_task(api.reflect(resource, authored.put))
            put = authored.after
        for kind in wanted - {Kind.CONFIG}:
            reflectors.create_task(api.reflect(_resource(kind, namespace), put))


def _resource(kind: Kind, namespace: str) -> Resource:
    path, selector = {
        Kind.SERVICE: ("/api/v1/services", "spec.type=LoadBalancer"),
        Kind.ENDPOINT_SLICE: ("/apis/discovery.k8s.io/v1/endpointslices", ""),
        Kind.NODE: ("/api/v1/nodes", ""),
        Kind.NAMESPACE: ("/api/v1/namespaces", ""),
        Kind.LEASE: (f"/apis/coordination.k8s.io/v1/namespaces/{namespace}/leases", ""),
        Kind.SECRET: (f"/api/v1/namespaces/{namespace}/secrets", "type=kubernetes.io/basic-auth"),
    }[kind]
    codec = kube.codec(kind)
    return Resource(kind, path, codec.page, codec.event, selector)


def _custom(plural: str, namespace: str, group: str, selector: str = "") -> Resource:
    version = "v1beta2" if (group, plural) == ("metallb.io", "bgppeers") else "v1beta1"
    codec = kube.codec(Kind.CONFIG)
    return Resource(
        Kind.CONFIG,
        f"/apis/{group}/{version}/namespaces/{namespace}/{plural}",
        codec.page,
        codec.event,
        selector,
        missing=_NO_CRDS if group == _GROUP else _NO_METALLB,
    )


def _effective(namespace: str) -> Resource:
    return _custom("effectiveconfigurations", namespace, _GROUP, f"metadata.name={kube.EFFECTIVE_NAME}")


class _Published:
    """The configuration that the controller has published. Without one, the last one stays."""

    def __init__(self, put: Put) -> None:
        self._put = put
        self._log: Any = structlog.get_logger()
        self._there = False
        self._document: object = None

    def put(self, change: Change | Synced) -> None:
        if isinstance(change, Synced):
            if not self._there:
                self._log.warning(
                    "config-unpublished", why="the controller has published no configuration yet"
                )
            self._put(change)
        elif isinstance(change.value, Written):
            self._there = True
            if change.value.document == self._document:
                return  # only its status is new
            self._document = change.value.document
            configuration = Configuration()
            configuration.say("cluster", unpack([from_object(change.value.document)])[0])
            self._put(Change(Kind.CONFIG, "", configuration.parse()))
        else:
            self._log.warning("config-deleted", why="the published configuration is gone; the last one stays")


class _Authored:
    """The configuration that people write as objects of the API: told as a whole, once all of it is known.

    Each object is told, too, as it is: its status is no part of the configuration. What was published before
    a restart is remembered: an object that is wrong now counts as it was then.

    What else changes in the cluster goes through `after`: a Service that was made after a pool was edited
    finds it edited.
    """

    def __init__(self, put: Put, lists: int) -> None:
        self._put = put
        self._missing = lists  # that are not complete yet
        self._configuration = Configuration()
        self._documents: dict[str, object] = {}
        self._told: ConfigSet | None = None
        self._due: asyncio.TimerHandle | None = None
        self._later: list[Change | Synced] = []

    def after(self, change: Change | Synced) -> None:
        if self._due is None:
            self._put(change)
        else:
            self._later.append(change)

    def put(self, change: Change | Synced) -> None:
        if isinstance(change, Synced):
            self._missing -= 1
            if self._missing == 0:
                self._tell()
                self._put(change)
            return
        written = change.value if isinstance(change.value, Written) else None
        self._put(Change(Kind.OBJECT, change.key, written))
        if change.key.startswith("EffectiveConfiguration/"):
            if self._missing > 0 and written is not None:
                for document in unpack([from_object(written.document)])[0]:
                    self._configuration.remember(document.object, [document])
            return
        before = self._documents.pop(change.key, None)
        if written is not None:
            self._documents[change.key] = written.document
            if written.document == before:
                return  # only its status is new
            document = from_object(written.document)
            # Where two objects cannot both be right, the older one is.
            since = document.created
            self._configuration.say(change.key, [document], order=(since, change.key))
        else:
            self._configuration.say(change.key, [])
        if self._missing <= 0 and self._due is None:
            self._due = asyncio.get_running_loop().call_later(DEBOUNCE_S, self._tell)

    def _tell(self) -> None:
        self._due = None
        self._configuration.complete()
        found = self._configuration.parse()
        if found != self._told:
            self._told = found
            self._put(Change(Kind.CONFIG, "", found))
        later, self._later = self._later, []
        for change in later:
            self._put(change)
