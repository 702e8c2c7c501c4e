"""What documents may be alone, and not together: the earlier one stays, and the later one is told."""

import random
from ipaddress import IPv4Address
from textwrap import indent

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lbspeaker.config.documents import from_object, read
from lbspeaker.config.parse import parse
from lbspeaker.errors import Problem
from lbspeaker.model import Config


def document(kind: str, name: str, spec: str, group: str = "lbspeaker.io") -> str:
    head = f"apiVersion: {group}/v1beta1\nkind: {kind}\nmetadata: {{name: {name}}}\nspec:\n"
    return head + indent(spec, "  ") + "\n---\n"


def pool(name: str, *ranges: str) -> str:
    return document("IPAddressPool", name, "addresses: [" + ", ".join(ranges) + "]")


def peer(name: str, address: str, more: str = "") -> str:
    return document("BGPPeer", name, f"{{myASN: 64512, peerASN: 64513, peerAddress: {address}{more}}}")


def inside(name: str, address: str) -> str:
    """A peer in the speakers' own AS."""
    return peer(name, address).replace("peerASN: 64513", "peerASN: 64512")


def parsed(text: str) -> tuple[Config, list[str]]:
    documents, broken = read(text, "f")
    assert broken == []
    config, problems = parse(documents)
    return config, [said(problem) for problem in problems]


def said(problem: Problem) -> str:
    return f"{problem.severity} {problem.line} {problem.object}: {problem.path}: {problem.what}"


OVERLAPS = [
    (
        "the later of two overlapping pools is refused, and both are named",
        pool("a", "192.0.2.0/24") + pool("b", "192.0.2.200-192.0.3.10"),
        ["a"],
        [
            "error 11 IPAddressPool/b: spec.addresses[0]: 192.0.2.200-192.0.3.10 overlaps"
            " 192.0.2.0-192.0.2.255 of pool a (f:5)"
        ],
    ),
    (
        "neighbours do not overlap",
        pool("a", "192.0.2.0/25") + pool("b", "192.0.2.128/25") + pool("c", "192.0.1.0/24", "192.0.3.0/24"),
        ["a", "b", "c"],
        [],
    ),
    (
        "the same numbers in the other family are other addresses",
        pool("a", "0.0.1.0-0.0.1.9") + pool("b", "'::100-::109'"),
        ["a", "b"],
        ["warning 5 IPAddressPool/a: spec.addresses[0]: 0.0.1.0-0.0.1.9 holds unspecified addresses"
         " (0.0.0.0/8), which no client can reach"],
    ),
    (
        "a refused pool takes nothing from those after it",
        pool("a", "192.0.2.0/24")
        + pool("b", "198.51.100.0/24", "192.0.2.1/32")
        + pool("c", "198.51.100.0/25"),
        ["a", "c"],
        [
            "error 11 IPAddressPool/b: spec.addresses[1]: 192.0.2.1-192.0.2.1 overlaps"
            " 192.0.2.0-192.0.2.255 of pool a (f:5)"
        ],
    ),
    (
        "a pool around others overlaps them",
        pool("a", "10.0.0.0/32") + pool("b", "10.0.0.9/32") + pool("c", "10.0.0.0/8"),
        ["a", "b"],
        ["error 17 IPAddressPool/c: spec.addresses[0]: 10.0.0.0-10.255.255.255 overlaps"
         " 10.0.0.9-10.0.0.9 of pool b (f:11)"],
    ),
]  # fmt: skip


@pytest.mark.parametrize(
    ("text", "kept", "expected"), [row[1:] for row in OVERLAPS], ids=[row[0] for row in OVERLAPS]
)
def test_overlaps(text: str, kept: list[str], expected: list[str]) -> None:
    config, problems = parsed(text)
    assert [one.name for one in config.pools] == kept
    assert problems == expected


def but(addresses: str, exclude: str, name: str) -> str:
    return document("IPAddressPool", name, f"{{addresses: [{addresses}], exclude: [{exclude}]}}")


