"""A router made of bytes: it takes connections, and says exactly what a test gives it."""

import asyncio
import os
import socket
import struct
from collections.abc import Awaitable, Callable, Iterable
from contextlib import suppress
from ipaddress import ip_address

from lbspeaker.model import Network
from tests.peers.conftest import NODE_AS, ROUTER_AS, ROUTER_IP, Segment, enter

OPEN, UPDATE, NOTIFICATION, KEEPALIVE = 1, 2, 3, 4  # RFC 4271 §4.1
MARKER = b"\xff" * 16
Script = Callable[["Talk"], Awaitable[None]]


def message(kind: int, body: bytes = b"", *, marker: bytes = MARKER, length: int | None = None) -> bytes:
    """A message of RFC 4271 §4.1; `marker` and `length` to say something that is wrong."""
    return marker + struct.pack("!HB", 19 + len(body) if length is None else length, kind) + body


def opening(
    asn: int = ROUTER_AS, hold_s: int = 90, families: Iterable[int] = (1, 2), version: int = 4
) -> bytes:
    """An OPEN (§4.2) with its families (RFC 4760: 1 IPv4, 2 IPv6, each unicast) and 4-byte AS (RFC 6793)."""
    capabilities = b"".join(struct.pack("!BBHBB", 1, 4, family, 0, 1) for family in families)
    capabilities += struct.pack("!BBI", 65, 4, asn)
    options = struct.pack("!BB", 2, len(capabilities)) + capabilities
    body = struct.pack("!BHH4sB", version, asn, hold_s, ip_address(ROUTER_IP).packed, len(options))
    return message(OPEN, body + options)


def attribute(kind: int, value: bytes, flags: int = 0x40) -> bytes:
    return struct.pack("!BBB", flags, kind, len(value)) + value


ATTRIBUTES = (
    attribute(1, b"\0")  # ORIGIN: IGP
    + attribute(2, struct.pack("!BBI", 2, 1, ROUTER_AS))
    + attribute(3, ip_address(ROUTER_IP).packed)
)


def update(prefixes: Iterable[Network] = (), attributes: bytes = ATTRIBUTES, withdrawn: bytes = b"") -> bytes:
    """An UPDATE (§4.3) about IPv4."""
    nlri = b"".join(
        bytes([prefix.prefixlen]) + prefix.network_address.packed[: (prefix.prefixlen + 7) // 8]
        for prefix in prefixes
    )
    parts = [struct.pack("!H", len(withdrawn)), withdrawn, struct.pack("!H", len(attributes)), attributes]
    return message(UPDATE, b"".join(parts) + nlri)


class Talk:
    """One connection, and what has come over it."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader, self.writer = reader, writer
        self.heard: list[tuple[int, bytes]] = []  # kinds and bodies

    def say(self, data: bytes) -> None:
        self.writer.write(data)

    async def hear(self) -> int:
        """Wait for the next message, and return its kind; 0: the connection has ended."""
        try:
            head = await self._reader.readexactly(19)
            body = await self._reader.readexactly(int.from_bytes(head[16:18]) - 19)
        except (asyncio.IncompleteReadError, ConnectionError):
            return 0
        self.heard.append((head[18], body))
        return head[18]

    async def establish(self, hello: bytes | None = None) -> None:
        """Say what both say before a session is up, and hear it."""
        self.say((opening() if hello is None else hello) + message(KEEPALIVE))
        while await self.hear() not in (0, KEEPALIVE):
            pass

    async def listen(self) -> None:
        """Hear all that comes until the connection ends; answer keepalives."""
        while kind := await self.hear():
            if kind == KEEPALIVE:
                self.say(message(KEEPALIVE))


class RawRouter:
    """Listens in the namespace of the router; each connection gets the next script, the last one for ever."""

    def __init__(self, segment: Segment, *scripts: Script, ip: str = ROUTER_IP) -> None:
        self._segment, self._ip = segment, ip
        self._scripts = list(scripts)
        self._server: asyncio.Server | None = None
        self.talks: list[Talk] = []

    async def __aenter__(self) -> "RawRouter":
        self._server = await asyncio.start_server(self._serve, sock=self._listening())
        return self

    async def __aexit__(self, *_: object) -> None:
        assert self._server is not None
        self._server.close()
        for talk in self.talks:
            talk.writer.transport.abort()

    def _listening(self) -> socket.socket:
        home = os.open("/proc/thread-self/ns/net", os.O_RDONLY)
        enter(f"/run/netns/{self._segment.router}")
        try:
            return socket.create_server((self._ip, 179), family=_family(self._ip))
        finally:
            enter(f"/proc/self/fd/{home}")
            os.close(home)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        talk = Talk(reader, writer)
        self.talks.append(talk)
        script = self._scripts.pop(0) if len(self._scripts) > 1 else self._scripts[0]
        with suppress(ConnectionError):
            await script(talk)
            await writer.drain()
        writer.close()


def _family(ip: str) -> socket.AddressFamily:
    return socket.AF_INET6 if ":" in ip else socket.AF_INET


async def behaves(talk: Talk) -> None:
    """The script of a router as it should be."""
    await talk.establish()
    await talk.listen()


__all__ = ["KEEPALIVE", "MARKER", "NODE_AS", "NOTIFICATION", "OPEN", "UPDATE", "RawRouter", "Talk"]
