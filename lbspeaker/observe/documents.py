"""What files say: once, for `check` and `plan`, or for ever, for programs that run without an API server."""

import difflib
import re
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import structlog

from lbspeaker.config.documents import Document, read, unpack
from lbspeaker.config.identity import is_legacy
from lbspeaker.config.parse import is_configuration, parse
from lbspeaker.core.overlap import overlaps
from lbspeaker.errors import Problem
from lbspeaker.model import (
    Change,
    Config,
    Endpoint,
    EndpointSlice,
    Kind,
    Namespace,
    Node,
    Secret,
    Service,
    Snapshot,
    Synced,
)
from lbspeaker.observe.configuration import Configuration
from lbspeaker.shell import files
from lbspeaker.wire import kube


@dataclass(frozen=True, slots=True)
class Loaded:
    """What some files say. `ignored`: documents of foreign kinds. In `snapshot` every Node is a member."""

    documents: list[Document] = field(default_factory=list)
    config: Config = field(default_factory=Config)
    snapshot: Snapshot = field(default_factory=Snapshot)
    problems: list[Problem] = field(default_factory=list)
    ignored: int = 0


def load(paths: Sequence[str]) -> Loaded:
    """Read files, directories and "-", for questions that need no cluster. Raises Unable."""
    return _loaded([_read(file, files.read(file)) for path in paths for file in files.listed(path)])


def loaded(documents: Sequence[Document]) -> Loaded:
    """Return what these documents say, as `load` does of files."""
    return _loaded([_understood(list(documents), [])])


def _loaded(said: Sequence["_Said"]) -> Loaded:
    problems = [problem for file in said for problem in file.problems]
    documents = [document for file in said for document in file.documents]
    objects, repeated = _objects(change for file in said for change in file.changes)
    passwords = {
        secret.key: secret.password
        for secret in objects.values()
        if isinstance(secret, Secret) and secret.password
    }
    config, wrong = parse([d for file in said for d in file.configuration], passwords or None)
    snapshot = _snapshot(config, objects.values())
    return Loaded(
        documents=documents,
        config=config,
        snapshot=snapshot,
        problems=[*problems, *repeated, *wrong, *_scattered(documents), *_overlaps(snapshot, documents)],
        ignored=sum(file.ignored for file in said),
    )


def _scattered(documents: Iterable[Document]) -> list[Problem]:
    """Configuration in several namespaces: only that in the controller's counts."""
    ours = [document for document in documents if is_configuration(document) and document.namespace]
    counts = Counter(document.namespace for document in ours)
    if len(counts) < 2:
        return []
    most = counts.most_common(1)[0][0]
    what = f"most of the configuration is in namespace {most}, and only what is in the controller's counts"
    strays = [one for one in ours if one.namespace != most]
    problems = [one.problem(("metadata", "namespace"), what, f"write namespace: {most}") for one in strays]
    return [replace(problem, severity="warning") for problem in problems]


def _overlaps(snapshot: Snapshot, documents: Iterable[Document]) -> list[Problem]:
    """Pools that contain what the cluster uses itself: not wrong, and hardly meant."""
    found = overlaps(snapshot.config.pools, snapshot.nodes.values(), snapshot.services.values())
    pools = {document.name: document for document in documents if document.kind == "IPAddressPool"}
    problems = [
        pools[name].problem(("spec", "addresses"), what) for name, what in found.items() if name in pools
    ]
    return [replace(problem, severity="warning") for problem in problems]


async def from_files(directory: Path, put: Callable[[Change | Synced], None]) -> None:
    """Tell what the files in `directory` say, Synced for every kind, and then every change, for ever.

    A file with a mistake says what it said before, and the mistake is logged, once. Raises Unable if there is
    no such directory.
    """
    log: Any = structlog.get_logger()
    folder = _Folder()
    synced = False
    async for texts in files.changes(str(directory)):
        changes, problems = folder.update(texts)
        for problem in problems:
            _log(log, problem)
        for change in changes:
            put(change)
        if not synced:
            synced = True
            for kind in Kind:
                put(Synced(kind))


def _log(log: Any, problem: Problem) -> None:
    told = {"file": problem.file, "line": problem.line, "object": problem.object, "path": problem.path}
    told |= {"what": problem.what, "hint": problem.hint}
    event = "config-wrong" if problem.severity == "error" else "config-doubtful"
    log.warning(event, **{name: value for name, value in told.items() if value})


@dataclass(frozen=True, slots=True)
class _Said:
    """What one file says. `changes`: of objects of the cluster, each with the document that it comes from."""

    documents: list[Document]
    configuration: list[Document]
    changes: list[tuple[Change, Document]]
    problems: list[Problem]
    ignored: int = 0


def _read(file: str, text: str) -> _Said:
    return _understood(*read(text, file))


