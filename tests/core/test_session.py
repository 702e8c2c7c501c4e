"""A session makes the wire show what is desired, whatever its engine does in between."""

from collections import deque
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from ipaddress import ip_address, ip_network

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, rule

from lbspeaker.core import endings
from lbspeaker.core import session as module
from lbspeaker.core.session import LEAVE_S, Session, State, View, usable_next_hop
from lbspeaker.core.supervision import Replace, Supervision
from lbspeaker.model import (
    GRACEFUL_SHUTDOWN,
    Ack,
    Address,
    Announce,
    EndOfRib,
    EndOfRibSent,
    Negotiated,
    Network,
    Other,
    Peer,
    Ping,
    Reason,
    Resend,
    Route,
    Sent,
    SessionCommand,
    SessionDown,
    SessionEvent,
    SessionUp,
    Teardown,
    Withdraw,
)

HOP4, HOP6 = ip_address("10.99.0.1"), ip_address("fd99::1")
EBGP = Peer("router", 65001, 65002, ip_address("10.99.0.2"))
IBGP = Peer("router", 65001, 65001, ip_address("10.99.0.2"))
X, Y, Z = (ip_network(f"192.0.2.{n}/32") for n in (1, 2, 3))
V6 = ip_network("2001:db8::1/128")
BOTH = frozenset((4, 6))


def route(prefix: Network, *communities: str, local_pref: int | None = None) -> Route:
    return Route(prefix, local_pref, communities)


def table(*routes: Route) -> dict[Network, Route]:
    return {each.prefix: each for each in routes}


A, B, C = (route(X, f"65001:{n}") for n in (1, 2, 3))


def started(peer: Peer = EBGP, hops: Mapping[int, Address] | None = None) -> Session:
    session = Session(peer)
    session.started({4: HOP4, 6: HOP6} if hops is None else hops, 0.0)  # type: ignore[arg-type]
    return session


def up(peer: Peer = EBGP, *routes: Route, now: float = 0.0) -> Session:
    """A session that is up, with `routes` on the wire and End-of-RIB sent."""
    session = started(peer)
    session.desire(table(*routes), now)
    session.receive(Negotiated(BOTH), now)
    session.receive(SessionUp(), now)
    commands = session.advance(now)
    if routes:
        assert announced(commands) == set(routes)
        session.receive(Sent(routes), now)
        commands = session.advance(now)
    assert commands == [EndOfRib(4), EndOfRib(6)]
    return session


def announced(commands: Iterable[SessionCommand]) -> set[Route]:
    return {each for command in commands if isinstance(command, Announce) for each in command.routes}


# --- only while up --------------------------------------------------------------------------------------


def test_nothing_is_told_before_the_session_is_up() -> None:
    session = started()
    session.desire(table(A), 0.0)
    assert session.advance(0.0) == []
    session.receive(Negotiated(BOTH), 1.0)
    session.receive(SessionUp(), 1.0)
    assert session.advance(1.0) == [Announce((A,), HOP4)]


def test_what_changes_while_down_costs_one_command() -> None:
    session = started()
    for routes in ([A], [], [B], [A], [B]):
        session.desire(table(*routes), 0.0)
    session.receive(SessionUp(), 1.0)
    assert session.advance(1.0) == [Announce((B,), HOP4)]


def test_end_of_rib_follows_the_last_of_the_first_routes() -> None:
    session = started()
    session.desire(table(A, route(Y)), 0.0)
    session.receive(Negotiated(frozenset((4,))), 0.0)
    session.receive(SessionUp(), 0.0)
    session.advance(0.0)
    session.receive(Sent((A,)), 0.1)
    assert session.advance(0.1) == []
    session.receive(Sent((route(Y),)), 0.2)
    assert session.advance(0.2) == [EndOfRib(4)]
    session.desire(table(A), 0.3)
    assert session.advance(0.3) == [Withdraw((route(Y),), HOP4)], "and it is sent once"


def test_end_of_rib_waits_for_no_route_that_goes_before_its_turn() -> None:
    session = started()
    many = [route(ip_network((0x0A000000 + n, 32))) for n in range(module.WINDOW)]
    session.desire(table(*many, A), 0.0)
    session.receive(Negotiated(frozenset((4,))), 0.0)
    session.receive(SessionUp(), 0.0)
    assert announced(session.advance(0.0)) == set(many)
    session.desire(table(*many), 0.1)
    session.receive(Sent(tuple(many)), 0.2)
    assert session.advance(0.2) == [EndOfRib(4)]


