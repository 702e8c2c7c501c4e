"""What routers answer becomes a view of them; what is no answer of theirs is said to be none."""

import json
from ipaddress import ip_address, ip_network
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lbspeaker.errors import Malformed
from lbspeaker.wire import router_bird, router_frr, router_opnsense
from tests.opnsense import bgp_rows, rows
from tests.wire.test_upstream import made

UP = made()
A = ip_address("192.0.2.201")
NEIGHBOR: dict[str, Any] = {
    "remoteAs": 64513,
    "localAs": 64512,
    "bgpState": "Established",
    "neighborCapabilities": {"multiprotocolExtensions": {"ipv4Unicast": {"advertisedAndReceived": True}}},
    "addressFamilyInfo": {
        "ipv4Unicast": {
            "routeMapForIncomingAdvertisements": "IN",
            "incomingUpdatePrefixFilterList": "P",
            "acceptedPrefixCounter": 3,
            "prefixAllowedMax": 100,
        },
        "ipv6Unicast": {
            "inboundEbgpRequiresPolicy": "…",
            "prefixAllowedMax": 9,
            "prefixAllowedMaxWarning": True,
        },
    },
    "authenticationEnabled": 1,
    "peerBfdInfo": {"status": "Up"},
    "lastNotificationReason": "OPEN Message Error/Bad Peer AS",
}
SUMMARY = {
    "ipv4Unicast": {"as": 64512, "peers": {"192.0.2.201": {"state": "Established", "dynamicPeer": True}}}
}
ROUTE = {
    "valid": True,
    "bestpath": True,
    "peerId": "192.0.2.201",
    "network": "203.0.113.7/32",
    "path": "64513 64513",
    "metric": 5,
    "locPrf": 0,
    "stale": True,
    "origin": "incomplete",
    "nexthops": [{"ip": "192.0.2.201"}, {"ip": "fe80::1", "scope": "link-local"}],
}
LISTS = {
    "BGP": {
        "P": {
            "addressFamily": "IPv4",
            "entries": [
                {"type": "permit", "prefix": "203.0.113.0/24", "maximumPrefixLength": 32},
                {"type": "deny", "prefix": "0.0.0.0/0", "maximumPrefixLength": 32},
            ],
        }
    }
}
MAPS = {
    "BGP": {
        "IN": {
            "rules": [
                {"type": "permit", "matchClauses": ["ip address prefix-list P"], "action": "Exit routemap"},
                {"type": "deny", "matchClauses": ["metric 5"], "action": "Exit routemap"},
            ]
        }
    }
}


def frr(**changed: str) -> dict[str, str]:
    answers = dict.fromkeys(router_frr.questions(UP), "{}")
    answers["show bgp summary json"] = json.dumps(SUMMARY)
    answers["show bgp neighbors json"] = json.dumps({"192.0.2.201": NEIGHBOR})
    answers["show ip prefix-list json"] = json.dumps({"ZEBRA": LISTS["BGP"]}) + "\n" + json.dumps(LISTS)
    answers["show route-map json"] = json.dumps(MAPS)
    table = next(question for question in answers if question.startswith("show bgp ipv4"))
    answers[table] = json.dumps({"routes": {"203.0.113.7/32": [ROUTE]}})
    return answers | changed


def test_what_frr_says_of_a_neighbour_and_a_route() -> None:
    view = router_frr.parse(frr())
    session = view.sessions[A]
    assert (view.asn, session.remote_asn, session.up, session.dynamic) == (64512, 64513, True, True)
    assert session.families == frozenset({4})
    assert session.filters[4].prefix_list == "P" and session.filters[4].route_map == "IN"
    assert session.ungoverned == frozenset({6})
    assert (session.accepted[4], session.limits, session.password, session.bfd) == (3, {4: 100}, True, "up")
    assert session.last_error == "OPEN Message Error/Bad Peer AS"
    (path,) = view.paths
    assert (path.used, path.stale, path.as_path, path.origin) == (True, True, (64513, 64513), "incomplete")
    assert (path.med, path.local_pref, path.next_hop) == (5, 0, A)
    rules = view.prefix_lists[4, "P"]
    assert rules[0].matches(ip_network("203.0.113.7/32")) and not rules[0].matches(ip_network("10.0.0.0/8"))
    assert rules[1].matches(ip_network("10.0.0.0/8")) and not rules[1].permit
    assert [rule.unclear for rule in view.route_maps["IN"]] == [False, True]


@pytest.mark.parametrize("text", ["", "{}", '{"ipv4Unicast":{}}\n{}'])
def test_a_router_that_has_nothing_says_little(text: str) -> None:
    answers = dict.fromkeys(router_frr.questions(UP), text if text.startswith("{}") else "{}")
    view = router_frr.parse(answers)
    assert (view.asn, view.sessions, view.paths) == (None, {}, ())


