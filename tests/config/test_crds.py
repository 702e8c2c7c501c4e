"""The definitions that are deployed are the ones that documents are read with."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

from lbspeaker.config.crds import crds, text
from lbspeaker.config.kinds import KINDS, OURS, WRITTEN_BY_US

ROOT = Path(__file__).parent.parent.parent


def schemas(schema: dict[str, Any]) -> Iterator[dict[str, Any]]:
    yield schema
    for inner in schema.get("properties", {}).values():
        yield from schemas(inner)
    for key in ("items", "additionalProperties"):
        if key in schema:
            yield from schemas(schema[key])


def openapi(definition: dict[str, Any]) -> dict[str, Any]:
    schema: dict[str, Any] = definition["spec"]["versions"][0]["schema"]["openAPIV3Schema"]
    return schema


def test_the_file_is_up_to_date() -> None:
    file = (ROOT / "config" / "base" / "crds.yaml").read_text()
    assert file == text(), "write it again: python -m lbspeaker.config.crds > config/base/crds.yaml"
    assert list(yaml.safe_load_all(file)) == crds()


def test_every_kind_has_a_definition_that_kubectl_can_name_and_print() -> None:
    shorts = {}
    for definition in crds():
        names = definition["spec"]["names"]
        assert definition["metadata"]["name"] == f"{names['plural']}.lbspeaker.io"
        assert definition["spec"]["scope"] == "Namespaced"
        (version,) = definition["spec"]["versions"]
        assert version["name"] == "v1beta1"
        assert version["subresources"] == {"status": {}}
        assert all(column["jsonPath"].startswith(".") for column in version["additionalPrinterColumns"])
        shorts[names["kind"]] = names.get("shortNames")
    assert shorts == {
        "IPAddressPool": ["ippool"],
        "L2Advertisement": ["l2ad"],
        "LinkPolicy": ["linkpol"],
        "BGPPeer": ["bgpp"],
        "BGPAdvertisement": ["bgpad"],
        "BFDProfile": ["bfdp"],
        "Community": ["comm"],
        "EffectiveConfiguration": ["effconf"],
        "Speaker": ["spk"],
    }


def test_columns_lead_to_what_the_schema_has() -> None:
    for definition in crds():
        (version,) = definition["spec"]["versions"]
        for column in version["additionalPrinterColumns"]:
            assert column["type"] == type_at(openapi(definition), column["jsonPath"]), column


def type_at(schema: dict[str, Any], path: str) -> str:
    """The type of what the columns' JSONPath finds."""
    if path == ".metadata.creationTimestamp":
        return "date"
    for key, into in re.findall(r"\.(\w+)(\[.*?\])?", path):
        schema = schema["properties"][key]
        schema = schema["items"] if into else schema
    if schema.get("format") == "date-time":
        return "date"
    kind: str = schema["items"]["type"] if schema["type"] == "array" else schema["type"]
    return kind


def test_an_operator_sees_whether_an_object_is_accepted_and_why_not() -> None:
    for definition in crds():
        columns = {
            column["name"]: column.get("priority", 0)
            for column in definition["spec"]["versions"][0]["additionalPrinterColumns"]
        }
        kind = definition["spec"]["names"]["kind"]
        if kind != "Speaker":  # nobody writes it
            assert columns["Accepted"] == 0
        if kind not in WRITTEN_BY_US:
            assert (columns["Reason"], columns["Message"]) == (1, 1)


def test_statuses_keep_only_what_they_know() -> None:
    statuses = {
        definition["spec"]["names"]["kind"]: openapi(definition)["properties"]["status"]
        for definition in crds()
    }
    for status in statuses.values():
        assert not any("x-kubernetes-preserve-unknown-fields" in schema for schema in schemas(status))
    assert set(statuses["L2Advertisement"]["properties"]) == {"conditions"}
    assert set(statuses["EffectiveConfiguration"]["properties"]) == {
        *("accepted", "refused", "refusals", "conditions")
    }
    assert set(statuses["IPAddressPool"]["properties"]) == {
        *("assignedIPv4", "assignedIPv6", "availableIPv4", "availableIPv6", "sizeIPv4", "sizeIPv6"),
        *("pending", "assigned", "released", "conditions"),
    }


def test_what_a_rule_looks_at_is_bounded() -> None:
    """The cost of rules is counted from these bounds; a server refuses rules that may cost too much."""
    for definition in crds():
        for schema, lists in nested(openapi(definition)["properties"]["spec"]):
            if "x-kubernetes-validations" in schema:
                assert all(one.get("maxItems") for one in lists)
                assert schema["type"] != "string" or schema.get("maxLength")


def nested(
    schema: dict[str, Any], lists: tuple[dict[str, Any], ...] = ()
) -> Iterator[tuple[dict[str, Any], tuple[dict[str, Any], ...]]]:
    """Every schema in `schema`, with the lists that it is in."""
    yield schema, lists
    for inner in schema.get("properties", {}).values():
        yield from nested(inner, lists)
    if "items" in schema:
        yield from nested(schema["items"], (*lists, schema))


def test_schemas_are_structural() -> None:
    """What an API server demands: a type everywhere, and a default that fits its type."""
    types = {"string": str, "integer": int, "boolean": bool, "array": list, "object": dict, "number": float}
    for definition in crds():
        for schema in schemas(openapi(definition)):
            assert schema["type"] in types
            assert isinstance(schema.get("default", types[schema["type"]]()), types[schema["type"]])
            assert set(schema.get("required", ())) <= set(schema.get("properties", ()))
            assert not ("properties" in schema and "additionalProperties" in schema)


def test_every_field_is_described_and_refused_ones_say_so() -> None:
    for definition in crds():
        spec = openapi(definition)["properties"]["spec"]
        fields = KINDS[definition["spec"]["names"]["kind"]].versions[OURS].fields
        assert set(spec["properties"]) == set(fields)
        for key, schema in spec["properties"].items():
            assert schema["description"].endswith(".")
            assert ("Not served: " in schema["description"]) == bool(fields[key].unserved)
