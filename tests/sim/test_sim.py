"""Clusters in bad weather, and scenarios that have a name."""

from dataclasses import replace
from ipaddress import ip_address
from itertools import pairwise

import pytest

from lbspeaker.core.placement import Placement
from lbspeaker.model import Address, Kind, Pin, Pins
from lbspeaker.wire import orders
from lbspeaker.wire.arp import Packet
from tests.sim.story import settle, tell
from tests.sim.wire import REQUEST
from tests.sim.world import EVERYWHERE, Setting, World

SEEDS, CHUNK = 140, 14


def cluster(seed: int = 1, **fields: object) -> World:
    """A cluster in which everybody serves, and nothing moves any more."""
    world = World(Setting(**fields), seed)  # type: ignore[arg-type]
    settle(world)
    assert world.watch.failures == []
    return world


def test_who_waits_for_a_majority_does_not_spin_although_there_is_a_gateway() -> None:
    world = cluster(nodes=5, witness=True)
    world.deafen("n0", ["n1"])  # nobody else confirms that n0 is silent
    world.run(5.0)
    assert world.watch.wrong() == []


def test_who_drains_does_not_spin_although_it_has_yielded_something() -> None:
    world = cluster(nodes=3, services=12)
    program = world.hosts["n0"].program
    assert program is not None
    for ip in list(program.core.current.owned)[:1]:
        program.core.claimed(ip, world.hosts["n0"].clock.now, node="n1", yielded=True)
    world.split((), ["n0"])  # no next owner is heard, so it takes its time
    world.hosts["n0"].drain(60.0)
    world.run(5.0)


def test_an_ip_that_is_lent_is_not_answered_for_ever_when_its_service_goes() -> None:
    world = cluster(nodes=3, services=12)
    world.split((), ["n0"])
    for host in world.hosts.values():
        host.stop(answerer=True)
    world.hosts["n0"].wake()
    world.hosts["n0"].drain(60.0)
    for key in list(world.services):
        world.delete_service(key)
    world.run(5.0)
    assert world.watch.failures == []


def test_pins_are_not_thought_about_with_every_lease(monkeypatch: pytest.MonkeyPatch) -> None:
    world = cluster(nodes=5)
    thoughts = []
    advance = Placement.advance
    monkeypatch.setattr(Placement, "advance", lambda *args: thoughts.append(1) or advance(*args))
    world.run(30.0)
    assert len(thoughts) <= len(world.hosts)


def test_the_owner_has_the_last_word_however_often_another_claims_its_ip() -> None:
    world = cluster(nodes=3)
    ip = next(iter(world.truth()))
    owner = world.owner(str(ip))
    other = next(name for name in world.hosts if name != owner)
    claim = Packet(REQUEST, world.hosts[other].mac, ip.packed, ip.packed)
    for _ in range(3):
        world.wire.broadcast(other, claim)
        world.run(2.0)
    assert world.watch.misled()
    world.run(12.0)
    assert world.watch.misled() == []


def test_who_was_taken_for_dead_tells_where_its_ips_are_though_somebody_claims_one_meanwhile() -> None:
    world = cluster(nodes=3, services=12)
    ip = next(iter(world.truth()))
    owner, client = world.owner(str(ip)), world.wire.clients["c0"]
    program = world.hosts[owner].program
    assert program is not None
    world.cut_api([owner])
    while program.core.api_silent_s(world.hosts[owner].clock.now) < 1.6:
        world.run(0.1)
    client.cache.clear()
    other = next(name for name in world.hosts if name != owner)
    mac = world.hosts[other].mac.hex(":")
    program.take_all([orders.Missed("eth0"), orders.Claimed(str(ip), "eth0", mac, other)])
    world.mend_api()
    world.run(8.0)
    assert len(client.cache) == len([1 for found in world.truth().values() if found.owner == owner])


def test_who_alone_has_lost_the_api_leaves_its_ips_to_others_until_it_is_back() -> None:
    world = cluster(nodes=3, services=12)
    world.run(10.0)  # that everything was answered for is known
    heard: list[str] = []
    world.hear = heard.append
    lost = [str(ip) for ip, found in world.truth().items() if found.owner == "n0"]
    assert lost
    world.cut_api(["n0"])
    world.run(60.0)
    claims = [line for line in heard if "(TAKEOVER" in line]
    assert len(claims) == len(lost), "each has moved once, and stays"
    probes = [line for line in heard if "(NEW" in line]
    assert len(probes) <= 5 * len(lost), "ever more rarely"
    assert not world.hosts["n0"].answering
    world.mend_api()
    world.run(8.0)
    assert world.watch.wrong() == []


