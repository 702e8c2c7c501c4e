"""`lbspeaker drain` and `move`: what they refuse before anything is changed. What they do is in scenarios."""

from typing import Any

import pytest
from click.testing import CliRunner, Result

from lbspeaker.cli import move as module
from lbspeaker.errors import Unable
from lbspeaker.model import EXCLUDE, Snapshot
from lbspeaker.observe.look import Look
from tests.build import service, snapshot
from tests.cli.test_explain import CUT_OFF
from tests.test_overview import FIRST, OWNED, SECOND, THIRD, look, says
from tests.test_overview import WEB as HELD

WELL = Look(snapshot(service("web", held="192.0.2.10")), controller="one")
BLIND = Look(WELL.snapshot, controller="one", unread=("leases: forbidden; needed: list leases",))


@pytest.fixture
def patched(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What was changed."""
    done: list[str] = []
    monkeypatch.setattr(module, "_patch", lambda _, path, metadata: done.append(path))
    monkeypatch.setattr(module, "_wait", lambda *_: 0.1)
    return done


def run(monkeypatch: pytest.MonkeyPatch, command: Any, seen: Look, *arguments: str) -> Result:
    monkeypatch.setattr(module, "look", lambda **_: seen)
    return CliRunner().invoke(command, list(arguments))


@pytest.mark.parametrize("arguments", [("a",), ("a", "--simulate"), ("a", "-o", "json")])
def test_where_something_is_not_seen_nobody_is_drained(
    monkeypatch: pytest.MonkeyPatch, patched: list[str], arguments: tuple[str, ...]
) -> None:
    done = run(monkeypatch, module.drain, BLIND, *arguments)
    assert isinstance(done.exception, Unable)
    assert "not seen: leases: forbidden; needed: list leases" in str(done.exception)
    assert patched == []


def test_a_service_is_not_moved_either(monkeypatch: pytest.MonkeyPatch, patched: list[str]) -> None:
    done = run(monkeypatch, module.move, BLIND, "default/web", "--to", "a")
    assert isinstance(done.exception, Unable) and patched == []
    assert run(monkeypatch, module.move, WELL, "default/web").exit_code == 2


def test_what_is_seen_is_done(monkeypatch: pytest.MonkeyPatch, patched: list[str]) -> None:
    assert run(monkeypatch, module.drain, WELL, "a").exit_code == 0
    assert run(monkeypatch, module.drain, BLIND, "a", "--force").exit_code == 0
    assert run(monkeypatch, module.drain, WELL, "a", "--undo").exit_code == 0
    assert run(monkeypatch, module.move, WELL, "default/web", "--to", "a").exit_code == 0
    assert patched == ["/api/v1/nodes/a"] * 3 + ["/api/v1/namespaces/default/services/web"]


def test_what_would_be_lost_is_not_done(monkeypatch: pytest.MonkeyPatch, patched: list[str]) -> None:
    alone = Look(snapshot(service("web", held="192.0.2.10"), nodes="a"), controller="one")
    for arguments in (("a",), ("a", "--simulate")):
        assert run(monkeypatch, module.drain, alone, *arguments).exit_code == 1
    assert patched == []
    assert run(monkeypatch, module.drain, alone, "a", "--force").exit_code == 0
    assert len(patched) == 1


CUT = look(*CUT_OFF[:1], says(SECOND, OWNED, members=CUT_OFF[1].members), CUT_OFF[2])
LAST = look(*CUT.speakers.values(), snapshot=snapshot(HELD, node_fields={THIRD: {"labels": {EXCLUDE: ""}}}))


def test_who_is_not_heard_is_no_successor(monkeypatch: pytest.MonkeyPatch, patched: list[str]) -> None:
    """It has a Lease; its Speaker object and those of the others say that it is cut off."""
    done = run(monkeypatch, module.drain, LAST, SECOND)
    assert (done.exit_code, patched) == (1, [])
    assert f"without {SECOND}, 1 of these will have NO announcer" in done.output
    assert (
        f"{FIRST} is not heard on its links by {', '.join(sorted((SECOND, THIRD)))}, so it ta" in done.output
    )
    assert (
        run(monkeypatch, module.drain, CUT, SECOND, "--simulate").output.splitlines()[1].split()[-1] == THIRD
    )
    wrong = run(monkeypatch, module.move, CUT, "default/web", "--to", FIRST)
    assert isinstance(wrong.exception, Unable) and patched == []
    assert f"{FIRST} cannot own 192.0.2.10 of default/web: {FIRST} is not heard" in str(wrong.exception)


def test_a_service_has_moved_when_nobody_else_answers() -> None:
    assert module._owns(look(), HELD, FIRST)
    assert not module._owns(CUT, HELD, FIRST)
    assert not module._owns(look(), HELD, SECOND)


@pytest.mark.parametrize(
    ("command", "resource", "arguments"),
    [
        (module.drain, "nodes", ("a",)),
        (module.drain, "nodes", ("a", "--force")),
        (module.drain, "nodes", ("a", "--undo")),
        (module.move, "services", ("default/web", "--to", "a")),
        (module.move, "services", ("default/web", "--back")),
    ],
)
def test_what_may_not_be_read_is_not_said_not_to_exist(
    monkeypatch: pytest.MonkeyPatch,
    patched: list[str],
    command: Any,
    resource: str,
    arguments: tuple[str, ...],
) -> None:
    rest = {name: getattr(WELL.snapshot, name) for name in {"nodes", "services"} - {resource}}
    lack = f"{resource}: GET: forbidden; needed: list {resource}"
    done = run(monkeypatch, command, Look(Snapshot(**rest), controller="one", unread=(lack,)), *arguments)
    assert isinstance(done.exception, Unable) and patched == []
    assert f"cannot be told; {lack}" in str(done.exception)


def test_what_is_not_there_is_told_with_what_is(monkeypatch: pytest.MonkeyPatch, patched: list[str]) -> None:
    done = run(monkeypatch, module.move, BLIND, "default/wbe", "--back")
    assert str(done.exception).endswith("default/wbe; did you mean default/web?") and patched == []
