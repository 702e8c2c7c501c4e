"""The status of configuration objects, as JSON and as a value. Times are Unix times in seconds."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from datetime import UTC, datetime
from typing import Any, Literal, TypeVar

import msgspec

from lbspeaker.model import (
    Condition,
    ObjectStatus,
    PoolStatus,
    Range,
    Released,
    Tally,
    Written,
    address_of,
)

Json = Mapping[str, Any]
T = TypeVar("T")

_encode = msgspec.json.Encoder().encode
_COUNTS = {
    "assigned_v4": "assignedIPv4",
    "assigned_v6": "assignedIPv6",
    "available_v4": "availableIPv4",
    "available_v6": "availableIPv6",
}
_OWN_COUNTS = {"size_v4": "sizeIPv4", "size_v6": "sizeIPv6", "pending": "pending"}


def time_text(now: float) -> str:
    """Return a meta/v1 Time."""
    return datetime.fromtimestamp(now, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


# --- to JSON --------------------------------------------------------------------------------------------


def status_patch(written: Written, status: ObjectStatus, now: float) -> bytes:
    """Return the merge-patch for the status of `written`."""
    body: dict[str, Any] = {}
    if status.conditions:
        body["conditions"] = [
            condition_body(condition, _since(written, condition, now)) for condition in status.conditions
        ]
    if status.pool is None and written.status.pool is not None:
        body |= dict.fromkeys((*_COUNTS.values(), *_OWN_COUNTS.values(), "released", "assigned"))
    if status.pool is not None:
        body |= _pool_body(status.pool, written.foreign)
    if status.tally is not None:
        body |= {"accepted": status.tally.accepted, "refused": status.tally.refused}
        body["refusals"] = [{"object": key, "message": message} for key, message in status.tally.refusals]
    return _encode({"status": body})


def condition_body(condition: Condition, since: str) -> dict[str, Any]:
    """Return a condition (meta/v1 Condition), which has its status since that time."""
    generation = {"observedGeneration": condition.generation} if condition.generation else {}
    return {
        "type": condition.type,
        "status": condition.status,
        "reason": condition.reason,
        "message": condition.message,
        "lastTransitionTime": since,
        **generation,
    }


def _since(written: Written, condition: Condition, now: float) -> str:
    """When the condition got its status: as long as that does not change, neither does this."""
    same = any(c.type == condition.type and c.status == condition.status for c in written.status.conditions)
    return (written.since.get(condition.type) if same else "") or time_text(now)


def _pool_body(pool: PoolStatus, foreign: bool) -> dict[str, Any]:
    counts = {name: getattr(pool, field) for field, name in _COUNTS.items()}
    if foreign:
        return counts
    counts |= {name: getattr(pool, field) for field, name in _OWN_COUNTS.items()}
    released = [
        {"address": str(one.ip), "service": one.service, "until": time_text(one.until)}
        for one in pool.released
    ]
    return {**counts, "released": released or None, "assigned": list(map(str, pool.in_use)) or None}


# --- from JSON ------------------------------------------------------------------------------------------


def condition(obj: Json) -> Condition:
    """Return a condition (meta/v1 Condition) as it is in a status."""
    status: Literal["True", "False"] = "True" if obj.get("status") == "True" else "False"
    kind, reason, message = (str(obj.get(name) or "") for name in ("type", "reason", "message"))
    return Condition(kind, status, reason, message, _count(obj, "observedGeneration"))


def written(key: str, obj: Json, document: Json) -> Written:
    """Return a configuration object of the API; what its status says in no form of ours is not there."""
    metadata = _mapping(obj, "metadata")
    status = _mapping(obj, "status")
    conditions = [one for one in _list(status, "conditions") if isinstance(one, Mapping)]
    return Written(
        key,
        document,
        _count(metadata, "generation"),
        str(metadata.get("resourceVersion") or ""),
        bool(metadata.get("deletionTimestamp")),
        tuple(map(str, _list(metadata, "finalizers"))),
        ObjectStatus(tuple(map(condition, conditions)), _pool(status), _tally(status)),
        {str(one.get("type")): str(one.get("lastTransitionTime") or "") for one in conditions},
    )


def _pool(status: Json) -> PoolStatus | None:
    if "assignedIPv4" not in status:
        return None
    counts = {field: _count(status, name) for field, name in (_COUNTS | _OWN_COUNTS).items()}
    released = tuple(each(_released, _list(status, "released")))
    return PoolStatus(**counts, released=released, in_use=tuple(each(_range, _list(status, "assigned"))))


def _tally(status: Json) -> Tally | None:
    if "accepted" not in status:
        return None
    refusals = [one for one in _list(status, "refusals") if isinstance(one, Mapping)]
    told = tuple((str(one.get("object") or ""), str(one.get("message") or "")) for one in refusals)
    return Tally(_count(status, "accepted"), _count(status, "refused"), told)


def _released(obj: Any) -> Released | None:
    ip = address_of(str(obj.get("address")))
    until = datetime.strptime(str(obj.get("until")), "%Y-%m-%dT%H:%M:%SZ").replace(tzinfo=UTC)
    return Released(ip, str(obj.get("service") or ""), until.timestamp()) if ip else None


def _range(text: Any) -> Range | None:
    first, _, last = str(text).partition("-")
    ends = address_of(first), address_of(last)
    if ends[0] is None or ends[1] is None or ends[0].version != ends[1].version:
        return None
    return Range(ends[0], ends[1])


def each(read: Callable[[Any], T | None], values: Iterable[Any]) -> Iterator[T]:
    """What can be read of the values."""
    for value in values:
        try:
            found = read(value)
        except (ValueError, AttributeError):
            continue
        if found is not None:
            yield found


def _mapping(obj: Json, name: str) -> Json:
    value = obj.get(name)
    return value if isinstance(value, Mapping) else {}


def _list(obj: Json, name: str) -> list[Any]:
    value = obj.get(name)
    return value if isinstance(value, list) else []


def _count(obj: Json, name: str) -> int:
    value = obj.get(name)
    return value if isinstance(value, int) else 0
