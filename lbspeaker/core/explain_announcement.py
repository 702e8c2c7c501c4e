"""Why one IP of a Service is announced by whom it is, or by nobody."""

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import replace

from lbspeaker.core.announce import PlannedRoute, bgp_advertisements, told_from
from lbspeaker.core.explain import Case, Step, doubted, refused
from lbspeaker.core.layer2 import candidacy, l2_advertisements
from lbspeaker.core.nodes import miss, node_refusal, outside
from lbspeaker.core.said import SaidPeer
from lbspeaker.core.words import ago, listed
from lbspeaker.model import (
    Address,
    BGPAdvertisement,
    L2Advertisement,
    L2Announcement,
    Network,
    Pool,
    Reason,
    Refusal,
    Service,
)

CHECK = "lbspeaker upstream check (--help says how)"


def announcement(case: Case, service: Service, ip: Address) -> Iterator[Step]:
    """Yield the steps from the advertisements to the routes."""
    config = case.snapshot.config
    l2, bgp = l2_advertisements(config, ip, service), bgp_advertisements(config, ip, service)
    yield _advertisements(case, service, ip)
    if not isinstance(l2, Refusal):
        yield _candidates(case, service, ip)
        found = case.outcome.picture.l2.get(ip)
        if found is not None and service.key in found.services:
            yield Step("owner", "ok", tuple(_why_owner(case, found, service)), ip)
            if case.living is not None:
                yield doubted(case, _speakers(case, found))
    if not isinstance(bgp, Refusal):
        yield doubted(case, _routes(case, service, ip, bgp))


def how_announced(case: Case, key: str, ip: Address) -> str:
    """ "by node-a on layer 2, and by BGP from 3 nodes"."""
    found = case.outcome.picture.l2.get(ip)
    ways = [f"by {_owner(case, found)} on layer 2"] if found is not None and key in found.services else []
    nodes = [
        node
        for node in case.outcome.picture.bgp
        if any(
            _is_sent(case, node, peer, prefix) is not False for peer, prefix, _ in _mine(case, key, ip, node)
        )
    ]
    if nodes:
        ways.append(f"by BGP from {listed(nodes)}")
    return ", and ".join(ways) or "by nobody"


def _is_sent(case: Case, node: str, peer: str, prefix: Network) -> bool | None:
    """As its speaker says; None: it does not."""
    session = case.said[node].peers.get(peer) if node in case.said else None
    return session.has_sent(prefix) if session is not None else None


# --- advertisements -------------------------------------------------------------------------------------


def _advertisements(case: Case, service: Service, ip: Address) -> Step:
    config = case.snapshot.config
    pool = config.pool_for(service, ip)
    if pool is None:
        return refused("advertisements", outside(ip), service.key, ip=ip)
    ads: list[L2Advertisement | BGPAdvertisement] = [*config.l2_advertisements, *config.bgp_advertisements]
    misses = [(ad, miss(ad.scope, pool, service)) for ad in ads]
    lines = [f"{type(ad).__name__} {ad.name}: {_match(case, ad, pool, what)}" for ad, what in misses]
    lines += case.not_in_force("L2Advertisement", "BGPAdvertisement")
    if not all(what for _, what in misses):
        return Step("advertisements", "ok", tuple(lines), ip)
    of_pool = any(what == "service" for _, what in misses)
    lack = "this Service (serviceSelectors)" if of_pool else f"pool {pool.name}"
    message = f"no L2Advertisement and no BGPAdvertisement selects {lack}"
    refusal = Refusal(Reason.NO_ADVERTISEMENT, message)
    return refused("advertisements", refusal, service.key, lines or ["there are none"], ip)


def _match(case: Case, ad: L2Advertisement | BGPAdvertisement, pool: Pool, what: str) -> str:
    if what == "pool":
        others = f" (ipAddressPools: {listed(sorted(ad.scope.pools))})" if ad.scope.pools else ""
        return f"no: it does not select pool {pool.name}{others}"
    if what == "service":
        return "no: its serviceSelectors do not select this Service"
    if not ad.scope.node_selectors:
        return "matches, on all nodes"
    nodes = [name for name, node in sorted(case.snapshot.nodes.items()) if ad.scope.covers_node(node.labels)]
    return f"matches, on {listed(nodes)}" if nodes else "matches, on no node (nodeSelectors)"


