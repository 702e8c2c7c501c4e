"""An ExaBGP process of our own: how it is started, what it may do, and how it ends. No router needed."""

import asyncio
import errno
import fcntl
import os
import signal
import socket
import stat
import subprocess
import sys
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from ipaddress import IPv4Address, ip_address
from pathlib import Path

import pytest

from lbspeaker.errors import Unable, Unavailable
from lbspeaker.model import Peer
from lbspeaker.peering import directory_name, local_address_towards
from lbspeaker.shell.child import Child, own_user, shim_command
from lbspeaker.wire import exabgp
from tests.peers.conftest import eventually

pytestmark = pytest.mark.peers

LOOPBACK = ip_address("127.0.0.1")
PEER = Peer("nobody-there", 65001, 65002, LOOPBACK, port=1)


@dataclass
class Heard:
    lines: list[bytes] = field(default_factory=list)
    ends: list[str] = field(default_factory=list)

    def child(self, directory: Path) -> Child:
        return Child(directory, self.lines.append, self.ends.append)


def configuration(directory: Path) -> str:
    return exabgp.configuration(PEER, LOOPBACK, IPv4Address("10.99.0.1"), shim_command(directory))


@asynccontextmanager
async def running(directory: Path, connect_s: float = 2.0) -> AsyncIterator[tuple[Child, Heard]]:
    heard = Heard()
    child = heard.child(directory)
    await child.start(configuration(directory), exabgp.environment(own_user(), connect_s))
    try:
        yield child, heard
    finally:
        await child.stop()


async def until(is_so: object, within_s: float = 5.0) -> bool:
    assert callable(is_so)
    for _ in range(int(within_s / 0.02)):
        if is_so():
            return True
        await asyncio.sleep(0.02)
    return bool(is_so())


def test_a_child_answers_and_leaves_no_trace(tmp_path: Path) -> None:
    directory = tmp_path / "deep" / "bgp"

    async def story() -> None:
        async with running(directory) as (child, heard):
            assert stat.S_IMODE(directory.stat().st_mode) == 0o700
            assert stat.S_IMODE((directory / "exabgp.conf").stat().st_mode) == 0o600
            child.send("version")
            assert await until(lambda: b"done" in heard.lines)
            assert any(line.startswith(b"exabgp 5.") for line in heard.lines)
            pid = child.pid
        assert not Path(f"/proc/{pid}").exists()
        assert not directory.exists()
        assert heard.ends == [], "a stop that was asked for is no end to tell of"

    asyncio.run(story())


def test_a_child_gets_no_environment_and_no_secret_in_its_arguments(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("A_SECRET_OF_THE_SPEAKER", "x")

    async def story() -> None:
        async with running(tmp_path / "bgp") as (child, _):
            proc = Path(f"/proc/{child.pid}")
            names = {entry.partition(b"=")[0] for entry in (proc / "environ").read_bytes().split(b"\0")}
            assert b"A_SECRET_OF_THE_SPEAKER" not in names
            assert (proc / "cmdline").read_bytes().endswith(b"exabgp.conf\0")

    asyncio.run(story())


def test_ten_thousand_commands_are_taken_while_we_go_on(tmp_path: Path) -> None:
    async def story() -> None:
        async with running(tmp_path / "bgp") as (child, heard):
            for n in range(10_000):
                child.send(f"# {n}")
            assert await until(lambda: heard.lines.count(b"done") == 10_000, 20)
            assert heard.ends == []

    asyncio.run(story())


def test_a_child_that_does_not_read_is_given_up(tmp_path: Path) -> None:
    async def story() -> None:
        async with running(tmp_path / "bgp") as (child, heard):
            assert child.pid is not None
            os.kill(child.pid, signal.SIGSTOP)
            for _ in range(6000):
                child.send("# " + "x" * 1000)
            assert heard.ends == ["ExaBGP does not read its commands"]

    asyncio.run(story())


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGTERM])
def test_the_end_of_a_child_is_told_once(tmp_path: Path, how: signal.Signals) -> None:
    async def story() -> None:
        async with running(tmp_path / "bgp") as (child, heard):
            assert child.pid is not None
            os.kill(child.pid, how)
            assert await until(lambda: heard.ends)
            await asyncio.sleep(0.1)
            said = "signal SIGKILL" if how == signal.SIGKILL else "exit status 0"
            assert len(heard.ends) == 1
            assert heard.ends[0].startswith(f"ExaBGP ended ({said})")

    asyncio.run(story())


