"""HTTP to the API server: one exchange, or one stream of lines; every failure becomes an ApiError.

Bodies are raw bytes, both ways. Lists come gzipped. The User-Agent is our own, because the server sends
indented JSON, twice as long and buffered whole, to names that look like a browser or curl. Connections are
probed by the kernel, so that a server that lost its power is noticed within half a minute.
"""

import asyncio
import socket
import ssl
import time
from collections import Counter
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager
from typing import Any

import aiohttp
import msgspec
import structlog

from lbspeaker import __version__
from lbspeaker.errors import Unable, Unavailable
from lbspeaker.shell.credentials import Access, Credentials

CONNECT_S = 10.0
IDLE_S = 55.0  # less than the 90 s after which API servers close an idle connection
KEEPALIVE = {socket.TCP_KEEPIDLE: 15, socket.TCP_KEEPINTVL: 5, socket.TCP_KEEPCNT: 3}
UNACKNOWLEDGED_MS = 30_000  # RFC 5482 user timeout: as long as the probes take

# Words of the server's Status, and ours: others count as one, as a proxy may say anything.
_REASONS = frozenset(
    {
        "AlreadyExists",
        "BadRequest",
        "Certificate",
        "Conflict",
        "Ended",
        "Expired",
        "Forbidden",
        "Gone",
        "InternalError",
        "Invalid",
        "MethodNotAllowed",
        "NoConnection",
        "NotFound",
        "ServerTimeout",
        "ServiceUnavailable",
        "Timeout",
        "TooManyRequests",
        "Unauthorized",
    }
)

Query = Mapping[str, str]


class ApiError(Unavailable):
    """The server said no, or nothing: `status` is HTTP's, 0 if there was no answer.

    `reason` is the word of the server's Status ("Conflict", "Expired" ...), or ours without an answer:
    "Timeout", "NoConnection", "Certificate". `retry_after_s` is what the server asked for, if it did.
    """

    def __init__(
        self,
        where: str,
        status: int,
        reason: str,
        message: str,
        retry_after_s: float | None = None,
        hint: str = "",
    ) -> None:
        answer = f"{status} {reason}: {message}" if status else message
        super().__init__(f"{where}: {answer}", hint)
        self.status = status
        self.reason = reason
        self.message = message
        self.retry_after_s = retry_after_s

    @property
    def away(self) -> bool:
        """Whether this is about the server as a whole, not about what was asked."""
        return self.status == 0 or self.status == 429 or self.status >= 500


class Transport:
    """Connections to one API server. At most `connections` for exchanges; streams have their own.

    `requests`: how many were begun, by method; streams are WATCH. `failures`: by method and reason.
    """

    def __init__(self, credentials: Credentials, program: str, connections: int) -> None:
        self.credentials = credentials
        self._headers = {"User-Agent": f"lbspeaker/{__version__} ({program})", "Accept": "application/json"}
        self._connections = connections
        self._sessions: dict[str, aiohttp.ClientSession] = {}
        self._streams: set[aiohttp.ClientResponse] = set()
        self._log: Any = structlog.get_logger()
        self.requests: Counter[str] = Counter()
        self.failures: Counter[tuple[str, str]] = Counter()

    def reconnect(self) -> None:
        """Break every stream: after an outage the server may take a minute to send again on a connection."""
        for response in self._streams:
            response.close()

    async def close(self) -> None:
        for session in self._sessions.values():
            await session.close()
        self._sessions.clear()

    async def exchange(
        self,
        method: str,
        path: str,
        query: Query | None = None,
        body: bytes | None = None,
        content_type: str | None = None,
        timeout_s: float = 15.0,
    ) -> bytes:
        """Send one request and return the body of its answer. Raises ApiError.

        It is sent a second time only if credentials were refused and there are new ones.
        """
        headers = {"Content-Type": content_type} if content_type else {}
        limits = aiohttp.ClientTimeout(total=timeout_s, sock_connect=CONNECT_S)
        request: dict[str, Any] = {"params": query, "data": body, "headers": headers, "timeout": limits}
        where = f"{method} {self.credentials.host}{path}"
        with self._counted(method, path), _told(where, timeout_s):
            response = await self._answer("exchanges", where, method, path, request)
            async with response:
                return await response.read()

    @asynccontextmanager
    async def stream(
        self, path: str, query: Query, *, answer_s: float, silence_s: float, total_s: float
    ) -> AsyncIterator[AsyncIterator[bytes]]:
        """Open a stream of lines. Raises ApiError if there is no good answer within `answer_s`.

        The lines end when the server ends them; they raise ApiError after `silence_s` without a byte, after
        `total_s`, and when the connection breaks. A line cut short is never given.
        """
        where = f"WATCH {self.credentials.host}{path}"
        limits = aiohttp.ClientTimeout(total=total_s, sock_connect=CONNECT_S, sock_read=silence_s)
        with self._counted("WATCH", path):
            with _told(where, answer_s):
                async with asyncio.timeout(answer_s):
                    request = {"params": query, "timeout": limits}
                    response = await self._answer("streams", where, "GET", path, request)
            self._streams.add(response)
            try:
                yield _lines(where, response, silence_s)
            finally:
                self._streams.discard(response)
                response.close()

    @contextmanager
    def _counted(self, method: str, path: str) -> Iterator[None]:
        self.requests[method] += 1
        began, result = time.monotonic(), "broken off"
        try:
            yield
            result = "done"
        except ApiError as error:
            result = error.reason
            self.failures[method, error.reason if error.reason in _REASONS else "Other"] += 1
            raise
        finally:
            if structlog.is_configured():  # a command has no log
                took_ms = round(1000 * (time.monotonic() - began))
                self._log.debug("request", method=method, path=path, result=result, took_ms=took_ms)

    async def _answer(
        self, use: str, where: str, method: str, path: str, request: dict[str, Any]
    ) -> aiohttp.ClientResponse:
        """Return an answer below 400, its body unread. Raises ApiError, or what aiohttp raises."""
        access = await self.credentials.current()
        sent_at = time.monotonic()
        try:
            return await self._send(use, where, access, method, path, request)
        except (ApiError, aiohttp.ClientSSLError) as refused:
            if isinstance(refused, ApiError) and refused.status != 401:
                raise
            try:
                news = await self.credentials.renew(access, sent_at)
            except Unable as error:
                raise ApiError(where, 401, "Unauthorized", error.what, hint=error.hint) from refused
            if not news:
                raise
        return await self._send(use, where, await self.credentials.current(), method, path, request)

    async def _send(
        self, use: str, where: str, access: Access, method: str, path: str, request: dict[str, Any]
    ) -> aiohttp.ClientResponse:
        headers = dict(request.get("headers", {}))
        if access.authorization:
            headers["Authorization"] = access.authorization
        response = await self._session(use).request(
            method,
            access.host + path,
            **{**request, "headers": headers},
            ssl=access.tls if access.tls is not None else True,
            server_hostname=access.server_name,
            proxy=access.proxy,
            allow_redirects=False,
        )
        if response.status < 300:
            return response
        async with response:
            raise _refused(where, response, await response.read())

    def _session(self, use: str) -> aiohttp.ClientSession:
        """Sessions are made at first use, because they belong to the running loop."""
        if use not in self._sessions:
            connector = aiohttp.TCPConnector(
                limit=self._connections if use == "exchanges" else 0,
                keepalive_timeout=IDLE_S,
                socket_factory=_socket,
            )
            self._sessions[use] = aiohttp.ClientSession(
                connector=connector, headers=self._headers, cookie_jar=aiohttp.DummyCookieJar()
            )
        return self._sessions[use]


