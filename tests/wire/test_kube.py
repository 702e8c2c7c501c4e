"""The API's JSON, read and written: what the server sends, what people write, and what we ask for."""

import base64
import json
from collections.abc import Callable
from ipaddress import ip_address, ip_network
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lbspeaker import model
from lbspeaker.errors import Malformed
from lbspeaker.model import Allocation, Change, Kind, Page, Reason, Step, WatchError
from lbspeaker.wire import kube


def listed(kind: Kind, *items: dict[str, Any], **metadata: str) -> Page:
    body = {
        "kind": "XList",
        "apiVersion": "v1",
        "metadata": {"resourceVersion": "9", **metadata},
        "items": items,
    }
    return kube.codec(kind).page(json.dumps(body).encode())


def the(kind: Kind, item: dict[str, Any]) -> Any:
    """What the one `item` of a list becomes."""
    (change,) = listed(kind, item).changes
    return change.value


def manifest(annotations: dict[str, str] | None = None, /, **spec: Any) -> dict[str, Any]:
    metadata = {"name": "web", "namespace": "shop", "resourceVersion": "7", "annotations": annotations or {}}
    return {"metadata": metadata, "spec": {"type": "LoadBalancer", "clusterIPs": ["10.96.0.5"], **spec}}


def service(annotations: dict[str, str] | None = None, /, **spec: Any) -> model.Service:
    found = the(Kind.SERVICE, manifest(annotations, **spec))
    assert isinstance(found, model.Service)
    return found


# --- Services -------------------------------------------------------------------------------------------


def test_a_whole_service_as_the_server_sends_it() -> None:
    found = the(
        Kind.SERVICE,
        {
            "metadata": {
                "name": "web",
                "namespace": "shop",
                "uid": "u1",
                "resourceVersion": "42",
                "creationTimestamp": "2026-01-02T03:04:05Z",
                "labels": {"app": "web"},
                "annotations": {
                    "metallb.io/address-pool": "lan",
                    "metallb.io/allow-shared-ip": "front",
                    "lbspeaker.io/ip-allocated-from-pool": "lan",
                    "kubectl.kubernetes.io/last-applied-configuration": "{}",
                },
                "managedFields": [{"manager": "kubectl"}],
            },
            "spec": {
                "type": "LoadBalancer",
                "clusterIP": "10.96.0.5",
                "clusterIPs": ["10.96.0.5", "fd00::5"],
                "ipFamilies": ["IPv4", "IPv6"],
                "ipFamilyPolicy": "PreferDualStack",
                "externalTrafficPolicy": "Local",
                "loadBalancerClass": "lbspeaker.io/lb",
                "selector": {"tier": "front", "app": "web"},
                "ports": [
                    {"name": "http", "port": 80, "protocol": "TCP", "targetPort": "http", "nodePort": 3}
                ],
            },
            "status": {
                "loadBalancer": {"ingress": [{"ip": "192.0.2.10", "ipMode": "VIP"}, {"ip": "2001:db8::a"}]}
            },
        },
    )
    assert found == model.Service(
        key="shop/web",
        uid="u1",
        resource_version="42",
        created="2026-01-02T03:04:05Z",
        labels={"app": "web"},
        load_balancer=True,
        load_balancer_class="lbspeaker.io/lb",
        families=(4, 6),
        ip_family_policy="PreferDualStack",
        local=True,
        ports=(model.Port("TCP", 80),),
        selector=(("app", "web"), ("tier", "front")),
        requested_pool="lan",
        sharing_key="front",
        held=(ip_address("192.0.2.10"), ip_address("2001:db8::a")),
        held_pool="lan",
        cluster_ips=("10.96.0.5", "fd00::5"),
    )


def test_the_pool_that_metallb_gave_an_ip_from_is_none_of_ours() -> None:
    assert service({"metallb.io/ip-allocated-from-pool": "lan"}).held_pool is None


