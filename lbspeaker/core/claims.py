"""IPs about which others have a say: lent, yielded, contested.

lent       it goes to another living node: answered here until that one is heard to claim it, or too long
yielded    a member that comes before us was heard to claim it: not ours for a moment, in which whatever it
           knows reaches us, too; over as soon as we see it, or as that member dies. While the API is silent
           nothing reaches us: then the moments grow longer
contested  a member claims what we take for ours: to be claimed again, when the API says that it is ours,
           at most once in a while; and the last claim that the segment hears is ours
"""

import math
from collections.abc import Callable, Collection, Iterable

from lbspeaker.core.conflict import DEFEND_INTERVAL_S
from lbspeaker.model import Address

HANDOVER_PER_S = 8.0  # next owners tell of so many
HANDOVER_S, MOST_HANDOVER_S = 10.0, 25.0  # who drains waits so long for them
LENT_S, MOST_LENT_S = 10.0, 120.0  # who goes on waits for all that the next owner has to tell
YIELDED_S = 3.0  # until then who claimed an IP has shown elsewhere, too, that it lives
MOST_YIELDED_S = 20.0  # while the API is silent


class Claims:
    """Those of one node."""

    def __init__(self) -> None:
        self.lent: dict[Address, float] = {}  # until when, at most
        self.yielded: dict[Address, float] = {}  # until when
        self._left_to: dict[Address, str] = {}  # the member that was found to have it
        self.contested: set[Address] = set()
        self.overtaken: set[Address] = set()  # lent, while neighbours were told otherwise
        self._claimants: dict[Address, tuple[str, float]] = {}  # the member that claimed it last, and when
        self._defended: dict[Address, float] = {}
        self._put_off: dict[Address, float] = {}  # contested again, and not defended before then

    # -- lent --

    def lend(self, ip: Address, now: float, *, number: int, patience_s: float = 0.0) -> None:
        """To its next owner, which tells of `number` IPs, one after the other.

        `patience_s`: for how long it may leave this one to others, for what it has heard.
        """
        for_s = min(LENT_S + patience_s + number / HANDOVER_PER_S, MOST_LENT_S)
        self.lent.setdefault(ip, now + for_s)

    def bequeath(self, ips: Collection[Address], now: float) -> None:
        """To their next owners, which have to be quick: what is lent already, too."""
        number = len(self.lent.keys() | ips)
        ends = now + min(HANDOVER_S + number / HANDOVER_PER_S, MOST_HANDOVER_S)
        self.lent = {ip: min(until, ends) for ip, until in self.lent.items()} | dict.fromkeys(ips, ends)

    def overtake(self) -> None:
        """Others have told neighbours of what is lent: if it comes back, they have to hear of it."""
        self.overtaken |= self.lent.keys()

    def returned(self, ip: Address) -> None:
        """The next owner of what is lent was heard."""
        self.lent[ip] = -math.inf

    def settled(self, now: float) -> list[Address]:
        """Return what is not lent any more: its next owner has claimed it, or has not for too long."""
        return self.end([ip for ip, until in self.lent.items() if now >= until])

    def end(self, ips: Iterable[Address]) -> list[Address]:
        """These are lent no more."""
        ips = list(ips)
        self.overtaken.difference_update(ips)
        return [ip for ip in ips if self.lent.pop(ip, None) is not None]

    # -- yielded, contested --

    def leave(self, ip: Address, until: float, node: str) -> None:
        """To the member that has it; "": to whoever it is."""
        self.yielded[ip], self._left_to[ip] = until, node

    def expire(self, now: float, dead: Collection[str], most_s: float) -> list[Address]:
        """Return what was yielded long enough, or to who is `dead` now.

        `most_s`: for how long anything may stay yielded.
        """
        for ip, until in self.yielded.items():
            to = self._left_to.get(ip) or self.claimant(ip)
            self.yielded[ip] = now if to in dead else min(until, now + most_s)
        over = [ip for ip, until in self.yielded.items() if now >= until]
        for ip in over:
            del self.yielded[ip]
        for ip in [ip for ip, at in self._put_off.items() if now >= at]:
            del self._put_off[ip]
            self.contested.add(ip)
        return over

    def leave_contested(self, until: float) -> None:
        """Who claims what is ours may know better."""
        self.yielded.update(dict.fromkeys(self.contested, until))

    def heard(self, ip: Address, node: str, now: float) -> None:
        """A member claims it."""
        self._claimants[ip] = node, now

    def claimant(self, ip: Address) -> str:
        """The member that claimed it last; "": none."""
        return self._claimants[ip][0] if ip in self._claimants else ""

    def has_heard(self, ip: Address, node: str, now: float) -> bool:
        """Whether this member has claimed it of late."""
        return self.claimant(ip) == node and now < self._claimants[ip][1] + YIELDED_S

    def see(self, is_ours: Callable[[Address], bool]) -> None:
        """What was yielded and is not ours by now is no question any more."""
        self.yielded = {ip: until for ip, until in self.yielded.items() if is_ours(ip)}
        self._left_to = {ip: node for ip, node in self._left_to.items() if ip in self.yielded}
        self._claimants = {ip: heard for ip, heard in self._claimants.items() if is_ours(ip)}
        self._defended = {ip: at for ip, at in self._defended.items() if is_ours(ip)}

    def defended(self, ips: Iterable[Address], now: float, *, at_once: bool) -> list[Address]:
        """Return those of `ips` that are to be claimed again now; of the others, it is put off."""
        found = []
        for ip in ips:
            again_at = self._defended.get(ip, -math.inf) + DEFEND_INTERVAL_S
            if now < again_at and not at_once:
                self._put_off[ip] = again_at
            else:
                self._put_off.pop(ip, None)
                self._defended[ip] = now
                found.append(ip)
        self.contested.clear()
        return found

    def wakeups(self, *, serving: bool) -> list[float]:
        """When to look again; who drains only waits for what is lent."""
        if not serving:
            return [*self.lent.values()]
        return [*self.lent.values(), *self.yielded.values(), *self._put_off.values()]
