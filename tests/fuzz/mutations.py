"""Messages → messages that are nearly right. All that is random comes from the `Random` that is given."""

import re
from collections.abc import Callable, Sequence
from random import Random

EDGES = (b"\x00", b"\x01", b"\x7f", b"\x80", b"\xff", b"\x00\x00", b"\xff\xff", b"\x00\x01", b"\x05\xdc")
EDGES += (bytes(8), b"\xff" * 8, b"\x00" * 6, b"\xff" * 6)
TOKEN = re.compile(rb'"(?:[^"\\]|\\.)*"|[-+.\w]+|[^\s]')
WORDS = (
    *(b"null", b"true", b"0", b"1", b"-1", b"1.5", b"1e400", b"-0", b"9223372036854775808", b"9" * 400),
    *(b"[]", b"{}", b"[[]]", b'[""]', b"[null]", b"[{}]", b'{"":0}', b'{"a":{"a":null}}', b"NaN", b"01"),
    *(b'""', b'"a"', b'"\\ud800"', b'"\\u0000"', b'"\xff"', b'"\xc3"', b'"' + b"x" * 300 + b'"', b'"', b"\\"),
    *(b'"192.0.2.10"', b'"192.0.2.10,2001:db8::1"', b'"2001:db8::1%eth0"', b'"192.0.2.0/24"', b'"-"', b'","'),
    *(
        b'"::/0"',
        b'"192.0.2.1-192.0.2.9"',
        b'"2026-01-02T03:04:05Z"',
        b'"9999-99-99T99:99:99Z"',
        b'"\\u0661"',
    ),
)
STRUCTURE = frozenset(b"{}[],:")
DEPTHS = (1, 2, 60, 3000)

Mutation = Callable[[Random, bytearray, Sequence[bytes]], None]


def _place(random: Random, data: bytearray) -> int:
    return int(random.random() * len(data))


def _piece(random: Random, data: bytes | bytearray) -> slice:
    start = int(random.random() * (len(data) + 1))
    return slice(start, start + 1 + int(random.random() ** 3 * 40))


def _flip(random: Random, data: bytearray, _: Sequence[bytes]) -> None:
    if data:
        data[_place(random, data)] ^= 1 << int(random.random() * 8)


def _set(random: Random, data: bytearray, _: Sequence[bytes]) -> None:
    if data:
        data[_place(random, data)] = int(random.random() * 256)


def _nudge(random: Random, data: bytearray, _: Sequence[bytes]) -> None:
    """A length is often wrong by one."""
    if data:
        place = _place(random, data)
        data[place] = (data[place] + random.choice((-1, 1))) & 0xFF


def _edge(random: Random, data: bytearray, _: Sequence[bytes]) -> None:
    edge, place = random.choice(EDGES), _place(random, data)
    data[place : place + len(edge)] = edge


def _truncate(random: Random, data: bytearray, _: Sequence[bytes]) -> None:
    del data[_place(random, data) :]


def _extend(random: Random, data: bytearray, _: Sequence[bytes]) -> None:
    data += random.randbytes(int(random.random() ** 4 * 1600))


def _delete(random: Random, data: bytearray, _: Sequence[bytes]) -> None:
    del data[_piece(random, data)]


def _repeat(random: Random, data: bytearray, _: Sequence[bytes]) -> None:
    piece = _piece(random, data)
    data[piece.start : piece.start] = data[piece] * random.choice((1, 1, 2, 30))


def _splice(random: Random, data: bytearray, seeds: Sequence[bytes]) -> None:
    """A piece of another message in the place of one of this."""
    other = random.choice(seeds)
    data[_piece(random, data)] = other[_piece(random, other)]


def _cross(random: Random, data: bytearray, seeds: Sequence[bytes]) -> None:
    """The beginning of this, and of another message what comes after that."""
    place = _place(random, data)
    data[place:] = random.choice(seeds)[place:]


OF_BYTES: tuple[Mutation, ...] = (
    *(_flip, _flip, _set, _set, _nudge, _nudge, _edge, _truncate),
    *(_extend, _delete, _repeat, _splice, _splice, _cross),
)


def of_bytes(random: Random, seeds: Sequence[bytes]) -> bytes:
    """Return one of `seeds`, altered in one to four places."""
    data = bytearray(random.choice(seeds))
    for _ in range(1 + int(random.random() ** 2 * 4)):
        random.choice(OF_BYTES)(random, data, seeds)
    return bytes(data)


def tokens(text: bytes) -> list[bytes]:
    """Return the tokens of JSON."""
    return TOKEN.findall(text)


def of_json(random: Random, seeds: Sequence[Sequence[bytes]]) -> bytes:
    """Return one of `seeds` (tokens), with one to four of its values or names replaced; mostly JSON still."""
    found = list(random.choice(seeds))
    for _ in range(1 + int(random.random() ** 2 * 4)):
        if found:
            _replace(random, found, seeds)
    return b"".join(found)


def _replace(random: Random, found: list[bytes], seeds: Sequence[Sequence[bytes]]) -> None:
    start = int(random.random() * len(found))
    kind = random.random()
    if found[start][0] in STRUCTURE and kind < 0.9 and found[start] not in (b"{", b"["):
        return
    end = _end(found, start)
    if kind < 0.6:
        found[start:end] = [random.choice(WORDS)]
    elif kind < 0.8:
        other = random.choice(seeds)
        place = int(random.random() * len(other))
        found[start:end] = other[place : _end(other, place)]
    elif kind < 0.9:
        other_place = int(random.random() * len(found))
        found[start], found[other_place] = found[other_place], found[start]
    elif kind < 0.95:
        del found[start:end]
    else:
        depth = random.choices(DEPTHS, (8, 8, 2, 1))[0]
        left, right = random.choice(((b"[", b"]"), (b'{"a":', b"}")))
        found[start:end] = [left * depth, *found[start:end], right * depth]


def _end(found: Sequence[bytes], start: int) -> int:
    """Where the value ends that begins at `start`."""
    depth = 0
    for place in range(start, len(found)):
        depth += (found[place] in (b"{", b"[")) - (found[place] in (b"}", b"]"))
        if depth <= 0:
            return place + 1
    return len(found)
