"""What Services ask for that does not do what it looks like: ports of nodes, other names and IPs, balance."""

from collections import Counter
from collections.abc import Iterator, Mapping

from lbspeaker.core.checks import Check, counted, fail, named, warn
from lbspeaker.core.nodes import holders, serving_nodes
from lbspeaker.core.remedies import remedy
from lbspeaker.facts import Evidence, Finding, Part, Wiring
from lbspeaker.model import Config, Pool, Reason, Service, address_of

NODE_PORTS = range(30000, 32768)  # --service-node-port-range of the API server, unless somebody changes it
_EPHEMERAL = "net.ipv4.ip_local_port_range"


# --- its IP ---------------------------------------------------------------------------------------------


def address(evidence: Evidence) -> Iterator[Finding]:
    """Services that were refused an IP: the controller says why, in its condition."""
    for one in evidence.asked:
        service = evidence.snapshot.services.get(one.key)
        condition = service.condition if service else None
        if service and not service.held and condition and condition.status == "False":
            what = f"it has no IP: {condition.reason}: {condition.message}"
            yield fail(one.key, what, "nobody can reach it from outside", _instead(condition.reason, one.key))


def _instead(reason: str, key: str) -> str:
    """What to do about this reason; those of other controllers have no remedy here."""
    known = next((one for one in Reason if one.value == reason), None)
    return remedy(known, key) if known else f"lbspeaker explain {key} says why, and what to do"


# --- ports of nodes -------------------------------------------------------------------------------------


def node_port(evidence: Evidence) -> Iterator[Finding]:
    asked = {one.key for one in evidence.asked}
    users: dict[tuple[str, int], list[str]] = {}
    for one in evidence.services.values():
        for port in one.ports:
            if port.node_port:
                users.setdefault((port.protocol, port.node_port), []).append(one.key)
    for (protocol, number), keys in sorted(users.items()):
        ours = sorted(set(keys) & asked) if evidence.only else sorted(set(keys))
        if not ours:
            continue
        if len(keys) > 1:
            others = named(sorted(set(keys) - {ours[0]}) or [ours[0]])
            yield fail(
                ours[0],
                f"nodePort {number}/{protocol} is also that of {others}",
                "only one of them can have it, and the API server refuses the other one",
                "remove nodePort from one of them, and a free one is chosen",
            )
        if number not in NODE_PORTS:
            yield warn(
                ours[0],
                f"nodePort {number} is outside {NODE_PORTS[0]}-{NODE_PORTS[-1]}",
                "the API server refuses it, unless its --service-node-port-range says otherwise",
                "remove nodePort, and a free one is chosen",
            )
        yield from _port_here(evidence, ours[0], protocol, number)


def _port_here(evidence: Evidence, key: str, protocol: str, number: int) -> Iterator[Finding]:
    """Who else uses the port on this machine."""
    here = evidence.here
    if here is None:
        return
    for listener in here.listeners:
        proxy = "kube-proxy" in listener.program
        if (listener.protocol, listener.port) == (protocol.lower(), number) and not proxy:
            who = listener.program or "a program"
            yield warn(
                key,
                f"nodePort {number}/{protocol}: {who} listens there on {here.name}",
                "kube-proxy takes what comes for this port, so that program gets nothing from outside",
                "give the program another port, or the Service another nodePort",
            )
            break
    low, _, high = here.settings.get(_EPHEMERAL, "").partition("\t")
    if low.isdecimal() and high.isdecimal() and int(low) <= number <= int(high):
        yield warn(
            key,
            f"nodePort {number} is one of those that {here.name} uses for its own connections ({low}-{high})",
            "such a connection breaks as soon as the port is the Service's",
            f"choose another nodePort, or sysctl {_EPHEMERAL}",
        )


# --- other names and IPs --------------------------------------------------------------------------------


def _meant(evidence: Evidence) -> list[tuple[str, Wiring]]:
    """The Services of any type that are asked about, by name; if none is named, all."""
    return [one for one in sorted(evidence.services.items()) if not evidence.only or one[0] in evidence.only]


def external_name(evidence: Evidence) -> Iterator[Finding]:
    for key, one in _meant(evidence):
        if one.type != "ExternalName":
            if one.external_name:
                yield warn(
                    key,
                    f"externalName {one.external_name} in a Service of type {one.type}",
                    "it is ignored",
                    "write type: ExternalName, or remove externalName",
                )
        elif address_of(one.external_name):
            yield fail(
                key,
                f"externalName is an IP, {one.external_name}",
                "the DNS of the cluster answers with it as a name, which nobody can look up",
                "create a Service without selector, and an EndpointSlice with this address",
            )
        elif one.asks or one.selector:
            what = "annotations for a load balancer" if one.asks else "a selector"
            yield warn(
                key,
                f"type ExternalName with {what}",
                "it is a name in the DNS and nothing else: no IP, no Pods, no ports",
                "write type: LoadBalancer, if clients shall reach Pods by an IP",
            )


