"""Why it is as it is; and that an explanation never differs from a plan."""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import replace
from ipaddress import ip_network
from random import Random
from typing import Any

import pytest

from lbspeaker.cli.plan import decide
from lbspeaker.core.choice import deciding, tried
from lbspeaker.core.explain import Case, Explanation, Living, Step, case
from lbspeaker.core.explain_ip import explain_ip
from lbspeaker.core.explain_node import explain_node
from lbspeaker.core.explain_service import explain_service
from lbspeaker.core.findings_pods import ports
from lbspeaker.core.remedies import REMEDIES
from lbspeaker.core.said import Said, SaidIP, SaidPeer
from lbspeaker.facts import Pod, PodPort, WiredPort
from lbspeaker.model import (
    BGPAdvertisement,
    Condition,
    Endpoint,
    L2Advertisement,
    MemberLink,
    NodePreference,
    Peer,
    Pin,
    Pool,
    Port,
    Reason,
    Reservation,
    Scope,
    Service,
    ServiceAllocation,
    Snapshot,
)
from tests.build import LAN, ROUTER, ip, ips, pool, scope, selector, service, snapshot
from tests.core.findings import evidence, wiring
from tests.core.findings import pod as pod_of

WEB = "default/web"
IP = ip("192.0.2.10")
EXCLUDE = "node.kubernetes.io/exclude-from-external-load-balancers"
BOTH: dict[str, Any] = {"bgp": (BGPAdvertisement("bgp"),)}


def asked(world: Snapshot, key: str = WEB, **more: Any) -> Explanation:
    """Without `more` about documents, else about a cluster that says this."""
    return explain_service(case(world, living=Living(1000.0, **more) if more else None), key)


def step(found: Explanation, name: str) -> Step:
    return next(one for one in found.steps if one.name == name)


def verdicts(found: Explanation) -> dict[str, str]:
    return {one.name: one.verdict for one in found.steps}


# --- the chain ------------------------------------------------------------------------------------------


def test_the_whole_chain_of_a_service_that_is_announced() -> None:
    found = asked(snapshot(service("web"), **BOTH))
    assert found.verdict == "ok"
    assert [one.name for one in found.steps] == [
        "class",
        "pools",
        "allocation",
        "endpoints",
        "advertisements",
        "candidates",
        "owner",
        "routes",
    ]
    owner = found.steps[6].lines[0].partition(":")[0]
    assert found.diagnosis == (
        f"192.0.2.10 of default/web is announced by {owner} on layer 2, and by BGP from a, b, c"
    )
    assert step(found, "routes").lines == tuple(f"{node} → router: 192.0.2.10/32" for node in "abc")


NO = {
    "not of type LoadBalancer": (
        snapshot(service("web", load_balancer=False)),
        "class",
        "default/web gets no IP: its type is not LoadBalancer",
    ),
    "another class": (
        snapshot(service("web", load_balancer_class="x")),
        "class",
        "default/web gets no IP: the service has loadBalancerClass x, and lbspeaker here serves those without"
        " a loadBalancerClass; make it anew with the right class",
    ),
    "an unknown pool": (
        snapshot(service("web", requested_pool="wan")),
        "pools",
        "default/web gets no IP: pool wan is requested, but it does not exist (pools: lan)",
    ),
    "no endpoints": (
        snapshot(service("web"), on=""),
        "endpoints",
        "traffic for default/web arrives nowhere: default/web has no endpoint that serves (there are none);"
        " check its selector and its Pods",
    ),
    "no advertisement": (
        snapshot(service("web"), l2=(L2Advertisement("l2", scope(pools=frozenset({"wan"}))),)),
        "advertisements",
        "192.0.2.10 of default/web is announced by nobody: no L2Advertisement and no BGPAdvertisement selects"
        " pool lan",
    ),
    "no node": (
        snapshot(service("web", local=True), on="c", members="a b"),
        "candidates",
        "no node announces 192.0.2.10 of default/web on layer 2: externalTrafficPolicy is Local, and no node"
        " that may announce it has a serving endpoint: no live speaker on c",
    ),
    "no peer": (
        snapshot(service("web"), l2=(), bgp=(BGPAdvertisement("bgp"),), peers=()),
        "routes",
        "no router is told of 192.0.2.10 of default/web: there is no BGPPeer; create one for the router",
    ),
}


@pytest.mark.parametrize(("world", "blamed", "diagnosis"), NO.values(), ids=NO.keys())
def test_what_is_in_the_way_is_told_once_with_what_to_do(
    world: Snapshot, blamed: str, diagnosis: str
) -> None:
    found = asked(world)
    assert found.verdict == "no"
    assert next(one.name for one in found.steps if one.verdict == "no") == blamed
    assert found.diagnosis == diagnosis
    assert found.next_step


