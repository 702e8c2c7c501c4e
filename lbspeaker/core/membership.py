"""Which speakers are alive, as their Leases in the API say, and what is heard on segments.

Every speaker renews its Lease once a second; one that does not for the duration of its Lease is dead. What
counts is when a renewal was *seen*, by the clock here: clocks of other nodes are never compared.

The API server may be the one that is silent. So time runs only while the API is seen to work: the sign is
the own Lease, whose renewals come back by the same watch as everybody's. Without that echo the clock stands
still after `PATIENCE` of a Lease's duration, and nobody dies; when it comes back, everybody has a whole
duration to be seen again. Silence of the API alone withdraws nothing.

Faster are the hellos (`core.segment`): who is silent there, and the majority says so, is dead for the IPs of
that segment, whatever its Lease says. They need no API. But who is heard to claim an IP there lives, and only
says no hellos (it has no password, or a switch drops them): its Lease alone counts then; unless hellos of it
were heard, too, and are no more.
"""

from collections.abc import Mapping

from lbspeaker.model import Doubts, Lease, MemberLink

PATIENCE = 0.5  # of the own Lease's duration: how long after the last echo time still runs

_NONE = Doubts()


class Membership:
    """The members as seen by the speaker on `node`; an observer that has no Lease passes the empty string."""

    def __init__(self, node: str, duration_s: float = 3.0) -> None:
        self._node = node
        self._limit_s = duration_s * PATIENCE
        self._leases: dict[str, Lease] = {}
        self._seen: dict[str, float] = {}  # in API time
        self._base = 0.0  # API time at the last echo
        self._echo: float | None = None  # when the own Lease was last seen to change
        self._silent: dict[str, frozenset[str]] = {}
        self._doubts: dict[str, Doubts] = {}
        self._mute: dict[str, set[str]] = {}  # by link: who was heard by ARP, though not by hellos
        self._returning: dict[str, frozenset[str]] = {}  # by link: of the dead, who says hellos again

    @property
    def ready(self) -> bool:
        """Whether the own Lease was ever seen: before that, nothing is known about who else is there."""
        return self._echo is not None

    def silent_s(self, now: float) -> float:
        """For how long the API has not shown that it works."""
        return 0.0 if self._echo is None else now - self._echo

    def observe(self, node: str, lease: Lease | None, now: float) -> bool:
        """Take note of a Lease as it is now; None: it was deleted, so its speaker has left for good.

        Return whether it tells of other links or doubts than before.
        """
        before = self._leases.get(node)
        self._observe(node, before, lease, now)
        if lease is None:  # its doubts stay: nobody knows better
            return before is not None and before.links is not None
        doubted, self._doubts[node] = self._doubts.get(node), lease.doubts
        return (before.links if before else None) != lease.links or doubted != lease.doubts

    def doubts(self, node: str) -> Doubts:
        """What a node that is or was a member may not have announced."""
        return self._doubts.get(node, _NONE)

    def _observe(self, node: str, before: Lease | None, lease: Lease | None, now: float) -> None:
        if lease is None:
            self._leases.pop(node, None)
            self._seen.pop(node, None)
            return
        self._leases[node] = lease
        if before is not None and before.renewed == lease.renewed:
            return
        if node == self._node:
            self._tick(now)
        self._seen[node] = self._api_time(now)

    def members(self, now: float) -> frozenset[str]:
        """The nodes whose speakers live and take part in elections."""
        at = self._api_time(now)
        return frozenset(
            node for node, lease in self._leases.items() if not lease.draining and not self._dead(lease, at)
        )

    def unrenewed_s(self, node: str, now: float) -> float | None:
        """For how long the Lease of a node was not renewed, if that is why it is dead."""
        at, lease = self._api_time(now), self._leases.get(node)
        ended = lease is not None and not lease.draining and self._dead(lease, at)
        return at - self._seen[node] if ended else None

    def draining(self, node: str) -> bool:
        """Whether it has said that it takes no part in elections."""
        return node in self._leases and self._leases[node].draining

    def seen(self, link: str, dead: frozenset[str], returning: frozenset[str] = frozenset()) -> None:
        """These nodes must be taken for dead on the segment of this link; some of them say hellos again."""
        fallen = self._returning.get(link, frozenset()) - returning
        self._silent[link], self._returning[link] = dead, returning
        self._mute[link] = self._mute.get(link, set()) & dead - fallen

    def lives(self, link: str, node: str) -> bool:
        """A node was heard to claim an IP there: its Lease counts again. Return whether that is news."""
        news = node in self._silent.get(link, ()) and node not in self._mute[link]
        if news:
            self._mute[link].add(node)
        return news

    def keep_links(self, links: frozenset[str]) -> None:
        """What was seen on other links counts no more."""
        self._silent = {link: dead for link, dead in self._silent.items() if link in links}
        self._mute = {link: nodes for link, nodes in self._mute.items() if link in links}
        self._returning = {link: nodes for link, nodes in self._returning.items() if link in links}

    @property
    def hears(self) -> bool:
        """Whether anything was ever seen on a segment."""
        return bool(self._silent)

    @property
    def silent(self) -> Mapping[str, frozenset[str]]:
        """By link of ours: the nodes that are dead there."""
        by_link = {link: dead - self._mute[link] for link, dead in self._silent.items()}
        return {link: dead for link, dead in by_link.items() if dead}

    def fallen(self) -> frozenset[str]:
        """Who is dead on some segment, and not heard again there."""
        nobody = frozenset[str]()
        return nobody.union(*(dead - self._returning.get(link, nobody) for link, dead in self.silent.items()))

    @property
    def links(self) -> dict[str, tuple[MemberLink, ...]]:
        """The links of the members that tell of theirs."""
        return {node: lease.links for node, lease in self._leases.items() if lease.links is not None}

    @property
    def known(self) -> frozenset[str]:
        """All nodes that have a Lease."""
        return frozenset(self._leases)

    def next_wakeup(self, now: float) -> float | None:
        """When the next member may turn out to be dead."""
        at = self._api_time(now)
        ends = [
            self._seen[node] + lease.duration_s - at
            for node, lease in self._leases.items()
            if not self._dead(lease, at)
        ]
        running = self._echo is not None and now - self._echo < self._limit_s
        return now + max(min(ends), 0.0) + 1e-3 if ends and running else None

    def _dead(self, lease: Lease, at: float) -> bool:
        return lease.node != self._node and at - self._seen[lease.node] > lease.duration_s

    def _api_time(self, now: float) -> float:
        if self._echo is None:
            return self._base
        return self._base + min(max(now - self._echo, 0.0), self._limit_s)

    def _tick(self, now: float) -> None:
        """An echo came: time goes on; after an outage, everybody alive then counts as just seen."""
        at = self._api_time(now)
        if self._echo is not None and now - self._echo > self._limit_s:
            for node, lease in self._leases.items():
                if not self._dead(lease, at):
                    self._seen[node] = at
        self._base, self._echo = at, now
