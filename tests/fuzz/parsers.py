"""The parsers that are fuzzed: what each is given, and what must hold for what it accepts."""

import hashlib
import hmac
from collections.abc import Callable
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address
from random import Random
from typing import Any, get_args

import msgspec

from lbspeaker.errors import Malformed
from lbspeaker.model import Kind
from lbspeaker.wire import (
    arp,
    bfd,
    exabgp,
    hello,
    kube,
    kube_facts,
    kube_objects,
    ndp,
    orders,
    proc_net,
    watch,
)
from tests.fuzz.mutations import of_bytes, of_json, tokens
from tests.fuzz.samples import sample

Mutate = Callable[[Random], bytes]


@dataclass(frozen=True)
class Parser:
    """`check` raises Malformed for what is refused; whatever else it raises is a failure."""

    check: Callable[[bytes], object]
    seeds: tuple[bytes, ...]
    mutate: Mutate


def _bytes(
    check: Callable[[bytes], object], seeds: list[bytes], mend: Callable[[Random, bytes], bytes]
) -> Parser:
    def mutate(random: Random) -> bytes:
        data = of_bytes(random, seeds)
        return mend(random, data) if random.random() < 0.5 else data

    return Parser(check, tuple(seeds), mutate)


def _json(check: Callable[[bytes], object], seeds: list[bytes]) -> Parser:
    split = [tokens(seed) for seed in seeds]

    def mutate(random: Random) -> bytes:
        return of_json(random, split) if random.random() < 0.75 else of_bytes(random, seeds)

    return Parser(check, tuple(seeds), mutate)


def reread(parse: Callable[[bytes], Any], built: bytes) -> Any:
    """Return what we built ourselves, parsed: that must not be refused."""
    try:
        return parse(built)
    except Malformed as error:
        raise AssertionError(f"our own {built.hex()}: {error}") from error


# --- frames ---------------------------------------------------------------------------------------------

MAC, OTHER = bytes.fromhex("02000000000a"), bytes.fromhex("02000000000b")
IPS = [IPv4Address("192.0.2.10").packed, IPv4Address("192.0.2.200").packed]
IPS6 = [IPv6Address("2001:db8::10").packed, IPv6Address("fe80::200").packed]


def check_arp(data: bytes) -> None:
    asked = arp.parse(data)
    answer = reread(arp.parse, arp.reply(asked, MAC))
    assert (answer.sender_mac, answer.sender_ip) == (MAC, asked.target_ip)


def arp_seeds() -> list[bytes]:
    question = arp.question(MAC, *IPS)
    return [question, question + bytes(18), arp.announcement(arp.template(), MAC, IPS[0])]


def check_ndp(data: bytes) -> None:
    asked = ndp.parse(data)
    end = 54 + int.from_bytes(data[18:20], "big")
    assert end <= len(data)
    assert checksum(data[22:54], data[54:end]) == 0
    answer = reread(ndp.parse, ndp.reply(asked, MAC))
    assert answer == (ndp.ADVERTISEMENT, asked.target_ip, asked.target_ip, MAC)


def ndp_seeds() -> list[bytes]:
    probe = ndp.probe(ndp.probe_template(), MAC, IPS6[0])
    told = ndp.announcement(ndp.template(), MAC, IPS6[0])
    body = bytearray(told)
    body[54], body[58], body[78] = ndp.SOLICITATION, 0, 1  # with the option that says who asks
    asked = mend_ndp(Random(0), bytes(body))
    return [
        probe,
        told,
        told + bytes(9),
        asked,
        mend_ndp(Random(0), asked + bytes.fromhex("0e01aabbccddeeff")),
    ]


def mend_ndp(random: Random, data: bytes) -> bytes:
    """The frame with the right checksum, and mostly the right length (RFC 4443 §2.3)."""
    frame = bytearray(data)
    if len(frame) < 58:
        return data
    if random.random() < 0.9:
        frame[18:20] = (len(frame) - 54).to_bytes(2, "big")
    frame[56:58] = bytes(2)
    end = 54 + int.from_bytes(frame[18:20], "big")
    frame[56:58] = checksum(bytes(frame[22:54]), bytes(frame[54:end])).to_bytes(2, "big")
    return bytes(frame)


def checksum(addresses: bytes, message: bytes) -> int:
    """As a number modulo 2^16 - 1, which is what the sum with its carries is (RFC 1071 §1)."""
    covered = addresses + len(message).to_bytes(4, "big") + bytes((0, 0, 0, 58)) + message
    number = int.from_bytes(covered + bytes(len(covered) % 2), "big")
    return 0xFFFF - ((number % 0xFFFF) or 0xFFFF)


KEY = hello.derive("secret")
KEYS = [hello.derive("other"), KEY]


def check_hello(data: bytes) -> None:
    said = hello.parse(data, KEYS)
    again = reread(lambda frame: hello.parse(frame, KEYS), hello.build(said, data[6:12], KEY))
    assert again == said._replace(heard=said.heard[: hello.MOST_HEARD])


