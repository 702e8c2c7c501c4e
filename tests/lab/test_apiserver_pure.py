"""The parts of the server in memory that are plain functions: patches, selectors, columns, the store."""

import copy
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lbspeaker.lab import api_jsonpath, api_patch, api_schema
from lbspeaker.lab.api_network import ServiceNetwork
from lbspeaker.lab.api_render import PLAIN
from lbspeaker.lab.api_resources import BUILT_IN
from lbspeaker.lab.api_select import Filter, parse_labels
from lbspeaker.lab.api_store import Forgotten, Store
from lbspeaker.lab.api_strategic import strategic_merge
from lbspeaker.lab.api_tables import age, duration
from lbspeaker.lab.api_watch import BACKLOG, Watch

Json = dict[str, Any]

# --- patches --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("target", "patch", "expected"),
    [  # RFC 7396, appendix A
        ({"a": "b"}, {"a": "c"}, {"a": "c"}),
        ({"a": "b"}, {"b": "c"}, {"a": "b", "b": "c"}),
        ({"a": "b"}, {"a": None}, {}),
        ({"a": "b", "b": "c"}, {"a": None}, {"b": "c"}),
        ({"a": ["b"]}, {"a": "c"}, {"a": "c"}),
        ({"a": "c"}, {"a": ["b"]}, {"a": ["b"]}),
        ({"a": {"b": "c"}}, {"a": {"b": "d", "c": None}}, {"a": {"b": "d"}}),
        ({"a": [{"b": "c"}]}, {"a": [1]}, {"a": [1]}),
        (["a", "b"], ["c", "d"], ["c", "d"]),
        ({"a": "b"}, ["c"], ["c"]),
        ({"a": "foo"}, None, None),
        ({"a": "foo"}, "bar", "bar"),
        ({"e": None}, {"a": 1}, {"e": None, "a": 1}),
        ([1, 2], {"a": "b", "c": None}, {"a": "b"}),
        ({}, {"a": {"bb": {"ccc": None}}}, {"a": {"bb": {}}}),
    ],
)
def test_merge_patch(target: Any, patch: Any, expected: Any) -> None:
    before = copy.deepcopy(target)
    assert api_patch.merge(target, patch) == expected
    assert target == before


@pytest.mark.parametrize(
    ("target", "operations", "expected"),
    [  # RFC 6902, appendix A
        ({"foo": "bar"}, [{"op": "add", "path": "/baz", "value": "qux"}], {"baz": "qux", "foo": "bar"}),
        (
            {"foo": ["bar", "baz"]},
            [{"op": "add", "path": "/foo/1", "value": "qux"}],
            {"foo": ["bar", "qux", "baz"]},
        ),
        ({"foo": ["bar"]}, [{"op": "add", "path": "/foo/-", "value": ["abc"]}], {"foo": ["bar", ["abc"]]}),
        ({"baz": "qux", "foo": "bar"}, [{"op": "remove", "path": "/baz"}], {"foo": "bar"}),
        ({"foo": ["bar", "qux", "baz"]}, [{"op": "remove", "path": "/foo/1"}], {"foo": ["bar", "baz"]}),
        ({"baz": "qux"}, [{"op": "replace", "path": "/baz", "value": "boo"}], {"baz": "boo"}),
        (
            {"foo": {"bar": "baz", "waldo": "fred"}, "qux": {"corge": "grault"}},
            [{"op": "move", "from": "/foo/waldo", "path": "/qux/thud"}],
            {"foo": {"bar": "baz"}, "qux": {"corge": "grault", "thud": "fred"}},
        ),
        (
            {"foo": ["a", "b", "c"]},
            [{"op": "move", "from": "/foo/0", "path": "/foo/2"}],
            {"foo": ["b", "c", "a"]},
        ),
        ({"a": {"b": 1}}, [{"op": "copy", "from": "/a", "path": "/c"}], {"a": {"b": 1}, "c": {"b": 1}}),
        ({"/": 9, "~1": 10}, [{"op": "test", "path": "/~01", "value": 10}], {"/": 9, "~1": 10}),
        ({"foo": None}, [{"op": "test", "path": "/foo", "value": None}], {"foo": None}),
    ],
)
def test_json_patch(target: Any, operations: Any, expected: Any) -> None:
    before = copy.deepcopy(target)
    assert api_patch.json_patch(target, operations) == expected
    assert target == before


@pytest.mark.parametrize(
    "operation",
    [
        {"op": "test", "path": "/a", "value": 2},
        {"op": "replace", "path": "/b", "value": 2},
        {"op": "remove", "path": "/l/5"},
        {"op": "add", "path": "/l/7", "value": 1},
        {"op": "add", "path": "/x/y", "value": 1},
        {"op": "move", "from": "/nope", "path": "/c"},
    ],
)
def test_a_json_patch_that_does_not_fit(operation: Json) -> None:
    with pytest.raises(api_patch.Unfitting):
        api_patch.json_patch({"a": 1, "l": [1, 2]}, [operation])


