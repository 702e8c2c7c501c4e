"""Clusters in bad weather, and scenarios that have a name."""

import pytest

from lbspeaker.core.placement import Placement
from lbspeaker.wire import orders
from lbspeaker.wire.arp import Packet
from tests.sim.story import settle
from tests.sim.wire import REQUEST
from tests.sim.world import Setting, World


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
