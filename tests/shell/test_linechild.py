"""A child that is spoken to in lines: real processes."""

import asyncio
import sys

import pytest

from lbspeaker.errors import Unable
from lbspeaker.shell import linechild

ECHO = "import socket, sys; s = socket.socket(fileno=int(sys.argv[1])); {}"


async def said(program: str) -> list[bytes]:
    child = linechild.LineChild([sys.executable, "-c", ECHO.format(program)])
    await child.start()
    try:
        return [line async for line in child.lines()]
    finally:
        assert await child.stop() == 0


def test_a_line_may_name_ten_thousand_ips() -> None:
    line = b",".join(b"2001:db8::ffff:ffff:%d" % n for n in range(10_000))
    program = "s.sendall(b','.join(b'2001:db8::ffff:ffff:%d' % n for n in range(10_000)) + b'\\nend\\n')"
    assert asyncio.run(said(program)) == [line, b"end"]


def test_what_cannot_be_started_is_named() -> None:
    with pytest.raises(Unable, match="/nowhere cannot be started: No such file or directory"):
        asyncio.run(linechild.LineChild(["/nowhere"]).start())


def test_without_a_file_descriptor_left_it_cannot_be_started(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse() -> None:
        raise OSError(24, "Too many open files")

    async def start() -> None:
        monkeypatch.setattr("socket.socketpair", refuse)
        with pytest.raises(Unable, match="cannot be started: Too many open files"):
            await linechild.LineChild([sys.executable, "-c", ""]).start()

    asyncio.run(start())
