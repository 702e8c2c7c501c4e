"""BGP communities as text, "64512:31" (RFC 1997) and "large:64512:1:2" (RFC 8092); the kind Community."""

import re

from lbspeaker.config.cel import Rule, quoted
from lbspeaker.config.place import Place, shown
from lbspeaker.config.schema import Field, ListOf, Made, Record
from lbspeaker.config.values import Text

# The IANA registry of well-known communities. local-as is what many routers call no-export-subconfed.
WELL_KNOWN = {
    "no-export": "65535:65281",  # RFC 1997
    "no-advertise": "65535:65282",  # RFC 1997
    "no-export-subconfed": "65535:65283",  # RFC 1997
    "local-as": "65535:65283",
    "graceful-shutdown": "65535:0",  # RFC 8326
}
FORMS = "write 64512:31 (two numbers to 65535), or large:64512:1:2 (three to 4294967295)"

_NUMBER = re.compile("[0-9]{1,10}")


def canonical(text: str) -> str | None:
    """Return a community's numeric text, without leading zeros; None if it is none and no well-known name."""
    if text in WELL_KNOWN:
        return WELL_KNOWN[text]
    large = text.startswith("large:")
    parts = text.removeprefix("large:").split(":")
    if len(parts) != (3 if large else 2) or not all(_NUMBER.fullmatch(part) for part in parts):
        return None
    numbers = [int(part) for part in parts]
    if max(numbers) >= (2**32 if large else 2**16):
        return None
    return ("large:" if large else "") + ":".join(str(number) for number in numbers)


def _value(text: str, place: Place) -> str | None:
    value = canonical(text)
    if value is None:
        place.error(f"{shown(text)} is not a community", FORMS)
    return value


_SMALL = " && ".join(f"int(self.split(':')[{at}]) <= 65535" for at in (0, 1))
_LARGE = " && ".join(f"int(self.split(':')[{at}]) <= 4294967295" for at in (1, 2, 3))
_VALUE_RULE = Rule(
    f"self in [{', '.join(map(quoted, WELL_KNOWN))}]"
    f" || (self.matches('^[0-9]{{1,10}}:[0-9]{{1,10}}$') && {_SMALL})"
    f" || (self.matches('^large(:[0-9]{{1,10}}){{3}}$') && {_LARGE})",
    "this is not a community",
    FORMS,
)
_ALIAS = Record(
    {
        "name": Field(Text(), "Name for use in BGPAdvertisements.", required=True),
        "value": Field(
            Made(Text(longest=64), _value, (_VALUE_RULE,)),
            "The community: 64512:31 or large:64512:1:2.",
            required=True,
        ),
    }
)
COMMUNITY = Record(
    {
        "communities": Field(
            ListOf(Made(_ALIAS, lambda parsed, _: (parsed["name"], parsed["value"])), most=5000),
            "Names for communities.",
            required=True,
        )
    }
)
