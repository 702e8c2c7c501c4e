"""Layer 2 on one node: what the decider says becomes orders to the answerer, and its reports come back.

It knows the links, the policy of each, the keys of hellos and the MACs of members, and tells users what
became of their services on the segment.
"""

from collections.abc import Callable, Coroutine
from dataclasses import replace
from ipaddress import ip_address
from typing import Any, Literal, Protocol

import structlog

from lbspeaker.answering.aside import vendor
from lbspeaker.answering.child import Answering
from lbspeaker.core import links as core_links
from lbspeaker.core import speaker as core
from lbspeaker.core.guard import Occasion
from lbspeaker.core.lifecycle import State
from lbspeaker.model import Address, Link, Pool, Range, Reason
from lbspeaker.wire import hello, orders

SLOW_S = 5.0  # who needs longer to tell everything is told of the profile that helps


class Told(Protocol):
    """Who is told of a service (`event`, by "namespace/name") or of the node, and does work on the side."""

    def event(self, key: str, kind: Literal["Normal", "Warning"], reason: str, message: str) -> bool: ...

    def node_event(self, reason: str, message: str) -> None: ...

    def unusable(self, kind: str, name: str, why: str, hint: str) -> None: ...

    def aside(self, work: Coroutine[Any, Any, None]) -> None: ...


