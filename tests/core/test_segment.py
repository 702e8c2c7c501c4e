"""Who lives on a segment: heard both ways, missed by a majority, and never revived by a recording."""

import itertools
import math
from dataclasses import dataclass, field

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lbspeaker.core.segment import (
    EVERY_S,
    FORMER,
    MOST_MEMBERS,
    RETURN_S,
    SILENT_AFTER_S,
    SUSPECT_EVERY_S,
    Segment,
    View,
)
from lbspeaker.model import Heard, Hello

HEARD, SILENT, DEAD = Heard.HEARD, Heard.SILENT, Heard.DEAD
DELAY_S = 0.001


def boot(name: str, start: int = 1) -> bytes:
    return f"{name}{start}".encode().ljust(8)


def mac(node: str) -> bytes:
    return node.encode().rjust(6, b"\x02")


@dataclass
class Wire:
    """Segments that hear each other a millisecond later, unless they are dead or cut off."""

    names: str
    gateway: bool = False  # whether there is one, and it answers
    now: float = 0.0
    dead: set[str] = field(default_factory=set)
    deaf: set[tuple[str, str]] = field(default_factory=set)  # (who, whom it does not hear)
    leaving: set[str] = field(default_factory=set)
    stale: set[str] = field(default_factory=set)
    silenced: set[str] = field(default_factory=set)  # cut off from the gateway
    said: list[tuple[float, Hello]] = field(default_factory=list)
    asked: list[tuple[float, str]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.segments: dict[str, Segment] = {}
        self._on_the_way: list[tuple[float, str, Hello]] = []
        self._starts: dict[str, int] = {}
        for name in self.names.split():
            self.start(name)

    def start(self, name: str) -> None:
        """Start an answerer, or start it again."""
        self._starts[name] = self._starts.get(name, 0) + 1
        self.segments[name] = Segment(name, boot(name, self._starts[name]), self.now, witness=self.gateway)
        self.dead.discard(name)

    def cut_off(self, *names: str) -> None:
        """These hear nobody, and nobody hears them."""
        for one in names:
            self.deaf |= {pair for other in self.segments for pair in ((one, other), (other, one))}
            self.silenced.add(one)

    def mend(self) -> None:
        self.deaf, self.silenced = set(), set()

    def run(self, seconds: float) -> None:
        until = self.now + seconds
        while True:
            living = [name for name in self.segments if name not in self.dead]
            moments = [self.segments[name].next_wakeup() for name in living]
            moments += [at for at, *_ in self._on_the_way]
            if min(moments, default=math.inf) > until:
                break
            assert min(moments) >= self.now or self.now == 0.0, "nobody is woken for what is past"
            self.now = min(moments)
            self._deliver()
            for name in living:
                self._tick(name)
        self.now = until

    def _deliver(self) -> None:
        arrived = [way for way in self._on_the_way if way[0] <= self.now]
        self._on_the_way = [way for way in self._on_the_way if way[0] > self.now]
        for _, to, hello in arrived:
            if to not in self.dead and (to, hello.node) not in self.deaf:
                self.segments[to].heard(hello, mac(hello.node), self.now)

    def _tick(self, name: str) -> None:
        segment = self.segments[name]
        hello = segment.due(self.now, stale=name in self.stale, leaving=name in self.leaving)
        if hello is not None:
            self.said.append((self.now, hello))
            others = [other for other in self.segments if other != name]
            self._on_the_way += [(self.now + DELAY_S, other, hello) for other in others]
        if segment.asks_witness(self.now):
            self.asked.append((self.now, name))
            if name not in self.silenced:
                segment.witnessed(self.now)
        assert segment.next_wakeup() > self.now

    def alive(self, name: str) -> str:
        return " ".join(sorted(self.segments[name].view().alive))

    def buried(self, name: str) -> str:
        return " ".join(sorted(self.segments[name].view().dead))

    def hellos_of(self, name: str, since: float = 0.0) -> list[float]:
        return [at for at, hello in self.said if hello.node == name and at >= since]


def met(names: str = "a b c", **fields: object) -> Wire:
    """Members that know each other."""
    wire = Wire(names, **fields)  # type: ignore[arg-type]
    wire.run(1.0)
    for name in wire.segments:
        assert wire.alive(name) == " ".join(other for other in names.split() if other != name)
    return wire


def until_buried(wire: Wire, by: str, dead: str) -> float:
    """How long it takes until `by` takes `dead` for dead."""
    began = wire.now
    while dead not in wire.buried(by):
        wire.run(0.005)
        assert wire.now < began + 5
    return wire.now - began


# --- to be heard ----------------------------------------------------------------------------------------


def test_who_is_heard_lives_only_once_it_hears_us_too() -> None:
    us = Segment("a", boot("a"), 0.0)
    us.heard(Hello("b", boot("b"), 1), mac("b"), 0.0)
    assert us.view() == View(frozenset(), frozenset())
    assert us.node_of(mac("b")) == ""
    hello = us.due(0.0)
    assert hello is not None
    assert hello.heard == ((boot("b"), HEARD),)
    us.heard(Hello("b", boot("b"), 2, ((boot("a"), HEARD),)), mac("b"), 0.1)
    assert us.view().alive == {"b"}
    assert us.node_of(mac("b")) == "b"


def test_two_have_met_within_a_few_milliseconds() -> None:
    wire = Wire("a b")
    wire.run(0.05)
    assert (wire.alive("a"), wire.alive("b")) == ("b", "a")


def test_a_link_that_works_one_way_only_is_none() -> None:
    wire = Wire("a b")
    wire.deaf = {("b", "a")}
    wire.run(5.0)
    assert (wire.alive("a"), wire.alive("b")) == ("", "")
    both = met("a b c")
    both.deaf = {("b", "a")}
    both.run(5.0)
    assert both.alive("a") == "b c", "it is silent, but the majority hears it"
    assert both.buried("a") == ""


def test_the_own_hello_that_comes_back_is_nobodys() -> None:
    us = Segment("a", boot("a"), 0.0)
    us.heard(Hello("a", boot("x"), 1, ((boot("a"), HEARD),)), mac("a"), 0.0)
    assert us.view().alive == frozenset()
    hello = us.due(0.0)
    assert hello is not None
    assert hello.heard == ()


def test_the_mac_of_a_member_is_the_one_it_speaks_from_now() -> None:
    us = Segment("a", boot("a"), 0.0)
    heard = ((boot("a"), HEARD),)
    us.heard(Hello("b", boot("b"), 1, heard), mac("b"), 0.0)
    us.heard(Hello("b", boot("b"), 2, heard), mac("c"), 0.1)
    assert (us.node_of(mac("b")), us.node_of(mac("c"))) == ("", "b")


# --- hellos ---------------------------------------------------------------------------------------------


def test_hellos_are_said_eight_times_a_second() -> None:
    wire = met()
    wire.run(9.0)
    times = wire.hellos_of("a", since=1.0)
    assert len(times) == pytest.approx(9 / EVERY_S, abs=1)
    assert max(after - before for before, after in itertools.pairwise(times)) <= EVERY_S + 1e-9


def test_sequences_grow_and_who_is_in_them() -> None:
    wire = met()
    sequences = [hello.sequence for _, hello in wire.said if hello.node == "a"]
    assert sequences == list(range(1, len(sequences) + 1))
    last = [hello for _, hello in wire.said if hello.node == "a"][-1]
    assert last == Hello("a", boot("a"), sequences[-1], ((boot("b"), HEARD), (boot("c"), HEARD)))


def test_that_somebody_is_silent_is_said_at_once() -> None:
    wire = met("a b")
    wire.run(0.06)  # its hellos are said at other times than those of the others
    wire.start("c")
    wire.run(1.0)
    wire.dead.add("c")
    wire.run(0.7)
    first = next(at for at, hello in wire.said if (boot("c"), SILENT) in hello.heard)
    assert any((boot("c"), DEAD) in hello.heard for _, hello in wire.said)
    last_heard = max(wire.hellos_of("c")) + DELAY_S
    assert first == pytest.approx(last_heard + 0.5, abs=0.001)


def test_hellos_are_never_said_more_often_than_fifty_times_a_second() -> None:
    us = Segment("a", boot("a"), 0.0)
    said = []
    for millisecond in range(1000):
        now = millisecond / 1000
        if millisecond < 130:
            us.heard(Hello(f"n{millisecond}", boot("n", millisecond), 1), bytes(6), now)
        if us.due(now) is not None:
            said.append(now)
    gaps = [after - before for before, after in itertools.pairwise(said)]
    assert min(gaps) >= SUSPECT_EVERY_S - 1e-9
    assert gaps[0] == pytest.approx(SUSPECT_EVERY_S), "though who comes new is told soon that it is heard"


def test_it_says_when_its_speaker_does_not_respond_and_when_it_leaves() -> None:
    us = Segment("a", boot("a"), 0.0)
    assert us.due(0.0) == Hello("a", boot("a"), 1)
    assert us.due(0.1, stale=True) is None
    assert us.due(0.125, stale=True) == Hello("a", boot("a"), 2, stale=True)
    assert us.due(0.25, leaving=True) == Hello("a", boot("a"), 3, leaving=True)


# --- death ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("phase", [0.0, 0.03, 0.06, 0.09, 0.12])
def test_of_three_who_dies_is_found_dead_between_half_a_second_and_two_thirds(phase: float) -> None:
    wire = met()
    wire.run(phase)
    wire.dead.add("c")
    last = max(wire.hellos_of("c"))
    for by in "ab":
        until_buried(wire, by, "c")
        assert 0.5 <= wire.now - last < 0.65
    assert wire.alive("a") == "b"


def test_who_is_cut_off_buries_nobody_and_the_others_bury_it() -> None:
    for names in ("a b c", "a b c d", "a b c d e f g"):
        wire = met(names)
        wire.cut_off("a")
        wire.run(10.0)
        assert wire.buried("a") == ""
        assert wire.alive("a") == names[2:]
        assert {wire.buried(other) for other in names[2:].split()} == {"a"}


def test_half_of_them_is_no_majority() -> None:
    wire = met("a b c d")
    wire.cut_off("a", "b")
    wire.deaf -= {("a", "b"), ("b", "a")}
    wire.run(10.0)
    assert [wire.buried(name) for name in "abcd"] == ["", "", "", ""]
    more = met("a b c d e")
    more.cut_off("a", "b")
    more.deaf -= {("a", "b"), ("b", "a")}
    more.run(10.0)
    assert [more.buried(name) for name in "abcde"] == ["", "", "a b", "a b", "a b"]


def test_whom_only_one_does_not_hear_lives() -> None:
    wire = met("a b c d")
    wire.deaf = {("a", "d"), ("d", "a")}
    wire.run(10.0)
    assert wire.buried("a") == wire.buried("d") == ""
    assert wire.alive("a") == "b c d"


def test_they_may_die_one_after_the_other_until_two_are_left() -> None:
    wire = met("a b c d e")
    for dead in "edc":
        wire.dead.add(dead)
        assert until_buried(wire, "a", dead) < 0.65
    assert (wire.alive("a"), wire.buried("a")) == ("b", "c d e")
    wire.dead.add("b")
    wire.run(10.0)
    assert wire.alive("a") == "b", "one of two may be the one that is cut off"


def test_two_alone_ask_the_gateway() -> None:
    wire = met("a b", gateway=True)
    wire.dead.add("b")
    assert 0.5 - EVERY_S < until_buried(wire, "a", "b") < 0.65
    wire.run(5.0)
    assert wire.buried("a") == "b"
    assert len(wire.asked) < 5, "and not again, once it is known"


def test_of_two_the_one_that_the_gateway_does_not_answer_buries_nobody() -> None:
    wire = met("a b", gateway=True)
    wire.cut_off("a")
    wire.run(3.0)
    assert (wire.buried("a"), wire.buried("b")) == ("", "a")
    times = [at for at, who in wire.asked if who == "a"]
    assert len(times) == pytest.approx(25, abs=2), "it asks ten times a second while it is in doubt"


def test_what_the_gateway_said_before_the_silence_counts_for_nothing() -> None:
    us = Segment("a", boot("a"), 0.0, witness=True)
    us.heard(Hello("b", boot("b"), 1, ((boot("a"), HEARD),)), mac("b"), 0.0)
    us.witnessed(0.5)
    us.due(1.0)
    assert us.view().dead == frozenset()
    us.witnessed(1.0)
    us.due(1.0)
    assert us.view().dead == {"b"}


def test_the_gateway_is_asked_only_where_it_decides() -> None:
    three = met("a b c", gateway=True)
    three.deaf = {("a", "b")}
    three.run(3.0)
    assert three.asked == []
    two = met("a b", gateway=True)
    two.run(3.0)
    assert two.asked == []
    without = met("a b")
    without.dead.add("b")
    without.run(3.0)
    assert without.asked == []


def test_who_leaves_or_whose_speaker_hangs_takes_no_part_although_it_is_heard() -> None:
    for state in ("leaving", "stale"):
        wire = met()
        getattr(wire, state).add("c")
        wire.run(0.2)
        assert (wire.alive("a"), wire.buried("a")) == ("b", "c")
        getattr(wire, state).clear()
        wire.run(0.2)
        assert (wire.alive("a"), wire.buried("a")) == ("b c", "")


def test_who_said_that_it_leaves_needs_no_majority_to_be_gone() -> None:
    wire = met("a b c d")
    wire.leaving |= {"c", "d"}
    wire.run(0.2)
    wire.dead |= {"c", "d"}
    wire.run(1.0)
    wire.segments["a"].keep(["b"])
    wire.start("e")
    wire.run(1.0)
    wire.dead.add("b")
    assert until_buried(wire, "a", "b") < 0.65, "of three, of which those that left are none"


def test_the_dead_that_the_api_does_not_know_are_forgotten_and_no_others() -> None:
    wire = met("a b c d")
    wire.dead |= {"d"}
    wire.run(1.0)
    us = wire.segments["a"]
    us.keep(["b", "d"])
    assert us.view() == View(frozenset("bc"), frozenset("d"))
    us.keep(["b"])
    assert us.view() == View(frozenset("bc"), frozenset())
    assert (us.node_of(mac("d")), us.node_of(mac("c"))) == ("", "c")
    last = max(hello.sequence for _, hello in wire.said if hello.node == "d")
    us.heard(Hello("d", boot("d"), last, ((boot("a"), HEARD),)), mac("d"), wire.now)
    assert us.view().alive == set("bc"), "what it said before counts for nothing, whenever that comes"
    us.heard(Hello("d", boot("d"), last + 1, ((boot("a"), HEARD),)), mac("d"), wire.now)
    assert us.view() == View(frozenset("bc"), frozenset("d"), returning=frozenset("d")), (
        "as far as it knows it was never away"
    )


def test_who_returns_is_shown_as_that_until_it_is_back_or_silent_again() -> None:
    wire = met("a b c")
    wire.deaf = {("a", "c"), ("b", "c")}
    wire.run(1.0)
    us = wire.segments["a"]
    assert (us.view().dead, us.view().returning) == ({"c"}, set())
    wire.mend()
    wire.run(0.2)
    assert (us.view().dead, us.view().returning) == ({"c"}, {"c"})
    wire.deaf = {("a", "c"), ("b", "c")}
    wire.run(0.52)
    assert (us.view().dead, us.view().returning) == ({"c"}, set())
    wire.mend()
    wire.run(1.0)
    assert us.view() == View(frozenset("bc"), frozenset())


def test_who_has_said_that_it_leaves_is_no_silent_one() -> None:
    wire = met("a b c d")
    wire.leaving |= {"c"}
    wire.dead |= {"d"}
    wire.run(1.0)
    view = wire.segments["a"].view()
    assert (view.dead, view.left) == ({"c", "d"}, {"c"})


def test_who_was_away_until_it_was_forgotten_is_told_so_when_it_is_back() -> None:
    wire = met("a b c")
    wire.cut_off("c")
    wire.run(1.0)
    for name in "ab":
        wire.segments[name].keep(["a", "b"])
    assert wire.buried("a") == ""
    wire.mend()
    wire.run(1.0)
    assert (wire.alive("a"), wire.alive("c")) == ("b c", "a b")
    assert wire.segments["c"].take_missed()
    assert not wire.segments["a"].take_missed()


def test_who_is_silent_and_unknown_to_the_api_has_no_place_in_the_roll() -> None:
    wire = met("a b c d")
    wire.dead |= {"c", "d"}  # at once: there is no majority
    wire.run(1.0)
    assert wire.segments["a"].view().dead == set()
    for name in "ab":
        wire.segments[name].keep(["a", "b"])
    wire.run(1.0)
    assert wire.segments["a"].view() == View(frozenset("b"), frozenset())


# --- return ---------------------------------------------------------------------------------------------


def test_who_was_dead_is_heard_for_a_while_before_it_counts() -> None:
    wire = met()
    wire.cut_off("c")
    wire.run(2.0)
    assert wire.buried("a") == "c"
    wire.mend()
    began = wire.now
    while wire.buried("a"):
        wire.run(0.005)
    assert RETURN_S <= wire.now - began < RETURN_S + 2 * EVERY_S


def test_who_is_heard_with_long_gaps_stays_dead() -> None:
    us = Segment("a", boot("a"), 0.0)
    heard = ((boot("a"), HEARD),)
    us.heard(Hello("c", boot("c"), 1, heard), mac("c"), 0.0)
    us.heard(Hello("b", boot("b"), 1, (*heard, (boot("c"), SILENT))), mac("b"), 0.4)
    us.due(0.5)
    assert us.view().dead == {"c"}
    for number in range(2, 20):
        us.heard(Hello("c", boot("c"), number, heard), mac("c"), number / 2)
        us.due(number / 2)
        assert us.view().dead == {"c"}


def test_the_moment_in_which_it_is_buried_is_the_first_in_which_it_may_return() -> None:
    us = Segment("a", boot("a"), 0.0)
    heard = ((boot("a"), HEARD),)
    us.heard(Hello("c", boot("c"), 1, heard), mac("c"), 0.0)
    us.heard(Hello("b", boot("b"), 1, (*heard, (boot("c"), SILENT))), mac("b"), 0.4)
    us.due(0.5)
    for number in range(2, 7):
        us.heard(Hello("c", boot("c"), number, heard), mac("c"), number / 8 + 0.25)
    assert us.view().alive == {"b", "c"}


def test_who_was_dead_and_starts_anew_is_told_that_it_was() -> None:
    wire = met()
    wire.dead.add("c")
    wire.run(2.0)
    wire.start("c")
    wire.run(0.3)
    assert (wire.buried("a"), wire.buried("b"), wire.alive("c")) == ("c", "c", "a b")
    wire.run(0.5)
    assert (wire.alive("a"), wire.alive("b"), wire.alive("c")) == ("b c", "a c", "a b")
    assert wire.segments["c"].take_missed(), "its answerer alone may have died"


def test_who_starts_anew_counts_at_once() -> None:
    quick = met()
    quick.start("c")
    quick.run(0.05)
    assert (quick.alive("a"), quick.alive("b"), quick.alive("c")) == ("b c", "a c", "a b")


def test_who_had_a_namesake_for_a_while_is_a_member_again_when_that_one_is_gone() -> None:
    wire = Wire("a b c")
    wire.run(2)
    original = wire.segments.pop("a")
    wire.start("a")
    namesake = wire.segments.pop("a")
    wire.segments = {"a": original, "a'": namesake, **wire.segments}
    wire.run(3)
    wire.dead.add("a'")
    wire.run(5)
    assert wire.segments["b"].view().alive == {"a", "c"}
    assert wire.segments["c"].view().alive == {"a", "b"}
    assert original.view().alive == {"b", "c"}


# --- recordings -----------------------------------------------------------------------------------------


def replay(wire: Wire, to: str, recorded: list[Hello]) -> None:
    for hello in recorded:
        wire.segments[to].heard(hello, mac("x"), wire.now)
        wire._tick(to)


def test_what_was_heard_before_keeps_nobody_alive() -> None:
    wire = met()
    recorded = [hello for _, hello in wire.said if hello.node == "c"]
    wire.dead.add("c")
    for _ in range(40):
        replay(wire, "a", recorded)
        replay(wire, "b", recorded)
        wire.run(0.05)
    assert wire.buried("a") == wire.buried("b") == "c"
    assert wire.segments["a"].node_of(mac("x")) == ""


def test_what_a_former_start_said_neither_keeps_alive_nor_stands_in_the_way() -> None:
    wire = met()
    recorded = [hello for _, hello in wire.said if hello.node == "c"]
    wire.start("c")
    for _ in range(20):
        replay(wire, "a", recorded)
        wire.run(0.05)
    assert wire.alive("a") == "b c"
    wire.dead.add("c")
    for _ in range(40):
        replay(wire, "a", recorded)
        replay(wire, "b", recorded)
        wire.run(0.05)
    assert wire.buried("a") == "c"


def test_what_was_recorded_before_this_start_revives_nobody() -> None:
    wire = met()
    recorded = [hello for _, hello in wire.said if hello.node == "c"]
    wire.dead.add("c")
    wire.start("a")
    for _ in range(20):
        replay(wire, "a", recorded)
        wire.run(0.05)
    assert wire.alive("a") == "b"


@pytest.mark.parametrize("order", ["before", "after", "between"])
def test_a_recording_does_not_keep_the_real_one_from_being_met(order: str) -> None:
    """Of two starts that have not answered us, the one that answers is the real one, whichever came first."""
    us = Segment("a", boot("a", 2), 0.0)
    old = Hello("b", boot("b", 1), 500, ((boot("a", 1), HEARD),))
    new = [Hello("b", boot("b", 2), number) for number in (1, 2)]
    for hello in {"before": [old, *new], "after": [*new, old], "between": [new[0], old, new[1], old]}[order]:
        us.heard(hello, mac("b"), 0.0)
    us.heard(Hello("b", boot("b", 2), 3, ((boot("a", 2), HEARD),)), mac("b"), 0.1)
    assert us.view().alive == {"b"}
    us.heard(old, mac("x"), 0.2)
    assert us.view().alive == {"b"}
    assert us.node_of(mac("x")) == ""


def test_so_many_starts_that_are_over_are_remembered() -> None:
    us = Segment("a", boot("a"), 0.0)
    for start in range(FORMER + 2):
        us.heard(Hello("b", boot("b", start), 1, ((boot("a"), HEARD),)), mac("b"), start + 0.0)
    us.heard(Hello("b", boot("b", 1), 2, ((boot("a"), HEARD),)), mac("x"), 999.0)
    assert us.node_of(mac("x")) == ""
    us.heard(Hello("b", boot("b", 0), 2, ((boot("a"), HEARD),)), mac("x"), 999.0)
    assert us.node_of(mac("x")) == "b", "of more than that, the first are forgotten"


def test_that_somebody_is_heard_anew_is_said_soon_and_once() -> None:
    us = Segment("a", boot("a"), 0.0)
    us.heard(Hello("b", boot("b"), 1, ((boot("a"), HEARD),)), mac("b"), 0.0)
    assert us.due(0.0)
    us.heard(Hello("b", boot("b", 2), 1), mac("b"), 0.05)
    assert us.next_wakeup() == 0.05
    assert us.due(0.05)
    us.heard(Hello("b", boot("b", 3), 1), mac("b"), 0.1)
    assert us.next_wakeup() == 0.05 + EVERY_S, "who starts again and again does not make us shout"


def test_another_start_of_a_member_is_listed_beside_it_until_it_answers() -> None:
    wire = met("a b")
    us = wire.segments["a"]
    us.heard(Hello("b", boot("b", 2), 1), mac("b"), wire.now)
    wire.run(0.03)
    last = [hello for _, hello in wire.said if hello.node == "a"][-1]
    assert last.heard == ((boot("b", 1), HEARD), (boot("b", 2), HEARD))
    wire.run(0.2)
    last = [hello for _, hello in wire.said if hello.node == "a"][-1]
    assert last.heard == ((boot("b", 1), HEARD),), "the first one is still there"


def test_no_more_members_are_known_than_fit_into_a_hello() -> None:
    us = Segment("a", boot("a"), 0.0)
    for number in range(MOST_MEMBERS + 5):
        us.heard(Hello(f"n{number}", boot("n", number), 1, ((boot("a"), HEARD),)), bytes(6), 0.0)
    assert len(us.view().alive) == MOST_MEMBERS
    us.heard(Hello("n0", boot("x"), 1), bytes(6), 0.0)
    hello = us.due(1.0)
    assert hello is not None
    assert len(hello.heard) == MOST_MEMBERS
    us.heard(Hello("n0", boot("n", 0), 2, ((boot("a"), DEAD),)), bytes(6), 0.1)
    us.heard(Hello("n0", boot("n", 0), 3, ((boot("a"), HEARD),)), bytes(6), 0.2)
    assert us.take_missed(), "who is known is still heard"


# --- missed ---------------------------------------------------------------------------------------------


def test_who_was_buried_is_told_when_it_is_heard_again() -> None:
    wire = met()
    wire.cut_off("a")
    wire.run(2.0)
    assert not wire.segments["a"].take_missed()
    wire.mend()
    wire.run(0.3)
    assert not wire.segments["a"].take_missed(), "they hear it, but do not count it yet"
    wire.run(1.0)
    assert [wire.segments[name].take_missed() for name in "abc"] == [True, False, False]
    wire.run(5.0)
    assert not wire.segments["a"].take_missed()


STORIES: dict[str, tuple[tuple[Heard, ...], bool]] = {
    "heard all the time": ((HEARD, HEARD, HEARD), False),
    "silent for a while, but not believed dead": ((HEARD, SILENT, SILENT, HEARD), False),
    "still dead": ((HEARD, SILENT, DEAD, DEAD), False),
    "dead, and heard again": ((HEARD, SILENT, DEAD, HEARD), True),
    "dead, silent again, then heard": ((DEAD, SILENT, HEARD), True),
}


@pytest.mark.parametrize(("story", "missed"), STORIES.values(), ids=STORIES)
def test_whether_others_missed_us(story: tuple[Heard, ...], missed: bool) -> None:
    us = Segment("a", boot("a"), 0.0)
    for number, state in enumerate(story):
        us.heard(Hello("b", boot("b"), number, ((boot("a"), state),)), mac("b"), number / 8)
    assert us.take_missed() is missed
    assert not us.take_missed(), "it is told once"


# --- anything -------------------------------------------------------------------------------------------

EVENTS = st.lists(
    st.tuples(
        st.sampled_from(["die", "start", "deaf", "mend", "cut", "leave"]),
        st.sampled_from("abcd"),
        st.sampled_from("abcd"),
        st.floats(0, 1.5),
    ),
    max_size=12,
)


@given(EVENTS, st.booleans())
def test_whatever_happened_all_have_met_again_soon_after_it_is_over(
    events: list[tuple[str, str, str, float]], gateway: bool
) -> None:
    wire = Wire("a b c d", gateway=gateway)
    wire.run(1.0)
    for event, one, other, seconds in events:
        if event == "die":
            wire.dead.add(one)
        elif event == "start":
            wire.start(one)
        elif event == "deaf" and one != other:
            wire.deaf.add((one, other))
        elif event == "mend":
            wire.mend()
        elif event == "cut":
            wire.cut_off(one)
        elif event == "leave":
            wire.leaving ^= {one}
        wire.run(seconds)
    wire.mend()
    wire.leaving.clear()
    for name in set(wire.dead):
        wire.start(name)
    wire.run(3.0)
    for name in "abcd":
        assert wire.alive(name) == " ".join(other for other in "abcd" if other != name)
        assert wire.buried(name) == ""
    assert math.isfinite(wire.segments["a"].next_wakeup())


def test_of_two_links_on_one_segment_one_speaks_and_the_other_begins_anew_when_it_is_silent() -> None:
    low, high = Segment("a", b"1" * 8, 0.0), Segment("a", b"2" * 8, 0.0)
    low.twins, high.twins = [high], [low]
    said, now = [], 0.0
    while now < 1.0:
        if hello := low.due(now):
            said.append(hello)
            high.heard(hello, mac("a"), now)
        assert high.due(now) is None or now == 0.0
        now += 0.01
    assert len(said) == 8
    high.heard(said[-1], mac("a"), now + 10)  # a recording does not silence it
    later = high.due(now + 10)
    assert later is not None
    assert later.boot not in (low.boot, b"2" * 8), "for others the earlier start is over"


def test_the_link_that_hears_more_members_speaks() -> None:
    cut_off, other = Segment("a", b"1" * 8, 0.0), Segment("a", b"2" * 8, 0.0)
    cut_off.twins, other.twins = [other], [cut_off]
    other.heard(Hello("b", boot("b"), 1, ((other.boot, HEARD),)), mac("b"), 0.0)
    hello = cut_off.due(0.0)
    assert hello is not None
    other.heard(hello, mac("a"), 0.1)
    answer = other.due(0.2)
    assert answer is not None, "it does not give way to who hears nobody"
    cut_off.heard(answer, mac("a"), 0.2)
    assert cut_off.due(0.3) is None


def test_a_strangers_start_under_our_own_name_silences_nobody() -> None:
    ours = Segment("a", b"2" * 8, 0.0)
    ours.heard(Hello("a", b"1" * 8, 1, ()), mac("a"), 0.0)
    assert ours.due(0.1) is not None


def test_it_is_known_after_how_long_a_silence_a_death_was_noticed() -> None:
    wire = Wire("a b c")
    wire.run(2.0)
    assert wire.segments["a"].noticed_s == 0.0
    wire.dead.add("c")
    wire.run(2.0)
    assert SILENT_AFTER_S <= wire.segments["a"].noticed_s <= SILENT_AFTER_S + EVERY_S
