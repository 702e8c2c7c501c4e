"""What an API server refuses by itself is what the parser refuses, and the other way round where CEL can."""

from collections.abc import Iterator
from typing import Any

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from lbspeaker.config.crds import crds
from lbspeaker.config.documents import from_object
from lbspeaker.config.kinds import OURS
from lbspeaker.config.parse import parse
from tests.config.kubernetes_cel import by_rules, by_schema
from tests.lab.apiserver_backends import Client, real, real_binaries

PEER = "myASN: 64512, peerASN: 64513, peerAddress: 192.0.2.1"
POOL = "addresses: [192.0.2.0/24]"
EXPRESSION = "nodeSelectors: [{{matchExpressions: [{{{}}}]}}]"

# A kind, a spec, and how what is said about it begins; "": nothing is.
ROWS = [
    ("IPAddressPool", "addresses: [10.0.0.0/24, 192.0.2.10-192.0.2.20, 192.0.2.1 - 192.0.2.9]", ""),
    ("IPAddressPool", "addresses: ['2001:db8::/64', 'FD00::9-fd00::f', ' 10.0.0.0/8 ']", ""),
    ("IPAddressPool", "addresses: [192.0.2.77/24]", ""),  # host bits
    ("IPAddressPool", "addresses: [10.0.0.0/08]", ""),  # Go reads it
    ("IPAddressPool", "addresses: ['::ffff:192.0.2.1-192.0.2.9']", ""),  # IPv4 in IPv6
    ("IPAddressPool", "addresses: ['192.0.2.1-::FFFF:192.0.2.9']", ""),
    ("IPAddressPool", "addresses: [0.0.0.0/0, '::/0']", ""),
    ("IPAddressPool", "addresses: [192.0.2.1]", "spec.addresses[0]: this is neither a CIDR nor a range"),
    ("IPAddressPool", "addresses: ['']", "spec.addresses[0]: this is neither a CIDR nor a range"),
    ("IPAddressPool", "addresses: [10.0.0.0/24-10.0.1.0/24]", "spec.addresses[0]: this is neither"),
    ("IPAddressPool", "addresses: [192.0.2.10-20]", "spec.addresses[0]: this is no range"),
    ("IPAddressPool", "addresses: [192.0.2.010-192.0.2.20]", "spec.addresses[0]: this is no range"),
    ("IPAddressPool", "addresses: [10.0.0.1-10.0.0.2-10.0.0.3]", "spec.addresses[0]: this is no range"),
    ("IPAddressPool", "addresses: ['fe80::1%eth0-fe80::2%eth0']", "spec.addresses[0]: this is no range"),
    ("IPAddressPool", "addresses: ['10.0.0.1-fd00::1']", "spec.addresses[0]: the range starts in one family"),
    ("IPAddressPool", "addresses: [10.0.1.0-10.0.0.255]", "spec.addresses[0]: the range ends before"),
    ("IPAddressPool", "addresses: [9.0.0.1-10.0.0.0]", ""),
    ("IPAddressPool", "addresses: [10.0.0/8]", "spec.addresses[0]: what stands before the / is not an IP"),
    ("IPAddressPool", "addresses: [10.0.0.0/33]", "spec.addresses[0]: what stands after the / is not"),
    ("IPAddressPool", "addresses: ['fd00::/129']", "spec.addresses[0]: what stands after the / is not"),
    ("IPAddressPool", "addresses: [10.0.0.0/255.0.0.0]", "spec.addresses[0]: what stands after the / is not"),
    ("IPAddressPool", "addresses: [10.0.0.0/]", "spec.addresses[0]: what stands after the / is not"),
    ("IPAddressPool", f"{{{POOL}, exclude: [192.0.2.1]}}", "spec.exclude[0]: this is neither a CIDR nor"),
    ("IPAddressPool", f"{{{POOL}, exclude: [192.0.2.1/32], cooldown: 1h30m, namespaceQuota: 3}}", ""),
    ("IPAddressPool", f"{{{POOL}, cooldown: soon}}", "spec.cooldown: this is not a duration"),
    ("IPAddressPool", f"{{{POOL}, cooldown: 25h}}", "spec.cooldown: this is longer than a day"),
    ("IPAddressPool", f"{{{POOL}, cooldown: ' 1.5m '}}", ""),
    ("IPAddressPool", f"{{{POOL}, cooldown: ''}}", ""),
    ("IPAddressPool", f"{{{POOL}, cooldown: '0'}}", ""),
    ("IPAddressPool", f"{{{POOL}, reservations: [{{service: a/b, addresses: [192.0.2.9]}}]}}", ""),
    ("IPAddressPool", f"{{{POOL}, reservations: [{{service: a/b, addresses: ['::ffff:192.0.2.9']}}]}}", ""),
    ("IPAddressPool", f"{{{POOL}, reservations: [{{service: a/b, addresses: [192.0.2.9, 192.0.2.9]}}]}}", ""),
    ("IPAddressPool", f"{{{POOL}, reservations: [{{service: web, addresses: [192.0.2.9]}}]}}",
     "spec.reservations[0].service: this is not the namespace/name of a service"),
    ("IPAddressPool", f"{{{POOL}, reservations: [{{service: a/b, addresses: [192.0.2.9/32]}}]}}",
     "spec.reservations[0].addresses[0]: this is not an IP address"),
    ("IPAddressPool", f"{{{POOL}, reservations: [{{service: a/b, addresses: [192.0.2.9, 192.0.2.8]}}]}}",
     "spec.reservations[0].addresses: there are two addresses of one family"),
    ("IPAddressPool", "{addresses: [192.0.2.0/24, 'fd00::/64'],"
     " reservations: [{service: a/b, addresses: [192.0.2.9, 'fd00::1']}]}", ""),
    ("L2Advertisement", "interfaces: [eth0, br-0.100, enp3s0f1]", ""),
    ("L2Advertisement", "interfaces: [a-name-far-too-long]", "spec.interfaces[0]: this is not a name that"),
    ("L2Advertisement", "interfaces: [a/b]", "spec.interfaces[0]: this is not a name that an interface can"),
    ("L2Advertisement", EXPRESSION.format("key: a, operator: In, values: [b]"), ""),
    ("L2Advertisement", EXPRESSION.format("key: a, operator: Exists"), ""),
    ("L2Advertisement", EXPRESSION.format("key: a, operator: In"),
     "spec.nodeSelectors[0].matchExpressions[0]: In and NotIn need values"),
    ("L2Advertisement", EXPRESSION.format("key: a, operator: NotIn, values: []"),
     "spec.nodeSelectors[0].matchExpressions[0]: In and NotIn need values"),
    ("L2Advertisement", EXPRESSION.format("key: a, operator: DoesNotExist, values: [b]"),
     "spec.nodeSelectors[0].matchExpressions[0].values: Exists and DoesNotExist take no values"),
    ("L2Advertisement", "{anySubnet: true, failback: Never, onCordon: Move}", ""),
    ("LinkPolicy", "{}", ""),
    ("LinkPolicy", "{profile: strict, rate: 5, burst: 5, dad: 'off', refresh: IP, onConflict: Yield}", ""),
    ("LinkPolicy", "refreshSeconds: 0", ""),
    ("LinkPolicy", "refreshSeconds: 30", ""),
    ("LinkPolicy", "refreshSeconds: 29", "spec.refreshSeconds: less than 30 seconds is too often"),
    ("LinkPolicy", "group: ''", ""),
    ("LinkPolicy", "group: tor_1.a", ""),
    ("LinkPolicy", "group: top of rack", "spec.group: this is not a name of a group; use at most 63"),
    ("LinkPolicy", "interfaces: [a/b]", "spec.interfaces[0]: this is not a name that an interface can"),
    ("LinkPolicy", EXPRESSION.format("key: a, operator: In"),
     "spec.nodeSelectors[0].matchExpressions[0]: In and NotIn need values"),
    ("BGPPeer", f"{{{PEER}}}", ""),
    *(("BGPPeer", f"{{{PEER[:-9]}'{ip}'}}", "spec.peerAddress: this is not an IP address that a host")
      for ip in ("0.0.0.0", "::", "127.0.0.1", "::1", "224.0.0.5", "ff02::5", "255.255.255.255", "fe80::1",
                 "::ffff:192.0.2.1")),
    *(("BGPPeer", f"{{{PEER[:-9]}'{ip}'}}", "")
      for ip in ("169.254.0.1", "fd00::1", "2001:db8::1", "240.0.0.1")),
    ("BGPPeer", f"{{{PEER}, sourceAddress: 0.0.0.0}}", "spec.sourceAddress: this is not an IP address that"),
    ("BGPPeer", f"{{{PEER}, sourceAddress: '', routerID: '', holdTime: '', vrf: '', interface: ''}}", ""),
    ("BGPPeer", "{myASN: 64512, peerASN: 0, peerAddress: 192.0.2.1}", "spec.peerASN: 0 is not an AS number"),
    ("BGPPeer", "{myASN: 0, peerASN: 64513, peerAddress: 192.0.2.1}", "spec.myASN: 0 is not an AS number"),
    ("BGPPeer", "{myASN: 64512, peerAddress: 192.0.2.1}", "spec: peerASN is missing"),
    ("BGPPeer", "{myASN: 64512, peerASN: 64513}", "spec: peerAddress is missing"),
    ("BGPPeer", "{myASN: 64512, peerASN: 64513, peerAddress: ''}", "spec: peerAddress is missing"),
    ("BGPPeer", "{myASN: 64512, peerASN: 64513, peerAddress: router}", "spec.peerAddress: this is not an IP"),
    ("BGPPeer", "{myASN: 64512, dynamicASN: external, peerAddress: 192.0.2.1}",
     "spec.dynamicASN: external is not served"),
    ("BGPPeer", "{myASN: 64512, dynamicASN: internal, peerAddress: 192.0.2.1}", ""),
    ("BGPPeer", f"{{{PEER}, dynamicASN: internal}}", "spec.dynamicASN: peerASN and dynamicASN exclude"),
    ("BGPPeer", f"{{{PEER}, vrf: red}}", "spec.vrf: vrf is not served yet; peer from"),
    ("BGPPeer", f"{{{PEER}, localASN: 64999}}", ""),
    ("BGPPeer", "{myASN: 64512, peerASN: 64513, peerAddress: auto}", ""),
    ("BGPPeer", "{myASN: 64512, peerASN: 64513, peerAddress: autos}", "spec.peerAddress: this is not an IP"),
    ("BGPPeer", f"{{{PEER}, ttlSecurity: 1}}", ""),
    ("BGPPeer", f"{{{PEER}, ttlSecurity: 1, ebgpMultiHop: false}}", ""),
    ("BGPPeer", f"{{{PEER}, ttlSecurity: 1, ebgpMultiHop: true}}", "spec.ttlSecurity: ebgpMultiHop and"),
    ("BGPPeer", f"{{{PEER}, connectTime: 1s}}", ""),
    ("BGPPeer", f"{{{PEER}, connectTime: 999ms}}", "spec.connectTime: the time between attempts"),
    ("BGPPeer", f"{{{PEER}, connectTime: 24h}}", "spec.connectTime: the time between attempts"),
    ("BGPPeer", f"{{{PEER}, ebgpMultiHop: true}}", ""),
    ("BGPPeer", "{myASN: 64512, peerASN: 64512, peerAddress: 192.0.2.1, ebgpMultiHop: true}",
     "spec.ebgpMultiHop: both ends are in the same AS"),
    ("BGPPeer", "{myASN: 64512, localASN: 64600, peerASN: 64512, peerAddress: 192.0.2.1, ebgpMultiHop: true}",
     ""),
    ("BGPPeer", "{myASN: 64512, localASN: 64513, peerASN: 64513, peerAddress: 192.0.2.1, ebgpMultiHop: true}",
     "spec.ebgpMultiHop: both ends are in the same AS"),
    ("BGPPeer", f"{{{PEER}, sourceAddress: 'fd00::1'}}", "spec.sourceAddress: sourceAddress and peerAddress"),
    ("BGPPeer", f"{{{PEER}, sourceAddress: 192.0.2.2, routerID: 10.0.0.1}}", ""),
    ("BGPPeer", f"{{{PEER}, routerID: 0.0.0.0}}", "spec.routerID: 0.0.0.0 is not a BGP identifier"),
    ("BGPPeer", f"{{{PEER}, routerID: 'fd00::1'}}", "spec.routerID: this is not an IPv4 address"),
    ("BGPPeer", f"{{{PEER}, holdTime: 0s}}", ""),
    ("BGPPeer", f"{{{PEER}, holdTime: 3s, keepaliveTime: 1s}}", ""),
    ("BGPPeer", f"{{{PEER}, holdTime: 18h12m15s}}", ""),
    ("BGPPeer", f"{{{PEER}, holdTime: 18h12m16s}}", "spec.holdTime: the hold time is not 0s or"),
    ("BGPPeer", f"{{{PEER}, holdTime: 2s}}", "spec.holdTime: the hold time is not 0s or"),
    ("BGPPeer", f"{{{PEER}, holdTime: 4500ms}}", "spec.holdTime: the hold time is not 0s or"),
    ("BGPPeer", f"{{{PEER}, holdTime: '90'}}", "spec.holdTime: this is not a duration"),
    ("BGPPeer", f"{{{PEER}, keepaliveTime: 1s}}", ""),
    ("BGPPeer", f"{{{PEER}, keepaliveTime: 500ms}}", "spec.keepaliveTime: the hold time, three times"),
    ("BGPPeer", f"{{{PEER}, holdTime: 9s, keepaliveTime: 10s}}", "spec.keepaliveTime: keepaliveTime is"),
    ("BGPPeer", f"{{{PEER}, password: secret, passwordSecret: {{}}}}", ""),
    ("BGPPeer", f"{{{PEER}, password: '', passwordSecret: {{name: a, namespace: b}}}}", ""),
    ("BGPPeer", f"{{{PEER}, password: secret, passwordSecret: {{name: a}}}}", "spec.password: password and"),
    ("BGPPeer", f"{{{PEER}, password: pässword}}", "spec.password: the password is not 1 to 80 printable"),
    ("BGPPeer", f"{{{PEER}, password: {'x' * 81}}}", "spec.password: the password is not 1 to 80 printable"),
    ("BGPPeer", f"{{{PEER}, passwordSecret: {{namespace: a}}}}", "spec.passwordSecret: name is missing"),
    ("BGPPeer", f"{{{PEER}, bfdProfile: fast, enableGracefulRestart: true, connectTime: 10s}}", ""),
    ("BGPAdvertisement", "serviceSelectors: [{matchLabels: {a: b}}]", ""),
    ("BGPAdvertisement", "{aggregationLength: 24, aggregationLengthV6: 64}", ""),
    ("BGPAdvertisement", "{aggregationLength: 24, serviceSelectors: []}", ""),
    ("BGPAdvertisement", "{med: 0, asPathPrepend: 10, whenNoEndpoints: Keep, onCordon: Move}", ""),
    ("BGPAdvertisement", "{aggregationLengthV6: 64, serviceSelectors: [{}]}",
     "spec.serviceSelectors: serviceSelectors and an aggregation length exclude each other"),
    ("Community", "communities: [{name: a, value: '64512:31'}, {name: b, value: 'large:1:4294967295:0'}]",
     ""),
    ("Community", "communities: [{name: a, value: no-export}, {name: b, value: '0064512:1'}]", ""),
    ("Community", "communities: [{name: a, value: '64512:65536'}]", "spec.communities[0].value: this is"),
    ("Community", "communities: [{name: a, value: 'large:1:4294967296:1'}]", "spec.communities[0].value: "),
    ("Community", "communities: [{name: a, value: 'large:1:2'}]", "spec.communities[0].value: this is not"),
    ("BFDProfile", "{receiveInterval: 300, echoMode: true}", ""),
]  # fmt: skip
# What CEL cannot tell, or only at too high a price: the controller tells it in the object's status.
LEFT_TO_THE_PARSER = [
    ("IPAddressPool", "addresses: ['fd00::9-fd00::1']"),
    ("IPAddressPool", "addresses: [192.0.2.0/24, 192.0.2.9/32]"),
    ("IPAddressPool", "{addresses: [192.0.2.0/24], exclude: [192.0.2.0/23]}"),
    ("IPAddressPool", f"{{{POOL}, reservations: [{{service: a/b, addresses: [10.0.0.1]}}]}}"),
    ("BGPAdvertisement", "communities: [no-such-name]"),
    ("L2Advertisement", "nodeSelectors: [{matchLabels: {'-a': b}}]"),
]
IDS = [f"{kind} {spec}" for kind, spec, _ in ROWS]


