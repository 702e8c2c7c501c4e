"""Network namespaces: made, entered, and removed completely.

A namespace is a name under /run/netns, as `ip netns` makes it, so that people can look into the lab with the
tools they know. One `ip -batch` configures one namespace; sockets are created inside a namespace by a thread
that enters it (setns(2) is per thread), so that one process can listen in many.
"""

import contextlib
import ctypes
import os
import signal
import socket
import subprocess
import threading
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import TypeVar

from lbspeaker.errors import Unable
from lbspeaker.lab import topology
from lbspeaker.lab.topology import Topology

T = TypeVar("T")

DIRECTORY = Path("/run/netns")
CLONE_NEWNET = 0x40000000  # linux/sched.h; os.setns exists from Python 3.12 only
_DEATH_S = 2.0  # a killed process is gone at once, unless the kernel is busy on its behalf

_libc = ctypes.CDLL(None, use_errno=True)


def add(names: Sequence[str]) -> None:
    """Create the namespaces, each with its loopback up.

    Raises Unable if the kernel, the user or a leftover of the same name stands in the way.
    """
    _ip(["-batch", "-"], "".join(f"netns add {name}\n" for name in names), "create network namespaces")
    for name in names:
        configure(name, ["link set lo up"])


def build(lab: Topology) -> None:
    """Create everything in the picture: namespaces, links, addresses, routes. Raises Unable."""
    add([lab.namespace(member) for member in lab.members])
    for member in lab.members:
        sysctl(lab.namespace(member), topology.parameters(member))
    for step in (topology.links(lab), topology.addresses(lab)):
        for member, lines in step.items():
            configure(lab.namespace(member), lines)


def remove(names: Sequence[str]) -> None:
    """Kill every process inside the namespaces and delete them; what does not exist is no error."""
    present = [name for name in names if (DIRECTORY / name).exists()]
    end(inhabitants(present), patience_s=0.0)
    if present:
        lines = "".join(f"netns delete {name}\n" for name in present)
        _ip(["-force", "-batch", "-"], lines, "delete network namespaces")


def existing(prefix: str) -> list[str]:
    """Return the names of the namespaces that start with `prefix`."""
    if not DIRECTORY.is_dir():
        return []
    return sorted(path.name for path in DIRECTORY.iterdir() if path.name.startswith(prefix))


def configure(name: str, lines: Iterable[str]) -> None:
    """Give `ip` these command lines (without the word ip), in order, inside the namespace.

    Raises Unable with the line that `ip` refused.
    """
    _ip(["-n", name, "-batch", "-"], "".join(f"{line}\n" for line in lines), f"configure namespace {name}")


def inside(name: str, call: Callable[[], T]) -> T:
    """Return call(), made in a thread of its own that has entered the namespace.

    Sockets that it creates and processes that it starts stay in the namespace.
    Raises whatever the call raises, and Unable if the namespace cannot be entered.
    """
    results: list[T] = []
    failures: list[BaseException] = []

    def enter_and_call() -> None:
        try:
            _enter(name)
            results.append(call())
        except BaseException as failure:  # carried to the caller's thread, whatever it is
            failures.append(failure)

    thread = threading.Thread(target=enter_and_call, name=f"in {name}")
    thread.start()
    thread.join()
    if failures:
        raise failures[0]
    return results[0]


def socket_in(name: str, family: int, kind: int, protocol: int = 0) -> socket.socket:
    """Return a new socket that lives in the namespace, wherever it is used."""
    return inside(name, lambda: socket.socket(family, kind, protocol))