def test_another_next_hop_is_announced_and_the_session_stays() -> None:
    session, there = up(EBGP, A, route(V6)), ip_address("fd99::7")
    session.reach({4: HOP4, 6: there})
    assert session.advance(1.0) == [Announce((route(V6),), there)]
    session.receive(Sent((route(V6),)), 1.1)
    assert session.advance(1.1) == []
    session.reach({4: HOP4})
    assert session.advance(2.0) == [Withdraw((route(V6),), there)], "as it was announced"
    session.receive(Sent((), (V6,)), 2.1)
    session.reach({4: HOP4, 6: HOP6})
    assert session.advance(3.0) == [Announce((route(V6),), HOP6)]


def test_another_next_hop_waits_for_what_is_on_its_way() -> None:
    session, there = up(), ip_address("10.99.0.7")
    session.desire(table(A), 1.0)
    assert session.advance(1.0) == [Announce((A,), HOP4)]
    session.reach({4: there})
    assert session.advance(1.0) == []
    session.receive(Sent((A,)), 1.1)
    assert session.advance(1.1) == [Announce((A,), there)]


def test_who_drains_while_its_child_starts_stays_stopped() -> None:
    session = Session(EBGP)
    session.drain(0.0)
    session.started({4: HOP4}, 1.0)
    assert session.view.state is State.STOPPED


def test_routes_with_the_same_attributes_share_a_command() -> None:
    session = started()
    same = [route(ip_network((0xC0000200 + n, 32)), "65001:1") for n in range(600)]
    session.desire(table(*same, route(V6, "65001:1"), route(ip_network("10.0.0.0/24"))), 0.0)
    session.receive(SessionUp(), 0.0)
    sizes = sorted(len(command.routes) for command in session.advance(0.0) if isinstance(command, Announce))
    assert sizes == [1, 1, 100, 500]


def test_ten_thousand_routes_are_told_as_fast_as_they_are_sent_and_no_faster() -> None:
    session = started()
    routes = [route(ip_network((0x0A000000 + n, 32))) for n in range(10_000)]
    session.desire(table(*routes), 0.0)
    session.receive(SessionUp(), 0.0)
    turns, now = 0, 0.0
    while session.view.on_wire < 10_000:
        told = announced(session.advance(now))
        assert 0 < len(told) <= module.WINDOW
        session.receive(Sent(tuple(told)), now)
        turns, now = turns + 1, now + 0.5
    assert turns == 10


# --- one command per prefix -----------------------------------------------------------------------------


def test_a_second_change_waits_until_the_first_is_on_the_wire() -> None:
    session = up(EBGP, A)
    session.desire(table(B), 1.0)
    assert session.advance(1.0) == [Announce((B,), HOP4)]
    session.desire(table(A), 1.1)
    assert session.advance(1.1) == []
    session.receive(Ack(True), 1.2)
    assert session.advance(1.2) == [], "an acknowledgement is not a fact"
    session.receive(Sent((B,)), 1.3)
    assert session.advance(1.3) == [Announce((A,), HOP4)]


def test_a_withdrawal_repeats_the_attributes_that_are_on_the_wire() -> None:
    session = up(EBGP, A)
    session.desire({}, 1.0)
    assert session.advance(1.0) == [Withdraw((A,), HOP4)]


def test_announce_withdraw_announce_never_has_two_on_their_way() -> None:
    session = up(EBGP)
    session.desire(table(A), 1.0)
    assert session.advance(1.0) == [Announce((A,), HOP4)]
    session.desire({}, 1.0)
    session.desire(table(A), 1.0)
    assert session.advance(1.0) == []
    session.receive(Sent((A,)), 1.1)
    assert session.advance(1.1) == []
    assert session.view.on_wire == 1


def test_an_update_sent_before_the_command_arrived_does_not_answer_it() -> None:
    session = up(EBGP, A)
    session.desire(table(B), 1.0)
    session.advance(1.0)
    session.receive(Sent((A,)), 1.1)
    session.desire(table(C), 1.2)
    assert session.advance(1.2) == [], "B is still on its way"
    session.receive(Sent((B,)), 1.3)
    assert session.advance(1.3) == [Announce((C,), HOP4)]


def test_one_slow_prefix_holds_up_no_other() -> None:
    session = up(EBGP, A)
    session.desire(table(B), 1.0)
    session.advance(1.0)
    session.desire(table(A, route(Y)), 1.1)
    assert session.advance(1.1) == [Announce((route(Y),), HOP4)]


def test_the_same_desire_again_says_nothing() -> None:
    session = up(EBGP, A)
    session.desire(table(A), 1.0)
    assert session.advance(1.0) == []


# --- repair ---------------------------------------------------------------------------------------------