def external_ips(evidence: Evidence) -> Iterator[Finding]:
    config = evidence.snapshot.config
    held = holders(evidence.snapshot.services.values())
    for key, one in _meant(evidence):
        for text in one.external_ips:
            ip = address_of(text)
            others = [user.key for user in held.get(ip, ()) if user.key != key] if ip else []
            pool = next((pool for pool in config.pools if ip and ip in pool), None)
            if others:
                yield fail(
                    key,
                    f"externalIPs has {text}, the service IP of {named(others)}",
                    "every node sends what comes for it to one of the two, and not always to the same one",
                    f"remove it from externalIPs of {key}",
                )
            elif pool is not None:
                yield warn(
                    key,
                    f"externalIPs has {text}, an address of pool {pool.name}",
                    "the pool may give it to another Service",
                    f"remove it, and ask for it: annotation lbspeaker.io/loadBalancerIPs: {text}",
                )
            else:
                yield warn(
                    key,
                    f"externalIPs has {text}",
                    "nodes take packets for it, and nobody announces it",
                    f"route {text} to a node by other means, or use a pool and type LoadBalancer",
                )


# --- balance --------------------------------------------------------------------------------------------


def affinity(evidence: Evidence) -> Iterator[Finding]:
    for one in evidence.asked:
        if one.sticky:
            yield warn(
                one.key,
                "sessionAffinity is ClientIP",
                "all clients behind one router or proxy look like one, and go to one Pod",
                "sessionAffinity: None, if Pods need not see a client again",
            )


def local_spread(evidence: Evidence) -> Iterator[Finding]:
    """Traffic policy Local: nodes get equal shares (BGP), or one gets all (layer 2), whatever their Pods."""
    for one in evidence.asked:
        service = evidence.snapshot.services.get(one.key)
        if service is None or not service.local or not service.load_balancer:
            continue
        serving = _serving(evidence, service)
        layer2, bgp = _announced(service, evidence)
        if len(serving) > 1 and layer2 and not bgp:
            yield _one_owner(one, serving)
        elif bgp and len(set(serving.values())) > 1:
            yield _uneven(one, serving)


def _serving(evidence: Evidence, service: Service) -> Mapping[str, int]:
    """How many endpoints each node has that traffic arrives at."""
    endpoints = evidence.snapshot.endpoints.get(service.key, ())
    nodes = serving_nodes(endpoints)
    family_copies = max(len(service.families), 1)  # a Pod with two families is in two slices
    counts = Counter(e.node for e in endpoints if e.serving and e.node in nodes)
    return {node: max(number // family_copies, 1) for node, number in counts.items() if node}


def _announced(service: Service, evidence: Evidence) -> tuple[bool, bool]:
    """Whether its IPs are announced on layer 2, and by BGP, as the advertisements say."""
    config = evidence.snapshot.config
    pools = [pool for ip in service.held if (pool := config.pool_for(service, ip))]
    pools = pools or _only(config)
    covers_layer2 = any(
        ad.scope.covers_pool(pool) and ad.scope.covers_service(service.labels)
        for pool in pools
        for ad in config.l2_advertisements
    )
    covers_bgp = any(
        ad.scope.covers_pool(pool) and ad.scope.covers_service(service.labels)
        for pool in pools
        for ad in config.bgp_advertisements
    )
    return covers_layer2, covers_bgp and bool(config.peers)


def _only(config: Config) -> list[Pool]:
    """The pool that its IP will be from, where there is one only."""
    return list(config.pools) if len(config.pools) == 1 else []


def _one_owner(one: Wiring, serving: Mapping[str, int]) -> Finding:
    return warn(
        one.key,
        f"externalTrafficPolicy Local on layer 2, and Pods on {counted(len(serving), 'node')}"
        f" ({_shares(serving)})",
        "one node owns the IP, and its own Pods get all traffic; the others wait for its death",
        "externalTrafficPolicy: Cluster, or BGP, or several IPs",
    )


def _uneven(one: Wiring, serving: Mapping[str, int]) -> Finding:
    fewest, most = min(serving.values()), max(serving.values())
    factor = most / fewest
    return warn(
        one.key,
        f"externalTrafficPolicy Local with Pods spread unevenly ({_shares(serving)})",
        f"the router gives each node the same share, so some Pods get {factor:.2g} times as much as others",
        "spread the Pods (topologySpreadConstraints by kubernetes.io/hostname), or traffic policy Cluster",
    )


def _shares(serving: Mapping[str, int]) -> str:
    return named([f"{node}: {number}" for node, number in sorted(serving.items())])


_SERVICES = frozenset({Part.SERVICES})
CHECKS = (
    Check("address", "no Service was refused an IP", address, _SERVICES),
    Check("node-port", "each nodePort is one Service's, and in range", node_port, _SERVICES),
    Check("external-name", "externalName is a name, where it is used", external_name, _SERVICES),
    Check("external-ips", "no Service has externalIPs", external_ips, _SERVICES),
    Check("affinity", "no Service is bound to clients' IPs", affinity, _SERVICES),
    Check(
        "local-spread",
        "traffic policy Local is used where Pods are spread evenly, or not at all",
        local_spread,
        frozenset({Part.SERVICES, Part.ENDPOINTS, Part.CONFIG}),
    ),
)
