"""This node: what its kernel does with packets for service IPs.

A packet for a service IP arrives because the answerer, and nobody else, has told the node's MAC. The kernel
then must let it in (rp_filter), and forward it to a Pod (forwarding); and must not answer by itself, which it
does for every address that it has: with kube-proxy in IPVS mode these are all service IPs, on every node.
"""

from collections.abc import Iterator, Sequence

from lbspeaker.core.checks import Check, fail, here_of, named, warn
from lbspeaker.core.links import choose, eligible
from lbspeaker.core.nodes import holders
from lbspeaker.facts import Evidence, Finding, Grade, Here, Part
from lbspeaker.model import Link

IPVS = "kube-ipvs0"  # the link on which kube-proxy in IPVS mode has every service IP
STRICT_ARP = "strictARP: true in the ConfigMap kube-proxy (ipvs), then restart kube-proxy"


def _unread(here: Here, setting: str) -> Finding:
    why = "it cannot be read here"
    return Finding(
        "",
        Grade.UNKNOWN,
        here.name,
        f"sysctl {setting} was not looked at",
        why,
        "run it on the host's network",
    )


# --- who else answers -----------------------------------------------------------------------------------


def ipvs_arp(evidence: Evidence) -> Iterator[Finding]:
    here, proxy = evidence.here, evidence.proxy
    if proxy and proxy.mode == "ipvs" and not proxy.strict_arp:
        yield fail("kube-proxy", "it is in IPVS mode without strictARP", _EVERY_NODE, STRICT_ARP)
    if here is None or not _has_ipvs(here):
        return
    loose = []
    for link in eligible(here.links):
        values = {name: here.of_link(link.name, name) for name in ("arp_ignore", "arp_announce")}
        if None in values.values():
            yield _unread(here, f"net.ipv4.conf.{link.name}.arp_ignore")
        elif (values["arp_ignore"] or 0) < 1 or (values["arp_announce"] or 0) < 2:
            loose.append(f"{link.name}: " + ", ".join(f"{name} {value}" for name, value in values.items()))
    if loose:
        remedy = f"{STRICT_ARP} (it sets arp_ignore 1 and arp_announce 2)"
        yield fail(here.name, f"IPVS without strict ARP ({named(loose)})", _EVERY_NODE, remedy)


_EVERY_NODE = "every node has each service IP on kube-ipvs0 and answers for it, the owner and all others"


def _has_ipvs(here: Here) -> bool:
    return any(link.name == IPVS for link in here.links)


def address_taken(evidence: Evidence) -> Iterator[Finding]:
    here = here_of(evidence)
    held = holders(evidence.snapshot.services.values())
    for link in here.links:
        for own in link.addresses if link.name != IPVS else ():
            if own.ip in held:
                users = named([service.key for service in held[own.ip]])
                yield fail(
                    here.name,
                    f"{own.ip}, a service IP of {users}, is an address of its link {link.name}",
                    "the kernel answers for it whoever owns it, and keeps it when the speaker lets go",
                    f"ip address delete {own} dev {link.name}, and look who has set it",
                )


# --- what the kernel lets through -----------------------------------------------------------------------


def forwarding(evidence: Evidence) -> Iterator[Finding]:
    here = here_of(evidence)
    wanted = evidence.families or {4}
    if 4 in wanted:
        yield from _forwards(here, "net.ipv4.ip_forward", "net.ipv4.conf.{}.forwarding")
    if 6 in wanted:
        yield from _forwards(here, "net.ipv6.conf.all.forwarding", "net.ipv6.conf.{}.forwarding")


def _forwards(here: Here, every: str, each: str) -> Iterator[Finding]:
    value = here.setting(every)
    off = [name for link in eligible(here.links) if here.setting(name := each.format(link.name)) == 0]
    why = "packets for service IPs arrive, and are not passed on to Pods"
    if value is None:
        yield _unread(here, every)
    elif value == 0:
        yield fail(here.name, f"{every} is 0", why, f"sysctl -w {every}=1, and write it to /etc/sysctl.d")
    elif off:
        yield fail(
            here.name, f"{named(off)} is 0", why, f"sysctl -w {off[0]}=1, and write it to /etc/sysctl.d"
        )


def ipv6(evidence: Evidence) -> Iterator[Finding]:
    here = here_of(evidence)
    for link in eligible(here.links):
        conf = f"net.ipv6.conf.{link.name}"
        if here.setting(f"{conf}.disable_ipv6") == 1:
            what, why = (
                f"IPv6 is off on {link.name} ({conf}.disable_ipv6 is 1)",
                "no IPv6 service IP is found there",
            )
            yield fail(here.name, what, why, f"sysctl -w {conf}.disable_ipv6=0, or a pool without IPv6")
        elif here.setting(f"{conf}.forwarding") == 1 and here.setting(f"{conf}.accept_ra") == 1:
            yield warn(
                here.name,
                f"{link.name} forwards IPv6, and {conf}.accept_ra is 1",
                "a link that forwards takes a router's word only if accept_ra is 2, so IPv6 routes run out",
                f"sysctl -w {conf}.accept_ra=2, unless the routes are static",
            )


def rp_filter(evidence: Evidence) -> Iterator[Finding]:
    """Strict reverse path filtering (RFC 3704 §2.2) where the way back is over another link."""
    here = here_of(evidence)
    links = eligible(here.links)
    default = [link.name for link in links if link.gateway is not None]
    for link in links:
        value = here.of_link(link.name, "rp_filter")
        if value is None:
            yield _unread(here, f"net.ipv4.conf.{link.name}.rp_filter")
        elif value == 1 and default and link.name not in default and _carries(link, links, evidence):
            yield warn(
                here.name,
                f"rp_filter is 1 (strict) on {link.name}, and the default route is over {default[0]}",
                f"what clients of other networks send to service IPs on {link.name} is dropped",
                f"sysctl -w net.ipv4.conf.{link.name}.rp_filter=2 (the larger of its own and all counts),"
                " or routes back by that link",
            )


def _carries(link: Link, links: Sequence[Link], evidence: Evidence) -> bool:
    """Whether some IP of a pool would be announced on the link."""
    config = evidence.snapshot.config
    return any(
        link.name in choose(ip, links, ad.interfaces, ad.any_subnet)
        for ad in evidence.own_advertisements
        for pool in config.pools
        if ad.scope.covers_pool(pool)
        for ip in (end for r in pool.ranges if r.family == 4 for end in (r.first, r.last))
    )


def _has_ipv6(evidence: Evidence) -> bool:
    return 6 in evidence.families


def _uses_ipvs(evidence: Evidence) -> bool:
    here, proxy = evidence.here, evidence.proxy
    return bool(proxy and proxy.mode == "ipvs") or bool(here and _has_ipvs(here))


_HERE = frozenset({Part.HERE})
_CONFIGURED = frozenset({Part.HERE, Part.CONFIG})
CHECKS = (
    Check(
        "ipvs-arp",
        "kube-proxy is in IPVS mode, and nodes answer only for what they own",
        ipvs_arp,
        frozenset(),
        frozenset({Part.HERE, Part.PROXY}),
        _uses_ipvs,
    ),
    Check("address-taken", "no link has a service IP", address_taken, _HERE | {Part.SERVICES}),
    Check("forwarding", "the kernel forwards packets", forwarding, _HERE),
    Check("ipv6", "its links speak IPv6", ipv6, _CONFIGURED, concerns=_has_ipv6),
    Check("rp-filter", "rp_filter drops nothing that comes for service IPs", rp_filter, _CONFIGURED),
)