@pytest.mark.parametrize(
    ("text", "what"),
    [
        ("% Unknown command: show bgp neighbors json", "is not JSON: '% Unknown command"),
        ("[1]", "is not an object"),
        ('{"a": {', "is not JSON"),
        ("<html>\x1b[31m</html>", "is not JSON: '<html>�"),
        ('{"192.0.2.201": {"addressFamilyInfo": 5}}', "has not the form"),
        (
            '{"192.0.2.201": {"addressFamilyInfo": {"ipv4Unicast": {"acceptedPrefixCounter": "x"}}}}',
            "has not",
        ),
        ("[" * 100_000, "is not JSON"),
    ],
)
def test_what_is_no_answer_of_frr_is_said_to_be_none(text: str, what: str) -> None:
    with pytest.raises(Malformed, match=what.replace("[", r"\[")):
        router_frr.parse(frr(**{"show bgp neighbors json": text}))


_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(
                [*NEIGHBOR, "ipv4Unicast", "routes", "peers", "BGP", "192.0.2.201", "rows", "response"]
            ),
            inner,
            max_size=4,
        )
    ),
    max_leaves=12,
)


@settings(max_examples=150, deadline=None)
@given(st.data())
def test_any_json_is_an_answer_or_malformed(data: st.DataObject) -> None:
    question = data.draw(st.sampled_from(router_frr.questions(UP)))
    try:
        router_frr.parse(frr(**{question: json.dumps(data.draw(_JSON))}))
    except Malformed as error:
        assert str(error).isprintable()
    answers = {q: json.dumps(data.draw(_JSON)).encode() for q in router_opnsense.questions(UP)}
    try:
        router_opnsense.parse(answers)
    except Malformed as error:
        assert str(error).isprintable()


PROTOCOLS = """BIRD 2.0.12 ready.
Name       Proto      Table      State  Since         Info
bfd1       BFD        ---        up     01:44:34.995
lbs_kernel4 Kernel    master4    up     01:44:34.995
  Channel ipv4
    State:          UP
node_a     BGP        ---        up     01:44:36.697  Established
  BGP state:          Established
    Neighbor address: 192.0.2.201
    Neighbor AS:      64513
    Local AS:         64512
    Local capabilities
      Multiprotocol
        AF announced: ipv4 ipv6
  Channel ipv4
    State:          UP
    Input filter:   in4
    Import limit:   100
      Action:       restart
    Routes:         2 imported, 0 exported, 2 preferred
    Route change stats:     received   rejected   filtered    ignored   accepted
      Import updates:              4          0          2          0          2
node_c     BGP        ---        start  01:44:36.845  Idle          BGP Error: Bad peer AS
  BGP state:          Idle
    Neighbor address: fe80::1%eth0
    Neighbor AS:      64514
    Local AS:         64512
    Error wait:       51.186/60
    Last error:       BGP Error: Bad peer AS
  Channel ipv4
    State:          DOWN
    Input filter:   REJECT
dyn        BGP        ---        start  01:44:36.845  Passive
  BGP state:          Passive
    Neighbor range:   192.0.2.0/24
"""
ROUTES = """BIRD 2.0.12 ready.
Table master4:
203.0.113.7/32       unicast [node_a 01:44:36.747] * (100) [AS64513i]
\tvia 192.0.2.201 on eth0
\tType: BGP univ
\tBGP.origin: Incomplete
\tBGP.as_path: 64513
\tBGP.next_hop: 192.0.2.201
\tBGP.med: 50
\tBGP.local_pref: 100
\tBGP.community: (64512,31) (65535,0)
                     unreachable [node_a 01:44:36.747 from 192.0.2.202] (100s) [AS64513i]
\tType: BGP univ
\tBGP.origin: IGP
\tBGP.next_hop: 192.0.2.202
10.0.0.0/8           unicast [static1 01:44:36.747] * (200)
\tvia 192.0.2.9 on eth0
"""


def bird(**changed: str) -> dict[str, str]:
    answers = dict.fromkeys(router_bird.questions(UP), "BIRD 2.0.12 ready.\n")
    answers["show protocols all"] = PROTOCOLS
    answers["show interfaces"] = (
        "eth0 up (index=2)\n\t192.0.2.1/24 (Preferred, scope univ)\n\t127.0.0.1/8 (scope host)\n"
    )
    answers["show bfd sessions"] = "192.0.2.201   eth0  Up  01:44  0.1  0.3\n"
    answers[next(q for q in answers if q.startswith("show route"))] = ROUTES
    return answers | changed


