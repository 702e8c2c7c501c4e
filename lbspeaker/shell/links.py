"""The links of this machine, their addresses and gateways, told by the kernel (netlink) as they change.

Of routes only the IPv4 default ones count. A node may have thousands of others, which a routing daemon
changes hundreds of times a second: so the kernel tells us of no other (a classic BPF filter on the socket),
and of the table only its beginning is read, where the default routes are.
"""

import asyncio
import contextlib
import ctypes
import errno
import socket
import struct
import sys
from collections.abc import Callable, Sequence
from ipaddress import IPv4Address, ip_interface
from pathlib import Path
from typing import Any, NamedTuple

from pyroute2 import AsyncIPRoute
from pyroute2.netlink.rtnl import (
    RTM_DELROUTE,
    RTM_NEWROUTE,
    RTMGRP_IPV4_IFADDR,
    RTMGRP_IPV4_ROUTE,
    RTMGRP_IPV6_IFADDR,
    RTMGRP_LINK,
)

from lbspeaker.errors import Unable
from lbspeaker.model import Interface, Link

_TEMPORARY, _OPTIMISTIC, _DAD_FAILED, _DEPRECATED, _TENTATIVE = 0x1, 0x4, 0x8, 0x20, 0x40  # IFA_F_…
_UP, _BROADCAST, _RUNNING = 0x1, 0x2, 0x10000  # IFF_UP, IFF_BROADCAST, IFF_LOWER_UP
_SETTLE_S = 0.02  # a change is often several messages
_SETTLE_ROUTES_S = 0.1  # and routes come in bursts
_GROUPS = RTMGRP_LINK | RTMGRP_IPV4_IFADDR | RTMGRP_IPV6_IFADDR | RTMGRP_IPV4_ROUTE

_SO_ATTACH_FILTER = 26
_TYPE = 4 if sys.byteorder == "little" else 5  # the low byte of nlmsghdr.nlmsg_type
_DST_LEN = 16 + 1  # rtmsg.rtm_dst_len, behind the header
_LOAD_BYTE, _JUMP_EQUAL, _RETURN = 0x30, 0x15, 0x06
_NO_ROUTE_BUT_DEFAULT = [  # (code, jump if true, jump if false, constant)
    (_LOAD_BYTE, 0, 0, _TYPE),
    (_JUMP_EQUAL, 1, 0, RTM_NEWROUTE),
    (_JUMP_EQUAL, 0, 2, RTM_DELROUTE),
    (_LOAD_BYTE, 0, 0, _DST_LEN),
    (_JUMP_EQUAL, 0, 1, 0),
    (_RETURN, 0, 0, 0xFFFFFFFF),
    (_RETURN, 0, 0, 0),
]

_MAIN_TABLE = Path("/proc/thread-self/net/route")  # of the namespace that we are in
_RTF_GATEWAY = 0x2


class _Address(NamedTuple):
    """`checked`: whether duplicate address detection is over, and has found nobody (RFC 4862 §5.4)."""

    own: Interface
    checked: bool


async def now() -> tuple[Link, ...]:
    """Return all links as they are, by name. Raises Unable if netlink does not tell."""
    try:
        return await _links()
    except OSError as error:
        raise Unable(f"the links cannot be looked at: {error.strerror}", "netlink must be allowed") from None


async def watch(report: Callable[[tuple[Link, ...]], None]) -> None:
    """Report all links now and after every change, for ever."""
    async with AsyncIPRoute() as route:
        _attach(route)
        await route.bind(groups=_GROUPS)
        before: tuple[Link, ...] | None = None
        while True:
            links = await _links()
            if links != before:
                before = links
                report(links)
            try:
                await _change(route)
            except OSError as error:  # more messages than the socket holds, so some are lost: look again
                if error.errno != errno.ENOBUFS:
                    raise
                await asyncio.sleep(_SETTLE_S)


def _attach(route: AsyncIPRoute) -> None:
    """Have the kernel drop what is of no use; where it cannot, we are told more than we need."""
    program = b"".join(struct.pack("HBBI", *instruction) for instruction in _NO_ROUTE_BUT_DEFAULT)
    buffer = ctypes.create_string_buffer(program)
    filter_ = struct.pack("HL", len(_NO_ROUTE_BUT_DEFAULT), ctypes.addressof(buffer))
    with contextlib.suppress(OSError):
        route.setsockopt(socket.SOL_SOCKET, _SO_ATTACH_FILTER, filter_)


