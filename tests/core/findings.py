"""Evidence for the tests of `doctor`: a cluster in which nothing is wrong, and ways to break it."""

from collections.abc import Iterable
from dataclasses import replace
from ipaddress import ip_interface
from typing import Any

from lbspeaker.core.findings import examine
from lbspeaker.facts import Evidence, Finding, Grade, Here, Ours, Part, Pod, PodPort, WiredPort, Wiring
from lbspeaker.model import Config, Endpoint, L2Advertisement, Link, Node, Service, Snapshot
from tests.build import LAN, ip, service

CLUSTER = frozenset(Part) - {Part.HERE}


def wiring(key: str = "shop/web", port: int | str = 8080, **fields: Any) -> Wiring:
    """A Service of type LoadBalancer for Pods with app=web, port 80 to `port`."""
    fields.setdefault("selector", {"app": "web"})
    fields.setdefault("ports", (WiredPort(80, port),))
    return Wiring(key, **fields)


def pod(key: str = "shop/web-1", *ports: PodPort, **fields: Any) -> Pod:
    """A Pod with app=web that has port 8080, named http."""
    fields.setdefault("labels", {"app": "web"})
    return Pod(key, node=fields.pop("node", "a"), ports=ports or (PodPort(8080, "http"),), **fields)


def link(name: str = "eth0", *addresses: str, **fields: Any) -> Link:
    own = tuple(ip_interface(one) for one in addresses or ("192.0.2.200/24",))
    return Link(name, fields.pop("index", 2), bytes(6), addresses=own, **fields)


GOOD = {
    "net.ipv4.ip_forward": "1",
    "net.ipv6.conf.all.forwarding": "1",
    **{
        f"net.ipv4.conf.{name}.{setting}": value
        for name in ("all", "eth0", "eth1")
        for setting, value in (("rp_filter", "0"), ("arp_ignore", "0"), ("arp_announce", "0"))
    },
}


def here(*links: Link, settings: dict[str, str] | None = None, **fields: Any) -> Here:
    """Node a, whose kernel forwards; `settings` come on top."""
    return Here("a", links or (link(),), GOOD | (settings or {}), **fields)


def evidence(
    *services: Wiring,
    pods: Iterable[Pod] = (pod(),),
    config: Config | None = None,
    models: Iterable[Service] = (),
    endpoints: dict[str, tuple[Endpoint, ...]] | None = None,
    nodes: Iterable[Node] = (Node("a", addresses=(ip("192.0.2.200"),)),),
    **fields: Any,
) -> Evidence:
    """A cluster with these Services, each with an endpoint on node a; with `here`, this is that node."""
    services = services or (wiring(),)
    told = {one.key: one for one in models}
    snapshot = Snapshot(
        config=config or Config((LAN,), (L2Advertisement("lan"),)),
        services={one.key: told.get(one.key) or service(one.key) for one in services},
        endpoints={one.key: (Endpoint("a"),) for one in services} if endpoints is None else endpoints,
        nodes={node.name: node for node in nodes},
    )
    found = Evidence(
        known=CLUSTER | ({Part.HERE} if fields.get("here") else set()),
        ours=Ours("one", {node.name: 0.0 for node in snapshot.nodes.values()}),
        snapshot=snapshot,
        services={one.key: one for one in services},
        pods=tuple(pods),
    )
    return replace(found, **fields)


def wrong(told: Evidence) -> dict[str, Grade]:
    """The codes of what fails or warns, with the worst grade of each."""
    found = [one for one in examine(told) if one.grade in (Grade.FAIL, Grade.WARN)]
    return {one.code: one.grade for one in reversed(found)}


def about(told: Evidence, code: str) -> list[Finding]:
    """What one check says."""
    return [one for one in examine(told) if one.code == code]


def only(told: Evidence, code: str) -> Finding:
    """The one finding of a check."""
    [found] = about(told, code)
    return found


def passes(told: Evidence, code: str) -> bool:
    """Whether the check was made, and found nothing."""
    return only(told, code).grade is Grade.PASS
