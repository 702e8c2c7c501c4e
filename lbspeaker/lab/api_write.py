"""Writes over HTTP: POST, PUT, PATCH and DELETE, from the request to the registry and back."""

from collections.abc import Callable
from typing import Any

from aiohttp import web

from lbspeaker.lab import api_patch, api_render, api_request
from lbspeaker.lab.api_errors import (
    ApiStatus,
    Json,
    bad_request,
    method_not_allowed,
    unfitting,
    unsupported_media_type,
    unsupported_patch,
)
from lbspeaker.lab.api_registry import RETURNED, Options, Registry, Written
from lbspeaker.lab.api_render import Style
from lbspeaker.lab.api_reply import reply, rfc3339, style_of
from lbspeaker.lab.api_request import APPLY_PATCH, JSON_PATCH, MERGE_PATCH, STRATEGIC_PATCH, Target
from lbspeaker.lab.api_resources import Resource
from lbspeaker.lab.api_store import Entry
from lbspeaker.lab.api_strategic import strategic_merge

Change = Callable[[Json], Json]


class Writing:
    """Serves writes to `registry`. `now_s` reads the clock (seconds since the epoch)."""

    def __init__(self, registry: Registry, now_s: Callable[[], float]) -> None:
        self._registry = registry
        self._now_s = now_s

    async def write(self, request: web.BaseRequest, target: Target) -> web.Response:
        """Answer a write; raises ApiStatus."""
        body = await request.read()
        style = style_of(request)  # before anything is written
        method, whole = request.method, not target.name
        if whole and target.resource.namespaced and not target.namespace:
            raise method_not_allowed()
        if method == "POST" and whole:
            return self._answer(target, self._create(request, target, body), style)
        if method == "PUT" and not whole:
            return self._answer(target, self._replace(request, target, body), style)
        if method == "PATCH" and not whole:
            return self._answer(target, self._patch(request, target, body), style)
        if method == "DELETE" and not target.status:
            return self._delete(request, target, body, style)
        raise method_not_allowed()

    def _answer(self, target: Target, written: Written, style: Style) -> web.Response:
        response = self._one(target, written.entry, style, 201 if written.created else 200)
        for warning in written.warnings:
            escaped = warning.replace('"', '\\"')
            response.headers.add("Warning", f'299 - "{escaped}"')
        return response

    def _one(self, target: Target, entry: Entry, style: Style, code: int = 200) -> web.Response:
        return reply(api_render.one(target.resource, entry, style, self._now_s()), code)

    def _now(self) -> str:
        return rfc3339(self._now_s())

    def _create(self, request: web.BaseRequest, target: Target, body: bytes) -> Written:
        obj = api_request.decode(body, _type(request))
        options = api_request.parse_options(request.query)
        return self._registry.create(target.resource, target.namespace, obj, self._now(), options)

    def _replace(self, request: web.BaseRequest, target: Target, body: bytes) -> Written:
        obj = api_request.decode(body, _type(request))
        options = api_request.parse_options(request.query)
        place = (target.resource, target.namespace, target.name)
        return self._registry.replace(*place, obj, self._now(), options, status=target.status)

    def _patch(self, request: web.BaseRequest, target: Target, body: bytes) -> Written:
        kind = _type(request)
        change = _change(target.resource, kind, body, request.query.get("fieldManager", ""))
        options = api_request.parse_options(request.query)
        place = (target.resource, target.namespace, target.name)
        upsert = kind == APPLY_PATCH
        try:
            return self._registry.patch(
                *place, change, self._now(), options, status=target.status, upsert=upsert
            )
        except api_patch.BadPatch as error:
            raise bad_request(str(error)) from None
        except api_patch.Unfitting:
            raise unfitting() from None

    def _delete(self, request: web.BaseRequest, target: Target, body: bytes, style: Style) -> web.Response:
        asked = api_request.decode(body, _type(request)) if body else {}
        options = api_request.parse_options(request.query, asked)
        if not target.name:
            return self._delete_all(request, target, options, style)
        written = self._registry.delete(target.resource, target.namespace, target.name, self._now(), options)
        if not written.gone or target.resource.table in RETURNED:
            return self._one(target, written.entry, style)
        return reply(api_render.encode(_deleted(target.resource, written.entry)))

    def _delete_all(
        self, request: web.BaseRequest, target: Target, options: Options, style: Style
    ) -> web.Response:
        chosen = api_request.parse_filter(target, request.query)
        entries = self._registry.store.entries(target.resource.table, target.namespace)
        entries = [entry for entry in entries if chosen.selects(entry.object)]
        for entry in entries:
            self._registry.delete(target.resource, entry.namespace, entry.name, self._now(), options)
        metadata = {"resourceVersion": str(self._registry.store.rv)}
        return reply(api_render.many(target.resource, entries, metadata, style, self._now_s()))


def _type(request: web.BaseRequest) -> str:
    """Return the Content-Type without parameters; "" if there is none."""
    return request.headers.get("Content-Type", "").partition(";")[0].strip()


def _change(resource: Resource, kind: str, body: bytes, manager: str) -> Change:
    """Return the function that applies a patch to an object; raises ApiStatus 400, 415 or 422."""
    accepted = [JSON_PATCH, MERGE_PATCH, APPLY_PATCH] + ([] if resource.custom else [STRATEGIC_PATCH])
    if kind not in accepted:
        raise unsupported_media_type(accepted) if resource.custom else unsupported_patch()
    patch: Any = api_request.decode(body, kind)
    if kind == JSON_PATCH:
        return lambda obj: api_patch.json_patch(obj, patch)
    if not isinstance(patch, dict):
        raise bad_request("the patch is not an object")
    if kind == APPLY_PATCH:
        _check_applied(patch, manager)
    if kind == MERGE_PATCH or resource.custom:
        return lambda obj: api_patch.merge(obj, patch)
    return lambda obj: strategic_merge(obj, patch, resource.kind)


def _check_applied(patch: Json, manager: str) -> None:
    if not manager:
        raise api_request.no_manager()
    if not patch.get("kind") or not patch.get("apiVersion"):
        raise bad_request("invalid object type: apiVersion and kind must be set")
    if (patch.get("metadata") or {}).get("managedFields"):
        raise ApiStatus(400, "BadRequest", "metadata.managedFields must be nil")


def _deleted(resource: Resource, entry: Entry) -> Json:
    """Return the Status that says that an object is gone."""
    details = {"name": entry.name, "kind": resource.plural, "uid": entry.object["metadata"]["uid"]}
    if resource.group:
        details["group"] = resource.group
    status = {"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success"}
    return status | {"details": details}
