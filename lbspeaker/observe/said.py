"""What live speakers say of themselves, as deciders take it."""

from collections.abc import Mapping
from ipaddress import ip_network
from typing import TYPE_CHECKING

from lbspeaker.core.said import Said, SaidIP, SaidMember, SaidPeer
from lbspeaker.model import address_of
from lbspeaker.wire.status import Status

if TYPE_CHECKING:
    from lbspeaker.observe.look import Look


def said(seen: "Look") -> Mapping[str, Said]:
    """Return it by node."""
    return {node: as_said(status) for node, status in seen.living.items()}


def hearing(seen: "Look") -> Mapping[str, Said]:
    """Return by node only how live speakers hear each other; of IPs there may be very many."""
    return {node: Said(members=_members(status)) for node, status in seen.living.items()}


def as_said(status: Status) -> Said:
    """What of a status explanations and forecasts look at."""
    ips = {
        ip: SaidIP(one.role, one.links, one.since, f"{one.conflict} {one.vendor}".strip())
        for one in status.ips
        if (ip := address_of(one.ip)) is not None
    }
    peers = {
        one.name: SaidPeer(
            one.state,
            one.since,
            one.sent,
            one.desired,
            one.last_error,
            {ip_network(prefix): why for prefix, why in one.unsent.items()},
        )
        for one in status.peers
    }
    waiting = sum(guard.queue for guard in status.guards)
    return Said(status.state, ips, peers, status.problems, waiting, _members(status))


def _members(status: Status) -> dict[str, SaidMember]:
    return {one.node: SaidMember(one.heard_on, one.silent_on) for one in status.members}
