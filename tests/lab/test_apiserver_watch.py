"""The contract of watches: what is told, in which order, from where, and how it ends.

Each test runs on the server in memory, and on a real kube-apiserver if there is one (see conftest.py).
"""

import time
from typing import Any

import pytest

from tests.lab.apiserver_backends import MERGE_PATCH, Client, Json

TABLE = {"Accept": "application/json;as=Table;v=v1;g=meta.k8s.io"}


@pytest.fixture
def maps(namespace: str) -> str:
    return f"/api/v1/namespaces/{namespace}/configmaps"


def create(api: Client, maps: str, name: str, labels: Json | None = None, **data: str) -> Json:
    made: Json = api.good("POST", maps, {"metadata": {"name": name, "labels": labels or {}}, "data": data})
    return made


def version(api: Client, maps: str) -> str:
    found: str = api.good("GET", maps)["metadata"]["resourceVersion"]
    return found


def told(event: Json) -> tuple[str, str]:
    return event["type"], event["object"]["metadata"].get("name", "")


def test_a_watch_tells_each_change_in_order(api: Client, maps: str) -> None:
    with api.watch(maps, resourceVersion=version(api, maps)) as watch:
        assert watch.response.getheader("Transfer-Encoding") == "chunked"
        created = create(api, maps, "a", n="1")
        api.good("PATCH", f"{maps}/a", {"data": {"n": "2"}}, MERGE_PATCH)
        api.good("PATCH", f"{maps}/a", {"data": {"n": "2"}}, MERGE_PATCH)  # changes nothing: is not told
        api.good("DELETE", f"{maps}/a")
        events = [watch.next() for _ in range(3)]
    assert [told(event) for event in events] == [("ADDED", "a"), ("MODIFIED", "a"), ("DELETED", "a")]
    assert events[0]["object"] == created
    assert events[1]["object"]["data"] == {"n": "2"}
    versions = [int(event["object"]["metadata"]["resourceVersion"]) for event in events]
    assert versions == sorted(set(versions))


def test_a_watch_without_version_tells_what_is_there_first(api: Client, maps: str) -> None:
    for name in ("a", "b"):
        create(api, maps, name)
    with api.watch(maps) as watch:
        assert sorted(told(watch.next()) for _ in range(2)) == [("ADDED", "a"), ("ADDED", "b")]
        create(api, maps, "c")
        assert told(watch.next()) == ("ADDED", "c")


def test_a_watch_from_a_version_tells_what_happened_since(api: Client, maps: str) -> None:
    create(api, maps, "before")
    start = version(api, maps)
    create(api, maps, "after")
    api.good("DELETE", f"{maps}/before")
    with api.watch(maps, resourceVersion=start) as watch:
        assert [told(watch.next()) for _ in range(2)] == [("ADDED", "after"), ("DELETED", "before")]


def test_a_watch_ends_cleanly_when_its_time_is_over(api: Client, maps: str) -> None:
    began = time.monotonic()
    with api.watch(maps, timeout_s=1, resourceVersion=version(api, maps)) as watch:
        assert watch.rest() == []
    assert 0.9 < time.monotonic() - began < 3


def test_a_watch_of_one_namespace_hears_nothing_of_others(api: Client, maps: str) -> None:
    other = f"/api/v1/namespaces/{api.namespace()}/configmaps"
    with api.watch(maps, resourceVersion=version(api, maps)) as watch:
        create(api, other, "theirs")
        create(api, maps, "ours")
        assert told(watch.next()) == ("ADDED", "ours")


def test_a_selector_turns_changes_into_arrivals_and_departures(api: Client, maps: str) -> None:
    create(api, maps, "a", {"app": "web"}, n="1")
    start = version(api, maps)
    with api.watch(maps, resourceVersion=start, labelSelector="app=web") as watch:
        left = api.good("PATCH", f"{maps}/a", {"metadata": {"labels": {"app": "db"}}}, MERGE_PATCH)
        api.good("PATCH", f"{maps}/a", {"data": {"n": "2"}}, MERGE_PATCH)  # out of sight
        api.good("PATCH", f"{maps}/a", {"metadata": {"labels": {"app": "web"}}}, MERGE_PATCH)
        api.good("PATCH", f"{maps}/a", {"data": {"n": "3"}}, MERGE_PATCH)
        events = [watch.next() for _ in range(3)]
    assert [event["type"] for event in events] == ["DELETED", "ADDED", "MODIFIED"]
    gone = events[0]["object"]
    assert gone["metadata"]["labels"] == {"app": "web"}  # as it was when it was last seen …
    assert gone["metadata"]["resourceVersion"] == left["metadata"]["resourceVersion"]  # … at the new version


