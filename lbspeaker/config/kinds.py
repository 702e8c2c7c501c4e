"""The kinds of configuration: which versions serve them, and their fields, once for reading and for the CRDs.

Names and meanings are those of MetalLB's kinds, so that its documents work unchanged.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from lbspeaker.config.addresses import IP, RangeOrCidr
from lbspeaker.config.communities import FORMS, canonical
from lbspeaker.config.place import Place, shown
from lbspeaker.config.schema import (
    AnyObjects,
    Anything,
    Choice,
    Duration,
    Field,
    Flag,
    ListOf,
    Made,
    Record,
    Schema,
    Text,
    Whole,
)
from lbspeaker.config.selectors import LABEL_SELECTOR, LABELS, SELECTORS

OURS = "lbspeaker.io/v1beta1"
METALLB = "metallb.io/v1beta1"
METALLB_2 = "metallb.io/v1beta2"

_NAME = Text(
    "[a-z0-9]([-a-z0-9.]{0,251}[a-z0-9])?",
    "a name of an object",
    "use small letters, digits, - and . (not first or last)",
)
_LINK = Text("[^/\\s:%]{1,15}", "a name that an interface can have", "write a name as `ip link` shows it")
_NAMES = ListOf(Text())
_ASN = Whole(0, 2**32 - 1)

# --- IPAddressPool --------------------------------------------------------------------------------------

_ALLOCATION = Record(
    {
        "priority": Field(
            Whole(-(2**31), 2**31 - 1),
            "Pools with a lower priority are asked first; 0 comes last.",
            default=0,
        ),
        "namespaces": Field(_NAMES, "Namespaces whose services may use the pool.", default=()),
        "namespaceSelectors": Field(SELECTORS, "Selects such namespaces by their labels.", default=()),
        "serviceSelectors": Field(SELECTORS, "Services that may use the pool.", default=()),
    }
)
POOL = Record(
    {
        "addresses": Field(
            ListOf(RangeOrCidr(), at_least=1),
            "Ranges of service IPs, used in this order: 192.0.2.0/24 or 192.0.2.10-192.0.2.20.",
            required=True,
            hint="write addresses: [192.0.2.10-192.0.2.20]",
        ),
        "autoAssign": Field(
            Flag(), "Whether services get IPs of this pool without asking for it by name.", default=True
        ),
        "avoidBuggyIPs": Field(Flag(), "Leave out IPv4 addresses that end in .0 or .255.", default=False),
        "serviceAllocation": Field(_ALLOCATION, "Which services the pool is for; without it, all."),
    }
)

# --- advertisements -------------------------------------------------------------------------------------

_SCOPE = {
    "ipAddressPools": Field(
        _NAMES, "Names of the pools to announce. Neither names nor selectors: all.", default=()
    ),
    "ipAddressPoolSelectors": Field(
        SELECTORS, "Selects pools by their labels, besides those named.", default=()
    ),
    "nodeSelectors": Field(SELECTORS, "Nodes that announce; without it, all.", default=()),
    "serviceSelectors": Field(SELECTORS, "Services to announce; without it, all.", default=()),
}
_PREFERENCE = Record(
    {
        "weight": Field(Whole(1, 100), "What a node gains in the election.", required=True),
        "preference": Field(LABEL_SELECTOR, "The nodes that gain it.", required=True),
    }
)
L2_ADVERTISEMENT = Record(
    {
        **_SCOPE,
        "interfaces": Field(ListOf(_LINK), "Links to announce on; without it, all that fit.", default=()),
        "preferredNodeSelectors": Field(
            ListOf(Made(_PREFERENCE, lambda parsed, _: (parsed["weight"], parsed["preference"]))),
            "Nodes that are preferred as owner, by weight; weights add up.",
            default=(),
        ),
    }
)
BGP_ADVERTISEMENT = Record(
    {
        **_SCOPE,
        "peers": Field(_NAMES, "Names of the BGPPeers to announce to; without it, all.", default=()),
        "aggregationLength": Field(Whole(1, 32), "Length of the announced IPv4 prefixes.", default=32),
        "aggregationLengthV6": Field(Whole(1, 128), "Length of the announced IPv6 prefixes.", default=128),
        "localPref": Field(
            Whole(0, 2**32 - 1), "LOCAL_PREF of the routes (iBGP only); 0: none is set.", default=0
        ),
        "communities": Field(
            _NAMES,
            "Communities of the routes: values, names of Community objects, well-known names.",
            default=(),
        ),
    }
)

# --- BGPPeer --------------------------------------------------------------------------------------------

_SECRET = Record(
    {
        "name": Field(Text(), "Name of a Secret of type kubernetes.io/basic-auth."),
        "namespace": Field(Text(), "Its namespace: the peer's own."),
    }
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
    "password": Field(Text(), "Password of the session (TCP MD5), in clear text. Better: passwordSecret."),
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
PEER = Record({**_PEER, **_PEER_2})
PEER_OLD = Record(_PEER, dict.fromkeys(_PEER_2, f"write apiVersion: {METALLB_2}, which has this key"))

# --- Community ------------------------------------------------------------------------------------------


def _community(text: str, place: Place) -> str | None:
    value = canonical(text)
    if value is None:
        place.error(f"{shown(text)} is not a community", FORMS)
    return value


_ALIAS = Record(
    {
        "name": Field(Text(), "Name for use in BGPAdvertisements.", required=True),
        "value": Field(
            Made(Text(), _community), "The community: 64512:31 or large:64512:1:2.", required=True
        ),
    }
)
COMMUNITY = Record(
    {
        "communities": Field(
            ListOf(Made(_ALIAS, lambda parsed, _: (parsed["name"], parsed["value"]))),
            "Names for communities.",
            required=True,
        )
    }
)

# --- EffectiveConfiguration -----------------------------------------------------------------------------

EFFECTIVE = Record(
    {
        "documents": Field(
            AnyObjects(), "The accepted configuration objects, written by the controller.", default=()
        )
    }
)

# --- all of them ----------------------------------------------------------------------------------------


Column = tuple[str, str, str]  # title, JSON path, type


@dataclass(frozen=True, slots=True)
class Kind:
    """A kind: the versions that serve it, each with its spec, and how kubectl calls and prints it."""

    name: str
    plural: str
    description: str
    versions: Mapping[str, Record]
    short: str = ""
    columns: tuple[Column, ...] = ()


_POOLS: Column = ("Pools", ".spec.ipAddressPools", "string")
_AGE: Column = ("Age", ".metadata.creationTimestamp", "date")

_ALL = (
    Kind(
        "IPAddressPool",
        "ipaddresspools",
        "Service IPs that may be given to services.",
        {OURS: POOL, METALLB: POOL},
        "ippool",
        (
            ("Addresses", ".spec.addresses", "string"),
            ("Auto Assign", ".spec.autoAssign", "boolean"),
            _AGE,
        ),
    ),
    Kind(
        "L2Advertisement",
        "l2advertisements",
        "Announces the service IPs of pools by ARP and NDP.",
        {OURS: L2_ADVERTISEMENT, METALLB: L2_ADVERTISEMENT},
        "l2ad",
        (_POOLS, ("Interfaces", ".spec.interfaces", "string"), _AGE),
    ),
    Kind(
        "BGPPeer",
        "bgppeers",
        "A router that the speakers have BGP sessions with.",
        {OURS: PEER, METALLB_2: PEER, METALLB: PEER_OLD},
        "",
        (("Address", ".spec.peerAddress", "string"), ("ASN", ".spec.peerASN", "integer"), _AGE),
    ),
    Kind(
        "BGPAdvertisement",
        "bgpadvertisements",
        "Announces the service IPs of pools by BGP.",
        {OURS: BGP_ADVERTISEMENT, METALLB: BGP_ADVERTISEMENT},
        "bgpad",
        (_POOLS, ("Peers", ".spec.peers", "string"), _AGE),
    ),
    Kind(
        "Community",
        "communities",
        "Names for BGP communities.",
        {OURS: COMMUNITY, METALLB: COMMUNITY},
        columns=(_AGE,),
    ),
    Kind(
        "EffectiveConfiguration",
        "effectiveconfigurations",
        "All that the controller accepted; the one thing that speakers read. Not for editing.",
        {OURS: EFFECTIVE},
        "effconf",
        (_AGE,),
    ),
)
KINDS = {kind.name: kind for kind in _ALL}
# Known kinds of MetalLB's group that say nothing to us: what it writes itself.
LEFT_ALONE = {"ServiceL2Status", "ServiceBGPStatus", "ConfigurationState"}
BFD_PROFILE = "BFDProfile"


def _metadata() -> Record:
    kept: dict[str, Schema] = {"name": _NAME, "namespace": _NAME, "labels": LABELS}
    others = (
        "annotations creationTimestamp deletionGracePeriodSeconds deletionTimestamp finalizers generateName"
        " generation managedFields ownerReferences resourceVersion selfLink uid"
    )
    fields = {key: Field(schema, "", required=key == "name") for key, schema in kept.items()}
    return Record({**fields, **{key: Field(Anything(), "") for key in others.split()}})


METADATA = _metadata()


def envelope(spec: Record) -> Record:
    """Return the schema of a whole object whose spec is `spec`."""
    fields: dict[str, Field] = {key: Field(Text(), "") for key in ("apiVersion", "kind")}
    fields["metadata"] = Field(METADATA, "", required=True, hint="write metadata: {name: …}")
    fields["spec"] = Field(spec, "What is wanted.", required=spec.demanding, default=spec.defaults())
    fields["status"] = Field(Anything(), "")
    return Record(fields)


ENVELOPES: Mapping[tuple[str, str], Record] = {
    (kind.name, version): envelope(spec) for kind in KINDS.values() for version, spec in kind.versions.items()
}
