"""What a speaker says of itself in the cluster: the status of its `Speaker` object, and back.

Lists become maps, by IP, link, peer …, so that a merge-patch (RFC 7386) carries only what has changed: with
10,000 IPs a write is as small as with ten. Which Services have an IP is not said: the Services say so.
"""

from collections.abc import Mapping
from datetime import datetime
from ipaddress import ip_network
from typing import Any

import msgspec

from lbspeaker.errors import Malformed
from lbspeaker.wire.kube_status import time_text
from lbspeaker.wire.status import Status, build

Json = dict[str, Any]

MOST_IPS = 10_000  # 75 bytes each; an object has room for 1.5 MiB
MOST_UNSENT = 1_000  # of each peer, 250 bytes each
MOST_MOVED = 1_000
MOST_PROBLEMS, PROBLEM_CHARS = 20, 500
_KEYS: Mapping[str, tuple[str, ...]] = {  # what a row of each list is known by
    "ips": ("ip",),
    "guards": ("link", "protocol"),
    "peers": ("name",),
    "bfd": ("router",),
    "members": ("node",),
}
_COUNTERS = {"sent", "received", "dropped"}  # of BFD: several each second
_RESTLESS = {  # of a guard: what changes all the time, and is no news
    *("sent", "held_back", "queue", "longest_wait_s", "projected_s", "unpaced"),
    *("coalesced", "expired", "repetitive", "segment_per_s", "recent"),
}


def body(status: Status, now: float) -> Json:
    """Return the status of the object, written at `now` (Unix time)."""
    plain: Json = msgspec.json.decode(build(status))
    found: Json = {name: _keyed(plain[name], keys) for name, keys in _KEYS.items()}
    for one in found["ips"].values():
        one.pop("services", None)
    for one in found["bfd"].values():
        for counter in _COUNTERS:
            one.pop(counter, None)
    for one in found["peers"].values():
        if "unsent" in one:
            one["unsent"] = dict(list(one["unsent"].items())[:MOST_UNSENT])
    found["ips"] = dict(list(found["ips"].items())[:MOST_IPS])
    return {
        "state": status.state,
        "verdict": _verdict(status),
        "version": status.version,
        "config": status.config,
        "started": time_text(status.started),
        "reported": time_text(now),
        "problems": [problem[:PROBLEM_CHARS] for problem in status.problems[:MOST_PROBLEMS]],
        "owned": sum(one.role == "owner" for one in status.ips),
        "alive": sum(one.alive for one in status.members),
        "moves": dict(sorted(status.moves.items(), key=lambda one: (-one[1], one[0]))[:MOST_MOVED]),
        "sessions": f"{sum(one.state == 'up' for one in status.peers)}/{len(status.peers)}",
        **found,
    }


def _keyed(rows: list[Json], keys: tuple[str, ...]) -> dict[str, Json]:
    """Rows by their keys, without those and without what is empty."""
    return {
        "/".join(row[key] for key in keys): {
            name: value for name, value in row.items() if name not in keys and value not in ("", [], {})
        }
        for row in rows
    }


def _verdict(status: Status) -> str:
    if not status.problems:
        return "well"
    more = f" (and {len(status.problems) - 1} more)" if len(status.problems) > 1 else ""
    return status.problems[0][:PROBLEM_CHARS] + more


def news(body: Mapping[str, Any]) -> Json:
    """What of it is worth a write: not the counters of guards, where other IPs moved, when it was written."""
    guards = {
        name: {key: value for key, value in guard.items() if key not in _RESTLESS}
        | {"waits": bool(guard.get("queue"))}
        for name, guard in (body.get("guards") or {}).items()
    }
    return {**body, "guards": guards, "moves": {}, "reported": ""}


def patch(before: Mapping[str, Any], after: Mapping[str, Any]) -> Json:
    """Return the merge-patch (RFC 7386) from one to the other; empty: they are the same."""
    changes: Json = {name: None for name in before if name not in after}
    for name, value in after.items():
        earlier = before.get(name)
        if isinstance(value, dict) and isinstance(earlier, dict):
            if inner := patch(earlier, value):
                changes[name] = inner
        elif value != earlier or name not in before:
            changes[name] = value
    return changes


def parse(obj: Mapping[str, Any]) -> Status:
    """Return what the speaker of that node said, without the Services. Raises Malformed."""
    name = str((obj.get("metadata") or {}).get("name") or "")
    try:
        said = dict(obj.get("status") or {})
        rows = {list_: _rows(said.get(list_) or {}, keys) for list_, keys in _KEYS.items()}
        for one in rows["ips"]:
            one["services"] = ()
        found: Json = {
            "node": name,
            "version": said.get("version") or "",
            "config": said.get("config") or "",
            "state": said.get("state") or "unknown",
            "started": _unix(said.get("started")),
            "api_silent_s": 0.0,
            "pins": {},
            "problems": said.get("problems") or (),
            "moves": said.get("moves") or {},
            **rows,
        }
        status = msgspec.convert(found, Status)
        for guard in status.guards:
            [*map(float, guard.recent)]  # each name is a time
        for peer in status.peers:
            [*map(ip_network, peer.unsent)]
        return status
    except (msgspec.ValidationError, ValueError, TypeError, AttributeError) as error:
        raise Malformed(f"the status of Speaker {name} cannot be read: {error}") from None


def _unix(text: str | None) -> float:
    return datetime.fromisoformat(text).timestamp() if text else 0.0


_EMPTY: Json = {
    "sent": {},
    "held_back": {},
    "recent": {},
    "received": 0,
    "dropped": {},
    "why": "",
    "bfd": "",
    "last_error": "",
}


def _rows(found: Mapping[str, Json], keys: tuple[str, ...]) -> list[Json]:
    empty = {**_EMPTY, "sent": 0} if keys != ("link", "protocol") else _EMPTY
    return [
        {**empty, **one, **dict(zip(keys, key.split("/", len(keys) - 1), strict=True))}
        for key, one in found.items()
    ]