def refused(kind: str, spec: Any) -> bool:
    value = {"apiVersion": OURS, "kind": kind, "metadata": {"name": "a"}, "spec": spec}
    _, problems = parse([from_object(value)])
    alone = [problem for problem in problems if "there is no BFDProfile" not in problem.what]
    return any(problem.severity == "error" for problem in alone)


@pytest.mark.parametrize(("kind", "text", "said"), ROWS, ids=IDS)
def test_rules_and_parser_agree(kind: str, text: str, said: str) -> None:
    spec = yaml.safe_load(text)
    assert by_schema(kind, spec) == []
    found = by_rules(kind, spec)
    assert len(found) == bool(said), found
    assert all(one.startswith(said) for one in found), found
    assert refused(kind, spec) == bool(said)


@pytest.mark.parametrize(("kind", "text"), LEFT_TO_THE_PARSER, ids=[text for _, text in LEFT_TO_THE_PARSER])
def test_what_is_left_to_the_parser(kind: str, text: str) -> None:
    spec = yaml.safe_load(text)
    assert by_schema(kind, spec) == by_rules(kind, spec) == []
    assert refused(kind, spec)


# --- whatever is written --------------------------------------------------------------------------------


def mostly(*right: Any, among: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    """What is right, now and then something among which hardly anything is."""
    return st.integers(0, 9).flatmap(lambda die: among if die == 0 else st.sampled_from(right))


def joined(*pieces: str, most: int) -> st.SearchStrategy[str]:
    return st.lists(st.sampled_from(pieces), max_size=most).map("".join)


# fmt: off
PIECES = (
    "10.0.0.1", "10.0.0.9", "0.0.0.0", "010.0.0.1", "256.1.1.1", "fd00::1", "::", "::ffff:10.0.0.9",
    "1::2::3", "::FFFF:A00:1", "fe80::1%a", "-", "/", " ", "\n", "\x1c", "\u2003", "8", "32", "033", "128",
    "ffff", ":",
)
RANGES = mostly(
    "10.0.0.0/8", " 10.0.0.0/08\t", "::ffff:10.0.0.1-10.0.0.9", "10.0.0.1 -\n::FFFF:a00:9", "fd00::/0",
    "9.255.255.255-10.0.0.0", "FD00::-fd00:0:0:0:0:0:255.255.255.255", "::ffff:0:0-::ffff:255.255.255.255",
    among=joined(*PIECES, most=5),
)
ADDRESSES = mostly(
    "10.0.0.1", "fd00::1", "FD00:0:0:0:0:0:0:1", "127.0.0.1", "fe80::1", "ff02::1", "169.254.0.1",
    "::ffff:10.0.0.1", "0:0:0:0:0:FFFF:a00:1", "", "0.0.0.0",
    among=joined(*PIECES, most=2),
)
DURATIONS = mostly(
    "", "0", "0s", "3s", " 9s\n", "1.5m", "18h12m15s", "3000ms", "3000000\u00b5s", "3000000\u03bcs", "1s",
    ".5m", "24h", "2.9999999999s", "3.0000000001s", "30000000001ns",
    among=joined("0", "3", "90", "1.5", ".5", ".", "s", "m", "h", "ms", "µs", " ", "-", "\n", "24", most=6),
)
VALUES = mostly(
    "64512:31", "00064512:0", "large:1:4294967295:0000000001", "no-export", "local-as",
    among=joined("64512", ":", "1", "large", "65536", "4294967296", " ", "00000000001", most=8),
)
# fmt: on
WORDS = mostly(
    "a", "eth0", "a/b", "A.b_c", "", among=st.sampled_from(["e th", "ä", "x" * 64, "-", "a\n", "a/b/c"])
)
SERVICES = mostly("a/b", "shop/web-1", among=WORDS)
LABELS = st.dictionaries(WORDS, WORDS, max_size=1)
EXPRESSIONS = mostly(
    {"key": "a/b", "operator": "In", "values": ["a", ""]},
    {"key": "a", "operator": "Exists"},
    {"key": "a", "operator": "DoesNotExist", "values": []},
    among=st.fixed_dictionaries(
        {"key": WORDS, "operator": st.sampled_from(["In", "NotIn", "Exists", "DoesNotExist"])},
        optional={"values": st.lists(WORDS, max_size=2)},
    ),
)
SELECTORS = st.lists(
    st.fixed_dictionaries(
        {}, optional={"matchLabels": LABELS, "matchExpressions": st.lists(EXPRESSIONS, max_size=2)}
    ),
    max_size=2,
)
NUMBERS = mostly(1, 24, 32, 64512, among=st.sampled_from([0, 128, 2**32, None]))
UNSERVED = mostly("", among=WORDS)
SPECS: dict[str, st.SearchStrategy[dict[str, Any]]] = {
    "IPAddressPool": st.fixed_dictionaries(
        {"addresses": st.lists(RANGES, min_size=1, max_size=2)},
        optional={
            "exclude": st.lists(RANGES, max_size=2),
            "cooldown": DURATIONS,
            "reservations": st.lists(
                st.fixed_dictionaries({"service": SERVICES, "addresses": st.lists(ADDRESSES, max_size=3)}),
                max_size=2,
            ),
            "serviceAllocation": st.fixed_dictionaries({}, optional={"serviceSelectors": SELECTORS}),
        },
    ),
    "L2Advertisement": st.fixed_dictionaries(
        {}, optional={"interfaces": st.lists(WORDS, max_size=2), "nodeSelectors": SELECTORS}
    ),
    "LinkPolicy": st.fixed_dictionaries(
        {},
        optional={
            "interfaces": st.lists(WORDS, max_size=2),
            "nodeSelectors": SELECTORS,
            "group": WORDS,
            "refreshSeconds": mostly(0, 30, 90, 3600, among=st.integers(-1, 3601)),
        },
    ),
    "BGPPeer": st.fixed_dictionaries(
        {"myASN": NUMBERS, "peerASN": NUMBERS, "peerAddress": st.one_of(ADDRESSES, st.just("auto"))},
        optional={
            "peerPort": NUMBERS,
            "ttlSecurity": NUMBERS,
            "localASN": NUMBERS,
            "dynamicASN": st.sampled_from(["internal", "external"]),
            **dict.fromkeys(("sourceAddress", "routerID"), ADDRESSES),
            **dict.fromkeys(("holdTime", "keepaliveTime", "connectTime"), DURATIONS),
            **dict.fromkeys(("password", "bfdProfile"), WORDS),
            **dict.fromkeys(("vrf", "interface"), UNSERVED),
            **dict.fromkeys(("ebgpMultiHop", "enableGracefulRestart", "disableMP"), st.booleans()),
            "passwordSecret": st.fixed_dictionaries({}, optional={"name": WORDS, "namespace": WORDS}),
            "nodeSelectors": SELECTORS,
        },
    ),
    "BGPAdvertisement": st.fixed_dictionaries(
        {},
        optional={
            "aggregationLength": st.sampled_from([24, 32]),
            "aggregationLengthV6": st.sampled_from([64, 128]),
            "serviceSelectors": SELECTORS,
            "communities": st.lists(VALUES, max_size=2),
        },
    ),
    "Community": st.fixed_dictionaries(
        {"communities": st.lists(st.fixed_dictionaries({"name": WORDS, "value": VALUES}), max_size=2)}
    ),
}


@settings(deadline=None, max_examples=500)
@given(st.sampled_from(sorted(SPECS)).flatmap(lambda kind: st.tuples(st.just(kind), SPECS[kind])))
def test_rules_never_refuse_what_the_parser_accepts(drawn: tuple[str, dict[str, Any]]) -> None:
    kind, spec = drawn
    if not refused(kind, spec):
        assert by_rules(kind, spec) == []


# --- and on a real API server ---------------------------------------------------------------------------

real_only = pytest.mark.skipif(
    not real_binaries(), reason="KUBEBUILDER_ASSETS names no directory with kube-apiserver and etcd"
)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Client, str]]:
    binaries = real_binaries()
    assert binaries
    with real(binaries, tmp_path_factory.mktemp("real")) as client:
        for crd in crds():
            client.good("POST", "/apis/apiextensions.k8s.io/v1/customresourcedefinitions", crd)
        yield client, client.namespace()