# --- layer 2 --------------------------------------------------------------------------------------------


def _candidates(case: Case, service: Service, ip: Address) -> Step:
    world = case.outcome.snapshot
    verdicts = candidacy(world, ip, case.outcome.holders[ip], service)
    lines = [f"{node}: {_verdict(case, node, why)}" for node, why in verdicts.items()]
    refusal = _missed(case, service.key, ip, "layer2")
    if refusal is None:
        return Step("candidates", "ok", tuple(lines), ip)
    if not world.nodes:
        return _no_nodes("candidates", ip)
    step = refused("candidates", refusal, service.key, lines, ip)
    cut = [node for node, why in verdicts.items() if _is_cut_off(case, node, why)]
    if cut:
        why = f"{refusal.message}; {case.unheard(cut[0])}"
        return replace(step, why=why, next_step=_look_at_link(cut[0]))
    return _blind(case, "candidates", ip, refusal) or step


def _verdict(case: Case, node: str, why: Refusal | None) -> str:
    if _is_cut_off(case, node, why):
        return f"{case.unheard(node)}, and no other link of it is for the IP"
    return why.message if why else "candidate"


def _is_cut_off(case: Case, node: str, why: Refusal | None) -> bool:
    """Whether it is no candidate because it is not heard."""
    return why is not None and why.reason is Reason.NO_NODE_LINK and bool(case.unheard(node))


def _look_at_link(node: str) -> str:
    return f"look at the link of {node}, and at the switch"


def _no_nodes(name: str, ip: Address) -> Step:
    why = "no Node is known, so there is nobody to announce it"
    next_step = "give the Nodes, too: kubectl get nodes -o yaml"
    return Step(name, "unknown", (why,), ip, why, Reason.NO_CANDIDATE, next_step)


def _blind(case: Case, name: str, ip: Address, refusal: Refusal) -> Step | None:
    """Documents without EndpointSlices: nobody knows whether there are endpoints."""
    if case.living is not None or case.snapshot.endpoints or refusal.reason is not Reason.NO_ENDPOINT:
        return None
    why = "it depends on endpoints, and there is no EndpointSlice in these documents"
    return Step(name, "unknown", (why,), ip, why, refusal.reason)


def _missed(case: Case, key: str, ip: Address, protocol: str, node: str | None = None) -> Refusal | None:
    rows = case.outcome.picture.unannounced
    found = (r for r in rows if (r.service, r.ip, r.protocol, r.node) == (key, ip, protocol, node))
    return next((row.refusal for row in found), None)


def _why_owner(case: Case, found: L2Announcement, service: Service) -> Iterator[str]:
    """Why the first of the candidates is the first."""
    owner, others = found.owner, len(found.candidates) - 1
    pin = case.snapshot.pins.get(found.ip)
    if not others:
        yield f"{owner}: the only candidate"
    elif found.preferred:
        yield f"{owner}: the Service asks for it"
    elif pin is not None and pin.node == owner and _unpinned(found) != owner:
        yield f"{owner}: pinned there ({_why_pinned(case, found)}), though {_unpinned(found)} comes before it"
    elif len(found.equals) <= others:
        behind = len(found.candidates) - len(found.equals)
        yield f"{owner}: preferred (preferredNodeSelectors) to {behind} of the others"
    else:
        yield f"{owner}: the first of {others + 1} by the hash of node and IP"
    if others:
        yield f"after it come {listed(found.candidates[1:])}"
    verdicts = candidacy(case.outcome.snapshot, found.ip, case.outcome.holders[found.ip], service)
    for node in found.ranking[: found.ranking.index(owner)]:
        why = verdicts.get(node)
        if why is not None and node not in found.candidates:
            yield f"{node} would come before it: {why.message}"
    if len(found.services) > 1:
        yield f"it is shared by {listed(found.services)}"


def _why_pinned(case: Case, found: L2Announcement) -> str:
    """What makes a speaker pin an IP to itself (see `core.placement`), as far as it can be told from here."""
    first = _unpinned(found)
    if found.moves_on_cordon and case.snapshot.nodes[first].cordoned:
        return f"onCordon is Move, and {first} is cordoned"
    if found.sticky:
        return "failback is Never"
    return "so that no node has more than its share; or it has moved too often"


