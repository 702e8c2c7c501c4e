"""The contract of the kinds that a load balancer lives with: Services, slices, Leases, Events, its own.

Each test runs on the server in memory, and on a real kube-apiserver if there is one (see conftest.py).
"""

import time
from collections.abc import Iterator
from ipaddress import ip_address, ip_network
from typing import Any

import pytest

from tests.lab.apiserver_backends import CIDRS, MERGE_PATCH, STRATEGIC_PATCH, Client, Json

RANGES = [ip_network(cidr) for cidr in CIDRS.split(",")]


@pytest.fixture
def services(namespace: str) -> str:
    return f"/api/v1/namespaces/{namespace}/services"


def service(name: str, kind: str = "LoadBalancer", **spec: Any) -> Json:
    return {"metadata": {"name": name}, "spec": {"type": kind, "ports": [{"port": 80}], **spec}}


# --- services -------------------------------------------------------------------------------------------


def test_a_service_gets_its_defaults(api: Client, services: str) -> None:
    spec = api.good("POST", services, service("web"))["spec"]
    (port,) = spec.pop("ports")
    assert 30000 <= port.pop("nodePort") <= 32767
    assert port == {"protocol": "TCP", "port": 80, "targetPort": 80}
    assert [spec.pop("clusterIP")] == spec["clusterIPs"]
    assert ip_address(spec.pop("clusterIPs")[0]) in RANGES[0]
    assert spec == {
        "type": "LoadBalancer",
        "sessionAffinity": "None",
        "externalTrafficPolicy": "Cluster",
        "internalTrafficPolicy": "Cluster",
        "ipFamilies": ["IPv4"],
        "ipFamilyPolicy": "SingleStack",
        "allocateLoadBalancerNodePorts": True,
    }


@pytest.mark.parametrize(
    ("spec", "families", "policy"),
    [
        pytest.param({}, ["IPv4"], "SingleStack", id="one family, the cluster's first"),
        pytest.param({"ipFamilies": ["IPv6"]}, ["IPv6"], "SingleStack", id="the other family"),
        pytest.param({"ipFamilyPolicy": "PreferDualStack"}, ["IPv4", "IPv6"], "PreferDualStack", id="both"),
        pytest.param(
            {"ipFamilyPolicy": "RequireDualStack"}, ["IPv4", "IPv6"], "RequireDualStack", id="both, firmly"
        ),
        pytest.param(
            {"ipFamilyPolicy": "PreferDualStack", "ipFamilies": ["IPv6"]},
            ["IPv6", "IPv4"],
            "PreferDualStack",
            id="both, IPv6 first",
        ),
    ],
)
def test_cluster_ips_follow_the_families(
    api: Client, services: str, spec: Json, families: list[str], policy: str
) -> None:
    found = api.good("POST", services, service("web", **spec))["spec"]
    assert (found["ipFamilies"], found["ipFamilyPolicy"]) == (families, policy)
    assert [f"IPv{ip_address(ip).version}" for ip in found["clusterIPs"]] == families
    assert found["clusterIP"] == found["clusterIPs"][0]
    assert all(any(ip_address(ip) in cidr for cidr in RANGES) for ip in found["clusterIPs"])


def test_no_two_services_share_a_cluster_ip_or_node_port(api: Client, services: str) -> None:
    made = [api.good("POST", services, service(f"s{n}"))["spec"] for n in range(20)]
    assert len({spec["clusterIP"] for spec in made}) == 20
    assert len({spec["ports"][0]["nodePort"] for spec in made}) == 20


