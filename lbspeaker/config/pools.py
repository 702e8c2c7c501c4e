"""IPAddressPool: its fields, and what they mean."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from lbspeaker.config.addresses import IP, RangeOrCidr
from lbspeaker.config.advertisements import NAMES
from lbspeaker.config.cel import Rule
from lbspeaker.config.place import Place
from lbspeaker.config.ranges import RangeSet, joined, shortest_prefix, without
from lbspeaker.config.schema import Field, ListOf, Made, Record
from lbspeaker.config.selectors import SELECTORS
from lbspeaker.config.values import Choice, Duration, Flag, Text, Whole
from lbspeaker.config.versions import OURS, known_in
from lbspeaker.model import Address, Family, Pool, Range, Reservation, Selector, ServiceAllocation, is_buggy

Spec = Mapping[str, Any]

# --- its fields -----------------------------------------------------------------------------------------

_MANY = 4000  # about what rules on addresses may cost an API server
_ALLOCATION = {
    "priority": Field(
        Whole(-(2**31), 2**31 - 1),
        "Pools with a lower priority are asked first; 0 comes last.",
        default=0,
    ),
    "namespaces": Field(
        NAMES,
        "Namespaces whose services may use the pool.",
        default=(),
        absent="those that the selectors select; without both, all",
    ),
    "namespaceSelectors": Field(
        SELECTORS, "Selects such namespaces by their labels, besides those named.", default=()
    ),
    "serviceSelectors": Field(
        SELECTORS, "Selects services of these namespaces by their labels.", default=(), absent="all"
    ),
}
_EXCLUSIVE = {
    "exclusive": Field(
        Flag(), "These services get IPs of pools that are exclusive for them, and of no other.", default=False
    )
}
_POOL = {
    "addresses": Field(
        ListOf(RangeOrCidr(), at_least=1, most=_MANY),
        "Ranges of service IPs, given in this order: 192.0.2.0/24 or 192.0.2.10-192.0.2.20.",
        required=True,
        hint="write addresses: [192.0.2.10-192.0.2.20]",
    ),
    "autoAssign": Field(
        Flag(),
        "Whether services get IPs of this pool without asking for the pool, or for an IP of it.",
        default=True,
    ),
    "avoidBuggyIPs": Field(Flag(), "Leave out IPv4 addresses that end in .0 or .255.", default=False),
}


def _reservation(parsed: dict[str, Any], place: Place) -> Reservation | None:
    ips: tuple[Address, ...] = parsed["addresses"]
    if len({ip.version for ip in ips}) < len(ips):
        place.at("addresses").error(*_ONE_OF_A_FAMILY)
        return None
    return Reservation(parsed["service"], ips)


_ONE_OF_A_FAMILY = (
    "there are two addresses of one family, and a service has one of each",
    "write at most one IPv4 and one IPv6 address",
)
_TWO = "isIP(self.addresses[0]) && isIP(self.addresses[1])"
_SAME = "self.addresses[0].contains(':') == self.addresses[1].contains(':')"
_RESERVATION_RULES = (
    Rule(
        f"size(self.addresses) != 2 || !({_TWO} && {_SAME})"
        " || ip(self.addresses[0]) == ip(self.addresses[1])",
        *_ONE_OF_A_FAMILY,
        key="addresses",
    ),
)
_LABEL = "[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?"
_RESERVATION = Record(
    {
        "service": Field(
            Text(
                f"{_LABEL}/{_LABEL}",
                "the namespace/name of a service",
                "write it like default/web",
                longest=2 * 63 + 1,
            ),
            "The service, as namespace/name; it need not exist.",
            required=True,
        ),
        "addresses": Field(
            ListOf(IP(), at_least=1, most=10), "Its IPs: at most one of each family.", required=True
        ),
    }
)
_OURS_ONLY = {
    "exclude": Field(
        ListOf(RangeOrCidr(given=False), most=_MANY),
        "Ranges that are not given, though they are in the addresses.",
        default=(),
        absent="none",
    ),
    "disabled": Field(Flag(), "Give nothing any more; services keep what they have.", default=False),
    "onShrink": Field(
        Choice(("Keep", "Renumber")),
        "What becomes of services whose IPs are no longer in the pool: they Keep them, or get others.",
        default="Keep",
    ),
    "strategy": Field(
        Choice(("LowestFirst", "Random")),
        "Which free address is given next: the lowest, or, beginning at a place that only the service"
        " determines, the first that is free.",
        default="LowestFirst",
    ),
    "cooldown": Field(
        Duration(), "How long a released IP is given to nobody else; at most 24h.", absent="0s"
    ),
    "sharing": Field(
        Choice(("Cluster", "Namespace")),
        "Whether sharing keys count in the whole cluster, or only inside a namespace.",
        default="Cluster",
    ),
    "namespaceQuota": Field(
        Whole(1, 2**31 - 1),
        "So many IPs at most for the services of one namespace; a shared IP counts once.",
        absent="no limit",
    ),
    "reservations": Field(
        ListOf(Made(_RESERVATION, _reservation, _RESERVATION_RULES), most=_MANY, key="service"),
        "IPs that only the named service gets, also while it does not exist.",
        default=(),
        absent="none",
    ),
}
_ABOUT_ALLOCATION = "Which services the pool is for: those of these namespaces that have these labels."
_ELSEWHERE = known_in(OURS)

POOL = Record(
    {
        **_POOL,
        "serviceAllocation": Field(
            Record({**_ALLOCATION, **_EXCLUSIVE}), _ABOUT_ALLOCATION, absent="all services"
        ),
        **_OURS_ONLY,
    }
)
POOL_OF_METALLB = Record(
    {
        **_POOL,
        "serviceAllocation": Field(
            Record(_ALLOCATION, dict.fromkeys(_EXCLUSIVE, _ELSEWHERE)),
            _ABOUT_ALLOCATION,
            absent="all services",
        ),
    },
    dict.fromkeys(_OURS_ONLY, _ELSEWHERE),
)

# --- what they mean -------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class DeclaredPool:
    """A pool, and where it is said.

    `entries`: which of spec.addresses each range is of. `longest`: of each family, the one of spec.addresses
    that takes the longest prefix, and how long it is: a shorter one is more than this range.
    """

    place: Place
    value: Pool
    entries: tuple[int, ...]
    longest: Mapping[Family, tuple[int, Range]]


def pool(
    name: str, labels: Mapping[str, str], spec: Spec, place: Place, deleted: bool = False
) -> DeclaredPool | None:
    """Return None when `place`, that of the object, was told an error."""
    spec = {**POOL.defaults(), **spec}
    written, exclude = spec["addresses"], joined(spec["exclude"])
    parts = without(written, exclude)
    addresses = joined(written)
    within = place.at("spec")
    _warn_outside(spec["exclude"], addresses, within.at("exclude"))
    if not parts:
        within.at("exclude").error("nothing is left: all addresses are excluded", "exclude less")
        return None
    made = Pool(
        name=name,
        ranges=tuple(part for _, part in parts),
        labels=labels,
        auto_assign=spec["autoAssign"],
        avoid_buggy_ips=spec["avoidBuggyIPs"],
        service_allocation=_allocation(spec["serviceAllocation"], within.at("serviceAllocation")),
        excluded=tuple(part for one in addresses.ranges() for part in exclude.common(one)),
        disabled=spec["disabled"],
        deleted=deleted,
        on_shrink=spec["onShrink"],
        strategy=spec["strategy"],
        cooldown_s=spec["cooldown"] or 0.0,
        sharing=spec["sharing"],
        namespace_quota=spec["namespaceQuota"] or 0,
        reservations=spec["reservations"],
    )
    _check_reservations(made, exclude, within.at("reservations"))
    if place.refused:
        return None
    return DeclaredPool(place, made, tuple(entry for entry, _ in parts), _longest(written))


def _longest(written: tuple[Range, ...]) -> dict[Family, tuple[int, Range]]:
    found: dict[Family, tuple[int, Range]] = {}
    for one in written:
        length = shortest_prefix(one)
        if one.family not in found or length > found[one.family][0]:
            found[one.family] = length, one
    return found


def _warn_outside(exclude: tuple[Range, ...], addresses: RangeSet, place: Place) -> None:
    for number, one in enumerate(exclude):
        if next(addresses.common(one), None) is None:
            place.at(number).warn(
                f"{one} is in none of the addresses", "remove it, or look for a mistyped digit"
            )


def _allocation(spec: Spec | None, place: Place) -> ServiceAllocation | None:
    if spec is None:
        return None
    made = ServiceAllocation(
        priority=spec["priority"],
        namespaces=frozenset(spec["namespaces"]),
        namespace_selectors=spec["namespaceSelectors"],
        service_selectors=spec["serviceSelectors"],
        exclusive=spec.get("exclusive", False),
    )
    if made.exclusive and _is_for_all(made):
        place.at("exclusive").warn(
            "the pool is exclusive for all services: none gets IPs of another pool",
            "write namespaces, namespaceSelectors or serviceSelectors",
        )
    return made


def _is_for_all(allocation: ServiceAllocation) -> bool:
    everything = Selector()
    by_namespace = allocation.namespaces or allocation.namespace_selectors
    all_namespaces = not by_namespace or everything in allocation.namespace_selectors
    return all_namespaces and (not allocation.service_selectors or everything in allocation.service_selectors)


def _check_reservations(pool: Pool, exclude: RangeSet, place: Place) -> None:
    free = joined(pool.ranges)  # `ip in pool` looks at every range
    reserved: dict[Address, str] = {}
    for number, one in enumerate(pool.reservations):
        for index, ip in enumerate(one.ips):
            where = place.at(number, "addresses", index)
            if ip in exclude:
                where.error(f"{ip} is excluded from the pool", "take it out of exclude")
            elif ip not in free:
                where.error(f"{ip} is not in the pool", "add it to addresses")
            elif pool.avoid_buggy_ips and is_buggy(ip.version, int(ip)):
                where.error(f"{ip} is not given: avoidBuggyIPs leaves it out", "reserve another address")
            elif ip in reserved:
                where.error(f"{ip} is reserved for {reserved[ip]} already", "reserve another address")
            reserved.setdefault(ip, one.service)
