"""A whole cluster, looked at once: its objects, what speakers say of themselves, who lives. Only GET is sent.

What may not be read, or does not answer, is missing in the picture, and is said to be: the rest is shown all
the same.
"""

import asyncio
import contextlib
import gc
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from ipaddress import ip_network
from typing import Any

import msgspec

from lbspeaker.config.documents import Document, from_object, unpack
from lbspeaker.core.leadership import DURATION_S
from lbspeaker.core.world import World
from lbspeaker.errors import Malformed, Unavailable, plain
from lbspeaker.facts import LATE_S, Ours
from lbspeaker.model import (
    Change,
    Config,
    ConfigSet,
    Kind,
    Lease,
    Namespace,
    Network,
    PoolStatus,
    Service,
    Snapshot,
    Written,
)
from lbspeaker.observe.configuration import Configuration
from lbspeaker.observe.once import access, decoded, paged
from lbspeaker.shell.apiserver import ApiError, ApiServer, Credentials
from lbspeaker.wire import kube, speaker_object
from lbspeaker.wire.measures import configured
from lbspeaker.wire.status import Status

_GROUP = "/apis/lbspeaker.io/v1beta1/namespaces"
ANSWER_S = 5.0  # a list whose next page takes longer is missing, and the rest is shown
_CLOCK_S = 60.0  # so far the clock here may be wrong


@dataclass(frozen=True, slots=True)
class Look:
    """A cluster at one moment. `members` of the snapshot are those whose Leases are fresh.

    `silent_s`: by node, for how long a speaker has not renewed its Lease. `refused`: configuration objects
    that are not in force, and why; `documents`: those that are; `doubts`: which of them are hardly as
    meant, and why. `unread`: what is missing here, and why. `namespace`: where lbspeaker lives.
    """

    snapshot: Snapshot = field(default_factory=Snapshot)
    speakers: Mapping[str, Status] = field(default_factory=dict)
    silent_s: Mapping[str, float] = field(default_factory=dict)
    pools: Mapping[str, PoolStatus] = field(default_factory=dict)
    refused: tuple[tuple[str, str], ...] = ()
    documents: tuple[Document, ...] = ()
    controller: str | None = ""  # who acts; "": nobody; None: not known
    unread: tuple[str, ...] = ()
    config: str = ""  # the configuration that is published, in the word that speakers use
    doubts: tuple[tuple[str, str], ...] = ()
    namespace: str = "lbspeaker-system"

    @property
    def is_empty(self) -> bool:
        """Whether all was read, and nothing of lbspeaker is in this namespace."""
        return not (self.documents or self.silent_s or self.speakers or self.controller or self.unread)

    @property
    def living(self) -> dict[str, Status]:
        """What live speakers say, by node. What the dead said last counts for nothing."""
        return {node: said for node, said in self.speakers.items() if node in self.snapshot.members}

    def unsent(self) -> dict[tuple[str, str], Mapping[Network, str]]:
        """By node and peer: routes that live speakers have not sent though the session is up, and why."""
        return {
            (node, peer.name): {ip_network(prefix): why for prefix, why in peer.unsent.items()}
            for node, said in self.living.items()
            for peer in said.peers
            if peer.unsent and peer.state == "up"
        }

    def without_session(self, node: str, peer: str) -> bool:
        """Whether the speaker of the node says that it has none with this peer, or does not know of it."""
        said = self.speakers.get(node)
        return said is not None and not any(one.name == peer and one.state == "up" for one in said.peers)


def look(
    kubeconfig: str | None,
    context: str | None,
    namespace: str,
    *,
    whole: bool = False,
    instead: str = "",
    stays: bool = False,
) -> Look:
    """Look at the cluster of this kubeconfig. `whole`: also at namespaces, and Services that are not ours.

    `stays`: the program goes on afterwards, so its garbage must be collected. Raises Unable without access,
    saying what to do `instead`; Unavailable if it does not answer at all.
    """
    way = access(kubeconfig, context, instead)
    found: list[Look] = []

    async def keep() -> None:
        """asyncio prints what its main task returns, for nobody, which takes a third of the time."""
        found.append(await _look(way, "page" if stays else "status", namespace, whole=whole))

    with contextlib.nullcontext() if stays else _uncollected():
        asyncio.run(keep())
    return found[0]


@contextlib.contextmanager
def _uncollected() -> Iterator[None]:
    """Without the collector, which looks again and again at what all stays: two thirds of the time."""
    collects = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        gc.freeze()
        if collects:
            gc.enable()


def programs(
    kubeconfig: str | None, context: str | None, namespace: str, instead: str = ""
) -> tuple[Ours, tuple[str, ...]]:
    """What our own programs say, and what of that could not be read. Raises as `look`."""
    way = access(kubeconfig, context, instead)
    return asyncio.run(_programs(way, namespace))


