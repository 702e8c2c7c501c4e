"""What the programs say of themselves as metrics: the values, and that Prometheus can read them."""

from collections.abc import Iterable
from dataclasses import replace

import pytest
from msgspec import structs
from prometheus_client.core import Metric
from prometheus_client.parser import text_string_to_metric_families

from lbspeaker.model import ConfigSet, Distribution, PoolStatus, Verdict
from lbspeaker.wire import metrics, metrics_metallb, metrics_speaker
from lbspeaker.wire.measures import Measures, OfController, OfSpeaker, configured, hash_of
from lbspeaker.wire.metrics_controller import controller
from lbspeaker.wire.status import IP, Peer, Status
from tests.wire.test_status import STATUS

TIMES = Distribution((0.1, 1.0), (2, 3), 4, 7.5)
ACCEPTED = ConfigSet(
    documents=({"kind": "IPAddressPool", "spec": {}},),
    verdicts=(Verdict("IPAddressPool/a", True, ""), Verdict("IPAddressPool/b", False, "no")),
)
MEASURES = Measures(
    "speaker",
    "0.1.0",
    True,
    TIMES,
    {("claims", "takeover"): 3, ("moves", "in"): 2, ("deaths", "hello"): 1, ("changes", "Service"): 9},
    {"GET": 5, "WATCH": 6},
    {("PATCH", "Conflict"): 2},
    configured(ACCEPTED, 1_767_323_000.0),
)
MORE = OfSpeaker(
    {("layer2", "allocation"): TIMES},
    {"hello": 0.512},
    {"NoEndpoint": 2},
    (("default/web", "layer2", "192.0.2.10"),),
)
PEERS = (
    Peer("router", "192.0.2.1", 64512, "up", 1_767_323_040.0, 3, 3, 1, 2, "up", ""),
    Peer("six", "2001:db8::1", 64512, "connecting", 1_767_323_041.0, 0, 3, 0, 0, "", "refused", 1179),
)
FULL = structs.replace(STATUS, peers=PEERS)
ACTING = OfController(
    1_767_323_000.0,
    7,
    {"PoolExhausted": 2, "NoPool": 1},
    {"OutsidePool": 1},
    {"lan": PoolStatus(5, 0, 5, 0, 10, 0, 3), "six": PoolStatus(size_v6=1 << 62, available_v6=1 << 62)},
    4,
    True,
)


def speaker(status: Status = FULL, more: OfSpeaker = MORE) -> Iterable[Metric]:
    return metrics_speaker.speaker(status, MEASURES, more)


def samples(families: Iterable[Metric]) -> dict[str, float]:
    """Every sample as Prometheus reads it: by its name and its labels, sorted."""
    found = {}
    for family in text_string_to_metric_families(metrics.text(families).decode()):
        for one in family.samples:
            labels = ",".join(f'{key}="{value}"' for key, value in sorted(one.labels.items()))
            name = f"{one.name}{{{labels}}}".removesuffix("{}")
            assert name not in found, f"{name} is there twice"
            found[name] = one.value
    return found


def test_the_frames_of_each_link() -> None:
    found = samples(speaker())
    link = 'link="eth0"'
    assert found[f'lbspeaker_frames_sent_total{{{link},occasion="new",protocol="arp"}}'] == 3
    assert found[f'lbspeaker_frames_sent_total{{{link},occasion="answer",protocol="arp"}}'] == 7
    assert found[f'lbspeaker_frames_held_back_total{{{link},occasion="new",protocol="arp"}}'] == 2
    reasons = ("coalesced", "expired", "repetitive")
    name = "lbspeaker_frames_suppressed_total"
    suppressed = [found[f'{name}{{{link},protocol="arp",reason="{why}"}}'] for why in reasons]
    assert suppressed == [4, 5, 6]
    link += ',protocol="arp"'
    assert found[f"lbspeaker_frames_unpaced_total{{{link}}}"] == 30
    assert found[f"lbspeaker_guard_longest_wait_seconds{{{link}}}"] == 0.25
    assert found[f"lbspeaker_segment_frames_per_second{{{link}}}"] == 1.5
    assert found[f"lbspeaker_storms_total{{{link}}}"] == 2


def test_ips_members_and_what_became_of_them() -> None:
    found = samples(speaker())
    assert found['lbspeaker_ips{role="owner"}'] == found['lbspeaker_ips{role="held-back"}'] == 1
    assert found['lbspeaker_ips{role="lent"}'] == 0
    assert found["lbspeaker_members"] == 2
    assert found["lbspeaker_members_lost"] == 1
    assert found["lbspeaker_problems"] == 1
    assert found['lbspeaker_claims_total{reason="takeover"}'] == 3
    assert found['lbspeaker_claims_total{reason="new"}'] == 0, "increase() needs a beginning"
    assert found['lbspeaker_ip_moves_total{direction="in"}'] == 2
    assert found['lbspeaker_deaths_total{sign="hello"}'] == 1
    assert found['lbspeaker_last_detection_seconds{sign="hello"}'] == 0.512
    assert found['lbspeaker_unannounced{reason="NoEndpoint"}'] == 2
    assert found['lbspeaker_state{state="serving"}'] == 1
    assert found['lbspeaker_state{state="draining"}'] == 0


