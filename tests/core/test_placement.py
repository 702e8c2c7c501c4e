"""Owners other than by the ranking: calm, a few at a time, and at rest in the end."""

import math
import random
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import replace

import pytest

from lbspeaker.core.layer2 import l2
from lbspeaker.core.nodes import holders
from lbspeaker.core.placement import AT_A_TIME, CALM_S, FLAP_S, MOST_PINS, Flapping, Placement
from lbspeaker.model import Address, L2Advertisement, L2Announcement, Node, NodePreference, Pin
from tests.build import LAN, ip, pool, selector, service, snapshot

WEB = ip("192.0.2.10")
ABC = {name: Node(name) for name in "abc"}


def one(
    owner: str, ranking: str = "a b c", without: str = "", **fields: object
) -> dict[Address, L2Announcement]:
    """The IP `WEB` at `owner`, that nodes of this ranking may announce, `without` some."""
    places = [node for node in ranking.split() if node not in without.split()]
    candidates = (owner, *(node for node in places if node != owner))
    fields.setdefault("equals", frozenset(candidates))
    found = L2Announcement(WEB, ("default/web",), candidates, ranking=tuple(ranking.split()), **fields)  # type: ignore[arg-type]
    return {WEB: found}


def many(*owners: tuple[str, int], nodes: str = "a b c", **fields: object) -> dict[Address, L2Announcement]:
    """So many IPs each at these nodes, which are first in the ranking there."""
    found = {}
    for owner, count in owners:
        for _ in range(count):
            address = ip(f"192.0.2.{len(found) + 1}")
            ranking = (owner, *(node for node in nodes.split() if node != owner))
            more = {"equals": frozenset(ranking), **fields}
            found[address] = L2Announcement(address, ("default/s",), ranking, ranking=ranking, **more)  # type: ignore[arg-type]
    return found


def calm(
    node: str, owners: dict[Address, L2Announcement], before: dict[Address, L2Announcement] | None = None
) -> tuple[Placement, float]:
    """The placement of `node`, when nothing has moved for long enough; and that moment.

    `before`: who owned what before that.
    """
    placement = Placement(node)
    if before is not None:
        placement.observe({**owners, **before}, 0.0)
    placement.observe(owners, 0.0)
    return placement, CALM_S


# --- a cluster: every speaker decides by itself, and sees what the others wrote a little later -----------


