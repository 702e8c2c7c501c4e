"""What documents mean, and what is said about those that mean nothing."""

import re
from ipaddress import IPv4Address, ip_address
from textwrap import indent

import pytest

from lbspeaker.config.documents import from_object, read
from lbspeaker.config.parse import is_configuration, parse
from lbspeaker.errors import Problem
from lbspeaker.model import (
    BFDProfile,
    BGPAdvertisement,
    Config,
    L2Advertisement,
    NodePreference,
    Peer,
    Pool,
    Range,
    Requirement,
    Reservation,
    Scope,
    SecretRef,
    Selector,
    ServiceAllocation,
)

OURS, OLD, NEW = "lbspeaker.io/v1beta1", "metallb.io/v1beta1", "metallb.io/v1beta2"


def document(kind: str, name: str, spec: str, version: str = OURS) -> str:
    """Text of an object whose spec begins on its fifth line."""
    head = f"apiVersion: {version}\nkind: {kind}\nmetadata: {{name: {name}, namespace: lb}}\nspec:\n"
    return head + indent(spec.strip("\n"), "  ") + "\n---\n"


def parsed(text: str, secrets: dict[str, str] | None = None) -> tuple[Config, list[Problem]]:
    documents, problems = read(text, "f")
    config, more = parse(documents, secrets)
    return config, problems + more


def said(problems: list[Problem]) -> list[str]:
    """Problems as short lines: warning? line: path: what -> hint"""
    return [
        f"{'warning ' * (one.severity == 'warning')}{one.line}: {one.path}: {one.what} -> {one.hint}"
        for one in problems
    ]


def selector(**labels: str) -> Selector:
    return Selector(tuple(Requirement(key, "In", frozenset({value})) for key, value in labels.items()))


def test_a_whole_configuration_becomes_what_it_says() -> None:
    config, problems = parsed(
        document(
            "IPAddressPool", "lan", "addresses: [192.0.2.0/28, 2001:db8::1 - 2001:db8::ff]\nautoAssign: no"
        )
        + document("L2Advertisement", "lan", "ipAddressPools: [lan]\ninterfaces: [eth0]")
        + document("BGPPeer", "router", "{myASN: 64512, peerASN: 64512, peerAddress: 203.0.113.1}")
        + document(
            "BGPAdvertisement", "lan", "peers: [router]\ncommunities: [vpn, no-export]\nlocalPref: 200"
        )
        + document("Community", "names", "communities:\n- {name: vpn, value: 64512:31}")
    )
    assert problems == []
    ranges = (
        Range(ip_address("192.0.2.0"), ip_address("192.0.2.15")),
        Range(ip_address("2001:db8::1"), ip_address("2001:db8::ff")),
    )
    assert config == Config(
        pools=(Pool("lan", ranges, auto_assign=False),),
        l2_advertisements=(L2Advertisement("lan", Scope(pools=frozenset({"lan"})), frozenset({"eth0"})),),
        bgp_advertisements=(
            BGPAdvertisement(
                "lan", peers=frozenset({"router"}), local_pref=200, communities=("64512:31", "65535:65281")
            ),
        ),
        peers=(Peer("router", 64512, 64512, IPv4Address("203.0.113.1")),),
    )


def test_every_field_of_a_pool_is_read() -> None:
    spec = """
addresses: [192.0.2.0/28]
avoidBuggyIPs: true
serviceAllocation:
  priority: 50
  namespaces: [shop]
  namespaceSelectors:
  - matchLabels: {team: shop}
  serviceSelectors:
  - matchExpressions:
    - {key: tier, operator: NotIn, values: [test]}
    - {key: example.com/public, operator: Exists}
"""
    config, problems = parsed(document("IPAddressPool", "lan", spec))
    assert problems == []
    assert config.pools[0].avoid_buggy_ips
    assert config.pools[0].auto_assign
    assert config.pools[0].service_allocation == ServiceAllocation(
        priority=50,
        namespaces=frozenset({"shop"}),
        namespace_selectors=(selector(team="shop"),),
        service_selectors=(
            Selector(
                (
                    Requirement("tier", "NotIn", frozenset({"test"})),
                    Requirement("example.com/public", "Exists"),
                )
            ),
        ),
    )


def test_every_field_of_an_advertisement_is_read() -> None:
    scope = """
ipAddressPoolSelectors: [{matchLabels: {net: lan}}]
nodeSelectors: [{matchLabels: {rack: "1"}}]
serviceSelectors: [{matchLabels: {app: web}}]
"""
    layer2 = scope + "preferredNodeSelectors:\n- {weight: 10, preference: {matchLabels: {disk: fast}}}\n"
    bgp = "aggregationLength: 24\naggregationLengthV6: 64\n"
    config, problems = parsed(
        document("L2Advertisement", "a", layer2)
        + document("BGPAdvertisement", "b", scope)
        + document("BGPAdvertisement", "c", bgp)
    )
    assert problems == []
    read_scope = Scope(frozenset(), (selector(net="lan"),), (selector(rack="1"),), (selector(app="web"),))
    preference = NodePreference(10, selector(disk="fast"))
    assert config.l2_advertisements == (L2Advertisement("a", read_scope, frozenset(), (preference,)),)
    assert config.bgp_advertisements == (
        BGPAdvertisement("b", read_scope),
        BGPAdvertisement("c", aggregation_length=24, aggregation_length_v6=64),
    )


def test_every_field_of_a_peer_is_read() -> None:
    spec = """
myASN: 64512
peerASN: 4200000000
peerAddress: 2001:db8::1
sourceAddress: 2001:db8::2
peerPort: 1179
holdTime: 1m30s
keepaliveTime: 30s
routerID: 10.0.0.1
nodeSelectors: [{matchLabels: {rack: "1"}}]
passwordSecret: {name: router}
ebgpMultiHop: true
dualStackAddressFamily: true
"""
    config, problems = parsed(document("BGPPeer", "r", spec))
    assert problems == []
    assert config.peers == (
        Peer(
            name="r",
            my_asn=64512,
            peer_asn=4200000000,
            address=ip_address("2001:db8::1"),
            port=1179,
            source_address=ip_address("2001:db8::2"),
            router_id=IPv4Address("10.0.0.1"),
            hold_time_s=90,
            ebgp_multihop=True,
            node_selectors=(selector(rack="1"),),
            password_secret=SecretRef("lb", "router"),
        ),
    )


