"""Neighbour discovery over Ethernet (RFC 4861) as bytes: solicitations in, advertisements out.

    0     6     12   14                              54        58     62              78
    │ dst │ src │86dd│ IPv6: … 58 (ICMPv6), hops 255 │type code│flags │ target address │ options …
                          src 22-38, dst 38-54        checksum                          type len value

The unsolicited advertisement and the probe that we originate are defined in scapy, once (`template`,
`probe_template`), and patched per MAC and IP. An advertisement of ours always overrides (O) and names our
MAC: without O a neighbour that has another MAC for the address would keep it. Advertisements are frames of
86 bytes, probes of 78: they have no option.
"""

import struct
from typing import NamedTuple

from lbspeaker.errors import Malformed

SOLICITATION, ADVERTISEMENT = 135, 136
NOBODY = bytes(16)
_SOLICITED, _OVERRIDE = 0x40, 0x20
_SOURCE_MAC_OPTION, _TARGET_MAC_OPTION = 1, 2
_ALL_NODES = bytes.fromhex("ff020000000000000000000000000001")
_ALL_NODES_MAC = bytes.fromhex("333300000001")
_ICMP, _TARGET, _END = 54, slice(62, 78), 78
LENGTH = 86


class Message(NamedTuple):
    """A solicitation or an advertisement. `mac`: of its option, or else of the frame."""

    type: int
    sender_ip: bytes  # 16 bytes; all zero while the sender probes the address itself (RFC 4862 §5.4.2)
    target_ip: bytes  # 16 bytes
    mac: bytes  # 6 bytes


def parse(frame: bytes) -> Message:
    """Take a frame apart; padding after it is let be.

    Raises Malformed unless it is a solicitation or an advertisement that RFC 4861 §7.1 calls valid.
    """
    if len(frame) < _END or frame[12:14] != b"\x86\xdd" or frame[20] != 58:
        raise Malformed("not ICMPv6 over Ethernet")
    if frame[21] != 255:
        raise Malformed("it crossed a router: the hop limit is not 255")
    kind, code = frame[_ICMP], frame[_ICMP + 1]
    end = _ICMP + int.from_bytes(frame[18:20], "big")
    if kind not in (SOLICITATION, ADVERTISEMENT) or code != 0:
        raise Malformed("neither a solicitation nor an advertisement")
    if not _END <= end <= len(frame) or _checksum(frame[22:54], frame[_ICMP:end]) != 0:
        raise Malformed("the length or the checksum is wrong")
    wanted = _SOURCE_MAC_OPTION if kind == SOLICITATION else _TARGET_MAC_OPTION
    mac = _option(frame[_END:end], wanted)
    sender, target = frame[22:38], frame[_TARGET]
    if 0xFF in (target[0], sender[0]) or (sender == NOBODY and kind == SOLICITATION and mac is not None):
        raise Malformed("a target or an option that is not allowed")
    group = frame[38] == 0xFF
    if kind == SOLICITATION and sender == NOBODY and frame[38:54] != solicited_node(target):
        raise Malformed("a probe that does not go to the solicited-node group")
    if kind == ADVERTISEMENT and group and frame[_ICMP + 4] & _SOLICITED:
        raise Malformed("an answer that goes to a group")
    return Message(kind, sender, target, mac or frame[6:12])


def _option(options: bytes, wanted: int) -> bytes | None:
    """Return the MAC of the first option of type `wanted`."""
    found = None
    while options:
        size = options[1] * 8 if len(options) > 1 else 0
        if not 0 < size <= len(options):
            raise Malformed("an option of a length that cannot be")
        if options[0] == wanted and size == 8 and found is None:
            found = options[2:8]
        options = options[size:]
    return found


def reply(asked: Message, mac: bytes) -> bytes:
    """Return the answer that the target of `asked` is at `mac` (6 bytes).

    Who probes whether it may take the address (sender ::) is answered on all nodes' group (RFC 4861 §7.2.4).
    """
    if asked.sender_ip == NOBODY:
        return _advertisement(_ALL_NODES_MAC, mac, _ALL_NODES, asked.target_ip, _OVERRIDE)
    return _advertisement(asked.mac, mac, asked.sender_ip, asked.target_ip, _SOLICITED | _OVERRIDE)


