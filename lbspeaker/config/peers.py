"""BGPPeer: its fields, and what they mean."""

from collections.abc import Mapping
from typing import Any

from lbspeaker.config.addresses import IP
from lbspeaker.config.bfd import profile_of
from lbspeaker.config.cel import Rule
from lbspeaker.config.place import Place
from lbspeaker.config.schema import Field, Record
from lbspeaker.config.selectors import SELECTORS
from lbspeaker.config.values import Choice, Duration, Flag, Text, Whole, duration_is_given, duration_of
from lbspeaker.config.versions import METALLB_2, OURS, known_in
from lbspeaker.model import (
    PASSWORD_BYTES,
    PASSWORD_HINT,
    PASSWORDS,
    BFDProfile,
    Peer,
    SecretRef,
    is_password,
)

Spec = Mapping[str, Any]
HOLD_TIME_S = 90  # RFC 4271 §10 suggests it
CONNECT_S = 2.0
RESTART_S = 120  # for which a router keeps the routes of a speaker that restarts (RFC 4724 §3)
_ASN = Whole(0, 2**32 - 1)

# --- times ----------------------------------------------------------------------------------------------

_HOLD_TIMES = "0s or whole seconds from 3s to 65535s"


def _holds(hold: str) -> str:
    """The CEL expression that the duration `hold`, an expression, can be a hold time."""
    whole = f"{hold}.getMilliseconds() % 1000 == 0"
    between = f"{hold} >= duration('3s') && {hold} <= duration('65535s')"
    return f"{hold} == duration('0s') || ({between} && {whole})"


_HOLD, _KEEPALIVE = duration_of("holdTime"), duration_of("keepaliveTime")
_NO_HOLD, _NO_KEEPALIVE = f"!{duration_is_given('holdTime')}", f"!{duration_is_given('keepaliveTime')}"
_HOLD_TIME_RULES = (
    Rule(
        f"{_NO_HOLD} || {_holds(_HOLD)}",
        f"the hold time is not {_HOLD_TIMES}",
        "write holdTime: 90s",
        "holdTime",
    ),
    Rule(
        f"(has(self.holdTime) && self.holdTime != '') || {_NO_KEEPALIVE}"
        f" || {_holds(f'({_KEEPALIVE} + {_KEEPALIVE} + {_KEEPALIVE})')}",
        f"the hold time, three times keepaliveTime, is not {_HOLD_TIMES}",
        "write holdTime: 90s",
        "keepaliveTime",
    ),
    Rule(
        f"{_NO_HOLD} || {_NO_KEEPALIVE} || {_KEEPALIVE} <= {_HOLD}",
        "keepaliveTime is longer than holdTime",
        "remove keepaliveTime: a third of the hold time is used",
        "keepaliveTime",
    ),
)


def _hold_time_s(spec: Spec, place: Place) -> int | None:
    """RFC 4271 §4.2: zero, or at least three seconds, in 16 bits."""
    hold_s, keepalive_s = spec["holdTime"], spec["keepaliveTime"]
    key = "keepaliveTime" if hold_s is None and keepalive_s is not None else "holdTime"
    if hold_s is None:
        hold_s = HOLD_TIME_S if keepalive_s is None else 3 * keepalive_s
    if hold_s != int(hold_s) or not (hold_s == 0 or 3 <= hold_s <= 65535):
        what = f"the hold time, {_seconds(hold_s)}, is not {_HOLD_TIMES}"
        place.at(key).error(what, "write holdTime: 90s")
        return None
    if keepalive_s is not None and keepalive_s > hold_s:
        what = f"keepaliveTime {_seconds(keepalive_s)} is longer than holdTime {_seconds(hold_s)}"
        place.at("keepaliveTime").error(what, "remove keepaliveTime: a third of the hold time is used")
        return None
    if keepalive_s is not None and round(3 * keepalive_s, 6) != hold_s:
        what = f"keepalives are sent every {_seconds(hold_s / 3)}: always a third of the hold time"
        place.at("keepaliveTime").warn(what, "remove keepaliveTime, or write holdTime as three times as much")
    return int(hold_s)


def _seconds(seconds: float) -> str:
    return f"{seconds:.6g}s"