def test_a_cluster_ip_and_node_port_can_be_asked_for_once(api: Client, services: str) -> None:
    first = api.good("POST", services, service("a"))["spec"]
    taken = api.ask("POST", services, service("b", clusterIP=first["clusterIP"]))
    assert taken.status == 422
    assert "provided IP is already allocated" in taken.json["message"]
    port = {"ports": [{"port": 80, "nodePort": first["ports"][0]["nodePort"]}]}
    assert (
        "provided port is already allocated"
        in api.ask("POST", services, service("b", **port)).json["message"]
    )
    api.good("DELETE", f"{services}/a")
    again = api.good("POST", services, service("b", clusterIP=first["clusterIP"], **port))["spec"]
    assert again["clusterIP"] == first["clusterIP"]


def test_headless_services_have_no_cluster_ip(api: Client, services: str) -> None:
    with_selector = api.good(
        "POST", services, service("a", "ClusterIP", clusterIP="None", selector={"a": "b"})
    )
    assert with_selector["spec"]["clusterIPs"] == ["None"]
    assert with_selector["spec"]["ipFamilies"] == ["IPv4"]
    without = api.good("POST", services, service("b", "ClusterIP", clusterIP="None"))
    assert without["spec"]["ipFamilyPolicy"] == "RequireDualStack"


def test_node_ports_can_be_declined(api: Client, services: str) -> None:
    found = api.good("POST", services, service("a", allocateLoadBalancerNodePorts=False))
    assert "nodePort" not in found["spec"]["ports"][0]


def test_a_local_service_gets_a_health_check_port(api: Client, services: str) -> None:
    found = api.good("POST", services, service("a", externalTrafficPolicy="Local"))
    assert 30000 <= found["spec"]["healthCheckNodePort"] <= 32767


def test_a_service_that_is_no_load_balancer_any_more_loses_its_ingress(api: Client, services: str) -> None:
    api.good(
        "POST", services, service("a", externalTrafficPolicy="Local", loadBalancerClass="example.com/lb")
    )
    status = {"status": {"loadBalancer": {"ingress": [{"ip": "192.0.2.10"}]}}}
    api.good("PATCH", f"{services}/a/status", status, MERGE_PATCH)
    found = api.good("PATCH", f"{services}/a", {"spec": {"type": "ClusterIP"}}, MERGE_PATCH)
    assert found["status"] == {"loadBalancer": {}}
    gone = {
        "loadBalancerClass",
        "healthCheckNodePort",
        "externalTrafficPolicy",
        "allocateLoadBalancerNodePorts",
    }
    assert not gone & set(found["spec"])
    assert "nodePort" not in found["spec"]["ports"][0]


def test_a_second_family_can_be_added_and_removed(api: Client, services: str) -> None:
    first = api.good("POST", services, service("a", "ClusterIP"))["spec"]["clusterIPs"]
    both = api.good("PATCH", f"{services}/a", {"spec": {"ipFamilyPolicy": "PreferDualStack"}}, MERGE_PATCH)
    assert both["spec"]["clusterIPs"][:1] == first
    assert both["spec"]["ipFamilies"] == ["IPv4", "IPv6"]
    one = api.good("PATCH", f"{services}/a", {"spec": {"ipFamilyPolicy": "SingleStack"}}, MERGE_PATCH)
    assert one["spec"]["clusterIPs"] == first


def test_a_replaced_service_keeps_what_it_was_given(api: Client, services: str) -> None:
    before = api.good("POST", services, service("a"))["spec"]
    after = api.good("PUT", f"{services}/a", service("a"))["spec"]
    assert after == before


