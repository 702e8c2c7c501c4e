"""What a cluster says, asked once: for commands that look and end. Only GET is sent."""

import asyncio
import json
from typing import Any

from lbspeaker.config.documents import Document, from_object
from lbspeaker.errors import Unable, Unavailable
from lbspeaker.observe.documents import Loaded, loaded
from lbspeaker.shell.apiserver import ApiError, ApiServer, credentials
from lbspeaker.wire import kube

_LISTS = (
    "/api/v1/nodes",
    "/api/v1/namespaces",
    "/api/v1/services",
    "/apis/discovery.k8s.io/v1/endpointslices",
)
_PAGE = "500"


def load_cluster(kubeconfig: str | None, context: str | None, namespace: str) -> Loaded:
    """Return what the cluster has, and the configuration that its controller has accepted.

    Raises Unable without access, Unavailable if it does not answer or nothing is published there.
    """
    try:
        access = credentials(kubeconfig, context)
    except Unable as error:
        hint = "name files with its objects (kubectl get … -o yaml), or give --kubeconfig FILE"
        raise Unable(error.what, hint) from error
    return loaded(asyncio.run(_documents(access, namespace)))


async def _documents(access: Any, namespace: str) -> list[Document]:
    published = f"/apis/lbspeaker.io/v1beta1/namespaces/{namespace}/effectiveconfigurations"
    async with ApiServer(access, "upstream") as api:
        found = [await _configuration(api, f"{published}/{kube.EFFECTIVE_NAME}", namespace)]
        for path in _LISTS:
            found += await _list(api, path)
    return found


async def _configuration(api: ApiServer, path: str, namespace: str) -> Document:
    try:
        return from_object(_decoded(await api.request("GET", path), path))
    except ApiError as error:
        if error.status != 404:
            raise
        what = f"no configuration is published in namespace {namespace}"
        raise Unavailable(what, "does the controller run? --namespace says where it lives") from None


async def _list(api: ApiServer, path: str) -> list[Document]:
    """All pages of a list."""
    pages, token = [], ""
    while True:
        query = {"limit": _PAGE, **({"continue": token} if token else {})}
        page = _decoded(await api.request("GET", path, query=query), path)
        pages.append(from_object(page))
        token = str((page.get("metadata") or {}).get("continue") or "")
        if not token:
            return pages


def _decoded(body: bytes, path: str) -> dict[str, Any]:
    try:
        value = json.loads(body)
    except ValueError:
        value = None
    if not isinstance(value, dict):
        raise Unavailable(f"GET {path}: the answer is no JSON object", "look at what answers")
    return value
