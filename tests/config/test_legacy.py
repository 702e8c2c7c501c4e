"""MetalLB's configuration, old and new → objects of ours, with the lines of what they were made from."""

import re
from textwrap import dedent, indent
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lbspeaker.config.documents import Document, from_object, read
from lbspeaker.config.kinds import KINDS
from lbspeaker.config.migration import Migration, Origin, migrate
from lbspeaker.config.parse import parse
from lbspeaker.errors import Problem
from lbspeaker.model import Config

TARGET = "lbspeaker-system"
HEAD = """\
apiVersion: v1
kind: ConfigMap
metadata: {name: config, namespace: metallb-system}
data:
  config: |
"""


def migrated(text: str, file: str = "old.yaml") -> Migration:
    documents, problems = read(text, file)
    assert not problems
    return migrate(documents, {file: text}, TARGET)


def config_map(text: str) -> str:
    return HEAD + indent(dedent(text), "    ")


def specs(done: Migration) -> dict[str, Any]:
    """The specs of the objects by "Kind/name", in order; of a Secret, its data."""
    for document in done.objects:
        metadata = document.value["metadata"]
        assert isinstance(metadata, dict)
        assert metadata["namespace"] == TARGET
    return {
        document.object: document.value.get("spec", document.value.get("stringData"))
        for document in done.objects
    }


def told(problems: tuple[Problem, ...]) -> list[str]:
    return [str(problem) for problem in problems]


LAYER2 = """\
address-pools:
- name: default
  protocol: layer2
  addresses:
  - 192.168.1.240-192.168.1.250
"""
BGP = """\
peers:
- peer-address: 10.0.0.1
  peer-asn: 64501
  my-asn: 64500
address-pools:
- name: default
  protocol: bgp
  addresses:
  - 192.168.10.0/24
"""
COMMUNITIES = """\
peers:
- peer-address: 10.0.0.1
  peer-asn: 64512
  my-asn: 64512
address-pools:
- name: default
  protocol: bgp
  addresses:
  - 198.51.100.0/24
  bgp-advertisements:
  - aggregation-length: 32
    localpref: 100
    communities:
    - no-advertise
    - 64512:1
  - aggregation-length: 24
    aggregation-length-v6: 128
bgp-communities:
  no-advertise: 65535:65282
"""
PEERS = """\
peers:
- peer-address: 10.0.0.1
  peer-asn: 64501
  my-asn: 64500
  peer-port: 179
  hold-time: 90s
  ebgp-multihop: false
  node-selectors:
  - match-labels:
      rack: frontend
    match-expressions:
    - key: network-speed
      operator: NotIn
      values: [slow]
  - match-expressions:
    - key: kubernetes.io/hostname
      operator: In
      values: [hostA, hostB]
- peer-address: 10.0.0.2
  peer-asn: 64502
  my-asn: 64500
  peer-port: 1179
  source-address: 10.0.0.9
  router-id: 10.10.10.10
  hold-time: 120s
  ebgp-multihop: true
"""
POOLS = """\
address-pools:
- name: cheap
  protocol: bgp
  addresses: [203.0.113.0/24, "fc00:f853:ccd:e799::/124"]
  avoid-buggy-ips: true
  auto-assign: false
- name: plain
  protocol: layer2
  addresses: [192.0.2.0/26]
  auto-assign: true
  avoid-buggy-ips: false
- name: more
  protocol: layer2
  addresses: [192.0.2.64/26]
"""
PASSWORDS = """\
peers:
- {peer-address: 10.0.0.1, peer-asn: 64501, my-asn: 64500, password: "yourPassword"}
- {peer-address: 10.0.0.2, peer-asn: 64501, my-asn: 64500, password: 1234}
"""
TIMERS = """\
peers:
- {peer-address: 10.0.0.1, peer-asn: 64501, my-asn: 64500, keepalive-time: 30s}
"""
PEER = {"myASN": 64500, "peerASN": 64501, "peerAddress": "10.0.0.1"}

