"""What becomes of announcements when a node is taken out, or a Service asks for one."""

from dataclasses import replace

import pytest

from lbspeaker.core.announce import desired, picture
from lbspeaker.core.election import rank
from lbspeaker.core.forecast import Change, lost, moved, without
from lbspeaker.core.nodes import holders
from lbspeaker.model import BGPAdvertisement, Endpoint, L2Advertisement, Pin, Snapshot
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


# --- the node that a Service asks for -------------------------------------------------------------------


def owner(world: Snapshot) -> str:
    return picture(world, holders(world.services.values())).l2[IP].owner


WISH = replace(WEB, preferred_node=THIRD)


def test_the_node_that_a_service_asks_for_owns_its_ips_while_it_can() -> None:
    assert owner(snapshot(WISH)) == THIRD
    assert owner(snapshot(WISH, members=f"{FIRST} {SECOND}")) == FIRST
    assert owner(snapshot(replace(WEB, preferred_node="nowhere"))) == FIRST
    assert owner(replace(snapshot(WISH), pins={IP: Pin(SECOND, 7)})) == THIRD, "whatever is pinned"
    assert moved(snapshot(WEB), "default/web", THIRD) == {IP: THIRD}
    assert moved(snapshot(WEB, members=f"{FIRST} {SECOND}"), "default/web", THIRD) == {IP: FIRST}


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
