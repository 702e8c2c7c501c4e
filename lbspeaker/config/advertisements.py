"""L2Advertisement and BGPAdvertisement: their fields, and what they mean."""

from collections.abc import Mapping
from typing import Any

from lbspeaker.config.cel import Rule
from lbspeaker.config.communities import FORMS, canonical
from lbspeaker.config.place import Place, did_you_mean, shown
from lbspeaker.config.schema import Field, ListOf, Made, Record
from lbspeaker.config.selectors import LABEL_SELECTOR, SELECTORS
from lbspeaker.config.values import Choice, Flag, Text, Whole
from lbspeaker.config.versions import OURS, known_in
from lbspeaker.model import BGPAdvertisement, L2Advertisement, NodePreference, Scope

Spec = Mapping[str, Any]

NAMES = ListOf(Text())
_LINK = Text(
    "[^/\\s:%]{1,15}",
    "a name that an interface can have",
    "write a name as `ip link` shows it",
    longest=64,
)
LINKS = ListOf(_LINK, most=1000)

_SCOPE = {
    "ipAddressPools": Field(
        NAMES,
        "Names of the pools to announce.",
        default=(),
        absent="those that the selectors select; without both, all",
    ),
    "ipAddressPoolSelectors": Field(
        SELECTORS, "Selects pools by their labels, besides those named.", default=()
    ),
    "nodeSelectors": Field(SELECTORS, "Nodes that announce.", default=(), absent="all"),
    "serviceSelectors": Field(SELECTORS, "Services to announce.", default=(), absent="all"),
}


def _scope(spec: Spec) -> Scope:
    return Scope(
        pools=frozenset(spec["ipAddressPools"]),
        pool_selectors=spec["ipAddressPoolSelectors"],
        node_selectors=spec["nodeSelectors"],
        service_selectors=spec["serviceSelectors"],
    )


# --- layer 2 --------------------------------------------------------------------------------------------

_PREFERENCE = Record(
    {
        "weight": Field(Whole(1, 100), "What a node gains in the election.", required=True),
        "preference": Field(LABEL_SELECTOR, "The nodes that gain it.", required=True),
    }
)
_L2 = {
    **_SCOPE,
    "interfaces": Field(LINKS, "Links to announce on.", default=(), absent="all that fit"),
    "preferredNodeSelectors": Field(
        ListOf(Made(_PREFERENCE, lambda parsed, _: (parsed["weight"], parsed["preference"])), most=1000),
        "Nodes that are preferred as owner, by weight; weights add up.",
        default=(),
    ),
}
_L2_OURS_ONLY = {
    "anySubnet": Field(
        Flag(),
        "A link fits also if the IP is in none of its networks. Without interfaces, this is every link.",
        default=False,
    ),
    "failback": Field(
        Choice(("Always", "Never")),
        "Whether an IP goes back to a node that is better placed, when that returns. Never: who owns an IP"
        " keeps it while it lives.",
        default="Always",
    ),
    "onCordon": Field(
        Choice(("Stay", "Move")),
        "What becomes of the IPs of a node that is cordoned: they stay, or move to others, a few at a time.",
        default="Stay",
    ),
}
L2_ADVERTISEMENT = Record({**_L2, **_L2_OURS_ONLY})
L2_ADVERTISEMENT_OF_METALLB = Record(_L2, dict.fromkeys(_L2_OURS_ONLY, known_in(OURS)))


def l2_advertisement(name: str, spec: Spec) -> L2Advertisement:
    spec = {**L2_ADVERTISEMENT.defaults(), **spec}
    preferences = tuple(
        NodePreference(weight, selector) for weight, selector in spec["preferredNodeSelectors"]
    )
    return L2Advertisement(
        name=name,
        scope=_scope(spec),
        interfaces=frozenset(spec["interfaces"]),
        preferences=preferences,
        any_subnet=spec["anySubnet"],
        failback=spec["failback"],
        on_cordon=spec["onCordon"],
    )


