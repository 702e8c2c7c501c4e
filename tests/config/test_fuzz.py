"""Whatever is in a document, there are only problems, never an exception, and what is used is right."""

import subprocess
import sys
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lbspeaker.config.documents import from_object, read, unpack
from lbspeaker.config.kinds import KINDS, METALLB, METALLB_2, OURS
from lbspeaker.config.parse import is_configuration, parse

WORDS = st.sampled_from(
    [
        "",
        "a",
        "lan",
        "no",
        "192.0.2.0/24",
        "192.0.2.9-192.0.2.1",
        "1:2",
        "large:1:2:3",
        "::/0",
        "90s",
        "-",
        "%",
        "\n",
    ]
)
SCALARS = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.floats(),
    WORDS,
    st.text(max_size=5),
    st.integers(0, 64),
    st.just({}),
)
KEYS = sorted(
    {key for kind in KINDS.values() for spec in kind.versions.values() for key in spec.fields}
    | {
        "matchLabels",
        "matchExpressions",
        "key",
        "operator",
        "values",
        "name",
        "weight",
        "preference",
        "labels",
    }
    | {
        "value",
        "namespace",
        "priority",
        "namespaces",
        "serviceSelectors",
        "documents",
        "items",
        "metadata",
        "spec",
    }
)
VALUES = st.recursive(
    SCALARS,
    lambda inner: st.one_of(
        st.lists(inner, max_size=3),
        st.dictionaries(st.one_of(st.sampled_from(KEYS), WORDS), inner, max_size=4),
    ),
    max_leaves=12,
)
SPECS = st.dictionaries(st.sampled_from(KEYS), VALUES, max_size=6)
OBJECTS = st.fixed_dictionaries(
    {
        "apiVersion": st.one_of(
            st.sampled_from([OURS, METALLB, METALLB_2, "metalb.io/v1", "v1", ""]), SCALARS
        ),
        "kind": st.one_of(st.sampled_from([*KINDS, "List", "IPAddresPool", "BFDProfile"]), SCALARS),
        "metadata": st.one_of(st.fixed_dictionaries({"name": st.sampled_from("abc")}), VALUES),
        "spec": st.one_of(SPECS, VALUES),
    },
    optional={"items": VALUES, "status": VALUES},
)


@settings(deadline=None, max_examples=300)
@given(st.lists(OBJECTS, max_size=4))
def test_any_objects(objects: list[dict[str, Any]]) -> None:
    documents = [from_object(value) for value in objects]
    for secrets in (None, {}, {"default/a": "x"}):
        config, problems = parse(documents, secrets)
        for problem in problems:
            assert problem.what
            assert str(problem).count("\n") <= 1, "one line, and one for the hint"
        assert len({pool.name for pool in config.pools}) == len(config.pools)
        assert all(pool.ranges for pool in config.pools)
        assert all(one.first <= one.last for pool in config.pools for one in pool.ranges)  # type: ignore[operator]
        assert all(peer.password is None or peer.password for peer in config.peers)
    assert all(is_configuration(document) in (True, False) for document in documents)
    assert parse(documents) == parse(documents)


def sometimes(**fields: st.SearchStrategy[Any]) -> st.SearchStrategy[dict[str, Any]]:
    return st.fixed_dictionaries({}, optional=fields)


def some(*words: str) -> st.SearchStrategy[list[str]]:
    return st.lists(st.sampled_from(words), max_size=2)


SELECTORS = st.lists(
    st.sampled_from([{"matchLabels": {"a": "b"}}, {}, {"matchLabels": {"a": 1}}]), max_size=1
)
SCOPE = {"ipAddressPools": some("a", "b", "z"), "nodeSelectors": SELECTORS, "serviceSelectors": SELECTORS}
RANGES = ["10.0.0.0/24", "10.0.0.128-10.0.1.9", "10.0.2.0/30", "fd00::/64", "fd00::9-fd00::1", "10.0.2.9"]
PLAUSIBLE_SPECS = {
    "IPAddressPool": st.fixed_dictionaries(
        {"addresses": st.lists(st.sampled_from(RANGES), max_size=2)},
        optional={
            "exclude": some("10.0.0.128/25", "10.0.1.0/32", "fd00::/64"),
            "reservations": st.just([{"service": "a/b", "addresses": ["10.0.0.130"]}]),
        },
    ),
    "L2Advertisement": sometimes(**SCOPE, failback=st.sampled_from(["Always", "Never", "No"])),
    "LinkPolicy": sometimes(
        nodeSelectors=SELECTORS,
        interfaces=some("eth0", "eth1"),
        profile=st.sampled_from(["standard", "strict", "fast", "off"]),
        rate=st.integers(0, 20),
        refreshSeconds=st.sampled_from([0, 29, 30]),
    ),
    "BGPPeer": st.fixed_dictionaries(
        {
            "myASN": st.sampled_from([64512, 0]),
            "peerASN": st.just(64513),
            "peerAddress": st.sampled_from(["10.9.9.1", "10.9.9.2", "router"]),
        }
    ),
    "BGPAdvertisement": sometimes(
        **SCOPE,
        communities=some("1:1", "x", "y", "z"),
        localPref=st.integers(0, 2),
        aggregationLength=st.sampled_from([32, 24, 30]),
        peers=some("a", "z"),
    ),
    "Community": st.fixed_dictionaries(
        {
            "communities": st.lists(
                st.fixed_dictionaries(
                    {"name": st.sampled_from("xyz"), "value": st.sampled_from(["1:1", "2:2", "no"])}
                ),
                max_size=2,
            )
        }
    ),
}


