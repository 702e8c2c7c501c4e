"""Runs one ExaBGP process, and holds its two pipes.

The process lives in a directory of its own (mode 0700), gets its configuration as a file (0600) and its
settings in a clean environment, holds no capability but to read files where the speaker has that one, and
dies with the speaker (PDEATHSIG). It starts `shim.py`, which hands the two API pipes over a unix socket.
From then on lines come out as values, and go in through a queue; reading never waits for anybody, for an
ExaBGP whose events are not read stops talking to its router.
"""

import asyncio
import contextlib
import ctypes
import errno
import fcntl
import importlib.metadata
import importlib.util
import os
import pwd
import shutil
import signal
import socket
import subprocess
import sys
from collections import deque
from collections.abc import Callable, Mapping
from pathlib import Path

from lbspeaker.errors import Unable, Unavailable
from lbspeaker.shell import engine, shim
from lbspeaker.shell.place import Place, configuration_path, socket_path, unable

INSTALL = f"run: {sys.executable} -m pip install 'exabgp>=5,<6'"
START_S = 15.0  # from exec to the pipes; 0.3 s on an idle machine
TERM_S = 2.0
HELPER_S = 0.5  # a helper that dies may be the first sign of an ExaBGP that ends
PIPE_BYTES = 1 << 20
CHUNK = 1 << 16
CHUNKS = 8  # read at once, before the loop may do other work
LINE_BYTES = 1 << 22  # a line of ExaBGP has at most about half a MiB
QUEUE_BYTES = 1 << 22  # what may wait for a child that does not read
LAST_WORDS_S = 1.0  # what it said before may be about anything

PR_SET_PDEATHSIG = 1
PR_SET_NO_NEW_PRIVS = 38
LINUX_CAPABILITY_VERSION_3 = 0x20080522
READ_FILES = 1 << 2  # CAP_DAC_READ_SEARCH: root may run this from another's home

_libc = ctypes.CDLL(None, use_errno=True)


def exabgp_command() -> list[str]:
    """Return the command that runs ExaBGP; raises Unable if it is not installed, or is not version 5."""
    if importlib.util.find_spec("exabgp") is not None:
        _check_version()
        return [sys.executable, str(Path(engine.__file__).resolve())]
    found = shutil.which("exabgp")
    if found:
        return [found]
    raise Unable("ExaBGP is not installed", INSTALL)


def _check_version() -> None:
    """What other versions are told and tell is not what we know. Where it does not say, it is tried."""
    with contextlib.suppress(importlib.metadata.PackageNotFoundError):
        version = importlib.metadata.version("exabgp")
        if not version.startswith("5."):
            raise Unable(f"ExaBGP {version} is installed, and 5 is needed", INSTALL)


def shim_command(directory: Path) -> list[str]:
    """Return the command by which a child in `directory` hands over its pipes."""
    return [sys.executable, "-I", "-S", str(Path(shim.__file__).resolve()), str(socket_path(directory))]


def own_user() -> str:
    """The name of the user who runs this; ExaBGP wants one that exists, even where it changes nothing."""
    try:
        return pwd.getpwuid(os.getuid()).pw_name
    except KeyError:
        return "nobody"


