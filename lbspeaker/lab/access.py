"""Kubeconfigs of the lab: one for people on this machine, one for programs on the control network. Pure."""

from pathlib import PurePath
from typing import Any
from urllib.parse import urlsplit

import yaml

from lbspeaker.errors import Unable

Config = dict[str, Any]

_FILES = {"certificate-authority", "client-certificate", "client-key", "tokenFile"}


def plain(url: str) -> str:
    """Return the kubeconfig of an API server that asks nobody who they are."""
    named = {"name": "lab"}
    context = {"cluster": "lab", "user": "lab", "namespace": "default"}
    return _dump(
        {
            "apiVersion": "v1",
            "kind": "Config",
            "current-context": "lab",
            "clusters": [{**named, "cluster": {"server": url}}],
            "users": [{**named, "user": {}}],
            "contexts": [{**named, "context": context}],
        }
    )


def url(kubeconfig: str, file: str) -> str:
    """Return the URL of the API server of a kubeconfig's current context. Raises Unable."""
    return str(_cluster(_load(kubeconfig, file), file)["server"])


def server(kubeconfig: str, file: str) -> tuple[str, int]:
    """Return host and port of the API server of a kubeconfig's current context. Raises Unable."""
    parts = urlsplit(_cluster(_load(kubeconfig, file), file)["server"])
    if not parts.hostname:
        raise Unable(f"kubeconfig {file}: its server is not a URL", "write https://HOST:PORT")
    return parts.hostname, parts.port or (443 if parts.scheme == "https" else 80)


def redirected(kubeconfig: str, file: str, address: str, port: int) -> str:
    """Return the kubeconfig with its server at another address, and still expecting the same certificate.

    `file` is its absolute path: what it names relative to that still is found. Raises Unable if it is not a
    kubeconfig that one could use.
    """
    config = _load(kubeconfig, file)
    cluster = _cluster(config, file)
    parts = urlsplit(cluster["server"])
    cluster["server"] = f"{parts.scheme}://{address}:{port}{parts.path}"
    if parts.scheme == "https":
        cluster.setdefault("tls-server-name", parts.hostname)
    for holder in [entry.get("cluster") or {} for entry in config["clusters"]] + [
        entry.get("user") or {} for entry in config.get("users") or []
    ]:
        for key in _FILES & holder.keys():
            holder[key] = str(PurePath(file).parent / holder[key])
    return _dump(config)


def _load(kubeconfig: str, file: str) -> Config:
    try:
        config = yaml.safe_load(kubeconfig)
    except yaml.YAMLError as error:
        raise Unable(f"kubeconfig {file} is not YAML: {' '.join(str(error).split())}") from error
    if not isinstance(config, dict):
        raise Unable(
            f"kubeconfig {file} is empty, or not a mapping", "kubectl config view --flatten shows one"
        )
    return config


def _cluster(config: Config, file: str) -> dict[str, Any]:
    """The cluster of the current context: the very mapping, so that it may be changed."""
    try:
        current = config["current-context"]
        context = next(entry["context"] for entry in config["contexts"] if entry["name"] == current)
        cluster: dict[str, Any] = next(
            entry["cluster"] for entry in config["clusters"] if entry["name"] == context["cluster"]
        )
        str(cluster["server"])
    except (KeyError, TypeError, StopIteration) as error:
        raise Unable(f"kubeconfig {file} names no server", "kubectl config use-context NAME") from error
    return cluster


def _dump(config: Config) -> str:
    text: str = yaml.safe_dump(config, sort_keys=False)
    return text
