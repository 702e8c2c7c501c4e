"""What is wrong at the router, and what to do about it: what it must have against what it says it has.

    Upstream, expected routes, RouterView ──▶ check() ──▶ findings, the worst first

One cause is told once: a session that is down explains every route that is missing because of it. Of a router
that does not say something (None), nothing is believed.
"""

from collections.abc import Iterable

from lbspeaker.core.upstream_routes import route_findings
from lbspeaker.core.upstream_sessions import session_findings
from lbspeaker.upstream import Expected, Finding, RouterView, Upstream

_ORDER = {"error": 0, "warning": 1, "note": 2}


def check(up: Upstream, expected: Expected, view: RouterView, *, spreads: bool = False) -> list[Finding]:
    """Return all findings. `spreads`: a Service with traffic policy Cluster comes through several nodes."""
    found = [*session_findings(up, view), *route_findings(up, expected, view), *_own(up, spreads)]
    if not expected:
        what = "no Service has an IP that is announced to it, so only sessions were looked at"
        found.append(Finding("no-routes", "note", (up.peer,), what, "give Services and EndpointSlices, too"))
    return sorted(_merged(found), key=lambda one: _ORDER[one.severity])


def _own(up: Upstream, spreads: bool) -> Iterable[Finding]:
    """What our own side makes worth knowing."""
    if up.bfd is not None and up.graceful_restart_s is not None:
        what = "BFD and graceful restart work against each other: one drops what the other one keeps"
        yield Finding("restart-with-bfd", "note", (up.peer,), what, "choose one of them in the BGPPeer")
    if spreads:
        what = (
            "with externalTrafficPolicy Cluster and several next hops, connections break when a node comes or"
            " goes: the router then spreads all of them anew"
        )
        remedy = "externalTrafficPolicy: Local, and resilient hashing on the router if it has that"
        yield Finding("rehash", "note", (up.peer,), what, remedy)


def _merged(found: Iterable[Finding]) -> list[Finding]:
    """The same about several is one finding."""
    together: dict[tuple[str, str, str, str], list[str]] = {}
    for one in found:
        key = (one.code, one.severity, one.what, one.remedy)
        subjects = together.setdefault(key, [])
        subjects += [subject for subject in one.subjects if subject not in subjects]
    return [
        Finding(code, severity, tuple(subjects), what, remedy)  # type: ignore[arg-type]
        for (code, severity, what, remedy), subjects in together.items()
    ]