def _advertisement(to_mac: bytes, mac: bytes, to_ip: bytes, ip: bytes, flags: int) -> bytes:
    body = bytes((flags, 0, 0, 0)) + ip + bytes((_TARGET_MAC_OPTION, 1)) + mac
    checksum = _checksum(ip + to_ip, bytes((ADVERTISEMENT, 0, 0, 0)) + body)
    icmp = struct.pack("!BBH", ADVERTISEMENT, 0, checksum) + body
    header = struct.pack("!IHBB", 0x60000000, len(icmp), 58, 255)
    return to_mac + mac + b"\x86\xdd" + header + ip + to_ip + icmp


def template() -> bytes:
    """Return an unsolicited advertisement to all nodes (RFC 4861 §7.2.6), its MACs and addresses zero."""
    from scapy.layers.inet6 import ICMPv6ND_NA, ICMPv6NDOptDstLLAddr, IPv6
    from scapy.layers.l2 import Ether  # 40 MiB: imported only in the moment that builds a template

    zero = "00:00:00:00:00:00"
    ether = Ether(dst="33:33:00:00:00:01", src=zero)
    ip = IPv6(src="::", dst="ff02::1", hlim=255)
    advertisement = ICMPv6ND_NA(R=0, S=0, O=1, tgt="::") / ICMPv6NDOptDstLLAddr(lladdr=zero)
    return bytes(ether / ip / advertisement)


def announcement(template: bytes, mac: bytes, ip: bytes) -> bytes:
    """Return the frame that tells the segment that `ip` (16 bytes) is at `mac` (6 bytes)."""
    _check(mac, ip)
    frame = bytearray(template)
    frame[6:12] = frame[80:86] = mac
    frame[22:38] = frame[_TARGET] = ip
    return _sealed(frame)


def probe_template() -> bytes:
    """Return a solicitation that asks whether an address is in use (RFC 4862 §5.4.2), as yet no address.

    Its source is ::, so it may not say which MAC asks (RFC 4861 §4.3), and no cache takes anything from it.
    """
    from scapy.layers.inet6 import ICMPv6ND_NS, IPv6
    from scapy.layers.l2 import Ether

    ether = Ether(dst="33:33:ff:00:00:00", src="00:00:00:00:00:00")
    return bytes(ether / IPv6(src="::", dst="ff02::1:ff00:0", hlim=255) / ICMPv6ND_NS(tgt="::"))


def probe(template: bytes, mac: bytes, ip: bytes) -> bytes:
    """Return the frame by which `mac` (6 bytes) asks whether anybody has `ip` (16 bytes) before it does.

    It goes to the solicited-node group of `ip`, and to that group's MAC (RFC 2464 §7).
    """
    _check(mac, ip)
    frame = bytearray(template)
    group = solicited_node(ip)
    frame[0:6], frame[6:12] = b"\x33\x33" + group[12:], mac
    frame[38:54], frame[_TARGET] = group, ip
    return _sealed(frame)


def _check(mac: bytes, ip: bytes) -> None:
    if len(mac) != 6 or len(ip) != 16:
        raise ValueError(f"a MAC of {len(mac)} bytes, an IP of {len(ip)} bytes")


def _sealed(frame: bytearray) -> bytes:
    """The frame with its checksum."""
    frame[56:58] = b"\x00\x00"
    frame[56:58] = _checksum(bytes(frame[22:54]), bytes(frame[_ICMP:])).to_bytes(2, "big")
    return bytes(frame)


def solicited_node(ip: bytes) -> bytes:
    """Return the group in which who asks for `ip` looks for it (RFC 4291 §2.7.1)."""
    return bytes.fromhex("ff0200000000000000000001ff") + ip[13:]


def _checksum(addresses: bytes, icmp: bytes) -> int:
    """The ICMPv6 checksum (RFC 4443 §2.3) over source and destination, and the message; 0 if it is right."""
    data = addresses + struct.pack("!II", len(icmp), 58) + icmp + b"\x00" * (len(icmp) & 1)
    total: int = sum(struct.unpack(f"!{len(data) // 2}H", data))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF
