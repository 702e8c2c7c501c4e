"""A bounded time in which much goes wrong, as the seed decides; and what kind of cluster it goes wrong in."""

from collections.abc import Callable
from random import Random

from lbspeaker.model import Kind, L2Advertisement, LinkPolicy, NodePreference, Scope
from tests.build import selector
from tests.sim.world import Setting, World

EXCLUDED = "node.kubernetes.io/exclude-from-external-load-balancers"


def setting(random: Random, nodes: int | None = None) -> Setting:
    """Small clusters are the more frequent ones: there is where majorities are scarce."""
    if nodes is None:
        sizes = ((5, 6), (7, 9), (10, 16), (17, 50), (2, 4))
        nodes = random.randint(*random.choices(sizes, weights=(50, 25, 6, 1, 20))[0])
    profile = random.choices(("standard", "strict", "fast"), weights=(6, 1, 1))[0]
    dad = random.choices(("fast", "off", "rfc"), weights=(6, 2, 1))[0]
    lossy = random.random() < 0.4
    return Setting(
        nodes=nodes,
        services=random.randint(1, 30),
        hellos=random.random() < 0.8,
        witness=random.random() < 0.5,
        policy=LinkPolicy("all", profile=profile, dad=dad),  # type: ignore[arg-type]
        advertisement=advertisement(random),
        loss=random.choice((0.001, 0.01, 0.05)) if lossy else 0.0,
        copies=random.choice((0.0, 0.01)),
        trouble=random.choice((0.0, 0.02, 0.1)),
        skew=0.01,
    )


def advertisement(random: Random) -> L2Advertisement:
    chosen = random.sample(("a", "b", "c"), random.randint(1, 2))
    selectors = tuple(selector(zone=zone) for zone in chosen) if random.random() < 0.2 else ()
    preferences = (NodePreference(10, selector(zone=random.choice("abc"))),) if random.random() < 0.2 else ()
    return L2Advertisement(
        "l2",
        Scope(node_selectors=selectors),
        preferences=preferences,
        failback=random.choices(("Always", "Never"), weights=(2, 1))[0],  # type: ignore[arg-type]
        on_cordon=random.choice(("Stay", "Move")),  # type: ignore[arg-type]
    )