def test_times_are_histograms() -> None:
    found = samples(speaker())
    labels = 'protocol="layer2",since="allocation"'
    name = "lbspeaker_announcement_seconds"
    buckets = {
        key: value for key, value in found.items() if key.startswith((f"{name}_bucket", f"{name}_count"))
    }
    assert buckets == {
        f'{name}_bucket{{le="0.1",{labels}}}': 2,
        f'{name}_bucket{{le="1",{labels}}}': 3,
        f'{name}_bucket{{le="+Inf",{labels}}}': 4,
        f"{name}_count{{{labels}}}": 4,
    }
    assert found[f"{name}_sum{{{labels}}}"] == found["lbspeaker_turn_duration_seconds_sum"] == 7.5


def test_bgp_and_bfd() -> None:
    found = samples(speaker())
    router, six = 'address="192.0.2.1",peer="router"', 'address="2001:db8::1",peer="six"'
    assert (found[f"lbspeaker_bgp_up{{{router}}}"], found[f"lbspeaker_bgp_up{{{six}}}"]) == (1, 0)
    assert found[f"lbspeaker_bgp_routes{{{six}}}"] == 0
    assert found[f"lbspeaker_bgp_routes_desired{{{six}}}"] == 3
    assert found[f"lbspeaker_bgp_child_restarts_total{{{router}}}"] == 2
    assert found[f"lbspeaker_bgp_state_timestamp_seconds{{{router}}}"] == 1_767_323_040
    assert {name: value for name, value in found.items() if "_bfd_" in name} == {
        'lbspeaker_bfd_up{router="192.0.2.1"}': 1,
        'lbspeaker_bfd_up{router="192.0.2.9"}': 0,
        'lbspeaker_bfd_packets_sent_total{router="192.0.2.1"}': 50,
        'lbspeaker_bfd_packets_sent_total{router="192.0.2.9"}': 7,
        'lbspeaker_bfd_packets_received_total{router="192.0.2.1"}': 49,
        'lbspeaker_bfd_packets_received_total{router="192.0.2.9"}': 3,
        'lbspeaker_bfd_packets_dropped_total{reason="ttl",router="192.0.2.9"}': 2,
    }


def test_what_both_programs_say() -> None:
    for found in (samples(speaker()), samples(controller(MEASURES, ACTING))):
        assert found['lbspeaker_build_info{program="speaker",version="0.1.0"}'] == 1
        assert found["lbspeaker_ready"] == 1
        assert found['lbspeaker_api_requests_total{method="GET"}'] == 5
        assert found['lbspeaker_api_requests_total{method="PUT"}'] == 0
        assert found['lbspeaker_api_errors_total{method="PATCH",reason="Conflict"}'] == 2
        assert found['lbspeaker_changes_total{kind="Service"}'] == 9
        assert found["lbspeaker_configuration_loaded"] == 1
        assert found["lbspeaker_configuration_timestamp_seconds"] == 1_767_323_000
        assert found['lbspeaker_configuration_objects{verdict="accepted"}'] == 1
        assert found['lbspeaker_configuration_objects{verdict="refused"}'] == 1


def test_the_controller_that_acts() -> None:
    found = samples(controller(MEASURES, ACTING))
    assert found["lbspeaker_leader"] == 1
    assert found['lbspeaker_services{state="allocated"}'] == 7
    assert found['lbspeaker_services{state="pending"}'] == 3
    assert found['lbspeaker_services_pending{reason="PoolExhausted"}'] == 2
    assert found['lbspeaker_services_lacking{reason="OutsidePool"}'] == 1
    assert found['lbspeaker_pool_used{family="4",pool="lan"}'] == 5
    assert found['lbspeaker_pool_size{family="6",pool="six"}'] == 1 << 62
    assert found['lbspeaker_pool_pending{pool="lan"}'] == 3
    assert 'lbspeaker_pool_size{family="6",pool="lan"}' not in found, "it has none"
    assert found["lbspeaker_writes_waiting"] == 4


def test_one_that_stands_by_does_not_say_what_it_does_not_know() -> None:
    standing_by = replace(MEASURES, configured=None, follows=False)
    found = samples(controller(standing_by, OfController()))
    assert found["lbspeaker_leader"] == 0
    unknown = ("lbspeaker_services", "lbspeaker_pool", "lbspeaker_configuration_loaded")
    assert not [name for name in found if name.startswith(unknown)]
    old = samples(metrics_metallb.controller(standing_by, OfController()))
    assert not [name for name in old if name.endswith("_bool")], "or MetalLBConfigNotLoaded would fire"


