"""What a cluster says, asked once: for commands that look and end. Only GET is sent."""

import asyncio
import json
from collections.abc import Callable
from typing import Any, TypeVar

from lbspeaker.config.documents import Document, from_object
from lbspeaker.errors import Unable, Unavailable
from lbspeaker.observe.documents import Loaded, loaded
from lbspeaker.shell.apiserver import ApiError, ApiServer, Credentials, credentials
from lbspeaker.wire import kube

_LISTS = (
    "/api/v1/nodes",
    "/api/v1/namespaces",
    "/api/v1/services",
    "/apis/discovery.k8s.io/v1/endpointslices",
)
_PAGE = "500"
FILES = "name files with its objects (kubectl get … -o yaml)"
_T = TypeVar("_T")


def load_cluster(kubeconfig: str | None, context: str | None, namespace: str) -> Loaded:
    """Return what the cluster has, and the configuration that its controller has accepted.

    Raises Unable without access, Unavailable if it does not answer or nothing is published there.
    """
    return loaded(asyncio.run(_everything(access(kubeconfig, context, FILES), namespace)))


def access(kubeconfig: str | None, context: str | None, instead: str = "") -> Credentials:
    """Return the way to the API server. Raises Unable, saying what one may do `instead`."""
    try:
        return credentials(kubeconfig, context)
    except Unable as error:
        raise Unable(error.what, f"{instead}{', or ' if instead else ''}give --kubeconfig FILE") from error


async def _everything(way: Credentials, namespace: str) -> list[Document]:
    async with ApiServer(way, "upstream") as api:
        found = await configuration(api, namespace)
        for path in _LISTS:
            found += await documents(api, path)
    return found


async def configuration(api: ApiServer, namespace: str) -> list[Document]:
    """Return what the controller has published. Raises ApiError; Unavailable if there is nothing."""
    published = f"/apis/lbspeaker.io/v1beta1/namespaces/{namespace}/effectiveconfigurations"
    path = f"{published}/{kube.EFFECTIVE_NAME}"
    try:
        return [from_object(decoded(await api.request("GET", path), path))]
    except ApiError as error:
        if error.status != 404:
            raise
        what = f"no configuration is published in namespace {namespace}"
        raise Unavailable(what, "does the controller run? --namespace says where it lives") from None


async def documents(api: ApiServer, path: str) -> list[Document]:
    """Return all pages of a list, each as one document. Raises ApiError, Unavailable."""

    def read(body: bytes) -> tuple[list[Document], str]:
        page = decoded(body, path)
        return [from_object(page)], _next(page)

    return await paged(api, path, read)


async def objects(api: ApiServer, path: str) -> list[dict[str, Any]]:
    """Return the objects of all pages of a list. Raises ApiError, Unavailable."""

    def read(body: bytes) -> tuple[list[dict[str, Any]], str]:
        page = decoded(body, path)
        return page.get("items") or [], _next(page)

    return await paged(api, path, read)


def _next(page: dict[str, Any]) -> str:
    """The token of the page after this one; "": it is the last."""
    return str((page.get("metadata") or {}).get("continue") or "")


async def paged(
    api: ApiServer,
    path: str,
    read: Callable[[bytes], tuple[list[_T], str]],
    timeout_s: float = 15.0,
    **query: str,
) -> list[_T]:
    """Return what `read` makes of all pages of a list; it also says which token the next page has, or "".

    `timeout_s`: for each page.

    Raises ApiError, and what `read` raises.
    """
    found: list[_T] = []
    token = ""
    while True:
        more = {"continue": token} if token else {}
        some, token = read(
            await api.request("GET", path, query={"limit": _PAGE, **query, **more}, timeout_s=timeout_s)
        )
        found += some
        if not token:
            return found


def decoded(body: bytes, path: str) -> dict[str, Any]:
    """Return the object that `path` answered with. Raises Unavailable."""
    try:
        value = json.loads(body)
    except ValueError:
        value = None
    if not isinstance(value, dict):
        raise Unavailable(f"GET {path}: the answer is no JSON object", "look at what answers")
    return value
