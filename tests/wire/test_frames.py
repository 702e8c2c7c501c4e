"""ARP and NDP as bytes; scapy is the judge."""

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
from lbspeaker.wire import arp, bpf, ndp, orders

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
        wrong_checksum(),
        wrong_option(),
        bytes(Ether() / IPv6(hlim=255) / ICMPv6EchoRequest()) + bytes(40),
        who_has() + bytes(60),
    ],
    ids=["empty", "cut", "routed", "unspecified", "multicast", "checksum", "option", "echo", "arp"],
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
        orders.Setup("strict", "aa", "bb"),
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


def test_ranges_that_touch_are_one_and_too_many_become_coarser_but_lose_nothing() -> None:
    assert bpf.merge([(5, 9), (1, 4), (20, 30), (25, 40)]) == [(1, 9), (20, 40)]
    many = [(n * 10, n * 10 + 3) for n in range(1000)]
    merged = bpf.merge(many)
    assert len(merged) == bpf.MOST_RANGES
    assert all(any(first <= a and b <= last for first, last in merged) for a, b in many)
    assert len(bpf.arp(many)) // 8 <= 4096
