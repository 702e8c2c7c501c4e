"""The answerer on a real segment: real sockets, real clients, and a guard that holds."""

import os
import shutil
import socket
import time
from collections import Counter
from collections.abc import Iterator
from ipaddress import IPv6Address
from itertools import pairwise

import pytest
from scapy.layers.inet6 import ICMPv6ND_NA, ICMPv6ND_NS, IPv6
from scapy.layers.l2 import ARP, Dot1Q, Ether

from lbspeaker.errors import LbspeakerError
from lbspeaker.lab import namespaces
from lbspeaker.wire import orders
from tests.lab.segment import (
    BROADCAST,
    CLIENT_IP,
    CLIENT_MAC,
    KEY,
    NODE_MAC,
    POOL,
    WEB,
    WEB6,
    Heard,
    Running,
    Segment,
    about,
    claim,
    hosts,
    index,
    is_announcement,
    is_answer,
    is_hello,
    is_probe,
    most_in_a_second,
    wait_for,
    who_has,
    who_has6,
)
from tests.optmem import give

pytestmark = pytest.mark.lab


def frames(heard: Heard) -> list[Ether]:
    return [frame for _, frame in heard]


@pytest.fixture
def segment() -> Iterator[Segment]:
    try:
        with hosts("node", "client") as names:
            found = Segment(*names)
            yield found
            found.close()
    except LbspeakerError as error:
        pytest.skip(str(error))


@pytest.fixture
def answerer(segment: Segment) -> Iterator[Running]:
    running = Running(segment.node, "standard")
    running.use(index(segment.node))
    try:
        running.wait(orders.Ready)
        yield running
    finally:
        running.end()


def test_a_client_finds_the_service_ip(segment: Segment, answerer: Running) -> None:
    answerer.announce(WEB, WEB6)
    (answer,) = segment.asks(who_has())
    assert (answer.src, answer[ARP].hwsrc, answer[ARP].psrc) == (NODE_MAC, NODE_MAC, WEB)
    if shutil.which("arping"):
        asked = segment.run("arping", "-c", "2", "-w", "3", "-i", "eth0", WEB)
        assert NODE_MAC in asked.stdout, asked
    if shutil.which("ndisc6"):
        asked = segment.run("ndisc6", "-1", "-q", "-r", "3", WEB6, "eth0")
        assert asked.stdout.strip().lower() == NODE_MAC, asked


def test_the_clients_kernel_finds_it_too_and_finds_it_again_by_a_unicast_probe(
    segment: Segment, answerer: Running
) -> None:
    answerer.announce(WEB, WEB6)
    for ip in (WEB, WEB6):
        segment.run("ping", "-c", "1", "-W", "1", ip) if shutil.which("ping") else connect(segment, ip)
        wait_for(lambda ip=ip: "REACHABLE" in neighbour(segment, ip))  # type: ignore[misc]
        namespaces.configure(segment.client, [f"neigh change {ip} dev eth0 lladdr {NODE_MAC} nud probe"])
        wait_for(lambda ip=ip: "REACHABLE" in neighbour(segment, ip))  # type: ignore[misc]


def connect(segment: Segment, ip: str) -> None:
    """Make the kernel ask for the neighbour."""
    family = socket.AF_INET6 if ":" in ip else socket.AF_INET
    with namespaces.socket_in(segment.client, family, socket.SOCK_DGRAM) as datagram:
        datagram.sendto(b"", (ip, 9))


def neighbour(segment: Segment, ip: str) -> str:
    return segment.run("ip", "neigh", "show", ip, "dev", "eth0").stdout


