"""Several answerers on one segment: who lives, who gives way, and what they may send together.

Each is a process in a namespace of its own; a switch joins them with a client, whose kernel is the default
gateway of some. Numbers that describe, and that no test depends on, are printed: `pytest -s`.
"""

import contextlib
import os
import signal
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import pytest
from scapy.layers.l2 import ARP, Ether

from lbspeaker.errors import LbspeakerError, Malformed
from lbspeaker.lab import namespaces
from lbspeaker.wire import hello, orders
from tests.lab.segment import (
    CLIENT_IP,
    CLIENT_MAC,
    KEY,
    NEW_KEY,
    WEB,
    WEB6,
    Heard,
    Running,
    Wire,
    about,
    claim,
    hosts,
    index,
    is_announcement,
    is_answer,
    is_hello,
    is_probe,
    mac_of,
    most_in_a_second,
    names,
    who_has,
)

pytestmark = pytest.mark.lab

NODES = 4
OTHER = "192.0.2.11"
ALL = orders.Filter(((0, 2**32 - 1),), ((0, 2**128 - 1),))


@pytest.fixture(scope="module")
def segment() -> Iterator[Wire]:
    try:
        with hosts("switch", "client", *names(NODES)) as (switch, client, *nodes):
            found = Wire(switch, client, nodes)
            yield found
            found.close()
    except LbspeakerError as error:
        pytest.skip(str(error))


@dataclass
class Members:
    """The answerers of one test."""

    segment: Wire
    running: dict[str, Running] = field(default_factory=dict)

    def start(self, name: str, *, key: str = KEY, gateway: bool = False, **policy: Any) -> Running:
        """Run an answerer on a node, which knows the MACs of the others."""
        node = self.segment.nodes[name]
        running = self.running[name] = Running(node, name=name)
        if gateway:
            policy |= {"address": f"192.0.2.{name[1:]}", "gateway": CLIENT_IP}
        running.tell(orders.Keys((key,) if key else ()), members_of(name))
        running.use(index(node), **policy)
        running.wait(orders.Ready)
        return running

    def start_all(self, count: int, **how: Any) -> list[Running]:
        """Run so many, and return when they know each other."""
        started = [self.start(name, **how) for name in names(count)]
        for each in started:
            others = tuple(one.name for one in started if one is not each)
            each.wait(orders.Seen, 10.0, alive=others, dead=())
        return started

    def end(self, name: str) -> None:
        self.running.pop(name).end()


def members_of(name: str) -> orders.Members:
    macs = {n: (mac_of(n).replace(":", ""),) for n in names(NODES) if n != name}
    return orders.Members(macs, {"eth0": tuple(mac for (mac,) in macs.values())}, tuple(macs))


@pytest.fixture
def members(segment: Wire) -> Iterator[Members]:
    segment.hears(seconds=0.0)
    found = Members(segment)
    try:
        yield found
    finally:
        with contextlib.ExitStack() as ends:
            for name, running in found.running.items():
                ends.callback(segment.heal, name)
                ends.callback(running.end)
                with contextlib.suppress(ProcessLookupError):
                    running.process.send_signal(signal.SIGCONT)


def signal_to(running: Running, number: signal.Signals) -> float:
    """Send a signal and return when."""
    running.process.send_signal(number)
    return time.time()


# -- who lives --


def test_who_is_killed_is_missed_by_the_others(members: Members) -> None:
    one, two, three = members.start_all(3)
    three.process.kill()
    killed = time.monotonic()
    for each in (one, two):
        each.wait(orders.Seen, 3.0, dead=("n3",))
        took = time.monotonic() - killed
        print(f"\n{each.name}: n3 is dead after {took:.3f} s", end="")
        assert 0.3 < took < 2.0
    assert not [seen for each in (one, two) for seen in each.said(orders.Seen) if set(seen.dead) - {"n3"}]
    members.end("n3")
    members.start("n3")
    for each in (one, two):
        each.wait(orders.Seen, dead=())