class Cluster:
    """A placement on each node, and the pins that each has written."""

    def __init__(self, services: int, nodes: str, *, seed: int = 1, delay: int = 1, **ad: object) -> None:
        many = [service(f"s{n}", held=f"198.51.{n // 200}.{n % 200 + 1}") for n in range(services)]
        pools = (LAN, pool("wide", "198.51.0.0-198.51.255.255"))
        self.world = snapshot(*many, nodes=nodes, pools=pools, l2=(L2Advertisement("l2", **ad),))  # type: ignore[arg-type]
        self.placements = {node: Placement(node) for node in nodes.split()}
        self.now = 0.0
        self.moves: Counter[Address] = Counter()
        self.owners: dict[Address, L2Announcement] = {}
        self.most_at_a_time = 0
        self._random = random.Random(seed)
        self._delay = delay
        self._seen: dict[str, dict[Address, Pin]] = {node: {} for node in self.placements}
        self._on_the_way: list[tuple[float, str, dict[Address, Pin]]] = []

    def run(self, seconds: int) -> None:
        for _ in range(seconds):
            self.second()

    def second(self) -> None:
        self.now += 1.0
        arrived = [way for way in self._on_the_way if way[0] <= self.now]
        self._on_the_way = [way for way in self._on_the_way if way[0] > self.now]
        for _, node, pins in arrived:
            self._seen[node] = pins
        self._elect()
        for node in self.world.members:
            placement = self.placements[node]
            placement.observe(self.owners, self.now)
            written = placement.advance(self.owners, self.pins, self.world.nodes, self.now)
            if written is not None:
                arrives = self.now + self._random.randint(1, self._delay)
                self._on_the_way.append((arrives, node, dict(written)))

    def _elect(self) -> None:
        before = self.owners
        world = replace(self.world, pins=self.pins)
        self.owners, _ = l2(world, holders(world.services.values()))
        moved = [ip for ip, found in self.owners.items() if ip in before and before[ip].owner != found.owner]
        self.moves.update(moved)
        self.most_at_a_time = max(self.most_at_a_time, len(moved))

    @property
    def pins(self) -> dict[Address, Pin]:
        found: dict[Address, Pin] = {}
        for pins in self._seen.values():
            for address, pin in pins.items():
                if address not in found or pin.term > found[address].term:
                    found[address] = pin
        return found

    @property
    def loads(self) -> Counter[str]:
        return Counter(found.owner for found in self.owners.values())

    def lives(self, nodes: str) -> None:
        """Only these speakers live now."""
        self.world = replace(self.world, members=frozenset(nodes.split()))

    def cordon(self, *nodes: str) -> None:
        known = {name: replace(node, cordoned=name in nodes) for name, node in self.world.nodes.items()}
        self.world = replace(self.world, nodes=known)

    def at_rest(self, seconds: int = 30) -> bool:
        """Whether nothing moves, and nothing is written, for so long."""
        before = self.moves.total()
        self.run(seconds)
        return self.moves.total() == before and not self._on_the_way


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize(
    ("services", "nodes"), [(60, "a b c"), (31, "a b c d e"), (7, "a b c d"), (40, "a b c d e f g h")]
)
def test_loads_become_even_and_then_nothing_moves_any_more(services: int, nodes: str, seed: int) -> None:
    names = nodes.split()
    cluster = Cluster(services, nodes, seed=seed, delay=3)
    cluster.lives(" ".join(names[: 1 + seed % 2]))  # the others come later, all at once
    cluster.run(20)
    cluster.lives(nodes)
    cluster.run(30)
    while not cluster.at_rest():
        assert cluster.now < 600
    assert max(cluster.loads.values()) <= math.ceil(1.25 * services / len(names))
    assert max(cluster.moves.values(), default=0) <= 2, "once when others came, and once to be even"


@pytest.mark.parametrize("seed", range(4))
def test_a_member_that_leaves_moves_its_own_ips_and_no_others(seed: int) -> None:
    cluster = Cluster(40, "a b c d", seed=seed)
    while not cluster.at_rest():
        pass
    before = cluster.owners
    cluster.lives("a b c")
    cluster.second()
    moved = {address for address, found in cluster.owners.items() if before[address].owner != found.owner}
    assert moved == {address for address, found in before.items() if found.owner == "d"}


def test_after_many_joins_leaves_and_cordons_it_is_at_rest_again_and_even() -> None:
    roll = random.Random(7)
    cluster = Cluster(40, "a b c d e", seed=7, delay=3, on_cordon="Move")
    for _ in range(12):
        cluster.lives(" ".join(roll.sample("abcde", roll.randint(2, 5))))
        cluster.cordon(*roll.sample("abcde", roll.randint(0, 1)))
        cluster.run(roll.randint(5, 40))
    cluster.lives("a b c d e")
    cluster.cordon()
    began = cluster.now
    cluster.run(int(FLAP_S))
    while not cluster.at_rest():
        assert cluster.now < began + 1000
    assert max(cluster.loads.values()) <= math.ceil(1.25 * 40 / 5)


def test_what_a_cordon_moved_to_nodes_that_are_less_preferred_comes_back() -> None:
    fast = NodePreference(10, selector(disk="fast"))
    cluster = Cluster(12, "a b c", preferences=(fast,), on_cordon="Move")
    nodes = {**cluster.world.nodes, "a": Node("a", labels={"disk": "fast"})}
    cluster.world = replace(cluster.world, nodes=nodes)
    while not cluster.at_rest():
        pass
    assert cluster.loads == {"a": 12}
    cluster.cordon("a")
    while not cluster.at_rest():
        assert cluster.now < 1000
    assert cluster.loads == {"b": 6, "c": 6}
    cluster.cordon()
    while not cluster.at_rest():
        assert cluster.now < 2000
    assert cluster.loads == {"a": 12}


