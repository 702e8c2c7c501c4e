"""What configuration objects are told: verdicts, usage, and the protection of a pool in use."""

import json
import signal
import time

import pytest

from lbspeaker.core.objects import FINALIZER
from tests.controller.conftest import Cluster, wait_for
from tests.lab.apiserver_backends import MERGE_PATCH

pytestmark = pytest.mark.timeout(90)


def accepted(cluster: Cluster, kind: str, name: str) -> tuple[str, str]:
    condition = cluster.condition(kind, name)
    return condition.get("status", ""), condition.get("reason", "")


def test_each_object_has_a_verdict_of_its_own(cluster: Cluster) -> None:
    cluster.create("IPAddressPool", "lan", addresses=["192.0.2.1-192.0.2.9"])
    cluster.create("IPAddressPool", "overlapping", addresses=["192.0.2.5-192.0.2.20"])
    cluster.create("L2Advertisement", "lan", ipAddressPools=["lan", "lam"])
    cluster.create("BGPPeer", "router", myASN=64513, peerASN=64512, peerAddress="192.0.2.254")
    cluster.create("BFDProfile", "fast", receiveInterval=300)
    cluster.create("Community", "names", communities=[{"name": "one", "value": "64512:1"}])
    cluster.create("BGPAdvertisement", "all", communities=["one", "two"])
    cluster.controller()
    for kind, name, verdict in (
        ("IPAddressPool", "lan", ("True", "Accepted")),
        ("IPAddressPool", "overlapping", ("False", "Invalid")),
        ("L2Advertisement", "lan", ("True", "Doubtful")),
        ("BGPPeer", "router", ("True", "Accepted")),
        ("BFDProfile", "fast", ("True", "Accepted")),
        ("Community", "names", ("True", "Accepted")),
        ("BGPAdvertisement", "all", ("False", "Invalid")),
    ):
        wait_for(lambda k=kind, n=name, v=verdict: accepted(cluster, k, n) == v, f"{kind}/{name} {verdict}")
    told = cluster.condition("IPAddressPool", "overlapping")
    assert told["observedGeneration"] == 1
    assert "192.0.2.5-192.0.2.20 overlaps 192.0.2.1-192.0.2.9 of pool lan" in told["message"]
    assert "did you mean lan?" in cluster.condition("L2Advertisement", "lan")["message"]
    assert "'two' is neither a community" in cluster.condition("BGPAdvertisement", "all")["message"]
    assert cluster.published() == {
        "IPAddressPool/lan", "L2Advertisement/lan", "BGPPeer/router", "BFDProfile/fast", "Community/names"
    }  # fmt: skip
    wait_for(lambda: "refused" in cluster.status("EffectiveConfiguration", "lbspeaker"), "a summary")
    summary = cluster.status("EffectiveConfiguration", "lbspeaker")
    assert (summary["accepted"], summary["refused"]) == (5, 2)
    assert {row["object"] for row in summary["refusals"]} == {
        "IPAddressPool/overlapping", "BGPAdvertisement/all"
    }  # fmt: skip


def test_the_last_right_version_stays_in_force_until_it_is_mended(cluster: Cluster) -> None:
    cluster.create("IPAddressPool", "earlier", addresses=["198.51.100.0/28"])
    cluster.create("IPAddressPool", "lan", addresses=["192.0.2.1-192.0.2.9"])
    first = cluster.controller()
    cluster.service("web")
    ip = cluster.ip("web")
    wrong = cluster.edit("IPAddressPool", "lan", addresses=["198.51.100.3-198.51.100.9"])
    wait_for(lambda: accepted(cluster, "IPAddressPool", "lan") == ("False", "Invalid"), "it is refused")
    told = cluster.condition("IPAddressPool", "lan")
    assert told["observedGeneration"] == wrong
    assert "the last right version of generation 1 stays in force" in told["message"]
    first.end(signal.SIGKILL)
    cluster.controller().says("serving")
    cluster.service("later", annotations={"lbspeaker.io/address-pool": "lan"})
    assert cluster.ip("later").startswith("192.0.2."), "also for a controller that never saw it right"
    assert cluster.ips("web") == [ip]
    mended = cluster.edit("IPAddressPool", "lan", addresses=["192.0.2.1-192.0.2.20"])
    wait_for(lambda: accepted(cluster, "IPAddressPool", "lan") == ("True", "Accepted"), "it is mended")
    assert cluster.condition("IPAddressPool", "lan")["observedGeneration"] == mended