# As MetalLB's users write them, and as the API server gives them back: with defaults and empty values.
METALLB = """
apiVersion: metallb.io/v1beta1
kind: IPAddressPool
metadata:
  name: production
  namespace: metallb-system
  uid: 6f2f34a5-8f7d-4b7f-a7bd-000000000000
  generation: 2
  annotations: {kubectl.kubernetes.io/last-applied-configuration: "{}"}
spec:
  addresses:
  - 192.168.10.0/24
  - 192.168.9.1-192.168.9.5
  - fc00:f853:0ccd:e799::/124
  autoAssign: true
  avoidBuggyIPs: false
status: {assignedIPv4: 0, assignedIPv6: 0, availableIPv4: 261, availableIPv6: 16}
---
apiVersion: metallb.io/v1beta1
kind: L2Advertisement
metadata: {name: all, namespace: metallb-system}
---
apiVersion: metallb.io/v1beta1
kind: BGPPeer
metadata: {name: old, namespace: metallb-system}
spec:
  myASN: 64500
  peerASN: 64500
  peerAddress: 10.0.0.1
  peerPort: 0
  bfdProfile: ""
  nodeSelectors:
  - matchExpressions: [{key: kubernetes.io/hostname, operator: In, values: [a, b]}]
---
apiVersion: metallb.io/v1beta2
kind: BGPPeer
metadata: {name: new, namespace: metallb-system}
spec:
  myASN: 64500
  peerASN: 64501
  peerAddress: 10.0.0.2
  peerPort: 179
  holdTime: 1m30s
  dualStackAddressFamily: false
  passwordSecret: {}
  enableGracefulRestart: false
  vrf: ""
---
apiVersion: metallb.io/v1beta1
kind: BGPAdvertisement
metadata: {name: local, namespace: metallb-system}
spec:
  ipAddressPools: [production]
  aggregationLength: 32
  aggregationLengthV6: 128
  localPref: 100
  communities: [65535:65282, vpn-only, "large:64500:1:2"]
  peers: [old, new]
---
apiVersion: metallb.io/v1beta1
kind: Community
metadata: {name: communities, namespace: metallb-system}
spec:
  communities:
  - name: vpn-only
    value: 1234:1
---
apiVersion: metallb.io/v1beta1
kind: ServiceL2Status
metadata: {name: l2-abc, namespace: metallb-system}
status: {node: a}
"""


def test_metallbs_documents_are_read_unchanged() -> None:
    config, problems = parsed(METALLB)
    assert said(problems) == []
    assert [str(one) for one in config.pools[0].ranges] == [
        "192.168.10.0-192.168.10.255",
        "192.168.9.1-192.168.9.5",
        "fc00:f853:ccd:e799::-fc00:f853:ccd:e799::f",
    ]
    assert config.l2_advertisements == (L2Advertisement("all"),)
    assert [(peer.name, peer.port, peer.hold_time_s, peer.password_secret) for peer in config.peers] == [
        ("old", 179, 90, None),
        ("new", 179, 90, None),
    ]
    assert config.bgp_advertisements[0].communities == ("65535:65282", "1234:1", "large:64500:1:2")
    assert config.bgp_advertisements[0].local_pref == 100


def test_the_same_in_our_own_group_means_the_same() -> None:
    ours = METALLB.replace(NEW, OURS).replace(OLD, OURS).replace("ServiceL2Status", "Ignored")
    config, problems = parsed(ours[: ours.index("---\napiVersion: lbspeaker.io/v1beta1\nkind: Ignored")])
    assert problems == []
    assert config == parsed(METALLB)[0]


POOLS = [
    ("addresses: [192.0.2.90-192.0.2.60]", [
        "5: spec.addresses[0]: '192.0.2.90-192.0.2.60' ends before it starts -> write"
        " 192.0.2.60-192.0.2.90"]),
    ("addresses: [192.0.2.10]", [
        "5: spec.addresses[0]: '192.0.2.10' is neither a CIDR nor a range -> write 192.0.2.10/32"]),
    ("addresses: ['2001:db8::1']", [
        "5: spec.addresses[0]: '2001:db8::1' is neither a CIDR nor a range -> write 2001:db8::1/128"]),
    ("addresses: [192.0.2.77/24]", [
        "warning 5: spec.addresses[0]: '192.0.2.77/24' has host bits; it means 192.0.2.0/24 ->"
        " write 192.0.2.0/24"]),
    ("addresses: [10.0.0.1-fd00::1]", [
        "5: spec.addresses[0]: '10.0.0.1-fd00::1' starts in one family and ends in the other"
        " -> write one range for each family"]),
    ("addresses: [192.0.2.0/255.255.255.0]", [
        "5: spec.addresses[0]: '255.255.255.0' is not a prefix length of IPv4, 0 to 32 -> write"
        " 192.0.2.0/24"]),
    ("addresses: [192.0.2.0/33]", [
        "5: spec.addresses[0]: '33' is not a prefix length of IPv4, 0 to 32 -> "]),
    ("addresses: [192.0.2.10-20]", [
        "5: spec.addresses[0]: '20', where the range ends, is not an IP address -> write"
        " 192.0.2.10-192.0.2.20"]),
    ("addresses: [192.0.2.1-192.0.2.300]", [
        "5: spec.addresses[0]: '192.0.2.300', where the range ends, is not an IP address"
        " -> write it like 192.0.2.10 or 2001:db8::10"]),
    ("addresses: [192.0.2.010-192.0.2.020]", [
        "5: spec.addresses[0]: '192.0.2.010', where the range starts, is not an IP address"
        " -> write 192.0.2.10, without leading zeros",
        "5: spec.addresses[0]: '192.0.2.020', where the range ends, is not an IP address"
        " -> write 192.0.2.20, without leading zeros"]),
    ("addresses: ['fe80::1%eth0/64']", [
        "5: spec.addresses[0]: 'fe80::1%eth0' in 'fe80::1%eth0/64' is not an address of a CIDR"
        " -> write fe80::1: a zone (%…) means something on one machine only"]),
    ("addresses: [127.0.0.0/30]", [
        "warning 5: spec.addresses[0]: 127.0.0.0-127.0.0.3 holds loopback addresses (127.0.0.0/8),"
        " which no client can reach -> "]),
    ("addresses: [192.0.2.0/24-192.0.3.0/24]", [
        "5: spec.addresses[0]: '192.0.2.0/24-192.0.3.0/24' is neither a CIDR nor a range"
        " -> write it like 192.0.2.0/24 or 192.0.2.10-192.0.2.20"]),
    ("addresses: 192.0.2.0/24", [
        "5: spec.addresses: must be a list, and '192.0.2.0/24' is not -> write [192.0.2.0/24]"]),
    ("addresses: []", ["5: spec.addresses: must not be empty -> "]),
    ("addresses: [~]", ["5: spec.addresses[0]: must be text, and nothing is not -> "]),
    ("autoAssign: true", ["4: spec: addresses is missing -> write addresses: [192.0.2.10-192.0.2.20]"]),
    ("addresses:\n- 192.0.2.0/24\n- 192.0.2.0/24", [
        "warning 7: spec.addresses[1]: is the same as item 0 (counted from 0) -> remove one of the two"]),
    ("addresses:\n- 192.0.2.0/24\n- 192.0.2.255-192.0.3.1", [
        "7: spec.addresses[1]: 192.0.2.255-192.0.3.1 overlaps 192.0.2.0-192.0.2.255 of this pool (f:6)"
        " -> take 192.0.2.255-192.0.2.255 out of one of the two"]),
    ("addresses: [192.0.2.0/24]\nautoAsign: true\nserviceAllocation:\n  namespace: [a]", [
        "6: spec.autoAsign: unknown key -> did you mean autoAssign?",
        "8: spec.serviceAllocation.namespace: unknown key -> did you mean namespaces?"]),
    ("addresses: [192.0.2.0/24]\nautoAssign: 'true'", [
        "6: spec.autoAssign: must be true or false, and 'true' is neither -> write it without quotes"]),
    ("addresses: [192.0.2.0/24]\nserviceAllocation: {priority: high, namespaces: [no, 7]}", [
        "6: spec.serviceAllocation.priority: must be a whole number, and 'high' is not -> ",
        "6: spec.serviceAllocation.namespaces[0]: must be text, and the truth value false is not"
        " -> write it in quotes: without them, YAML reads no, off, yes and on as truth values",
        '6: spec.serviceAllocation.namespaces[1]: must be text, and the number 7 is not'
        ' -> write it in quotes, as in "7"']),
]  # fmt: skip


