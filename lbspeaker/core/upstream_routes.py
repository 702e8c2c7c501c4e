"""What is wrong with the routes at the router: which are missing, and which it has and does not use.

A route must come from each node that announces it, pass the policy, be as good as those of the other nodes,
and reach the table that forwards packets. The first of these steps that fails is told.
"""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence

from lbspeaker.core.upstream_sessions import again, configure, who
from lbspeaker.model import GRACEFUL_SHUTDOWN, Address, Family, Network
from lbspeaker.upstream import (
    Expected,
    Filters,
    Finding,
    MapRule,
    Neighbor,
    Path,
    PrefixRule,
    RouterView,
    Session,
    Upstream,
)


def route_findings(up: Upstream, expected: Expected, view: RouterView) -> Iterator[Finding]:
    """Yield what is wrong with each route that the router should have, and with those that it should not."""
    neighbors = {neighbor.node: neighbor for neighbor in up.neighbors}
    by_prefix: dict[Network, list[Path]] = {}
    for path in view.paths:
        by_prefix.setdefault(path.prefix, []).append(path)
    for prefix, routes in expected.items():
        paths = by_prefix.get(prefix, [])
        there = {path.neighbor for path in paths}
        for node in routes:
            neighbor = neighbors.get(node)
            if neighbor is None:
                yield _unknown(up, node)
            elif neighbor.address not in there:
                yield from _missing(prefix, neighbor, view)
        yield from _unused(up, prefix, paths, view)
    yield from _others(up, expected, by_prefix)
    yield from _on_link(up, view)


# --- missing --------------------------------------------------------------------------------------------


def _unknown(up: Upstream, node: str) -> Finding:
    what = f"the IPv{up.family} address that it dials from is not known, so its routes cannot be looked for"
    remedy = "give the Nodes as the cluster has them: kubectl get nodes -o yaml"
    return Finding("no-address", "warning", (node,), what, remedy)


def _missing(prefix: Network, neighbor: Neighbor, view: RouterView) -> Iterator[Finding]:
    """Nothing where the finding about its session says it: no session, no family, no policy."""
    session = view.sessions.get(neighbor.address)
    family: Family = prefix.version
    if session is None or not session.up or family in session.ungoverned:
        return
    if session.families is not None and family not in session.families:
        return
    code, what, remedy = _why_missing(prefix, family, session, view)
    yield Finding(code, "error", (f"{prefix} from {who(neighbor)}",), what, remedy)


def _why_missing(prefix: Network, family: Family, session: Session, view: RouterView) -> tuple[str, str, str]:
    filters = session.filters.get(family, Filters())
    rules = _rules(filters, family, view)
    taken = _takes(filters, family, prefix, view)
    if taken is False and any(rule.permit and rule.covers(prefix) for rule in rules):
        name = filters.prefix_list or filters.route_map
        what = (
            f"{name} permits networks around it, and not the length /{prefix.prefixlen}:"
            f" it needs le {prefix.prefixlen}"
        )
        return "prefix-length", what, f"{configure(view)}; {again(view)}"
    if taken is False or filters.other == "REJECT":
        name = filters.prefix_list or filters.route_map or "import none"
        return (
            "policy-refuses",
            f"the router's policy ({name}) refuses it",
            f"{configure(view)}; {again(view)}",
        )
    if session.refused.get(family):
        what = f"the router's policy ({filters.other}) refused routes from it"
        return "policy-refuses", what, f"{configure(view)}; {again(view)}"
    if taken:
        what = (
            "the policy would let it in: either the router dropped it when the policy was another one, or the"
            " node does not announce it"
        )
        return "not-there", what, f"{again(view)}; on the node: lbspeaker status"
    what = "the session is up, and the route is not there: refused by the policy, or not announced"
    return "not-there", what, f"look at its policy; {again(view)}; on the node: lbspeaker status"


def _rules(filters: Filters, family: Family, view: RouterView) -> list[PrefixRule]:
    """All lines of the prefix lists that a route must pass."""
    names = [filters.prefix_list] if filters.prefix_list else []
    for rule in view.route_maps.get(filters.route_map, ()):
        names += rule.lists
    return [rule for name in names for rule in view.prefix_lists.get((family, name), ())]


