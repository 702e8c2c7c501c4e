"""A small HTTP server on a Unix socket, an address, or both: each path is answered by a function.

One that raises Unavailable is answered with 503, and why.
"""

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path

from aiohttp import web

from lbspeaker.errors import Unable, Unavailable

Page = tuple[str, Callable[[], bytes]]  # the content type, and what makes the content


async def serve(
    pages: Mapping[str, Page], socket_path: Path | None, address: tuple[str, int] | None = None
) -> None:
    """Serve `pages` by path, for ever. Only the owner of the process may open the socket.

    `address`: host and port; without a host, all addresses of this machine. Raises Unable if the socket or
    the address cannot be had.
    """
    application = web.Application()
    for path, page in pages.items():
        application.router.add_get(path, _answering(page))
    runner = web.AppRunner(application, access_log=None)
    await runner.setup()
    try:
        if socket_path is not None:
            socket_path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            socket_path.unlink(missing_ok=True)  # of a speaker that was killed
            await web.UnixSite(runner, str(socket_path)).start()
            socket_path.chmod(0o600)
        if address is not None:
            await web.TCPSite(runner, address[0] or None, address[1]).start()
        await asyncio.Event().wait()
    except OSError as error:
        hint = "the address of --metrics must be free"
        if socket_path is not None:
            hint = "--runtime-dir must be writable, and the address of --metrics free"
        raise Unable(f"the status cannot be served: {error.strerror or error}", hint) from None
    finally:
        await runner.cleanup()
        with contextlib.suppress(OSError):
            if socket_path is not None:
                socket_path.unlink(missing_ok=True)


def _answering(page: Page) -> Callable[[web.Request], Awaitable[web.Response]]:
    content_type, content = page

    async def answer(_: web.Request) -> web.Response:
        try:
            return web.Response(body=content(), headers={"Content-Type": content_type})
        except Unavailable as error:
            return web.Response(status=503, text=f"{error}\n")

    return answer