@pytest.mark.parametrize(
    ("spec", "field"),
    [
        pytest.param({"type": "Cloud"}, "spec.type", id="an unknown type"),
        pytest.param({"ports": []}, "spec.ports", id="no ports"),
        pytest.param({"ports": [{"port": 1}, {"port": 2}]}, "spec.ports[0].name", id="two ports need names"),
        pytest.param({"ports": [{"port": 0}]}, "spec.ports[0].port", id="port 0"),
        pytest.param({"ports": [{"port": 1, "protocol": "X"}]}, "spec.ports[0].protocol", id="a protocol"),
        pytest.param({"ports": [{"port": 1, "nodePort": 1}]}, "spec.ports[0].nodePort", id="a node port"),
        pytest.param({"externalTrafficPolicy": "X"}, "spec.externalTrafficPolicy", id="a policy"),
        pytest.param({"ipFamilyPolicy": "X"}, "spec.ipFamilyPolicy", id="a family policy"),
        pytest.param({"ipFamilies": ["IPv4", "IPv6"]}, "spec.ipFamilyPolicy", id="two families, one stack"),
        pytest.param({"clusterIP": "x"}, "spec.clusterIPs[0]", id="a cluster IP that is none"),
        pytest.param({"clusterIP": "192.0.2.1"}, "spec.clusterIPs", id="a cluster IP from elsewhere"),
        pytest.param({"loadBalancerClass": "!"}, "spec.loadBalancerClass", id="a class that is none"),
        pytest.param(
            {"type": "ClusterIP", "loadBalancerClass": "a/b"}, "spec.loadBalancerClass", id="a class"
        ),
        pytest.param({"type": "ExternalName"}, "spec.externalName", id="a name is missing"),
    ],
)
def test_services_that_are_refused(api: Client, services: str, spec: Json, field: str) -> None:
    body = service("a")
    body["spec"] |= spec
    answer = api.ask("POST", services, body)
    assert (answer.status, answer.json["reason"]) == (422, "Invalid")
    assert field in [cause["field"] for cause in answer.json["details"]["causes"]]


@pytest.mark.parametrize(
    ("patch", "field"),
    [
        ({"loadBalancerClass": "example.com/other"}, "spec.loadBalancerClass"),
        ({"loadBalancerClass": None}, "spec.loadBalancerClass"),
        ({"clusterIP": "10.96.255.9"}, "spec.clusterIPs[0]"),
    ],
)
def test_what_a_service_may_not_change(api: Client, services: str, patch: Json, field: str) -> None:
    api.good("POST", services, service("a", loadBalancerClass="example.com/lb"))
    answer = api.ask("PATCH", f"{services}/a", {"spec": patch}, MERGE_PATCH)
    assert (answer.status, answer.json["details"]["causes"][0]["field"]) == (422, field)


@pytest.mark.parametrize(
    ("kind", "point", "field"),
    [
        ("LoadBalancer", {"ip": "192.0.2"}, "status.loadBalancer.ingress[0].ip"),
        ("LoadBalancer", {"ip": "192.0.2.1", "ipMode": "X"}, "status.loadBalancer.ingress[0].ipMode"),
        ("LoadBalancer", {"hostname": "a.b", "ipMode": "VIP"}, "status.loadBalancer.ingress[0].ipMode"),
        ("ClusterIP", {"ip": "192.0.2.1"}, "status.loadBalancer.ingress"),
    ],
)
def test_an_ingress_that_is_refused(api: Client, services: str, kind: str, point: Json, field: str) -> None:
    api.good("POST", services, service("a", kind))
    body = {"status": {"loadBalancer": {"ingress": [point]}}}
    answer = api.ask("PATCH", f"{services}/a/status", body, MERGE_PATCH)
    assert (answer.status, answer.json["details"]["causes"][0]["field"]) == (422, field)


# --- slices, leases, events -----------------------------------------------------------------------------


def test_a_slice_counts_the_changes_of_its_endpoints(api: Client, namespace: str) -> None:
    path = f"/apis/discovery.k8s.io/v1/namespaces/{namespace}/endpointslices"
    body = {"metadata": {"name": "s"}, "addressType": "IPv4", "endpoints": [{"addresses": ["10.0.0.1"]}]}
    assert api.good("POST", path, body)["metadata"]["generation"] == 1
    for patch, expected in (
        ({"endpoints": [{"addresses": ["10.0.0.2"]}]}, 2),
        ({"metadata": {"labels": {"a": "b"}}}, 3),
        ({"metadata": {"annotations": {"a": "b"}}}, 3),
    ):
        assert api.good("PATCH", f"{path}/s", patch, MERGE_PATCH)["metadata"]["generation"] == expected


