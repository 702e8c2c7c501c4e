"""BFD sessions on a virtual clock: each against a hand that writes packets, and two against each other."""

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lbspeaker.core.bfd import EXPIRED, NEIGHBOR_DOWN, SHUT_DOWN, Effect, Session, arrival, discriminator
from lbspeaker.model import BFDPacket, BFDProfile, BFDState, BFDStatus

ADMIN_DOWN, DOWN, INIT, UP = BFDState
OURS, THEIRS = 11, 22
QUICK = BFDProfile("quick", 100, 100, 3)
DELAY_S = 0.0005


def session(profile: BFDProfile = QUICK, roll: Callable[[], float] = lambda: 1.0) -> Session:
    return Session(profile, OURS, roll, 0.0)


def said(state: BFDState, *, knows: bool = True, **fields: object) -> BFDPacket:
    """A packet of the other end, which has 100 ms × 3 and, unless it is up, is slow."""
    your = OURS if knows else 0
    desired = 100_000 if state is UP else 1_000_000
    return BFDPacket(state, 0, 3, THEIRS, your, desired, 100_000)._replace(**fields)  # type: ignore[arg-type]


def packets(effects: list[Effect]) -> list[BFDPacket]:
    return [effect for effect in effects if isinstance(effect, BFDPacket)]


def states(effects: list[Effect]) -> list[tuple[BFDState, int]]:
    return [(e.state, e.diagnostic) for e in effects if isinstance(e, BFDStatus)]


def up(one: Session, now: float = 0.0) -> None:
    """Bring it up, with nothing left to be said."""
    one.receive(said(DOWN, knows=False), now)
    one.advance(now)
    one.receive(said(UP), now)
    one.advance(now)
    one.receive(said(UP, final=True), now)
    one.advance(now)
    assert one.state is UP


# --- states (RFC 5880 §6.8.6) ---------------------------------------------------------------------------

STEPS = [
    ("both begin", DOWN, DOWN, INIT, 0),
    ("it has heard us already", DOWN, INIT, UP, 0),
    ("we are down and it is up: it must notice first", DOWN, UP, DOWN, 0),
    ("it is shut down", DOWN, ADMIN_DOWN, DOWN, 0),
    ("it does not hear us so far", INIT, DOWN, INIT, 0),
    ("both have heard each other", INIT, INIT, UP, 0),
    ("it was faster", INIT, UP, UP, 0),
    ("it is shut down while we begin", INIT, ADMIN_DOWN, DOWN, NEIGHBOR_DOWN),
    ("it lost us", UP, DOWN, DOWN, NEIGHBOR_DOWN),
    ("it is still beginning", UP, INIT, UP, 0),
    ("all is well", UP, UP, UP, 0),
    ("it was shut down", UP, ADMIN_DOWN, DOWN, NEIGHBOR_DOWN),
]


@pytest.mark.parametrize(("story", "before", "says", "after", "diagnostic"), STEPS, ids=[s[0] for s in STEPS])
def test_steps(story: str, before: BFDState, says: BFDState, after: BFDState, diagnostic: int) -> None:
    one = session()
    if before is not DOWN:
        one.receive(said(DOWN, knows=False), 0.0)
    if before is UP:
        one.receive(said(INIT), 0.0)
    one.advance(0.0)
    one.receive(said(says), 0.1)
    effects = one.advance(0.1)
    assert (one.state, one.diagnostic) == (after, diagnostic), story
    changes = states(effects)
    assert changes == ([(after, diagnostic)] if after is not before else changes)
    if after is not before:
        (packet,) = packets(effects)
        assert (packet.state, packet.diagnostic, packet.your) == (after, diagnostic, THEIRS), "told at once"


def test_who_is_shut_down_hears_nothing_any_more() -> None:
    one = session()
    up(one)
    one.drain(1.0)
    one.advance(1.0)
    one.receive(said(UP, poll=True), 1.1)
    one.receive(said(DOWN), 1.1)
    assert (one.state, one.diagnostic) == (ADMIN_DOWN, SHUT_DOWN)
    assert not packets(one.advance(1.05))


# --- what is sent, and when -----------------------------------------------------------------------------


def test_the_first_packet_is_slow_and_knows_nobody() -> None:
    one = session()
    (first,) = packets(one.advance(0.0))
    assert first == BFDPacket(DOWN, 0, 3, OURS, 0, 1_000_000, 100_000)
    assert one.next_wakeup() == 1.0
    assert one.advance(0.99) == []
    assert len(packets(one.advance(1.0))) == 1