def test_a_route_that_is_not_seen_is_asked_for_again_and_then_given_up() -> None:
    session = up(EBGP)
    session.desire(table(A, route(Y)), 1.0)
    session.advance(1.0)
    session.receive(Sent((route(Y),)), 1.0)
    for now in (2.0, 4.0):
        assert session.next_wakeup() == now
        assert session.advance(now) == [Resend()]
    assert session.advance(8.0) == [Ping()]
    assert session.unservable[X].reason is Reason.REFUSED_BY_CHILD
    assert session.stuck is None
    session.desire(table(B, route(Y)), 9.0)
    assert session.advance(9.0) == [Announce((B,), HOP4)], "another route is another chance"
    assert session.unservable == {}


def test_updates_that_flow_put_off_the_second_thought() -> None:
    session = up(EBGP)
    session.desire(table(A, route(Y)), 1.0)
    session.advance(1.0)
    session.receive(Sent((route(Y),)), 1.9)
    assert session.advance(2.0) == []
    assert session.advance(2.9) == [Resend()]


def test_a_child_that_is_slow_gets_longer_each_time_and_is_trusted_again() -> None:
    session = up(EBGP)
    session.desire(table(A, route(Y)), 1.0)
    session.advance(1.0)
    assert session.advance(2.0) == [Resend()]
    session.receive(Sent((route(Y),)), 2.9)
    assert session.advance(4.8) == [], "2 s after the last update"
    session.receive(Sent((A,)), 4.8)
    session.advance(4.8)
    session.desire(table(B, route(Y)), 5.0)
    session.advance(5.0)
    assert session.advance(6.0) == [Resend()]


def test_a_leaked_route_is_withdrawn() -> None:
    session = up(EBGP)
    session.receive(Sent((A,)), 1.0)
    assert session.advance(1.0) == [Withdraw((A,), HOP4)]


def test_a_leak_that_stays_needs_another_child() -> None:
    session = up(EBGP)
    session.receive(Sent((A,)), 1.0)
    told = [session.advance(now) for now in (1.0, 2.0, 4.0)]
    assert told == [[Withdraw((A,), HOP4)]] * 3
    session.advance(8.0)
    assert session.stuck == f"ExaBGP does not withdraw {X}"


def test_a_route_lost_by_surprise_is_asked_for_again() -> None:
    session = up(EBGP, A)
    session.receive(Sent((), (X,)), 1.0)
    assert session.advance(1.0) == [Resend()], "the child believes to have sent it, and would do nothing"
    session.receive(Sent((A,)), 1.1)
    assert session.advance(3.0) == []


def test_wrong_attributes_on_the_wire_are_corrected() -> None:
    session = up(EBGP, A)
    session.receive(Sent((B,)), 1.0)
    assert session.advance(1.0) == [Resend()]


# --- down and up again ----------------------------------------------------------------------------------


def test_after_a_flap_the_child_sends_what_it_holds_and_is_told_only_the_rest() -> None:
    session = up(EBGP, A, route(Y))
    session.receive(SessionDown("gone"), 1.0)
    assert (session.view.state, session.view.on_wire) == (State.CONNECTING, 0)
    session.desire(table(B, route(Z)), 2.0)
    session.receive(Negotiated(BOTH), 3.0)
    session.receive(SessionUp(), 3.0)
    assert session.advance(3.0) == [Announce((route(Z),), HOP4)]
    session.receive(Sent((A,)), 3.1)
    session.receive(Sent((route(Y),)), 3.1)
    assert session.advance(3.1) == [Withdraw((route(Y),), HOP4), Announce((B,), HOP4)]


def test_a_withdrawal_on_its_way_while_the_session_flaps_may_come_late_or_never() -> None:
    session = up(EBGP, A)
    session.desire({}, 1.0)
    assert session.advance(1.0) == [Withdraw((A,), HOP4)]
    session.receive(SessionDown("gone"), 1.1)
    session.desire(table(B), 1.2)
    session.receive(SessionUp(), 2.0)
    assert session.advance(2.0) == []
    assert session.advance(3.0) == [Announce((B,), HOP4)]


def test_a_new_child_is_told_everything() -> None:
    session = up(EBGP, A)
    session.ended("killed", 1.0)
    assert session.view == View(State.IDLE, 1.0, "killed", 1, 0, 1)
    session.started({4: HOP4}, 2.0)
    session.receive(SessionUp(), 2.5)
    assert session.advance(2.5) == [Announce((A,), HOP4)]


def test_flaps_count_sessions_that_ended_not_attempts() -> None:
    session = started()
    for _ in range(3):
        session.receive(SessionDown("refused"), 1.0)
    assert session.view.flaps == 0
    session.receive(SessionUp(), 2.0)
    session.receive(SessionDown("gone"), 3.0)
    assert session.view.flaps == 1