def test_what_must_not_be_answered(segment: Segment, answerer: Running) -> None:
    answerer.announce(WEB)
    silence = {
        "an IP of the pool that is not announced": who_has("192.0.2.11"),
        "an IP outside every pool": who_has("192.0.2.99"),
        "another VLAN": Ether(src=CLIENT_MAC, dst=BROADCAST) / Dot1Q(vlan=100) / who_has().payload,
        "a frame for another host": who_has(dst="02:00:00:00:00:99"),
        "a sender that cannot be": who_has(hwsrc="ff:ff:ff:ff:ff:ff"),
        "a truncated packet": bytes(who_has())[:30],
        "a reply": who_has(op=2),
        "no operation": who_has(op=0),
        "a question of RARP": who_has(op=3),
        "the announcement of another IP": who_has("192.0.2.11", psrc="192.0.2.11"),
        "other lengths of addresses": who_has(hwlen=8),
        "other hardware": who_has(hwtype=6),
    }
    answered = [what for what, frame in silence.items() if segment.asks(frame, 0.15)]
    assert answered == []
    assert segment.asks(who_has(dst=NODE_MAC)), "but a unicast request for ours is"
    assert segment.asks(who_has(psrc="0.0.0.0")), "and so is a probe"
    assert segment.asks(bytes(who_has(psrc="192.0.2.201")).ljust(1514, b"x")), "and one with padding"


def test_solicitations_that_must_not_be_answered(segment: Segment, answerer: Running) -> None:
    answerer.announce(WEB6)
    segment.hears(seconds=0.3)
    real, tagged = bytes(who_has6()), Ether(src=CLIENT_MAC, dst=who_has6().dst) / Dot1Q(vlan=100)
    silence = {
        "another IP": who_has6("2001:db8::11"),
        "from behind a router": who_has6(hlim=64),
        "a wrong checksum": real[:-1] + bytes([real[-1] ^ 1]),
        "a target that is a group": real[:62] + b"\xff\x02" + real[64:],
        "a code": real[:55] + b"\x01" + real[56:],
        "another VLAN": tagged / who_has6().payload,
        "a frame for another host": who_has6(dst="02:00:00:00:00:99"),
        "truncated before the target": real[:70],
        "truncated in the option": real[:-4],
        "an option without a length": real[:79] + b"\0" + real[80:],
        "a probe that says who it is": who_has6(src="::"),
    }
    answered = [what for what, frame in silence.items() if segment.asks(frame, 0.15)]
    assert answered == []
    assert segment.asks(who_has6()), "but one as it should be is"
    assert segment.asks(who_has6(dst=NODE_MAC)), "and so is one to the node alone"
    assert segment.asks(real.ljust(1514, b"x")), "and one with padding"


def test_neighbour_solicitations_by_unicast_and_by_probe(segment: Segment, answerer: Running) -> None:
    answerer.announce(WEB6)
    (answer,) = segment.asks(who_has6(dst=NODE_MAC))
    assert (answer[ICMPv6ND_NA].S, answer[ICMPv6ND_NA].O) == (1, 1)
    probe = Ether(src=CLIENT_MAC, dst="33:33:ff:00:00:10") / IPv6(src="::", dst="ff02::1:ff00:10", hlim=255)
    segment.send(probe / ICMPv6ND_NS(tgt=WEB6))
    told = segment.hears(is_announcement, 0.5)
    assert [frame[ICMPv6ND_NA].S for _, frame in told] == [0]


def test_nobody_gets_the_same_answer_more_than_ten_times_in_a_second(
    segment: Segment, answerer: Running
) -> None:
    answerer.announce(WEB, WEB6)
    segment.hears(seconds=0.3)
    other = bytes(who_has(psrc="192.0.2.201"))
    for frame in (bytes(who_has()), bytes(who_has6())):
        for _ in range(40):
            segment.send(frame)
    segment.send(other)
    answers = frames(segment.hears(is_answer, 0.5))
    assert Counter(frame[ARP].pdst if ARP in frame else about(frame) for frame in answers) == {
        CLIENT_IP: 10,
        WEB6: 10,
        "192.0.2.201": 1,
    }
    stats = {s.protocol: s for s in answerer.said(orders.Stats, 1.2)}
    assert {protocol: s.repetitive for protocol, s in stats.items()} == {"arp": 30, "ndp": 30}


def test_the_groups_of_ipv6_are_joined_and_left(segment: Segment, answerer: Running) -> None:
    def joined() -> bool:
        return "ff02::1:ff00:10" in namespaces.run(segment.node, ["ip", "maddr", "show", "eth0"]).stdout

    answerer.announce(WEB6)
    wait_for(joined)
    answerer.tell(orders.Release(WEB6))
    wait_for(lambda: not joined())


