"""What a speaker says of itself, as JSON (as metrics: `metrics_speaker`)."""

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
    """What the guard of a link did since the answerer began; frames by occasion.

    `recent`: of the last minute, when (Unix time, as text) how many frames had left unasked within about a
    second. `budget`: how many may do so, and `segment_budget` of all speakers on the segment; 0: any number.
    """

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
    budget: int = 0
    segment_budget: int = 0
    recent: dict[str, int] = msgspec.field(default_factory=dict)


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
    """A session of BGP. `state`: idle, connecting, up, held, draining or stopped, since then (Unix time);
    unusable, of a peer whose password is missing.

    `sent` routes are on the wire, of `desired`; `unsent`: which have not been for some seconds though the
    session is up, by prefix, and why: "Reason: what is wrong; what to do". `ended`: sessions so far;
    `restarts`: of ExaBGP.
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
    port: int = 179
    unsent: dict[str, str] = msgspec.field(default_factory=dict)

    @property
    def trouble(self) -> str:
        """What is wrong with it; why an earlier session ended is over once there is one."""
        return next(iter(self.unsent.values()), "") if self.state == "up" else self.last_error


class Status(msgspec.Struct, frozen=True):
    """All of it. `problems`: each in one line, with what to do.

    `config`: which configuration it follows, the same word wherever the same objects are in force. `moves`:
    how often IPs that others have moved in the last hour, as far as it saw.
    """

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
    config: str = ""
    moves: dict[str, int] = msgspec.field(default_factory=dict)


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
