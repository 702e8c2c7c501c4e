"""The contract of an API server: objects, versions, lists, selectors, errors.

Each test runs on the server in memory, and on a real kube-apiserver if there is one (see conftest.py).
"""

from typing import Any

import pytest

from tests.lab.apiserver_backends import Client, Json

TABLE = {"Accept": "application/json;as=Table;v=v1;g=meta.k8s.io"}


def service(name: str, kind: str = "LoadBalancer", labels: Json | None = None, **spec: Any) -> Json:
    metadata = {"name": name, "labels": labels} if labels else {"name": name}
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": metadata,
        "spec": {"type": kind, "ports": [{"port": 80}], "allocateLoadBalancerNodePorts": False, **spec}
        if kind == "LoadBalancer"
        else {"type": kind, "ports": [{"port": 80}], **spec},
    }


def config_map(name: str, labels: Json | None = None, **data: str) -> Json:
    return {"metadata": {"name": name, "labels": labels or {}}, "data": data}


@pytest.fixture
def services(namespace: str) -> str:
    return f"/api/v1/namespaces/{namespace}/services"


@pytest.fixture
def maps(namespace: str) -> str:
    return f"/api/v1/namespaces/{namespace}/configmaps"


def names(answer: Json) -> list[str]:
    return [item["metadata"]["name"] for item in answer["items"]]


# --- objects and their versions -------------------------------------------------------------------------


def test_the_server_says_that_it_is_well(api: Client) -> None:
    for path in ("/healthz", "/readyz", "/livez"):
        assert api.ask("GET", path).body == b"ok"
    assert api.good("GET", "/version")["major"] == "1"


def test_a_new_object_gets_what_the_system_gives(api: Client, maps: str, namespace: str) -> None:
    answer = api.ask("POST", maps, config_map("a", color="red"))
    assert answer.status == 201
    found = answer.json
    assert (found["kind"], found["apiVersion"], found["data"]) == ("ConfigMap", "v1", {"color": "red"})
    metadata = found["metadata"]
    assert (metadata["name"], metadata["namespace"]) == ("a", namespace)
    assert len(metadata["uid"]) == 36
    assert metadata["resourceVersion"].isdigit()
    assert metadata["creationTimestamp"].endswith("Z")
    assert api.good("GET", f"{maps}/a") == found


def test_a_generated_name_has_five_more_characters(api: Client, maps: str) -> None:
    made = {
        api.good("POST", maps, {"metadata": {"generateName": "x-"}})["metadata"]["name"] for _ in range(5)
    }
    assert len(made) == 5
    assert all(len(name) == 7 and name.startswith("x-") for name in made)


def test_every_change_gets_a_higher_version(api: Client, maps: str) -> None:
    created = api.good("POST", maps, config_map("a", n="1"))
    replaced = api.good("PUT", f"{maps}/a", config_map("a", n="2"))
    versions = [int(obj["metadata"]["resourceVersion"]) for obj in (created, replaced)]
    assert versions[0] < versions[1]
    assert replaced["metadata"]["uid"] == created["metadata"]["uid"]
    assert replaced["metadata"]["creationTimestamp"] == created["metadata"]["creationTimestamp"]


def test_a_write_that_changes_nothing_changes_no_version(api: Client, maps: str) -> None:
    created = api.good("POST", maps, config_map("a", n="1"))
    version = created["metadata"]["resourceVersion"]
    again = api.good("PUT", f"{maps}/a", created)
    assert again["metadata"]["resourceVersion"] == version
    merged = api.good("PATCH", f"{maps}/a", {"data": {"n": "1"}}, "application/merge-patch+json")
    assert merged["metadata"]["resourceVersion"] == version


def test_who_writes_with_an_old_version_is_refused(api: Client, maps: str) -> None:
    old = api.good("POST", maps, config_map("a", n="1"))
    api.good("PUT", f"{maps}/a", config_map("a", n="2"))
    old["data"]["n"] = "3"
    answer = api.ask("PUT", f"{maps}/a", old)
    assert answer.status == 409
    assert answer.json["reason"] == "Conflict"
    assert answer.json["details"] == {"name": "a", "kind": "configmaps"}
    assert answer.json["message"].startswith(
        'Operation cannot be fulfilled on configmaps "a": the object has been'
    )
    assert api.good("GET", f"{maps}/a")["data"] == {"n": "2"}


