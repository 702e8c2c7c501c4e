"""`lbspeaker upstream` with real routers: what it prints works unedited, and what is wrong there is named."""

import contextlib
import json
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from lbspeaker.lab import namespaces, rootless, routers
from lbspeaker.model import BFDProfile
from lbspeaker.wire import watch
from tests.lab.detectors import Detecting
from tests.lab.upstream import FOUR, POOLS, SIX, Bench, eventually
from tests.opnsense import KEY, SECRET, pages, serving
from tests.peers import raw

pytestmark = [
    pytest.mark.lab,
    pytest.mark.peers,
    pytest.mark.timeout(180),
    pytest.mark.skipif(bool(rootless.obstacle()), reason=rootless.obstacle()),
]


@contextmanager
def bench(kind: Any, peer: str = "") -> Iterator[Bench]:
    if kind not in routers.installed():
        pytest.skip(f"router {kind} cannot run here")
    with tempfile.TemporaryDirectory(prefix="lbs-upstream-") as name:
        Path(name).chmod(0o755)
        made = Bench(f"u{kind[0]}", Path(name), peer)
        try:
            yield made
        finally:
            made.close()


@pytest.fixture(autouse=True)
def _key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPNSENSE_KEY", KEY)
    monkeypatch.setenv("OPNSENSE_SECRET", SECRET)


@pytest.fixture(scope="module")
def frr() -> Iterator[Bench]:
    """FRR, configured as the command says, with three nodes that announce."""
    with bench("frr") as made:
        made.start_frr()
        made.load_frr(made.config("frr"))
        for node in made.picture.nodes:
            made.speak(node)
        yield made


@pytest.fixture(scope="module")
def bird() -> Iterator[Bench]:
    with bench("bird") as made:
        made.start_bird(made.config("bird"))
        for node in made.picture.nodes:
            made.speak(node)
        yield made


def codes(made: Bench, *options: str) -> dict[str, list[str]]:
    return faults(made.check(*options))


def faults(found: dict[str, Any]) -> dict[str, list[str]]:
    """The findings by code; notes are none."""
    assert (found["code"] == 1) == any(f["severity"] != "note" for f in found["findings"])
    return {f["code"]: f["subjects"] for f in found["findings"] if f["severity"] != "note"}


def finds(made: Bench, expected: dict[str, list[str]], *options: str) -> None:
    eventually(lambda: codes(made, *options), expected, 40)


def well(made: Bench, *options: str) -> None:
    """Both prefixes with three next hops, in BGP and in the kernel; and nothing to complain about."""
    found: dict[str, Any] = {}

    def complaints() -> dict[str, list[str]]:
        found.update(made.check(*options))
        return faults(found)

    eventually(complaints, {}, 40)
    for row in found["routes"]:
        assert len(row["received"]) == len(row["nextHops"]) == len(row["installed"]) == 3, row


# --- FRR ------------------------------------------------------------------------------------------------


def of_frr(made: Bench) -> tuple[str, str]:
    return ("--frr", made.frr_command)


def test_frr_as_printed_has_all_routes_over_all_nodes(frr: Bench) -> None:
    well(frr, *of_frr(frr))
    table = frr.check(*of_frr(frr))
    assert {row["prefix"] for row in table["routes"]} == {FOUR, SIX}
    assert all(session["state"] == "Established" for session in table["sessions"])


A, B, C = "node-a (192.0.2.201)", "node-b (192.0.2.202)", "node-c (192.0.2.203)"
_PREFIX_LIST = "ip prefix-list LBS-router-V4-routed seq 5 permit 203.0.113.0/24"
_CLEAR = ("clear bgp * soft in",)

# What is done to FRR (inside `router bgp`, or before it), how it is undone, and what is found meanwhile.
FRR_MISTAKES = {
    "prefix list without le 32": (
        [_PREFIX_LIST],
        [f"{_PREFIX_LIST} ge 32 le 32"],
        {"prefix-length": [f"{FOUR} from {node}" for node in (A, B, C)]},
    ),
    "prefix list of something else": (
        [
            "no ip prefix-list LBS-router-V4-routed",
            "ip prefix-list LBS-router-V4-routed permit 10.0.0.0/8 le 32",
        ],
        ["no ip prefix-list LBS-router-V4-routed", f"{_PREFIX_LIST} ge 32 le 32"],
        {"policy-refuses": [f"{FOUR} from {node}" for node in (A, B, C)]},
    ),
    "one next hop": (
        ["router bgp 64512", "address-family ipv4 unicast", "maximum-paths 1"],
        ["router bgp 64512", "address-family ipv4 unicast", "maximum-paths 8"],
        {"multipath": [FOUR]},
    ),
    "two next hops": (
        ["router bgp 64512", "address-family ipv6 unicast", "maximum-paths 2"],
        ["router bgp 64512", "address-family ipv6 unicast", "maximum-paths 8"],
        {"multipath": [SIX]},
    ),
    "no policy": (
        [
            "router bgp 64512",
            "address-family ipv4 unicast",
            "no neighbor 192.0.2.202 route-map LBS-router-IN in",
        ],
        [
            "router bgp 64512",
            "address-family ipv4 unicast",
            "neighbor 192.0.2.202 route-map LBS-router-IN in",
        ],
        {"no-policy": [B]},
    ),
    "another AS": (
        ["router bgp 64512", "neighbor 192.0.2.203 remote-as 64999"],
        ["router bgp 64512", "neighbor 192.0.2.203 remote-as 64513"],
        {"wrong-as": [C]},
    ),
    "a password on the router alone": (
        ["router bgp 64512", "neighbor 192.0.2.201 password other"],
        ["router bgp 64512", "no neighbor 192.0.2.201 password"],
        {"password": [A]},
    ),
    "shut down": (
        ["router bgp 64512", "neighbor 192.0.2.201 shutdown"],
        ["router bgp 64512", "no neighbor 192.0.2.201 shutdown"],
        {"shutdown": [A]},
    ),
    "a limit of routes": (
        ["router bgp 64512", "address-family ipv4 unicast", "neighbor 192.0.2.201 maximum-prefix 100"],
        ["router bgp 64512", "address-family ipv4 unicast", "no neighbor 192.0.2.201 maximum-prefix"],
        {"max-prefix-limit": [A]},
    ),
    "a family less": (
        ["router bgp 64512", "address-family ipv6 unicast", "no neighbor 192.0.2.202 activate"],
        [
            "router bgp 64512",
            "address-family ipv6 unicast",
            "neighbor 192.0.2.202 activate",
            "neighbor 192.0.2.202 route-map LBS-router-IN in",
            "neighbor 192.0.2.202 route-map LBS-router-OUT out",
        ],
        {"no-family": [B]},
    ),
    "BFD on the router alone": (
        ["router bgp 64512", "neighbor 192.0.2.203 bfd"],
        ["router bgp 64512", "no neighbor 192.0.2.203 bfd"],
        {"bfd-unwanted": [C]},
    ),
    "a better route": (
        [f"ip route {FOUR} blackhole"],
        [f"no ip route {FOUR} blackhole"],
        {"not-installed": [FOUR]},
    ),
    "one node's routes are changed": (
        [
            "route-map WORSE permit 10",
            "set metric 50",
            "router bgp 64512",
            "address-family ipv4 unicast",
            "neighbor 192.0.2.202 route-map WORSE in",
        ],
        [
            "router bgp 64512",
            "address-family ipv4 unicast",
            "neighbor 192.0.2.202 route-map LBS-router-IN in",
        ],
        {"attributes-differ": [FOUR]},
    ),
    "a next hop that nobody has": (
        [
            "route-map AWAY permit 10",
            "set ip next-hop 10.9.9.9",
            "router bgp 64512",
            "address-family ipv4 unicast",
            "neighbor 192.0.2.202 route-map AWAY in",
        ],
        [
            "router bgp 64512",
            "address-family ipv4 unicast",
            "neighbor 192.0.2.202 route-map LBS-router-IN in",
        ],
        {"next-hop": [f"{FOUR} from {B}"]},
    ),
    "a policy that says no for other reasons": (
        [
            "route-map SOMEBODY deny 10",
            "match peer 192.0.2.202",
            "router bgp 64512",
            "address-family ipv4 unicast",
            "neighbor 192.0.2.202 route-map SOMEBODY in",
        ],
        [
            "router bgp 64512",
            "address-family ipv4 unicast",
            "neighbor 192.0.2.202 route-map LBS-router-IN in",
        ],
        {"not-there": [f"{FOUR} from {B}"]},
    ),
    "another address of the pool": (
        [
            "ip route 203.0.113.99/32 192.0.2.2",
            "router bgp 64512",
            "address-family ipv4 unicast",
            "network 203.0.113.99/32",
        ],
        [
            "no ip route 203.0.113.99/32 192.0.2.2",
            "router bgp 64512",
            "address-family ipv4 unicast",
            "no network 203.0.113.99/32",
        ],
        {"foreign": ["203.0.113.99/32"]},
    ),
}


@pytest.mark.parametrize("name", FRR_MISTAKES)
def test_what_is_wrong_with_frr_is_named_and_no_more_once_it_is_mended(frr: Bench, name: str) -> None:
    breaking, mending, expected = FRR_MISTAKES[name]
    try:
        change(frr, breaking)
        finds(frr, expected, *of_frr(frr))
    finally:
        change(frr, mending)
    well(frr, *of_frr(frr))


def change(made: Bench, commands: list[str]) -> None:
    made.vtysh("configure terminal", *commands)
    made.vtysh(*_CLEAR)


def test_a_neighbour_that_is_not_configured(frr: Bench) -> None:
    frr.vtysh("configure terminal", "router bgp 64512", "no neighbor 192.0.2.203")
    finds(frr, {"no-neighbor": [C]}, *of_frr(frr))
    frr.load_frr(frr.config("frr"))  # it adds what is missing, and disturbs nobody
    well(frr, *of_frr(frr))


def test_a_node_that_is_silent_and_one_whose_routes_are_kept_meanwhile(frr: Bench) -> None:
    node = frr.picture.nodes[1]
    frr.silence(node)
    finds(frr, {"no-session": [B]}, *of_frr(frr))
    frr.speak(node, "capability { graceful-restart 60; }")
    well(frr, *of_frr(frr))
    frr.processes.pop(node.name).kill()
    kept = [f"{prefix} from {B}" for prefix in (FOUR, SIX)]
    finds(frr, {"no-session": [B], "stale": kept}, *of_frr(frr))
    frr.speak(node)
    well(frr, *of_frr(frr))


def test_a_firewall_on_the_router(frr: Bench) -> None:
    router, node = frr.picture.namespace("router"), frr.picture.nodes[0]
    rules = f"table inet t {{ chain c {{ type filter hook input priority 0; ip saddr {node.ipv4} drop; }}; }}"
    assert namespaces.run(router, ["nft", "-f", "-"], text=rules).returncode == 0
    frr.vtysh(f"clear bgp {node.ipv4}")
    eventually(lambda: set(codes(frr, *of_frr(frr))) <= {"no-session", "hold-timer"}, True, 40)
    assert codes(frr, *of_frr(frr)) in ({"no-session": [A]}, {"hold-timer": [A]})
    assert namespaces.run(router, ["nft", "delete table inet t"]).returncode == 0
    well(frr, *of_frr(frr))


def test_a_router_that_announces_a_service_ip_itself(frr: Bench) -> None:
    announce = ("configure terminal", "router bgp 64512", "address-family ipv4 unicast")
    frr.vtysh("configure terminal", f"ip route {FOUR} 192.0.2.2")
    try:
        frr.vtysh(*announce, f"network {FOUR}")
        finds(frr, {"shadowed": [FOUR]}, *of_frr(frr))
    finally:
        frr.vtysh(*announce, f"no network {FOUR}")
        frr.vtysh("configure terminal", f"no ip route {FOUR} 192.0.2.2")
    well(frr, *of_frr(frr))


def test_a_pool_inside_a_network_of_a_link(frr: Bench) -> None:
    inside = frr.documents.read_text()
    try:
        frr.documents.write_text(inside.replace("[203.0.113.0/24,", "[203.0.113.0/24, 198.51.100.128/25,"))
        assert "pool-on-link" in codes(frr, *of_frr(frr))
    finally:
        frr.documents.write_text(inside)
    assert "pool-on-link" not in codes(frr, *of_frr(frr))


