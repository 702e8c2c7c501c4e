"""Membership in IPv6 multicast groups, so that switches which snoop on MLD send us what we have to answer.

The kernel gives each socket little memory for that (net.core.optmem_max; 56 bytes a group), so many are used.
"""

import contextlib
import errno
import socket
import struct

MOST_PER_SOCKET = 300  # 365 fit into the 20 KiB that kernels before 6.8 give


class Groups:
    """The groups joined on one link. Two addresses may share a group: who joins twice must leave twice."""

    def __init__(self, index: int) -> None:
        self._index = index
        self._sockets: list[socket.socket] = []
        self._room: list[int] = []
        self._joined: dict[bytes, tuple[int, int]] = {}  # group → (which socket, how often)

    def join(self, group: bytes) -> None:
        """Join `group` (16 bytes). Raises OSError if the kernel refuses; then it is not joined."""
        where, times = self._joined.get(group) or (self._enter(group), 0)
        self._joined[group] = (where, times + 1)

    def leave(self, group: bytes) -> None:
        where, times = self._joined.pop(group, (0, 0))
        if times > 1:
            self._joined[group] = (where, times - 1)
        elif times == 1:
            with contextlib.suppress(OSError):
                self._set(where, socket.IPV6_LEAVE_GROUP, group)
            self._room[where] += 1

    def close(self) -> None:
        """Leave everything."""
        for each in self._sockets:
            each.close()
        self._sockets, self._room = [], []
        self._joined.clear()

    def _enter(self, group: bytes) -> int:
        """Return the socket that has joined `group`; one that has no memory left counts as full."""
        where = self._with_room()
        try:
            self._set(where, socket.IPV6_JOIN_GROUP, group)
        except OSError as error:
            is_empty = all(other != where for other, _ in self._joined.values())
            if error.errno not in (errno.ENOMEM, errno.ENOBUFS) or is_empty:
                raise
            self._room[where] = 0
            where = self._with_room()
            self._set(where, socket.IPV6_JOIN_GROUP, group)
        self._room[where] -= 1
        return where

    def _with_room(self) -> int:
        for where, room in enumerate(self._room):
            if room > 0:
                return where
        self._sockets.append(socket.socket(socket.AF_INET6, socket.SOCK_DGRAM))
        self._room.append(MOST_PER_SOCKET)
        return len(self._sockets) - 1

    def _set(self, where: int, option: int, group: bytes) -> None:
        request = group + struct.pack("@I", self._index)
        self._sockets[where].setsockopt(socket.IPPROTO_IPV6, option, request)