def test_preferred_nodes_share_among_themselves() -> None:
    fast = NodePreference(10, selector(disk="fast"))
    cluster = Cluster(40, "a b c d", preferences=(fast,))
    labels = {"disk": "fast"}
    nodes = {n: replace(node, labels=labels if n in "ab" else {}) for n, node in cluster.world.nodes.items()}
    cluster.world = replace(cluster.world, nodes=nodes)
    while not cluster.at_rest():
        pass
    assert set(cluster.loads) == {"a", "b"}
    assert max(cluster.loads.values()) <= 25


# --- spread ---------------------------------------------------------------------------------------------


def test_a_few_go_at_a_time_and_none_before_it_is_calm() -> None:
    owners = many(("a", 30))
    placement = Placement("a")
    placement.observe(owners, 5.0)
    assert placement.advance(owners, {}, ABC, 5.0) is None
    assert placement.next_wakeup(5.0) == 5.0 + CALM_S
    assert placement.advance(owners, {}, ABC, 4.99 + CALM_S) is None
    pins = placement.advance(owners, {}, ABC, 5.0 + CALM_S)
    assert pins is not None
    assert len(pins) == AT_A_TIME
    assert {pin.node for pin in pins.values()} == {"b"}
    assert placement.next_wakeup(5.0 + CALM_S) is None
    assert placement.mine == pins


def test_what_is_written_down_already_is_not_written_again_while_nobody_sees_it_yet() -> None:
    owners = many(("a", 30))
    placement, now = calm("a", owners)
    pins = placement.advance(owners, {}, ABC, now)
    assert [placement.advance(owners, {}, ABC, now + second) for second in range(5)] == [None] * 5
    assert placement.mine == pins
    assert pins is not None
    assert {pin.term for pin in pins.values()} == {1}


SPREAD = {
    "five and one: six of three are two for each, at most three": ((("a", 5), ("b", 1)), 2),
    "a quarter more than the average is no cause": ((("a", 5), ("b", 4), ("c", 3)), 0),
    "more than that is": ((("a", 6), ("b", 3), ("c", 3)), 1),
    "a fraction is rounded up": ((("a", 3), ("b", 1), ("c", 1)), 0),
    "to who has less than the average, if only by a fraction": ((("a", 4), ("b", 1), ("c", 0)), 1),
    "one alone is no excess": ((("a", 1),), 0),
}


@pytest.mark.parametrize(("counts", "given_away"), SPREAD.values(), ids=SPREAD)
def test_how_many_it_gives_away(counts: tuple[tuple[str, int], ...], given_away: int) -> None:
    owners = many(*counts)
    placement, now = calm("a", owners)
    assert len(placement.advance(owners, {}, ABC, now) or {}) == given_away


def test_the_others_leave_it_to_who_has_too_much() -> None:
    owners = many(("a", 30))
    placement, now = calm("b", owners)
    assert placement.advance(owners, {}, ABC, now) is None


def test_who_has_the_average_already_gets_no_more() -> None:
    owners = many(("a", 9), ("b", 5), ("c", 1))
    placement, now = calm("a", owners)
    given = placement.advance(owners, {}, ABC, now)
    assert given is not None
    assert [pin.node for pin in given.values()] == ["c", "c"]


def test_it_goes_to_who_has_room_and_is_neither_cordoned_nor_less_preferred() -> None:
    owners = many(("a", 9), nodes="a b c d")
    placement, now = calm("a", owners)
    nodes = {**ABC, "b": Node("b", cordoned=True), "d": Node("d")}
    given = placement.advance(owners, {}, nodes, now)
    assert given is not None
    assert Counter(pin.node for pin in given.values()) == {"c": 3, "d": 1}
    owners = many(("a", 9), nodes="a b c", equals=frozenset({"a", "c"}))
    placement, now = calm("a", owners)
    given = placement.advance(owners, {}, ABC, now)
    assert given is not None
    assert {pin.node for pin in given.values()} == {"c"}