@real_only
@pytest.mark.timeout(180)
def test_a_real_server_says_the_same(server: tuple[Client, str]) -> None:
    for kind, text, said in ROWS:
        says_the_same(*server, kind, text, said)


def says_the_same(client: Client, namespace: str, kind: str, text: str, said: str) -> None:
    plural = next(crd["spec"]["names"]["plural"] for crd in crds() if crd["spec"]["names"]["kind"] == kind)
    body = {"apiVersion": OURS, "kind": kind, "metadata": {"name": "a"}, "spec": yaml.safe_load(text)}
    answer = client.ask("POST", f"/apis/{OURS}/namespaces/{namespace}/{plural}", body, dryRun="All")
    assert answer.status == (422 if said else 201), answer.body
    path, _, message = said.partition(": ")
    assert message in answer.body.decode()
    if said:
        assert any(cause["field"] == path for cause in answer.json["details"]["causes"]), answer.json


@real_only
@pytest.mark.timeout(180)
def test_a_real_server_takes_the_largest_lists(server: tuple[Client, str]) -> None:
    """What rules cost at once is bounded, too."""
    client, namespace = server
    ranges = [f"10.0.{n >> 8}.{n & 255} - 10.0.{n >> 8}.{n & 255}" for n in range(4000)]
    holes = [f"10.1.{n >> 8}.{n & 255} - 10.1.{n >> 8}.{n & 255}" for n in range(4000)]
    reservations = [
        {"service": f"default/a{n}", "addresses": [f"10.0.{n >> 8}.{n & 255}", "fd00::1"]}
        for n in range(4000)
    ]
    selectors = [{"matchExpressions": [{"key": "a", "operator": "In", "values": ["b"]}] * 100}] * 200
    for plural, kind, spec in (
        (
            "ipaddresspools",
            "IPAddressPool",
            {"addresses": ranges, "exclude": holes, "reservations": reservations},
        ),
        ("l2advertisements", "L2Advertisement", {"nodeSelectors": selectors, "serviceSelectors": selectors}),
    ):
        body = {"apiVersion": OURS, "kind": kind, "metadata": {"name": "large"}, "spec": spec}
        answer = client.ask("POST", f"/apis/{OURS}/namespaces/{namespace}/{plural}", body, dryRun="All")
        assert answer.status == 201, answer.body[:1000]
