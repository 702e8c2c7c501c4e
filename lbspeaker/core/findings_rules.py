"""What the configuration says: what is wrong in it, and what in it works against itself."""

from collections.abc import Iterator

from lbspeaker.core.checks import Check, fail, has_peers, warn
from lbspeaker.core.links import eligible
from lbspeaker.facts import Bridge, Evidence, Finding, Here, Part
from lbspeaker.model import LinkPolicy

_AGEING_S = 300.0  # of most switches: IEEE 802.1Q, 8.8.3
_LONGEST = 4 / 3  # a refresh is due after 2/3 to 4/3 of refresh_s


def configuration(evidence: Evidence) -> Iterator[Finding]:
    for problem in evidence.problems:
        place = problem.file if problem.line is None else f"{problem.file}:{problem.line}"
        where = problem.object if problem.file == "cluster" else f"{problem.object or place} ({place})"
        what = ": ".join(part for part in (problem.path, problem.what) if part)
        make, why = (
            (fail, "it is not in force") if problem.severity == "error" else (warn, "it is hardly meant")
        )
        yield make(where or place, what, why, problem.hint or "lbspeaker check says more")


def advertised(evidence: Evidence) -> Iterator[Finding]:
    config = evidence.snapshot.config
    if not config.pools:
        yield fail("configuration", "there is no pool", "no Service gets an IP", "create an IPAddressPool")
    for pool in config.pools:
        scopes = [ad.scope for ad in config.l2_advertisements] + [
            ad.scope for ad in config.bgp_advertisements
        ]
        if not any(scope.covers_pool(pool) for scope in scopes):
            yield fail(
                f"pool {pool.name}",
                "no advertisement selects it",
                "Services get IPs that nobody announces",
                f"create an L2Advertisement or a BGPAdvertisement with ipAddressPools: [{pool.name}]",
            )
    if config.bgp_advertisements and not config.peers:
        yield fail(
            "configuration",
            "there are BGPAdvertisements, and no BGPPeer",
            "there is no router to announce to",
            "create a BGPPeer for the router",
        )


def restart_with_bfd(evidence: Evidence) -> Iterator[Finding]:
    for peer in evidence.snapshot.config.peers:
        if peer.bfd is not None and peer.graceful_restart_s is not None:
            yield warn(
                f"BGPPeer {peer.name}",
                "it has BFD and graceful restart",
                "BFD drops at once what graceful restart is there to keep",
                "remove bfdProfile (restarts lose nothing), or enableGracefulRestart (failures are quick)",
            )


def fdb_ageing(evidence: Evidence) -> Iterator[Finding]:
    """A switch forgets where a MAC is that says nothing; then it floods, or drops."""
    config, here = evidence.snapshot.config, evidence.here
    if not config.l2_advertisements:
        return
    for policy in config.link_policies:
        if _too_rare(policy, _AGEING_S):
            yield warn(
                f"LinkPolicy {policy.name}",
                _refresh(policy),
                f"most switches forget a MAC after {_AGEING_S:g} s of silence",
                "refreshSeconds: 90",
            )
    for name, link, bridge in _bridges(here) if here else ():
        policy = config.link_policy(_labels(evidence), link)
        if bridge.ageing_s and _too_rare(policy, bridge.ageing_s):
            yield warn(
                f"{here.name if here else ''}, bridge {name}",
                f"it forgets a MAC after {bridge.ageing_s:g} s; {_refresh(policy)}",
                "in between it floods what is for service IPs",
                f"refreshSeconds under {bridge.ageing_s / _LONGEST:.0f}, or a longer ageing time there",
            )


def _too_rare(policy: LinkPolicy, ageing_s: float) -> bool:
    return policy.refresh_s == 0 or policy.refresh_s * _LONGEST > ageing_s


def _refresh(policy: LinkPolicy) -> str:
    if policy.refresh_s == 0:
        return "we never refresh"
    return f"we refresh up to {policy.refresh_s * _LONGEST:.0f} s apart"


def _bridges(here: Here) -> Iterator[tuple[str, str, Bridge]]:
    """Bridges between this machine and the segment: the bridge, our link at it, and what it is like."""
    for link in eligible(here.links):
        if link.name in here.bridges:
            yield link.name, link.name, here.bridges[link.name]


def _labels(evidence: Evidence) -> dict[str, str]:
    return dict(evidence.own_node.labels) if evidence.own_node else {}


_CONFIG = frozenset({Part.CONFIG})
CHECKS = (
    Check("configuration", "it is accepted as it is", configuration, _CONFIG),
    Check("advertised", "each pool is announced", advertised, _CONFIG),
    Check(
        "restart-with-bfd",
        "no peer has BFD and graceful restart",
        restart_with_bfd,
        _CONFIG,
        concerns=has_peers,
    ),
    Check("fdb-ageing", "refreshes come before switches forget", fdb_ageing, _CONFIG),
)
