"""BFD control packets as bytes (RFC 5880 §4.1), and what must be discarded (§6.8.6)."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scapy.contrib.bfd import BFD

from lbspeaker.errors import Malformed
from lbspeaker.model import BFDPacket, BFDState
from lbspeaker.wire import bfd

PACKET = BFDPacket(BFDState.UP, 3, 5, 0xA1B2C3D4, 0x01020304, 100_000, 300_000, poll=True)
BYTES = bytes.fromhex("23 e0 05 18 a1b2c3d4 01020304 000186a0 000493e0 00000000")
NUMBERS = st.integers(0, 2**32 - 1)
PACKETS = st.builds(
    BFDPacket,
    st.sampled_from(BFDState),
    st.integers(0, 31),
    st.integers(1, 255),
    st.integers(1, 2**32 - 1),
    st.integers(1, 2**32 - 1),
    NUMBERS,
    NUMBERS,
    NUMBERS,
    st.booleans(),
    st.booleans(),
    st.booleans(),
    st.booleans(),
)


def altered(at: int, *values: int) -> bytes:
    return BYTES[:at] + bytes(values) + BYTES[at + len(values) :]


def test_the_bytes_of_a_packet() -> None:
    assert bfd.build(PACKET) == BYTES
    assert bfd.parse(BYTES) == PACKET


@given(PACKETS)
def test_what_is_built_is_parsed(packet: BFDPacket) -> None:
    assert bfd.parse(bfd.build(packet)) == packet


@given(PACKETS)
def test_scapy_reads_the_same(packet: BFDPacket) -> None:
    read = BFD(bfd.build(packet))
    assert (read.version, read.diag, read.sta, read.detect_mult, read.len) == (
        1,
        packet.diagnostic,
        packet.state,
        packet.multiplier,
        24,
    )
    assert (read.my_discriminator, read.your_discriminator) == (packet.mine, packet.your)
    assert (read.min_tx_interval, read.min_rx_interval) == (packet.desired_us, packet.required_us)
    assert read.echo_rx_interval == packet.required_echo_us
    names = {"P": packet.poll, "F": packet.final, "C": packet.independent, "D": packet.demand}
    assert set(str(read.flags)) == {name for name, on in names.items() if on}


REFUSED = [
    ("one byte is missing", BYTES[:-1], "23 bytes are too short"),
    ("nothing", b"", "0 bytes are too short"),
    ("version 0", altered(0, 0x03), "BFD of version 0"),
    ("version 2", altered(0, 0x43), "BFD of version 2"),
    ("a length that ends too early", altered(3, 23), "a length"),
    ("a length beyond the datagram", altered(3, 25), "a length"),
    ("multiplier 0", altered(2, 0), "a detection multiplier of 0"),
    ("multipoint", altered(1, 0xE1), "the multipoint bit"),
    ("it has no discriminator", altered(4, 0, 0, 0, 0), "a discriminator of 0"),
    ("authenticated", altered(1, 0xE4), "it is authenticated"),
    ("up without ours", altered(8, 0, 0, 0, 0), "UP without our discriminator"),
    ("init without ours", altered(1, 0x80)[:8] + bytes(4) + BYTES[12:], "INIT without our discriminator"),
]


@pytest.mark.parametrize(("story", "data", "why"), REFUSED, ids=[story for story, *_ in REFUSED])
def test_refused(story: str, data: bytes, why: str) -> None:
    with pytest.raises(Malformed, match=why):
        bfd.parse(data)


TAKEN = [
    ("down without ours", altered(1, 0x40)[:8] + bytes(4) + BYTES[12:]),
    ("shut down without ours", altered(1, 0x00)[:8] + bytes(4) + BYTES[12:]),
    ("more after it, as Ethernet pads", BYTES + bytes(22)),
    ("a longer one", altered(3, 26) + bytes(2)),
    ("a diagnostic of the future", altered(0, 0x3F)),
]


@pytest.mark.parametrize(("story", "data"), TAKEN, ids=[story for story, _ in TAKEN])
def test_taken(story: str, data: bytes) -> None:
    assert bfd.parse(data).mine == PACKET.mine, story


@pytest.mark.parametrize(
    "change",
    [{"multiplier": 0}, {"multiplier": 256}, {"mine": 0}, {"diagnostic": 32}, {"desired_us": 2**32}],
    ids=str,
)
def test_what_cannot_be_said_is_a_mistake_of_ours(change: dict[str, int]) -> None:
    with pytest.raises(ValueError, match="not to be sent"):
        bfd.build(PACKET._replace(**change))  # type: ignore[arg-type]


def test_every_diagnostic_has_words() -> None:
    assert bfd.diagnostic(1) == "nothing was heard for the detection time"
    assert (bfd.diagnostic(8), bfd.diagnostic(31)) == ("a path behind it is down", "diagnostic 31")
