"""LinkPolicy: its fields, and what they mean."""

from collections.abc import Mapping
from typing import Any

from lbspeaker.config.advertisements import LINKS
from lbspeaker.config.cel import Rule
from lbspeaker.config.place import Place
from lbspeaker.config.schema import Field, Made, Record
from lbspeaker.config.selectors import SELECTORS
from lbspeaker.config.values import Choice, Flag, Text, Whole
from lbspeaker.model import LinkPolicy

Spec = Mapping[str, Any]

STRICT_RATE, STRICT_BURST = 8, 3  # of the profile, for who says only one of the two
_INSPECTED_MOST = 14  # Dynamic ARP Inspection takes the port down at 15 frames in a second

# --- its fields -----------------------------------------------------------------------------------------

_TOO_OFTEN = ("less than 30 seconds is too often for a refresh", "write 0 (never), or 30 to 3600")


def _refresh_s(seconds: int, place: Place) -> int | None:
    if 0 < seconds < 30:
        place.error(*_TOO_OFTEN)
        return None
    return seconds


_REFRESH = Made(Whole(0, 3600), _refresh_s, (Rule("self == 0 || self >= 30", *_TOO_OFTEN),))
_PROFILE = Choice(
    ("standard", "strict", "fast"),
    {"off": "a speaker without a guard is for the lab only; write dryRun: true to send nothing, or fast"},
)
_GROUP = Text(
    "([A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?)?",  # "" is as if absent
    "a name of a group",
    "use at most 63 letters, digits and - _ . (not first or last)",
    longest=63,
)

LINK_POLICY = Record(
    {
        "nodeSelectors": Field(SELECTORS, "Nodes that it is about.", default=(), absent="all"),
        "interfaces": Field(LINKS, "Links that it is about.", default=(), absent="all"),
        "profile": Field(
            _PROFILE,
            "Gives the rates and bursts that are not written here: standard (8 frames a second, 3 at once,"
            " answers apart), strict (the same, answers among them), fast (100 a second, 50 at once).",
            default="standard",
        ),
        "rate": Field(Whole(1, 100_000), "Unsolicited frames a second on each link.", absent="the profile's"),
        "burst": Field(
            Whole(1, 10_000), "Unsolicited frames at once, after a silence.", absent="the profile's"
        ),
        "answerRate": Field(
            Whole(1, 1_000_000), "Answers a second on each link; not with strict.", absent="the profile's"
        ),
        "answerBurst": Field(Whole(1, 100_000), "Answers at once; not with strict.", absent="the profile's"),
        "segmentRate": Field(
            Whole(1, 100_000),
            "Unsolicited frames a second of all speakers on a segment together.",
            absent="the profile's",
        ),
        "segmentBurst": Field(
            Whole(1, 10_000), "Unsolicited frames at once of all these speakers.", absent="the profile's"
        ),
        "group": Field(
            _GROUP,
            "All links of a node whose policy names the same group have one budget together.",
            absent="each link has its own",
        ),
        "refreshSeconds": Field(
            _REFRESH,
            "Seconds after which what did not change is announced again, jittered: between 2/3 and 4/3 of it."
            " 0: never; else 30 to 3600.",
            default=90,
        ),
        "refresh": Field(
            Choice(("Link", "IP")),
            "What a refresh is: one frame for each link, or one for each IP.",
            default="Link",
        ),
        "dad": Field(
            Choice(("off", "fast", "rfc")),
            "Whether somebody else has an IP that was never announced before is asked first: off (write it in"
            " quotes); fast, one probe and 250 ms; rfc, three probes and 4 to 7 s (RFC 5227, 2.1).",
            default="fast",
        ),
        "onConflict": Field(
            Choice(("Defend", "Yield")),
            "What the owner of an IP does when another host claims it: announce it again, or give way.",
            default="Defend",
        ),
        "dryRun": Field(Flag(), "Decide, count and log, and send nothing.", default=False),
    }
)

# --- what they mean -------------------------------------------------------------------------------------


def link_policy(name: str, spec: Spec, place: Place) -> LinkPolicy:
    """Return the policy; `place`, that of the object, is told what is hardly meant."""
    if spec["profile"] == "strict":
        _warn_of_strict(spec, place.at("spec"))
    return LinkPolicy(
        name=name,
        node_selectors=spec["nodeSelectors"],
        interfaces=frozenset(spec["interfaces"]),
        profile=spec["profile"],
        rate=spec["rate"],
        burst=spec["burst"],
        answer_rate=spec["answerRate"],
        answer_burst=spec["answerBurst"],
        segment_rate=spec["segmentRate"],
        segment_burst=spec["segmentBurst"],
        group=spec["group"] or "",
        refresh_s=spec["refreshSeconds"],
        refresh=spec["refresh"],
        dad=spec["dad"],
        on_conflict=spec["onConflict"],
        dry_run=spec["dryRun"],
    )


def _warn_of_strict(spec: Spec, place: Place) -> None:
    rate, burst = spec["rate"] or STRICT_RATE, spec["burst"] or STRICT_BURST
    if rate + burst > _INSPECTED_MOST:
        place.at("rate" if spec["rate"] else "burst").warn(
            f"{rate} frames a second and {burst} at once are {rate + burst} in one second: a port with ARP"
            " inspection goes down at 15",
            f"write a rate and a burst that are {_INSPECTED_MOST} at most together",
        )
    for key in ("answerRate", "answerBurst"):
        if spec[key]:
            place.at(key).warn(
                f"{key} changes nothing: with profile strict, answers are in the budget of all frames",
                "remove it, or write another profile",
            )