def test_forty_new_ips_stay_within_the_budget_and_each_is_told_once(
    segment: Segment, answerer: Running
) -> None:
    ips = [f"192.0.2.{n}" for n in range(10, 50)]
    answerer.announce(*ips)
    told = segment.hears(is_announcement, 6.0)
    assert sorted(map(about, frames(told))) == ips
    assert most_in_a_second(told) <= 12


def test_a_takeover_is_told_three_times(segment: Segment, answerer: Running) -> None:
    answerer.announce(WEB, WEB6, occasion="TAKEOVER")
    told = segment.hears(lambda f: (ARP in f and f[ARP].psrc == WEB) or ICMPv6ND_NA in f, 4.0)
    arps = [at for at, frame in told if ARP in frame]
    assert [round(at - arps[0], 1) for at in arps] == [0.0, 1.1, 3.3]
    assert sum(ICMPv6ND_NA in frame for _, frame in told) == 3
    assert {IPv6Address(f[ICMPv6ND_NA].tgt) for _, f in told if ICMPv6ND_NA in f} == {IPv6Address(WEB6)}


def test_asking_again_for_the_same_sends_nothing(segment: Segment, answerer: Running) -> None:
    answerer.announce(WEB)
    segment.hears(seconds=0.3)
    answerer.announce(WEB)
    answerer.announce(WEB, occasion="REFRESH")
    answerer.use(index(segment.node))
    assert segment.hears(lambda f: ARP in f, 0.5) == []


def test_what_is_released_is_not_answered_any_more(segment: Segment, answerer: Running) -> None:
    answerer.announce(WEB)
    assert segment.asks(who_has())
    answerer.tell(orders.Release(WEB))
    assert not segment.asks(who_has())


def test_another_that_claims_the_ip_is_reported_with_its_mac(segment: Segment, answerer: Running) -> None:
    answerer.announce(WEB)
    for _ in range(50):
        segment.send(claim())
    claimed = answerer.wait(orders.Claimed)
    assert claimed == orders.Claimed(WEB, "eth0", CLIENT_MAC)
    assert segment.asks(who_has()), "and it goes on answering"


def test_garbage_does_not_stop_it(segment: Segment, answerer: Running) -> None:
    answerer.announce(WEB)
    real = bytes(who_has())
    for size in range(14, 60):
        for noise in (os.urandom(size), real[:size], real[:20] + os.urandom(size)):
            segment.send(real[:12] + b"\x08\x06" + noise[14:].ljust(1, b"\0"))
    time.sleep(1.0)  # nobody gets the same answer more than ten times in a second
    assert segment.asks(who_has())


def test_it_ends_with_its_speaker(segment: Segment) -> None:
    running = Running(segment.node, "standard")
    running.use(index(segment.node))
    running.announce(WEB)
    assert segment.asks(who_has())
    running.end()
    assert running.process.returncode == 0
    assert not segment.asks(who_has())


def test_without_the_permission_it_says_what_is_missing_and_stays(segment: Segment) -> None:
    running = Running(segment.node, "standard", confined=True)
    running.use(index(segment.node))
    failed = running.wait(orders.Failed)
    assert failed.what == "no permission for a packet socket on eth0: the capability NET_RAW is missing"
    assert "securityContext.capabilities.add" in failed.hint
    assert running.process.poll() is None
    running.end()


def test_a_link_that_goes_and_comes_back(segment: Segment, answerer: Running) -> None:
    answerer.announce(WEB)
    segment.hears(seconds=0.3)
    namespaces.configure(segment.node, ["link set eth0 down"])
    answerer.tell(orders.Ports(()))
    namespaces.configure(segment.node, ["link set eth0 up"])
    time.sleep(0.1)
    answerer.use(index(segment.node))
    assert segment.hears(lambda f: ARP in f and f[ARP].psrc == WEB, 0.5), "it tells the segment again"
    assert segment.asks(who_has())
    answerer.tell(orders.Ports((orders.Port("eth7", 99, NODE_MAC.replace(":", "")),)))
    failed = answerer.wait(orders.Failed)
    assert failed.what == "link eth7 cannot be used: No such device"
    answerer.tell(orders.Ports((orders.Port("eth0", 99, NODE_MAC.replace(":", "")),)))
    answerer.wait(orders.Failed, port="eth0")  # it has become another one meanwhile
    answerer.use(index(segment.node))
    wait_for(lambda: bool(segment.asks(who_has())))


