"""Objects from files into the server, as if `kubectl apply` and a cluster's controllers had been there."""

import functools
from collections.abc import Iterable, Sequence
from pathlib import Path

import yaml

from lbspeaker.errors import ConfigError, Problem
from lbspeaker.lab import api_patch, api_request
from lbspeaker.lab.api_errors import ApiStatus, Json
from lbspeaker.lab.api_registry import Options, Registry

FIRST = {"CustomResourceDefinition": 0, "Namespace": 1}  # what others need
SUFFIXES = (".yaml", ".yml", ".json")


def read(paths: Sequence[Path]) -> list[Json]:
    """Return the objects in files, and in the files of directories; raises ConfigError."""
    documents: list[Json] = []
    for path in _files(paths):
        try:
            found = api_request.load_documents(path.read_text())
        except OSError as error:
            raise _problem(str(path), "", error.strerror or str(error), "check the path") from None
        except yaml.YAMLError as error:
            raise _problem(str(path), "", f"not YAML: {error}", "correct the syntax") from None
        for document in found:
            documents += _items(document, str(path))
    return documents


def _files(paths: Sequence[Path]) -> Iterable[Path]:
    for path in paths:
        if path.is_dir():
            yield from sorted(file for file in path.rglob("*") if file.suffix in SUFFIXES)
        else:
            yield path


def _items(document: object, file: str) -> list[Json]:
    if not isinstance(document, dict) or not document.get("kind"):
        raise _problem(file, "", "a document that is no Kubernetes object", "give it apiVersion and kind")
    if document["kind"] == "List":
        return [item for inner in document.get("items") or [] for item in _items(inner, file)]
    return [document]


def _problem(file: str, obj: str, what: str, hint: str) -> ConfigError:
    return ConfigError([Problem(file, None, obj, "", what, hint)])


def load(registry: Registry, documents: Iterable[Json], now: str) -> None:
    """Store every object with its status, replacing what is there; raises ConfigError if one is refused."""
    for document in sorted(documents, key=lambda d: FIRST.get(d.get("kind", ""), 2)):
        kind, version = document.get("kind", ""), document.get("apiVersion", "")
        metadata = document.get("metadata") or {}
        shown = f"{kind}/{metadata.get('name', '')}"
        resource = registry.catalog.by_kind(version, kind)
        if resource is None:
            hint = "load its CustomResourceDefinition too"
            raise _problem("API server", shown, f"no kind {kind} in {version or 'no apiVersion'}", hint)
        namespace = (metadata.get("namespace") or "default") if resource.namespaced else ""
        body = {**document, "metadata": {k: v for k, v in metadata.items() if k != "resourceVersion"}}
        key = resource.key(namespace, metadata.get("name", ""))
        try:
            old = registry.store.get(resource.table, key)
            if old is not None:
                body["metadata"]["resourceVersion"] = str(old.rv)
                registry.replace(resource, namespace, old.name, body, now)
            else:
                old = registry.create(
                    resource, namespace, body, now, Options(uid=metadata.get("uid", ""))
                ).entry
            if resource.status and document.get("status"):
                change = functools.partial(api_patch.merge, patch={"status": document["status"]})
                registry.patch(resource, namespace, old.name, change, now, status=True)
        except ApiStatus as error:
            raise _problem("API server", shown, str(error), "correct the object") from None
