"""One configuration from several sources: objects of the API, or files.

Each source keeps what it last said right, in force:

    wrong by its own fault     ─▶ it counts as it was before; if it never was right, not at all
    wrong by somebody's change ─▶ that change is held back: who made it is told whom it would make wrong
    wrong because a Community  ─▶ what that said still counts, for those who use its names
    is gone
"""

from collections.abc import Iterator, Mapping, Sequence

from lbspeaker.config.documents import Document
from lbspeaker.config.parse import parse
from lbspeaker.errors import Problem
from lbspeaker.model import Config, ConfigSet, Verdict

_MOST = 3  # problems are told in a verdict
_MOST_GHOSTS = 100
_MOST_TRIED = 20  # objects that cannot be helped

Said = Sequence[Document]
Faults = Mapping[tuple[str, str], list[Problem]]  # by file and object


class Configuration:
    """Documents by source. One that becomes wrong counts as it last was when it was right."""

    def __init__(self) -> None:
        self._order: dict[str, tuple[str, ...]] = {}
        self._now: dict[str, Said] = {}  # what was said last comes last
        self._right: dict[str, Said] = {}
        self._gone: dict[str, Said] = {}  # Communities, that were right

    def say(self, source: str, documents: Said, order: tuple[str, ...] | None = None) -> None:
        """Take note of what `source` says; nothing: it is gone. Sources count in `order` (of their names)."""
        self._order[source] = order or (source,)
        self._now.pop(source, None)
        if documents:
            self._now[source] = documents
            if _are_others(documents, self._right.get(source, ())):
                self._right.pop(source, None)
        else:
            self._order.pop(source, None)
            self._bury(source)

    def remember(self, source: str, documents: Said) -> None:
        """Before a restart, `source` said this, and it was right."""
        if source not in self._now or not _are_others(self._now[source], documents):
            self._right.setdefault(source, documents)

    def complete(self) -> None:
        """All sources were heard: what is remembered of others is of such as are gone."""
        for source in self._right.keys() - self._now.keys():
            self._bury(source)

    def _bury(self, source: str) -> None:
        right = self._right.pop(source, ())
        if right and all(document.kind == "Community" for document in right):
            self._gone.pop(source, None)
            self._gone[source] = right
            for oldest in list(self._gone)[:-_MOST_GHOSTS]:
                del self._gone[oldest]

    def parse(self) -> ConfigSet:
        """Return what counts, every problem of what is said now, and the verdict on every document."""
        judged = _Judged(
            {source: self._now[source] for source in sorted(self._now, key=self._order.__getitem__)}
        )
        while self._mend(judged):
            pass
        wrong = judged.wrong()
        for source, said in judged.counting.items():
            if source not in wrong and source in self._now and said is self._now[source]:
                self._right[source] = said
        problems = [problem for told in judged.held_back.values() for problem in told]
        problems += judged.hints
        problems += [
            p
            for s, said in judged.counting.items()
            if s in self._now and s not in judged.held_back
            for document in said
            for p in judged.faults.get(_key(document), ())
        ]
        return ConfigSet(
            judged.config,
            tuple(document.value for document in judged.accepted()),
            tuple(dict.fromkeys(problems)),
            tuple(
                v
                for source in sorted(self._now, key=self._order.__getitem__)
                for v in self._verdicts(source, judged)
            ),
        )

    def _mend(self, judged: "_Judged") -> bool:
        """Put one thing right; False if there is nothing left that can be."""
        wrong = judged.wrong()
        own = [
            s
            for s in wrong
            if judged.counting[s] is self._now.get(s) and s in self._right and self._is_news(s)
        ]
        if own:
            judged.hold_back({source: (self._before(source), judged.problems_of(source)) for source in own})
            return True
        for victim in wrong:
            if victim in self._right and victim not in judged.given_up and len(judged.given_up) < _MOST_TRIED:
                if not (self._blame(judged, victim) or self._raise(judged, victim)):
                    judged.given_up.add(victim)
                return True
        return False

    def _is_news(self, source: str) -> bool:
        return self._now[source] != self._right.get(source)

    def _before(self, source: str) -> Said:
        """What `source` said when it was right, if it was; that it is being deleted stays true."""
        leaving = {document.object: document.deleted for document in self._now[source] if document.deleted}
        return [d.leaving(leaving.get(d.object, "")) for d in self._right.get(source, ())]

    def _blame(self, judged: "_Judged", victim: str) -> bool:
        """Hold back the change that makes `victim` wrong, which itself did not change."""
        for source in reversed(self._now):
            if judged.counting.get(source) is not self._now[source] or not self._is_news(source):
                continue
            tried = judged.with_(source, self._before(source))
            if victim not in tried.wrong():
                (first, *_) = judged.problems_of(victim)
                what = f"this would make {first.object} wrong: {first.what}"
                document = self._now[source][0]
                judged.hold_back({source: (self._before(source), [document.problem((), what, first.hint)])})
                return True
        return False

    def _raise(self, judged: "_Judged", victim: str) -> bool:
        """Let a Community that is gone count, if that makes `victim` right."""
        for source in reversed(self._gone):
            if (
                source not in judged.counting
                and victim not in judged.with_(source, self._gone[source]).wrong()
            ):
                (first, *_) = judged.problems_of(victim)
                what = f"{self._gone[source][0].object} is gone, and what it said still counts here"
                hint = "remove its names from communities, or create it again"
                judged.hints.append(
                    Problem(first.file, first.line, first.object, first.path, what, hint, "warning")
                )
                judged.counting[source] = self._gone[source]
                judged.judge()
                return True
        return False

    def _verdicts(self, source: str, judged: "_Judged") -> Iterator[Verdict]:
        """What the author of each document is told."""
        documents = self._now[source]
        faults = _by_object(judged.held_back[source]) if source in judged.held_back else judged.faults
        hints = _by_object(judged.hints)
        in_force = {_key(document): document for document in judged.accepted(source)}
        for document, refused in zip(documents, _refused(documents, faults), strict=True):
            mine = [*faults.get(_key(document), ()), *hints.get(_key(document), ())]
            told = [p for p in mine if p.severity == ("error" if refused else "warning")]
            text = "; ".join(map(_line, told[:_MOST]))
            if len(told) > _MOST:
                text += f"; and {len(told) - _MOST} more"
            then = in_force.get(_key(document))
            held_back = source in judged.held_back
            if held_back and then is not None:
                of = f" of generation {then.generation}" if then.generation else ""
                text += f"; the last right version{of} stays in force"
            accepted = not refused and (not held_back or then is None or then == document)
            yield Verdict(document.object, accepted, text, bool(told), document.generation)