def test_the_faults_of_its_ports_are_those_that_doctor_finds() -> None:
    """A name that no containerPort has, a number that no Pod declares; and what is right."""

    def with_ports(*targets: int | str, pods: tuple[Pod, ...] = (pod_of("default/web-1"),)) -> Explanation:
        wired = wiring(WEB, ports=tuple(WiredPort(80 + n, target) for n, target in enumerate(targets)))
        found = ports(evidence(wired, pods=pods))
        return explain_service(replace(case(snapshot(service("web"))), ports=found), WEB)

    found = with_ports("htpp")
    assert found.verdict == "no"
    assert found.diagnosis == (
        "clients of default/web are refused: port 80/TCP leads to the containerPort named htpp, and no Pod"
        " has one (they have http=8080/TCP)"
    )
    assert found.next_step.startswith("did you mean http? ")
    found = with_ports(8080, 9999)
    assert (found.verdict, step(found, "ports").why[:29]) == ("unknown", "port 81/TCP leads to 9999, an")
    assert "as far as can be seen: port 81/TCP leads to 9999" in found.diagnosis
    assert with_ports("http", 8080).verdict == "ok"
    assert step(with_ports("http"), "ports").verdict == "ok"
    other = pod_of("default/web-2", PodPort(9999, "admin"))
    found = with_ports("http", pods=(pod_of("default/web-1"), other))
    assert found.verdict == "ok", "a part of its Pods has it"
    assert "1 of 2 Pods have none" in step(found, "ports").lines[0]
    assert "ports" not in verdicts(with_ports("htpp", pods=())), "nobody knows its Pods"


def test_if_nothing_is_in_the_way_doctor_may_know_more() -> None:
    found = asked(snapshot(service("web"), **BOTH))
    assert found.next_step == (
        "if clients do not reach it: lbspeaker doctor default/web, then arping it on their segment, then"
        " lbspeaker upstream check (--help says how)"
    )


def test_each_reason_has_a_next_step() -> None:
    assert set(REMEDIES) == set(Reason)
    for text in REMEDIES.values():
        assert text.format(key="a/b", namespace="a", name="b")


def test_each_pool_says_why_it_was_not_chosen() -> None:
    pools = (
        pool("shop", "192.0.2.1", service_allocation=ServiceAllocation(namespaces=frozenset({"shop"}))),
        pool("asked", "192.0.2.2", auto_assign=False),
        pool("off", "192.0.2.3", disabled=True),
        pool("full", "192.0.2.4"),
        pool("six", "2001:db8::1"),
        pool("lan", "192.0.2.5-192.0.2.9"),
        pool("more", "192.0.2.20"),
    )
    world = snapshot(service("old", created="1", held="192.0.2.4"), service("web", created="2"), pools=pools)
    assert step(asked(world), "pools").lines == (
        "off: no: disabled",
        "full: no: 1 of 1 used",
        "six: no: it has no IPv4 addresses",
        "lan: chosen: the first that has an IP for it: 192.0.2.5",
        "more: not asked: lan comes before it",
        "shop: not asked: not for this service (serviceAllocation of shop: namespaces or selectors)",
        "asked: not asked: autoAssign is false: only for services that ask for it",
    )
    assert step(asked(world, "default/old"), "pools").lines[1] == (
        "full: chosen: the service keeps 192.0.2.4"
    )


def test_a_pool_that_became_free_for_it_in_a_later_pass_is_the_chosen_one() -> None:
    one = pool("one", "192.0.2.1")
    leaves = service("old", created="1", held="192.0.2.1", requested_pool="two")
    world = snapshot(leaves, service("web", created="0"), pools=(one, pool("two", "192.0.2.2")))
    assert step(asked(world), "pools").lines[-1].endswith("the first that has an IP for it: 192.0.2.2")
    assert step(asked(world, "default/old"), "allocation").verdict == "ok"


@pytest.mark.parametrize(
    ("fields", "line"),
    [
        ({"requested_ips": "192.0.2.12"}, "lan: chosen: 192.0.2.12 is requested"),
        ({"requested_pool": "lan"}, "lan: chosen: it is requested, and has 192.0.2.10 for it"),
        (
            {"requested_ips": "192.0.2.11"},
            "lan: no: 192.0.2.11 is requested, but it is in use by default/old, and the two have no sharing"
            " key in common",
        ),
        ({"requested_ips": "198.51.100.1"}, "lan: not asked: 198.51.100.1 is requested, which is not in it"),
    ],
)
def test_what_is_asked_for_is_told_of(fields: dict[str, Any], line: str) -> None:
    world = snapshot(service("old", created="0", held="192.0.2.11"), service("web", created="1", **fields))
    assert step(asked(world), "pools").lines == (line,)


