"""`doctor`: pools, and what is in the network already; each fault broken and mended."""

from ipaddress import IPv4Address, ip_network

from lbspeaker.facts import Grade, Proxy
from lbspeaker.model import (
    BGPAdvertisement,
    Config,
    L2Advertisement,
    Node,
    Pool,
)
from tests.build import LAN, ROUTER, ip, ips, pool, scope, selector, service
from tests.core.findings import about, evidence, here, link, only, passes, pod

WIDE = pool("wide", "192.0.2.0-192.0.2.255")
LAYER2 = (L2Advertisement("l2"),)


def with_pool(one: Pool) -> Config:
    return Config((one,), LAYER2)


def test_a_pool_that_contains_a_node() -> None:
    found = only(evidence(config=with_pool(WIDE)), "pool-node")
    assert (found.grade, found.what) == (Grade.FAIL, "it contains 192.0.2.200 (node a)")
    assert passes(evidence(), "pool-node")


def test_a_pool_that_contains_the_gateway() -> None:
    near = link("eth0", "192.0.2.201/24", gateway=IPv4Address("192.0.2.254"))
    told = evidence(config=with_pool(WIDE), here=here(near), nodes=())
    assert only(told, "pool-node").what == "it contains 192.0.2.254 (the gateway of a)"
    assert passes(evidence(here=here(near)), "pool-node")


def test_a_pool_that_overlaps_the_networks_of_pods() -> None:
    nodes = [Node("a", pod_networks=(ip_network("192.0.2.0/26"),))]
    found = only(evidence(nodes=nodes), "pool-pods")
    assert (found.grade, found.what) == (Grade.WARN, "it overlaps 192.0.2.0/26 (Pods of node a)")
    assert passes(evidence(nodes=[Node("a", pod_networks=(ip_network("10.0.0.0/24"),))]), "pool-pods")


def test_a_pool_that_overlaps_what_kube_proxy_takes_for_pods() -> None:
    told = evidence(proxy=Proxy(networks=(ip_network("192.0.0.0/16"),)))
    assert "192.0.0.0/16 (Pods, says kube-proxy)" in only(told, "pool-pods").what


def test_a_pool_with_an_address_that_a_pod_has() -> None:
    inside = pod(addresses=ips("192.0.2.20"))
    assert "192.0.2.20, the address of Pod shop/web-1" in only(evidence(pods=[inside]), "pool-pods").what
    of_the_host = pod(addresses=ips("192.0.2.20"), host_network=True)
    assert passes(evidence(pods=[of_the_host]), "pool-pods")


def test_a_pool_that_overlaps_cluster_ips() -> None:
    told = evidence(service_networks=(ip_network("192.0.2.0/27"),))
    assert only(told, "pool-services").what == "it overlaps 192.0.2.0/27"
    held = evidence(models=[service("shop/web", cluster_ips=("192.0.2.11", "None"))])
    assert "192.0.2.11, the cluster IP of shop/web" in only(held, "pool-services").what
    assert passes(evidence(service_networks=(ip_network("10.96.0.0/12"),)), "pool-services")


def test_a_pool_with_the_ends_of_its_network() -> None:
    told = evidence(config=with_pool(WIDE), here=here())
    assert "192.0.2.0, 192.0.2.255, the ends of 192.0.2.0/24 on eth0" in only(told, "pool-edge").what
    careful = pool("wide", "192.0.2.0-192.0.2.255", avoid_buggy_ips=True)
    assert passes(evidence(config=with_pool(careful), here=here()), "pool-edge")


def test_a_network_of_two_addresses_has_no_ends() -> None:
    def ends(own: str) -> bool:
        return not passes(evidence(config=with_pool(WIDE), here=here(link("eth0", own))), "pool-edge")

    assert not ends("192.0.2.8/31") and not ends("192.0.2.8/32")
    assert ends("192.0.2.9/30")


def test_a_pool_where_a_dhcp_server_gives_addresses() -> None:
    leased = here(leased=(ip_network("192.0.2.0/24"),))
    assert only(evidence(here=leased), "pool-dhcp").grade is Grade.WARN
    assert passes(evidence(here=here(leased=(ip_network("198.51.100.0/24"),))), "pool-dhcp")


def test_a_pool_that_hosts_nearby_cannot_find() -> None:
    bgp = Config((LAN,), (), (BGPAdvertisement("bgp"),), (ROUTER,))
    assert "announced by BGP only" in only(evidence(config=bgp, here=here()), "pool-reach").what
    both = Config((LAN,), LAYER2, (BGPAdvertisement("bgp"),), (ROUTER,))
    assert passes(evidence(config=both, here=here()), "pool-reach")


def test_a_pool_that_is_on_no_segment() -> None:
    far = pool("far", "203.0.113.1-203.0.113.9")
    found = only(evidence(config=with_pool(far), here=here()), "pool-reach")
    assert "in no network of a" in found.what
    routed = Config((far,), (), (BGPAdvertisement("bgp"),), (ROUTER,))
    assert passes(evidence(config=routed, here=here()), "pool-reach")


def test_a_pool_of_another_segment_is_other_nodes_business() -> None:
    far = pool("far", "203.0.113.1-203.0.113.9")
    other = Node("b", addresses=(ip("203.0.113.200"),))
    assert passes(evidence(config=with_pool(far), here=here(), nodes=(other,)), "pool-reach")
    elsewhere = L2Advertisement("l2", scope(node_selectors=(selector(rack="b"),)))
    told = evidence(config=Config((far,), (elsewhere,)), here=here(link(running=False)))
    assert passes(told, "pool-reach")
    assert about(told, "link") == []


def test_a_pool_overlaps_a_network_with_one_address() -> None:
    def overlaps(first: str, last: str) -> bool:
        told = evidence(
            config=with_pool(pool("p", f"{first}-{last}")),
            service_networks=(ip_network("192.0.2.16/28"),),
        )
        return not passes(told, "pool-services")

    assert overlaps("192.0.2.1", "192.0.2.16") and overlaps("192.0.2.31", "192.0.2.40")
    assert not overlaps("192.0.2.1", "192.0.2.15") and not overlaps("192.0.2.32", "192.0.2.40")
