"""HTTPS with a key and a secret: GET of one path after the other, for a router's API.

The certificate is verified unless that is turned off. Nothing is redirected, so the key goes nowhere but to
the host that was named. What comes back is bounded in time and size.
"""

import base64
import http.client
import os
import re
import ssl
import time
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

from lbspeaker.errors import Unable, Unavailable

TIMEOUT_S = 30.0
MOST_BYTES = 64 << 20
_CHUNK = 1 << 16
_WORD = re.compile(r"[!-~]{1,512}")  # what a key or a secret consists of


@dataclass(frozen=True, slots=True)
class Key:
    """An API key: its public part, and its secret one."""

    key: str = field(repr=False)
    secret: str = field(repr=False)


def key_from_file(path: Path) -> Key:
    """Read the file that OPNsense gives for a new key: lines key=… and secret=…. Raises Unable."""
    try:
        text = path.read_bytes()[:10_000].decode(errors="replace")
    except OSError as error:
        raise Unable(
            f"{path}: cannot be read: {error.strerror}", "it is what OPNsense gave as apikey.txt"
        ) from None
    values = dict(line.strip().split("=", 1) for line in text.splitlines() if "=" in line)
    return _key(values.get("key", ""), values.get("secret", ""), f"{path} has no lines key=… and secret=…")


def key_from_environment() -> Key:
    """Read $OPNSENSE_KEY and $OPNSENSE_SECRET. Raises Unable."""
    key, secret = os.environ.get("OPNSENSE_KEY", ""), os.environ.get("OPNSENSE_SECRET", "")
    return _key(
        key, secret, "there is no API key: set OPNSENSE_KEY and OPNSENSE_SECRET, or give --key-file FILE"
    )


def _key(key: str, secret: str, lack: str) -> Key:
    if not key or not secret:
        raise Unable(lack, "System: Access: Users makes one")
    if not _WORD.fullmatch(key) or not _WORD.fullmatch(secret):
        raise Unable("the API key is not one word of printable ASCII", "look for a line break in it")
    return Key(key, secret)


class Rest:
    """A client of one host, `url` being "https://host:port"."""

    def __init__(
        self, url: str, key: Key, *, verify: bool = True, ca: Path | None = None, timeout_s: float = TIMEOUT_S
    ) -> None:
        """`ca`: a PEM file; without it, the certificates that this machine believes. Raises Unable."""
        parts = urlsplit(url)
        try:
            port = parts.port
        except ValueError:
            port = 0
        if parts.scheme not in ("https", "http") or not parts.hostname or port == 0 or parts.username:
            raise Unable(f"{url!r} is not the URL of a router", "write https://192.0.2.1")
        if parts.scheme == "http" and verify:
            raise Unable(
                "http:// would send the key for everybody to read", "write https://, or add --insecure"
            )
        self.url = f"{parts.scheme}://{parts.netloc}"
        self._prefix = parts.path.rstrip("/")
        self._host, self._port, self._tls = parts.hostname, port, parts.scheme == "https"
        self._context = _context(verify, ca) if self._tls else None
        self._timeout_s = timeout_s
        token = base64.b64encode(f"{key.key}:{key.secret}".encode()).decode()
        self._headers = {"Authorization": f"Basic {token}", "Accept": "application/json"}

    def get(self, path: str) -> bytes:
        """Return the body at `path`. Raises Unavailable, and Unable if the key has no right."""
        where = f"GET {self.url}{self._prefix}/{path}"
        connection = self._connection()
        try:
            connection.request("GET", f"{self._prefix}/{path}", headers=self._headers)
            answer = connection.getresponse()
            body = self._body(answer, where)
        except ssl.SSLCertVerificationError as error:
            hint = "give --ca FILE with the certificate that it is signed by, or --insecure"
            raise Unavailable(
                f"{where}: its certificate is not believed: {error.verify_message}", hint
            ) from None
        except (OSError, http.client.HTTPException) as error:
            cause = getattr(error, "strerror", None) or str(error) or type(error).__name__
            raise Unavailable(
                f"{where}: no answer: {cause}", "is the address right, and reachable from here?"
            ) from None
        finally:
            connection.close()
        return self._checked(answer.status, body, where)

    def _connection(self) -> http.client.HTTPConnection:
        if not self._tls:
            return http.client.HTTPConnection(self._host, self._port, timeout=self._timeout_s)
        return http.client.HTTPSConnection(
            self._host, self._port, timeout=self._timeout_s, context=self._context
        )

    def _body(self, answer: http.client.HTTPResponse, where: str) -> bytes:
        deadline = time.monotonic() + self._timeout_s
        body = bytearray()
        while chunk := answer.read(_CHUNK):
            body += chunk
            if len(body) > MOST_BYTES:
                raise Unavailable(f"{where}: more than {MOST_BYTES >> 20} MiB", "is this the right URL?")
            if time.monotonic() > deadline:
                raise Unavailable(
                    f"{where}: not complete within {self._timeout_s:.3g} s", "is it overloaded?"
                )
        return bytes(body)

    def _checked(self, status: int, body: bytes, where: str) -> bytes:
        if status == 200:
            return body
        if status in (401, 403):
            hint = "the key's user needs the privilege Routing; is the key of this router?"
            raise Unable(f"{where}: {status}: the key is refused", hint)
        if status == 404:
            raise Unable(f"{where}: 404: it has no such page", "install its plugin os-frr, 1.34 or newer")
        raise Unavailable(f"{where}: {status}", "look at what answers there")


def _context(verify: bool, ca: Path | None) -> ssl.SSLContext:
    try:
        context = ssl.create_default_context(cafile=ca)
    except (OSError, ssl.SSLError) as error:
        raise Unable(f"{ca}: no certificate: {error.strerror or error}", "give a PEM file") from None
    if not verify:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    return context
