"""Tables: the columns that `kubectl get` shows, and an object's cells. Ages are against a given `now_s`."""

from collections.abc import Callable, Sequence
from datetime import datetime
from typing import Any

import msgspec

from lbspeaker.lab import api_jsonpath

Json = dict[str, Any]
Cells = Callable[[Json, float], list[Any]]


def column(name: str, kind: str = "string", *, wide: bool = False, form: str = "") -> Json:
    form = form or ("name" if name == "Name" else "")
    return {"name": name, "type": kind, "format": form, "description": "", "priority": int(wide)}


def age(timestamp: str | None, now_s: float) -> str:
    """Return how long ago an RFC 3339 time was: "5s", "3m12s", "4h", "9d", "2y1d"."""
    if not timestamp:
        return "<unknown>"
    try:
        then = datetime.fromisoformat(timestamp.replace("Z", "+00:00")).timestamp()
    except ValueError:
        return "<invalid>"
    return duration(now_s - then)


def duration(seconds: float) -> str:
    """Return a duration as kubectl does: two units while they are small, then one."""
    total = int(seconds)
    if total < -1:
        return "<invalid>"
    if total < 0:
        return "0s"
    minutes, hours, days = total // 60, total // 3600, total // 86400
    if total < 120:
        return f"{total}s"
    if minutes < 10:
        return f"{minutes}m" + (f"{total % 60}s" if total % 60 else "")
    if minutes < 180:
        return f"{minutes}m"
    if hours < 8:
        return f"{hours}h" + (f"{minutes % 60}m" if minutes % 60 else "")
    if hours < 48:
        return f"{hours}h"
    if days < 8:
        return f"{days}d" + (f"{hours % 24}h" if hours % 24 else "")
    if days < 730:
        return f"{days}d"
    years = days // 365
    if years < 8:
        return f"{years}y" + (f"{days % 365}d" if days % 365 else "")
    return f"{years}y"


def name_of(obj: Json) -> str:
    name: str = obj["metadata"]["name"]
    return name


def created(obj: Json, now_s: float) -> str:
    return age(obj["metadata"].get("creationTimestamp"), now_s)


def plain_cells(obj: Json, now_s: float) -> list[Any]:
    return [name_of(obj), obj["metadata"].get("creationTimestamp")]


PLAIN = [column("Name"), column("Created At", "date")]


# --- custom resources -----------------------------------------------------------------------------------

_AGE = {"name": "Age", "type": "date", "jsonPath": ".metadata.creationTimestamp"}


def custom_layout(columns: Sequence[Json]) -> tuple[Sequence[Json], Cells]:
    """Return the layout for a CRD's additionalPrinterColumns (none: the age)."""
    chosen = list(columns) or [_AGE]
    shown = [
        {
            "name": c["name"],
            "type": c["type"],
            "format": c.get("format", ""),
            "description": c.get("description", ""),
            "priority": c.get("priority", 0),
        }
        for c in chosen
    ]

    def cells(obj: Json, now_s: float) -> list[Any]:
        return [name_of(obj), *(_custom_cell(obj, c, now_s) for c in chosen)]

    return [column("Name"), *shown], cells


def _custom_cell(obj: Json, wanted: Json, now_s: float) -> Any:
    try:
        values = api_jsonpath.find(obj, wanted["jsonPath"])
    except api_jsonpath.BadPath:
        return None
    if not values:
        return None
    if wanted["type"] == "date":
        return age(str(values[0]), now_s)
    if wanted["type"] == "string" and not isinstance(values[0], str):
        return msgspec.json.encode(values[0]).decode()
    return values[0]