def listen_in(name: str, address: str, port: int) -> socket.socket:
    """Return a TCP socket that listens at `address` inside the namespace."""
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    listener = socket_in(name, family, socket.SOCK_STREAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    listener.bind((address, port))
    listener.listen(128)
    return listener


def sysctl(name: str, settings: Mapping[str, str]) -> None:
    """Set kernel parameters ("net/ipv4/ip_forward": "1") inside the namespace."""

    def write() -> None:
        for key, value in settings.items():
            Path("/proc/sys", key).write_text(value)

    try:
        inside(name, write)
    except OSError as error:
        raise Unable(
            f"namespace {name}: cannot set {error.filename}: {error.strerror}",
            "the kernel lacks it, or /proc/sys is read-only (a container needs --privileged)",
        ) from error


def command(name: str, argv: Sequence[str]) -> list[str]:
    """Return the command line that runs `argv` inside the namespace (and becomes it: one process)."""
    return ["ip", "netns", "exec", name, *argv]


def run(
    name: str, argv: Sequence[str], *, timeout_s: float = 30.0, text: str | None = None
) -> subprocess.CompletedProcess[str]:
    """Run a command inside the namespace to its end; `text` is its standard input."""
    return subprocess.run(
        command(name, argv), input=text, capture_output=True, text=True, timeout=timeout_s, check=False
    )


def inhabitants(names: Iterable[str]) -> list[int]:
    """Return the ids of all processes whose network namespace is one of these."""
    inodes = {(DIRECTORY / name).stat().st_ino for name in names}
    found = []
    for process in Path("/proc").iterdir():
        if not process.name.isdigit():
            continue
        try:
            inode = (process / "ns/net").stat().st_ino
        except OSError:  # it ended meanwhile
            continue
        if inode in inodes and int(process.name) != os.getpid():
            found.append(int(process.name))
    return found


def end(pids: Sequence[int], patience_s: float) -> None:
    """Ask processes to end, wait, and kill those that do not; without patience, kill them at once.

    The ids must have been read just now: an id of long ago may be somebody else's today.
    """
    steps = [(signal.SIGTERM, patience_s)] if patience_s else []
    for sign, wait_s in [*steps, (signal.SIGKILL, _DEATH_S)]:
        for pid in pids:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, sign)
        deadline = time.monotonic() + wait_s
        while (pids := [pid for pid in pids if running(pid)]) and time.monotonic() < deadline:
            time.sleep(0.005)


def running(pid: int) -> bool:
    """Whether the process exists and is more than a zombie; collects it if it is our own child."""
    try:
        if os.waitpid(pid, os.WNOHANG) != (0, 0):
            return False
    except ChildProcessError:
        pass
    fields = _stat(pid)
    return bool(fields) and fields[0] not in "ZX"


def started_at(pid: int) -> str:
    """Return the start time of the process in clock ticks since boot; with the id, its identity.

    Empty if there is no such process.
    """
    fields = _stat(pid)
    return fields[19] if fields else ""


def _stat(pid: int) -> list[str]:
    """The fields of /proc/PID/stat from the third one, the state (proc(5)); the second may hold blanks."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return []


def _enter(name: str) -> None:
    try:
        descriptor = os.open(DIRECTORY / name, os.O_RDONLY | os.O_CLOEXEC)
    except OSError as error:
        raise Unable(f"there is no network namespace {name}", "lbspeaker lab up makes the lab") from error
    try:
        if _libc.setns(descriptor, CLONE_NEWNET) != 0:
            reason = os.strerror(ctypes.get_errno())
            raise Unable(f"cannot enter network namespace {name}: {reason}", "run it as the lab's user")
    finally:
        os.close(descriptor)


def _ip(options: list[str], lines: str, what: str) -> None:
    """Run `ip` with a batch on its standard input."""
    try:
        done = subprocess.run(["ip", *options], input=lines, capture_output=True, text=True, check=False)
    except FileNotFoundError as error:
        raise Unable(f"cannot {what}: there is no `ip` here", "apt-get install iproute2") from error
    if done.returncode != 0:
        raise Unable(f"cannot {what}: {_first_refusal(done.stderr, lines)}", _remedy(done.stderr))


def _first_refusal(stderr: str, lines: str) -> str:
    """What `ip` said first, with the line of the batch that it means ("Command failed -:3")."""
    said = next((line for line in stderr.splitlines() if not line.startswith("Command failed")), "it failed")
    number = next((part.rpartition(":")[2] for part in stderr.splitlines() if "failed -:" in part), "")
    batch = lines.splitlines()
    where = f" (ip {batch[int(number) - 1]})" if number.isdigit() and int(number) <= len(batch) else ""
    return said.removeprefix("Error: ").removeprefix("RTNETLINK answers: ") + where


def _remedy(stderr: str) -> str:
    if "Operation not permitted" in stderr or "Permission denied" in stderr:
        return "it needs root, or unprivileged user namespaces"
    if "File exists" in stderr:
        return "a lab of this name is left over: lbspeaker lab down"
    if "not supported" in stderr or "Unknown device type" in stderr:
        return "the kernel lacks veth or bridge: modprobe veth bridge"
    return "lbspeaker lab down removes what is left"
