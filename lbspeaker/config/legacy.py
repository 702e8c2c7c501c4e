"""MetalLB's configuration from before its version 0.13, as the objects that MetalLB's own converter made.

Each object (of the group metallb.io) has the lines of the old text, so that whatever is found wrong in it is
told where its writer can find it. Only the old form is judged here: its keys, its lists, and the protocol of
a pool. Values are left to `parse`.

AddressPool, which came between the two forms, says the same as a pool of the ConfigMap.
"""

from collections.abc import Iterator, Mapping, Sequence

from lbspeaker.config.configmap import TOP, Old
from lbspeaker.config.documents import Document
from lbspeaker.config.kinds import METALLB, METALLB_2
from lbspeaker.config.names import Names
from lbspeaker.config.place import Place, described, did_you_mean, shown
from lbspeaker.config.renaming import Key, Keys, Spot, as_text, list_of, text_map
from lbspeaker.errors import Problem

ADDRESS_POOL = "AddressPool"

_PROTOCOLS = ("layer2", "bgp")
_HOLD_TIME = "90s"  # MetalLB's default, whatever the keepalive time; ours is three times the latter

# --- the keys, old and new -------------------------------------------------------------------------------

_NODES = Keys(
    {
        "match-labels": Key("matchLabels", text_map),
        "match-expressions": Key(
            "matchExpressions",
            list_of(
                Keys(
                    {
                        "key": Key("key", as_text),
                        "operator": Key("operator", as_text),
                        "values": Key("values", list_of(as_text)),
                    }
                )
            ),
        ),
    }
)
_PEER = Keys(
    {
        "my-asn": Key("myASN"),
        "peer-asn": Key("peerASN"),
        "peer-address": Key("peerAddress"),
        "peer-port": Key("peerPort", default=179),
        "source-address": Key("sourceAddress"),
        "router-id": Key("routerID"),
        "hold-time": Key("holdTime", default=_HOLD_TIME),
        "keepalive-time": Key("keepaliveTime"),
        "ebgp-multihop": Key("ebgpMultiHop", default=False),
        "bfd-profile": Key("bfdProfile", as_text),
        "password": Key("password", as_text),
        "node-selectors": Key("nodeSelectors", list_of(_NODES)),
    }
)
_AD = Keys(
    {
        "aggregation-length": Key("aggregationLength", default=32),
        "aggregation-length-v6": Key("aggregationLengthV6", default=128),
        "localpref": Key("localPref", default=0),
        "communities": Key("communities", list_of(as_text)),
    },
    hints={"local-pref": "did you mean localpref?"},
)
_POOL = Keys(
    {
        "addresses": Key("addresses", list_of(as_text)),
        "auto-assign": Key("autoAssign", default=True),
        "avoid-buggy-ips": Key("avoidBuggyIPs", default=False),
    },
    apart=("name", "protocol", "bgp-advertisements"),
    hints={"cidr": "did you mean addresses?", "advertisements": "did you mean bgp-advertisements?"},
)
_PROFILE = Keys(
    {
        "receive-interval": Key("receiveInterval"),
        "transmit-interval": Key("transmitInterval"),
        "detect-multiplier": Key("detectMultiplier"),
        "echo-interval": Key("echoInterval"),
        "echo-mode": Key("echoMode", default=False),
        "passive-mode": Key("passiveMode", default=False),
        "minimum-ttl": Key("minimumTtl"),
    },
    apart=("name",),
)
_TOP = Keys({}, apart=TOP)


def _renamed(keys: Keys, apart: tuple[str, ...]) -> Keys:
    """The same under the names of AddressPool, which are the new ones."""
    return Keys({key.new: key for key in keys.keys.values()}, apart)


_OBJECT_AD = _renamed(_AD, ())
_OBJECT_POOL = _renamed(_POOL, ("protocol", "bgpAdvertisements"))


# --- objects ---------------------------------------------------------------------------------------------


