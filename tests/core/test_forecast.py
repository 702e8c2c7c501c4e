"""What becomes of announcements when a node is taken out, or a Service asks for one."""

from dataclasses import replace
from ipaddress import ip_network

import pytest

from lbspeaker.core.announce import desired, picture
from lbspeaker.core.election import rank
from lbspeaker.core.forecast import Change, hindrances, lost, without
from lbspeaker.core.nodes import holders
from lbspeaker.core.said import Said, SaidIP, SaidMember
from lbspeaker.model import (
    EXCLUDE,
    BGPAdvertisement,
    Endpoint,
    L2Advertisement,
    MemberLink,
    Node,
    Pin,
    Snapshot,
)
from tests.build import ip, service, snapshot

IP = ip("192.0.2.10")
WEB = service("web", held="192.0.2.10")
FIRST, SECOND, THIRD = rank(IP, dict.fromkeys("abc", 0))


def test_what_a_node_owns_goes_to_the_next_and_nothing_else_moves() -> None:
    assert without(snapshot(WEB), FIRST) == (Change("192.0.2.10", ("default/web",), (FIRST,), (SECOND,)),)
    assert without(snapshot(WEB), SECOND) == ()


def test_what_only_this_node_can_announce_is_lost() -> None:
    local = replace(WEB, local=True)
    world = replace(snapshot(local), endpoints={local.key: (Endpoint(FIRST),)})
    (change,) = without(world, FIRST)
    assert (change.now, change.then) == ((FIRST,), ())
    assert lost((change,)) == [change]


def test_routes_that_fewer_nodes_announce_or_none() -> None:
    world = snapshot(WEB, l2=(), bgp=(BGPAdvertisement("bgp"),))
    assert without(world, "a") == (
        Change("192.0.2.10/32 at router", ("default/web",), ("a", "b", "c"), ("b", "c")),
    )
    (change,) = without(snapshot(WEB, nodes="a", l2=(), bgp=(BGPAdvertisement("bgp"),)), "a")
    assert lost((change,)) == [change]
    (change,) = without(world, "a", lambda node, peer: node != "a")
    assert (change.now, change.then) == (("a",), ()), "who has no session announces nothing"


# --- what speakers say ----------------------------------------------------------------------------------

OWNED = SaidIP("owner", ("eth0",))
NEAR = replace(
    snapshot(WEB), links=dict.fromkeys("abc", (MemberLink("eth0", b"", (ip_network("192.0.2.0/24"),)),))
)


def one_is_cut_off(node: str, *owners: str) -> dict[str, Said]:
    """The others hear each other, and not `node`; `owners` answer for the IP."""
    return {
        name: Said(
            ips={IP: OWNED} if name in owners else {},
            members={
                other: SaidMember((), ("eth0",)) if node in (name, other) else SaidMember(("eth0",))
                for other in "abc"
                if other != name
            },
        )
        for name in "abc"
    }


def without_node(world: Snapshot, node: str, said: dict[str, Said]) -> tuple[Change, ...]:
    return without(world, node, said=said)


def test_who_is_not_heard_takes_nothing_over() -> None:
    said = one_is_cut_off(FIRST, FIRST, SECOND)
    both = tuple(sorted((FIRST, SECOND)))
    assert without_node(NEAR, SECOND, said) == (Change("192.0.2.10", ("default/web",), both, (THIRD,)),)
    assert without_node(NEAR, THIRD, said) == ()
    excluded = replace(NEAR, nodes={**NEAR.nodes, THIRD: Node(THIRD, labels={EXCLUDE: ""})})
    (change,) = without_node(excluded, SECOND, said)
    assert (change.now, change.then) == (both, ()), "it has a Lease, and nobody hears it"
    assert without_node(excluded, FIRST, said)[0].then == (SECOND,), "who is cut off may be taken out"


def test_what_a_node_says_that_it_answers_is_its() -> None:
    """Whatever is computed from here: it may know better."""
    (change,) = without_node(NEAR, SECOND, {SECOND: Said(ips={IP: OWNED})})
    assert (change.now, change.then) == ((SECOND,), (FIRST,))
    assert without_node(NEAR, FIRST, {SECOND: Said(ips={IP: OWNED})}) == ()
    rehearsed = {SECOND: Said(ips={IP: SaidIP("owner")})}
    assert without_node(NEAR, SECOND, rehearsed) == (), "it answers on no link"