def test_the_condition_of_a_service_is_ours_and_others_are_kept_as_they_are() -> None:
    ours = {
        "type": "lbspeaker.io/Allocated",
        "status": "False",
        "reason": "NoPool",
        "message": "there is none",
        "lastTransitionTime": "2026-01-02T03:04:05Z",
    }
    other = {"type": "example.com/Ready", "status": "True", "reason": "Good", "message": ""}
    found = the(Kind.SERVICE, {**manifest({}), "status": {"conditions": [other, ours]}})
    assert isinstance(found, model.Service)
    assert found.condition == model.Condition("lbspeaker.io/Allocated", "False", "NoPool", "there is none")
    assert found.conditions == (other,)
    patch = json.loads(kube.condition_patch(found, None, 1.0))
    assert patch["status"] == {"conditions": [other]}
    allocation = model.Allocation((ip_address("192.0.2.10"),), ("lan",))
    patch = json.loads(kube.allocation_patch(found, allocation, found.condition, 1.0))
    assert "conditions" not in patch["status"], "what stays is not written"
    patch = json.loads(kube.tidy_patch(found))
    assert patch["status"] == {"conditions": [other]}
    assert patch["metadata"]["annotations"]["lbspeaker.io/ip-allocated-from-pool"] is None


def test_a_service_of_another_type_is_no_load_balancer() -> None:
    assert not service(type="ClusterIP").load_balancer


@pytest.mark.parametrize(
    ("story", "spec", "families"),
    [
        ("one family", {"clusterIPs": ["10.96.0.5"]}, (4,)),
        ("both, IPv6 first", {"clusterIPs": ["fd00::5", "10.96.0.5"]}, (6, 4)),
        ("an old server says only clusterIP", {"clusterIPs": None, "clusterIP": "fd00::5"}, (6,)),
        ("headless", {"clusterIPs": ["None"], "clusterIP": "None"}, ()),
        ("a manifest says nothing", {"clusterIPs": None}, (4,)),
        ("a manifest names its family", {"clusterIPs": None, "ipFamilies": ["IPv6"]}, (6,)),
        ("a manifest names both", {"clusterIPs": None, "ipFamilies": ["IPv6", "IPv4"]}, (6, 4)),
        ("a manifest prefers both", {"clusterIPs": None, "ipFamilyPolicy": "PreferDualStack"}, (4, 6)),
        ("a manifest requires both", {"clusterIPs": None, "ipFamilyPolicy": "RequireDualStack"}, (4, 6)),
        (
            "a manifest requires both, IPv6 first",
            {"clusterIPs": None, "ipFamilyPolicy": "RequireDualStack", "ipFamilies": ["IPv6"]},
            (6, 4),
        ),
    ],
)
def test_families_follow_the_cluster_ips(story: str, spec: dict[str, Any], families: tuple[int, ...]) -> None:
    assert service(**spec).families == families


@pytest.mark.parametrize(
    ("story", "annotations", "pool"),
    [
        ("nothing asked", {}, None),
        ("ours", {"lbspeaker.io/address-pool": "a"}, "a"),
        ("one that paints", {"lbspeaker.io/address-pool": "a\n\x1b[2J"}, "a��[2J"),
        ("MetalLB's", {"metallb.io/address-pool": "b"}, "b"),
        ("MetalLB's old one", {"metallb.universe.tf/address-pool": "c"}, "c"),
        (
            "MetalLB's new one wins over its old",
            {"metallb.universe.tf/address-pool": "c", "metallb.io/address-pool": "b"},
            "b",
        ),
        ("ours wins over all", {"metallb.io/address-pool": "b", "lbspeaker.io/address-pool": "a"}, "a"),
        (
            "ours, emptied, takes the request back",
            {"metallb.io/address-pool": "b", "lbspeaker.io/address-pool": ""},
            None,
        ),
        ("another's annotation", {"example.com/address-pool": "z"}, None),
    ],
)
def test_annotations_count_by_prefix(story: str, annotations: dict[str, str], pool: str | None) -> None:
    assert service(annotations).requested_pool == pool


@pytest.mark.parametrize(
    ("annotation", "spec_ip", "ips"),
    [
        ("192.0.2.10", None, ["192.0.2.10"]),
        (" 192.0.2.10 , 2001:DB8::A ", None, ["192.0.2.10", "2001:db8::a"]),
        (None, "192.0.2.10", ["192.0.2.10"]),
        ("192.0.2.10", "192.0.2.10", ["192.0.2.10"]),
        ("2001:db8::a,192.0.2.10", "192.0.2.10", ["2001:db8::a", "192.0.2.10"]),
        ("", "", []),
    ],
)
def test_requested_ips(annotation: str | None, spec_ip: str | None, ips: list[str]) -> None:
    annotations = {} if annotation is None else {"metallb.io/loadBalancerIPs": annotation}
    found = service(annotations, loadBalancerIP=spec_ip)
    assert [str(ip) for ip in found.requested_ips] == ips
    assert found.invalid is None