def test_what_one_pool_excludes_is_free_for_another() -> None:
    config, problems = parsed(
        but("192.0.2.0/24", "192.0.2.128/25", "a")
        + but("192.0.2.128/25", "192.0.2.200/32", "b")
        + but("192.0.2.192-192.0.2.200", "192.0.2.201/32", "c")
    )
    assert [one.name for one in config.pools] == ["a", "b"]
    assert problems == [
        "warning 17 IPAddressPool/c: spec.exclude[0]: 192.0.2.201-192.0.2.201 is in none of the addresses",
        "error 17 IPAddressPool/c: spec.addresses[0]: 192.0.2.192-192.0.2.200 overlaps"
        " 192.0.2.128-192.0.2.199 of pool b (f:11)",
    ]


def test_an_overlap_is_told_where_the_addresses_are_written() -> None:
    _, problems = parsed(
        but("10.0.0.0/24, 10.0.1.0/24", "10.0.0.9/32", "a")
        + but("10.9.0.0/24, 10.0.1.0/32", "10.9.0.9/32", "b")
    )
    assert problems == [
        "error 11 IPAddressPool/b: spec.addresses[1]: 10.0.1.0-10.0.1.0 overlaps 10.0.1.0-10.0.1.255"
        " of pool a (f:5)"
    ]


def test_an_aggregate_may_hold_what_is_excluded() -> None:
    config, problems = parsed(
        but("192.0.2.0/24, 'fd00::/64'", "192.0.2.0/32, 192.0.2.255/32", "a")
        + ad("x", "{aggregationLength: 24, aggregationLengthV6: 64}")
    )
    assert problems == []
    assert len(config.bgp_advertisements) == 1


def span(first: int, size: int) -> str:
    return f"{IPv4Address(0x0A000000 + first)}-{IPv4Address(0x0A000000 + first + size)}"


@settings(deadline=None, max_examples=50)
@given(
    st.lists(st.lists(st.tuples(st.integers(0, 60), st.integers(0, 6)), min_size=1, max_size=3), max_size=12)
)
def test_overlaps_are_found_as_by_comparing_every_address(pools: list[list[tuple[int, int]]]) -> None:
    taken: set[int] = set()
    expected = []
    for number, ranges in enumerate(pools):
        own = [address for first, size in ranges for address in range(first, first + size + 1)]
        distinct = {address for one in set(ranges) for address in range(one[0], one[0] + one[1] + 1)}
        wide = sum(size + 1 for _, size in set(ranges))
        if wide == len(distinct) and not taken & set(own):
            taken |= set(own)
            expected.append(f"p{number}")
    documents = [
        from_object(
            {
                "apiVersion": "lbspeaker.io/v1beta1",
                "kind": "IPAddressPool",
                "metadata": {"name": f"p{number}"},
                "spec": {"addresses": [span(*one) for one in ranges]},
            }
        )
        for number, ranges in enumerate(pools)
    ]
    config, _ = parse(documents)
    assert [one.name for one in config.pools] == expected


def test_a_name_is_given_once_to_a_kind() -> None:
    config, problems = parsed(
        pool("a", "192.0.2.0/28")
        + pool("a", "192.0.2.16/28")
        + document("L2Advertisement", "a", "{}")
        + document("L2Advertisement", "a", "{}", "metallb.io")
    )
    assert [str(one.ranges[0]) for one in config.pools] == ["192.0.2.0-192.0.2.15"]
    assert len(config.l2_advertisements) == 1
    assert problems == [
        "error 9 IPAddressPool/a: metadata.name: IPAddressPool/a is defined already (f:1)",
        "error 21 L2Advertisement/a: metadata.name: L2Advertisement/a is defined already (f:13)",
    ]


def test_a_wrong_document_leaves_the_others_in_use() -> None:
    config, problems = parsed(
        pool("a", "192.0.2.0/28")
        + pool("b", "192.0.2")
        + document("L2Advertisement", "x", "ipAddressPools: [a, b]")  # b exists, so it is not unknown
        + peer("r", "10.0.0.1", ", vrf: red")
        + document("BGPAdvertisement", "y", "peers: [r]")
    )
    assert [one.name for one in config.pools] == ["a"]
    assert config.l2_advertisements[0].scope.pools == {"a", "b"}
    assert config.peers == ()
    assert config.bgp_advertisements[0].peers == {"r"}
    assert len(problems) == 2


