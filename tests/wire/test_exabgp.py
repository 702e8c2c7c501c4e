"""What reaches ExaBGP is exactly what was meant, and what it says is understood or refused."""

import base64
import contextlib
import json
import shlex
from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lbspeaker.errors import Malformed, Unable
from lbspeaker.model import (
    Ack,
    Announce,
    EndOfRib,
    EndOfRibSent,
    Negotiated,
    Other,
    Peer,
    Ping,
    Resend,
    Route,
    SecretRef,
    Sent,
    SessionCommand,
    SessionDown,
    SessionEvent,
    SessionUp,
    Teardown,
    Withdraw,
)
from lbspeaker.wire.exabgp import build, configuration, environment, numeric, parse

LOCAL, ROUTER = ip_address("10.99.0.1"), ip_address("10.99.0.2")
ROUTER_ID = IPv4Address("10.99.0.1")
SHIM = ["/usr/bin/python3", "-I", "/opt/lbspeaker/shim.py", "/run/lbspeaker/bgp-router/api"]
PEER = Peer("router", 65001, 65002, ROUTER)


def peer(**changes: object) -> Peer:
    values: dict[str, object] = {"name": "router", "my_asn": 65001, "peer_asn": 65002, "address": ROUTER}
    return Peer(**(values | changes))  # type: ignore[arg-type]


# --- configuration --------------------------------------------------------------------------------------

GOLDEN = """\
process api {
    run "/usr/bin/python3" "-I" "/opt/lbspeaker/shim.py" "/run/lbspeaker/bgp-router/api";
    encoder json;
    respawn true;
}
neighbor 10.99.0.2 {
    router-id 10.99.0.1;
    local-address 10.99.0.1;
    local-as 65001;
    peer-as 65002;
    hold-time 90;
    connect 179;
    group-updates true;
    auto-flush true;
    adj-rib-in false;
    adj-rib-out true;
    manual-eor true;
    family { ipv4 unicast; ipv6 unicast; }
    capability { asn4 enable; route-refresh enable; extended-message disable; add-path disable; }
    api { processes [ api ]; neighbor-changes; negotiated; send { parsed; update; } }
}
"""


def text_of(given: Peer, local: IPv4Address | IPv6Address = LOCAL) -> str:
    return configuration(given, local, ROUTER_ID, SHIM)


def test_a_plain_peer() -> None:
    assert text_of(PEER) == GOLDEN


@pytest.mark.parametrize(
    ("changes", "line"),
    [
        pytest.param({"port": 1790}, "    connect 1790;", id="a port of its own"),
        pytest.param({"hold_time_s": 3}, "    hold-time 3;", id="the shortest hold time"),
        pytest.param({"hold_time_s": 0}, "    hold-time 0;", id="no keepalives"),
        pytest.param({"peer_asn": 4_200_000_001}, "    peer-as 4200000001;", id="a four-byte AS"),
        pytest.param({"password": "secret"}, '    md5-password "c2VjcmV0";', id="a password, in base64"),
        pytest.param(
            {"ebgp_multihop": True}, "    peer-as 65002;", id="multihop needs nothing: no TTL is set"
        ),
    ],
)
def test_what_a_peer_may_change(changes: dict[str, object], line: str) -> None:
    assert line in text_of(peer(**changes)).splitlines()


def test_an_ipv6_peer() -> None:
    text = text_of(peer(address=ip_address("fd99::2")), ip_address("fd99::1"))
    assert "neighbor fd99::2 {" in text
    assert "local-address fd99::1;" in text


@pytest.mark.parametrize(
    "password",
    [
        "a;b",
        'quote"quote',
        "it's",
        "} neighbor 10.0.0.9 {",
        "{}[]#\\",
        " spaces ",
        "shutdown ",
        "x" * 80,
    ],
)
def test_any_password_passes_as_base64_and_changes_nothing_else(password: str) -> None:
    lines = text_of(peer(password=password)).splitlines()
    encoded = base64.b64encode(password.encode()).decode()
    index = lines.index(f'    md5-password "{encoded}";')
    assert lines[index + 1] == "    md5-base64 true;"
    assert "\n".join(lines[:index] + lines[index + 2 :]) + "\n" == GOLDEN