@pytest.mark.parametrize(("multiplier", "roll", "after"), [(3, 0.0, 0.75), (3, 1.0, 1.0), (1, 1.0, 0.9)])
def test_jitter(multiplier: int, roll: float, after: float) -> None:
    one = session(BFDProfile("", 100, 100, multiplier), lambda: roll)
    one.advance(0.0)
    assert one.next_wakeup() == pytest.approx(after)


def test_the_interval_is_the_longer_one_of_both_wishes() -> None:
    one = session()
    up(one)
    assert one.interval_us == 100_000
    one.receive(said(UP, required_us=250_000), 0.0)
    assert one.interval_us == 250_000
    assert one.next_wakeup() == pytest.approx(0.25)
    one.receive(said(UP, required_us=20_000), 0.1)
    assert one.interval_us == 100_000, "not below our own"
    assert one.next_wakeup() == pytest.approx(0.1), "also the packet that waits is sent earlier"


def test_who_wants_nothing_gets_nothing_but_answers() -> None:
    one = session()
    up(one)
    one.receive(said(UP, required_us=0), 0.1)
    assert one.advance(0.2) == []
    assert one.next_wakeup() == pytest.approx(0.4), "its own packets are expected all the same"
    one.receive(said(UP, required_us=0, poll=True), 0.2)
    (answer,) = packets(one.advance(0.2))
    assert answer.final and not answer.poll


def test_who_is_passive_waits_for_the_other_end_also_after_losing_it() -> None:
    one = session(BFDProfile("", 100, 100, 3, passive=True))
    assert one.advance(0.0) == []
    assert one.next_wakeup() == math.inf
    one.receive(said(DOWN, knows=False), 5.0)
    (packet,) = packets(one.advance(5.0))
    assert (packet.state, packet.your) == (INIT, THEIRS)
    lost = one.advance(8.1)
    assert states(lost) == [(DOWN, EXPIRED)]
    assert packets(lost) == []


def test_demand_mode_is_never_asked_for_and_never_granted() -> None:
    one = session()
    up(one)
    one.receive(said(UP, demand=True), 0.0)
    sent = packets(one.advance(0.11))
    assert [packet.demand for packet in sent] == [False]


def test_a_discriminator_that_changes_is_taken_over_at_once() -> None:
    one = session()
    up(one)
    one.receive(said(UP, mine=33), 0.05)
    (packet,) = packets(one.advance(0.05))
    assert packet.your == 33


# --- polls (§6.5, §6.8.3) -------------------------------------------------------------------------------


def test_a_poll_is_answered_at_once_and_the_answer_polls_nothing() -> None:
    one = session()
    one.receive(said(DOWN, knows=False), 0.0)
    one.advance(0.0)
    one.receive(said(INIT, poll=True), 0.01)
    (answer,) = packets(one.advance(0.01))
    assert (answer.final, answer.poll) == (True, False), "though it has a poll of its own"
    (packet,) = packets(one.advance(0.2))
    assert (packet.final, packet.poll) == (False, True)


def test_up_is_polled_until_it_is_answered() -> None:
    one = session()
    one.receive(said(DOWN, knows=False), 0.0)
    one.advance(0.0)
    one.receive(said(UP), 0.0)
    (first,) = packets(one.advance(0.0))
    assert (first.poll, first.desired_us) == (True, 100_000)
    assert all(packet.poll for at in (0.1, 0.2) for packet in packets(one.advance(at)))
    one.receive(said(UP, final=True), 0.25)
    assert one.advance(0.25) == [], "the end of a poll is nothing to be told"
    assert [packet.poll for packet in packets(one.advance(0.31))] == [False]


def test_slower_and_less_patient_only_when_the_other_end_knows() -> None:
    one = session(BFDProfile("", 200, 100, 3))
    up(one)
    one.receive(said(UP, desired_us=10_000, final=True), 0.0)
    one.adopt(BFDProfile("", 100, 400, 3))
    (packet,) = packets(one.advance(0.0))
    assert (packet.poll, packet.desired_us, packet.required_us) == (True, 400_000, 100_000)
    assert (one.interval_us, one.detection_us) == (100_000, 600_000)
    one.receive(said(UP, desired_us=10_000, final=True), 0.1)
    assert (one.interval_us, one.detection_us) == (400_000, 300_000)


def test_faster_and_more_patient_at_once() -> None:
    one = session(BFDProfile("", 100, 400, 3))
    up(one)
    one.adopt(BFDProfile("", 200, 100, 3))
    one.receive(said(UP), 0.0)
    assert (one.interval_us, one.detection_us) == (100_000, 600_000)