def test_a_dry_run_answers_and_stores_nothing(api: Client, maps: str) -> None:
    assert api.ask("POST", f"{maps}?dryRun=All", config_map("a")).status == 201
    assert api.ask("GET", f"{maps}/a").status == 404


@pytest.mark.parametrize(
    ("plural", "body", "creates"),
    [
        pytest.param("leases", {"spec": {}}, True, id="a Lease: PUT creates it"),
        pytest.param("services", service("x", "ClusterIP"), True, id="a Service: PUT creates it"),
        pytest.param("configmaps", {}, False, id="a ConfigMap: PUT finds nothing to replace"),
        pytest.param("endpointslices", {"addressType": "IPv4"}, False, id="a slice: neither"),
    ],
)
def test_put_on_what_does_not_exist(
    api: Client, namespace: str, plural: str, body: Json, creates: bool
) -> None:
    groups = {"leases": "/apis/coordination.k8s.io/v1", "endpointslices": "/apis/discovery.k8s.io/v1"}
    path = f"{groups.get(plural, '/api/v1')}/namespaces/{namespace}/{plural}/x"
    answer = api.ask("PUT", path, {**body, "metadata": {"name": "x"}})
    assert answer.status == (201 if creates else 404)


# --- deletion -------------------------------------------------------------------------------------------


def test_a_deleted_service_answers_with_itself_and_is_gone(api: Client, services: str) -> None:
    api.good("POST", services, service("web"))
    assert api.good("DELETE", f"{services}/web")["kind"] == "Service"
    assert api.ask("GET", f"{services}/web").status == 404
    assert api.ask("DELETE", f"{services}/web").status == 404


def test_a_deleted_config_map_answers_with_a_status(api: Client, maps: str) -> None:
    uid = api.good("POST", maps, config_map("a"))["metadata"]["uid"]
    answer = api.good("DELETE", f"{maps}/a")
    assert (answer["kind"], answer["status"]) == ("Status", "Success")
    assert answer["details"] == {"name": "a", "kind": "configmaps", "uid": uid}


def test_finalizers_hold_a_deleted_object_until_the_last_is_removed(api: Client, maps: str) -> None:
    body = config_map("a")
    body["metadata"]["finalizers"] = ["example.com/one", "example.com/two"]
    api.good("POST", maps, body)
    marked = api.good("DELETE", f"{maps}/a")
    assert marked["metadata"]["deletionTimestamp"]
    assert marked["metadata"]["deletionGracePeriodSeconds"] == 0
    again = api.good("DELETE", f"{maps}/a")
    assert again["metadata"]["resourceVersion"] == marked["metadata"]["resourceVersion"]
    fewer = {"metadata": {"finalizers": ["example.com/two"]}}
    assert api.good("PATCH", f"{maps}/a", fewer, "application/merge-patch+json")["kind"] == "ConfigMap"
    assert api.ask("GET", f"{maps}/a").status == 200
    none = {"metadata": {"finalizers": None}}
    api.good("PATCH", f"{maps}/a", none, "application/merge-patch+json")
    assert api.ask("GET", f"{maps}/a").status == 404


@pytest.mark.parametrize("precondition", [{"uid": "other"}, {"resourceVersion": "1"}])
def test_a_delete_with_a_precondition_that_does_not_hold(api: Client, maps: str, precondition: Json) -> None:
    api.good("POST", maps, config_map("a"))
    answer = api.ask("DELETE", f"{maps}/a", {"preconditions": precondition})
    assert (answer.status, answer.json["reason"]) == (409, "Conflict")
    assert api.ask("GET", f"{maps}/a").status == 200


def test_a_collection_is_deleted_by_selector(api: Client, maps: str) -> None:
    for name in ("a", "b", "c"):
        api.good("POST", maps, config_map(name, {"old": str(name != "b").lower()}))
    assert api.good("DELETE", maps, labelSelector="old=true")["kind"] == "ConfigMapList"
    assert names(api.good("GET", maps)) == ["b"]


# --- errors ---------------------------------------------------------------------------------------------


def _status(code: int, reason: str, message: str, details: Json | None) -> Json:
    body = {"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure"}
    body |= {"message": message, "reason": reason, "code": code}
    return body if details is None else body | {"details": details}


def test_a_missing_object(api: Client, namespace: str) -> None:
    answer = api.ask("GET", f"/apis/apps/v1/namespaces/{namespace}/deployments/x")
    details = {"name": "x", "group": "apps", "kind": "deployments"}
    expected = _status(404, "NotFound", 'deployments.apps "x" not found', details)
    assert (answer.status, answer.json) == (404, expected)