def _unpinned(found: L2Announcement) -> str:
    return next(node for node in found.ranking if node in found.candidates)


def _owner(case: Case, found: L2Announcement) -> str:
    """Who owns it: as the speakers say, if just one says so."""
    saying = [node for node, one in case.said.items() if found.ip in one.ips]
    owners = [node for node in saying if case.said[node].ips[found.ip].role == "owner"]
    return owners[0] if len(owners) == 1 else found.owner


def _speakers(case: Case, found: L2Announcement) -> Step:
    """What the speakers say of the IP: the owner that is computed from here, and all that have it."""
    ip, owner = found.ip, _owner(case, found)
    said = {node: one.ips[ip] for node, one in sorted(case.said.items()) if ip in one.ips}
    lines = []
    for node, one in said.items():
        since = f" for {ago(one.since, case.now)}" if one.since else ""
        links = f", on {', '.join(one.links)}" if one.links else ""
        conflict = f"; {one.conflict} uses it, too" if one.conflict else ""
        lines.append(f"{node}: {one.role}{since}{links}{conflict}")
    if owner != found.owner:
        lines.append(f"from here {found.owner} should own it; speakers also know links and hellos")
    if owner in case.said and case.said[owner].waiting:
        lines.append(f"{owner}: frames that wait for the guard: {case.said[owner].waiting}")
    owners = [node for node, one in said.items() if one.role == "owner"]
    speaking = [node for node in owners or [owner] if node in case.said]
    lines += [f"{node}: {problem}" for node in speaking for problem in case.said[node].problems]
    conflict = next((one.conflict for one in said.values() if one.conflict), "")
    if conflict:
        refusal = Refusal(Reason.ADDRESS_CONFLICT, f"{conflict}, which is no speaker, uses it, too")
        return refused("speakers", refusal, found.services[0], lines, ip)
    if len(owners) == 1 and owner not in found.candidates and case.unheard(owner):
        why = f"{owner} answers for it, and {case.unheard(owner)}"
        return Step("speakers", "no", (*lines, why), ip, why, None, _look_at_link(owner))
    if len(owners) == 1:
        return Step("speakers", "ok", tuple(lines), ip)
    if len(owners) > 1:
        complaints = [
            f"; {node}: {case.said[node].problems[0]}" for node in owners if case.said[node].problems
        ]
        why = f"{' and '.join(owners)} say both that they own it{''.join(complaints[:1])}"
        next_step = "ask again in a second; if it stays so, the segment is cut: lbspeaker status on both"
        return Step("speakers", "no", tuple(lines), ip, why, None, next_step)
    return _unowned(case, found, lines)


def _unowned(case: Case, found: L2Announcement, lines: list[str]) -> Step:
    owner = found.owner
    next_step = case.look_at_speakers
    if owner not in case.said:
        why = f"the speaker of {owner} says nothing" if case.said else "no speaker says anything"
        return Step("speakers", "unknown", (*lines, why), found.ip, why, None, next_step)
    one = case.said[owner].ips.get(found.ip)
    if one is not None and one.role in ("probing", "lent"):
        why = f"it is on its way to {owner} ({one.role})"
        return Step("speakers", "unknown", tuple(lines), found.ip, why, None, "ask again in a few seconds")
    why = f"{owner} should own it, and its speaker ({case.said[owner].state}) "
    why += f"says {one.role}" if one is not None else "does not have it"
    next_step = f"lbspeaker status on {owner}, and the log of its speaker"
    return Step("speakers", "no", (*lines, why), found.ip, why, None, next_step)


# --- BGP ------------------------------------------------------------------------------------------------


def _mine(case: Case, key: str, ip: Address, node: str) -> Iterator[tuple[str, Network, PlannedRoute]]:
    """The routes of `node` for this IP and this Service, each with its peer and prefix."""
    for peer, table in sorted(case.outcome.picture.bgp[node].items()):
        for prefix, planned in table.items():
            if ip.version == prefix.version and ip in prefix and key in planned.services:
                yield peer, prefix, planned


