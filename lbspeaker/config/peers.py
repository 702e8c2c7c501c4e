"""BGPPeer: its fields, and what they mean."""

from collections.abc import Mapping
from typing import Any

from lbspeaker.config.addresses import IP
from lbspeaker.config.cel import Rule
from lbspeaker.config.place import Place
from lbspeaker.config.schema import Field, Record
from lbspeaker.config.selectors import SELECTORS
from lbspeaker.config.values import Choice, Duration, Flag, Text, Whole, duration_is_given, duration_of
from lbspeaker.config.versions import METALLB_2, known_in
from lbspeaker.model import Peer, SecretRef

Spec = Mapping[str, Any]
HOLD_TIME_S = 90  # RFC 4271 §10 suggests it
_PASSWORD_BYTES = 80  # TCP_MD5SIG_MAXKEYLEN of Linux
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


# --- who talks to whom ----------------------------------------------------------------------------------

_NO_AS = "0 is not an AS number (RFC 7607)"
_OWN_AS = (
    "both ends are in the same AS, and only sessions between two ASs have hops to count",
    "remove ebgpMultiHop",
)
_NO_IDENTIFIER = "0.0.0.0 is not a BGP identifier (RFC 6286)", "remove routerID"
_BOTH = (
    "has(self.sourceAddress) && has(self.peerAddress) && isIP(self.sourceAddress) && isIP(self.peerAddress)"
)
_IDENTITY_RULES = (
    Rule("self.myASN != 0", _NO_AS, "write the AS number of the speakers", "myASN"),
    Rule("!has(self.peerASN) || self.peerASN != 0", _NO_AS, "write the AS number of the router", "peerASN"),
    Rule(
        "!has(self.ebgpMultiHop) || !self.ebgpMultiHop || !has(self.peerASN) || self.myASN != self.peerASN",
        *_OWN_AS,
        key="ebgpMultiHop",
    ),
    Rule(
        f"!({_BOTH}) || self.sourceAddress.contains(':') == self.peerAddress.contains(':')",
        "sourceAddress and peerAddress are of different families",
        "write two addresses of one family",
        "sourceAddress",
    ),
    Rule("!has(self.routerID) || self.routerID != '0.0.0.0'", *_NO_IDENTIFIER, key="routerID"),
)


def _check_identity(spec: Spec, place: Place) -> None:
    """AS numbers and addresses that contradict each other."""
    for key, whose in (("myASN", "the speakers"), ("peerASN", "the router")):
        if spec[key] == 0:
            place.at(key).error(_NO_AS, f"write the AS number of {whose}")
    if spec["ebgpMultiHop"] and spec["myASN"] == spec["peerASN"]:
        place.at("ebgpMultiHop").error(*_OWN_AS)
    address, source, router_id = spec["peerAddress"], spec["sourceAddress"], spec["routerID"]
    if source is not None and address is not None and source.version != address.version:
        place.at("sourceAddress").error(
            f"{source} and peerAddress {address} are of different families",
            f"write an IPv{address.version} address",
        )
    if router_id is not None and int(router_id) == 0:
        place.at("routerID").error(*_NO_IDENTIFIER)


# --- passwords ------------------------------------------------------------------------------------------

