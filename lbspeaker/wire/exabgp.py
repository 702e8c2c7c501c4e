"""What ExaBGP 5 is told, and what it tells: configuration, commands, events.

One child serves one peer, so that nothing needs a selector, a reload or a share in another peer's fate.

* `configuration` and `environment` start a child. Nothing a user may write freely reaches the text: only
  numbers, canonical addresses and base64 (the password). The program that hands over the pipes is quoted.
* `build` turns a command into one line. Communities are numeric, because ExaBGP runs the name
  `graceful-shutdown` as its own command. A withdrawal repeats the attributes of the announcement: changes
  that wait inside ExaBGP are grouped by attributes, and only within one group does the last one win.
* `parse` turns one line of its output into an event. The updates that it reports as sent are the truth
  about the wire; its acknowledgements are not.
"""

import base64
import re
from collections.abc import Sequence
from dataclasses import replace
from ipaddress import IPv4Address, IPv6Address, ip_network

import msgspec

from lbspeaker.errors import Malformed, Unable
from lbspeaker.model import (
    PASSWORD_HINT,
    PASSWORDS,
    Ack,
    Address,
    Announce,
    EndOfRib,
    EndOfRibSent,
    Family,
    Negotiated,
    Other,
    Peer,
    Ping,
    Resend,
    Route,
    Sent,
    SessionCommand,
    SessionDown,
    SessionEvent,
    SessionUp,
    Teardown,
    Withdraw,
    is_password,
)

NO_GATEWAY = "peerAddress is auto, and this node has no IPv4 default gateway"
FAMILIES: dict[str, Family] = {"ipv4 unicast": 4, "ipv6 unicast": 6}
SAFE_WORD = re.compile(r"[A-Za-z0-9_./+@:,= -]+")  # within double quotes, these mean themselves
COMMUNITY = re.compile(r"(\d{1,5}):(\d{1,5})", re.ASCII)
LARGE_COMMUNITY = re.compile(r"large:(\d{1,10}):(\d{1,10}):(\d{1,10})", re.ASCII)


# --- starting a child -----------------------------------------------------------------------------------


def configuration(peer: Peer, local_address: Address, router_id: IPv4Address, shim: Sequence[str]) -> str:
    """Return the configuration file of the child for `peer` (grammar of ExaBGP 5).

    `shim` is the command of the program that hands over the pipes. The process block comes first: ExaBGP
    does not survive a mistake before it. End-of-RIB is sent on command (RFC 4724 §2).

    Raises Unable if the peer cannot be served: a number out of its range, a link-local address, a password
    that is missing or that no router can have.
    """
    address = address_of(peer)
    if local_address.version != address.version:
        raise Unable(f"BGPPeer/{peer.name}: {local_address} cannot reach {address}: other family")
    restart = f"graceful-restart {peer.graceful_restart_s:d}; " if peer.graceful_restart_s else ""
    lines = [
        "process api {",
        f"    run {' '.join(_quoted(word) for word in shim)};",
        "    encoder json;",
        "    respawn true;",
        "}",
        f"neighbor {_address(address, peer)} {{",
        f"    router-id {_address(router_id, peer)};",
        f"    local-address {_address(local_address, peer)};",
        f"    local-as {_number(peer.my_asn, 1, 2**32 - 1, 'myASN', peer)};",
        f"    peer-as {_number(peer.peer_asn, 1, 2**32 - 1, 'peerASN', peer)};",
        f"    hold-time {_hold_time(peer)};",
        f"    connect {_number(peer.port, 1, 65535, 'peerPort', peer)};",
        *_ttl(peer),
        *_password(peer),
        "    group-updates true;",
        "    auto-flush true;",
        "    adj-rib-in false;",
        "    adj-rib-out true;",
        "    manual-eor true;",
        "    family { ipv4 unicast; ipv6 unicast; }",
        "    capability { asn4 enable; route-refresh enable; extended-message disable; add-path disable; "
        f"{restart}}}",
        "    api { processes [ api ]; neighbor-changes; negotiated; send { parsed; update; } }",
        "}",
    ]
    return "\n".join(lines) + "\n"


def address_of(peer: Peer) -> Address:
    """Raises Unable if it is the default gateway's, and there is none."""
    if peer.address is None:
        raise Unable(f"BGPPeer/{peer.name}: {NO_GATEWAY}", "write the router's address as peerAddress")
    return peer.address


