"""Watches: who wants to hear of which changes, and the lines that still have to be written to them.

`Hub.publish` is called for every change, in order, and only appends to the watches' queues; each line is
encoded once, however many watches want it. A selector turns changes around: an object that starts to match is
ADDED, one that stops to match is DELETED (as it was, at the new version).
"""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field

from lbspeaker.lab import api_render
from lbspeaker.lab.api_render import Style
from lbspeaker.lab.api_resources import Resource
from lbspeaker.lab.api_select import Filter
from lbspeaker.lab.api_store import Entry, Event, TableName, seal

BACKLOG = 20_000  # lines; a client that is further behind is cut off, and has to resume


def seen_through(event: Event, chosen: Filter) -> tuple[str, Entry] | None:
    """Return the type and the entry that a watch with this filter shows for `event`; None: nothing."""
    if event.type == "DELETED":
        was = event.old is not None and chosen.selects(event.old.object)
        return ("DELETED", event.new) if was else None
    now = chosen.selects(event.new.object)
    before = event.old is not None and chosen.selects(event.old.object)
    if now:
        return ("MODIFIED" if before else "ADDED"), event.new
    if before:
        assert event.old is not None
        return "DELETED", seal(event.old.key, event.old.object, event.rv)
    return None


@dataclass(slots=True, eq=False)
class Watch:
    """One client's watch. `after`: the version it has seen; `lines`: what it has not been sent yet."""

    resource: Resource
    chosen: Filter
    style: Style
    after: int
    lines: list[bytes] = field(default_factory=list)
    awake: asyncio.Event = field(default_factory=asyncio.Event)
    ended: bool = False
    with_header: bool = True

    def add(self, line: bytes) -> None:
        if len(self.lines) >= BACKLOG:
            self.end()
        elif not self.ended:
            self.lines.append(line)
            self.awake.set()

    def end(self) -> None:
        self.ended = True
        self.awake.set()

    def take(self) -> bytes:
        """Return everything that is still to be written, and forget it."""
        data = b"".join(self.lines)
        self.lines.clear()
        self.awake.clear()
        return data


class Hub:
    """All watches. `now_s` reads the clock, for the ages in Tables."""

    def __init__(self, now_s: Callable[[], float]) -> None:
        self._now_s = now_s
        self._watches: dict[TableName, set[Watch]] = {}

    def __len__(self) -> int:
        return sum(len(watches) for watches in self._watches.values())

    def open(self, watch: Watch) -> None:
        self._watches.setdefault(watch.resource.table, set()).add(watch)

    def close(self, watch: Watch) -> None:
        self._watches.get(watch.resource.table, set()).discard(watch)

    def end_all(self) -> None:
        """End every watch cleanly, as a server under load does."""
        for watches in self._watches.values():
            for watch in watches:
                watch.end()

    def publish(self, table: TableName, event: Event) -> None:
        watches = self._watches.get(table)
        if not watches:
            return
        lines: dict[tuple[str, str, int], bytes] = {}
        for watch in watches:
            self.show(watch, event, lines)

    def show(
        self, watch: Watch, event: Event, lines: dict[tuple[str, str, int], bytes] | None = None
    ) -> None:
        """Queue `event` for one watch; `lines` remembers what is encoded already."""
        if event.rv <= watch.after:
            return
        if watch.chosen.everything and not watch.chosen.namespace:
            shown: tuple[str, Entry] | None = (event.type, event.new)
        else:
            shown = seen_through(event, watch.chosen)
        if shown is None:
            return
        kind, entry = shown
        if watch.style.form != "json" or lines is None:
            watch.add(self.line(watch, kind, entry))
            return
        key = (kind, watch.resource.api_version, id(entry) if entry is event.new else 0)
        line = lines.get(key)
        if line is None:
            line = lines[key] = self.line(watch, kind, entry)
        watch.add(line)

    def line(self, watch: Watch, kind: str, entry: Entry) -> bytes:
        header, watch.with_header = watch.with_header, False
        return api_render.watch_line(kind, watch.resource, entry, watch.style, self._now_s(), header=header)