@pytest.mark.parametrize(
    ("annotations", "spec_ip", "message"),
    [
        (
            {"lbspeaker.io/loadBalancerIPs": "192.0.2.300"},
            None,
            "annotation lbspeaker.io/loadBalancerIPs: '192.0.2.300' is not an IP address",
        ),
        (
            {"metallb.universe.tf/loadBalancerIPs": "192.0.2.1,"},
            None,
            "annotation metallb.universe.tf/loadBalancerIPs: '' is not an IP address",
        ),
        (
            {"metallb.io/loadBalancerIPs": "fe80::1%eth0"},
            None,
            "annotation metallb.io/loadBalancerIPs: 'fe80::1%eth0' is not an IP address",
        ),
        (
            {"metallb.io/loadBalancerIPs": "192.0.2.1,192.0.2.2"},
            None,
            "annotation metallb.io/loadBalancerIPs: '192.0.2.1,192.0.2.2' has more than one IPv4 address; "
            "one per family is possible",
        ),
        (
            {"metallb.io/loadBalancerIPs": "192.0.2.1,2001:db8::1,2001:db8::2"},
            None,
            "annotation metallb.io/loadBalancerIPs: '192.0.2.1,2001:db8::1,2001:db8::2' has more than one "
            "IPv6 address; one per family is possible",
        ),
        ({}, "lan-1", "spec.loadBalancerIP: 'lan-1' is not an IP address"),
        (
            {"metallb.io/loadBalancerIPs": "192.0.2.1"},
            "192.0.2.2",
            "annotation metallb.io/loadBalancerIPs asks for 192.0.2.1, spec.loadBalancerIP for 192.0.2.2: "
            "remove one of them",
        ),
    ],
)
def test_a_request_that_makes_no_sense_is_refused_by_name(
    annotations: dict[str, str], spec_ip: str | None, message: str
) -> None:
    found = service(annotations, loadBalancerIP=spec_ip)
    assert found.requested_ips == ()
    assert found.invalid == model.Refusal(Reason.INVALID_REQUEST, message)


def test_names_in_the_status_are_another_load_balancers() -> None:
    item = manifest()
    item["status"] = {"loadBalancer": {"ingress": [{"hostname": "lb.example.com"}, {"ip": "192.0.2.7"}]}}
    assert the(Kind.SERVICE, item).held == (ip_address("192.0.2.7"),)


# --- the other kinds ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("story", "conditions", "serving", "ready"),
    [
        ("nobody knows", None, True, True),
        ("no word about ready", {}, True, True),
        ("no word about ready, and none of serving", {"ready": None, "serving": False}, True, True),
        ("ready", {"ready": True, "serving": True}, True, True),
        ("not ready", {"ready": False, "serving": False}, False, False),
        ("not ready, from before there was serving", {"ready": False}, False, False),
        (
            "on its way out, and still serving",
            {"ready": False, "serving": True, "terminating": True},
            True,
            False,
        ),
    ],
)
def test_which_endpoints_serve_and_are_ready(
    story: str, conditions: dict[str, bool | None] | None, serving: bool, ready: bool
) -> None:
    found = the(
        Kind.ENDPOINT_SLICE,
        {
            "metadata": {
                "name": "web-abc",
                "namespace": "shop",
                "labels": {"kubernetes.io/service-name": "web"},
            },
            "addressType": "IPv4",
            "endpoints": [{"addresses": ["10.1.0.4"], "nodeName": "node-a", "conditions": conditions}],
        },
    )
    endpoints = (model.Endpoint("node-a", serving, ready),)
    assert found == model.EndpointSlice("shop/web-abc", "shop/web", endpoints)


def test_a_slice_that_belongs_to_no_service_and_has_no_endpoints() -> None:
    found = the(Kind.ENDPOINT_SLICE, {"metadata": {"name": "x", "namespace": "shop"}, "endpoints": None})
    assert found == model.EndpointSlice("shop/x", "")


