"""YAML text becomes plain values as kubectl reads them, whatever the text is."""

from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lbspeaker.config.documents import read
from lbspeaker.config.text import MAX_CHARACTERS, MAX_DEPTH, MAX_NODES, compose, resolve


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("64512", 64512),
        ("-5", -5),
        ("0x10", 16),
        ("0o17", 15),
        ("017", 15),
        ("1e3", 1000.0),
        (".5", 0.5),
        ("64512:31", "64512:31"),  # a sexagesimal number to other readers
        ("192.0.2.10", "192.0.2.10"),
        ("2024-01-01", "2024-01-01"),
        ("no", False),
        ("No", False),
        ("ON", True),
        ("oN", "oN"),
        ("n", "n"),
        ("~", None),
        ("", None),
        ("08", 8.0),
        ("1_000", "1_000"),
        ("9" * 5000, "9" * 5000),
        (".inf", ".inf"),
    ],
)
def test_scalars_mean_what_they_mean_to_kubectl(text: str, value: object) -> None:
    assert resolve(text) == value
    assert type(resolve(text)) is type(value)


def test_every_value_has_the_line_where_its_key_or_its_dash_is() -> None:
    text = "# pools\n---\nkind: A\nspec:\n  list:\n  - x\n  - a: 1\n    b:\n      2\n"
    (composed,) = compose(text)
    assert composed.value == {"kind": "A", "spec": {"list": ["x", {"a": 1, "b": 2}]}}
    assert composed.lines == {
        (): 3,
        ("kind",): 3,
        ("spec",): 4,
        ("spec", "list"): 5,
        ("spec", "list", 0): 6,
        ("spec", "list", 1): 7,
        ("spec", "list", 1, "a"): 7,
        ("spec", "list", 1, "b"): 8,
    }


def test_json_is_yaml() -> None:
    (composed,) = compose('{"kind": "A",\n "spec": {"yes": true, "text": "5", "nothing": null}}')
    assert composed.value == {"kind": "A", "spec": {"yes": True, "text": "5", "nothing": None}}
    assert composed.lines["spec", "text"] == 2


def test_anchors_and_merges_are_written_out() -> None:
    text = "base: &base {a: 1, b: 2}\none: *base\ntwo:\n  <<: *base\n  b: 3\nthree:\n  <<: [{c: 1}, *base]\n"
    (composed,) = compose(text)
    assert not composed.mistakes
    assert composed.value == {
        "base": {"a": 1, "b": 2},
        "one": {"a": 1, "b": 2},
        "two": {"a": 1, "b": 3},
        "three": {"c": 1, "a": 1, "b": 2},
    }


def test_keys_are_text() -> None:
    (composed,) = compose("8080: a\non: b\n~: c\n")
    assert composed.value == {"8080": "a", "true": "b", "null": "c"}


@pytest.mark.parametrize(
    ("text", "line", "what", "hint"),
    [
        ("a: 1\nb: [\n", 3, "this is not YAML", "brackets|indentation"),
        ("a:\n\tb: 1\n", 2, "this is not YAML", "spaces, not with tabs"),
        ("a: 1\na: 2\n", 2, "given twice, first on line 1", "keep one"),
        ("a:\n  b: 1\n  c: 2\n  b: 3\n", 4, "given twice, first on line 2", "keep one"),
        ("a: 1\nb: !secret x\n", 2, "tag !secret means nothing", "remove the tag"),
        ("a: *nobody\n", 1, "stands for nothing", "mark the first use"),
        ("a: &a\n  b: *a\n", 2, "stands for nothing", "mark the first use"),
        ("{a: 1}: b\n", 1, "cannot be a key", "as text"),
        ("a: \x00\n", 1, "a character that text may not have", "UTF-8"),
        ("a: 1\nb: \ud800\n", 2, "a character that text may not have", "UTF-8"),
        ("- 1\n", 1, "a document is a mapping", "lines of ---"),
        ("just text\n", 1, "this is 'just text'", "lines of ---"),
    ],
)
def test_what_is_wrong_in_the_text_is_told_with_its_line(text: str, line: int, what: str, hint: str) -> None:
    documents, problems = read(text, "f.yaml")
    assert documents == []
    (problem,) = problems
    assert (problem.file, problem.line, problem.severity) == ("f.yaml", line, "error")
    assert what in problem.what
    assert any(words in problem.hint for words in hint.split("|"))


