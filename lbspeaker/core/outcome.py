"""What a whole cluster comes to: who gets which IP, and what is announced of it.

    snapshot ──▶ allocate, until nobody moves ──▶ who holds what ──▶ picture ──▶ Outcome

`plan` prints it, `plan --diff` compares two, `explain` tells why it is so: all through these functions.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

from lbspeaker.core.allocator import Result, allocate, ours
from lbspeaker.core.announce import Picture, picture
from lbspeaker.core.controller import class_mismatch
from lbspeaker.core.detours import with_detours
from lbspeaker.core.nodes import Holders, holders
from lbspeaker.core.services import with_allocation
from lbspeaker.model import Address, Allocation, Config, Refusal, Service, Snapshot

MOST_PASSES = 10


@dataclass(frozen=True, slots=True)
class Outcome:
    """`snapshot` is the world in which Services hold what `results` give them.

    `passes`: the Services as each pass of the allocator found them. `others`: those of another class that
    nobody gave an IP.
    """

    snapshot: Snapshot
    passes: tuple[tuple[Service, ...], ...]
    results: Mapping[str, Result]
    others: Mapping[str, Refusal]
    holders: Holders
    picture: Picture

    @property
    def refusals(self) -> Mapping[str, Refusal]:
        """Who gets no IP, and why."""
        return {key: one for key, one in self.results.items() if isinstance(one, Refusal)} | {**self.others}

    @property
    def notes(self) -> Mapping[str, Refusal]:
        """Who gets an IP, and not all that it asks for."""
        given = {key: one for key, one in self.results.items() if isinstance(one, Allocation)}
        return {key: one.note for key, one in given.items() if one.note is not None}


def outcome(
    snapshot: Snapshot,
    load_balancer_class: str | None = None,
    *,
    living: bool = False,
    about: Callable[[Service], bool] | None = None,
) -> Outcome:
    """Decide everything. `living`: announced is what Services hold now, as speakers see it.

    Of a Service that holds nothing, what it would get is announced, living or not. `about`: the picture has
    what these Services need only, which takes a fraction of the time.
    """
    services = tuple(s for s in snapshot.services.values() if ours(s, load_balancer_class))
    passes = [services]
    for _ in range(MOST_PASSES):  # what one service leaves, another may have waited for
        results = allocate(snapshot.config.pools, passes[-1], snapshot.namespaces)
        settled = tuple(_settled(s, results[s.key]) for s in passes[-1])
        if settled == passes[-1]:
            break
        passes.append(settled)
    if living:
        settled = tuple(now if now.held else then for now, then in zip(services, settled, strict=True))
    held = holders(settled)
    world = replace(snapshot, services={s.key: s for s in settled})
    needed = held if about is None else _around(snapshot.config, held, about)
    shown = with_detours(picture(world, needed))
    return Outcome(world, tuple(passes), results, _others(snapshot, load_balancer_class), held, shown)


def _around(config: Config, held: Holders, about: Callable[[Service], bool]) -> Holders:
    """The IPs of these Services, and those that may be announced in one prefix with them."""

    def place(ip: Address) -> tuple[int, int]:
        shortest = min((ad.length(ip.version) for ad in config.bgp_advertisements), default=ip.max_prefixlen)
        return ip.version, int(ip) >> (ip.max_prefixlen - shortest)

    places = {place(ip) for ip, services in held.items() if any(map(about, services))}
    return {ip: services for ip, services in held.items() if place(ip) in places}


def _settled(service: Service, result: Result) -> Service:
    return with_allocation(service, result if isinstance(result, Allocation) else None)


def _others(snapshot: Snapshot, load_balancer_class: str | None) -> dict[str, Refusal]:
    """The Services of another class that nobody gave an IP so far."""
    return {
        s.key: class_mismatch(s, load_balancer_class)
        for s in snapshot.services.values()
        if s.load_balancer and not s.held and not ours(s, load_balancer_class)
    }