def test_nodes_know_whether_their_network_is_there() -> None:
    item: dict[str, Any] = {"metadata": {"name": "node-a", "labels": {"zone": "1"}}}
    assert the(Kind.NODE, item) == model.Node("node-a", {"zone": "1"})
    ready = {"type": "Ready", "status": "True"}
    item["status"] = {"conditions": [ready, {"type": "NetworkUnavailable", "status": "True"}]}
    assert the(Kind.NODE, item) == model.Node("node-a", {"zone": "1"}, network_unavailable=True)


@pytest.mark.parametrize(
    ("status", "ready"), [(None, True), ("True", True), ("False", False), ("Unknown", False)]
)
def test_a_node_is_ready_unless_it_is_said_not_to_be(status: str | None, ready: bool) -> None:
    pressure = {"type": "DiskPressure", "status": "False"}
    conditions = [pressure, *([{"type": "Ready", "status": status}] if status else [])]
    item = {"metadata": {"name": "node-a", "uid": "6f1c"}, "status": {"conditions": conditions}}
    assert the(Kind.NODE, item) == model.Node("node-a", ready=ready, uid="6f1c")


@pytest.mark.parametrize(("spec", "cordoned"), [({}, False), ({"unschedulable": True}, True)])
def test_a_node_that_takes_no_pods_is_cordoned(spec: dict[str, bool], cordoned: bool) -> None:
    assert the(Kind.NODE, {"metadata": {"name": "node-a"}, "spec": spec}) == model.Node(
        "node-a", cordoned=cordoned
    )


def test_a_speakers_lease_names_its_node_and_another_lease_is_nothing() -> None:
    spec = {"renewTime": "2026-01-02T03:04:05.000006Z", "leaseDurationSeconds": 4, "holderIdentity": "x"}
    mine = {
        "metadata": {"name": "lbspeaker-node-a", "annotations": {"lbspeaker.io/draining": "true"}},
        "spec": spec,
    }
    other = {"metadata": {"name": "kube-controller-manager"}, "spec": spec}
    value = model.Lease("node-a", "2026-01-02T03:04:05.000006Z", draining=True, duration_s=4.0)
    assert listed(Kind.LEASE, mine, other).changes == (Change(Kind.LEASE, "node-a", value),)


LINK: dict[str, Any] = {
    "name": "eth0",
    "mac": "02:00:00:00:00:0a",
    "networks": ["192.0.2.0/24", "2001:db8::/64"],
}
NETWORKS = (ip_network("192.0.2.0/24"), ip_network("2001:db8::/64"))
ETH0 = model.MemberLink("eth0", bytes.fromhex("02000000000a"), NETWORKS)


def annotated(name: str, **annotations: str) -> dict[str, Any]:
    """A Lease with these of our annotations."""
    return {
        "metadata": {"name": name, "annotations": {f"lbspeaker.io/{k}": v for k, v in annotations.items()}}
    }


def told_links(text: str) -> tuple[model.MemberLink, ...] | None:
    found: model.Lease = the(Kind.LEASE, annotated("lbspeaker-node-a", links=text))
    return found.links


@pytest.mark.parametrize(
    ("story", "links"),
    [
        ("none", ()),
        ("one", (ETH0,)),
        ("one without an address", (model.MemberLink("eth1", b"\x02\xff\0\0\0\1"), ETH0)),
    ],
)
def test_links_come_back_as_they_went(story: str, links: tuple[model.MemberLink, ...]) -> None:
    body = json.loads(kube.lease("node-a", "lb", NOW, links=links))
    assert the(Kind.LEASE, body).links == links
    assert " " not in body["metadata"]["annotations"]["lbspeaker.io/links"]


def test_a_lease_that_is_renewed_without_a_word_of_links_leaves_what_it_said() -> None:
    body = json.loads(kube.lease("node-a", "lb", NOW))
    assert list(body["metadata"]["annotations"]) == ["lbspeaker.io/draining"]
    assert the(Kind.LEASE, body).links is None