class Weather:
    """Lets things happen to `world` until `end`, at times and in an order that the seed decides."""

    def __init__(self, world: World, random: Random, end: float) -> None:
        self.world = world
        self.random = random
        self.end = end
        self._mean_s = random.choice((1.0, 3.0, 6.0))
        kinds: list[tuple[Callable[[], None], int]] = [
            (self._crash, 3),
            (self._answerer_crash, 2),
            (self._hang_speaker, 3),
            (self._hang_both, 3),
            (self._hang_answerer, 1),
            (self._reboot, 2),
            (self._drain, 4),
            (self._cut_api, 3),
            (self._api_outage, 2),
            (self._create, 4),
            (self._delete, 4),
            (self._endpoints, 4),
            (self._traffic_policy, 2),
            (self._advertisement, 2),
            (self._cordon, 3),
            (self._exclude, 1),
            (self._not_ready, 2),
        ]
        if random.random() < 0.75:
            kinds += [(self._unplug, 2), (self._split, 3), (self._isolate, 3), (self._deafen, 3)]
        # Not everything in every story.
        self._kinds = [(act, weight * random.choice((0, 1, 1, 3))) for act, weight in kinds]
        if not any(weight for _, weight in self._kinds):
            self._kinds = kinds
        self._next()

    def _next(self) -> None:
        when = self.world.heap.now + self.random.expovariate(1 / self._mean_s)
        if when < self.end:
            self.world.heap.at(when, self._happen)

    def _happen(self) -> None:
        (act,) = self.random.choices([a for a, _ in self._kinds], [w for _, w in self._kinds])
        act()
        self._next()

    def _later(self, low_s: float, high_s: float, act: Callable[..., None], *args: object) -> None:
        """Within the bounds, but before the end."""
        when = self.world.heap.now + self.random.uniform(low_s, high_s)
        if when < self.end:
            self.world.heap.at(when, act, *args)

    def _host(self) -> str:
        return self.random.choice(list(self.world.hosts))

    def _some(self) -> list[str]:
        names = list(self.world.hosts)
        return self.random.sample(names, self.random.randint(1, max(1, len(names) // 2)))

    def _service(self) -> str | None:
        return self.random.choice(list(self.world.services)) if self.world.services else None

    # -- programs and nodes --

    def _crash(self) -> None:
        self.world.hosts[self._host()].crash(self.random.uniform(0.5, 8.0))

    def _answerer_crash(self) -> None:
        self.world.hosts[self._host()].kill_answerer()

    def _hang(self, *, speaker: bool, answerer: bool) -> None:
        host = self.world.hosts[self._host()]
        host.stop(speaker=speaker, answerer=answerer)
        self._later(0.1, self.random.choice((1.0, 5.0, 20.0)), host.wake)

    def _hang_speaker(self) -> None:
        self._hang(speaker=True, answerer=False)

    def _hang_both(self) -> None:
        self._hang(speaker=True, answerer=True)

    def _hang_answerer(self) -> None:
        self._hang(speaker=False, answerer=True)

    def _reboot(self) -> None:
        host = self.world.hosts[self._host()]
        if host.on:
            host.power_off()
            self._later(2.0, 40.0, host.power_on)

    def _drain(self) -> None:
        self.world.hosts[self._host()].drain(self.random.uniform(1.0, 6.0))

    def _unplug(self) -> None:
        host = self.world.hosts[self._host()]
        host.plug(False)
        self._later(0.2, 15.0, host.plug, True)

    # -- the segment --

    def _split(self) -> None:
        clients = [name for name in self.world.wire.clients if self.random.random() < 0.5]
        self.world.split((), [*self._some(), *clients])
        self._later(0.2, 20.0, self.world.heal)

    def _isolate(self) -> None:
        self.world.split((), [self._host()])
        self._later(0.2, 20.0, self.world.heal)

    def _deafen(self) -> None:
        """One is not heard by some, or hears none of some."""
        one = self._host()
        others = [name for name in self._some() if name != one]
        if self.random.random() < 0.5:
            self.world.deafen(one, others)
        else:
            for other in others:
                self.world.deafen(other, [one])
        self._later(0.2, 20.0, self.world.heal)

    # -- the API --

    def _cut_api(self) -> None:
        nodes = [self._host()] if self.random.random() < 0.6 else self._some()
        self.world.cut_api(nodes)
        self._later(0.5, 20.0, self.world.mend_api, nodes)

    def _api_outage(self) -> None:
        self.world.api_down()
        self._later(0.5, 20.0, self.world.api_up)

    # -- people --

    def _create(self) -> None:
        if self.world.api.down:
            return
        for _ in range(self.random.choice((1, 1, 2, 8))):
            local = self.random.random() < 0.3
            self.world.create_service(local=local, on=self._some() if local else None)

    def _delete(self) -> None:
        key = self._service()
        if key is not None and not self.world.api.down:
            self.world.delete_service(key)

    def _endpoints(self) -> None:
        key = self._service()
        if key is not None and not self.world.api.down:
            self.world.set_endpoints(key, self.random.choice(([], self._some(), list(self.world.hosts))))

    def _traffic_policy(self) -> None:
        key = self._service()
        if key is not None and not self.world.api.down:
            self.world.set_local(key, not self.world.services[key].local)

    def _advertisement(self) -> None:
        if not self.world.api.down:
            ads = () if self.random.random() < 0.1 else (advertisement(self.random),)
            self.world.advertise(*ads)

    def _cordon(self) -> None:
        if not self.world.api.down:
            self.world.change_node(self._host(), cordoned=self.random.random() < 0.6)

    def _exclude(self) -> None:
        if not self.world.api.down:
            name = self._host()
            labels = dict(self.world.api.objects[Kind.NODE][name].labels)  # type: ignore[attr-defined]
            if labels.pop(EXCLUDED, None) is None:
                labels[EXCLUDED] = ""
            self.world.change_node(name, labels=labels)

    def _not_ready(self) -> None:
        if not self.world.api.down:
            name = self._host()
            self.world.change_node(name, ready=False)
            self._later(2.0, 30.0, lambda: self.world.change_node(name, ready=True))
