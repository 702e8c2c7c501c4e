"""Why it is as it is: the chain from a Service to its announcement, each step with its verdict.

    class ▶ pools ▶ allocation ▶ endpoints ▶ ports ─▶ for each IP: advertisements
                                                                     ├▶ candidates ▶ owner ▶ speakers
                                                                     └▶ routes

Everything is asked of those who decide it (`core.outcome` and what that is made of): so an explanation cannot
differ from a plan. What speakers say of themselves comes on top, and counts for more.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Literal

from lbspeaker.core.hearing import Cuts, unheard
from lbspeaker.core.outcome import Outcome, outcome
from lbspeaker.core.remedies import remedy
from lbspeaker.core.said import Said
from lbspeaker.facts import Finding
from lbspeaker.model import Address, Reason, Refusal, Service, Snapshot

Verdict = Literal["ok", "no", "unknown"]


@dataclass(frozen=True, slots=True)
class Step:
    """One step of the chain, for one IP or for all (`ip` None).

    `why`: half a sentence, unless the verdict is ok; `next_step`: what to do about it.
    """

    name: str
    verdict: Verdict
    lines: tuple[str, ...]
    ip: Address | None = None
    why: str = ""
    reason: Reason | None = None
    next_step: str = ""


@dataclass(frozen=True, slots=True)
class Explanation:
    """The answer to one question. `verdict`: no, if any step says so; else unknown, if any does."""

    subject: str
    steps: tuple[Step, ...]
    diagnosis: str
    next_step: str

    @property
    def verdict(self) -> Verdict:
        return worst(self.steps)


@dataclass(frozen=True, slots=True)
class Living:
    """What a cluster says beside its objects. `now`: Unix time.

    `said`: what speakers say, by node. `refused`: objects of the configuration ("Kind/name") that are not in
    force, and why. `controller`: who acts; "": nobody; None: not known. `namespace`: of all these.
    `cuts`: links on which the others do not hear their node; in the snapshot they are no links.
    `doubt`: why it is not known whose speaker lives, so that what one said may be its last words; "": it is.
    """

    now: float
    said: Mapping[str, Said] = field(default_factory=dict)
    refused: tuple[tuple[str, str], ...] = ()
    controller: str | None = None
    namespace: str = "lbspeaker-system"
    cuts: Cuts = field(default_factory=dict)
    doubt: str = ""


@dataclass(frozen=True, slots=True)
class Case:
    """What there is to look at: the world as it was observed, and what it comes to.

    `living` None: these are documents, and nobody announces or writes anything. `ports`: what is wrong with
    the ports of Services whose Pods were looked at.
    """

    snapshot: Snapshot
    outcome: Outcome
    load_balancer_class: str | None = None
    living: Living | None = None
    ports: Mapping[str, tuple[Finding, ...]] = field(default_factory=dict)

    @property
    def said(self) -> Mapping[str, Said]:
        return self.living.said if self.living is not None else {}

    @property
    def now(self) -> float:
        return self.living.now if self.living is not None else 0.0

    def unheard(self, node: str) -> str:
        """ "node-a is not heard on its eth0 by node-b"; "" if it is."""
        return unheard(node, self.living.cuts) if self.living is not None else ""

    def not_in_force(self, *kinds: str) -> list[str]:
        """The objects of these kinds that are refused, each in a line."""
        refused = self.living.refused if self.living is not None else ()
        return [f"{key} is not in force: {why}" for key, why in refused if key.partition("/")[0] in kinds]

    @property
    def look_at_speakers(self) -> str:
        namespace = self.living.namespace if self.living is not None else "lbspeaker-system"
        return f"look at the speakers: kubectl -n {namespace} get pods -o wide"


def case(
    snapshot: Snapshot,
    load_balancer_class: str | None = None,
    living: Living | None = None,
    about: Callable[[Service], bool] | None = None,
) -> Case:
    """Decide all that there is to decide; `about`: as far as it concerns these Services."""
    found = outcome(snapshot, load_balancer_class, living=living is not None, about=about)
    return Case(snapshot, found, load_balancer_class, living)


def doubted(case: Case, step: Step) -> Step:
    """The same, of what speakers say, where nobody knows which of them live: it cannot be told."""
    if case.living is None or not case.living.doubt or step.reason is not None:
        return step
    why = f"which speakers live is not known ({case.living.doubt})"
    next_step = f"get the right to list leases in namespace {case.living.namespace}, and ask again"
    return replace(step, verdict="unknown", lines=(*step.lines, why), why=why, next_step=next_step)


def worst(steps: Sequence[Step]) -> Verdict:
    verdicts = {step.verdict for step in steps}
    return "no" if "no" in verdicts else "unknown" if "unknown" in verdicts else "ok"


def first(steps: Sequence[Step]) -> Step | None:
    """The step that is to blame: the first that says no, else the first that cannot tell."""
    return next((s for s in steps if s.verdict == "no"), None) or next(
        (s for s in steps if s.verdict == "unknown"), None
    )


def refused(
    name: str, refusal: Refusal, service: str, lines: Sequence[str] = (), ip: Address | None = None
) -> Step:
    """A step that says no, for this reason."""
    return Step(
        name,
        "no",
        tuple(lines) or (refusal.message,),
        ip,
        refusal.message,
        refusal.reason,
        remedy(refusal.reason, service),
    )
