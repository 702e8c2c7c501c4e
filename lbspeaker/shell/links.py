"""The links of this machine and their addresses, told by the kernel (netlink) as they change."""

import asyncio
import contextlib
import errno
from collections.abc import Callable
from ipaddress import ip_interface
from typing import Any

from pyroute2 import AsyncIPRoute
from pyroute2.netlink.rtnl import RTMGRP_IPV4_IFADDR, RTMGRP_IPV6_IFADDR, RTMGRP_LINK

from lbspeaker.model import Interface, Link

_UP, _BROADCAST, _RUNNING = 0x1, 0x2, 0x10000  # IFF_UP, IFF_BROADCAST, IFF_LOWER_UP
_SETTLE_S = 0.02  # a change is often several messages


async def watch(report: Callable[[tuple[Link, ...]], None]) -> None:
    """Report all links now and after every change, for ever."""
    async with AsyncIPRoute() as route:
        await route.bind(groups=RTMGRP_LINK | RTMGRP_IPV4_IFADDR | RTMGRP_IPV6_IFADDR)
        before: tuple[Link, ...] | None = None
        while True:
            links = await _links()
            if links != before:
                before = links
                report(links)
            try:
                async for _ in route.get():
                    break
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(_SETTLE_S):
                        while True:
                            async for _ in route.get():
                                pass
            except OSError as error:  # more messages than the socket holds, so some are lost: look again
                if error.errno != errno.ENOBUFS:
                    raise
                await asyncio.sleep(_SETTLE_S)


async def _links() -> tuple[Link, ...]:
    async with AsyncIPRoute() as route:
        addresses: dict[int, list[Interface]] = {}
        async for message in await route.get_addr():
            # IFA_ADDRESS is the other end's on a point-to-point link.
            local = message.get_attr("IFA_LOCAL") or message.get_attr("IFA_ADDRESS")
            address = f"{local}/{message['prefixlen']}"
            addresses.setdefault(message["index"], []).append(ip_interface(address))
        links = [_link(message, addresses) async for message in await route.get_links()]
        return tuple(sorted(links, key=lambda link: link.name))


def _link(message: Any, addresses: dict[int, list[Interface]]) -> Link:
    mac = bytes.fromhex((message.get_attr("IFLA_ADDRESS") or "").replace(":", ""))
    flags = message["flags"]
    return Link(
        message.get_attr("IFLA_IFNAME"),
        message["index"],
        mac,
        running=flags & (_UP | _RUNNING) == _UP | _RUNNING,
        broadcast=bool(flags & _BROADCAST),
        member=message.get_attr("IFLA_MASTER") is not None,
        addresses=tuple(addresses.get(message["index"], ())),
    )
