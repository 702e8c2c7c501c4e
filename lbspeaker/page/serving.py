"""Where the page is served, and to whom. It looks at the cluster only while somebody looks at it."""

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from importlib import resources
from pathlib import Path

import msgspec

from lbspeaker.errors import LbspeakerError, Unable, Unavailable
from lbspeaker.observe.look import Look, look
from lbspeaker.observe.overview import Overview, overview, plainly
from lbspeaker.page.document import View, document
from lbspeaker.page.rates import Rates
from lbspeaker.shell import http

EVERY_S = 2.0
_BREATH, _LONGEST_S = 3, 10.0  # as many times as a look took, it rests after it; at most so long
_SHORTEST = 16  # characters of a token: guessing must not pay
_NOTHING = Overview((), (), (), (), (), (), ())


@dataclass(frozen=True, slots=True)
class Options:
    """Which cluster is shown, and where. `token_file`: what stands in it must be known to see the page."""

    kubeconfig: str | None
    context: str | None
    namespace: str
    address: tuple[str, int]
    token_file: Path | None = None


async def serve(options: Options, bound: Callable[[], None] = lambda: None) -> None:
    """Serve the page, for ever; `bound` is called once it is there.

    Raises Unable where it may not be shown, or the address cannot be had.
    """
    entrance = door(options)

    def see() -> Look:
        return look(options.kubeconfig, options.context, options.namespace, stays=True)

    served = pages(Watching(see))
    await http.serve(served, None, options.address, door=entrance, of="the page", bound=bound)


def door(options: Options) -> http.Door:
    """Return who may see the page. Raises Unable if everybody could."""
    path, host = options.token_file, options.address[0]
    if path is not None:
        _token(path)
        return http.Door(lambda: _token(path))
    if not http.is_loopback(host):
        where = f"from {host}" if host else "from everywhere"
        hint = "give --page-token FILE, or let it listen on 127.0.0.1 and use kubectl port-forward"
        raise Unable(f"anybody could look at the page {where}", hint)
    return http.Door()


def _token(path: Path) -> str:
    """Raises Unable if there is none that is worth the name."""
    try:
        token = path.read_text().strip()
    except (OSError, UnicodeDecodeError) as error:
        why = error.strerror if isinstance(error, OSError) else "it is no text"
        raise Unable(f"the page's token cannot be read from {path}: {why}", "look at --page-token") from None
    if len(token) < _SHORTEST:
        hint = f"openssl rand -hex 16 > {path}"
        raise Unable(f"the page's token in {path} has fewer than {_SHORTEST} characters", hint)
    return token


class Watching:
    """The cluster, looked at by `see` in a thread: when it is asked for, but not too often."""

    def __init__(self, see: Callable[[], Look]) -> None:
        self._see = see
        self._rates = Rates()
        self._view = View(_NOTHING)
        self._page = b""
        self._next = 0.0  # of the loop's clock
        self._turn = asyncio.Lock()

    async def page(self) -> bytes:
        """Return the page; if nothing can be seen, it says so."""
        await self._look()
        return self._page

    async def status(self) -> bytes:
        """Return what was seen, as JSON. Raises Unavailable if nothing can be seen now."""
        await self._look()
        if self._view.error:
            raise Unavailable(self._view.error)
        return msgspec.json.encode(plainly(self._view.found) | {"seen": self._view.at})

    async def _look(self) -> None:
        loop = asyncio.get_running_loop()
        async with self._turn:
            began = loop.time()
            if began >= self._next:
                self._view, self._page = await asyncio.to_thread(self._seen)
                rest_s = 0.0 if self._view.error else min(_BREATH * (loop.time() - began), _LONGEST_S)
                self._next = loop.time() + max(rest_s, EVERY_S / 2)

    def _seen(self) -> tuple[View, bytes]:
        try:
            seen, now = self._see(), time.time()
            view = View(overview(seen, now), self._rates.observe(seen, now), now)
        except LbspeakerError as error:
            view = replace(self._view, error=str(error))
        return view, document(view)


def pages(watching: Watching) -> dict[str, http.Page]:
    """Return what is served, by path."""
    return {
        "/": ("text/html; charset=utf-8", watching.page),
        "/status.json": ("application/json", watching.status),
        "/page.css": ("text/css; charset=utf-8", lambda: _file("page.css")),
        "/page.js": ("text/javascript; charset=utf-8", lambda: _file("page.js")),
    }


def _file(name: str) -> bytes:
    return resources.files("lbspeaker.page").joinpath(name).read_bytes()
