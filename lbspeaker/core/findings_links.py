"""Links and ports of this node: what carries announcements, what keeps them back, who is there already."""

import re
from collections.abc import Iterator

from lbspeaker.core.checks import Check, fail, has_peers, here_of, named, warn, well
from lbspeaker.core.links import EXCLUDED, eligible
from lbspeaker.facts import Evidence, Finding, Here, Part
from lbspeaker.model import Link

_REWRITING = {"balance-alb", "balance-tlb", "balance-rr"}
_SHARED = {"macvlan", "macvtap", "ipvlan"}
# Networks of providers, which answer ARP themselves, or drop what is not from an address that they know.
_CLOUDS = re.compile(
    r"Amazon|Google Compute|DigitalOcean|Hetzner|OpenStack|Alibaba|OracleCloud|Linode|Akamai|Vultr|Scaleway"
)
_VIRTUAL = re.compile(r"QEMU|KVM|VMware|VirtualBox|Xen|Microsoft Corporation Virtual|Standard PC|Bochs")


def links(evidence: Evidence) -> Iterator[Finding]:
    here = here_of(evidence)
    named_links = {name for ad in evidence.own_advertisements for name in ad.interfaces}
    by_default = eligible(here.links)
    used = [link for link in here.links if link in by_default or link.name in named_links]
    if not used:
        seen = named([link.name for link in here.links if not EXCLUDED.match(link.name)]) or "none"
        yield fail(
            here.name,
            f"no link of it can carry announcements (there are: {seen})",
            "nothing is announced by this node on layer 2",
            "is the link up, with a MAC, and in no bridge or bond? else name it in spec.interfaces",
        )
    for link in used:
        yield from _kind(here, link)


def _kind(here: Here, link: Link) -> Iterator[Finding]:
    if link.name in here.wireless:
        yield warn(
            here.name,
            f"{link.name} is Wi-Fi",
            "access points hold back broadcasts of ARP and NDP, or answer them from a memory of their own",
            "a cable; or BGP, which needs no broadcasts",
        )
    if link.kind in _SHARED:
        yield warn(
            here.name,
            f"{link.name} is a {link.kind}",
            "its parent does not see it, and a switch that admits one MAC for each port drops its frames",
            "announce on the parent (spec.interfaces), from the host's network",
        )
    mode = here.bonds.get(link.name)
    if mode in _REWRITING:
        yield warn(
            here.name,
            f"{link.name} is a bond in mode {mode}",
            "it sends from several MACs, so switches and clients see service IPs move"
            if mode != "balance-rr"
            else "frames overtake each other, and the switch sees one MAC at several ports",
            "mode 802.3ad or active-backup",
        )


def bridge_filter(evidence: Evidence) -> Iterator[Finding]:
    """Flags of bridge ports on this machine, which keep frames back (bridge(8))."""
    here = here_of(evidence)
    for name, port in sorted(here.bridge_ports.items()):
        if port.filters and not EXCLUDED.match(name):
            yield warn(
                here.name,
                f"{name}, a port of bridge {port.bridge}, has {named(port.filters)}",
                "ARP and NDP of service IPs may not pass there",
                f"bridge link set dev {name} … turns each of them off; see man bridge",
            )
    if 6 not in evidence.families:
        return
    for name, bridge in sorted(here.bridges.items()):
        if bridge.multicast_snooping and bridge.querier and not EXCLUDED.match(name):
            yield well(here.name, f"bridge {name} snoops multicast; speakers join the groups of their IPs")


def machine(evidence: Evidence) -> Iterator[Finding]:
    here = here_of(evidence)
    if _CLOUDS.search(here.machine):
        yield warn(
            here.name,
            f"it is a machine of a provider ({here.machine})",
            "such networks answer ARP themselves, so nobody asks a node who has a service IP",
            "BGP, if the provider has it; or a network between the nodes that is your own",
        )
    elif _VIRTUAL.search(here.machine):
        yield well(
            here.name,
            f"a virtual machine ({here.machine}): frames have the MAC of its own link, so MAC filters let"
            " them pass; filters of IPs (ipfilter, port security) must know the pools",
        )


# --- ports ----------------------------------------------------------------------------------------------


def bgp_port(evidence: Evidence) -> Iterator[Finding]:
    here = here_of(evidence)
    for listener in here.listeners:
        if (listener.protocol, listener.port) == ("tcp", 179) and not listener.address.is_loopback:
            yield warn(
                here.name,
                f"{listener.program or 'another program'} listens on port 179",
                "a router takes one session from each address, so one of two speakers stays out",
                "have only one of them peer with that router, or give one a sourceAddress of its own",
            )
            return


def bfd_port(evidence: Evidence) -> Iterator[Finding]:
    here = here_of(evidence)
    for listener in here.listeners:
        if (listener.protocol, listener.port) not in (("udp", 3784), ("udp", 4784)):
            continue
        if "lbspeaker" in listener.program:
            continue
        who = listener.program or "a program that cannot be seen from here"
        make = fail if listener.program else warn
        yield make(
            here.name,
            f"{who} has UDP port {listener.port}",
            "BFD of lbspeaker has no port to hear the router on, unless this is lbspeaker itself",
            "end BFD there (bfdd of FRR, BIRD, MetalLB), or remove bfdProfile",
        )


def _has_layer2(evidence: Evidence) -> bool:
    return bool(evidence.own_advertisements)


def _has_bfd(evidence: Evidence) -> bool:
    return any(peer.bfd for peer in evidence.snapshot.config.peers)


_CONFIGURED = frozenset({Part.HERE, Part.CONFIG})
CHECKS = (
    Check("link", "its links can carry announcements", links, _CONFIGURED, concerns=_has_layer2),
    Check(
        "bridge-filter",
        "no bridge on it keeps ARP or NDP back",
        bridge_filter,
        _CONFIGURED,
        concerns=_has_layer2,
    ),
    Check("machine", "it is no machine of a provider", machine, _CONFIGURED, concerns=_has_layer2),
    Check("bgp-port", "nobody else waits for BGP on it", bgp_port, _CONFIGURED, concerns=has_peers),
    Check("bfd-port", "the ports of BFD are free, or ours", bfd_port, _CONFIGURED, concerns=_has_bfd),
)
