"""What to do with an ARP packet: answer it, take it for a conflict, or let it be.

    is it a claim of an IP that is mine, by another MAC? ──▶ CONFLICT  (RFC 5227 §2.4: any sender IP counts)
    does it ask for an IP that is mine?                  ──▶ ANSWER    (probes too: RFC 5227 §2.1.1)
    everything else                                      ──▶ a reason to let it be, for the counters

The fields come as bytes, as they stood in the packet, because this runs for every packet.
"""

import enum
from collections.abc import Container

REQUEST = b"\x00\x01"
NOBODY = b"\x00\x00\x00\x00"


class Verdict(enum.Enum):
    ANSWER = "answer"
    CONFLICT = "conflict"
    NOT_MINE = "not-mine"
    NOT_A_REQUEST = "not-a-request"
    BAD_SENDER = "bad-sender"  # a MAC that nobody can have: ours, a group address, or zero


def decide(
    operation: bytes,
    sender_mac: bytes,
    sender_ip: bytes,
    target_ip: bytes,
    owned: Container[bytes],
    mac: bytes,
) -> Verdict:
    """Judge one packet; `owned` are the IPs answered on this link (4 bytes each), `mac` is the link's."""
    if sender_mac == mac or sender_mac[0] & 1 or sender_mac == b"\x00\x00\x00\x00\x00\x00":
        return Verdict.BAD_SENDER
    if sender_ip in owned:
        return Verdict.CONFLICT
    if operation != REQUEST:
        return Verdict.NOT_A_REQUEST
    return Verdict.ANSWER if target_ip in owned else Verdict.NOT_MINE
