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
from collections.abc import Callable
from ipaddress import IPv4Address, ip_interface
from pathlib import Path
from typing import Any

from pyroute2 import AsyncIPRoute
from pyroute2.netlink.rtnl import (
    RTM_DELROUTE,
    RTM_NEWROUTE,
    RTMGRP_IPV4_IFADDR,
    RTMGRP_IPV4_ROUTE,
    RTMGRP_IPV6_IFADDR,
    RTMGRP_LINK,
)

from lbspeaker.model import Interface, Link

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
        addresses: dict[int, list[Interface]] = {}
        async for message in await route.get_addr():
            # IFA_ADDRESS is the other end's on a point-to-point link.
            local = message.get_attr("IFA_LOCAL") or message.get_attr("IFA_ADDRESS")
            address = f"{local}/{message['prefixlen']}"
            addresses.setdefault(message["index"], []).append(ip_interface(address))
        gateways = _gateways()
        links = [_link(message, addresses, gateways) async for message in await route.get_links()]
        return tuple(sorted(links, key=lambda link: link.name))


def _link(
    message: Any, addresses: dict[int, list[Interface]], gateways: dict[str, IPv4Address | None]
) -> Link:
    name, index, flags = message.get_attr("IFLA_IFNAME"), message["index"], message["flags"]
    here = message.get_attr("IFLA_LINK_NETNSID") is None  # else its parent is in another namespace
    return Link(
        name,
        index,
        bytes.fromhex((message.get_attr("IFLA_ADDRESS") or "").replace(":", "")),
        running=flags & (_UP | _RUNNING) == _UP | _RUNNING,
        broadcast=bool(flags & _BROADCAST),
        member=message.get_attr("IFLA_MASTER") is not None,
        addresses=tuple(addresses.get(index, ())),
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
                found.setdefault(name, _address(gateway) if int(flags, 16) & _RTF_GATEWAY else None)
    return found


def _address(text: str) -> IPv4Address:
    """An address as the kernel prints it: its four bytes as one number of this machine."""
    return IPv4Address(int(text, 16).to_bytes(4, sys.byteorder))
