"""What Services get, and what their users are told, through a whole life."""

import signal
import time

import pytest

from tests.controller.conftest import SERVICES, Cluster, wait_for

pytestmark = pytest.mark.timeout(90)


def test_who_waits_is_told_why_in_an_event_and_a_condition_and_once(cluster: Cluster) -> None:
    first = cluster.controller()
    cluster.service("web")
    wait_for(lambda: cluster.allocated("web"), "a condition")
    told = cluster.allocated("web")
    assert (told["status"], told["reason"]) == ("False", "NoPool")
    assert told["message"].startswith("there is no IPAddressPool in the controller's namespace")
    assert cluster.events("web") == [f"NoPool: {told['message']}"]
    version = cluster.services()["web"]["metadata"]["resourceVersion"]
    first.end()
    cluster.controller().says("serving")
    time.sleep(1)
    assert cluster.services()["web"]["metadata"]["resourceVersion"] == version
    assert len(cluster.events("web")) == 1, "not again after a restart"
    cluster.create("IPAddressPool", "lan", addresses=["192.0.2.1-192.0.2.1"])
    cluster.ip("web")
    wait_for(lambda: not cluster.allocated("web"), "the condition is gone")
    ingress = cluster.services()["web"]["status"]["loadBalancer"]["ingress"]
    assert ingress == [{"ip": "192.0.2.1", "ipMode": "VIP"}]


def test_conditions_of_others_are_left_alone(cluster: Cluster) -> None:
    cluster.service("web")
    other = {
        "type": "example.com/Ready",
        "status": "True",
        "reason": "Good",
        "message": "",
        "lastTransitionTime": "2026-01-01T00:00:00Z",
    }
    body = {"status": {"conditions": [other]}}
    cluster.client.good("PATCH", f"{SERVICES}/web/status", body, "application/merge-patch+json")
    cluster.controller()
    wait_for(lambda: cluster.allocated("web"), "ours")
    assert other in cluster.services()["web"]["status"]["conditions"]
    cluster.create("IPAddressPool", "lan", addresses=["192.0.2.1-192.0.2.1"])
    wait_for(lambda: cluster.services()["web"]["status"].get("conditions") == [other], "only the other's")


def test_a_pool_that_shrinks_moves_nobody_unless_it_says_so(cluster: Cluster) -> None:
    cluster.create("IPAddressPool", "lan", addresses=["192.0.2.1-192.0.2.9"])
    first = cluster.controller()
    cluster.service("web", annotations={"lbspeaker.io/loadBalancerIPs": "192.0.2.9"})
    assert cluster.ip("web") == "192.0.2.9"
    cluster.edit_service("web", metadata={"annotations": {"lbspeaker.io/loadBalancerIPs": None}})
    cluster.edit("IPAddressPool", "lan", addresses=["192.0.2.1-192.0.2.5"])
    wait_for(lambda: cluster.allocated("web").get("reason") == "OutsidePool", "it is told")
    assert cluster.allocated("web")["status"] == "True"
    wait_for(lambda: any(e.startswith("OutsidePool") for e in cluster.events("web")), "and as an event")
    first.end(signal.SIGKILL)
    cluster.controller().says("serving")
    cluster.service("new")
    assert cluster.ip("new") == "192.0.2.1"
    assert cluster.ips("web") == ["192.0.2.9"], "over a restart, too"
    cluster.edit("IPAddressPool", "lan", onShrink="Renumber")
    wait_for(lambda: cluster.ips("web") == ["192.0.2.2"], "it moves")
    wait_for(lambda: not cluster.allocated("web"), "and nothing is said any more")


def test_an_ip_that_nothing_explains_is_replaced(cluster: Cluster) -> None:
    cluster.service("web", annotations={"metallb.io/ip-allocated-from-pool": "lan"})
    body = {"status": {"loadBalancer": {"ingress": [{"ip": "203.0.113.7"}]}}}
    cluster.client.good("PATCH", f"{SERVICES}/web/status", body, "application/merge-patch+json")
    cluster.create("IPAddressPool", "lan", addresses=["192.0.2.1-192.0.2.9"])
    cluster.controller()
    wait_for(lambda: cluster.ips("web") == ["192.0.2.1"], "an IP of the pool")


