"""A whole cluster at one glance: what is wrong, and which tables one gets to see."""

from dataclasses import replace
from ipaddress import ip_network
from typing import Any

import pytest
from click.testing import CliRunner
from msgspec import structs

from lbspeaker.cli import status as module
from lbspeaker.core.election import rank
from lbspeaker.errors import Unable, Unavailable
from lbspeaker.model import ALLOCATED, EXCLUDE, BGPAdvertisement, Condition, MemberLink, PoolStatus
from lbspeaker.observe.look import Look
from lbspeaker.observe.overview import Overview, PoolRow, only, overview
from lbspeaker.observe.said import as_said
from lbspeaker.wire import status
from tests.build import ip, service, snapshot
from tests.wire.test_status import GUARD, STATUS

NOW = 1_764_331_200.0
WEB = service("web", held="192.0.2.10")
FIRST, SECOND, THIRD = rank(ip("192.0.2.10"), dict.fromkeys("abc", 0))
EMPTY = structs.replace(
    STATUS, ips=(), guards=(), problems=(), peers=(), bfd=(), members=(), started=NOW - 60
)
ROUTER = status.Peer("router", "192.0.2.1", 64512, "up", NOW - 60, 1, 1, 0, 0, "", "")
OWNED = status.IP("192.0.2.10", (), "owner", ("eth0",), NOW - 30, "takeover", moves=1)


def says(node: str, *ips: status.IP, **fields: Any) -> status.Status:
    return structs.replace(EMPTY, node=node, ips=ips, **fields)


def look(*said: status.Status, **fields: Any) -> Look:
    """A cluster of a, b and c in which all is well, but for what is said."""
    given = {one.node: one for one in said}
    speakers = {name: given.get(name, says(name)) for name in "abc"}
    if FIRST not in given:
        speakers[FIRST] = says(FIRST, OWNED)
    world = fields.pop("snapshot", snapshot(WEB))
    silent_s = fields.pop("silent_s", dict.fromkeys("abc", 0.5))
    fields = {"controller": "one", **fields}
    return Look(world, speakers, silent_s, {"lan": PoolStatus(assigned_v4=1, size_v4=51)}, **fields)


def test_all_is_well() -> None:
    found = overview(look(), NOW)
    assert (found.verdict, found.problems) == ("well", ())
    assert found.pools == (PoolRow("lan", 4, 51, 1, 0),)
    (row,) = found.services
    assert (row.service, row.mode, row.owner, row.moves, row.why) == ("default/web", "layer2", FIRST, 1, "")
    assert [(one.node, one.alive, one.owned) for one in found.speakers] == [
        (name, True, int(name == FIRST)) for name in "abc"
    ]


def test_an_owner_that_the_others_do_not_hear_is_told_of_at_its_ip() -> None:
    """Its Lease is fresh, and it says itself that it answers: so it does, and nobody hears it."""
    links = (MemberLink("eth0", b"0" * 6), MemberLink("eth1", b"1" * 6))
    world = replace(snapshot(WEB), links={FIRST: links})

    def silent(*on: str) -> str:
        member = status.Member(FIRST, True, ("eth0",) if "eth0" not in on else (), on)
        deaf = [says(name, members=(member,)) for name in (SECOND, THIRD)]
        (row,) = overview(look(says(FIRST, OWNED), *deaf, snapshot=world), NOW).services
        return row.why

    by = ", ".join(sorted((SECOND, THIRD)))
    assert silent("eth0") == f"{FIRST} is not heard on its eth0 by {by}; look at that link, and at the switch"
    assert silent() == ""
    assert silent("eth1") == "", "its other link carries the IP"


def test_moves_are_those_that_any_live_speaker_has_seen() -> None:
    """Whoever holds the IP now may have begun a moment ago."""
    seen = look(says(SECOND, moves={"192.0.2.10": 9}), says(THIRD, moves={"192.0.2.10": 4}))
    assert [row.moves for row in overview(seen, NOW).services] == [9]
    dead = replace(seen, snapshot=replace(seen.snapshot, members=frozenset((FIRST, THIRD))))
    assert [row.moves for row in overview(dead, NOW).services] == [4]


WAITS = Condition(ALLOCATED, "False", "PoolExhausted", "all pools are full")
STORIES: dict[str, tuple[Look, str]] = {
    "no controller": (look(controller=""), "no controller acts, so new Services get no IP"),
    "a node without a speaker": (
        look(
            snapshot=replace(snapshot(WEB), members=frozenset((FIRST, SECOND))),
            silent_s={FIRST: 0.1, SECOND: 0.1},
        ),
        f"{THIRD} has no speaker: it announces nothing",
    ),
    "a silent speaker": (
        look(
            snapshot=replace(snapshot(WEB), members=frozenset("abc") - {THIRD}),
            silent_s={**dict.fromkeys("abc", 0.1), THIRD: 42.0},
        ),
        f"{THIRD}: its speaker has been silent for 42 s",
    ),
    "one that has ended": (
        look(
            says(THIRD, state="stopped"),
            snapshot=replace(snapshot(WEB), members=frozenset("abc") - {THIRD}),
            silent_s={**dict.fromkeys("abc", 0.1), THIRD: 42.0},
        ),
        f"{THIRD}: its speaker has ended",
    ),
    "no speaker at all": (
        Look(replace(snapshot(), members=frozenset()), controller="one"),
        "no speaker runs: nothing is announced",
    ),
    "what two complain of is told once": (
        look(says(SECOND, problems=("peer router: why",)), says(THIRD, problems=("peer router: why",))),
        f"{', '.join(sorted((SECOND, THIRD)))}: peer router: why",
    ),
    "a configuration object that is refused": (
        look(refused=(("BGPPeer/tor", "spec.peerASN is missing"),)),
        "BGPPeer/tor is not in force: spec.peerASN is missing",
    ),
    "a Service that waits": (
        look(says(FIRST), snapshot=snapshot(service("web", condition=WAITS))),
        "default/web: no IP: all pools are full (PoolExhausted)",
    ),
    "a Service that no advertisement selects": (
        look(says(FIRST), snapshot=snapshot(WEB, l2=())),
        "default/web 192.0.2.10: no L2Advertisement selects pool lan; create an L2Advertisement or a BGPAdv",
    ),
    "a Service without endpoints": (
        look(says(FIRST), snapshot=snapshot(WEB, on="")),
        "default/web 192.0.2.10: ",
    ),
    "an IP that nobody answers for": (
        look(says(FIRST)),
        f"default/web 192.0.2.10: nobody answers for it yet; {FIRST} should",
    ),
    "one that is held back": (
        look(says(FIRST, structs.replace(OWNED, role="held-back"))),
        f"default/web 192.0.2.10: {FIRST} holds it back",
    ),
    "a host that has it, too": (
        look(says(FIRST, structs.replace(OWNED, conflict="00:00:5e:00:53:01", vendor="Canon"))),
        "default/web 192.0.2.10: another host uses it (00:00:5e:00:53:01 Canon)",
    ),
    "two owners": (
        look(says(FIRST, OWNED), says(SECOND, OWNED)),
        f"default/web 192.0.2.10: {', '.join(sorted((FIRST, SECOND)))} answer for it at once",
    ),
}


@pytest.mark.parametrize(("seen", "problem"), STORIES.values(), ids=STORIES)
def test_one_line_says(seen: Look, problem: str) -> None:
    found = overview(seen, NOW)
    (told,) = found.problems
    assert told.startswith(problem)
    assert found.verdict == "1 problem"


def test_a_move_that_goes_on_and_one_speaker_that_has_ended_before_are_no_problem() -> None:
    moving = structs.replace(OWNED, since=NOW - 1)
    assert overview(look(says(FIRST, moving), says(SECOND, OWNED)), NOW).problems == ()
    gone = look(
        says(THIRD, OWNED, problems=("old",)),
        snapshot=replace(snapshot(WEB, nodes=f"{FIRST} {SECOND}"), members=frozenset((FIRST, SECOND))),
    )
    assert overview(gone, NOW).problems == ()