GOLDEN = {
    "layer2": (
        LAYER2,
        {
            "IPAddressPool/default": {"addresses": ["192.168.1.240-192.168.1.250"]},
            "L2Advertisement/l2advertisement1": {"ipAddressPools": ["default"]},
        },
    ),
    "bgp without advertisements": (
        BGP,
        {
            "IPAddressPool/default": {"addresses": ["192.168.10.0/24"]},
            "BGPPeer/peer1": PEER,
            "BGPAdvertisement/bgpadvertisement1": {"ipAddressPools": ["default"]},
        },
    ),
    "communities, aggregation, local preference": (
        COMMUNITIES,
        {
            "IPAddressPool/default": {"addresses": ["198.51.100.0/24"]},
            "BGPPeer/peer1": {"myASN": 64512, "peerASN": 64512, "peerAddress": "10.0.0.1"},
            "Community/communities": {"communities": [{"name": "no-advertise", "value": "65535:65282"}]},
            "BGPAdvertisement/bgpadvertisement1": {
                "ipAddressPools": ["default"],
                "localPref": 100,
                "communities": ["no-advertise", "64512:1"],
            },
            "BGPAdvertisement/bgpadvertisement2": {"ipAddressPools": ["default"], "aggregationLength": 24},
        },
    ),
    "peers for some nodes": (
        PEERS,
        {
            "BGPPeer/peer1": {
                **PEER,
                "nodeSelectors": [
                    {
                        "matchLabels": {"rack": "frontend"},
                        "matchExpressions": [
                            {"key": "network-speed", "operator": "NotIn", "values": ["slow"]}
                        ],
                    },
                    {
                        "matchExpressions": [
                            {"key": "kubernetes.io/hostname", "operator": "In", "values": ["hostA", "hostB"]}
                        ]
                    },
                ],
            },
            "BGPPeer/peer2": {
                "myASN": 64500,
                "peerASN": 64502,
                "peerAddress": "10.0.0.2",
                "peerPort": 1179,
                "sourceAddress": "10.0.0.9",
                "routerID": "10.10.10.10",
                "holdTime": "120s",
                "ebgpMultiHop": True,
            },
        },
    ),
    "pools of both protocols": (
        POOLS,
        {
            "IPAddressPool/cheap": {
                "addresses": ["203.0.113.0/24", "fc00:f853:ccd:e799::/124"],
                "autoAssign": False,
                "avoidBuggyIPs": True,
            },
            "IPAddressPool/more": {"addresses": ["192.0.2.64/26"]},
            "IPAddressPool/plain": {"addresses": ["192.0.2.0/26"]},
            "L2Advertisement/l2advertisement1": {"ipAddressPools": ["plain"]},
            "L2Advertisement/l2advertisement2": {"ipAddressPools": ["more"]},
            "BGPAdvertisement/bgpadvertisement1": {"ipAddressPools": ["cheap"]},
        },
    ),
    "passwords go into Secrets, and numbers there are text": (
        PASSWORDS,
        {
            "Secret/peer1-password": {"password": "yourPassword"},
            "Secret/peer2-password": {"password": "1234"},
            "BGPPeer/peer1": {**PEER, "passwordSecret": {"name": "peer1-password"}},
            "BGPPeer/peer2": {
                **PEER,
                "peerAddress": "10.0.0.2",
                "passwordSecret": {"name": "peer2-password"},
            },
        },
    ),
    "a keepalive time does not change the hold time": (
        TIMERS,
        {"BGPPeer/peer1": {**PEER, "keepaliveTime": "30s", "holdTime": "90s"}},
    ),
}


