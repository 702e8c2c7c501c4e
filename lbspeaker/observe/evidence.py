"""The evidence of `lbspeaker doctor`: from files, or from a cluster that is asked once (only GET is sent).

    documents ─▶ loaded() ──▶ Snapshot, Config ─┐
       │  └────▶ kube_facts ─▶ Pods, ports …   ─┼─▶ Evidence
    pages ─────▶ kube_facts ─▶ Pods, programs  ─┘

What is not there, or may not be read, becomes a Lack, with what to do; the rest goes on without it.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, TypeVar

from lbspeaker.config.documents import Document, from_object, read
from lbspeaker.config.parse import is_configuration
from lbspeaker.core.overlap import overlaps
from lbspeaker.errors import LbspeakerError, Malformed, Problem, Unavailable
from lbspeaker.facts import Evidence, Lack, Ours, Part, Pod, Program, Wiring
from lbspeaker.model import Snapshot
from lbspeaker.observe.documents import Loaded, load, loaded, wrong_document
from lbspeaker.wire import kube, kube_facts

T = TypeVar("T")
_KINDS = {
    "Service": Part.SERVICES,
    "EndpointSlice": Part.ENDPOINTS,
    "Node": Part.NODES,
    "Pod": Part.PODS,
    "DaemonSet": Part.PROGRAMS,
    "KubeProxyConfiguration": Part.PROXY,
}
_PROXY = "kube-system/kube-proxy"
_AGENTS = ("kube-system/cilium-config", "kube-system/calico-config")


# --- from files -----------------------------------------------------------------------------------------


def from_files(paths: Sequence[str]) -> Evidence:
    """Return what files, directories and "-" say. Raises Unable."""
    return from_loaded(load(paths))


def from_loaded(told: Loaded) -> Evidence:
    """Return what documents say that were read before."""
    documents = [_unwrapped(document) for document in told.documents]
    known = {_part(document) for document in documents} - {None}
    lacks = [_not_given(part) for part in Part if part not in {*known, Part.HERE, Part.SPEAKERS}]
    return _evidence(told, documents, [], frozenset(part for part in known if part), lacks)


def _part(document: Document) -> Part | None:
    return Part.CONFIG if is_configuration(document) else _KINDS.get(document.kind)


def _not_given(part: Part) -> Lack:
    commands = {
        Part.CONFIG: "give the pools and advertisements, too",
        Part.PROXY: "kubectl -n kube-system get configmap kube-proxy -o yaml gives it",
    }
    remedy = commands.get(part, f"kubectl get {part.value} -A -o yaml gives them")
    return Lack(part, f"nothing about {part.value} is in the documents", remedy)


# --- from a cluster -------------------------------------------------------------------------------------


def from_cluster(kubeconfig: str | None, context: str | None, namespace: str) -> Evidence:
    """Return what the cluster says, as far as it may be asked; the configuration lives in `namespace`.

    Raises Unable without access, Unavailable if it does not answer, or does not know us.
    """
    from lbspeaker.observe.once import FILES, access  # its HTTP client is not for those who read files

    told = asyncio.run(_ask(access(kubeconfig, context, FILES), namespace))
    everything = loaded(told.documents)
    documents = [_unwrapped(document) for document in everything.documents]
    found = _evidence(everything, documents, told.facts, frozenset(told.known), told.lacks)
    refused = [problem for document in told.documents for problem in _refused(document)]
    return _with_problems(found, refused)


@dataclass(slots=True)
class _Told:
    """What the API server has told so far."""

    documents: list[Document] = field(default_factory=list)
    facts: list[Any] = field(default_factory=list)
    known: set[Part] = field(default_factory=set)
    lacks: list[Lack] = field(default_factory=list)

    async def take(self, part: Part, asking: Awaitable[list[T]], right: str) -> list[T]:
        """Return what is told of a part; nothing, and a Lack, if it is not. `right`: "list pods".

        Raises Unavailable if the server tells nothing at all.
        """
        try:
            found = await asking
        except (Malformed, Unavailable) as error:
            status = getattr(error, "status", None)
            if status == 401 or (status is not None and not self.known and _is_away(status)):
                raise
            self.lacks.append(_lack(part, error, right))
            return []
        self.known.add(part)
        return found


def _is_away(status: int) -> bool:
    return status == 0 or status >= 500


async def _ask(access: Any, namespace: str) -> _Told:
    from lbspeaker.observe import once
    from lbspeaker.shell.apiserver import ApiServer

    told = _Told()
    async with ApiServer(access, "doctor") as api:
        for part, path, right in (
            (Part.NODES, "/api/v1/nodes", "list nodes"),
            (Part.SERVICES, "/api/v1/services", "list services"),
            (
                Part.ENDPOINTS,
                "/apis/discovery.k8s.io/v1/endpointslices",
                "list endpointslices.discovery.k8s.io",
            ),
        ):
            told.documents += await told.take(part, once.documents(api, path), right)
        right = f"get effectiveconfigurations.lbspeaker.io -n {namespace}"
        told.documents += await told.take(Part.CONFIG, once.configuration(api, namespace), right)
        pods = once.paged(api, "/api/v1/pods", _reader("Pod"))
        told.facts += await told.take(Part.PODS, pods, "list pods")
        programs = once.paged(api, "/apis/apps/v1/daemonsets", _reader("DaemonSet"))
        told.facts += await told.take(Part.PROGRAMS, programs, "list daemonsets.apps")
        right = f"list leases.coordination.k8s.io,speakers.lbspeaker.io -n {namespace}"
        told.facts += await told.take(Part.SPEAKERS, _ours(api, namespace), right)
        right = "get configmaps -n kube-system"
        told.documents += await told.take(Part.PROXY, _config_maps(api, (_PROXY,)), right)
        told.documents += await _willing(_config_maps(api, _AGENTS))
        networks = once.paged(api, "/apis/networking.k8s.io/v1/servicecidrs", _reader("ServiceCIDR"))
        told.facts += await _willing(networks)
    return told


async def _ours(api: Any, namespace: str) -> list[Ours]:
    """What our own programs say."""
    from lbspeaker.observe import look, once

    leases = await once.objects(api, f"/apis/coordination.k8s.io/v1/namespaces/{namespace}/leases")
    speakers = await once.objects(api, f"/apis/lbspeaker.io/v1beta1/namespaces/{namespace}/speakers")
    return [look.ours(leases, speakers, time.time())]


def _reader(kind: str) -> Callable[[bytes], tuple[list[Any], str]]:
    return lambda body: kube_facts.page(kind, body)


async def _config_maps(api: Any, keys: Iterable[str]) -> list[Document]:
    """Return those of these ConfigMaps that are there."""
    found = []
    for key in keys:
        namespace, _, name = key.partition("/")
        try:
            body = await api.request("GET", f"/api/v1/namespaces/{namespace}/configmaps/{name}")
        except Unavailable as error:
            if getattr(error, "status", None) != 404:
                raise
        else:
            found.append(from_object(kube_facts.mapping(body)))
    return found


async def _willing(asking: Awaitable[list[T]]) -> list[T]:
    """What makes an answer better, and leaves no gap if it may not be asked."""
    try:
        return await asking
    except (Malformed, Unavailable):
        return []


def _lack(part: Part, error: LbspeakerError, right: str) -> Lack:
    """Why a part is not told, and what to do."""
    verb, _, rest = right.partition(" ")
    resource, _, namespace = rest.partition(" -n ")
    status = getattr(error, "status", None)
    if status == 403:
        within = f" in namespace {namespace}" if namespace else ""
        role = f"role doctor -n {namespace}" if namespace else "clusterrole doctor"
        remedy = f"kubectl create {role} --verb={verb} --resource={resource}, and bind it to who asks"
        return Lack(part, f"no permission to {verb} {resource}{within}", remedy)
    if status == 404:
        return Lack(part, f"the API server does not know {resource}", "is this the right cluster?")
    return Lack(part, error.what, error.hint or "ask again when the API server is well")


def _refused(document: Document) -> Iterable[Problem]:
    """The objects that the controller has refused, as the EffectiveConfiguration says."""
    if document.kind != "EffectiveConfiguration":
        return
    tally = kube.written(document.object, document.value, document.value).status.tally
    for key, message in tally.refusals if tally else ():
        kind, _, name = key.partition("/")
        hint = f"mend it: kubectl -n {document.namespace} edit {kind.lower()} {name}"
        yield Problem(document.file, None, key, "", message, hint)


# --- the Pods of some Services --------------------------------------------------------------------------


def of_services(kubeconfig: str | None, context: str | None, keys: Iterable[str]) -> Evidence:
    """Return where these Services lead, and their Pods, as far as the cluster may be asked.

    Raises Unable, Unavailable as `from_cluster`.
    """
    from lbspeaker.observe.once import access

    told = asyncio.run(_ask_behind(access(kubeconfig, context), keys))
    return _evidence(Loaded(), [], told.facts, frozenset(told.known), told.lacks)


async def _ask_behind(access: Any, keys: Iterable[str]) -> _Told:
    from lbspeaker.observe import once
    from lbspeaker.shell.apiserver import ApiServer

    told = _Told()
    async with ApiServer(access, "explain") as api:
        for key in keys:
            namespace, _, name = key.partition("/")
            path, named = f"/api/v1/namespaces/{namespace}", f"metadata.name={name}"
            asking = once.paged(api, f"{path}/services", _reader("Service"), fieldSelector=named)
            services = await told.take(Part.SERVICES, asking, f"list services -n {namespace}")
            told.facts += services
            for labels in (one.selector for one in _of(Wiring, services) if one.selector):
                wanted = ",".join(f"{label}={value}" for label, value in labels.items())
                asking = once.paged(api, f"{path}/pods", _reader("Pod"), labelSelector=wanted)
                told.facts += await told.take(Part.PODS, asking, f"list pods -n {namespace}")
    return told


# --- together -------------------------------------------------------------------------------------------


def _evidence(
    told: Loaded,
    documents: Sequence[Document],
    facts: Sequence[Any],
    known: frozenset[Part],
    lacks: Sequence[Lack],
) -> Evidence:
    """All that `documents` say, and `facts` that were told beside them."""
    facts, wrong = list(facts), []
    agents: dict[str, str] = {}
    for document in documents:
        try:
            facts += kube_facts.facts_of(document.value)
        except kube.WrongDocument as error:
            wrong.append(wrong_document(document, error))
        if document.kind == "ConfigMap":
            key, data = kube_facts.config_map(document.value)
            agents |= data if key in _AGENTS else {}
    proxies = [kube_facts.proxy(one.value) for one in documents if one.kind == "KubeProxyConfiguration"]
    found = Evidence(
        known=known,
        lacks=tuple(lacks),
        snapshot=told.snapshot,
        services={one.key: one for one in _of(Wiring, facts)},
        pods=tuple(_of(Pod, facts)),
        programs=tuple(_of(Program, facts)),
        proxy=next(iter(proxies), None),
        service_networks=tuple(one for one in facts if not isinstance(one, (Wiring, Pod, Program, Ours))),
        ours=next(iter(_of(Ours, facts)), None),
        agents=agents,
    )
    return _with_problems(found, [*_beside_overlaps(told.problems, told.snapshot), *wrong])


def _with_problems(evidence: Evidence, problems: Iterable[Problem]) -> Evidence:
    together = dict.fromkeys((*evidence.problems, *problems))
    return replace(evidence, problems=tuple(together))


def _of(kind: type[T], facts: Iterable[object]) -> list[T]:
    return [one for one in facts if isinstance(one, kind)]


def _beside_overlaps(problems: Iterable[Problem], snapshot: Snapshot) -> list[Problem]:
    """Without those that checks of their own look for."""
    found = overlaps(snapshot.config.pools, snapshot.nodes.values(), snapshot.services.values())
    return [problem for problem in problems if problem.what not in found.values()]


def _unwrapped(document: Document) -> Document:
    """The configuration of kube-proxy, where a ConfigMap holds it as text; else the document itself."""
    if document.kind != "ConfigMap":
        return document
    key, data = kube_facts.config_map(document.value)
    if key != _PROXY:
        return document
    inside, _ = read(data.get("config.conf", ""), document.file)
    return next((one for one in inside if one.kind == "KubeProxyConfiguration"), document)
