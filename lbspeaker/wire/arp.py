"""ARP over Ethernet (RFC 826, RFC 5227) as bytes.

    0      6      12    14    16    18 19 20   22      28      32      38      42
    │ dst  │ src  │ type│ htype ptype hl pl op│ sha    │ spa   │ tha   │ tpa   │
                                               sender MAC, IP    target MAC, IP

The announcements and probes that we originate are defined in scapy, once (`template`, `probe_template`), and
patched per MAC and IP. Answers are made of slices of the request, because they must be ready in microseconds.
Frames are 42 bytes, unpadded: the interface pads them.
"""

from typing import NamedTuple

from lbspeaker.errors import Malformed

LENGTH = 42
REQUEST, REPLY = b"\x00\x01", b"\x00\x02"
BROADCAST = b"\xff" * 6
_NOBODY = bytes(6)
_HEADER = b"\x08\x06\x00\x01\x08\x00\x06\x04"  # EtherType ARP; Ethernet, IPv4, lengths 6 and 4
_SOURCE, _SHA, _SPA, _TPA = slice(6, 12), slice(22, 28), slice(28, 32), slice(38, 42)


class Packet(NamedTuple):
    """The fields that matter, as they stand in the frame."""

    operation: bytes  # 2 bytes
    sender_mac: bytes
    sender_ip: bytes
    target_ip: bytes


def parse(frame: bytes) -> Packet:
    """Take a frame apart; padding after it is let be. Raises Malformed unless it is ARP over Ethernet."""
    if len(frame) < LENGTH:
        raise Malformed(f"{len(frame)} bytes are too short for ARP")
    if frame[12:20] != _HEADER:
        raise Malformed("not ARP for IPv4 over Ethernet")
    return Packet(frame[20:22], frame[_SHA], frame[_SPA], frame[_TPA])


def reply(request: Packet, mac: bytes) -> bytes:
    """Return the answer that the IP asked for by `request` is at `mac` (6 bytes), to whoever asked.

    A probe (sender IP 0.0.0.0) is answered in the same way (RFC 5227 §2.1.1).
    """
    asker = request.sender_mac
    return asker + mac + _HEADER + REPLY + mac + request.target_ip + asker + request.sender_ip


def question(mac: bytes, sender_ip: bytes, target_ip: bytes) -> bytes:
    """Return the request by which `mac` at `sender_ip` asks the segment who has `target_ip` (RFC 826)."""
    _check(mac, sender_ip, target_ip)
    return BROADCAST + mac + _HEADER + REQUEST + mac + sender_ip + _NOBODY + target_ip


def template() -> bytes:
    """Return an ARP Announcement (RFC 5227 §2.3) with all MACs and IPs of the sender zero.

    It is the request form (operators: gratuitous ARP), target MAC zero: the form that Linux neighbours take
    even within a second after their entry last changed.
    """
    from scapy.layers.l2 import ARP, Ether  # 40 MiB: imported only in the moment that builds a template

    zero = "00:00:00:00:00:00"
    ether = Ether(dst="ff:ff:ff:ff:ff:ff", src=zero)
    announcement = ARP(op="who-has", hwsrc=zero, psrc="0.0.0.0", hwdst=zero, pdst="0.0.0.0")  # noqa: S104
    return bytes(ether / announcement)


def announcement(template: bytes, mac: bytes, ip: bytes) -> bytes:
    """Return the frame that tells the segment that `ip` (4 bytes) is at `mac` (6 bytes)."""
    _check(mac, ip)
    frame = bytearray(template)
    frame[_SOURCE] = frame[_SHA] = mac
    frame[_SPA] = frame[_TPA] = ip
    return bytes(frame)


def probe_template() -> bytes:
    """Return an ARP Probe (RFC 5227 §2.1) with the MAC of the sender and the IP it asks for zero.

    It differs from an announcement only in what is filled in: its sender IP stays zero, and so no cache takes
    anything from it.
    """
    return template()


def probe(template: bytes, mac: bytes, ip: bytes) -> bytes:
    """Return the frame by which `mac` (6 bytes) asks whether anybody has `ip` (4 bytes) before it does."""
    _check(mac, ip)
    frame = bytearray(template)
    frame[_SOURCE] = frame[_SHA] = mac
    frame[_TPA] = ip
    return bytes(frame)


def _check(mac: bytes, *ips: bytes) -> None:
    if len(mac) != 6 or any(len(ip) != 4 for ip in ips):
        raise ValueError(f"a MAC of {len(mac)} bytes, IPs of {[len(ip) for ip in ips]} bytes")