def test_what_is_here_because_its_first_node_is_away_goes_first() -> None:
    owners = {**many(("a", 9)), **one("a", "b a c", without="b")}
    placement, now = calm("a", owners)
    given = placement.advance(owners, {}, ABC, now)
    assert given is not None
    assert list(given) == [WEB, ip("192.0.2.1"), ip("192.0.2.2"), ip("192.0.2.3")]


def test_a_pin_of_its_own_counts_more_than_the_one_before() -> None:
    owners = many(("a", 30))
    placement, now = calm("a", owners)
    given = placement.advance(owners, {ip("192.0.2.1"): Pin("a", 7)}, ABC, now)
    assert given is not None
    assert given[ip("192.0.2.1")] == Pin("b", 8)


# --- failback: Never ------------------------------------------------------------------------------------


def test_who_took_over_keeps_it_when_the_first_node_returns_if_that_is_wanted() -> None:
    away = one("b", without="a", sticky=True)
    placement, _ = calm("b", away, before=one("a", sticky=True))
    assert placement.advance(away, {}, ABC, 0.0) == {WEB: Pin("b", 1)}, (
        "at once: the first may return at once"
    )
    here = one("b", sticky=True)
    assert placement.advance(here, {WEB: Pin("b", 1)}, ABC, 100.0) is None
    gone = one("c", without="b", sticky=True)
    other, _ = calm("c", gone, before=here)
    assert other.advance(gone, {WEB: Pin("b", 1)}, ABC, 0.0) == {WEB: Pin("c", 2)}
    assert placement.advance(one("c", sticky=True), {WEB: Pin("c", 2)}, ABC, 200.0) == {}, (
        "it is no longer ours"
    )


NOT_KEPT = {
    "who is the first anyway": one("a", sticky=True),
    "where the first may have it again": one("b", without="a"),
    "what is at another node": one("c", without="a b", sticky=True),
    "who is only the first to start": one("b", without="a", sticky=True),
}


@pytest.mark.parametrize("owners", NOT_KEPT.values(), ids=NOT_KEPT)
def test_nothing_is_pinned_by(owners: dict[Address, L2Announcement]) -> None:
    placement = Placement("a" if owners[WEB].owner == "a" else "b")
    placement.observe(owners, 0.0)
    assert placement.advance(owners, {}, ABC, 0.0) is None


def test_what_is_to_stay_is_not_spread() -> None:
    owners = many(("a", 30), sticky=True)
    placement, now = calm("a", owners)
    assert placement.advance(owners, {}, ABC, now) is None


def test_when_it_need_not_stay_any_more_the_pin_is_taken_back() -> None:
    placement, now = calm("b", one("b", without="a", sticky=True), before=one("a"))
    placement.advance(one("b", without="a", sticky=True), {}, ABC, now)
    edited = one("b")
    assert placement.advance(edited, {WEB: Pin("b", 1)}, ABC, now) is None, "the first has no room for one"
    placement.learned({WEB: Pin("b", 1)})
    more = {**edited, **many(("b", 2))}
    assert placement.advance(more, {WEB: Pin("b", 1)}, ABC, now) == {}


def test_what_it_wrote_before_it_was_started_is_still_its_own() -> None:
    placement, now = calm("b", one("b", sticky=True))
    pins = {WEB: Pin("b", 4), ip("192.0.2.77"): Pin("c", 1)}
    placement.learned(pins)
    assert placement.mine == pins
    assert placement.advance(one("b", sticky=True), pins, ABC, now) == {WEB: Pin("b", 4)}, (
        "the other is no IP now"
    )


# --- pins taken back ------------------------------------------------------------------------------------