@pytest.mark.parametrize(("spec", "expected"), POOLS, ids=[spec for spec, _ in POOLS])
def test_pools(spec: str, expected: list[str]) -> None:
    config, problems = parsed(document("IPAddressPool", "lan", spec))
    assert said(problems) == expected
    assert (config.pools == ()) == any(not line.startswith("warning") for line in expected)


def test_every_field_of_our_own_pools_is_read() -> None:
    spec = """
addresses: [192.0.2.0/28, 2001:db8::/126]
exclude: [192.0.2.0/31, 192.0.2.4-192.0.2.5, '2001:db8::3/128', 192.0.2.12-198.51.100.1]
disabled: true
onShrink: Renumber
strategy: Random
cooldown: 1h30m
sharing: Namespace
namespaceQuota: 3
reservations:
- {service: shop/web, addresses: [192.0.2.9, '2001:db8::1']}
- {service: shop/db, addresses: [192.0.2.11]}
serviceAllocation: {namespaces: [shop], exclusive: true}
"""
    config, problems = parsed(document("IPAddressPool", "lan", spec))
    assert problems == []
    (pool,) = config.pools
    assert [str(one) for one in pool.ranges] == [
        "192.0.2.2-192.0.2.3",
        "192.0.2.6-192.0.2.11",
        "2001:db8::-2001:db8::2",
    ]
    assert [str(one) for one in pool.excluded] == [
        "192.0.2.0-192.0.2.1",
        "192.0.2.4-192.0.2.5",
        "192.0.2.12-192.0.2.15",
        "2001:db8::3-2001:db8::3",
    ]
    assert (pool.disabled, pool.on_shrink, pool.strategy, pool.cooldown_s) == (
        True,
        "Renumber",
        "Random",
        5400,
    )
    assert (pool.sharing, pool.namespace_quota, pool.deleted) == ("Namespace", 3, False)
    assert pool.reservations == (
        Reservation("shop/web", (ip_address("192.0.2.9"), ip_address("2001:db8::1"))),
        Reservation("shop/db", (ip_address("192.0.2.11"),)),
    )
    assert pool.service_allocation == ServiceAllocation(namespaces=frozenset({"shop"}), exclusive=True)


def test_the_order_of_addresses_stays_whatever_is_excluded() -> None:
    spec = "addresses: [192.0.2.128/25, 192.0.2.0/25]\nexclude: [192.0.2.200/32, 192.0.2.10/32]"
    config, problems = parsed(document("IPAddressPool", "lan", spec))
    assert problems == []
    assert [str(one) for one in config.pools[0].ranges] == [
        *("192.0.2.128-192.0.2.199", "192.0.2.201-192.0.2.255"),
        *("192.0.2.0-192.0.2.9", "192.0.2.11-192.0.2.127"),
    ]


def test_fields_of_ours_are_unknown_to_metallb_and_the_hint_says_where_they_are() -> None:
    ours = ["exclude", "disabled", "onShrink", "strategy", "cooldown", "sharing", "namespaceQuota"]
    ours += ["reservations"]
    spec = {"addresses": ["192.0.2.0/24"], **dict.fromkeys(ours, 1), "serviceAllocation": {"exclusive": True}}
    value = {"apiVersion": OLD, "kind": "IPAddressPool", "metadata": {"name": "lan"}, "spec": spec}
    config, problems = parse([from_object(value)])
    assert config.pools == ()
    assert {one.path for one in problems} == {
        *(f"spec.{key}" for key in ours),
        "spec.serviceAllocation.exclusive",
    }
    assert {(one.what, one.hint) for one in problems} == {
        ("unknown key", "write apiVersion: lbspeaker.io/v1beta1, which has this key")
    }


@pytest.mark.parametrize("version", [OURS, OLD])
def test_a_pool_whose_deletion_was_asked_for_is_deleted(version: str) -> None:
    metadata = {"name": "lan", "deletionTimestamp": "2026-01-01T00:00:00Z", "finalizers": ["x/y"]}
    spec = {"addresses": ["192.0.2.0/24"]}
    value = {"apiVersion": version, "kind": "IPAddressPool", "metadata": metadata, "spec": spec}
    config, problems = parse([from_object(value)])
    assert problems == []
    assert config.pools[0].deleted
    assert config.pools[0].closed


