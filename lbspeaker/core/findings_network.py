"""Pools, and what is in the network already: nodes, Pods, routers, DHCP servers; and what the rules say."""

from collections.abc import Iterator

from lbspeaker.core.checks import Check, fail, named, warn
from lbspeaker.core.links import eligible
from lbspeaker.core.pools import PoolIndex
from lbspeaker.facts import Bridge, Evidence, Finding, Here, Part
from lbspeaker.model import Address, Config, L2Advertisement, Link, LinkPolicy, Network, Pool, address_of

_AGEING_S = 300.0  # of most switches: IEEE 802.1Q, 8.8.3
_LONGEST = 4 / 3  # a refresh is due after 2/3 to 4/3 of refresh_s
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
        layer2 = any(ad.scope.covers_pool(pool) for ad in layer2_here(evidence))
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


def layer2_here(evidence: Evidence) -> list[L2Advertisement]:
    """The advertisements that are about this node; all of them, if its labels are not known."""
    here = evidence.here
    node = evidence.snapshot.nodes.get(here.name) if here else None
    ads = evidence.snapshot.config.l2_advertisements
    return [ad for ad in ads if node is None or (not node.excluded and ad.scope.covers_node(node.labels))]


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


# --- what the rules say ---------------------------------------------------------------------------------


def configuration(evidence: Evidence) -> Iterator[Finding]:
    for problem in evidence.problems:
        place = problem.file if problem.line is None else f"{problem.file}:{problem.line}"
        where = problem.object if problem.file == "cluster" else f"{problem.object or place} ({place})"
        what = ": ".join(part for part in (problem.path, problem.what) if part)
        make, why = (
            (fail, "it is not in force") if problem.severity == "error" else (warn, "it is hardly meant")
        )
        yield make(where or place, what, why, problem.hint or "lbspeaker check says more")


def advertised(evidence: Evidence) -> Iterator[Finding]:
    config = evidence.snapshot.config
    if not config.pools:
        yield fail("configuration", "there is no pool", "no Service gets an IP", "create an IPAddressPool")
    for pool in config.pools:
        scopes = [ad.scope for ad in config.l2_advertisements] + [
            ad.scope for ad in config.bgp_advertisements
        ]
        if not any(scope.covers_pool(pool) for scope in scopes):
            yield fail(
                f"pool {pool.name}",
                "no advertisement selects it",
                "Services get IPs that nobody announces",
                f"create an L2Advertisement or a BGPAdvertisement with ipAddressPools: [{pool.name}]",
            )
    if config.bgp_advertisements and not config.peers:
        yield fail(
            "configuration",
            "there are BGPAdvertisements, and no BGPPeer",
            "there is no router to announce to",
            "create a BGPPeer for the router",
        )


def restart_with_bfd(evidence: Evidence) -> Iterator[Finding]:
    for peer in evidence.snapshot.config.peers:
        if peer.bfd is not None and peer.graceful_restart_s is not None:
            yield warn(
                f"BGPPeer {peer.name}",
                "it has BFD and graceful restart",
                "BFD drops at once what graceful restart is there to keep",
                "remove bfdProfile (restarts lose nothing), or enableGracefulRestart (failures are quick)",
            )


def fdb_ageing(evidence: Evidence) -> Iterator[Finding]:
    """A switch forgets where a MAC is that says nothing; then it floods, or drops."""
    config, here = evidence.snapshot.config, evidence.here
    if not config.l2_advertisements:
        return
    for policy in config.link_policies:
        if _too_rare(policy, _AGEING_S):
            yield warn(
                f"LinkPolicy {policy.name}",
                _refresh(policy),
                f"most switches forget a MAC after {_AGEING_S:g} s of silence",
                "refreshSeconds: 90",
            )
    for name, link, bridge in _bridges(here) if here else ():
        policy = config.link_policy(_labels(evidence), link)
        if bridge.ageing_s and _too_rare(policy, bridge.ageing_s):
            yield warn(
                f"{here.name if here else ''}, bridge {name}",
                f"it forgets a MAC after {bridge.ageing_s:g} s; {_refresh(policy)}",
                "in between it floods what is for service IPs",
                f"refreshSeconds under {bridge.ageing_s / _LONGEST:.0f}, or a longer ageing time there",
            )


def _too_rare(policy: LinkPolicy, ageing_s: float) -> bool:
    return policy.refresh_s == 0 or policy.refresh_s * _LONGEST > ageing_s


def _refresh(policy: LinkPolicy) -> str:
    if policy.refresh_s == 0:
        return "we never refresh"
    return f"we refresh up to {policy.refresh_s * _LONGEST:.0f} s apart"


def _bridges(here: Here) -> Iterator[tuple[str, str, Bridge]]:
    """Bridges between this machine and the segment: the bridge, our link at it, and what it is like."""
    for link in eligible(here.links):
        if link.name in here.bridges:
            yield link.name, link.name, here.bridges[link.name]


def _labels(evidence: Evidence) -> dict[str, str]:
    node = evidence.snapshot.nodes.get(evidence.here.name) if evidence.here else None
    return dict(node.labels) if node else {}


def config_has_pools(evidence: Evidence) -> bool:
    return bool(evidence.snapshot.config.pools)


def _has_peers(evidence: Evidence) -> bool:
    return bool(evidence.snapshot.config.peers)


def families(config: Config) -> set[int]:
    """The families that pools have addresses of."""
    return {r.family for pool in config.pools for r in pool.ranges}


_POOLS = frozenset({Part.CONFIG})
_HERE = frozenset({Part.CONFIG, Part.HERE})
CHECKS = (
    Check("configuration", "it is accepted as it is", configuration, _POOLS),
    Check("advertised", "each pool is announced", advertised, _POOLS),
    Check(
        "pool-node",
        "no pool contains the address of a node or a router",
        pool_node,
        _POOLS,
        frozenset({Part.NODES, Part.HERE}),
        config_has_pools,
    ),
    Check(
        "pool-pods",
        "no pool overlaps the networks of Pods",
        pool_pods,
        _POOLS,
        frozenset({Part.NODES, Part.PODS, Part.PROXY}),
        config_has_pools,
    ),
    Check(
        "pool-services",
        "no pool overlaps the network of cluster IPs",
        pool_services,
        _POOLS | {Part.SERVICES},
        concerns=config_has_pools,
    ),
    Check("pool-edge", "no pool contains an end of its network", pool_edge, _HERE, concerns=config_has_pools),
    Check(
        "pool-dhcp",
        "no pool is where this node has its address by DHCP",
        pool_dhcp,
        _HERE,
        concerns=config_has_pools,
    ),
    Check(
        "pool-reach",
        "each pool is where its clients look for it",
        pool_reach,
        _HERE,
        concerns=config_has_pools,
    ),
    Check(
        "restart-with-bfd",
        "no peer has BFD and graceful restart",
        restart_with_bfd,
        _POOLS,
        concerns=_has_peers,
    ),
    Check("fdb-ageing", "refreshes come before switches forget", fdb_ageing, _POOLS),
)
