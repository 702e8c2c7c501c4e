"""Several controllers, one that acts: no IP twice, none lost, and nothing written for nothing."""

import json
import re
import signal
import time
from collections import Counter
from pathlib import Path

import pytest

from lbspeaker.config.crds import crds
from lbspeaker.config.kinds import KINDS
from tests.bench import servers
from tests.bench.manifests import preloaded
from tests.controller.conftest import SERVICES, SYSTEM, Cluster, Controller, wait_for
from tests.lab.apiserver_backends import MERGE_PATCH, Client

pytestmark = pytest.mark.timeout(120)
COUNT = 2000  # written within half a second
LEASE = f"/apis/coordination.k8s.io/v1/namespaces/{SYSTEM}/leases/lbspeaker.controller"


def given(client: Client) -> dict[str, str]:
    items = client.good("GET", SERVICES)["items"]
    found = {i["metadata"]["name"]: i.get("status", {}).get("loadBalancer", {}).get("ingress") for i in items}
    return {name: ingress[0]["ip"] for name, ingress in found.items() if ingress}


def test_the_leader_is_killed_in_the_middle_of_thousands_of_allocations() -> None:
    with servers.memory(preloaded(COUNT)) as server:
        cluster = Cluster(server.client)
        try:
            with server.client.watch("/api/v1/services", 30, fieldSelector="metadata.name!=s00000") as stream:
                first = cluster.controller(POD_NAME="first")
                seen = 0
                while seen < COUNT // 20:  # it is in the middle of it
                    seen += "ingress" in stream.next()["object"].get("status", {}).get("loadBalancer", {})
                first.end(signal.SIGKILL)
            second = cluster.controller(POD_NAME="second")
            before = given(server.client)
            assert len(before) < COUNT, "killed too late: nothing is left to do"
            second.says("standing-by").says("leading")
            wait_for(lambda: len(given(server.client)) == COUNT, "all have an IP", 30)
            after = given(server.client)
            assert len(set(after.values())) == COUNT, "no IP is given twice"
            assert {name: after[name] for name in before} == before, "none is lost"
        finally:
            cluster.end()


def test_two_at_once_write_no_more_than_one(cluster: Cluster) -> None:
    cluster.create("IPAddressPool", "lan", addresses=["192.0.2.1-192.0.2.99"])
    running = [cluster.controller(POD_NAME=name) for name in ("a", "b")]
    wait_for(lambda: any(" leading" in one.log for one in running), "one leads")
    for number in range(20):
        cluster.service(f"s{number:02}")
    wait_for(lambda: len(given(cluster.client)) == 20, "all have an IP")
    time.sleep(0.5)
    assert sorted(" leading" in one.log for one in running) == [False, True]
    told = "".join(one.log for one in running)
    assert len(re.findall(r" allocated ", told)) == 20


def test_who_ends_in_order_hands_over_at_once(cluster: Cluster) -> None:
    cluster.create("IPAddressPool", "lan", addresses=["192.0.2.1-192.0.2.99"])
    first = cluster.controller(POD_NAME="first").says("leading")
    second = cluster.controller(POD_NAME="second").says("standing-by")
    assert first.end() == 0
    began = time.monotonic()
    second.says("leading")
    assert time.monotonic() - began < 4, "it did not wait for the Lease to expire"
    cluster.service("web")
    assert cluster.ip("web") == "192.0.2.1"


def test_who_is_cut_off_stops_to_write_and_comes_back(cluster: Cluster) -> None:
    cluster.create("IPAddressPool", "lan", addresses=["192.0.2.1-192.0.2.99"])
    first = cluster.controller(POD_NAME="first").says("serving")
    cluster.client.good("PATCH", LEASE, {"spec": {"holderIdentity": "thief"}}, MERGE_PATCH)
    first.says("leadership-lost")
    cluster.service("web")
    time.sleep(1.5)
    assert cluster.ips("web") == []
    cluster.client.good("PATCH", LEASE, {"spec": {"holderIdentity": ""}}, MERGE_PATCH)
    assert cluster.ip("web") == "192.0.2.1"
    assert first.process.poll() is None, "it is the same process"


# --- writes ---------------------------------------------------------------------------------------------


def writes(requests: dict[str, int]) -> Counter[str]:
    """What controllers write, by method and path: all but their Lease, and what this test does itself.

    A Secret that is there already is no write: asking for one anew is how the controller finds out.
    """
    return Counter(
        {
            asked: count
            for asked, count in requests.items()
            if not asked.startswith("GET ")
            and "/leases" not in asked
            and not asked.endswith("/secrets")
            and f"POST {SERVICES}" != asked
        }
    )