def test_a_service_that_is_no_load_balancer_any_more_is_left_tidy(cluster: Cluster) -> None:
    cluster.create("IPAddressPool", "lan", addresses=["192.0.2.1-192.0.2.1"])
    cluster.controller()
    cluster.service("web")
    cluster.ip("web")
    cluster.service("waits")
    wait_for(lambda: cluster.allocated("waits"), "the other one waits")
    cluster.edit_service("web", spec={"type": "ClusterIP", "allocateLoadBalancerNodePorts": None})
    assert cluster.ip("waits") == "192.0.2.1"
    own = "lbspeaker.io/ip-allocated-from-pool"
    wait_for(lambda: own not in (cluster.services()["web"]["metadata"].get("annotations") or {}), "tidy")
    cluster.edit_service("web", spec={"type": "LoadBalancer"})
    wait_for(lambda: cluster.allocated("web").get("reason") == "PoolExhausted", "it may come back, and wait")
    cluster.edit_service("web", spec={"type": "ClusterIP"})
    wait_for(lambda: not cluster.allocated("web"), "the condition goes, too")


def test_a_reserved_ip_outlives_its_service(cluster: Cluster) -> None:
    cluster.create(
        "IPAddressPool",
        "lan",
        addresses=["192.0.2.1-192.0.2.3"],
        reservations=[{"service": "default/web", "addresses": ["192.0.2.1"]}],
    )
    cluster.controller()
    cluster.service("other")
    assert cluster.ip("other") == "192.0.2.2"
    for _ in range(2):
        cluster.service("web")
        assert cluster.ip("web") == "192.0.2.1"
        cluster.delete_service("web")


def test_a_released_ip_cools_down_also_while_nobody_watches(cluster: Cluster) -> None:
    cluster.create("IPAddressPool", "lan", addresses=["192.0.2.1-192.0.2.2"], cooldown="6s")
    first = cluster.controller()
    for name in ("a", "b"):
        cluster.service(name)
        cluster.ip(name)
    freed = cluster.ips("a")[0], cluster.ips("b")[0]
    wait_for(
        lambda: cluster.status("IPAddressPool", "lan").get("assigned") == ["192.0.2.1-192.0.2.2"], "in use"
    )
    cluster.delete_service("a")

    def released() -> list[str]:
        return [row["address"] for row in cluster.status("IPAddressPool", "lan").get("released") or []]

    wait_for(lambda: released() == [freed[0]], "it is told that it cools down")
    first.end(signal.SIGKILL)
    cluster.delete_service("b")
    began = time.monotonic()
    cluster.service("stranger")
    second = cluster.controller()
    second.says("refused")
    wait_for(lambda: len(released()) == 2, "the other was released unseen")
    assert cluster.ips("stranger") == []
    assert "reserved, or was released lately" in second.log
    cluster.service("a", annotations={"lbspeaker.io/address-pool": "lan"})
    assert cluster.ip("a") == freed[0], "who had it gets it back at once"
    cluster.ip("stranger")
    assert time.monotonic() - began >= 4, "and others when it has cooled down"


def test_quotas_and_namespaces_of_tenants(cluster: Cluster) -> None:
    cluster.client.ask(
        "POST", "/api/v1/namespaces", {"metadata": {"name": "shop", "labels": {"team": "shop"}}}
    )
    cluster.create("IPAddressPool", "all", addresses=["192.0.2.1-192.0.2.9"], namespaceQuota=1)
    rule = {"namespaceSelectors": [{"matchLabels": {"team": "shop"}}], "exclusive": True}
    cluster.create("IPAddressPool", "shop", addresses=["198.51.100.1-198.51.100.1"], serviceAllocation=rule)
    cluster.controller()
    cluster.service("a")
    cluster.ip("a")
    cluster.service("b")
    wait_for(lambda: cluster.allocated("b").get("reason") == "QuotaReached", "the quota counts")
    service = {
        "apiVersion": "v1", "kind": "Service", "metadata": {"name": "s"},
        "spec": {"type": "LoadBalancer", "ports": [{"port": 80}], "allocateLoadBalancerNodePorts": False},
    }  # fmt: skip
    path = "/api/v1/namespaces/shop/services"
    cluster.client.good("POST", path, service)

    def ips() -> object:
        return cluster.client.good("GET", f"{path}/s")["status"].get("loadBalancer", {}).get("ingress")

    wait_for(lambda: ips() == [{"ip": "198.51.100.1", "ipMode": "VIP"}], "the pool of the shop")
