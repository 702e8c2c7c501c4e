"""What a speaker says of itself in the cluster: there and back, and only what has changed."""

import itertools
import json
import random
from typing import Any

import msgspec
import pytest

from lbspeaker.config.crds import crds
from lbspeaker.errors import Malformed
from lbspeaker.wire import speaker_object, status

GUARD = status.Guard(
    *("eth0", "arp", "standard", False, {"new": 2}, {}, 0, 0.5, 0.0, 20, 1, 0, 0, 1.5, 0),
)
IPS = (
    status.IP("192.0.2.10", ("default/web",), "owner", ("eth0",), 1764331200.5, "takeover", moves=2),
    status.IP("192.0.2.11", ("default/dns",), "held-back", conflict="00:00:5e:00:53:01", vendor="Canon"),
)
UNSENT = {"2001:db8::10/128": "FamilyNotNegotiated: the router does not take IPv6 routes; activate it"}
SAID = status.Status(
    *("node-a", "1.2.3", "serving", 1764331200.0, 0.1),
    (status.Member("node-a", True), status.Member("node-b", False, (), ("eth0",))),
    IPS,
    (GUARD,),
    {"192.0.2.10": "node-a"},
    ("peer router: no session for 9 s: why; what to do", "another one"),
    (status.BFD("192.0.2.1", "up", "", 100.0, 300.0, 9, 9, {"ttl": 1}),),
    (status.Peer("router", "192.0.2.1", 64512, "up", 1764331201.0, 2, 3, 1, 0, "up", "", unsent=UNSENT),),
    moves={"192.0.2.12": 3},
)


def back(body: dict[str, Any]) -> status.Status:
    return speaker_object.parse({"metadata": {"name": "node-a"}, "status": json.loads(json.dumps(body))})


def test_it_comes_back_without_what_others_say() -> None:
    """Services say which IPs they have, Leases which pins there are; counters of packets never rest."""
    expected = msgspec.structs.replace(
        SAID,
        api_silent_s=0.0,
        pins={},
        ips=tuple(msgspec.structs.replace(one, services=()) for one in IPS),
        bfd=(msgspec.structs.replace(SAID.bfd[0], sent=0, received=0, dropped={}),),
    )
    assert back(speaker_object.body(SAID, 1764331300.0)) == expected


def test_kubectl_shows_the_essential() -> None:
    body = speaker_object.body(SAID, 1764331300.0)
    assert (body["state"], body["owned"], body["sessions"], body["alive"]) == ("serving", 1, "1/1", 1)
    assert body["verdict"] == f"{SAID.problems[0]} (and 1 more)"
    assert speaker_object.body(msgspec.structs.replace(SAID, problems=()), 1764331300.0)["verdict"] == "well"


def test_of_very_many_unsent_routes_some_are_told() -> None:
    many = {f"2001:db8::{number:x}/128": "why" for number in range(5_000)}
    peers = (msgspec.structs.replace(SAID.peers[0], unsent=many),)
    (peer,) = back(speaker_object.body(msgspec.structs.replace(SAID, peers=peers), 1764331300.0)).peers
    assert list(peer.unsent) == list(many)[: speaker_object.MOST_UNSENT]


def test_the_schema_has_all_of_it() -> None:
    (crd,) = [crd for crd in crds() if crd["spec"]["names"]["kind"] == "Speaker"]
    schema = crd["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]["status"]

    def fits(value: Any, schema: dict[str, Any]) -> None:
        if isinstance(value, dict):
            for key, inner in value.items():
                fits(inner, schema.get("properties", {}).get(key) or schema["additionalProperties"])
        kinds: dict[str, Any] = {
            "object": dict,
            "string": str,
            "boolean": bool,
            "integer": int,
            "array": list,
        }
        assert isinstance(value, kinds.get(schema["type"], (int, float)))

    fits(speaker_object.body(SAID, 1764331300.0), schema)


def test_a_patch_carries_only_what_has_changed_and_makes_one_of_the_other() -> None:
    dice = random.Random(7)
    bodies: list[dict[str, Any]] = [{}]
    for _ in range(60):
        ips = tuple(one for one in IPS if dice.random() < 0.7)
        ips = tuple(msgspec.structs.replace(one, role=dice.choice(["owner", "lent"])) for one in ips)
        problems = SAID.problems[: dice.randrange(3)]
        bodies.append(
            speaker_object.body(msgspec.structs.replace(SAID, ips=ips, problems=problems), 1764331300.0)
        )
    for before, after in itertools.pairwise(bodies):
        patch = speaker_object.patch(before, after)
        assert merged(before, patch) == after
        assert bool(patch) == (before != after)
    one, two = (speaker_object.body(msgspec.structs.replace(SAID, ips=IPS[:n]), 1764331300.0) for n in (1, 2))
    assert set(speaker_object.patch(one, two)) == {"ips"}


def merged(target: dict[str, Any], patch: dict[str, Any]) -> dict[str, Any]:
    """RFC 7386 §2."""
    result = dict(target)
    for key, value in patch.items():
        if value is None:
            result.pop(key, None)
        else:
            result[key] = merged(result.get(key, {}), value) if isinstance(value, dict) else value
    return result


def test_counters_are_no_news_and_all_else_is() -> None:
    def news(**fields: Any) -> bool:
        before, after = (
            speaker_object.body(one, 1764331300.0) for one in (SAID, msgspec.structs.replace(SAID, **fields))
        )
        return speaker_object.news(before) != speaker_object.news(after)

    assert not news(guards=(msgspec.structs.replace(GUARD, sent={"new": 3}, unpaced=99),))
    assert news(guards=(msgspec.structs.replace(GUARD, queue=9),)), "that something waits, and not how much"
    assert not news(api_silent_s=9.0)
    assert not news(moves={"192.0.2.12": 4}), "all of whom would write at each move"
    assert news(guards=(msgspec.structs.replace(GUARD, storms=1),))
    assert news(ips=IPS[:1]) and news(problems=()) and news(state="draining") and news(peers=())


def test_ten_thousand_ips_fit_into_an_object() -> None:
    ips = tuple(
        status.IP(
            *(f"2001:db8:aaaa:bbbb:cccc:dddd:{n:x}:1", ("namespace/service",), "owner", ("eth0",)),
            *(1764331200.123456, "takeover"),
        )
        for n in range(20_000)
    )
    body = speaker_object.body(msgspec.structs.replace(SAID, ips=ips), 1764331300.0)
    assert len(body["ips"]) == speaker_object.MOST_IPS
    assert body["owned"] == 20_000
    assert len(json.dumps(body)) < 1_500_000


@pytest.mark.parametrize(
    "said",
    [{"ips": 7}, {"ips": {"192.0.2.10": "owner"}}, {"started": "long ago"}, {"guards": {"eth0": {}}}, 7],
)
def test_what_somebody_else_wrote_is_refused(said: Any) -> None:
    with pytest.raises(Malformed, match="Speaker node-a"):
        speaker_object.parse({"metadata": {"name": "node-a"}, "status": said})


def test_one_that_has_said_nothing_yet() -> None:
    assert speaker_object.parse({"metadata": {"name": "node-a"}}).state == "unknown"