_NO_NAME = "name is missing", "write the name of the Secret"
_SECRET_RULES = (
    Rule(
        "!has(self.__namespace__) || self.__namespace__ == '' || (has(self.name) && self.name != '')",
        *_NO_NAME,
    ),
)
_TWO_PASSWORDS = "password and passwordSecret exclude each other", "remove password"
_PASSWORDS = f"1 to {_PASSWORD_BYTES} printable ASCII characters"
_PASSWORD_HINT = "use letters, digits and punctuation; look for a line break at its end"  # noqa: S105
_PASSWORD_RULES = (
    Rule(
        "!has(self.password) || self.password == '' || !has(self.passwordSecret)"
        " || !has(self.passwordSecret.name) || self.passwordSecret.name == ''",
        *_TWO_PASSWORDS,
        key="password",
    ),
    Rule(
        f"!has(self.password) || self.password.matches('^[ -~]{{0,{_PASSWORD_BYTES}}}$')",
        f"the password is not {_PASSWORDS}",
        _PASSWORD_HINT,
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
    if not (password.isascii() and password.isprintable()) or len(password) > _PASSWORD_BYTES:
        place.error(f"{whose} is not {_PASSWORDS}", _PASSWORD_HINT)
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
    "peerAddress": Field(IP(), "Address of the router.", required=True, unless="interface"),
    "sourceAddress": Field(IP(), "Address to connect from."),
    "peerPort": Field(Whole(0, 65535), "TCP port of the router.", default=179),
    "holdTime": Field(
        Duration(), "Silence after which the session is down: 0s, or 3s and more; 90s if absent."
    ),
    "keepaliveTime": Field(Duration(), "Always a third of the hold time."),
    "routerID": Field(IP(4), "BGP identifier of the speakers; without it, each node's own."),
    "nodeSelectors": Field(SELECTORS, "Nodes that talk to this router; without it, all.", default=()),
    "password": Field(
        Text(longest=1000), "Password of the session (TCP MD5), in clear text. Better: passwordSecret."
    ),
    "ebgpMultiHop": Field(Flag(), "The router of the other AS is more than one hop away.", default=False),
    "bfdProfile": Field(
        Text(),
        "Name of a BFDProfile.",
        unserved="BFD is not served yet; the session runs without it and relies on the hold time",
        hint="set holdTime to the time after which a dead router should be noticed, 3s at least",
        ignored=True,
    ),
}
_PEER_2 = {
    "passwordSecret": Field(_SECRET, "Secret with the password of the session, under the key password."),
    "dynamicASN": Field(
        Choice(("internal", "external")),
        "Take the router's AS number as it comes.",
        unserved=f"dynamicASN {_NOT_YET}",
        hint="write the router's AS number as peerASN",
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
        Whole(1, 2**32 - 1),
        "AS number that only this router sees.",
        unserved=f"localASN {_NOT_YET}",
        hint="write the AS number that the router expects as myASN",
    ),
    "connectTime": Field(
        Duration(),
        "Time between attempts to connect.",
        unserved=f"connectTime {_NOT_YET}; attempts to connect follow the engine's own pace",
        hint="remove it",
        ignored=True,
    ),
    "enableGracefulRestart": Field(
        Flag(),
        "Routes survive a restart of the speaker.",
        unserved=f"graceful restart {_NOT_YET}; routes are withdrawn while the speaker is away",
        hint="remove it, or give the service several nodes",
        ignored=True,
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
PEER = Record({**_PEER, **_PEER_2}, rules=(*_HOLD_TIME_RULES, *_IDENTITY_RULES, *_PASSWORD_RULES))
PEER_OLD = Record(_PEER, dict.fromkeys(_PEER_2, known_in(METALLB_2)))

# --- all of it ------------------------------------------------------------------------------------------


def peer(name: str, spec: Spec, place: Place, secrets: Mapping[str, str] | None) -> Peer | None:
    namespace = place.document.namespace
    place = place.at("spec")
    hold_time_s = _hold_time_s(spec, place)
    _check_identity(spec, place)
    reference = _secret_reference(spec, namespace, place)
    password = _password(spec["password"], reference, secrets, place)
    if place.refused or hold_time_s is None:
        return None
    return Peer(
        name=name,
        my_asn=spec["myASN"],
        peer_asn=spec["peerASN"],
        address=spec["peerAddress"],
        port=spec["peerPort"] or 179,
        source_address=spec["sourceAddress"],
        router_id=spec["routerID"],
        hold_time_s=hold_time_s,
        ebgp_multihop=spec["ebgpMultiHop"],
        node_selectors=spec["nodeSelectors"],
        password=password,
        password_secret=reference,
    )