def _routes(case: Case, service: Service, ip: Address, ads: Sequence[BGPAdvertisement]) -> Step:
    lines: list[str] = []
    sent: list[bool | None] = []
    errors: list[str] = []
    for node in sorted(case.outcome.picture.bgp):
        here = list(_mine(case, service.key, ip, node))
        refusal = _missed(case, service.key, ip, "bgp", node)
        for peer, prefix, planned in here:
            session = case.said[node].peers.get(peer) if node in case.said else None
            lines.append(f"{node} → {peer}: {prefix}{_attributes(planned)}{_state(case, session, prefix)}")
            sent.append(_is_sent(case, node, peer, prefix))
            errors += [_why_unsent(session, prefix)] if session is not None else []
        if refusal is not None:
            lines.append(f"{node}: {refusal.message}")
        elif not here:
            lines.append(f"{node}: {_no_offer(case, node, ads)}")
    lines += case.not_in_force("BGPPeer", "BFDProfile")
    if not case.outcome.picture.bgp:
        return _no_nodes("routes", ip)
    if not sent:
        why_not = _why_no_route(case, service, ip)
        blind = _blind(case, "routes", ip, why_not)
        return blind or refused("routes", why_not, service.key, lines, ip)
    if True in sent or case.living is None:
        return Step("routes", "ok", tuple(lines), ip)
    if None in sent:
        why = "no speaker says whether it is sent"
        next_step = case.look_at_speakers
        return Step("routes", "unknown", tuple(lines), ip, why, None, next_step)
    cause, _, remedy = next(filter(None, errors), "").partition("; ")
    why = f"no session has sent it{f': {cause}' if cause else ''}"
    return Step("routes", "no", tuple(lines), ip, why, None, remedy or f"ask the router: {CHECK}")


def _attributes(planned: PlannedRoute) -> str:
    route = planned.route
    parts = [
        f"local preference {route.local_pref}" if route.local_pref is not None else "",
        f"MED {route.med}" if route.med is not None else "",
        f"AS path prepended {route.prepend} times" if route.prepend else "",
        f"communities {' '.join(route.communities)}" if route.communities else "",
    ]
    told = ", ".join(part for part in parts if part)
    return f" ({told})" if told else ""


def _state(case: Case, session: SaidPeer | None, prefix: Network) -> str:
    if session is None:
        return ", and its speaker does not say whether it is sent" if case.living is not None else ""
    since = f" for {ago(session.since, case.now)}" if session.since else ""
    why = f": {_why_unsent(session, prefix)}" if _why_unsent(session, prefix) else ""
    if session.state != "up":
        return f": not sent: session {session.state}{since}{why}"
    if session.has_sent(prefix):
        return f": sent; session up{since}"
    if why:
        return f": not sent, though the session is up{since}{why}"
    return f": session up, {session.sent} of {session.desired} routes sent"


def _why_unsent(session: SaidPeer, prefix: Network) -> str:
    """What ended a session that is up is over."""
    return session.unsent.get(prefix, "") if session.state == "up" else session.last_error


def _no_offer(case: Case, node: str, ads: Sequence[BGPAdvertisement]) -> str:
    """Why nothing is even tried from this node."""
    refusal = node_refusal(case.snapshot, node)
    if refusal is not None:
        return refusal.message
    told = told_from(case.snapshot.config, case.snapshot.nodes[node].labels)
    if not any(ad.name in told for ad in ads):
        return f"nodeSelectors of BGPAdvertisement {listed([ad.name for ad in ads])}"
    return "it has no BGPPeer that they name (peers, nodeSelectors of BGPPeers)"


def _why_no_route(case: Case, service: Service, ip: Address) -> Refusal:
    """The refusal for all nodes, else the commonest of theirs."""
    whole = _missed(case, service.key, ip, "bgp")
    if whole is not None:
        return whole
    rows = [
        row.refusal
        for row in case.outcome.picture.unannounced
        if (row.service, row.ip, row.protocol) == (service.key, ip, "bgp")
    ]
    (reason, _), *_ = Counter(refusal.reason for refusal in rows).most_common(1)
    return next(refusal for refusal in rows if refusal.reason is reason)