@pytest.mark.parametrize("operations", [{}, "x", [1], [{"op": "add", "path": "/a"}], [{"path": "/a"}]])
def test_a_json_patch_that_is_none(operations: Any) -> None:
    with pytest.raises(api_patch.BadPatch):
        api_patch.json_patch({}, operations)


def containers(*names: str) -> Json:
    return {"spec": {"containers": [{"name": name, "env": [{"name": "A", "value": "1"}]} for name in names]}}


@pytest.mark.parametrize(
    ("patch", "expected"),
    [
        pytest.param([{"name": "b", "image": "x"}], ["a", "b", "c"], id="what is known stays where it is"),
        pytest.param([{"name": "d"}], ["d", "a", "b", "c"], id="what is new comes first"),
        pytest.param([{"name": "c"}, {"name": "a"}], ["b", "c", "a"], id="the patch's order wins"),
        pytest.param([{"name": "b", "$patch": "delete"}], ["a", "c"], id="one is deleted"),
        pytest.param(
            [{"name": "x", "$patch": "delete"}], ["a", "b", "c"], id="what is not there is not deleted"
        ),
    ],
)
def test_lists_that_are_maps_keep_an_order(patch: list[Json], expected: list[str]) -> None:
    found = strategic_merge(containers("a", "b", "c"), {"spec": {"containers": patch}}, "Pod")
    assert [container["name"] for container in found["spec"]["containers"]] == expected


def test_lists_within_such_lists_merge_too() -> None:
    env = [{"name": "B", "value": "2"}, {"name": "A", "value": None}]
    found = strategic_merge(containers("a"), {"spec": {"containers": [{"name": "a", "env": env}]}}, "Pod")
    assert found["spec"]["containers"][0]["env"] == [{"name": "B", "value": "2"}, {"name": "A"}]


@pytest.mark.parametrize(
    ("patch", "expected"),
    [
        ({"a": {"$patch": "replace", "y": 2}}, {"a": {"y": 2}, "l": [1]}),
        ({"a": {"$patch": "delete"}}, {"l": [1]}),
        ({"$patch": "replace", "b": 1}, {"b": 1}),
        ({"$retainKeys": ["l", "b"], "b": 1}, {"l": [1], "b": 1}),
        ({"l": [2]}, {"a": {"x": 1}, "l": [2]}),
        ({"a": None}, {"l": [1]}),
    ],
)
def test_directives(patch: Json, expected: Json) -> None:
    assert strategic_merge({"a": {"x": 1}, "l": [1]}, patch, "Service") == expected


# --- selectors, columns, schemas ------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "labels", "selected"),
    [
        ("a=", {"a": ""}, True),
        ("a=", {}, False),
        ("a in (x,y),b", {"a": "y", "b": ""}, True),
        ("a in (x,y),b", {"a": "y"}, False),
        ("example.com/a-b_c=1.2", {"example.com/a-b_c": "1.2"}, True),
        ("a notin (x, y)", {}, True),
        (" a = b , c != d ", {"a": "b"}, True),
        ("! a", {"a": "b"}, False),
    ],
)
def test_label_selectors(text: str, labels: dict[str, str], selected: bool) -> None:
    assert parse_labels(text).selects(labels) is selected


OBJECT = {
    "spec": {"list": ["a", "b"], "a.b": 1, "deep": {"n": 7}},
    "status": {"conditions": [{"type": "Ready", "status": "True"}, {"type": "Ok", "status": "False"}]},
}


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        (".spec.deep.n", [7]),
        ("{.spec.deep.n}", [7]),
        (".spec.list", [["a", "b"]]),
        (".spec.list[0]", ["a"]),
        (".spec.list[-1]", ["b"]),
        (".spec.list[5]", []),
        (".spec.list[*]", ["a", "b"]),
        (r".spec.a\.b", [1]),
        (".spec['a.b']", [1]),
        ('.status.conditions[?(@.type=="Ok")].status', ["False"]),
        (".status.conditions[*].type", ["Ready", "Ok"]),
        (".nope.at.all", []),
    ],
)
def test_printer_columns_find_their_value(path: str, expected: list[Any]) -> None:
    assert api_jsonpath.find(OBJECT, path) == expected


def test_a_path_that_is_not_understood() -> None:
    with pytest.raises(api_jsonpath.BadPath):
        api_jsonpath.find(OBJECT, ".spec[?(@.a > 1)]")


