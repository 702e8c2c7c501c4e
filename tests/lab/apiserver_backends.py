"""The API servers that the contract is tested on: ours, and a real kube-apiserver with its etcd.

Both run as processes on loopback and end with the test run. The real pair is used when the environment
variable KUBEBUILDER_ASSETS names a directory with `kube-apiserver` and `etcd`.
"""

import contextlib
import http.client
import json
import os
import shutil
import socket
import ssl
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlencode, urlsplit

Json = dict[str, Any]

JSON_PATCH = "application/json-patch+json"
MERGE_PATCH = "application/merge-patch+json"
STRATEGIC_PATCH = "application/strategic-merge-patch+json"
APPLY_PATCH = "application/apply-patch+yaml"

CIDRS = "10.96.0.0/16,fd00:10:96::/112"


def real_binaries() -> Path | None:
    """Return the directory of the real pair, if there is one."""
    named = os.environ.get("KUBEBUILDER_ASSETS")
    directory = Path(named) if named else None
    if directory and all((directory / name).exists() for name in ("kube-apiserver", "etcd")):
        return directory
    return None


@dataclass(frozen=True)
class Answer:
    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)


@dataclass
class Client:
    """A plain client: one connection per request, no retries, nothing hidden."""

    name: str
    url: str
    kubeconfig: Path
    token: str = ""
    context: ssl.SSLContext | None = None
    unique: Iterator[int] = field(default_factory=lambda: iter(range(10**6)))

    def connect(self, timeout_s: float = 20) -> http.client.HTTPConnection:
        parts = urlsplit(self.url)
        assert parts.hostname
        if self.context:
            return http.client.HTTPSConnection(
                parts.hostname, parts.port, timeout=timeout_s, context=self.context
            )
        return http.client.HTTPConnection(parts.hostname, parts.port, timeout=timeout_s)

    def ask(
        self,
        method: str,
        path: str,
        body: Any = None,
        content_type: str = "application/json",
        headers: dict[str, str] | None = None,
        **query: Any,
    ) -> Answer:
        """Send one request; `body` is JSON unless it is bytes; query names use _ for nothing."""
        sent = self._headers(content_type if body is not None else "", headers)
        data = body if isinstance(body, bytes) or body is None else json.dumps(body).encode()
        connection = self.connect()
        try:
            connection.request(method, _with_query(path, query), data, sent)
            response = connection.getresponse()
            found = {name.lower(): value for name, value in response.getheaders()}
            return Answer(response.status, found, response.read())
        finally:
            connection.close()

    def _headers(self, content_type: str, more: dict[str, str] | None) -> dict[str, str]:
        headers = {"User-Agent": "contract", "Accept": "application/json"}
        if content_type:
            headers["Content-Type"] = content_type
        if self.token:
            headers["Authorization"] = f"Bearer {self.token}"
        return headers | (more or {})

    def good(self, method: str, path: str, body: Any = None, *args: Any, **query: Any) -> Any:
        """Send one request that must succeed, and return what it answers."""
        answer = self.ask(method, path, body, *args, **query)
        assert answer.status < 300, (method, path, answer.status, answer.body)
        return answer.json

    def watch(self, path: str, timeout_s: int = 5, **query: Any) -> "WatchStream":
        query |= {"watch": "true", "timeoutSeconds": timeout_s}
        connection = self.connect()
        connection.request(
            "GET", _with_query(path, query), headers=self._headers("", query.pop("headers", None))
        )
        return WatchStream(connection)

    def namespace(self) -> str:
        """Create a namespace of its own for one test."""
        name = f"t{os.getpid()}-{next(self.unique)}"
        self.good("POST", "/api/v1/namespaces", {"metadata": {"name": name}})
        return name


def _with_query(path: str, query: dict[str, Any]) -> str:
    return f"{path}?{urlencode(query, quote_via=quote)}" if query else path


class WatchStream:
    """A watch: the events as they come, until the server ends it."""

    def __init__(self, connection: http.client.HTTPConnection) -> None:
        self._connection = connection
        self.response = connection.getresponse()

    def next(self) -> Json:
        line = self.response.readline()
        assert line, "the watch has ended"
        event: Json = json.loads(line)
        return event

    def rest(self) -> list[Json]:
        """Return the events until the watch ends, bookmarks included."""
        return [json.loads(line) for line in iter(self.response.readline, b"")]

    def __enter__(self) -> "WatchStream":
        return self

    def __exit__(self, *error: object) -> None:
        self.response.close()
        self._connection.close()


# --- ours -----------------------------------------------------------------------------------------------


@contextlib.contextmanager
def memory(directory: Path, *more: str) -> Iterator[Client]:
    """Run our server as a program, as the lab does."""
    kubeconfig = directory / "kubeconfig"
    program = [sys.executable, "-m", "lbspeaker.lab.apiserver", "--die-with-parent"]
    command = [*program, "--kubeconfig", str(kubeconfig), *more]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout
        url = process.stdout.readline().split()[0]
        yield Client("memory", url, kubeconfig)
    finally:
        process.terminate()
        assert process.wait(10) == 0, "the server did not end cleanly"


