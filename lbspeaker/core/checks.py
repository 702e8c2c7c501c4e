"""What a check of `lbspeaker doctor` is: one question, and how it is put to what is known.

    Evidence ──▶ Check.look ──▶ findings; none: PASS. A part is missing: UNKNOWN, and the others go on.

A look says only what is wrong. It may say PASS itself where there is something worth to know about it.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace

from lbspeaker.core.words import listed
from lbspeaker.facts import Evidence, Finding, Grade, Here, Part

MOST_NAMED = 4


def _always(_: Evidence) -> bool:
    return True


@dataclass(frozen=True, slots=True)
class Check:
    """`fine`: what is so where it finds nothing. `needs` all of these parts, and one of `either`, if any.

    `concerns`: whether there is anything that it is about; else nothing is said.
    """

    code: str
    fine: str
    look: Callable[[Evidence], Iterable[Finding]]
    needs: frozenset[Part]
    either: frozenset[Part] = frozenset()
    concerns: Callable[[Evidence], bool] = _always


def findings(check: Check, evidence: Evidence) -> Iterator[Finding]:
    """Yield what `check` says of `evidence`."""
    missing = check.needs - evidence.known
    if missing <= {Part.HERE} and not check.either and not check.concerns(evidence):
        return  # a node could say nothing that matters
    if check.either and not check.either & evidence.known:
        missing |= check.either
    if missing:
        yield from _unknown(check, evidence, missing)
        return
    if not check.concerns(evidence):
        return
    found = [replace(one, code=check.code) for one in check.look(evidence)]
    yield from found or [Finding(check.code, Grade.PASS, _subject(check, evidence), check.fine)]


def _unknown(check: Check, evidence: Evidence, missing: frozenset[Part]) -> Iterator[Finding]:
    for lack in evidence.lacks:
        if lack.part in missing:
            yield Finding(check.code, Grade.UNKNOWN, lack.part.value, "not looked at", lack.why, lack.remedy)


def _subject(check: Check, evidence: Evidence) -> str:
    if Part.HERE in check.needs and evidence.here:
        return evidence.here.name
    if Part.SERVICES in check.needs:
        return named(sorted(evidence.only)) if evidence.only else counted(len(evidence.asked), "Service")
    return "configuration" if Part.CONFIG in check.needs else "cluster"


def here_of(evidence: Evidence) -> Here:
    """The node; checks that need it are not asked without it."""
    return evidence.here or Here("")


def has_peers(evidence: Evidence) -> bool:
    return bool(evidence.snapshot.config.peers)


def fail(subject: str, what: str, why: str, remedy: str) -> Finding:
    """A finding that `findings` gives its code."""
    return Finding("", Grade.FAIL, subject, what, why, remedy)


def warn(subject: str, what: str, why: str, remedy: str) -> Finding:
    return Finding("", Grade.WARN, subject, what, why, remedy)


def well(subject: str, what: str) -> Finding:
    return Finding("", Grade.PASS, subject, what)


def named(names: Sequence[object], most: int = MOST_NAMED) -> str:
    """ "a, b, c, d and 3 more"."""
    return listed([*map(str, names)], most)


def counted(number: int, noun: str) -> str:
    """ "1 Pod", "3 Pods"."""
    return f"{number} {noun}{'' if number == 1 else 's'}"
