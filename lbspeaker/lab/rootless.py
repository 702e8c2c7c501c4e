"""The lab for somebody who is not root: everything happens inside a user namespace of one's own.

Whoever may not make network namespaces runs the same command again inside `unshare --user --map-root-user
--net --mount`, where they are root over namespaces of their own and over nothing else. A tmpfs on /run hides
the machine's (`ip netns` wants to write there). All of it ends with its last process, so such a lab stays in
the foreground. Others join it through that process (`join`).

Two things stay behind in the machine's network: the loopback on which people's kubectl talks to the lab, and
the loopback on which an existing API server may listen. Sockets for both are made before (`API_SOCKET`,
`FORWARDER`) and handed over as open descriptors.
"""

import os
import shlex
import shutil
import socket
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NoReturn

from lbspeaker.errors import Unable

# In the environment of the command inside: numbers of inherited descriptors.
API_SOCKET = "LBSPEAKER_LAB_API_SOCKET"  # listens on the machine's loopback
FORWARDER = "LBSPEAKER_LAB_FORWARDER"  # takes listening sockets for the forwarder outside
RUNTIME = "LBSPEAKER_LAB_RUNTIME"  # the directory for the directories of labs
_CAP_NET_ADMIN, _CAP_SYS_ADMIN = 12, 21  # linux/capability.h

_UNSHARE = ["unshare", "--user", "--map-root-user", "--net", "--mount"]


def obstacle() -> str:
    """Return why this process may not make network namespaces; empty if it may."""
    missing = [program for program in ("ip", "nft") if shutil.which(program, path=_path()) is None]
    if missing:
        return f"there is no `{missing[0]}` here"
    return "" if _privileged() else "this user may not make network namespaces"


def _privileged() -> bool:
    status = Path("/proc/self/status").read_text()
    effective = int(status.partition("CapEff:")[2].split()[0], 16)
    return all(effective >> capability & 1 for capability in (_CAP_NET_ADMIN, _CAP_SYS_ADMIN))


def inside() -> bool:
    """Whether this process is in a user namespace that is not the machine's first."""
    return Path("/proc/self/uid_map").read_text().split() != ["0", "0", "4294967295"]


def runtime_directory() -> Path:
    """Return where labs have their directories: /run for whoever needs no user namespace."""
    if chosen := os.environ.get(RUNTIME):
        return Path(chosen)
    if _privileged():
        return Path("/run")
    own = os.environ.get("XDG_RUNTIME_DIR")
    return Path(own) / "lbspeaker" if own else Path(f"/tmp/lbspeaker-{os.getuid()}")  # noqa: S108


def api_socket() -> socket.socket | None:
    """Return the socket that listens on the machine's loopback, if it was handed over."""
    number = os.environ.get(API_SOCKET)
    if not number:
        return None
    os.set_inheritable(int(number), False)  # for one process, not for all that follow
    return socket.socket(fileno=os.dup(int(number)))


def hand_to_forwarder(listen: Callable[[], socket.socket]) -> bool:
    """Give a listening socket to the forwarder outside; False if there is none."""
    number = os.environ.get(FORWARDER)
    if not number:
        return False
    os.set_inheritable(int(number), False)
    with socket.socket(fileno=os.dup(int(number))) as channel, listen() as listener:
        socket.send_fds(channel, [b"l"], [listener.fileno()])
    return True


def enter(forward_to: tuple[str, int] | None = None) -> None:
    """Return if this process may make network namespaces; otherwise run its command again where it may.

    `forward_to` is an API server that only the machine's network reaches.
    Raises Unable if programs are missing, or if the machine has no user namespaces for us.
    """
    require_programs()
    os.environ["PATH"] = _path()
    if not obstacle():
        return
    _require_user_namespaces()
    directory = _own_directory()
    os.environ[RUNTIME] = str(directory)
    listener = socket.create_server(("127.0.0.1", 0), backlog=128)
    os.set_inheritable(listener.fileno(), True)
    os.environ[API_SOCKET] = str(listener.fileno())
    if forward_to:
        os.environ[FORWARDER] = str(_start_forwarder(forward_to))
    os.execvp("unshare", [*_UNSHARE, "sh", "-c", _setup(directory), "sh", *_own_command()])  # noqa: S606


def join(holder: int, argv: Sequence[str] | None = None) -> NoReturn:
    """Become the same command (or `argv`) inside the user namespace in which process `holder` lives."""
    os.environ[RUNTIME] = str(runtime_directory())  # inside, we are root, who looks elsewhere
    line = ["nsenter", f"--target={holder}", "--user", "--net", "--mount", "--preserve-credentials"]
    os.execvp("nsenter", [*line, *(argv or _own_command())])  # noqa: S606


def _setup(directory: Path) -> str:
    """A shell script: an empty /run for `ip netns`, with the lab's directory in its place again."""
    place = shlex.quote(str(directory))
    return " && ".join(
        [
            f"exec 9<{place}",
            "mount -t tmpfs lab /run",
            f"mkdir -p /run/netns {place}",
            f"mount --no-canonicalize --bind /proc/self/fd/9 {place}",
            "exec 9<&-",
            'exec "$@"',
        ]
    )


def _own_directory() -> Path:
    directory = runtime_directory()
    directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    if directory.stat().st_uid != os.getuid():
        raise Unable(f"{directory} is somebody else's", "set XDG_RUNTIME_DIR to a directory of your own")
    return directory


def _start_forwarder(target: tuple[str, int]) -> int:
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
    host, port = target
    line = [
        sys.executable,
        "-m",
        "lbspeaker.lab.forward",
        "--receive",
        str(theirs.fileno()),
        f"{host}:{port}",
    ]
    with theirs:
        subprocess.Popen(line, pass_fds=[theirs.fileno()], start_new_session=True)
    descriptor = ours.detach()
    os.set_inheritable(descriptor, True)
    return descriptor


def _own_command() -> list[str]:
    return [sys.executable, "-m", "lbspeaker", *sys.argv[1:]]


def require_programs() -> None:
    """Raise Unable, with the package to install, if a program is missing that every lab needs."""
    for program, package in {"ip": "iproute2", "nft": "nftables", "unshare": "util-linux"}.items():
        if shutil.which(program, path=_path()) is None:
            raise Unable(f"the lab needs `{program}`, which is not here", f"apt-get install {package}")


def _require_user_namespaces() -> None:
    trial = subprocess.run(
        [*_UNSHARE, "mount", "-t", "tmpfs", "lab", "/run"], capture_output=True, text=True, check=False
    )
    if trial.returncode != 0:
        reason = trial.stderr.strip().removeprefix("unshare: ").removeprefix("mount: ")
        raise Unable(
            f"the lab needs root, or unprivileged user namespaces, and this machine allows neither: {reason}",
            "run this command as root (sudo), or allow them: "
            "sysctl kernel.unprivileged_userns_clone=1 kernel.apparmor_restrict_unprivileged_userns=0",
        )


def _path() -> str:
    """PATH, with the directories of administrators' programs, which users often lack."""
    return ":".join([os.environ.get("PATH", os.defpath), "/usr/sbin", "/sbin"])
