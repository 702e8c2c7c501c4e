"""What a speaker says of itself, as metrics."""

from collections import Counter
from collections.abc import Iterator
from operator import attrgetter

from prometheus_client.core import Metric

from lbspeaker.wire.measures import Measures, OfSpeaker
from lbspeaker.wire.metrics import MOST, common, counted, counter, gauge, histogram, one
from lbspeaker.wire.status import Status

STATES = ("starting", "serving", "draining", "stopped")
ROLES = ("owner", "probing", "lent", "held-back", "dry-run")
OTHERS = ("member", "stranger")
LINK = ("link", "protocol")


def speaker(status: Status, measures: Measures, more: OfSpeaker) -> Iterator[Metric]:
    """Return all of it."""
    yield from common(measures)
    help_ = "1 for the state that it is in."
    states = [((state,), state == status.state) for state in STATES]
    yield gauge("state", help_, ("state",), states)
    yield from _frames(status)
    yield from _ips(status, measures, more)
    yield from _members(status, measures, more)
    yield from _bgp(status)
    yield from _bfd(status)
    help_ = "How often a process of the speaker was started again; ExaBGP: see bgp_child_restarts."
    children = ("answerer", "bfd")
    yield counted(measures.counts, "child-restarts", "child_restarts_total", help_, "child", children)
    yield one("api_silent_seconds", "Since the API last answered.", status.api_silent_s)
    yield one("problems", "What `lbspeaker status` complains of.", len(status.problems))


def _frames(status: Status) -> Iterator[Metric]:
    on = [((guard.link, guard.protocol), guard) for guard in status.guards]
    sent = [((*link, why), n) for link, guard in on for why, n in sorted(guard.sent.items())]
    help_ = "Frames that left a link, by why they were sent."
    yield counter("frames_sent_total", help_, (*LINK, "occasion"), sent)
    waited = [((*link, why), n) for link, guard in on for why, n in sorted(guard.held_back.items())]
    help_ = "Frames that had to wait for the guard."
    yield counter("frames_held_back_total", help_, (*LINK, "occasion"), waited)
    reasons = ("coalesced", "expired", "repetitive")
    suppressed = [((*link, reason), getattr(guard, reason)) for link, guard in on for reason in reasons]
    help_ = "Frames that never left, because they would have said nothing new."
    yield counter("frames_suppressed_total", help_, (*LINK, "reason"), suppressed)
    for kind, name, help_, value in (
        (counter, "frames_unpaced_total", "Frames that would have left without a guard.", "unpaced"),
        (gauge, "guard_queue", "Frames that wait.", "queue"),
        (gauge, "guard_longest_wait_seconds", "The longest that a frame has waited.", "longest_wait_s"),
        (gauge, "guard_projected_seconds", "Until all that waits was told once.", "projected_s"),
        (gauge, "segment_frames_per_second", "Unsolicited frames heard from members.", "segment_per_s"),
        (counter, "storms_total", "Storms of others that were noticed.", "storms"),
    ):
        yield kind(name, help_, LINK, [(link, getattr(guard, value)) for link, guard in on])


def _ips(status: Status, measures: Measures, more: OfSpeaker) -> Iterator[Metric]:
    counts = measures.counts
    roles = dict.fromkeys(ROLES, 0) | Counter(ip.role for ip in status.ips)
    help_ = "Service IPs of this node, by role."
    yield gauge("ips", help_, ("role",), [((role,), count) for role, count in roles.items()])
    help_ = "Service IPs that changed their owner: to this node, from it, or between others."
    yield counted(counts, "moves", "ip_moves_total", help_, "direction", ("in", "out", "elsewhere"))
    help_ = "How often this node began to answer for a service IP, by why."
    reasons = ("new", "refresh", "takeover")
    yield counted(counts, "claims", "claims_total", help_, "reason", reasons)
    help_ = "Claims that were heard from others, for service IPs that are answered here."
    yield counted(counts, "heard", "claims_heard_total", help_, "of", OTHERS)
    help_ = "Service IPs that somebody had when they were probed."
    yield counted(counts, "in-use", "probes_answered_total", help_, "of", OTHERS)
    conflicts = [ip for ip in status.ips if ip.conflict]
    rows = [((ip.ip, ip.conflict, ip.vendor), 1) for ip in conflicts[:MOST]]
    help_ = f"1 for each IP that a host uses that is no speaker; {MOST} of them at most."
    yield gauge("address_conflict", help_, ("ip", "mac", "vendor"), rows)
    yield one("address_conflicts", "IPs that a host uses that is no speaker.", len(conflicts))
    help_ = "Service IPs that no node announces, by why."
    unannounced = sorted(more.unannounced.items())
    yield gauge("unannounced", help_, ("reason",), [((why,), count) for why, count in unannounced])
    help_ = "From a new Service's creation (whole seconds), or from its allocation, to its announcement here."
    yield histogram("announcement_seconds", help_, ("protocol", "since"), sorted(more.delays.items()))


def _members(status: Status, measures: Measures, more: OfSpeaker) -> Iterator[Metric]:
    alive = sum(member.alive for member in status.members)
    yield one("members", "Live speakers.", alive)
    help_ = "Speakers that have a Lease, and are dead or take no part."
    yield one("members_lost", help_, len(status.members) - alive)
    signs = ("hello", "lease")
    help_ = "Deaths of members that were noticed here, by which sign of life was missing."
    yield counted(measures.counts, "deaths", "deaths_total", help_, "sign", signs)
    help_ = "After how long a silence the last death was noticed."
    noticed = sorted(more.detection_s.items())
    yield gauge("last_detection_seconds", help_, ("sign",), [((sign,), s) for sign, s in noticed])


def _bgp(status: Status) -> Iterator[Metric]:
    labels, peers = ("peer", "address"), [((one.name, one.address), one) for one in status.peers]
    help_ = "1 for each peer with which there is a session."
    yield gauge("bgp_up", help_, labels, [(peer, one.state == "up") for peer, one in peers])
    for kind, name, help_, value in (
        (gauge, "bgp_state_timestamp_seconds", "When the session came into its state (Unix time).", "since"),
        (gauge, "bgp_routes", "Routes that are on the wire.", "sent"),
        (gauge, "bgp_routes_desired", "Routes that should be.", "desired"),
        (counter, "bgp_sessions_ended_total", "Sessions that ended.", "ended"),
        (counter, "bgp_child_restarts_total", "How often ExaBGP was started again.", "restarts"),
    ):
        read = attrgetter(value)
        yield kind(name, help_, labels, [(peer, read(one)) for peer, one in peers])


def _bfd(status: Status) -> Iterator[Metric]:
    labels, routers = ("router",), [((one.router,), one) for one in status.bfd]
    help_ = "1 for each router with which BFD is up."
    yield gauge("bfd_up", help_, labels, [(router, one.state == "up") for router, one in routers])
    for name in ("sent", "received"):
        help_ = f"Control packets of BFD that were {name}."
        rows = [(router, getattr(one, name)) for router, one in routers]
        yield counter(f"bfd_packets_{name}_total", help_, labels, rows)
    dropped = [((*router, why), n) for router, one in routers for why, n in sorted(one.dropped.items())]
    help_ = "Control packets of BFD that did not count, by why."
    yield counter("bfd_packets_dropped_total", help_, (*labels, "reason"), dropped)