def plausible(kind: str) -> st.SearchStrategy[dict[str, Any]]:
    return st.fixed_dictionaries(
        {
            "apiVersion": st.just(OURS),
            "kind": st.just(kind),
            "metadata": st.fixed_dictionaries({"name": st.sampled_from("abcd")}),
            "spec": PLAUSIBLE_SPECS[kind],
        }
    )


@settings(deadline=None, max_examples=400)
@given(st.lists(st.sampled_from(sorted(PLAUSIBLE_SPECS)).flatmap(plausible), max_size=10))
def test_the_accepted_documents_alone_mean_the_same(objects: list[dict[str, Any]]) -> None:
    """What the controller publishes is what it meant, wherever it is read again."""
    documents, _ = unpack(from_object(value, str(number)) for number, value in enumerate(objects))
    documents = [replace(document, file=str(number)) for number, document in enumerate(documents)]
    config, problems = parse(documents)
    wrong = {problem.file for problem in problems if problem.severity == "error"}
    accepted = [document for document in documents if document.file not in wrong]
    again, problems = parse(accepted)
    assert again == config
    assert {problem.severity for problem in problems} <= {"warning"}


LINES = st.sampled_from(
    [
        "apiVersion: lbspeaker.io/v1beta1",
        "apiVersion: metallb.io/v1beta2",
        "kind: IPAddressPool",
        "kind: BGPPeer",
        "kind: List",
        "metadata: {name: a}",
        "metadata: &m",
        "  name: a",
        "spec:",
        "  addresses:",
        "  - 192.0.2.0/24",
        "  - [",
        "  addresses: [192.0.2.1-192.0.2.9, *m]",
        "items:",
        "- kind: BGPPeer",
        "  <<: *m",
        "---",
        "...",
        "? a",
        "  myASN: 64512:31",
        "\tbad",
        "%YAML 1.2",
        "# note",
        '"',
    ]
)


@settings(deadline=None, max_examples=300)
@given(st.lists(LINES, max_size=14))
def test_any_lines(lines: list[str]) -> None:
    documents, problems = read("\n".join(lines), "f")
    _, more = parse(documents)
    for problem in problems + more:
        assert problem.line is not None
        assert 1 <= problem.line <= len(lines) + 1


# --- hostile documents: a process of their own shows what they cost ---------------------------------------

