"""Hellos: the frames by which speakers on one segment tell each other that they live.

    0     6     12    14     15      16      18     26         34     35
    │ dst │ src │ 88b5│ vers.│ flags │ length│ boot │ sequence │ size │ name … │ count │ entries … │ tag │ …
                         1       1      u16      8       u64       1    1-253     u16     9 each     16

    entry: │ boot of a member (8) │ model.Heard      │    length: version to tag, at most 1500

Not UDP, but Ethernet (EtherType 88b5: IEEE 802 Local Experimental 1). A hello takes the way that ARP takes,
past the host's firewall, its routes and its IPv4 or IPv6; so who hears the hellos of a node also hears its
answers, and the other way round. It is sent to a locally administered group, which switches flood like
broadcast: multicast snooping knows only groups of IP. Or it is sent to one member's MAC.

The tag is HMAC-SHA256 over the source MAC and everything from the version on, cut to 16 bytes (RFC 2104 §5);
nothing in a frame is believed before it is right. A right tag only says that the frame was sent *once*:

* A receiver that remembers the sender takes only a `sequence` above the last one of that `boot` (8 random
  bytes, new with every start of an answerer). That stops the repetition of what was already heard, as long
  as it remembers: also of a `boot` that fell silent, until it ends itself.
* A receiver that has just started remembers nobody, and a `boot` that it has not met may be an old one. But
  nobody could know its own `boot` before it started. So a sender lives for it only when that is among the
  `heard` of the sender: both directions work, now. No old frame contains it.

Neither keeps what was sent on one segment away from another one that has the same password; a `boot` for each
link does, as nobody there has heard of it.
"""

import hmac
import re
import struct
from collections.abc import Sequence

from lbspeaker.errors import Malformed
from lbspeaker.model import Heard, Hello

ETHERTYPE = 0x88B5
GROUP = bytes.fromhex("036c6273706b")  # the bits "group" and "local", and "lbspk"
MOST_HEARD = 134  # what fits into 1500 bytes beside the longest name
_VERSION = 1
_HEAD, _COUNT, _ENTRY = struct.Struct("!BBH8sQB"), struct.Struct("!H"), struct.Struct("!8sB")
_TYPE = ETHERTYPE.to_bytes(2, "big")
_PAYLOAD, _LONGEST, _TAG = 14, 1500, 16
_NAME = _PAYLOAD + _HEAD.size
_FIXED = _HEAD.size + _COUNT.size + _TAG  # of a payload, beside name and entries
_STALE, _LEAVING = 1, 2  # flags; others are let be
_STATES = {int(state): state for state in Heard}
_NODE = re.compile(rb"[A-Za-z0-9.-]{1,253}")


def derive(password: str) -> bytes:
    """Return the key that `password` stands for."""
    return hmac.digest(password.encode(), b"lbspeaker hello 1", "sha256")


def build(hello: Hello, mac: bytes, key: bytes, to: bytes = GROUP) -> bytes:
    """Return the frame, unpadded, with the first `MOST_HEARD` of `hello.heard`: the most important go first.

    Raises ValueError if `mac` is not the address of one host, or if a field is not as `parse` demands it.
    """
    name = hello.node.encode()
    if not _NODE.fullmatch(name):
        raise ValueError(f"{hello.node!r} is not the name of a node")
    heard = hello.heard[:MOST_HEARD]
    if len(hello.boot) != 8 or any(len(boot) != 8 for boot, _ in heard):
        raise ValueError("a boot has 8 bytes")
    if len(mac) != 6 or mac[0] & 1 or len(to) != 6:
        raise ValueError(f"not from the MAC of a host to another MAC: {mac.hex()}, {to.hex()}")
    flags = _STALE * hello.stale | _LEAVING * hello.leaving
    length = _FIXED + len(name) + _ENTRY.size * len(heard)
    try:
        head = _HEAD.pack(_VERSION, flags, length, hello.boot, hello.sequence, len(name))
    except struct.error as error:
        raise ValueError(f"sequence {hello.sequence}: {error}") from None
    entries = b"".join(_ENTRY.pack(boot, state) for boot, state in heard)
    signed = head + name + _COUNT.pack(len(heard)) + entries
    return to + mac + _TYPE + signed + _tag(key, mac + signed)


def parse(frame: bytes, keys: Sequence[bytes]) -> Hello:
    """Take a frame apart whose tag one of `keys` has made; padding after it is let be.

    Raises Malformed, for what costs least to see first: before the tag, only lengths are looked at.
    """
    if len(frame) < _PAYLOAD + _FIXED or frame[12:14] != _TYPE:
        raise Malformed("not a hello")
    if frame[6] & 1:
        raise Malformed("it comes from a group")
    version, flags, length, boot, sequence, size = _HEAD.unpack_from(frame, _PAYLOAD)
    if version != _VERSION:
        raise Malformed(f"a hello of version {version}")
    end, entries = _PAYLOAD + length - _TAG, _NAME + size + _COUNT.size
    if length > _LONGEST or end + _TAG > len(frame) or entries > end:
        raise Malformed("a hello of a length that cannot be")
    (count,) = _COUNT.unpack_from(frame, entries - _COUNT.size)
    if entries + count * _ENTRY.size != end:
        raise Malformed("a hello of a length that cannot be")
    found, signed = frame[end : end + _TAG], frame[6:12] + frame[_PAYLOAD:end]
    if not any(hmac.compare_digest(found, _tag(key, signed)) for key in keys):
        raise Malformed("the tag is wrong: another password, or altered on the way")
    name = frame[_NAME : _NAME + size]
    if not _NODE.fullmatch(name):
        raise Malformed("a name that no node can have")
    try:
        heard = tuple([(boot, _STATES[state]) for boot, state in _ENTRY.iter_unpack(frame[entries:end])])
    except KeyError:
        raise Malformed("a member that is neither heard, silent nor dead") from None
    return Hello(name.decode(), boot, sequence, heard, bool(flags & _STALE), bool(flags & _LEAVING))


def _tag(key: bytes, signed: bytes) -> bytes:
    return hmac.digest(key, signed, "sha256")[:_TAG]
