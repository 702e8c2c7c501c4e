"""What must hold: at every step, after the calm, and in a quiet world."""

from collections import deque
from ipaddress import IPv4Address
from typing import TYPE_CHECKING

from lbspeaker.core.guard import Occasion, profile_of
from lbspeaker.core.placement import CALM_S
from lbspeaker.model import Address

if TYPE_CHECKING:
    from tests.sim.world import Host, World

WINDOW_S = 1.0
RELEASED_S = 1.0  # the API's delay, and a bit
MOST_FAILURES = 20
REFRESH_S = (59.0, 122.0)  # two thirds to four thirds of 90 s, by clocks that are 1 % wrong


class Watch:
    """Looks at everything, and keeps what was wrong in `failures`."""

    def __init__(self, world: "World") -> None:
        self.world = world
        self.failures: list[str] = []
        self.frames = 0
        self.spoken_at = 0.0  # when something other than a refresh was last said
        self.moved_at = 0.0  # when it last changed who answers, or a pin
        self.quiet = False
        self._windows: dict[str, deque[float]] = {}
        self._refreshed: dict[str, float] = {}
        self._free_since: dict[Address, float] = {}
        self._known: object = None
        self._told: set[str] = set()

    def fail(self, what: str) -> None:
        if what not in self._told and len(self.failures) < MOST_FAILURES:
            self._told.add(what)
            self.failures.append(f"{self.world.heap.now:.3f}: {what}")
            self.world.tell("WRONG", what)

    # -- at every step --

    def sent(self, host: "Host", ip: bytes, occasion: Occasion) -> None:
        """A frame that nobody asked for leaves `host`: no more of them than its guard allows."""
        now = self.world.heap.now
        self.frames += 1
        window = self._windows.setdefault(host.name, deque())
        window.append(now)
        while window[0] <= now - WINDOW_S:
            window.popleft()
        profile = profile_of(self.world.setting.policy)
        if len(window) > profile.burst + profile.rate * WINDOW_S * 1.011:
            self.fail(f"{host.name} sends {len(window)} frames in a second")
        if occasion is not Occasion.REFRESH:
            self.spoken_at = now
        if self.quiet:
            self._sent_in_quiet(host, ip, occasion)

    def _sent_in_quiet(self, host: "Host", ip: bytes, occasion: Occasion) -> None:
        now = self.world.heap.now
        if occasion is not Occasion.REFRESH:
            self.fail(f"{host.name} sends {occasion.name} of {_text(ip)} in a quiet world")
        elif now - self._refreshed.get(host.name, -1e9) < REFRESH_S[0]:
            self.fail(f"{host.name} refreshes too often")
        self._refreshed[host.name] = now

    def released(self, host: "Host", ip: Address) -> None:
        """Who gives an IP to another does not stop before that one answers."""
        world = self.world
        if not world.healthy or ip in world.answering():
            return
        found = world.truth().get(ip)
        if found is None or not any(world.hosts[name].serves for name in found.candidates):
            return
        self.fail(f"{host.name} releases {ip}, and nobody answers for it")

    def look(self) -> None:
        """Nobody answers for long for what no Service holds."""
        world, now = self.world, self.world.heap.now
        held = {ip for service in world.services.values() for ip in service.held}
        known = ([tuple(host.answering) for host in world.hosts.values()], world.api.pins_version)
        if known != self._known:
            self._known, self.moved_at = known, now
        for name, host in world.hosts.items():
            since = host.program.sees_api_since if host.program is not None else None
            for packed in host.answering:
                ip = IPv4Address(packed)
                if ip in held:
                    self._free_since.pop(ip, None)
                    continue
                free = self._free_since.setdefault(ip, now)
                if since is not None and now - max(since, free) > RELEASED_S:
                    self.fail(f"{name} answers for {ip}, which no Service holds")
        for ip in self._free_since.keys() & held:
            del self._free_since[ip]

    # -- after the calm --

    def wrong(self) -> list[str]:
        """What is not as it ought to be by now."""
        world = self.world
        truth, answering = world.truth(), world.answering()
        found = [f"{ip} is not answered" for ip in truth.keys() - answering.keys()]
        found += [f"{ip} is answered by {who}" for ip, who in answering.items() if ip not in truth]
        for ip, announcement in truth.items():
            who = answering.get(ip, [])
            if who and who != [announcement.owner]:
                found.append(f"{ip} is answered by {' '.join(who)}, and not by {announcement.owner}")
        return sorted(found)

    def misled(self) -> list[str]:
        """Clients that heard everything, and believe somebody else has an IP than who answers for it."""
        names = {host.mac: name for name, host in self.world.hosts.items()}
        found = []
        for ip, who in self.world.answering().items():
            for name, client in self.world.wire.clients.items():
                if name in self.world.wire.misses:
                    continue
                believed = names.get(client.cache.get(ip.packed, b""))
                if believed is not None and [believed] != who:
                    at = client.at[ip.packed]
                    found.append(f"{name} takes {believed} for {ip}, since {at:.3f}, and not {' '.join(who)}")
        return found

    @property
    def bound_s(self) -> float:
        """Within this time after the calm everything must be as it ought to be."""
        ips = sum(len(service.held) for service in self.world.services.values())
        rate = profile_of(self.world.setting.policy).rate
        # A Lease, loans, three rounds of all IPs on one port, and pins: 4 at a time, each time with a calm.
        return 3.0 + 25.0 + ips * 3 / rate + 15.0 + CALM_S * (2 + ips / 2)

    def begin_quiet(self) -> None:
        self.quiet = True
        self._refreshed = {}

    def end_quiet(self, seconds: float) -> None:
        """Who answers for something refreshes it in time."""
        now = self.world.heap.now
        for name, host in self.world.hosts.items():
            late = now - self._refreshed.get(name, now - seconds)
            if list(host.answering) and late > REFRESH_S[1] and self.world.setting.policy.refresh_s:
                self.fail(f"{name} has not refreshed anything for {late:.0f} s")


def _text(ip: bytes) -> str:
    return str(IPv4Address(ip)) if len(ip) == 4 else "the gateway"
