"""What the programs count and measure of themselves, beside what they are (`status`): values for `metrics`.

Counts are by what is counted and one word more, such as ("claims", "takeover"); they begin with the program.
"""

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Literal

import msgspec

from lbspeaker.model import ConfigSet, Distribution, PoolStatus

Count = tuple[str, str]


@dataclass(frozen=True, slots=True)
class Configured:
    """The configuration in force: since when here (Unix time), how many objects count how, what it says.

    `hash` is the same wherever the same objects are in force.
    """

    since: float
    accepted: int
    doubtful: int  # of the accepted
    refused: int
    hash: int

    @property
    def word(self) -> str:
        """The hash as text."""
        return f"{self.hash:012x}"


@dataclass(frozen=True, slots=True)
class Measures:
    """Of either program. `ready`: as /readyz says. API errors are by method and reason.

    `follows`: it is to have a configuration; a controller that stands by is not.
    """

    program: Literal["controller", "speaker"]
    version: str
    ready: bool
    turns: Distribution
    counts: Mapping[Count, int] = field(default_factory=dict)
    requests: Mapping[str, int] = field(default_factory=dict)
    api_errors: Mapping[tuple[str, str], int] = field(default_factory=dict)
    configured: Configured | None = None
    follows: bool = True


@dataclass(frozen=True, slots=True)
class OfSpeaker:
    """Of a speaker alone.

    `delays`: until Services are announced, by protocol and since when. `detection_s`: of the last death that
    was noticed, by its sign. `unannounced`: service IPs that no node announces, by reason. `announced`: who
    is announced from here, as (service, protocol, IP); only where it is wanted, as it is long.
    """

    delays: Mapping[tuple[str, str], Distribution] = field(default_factory=dict)
    detection_s: Mapping[str, float] = field(default_factory=dict)
    unannounced: Mapping[str, int] = field(default_factory=dict)
    announced: tuple[tuple[str, str, str], ...] = ()


@dataclass(frozen=True, slots=True)
class OfController:
    """Of a controller alone. `leads_since` (Unix time): None for one that stands by, and knows no more.

    Services by what they have; `pending` and `lacking` (they have an IP, and lack something) by reason.
    """

    leads_since: float | None = None
    allocated: int = 0
    pending: Mapping[str, int] = field(default_factory=dict)
    lacking: Mapping[str, int] = field(default_factory=dict)
    pools: Mapping[str, PoolStatus] = field(default_factory=dict)
    writes_waiting: int = 0
    published: bool = False


def configured(config: ConfigSet, now: float) -> Configured:
    """Return what is to be said of a configuration that came into force at `now`."""
    accepted = [verdict for verdict in config.verdicts if verdict.accepted]
    doubtful = sum(verdict.doubtful for verdict in accepted)
    refused = len(config.verdicts) - len(accepted)
    return Configured(now, len(accepted), doubtful, refused, hash_of(config.documents))


def hash_of(documents: Iterable[Mapping[str, object]]) -> int:
    """Return a number for what the documents say, in whatever order: 48 bits, which a float can hold."""
    lines = sorted(msgspec.json.encode(_plain(document), order="sorted") for document in documents)
    return int.from_bytes(hashlib.sha256(b"\n".join(lines)).digest()[:6])


def _plain(value: object) -> object:
    """The same with keys that are text: in YAML they may be anything."""
    if isinstance(value, Mapping):
        return {str(key): _plain(inside) for key, inside in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(inside) for inside in value]
    return value
