"""Who we are to the API server, and how we know that it is the right one; both change while we run.

The `kubernetes` package reads kubeconfig files (certificates, tokens, token files, exec plugins) and a pod's
service account. What it leaves out is done here, because a speaker runs for months:

* A service account's token lives about an hour. Its file is read again when it changes, at least once a
  minute, and when the server answers 401; a newline at its end is not part of the header.
* A CA that was replaced makes a new TLS context; connections that exist go on.
* An exec plugin runs in a thread, again when its credential is about to expire, and when it was refused.
"""

import asyncio
import os
import ssl
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import yaml

from lbspeaker.errors import Unable

REREAD_S = 60.0  # a file may change without a new time stamp
LOOK_S = 1.0  # how often time stamps are looked at
EXPIRY_MARGIN = timedelta(minutes=1)

HINT = "--kubeconfig FILE, or --config DIR to run from files"


@dataclass(frozen=True, slots=True)
class Access:
    """How to reach the server: "https://host:port", the Authorization header, the TLS context."""

    host: str
    authorization: str | None = None
    tls: ssl.SSLContext | None = None
    server_name: str | None = None
    proxy: str | None = None


@dataclass(frozen=True, slots=True)
class Loaded:
    """What a loader found. `files`: those whose change asks for a new look; `expires`: of an exec plugin."""

    host: str
    authorization: str | None = None
    ca: str | None = None
    certificate: str | None = None
    key: str | None = None
    verify: bool = True
    server_name: str | None = None
    proxy: str | None = None
    files: tuple[str, ...] = ()
    exec_plugin: bool = False
    expires: datetime | None = None


class Credentials:
    """The access of one program, kept fresh. `load` does the reading; it may block, and raise Unable."""

    def __init__(self, load: Callable[[], Loaded]) -> None:
        self._load = load
        self._read_at = self._looked_at = time.monotonic()
        self._loaded = load()
        self._tls_files = _tls_stamps(self._loaded)
        self._access = _access(self._loaded, _context(self._loaded))
        self._stamps = _stamps(self._loaded.files)
        self._renewing = asyncio.Lock()

    @property
    def host(self) -> str:
        return self._access.host

    async def current(self) -> Access:
        """Return what a request needs now; reads again what is due. Trouble with that keeps what we had."""
        now = time.monotonic()
        if now - self._looked_at >= LOOK_S and not self._renewing.locked():
            self._looked_at = now
            if self._due(now):
                with suppress(Unable):  # a token file that is being replaced; the old one may live on
                    await self.renew(self._access, now)
        return self._access

    async def renew(self, refused: Access, sent_at: float) -> bool:
        """Read everything again, because the server refused `refused`. Return whether there is news to try.

        Of many requests that are refused together, each with its `sent_at` (monotonic), one reads for all.
        Raises Unable if it cannot be read.
        """
        async with self._renewing:
            if self._access is refused and self._read_at <= sent_at:
                await self._read()
        return self._access is not refused

    def _due(self, now: float) -> bool:
        if self._loaded.expires is not None and datetime.now(UTC) >= self._loaded.expires - EXPIRY_MARGIN:
            return True
        if self._stamps != _stamps(self._loaded.files):
            return True
        return not self._loaded.exec_plugin and now - self._read_at >= REREAD_S

    async def _read(self) -> None:
        self._read_at = time.monotonic()
        stamps = _stamps(self._loaded.files)  # from before: what changes meanwhile is read the next time
        loaded = await asyncio.to_thread(self._load)
        tls, tls_files = self._access.tls, _tls_stamps(loaded)
        if tls_files != self._tls_files:
            tls = await asyncio.to_thread(_context, loaded)
        if loaded.files != self._loaded.files:
            stamps = _stamps(loaded.files)
        self._loaded, self._stamps, self._tls_files = loaded, stamps, tls_files
        access = _access(loaded, tls)
        if access != self._access:
            self._access = access


def credentials(kubeconfig: str | None = None, context: str | None = None) -> Credentials:
    """Find the API server as kubectl does: `kubeconfig`, $KUBECONFIG, ~/.kube/config, then the pod's account.

    Raises Unable, saying where it looked, or what is wrong with what it found.
    """
    from kubernetes.config import incluster_config  # 20 MiB that a program run from files need not have

    if kubeconfig is not None:
        paths = [kubeconfig]
    else:
        paths = (os.environ.get("KUBECONFIG") or "~/.kube/config").split(os.pathsep)
    paths = [str(Path(path).expanduser()) for path in paths if path]
    present = [path for path in paths if Path(path).exists()]
    if present:
        return Credentials(lambda: from_kubeconfig(os.pathsep.join(present), context))
    if kubeconfig is not None:
        raise Unable(f"kubeconfig {kubeconfig} does not exist", HINT)
    if os.environ.get(incluster_config.SERVICE_HOST_ENV_NAME):
        token, ca = incluster_config.SERVICE_TOKEN_FILENAME, incluster_config.SERVICE_CERT_FILENAME
        return Credentials(lambda: from_service_account(token, ca))
    raise Unable(
        f"no Kubernetes API server: no kubeconfig at {', '.join(paths)}, and not running in a cluster", HINT
    )


def from_service_account(token_file: str, ca_file: str) -> Loaded:
    """Read a pod's service account; the server is named by the environment. Raises Unable."""
    from kubernetes.config import ConfigException
    from kubernetes.config.incluster_config import InClusterConfigLoader

    target = _target()
    try:
        InClusterConfigLoader(token_file, ca_file, try_refresh_token=False).load_and_set(target)
    except (ConfigException, OSError) as error:
        raise Unable(
            f"the pod's service account ({Path(token_file).parent}) cannot be used: {error}",
            "set automountServiceAccountToken: true on the pod, or give --kubeconfig FILE",
        ) from error
    return _loaded(target, files=(token_file, ca_file))


