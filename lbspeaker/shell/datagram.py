"""UDP sockets whose datagrams tell how far they have come and when: what BFD needs (RFC 5881, RFC 5883).

When: the kernel's own time of arrival (SO_TIMESTAMPNS), so that it does not matter when it is read.
"""

import errno
import socket
import struct
from collections.abc import Callable
from typing import NamedTuple

from lbspeaker.errors import Unavailable

FIRST_PORT, LAST_PORT = 49152, 65535  # RFC 5881 §4: where the source port must lie
TTL = 255
_CS6 = 0xC0  # network control (RFC 2474 §4.2.2.2), as traffic class
_SO_TIMESTAMPNS, _IP_RECVTTL = 35, 12
_HOP_LIMIT = (socket.IPPROTO_IPV6, socket.IPV6_HOPLIMIT)
_TIME = struct.Struct("@qq")
_INT, _PKTINFO6 = struct.Struct("@i"), struct.Struct("@16sI")
_CONTROL = 3 * socket.CMSG_SPACE(32)
_RECEIVE_BUFFER = 1 << 20
_TRIES = 20


class Datagram(NamedTuple):
    """What arrived at which time (Unix), from whom, on which link (its index; 0: unknown), with which TTL."""

    data: bytes
    sender: str
    link: int
    ttl: int
    time: float


def listen(family: int, port: int) -> socket.socket:
    """Open a socket for all datagrams to `port` of one family (4 or 6). Raises Unavailable."""
    opened = _socket(family)
    try:
        opened.setsockopt(socket.SOL_SOCKET, _SO_TIMESTAMPNS, 1)
        opened.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _RECEIVE_BUFFER)
        if family == 4:
            opened.setsockopt(socket.IPPROTO_IP, _IP_RECVTTL, 1)
        else:
            opened.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
            opened.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_RECVHOPLIMIT, 1)
            opened.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_RECVPKTINFO, 1)
        opened.bind(("", port))
    except OSError as error:
        opened.close()
        if error.errno == errno.EADDRINUSE:
            hint = f"another program of this node speaks BFD; find it: ss -lunp 'sport = {port}'"
            raise Unavailable(f"UDP port {port} is taken", hint) from None
        raise Unavailable(f"UDP port {port} cannot be used: {error.strerror}") from None
    return opened


def receive(opened: socket.socket) -> Datagram | None:
    """Return the next datagram that has arrived, or None."""
    try:
        data, control, _, sender = opened.recvmsg(512, _CONTROL)
    except OSError:  # nothing is there
        return None
    ttl, link, time = 0, 0, 0.0
    for level, kind, value in control:
        if level == socket.SOL_SOCKET and kind == _SO_TIMESTAMPNS:
            seconds, nanoseconds = _TIME.unpack(value)
            time = seconds + nanoseconds / 1e9
        elif (level, kind) in ((socket.IPPROTO_IP, socket.IP_TTL), _HOP_LIMIT):
            (ttl,) = _INT.unpack(value)
        elif (level, kind) == (socket.IPPROTO_IPV6, socket.IPV6_PKTINFO):
            _, link = _PKTINFO6.unpack(value)
    return Datagram(data, sender[0].partition("%")[0], link, ttl, time)


def towards(address: str, port: int, source: str, link: str, roll: Callable[[], float]) -> socket.socket:
    """Open a socket that sends to `port` at `address` as BFD demands.

    `source` "": the kernel chooses. `link`: of a link-local address. `roll` (in [0, 1)) chooses the port.

    Raises Unavailable.
    """
    family = 6 if ":" in address else 4
    opened = _socket(family)
    try:
        if family == 4:
            opened.setsockopt(socket.IPPROTO_IP, socket.IP_TTL, TTL)
            opened.setsockopt(socket.IPPROTO_IP, socket.IP_TOS, _CS6)
        else:
            opened.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_UNICAST_HOPS, TTL)
            opened.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_TCLASS, _CS6)
        index = socket.if_nametoindex(link) if link else 0
        scope = (0, index) if family == 6 else ()
        _bind(opened, source, scope, roll)
        opened.connect((address, port, *scope))
        return opened
    except OSError as error:
        opened.close()
        own = f" from {source}" if source else ""
        what = f"no way to {address}{own}: {error.strerror or error}"
        raise Unavailable(what, "check this node's links, addresses and routes") from None


def _bind(opened: socket.socket, source: str, scope: tuple[int, ...], roll: Callable[[], float]) -> None:
    """Take a source port that is free."""
    for left in reversed(range(_TRIES)):
        number = FIRST_PORT + int(roll() * (LAST_PORT - FIRST_PORT + 1))
        try:
            opened.bind((source, number, *scope))
            return
        except OSError as error:
            if error.errno != errno.EADDRINUSE or not left:
                raise


def _socket(family: int) -> socket.socket:
    """Raises Unavailable: this kernel has no IPv6, say."""
    try:
        kind = socket.SOCK_DGRAM | socket.SOCK_NONBLOCK
        return socket.socket(socket.AF_INET if family == 4 else socket.AF_INET6, kind)
    except OSError as error:
        raise Unavailable(f"no socket of IPv{family}: {error.strerror or error}") from None
