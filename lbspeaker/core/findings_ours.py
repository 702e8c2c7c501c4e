"""What our own programs say: whether a controller acts, which node has no speaker, what speakers miss."""

from collections.abc import Iterator

from lbspeaker.core.checks import Check, fail, named
from lbspeaker.core.words import alike, timeless
from lbspeaker.facts import LATE_S, Evidence, Finding, Grade, Ours, Part

_LOOK = "kubectl -n lbspeaker-system get pods -o wide, and its log"


def controller(evidence: Evidence) -> Iterator[Finding]:
    if not _ours(evidence).controller:
        yield fail("controller", "none acts", "new Services get no IP, and edits are not read", _LOOK)


def speakers(evidence: Evidence) -> Iterator[Finding]:
    ours = _ours(evidence)
    without = [name for name in sorted(evidence.snapshot.nodes) if name not in ours.silent_s]
    if without:
        why = "it announces nothing"
        yield fail(named(without), "there is no speaker", why, "kubectl -n lbspeaker-system get daemonsets")
    for node, silent_s in sorted(ours.silent_s.items()):
        if silent_s >= LATE_S and node in evidence.snapshot.nodes:
            what = f"its speaker has been silent for {silent_s:.0f} s"
            yield fail(node, what, "others have its IPs", _LOOK)
    if Part.NODES not in evidence.known:
        for lack in evidence.lacks:
            if lack.part is Part.NODES:
                yield Finding("", Grade.UNKNOWN, "nodes", "whether each has a speaker", lack.why, lack.remedy)
    for nodes, problem in alike(ours.problems):
        what, _, remedy = timeless(problem).partition("; ")
        yield fail(f"speaker of {named(nodes)}", what, "", remedy or "the log of its speaker says more")


def _ours(evidence: Evidence) -> Ours:
    return evidence.ours or Ours()


CHECKS = (
    Check("controller", "one acts", controller, frozenset({Part.SPEAKERS})),
    Check(
        "speakers",
        "each node has a speaker that has nothing to complain of",
        speakers,
        frozenset({Part.SPEAKERS}),
    ),
)
