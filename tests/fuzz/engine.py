"""Give a parser many inputs, and tell what came out of it that should not."""

import hashlib
import time
import traceback
from dataclasses import dataclass, field
from pathlib import Path
from random import Random

from lbspeaker.errors import Malformed
from tests.fuzz.parsers import PARSERS, Parser

CORPUS = Path(__file__).parent / "corpus"


@dataclass
class Failure:
    """One kind of exception from one place, with the shortest input that raised it."""

    exception: str  # as repr says it
    where: str
    number: int  # of the input, among those of its seed
    data: bytes
    times: int = 1

    @property
    def type(self) -> str:
        return self.exception.partition("(")[0]


@dataclass
class Outcome:
    name: str
    inputs: int = 0
    accepted: int = 0
    seconds: float = 0.0
    slowest_s: float = 0.0
    failures: dict[tuple[str, str], Failure] = field(default_factory=dict)


def fuzz(name: str, inputs: int, seed: int) -> Outcome:
    parser, random, outcome = PARSERS[name], Random(f"{seed} {name}"), Outcome(name, inputs)
    began = time.perf_counter()
    for number in range(inputs):
        data = parser.mutate(random)
        before = time.perf_counter()
        failure = attempt(parser, data, number)
        outcome.slowest_s = max(outcome.slowest_s, time.perf_counter() - before)
        if isinstance(failure, Failure):
            note(outcome, failure)
        else:
            outcome.accepted += failure
    outcome.seconds = time.perf_counter() - began
    return outcome


def attempt(parser: Parser, data: bytes, number: int = 0) -> Failure | bool:
    """Return whether `data` was accepted, or how it failed."""
    try:
        parser.check(data)
    except Malformed:
        return False
    except Exception as error:
        last = traceback.extract_tb(error.__traceback__)[-1]
        return Failure(repr(error)[:200], f"{Path(last.filename).name}:{last.lineno}", number, data)
    return True


def note(outcome: Outcome, failure: Failure) -> None:
    kind = (failure.type, failure.where)
    known = outcome.failures.setdefault(kind, failure)
    if known is failure:
        return
    known.times += 1
    if len(failure.data) < len(known.data):
        known.exception, known.number, known.data = failure.exception, failure.number, failure.data


def keep(name: str, data: bytes) -> Path:
    """Put an input into the corpus; its name is what it contains."""
    path = CORPUS / name / f"{hashlib.sha256(data).hexdigest()[:12]}.bin"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)
    return path
