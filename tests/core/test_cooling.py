"""A released IP is nobody else's until neighbours have forgotten whose it was."""

from collections.abc import Mapping
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lbspeaker.core.allocator import Result, allocate
from lbspeaker.core.book import Cooling
from lbspeaker.core.cooling import Coolings
from lbspeaker.core.pools import Slot, slot_of
from lbspeaker.core.standing import Standing
from lbspeaker.model import (
    Allocation,
    Pool,
    Port,
    Range,
    Reason,
    Released,
    Service,
    ServiceAllocation,
    address,
)
from tests.build import ip, pool, selector, service, span

NOW = 1_790_000_000.0
HTTP, HTTPS = (Port("TCP", 80),), (Port("TCP", 443),)
LAN = pool("lan", "192.0.2.1-192.0.2.2", cooldown_s=60.0)
ONE = pool("lan", "192.0.2.1", cooldown_s=60.0)


def slot(text: str) -> Slot:
    return slot_of(ip(text))


class World:
    """A cluster whose services hold at once what is decided; each turn does what the controller does."""

    def __init__(self, *pools: Pool, now: float = NOW) -> None:
        self.pools = pools
        self.now = now
        self.services: dict[str, Service] = {}
        self.changed: set[str] = set()
        self.standing = Standing()
        self.coolings = Coolings()
        self.cooling: Mapping[Slot, Cooling] = {}  # that the last turn went by

    def apply(self, *services: Service) -> "World":
        for one in services:
            known = self.services.get(one.key, one)
            self.services[one.key] = replace(
                one, held=known.held, held_pool=known.held_pool, given=known.given
            )
            self.changed.add(one.key)
        return self

    def delete(self, *names: str) -> "World":
        for name in names:
            self.services.pop(f"default/{name}", None)
            self.changed.add(f"default/{name}")
        return self

    def later(self, seconds: float) -> "World":
        self.now += seconds
        return self

    def turn(self) -> dict[str, str]:
        """What each service ends with, as text."""
        by_name = {one.name: one for one in self.pools}
        changed, self.changed = self.changed, set()
        for key in sorted(changed):
            held = self.services[key].held if key in self.services else ()
            self.coolings.lost(key, self.standing.results.get(key), held, by_name, self.now)
        self.cooling = self.coolings.active(self.now)
        turns = self.standing.update(self.pools, {}, self.cooling, self.services, changed)
        self.coolings.turned(turns, by_name, self.now)
        for key, result in self.standing.results.items():
            has = (result.ips, result.pool) if isinstance(result, Allocation) else ((), None)
            self.services[key] = replace(self.services[key], held=has[0], held_pool=has[1], given=has[0])
        return {
            key.removeprefix("default/"): (
                " ".join(map(str, r.ips)) if isinstance(r, Allocation) else r.reason.value
            )
            for key, r in self.standing.results.items()
        }

    def ends(self) -> dict[str, float]:
        """What is cooling, and for how many seconds from NOW."""
        cooling = self.coolings.active(self.now)
        return {str(address(*one)): cooling[one].until - NOW for one in sorted(cooling)}


def test_what_one_leaves_another_gets_after_the_cooldown() -> None:
    world = World(ONE).apply(service("a"))
    assert world.turn() == {"a": "192.0.2.1"}
    assert world.delete("a").apply(service("b")).turn() == {"b": "PoolExhausted"}
    assert world.coolings.next_end() == NOW + 60
    assert world.later(59.9).turn() == {"b": "PoolExhausted"}
    assert world.later(0.1).turn() == {"b": "192.0.2.1"}
    assert world.coolings.next_end() is None


def test_who_comes_back_gets_its_ip_back_though_a_lower_one_is_free() -> None:
    world = World(LAN).apply(service("a"), service("b"))
    world.turn()
    world.delete("a", "b").turn()
    assert world.apply(service("b")).turn() == {"b": "192.0.2.2"}
    assert world.ends() == {"192.0.2.1": 60}
    assert world.apply(service("c")).turn() == {"b": "192.0.2.2", "c": "PoolExhausted"}


def test_without_a_cooldown_nothing_cools() -> None:
    world = World(replace(ONE, cooldown_s=0.0), now=NOW + 0.5).apply(service("a"))
    world.turn()
    assert world.delete("a").apply(service("b")).turn() == {"b": "192.0.2.1"}
    assert world.ends() == {}