async def _programs(way: Credentials, namespace: str) -> tuple[Ours, tuple[str, ...]]:
    async with ApiServer(way, "status") as api:
        asked = _Asked(api)
        leases, speakers = await asyncio.gather(
            asked.list(f"/apis/coordination.k8s.io/v1/namespaces/{namespace}/leases"),
            asked.list(f"{_GROUP}/{namespace}/speakers"),
        )
    if asked.worked == 0:
        raise Unavailable(asked.unread[0], "does the API server answer: kubectl get nodes")
    found = ours(_objects("leases", leases), _objects("speakers", speakers), time.time())
    return found, tuple(asked.unread)


async def _look(way: Credentials, program: str, namespace: str, *, whole: bool) -> Look:
    ours = f"{_GROUP}/{namespace}"
    some = {} if whole else {"fieldSelector": "spec.type=LoadBalancer"}
    async with ApiServer(way, program) as api:
        asked = _Asked(api)
        found = _Found(asked.unread, whole=whole)
        leases, speakers, effective, *_ = await asyncio.gather(
            asked.list(f"/apis/coordination.k8s.io/v1/namespaces/{namespace}/leases", found.take(Kind.LEASE)),
            asked.list(f"{ours}/speakers"),
            asked.list(f"{ours}/effectiveconfigurations"),
            asked.list("/api/v1/nodes", found.take(Kind.NODE)),
            asked.list("/api/v1/services", found.take(Kind.SERVICE), **some),
            asked.list("/apis/discovery.k8s.io/v1/endpointslices", found.take(Kind.ENDPOINT_SLICE)),
            asked.list(f"{ours}/ipaddresspools", found.take(Kind.CONFIG)),
            *([asked.list("/api/v1/namespaces", found.take(Kind.NAMESPACE))] if whole else []),
        )
    if asked.worked == 0:
        raise Unavailable(asked.unread[0], "does the API server answer: kubectl get nodes")
    objects = (
        _objects("leases", leases),
        _objects("speakers", speakers),
        _objects("effectiveconfigurations", effective),
    )
    return replace(found.look(*objects, time.time()), namespace=namespace)


class _Asked:
    """Lists of an API server; `unread` says which of them it did not give."""

    def __init__(self, api: ApiServer) -> None:
        self._api = api
        self.worked = 0
        self.unread: list[str] = []

    async def list(self, path: str, take: Callable[[bytes], None] | None = None, **query: str) -> list[bytes]:
        """All pages of a list; none, if it may not be read or is not there.

        `take` is given each as it comes, while the server is busy with others.
        """
        pages: list[bytes] = []  # those before an error count

        def read(body: bytes) -> tuple[list[bytes], str]:
            pages.append(body)
            if take is not None:
                take(body)
            return [], _next(body)

        try:
            await paged(self._api, path, read, ANSWER_S, **query)
            self.worked += 1
        except ApiError as error:
            self.worked += error.status == 404
            what = path.rpartition("/")[2]
            need = f"; needed: list {what}" if error.status == 403 else ""
            self.unread.append(f"{what}: {error.what}{need}")
        return pages


class _Found:
    """What was found so far."""

    def __init__(self, unread: list[str], *, whole: bool) -> None:
        self._unread = unread
        self._whole = whole
        self._changes: list[Change] = []

    def take(self, kind: Kind) -> Callable[[bytes], None]:
        """Return what takes a page of objects of this kind."""
        codec = kube.codec(kind)

        def page(body: bytes) -> None:
            try:
                self._changes += codec.page(body).changes
            except Malformed as error:
                self._unread.append(f"{kind.value}: {error}")

        return page

    def look(
        self,
        leases: list[dict[str, Any]],
        speakers: list[dict[str, Any]],
        effective: list[dict[str, Any]],
        now: float,
    ) -> Look:
        documents = tuple(unpack([from_object(obj) for obj in effective])[0])
        published, refused = _configuration(documents), tuple(_refused(effective))
        said, malformed = _said(speakers)
        self._unread += malformed
        silent_s = _silent_s(leases, now)
        written = [change.value for change in self._changes if isinstance(change.value, Written)]
        pools = {one.name: one.status.pool for one in written if one.status.pool is not None}
        return Look(
            self._snapshot(published.config, silent_s),
            said,
            _of_nodes(silent_s),
            pools,
            refused,
            documents,
            _controller(leases, silent_s),
            tuple(self._unread),
            configured(published, now).word if documents else "",
            tuple((one.key, one.message) for one in published.verdicts if one.accepted and one.doubtful),
        )

    def _snapshot(self, config: Config, silent_s: Mapping[str, float]) -> Snapshot:
        world = World("", None)
        for change in self._changes:
            world.observe(change)
        leases = {change.key: change.value for change in self._changes if isinstance(change.value, Lease)}
        alive = frozenset(
            node
            for node, lease in leases.items()
            if silent_s.get(node, LATE_S) < LATE_S and not lease.draining
        )
        links = {node: lease.links for node, lease in leases.items() if lease.links is not None}
        found = replace(world.snapshot(alive), config=config, links=links, pins=world.pins)
        if not self._whole:
            return found
        values = [(change.key, change.value) for change in self._changes]
        return replace(
            found,
            services={key: value for key, value in values if isinstance(value, Service)},
            namespaces={key: value for key, value in values if isinstance(value, Namespace)},
        )


