"""A whole cluster as an operator wants to see it: one verdict, what is wrong, and tables.

What should be comes from the deciders, what is from the speakers. Where the two differ for long, something is
in the way.
"""

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

import msgspec
from msgspec import structs

from lbspeaker.core.announce import Outline, outline
from lbspeaker.core.hearing import Cuts, cuts, unheard
from lbspeaker.core.nodes import holders
from lbspeaker.core.remedies import remedy
from lbspeaker.core.words import alike, listed
from lbspeaker.errors import plain
from lbspeaker.model import Address, Service, Unannounced
from lbspeaker.observe.announcing import Announcing, Nodes
from lbspeaker.observe.look import Look
from lbspeaker.observe.said import hearing
from lbspeaker.wire import status

MOST_NAMED = 3
SETTLED_S = 10.0  # of an announcement by a speaker; before that, others may not have said anything yet


@dataclass(frozen=True, slots=True)
class PoolRow:
    """Addresses of one family. `pending`: Services that wait for one of this pool."""

    pool: str
    family: int
    size: int
    used: int
    pending: int

    @property
    def percent(self) -> float:
        return 100 * self.used / self.size if self.size else 0.0


@dataclass(frozen=True, slots=True)
class ServiceRow:
    """An IP of a Service; `ip` "": it has none. `owner`: who answers for it on layer 2, "" if nobody does, or
    none should; `nodes`: who announces it by BGP.

    `mode`: layer2, bgp, both ("layer2+bgp"), or "" where nobody announces it. `since`: Unix time from
    which the owner has it, None unknown.
    `why`: what is wrong with it, "" if nothing is.
    """

    service: str
    ip: str
    mode: str
    owner: str
    since: float | None = None
    moves: int = 0
    conflict: str = ""
    why: str = ""
    nodes: tuple[str, ...] = ()

    @property
    def owners(self) -> tuple[str, ...]:
        """Who answers for it on layer 2: one node, if all is well."""
        return tuple(self.owner.split(", ")) if self.owner else ()

    @property
    def announcers(self) -> str:
        """For people: "node-a, 3 nodes"."""
        number = f"{len(self.nodes)} node{'' if len(self.nodes) == 1 else 's'}" if self.nodes else ""
        return ", ".join(filter(None, (self.owner, number)))


@dataclass(frozen=True, slots=True)
class SpeakerRow:
    """A node. `alive`: its Lease is fresh; `since`: when it began, or fell silent (Unix time, 0 unknown).

    `config`: whether it follows what is published, "current" or "other"; "": not known.
    """

    node: str
    alive: bool
    state: str
    since: float
    version: str
    owned: int
    links: tuple[str, ...]
    problems: int
    config: str = ""


@dataclass(frozen=True, slots=True)
class Overview:
    """All of it. `faults`: what is wrong beside Services, in one line each. `unread`: what is missing.

    `doubts`: about configuration that is in force, and hardly as meant; by itself that is no problem.
    """

    faults: tuple[str, ...]
    unread: tuple[str, ...]
    pools: tuple[PoolRow, ...]
    services: tuple[ServiceRow, ...]
    peers: tuple[tuple[str, status.Peer], ...]  # with their nodes
    guards: tuple[tuple[str, status.Guard], ...]
    speakers: tuple[SpeakerRow, ...]
    doubts: tuple[str, ...] = ()

    @property
    def problems(self) -> tuple[str, ...]:
        """Everything that is wrong, each in one line; what is the same of many Services, in one."""
        return tuple(plain(line) for line in (*self.faults, *_told(self.services)))

    @property
    def verdict(self) -> str:
        if number := len(self.problems):
            return f"{number} problem{'' if number == 1 else 's'}"
        return "nothing is wrong, as far as it can be seen" if self.unread else "well"


def overview(look: Look, now: float) -> Overview:
    """Return what there is to be seen at `now` (Unix time)."""
    services = tuple(_services(look, now))
    faults = (
        *_of_controller(look),
        *(f"{object_} is not in force: {why}" for object_, why in look.refused),
        *_of_speakers(look),
    )
    said = [(node, _now(look, one)) for node, one in sorted(look.speakers.items())]
    return Overview(
        faults,
        look.unread,
        tuple(_pools(look)),
        services,
        tuple((node, peer) for node, one in said for peer in one.peers),
        tuple((node, guard) for node, one in said for guard in one.guards),
        tuple(
            _speaker(look, node, now) for node in sorted(look.snapshot.nodes.keys() | look.speakers.keys())
        ),
        tuple(f"{object_}: {why}" for object_, why in look.doubts),
    )


