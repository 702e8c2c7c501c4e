"""ARP and NDP as bytes; scapy is the judge, and of the filters the kernel."""

import ctypes
import socket
import struct
from collections.abc import Iterator
from contextlib import closing, contextmanager
from ipaddress import IPv4Address, IPv6Address

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scapy.layers.inet6 import (
    ICMPv6EchoRequest,
    ICMPv6ND_NA,
    ICMPv6ND_NS,
    ICMPv6NDOptDstLLAddr,
    ICMPv6NDOptSrcLLAddr,
    IPv6,
)
from scapy.layers.l2 import ARP, Ether

from lbspeaker.core.answer import Verdict, decide, decide_ndp
from lbspeaker.errors import Malformed
from lbspeaker.wire import arp, bpf, hello, ndp, orders

OURS, CLIENT = "02:00:00:00:00:0a", "02:00:00:00:00:cc"
MAC, CLIENT_MAC = bytes.fromhex("02000000000a"), bytes.fromhex("0200000000cc")
WEB, WEB6 = IPv4Address("192.0.2.10"), IPv6Address("2001:db8::10")
CLIENT_IP, CLIENT_IP6 = "192.0.2.200", "2001:db8::200"
OWNED, OWNED6 = {WEB.packed}, {WEB6.packed}


def who_has(ip: str = str(WEB), **fields: str) -> bytes:
    asked = {"hwsrc": CLIENT, "psrc": CLIENT_IP, "pdst": ip, **fields}
    return bytes(Ether(src=CLIENT, dst="ff:ff:ff:ff:ff:ff") / ARP(**asked))


def solicit(src: str = CLIENT_IP6, hops: int = 255, option: bool = True, target: str = str(WEB6)) -> bytes:
    frame = Ether(src=CLIENT, dst="33:33:ff:00:00:10") / IPv6(src=src, dst="ff02::1:ff00:10", hlim=hops)
    frame /= ICMPv6ND_NS(tgt=target)
    return bytes(frame / ICMPv6NDOptSrcLLAddr(lladdr=CLIENT) if option else frame)


# --- ARP ------------------------------------------------------------------------------------------------


def test_the_announcement_is_the_request_form_with_nobody_as_target() -> None:
    frame = arp.announcement(arp.template(), MAC, WEB.packed)
    assert frame.hex() == (
        "ffffffffffff" "02000000000a" "0806" "0001" "0800" "06" "04" "0001"
        "02000000000a" "c000020a" "000000000000" "c000020a"
    )  # fmt: skip
    seen = Ether(frame)[ARP]
    assert (seen.op, seen.hwsrc, seen.psrc, seen.pdst) == (1, OURS, str(WEB), str(WEB))


def test_a_probe_says_nothing_of_who_asks_but_its_mac() -> None:
    frame = arp.probe(arp.probe_template(), MAC, WEB.packed)
    assert frame.hex() == (
        "ffffffffffff" "02000000000a" "0806" "0001" "0800" "06" "04" "0001"
        "02000000000a" "00000000" "000000000000" "c000020a"
    )  # fmt: skip
    nobody = "00:00:00:00:00:00"
    probe = ARP(op="who-has", hwsrc=OURS, psrc="0.0.0.0", hwdst=nobody, pdst=str(WEB))
    assert frame == bytes(Ether(src=OURS, dst="ff:ff:ff:ff:ff:ff") / probe)


def test_a_question_is_an_ordinary_request() -> None:
    frame = arp.question(MAC, WEB.packed, IPv4Address("192.0.2.1").packed)
    asked = ARP(op="who-has", hwsrc=OURS, psrc=str(WEB), hwdst="00:00:00:00:00:00", pdst="192.0.2.1")
    assert frame == bytes(Ether(src=OURS, dst="ff:ff:ff:ff:ff:ff") / asked)


def test_no_frame_is_made_of_what_is_no_mac_or_ip() -> None:
    for build, template, right, wrong in (
        (arp.announcement, arp.template(), WEB.packed, WEB6.packed),
        (arp.probe, arp.probe_template(), WEB.packed, b""),
        (ndp.announcement, ndp.template(), WEB6.packed, WEB.packed),
        (ndp.probe, ndp.probe_template(), WEB6.packed, b""),
    ):
        for mac, ip in ((MAC[:5], right), (MAC, wrong)):
            with pytest.raises(ValueError):
                build(template, mac, ip)
    for mac, ip, other in ((MAC[:5], WEB.packed, WEB.packed), (MAC, b"", WEB.packed), (MAC, WEB.packed, b"")):
        with pytest.raises(ValueError):
            arp.question(mac, ip, other)