RESERVED = "addresses: [192.0.2.0/24, 'fd00::/64']\nexclude: [192.0.2.7/32]\nreservations:\n- "
OUR_POOLS = [
    ("addresses: [192.0.2.0/24]\nexclude: [192.0.3.0/24, 192.0.2.9/32, '::/0']", [
        "warning 6: spec.exclude[0]: 192.0.3.0-192.0.3.255 is in none of the addresses"
        " -> remove it, or look for a mistyped digit",
        "warning 6: spec.exclude[2]: ::-ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff is in none of the addresses"
        " -> remove it, or look for a mistyped digit"]),
    ("addresses: [192.0.2.0/24]\nexclude: [192.0.2.0-192.0.2.99, 192.0.2.100-192.0.2.255]", [
        "6: spec.exclude: nothing is left: all addresses are excluded -> exclude less"]),
    ("addresses: [192.0.2.0/24]\nexclude: [192.0.2.9]", [
        "6: spec.exclude[0]: '192.0.2.9' is neither a CIDR nor a range -> write 192.0.2.9/32"]),
    ("addresses: [192.0.2.0/24]\nonShrink: keep", [
        "6: spec.onShrink: 'keep' is not one of Keep, Renumber -> did you mean Keep?"]),
    ("addresses: [192.0.2.0/24]\nnamespaceQuota: 0", [
        "6: spec.namespaceQuota: the number 0 is not between 1 and 2147483647 -> "]),
    ("addresses: [192.0.2.0/24]\ncooldown: 25h", [
        "6: spec.cooldown: '25h' is longer than a day -> write it shorter, as in 90s"]),
    ("addresses: [192.0.2.0/24]\nserviceAllocation: {exclusive: true}", [
        "warning 6: spec.serviceAllocation.exclusive: the pool is exclusive for all services: none gets IPs"
        " of another pool -> write namespaces, namespaceSelectors or serviceSelectors"]),
    ("addresses: [192.0.2.0/24]\nserviceAllocation: {exclusive: true, namespaceSelectors: [{}]}", [
        "warning 6: spec.serviceAllocation.exclusive: the pool is exclusive for all services: none gets IPs"
        " of another pool -> write namespaces, namespaceSelectors or serviceSelectors"]),
    ("addresses: [192.0.2.0/24]\nserviceAllocation: {exclusive: true, namespaces: [a]}", []),
    (RESERVED + "{service: a/b, addresses: [192.0.3.1]}", [
        "8: spec.reservations[0].addresses[0]: 192.0.3.1 is not in the pool -> add it to addresses"]),
    (RESERVED + "{service: a/b, addresses: [192.0.2.7]}", [
        "8: spec.reservations[0].addresses[0]: 192.0.2.7 is excluded from the pool -> take it"
        " out of exclude"]),
    ("avoidBuggyIPs: true\n" + RESERVED + "{service: a/b, addresses: [192.0.2.255]}", [
        "9: spec.reservations[0].addresses[0]: 192.0.2.255 is not given: avoidBuggyIPs leaves it out"
        " -> reserve another address"]),
    (RESERVED + "{service: a/b, addresses: [192.0.2.1]}\n- {service: c/d, addresses: ['fd00::1',"
     " 192.0.2.1]}", [
        "9: spec.reservations[1].addresses[1]: 192.0.2.1 is reserved for a/b already"
        " -> reserve another address"]),
    (RESERVED + "{service: a/b, addresses: [192.0.2.1]}\n- {service: a/b, addresses: [192.0.2.2]}", [
        "9: spec.reservations[1].service: 'a/b' is there already -> keep one of the two"]),
    (RESERVED + "{service: a/b, addresses: [192.0.2.1, 192.0.2.2]}", [
        "8: spec.reservations[0].addresses: there are two addresses of one family, and a service has one of"
        " each -> write at most one IPv4 and one IPv6 address"]),
    (RESERVED + "{service: web, addresses: []}", [
        "8: spec.reservations[0].service: 'web' is not the namespace/name of a service"
        " -> write it like default/web",
        "8: spec.reservations[0].addresses: must not be empty -> "]),
]  # fmt: skip


@pytest.mark.parametrize(("spec", "expected"), OUR_POOLS, ids=[spec for spec, _ in OUR_POOLS])
def test_our_own_fields_of_pools(spec: str, expected: list[str]) -> None:
    config, problems = parsed(document("IPAddressPool", "lan", spec))
    assert said(problems) == expected
    assert (config.pools == ()) == any(not line.startswith("warning") for line in expected)


PROFILES = [
    ("{}", []),
    ("{receiveInterval: 10, transmitInterval: 60000, detectMultiplier: 2, echoInterval: 50, passiveMode: yes,"
     " minimumTtl: 1, echoMode: false}", []),
    ("echoMode: true", [
        "warning 5: spec.echoMode: echoMode is never served: the kernel would have to return the router's"
        " echo packets; the profile works without -> remove it; transmitInterval and receiveInterval"
        " say how fast a failure is noticed"]),
    ("receiveInterval: 9", ["5: spec.receiveInterval: the number 9 is not between 10 and 60000 -> "]),
    ("transmitInterval: 300ms", ["5: spec.transmitInterval: must be a whole number, and '300ms' is not -> "]),
    ("detectMultiplier: 1", ["5: spec.detectMultiplier: the number 1 is not between 2 and 255 -> "]),
    ("minimumTtl: 255", ["5: spec.minimumTtl: the number 255 is not between 1 and 254 -> "]),
    ("recieveInterval: 300", ["5: spec.recieveInterval: unknown key -> did you mean receiveInterval?"]),
]  # fmt: skip


@pytest.mark.parametrize("version", [OURS, OLD])
@pytest.mark.parametrize(("spec", "expected"), PROFILES, ids=[spec for spec, _ in PROFILES])
def test_bfd_profiles(spec: str, expected: list[str], version: str) -> None:
    config, problems = parsed(document("BFDProfile", "fast", spec, version))
    assert said(problems) == expected
    assert bool(config.bfd_profiles) == all(line.startswith("warning") for line in expected)


def test_what_a_bfd_profile_means() -> None:
    given = (
        "{receiveInterval: 10, transmitInterval: 60000, detectMultiplier: 2, passiveMode: yes, minimumTtl: 1}"
    )
    config, _ = parsed(document("BFDProfile", "fast", given) + document("BFDProfile", "plain", "{}"))
    assert config.bfd_profiles == (
        BFDProfile("fast", 10, 60000, 2, True, 1),
        BFDProfile("plain", 300, 300, 3, False, 254),
    )


BFD_OF_PEERS = [
    ("fast", []),
    ("''", []),
    ("fats", ["9: spec.bfdProfile: there is no BFDProfile 'fats'; the peer is not used"
              " -> did you mean fast?"]),
    ("gold", ["9: spec.bfdProfile: there is no BFDProfile 'gold'; the peer is not used"
              " -> there are: fast, wrong"]),
    ("wrong", ["9: spec.bfdProfile: BFDProfile 'wrong' is refused, and so is the peer"
               " -> correct the BFDProfile"]),
    ("fast, enableGracefulRestart: true", [
        "warning 9: spec.bfdProfile: BFD ends with the speaker, so a router gives up the routes at once which"
        " it should keep during a graceful restart -> remove one of the two"]),
]  # fmt: skip