def test_an_empty_slice_says_null(api: Client, namespace: str) -> None:
    path = f"/apis/discovery.k8s.io/v1/namespaces/{namespace}/endpointslices"
    found = api.good("POST", path, {"metadata": {"name": "s"}, "addressType": "IPv4", "endpoints": []})
    assert found["endpoints"] is None
    assert found["ports"] is None


@pytest.fixture
def leases(namespace: str) -> str:
    return f"/apis/coordination.k8s.io/v1/namespaces/{namespace}/leases"


def test_a_lease_is_renewed_by_patch(api: Client, leases: str) -> None:
    spec: Json = {
        "holderIdentity": "n1",
        "leaseDurationSeconds": 3,
        "renewTime": "2026-01-01T00:00:00.000000Z",
    }
    made = api.good("POST", leases, {"metadata": {"name": "n1"}, "spec": spec})
    assert made["spec"] == spec
    assert "generation" not in made["metadata"]
    renewed = {"spec": {"renewTime": "2026-01-01T00:00:01.000000Z"}}
    found = api.good("PATCH", f"{leases}/n1", renewed, MERGE_PATCH)
    assert found["spec"] == spec | renewed["spec"]


@pytest.mark.parametrize(
    ("spec", "status"),
    [
        pytest.param({"renewTime": "2026-01-01T00:00:00Z"}, 400, id="no fraction of a second"),
        pytest.param({"renewTime": "2026-01-01T00:00:00.123456789Z"}, 400, id="nine digits"),
        pytest.param({"leaseDurationSeconds": 0}, 422, id="no duration"),
        pytest.param({"leaseTransitions": -1}, 422, id="fewer than no transitions"),
    ],
)
def test_leases_that_are_refused(api: Client, leases: str, spec: Json, status: int) -> None:
    assert api.ask("POST", leases, {"metadata": {"name": "l"}, "spec": spec}).status == status
    api.good("POST", leases, {"metadata": {"name": "l"}, "spec": {}})
    assert api.ask("PATCH", f"{leases}/l", {"spec": spec}, MERGE_PATCH).status == 422


def test_a_lease_is_replaced_only_with_its_version(api: Client, leases: str) -> None:
    made = api.good("POST", leases, {"metadata": {"name": "l"}, "spec": {}})
    answer = api.ask("PUT", f"{leases}/l", {"metadata": {"name": "l"}, "spec": {"holderIdentity": "n1"}})
    assert (answer.status, answer.json["details"]["causes"][0]["field"]) == (422, "metadata.resourceVersion")
    made["spec"]["holderIdentity"] = "n1"
    assert api.good("PUT", f"{leases}/l", made)["spec"] == {"holderIdentity": "n1"}


def event(namespace: str, **more: Any) -> Json:
    about = {"kind": "Service", "namespace": namespace, "name": "web"}
    return {
        "metadata": {"name": "web.1"},
        "eventTime": "2026-01-01T00:00:00.000000Z",
        "reportingController": "lbspeaker.io/controller",
        "reportingInstance": "c1",
        "action": "Allocate",
        "reason": "Allocated",
        "type": "Normal",
        "note": "192.0.2.10 from pool lan",
        "regarding": about,
        **more,
    }


def test_an_event_has_two_shapes_and_one_storage(api: Client, namespace: str) -> None:
    modern = f"/apis/events.k8s.io/v1/namespaces/{namespace}/events"
    core = f"/api/v1/namespaces/{namespace}/events"
    made = api.good("POST", modern, event(namespace))
    assert (made["apiVersion"], made["note"]) == ("events.k8s.io/v1", "192.0.2.10 from pool lan")
    found = api.good("GET", f"{core}/web.1")
    assert (found["apiVersion"], found["message"]) == ("v1", "192.0.2.10 from pool lan")
    assert found["involvedObject"] == made["regarding"]
    assert found["reportingComponent"] == "lbspeaker.io/controller"
    assert found["firstTimestamp"] is None
    series = {"series": {"count": 2, "lastObservedTime": "2026-01-01T00:00:05.000000Z"}}
    assert api.good("PATCH", f"{modern}/web.1", series, MERGE_PATCH)["series"] == series["series"]