def test_what_one_without_the_api_has_left_to_others_has_an_owner_whoever_dies_meanwhile() -> None:
    world = cluster(nodes=5, services=12)
    lost = [ip for ip, found in world.truth().items() if found.owner == "n0"]
    assert lost
    world.cut_api(["n0"])
    world.run(10.0)
    world.api_down()
    world.run(5.0)
    (heir, *_) = world.answering()[lost[0]]
    world.hosts[heir].power_off()
    world.run(6.0)
    assert all(len(world.answering()[ip]) == 1 for ip in lost)


def doubles(world: World) -> list[Address]:
    return [ip for ip, who in world.answering().items() if len(who) > 1]


def test_a_split_brain_is_healed_by_the_first_frames_that_cross() -> None:
    world = cluster(nodes=5, services=8)
    world.split((), ["n3", "n4"])
    world.run(8.0)
    assert doubles(world), "the majority has taken over, the minority goes on to answer for its clients"
    world.heal()
    world.run(1.5)
    assert doubles(world) == []
    assert world.watch.wrong() == []
    assert world.watch.misled() == []


@pytest.mark.parametrize(
    ("nodes", "hellos", "within_s"),
    [(3, True, 1.0), (2, True, 1.0), (3, False, 3.0)],
    ids=["hellos", "of two", "no hellos"],
)
def test_who_was_away_for_longer_than_its_lease_claims_its_ips_again(
    nodes: int, hellos: bool, within_s: float
) -> None:
    world = cluster(nodes=nodes, services=4, hellos=hellos)
    owner = world.owner(str(next(iter(world.truth()))))
    world.split((), [owner])
    world.cut_api([owner])
    world.run(8.0)
    assert doubles(world)
    world.heal()
    world.mend_api([owner])
    world.run(within_s)
    assert doubles(world) == []
    world.run(3.0)
    assert world.watch.misled() == []


def test_a_short_cut_while_the_api_is_away_leaves_no_ip_without_an_answer() -> None:
    world = cluster(nodes=3, services=12)
    owner = world.owner(str(next(iter(world.truth()))))
    world.api_down()
    world.run(25.0)
    world.split((), [owner])
    world.run(1.3)
    world.heal()
    for _ in range(80):
        world.run(0.25)
        assert len(world.answering()) == 12
    assert doubles(world) == []


def test_an_outage_of_the_api_withdraws_nothing_and_says_nothing() -> None:
    world = cluster(nodes=5, services=12)
    before, frames = world.answering(), world.watch.frames
    world.api_down()
    world.run(60.0)
    assert world.answering() == before
    assert world.watch.frames - frames <= 2 * len(world.hosts), "refreshes"
    world.api_up()
    world.run(20.0)
    assert world.answering() == before


def test_a_node_that_dies_while_the_api_is_away_is_replaced_all_the_same() -> None:
    world = cluster(nodes=5, services=12)
    world.api_down()
    world.run(10.0)
    world.hosts["n1"].power_off()
    world.run(1.5)
    assert len(world.answering()) == 12


def test_who_stood_still_gives_up_when_it_wakes_what_others_have_taken_over() -> None:
    world = cluster(nodes=5, services=12)
    world.hosts["n1"].stop(answerer=True)
    world.run(10.0)
    assert len(world.answering()) == 12, "others have taken over"
    world.hosts["n1"].wake()
    world.run(0.001)
    assert doubles(world) == []
    settle(world)
    assert list(world.hosts["n1"].answering)
    assert world.watch.failures == []


def test_the_answerer_of_a_speaker_that_hangs_yields_to_everybody() -> None:
    world = cluster(nodes=5, services=12)
    world.hosts["n1"].stop(answerer=False)
    world.run(8.0)
    assert not list(world.hosts["n1"].answering)
    assert len(world.answering()) == 12
    world.hosts["n1"].wake()
    settle(world)
    assert world.watch.failures == []


