"""Documents on disk: which files there are, what is in them, and when that changes.

A directory is read recursively; names that begin with a dot are left out, which also keeps the copies of a
mounted ConfigMap (`..data`) from being read twice.
"""

import asyncio
import stat
import sys
from collections.abc import AsyncIterator, Mapping
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import structlog

from lbspeaker.errors import Unable

SUFFIXES = frozenset({".yaml", ".yml", ".json"})
STDIN = "-"
MOST_BYTES = 64 << 20

_SETTLES = 20  # times that we wait for a directory which changes all the time

Stamps = Mapping[str, tuple[int, int, int]]


def listed(path: str) -> list[str]:
    """Return the files that `path` stands for: itself, "-", or what is in the directory, sorted.

    Raises Unable if there is nothing there.
    """
    if path == STDIN:
        return [path]
    if Path(path).is_dir():
        return sorted(_stamps(path))
    if not Path(path).exists():
        raise Unable(
            f"{path}: no such file or directory", "name a YAML file, a directory of them, or - (stdin)"
        )
    return [path]


def read(file: str) -> str:
    """Return the text of `file` ("-": of standard input). Raises Unable if it cannot be read."""
    try:
        with nullcontext(sys.stdin.buffer) if file == STDIN else Path(file).open("rb") as source:
            data = source.read(MOST_BYTES + 1)
        if len(data) > MOST_BYTES:
            raise Unable(f"{file}: is larger than {MOST_BYTES >> 20} MiB", "give documents, in several files")
        return data.decode("utf-8-sig")
    except OSError as error:
        raise Unable(f"{file}: cannot be read: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise Unable(f"{file}: is not UTF-8 text (byte {error.start})", "save it as UTF-8") from error


async def changes(
    directory: str, *, interval_s: float = 1.0, settle_s: float = 0.1
) -> AsyncIterator[dict[str, str | None]]:
    """Yield what changed in `directory`: the text of each file, None for one that is gone; at first, all.

    A change is read once the directory has been still for `settle_s`, so that no half of a file is taken for
    the whole. A file that cannot be read now is told in the log and counts as unchanged. Raises Unable if
    there is no such directory at the start; if it goes away later, nothing is taken to have changed.
    """
    if not Path(directory).is_dir():
        raise Unable(f"{directory}: no such directory", "name the directory that holds the YAML files")
    before: Stamps = {}
    first = True
    while True:
        now = await _settled(directory, before, settle_s)
        changed = [name for name in now if before.get(name) != now[name]]
        gone = [name for name in before if name not in now]
        if changed or gone or first:
            texts: dict[str, str | None] = dict.fromkeys(gone)
            texts |= await asyncio.to_thread(_texts, changed)
            first = False
            yield texts
        before = now
        await asyncio.sleep(interval_s)


async def _settled(directory: str, before: Stamps, settle_s: float) -> Stamps:
    """The stamps in `directory`, once they are the same twice."""
    now = await asyncio.to_thread(_stamps, directory)
    for _ in range(_SETTLES):
        if now == before:
            break
        await asyncio.sleep(settle_s)
        earlier, now = now, await asyncio.to_thread(_stamps, directory)
        if now == earlier:
            break
    return now if now or Path(directory).is_dir() else before


def _stamps(directory: str) -> dict[str, tuple[int, int, int]]:
    """Size, time and inode of every file of ours; a file that vanishes meanwhile is not there."""
    stamps = {}
    for path in sorted(Path(directory).rglob("*")):
        hidden = any(part.startswith(".") for part in path.relative_to(directory).parts)
        if hidden or path.suffix not in SUFFIXES:
            continue
        try:
            found = path.stat()
        except OSError:
            continue
        if not stat.S_ISREG(found.st_mode):  # to read a FIFO would be to wait for its writer
            continue
        stamps[str(path)] = (found.st_size, found.st_mtime_ns, found.st_ino)
    return stamps


def _texts(files: list[str]) -> dict[str, str]:
    log: Any = structlog.get_logger()
    texts = {}
    for file in files:
        try:
            texts[file] = read(file)
        except Unable as error:
            log.warning("file-unreadable", file=file, why=error.what, hint=error.hint)
    return texts