def environment(user: str, connect_s: float = 2.0) -> dict[str, str]:
    """Return the settings of a child that runs as `user`, the one who starts it (so it drops nothing).

    It only dials (no listening socket), for ever, and says on stderr what goes wrong. Its poll loop runs
    at half the default rate, which halves its CPU time at rest and costs no latency that one could see.
    """
    return {
        "exabgp_api_ack": "true",
        "exabgp_api_cli": "false",
        "exabgp_api_encoder": "json",
        "exabgp_api_respawn": "true",
        "exabgp_api_terminate": "false",
        "exabgp_daemon_daemonize": "false",
        "exabgp_daemon_drop": "false",
        "exabgp_daemon_user": user,
        "exabgp_log_destination": "stderr",
        "exabgp_log_level": "WARNING",
        "exabgp_log_short": "false",
        "exabgp_reactor_speed": "2.0",
        "exabgp_tcp_attempts": "0",
        "exabgp_tcp_bind": "",
        "LBSPEAKER_CONNECT_S": f"{connect_s:g}",  # read by the program that runs it
    }


def _quoted(word: str) -> str:
    if not SAFE_WORD.fullmatch(word):
        raise Unable(
            f"ExaBGP cannot be given the path {word!r}",
            "use a runtime directory and an installation whose paths have only letters, digits and ._+@=-",
        )
    return f'"{word}"'


def _address(address: Address, peer: Peer) -> str:
    """The canonical text of `address`; a zone ("%eth0") is free text, and never goes out."""
    if isinstance(address, IPv6Address) and (address.scope_id is not None or address.is_link_local):
        plain = IPv6Address(int(address))
        raise Unable(
            f"BGPPeer/{peer.name}: {plain} {'is link-local' if plain.is_link_local else 'has a zone'}",
            "give the router's global or unique local address",
        )
    return str(address)


def _number(value: int, low: int, high: int, what: str, peer: Peer) -> int:
    if not low <= value <= high:
        raise Unable(f"BGPPeer/{peer.name}: {what} {value} is not in {low}-{high}", "correct the BGPPeer")
    return int(value)


def _hold_time(peer: Peer) -> int:
    """RFC 4271 §4.2: 0 (no keepalives) or at least 3 s."""
    return _number(peer.hold_time_s, 3, 65535, "holdTime", peer) if peer.hold_time_s else 0


def _ttl(peer: Peer) -> list[str]:
    """RFC 5082 §3: both sides send 255, and take what has lost at most a known number of hops."""
    if peer.ttl_hops is None:
        return []
    lowest = 256 - _number(peer.ttl_hops, 1, 254, "ttlSecurity", peer)
    return ["    outgoing-ttl 255;", f"    incoming-ttl {lowest};"]


def _password(peer: Peer) -> list[str]:
    """RFC 2385. A peer whose Secret is not known yet must not be dialled without a password."""
    secret = f"Secret {peer.password_secret}"
    if peer.password is None:
        if peer.password_secret is not None:
            raise Unable(
                f"BGPPeer/{peer.name}: the password is not there: {secret}",
                "create the Secret (type kubernetes.io/basic-auth, key password)",
            )
        return []
    if not peer.password:
        return []
    if not is_password(peer.password):
        where = f" in {secret}" if peer.password_secret is not None else ""
        raise Unable(f"BGPPeer/{peer.name}: the password{where} is not {PASSWORDS}", PASSWORD_HINT)
    encoded = base64.b64encode(peer.password.encode()).decode("ascii")
    return [f'    md5-password "{encoded}";', "    md5-base64 true;"]


# --- commands -------------------------------------------------------------------------------------------


def build(command: SessionCommand, asn: int) -> str:
    """Return the line (without its end) that gives `command` to a child; `asn` is the own AS."""
    match command:
        case Announce(routes, next_hop):
            return announce(routes, next_hop, asn)
        case Withdraw(routes, next_hop):
            return withdraw(routes, next_hop, asn)
        case EndOfRib(family):
            return end_of_rib(family)
        case Resend():
            return "flush adj-rib out"
        case Teardown(subcode):
            return f"neighbor * teardown {subcode:d}"
        case Ping():
            return "version"


def announce(routes: Sequence[Route], next_hop: Address, asn: int) -> str:
    """Return the command that announces `routes`, which share one family and one set of attributes.

    `asn` is the own AS, which is prepended.
    """
    return f"announce attributes {_attributes(routes, next_hop, asn)}"