def test_a_link_that_cannot_be_opened_is_tried_again(segment: Segment, answerer: Running) -> None:
    ports = orders.Ports((answerer.port(index(segment.node)), answerer.port(99, "eth7")))
    answerer.tell(orders.Announce(WEB, ("eth0", "eth7"), "NEW"), ports)
    answerer.wait(orders.Failed, port="eth7")
    namespaces.configure(
        segment.node, ["link add eth7 index 99 type veth peer name eth8", "link set eth7 up"]
    )
    answerer.wait(orders.Opened, 7.0, port="eth7")
    answerer.wait(orders.Answering, ip=WEB, ports=("eth0", "eth7"))


@pytest.mark.parametrize(("ip", "question"), [(WEB, who_has()), (WEB6, who_has6())], ids=["arp", "ndp"])
def test_a_new_ip_is_probed_and_not_answered_before_it_is_known_that_nobody_has_it(
    segment: Segment, answerer: Running, ip: str, question: Ether
) -> None:
    answerer.use(index(segment.node), dad="fast")
    answerer.tell(orders.Announce(ip, ("eth0",), "NEW"))
    with segment.sends_on([bytes(question)], 20):
        answerer.wait(orders.Answering, ip=ip, ports=("eth0",))
        heard = segment.hears(lambda f: f.type != 0x86DD or ICMPv6ND_NS in f or ICMPv6ND_NA in f, 1.0)
    ((probed, probe),) = [(at, f) for at, f in heard if is_probe(f) and about(f) == ip]
    ((told, _),) = [(at, f) for at, f in heard if is_announcement(f) and about(f) == ip]
    answered = [at for at, f in heard if is_answer(f)]
    assert 0.25 <= told - probed < 0.6
    assert answered
    assert min(answered) >= probed + 0.25, "not before"
    if ip == WEB6:
        assert (probe.dst, probe[IPv6].dst) == ("33:33:ff:00:00:10", "ff02::1:ff00:10")


@pytest.mark.parametrize(("ip", "question"), [(WEB, who_has()), (WEB6, who_has6())], ids=["arp", "ndp"])
def test_who_has_an_ip_already_keeps_it(
    segment: Segment, answerer: Running, ip: str, question: Ether
) -> None:
    address = f"{ip}/{128 if ':' in ip else 32} dev eth0"
    namespaces.configure(segment.client, [f"addr add {address} {'nodad' if ':' in ip else ''}"])
    answerer.use(index(segment.node), dad="fast")
    answerer.tell(orders.Announce(ip, ("eth0",), "NEW"))
    assert answerer.wait(orders.InUse) == orders.InUse(ip, "eth0", CLIENT_MAC)
    assert segment.asks(question, 0.6) == []
    assert answerer.said(orders.Answering) == []
    namespaces.configure(segment.client, [f"addr del {address}"])
    answerer.tell(orders.Announce(ip, ("eth0",), "NEW"))
    answerer.wait(orders.Answering, ip=ip, ports=("eth0",))
    assert segment.asks(question), "it is free now"


def test_who_announces_an_ip_while_it_is_probed_has_it(segment: Segment, answerer: Running) -> None:
    answerer.use(index(segment.node), dad="fast")
    answerer.tell(orders.Announce(WEB, ("eth0",), "NEW"))
    assert segment.hears(is_probe, 0.1)
    segment.send(claim())
    assert answerer.wait(orders.InUse) == orders.InUse(WEB, "eth0", CLIENT_MAC)
    assert segment.asks(who_has()) == []


@pytest.mark.parametrize(("mac", "gives_way"), [("02:00:00:00:00:00", True), ("fe:ff:ff:ff:ff:ff", False)])
def test_of_two_that_probe_at_once_the_lower_mac_wins(
    segment: Segment, answerer: Running, mac: str, gives_way: bool
) -> None:
    answerer.use(index(segment.node), dad="fast")
    answerer.tell(orders.Announce(WEB, ("eth0",), "NEW"))
    assert segment.hears(is_probe, 0.1)
    segment.send(Ether(src=mac, dst="ff:ff:ff:ff:ff:ff") / ARP(hwsrc=mac, psrc="0.0.0.0", pdst=WEB))
    if gives_way:
        assert answerer.wait(orders.InUse) == orders.InUse(WEB, "eth0", mac)
    else:
        answerer.wait(orders.Answering, ip=WEB, ports=("eth0",))


