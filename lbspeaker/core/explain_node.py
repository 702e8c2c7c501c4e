"""What one node announces, and for everything that it does not, why."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace

from lbspeaker.core.announce import peers_of
from lbspeaker.core.explain import Case, Explanation, Step, doubted, first, refused
from lbspeaker.core.layer2 import l2_advertisements
from lbspeaker.core.layer2 import why_not as l2_why_not
from lbspeaker.core.nodes import node_refusal
from lbspeaker.core.words import ago, listed
from lbspeaker.model import Address, Refusal


def explain_node(case: Case, node: str) -> Explanation:
    """Explain what `node` of the snapshot announces."""
    steps = tuple(_steps(case, node))
    blamed = first(steps)
    told = "; ".join(step.lines[0] for step in steps[1:] if step.lines)
    if blamed is None:
        return Explanation(node, steps, f"{node} takes part: {told}", "nothing to be done")
    if blamed.verdict == "unknown":
        return Explanation(
            node, steps, f"{node}, as far as can be seen: {told}; {blamed.why}", blamed.next_step
        )
    return Explanation(node, steps, f"something is wrong with {node}: {blamed.why}", blamed.next_step)


def _steps(case: Case, node: str) -> Iterator[Step]:
    yield doubted(case, _state(case, node))
    yield from (doubted(case, step) for step in (*_layer2(case, node), *_bgp(case, node)))


def _state(case: Case, node: str) -> Step:
    refusal = node_refusal(case.snapshot, node)
    known = case.snapshot.nodes[node]
    lines = [] if known.ready else ["not Ready: it owns IPs only where no other node can"]
    if known.cordoned:
        lines.append("cordoned: with onCordon: Move it gives away what it has")
    said = case.said.get(node)
    if said is not None:
        lines += [f"its speaker is {said.state}", *said.problems]
    if refusal is not None:
        step = refused("node", refusal, "", [refusal.message, *lines])
        return replace(step, next_step=step.next_step.replace("NODE", node))
    if said is not None and said.state != "serving":
        why = f"its speaker is {said.state}"
        return Step("node", "no", tuple(lines), None, why, None, f"look at the log of the speaker on {node}")
    if said is not None and said.problems:
        next_step = f"look at that; all that it says: lbspeaker status --node {node}"
        return Step("node", "no", tuple(lines), None, said.problems[0], None, next_step)
    if case.unheard(node):
        why = case.unheard(node)
        return Step("node", "no", (*lines, why), None, why, None, "look at that link, and at the switch")
    if said is None and case.living is not None:
        why = "its speaker says nothing"
        return Step("node", "unknown", (*lines, why), None, why, None, case.look_at_speakers)
    return Step("node", "ok", tuple(lines) or ("it may announce",))


# --- layer 2 --------------------------------------------------------------------------------------------


def _layer2(case: Case, node: str) -> Iterator[Step]:
    if not case.snapshot.config.l2_advertisements:
        return
    found = case.outcome.picture.l2
    owned = [ip for ip, one in found.items() if one.owner == node]
    second = [ip for ip, one in found.items() if node in one.candidates[1:]]
    lines = [f"it owns {len(owned)} of {len(found)} IPs on layer 2{_these(owned)}"]
    if second:
        lines.append(f"candidate for {len(second)} more, that others own{_these(second)}")
    lines += _grouped(_not_candidate(case, node))
    said = case.said.get(node)
    missing = [ip for ip in owned if said is not None and ip not in said.ips]
    if missing:
        why = f"its speaker does not have {listed([str(ip) for ip in missing])}, which it should own"
        next_step = f"lbspeaker status on {node}, and the log of its speaker"
        yield Step("layer 2", "no", (*lines, why), None, why, None, next_step)
    else:
        yield Step("layer 2", "ok", tuple(lines))


def _these(ips: Iterable[Address]) -> str:
    told = listed([str(ip) for ip in ips])
    return f": {told}" if told else ""


def _not_candidate(case: Case, node: str) -> Mapping[str, list[str]]:
    """Why the node is no candidate, and for which IPs: those of Services that layer 2 is for."""
    config = case.snapshot.config
    held = {
        ip: of
        for ip, services in case.outcome.holders.items()
        if (of := tuple(s for s in services if not isinstance(l2_advertisements(config, ip, s), Refusal)))
    }
    found: dict[str, list[str]] = {}
    for (ip, key), refusal in l2_why_not(case.outcome.snapshot, held, node).items():
        text = refusal.message.replace(key, "its Service").replace(str(ip), "the IP")
        found.setdefault(text, []).append(f"{ip} ({key})")
    return found


def _grouped(found: Mapping[str, list[str]]) -> Iterator[str]:
    return (f"not for {listed(whom)}: {why}" for why, whom in found.items())


# --- BGP ------------------------------------------------------------------------------------------------


def _bgp(case: Case, node: str) -> Iterator[Step]:
    config = case.snapshot.config
    if not config.bgp_advertisements:
        return
    tables = case.outcome.picture.bgp[node]
    peers = [peer.name for peer in peers_of(config, case.snapshot.nodes[node].labels)]
    prefixes = {prefix for table in tables.values() for prefix in table}
    count = f"{len(prefixes)} prefix{'' if len(prefixes) == 1 else 'es'}"
    lines = [f"it announces {count} by BGP to {listed(peers) or 'no peer'}"]
    said, down = case.said.get(node), list[str]()
    for peer in peers:
        told = listed([str(prefix) for prefix in tables.get(peer, {})]) or "nothing"
        session = said.peers.get(peer) if said is not None else None
        state = f"; session {session.state} for {ago(session.since, case.now)}" if session else ""
        error = f": {session.last_error}" if session and session.state != "up" and session.last_error else ""
        lines.append(f"{peer}: {told}{state}{error}")
        if session is not None and session.state != "up":
            down.append(f"no session with {peer}{error}")
    rows = [row for row in case.outcome.picture.unannounced if row.protocol == "bgp" and row.node == node]
    why: dict[str, list[str]] = {}
    for row in rows:
        text = row.refusal.message.replace(row.service, "its Service")
        why.setdefault(text, []).append(f"{row.ip} ({row.service})")
    lines += _grouped(why)
    if down:
        step = "ask the router: lbspeaker upstream check"
        yield Step("bgp", "no", tuple(lines), None, down[0], None, step)
    else:
        yield Step("bgp", "ok", tuple(lines))
