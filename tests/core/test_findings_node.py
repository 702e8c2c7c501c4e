"""`doctor`: what the kernel and the links of a node do; each fault broken and mended."""

from ipaddress import IPv4Address
from typing import Any

import pytest

from lbspeaker.facts import Evidence, Grade, Here, Proxy
from lbspeaker.model import Config, L2Advertisement, Link
from tests.build import LAN, pool, service
from tests.core.findings import about, evidence, here, link, only, passes

STRICT = {"net.ipv4.conf.all.arp_ignore": "1", "net.ipv4.conf.all.arp_announce": "2"}
DUAL = Config((LAN, pool("six", "2001:db8::10-2001:db8::20")), (L2Advertisement("l2"),))


def ipvs() -> Link:
    return link("kube-ipvs0", "192.0.2.10/32", index=9, kind="dummy", running=False)


def node(*links: Link, settings: dict[str, str] | None = None, **fields: Any) -> Evidence:
    return evidence(here=here(*links, settings=settings, **fields))


# --- who else answers -----------------------------------------------------------------------------------


def test_ipvs_without_strict_arp() -> None:
    found = only(node(link(), ipvs()), "ipvs-arp")
    assert found.grade is Grade.FAIL
    assert found.what == "IPVS without strict ARP (eth0: arp_ignore 0, arp_announce 0)"
    assert passes(node(link(), ipvs(), settings=STRICT), "ipvs-arp")


@pytest.mark.parametrize("missing", list(STRICT))
def test_ipvs_needs_both_settings(missing: str) -> None:
    half = {name: value for name, value in STRICT.items() if name != missing}
    assert only(node(link(), ipvs(), settings=half), "ipvs-arp").grade is Grade.FAIL
    # The larger of a link's own and that of all links counts.
    own = missing.replace(".all.", ".eth0.")
    assert passes(node(link(), ipvs(), settings=half | {own: STRICT[missing]}), "ipvs-arp")


def test_without_ipvs_nothing_is_said_of_it() -> None:
    assert about(node(), "ipvs-arp") == []
    assert about(evidence(proxy=Proxy("iptables")), "ipvs-arp") == []


def test_kube_proxy_says_itself_that_it_is_not_strict() -> None:
    assert only(evidence(proxy=Proxy("ipvs")), "ipvs-arp").subject == "kube-proxy"
    assert passes(evidence(proxy=Proxy("ipvs", strict_arp=True)), "ipvs-arp")


def test_what_cannot_be_read_is_unknown() -> None:
    unread = Here("a", (link(), ipvs()))
    assert only(evidence(here=unread), "ipvs-arp").grade is Grade.UNKNOWN
    assert only(evidence(here=unread), "forwarding").grade is Grade.UNKNOWN
    assert only(evidence(here=Here("a", (link(),))), "rp-filter").grade is Grade.UNKNOWN


def test_a_service_ip_on_a_link() -> None:
    held = [service("shop/web", held="192.0.2.10")]
    by_hand = evidence(models=held, here=here(link("eth0", "192.0.2.200/24", "192.0.2.10/32")))
    found = only(by_hand, "address-taken")
    assert found.what == "192.0.2.10, a service IP of shop/web, is an address of its link eth0"
    assert found.remedy.startswith("ip address delete 192.0.2.10/32 dev eth0")
    assert passes(evidence(models=held, here=here(link(), ipvs())), "address-taken")


# --- what the kernel lets through -----------------------------------------------------------------------


def test_a_kernel_that_does_not_forward() -> None:
    found = only(node(settings={"net.ipv4.ip_forward": "0"}), "forwarding")
    assert (found.grade, found.what) == (Grade.FAIL, "net.ipv4.ip_forward is 0")
    one_link = only(node(settings={"net.ipv4.conf.eth0.forwarding": "0"}), "forwarding")
    assert one_link.what == "net.ipv4.conf.eth0.forwarding is 0"
    assert passes(node(), "forwarding")


def test_ipv6_is_forwarded_only_where_a_pool_has_it() -> None:
    off = {"net.ipv6.conf.all.forwarding": "0"}
    assert passes(node(settings=off), "forwarding")
    told = evidence(config=DUAL, here=here(settings=off))
    assert only(told, "forwarding").what == "net.ipv6.conf.all.forwarding is 0"


def test_a_link_without_ipv6() -> None:
    off = here(settings={"net.ipv6.conf.eth0.disable_ipv6": "1"})
    assert only(evidence(config=DUAL, here=off), "ipv6").grade is Grade.FAIL
    assert passes(evidence(config=DUAL, here=here()), "ipv6")
    assert about(evidence(here=off), "ipv6") == []


def test_a_link_that_forwards_and_listens_to_routers() -> None:
    settings = {"net.ipv6.conf.eth0.forwarding": "1", "net.ipv6.conf.eth0.accept_ra": "1"}
    assert only(evidence(config=DUAL, here=here(settings=settings)), "ipv6").grade is Grade.WARN
    settings["net.ipv6.conf.eth0.accept_ra"] = "2"
    assert passes(evidence(config=DUAL, here=here(settings=settings)), "ipv6")


def two_links(value: str, near: str = "192.0.2.200/24") -> Evidence:
    """Pools are on eth1, the default route on eth0."""
    out = link("eth0", "198.51.100.2/24", gateway=IPv4Address("198.51.100.1"))
    return node(out, link("eth1", near, index=3), settings={"net.ipv4.conf.eth1.rp_filter": value})


def test_strict_reverse_paths_where_the_way_back_is_another() -> None:
    found = only(two_links("1"), "rp-filter")
    assert found.grade is Grade.WARN
    assert found.what == "rp_filter is 1 (strict) on eth1, and the default route is over eth0"
    assert passes(two_links("2"), "rp-filter")
    assert passes(two_links("0"), "rp-filter")


def test_strict_reverse_paths_hurt_nobody_where_the_way_back_is_the_same() -> None:
    one = link(gateway=IPv4Address("192.0.2.1"))
    assert passes(node(one, settings={"net.ipv4.conf.all.rp_filter": "1"}), "rp-filter")
    out = link("eth0", gateway=IPv4Address("192.0.2.1"))  # the pool is here, and not on eth1
    other = link("eth1", "10.9.0.1/24", index=3)
    assert passes(node(out, other, settings={"net.ipv4.conf.eth1.rp_filter": "1"}), "rp-filter")