def convert(old: Old, names: Names) -> tuple[list[Document], list[Problem]]:
    """Return the objects of metallb.io that say the same, and what is wrong with the old form.

    Unknown keys, and entries that are no mappings, are told and left out; all else is in the objects.
    `names` learns the new names.
    """
    problems: list[Problem] = []
    top = Spot(old.value, Place(old.document, problems), old.source)
    _TOP.check(old.value, top.place)
    pools, profiles = list(_entries(top, "address-pools")), list(_entries(top, "bfd-profiles"))
    pool_names = _valid_names("IPAddressPool", pools, names)
    profile_names = _valid_names("BFDProfile", profiles, names)
    documents = []
    for pool in pools:
        documents += _pool(pool, pool_names[_given_name(pool)], names)
    documents += [
        _object("BFDProfile", profile_names[_given_name(profile)], profile, _PROFILE) for profile in profiles
    ]
    documents += [_peer(peer, profile_names, names) for peer in _entries(top, "peers")]
    documents += _community(top, names)
    return documents, problems


def convert_address_pool(document: Document, text: str, names: Names) -> tuple[list[Document], list[Problem]]:
    """Return the IPAddressPool and the advertisements that say the same as an AddressPool."""
    problems: list[Problem] = []
    whole = Spot(document.value, Place(document, problems), text.split("\n"))
    if not isinstance(document.value.get("spec"), Mapping):
        return [], [document.problem(("spec",), "spec must be a mapping", "write protocol and addresses")]
    spec = whole.at("spec", "spec")
    value = {**document.value, "kind": "IPAddressPool", "spec": _OBJECT_POOL(spec)}
    pool = Document(document.file, value, document.lines)
    ads = _advertisements(spec, document.name, "bgpAdvertisements", _OBJECT_AD, names)
    return [pool, *ads], problems


def _entries(spot: Spot, key: str) -> Iterator[Spot]:
    """The mappings in the list under `key`; what is none is told and left out."""
    value = spot.value.get(key) if isinstance(spot.value, Mapping) else None
    if value is None:
        return
    if not isinstance(value, list):
        what = f"must be a list, and {described(value)} is not"
        spot.place.at(key).error(what, "begin each item with - ")
        return
    for number, item in enumerate(value):
        if isinstance(item, Mapping):
            yield spot.at(key, key).at(number, number)
        else:
            spot.place.at(key, number).error(f"must be a mapping, and {described(item)} is not")


def _given_name(entry: Spot) -> str:
    assert isinstance(entry.value, Mapping)
    name = as_text(entry.at("name", "name").going_to(())) if "name" in entry.value else ""
    return name if isinstance(name, str) else ""


def _valid_names(kind: str, entries: Sequence[Spot], names: Names) -> dict[str, str]:
    """The new names by the given ones; what is renamed, or has no name, is told."""
    valid = names.valid(kind, (_given_name(entry) for entry in entries))
    for entry in entries:
        given = _given_name(entry)
        if not given:
            what = f"name is missing; it becomes {valid[given]}"
            entry.place.error(what, "write name: and a name of small letters, digits and -")
        elif valid[given] != given:
            what = f"{shown(given)} cannot be the name of an object; it becomes {valid[given]}"
            hint = "Services that ask for the pool by its name must ask for the new one"
            entry.place.at("name").warn(what, hint if kind == "IPAddressPool" else "")
    return valid


def _object(
    kind: str, name: str, entry: Spot, keys: Keys, version: str = METALLB, pools: Sequence[str] = ()
) -> Document:
    """The object whose spec is what `entry` says; an advertisement, of `pools`."""
    whole = entry.going_to(())
    whole.note()
    spec = entry.going_to(("spec",))
    scope = {"ipAddressPools": list(pools)} if pools else {}
    made = keys(spec)
    assert isinstance(made, dict)
    value = {"apiVersion": version, "kind": kind, "metadata": {"name": name}, "spec": {**scope, **made}}
    lines = {**whole.lines, **spec.lines}
    given = entry.place.document.lines.get((*entry.place.path, "name"))
    return Document(
        entry.place.document.file, value, lines if given is None else {**lines, ("metadata", "name"): given}
    )