# --- what a session cannot carry ------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("hops", "families", "prefix", "reason"),
    [
        pytest.param({4: HOP4}, BOTH, V6, Reason.NO_NEXT_HOP, id="an IPv6 route over an IPv4 session"),
        pytest.param({6: HOP6}, BOTH, X, Reason.NO_NEXT_HOP, id="an IPv4 route over an IPv6 session"),
        pytest.param({4: HOP4, 6: HOP6}, BOTH, V6, None, id="the node has given an IPv6 next hop"),
        pytest.param(
            {4: HOP4, 6: HOP6}, {4}, V6, Reason.FAMILY_NOT_NEGOTIATED, id="the router speaks IPv4 only"
        ),
        pytest.param(
            {4: HOP4, 6: ip_address("fe80::1")}, BOTH, V6, Reason.NO_NEXT_HOP, id="link-local is no next hop"
        ),
    ],
)
def test_a_route_that_cannot_be_carried_has_a_reason(
    hops: Mapping[int, Address], families: Iterable[int], prefix: Network, reason: Reason | None
) -> None:
    session = started(EBGP, hops)
    session.desire(table(route(prefix)), 0.0)
    session.receive(Negotiated(frozenset(families)), 1.0)  # type: ignore[arg-type]
    session.receive(SessionUp(), 1.0)
    told = announced(session.advance(1.0))
    refusal = session.unservable.get(prefix)
    assert (refusal.reason if refusal else None) == reason
    assert told == (set() if reason else {route(prefix)})


@pytest.mark.parametrize(
    ("address", "usable"),
    [
        ("10.0.0.1", True),
        ("2001:db8::1", True),
        ("0.0.0.0", False),
        ("::", False),
        ("127.0.0.1", False),
        ("fe80::1", False),
        ("224.0.0.1", False),
        ("ff02::1", False),
    ],
)
def test_next_hops_that_would_reset_the_session(address: str, usable: bool) -> None:
    assert usable_next_hop(ip_address(address)) is usable


@pytest.mark.parametrize(
    ("peer", "given", "told"),
    [
        pytest.param(EBGP, 200, None, id="local preference stays within the AS"),
        pytest.param(IBGP, 200, 200, id="and is sent there"),
        pytest.param(IBGP, None, 100, id="where it is always present"),
    ],
)
def test_local_preference(peer: Peer, given: int | None, told: int | None) -> None:
    session = up(peer)
    session.desire(table(route(X, "65001:2", "65001:1", "65001:2", local_pref=given)), 1.0)
    expected = route(X, "65001:1", "65001:2", local_pref=told)
    assert session.advance(1.0) == [Announce((expected,), HOP4)]
    session.receive(Sent((expected,)), 1.0)
    assert session.advance(9.0) == [Ping()]


@pytest.mark.parametrize(
    ("peer", "prefix", "fits"),
    [
        # 4096 bytes, less 23 frame, 4 origin, 9 path of one AS, 7 next hop, 4 head of the list, 5 prefix
        pytest.param(EBGP, X, 1011, id="IPv4"),
        pytest.param(IBGP, X, 1010, id="a preference instead of a path"),
        pytest.param(EBGP, V6, 1003, id="IPv6"),
    ],
)
def test_a_route_has_as_many_communities_as_fit_into_one_message(
    peer: Peer, prefix: Network, fits: int
) -> None:
    session = started(peer)
    many = [f"65001:{n}" for n in range(fits + 1)]
    session.desire(table(route(prefix, *many[:fits])), 0.0)
    assert session.unservable == {}
    session.desire(table(route(prefix, *many)), 0.0)
    assert session.unservable[prefix].reason is Reason.REFUSED_BY_CHILD
    assert f"{fits + 1} communities do not fit" in session.unservable[prefix].message


# --- what it says ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("event", "says"),
    [
        (
            SessionDown("the router ended the session: bad peer AS (2/2)", (2, 2), True),
            "expects another AS than 65001 (myASN)",
        ),
        (SessionDown("ExaBGP ended the session: bad peer AS (2/2)", (2, 2)), "is not in AS 65002 (peerASN)"),
        (
            SessionDown("the connection was refused or closed"),
            "does the router at 10.99.0.2 port 179 run BGP",
        ),
        (
            SessionDown("the router ended the session: cease (6/2)", (6, 2), True),
            "(6/2); somebody has shut this neighbor down on the router",
        ),
        (SessionDown("ExaBGP ended the session: (1/2)", (1, 2)), "10.99.0.2 sent is not BGP"),
        (SessionDown("the router ended the session: (6/99)", (6, 99), True), "(6/99)"),
    ],
)
def test_the_last_error_tells_what_to_look_at(event: SessionDown, says: str) -> None:
    session = started()
    session.receive(event, 1.0)
    assert session.view.last_error is not None
    assert event.reason in session.view.last_error
    assert says in session.view.last_error
    assert session.misconfigured == (event.notification == (2, 2))


