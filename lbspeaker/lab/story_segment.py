"""The first chapter of the demo: many Services at once on one segment, with the guard and without it."""

import statistics
import time
from collections import Counter
from functools import partial

from lbspeaker.lab import chart, story_client, story_cluster
from lbspeaker.lab.story_claims import Claim, all_of, at_most, yes
from lbspeaker.lab.story_stage import (
    BUDGET,
    LIMIT,
    Stage,
    answerers,
    during,
    pacing_s,
    quiet,
    told,
    until,
    wire,
)
from lbspeaker.lab.topology import CLIENT

Times = dict[str, list[float]]  # by port: seconds since its first frame

PART = "1"
WAR = "1b"

_ALLOCATE_S = 10.0
_REACH_S = 8.0
_HOPELESS_S = 1.5  # with a port down
_SLACK_S = 10.0  # for a machine that is busy with other things, above what the guard's arithmetic says
_RESYNC = "all Services touched, configuration applied again"
_RESYNC_S = 1.0  # how long the wire is watched after a resync
_STORM_S = 1.5
_WIDE_COLUMNS = 70
_COLUMNS = 30  # of each of two charts, which together fit 80 characters


def services_at_once(stage: Stage) -> list[Claim]:
    """Create the Services, reach them all, resync; say what the wire saw of it."""
    screen = stage.screen
    screen.chapter(f"1. {stage.services} Services at once, guard profile {stage.guard}")
    screen.documents(story_cluster.POOL + "---\n" + story_cluster.L2_ADVERTISEMENT)
    during(stage, lambda: story_cluster.apply(stage.lab, story_cluster.POOL))
    during(stage, lambda: story_cluster.apply(stage.lab, story_cluster.L2_ADVERTISEMENT))
    screen.documents(story_cluster.SERVICE.format(name="web-01"), f"and so on to web-{stage.services:02}")
    with screen.live(partial(wire, stage)):
        claims = _create(stage)
        told(stage, stage.begin, pacing_s(stage, stage.services) + _SLACK_S)
        answers = during(stage, lambda: story_client.reach(stage.lab, CLIENT, stage.ips, _reach_s(stage)))
        quiet(stage, 0.5, _SLACK_S)
        noise = _resync(stage)
    claims += [
        all_of(PART, "the client reaches each service IP", len(answers), stage.services, "by HTTP"),
        *_wire_claims(stage),
        at_most(PART, "unsolicited frames when nothing changes", noise, 0, note=_RESYNC),
    ]
    for claim in claims:
        screen.claim(claim)
    busiest = stage.busiest()
    title = f"      the port of {busiest}"
    columns = min(_WIDE_COLUMNS, screen.width - 10)
    screen.chart(chart.chart(wire_times(stage)[busiest], columns=columns, limit=LIMIT, title=title))
    return claims


def _create(stage: Stage) -> list[Claim]:
    stage.begin = time.time()
    during(
        stage,
        lambda: story_cluster.create_services(stage.lab, stage.services, stage.births, _ALLOCATE_S),
    )
    waits = stage.births.waits
    median, longest = statistics.median(waits or [0.0]), max(waits, default=0.0)
    note = f"request → IP: median {median * 1000:.0f} ms, longest {longest * 1000:.0f} ms"
    what = "every Service gets an IP of its own"
    different = len(set(stage.births.ips.values()))
    return [all_of(PART, what, different, stage.services, note, median_s=median, longest_s=longest)]


def _reach_s(stage: Stage) -> float:
    """How long the client insists: in the worst case one node owns everything, and answers at its pace."""
    if stage.down():
        return _HOPELESS_S
    return _REACH_S + (pacing_s(stage, stage.services) if stage.profile.together else 0.0)


def _resync(stage: Stage) -> int:
    """Touch every Service, apply everything again, and count what the wire heard of it unasked."""
    since = time.time()
    names = sorted(stage.births.ips)
    during(stage, lambda: story_cluster.touch_services(stage.lab, names, f"touched-{since:.0f}"))
    during(stage, lambda: story_cluster.apply(stage.lab, story_cluster.POOL))
    during(stage, lambda: story_cluster.apply(stage.lab, story_cluster.L2_ADVERTISEMENT))
    end = time.monotonic() + _RESYNC_S
    until(stage, lambda: time.monotonic() >= end, _RESYNC_S + 1.0)
    return sum(frame.kind != "answer" for frame in stage.frames(since=since))


def _wire_claims(stage: Stage) -> list[Claim]:
    """What the switch saw in this chapter, of all nodes."""
    down = stage.down()
    told_of = Counter(frame.sender for frame in stage.gratuitous())
    single = sum(len(ports) == 1 for ports in answerers(stage, stage.begin).values())
    peaks = {port: stage.peak(port) for port in stage.ports}
    return [
        all_of(PART, "exactly one node answers for each IP", single, stage.services),
        yes(PART, "no port went down", not down, f"{len(down)} down", "0 down", down=len(down)),
        at_most(
            PART,
            "ARP frames in any second, answers included",
            max(peaks.values()),
            BUDGET,
            note=", ".join(f"{port} {count}" for port, count in peaks.items()),
        ),
        at_most(PART, "gratuitous frames per IP", max(told_of.values(), default=0), 3),
    ]


