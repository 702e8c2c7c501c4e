"""One seed from its beginning to its end: weather, calm, quiet."""

import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from random import Random

from lbspeaker.core.placement import FLAP_S
from tests.sim.clock import Spinning
from tests.sim.weather import Weather, setting
from tests.sim.world import World

START_S = 12.0
WEATHER_S, BRIEF_S = (20.0, 80.0), (8.0, 24.0)
STEADY_S = 16.0  # without a move for so long, it is over
QUIET_S = 300.0
LIVELY = 12  # in one seed of so many hellos go on in the quiet, too


@dataclass
class Outcome:
    seed: int
    nodes: int = 0
    failures: list[str] = field(default_factory=list)
    frames: int = 0
    settled_s: float = 0.0
    seconds: float = 0.0


def tell(
    seed: int, nodes: int | None = None, hear: Callable[[str], None] | None = None, *, brief: bool = False
) -> Outcome:
    """Let the story of `seed` happen. `brief`: with less weather, and less to be quiet about after it."""
    began = time.process_time()
    random = Random(f"{seed} story")
    chosen = setting(random, nodes)
    if brief:
        chosen = replace(chosen, services=min(chosen.services, 10))
    outcome = Outcome(seed, chosen.nodes)
    world = World(chosen, seed, hear)
    world.tell("setting", str(chosen))
    try:
        _play(world, random, outcome, lively=seed % LIVELY == 0 and not brief, brief=brief)
    except Spinning as who:
        world.watch.fail(f"the {who} spins")
    except Exception:
        world.watch.fail(traceback.format_exc())
    outcome.failures, outcome.frames = world.watch.failures, world.watch.frames
    outcome.seconds = time.process_time() - began
    return outcome


def _play(world: World, random: Random, outcome: Outcome, *, lively: bool, brief: bool) -> None:
    world.run(START_S / 2 if brief else START_S)
    weather_s = random.uniform(*(BRIEF_S if brief else WEATHER_S))
    Weather(world, random, world.heap.now + weather_s)
    world.run(weather_s)
    world.calm()
    outcome.settled_s = settle(world)
    if not world.watch.failures:
        quiet(world, lively=lively, seconds=QUIET_S * 0.45 if brief else QUIET_S)


def settle(world: World) -> float:
    """Wait until it is as it ought to be, and stays so; return how long it took."""
    watch, began = world.watch, world.heap.now
    deadline = began + watch.bound_s
    while True:
        world.run(1.0)
        now = world.heap.now
        held = held_until(world)
        steady = now - max(watch.moved_at, watch.spoken_at) > STEADY_S
        there = all(host.serves for host in world.hosts.values())  # and nobody is about to go, or to come
        if steady and held is None and there and not watch.wrong():
            break
        if held is not None:  # what flaps is held for a while; and its return may be one move too many, too
            deadline = max(deadline, min(held + watch.bound_s, began + 2 * FLAP_S + 2 * watch.bound_s))
            if steady:
                world.hush(True)
                world.run(min(max(held - now, 0.0), FLAP_S))
                world.hush(False)
        if now > deadline:
            for what in watch.wrong() or ["who answers for what goes on to change"]:
                watch.fail(f"after {now - began:.0f} s of calm {what}")
            break
    if not world.setting.loss:
        for what in watch.misled():
            watch.fail(what)
    return watch.moved_at - began


def held_until(world: World) -> float | None:
    """Until when somebody holds what flaps; None: nobody does."""
    moments = [
        host.clock.true(until)
        for host in world.hosts.values()
        if host.program is not None
        for until in host.program.core._placement._held.values()
    ]
    return max(moments, default=None)


def quiet(world: World, *, lively: bool, seconds: float = QUIET_S) -> None:
    """Nothing happens any more; hellos, which are the most of it, are taken for granted unless `lively`."""
    world.tell("quiet", "begins")
    world.hush(not lively)
    world.watch.begin_quiet()
    world.run(seconds)
    world.watch.end_quiet(seconds)