def test_a_vendor_with_quotes_stays_one_label() -> None:
    (conflict,) = [key for key in samples(speaker()) if key.startswith("lbspeaker_address_conflict{")]
    assert conflict.endswith('mac="02:00:00:00:00:01",vendor="Say "Hi" \\ Co\n"}')


def test_however_much_is_wrong_labels_are_few() -> None:
    conflicts = tuple(IP(f"192.0.2.{n}", ("a/b",), "held-back", conflict=f"02::{n}") for n in range(200))
    found = samples(speaker(structs.replace(FULL, ips=conflicts)))
    rows = [key for key in found if key.startswith("lbspeaker_address_conflict{")]
    assert len(rows) == metrics.MOST
    assert found["lbspeaker_address_conflicts"] == 200


def test_a_thousand_ips_make_no_more_samples_than_one() -> None:
    ips = tuple(IP(f"10.0.{n // 256}.{n % 256}", (f"a/{n}",), "owner", ("eth0",)) for n in range(1000))
    few, many = samples(speaker()), samples(speaker(structs.replace(FULL, ips=ips)))
    assert many.keys() <= few.keys()


def test_the_hash_is_of_what_documents_say() -> None:
    one, two = {"kind": "A", "spec": {"x": 1, "y": [1, 2]}}, {"kind": "B", 3: {True: None}}
    assert hash_of([one, two]) == hash_of([two, {"spec": {"y": [1, 2], "x": 1}, "kind": "A"}])
    assert hash_of([one]) != hash_of([{"kind": "A", "spec": {"x": 1, "y": [2, 1]}}])
    assert 0 <= hash_of([]) < 1 << 48


# --- MetalLB's names ------------------------------------------------------------------------------------


def test_metallbs_names_say_the_same() -> None:
    found = samples(metrics_metallb.speaker(FULL, MEASURES, MORE))
    announced = 'ip="192.0.2.10",node="node-a",protocol="layer2",service="default/web"'
    assert found == {
        "metallb_k8s_client_updates_total": 9,
        "metallb_k8s_client_config_loaded_bool": 1,
        "metallb_k8s_client_config_stale_bool": 1,
        f"metallb_speaker_announced{{{announced}}}": 1,
        'metallb_layer2_responses_sent{link="eth0",type="arp"}': 7,
        'metallb_layer2_gratuitous_sent{link="eth0",type="arp"}': 3,
        'metallb_bgp_session_up{peer="192.0.2.1:179"}': 1,
        'metallb_bgp_session_up{peer="[2001:db8::1]:1179"}': 0,
        'metallb_bgp_announced_prefixes_total{peer="192.0.2.1:179"}': 3,
        'metallb_bgp_announced_prefixes_total{peer="[2001:db8::1]:1179"}': 0,
        'metallb_bgp_pending_prefixes_total{peer="192.0.2.1:179"}': 0,
        'metallb_bgp_pending_prefixes_total{peer="[2001:db8::1]:1179"}': 3,
        'metallb_bfd_session_up{peer="192.0.2.1",vrf="default"}': 1,
        'metallb_bfd_session_up{peer="192.0.2.9",vrf="default"}': 0,
        'metallb_bfd_control_packet_input{peer="192.0.2.1",vrf="default"}': 49,
        'metallb_bfd_control_packet_input{peer="192.0.2.9",vrf="default"}': 3,
        'metallb_bfd_control_packet_output{peer="192.0.2.1",vrf="default"}': 50,
        'metallb_bfd_control_packet_output{peer="192.0.2.9",vrf="default"}': 7,
    }


@pytest.mark.parametrize(
    ("name", "lan"),
    [
        ("addresses_total", 10),
        ("ipv4_addresses_total", 10),
        ("ipv6_addresses_total", 0),
        ("addresses_in_use_total", 5),
        ("ipv4_addresses_in_use_total", 5),
        ("ipv6_addresses_in_use_total", 0),
    ],
)
def test_metallbs_names_of_the_allocator(name: str, lan: int) -> None:
    found = samples(metrics_metallb.controller(MEASURES, ACTING))
    assert found[f'metallb_allocator_{name}{{pool="lan"}}'] == lan


def test_both_sorts_of_names_go_together() -> None:
    samples([*speaker(), *metrics_metallb.speaker(FULL, MEASURES, MORE)])
    samples([*controller(MEASURES, ACTING), *metrics_metallb.controller(MEASURES, ACTING)])


def test_what_has_no_rows_is_described_all_the_same() -> None:
    """Rules may name it: then it must not look like a mistake."""
    bare = structs.replace(STATUS, bfd=(), peers=(), guards=(), ips=(), members=())
    described = {family.name for family in speaker(bare, OfSpeaker())}
    assert described == {family.name for family in speaker()}
