"""Documents know their names and lines; lists of documents come apart."""

from lbspeaker.config.documents import Document, from_object, path_text, read, unpack


def test_a_document_tells_its_name_and_its_lines() -> None:
    text = "apiVersion: v1\nkind: Service\nmetadata:\n  name: web\n  namespace: shop\nspec:\n  ports: []\n"
    ((document,), problems) = read(text, "web.yaml")
    assert problems == []
    assert (document.api_version, document.kind, document.name, document.namespace) == (
        "v1",
        "Service",
        "web",
        "shop",
    )
    assert document.object == "Service/web"
    assert document.line_of(("metadata", "name")) == 4
    assert document.line_of(("spec", "ports", 3, "port")) == 7  # the nearest that is there


def test_a_document_without_anything_has_empty_names() -> None:
    document = from_object({"metadata": [], "kind": 5})
    assert (document.api_version, document.kind, document.name, document.namespace) == ("", "", "", "")
    assert document.object == ""
    assert document.line_of(("spec",)) is None


def test_names_are_shown_on_one_line() -> None:
    document = Document("f", {"kind": "A", "metadata": {"name": "x\n\x1b[2Jy"}})
    assert document.object == "A/x��[2Jy"
    assert len(Document("f", {"kind": "A" * 1000}).object) < 100


def test_paths_are_shown_as_one_would_write_them() -> None:
    assert path_text(()) == ""
    assert path_text(("spec", "addresses", 1)) == "spec.addresses[1]"
    assert path_text(("metadata", "labels", "a.b/c")) == 'metadata.labels["a.b/c"]'


def test_lists_come_apart_and_keep_their_lines() -> None:
    text = (
        "kind: List\napiVersion: v1\nitems:\n- kind: A\n  metadata:\n    name: a\n"
        "- kind: List\n  items:\n  - kind: B\n  - &c\n    kind: C\n- *c\n"
    )
    documents, _ = read(text, "f")
    unpacked, problems = unpack(documents)
    assert problems == []
    assert [(one.kind, one.line_of(())) for one in unpacked] == [("A", 4), ("B", 9), ("C", 10), ("C", 12)]
    assert unpacked[0].line_of(("metadata", "name")) == 6


def test_items_of_a_typed_list_need_no_kind() -> None:
    documents, problems = unpack(
        [
            from_object(
                {"kind": "IPAddressPoolList", "apiVersion": "metallb.io/v1beta1", "items": [{"metadata": {}}]}
            )
        ]
    )
    assert problems == []
    assert documents[0].value == {"apiVersion": "metallb.io/v1beta1", "kind": "IPAddressPool", "metadata": {}}


def test_an_effective_configuration_is_what_it_holds() -> None:
    held = [{"kind": "A"}, {"kind": "B"}]
    whole = {
        "apiVersion": "lbspeaker.io/v1beta1",
        "kind": "EffectiveConfiguration",
        "spec": {"documents": held},
    }
    documents, problems = unpack([from_object(whole)])
    assert [one.value for one in documents] == held
    assert problems == []


def test_an_item_that_is_no_object_is_told_and_the_others_stay() -> None:
    documents, problems = unpack([from_object({"kind": "List", "items": [{"kind": "A"}, "b", None]})])
    assert [one.kind for one in documents] == ["A"]
    assert [problem.path for problem in problems] == ["items[1]", "items[2]"]
    documents, problems = unpack([from_object({"kind": "List", "items": "none"})])
    assert documents == []
    assert problems[0].what == "must be a list of objects"


def test_lists_in_lists_end_somewhere() -> None:
    value: dict[str, object] = {"kind": "A"}
    for _ in range(40):
        value = {"kind": "List", "items": [value]}
    documents, problems = unpack([from_object(value)])
    assert documents == []
    assert len(problems) == 1
