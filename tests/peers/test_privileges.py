"""What ExaBGP and its helper may do: read files, if the speaker may, and nothing else that it may."""

import asyncio
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from lbspeaker.errors import Unable
from lbspeaker.shell import child
from tests.peers.conftest import eventually
from tests.peers.test_child import running

pytestmark = [
    pytest.mark.peers,
    pytest.mark.skipif(os.geteuid() != 0, reason="root takes its powers from itself"),
]

ROOT = Path(__file__).parents[2]
HOLD = "import sys; from tests.peers.test_privileges import hold; hold(sys.argv[1])"
# As config/base/speaker.yaml has it.
POD = ["--no-new-privs", "--bounding-set=-all,+net_raw,+sys_nice", "--inh-caps=-all"]
DAC_READ_SEARCH = 1 << 2
NET_RAW = 1 << 13


def hold(directory: str) -> None:
    """Keep a child until stdin closes: what `holding` runs."""

    async def story() -> None:
        async with running(Path(directory)) as (held, _):
            print(held.pid, flush=True)
            await asyncio.to_thread(sys.stdin.read)

    asyncio.run(story())


@contextmanager
def holding(directory: Path, *limits: str) -> Iterator[tuple[subprocess.Popen[str], int]]:
    """Have a child started by a process that setpriv has given `limits`; yields that process, and its pid."""
    holder = subprocess.Popen(
        ["setpriv", *limits, sys.executable, "-c", HOLD, str(directory)],
        cwd=ROOT,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    with holder:
        assert holder.stdout is not None
        yield holder, int(holder.stdout.readline())


def status(pid: int) -> dict[str, str]:
    return dict(line.split(":\t", 1) for line in Path(f"/proc/{pid}/status").read_text().splitlines())


def powers(pid: int) -> list[int]:
    """Its capabilities: permitted, effective, inheritable, ambient."""
    told = status(pid)
    return [int(told[name], 16) for name in ("CapPrm", "CapEff", "CapInh", "CapAmb")]


@pytest.mark.parametrize(
    "limits",
    [
        pytest.param(POD, id="a pod, which may not change the bounding set"),
        pytest.param(["--inh-caps=+net_raw", "--ambient-caps=+net_raw"], id="ambient"),
        pytest.param([], id="all of them"),
    ],
)
def test_a_child_and_its_helper_may_read_files_at_most(tmp_path: Path, limits: list[str]) -> None:
    with holding(tmp_path / "bgp", *limits) as (holder, pid):
        held = powers(holder.pid)[0]
        assert held & NET_RAW
        helper = int(Path(f"/proc/{pid}/task/{pid}/children").read_text().split()[0])
        for each in (pid, helper):
            assert powers(each) == [held & DAC_READ_SEARCH, held & DAC_READ_SEARCH, 0, 0]
            assert status(each)["NoNewPrivs"] == "1"


@pytest.mark.skipif(not powers(os.getpid())[0] & DAC_READ_SEARCH, reason="this root may not")
def test_root_runs_a_child_in_the_home_of_somebody_else(tmp_path: Path) -> None:
    home = tmp_path / "home"
    home.mkdir()
    os.chown(home, 65534, 65534)
    home.chmod(0o700)
    with holding(home / "bgp") as (_, pid):
        assert powers(pid)[1] == DAC_READ_SEARCH


def test_a_child_ends_with_a_speaker_that_is_killed(tmp_path: Path) -> None:
    with holding(tmp_path / "bgp", *POD) as (holder, pid):
        holder.kill()
        assert eventually(lambda: not Path(f"/proc/{pid}").exists())


def test_a_child_that_would_keep_the_powers_of_the_speaker_is_not_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def story() -> None:
        async with running(tmp_path / "bgp"):
            pytest.fail("it runs")

    monkeypatch.setattr(child._libc, "capset", lambda *_: -1)
    with pytest.raises(Unable, match="without the powers of the speaker; let the seccomp profile permit"):
        asyncio.run(story())