def test_a_node_that_is_on_no_link_of_a_router_that_dials_it() -> None:
    """FRR 8.4 says "Waiting for NHT" where later ones say "No path to specified Neighbor"."""
    with bench("frr") as made:
        documents = made.documents.read_text()
        made.documents.write_text(documents.replace("address: 192.0.2.203", "address: 10.244.3.10"))
        made.start_frr()
        made.load_frr(made.config("frr"))
        for node in made.picture.nodes[:2]:
            made.speak(node)
        made.vtysh("configure terminal", "router bgp 64512", "no neighbor 10.244.3.10 passive")
        made.vtysh("clear bgp 10.244.3.10")
        eventually(lambda: codes(made, *of_frr(made)), {"no-path": ["node-c (10.244.3.10)"]}, 10)


def test_frr_without_bgp(tmp_path: Path) -> None:
    with bench("frr") as made:
        made.start_frr()
        assert codes(made, *of_frr(made)) == {"no-bgp": ["router"]}


@pytest.mark.parametrize(
    ("peer", "session"),
    [
        (", ttlSecurity: 1", "outgoing-ttl 255; incoming-ttl 255;"),
        (", password: s3cret", "md5-password s3cret;"),
        (", ebgpMultiHop: true", ""),
    ],
    ids=["ttl", "password", "multihop"],
)
@pytest.mark.parametrize("kind", ["frr", "bird"])
def test_what_else_a_peer_can_have_works_as_printed(kind: str, peer: str, session: str) -> None:
    with bench(kind, peer) as made:
        text = made.config(kind)
        assert "s3cret" not in text
        text = text.replace("REPLACE-WITH-THE-PASSWORD", "s3cret")
        start(made, kind, text)
        for node in made.picture.nodes:
            made.speak(node, session)
        well(made, *(of_frr(made) if kind == "frr" else of_bird(made)))


@pytest.mark.parametrize("kind", ["frr", "bird"])
def test_both_families_over_ipv6_as_printed(kind: str) -> None:
    with bench(kind) as made:
        router = made.picture.router
        made.describe(pools=POOLS.replace(f"peerAddress: {router.ipv4}", f"peerAddress: {router.ipv6}"))
        start(made, kind, made.config(kind))
        for node in made.picture.nodes:
            made.speak(node, family=6)
        options = of_frr(made) if kind == "frr" else of_bird(made)
        well(made, *options)
        assert {row["prefix"] for row in made.check(*options)["routes"]} == {FOUR, SIX}


def start(made: Bench, kind: str, text: str) -> None:
    if kind == "frr":
        made.start_frr()
        made.load_frr(text)
    else:
        made.start_bird(text)


@pytest.mark.parametrize("kind", ["frr", "bird"])
def test_a_node_that_drains_is_left_out_by_the_router(kind: str) -> None:
    with bench(kind) as made:
        start(made, kind, made.config(kind))
        leaving, *staying = made.picture.nodes
        made.speak(leaving, attributes="community [65535:0]")
        for node in staying:
            made.speak(node)
        options = of_frr(made) if kind == "frr" else of_bird(made)
        finds(made, {}, *options)
        hops = {row["prefix"]: row["nextHops"] for row in made.check(*options)["routes"]}
        assert hops[FOUR] == ["192.0.2.202", "192.0.2.203"], "it comes last (RFC 8326)"


# --- BFD ------------------------------------------------------------------------------------------------

_PROFILE = """---
apiVersion: lbspeaker.io/v1beta1
kind: BFDProfile
metadata: {name: fast, namespace: lbspeaker-system}
spec: {receiveInterval: 100, transmitInterval: 100, detectMultiplier: 3}
"""


@pytest.mark.parametrize("kind", ["frr", "bird"])
def test_bfd_as_printed_comes_up_with_our_own_and_its_absence_is_named(kind: str) -> None:
    with bench(kind) as made:
        made.describe(", bfdProfile: fast", POOLS + _PROFILE)
        start(made, kind, made.config(kind))
        options = of_frr(made) if kind == "frr" else of_bird(made)
        target = watch.Target("192.0.2.1", BFDProfile("fast", 100, 100, 3))
        for node in made.picture.nodes:
            made.speak(node)
        with contextlib.ExitStack() as stack:
            for node in made.picture.nodes[:2]:
                detecting = Detecting(made.picture.namespace(node.name))
                stack.callback(detecting.end)
                detecting.watch(target)
            finds(made, {"bfd-down": [C]}, *options)
            last = Detecting(made.picture.namespace("node-c"))
            stack.callback(last.end)
            last.watch(target)
            well(made, *options)
            assert [session["bfd"] for session in made.check(*options)["sessions"]] == ["up"] * 3
            if kind == "frr":
                change(made, ["router bgp 64512", "no neighbor 192.0.2.201 bfd"])
            else:
                made.reload_bird(_without_bfd)
            finds(made, {"no-bfd": [A]}, *options)