@pytest.mark.parametrize(("name", "expected"), BFD_OF_PEERS, ids=[name for name, _ in BFD_OF_PEERS])
def test_the_bfd_profile_of_a_peer(name: str, expected: list[str]) -> None:
    profiles = document("BFDProfile", "fast", "receiveInterval: 100") + document(
        "BFDProfile", "wrong", "detectMultiplier: 1"
    )
    config, problems = parsed(profiles + document("BGPPeer", "r", PEER + f"bfdProfile: {name}}}"))
    found = [line for line in said(problems) if "bfdProfile" in line]
    assert [re.sub(r"\b\d+: spec", "9: spec", line) for line in found] == expected
    if any(not line.startswith("warning") for line in expected):
        assert config.peers == ()
    else:
        (peer,) = config.peers
        assert peer.bfd == (BFDProfile("fast", 100) if name.startswith("fast") else None)


SELECTORS = [
    ("- matchLabels: {rack: 1}", [
        '5: spec.nodeSelectors[0].matchLabels.rack: must be text, and the number 1 is not'
        ' -> write it in quotes, as in "1"']),
    ("- matchLabels: {-bad: x}", [
        "5: spec.nodeSelectors[0].matchLabels.-bad: '-bad' is not a label's key"
        " -> write it like app or example.com/app, the name at most 63 characters"]),
    ("- matchLabels: {a: 'with space'}", [
        "5: spec.nodeSelectors[0].matchLabels.a: 'with space' is not a label's value"
        " -> use at most 63 letters, digits and - _ . (not first or last)"]),
    ("- matchExpressions: [{key: a, operator: in, values: [b]}]", [
        "5: spec.nodeSelectors[0].matchExpressions[0].operator: 'in' is not one of In, NotIn,"
        " Exists, DoesNotExist"
        " -> did you mean In?"]),
    ("- matchExpressions: [{key: a, operator: In}]", [
        "5: spec.nodeSelectors[0].matchExpressions[0]: In needs values"
        " -> write the values, or use Exists or DoesNotExist"]),
    ("- matchExpressions: [{key: a, operator: Exists, values: [b]}]", [
        "5: spec.nodeSelectors[0].matchExpressions[0].values: Exists takes no values"
        " -> remove them, or use In or NotIn"]),
    ("- matchExpression: []", [
        "5: spec.nodeSelectors[0].matchExpression: unknown key -> did you mean matchExpressions?"]),
    ("- rack: 1", [
        "5: spec.nodeSelectors[0].rack: unknown key -> known here: matchLabels, matchExpressions"]),
]  # fmt: skip


@pytest.mark.parametrize(("selectors", "expected"), SELECTORS, ids=[one for one, _ in SELECTORS])
def test_selectors(selectors: str, expected: list[str]) -> None:
    config, problems = parsed(document("L2Advertisement", "x", f"nodeSelectors: [ {{{selectors[2:]}}} ]"))
    assert said(problems) == expected
    assert config.l2_advertisements == ()


PEER = "{myASN: 64512, peerASN: 64513, peerAddress: 203.0.113.1, "
PEERS = [
    ("{peerASN: 64513, peerAddress: 203.0.113.1}", ["4: spec: myASN is missing -> "]),
    ("{myASN: 0, peerASN: 64513, peerAddress: 203.0.113.1}", [
        "5: spec.myASN: 0 is not an AS number (RFC 7607) -> write the AS number of the speakers"]),
    ("{myASN: '64512', peerASN: 4294967296, peerAddress: router}", [
        "5: spec.myASN: must be a whole number, and '64512' is not -> write 64512 without quotes",
        "5: spec.peerASN: the number 4294967296 is not between 0 and 4294967295 -> ",
        "5: spec.peerAddress: 'router' is not an IP address -> write it like 192.0.2.10 or 2001:db8::10"]),
    ("{myASN: 64512, dynamicASN: external, peerAddress: 203.0.113.1}", [
        "5: spec.dynamicASN: external is not served: ExaBGP must know the router's AS number"
        " -> write the router's AS number as peerASN"]),
    ("{myASN: 64512, peerASN: 64513, dynamicASN: internal, peerAddress: 203.0.113.1}", [
        "5: spec.dynamicASN: peerASN and dynamicASN exclude each other -> remove dynamicASN"]),
    ("{myASN: 64512, peerASN: 64513, interface: eth0}", [
        "5: spec.interface: a session over an interface without addresses is not served yet"
        " -> write the router's address as peerAddress"]),
    (PEER + "vrf: red}", [
        "5: spec.vrf: vrf is not served yet -> peer from the node's main routing table"]),
    ("{myASN: 64512, peerASN: 64999, localASN: 64999, peerAddress: 203.0.113.1, ebgpMultiHop: true}", [
        "5: spec.ebgpMultiHop: both ends are in the same AS, and only sessions between two ASs have"
        " hops to count -> remove ebgpMultiHop"]),
    (PEER + "ttlSecurity: 2, ebgpMultiHop: true}", [
        "5: spec.ttlSecurity: ebgpMultiHop and ttlSecurity exclude each other -> remove ebgpMultiHop"]),
    ("{myASN: 64512, peerASN: 64513, peerAddress: auto, sourceAddress: 'fd00::1'}", [
        "5: spec.sourceAddress: fd00::1 and peerAddress auto are of different families"
        " -> write an IPv4 address"]),
    ("{myASN: 64512, peerASN: 64513, peerAddress: 224.0.0.5, sourceAddress: '::ffff:192.0.2.9'}", [
        "5: spec.peerAddress: 224.0.0.5 is a multicast address, which no single host has"
        " -> write a global or unique local address",
        "5: spec.sourceAddress: '::ffff:192.0.2.9' is an IPv4 address written as IPv6 -> write 192.0.2.9"]),
    ("{myASN: 64512, peerASN: 64513, peerAddress: 'fe80::1', sourceAddress: 127.0.0.1}", [
        "5: spec.peerAddress: fe80::1 is link-local, and nothing says on which link"
        " -> write a global or unique local address",
        "5: spec.sourceAddress: 127.0.0.1 is a loopback address, behind which is always the node itself"
        " -> write a global or unique local address"]),
    (PEER + "bfdProfile: fast}", [
        "5: spec.bfdProfile: there is no BFDProfile 'fast'; the peer is not used -> add the BFDProfile"]),
    (PEER + "connectTime: soon}", [
        "5: spec.connectTime: 'soon' is not a duration -> write a number with a unit, as in 90s or 1m30s"]),
    (PEER + "enableGracefulRestart: true, connectTime: 10s, disableMP: true}", [
        "warning 5: spec.disableMP: disableMP is deprecated and changes nothing -> remove it"]),
    (PEER + "holdTime: 90}", ["5: spec.holdTime: the number 90 has no unit -> write 90s"]),
    (PEER + "holdTime: soon}", [
        "5: spec.holdTime: 'soon' is not a duration -> write a number with a unit, as in 90s or 1m30s"]),
    (PEER + "holdTime: 2s}", [
        "5: spec.holdTime: the hold time, 2s, is not 0s or whole seconds from 3s to 65535s -> write"
        " holdTime: 90s"]),
    (PEER + "holdTime: 4500ms}", [
        "5: spec.holdTime: the hold time, 4.5s, is not 0s or whole seconds from 3s to 65535s"
        " -> write holdTime: 90s"]),
    (PEER + "holdTime: 9s, keepaliveTime: 10s}", [
        "5: spec.keepaliveTime: keepaliveTime 10s is longer than holdTime 9s"
        " -> remove keepaliveTime: a third of the hold time is used"]),
    (PEER + "holdTime: 9s, keepaliveTime: 1s}", [
        "warning 5: spec.keepaliveTime: keepalives are sent every 3s: always a third of the hold time"
        " -> remove keepaliveTime, or write holdTime as three times as much"]),
    (PEER + "holdTime: 10s, keepaliveTime: 3s}", [
        "warning 5: spec.keepaliveTime: keepalives are sent every 3.33333s: always a third of the hold time"
        " -> remove keepaliveTime, or write holdTime as three times as much"]),
    (PEER + "routerID: 'fd00::1'}", ["5: spec.routerID: fd00::1 is not an IPv4 address -> "]),
    (PEER + "sourceAddress: 'fd00::1'}", [
        "5: spec.sourceAddress: fd00::1 and peerAddress 203.0.113.1 are of different families"
        " -> write an IPv4 address"]),
    ("{myASN: 64512, peerASN: 64512, peerAddress: 203.0.113.1, ebgpMultiHop: true}", [
        "5: spec.ebgpMultiHop: both ends are in the same AS, and only sessions between two ASs have"
        " hops to count"
        " -> remove ebgpMultiHop"]),
    (PEER + "password: a, passwordSecret: {name: b}}", [
        "5: spec.password: password and passwordSecret exclude each other -> remove password"]),
    (PEER + "password: \"a\\nneighbor 10.0.0.1\"}", [
        "5: spec.password: the password is not 1 to 80 printable ASCII characters"
        " -> use letters, digits and punctuation; look for a line break at its end"]),
    (PEER + "passwordSecret: {name: b, namespace: other}}", [
        "warning 5: spec.passwordSecret.namespace: the Secret is looked for in lb, the peer's own namespace,"
        " not in other -> put the Secret into lb"]),
    (PEER + "passwordSecret: {namespace: lb}}", [
        "5: spec.passwordSecret: name is missing -> write the name of the Secret"]),
]  # fmt: skip