class Child:
    """A running ExaBGP.

    `on_line(line)` gets each line that it writes; `on_end(error)` is called once when it has ended or can
    no longer be used, with the reason. Both are called from the event loop. After `on_end`, and once `stop`
    has begun, neither is.
    """

    def __init__(
        self, directory: Path, on_line: Callable[[bytes], None], on_end: Callable[[str], None]
    ) -> None:
        self._directory = directory
        self._place = Place(directory)
        self._on_line = on_line
        self._on_end = on_end
        self._process: subprocess.Popen[bytes] | None = None
        self._readers: set[int] = set()
        self._files: list[int] = []  # those that follow, and its helper's socket
        self._exit_handle = -1  # readable when it has ended (pidfd_open(2))
        self._events = -1
        self._commands = -1
        self._partial = b""
        self._queue: deque[bytes] = deque()
        self._queued = 0
        self._said = ("", 0.0)  # the last line on stderr, and when
        self._exited = asyncio.Event()
        self._over = False

    @property
    def pid(self) -> int | None:
        return self._process.pid if self._process else None

    # --- start ------------------------------------------------------------------------------------------

    async def start(self, configuration: str, environment: Mapping[str, str]) -> None:
        """Start it and take its pipes.

        Raises Unable if it cannot be run at all, Unavailable if it ends before it has handed them over.
        """
        try:
            with self._place.make(configuration) as listener:
                self._spawn(environment)
                async with asyncio.timeout(START_S):
                    await self._take_pipes(listener)
        except TimeoutError:
            await self.stop()
            raise Unavailable(
                f"ExaBGP did not start within {START_S:.0f} s: {self._said[0] or 'it said nothing'}",
                "is this machine overloaded?",
            ) from None
        except OSError as error:
            await self.stop()
            hint = "does a sandbox, or a seccomp profile, forbid pidfd_open or SCM_RIGHTS?"
            raise unable("ExaBGP cannot be started", error, hint) from error
        except BaseException:
            await self.stop()
            raise

    def _spawn(self, environment: Mapping[str, str]) -> None:
        command = [*exabgp_command(), "server", str(configuration_path(self._directory))]
        parent = os.getpid()
        clean = {
            "PATH": os.defpath,
            "LANG": "C.UTF-8",
            "PYTHONSAFEPATH": "1",
            "PYTHONUNBUFFERED": "1",  # what logs when a signal comes, which logs too, would lose it
            "EXABGP_ROOT": str(self._directory.resolve()),
        }
        try:
            self._process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.PIPE,
                cwd=self._directory,
                env=clean | dict(environment),
                start_new_session=True,  # a Ctrl-C at the terminal is for the speaker, which drains first
                preexec_fn=lambda: _confine(parent),
            )
        except OSError as error:
            what = f"ExaBGP cannot be started: {command[0]}"
            raise unable(what, error, "check the installation of exabgp") from error
        except subprocess.SubprocessError as error:
            raise Unable(
                "ExaBGP cannot be started without the powers of the speaker",
                "let the seccomp profile permit prctl and capset",
            ) from error
        assert self._process.stderr is not None
        os.set_blocking(self._process.stderr.fileno(), False)  # its helper may hold it open for longer
        self._watch(self._process.stderr.fileno(), self._read_stderr)
        self._exit_handle = os.pidfd_open(self._process.pid)
        self._files.append(self._exit_handle)
        self._watch(self._exit_handle, self._reap)

    async def _take_pipes(self, listener: socket.socket) -> None:
        loop = asyncio.get_running_loop()
        accepted = asyncio.ensure_future(loop.sock_accept(listener))
        exited = asyncio.ensure_future(self._exited.wait())
        try:
            await asyncio.wait({accepted, exited}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            exited.cancel()
            if not accepted.done():
                accepted.cancel()
        if not accepted.done() or accepted.cancelled():
            raise Unavailable(f"ExaBGP ended at once: {self._said[0] or 'it said nothing'}")
        control, _ = accepted.result()
        control.setblocking(False)
        handle = control.detach()
        self._files.append(handle)
        await self._readable(handle)
        self._events, self._commands = _receive_pipes(handle)
        self._files += [self._events, self._commands]
        for pipe in (self._events, self._commands):
            os.set_blocking(pipe, False)
            with contextlib.suppress(OSError):  # past the user's allowance the default size must do
                fcntl.fcntl(pipe, fcntl.F_SETPIPE_SZ, PIPE_BYTES)
        self._watch(self._events, self._read_events)
        self._watch(handle, lambda: self._lose_helper(handle))

    async def _readable(self, handle: int) -> None:
        ready = asyncio.Event()
        self._watch(handle, ready.set)
        await ready.wait()
        self._unwatch(handle)

    # --- lines ------------------------------------------------------------------------------------------

    def send(self, line: str) -> None:
        """Give one command; it goes out as soon as the child reads. Too much unread ends the child."""
        if self._over:
            return
        data = line.encode("ascii") + b"\n"
        self._queue.append(data)
        self._queued += len(data)
        if self._queued > QUEUE_BYTES:
            self._fail("ExaBGP does not read its commands")
        elif len(self._queue) == 1:
            self._write()

    def _write(self) -> None:
        loop = asyncio.get_running_loop()
        while self._queue:
            try:
                written = os.write(self._commands, self._queue[0])
            except BlockingIOError:
                loop.add_writer(self._commands, self._write)
                return
            except OSError:  # most likely it has ended, and says so itself
                self._queue.clear()
                self._queued = 0
                loop.call_later(HELPER_S, self._fail, "ExaBGP has closed its pipes")
                break
            self._queued -= written
            rest = self._queue[0][written:]
            if rest:
                self._queue[0] = rest
            else:
                self._queue.popleft()
        loop.remove_writer(self._commands)

    def _read_events(self) -> None:
        for _ in range(CHUNKS):
            try:
                data = os.read(self._events, CHUNK)
            except BlockingIOError:
                return
            except OSError:
                data = b""
            if not data:
                self._unwatch(self._events)  # its exit is told by the process itself
                return
            *lines, self._partial = (self._partial + data).split(b"\n")
            for line in lines:
                if not self._over:
                    self._on_line(line)
            if len(self._partial) > LINE_BYTES:
                self._partial = b""
                self._fail("ExaBGP writes a line without end")

    def _read_stderr(self) -> None:
        assert self._process is not None
        assert self._process.stderr is not None
        handle = self._process.stderr.fileno()
        try:
            data = os.read(handle, CHUNK)
        except BlockingIOError:
            return
        if not data:
            self._unwatch(handle)
        for line in data.decode("utf-8", "replace").splitlines():
            text = " ".join(line.split())[:300]
            if text and "environment file missing" not in text and "exabgp env >" not in text:
                self._said = (text, asyncio.get_running_loop().time())

    # --- end --------------------------------------------------------------------------------------------

    async def stop(self) -> None:
        """End it: TERM, 2 s, KILL; returns when it is reaped. Harmless if it has ended already."""
        self._over = True
        process = self._process
        try:
            if process is not None and self._exit_handle >= 0:
                process.terminate()
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(TERM_S):
                        await self._exited.wait()
        finally:
            if process is not None and process.poll() is None:
                process.kill()
                process.wait()
            self._close()

    def _fail(self, why: str) -> None:
        """It can no longer be used: say so, once."""
        if not self._over:
            self._over = True
            self._on_end(why)

    def _lose_helper(self, handle: int) -> None:
        """Its helper has died, and ExaBGP would start another; unless it is ending, and says so itself."""
        self._unwatch(handle)
        loop = asyncio.get_running_loop()
        loop.call_later(HELPER_S, self._fail, "the helper that held ExaBGP's pipes has died")

    def _reap(self) -> None:
        assert self._process is not None
        status = self._process.wait()
        self._unwatch(self._exit_handle)
        if self._process.stderr is not None and self._process.stderr.fileno() in self._readers:
            self._read_stderr()
        if self._events in self._readers:
            self._read_events()
        self._exited.set()
        if self._events >= 0:
            self._fail(f"ExaBGP ended ({_how(status)}){self._last_words(status)}")

    def _last_words(self, status: int) -> str:
        """Who is killed cannot say why."""
        text, at = self._said
        recent = asyncio.get_running_loop().time() - at < LAST_WORDS_S
        return f": {text}" if text and recent and status != -signal.SIGKILL else ""

    def _watch(self, handle: int, callback: Callable[[], object]) -> None:
        asyncio.get_running_loop().add_reader(handle, callback)
        self._readers.add(handle)

    def _unwatch(self, handle: int) -> None:
        asyncio.get_running_loop().remove_reader(handle)
        self._readers.discard(handle)

    def _close(self) -> None:
        for handle in list(self._readers):
            self._unwatch(handle)
        if self._commands >= 0:
            asyncio.get_running_loop().remove_writer(self._commands)
        for handle in self._files:
            os.close(handle)
        self._files, self._exit_handle, self._events, self._commands = [], -1, -1, -1
        if self._process is not None and self._process.stderr is not None:
            self._process.stderr.close()
        self._place.remove()


def _how(status: int) -> str:
    """How a process ended, whose exit status Popen gives like this."""
    if status >= 0:
        return f"exit status {status}"
    try:
        return f"signal {signal.Signals(-status).name}"
    except ValueError:  # most real-time signals have no name
        return f"signal {-status}"


def _receive_pipes(handle: int) -> tuple[int, int]:
    """Take the two file descriptors that the shim sends (SCM_RIGHTS): events, commands."""
    with socket.socket(fileno=os.dup(handle)) as control:
        message, handles, flags, _ = socket.recv_fds(control, 64, 2)
    if len(handles) != 2:
        for extra in handles:
            os.close(extra)
        if flags & socket.MSG_CTRUNC:
            raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))  # unix(7)
        raise Unavailable(f"ExaBGP's helper handed over {len(handles)} pipes instead of 2: {message!r}")
    for each in handles:
        os.set_inheritable(each, False)
    return handles[0], handles[1]


def _confine(parent: int) -> None:
    """In the new process, before it runs: die with the speaker, and hold no capability but to read files.

    A session that only dials needs none. With NO_NEW_PRIVS what is given up here cannot come back when root
    runs the program, whatever is in the bounding set, which a pod may not change. What is not inheritable is
    not ambient either (capabilities(7)). Raises PermissionError if the capabilities would stay.
    """
    _libc.prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
        os._exit(1)  # the speaker died first
    this = (ctypes.c_uint32 * 2)(LINUX_CAPABILITY_VERSION_3, 0)
    held, kept = (ctypes.c_uint32 * 6)(), (ctypes.c_uint32 * 6)()  # effective, permitted, inheritable; 32-63
    _libc.capget(this, held)
    kept[0] = kept[1] = held[1] & READ_FILES
    if _libc.prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0 or _libc.capset(this, kept) != 0:
        raise PermissionError
