"""What counts of what several sources say, when some of it is wrong."""

from typing import Any

import pytest

from lbspeaker.config.documents import from_object
from lbspeaker.model import ConfigSet, Verdict
from lbspeaker.observe.configuration import Configuration

Json = dict[str, Any]


def obj(kind: str, name: str, created: int = 1, generation: int = 1, **spec: Any) -> Json:
    return {
        "apiVersion": "lbspeaker.io/v1beta1",
        "kind": kind,
        "metadata": {
            "name": name,
            "creationTimestamp": f"2026-01-01T00:00:{created:02}Z",
            "generation": generation,
        },
        "spec": spec,
    }


def pool(name: str, *addresses: str, **more: Any) -> Json:
    return obj("IPAddressPool", name, addresses=list(addresses), **more)


class World:
    """The objects of a cluster, and who reads them."""

    def __init__(self, *objects: Json) -> None:
        self.configuration = Configuration()
        self.now: ConfigSet = self.apply(*objects)

    def apply(self, *objects: Json) -> ConfigSet:
        for one in objects:
            document = from_object(one)
            self.configuration.say(document.object, [document], order=(document.created, document.object))
        return self._parse()

    def delete(self, *keys: str) -> ConfigSet:
        for key in keys:
            self.configuration.say(key, [])
        return self._parse()

    def restart(self, *objects: Json) -> ConfigSet:
        """Another one begins, with what was published, and these objects."""
        self.configuration = Configuration()
        for value in self.now.documents:
            document = from_object(value)
            self.configuration.remember(document.object, [document])
        return self.apply(*objects)

    def _parse(self) -> ConfigSet:
        self.configuration.complete()
        self.now = self.configuration.parse()
        return self.now

    def verdict(self, key: str) -> Verdict:
        return next(verdict for verdict in self.now.verdicts if verdict.key == key)

    def pools(self) -> dict[str, str]:
        return {one.name: ", ".join(map(str, one.ranges)) for one in self.now.config.pools}


A, B = pool("a", "192.0.2.1-192.0.2.9"), pool("b", "192.0.2.11-192.0.2.19", created=2)
WIDE_A = pool("a", "192.0.2.1-192.0.2.15", generation=2)
AGGREGATE = obj("BGPAdvertisement", "ad", aggregationLength=24)
NAMES = obj("Community", "names", communities=[{"name": "one", "value": "64512:1"}])
NAMED = obj("BGPAdvertisement", "ad", communities=["one"])


def test_an_edit_that_would_make_another_one_wrong_is_held_back_not_the_other_one() -> None:
    world = World(A, B)
    world.apply(WIDE_A)
    assert world.pools() == {"a": "192.0.2.1-192.0.2.9", "b": "192.0.2.11-192.0.2.19"}
    verdict = world.verdict("IPAddressPool/a")
    assert not verdict.accepted
    assert verdict.generation == 2
    assert verdict.message == (
        "this would make IPAddressPool/b wrong: 192.0.2.11-192.0.2.19 overlaps 192.0.2.1-192.0.2.15 of pool a"
        " (take 192.0.2.11-192.0.2.15 out of one of the two);"
        " the last right version of generation 1 stays in force"
    )
    assert world.verdict("IPAddressPool/b").accepted
    world.restart(WIDE_A, B)
    assert world.pools() == {"a": "192.0.2.1-192.0.2.9", "b": "192.0.2.11-192.0.2.19"}
    world.delete("IPAddressPool/b")
    assert world.pools() == {"a": "192.0.2.1-192.0.2.15"}
    assert world.verdict("IPAddressPool/a").accepted


def test_a_new_object_that_would_make_another_one_wrong_does_not_count() -> None:
    world = World(pool("lan", "192.0.2.0/24"), AGGREGATE)
    world.apply(pool("small", "198.51.100.0/28", created=3))
    assert world.pools() == {"lan": "192.0.2.0-192.0.2.255"}
    assert [ad.name for ad in world.now.config.bgp_advertisements] == ["ad"]
    verdict = world.verdict("IPAddressPool/small")
    assert not verdict.accepted
    assert verdict.message.startswith("this would make BGPAdvertisement/ad wrong: a /24 is more than")
    assert "in force" not in verdict.message