def _pool(entry: Spot, name: str, names: Names) -> list[Document]:
    pool = _object("IPAddressPool", name, entry, _POOL)
    return [pool, *_advertisements(entry, name, "bgp-advertisements", _AD, names)]


def _advertisements(entry: Spot, pool: str, key: str, keys: Keys, names: Names) -> list[Document]:
    """What announces the pool; `key` has its BGP advertisements."""
    assert isinstance(entry.value, Mapping)
    protocol = entry.value.get("protocol")
    if protocol == "layer2":
        if entry.value.get(key):
            hint = f"remove {key}, or write protocol: bgp"
            entry.place.at(key).error("a pool of protocol layer2 is not announced by BGP", hint)
        name = names.numbered("L2Advertisement", "l2advertisement")
        return [_object("L2Advertisement", name, _nothing(entry), Keys({}), pools=[pool])]
    if protocol == "bgp":
        plain = [] if entry.value.get(key) else [_nothing(entry)]
        return [
            _object(
                "BGPAdvertisement",
                names.numbered("BGPAdvertisement", "bgpadvertisement"),
                ad,
                keys,
                pools=[pool],
            )
            for ad in (*plain, *_entries(entry, key))
        ]
    _tell_protocol(protocol, entry.place)
    return []


def _tell_protocol(protocol: object, place: Place) -> None:
    word = protocol if isinstance(protocol, str) else ""
    hint = did_you_mean(word, _PROTOCOLS) or f"write protocol: {' or protocol: '.join(_PROTOCOLS)}"
    if protocol is None:
        place.error("protocol is missing; nothing announces the pool", hint)
    else:
        what = f"{described(protocol)} is not a protocol of MetalLB; nothing announces the pool"
        place.at("protocol").error(what, hint)


def _nothing(entry: Spot) -> Spot:
    """An entry at the same place that says nothing."""
    return Spot({}, entry.place, entry.source)


def _peer(entry: Spot, profiles: Mapping[str, str], names: Names) -> Document:
    peer = _object("BGPPeer", names.numbered("BGPPeer", "peer"), entry, _PEER, METALLB_2)
    spec = peer.value["spec"]
    assert isinstance(spec, dict)
    if "keepaliveTime" in spec:
        spec.setdefault("holdTime", _HOLD_TIME)
    if isinstance(spec.get("bfdProfile"), str):
        spec["bfdProfile"] = profiles.get(spec["bfdProfile"], spec["bfdProfile"])
    return peer


def _community(top: Spot, names: Names) -> list[Document]:
    """One object with all the names of communities."""
    assert isinstance(top.value, Mapping)
    key = "bgp-communities"
    given = top.value.get(key)
    if given is None or given == {}:
        return []
    if not isinstance(given, Mapping):
        what = f"must be a mapping, and {described(given)} is not"
        top.place.at(key).error(what, "write name: value, as in no-export: 65535:65281")
        return []
    entry = top.at(key, key).going_to(())
    entry.note()
    value = {
        "apiVersion": METALLB,
        "kind": "Community",
        "metadata": {"name": names.free("Community", "communities")},
        "spec": {"communities": [_alias(entry, name, number) for number, name in enumerate(given)]},
    }
    return [Document(entry.place.document.file, value, entry.lines)]


def _alias(entry: Spot, name: str, number: int) -> dict[str, object]:
    assert isinstance(entry.value, Mapping)
    path = ("spec", "communities", number)
    spot = Spot(entry.value[name], entry.place.at(name), entry.source, path, entry.lines)
    return {"name": name, "value": as_text(spot)}
