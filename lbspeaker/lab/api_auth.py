"""Bearer tokens from a file: one `token,user[,expired]` per line, read again when it changes."""

from pathlib import Path

from lbspeaker.lab.api_errors import unauthorized


class Tokens:
    """Who may talk to the server. Without a file, everybody may."""

    def __init__(self, path: Path | None = None) -> None:
        self._path = path
        self._stamp: tuple[int, int] | None = None
        self._users: dict[str, str] = {}

    def check(self, authorization: str) -> str:
        """Return the user of an Authorization header; raises ApiStatus 401."""
        if self._path is None:
            return "system:anonymous"
        self._refresh(self._path)
        scheme, _, token = authorization.partition(" ")
        user = self._users.get(token.strip()) if scheme.lower() == "bearer" else None
        if user is None:
            raise unauthorized()
        return user

    def first(self) -> str:
        """Return the first token that is valid now, "" if there is none."""
        if self._path is not None:
            self._refresh(self._path)
        return next(iter(self._users), "")

    def _refresh(self, path: Path) -> None:
        try:
            stat = path.stat()
            stamp = (stat.st_mtime_ns, stat.st_size)
            if stamp == self._stamp:
                return
            lines = path.read_text().splitlines()
        except OSError:  # being replaced, or gone: what was valid no longer is
            self._stamp, self._users = None, {}
            return
        rows = [[part.strip() for part in line.split(",")] for line in lines if "," in line]
        self._users = {row[0]: row[1] for row in rows if "expired" not in row[2:]}
        self._stamp = stamp
