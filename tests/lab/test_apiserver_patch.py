"""The contract of patches: merge, JSON, strategic merge, apply; and the status subresource.

Each test runs on the server in memory, and on a real kube-apiserver if there is one (see conftest.py).
"""

from typing import Any

import pytest

from tests.lab.apiserver_backends import APPLY_PATCH, JSON_PATCH, MERGE_PATCH, STRATEGIC_PATCH, Client, Json


@pytest.fixture
def web(api: Client, namespace: str) -> str:
    """A Service with one port; its path."""
    path = f"/api/v1/namespaces/{namespace}/services"
    ports = [{"name": "http", "port": 80}]
    spec = {"type": "LoadBalancer", "ports": ports, "allocateLoadBalancerNodePorts": False}
    api.good("POST", path, {"metadata": {"name": "web", "labels": {"app": "web"}}, "spec": spec})
    return f"{path}/web"


def ports(service: Json) -> list[tuple[str, int]]:
    return [(port["name"], port["port"]) for port in service["spec"]["ports"]]


# --- merge patch and JSON patch -------------------------------------------------------------------------


def test_a_merge_patch_adds_changes_and_removes(api: Client, web: str) -> None:
    api.good("PATCH", web, {"metadata": {"labels": {"app": None, "tier": "front"}}}, MERGE_PATCH)
    assert api.good("GET", web)["metadata"]["labels"] == {"tier": "front"}


def test_a_merge_patch_replaces_lists(api: Client, web: str) -> None:
    found = api.good("PATCH", web, {"spec": {"ports": [{"name": "alt", "port": 8080}]}}, MERGE_PATCH)
    assert ports(found) == [("alt", 8080)]


def test_a_merge_patch_with_an_old_version_is_refused(api: Client, web: str) -> None:
    patch = {"metadata": {"resourceVersion": "1", "labels": {"a": "b"}}}
    assert api.ask("PATCH", web, patch, MERGE_PATCH).json["reason"] == "Conflict"


def test_a_merge_patch_with_the_present_version_passes(api: Client, web: str) -> None:
    version = api.good("GET", web)["metadata"]["resourceVersion"]
    patch = {"metadata": {"resourceVersion": version, "labels": {"a": "b"}}}
    assert api.good("PATCH", web, patch, MERGE_PATCH)["metadata"]["labels"]["a"] == "b"


def test_a_json_patch_does_all_or_nothing(api: Client, web: str) -> None:
    good: list[Json] = [
        {"op": "test", "path": "/spec/type", "value": "LoadBalancer"},
        {"op": "add", "path": "/metadata/labels/example.com~1tier", "value": "front"},
        {"op": "replace", "path": "/spec/ports/0/port", "value": 81},
    ]
    found = api.good("PATCH", web, good, JSON_PATCH)
    assert found["metadata"]["labels"]["example.com/tier"] == "front"
    assert ports(found) == [("http", 81)]
    bad = [{"op": "replace", "path": "/spec/ports/0/port", "value": 82}, good[0] | {"value": "ClusterIP"}]
    assert api.ask("PATCH", web, bad, JSON_PATCH).status == 422
    assert ports(api.good("GET", web)) == [("http", 81)]


@pytest.mark.parametrize(
    ("body", "content_type", "status"),
    [
        pytest.param({}, "application/json", 415, id="plain JSON is no patch"),
        pytest.param({}, JSON_PATCH, 400, id="a JSON patch is a list"),
        pytest.param([1], MERGE_PATCH, 400, id="a merge patch is an object"),
        pytest.param([{"op": "remove", "path": "/nope"}], JSON_PATCH, 422, id="nothing to remove"),
        pytest.param([{"op": "frob", "path": "/spec"}], JSON_PATCH, 422, id="an unknown operation"),
        pytest.param({"metadata": {"name": "other"}}, MERGE_PATCH, 400, id="another name"),
        pytest.param({"metadata": {"uid": "other"}}, MERGE_PATCH, 422, id="another uid"),
        pytest.param({"kind": "Service", "apiVersion": "v1"}, APPLY_PATCH, 422, id="apply without a manager"),
    ],
)
def test_patches_that_are_refused(api: Client, web: str, body: Any, content_type: str, status: int) -> None:
    before = api.good("GET", web)
    assert api.ask("PATCH", web, body, content_type).status == status
    assert api.good("GET", web) == before


# --- strategic merge ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("patch", "expected"),
    [
        pytest.param(
            {"ports": [{"port": 443, "name": "https"}]}, [("https", 443), ("http", 80)], id="a new port joins"
        ),
        pytest.param(
            {"ports": [{"port": 80, "name": "web"}]}, [("web", 80)], id="a port is known by its number"
        ),
        pytest.param(
            {"ports": [{"port": 443, "name": "https"}, {"$patch": "delete", "port": 80}]},
            [("https", 443)],
            id="one comes, one goes",
        ),
        pytest.param(
            {"ports": [{"$patch": "replace"}, {"port": 90, "name": "new"}]},
            [("new", 90)],
            id="all are replaced",
        ),
        pytest.param(
            {
                "$setElementOrder/ports": [{"port": 80}, {"port": 443}],
                "ports": [{"port": 443, "name": "https"}],
            },
            [("http", 80), ("https", 443)],
            id="in the order that the patch wants",
        ),
    ],
)
def test_ports_merge_by_number(api: Client, web: str, patch: Json, expected: list[tuple[str, int]]) -> None:
    assert ports(api.good("PATCH", web, {"spec": patch}, STRATEGIC_PATCH)) == expected