def test_who_is_cut_off_is_buried_and_buries_nobody(segment: Wire, members: Members) -> None:
    one, two, three = members.start_all(3, gateway=True)
    segment.cut("n3")
    cut = time.monotonic()
    for each in (one, two):
        each.wait(orders.Seen, 3.0, dead=("n3",))
    print(f"\nboth took {time.monotonic() - cut:.3f} s", end="")
    assert not [seen for seen in three.said(orders.Seen, 1.5) if seen.dead]
    assert three.said(orders.Missed) == []
    segment.heal("n3")
    assert three.wait(orders.Missed) == orders.Missed("eth0")
    for each in (one, two):
        each.wait(orders.Seen, alive=tuple(n for n in names(3) if n != each.name), dead=())


def test_a_node_with_two_links_on_one_segment_lives_while_one_of_them_works(
    segment: Wire, members: Members
) -> None:
    second = "02:00:00:00:01:01"
    segment.second_link("n1", second)
    one = members.start("n1")
    node = segment.nodes["n1"]
    one.tell(orders.Ports((one.port(index(node)), one.port(index(node, "eth1"), "eth1", second))))
    others = [members.start("n2"), members.start("n3")]
    for each in others:
        each.wait(orders.Seen, alive=("n1", "n3" if each.name == "n2" else "n2"), dead=())
    for port, state in (("p1", "down"), ("p1", "up"), ("q1", "down"), ("q1", "up")):
        namespaces.configure(segment.switch, [f"link set {port} {state}"])
        time.sleep(2.5)
        for each in others:
            seen = each.said(orders.Seen)
            assert not seen or (seen[-1].dead == () and "n1" in seen[-1].alive), (port, state)


def test_silence_around_it_does_not_keep_an_answerer_busy(segment: Wire, members: Members) -> None:
    *_, last = members.start_all(4, gateway=True)
    segment.cut("n4")
    time.sleep(1.0)
    spent = last.cpu_s()
    time.sleep(1.0)
    assert last.cpu_s() - spent < 0.2
    assert not [seen for seen in last.said(orders.Seen) if seen.dead]


def test_one_of_two_is_believed_dead_if_the_gateway_is_there(members: Members) -> None:
    one, two = members.start_all(2, gateway=True)
    two.process.kill()
    killed = time.monotonic()
    one.wait(orders.Seen, 3.0, dead=("n2",))
    print(f"\nn2 is dead after {time.monotonic() - killed:.3f} s", end="")


def test_only_an_answer_of_the_gateway_counts_and_it_is_not_asked_for_ever(
    segment: Wire, members: Members
) -> None:
    one, two = members.start_all(2, gateway=True)
    try:
        namespaces.configure(segment.client, ["link set eth0 arp off"])
        with segment.sends_on([bytes(who_has("192.0.2.99"))], 10):
            two.process.kill()
            segment.hears(seconds=0.3)
            asked = [at for at, f in segment.hears(lambda f: ARP in f and f[ARP].pdst == CLIENT_IP, 6.0)]
            assert not [seen for seen in one.said(orders.Seen) if seen.dead]
        assert sum(at < asked[0] + 1.0 for at in asked) >= 5
        assert 2 <= sum(at > asked[-1] - 3.0 for at in asked) <= 4
    finally:
        namespaces.configure(segment.client, ["link set eth0 arp on"])
    one.wait(orders.Seen, 3.0, dead=("n2",))


def test_and_otherwise_is_not(members: Members) -> None:
    one, two = members.start_all(2)
    two.process.kill()
    assert not [seen for seen in one.said(orders.Seen, 2.0) if seen.dead]


def test_who_cannot_reach_the_gateway_does_not_bury_the_other(segment: Wire, members: Members) -> None:
    one, two = members.start_all(2, gateway=True)
    segment.cut("n1")
    two.wait(orders.Seen, 3.0, dead=("n1",))
    assert not [seen for seen in one.said(orders.Seen, 1.5) if seen.dead]
    segment.heal("n1")
    one.wait(orders.Missed)