def test_a_service_that_changes_its_type_leaves_the_field_selector(api: Client, namespace: str) -> None:
    services = f"/api/v1/namespaces/{namespace}/services"
    spec = {"type": "LoadBalancer", "ports": [{"port": 80}], "allocateLoadBalancerNodePorts": False}
    api.good("POST", services, {"metadata": {"name": "web"}, "spec": spec})
    start = version(api, services)
    with api.watch(services, resourceVersion=start, fieldSelector="spec.type=LoadBalancer") as watch:
        api.good("PATCH", f"{services}/web", {"spec": {"type": "ClusterIP"}}, MERGE_PATCH)
        api.good("PATCH", f"{services}/web", {"spec": {"type": "LoadBalancer"}}, MERGE_PATCH)
        assert [told(watch.next()) for _ in range(2)] == [("DELETED", "web"), ("ADDED", "web")]


def test_one_object_is_watched_by_its_name(api: Client, maps: str) -> None:
    with api.watch(maps, resourceVersion=version(api, maps), fieldSelector="metadata.name=b") as watch:
        create(api, maps, "a")
        create(api, maps, "b")
        assert told(watch.next()) == ("ADDED", "b")


def test_finalizers_show_as_a_change_before_the_end(api: Client, maps: str) -> None:
    body = {"metadata": {"name": "a", "finalizers": ["example.com/wait"]}}
    api.good("POST", maps, body)
    with api.watch(maps, resourceVersion=version(api, maps)) as watch:
        api.good("DELETE", f"{maps}/a")
        api.good("PATCH", f"{maps}/a", {"metadata": {"finalizers": None}}, MERGE_PATCH)
        marked, gone = watch.next(), watch.next()
    assert told(marked) == ("MODIFIED", "a")
    assert marked["object"]["metadata"]["deletionTimestamp"]
    assert told(gone) == ("DELETED", "a")


def test_a_bookmark_tells_the_version_before_the_end(api: Client, maps: str) -> None:
    start = version(api, maps)
    with api.watch(maps, timeout_s=3, resourceVersion=start, allowWatchBookmarks="true") as watch:
        made = create(api, maps, "a")
        events = watch.rest()
    assert told(events[0]) == ("ADDED", "a")
    assert {event["type"] for event in events[1:]} == {"BOOKMARK"}
    last = events[-1]["object"]
    assert (last["kind"], last["apiVersion"]) == ("ConfigMap", "v1")
    assert int(last["metadata"]["resourceVersion"]) >= int(made["metadata"]["resourceVersion"])


def test_a_list_as_a_stream_ends_with_a_marked_bookmark(api: Client, maps: str) -> None:
    for name in ("a", "b"):
        create(api, maps, name)
    query = {"sendInitialEvents": "true", "allowWatchBookmarks": "true"}
    with api.watch(maps, resourceVersionMatch="NotOlderThan", **query) as watch:
        assert sorted(told(watch.next()) for _ in range(2)) == [("ADDED", "a"), ("ADDED", "b")]
        end = watch.next()
        assert end["type"] == "BOOKMARK"
        assert end["object"]["metadata"]["annotations"] == {"k8s.io/initial-events-end": "true"}
        create(api, maps, "c")
        assert told(watch.next()) == ("ADDED", "c")


def test_a_version_from_the_future_is_silent_until_it_is_reached(api: Client, maps: str) -> None:
    start = int(version(api, maps))
    with api.watch(maps, timeout_s=1, resourceVersion=str(start + 10_000)) as watch:
        create(api, maps, "a")
        assert [told(event) for event in watch.rest()] == []


@pytest.mark.parametrize(
    ("query", "status"),
    [
        ({"resourceVersion": "abc"}, 500),
        ({"sendInitialEvents": "true"}, 422),
        ({"resourceVersionMatch": "NotOlderThan", "resourceVersion": "1"}, 422),
        ({"fieldSelector": "no.such=field"}, 400),
    ],
)
def test_watches_that_are_refused(api: Client, maps: str, query: dict[str, Any], status: int) -> None:
    answer = api.ask("GET", maps, watch="true", timeoutSeconds=1, **query)
    assert (answer.status, answer.json["kind"]) == (status, "Status")


def test_a_watch_of_tables_names_the_columns_once(api: Client, maps: str) -> None:
    with api.watch(maps, resourceVersion=version(api, maps), headers=TABLE) as watch:
        create(api, maps, "a", n="1")
        create(api, maps, "b", n="1")
        first, second = watch.next()["object"], watch.next()["object"]
    assert first["kind"] == second["kind"] == "Table"
    assert [column["name"] for column in first["columnDefinitions"]] == ["Name", "Data", "Age"]
    assert not second["columnDefinitions"]
    assert [table["rows"][0]["cells"][:2] for table in (first, second)] == [["a", 1], ["b", 1]]


def test_a_hundred_changes_reach_ten_watches_whole_and_in_order(api: Client, maps: str) -> None:
    start = version(api, maps)
    watches = [api.watch(maps, timeout_s=20, resourceVersion=start) for _ in range(10)]
    for n in range(100):
        create(api, maps, f"m{n:03}")
    for watch in watches:
        with watch:
            assert [told(watch.next())[1] for _ in range(100)] == [f"m{n:03}" for n in range(100)]