def test_a_fraction_of_a_second_counts_as_a_whole_one() -> None:
    """A status says whole seconds: what was restored from it must not end earlier."""
    world = World(replace(ONE, cooldown_s=0.5), now=NOW + 0.6).apply(service("a"))
    world.turn()
    world.delete("a").turn()
    assert world.ends() == {"192.0.2.1": 2.0}


def test_who_moves_leaves_a_cooling_ip_behind_in_the_same_pass() -> None:
    world = World(LAN).apply(service("a", created="1"), service("b", created="2"))
    world.turn()
    assert world.delete("b").later(60).turn() == {"a": "192.0.2.1"}
    world.later(60).turn()
    moving = service("a", created="1", requested_ips="192.0.2.2")
    waiting = service("c", created="2")
    assert world.apply(moving, waiting).turn() == {"a": "192.0.2.2", "c": "PoolExhausted"}
    assert world.ends() == {"192.0.2.1": 180}
    assert world.apply(service("a", requested_ips="192.0.2.1")).turn()["a"] == "192.0.2.1", "and back"
    assert world.ends() == {"192.0.2.2": 180}


def test_of_two_that_share_the_last_to_leave_lets_it_cool() -> None:
    shared = [service("a", sharing_key="k", ports=HTTP), service("b", sharing_key="k", ports=HTTPS)]
    world = World(ONE).apply(*shared)
    assert world.turn() == {"a": "192.0.2.1", "b": "192.0.2.1"}
    third = service("c", sharing_key="k", ports=HTTP)
    assert world.delete("a").apply(third).turn() == {"b": "192.0.2.1", "c": "192.0.2.1"}, "it is in use"
    world.later(10).delete("b").turn()
    world.later(10).delete("c").turn()
    assert world.ends() == {"192.0.2.1": 80}
    assert world.later(50).apply(service("d")).turn() == {"d": "PoolExhausted"}
    assert world.later(10).turn() == {"d": "192.0.2.1"}


def test_both_leave_at_once() -> None:
    world = World(ONE).apply(service("a", sharing_key="k"), service("b", sharing_key="k", ports=HTTPS))
    world.turn()
    assert world.delete("a", "b").apply(service("c")).turn() == {"c": "PoolExhausted"}
    assert world.ends() == {"192.0.2.1": 60}


def test_it_is_the_same_mapping_as_long_as_it_says_the_same() -> None:
    """By that, `Standing` knows that it need not look for what is free from the beginning."""
    coolings = Coolings()
    coolings.restore(LAN, [Released(ip("192.0.2.1"), "default/a", 10.0), Released(ip("192.0.2.2"), "", 20.0)])
    first = coolings.active(0.0)
    assert first == {
        slot("192.0.2.1"): Cooling("default/a", "lan", 10.0),
        slot("192.0.2.2"): Cooling("", "lan", 20.0),
    }
    coolings.restore(LAN, [Released(ip("192.0.2.1"), "default/a", 10.0)])
    assert coolings.active(9.9) is first
    assert coolings.next_end() == 10.0
    second = coolings.active(10.0)
    assert second == {slot("192.0.2.2"): Cooling("", "lan", 20.0)}
    coolings.restore(LAN, [Released(ip("192.0.2.1"), "default/a", 30.0)])
    assert [one.until for one in second.values()] == [20.0], "what was given out does not change"


# --- after a restart ------------------------------------------------------------------------------------


def test_what_was_cooling_before_a_restart_still_is() -> None:
    world = World(LAN).apply(service("b"))
    released = [
        Released(ip("192.0.2.1"), "default/a", NOW + 30),
        Released(ip("198.51.100.1"), "x/y", NOW + 30),
    ]
    world.coolings.restore(LAN, released)
    world.coolings.restore(replace(LAN, cooldown_s=0.0), [Released(ip("192.0.2.2"), "default/c", NOW + 30)])
    assert world.turn() == {"b": "192.0.2.2"}
    assert world.ends() == {"192.0.2.1": 30}
    assert world.apply(service("a")).turn()["a"] == "192.0.2.1", "and its owner is known"


def test_what_was_in_use_and_nobody_holds_was_released_unseen() -> None:
    world = World(LAN)
    held = frozenset({slot("192.0.2.2"), slot("2001:db8::1"), (6, int(ip("192.0.2.1")))})
    world.coolings.missing(LAN, [span("192.0.2.1-192.0.2.2"), span("2001:db8::1")], held, NOW)
    assert world.ends() == {"192.0.2.1": 60}
    assert world.apply(service("a", requested_ips="192.0.2.1")).turn() == {"a": Reason.COOLING_DOWN.value}
    world.coolings.missing(replace(LAN, cooldown_s=0.0), [span("192.0.2.2")], frozenset(), NOW + 0.5)
    assert world.ends() == {"192.0.2.1": 60}


