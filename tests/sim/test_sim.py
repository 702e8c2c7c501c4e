"""Clusters in bad weather, and scenarios that have a name."""

from tests.sim.story import settle
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
