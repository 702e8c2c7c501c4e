"""Links as the kernel tells of them, in a namespace of our own."""

import os
import subprocess
import sys
from collections.abc import Iterator

import pytest

from lbspeaker.errors import LbspeakerError
from lbspeaker.lab import namespaces

pytestmark = pytest.mark.lab

# It watches, sleeps so deeply that the kernel has no room left for what it tells, and looks again.
WATCHER = """
import asyncio, sys, time
from lbspeaker.shell import links

def report(found):
    print(",".join(link.name for link in found if link.addresses), flush=True)

async def main():
    watching = asyncio.create_task(links.watch(report))
    await asyncio.sleep(0.5)
    print("asleep", flush=True)
    sys.stdin.readline()
    await asyncio.wait([watching], timeout=5)
    print("ended" if watching.done() else "alive", flush=True)

asyncio.run(main())
"""


@pytest.fixture
def namespace() -> Iterator[str]:
    name = f"lbs-links-{os.getpid()}"
    try:
        namespaces.add([name])
    except LbspeakerError as error:
        pytest.skip(str(error))
    yield name
    namespaces.remove([name])


def test_more_changes_than_the_kernel_can_hold_do_not_end_the_watch(namespace: str) -> None:
    argv = namespaces.command(namespace, [sys.executable, "-c", WATCHER])
    watcher = subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert watcher.stdin
    assert watcher.stdout
    try:
        while watcher.stdout.readline().strip() != "asleep":
            pass
        lines = [
            f"addr {verb} 10.{n // 250}.{n % 250}.1/32 dev lo" for n in range(4000) for verb in ("add", "del")
        ]
        last = ["link add dx0 type veth peer name dx1", "addr add 10.9.9.9/24 dev dx0"]
        namespaces.configure(namespace, lines + last)
        said, _ = watcher.communicate("\n", timeout=30)
    finally:
        watcher.kill()
    assert said.split()[-1] == "alive"
    assert "dx0" in said, "and what was lost was looked up"
