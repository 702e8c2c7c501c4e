"""The program of a speaker, turn by turn: what it logs, and when."""

import asyncio
from dataclasses import replace
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from lbspeaker.bgp import BGP
from lbspeaker.core.speaker import GATE
from lbspeaker.model import BGPAdvertisement, Change, ConfigSet, Kind, Secret, SecretRef, Synced
from lbspeaker.speaker import Item, Options, Program
from tests.build import ROUTER, node, snapshot


def test_a_secret_is_missed_only_when_all_are_known(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A session is not what this is about: there is none."""
    monkeypatch.setattr(BGP, "set_peer", lambda *_: None)
    peer = replace(ROUTER, password_secret=SecretRef("lbspeaker-system", "router"))
    config = snapshot(nodes="a", l2=(), bgp=(BGPAdvertisement("bgp"),), peers=(peer,)).config

    async def story() -> list[list[str]]:
        program = Program(Options("a", directory=tmp_path), None)
        found = []

        async def turn(*items: Item) -> None:
            for item in items:
                program._inbox.put_nowait(item)
            with capture_logs() as logs:
                await program._turn()
            found.append([log["event"] for log in logs])

        await turn(Change(Kind.CONFIG, "", ConfigSet(config)), Change(Kind.NODE, "a", node("a")))
        await turn(*(Synced(kind) for kind in sorted(GATE)))
        await turn(Synced(Kind.SECRET))
        await turn(Change(Kind.SECRET, "default/other", Secret("default/other", "sesame")))
        key = "lbspeaker-system/router"
        await turn(Change(Kind.SECRET, key, Secret(key, "sesame")))
        await turn(Change(Kind.SECRET, key, Secret(key, "sesame\n")))
        await turn(Change(Kind.SECRET, key, None))
        problems.append(list(program._unusable.items()))
        await turn(Change(Kind.SECRET, key, Secret(key, "sesame")))
        problems.append(list(program._unusable.items()))
        return found

    problems: list[list[tuple[str, str]]] = []
    assert asyncio.run(story()) == [
        *([], ["serving", "members"], ["peer-unusable"], []),
        *([], ["password-unusable"], ["password-unusable"], []),
    ]
    ((what, why),) = problems[0]
    assert what == "password router" and "goes on with the one before; create it" in why
    assert problems[1] == []