def test_a_change_during_a_poll_needs_an_answer_of_its_own() -> None:
    one = session()
    up(one)
    one.adopt(BFDProfile("", 100, 300, 3))
    one.advance(0.0)
    one.adopt(BFDProfile("", 100, 900, 3))
    one.advance(0.0)
    one.receive(said(UP, final=True), 0.1)
    assert one.interval_us == 100_000, "that may have been the answer to the first one"
    (packet,) = packets(one.advance(0.2))
    assert packet.poll
    one.receive(said(UP, final=True), 0.2)
    assert one.interval_us == 900_000


# --- detection (§6.8.4) ---------------------------------------------------------------------------------


def test_the_detection_time_is_its_multiplier_times_the_slower_of_both() -> None:
    one = session()
    up(one)
    one.receive(said(UP, multiplier=5, desired_us=50_000), 0.0)
    assert one.detection_us == 500_000
    one.receive(said(UP, multiplier=5, desired_us=200_000), 0.0)
    assert one.detection_us == 1_000_000


def test_silence_ends_it_and_is_told_at_once_and_slowly_from_then_on() -> None:
    one = session()
    up(one)
    one.receive(said(UP), 1.0)
    assert states(one.advance(1.29)) == []
    effects = one.advance(1.3)
    (packet,) = packets(effects)
    assert states(effects) == [(DOWN, EXPIRED)]
    assert (packet.state, packet.diagnostic, packet.your) == (DOWN, EXPIRED, 0)
    assert packet.desired_us == 1_000_000
    assert one.next_wakeup() == pytest.approx(2.3)
    assert one.status == BFDStatus(DOWN, EXPIRED)


def test_when_it_arrived_counts_and_not_when_it_was_read() -> None:
    one = session()
    up(one)
    one.receive(said(UP), 0.9)  # read at 1.0
    one.advance(1.0)
    assert states(one.advance(1.19)) == []
    assert states(one.advance(1.2)) == [(DOWN, EXPIRED)]


def test_who_stood_still_gives_the_other_end_that_time() -> None:
    one = session()
    up(one)
    one.receive(said(UP), 1.0)
    one.stood(5.0)
    assert states(one.advance(6.2)) == []
    assert states(one.advance(6.31)) == [(DOWN, EXPIRED)]


def test_one_that_was_never_up_is_forgotten_when_it_falls_silent() -> None:
    one = session()
    one.receive(said(ADMIN_DOWN), 0.0)
    (change,) = (e for e in one.advance(0.0) if isinstance(e, BFDStatus))
    assert change == BFDStatus(DOWN, 0, ADMIN_DOWN, heard=True)
    (change,) = (e for e in one.advance(3.0) if isinstance(e, BFDStatus))
    assert change == BFDStatus(DOWN)


def test_what_the_other_end_is_in_is_told_also_where_nothing_follows() -> None:
    one = session()
    one.receive(said(ADMIN_DOWN), 0.0)
    one.advance(0.0)
    one.receive(said(ADMIN_DOWN), 0.1)
    assert [e for e in one.advance(0.1) if isinstance(e, BFDStatus)] == []
    one.receive(said(UP), 0.2)
    (change,) = (e for e in one.advance(0.2) if isinstance(e, BFDStatus))
    assert change == BFDStatus(DOWN, 0, UP, heard=True)


def test_up_again_there_is_nothing_to_complain_of() -> None:
    one = session()
    up(one)
    one.advance(1.0)
    assert one.diagnostic == EXPIRED
    up(one, 2.0)
    assert one.status == BFDStatus(UP, 0, UP, heard=True)


# --- shut down (§6.8.16) --------------------------------------------------------------------------------


def test_who_is_shut_down_says_so_quickly_for_as_long_as_it_would_be_waited_for() -> None:
    one = session()
    up(one)
    one.drain(1.0)
    effects = one.advance(1.0)
    assert states(effects) == [(ADMIN_DOWN, SHUT_DOWN)]
    sent = packets(effects) + [p for at in (1.11, 1.22, 1.33) for p in packets(one.advance(at))]
    assert [(p.state, p.diagnostic, p.desired_us) for p in sent] == [(ADMIN_DOWN, SHUT_DOWN, 1_000_000)] * 4
    assert one.over == pytest.approx(1.3)
    one.drain(2.0)
    assert one.over == pytest.approx(1.3)


def test_whom_nobody_hears_has_nobody_to_tell() -> None:
    one = session()
    one.drain(1.0)
    assert one.over == 1.0


# --- numbers --------------------------------------------------------------------------------------------


