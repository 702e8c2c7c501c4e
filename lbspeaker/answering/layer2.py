"""Layer 2 on one node: what the decider says becomes orders to the answerer, and its reports come back.

It knows the links, the policy of each, the keys of hellos and the MACs of members, and tells users what
became of their services on the segment.
"""

import math
import time
from collections import Counter, deque
from collections.abc import Callable, Collection, Coroutine
from dataclasses import replace
from ipaddress import ip_address
from typing import Any, Literal, NamedTuple, Protocol

import structlog
from msgspec import structs

from lbspeaker.answering.aside import UNKNOWN, Vendors
from lbspeaker.answering.child import UNSTEADY, Answering, Steady
from lbspeaker.core import links as core_links
from lbspeaker.core import speaker as core
from lbspeaker.core.guard import Occasion, profile_of
from lbspeaker.core.lifecycle import State
from lbspeaker.model import Address, Link, Pool, Range, Reason
from lbspeaker.wire import hello, orders, status

STORM_S = 60.0  # so long a storm is shown
FASTER = "if the network can take more, give a LinkPolicy the profile fast, or a rate of its own"
MOST_NOWHERE = 5  # Services that are named, of those that no node can announce
MISSED_EVERY_S = 5.0  # so often at most the log says that others did not hear this node
RECENT_S = 70  # frames are told of so long: a report comes each minute
SLOW_S = 5.0  # who needs longer to tell everything is told of the profile that helps
_OF_STATS = [name for name in orders.Stats.__struct_fields__ if name in status.Guard.__struct_fields__[3:]]


class Told(Protocol):
    """Who is told of a service (`event`, by "namespace/name") or of the node, and does work on the side.

    `announced`: from this node, for the first time.
    """

    def event(self, key: str, kind: Literal["Normal", "Warning"], reason: str, message: str) -> bool: ...

    def announced(self, key: str, protocol: Literal["layer2", "bgp"]) -> None: ...

    def node_event(self, reason: str, message: str) -> None: ...

    def unusable(self, kind: str, name: str, why: str, hint: str) -> None: ...

    def usable(self, kind: str, name: str) -> None: ...

    def aside(self, work: Coroutine[Any, Any, None]) -> None: ...


class _Answered(NamedTuple):
    """What the answerer answers for, why, and since when (Unix time); or would, but for `dryRun`."""

    effect: core.Announce
    ports: tuple[str, ...]
    since: float
    rehearsed: bool