@pytest.mark.parametrize("text", [pytest.param(text, id=name) for name, (text, _) in GOLDEN.items()])
@pytest.mark.parametrize("wrap", [config_map, str], ids=["ConfigMap", "bare"])
def test_the_old_samples(text: str, wrap: Any) -> None:
    done = migrated(wrap(text))
    expected = next(objects for sample, objects in GOLDEN.values() if sample == text)
    assert specs(done) == expected
    assert list(specs(done)) == list(expected), "in this order"
    assert (done.problems, done.left_out, done.secrets) == ((), (), ())


# --- the same as by hand ---------------------------------------------------------------------------------

BY_HAND = """\
apiVersion: metallb.io/v1beta2
kind: BGPPeer
metadata: {name: peer1, namespace: metallb-system}
spec: {myASN: 64512, peerASN: 64512, peerAddress: 10.0.0.1}
---
apiVersion: metallb.io/v1beta1
kind: IPAddressPool
metadata: {name: default, namespace: metallb-system}
spec: {addresses: [198.51.100.0/24], autoAssign: true, avoidBuggyIPs: false}
---
apiVersion: metallb.io/v1beta1
kind: BGPAdvertisement
metadata: {name: bgpadvertisement1, namespace: metallb-system}
spec:
  ipAddressPools: [default]
  aggregationLength: 32
  localPref: 100
  communities: [no-advertise, "64512:1"]
---
apiVersion: metallb.io/v1beta1
kind: BGPAdvertisement
metadata: {name: bgpadvertisement2, namespace: metallb-system}
spec: {ipAddressPools: [default], aggregationLength: 24, aggregationLengthV6: 128}
---
apiVersion: metallb.io/v1beta1
kind: Community
metadata: {name: communities, namespace: metallb-system}
spec: {communities: [{name: no-advertise, value: "65535:65282"}]}
"""


def meaning(documents: Any) -> Config:
    config, problems = parse(documents)
    assert not [problem for problem in problems if problem.severity == "error"]
    return config


def test_the_old_form_means_what_the_new_one_means() -> None:
    by_hand = meaning(read(BY_HAND, "new.yaml")[0])
    assert by_hand.pools
    assert meaning(migrated(config_map(COMMUNITIES)).objects) == by_hand
    assert meaning(migrated(BY_HAND).objects) == by_hand, "and the new form means the same as ours"


def test_what_is_ours_already_stays_as_it_is() -> None:
    done = migrated(config_map(PEERS + POOLS))
    again = migrate(done.objects, {}, TARGET)
    assert [one.value for one in again.objects] == [one.value for one in done.objects]


# --- MetalLB's objects -----------------------------------------------------------------------------------

FROM_API = """\
apiVersion: v1
kind: List
items:
- apiVersion: metallb.io/v1beta1
  kind: IPAddressPool
  metadata:
    name: lan
    namespace: metallb-system
    labels: {tier: gold}
    annotations:
      kubectl.kubernetes.io/last-applied-configuration: "{}"
      example.com/owner: net
    creationTimestamp: "2024-01-01T00:00:00Z"
    generation: 1
    resourceVersion: "1"
    uid: 2b0c6ed4-9a5c-4a5a-bb0b-1bd2cd0dd3b1
    managedFields: []
  spec: {addresses: [192.0.2.0/26], autoAssign: true, avoidBuggyIPs: false}
  status: {assignedIPv4: 0, assignedIPv6: 0, availableIPv4: 1, availableIPv6: 0}
- apiVersion: v1
  kind: Service
  metadata: {name: web}
- apiVersion: metallb.io/v1beta1
  kind: ServiceL2Status
  metadata: {name: l2-x}
"""


def test_an_object_keeps_what_its_writer_wrote() -> None:
    done = migrated(FROM_API)
    (pool,) = done.objects
    assert pool.value == {
        "apiVersion": "lbspeaker.io/v1beta1",
        "kind": "IPAddressPool",
        "metadata": {
            "name": "lan",
            "namespace": TARGET,
            "labels": {"tier": "gold"},
            "annotations": {"example.com/owner": "net"},
        },
        "spec": {"addresses": ["192.0.2.0/26"], "autoAssign": True, "avoidBuggyIPs": False},
    }
    assert [document.kind for document in done.left_out] == ["Service", "ServiceL2Status"]
    assert done.problems == ()