def test_what_is_written_of_links_is_never_more_than_is_read() -> None:
    networks = tuple(ip_network(f"10.0.{n}.0/24") for n in range(99))
    links = tuple(model.MemberLink(f"eth{n}", ETH0.mac, networks) for n in range(99))
    found = the(Kind.LEASE, json.loads(kube.lease("node-a", "lb", NOW, links=links))).links
    assert [link.name for link in found] == [f"eth{n}" for n in range(64)]
    assert {link.networks for link in found} == {networks[:32]}


UNREADABLE_LINKS: dict[str, Any] = {
    "no list": {"eth0": LINK},
    "one link too many": [LINK] * 65,
    "one network too many": [{**LINK, "networks": ["192.0.2.0/24"] * 33}],
    "no network": [{**LINK, "networks": ["lan"]}],
    "an address, where a network should be": [{**LINK, "networks": ["192.0.2.1/24"]}],
    "a network of a zone": [{**LINK, "networks": ["fe80::%eth0/64"]}],
    "networks that are no text": [{**LINK, "networks": [7]}],
    "a MAC that is too short": [{**LINK, "mac": "02:00:00:00:0a"}],
    "a MAC with more behind it": [{**LINK, "mac": LINK["mac"] + "\n"}],
    "no name": [{"mac": LINK["mac"], "networks": []}],
    "a name that no link can have": [{**LINK, "name": "x" * 16}],
    "one of two that is wrong": [LINK, {}],
}


@pytest.mark.parametrize("links", UNREADABLE_LINKS.values(), ids=UNREADABLE_LINKS)
def test_links_that_cannot_be_read_are_not_told(links: Any) -> None:
    assert told_links(json.dumps([LINK])) == (ETH0,)
    assert told_links(json.dumps(links)) is None


PINNED = {
    ip_address("192.0.2.10"): model.Pin("node-b", 7),
    ip_address("192.0.2.9"): model.Pin("node-a", 1),
    ip_address("2001:db8::a"): model.Pin("node-b", 2**63 - 1),
}


@pytest.mark.parametrize("pins", [{}, PINNED])
def test_pins_come_back_as_they_went(pins: dict[model.Address, model.Pin]) -> None:
    body = kube.pins_lease("node-a", "lb", pins)
    assert listed(Kind.LEASE, json.loads(body)).changes == (
        Change(Kind.PINS, "node-a", model.Pins("node-a", pins)),
    )


def test_the_body_of_pins() -> None:
    body = json.loads(kube.pins_lease("node-a", "lb", PINNED))
    assert (body["kind"], body["metadata"]["name"]) == ("Lease", "lbspeaker.pins.node-a")
    assert body["metadata"]["namespace"] == "lb"
    assert body["metadata"]["annotations"] == {
        "lbspeaker.io/pins": '{"192.0.2.9":["node-a",1],"192.0.2.10":["node-b",7],'
        '"2001:db8::a":["node-b",9223372036854775807]}'
    }


@pytest.mark.parametrize(
    "entry",
    [
        {"lan": ["node-c", 1]},
        {"fe80::1%eth0": ["node-c", 1]},
        {"192.0.2.11": ["node-c"]},
        {"192.0.2.11": ["node-c", 1, 2]},
        {"192.0.2.11": ["", 1]},
        {"192.0.2.11": ["node-c", -1]},
        {"192.0.2.11": ["node-c", 2**63]},
        {"192.0.2.11": ["node-c", True]},
        {"192.0.2.11": {"node": "node-c", "term": 1}},
        {"192.0.2.11": None},
    ],
)
def test_a_pin_that_cannot_be_read_is_left_out_and_the_others_are_not(entry: dict[str, Any]) -> None:
    text = json.dumps({**entry, "192.0.2.10": ["node-b", 7]})
    found = the(Kind.LEASE, annotated("lbspeaker.pins.node-a", pins=text))
    assert found == model.Pins("node-a", {ip_address("192.0.2.10"): model.Pin("node-b", 7)})


@pytest.mark.parametrize("annotations", [{}, {"pins": "[]"}, {"pins": "{"}])
def test_without_readable_pins_there_are_none(annotations: dict[str, str]) -> None:
    assert the(Kind.LEASE, annotated("lbspeaker.pins.node-a", **annotations)) == model.Pins("node-a")


