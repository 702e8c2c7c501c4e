"""The lab's API server as a program that a benchmark can fill quickly, disturb, and ask.

    python -m tests.bench.server OBJECTS.json

prints its URL when it serves. SIGUSR1: it forgets its history and ends all watches, so that everybody lists
anew. SIGUSR2: it prints how often each "METHOD path" was asked, as one line of JSON. SIGTERM ends it, and it
ends with whoever started it.
"""

import asyncio
import signal
import sys
from pathlib import Path

import msgspec

from lbspeaker.lab.apiserver import ApiServer, die_with_parent


async def serve(objects: Path) -> None:
    server = ApiServer()
    server.load(msgspec.json.decode(objects.read_bytes()))
    loop, stop = asyncio.get_running_loop(), asyncio.Event()

    def disturb() -> None:
        server.forget_history()
        server.drop_watches()

    def tell() -> None:
        print(msgspec.json.encode(dict(server.requests)).decode(), flush=True)

    loop.add_signal_handler(signal.SIGTERM, stop.set)
    loop.add_signal_handler(signal.SIGUSR1, disturb)
    loop.add_signal_handler(signal.SIGUSR2, tell)
    await server.start()
    print(server.url, flush=True)
    await stop.wait()
    await server.stop()


if __name__ == "__main__":
    die_with_parent()
    asyncio.run(serve(Path(sys.argv[1])))
