"""Allocations from change to change are those of a whole pass, whatever happens in between."""

from collections.abc import Mapping
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lbspeaker.core import standing
from lbspeaker.core.allocator import allocate, settle
from lbspeaker.core.book import Cooling
from lbspeaker.core.pools import Slot
from lbspeaker.core.standing import Standing, Turn
from lbspeaker.core.usage import usage
from lbspeaker.model import (
    Allocation,
    Namespace,
    Pool,
    Port,
    Reservation,
    Service,
    ServiceAllocation,
)
from tests.build import ips, pool, selector, service

HTTP, HTTPS = (Port("TCP", 80),), (Port("TCP", 443),)
SHOP = ServiceAllocation(namespaces=frozenset({"shop"}))
GOLD = ServiceAllocation(priority=3, service_selectors=(selector(tier="gold"),))
TEAM = ServiceAllocation(namespace_selectors=(selector(team="a"),), exclusive=True)
RESERVED = (Reservation("default/a", ips("192.0.2.2")), Reservation("shop/b", ips("192.0.2.3")))

some_pools = st.lists(
    st.sampled_from(
        [
            pool("small", "192.0.2.0-192.0.2.3", reservations=RESERVED),
            pool("small", "192.0.2.1-192.0.2.3", avoid_buggy_ips=True, namespace_quota=2),
            pool("small", "192.0.2.1-192.0.2.1", on_shrink="Renumber"),
            pool("small", "192.0.2.0-192.0.2.3", disabled=True),
            pool("dual", "198.51.100.0-198.51.100.5", "2001:db8::-2001:db8::3", strategy="Random"),
            pool("dual", "198.51.100.0-198.51.100.2", "2001:db8::-2001:db8::1", sharing="Namespace"),
            pool("shop", "203.0.113.0-203.0.113.1", service_allocation=SHOP),
            pool("gold", "203.0.113.2-203.0.113.3", service_allocation=GOLD, auto_assign=False),
            pool("team", "203.0.113.4-203.0.113.5", "2001:db8:4::", service_allocation=TEAM),
        ]
    ),
    min_size=1,
    max_size=4,
    unique_by=lambda one: one.name,
)
ADDRESSES = ["192.0.2.0", "192.0.2.1", "192.0.2.2", "198.51.100.0", "203.0.113.0", "203.0.113.4", "10.0.0.1"]
KEYS = [f"{ns}/{n}" for ns in ("default", "shop", "team") for n in "abcde"]
some_service = st.builds(
    service,
    st.sampled_from(KEYS),
    uid=st.sampled_from(["", "1"]),
    created=st.sampled_from(["1", "2", "3"]),
    labels=st.sampled_from([{}, {"tier": "gold"}]),
    families=st.sampled_from([(), (4,), (4,), (6,), (4, 6), (6, 4)]),
    ip_family_policy=st.sampled_from(["SingleStack", "PreferDualStack", "RequireDualStack"]),
    local=st.booleans(),
    ports=st.sampled_from([HTTP, HTTPS, HTTP + HTTPS]),
    sharing_key=st.sampled_from([None, None, "k", "l"]),
    requested_pool=st.sampled_from([None, None, None, "small", "dual", "team", "nowhere"]),
    requested_ips=st.lists(st.sampled_from(ADDRESSES), max_size=1),
)
held = st.one_of(
    st.just(()),
    st.tuples(st.sampled_from(ADDRESSES)),
    st.tuples(st.sampled_from(ADDRESSES), st.sampled_from(["2001:db8::", "2001:db8::1"])),
)
cooling_slots = st.dictionaries(
    st.sampled_from([(one.version, int(one)) for one in ips(*ADDRESSES[:6])]),
    st.builds(Cooling, st.sampled_from(KEYS), st.just("small"), st.just(9.0)),
    max_size=2,
)
# What leads to a whole pass (pools, labels) is rare: between two of them the book must stay right.
WHATS = ["apply"] * 8 + ["edit"] * 3 + ["delete"] * 4 + ["written"] * 3 + ["all written"] * 3
VALUES = {
    "apply": some_service,
    "edit": st.tuples(some_service, held),
    "delete": st.sampled_from(KEYS),
    "written": st.sampled_from(KEYS),
    "all written": st.none(),
    "cool": cooling_slots,
    "pools": some_pools,
    "label": st.sampled_from(["a", "b"]),
}
an_event = st.sampled_from([*WHATS, "cool", "pools", "label"]).flatmap(
    lambda what: st.tuples(st.just(what), VALUES[what])
)


