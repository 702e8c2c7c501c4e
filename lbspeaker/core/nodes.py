"""Why a node announces nothing, and why traffic for a Service would arrive nowhere.

The same for layer 2 and for BGP: a refusal is for the whole cluster (node None), or for one node.
"""

from collections.abc import Iterable, Mapping
from typing import Literal

from lbspeaker.model import EXCLUDE, Address, Endpoint, Pool, Reason, Refusal, Scope, Service, Snapshot

MOST_NODES = 3  # in one message

Holders = Mapping[Address, tuple[Service, ...]]  # service IP → the services that share it


def holders(services: Iterable[Service]) -> Holders:
    """Who holds which IP, as the status of the services says."""
    found: dict[Address, list[Service]] = {}
    for service in services:
        for ip in service.held:
            found.setdefault(ip, []).append(service)
    return {ip: tuple(sorted(users, key=lambda user: user.key)) for ip, users in found.items()}


def node_refusal(snapshot: Snapshot, node: str) -> Refusal | None:
    """Why this node announces nothing at all."""
    known = snapshot.nodes.get(node)
    if known is None or node not in snapshot.members:
        return Refusal(Reason.NODE_NOT_LIVE, f"no live speaker on {node}")
    if known.excluded:
        return Refusal(Reason.NODE_EXCLUDED, f"{node} has the label {EXCLUDE}")
    if known.network_unavailable:
        return Refusal(Reason.NODE_NETWORK_UNAVAILABLE, f"{node} has the condition NetworkUnavailable")
    return None


def serving_nodes(endpoints: Iterable[Endpoint]) -> frozenset[str]:
    """The nodes where traffic arrives; where endpoints are only on their way out, if there are no others."""
    serving = [e for e in endpoints if e.serving and e.node is not None]
    staying = [e for e in serving if e.ready]
    return frozenset(e.node for e in staying or serving if e.node is not None)


def endpoint_refusal(snapshot: Snapshot, service: Service, node: str | None) -> Refusal | None:
    """Why traffic for `service` would arrive nowhere (node None), or nowhere from `node`."""
    endpoints = snapshot.endpoints.get(service.key, ())
    if not any(endpoint.serving for endpoint in endpoints):
        state = "none is ready" if endpoints else "there are none"
        message = f"{service.key} has no endpoint that serves ({state}); check its selector and its Pods"
        return Refusal(Reason.NO_ENDPOINT, message)
    if node is not None and service.local and node not in serving_nodes(endpoints):
        return no_local_endpoint(service, node)
    return None


def no_local_endpoint(service: Service, node: str) -> Refusal:
    message = f"externalTrafficPolicy is Local, and {service.key} has no serving endpoint on {node}"
    return Refusal(Reason.NO_LOCAL_ENDPOINT, message)


def no_node(snapshot: Snapshot) -> Refusal:
    """Why no node at all announces anything."""
    refusals = [refusal for node in sorted(snapshot.nodes) if (refusal := node_refusal(snapshot, node))]
    message = ", ".join(one.message for one in refusals[:MOST_NODES]) or "no node is known"
    more = len(refusals) - MOST_NODES
    message += f" and {more} more" if more > 0 else ""
    reasons = {one.reason for one in refusals} or {Reason.NO_CANDIDATE}
    alike = len(reasons) == 1 and Reason.NODE_NOT_LIVE not in reasons
    return Refusal(reasons.pop() if alike else Reason.NO_CANDIDATE, message)


def where_it_is(snapshot: Snapshot, service: Service) -> str:
    """Which nodes have endpoints, and why they announce nothing."""
    nodes = sorted(serving_nodes(snapshot.endpoints.get(service.key, ())))
    found = [refusal.message for node in nodes if (refusal := node_refusal(snapshot, node))]
    return f": {', '.join(found[:MOST_NODES])}" if found else ""


def outside(ip: Address) -> Refusal:
    return Refusal(Reason.OUTSIDE_POOLS, f"{ip} is in no pool")


def miss(scope: Scope, pool: Pool, service: Service) -> Literal["", "pool", "service"]:
    """What an advertisement does not select: the pool, or else the service; "" if it is about both."""
    if not scope.covers_pool(pool):
        return "pool"
    return "" if scope.covers_service(service.labels) else "service"


def unadvertised(kind: str, pool: Pool, selected: bool) -> Refusal:
    lack = "the service (serviceSelectors)" if selected else f"pool {pool.name}"
    return Refusal(Reason.NO_ADVERTISEMENT, f"no {kind} selects {lack}")
