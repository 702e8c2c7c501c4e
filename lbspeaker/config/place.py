"""Where in a document something is, and how to tell its writer what is wrong there."""

import difflib
import functools
from collections.abc import Collection, Mapping
from dataclasses import dataclass

from lbspeaker.config.documents import Document, path_text, printable
from lbspeaker.config.text import Path
from lbspeaker.errors import Problem, Severity

# Beyond these, looking for the nearest word would cost more than it helps.
_OPTIONS = 256
_LETTERS = 64
_MOST = 100  # so many problems of one document are told


@dataclass(frozen=True, slots=True)
class Place:
    """Where in a document we are, and what was found wrong in that document so far."""

    document: Document
    problems: list[Problem]
    path: Path = ()

    def at(self, *parts: str | int) -> "Place":
        return Place(self.document, self.problems, self.path + parts)

    def error(self, what: str, hint: str = "") -> None:
        """Tell what makes the whole object unusable."""
        self._tell(what, hint, "error")

    def warn(self, what: str, hint: str = "") -> None:
        """Tell what is probably not meant; the object is used."""
        self._tell(what, hint, "warning")

    @property
    def refused(self) -> bool:
        """Whether the document has an error."""
        return any(problem.severity == "error" for problem in self.problems)

    @property
    def aside(self) -> str:
        """ " (pools.yaml:5)", to follow the name of an object; "" where there is no more to say than that."""
        return "" if self.document.file == "cluster" else f" ({self})"

    def __str__(self) -> str:
        """ "pools.yaml:5", or only the file where there are no lines."""
        line = self.document.line_of(self.path)
        return self.document.file if line is None else f"{self.document.file}:{line}"

    def _tell(self, what: str, hint: str, severity: Severity) -> None:
        told = len(self.problems)
        if told >= _MOST and (severity == "warning" or self.refused):  # the first error is always told
            if told > _MOST:
                return
            what, hint = "the document has more problems than these; the rest is not told", ""
        document = self.document
        line = document.line_of(self.path)
        text = path_text(self.path)
        self.problems.append(Problem(document.file, line, document.object, text, what, hint, severity))


def did_you_mean(word: str, options: Collection[str]) -> str:
    """Return "did you mean x?" with the option nearest to `word`; "" if none is near, or too many are."""
    near = nearest(word, tuple(options)) if len(options) <= _OPTIONS else ""
    return f"did you mean {near}?" if near else ""


@functools.lru_cache(maxsize=1024)
def nearest(word: str, options: tuple[str, ...], alike: float = 0.6) -> str:
    """Return the option that looks most like `word`, whatever the case; "" if none does."""
    if len(word) > _LETTERS:
        return ""
    by_lower = {option.lower(): option for option in options}
    found = difflib.get_close_matches(word.lower(), by_lower, n=1, cutoff=alike)
    return by_lower[found[0]] if found else ""


def described(value: object) -> str:
    """Return a few words that name `value` to its writer."""
    if value is None:
        return "nothing"
    if isinstance(value, bool):
        return f"the truth value {str(value).lower()}"
    if isinstance(value, int | float):
        return f"the number {str(value)[:40]}"
    if isinstance(value, str):
        return shown(value)
    return "a mapping" if isinstance(value, Mapping) else "a list"


def shown(text: str) -> str:
    """Return text in quotes, printable, and no longer than one can read."""
    return f"'{printable(text)}'"
