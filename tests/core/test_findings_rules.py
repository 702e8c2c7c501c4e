"""`doctor`: what the configuration says; each fault broken and mended."""

from lbspeaker.errors import Problem
from lbspeaker.facts import Bridge, Grade
from lbspeaker.model import (
    BFDProfile,
    BGPAdvertisement,
    Config,
    L2Advertisement,
    LinkPolicy,
    Node,
    Peer,
)
from tests.build import LAN, ip, scope, selector
from tests.core.findings import about, evidence, here, link, only, passes

LAYER2 = (L2Advertisement("l2"),)


def test_what_is_wrong_in_the_configuration() -> None:
    error = Problem("pools.yaml", 4, "IPAddressPool/lan", "spec.autoAsign", "unknown key", "did you mean …?")
    doubt = Problem("cluster", None, "BGPPeer/tor", "", "hardly", severity="warning")
    first, second = about(evidence(problems=(error, doubt)), "configuration")
    assert (first.grade, first.subject) == (Grade.FAIL, "IPAddressPool/lan (pools.yaml:4)")
    assert (first.what, first.remedy) == ("spec.autoAsign: unknown key", "did you mean …?")
    assert (second.grade, second.subject, second.remedy) == (
        Grade.WARN,
        "BGPPeer/tor",
        "lbspeaker check says more",
    )
    assert passes(evidence(), "configuration")


def test_a_pool_that_nobody_announces() -> None:
    elsewhere = Config((LAN,), (L2Advertisement("l2", scope(pools=frozenset({"other"}))),))
    found = only(evidence(config=elsewhere), "advertised")
    assert (found.grade, found.subject) == (Grade.FAIL, "pool lan")
    assert passes(evidence(), "advertised")


def test_no_pool_and_no_router() -> None:
    assert only(evidence(config=Config()), "advertised").what == "there is no pool"
    lonely = Config((LAN,), (), (BGPAdvertisement("bgp"),))
    assert only(evidence(config=lonely), "advertised").what == "there are BGPAdvertisements, and no BGPPeer"


def test_bfd_and_graceful_restart_together() -> None:
    def peering(**fields: object) -> Config:
        peer = Peer("router", 64513, 64512, ip("192.0.2.1"), **fields)  # type: ignore[arg-type]
        return Config((LAN,), (), (BGPAdvertisement("bgp"),), (peer,))

    both = peering(bfd=BFDProfile(), graceful_restart_s=120)
    assert only(evidence(config=both), "restart-with-bfd").grade is Grade.WARN
    assert passes(evidence(config=peering(bfd=BFDProfile())), "restart-with-bfd")
    assert passes(evidence(config=peering(graceful_restart_s=120)), "restart-with-bfd")


def test_refreshes_that_come_after_switches_forget() -> None:
    def refreshing(seconds: int) -> Config:
        return Config((LAN,), LAYER2, link_policies=(LinkPolicy("quiet", refresh_s=seconds),))

    assert only(evidence(config=refreshing(0)), "fdb-ageing").what == "we never refresh"
    assert only(evidence(config=refreshing(226)), "fdb-ageing").what == "we refresh up to 301 s apart"
    assert passes(evidence(config=refreshing(225)), "fdb-ageing")


def test_the_policy_of_this_node_counts_for_its_bridge() -> None:
    rare = LinkPolicy("rare", node_selectors=(selector(rack="a"),), refresh_s=120)
    config = Config((LAN,), LAYER2, link_policies=(rare,))
    node = here(link("br0", kind="bridge"), bridges={"br0": Bridge(150.0)})
    told = evidence(config=config, here=node, nodes=[Node("a", {"rack": "a"})])
    assert only(told, "fdb-ageing").subject == "a, bridge br0"
    assert passes(evidence(config=config, here=node, nodes=[Node("a")]), "fdb-ageing")


def test_a_bridge_on_the_node_that_forgets_early() -> None:
    bridged = {"br0": Bridge(60.0)}
    node = here(link("br0", kind="bridge"), bridges=bridged)
    found = only(evidence(here=node), "fdb-ageing")
    assert (found.subject, found.what) == (
        "a, bridge br0",
        "it forgets a MAC after 60 s; we refresh up to 120 s apart",
    )
    assert passes(
        evidence(here=here(link("br0", kind="bridge"), bridges={"br0": Bridge(300.0)})), "fdb-ageing"
    )