async def _change(route: AsyncIPRoute) -> None:
    """Wait for a change, and for what comes with it: longer where only routes have changed."""
    clock = asyncio.get_running_loop().time
    ends: float | None = None
    with contextlib.suppress(TimeoutError):
        while True:
            async with asyncio.timeout_at(ends):
                async for message in route.get():
                    is_route = message["header"]["type"] in (RTM_NEWROUTE, RTM_DELROUTE)
                    settle_s = _SETTLE_ROUTES_S if is_route else _SETTLE_S
                    ends = min(ends or float("inf"), clock() + settle_s)


async def _links() -> tuple[Link, ...]:
    async with AsyncIPRoute() as route:
        told = [message async for message in await route.get_addr()]
        addresses: dict[int, list[_Address]] = {}
        for message in _by_age(told):
            addresses.setdefault(message["index"], []).append(_address(message))
        gateways = _gateways()
        links = [_link(message, addresses, gateways) async for message in await route.get_links()]
        return tuple(sorted(links, key=lambda link: link.name))


def _flags(message: Any) -> int:
    return int(message.get_attr("IFA_FLAGS") or message["flags"])


def _address(message: Any) -> _Address:
    # IFA_ADDRESS is the other end's on a point-to-point link.
    local = message.get_attr("IFA_LOCAL") or message.get_attr("IFA_ADDRESS")
    own, flags = ip_interface(f"{local}/{message['prefixlen']}"), _flags(message)
    checked = not flags & _DAD_FAILED and flags & (_TENTATIVE | _OPTIMISTIC) != _TENTATIVE
    return _Address(own, own.version == 4 or checked)


def _by_age(told: Sequence[Any]) -> list[Any]:
    """The oldest addresses first: so has the kernel those of IPv4; of IPv6 it has the newest first.

    Last those that shall not be used any more, or not for long (RFC 4862 §5.5.4, RFC 8981).
    """
    ipv4 = [message for message in told if message["family"] == socket.AF_INET]
    ipv6 = [message for message in reversed(told) if message["family"] == socket.AF_INET6]
    return ipv4 + sorted(ipv6, key=lambda message: bool(_flags(message) & (_DEPRECATED | _TEMPORARY)))


def _link(
    message: Any, addresses: dict[int, list[_Address]], gateways: dict[str, IPv4Address | None]
) -> Link:
    name, index, flags = message.get_attr("IFLA_IFNAME"), message["index"], message["flags"]
    own = addresses.get(index, ())
    here = message.get_attr("IFLA_LINK_NETNSID") is None  # else its parent is in another namespace
    return Link(
        name,
        index,
        bytes.fromhex((message.get_attr("IFLA_ADDRESS") or "").replace(":", "")),
        running=flags & (_UP | _RUNNING) == _UP | _RUNNING,
        broadcast=bool(flags & _BROADCAST),
        member=message.get_attr("IFLA_MASTER") is not None,
        addresses=tuple(address.own for address in own),
        unchecked=frozenset(address.own.ip for address in own if not address.checked),
        kind=message.get_nested("IFLA_LINKINFO", "IFLA_INFO_KIND") or "",
        parent=(message.get_attr("IFLA_LINK") or 0) if here else 0,
        gateway=gateways.get(name),
    )


def _gateways() -> dict[str, IPv4Address | None]:
    """The next hop of the default route with the lowest metric, by link; None where it has none.

    The kernel lists the main table by destination, and equal ones by metric: the first of a link counts, and
    a destination other than 0.0.0.0 ends the default routes.
    """
    found: dict[str, IPv4Address | None] = {}
    with contextlib.suppress(OSError), _MAIN_TABLE.open() as lines:
        next(lines, "")  # the names of the columns
        for line in lines:
            name, destination, gateway, flags, _, _, _, mask, *_ = line.split()
            if int(destination, 16):
                break
            if not int(mask, 16):
                found.setdefault(name, _gateway(gateway) if int(flags, 16) & _RTF_GATEWAY else None)
    return found


def _gateway(text: str) -> IPv4Address:
    """An address as the kernel prints it: its four bytes as one number of this machine."""
    return IPv4Address(int(text, 16).to_bytes(4, sys.byteorder))