# --- the real pair --------------------------------------------------------------------------------------


def _free_ports(count: int) -> list[int]:
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [sock.getsockname()[1] for sock in sockets]
    for sock in sockets:
        sock.close()
    return ports


def _openssl(directory: Path, *arguments: str) -> None:
    subprocess.run(["openssl", *arguments], cwd=directory, check=True, capture_output=True)


def _certificates(directory: Path) -> None:
    subject = ["-subj", "/CN=lab", "-addext", "subjectAltName=IP:127.0.0.1,DNS:localhost"]
    key = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"]
    files = ["-keyout", "tls.key", "-out", "tls.crt"]
    _openssl(directory, "req", "-x509", *key, *files, "-days", "30", *subject)
    _openssl(directory, "genrsa", "-out", "sa.key", "2048")


KUBECONFIG = """\
apiVersion: v1
kind: Config
current-context: lab
clusters: [{{name: lab, cluster: {{server: '{url}', certificate-authority: '{ca}'}}}}]
users: [{{name: lab, user: {{token: '{token}'}}}}]
contexts: [{{name: lab, context: {{cluster: lab, user: lab, namespace: default}}}}]
"""


@contextlib.contextmanager
def real(binaries: Path, directory: Path) -> Iterator[Client]:
    """Run etcd and kube-apiserver on free ports of loopback, with a directory of their own."""
    _certificates(directory)
    client_port, peer_port, secure_port = _free_ports(3)
    token = "contract-token"
    (directory / "tokens.csv").write_text(f"{token},admin,admin,system:masters\n")
    processes: list[subprocess.Popen[bytes]] = []
    with (directory / "log").open("wb") as log:
        try:
            for command in (
                _etcd(binaries, directory, client_port, peer_port),
                _apiserver(binaries, directory, client_port, secure_port),
            ):
                tied = ["setpriv", "--pdeathsig", "KILL", *command]  # no orphans if the tests are killed
                processes.append(subprocess.Popen(tied, stdout=log, stderr=log))
            context = ssl.create_default_context(cafile=str(directory / "tls.crt"))
            url = f"https://127.0.0.1:{secure_port}"
            kubeconfig = directory / "kubeconfig"
            kubeconfig.write_text(KUBECONFIG.format(url=url, ca=directory / "tls.crt", token=token))
            client = Client("real", url, kubeconfig, token, context)
            _await_ready(client, processes, directory / "log")
            yield client
        finally:
            for process in reversed(processes):  # a clean end takes a minute, and nothing is kept
                process.kill()
                process.wait()
            shutil.rmtree(directory / "etcd", ignore_errors=True)


def _etcd(binaries: Path, directory: Path, client_port: int, peer_port: int) -> list[str]:
    client, peer = f"http://127.0.0.1:{client_port}", f"http://127.0.0.1:{peer_port}"
    return [
        str(binaries / "etcd"),
        f"--data-dir={directory / 'etcd'}",
        f"--listen-client-urls={client}",
        f"--advertise-client-urls={client}",
        f"--listen-peer-urls={peer}",
        f"--initial-advertise-peer-urls={peer}",
        f"--initial-cluster=default={peer}",
        "--unsafe-no-fsync",
    ]


def _apiserver(binaries: Path, directory: Path, etcd_port: int, port: int) -> list[str]:
    return [
        str(binaries / "kube-apiserver"),
        f"--etcd-servers=http://127.0.0.1:{etcd_port}",
        "--bind-address=127.0.0.1",
        "--advertise-address=127.0.0.1",
        "--endpoint-reconciler-type=none",  # else newer servers refuse to advertise a loopback address
        f"--secure-port={port}",
        f"--tls-cert-file={directory / 'tls.crt'}",
        f"--tls-private-key-file={directory / 'tls.key'}",
        f"--service-account-key-file={directory / 'sa.key'}",
        f"--service-account-signing-key-file={directory / 'sa.key'}",
        "--service-account-issuer=https://kubernetes.default.svc",
        f"--service-cluster-ip-range={CIDRS}",
        "--authorization-mode=AlwaysAllow",
        "--disable-admission-plugins=ServiceAccount,TaintNodesByCondition",
        f"--token-auth-file={directory / 'tokens.csv'}",
    ]


def _await_ready(client: Client, processes: list[subprocess.Popen[bytes]], log: Path) -> None:
    give_up = time.monotonic() + 60
    while time.monotonic() < give_up:
        for process in processes:
            if process.poll() is not None:
                raise RuntimeError(f"{process.args} ended: {log.read_text()[-2000:]}")
        with contextlib.suppress(OSError, http.client.HTTPException):
            ready = client.ask("GET", "/readyz").status == 200
            if ready and client.ask("GET", "/api/v1/namespaces/default").status == 200:
                return
        time.sleep(0.2)
    raise RuntimeError(f"kube-apiserver is not ready after 60 s: {log.read_text()[-2000:]}")
