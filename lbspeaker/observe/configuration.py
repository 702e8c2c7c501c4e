"""One configuration from several sources: objects of the API, or files.

Each source keeps what it last said right: who makes a mistake in a pool does not lose the pool.
"""

from collections.abc import Iterator, Sequence

from lbspeaker.config.documents import Document
from lbspeaker.config.parse import parse
from lbspeaker.errors import Problem
from lbspeaker.model import ConfigSet, Verdict

_MOST = 3  # problems are told in a verdict


class Configuration:
    """Documents by source. One that becomes wrong counts as it last was when it was right."""

    def __init__(self) -> None:
        self._order: dict[str, tuple[str, ...]] = {}
        self._now: dict[str, list[Document]] = {}
        self._right: dict[str, list[Document]] = {}

    def say(self, source: str, documents: list[Document], order: tuple[str, ...] | None = None) -> None:
        """Take note of what `source` says; nothing: it is gone. Sources count in `order` (of their names)."""
        self._order[source] = order or (source,)
        if documents:
            self._now[source] = documents
        else:
            for table in (self._order, self._now, self._right):
                table.pop(source, None)

    def remember(self, source: str, documents: list[Document]) -> None:
        """Before a restart, `source` said this, and it was right."""
        self._right.setdefault(source, documents)

    def parse(self) -> ConfigSet:
        """Return what counts, every problem of what is said now, and the verdict on every document."""
        sources = sorted(self._now, key=lambda source: self._order[source])
        counting = {source: self._now[source] for source in sources}
        before: dict[str, list[Document]] = {}
        problems: list[Problem] = []  # of what is replaced by what was said before
        while True:
            config, found = parse([document for said in counting.values() for document in said])
            wrong = {source for source, said in counting.items() if any(_refused(said, found))}
            replaced = {
                source: self._as_before(source) for source in wrong & self._right.keys() - before.keys()
            }
            if not replaced:
                break
            problems += [p for source in replaced for p in found if _is_of(p, self._now[source])]
            before |= replaced
            counting |= replaced
        self._right |= {
            source: self._now[source] for source in sources if source not in wrong | before.keys()
        }
        accepted = [
            document.value
            for said in counting.values()
            for document, refused in zip(said, _refused(said, found), strict=True)
            if not refused
        ]
        problems += [p for p in found if not any(_is_of(p, self._now[source]) for source in before)]
        verdicts = [
            v for source in sources for v in _verdicts(self._now[source], problems, before.get(source))
        ]
        return ConfigSet(config, tuple(accepted), tuple(problems), tuple(verdicts))

    def _as_before(self, source: str) -> list[Document]:
        """What `source` said when it was right; that it is being deleted stays true."""
        leaving = {document.object: document.deleted for document in self._now[source] if document.deleted}
        return [document.leaving(leaving.get(document.object, "")) for document in self._right[source]]


def _is_of(problem: Problem, documents: Sequence[Document]) -> bool:
    return any((problem.file, problem.object) == (one.file, one.object) for one in documents)


def _verdicts(
    documents: Sequence[Document], problems: Sequence[Problem], before: Sequence[Document] | None
) -> Iterator[Verdict]:
    """What the author of each document is told. `before`: what counts instead, where one is refused."""
    for document, refused in zip(documents, _refused(documents, problems), strict=True):
        mine = [problem for problem in problems if _is_of(problem, [document])]
        told = [p for p in mine if p.severity == ("error" if refused else "warning")]
        text = "; ".join(map(_line, told[:_MOST]))
        if len(told) > _MOST:
            text += f"; and {len(told) - _MOST} more"
        if refused and before is not None:
            then = next((one for one in before if one.object == document.object), None)
            of = f" of generation {then.generation}" if then is not None and then.generation else ""
            text += f"; the last right version{of} stays in force"
        yield Verdict(document.object, not refused, text, doubtful=bool(told))


def _line(problem: Problem) -> str:
    text = ": ".join(part for part in (problem.path, problem.what) if part)
    return f"{text} ({problem.hint})" if problem.hint else text


def _refused(documents: Sequence[Document], problems: Sequence[Problem]) -> list[bool]:
    """Whether each of the documents (of one file) has an error.

    Two documents of one name differ by their lines: a problem belongs to the last that begins before it.
    """
    refused = [False] * len(documents)
    for problem in problems:
        if problem.severity != "error":
            continue
        meant = [
            number
            for number, document in enumerate(documents)
            if (document.file, document.object) == (problem.file, problem.object)
            and (document.line_of(()) or 0) <= (problem.line or 0)
        ]
        if meant:
            refused[meant[-1]] = True
    return refused