def ours(leases: list[dict[str, Any]], speakers: list[dict[str, Any]], now: float) -> Ours:
    """Return what these Leases and Speaker objects say of our programs at `now` (Unix time)."""
    silent_s = _silent_s(leases, now)
    living = {n: one for n, one in _said(speakers)[0].items() if silent_s.get(n, LATE_S) < LATE_S}
    controller = _controller(leases, silent_s) or ""
    return Ours(
        controller,
        _of_nodes(silent_s),
        {node: one.problems for node, one in living.items()},
        _release(leases) if controller else "",
        {node: one.version for node, one in living.items()},
    )


def _of_nodes(silent_s: Mapping[str, float]) -> dict[str, float]:
    return {name: for_s for name, for_s in silent_s.items() if not name.startswith("lbspeaker.")}


def _said(speakers: Iterable[dict[str, Any]]) -> tuple[dict[str, Status], list[str]]:
    """What Speaker objects say, by node; and what is wrong with others."""
    said, malformed = {}, []
    for obj in speakers:
        try:
            status = speaker_object.parse(obj)
            said[status.node] = status
        except Malformed as error:
            malformed.append(str(error))
    return said, malformed


def _configuration(documents: Sequence[Document]) -> ConfigSet:
    """What is in force."""
    configuration = Configuration()
    configuration.say("cluster", documents)
    return configuration.parse()


def _refused(effective: Iterable[dict[str, Any]]) -> Iterator[tuple[str, str]]:
    """Which objects are not in force, and why."""
    for obj in effective:
        for one in (obj.get("status") or {}).get("refusals") or ():
            yield str(one.get("object")), str(one.get("message"))


def _silent_s(leases: Iterable[dict[str, Any]], now: float) -> dict[str, float]:
    """By node ("lbspeaker.controller": the controller's): for how long its Lease was not renewed.

    Measured from the newest one, as the clock here may be another one than theirs.
    """
    renewed = {}
    for lease in leases:
        name, spec = str((lease.get("metadata") or {}).get("name")), lease.get("spec") or {}
        if name == kube.LEADER or (name.startswith(kube.LEASE_PREFIX) and spec.get("renewTime")):
            with contextlib.suppress(TypeError, ValueError):
                renewed[name.removeprefix(kube.LEASE_PREFIX)] = datetime.fromisoformat(
                    spec["renewTime"]
                ).timestamp()
    newest = max(renewed.values(), default=now)
    if abs(now - newest) > _CLOCK_S:  # nobody renews anything
        newest = now
    return {name: max(newest - at, 0.0) for name, at in renewed.items()}


def _leader(leases: Iterable[dict[str, Any]]) -> dict[str, Any]:
    """The Lease of the controller that acts."""
    of_controller = (lease for lease in leases if (lease.get("metadata") or {}).get("name") == kube.LEADER)
    return next(of_controller, {})


def _release(leases: Iterable[dict[str, Any]]) -> str:
    annotations = (_leader(leases).get("metadata") or {}).get("annotations") or {}
    return plain(str(annotations.get(kube.RELEASE, "")))


def _controller(leases: list[dict[str, Any]], silent_s: Mapping[str, float]) -> str | None:
    if not leases:
        return None
    holder = (_leader(leases).get("spec") or {}).get("holderIdentity")
    acts = silent_s.get(kube.LEADER, DURATION_S) < DURATION_S
    return str(holder) if holder and acts else ""


def _objects(of: str, pages: Iterable[bytes]) -> list[dict[str, Any]]:
    items = (item for body in pages for item in decoded(body, of).get("items") or ())
    return [item for item in items if isinstance(item, dict)]


class _Meta(msgspec.Struct):
    token: str | None = msgspec.field(default=None, name="continue")


class _Page(msgspec.Struct):
    metadata: _Meta | None = None


_page = msgspec.json.Decoder(_Page).decode


def _next(body: bytes) -> str:
    """The token of the next page; "" on the last one."""
    try:
        found = _page(body).metadata
    except msgspec.DecodeError:
        found = None
    return (found.token if found else None) or ""
