"""Become a program of the image, as a container runtime starts it on a node.

python -m tests.lab.contained ROOTFS DIRECTORY UID CAPABILITIES ARGUMENTS…

It stays one process, so that the lab's signals reach the program. It has the image's file system, read-only;
/dev and /proc; an empty /run of its own; DIRECTORY of the lab, writable, at the same path; this user; and of
all capabilities (numbers of linux/capability.h, separated by commas) only these. It cannot get more.
"""

import ctypes
import os
import subprocess
import sys
from pathlib import Path

NEWNS = 0x00020000  # linux/sched.h
PR_CAPBSET_DROP, PR_SET_NO_NEW_PRIVS = 24, 38  # linux/prctl.h
CAPABILITIES = {"NET_RAW": 13, "SYS_NICE": 23}  # linux/capability.h
LAST = 40

_libc = ctypes.CDLL(None, use_errno=True)


def command(root: Path, directory: Path, user: int, capabilities: list[str]) -> list[str]:
    """Return the command line that turns what follows it into a contained program."""
    numbers = ",".join(str(CAPABILITIES[name]) for name in capabilities)
    return [sys.executable, __file__, str(root), str(directory), str(user), numbers]


def _must(result: int) -> None:
    if result != 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))


def _mount(*arguments: str) -> None:
    subprocess.run(["mount", *arguments], check=True)


def _furnish(root: str, directory: str) -> None:
    """Mount everything, where nobody else sees it."""
    _must(_libc.unshare(NEWNS))
    _mount("--make-rprivate", "/")
    _mount("--bind", root, root)
    _mount("-o", "remount,bind,ro", root)
    _mount("-t", "proc", "proc", f"{root}/proc")
    _mount("--rbind", "/dev", f"{root}/dev")
    _mount("-t", "tmpfs", "-o", "size=16m", "tmpfs", f"{root}/run")
    for place in ("/run/lbspeaker", directory):
        Path(root + place).mkdir(parents=True, exist_ok=True)
    _mount("--bind", directory, root + directory)


def _confine(root: str, user: int, kept: set[int]) -> None:
    os.chroot(root)
    os.chdir("/")
    for number in set(range(LAST + 1)) - kept:
        _must(_libc.prctl(PR_CAPBSET_DROP, number, 0, 0, 0))
    os.setgroups([])
    os.setresgid(user, user, user)
    os.setresuid(user, user, user)
    _must(_libc.prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0))


def main() -> None:
    root, directory, user, numbers, *argv = sys.argv[1:]
    _furnish(root, directory)
    _confine(root, int(user), {int(number) for number in numbers.split(",") if number})
    environment = dict(one.split("=", 1) for one in os.environ["IMAGE_ENVIRONMENT"].split("\n"))
    os.execve(argv[0], argv, environment)  # noqa: S606


if __name__ == "__main__":
    main()
