"""Which part of a router's tables is about our pools."""

from collections.abc import Iterable
from ipaddress import collapse_addresses

from lbspeaker.model import Family, Network
from lbspeaker.upstream import Upstream

_SHORTEST: dict[Family, int] = {4: 16, 6: 32}  # a network of this length may be asked for as a whole


def spans(up: Upstream, family: Family) -> list[Network]:
    """Return networks that hold all that the router takes: for each pool one, or several if it is torn."""
    found: list[Network] = []
    for one in up.lists(family):
        networks = [accepted.network for accepted in one.entries]
        together = _around(networks)
        found += [together] if together.prefixlen >= _SHORTEST[family] else networks
    return list(collapse_addresses(found))  # type: ignore[type-var]


def _around(networks: Iterable[Network]) -> Network:
    """The smallest network that holds them all."""
    first, *others = networks
    while not all(other.subnet_of(first) for other in others):  # type: ignore[arg-type]
        first = first.supernet()
    return first
