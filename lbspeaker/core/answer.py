"""What to do with what is heard on a link: answer it, take it for a conflict, or let it be.

    is it a claim of an IP that is mine, by another MAC? ──▶ CONFLICT  (RFC 5227 §2.4: any sender IP counts)
    does it ask for an IP that is mine?                  ──▶ ANSWER    (probes too: RFC 5227 §2.1.1)
    everything else                                      ──▶ a reason to let it be

For IPv6 the same: a solicitation asks, and so does who probes an address (RFC 4861 §7.2.3); an advertisement
claims. The fields come as bytes, as they stood in the packet, because this runs for every packet.
"""

import enum
from collections.abc import Container

REQUEST = b"\x00\x01"


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
    """Judge one ARP packet; `owned` are the IPs answered on this link (4 bytes each), `mac` is the link's."""
    if sender_mac == mac or sender_mac[0] & 1 or sender_mac == b"\x00\x00\x00\x00\x00\x00":
        return Verdict.BAD_SENDER
    if sender_ip in owned:
        return Verdict.CONFLICT
    if operation != REQUEST:
        return Verdict.NOT_A_REQUEST
    return Verdict.ANSWER if target_ip in owned else Verdict.NOT_MINE


def decide_ndp(
    question: bool, sender_mac: bytes, target_ip: bytes, owned: Container[bytes], mac: bytes
) -> Verdict:
    """Judge one solicitation (a question) or advertisement; `owned` are the IPs answered here (16 bytes)."""
    if sender_mac == mac or sender_mac[0] & 1 or sender_mac == b"\x00\x00\x00\x00\x00\x00":
        return Verdict.BAD_SENDER
    if target_ip not in owned:
        return Verdict.NOT_MINE
    return Verdict.ANSWER if question else Verdict.CONFLICT
