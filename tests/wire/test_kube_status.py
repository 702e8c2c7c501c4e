"""The status of configuration objects: what is written, and what is read of whatever is there."""

import json
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lbspeaker.model import (
    MOST,
    Condition,
    ObjectStatus,
    PoolStatus,
    Range,
    Released,
    Tally,
    Written,
)
from lbspeaker.wire import kube
from lbspeaker.wire.kube_status import status_patch, written
from tests.build import ip, span

NOW = 1_790_000_000.0  # 2026-09-21T14:13:20Z
OURS = {"apiVersion": "lbspeaker.io/v1beta1"}
METALLBS = {"apiVersion": "metallb.io/v1beta1"}
EMPTY = ObjectStatus()
USED = PoolStatus(
    assigned_v4=3,
    assigned_v6=1,
    available_v4=7,
    available_v6=MOST,
    size_v4=10,
    size_v6=MOST,
    pending=2,
    released=(Released(ip("192.0.2.9"), "default/was", NOW + 60), Released(ip("192.0.2.8"), "", NOW)),
    in_use=(span("192.0.2.1-192.0.2.3"), span("2001:db8::1")),
)


def patch(status: ObjectStatus, was: ObjectStatus = EMPTY, document: Any = OURS, **fields: Any) -> Any:
    one = Written("IPAddressPool/lan", document, status=was, **fields)
    return json.loads(status_patch(one, status, NOW))


def merged(target: Any, change: Any) -> Any:
    """RFC 7396: what a merge-patch makes of a document."""
    if not isinstance(change, dict):
        return change
    found = dict(target) if isinstance(target, dict) else {}
    for name, value in change.items():
        found.pop(name, None) if value is None else found.update({name: merged(found.get(name), value)})
    return found


def read(status: Any, **metadata: Any) -> Written:
    return written("IPAddressPool/lan", {"metadata": metadata, "status": status}, OURS)


# --- bytes ----------------------------------------------------------------------------------------------

CONDITIONS = (
    Condition("Accepted", "True", "Accepted", "in force", 4),
    Condition("Draining", "False", "Disabled", "nobody has any"),
)
GOLDEN = {
    "conditions": [
        {
            "type": "Accepted",
            "status": "True",
            "reason": "Accepted",
            "message": "in force",
            "lastTransitionTime": "2026-09-21T14:13:20Z",
            "observedGeneration": 4,
        },
        {
            "type": "Draining",
            "status": "False",
            "reason": "Disabled",
            "message": "nobody has any",
            "lastTransitionTime": "2026-09-21T14:13:20Z",
        },
    ],
    "assignedIPv4": 3,
    "assignedIPv6": 1,
    "availableIPv4": 7,
    "availableIPv6": 9223372036854775807,
    "sizeIPv4": 10,
    "sizeIPv6": 9223372036854775807,
    "pending": 2,
    "released": [
        {"address": "192.0.2.9", "service": "default/was", "until": "2026-09-21T14:14:20Z"},
        {"address": "192.0.2.8", "service": "", "until": "2026-09-21T14:13:20Z"},
    ],
    "assigned": ["192.0.2.1-192.0.2.3", "2001:db8::1-2001:db8::1"],
}


def test_the_status_of_a_pool() -> None:
    assert patch(ObjectStatus(CONDITIONS, USED)) == {"status": GOLDEN}


def test_what_is_empty_takes_away_what_was_there() -> None:
    body = patch(ObjectStatus(pool=PoolStatus()))["status"]
    assert (body["released"], body["assigned"]) == (None, None)
    assert "conditions" not in body


def test_metallbs_pools_have_four_counts() -> None:
    assert patch(ObjectStatus(pool=USED), document=METALLBS) == {
        "status": {
            "assignedIPv4": 3, "assignedIPv6": 1, "availableIPv4": 7, "availableIPv6": 9223372036854775807
        }
    }  # fmt: skip


def test_the_summary_of_all() -> None:
    tally = Tally(5, 1, (("BGPPeer/a", "no peer"),))
    assert patch(ObjectStatus(tally=tally)) == {
        "status": {"accepted": 5, "refused": 1, "refusals": [{"object": "BGPPeer/a", "message": "no peer"}]}
    }
    assert patch(ObjectStatus(tally=Tally(5, 0, ())))["status"]["refusals"] == []


# --- since when -----------------------------------------------------------------------------------------

BEFORE = "2026-01-02T03:04:05Z"


@pytest.mark.parametrize(
    ("story", "was", "since"),
    [
        ("as it was", CONDITIONS[0], BEFORE),
        ("another reason, message and generation", Condition("Accepted", "True", "Doubtful", "?", 1), BEFORE),
        ("it was refused", replace(CONDITIONS[0], status="False"), "2026-09-21T14:13:20Z"),
        ("what was so is another", replace(CONDITIONS[0], type="Draining"), "2026-09-21T14:13:20Z"),
    ],
)
def test_a_condition_is_as_old_as_its_status(story: str, was: Condition, since: str) -> None:
    body = patch(ObjectStatus(CONDITIONS[:1]), ObjectStatus((was,)), since={"Accepted": BEFORE})
    assert body["status"]["conditions"][0]["lastTransitionTime"] == since