def test_pins_that_are_deleted_are_gone_and_a_member_of_the_same_name_is_not() -> None:
    def deleted(name: str) -> Step | WatchError:
        line = json.dumps({"type": "DELETED", "object": annotated(name, pins="{}")})
        return kube.codec(Kind.LEASE).event(line.encode())

    assert deleted("lbspeaker.pins.node-a") == Step("", Change(Kind.PINS, "node-a", None))
    assert deleted("lbspeaker-node-a") == Step("", Change(Kind.LEASE, "node-a", None))
    assert deleted(kube.LEADER) == Step("", None)
    assert deleted("lbspeaker-pins.node-a") == Step("", Change(Kind.LEASE, "pins.node-a", None))


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda some: st.lists(some) | st.dictionaries(st.text() | st.just("192.0.2.1"), some),
    max_leaves=8,
)


@given(st.text() | JSON.map(json.dumps) | st.integers(1, 5000).map(lambda n: "[" * n + '{"a":' * n))
def test_annotations_from_a_stranger_harm_nobody(text: str) -> None:
    told_links(text)
    the(Kind.LEASE, annotated("lbspeaker.pins.node-a", pins=text))


def test_a_nest_from_a_stranger_harms_nobody() -> None:
    nest = "[" * 100_000 + "]" * 100_000
    assert told_links(f'[{{"name":"eth0","more":{nest}}}]') is None
    text = f'{{"192.0.2.1":{nest}}}'
    assert the(Kind.LEASE, annotated("lbspeaker.pins.node-a", pins=text)) == model.Pins("node-a")


@pytest.mark.parametrize(
    ("data", "password"),
    [
        ({"data": {"password": base64.b64encode(b"s3cret").decode()}}, "s3cret"),
        ({"stringData": {"password": "s3cret"}}, "s3cret"),
        ({"data": {"token": "eA=="}}, None),
        ({"data": {"password": "not base64!"}}, None),
        ({}, None),
    ],
)
def test_secrets(data: dict[str, Any], password: str | None) -> None:
    found = the(Kind.SECRET, {"metadata": {"name": "bgp", "namespace": "lb"}, **data})
    assert found == model.Secret("lb/bgp", password)
    assert "s3cret" not in repr(found)


def test_a_configuration_object_is_what_its_author_wrote() -> None:
    item = {
        "metadata": {
            "name": "lan",
            "namespace": "lb",
            "resourceVersion": "8",
            "managedFields": [],
            "uid": "u",
        },
        "spec": {"addresses": ["192.0.2.0/28"]},
        "status": {"used": 3},
    }
    body = {
        "kind": "IPAddressPoolList",
        "apiVersion": "lbspeaker.io/v1beta1",
        "items": [item],
        "metadata": {"resourceVersion": "9"},
    }
    (change,) = kube.codec(Kind.CONFIG).page(json.dumps(body).encode()).changes
    assert change.key == "IPAddressPool/lan"
    assert isinstance(change.value, model.Written)
    assert change.value.version == "8"
    assert change.value.document == {
        "apiVersion": "lbspeaker.io/v1beta1",
        "kind": "IPAddressPool",
        "metadata": {"name": "lan", "namespace": "lb"},
        "spec": {"addresses": ["192.0.2.0/28"]},
    }


# --- lists and watches ----------------------------------------------------------------------------------


def test_a_page_knows_its_version_and_where_the_next_begins() -> None:
    page = listed(Kind.NODE, {"metadata": {"name": "a"}}, **{"continue": "token"})
    assert (page.version, page.next, [change.key for change in page.changes]) == ("9", "token", ["a"])
    assert kube.codec(Kind.NODE).page(b'{"metadata":{},"items":null}') == Page("", "", ())


def event(kind: str, obj: dict[str, Any]) -> Step | WatchError:
    return kube.codec(Kind.NODE).event(json.dumps({"type": kind, "object": obj}).encode())


@pytest.mark.parametrize(
    ("kind", "value"),
    [("ADDED", model.Node("a")), ("MODIFIED", model.Node("a")), ("DELETED", None)],
)
def test_an_event_is_a_change_at_a_version(kind: str, value: model.Node | None) -> None:
    found = event(kind, {"metadata": {"name": "a", "resourceVersion": "12"}})
    assert found == Step("12", Change(Kind.NODE, "a", value))