def test_pins_that_change_nothing_are_taken_back_all_and_those_that_move_an_ip_a_few_at_a_time() -> None:
    owners = many(("a", 10), ("b", 10), ("c", 10))
    placement, now = calm("a", owners)
    placement.learned({address: Pin(found.owner, 1) for address, found in owners.items()})
    assert placement.advance(owners, dict(placement.mine), ABC, now) == {}
    away = {
        address: replace(found, candidates=("b", "a", "c")) if found.owner == "a" else found
        for address, found in owners.items()
    }
    placement, now = calm("a", away)
    placement.learned({address: Pin("b", 1) for address, found in away.items() if found.ranking[0] == "a"})
    left = placement.advance(away, dict(placement.mine), ABC, now)
    assert left is not None
    assert len(left) == 10 - AT_A_TIME


def test_no_more_are_taken_back_than_the_first_node_has_room_for() -> None:
    lent = {address: replace(found, candidates=("b", "a", "c")) for address, found in many(("a", 10)).items()}
    owners = {**many(("a", 10), ("b", 10)), **dict(list(lent.items())[4:])}  # a: 4, b: 16; 6.7 on average
    placement, now = calm("b", owners)
    mine = dict.fromkeys(list(lent)[4:], Pin("b", 1))
    placement.learned(mine)
    left = placement.advance(owners, mine, ABC, now)
    assert left is not None
    assert len(left) == 4, "two of six have room"


def test_a_pin_stays_while_the_first_node_has_no_room_or_is_cordoned_and_would_give_it_away_again() -> None:
    full = {**one("b"), **many(("a", 2), ("b", 1), ("c", 2))}
    roomy = {**one("b"), **many(("a", 1), ("b", 2), ("c", 3))}
    cordoned = {**ABC, "a": Node("a", cordoned=True)}
    moves = {address: replace(found, moves_on_cordon=True) for address, found in roomy.items()}
    for owners, nodes, stays in (
        (full, ABC, True),
        (roomy, ABC, False),
        (roomy, cordoned, False),
        (moves, cordoned, True),
    ):
        placement, now = calm("b", owners)
        placement.learned({WEB: Pin("b", 1)})
        left = placement.advance(owners, {WEB: Pin("b", 1)}, nodes, now)
        assert (left is None) is stays


def test_a_pin_to_a_node_that_may_not_announce_it_is_taken_back() -> None:
    owners = one("a", without="c")
    placement, now = calm("a", owners)
    placement.learned({WEB: Pin("c", 1)})
    assert placement.advance(owners, {WEB: Pin("c", 1)}, ABC, now) == {}


FORGOTTEN = {
    "a later pin of another one counts": ({WEB: Pin("c", 3)}, True),
    "also one of the same term, if it is not like ours": ({WEB: Pin("c", 2)}, True),
    "an earlier one does not": ({WEB: Pin("c", 1)}, False),
    "what we wrote is not seen yet": ({}, False),
}


@pytest.mark.parametrize(("pins", "forgotten"), FORGOTTEN.values(), ids=FORGOTTEN)
def test_whether_ours_is_forgotten(pins: dict[Address, Pin], forgotten: bool) -> None:
    owners = one("b", sticky=True)
    placement = Placement("b")
    placement.observe(owners, 0.0)
    placement.learned({WEB: Pin("b", 2)})
    if forgotten:
        owners = one("c", sticky=True)
    placement.advance(owners, pins, ABC, 0.0)
    assert (WEB not in placement.mine) is forgotten


# --- cordon ---------------------------------------------------------------------------------------------


def test_a_cordoned_node_gives_away_a_few_at_a_time_to_those_with_least() -> None:
    owners = many(("a", 6), ("b", 3), moves_on_cordon=True)
    placement, now = calm("a", owners)
    given = placement.advance(owners, {}, {**ABC, "a": Node("a", cordoned=True)}, now)
    assert given is not None
    assert [pin.node for pin in given.values()] == ["c", "c", "c", "b"]


CORDON = {
    "not where it is not wanted": (one("a"), "a", None),
    "not from another node": (one("b", moves_on_cordon=True), "b", None),
    "not to another cordoned node": (one("a", moves_on_cordon=True), "a b", "c"),
    "not at all, if there is no other": (one("a", moves_on_cordon=True), "a b c", None),
    "rather to one that is as preferred": (
        one("a", moves_on_cordon=True, equals=frozenset({"a", "c"})),
        "a",
        "c",
    ),
    "but also to another": (one("a", moves_on_cordon=True, equals=frozenset({"a"})), "a", "b"),
}


