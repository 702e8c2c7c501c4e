"""The second chapter of the demo: a node loses its power, and its service IPs move."""

import time
from collections import Counter
from functools import partial

from lbspeaker.core.segment import SILENT_AFTER_S
from lbspeaker.lab import objects, story_client, story_cluster
from lbspeaker.lab.story_claims import Claim, all_of, at_most, yes
from lbspeaker.lab.story_client import Prober, longest_gap
from lbspeaker.lab.story_stage import (
    Stage,
    answerers,
    during,
    forget,
    owners,
    pacing_s,
    quiet,
    until,
    wire,
)
from lbspeaker.lab.topology import CLIENT

PART = "2"

_SLACK_S = 1.5  # for a machine that has better things to do
_EVERY_S = 0.02  # the IP that is watched
_OTHERS_EVERY_S = 0.2  # everything else that the node owns
_AFTER_S = 0.5  # how long it is watched after the last IP is back
_HEAL_S = 15.0
_CALM_S = 0.8
_REACH_S = 8.0


def power_cut(stage: Stage) -> list[Claim]:
    """Cut the node off that owns the first Service's IP, with a client that asks all the time; heal it."""
    screen, watched = stage.screen, stage.ips[0]
    before = owners(stage)
    node = before.get(watched, stage.ports[0])
    moving = [ip for ip in stage.ips if before.get(ip) == node]
    screen.chapter(f"2. {node} loses its power: it owns {len(moving)} of {len(stage.ips)} service IPs")
    often, rarely = _EVERY_S * 1000, _OTHERS_EVERY_S * 1000
    screen.say(
        f"the client opens a new connection to {watched} every {often:.0f} ms, and to the others of {node}"
    )
    screen.say(f"every {rarely:.0f} ms; speakers miss each other after {SILENT_AFTER_S:g} s without a hello")
    stage.begin = time.time()
    with screen.live(partial(wire, stage)):
        gaps, answers = _watch(stage, node, watched, moving)
    claims = _claims(stage, node, watched, gaps, answers)
    claims += _heal(stage, node, moving)
    for claim in claims:
        screen.claim(claim)
    return claims


def _watch(
    stage: Stage, node: str, watched: str, moving: list[str]
) -> tuple[dict[str, float], dict[str, str]]:
    """Return the longest gap of each IP around the cut, and who answers for all IPs at the end of it."""
    prober = Prober(stage.lab, CLIENT, dict.fromkeys(moving, _OTHERS_EVERY_S) | {watched: _EVERY_S})
    prober.start()
    try:
        begin = time.monotonic()
        until(stage, lambda: prober.answers_since(begin) >= set(moving), 3.0)
        stage.lab.cut(node)
        cut = time.monotonic()
        # whose answers were on their way is not back yet
        until(stage, lambda: prober.answers_since(cut + 1.0) >= set(moving), 2 * _bound_s(stage, len(moving)))
        settled = time.monotonic() + _AFTER_S
        until(stage, lambda: time.monotonic() >= settled, _AFTER_S + 1.0)
        end = time.monotonic()
    finally:
        answered = prober.stop()
    answers = during(stage, lambda: story_client.reach(stage.lab, CLIENT, stage.ips, _REACH_S))
    return {ip: longest_gap(times, begin, end) for ip, times in answered.items()}, answers


def _bound_s(stage: Stage, frames: int) -> float:
    return SILENT_AFTER_S + _SLACK_S + pacing_s(stage, frames)


def _claims(
    stage: Stage, node: str, watched: str, gaps: dict[str, float], answers: dict[str, str]
) -> list[Claim]:
    pods = {objects.pod_name(other): other.name for other in stage.lab.nodes}
    now = {ip: pods.get(pod, "") for ip, pod in answers.items()}
    elsewhere = [ip for ip in gaps if now.get(ip) not in (None, "", node)]
    most = max(Counter(now[ip] for ip in elsewhere).values(), default=0)
    bound = _bound_s(stage, most)
    profile = stage.profile
    guard = f"({most} - {profile.burst}) / {profile.rate:.0f} s" if pacing_s(stage, most) else "0 s"
    arithmetic = f"hellos {SILENT_AFTER_S:g} s + {_SLACK_S:g} s + guard {guard}"
    down = len(stage.down())
    return [
        all_of(PART, f"the IPs of {node} moved to other nodes", len(elsewhere), len(gaps)),
        at_most(PART, f"longest gap of {watched}", gaps[watched], bound, unit="s", note=arithmetic),
        at_most(
            PART,
            f"longest gap of any of its {len(gaps)} IPs",
            max(gaps.values()),
            bound,
            unit="s",
            note=f"up to {most} moved to one node",
        ),
        all_of(PART, "every IP answers, with one node less", len(answers), stage.services),
        yes(PART, "no port went down", not down, f"{down} down", "0 down", down=down),
    ]


def _heal(stage: Stage, node: str, moved: list[str]) -> list[Claim]:
    """Give the node its power back; wait until it is a member again, and ask the segment who has its IPs."""
    before = story_cluster.renewals(stage.lab).get(node)
    stage.screen.say(f"{node} has power again")
    stage.begin = began = time.time()
    stage.lab.heal(node)
    with stage.screen.live(partial(wire, stage)):
        until(stage, lambda: story_cluster.renewals(stage.lab).get(node) != before, _HEAL_S)
        took = time.time() - began
        quiet(stage, _CALM_S, 4 * _CALM_S)
        asked = time.time()
        forget(stage)
        answers = during(stage, lambda: story_client.reach(stage.lab, CLIENT, stage.ips, _REACH_S))
    down = len(stage.down())
    single = answerers(stage, asked)
    back = sum(single.get(ip) == {node} for ip in moved)
    good = len(answers) if not down else 0
    return [
        all_of(
            PART, f"its IPs are back at {node}, and only there", back, len(moved), f"seen after {took:.1f} s"
        ),
        all_of(PART, "each IP answers, no port down", good, stage.services, f"{down} down"),
    ]
