"""The configurations of routers: golden files, and nothing that a person writes can become a command."""

import json
import re
from dataclasses import replace
from pathlib import Path

import pytest

from lbspeaker.core.upstream import upstream
from lbspeaker.model import BFDProfile, BGPAdvertisement, Config, Node, Peer, Pool, Scope, SecretRef, Snapshot
from lbspeaker.upstream import Upstream
from lbspeaker.wire import upstream_frr, upstream_opnsense
from lbspeaker.wire.upstream import PASSWORD, name
from lbspeaker.wire.upstream_span import spans
from lbspeaker.wire.upstream_text import ROUTERS
from tests.build import ip, ips, span

GOLDEN = Path(__file__).parent / "upstream"


def made(peer: str = "router", pool: str = "lan", node: str = "node-a", **fields: object) -> Upstream:
    """Two nodes, a pool of both families, one aggregate; BFD, GTSM and a password unless told otherwise."""
    values = {
        "hold_time_s": 9,
        "ttl_hops": 2,
        "bfd": BFDProfile("fast", 100, 150, 4),
        "password_secret": SecretRef("lbspeaker-system", "router"),
        **fields,
    }
    router = Peer(peer, 64513, 64512, ip("192.0.2.1"), **values)  # type: ignore[arg-type]
    one = Pool(pool, (span("203.0.113.0-203.0.113.255"), span("2001:db8:203::-2001:db8:203::ff")))
    ads = (BGPAdvertisement("hosts"), BGPAdvertisement("nets", Scope(), aggregation_length=28))
    nodes = {
        node: Node(node, addresses=ips("192.0.2.201", "2001:db8::201")),
        "node-b": Node("node-b", addresses=ips("192.0.2.202", "2001:db8::202")),
    }
    return upstream(Snapshot(Config((one,), (), ads, (router,)), nodes=nodes), router)


@pytest.mark.parametrize("router", ROUTERS)
def test_the_text_is_as_it_was(router: str) -> None:
    assert ROUTERS[router](made()) == (GOLDEN / f"{router}.txt").read_text()


@pytest.mark.parametrize("router", ROUTERS)
def test_what_is_not_there_is_not_in_the_text(router: str) -> None:
    plain = ROUTERS[router](made(ttl_hops=None, bfd=None, password_secret=None))
    for word in (
        "bfd yes",
        "3784",
        "4784",
        PASSWORD,
        "ttl-security",
        "ttl security",
        "multihop 2",
        "fall-over",
    ):
        assert word not in plain
    assert ROUTERS[router](made()) != plain


@pytest.mark.parametrize("router", ROUTERS)
@pytest.mark.parametrize(
    "fields",
    [
        {"ebgp_multihop": True, "ttl_hops": None},
        {"peer_asn_": 0},
        {"port": 1179},
        {"hold_time_s": 0},
        {"bfd": BFDProfile("p", passive=True), "ttl_hops": 1},
    ],
    ids=["multihop", "ibgp", "port", "no hold time", "near"],
)
def test_every_kind_of_peer_has_a_text(router: str, fields: dict[str, object]) -> None:
    up = replace(made(ttl_hops=None), asn=64513) if "peer_asn_" in fields else made(**fields)
    text = ROUTERS[router](up)
    assert "None" not in text and "object at" not in text
    assert all(line == line.rstrip() for line in text.splitlines())


STRANGE = [
    "x\nneighbor 10.0.0.1 remote-as 1",
    'x"; shutdown',
    "x' $(reboot)",
    "x } protocol bgp y {",
    "x`id`",
    "ünïcödé\u2028next",
    "; # ! \\",
    "-" * 300,
]


@pytest.mark.parametrize("router", ROUTERS)
@pytest.mark.parametrize("strange", STRANGE)
def test_no_name_can_become_a_command(router: str, strange: str) -> None:
    """The same lines as with plain names, but for the names; and no character that does not belong there."""
    plain = ROUTERS[router](made("PPP", "QQQ", "NNN"))
    text = ROUTERS[router](made(strange, strange + "q", strange + "n"))
    assert len(text.splitlines()) == len(plain.splitlines())
    assert set(text) <= set(plain) | set("abcdefghijklmnopqrstuvwxyz0123456789-_ABCDEFGHIJKLMNOPQRSTUVWXYZ")
    for word in ("reboot", "shutdown"):  # as part of a name, never as a word of its own
        assert not re.search(rf"(?<![A-Za-z0-9_-]){word}(?![A-Za-z0-9_-])", text)


@pytest.mark.parametrize("router", ROUTERS)
def test_values_that_are_no_names_are_refused_once_more(router: str) -> None:
    with pytest.raises(ValueError, match="is not a name for routers"):
        ROUTERS[router](replace(made(), label="x\ny"))
    for each in ("", "a b", "a.b", "ü", "a" * 64):
        with pytest.raises(ValueError, match="is not a name for routers"):
            name(each)


@pytest.mark.parametrize("router", ROUTERS)
def test_no_text_has_a_password_in_it(router: str) -> None:
    up = made(password="s3cret", password_secret=None)
    assert up.password == "spec.password of BGPPeer router"
    text = ROUTERS[router](up)
    assert "s3cret" not in text and PASSWORD in text


def test_the_calls_of_opnsense_are_json_and_say_what_the_steps_say() -> None:
    up = made()
    calls = upstream_opnsense.calls(up)
    assert [call.path for call in calls if "add" in call.path].count("quagga/bgp/addNeighbor") == 2
    neighbor = next(call.body["neighbor"] for call in calls if call.path == "quagga/bgp/addNeighbor")
    shown = dict(
        next(s.fields for s in upstream_opnsense.steps(up) if s.page.startswith("Routing: BGP, Neigh"))
    )
    assert isinstance(neighbor, dict)
    assert (neighbor["address"], neighbor["remoteas"]) == (shown["Peer-IP"], shown["Remote AS"])
    assert neighbor["keepalive"] == shown["Keepalive (advanced)"] == "3"
    for line in upstream_opnsense.build(up).splitlines():
        if line.startswith("{"):
            json.loads(line)


def test_a_list_is_only_as_long_as_it_must_be() -> None:
    text = upstream_frr.build(made())
    assert "permit 203.0.113.0/24 ge 32 le 32" in text
    assert "permit 203.0.113.0/24 ge 28 le 28" in text


@pytest.mark.parametrize(
    ("ranges", "asked"),
    [
        (["192.0.2.60-192.0.2.110"], ["192.0.2.0/25"]),
        (["10.0.0.0-10.0.0.3", "172.16.0.0-172.16.0.3"], ["10.0.0.0/30", "172.16.0.0/30"]),
    ],
)
def test_of_a_routers_tables_only_our_part_is_asked_for(ranges: list[str], asked: list[str]) -> None:
    router = Peer("r", 1, 2, ip("192.0.2.1"))
    pools = (Pool("p", tuple(map(span, ranges))),)
    nodes = {"a": Node("a", addresses=ips("192.0.2.201"))}
    up = upstream(Snapshot(Config(pools, (), (BGPAdvertisement("x"),), (router,)), nodes=nodes), router)
    assert [str(network) for network in spans(up, 4)] == asked


def write() -> None:
    """Write the golden files anew: python -c 'from tests.wire.test_upstream import write; write()'."""
    for router, text in ROUTERS.items():
        (GOLDEN / f"{router}.txt").write_text(text(made()))