@pytest.mark.parametrize(("owners", "cordoned", "target"), CORDON.values(), ids=CORDON)
def test_where_it_goes(owners: dict[Address, L2Announcement], cordoned: str, target: str | None) -> None:
    placement, now = calm("a", owners)
    nodes = {name: Node(name, cordoned=name in cordoned.split()) for name in "abc"}
    given = placement.advance(owners, {}, nodes, now)
    assert given == ({WEB: Pin(target, 1)} if target else None)


def test_a_cordon_empties_a_node_and_its_end_fills_it_again() -> None:
    cluster = Cluster(30, "a b c", on_cordon="Move")
    while not cluster.at_rest():
        pass
    cluster.cordon("a")
    cluster.most_at_a_time = 0
    while not cluster.at_rest():
        assert cluster.now < 1000
    assert cluster.loads["a"] == 0
    assert cluster.most_at_a_time <= AT_A_TIME
    cluster.cordon()
    while not cluster.at_rest():
        assert cluster.now < 2000
    assert cluster.loads["a"] >= 7
    assert max(cluster.loads.values()) <= 13


def test_a_pin_that_is_not_seen_yet_is_followed_by_a_later_one() -> None:
    owners = one("a", moves_on_cordon=True)
    placement, now = calm("a", owners)
    placement.learned({WEB: Pin("b", 4)})
    nodes = {name: Node(name, cordoned=name in "ab") for name in "abc"}
    assert placement.advance(owners, {WEB: Pin("a", 2)}, nodes, now) == {WEB: Pin("c", 5)}


def test_what_is_to_stay_where_it_went_leaves_a_cordoned_node_all_the_same() -> None:
    owners = one("a", "b a c", without="b", sticky=True, moves_on_cordon=True)
    placement, now = calm("a", owners, before=one("b", "b a c"))
    nodes = {**ABC, "a": Node("a", cordoned=True)}
    assert placement.advance(owners, {}, nodes, now) == {WEB: Pin("c", 2)}
    assert placement.advance(owners, {}, nodes, now + 1) is None


# --- an IP that moves too often -------------------------------------------------------------------------


def flap(placement: Placement, times: Iterable[float], nodes: str = "ab") -> list[Flapping]:
    """Let `WEB` move at these times, from the second of `nodes` to the first at the last of them."""
    moments = list(times)
    placement.observe(one(nodes[len(moments) % 2]), moments[0] - 1)
    news = []
    for number, now in enumerate(moments, 1):
        news += placement.observe(one(nodes[(len(moments) - number) % 2]), now)
    return news


def test_at_the_fourth_move_within_three_minutes_it_is_held_where_it_is() -> None:
    placement = Placement("a")
    assert flap(placement, [500.0, 510.0, 520.0, 680.0]) == [Flapping(WEB, 4)]
    assert placement.observe(one("a"), 681.0) == [], "which is told once"
    assert placement.advance(one("a"), {}, ABC, 681.0) == {WEB: Pin("a", 1)}
    assert placement.next_wakeup(690.0) == 680.0 + FLAP_S


NO_FLAPS: dict[str, Callable[[Placement], list[Flapping]]] = {
    "three moves": lambda p: flap(p, [0.0, 10.0, 20.0]),
    "four in more than three minutes": lambda p: flap(p, [0.0, 10.0, 20.0, 180.1]),
    "four that end at another node, which holds it": lambda p: flap(p, [0.0, 1.0, 2.0, 3.0], "ba"),
}


@pytest.mark.parametrize("moves", NO_FLAPS.values(), ids=NO_FLAPS)
def test_no_ip_is_held_after(moves: Callable[[Placement], list[Flapping]]) -> None:
    placement = Placement("a")
    assert moves(placement) == []
    assert placement.advance(one("a"), {}, ABC, 500.0) is None