def test_of_two_nodes_the_gateway_tells_which_one_lives() -> None:
    world = cluster(nodes=2, services=8, witness=True)
    world.split((), ["n1"])  # the gateway stays with n0
    world.run(1.5)
    assert len(list(world.hosts["n0"].answering)) == 8
    assert len(list(world.hosts["n1"].answering)) < 8, "who hears nobody takes nothing over"
    world.heal()
    settle(world)
    assert world.watch.failures == []


def test_who_is_alone_takes_nothing_over() -> None:
    world = cluster(nodes=5, services=12)
    mine = set(world.hosts["n1"].answering)
    world.split((), ["n1"])
    world.run(10.0)
    assert set(world.hosts["n1"].answering) <= mine
    assert len(doubles(world)) == len(mine), "the others take over, and it goes on for who is on its side"


@pytest.mark.parametrize("hellos", [True, False])
def test_a_drain_leaves_no_moment_without_an_answer(hellos: bool) -> None:
    world = cluster(nodes=3, services=24, hellos=hellos)
    world.hosts["n1"].drain(3.0)
    world.run(30.0)
    settle(world)
    assert world.watch.failures == []


def test_failback_never_leaves_an_ip_where_it_is() -> None:
    world = cluster(nodes=3, services=9, advertisement=replace(EVERYWHERE, failback="Never"))
    world.hosts["n1"].power_off()
    world.run(20.0)
    before = world.answering()
    world.hosts["n1"].power_on()
    settle(world)
    assert world.answering() == before
    assert not list(world.hosts["n1"].answering)
    assert world.watch.failures == []


def test_an_ip_whose_owner_comes_and_goes_is_held_by_another() -> None:
    world = cluster(nodes=3, services=6)
    host = world.hosts[world.owner("10.0.2.1")]
    for _ in range(3):
        host.power_off()
        world.run(6.0)
        host.power_on()
        world.run(8.0)
    assert host.name not in world.answering()[ip_address("10.0.2.1")]
    settle(world)
    assert world.watch.failures == []
    assert world.answering()[ip_address("10.0.2.1")] == [host.name], "three minutes later it goes back"


def test_a_cordoned_node_gives_away_four_ips_at_a_time() -> None:
    world = cluster(nodes=3, services=24, advertisement=replace(EVERYWHERE, on_cordon="Move"))
    left = [len(list(world.hosts["n1"].answering))]
    assert left[0] > 4
    world.change_node("n1", cordoned=True)
    for _ in range(100):
        world.run(1.0)
        left.append(len(list(world.hosts["n1"].answering)))
    steps = [before - after for before, after in pairwise(left) if before != after]
    assert left[-1] == 0
    assert max(steps) <= 4
    assert world.watch.failures == []


def test_an_ip_that_was_taken_before_its_owner_knew_is_a_takeover_when_it_comes_back() -> None:
    world = cluster(17, nodes=2, services=6, hellos=False)  # n0 hears the claim before it sees the pin
    ip = next(ip for ip, found in world.truth().items() if found.owner == "n0")
    world.hosts["n0"].stop(answerer=False)
    world.api.put(Kind.PINS, "n1", Pins("n1", {ip: Pin("n1", 9)}))
    world.run(1.5)
    assert world.wire.clients["c0"].cache[ip.packed] == world.hosts["n1"].mac
    world.hosts["n1"].power_off()
    world.hosts["n0"].wake()
    world.run(5.0)
    assert world.wire.clients["c0"].cache[ip.packed] == world.hosts["n0"].mac


def test_an_order_that_waited_while_the_answerer_stood_still_does_not_undo_what_it_yields() -> None:
    world = cluster(nodes=3)
    ip = next(iter(world.truth()))
    host = world.hosts[world.owner(str(ip))]
    assert host.program is not None
    host.stop(speaker=False, answerer=True)
    world.run(1.0)
    assert len(world.answering()[ip]) == 1, "somebody has taken over"
    host.program.layer2.announce(host.program.layer2._announced[ip])
    host.wake()
    world.run(0.05)
    assert host.name not in world.answering()[ip]


@pytest.mark.parametrize("first", range(1, SEEDS, CHUNK))
def test_bad_weather(first: int) -> None:
    outcomes = [tell(seed, nodes=2 + seed % 4, brief=True) for seed in range(first, first + CHUNK)]
    assert [told for outcome in outcomes for told in outcome.failures] == []
