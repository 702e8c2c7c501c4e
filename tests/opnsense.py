"""A server with the paths and the JSON of OPNsense's plugin os-frr, as its documentation and source say.

It is not OPNsense. What FRR would say comes from `ask`, a vtysh; the plugin's reshaping of it is redone here:
`bgpsummary` and `bgpneighbors` are under "response" ([] if there is nothing), tables are rows, one for each
next hop.
"""

import base64
import json
import ssl
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

KEY, SECRET = "w86XNZob", "XeD26Xrb+/x="
_DIAGNOSTICS = "/api/quagga/diagnostics/"
Ask = Callable[[str], Any]  # the JSON that a command of vtysh gives


def pages(ask: Ask, prefix_lists: list[Mapping[str, str]]) -> dict[str, Callable[[], object]]:
    """Return what each path gives."""

    def response(command: str) -> dict[str, Any]:
        return {"response": ask(command) or []}

    return {
        f"{_DIAGNOSTICS}bgpsummary": lambda: response("show bgp summary json"),
        f"{_DIAGNOSTICS}bgpneighbors": lambda: response("show bgp neighbors json"),
        f"{_DIAGNOSTICS}searchBgproute4": lambda: rows(bgp_rows(ask("show bgp ipv4 json"))),
        f"{_DIAGNOSTICS}searchBgproute6": lambda: rows(bgp_rows(ask("show bgp ipv6 json"))),
        f"{_DIAGNOSTICS}searchGeneralroute4": lambda: rows(route_rows(ask("show ip route json"))),
        f"{_DIAGNOSTICS}searchGeneralroute6": lambda: rows(route_rows(ask("show ipv6 route json"))),
        "/api/quagga/bgp/searchPrefixlist": lambda: rows(list(prefix_lists)),
    }


def rows(found: list[Any]) -> dict[str, Any]:
    return {"total": len(found), "rowCount": len(found), "current": 1, "rows": found}


def bgp_rows(table: Mapping[str, Any]) -> list[dict[str, Any]]:
    base = {key: value for key, value in table.items() if not isinstance(value, dict | list)}
    return [
        {
            **base,
            **{k: v for k, v in route.items() if k != "nexthops"},
            **hop,
            "path": route["path"] or "Internal",
        }
        for routes in table.get("routes", {}).values()
        for route in routes
        for hop in route["nexthops"]
    ]


def route_rows(table: Mapping[str, Any]) -> list[dict[str, Any]]:
    return [
        {
            **{k: v for k, v in route.items() if k != "nexthops"},
            **hop,
            "via": hop.get("ip", "Directly Attached"),
        }
        for routes in table.values()
        for route in routes
        for hop in route["nexthops"]
    ]


class _Handler(BaseHTTPRequestHandler):
    pages: Mapping[str, Callable[[], object]]
    asked: list[str]

    def do_GET(self) -> None:
        self.asked.append(self.path)
        token = base64.b64encode(f"{KEY}:{SECRET}".encode()).decode()
        if self.headers.get("Authorization") != f"Basic {token}":
            self._answer(401, {"status": 401, "message": "Authentication Failed"})
        elif self.path not in self.pages:
            self._answer(404, {"errorMessage": "Endpoint not found"})
        else:
            self._answer(200, self.pages[self.path]())

    def _answer(self, status: int, value: object) -> None:
        body = value if isinstance(value, bytes) else json.dumps(value).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        pass


@contextmanager
def serving(
    found: Mapping[str, Callable[[], object]], certificate: tuple[Path, Path] | None = None
) -> Iterator[tuple[str, list[str]]]:
    """Serve `found` on the loopback; yield the URL, and a list that fills with the paths that were asked."""
    asked: list[str] = []
    handler = type("Handler", (_Handler,), {"pages": found, "asked": asked})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    if certificate is not None:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(*certificate)
        server.socket = context.wrap_socket(server.socket, server_side=True)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"http{'s' if certificate else ''}://127.0.0.1:{server.server_port}", asked
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