def _now(look: Look, said: status.Status) -> status.Status:
    """What a speaker says; of one that is silent, its last words are not what is."""
    if said.node in look.snapshot.members or any(one.startswith("leases") for one in look.unread):
        return said
    peers = tuple(structs.replace(peer, state="unknown", sent=0) for peer in said.peers)
    return structs.replace(said, peers=peers, guards=())


def plainly(found: Overview) -> dict[str, Any]:
    """Return it as JSON has it."""
    rest = {key: value for key, value in msgspec.to_builtins(found).items() if key != "faults"}
    return {"verdict": found.verdict, "problems": found.problems, **rest}


def _told(rows: Iterable[ServiceRow]) -> Iterator[str]:
    same: dict[str, list[ServiceRow]] = defaultdict(list)
    for row in rows:
        if row.why:
            same[row.why].append(row)
    for why, some in same.items():
        names = [f"{row.service} {row.ip}".strip() for row in some]
        if len(names) <= MOST_NAMED:
            yield from (f"{name}: {why}" for name in names)
        else:
            yield f"{names[0]} and {len(names) - 1} more: {why}"


# --- the programs ---------------------------------------------------------------------------------------


def _of_controller(look: Look) -> Iterator[str]:
    if look.controller == "":
        yield (
            "no controller acts, so new Services get no IP and edits are not read: "
            f"kubectl -n {look.namespace} get pods, and its log"
        )


def _of_speakers(look: Look) -> Iterator[str]:
    """What speakers complain of, one line for all that say the same; and who does not speak."""
    if not look.silent_s and look.snapshot.nodes:
        if not any("leases" in one for one in look.unread):
            yield f"no speaker runs: nothing is announced; kubectl -n {look.namespace} get ds,pods"
        return
    for node in sorted(look.snapshot.nodes.keys() - look.snapshot.members):
        silent_s = look.silent_s.get(node)
        if silent_s is None:
            yield f"{node} has no speaker: it announces nothing; does the DaemonSet run there?"
        elif node in look.speakers and look.speakers[node].state in ("draining", "stopped"):
            yield f"{node}: its speaker has ended"
        else:
            yield f"{node}: its speaker has been silent for {silent_s:.0f} s, others have its IPs; is it up?"
    for nodes, problem in alike({node: one.problems for node, one in look.living.items()}):
        yield f"{listed(nodes, MOST_NAMED)}: {problem}"


def _speaker(look: Look, node: str, now: float) -> SpeakerRow:
    alive = node in look.snapshot.members
    links = tuple(link.name for link in look.snapshot.links.get(node, ()))
    one = look.speakers.get(node)
    if one is None:
        return SpeakerRow(node, alive, "unknown" if alive else "absent", 0.0, "", 0, links, 0)
    owned = sum(ip.role == "owner" for ip in one.ips) if alive else 0
    state = one.state if alive or one.state in ("draining", "stopped") else "silent"
    if alive and node in look.snapshot.nodes and look.snapshot.nodes[node].excluded:
        state = "taken out"
    since = now - look.silent_s.get(node, 0.0) if state == "silent" else one.started
    known = one.config and look.config
    config = "" if not known else "current" if one.config == look.config else "other"
    return SpeakerRow(node, alive, state, since, one.version, owned, links, len(one.problems), config)


# --- pools, Services ------------------------------------------------------------------------------------


def _pools(look: Look) -> Iterator[PoolRow]:
    for name, one in sorted(look.pools.items()):
        for family, size, used in ((4, one.size_v4, one.assigned_v4), (6, one.size_v6, one.assigned_v6)):
            if size or used:
                yield PoolRow(name, family, size, used, one.pending)


def _services(look: Look, now: float) -> Iterator[ServiceRow]:
    services = look.snapshot.services
    held = holders(services.values())
    decided = outline(look.snapshot, held)
    announcing = None if look.unread else Announcing(decided, look)
    answering, moves = _answering(look), _moves(look)
    cut_off = cuts(hearing(look), look.snapshot.links)
    refused = {(row.service, row.ip): _why(row) for row in decided.unannounced if row.node is None}
    if look.unread:  # what follows from what was not seen is not so
        refused = {}
    for key, service in sorted(services.items()):
        if not service.load_balancer:
            continue
        if not service.held:
            yield ServiceRow(key, "", "", "", why=_pending(service))
        for ip in service.held:
            by_bgp = announcing.of(key, ip) if announcing else Nodes()
            row = _service(key, ip, decided, by_bgp, answering, refused.get((key, ip), ""), now)
            if (moved := moves.get(str(ip), 0)) > row.moves:
                row = replace(row, moves=moved)
            if cut_off and not row.why:
                row = replace(row, why=_unheard(answering.get(str(ip), []), cut_off))
            yield replace(row, why="") if look.unread and not row.conflict else row


