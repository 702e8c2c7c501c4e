"""BFDProfile: its fields, and what they mean."""

from collections.abc import Mapping
from typing import Any

from lbspeaker.config.place import Place, did_you_mean, shown
from lbspeaker.config.schema import Field, Record
from lbspeaker.config.values import Flag, Whole
from lbspeaker.model import BFDProfile

BFD_PROFILE = Record(
    {
        "receiveInterval": Field(
            Whole(10, 60000),
            "Milliseconds between packets that we can take.",
            default=300,
        ),
        "transmitInterval": Field(
            Whole(10, 60000),
            "Milliseconds between packets that we send.",
            default=300,
        ),
        "detectMultiplier": Field(
            Whole(2, 255),
            "After so many packets of ours that are missing the router gives up the session.",
            default=3,
        ),
        "echoInterval": Field(
            Whole(10, 60000), "Milliseconds between echo packets: of no use without echoMode."
        ),
        "echoMode": Field(
            Flag(),
            "Let the router's forwarding plane return echo packets.",
            unserved="echoMode is never served: the kernel would have to return the router's echo packets;"
            " the profile works without",
            hint="remove it; transmitInterval and receiveInterval say how fast a failure is noticed",
            ignored=True,
        ),
        "passiveMode": Field(Flag(), "Wait for the router to begin.", default=False),
        "minimumTtl": Field(
            Whole(1, 254),
            "Over several hops: packets with a lower TTL are dropped.",
            default=254,
        ),
    }
)


def bfd_profile(name: str, spec: Mapping[str, Any]) -> BFDProfile:
    return BFDProfile(
        name=name,
        receive_ms=spec["receiveInterval"],
        transmit_ms=spec["transmitInterval"],
        multiplier=spec["detectMultiplier"],
        passive=spec["passiveMode"],
        minimum_ttl=spec["minimumTtl"],
    )


def profile_of(
    spec: Mapping[str, Any], profiles: Mapping[str, BFDProfile | None], place: Place
) -> BFDProfile | None:
    """Return the profile that a BGPPeer names, if it names one; `place` (its spec) is told of a wrong name.

    `profiles`: by name; None for one that is refused.
    """
    name = spec["bfdProfile"]
    if not name:
        return None
    where = place.at("bfdProfile")
    if name not in profiles:
        known = ", ".join(list(profiles)[:5])
        hint = did_you_mean(name, profiles) or (f"there are: {known}" if known else "add the BFDProfile")
        where.error(f"there is no BFDProfile {shown(name)}; the peer is not used", hint)
    elif profiles[name] is None:
        where.error(f"BFDProfile {shown(name)} is refused, and so is the peer", "correct the BFDProfile")
    elif spec["enableGracefulRestart"]:
        where.warn(
            "BFD ends with the speaker, so a router gives up the routes at once which it should keep"
            " during a graceful restart",
            "remove one of the two",
        )
    return profiles.get(name)