PEER_1 = """\
apiVersion: metallb.io/v1beta1
kind: BGPPeer
metadata: {name: old, namespace: lb}
spec:
  myASN: 64500
  peerASN: 64501
  peerAddress: 10.0.0.1
  nodeSelectors:
  - matchLabels: {rack: a}
    matchExpressions: [{key: zone, operator: In, values: [x, y]}]
  password: secret
"""
PEER_2 = """\
apiVersion: metallb.io/v1beta2
kind: BGPPeer
metadata: {name: new, namespace: lb}
spec:
  myASN: 64500
  peerASN: 64501
  peerAddress: 10.0.0.2
  passwordSecret: {name: old-password, namespace: elsewhere}
  vrf: red
"""


def test_peers_of_both_versions() -> None:
    done = migrated(PEER_1 + "---\n" + PEER_2)
    found = specs(done)
    assert found["BGPPeer/old"]["passwordSecret"] == {"name": "old-password-2"}, "the name is not free"
    assert found["Secret/old-password-2"] == {"password": "secret"}
    assert "password" not in found["BGPPeer/old"]
    assert found["BGPPeer/old"]["nodeSelectors"] == [
        {
            "matchLabels": {"rack": "a"},
            "matchExpressions": [{"key": "zone", "operator": "In", "values": ["x", "y"]}],
        }
    ]
    assert found["BGPPeer/new"]["passwordSecret"] == {"name": "old-password"}
    assert [str(reference) for reference in done.secrets] == ["lb/old-password"], "where the peer is"
    assert found["BGPPeer/new"]["vrf"] == "red", "what is refused is kept"
    assert told(done.problems)[0].startswith("old.yaml:21: BGPPeer/new: spec.vrf: vrf is not served yet")


def test_an_address_pool_says_the_same_as_a_pool_of_the_config_map() -> None:
    text = """\
apiVersion: metallb.io/v1beta1
kind: AddressPool
metadata: {name: lan, labels: {a: b}, resourceVersion: "7"}
spec:
  protocol: bgp
  addresses: [192.0.2.0/26]
  autoAssign: false
  bgpAdvertisements:
  - {aggregationLength: 26, localPref: 10, communities: ["64512:1"]}
  - {aggregationLenght: 32}
"""
    done = migrated(text)
    assert specs(done) == {
        "IPAddressPool/lan": {"addresses": ["192.0.2.0/26"], "autoAssign": False},
        "BGPAdvertisement/bgpadvertisement1": {
            "ipAddressPools": ["lan"],
            "aggregationLength": 26,
            "localPref": 10,
            "communities": ["64512:1"],
        },
        "BGPAdvertisement/bgpadvertisement2": {"ipAddressPools": ["lan"]},
    }
    pool = done.objects[0].value
    assert pool["metadata"] == {"name": "lan", "namespace": TARGET, "labels": {"a": "b"}}
    assert told(done.problems) == [
        "old.yaml:10: AddressPool/lan: spec.bgpAdvertisements[1].aggregationLenght: unknown key\n"
        "    hint: did you mean aggregationLength?"
    ]