def test_each_node_says_why_it_is_no_candidate() -> None:
    ad = L2Advertisement("front", scope(node_selectors=(selector(role="front"),)))
    front = {"labels": {"role": "front"}}
    world = snapshot(
        service("web", local=True),
        nodes="a b c d e f",
        members="a b c d e",
        on="a b c",
        l2=(ad,),
        node_fields={
            "a": front,
            "b": {**front, "network_unavailable": True},
            "c": {},
            "d": front,
            "e": {"labels": {**front["labels"], EXCLUDE: ""}},
            "f": front,
        },
    )
    assert step(asked(world), "candidates").lines == (
        "a: candidate",
        "b: b has the condition NetworkUnavailable",
        "c: nodeSelectors of L2Advertisement front",
        "d: externalTrafficPolicy is Local, and default/web has no serving endpoint on d",
        f"e: e has the label {EXCLUDE}",
        "f: no live speaker on f",
    )


def test_links_and_readiness_tell_who_is_no_candidate() -> None:
    near, far = (MemberLink("eth0", b"", (ip_network(net),)) for net in ("192.0.2.0/24", "10.0.0.0/8"))
    world = replace(
        snapshot(service("web"), nodes="a b c", node_fields={"c": {"ready": False}}),
        links={"a": (near,), "b": (far,), "c": (near,)},
    )
    assert step(asked(world), "candidates").lines == (
        "a: candidate",
        "b: none of its links is in a network of 192.0.2.10 (it has: eth0)",
        "c: it is not Ready, and others are",
    )


def test_why_this_one_owns_it() -> None:
    first = step(asked(snapshot(service("web"))), "owner").lines[0]
    owner = first.partition(":")[0]
    assert first == f"{owner}: the first of 3 by the hash of node and IP"
    other = next(node for node in "abc" if node != owner)
    pinned = replace(snapshot(service("web")), pins={IP: Pin(other, 1)})
    assert step(asked(pinned), "owner").lines[0] == (
        f"{other}: pinned there (so that no node has more than its share; or it has moved too often), "
        f"though {owner} comes before it"
    )
    for ad, why in (
        (L2Advertisement("l2", failback="Never"), "failback is Never"),
        (L2Advertisement("l2", on_cordon="Move"), f"onCordon is Move, and {owner} is cordoned"),
    ):
        world = snapshot(service("web"), l2=(ad,), node_fields={owner: {"cordoned": True}})
        line = step(asked(replace(world, pins={IP: Pin(other, 1)})), "owner").lines[0]
        assert line == f"{other}: pinned there ({why}), though {owner} comes before it"
    likes = L2Advertisement("l2", preferences=(NodePreference(5, selector(disk="ssd")),))
    liked = snapshot(service("web"), l2=(likes,), node_fields={other: {"labels": {"disk": "ssd"}}})
    assert step(asked(liked), "owner").lines[0] == (
        f"{other}: preferred (preferredNodeSelectors) to 2 of the others"
    )
    wants = snapshot(service("web", preferred_node=other))
    assert step(asked(wants), "owner").lines[0] == f"{other}: the Service asks for it"
    alone = step(asked(snapshot(service("web"), members=other)), "owner").lines
    assert alone[0] == f"{other}: the only candidate"
    assert f"{owner} would come before it: no live speaker on {owner}" in alone


def test_each_node_says_why_it_sends_no_route() -> None:
    ad = BGPAdvertisement(
        "bgp", scope(node_selectors=(selector(role="edge"),)), communities=("64512:1",), med=7
    )
    edge = {"labels": {"role": "edge"}}
    away = replace(ROUTER, node_selectors=(selector(rack="1"),))
    world = snapshot(
        service("web", local=True),
        nodes="a b c d",
        on="a b c",
        l2=(),
        bgp=(ad,),
        peers=(away,),
        node_fields={
            "a": {"labels": {"role": "edge", "rack": "1"}},
            "b": {"labels": {"rack": "1"}},
            "c": edge,
            "d": {"labels": {"role": "edge", "rack": "1"}},
        },
    )
    assert step(asked(world), "routes").lines == (
        "a → router: 192.0.2.10/32 (MED 7, communities 64512:1)",
        "b: nodeSelectors of BGPAdvertisement bgp",
        "c: it has no BGPPeer that they name (peers, nodeSelectors of BGPPeers)",
        "d: externalTrafficPolicy is Local, and default/web has no serving endpoint on d",
    )