def test_an_advertisement_of_an_unknown_pool_never_becomes_one_of_all_pools() -> None:
    config, problems = parsed(
        pool("production", "192.0.2.0/28") + document("L2Advertisement", "x", "ipAddressPools: [prodution]")
    )
    assert not config.l2_advertisements[0].scope.covers_pool(config.pools[0])
    assert problems == [
        "warning 11 L2Advertisement/x: spec.ipAddressPools[0]: there is no IPAddressPool 'prodution'"
    ]


def ad(name: str, spec: str) -> str:
    return document("BGPAdvertisement", name, spec)


LOCAL_PREFS = [
    ("two values for the same routes", "localPref: 100", "localPref: 200", False),
    ("a value, and none", "{}", "localPref: 200", False),
    ("the same value", "localPref: 100", "localPref: 100", True),
    ("other pools", "{localPref: 100, ipAddressPools: [a]}", "{localPref: 200, ipAddressPools: [b]}", True),
    (
        "one pool in common",
        "{localPref: 100, ipAddressPools: [a, b]}",
        "{localPref: 200, ipAddressPools: [b]}",
        False,
    ),
    ("other peers", "{localPref: 100, peers: [r]}", "{localPref: 200, peers: [s]}", True),
    ("all peers, and one of them", "localPref: 100", "{localPref: 200, peers: [s]}", False),
    ("other lengths", "localPref: 100", "{localPref: 200, aggregationLength: 24}", True),
    (
        "other nodes, as far as one can tell",
        "{localPref: 100, nodeSelectors: [{matchLabels: {rack: a}}]}",
        "{localPref: 200, nodeSelectors: [{matchLabels: {rack: b}}]}",
        True,
    ),
    (
        "all nodes, and some",
        "localPref: 100",
        "{localPref: 200, nodeSelectors: [{matchLabels: {rack: b}}]}",
        False,
    ),
    (
        "services are looked at when they are there",
        "localPref: 100",
        "{localPref: 200, serviceSelectors: [{matchLabels: {app: b}}]}",
        True,
    ),
]  # fmt: skip


@pytest.mark.parametrize(
    ("one", "two", "right"), [row[1:] for row in LOCAL_PREFS], ids=[row[0] for row in LOCAL_PREFS]
)
def test_a_route_has_one_local_preference(one: str, two: str, right: bool) -> None:
    config, problems = parsed(
        pool("a", "192.0.2.0/24")
        + pool("b", "198.51.100.0/24")
        + inside("r", "10.0.0.1")
        + inside("s", "10.0.0.2")
        + ad("x", one)
        + ad("y", two)
    )
    assert [one.name for one in config.bgp_advertisements] == (["x", "y"] if right else ["x"])
    assert (problems == []) == right
    if not right:
        assert problems[0].startswith("error 35 BGPAdvertisement/y: spec.localPref: localPref is ")
        assert "BGPAdvertisement/x (f:25), for the same routes" in problems[0]


_LOCAL_PREF = (
    "spec.localPref: localPref is told within one AS only, and all routers of this are in another AS"
)
_PREPEND = (
    "spec.asPathPrepend: asPathPrepend is told to another AS only,"
    " and all routers of this are in the speakers' own"
)
TWO_ASES = inside("r", "10.0.0.1") + peer("s", "10.0.0.2")
NO_EFFECTS = [
    ("one router that takes it", TWO_ASES, "localPref: 1, asPathPrepend: 1", []),
    ("only one that does not", TWO_ASES, "localPref: 1, asPathPrepend: 1, peers: [s]", [_LOCAL_PREF]),
    ("only one of the own AS", TWO_ASES, "localPref: 1, asPathPrepend: 1, peers: [r]", [_PREPEND]),
    ("nobody is in the own AS", peer("s", "10.0.0.2"), "localPref: 1", [_LOCAL_PREF]),
    ("no router yet", "", "localPref: 1", []),
    ("nothing is said", peer("s", "10.0.0.2"), "localPref: 0", []),
]