def test_profiles_of_bfd() -> None:
    done = migrated(
        config_map("""\
        peers:
        - {peer-address: 10.0.0.1, peer-asn: 64501, my-asn: 64500, bfd-profile: fast_1}
        bfd-profiles:
        - name: fast_1
          receive-interval: 280
          transmit-interval: 270
          detect-multiplier: 5
          echo-interval: 62
          echo-mode: true
          passive-mode: false
          minimum-ttl: 254
        """)
    )
    found = specs(done)
    assert found["BGPPeer/peer1"] == {**PEER, "bfdProfile": "fast-1"}
    assert told(done.problems)[0].startswith(
        "warning: old.yaml:9: ConfigMap/config: bfd-profiles[0].name: 'fast_1'"
    )
    if "BFDProfile" in KINDS:
        assert found["BFDProfile/fast-1"] == {
            "receiveInterval": 280,
            "transmitInterval": 270,
            "detectMultiplier": 5,
            "echoInterval": 62,
            "echoMode": True,
            "minimumTtl": 254,
        }
    else:
        assert any("old.yaml:9: BFDProfile/fast-1: BFD is not served" in line for line in told(done.problems))


# --- names -----------------------------------------------------------------------------------------------


def test_pools_get_names_that_objects_can_have() -> None:
    names = ["Pool_A", "pool-a", "01-numbered", "_", "x" * 70, "a.b", "ÄB C"]
    entries = "".join(
        f"- {{name: '{name}', protocol: layer2, addresses: [10.0.{number}.0/24]}}\n"
        for number, name in enumerate(names)
    )
    done = migrated(config_map("address-pools:\n" + entries))
    pools = {str(spec["addresses"]): name for name, spec in specs(done).items() if "addresses" in spec}
    found = [pools[f"['10.0.{number}.0/24']"].partition("/")[2] for number in range(len(names))]
    assert found == ["pool-a-2", "pool-a", "01-numbered", "unnamed", "x" * 70, "a.b", "b-c"]
    warned = [line for line in told(done.problems) if "cannot be the name of an object" in line]
    assert len(warned) == 3
    assert {problem.severity for problem in done.problems} == {"warning"}
    ads = [spec["ipAddressPools"] for name, spec in specs(done).items() if name.startswith("L2")]
    assert ads[0] == ["pool-a-2"]


def test_numbers_go_on_where_names_are_taken() -> None:
    ad = "apiVersion: metallb.io/v1beta1\nkind: L2Advertisement\nmetadata: {name: l2advertisement1}\n"
    second = LAYER2.replace("default", "other").replace("192.168.1", "192.168.2")
    done = migrated("---\n".join([config_map(LAYER2), ad, config_map(second)]))
    assert [name for name in specs(done) if name.startswith("L2")] == [
        "L2Advertisement/l2advertisement1",
        "L2Advertisement/l2advertisement2",
        "L2Advertisement/l2advertisement3",
    ]
    assert done.problems == ()


# --- what is wrong ---------------------------------------------------------------------------------------