@pytest.mark.parametrize("name", ['a"; } neighbor 10.0.0.9 {', "x\nrun /bin/sh", "ü"])
def test_the_name_of_a_peer_does_not_reach_the_file(name: str) -> None:
    assert text_of(peer(name=name)) == GOLDEN


@pytest.mark.parametrize(
    ("changes", "complaint"),
    [
        pytest.param({"my_asn": 0}, "myASN 0 is not in 1-4294967295", id="AS 0 (RFC 7607)"),
        pytest.param({"peer_asn": 2**32}, "peerASN 4294967296", id="a five-byte AS"),
        pytest.param({"port": 0}, "peerPort 0", id="port 0"),
        pytest.param({"hold_time_s": 2}, "holdTime 2 is not in 3-65535", id="hold time 2 (RFC 4271 §4.2)"),
        pytest.param({"hold_time_s": 65536}, "holdTime 65536", id="hold time of 17 bits"),
        pytest.param({"password": "x" * 81}, "the password is not 1 to 80 printable", id="a long password"),
        pytest.param({"password": "pässword"}, "the password is not 1 to 80 printable ASCII", id="not ASCII"),
        pytest.param({"password": "a\n; } neighbor 10.0.0.9 {"}, "look for a line break", id="two lines"),
        pytest.param(
            {"password": "sesame\n", "password_secret": SecretRef("lb", "bgp")},
            "the password in Secret lb/bgp is not 1 to 80 printable ASCII characters; use letters, digits and"
            " punctuation; look for a line break at its end",
            id="a Secret made by echo",
        ),
        pytest.param(
            {"password_secret": SecretRef("lb", "bgp")}, "Secret lb/bgp", id="a Secret that is not there"
        ),
        pytest.param({"address": ip_address("fd99::2")}, "other family", id="a router of the other family"),
    ],
)
def test_a_peer_that_cannot_be_served(changes: dict[str, object], complaint: str) -> None:
    with pytest.raises(Unable, match="BGPPeer/router: ") as caught:
        text_of(peer(**changes))
    assert complaint in str(caught.value)


@pytest.mark.parametrize(
    ("address", "complaint"),
    [
        ("fe80::2", "fe80::2 is link-local"),
        ("fe80::2%eth0", "fe80::2 is link-local"),
        ("fd99::2%x; } neighbor ::1 {", "fd99::2 has a zone"),
    ],
)
def test_a_zone_is_free_text_and_stays_out(address: str, complaint: str) -> None:
    with pytest.raises(Unable, match=complaint):
        text_of(peer(address=IPv6Address(address)), ip_address("fd99::1"))


def test_a_secret_that_was_found_is_a_password() -> None:
    text = text_of(peer(password="secret", password_secret=SecretRef("lb", "bgp")))
    assert "c2VjcmV0" in text


@pytest.mark.parametrize("path", ["/tmp/a;b", '/tmp/"', "/tmp/{", "/tmp/a\nb", "/tmp/ü", "/tmp/\\n", "", "#"])
def test_a_path_that_could_mean_something_else_is_refused(path: str) -> None:
    with pytest.raises(Unable, match="ExaBGP cannot be given the path"):
        configuration(PEER, LOCAL, ROUTER_ID, [*SHIM[:3], path])


def test_a_path_with_a_space_stays_one_word() -> None:
    text = configuration(PEER, LOCAL, ROUTER_ID, ["/home/a user/python", "x y"])
    run = next(line for line in text.splitlines() if "run" in line)
    assert shlex.split(run.strip().rstrip(";")) == ["run", "/home/a user/python", "x y"]


def test_the_child_only_dials_and_never_gives_up() -> None:
    settings = environment("root")
    assert settings["exabgp_tcp_bind"] == ""
    assert settings["exabgp_tcp_attempts"] == "0"
    assert settings["exabgp_api_respawn"] == "true", "without it, it dies with its helper"
    assert settings["exabgp_daemon_user"] == "root"
    assert not any("pass" in name for name in settings)


# --- commands -------------------------------------------------------------------------------------------

PLAIN = Route(ip_network("192.0.2.1/32"))
OTHER = Route(ip_network("192.0.2.2/32"))
RICH = Route(ip_network("192.0.2.3/32"), 200, ("65535:0", "65001:1", "large:4200000001:0:2"))
V6 = Route(ip_network("2001:db8::1/128"))
HOP6 = ip_address("fd99::1")