class Layer2:
    """The segments of `node`, whose decider is `decider`; `profile` is for links without a LinkPolicy."""

    def __init__(
        self,
        node: str,
        profile: str,
        decider: core.Speaker,
        told: Told,
        report: Callable[[orders.Report | Steady], None],
    ) -> None:
        self._node = node
        self._profile = profile
        self._core = decider
        self._told = told
        self._log: Any = structlog.get_logger()
        self._answering = Answering(node, report)
        self._links: tuple[Link, ...] = ()
        self._pools: tuple[Pool, ...] = ()
        self._announced: dict[Address, core.Announce] = {}
        self._answered: dict[Address, _Answered] = {}
        self._vendors = Vendors()
        self._stormers: dict[str, tuple[float, str]] = {}  # by link: when, and who
        self._keys: tuple[str, ...] = ()  # of hellos, the newest first
        self._identities: dict[str, object] = {}  # of the links that are used
        self._seen: dict[str, orders.Seen] = {}  # by link
        self._stats: dict[tuple[str, str], orders.Stats] = {}  # by link and protocol
        self._recent: dict[tuple[str, str], deque[tuple[float, float]]] = {}  # unasked frames, and when
        self._slow: set[tuple[str, str]] = set()  # links that need long to tell everything
        self._ready_at = -math.inf  # when the answerer began
        self._missed_at = -math.inf  # when the log said last that others did not hear this node
        self._counts: Counter[tuple[str, str]] = Counter()
        self.detection_s: dict[str, float] = {}  # by sign of life: after how long the last death was noticed

    async def run(self) -> None:
        """Keep an answerer running, until cancelled."""
        await self._answering.run()

    @property
    def links(self) -> tuple[Link, ...]:
        return self._links

    @property
    def counts(self) -> Counter[tuple[str, str]]:
        """What happened so far, as `wire.measures` has it."""
        moves = {("moves", direction): n for direction, n in self._core.turnover.items()}
        return self._counts + Counter(moves | {("child-restarts", "answerer"): self._answering.restarts})

    # -- what is to be done --

    def announce(self, effect: core.Announce) -> None:
        self._announced[effect.ip] = effect
        if not any(effect.ip in pool for pool in self._pools):
            self._set_ranges()
        ports = self._ports_for(effect)
        self._tell_answerer(effect, ports)
        if not ports:
            self._tell_without_link([effect])

    def release(self, ip: Address) -> None:
        self._announced.pop(ip, None)
        self._answering.release(str(ip))
        if self._answered.pop(ip, None) is not None:
            self._log.info("released", ip=str(ip))

    def _gone(self, ip: Address) -> None:
        """The answerer has stopped to answer for it by itself."""
        self._announced.pop(ip, None)
        self._answered.pop(ip, None)
        self._answering.gone(str(ip))

    def leave(self) -> None:
        """Tell the other members that this one goes."""
        self._answering.leave()

    # -- what is known --

    def set_pools(self, pools: tuple[Pool, ...]) -> None:
        self._pools = pools
        self._set_ranges()

    def _set_ranges(self) -> None:
        """Tell the answerer what may be announced: pools, and IPs that are kept though they are in none."""
        outside = [ip for ip in self._announced if not any(ip in pool for pool in self._pools)]
        kept = [Range(ip, ip) for ip in sorted(outside, key=lambda ip: (ip.version, int(ip)))]
        self._answering.set_ranges([*(r for pool in self._pools for r in pool.ranges), *kept])

    def set_links(self, found: tuple[Link, ...]) -> None:
        self._links = found
        self._core.observe_links(found)
        self.set_ports()
        lost: list[core.Announce] = []
        for ip, effect in self._announced.items():
            ports = self._ports_for(effect)
            if ports != self._answering.ports_of(str(ip)):
                if ip in self._answered:  # on a link that is new for it, nobody may know where it is
                    self._announced[ip] = replace(effect, occasion=Occasion.TAKEOVER)
                self._tell_answerer(self._announced[ip], ports)
                if not ports:
                    lost.append(effect)
        self._tell_without_link(lost)

    def _ports_for(self, effect: core.Announce) -> tuple[str, ...]:
        return core_links.choose(effect.ip, self._links, effect.interfaces, effect.any_subnet)

    def set_ports(self) -> None:
        """Tell the answerer which links there are, and how to treat each."""
        named = self._core.world.named_links
        eligible = core_links.eligible(self._links)
        wanted = [
            link
            for link in self._links
            if link in eligible or (link.name in named and core_links.usable(link))
        ]
        ports = tuple(self._port(link) for link in wanted)
        before, self._identities = self._identities, {port.name: port.identity for port in ports}
        for name in [name for name in self._seen if self._identities.get(name) != before.get(name)]:
            self._forget_seen(name)
        self._answering.set_ports(ports)
        if any(port.policy.dry_run for port in ports):
            self._tell_rehearsals()

    def _tell_rehearsals(self) -> None:
        for ip, answered in list(self._answered.items()):
            if self._rehearses(answered.effect):
                self._answers(ip, answered.ports)

    def _port(self, link: Link) -> orders.Port:
        policy = self._core.world.config.link_policy(self._core.world.labels, link.name)
        if not policy.name:  # none is written for it
            policy = replace(policy, profile=self._profile)
        policy = replace(policy, node_selectors=(), interfaces=frozenset())  # it has been selected
        own = next((str(a.ip) for a in link.addresses if link.gateway and link.gateway in a.network), "")
        gateway = str(link.gateway) if own else ""
        return orders.Port(link.name, link.index, link.mac.hex(), policy, own, gateway)

    def set_members(self) -> None:
        macs = self._core.member_macs
        alive = tuple(sorted(self._core.members & macs.keys()))
        self._answering.set_members(orders.Members(macs, self._core.near_macs, alive))

    def set_password(self, password: str) -> None:
        """The password of hellos; the one before counts, too, until everybody has the new one."""
        key = hello.derive(password).hex()
        if key not in self._keys[:1]:
            self._keys = (key, *self._keys[:1])
            self._answering.set_keys(self._keys)

    def _tell_answerer(self, effect: core.Announce, ports: tuple[str, ...]) -> None:
        occasion = effect.occasion.name.lower()
        self._log.debug("ordered", ip=str(effect.ip), links=",".join(ports), occasion=occasion)
        self._answering.announce(
            orders.Announce(str(effect.ip), ports, effect.occasion.name, effect.again, effect.above)
        )

    def _tell_without_link(self, effects: list[core.Announce]) -> None:
        """Each Service hears of it; the log has one line for all that want the same."""
        have = ", ".join(link.name for link in self._links if core_links.usable(link)) or "none"
        by_reason: dict[str, list[str]] = {}
        for effect in effects if self._links else []:
            wanted = ", ".join(sorted(effect.interfaces)) or "any usable one"
            why = f"no such link that is up (wanted: {wanted}; usable here: {have})"
            message = f"{effect.ip} on {self._node}: {why}"
            news = [
                self._told.event(key, "Warning", Reason.NO_LINK.value, message) for key in effect.services
            ]
            if any(news):
                by_reason.setdefault(why, []).append(str(effect.ip))
        for why, ips in by_reason.items():
            self._log.warning("unannounced", ip=",".join(ips), reason=Reason.NO_LINK.value, why=why)

    # -- what the answerer says --

    def heard(self, report: orders.Report | Steady, now: float) -> None:
        match report:
            case Steady():
                self._core.can_answer = report.steady
            case orders.Ready():
                self._ready_at = now
                self._core.can_answer |= self._answering.steady
                for link in list(self._seen):  # what an earlier answerer has seen counts no more
                    self._forget_seen(link)
            case orders.Answering():
                self._answers(ip_address(report.ip), report.ports)
            case orders.Claimed():
                self._claimed(report, now)
            case orders.InUse():
                self._in_use(report, now)
            case orders.Seen() if report.port in self._identities:
                self._see(report)
            case orders.Missed():
                self._was_missed(report, now)
            case orders.Woke():
                self._log.warning("stood-still", seconds=report.stood_s, given_up=len(report.ips))
                ips = tuple(ip_address(ip) for ip in report.ips)
                for ip in ips:
                    self._gone(ip)
                self._core.woke(ips, now)
            case orders.Storm():
                self._told.aside(self._tell_storm(report))
            case orders.Opened():
                self._told.usable("link", report.port)
            case orders.Failed():
                self._told.unusable("link", report.port, report.what, report.hint)
            case orders.Stats():
                self._measured(report)

    def _was_missed(self, report: orders.Missed, now: float) -> None:
        """Each of the others says so by itself; the log has it once. Who has just begun had not spoken."""
        if now >= self._missed_at + MISSED_EVERY_S:
            self._missed_at = now
            log = self._log.info if now < self._ready_at + MISSED_EVERY_S else self._log.warning
            log("missed", link=report.port, why="other speakers did not hear this node")
        self._core.missed()

    def _claimed(self, report: orders.Claimed, now: float) -> None:
        ip = ip_address(report.ip)
        self._counts["heard", "member" if report.node else "stranger"] += 1
        if self._core.state is State.SERVING:
            who = {"node": report.node} if report.node else {}
            event = "yielded" if report.yielded else "claimed-by"
            log = self._log.info if report.node else self._log.warning  # a member: after a cut, or as planned
            log(event, ip=report.ip, mac=report.mac, link=report.port, **who)
        if report.yielded:
            self._gone(ip)
        self._core.claimed(
            ip, now, node=report.node, mac=report.mac, link=report.port, yielded=report.yielded
        )

    def _in_use(self, report: orders.InUse, now: float) -> None:
        ip, node = ip_address(report.ip), report.node
        self._counts["in-use", "member" if node else "stranger"] += 1
        log = self._log.info if node else self._log.warning  # a member has answered while it hands over
        log("in-use", ip=report.ip, mac=report.mac, link=report.port, node=node or "-")
        self._gone(ip)
        self._core.in_use(ip, now, node=node, mac=report.mac)

    def _see(self, report: orders.Seen) -> None:
        before = self._seen.get(report.port)
        self._seen[report.port] = report
        self._core.heard(report.port, frozenset(report.dead), frozenset(report.returning))
        living, lived = _living(report), _living(before) if before else None
        if living == lived:
            if report.silent and not report.alive:
                self._log.warning("cut-off", link=report.port, unheard=",".join(report.silent))
            return
        fields = {"link": report.port, "heard": ",".join(living) or "-"}
        gone = set(report.dead).intersection(lived or ())  # who was forgotten, and returns, is dead at first
        if gone - set(report.left):
            self._fell_silent(gone - set(report.left), report)
            self._log.warning("silent", dead=",".join(sorted(gone)), **fields)
        elif gone:
            self._log.info("left", nodes=",".join(sorted(gone)), **fields)
        else:
            self._log.info("heard", **fields)

    def lost(self, nodes: Collection[str], now: float) -> None:
        """These are no members any more."""
        for node in nodes:
            silent_s = self._core.unrenewed_s(node, now)
            if silent_s is not None:
                self._died("lease", 1, silent_s)

    def _fell_silent(self, nodes: set[str], report: orders.Seen) -> None:
        """On one link. On several, that is one death."""
        others = (seen for link, seen in self._seen.items() if link != report.port)
        news = nodes.difference(*(seen.dead for seen in others))
        if news:
            self._died("hello", len(news), report.noticed_s)

    def _died(self, sign: str, count: int, silent_s: float) -> None:
        self._counts["deaths", sign] += count
        self.detection_s[sign] = silent_s

    def _forget_seen(self, link: str) -> None:
        del self._seen[link]
        self._core.heard(link, frozenset())

    def _measured(self, report: orders.Stats) -> None:
        key = (report.port, report.protocol)
        before = self._stats.get(key)
        left = report.unasked - (before.unasked if before and before.unasked <= report.unasked else 0)
        if left:
            seconds = min(max(round(report.span_s), 1), RECENT_S)  # more, if the speaker was busy
            recent = self._recent.setdefault(key, deque(maxlen=RECENT_S))
            recent.extend((time.time() - ago, left / seconds) for ago in reversed(range(seconds)))
        self._stats[key] = report
        if report.projected_s > SLOW_S and key not in self._slow:
            self._slow.add(key)
            why = f"{report.queue} IPs wait; the last one is told of in {report.projected_s:.0f} s"
            self._log.warning(
                "slow-to-announce", link=report.port, protocol=report.protocol, why=why, hint=FASTER
            )
            self._told.node_event("SlowToAnnounce", f"{report.port}: {why}; {FASTER}")
        elif report.queue == 0:
            self._slow.discard(key)
        self._log.debug(
            "guard",
            link=report.port,
            protocol=report.protocol,
            sent=_counts(report.sent),
            held_back=_counts(report.held_back),
            queue=report.queue,
            wait=report.longest_wait_s,
        )

    async def _tell_storm(self, report: orders.Storm) -> None:
        who = await self._stormer(report)
        self._stormers[report.port] = (time.monotonic(), who)
        why = f"{report.frames} ARP frames in a second; takeovers aside, this node sends half as fast"
        self._log.warning("storm", link=report.port, who=who, why=why)
        self._told.node_event("Storm", f"{who} sends {report.frames} ARP frames in a second on {report.port}")

    async def _stormer(self, report: orders.Storm) -> str:
        if not report.mac:
            return "a crowd of MACs"
        if report.node:
            return f"{report.mac}, the speaker of {report.node}"
        return f"{report.mac}, {await self._vendors.of(report.mac)}"

    async def tell(self, tell: core.Tell) -> None:
        message = tell.message
        if tell.mac:
            message = message.replace("{vendor}", await self._vendors.of(tell.mac))
        event = {Reason.FLAPPING: "flapping", Reason.ADDRESS_CONFLICT: "conflict"}.get(
            tell.reason, "unannounced"
        )
        self._log.warning(event, ip=str(tell.ip), why=message)
        for key in tell.services:
            self._told.event(key, tell.kind, tell.reason.value, message)

    def _answers(self, ip: Address, ports: tuple[str, ...]) -> None:
        effect = self._announced.get(ip)
        if effect is None or not ports:
            return
        rehearsed = self._rehearses(effect)
        if not rehearsed:
            self._core.answers(ip)
            self._answering.answers(str(ip))
        before, known = self._answered.get(ip), (effect.services, ports, rehearsed)
        if before is not None and (before.effect.services, before.ports, before.rehearsed) == known:
            return  # told again, or to be treated otherwise
        self._answered[ip] = _Answered(effect, ports, time.time(), rehearsed)
        on, reason = ",".join(ports), effect.occasion.name.lower()
        self._counts["claims", reason] += not rehearsed
        for key in effect.services:
            if rehearsed:
                self._log.warning("dry-run", service=key, ip=str(ip), link=on, reason=reason)
                message = (
                    f"{ip} would be announced from {self._node} (layer 2, {on}): its LinkPolicy says dryRun"
                )
                self._told.event(key, "Warning", "DryRun", message)
            else:
                self._log.info("claimed", service=key, ip=str(ip), link=on, reason=reason)
                message = f"announcing {ip} from {self._node} (layer 2, {on})"
                self._told.event(key, "Normal", "Announced", message)
                if effect.occasion is Occasion.NEW:
                    self._told.announced(key, "layer2")

    # -- for `lbspeaker status` --

    def members(self) -> tuple[status.Member, ...]:
        nodes = self._core.members | self._core.member_macs.keys()
        return tuple(
            status.Member(
                node,
                node in self._core.members,
                tuple(link for link, seen in self._seen.items() if node in seen.alive),
                tuple(link for link, seen in self._seen.items() if node in (*seen.dead, *seen.silent)),
            )
            for node in sorted(nodes)
        )

    def ips(self) -> tuple[status.IP, ...]:
        """Of ten thousand, each twice a minute: what is the same for all is asked once."""
        held_back, lent = self._core.held_back, self._core.lent
        rehearsing = frozenset(link.name for link in self._links if self._port(link).policy.dry_run)
        known = {*self._core.current.owned, *lent, *held_back}
        ordered = sorted(known, key=lambda ip: (ip.version, int(ip)))
        return tuple(self._ip(ip, held_back, lent, rehearsing) for ip in ordered)

    def _ip(
        self,
        ip: Address,
        held_back: dict[Address, str],
        lent: frozenset[Address],
        rehearsing: frozenset[str],
    ) -> status.IP:
        answered, effect = self._answered.get(ip), self._announced.get(ip)
        role = "held-back" if ip in held_back else "lent" if ip in lent else "owner"
        if role == "owner" and answered is None:
            role = "probing" if effect is not None and effect.occasion is Occasion.NEW else "owner"
        ports = self._answering.ports_of(str(ip)) if rehearsing else None
        if role != "held-back" and effect is not None and ports and rehearsing.issuperset(ports):
            role = "dry-run"
        found = self._core.current.announcements.get(ip)
        mac = held_back.get(ip) or self._core.conflict(ip)
        services = found.services if found else effect.services if effect else ()
        made_by = self._vendors.known(mac) if mac else ""
        moves = self._core.moves_of(ip, time.monotonic())
        row = status.IP(str(ip), services, role, conflict=mac, vendor=made_by, moves=moves)
        if answered is None or role == "held-back":
            return row
        reason = answered.effect.occasion.name.lower()
        return structs.replace(row, links=answered.ports, since=answered.since, reason=reason)

    def _rehearses(self, effect: core.Announce) -> bool:
        """Whether it is announced on links with `dryRun` only."""
        policy = self._core.world.config.link_policy
        ports = self._ports_for(effect)
        return bool(ports) and all(policy(self._core.world.labels, port).dry_run for port in ports)

    def guards(self) -> tuple[status.Guard, ...]:
        policies = [(link.name, self._port(link).policy) for link in self._links]
        profiles = {f"group {p.group}" if p.group else name: profile_of(p) for name, p in policies}
        return tuple(
            status.Guard(
                link,
                protocol,
                profiles[link].name,
                **{name: getattr(found, name) for name in _OF_STATS},
                budget=_a_second(profiles[link].rate, profiles[link].burst),
                segment_budget=_a_second(profiles[link].segment_rate, profiles[link].segment_burst),
                recent=self._recently(link, protocol),
            )
            for (link, protocol), found in sorted(self._stats.items())
            if link in profiles
        )

    def _recently(self, link: str, protocol: str) -> dict[str, int]:
        """The frames of the last minute, as the answerer has told of them, once a second."""
        told, since = self._recent.get((link, protocol), ()), time.time() - RECENT_S
        found: Counter[str] = Counter()
        for at, frames in told:
            if at >= since:
                found[f"{at:.1f}"] += math.ceil(frames)
        return dict(found)

    def problems(self, now: float, rows: tuple[status.IP, ...]) -> list[str]:
        """What does not go as it should, each in one line. `rows`: what `ips` returned."""
        found = []
        silent_s = self._core.api_silent_s(now)
        if silent_s > core.LEASE_DURATION_S:
            left = len([ip for ip, mac in self._core.held_back.items() if not mac])
            besides = f"; {left} IPs are left to members that claimed them" if left else ""
            found.append(
                f"the API has been silent for {silent_s:.0f} s: does it answer this node? What is announced "
                f"stays announced{besides}"
            )
        if not self._answering.runs and self._core.state is not State.STARTING:
            found.append("nothing is answered here: there is no answerer; it is started again, see the log")
        if not self._answering.steady:
            found.append(f"{UNSTEADY}; see the log")
        if self._answering.hung_s:
            found.append(
                f"nothing is answered here: the answerer has not run for {self._answering.hung_s:.0f} s; is "
                "this node out of CPU or memory?"
            )
        if self._links and not core_links.eligible(self._links) and not self._core.world.named_links:
            found.append("nothing can be announced from here: no link of this node is up")
        nowhere = [one for one in self._core.current.unannounced if one.refusal.reason is Reason.NO_NODE_LINK]
        found += [f"{one.service}: {one.refusal.message}" for one in nowhere[:MOST_NOWHERE]]
        if len(nowhere) > MOST_NOWHERE:
            found.append(f"{len(nowhere) - MOST_NOWHERE} more Services are announced by no node")
        found += [
            f"{one.ip} is also used by {one.conflict}, {one.vendor or UNKNOWN}: find that host, "
            "or exclude the IP from its pool"
            for one in rows
            if one.conflict
        ]
        found += [
            f"{ip} ({', '.join(effect.services)}) is announced on no link: none that fits is up"
            for ip, effect in self._announced.items()
            if self._links and ip in self._core.current.owned and not self._answering.ports_of(str(ip))
        ]
        found += [
            f"{who} storms on {link}" for link, (at, who) in self._stormers.items() if now - at < STORM_S
        ]
        found += [
            f"{link} {protocol}: {self._stats[link, protocol].queue} frames wait: {FASTER}"
            for link, protocol in sorted(self._slow)
        ]
        others = self._core.members - {self._node}
        if others and not self._keys:
            found.append(
                "there is no password for hellos, so a dead node is noticed after 3 s and not half a second: "
                "is there a Secret lbspeaker-hello of type kubernetes.io/basic-auth, with a key password?"
            )
        elif others and self._seen and not any(seen.alive for seen in self._seen.values()):
            found.append("no other speaker is heard on any link, though some live: look at links and switch")
        found += [
            f"{seen.port}: no other speaker is heard any more, though {', '.join(seen.silent)} may live: is "
            "this link cut off?"
            for seen in self._seen.values()
            if seen.silent and not seen.alive
        ]
        silent = {node for seen in self._seen.values() for node in seen.dead} & self._core.members
        found += [
            f"{node} has a Lease, but is not heard: look at its link, and at the switch" for node in silent
        ]
        return found


def _living(seen: orders.Seen) -> list[str]:
    return sorted((*seen.alive, *seen.silent))


def _counts(counts: dict[str, int]) -> str:
    return ",".join(f"{name}:{count}" for name, count in sorted(counts.items()))


def _a_second(rate: float, burst: int) -> int:
    """What a bucket gives in any second; 0: there is no limit."""
    return 0 if math.isinf(rate) else burst + int(rate)
