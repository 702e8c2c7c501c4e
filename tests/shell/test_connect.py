"""Connections that are opened and closed, on loopback."""

import asyncio
import socket
import time

from lbspeaker.facts import Attempt, Target
from lbspeaker.shell.connect import attempts
from tests.build import ip


def test_who_accepts_refuses_and_is_silent() -> None:
    with (
        socket.create_server(("127.0.0.1", 0), backlog=0) as full,
        socket.create_server(("127.0.0.1", 0)) as good,
    ):
        with socket.create_server(("127.0.0.1", 0)) as closed:
            refusing: Target = (ip("127.0.0.1"), closed.getsockname()[1])
        silent: Target = (ip("127.0.0.1"), full.getsockname()[1])
        accepting: Target = (ip("127.0.0.1"), good.getsockname()[1])
        # Nobody accepts at `full`, so its queue is full after one or two.
        waiting = []
        for _ in range(3):
            one = socket.socket()
            one.setblocking(False)
            one.connect_ex((str(silent[0]), silent[1]))
            waiting.append(one)
        time.sleep(0.1)
        came = asyncio.run(attempts([accepting, refusing, silent], 0.3))
        for one in waiting:
            one.close()
    assert came == {accepting: Attempt.ACCEPTED, refusing: Attempt.REFUSED, silent: Attempt.SILENT}


def test_hundreds_at_once() -> None:
    with socket.create_server(("127.0.0.1", 0), backlog=1024) as server:
        port = server.getsockname()[1]
        targets: list[Target] = [(ip(f"127.0.0.{n}"), port) for n in range(1, 250)]
        came = asyncio.run(attempts(targets, 5.0))
    assert came[targets[0]] is Attempt.ACCEPTED
    assert set(list(came.values())[1:]) == {Attempt.REFUSED}
