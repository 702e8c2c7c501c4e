"""The routers for which there is a configuration, and what makes it."""

from collections.abc import Callable, Mapping

from lbspeaker.upstream import Upstream
from lbspeaker.wire import (
    upstream_bird,
    upstream_cisco,
    upstream_frr,
    upstream_junos,
    upstream_mikrotik,
    upstream_opnsense,
    upstream_vyos,
)

ROUTERS: Mapping[str, Callable[[Upstream], str]] = {
    "opnsense": upstream_opnsense.build,
    "frr": upstream_frr.build,
    "bird": upstream_bird.build,
    "vyos": upstream_vyos.build,
    "mikrotik": upstream_mikrotik.build,
    "junos": upstream_junos.build,
    "cisco": upstream_cisco.build,
}