def test_a_missing_namespace(api: Client) -> None:
    answer = api.ask("POST", "/api/v1/namespaces/nowhere/configmaps", config_map("a"))
    details = {"name": "nowhere", "kind": "namespaces"}
    assert answer.json == _status(404, "NotFound", 'namespaces "nowhere" not found', details)


def test_a_name_that_is_taken(api: Client, maps: str) -> None:
    api.good("POST", maps, config_map("a"))
    answer = api.ask("POST", maps, config_map("a"))
    details = {"name": "a", "kind": "configmaps"}
    assert answer.json == _status(409, "AlreadyExists", 'configmaps "a" already exists', details)


def test_an_invalid_object_names_kind_field_and_cause(api: Client, services: str) -> None:
    body = service("web")
    body["spec"]["ports"] = []
    answer = api.ask("POST", services, body)
    cause = {"reason": "FieldValueRequired", "message": "Required value", "field": "spec.ports"}
    details = {"name": "web", "kind": "Service", "causes": [cause]}
    message = 'Service "web" is invalid: spec.ports: Required value'
    assert answer.json == _status(422, "Invalid", message, details)


def test_an_unknown_group_is_plain_text(api: Client) -> None:
    answer = api.ask("GET", "/apis/nowhere.example.com/v1/things")
    assert (answer.status, answer.body) == (404, b"404 page not found\n")


def test_an_unknown_resource_of_a_known_group(api: Client) -> None:
    answer = api.ask("GET", "/api/v1/things")
    message = "the server could not find the requested resource"
    assert answer.json == _status(404, "NotFound", message, {})


@pytest.mark.parametrize(
    ("method", "suffix", "body", "status", "reason"),
    [
        pytest.param("POST", "", b"{", 400, "BadRequest", id="broken JSON"),
        pytest.param("POST", "", b"[]", 400, "BadRequest", id="a list instead of an object"),
        pytest.param("POST", "", {"kind": "Pod", "apiVersion": "v1"}, 400, "BadRequest", id="another kind"),
        pytest.param(
            "POST", "", {"metadata": {"name": "x", "namespace": "y"}}, 400, "BadRequest", id="other namespace"
        ),
        pytest.param(
            "POST",
            "",
            {"metadata": {"name": "x", "labels": {"a": 1}}},
            400,
            "BadRequest",
            id="label not text",
        ),
        pytest.param("POST", "", {"metadata": {"name": "A_b"}}, 422, "Invalid", id="a name that is none"),
        pytest.param("PUT", "/x", {"metadata": {"name": "y"}}, 400, "BadRequest", id="another name"),
        pytest.param("PUT", "/x", {"metadata": {}}, 400, "BadRequest", id="no name"),
        pytest.param("PUT", "", {}, 405, "MethodNotAllowed", id="PUT on a collection"),
        pytest.param("POST", "/x", {}, 405, "MethodNotAllowed", id="POST on an object"),
        pytest.param("GET", "/x/status", None, 404, "NotFound", id="no status on a ConfigMap"),
        pytest.param("GET", "?limit=x", None, 400, "BadRequest", id="limit is no number"),
        pytest.param("GET", "?labelSelector=a+in", None, 400, "BadRequest", id="half a label selector"),
        pytest.param("GET", "?fieldSelector=a%3Db", None, 400, "BadRequest", id="an unknown field"),
        pytest.param("GET", "?resourceVersion=abc", None, 400, "BadRequest", id="a version that is none"),
        pytest.param("GET", "?resourceVersionMatch=Exact", None, 422, "Invalid", id="match without version"),
        pytest.param("GET", "?continue=abc", None, 400, "BadRequest", id="a token from elsewhere"),
    ],
)
def test_requests_that_are_refused(
    api: Client, maps: str, method: str, suffix: str, body: Any, status: int, reason: str
) -> None:
    answer = api.ask(method, maps + suffix, body)
    assert (answer.status, answer.json["code"], answer.json["reason"]) == (status, status, reason)
    assert answer.json["kind"] == "Status"


def test_bodies_and_answers_of_unknown_types(api: Client, maps: str) -> None:
    assert api.ask("POST", maps, b"x", "application/unknown").status == 415
    assert api.ask("GET", maps, headers={"Accept": "application/unknown"}).status == 406