@pytest.mark.parametrize(("spec", "expected"), PEERS, ids=[spec.removeprefix(PEER) for spec, _ in PEERS])
def test_peers(spec: str, expected: list[str]) -> None:
    config, problems = parsed(document("BGPPeer", "router", spec))
    assert said(problems) == expected
    assert (config.peers == ()) == any(not line.startswith("warning") for line in expected)


@pytest.mark.parametrize(
    ("times", "hold_time_s"),
    [("holdTime: 9s", 9), ("keepaliveTime: 5s", 15), ("holdTime: 0s", 0), ("holdTime: 1.5m", 90), ("", 90)],
)
def test_one_of_the_times_gives_the_other(times: str, hold_time_s: int) -> None:
    config, problems = parsed(document("BGPPeer", "router", PEER + times + "}"))
    assert problems == []
    assert config.peers[0].hold_time_s == hold_time_s


@pytest.mark.parametrize(
    ("more", "right"),
    [
        ("holdTime: 18h12m15s", True),  # 65535 seconds
        ("holdTime: 18h12m16s", False),
        ("holdTime: 24h", False),
        ("connectTime: 18h12m15s", True),
        ("connectTime: 24h", False),
        ("connectTime: 0s", False),
        ("ttlSecurity: 254", True),
        ("ttlSecurity: 0", False),
        ("holdTime: 3s", True),
        ("holdTime: 2.9s", False),
        ("keepaliveTime: 500ms", False),
        ("peerPort: 65535", True),
        ("peerPort: 65536", False),
        (f"password: {'x' * 80}", True),
        (f"password: {'x' * 81}", False),
        ("password: pässword", False),
    ],
)
def test_limits_of_peers(more: str, right: bool) -> None:
    config, problems = parsed(document("BGPPeer", "router", PEER + more + "}"))
    assert bool(config.peers) == right
    if not right:
        assert {problem.path for problem in problems} == {"spec." + more.partition(":")[0]}


def test_what_sessions_have_beyond_the_usual_is_read() -> None:
    text = """{myASN: 64512, localASN: 64600, peerASN: 64513, peerAddress: auto, peerPort: 1790,
        sourceAddress: 192.0.2.2, routerID: 10.0.0.1, holdTime: 9s, connectTime: 5s, ttlSecurity: 2,
        enableGracefulRestart: true}"""
    (peer,) = parsed(document("BGPPeer", "router", text))[0].peers
    assert peer == Peer(
        name="router",
        my_asn=64600,
        peer_asn=64513,
        address=None,
        port=1790,
        source_address=ip_address("192.0.2.2"),
        router_id=IPv4Address("10.0.0.1"),
        hold_time_s=9,
        connect_s=5.0,
        ttl_hops=2,
        graceful_restart_s=120,
    )


def test_a_peer_in_the_own_as_needs_no_number() -> None:
    text = "{myASN: 64512, localASN: 64600, dynamicASN: internal, peerAddress: 203.0.113.1}"
    (peer,) = parsed(document("BGPPeer", "router", text))[0].peers
    assert (peer.my_asn, peer.peer_asn, peer.ibgp) == (64600, 64600, True)


def test_what_only_our_objects_have_is_refused_in_those_of_metallb() -> None:
    for kind, key, version in (
        ("BGPPeer", PEER + "ttlSecurity: 1}", "metallb.io/v1beta2"),
        ("BGPAdvertisement", "{med: 5}", "metallb.io/v1beta1"),
    ):
        problems = said(parsed(document(kind, "one", key, version))[1])
        assert ["unknown key -> write apiVersion: lbspeaker.io/v1beta1" in line for line in problems] == [
            True
        ]


def test_keys_that_came_with_the_second_version_are_refused_in_the_first() -> None:
    config, problems = parsed(document("BGPPeer", "router", PEER + "vrf: red}", OLD))
    assert said(problems) == [
        "5: spec.vrf: unknown key -> write apiVersion: metallb.io/v1beta2, which has this key"
    ]
    assert config.peers == ()