class _Judged:
    """What counts, by source, and what is wrong in it."""

    def __init__(self, counting: dict[str, Said]) -> None:
        self.counting = counting
        self.held_back: dict[str, list[Problem]] = {}  # why, by source
        self.hints: list[Problem] = []
        self.given_up: set[str] = set()
        self.judge()

    def judge(self) -> None:
        self.config: Config
        self.config, problems = parse([document for said in self.counting.values() for document in said])
        self.faults: Faults = _by_object(problems)

    def wrong(self) -> list[str]:
        """The sources that have an error."""
        return [source for source, said in self.counting.items() if any(_refused(said, self.faults))]

    def problems_of(self, source: str) -> list[Problem]:
        return [p for document in self.counting[source] for p in self.faults.get(_key(document), ())]

    def with_(self, source: str, said: Said) -> "_Judged":
        """What it would be like if `source` said this; nothing: if it were not there."""
        return _Judged(self._replaced(source, said))

    def hold_back(self, instead: Mapping[str, tuple[Said, list[Problem]]]) -> None:
        """Let these sources say something else, or nothing; and note the problems of what they do say."""
        for source, (before, problems) in instead.items():
            self.held_back[source] = problems
            self.counting = self._replaced(source, before)
        self.judge()

    def _replaced(self, source: str, said: Said) -> dict[str, Said]:
        if not said:
            return {name: others for name, others in self.counting.items() if name != source}
        return {**self.counting, source: said}

    def accepted(self, source: str = "") -> Iterator[Document]:
        """The documents in force: all, or those of `source`."""
        for name, said in self.counting.items():
            if source in ("", name):
                yield from (
                    d for d, refused in zip(said, _refused(said, self.faults), strict=True) if not refused
                )


def _key(document: Document) -> tuple[str, str]:
    return (document.file, document.object)


def _by_object(problems: Sequence[Problem]) -> dict[tuple[str, str], list[Problem]]:
    found: dict[tuple[str, str], list[Problem]] = {}
    for problem in problems:
        found.setdefault((problem.file, problem.object), []).append(problem)
    return found


def _are_others(documents: Said, earlier: Said) -> bool:
    """Whether these are other objects of the same names: created at another time."""
    created = {document.object: document.created for document in earlier}
    return any(
        document.created and created.get(document.object, "") not in ("", document.created)
        for document in documents
    )


def _line(problem: Problem) -> str:
    text = ": ".join(part for part in (problem.path, problem.what) if part)
    return f"{text} ({problem.hint})" if problem.hint else text


def _refused(documents: Said, faults: Faults) -> list[bool]:
    """Whether each of the documents (of one file) has an error.

    Two documents of one name differ by their lines: a problem belongs to the last that begins before it.
    """
    refused = [False] * len(documents)
    named: dict[tuple[str, str], list[int]] = {}
    for number, document in enumerate(documents):
        named.setdefault(_key(document), []).append(number)
    for key, numbers in named.items():
        for problem in faults.get(key, ()):
            meant = [n for n in numbers if (documents[n].line_of(()) or 0) <= (problem.line or 0)]
            if problem.severity == "error" and meant:
                refused[meant[-1]] = True
    return refused
