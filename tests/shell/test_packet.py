"""Filters of packet sockets, on a kernel that has little room for them."""

import contextlib
import socket
from ipaddress import IPv4Address, IPv6Address

import pytest

from lbspeaker.lab import namespaces
from lbspeaker.shell import packet
from lbspeaker.wire import arp, bpf, ndp
from tests.optmem import give

pytestmark = pytest.mark.lab

MAC = b"\x02\0\0\0\0\x01"
Ranges = list[tuple[int, int]]


def singles(first: str, count: int) -> Ranges:
    """The most that a filter can cost: single addresses, all of whose words are above 2^31."""
    start = int(IPv4Address(first) if "." in first else IPv6Address(first))
    return [(start + 2 * n, start + 2 * n) for n in range(count)]


def about(ip: str) -> bytes:
    if "." in ip:
        return arp.announcement(arp.template(), MAC, IPv4Address(ip).packed)
    return ndp.announcement(ndp.template(), MAC, IPv6Address(ip).packed)


def passed(on: socket.socket, *ips: str) -> list[str]:
    found = []
    for ip in ips:
        on.send(about(ip))
        with contextlib.suppress(BlockingIOError):
            while on.recv(2048):
                found.append(ip)
    return found


FAMILIES = {
    "arp": (packet.ETH_P_ARP, bpf.arp, bpf.all_arp(), bpf.MOST_RANGES, "192.168.0.0", "192.168.9.0"),
    "ndp": (packet.ETH_P_IPV6, bpf.ndp, bpf.ndp(), bpf.MOST_RANGES6, "fdff::ffff:ffff:8000:0", "fdff::9"),
}


@pytest.mark.parametrize("family", FAMILIES)
def test_a_filter_takes_the_place_of_another_where_the_kernel_has_no_room_for_both(
    namespace: str, family: str
) -> None:
    ethertype, build, wider, most, first, other = FAMILIES[family]
    give(namespace, 20480)
    with namespaces.inside(namespace, lambda: packet.open_link("lo", ethertype, wider)) as opened:
        assert passed(opened, first, other) == [first, other]
        packet.attach(opened, build(singles(first, most)), wider)
        assert passed(opened, first, other) == [first]
        packet.attach(opened, build(singles(other, most)), wider)
        assert passed(opened, first, other) == [other]


@pytest.mark.parametrize("family", FAMILIES)
def test_where_it_has_no_room_for_one_more_passes_than_must(namespace: str, family: str) -> None:
    ethertype, build, wider, most, first, other = FAMILIES[family]
    give(namespace, 4096)
    with namespaces.inside(namespace, lambda: packet.open_link("lo", ethertype, wider)) as opened:
        packet.attach(opened, build(singles(first, 2)), wider)
        assert passed(opened, first, other) == [first]
        packet.attach(opened, build(singles(first, most)), wider)
        assert passed(opened, first, other) == [first, other]