def _takes(filters: Filters, family: Family, prefix: Network, view: RouterView) -> bool | None:
    """Whether the filters let `prefix` in; None if that cannot be told."""
    if filters.other:
        return None
    verdicts: list[bool | None] = []
    if filters.prefix_list:
        verdicts.append(_listed(view.prefix_lists.get((family, filters.prefix_list), ()), prefix))
    if filters.route_map:
        verdicts.append(_mapped(view.route_maps.get(filters.route_map), family, prefix, view))
    if False in verdicts:
        return False
    return None if None in verdicts else True


def _listed(rules: Sequence[PrefixRule], prefix: Network) -> bool:
    """The first line that matches counts; what none matches is refused."""
    return next((rule.permit for rule in rules if rule.matches(prefix)), False)


def _mapped(
    rules: Sequence[MapRule] | None, family: Family, prefix: Network, view: RouterView
) -> bool | None:
    """The first rule that applies counts; what none applies to is refused. None if it has unclear rules."""
    if rules is None:
        return None
    for rule in rules:
        if rule.unclear:
            return None
        lists = [view.prefix_lists.get((family, name), ()) for name in rule.lists]
        if not lists or any(_listed(one, prefix) for one in lists):
            return rule.permit
    return False


# --- there, and not used --------------------------------------------------------------------------------


def _unused(up: Upstream, prefix: Network, paths: Sequence[Path], view: RouterView) -> Iterator[Finding]:
    nodes = {neighbor.address: neighbor for neighbor in up.neighbors}
    ours = [path for path in paths if path.neighbor in nodes]
    for path in ours:
        if path.stale:
            what = "the route is kept from a session that ended (graceful restart), and is not renewed"
            remedy = "is the speaker on its way back? on the node: lbspeaker status"
            yield Finding("stale", "warning", (f"{prefix} from {who(nodes[path.neighbor])}",), what, remedy)
        if not path.valid:
            what = "the router cannot reach the next hop, the node's own address"
            remedy = "give it a link or a route to the nodes (BIRD: protocol direct, kernel with learn)"
            yield Finding("next-hop", "error", (f"{prefix} from {who(nodes[path.neighbor])}",), what, remedy)
    staying = [path for path in ours if path.valid and not _drains(path)]
    if staying:
        yield from _among(prefix, staying, paths, view, {path.neighbor for path in ours})


def _drains(path: Path) -> bool:
    """Whether its node is about to go (RFC 8326); a router that shows no communities shows what it did."""
    if path.communities is None:
        return path.local_pref == 0
    return GRACEFUL_SHUTDOWN in path.communities


def _among(
    prefix: Network,
    staying: Sequence[Path],
    paths: Sequence[Path],
    view: RouterView,
    nodes: set[Address],
) -> Iterator[Finding]:
    """Of the routes that nodes announce and mean to keep, all should be used."""
    used = [path for path in staying if path.used]
    subject = (str(prefix),)
    if not used:
        other = next((path for path in paths if path.used and path.neighbor not in nodes), None)
        if other is not None:
            what = f"{_whom(other)} announces it as well, and that route is better"
            yield Finding("shadowed", "error", subject, what, "let only the nodes announce it")
        elif not any(path.used for path in paths):
            what = "the router has the routes of the nodes, and uses none: another route to it is better"
            yield Finding("not-best", "error", subject, what, "look at its table: static or connected routes")
        return
    forwards = view.installed is None or any(view.installed.get(prefix, ()))
    if len(used) < len(staying) and forwards:
        yield _fewer(used, staying, subject, view)
    else:
        yield from _not_installed(prefix, used, subject, view)


def _whom(path: Path) -> str:
    return "the router itself" if path.neighbor.is_unspecified else str(path.neighbor)


