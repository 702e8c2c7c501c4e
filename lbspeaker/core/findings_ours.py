"""What our own programs say: whether a controller acts, which node has no speaker, what speakers miss."""

from collections.abc import Iterator

from lbspeaker.core.checks import Check, fail, named, warn
from lbspeaker.core.words import alike, listed, timeless
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


def versions(evidence: Evidence) -> Iterator[Finding]:
    found = _ours(evidence)
    if several := by_version(found):
        what = "programs of several versions run"
        yield warn("cluster", what, listed(several), f"is an upgrade under way? {_LOOK}")


def by_version(ours: Ours) -> list[str]:
    """Who runs which version, in a word for each; none if all that is known is one version."""
    programs = {ours.release: ["the controller"]} if ours.release else {}
    for release, names in nodes_of(ours).items():
        programs.setdefault(release, []).append(f"the speaker of {named(names)}")
    several = len(programs) > 1
    return [f"{release} by {' and '.join(who)}" for release, who in programs.items() if several]


def nodes_of(ours: Ours) -> dict[str, list[str]]:
    """The nodes whose speaker is of a version, by version."""
    nodes: dict[str, list[str]] = {}
    for node, release in sorted(ours.releases.items()):
        nodes.setdefault(release, []).append(node)
    return nodes


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
    Check("versions", "controller and speakers are of one version", versions, frozenset({Part.SPEAKERS})),
)
