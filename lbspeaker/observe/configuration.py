"""One configuration from several sources: objects of the API, or files.

Each source keeps what it last said right: who makes a mistake in a pool does not lose the pool.
"""

from collections.abc import Sequence

from lbspeaker.config.documents import Document
from lbspeaker.config.parse import parse
from lbspeaker.errors import Problem
from lbspeaker.model import ConfigSet


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
        """Return what counts, and every problem of what is said now."""
        sources = sorted(self._now, key=lambda source: self._order[source])
        counting = {source: self._now[source] for source in sources}
        config, problems = parse([document for said in counting.values() for document in said])
        wrong = {source for source, said in counting.items() if any(_refused(said, problems))}
        before = {source: self._right[source] for source in wrong & self._right.keys()}
        refusing = problems
        if before:
            counting |= before
            config, refusing = parse([document for said in counting.values() for document in said])
        self._right |= {source: self._now[source] for source in sources if source not in wrong}
        accepted = [
            document.value
            for said in counting.values()
            for document, refused in zip(said, _refused(said, refusing), strict=True)
            if not refused
        ]
        return ConfigSet(config, tuple(accepted), tuple(problems))


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