def test_an_ending_without_a_word_is_another_one_than_no_beginning() -> None:
    session = up(EBGP, A)
    session.receive(SessionDown("the connection was refused or closed"), 1.0)
    assert "the log of the router at 10.99.0.2 may say why" in (session.view.last_error or "")


def test_every_hint_can_be_told() -> None:
    """Each has only names that are there to be filled in."""
    for by_peer, code, subcode in endings._HINTS:
        event = SessionDown("over", (code, subcode or 99), by_peer)
        assert "{" not in endings.explain(EBGP, event, was_up=True)


def test_a_new_child_has_not_been_refused_yet() -> None:
    session = started()
    session.receive(SessionDown("over (2/2)", (2, 2)), 1.0)
    assert session.misconfigured
    session.ended(None, 1.0)
    session.started({4: HOP4}, 3.0)
    assert not session.misconfigured


def test_silence_of_the_router_is_worth_a_word() -> None:
    session = started()
    session.advance(5.0)
    assert session.view.last_error is None
    session.receive(Other(), 5.0)
    assert session.next_wakeup() == 10.0
    session.advance(10.0)
    assert "no answer from 10.99.0.2 port 179" in (session.view.last_error or "")


def test_who_refused_and_then_falls_silent_does_not_answer() -> None:
    """And who refuses again, refuses. Between two attempts it has nothing to answer."""
    session = started(replace(EBGP, connect_s=5.0))
    session.receive(SessionDown("the connection was refused or closed"), 1.0)
    for silent_since in (6.0, 26.0):
        session.receive(Other(), silent_since + 3.0)
        session.advance(silent_since + 9.9)
        assert "does the router at 10.99.0.2 port 179 run BGP" in (session.view.last_error or "")
        assert session.next_wakeup() == silent_since + 10.0
        session.advance(silent_since + 10.0)
        assert "no answer from 10.99.0.2 port 179" in (session.view.last_error or "")
        assert (session.next_wakeup() or 0.0) > silent_since + 10.0
        session.receive(SessionDown("the connection was refused or closed"), silent_since + 15.0)


def test_what_does_not_leave_the_node_is_not_the_router_s_fault() -> None:
    session = started()
    session.receive(SessionDown("this node cannot connect: Operation not permitted", here=True), 1.0)
    assert session.view.last_error == (
        "this node cannot connect: Operation not permitted;"
        " look at this node's addresses, routes and firewall"
    )


def test_a_silent_child_is_asked_and_then_replaced() -> None:
    session = up(EBGP, A)
    assert session.next_wakeup() == 5.0
    assert session.advance(5.0) == [Ping()]
    session.receive(Other(), 5.1)
    assert session.advance(6.0) == []
    assert session.advance(10.1) == [Ping()]
    assert session.next_wakeup() == 20.1
    session.advance(20.1)
    assert session.stuck == "ExaBGP has not answered for 10 s"


# --- drain ----------------------------------------------------------------------------------------------


def test_drain_withdraws_everything_then_ends_the_session() -> None:
    session = leaving(up(EBGP, A, route(Y)), 1.0)
    assert session.next_wakeup() == 1.0 + LEAVE_S
    commands = session.advance(2.0)
    assert session.view.state is State.DRAINING
    assert {each.prefix for c in commands if isinstance(c, Withdraw) for each in c.routes} == {X, Y}
    session.desire(table(A), 2.1)
    session.receive(Sent((), (X,)), 2.1)
    assert session.advance(2.1) == []
    session.receive(Sent((), (Y,)), 2.2)
    assert session.advance(2.2) == [Teardown()]
    assert session.advance(2.3) == []
    session.receive(SessionDown("ExaBGP ended the session: cease (6/2)", (6, 2)), 2.3)
    assert session.view.state is State.STOPPED
    session.receive(SessionUp(), 2.4)
    assert (session.view.state, session.advance(2.4)) == (State.STOPPED, [])


def leaving(session: Session, now: float) -> Session:
    """Let it drain until the router knows that all its routes are about to go."""
    session.drain(now)
    assert session.view.state is State.LEAVING
    told = [
        each for command in session.advance(now) if isinstance(command, Announce) for each in command.routes
    ]
    assert told
    assert all(GRACEFUL_SHUTDOWN in each.communities for each in told)
    session.receive(Sent(tuple(told)), now)
    assert session.advance(now) == []
    return session


def test_a_session_that_ends_while_its_routes_are_leaving_is_over() -> None:
    session = leaving(up(EBGP, A), 1.0)
    session.receive(SessionDown("closed"), 1.5)
    assert (session.view.state, session.advance(5.0)) == (State.STOPPED, [])


def test_without_routes_nothing_is_left_to_say() -> None:
    session = up(EBGP)
    session.drain(1.0)
    assert (session.view.state, session.advance(1.0)) == (State.DRAINING, [Teardown()])