def test_conditions_merge_by_type(api: Client, namespace: str) -> None:
    node = f"/api/v1/nodes/{namespace}"
    status: Json = {"conditions": [{"type": "Ready", "status": "True"}]}
    api.good("POST", "/api/v1/nodes", {"metadata": {"name": namespace}, "status": status})
    more = [{"type": "NetworkUnavailable", "status": "True"}, {"type": "Ready", "status": "False"}]
    found = api.good("PATCH", f"{node}/status", {"status": {"conditions": more}}, STRATEGIC_PATCH)
    conditions = {c["type"]: c["status"] for c in found["status"]["conditions"]}
    assert conditions == {"Ready": "False", "NetworkUnavailable": "True"}


def test_finalizers_merge_as_a_set_in_a_strategic_patch(api: Client, web: str) -> None:
    for name in ("one", "two"):
        patch = {"metadata": {"finalizers": [f"example.com/{name}"]}}
        found = api.good("PATCH", web, patch, STRATEGIC_PATCH)
    assert set(found["metadata"]["finalizers"]) == {"example.com/one", "example.com/two"}
    patch = {"metadata": {"$deleteFromPrimitiveList/finalizers": ["example.com/one"]}}
    found = api.good("PATCH", web, patch, STRATEGIC_PATCH)
    assert found["metadata"]["finalizers"] == ["example.com/two"]


# --- apply ----------------------------------------------------------------------------------------------


def test_apply_creates_and_then_changes(api: Client, namespace: str) -> None:
    path = f"/api/v1/namespaces/{namespace}/configmaps/a"
    body: Json = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "a"}, "data": {"n": "1"}}
    made = api.ask("PATCH", path, body, APPLY_PATCH, fieldManager="test")
    assert made.status == 201
    again = api.ask("PATCH", path, body, APPLY_PATCH, fieldManager="test")
    assert again.status == 200
    assert again.json["metadata"]["resourceVersion"] == made.json["metadata"]["resourceVersion"]
    body["data"]["n"] = "2"
    assert api.good("PATCH", path, body, APPLY_PATCH, fieldManager="test")["data"] == {"n": "2"}


def test_an_applied_body_may_be_yaml(api: Client, namespace: str) -> None:
    path = f"/api/v1/namespaces/{namespace}/configmaps/a"
    body = b"apiVersion: v1\nkind: ConfigMap\nmetadata: {name: a}\ndata: {color: red}\n"
    assert api.good("PATCH", path, body, APPLY_PATCH, fieldManager="test")["data"] == {"color": "red"}


# --- the status subresource -----------------------------------------------------------------------------


def ingress(*ips: str) -> Json:
    return {"status": {"loadBalancer": {"ingress": [{"ip": ip} for ip in ips]}}}


def test_the_status_is_written_through_its_own_path_only(api: Client, web: str) -> None:
    api.good("PATCH", web, ingress("192.0.2.9"), MERGE_PATCH)
    assert api.good("GET", web)["status"] == {"loadBalancer": {}}
    patch = ingress("192.0.2.10") | {"spec": {"sessionAffinity": "ClientIP"}}
    found = api.good("PATCH", f"{web}/status", patch, MERGE_PATCH)
    assert found["spec"]["sessionAffinity"] == "None"
    assert found["status"]["loadBalancer"]["ingress"] == [{"ip": "192.0.2.10", "ipMode": "VIP"}]
    assert api.good("GET", f"{web}/status") == api.good("GET", web) == found


def test_the_status_path_of_a_service_takes_metadata_too(api: Client, web: str) -> None:
    metadata = {"annotations": {"pool": "lan"}, "labels": {"a": "b"}, "finalizers": ["example.com/x"]}
    found = api.good("PATCH", f"{web}/status", {"metadata": metadata, **ingress("192.0.2.10")}, MERGE_PATCH)
    assert found["metadata"]["annotations"] == {"pool": "lan"}
    assert found["metadata"]["labels"] == {"app": "web", "a": "b"}
    assert found["metadata"]["finalizers"] == ["example.com/x"]


def test_a_status_with_an_old_version_is_refused(api: Client, web: str) -> None:
    patch = {"metadata": {"resourceVersion": "1"}, **ingress("192.0.2.10")}
    assert api.ask("PATCH", f"{web}/status", patch, MERGE_PATCH).status == 409


def test_the_same_status_again_changes_nothing(api: Client, web: str) -> None:
    first = api.good("PATCH", f"{web}/status", ingress("192.0.2.10"), MERGE_PATCH)
    assert api.good("PATCH", f"{web}/status", ingress("192.0.2.10"), MERGE_PATCH) == first


def test_nodes_bring_their_status_when_they_are_created(api: Client, namespace: str) -> None:
    status = {"addresses": [{"type": "InternalIP", "address": "10.0.0.1"}]}
    made = api.good("POST", "/api/v1/nodes", {"metadata": {"name": namespace}, "status": status})
    assert made["status"]["addresses"] == status["addresses"]
    other = {"status": {"addresses": []}}
    found = api.good("PATCH", f"/api/v1/nodes/{namespace}", other, MERGE_PATCH)
    assert found["status"]["addresses"] == status["addresses"]
