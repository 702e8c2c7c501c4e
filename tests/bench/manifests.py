"""The objects that benchmarks put into a cluster. Pure."""

from ipaddress import IPv4Address
from typing import Any

from lbspeaker.config.crds import crds

Manifest = dict[str, Any]

NAMESPACE = "lbspeaker-system"
GROUP = "/apis/lbspeaker.io/v1beta1/namespaces/" + NAMESPACE
FIRST = IPv4Address("198.18.1.0")  # the lab's room for pools: on-link everywhere, 60 times 256 addresses
POOL = "198.18.1.0-198.18.60.255"


def configuration(prefers: str = "") -> dict[str, Manifest]:
    """Return one pool and its advertisement on the segment, by the collection they belong to.

    `prefers`: the node that owns everything while it lives.
    """
    spec: Manifest = {"interfaces": ["eth0"]}
    if prefers:
        preference = {"matchLabels": {"kubernetes.io/hostname": prefers}}
        spec["preferredNodeSelectors"] = [{"weight": 1, "preference": preference}]
    return {
        "ipaddresspools": _ours("IPAddressPool", {"addresses": [POOL]}),
        "l2advertisements": _ours("L2Advertisement", spec),
    }


def link_policy(spec: Manifest) -> Manifest:
    return _ours("LinkPolicy", spec)


def endpoints(name: str, node: str) -> Manifest:
    """Return the EndpointSlice of a Service: one pod, on `node`."""
    metadata = {"name": name, "namespace": "default", "labels": {"kubernetes.io/service-name": name}}
    return {
        "apiVersion": "discovery.k8s.io/v1",
        "kind": "EndpointSlice",
        "metadata": metadata,
        "addressType": "IPv4",
        "endpoints": [{"addresses": ["10.244.1.10"], "nodeName": node, "conditions": {"ready": True}}],
        "ports": [{"name": "http", "port": 8080}],
    }


def _ours(kind: str, spec: Manifest) -> Manifest:
    metadata = {"name": "bench", "namespace": NAMESPACE}
    return {"apiVersion": "lbspeaker.io/v1beta1", "kind": kind, "metadata": metadata, "spec": spec}


def service(name: str, **spec: Any) -> Manifest:
    """Return a Service of type LoadBalancer that leads to the lab's pods."""
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": name, "namespace": "default", "labels": {"app": "web", "bench": "yes"}},
        "spec": {
            "type": "LoadBalancer",
            "selector": {"app": "web"},
            "ports": [{"name": "http", "port": 80, "targetPort": 8080}],
            "allocateLoadBalancerNodePorts": False,  # there are not 10,000 node ports
            **spec,
        },
    }


def services(count: int, prefix: str = "s") -> list[Manifest]:
    return [service(f"{prefix}{number:05}") for number in range(count)]


def preloaded(count: int) -> list[Manifest]:
    """Return all that a cluster with `count` pending Services has when the controller starts."""
    spaces = [{"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": NAMESPACE}}]
    return [*spaces, *crds(), *configuration().values(), *services(count)]