def _without_bfd(text: str) -> str:
    """The first neighbour without its block about BFD."""
    begin = text.index("  bfd {")
    return text[:begin] + text[text.index("};", begin) + 3 :]


# --- OPNsense: its API is a stand-in, its FRR is real -----------------------------------------------------


def rendered(calls: list[dict[str, Any]]) -> tuple[str, list[dict[str, str]]]:
    """What the plugin makes of these calls, as its template says: FRR's configuration, and its lists."""
    lists = [call["body"]["prefixlist"] for call in calls if call["path"].endswith("addPrefixlist")]
    names = {call["keep"]: call["body"]["prefixlist"]["name"] for call in calls if call["keep"]}
    (bgp,) = (call["body"]["bgp"] for call in calls if call["path"].endswith("bgp/set"))
    neighbors = [call["body"]["neighbor"] for call in calls if call["path"].endswith("bgp/addNeighbor")]
    lines = [f"router bgp {bgp['asnumber']}", " no bgp default ipv4-unicast", " no bgp ebgp-requires-policy"]
    for each in neighbors:
        peer = f" neighbor {each['address']}"
        lines += [f"{peer} remote-as {each['remoteas']}", f"{peer} description {each['description']}"]
        lines.append(f"{peer} timers {each['keepalive']} {each['holddown']}")
        lines += [f"{peer} password {each['password']}"] if "password" in each else []
    for family in ("ipv4", "ipv6"):
        lines += [f" address-family {family} unicast", f"  maximum-paths {bgp['maximumpaths']}"]
        for each in neighbors:
            if each["multiprotocol"] == "1" or (":" in each["address"]) == (family == "ipv6"):
                peer = f"  neighbor {each['address']}"
                lines.append(f"{peer} activate")
                for way, key in (("in", "linkedPrefixlistIn"), ("out", "linkedPrefixlistOut")):
                    lines.append(f"{peer} prefix-list {names[each[key].removeprefix('$')]} {way}")
        lines.append(" exit-address-family")
    lines.append("exit")
    for one in lists:
        ip = "ip" if one["version"] == "IPv4" else "ipv6"
        lines.append(
            f"{ip} prefix-list {one['name']} seq {one['seqnumber']} {one['action']} {one['network']}"
        )
    return "\n".join(lines) + "\n", lists


_RANGE = [
    "router bgp 64512",
    "no neighbor 192.0.2.202",
    "neighbor RANGE peer-group",
    "neighbor RANGE remote-as 64513",
    "bgp listen range 192.0.2.202/32 peer-group RANGE",
    "address-family ipv6 unicast",
    "neighbor RANGE activate",
    "address-family ipv4 unicast",
    "neighbor RANGE activate",
]


def test_what_opnsense_makes_of_its_calls_works_and_is_checked_by_its_api() -> None:
    with bench("frr", ", password: s3cret") as made:
        printed = json.loads(made.config("opnsense", "-o", "json"))
        text, lists = rendered(printed["calls"])
        made.start_frr()
        made.load_frr(text.replace("REPLACE-WITH-THE-PASSWORD", "s3cret"))
        for node in made.picture.nodes:
            made.speak(node, "md5-password s3cret;")
        with serving(pages(lambda command: json.loads(made.vtysh(command)), lists)) as (url, _):
            options = ("--opnsense", url, "--insecure")
            well(made, *options)
            made.silence(made.picture.nodes[1])
            change(made, _RANGE)
            made.speak(made.picture.nodes[1])
            unsafe = {"range-password": [B]}
            finds(made, unsafe, *options)
            lists[0]["network"] = "203.0.113.0/24"
            change(made, [f"ip prefix-list LBS-router-IN seq {lists[0]['seqnumber']} permit 203.0.113.0/24"])
            wrong = {"prefix-length": [f"{FOUR} from {node}" for node in (A, C)]}
            finds(made, unsafe | wrong, *options)


# --- BIRD -----------------------------------------------------------------------------------------------