def withdraw(routes: Sequence[Route], next_hop: Address, asn: int) -> str:
    """Return the command that withdraws `routes`, given exactly as they were announced."""
    return f"withdraw attributes {_attributes(routes, next_hop, asn)}"


def end_of_rib(family: Family) -> str:
    return f"announce eor ipv{family:d} unicast"


def _attributes(routes: Sequence[Route], next_hop: Address, asn: int) -> str:
    """The attributes that `routes` share, and their prefixes. ValueError: they do not belong together."""
    first = routes[0]
    shared = replace(first, prefix=None)  # type: ignore[arg-type]
    for route in routes:
        if route.prefix.version != next_hop.version:
            raise ValueError(f"{route.prefix} does not go with next hop {next_hop}")
        if replace(route, prefix=None) != shared:  # type: ignore[arg-type]
            raise ValueError(f"{route.prefix} and {first.prefix} have other attributes")
    words = ["next-hop", str(next_hop)]
    if first.prepend:
        words += ["as-path", f"[{' '.join([f'{asn:d}'] * (first.prepend + 1))}]"]
    if first.med is not None:
        words += ["med", f"{first.med:d}"]
    if first.local_pref is not None:
        words += ["local-preference", f"{first.local_pref:d}"]
    standard = [numeric(text) for text in first.communities if not text.startswith("large:")]
    large = [numeric(text) for text in first.communities if text.startswith("large:")]
    if standard:
        words += ["community", f"[{' '.join(standard)}]"]
    if large:
        words += ["large-community", f"[{' '.join(large)}]"]
    return " ".join([*words, "nlri", *(str(route.prefix) for route in routes)])


def numeric(community: str) -> str:
    """Return the numbers of a canonical community: "64512:31" or "64512:1:2" (RFC 1997, RFC 8092).

    Raises ValueError if it is anything else: no text may pass into a command.
    """
    for pattern, highest in ((COMMUNITY, 2**16), (LARGE_COMMUNITY, 2**32)):
        found = pattern.fullmatch(community)
        if found:
            parts = [int(part) for part in found.groups()]
            if max(parts) < highest:
                return ":".join(str(part) for part in parts)
    raise ValueError(f"{community!r} is not a community")


# --- events ---------------------------------------------------------------------------------------------


class _Nlri(msgspec.Struct):
    nlri: str


class _Segment(msgspec.Struct):
    value: list[int] = []


class _Attributes(msgspec.Struct):
    as_path: dict[str, _Segment] = msgspec.field(default_factory=dict, name="as-path")
    med: int | None = None
    local_preference: int | None = msgspec.field(default=None, name="local-preference")
    community: list[tuple[int, int]] = []
    large_community: list[tuple[int, int, int]] = msgspec.field(default_factory=list, name="large-community")


class _Update(msgspec.Struct):
    attribute: _Attributes | None = None
    announce: dict[str, dict[str, list[_Nlri]]] = {}
    withdraw: dict[str, list[_Nlri]] = {}


class _Eor(msgspec.Struct):
    afi: str
    safi: str


class _Message(msgspec.Struct):
    update: _Update | None = None
    eor: _Eor | None = None


class _Negotiated(msgspec.Struct):
    families: list[str]


class _Neighbor(msgspec.Struct):
    state: str = ""
    reason: str = ""
    direction: str = ""
    negotiated: _Negotiated | None = None
    message: _Message | None = None


class _Event(msgspec.Struct):
    type: str
    neighbor: _Neighbor | None = None


_DECODER = msgspec.json.Decoder(_Event)
_ACKS = {b"done": Ack(True), b"error": Ack(False)}


def parse(line: bytes) -> SessionEvent:
    """Return what one line of a child's output says.

    Raises Malformed if a JSON line is not an event of ExaBGP 5.
    """
    line = line.strip()
    if line in _ACKS:
        return _ACKS[line]
    if not line.startswith(b"{"):
        return Other()
    try:
        event = _DECODER.decode(line)
        return _event(event.type, event.neighbor or _Neighbor())
    except (msgspec.MsgspecError, ValueError, RecursionError) as error:
        raise Malformed(f"ExaBGP says {line[:120]!r}: {error}") from error


