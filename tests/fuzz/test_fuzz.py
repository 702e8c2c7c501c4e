"""Some thousand inputs for each parser, all that ever failed, and whether the fuzzer would see a mistake."""

import subprocess
import sys
from pathlib import Path
from random import Random

import pytest

from lbspeaker.errors import Malformed
from tests.fuzz import engine
from tests.fuzz.engine import CORPUS, Failure, attempt, fuzz
from tests.fuzz.mutations import of_bytes, of_json, tokens
from tests.fuzz.parsers import PARSERS, Parser

ROOT = Path(__file__).parents[2]
FRAMES = ("arp", "ndp", "hello", "bfd")
KEPT = sorted(CORPUS.glob("*/*.bin"))


@pytest.mark.parametrize("name", PARSERS)
def test_only_malformed_comes_out(name: str) -> None:
    outcome = fuzz(name, 20_000 if name in FRAMES else 8_000, seed=0)
    new = list(outcome.failures.values())
    assert not new, [(failure.exception, failure.where, failure.data.hex()) for failure in new]
    assert 0.1 < outcome.accepted / outcome.inputs < 0.9, "nonsense alone, or no nonsense, finds nothing"


@pytest.mark.parametrize("path", KEPT, ids=lambda path: f"{path.parent.name}-{path.stem}")
def test_what_failed_once(path: Path) -> None:
    parser = PARSERS[path.parent.name]
    found = attempt(parser, path.read_bytes())
    assert not isinstance(found, Failure), found


@pytest.mark.parametrize("name", PARSERS)
def test_what_is_altered_was_right_before(name: str) -> None:
    parser = PARSERS[name]
    accepted = [attempt(parser, seed) for seed in parser.seeds]
    assert True in accepted
    assert not [found for found in accepted if isinstance(found, Failure)]
    if name in (*FRAMES, "order", "report", "watch-order", "watch-report"):
        assert all(accepted)


REASONS = {
    "arp": {"too short", "not ARP"},
    "ndp": {"not ICMPv6", "hop limit", "neither", "checksum", "an option of a length", "not allowed"},
    "bfd": {"too short", "version", "length", "multiplier", "multipoint", "of 0", "key", "without our"},
    "hello": {"not a hello", "group", "version", "length", "tag", "a name", "a member that is neither"},
}


@pytest.mark.parametrize("name", REASONS)
def test_every_refusal_of_a_frame_is_reached(name: str) -> None:
    random, reached = Random(0), set()
    for _ in range(20_000):
        try:
            PARSERS[name].check(PARSERS[name].mutate(random))
        except Malformed as error:
            reached |= {reason for reason in REASONS[name] if reason in error.what}
    assert reached == REASONS[name]


def test_the_same_seed_gives_the_same_inputs() -> None:
    for name, parser in PARSERS.items():
        one, other, third = Random(f"1 {name}"), Random(f"1 {name}"), Random(f"2 {name}")
        inputs = [parser.mutate(one) for _ in range(50)]
        assert inputs == [parser.mutate(other) for _ in range(50)]
        assert inputs != [parser.mutate(third) for _ in range(50)]


def careless(data: bytes) -> int:
    """A parser that trusts a length."""
    if data[:1] != b"\x01":
        raise Malformed("no")
    return sum(data[2 + place] for place in range(data[1]))


def test_a_mistake_is_found_and_told_with_its_shortest_input(monkeypatch: pytest.MonkeyPatch) -> None:
    seeds = (b"\x01\x03abc", b"\x01\x0aabcdefghij")
    parser = Parser(careless, seeds, lambda random: of_bytes(random, seeds))
    monkeypatch.setitem(engine.PARSERS, "careless", parser)
    outcome = fuzz("careless", 2000, seed=1)
    (where, failure), *_ = outcome.failures.items()
    assert where[0] == "IndexError"
    assert failure.times > 50
    assert len(failure.data) <= 3
    again = Random("1 careless")
    assert [parser.mutate(again) for _ in range(failure.number + 1)][-1] == failure.data


def test_json_is_mostly_json_still_and_sometimes_deep() -> None:
    text = b'{"a": [1, "x\\"y", null], "b": {"c": true}}'
    assert tokens(text) == [
        *(b"{", b'"a"', b":", b"[", b"1", b",", b'"x\\"y"', b",", b"null", b"]", b","),
        *(b'"b"', b":", b"{", b'"c"', b":", b"true", b"}", b"}"),
    ]
    random = Random(0)
    found = [of_json(random, [tokens(text)]) for _ in range(5000)]
    assert any(one.count(b"[") > 2000 for one in found)
    assert sum(one.startswith(b"{") and one.endswith(b"}") for one in found) > 3000


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [(["arp", "--inputs", "500"], 0, "0 failures"), (["no"], 2, "no parser is called no")],
)
def test_the_command(arguments: list[str], code: int, said: str) -> None:
    command = [sys.executable, "-m", "tests.fuzz", *arguments]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert done.returncode == code
    assert said in done.stdout + done.stderr
