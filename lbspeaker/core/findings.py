"""What `lbspeaker doctor` knows: all checks, and what they say of one look at a cluster and a node.

Each topic is a module of its own, `findings_…`: a Service and its Pods (`pods`, `connect`), what it asks for
(`services`), the configuration (`rules`), pools (`pools`), our own programs (`ours`) and others (`rivals`),
the kernel of this node (`node`), its links and ports (`links`). A check that lacks what it needs says
UNKNOWN; all others are made.
"""

from collections.abc import Sequence

from lbspeaker.core import (
    findings_connect,
    findings_links,
    findings_node,
    findings_ours,
    findings_pods,
    findings_pools,
    findings_rivals,
    findings_rules,
    findings_services,
)
from lbspeaker.core.checks import Check, findings
from lbspeaker.facts import Evidence, Finding, Grade

CHECKS: tuple[Check, ...] = (
    *findings_pods.CHECKS,
    *findings_connect.CHECKS,
    *findings_services.CHECKS,
    *findings_rules.CHECKS,
    *findings_pools.CHECKS,
    *findings_ours.CHECKS,
    *findings_rivals.CHECKS,
    *findings_node.CHECKS,
    *findings_links.CHECKS,
)
_ORDER = {grade: number for number, grade in enumerate(Grade)}


def examine(evidence: Evidence, checks: Sequence[Check] = CHECKS) -> list[Finding]:
    """Return what all checks say: FAIL first, then WARN, UNKNOWN and PASS; each in the order of checks."""
    found = [finding for check in checks for finding in findings(check, evidence)]
    return sorted(found, key=lambda one: _ORDER[one.grade])


def looked_at(found: Sequence[Finding]) -> bool:
    """Whether anything could be looked at."""
    return any(one.grade is not Grade.UNKNOWN for one in found)
