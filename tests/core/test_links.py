"""On which links a service IP is announced, and which addresses are this node's own."""

from dataclasses import replace
from ipaddress import ip_interface, ip_network

import pytest

from lbspeaker.core.links import addresses_towards, choose, eligible, member_links, router_id
from lbspeaker.model import Link, MemberLink
from tests.build import ip

MAC = bytes.fromhex("02000000000a")


def link(name: str, *addresses: str, **fields: object) -> Link:
    index = fields.pop("index", 1)
    return Link(name, index, fields.pop("mac", MAC), addresses=tuple(map(ip_interface, addresses)), **fields)  # type: ignore[arg-type]


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


ANY_SUBNET = {
    "every eligible link, home or not": ((LAN, STORAGE), (), "eth0 eth1"),
    "also when the home is down": ((DOWN, STORAGE), (), "eth1"),
    "never on what containers are behind": ((STORAGE, PODS), (), "eth1"),
    "names still win": ((LAN, STORAGE), ("eth0",), "eth0"),
}


@pytest.mark.parametrize(("links", "interfaces", "expected"), ANY_SUBNET.values(), ids=ANY_SUBNET)
def test_choose_where_any_subnet_will_do(
    links: tuple[Link, ...], interfaces: tuple[str, ...], expected: str
) -> None:
    assert " ".join(choose(ip("192.0.2.10"), links, frozenset(interfaces), any_subnet=True)) == expected


def shim(kind: str = "macvlan", *addresses: str, **fields: object) -> Link:
    """A link that sits on eth0, which has index 1."""
    return link("shim0", *addresses, kind=kind, parent=1, index=2, **fields)


ELIGIBLE = {
    "hardware": ((LAN,), "eth0"),
    "what hardware is made of": (
        tuple(link(f"my-{kind}", kind=kind) for kind in ("bond", "bridge", "vlan", "team")),
        "my-bond my-bridge my-vlan my-team",
    ),
    "a VLAN beside its parent: another segment": ((LAN, shim("vlan")), "eth0 shim0"),
    "a macvlan beside its parent: the same segment": ((LAN, shim("macvlan")), "eth0"),
    "a macvtap beside its parent": ((LAN, shim("macvtap")), "eth0"),
    "an ipvlan beside its parent": ((LAN, shim("ipvlan")), "eth0"),
    "whichever comes first": ((shim("macvlan"), LAN), "eth0"),
    "a macvlan whose parent is in another namespace": ((link("eth0", kind="macvlan"),), "eth0"),
    "a macvlan on a parent that is down": ((DOWN, shim("macvlan")), "shim0"),
    "a macvlan on a parent that is not told of": ((link("eth1", index=7), shim("macvlan")), "eth1 shim0"),
    "what is not usable": ((DOWN, link("eth1", member=True)), ""),
}  # fmt: skip


@pytest.mark.parametrize(("links", "expected"), ELIGIBLE.values(), ids=ELIGIBLE)
def test_eligible(links: tuple[Link, ...], expected: str) -> None:
    assert " ".join(link.name for link in eligible(links)) == expected


@pytest.mark.parametrize(
    "kind", ["vxlan", "geneve", "wireguard", "tun", "ipip", "sit", "gre", "gretap", "dummy"]
)
def test_a_tunnel_is_eligible_under_no_name_but_where_it_is_asked_for(kind: str) -> None:
    links = (link("lan7", "192.0.2.1/24", kind=kind),)
    assert eligible(links) == []
    assert choose(ip("192.0.2.10"), links, frozenset(), any_subnet=True) == ()
    assert choose(ip("192.0.2.10"), links, frozenset({"lan7"})) == ("lan7",)


def test_the_host_answers_once_where_a_macvlan_has_the_network_and_its_parent_none() -> None:
    links = (link("eth0"), shim("macvlan", "192.0.2.1/24"))
    assert choose(ip("192.0.2.10"), links, frozenset()) == ("eth0",)
    assert choose(ip("192.0.2.10"), links, frozenset({"shim0"})) == ("shim0",)


def test_a_speaker_tells_of_its_eligible_links_and_the_networks_that_they_reach() -> None:
    own = ("192.0.2.7/32", "198.51.100.1/24", "192.0.2.1/24", "192.0.2.2/24", "2001:db8::1/64", "fe80::1/64")
    reached = ("192.0.2.0/24", "198.51.100.0/24", "2001:db8::/64", "192.0.2.7/32")
    assert member_links((link("eth0", *own), PODS, link("eth9", "169.254.7.1/16"))) == (
        MemberLink("eth0", MAC, tuple(map(ip_network, reached))),
        MemberLink("eth9", MAC, (ip_network("169.254.0.0/16"),)),
    )
    assert member_links((DOWN,)) == ()


def test_the_own_addresses_are_never_those_of_pods_and_those_near_the_router_come_first() -> None:
    links = (PODS, STORAGE, LAN)
    assert addresses_towards(ip("192.0.2.254"), links) == {4: ip("192.0.2.1"), 6: ip("2001:db8::1")}
    assert addresses_towards(ip("198.51.100.254"), links)[4] == ip("198.51.100.1")
    first = link("eth-1", "10.0.0.1/24")
    assert addresses_towards(ip("2001:db8::fe"), (first, *links)) == {
        4: ip("192.0.2.1"),
        6: ip("2001:db8::1"),
    }, "of the other family that of the same link comes first"
    assert addresses_towards(ip("2001:db8::fe"), (first,)) == {4: ip("10.0.0.1")}


OTHERS = {
    "one that is not checked yet": link("eth0", "2001:db8::9/64", unchecked=frozenset({ip("2001:db8::9")})),
    "one without a network": link("eth0", "2001:db8::9/128"),
    "one that came later": link("eth0"),
}


@pytest.mark.parametrize("other", OTHERS.values(), ids=OTHERS)
def test_the_next_hop_is_a_good_address_rather_than(other: Link) -> None:
    """So that it does not change when another address comes."""
    later = ip_interface("fd00::9/64")
    mixed = replace(other, addresses=(*other.addresses, *LAN.addresses, later))
    assert addresses_towards(ip("192.0.2.254"), (mixed,))[6] == ip("2001:db8::1")


def test_a_next_hop_without_a_network_is_better_than_none_and_one_that_is_not_checked_is_not() -> None:
    alone = link("eth0", "2001:db8::9/128")
    assert addresses_towards(ip("192.0.2.254"), (alone,)) == {6: ip("2001:db8::9")}
    unchecked = replace(alone, unchecked=frozenset({ip("2001:db8::9")}))
    assert addresses_towards(ip("192.0.2.254"), (unchecked,)) == {}


def test_nodes_without_ipv4_have_different_router_ids() -> None:
    assert len({router_id(f"node-{number}") for number in range(100)}) == 100
