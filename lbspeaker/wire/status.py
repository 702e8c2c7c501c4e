"""What a speaker says of itself, as JSON and as Prometheus metrics (text exposition format 0.0.4)."""

from collections.abc import Iterable

import msgspec

from lbspeaker.errors import Malformed

SOCKET = "speaker.sock"  # where it is served, in the runtime directory of the speaker


class Member(msgspec.Struct, frozen=True):
    """A node with a speaker, as this one sees it. `alive`: it takes part in elections."""

    node: str
    alive: bool
    heard_on: tuple[str, ...] = ()  # links
    silent_on: tuple[str, ...] = ()


class Guard(msgspec.Struct, frozen=True):
    """What the guard of a link did since the answerer began; frames by occasion."""

    link: str
    protocol: str
    profile: str
    dry_run: bool
    sent: dict[str, int]
    held_back: dict[str, int]
    queue: int
    longest_wait_s: float
    projected_s: float
    unpaced: int
    coalesced: int
    expired: int
    repetitive: int
    segment_per_s: float
    storms: int


class IP(msgspec.Struct, frozen=True):
    """An IP that is answered here, or should be.

    `role`: owner; probing; lent (until the next owner is heard); held-back (conflict, or yielded); dry-run
    (nobody is told, and nobody answered). `moves`: from node to node, in the last hour.
    """

    ip: str
    services: tuple[str, ...]
    role: str
    links: tuple[str, ...] = ()
    since: float = 0.0  # Unix time
    reason: str = ""  # why it was announced: new, takeover, refresh
    conflict: str = ""  # MAC of the host that uses it, too
    vendor: str = ""
    moves: int = 0


class BFD(msgspec.Struct, frozen=True):
    """A router that is watched by BFD: `state` of our end, and why, if it fell.

    Intervals as negotiated, 0 while the router is not heard; packets since the session began.
    """

    router: str
    state: str
    why: str
    interval_ms: float
    detection_ms: float
    sent: int
    received: int
    dropped: dict[str, int]


class Peer(msgspec.Struct, frozen=True):
    """A session of BGP. `state`: idle, connecting, up, held, draining or stopped, since then (Unix time).

    `sent` routes are on the wire, of `desired`. `ended`: sessions so far; `restarts`: of ExaBGP.
    """

    name: str
    address: str
    asn: int  # 0: any but ours, or ours (`dynamicASN`)
    state: str
    since: float
    sent: int
    desired: int
    ended: int
    restarts: int
    bfd: str
    last_error: str


class Status(msgspec.Struct, frozen=True):
    """All of it. `problems`: each in one line, with what to do."""

    node: str
    version: str
    state: str
    started: float  # Unix time
    api_silent_s: float
    members: tuple[Member, ...]
    ips: tuple[IP, ...]
    guards: tuple[Guard, ...]
    pins: dict[str, str]
    problems: tuple[str, ...]
    bfd: tuple[BFD, ...] = ()
    peers: tuple[Peer, ...] = ()


_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder(Status).decode


def build(status: Status) -> bytes:
    return _encode(status)


def parse(body: bytes) -> Status:
    """Raises Malformed."""
    try:
        return _decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise Malformed(f"a status that cannot be read: {error}") from None


# --- metrics --------------------------------------------------------------------------------------------

_Sample = tuple[dict[str, str], float]