@pytest.mark.parametrize(
    ("peers", "spec", "says"), [row[1:] for row in NO_EFFECTS], ids=[r[0] for r in NO_EFFECTS]
)
def test_what_no_router_is_told_is_warned_of(peers: str, spec: str, says: list[str]) -> None:
    config, problems = parsed(peers + ad("x", f"{{{spec}}}"))
    assert len(config.bgp_advertisements) == 1
    assert [problem.split(" ", 2)[::2] for problem in problems] == [
        ["warning", f"BGPAdvertisement/x: {one}"] for one in says
    ]


def test_of_a_refused_peer_it_is_not_known() -> None:
    refused = peer("s", "10.0.0.2", ", holdTime: 1s")
    _, problems = parsed(peer("r", "10.0.0.1") + refused + ad("x", "localPref: 1"))
    assert [problem.split()[0] for problem in problems] == ["error"]


SELECTED = ", nodeSelectors: [{matchLabels: {rack: %s}}]"


@pytest.mark.parametrize(
    ("one", "two", "same"),
    [
        (peer("r", "10.0.0.1"), peer("s", "10.0.0.1"), True),
        (peer("r", "10.0.0.1"), peer("s", "10.0.0.2"), False),
        (peer("r", "10.0.0.1"), peer("s", "10.0.0.1", ", peerPort: 1179"), False),
        (peer("r", "10.0.0.1", SELECTED % "a"), peer("s", "10.0.0.1", SELECTED % "b"), False),
        (peer("r", "10.0.0.1", SELECTED % "a"), peer("s", "10.0.0.1", SELECTED % "a"), True),
        (peer("r", "10.0.0.1", SELECTED % "a"), peer("s", "10.0.0.1"), True),
    ],
    ids=["one address", "two addresses", "two ports", "two racks", "one rack", "a rack, and all"],
)
def test_a_second_session_to_a_router_is_warned_of(one: str, two: str, same: bool) -> None:
    config, problems = parsed(one + two)
    assert len(config.peers) == 2
    warning = "warning 11 BGPPeer/s: spec.peerAddress: BGPPeer/r (f:1) is the same router, for the same nodes"
    assert problems == ([warning] if same else [])


@pytest.mark.parametrize(
    ("router", "given"),
    [("10.0.0.1", True), ("10.0.1.1", False), ("10.0.0.9", False), ("auto", False)],
    ids=["in the pool", "outside", "excluded", "not known"],
)
def test_a_router_whose_address_a_service_may_get_is_warned_of(router: str, given: bool) -> None:
    pools = document("IPAddressPool", "lan", "{addresses: [10.0.0.0/24], exclude: [10.0.0.9/32]}")
    config, problems = parsed(pools + peer("r", router))
    assert len(config.peers) == 1
    what = f"{router} is in IPAddressPool/lan (f:1): a Service may get it"
    assert problems == ([f"warning 11 BGPPeer/r: spec.peerAddress: {what}"] if given else [])


def test_communities_have_one_value_and_wrong_ones_are_not_used() -> None:
    config, problems = parsed(
        document("Community", "a", "communities: [{name: x, value: '1:1'}, {name: y, value: '1:2'}]")
        + document("Community", "b", "communities: [{name: x, value: '1:3'}]")
        + document("Community", "c", "communities: [{name: z, value: no-such}]")
        + ad("d", "communities: [x, y]")
        + ad("e", "communities: [z]")
    )
    assert [one.communities for one in config.bgp_advertisements] == [("1:1", "1:2")]
    assert problems == [
        "error 11 Community/b: spec.communities[0].name: the community x has a value already",
        "error 17 Community/c: spec.communities[0].value: 'no-such' is not a community",
        "error 29 BGPAdvertisement/e: spec.communities[0]: the Community object that defines 'z' is refused",
    ]


def test_the_order_of_documents_decides_only_what_comes_first() -> None:
    texts = [pool(f"p{n}", f"10.0.{n}.0/24") for n in range(6)] + [document("L2Advertisement", "x", "{}")]
    expected, problems = parsed("".join(texts))
    assert problems == []
    random.Random(7).shuffle(texts)
    shuffled, problems = parsed("".join(texts))
    assert problems == []
    assert {one.name for one in shuffled.pools} == {one.name for one in expected.pools}
    assert shuffled.l2_advertisements == expected.l2_advertisements