def test_what_was_being_probed_when_a_link_changed_is_probed_to_the_end(
    segment: Segment, answerer: Running
) -> None:
    """A bond fails over, or the link is away for a moment."""
    answerer.announce("192.0.2.11")
    other = "02:00:00:00:00:0b"
    segment.macs.add(bytes.fromhex(other.replace(":", "")))
    answerer.use(index(segment.node), dad="rfc")
    answerer.tell(orders.Announce(WEB, ("eth0",), "NEW"), orders.Announce(WEB6, ("eth0",), "NEW"))
    assert segment.hears(is_probe, 0.2)
    answerer.use(index(segment.node), dad="fast", mac=other)
    heard = segment.hears(lambda f: is_probe(f) or is_announcement(f), 0.2)
    first = {about(f): is_probe(f) for _, f in reversed(heard) if f.src == other}
    assert first == {WEB: True, WEB6: True, "192.0.2.11": False}
    answerer.tell(orders.Ports(()))
    answerer.use(index(segment.node), dad="fast", mac=other)
    assert segment.hears(lambda f: is_probe(f) and about(f) == WEB, 0.1)
    segment.send(claim())
    assert answerer.wait(orders.InUse).ip == WEB
    assert segment.asks(who_has()) == []
    answerer.wait(orders.Answering, ip=WEB6, ports=("eth0",))


def test_by_the_book_three_probes_take_their_time(segment: Segment, answerer: Running) -> None:
    answerer.use(index(segment.node), dad="rfc")
    answerer.tell(orders.Announce(WEB, ("eth0",), "NEW"))
    heard = segment.hears(lambda f: is_probe(f) or is_announcement(f), 7.0)
    first, second, third, told = (at for at, f in heard if about(f) == WEB)
    assert 1.0 <= second - first < 2.3
    assert 1.0 <= third - second < 2.3
    assert 2.0 <= told - third < 2.3


def test_what_moves_here_is_not_probed_and_neither_is_anything_without_detection(
    segment: Segment, answerer: Running
) -> None:
    answerer.use(index(segment.node), dad="fast")
    answerer.announce(WEB, WEB6, occasion="TAKEOVER")
    answerer.use(index(segment.node), dad="off")
    answerer.announce("192.0.2.11", "2001:db8::11")
    heard = segment.hears(lambda f: is_probe(f) or is_announcement(f), 0.5)
    assert [about(f) for _, f in heard if is_probe(f) and about(f).startswith(("192", "2001"))] == []
    assert {about(f) for _, f in heard if is_announcement(f)} == {WEB, WEB6, "192.0.2.11", "2001:db8::11"}


def test_a_takeover_ends_a_probe(segment: Segment, answerer: Running) -> None:
    answerer.use(index(segment.node), dad="rfc")
    answerer.tell(orders.Announce(WEB, ("eth0",), "NEW"))
    assert segment.hears(is_probe, 0.2)
    answerer.announce(WEB, occasion="TAKEOVER")
    assert segment.asks(who_has())
    assert not [f for _, f in segment.hears(is_probe, 2.0) if about(f) == WEB]


def test_a_storm_is_reported_once_and_slows_us_down(segment: Segment, answerer: Running) -> None:
    storm = [bytes(who_has(f"192.0.2.{n}")) for n in range(100, 200)]
    began = time.monotonic()
    with segment.sends_on(storm, 400):
        told = answerer.wait(orders.Storm, 3.0)
        assert time.monotonic() - began < 2.0
        assert (told.port, told.mac, told.node) == ("eth0", CLIENT_MAC, "")
        assert told.frames > 100
        answerer.announce(*(f"192.0.2.{n}" for n in range(10, 50)))
        assert most_in_a_second(segment.hears(is_announcement, 2.0)) <= 7, "half as many as usual"
    assert len(answerer.said(orders.Storm, 1.5)) == 1
    assert answerer.said(orders.Stats)[-1].storms in (0, 1)  # the last one may be of NDP
    assert max(stats.storms for stats in answerer.said(orders.Stats)) == 1