def test_who_shares_an_ip_and_has_no_endpoint_is_not_announced_for_the_other() -> None:
    both = [service(key, sharing_key="k", ports=(Port("TCP", n),)) for key, n in (("web", 80), ("x", 81))]
    world = snapshot(*both)
    found = asked(replace(world, endpoints={"default/x": world.endpoints["default/x"]}))
    assert [one.name for one in found.steps if one.verdict == "no"] == ["endpoints", "candidates"]
    assert "owner" not in verdicts(found)
    assert "it is shared by default/web, default/x" in step(asked(world), "owner").lines
    assert ip_asked(replace(world, endpoints={**world.endpoints, "default/x": ()}), str(IP)).verdict == "no"


def test_no_endpoint_is_told_before_no_node() -> None:
    found = asked(snapshot(service("web"), on="", members=""))
    assert step(found, "candidates").reason is Reason.NO_ENDPOINT


# --- documents that say too little ----------------------------------------------------------------------


def test_without_nodes_or_endpoint_slices_it_cannot_be_told() -> None:
    found = asked(snapshot(service("web"), nodes="", on="a", **BOTH))
    assert (found.verdict, step(found, "routes").verdict) == ("unknown", "unknown")
    assert "give the Nodes" in found.next_step
    blind = asked(replace(snapshot(service("web"), **BOTH), endpoints={}))
    assert blind.verdict == "unknown"
    assert "there is no EndpointSlice in these documents" in blind.diagnosis
    assert asked(replace(snapshot(service("web")), endpoints={}), said={}).verdict == "no"


# --- a living cluster, and what its speakers say --------------------------------------------------------

HOLDS = service("web", held="192.0.2.10", held_pool="lan")


def says(world: Snapshot, said: Mapping[str, Said], key: str = WEB) -> Explanation:
    return asked(world, key, said=said)


def owner_of(world: Snapshot) -> str:
    return case(world).outcome.picture.l2[IP].owner


def test_what_nobody_has_written_is_no_allocation() -> None:
    world = snapshot(service("web"))
    found = asked(world, said={})
    assert found.diagnosis == (
        "default/web gets no IP: it would get 192.0.2.10, and no controller has written that into its status"
    )
    assert found.next_step == (
        "does a controller act? kubectl -n lbspeaker-system get lease lbspeaker.controller"
    )
    assert not {"speakers", "routes"} & verdicts(says(world, dict.fromkeys("abc", Said()))).keys()
    assert asked(world, controller="").diagnosis.endswith("into its status: none acts")
    why = "192.0.2.10 was of another until lately"
    cools = Condition("lbspeaker.io/Allocated", "False", "CoolingDown", why)
    found = asked(snapshot(service("web", condition=cools)), said={})
    assert found.diagnosis == f"default/web gets no IP: {why}"
    assert found.next_step == REMEDIES[Reason.COOLING_DOWN]


def test_speakers_that_say_nothing_leave_it_open() -> None:
    found = says(snapshot(HOLDS, **BOTH), {})
    assert found.verdict == "unknown"
    assert verdicts(found)["speakers"] == verdicts(found)["routes"] == "unknown"
    assert found.diagnosis.endswith("as far as can be seen: no speaker says anything")


def speaking(world: Snapshot, role: str = "owner", **fields: Any) -> dict[str, Said]:
    mine = SaidIP(role, ("eth0",), 940.0, **fields)
    return {n: Said(ips={IP: mine} if n == owner_of(world) else {}) for n in "abc"}


def test_the_owner_says_that_it_has_it() -> None:
    world = snapshot(HOLDS)
    found = says(world, speaking(world))
    assert found.verdict == "ok"
    assert step(found, "speakers").lines == (f"{owner_of(world)}: owner for 60 s, on eth0",)


@pytest.mark.parametrize(
    ("role", "fields", "verdict", "why"),
    [
        ("owner", {"conflict": "02:00:00:00:00:01 Brother"}, "no", "02:00:00:00:00:01 Brother, which is no"),
        ("held-back", {}, "no", "should own it, and its speaker (serving) says held-back"),
        ("dry-run", {}, "no", "should own it, and its speaker (serving) says dry-run"),
        ("probing", {}, "unknown", "it is on its way to"),
    ],
)
def test_the_owner_says_that_something_is_wrong(
    role: str, fields: dict[str, Any], verdict: str, why: str
) -> None:
    world = snapshot(HOLDS)
    found = says(world, speaking(world, role, **fields))
    assert (found.verdict, step(found, "speakers").verdict) == (verdict, verdict)
    assert why in found.diagnosis