def _why(row: Unannounced) -> str:
    """Why nobody announces it, and what to do."""
    message = row.refusal.message
    if "; " in message:  # it says so
        return message
    return f"{message}; {remedy(row.refusal.reason, row.service)}"


def _pending(service: Service) -> str:
    if service.condition is not None:
        return plain(f"no IP: {service.condition.message} ({service.condition.reason})")
    return f"no IP yet: the controller has not said why; lbspeaker explain {service.key} does"


Answering = Mapping[str, list[tuple[str, status.IP]]]


def _answering(look: Look) -> Answering:
    """By IP: the live nodes whose speakers say something of it."""
    found: dict[str, list[tuple[str, status.IP]]] = defaultdict(list)
    for node, one in sorted(look.living.items()):
        for ip in one.ips:
            found[ip.ip].append((node, ip))
    return found


def _unheard(rows: list[tuple[str, status.IP]], cut_off: Cuts) -> str:
    """Why clients may not hear the node that answers for an IP; "": the other speakers hear it."""
    for node, row in rows:
        if row.role == "owner" and row.links and {*row.links} <= cut_off.get(node, {}).keys():
            return f"{unheard(node, cut_off)}; look at that link, and at the switch"
    return ""


def _moves(look: Look) -> Mapping[str, int]:
    """How often IPs moved in the last hour: who lives longest has seen most of it."""
    found: dict[str, int] = {}
    for one in look.living.values():
        for ip, moves in one.moves.items():
            found[ip] = max(found.get(ip, 0), moves)
    return found


def _service(
    key: str,
    ip: Address,
    decided: Outline,
    by_bgp: Nodes,
    answering: Answering,
    refusal: str,
    now: float,
) -> ServiceRow:
    wanted = decided.l2.get(ip)
    rows = answering.get(str(ip), [])
    owners = [(node, row) for node, row in rows if row.role == "owner"]
    modes = [mode for mode, there in (("layer2", wanted is not None), ("bgp", by_bgp.should > 0)) if there]
    conflict = next((f"{row.conflict} {row.vendor}".strip() for _, row in rows if row.conflict), "")
    since = max((row.since for _, row in owners), default=None)
    why = refusal if not modes else ""
    if conflict:
        why = f"another host uses it ({conflict}): find it, or exclude the IP from the pool"
    elif len(owners) > 1 and now > (since or 0.0) + SETTLED_S:
        names = listed([node for node, _ in owners], MOST_NAMED)
        why = f"{names} answer for it at once: is the segment cut in two?"
    elif wanted is not None and not owners:
        held_back = next((f"{node} holds it back" for node, row in rows if row.role == "held-back"), "")
        why = held_back or f"nobody answers for it yet; {wanted.candidates[0]} should"
    elif by_bgp.should and not by_bgp.do and by_bgp.unsent:
        why = f"no router is told of it: {by_bgp.unsent}"
    elif by_bgp.should and not by_bgp.do:
        why = "no router is told of it: no session of BGP is up; what sessions say stands with the peers"
    moves = max((row.moves for _, row in rows), default=0)
    owner = ", ".join(node for node, _ in owners)
    return ServiceRow(key, str(ip), "+".join(modes), owner, since, moves, conflict, why, by_bgp.do)


def only(found: Overview, services: Iterable[str], node: str | None, *, problems: bool) -> Overview:
    """What of it is about these Services ("namespace/name", "namespace/"), this node, or in trouble."""
    wanted = tuple(services)

    def chosen(row: ServiceRow) -> bool:
        return not wanted or any(
            row.service.startswith(one) if one.endswith("/") else row.service == one for one in wanted
        )

    rows = tuple(
        row
        for row in found.services
        if chosen(row) and (node is None or node in (*row.owners, *row.nodes)) and (row.why or not problems)
    )
    peers = found.peers if not wanted else ()
    guards = found.guards if not wanted else ()
    speakers = found.speakers if not wanted else ()
    return Overview(
        tuple(one for one in found.faults if _concerns(one, wanted, node)),
        found.unread,
        found.pools if not wanted and node is None else (),
        rows,
        tuple(
            (n, p) for n, p in peers if node in (None, n) and (p.state != "up" or p.unsent or not problems)
        ),
        tuple((n, g) for n, g in guards if node in (None, n) and (g.queue or g.storms or not problems)),
        tuple(one for one in speakers if node in (None, one.node) and not (problems and _is_well(one))),
        found.doubts,
    )


def _is_well(row: SpeakerRow) -> bool:
    return row.alive and not row.problems


def _concerns(fault: str, services: tuple[str, ...], node: str | None) -> bool:
    """That no controller or no speaker is there concerns everybody."""
    of_node = node is None or node in fault.partition(": ")[0].replace(",", "").split()
    return fault.startswith(("no controller", "no speaker")) or (not services and of_node)
