"""`doctor`: ports of nodes, other names and IPs, balance; each fault broken and mended."""

from dataclasses import replace
from ipaddress import ip_address

import pytest

from lbspeaker.facts import Grade, Listener, WiredPort, Wiring
from lbspeaker.model import BGPAdvertisement, Condition, Config, Endpoint, L2Advertisement, Scope, Service
from tests.build import LAN, ROUTER, selector, service
from tests.core.findings import about, evidence, here, only, passes, wiring

NODE_PORT = (WiredPort(80, 8080, node_port=30080),)
SPREAD = {"shop/web": (Endpoint("a"), Endpoint("b"), Endpoint("b"), Endpoint("b"))}
BY_BGP = Config((LAN,), (), (BGPAdvertisement("lan"),), (ROUTER,))


def test_a_service_that_was_refused_an_ip() -> None:
    refused = Condition("lbspeaker.io/Allocated", "False", "PoolExhausted", "pool lan has no address left")
    found = only(evidence(models=[service("shop/web", condition=refused)]), "address")
    assert found.grade is Grade.FAIL and "PoolExhausted: pool lan has no address left" in found.what
    assert found.remedy == "add addresses to a pool that may serve it (spec.addresses)"
    other = replace(refused, reason="Quota")
    told = only(evidence(models=[service("shop/web", condition=other)]), "address")
    assert told.remedy == "lbspeaker explain shop/web says why, and what to do"
    partly = service("shop/web", condition=refused, held="192.0.2.10")
    assert passes(evidence(models=[partly]), "address")


def test_two_services_with_one_node_port() -> None:
    both = [wiring("shop/api", ports=NODE_PORT), wiring("shop/web", ports=NODE_PORT)]
    found = only(evidence(*both), "node-port")
    assert (found.grade, found.subject) == (Grade.FAIL, "shop/api")
    assert found.what == "nodePort 30080/TCP is also that of shop/web"
    other = wiring("shop/web", ports=(WiredPort(53, 53, protocol="UDP", node_port=30080),))
    assert passes(evidence(both[0], other), "node-port")


def test_the_node_port_of_a_service_that_nobody_asked_for() -> None:
    both = [wiring("shop/api", ports=NODE_PORT), wiring("shop/web", ports=NODE_PORT), wiring("shop/db")]
    assert passes(evidence(*both, only=frozenset({"shop/db"})), "node-port")
    assert only(evidence(*both, only=frozenset({"shop/web"})), "node-port").subject == "shop/web"


def test_one_service_with_one_node_port_twice() -> None:
    twice = wiring(ports=(*NODE_PORT, WiredPort(81, 8080, node_port=30080)))
    assert only(evidence(twice), "node-port").what == "nodePort 30080/TCP is also that of shop/web"


def test_a_node_port_outside_the_range() -> None:
    found = only(evidence(wiring(ports=(WiredPort(80, 8080, node_port=8080),))), "node-port")
    assert (found.grade, found.what) == (Grade.WARN, "nodePort 8080 is outside 30000-32767")
    assert passes(evidence(wiring(ports=NODE_PORT)), "node-port")


def test_a_node_port_on_which_a_program_listens() -> None:
    def with_listener(program: str) -> list[str]:
        listener = Listener("tcp", ip_address("0.0.0.0"), 30080, program)
        told = evidence(wiring(ports=NODE_PORT), here=here(listeners=(listener,)))
        return [one.what for one in about(told, "node-port") if one.grade is Grade.WARN]

    assert with_listener("nginx: master") == ["nodePort 30080/TCP: nginx: master listens there on a"]
    assert with_listener("/usr/local/bin/kube-proxy --config=…") == []


def test_a_node_port_that_the_node_uses_itself() -> None:
    def hurts(ports: str) -> bool:
        settings = {"net.ipv4.ip_local_port_range": ports}
        return not passes(evidence(wiring(ports=NODE_PORT), here=here(settings=settings)), "node-port")

    assert hurts("30000\t60999") and hurts("30080\t60999") and hurts("1024\t30080")
    assert not hurts("32768\t60999") and not hurts("30081\t60999") and not hurts("1024\t30079")
    assert not hurts("")


def test_an_external_name_that_is_an_ip() -> None:
    told = evidence(Wiring("shop/db", "ExternalName", external_name="192.0.2.7"))
    assert only(told, "external-name").grade is Grade.FAIL
    named = evidence(Wiring("shop/db", "ExternalName", external_name="db.example.com"))
    assert passes(named, "external-name")


def test_an_external_name_that_is_taken_for_a_load_balancer() -> None:
    asking = Wiring("shop/db", "ExternalName", external_name="db.example.com", asks=True)
    found = only(evidence(asking), "external-name")
    assert found.grade is Grade.WARN and "annotations for a load balancer" in found.what
    ignored = only(evidence(wiring(external_name="db.example.com")), "external-name")
    assert ignored.what == "externalName db.example.com in a Service of type LoadBalancer"