def test_yaml_is_as_good_as_json(api: Client, maps: str) -> None:
    text = b"metadata: {name: a}\ndata: {when: '2026-01-01T00:00:00Z'}\n"
    assert api.ask("POST", maps, text, "application/yaml").json["data"]["when"] == "2026-01-01T00:00:00Z"


# --- lists ----------------------------------------------------------------------------------------------


def test_an_empty_list_has_items_and_a_version(api: Client, maps: str) -> None:
    found = api.good("GET", maps)
    assert (found["kind"], found["apiVersion"], found["items"]) == ("ConfigMapList", "v1", [])
    assert found["metadata"]["resourceVersion"].isdigit()


def test_items_of_a_list_do_not_repeat_their_kind(api: Client, maps: str) -> None:
    api.good("POST", maps, config_map("a"))
    (item,) = api.good("GET", maps)["items"]
    assert "kind" not in item
    assert "apiVersion" not in item


@pytest.mark.parametrize(
    ("selector", "expected"),
    [
        ("", ["a", "b", "c", "d"]),
        ("app=web", ["a", "b"]),
        ("app==web", ["a", "b"]),
        ("app!=web", ["c", "d"]),  # also those without the label
        ("app in (web, db)", ["a", "b", "c"]),
        ("app notin (web)", ["c", "d"]),
        ("tier", ["a"]),
        ("!app", ["d"]),
        ("app=web,!tier", ["b"]),
        ("app in (web,db),tier notin (front)", ["b", "c"]),
    ],
)
def test_label_selectors(api: Client, maps: str, selector: str, expected: list[str]) -> None:
    labels = {"a": {"app": "web", "tier": "front"}, "b": {"app": "web"}, "c": {"app": "db"}, "d": {}}
    for name, chosen in labels.items():
        api.good("POST", maps, config_map(name, chosen))
    assert names(api.good("GET", maps, labelSelector=selector)) == expected


@pytest.mark.parametrize(
    ("selector", "expected"),
    [
        ("metadata.name=a", ["a"]),
        ("metadata.name!=a", ["b", "c"]),
        ("spec.type=LoadBalancer", ["b"]),
        ("spec.type!=LoadBalancer,metadata.name!=c", ["a"]),
        ("spec.type=NodePort", []),
    ],
)
def test_field_selectors(api: Client, services: str, selector: str, expected: list[str]) -> None:
    for name, kind in (("a", "ClusterIP"), ("b", "LoadBalancer"), ("c", "ClusterIP")):
        api.good("POST", services, service(name, kind))
    assert names(api.good("GET", services, fieldSelector=selector)) == expected


def test_secrets_are_selected_by_type(api: Client, namespace: str) -> None:
    path = f"/api/v1/namespaces/{namespace}/secrets"
    api.good(
        "POST",
        path,
        {"metadata": {"name": "a"}, "type": "kubernetes.io/basic-auth", "stringData": {"password": "x"}},
    )
    api.good("POST", path, {"metadata": {"name": "b"}})
    (found,) = api.good("GET", path, fieldSelector="type=kubernetes.io/basic-auth")["items"]
    assert found["data"] == {"password": "eA=="}


def test_pages_of_a_list_show_the_cluster_as_it_was_at_the_first(api: Client, maps: str) -> None:
    for name in "abcde":
        api.good("POST", maps, config_map(name))
    first = api.good("GET", maps, limit=2)
    assert names(first) == ["a", "b"]
    assert first["metadata"]["remainingItemCount"] == 3
    api.good("POST", maps, config_map("bb"))
    api.good("DELETE", f"{maps}/d")
    second = api.good("GET", maps, limit=2, **{"continue": first["metadata"]["continue"]})
    third = api.good("GET", maps, limit=2, **{"continue": second["metadata"]["continue"]})
    assert names(second) + names(third) == ["c", "d", "e"]
    assert not third["metadata"].get("continue")
    versions = {page["metadata"]["resourceVersion"] for page in (first, second, third)}
    assert len(versions) == 1
    assert names(api.good("GET", maps)) == ["a", "b", "bb", "c", "e"]


def test_a_list_at_an_exact_version_shows_the_past(api: Client, maps: str) -> None:
    api.good("POST", maps, config_map("a"))
    version = api.good("GET", maps)["metadata"]["resourceVersion"]
    api.good("POST", maps, config_map("b"))
    then = api.good("GET", maps, resourceVersion=version, resourceVersionMatch="Exact")
    assert names(then) == ["a"]
    assert then["metadata"]["resourceVersion"] == version
    later = api.good("GET", maps, resourceVersion=version, resourceVersionMatch="NotOlderThan")
    assert names(later) == ["a", "b"]