@pytest.mark.parametrize(
    ("command", "line"),
    [
        (
            Announce((PLAIN, OTHER), LOCAL),
            "announce attributes next-hop 10.99.0.1 nlri 192.0.2.1/32 192.0.2.2/32",
        ),
        (
            Announce((RICH,), LOCAL),
            "announce attributes next-hop 10.99.0.1 local-preference 200 community [65535:0 65001:1]"
            " large-community [4200000001:0:2] nlri 192.0.2.3/32",
        ),
        (
            Withdraw((RICH,), LOCAL),
            "withdraw attributes next-hop 10.99.0.1 local-preference 200 community [65535:0 65001:1]"
            " large-community [4200000001:0:2] nlri 192.0.2.3/32",
        ),
        (
            Announce((Route(PLAIN.prefix, prepend=2),), LOCAL),
            "announce attributes next-hop 10.99.0.1 as-path [65001 65001 65001] nlri 192.0.2.1/32",
        ),
        (Announce((V6,), HOP6), "announce attributes next-hop fd99::1 nlri 2001:db8::1/128"),
        (EndOfRib(4), "announce eor ipv4 unicast"),
        (EndOfRib(6), "announce eor ipv6 unicast"),
        (Resend(), "flush adj-rib out"),
        (Teardown(), "neighbor * teardown 2"),
        (Ping(), "version"),
    ],
)
def test_commands(command: SessionCommand, line: str) -> None:
    assert build(command, 65001) == line


@pytest.mark.parametrize(
    "community",
    [
        "graceful-shutdown",
        "no-export",
        "65536:1",
        "1:65536",
        "1:2:3",
        "large:1:2",
        "large:4294967296:0:0",
        "65001:1] ; shutdown",
        "65001:1\nshutdown",
        "65001:1\n",
        "٣:٣",
        "-1:1",
        "",
        "1:",
    ],
)
def test_a_community_is_numbers_or_nothing(community: str) -> None:
    with pytest.raises(ValueError, match="is not a community"):
        build(Announce((Route(PLAIN.prefix, None, (community,)),), LOCAL), 65001)


@given(st.text())
def test_no_text_becomes_a_community(text: str) -> None:
    try:
        result = numeric(text)
    except ValueError:
        return
    assert set(result) <= set("0123456789:")


@pytest.mark.parametrize("routes", [(PLAIN, RICH), (PLAIN, V6), (V6,)])
def test_routes_that_do_not_belong_together(routes: tuple[Route, ...]) -> None:
    with pytest.raises(ValueError, match=r"other attributes|does not go with"):
        build(Announce(routes, LOCAL), 65001)


# --- events ---------------------------------------------------------------------------------------------


def line(kind: str, **neighbor: object) -> bytes:
    """An event as ExaBGP writes it."""
    return json.dumps(
        {
            "exabgp": "5.0.0",
            "time": 1.5,
            "host": "node",
            "pid": 1,
            "ppid": 2,
            "counter": 3,
            "type": kind,
            "neighbor": {"address": {"local": "10.99.0.1", "peer": "10.99.0.2"}} | neighbor,
        }
    ).encode()


def update(body: object) -> bytes:
    return line("update", direction="send", message={"update": body}, negotiated={"families": []})


@pytest.mark.parametrize(
    ("said", "event"),
    [
        (line("state", state="up"), SessionUp()),
        (line("state", state="connected"), Other()),
        (
            line("negotiated", negotiated={"families": ["ipv4 unicast", "ipv6 unicast", "ipv4 flow"]}),
            Negotiated(frozenset((4, 6))),
        ),
        (
            update(
                {
                    "attribute": {
                        "origin": "igp",
                        "as-path": {"0": {"element": "as-sequence", "value": [65001]}},
                        "local-preference": 200,
                        "community": [[65535, 0], [65001, 1]],
                        "large-community": [[1, 2, 3]],
                    },
                    "announce": {
                        "ipv4 unicast": {"10.99.0.1": [{"nlri": "192.0.2.1/32"}, {"nlri": "192.0.2.2/32"}]}
                    },
                }
            ),
            Sent(
                (
                    Route(PLAIN.prefix, 200, ("65535:0", "65001:1", "large:1:2:3")),
                    Route(OTHER.prefix, 200, ("65535:0", "65001:1", "large:1:2:3")),
                )
            ),
        ),
        (
            update({"announce": {"ipv6 unicast": {"fd99::1": [{"nlri": "2001:db8::1/128"}]}}}),
            Sent((V6,)),
        ),
        (
            update({"withdraw": {"ipv4 unicast": [{"nlri": "192.0.2.1/32"}]}}),
            Sent((), (PLAIN.prefix,)),
        ),
        (
            line("update", direction="send", message={"eor": {"afi": "ipv6", "safi": "unicast"}}),
            EndOfRibSent(6),
        ),
        (
            line("update", direction="receive", message={"update": {"withdraw": {}}}),
            Other(),
        ),
        (
            b'{ "exabgp": "5.0.0", "time": 1, "type": "notification", "notification": "shutdown" }',
            Other(),
        ),
        (b"done\n", Ack(True)),
        (b"error", Ack(False)),
        (b"exabgp 5.0.15", Other()),
        (b"", Other()),
    ],
)
def test_events(said: bytes, event: SessionEvent) -> None:
    assert parse(said) == event


