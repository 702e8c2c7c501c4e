"""A small HTTP server on a Unix socket, an address, or both: each path is answered by a function.

One that raises Unavailable is answered with 503, and why. Only GET is known.
"""

import asyncio
import base64
import binascii
import contextlib
import hmac
import inspect
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from ipaddress import ip_address
from pathlib import Path

from aiohttp import web
from aiohttp.typedefs import Middleware

from lbspeaker.errors import LbspeakerError, Unable, Unavailable

# The content type, and what makes the content.
Page = tuple[str, Callable[[], bytes | Awaitable[bytes]]]

_HEADERS = {  # for browsers: nothing from elsewhere, and nothing kept
    "Content-Security-Policy": "default-src 'none'; style-src 'self'; script-src 'self'; connect-src 'self'; "
    "img-src data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-store",
}


@dataclass(frozen=True, slots=True)
class Door:
    """Who may come in: who gives the token, as a bearer's (RFC 6750 §2.1) or as password (RFC 7617).

    `token` is asked each time, as a Secret may change; it raises LbspeakerError where it cannot be had.
    Without one, who asks for a loopback name of this machine: so no page of somebody else's can read it by a
    name that was made to mean 127.0.0.1.
    """

    token: Callable[[], str] | None = None

    def admits(self, request: web.Request) -> None:
        """Raises web.HTTPException for who may not."""
        if self.token is None:
            if not is_loopback(request.url.host or ""):
                raise web.HTTPForbidden(text="ask for localhost: others need a token, which was not set up\n")
            return
        try:
            right = self.token()
        except LbspeakerError:  # why is not for everybody to know
            text = "its token cannot be read; whoever runs it can see why\n"
            raise web.HTTPServiceUnavailable(text=text) from None
        if not hmac.compare_digest(_given(request.headers.get("Authorization", "")), right.encode()):
            challenge = {"WWW-Authenticate": 'Basic realm="lbspeaker: any name, the token as password"'}
            raise web.HTTPUnauthorized(text="a token is needed\n", headers=challenge)


def is_loopback(host: str) -> bool:
    """Whether nobody but this machine is behind that name or address."""
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _given(authorization: str) -> bytes:
    """The token in a header; b"" if there is none."""
    scheme, _, rest = authorization.partition(" ")
    if scheme.lower() == "bearer":
        return rest.strip().encode(errors="replace")
    if scheme.lower() == "basic":
        with contextlib.suppress(binascii.Error, ValueError):
            return base64.b64decode(rest.strip(), validate=True).partition(b":")[2]
    return b""


async def serve(
    pages: Mapping[str, Page],
    socket_path: Path | None,
    address: tuple[str, int] | None = None,
    *,
    door: Door | None = None,
    of: str = "--metrics",
    bound: Callable[[], None] = lambda: None,
) -> None:
    """Serve `pages` by path, for ever. Only the owner of the process may open the socket.

    `address`: host and port; without a host, all addresses of this machine; that is `of` what, errors say.
    `bound` is called once it is there. Without a `door` everybody may come in. Raises Unable if the socket or
    the address cannot be had.
    """
    application = web.Application(middlewares=[_behind(door)] if door else [])
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
        bound()
        await asyncio.Event().wait()
    except OSError as error:
        hint = f"the address of {of} must be free"
        if socket_path is not None:
            hint = f"--runtime-dir must be writable, and the address of {of} free"
        raise Unable(f"the status cannot be served: {error.strerror or error}", hint) from None
    finally:
        await runner.cleanup()
        with contextlib.suppress(OSError):
            if socket_path is not None:
                socket_path.unlink(missing_ok=True)


Answering = Callable[[web.Request], Awaitable[web.StreamResponse]]


def _behind(door: Door) -> Middleware:
    @web.middleware
    async def behind(request: web.Request, handler: Answering) -> web.StreamResponse:
        try:
            door.admits(request)
            response = await handler(request)
        except web.HTTPException as refusal:
            refusal.headers.update(_HEADERS)
            raise
        response.headers.update(_HEADERS)
        return response

    return behind


def _answering(page: Page) -> Callable[[web.Request], Awaitable[web.Response]]:
    content_type, content = page

    async def answer(_: web.Request) -> web.Response:
        try:
            made = content()
            body = await made if inspect.isawaitable(made) else made
        except Unavailable as error:
            return web.Response(status=503, text=f"{error}\n")
        return web.Response(body=body, headers={"Content-Type": content_type})

    return answer