def metrics(status: Status) -> bytes:
    """Return the status as metrics."""
    lines: list[str] = []

    def family(name: str, kind: str, help_: str, samples: Iterable[_Sample]) -> None:
        lines.extend((f"# HELP lbspeaker_{name} {help_}", f"# TYPE lbspeaker_{name} {kind}"))
        for labels, value in samples:
            inside = ",".join(f'{key}="{_escaped(text)}"' for key, text in labels.items())
            lines.append(
                f"lbspeaker_{name}{{{inside}}} {value:g}" if inside else f"lbspeaker_{name} {value:g}"
            )

    on = [({"link": guard.link, "protocol": guard.protocol}, guard) for guard in status.guards]
    family(
        "frames_sent_total",
        "counter",
        "Frames that left a link, by why they were sent.",
        [({**labels, "occasion": why}, n) for labels, guard in on for why, n in sorted(guard.sent.items())],
    )
    family(
        "frames_held_back_total",
        "counter",
        "Frames that had to wait for the guard.",
        [({**labels, "occasion": w}, n) for labels, guard in on for w, n in sorted(guard.held_back.items())],
    )
    family(
        "frames_suppressed_total",
        "counter",
        "Frames that never left, because they would have said nothing new.",
        [
            ({**labels, "reason": reason}, count)
            for labels, guard in on
            for reason, count in (
                ("coalesced", guard.coalesced),
                ("expired", guard.expired),
                ("repetitive", guard.repetitive),
            )
        ],
    )
    for name, kind, help_, value in (
        ("frames_unpaced_total", "counter", "Frames that would have left without a guard.", "unpaced"),
        ("guard_queue", "gauge", "Frames that wait.", "queue"),
        ("guard_longest_wait_seconds", "gauge", "The longest that a frame has waited.", "longest_wait_s"),
        ("guard_projected_seconds", "gauge", "Until all that waits was told once.", "projected_s"),
        ("segment_frames_per_second", "gauge", "Unsolicited frames heard from members.", "segment_per_s"),
        ("storms_total", "counter", "Storms of others that were noticed.", "storms"),
    ):
        family(name, kind, help_, [(labels, getattr(guard, value)) for labels, guard in on])
    roles = ("owner", "probing", "lent", "held-back", "dry-run")
    family(
        "ips",
        "gauge",
        "Service IPs of this node, by role.",
        [({"role": role}, sum(one.role == role for one in status.ips)) for role in roles],
    )
    family(
        "address_conflict",
        "gauge",
        "1 for each IP that a host uses that is no speaker.",
        [({"ip": o.ip, "mac": o.conflict, "vendor": o.vendor}, 1) for o in status.ips if o.conflict],
    )
    peers = [({"peer": one.name, "address": one.address}, one) for one in status.peers]
    family(
        "bgp_up",
        "gauge",
        "1 for each peer with which there is a session.",
        [(p, one.state == "up") for p, one in peers],
    )
    for name, kind, help_, value in (
        ("bgp_routes", "gauge", "Routes that are on the wire.", "sent"),
        ("bgp_routes_desired", "gauge", "Routes that should be.", "desired"),
        ("bgp_sessions_ended_total", "counter", "Sessions that ended.", "ended"),
        ("bgp_child_restarts_total", "counter", "How often ExaBGP was started again.", "restarts"),
    ):
        family(name, kind, help_, [(p, getattr(one, value)) for p, one in peers])
    watched = [({"router": one.router}, one) for one in status.bfd]
    family(
        "bfd_up",
        "gauge",
        "1 for each router with which BFD is up.",
        [(r, one.state == "up") for r, one in watched],
    )
    for name in ("sent", "received"):
        help_ = f"Control packets of BFD that were {name}."
        family(f"bfd_packets_{name}_total", "counter", help_, [(r, getattr(one, name)) for r, one in watched])
    family(
        "bfd_packets_dropped_total",
        "counter",
        "Control packets of BFD that did not count, by why.",
        [({**r, "reason": why}, n) for r, one in watched for why, n in sorted(one.dropped.items())],
    )
    family("members", "gauge", "Live speakers.", [({}, sum(member.alive for member in status.members))])
    family("api_silent_seconds", "gauge", "Since the API last answered.", [({}, status.api_silent_s)])
    family("problems", "gauge", "What `lbspeaker status` complains of.", [({}, len(status.problems))])
    return ("\n".join(lines) + "\n").encode()


def _escaped(text: str) -> str:
    return text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
