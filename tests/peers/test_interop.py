"""The same sessions and routes with FRR, BIRD, GoBGP and OpenBGPD; what counts is each one's own table."""

import asyncio
import os
import signal
from collections.abc import Iterator
from contextlib import AsyncExitStack
from dataclasses import replace
from ipaddress import IPv6Address, ip_network
from pathlib import Path

import pytest

from lbspeaker.model import Network, Route
from tests.peers import daemons
from tests.peers.conftest import (
    NODE_IP,
    NODE_IP6,
    ROUTER_AS,
    ROUTER_IP,
    ROUTER_IP6,
    Node,
    Seen,
    Segment,
    run,
    soon,
)
from tests.peers.daemons import Link, Router

pytestmark = pytest.mark.peers

FAR = {4: ("10.99.1.1", "10.99.1.2"), 6: ("fd99:1::1", "fd99:1::2")}  # on loopbacks, one hop further away
LINKS = (
    Link("near4", NODE_IP, ROUTER_IP, ttl_hops=1, restart=True),
    Link("near6", NODE_IP6, ROUTER_IP6, ttl_hops=1),
    Link("secret4", "10.99.0.3", ROUTER_IP, password="a_secret"),
    Link("secret6", "fd99::3", ROUTER_IP6, password="another"),
    Link("inside4", "10.99.0.4", ROUTER_IP, node_as=ROUTER_AS),
    Link("inside6", "fd99::4", ROUTER_IP6, node_as=ROUTER_AS),
    Link("far4", *FAR[4], hops=3),
    Link("far6", *FAR[6], hops=3),
)
COMMUNITIES = ("65001:1", "65535:65281", "large:4200000001:0:2")
DAEMONS = ("frr", "bird", "gobgp", "openbgpd")
# Debian's OpenBGPD gives its listening socket no key, so that nobody with a password can come.
NO_PASSWORD = {"openbgpd"}
INSIDE = {"10.99.0.4", "fd99::4"}


Given = dict[Link, list[Route]]


def routes(number: int) -> list[Route]:
    """Those of one session: one with every attribute there is, one with none, one of IPv6."""
    rich, plain, v6 = f"198.51.100.{16 * number}/28", f"192.0.2.{number}/32", f"2001:db8::{number}/128"
    return [
        Route(ip_network(rich), 250, COMMUNITIES, 50, 2),
        Route(ip_network(plain)),
        Route(ip_network(v6), None, ("65001:6",), 7, 1),
    ]


def expected(given: Given) -> dict[Network, Seen]:
    """What the router has when it has got all that is `given`."""
    return {route.prefix: seen(link, route) for link, some in given.items() for route in some}


def seen(link: Link, route: Route) -> Seen:
    hop = hop_v4(link) if route.prefix.version == 4 else hop_v6(link)
    if link.ibgp:
        told = (route.local_pref or 100) if hop in INSIDE else None  # see `table`
        return Seen(hop, told, route.communities, route.med)
    return Seen(hop, None, route.communities, route.med, route.prepend)


def hop_v4(link: Link) -> str:
    """Over IPv6 it is the address that is the router ID, too."""
    return link.node if "." in link.node else NODE_IP


def hop_v6(link: Link) -> str:
    """The IPv6 address beside that of the session: fd99::4 beside 10.99.0.4."""
    return link.node.replace("10.99.0.", "fd99::").replace("10.99.1.", "fd99:1::")


def table(router: Router) -> dict[Network, Seen]:
    """What `router` has. Where no preference is sent, some write down one of their own."""
    return {
        prefix: replace(seen, local_pref=None) if seen.next_hop not in INSIDE else seen
        for prefix, seen in router.table().items()
    }


@pytest.fixture(params=DAEMONS)
def router(request: pytest.FixtureRequest, segment: Segment, tmp_path: Path) -> Iterator[Router]:
    with daemons.router(request.param, segment, tmp_path / "router") as made:
        yield made


@pytest.fixture
def links(request: pytest.FixtureRequest) -> tuple[Link, ...]:
    deaf = request.node.callspec.params["router"] in NO_PASSWORD
    return tuple(link for link in LINKS if not (deaf and link.password))


@pytest.fixture
def addresses(segment: Segment) -> None:
    """The node has one for each session; both have some on loopbacks, and ways to those of the other."""
    for link in LINKS:
        if link.hops == 1 and link.node not in (NODE_IP, NODE_IP6):
            length = "64" if ":" in link.node else "24"
            run("ip", "-n", segment.node, "addr", "add", f"{link.node}/{length}", "dev", "eth0", "nodad")
    ends = ((segment.node, 0, {4: ROUTER_IP, 6: ROUTER_IP6}), (segment.router, 1, {4: NODE_IP, 6: NODE_IP6}))
    for name, end, way in ends:
        for family, pair in FAR.items():
            run("ip", "-n", name, "addr", "add", pair[end], "dev", "lo")
            run("ip", "-n", name, "route", "add", pair[1 - end], "via", way[family])


@pytest.mark.usefixtures("addresses")
def test_every_kind_of_session(
    router: Router, links: tuple[Link, ...], segment: Segment, runtime: Path
) -> None:
    async def story() -> None:
        router.serve(links)
        async with AsyncExitStack() as stack:
            nodes = {
                link: await stack.enter_async_context(
                    Node(segment, runtime, link.peer(), IPv6Address(hop_v6(link)))
                )
                for link in links
            }

            async def arrive(given: Given) -> None:
                for link, some in given.items():
                    nodes[link].desire(*some)
                assert await soon(lambda: table(router) == expected(given)), difference(router, given)

            given = {link: routes(number) for number, link in enumerate(links, 1)}
            await arrive(given)
            changed = {
                link: [replace(rich, communities=("65001:2",), med=None, prepend=1), replace(v6, med=8)]
                for link, (rich, _, v6) in given.items()
            }
            await arrive(changed)
            await survive(nodes[links[0]], router, expected(changed))
            assert await soon(lambda: table(router) == expected(changed)), difference(router, changed)
            await arrive({link: [] for link in links})
            assert sum(node.status.flaps for node in nodes.values()) == 1, "the one that was killed"

    asyncio.run(asyncio.wait_for(story(), 60))


def difference(router: Router, given: Given) -> str:
    have, want = table(router), expected(given)
    return "\n".join(
        f"{prefix}: {have.get(prefix)} instead of {want.get(prefix)}"
        for prefix in sorted(have.keys() | want.keys(), key=str)
        if have.get(prefix) != want.get(prefix)
    )


async def survive(node: Node, router: Router, wanted: dict[Network, Seen]) -> None:
    """Kill the child of `node`: until it is back, and End-of-RIB has come, the router loses nothing."""
    before = node.peering.pid
    assert before is not None
    os.kill(before, signal.SIGKILL)
    seen: list[set[Network]] = []
    while node.peering.pid in (None, before) or node.status.sent < node.status.desired:
        seen.append(set(await asyncio.to_thread(router.table)))
    seen += [set(await asyncio.to_thread(router.table)) for _ in range(10)]
    assert all(each == set(wanted) for each in seen), [sorted(map(str, set(wanted) - each)) for each in seen]
