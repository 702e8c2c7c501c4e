"""What a speaker says of itself, as JSON and as metrics."""

import re

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
SAMPLE = re.compile(r'(\w+)(?:\{((?:\w+="(?:[^"\\\n]|\\["\\n])*",?)*)\})? (\S+)')


def samples() -> dict[str, float]:
    """All samples by name and labels; every line of the text must be one, or a comment."""
    found = {}
    for line in status.metrics(STATUS).decode().splitlines():
        if not line.startswith("#"):
            match = SAMPLE.fullmatch(line)
            assert match, line
            found[f"{match[1]}{{{match[2] or ''}}}"] = float(match[3])
    return found


def test_what_is_built_is_what_is_parsed() -> None:
    assert status.parse(status.build(STATUS)) == STATUS


@pytest.mark.parametrize("body", [b"", b"{}", b'{"node": 1}', b"[" * 5000, b'{"node":"\xff"}'])
def test_what_is_no_status_is_malformed(body: bytes) -> None:
    with pytest.raises(Malformed):
        status.parse(body)


def test_the_metrics_say_the_same() -> None:
    found = samples()
    link = 'link="eth0",protocol="arp"'
    assert found[f'lbspeaker_frames_sent_total{{{link},occasion="new"}}'] == 3
    assert found[f'lbspeaker_frames_sent_total{{{link},occasion="answer"}}'] == 7
    assert found[f'lbspeaker_frames_held_back_total{{{link},occasion="new"}}'] == 2
    suppressed = {r: found[f'lbspeaker_frames_suppressed_total{{{link},reason="{r}"}}'] for r in REASONS}
    assert suppressed == {"coalesced": 4, "expired": 5, "repetitive": 6}
    assert found[f"lbspeaker_frames_unpaced_total{{{link}}}"] == 30
    assert found[f"lbspeaker_guard_longest_wait_seconds{{{link}}}"] == 0.25
    assert found[f"lbspeaker_segment_frames_per_second{{{link}}}"] == 1.5
    assert found[f"lbspeaker_storms_total{{{link}}}"] == 2
    assert found['lbspeaker_ips{role="owner"}'] == 1
    assert found['lbspeaker_ips{role="held-back"}'] == 1
    assert found['lbspeaker_ips{role="lent"}'] == 0
    assert found["lbspeaker_members{}"] == 2
    assert found["lbspeaker_problems{}"] == 1


REASONS = ("coalesced", "expired", "repetitive")


def test_the_metrics_of_bfd() -> None:
    found = {name: value for name, value in samples().items() if "_bfd_" in name}
    assert found == {
        'lbspeaker_bfd_up{router="192.0.2.1"}': 1,
        'lbspeaker_bfd_up{router="192.0.2.9"}': 0,
        'lbspeaker_bfd_packets_sent_total{router="192.0.2.1"}': 50,
        'lbspeaker_bfd_packets_sent_total{router="192.0.2.9"}': 7,
        'lbspeaker_bfd_packets_received_total{router="192.0.2.1"}': 49,
        'lbspeaker_bfd_packets_received_total{router="192.0.2.9"}': 3,
        'lbspeaker_bfd_packets_dropped_total{router="192.0.2.9",reason="ttl"}': 2,
    }


def test_a_vendor_with_quotes_stays_one_label() -> None:
    (conflict,) = [key for key in samples() if key.startswith("lbspeaker_address_conflict")]
    assert r'mac="02:00:00:00:00:01",vendor="Say \"Hi\" \\ Co\n"' in conflict


def test_each_family_is_described_once_and_before_its_samples() -> None:
    lines = status.metrics(STATUS).decode().splitlines()
    described = [line.split()[2] for line in lines if line.startswith("# TYPE")]
    assert len(described) == len(set(described))
    current = ""
    for line in lines:
        if line.startswith("#"):
            current = line.split()[2]
        else:
            assert line.startswith((f"{current}{{", f"{current} "))
