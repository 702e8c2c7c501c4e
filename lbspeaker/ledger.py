"""Allocations without an API server: kept in a file next to the documents.

With documents in a directory there is no Service status to hold an allocation. Programs that begin with the
same documents and the same ledger come to the same allocations; the ledger keeps them over a restart, so that
a new document moves nobody.
"""

import json
import os
import time
from collections import Counter
from collections.abc import Iterable
from dataclasses import replace
from ipaddress import ip_address
from pathlib import Path
from typing import Any

import structlog

from lbspeaker.core.controller import Assign, Controller, Tell
from lbspeaker.core.services import with_allocation
from lbspeaker.errors import Malformed
from lbspeaker.model import Address, Change, Kind, Service, Snapshot, Synced

NAME = ".lbspeaker-allocations.json"

_Entry = tuple[tuple[Address, ...], str]  # IPs, and their pool


def remembered(snapshot: Snapshot, paths: Iterable[str]) -> Snapshot:
    """Return `snapshot` with what Services hold by the ledgers of `paths`, of those that have one.

    They are only read. Raises Malformed if one cannot be.
    """
    entries: dict[str, _Entry] = {}
    for path in paths:
        entries |= _read(Path(path) / NAME)
    services = {key: _holding(one, entries.get(key)) for key, one in snapshot.services.items()}
    return replace(snapshot, services=services)


def _holding(service: Service, entry: _Entry | None) -> Service:
    """What the status of a Service says comes first."""
    if service.held or entry is None:
        return service
    ips, pool = entry
    return replace(service, held=ips, held_pool=pool, given=ips)


def _read(path: Path) -> dict[str, _Entry]:
    """By service; empty if there is no ledger. Raises Malformed."""
    try:
        found = json.loads(path.read_text())
        return {key: (tuple(map(ip_address, e["ips"])), str(e["pool"])) for key, e in found.items()}
    except (FileNotFoundError, NotADirectoryError):
        return {}
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise Malformed(
            f"{path}: it cannot be read ({error})", "without it allocations are made anew"
        ) from None


class Ledger:
    """The allocations of one directory."""

    def __init__(self, directory: Path, load_balancer_class: str | None = None) -> None:
        self._path = directory / NAME
        self._log: Any = structlog.get_logger()
        self._controller = Controller(load_balancer_class)
        self.counts: Counter[tuple[str, str]] = Counter()  # as `wire.measures` has it
        self._entries = self._begin()

    @property
    def controller(self) -> Controller:
        """Who decides."""
        return self._controller

    def observe(self, change: Change | Synced) -> Change | Synced:
        """Take note of what a document says, and return what it comes to.

        A Service without a status holds what the ledger says.
        """
        if isinstance(change, Change) and change.kind is Kind.SERVICE:
            if isinstance(change.value, Service):
                change = Change(Kind.SERVICE, change.key, self._with_entry(change.value))
            else:
                self._entries.pop(change.key, None)
        self._controller.observe(change)
        return change

    def advance(self) -> list[Change]:
        """Allocate; return the services as they are now, those that changed."""
        changes = []
        while effects := self._controller.advance(
            time.time()
        ):  # what one service leaves, another may have waited for
            for effect in effects:
                if isinstance(effect, Assign):
                    changes.append(self._assign(effect))
                elif isinstance(effect, Tell):
                    refusal = effect.refusal
                    service = effect.service.key
                    self.counts["refusals", refusal.reason.value] += 1
                    self._log.warning(
                        "refused", service=service, reason=refusal.reason.value, why=refusal.message
                    )
        if changes:
            self._write()
        return changes

    def _assign(self, effect: Assign) -> Change:
        service, allocation = effect.service, effect.allocation
        if allocation is None:
            self._entries.pop(service.key, None)
            self.counts["releases", ""] += 1
            self._log.info("released", service=service.key)
        else:
            self._entries[service.key] = (allocation.ips, allocation.pool)
            ips = ",".join(map(str, allocation.ips))
            self.counts["allocations", ""] += 1
            self._log.info("allocated", service=service.key, ips=ips, pool=allocation.pool)
        held = self._with_entry(with_allocation(service, None))
        change = Change(Kind.SERVICE, service.key, held)
        self._controller.observe(change)
        return change

    def _with_entry(self, service: Service) -> Service:
        return _holding(service, self._entries.get(service.key))

    def _begin(self) -> dict[str, _Entry]:
        try:
            return _read(self._path)
        except Malformed as error:
            self._log.warning("ledger-ignored", why=error.what, hint=error.hint)
            return {}

    def _write(self) -> None:
        """Replace the file whole: whoever reads it sees the old or the new one."""
        entries = {k: {"ips": list(map(str, ips)), "pool": pool} for k, (ips, pool) in self._entries.items()}
        temporary = self._path.with_suffix(f".{os.getpid()}")
        try:
            temporary.write_text(json.dumps(entries, indent=1, sort_keys=True) + "\n")
            temporary.replace(self._path)
        except OSError as error:
            why = f"{error.strerror}; after a restart, allocations may differ"
            self._log.warning("ledger-unwritten", file=str(self._path), why=why)