def test_who_follows_another_configuration_than_the_published_one() -> None:
    seen = replace(look(says("a", config="new"), says("b", config="old")), config="new")
    rows = {one.node: one.config for one in overview(seen, NOW).speakers}
    assert rows == {"a": "current", "b": "other", "c": ""}
    assert {one.config for one in overview(replace(seen, config=""), NOW).speakers} == {""}


def test_the_last_words_of_a_dead_speaker_are_not_what_is() -> None:
    dead = says(THIRD, peers=(ROUTER,), guards=(GUARD,))
    world = replace(snapshot(WEB), members=frozenset((FIRST, SECOND)))
    found = overview(look(says(FIRST, OWNED, peers=(ROUTER,)), dead, snapshot=world), NOW)
    assert {node: peer.state for node, peer in found.peers} == {FIRST: "up", THIRD: "unknown"}
    assert found.guards == ()
    unread = overview(look(dead, snapshot=world, unread=("leases: forbidden",)), NOW)
    assert [peer.state for _, peer in unread.peers] == ["up"], "who knows whether it is dead"


def test_who_has_no_session_announces_nothing_by_bgp() -> None:
    world = snapshot(WEB, bgp=(BGPAdvertisement("bgp"),))

    def shown(*states: str) -> tuple[str, str]:
        peers = [structs.replace(ROUTER, state=state) for state in states]
        said = [says(node, peers=(peer,)) for node, peer in zip((SECOND, THIRD), peers[1:], strict=True)]
        first = says(FIRST, OWNED, peers=(peers[0],))
        (row,) = overview(look(first, *said, snapshot=world), NOW).services
        return row.announcers, row.why

    assert shown("up", "up", "up") == (f"{FIRST}, 3 nodes", "")
    assert shown("connecting", "up", "held") == (f"{FIRST}, 1 node", "")
    owner, why = shown("idle", "connecting", "held")
    assert owner == FIRST and why.startswith("no router is told of it")


def test_what_is_announced_by_bgp() -> None:
    world = snapshot(WEB, l2=(), bgp=(BGPAdvertisement("bgp"),))
    others = [says(node, peers=(ROUTER,)) for node in (SECOND, THIRD)]
    (row,) = overview(look(says(FIRST, peers=(ROUTER,)), *others, snapshot=world), NOW).services
    assert (row.mode, row.announcers, row.why) == ("bgp", "3 nodes", "")
    assert (row.owner, row.nodes, row.since) == ("", tuple("abc"), None)
    both = snapshot(WEB, bgp=(BGPAdvertisement("bgp"),))
    (row,) = overview(look(says(FIRST, OWNED, peers=(ROUTER,)), *others, snapshot=both), NOW).services
    assert (row.mode, row.announcers) == ("layer2+bgp", f"{FIRST}, 3 nodes")
    assert (row.owner, row.nodes) == (FIRST, tuple("abc"))


def test_what_a_node_announces_by_bgp_is_about_that_node() -> None:
    world = snapshot(replace(WEB, local=True), on=THIRD, l2=(), bgp=(BGPAdvertisement("bgp"),))
    found = overview(look(*(says(node, peers=(ROUTER,)) for node in "abc"), snapshot=world), NOW)
    counts = {node: len(only(found, (), node, problems=False).services) for node in "abc"}
    assert counts == {node: int(node == THIRD) for node in "abc"}