def test_an_object_that_is_wrong_frees_the_others_as_soon_as_it_is_gone(cluster: Cluster) -> None:
    cluster.create("IPAddressPool", "a", addresses=["192.0.2.1-192.0.2.9"])
    time.sleep(1.1)  # older by its creation time, which has whole seconds
    cluster.create("IPAddressPool", "b", addresses=["192.0.2.9-192.0.2.20"])
    cluster.controller()
    wait_for(lambda: accepted(cluster, "IPAddressPool", "b") == ("False", "Invalid"), "b is refused")
    cluster.client.good("DELETE", cluster.path("IPAddressPool", "a"))
    wait_for(lambda: accepted(cluster, "IPAddressPool", "b") == ("True", "Accepted"), "b counts now")


def test_a_pool_says_how_far_it_is_used_up(cluster: Cluster) -> None:
    cluster.create("IPAddressPool", "lan", addresses=["192.0.2.1-192.0.2.2", "2001:db8::/64"])
    cluster.create("IPAddressPool", "huge", addresses=["2001:db8:1::/48"], autoAssign=False)
    cluster.controller()
    for name in ("a", "b", "c"):
        cluster.service(name)

    def status() -> dict[str, object]:
        return {k: v for k, v in cluster.status("IPAddressPool", "lan").items() if k != "conditions"}

    expected = {
        "assignedIPv4": 2, "assignedIPv6": 0, "availableIPv4": 0, "availableIPv6": 2**63 - 1,
        "sizeIPv4": 2, "sizeIPv6": 2**63 - 1, "pending": 1,
    }  # fmt: skip
    wait_for(lambda: status() == expected, f"{expected}")
    assert cluster.status("IPAddressPool", "huge")["availableIPv6"] == 2**63 - 1
    cluster.delete_service("a")
    wait_for(lambda: status()["pending"] == 0, "the one that waited got it")
    shown = cluster.kubectl("get", "ippool", "-n", cluster.system, "lan")
    head, row = (line.split() for line in shown.splitlines())
    assert "ACCEPTED" in head
    assert row[0] == "lan"
    assert "True" in row


def test_a_pool_in_use_is_drained_before_it_goes(cluster: Cluster) -> None:
    cluster.create("IPAddressPool", "lan", addresses=["192.0.2.1-192.0.2.9"])
    cluster.create("IPAddressPool", "next", addresses=["198.51.100.0/28"])
    cluster.controller()
    cluster.service("web")
    ip = cluster.ip("web")

    def finalizers() -> list[str]:
        return cluster.get("IPAddressPool", "lan")["metadata"].get("finalizers") or []

    wait_for(lambda: finalizers() == [FINALIZER], "it is protected")
    assert not cluster.get("IPAddressPool", "next")["metadata"].get("finalizers"), "nobody uses it"
    cluster.client.good("DELETE", cluster.path("IPAddressPool", "lan"))
    wait_for(lambda: cluster.condition("IPAddressPool", "lan", "Draining"), "it drains")
    told = cluster.condition("IPAddressPool", "lan", "Draining")
    assert (told["status"], told["reason"]) == ("True", "Deleted")
    assert told["message"] == "no new IPs are given; still in use by default/web"
    cluster.service("new")
    assert cluster.ip("new").startswith("198.51.100."), "it gives nothing any more"
    assert cluster.ips("web") == [ip]
    assert "IPAddressPool/lan" in cluster.published(), "speakers still announce from it"
    cluster.delete_service("web")
    wait_for(lambda: not cluster.exists("IPAddressPool", "lan"), "it is gone")


def test_a_pool_is_renamed_and_no_ip_changes(cluster: Cluster) -> None:
    cluster.create("IPAddressPool", "old", addresses=["192.0.2.1-192.0.2.9"])
    cluster.controller()
    cluster.service("web")
    ip = cluster.ip("web")
    wait_for(lambda: cluster.get("IPAddressPool", "old")["metadata"].get("finalizers"), "it is protected")
    time.sleep(1.1)
    cluster.create("IPAddressPool", "new", addresses=["192.0.2.1-192.0.2.9"])
    wait_for(
        lambda: accepted(cluster, "IPAddressPool", "new") == ("False", "Invalid"), "two cannot have one IP"
    )
    cluster.client.good("DELETE", cluster.path("IPAddressPool", "old"))
    wait_for(lambda: not cluster.exists("IPAddressPool", "old"), "the old one gives way, and is gone")
    wait_for(lambda: accepted(cluster, "IPAddressPool", "new") == ("True", "Accepted"), "the new one counts")
    annotation = "lbspeaker.io/ip-allocated-from-pool"
    wait_for(
        lambda: cluster.services()["web"]["metadata"]["annotations"].get(annotation) == "new", "its pool"
    )
    assert cluster.ips("web") == [ip]