def _understood(raw: list[Document], problems: list[Problem]) -> _Said:
    documents, wrong = unpack(raw)
    said = _Said(documents, [], [], [*problems, *wrong])
    ignored = 0
    for document in documents:
        if is_configuration(document):
            said.configuration.append(document)
            continue
        try:
            change = kube.from_document(document.value)
        except kube.WrongDocument as error:
            said.problems.append(wrong_document(document, error))
            continue
        if change is None:
            ignored += 1
            said.problems.extend(_legacy(document))
        else:
            said.changes.append((change, document))
            said.problems.extend(_strange_annotations(document))
    return replace(said, ignored=ignored)


def wrong_document(document: Document, error: kube.WrongDocument) -> Problem:
    """Return the mistake in a document, at its place."""
    return document.problem(_path(error.path), error.what, error.hint)


def _legacy(document: Document) -> list[Problem]:
    """MetalLB's configuration of old, which says nothing here."""
    if not is_legacy(document):
        return []
    hint = f"lbspeaker migrate {document.file} prints it as objects"
    problem = document.problem((), "this is MetalLB's configuration from before 0.13; it is not read", hint)
    return [replace(problem, severity="warning")]


def _strange_annotations(document: Document) -> list[Problem]:
    """Annotations under our prefix that nobody reads: who misspells a wish would wait for it in vain."""
    metadata = document.value.get("metadata")
    annotations = metadata.get("annotations") if isinstance(metadata, Mapping) else None
    known = [kube.PREFIXES[0] + name for name in kube.ANNOTATIONS]
    problems = []
    for key in annotations if document.kind == "Service" and isinstance(annotations, Mapping) else ():
        if str(key).startswith(kube.PREFIXES[0]) and key not in known:
            near = difflib.get_close_matches(str(key), known, 1)
            hint = f"did you mean {near[0]}?" if near else f"known: {', '.join(known)}"
            problem = document.problem(("metadata", "annotations", key), "unknown annotation", hint)
            problems.append(replace(problem, severity="warning"))
    return problems


def _path(text: str) -> tuple[str | int, ...]:
    """ "spec.ports[0].port" as its parts; "[...]" stands for a key that nobody knows."""
    parts = re.findall(r"\[(\d+)\]|([^.\[\]]+)", text.partition("[...]")[0])
    return tuple(int(number) if number else name for number, name in parts)


_Objects = dict[tuple[Kind, str], object]


def _objects(changes: Iterable[tuple[Change, Document]]) -> tuple[_Objects, list[Problem]]:
    """The objects by kind and key. Of one that is there twice the last counts, as for kubectl."""
    objects: _Objects = {}
    places: dict[tuple[Kind, str], Document] = {}
    problems = []
    for change, document in changes:
        where = (change.kind, change.key)
        if objects.get(where, change.value) != change.value:
            first = places[where]
            what = f"{change.kind} {change.key} is there already ({first.file}:{first.line_of(())})"
            problem = document.problem(("metadata", "name"), what, "the last one counts; remove one of them")
            problems.append(replace(problem, severity="warning"))
        places[where] = document
        objects[where] = change.value
    return objects, problems


def _snapshot(config: Config, objects: Iterable[object]) -> Snapshot:
    found = list(objects)
    nodes = {value.name: value for value in found if isinstance(value, Node)}
    endpoints: dict[str, tuple[Endpoint, ...]] = {}
    slices = [value for value in found if isinstance(value, EndpointSlice) and value.service]
    for one in sorted(slices, key=lambda one: one.key):
        endpoints[one.service] = endpoints.get(one.service, ()) + one.endpoints
    return Snapshot(
        config=config,
        services={value.key: value for value in found if isinstance(value, Service)},
        endpoints=endpoints,
        nodes=nodes,
        namespaces={value.name: value for value in found if isinstance(value, Namespace)},
        members=frozenset(nodes),
    )


class _Folder:
    """What the files of a directory said, and what was told of it."""

    def __init__(self) -> None:
        self._changes: dict[str, list[tuple[Change, Document]]] = {}  # by file
        self._configuration = Configuration()
        self._told: _Objects = {}

    def update(self, texts: Mapping[str, str | None]) -> tuple[list[Change], list[Problem]]:
        """Return what is new since the last time, and the problems in the files that changed."""
        problems: list[Problem] = []
        for file, text in texts.items():
            said = _read(file, text) if text is not None else _Said([], [], [], [])
            problems += said.problems
            wrong = any(problem.severity == "error" for problem in said.problems)
            if wrong and file in self._changes:
                continue
            self._configuration.say(file, said.configuration)
            if text is None:
                self._changes.pop(file, None)
            else:
                self._changes[file] = said.changes
        everything = (change for file in sorted(self._changes) for change in self._changes[file])
        objects, repeated = _objects(everything)
        config = self._configuration.parse()
        mine = [problem for problem in (*repeated, *config.problems) if problem.file in texts]
        objects[Kind.CONFIG, ""] = config
        return self._difference(objects), [*problems, *mine]

    def _difference(self, objects: _Objects) -> list[Change]:
        before, self._told = self._told, objects
        gone = [Change(kind, key, None) for kind, key in before.keys() - objects.keys()]
        new = [
            Change(kind, key, value)
            for (kind, key), value in objects.items()
            if before.get((kind, key)) != value
        ]
        return new + gone
