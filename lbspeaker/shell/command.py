"""Runs a command that the user gives, and returns what it says: no shell, no input, a bound on time and size.

The command is split as a shell would (shlex), and one question is added as its last argument. `ssh` joins its
arguments and lets a shell on the other side split them again; so there the question is quoted.
"""

import contextlib
import os
import selectors
import shlex
import signal
import subprocess
import time
from pathlib import PurePath

from lbspeaker.errors import Unable, Unavailable, plain

TIMEOUT_S = 30.0
MOST_BYTES = 64 << 20
_END_S = 2.0  # from its last word to its end
_CHUNK = 1 << 16
_REMOTE = frozenset({"ssh", "slogin", "autossh", "mosh"})


def words(command: str) -> list[str]:
    """Return the words of a command. Raises Unable if it has none, or a quote that does not end."""
    try:
        found = shlex.split(command)
    except ValueError as error:
        raise Unable(f"the command {command!r} cannot be split: {error}", "look at its quotes") from None
    if not found:
        raise Unable("the command for the router is empty", "write for example: 'ssh router vtysh'")
    return found


def run(command: list[str], *added: str, timeout_s: float = TIMEOUT_S, most_bytes: int = MOST_BYTES) -> str:
    """Run `command` with `added` arguments and return its standard output.

    Raises Unable if there is no such program, Unavailable if it fails, takes longer, or says more.
    """
    remote = any(PurePath(word).name in _REMOTE for word in command)
    argv = [*command, *(shlex.quote(each) if remote else each for each in added)]
    told = shlex.join([*command, *added])
    try:
        process = subprocess.Popen(
            argv,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            start_new_session=True,  # so that what it starts ends with it
        )
    except OSError as error:
        raise Unable(
            f"{command[0]} cannot be run: {error.strerror}", "is it installed, and in PATH?"
        ) from None
    try:
        output, complaint = _read(process, told, time.monotonic() + timeout_s, timeout_s, most_bytes)
        code = process.wait(_END_S)
    except subprocess.TimeoutExpired:
        raise Unavailable(f"`{told}` does not end", "does it wait for input?") from None
    finally:
        _end(process)
    if code != 0:
        said = _last_line(complaint) or _last_line(output) or "it said nothing"
        raise Unavailable(f"`{told}` failed (exit code {code}): {said}", "try it by hand")
    return output.decode(errors="replace")


def _read(
    process: subprocess.Popen[bytes], told: str, deadline: float, timeout_s: float, most_bytes: int
) -> tuple[bytes, bytes]:
    """All that it writes until both its outputs are closed."""
    assert process.stdout is not None and process.stderr is not None
    written = {process.stdout: bytearray(), process.stderr: bytearray()}
    with selectors.DefaultSelector() as selector:
        for stream in written:
            selector.register(stream, selectors.EVENT_READ)
        while selector.get_map():
            ready = selector.select(_left(deadline))
            if not ready and time.monotonic() >= deadline:
                what = f"`{told}` gave no answer within {timeout_s:.3g} s"
                raise Unavailable(what, "does it ask for a password? is the router reachable?")
            for key, _ in ready:
                chunk = os.read(key.fd, _CHUNK)
                if not chunk:
                    selector.unregister(key.fileobj)
                written[key.fileobj] += chunk  # type: ignore[index]
                if sum(map(len, written.values())) > most_bytes:
                    what = f"`{told}` says more than {most_bytes >> 20} MiB"
                    raise Unavailable(what, "is this the right command?")
    return bytes(written[process.stdout]), bytes(written[process.stderr])


def _left(deadline: float) -> float:
    return max(0.0, deadline - time.monotonic())


def _end(process: subprocess.Popen[bytes]) -> None:
    """Kill it, and what it started and left behind."""
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    for stream in (process.stdout, process.stderr):
        if stream is not None:
            stream.close()


def _last_line(text: bytes) -> str:
    lines = text[-2000:].decode(errors="replace").split("\n")
    line = next((line.strip() for line in reversed(lines) if line.strip()), "")[:200]
    return plain(line)
