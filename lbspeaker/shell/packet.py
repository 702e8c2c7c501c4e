"""Packet sockets (AF_PACKET): whole frames in and out of one link. Needs CAP_NET_RAW."""

import contextlib
import ctypes
import socket
import struct

from lbspeaker.errors import Unable, Unavailable

ETH_P_ARP, ETH_P_IPV6 = 0x0806, 0x86DD
_SO_ATTACH_FILTER = 26
_SOL_PACKET, _PACKET_IGNORE_OUTGOING = 263, 23
_PACKET_ADD_MEMBERSHIP, _PACKET_STATISTICS, _PACKET_MR_MULTICAST = 1, 6, 0
_RECEIVE_BUFFER = 1 << 20  # 2,500 ARP frames, as far as rmem_max allows; more would only make answers stale


def open_link(name: str, ethertype: int, program: bytes, buffer: int = _RECEIVE_BUFFER) -> socket.socket:
    """Open a socket for the frames of one type on one link that `program` (classic BPF) lets through.

    `buffer`: bytes of frames that wait to be read; 0: hardly any, for a socket that only counts.

    Raises Unable without the permission, Unavailable if there is no such link or it is gone.
    """
    try:
        # Protocol 0 receives nothing: the filter is in place before the first frame.
        packets = socket.socket(socket.AF_PACKET, socket.SOCK_RAW | socket.SOCK_NONBLOCK, 0)
    except PermissionError:
        what = f"no permission for a packet socket on {name}: the capability NET_RAW is missing"
        hint = 'run as root, or add "NET_RAW" to securityContext.capabilities.add of the speaker'
        raise Unable(what, hint) from None
    try:
        attach(packets, program)
        packets.setsockopt(_SOL_PACKET, _PACKET_IGNORE_OUTGOING, 1)
        packets.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, buffer)
        packets.bind((name, ethertype))
    except OSError as error:
        packets.close()
        raise Unavailable(f"link {name} cannot be used: {error.strerror}") from None
    return packets


def attach(packets: socket.socket, program: bytes, wider: bytes = b"") -> None:
    """Put a filter in the place of the one before.

    While it does, the kernel wants room for both (net.core.optmem_max). For one that may be large, give
    `wider`, a small one that passes more: it comes between, and stays if there is no room for `program`.

    Raises OSError if there is no room for the small one.
    """
    if not wider:
        _attach(packets, program)
        return
    _attach(packets, wider)
    with contextlib.suppress(OSError):
        _attach(packets, program)


def _attach(packets: socket.socket, program: bytes) -> None:
    buffer = ctypes.create_string_buffer(program)
    filter_ = struct.pack("HL", len(program) // 8, ctypes.addressof(buffer))
    packets.setsockopt(socket.SOL_SOCKET, _SO_ATTACH_FILTER, filter_)


def join(packets: socket.socket, index: int, group: bytes) -> None:
    """Have the link with this index take frames for the multicast MAC `group`."""
    request = struct.pack("iHH8s", index, _PACKET_MR_MULTICAST, len(group), group)
    packets.setsockopt(_SOL_PACKET, _PACKET_ADD_MEMBERSHIP, request)


def taken(packets: socket.socket) -> tuple[int, int]:
    """Return how many frames passed the filter since the last call, and how many of them were dropped.

    Both are exact, also for a socket that nobody reads (packet(7), PACKET_STATISTICS).
    """
    passed, dropped = struct.unpack("II", packets.getsockopt(_SOL_PACKET, _PACKET_STATISTICS, 8))
    return passed, dropped


def waits(packets: socket.socket) -> bool:
    """Whether there is a frame to be read."""
    try:
        return bool(packets.recv(1, socket.MSG_PEEK | socket.MSG_DONTWAIT))
    except OSError:
        return False