def test_who_says_that_it_owns_it_is_believed_and_two_are_one_too_many() -> None:
    world = snapshot(HOLDS)
    owner = owner_of(world)
    other = next(node for node in "abc" if node != owner)
    elsewhere = {n: Said(ips={IP: SaidIP("owner")} if n == other else {}) for n in "abc"}
    found = says(world, elsewhere)
    assert found.verdict == "ok"
    assert f"is announced by {other} on layer 2" in found.diagnosis
    assert f"from here {owner} should own it" in step(found, "speakers").lines[1]
    both = {**elsewhere, owner: Said(ips={IP: SaidIP("owner")})}
    assert says(world, both).diagnosis.endswith("say both that they own it")
    cut = {**both, other: replace(both[other], problems=("eth0: is this link cut off?",))}
    assert says(world, cut).diagnosis.endswith(f"own it; {other}: eth0: is this link cut off?")
    assert step(says(world, cut), "speakers").lines[-1] == f"{other}: eth0: is this link cut off?"
    alone = explain_node(case(world, None, Living(0.0, cut)), other)
    assert alone.diagnosis == f"something is wrong with {other}: eth0: is this link cut off?"
    nobody = dict.fromkeys("abc", Said())
    assert (
        f"{owner} should own it, and its speaker (serving) does not have it" in says(world, nobody).diagnosis
    )


def test_objects_that_are_not_in_force_are_told_where_they_are_missed() -> None:
    refused = (("IPAddressPool/wan", "it overlaps lan"), ("L2Advertisement/x", "unknown pool"))
    found = asked(snapshot(HOLDS), said={}, refused=refused)
    assert step(found, "pools").lines[-1] == "IPAddressPool/wan is not in force: it overlaps lan"
    assert step(found, "advertisements").lines[-1] == "L2Advertisement/x is not in force: unknown pool"


def test_sessions_tell_whether_routes_are_sent() -> None:
    world = snapshot(HOLDS, nodes="a b", l2=(), bgp=(BGPAdvertisement("bgp"),))
    up = Said(peers={"router": SaidPeer("up", 700.0, 1, 1)})
    down = Said(peers={"router": SaidPeer("connecting", 880.0, 0, 1, "the connection was refused")})
    found = says(world, {"a": up, "b": down})
    assert found.verdict == "ok"
    assert found.diagnosis.endswith("by BGP from a"), "and not from who has no session"
    assert step(found, "routes").lines == (
        "a → router: 192.0.2.10/32: sent; session up for 5 min",
        "b → router: 192.0.2.10/32: not sent: session connecting for 2 min: the connection was refused",
    )
    lacking = Said(peers={"router": SaidPeer("unusable", last_error="Secret x/tor is missing; create it")})
    found = says(world, {"a": lacking, "b": lacking})
    assert step(found, "routes").lines[0] == (
        "a → router: 192.0.2.10/32: not sent: session unusable: Secret x/tor is missing; create it"
    )
    assert found.diagnosis.endswith("no session has sent it: Secret x/tor is missing")
    assert found.next_step == "create it"
    held = Said(peers={"router": SaidPeer("held", 880.0, 1, 1)})
    assert says(world, {"a": held, "b": held}).verdict == "no"
    found = says(world, {"a": down, "b": down})
    assert found.diagnosis == (
        "no router is told of 192.0.2.10 of default/web: no session has sent it: the connection was refused"
    )


UNSENT = {ip_network("2001:db8::10/128"): "the router has not agreed to IPv6 unicast; activate it there"}


def test_only_routes_of_this_service_count_as_sent() -> None:
    """The session is up, and has sent a route: that of another Service."""
    two = (
        service("web", held="2001:db8::10", held_pool="six", families=(6,)),
        service("x", held="192.0.2.10", held_pool="lan"),
    )
    world = snapshot(*two, l2=(), bgp=(BGPAdvertisement("bgp"),), pools=(LAN, pool("six", "2001:db8::10")))
    told = dict.fromkeys("abc", Said(peers={"router": SaidPeer("up", 940.0, 1, 2, "old", unsent=UNSENT)}))
    found = says(world, told)
    assert found.verdict == "no"
    assert found.diagnosis == (
        "no router is told of 2001:db8::10 of default/web: no session has sent it: the router has not agreed"
        " to IPv6 unicast"
    )
    assert found.next_step == "activate it there"
    assert step(found, "routes").lines[0] == (
        "a → router: 2001:db8::10/128: not sent, though the session is up for 60 s: the router has not agreed"
        " to IPv6 unicast; activate it there"
    )
    other = says(world, told, "default/x")
    assert (other.verdict, step(other, "routes").verdict) == ("ok", "ok")
    assert other.diagnosis.endswith("is announced by BGP from a, b, c")
    alone = dict.fromkeys("abc", Said(peers={"router": SaidPeer("up", 940.0, 0, 1, "old error")}))
    found = says(world, alone)
    assert found.diagnosis.endswith("no session has sent it"), "what ended a session before is no cause"
    silent = dict.fromkeys("abc", Said(peers={"router": SaidPeer("up", 940.0, 1, 2)}))
    assert says(world, silent).verdict == "unknown", "one of two, and it does not tell which"


def test_an_ip_that_is_held_is_what_is_explained_in_a_cluster() -> None:
    """The controller will move it; the speakers announce what it has."""
    world = snapshot(service("web", held="192.0.2.50", held_pool="old", given=ips("192.0.2.50")))
    moved = replace(world, config=replace(world.config, pools=(pool("lan", "192.0.2.10"),)))
    found = asked(moved, said={})
    assert "instead of what it has" in step(found, "allocation").lines[-1]
    assert step(found, "advertisements").ip == ip("192.0.2.50")


# --- one IP, one node -----------------------------------------------------------------------------------


def ip_asked(world: Snapshot, text: str) -> Explanation:
    return explain_ip(case(world), ip(text))


def test_an_ip_that_a_service_has_is_explained_with_it() -> None:
    found = ip_asked(snapshot(service("web"), service("x")), "192.0.2.11")
    assert found.verdict == "ok"
    assert [one.lines[0] for one in found.steps[:2]] == ["lan (192.0.2.10-192.0.2.60)", "default/x"]
    assert {one.ip for one in found.steps[2:]} == {None, ip("192.0.2.11")}
    assert found.diagnosis.startswith("192.0.2.11 of default/x is announced by")
    dual = snapshot(
        service("web", families=(4, 6), ip_family_policy="RequireDualStack"),
        pools=(pool("dual", "192.0.2.10", "2001:db8::1"),),
    )
    assert {one.ip for one in ip_asked(dual, "2001:db8::1").steps} == {None, ip("2001:db8::1")}


RESERVED = replace(LAN, reservations=(Reservation("shop/a", ips("192.0.2.30")),))


@pytest.mark.parametrize(
    ("world", "text", "why"),
    [
        (snapshot(service("web")), "192.0.2.20", "it is free in pool lan"),
        (snapshot(), "203.0.113.1", "it is in no pool; the nearest is lan (192.0.2.10-192.0.2.60)"),
        (snapshot(pools=(RESERVED,)), "192.0.2.30", "pool lan keeps it for shop/a"),
        (
            snapshot(service("web", requested_ips="192.0.2.30"), pools=(RESERVED,)),
            "192.0.2.30",
            "it is asked for in vain: default/web: 192.0.2.30 is requested, but pool lan reserves it for"
            " shop/a",
        ),
        (
            snapshot(node_fields={"a": {"addresses": ips("192.0.2.20")}}),
            "192.0.2.20",
            "it is free in pool lan; but it is an address of node a",
        ),
    ],
)
def test_why_nobody_has_an_ip(world: Snapshot, text: str, why: str) -> None:
    found = ip_asked(world, text)
    assert found.verdict == "no"
    assert found.diagnosis == f"no Service has {text}: {why}"


def test_a_node_says_what_it_announces_and_what_not() -> None:
    services = [service(f"s{number}", held=f"192.0.2.{10 + number}") for number in range(6)]
    world = snapshot(*services, service("near", local=True, held="192.0.2.40"), nodes="a b", **BOTH)
    world = replace(world, endpoints={**world.endpoints, "default/near": (Endpoint("b"),)})
    found = explain_node(case(world), "a")
    layer2, bgp = found.steps[1:]
    owned = [str(at) for at, one in case(world).outcome.picture.l2.items() if one.owner == "a"]
    assert found.verdict == "ok"
    assert layer2.lines[0].startswith(f"it owns {len(owned)} of 7 IPs on layer 2: {owned[0]}")
    assert layer2.lines[-1] == (
        "not for 192.0.2.40 (default/near): externalTrafficPolicy is Local, and its Service has no serving"
        " endpoint on a"
    )
    assert bgp.lines[0] == "it announces 6 prefixes by BGP to router"
    assert bgp.lines[-1].startswith("not for 192.0.2.40 (default/near): externalTrafficPolicy is Local")


def test_a_node_that_takes_no_part_says_why() -> None:
    world = snapshot(service("web"), members="b c")
    found = explain_node(case(world), "a")
    assert (found.verdict, found.steps[0].reason) == ("no", Reason.NODE_NOT_LIVE)
    label = {"labels": {EXCLUDE: ""}}
    out = explain_node(case(snapshot(service("web"), node_fields={"a": label})), "a")
    assert out.next_step == f"kubectl label node a {EXCLUDE}-"
    down = {"a": Said(peers={"router": SaidPeer("idle", last_error="no way there")})}
    world = snapshot(HOLDS, l2=(), nodes="a", bgp=(BGPAdvertisement("bgp"),))
    lacks = explain_node(case(snapshot(HOLDS, nodes="a"), None, Living(0.0, {"a": Said()})), "a")
    assert lacks.diagnosis == (
        "something is wrong with a: its speaker does not have 192.0.2.10, which it should own"
    )
    told = explain_node(case(world, None, Living(0.0, down)), "a")
    assert told.diagnosis == "something is wrong with a: no session with router: no way there"


# --- the same as a plan, for all clusters ---------------------------------------------------------------

EDGE = selector(role="edge")
TWO: tuple[Pool, ...] = (
    pool("small", "192.0.2.0-192.0.2.2"),
    pool("dual", "198.51.100.0-198.51.100.3", "2001:db8::-2001:db8::3", auto_assign=True),
    pool("shop", "203.0.113.0", service_allocation=ServiceAllocation(namespaces=frozenset({"shop"}))),
)
POOLS = (TWO, TWO, TWO, TWO[:1], TWO[1:], ())
NODES = [
    {"labels": {}},
    {"labels": {"role": "edge"}},
    {"labels": {"role": "edge"}, "ready": False},
    {"labels": {EXCLUDE: ""}},
    {"network_unavailable": True},
]
PEERS: tuple[tuple[Peer, ...], ...] = ((), (ROUTER,), (replace(ROUTER, node_selectors=(EDGE,)),))


def a_scope(die: Random) -> Scope:
    return scope(
        pools=die.choice([frozenset(), frozenset(), frozenset({"small"}), frozenset({"dual", "shop"})]),
        node_selectors=die.choice([(), (), (EDGE,)]),
        service_selectors=die.choice([(), (), (), (selector(tier="gold"),)]),
    )


def a_service(die: Random, key: str) -> Service:
    return service(
        key,
        created=die.choice("123"),
        labels=die.choice([{}, {"tier": "gold"}]),
        families=die.choice([(4,), (4,), (4,), (6,), (4, 6), (6, 4), ()]),
        ip_family_policy=die.choice(["SingleStack"] * 3 + ["PreferDualStack"] * 2 + ["RequireDualStack"]),
        local=die.random() < 0.5,
        ports=(Port("TCP", die.choice([80, 443])),),
        sharing_key=die.choice([None, "k"]),
        requested_pool=die.choice([None] * 6 + ["dual", "nowhere"]),
        requested_ips=die.choice([[]] * 6 + [["192.0.2.1"], ["198.51.100.1"], ["192.0.2.77"]]),
        held=die.choice([[], [], ["192.0.2.0"], ["192.0.2.1"], ["203.0.113.0"], ["10.9.9.9"]]),
        load_balancer_class=die.choice([None] * 9 + ["other"]),
    )


def a_world(die: Random) -> Snapshot:
    keys = die.sample([f"{ns}/{n}" for ns in ("default", "shop") for n in "abcd"], die.randint(1, 6))
    nodes = {name: die.choice(NODES) for name in "abcd"[: die.choice([0, 2, 3, 4])]}
    services = [a_service(die, key) for key in keys]
    found = snapshot(
        *services,
        nodes=" ".join(nodes),
        members=" ".join(name for name in nodes if die.random() < 0.8),
        node_fields=nodes,
        pools=die.choice(POOLS),
        l2=tuple(L2Advertisement(name, a_scope(die)) for name in "lm"[: die.choice([0, 1, 1, 2])]),
        bgp=tuple(
            BGPAdvertisement(
                name,
                a_scope(die),
                aggregation_length=die.choice([32, 24]),
                local_pref=die.choice([None, 50]),
                when_no_endpoints=die.choice(["Withdraw", "Keep"]),
            )
            for name in "xy"[: die.choice([0, 1, 1, 2])]
        ),
        peers=die.choice(PEERS),
    )
    where = [*nodes, None]
    endpoints = {
        s.key: tuple(
            Endpoint(die.choice(where), die.random() < 0.8, die.random() < 0.8)
            for _ in range(die.choice([0, 1, 2, 3, 3]))
        )
        for s in services
    }
    pins = {ip(text): Pin(die.choice("abcd"), 1) for text in ("192.0.2.0", "198.51.100.0")}
    return replace(found, endpoints=endpoints, pins=pins)