def test_discriminators_are_never_zero_and_never_used_twice() -> None:
    rolls = iter([0.0, 0.0, 0.5, 1 - 2**-53])
    assert discriminator(lambda: next(rolls), ()) == 1
    assert discriminator(lambda: next(rolls), {1}) == 2**31
    assert discriminator(lambda: next(rolls), ()) == 2**32 - 1


@pytest.mark.parametrize(
    ("story", "stamp", "at"),
    [
        ("it waited for a while", 999.96, 49.96),
        ("the wall clock was set an hour forward since it arrived", 1000.0 - 3600, 49.9),
        ("and an hour back", 1000.0 + 3600, 50.0),
    ],
)
def test_when_a_packet_arrived(story: str, stamp: float, at: float) -> None:
    assert arrival(stamp, 1000.0, 50.0, drained_at=49.9) == pytest.approx(at), story


# --- two of them ----------------------------------------------------------------------------------------


@dataclass
class Pair:
    """Two sessions on a wire that loses what `loses` says."""

    profiles: tuple[BFDProfile, BFDProfile]
    seed: int = 0
    loses: Callable[[float, int], bool] = lambda at, sender: False
    now: float = 0.0
    story: list[tuple[float, int, BFDState, int]] = field(default_factory=list)
    sent: list[tuple[float, int, BFDPacket]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.dice = Random(self.seed)
        self.ends = [Session(p, 10 + n, self.dice.random, 0.0) for n, p in enumerate(self.profiles)]
        self.dead: set[int] = set()
        self._way: list[tuple[float, int, BFDPacket]] = []

    def run(self, until: float) -> None:
        while True:
            moments = [end.next_wakeup() for n, end in enumerate(self.ends) if n not in self.dead]
            moment = max(min([*moments, *(at for at, *_ in self._way)], default=math.inf), self.now)
            if moment > until:
                break
            self.now = moment
            for at, to, packet in [way for way in self._way if way[0] <= moment]:
                self._way.remove((at, to, packet))
                if to not in self.dead:
                    self.ends[to].receive(packet, at)
            for number, end in enumerate(self.ends):
                if number not in self.dead:
                    self._act(number, end.advance(moment))
        self.now = until

    def _act(self, number: int, effects: list[Effect]) -> None:
        for effect in effects:
            if isinstance(effect, BFDStatus):
                self.story.append((self.now, number, effect.state, effect.diagnostic))
                continue
            assert not (effect.poll and effect.final)
            self.sent.append((self.now, number, effect))
            if not self.loses(self.now, number):
                self._way.append((self.now + DELAY_S, 1 - number, effect))

    @property
    def states(self) -> list[BFDState]:
        return [end.state for end in self.ends]

    def falls(self) -> list[tuple[float, int, int]]:
        return [(at, who, why) for at, who, state, why in self.story if state is DOWN and why]


def test_two_come_up_within_a_second_and_negotiate_their_intervals() -> None:
    pair = Pair((BFDProfile("", 100, 100, 3), BFDProfile("", 300, 50, 4)))
    pair.run(1.1)
    assert pair.states == [UP, UP]
    pair.run(3.0)
    assert [end.interval_us for end in pair.ends] == [300_000, 100_000]
    assert [end.detection_us for end in pair.ends] == [400_000, 900_000]
    assert not [packet for at, _, packet in pair.sent if at > 2 and packet.poll]


def test_both_passive_never_meet_and_one_passive_does() -> None:
    passive = BFDProfile("", 100, 100, 3, passive=True)
    pair = Pair((passive, passive))
    pair.run(10)
    assert not pair.sent
    pair = Pair((passive, QUICK))
    pair.run(3)
    assert pair.states == [UP, UP]


def test_a_power_cut_is_noticed_within_the_detection_time_and_not_before() -> None:
    for seed in range(20):
        pair = Pair((QUICK, QUICK), seed)
        pair.run(5.0)
        last = max(at for at, who, _ in pair.sent if who == 1)
        pair.dead.add(1)
        pair.run(8.0)
        ((fell, who, why),) = pair.falls()
        assert (who, why) == (0, EXPIRED)
        assert fell - last == pytest.approx(0.3 + DELAY_S)
        assert fell - 5.0 < 0.3 + DELAY_S


def test_a_wire_that_works_in_one_direction_only_is_down_for_both() -> None:
    pair = Pair((QUICK, QUICK))
    pair.run(5.0)
    pair.loses = lambda at, sender: sender == 0
    pair.run(12.0)
    assert [(who, why) for _, who, why in pair.falls()] == [(1, EXPIRED), (0, NEIGHBOR_DOWN)]
    assert UP not in pair.states
    pair.loses = lambda at, sender: False
    pair.run(15.0)
    assert pair.states == [UP, UP]


def test_shut_down_is_heard_though_packets_are_lost() -> None:
    pair = Pair((QUICK, QUICK))
    pair.run(5.0)
    pair.loses = lambda at, sender: at < 5.15
    pair.ends[1].drain(5.0)
    pair.run(5.3)
    assert [(who, why) for _, who, why in pair.falls()] == [(0, NEIGHBOR_DOWN)]
    assert pair.ends[0].status.remote_state is ADMIN_DOWN


def test_a_restart_with_another_discriminator_is_noticed_by_its_first_packet() -> None:
    pair = Pair((QUICK, QUICK))
    pair.run(5.0)
    pair.ends[1] = Session(QUICK, 99, pair.dice.random, 5.0)
    pair.run(5.0 + 2 * DELAY_S)
    assert pair.falls() == [(pytest.approx(5.0 + DELAY_S), 0, NEIGHBOR_DOWN)]
    pair.run(7.0)
    assert pair.states == [UP, UP]


def test_one_lost_packet_of_three_is_no_fall_in_an_hour() -> None:
    lost: dict[int, bool] = {}

    def loses(at: float, sender: int) -> bool:
        lost[sender] = not lost.get(sender, False)
        return lost[sender]

    pair = Pair((QUICK, QUICK), loses=lambda at, sender: at > 3 and loses(at, sender))
    pair.run(3600)
    assert pair.falls() == []
    count = sum(who == 0 for _, who, _ in pair.sent)
    assert 3600 / 0.1 < count < 3600 / 0.075 + 10


PROFILES = st.builds(
    BFDProfile,
    st.just(""),
    st.integers(10, 60_000),
    st.integers(10, 60_000),
    st.integers(2, 255),
    st.booleans(),
)


@settings(max_examples=150, deadline=None)
@given(PROFILES, PROFILES, st.integers(0, 2**32), st.floats(0, 0.4))
def test_whatever_is_lost_both_come_up_afterwards_and_nobody_is_too_loud(
    one: BFDProfile, two: BFDProfile, seed: int, loss: float
) -> None:
    if one.passive and two.passive:
        return
    dice = Random(seed)
    pair = Pair((one, two), seed, lambda at, sender: at < 20 and dice.random() < loss)
    pair.run(20.0)
    slowest = max(one.transmit_ms, two.transmit_ms, one.receive_ms, two.receive_ms, 1000) / 1000
    pair.run(20.0 + 4 * slowest)
    assert pair.states == [UP, UP]
    for who, mine, other in ((0, one, two), (1, two, one)):
        # Besides what is due: news and answers, which are few.
        due = (20.0 + 4 * slowest) / (0.75 * max(mine.transmit_ms, other.receive_ms) / 1000)
        extra = sum(packet.final for _, sender, packet in pair.sent if sender == who)
        told = sum(sender == who for _, sender, *_ in pair.story)
        slow = sum(packet.state is not UP for _, sender, packet in pair.sent if sender == who)
        assert sum(sender == who for _, sender, _ in pair.sent) <= due + extra + 2 * told + slow + 4


MOVES = st.one_of(
    st.builds(
        BFDPacket,
        st.sampled_from(BFDState),
        st.integers(0, 31),
        st.integers(1, 255),
        st.integers(1, 3),
        st.sampled_from([0, OURS]),
        st.integers(0, 2**32 - 1),
        st.integers(0, 2**32 - 1),
        st.just(0),
        st.booleans(),
        st.booleans(),
        st.booleans(),
        st.booleans(),
    ),
    st.floats(0.0, 5.0),
    PROFILES,
)


@settings(max_examples=300, deadline=None)
@given(PROFILES, st.lists(MOVES, max_size=30))
def test_whatever_is_said_it_stays_a_session(
    profile: BFDProfile, moves: list[BFDPacket | float | BFDProfile]
) -> None:
    one, now = Session(profile, OURS, lambda: 0.5, 0.0), 0.0
    for move in moves:
        if isinstance(move, BFDPacket):
            one.receive(move, now)
        elif isinstance(move, BFDProfile):
            one.adopt(move)
        else:
            now += move
        before = one.state
        effects = one.advance(now)
        assert one.next_wakeup() > now, "everything that is due was done"
        assert len([packet for packet in packets(effects) if not packet.final]) <= 1
        for packet in packets(effects):
            assert not (packet.poll and packet.final) and not packet.demand
            assert packet.state is UP or packet.desired_us >= 1_000_000
        assert (one.state is before) or states(effects)
        assert not (isinstance(move, BFDPacket) and move.poll) or any(p.final for p in packets(effects))