def test_a_list_of_all_namespaces(api: Client, namespace: str) -> None:
    other = api.namespace()
    for home in (namespace, other):
        api.good("POST", f"/api/v1/namespaces/{home}/configmaps", config_map("a", {"mine": namespace}))
    found = api.good("GET", "/api/v1/configmaps", labelSelector=f"mine={namespace}")
    assert sorted(item["metadata"]["namespace"] for item in found["items"]) == sorted([namespace, other])


def test_a_version_from_the_future_times_out(api: Client, maps: str) -> None:
    answer = api.ask("GET", maps, resourceVersion="999999999", resourceVersionMatch="NotOlderThan")
    assert (answer.status, answer.json["reason"]) == (504, "Timeout")
    assert answer.headers["retry-after"] == "1"
    assert answer.json["details"]["causes"][0]["reason"] == "ResourceVersionTooLarge"


# --- tables and metadata --------------------------------------------------------------------------------


def cells(api: Client, path: str, **query: Any) -> dict[str, list[Any]]:
    """Return the rows of a Table, by the object's name, without their age."""
    table = api.good("GET", path, None, "", TABLE, **query)
    columns = [column["name"] for column in table["columnDefinitions"]]
    ages = [at for at, name in enumerate(columns) if name in ("Age", "Created At", "Last Seen", "First Seen")]
    return {
        row["object"]["metadata"]["name"]: [cell for at, cell in enumerate(row["cells"]) if at not in ages]
        for row in table["rows"]
    }


def test_the_table_of_services(api: Client, services: str) -> None:
    api.good("POST", services, service("cluster", "ClusterIP", selector={"b": "2", "a": "1"}))
    api.good("POST", services, service("headless", "ClusterIP", clusterIP="None"))
    api.good("POST", services, service("pending"))
    api.good("POST", services, service("served", selector={"app": "web"}))
    name = {"metadata": {"name": "away"}, "spec": {"type": "ExternalName", "externalName": "example.com"}}
    api.good("POST", services, name)
    ingress = {"status": {"loadBalancer": {"ingress": [{"ip": "192.0.2.10"}, {"ip": "2001:db8::10"}]}}}
    api.good("PATCH", f"{services}/served/status", ingress, "application/merge-patch+json")
    found = cells(api, services)
    assert found["cluster"][1:2] + found["cluster"][3:] == ["ClusterIP", "<none>", "80/TCP", "a=1,b=2"]
    assert found["headless"] == ["headless", "ClusterIP", "None", "<none>", "80/TCP", "<none>"]
    assert found["pending"][3:] == ["<pending>", "80/TCP", "<none>"]
    assert found["served"][3:] == ["192.0.2.10,2001:db8::10", "80/TCP", "app=web"]
    assert found["away"] == ["away", "ExternalName", "<none>", "example.com", "<none>", "<none>"]


def test_the_table_of_nodes(api: Client, namespace: str) -> None:
    name = f"node-{namespace}"
    labels = {"node-role.kubernetes.io/control-plane": "", "test": namespace}
    status = {
        "conditions": [{"type": "Ready", "status": "True"}],
        "addresses": [{"type": "InternalIP", "address": "10.0.0.1"}],
        "nodeInfo": {"kubeletVersion": "v1.36.0", "osImage": "Debian"},
    }
    node = {"metadata": {"name": name, "labels": labels}, "spec": {"unschedulable": True}, "status": status}
    api.good("POST", "/api/v1/nodes", node)
    assert cells(api, "/api/v1/nodes", labelSelector=f"test={namespace}")[name] == [
        name,
        "Ready,SchedulingDisabled",
        "control-plane",
        "v1.36.0",
        "10.0.0.1",
        "<none>",
        "Debian",
        "<unknown>",
        "<unknown>",
    ]


def test_the_table_of_slices(api: Client, namespace: str) -> None:
    path = f"/apis/discovery.k8s.io/v1/namespaces/{namespace}/endpointslices"
    endpoints = [{"addresses": [f"10.1.0.{n}"]} for n in range(1, 5)]
    body = {"metadata": {"name": "s"}, "addressType": "IPv4", "endpoints": endpoints, "ports": [{"port": 80}]}
    api.good("POST", path, body)
    api.good("POST", path, {"metadata": {"name": "empty"}, "addressType": "IPv6"})
    found = cells(api, path)
    assert found["s"] == ["s", "IPv4", "80", "10.1.0.1,10.1.0.2,10.1.0.3 + 1 more..."]
    assert found["empty"] == ["empty", "IPv6", "<unset>", "<unset>"]


