"""The pod of a node: a tiny HTTP server that says who it is.

It answers "NAME ADDRESS", the address being the one that it was called at, and closes the connection: so each
request of a client is a new connection, which a change of owner or route may take to another node.

    python -m lbspeaker.lab.backend NAME --fd N…
"""

import argparse
import asyncio
import contextlib
import signal
import socket

_REQUEST_S = 5.0


def answer(name: str, address: str) -> bytes:
    """Return the whole HTTP/1.1 response (RFC 9112)."""
    body = f"{name} {address}\n".encode()
    head = f"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: {len(body)}\r\n"
    return f"{head}Connection: close\r\n\r\n".encode() + body


async def serve(name: str, listeners: list[socket.socket]) -> None:
    """Serve on listening sockets until SIGTERM."""

    async def converse(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(
            OSError, TimeoutError, asyncio.IncompleteReadError, asyncio.LimitOverrunError
        ):
            async with asyncio.timeout(_REQUEST_S):
                await reader.readuntil(b"\r\n\r\n")
                writer.write(answer(name, writer.get_extra_info("sockname")[0]))
                await writer.drain()
        writer.close()

    stop = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
    servers = [await asyncio.start_server(converse, sock=listener) for listener in listeners]
    await stop.wait()
    for server in servers:
        server.close()


def main() -> None:
    parser = argparse.ArgumentParser(prog="lbspeaker.lab.backend")
    parser.add_argument("name")
    parser.add_argument("--fd", action="append", type=int, default=[])
    options = parser.parse_args()
    asyncio.run(serve(options.name, [socket.socket(fileno=number) for number in options.fd]))


if __name__ == "__main__":
    main()
