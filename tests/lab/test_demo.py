"""The demo: its claims hold, they can fail, and nothing is left behind. Slow: it is the whole story."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from lbspeaker.lab import namespaces, rootless
from lbspeaker.lab.lab import directory_of
from lbspeaker.lab.story_claims import all_of, at_most, held, yes
from lbspeaker.lab.story_client import longest_gap

needs_namespaces = pytest.mark.skipif(bool(rootless.obstacle()), reason=rootless.obstacle())

PATIENCE_S = 110.0  # it takes half a minute; a machine that is busy with other things, longer


def command(name: str, *options: str) -> list[str]:
    return [sys.executable, "-m", "lbspeaker", "demo", "--name", name, *options]


def is_gone(name: str) -> bool:
    left = namespaces.existing(f"lbs-{name}-")
    return not left and not directory_of(name).exists() and not processes_of(name)


def processes_of(name: str) -> list[str]:
    """The command lines of processes that were started for this lab."""
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            line = path.read_bytes().replace(b"\0", b" ").decode()
        except OSError:  # it ended meanwhile
            continue
        if f"lbspeaker-{name}/" in line:
            found.append(line)
    return found


@needs_namespaces
@pytest.mark.alone  # it judges seconds
@pytest.mark.lab
@pytest.mark.timeout(PATIENCE_S + 10)
def test_every_claim_of_the_story_holds() -> None:
    name = f"story-{os.getpid()}"
    done = subprocess.run(
        command(name, "-o", "json"), capture_output=True, text=True, timeout=PATIENCE_S, check=False
    )
    assert done.returncode in (0, 1), done.stderr
    report = json.loads(done.stdout)
    broken = [claim for claim in report["claims"] if not claim["held"]]
    assert not broken, done.stderr
    assert done.returncode == 0 and report["held"]
    assert [claim["part"] for claim in report["claims"]] == ["1"] * 7 + ["1b"] * 2 + ["2"] * 7 + ["3"] * 5
    numbers = {claim["what"]: claim["numbers"] for claim in report["claims"]}
    assert numbers["every Service gets an IP of its own"]["count"] == 50
    assert numbers["ARP frames in any second, answers included"]["count"] <= 12
    assert numbers["without the guard a port goes down"]["peak"] > 15
    assert "╌" in done.stderr and "L2Advertisement" in done.stderr, "the progress is on standard error"
    assert is_gone(name)


@needs_namespaces
@pytest.mark.lab
def test_a_profile_that_is_too_fast_for_the_switch_breaks_the_claims() -> None:
    name = f"broken-{os.getpid()}"
    done = subprocess.run(
        command(name, "--guard", "fast", "-o", "json"),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 1, done.stderr
    report = json.loads(done.stdout)
    broken = {claim["what"] for claim in report["claims"] if not claim["held"]}
    assert "no port went down" in broken
    assert "ARP frames in any second, answers included" in broken
    assert "every Service gets an IP of its own" not in broken, (
        "IPs come by the API, whatever the segment does"
    )
    assert not report["held"]
    assert {claim["part"] for claim in report["claims"]} == {"1"}, "a broken chapter is the last one"
    assert is_gone(name)


@needs_namespaces
@pytest.mark.lab
def test_interrupted_it_leaves_nothing_behind() -> None:
    name = f"cut-{os.getpid()}"
    demo = subprocess.Popen(command(name), stdout=subprocess.PIPE, text=True)
    try:
        assert demo.stdout is not None
        until = time.monotonic() + 60
        while time.monotonic() < until and "Services with an IP" not in demo.stdout.readline():
            pass
        demo.send_signal(signal.SIGINT)
        rest, _ = demo.communicate(timeout=20)
    finally:
        demo.kill()
    assert demo.returncode == 130
    assert "interrupted" in rest
    assert is_gone(name)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (("--services", "10"), "--services 10 is too few for 3 nodes: give 24"),
        (("--nodes", "1"), "--nodes"),
        (("--guard", "none"), "--guard"),
    ],
    ids=["so few Services are no storm", "no second node to take over", "no such profile"],
)
def test_what_it_cannot_tell_it_refuses(options: tuple[str, ...], words: str) -> None:
    done = subprocess.run(command("never", *options), capture_output=True, text=True, timeout=30, check=False)
    assert done.returncode == 2
    assert words in done.stderr


# --- claims ---------------------------------------------------------------------------------------------


def test_claims_are_judged_by_what_was_measured() -> None:
    good = [all_of("1", "IPs", 50, 50), at_most("1", "frames", 12, 12), yes("1", "port up", True, "0 down")]
    assert held(good)
    for bad in (
        all_of("1", "IPs", 49, 50),
        at_most("1", "frames", 13, 12),
        at_most("2", "gap", 4.01, 4.0, unit="s"),
        yes("1", "port up", False, "1 down"),
    ):
        assert not held([*good, bad])
    assert not held([]), "no claim is no success"


def test_claims_say_what_was_measured_and_what_it_should_be() -> None:
    some = all_of("1", "IPs", 49, 50, "median 8 ms", median_s=0.008)
    assert (some.measured, some.goal) == ("49 of 50; median 8 ms", "50 of 50")
    assert some.numbers == {"count": 49, "median_s": 0.008}
    gap = at_most("2", "gap", 2.5, 4.0, unit="s", note="Lease 3 s + 1 s")
    assert (gap.measured, gap.goal) == ("2.50 s (Lease 3 s + 1 s)", "≤ 4.00 s")


@pytest.mark.parametrize(
    ("answers", "gap"),
    [
        ([1.0, 2.0, 5.5, 8.0], 3.5),
        ([0.0, 1.0], 9.0),
        ([9.0, 10.0], 9.0),
        ([5.0, 1.0, 9.0], 4.0),
        ([-5.0, 20.0], 10.0),
        ([], 10.0),
    ],
    ids=[
        "in the middle",
        "to the end: it never came back",
        "from the beginning",
        "whatever the order in which answers were noted",
        "what was before and after does not count",
        "it never answered",
    ],
)
def test_the_longest_gap(answers: list[float], gap: float) -> None:
    assert longest_gap(answers, 0.0, 10.0) == gap
