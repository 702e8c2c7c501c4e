"""The third chapter of the demo: the same Services over BGP, and a node that dies."""

import time

from lbspeaker.lab import story_client, story_cluster
from lbspeaker.lab.story_claims import Claim, all_of, at_most, held
from lbspeaker.lab.story_cluster import BGP_HOLD_S
from lbspeaker.lab.story_stage import Stage, during, until
from lbspeaker.lab.topology import REMOTE, LabNode

PART = "3"

_SESSIONS_S = 20.0
_REACH_S = 6.0


def routes(stage: Stage) -> list[Claim]:
    """Announce everything by BGP instead of ARP; then cut a node off, and wait for the router's table."""
    screen, lab = stage.screen, stage.lab
    screen.chapter(f"3. The same Services over BGP; the router is {lab.router.kind}")
    screen.documents(story_cluster.BGP)
    screen.say("`$ kubectl delete l2advertisement lan`")
    stage.begin, began = time.time(), time.monotonic()
    during(stage, lambda: story_cluster.apply(lab, story_cluster.BGP))
    during(stage, lambda: story_cluster.delete(lab, story_cluster.L2_ADVERTISEMENT))
    claims = [_converged(stage, lab.nodes, "every node is a next hop of each IP", began)]
    screen.claim(claims[-1])
    if not held(claims):
        return claims
    _show_route(stage)
    claims.append(_reached(stage, "a client behind the router reaches each IP"))
    screen.claim(claims[-1])

    lost = lab.nodes[-1]
    screen.say(f"{lost.name} loses its power; the hold time of the sessions is {BGP_HOLD_S} s")
    cut = time.monotonic()
    lab.cut(lost.name)
    rest = _converged(stage, lab.nodes[:-1], f"next hops without {lost.name}", cut)
    goal = BGP_HOLD_S + 1.0
    took = rest.numbers["after_s"]
    after = [
        rest,
        at_most(PART, "until the table has converged", took, goal, unit="s", note="hold time + 1 s"),
        _reached(stage, "the client still reaches each IP"),
    ]
    for claim in after:
        screen.claim(claim)
    stage.lab.heal(lost.name)
    return claims + after


def _converged(stage: Stage, nodes: tuple[LabNode, ...], what: str, began: float) -> Claim:
    """Wait until the router's table has exactly these nodes as next hops of every service IP."""
    wanted = {str(node.ipv4) for node in nodes}

    def right() -> int:
        table = stage.lab.router.table()
        return sum(set(table.get(f"{ip}/32", ())) == wanted for ip in stage.ips)

    until(stage, lambda: right() == stage.services, _SESSIONS_S)
    seconds = time.monotonic() - began
    note = f"{len(wanted)} next hops each, after {seconds:.2f} s"
    return all_of(PART, what, right(), stage.services, note, after_s=seconds)


def _reached(stage: Stage, what: str) -> Claim:
    answers = during(stage, lambda: story_client.reach(stage.lab, REMOTE, stage.ips, _REACH_S))
    return all_of(PART, what, len(answers), stage.services, f"from {len(set(answers.values()))} pods")


def _show_route(stage: Stage) -> None:
    """As in the router's table, by the example of the first one."""
    prefix = f"{stage.ips[0]}/32"
    hops = stage.lab.router.table().get(prefix, [])
    stage.screen.say(f"{prefix} via {', '.join(hops)}, and so on")
