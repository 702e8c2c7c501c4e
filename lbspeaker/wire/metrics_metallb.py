"""The same under MetalLB's names, so that dashboards and alerts made for it carry over.

Only what means the same is here; docs/metallb.md lists the rest. Some of its counters do not end in `_total`,
and some of its gauges do: the text format calls the former untyped here, which is the same to PromQL. Layer 2
is counted for each link, where MetalLB does for each IP: a sum over either is the same.
"""

from collections.abc import Iterator, Sequence
from ipaddress import ip_address

from prometheus_client.core import GaugeMetricFamily, Metric, UnknownMetricFamily

from lbspeaker.wire.measures import Measures, OfController, OfSpeaker
from lbspeaker.wire.metrics import Samples, filled
from lbspeaker.wire.status import Peer, Status

ANSWERS = "answer"  # of the occasions on which frames leave
UNASKED = ("new", "takeover", "refresh")
VRF = "default"


def _gauge(name: str, help_: str, labels: Sequence[str], rows: Samples) -> Metric:
    return filled(GaugeMetricFamily(f"metallb_{name}", help_, labels=labels), rows)


def _counter(name: str, help_: str, labels: Sequence[str], rows: Samples) -> Metric:
    """By a name that need not end in _total."""
    return filled(UnknownMetricFamily(f"metallb_{name}", help_, labels=labels), rows)


def _client(measures: Measures) -> Iterator[Metric]:
    """What both of its programs have."""
    found = measures.configured
    told = sum(count for (what, _), count in measures.counts.items() if what == "changes")
    yield _counter("k8s_client_updates_total", "Changes of objects that were told.", (), [((), told)])
    loaded = [((), found is not None)] if measures.follows else []
    help_ = "1 if a configuration is in force."
    yield _gauge("k8s_client_config_loaded_bool", help_, (), loaded)
    stale = [((), found is not None and found.refused > 0)] if measures.follows else []
    help_ = "1 if some object is refused, so that what was right before is in force in its place."
    yield _gauge("k8s_client_config_stale_bool", help_, (), stale)


def controller(measures: Measures, more: OfController) -> Iterator[Metric]:
    """The names of MetalLB's controller."""
    yield from _client(measures)
    pools = sorted(more.pools.items())
    for prefix, families in (("", (4, 6)), ("ipv4_", (4,)), ("ipv6_", (6,))):
        which = "IPs" if prefix == "" else f"IPv{families[0]} addresses"
        for name, help_, count in (
            ("addresses_total", f"{which} that a pool has.", "size"),
            ("addresses_in_use_total", f"{which} of a pool that Services have.", "assigned"),
        ):
            rows = [((pool,), sum(getattr(of, f"{count}_v{f}") for f in families)) for pool, of in pools]
            yield _gauge(f"allocator_{prefix}{name}", help_, ("pool",), rows)


def speaker(status: Status, measures: Measures, more: OfSpeaker) -> Iterator[Metric]:
    """The names of MetalLB's speaker."""
    yield from _client(measures)
    rows = [((service, protocol, status.node, ip), 1) for service, protocol, ip in more.announced]
    help_ = "1 for each service IP that this node announces."
    yield _gauge("speaker_announced", help_, ("service", "protocol", "node", "ip"), rows)
    guards = [((guard.link, guard.protocol), guard.sent) for guard in status.guards]
    answers = [(link, sent.get(ANSWERS, 0)) for link, sent in guards]
    yield _counter("layer2_responses_sent", "Answers that were sent.", ("link", "type"), answers)
    unasked = [(link, sum(sent.get(why, 0) for why in UNASKED)) for link, sent in guards]
    help_ = "Announcements that nobody asked for."
    yield _counter("layer2_gratuitous_sent", help_, ("link", "type"), unasked)
    yield from _bgp(status)


def _bgp(status: Status) -> Iterator[Metric]:
    peers = [((_peer(one),), one) for one in status.peers]
    help_ = "1 for each peer with which there is a session."
    yield _gauge("bgp_session_up", help_, ("peer",), [(peer, one.state == "up") for peer, one in peers])
    help_ = "Routes that are on the wire."
    sent = [(peer, one.sent) for peer, one in peers]
    yield _gauge("bgp_announced_prefixes_total", help_, ("peer",), sent)
    help_ = "Routes that should be on the wire, and are not yet."
    pending = [(peer, max(one.desired - one.sent, 0)) for peer, one in peers]
    yield _gauge("bgp_pending_prefixes_total", help_, ("peer",), pending)
    routers = [((one.router, VRF), one) for one in status.bfd]
    help_ = "1 for each router with which BFD is up."
    up = [(router, one.state == "up") for router, one in routers]
    yield _gauge("bfd_session_up", help_, ("peer", "vrf"), up)
    for name, count in (("input", "received"), ("output", "sent")):
        help_ = f"Control packets of BFD that were {count}."
        packets = [(router, getattr(one, count)) for router, one in routers]
        yield _counter(f"bfd_control_packet_{name}", help_, ("peer", "vrf"), packets)


def _peer(peer: Peer) -> str:
    """Its address and port, as MetalLB writes them."""
    try:
        host = f"[{peer.address}]" if ip_address(peer.address).version == 6 else peer.address
    except ValueError:
        host = peer.address
    return f"{host}:{peer.port}"