POOL = "- {name: lan, protocol: layer2, addresses: [10.0.0.0/24]}\n"
WRONG = [
    pytest.param(
        "address-pools:\n- name: lan\n  protocol: layer2\n  adresses: [10.0.0.0/24]\n",
        [
            "old.yaml:9: ConfigMap/config: address-pools[0].adresses: unknown key\n"
            "    hint: did you mean addresses?",
            "old.yaml:7: IPAddressPool/lan: spec: addresses is missing\n"
            "    hint: write addresses: [192.0.2.10-192.0.2.20]",
        ],
        id="a key misspelt",
    ),
    pytest.param(
        "address-pools:\n" + POOL.replace("layer2", "Layer3"),
        [
            "old.yaml:7: ConfigMap/config: address-pools[0].protocol: 'Layer3' is not a protocol of MetalLB;"
            " nothing announces the pool\n    hint: did you mean layer2?"
        ],
        id="an unknown protocol",
    ),
    pytest.param(
        "address-pools:\n- {name: lan, addresses: [10.0.0.0/24]}\n",
        [
            "old.yaml:7: ConfigMap/config: address-pools[0]: protocol is missing; nothing announces the"
            " pool\n    hint: write protocol: layer2 or protocol: bgp"
        ],
        id="no protocol",
    ),
    pytest.param(
        "address-pools:\n- name: lan\n  protocol: layer2\n  addresses:\n  - 10.0.0.9\n  - 10.0.0.20-30\n",
        [
            "old.yaml:10: IPAddressPool/lan: spec.addresses[0]: '10.0.0.9' is neither a CIDR nor a range\n"
            "    hint: write 10.0.0.9/32",
            "old.yaml:11: IPAddressPool/lan: spec.addresses[1]: '30', where the range ends, is not an IP"
            " address\n    hint: write 10.0.0.20-10.0.0.30",
        ],
        id="wrong addresses, with their lines",
    ),
    pytest.param(
        "address-pools:\n" + POOL + POOL.replace("10.0.0", "10.0.1"),
        [
            "old.yaml:8: IPAddressPool/lan: metadata.name: IPAddressPool/lan is defined already"
            " (old.yaml:7)\n    hint: rename one of the two, or remove it"
        ],
        id="a name twice",
    ),
    pytest.param(
        "address-pools:\n" + POOL + POOL.replace("lan", "more"),
        [
            "old.yaml:8: IPAddressPool/more: spec.addresses[0]: 10.0.0.0-10.0.0.255 overlaps"
            " 10.0.0.0-10.0.0.255 of pool lan (old.yaml:7)\n"
            "    hint: take 10.0.0.0-10.0.0.255 out of one of the two"
        ],
        id="pools that overlap",
    ),
    pytest.param(
        "address-pools:\n- {protocol: layer2, addresses: [10.0.0.0/24]}\n",
        [
            "old.yaml:7: ConfigMap/config: address-pools[0]: name is missing; it becomes unnamed\n"
            "    hint: write name: and a name of small letters, digits and -"
        ],
        id="a pool without a name",
    ),
    pytest.param(
        "address-pools:\n" + POOL.replace("}", ", bgp-advertisements: [{localpref: 1}]}"),
        [
            "old.yaml:7: ConfigMap/config: address-pools[0].bgp-advertisements: a pool of protocol layer2 is"
            " not announced by BGP\n    hint: remove bgp-advertisements, or write protocol: bgp"
        ],
        id="BGP for layer2",
    ),
    pytest.param(
        "address-pools: lan\npeers: {a: b}\nbfd-profiles: [fast]\nbgp-communities: [a]\n",
        [
            "old.yaml:6: ConfigMap/config: address-pools: must be a list, and 'lan' is not\n"
            "    hint: begin each item with - ",
            "old.yaml:8: ConfigMap/config: bfd-profiles[0]: must be a mapping, and 'fast' is not",
            "old.yaml:7: ConfigMap/config: peers: must be a list, and a mapping is not\n"
            "    hint: begin each item with - ",
            "old.yaml:9: ConfigMap/config: bgp-communities: must be a mapping, and a list is not\n"
            "    hint: write name: value, as in no-export: 65535:65281",
        ],
        id="wrong types",
    ),
    pytest.param(
        "peers:\n- my-asn: 64500\n  peer-asn: '64501'\n  peer-address: 10.0.0.1\n  hold-time: 90\n",
        [
            "old.yaml:8: BGPPeer/peer1: spec.peerASN: must be a whole number, and '64501' is not\n"
            "    hint: write 64501 without quotes",
            "old.yaml:10: BGPPeer/peer1: spec.holdTime: the number 90 has no unit\n    hint: write 90s",
        ],
        id="wrong values",
    ),
    pytest.param(
        "peers: [\n",
        [
            "old.yaml:7: ConfigMap/config: this is not YAML: while parsing a flow node, did not find expected"
            " node content\n    hint: look at the indentation, colons and quotes here"
        ],
        id="no YAML inside",
    ),
    pytest.param(
        "peers: []\npeers: []\n",
        [
            "old.yaml:7: ConfigMap/config: peers: the key is given twice, first on line 6\n"
            "    hint: keep one of the two"
        ],
        id="a key twice",
    ),
    pytest.param(
        "- peers\n",
        [
            "old.yaml:6: ConfigMap/config: data.config is a mapping, and a list is not\n"
            "    hint: its keys: peers, bgp-communities, address-pools, bfd-profiles"
        ],
        id="a list at the top",
    ),
    pytest.param(
        "peers: []\n---\npeers: []\n",
        [
            "old.yaml:8: ConfigMap/config: MetalLB reads one document only, the first\n"
            "    hint: remove this one"
        ],
        id="two documents",
    ),
    pytest.param(
        "",
        [
            "old.yaml:5: ConfigMap/config: data.config: MetalLB's configuration is text under data.config,"
            " and here is none\n    hint: give the ConfigMap that MetalLB reads"
        ],
        id="empty",
    ),
]