def _socket(info: Any) -> socket.socket:
    family, kind, protocol, _, _ = info
    made = socket.socket(family, kind, protocol)
    made.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for option, value in KEEPALIVE.items():
        made.setsockopt(socket.IPPROTO_TCP, option, value)
    made.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, UNACKNOWLEDGED_MS)
    return made


async def _lines(where: str, response: aiohttp.ClientResponse, silence_s: float) -> AsyncIterator[bytes]:
    rest = b""
    while True:
        with _told(where, silence_s):
            chunk = await response.content.readany()
        if not chunk:
            return
        *complete, rest = (rest + chunk).split(b"\n")
        for line in complete:
            if line:
                yield line


class _Status(msgspec.Struct, gc=False):
    """What the server says when it says no (meta/v1 Status)."""

    message: str = ""
    reason: str = ""


_decode_status = msgspec.json.Decoder(_Status).decode


def _refused(where: str, response: aiohttp.ClientResponse, body: bytes) -> ApiError:
    try:
        status = _decode_status(body)
    except msgspec.DecodeError:  # a proxy's page, or "404 page not found"
        status = _Status(" ".join(body[:200].decode(errors="replace").split()))
    reason = status.reason or (response.reason or "").replace(" ", "")
    hint = {
        401: "the server does not take these credentials: see the kubeconfig, or the pod's service account",
        403: "the account lacks a right: see the roles in config/",
    }.get(response.status, "")
    return ApiError(where, response.status, reason, status.message, _retry_after_s(response), hint)


def _retry_after_s(response: aiohttp.ClientResponse) -> float | None:
    """Seconds, the only form that API servers send (RFC 9110 §10.2.3)."""
    text = response.headers.get("Retry-After", "")
    return float(text) if text.isdecimal() else None


@contextmanager
def _told(where: str, timeout_s: float) -> Iterator[None]:
    """Tell what goes wrong inside as an ApiError without status."""
    reachable = "is this address right, and reachable from here?"
    try:
        yield
    except TimeoutError as error:
        message = f"no answer within {timeout_s:.3g} s"
        raise ApiError(where, 0, "Timeout", message, hint=reachable) from error
    except (aiohttp.ClientSSLError, ssl.SSLError) as error:
        message = f"no TLS connection: {_cause(error)}"
        raise ApiError(
            where, 0, "Certificate", message, hint="look at the kubeconfig's CA and server"
        ) from error
    except (aiohttp.ClientError, OSError) as error:
        message = f"no connection: {_cause(error)}"
        raise ApiError(where, 0, "NoConnection", message, hint=reachable) from error


def _cause(error: BaseException) -> str:
    """The operating system's words, without aiohttp's wrapping."""
    inner = getattr(error, "os_error", None) or getattr(error, "certificate_error", None) or error
    text = getattr(inner, "verify_message", None) or getattr(inner, "strerror", None) or str(inner)
    return str(text) or type(error).__name__