class Layer2:
    """The segments of `node`, whose decider is `decider`; `profile` is for links without a LinkPolicy."""

    def __init__(
        self,
        node: str,
        profile: str,
        decider: core.Speaker,
        told: Told,
        report: Callable[[orders.Report], None],
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
        self._answered: dict[tuple[Address, tuple[str, ...]], core.Announce] = {}
        self._keys: tuple[str, ...] = ()  # of hellos, the newest first
        self._seen: dict[str, orders.Seen] = {}  # by link
        self._stats: dict[tuple[str, str], orders.Stats] = {}  # by link and protocol
        self._slow: set[tuple[str, str]] = set()  # links that need long to tell everything

    async def run(self) -> None:
        """Keep an answerer running, until cancelled."""
        await self._answering.run()

    @property
    def links(self) -> tuple[Link, ...]:
        return self._links

    # -- what is to be done --

    def announce(self, effect: core.Announce) -> None:
        self._announced[effect.ip] = effect
        if not any(effect.ip in pool for pool in self._pools):
            self._set_ranges()
        self._tell_answerer(effect, self._ports_for(effect))

    def release(self, ip: Address) -> None:
        self._announced.pop(ip, None)
        self._answered = {on: told for on, told in self._answered.items() if on[0] != ip}
        self._answering.release(str(ip))
        self._log.info("released", ip=str(ip))

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
        for ip, effect in self._announced.items():
            ports = self._ports_for(effect)
            if ports != self._answering.ports_of(str(ip)):
                # On a link that is new for it, nobody can be expected to know where it is.
                self._announced[ip] = replace(effect, occasion=Occasion.TAKEOVER)
                self._tell_answerer(self._announced[ip], ports)

    def _ports_for(self, effect: core.Announce) -> tuple[str, ...]:
        return core_links.choose(effect.ip, self._links, effect.interfaces, effect.any_subnet)

    def set_ports(self) -> None:
        """Tell the answerer which links there are, and how to treat each."""
        named = self._core.named_links
        eligible = core_links.eligible(self._links)
        wanted = [
            link
            for link in self._links
            if link in eligible or (link.name in named and core_links.usable(link))
        ]
        self._answering.set_ports(tuple(self._port(link) for link in wanted))

    def _port(self, link: Link) -> orders.Port:
        policy = self._core.config.link_policy(self._core.labels, link.name)
        if not policy.name:  # none is written for it
            policy = replace(policy, profile=self._profile)
        policy = replace(policy, node_selectors=(), interfaces=frozenset())  # it has been selected
        own = next((str(a.ip) for a in link.addresses if link.gateway and link.gateway in a.network), "")
        gateway = str(link.gateway) if own else ""
        return orders.Port(link.name, link.index, link.mac.hex(), policy, own, gateway)

    def set_members(self) -> None:
        self._answering.set_members(self._core.member_macs)

    def set_password(self, password: str) -> None:
        """The password of hellos; the one before counts, too, until everybody has the new one."""
        key = hello.derive(password).hex()
        if key not in self._keys[:1]:
            self._keys = (key, *self._keys[:1])
            self._answering.set_keys(self._keys)

    def _tell_answerer(self, effect: core.Announce, ports: tuple[str, ...]) -> None:
        if not ports and self._links:
            wanted = ", ".join(sorted(effect.interfaces)) or "any usable one"
            have = ", ".join(link.name for link in self._links if core_links.usable(link)) or "none"
            why = f"no such link that is up (wanted: {wanted}; usable here: {have})"
            self._log.warning("unannounced", ip=str(effect.ip), reason=Reason.NO_LINK.value, why=why)
            for key in effect.services:
                self._told.event(key, "Warning", Reason.NO_LINK.value, f"{effect.ip} on {self._node}: {why}")
        self._answering.announce(
            orders.Announce(str(effect.ip), ports, effect.occasion.name, effect.again, effect.above)
        )

    # -- what the answerer says --

    def heard(self, report: orders.Report, now: float) -> None:
        match report:
            case orders.Ready():
                self._core.can_answer = True
            case orders.Answering():
                self._answers(ip_address(report.ip), report.ports)
            case orders.Claimed():
                self._claimed(report, now)
            case orders.InUse():
                node = self._member_with(report.mac)
                self._log.warning("in-use", ip=report.ip, mac=report.mac, link=report.port, node=node or "-")
                self._answering.gone(report.ip)
                self._core.in_use(ip_address(report.ip), now, node=node, mac=report.mac)
            case orders.Seen():
                self._see(report)
            case orders.Missed():
                self._log.warning("missed", link=report.port, why="other speakers did not hear this node")
                self._core.missed()
            case orders.Woke():
                self._log.warning("stood-still", seconds=report.stood_s, given_up=len(report.ips))
                for ip in report.ips:
                    self._answering.gone(ip)
                self._core.woke(tuple(ip_address(ip) for ip in report.ips), now)
            case orders.Storm():
                self._told.aside(self._tell_storm(report))
            case orders.Failed():
                self._told.unusable("link", report.port, report.what, report.hint)
            case orders.Stats():
                self._measured(report)

    def _claimed(self, report: orders.Claimed, now: float) -> None:
        ip = ip_address(report.ip)
        if self._core.state is State.SERVING:
            who = {"node": report.node} if report.node else {}
            event = "yielded" if report.yielded else "claimed-by"
            self._log.warning(event, ip=report.ip, mac=report.mac, link=report.port, **who)
        if report.yielded:
            self._answering.gone(report.ip)
            self._announced.pop(ip, None)
        self._core.claimed(
            ip, now, node=report.node, mac=report.mac, link=report.port, yielded=report.yielded
        )

    def _member_with(self, mac: str) -> str:
        plain = mac.replace(":", "")
        return next((node for node, macs in self._core.member_macs.items() if plain in macs), "")

    def _see(self, report: orders.Seen) -> None:
        before = self._seen.get(report.port)
        self._seen[report.port] = report
        self._core.heard(report.port, frozenset(report.dead))
        was_dead = set(before.dead) if before else set()
        fields = {"link": report.port, "heard": ",".join(report.alive) or "-"}
        if set(report.dead) - was_dead:
            self._log.warning("silent", dead=",".join(sorted(set(report.dead) - was_dead)), **fields)
        else:
            self._log.info("heard", **fields)

    def _measured(self, report: orders.Stats) -> None:
        key = (report.port, report.protocol)
        self._stats[key] = report
        if report.projected_s > SLOW_S and key not in self._slow:
            self._slow.add(key)
            why = f"{report.queue} IPs wait; the last one is told of in {report.projected_s:.0f} s"
            hint = "if the network can take more, give a LinkPolicy the profile fast, or a rate of its own"
            self._log.warning(
                "slow-to-announce", link=report.port, protocol=report.protocol, why=why, hint=hint
            )
            self._told.node_event("SlowToAnnounce", f"{report.port}: {why}; {hint}")
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
        who = f"{report.mac}, {await vendor(report.mac) or 'vendor unknown'}"
        if report.node:
            who = f"{report.mac}, the speaker of {report.node}"
        why = f"{report.frames} ARP frames in a second; this node sends half as many as it may meanwhile"
        self._log.warning("storm", link=report.port, who=who, why=why)
        self._told.node_event("Storm", f"{who} sends {report.frames} ARP frames in a second on {report.port}")

    async def tell(self, tell: core.Tell) -> None:
        named = await vendor(tell.mac) if tell.mac else ""
        message = tell.message.replace("{vendor}", named or "vendor unknown")
        self._log.warning("unannounced" if not tell.mac else "conflict", ip=str(tell.ip), why=message)
        for key in tell.services:
            self._told.event(key, tell.kind, tell.reason.value, message)

    def _answers(self, ip: Address, ports: tuple[str, ...]) -> None:
        effect = self._announced.get(ip)
        if effect is None or not ports:
            return
        before, self._answered[ip, ports] = self._answered.get((ip, ports)), effect
        if before == effect:
            return
        on = ",".join(ports)
        for key in effect.services:
            occasion = effect.occasion.name.lower()
            self._log.info("claimed", service=key, ip=str(ip), link=on, reason=occasion)
            message = f"announcing {ip} from {self._node} (layer 2, {on})"
            self._told.event(key, "Normal", "Announced", message)


def _counts(counts: dict[str, int]) -> str:
    return ",".join(f"{name}:{count}" for name, count in sorted(counts.items()))