def hello_seeds() -> list[bytes]:
    """Written down in bytes: what stands in them is the protocol's, whatever a Hello is in the code."""
    found = []
    for name, states in ((b"n", b""), (b"node-a.lan", b"\x01\x02"), (b"n" * 253, b"\x01\x02" * 60)):
        entries = b"".join(bytes((number,)) * 8 + bytes((state,)) for number, state in enumerate(states))
        payload = bytes((1, 3, 0, 0)) + MAC + IPS[0] + bytes(6) + bytes((len(name),)) + name
        payload += len(states).to_bytes(2, "big") + entries
        found.append(sealed(hello.GROUP + OTHER + b"\x88\xb5" + payload + bytes(16), proper=True))
    return found


def mend_hello(random: Random, data: bytes) -> bytes:
    """The frame with the right tag, and mostly the right length."""
    return sealed(data, random.random() < 0.8) if len(data) >= 34 else data


def sealed(data: bytes, proper: bool) -> bytes:
    length = min(len(data) - 14, 0xFFFF) if proper else int.from_bytes(data[16:18], "big")
    signed = data[14:16] + length.to_bytes(2, "big") + data[18 : 14 + length - 16]
    tag = hmac.digest(KEY, data[6:12] + signed, hashlib.sha256)[:16]
    return data[:14] + signed + tag + data[14 + length :]


def check_bfd(data: bytes) -> None:
    said = bfd.parse(data)
    assert reread(bfd.parse, bfd.build(said)) == said


def bfd_seeds() -> list[bytes]:
    """Down, not knowing us; up, with a poll; shut down, padded."""
    numbers = "0000000b 00000016 000186a0 000493e0 00000000"
    found = [
        "20400318 0000000b 00000000 000f4240 000493e0 00000000",
        f"20e00518{numbers}",
        f"27000318{numbers}",
    ]
    return [bytes.fromhex(text) + bytes(22 * (text[:2] == "27")) for text in found]


# --- lines of children ----------------------------------------------------------------------------------


def check_order(data: bytes) -> None:
    found = orders.order(data)
    assert reread(orders.order, orders.build(found)) == found


def check_report(data: bytes) -> None:
    found = orders.report(data)
    assert reread(orders.report, orders.build(found)) == found


def check_watch_order(data: bytes) -> None:
    found = watch.order(data)
    assert reread(watch.order, watch.build(found)) == found


def check_watch_report(data: bytes) -> None:
    found = watch.report(data)
    assert reread(watch.report, watch.build(found)) == found


def lines_of(union: Any) -> list[bytes]:
    return [msgspec.json.encode(sample(kind)) for kind in get_args(union)]


def exabgp_seeds() -> list[bytes]:
    def line(kind: str, **neighbor: object) -> bytes:
        addresses = {"address": {"local": "10.99.0.1", "peer": "10.99.0.2"}}
        return msgspec.json.encode(
            {"exabgp": "5.0.0", "time": 1.5, "type": kind, "neighbor": addresses | neighbor}
        )

    attribute = {"local-preference": 200, "community": [[65535, 0]], "large-community": [[1, 2, 3]]}
    announce = {"ipv4 unicast": {"10.99.0.1": [{"nlri": "192.0.2.1/32"}, {"nlri": "192.0.2.2/32"}]}}
    withdraw = {"ipv6 unicast": [{"nlri": "2001:db8::1/128"}], "ipv4 flow": []}
    update = {"attribute": attribute, "announce": announce, "withdraw": withdraw}
    return [
        line("state", state="up"),
        line("state", state="down", reason="notification received (6,99)"),
        line("negotiated", negotiated={"families": ["ipv4 unicast", "ipv6 unicast"]}),
        line("update", direction="send", message={"update": update}),
        line("update", direction="send", message={"eor": {"afi": "ipv6", "safi": "unicast"}}),
        b"done\n",
        b"exabgp 5.0.15",
    ]


# --- the API of Kubernetes ------------------------------------------------------------------------------

METADATA = {
    "name": "lbspeaker-node-a",
    "namespace": "shop",
    "resourceVersion": "42",
    "generation": 3,
    "deletionTimestamp": None,
    "finalizers": ["lbspeaker.io/in-use"],
    "labels": {"kubernetes.io/service-name": "web"},
    "annotations": {
        "metallb.io/loadBalancerIPs": "192.0.2.10,2001:db8::1",
        "lbspeaker.io/allocated-ips": "192.0.2.10",
        "lbspeaker.io/ip-allocated-from-pool": "lan",
    },
}
STATUS = {
    "loadBalancer": {"ingress": [{"ip": "192.0.2.10"}, {"hostname": "a"}]},
    "conditions": [{"type": "Allocated", "status": "True", "observedGeneration": 3}],
    "assignedIPv4": 1,
    "assigned": ["192.0.2.10-192.0.2.11"],
    "released": [{"address": "192.0.2.12", "service": "a/b", "until": "2026-01-02T03:04:05Z"}],
    "accepted": 1,
    "refusals": [{"object": "BGPPeer/a", "message": "x"}],
}
SPEC = {
    "type": "LoadBalancer",
    "loadBalancerIP": "192.0.2.10",
    "clusterIPs": ["10.96.0.5", "None"],
    "ports": [{"port": 80}],
    "renewTime": "2026-01-02T03:04:05.000000Z",
    "leaseDurationSeconds": 4,
}