def test_a_route_that_is_not_sent_is_not_announced() -> None:
    """Though there is a session, and it has sent another one."""
    world = snapshot(WEB, l2=(), bgp=(BGPAdvertisement("bgp"),))
    lacking = structs.replace(
        ROUTER, last_error="an old one", sent=1, desired=2, unsent={"192.0.2.10/32": "Why: what; do this"}
    )

    def shown(*peers: status.Peer) -> tuple[str, str]:
        said = [says(node, peers=(peer,)) for node, peer in zip((FIRST, SECOND, THIRD), peers, strict=True)]
        found = overview(look(*said, snapshot=world), NOW)
        assert len(only(found, (), None, problems=True).peers) == sum(peer != ROUTER for peer in peers)
        return found.services[0].announcers, found.services[0].why

    assert shown(lacking, ROUTER, ROUTER) == ("2 nodes", "")
    assert shown(lacking, lacking, lacking) == ("", "no router is told of it: Why: what; do this")
    other = structs.replace(lacking, unsent={"192.0.2.11/32": "why", "2001:db8::/64": "why"})
    held = structs.replace(lacking, state="held")
    assert shown(other, lacking, held) == ("1 node", "")
    assert (lacking.trouble, ROUTER.trouble) == ("Why: what; do this", "")
    assert structs.replace(lacking, unsent={}).trouble == "", "what ended a session before is over"
    assert structs.replace(lacking, state="held").trouble == "an old one"


def test_a_service_that_nobody_announces_by_bgp_is_a_problem() -> None:
    """With what to do, also where all nodes have something against it."""
    world = snapshot(WEB, l2=(), bgp=(BGPAdvertisement("bgp"),))
    said = [says(node, peers=(ROUTER,)) for node in (FIRST, SECOND, THIRD)]
    (told,) = overview(look(*said, snapshot=replace(world, endpoints={})), NOW).problems
    assert told.startswith("default/web 192.0.2.10: default/web has no endpoint that serves")
    out = snapshot(
        WEB,
        bgp=(BGPAdvertisement("bgp"),),
        node_fields={key: {"labels": {EXCLUDE: ""}} for key in "abc"},
    )
    (told,) = overview(look(*said, snapshot=out), NOW).problems
    why = ", ".join(f"{node} has the label {EXCLUDE}" for node in "abc")
    assert told == f"default/web 192.0.2.10: {why}; kubectl label node NODE {EXCLUDE}-"


def test_a_node_that_is_taken_out_is_shown_as_that_and_named_where_it_is_in_the_way() -> None:
    local = replace(WEB, local=True)
    world = snapshot(local, on=THIRD, node_fields={THIRD: {"labels": {EXCLUDE: ""}}})
    found = overview(look(says(FIRST), snapshot=world), NOW)
    assert [row.state for row in found.speakers if row.node == THIRD] == ["taken out"]
    (problem,) = found.problems
    assert f"{THIRD} has the label {EXCLUDE}" in problem


def test_what_was_not_seen_is_said_and_is_no_problem() -> None:
    """Nor is anything that would follow from it, were it not there."""
    unread = ("leases: forbidden; needed: list leases",)
    found = overview(look(unread=unread), NOW)
    assert (found.verdict, found.problems) == ("nothing is wrong, as far as it can be seen", ())
    for blind in (
        replace(snapshot(WEB), members=frozenset()),
        snapshot(WEB, on=""),
        snapshot(WEB, pools=(), l2=()),
        snapshot(WEB, bgp=(BGPAdvertisement("bgp"),)),
    ):
        seen = look(says(FIRST), snapshot=blind, silent_s={}, unread=unread)
        assert overview(seen, NOW).problems == ()


def test_what_is_the_same_of_many_services_is_one_line() -> None:
    many = [service(f"s{number}", held=f"192.0.2.{number}") for number in range(10, 40)]
    found = overview(look(says(FIRST), snapshot=snapshot(*many, on="")), NOW)
    assert len(found.problems) == 30, "each has its own name in it"
    found = overview(look(says(FIRST), snapshot=snapshot(*many)), NOW)
    assert len(found.problems) == 3
    assert all(" more: nobody answers for it yet; " in one for one in found.problems)


def chosen(**choice: Any) -> Overview:
    shop = service("shop/cart", held="192.0.2.11")
    said = look(says(SECOND, problems=("peer router: why",)), snapshot=snapshot(WEB, shop, on="a b c"))
    given = {"services": (), "node": None, "problems": False, **choice}
    return only(overview(said, NOW), given.pop("services"), given.pop("node"), **given)