@pytest.mark.parametrize(
    ("story", "in_use", "count"),
    [
        ("as many as there may be", span("2001:db8::-2001:db8::ffff"), 1 << 16),
        ("more than we ever write", span("2001:db8::-2001:db8::1:0"), 0),
        ("all there are", span("::-ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff"), 0),
        ("it ends before it starts", Range(ip("192.0.2.9"), ip("192.0.2.1")), 0),
    ],
)
def test_a_status_that_somebody_else_wrote_does_not_fill_the_memory(
    story: str, in_use: Range, count: int
) -> None:
    coolings = Coolings()
    coolings.missing(pool("lan", "2001:db8::-2001:db8:1::", cooldown_s=9.0), [in_use], frozenset(), NOW)
    assert len(coolings.active(NOW)) == count


# --- for all clusters -----------------------------------------------------------------------------------

GOLD = ServiceAllocation(service_selectors=(selector(tier="gold"),))
POOLS = (
    pool("small", "192.0.2.0-192.0.2.2", cooldown_s=10.0),
    pool("dual", "198.51.100.0-198.51.100.1", "2001:db8::-2001:db8::1", cooldown_s=25.0, strategy="Random"),
    pool("gold", "203.0.113.0-203.0.113.1", cooldown_s=25.0, service_allocation=GOLD),
)
KEYS = "abcdef"
some_service = st.builds(
    service,
    st.sampled_from(KEYS),
    created=st.sampled_from(["1", "2", "3"]),
    families=st.sampled_from([(4,), (4,), (6,), (4, 6), ()]),
    ip_family_policy=st.sampled_from(["SingleStack", "PreferDualStack"]),
    labels=st.sampled_from([{}, {"tier": "gold"}]),
    ports=st.sampled_from([HTTP, HTTPS]),
    sharing_key=st.sampled_from([None, None, "k"]),
    requested_pool=st.sampled_from([None, None, "small", "dual"]),
    requested_ips=st.lists(st.sampled_from(["192.0.2.0", "192.0.2.1", "198.51.100.0"]), max_size=1),
)
an_event = st.one_of(
    st.tuples(st.just("apply"), some_service),
    st.tuples(st.just("delete"), st.sampled_from(KEYS)),
    st.tuples(st.just("tick"), st.sampled_from([0.5, 4.0, 11.0, 30.0])),
)


def outcomes(results: Mapping[str, Result]) -> dict[str, object]:
    """Without messages: of two that share an IP, either may be named as the one who is in the way."""
    return {key: r if isinstance(r, Allocation) else (r.reason, r.pools) for key, r in results.items()}


def holders(results: Mapping[str, Result]) -> dict[Slot, set[str]]:
    found: dict[Slot, set[str]] = {}
    for key, result in results.items():
        for one in result.ips if isinstance(result, Allocation) else ():
            found.setdefault(slot_of(one), set()).add(key)
    return found


@settings(max_examples=200, deadline=None)
@given(st.lists(st.tuples(an_event, st.booleans()), min_size=5, max_size=30))
def test_no_ip_goes_from_one_to_another_within_the_cooldown(
    story: list[tuple[tuple[str, object], bool]],
) -> None:
    world = World(*POOLS)
    had: dict[Slot, set[str]] = {}
    left: dict[Slot, tuple[set[str], float]] = {}  # who had an IP last, and until when
    for (what, value), together in story:
        if isinstance(value, Service):
            world.apply(value)
        elif isinstance(value, str):
            world.delete(value)
        elif isinstance(value, float):
            world.later(value)
        if together and what == "apply":
            continue  # the next event comes in the same turn
        asked = dict(world.services)
        world.turn()
        whole = allocate(POOLS, asked.values(), {}, world.cooling)
        assert outcomes(world.standing.results) == outcomes(whole)
        has = holders(whole)
        for one in had.keys() | has.keys():
            if one not in has:
                left[one] = had[one], world.now
            elif one in had:
                agreed = all(asked[key].sharing_key for key in has[one] | had[one] & asked.keys())
                assert had[one] & has[one] or agreed, f"{one} goes from one to another at once"
            else:
                who, when = left.get(one, (has[one], 0.0))
                cooled_s = 10.0 if address(*one) in POOLS[0] else 25.0
                assert has[one] & who or world.now >= when + cooled_s, f"{one} was of {who} until {when}"
        had = has