def test_who_leaves_does_so_for_no_error_of_before() -> None:
    session = started()
    session.desire(table(A), 0.0)
    session.receive(SessionDown("over (2/2)", (2, 2)), 1.0)
    session.receive(Negotiated(BOTH), 2.0)
    session.receive(SessionUp(), 2.0)
    assert session.view.last_error is not None, "while it is up, one may want to know"
    session.drain(60.0)
    assert (session.view.state, session.view.last_error) == (State.LEAVING, None)


def test_drain_waits_for_what_is_on_its_way() -> None:
    session = up(EBGP)
    session.desire(table(A), 1.0)
    session.advance(1.0)
    session.drain(1.0)
    assert session.advance(1.0) == []
    session.receive(Sent((A,)), 1.1)
    gone = route(X, *A.communities, GRACEFUL_SHUTDOWN)
    assert session.advance(1.1) == [Announce((gone,), HOP4)]
    assert session.advance(2.0) == [], "what is on its way is waited for"
    session.receive(Sent((gone,)), 2.1)
    assert session.advance(2.1) == [], "the router has just heard of it"
    assert session.next_wakeup() == 2.1 + LEAVE_S
    assert session.advance(2.1 + LEAVE_S) == [Withdraw((gone,), HOP4)]


def test_a_router_that_takes_no_farewell_is_not_waited_for() -> None:
    session = up(EBGP, A)
    session.drain(1.0)
    assert announced(session.advance(1.0))
    assert session.next_wakeup() == 1.0 + 1.0, "the update is overdue by then"
    for tenth in range(10, 31):
        session.advance(tenth / 10)
    assert session.view.state is State.DRAINING


def test_what_a_router_prefers_by_goes_where_it_means_something() -> None:
    rich = Route(X, 200, (), 50, 2)
    for peer, expected in ((EBGP, Route(X, None, (), 50, 2)), (IBGP, Route(X, 200, (), 50, 0))):
        session = up(peer)
        session.desire(table(rich), 1.0)
        assert session.advance(1.0) == [Announce((expected,), HOP4)]
        session.receive(Sent((expected,)), 1.1)
        assert session.advance(1.1) == []


def test_a_session_that_is_not_up_is_drained_at_once() -> None:
    session = started()
    session.drain(1.0)
    assert session.view.state is State.STOPPED
    assert session.next_wakeup() is None


# --- supervision ----------------------------------------------------------------------------------------


def view(state: State, since: float, last_error: str | None = None) -> View:
    return View(state, since, last_error, 0, 0, 0)


def test_a_child_that_keeps_ending_is_started_less_and_less_often() -> None:
    supervision, now, waits = Supervision(2.0), 0.0, []
    for _ in range(8):
        supervision.ended(now)
        waits.append(supervision.start_at - now)
        now = supervision.start_at
    assert waits == [0, 1, 2, 4, 8, 16, 30, 30]
    assert supervision.judge(view(State.UP, now), None, False, now + 60) is None
    supervision.ended(now + 60)
    assert supervision.start_at == now + 60, "a steady session earns a new start"


@pytest.mark.parametrize(("connect_s", "patience_s"), [(2.0, 60.0), (20.0, 60.0), (120.0, 360.0)])
def test_a_child_without_a_session_is_replaced_when_it_should_have_dialled_several_times(
    connect_s: float, patience_s: float
) -> None:
    supervision, connecting = Supervision(connect_s), view(State.CONNECTING, 5.0)
    over = 5.0 + patience_s
    assert supervision.next_wakeup(connecting) == over
    assert supervision.judge(connecting, None, False, over - 0.1) is None
    assert supervision.judge(connecting, None, False, over) == Replace("dial anew", quietly=True)
    assert supervision.start_at <= over
    for state in (State.UP, State.LEAVING, State.DRAINING):
        assert supervision.next_wakeup(view(state, 5.0)) is None
        assert supervision.judge(view(state, 5.0), None, False, 1000.0) is None


def test_a_router_that_refuses_us_is_asked_less_and_less_often() -> None:
    supervision, now, waits = Supervision(2.0), 0.0, []
    for _ in range(6):
        verdict = supervision.judge(view(State.CONNECTING, now), None, True, now)
        assert verdict == Replace("dial later", quietly=True)
        waits.append(supervision.start_at - now)
        now = supervision.start_at
    assert waits == [2, 4, 8, 16, 30, 30]
    supervision.came_up(now)
    supervision.judge(view(State.CONNECTING, now), None, True, now)
    assert supervision.start_at == now + 2, "a session earns a new start"