def _fewer(
    used: Sequence[Path], staying: Sequence[Path], subject: tuple[str, ...], view: RouterView
) -> Finding:
    best = used[0]
    count = f"{len(used)} of {len(staying)} routes"
    differing = [name for name in _COMPARED if len({getattr(path, name) for path in staying}) > 1]
    if differing:
        words = ", ".join(f"{_COMPARED[name]} {_values(staying, name)}" for name in differing)
        what = f"{count} are used, because the others are not as good: they differ in {words}"
        remedy = "nodes must send the same attributes: one version of lbspeaker, no policy that changes some"
        return Finding("attributes-differ", "error", subject, what, remedy)
    what = f"{count} are used, though they are equal: the router allows {len(used)} next hop"
    what += "" if len(used) == 1 else "s"
    remedy = {
        "BIRD": "merge paths on, in its protocol kernel",
        "OPNsense": "Routing: BGP: Maximum Paths",
    }.get(view.software, f"maximum-paths {'' if best.as_path else 'ibgp '}NUMBER, for this family")
    return Finding("multipath", "error", subject, what, f"{remedy}: at least {len(staying)}")


_COMPARED = {"local_pref": "LOCAL_PREF", "as_path": "AS_PATH", "origin": "ORIGIN", "med": "MED"}


def _values(paths: Sequence[Path], name: str) -> str:
    """ "0 (2), 50 (1)": which values, and how many routes have each."""
    counts = Counter(_word(getattr(path, name)) for path in paths)
    return ", ".join(f"{value} ({number})" for value, number in sorted(counts.items()))


def _word(value: object) -> str:
    if isinstance(value, tuple):
        return " ".join(map(str, value)) or "empty"
    return "the default" if value is None else str(value)


def _not_installed(
    prefix: Network, used: Sequence[Path], subject: tuple[str, ...], view: RouterView
) -> Iterator[Finding]:
    if view.installed is None:
        return
    hops = {path.next_hop for path in used}
    lost = hops - view.installed.get(prefix, frozenset())
    if not lost:
        return
    if lost == hops:
        what = "it is in the table of BGP, and not in the one that forwards packets"
    else:
        what = f"{len(hops - lost)} of {len(hops)} next hops are in the table that forwards packets"
    remedy = "look for a better route to it (static, connected), or for a limit of next hops"
    if view.software == "BIRD":
        remedy = "a protocol kernel must export it: export where source = RTS_BGP"
    yield Finding("not-installed", "error", subject, what, remedy)


# --- what else is there ---------------------------------------------------------------------------------


def _others(
    up: Upstream, expected: Expected, by_prefix: Mapping[Network, Sequence[Path]]
) -> Iterator[Finding]:
    """Routes to addresses of pools that nobody expects, or from somebody else."""
    nodes = {neighbor.address: neighbor for neighbor in up.neighbors}
    entries = [accepted for one in up.prefix_lists for accepted in one.entries]
    for prefix, paths in by_prefix.items():
        if not any(accepted.admits(prefix) for accepted in entries):
            continue
        ours_used = any(path.used for path in paths if path.neighbor in nodes)
        for path in paths:
            if path.neighbor not in nodes:
                if prefix in expected and not (path.used and ours_used):
                    continue  # it changes nothing, or it shadows ours, which is told with those
                what = f"{_whom(path)}, which is no node, announces an address of a pool"
                yield Finding("foreign", "warning", (str(prefix),), what, "let only the nodes announce it")
            elif expected and path.neighbor not in _expecting(expected, prefix, nodes):
                what = "the router has it, and no Service that was given here explains it"
                remedy = "were all Services given? on the node: lbspeaker status"
                subject = f"{prefix} from {who(nodes[path.neighbor])}"
                yield Finding("unexplained", "note", (subject,), what, remedy)


def _expecting(expected: Expected, prefix: Network, nodes: Mapping[Address, Neighbor]) -> set[Address]:
    routes = expected.get(prefix, {})
    return {address for address, neighbor in nodes.items() if neighbor.node in routes}


def _on_link(up: Upstream, view: RouterView) -> Iterator[Finding]:
    """Pools inside a network of a link: the router asks for such an address by ARP unless it has a route."""
    for one in up.prefix_lists:
        for network in view.connected:
            if network.prefixlen < network.max_prefixlen and any(
                network.overlaps(accepted.network) for accepted in one.entries
            ):
                what = (
                    f"the pool is inside {network}, which the router has on a link: answers take another way"
                    " than requests, and without a route it asks for the address by ARP"
                )
                remedy = "give the pool addresses of no link, or use layer 2 for it"
                yield Finding("pool-on-link", "warning", (f"pool {one.label}",), what, remedy)
