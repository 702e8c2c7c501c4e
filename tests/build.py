"""Builders: the nouns of tests, with everything that a story does not care about filled in."""

from ipaddress import ip_address
from typing import Any

from lbspeaker.model import (
    Address,
    BGPAdvertisement,
    Config,
    Endpoint,
    L2Advertisement,
    Node,
    Peer,
    Pool,
    Port,
    Range,
    Requirement,
    Scope,
    Selector,
    Service,
    Snapshot,
)


def ip(text: str) -> Address:
    return ip_address(text)


def ips(*texts: str) -> tuple[Address, ...]:
    return tuple(ip(text) for text in texts)


def span(text: str) -> Range:
    first, _, last = text.partition("-")
    return Range(ip(first), ip(last or first))


def pool(name: str, *ranges: str, **fields: Any) -> Pool:
    return Pool(name, tuple(span(r) for r in ranges), **fields)


def service(key: str, **fields: Any) -> Service:
    """`service("web")` is default/web, IPv4, TCP/80. `held` and `requested_ips` may be texts."""
    if "/" not in key:
        key = f"default/{key}"
    for name in ("held", "requested_ips"):
        if name in fields:
            fields[name] = ips(*([fields[name]] if isinstance(fields[name], str) else fields[name]))
    fields.setdefault("ports", (Port("TCP", 80),))
    fields.setdefault("given", fields.get("held", ()))
    return Service(key, **fields)


def selector(**labels: str) -> Selector:
    return Selector(tuple(Requirement(k, "In", frozenset({v})) for k, v in labels.items()))


def node(name: str, **fields: Any) -> Node:
    return Node(name, **fields)


LAN = pool("lan", "192.0.2.10-192.0.2.60")
ROUTER = Peer("router", 64513, 64512, ip("192.0.2.1"))


def snapshot(
    *services: Service,
    nodes: str = "a b c",
    on: str | None = None,
    members: str | None = None,
    pools: tuple[Pool, ...] = (LAN,),
    l2: tuple[L2Advertisement, ...] = (L2Advertisement("l2"),),
    bgp: tuple[BGPAdvertisement, ...] = (),
    peers: tuple[Peer, ...] | None = None,
    node_fields: dict[str, Any] | None = None,
) -> Snapshot:
    """A cluster in which every service has one serving endpoint on each node of `on` (default: all).

    With BGP advertisements there is also the router, unless `peers` says otherwise.
    """
    if peers is None:
        peers = (ROUTER,) if bgp else ()
    names = nodes.split()
    endpoints = tuple(Endpoint(name) for name in (nodes if on is None else on).split())
    return Snapshot(
        Config(pools, l2, bgp, peers),
        {s.key: s for s in services},
        {s.key: endpoints for s in services},
        {name: Node(name, **(node_fields or {}).get(name, {})) for name in names},
        {},
        frozenset((nodes if members is None else members).split()),
    )


def scope(**fields: Any) -> Scope:
    return Scope(**fields)
