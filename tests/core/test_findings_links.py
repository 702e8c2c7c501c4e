"""`doctor`: the links and ports of a node; each fault broken and mended."""

from ipaddress import ip_address
from typing import Any

import pytest

from lbspeaker.facts import Bridge, BridgePort, Evidence, Grade, Listener
from lbspeaker.model import BFDProfile, BGPAdvertisement, Config, L2Advertisement, Link, Peer
from tests.build import LAN, ip, pool
from tests.core.findings import about, evidence, here, link, only, passes

DUAL = Config((LAN, pool("six", "2001:db8::10-2001:db8::20")), (L2Advertisement("l2"),))


def node(*links: Link, settings: dict[str, str] | None = None, **fields: Any) -> Evidence:
    return evidence(here=here(*links, settings=settings, **fields))


# --- links ----------------------------------------------------------------------------------------------


def test_a_node_without_a_link_for_announcements() -> None:
    found = only(node(link(running=False)), "link")
    assert found.grade is Grade.FAIL and "(there are: eth0)" in found.what
    assert passes(node(), "link")


def test_links_that_are_hardly_meant() -> None:
    assert "eth0 is Wi-Fi" in only(node(wireless=frozenset({"eth0"})), "link").what
    assert "eth0 is a macvlan" in only(node(link(kind="macvlan")), "link").what
    bonded = {"bonds": {"eth0": "balance-alb"}}
    assert "a bond in mode balance-alb" in only(node(link(kind="bond"), **bonded), "link").what
    assert "service IPs move" in only(node(link(kind="bond"), **bonded), "link").why
    robin = node(link(kind="bond"), bonds={"eth0": "balance-rr"})
    assert "overtake" in only(robin, "link").why
    assert passes(node(link(kind="bond"), bonds={"eth0": "802.3ad"}), "link")
    assert passes(node(link(kind="vlan")), "link")


def test_links_are_nobodys_business_without_layer_2() -> None:
    bgp = Config((LAN,), (), (BGPAdvertisement("bgp"),), (Peer("r", 1, 2, ip("192.0.2.1")),))
    assert about(evidence(config=bgp, here=here(wireless=frozenset({"eth0"}))), "link") == []


def test_a_port_of_a_bridge_that_keeps_frames_back() -> None:
    ports = {"eth1": BridgePort("br0", ("isolated on", "neigh_suppress on"))}
    found = only(node(bridge_ports=ports), "bridge-filter")
    assert found.what == "eth1, a port of bridge br0, has isolated on, neigh_suppress on"
    assert passes(node(bridge_ports={"eth1": BridgePort("br0")}), "bridge-filter")
    assert passes(node(bridge_ports={"veth1": BridgePort("cni0", ("isolated on",))}), "bridge-filter")


def test_a_bridge_that_snoops_multicast_is_worth_a_word() -> None:
    bridges = {"br0": Bridge(300.0, multicast_snooping=True, querier=True)}
    found = only(evidence(config=DUAL, here=here(bridges=bridges)), "bridge-filter")
    assert found.grade is Grade.PASS and "bridge br0 snoops multicast" in found.what
    quiet = {"br0": Bridge(300.0, multicast_snooping=True), "cni0": Bridge(300.0, True, True)}
    assert "snoops" not in only(evidence(config=DUAL, here=here(bridges=quiet)), "bridge-filter").what


@pytest.mark.parametrize(
    ("firmware", "grade", "word"),
    [
        ("Amazon EC2 t3.micro", Grade.WARN, "provider"),
        ("Hetzner vServer", Grade.WARN, "provider"),
        ("QEMU Standard PC (Q35 + ICH9, 2009)", Grade.PASS, "ipfilter"),
        ("VMware, Inc. VMware Virtual Platform", Grade.PASS, "virtual machine"),
        ("Dell Inc. PowerEdge R640", Grade.PASS, "no machine of a provider"),
        ("", Grade.PASS, "no machine of a provider"),
    ],
)
def test_machines(firmware: str, grade: Grade, word: str) -> None:
    found = only(node(machine=firmware), "machine")
    assert found.grade is grade and word in found.what


# --- ports ----------------------------------------------------------------------------------------------


def peering(listener: Listener, **fields: Any) -> Evidence:
    peer = Peer("router", 64513, 64512, ip("192.0.2.1"), **fields)
    config = Config((LAN,), (), (BGPAdvertisement("bgp"),), (peer,))
    return evidence(config=config, here=here(listeners=(listener,)))


def test_another_program_that_waits_for_bgp() -> None:
    bird = Listener("tcp", ip_address("0.0.0.0"), 179, "bird -R")
    assert only(peering(bird), "bgp-port").what == "bird -R listens on port 179"
    assert passes(peering(Listener("udp", ip_address("0.0.0.0"), 179, "x")), "bgp-port")
    assert passes(peering(Listener("tcp", ip_address("127.0.0.1"), 179, "x")), "bgp-port")
    assert about(evidence(here=here(listeners=(bird,))), "bgp-port") == []


def test_another_program_that_has_the_port_of_bfd() -> None:
    def found(program: str) -> Grade:
        listener = Listener("udp", ip_address("0.0.0.0"), 3784, program)
        told = only(peering(listener, bfd=BFDProfile()), "bfd-port")
        assert told.grade is Grade.PASS or (program or "cannot be seen") in told.what
        return told.grade

    assert found("/usr/lib/frr/bfdd") is Grade.FAIL
    assert found("") is Grade.WARN
    assert found("python -m lbspeaker.bfd") is Grade.PASS
    without = peering(Listener("udp", ip_address("0.0.0.0"), 3784, "bfdd"))
    assert about(without, "bfd-port") == []
