"""Log lines, and how much of them a running program says."""

import json
import subprocess
import sys

import pytest

STORY = """
import asyncio, os, signal, structlog
from lbspeaker.cli.run import _listening
from lbspeaker.shell import logs
logs.configure({format!r}, {level!r})
log = structlog.get_logger()
async def story():
    for turn in range(3):
        log.debug("detail", turn=turn)
        log.info("news", turn=turn)
        log.error("trouble", turn=turn)
        os.kill(os.getpid(), signal.SIGUSR1)
        await asyncio.sleep(0.01)
asyncio.run(_listening(story()))
"""
DETAIL, NEWS, TROUBLE = "detail", "news", "trouble"


def lines(format: str, level: str) -> list[str]:
    argv = [sys.executable, "-c", STORY.format(format=format, level=level)]
    done = subprocess.run(argv, capture_output=True, text=True, check=True)
    assert done.stdout == ""
    return done.stderr.splitlines()


@pytest.mark.parametrize(("level", "usual"), [("info", [NEWS, TROUBLE]), ("error", [TROUBLE])])
def test_a_signal_lets_a_program_say_everything_and_another_one_what_it_said_before(
    level: str, usual: list[str]
) -> None:
    said = [json.loads(line)["event"] for line in lines("json", level)]
    changed = "log-level"
    assert said == [*usual, changed, DETAIL, NEWS, TROUBLE, changed, *usual, changed]


def test_a_line_for_people() -> None:
    _, second, *_ = lines("text", "info")
    time, level, word, field = second.split()
    assert (len(time), level, word, field) == (8, "error", "trouble", "turn=0")
