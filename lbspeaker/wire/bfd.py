"""BFD control packets (RFC 5880 §4.1), and what their diagnostics mean.

    0          1             2        3        4      8       12          16           20            24
    │ vers│diag│ state│flags │ mult.  │ length │ mine │ your  │ desired tx│ required rx│ required echo│
       3    5     2     6        1        1       4       4        4 (µs)       4 (µs)        4 (µs)

Packets without authentication only; nothing after byte 24 is looked at.
"""

import struct

from lbspeaker.errors import Malformed
from lbspeaker.model import BFDPacket, BFDState

VERSION, SIZE = 1, 24
POLL, FINAL, INDEPENDENT, AUTHENTICATED, DEMAND, MULTIPOINT = 0x20, 0x10, 0x08, 0x04, 0x02, 0x01
DIAGNOSTICS = (
    "no diagnostic",
    "nothing was heard for the detection time",
    "its echo packets did not come back",
    "the other end says that the session is down",
    "its forwarding plane was reset",
    "the path is down",
    "a path before it is down",
    "it was shut down by hand",
    "a path behind it is down",
)
_FORMAT = struct.Struct("!BBBBIIIII")
_STATES = tuple(BFDState)
_UNMET = (BFDState.ADMIN_DOWN, BFDState.DOWN)  # who says nothing of our discriminator can be in these only


def diagnostic(number: int) -> str:
    """Return what a diagnostic means; those from 9 on have no meaning yet."""
    return DIAGNOSTICS[number] if number < len(DIAGNOSTICS) else f"diagnostic {number}"


def build(packet: BFDPacket) -> bytes:
    """Return the 24 bytes. Raises ValueError for numbers that do not fit, or that `parse` would refuse."""
    flags = POLL * packet.poll | FINAL * packet.final
    flags |= INDEPENDENT * packet.independent | DEMAND * packet.demand
    if not packet.multiplier or not packet.mine or not 0 <= packet.diagnostic < 32:
        raise ValueError(f"not to be sent: {packet}")
    try:
        return _FORMAT.pack(
            VERSION << 5 | packet.diagnostic,
            packet.state << 6 | flags,
            packet.multiplier,
            SIZE,
            packet.mine,
            packet.your,
            packet.desired_us,
            packet.required_us,
            packet.required_echo_us,
        )
    except struct.error as error:
        raise ValueError(f"not to be sent: {packet}: {error}") from None


def parse(data: bytes) -> BFDPacket:
    """Take the payload of a datagram apart.

    Raises Malformed where RFC 5880 §6.8.6 demands that a packet be discarded, whatever session it is for.
    """
    if len(data) < SIZE:
        raise Malformed(f"{len(data)} bytes are too short for BFD")
    first, second, multiplier, length, mine, your, desired, required, echo = _FORMAT.unpack_from(data)
    if first >> 5 != VERSION:
        raise Malformed(f"BFD of version {first >> 5}")
    if not SIZE <= length <= len(data):
        raise Malformed("a length that cannot be")
    if not multiplier:
        raise Malformed("a detection multiplier of 0")
    if second & MULTIPOINT:
        raise Malformed("the multipoint bit is set")
    if not mine:
        raise Malformed("a discriminator of 0")
    if second & AUTHENTICATED:
        raise Malformed("it is authenticated, and no key was agreed upon")
    state = _STATES[second >> 6]
    if not your and state not in _UNMET:
        raise Malformed(f"{state.name} without our discriminator")
    return BFDPacket(
        state,
        first & 31,
        multiplier,
        mine,
        your,
        desired,
        required,
        echo,
        bool(second & POLL),
        bool(second & FINAL),
        bool(second & INDEPENDENT),
        bool(second & DEMAND),
    )
