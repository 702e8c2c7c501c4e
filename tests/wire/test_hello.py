"""Hellos as bytes: what they say comes through, and nothing that others made or altered."""

import hashlib
import hmac
import string

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lbspeaker.errors import Malformed
from lbspeaker.model import Heard, Hello
from lbspeaker.wire import hello

MAC, OTHER_MAC = bytes.fromhex("02000000000a"), bytes.fromhex("02000000000b")
KEY, OTHER_KEY = hello.derive("secret"), hello.derive("other")
BOOT, HIS, HERS = bytes.fromhex("b001b001b001b001"), b"\x11" * 8, b"\x22" * 8
HELLO = Hello("node-a.lan", BOOT, 7, ((HIS, Heard.HEARD), (HERS, Heard.SILENT)), stale=True)
FRAME = hello.build(HELLO, MAC, KEY)
NAMES = st.text(string.ascii_letters + string.digits + ".-", min_size=1, max_size=253)
BOOTS = st.binary(min_size=8, max_size=8)
HELLOS = st.builds(
    Hello,
    NAMES,
    BOOTS,
    st.integers(0, 2**64 - 1),
    st.lists(st.tuples(BOOTS, st.sampled_from(Heard)), max_size=hello.MOST_HEARD).map(tuple),
    st.booleans(),
    st.booleans(),
)


def sealed(payload: bytes, mac: bytes = MAC, key: bytes = KEY) -> bytes:
    """A frame around `payload` (without its tag) that is right as far as the tag goes."""
    tag = hmac.new(key, mac + payload, hashlib.sha256).digest()[:16]
    return hello.GROUP + mac + b"\x88\xb5" + payload + tag


def altered(at: int, *values: int) -> bytes:
    """FRAME with other bytes in one place, and a right tag."""
    payload = bytearray(FRAME[14:-16])
    payload[at : at + len(values)] = bytes(values)
    return sealed(bytes(payload))


# --- what is on the wire --------------------------------------------------------------------------------


def test_the_bytes_of_a_hello() -> None:
    assert FRAME[:-16].hex() == (
        "036c6273706b" "02000000000a" "88b5"
        "01" "01" "0043" "b001b001b001b001" "0000000000000007"
        "0a" "6e6f64652d612e6c616e"
        "0002" "1111111111111111" "01" "2222222222222222" "02"
    )  # fmt: skip
    assert sealed(FRAME[14:-16]) == FRAME
    assert hmac.new(b"secret", b"lbspeaker hello 1", hashlib.sha256).digest() == KEY


def test_the_group_is_one_of_nobody_and_not_of_ip() -> None:
    assert hello.GROUP[0] & 0b11 == 0b11, "a group, locally administered"
    assert hello.GROUP[:2] not in (b"\x33\x33", b"\x01\x00"), "or else switches would snoop"


def test_it_goes_to_the_group_or_to_a_member() -> None:
    assert hello.build(HELLO, MAC, KEY)[:6] == hello.GROUP
    frame = hello.build(HELLO, MAC, KEY, OTHER_MAC)
    assert frame[:6] == OTHER_MAC
    assert hello.parse(frame, [KEY]) == HELLO


@given(HELLOS, st.integers(0, 60))
def test_what_was_said_is_what_is_heard(said: Hello, padding: int) -> None:
    frame = hello.build(said, MAC, KEY)
    assert len(frame) <= 14 + 1500
    assert hello.parse(frame, [KEY]) == said
    assert hello.parse(frame + bytes(padding), [OTHER_KEY, KEY]) == said


def test_of_too_many_members_the_first_are_told() -> None:
    many = tuple((number.to_bytes(8, "big"), Heard.HEARD) for number in range(1000))
    frame = hello.build(Hello("n" * 253, BOOT, 1, many), MAC, KEY)
    assert hello.parse(frame, [KEY]).heard == many[: hello.MOST_HEARD]
    assert 1500 - 9 < len(frame) - 14 <= 1500, "one more would not fit"


@pytest.mark.parametrize(
    ("said", "mac"),
    [
        (HELLO._replace(node=""), MAC),
        (HELLO._replace(node="n" * 254), MAC),
        (HELLO._replace(node="node_a"), MAC),
        (HELLO._replace(node="nöde"), MAC),
        (HELLO._replace(node="node\n"), MAC),
        (HELLO._replace(boot=bytes(7)), MAC),
        (HELLO._replace(heard=((bytes(9), Heard.HEARD),)), MAC),
        (HELLO._replace(sequence=-1), MAC),
        (HELLO._replace(sequence=2**64), MAC),
        (HELLO, MAC[:5]),
        (HELLO, hello.GROUP),
    ],
)
def test_nothing_is_sent_that_would_not_be_heard(said: Hello, mac: bytes) -> None:
    with pytest.raises(ValueError):
        hello.build(said, mac, KEY)