def test_another_password_is_another_cluster(members: Members) -> None:
    one, two = members.start("n1"), members.start("n2", key=NEW_KEY)
    assert one.said(orders.Seen, 1.5) == two.said(orders.Seen) == []


def test_without_a_key_nothing_is_said(segment: Wire, members: Members) -> None:
    members.start("n1", key="")
    assert segment.hears(is_hello, 1.5) == []


def test_a_new_password_loses_nobody(segment: Wire, members: Members) -> None:
    all_ = members.start_all(3)
    for each in all_:
        each.tell(orders.Keys((NEW_KEY, KEY)))
        time.sleep(0.4)
    signers = Counter(signer(frame) for _, frame in segment.hears(is_hello, 0.5))
    assert set(signers) == {"old"}, "until everybody has it"
    time.sleep(6.0)
    segment.hears(seconds=0.0)
    signers = Counter(signer(frame) for _, frame in segment.hears(is_hello, 0.5))
    assert set(signers) == {"new"}
    for each in all_:
        each.tell(orders.Keys((NEW_KEY,)))
    assert [len(each.said(orders.Seen, 0.8)) - len(seen_while_meeting(each)) for each in all_] == [0, 0, 0]


def seen_while_meeting(each: Running) -> list[orders.Seen]:
    """What it told until it knew both others."""
    seen = each.said(orders.Seen)
    return seen[: next(n for n, one in enumerate(seen, 1) if len(one.alive) == 2)]


def signer(frame: Ether) -> str:
    for name, key in (("old", KEY), ("new", NEW_KEY)):
        with contextlib.suppress(Malformed):
            hello.parse(bytes(frame), [bytes.fromhex(key)])
            return name
    return "nobody"


def test_hellos_said_again_or_altered_raise_nobody_from_the_dead(segment: Wire, members: Members) -> None:
    one, two, three = members.start_all(3)
    recorded = [bytes(frame) for _, frame in segment.hears(is_hello, 1.0) if frame.src == mac_of("n3")]
    assert recorded
    later = [sequence_raised(frame) for frame in recorded]
    with segment.sends_on([*recorded, *later, *map(altered, recorded)], 100):
        assert not [seen for seen in one.said(orders.Seen, 0.6) if seen.dead]
        three.process.kill()
        for each in (one, two):
            each.wait(orders.Seen, 3.0, dead=("n3",))
        members.end("n1")
        anew = members.start("n1")
        anew.wait(orders.Seen, alive=("n2",))
        assert not [seen for seen in anew.said(orders.Seen, 1.0) if "n3" in seen.alive], "it never met n3"
    assert not [seen for seen in two.said(orders.Seen)[-1:] if "n3" in seen.alive]


def altered(frame: bytes) -> bytes:
    place = 14 + os.urandom(1)[0] % (len(frame) - 14)
    return frame[:place] + bytes([frame[place] ^ 1]) + frame[place + 1 :]


def sequence_raised(frame: bytes) -> bytes:
    """What somebody makes of a hello who does not know the key."""
    return frame[:26] + (int.from_bytes(frame[26:34], "big") + 1000).to_bytes(8, "big") + frame[34:]


@pytest.fixture
def without_multicast(segment: Wire) -> Iterator[None]:
    """The switch drops multicast, as some do where nobody has asked for it."""
    ports = [f"p{name[1:]}" for name in segment.nodes]
    try:
        for port in ports:
            namespaces.run(segment.switch, ["bridge", "link", "set", "dev", port, "mcast_flood", "off"])
        yield
    finally:
        for port in ports:
            namespaces.run(segment.switch, ["bridge", "link", "set", "dev", port, "mcast_flood", "on"])


@pytest.mark.usefixtures("without_multicast")
def test_where_multicast_is_dropped_members_hear_each_other_all_the_same(members: Members) -> None:
    one, two, three = members.start_all(3)
    assert [seen for each in (one, two, three) for seen in each.said(orders.Seen, 0.8) if seen.dead] == []
    three.process.kill()
    for each in (one, two):
        each.wait(orders.Seen, 3.0, dead=("n3",))


