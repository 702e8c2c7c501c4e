"""Classic BPF programs for packet sockets: what the kernel lets through to the answerer.

An instruction is (code, jump if true, jump if false, constant), 8 bytes, as in Linux's struct sock_filter.
Frames for other hosts, which on an ARP socket are also those of foreign VLANs with their tags removed, never
pass. Of the rest, the answerer gets only ARP and neighbour discovery about an address of a pool (asked for,
or claimed), and hellos.
"""

import itertools
import struct
from collections.abc import Iterable

Instruction = tuple[int, int, int, int]

_LOAD_HALF, _LOAD_WORD, _LOAD_BYTE = 0x28, 0x20, 0x30
_JUMP_EQUAL, _JUMP_AT_LEAST, _JUMP_ABOVE, _RETURN = 0x15, 0x35, 0x25, 0x06
_PACKET_TYPE = 0xFFFFF000 + 4  # SKF_AD_OFF + SKF_AD_PKTTYPE
_OTHER_HOST = 3
_ETHERTYPE, _ARP, _HELLO = 12, 0x0806, 0x88B5
_ARP_IPV4 = 0x08060001  # EtherType ARP, hardware Ethernet (bytes 12 to 15)
_IPV4_LENGTHS = 0x08000604
_SENDER_IP, _TARGET_IP = 28, 38
_NEXT_HEADER, _ICMPV6_HOPS_255 = 20, 0x3AFF
_ICMPV6_TYPE, _SOLICITATION = 54, 135
_TARGET_WORDS = ((62, 96), (66, 64), (70, 32), (74, 0))  # of neighbour discovery: offset, bits below
_WORD = 0xFFFFFFFF
_PASS: Instruction = (_RETURN, 0, 0, 128)
_PASS_NDP: Instruction = (_RETURN, 0, 0, 256)
_DROP: Instruction = (_RETURN, 0, 0, 0)
# A range of IPv4 costs the kernel up to 100 bytes, one of IPv6 570, of optmem_max: 20480 before Linux 6.8.
MOST_RANGES, MOST_RANGES6 = 170, 30


def arp(ranges: Iterable[tuple[int, int]]) -> bytes:
    """Return the program that passes ARP whose sender or target IP lies in one of `ranges` (first, last)."""
    merged = merge(ranges)
    program: list[Instruction] = [
        (_LOAD_HALF, 0, 0, _PACKET_TYPE),
        (_JUMP_EQUAL, 4, 0, _OTHER_HOST),
        (_LOAD_WORD, 0, 0, 12),
        (_JUMP_EQUAL, 0, 2, _ARP_IPV4),
        (_LOAD_WORD, 0, 0, 16),
        (_JUMP_EQUAL, 1, 0, _IPV4_LENGTHS),
        _DROP,
    ]
    for offset in (_TARGET_IP, _SENDER_IP):
        program.append((_LOAD_WORD, 0, 0, offset))
        for first, last in merged:
            program += [(_JUMP_AT_LEAST, 0, 2, first), (_JUMP_ABOVE, 1, 0, last), _PASS]
    program.append(_DROP)
    return assemble(program)


def all_arp() -> bytes:
    """Return the small program that passes what `arp` passes, whatever it is about."""
    return arp([(0, _WORD)])


def ndp(ranges: Iterable[tuple[int, int]] | None = None) -> bytes:
    """Return the program that passes neighbour solicitations and advertisements (RFC 4861 §4.3, §4.4).

    With `ranges` (first, last) their target must lie in one of these. BPF compares words of 32 bits, so a
    target counts up to the first word in which first and last differ. A range within one /96 is compared to
    the bit; of a wider one a little more may pass, at its ends.
    """
    program: list[Instruction] = [
        (_LOAD_HALF, 0, 0, _PACKET_TYPE),
        (_JUMP_EQUAL, 5, 0, _OTHER_HOST),
        (_LOAD_HALF, 0, 0, _NEXT_HEADER),  # and the hop limit after it
        (_JUMP_EQUAL, 0, 3, _ICMPV6_HOPS_255),
        (_LOAD_BYTE, 0, 0, _ICMPV6_TYPE),
        (_JUMP_EQUAL, 2, 0, _SOLICITATION),
        (_JUMP_EQUAL, 1, 0, _SOLICITATION + 1),
        _DROP,
    ]
    if ranges is None:
        return assemble([*program, _PASS_NDP])
    for first, last in merge(ranges, MOST_RANGES6):
        program += _targets(first, last)
    return assemble([*program, _DROP])


def _targets(first: int, last: int) -> list[Instruction]:
    """Pass a target from `first` to `last`; any other leaves at the end. Built from that end."""
    words = [(offset, first >> shift & _WORD, last >> shift & _WORD) for offset, shift in _TARGET_WORDS]
    differ = next((n for n, (_, low, high) in enumerate(words) if low != high), 3)
    offset, low, high = words[differ]
    program = [(_LOAD_WORD, 0, 0, offset), (_JUMP_AT_LEAST, 0, 2, low), (_JUMP_ABOVE, 1, 0, high), _PASS_NDP]
    for offset, word, _ in reversed(words[:differ]):
        program = [(_LOAD_WORD, 0, 0, offset), (_JUMP_EQUAL, 0, len(program), word), *program]
    return program


def meter() -> bytes:
    """Return the program that passes all ARP, to be counted by the kernel: nobody reads that socket."""
    return _all_of(_ARP, 64)


def hello() -> bytes:
    """Return the program that passes hellos, whole. Who wants those to the group has to join it."""
    return _all_of(_HELLO, 2048)


def _all_of(ethertype: int, length: int) -> bytes:
    return assemble(
        [
            (_LOAD_HALF, 0, 0, _PACKET_TYPE),
            (_JUMP_EQUAL, 2, 0, _OTHER_HOST),
            (_LOAD_HALF, 0, 0, _ETHERTYPE),
            (_JUMP_EQUAL, 1, 0, ethertype),
            _DROP,
            (_RETURN, 0, 0, length),
        ]
    )


def nothing() -> bytes:
    """Return the program that passes nothing."""
    return assemble([_DROP])


def assemble(program: Iterable[Instruction]) -> bytes:
    return b"".join(struct.pack("=HBBI", *instruction) for instruction in program)


def merge(ranges: Iterable[tuple[int, int]], most: int = MOST_RANGES) -> list[tuple[int, int]]:
    """Join what overlaps or touches; past `most` also what is nearest (a little more passes then)."""
    merged: list[tuple[int, int]] = []
    for first, last in sorted(ranges):
        if merged and first <= merged[-1][1] + 1:
            merged[-1] = (merged[-1][0], max(last, merged[-1][1]))
        else:
            merged.append((first, last))
    while len(merged) > most:
        gaps = [later[0] - earlier[1] for earlier, later in itertools.pairwise(merged)]
        nearest = gaps.index(min(gaps))
        merged[nearest : nearest + 2] = [(merged[nearest][0], merged[nearest + 1][1])]
    return merged