def test_a_disabled_pool_drains_and_comes_back(cluster: Cluster) -> None:
    cluster.create("IPAddressPool", "lan", addresses=["192.0.2.1-192.0.2.9"], disabled=True)
    cluster.controller()
    cluster.service("web")
    wait_for(lambda: cluster.allocated("web").get("reason") == "PoolClosed", "it is refused")
    assert "lan: disabled" in cluster.allocated("web")["message"]
    wait_for(lambda: cluster.condition("IPAddressPool", "lan", "Draining").get("status") == "False", "empty")
    cluster.edit("IPAddressPool", "lan", disabled=False)
    cluster.ip("web")
    wait_for(
        lambda: not cluster.condition("IPAddressPool", "lan", "Draining"), "no word of draining any more"
    )
    wait_for(lambda: not cluster.allocated("web"), "nor of a refusal")


def test_pools_that_overlap_the_networks_of_the_cluster_are_doubted_not_refused(cluster: Cluster) -> None:
    node = {
        "metadata": {"name": "node-a"},
        "spec": {"podCIDR": "10.244.3.0/24", "podCIDRs": ["10.244.3.0/24"]},
    }
    cluster.client.ask("DELETE", "/api/v1/nodes/node-a")
    cluster.client.good("POST", "/api/v1/nodes", node)
    addresses = {"status": {"addresses": [{"type": "InternalIP", "address": "192.0.2.7"}]}}
    cluster.client.good("PATCH", "/api/v1/nodes/node-a/status", addresses, MERGE_PATCH)
    try:
        cluster.create("IPAddressPool", "lan", addresses=["192.0.2.1-192.0.2.9"])
        cluster.create("IPAddressPool", "pods", addresses=["10.244.0.0/16"])
        cluster.create("IPAddressPool", "services", addresses=["10.96.0.0/16"], autoAssign=False)
        cluster.controller()
        cluster.service("web")
        cluster.ip("web")
        for name, words in (
            ("lan", "the pool contains 192.0.2.7, the address of node node-a: use spec.exclude"),
            ("pods", "addresses of pods on node-a (10.244.3.0/24)"),
            ("services", "the cluster IP of default/web"),
        ):
            wait_for(
                lambda n=name, w=words: w in cluster.condition("IPAddressPool", n).get("message", ""), words
            )
            assert accepted(cluster, "IPAddressPool", name) == ("True", "Doubtful")
    finally:
        cluster.client.ask("DELETE", "/api/v1/nodes/node-a")


def test_the_effective_configuration_is_put_right_when_somebody_edits_or_deletes_it(cluster: Cluster) -> None:
    cluster.create("IPAddressPool", "lan", addresses=["192.0.2.1-192.0.2.9"])
    cluster.controller()
    wait_for(lambda: cluster.published() == {"IPAddressPool/lan"}, "published")
    path = cluster.path("EffectiveConfiguration", "lbspeaker")
    cluster.client.good("PATCH", path, {"spec": {"documents": []}}, MERGE_PATCH)
    wait_for(lambda: cluster.published() == {"IPAddressPool/lan"}, "put right")
    cluster.client.good("DELETE", path)
    wait_for(lambda: cluster.published() == {"IPAddressPool/lan"}, "written anew")


def test_kubectl_describes_what_is_wrong(cluster: Cluster) -> None:
    pool = cluster.object(
        "IPAddressPool", "lan", addresses=["2001:db8::9-2001:db8::1"]
    )  # CEL leaves it to us
    cluster.kubectl("apply", "-f", "-", text=json.dumps(pool))
    cluster.controller()
    wait_for(lambda: accepted(cluster, "IPAddressPool", "lan") == ("False", "Invalid"), "it is refused")
    described = cluster.kubectl("describe", "ippool", "-n", cluster.system, "lan")
    assert "ends before it starts (write 2001:db8::1-2001:db8::9)" in " ".join(described.split())
    waited = cluster.kubectl(
        "wait", "--for=condition=Accepted=False", "--timeout=5s", "-n", cluster.system, "ippool/lan"
    )
    assert "condition met" in waited