@pytest.mark.usefixtures("without_multicast")
def test_and_two_do_not_bury_each_other(members: Members) -> None:
    for each in members.start_all(2, gateway=True):
        assert [seen for seen in each.said(orders.Seen, 1.5) if seen.dead] == []


def test_members_that_should_be_here_are_not_looked_for_all_the_time(segment: Wire, members: Members) -> None:
    one = members.start("n1")
    lost = {f"lost{n}": (f"0600000000{n:02x}",) for n in range(200)}
    one.tell(orders.Members(lost, {"eth0": tuple(mac for (mac,) in lost.values())}, tuple(lost)))
    assert 10 < most_in_a_second(segment.hears(is_hello, 3.0)) < 40


def test_members_on_other_segments_are_not_looked_for_at_all(segment: Wire, members: Members) -> None:
    one = members.start("n1")
    one.tell(orders.Members({"far": ("060000000001",), "dead": (mac_of("n2").replace(":", ""),)}))
    segment.hears(seconds=0.3)
    heard = segment.hears(is_hello, 2.0)
    assert heard
    assert {frame.dst for _, frame in heard} == {hello.GROUP.hex(":")}


def test_who_leaves_is_no_candidate_any_more(members: Members) -> None:
    one, two = members.start_all(2)
    two.hung = True  # no heartbeat that contradicts
    two.tell(orders.Alive(leaving=True))
    one.wait(orders.Seen, 2.0, dead=("n2",))
    assert len(two.said(orders.Seen)) == len([s for s in two.said(orders.Seen) if not s.dead])


# -- who gives way --


def questions(*ips: str) -> list[bytes]:
    """From many askers, because nobody gets the same answer more than ten times in a second."""
    return [bytes(who_has(ip, psrc=f"192.0.2.{n}")) for n in range(100, 190) for ip in ips]


def answers_of(heard: Heard, name: str, ip: str = WEB) -> list[float]:
    return [at for at, f in heard if is_answer(f) and f.src == mac_of(name) and about(f) == ip]


def test_of_two_owners_the_lower_one_stops_at_once(segment: Wire, members: Members) -> None:
    one, two = members.start_all(2)
    one.announce(WEB, above=("n2",))
    with segment.sends_on(questions(WEB), 200):
        time.sleep(0.3)
        two.announce(WEB, occasion="TAKEOVER")
        claimed = one.wait(orders.Claimed)
        heard = segment.hears(seconds=0.5)
    assert claimed == orders.Claimed(WEB, "eth0", mac_of("n2"), "n2", yielded=True)
    moved = min(at for at, f in heard if is_announcement(f) and f.src == mac_of("n2"))
    assert len(answers_of(heard, "n1")) > 5
    late = max(answers_of(heard, "n1")) - moved
    print(f"\nthe last answer of the former owner: {late * 1000:.1f} ms after the claim", end="")
    assert late < 0.3
    assert len(answers_of(heard, "n2")) > 5


def test_the_higher_one_does_not(segment: Wire, members: Members) -> None:
    one, two = members.start_all(2)
    one.announce(WEB)
    assert segment.hears(is_announcement, 0.5)
    two.announce(WEB, occasion="TAKEOVER", above=("n1",))
    assert one.wait(orders.Claimed) == orders.Claimed(WEB, "eth0", mac_of("n2"), "n2")
    assert {answer.src for answer in segment.asks(who_has())} == {mac_of("n1"), mac_of("n2")}
    one.tell(orders.Announce(WEB, ("eth0",), "TAKEOVER", again=True))
    two.wait(orders.Claimed, node="n1", yielded=True)
    assert {answer.src for answer in segment.asks(who_has())} == {mac_of("n1")}