def test_a_peer_gets_its_password_from_its_secret_or_is_refused() -> None:
    text = document("BGPPeer", "router", PEER + "passwordSecret: {name: bgp}}")
    reference = SecretRef("lb", "bgp")
    assert [(peer.password, peer.password_secret) for peer in parsed(text)[0].peers] == [(None, reference)]
    peers = parsed(text, {"lb/bgp": "s3cret"})[0].peers
    assert [(peer.password, peer.password_secret) for peer in peers] == [("s3cret", reference)]
    assert "s3cret" not in repr(peers)
    for secrets, what in (
        ({}, "there is no Secret lb/bgp"),
        ({"other/bgp": "x"}, "there is no Secret lb/bgp"),
        ({"lb/bgp": ""}, "Secret lb/bgp has no password"),
        ({"lb/bgp": "a\nb"}, "the password in Secret lb/bgp is not 1 to 80 printable ASCII characters"),
    ):
        config, (problem,) = parsed(text, secrets)
        assert config.peers == ()
        assert problem.path == "spec.passwordSecret.name"
        assert problem.what.startswith(what)


ADVERTISEMENTS = [
    ("communities: [64512:31, 'large:1:2:3', local-as, graceful-shutdown]", []),
    ("communities: [3870751]", [
        '5: spec.communities[0]: must be text, and the number 3870751 is not'
        ' -> write it in quotes, as in "3870751"']),
    ("communities: [64512:70000]", [
        "5: spec.communities[0]: '64512:70000' is neither a community nor the name of one"
        " -> write 64512:31 (two numbers to 65535), or large:64512:1:2 (three to 4294967295)"]),
    ("communities: ['64512:1:2:3']", [
        "5: spec.communities[0]: '64512:1:2:3' is neither a community nor the name of one"
        " -> write 64512:31 (two numbers to 65535), or large:64512:1:2 (three to 4294967295)"]),
    ("communities: [insid]", [
        "5: spec.communities[0]: 'insid' is neither a community nor the name of one -> did you mean"
        " inside?"]),
    ("ipAddressPools: [routes]", [
        "warning 5: spec.ipAddressPools[0]: there is no IPAddressPool 'routes' -> did you mean routed?"]),
    ("peers: [gateway]", [
        "warning 5: spec.peers[0]: there is no BGPPeer 'gateway' -> there are: router"]),
    ("aggregationLength: 24\nipAddressPools: [routed]", []),
    ("aggregationLength: 22\nipAddressPools: [routed]", [
        "5: spec.aggregationLength: a /22 is more than 198.51.100.0-198.51.100.255 of pool routed:"
        " at most a /24"
        " fits -> write 24 or more, or name other pools"]),
    ("aggregationLengthV6: 48", [
        "5: spec.aggregationLengthV6: a /48 is more than 2001:db8::60-2001:db8::6f of pool six: at"
        " most a /124"
        " fits -> write 124 or more, or name other pools"]),
    ("aggregationLength: 24\nserviceSelectors: [{matchLabels: {a: b}}]\nipAddressPools: [routed]", [
        "6: spec.serviceSelectors: serviceSelectors and an aggregation length exclude each other:"
        " an aggregate is"
        " announced for all services in it -> remove aggregationLength and aggregationLengthV6, or"
        " the selectors"]),
    ("aggregationLength: 33", ["5: spec.aggregationLength: the number 33 is not between 1 and 32 -> "]),
    ("localPref: -1", ["5: spec.localPref: the number -1 is not between 0 and 4294967295 -> "]),
    ("localPref: 0", []),
]  # fmt: skip


@pytest.mark.parametrize(("spec", "expected"), ADVERTISEMENTS, ids=[spec for spec, _ in ADVERTISEMENTS])
def test_bgp_advertisements(spec: str, expected: list[str]) -> None:
    config, problems = parsed(
        document("BGPAdvertisement", "x", spec)
        + document("IPAddressPool", "routed", "addresses: [198.51.100.0/24]")
        + document("IPAddressPool", "six", "addresses: ['2001:db8::60/124']")
        + document("BGPPeer", "router", PEER + "}")
        + document("Community", "names", "communities: [{name: inside, value: '64512:31'}]")
    )
    assert said(problems) == expected
    assert (config.bgp_advertisements == ()) == any(not line.startswith("warning") for line in expected)


def test_communities_become_numbers() -> None:
    names = (
        "communities: [large:00064512:1:2, local-as, graceful-shutdown, no-advertise, 65535:65281, no-export]"
    )
    config, problems = parsed(document("BGPAdvertisement", "x", names))
    assert problems == []
    assert config.bgp_advertisements[0].communities == (
        "large:64512:1:2",
        "65535:65283",
        "65535:0",
        "65535:65282",
        "65535:65281",
    )


@pytest.mark.parametrize(
    ("spec", "what"),
    [
        ("interfaces: [eth0/1]", "spec.interfaces[0]: 'eth0/1' is not a name that an interface can have"),
        ("interfaces: [a-name-far-too-long]", "spec.interfaces[0]: 'a-name-far-too-long' is not a name"),
        (
            "preferredNodeSelectors: [{weight: 101, preference: {}}]",
            "the number 101 is not between 1 and 100",
        ),
        ("preferredNodeSelectors: [{weight: 1}]", "preference is missing"),
        ("peers: [router]", "spec.peers: unknown key"),
    ],
)
def test_l2_advertisements(spec: str, what: str) -> None:
    config, (problem,) = parsed(document("L2Advertisement", "x", spec))
    assert what in str(problem)
    assert config.l2_advertisements == ()


L2_OURS = "anySubnet: true\nfailback: Never\nonCordon: Move"


def test_every_field_of_our_own_l2_advertisements_is_read() -> None:
    config, problems = parsed(document("L2Advertisement", "x", L2_OURS))
    assert problems == []
    assert config.l2_advertisements == (
        L2Advertisement("x", any_subnet=True, failback="Never", on_cordon="Move"),
    )


def test_what_metallbs_l2_advertisements_do_not_have_is_told() -> None:
    config, problems = parsed(document("L2Advertisement", "x", L2_OURS, OLD))
    assert said(problems) == [
        f"{line}: spec.{key}: unknown key -> write apiVersion: lbspeaker.io/v1beta1, which has this key"
        for line, key in ((5, "anySubnet"), (6, "failback"), (7, "onCordon"))
    ]
    assert config.l2_advertisements == ()


def test_an_l2_advertisement_of_either_group_means_the_same_without_them() -> None:
    spec = "ipAddressPools: [lan]\ninterfaces: [eth0]"
    (ours,), (theirs,) = (
        parsed(document("L2Advertisement", "x", spec, version))[0].l2_advertisements
        for version in (OURS, OLD)
    )
    assert ours == theirs
    assert (ours.any_subnet, ours.failback, ours.on_cordon) == (False, "Always", "Stay")