def test_a_stuck_child_is_replaced_at_once() -> None:
    supervision = Supervision(2.0)
    assert supervision.judge(view(State.UP, 0.0), "it hangs", False, 9.0) == Replace("it hangs")
    assert supervision.start_at == 9.0


def test_a_storm_of_sessions_is_held_longer_each_time() -> None:
    supervision, now, held = Supervision(2.0), 0.0, []
    for _ in range(5):
        for _ in range(6):
            verdict = supervision.judge(view(State.UP, now, "rejected (3/10)"), None, False, now)
            assert verdict is None
            now += 1.0
            supervision.came_up(now)
        verdict = supervision.judge(view(State.UP, now, "rejected (3/10)"), None, False, now)
        assert verdict is not None
        assert "6 times in 10 s" in verdict.reason
        assert "rejected (3/10)" in verdict.reason
        held.append(supervision.start_at - now)
        now = supervision.start_at
    assert held == [30, 60, 120, 240, 300]


def test_six_sessions_in_eleven_seconds_are_no_storm() -> None:
    supervision = Supervision(2.0)
    for n in range(6):
        supervision.came_up(n * 2.2)
    assert supervision.judge(view(State.UP, 11.0), None, False, 11.0) is None


# --- against an engine that re-orders -------------------------------------------------------------------


class Engine:
    """What ExaBGP does with commands, as far as it can harm: a small twin of its outgoing table.

    Changes queue in groups by attributes, in the order in which groups were first seen; a withdrawal
    removes a queued change of its prefix, an announcement does not; one equal to what is held is dropped;
    the first batch of a session leaves out withdrawals; what is held is queued again on a new session.
    """

    def __init__(self) -> None:
        self.held: dict[Network, Route] = {}
        self.groups: dict[tuple[object, ...], dict[Network, tuple[bool, Route]]] = {}
        self.latest: dict[Network, tuple[bool, Route]] = {}
        self.refresh: dict[Network, Route] = {}
        self.batch: Iterator[Sent] | None = None
        self.first_batch = True
        self.established = False
        self.peer: dict[Network, Route] = {}
        self.commands: deque[SessionCommand] = deque()
        self.events: deque[SessionEvent] = deque()

    def read(self) -> None:
        """Take one command."""
        match self.commands.popleft():
            case Announce(routes, hop):
                for each in (by(hop, each) for each in routes):
                    if self.held.get(each.prefix) != each:
                        self.queue(True, each)
            case Withdraw(routes, hop):
                for each in (by(hop, each) for each in routes):
                    before = self.latest.get(each.prefix)
                    if before:
                        self.groups.get(group_of(before[1]), {}).pop(each.prefix, None)
                    self.queue(False, each)
            case Resend():
                self.refresh |= self.held if self.established else {}
            case EndOfRib(family) if self.established:
                self.events.append(EndOfRibSent(family))
            case Teardown() if self.established:
                self.lose()
            case _:
                pass
        self.events.append(Ack(True))

    def queue(self, announce: bool, each: Route) -> None:
        self.groups.setdefault(group_of(each), {})[each.prefix] = (announce, each)
        self.latest[each.prefix] = (announce, each)
        if announce:
            self.held[each.prefix] = each
        else:
            self.held.pop(each.prefix, None)

    def write(self) -> None:
        """Send one update."""
        if not self.established:
            return
        if self.batch is None and (self.latest or self.refresh):
            self.batch = self.updates(self.groups, self.refresh, self.latest, not self.first_batch)
            self.groups, self.refresh, self.latest = {}, {}, {}
        update = next(self.batch, None) if self.batch is not None else None
        if update is None:
            if self.batch is not None:
                self.batch, self.first_batch = None, False
            return
        for prefix in update.withdrawn:
            self.peer.pop(prefix, None)
        for each in update.announced:
            self.peer[each.prefix] = each
        self.events.append(
            Sent(tuple(replace(each, med=None) for each in update.announced), update.withdrawn)
        )

    @staticmethod
    def updates(
        groups: dict[tuple[object, ...], dict[Network, tuple[bool, Route]]],
        refresh: dict[Network, Route],
        latest: dict[Network, tuple[bool, Route]],
        withdrawals: bool,
    ) -> Iterator[Sent]:
        gone = {p for changes in groups.values() for p, (yes, _) in changes.items() if not yes}
        for prefix, each in refresh.items():
            if prefix in gone:
                continue
            yield Sent((latest.get(prefix, (True, each))[1],))
            for changes in groups.values():
                changes.pop(prefix, None)
        for changes in list(groups.values()):
            withdrawn = tuple(p for p, (yes, _) in changes.items() if not yes)
            if withdrawn and withdrawals:
                yield Sent((), withdrawn)
            announce = tuple(each for yes, each in changes.values() if yes)
            if announce:
                yield Sent(announce)

    def establish(self) -> None:
        self.established, self.first_batch, self.batch = True, True, None
        for each in list(self.held.values()):
            self.queue(True, each)
        self.events += [Negotiated(BOTH), SessionUp()]

    def lose(self) -> None:
        self.established, self.batch = False, None
        self.groups, self.refresh, self.latest, self.peer = {}, {}, {}, {}
        self.events.append(SessionDown("lost"))