def test_a_flood_that_changes_its_mac_with_every_frame_is_a_storm_too(
    segment: Segment, answerer: Running
) -> None:
    crowd = [bytes(claim(f"203.0.113.{n}", f"02:00:00:99:00:{n:02x}")) for n in range(200)]
    with segment.sends_on(crowd, 800):
        told = answerer.wait(orders.Storm, 4.0)
        assert (told.mac, told.node) == ("", "")
        answerer.announce(*(f"192.0.2.{n}" for n in range(10, 50)))
        assert most_in_a_second(segment.hears(is_announcement, 2.0)) <= 7, "half as many as usual"
    assert len(answerer.said(orders.Storm, 1.5)) == 1


def test_a_busy_segment_is_no_storm(segment: Segment, answerer: Running) -> None:
    with segment.sends_on([bytes(who_has(f"192.0.2.{n}")) for n in range(100, 200)], 80):
        assert answerer.said(orders.Storm, 2.5) == []


def test_one_frame_for_each_link_keeps_switches_in_mind_and_the_ips_take_turns(
    segment: Segment, answerer: Running
) -> None:
    ips = ["192.0.2.10", "192.0.2.11", "192.0.2.12"]
    answerer.use(index(segment.node), refresh_s=1)
    answerer.announce(*ips)
    assert len(segment.hears(is_announcement, 0.5)) == 3
    told = segment.hears(is_announcement, 4.5)
    times = [at for at, _ in told]
    assert 3 <= len(told) <= 7
    assert all(0.6 < later - earlier < 1.7 for earlier, later in pairwise(times))
    assert [about(frame) for _, frame in told[:4]] == [*ips, ips[0]][: len(told[:4])]


def test_or_one_frame_for_each_ip(segment: Segment, answerer: Running) -> None:
    ips = ["192.0.2.10", "192.0.2.11", "192.0.2.12"]
    answerer.use(index(segment.node), refresh_s=1, refresh="IP")
    answerer.announce(*ips)
    segment.hears(seconds=1.4)
    told = segment.hears(is_announcement, 3.0)
    assert set(Counter(about(frame) for _, frame in told)) == set(ips)
    assert all(2 <= count <= 5 for count in Counter(about(frame) for _, frame in told).values()), told


def test_who_leaves_answers_and_claims_nothing_any_more(segment: Segment, answerer: Running) -> None:
    ips = [f"192.0.2.{n}" for n in range(10, 40)]
    answerer.tell(*(orders.Announce(ip, ("eth0",), "TAKEOVER") for ip in ips))
    assert segment.hears(is_announcement, 0.5), "it has begun to tell, and needs four seconds"
    answerer.tell(orders.Alive(leaving=True))
    segment.hears(seconds=0.2)
    assert segment.hears(is_announcement, 1.5) == [], "the next owner would yield to it"
    assert segment.asks(who_has(ips[-1]))


def test_nor_does_it_refresh_or_end_a_probe_with_a_claim(segment: Segment, answerer: Running) -> None:
    answerer.use(index(segment.node), refresh_s=1)
    answerer.announce(WEB)
    answerer.use(index(segment.node), refresh_s=1, dad="fast")
    assert segment.hears(is_announcement, 1.5)
    answerer.hung = True  # no heartbeat that contradicts
    answerer.tell(orders.Announce(WEB6, ("eth0",), "NEW"))
    segment.hears(is_probe, 0.1)
    answerer.tell(orders.Alive(leaving=True))
    segment.hears(seconds=0.1)
    assert segment.hears(is_announcement, 2.5) == []
    assert segment.asks(who_has())