def test_names_and_ips_of_services_that_nobody_asked_for() -> None:
    odd = wiring("shop/odd", external_name="db.example.com", external_ips=("192.0.2.9",))
    told = evidence(odd, wiring("shop/web"))
    for code in ("external-name", "external-ips"):
        assert passes(replace(told, only=frozenset({"shop/web"})), code)
        assert only(replace(told, only=frozenset({"shop/odd"})), code).subject == "shop/odd"


def test_external_ips() -> None:
    def found(text: str, *models: Service) -> tuple[Grade, str]:
        services = [wiring(external_ips=(text,)), wiring("shop/other")]
        one = only(evidence(*services, models=models), "external-ips")
        return one.grade, one.what

    other = service("shop/other", held="192.0.2.10")
    assert found("192.0.2.10", other) == (
        Grade.FAIL,
        "externalIPs has 192.0.2.10, the service IP of shop/other",
    )
    assert found("192.0.2.11") == (Grade.WARN, "externalIPs has 192.0.2.11, an address of pool lan")
    assert found("203.0.113.1") == (Grade.WARN, "externalIPs has 203.0.113.1")
    assert passes(evidence(), "external-ips")


def test_clients_that_stick_to_a_pod() -> None:
    assert only(evidence(wiring(sticky=True)), "affinity").grade is Grade.WARN
    assert passes(evidence(), "affinity")


def test_local_on_layer_2_with_pods_on_several_nodes() -> None:
    local = service("shop/web", local=True, held="192.0.2.10")
    found = only(evidence(models=[local], endpoints=SPREAD), "local-spread")
    assert found.grade is Grade.WARN
    assert found.what == "externalTrafficPolicy Local on layer 2, and Pods on 2 nodes (a: 1, b: 3)"
    assert passes(evidence(models=[service("shop/web", held="192.0.2.10")], endpoints=SPREAD), "local-spread")
    one_node = {"shop/web": (Endpoint("a"), Endpoint("a"))}
    assert passes(evidence(models=[local], endpoints=one_node), "local-spread")


def test_local_by_bgp_with_pods_spread_unevenly() -> None:
    local = service("shop/web", local=True, held="192.0.2.10")
    found = only(evidence(models=[local], endpoints=SPREAD, config=BY_BGP), "local-spread")
    assert "some Pods get 3 times as much as others" in found.why
    nobody = replace(BY_BGP, peers=())
    assert passes(evidence(models=[local], endpoints=SPREAD, config=nobody), "local-spread")
    even = {"shop/web": (Endpoint("a"), Endpoint("b"))}
    assert passes(evidence(models=[local], endpoints=even, config=BY_BGP), "local-spread")


def test_endpoints_that_do_not_serve_get_no_share() -> None:
    local = service("shop/web", local=True, held="192.0.2.10")
    leaving = {"shop/web": (Endpoint("a"), Endpoint("a", False, False), Endpoint("b"))}
    assert passes(evidence(models=[local], endpoints=leaving, config=BY_BGP), "local-spread")


@pytest.mark.parametrize("kind", ["layer 2", "BGP"])
def test_an_advertisement_that_is_not_about_the_service_spreads_nothing(kind: str) -> None:
    def spread(about: Scope) -> bool:
        local = service("shop/web", local=True, held="192.0.2.10", labels={"app": "web"})
        l2, bgp = L2Advertisement("l2", about), BGPAdvertisement("bgp", about)
        by_bgp = Config((LAN,), (), (bgp,), (ROUTER,))
        config = by_bgp if kind == "BGP" else Config((LAN,), (l2,))
        return not passes(evidence(models=[local], endpoints=SPREAD, config=config), "local-spread")

    assert spread(Scope(frozenset({"lan"}), service_selectors=(selector(app="web"),)))
    assert not spread(Scope(frozenset({"lan"}), service_selectors=(selector(app="db"),)))
    assert not spread(Scope(frozenset({"other"}), service_selectors=(selector(app="web"),)))


def test_a_pod_with_two_families_counts_once() -> None:
    dual = service("shop/web", local=True, held="192.0.2.10", families=(4, 6))
    twice = {"shop/web": (Endpoint("a"), Endpoint("b"), Endpoint("a"), Endpoint("b"))}
    assert passes(evidence(models=[dual], endpoints=twice, config=BY_BGP), "local-spread")


def test_a_service_that_has_no_ip_yet_will_have_one_of_the_only_pool() -> None:
    local = service("shop/web", local=True)
    assert not passes(evidence(models=[local], endpoints=SPREAD), "local-spread")
    two = Config((LAN, LAN), (L2Advertisement("lan"),))
    assert passes(evidence(models=[local], endpoints=SPREAD, config=two), "local-spread")
