"""The directories of ExaBGPs: whose they are, and what happens to those of a speaker that was killed."""

import stat
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from lbspeaker.errors import Unable
from lbspeaker.shell.place import Place, sweep

HOLD = """
import sys
from pathlib import Path
from lbspeaker.shell.place import Place
place = Place(Path(sys.argv[1]))
listener = place.make("a secret")
print("made", flush=True)
sys.stdin.read()
"""


@contextmanager
def another_speaker(directory: Path) -> Iterator[subprocess.Popen[str]]:
    """A process that uses `directory`, and is killed in the end."""
    argv = [sys.executable, "-c", HOLD, str(directory)]
    pipe = subprocess.PIPE
    with subprocess.Popen(argv, stdin=pipe, stdout=pipe, text=True) as process:
        try:
            assert process.stdout is not None
            assert process.stdout.readline() == "made\n"
            yield process
        finally:
            process.kill()


def test_only_its_owner_may_look_into_it(tmp_path: Path) -> None:
    directory = tmp_path / "run" / "bgp-router"
    place = Place(directory)
    with place.make("a secret"):
        assert stat.S_IMODE(directory.stat().st_mode) == 0o700
        assert stat.S_IMODE((directory / "exabgp.conf").stat().st_mode) == 0o600
        assert (directory / "exabgp.conf").read_text() == "a secret"
    place.remove()
    assert list((tmp_path / "run").iterdir()) == []


def test_what_a_speaker_that_was_killed_left_is_swept_and_nothing_else(tmp_path: Path) -> None:
    (tmp_path / "speaker.sock").touch()
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "file").touch()
    with another_speaker(tmp_path / "bgp-used-1"):
        with another_speaker(tmp_path / "bgp-left-0"):
            pass
        with another_speaker(tmp_path / "bgp-left-1"):
            (tmp_path / "bgp-left-1" / "file").touch()
        sweep(tmp_path)
        left = {str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*")}
        used = {"bgp-used-1", "bgp-used-1/api", "bgp-used-1/exabgp.conf"}
        strange = {"bgp-left-1", "bgp-left-1/file"}
        assert left == {"speaker.sock", "other", "other/file"} | used | strange


def test_own_places_are_not_swept(tmp_path: Path) -> None:
    place = Place(tmp_path / "bgp-router")
    with place.make("a secret"):
        sweep(tmp_path)
        assert (tmp_path / "bgp-router" / "exabgp.conf").exists()
    place.remove()


@pytest.mark.parametrize("name", ["not-there", "file"])
def test_where_nothing_is_nothing_is_swept(tmp_path: Path, name: str) -> None:
    (tmp_path / "file").touch()
    sweep(tmp_path / name)


def test_the_place_of_another_is_not_taken(tmp_path: Path) -> None:
    directory = tmp_path / "bgp-router"
    with another_speaker(directory):
        place = Place(directory)
        with pytest.raises(Unable, match=r"another speaker uses .*; give each speaker a runtime directory"):
            place.make("another secret")
        place.remove()
        assert (directory / "exabgp.conf").read_text() == "a secret"


def test_what_was_left_behind_is_taken(tmp_path: Path) -> None:
    directory = tmp_path / "bgp-router"
    with another_speaker(directory):
        pass
    place = Place(directory)
    with place.make("another secret"):
        assert (directory / "exabgp.conf").read_text() == "another secret"
    place.remove()
    assert not directory.exists()