def test_where_nobody_said_since_when_it_is_since_now() -> None:
    assert (
        patch(ObjectStatus(CONDITIONS), ObjectStatus(CONDITIONS))["status"]["conditions"]
        == GOLDEN["conditions"]
    )


def test_and_that_is_read_back() -> None:
    now = read(GOLDEN)
    assert now.since == {"Accepted": "2026-09-21T14:13:20Z", "Draining": "2026-09-21T14:13:20Z"}
    later = json.loads(status_patch(now, ObjectStatus(CONDITIONS, USED), NOW + 1e6))
    assert later == {"status": GOLDEN}


# --- there and back -------------------------------------------------------------------------------------

text = st.text(st.characters(codec="utf-8"), max_size=20)
count = st.integers(0, MOST)
addresses = st.ip_addresses()
seconds = st.integers(0, 250_000_000_000).map(float)  # until the year 9892
ranges = st.tuples(addresses, addresses).filter(lambda ends: ends[0].version == ends[1].version)
some_pool = st.builds(
    PoolStatus,
    *[count] * 7,
    st.lists(st.builds(Released, addresses, text, seconds), max_size=3).map(tuple),
    st.lists(ranges.map(lambda ends: Range(*ends)), max_size=3).map(tuple),
)
some_condition = st.builds(Condition, text, st.sampled_from(["True", "False"]), text, text, count)
some_tally = st.builds(Tally, count, count, st.lists(st.tuples(text, text), max_size=3).map(tuple))
some_status = st.builds(
    ObjectStatus,
    st.lists(some_condition, max_size=3).map(tuple),
    st.none() | some_pool,
    st.none() | some_tally,
)


@given(some_status, some_status)
def test_what_is_written_is_what_is_read(before: ObjectStatus, status: ObjectStatus) -> None:
    if not status.conditions:
        before = replace(before, conditions=())  # an object has them for ever, once it has any
    if status.pool is None:
        before = replace(before, pool=None)
    if status.tally is None:
        before = replace(before, tally=None)
    there = merged({}, patch(before))
    assert read(merged(there, patch(status))["status"]).status == status


# --- whatever is there ----------------------------------------------------------------------------------


def test_what_cannot_be_read_is_left_out_and_the_rest_is_not() -> None:
    status = {
        "conditions": [7, {"type": "Accepted", "status": "Unknown"}, None],
        "assignedIPv4": "three",
        "availableIPv4": 2.5,
        "pending": 2,
        "released": [
            "x",
            {"address": "192.0.2.1"},
            {"address": "192.0.2.1", "until": "tomorrow"},
            {"address": "192.0.2.300", "until": "2026-09-21T14:13:20Z"},
            {"address": "192.0.2.2", "until": "2026-09-21T14:13:20Z"},
        ],
        "assigned": ["192.0.2.1", "192.0.2.1-::1", 5, None, "a-b", "192.0.2.3-192.0.2.4"],
    }
    assert read(status).status == ObjectStatus(
        (Condition("Accepted", "False", "", ""),),
        PoolStatus(
            pending=2, released=(Released(ip("192.0.2.2"), "", NOW),), in_use=(span("192.0.2.3-192.0.2.4"),)
        ),
    )


FIELDS = ["conditions", *GOLDEN, "accepted", "refused", "refusals", "type", "until", "address", "x"]
anything = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | text,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(FIELDS), inner, max_size=4),
    max_leaves=12,
)


@given(st.dictionaries(st.sampled_from(FIELDS), anything))
def test_nothing_in_a_status_is_too_odd_to_be_read_and_put_right(status: dict[str, Any]) -> None:
    found = read(status)
    body = status_patch(found, ObjectStatus(CONDITIONS, USED), NOW)
    assert read(merged(status, json.loads(body)["status"])).status.pool == USED


@pytest.mark.parametrize("status", [None, {}, [], "", {"conditions": None}])
def test_no_status_at_all(status: object) -> None:
    assert read(status).status == EMPTY


def test_half_a_summary() -> None:
    assert read({"accepted": 3, "refusals": ["x", {"object": "a"}]}).status.tally == Tally(3, 0, (("a", ""),))


def test_an_object_is_known_by_its_metadata() -> None:
    found = read({}, generation=4, resourceVersion="77", finalizers=["a", "b"], deletionTimestamp=BEFORE)
    assert (found.generation, found.version, found.finalizers, found.deleted) == (4, "77", ("a", "b"), True)
    body = {"apiVersion": "lbspeaker.io/v1beta1", "kind": "IPAddressPool", "metadata": {"name": "lan"}}
    change = kube.configuration({**body, "status": GOLDEN})
    assert isinstance(change.value, Written)
    assert (change.value.status.pool, change.value.document) == (USED, body)
