"""`lbspeaker status`: asks the speaker of this node, over its socket."""

import asyncio
import contextlib
import json
import socket
import stat
import threading
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from msgspec import structs
from rich.console import Group

from lbspeaker.cli import status as module
from lbspeaker.cli.status import status as command
from lbspeaker.errors import Unable, Unavailable
from lbspeaker.observe.look import Look
from lbspeaker.shell import http
from lbspeaker.wire import status
from tests.wire.test_status import STATUS

WELL = structs.replace(STATUS, problems=(), ips=STATUS.ips[:1])


@dataclass
class Speaker:
    """Serves what a speaker would."""

    directory: Path
    says: status.Status = WELL


@pytest.fixture
def speaker(tmp_path: Path) -> Iterator[Speaker]:
    found = Speaker(tmp_path / "run")
    with serving({"/status": ("application/json", lambda: status.build(found.says))}, found.directory):
        yield found


@contextlib.contextmanager
def serving(
    pages: dict[str, http.Page], directory: Path, address: tuple[str, int] | None = None
) -> Iterator[None]:
    loop = asyncio.new_event_loop()
    there = threading.Event()
    task = loop.create_task(http.serve(pages, directory / status.SOCKET, address, bound=there.set))

    def run() -> None:
        with contextlib.suppress(asyncio.CancelledError):
            loop.run_until_complete(task)

    thread = threading.Thread(target=run)
    thread.start()
    try:
        assert there.wait(10)
        yield
    finally:
        loop.call_soon_threadsafe(task.cancel)
        thread.join(10)
        loop.close()


def run(directory: Path, *options: str) -> Result:
    return CliRunner(env={"COLUMNS": "160"}).invoke(command, ["--runtime-dir", str(directory), *options])


def test_all_is_well(speaker: Speaker) -> None:
    done = run(speaker.directory)
    assert done.exit_code == 0
    first, *rest = done.stdout.splitlines()
    assert first.startswith("node-a: well; serving for ")
    assert first.endswith(", owns 1 IP, 2 members")
    rows = [row.split() for row in rest]
    assert [row for row in rows if row[:3] == ["192.0.2.10", "default/web", "owner"]]
    assert [row for row in rows if row[:3] == ["eth0", "arp", "standard"]]
    assert ["node-c", "no", "-", "eth0"] in rows


def test_problems_are_told_first_and_by_the_exit_code(speaker: Speaker) -> None:
    speaker.says = STATUS
    done = run(speaker.directory)
    assert done.exit_code == 1
    assert done.stdout.splitlines()[0].startswith("node-a: 1 problem; serving")
    assert done.stdout.splitlines()[1] == "  192.0.2.11 is also used by somebody"


def test_the_same_as_json(speaker: Speaker) -> None:
    done = run(speaker.directory, "-o", "json")
    assert done.exit_code == 0
    assert json.loads(done.stdout) == json.loads(status.build(WELL))


def test_nobody_to_ask(tmp_path: Path) -> None:
    done = run(tmp_path)
    assert isinstance(done.exception, Unavailable)
    assert f"no speaker can be asked at {tmp_path}/speaker.sock: No such file or directory" in str(
        done.exception
    )


def test_a_socket_that_a_killed_speaker_left_is_no_speaker(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """So the cluster is asked; and so it is where somebody says which."""
    asked: list[str] = []

    def look(**_: object) -> Look:
        asked.append("the cluster")
        return Look(controller="one")

    monkeypatch.setattr(module, "look", look)
    monkeypatch.setattr(module, "_RUN", tmp_path)
    with socket.socket(socket.AF_UNIX) as left:
        left.bind(str(tmp_path / status.SOCKET))
    assert CliRunner(env={"KUBECONFIG": None}).invoke(command, []).exit_code == 0
    assert asked == ["the cluster"]
    (tmp_path / status.SOCKET).unlink()
    with serving({"/status": ("application/json", lambda: status.build(WELL))}, tmp_path):
        assert CliRunner(env={"KUBECONFIG": None}).invoke(command, []).stdout.startswith("node-a: well")
        assert len(asked) == 1
        assert CliRunner(env={"KUBECONFIG": "/a/file"}).invoke(command, []).exit_code == 0
    assert len(asked) == 2


def test_only_the_own_user_may_ask_and_a_socket_that_was_left_is_replaced(tmp_path: Path) -> None:
    directory = tmp_path / "run"
    directory.mkdir()
    with socket.socket(socket.AF_UNIX) as left:
        left.bind(str(directory / status.SOCKET))
    with serving({"/status": ("application/json", lambda: status.build(WELL))}, directory):
        assert run(directory).exit_code == 0
        assert stat.S_IMODE((directory / status.SOCKET).stat().st_mode) == 0o600
    assert not (directory / status.SOCKET).exists()


def test_an_address_serves_the_same_and_one_that_is_taken_is_told(tmp_path: Path) -> None:
    kind = "text/plain; version=0.0.4; charset=utf-8"
    pages: dict[str, http.Page] = {"/metrics": (kind, lambda: b"lbspeaker_up 1\n")}
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(Unable, match=r"the status cannot be served: .*in use"):
            asyncio.run(http.serve(pages, tmp_path / "one", ("127.0.0.1", port)))
    with serving(pages, tmp_path / "two", ("127.0.0.1", port)):
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=5) as answer:
            assert answer.headers["content-type"] == kind, "without it, Prometheus takes nothing"
            assert answer.read() == b"lbspeaker_up 1\n"
        with pytest.raises(urllib.error.HTTPError, match="404"):
            urllib.request.urlopen(f"http://127.0.0.1:{port}/secret", timeout=5)


def test_who_is_not_ready_says_why(tmp_path: Path) -> None:
    def ready() -> bytes:
        raise Unavailable("it waits for nodes")

    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    with serving({"/readyz": ("text/plain", ready)}, tmp_path / "one", ("127.0.0.1", port)):
        with pytest.raises(urllib.error.HTTPError, match="503") as caught:
            urllib.request.urlopen(f"http://127.0.0.1:{port}/readyz", timeout=5)
        assert caught.value.read() == b"it waits for nodes\n"


def test_while_there_is_no_new_picture_the_old_one_is_marked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_WATCH_S", 0.02)
    answers = threading.Event()
    told: list[str] = []

    def show() -> tuple[str, int]:
        told.append("")
        if len(told) == 2:
            assert answers.wait(5)
        if len(told) == 3:
            raise Unavailable("nobody is there")
        return f"picture {len(told)}", 0

    seen = module.looks(show)
    assert next(seen) == ("picture 1", 0)
    old, code = next(seen)
    assert isinstance(old, Group) and code == 3
    mark, picture = old.renderables
    assert str(mark) == "seen 0 s ago: there has been no answer since" and picture == "picture 1"
    answers.set()
    while (now := next(seen)) != ("picture 2", 0):
        assert isinstance(now[0], Group)
    away, _ = next(seen)
    assert isinstance(away, Group) and "nobody is there" in str(away.renderables[0])
    while (now := next(seen)) != ("picture 4", 0):
        assert isinstance(now[0], Group)


def test_before_there_is_a_picture_an_error_is_one() -> None:
    def show() -> tuple[str, int]:
        raise Unavailable("nobody is there")

    with pytest.raises(Unavailable):
        next(module.looks(show))
