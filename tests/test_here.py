"""Which node this machine is."""

from lbspeaker.model import Node
from lbspeaker.observe.here import which
from tests.build import ips
from tests.core.findings import link

NODES = [Node("a", addresses=ips("192.0.2.200")), Node("b", addresses=ips("192.0.2.201", "2001:db8::201"))]


def test_a_machine_is_the_node_whose_address_it_has() -> None:
    assert which(NODES, [link("eth0", "192.0.2.200/24")]) == "a"
    assert which(NODES, [link("lo", "127.0.0.1/8"), link("eth0", "2001:db8::201/64")]) == "b"


def test_a_machine_without_such_an_address_is_none() -> None:
    assert which(NODES, [link("eth0", "192.0.2.7/24")]) == ""
    assert which([], [link("eth0", "192.0.2.200/24")]) == ""
    loopback = [Node("a", addresses=ips("127.0.0.1"))]
    assert which(loopback, [link("lo", "127.0.0.1/8")]) == "", "everybody has that"