def test_a_choice_is_shown_of_it() -> None:
    assert [row.service for row in chosen().services] == ["default/web", "shop/cart"]
    assert [row.service for row in chosen(services=("shop/",)).services] == ["shop/cart"]
    assert [row.service for row in chosen(services=("default/web",)).services] == ["default/web"]
    assert chosen(services=("default/web",)).problems == ()
    (told,) = only(overview(look(controller=""), NOW), ("default/web",), None, problems=False).problems
    assert told.startswith("no controller acts"), "that concerns everybody"
    assert [one.split(" ")[0] for one in chosen(services=("shop/cart",)).problems] == ["shop/cart"]
    assert [row.node for row in chosen(node=SECOND).speakers] == [SECOND]
    assert chosen(node=SECOND).problems == (f"{SECOND}: peer router: why",)
    troubled = chosen(problems=True)
    assert [row.service for row in troubled.services] == ["shop/cart"]
    assert [row.node for row in troubled.speakers] == [SECOND]


def shown(monkeypatch: pytest.MonkeyPatch, seen: Look, *options: str) -> Any:
    monkeypatch.setattr(module, "look", lambda **_: seen)
    return CliRunner(env={"COLUMNS": "160"}).invoke(module.status, ["--kubeconfig", "/nowhere", *options])


def test_the_command(monkeypatch: pytest.MonkeyPatch) -> None:
    done = shown(monkeypatch, look())
    assert (done.exit_code, done.stdout.splitlines()[0]) == (0, "well")
    rows = [line.split() for line in done.stdout.splitlines()]
    assert ["lan", "IPv4", "51", "1", "2", "0"] in rows
    assert any(row[:4] == ["default/web", "192.0.2.10", "layer2", FIRST] for row in rows)
    done = shown(monkeypatch, look(controller=""), "-o", "json")
    assert done.exit_code == 1 and '"verdict": "1 problem"' in done.stdout
    assert shown(monkeypatch, look(unread=("leases: forbidden",))).exit_code == 3
    for output in ("yaml", "wide"):
        assert shown(monkeypatch, look(), "-o", output).exit_code == 0


@pytest.mark.parametrize(
    ("asked", "hint"),
    [
        (("default/wbe",), "did you mean default/web?"),
        (("nowhere/",), "there are: default/web."),
        (("--node", "z"), "there are: a, b, c"),
    ],
)
def test_a_name_that_nobody_has(monkeypatch: pytest.MonkeyPatch, asked: tuple[str, ...], hint: str) -> None:
    done = shown(monkeypatch, look(), *asked)
    assert isinstance(done.exception, Unable) and hint in str(done.exception)


def test_in_a_namespace_without_anything_of_ours_it_cannot_be_told(monkeypatch: pytest.MonkeyPatch) -> None:
    """All nodes and Services are there, and none of them is to blame."""
    monkeypatch.setattr(module, "look", lambda **_: Look(snapshot(WEB), namespace="nope"))
    done = CliRunner().invoke(module.status, ["--kubeconfig", "x", "--namespace", "nope"])
    assert isinstance(done.exception, Unavailable)
    assert "no configuration is published in namespace nope" in str(done.exception)


def test_doubts_are_shown_and_are_no_problem() -> None:
    found = overview(replace(look(), doubts=(("L2Advertisement/l2", "there is no pool tinny"),)), NOW)
    assert (found.verdict, found.doubts) == ("well", ("L2Advertisement/l2: there is no pool tinny",))


def test_a_remedy_names_the_namespace() -> None:
    (told,) = overview(replace(look(controller=""), namespace="other"), NOW).problems
    assert "kubectl -n other get pods" in told


def test_explanations_hear_which_routes_are_not_sent() -> None:
    lacking = structs.replace(ROUTER, sent=1, desired=2, unsent={"192.0.2.10/32": "Why: what; do this"})
    (peer,) = as_said(says("a", peers=(lacking,))).peers.values()
    assert (peer.has_sent(ip_network("192.0.2.10/32")), peer.has_sent(ip_network("192.0.2.11/32"))) == (
        False,
        True,
    )
