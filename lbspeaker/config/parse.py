"""Documents → Config, and every problem in them.

Each object is judged on its own: one that has an error is left out, and the others are used. Afterwards come
the rules between objects. No default is applied anywhere else, and nothing of this is checked again.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from lbspeaker.config import rules
from lbspeaker.config.advertisements import bgp_advertisement, l2_advertisement
from lbspeaker.config.bfd import bfd_profile
from lbspeaker.config.documents import Document, unpack
from lbspeaker.config.identity import identify, is_meant
from lbspeaker.config.linkpolicies import link_policy
from lbspeaker.config.peers import peer
from lbspeaker.config.place import Place
from lbspeaker.config.pools import DeclaredPool, pool
from lbspeaker.config.rules import Declared
from lbspeaker.errors import Problem
from lbspeaker.model import BFDProfile, BGPAdvertisement, Config, L2Advertisement, LinkPolicy, Peer


@dataclass(frozen=True, slots=True)
class _Object:
    """One document of ours. `spec` is None when its own fields are wrong."""

    name: str
    place: Place
    metadata: Mapping[str, Any] = field(default_factory=dict)
    spec: Mapping[str, Any] | None = None


_Objects = dict[str, dict[str, _Object]]  # by kind and name


def is_configuration(document: Document) -> bool:
    """Return whether the document is of our kinds, or meant to be: kind, group or version misspelt.

    Only then does `parse` say anything about it. A list is not; look at what it holds (`documents.unpack`).
    """
    return is_meant(document)


def parse(
    documents: Sequence[Document], secrets: Mapping[str, str] | None = None
) -> tuple[Config, list[Problem]]:
    """Return what the documents say, and everything that is wrong in them, in the order of the documents.

    `secrets` has passwords by "namespace/name" of their Secret. None: Secrets are not known here, and a
    peer keeps its `password_secret`; otherwise a peer whose Secret is missing is refused.
    Documents of other kinds are ignored. Never raises for what is in a document.
    """
    unpacked, problems = unpack(documents)
    places = [Place(document, []) for document in unpacked]
    objects: _Objects = {}
    for place in places:
        _declare(place, objects)
    config = _resolve(objects, secrets)
    for place in places:
        problems += sorted(place.problems, key=lambda problem: problem.line or 0)
    return config, problems


def _declare(place: Place, objects: _Objects) -> None:
    """Read one document on its own, and file it under its kind and name."""
    identity = identify(place)
    if identity.schema is None:
        return
    parsed = identity.schema.parse(place.document.value, place)
    name = place.document.name
    same = objects.setdefault(identity.kind, {})
    if name in same:
        other = same[name].place
        place.at("metadata", "name").error(
            f"{identity.kind}/{name} is defined already{other.aside}", "rename one of the two, or remove it"
        )
    elif parsed is None or place.refused:
        same[name] = _Object(name, place)
    else:
        same[name] = _Object(name, place, parsed["metadata"], parsed["spec"])


def _resolve(objects: _Objects, secrets: Mapping[str, str] | None) -> Config:
    pools = _pools(objects)
    profiles = _bfd_profiles(objects)
    peers = _peers(objects, secrets, profiles)
    rules.warn_given_away(peers, pools)
    return Config(
        pools=tuple(one.value for one in pools),
        l2_advertisements=_l2_advertisements(objects),
        bgp_advertisements=_bgp_advertisements(objects, pools, peers),
        peers=tuple(one.value for one in peers),
        link_policies=_link_policies(objects),
        bfd_profiles=tuple(profile for profile in profiles.values() if profile is not None),
    )


def _right(objects: _Objects, kind: str) -> list[tuple[_Object, Mapping[str, Any]]]:
    return [(one, one.spec) for one in objects.get(kind, {}).values() if one.spec is not None]


def _pools(objects: _Objects) -> list[DeclaredPool]:
    built = [
        pool(
            one.name,
            one.metadata["labels"] or {},
            spec,
            one.place,
            deleted=one.metadata["deletionTimestamp"] is not None,
        )
        for one, spec in _right(objects, "IPAddressPool")
    ]
    return rules.without_overlaps(one for one in built if one is not None)


def _bfd_profiles(objects: _Objects) -> dict[str, BFDProfile | None]:
    """By name; None for those that are refused."""
    profiles: dict[str, BFDProfile | None] = dict.fromkeys(objects.get("BFDProfile", {}))
    return profiles | {one.name: bfd_profile(one.name, spec) for one, spec in _right(objects, "BFDProfile")}


def _peers(
    objects: _Objects, secrets: Mapping[str, str] | None, profiles: Mapping[str, BFDProfile | None]
) -> list[Declared[Peer]]:
    peers = []
    for one, spec in _right(objects, "BGPPeer"):
        built = peer(one.name, spec, one.place, secrets, profiles)
        if built is not None:
            peers.append(Declared(one.place, built))
    rules.warn_same_router(peers)
    return peers


def _l2_advertisements(objects: _Objects) -> tuple[L2Advertisement, ...]:
    found = []
    for one, spec in _right(objects, "L2Advertisement"):
        rules.warn_unknown(one.place, "ipAddressPools", "IPAddressPool", objects.get("IPAddressPool", {}))
        found.append(l2_advertisement(one.name, spec))
    return tuple(found)


def _link_policies(objects: _Objects) -> tuple[LinkPolicy, ...]:
    """By name, which is the order in which they count."""
    found = [
        Declared(one.place, link_policy(one.name, spec, one.place))
        for one, spec in _right(objects, "LinkPolicy")
    ]
    found.sort(key=lambda one: one.value.name)
    rules.warn_never_first(found)
    return tuple(one.value for one in found)


def _bgp_advertisements(
    objects: _Objects, pools: list[DeclaredPool], peers: list[Declared[Peer]]
) -> tuple[BGPAdvertisement, ...]:
    aliases = _aliases(objects)
    declared: list[Declared[BGPAdvertisement]] = []
    for one, spec in _right(objects, "BGPAdvertisement"):
        rules.warn_unknown(one.place, "ipAddressPools", "IPAddressPool", objects.get("IPAddressPool", {}))
        rules.warn_unknown(one.place, "peers", "BGPPeer", objects.get("BGPPeer", {}))
        ad = bgp_advertisement(one.name, spec, aliases, one.place)
        if ad is not None:
            found = Declared(one.place, ad)
            rules.check_aggregation(found, pools)
            if not one.place.refused:
                declared.append(found)
    usable = {peer.value.name: peer.value for peer in peers}
    rules.warn_no_effect(declared, usable.values(), objects.get("BGPPeer", {}).keys() - usable.keys())
    return tuple(ad.value for ad in rules.check_preferences(declared, pools))


def _aliases(objects: _Objects) -> dict[str, str | None]:
    """Values of communities by name; None for names that only refused objects give."""
    aliases: dict[str, str | None] = {}
    for one, spec in _right(objects, "Community"):
        own: dict[str, str] = {}
        for number, (name, value) in enumerate(spec["communities"]):
            if name in aliases or name in own:
                where = one.place.at("spec", "communities", number, "name")
                where.error(
                    f"the community {name} has a value already", "rename one of the two, or remove it"
                )
            own[name] = value
        if not one.place.refused:
            aliases.update(own)
    for one in objects.get("Community", {}).values():
        if one.place.refused:
            for name in _names_in(one.place.document):
                aliases.setdefault(name, None)
    return aliases


def _names_in(document: Document) -> list[str]:
    spec = document.value.get("spec")
    entries = spec.get("communities") if isinstance(spec, Mapping) else None
    names = (
        [entry.get("name") for entry in entries if isinstance(entry, Mapping)]
        if isinstance(entries, list)
        else []
    )
    return [name for name in names if isinstance(name, str)]