def kube_seeds(struct: Any) -> list[bytes]:
    """Objects, pages and events of one kind."""
    kept = {"apiVersion": "v1", "kind": "Thing", "metadata": METADATA, "spec": SPEC, "status": STATUS}
    kept |= {"data": {"password": "c2VjcmV0"}, "holderIdentity": "a"}
    found = []
    for one in (kept, sample(struct)):
        page = {
            "apiVersion": "v1",
            "kind": "ThingList",
            "metadata": {"resourceVersion": "9"},
            "items": [one, one],
        }
        found += [one, page, *({"type": kind, "object": one} for kind in ("ADDED", "DELETED", "BOOKMARK"))]
    found.append({"type": "ERROR", "object": {"code": 410, "message": "gone"}})
    return [msgspec.json.encode(one) for one in found]


def check_kube(kind: Kind) -> Callable[[bytes], object]:
    """Read the input as what it looks like."""

    def check(data: bytes) -> object:
        codec = kube.codec(kind)
        return (codec.page if b'"items"' in data else codec.event if b'"object"' in data else codec.object)(
            data
        )

    return check


def check_document(data: bytes) -> object:
    try:
        value = msgspec.json.decode(data, type=dict[str, Any])
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        raise Malformed("no mapping") from None
    return kube.from_document(value)


def document_seeds() -> list[bytes]:
    kinds = {
        "Service": "v1",
        "EndpointSlice": "discovery.k8s.io/v1",
        "Node": "v1",
        "Namespace": "v1",
        "Secret": "v1",
    }
    return [
        msgspec.json.encode(
            {**sample(kube_objects.CONVERSIONS[Kind(kind)][0]), "apiVersion": version, "kind": kind}
        )
        for kind, version in kinds.items()
    ]


# --- what doctor reads ----------------------------------------------------------------------------------


def check_page(kind: str) -> Callable[[bytes], object]:
    return lambda data: kube_facts.page(kind, data)


def page_seeds(struct: Any) -> list[bytes]:
    return [msgspec.json.encode({"metadata": {"continue": "more"}, "items": [sample(struct)]})]


def check_sockets(data: bytes) -> object:
    """Lines that are not of the kernel's shape are passed over: it is refused if no line is left."""
    found = list(proc_net.listening("tcp", data.decode("ascii", "replace")))
    if not found:
        raise Malformed("no line of the kernel's")
    assert all(one.port >= 0 for one in found)
    return found


def sockets_seeds() -> list[bytes]:
    rest = b"00000000:00000000 00:00000000 00000000     0        0 1089 1 0 100 0 0 10 0"
    four, six = b"010200C0:00B3 00000000:0000 0A", b"B80D0120000000000000000001000000:0EC8 0:0 0A"
    return [b"  sl  local_address\n   0: %s %s\n" % (socket, rest) for socket in (four, six)]


def parsers() -> dict[str, Parser]:
    """Return all, by name."""
    found = {
        "arp": _bytes(check_arp, arp_seeds(), lambda _, data: data),
        "ndp": _bytes(check_ndp, ndp_seeds(), mend_ndp),
        "hello": _bytes(check_hello, hello_seeds(), mend_hello),
        "bfd": _bytes(check_bfd, bfd_seeds(), lambda _, data: data),
        "watch-order": _json(check_watch_order, lines_of(watch.Order)),
        "watch-report": _json(check_watch_report, lines_of(watch.Report)),
        "order": _json(check_order, lines_of(orders.Order)),
        "report": _json(check_report, lines_of(orders.Report)),
        "exabgp": _json(exabgp.parse, exabgp_seeds()),
        "leading": _json(kube.leading, kube_seeds(kube_objects.LeaderLease)),
        "document": _json(check_document, document_seeds()),
        "config": _json(check_kube(Kind.CONFIG), kube_seeds(dict[str, Any])),
    }
    for kind, (struct, _) in kube_objects.CONVERSIONS.items():
        found[kind.value.lower()] = _json(check_kube(kind), kube_seeds(struct))
    for name, (struct, _) in kube_facts.KINDS.items():
        found[f"doctor-{name.lower()}"] = _json(check_page(name), page_seeds(struct))
    found["sockets"] = _bytes(check_sockets, sockets_seeds(), lambda _, data: data)
    return found


PARSERS = parsers()