HEAD = "apiVersion: lbspeaker.io/v1beta1\nkind: IPAddressPool\nmetadata: {name: a}\nspec:\n"
POOL = HEAD + "  addresses: "
AD = HEAD.replace("IPAddressPool", "L2Advertisement")
RANGES_TEXT = "\n".join(f"  - 10.{n >> 15}.{(n >> 7) & 255}.{2 * (n & 127)}/32" for n in range(100_000))
HOLES_TEXT = "\n".join(f"  - 2001:db8::{n >> 15:x}:{2 * (n & 0x7FFF):x}/128" for n in range(100_000))
HOSTILE = {
    "aliases that explode": "a: &a [x, x]\n"
    + "".join(f"{chr(98 + n)}: &{chr(98 + n)} [{f'*{chr(97 + n)}, ' * 9}]\n" for n in range(20)),
    "aliases in a pool": "a: &a [10.0.0.0/8]\nb: &b ["
    + "*a, " * 1000
    + "]\n"
    + POOL
    + "["
    + "*b, " * 1000
    + "]",
    "merges that explode": "x0: &x0 {a: 1}\n"
    + "".join(f"x{n}: &x{n} {{<<: [{f'*x{n - 1}, ' * 20}], k{n}: 1}}\n" for n in range(1, 40)),
    "a mapping merged again and again": "a: &a {"
    + ", ".join(f"k{n}: 1" for n in range(5000))
    + "}\nb:\n"
    + "- {<<: *a}\n" * 5000,
    "an anchor of what it is in": POOL + "&a [*a]\n",
    "brackets": POOL + "[" * 100_000,
    "braces": POOL + "{a: " * 100_000,
    "dashes": POOL + "\n" + "- " * 100_000,
    "indentation": POOL + "\n" + "\n".join(" " * (n + 4) + "a:" for n in range(2000)),
    "a million ranges": POOL + "\n" + "  - 10.0.0.1/32\n" * 1_000_000,
    "a million on one line": POOL + "[" + "a," * 1_000_000 + "]",
    "a million keys": POOL + "{" + ",".join(f"k{n}: 1" for n in range(1_000_000)) + "}",
    "a million documents": "---\na\n" * 300_000,
    "everything": POOL + "[0.0.0.0/0, '::/0']",
    "everything but everything": POOL + "[0.0.0.0/0, '::/0']\n  exclude: [0.0.0.0/0, '::/0']",
    "everything but a hundred thousand": POOL + "['::/0']\n  exclude:\n" + HOLES_TEXT,
    "a hundred thousand": POOL + "\n" + RANGES_TEXT,
    "a hundred thousand that overlap": POOL + "\n" + RANGES_TEXT.replace("/32", "/8"),
    "a hundred thousand unreachable": POOL + "\n" + RANGES_TEXT.replace("- 10.", "- 127."),
    "a hundred thousand wrong": POOL + "\n" + RANGES_TEXT.replace("/32", "/33"),
    "a long line": POOL + "[" + "1" * 5_000_000 + "]",
    "a long key": "a" * 5_000_000 + ": 1",
    "a long number": "a: " + "9" * 5_000_000,
    "quotes without end": POOL + "'" + "a\n" * 1_000_000,
    "keys that are no text": AD + "  ? [a, b]\n  : c",
    "keys that are numbers and truths": AD + "  8080: a\n  no: b\n  on: c\n  ~: d\n  1.5: e\n  2026-01-01: f",
    "words that are truths": AD + "  ipAddressPools: [no, off, on, yes, y, ~, 0o7, 0x1F]\n  interfaces: off",
    "a community that was a number once": HEAD.replace("IPAddressPool", "Community")
    + "  communities: [{name: on, value: 64512:31}]",
    "keys given twice": POOL + "[10.0.0.0/8]\n  addresses: [10.0.0.0/8]",
    "tags": POOL + "!!python/object/apply:os.system [ls]",
    "control characters": POOL + '["\\0\\e[2J"]',
    "half a character": POOL + '["\\ud800"]',
    "lists in lists": '{"kind": "List", "items": [' * 45 + "]}" * 45,
}
RUN = """
import resource, sys, time
from lbspeaker.config.documents import read
from lbspeaker.config.parse import is_configuration, parse
resource.setrlimit(resource.RLIMIT_CPU, (60, 60))
text = sys.stdin.read()
began_s = time.process_time()
documents, problems = read(text, "f")
more = parse(documents)[1]
for document in documents:
    is_configuration(document)
said = [str(problem) for problem in problems + more]
print(len(said), max(map(len, said), default=0))
# Not ru_maxrss: in that, a child begins with what its parent had.
peak_kib = next(int(line.split()[1]) for line in open("/proc/self/status") if line.startswith("VmHWM:"))
print(peak_kib // 1024, time.process_time() - began_s)
"""


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_documents_cost_little_and_say_little(name: str) -> None:
    done = subprocess.run(
        [sys.executable, "-c", RUN], input=HOSTILE[name], capture_output=True, text=True, timeout=100
    )
    assert done.returncode == 0, done.stderr
    problems, longest, memory_mib, time_s = map(float, done.stdout.split())
    assert problems <= 300_000 if name == "a million documents" else problems <= 150
    assert longest <= 1000
    assert memory_mib <= 200
    assert time_s <= 30


def test_hostile_objects_of_the_api_cost_little() -> None:
    """They have no lines, and no limit but that of the API server."""
    for item in ("x", "10.0.0.0/8", 5, None, {}, []):
        spec = {"addresses": [item] * 1_000_000, "exclude": [item] * 1_000_000}
        value = {"apiVersion": OURS, "kind": "IPAddressPool", "metadata": {"name": "a"}, "spec": spec}
        config, problems = parse([from_object(value)])
        assert config.pools == ()
        assert 0 < len(problems) <= 101


def test_of_many_problems_the_first_error_is_told() -> None:
    unreachable = [f"127.0.{n}.0/32" for n in range(200)]
    for wrong in ([], ["x"]):
        spec = {"addresses": unreachable + wrong}
        value = {"apiVersion": OURS, "kind": "IPAddressPool", "metadata": {"name": "a"}, "spec": spec}
        config, problems = parse([from_object(value)])
        assert problems[100].what == "the document has more problems than these; the rest is not told"
        assert [one.what for one in problems[101:]] == ["'x' is neither a CIDR nor a range"] * len(wrong)
        assert bool(config.pools) != bool(wrong)
