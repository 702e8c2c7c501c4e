"""HTTP requests and who answers them; and what is not a resource: discovery, OpenAPI, health."""

import asyncio
import logging
import time
from collections.abc import Callable

from aiohttp import web

from lbspeaker.lab import api_discovery, api_render, api_request
from lbspeaker.lab.api_auth import Tokens
from lbspeaker.lab.api_errors import ApiStatus, Json, internal
from lbspeaker.lab.api_faults import Faults
from lbspeaker.lab.api_list import Listing
from lbspeaker.lab.api_registry import Registry
from lbspeaker.lab.api_reply import refuse, reply, style_of
from lbspeaker.lab.api_request import Target
from lbspeaker.lab.api_serve import Watching
from lbspeaker.lab.api_write import Writing

log = logging.getLogger(__name__)

_OPENAPI_V2 = "application/com.github.proto-openapi.spec.v2.v1.0+protobuf"


class Front:
    """Answers requests. `now_s` reads the clock (seconds since the epoch)."""

    def __init__(
        self,
        registry: Registry,
        watching: Watching,
        faults: Faults,
        tokens: Tokens,
        now_s: Callable[[], float] = time.time,
    ) -> None:
        self._registry = registry
        self._watching = watching
        self._faults = faults
        self._tokens = tokens
        self._listing = Listing(registry.store, now_s)
        self._writing = Writing(registry, now_s)
        self._now_s = now_s

    async def __call__(self, request: web.BaseRequest) -> web.StreamResponse:
        """Answer one request; whatever goes wrong becomes a Status object."""
        try:
            await self._faults.strike(request.method, request.path)
            self._tokens.check(request.headers.get("Authorization", ""))
            return await self._answer(request)
        except ApiStatus as status:
            return refuse(status)
        except (asyncio.CancelledError, ConnectionError, web.HTTPException):
            raise
        except Exception as error:
            log.exception("%s %s", request.method, request.path_qs)
            return refuse(internal(repr(error)))

    async def _answer(self, request: web.BaseRequest) -> web.StreamResponse:
        target = api_request.parse_target(request.path, self._registry.catalog)
        if target is None:
            return self._answer_fixed(request)
        if request.method != "GET":
            return await self._writing.write(request, target)
        if target.name:
            return self._get(request, target)
        if api_request.is_watch(request.query):
            return await self._watching.watch(request, target)
        return await self._listing.answer(request, target)

    def _get(self, request: web.BaseRequest, target: Target) -> web.Response:
        entry = self._registry.get(target.resource, target.namespace, target.name)
        return reply(api_render.one(target.resource, entry, style_of(request), self._now_s()))

    # --- what is not a resource -------------------------------------------------------------------------

    def _answer_fixed(self, request: web.BaseRequest) -> web.Response:
        path = request.path.rstrip("/") or "/"
        if path in ("/healthz", "/readyz", "/livez") or path.startswith(("/healthz/", "/readyz/", "/livez/")):
            return web.Response(text="ok")
        if path in ("/api", "/apis") and "APIGroupDiscoveryList" in request.headers.get("Accept", ""):
            found = api_discovery.aggregated(self._registry.catalog, core=path == "/api")
            content = {"Content-Type": api_discovery.AGGREGATED}
            return web.Response(body=api_render.encode(found), headers=content)
        if path == "/openapi/v2":
            # kubectl asks for it to check a `kind: List`. An empty message of protobuf is an empty document:
            # it knows no kind, so kubectl leaves the checking to the server.
            return web.Response(body=b"", headers={"Content-Type": _OPENAPI_V2})
        shown = self._fixed(path)
        if shown is None:
            return web.Response(text="404 page not found\n", status=404)
        return reply(api_render.encode(shown))

    def _fixed(self, path: str) -> Json | None:
        catalog = self._registry.catalog
        parts = path.strip("/").split("/")
        if path == "/version":
            return api_discovery.version()
        if path == "/api":
            return api_discovery.core_versions()
        if path == "/apis":
            return api_discovery.group_list(catalog)
        if parts[0] == "api" and len(parts) == 2:
            return api_discovery.resource_list(catalog, "", parts[1])
        if parts[0] == "apis" and len(parts) == 2:
            return api_discovery.one_group(catalog, parts[1])
        if parts[0] == "apis" and len(parts) == 3:
            return api_discovery.resource_list(catalog, parts[1], parts[2])
        if path == "/openapi/v3":
            return api_discovery.openapi_index(catalog, catalog.revision)
        if path.startswith("/openapi/v3/"):
            return api_discovery.openapi_document(catalog, path.removeprefix("/openapi/v3/"))
        return None
