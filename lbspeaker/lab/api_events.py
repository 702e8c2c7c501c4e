"""Events have two shapes, v1 and events.k8s.io/v1, and one storage: the first.

Source: `pkg/apis/events/v1/conversion.go` of Kubernetes, by its table of field names.
"""

from typing import Any

from lbspeaker.lab.api_errors import Cause, required, wrong

Json = dict[str, Any]

# events.k8s.io/v1 → v1
_NAMES = {
    "regarding": "involvedObject",
    "note": "message",
    "reportingController": "reportingComponent",
    "deprecatedSource": "source",
    "deprecatedFirstTimestamp": "firstTimestamp",
    "deprecatedLastTimestamp": "lastTimestamp",
    "deprecatedCount": "count",
}
_TIMES = ("eventTime", "firstTimestamp", "lastTimestamp")  # null if not set
_BACK = {core: modern for modern, core in _NAMES.items()}


def to_core(event: Json) -> Json:
    """Return an events.k8s.io/v1 Event as a v1 Event (both without apiVersion)."""
    return {_NAMES.get(key, key): value for key, value in event.items()}


def from_core(event: Json) -> Json:
    """Return a v1 Event as an events.k8s.io/v1 Event."""
    hidden = [key for key in ("reportingComponent", "reportingInstance") if not event[key]]
    return {_BACK.get(key, key): value for key, value in event.items() if key not in hidden}


def admit_event(new: Json, old: Json | None) -> tuple[Json, list[Cause]]:
    """Return a v1 Event as it is stored, and what is wrong with it."""
    event = {**dict.fromkeys(_TIMES), "source": {}, "reportingComponent": "", "reportingInstance": "", **new}
    event["involvedObject"] = about = new.get("involvedObject") or {}
    home = about.get("namespace") or "default"
    if home != new["metadata"].get("namespace"):
        why = "does not match event.namespace"
        return event, [wrong("involvedObject.namespace", about.get("namespace", ""), why)]
    return event, []


def missing_in_modern(event: Json) -> list[Cause]:
    """Return what events.k8s.io/v1 demands of a new Event (in its v1 shape) and v1 does not."""
    if not event.get("eventTime"):
        return [required("eventTime")]
    wanted = {
        "reportingController": "reportingComponent",
        "reportingInstance": "reportingInstance",
        "action": "action",
        "reason": "reason",
    }
    return [required(shown) for shown, name in wanted.items() if not event.get(name)]
