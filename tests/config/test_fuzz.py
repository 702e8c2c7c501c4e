"""Whatever is in a document, there are only problems, never an exception, and what is used is right."""

from dataclasses import replace
from typing import Any

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
    "IPAddressPool": st.fixed_dictionaries({"addresses": st.lists(st.sampled_from(RANGES), max_size=2)}),
    "L2Advertisement": sometimes(**SCOPE),
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
