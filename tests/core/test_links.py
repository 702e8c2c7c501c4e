"""On which links a service IP is announced, and which addresses are this node's own."""

from ipaddress import ip_interface

import pytest

from lbspeaker.core.links import addresses_towards, choose, router_id
from lbspeaker.model import Link
from tests.build import ip, ips

MAC = bytes.fromhex("02000000000a")


def link(name: str, *addresses: str, **fields: object) -> Link:
    return Link(name, 1, fields.pop("mac", MAC), addresses=tuple(map(ip_interface, addresses)), **fields)  # type: ignore[arg-type]


LAN = link("eth0", "192.0.2.1/24", "2001:db8::1/64", "fe80::1/64")
STORAGE = link("eth1", "198.51.100.1/24")
PODS = link("cni0", "10.244.1.1/24", "fd00:10:244:1::1/64")
OTHER = link("eth2", "203.0.113.1/24")
DOWN = link("eth0", "192.0.2.1/24", running=False)

STORIES = {
    "the link whose network it is in": ((LAN, STORAGE), (), "eth0"),
    "of a network that no link has: all of them": (
        (STORAGE, link("eth2", "203.0.113.1/24")),
        (),
        "eth1 eth2",
    ),
    "a home that is down stays the home": ((DOWN, STORAGE), (), ""),
    "never on what containers are behind": ((PODS, link("veth12", "192.0.2.9/24")), (), ""),
    "but where it is asked for by name": ((PODS,), ("cni0",), "cni0"),
    "a name that is not there": ((LAN,), ("eth7",), ""),
    "not on a member of a bridge": ((link("eth0", "192.0.2.1/24", member=True),), (), ""),
    "not without a MAC": ((link("eth0", "192.0.2.1/24", mac=b""),), (), ""),
    "not where nobody hears broadcasts": ((link("eth0", "192.0.2.1/24", broadcast=False),), (), ""),
}


@pytest.mark.parametrize(("links", "interfaces", "expected"), STORIES.values(), ids=STORIES)
def test_choose(links: tuple[Link, ...], interfaces: tuple[str, ...], expected: str) -> None:
    assert " ".join(choose(ip("192.0.2.10"), links, frozenset(interfaces))) == expected


def test_the_own_addresses_are_never_those_of_pods_and_those_near_the_router_come_first() -> None:
    links = (PODS, STORAGE, LAN)
    assert addresses_towards(ip("192.0.2.254"), links) == list(
        ips("192.0.2.1", "2001:db8::1", "198.51.100.1")
    )
    assert addresses_towards(ip("198.51.100.254"), links)[0] == ip("198.51.100.1")


def test_nodes_without_ipv4_have_different_router_ids() -> None:
    assert len({router_id(f"node-{number}") for number in range(100)}) == 100