def test_what_bird_says_of_neighbours_and_routes() -> None:
    more = router_bird.more(UP, bird())
    assert more[-1] == "show bfd sessions" and all("lbs_kernel4" in each for each in more[:-1])
    exported = "203.0.113.7/32 unicast [node_a 01:44:36.747] * (100) [AS64513i]\n\tvia 192.0.2.202 on eth0\n"
    view = router_bird.parse(bird(**{more[0]: exported}))
    session = view.sessions[A]
    assert (session.up, session.bfd, session.limits, session.refused) == (True, "up", {4: 100}, {4: 2})
    assert session.families == frozenset({4}) and session.filters[4].other == "in4"
    idle = view.sessions[ip_address("fe80::1")]
    assert (idle.wait_s, idle.last_error, idle.up) == (51.186, "BGP Error: Bad peer AS", False)
    first, second = view.paths
    assert (first.used, first.origin, first.med) == (True, "incomplete", 50)
    assert first.communities == frozenset({"64512:31", "65535:0"})
    assert (second.valid, second.stale, second.used) == (False, True, True), "it is exported"
    assert view.connected == (ip_network("192.0.2.0/24"),)


@pytest.mark.parametrize(
    "text", ["", "<html>", "BIRD 2.0.12 ready.\nAccess denied\n", PROTOCOLS.replace("51.186", "x")]
)
def test_what_is_no_answer_of_bird_is_said_to_be_none(text: str) -> None:
    with pytest.raises(Malformed):
        router_bird.parse(bird(**{"show protocols all": text}))


@settings(max_examples=150, deadline=None)
@given(st.integers(0, len(PROTOCOLS)), st.integers(0, len(ROUTES)), st.text(max_size=6))
def test_a_torn_answer_of_bird_is_an_answer_or_malformed(one: int, two: int, noise: str) -> None:
    answers = bird()
    table = next(q for q in answers if q.startswith("show route"))
    answers["show protocols all"] = PROTOCOLS[:one] + noise + PROTOCOLS[one + 3 :]
    answers[table] = ROUTES[:two] + noise + ROUTES[two + 3 :]
    try:
        router_bird.parse(answers)
    except Malformed as error:
        assert str(error)


def opnsense(**changed: Any) -> dict[str, bytes]:
    values: dict[str, Any] = {question: rows([]) for question in router_opnsense.questions(UP)}
    values["api/quagga/diagnostics/bgpsummary"] = {"response": SUMMARY}
    values["api/quagga/diagnostics/bgpneighbors"] = {"response": {"192.0.2.201": NEIGHBOR}}
    values["api/quagga/diagnostics/searchBgproute4"] = rows(bgp_rows({"routes": {"x": [ROUTE]}}))
    values["api/quagga/bgp/searchPrefixlist"] = rows(
        [
            {"enabled": "1", "name": "P", "seqnumber": "20", "action": "Deny", "network": "0.0.0.0/0 le 32"},
            {
                "enabled": "1",
                "name": "P",
                "seqnumber": "10",
                "action": "Permit",
                "network": "203.0.113.0/24 ge 32 le 32",
            },
            {"enabled": "0", "name": "P", "seqnumber": "5", "action": "Permit", "network": "10.0.0.0/8"},
        ]
    )
    return {question: json.dumps(value).encode() for question, value in (values | changed).items()}


def test_what_opnsense_says_is_what_frr_says_in_rows() -> None:
    view = router_opnsense.parse(opnsense())
    assert (view.asn, view.sessions[A].up) == (64512, True)
    assert [(str(p.prefix), p.neighbor, p.used) for p in view.paths] == [("203.0.113.7/32", A, True)]
    assert [rule.permit for rule in view.prefix_lists[4, "P"]] == [True, False]


def test_an_opnsense_without_bgp_and_one_that_does_not_say_all() -> None:
    empty = {f"api/quagga/diagnostics/{page}": {"response": []} for page in ("bgpsummary", "bgpneighbors")}
    assert router_opnsense.parse(opnsense(**empty)).asn is None
    torn = {"api/quagga/diagnostics/searchBgproute4": {"total": 2000, "rows": []}}
    with pytest.raises(Malformed, match="gave 0 of 2000 rows"):
        router_opnsense.parse(opnsense(**torn))


def test_nothing_is_asked_that_shows_a_secret() -> None:
    asked = [*router_frr.questions(UP), *router_bird.questions(UP), *router_opnsense.questions(UP)]
    for each in asked:
        assert "running-config" not in each and not each.endswith(("bgp/get", "searchNeighbor"))
