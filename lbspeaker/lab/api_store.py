"""Objects, their versions and their history: what etcd and the watch cache are to a real API server.

One counter, the resourceVersion, numbers every change of every table. A change makes a new `Entry`; entries
are never altered, so the history, the watchers and the pages of a list share them, and each object is encoded
once per change. The history of a table is bounded: what is older than its first event is gone (HTTP 410).

No clock, no I/O: who calls decides what the objects say.
"""

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Literal

import msgspec

Json = dict[str, Any]
TableName = tuple[str, str]  # (group, plural): the versions of a resource share it

HISTORY = 16_384  # events per table


@dataclass(frozen=True, slots=True)
class Entry:
    """One object at one version.

    `key` is "namespace/name" or "name"; `object` lacks kind and apiVersion, which depend on the version
    it is served in; `tail` is its JSON without the opening brace, so that they can be put in front.
    """

    key: str
    namespace: str
    rv: int
    object: Json
    tail: bytes = field(repr=False)

    @property
    def name(self) -> str:
        name: str = self.object["metadata"]["name"]
        return name

    @property
    def labels(self) -> dict[str, str]:
        labels: dict[str, str] = self.object["metadata"].get("labels") or {}
        return labels


@dataclass(frozen=True, slots=True)
class Event:
    """One change. `old` is None if the object is new; of a deleted one, `new` is its last state."""

    type: Literal["ADDED", "MODIFIED", "DELETED"]
    old: Entry | None
    new: Entry

    @property
    def rv(self) -> int:
        return self.new.rv


class Forgotten(Exception):
    """The history does not reach back to the version asked for: it starts after `oldest`."""

    def __init__(self, oldest: int) -> None:
        super().__init__(f"history starts after {oldest}")
        self.oldest = oldest


@dataclass(slots=True)
class Table:
    rows: dict[str, Entry] = field(default_factory=dict)
    events: deque[Event] = field(default_factory=deque)
    oldest: int = 0  # changes up to this version are forgotten


def seal(key: str, obj: Json, rv: int) -> Entry:
    """Return `obj` as the entry of version `rv` (0: of none yet); `obj` itself stays as it is."""
    metadata = {**obj["metadata"], "resourceVersion": str(rv)} if rv else obj["metadata"]
    stored = {**obj, "metadata": metadata}
    namespace = metadata.get("namespace", "")
    return Entry(key, namespace, rv, stored, msgspec.json.encode(stored)[1:])


class Store:
    """All tables, one version counter; `publish` is called with each event, after it happened."""

    def __init__(self, history: int = HISTORY) -> None:
        self.rv = 1
        self.history = history
        self.tables: dict[TableName, Table] = {}
        self.publish: Callable[[TableName, Event], None] = lambda table, event: None

    def table(self, name: TableName) -> Table:
        table = self.tables.get(name)
        if table is None:
            table = self.tables[name] = Table()
        return table

    def get(self, name: TableName, key: str) -> Entry | None:
        return self.table(name).rows.get(key)

    def put(self, name: TableName, key: str, obj: Json) -> Entry:
        """Create or replace the object at `key`, and return its new entry."""
        table = self.table(name)
        old = table.rows.get(key)
        self.rv += 1
        new = seal(key, obj, self.rv)
        table.rows[key] = new
        self._record(name, table, Event("MODIFIED" if old else "ADDED", old, new))
        return new

    def remove(self, name: TableName, key: str, last: Json | None = None) -> Entry:
        """Delete the object at `key`; `last` is its final state, if that differs from what is stored."""
        table = self.table(name)
        old = table.rows.pop(key)
        self.rv += 1
        new = seal(key, old.object if last is None else last, self.rv)
        self._record(name, table, Event("DELETED", old, new))
        return new

    def _record(self, name: TableName, table: Table, event: Event) -> None:
        table.events.append(event)
        if len(table.events) > self.history:
            table.oldest = table.events.popleft().rv
        self.publish(name, event)

    def entries(self, name: TableName, namespace: str = "", rv: int | None = None) -> list[Entry]:
        """Return the table, or one namespace of it, sorted by key, as it is now or was at version `rv`.

        Raises Forgotten if `rv` is before the table's history.
        """
        rows = self.table(name).rows
        if rv is not None and rv < self.rv:
            rows = self._rewind(self.table(name), rv)
        keys = sorted(rows)
        if namespace:
            return [row for key in keys if (row := rows[key]).namespace == namespace]
        return [rows[key] for key in keys]

    def _rewind(self, table: Table, rv: int) -> dict[str, Entry]:
        if rv < table.oldest:
            raise Forgotten(table.oldest)
        rows = dict(table.rows)
        for event in reversed(table.events):
            if event.rv <= rv:
                break
            if event.old is None:
                rows.pop(event.new.key, None)
            else:
                rows[event.old.key] = event.old
        return rows

    def since(self, name: TableName, rv: int) -> list[Event]:
        """Return the changes of a table after version `rv`, oldest first.

        Raises Forgotten if the history does not reach back that far.
        """
        table = self.table(name)
        if rv < table.oldest:
            raise Forgotten(table.oldest)
        found: list[Event] = []
        for event in reversed(table.events):
            if event.rv <= rv:
                break
            found.append(event)
        found.reverse()
        return found

    def forget(self) -> None:
        """Drop all history: every version handed out so far is too old, as after a restart of the server."""
        self.rv += 1
        for table in self.tables.values():
            table.events.clear()
            table.oldest = self.rv
