"""What `lbspeaker doctor` knows: all checks, and what they say of one look at a cluster and a node.

Each topic is a module of its own: `findings_pods`, `findings_services`, `findings_network`, `findings_node`,
`findings_rivals`. A check that lacks what it needs says UNKNOWN; all others are made.
"""

from collections.abc import Sequence

from lbspeaker.core import (
    findings_network,
    findings_node,
    findings_pods,
    findings_rivals,
    findings_services,
)
from lbspeaker.core.checks import Check, findings
from lbspeaker.facts import Evidence, Finding, Grade

CHECKS: tuple[Check, ...] = (
    *findings_pods.CHECKS,
    *findings_services.CHECKS,
    *findings_network.CHECKS,
    *findings_rivals.CHECKS,
    *findings_node.CHECKS,
)
_ORDER = {grade: number for number, grade in enumerate(Grade)}


def examine(evidence: Evidence, checks: Sequence[Check] = CHECKS) -> list[Finding]:
    """Return what all checks say: FAIL first, then WARN, UNKNOWN and PASS; each in the order of checks."""
    found = [finding for check in checks for finding in findings(check, evidence)]
    return sorted(found, key=lambda one: _ORDER[one.grade])


def looked_at(found: Sequence[Finding]) -> bool:
    """Whether anything could be looked at."""
    return any(one.grade is not Grade.UNKNOWN for one in found)