def by(hop: Address, each: Route) -> Route:
    """A route as the engine holds it: here the next hop stands where no MED is."""
    return replace(each, med=int(hop))


def group_of(each: Route) -> tuple[object, ...]:
    return (each.local_pref, each.communities, each.med, each.prefix.version)


PREFIXES = [X, Y, Z, V6]
TABLES = st.dictionaries(st.sampled_from(PREFIXES), st.sampled_from(["65001:1", "65001:2", "65001:3"]))


class AgainstTheEngine(RuleBasedStateMachine):
    """Whatever is desired, lost, restarted or late: in the end the peer has what is desired."""

    def __init__(self) -> None:
        super().__init__()
        self.now = 0.0
        self.engine = Engine()
        self.hops: dict[int, Address] = {4: HOP4, 6: HOP6}
        self.session = started()
        self.desired: dict[Network, Route] = {}

    def turn(self) -> None:
        self.engine.commands += self.session.advance(self.now)

    @rule(wanted=TABLES)
    def desire(self, wanted: dict[Network, str]) -> None:
        self.desired = table(*(route(prefix, community) for prefix, community in wanted.items()))
        self.session.desire(self.desired, self.now)
        self.turn()

    @rule(times=st.integers(1, 4))
    def engine_reads(self, times: int) -> None:
        for _ in range(min(times, len(self.engine.commands))):
            self.engine.read()

    @rule(times=st.integers(1, 4))
    def engine_writes(self, times: int) -> None:
        for _ in range(times):
            self.engine.write()

    @rule(times=st.integers(1, 4))
    def events_arrive(self, times: int) -> None:
        for _ in range(min(times, len(self.engine.events))):
            self.session.receive(self.engine.events.popleft(), self.now)
        self.turn()

    @rule()
    def session_comes_or_goes(self) -> None:
        if self.engine.established:
            self.engine.lose()
        else:
            self.engine.establish()

    @rule()
    def child_is_replaced(self) -> None:
        self.engine = Engine()
        self.session.ended("killed", self.now)
        self.session.started(self.hops, self.now)  # type: ignore[arg-type]

    @rule(last=st.integers(1, 2))
    def another_address(self, last: int) -> None:
        self.hops = {4: ip_address(f"10.99.0.{last}"), 6: ip_address(f"fd99::{last}")}
        self.session.reach(self.hops)  # type: ignore[arg-type]
        self.turn()

    @rule(seconds=st.sampled_from([0.1, 0.6, 1.5]))
    def time_passes(self, seconds: float) -> None:
        self.now += seconds
        self.turn()

    def teardown(self) -> None:
        if not self.engine.established:
            self.engine.establish()
        for _ in range(40):
            for _ in range(20):
                self.engine_reads(4)
                self.engine_writes(4)
                self.events_arrive(4)
            if self.session.stuck:
                self.child_is_replaced()
                self.engine.establish()
            self.time_passes(0.6)
        hops = self.hops
        assert self.engine.peer == {p: by(hops[p.version], each) for p, each in self.desired.items()}
        assert self.session.view.on_wire == len(self.desired)
        assert self.session.unservable == {}
        said = self.session.advance(self.now)
        assert all(isinstance(command, Ping) for command in said), "and then it is quiet"


AgainstTheEngine.TestCase.settings = settings(
    max_examples=150, stateful_step_count=40, deadline=None, suppress_health_check=list(HealthCheck)
)
TestAgainstTheEngine = AgainstTheEngine.TestCase


@pytest.mark.parametrize(
    ("burst", "wrong"),
    [
        pytest.param([A, B, A], {X: B}, id="A B A ends as B"),
        pytest.param([A, None, A], {}, id="A, withdrawn under other attributes, A ends as nothing"),
    ],
)
def test_the_twin_engine_goes_wrong_when_it_is_driven_naively(
    burst: list[Route | None], wrong: dict[Network, Route]
) -> None:
    engine = Engine()
    engine.establish()
    engine.commands.append(Announce((route(Y),), HOP4))
    engine.read()
    for _ in range(5):
        engine.write()
    for each in burst:
        engine.commands.append(Announce((each,), HOP4) if each else Withdraw((route(X),), HOP4))
        engine.read()
    for _ in range(9):
        engine.write()
    assert {p: r for p, r in engine.peer.items() if p == X} == {p: by(HOP4, r) for p, r in wrong.items()}