@pytest.mark.parametrize(
    ("selector", "found"),
    [
        ("involvedObject.name=web,involvedObject.kind=Service", True),
        ("reason=Allocated", True),
        ("involvedObject.name=other", False),
        ("type=Warning", False),
    ],
)
def test_events_are_found_by_what_they_are_about(
    api: Client, namespace: str, selector: str, found: bool
) -> None:
    api.good("POST", f"/apis/events.k8s.io/v1/namespaces/{namespace}/events", event(namespace))
    items = api.good("GET", f"/api/v1/namespaces/{namespace}/events", fieldSelector=selector)["items"]
    assert len(items) == found


@pytest.mark.parametrize(
    "field", ["eventTime", "reportingController", "reportingInstance", "action", "reason"]
)
def test_events_that_are_refused(api: Client, namespace: str, field: str) -> None:
    body = event(namespace)
    del body[field]
    answer = api.ask("POST", f"/apis/events.k8s.io/v1/namespaces/{namespace}/events", body)
    assert answer.status == 422
    assert field in [cause["field"] for cause in answer.json["details"]["causes"]]


# --- custom resources -----------------------------------------------------------------------------------

SCHEMA: Json = {
    "type": "object",
    "properties": {
        "spec": {
            "type": "object",
            "required": ["addresses"],
            "properties": {
                "addresses": {
                    "type": "array",
                    "minItems": 1,
                    "maxItems": 3,
                    "items": {"type": "string", "pattern": "^[0-9a-f.:/-]+$", "maxLength": 40},
                },
                "autoAssign": {"type": "boolean", "default": True},
                "mode": {"type": "string", "enum": ["fast", "safe"]},
                "weight": {"type": "integer", "minimum": 1, "maximum": 100},
                "labels": {"type": "object", "additionalProperties": {"type": "string"}},
            },
        },
        "status": {
            "type": "object",
            "properties": {
                "conditions": {
                    "type": "array",
                    "items": {
                        "type": "object",
                        "properties": {k: {"type": "string"} for k in ("type", "status")},
                    },
                }
            },
        },
    },
}
COLUMNS = [
    {"name": "Auto", "type": "boolean", "jsonPath": ".spec.autoAssign"},
    {"name": "Addresses", "type": "string", "jsonPath": ".spec.addresses"},
    {"name": "Accepted", "type": "string", "jsonPath": '.status.conditions[?(@.type=="Accepted")].status'},
    {"name": "Age", "type": "date", "jsonPath": ".metadata.creationTimestamp"},
]


def definition(group: str) -> Json:
    schemas = {
        "v1beta1": SCHEMA,
        "v1alpha1": {"type": "object", "x-kubernetes-preserve-unknown-fields": True},
    }
    versions = [
        {
            "name": name,
            "served": True,
            "storage": name == "v1beta1",
            "schema": {"openAPIV3Schema": schema},
            "subresources": {"status": {}},
            "additionalPrinterColumns": COLUMNS,
        }
        for name, schema in schemas.items()
    ]
    names = {"plural": "pools", "kind": "Pool", "shortNames": ["pl"]}
    spec = {"group": group, "scope": "Namespaced", "names": names, "versions": versions}
    kind = {"apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition"}
    return kind | {"metadata": {"name": f"pools.{group}"}, "spec": spec}


CRDS = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions"