def test_an_explanation_is_the_plan() -> None:
    seen: Counter[str] = Counter()
    for seed in range(400):
        seen.update(_compare(a_world(Random(seed)), seed))
    assert min(seen[what] for what in ("refused", "layer 2", "bgp", "nobody", "ok", "no")) > 50, seen


def _compare(world: Snapshot, seed: int) -> Iterator[str]:
    """Compare all explanations with the plan, and tell what there was to compare."""
    plan, found = decide(world), case(world)
    refusals = {row["service"]: row["reason"] for row in plan["refusals"]}
    pools = {row["service"]: (row["ips"], row["pool"]) for row in plan["allocations"]}
    for key in world.services:
        told = explain_service(case(world, about=_of(key)), key)
        yield told.verdict
        if verdicts(told)["class"] == "no":
            assert key not in pools, seed
            continue
        assert _reason(step(told, "allocation")) == refusals.get(key), seed
        assert _chosen(world, found, key) == (pools[key][1].split(",") if key in pools else []), seed
        gets = pools[key][0] if key in pools else []
        assert list(dict.fromkeys(str(one.ip) for one in told.steps if one.ip is not None)) == gets, seed
        announced = [_announced_as_planned(plan, told, key, text, seed) for text in gets]
        assert (told.verdict == "ok") <= (bool(announced) and all(announced)), seed
        yield from ["refused"] * (key in refusals) + [way for ways in announced for way in ways or ["nobody"]]
    for node in world.nodes:
        owned = [row["ip"] for row in plan["layer2"] if row["owner"] == node]
        layer2 = [one for one in explain_node(found, node).steps if one.name == "layer 2"]
        assert all(one.lines[0].startswith(f"it owns {len(owned)} of") for one in layer2), seed


def _of(key: str) -> Callable[[Service], bool]:
    return lambda one: one.key == key


def _reason(told: Step) -> str | None:
    return told.reason.value if told.verdict == "no" and told.reason is not None else None


def _chosen(world: Snapshot, found: Case, key: str) -> list[str]:
    """The pools that are told to be chosen, each once."""
    services = deciding(found.outcome.passes, key)
    rows = tried(world.config.pools, services, world.namespaces, key)
    return list(dict.fromkeys(row.pool for row in rows if row.verdict == "chosen"))


def _announced_as_planned(
    plan: Mapping[str, Any], told: Explanation, key: str, text: str, seed: int
) -> list[str]:
    """Compare one IP, and return how the plan has it announced."""
    steps = {one.name: one for one in told.steps if str(one.ip) == text}
    rows = [row for row in plan["unannounced"] if (row["service"], row["ip"]) == (key, text)]
    nobody = {row["protocol"]: row["reason"] for row in rows if row["node"] is None}
    layer2 = next((row for row in plan["layer2"] if row["ip"] == text and key in row["services"]), None)
    routes = {
        (row["node"], row["peer"])
        for row in plan["bgp"]
        if key in row["services"] and ip(text) in ip_network(row["prefix"])
    }
    if "candidates" in steps and steps["candidates"].verdict != "unknown":
        assert _reason(steps["candidates"]) == nobody.get("layer2"), seed
        assert (steps["candidates"].verdict == "ok") == (layer2 is not None), seed
    if layer2 is not None:
        assert steps["owner"].lines[0].startswith(f"{layer2['owner']}: "), seed
        if layer2["services"] == [key]:
            candidates = {line[0] for line in steps["candidates"].lines if line.endswith(": candidate")}
            assert candidates == set(layer2["candidates"]), seed
    lines = steps["routes"].lines if "routes" in steps else ()
    assert _pairs(line for line in lines if " → " in line) == routes, seed
    for row in rows:
        if row["protocol"] == "bgp" and row["node"] is not None:
            assert f"{row['node']}: {row['message']}" in lines, seed
    if steps["advertisements"].verdict == "no":
        assert layer2 is None and not routes, seed
    return ["layer 2"] * (layer2 is not None) + ["bgp"] * bool(routes)


def _pairs(lines: Iterable[str]) -> set[tuple[str, str]]:
    parts = [line.partition(" → ") for line in lines]
    return {(node, rest.partition(":")[0]) for node, _, rest in parts}