@pytest.mark.parametrize(
    ("spec", "expected"),
    [
        ("anySubnet: on", ""),
        ("anySubnet: 'on'", "5: spec.anySubnet: must be true or false, and 'on' is neither -> "),
        ("failback: never", "5: spec.failback: 'never' is not one of Always, Never -> did you mean Never?"),
        ("failback: no", "5: spec.failback: the truth value false is not one of Always, Never -> "),
        ("onCordon: move", "5: spec.onCordon: 'move' is not one of Stay, Move -> did you mean Move?"),
        ("anysubnet: true", "5: spec.anysubnet: unknown key -> did you mean anySubnet?"),
    ],
)
def test_mistakes_in_our_own_fields(spec: str, expected: str) -> None:
    _, problems = parsed(document("L2Advertisement", "x", spec))
    assert said(problems) == [expected] * bool(expected)


IDENTITIES = [
    ("metalb.io/v1beta1", "IPAddressPool", [
        "apiVersion: unknown group 'metalb.io' -> did you mean metallb.io?"]),
    ("lbspeakers.io/v1beta1", "IPAddressPool", [
        "apiVersion: unknown group 'lbspeakers.io' -> did you mean lbspeaker.io?"]),
    ("metallb.io/v1beta3", "IPAddressPool", [
        "apiVersion: 'metallb.io/v1beta3' has no IPAddressPool -> write metallb.io/v1beta1"]),
    ("metallb.io/v1beta2", "IPAddressPool", [
        "apiVersion: 'metallb.io/v1beta2' has no IPAddressPool -> write metallb.io/v1beta1"]),
    ("lbspeaker.io/v1beta1", "IPAddresPool", [
        "kind: unknown kind 'IPAddresPool' -> did you mean IPAddressPool?"]),
    ("lbspeaker.io/v1beta1", "Wormhole", [
        "kind: unknown kind 'Wormhole' -> known kinds: IPAddressPool, L2Advertisement, LinkPolicy,"
        " BGPPeer, BGPAdvertisement, BFDProfile, Community, EffectiveConfiguration"]),
    ("v1", "IPAddressPool", [
        "apiVersion: 'v1' names no group of ours -> write lbspeaker.io/v1beta1 (or metallb.io/v1beta1)"]),
    ("", "IPAddressPools", [
        ": apiVersion is missing -> write apiVersion: lbspeaker.io/v1beta1",
        "kind: unknown kind 'IPAddressPools' -> did you mean IPAddressPool?"]),
    ("metalb.io/v1beta1", "IPAddresPool", [
        "apiVersion: unknown group 'metalb.io' -> did you mean metallb.io?",
        "kind: unknown kind 'IPAddresPool' -> did you mean IPAddressPool?"]),
]  # fmt: skip


@pytest.mark.parametrize(
    ("version", "kind", "expected"), IDENTITIES, ids=[f"{v} {k}" for v, k, _ in IDENTITIES]
)
def test_misspelt_groups_kinds_and_versions(version: str, kind: str, expected: list[str]) -> None:
    value = {
        "apiVersion": version,
        "kind": kind,
        "metadata": {"name": "x"},
        "spec": {"addresses": ["10.0.0.0/8"]},
    }
    assert is_configuration(from_object(value))
    config, problems = parse([from_object(value)])
    assert [f"{one.path}: {one.what} -> {one.hint}" for one in problems] == expected
    assert config == Config()


@pytest.mark.parametrize(
    ("version", "kind"),
    [
        ("v1", "Service"),
        ("v1", "List"),
        ("", ""),
        ("apps/v1", "Deployment"),
        ("discovery.k8s.io/v1", "EndpointSlice"),
        ("projectcalico.org/v3", "BGPPeer"),
        ("crd.projectcalico.org/v1", "IPPool"),
        ("frrk8s.metallb.io/v1beta1", "FRRConfiguration"),
        ("cilium.io/v2alpha1", "CiliumLoadBalancerIPPool"),
    ],
)
def test_documents_of_others_are_left_alone(version: str, kind: str) -> None:
    document = from_object({"apiVersion": version, "kind": kind, "spec": {"x": 1}})
    assert not is_configuration(document)
    assert parse([document]) == (Config(), [])


@pytest.mark.parametrize(
    ("metadata", "expected"),
    [
        ({}, "metadata: name is missing"),
        (None, "metadata: metadata is missing"),
        ({"name": "Big"}, "metadata.name: 'Big' is not a name of an object"),
        ({"name": 5}, "metadata.name: must be text, and the number 5 is not"),
        ({"name": "a", "label": {}}, "metadata.label: unknown key"),
        (
            {"name": "a", "labels": {"x": True}},
            "metadata.labels.x: must be text, and the truth value true is not",
        ),
        ("lan", "metadata: must be a mapping, and 'lan' is not"),
    ],
)
def test_metadata(metadata: object, expected: str) -> None:
    value = {
        "apiVersion": OURS,
        "kind": "IPAddressPool",
        "metadata": metadata,
        "spec": {"addresses": ["10.0.0.0/8"]},
    }
    config, (problem,) = parse([from_object(value)])
    assert f"{problem.path}: {problem.what}" == expected
    assert (problem.file, problem.line) == ("cluster", None)
    assert config == Config()


def test_labels_of_a_pool_are_kept_for_selectors() -> None:
    value = {"apiVersion": OURS, "kind": "IPAddressPool", "metadata": {"name": "a", "labels": {"net": "lan"}}}
    config, problems = parse([from_object({**value, "spec": {"addresses": ["10.0.0.0/8"]}})])
    assert problems == []
    assert config.pools[0].labels == {"net": "lan"}


def test_many_unknown_keys_are_not_told_one_by_one() -> None:
    spec = {f"key{number}": 1 for number in range(1000)}
    value = {"apiVersion": OURS, "kind": "L2Advertisement", "metadata": {"name": "a"}, "spec": spec}
    _, problems = parse([from_object(value)])
    assert len(problems) == 21
    assert problems[-1].what == "980 more unknown keys"


def test_problems_come_in_the_order_of_the_documents_and_their_lines() -> None:
    text = (
        document("L2Advertisement", "a", "interfaces: [/]\nnodeSelector: []")
        + document("IPAddressPool", "b", "autoAsign: no\naddresses: [x]")
        + document("IPAddressPool", "c", "addresses: [192.0.2.0/24]")
        + document("IPAddressPool", "d", "addresses: [192.0.2.9/32]")
    )
    config, problems = parsed(text)
    assert [(one.object, one.line) for one in problems] == [
        ("L2Advertisement/a", 5),
        ("L2Advertisement/a", 6),
        ("IPAddressPool/b", 12),
        ("IPAddressPool/b", 13),
        ("IPAddressPool/d", 25),
    ]
    assert [pool.name for pool in config.pools] == ["c"]
