"""A Kubernetes API server in memory, for the lab and for tests, good enough for `kubectl`.

It has the semantics that clients depend on: resource versions, watches with a bounded history, optimistic
concurrency, selectors, all kinds of patch, the status subresource, finalizers, Tables, custom resources. It
has no controllers, no admission plugins and no authorization; what it holds is gone when it ends.

    python -m lbspeaker.lab.apiserver --listen 127.0.0.1:0 --kubeconfig kubeconfig.yaml --load manifests/
"""

import argparse
import asyncio
import ctypes
import os
import signal
import socket
import sys
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from aiohttp import web

from lbspeaker.errors import LbspeakerError, Unable
from lbspeaker.lab import api_load
from lbspeaker.lab.api_auth import Tokens
from lbspeaker.lab.api_faults import Faults
from lbspeaker.lab.api_http import Front
from lbspeaker.lab.api_network import ServiceNetwork
from lbspeaker.lab.api_registry import Registry
from lbspeaker.lab.api_reply import rfc3339
from lbspeaker.lab.api_resources import Catalog
from lbspeaker.lab.api_serve import Watching
from lbspeaker.lab.api_store import HISTORY, Json, Store
from lbspeaker.lab.api_watch import Hub

NAMESPACES = ("default", "kube-system", "kube-public", "kube-node-lease")
PR_SET_PDEATHSIG = 1  # prctl(2)


class ApiServer:
    """The server, in this process and event loop.

    `tokens`: a file of bearer tokens (api_auth); `network`: cluster IPs and node ports; `history`: how many
    events per resource a watch can go back. Faults: `fail`, `drop_watches`, `cut_connections`,
    `forget_history`, `freeze`, `unfreeze`.
    """

    def __init__(
        self,
        *,
        tokens: Path | None = None,
        network: ServiceNetwork | None = None,
        history: int = HISTORY,
    ) -> None:
        self.store = Store(history)
        self.registry = Registry(self.store, Catalog(), network or ServiceNetwork())
        self.faults = Faults()
        self.hub = Hub(time.time)
        self.store.publish = self.hub.publish
        self.watching = Watching(self.store, self.hub, self.faults, time.time)
        self.tokens = Tokens(tokens)
        self._front = Front(self.registry, self.watching, self.faults, self.tokens)
        self._runner: web.ServerRunner | None = None
        self.addresses: list[str] = []
        self.load([{"kind": "Namespace", "apiVersion": "v1", "metadata": {"name": n}} for n in NAMESPACES])

    @property
    def url(self) -> str:
        """The address of the first socket, like "http://127.0.0.1:6443"."""
        return self.addresses[0]

    @property
    def requests(self) -> Counter[str]:
        """How often each "METHOD path" was asked."""
        return self.faults.requests

    def load(self, documents: Sequence[Json]) -> None:
        """Store Kubernetes objects, statuses included; raises ConfigError if one cannot be."""
        api_load.load(self.registry, documents, rfc3339(time.time()))

    async def start(self, sockets: list[socket.socket] | None = None) -> None:
        """Serve on `sockets`, bound and of any network namespace; without: a free port of 127.0.0.1."""
        runner = web.ServerRunner(
            web.Server(self._front, handler_cancellation=True, access_log=None), shutdown_timeout=0.5
        )
        await runner.setup()
        self._runner = runner
        for sock in sockets or [listening("127.0.0.1", 0)]:
            host, port = sock.getsockname()[:2]
            await web.SockSite(runner, sock, backlog=1024).start()
            self.addresses.append(f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}")

    async def stop(self) -> None:
        """End all watches, close all connections and sockets."""
        self.unfreeze()
        self.drop_watches()
        if self._runner is not None:
            await self._runner.cleanup()
            self._runner = None
        self.addresses = []

    # --- faults -----------------------------------------------------------------------------------------

    def fail(
        self, times: int, code: int, retry_after_s: int | None = None, *, method: str = "", path: str = ""
    ) -> None:
        """Answer the next `times` requests of `method` whose path contains `path` with `code` ("": any)."""
        self.faults.fail(times, code, retry_after_s, method=method, path=path)

    def drop_watches(self) -> None:
        """End every watch that is open now, cleanly, as a server under load does."""
        self.hub.end_all()

    def cut_connections(self) -> None:
        """Reset every connection, as a server that dies does."""
        if self._runner is not None and self._runner.server is not None:
            for connection in self._runner.server.connections:
                transport = getattr(connection, "transport", None)
                if transport is not None:
                    transport.abort()

    def forget_history(self) -> None:
        """Make every resource version handed out so far too old (410), as a restart of the server does."""
        self.store.forget()

    def freeze(self, path: str = "") -> None:
        """Accept, and never answer; watches go silent."""
        self.faults.freeze(path)

    def unfreeze(self) -> None:
        self.faults.unfreeze()