def test_a_bookmark_is_a_version_alone() -> None:
    assert event("BOOKMARK", {"kind": "Node", "metadata": {"resourceVersion": "99"}}) == Step("99", None)


def test_an_error_ends_the_watch() -> None:
    status = {
        "kind": "Status",
        "code": 410,
        "reason": "Expired",
        "message": "too old resource version: 1 (5)",
    }
    assert event("ERROR", status) == WatchError(410, "too old resource version: 1 (5)")


@pytest.mark.parametrize(
    "line",
    [
        b"",
        b"null",
        b"[]",
        b'{"type":"ADDED"}',
        b'{"type":"ADDED","object":{"metadata":{"name":5}}}',
        b'{"ty',
        b"\xff",
    ],
)
def test_what_is_no_event_is_malformed(line: bytes) -> None:
    with pytest.raises(Malformed, match="the API server sent"):
        kube.codec(Kind.NODE).event(line)


@given(st.binary(max_size=200))
def test_bytes_from_a_stranger_are_decoded_or_malformed(data: bytes) -> None:
    for kind in set(Kind) - {Kind.POD, Kind.OBJECT, Kind.PINS}:  # these have no list of their own
        for decode in (kube.codec(kind).page, kube.codec(kind).event):
            try:
                decode(data)
            except Malformed:
                continue


# --- documents on disk ----------------------------------------------------------------------------------


def test_a_document_is_read_like_an_object_of_the_server() -> None:
    document = {"apiVersion": "v1", "kind": "Service", **manifest()}
    assert kube.from_document(document) == Change(Kind.SERVICE, "shop/web", service())


def test_a_document_without_a_namespace_is_in_the_default_one() -> None:
    document = {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": "web"},
        "spec": {"type": "LoadBalancer"},
    }
    change = kube.from_document(document)
    assert change is not None
    assert change.key == "default/web"


def test_a_document_of_a_foreign_kind_is_none_of_our_business() -> None:
    assert kube.from_document({"apiVersion": "apps/v1", "kind": "Deployment", "spec": 5}) is None
    assert kube.from_document({}) is None


@pytest.mark.parametrize(
    ("document", "path", "what"),
    [
        (
            {"metadata": {"name": "x"}, "spec": {"ports": [{"port": "http"}]}},
            "spec.ports[0].port",
            "expected a whole number, found text",
        ),
        ({"metadata": {"name": "x"}, "spec": {"ports": [{}]}}, "spec.ports[0]", "missing: 'port'"),
        ({"metadata": {"name": "x"}, "spec": []}, "spec", "expected a mapping, found a list"),
        (
            {"metadata": {"name": "x"}, "spec": {"ipFamilies": ["ipv4"]}},
            "spec.ipFamilies[0]",
            "Invalid enum value 'ipv4'",
        ),
        (
            {"metadata": {"name": "x", "labels": {"a": 1}}},
            "metadata.labels[...]",
            "expected text, found a whole number",
        ),
        ({"metadata": {}}, "metadata.name", "a name is missing"),
        ({"spec": {}}, "", "missing: 'metadata'"),
    ],
)
def test_a_document_of_the_wrong_shape_says_where(document: dict[str, Any], path: str, what: str) -> None:
    with pytest.raises(kube.WrongDocument) as caught:
        kube.from_document({"apiVersion": "v1", "kind": "Service", **document})
    assert (caught.value.path, caught.value.what) == (path, what)


# --- request bodies -------------------------------------------------------------------------------------

HELD = model.Service(key="shop/web", uid="u1", resource_version="42")
NOW = 1_767_323_045.000_006  # 2026-01-02T03:04:05.000006Z


def test_an_allocation_is_one_patch_with_one_precondition() -> None:
    allocation = Allocation((ip_address("192.0.2.10"), ip_address("2001:db8::a")), ("lan", "lan"))
    assert json.loads(kube.allocation_patch(HELD, allocation)) == {
        "metadata": {
            "annotations": {
                "lbspeaker.io/ip-allocated-from-pool": "lan",
                "lbspeaker.io/allocated-ips": "192.0.2.10,2001:db8::a",
            },
            "resourceVersion": "42",
        },
        "status": {
            "loadBalancer": {
                "ingress": [
                    {"ip": "192.0.2.10", "ipMode": "VIP"},
                    {"ip": "2001:db8::a", "ipMode": "VIP"},
                ]
            }
        },
    }