def test_other_tables(api: Client, namespace: str) -> None:
    base = f"/api/v1/namespaces/{namespace}"
    api.good("POST", f"{base}/configmaps", config_map("m", a="1", b="2"))
    api.good("POST", f"{base}/secrets", {"metadata": {"name": "s"}, "data": {"a": "eA=="}})
    pod = {"metadata": {"name": "p"}, "spec": {"nodeName": "n1", "containers": [{"name": "c", "image": "i"}]}}
    api.good("POST", f"{base}/pods", pod)
    leases = f"/apis/coordination.k8s.io/v1/namespaces/{namespace}/leases"
    api.good("POST", leases, {"metadata": {"name": "l"}, "spec": {"holderIdentity": "n1"}})
    assert cells(api, f"{base}/configmaps")["m"] == ["m", 2]
    assert cells(api, f"{base}/secrets")["s"] == ["s", "Opaque", 1]
    assert cells(api, f"{base}/pods")["p"] == ["p", "0/1", "Pending", "0", "<none>", "n1", "<none>", "<none>"]
    assert cells(api, leases)["l"] == ["l", "n1"]
    assert cells(api, "/api/v1/namespaces")[namespace] == [namespace, "Active"]


def test_the_age_of_a_new_object_is_in_seconds(api: Client, services: str) -> None:
    api.good("POST", services, service("web"))
    (row,) = api.good("GET", services, None, "", TABLE)["rows"]
    assert row["cells"][5] in {f"{n}s" for n in range(20)}
    assert row["object"]["kind"] == "PartialObjectMetadata"


def test_metadata_only(api: Client, maps: str) -> None:
    api.good("POST", maps, config_map("a", secret="x"))
    accept = {"Accept": "application/json;as=PartialObjectMetadataList;v=v1;g=meta.k8s.io"}
    found = api.good("GET", maps, None, "", accept)
    assert found["kind"] == "PartialObjectMetadataList"
    (item,) = found["items"]
    assert "data" not in item
    assert item["metadata"]["name"] == "a"


# --- discovery ------------------------------------------------------------------------------------------


def test_discovery_in_both_shapes(api: Client) -> None:
    accept = {"Accept": "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList"}
    for path, group in (("/api", None), ("/apis", "discovery.k8s.io")):
        answer = api.ask("GET", path, None, "", accept)
        assert "APIGroupDiscoveryList" in answer.headers["content-type"]
        (found,) = [item for item in answer.json["items"] if item["metadata"].get("name") == group]
        assert found["versions"][0]["version"] == "v1"
        assert {r["scope"] for r in found["versions"][0]["resources"]} <= {"Namespaced", "Cluster"}
    assert api.good("GET", "/api")["versions"] == ["v1"]
    assert "apps" in {group["name"] for group in api.good("GET", "/apis")["groups"]}
    resources = {r["name"]: r for r in api.good("GET", "/api/v1")["resources"]}
    assert resources["services"]["shortNames"] == ["svc"]
    assert resources["services/status"]["verbs"] == ["get", "patch", "update"]
    assert not resources["nodes"]["namespaced"]


def test_openapi_says_that_patches_know_field_validation(api: Client) -> None:
    index = api.good("GET", "/openapi/v3")
    document = api.good("GET", index["paths"]["api/v1"]["serverRelativeURL"])
    patch = document["paths"]["/api/v1/namespaces/{namespace}/services/{name}"]["patch"]
    assert patch["x-kubernetes-group-version-kind"] == {"group": "", "version": "v1", "kind": "Service"}


def test_a_big_list_is_compressed_for_who_asks(api: Client, namespace: str) -> None:
    maps = f"/api/v1/namespaces/{namespace}/configmaps"
    for n in range(3):
        api.good("POST", maps, config_map(f"m{n}", text="x" * 60_000))
    plain = api.ask("GET", maps)
    packed = api.ask("GET", maps, headers={"Accept-Encoding": "gzip"})
    assert "content-encoding" not in plain.headers
    assert packed.headers["content-encoding"] == "gzip"
    assert len(packed.body) < len(plain.body) / 10