# --- what others may send -------------------------------------------------------------------------------


def test_any_of_the_keys_may_match() -> None:
    assert hello.parse(FRAME, (OTHER_KEY, KEY)) == hello.parse(FRAME, (KEY, OTHER_KEY)) == HELLO
    for keys in ([], [OTHER_KEY], [b""]):
        with pytest.raises(Malformed, match="tag"):
            hello.parse(FRAME, keys)


@pytest.mark.parametrize("position", range(6, len(FRAME)))
def test_whoever_alters_one_bit_is_not_believed(position: int) -> None:
    for bit in range(8):
        frame = bytearray(FRAME)
        frame[position] ^= 1 << bit
        with pytest.raises(Malformed):
            hello.parse(bytes(frame), [KEY])


def test_another_sender_cannot_say_it_as_its_own() -> None:
    with pytest.raises(Malformed, match="tag"):
        hello.parse(FRAME[:6] + OTHER_MAC + FRAME[12:], [KEY])


FOREIGN = {
    "empty": (b"", "not a hello"),
    "cut before the tag's end": (FRAME[:52], "not a hello"),
    "arp": (FRAME[:12] + b"\x08\x06" + FRAME[14:], "not a hello"),
    "of another vlan": (FRAME[:12] + b"\x81\x00\x00\x64" + FRAME[12:], "not a hello"),
    "from a group": (sealed(FRAME[14:-16], mac=hello.GROUP), "from a group"),
    "of a later version": (altered(0, 2), "version 2"),
    "no length": (altered(2, 0, 0), "length"),
    "a byte less": (altered(2, 0, 0x42), "length"),
    "a byte more": (altered(2, 0, 0x44), "length"),
    "more than there is": (altered(2, 0xFF, 0xFF), "length"),
    "cut": (FRAME[:-1], "length"),
    "a name that takes the count": (altered(20, 11), "length"),
    "a name that takes everything": (altered(20, 255), "length"),
    "a member that is not told": (altered(31, 0, 1), "length"),
    "a member that is not there": (altered(31, 0, 3), "length"),
    "more members than bytes": (altered(31, 0xFF, 0xFF), "length"),
    "a space in the name": (altered(21, 0x20), "name"),
    "no utf-8": (altered(21, 0xFF), "name"),
    "a line's end in the name": (altered(30, 0x0A), "name"),
    "nobody": (sealed(bytes.fromhex("01000027") + bytes(16) + b"\0" + bytes(2)), "name"),
    "first of no state": (altered(41, 0), "neither"),
    "first of a later state": (altered(41, 4), "neither"),
    "last of no state": (altered(50, 0), "neither"),
}


@pytest.mark.parametrize("name", FOREIGN)
def test_what_is_no_hello_is_malformed_and_why(name: str) -> None:
    frame, why = FOREIGN[name]
    with pytest.raises(Malformed, match=why):
        hello.parse(frame, [KEY])


def test_a_longer_hello_than_a_segment_carries_is_malformed_though_it_is_whole() -> None:
    name, heard = b"n", bytes(8) + b"\x01"
    for count, fine in ((162, True), (163, False)):
        length = 21 + 1 + 2 + 9 * count + 16
        head = b"\x01\x00" + length.to_bytes(2, "big") + bytes(16) + b"\x01" + name
        frame = sealed(head + count.to_bytes(2, "big") + heard * count)
        if fine:
            assert len(hello.parse(frame, [KEY]).heard) == count
            continue
        with pytest.raises(Malformed, match="length"):
            hello.parse(frame, [KEY])


def test_flags_of_later_versions_are_let_be() -> None:
    assert hello.parse(altered(1, 0x81), [KEY]) == HELLO


@settings(max_examples=500)
@given(st.binary(max_size=200), st.integers(0, len(FRAME)), st.booleans())
def test_strangers_cause_malformed_and_nothing_else(noise: bytes, position: int, sign: bool) -> None:
    frame = FRAME[:position] + noise + FRAME[position + len(noise) :]
    if sign:
        frame = sealed(frame[14:])
    try:
        said = hello.parse(frame, [KEY])
    except Malformed:
        return
    assert hello.parse(hello.build(said, MAC, KEY), [KEY]) == said


def test_lengths_are_looked_at_before_the_tag(monkeypatch: pytest.MonkeyPatch) -> None:
    """Else every foreign frame would cost a hash."""

    def nobody(*_: object) -> bytes:
        raise AssertionError("the tag was computed")

    monkeypatch.setattr(hello, "_tag", nobody)
    for frame in (bytes(100), FRAME[:-1], altered(0, 2), altered(31, 0, 3)):
        with pytest.raises(Malformed):
            hello.parse(frame, [KEY])
