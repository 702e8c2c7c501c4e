"""A lean client: sends prepared requests over many kept connections as fast as the API server takes them.

It is the measure of what the server can write, so it does nothing else: requests are bytes before the clock
starts, answers are cut off by their length and not read.

    python -m tests.bench.writer URL --connections 16 [--ca FILE --token TOKEN] < requests.jsonl

One request a line, as JSON: method, path, body. Prints the seconds that it took, as JSON.
"""

import argparse
import asyncio
import json
import ssl
import subprocess
import sys
import time
from collections.abc import Iterable, Iterator
from urllib.parse import urlsplit

import msgspec

from lbspeaker.errors import Unavailable
from tests.lab.apiserver_backends import Client

Request = tuple[str, str, str]  # method, path, body


def write(client: Client, requests: Iterable[Request], connections: int = 16) -> float:
    """Send the requests from a process of its own; return the seconds it took. Raises Unavailable."""
    argv = [sys.executable, "-m", "tests.bench.writer", client.url, "--connections", str(connections)]
    if client.token:
        argv += ["--ca", str(client.kubeconfig.parent / "tls.crt"), "--token", client.token]
    lines = b"".join(msgspec.json.encode(request) + b"\n" for request in requests)
    done = subprocess.run(argv, input=lines, capture_output=True, timeout=300, check=False)
    if done.returncode != 0:
        raise Unavailable(f"the lean writer failed: {done.stderr.decode(errors='replace')[-500:]}")
    return float(json.loads(done.stdout)["seconds"])


def _bytes_of(request: Request, host: str, token: str) -> bytes:
    method, path, body = request
    kind = "merge-patch+json" if method == "PATCH" else "json"
    lines = [f"{method} {path} HTTP/1.1", f"Host: {host}", "Accept: application/json", "User-Agent: lean"]
    lines += [f"Authorization: Bearer {token}"] if token else []
    data = body.encode()
    lines += [f"Content-Type: application/{kind}", f"Content-Length: {len(data)}", "", ""]
    return "\r\n".join(lines).encode() + data


async def _connection(url: str, tls: ssl.SSLContext | None, requests: Iterator[bytes]) -> None:
    parts = urlsplit(url)
    reader, writer = await asyncio.open_connection(parts.hostname, parts.port, ssl=tls)
    try:
        for request in requests:
            writer.write(request)
            await _answer(reader)
    finally:
        writer.close()


async def _answer(reader: asyncio.StreamReader) -> None:
    head = (await reader.readuntil(b"\r\n\r\n")).lower()
    status = int(head[9:12])
    _, counted, rest = head.partition(b"content-length:")
    body = b""
    if counted:
        body = await reader.readexactly(int(rest.partition(b"\r")[0]))
    else:  # chunked
        while size := int(await reader.readline(), 16):
            body += (await reader.readexactly(size + 2))[:-2]
        await reader.readline()
    if status >= 300:
        raise OSError(f"{status} {body[:300].decode(errors='replace')}")


async def _send(options: argparse.Namespace, requests: list[bytes]) -> float:
    """All connections take from one list, so that none is left with work when the others have finished."""
    tls = ssl.create_default_context(cafile=options.ca) if options.ca else None
    began = time.monotonic()
    left = iter(requests)
    async with asyncio.TaskGroup() as tasks:
        for _ in range(options.connections):
            tasks.create_task(_connection(options.url, tls, left))
    return time.monotonic() - began


def main() -> None:
    parser = argparse.ArgumentParser(prog="tests.bench.writer")
    parser.add_argument("url")
    parser.add_argument("--connections", type=int, default=16)
    parser.add_argument("--ca")
    parser.add_argument("--token", default="")
    options = parser.parse_args()
    host = urlsplit(options.url).netloc
    asked = [msgspec.json.decode(line, type=Request) for line in sys.stdin.buffer]
    requests = [_bytes_of(request, host, options.token) for request in asked]
    print(json.dumps({"seconds": asyncio.run(_send(options, requests))}))


if __name__ == "__main__":
    main()