@pytest.mark.parametrize(
    ("seconds", "shown"),
    [
        (0, "0s"),
        (119, "119s"),
        (120, "2m"),
        (125, "2m5s"),
        (599, "9m59s"),
        (600, "10m"),
        (3 * 3600 - 1, "179m"),
        (3 * 3600, "3h"),
        (3 * 3600 + 65, "3h1m"),
        (8 * 3600 + 60, "8h"),
        (48 * 3600, "2d"),
        (50 * 3600, "2d2h"),
        (9 * 86400, "9d"),
        (729 * 86400, "729d"),
        (800 * 86400, "2y70d"),
        (9 * 365 * 86400, "9y"),
        (-5, "<invalid>"),
    ],
)
def test_ages_are_shown_as_kubectl_does(seconds: float, shown: str) -> None:
    assert duration(seconds) == shown


def test_an_age_is_counted_from_the_creation() -> None:
    assert age("1970-01-01T00:01:00Z", 90.0) == "30s"
    assert age(None, 90.0) == "<unknown>"


def test_defaults_reach_into_lists_and_maps() -> None:
    inner = {"type": "object", "properties": {"port": {"type": "integer", "default": 179}}}
    schema = {
        "properties": {
            "peers": {"items": inner},
            "named": {"additionalProperties": inner},
            "hold": {"default": {}, "properties": {"s": {"default": 90}}},
        }
    }
    found = api_schema.default({"peers": [{}, {"port": 1}], "named": {"a": {}}}, schema)
    assert found == {"peers": [{"port": 179}, {"port": 1}], "named": {"a": {"port": 179}}, "hold": {"s": 90}}


def test_a_watch_that_falls_too_far_behind_is_ended() -> None:
    watch = Watch(BUILT_IN[0], Filter(), PLAIN, after=0)
    for _ in range(BACKLOG):
        watch.add(b"x")
    assert not watch.ended
    watch.add(b"y")
    assert watch.ended
    assert watch.take() == b"x" * BACKLOG  # what it was promised, without a gap


def test_cluster_ips_run_out_and_come_back() -> None:
    network = ServiceNetwork(("192.0.2.0/29",))
    made = []
    for _ in range(6):
        ip = network.pick_ip("IPv4")
        made.append({"spec": {"clusterIPs": [ip]}})
        network.commit(None, made[-1])
    assert len({service["spec"]["clusterIPs"][0] for service in made}) == 6
    with pytest.raises(Exception, match="range is full"):
        network.pick_ip("IPv4")
    network.commit(made[2], None)
    assert network.pick_ip("IPv4") == made[2]["spec"]["clusterIPs"][0]


# --- the store ------------------------------------------------------------------------------------------

TABLE = ("", "things")
Steps = list[tuple[str, int]]
STEPS = st.lists(st.tuples(st.sampled_from(["a", "b", "c"]), st.integers(0, 3)), max_size=40)


def play(store: Store, steps: Steps) -> dict[int, Json]:
    """Write (n > 0) and delete (n = 0) objects; return what there was at every version."""
    past = {store.rv: {}}
    for name, n in steps:
        if n:
            store.put(TABLE, name, {"metadata": {"name": name}, "n": n})
        elif store.get(TABLE, name):
            store.remove(TABLE, name)
        past[store.rv] = {entry.key: entry for entry in store.entries(TABLE)}
    return past


@given(STEPS)
@settings(max_examples=60, deadline=None)
def test_the_past_can_be_listed_at_any_version(steps: Steps) -> None:
    store = Store()
    for version, then in play(store, steps).items():
        assert {entry.key: entry for entry in store.entries(TABLE, rv=version)} == then


@given(STEPS)
@settings(max_examples=60, deadline=None)
def test_replaying_the_history_from_any_version_gives_the_present(steps: Steps) -> None:
    store = Store()
    past = play(store, steps)
    present = {entry.key: entry for entry in store.entries(TABLE)}
    for version, then in past.items():
        state = dict(then)
        for event in store.since(TABLE, version):
            assert (event.type == "ADDED") == (event.new.key not in state)
            state[event.new.key] = event.new
            if event.type == "DELETED":
                del state[event.new.key]
        assert state == present


@given(STEPS, st.integers(1, 5))
@settings(max_examples=60, deadline=None)
def test_a_bounded_history_says_what_it_forgot(steps: Steps, history: int) -> None:
    store = Store(history)
    past = play(store, steps)
    for version in past:
        try:
            events = store.since(TABLE, version)
        except Forgotten as error:
            assert version < error.oldest
            assert len(store.table(TABLE).events) == history
        else:
            assert [event.rv for event in events] == [rv for rv in past if rv > version]
            assert {entry.key: entry for entry in store.entries(TABLE, rv=version)} == past[version]


def test_entries_are_encoded_once_and_never_altered() -> None:
    store = Store()
    obj: Json = {"metadata": {"name": "a"}, "n": 1}
    first = store.put(TABLE, "a", obj)
    second = store.put(TABLE, "a", {**obj, "n": 2})
    assert obj == {"metadata": {"name": "a"}, "n": 1}
    assert b'"n":1' in first.tail
    assert b'"n":2' in second.tail
    assert store.since(TABLE, first.rv)[0].old is first