def test_the_answer_goes_to_who_asked() -> None:
    seen = Ether(arp.reply(arp.parse(who_has()), MAC))
    assert (seen.src, seen.dst) == (OURS, CLIENT)
    assert (seen[ARP].op, seen[ARP].hwsrc, seen[ARP].psrc) == (2, OURS, str(WEB))
    assert (seen[ARP].hwdst, seen[ARP].pdst) == (CLIENT, CLIENT_IP)


@pytest.mark.parametrize(
    ("frame", "expected"),
    [
        (who_has(), Verdict.ANSWER),
        (who_has() + bytes(18), Verdict.ANSWER),  # padded to 60 bytes
        (who_has(psrc="0.0.0.0"), Verdict.ANSWER),  # a probe
        (who_has("192.0.2.11"), Verdict.NOT_MINE),
        (who_has("192.0.2.11", psrc="192.0.2.11"), Verdict.NOT_MINE),  # somebody's announcement
        (who_has(psrc=str(WEB)), Verdict.CONFLICT),  # somebody announces mine
        (who_has(psrc=str(WEB), pdst="192.0.2.11"), Verdict.CONFLICT),
        (who_has(op="is-at", psrc=str(WEB), pdst=CLIENT_IP), Verdict.CONFLICT),
        (who_has(op="is-at", psrc="192.0.2.11"), Verdict.NOT_A_REQUEST),
        (who_has(hwsrc=OURS), Verdict.BAD_SENDER),  # my own, sent back by the switch
        (who_has(hwsrc="ff:ff:ff:ff:ff:ff"), Verdict.BAD_SENDER),
        (who_has(hwsrc="00:00:00:00:00:00"), Verdict.BAD_SENDER),
    ],
)
def test_what_an_arp_packet_means(frame: bytes, expected: Verdict) -> None:
    assert decide(*arp.parse(frame), OWNED, MAC) is expected


@pytest.mark.parametrize(
    "frame",
    [
        b"",
        who_has()[:41],
        bytes(Ether() / IPv6() / ICMPv6EchoRequest()) + bytes(40),
        who_has()[:12] + b"\x81\x00\x00\x64" + who_has()[12:],  # tagged: another VLAN
        who_has()[:18] + b"\x08\x04" + who_has()[20:],  # other lengths
    ],
)
def test_what_is_not_arp_is_malformed(frame: bytes) -> None:
    with pytest.raises(Malformed):
        arp.parse(frame)


# --- NDP ------------------------------------------------------------------------------------------------


def test_the_unsolicited_advertisement_overrides_and_its_checksum_is_right() -> None:
    frame = ndp.announcement(ndp.template(), MAC, WEB6.packed)
    seen = Ether(frame)
    assert (seen.src, seen.dst) == (OURS, "33:33:00:00:00:01")
    assert (seen[IPv6].src, seen[IPv6].dst, seen[IPv6].hlim) == (str(WEB6), "ff02::1", 255)
    assert (seen[ICMPv6ND_NA].S, seen[ICMPv6ND_NA].O, seen[ICMPv6ND_NA].R) == (0, 1, 0)
    assert seen[ICMPv6ND_NA].tgt == str(WEB6)
    assert seen[ICMPv6NDOptDstLLAddr].lladdr == OURS
    assert checksum_is_right(frame)


@pytest.mark.parametrize("ip", ["2001:db8::10", "2001:db8::1:800:200e:8c6c", "fd00::ffff:ffff"])
def test_a_probe_of_an_ipv6_address(ip: str) -> None:
    frame = ndp.probe(ndp.probe_template(), MAC, IPv6Address(ip).packed)
    last = IPv6Address(ip).packed[13:]
    group = IPv6Address(bytes.fromhex("ff0200000000000000000001ff") + last)
    ether = Ether(src=OURS, dst=(b"\x33\x33\xff" + last).hex(":"))
    assert frame == bytes(ether / IPv6(src="::", dst=str(group), hlim=255) / ICMPv6ND_NS(tgt=ip))
    assert ndp.parse(frame) == ndp.Message(ndp.SOLICITATION, bytes(16), IPv6Address(ip).packed, MAC)