@pytest.mark.parametrize(("text", "lines"), WRONG)
def test_what_is_wrong_is_told_with_the_line_of_the_original(text: str, lines: list[str]) -> None:
    assert told(migrated(config_map(text)).problems) == lines


def test_what_can_be_converted_is_converted() -> None:
    done = migrated(config_map("address-pools:\n- 5\n" + POOL + "- name: odd\n  protocol: l2\npeers: no\n"))
    assert list(specs(done)) == ["IPAddressPool/lan", "IPAddressPool/odd", "L2Advertisement/l2advertisement1"]
    assert len(done.problems) == 4


@pytest.mark.parametrize(
    ("text", "place"),
    [
        pytest.param(config_map("\n\npeers: 5\n"), "f:8: ConfigMap/config: peers", id="blank lines first"),
        pytest.param(
            HEAD.replace("config: |", "config: |2-  # note") + "    peers: 5\n",
            "f:6: ConfigMap/config: peers",
            id="an indented block",
        ),
        pytest.param(
            HEAD.replace("config: |", 'config: "# old\\npeers: 5"'),
            "f: data.config:2: ConfigMap/config: peers",
            id="a quoted text",
        ),
        pytest.param(
            HEAD.replace("config: |", "config: >") + "    peers: 5\n",
            "f: data.config:1: ConfigMap/config: peers",
            id="a folded block",
        ),
        pytest.param("# old\npeers: 5\n", "f:2: peers", id="bare"),
    ],
)
def test_lines_of_text_inside_text(text: str, place: str) -> None:
    (problem,) = migrated(text, "f").problems
    assert str(problem).startswith(f"{place}: must be a list")


def test_lines_in_the_cluster_are_those_of_the_text_in_the_config_map() -> None:
    value = {"kind": "ConfigMap", "metadata": {"name": "config"}, "data": {"config": "\npeers: 5\n"}}
    (problem,) = migrate([from_object(value)], {}, TARGET).problems
    assert str(problem).startswith("cluster: data.config:2: ConfigMap/config: peers: must be a list")


@pytest.mark.parametrize(
    ("name", "namespace", "content", "converted"),
    [
        pytest.param("config", "metallb-system", LAYER2, True, id="MetalLB's own"),
        pytest.param("metallb-config", "lb", LAYER2, True, id="another name, the same words"),
        pytest.param("app", "default", "colour: red\n", False, id="somebody else's"),
        pytest.param("app", "default", "][", False, id="somebody else's, and no YAML"),
        pytest.param("config", "default", "colour: red\n", False, id="of the same name elsewhere"),
    ],
)
def test_which_config_maps_are_meant(name: str, namespace: str, content: str, converted: bool) -> None:
    metadata = {"name": name, "namespace": namespace}
    value = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata, "data": {"config": content}}
    done = migrate([from_object(value)], {}, TARGET)
    assert bool(done.objects) == converted
    assert len(done.left_out) == (not converted)
    assert done.problems == ()


def test_the_config_map_can_have_another_name() -> None:
    value = {"kind": "ConfigMap", "metadata": {"name": "mine", "namespace": "lb"}, "data": {"other": ""}}
    (problem,) = migrate([from_object(value)], {}, TARGET, Origin("lb", "mine")).problems
    assert problem.what.endswith("and here is none")