def test_a_child_that_ends_by_a_signal_without_a_name(tmp_path: Path) -> None:
    async def story() -> None:
        async with running(tmp_path / "bgp", connect_s=60) as (child, heard):
            assert child.pid is not None
            await asyncio.sleep(0.3)
            os.kill(child.pid, signal.SIGRTMIN + 1)
            assert await until(lambda: heard.ends)
            assert heard.ends[0].startswith(f"ExaBGP ended (signal {signal.SIGRTMIN + 1})")

    asyncio.run(story())


def test_a_child_that_is_told_to_end_while_it_logs_ends(tmp_path: Path) -> None:
    async def story() -> None:
        async with running(tmp_path / "bgp", connect_s=0.05) as (child, heard):
            pid = child.pid
            assert pid is not None
            with Path(f"/proc/{pid}/fd/2").open("wb", buffering=0) as stderr:  # and this loop stands still
                os.set_blocking(stderr.fileno(), False)
                stderr.write(b"." * fcntl.fcntl(stderr.fileno(), fcntl.F_SETPIPE_SZ, 4096))
            assert eventually(lambda: "pipe_write" in Path(f"/proc/{pid}/wchan").read_text())
            os.kill(pid, signal.SIGTERM)
            time.sleep(0.1)
            assert await until(lambda: heard.ends)
            assert heard.ends[0].startswith("ExaBGP ended (exit status 0)")

    asyncio.run(story())


@pytest.mark.parametrize(
    ("how", "after_s", "said"),
    [
        (signal.SIGKILL, 0.0, "ExaBGP ended (signal SIGKILL)"),
        (signal.SIGSEGV, 1.2, "ExaBGP ended (signal SIGSEGV)"),
        (signal.SIGSEGV, 0.0, "ExaBGP ended (signal SIGSEGV): the last words"),
    ],
)
def test_what_it_said_is_only_told_where_it_may_be_why(
    tmp_path: Path, how: signal.Signals, after_s: float, said: str
) -> None:
    async def story() -> None:
        async with running(tmp_path / "bgp", connect_s=60) as (child, heard):
            assert child.pid is not None
            await asyncio.sleep(0.3)  # the first attempt, which is refused
            with Path(f"/proc/{child.pid}/fd/2").open("w") as stderr:
                stderr.write("the last words\n")
            await asyncio.sleep(after_s)
            os.kill(child.pid, how)
            assert await until(lambda: heard.ends)
            assert heard.ends == [said]

    asyncio.run(story())


def test_the_end_of_its_helper_is_the_end_of_a_child(tmp_path: Path) -> None:
    async def story() -> None:
        async with running(tmp_path / "bgp") as (child, heard):
            helper = Path(f"/proc/{child.pid}/task/{child.pid}/children").read_text().split()
            os.kill(int(helper[0]), signal.SIGKILL)
            assert await until(lambda: heard.ends)
            assert heard.ends == ["the helper that held ExaBGP's pipes has died"]

    asyncio.run(story())


def test_a_child_that_ignores_us_is_killed(tmp_path: Path) -> None:
    async def story() -> None:
        async with running(tmp_path / "bgp") as (child, _):
            pid = child.pid
            assert pid is not None
            os.kill(pid, signal.SIGSTOP)
        assert not Path(f"/proc/{pid}").exists()

    asyncio.run(story())


def test_nothing_is_heard_from_a_child_that_is_being_stopped(tmp_path: Path) -> None:
    async def story() -> None:
        async with running(tmp_path / "bgp") as (child, heard):
            stopping = asyncio.create_task(child.stop())
            await asyncio.sleep(0)
            before = len(heard.lines)
            await stopping
            assert heard.lines[before:] == [], "it says that it shuts down"

    asyncio.run(story())