class World:
    """A cluster, as a controller sees it that writes some of what it decides."""

    def __init__(self, pools: list[Pool]) -> None:
        self.pools = tuple(pools)
        self.namespaces = {"team": Namespace("team", {"team": "a"})}
        self.cooling: Mapping[Slot, Cooling] = {}
        self.services: dict[str, Service] = {}
        self.standing = Standing()
        self.changed: set[str] = set()

    def happen(self, what: str, value: object) -> None:
        if what == "apply" and isinstance(value, Service):
            known = self.services.get(value.key)
            kept = {"held": known.held, "held_pool": known.held_pool, "given": known.given} if known else {}
            self._set(replace(value, **kept))
        elif what == "edit" and isinstance(value, tuple):
            self._set(replace(value[0], held=ips(*value[1]), held_pool="small", given=ips(*value[1])))
        elif what == "delete" and self.services.pop(str(value), None):
            self.changed.add(str(value))
        elif what == "written":
            self._write(str(value))
        elif what == "all written":
            for key in self.services:
                self._write(key)
        elif what == "cool" and isinstance(value, dict):
            self.cooling = value
        elif what == "pools" and isinstance(value, list):
            self.pools = tuple(value)
        elif what == "label":
            self.namespaces = {"team": Namespace("team", {"team": str(value)})}

    def _set(self, value: Service) -> None:
        self.services[value.key] = value
        self.changed.add(value.key)

    def _write(self, key: str) -> None:
        """The status of a service becomes what was decided: no change, as far as decisions go."""
        result, known = self.standing.results.get(key), self.services.get(key)
        if known and isinstance(result, Allocation):
            self.services[key] = replace(known, held=result.ips, held_pool=result.pool, given=result.ips)

    def turn(self) -> list[Turn]:
        changed, self.changed = self.changed, set()
        return self.standing.update(self.pools, self.namespaces, self.cooling, self.services, changed)


@settings(max_examples=150, deadline=None)
@given(
    some_pools,
    st.lists(some_service, min_size=5, max_size=15),
    st.lists(st.tuples(an_event, st.sampled_from([False, False, True])), min_size=10, max_size=25),
)
def test_it_is_the_same_as_a_whole_pass(
    pools: list[Pool], services: list[Service], story: list[tuple[tuple[str, object], bool]]
) -> None:
    world = World(pools)
    for one in services:
        world.happen("apply", one)
    world.turn()
    world.happen("all written", None)
    before: dict[str, object] = dict(world.standing.results)
    for (what, value), together in story:
        world.happen(what, value)
        if together:
            continue  # the next event comes in the same turn
        turns = world.turn()
        whole = allocate(world.pools, world.services.values(), world.namespaces, world.cooling)
        assert world.standing.results == whole
        assert {t.key: t.after for t in turns} == {
            key: whole.get(key) for key in before.keys() | whole.keys() if before.get(key) != whole.get(key)
        }
        counted = usage(whole, world.pools)
        for its in world.pools:
            assert world.standing.usage.of(its.name) == counted.of(its.name)
            assert list(world.standing.usage.spans(its.name)) == list(counted.spans(its.name))
        before = dict(whole)


def test_a_change_of_one_service_asks_nobody_who_is_content() -> None:
    world = World([pool("lan", "192.0.2.1-192.0.2.99")])
    for number in range(50):
        world.happen("apply", service(f"s{number:02}"))
    world.turn()
    world.happen("all written", None)
    world.happen("apply", service("new"))
    settled: list[str] = []
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(standing, "settle", lambda book, one: settled.append(one.key) or settle(book, one))
        (turn,) = world.turn()
    assert settled == ["default/new"]
    assert turn == Turn("default/new", None, Allocation(ips("192.0.2.51"), ("lan",)))
    assert world.turn() == []


def test_somebody_older_who_claims_what_the_content_hold_concerns_them() -> None:
    world = World([pool("lan", "192.0.2.1-192.0.2.3")])
    for name, created in (("young", "2"), ("other", "2")):
        world.happen("apply", service(name, created=created))
    world.turn()
    world.happen("all written", None)
    assert world.turn() == []
    world.happen("edit", (service("old", created="1"), ["192.0.2.1"]))
    turns = {turn.key: turn.after for turn in world.turn()}
    assert turns == {
        "default/old": Allocation(ips("192.0.2.1"), ("lan",)),
        "default/other": Allocation(ips("192.0.2.3"), ("lan",)),
    }
    assert world.standing.results["default/young"] == Allocation(ips("192.0.2.2"), ("lan",))