def checksum_is_right(frame: bytes) -> bool:
    seen = Ether(frame)
    given_ = seen[ICMPv6ND_NA].cksum
    del seen[ICMPv6ND_NA].cksum
    return bool(Ether(bytes(seen))[ICMPv6ND_NA].cksum == given_)


def test_the_advertisement_goes_to_who_asked() -> None:
    frame = ndp.reply(ndp.parse(solicit()), MAC)
    seen = Ether(frame)
    assert (seen.dst, seen[IPv6].dst, seen[IPv6].src) == (CLIENT, CLIENT_IP6, str(WEB6))
    assert (seen[ICMPv6ND_NA].S, seen[ICMPv6ND_NA].O) == (1, 1)
    assert seen[ICMPv6NDOptDstLLAddr].lladdr == OURS
    assert checksum_is_right(frame)


def test_without_the_option_it_goes_to_the_mac_of_the_frame() -> None:
    assert Ether(ndp.reply(ndp.parse(solicit(option=False)), MAC)).dst == CLIENT


def test_who_probes_an_address_of_ours_is_told_before_all_nodes() -> None:
    frame = ndp.reply(ndp.parse(solicit(src="::", option=False)), MAC)
    seen = Ether(frame)
    assert (seen.dst, seen[IPv6].dst) == ("33:33:00:00:00:01", "ff02::1")
    assert (seen[ICMPv6ND_NA].S, seen[ICMPv6ND_NA].O) == (0, 1)
    assert checksum_is_right(frame)


def wrong_checksum() -> bytes:
    frame = bytearray(solicit())
    frame[57] ^= 1
    return bytes(frame)


def wrong_option() -> bytes:
    frame = bytearray(solicit())
    frame[79] = 0  # an option of no length would never end
    return bytes(frame)


@pytest.mark.parametrize(
    "frame",
    [
        b"",
        solicit()[:70],
        solicit(hops=64),
        solicit(src="::"),  # with an option that says who is asking
        solicit(target="ff02::1"),
        bytes(Ether() / IPv6(src="::", dst=str(WEB6), hlim=255) / ICMPv6ND_NS(tgt=str(WEB6))),
        bytes(Ether() / IPv6(dst="ff02::1", hlim=255) / ICMPv6ND_NA(tgt=str(WEB6), S=1)),
        wrong_checksum(),
        wrong_option(),
        bytes(Ether() / IPv6(hlim=255) / ICMPv6EchoRequest()) + bytes(40),
        who_has() + bytes(60),
    ],
    ids=[
        "empty",
        "cut",
        "routed",
        "unspecified",
        "multicast",
        "probe to one",
        "answer to all",
        "checksum",
        "option",
        "echo",
        "arp",
    ],
)
def test_what_is_no_valid_neighbour_discovery_is_malformed(frame: bytes) -> None:
    with pytest.raises(Malformed):
        ndp.parse(frame)


def test_what_neighbour_discovery_means() -> None:
    assert decide_ndp(True, CLIENT_MAC, WEB6.packed, OWNED6, MAC) is Verdict.ANSWER
    assert decide_ndp(False, CLIENT_MAC, WEB6.packed, OWNED6, MAC) is Verdict.CONFLICT
    assert decide_ndp(True, CLIENT_MAC, bytes(16), OWNED6, MAC) is Verdict.NOT_MINE
    assert decide_ndp(False, MAC, WEB6.packed, OWNED6, MAC) is Verdict.BAD_SENDER


def test_the_solicited_node_group() -> None:
    group = ndp.solicited_node(IPv6Address("2001:db8::1:800:200e:8c6c").packed)
    assert IPv6Address(group) == IPv6Address("ff02::1:ff0e:8c6c")


# --- what strangers may send ----------------------------------------------------------------------------


@given(st.binary(max_size=200), st.sampled_from([who_has(), solicit()]), st.integers(0, 90))
def test_strangers_cause_malformed_and_nothing_else(noise: bytes, real: bytes, position: int) -> None:
    for frame in (noise, real[:position] + noise, real[:position] + noise + real[position + len(noise) :]):
        for parse in (arp.parse, ndp.parse):
            try:
                parse(frame)
            except Malformed:
                continue


@given(st.binary(max_size=100))
def test_so_do_garbled_orders_and_reports(line: bytes) -> None:
    for read in (orders.order, orders.report):
        with pytest.raises(Malformed):
            read(line)


