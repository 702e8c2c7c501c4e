"""Links as the kernel tells of them, in a namespace of our own."""

import asyncio
import contextlib
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from ipaddress import ip_address, ip_interface

import pytest

from lbspeaker.errors import LbspeakerError
from lbspeaker.lab import namespaces
from lbspeaker.model import Link
from lbspeaker.shell import links

pytestmark = pytest.mark.lab

# It watches, sleeps so deeply that the kernel has no room left for what it tells, and looks again.
WATCHER = """
import asyncio, sys, time
from lbspeaker.shell import links

def report(found):
    print(",".join(link.name for link in found if link.addresses), flush=True)

async def main():
    watching = asyncio.create_task(links.watch(report))
    await asyncio.sleep(0.5)
    print("asleep", flush=True)
    sys.stdin.readline()
    await asyncio.wait([watching], timeout=5)
    print("ended" if watching.done() else "alive", flush=True)

asyncio.run(main())
"""


# It says how often it has looked, whenever it is asked, and each gateway that it is told of.
COUNTER = """
import asyncio, sys
from lbspeaker.shell import links

look, looks = links._links, 0

async def counted():
    global looks
    looks += 1
    return await look()

def report(found):
    print(*(f"{link.name}={link.gateway}" for link in found if link.gateway), sep=",", flush=True)

async def main():
    links._links = counted
    watching = asyncio.create_task(links.watch(report))
    while await asyncio.to_thread(sys.stdin.readline):
        print(looks, flush=True)
    watching.cancel()

asyncio.run(main())
"""


@contextlib.contextmanager
def made(*names: str) -> Iterator[None]:
    try:
        namespaces.add(names)
    except LbspeakerError as error:
        pytest.skip(str(error))
    try:
        yield
    finally:
        namespaces.remove(names)


@pytest.fixture
def namespace() -> Iterator[str]:
    name = f"lbs-links-{os.getpid()}"
    with made(name):
        yield name


@pytest.fixture
def lan(namespace: str) -> str:
    """The namespace, with a link eth0 to the segment 192.0.2.0/24."""
    lines = ["link add eth0 type veth peer name far", "addr add 192.0.2.1/24 dev eth0"]
    lines += [f"link set {end} addrgenmode none" for end in ("eth0", "far")]  # IPv6 would speak up, later
    namespaces.configure(namespace, [*lines, "link set eth0 up", "link set far up"])
    return namespace


def seen(namespace: str) -> dict[str, Link]:
    """All links of a namespace, by name."""
    found = namespaces.inside(namespace, lambda: asyncio.run(links._links()))
    return {link.name: link for link in found}


def configure(namespace: str, *lines: str) -> None:
    """As in `namespaces`; skips the test where the kernel lacks a kind."""
    try:
        namespaces.configure(namespace, lines)
    except LbspeakerError as error:
        if "Unknown device type" in str(error) or "not supported" in str(error):
            pytest.skip(str(error))
        raise


def test_more_changes_than_the_kernel_can_hold_do_not_end_the_watch(namespace: str) -> None:
    argv = namespaces.command(namespace, [sys.executable, "-c", WATCHER])
    watcher = subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert watcher.stdin
    assert watcher.stdout
    try:
        while watcher.stdout.readline().strip() != "asleep":
            pass
        lines = [
            f"addr {verb} 10.{n // 250}.{n % 250}.1/32 dev lo" for n in range(4000) for verb in ("add", "del")
        ]
        last = ["link add dx0 type veth peer name dx1", "addr add 10.9.9.9/24 dev dx0"]
        namespaces.configure(namespace, lines + last)
        said, _ = watcher.communicate("\n", timeout=30)
    finally:
        watcher.kill()
    assert said.split()[-1] == "alive"
    assert "dx0" in said, "and what was lost was looked up"


# --- what the kernel tells of a link -------------------------------------------------------------------


def test_a_link_with_its_address_and_carrier(lan: str) -> None:
    found = seen(lan)["eth0"]
    assert ip_interface("192.0.2.1/24") in found.addresses
    assert (found.kind, found.running, found.broadcast, found.member) == ("veth", True, True, False)
    assert seen(lan)["lo"].kind == ""


def ipv6(namespace: str) -> list[str]:
    """The addresses of eth0, in order; in brackets those that are not checked."""
    link = seen(namespace)["eth0"]
    own = [address.ip for address in link.addresses if address.version == 6 and not address.ip.is_link_local]
    return [f"({one})" if one in link.unchecked else str(one) for one in own]


def test_addresses_of_ipv6_are_told_oldest_first_and_last_those_that_are_on_their_way_out(lan: str) -> None:
    first = "addr add 2001:db8::9/64 dev eth0 nodad preferred_lft 0"
    configure(lan, first, *(f"addr add 2001:db8::{n}/64 dev eth0 nodad" for n in (3, 1, 2)))
    assert ipv6(lan) == ["2001:db8::3", "2001:db8::1", "2001:db8::2", "2001:db8::9"]


def test_an_address_that_may_be_somebody_elses_is_told_as_that(lan: str) -> None:
    """Until the kernel has looked (RFC 4862 §5.4); and for ever, if somebody has it."""
    accept = "sysctl -qw net.ipv6.conf.eth0.accept_dad=1 net.ipv6.conf.far.accept_dad=1"
    namespaces.run(lan, accept.split())
    configure(lan, "addr add 2001:db8::1/64 dev eth0", "addr add 2001:db8::2/64 dev far nodad")
    assert ipv6(lan) == ["(2001:db8::1)"]
    configure(lan, "addr add 2001:db8::2/64 dev eth0")
    deadline = time.monotonic() + 10
    while ipv6(lan) != ["2001:db8::1", "(2001:db8::2)"] or time.monotonic() < deadline - 7:
        assert time.monotonic() < deadline, ipv6(lan)
        time.sleep(0.1)


