"""MetalLB's configuration of old is known when it is seen; `parse` says nothing about it."""

import pytest

from lbspeaker.config.documents import from_object
from lbspeaker.config.identity import is_legacy
from lbspeaker.config.parse import is_configuration, parse
from lbspeaker.model import Config

OLD = "address-pools:\n- name: default\n  protocol: layer2\n  addresses: [192.0.2.0/24]\n"


@pytest.mark.parametrize(
    ("data", "legacy"),
    [
        ({"config": OLD}, True),
        ({"config": "peers:\n- my-asn: 64512\n  peer-asn: 64513\n  peer-address: 192.0.2.1\n"}, True),
        ({"config": '{"address-pools": []}'}, True),
        ({"config": "peers: []\nlog-level: debug\n"}, False),
        ({"config": "a: b"}, False),
        ({"config": "text"}, False),
        ({"config": "["}, False),
        ({"config": ""}, False),
        ({"config": None}, False),
        ({"other": OLD}, False),
        (None, False),
        ([], False),
    ],
)
def test_the_config_map_of_old_is_known(data: object, legacy: bool) -> None:
    document = from_object({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "x"}, "data": data})
    assert is_legacy(document) == legacy
    assert not is_configuration(document)
    assert parse([document]) == (Config(), [])


def test_other_kinds_are_not() -> None:
    for version, kind in (("v1", "Secret"), ("apps/v1", "ConfigMap")):
        assert not is_legacy(from_object({"apiVersion": version, "kind": kind, "data": {"config": OLD}}))