def test_a_stop_that_is_cancelled_leaves_no_trace_either(tmp_path: Path) -> None:
    async def story() -> None:
        child = Heard().child(tmp_path / "bgp")
        await child.start(configuration(tmp_path / "bgp"), exabgp.environment(own_user()))
        pid = child.pid
        assert pid is not None
        os.kill(pid, signal.SIGSTOP)
        stopping = asyncio.create_task(child.stop())
        await asyncio.sleep(0.1)
        stopping.cancel()
        with pytest.raises(asyncio.CancelledError):
            await stopping
        assert not Path(f"/proc/{pid}").exists()

    files = open_files()
    asyncio.run(story())
    assert not (tmp_path / "bgp").exists()
    assert open_files() == files


def open_files() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


def children() -> list[str]:
    return Path(f"/proc/self/task/{os.getpid()}/children").read_text().split()


@pytest.mark.parametrize(
    ("where", "what", "number", "said"),
    [
        (os, "pidfd_open", errno.ENOSYS, "Function not implemented; does a sandbox"),
        (os, "pidfd_open", errno.EPERM, "Operation not permitted; does a sandbox"),
        (os, "pidfd_open", errno.EMFILE, "Too many open files; raise the limit of open files"),
        (subprocess, "Popen", errno.EMFILE, "Too many open files; raise the limit of open files"),
        (subprocess, "Popen", errno.ENOENT, "No such file or directory; check the installation of exabgp"),
        (socket.socket, "accept", errno.EMFILE, "Too many open files; raise the limit of open files"),
        (socket, "recv_fds", errno.EMFILE, "Too many open files; raise the limit of open files"),
    ],
)
def test_what_the_system_refuses_is_said_and_leaves_no_trace(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, where: object, what: str, number: int, said: str
) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise OSError(number, os.strerror(number))

    async def story() -> None:
        child = Heard().child(tmp_path / "bgp")
        monkeypatch.setattr(where, what, refuse)
        with pytest.raises(Unable, match=f"ExaBGP cannot be started: .*{said}") as error:
            await child.start(configuration(tmp_path / "bgp"), exabgp.environment(own_user()))
        assert "\n" not in str(error.value)
        await child.stop()

    before = open_files(), children()
    asyncio.run(story())
    assert (open_files(), children()) == before
    assert not (tmp_path / "bgp").exists()


def test_pipes_for_which_there_is_no_room_are_no_fault_of_the_helper(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def story() -> None:
        monkeypatch.setattr(socket, "recv_fds", lambda *_: (b"1", [], socket.MSG_CTRUNC, None))
        with pytest.raises(Unable, match="Too many open files; raise the limit of open files"):
            async with running(tmp_path / "bgp"):
                pytest.fail("it runs")

    asyncio.run(story())


def test_a_configuration_that_exabgp_refuses(tmp_path: Path) -> None:
    async def story() -> None:
        child = Heard().child(tmp_path / "bgp")
        text = configuration(tmp_path / "bgp").replace("manual-eor true", "no-such-thing true")
        with pytest.raises(Unavailable, match=r"ExaBGP ended at once: .*no-such-thing"):
            await child.start(text, exabgp.environment(own_user()))
        assert not (tmp_path / "bgp").exists()

    asyncio.run(story())


def test_no_place_to_run(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")

    async def story(directory: Path) -> None:
        with pytest.raises(Unable, match=r"ExaBGP has no place to run: .*; give a runtime directory"):
            await Heard().child(directory).start("", {})

    asyncio.run(story(tmp_path / "file" / "bgp"))
    asyncio.run(story(tmp_path / ("long" * 30)))


def test_exabgp_is_not_installed() -> None:
    code = "from lbspeaker.shell.child import exabgp_command; exabgp_command()"
    root = str(Path(__file__).parents[2])
    done = subprocess.run(
        [sys.executable, "-S", "-c", code],
        env={"PYTHONPATH": root, "PATH": "/nowhere"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert "ExaBGP is not installed; run: " in done.stderr


def test_the_local_address_is_found_without_a_packet() -> None:
    assert local_address_towards(LOOPBACK) == LOOPBACK


def test_any_name_of_a_peer_is_a_directory_of_its_own() -> None:
    names = ["router", "../../etc", "a/b", "a.b", "a-b", "ü" * 300, "", ".."]
    directories = {directory_name(name) for name in names}
    assert len(directories) == len(names)
    assert all(len(each) < 40 and "/" not in each and each.isascii() for each in directories)