# --- whatever is in it -----------------------------------------------------------------------------------

SAMPLES = LAYER2 + BGP + COMMUNITIES + PEERS + POOLS + PASSWORDS + TIMERS + HEAD + FROM_API + PEER_1 + PEER_2
KEYS = st.sampled_from(sorted(set(re.findall(r"[\w-]+(?=:)", SAMPLES))))
SCALARS = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.floats(),
    st.text(max_size=5),
    st.sampled_from(
        ["layer2", "bgp", "lan", "10.0.0.0/24", "90s", "1:2", "ConfigMap", "config", LAYER2, BGP, "a: ["]
    ),
)
VALUES = st.recursive(
    SCALARS,
    lambda inner: st.one_of(
        st.lists(inner, max_size=3), st.dictionaries(st.one_of(KEYS, st.text(max_size=3)), inner, max_size=5)
    ),
    max_leaves=15,
)
ENTRIES = st.lists(st.one_of(st.dictionaries(KEYS, VALUES, max_size=6), VALUES), max_size=3)
OLD = st.dictionaries(st.one_of(KEYS, st.text(max_size=3)), st.one_of(ENTRIES, VALUES), max_size=4)
OBJECTS = st.fixed_dictionaries(
    {
        "apiVersion": st.one_of(st.sampled_from(["metallb.io/v1beta1", "metallb.io/v1beta2", "v1"]), SCALARS),
        "kind": st.one_of(
            st.sampled_from([*KINDS, "AddressPool", "ConfigMap", "List", "BFDProfile"]), SCALARS
        ),
        "metadata": st.one_of(st.fixed_dictionaries({"name": st.sampled_from(["a", "config", 5])}), VALUES),
    },
    optional={"spec": VALUES, "data": st.fixed_dictionaries({"config": SCALARS}), "items": VALUES},
)


@settings(deadline=None, max_examples=300)
@given(st.lists(st.one_of(OLD, OBJECTS), max_size=3))
def test_any_values(values: list[dict[str, Any]]) -> None:
    documents = [from_object(value) for value in values]
    done = migrate(documents, {}, TARGET)
    assert migrate(documents, {}, TARGET) == done
    for problem in done.problems:
        assert problem.what.isprintable()
    for document in done.objects:
        assert document.api_version in ("lbspeaker.io/v1beta1", "v1")


LINES = st.sampled_from(
    [
        "address-pools:",
        "- name: lan",
        "  protocol: layer2",
        "  protocol: bgp",
        "  protocol: 5",
        "  addresses: [10.0.0.0/24, 10.0.0.9]",
        "  addresses:",
        "  bgp-advertisements:",
        "  - localpref: 5",
        "  - aggregation-lenght: 5",
        "peers:",
        "- peer-address: 10.0.0.1",
        "  my-asn: 64500",
        "  password: 1234",
        "  node-selectors: [{match-labels: {a: 5}}]",
        "bgp-communities: {a: 1:2}",
        "bfd-profiles: [{name: fast, colour: red}]",
        "- [",
        "---",
        "",
        "# note",
    ]
)


@settings(deadline=None, max_examples=300)
@given(st.lists(LINES, max_size=14), st.booleans())
def test_any_lines(lines: list[str], wrapped: bool) -> None:
    inside = "\n".join(lines)
    text = config_map(inside) if wrapped else inside
    documents, _ = read(text, "f")
    done = migrate(documents, {"f": text}, TARGET)
    for problem in done.problems:
        assert problem.file == "f"
        assert problem.line is not None
        assert 1 + 4 * wrapped <= problem.line <= text.count("\n") + 2
    check_lines([document for document in done.objects if document.kind != "Secret"])


def check_lines(documents: list[Document]) -> None:
    """Every object knows where it begins."""
    assert all(document.line_of(()) is not None for document in documents)