def test_a_resync_and_a_restart_write_nothing() -> None:
    pending = [
        {
            "apiVersion": "v1", "kind": "Service",
            "metadata": {"name": "pending", "namespace": "default",
                         "annotations": {"lbspeaker.io/loadBalancerIPs": "203.0.113.1"}},
            "spec": {"type": "LoadBalancer", "ports": [{"port": 80}], "allocateLoadBalancerNodePorts": False},
        }
    ]  # fmt: skip
    with servers.memory([*preloaded(200), *pending]) as server:
        cluster = Cluster(server.client)
        try:
            first = cluster.controller()
            wait_for(
                lambda: len(given(server.client)) == 200 and cluster.allocated("pending"), "all are told"
            )
            wait_for(
                lambda: cluster.status("IPAddressPool", "bench").get("assignedIPv4") == 200, "the pool, too"
            )
            time.sleep(1.5)
            before = writes(server.requests())
            server.forget()  # everybody lists anew
            time.sleep(3)
            assert writes(server.requests()) - before == Counter()
            first.end(signal.SIGKILL)
            cluster.controller().says("serving")
            time.sleep(2)
            assert writes(server.requests()) - before == Counter()
        finally:
            cluster.end()


# --- MetalLB's own objects ------------------------------------------------------------------------------


def metallb_crds() -> list[dict[str, object]]:
    """Ours, as MetalLB has them: its group, its versions, and statuses without room for conditions."""
    counts = ("assignedIPv4", "assignedIPv6", "availableIPv4", "availableIPv6")
    pool = {"type": "object", "properties": {name: {"type": "integer", "format": "int64"} for name in counts}}
    found = []
    for crd in crds():
        text = json.dumps(crd).replace("lbspeaker.io", "metallb.io")
        made = json.loads(text)
        if not KINDS[made["spec"]["names"]["kind"]].versions_in("metallb.io"):
            continue
        made["spec"]["names"] |= {"shortNames": [], "categories": []}
        (version,) = made["spec"]["versions"]
        version["name"] = "v1beta2" if made["spec"]["names"]["kind"] == "BGPPeer" else "v1beta1"
        version["additionalPrinterColumns"] = []
        schema = version["schema"]["openAPIV3Schema"]["properties"]
        schema["spec"] = (
            KINDS[made["spec"]["names"]["kind"]].versions[f"metallb.io/{version['name']}"].openapi()
        )
        schema["status"] = pool if made["spec"]["names"]["kind"] == "IPAddressPool" else {"type": "object"}
        found.append(made)
    return found


def test_metallbs_objects_are_read_where_they_are_and_left_as_they_were(cluster: Cluster) -> None:
    client = cluster.client
    for crd in metallb_crds():
        client.ask("POST", "/apis/apiextensions.k8s.io/v1/customresourcedefinitions", crd)
    pools = cluster.path("IPAddressPool", group="metallb.io/v1beta1")
    wait_for(lambda: client.ask("GET", pools).status == 200, "MetalLB's CRDs")
    pool = cluster.object("IPAddressPool", "lan", addresses=["192.0.2.1-192.0.2.9"])
    pool["apiVersion"] = "metallb.io/v1beta1"
    wrong = cluster.object("IPAddressPool", "wrong", addresses=["192.0.2.5-192.0.2.6"])
    wrong["apiVersion"] = "metallb.io/v1beta1"
    peers = cluster.path("BGPPeer", group="metallb.io/v1beta2")
    peer = cluster.object("BGPPeer", "router", myASN=64513, peerASN=64512, peerAddress="192.0.2.254")
    peer["apiVersion"] = "metallb.io/v1beta2"
    try:
        for path, body in ((pools, pool), (pools, wrong), (peers, peer)):
            client.good("POST", path, body)
        first = cluster.controller("--api-group", "metallb.io")
        cluster.service("web", annotations={"metallb.io/loadBalancerIPs": "192.0.2.7"})
        assert cluster.ip("web") == "192.0.2.7"

        def status() -> object:
            return client.good("GET", f"{pools}/lan").get("status")

        counts = {"assignedIPv4": 1, "assignedIPv6": 0, "availableIPv4": 8, "availableIPv6": 0}
        wait_for(lambda: status() == counts, "the status that MetalLB's pools have")
        assert not client.good("GET", f"{pools}/lan")["metadata"].get("finalizers")
        assert cluster.published() == {"IPAddressPool/lan", "BGPPeer/router"}
        wait_for(lambda: cluster.status("EffectiveConfiguration", "lbspeaker"), "a summary")
        (row,) = cluster.status("EffectiveConfiguration", "lbspeaker")["refusals"]
        assert row["object"] == "IPAddressPool/wrong"
        version = client.good("GET", f"{pools}/lan")["metadata"]["resourceVersion"]
        first.end()
        cluster.controller("--api-group", "metallb.io").says("serving")
        time.sleep(1.5)
        assert client.good("GET", f"{pools}/lan")["metadata"]["resourceVersion"] == version
    finally:
        cluster.end()
        for path in (f"{pools}/lan", f"{pools}/wrong", f"{peers}/router"):
            client.ask("DELETE", path)


def test_without_the_right_to_the_lease_it_says_so(tmp_path: Path) -> None:
    with servers.memory() as server:  # not even a namespace
        one = Controller(server.client.kubeconfig, "--namespace", "nowhere")
        try:
            one.says("lease-refused")
            assert "nowhere" in one.log
        finally:
            one.end()
