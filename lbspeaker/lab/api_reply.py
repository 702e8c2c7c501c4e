"""Responses: bodies with their headers, and refusals."""

import asyncio
import gzip
from datetime import UTC, datetime

from aiohttp import web

from lbspeaker.lab import api_render
from lbspeaker.lab.api_errors import ApiStatus
from lbspeaker.lab.api_render import Style

BIG = 128 * 1024  # bytes from which a body is worth compressing


def rfc3339(now_s: float) -> str:
    """Return a time as Kubernetes writes it: whole seconds, UTC."""
    return datetime.fromtimestamp(now_s, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def reply(body: bytes, code: int = 200, headers: dict[str, str] | None = None) -> web.Response:
    return web.Response(body=body, status=code, content_type="application/json", headers=headers)


def refuse(status: ApiStatus) -> web.Response:
    headers = {} if status.retry_after_s is None else {"Retry-After": str(status.retry_after_s)}
    return reply(api_render.encode(status.body), status.code, headers)


async def compressed(request: web.BaseRequest, body: bytes) -> web.Response:
    """Return a response that is compressed if it is big and the client can take it."""
    if len(body) < BIG or "gzip" not in request.headers.get("Accept-Encoding", ""):
        return reply(body)
    packed = await asyncio.to_thread(gzip.compress, body, 1)
    return reply(packed, headers={"Content-Encoding": "gzip", "Vary": "Accept-Encoding"})


def style_of(request: web.BaseRequest) -> Style:
    """Return how the client wants objects; raises ApiStatus 406."""
    include = request.query.get("includeObject", "Metadata")
    return api_render.parse_accept(request.headers.get("Accept", ""), include)