def test_a_release_leaves_nothing_that_names_a_pool() -> None:
    assert json.loads(kube.allocation_patch(HELD, None)) == {
        "metadata": {
            "annotations": {
                "lbspeaker.io/allocated-ips": None,
                "lbspeaker.io/ip-allocated-from-pool": None,
                "metallb.io/ip-allocated-from-pool": None,
                "metallb.universe.tf/ip-allocated-from-pool": None,
            },
            "resourceVersion": "42",
        },
        "status": {"loadBalancer": {"ingress": None}},
    }


def test_an_event_is_about_the_service_and_has_a_name_of_its_own() -> None:
    def told(serial: int) -> Any:
        return json.loads(
            kube.event(
                HELD,
                "Warning",
                "PoolExhausted",
                "x" * 2000,
                component="lbspeaker-controller",
                instance="node-a",
                now=NOW,
                serial=serial,
            )
        )

    body = told(1)
    assert body["metadata"]["namespace"] == "shop"
    assert body["metadata"]["name"].startswith("web.")
    assert body["metadata"]["name"] != told(2)["metadata"]["name"]
    assert body["involvedObject"] == {
        "apiVersion": "v1",
        "kind": "Service",
        "namespace": "shop",
        "name": "web",
        "uid": "u1",
        "resourceVersion": "42",
    }
    assert (body["type"], body["reason"], len(body["message"])) == ("Warning", "PoolExhausted", 1024)
    assert body["reportingComponent"] == "lbspeaker-controller"
    assert body["lastTimestamp"] == "2026-01-02T03:04:05Z"


@pytest.mark.parametrize(
    ("now", "text"), [(NOW, "2026-01-02T03:04:05.000006Z"), (1_767_323_045.0, "2026-01-02T03:04:05.000000Z")]
)
def test_a_lease_has_exactly_six_digits_and_comes_back_as_it_went(now: float, text: str) -> None:
    body = kube.lease("node-a", "lb", now, duration_s=2.5, draining=True)
    assert json.loads(body)["spec"] == {
        "holderIdentity": "node-a",
        "leaseDurationSeconds": 3,
        "renewTime": text,
    }
    assert the(Kind.LEASE, json.loads(body)) == model.Lease("node-a", text, draining=True, duration_s=3.0)


@pytest.mark.parametrize(
    "build",
    [
        lambda uid: kube.lease("node-a", "lb", NOW, uid=uid),
        lambda uid: kube.pins_lease("node-a", "lb", PINNED, uid),
    ],
)
def test_a_lease_ends_with_its_node(build: Callable[[str], bytes]) -> None:
    owner = {"apiVersion": "v1", "kind": "Node", "name": "node-a", "uid": "6f1c"}
    assert json.loads(build("6f1c"))["metadata"]["ownerReferences"] == [owner]
    assert "ownerReferences" not in json.loads(build(""))["metadata"], "an owner without uid is refused"


def test_a_lease_that_drains_no_more_says_so() -> None:
    assert not the(Kind.LEASE, json.loads(kube.lease("node-a", "lb", NOW))).draining


def test_the_secret_of_hellos_is_read_as_it_was_made() -> None:
    body = json.loads(kube.hello_secret("lb", b"\0\xff" * 16))
    assert body["type"] == "kubernetes.io/basic-auth"
    assert body["stringData"]["username"] == "lbspeaker"
    text = base64.b64encode(b"\0\xff" * 16).decode()
    assert the(Kind.SECRET, body) == model.Secret("lb/lbspeaker-hello", text)


def test_the_effective_configuration() -> None:
    pool = {
        "apiVersion": "lbspeaker.io/v1beta1",
        "kind": "IPAddressPool",
        "metadata": {"name": "lan"},
        "spec": {},
    }
    assert json.loads(kube.effective_configuration((pool,))) == {
        "apiVersion": "lbspeaker.io/v1beta1",
        "kind": "EffectiveConfiguration",
        "metadata": {"name": "lbspeaker"},
        "spec": {"documents": [pool]},
    }
