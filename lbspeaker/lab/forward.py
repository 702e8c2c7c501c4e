"""A TCP forwarder: what nodes send to the lab's API address goes to an API server on the machine's network.

    python -m lbspeaker.lab.forward HOST:PORT --fd N…       these sockets listen
    python -m lbspeaker.lab.forward HOST:PORT --receive N   they come through this unix socket (SCM_RIGHTS)

With --receive it ends when the other end of the unix socket closes; so it may be started before the
namespaces exist, outside of the user namespace that will hold them.
"""

import argparse
import asyncio
import contextlib
import os
import signal
import socket

_CHUNK = 1 << 16


async def serve(host: str, port: int, listeners: list[socket.socket], receive: socket.socket | None) -> None:
    """Forward connections to HOST:PORT until SIGTERM, or until nobody can send more listeners."""

    async def converse(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            far_reader, far_writer = await asyncio.open_connection(host, port)
        except OSError:  # the caller sees what it would see without us: a connection that ends
            writer.close()
            return
        await asyncio.gather(_copy(reader, far_writer), _copy(far_reader, writer))

    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    loop.add_signal_handler(signal.SIGTERM, stop.set)
    servers = [await asyncio.start_server(converse, sock=listener) for listener in listeners]

    async def accept_listeners(source: socket.socket) -> None:
        while received := await asyncio.to_thread(_receive, source):
            servers.extend([await asyncio.start_server(converse, sock=listener) for listener in received])
        stop.set()

    receiving = loop.create_task(accept_listeners(receive)) if receive else None
    await stop.wait()
    for server in servers:
        server.close()
    if receiving:
        receiving.cancel()


async def _copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with contextlib.suppress(OSError):
        while chunk := await reader.read(_CHUNK):
            writer.write(chunk)
            await writer.drain()
    with contextlib.suppress(OSError):
        writer.close()


def _receive(source: socket.socket) -> list[socket.socket]:
    """The listening sockets of one message; empty at its end."""
    _, descriptors, _, _ = socket.recv_fds(source, 1, 4)
    return [socket.socket(fileno=descriptor) for descriptor in descriptors]


def main() -> None:
    parser = argparse.ArgumentParser(prog="lbspeaker.lab.forward")
    parser.add_argument("target", metavar="HOST:PORT")
    parser.add_argument("--fd", action="append", type=int, default=[])
    parser.add_argument("--receive", type=int)
    options = parser.parse_args()
    host, _, port = options.target.rpartition(":")
    listeners = [socket.socket(fileno=number) for number in options.fd]
    receive = None if options.receive is None else socket.socket(fileno=options.receive)
    asyncio.run(serve(host, int(port), listeners, receive))
    os._exit(0)  # a thread may still wait for listeners


if __name__ == "__main__":
    main()
