"""/proc/net/tcp and its like, as they are printed on a little-endian machine."""

import sys

import pytest

from lbspeaker.wire.proc_net import Bound, listening
from tests.build import ip

pytestmark = pytest.mark.skipif(sys.byteorder != "little", reason="the samples are of such a machine")

HEAD = "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode\n"
REST = "00000000:00000000 00:00000000 00000000     0        0"


def test_who_listens() -> None:
    text = HEAD + (
        f"   0: 00000000:00B3 00000000:0000 0A {REST} 1089 1 00000000524735d0 100 0 0 10 0\n"
        f"   1: 010200C0:00B3 020200C0:C001 01 {REST} 1090 1 0000000000000000 100 0 0 10 0\n"
        f"   2: 010200C0:0050 00000000:0000 0A {REST} 1091 1 0000000000000000 100 0 0 10 0\n"
    )
    assert list(listening("tcp", text)) == [
        Bound(ip("0.0.0.0"), 179, 1089),
        Bound(ip("192.0.2.1"), 80, 1091),
    ]


def test_ipv6_and_udp() -> None:
    text = HEAD + f"   0: B80D0120000000000000000001000000:0EC8 {'0' * 32}:0000 07 {REST} 7 2 0 0\n"
    assert list(listening("udp6", text)) == [Bound(ip("2001:db8::1"), 3784, 7)]
    assert list(listening("tcp6", text)) == []


def test_lines_of_another_shape_are_left_out() -> None:
    assert list(listening("tcp", "")) == []
    assert (
        list(listening("tcp", f"{HEAD}nonsense\n 0: zz:00 0:0 0A {REST} 1\n 0: 00:00 0:0 0A {REST} 1\n"))
        == []
    )