def _event(kind: str, neighbor: _Neighbor) -> SessionEvent:
    if kind == "state" and neighbor.state == "up":
        return SessionUp()
    if kind == "state" and neighbor.state == "down":
        attempt = _NOT_CONNECTED.fullmatch(neighbor.reason)
        return _not_connected(*attempt.groups()) if attempt else _down(neighbor.reason)
    if kind == "negotiated" and neighbor.negotiated:
        known = (FAMILIES.get(family) for family in neighbor.negotiated.families)
        return Negotiated(frozenset(family for family in known if family))
    if kind == "update" and neighbor.direction == "send" and neighbor.message:
        return _sent(neighbor.message)
    return Other()


def _sent(message: _Message) -> SessionEvent:
    if message.eor:
        family = FAMILIES.get(f"{message.eor.afi} {message.eor.safi}")
        return EndOfRibSent(family) if family else Other()
    update = message.update or _Update()
    attributes = update.attribute or _Attributes()
    communities = _communities(attributes)
    path = sum(len(segment.value) for segment in attributes.as_path.values())
    announced = (
        Route(
            ip_network(entry.nlri),
            attributes.local_preference,
            communities,
            attributes.med,
            max(path - 1, 0),
        )
        for family, hops in update.announce.items()
        if family in FAMILIES
        for entries in hops.values()
        for entry in entries
    )
    withdrawn = (
        ip_network(entry.nlri)
        for family, entries in update.withdraw.items()
        if family in FAMILIES
        for entry in entries
    )
    return Sent(tuple(announced), tuple(withdrawn))


def _communities(attributes: _Attributes) -> tuple[str, ...]:
    standard = [":".join(map(str, pair)) for pair in attributes.community]
    large = [":".join(map(str, ("large", *triple))) for triple in attributes.large_community]
    for community in standard + large:
        numeric(community)
    return tuple(standard + large)


# RFC 4271 §4.5 and §6, RFC 4486 §3, RFC 9384 §2: what a NOTIFICATION says.
_CODES = {
    1: "message header error",
    2: "OPEN message error",
    3: "UPDATE message error",
    4: "hold timer expired",
    5: "finite state machine error",
    6: "cease",
}
_SUBCODES = {
    (2, 1): "unsupported version number",
    (2, 2): "bad peer AS",
    (2, 3): "bad BGP identifier",
    (2, 4): "unsupported optional parameter",
    (2, 6): "unacceptable hold time",
    (2, 7): "unsupported capability",
    (3, 1): "malformed attribute list",
    (3, 8): "invalid NEXT_HOP attribute",
    (3, 9): "optional attribute error",
    (3, 10): "invalid network field",
    (6, 1): "maximum number of prefixes reached",
    (6, 2): "administrative shutdown",
    (6, 3): "peer de-configured",
    (6, 4): "administrative reset",
    (6, 5): "connection rejected",
    (6, 6): "other configuration change",
    (6, 7): "connection collision resolution",
    (6, 8): "out of resources",
    (6, 10): "BFD down",
}
_CLOSED = "the connection was refused or closed"
_NOT_CONNECTED = re.compile(r"not connected \((\w*)\): (.*)", re.DOTALL)  # as `shell.engine` says it
_REFUSED, _UNANSWERED = ("ECONNREFUSED", "ECONNRESET"), ("ETIMEDOUT", "EHOSTUNREACH")
_NOTIFICATION = re.compile(r"notification (sent|received) \((\d{1,3}), ?(\d{1,3})\)", re.ASCII)


def _down(reason: str) -> SessionDown:
    found = _NOTIFICATION.search(reason)
    if not found:
        text = _one_line(reason) or "ExaBGP did not know what to do with what the router sent"
        return SessionDown(_CLOSED if text == "closing connection" else text)
    by_peer = found[1] == "received"
    code, subcode = int(found[2]), int(found[3])
    words = [_CODES.get(code, f"code {code}"), _SUBCODES.get((code, subcode), "")]
    who = "the router ended the session" if by_peer else "ExaBGP ended the session"
    said = ": ".join(word for word in words if word)
    return SessionDown(f"{who}: {said} ({code}/{subcode})", (code, subcode), by_peer)


def _not_connected(name: str, text: str) -> SessionEvent:
    """An attempt failed: `name` is that of the system's error, and who does not answer has said nothing."""
    if name in _UNANSWERED:
        return Other()
    if name in _REFUSED:
        return SessionDown(_CLOSED)
    return SessionDown(f"this node cannot connect: {_one_line(text)}", here=True)


def _one_line(text: str) -> str:
    return " ".join(text.split())[:200]