def of_bird(made: Bench) -> tuple[str, str]:
    return ("--bird", made.bird_command)


def test_bird_as_printed_has_all_routes_over_all_nodes(bird: Bench) -> None:
    well(bird, *of_bird(bird))
    assert {row["prefix"] for row in bird.check(*of_bird(bird))["routes"]} == {FOUR, SIX}


def swap(before: str, after: str, count: int = 1) -> Callable[[str], str]:
    return lambda text: text.replace(before, after, count)


BIRD_MISTAKES = {
    "one next hop": (
        swap("merge paths on limit 8", "merge paths off"),
        {"multipath": [FOUR]},
    ),
    "filter for other lengths": (
        swap("203.0.113.0/24{32,32}", "203.0.113.0/24{24,31}"),
        {"policy-refuses": [f"{FOUR} from {node}" for node in (A, B, C)]},
    ),
    "no import": (
        swap("import filter lbs_router_v4", "import none"),
        {"policy-refuses": [f"{FOUR} from {A}"]},
    ),
    "another AS": (
        swap("neighbor 192.0.2.202 as 64513", "neighbor 192.0.2.202 as 64999"),
        {"wrong-as": [B]},
    ),
    "another AS of its own": (
        swap("local as 64512", "local as 64510", 3),
        {"wrong-as": [A, B, C]},
    ),
    "a neighbour less": (
        swap("neighbor 192.0.2.203 as", "neighbor 192.0.2.99 as"),
        {"no-neighbor": [C]},
    ),
    "a limit of routes": (
        swap("import filter lbs_router_v4;", "import filter lbs_router_v4; import limit 50 action restart;"),
        {"max-prefix-limit": [A]},
    ),
    "a limit that is reached": (
        swap("import filter lbs_router_v6;", "import filter lbs_router_v6; import limit 0 action disable;"),
        {"max-prefix": [A]},
    ),
    "nothing for the kernel": (
        swap("export where source = RTS_BGP", "export none"),
        {"not-installed": [FOUR]},
    ),
    "a password on the router alone": (
        swap('  description "node-b";', '  description "node-b"; password "x";'),
        {"no-session": [B]},
    ),
}


@pytest.mark.parametrize("name", BIRD_MISTAKES)
def test_what_is_wrong_with_bird_is_named_and_no_more_once_it_is_mended(bird: Bench, name: str) -> None:
    breaking, expected = BIRD_MISTAKES[name]
    right = (bird.directory / "bird.conf").read_text()
    well(bird, *of_bird(bird))
    try:
        bird.reload_bird(breaking)
        finds(bird, expected, *of_bird(bird))
    finally:
        bird.reload_bird(lambda _: right)
    well(bird, *of_bird(bird))


def test_bird_says_why_it_lets_a_node_wait_and_who_was_there_before(bird: Bench) -> None:
    node, right = bird.picture.nodes[2], (bird.directory / "bird.conf").read_text()
    well(bird, *of_bird(bird))
    bird.silence(node)
    bird.reload_bird(swap("error wait time 1, 10", "error wait time 60, 60", 3))

    def after(*said: bytes) -> dict[str, list[str]]:
        bird.say(node, b"".join(said))
        return codes(bird, *of_bird(bird))

    collision = raw.message(raw.NOTIFICATION, bytes((6, 7)))  # RFC 4486
    eventually(lambda: after(raw.opening(64513), collision), {"collision": [C]})
    eventually(lambda: after(raw.opening(64513, hold_s=1)), {"waiting": [C]})
    bird.reload_bird(lambda _: right)
    bird.birdc("restart lbs_router_node_c")
    bird.speak(node)
    well(bird, *of_bird(bird))


def test_bird_keeps_the_routes_of_a_node_that_went_and_that_is_told(bird: Bench) -> None:
    """Its protocol says "Neighbor graceful restart active"; the routes themselves have no mark."""
    node = bird.picture.nodes[1]
    bird.silence(node)
    bird.speak(node, "capability { graceful-restart 60; }")
    well(bird, *of_bird(bird))
    bird.processes.pop(node.name).kill()
    kept = [f"{prefix} from {B}" for prefix in (FOUR, SIX)]
    try:
        eventually(lambda: codes(bird, *of_bird(bird)), {"no-session": [B], "stale": kept}, 5)
    finally:
        bird.speak(node)