@pytest.mark.parametrize("how", ["renamed", "deleted"])
def test_who_uses_a_name_keeps_what_it_meant(how: str) -> None:
    world = World(NAMES, NAMED)
    if how == "deleted":
        world.delete("Community/names")
        verdict = world.verdict("BGPAdvertisement/ad")
        assert (verdict.accepted, verdict.doubtful) == (True, True)
        assert "Community/names is gone, and what it said still counts here" in verdict.message
        objects = [NAMED]
    else:
        renamed = obj("Community", "names", generation=2, communities=[{"name": "uno", "value": "64512:1"}])
        world.apply(renamed)
        assert not world.verdict("Community/names").accepted
        assert world.verdict("BGPAdvertisement/ad").accepted
        objects = [renamed, NAMED]
    for _ in range(2):
        (ad,) = world.now.config.bgp_advertisements
        assert ad.communities == ("64512:1",)
        world.restart(*objects)
    world.apply(obj("BGPAdvertisement", "ad", generation=2))
    assert not any("names" in problem.what for problem in world.now.problems)


def test_what_is_wrong_on_its_own_counts_as_it_was() -> None:
    world = World(A, B)
    world.apply(pool("b", "192.0.2.19-192.0.2.11", created=2, generation=2))
    assert world.pools()["b"] == "192.0.2.11-192.0.2.19"
    assert "the last right version of generation 1 stays in force" in world.verdict("IPAddressPool/b").message


def test_a_pool_made_anew_under_the_name_of_one_that_is_gone_is_another_one() -> None:
    world = World(A)
    world.restart(pool("a", "192.0.2.9-192.0.2.1", created=9))
    assert world.pools() == {}
    assert "in force" not in world.verdict("IPAddressPool/a").message


def test_a_pool_that_is_being_deleted_gives_way_to_one_with_its_addresses() -> None:
    world = World(A)
    leaving = pool("a", "192.0.2.1-192.0.2.9")
    leaving["metadata"]["deletionTimestamp"] = "2026-01-02T00:00:00Z"
    world.apply(leaving, pool("renamed", "192.0.2.1-192.0.2.5", created=5))
    assert world.pools() == {"renamed": "192.0.2.1-192.0.2.5", "a": "192.0.2.6-192.0.2.9"}
    assert all(verdict.accepted for verdict in world.now.verdicts)


def test_a_link_policy_is_judged_and_kept_like_any_other_object() -> None:
    world = World(obj("LinkPolicy", "a", rate=5), obj("LinkPolicy", "b", created=2, rate=6))
    assert world.now.config.link_policy({}, "eth0").rate == 5
    assert [document["kind"] for document in world.now.documents] == ["LinkPolicy", "LinkPolicy"]
    told = world.verdict("LinkPolicy/b")
    assert (told.accepted, told.doubtful) == (True, True)
    assert "the first by name counts" in told.message
    world.restart(obj("LinkPolicy", "a", generation=2, rate=0))
    assert not world.verdict("LinkPolicy/a").accepted
    assert world.now.config.link_policy({}, "eth0").rate == 5, "as it last was when it was right"
    world.delete("LinkPolicy/a")
    assert world.now.config.link_policy({}, "eth0").rate is None


def test_two_thousand_wrong_objects_take_no_longer_than_right_ones() -> None:
    """Counted in how often documents are parsed, not in seconds."""
    parsed = 0
    original = Configuration.parse.__globals__["parse"]

    def counted(documents: list[object]) -> object:
        nonlocal parsed
        parsed += 1
        return original(documents)

    wrong = [pool(f"p{n}", "192.0.2.9-192.0.2.1") for n in range(200)]
    right = [pool(f"p{n}", f"10.0.{n}.0/24") for n in range(200)]
    with pytest.MonkeyPatch.context() as patched:
        patched.setitem(Configuration.parse.__globals__, "parse", counted)
        world = World(*right)
        world.apply(*wrong)
    assert len(world.pools()) == 200
    assert parsed <= 3