_CONNECT_S = (1.0, 65535.0)
_CONNECT = "the time between attempts to connect is not 1s to 65535s", "write connectTime: 2s"
_CONNECT_RULES = (
    Rule(
        f"!has(self.connectTime) || !{duration_is_given('connectTime')}"
        f" || ({duration_of('connectTime')} >= duration('1s')"
        f" && {duration_of('connectTime')} <= duration('65535s'))",
        *_CONNECT,
        key="connectTime",
    ),
)


def _connect_s(spec: Spec, place: Place) -> float:
    connect_s: float | None = spec["connectTime"]
    if connect_s is not None and not _CONNECT_S[0] <= connect_s <= _CONNECT_S[1]:
        place.at("connectTime").error(*_CONNECT)
    return CONNECT_S if connect_s is None else connect_s


# --- who talks to whom ----------------------------------------------------------------------------------

_NO_AS = "0 is not an AS number (RFC 7607)"
_OWN_AS = (
    "both ends are in the same AS, and only sessions between two ASs have hops to count",
    "remove ebgpMultiHop",
)
_NOT_DYNAMIC = (
    "external is not served: ExaBGP must know the router's AS number",
    "write the router's AS number as peerASN",
)
_TWO_ASNS = "peerASN and dynamicASN exclude each other", "remove dynamicASN"
_NO_IDENTIFIER = "0.0.0.0 is not a BGP identifier (RFC 6286)", "remove routerID"
_TTL_OR_HOPS = "ebgpMultiHop and ttlSecurity exclude each other", "remove ebgpMultiHop"
_TTL_RULES = (
    Rule(
        "!has(self.ttlSecurity) || !has(self.ebgpMultiHop) || !self.ebgpMultiHop",
        *_TTL_OR_HOPS,
        key="ttlSecurity",
    ),
)
_BOTH = (
    "has(self.sourceAddress) && has(self.peerAddress) && isIP(self.sourceAddress) && isIP(self.peerAddress)"
)
_IDENTITY_RULES = (
    Rule("self.myASN != 0", _NO_AS, "write the AS number of the speakers", "myASN"),
    Rule("!has(self.peerASN) || self.peerASN != 0", _NO_AS, "write the AS number of the router", "peerASN"),
    Rule(
        "!has(self.ebgpMultiHop) || !self.ebgpMultiHop || !has(self.peerASN)"
        " || (has(self.localASN) ? self.localASN : self.myASN) != self.peerASN",
        *_OWN_AS,
        key="ebgpMultiHop",
    ),
    Rule(
        f"!({_BOTH}) || self.sourceAddress.contains(':') == self.peerAddress.contains(':')",
        "sourceAddress and peerAddress are of different families",
        "write two addresses of one family",
        "sourceAddress",
    ),
    Rule("!has(self.dynamicASN) || self.dynamicASN != 'external'", *_NOT_DYNAMIC, key="dynamicASN"),
    Rule(
        "!has(self.dynamicASN) || self.dynamicASN != 'internal' || !has(self.peerASN)",
        *_TWO_ASNS,
        key="dynamicASN",
    ),
    Rule("!has(self.routerID) || self.routerID != '0.0.0.0'", *_NO_IDENTIFIER, key="routerID"),
)


def _check_identity(spec: Spec, place: Place) -> None:
    """AS numbers and addresses that contradict each other."""
    for key, whose in (("myASN", "the speakers"), ("peerASN", "the router")):
        if spec[key] == 0:
            place.at(key).error(_NO_AS, f"write the AS number of {whose}")
    if spec["ebgpMultiHop"] and _my_asn(spec) == _peer_asn(spec):
        place.at("ebgpMultiHop").error(*_OWN_AS)
    if spec["ebgpMultiHop"] and spec["ttlSecurity"]:
        place.at("ttlSecurity").error(*_TTL_OR_HOPS)
    if spec["dynamicASN"] == "external":
        place.at("dynamicASN").error(*_NOT_DYNAMIC)
    elif spec["peerASN"] and spec["dynamicASN"]:
        place.at("dynamicASN").error(*_TWO_ASNS)
    address, source, router_id = spec["peerAddress"], spec["sourceAddress"], spec["routerID"]
    family = 4 if address == "auto" else getattr(address, "version", None)
    if source is not None and family not in (None, source.version):
        place.at("sourceAddress").error(
            f"{source} and peerAddress {address} are of different families",
            f"write an IPv{family} address",
        )
    if router_id is not None and int(router_id) == 0:
        place.at("routerID").error(*_NO_IDENTIFIER)


