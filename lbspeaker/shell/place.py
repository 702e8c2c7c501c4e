"""The directory in which one ExaBGP runs: its configuration, which may hold a password, and its socket.

Nobody else may look into it (mode 0700). Whoever uses it holds a lock on it (flock(2)), which the kernel
takes away when that process has ended, however it did. So a directory that nobody holds was left behind.
"""

import contextlib
import errno
import fcntl
import os
import socket
from pathlib import Path

from lbspeaker.errors import Unable

CONFIGURATION = "exabgp.conf"


class Place:
    """One directory, from `make` to `remove`."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._lock = -1

    def make(self, configuration: str) -> socket.socket:
        """Make it, with `configuration` in it, and return what listens there. Raises Unable."""
        try:
            self._directory.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._lock = _lock(self._directory)
            self._directory.chmod(0o700)
            _clear(self._directory)
            path = configuration_path(self._directory)
            file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
            with os.fdopen(file, "w", encoding="ascii") as stream:
                stream.write(configuration)
            return _listen(socket_path(self._directory))
        except BlockingIOError:
            raise Unable(
                f"ExaBGP has no place to run: another speaker uses {self._directory}",
                "give each speaker a runtime directory of its own",
            ) from None
        except OSError as error:
            what = f"ExaBGP has no place to run: {self._directory}"
            hint = "give a runtime directory that this user may write, with a path under 90 characters"
            raise unable(what, error, hint) from error

    def remove(self) -> None:
        """Leave nothing behind. Harmless if it was never made, or belongs to somebody else."""
        if self._lock >= 0:
            _remove(self._directory)
            os.close(self._lock)
            self._lock = -1


def sweep(runtime_dir: Path) -> None:
    """Remove from `runtime_dir` what processes that were killed have left there; what is in use stays."""
    for found in runtime_dir.glob(f"*/{CONFIGURATION}"):
        with contextlib.suppress(OSError):
            lock = _lock(found.parent)
            try:
                _remove(found.parent)
            finally:
                os.close(lock)


def configuration_path(directory: Path) -> Path:
    return directory.resolve() / CONFIGURATION


def socket_path(directory: Path) -> Path:
    return directory.resolve() / "api"


def unable(what: str, error: OSError, hint: str) -> Unable:
    """Return what the system refused, in a line; too many open files have a hint of their own."""
    if error.errno in (errno.EMFILE, errno.ENFILE):
        hint = "raise the limit of open files"
    return Unable(f"{what}: {error.strerror or error}", hint)


def _lock(directory: Path) -> int:
    """Return the handle that holds `directory` until it is closed. BlockingIOError: somebody else does."""
    handle = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(handle)
        raise
    return handle


def _clear(directory: Path) -> None:
    for path in (socket_path(directory), configuration_path(directory)):
        with contextlib.suppress(OSError):
            path.unlink()


def _remove(directory: Path) -> None:
    _clear(directory)
    with contextlib.suppress(OSError):
        directory.rmdir()


def _listen(path: Path) -> socket.socket:
    listener = socket.socket(socket.AF_UNIX)
    try:
        listener.setblocking(False)
        listener.bind(str(path))
        listener.listen(1)
    except OSError:
        listener.close()
        raise
    return listener