def test_orders_come_through_as_they_were_sent_however_they_are_cut() -> None:
    sent: list[orders.Order] = [
        orders.Ports((orders.Port("eth0", 2, MAC.hex()),)),
        orders.Filter(((1, 2), (5, 9))),
        orders.Announce("192.0.2.10", ("eth0",), "NEW"),
        orders.Release("192.0.2.10"),
    ]
    stream = b"".join(map(orders.build, sent))
    for size in (1, 7, 1000):
        lines = orders.Lines()
        pieces = [stream[at : at + size] for at in range(0, len(stream), size)]
        assert [orders.order(line) for piece in pieces for line in lines.feed(piece)] == sent


# --- the kernel's filter --------------------------------------------------------------------------------


def passes(program: bytes, *frames: bytes) -> list[bytes]:
    """What the kernel lets through; a socket of this kind needs no permission, and takes all for its own."""
    out, into = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
    with closing(out), closing(into):
        out.settimeout(10)
        attach(into, program)
        return [into.recv(4096) for frame in frames if was_taken(out, into, frame)]


def was_taken(out: socket.socket, into: socket.socket, frame: bytes) -> bool:
    out.send(frame)
    try:
        return bool(into.recv(4096, socket.MSG_DONTWAIT | socket.MSG_PEEK))
    except BlockingIOError:
        return False


def attach(to: socket.socket, program: bytes) -> None:
    buffer = ctypes.create_string_buffer(program)
    to.setsockopt(
        socket.SOL_SOCKET, 26, struct.pack("HL", len(program) // 8, ctypes.addressof(buffer))
    )  # SO_ATTACH_FILTER


def advertise(target: str) -> bytes:
    return ndp.announcement(ndp.template(), MAC, IPv6Address(target).packed)


def between(first: str, last: str) -> tuple[int, int]:
    return int(IPv6Address(first)), int(IPv6Address(last))


HELLO = hello.build(hello.Hello("n", bytes(8), 1, ((bytes(8), True),) * 134), MAC, bytes(32))


def test_arp_passes_that_asks_for_or_claims_an_address_of_a_pool() -> None:
    ours, others = who_has(), who_has("192.0.2.9")
    claimed = who_has("192.0.2.9", psrc=str(WEB))
    program = bpf.arp([(int(WEB), int(WEB) + 5), (0, 7)])
    assert passes(program, ours, others, claimed, solicit(), HELLO) == [ours, claimed]
    assert passes(program, who_has("192.0.2.15"), who_has("192.0.2.16")) == [who_has("192.0.2.15")]


def test_neighbour_discovery_passes_whatever_it_is_about_unless_ranges_are_given() -> None:
    frames = [solicit(), advertise("fd00::1")]
    echo = bytes(Ether() / IPv6(hlim=255) / ICMPv6EchoRequest())
    extended = solicit()[:20] + bytes((0, ndp.ADVERTISEMENT)) + solicit()[22:]
    foreign = [solicit(hops=64), echo, extended, who_has(), HELLO, b"", solicit()[:54]]
    assert passes(bpf.ndp(), *frames, *foreign) == frames
    assert passes(bpf.ndp([(0, 2**128 - 1)]), *frames, *foreign, solicit()[:62]) == frames
    assert passes(bpf.ndp([]), *frames, *foreign) == []


@pytest.mark.parametrize(
    ("first", "last", "inside", "outside"),
    [
        ("2001:db8::10", "2001:db8::1f", ["2001:db8::10", "2001:db8::1f"], ["2001:db8::f", "2001:db8::20"]),
        ("2001:db8::10", "2001:db8::10", ["2001:db8::10"], ["2001:db8::11", "2001:db8:0:0:1::10"]),
        (
            "2001:db8::",
            "2001:db8::ffff:ffff",
            ["2001:db8::7"],
            ["2001:db8:1::7", "2001:db8:0:0:1::7", "fd00::7"],
        ),
        ("2001:db8::", "2001:db8::ffff:ffff:ffff", ["2001:db8::fffe:0:1"], ["2001:db8:0:0:1::7"]),
        ("2001:db8:1::", "2001:db8:1:f:ffff:ffff:ffff:ffff", ["2001:db8:1:f::9"], ["2001:db8:1:10::9"]),
        ("2001:db8::", "2001:db9:ffff::", ["2001:db9:1::"], ["2001:dba::", "2001:db7:ffff::"]),
        ("::", "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff", ["::1", "fe80::1"], []),
    ],
)
def test_neighbour_discovery_about_a_range(
    first: str, last: str, inside: list[str], outside: list[str]
) -> None:
    program = bpf.ndp(
        [between("fd00:1::5", "fd00:1::9"), between(first, last), between("fd00:2::5", "fd00:2::9")]
    )
    also = ["fd00:1::7", "fd00:2::7"]
    wanted = list(map(advertise, inside + also))
    assert passes(program, *wanted, *map(advertise, outside)) == wanted


ADDRESSES = st.builds(
    lambda words: sum(word << shift for word, shift in zip(words, (96, 64, 32, 0), strict=True)),
    st.tuples(*[st.sampled_from([0, 1, 2, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF])] * 4),
)


@given(st.lists(st.tuples(ADDRESSES, ADDRESSES).map(sorted).map(tuple), max_size=5), st.lists(ADDRESSES))
def test_no_filter_loses_what_is_about_a_pool(ranges: list[tuple[int, int]], targets: list[int]) -> None:
    """And of ranges within one /96, nothing else passes."""
    ends = [end for pair in ranges for end in pair]
    about = {target: advertise(str(IPv6Address(target))) for target in targets + ends}
    passed = set(passes(bpf.ndp(ranges), *about.values()))
    inside = {
        frame for target, frame in about.items() if any(first <= target <= last for first, last in ranges)
    }
    assert inside <= passed
    if all(first >> 32 == last >> 32 for first, last in ranges):
        assert passed == inside


def test_the_meter_counts_all_arp_and_reads_little_of_it() -> None:
    long, odd = who_has() + bytes(100), who_has()[:18] + bytes(30)
    assert passes(bpf.meter(), long, odd, solicit(), HELLO, b"") == [long[:64], odd]


def test_hellos_pass_whole() -> None:
    assert len(HELLO) > 1200
    assert passes(bpf.hello(), who_has(), HELLO, solicit(), HELLO[:12] + b"\x88\xb6" + HELLO[14:]) == [HELLO]


def test_nothing_is_nothing() -> None:
    assert passes(bpf.nothing(), who_has(), solicit(), HELLO, b"") == []


@contextmanager
def loopback(ethertype: int, program: bytes) -> Iterator[socket.socket]:
    """A packet socket on lo, whose MAC is zero: a frame to another MAC is there one for another host."""
    try:
        packets = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0)
    except PermissionError:
        pytest.skip("packet sockets need CAP_NET_RAW")
    with closing(packets):
        attach(packets, program)
        packets.setsockopt(263, 23, 1)  # SOL_PACKET, PACKET_IGNORE_OUTGOING
        packets.bind(("lo", ethertype))
        packets.settimeout(5)
        yield packets


