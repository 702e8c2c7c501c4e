"""BGP communities as text: "64512:31" (RFC 1997) and "large:64512:1:2" (RFC 8092)."""

import re

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