def _my_asn(spec: Spec) -> int:
    asn: int = spec["localASN"] or spec["myASN"]
    return asn


def _peer_asn(spec: Spec) -> int:
    asn: int = _my_asn(spec) if spec["dynamicASN"] else spec["peerASN"]
    return asn


# --- passwords ------------------------------------------------------------------------------------------

_NO_NAME = "name is missing", "write the name of the Secret"
_SECRET_RULES = (
    Rule(
        "!has(self.__namespace__) || self.__namespace__ == '' || (has(self.name) && self.name != '')",
        *_NO_NAME,
    ),
)
_TWO_PASSWORDS = "password and passwordSecret exclude each other", "remove password"
_PASSWORD_RULES = (
    Rule(
        "!has(self.password) || self.password == '' || !has(self.passwordSecret)"
        " || !has(self.passwordSecret.name) || self.passwordSecret.name == ''",
        *_TWO_PASSWORDS,
        key="password",
    ),
    Rule(
        f"!has(self.password) || self.password.matches('^[ -~]{{0,{PASSWORD_BYTES}}}$')",
        f"the password is not {PASSWORDS}",
        PASSWORD_HINT,
        "password",
    ),
)


def _secret_reference(spec: Spec, namespace: str, place: Place) -> SecretRef | None:
    """The Secret is in the peer's own namespace, whatever the reference says."""
    reference = spec.get("passwordSecret")
    if not reference or not (reference["name"] or reference["namespace"]):
        return None
    if not reference["name"]:
        place.at("passwordSecret").error(*_NO_NAME)
        return None
    given = reference["namespace"]
    if given and namespace and given != namespace:
        what = f"the Secret is looked for in {namespace}, the peer's own namespace, not in {given}"
        place.at("passwordSecret", "namespace").warn(what, f"put the Secret into {namespace}")
    return SecretRef(namespace or given or "default", reference["name"])


def _password(
    plain: str | None, reference: SecretRef | None, secrets: Mapping[str, str] | None, place: Place
) -> str | None:
    if plain and reference:
        place.at("password").error(*_TWO_PASSWORDS)
        return None
    if reference is None:
        return _checked(plain, "the password", place.at("password")) if plain else None
    if secrets is None:
        return None
    name = f"{reference.namespace}/{reference.name}"
    where = place.at("passwordSecret", "name")
    password = secrets.get(name)
    if not password:
        what = f"Secret {name} has no password" if name in secrets else f"there is no Secret {name}"
        where.error(
            f"{what}; the peer is not used",
            "create it, of type kubernetes.io/basic-auth with the key password",
        )
        return None
    return _checked(password, f"the password in Secret {name}", where)


def _checked(password: str, whose: str, place: Place) -> str | None:
    if not is_password(password):
        place.error(f"{whose} is not {PASSWORDS}", PASSWORD_HINT)
        return None
    return password


# --- its fields -----------------------------------------------------------------------------------------