ARP_TYPE, IPV6_TYPE = 0x0806, 0x86DD


@pytest.mark.parametrize(
    ("ethertype", "program", "frame"),
    [
        (ARP_TYPE, bpf.arp([(0, 2**32 - 1)]), who_has()),
        (ARP_TYPE, bpf.meter(), who_has()),
        (IPV6_TYPE, bpf.ndp(), solicit()),
        (IPV6_TYPE, bpf.ndp([(0, 2**128 - 1)]), solicit()),
        (hello.ETHERTYPE, bpf.hello(), HELLO),
    ],
    ids=["arp", "meter", "ndp", "ndp of ranges", "hello"],
)
def test_frames_for_other_hosts_never_pass(ethertype: int, program: bytes, frame: bytes) -> None:
    to_all, to_us, to_other = (mac + frame[6:] for mac in (b"\x03" + bytes(5), bytes(6), MAC))
    with loopback(ethertype, program) as packets:
        for sent in (to_other, to_us, to_other, to_all):
            packets.send(sent)
        assert [packets.recv(2048)[:6] for _ in range(2)] == [to_us[:6], to_all[:6]]


def test_ranges_that_touch_are_one_and_too_many_become_coarser_but_lose_nothing() -> None:
    assert bpf.merge([(5, 9), (1, 4), (20, 30), (25, 40)]) == [(1, 9), (20, 40)]
    many = [(n * 10, n * 10 + 3) for n in range(1000)]
    for most, build in ((bpf.MOST_RANGES, bpf.arp), (bpf.MOST_RANGES6, bpf.ndp)):
        merged = bpf.merge(many, most)
        assert len(merged) == most
        assert all(any(first <= a and b <= last for first, last in merged) for a, b in many)
        assert len(build(many)) // 8 <= 1510
        passes(build(many))  # the kernel takes it
