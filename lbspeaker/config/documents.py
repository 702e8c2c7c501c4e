"""Documents: one Kubernetes object each, from a file (then with its lines) or from the API."""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace

from lbspeaker.config.text import Mistake, Path, compose
from lbspeaker.errors import Problem, plain

Value = Mapping[str, object]

_NOTHING: Value = {}
_SHORT = 80


@dataclass(frozen=True, slots=True)
class Document:
    """One object as it was written.

    `file` is a path, "-" (standard input) or "cluster"; `value` is plain Python values; `lines` says on which
    line (from 1) each path begins, and is empty for objects of the API. Properties that the document does
    not have, or has as something else than text, are "".
    """

    file: str
    value: Mapping[str, object]
    lines: Mapping[Path, int] = field(default_factory=dict, repr=False)

    @property
    def api_version(self) -> str:
        return _text(self.value, "apiVersion")

    @property
    def kind(self) -> str:
        return _text(self.value, "kind")

    @property
    def name(self) -> str:
        return _text(self._metadata, "name")

    @property
    def namespace(self) -> str:
        return _text(self._metadata, "namespace")

    @property
    def created(self) -> str:
        """When the API server got it, RFC 3339."""
        return _text(self._metadata, "creationTimestamp")

    @property
    def generation(self) -> int:
        """Which version of what is wanted this is; 0: not from an API server."""
        value = self._metadata.get("generation")
        return value if isinstance(value, int) else 0

    @property
    def object(self) -> str:
        """ "Kind/name", as far as it is known."""
        return "/".join(printable(part) for part in (self.kind, self.name) if part)

    @property
    def _metadata(self) -> Value:
        metadata = self.value.get("metadata")
        return metadata if isinstance(metadata, Mapping) else _NOTHING

    @property
    def deleted(self) -> str:
        """When its deletion was asked for, RFC 3339; "" if it was not."""
        return _text(self._metadata, "deletionTimestamp")

    def leaving(self, since: str) -> "Document":
        """Return the document as one whose deletion was asked for then; "": not at all."""
        others = {name: value for name, value in self._metadata.items() if name != "deletionTimestamp"}
        metadata = {**others, **({"deletionTimestamp": since} if since else {})}
        return replace(self, value={**self.value, "metadata": metadata})

    def line_of(self, path: Path) -> int | None:
        """Return the line of `path`, or of the nearest value around it that has one."""
        while path and path not in self.lines:
            path = path[:-1]
        return self.lines.get(path)

    def problem(self, path: Path, what: str, hint: str = "") -> Problem:
        """Return the error `what` at `path` of this document."""
        return Problem(self.file, self.line_of(path), self.object, path_text(path), what, hint)


def path_text(path: Path) -> str:
    """Return `("spec", "addresses", 1)` as `spec.addresses[1]`."""
    text = ""
    for part in path:
        if isinstance(part, int):
            text += f"[{part}]"
        elif 0 < len(part) <= _SHORT and all(character.isalnum() or character in "_-" for character in part):
            text += f".{part}"
        else:
            text += f'["{printable(part)}"]'
    return text.removeprefix(".")


def printable(text: str) -> str:
    """Return text that can be shown on one line: no control characters, and not endless."""
    return plain(text) if len(text) <= _SHORT else f"{plain(text[:_SHORT])}…"


def read(text: str, file: str) -> tuple[list[Document], list[Problem]]:
    """Read YAML (or JSON) text of any number of documents. Never raises.

    A document that is not a mapping, has a key twice, or cannot be read is left out and has its problems.
    `file` is only told in problems.
    """
    documents: list[Document] = []
    problems: list[Problem] = []
    for composed in compose(text):
        value = composed.value if isinstance(composed.value, dict) else {}
        document = Document(file, value, composed.lines)
        mistakes = composed.mistakes
        if not mistakes and not isinstance(composed.value, dict):
            kind = "a list" if isinstance(composed.value, list) else f"'{printable(str(composed.value))}'"
            what = f"a document is a mapping with apiVersion, kind and metadata; this is {kind}"
            mistakes = [Mistake(composed.lines.get((), 1), (), what, "separate documents with lines of ---")]
        problems += [
            Problem(file, mistake.line, document.object, path_text(mistake.path), mistake.what, mistake.hint)
            for mistake in mistakes
        ]
        if not mistakes:
            documents.append(document)
    return documents, problems


def from_object(value: Mapping[str, object], file: str = "cluster") -> Document:
    """Return an object of the API as a document: the same, without lines."""
    return Document(file, value)


def unpack(documents: Iterable[Document]) -> tuple[list[Document], list[Problem]]:
    """Return the documents with those that only hold others replaced by what they hold, in order.

    These are lists of any kind (`kind: List`, `ServiceList`: `items`) and EffectiveConfiguration
    (`spec.documents`), inside each other too. Items of a typed list may leave out kind and apiVersion.
    """
    found: list[Document] = []
    problems: list[Problem] = []
    waiting = [(document, 0) for document in reversed(list(documents))]
    while waiting:
        document, depth = waiting.pop()
        path = _content(document)
        if path is None:
            found.append(document)
        elif depth > 3:
            problems.append(document.problem(path, "lists in lists in lists are not read", "write them out"))
        else:
            items, wrong = _items(document, path)
            problems += wrong
            waiting += [(item, depth + 1) for item in reversed(items)]
    return found, problems


def _content(document: Document) -> Path | None:
    """Where the documents inside this one are; None if it is an object itself."""
    if document.kind == "EffectiveConfiguration" and document.api_version.startswith("lbspeaker.io/"):
        return ("spec", "documents")
    if document.kind.endswith("List") and "items" in document.value and "spec" not in document.value:
        return ("items",)
    return None


def _items(document: Document, path: Path) -> tuple[list[Document], list[Problem]]:
    value: object = document.value
    for part in path:
        value = value.get(part) if isinstance(value, Mapping) else None
    if value is None:
        return [], []
    if not isinstance(value, Sequence) or isinstance(value, str):
        return [], [document.problem(path, "must be a list of objects", "begin each object with - ")]
    lines = _lines_of_items(document.lines, path)
    items, problems = [], []
    for number, item in enumerate(value):
        if isinstance(item, Mapping):
            items.append(Document(document.file, _typed(item, document), lines.get(number, {})))
        else:
            problems.append(
                document.problem((*path, number), "must be an object: a mapping with kind and metadata")
            )
    return items, problems


def _typed(item: Mapping[str, object], of: Document) -> Mapping[str, object]:
    """An item of `IPAddressPoolList` is an IPAddressPool also where it does not say so."""
    kind = of.kind.removesuffix("List")
    if not kind or "kind" in item or of.kind == "EffectiveConfiguration":
        return item
    return {"apiVersion": of.api_version, "kind": kind, **item}


def _lines_of_items(lines: Mapping[Path, int], path: Path) -> dict[int | str, dict[Path, int]]:
    depth = len(path)
    found: dict[int | str, dict[Path, int]] = defaultdict(dict)
    for where, line in lines.items():
        if len(where) > depth and where[:depth] == path:
            found[where[depth]][where[depth + 1 :]] = line
    return found


def _text(mapping: Mapping[str, object], key: str) -> str:
    value = mapping.get(key)
    return value if isinstance(value, str) else ""
