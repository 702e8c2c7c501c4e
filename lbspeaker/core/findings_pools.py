"""Pools, and what is in the network already: nodes, Pods, cluster IPs, gateways, DHCP servers."""

from collections.abc import Iterator

from lbspeaker.core.checks import Check, fail, named, warn
from lbspeaker.core.links import eligible
from lbspeaker.core.pools import PoolIndex
from lbspeaker.facts import Evidence, Finding, Part
from lbspeaker.model import Address, Link, Network, Pool, address_of

_ROUTER_SIZE = {4: 30, 6: 126}  # networks smaller than these have no addresses for hosts beside their ends

_EXCLUDE = "spec.exclude keeps addresses of a pool from being given"


# --- what pools contain ---------------------------------------------------------------------------------


def pool_node(evidence: Evidence) -> Iterator[Finding]:
    """Addresses of nodes and gateways: given to a Service, they would be taken from their owner.

    Those of BGPPeers are looked for by who reads the configuration.
    """
    index = PoolIndex(evidence.snapshot.config.pools)
    found: dict[str, list[str]] = {}
    for ip, whose in _taken(evidence):
        pool = index.pool_of(ip)
        if pool is not None:
            told = found.setdefault(pool.name, [])
            if f"{ip} ({whose})" not in told:
                told.append(f"{ip} ({whose})")
    for name, told in sorted(found.items()):
        why = "once a Service gets such an address, its owner and the Service cannot both be reached"
        yield fail(f"pool {name}", f"it contains {named(told)}", why, _EXCLUDE)


def _taken(evidence: Evidence) -> Iterator[tuple[Address, str]]:
    for node in evidence.snapshot.nodes.values():
        for ip in node.addresses:
            yield ip, f"node {node.name}"
    for link in eligible(evidence.here.links) if evidence.here else ():
        if link.gateway is not None:
            yield link.gateway, f"the gateway of {evidence.here.name if evidence.here else ''}"


def pool_pods(evidence: Evidence) -> Iterator[Finding]:
    networks = [
        (network, f"Pods of node {node.name}")
        for node in evidence.snapshot.nodes.values()
        for network in node.pod_networks
    ]
    networks += [
        (network, "Pods, says kube-proxy") for network in (evidence.proxy.networks if evidence.proxy else ())
    ]
    pods = [(ip, pod.key) for pod in evidence.pods if not pod.host_network for ip in pod.addresses]
    index = PoolIndex(evidence.snapshot.config.pools)
    inside: dict[str, list[str]] = {}
    for ip, key in pods:
        pool = index.pool_of(ip)
        if pool is not None:
            inside.setdefault(pool.name, []).append(f"{ip}, the address of Pod {key}")
    for pool in evidence.snapshot.config.pools:
        told = [f"{network} ({whose})" for network, whose in networks if _overlaps(pool, network)]
        told = told or inside.get(pool.name, [])
        if told:
            why = "nodes send what is for these addresses to Pods, and not out to a service IP"
            yield warn(f"pool {pool.name}", f"it overlaps {named(told, 2)}", why, _EXCLUDE)


def pool_services(evidence: Evidence) -> Iterator[Finding]:
    index = PoolIndex(evidence.snapshot.config.pools)
    inside: dict[str, list[str]] = {}
    for service in evidence.snapshot.services.values():
        for text in service.cluster_ips:
            ip = address_of(text)
            pool = index.pool_of(ip) if ip else None
            if pool is not None:
                inside.setdefault(pool.name, []).append(f"{text}, the cluster IP of {service.key}")
    for pool in evidence.snapshot.config.pools:
        told = [str(network) for network in evidence.service_networks if _overlaps(pool, network)]
        told = told or sorted(inside.get(pool.name, []))
        if told:
            why = "the API server may give the same address to another Service, as its cluster IP"
            yield warn(f"pool {pool.name}", f"it overlaps {named(told, 2)}", why, _EXCLUDE)


def pool_edge(evidence: Evidence) -> Iterator[Finding]:
    """The first and the last address of a network are no host's (RFC 919 §7, RFC 4291 §2.6.1)."""
    for pool, network, link in _on_link(evidence):
        if network.prefixlen > _ROUTER_SIZE[network.version]:
            continue
        ends = [network[0], network[-1]] if network.version == 4 else [network[0]]
        inside = [ip for ip in ends if ip in pool]
        if inside:
            yield warn(
                f"pool {pool.name}",
                f"it contains {named(inside)}, {'an end' if len(inside) == 1 else 'the ends'} of {network}"
                f" on {link.name}",
                "hosts and routers of that network send nothing to it, or to everybody",
                f"{_EXCLUDE}, and avoidBuggyIPs those that end in .0 and .255",
            )