def test_nobody_gives_way_to_a_stranger(segment: Wire, members: Members) -> None:
    (one,) = [members.start("n1")]
    one.announce(WEB, above=("n2", "n3"))
    segment.send(claim())
    assert one.wait(orders.Claimed) == orders.Claimed(WEB, "eth0", CLIENT_MAC)
    assert segment.asks(who_has())


def test_of_two_members_that_probe_at_once_neither_takes_the_other_for_an_owner(
    segment: Wire, members: Members
) -> None:
    """Unless one is held up until the other has claimed it: so it may take more than one attempt."""
    one, two = members.start_all(2, dad="fast")

    def both_have(ip: str) -> bool:
        for each in (two, one):
            each.tell(orders.Announce(ip, ("eth0",), "NEW"))
        try:
            for each in (two, one):
                each.wait(orders.Answering, 2.0, ip=ip, ports=("eth0",))
        except AssertionError:
            for each in (two, one):
                each.tell(orders.Release(ip))
            time.sleep(0.5)
            return False
        return True

    for ip in (WEB, WEB6):
        assert any(both_have(ip) for _ in range(4))
    probes = {(f.src, about(f)) for _, f in segment.hears(is_probe, 0.0)}
    assert probes >= {(mac_of("n1"), WEB), (mac_of("n1"), WEB6)}


def test_who_finds_a_member_at_an_ip_names_it_by_its_hellos_or_by_its_lease(
    segment: Wire, members: Members
) -> None:
    one = members.start("n1", dad="fast")
    two = members.start("n2", key="")
    two.announce(WEB, OTHER)
    one.tell(orders.Announce(WEB, ("eth0",), "NEW"))
    assert one.wait(orders.InUse) == orders.InUse(WEB, "eth0", mac_of("n2"), "n2")
    two.tell(orders.Keys((KEY,)))
    one.wait(orders.Seen, alive=("n2",))
    one.tell(orders.Members({"n3": (mac_of("n3").replace(":", ""),)}))
    one.tell(orders.Announce(OTHER, ("eth0",), "NEW"))
    assert one.wait(orders.InUse) == orders.InUse(OTHER, "eth0", mac_of("n2"), "n2")


def test_a_hung_speaker_is_told_of_and_gives_way_to_any_member(segment: Wire, members: Members) -> None:
    one, two, three = members.start_all(3)
    one.announce(WEB, OTHER)
    one.hung = True
    for each in (two, three):
        each.wait(orders.Seen, 6.0, dead=("n1",))
    assert segment.asks(who_has()), "better a hung speaker than nobody"
    segment.send(claim())
    one.wait(orders.Claimed, yielded=False)
    two.announce(WEB, occasion="TAKEOVER", above=("n1",))
    one.wait(orders.Claimed, yielded=True)
    assert {answer.src for answer in segment.asks(who_has())} == {mac_of("n2")}
    assert {answer.src for answer in segment.asks(who_has(OTHER))} == {mac_of("n1")}
    one.hung = False
    two.wait(orders.Seen, alive=("n1", "n3"), dead=())


# -- after a stand-still --


def test_who_stood_still_answers_no_old_question_and_nothing_that_was_claimed(
    segment: Wire, members: Members
) -> None:
    one, two = members.start_all(2)
    one.announce(WEB, OTHER)
    segment.hears(seconds=0.3)
    signal_to(one, signal.SIGSTOP)
    with segment.sends_on(questions(WEB, OTHER), 200):
        two.announce(WEB, occasion="TAKEOVER")
        time.sleep(1.5)
    segment.hears(seconds=0.1)
    signal_to(one, signal.SIGCONT)
    heard = segment.hears(is_answer, 0.7)
    assert [f for _, f in heard if f.src == mac_of("n1")] == [], "all these questions were old"
    woke = one.wait(orders.Woke)
    assert 0.8 < woke.stood_s < 10
    assert woke.ips == ()
    assert [(c.ip, c.node, c.yielded) for c in one.said(orders.Claimed)] == [(WEB, "n2", True)]
    assert {answer.src for answer in segment.asks(who_has())} == {mac_of("n2")}
    assert {answer.src for answer in segment.asks(who_has(OTHER))} == {mac_of("n1")}