@pytest.fixture(scope="module")
def group(api: Client) -> Iterator[str]:
    """The group of a CRD that is served."""
    name = f"{api.namespace()}.example.com"
    api.good("POST", CRDS, definition(name))
    give_up = time.monotonic() + 10
    while api.ask("GET", f"/apis/{name}/v1beta1/pools").status != 200:
        assert time.monotonic() < give_up, "the custom resource is not served"
        time.sleep(0.1)
    yield name
    api.good("DELETE", f"{CRDS}/pools.{name}")


@pytest.fixture
def pools(group: str, namespace: str) -> str:
    return f"/apis/{group}/v1beta1/namespaces/{namespace}/pools"


def pool(path: str, name: str = "lan", **spec: Any) -> Json:
    kind = {"apiVersion": "/".join(path.split("/")[2:4]), "kind": "Pool"}
    return kind | {"metadata": {"name": name}, "spec": {"addresses": ["192.0.2.0/24"], **spec}}


def test_a_definition_is_established(api: Client, group: str) -> None:
    found = api.good("GET", f"{CRDS}/pools.{group}")
    conditions = {c["type"]: c["status"] for c in found["status"]["conditions"]}
    assert conditions == {"NamesAccepted": "True", "Established": "True"}
    assert found["status"]["storedVersions"] == ["v1beta1"]
    assert found["spec"]["names"]["listKind"] == "PoolList"


def test_a_definition_that_changes_stays_established(api: Client, group: str) -> None:
    before = api.good("GET", f"{CRDS}/pools.{group}")["status"]["conditions"]
    patch = {"metadata": {"labels": {"a": "b"}}, "spec": {"names": {"categories": ["lb"]}}}
    after = api.good("PATCH", f"{CRDS}/pools.{group}", patch, MERGE_PATCH)["status"]["conditions"]
    assert after == before


def test_a_custom_resource_has_defaults_and_a_generation(api: Client, pools: str) -> None:
    made = api.good("POST", pools, pool(pools))
    assert made["spec"] == {"addresses": ["192.0.2.0/24"], "autoAssign": True}
    assert made["metadata"]["generation"] == 1
    for patch, generation in (({"spec": {"weight": 5}}, 2), ({"metadata": {"labels": {"a": "b"}}}, 2)):
        found = api.good("PATCH", f"{pools}/lan", patch, MERGE_PATCH)
        assert found["metadata"]["generation"] == generation


def test_every_served_version_shows_the_same_object(api: Client, pools: str) -> None:
    made = api.good("POST", pools, pool(pools))
    older = api.good("GET", f"{pools.replace('v1beta1', 'v1alpha1')}/lan")
    assert older.pop("apiVersion").endswith("/v1alpha1")
    del made["apiVersion"]
    for shown in (made, older):
        shown["metadata"].pop("managedFields", None)
    assert older == made


def test_the_status_of_a_custom_resource_is_apart(api: Client, pools: str) -> None:
    conditions = {"conditions": [{"type": "Accepted", "status": "True"}]}
    made = api.good("POST", pools, pool(pools) | {"status": conditions})
    assert "status" not in made
    patch = {"metadata": {"labels": {"a": "b"}}, "spec": {"weight": 7}, "status": conditions}
    found = api.good("PATCH", f"{pools}/lan/status", patch, MERGE_PATCH)
    assert found["status"] == conditions
    assert found["spec"] == made["spec"]
    assert "labels" not in found["metadata"]
    assert found["metadata"]["generation"] == 1