def test_a_dry_run_counts_and_sends_nothing(segment: Segment, answerer: Running) -> None:
    answerer.use(index(segment.node), dad="fast", dry_run=True)
    answerer.tell(orders.Keys((KEY,)), orders.Members({"other": ("020000000099",)}))
    answerer.tell(*(orders.Announce(ip, ("eth0",), "NEW") for ip in (WEB, WEB6, "192.0.2.11")))
    spent = answerer.cpu_s()
    with segment.sends_on([bytes(who_has()), bytes(who_has6())], 20):
        sent = segment.hears(lambda f: is_hello(f) or ARP in f or is_ours6(f), 2.0)
    assert sent == []
    assert answerer.cpu_s() - spent < 0.5, "and it does not work for nothing"
    stats = {s.protocol: s for s in answerer.said(orders.Stats, 1.0)}
    assert all(found.dry_run for found in stats.values())
    assert (stats["arp"].sent["probe"], stats["arp"].sent["new"], stats["ndp"].sent["new"]) == (2, 2, 1)
    assert stats["arp"].sent["answer"] > 0
    answerer.use(index(segment.node), dad="fast")
    told = segment.hears(is_announcement, 1.5)
    assert {about(frame) for _, frame in told} >= {WEB, WEB6, "192.0.2.11"}, "in earnest"
    assert segment.asks(who_has6())


def is_ours6(frame: Ether) -> bool:
    """Whether it has to do with WEB6; the node's kernel also speaks of addresses of its own."""
    return IPv6 in frame and IPv6Address(WEB6).packed[-3:] in bytes(frame)[54:]


def test_another_policy_sends_nothing_and_holds_from_now_on(segment: Segment, answerer: Running) -> None:
    answerer.announce(WEB, WEB6)
    segment.hears(seconds=0.5)
    answerer.use(index(segment.node), rate=2, burst=1, dad="fast", refresh_s=90)
    assert segment.hears(lambda f: ARP in f or is_announcement(f), 1.0) == []
    assert segment.asks(who_has())
    assert segment.asks(who_has6())
    answerer.use(index(segment.node), rate=2, burst=1)
    answerer.announce(*(f"192.0.2.{n}" for n in range(20, 40)))
    told = segment.hears(is_announcement, 3.0)
    assert 4 <= len(told) <= 8
    assert most_in_a_second(told) <= 3


def test_every_group_is_joined_where_the_kernel_gives_little_memory(
    segment: Segment, answerer: Running
) -> None:
    give(segment.node, 4096)
    answerer.use(index(segment.node), profile="off")
    answerer.announce(*(f"2001:db8::{n:x}" for n in range(1, 201)))
    wait_for(lambda: joined(segment.node) >= 200)


def test_a_group_that_cannot_be_joined_is_told_of_and_tried_again(
    segment: Segment, answerer: Running
) -> None:
    give(segment.node, 16)
    answerer.announce(WEB6)
    assert answerer.wait(orders.Failed).what == (
        "IPv6 may not be found on eth0: no multicast group can be joined: Cannot allocate memory"
    )
    give(segment.node, 20480)
    answerer.tell(orders.Announce(WEB6, ("eth0",), "TAKEOVER", again=True))
    wait_for(lambda: joined(segment.node) > 0)


def test_many_pools_come_and_go_where_the_kernel_gives_little_memory(
    segment: Segment, answerer: Running
) -> None:
    give(segment.node, 20480)
    answerer.use(index(segment.node))
    for first in (0xC0A80000, 0xC0A90000):
        many = tuple((first + 2 * n, first + 2 * n) for n in range(300))
        many6 = tuple(((0xFDFF << 112) + first + 2 * n,) * 2 for n in range(300))
        answerer.tell(orders.Filter((*POOL.ranges, *many), (*POOL.ranges6, *many6)))  # type: ignore[arg-type]
    answerer.announce(WEB, WEB6)
    assert segment.asks(who_has())
    assert segment.asks(who_has6())
    assert answerer.said(orders.Failed) == []


def test_filters_that_cannot_be_replaced_are_told_of(segment: Segment, answerer: Running) -> None:
    answerer.announce(WEB)
    give(segment.node, 16)
    answerer.tell(orders.Filter(((0, 2**32 - 1),)))
    assert answerer.wait(orders.Failed).what == (
        "IPs of new pools may not be found on eth0: its filter stays: Cannot allocate memory"
    )
    assert segment.asks(who_has())


def joined(node: str) -> int:
    return namespaces.run(node, ["ip", "maddr", "show", "eth0"]).stdout.count("ff02::1:ff00:")