# --- BGP ------------------------------------------------------------------------------------------------

_AGGREGATE_OF_SOME = (
    "serviceSelectors and an aggregation length exclude each other: an aggregate is announced for all"
    " services in it",
    "remove aggregationLength and aggregationLengthV6, or the selectors",
)
_BGP = {
    **_SCOPE,
    "peers": Field(NAMES, "Names of the BGPPeers to announce to.", default=(), absent="all"),
    "aggregationLength": Field(Whole(1, 32), "Length of the announced IPv4 prefixes.", default=32),
    "aggregationLengthV6": Field(Whole(1, 128), "Length of the announced IPv6 prefixes.", default=128),
    "localPref": Field(
        Whole(0, 2**32 - 1), "LOCAL_PREF of the routes (iBGP only); 0: none is set.", default=0
    ),
    "communities": Field(
        NAMES,
        "Communities of the routes: values, names of Community objects, well-known names.",
        default=(),
    ),
}
_BGP_OURS_ONLY = {
    "med": Field(
        Whole(0, 2**32 - 1),
        "MULTI_EXIT_DISC of the routes: the router prefers the lowest of one AS.",
        absent="none is set",
    ),
    "asPathPrepend": Field(
        Whole(0, 10),
        "How many times more than once the speakers' AS is in the path: longer ones are preferred less."
        " Nothing within one AS.",
        default=0,
    ),
    "whenNoEndpoints": Field(
        Choice(("Withdraw", "Keep")),
        "What becomes of the routes of a service without any endpoint that serves.",
        default="Withdraw",
    ),
    "onCordon": Field(
        Choice(("Stay", "Move")),
        "What a node that is cordoned announces: the same, or with the community GRACEFUL_SHUTDOWN"
        " (RFC 8326), so that routers prefer the other nodes.",
        default="Stay",
    ),
}
_BGP_RULES = (
    Rule(
        "!has(self.serviceSelectors) || size(self.serviceSelectors) == 0"
        " || ((!has(self.aggregationLength) || self.aggregationLength == 32)"
        " && (!has(self.aggregationLengthV6) || self.aggregationLengthV6 == 128))",
        *_AGGREGATE_OF_SOME,
        key="serviceSelectors",
    ),
)
BGP_ADVERTISEMENT = Record({**_BGP, **_BGP_OURS_ONLY}, rules=_BGP_RULES)
BGP_ADVERTISEMENT_OF_METALLB = Record(_BGP, dict.fromkeys(_BGP_OURS_ONLY, known_in(OURS)), rules=_BGP_RULES)


def bgp_advertisement(
    name: str, spec: Spec, aliases: Mapping[str, str | None], place: Place
) -> BGPAdvertisement | None:
    """Return None when `place`, that of the object, was told an error.

    `aliases`: what Community objects call by a name; None for a name whose object is refused.
    """
    place = place.at("spec")
    spec = {**BGP_ADVERTISEMENT.defaults(), **spec}
    communities = [
        _community(text, aliases, place.at("communities", number))
        for number, text in enumerate(spec["communities"])
    ]
    lengths = spec["aggregationLength"], spec["aggregationLengthV6"]
    if spec["serviceSelectors"] and lengths != (32, 128):
        place.at("serviceSelectors").error(*_AGGREGATE_OF_SOME)
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
        med=spec["med"],
        prepend=spec["asPathPrepend"],
        when_no_endpoints=spec["whenNoEndpoints"],
        on_cordon=spec["onCordon"],
    )


def _community(text: str, aliases: Mapping[str, str | None], place: Place) -> str | None:
    value = aliases[text] if text in aliases else canonical(text)
    if value is None and text in aliases:
        place.error(f"the Community object that defines {shown(text)} is refused", "correct that object")
    elif value is None:
        hint = FORMS if ":" in text else did_you_mean(text, aliases)
        place.error(f"{shown(text)} is neither a community nor the name of one", hint or FORMS)
    return value
