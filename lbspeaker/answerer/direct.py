"""To whom a hello also goes alone, where those to the group do not arrive.

Some switches drop multicast that nobody has asked for, and there is no asking for a group that is none of IP.
There, with each hello, a copy goes

* to the members that are heard in no other way: as they do the same, both hear each other all the time;
* to the next few of those that are not heard at all, or do not hear us: who knows whether they are here.

A frame to a MAC that the switch does not know goes to every port, so there are never many.
"""

import math
from collections.abc import Collection, Mapping

from lbspeaker.core.segment import SILENT_AFTER_S

TRIED = 2  # of those that are not heard, with each hello
MOST = 16  # more members would be a storm: the others are known by their Leases
KEPT_S = 2.0  # so long without such a hello, and nobody is sent one


class Direct:
    """What is known of one link."""

    def __init__(self) -> None:
        self._heard: dict[str, float] = {}  # when each node was
        self._in_group: dict[bytes, float] = {}  # when each MAC was heard in the group
        self._alone: dict[bytes, float] = {}  # when each MAC said something to us, and nothing to the group
        self._next = 0

    def heard(self, node: str, mac: bytes, now: float, *, alone: bool) -> None:
        """A hello came from `node`; `alone`: to us, and not to the group."""
        self._heard[node] = now
        if not alone:
            self._in_group[mac] = now
        elif now - self._in_group.get(mac, -math.inf) > SILENT_AFTER_S:
            self._alone[mac] = now

    def due(self, macs: Mapping[bytes, str], alive: Collection[str], now: float) -> list[bytes]:
        """The MACs that get a copy now, of the members that have `macs`; those in `alive` hear us, or did."""
        self._alone = {mac: at for mac, at in self._alone.items() if now - at < KEPT_S}
        lost = [mac for mac, node in macs.items() if node not in alive or self._is_silent(node, now)]
        self._next = (self._next + TRIED) % max(len(lost), 1)
        tried = [*lost[self._next :], *lost[: self._next]][:TRIED]
        return list(dict.fromkeys([*list(self._alone)[:MOST], *tried]))

    def _is_silent(self, node: str, now: float) -> bool:
        return now - self._heard.get(node, -math.inf) > SILENT_AFTER_S
