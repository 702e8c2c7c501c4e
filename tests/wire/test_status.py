"""What a speaker says of itself, as JSON."""

import pytest

from lbspeaker.errors import Malformed
from lbspeaker.wire import status
from lbspeaker.wire.status import BFD, IP, Guard, Member, Status

GUARD = Guard(
    "eth0", "arp", "standard", False, {"new": 3, "answer": 7}, {"new": 2}, 1, 0.25, 0.1, 30, 4, 5, 6, 1.5, 2
)
STATUS = Status(
    "node-a",
    "0.1.0",
    "serving",
    1_767_323_045.5,
    0.4,
    (Member("node-a", True), Member("node-b", True, ("eth0",)), Member("node-c", False, (), ("eth0",))),
    (
        IP("192.0.2.10", ("default/web",), "owner", ("eth0",), 1_767_323_046.0, "new"),
        IP(
            "192.0.2.11",
            ("default/tv",),
            "held-back",
            conflict="02:00:00:00:00:01",
            vendor='Say "Hi" \\ Co\n',
        ),
    ),
    (GUARD,),
    {"192.0.2.10": "node-a"},
    ("192.0.2.11 is also used by somebody",),
    (
        BFD("192.0.2.1", "up", "", 100.0, 300.0, 50, 49, {}),
        BFD("192.0.2.9", "down", "nothing was heard", 1000.0, 0.0, 7, 3, {"ttl": 2}),
    ),
)


def test_what_is_built_is_what_is_parsed() -> None:
    assert status.parse(status.build(STATUS)) == STATUS


@pytest.mark.parametrize("body", [b"", b"{}", b'{"node": 1}', b"[" * 5000, b'{"node":"\xff"}'])
def test_what_is_no_status_is_malformed(body: bytes) -> None:
    with pytest.raises(Malformed):
        status.parse(body)
