"""What can go wrong, by whose fault it is.

* A *refusal* is a value, not an exception: `model.Refusal`, with its reason.
* A *problem* is the user's: something in a document, with its place and a hint.
* *Unavailable* is the world's: an API server, a router or a link that is not there now. Retrying may help.
* *Unable* is the machine's: a permission, a program or a kernel feature is missing. Retrying will not help.
* *Malformed* is a stranger's: bytes from outside that are not what their protocol demands.

Anything else that is raised is a bug, and keeps its traceback.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

Severity = Literal["error", "warning"]


def plain(text: str) -> str:
    """Return what somebody else wrote so that it can neither move the cursor nor paint, nor end a line."""
    return text if text.isprintable() else "".join(c if c.isprintable() else "�" for c in text)


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing that is wrong in a document, and what to do about it.

    `file` is a path or "cluster"; `line` counts from 1 (None where the source has no lines);
    `object` is "Kind/name"; `path` is like "spec.addresses[1]", empty for the whole object.
    """

    file: str
    line: int | None
    object: str
    path: str
    what: str
    hint: str = ""
    severity: Severity = "error"

    def __str__(self) -> str:
        place = self.file if self.line is None else f"{self.file}:{self.line}"
        parts = [place, self.object, self.path, self.what]
        note = "warning: " if self.severity == "warning" else ""
        text = note + ": ".join(part for part in parts if part)
        return f"{text}\n    hint: {self.hint}" if self.hint else text


class LbspeakerError(Exception):
    """What went wrong, where, and what to do: one line for the user."""

    def __init__(self, what: str, hint: str = "") -> None:
        super().__init__(what)
        self.what = what
        self.hint = hint

    def __str__(self) -> str:
        return f"{self.what}; {self.hint}" if self.hint else self.what


class ConfigError(LbspeakerError):
    """Documents that cannot be used, with every problem in them."""

    def __init__(self, problems: Sequence[Problem]) -> None:
        super().__init__("\n".join(str(problem) for problem in problems))
        self.problems = tuple(problems)


class Unavailable(LbspeakerError):
    """Something outside does not answer now; it is right to try again later."""


class Unable(LbspeakerError):
    """This machine or this user cannot do it; a person must change something first."""


class Malformed(LbspeakerError):
    """Bytes from outside that break their protocol."""