def test_who_has_missed_too_much_gives_up_everything(segment: Wire, members: Members) -> None:
    one = members.start("n1")
    one.announce(WEB, WEB6)
    signal_to(one, signal.SIGSTOP)
    for question in questions(WEB) * 40:
        segment.send(question)
    time.sleep(1.0)
    signal_to(one, signal.SIGCONT)
    assert one.wait(orders.Woke, 10.0).ips == tuple(sorted((WEB, WEB6)))
    assert segment.asks(who_has()) == []


def test_what_was_lost_long_before_costs_nothing(segment: Wire, members: Members) -> None:
    one = members.start("n1")
    one.announce(WEB)
    flood = questions(WEB) * 40
    signal_to(one, signal.SIGSTOP)
    for question in flood:
        segment.send(question)
    signal_to(one, signal.SIGCONT)  # too soon for a stand-still
    time.sleep(1.5)
    assert one.said(orders.Woke) == []
    signal_to(one, signal.SIGSTOP)
    time.sleep(1.0)
    signal_to(one, signal.SIGCONT)
    assert one.wait(orders.Woke, 10.0).ips == ()
    time.sleep(0.5)
    assert segment.asks(who_has())


# -- what they may send together --


@pytest.mark.parametrize("stormy", [False, True], ids=["alone", "beside-a-storm"])
def test_four_speakers_share_the_budget_of_the_segment(segment: Wire, members: Members, stormy: bool) -> None:
    all_ = members.start_all(4, profile="fast", rate=200, segment_rate=50, segment_burst=10)
    wanted = {
        each.name: [f"198.51.100.{int(each.name[1:]) * 60 + n - 59}" for n in range(60)] for each in all_
    }
    storm = [bytes(claim(f"203.0.113.{n}")) for n in range(200)]
    for each in all_:
        each.tell(ALL)
    with segment.sends_on(storm, 400) if stormy else contextlib.nullcontext():
        for each in all_:
            each.tell(*(orders.Announce(ip, ("eth0",), "NEW") for ip in wanted[each.name]))
        told = segment.hears(is_announcement, 6.5)
    for each in all_:
        mine = Counter(about(f) for _, f in told if f.src == mac_of(each.name))
        assert mine == Counter(wanted[each.name])
    most, took = most_in_a_second(told), told[-1][0] - told[0][0]
    print(f"\n{len(told)} announcements in {took:.1f} s, at most {most} in a second", end="")
    assert most <= 60 * 1.25


def test_two_links_of_a_group_have_one_budget_and_do_not_fight_each_other(
    segment: Wire, members: Members
) -> None:
    second = "02:00:00:00:01:01"
    segment.second_link("n1", second)
    one = members.start("n1")
    fields = {"group": "cables", "dad": "fast", "rate": 20, "burst": 5}
    node = segment.nodes["n1"]
    ports = (
        one.port(index(node), **fields),
        one.port(index(node, "eth1"), "eth1", second, **fields),
    )
    one.tell(orders.Ports(ports))
    ips = [f"192.0.2.{n}" for n in range(20, 40)]
    one.tell(*(orders.Announce(ip, ("eth0", "eth1"), "NEW") for ip in (WEB6, *ips)))
    sent = segment.hears(lambda f: is_probe(f) or is_announcement(f), 6.0)
    told = [(at, f) for at, f in sent if ARP in f]
    assert Counter(about(f) for _, f in told if is_announcement(f)) == dict.fromkeys(ips, 2)
    assert {f.src for _, f in told} == {mac_of("n1"), second}
    assert most_in_a_second(told) <= 27
    assert one.said(orders.InUse) == one.said(orders.Claimed) == []
    assert {s.port for s in one.said(orders.Stats) if sum(s.sent.values())} == {"group cables"}
    assert {answer.src for answer in segment.asks(who_has(ips[0]))} == {mac_of("n1"), second}