def test_what_two_that_do_not_hear_each_other_have_is_lost_without_either() -> None:
    said = one_is_cut_off(FIRST, SECOND)
    two = replace(NEAR, nodes={FIRST: NEAR.nodes[FIRST], SECOND: NEAR.nodes[SECOND]})
    del said[THIRD]
    assert lost(without_node(two, SECOND, said))


HINDRANCES: dict[str, tuple[Snapshot, dict[str, Said], str]] = {
    "nothing": (NEAR, {}, ""),
    "not heard": (
        NEAR,
        one_is_cut_off(FIRST),
        f"{FIRST} is not heard on its eth0 by {', '.join(sorted((SECOND, THIRD)))}",
    ),
    "no speaker": (replace(NEAR, members=frozenset((SECOND, THIRD))), {}, f"no live speaker on {FIRST}"),
    "no link": (
        replace(NEAR, links={**NEAR.links, FIRST: ()}),
        {},
        "none of its links is in a network of 192.0.2.10 (it has: none)",
    ),
    "no layer 2": (
        snapshot(WEB, l2=()),
        {},
        "it is not on layer 2, where one node owns an IP (no L2Advertisement selects pool lan)",
    ),
    "no endpoint": (
        snapshot(WEB, on=""),
        {},
        "default/web has no endpoint that serves (there are none); check its selector and its Pods",
    ),
    "others": (
        snapshot(
            replace(WEB, sharing_key="k"),
            service("a", held="192.0.2.10", sharing_key="k", preferred_node=SECOND),
        ),
        {},
        f"other Services on it prefer {SECOND}",
    ),
}


@pytest.mark.parametrize(("world", "said", "why"), HINDRANCES.values(), ids=HINDRANCES)
def test_why_a_node_cannot_own_it(world: Snapshot, said: dict[str, Said], why: str) -> None:
    assert hindrances(world, "default/web", FIRST, said) == ({IP: why} if why else {})


def test_a_cordoned_node_cannot_own_it_where_ips_move() -> None:
    ads = (L2Advertisement("l2", on_cordon="Move"),)
    world = snapshot(WEB, l2=ads, node_fields={THIRD: {"cordoned": True}})
    assert hindrances(world, "default/web", THIRD) == {IP: "it is cordoned, and onCordon is Move"}


# --- the node that a Service asks for -------------------------------------------------------------------


def owner(world: Snapshot) -> str:
    return picture(world, holders(world.services.values())).l2[IP].owner


WISH = replace(WEB, preferred_node=THIRD)


def test_the_node_that_a_service_asks_for_owns_its_ips_while_it_can() -> None:
    assert owner(snapshot(WISH)) == THIRD
    assert owner(snapshot(WISH, members=f"{FIRST} {SECOND}")) == FIRST
    assert owner(snapshot(replace(WEB, preferred_node="nowhere"))) == FIRST
    assert owner(replace(snapshot(WISH), pins={IP: Pin(SECOND, 7)})) == THIRD, "whatever is pinned"


@pytest.mark.parametrize(("moves", "expected"), [("Stay", THIRD), ("Move", FIRST)])
def test_a_cordoned_node_is_asked_for_in_vain_where_ips_move(moves: str, expected: str) -> None:
    ads = (L2Advertisement("l2", on_cordon=moves),)  # type: ignore[arg-type]
    assert owner(snapshot(WISH, l2=ads, node_fields={THIRD: {"cordoned": True}})) == expected


def test_of_several_on_one_ip_the_first_that_asks_counts() -> None:
    others = (
        replace(WEB, sharing_key="k"),
        service("a", held="192.0.2.10", sharing_key="k", preferred_node=SECOND),
        service("b", held="192.0.2.10", sharing_key="k", preferred_node=THIRD),
    )
    assert owner(snapshot(*others)) == SECOND


def test_others_know_that_it_comes_before_them() -> None:
    """Who owns it while the preferred one is away yields to that, and is not given it by a pin."""
    away = snapshot(WISH, members=f"{FIRST} {SECOND}")
    duty = desired(away, holders(away.services.values()), FIRST).owned[IP]
    assert duty.above == (THIRD,)
    there = replace(snapshot(WISH), pins={IP: Pin(SECOND, 7)})
    found = desired(there, holders(there.services.values()), THIRD)
    assert found.owned[IP].above == ()
    assert found.announcements[IP].equals == {THIRD}, "so that it is not given away for balance"