KINDS = [
    ("vlan", "link add link eth0 name x0 type vlan id 7", True),
    ("macvlan", "link add link eth0 name x0 type macvlan mode bridge", True),
    ("macvtap", "link add link eth0 name x0 type macvtap mode bridge", True),
    ("ipvlan", "link add link eth0 name x0 type ipvlan", True),
    ("vxlan", "link add x0 type vxlan id 7 dstport 4789 dev eth0", False),
    ("bridge", "link add x0 type bridge", False),
    ("bond", "link add x0 type bond", False),
    ("dummy", "link add x0 type dummy", False),
    ("wireguard", "link add x0 type wireguard", False),
]


@pytest.mark.parametrize(("kind", "line", "on_eth0"), KINDS, ids=[kind for kind, _, _ in KINDS])
def test_the_kind_of_a_link_and_its_parent(lan: str, kind: str, line: str, on_eth0: bool) -> None:
    configure(lan, line)
    found = seen(lan)
    assert found["x0"].kind == kind
    assert found["x0"].parent == (found["eth0"].index if on_eth0 else 0)


def test_a_parent_in_another_namespace_is_none_of_ours(namespace: str) -> None:
    inner = f"{namespace}-in"
    with made(inner):
        configure(namespace, "link add eth0 type veth peer name far")
        configure(namespace, f"link add link eth0 name x0 netns {inner} type macvlan mode bridge")
        assert seen(inner)["x0"].kind == "macvlan"
        assert seen(inner)["x0"].parent == 0


# --- gateways ------------------------------------------------------------------------------------------

ROUTES = {
    "none": ((), None),
    "a default route": (("default via 192.0.2.254",), "192.0.2.254"),
    "the lowest metric": (
        (
            "default via 192.0.2.9 metric 9",
            "default via 192.0.2.5 metric 5",
            "default via 192.0.2.7 metric 7",
        ),
        "192.0.2.5",
    ),
    "no other route": (("0.0.0.0/1 via 192.0.2.8", "10.0.0.0/8 via 192.0.2.9"), None),
    "among others of the same beginning": (
        ("0.0.0.0/1 via 192.0.2.8", "0.0.0.0/8 via 192.0.2.9", "default via 192.0.2.254"),
        "192.0.2.254",
    ),
    "no other table": (("default via 192.0.2.9 table 100", "default via 192.0.2.254"), "192.0.2.254"),
    "one without a next hop": (("default dev eth0",), None),
    "one of two without a next hop": (("default dev eth0", "default via 192.0.2.254 metric 2"), None),
    "one that refuses": (("unreachable default metric 1", "default via 192.0.2.254 metric 2"), "192.0.2.254"),
}


@pytest.mark.parametrize(("routes", "gateway"), ROUTES.values(), ids=ROUTES)
def test_the_gateway_of_a_link(lan: str, routes: tuple[str, ...], gateway: str | None) -> None:
    configure(lan, *(f"route add {route}" for route in routes))
    assert seen(lan)["eth0"].gateway == (ip_address(gateway) if gateway else None)


def test_every_link_has_its_own_gateway(lan: str) -> None:
    second = (
        "link add eth1 type veth peer name far1",
        "addr add 198.51.100.1/24 dev eth1",
        "link set eth1 up",
    )
    configure(lan, *second, "link set far1 up", "route add default via 192.0.2.254")
    configure(lan, "route add default via 198.51.100.254 metric 7")
    found = {name: str(link.gateway) for name, link in seen(lan).items() if link.gateway}
    assert found == {"eth0": "192.0.2.254", "eth1": "198.51.100.254"}


@contextlib.contextmanager
def counter(namespace: str) -> Iterator["subprocess.Popen[str]"]:
    argv = namespaces.command(namespace, [sys.executable, "-c", COUNTER])
    process = subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


def said(process: "subprocess.Popen[str]") -> str:
    assert process.stdout
    line = process.stdout.readline()
    assert line, "it has ended"
    return line.strip()


def looks(process: "subprocess.Popen[str]") -> int:
    assert process.stdin
    process.stdin.write("\n")
    process.stdin.flush()
    return int(said(process))


def test_a_default_route_that_comes_later_is_noticed(lan: str) -> None:
    with counter(lan) as process:
        assert said(process) == ""
        configure(lan, "route add default via 192.0.2.254")
        assert said(process) == "eth0=192.0.2.254"
        configure(lan, "route replace default via 192.0.2.253")
        assert said(process) == "eth0=192.0.2.253"
        configure(lan, "route del default")
        assert said(process) == ""


def test_other_routes_cost_nothing(lan: str) -> None:
    with counter(lan) as process:
        assert said(process) == ""
        before = looks(process)
        configure(lan, *(f"route add 10.0.{n}.0/24 via 192.0.2.254" for n in range(250)))
        time.sleep(0.3)
        assert looks(process) == before


def test_a_default_route_that_flaps_is_looked_at_ten_times_a_second_at_most(lan: str) -> None:
    with counter(lan) as process:
        assert said(process) == ""
        before, began = looks(process), time.monotonic()
        while time.monotonic() - began < 1.0:
            configure(lan, *["route add default via 192.0.2.254", "route del default"] * 50)
        configure(lan, "route add default via 192.0.2.254")
        time.sleep(0.3)
        assert process.stdin
        process.stdin.write("\n")
        process.stdin.flush()
        told = []
        while "=" in (line := said(process)) or not line:
            told.append(line)
        assert told[-1] == "eth0=192.0.2.254"
        assert int(line) - before <= 10 * (time.monotonic() - began) + 1
