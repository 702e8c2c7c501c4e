"""Membership in IPv6 multicast groups, so that switches which snoop on MLD send us what we have to answer."""

import contextlib
import socket
import struct

MOST_PER_SOCKET = 2000  # the kernel's own limit is about 2340 (optmem_max)


class Groups:
    """The groups joined on one link. Two addresses may share a group: who joins twice must leave twice."""

    def __init__(self, index: int) -> None:
        self._index = index
        self._sockets: list[socket.socket] = []
        self._room: list[int] = []
        self._joined: dict[bytes, tuple[int, int]] = {}  # group → (which socket, how often)

    def join(self, group: bytes) -> None:
        """Join `group` (16 bytes). A link that is gone is no error: there is nobody to hear there."""
        with contextlib.suppress(OSError):  # also where the kernel has no IPv6
            where, times = self._joined.get(group) or (self._with_room(), 0)
            if times == 0:
                self._set(where, socket.IPV6_JOIN_GROUP, group)
                self._room[where] -= 1
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
