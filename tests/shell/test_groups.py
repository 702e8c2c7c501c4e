"""Multicast groups, on a kernel that gives little memory for them."""

import os
import socket

import pytest

from lbspeaker.lab import namespaces
from lbspeaker.shell import groups
from tests.optmem import give

pytestmark = pytest.mark.lab


@pytest.fixture
def namespace(namespace: str) -> str:
    """With a link that has no group of ours yet."""
    namespaces.configure(namespace, ["link add eth0 type veth peer name eth1", "link set eth0 up"])
    return namespace


def group(number: int) -> bytes:
    return bytes.fromhex("ff0200000000000000000001ff") + number.to_bytes(3, "big")


def joined(namespace: str) -> int:
    return namespaces.run(namespace, ["ip", "maddr", "show", "eth0"]).stdout.count("ff02::1:ff")


def join(namespace: str, count: int) -> groups.Groups:
    def work() -> groups.Groups:
        made = groups.Groups(socket.if_nametoindex("eth0"))
        for number in range(count):
            made.join(group(number))
        return made

    return namespaces.inside(namespace, work)


@pytest.mark.parametrize("size", [20480, 4096], ids=["before Linux 6.8", "less than a socket is for"])
def test_more_groups_than_one_socket_may_join_are_joined_by_several(namespace: str, size: int) -> None:
    own = joined(namespace)
    give(namespace, size)
    made = join(namespace, 1000)
    assert joined(namespace) - own == 1000
    for number in range(900):
        made.leave(group(number))
    assert joined(namespace) - own == 100
    for number in range(900):
        made.join(group(number))
    assert joined(namespace) - own == 1000, "the room of those that were left is used again"
    made.close()


def test_who_joins_twice_leaves_twice(namespace: str) -> None:
    own = joined(namespace)
    made = join(namespace, 1)
    made.join(group(0))
    made.leave(group(0))
    assert joined(namespace) - own == 1
    made.leave(group(0))
    made.leave(group(0))
    assert joined(namespace) == own
    made.close()


def test_what_the_kernel_refuses_is_not_joined_and_may_be_tried_again(namespace: str) -> None:
    own = joined(namespace)
    give(namespace, 16)
    made = join(namespace, 0)
    before = len(os.listdir("/proc/self/fd"))  # noqa: PTH208
    for _ in range(5):
        with pytest.raises(OSError, match="Cannot allocate memory"):
            namespaces.inside(namespace, lambda: made.join(group(0)))
    assert len(os.listdir("/proc/self/fd")) <= before + 1  # noqa: PTH208
    give(namespace, 20480)
    namespaces.inside(namespace, lambda: made.join(group(0)))
    assert joined(namespace) - own == 1
    made.close()
