"""Pools that contain what the cluster uses itself are told so, with one example of each kind."""

from ipaddress import ip_network

import pytest

from lbspeaker.core.overlap import overlaps
from lbspeaker.model import Node, Pool, Service
from tests.build import ips, node, pool, service

LAN = pool("lan", "192.0.2.10-192.0.2.20", "2001:db8::1-2001:db8::9")
BUGGY = pool("lan", "192.0.2.0-192.0.2.255", avoid_buggy_ips=True)


def at(*addresses: str, name: str = "a") -> Node:
    return node(name, addresses=ips(*addresses))


def pods(*networks: str, name: str = "a") -> Node:
    return node(name, pod_networks=tuple(map(ip_network, networks)))


def on(*cluster_ips: str, name: str = "web") -> Service:
    return service(name, cluster_ips=cluster_ips)


# What there is, and of what the pool is told.
STORIES: dict[str, tuple[list[Node | Service], list[str]]] = {
    "nothing": ([], []),
    "a node beside it": ([at("192.0.2.9", "192.0.2.21", "2001:db8::a")], []),
    "a node on its first address": ([at("192.0.2.10")], ["192.0.2.10, the address of node a"]),
    "on its last": ([at("192.0.2.20")], ["192.0.2.20, the address of node a"]),
    "on its other range": ([at("198.51.100.1", "2001:db8::9")], ["2001:db8::9, the address of node a"]),
    "two nodes: one is named": (
        [at("192.0.2.12", name="b"), at("192.0.2.11", name="c")],
        ["192.0.2.11, the address of node c and 1 more like it"],
    ),
    "pods beside it": ([pods("192.0.2.0/29", "192.0.2.24/29", "2001:db8:1::/64")], []),
    "pods on its first address": (
        [pods("192.0.2.8/30", "192.0.2.8/31")], ["addresses of pods on a (192.0.2.8/30)"]
    ),
    "on that alone": ([pods("192.0.2.10/32")], ["addresses of pods on a (192.0.2.10/32)"]),
    "on its last, too": ([pods("192.0.2.20/32")], ["addresses of pods on a (192.0.2.20/32)"]),
    "pods all around it": ([pods("192.0.0.0/16")], ["addresses of pods on a (192.0.0.0/16)"]),
    "pods inside it": ([pods("192.0.2.12/31")], ["addresses of pods on a (192.0.2.12/31)"]),
    "the same number in the other family": ([pods("::c000:20a/128")], []),
    "pods of two nodes": (
        [pods("192.0.2.12/31"), pods("192.0.2.14/31", name="b")],
        ["addresses of pods on a (192.0.2.12/31) and 1 more like it"],
    ),
    "a cluster IP": ([on("10.96.0.1", "2001:db8::1")], ["2001:db8::1, the cluster IP of default/web"]),
    "what is no address": ([on("None", "")], []),
    "one of each": (
        [on("192.0.2.11"), pods("192.0.2.12/31"), at("192.0.2.13")],
        [
            "192.0.2.13, the address of node a",
            "addresses of pods on a (192.0.2.12/31)",
            "192.0.2.11, the cluster IP of default/web",
        ],
    ),
}  # fmt: skip


@pytest.mark.parametrize("story", STORIES)
def test_a_pool_is_told_what_it_contains(story: str) -> None:
    things, expected = STORIES[story]
    nodes = [one for one in things if isinstance(one, Node)]
    services = [one for one in things if isinstance(one, Service)]
    found = overlaps([LAN], nodes, services)
    assert found.keys() == ({"lan"} if expected else set())
    if expected:
        told = found["lan"]
        assert told.startswith("the pool contains ")
        assert [told.find(what) > 0 for what in expected] == [True] * len(expected)
        assert told.count(" more like it") == sum("more" in what for what in expected)
        assert "exclude" in told, "what to do"


def test_each_pool_is_told_its_own() -> None:
    pools: list[Pool] = [LAN, pool("wan", "198.51.100.1-198.51.100.9"), pool("free", "203.0.113.1")]
    found = overlaps(
        pools, iter([at("192.0.2.10", "198.51.100.9"), pods("198.51.100.0/24", name="b")]), iter([])
    )
    assert found.keys() == {"lan", "wan"}
    assert "198.51" not in found["lan"]
    assert "192.0.2" not in found["wan"]
    assert "198.51.100.9" in found["wan"]


def test_what_a_pool_leaves_out_is_not_in_it() -> None:
    assert overlaps([BUGGY], [at("192.0.2.0", "192.0.2.255")], []) == {}
    assert overlaps([BUGGY], [at("192.0.2.1")], []).keys() == {"lan"}
