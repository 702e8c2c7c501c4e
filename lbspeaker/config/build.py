"""Parsed records → the model's values, with the rules that one object alone can break.

Each function takes the record of a kind's schema (`kinds.py`) and the place of the object; it returns None
when it told the place an error.
"""

from collections.abc import Mapping
from typing import Any

from lbspeaker.config.communities import FORMS, canonical
from lbspeaker.config.place import Place, did_you_mean, shown
from lbspeaker.model import (
    BGPAdvertisement,
    L2Advertisement,
    NodePreference,
    Peer,
    Pool,
    Scope,
    SecretRef,
    ServiceAllocation,
)

Spec = Mapping[str, Any]
HOLD_TIME_S = 90  # RFC 4271 §10 suggests it
_PASSWORD_BYTES = 80  # TCP_MD5SIG_MAXKEYLEN of Linux


def pool(name: str, labels: Mapping[str, str], spec: Spec) -> Pool:
    allocation = spec["serviceAllocation"]
    return Pool(
        name=name,
        ranges=spec["addresses"],
        labels=labels,
        auto_assign=spec["autoAssign"],
        avoid_buggy_ips=spec["avoidBuggyIPs"],
        service_allocation=None
        if allocation is None
        else ServiceAllocation(
            priority=allocation["priority"],
            namespaces=frozenset(allocation["namespaces"]),
            namespace_selectors=allocation["namespaceSelectors"],
            service_selectors=allocation["serviceSelectors"],
        ),
    )


def l2_advertisement(name: str, spec: Spec) -> L2Advertisement:
    preferences = tuple(
        NodePreference(weight, selector) for weight, selector in spec["preferredNodeSelectors"]
    )
    return L2Advertisement(name, _scope(spec), frozenset(spec["interfaces"]), preferences)


def bgp_advertisement(
    name: str, spec: Spec, aliases: Mapping[str, str | None], place: Place
) -> BGPAdvertisement | None:
    """`aliases`: what Community objects call by a name; None for a name whose object is refused."""
    place = place.at("spec")
    communities = [
        _community(text, aliases, place.at("communities", number))
        for number, text in enumerate(spec["communities"])
    ]
    lengths = spec["aggregationLength"], spec["aggregationLengthV6"]
    if spec["serviceSelectors"] and lengths != (32, 128):
        place.at("serviceSelectors").error(
            "serviceSelectors and an aggregation length exclude each other: an aggregate is announced for all"
            " services in it",
            "remove aggregationLength and aggregationLengthV6, or the selectors",
        )
    if place.refused:
        return None
    return BGPAdvertisement(
        name=name,
        scope=_scope(spec),
        peers=frozenset(spec["peers"]),
        aggregation_length=lengths[0],
        aggregation_length_v6=lengths[1],
        local_pref=spec["localPref"] or None,
        communities=tuple(dict.fromkeys(text for text in communities if text)),
    )


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


def _scope(spec: Spec) -> Scope:
    return Scope(
        pools=frozenset(spec["ipAddressPools"]),
        pool_selectors=spec["ipAddressPoolSelectors"],
        node_selectors=spec["nodeSelectors"],
        service_selectors=spec["serviceSelectors"],
    )


def _community(text: str, aliases: Mapping[str, str | None], place: Place) -> str | None:
    value = aliases[text] if text in aliases else canonical(text)
    if value is None and text in aliases:
        place.error(f"the Community object that defines {shown(text)} is refused", "correct that object")
    elif value is None:
        hint = FORMS if ":" in text else did_you_mean(text, aliases)
        place.error(f"{shown(text)} is neither a community nor the name of one", hint or FORMS)
    return value


def _hold_time_s(spec: Spec, place: Place) -> int | None:
    """RFC 4271 §4.2: zero, or at least three seconds, in 16 bits."""
    hold_s, keepalive_s = spec["holdTime"], spec["keepaliveTime"]
    key = "keepaliveTime" if hold_s is None and keepalive_s is not None else "holdTime"
    if hold_s is None:
        hold_s = HOLD_TIME_S if keepalive_s is None else 3 * keepalive_s
    if hold_s != int(hold_s) or not (hold_s == 0 or 3 <= hold_s <= 65535):
        what = f"the hold time, {_seconds(hold_s)}, is not 0s or whole seconds from 3s to 65535s"
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


def _check_identity(spec: Spec, place: Place) -> None:
    """AS numbers and addresses that contradict each other."""
    for key, whose in (("myASN", "the speakers"), ("peerASN", "the router")):
        if spec[key] == 0:
            place.at(key).error("0 is not an AS number (RFC 7607)", f"write the AS number of {whose}")
    if spec["ebgpMultiHop"] and spec["myASN"] == spec["peerASN"]:
        place.at("ebgpMultiHop").error(
            "both ends are in the same AS, and only sessions between two ASs have hops to count",
            "remove ebgpMultiHop",
        )
    address, source, router_id = spec["peerAddress"], spec["sourceAddress"], spec["routerID"]
    if source is not None and address is not None and source.version != address.version:
        place.at("sourceAddress").error(
            f"{source} and peerAddress {address} are of different families",
            f"write an IPv{address.version} address",
        )
    if router_id is not None and int(router_id) == 0:
        place.at("routerID").error("0.0.0.0 is not a BGP identifier (RFC 6286)", "remove routerID")


def _secret_reference(spec: Spec, namespace: str, place: Place) -> SecretRef | None:
    """The Secret is in the peer's own namespace, whatever the reference says."""
    reference = spec.get("passwordSecret")
    if not reference or not (reference["name"] or reference["namespace"]):
        return None
    if not reference["name"]:
        place.at("passwordSecret").error("name is missing", "write the name of the Secret")
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
        place.at("password").error("password and passwordSecret exclude each other", "remove password")
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
        what = f"{whose} is not 1 to {_PASSWORD_BYTES} printable ASCII characters"
        place.error(what, "use letters, digits and punctuation; look for a line break at its end")
        return None
    return password
