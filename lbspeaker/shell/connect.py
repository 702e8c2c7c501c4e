"""TCP connections that are opened and closed again, many at once: who accepts, who refuses, who is silent."""

import asyncio
import contextlib
from collections.abc import Iterable

from lbspeaker.facts import Attempt, Target

_AT_ONCE = 64


async def attempts(targets: Iterable[Target], timeout_s: float) -> dict[Target, Attempt]:
    """Return what came of each connection, within `timeout_s`. Nothing is sent on them."""
    turns = asyncio.Semaphore(_AT_ONCE)

    async def one(target: Target) -> tuple[Target, Attempt]:
        async with turns:
            return target, await _attempt(target, timeout_s)

    return dict(await asyncio.gather(*map(one, targets)))


async def _attempt(target: Target, timeout_s: float) -> Attempt:
    ip, port = target
    try:
        async with asyncio.timeout(timeout_s):
            _, writer = await asyncio.open_connection(str(ip), port)
    except ConnectionRefusedError:
        return Attempt.REFUSED
    except OSError:  # a time-out is one, too
        return Attempt.SILENT
    writer.close()
    with contextlib.suppress(OSError):
        await writer.wait_closed()
    return Attempt.ACCEPTED