def from_kubeconfig(paths: str, context: str | None = None) -> Loaded:
    """Read kubeconfig files (separated like $PATH, merged as kubectl does); runs its exec plugin, if any.

    Raises Unable if they cannot be used.
    """
    from kubernetes.config import ConfigException, kube_config

    target = _target()
    try:
        merged = kube_config.KubeConfigMerger(paths)
        if merged.config is None:
            raise ConfigException("it is empty")
        loader = kube_config.KubeConfigLoader(merged.config, active_context=context, config_base_path=None)
        user, base = _user(merged.config, loader.current_context)
        loader.load_and_set(target)
    except (
        ConfigException,
        yaml.YAMLError,
        OSError,
        LookupError,
        TypeError,
        ValueError,
        AttributeError,
    ) as error:
        raise Unable(f"kubeconfig {paths} cannot be used: {_one_line(error)}", HINT) from error
    if target.host is None:
        raise Unable(f"kubeconfig {paths} names no server in its current context's cluster", HINT)
    plugin = user.get("exec")
    if plugin and not target.api_key and not target.cert_file:
        raise Unable(f"kubeconfig {paths}: its exec plugin gives no credential: {_why(plugin, base)}", HINT)
    token_file = [str(Path(base, user["tokenFile"]))] if "tokenFile" in user else []
    named = [name for name in (target.ssl_ca_cert, target.cert_file, target.key_file) if name]
    files = (*paths.split(os.pathsep), *token_file, *named)
    return _loaded(target, files, exec_plugin=bool(plugin), expires=getattr(loader, "expiry", None))


def _user(config: Any, context: Any) -> tuple[dict[str, Any], str]:
    """The user that `context` names, and the directory that its relative paths start from."""
    name = context["context"].get("user")
    node = config["users"].get_with_name(name, safe=True) if name and config.safe_get("users") else None
    if node is None:
        return {}, ""
    return node["user"].value if node.safe_get("user") else {}, str(Path(node.path or ".").parent.absolute())


def _why(plugin: dict[str, Any], base: str) -> str:
    """Run an exec plugin that failed once more, for its reason: the loader drops it."""
    from kubernetes.config.exec_provider import ExecProvider
    from kubernetes.config.kube_config import ConfigNode

    try:
        status = ExecProvider(ConfigNode("exec", plugin), base).run()
    except Exception as error:
        return _one_line(error)
    return f"{plugin.get('command')} answered with neither token nor certificate, only {sorted(status)}"


def _target() -> SimpleNamespace:
    """What the loaders fill: the fields of kubernetes.client.Configuration that they know."""
    return SimpleNamespace(
        host=None,
        api_key={},
        ssl_ca_cert=None,
        cert_file=None,
        key_file=None,
        verify_ssl=True,
        tls_server_name=None,
        proxy=None,
    )


def _loaded(
    target: SimpleNamespace,
    files: tuple[str, ...],
    exec_plugin: bool = False,
    expires: datetime | None = None,
) -> Loaded:
    authorization = target.api_key.get("BearerToken")
    return Loaded(
        host=target.host.rstrip("/"),
        authorization=_header(authorization) if authorization else None,
        ca=target.ssl_ca_cert,
        certificate=target.cert_file,
        key=target.key_file,
        verify=bool(target.verify_ssl),
        server_name=target.tls_server_name,
        proxy=target.proxy,
        files=files,
        exec_plugin=exec_plugin,
        expires=expires,
    )


def _header(authorization: str) -> str:
    scheme, _, token = authorization.strip().partition(" ")
    token = token.strip()
    if not token.isprintable() or not token.isascii() or " " in token:
        raise Unable("the token for the API server is not one line of printable text", "look into its file")
    return f"{scheme.capitalize()} {token}"


def _access(loaded: Loaded, tls: ssl.SSLContext | None) -> Access:
    return Access(loaded.host, loaded.authorization, tls, loaded.server_name, loaded.proxy)


def _context(loaded: Loaded) -> ssl.SSLContext | None:
    """Build the TLS context. Raises Unable if a file is missing or is no certificate."""
    if not loaded.host.startswith("https:"):
        return None
    try:
        context = ssl.create_default_context(cafile=loaded.ca)
        if loaded.certificate:
            context.load_cert_chain(loaded.certificate, loaded.key)
    except (OSError, ValueError) as error:
        files = ", ".join(name for name in (loaded.ca, loaded.certificate, loaded.key) if name)
        raise Unable(
            f"no TLS to {loaded.host}: {files}: {_one_line(error)}", "these must be PEM files"
        ) from error
    # From Python 3.13 on, contexts demand key identifiers, which the CAs of many clusters lack. All other
    # checks stay.
    context.verify_flags &= ~ssl.VERIFY_X509_STRICT
    if not loaded.verify:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    return context


def _tls_stamps(loaded: Loaded) -> tuple[object, ...]:
    """What the TLS context depends on; equal stamps: the context may stay."""
    names = (loaded.ca, loaded.certificate, loaded.key)
    return (loaded.host, loaded.verify, names, _stamps(tuple(name for name in names if name)))


def _stamps(files: tuple[str, ...]) -> tuple[tuple[int, int, int] | None, ...]:
    return tuple(_stamp(name) for name in files)


def _stamp(name: str) -> tuple[int, int, int] | None:
    try:
        found = Path(name).stat()
    except OSError:
        return None
    return found.st_mtime_ns, found.st_ino, found.st_size


def _one_line(error: BaseException) -> str:
    return " ".join(str(error).split()) or type(error).__name__