def test_a_broken_document_leaves_the_others_alone() -> None:
    text = "kind: A\n---\nkind: [\n---\nkind: B\n---\nkind: C\nkind: D\n---\n# nothing\n---\nkind: E\n"
    documents, problems = read(text, "f")
    assert [(document.kind, document.line_of(())) for document in documents] == [
        ("A", 1),
        ("B", 5),
        ("E", 12),
    ]
    assert [problem.line for problem in problems] == [4, 8]


NAMES = "abcdefghi"
LAUGHS = "a: &a [x,x,x,x,x,x,x,x,x,x]\n" + "".join(
    f"{new}: &{new} [{','.join([f'*{old}'] * 10)}]\n" for old, new in pairwise(NAMES)
)


@pytest.mark.parametrize(
    ("text", "what"),
    [
        ("a: " + "x" * MAX_CHARACTERS, f"at most {MAX_CHARACTERS} are read"),
        ("[" * 100_000, f"nested deeper than {MAX_DEPTH} levels"),
        ("{a: " * 1000, f"nested deeper than {MAX_DEPTH} levels"),
        ("- " * 1000, f"nested deeper than {MAX_DEPTH} levels"),
        ("".join(f"- &a{n} [*a{n - 1}]\n" if n else "- &a0 [x]\n" for n in range(100)), "nested deeper than"),
        ("[" + "1," * (MAX_NODES + 1) + "]", f"more than {MAX_NODES} values"),
        (LAUGHS, f"more than {MAX_NODES} values"),
    ],
    ids=["size", "lists", "mappings", "dashes", "aliases in aliases", "values", "a billion laughs"],
)  # fmt: skip
def test_hostile_text_is_refused_before_it_costs_anything(text: str, what: str) -> None:
    documents, (problem,) = read(text, "f")
    assert documents == []
    assert what in problem.what
    assert problem.hint


def test_the_deepest_document_that_is_read() -> None:
    deepest = "[" * MAX_DEPTH + "]" * MAX_DEPTH
    assert [composed.mistakes for composed in compose(deepest)] == [[]]
    assert [len(composed.mistakes) for composed in compose(f"[{deepest}]")] == [1]
    by_alias = "[" * (MAX_DEPTH - 2) + "&a [[]]" + "]" * (MAX_DEPTH - 2)
    assert [composed.mistakes for composed in compose(by_alias)] == [[]]
    above = "[&a [[]], " + "[" * (MAX_DEPTH - 3)
    below = "]" * (MAX_DEPTH - 2)
    assert [composed.mistakes for composed in compose(f"{above}*a{below}")] == [[]]
    assert [len(composed.mistakes) for composed in compose(f"{above}[*a]{below}")] == [1]


def test_what_is_merged_must_be_mappings() -> None:
    (composed,) = compose("a:\n  <<: [{b: 1}, c]\n")
    assert composed.value == {"a": {"<<": [{"b": 1}, "c"]}}


@settings(deadline=None)
@given(st.text(alphabet=st.sampled_from("ab:-#{}[],&*!|>'\"%@`\n\t \\?<~\ud800\x00\x85é01"), max_size=80))
def test_no_text_at_all_breaks_the_reader(text: str) -> None:
    documents, problems = read(text, "f")
    assert all(problem.line is not None and problem.line >= 1 for problem in problems)
    assert all(isinstance(document.value, dict) for document in documents)