# --- the war story --------------------------------------------------------------------------------------


def storm(stage: Stage, calm: Times) -> list[Claim]:
    """Start the speakers again without the guard, and show the port going down beside how it was (`calm`)."""
    screen = stage.screen
    screen.chapter("1b. The same without the guard")
    screen.say(
        "speakers that do not pace: each starts again with `--guard off`, and tells the segment of its"
    )
    screen.say("IPs at once, five times, by request and by reply")
    stage.begin = time.time()
    with screen.live(partial(wire, stage)):
        _restart(stage, "off")
        claim = _storm_claim(stage)
    screen.claim(claim)
    _show_storm(stage, calm)
    return [claim]


def storm_from_nothing(stage: Stage) -> list[Claim]:
    """The same in a lab whose speakers never had a guard: Services are created, and the port goes down."""
    screen = stage.screen
    screen.chapter(f"{stage.services} Services at once, without the guard")
    screen.documents(story_cluster.POOL + "---\n" + story_cluster.L2_ADVERTISEMENT)
    during(stage, lambda: story_cluster.apply(stage.lab, story_cluster.POOL))
    during(stage, lambda: story_cluster.apply(stage.lab, story_cluster.L2_ADVERTISEMENT))
    screen.documents(story_cluster.SERVICE.format(name="web-01"), f"and so on to web-{stage.services:02}")
    with screen.live(partial(wire, stage)):
        _create(stage)
        claim = _storm_claim(stage)
    screen.claim(claim)
    _show_storm(stage, {})
    return [claim]


def recover(stage: Stage) -> list[Claim]:
    """Take the storming speakers away, bring the ports up, and give the speakers their guard back."""
    for node in stage.lab.nodes:
        stage.lab.stop(f"speaker-{node.name}", 0.0)
    for port in stage.lab.switch.ports_down():
        stage.lab.switch.restore(port)
    stage.screen.say(f"ports up again, speakers restarted with `--guard {stage.guard}`")
    stage.begin = time.time()
    with stage.screen.live(partial(wire, stage)):
        _restart(stage, stage.guard)
        told(stage, stage.begin, pacing_s(stage, stage.services) + _SLACK_S)
        answers = during(stage, lambda: story_client.reach(stage.lab, CLIENT, stage.ips, _reach_s(stage)))
    down = len(stage.down())
    what = "with the guard again each IP answers, no port down"
    claim = all_of(WAR, what, len(answers) if not down else 0, stage.services, f"{down} down")
    stage.screen.claim(claim)
    return [claim]


def _restart(stage: Stage, guard: str) -> None:
    """Start all speakers again at once, as after a crash: none has the time to hand over."""
    for node in stage.lab.nodes:
        stage.lab.stop(f"speaker-{node.name}", 0.0)
    stage.lab.set_guard(guard)
    for node in stage.lab.nodes:
        stage.lab.start(f"speaker-{node.name}")


def _storm_claim(stage: Stage) -> Claim:
    until(stage, lambda: bool(stage.down()), _SLACK_S)
    end = time.monotonic() + _STORM_S
    until(stage, lambda: time.monotonic() >= end, _STORM_S + 1.0)
    down, frames = stage.down(), len(stage.frames())
    most = max(stage.peak(port) for port in stage.ports)
    return yes(
        WAR,
        "without the guard a port goes down",
        bool(down),
        f"{', '.join(down) or 'none'} down; {frames} frames, peak {most}/s",
        "a port down",
        down=len(down),
        frames=frames,
        peak=most,
    )


def _show_storm(stage: Stage, calm: Times) -> None:
    """Draw the port with most frames; beside it, on the same scale, the same port with the guard."""
    port = stage.busiest()
    wild, begin = _since_first(stage, port)
    shut = [event.time - begin for event in stage.lab.switch.shut(stage.begin) if event.port == port]
    before = calm.get(port, [])
    scale = {"columns": _COLUMNS, "limit": LIMIT, "top": max(chart.peak(wild), chart.peak(before))}
    lines = chart.chart(wild, title=f"      guard off: {port}", down=shut[0] if shut else None, **scale)
    if before:
        left = chart.chart(before, title=f"      guard {stage.guard}: {port}", **scale)
        lines = chart.beside(left, lines)
    stage.screen.chart(lines)


def wire_times(stage: Stage) -> Times:
    """What each port carried in this chapter."""
    return {port: _since_first(stage, port)[0] for port in stage.ports}


def _since_first(stage: Stage, port: str) -> tuple[list[float], float]:
    """When frames came from the port, in seconds since the first one; and when that was."""
    times = sorted(frame.time for frame in stage.frames(port))
    begin = times[0] if times else stage.begin
    return [time - begin for time in times], begin