def listening(host: str, port: int) -> socket.socket:
    """Return a socket bound to `host` and `port` (0: any free one); raises Unable."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    sock = socket.socket(family, socket.SOCK_STREAM)
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        sock.bind((host, port))
    except OSError as error:
        sock.close()
        what = f"API server: cannot listen on {host}:{port}: {error.strerror}"
        raise Unable(what, "choose another address with --listen, or port 0 for any free port") from None
    return sock


def kubeconfig(url: str, token: str = "") -> str:
    """Return a kubeconfig for the server at `url`."""
    user = f'{{"token": "{token}"}}' if token else "{}"
    return (
        "apiVersion: v1\nkind: Config\ncurrent-context: lab\n"
        f"clusters: [{{name: lab, cluster: {{server: '{url}'}}}}]\n"
        f"users: [{{name: lab, user: {user}}}]\n"
        "contexts: [{name: lab, context: {cluster: lab, user: lab, namespace: default}}]\n"
    )


# --- as a program ---------------------------------------------------------------------------------------


def arguments(argv: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m lbspeaker.lab.apiserver", description="Kubernetes in memory."
    )
    parser.add_argument(
        "--listen", action="append", default=[], metavar="HOST:PORT", help="port 0: any free one"
    )
    parser.add_argument("--fd", action="append", default=[], type=int, help="an inherited socket, bound")
    parser.add_argument("--kubeconfig", type=Path, help="write a kubeconfig for the first address here")
    parser.add_argument(
        "--tokens", type=Path, help="lines of token,user[,expired]; without it all may do all"
    )
    parser.add_argument(
        "--load", action="append", default=[], type=Path, help="YAML or JSON, file or directory"
    )
    parser.add_argument("--node-ports", default="30000-32767", metavar="FIRST-LAST")
    parser.add_argument("--die-with-parent", action="store_true", help="end when the parent (thread) ends")
    return parser.parse_args(argv)


def open_sockets(options: argparse.Namespace) -> list[socket.socket]:
    sockets = []
    for text in options.listen or ([] if options.fd else ["127.0.0.1:0"]):
        host, _, port = text.rpartition(":")
        if not port.isdigit():
            raise Unable(f"API server: --listen {text}: no port", "write HOST:PORT, like 127.0.0.1:0")
        sockets.append(listening(host.strip("[]") or "127.0.0.1", int(port)))
    for number in options.fd:
        try:
            sockets.append(socket.socket(fileno=number))
        except OSError as error:
            hint = "pass a bound TCP socket to the process, e.g. with pass_fds"
            raise Unable(f"API server: --fd {number}: {error.strerror}", hint) from None
    return sockets


def die_with_parent() -> None:
    """Ask the kernel to end this process when its parent ends."""
    parent = os.getppid()
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGTERM)
    if os.getppid() != parent:  # it ended before we asked
        sys.exit(0)


async def serve(options: argparse.Namespace) -> None:
    """Serve until SIGTERM or SIGINT; the first line on standard output says where, once it is ready."""
    first, _, last = options.node_ports.partition("-")
    server = ApiServer(tokens=options.tokens, network=ServiceNetwork(node_ports=(int(first), int(last))))
    server.load(api_load.read(options.load))
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    await server.start(open_sockets(options))
    if options.kubeconfig:
        options.kubeconfig.write_text(kubeconfig(server.url, server.tokens.first()))
    print(" ".join(server.addresses), flush=True)
    await stop.wait()
    await server.stop()


def main(argv: Sequence[str] | None = None) -> int:
    options = arguments(sys.argv[1:] if argv is None else argv)
    if options.die_with_parent:
        die_with_parent()
    try:
        asyncio.run(serve(options))
    except LbspeakerError as error:
        print(error, file=sys.stderr)
        return 3
    return 0


if __name__ == "__main__":
    sys.exit(main())