_SECRET = Record(
    {
        "name": Field(Text(), "Name of a Secret of type kubernetes.io/basic-auth."),
        "namespace": Field(Text(), "Its namespace: the peer's own."),
    },
    rules=_SECRET_RULES,
)
_NOT_YET = "is not served yet"
_PEER = {
    "myASN": Field(_ASN, "AS number of the speakers.", required=True),
    "peerASN": Field(_ASN, "AS number of the router.", required=True, unless="dynamicASN"),
    "peerAddress": Field(
        IP(instead="auto", host=True),
        "Address of the router; auto: the node's IPv4 default gateway.",
        required=True,
        unless="interface",
    ),
    "sourceAddress": Field(
        IP(host=True), "Address of the node to connect from.", absent="the one that the node's routes choose"
    ),
    "peerPort": Field(Whole(0, 65535), "TCP port of the router.", default=179),
    "holdTime": Field(
        Duration(),
        "Silence after which the session is down: 0s (never), or whole seconds from 3s to 65535s.",
        absent="90s; three times keepaliveTime, if that is there",
    ),
    "keepaliveTime": Field(
        Duration(), "Time between keepalives: always a third of the hold time, whatever is written."
    ),
    "routerID": Field(IP(4), "BGP identifier of the speakers.", absent="each node's own"),
    "nodeSelectors": Field(SELECTORS, "Nodes that talk to this router.", default=(), absent="all"),
    "password": Field(
        Text(longest=1000),
        f"Password of the session (TCP MD5), in clear text: {PASSWORDS}. Better: passwordSecret.",
    ),
    "ebgpMultiHop": Field(Flag(), "The router of the other AS is more than one hop away.", default=False),
    "bfdProfile": Field(
        Text(),
        "Name of a BFDProfile: BFD ends the session as soon as the router is not heard any more.",
        absent="no BFD",
    ),
}
_PEER_2 = {
    "passwordSecret": Field(_SECRET, "Secret with the password of the session, under the key password."),
    "dynamicASN": Field(
        Choice(("internal", "external")),
        "internal: the router is in the speakers' own AS, whatever its number is; external is refused.",
    ),
    "interface": Field(
        Text(),
        "Link to an unnumbered router.",
        unserved=f"a session over an interface without addresses {_NOT_YET}",
        hint="write the router's address as peerAddress",
    ),
    "vrf": Field(
        Text(),
        "VRF of the session.",
        unserved=f"vrf {_NOT_YET}",
        hint="peer from the node's main routing table",
    ),
    "localASN": Field(
        Whole(1, 2**32 - 1), "AS number that this router sees instead of myASN.", absent="myASN"
    ),
    "connectTime": Field(Duration(), "Time between attempts to connect: 1s to 65535s.", absent="2s"),
    "enableGracefulRestart": Field(
        Flag(),
        "The router keeps the routes, for two minutes at most, while a speaker or an ExaBGP that was killed"
        " is away. Who ends in order, as for an upgrade, withdraws them all the same.",
        default=False,
    ),
    "disableMP": Field(
        Flag(),
        "Deprecated.",
        unserved="disableMP is deprecated and changes nothing",
        hint="remove it",
        ignored=True,
    ),
    "dualStackAddressFamily": Field(
        Flag(), "Both families on one session, which is always so here.", default=False
    ),
}
_PEER_OURS = {
    "ttlSecurity": Field(
        Whole(1, 254),
        "The router is so many hops away at most (1: on the same segment), and packets that come from further"
        " away are dropped (GTSM, RFC 5082). The router must send with a TTL of 255, as it does with the same"
        " setting.",
    ),
}
_RULES = (*_HOLD_TIME_RULES, *_CONNECT_RULES, *_IDENTITY_RULES, *_PASSWORD_RULES)
PEER = Record({**_PEER, **_PEER_2, **_PEER_OURS}, rules=(*_RULES, *_TTL_RULES))
PEER_2 = Record({**_PEER, **_PEER_2}, dict.fromkeys(_PEER_OURS, known_in(OURS)), rules=_RULES)
PEER_OLD = Record(
    _PEER, {**dict.fromkeys(_PEER_2, known_in(METALLB_2)), **dict.fromkeys(_PEER_OURS, known_in(OURS))}
)

# --- all of it ------------------------------------------------------------------------------------------


def peer(
    name: str,
    spec: Spec,
    place: Place,
    secrets: Mapping[str, str] | None,
    profiles: Mapping[str, BFDProfile | None],
) -> Peer | None:
    """Return None when `place`, that of the object, was told an error."""
    namespace = place.document.namespace
    place = place.at("spec")
    spec = {**PEER.defaults(), **spec}
    hold_time_s, connect_s = _hold_time_s(spec, place), _connect_s(spec, place)
    _check_identity(spec, place)
    reference = _secret_reference(spec, namespace, place)
    password = _password(spec["password"], reference, secrets, place)
    bfd = profile_of(spec, profiles, place)
    if place.refused or hold_time_s is None:
        return None
    return Peer(
        name=name,
        my_asn=_my_asn(spec),
        peer_asn=_peer_asn(spec),
        address=None if spec["peerAddress"] == "auto" else spec["peerAddress"],
        port=spec["peerPort"] or 179,
        source_address=spec["sourceAddress"],
        router_id=spec["routerID"],
        hold_time_s=hold_time_s,
        connect_s=connect_s,
        ttl_hops=spec["ttlSecurity"],
        graceful_restart_s=RESTART_S if spec["enableGracefulRestart"] else None,
        ebgp_multihop=spec["ebgpMultiHop"],
        bfd=bfd,
        node_selectors=spec["nodeSelectors"],
        password=password,
        password_secret=reference,
    )