def pool_dhcp(evidence: Evidence) -> Iterator[Finding]:
    here = evidence.here
    for pool, network, link in _on_link(evidence):
        if here and network in here.leased:
            yield warn(
                f"pool {pool.name}",
                f"it is in {network}, where {here.name} has its address from a DHCP server ({link.name})",
                "if that server leases addresses of the pool, two hosts have one of them one day",
                "compare the pool with the server's range; nobody but the server knows it",
            )


# --- who reaches pools ----------------------------------------------------------------------------------


def pool_reach(evidence: Evidence) -> Iterator[Finding]:
    """On layer 2 an IP is found by who is in its network; by BGP by who is not."""
    here, config = evidence.here, evidence.snapshot.config
    if here is None:
        return
    near = {pool.name: network for pool, network, _ in _on_link(evidence)}
    alone = eligible(here.links) and _one_segment(evidence)
    for pool in config.pools:
        layer2 = any(ad.scope.covers_pool(pool) for ad in evidence.own_advertisements)
        bgp = any(ad.scope.covers_pool(pool) for ad in config.bgp_advertisements)
        if bgp and not layer2 and pool.name in near:
            yield warn(
                f"pool {pool.name}",
                f"it is announced by BGP only, and is in {near[pool.name]}, a network of {here.name}",
                "hosts in that network ask for its IPs by ARP or NDP, and nobody answers",
                "an L2Advertisement for the pool, too, or a pool outside the networks of nodes",
            )
        elif layer2 and not bgp and pool.name not in near and alone:
            yield warn(
                f"pool {pool.name}",
                f"it is announced on layer 2 only, and is in no network of {here.name}",
                "hosts reach it only if a router has it on this segment, as a network of its own",
                "a pool inside the network of the nodes, a route at the router, or BGP",
            )


def _one_segment(evidence: Evidence) -> bool:
    """Whether no other node has a network that this one has not, as far as their addresses tell."""
    links = evidence.here.links if evidence.here else ()
    networks = [address.network for link in links for address in link.addresses]
    nodes = evidence.snapshot.nodes.values()
    return all(any(ip in network for ip in node.addresses for network in networks) for node in nodes)


def _on_link(evidence: Evidence) -> Iterator[tuple[Pool, Network, Link]]:
    """The pools that are in a network of this machine, or overlap it."""
    for link in eligible(evidence.here.links) if evidence.here else ():
        for network in dict.fromkeys(address.network for address in link.addresses):
            if not network.is_link_local:
                for pool in evidence.snapshot.config.pools:
                    if _overlaps(pool, network):
                        yield pool, network, link


def _overlaps(pool: Pool, network: Network) -> bool:
    return any(
        r.family == network.version and int(r.first) <= int(network[-1]) and int(network[0]) <= int(r.last)
        for r in pool.ranges
    )


def _has_pools(evidence: Evidence) -> bool:
    return bool(evidence.snapshot.config.pools)


_CONFIG = frozenset({Part.CONFIG})
_HERE = frozenset({Part.CONFIG, Part.HERE})
CHECKS = (
    Check(
        "pool-node",
        "no pool contains the address of a node or a router",
        pool_node,
        _CONFIG,
        frozenset({Part.NODES, Part.HERE}),
        _has_pools,
    ),
    Check(
        "pool-pods",
        "no pool overlaps the networks of Pods",
        pool_pods,
        _CONFIG,
        frozenset({Part.NODES, Part.PODS, Part.PROXY}),
        _has_pools,
    ),
    Check(
        "pool-services",
        "no pool overlaps the network of cluster IPs",
        pool_services,
        _CONFIG | {Part.SERVICES},
        concerns=_has_pools,
    ),
    Check("pool-edge", "no pool contains an end of its network", pool_edge, _HERE, concerns=_has_pools),
    Check(
        "pool-dhcp",
        "no pool is where this node has its address by DHCP",
        pool_dhcp,
        _HERE,
        concerns=_has_pools,
    ),
    Check(
        "pool-reach",
        "each pool is where its clients look for it",
        pool_reach,
        _HERE,
        concerns=_has_pools,
    ),
)