def test_it_is_held_for_three_minutes_and_then_goes_where_it_belongs() -> None:
    owners = {**one("a", "b a c"), **many(("b", 1), ("a", 2), ("c", 3))}
    placement = Placement("a")
    for number in range(5):
        placement.observe({**owners, **one("ab"[number % 2], "b a c")}, float(number))
    pins = {WEB: Pin("a", 1)}
    assert placement.advance(owners, {}, ABC, 4.0) == pins
    placement.observe(owners, 5.0)
    assert placement.advance(owners, pins, ABC, 183.9) is None
    assert placement.advance(owners, pins, ABC, 184.0) == {}


def test_what_is_held_neither_spreads_nor_leaves_a_cordoned_node() -> None:
    others = many(("a", 8))
    moving = {**others, **one("a", moves_on_cordon=True)}
    for nodes in (ABC, {**ABC, "a": Node("a", cordoned=True)}):
        placement = Placement("a")
        for number in range(5):
            placement.observe({**moving, **one("ab"[number % 2])}, float(number))
        placement.observe(moving, 5.0)
        written = placement.advance(moving, {WEB: Pin("a", 3)}, nodes, 30.0)
        assert WEB not in (written or {})


def test_moves_from_before_it_was_gone_do_not_count() -> None:
    placement = Placement("a")
    flap(placement, [0.0, 1.0, 2.0])
    placement.observe({}, 3.0)
    placement.observe(one("b"), 4.0)
    assert placement.observe(one("a"), 5.0) == []


def test_who_appears_or_is_gone_in_between_has_not_moved() -> None:
    placement = Placement("a")
    for number in range(8):
        assert placement.observe(one("ab"[number % 2]), number) == []
        assert placement.observe({}, number + 0.5) == []


def test_any_move_and_any_ip_that_comes_or_goes_ends_the_calm() -> None:
    placement = Placement("a")
    for now, owners in enumerate((one("a"), one("b"), {}, one("b"))):
        placement.observe(owners, float(now))
        assert placement.next_wakeup(float(now)) == now + CALM_S
    placement.observe(one("b"), 9.0)
    assert placement.next_wakeup(9.0) == 3.0 + CALM_S


def test_it_never_asks_to_be_woken_in_the_past() -> None:
    placement = Placement("a")
    assert placement.next_wakeup(0.0) is None
    flap(placement, [0.0, 1.0, 2.0, 3.0])
    assert placement.next_wakeup(3.0) == 3.0 + CALM_S
    assert placement.next_wakeup(13.0) == 3.0 + FLAP_S
    assert placement.next_wakeup(183.0) is None, "although nobody has advanced it"


def test_one_lease_holds_so_many_pins_and_no_more() -> None:
    full = {address: Pin("b", 1) for address in map(ip, range(0x0A000000, 0x0A000000 + MOST_PINS))}
    away = one("a", "b a c", without="b", sticky=True)
    owners = {
        **{address: replace(away[WEB], ip=address, candidates=("b",), sticky=True) for address in full},
        **away,
    }
    placement, _ = calm("a", owners, before=one("b", "b a c"))
    placement.learned(full)
    assert placement.advance(owners, full, ABC, 0.0) is None
    room = dict(list(full.items())[1:])
    placement.learned(room)
    assert placement.advance(owners, room, ABC, 0.0) == {**room, WEB: Pin("a", 1)}


def test_moves_are_counted_by_their_direction() -> None:
    placement = Placement("a")
    for number, owner in enumerate("abcaa"):
        placement.observe(one(owner), float(number))
    assert placement.turnover == {"out": 1, "elsewhere": 1, "in": 1}
    placement.observe({}, 9.0)
    placement.observe(one("b"), 10.0)
    assert placement.turnover.total() == 3, "who takes what nobody had moves nothing"


def test_moves_are_counted_for_an_hour_wherever_the_ip_is() -> None:
    placement = Placement("c")
    flap(placement, (10.0, 20.0, 3000.0))
    (ip,) = one("a")
    assert placement.moved(3001.0) == {ip: 3}, "it was never here"
    assert placement.moved(3700.0) == {ip: 1}
    assert placement.moved(9000.0) == {}
