"""The definitions that are deployed are the ones that documents are read with."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

from lbspeaker.config.crds import crds, text
from lbspeaker.config.kinds import KINDS, OURS

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
    file = (ROOT / "config" / "crds.yaml").read_text()
    assert file == text(), "write it again: python -m lbspeaker.config.crds > config/crds.yaml"
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
        "BGPPeer": None,
        "BGPAdvertisement": ["bgpad"],
        "Community": None,
        "EffectiveConfiguration": ["effconf"],
    }


def test_schemas_are_structural() -> None:
    """What an API server demands: a type everywhere, and a default that fits its type."""
    types = {"string": str, "integer": int, "boolean": bool, "array": list, "object": dict}
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