@pytest.mark.parametrize(
    ("spec", "field", "reason"),
    [
        ({"addresses": None}, "spec.addresses", "FieldValueRequired"),
        ({"addresses": "x"}, "spec.addresses", "FieldValueTypeInvalid"),
        ({"addresses": []}, "spec.addresses", "FieldValueInvalid"),
        ({"addresses": ["1", "2", "3", "4"]}, "spec.addresses", "FieldValueTooMany"),
        ({"addresses": ["ten"]}, "spec.addresses[0]", "FieldValueInvalid"),
        ({"mode": "slow"}, "spec.mode", "FieldValueNotSupported"),
        ({"weight": 101}, "spec.weight", "FieldValueInvalid"),
        ({"weight": "7"}, "spec.weight", "FieldValueTypeInvalid"),
        ({"labels": {"a": 1}}, "spec.labels.a", "FieldValueTypeInvalid"),
    ],
)
def test_custom_resources_that_the_schema_refuses(
    api: Client, pools: str, spec: Json, field: str, reason: str
) -> None:
    answer = api.ask("POST", pools, pool(pools, **spec))
    assert answer.status == 422
    assert (field, reason) in [(c["field"], c["reason"]) for c in answer.json["details"]["causes"]]


@pytest.mark.parametrize(
    ("mode", "status", "warning"),
    [("Strict", 400, None), ("Warn", 201, '299 - "unknown field \\"spec.colour\\""'), ("Ignore", 201, None)],
)
def test_unknown_fields_of_custom_resources(
    api: Client, pools: str, mode: str, status: int, warning: str | None
) -> None:
    answer = api.ask("POST", pools, pool(pools, colour="red"), fieldValidation=mode)
    assert (answer.status, answer.headers.get("warning")) == (status, warning)
    if status == 201:
        assert "colour" not in answer.json["spec"]


def test_custom_resources_must_say_what_they_are(api: Client, pools: str) -> None:
    assert api.ask("POST", pools, {"metadata": {"name": "a"}, "spec": {"addresses": ["1"]}}).status == 400
    assert api.ask("POST", pools, pool(pools) | {"kind": "Other"}).status == 422
    assert api.ask("PUT", f"{pools}/none", pool(pools, "none")).status == 404


def test_custom_resources_know_no_strategic_merge(api: Client, pools: str) -> None:
    api.good("POST", pools, pool(pools))
    assert api.ask("PATCH", f"{pools}/lan", {}, STRATEGIC_PATCH).status == 415


def test_a_custom_resource_is_printed_in_its_own_columns(api: Client, pools: str) -> None:
    api.good("POST", pools, pool(pools))
    conditions = {"status": {"conditions": [{"type": "Accepted", "status": "True"}]}}
    api.good("PATCH", f"{pools}/lan/status", conditions, MERGE_PATCH)
    table = api.good("GET", pools, None, "", {"Accept": "application/json;as=Table;v=v1;g=meta.k8s.io"})
    assert [c["name"] for c in table["columnDefinitions"]] == ["Name", "Auto", "Addresses", "Accepted", "Age"]
    assert table["rows"][0]["cells"][:4] == ["lan", True, '["192.0.2.0/24"]', "True"]


def test_a_list_of_custom_resources_has_its_metadata_last(api: Client, pools: str) -> None:
    api.good("POST", pools, pool(pools))
    answer = api.ask("GET", pools)
    assert list(answer.json)[-1] == "metadata"
    assert answer.json["items"][0]["kind"] == "Pool"


def test_a_custom_resource_is_watched(api: Client, pools: str) -> None:
    version = api.good("GET", pools)["metadata"]["resourceVersion"]
    with api.watch(pools, resourceVersion=version) as watch:
        api.good("POST", pools, pool(pools))
        assert watch.next()["object"]["kind"] == "Pool"


def test_with_its_definition_a_resource_goes(api: Client) -> None:
    group = f"{api.namespace()}.example.com"
    api.good("POST", CRDS, definition(group))
    give_up = time.monotonic() + 10
    while api.ask("GET", f"/apis/{group}/v1beta1/pools").status != 200:
        assert time.monotonic() < give_up
        time.sleep(0.1)
    api.good("DELETE", f"{CRDS}/pools.{group}")
    while api.ask("GET", f"/apis/{group}/v1beta1/pools").status != 404:
        assert time.monotonic() < give_up
        time.sleep(0.1)