@pytest.mark.parametrize(
    ("reason", "event"),
    [
        (
            "notification received (2,2)",
            SessionDown("the router ended the session: OPEN message error: bad peer AS (2/2)", (2, 2), True),
        ),
        (
            "notification sent (4,0)",
            SessionDown("ExaBGP ended the session: hold timer expired (4/0)", (4, 0)),
        ),
        (
            "notification received (6,99)",
            SessionDown("the router ended the session: cease (6/99)", (6, 99), True),
        ),
        (
            "notification received (77,1)",
            SessionDown("the router ended the session: code 77 (77/1)", (77, 1), True),
        ),
        ("closing connection", SessionDown("the connection was refused or closed")),
        (
            "not connected (ECONNREFUSED): Connection refused",
            SessionDown("the connection was refused or closed"),
        ),
        ("not connected (ETIMEDOUT): Connection timed out", Other()),
        ("not connected (EHOSTUNREACH): No route to host", Other()),
        (
            "not connected (EPERM): Operation not permitted",
            SessionDown("this node cannot connect: Operation not permitted", here=True),
        ),
        ("not connected (): no\nMD5", SessionDown("this node cannot connect: no MD5", here=True)),
        ("stop, message [removed]", SessionDown("stop, message [removed]")),
        ("", SessionDown("ExaBGP did not know what to do with what the router sent")),
    ],
)
def test_why_a_session_ended(reason: str, event: SessionEvent) -> None:
    assert parse(line("state", state="down", reason=reason)) == event


@pytest.mark.parametrize(
    "said",
    [
        b"{",
        b"{}",
        b'{"type": 1}',
        b'{"type": "state", "neighbor": []}',
        b'{"type": "\xff"}',
        update({"announce": {"ipv4 unicast": {"10.99.0.1": [{"nlri": "192.0.2.1/24"}]}}}),
        update({"announce": {"ipv4 unicast": {"10.99.0.1": [{}]}}}),
        update({"attribute": {"community": [[65536, 1]]}, "announce": {}}),
        update({"attribute": {"community": [[1, 2, 3]]}}),
        update({"attribute": {"local-preference": "high"}}),
        b'{"type":' + b"[" * 100_000,
        b'{"x":' + b"[" * 100_000 + b"]" * 100_000 + b"}",
    ],
)
def test_what_is_no_event_is_malformed(said: bytes) -> None:
    with pytest.raises(Malformed, match="ExaBGP says"):
        parse(said)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)


@given(st.binary())
def test_any_bytes_are_an_event_or_malformed(data: bytes) -> None:
    for said in (data, b"{" + data, b'{"type":"update","neighbor":' + data):
        with contextlib.suppress(Malformed):
            parse(said)


@given(JSON, JSON, JSON, st.sampled_from(["state", "negotiated", "update", "notification"]))
def test_any_json_is_an_event_or_malformed(
    message: object, negotiated: object, rest: object, kind: str
) -> None:
    bodies = [
        {"message": message, "negotiated": negotiated, "direction": "send"},
        {"message": {"update": {"announce": rest, "attribute": message}}, "direction": "send"},
        {"message": {"update": {"announce": {"ipv4 unicast": {"": [{"nlri": rest}]}}}}, "direction": "send"},
        {"state": "down", "reason": rest},
    ]
    for body in bodies:
        with contextlib.suppress(Malformed):
            parse(line(kind, **body))
