"""What users live through with BGP: real children of ExaBGP, a real router, real clients behind it."""

import json
import re
import signal
import subprocess
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from lbspeaker.lab import namespaces
from lbspeaker.lab.namespaces import running
from tests.scenarios.conftest import CONFIG, SERVICES, SYSTEM, World, wait_for

pytestmark = [pytest.mark.lab, pytest.mark.timeout(180)]

NODES = ("node-a", "node-b", "node-c")
EVENTS = "/api/v1/namespaces/default/events"
ON_A = [{"matchLabels": {"kubernetes.io/hostname": "node-a"}}]


@pytest.fixture(scope="module")
def bgp(world: World) -> World:
    """The lab, announcing by BGP and no longer by layer 2."""
    router = next(str(h.ipv4) for h in world.lab.topology.hosts if h.name == "router")
    world.create("BGPPeer", "router", myASN=64513, peerASN=64512, peerAddress=router, holdTime="6s")
    world.create("BGPAdvertisement", "bgp")
    world.delete(f"{CONFIG}/l2advertisements/lan")
    world.service("web")
    world.ip("web")
    return world


def hops(world: World, ip: str) -> int:
    """Over how many next hops the router reaches `ip`."""
    length = 128 if ":" in ip else 32
    table = {str(prefix): where for prefix, where in world.lab.router.table().items()}
    return len(table.get(f"{ip}/{length}", ()))


def routes(world: World, ip: str) -> str:
    """What FRR says about all its routes to `ip`."""
    return typed(world, f"show bgp ipv4 unicast {ip}/32 json")


def typed(world: World, *lines: str) -> str:
    """What FRR says to these lines."""
    words = ["vtysh", "--vty_socket", str(world.lab.router.directory)]
    done = world.lab.exec("router", words + [word for line in lines for word in ("-c", line)])
    assert done.returncode == 0, done
    return done.stdout


def neighbors(world: World, what: str) -> dict[str, Any]:
    """What FRR says about each of its neighbours, under this word."""
    found = json.loads(typed(world, "show bgp neighbors json"))
    return {address: one.get(what) for address, one in found.items() if isinstance(one, dict)}


def converged(world: World, ip: str, number: int, seconds: float = 15) -> None:
    wait_for(lambda: hops(world, ip) == number, f"{number} next hops for {ip}", seconds)


def children(world: World, node: str) -> list[int]:
    """The processes of ExaBGP that are children of a node's speaker."""
    speaker = world.lab.processes[f"speaker-{node}"].pid
    found = subprocess.run(
        ["pgrep", "-P", str(speaker), "-f", "exabgp"], capture_output=True, text=True, check=False
    )
    return [int(pid) for pid in found.stdout.split()]


def edited(world: World, **spec: Any) -> None:
    """Edit the BGPPeer, and wait until each node has begun its session anew, one after the other."""
    before = {node: children(world, node) for node in NODES}
    world.call("PATCH", f"{CONFIG}/bgppeers/router", {"spec": spec}, patch=True)
    for node in NODES:
        anew = lambda node=node: children(world, node) not in ([], before[node])  # noqa: E731
        wait_for(anew, f"a new session of {node}", 25)


def processes(world: World, node: str) -> set[int]:
    """The speaker of a node, and all that it has started."""
    speaker = world.lab.processes[f"speaker-{node}"].pid
    found = subprocess.run(["pgrep", "-P", str(speaker)], capture_output=True, text=True, check=True)
    return {speaker, *map(int, found.stdout.split())}


def status(world: World, node: str) -> dict[str, Any]:
    said = subprocess.run([*world.status(node), "-o", "json"], capture_output=True, check=False).stdout
    return dict(json.loads(said))


def test_every_node_announces_it_and_a_client_behind_the_router_reaches_it(bgp: World) -> None:
    ip = bgp.ip("web")
    converged(bgp, ip, 3)
    bgp.reachable(ip, "remote")
    wait_for(lambda: len([e for e in bgp.events("web") if "(BGP)" in e]) == 3, "an event of each node")


def test_both_families_over_one_session(bgp: World) -> None:
    bgp.service("dual", ipFamilyPolicy="RequireDualStack")
    bgp.ip("dual")
    for ip in bgp.ips("dual"):
        converged(bgp, ip, 3)
        bgp.reachable(ip, "remote")


def test_a_local_service_comes_from_where_its_pods_are(bgp: World) -> None:
    bgp.service("local", externalTrafficPolicy="Local")
    ip = bgp.ip("local")
    converged(bgp, ip, 3)
    bgp.call("DELETE", "/api/v1/namespaces/default/pods/web-node-b")
    converged(bgp, ip, 2)
    assert hops(bgp, bgp.ip("web")) == 3, "traffic policy Cluster does not care"
    bgp.reachable(ip, "remote")
    bgp.delete(f"{SERVICES}/local")
    converged(bgp, ip, 0)


def test_a_killed_child_is_replaced_and_nothing_is_missing_afterwards(bgp: World) -> None:
    ip = bgp.ip("web")
    converged(bgp, ip, 3)
    (child,) = children(bgp, "node-a")
    subprocess.run(["kill", "-KILL", str(child)], check=True)
    converged(bgp, ip, 2)
    converged(bgp, ip, 3)
    assert children(bgp, "node-a") != [child]


def test_a_speaker_that_ends_withdraws_its_routes_first(bgp: World) -> None:
    ip = bgp.ip("web")
    with ThreadPoolExecutor() as pool:
        stopping = pool.submit(bgp.lab.stop, "speaker-node-c")
        said = []
        while not stopping.done():
            said.append(routes(bgp, ip))
    assert any("gracefulShutdown" in one for one in said), "it said so first"
    assert "gracefulShutdown" not in routes(bgp, ip)
    assert hops(bgp, ip) == 2
    bgp.lab.start("speaker-node-c")
    converged(bgp, ip, 3)


def test_a_killed_speaker_takes_its_child_with_it(bgp: World) -> None:
    ip = bgp.ip("web")
    before = children(bgp, "node-b")
    bgp.lab.signal("speaker-node-b", signal.SIGKILL)
    converged(bgp, ip, 2)
    wait_for(lambda: not any(map(running, before)), "they are gone")
    bgp.lab.stop("speaker-node-b", 0)
    bgp.lab.start("speaker-node-b")
    converged(bgp, ip, 3)


def test_a_node_that_dies_is_out_of_the_table_after_the_hold_time(bgp: World) -> None:
    ip = bgp.ip("web")
    converged(bgp, ip, 3)
    began = time.monotonic()
    bgp.lab.cut("node-b")
    converged(bgp, ip, 2)
    assert time.monotonic() - began < 8.5
    bgp.reachable(ip, "remote")
    bgp.lab.heal("node-b")
    converged(bgp, ip, 3, 40)


WRONG = {
    "nobody-there": {"peerAddress": "192.0.2.99"},
    "port-closed": {"peerAddress": "192.0.2.2"},
    "another-as": {"peerAddress": "2001:db8::1", "myASN": 64999},
    "another-password": {"peerAddress": "198.51.100.1", "password": "of nobody"},
}


def test_wrong_peers_are_named_and_disturb_neither_layer_2_nor_a_good_peer(bgp: World) -> None:
    ip = bgp.ip("web")
    bgp.create("L2Advertisement", "lan", nodeSelectors=ON_A)
    bgp.reachable(ip)
    before, drops = processes(bgp, "node-a"), neighbors(bgp, "connectionsDropped")
    for name, spec in WRONG.items():
        peer = {"myASN": 64513, "peerASN": 64512, "holdTime": "6s", "nodeSelectors": ON_A, **spec}
        bgp.create("BGPPeer", name, **peer)

    def named() -> bool:
        bgp.ask(ip)  # so that layer 2 must answer again
        assert bgp.answers(ip)
        problems = status(bgp, "node-a")["problems"]
        return all(any(p.startswith(f"peer {name}: no session") for p in problems) for name in WRONG)

    wait_for(named, "each of them is a problem", 20)
    assert bgp.owner(ip) == "node-a"
    assert before < processes(bgp, "node-a"), "nobody was replaced"
    assert neighbors(bgp, "connectionsDropped")["192.0.2.201"] == drops["192.0.2.201"]
    told = [event["message"] for event in bgp.call("GET", EVENTS)["items"] if event["reason"] == "PeerDown"]
    assert any(name in message for message in told for name in WRONG)
    rows = {peer["name"]: peer for peer in status(bgp, "node-a")["peers"]}
    assert (rows["router"]["state"], rows["router"]["sent"]) == ("up", rows["router"]["desired"])
    assert {(rows[name]["state"], rows[name]["sent"]) for name in WRONG} == {("connecting", 0)}
    assert {name: rows[name]["address"] for name in WRONG} == {n: s["peerAddress"] for n, s in WRONG.items()}
    text = bgp.lab.exec("node-a", bgp.status("node-a")).stdout
    assert re.search(rf"^router +{rows['router']['address']} +64512 +up ", text, re.MULTILINE)
    for name in WRONG:
        bgp.delete(f"{CONFIG}/bgppeers/{name}")
    bgp.delete(f"{CONFIG}/l2advertisements/lan")
    wait_for(lambda: processes(bgp, "node-a") == before, "and they are gone")
    assert hops(bgp, ip) == 3


def test_an_edited_advertisement_keeps_the_sessions(bgp: World) -> None:
    ip = bgp.ip("web")
    before = {node: children(bgp, node) for node in NODES}
    spec = {"spec": {"communities": ["64512:31"]}}
    bgp.call("PATCH", f"{CONFIG}/bgpadvertisements/bgp", spec, patch=True)
    time.sleep(2)
    assert hops(bgp, ip) == 3
    assert {node: children(bgp, node) for node in NODES} == before


def test_an_edit_that_ends_every_session_leaves_the_router_a_way_all_the_time(bgp: World) -> None:
    """One node after the other begins anew."""
    ip = bgp.ip("web")
    converged(bgp, ip, 3)
    before, first = {node: children(bgp, node) for node in NODES}, neighbors(bgp, "connectionsEstablished")
    with ThreadPoolExecutor() as pool:
        watching = pool.submit(bgp.lab.exec, "router", ["timeout", "8", "ip", "-4", "monitor", "route"])
        time.sleep(0.5)
        bgp.call("PATCH", f"{CONFIG}/bgppeers/router", {"spec": {"holdTime": "9s"}}, patch=True)
        seen = watching.result().stdout
    assert ip in seen and not re.search(rf"^Deleted {ip}\b", seen, re.MULTILINE), seen
    assert not any(set(children(bgp, node)) & set(before[node]) for node in NODES)
    again = neighbors(bgp, "connectionsEstablished")
    assert all(again[str(n.ipv4)] == first[str(n.ipv4)] + 1 for n in bgp.lab.nodes), "each once"
    converged(bgp, ip, 3, 4)


def test_an_edited_peer_is_back_at_once_and_the_others_notice_nothing(bgp: World) -> None:
    ip = bgp.ip("web")
    router = next(str(h.ipv6) for h in bgp.lab.topology.hosts if h.name == "router")
    bgp.create("BGPPeer", "router6", myASN=64513, peerASN=64512, peerAddress=router, holdTime="6s")
    wait_for(
        lambda: all(neighbors(bgp, "bgpState").get(str(n.ipv6)) == "Established" for n in bgp.lab.nodes),
        "a session with each peer",
        25,
    )
    before = {node: set(children(bgp, node)) for node in NODES}
    assert all(len(one) == 2 for one in before.values())
    spec = {"spec": {"holdTime": "12s"}}
    bgp.call("PATCH", f"{CONFIG}/bgppeers/router", spec, patch=True)
    wait_for(
        lambda: all(len(children(bgp, n) and set(children(bgp, n)) - before[n]) == 1 for n in NODES),
        "a new child on one node after the other",
        25,
    )
    assert all(len(set(children(bgp, node)) & before[node]) == 1 for node in NODES), "the other one goes on"
    converged(bgp, ip, 3, 4)
    bgp.delete(f"{CONFIG}/bgppeers/router6")
    wait_for(lambda: all(len(children(bgp, node)) == 1 for node in NODES), "one child less")
    converged(bgp, ip, 3, 4)


def test_a_peer_that_comes_and_goes_has_its_own_router_id_and_leaves_the_other_alone(bgp: World) -> None:
    converged(bgp, bgp.ip("web"), 3)
    before = {node: children(bgp, node) for node in NODES}
    drops = neighbors(bgp, "connectionsDropped")
    own = {str(node.ipv4): str(node.ipv4) for node in bgp.lab.nodes}
    given = {str(node.ipv6): "198.51.100.66" for node in bgp.lab.nodes}
    router = str(bgp.lab.topology.router.ipv6)
    bgp.create("BGPPeer", "router6", myASN=64513, peerASN=64512, peerAddress=router, routerID="198.51.100.66")
    wait_for(lambda: neighbors(bgp, "remoteRouterId") == own | given, "each session has its router ID")
    bgp.delete(f"{CONFIG}/bgppeers/router6")
    wait_for(lambda: {node: children(bgp, node) for node in NODES} == before, "the others go on")
    now = neighbors(bgp, "connectionsDropped")
    assert {address: now[address] for address in own} == {address: drops[address] for address in own}


def test_a_password_comes_from_a_secret_and_without_it_there_is_no_session(bgp: World) -> None:
    peer = str(bgp.lab.nodes[0].ipv6)
    secrets = f"/api/v1/namespaces/{SYSTEM}/secrets"

    def at_the_router(words: str) -> None:
        typed(bgp, "configure terminal", "router bgp 64512", words)

    def up() -> bool:
        return bool(neighbors(bgp, "bgpState")[peer] == "Established")

    def secret(password: str) -> dict[str, Any]:
        kind, metadata = "kubernetes.io/basic-auth", {"name": "hush"}
        return {"metadata": metadata, "type": kind, "stringData": {"password": password}}

    at_the_router(f"neighbor {peer} password hush-one")
    bgp.call("POST", secrets, secret("hush-one"))
    spec = {"peerAddress": str(bgp.lab.topology.router.ipv6), "passwordSecret": {"name": "hush"}}
    bgp.create("BGPPeer", "secret", myASN=64513, peerASN=64512, holdTime="6s", nodeSelectors=ON_A, **spec)
    wait_for(up, "both know the password")
    assert neighbors(bgp, "authenticationEnabled")[peer]
    running = bgp.lab.exec("node-a", ["ps", "-eww", "-o", "args"]).stdout

    first = neighbors(bgp, "connectionsEstablished")[peer]
    at_the_router(f"neighbor {peer} password hush-two")
    bgp.call("PATCH", f"{secrets}/hush", secret("hush-two"), patch=True)
    wait_for(lambda: up() and neighbors(bgp, "connectionsEstablished")[peer] > first, "both know the new one")

    def told(words: str) -> bool:
        return words in str(problems()) and words in bgp.log("node-a")

    problems = lambda: status(bgp, "node-a")["problems"]  # noqa: E731
    kept = neighbors(bgp, "connectionsEstablished")[peer]
    bgp.call("PATCH", f"{secrets}/hush", secret("hush-three\n"), patch=True)
    wait_for(lambda: told("is not 1 to 80 printable ASCII characters; the session goes on"), "it is told")
    bgp.delete(f"{secrets}/hush")
    missing = f"Secret {SYSTEM}/hush is missing, or has no key `password`"
    wait_for(lambda: told(f"{missing}; the session goes on with the one before"), "that, too")
    assert up() and neighbors(bgp, "connectionsEstablished")[peer] == kept, "a mistake ends no session"

    bgp.delete(f"{CONFIG}/bgppeers/secret")
    wait_for(lambda: not up(), "no peer, no session")
    at_the_router(f"no neighbor {peer} password")
    bgp.create("BGPPeer", "secret", myASN=64513, peerASN=64512, holdTime="6s", nodeSelectors=ON_A, **spec)
    wait_for(lambda: f"peer secret: {missing}; create it" in str(problems()), "no password, no session")
    assert "peer-unusable" in bgp.log("node-a")
    time.sleep(2.5)  # whoever dials does it every other second
    assert not up() and len(children(bgp, "node-a")) == 1, "it is not tried without"
    bgp.call("POST", secrets, secret("hush-two"))
    at_the_router(f"neighbor {peer} password hush-two")
    wait_for(up, "it is back")

    seen = running + bgp.log("node-a") + bgp.lab.log("controller") + json.dumps(status(bgp, "node-a"))
    seen += json.dumps([bgp.call("GET", path) for path in (EVENTS, f"{CONFIG}/bgppeers")])
    seen += json.dumps(bgp.call("GET", f"{CONFIG}/effectiveconfigurations"))
    assert "exabgp.conf" in seen and "hush-" not in seen
    bgp.delete(f"{CONFIG}/bgppeers/secret")
    bgp.delete(f"{secrets}/hush")
    at_the_router(f"no neighbor {peer} password")


def test_a_secret_that_is_missing_is_an_event_of_the_node(bgp: World) -> None:
    spec = {"peerAddress": str(bgp.lab.topology.router.ipv6), "passwordSecret": {"name": "nowhere"}}
    bgp.create("BGPPeer", "secret", myASN=64513, peerASN=64512, nodeSelectors=ON_A, **spec)
    missing = f"Secret {SYSTEM}/nowhere is missing"
    wait_for(lambda: missing in bgp.log("node-a"), "it is logged")
    try:
        told = lambda: [event["message"] for event in bgp.call("GET", EVENTS)["items"]]  # noqa: E731
        wait_for(lambda: any(missing in message for message in told()), "it is an event", 5)
        (row,) = [peer for peer in status(bgp, "node-a")["peers"] if peer["name"] == "secret"]
        assert (row["state"], row["sent"], row["address"]) == ("unusable", 0, spec["peerAddress"])
        assert missing in row["last_error"]
        others = [peer["name"] for peer in status(bgp, "node-b")["peers"]]
        assert others == ["router"], "it is none of theirs"
    finally:
        bgp.delete(f"{CONFIG}/bgppeers/secret")


def test_with_graceful_restart_a_killed_speaker_costs_no_route_and_leaves_none_behind(bgp: World) -> None:
    ip, node = bgp.ip("web"), str(bgp.lab.nodes[1].ipv4)
    edited(bgp, enableGracefulRestart=True)
    bgp.service("leaving")
    gone = bgp.ip("leaving")
    for each in (ip, gone):
        converged(bgp, each, 3)

    def by_node(prefix: str) -> list[dict[str, Any]]:
        """The routes that the router has from the node."""
        paths = json.loads(routes(bgp, prefix)).get("paths", [])
        return [path for path in paths if path["peer"]["peerId"] == node]

    def story() -> None:
        bgp.lab.signal("speaker-node-b", signal.SIGKILL)
        bgp.delete(f"{SERVICES}/leaving")
        converged(bgp, gone, 1)
        assert by_node(gone), "it is kept for the one who is away"
        bgp.lab.stop("speaker-node-b", 0)
        bgp.lab.start("speaker-node-b")
        wait_for(lambda: not by_node(gone), "it goes once the node has told everything", 20)
        wait_for(lambda: not by_node(ip)[0].get("stale"), "and the other one is fresh")

    with ThreadPoolExecutor() as pool:
        playing = pool.submit(story)
        polled = []
        while not playing.done():
            polled.append(by_node(ip))
            time.sleep(0.02)
        playing.result()
    assert all(polled), "it was in the table all the time"
    assert any(path.get("stale") for paths in polled for path in paths), "also while the speaker was dead"
    converged(bgp, ip, 3)


def test_edits_that_change_no_session_keep_the_children(bgp: World) -> None:
    """Also where they change who has the peer: who had it keeps its session."""
    ip = bgp.ip("web")
    converged(bgp, ip, 3)
    before = {node: children(bgp, node) for node in NODES}

    def edit(**spec: Any) -> None:
        bgp.call("PATCH", f"{CONFIG}/bgppeers/router", {"spec": spec}, patch=True)

    edit(ebgpMultiHop=True)
    some = [{"matchLabels": {"kubernetes.io/hostname": node}} for node in ("node-a", "node-b")]
    edit(nodeSelectors=some)
    converged(bgp, ip, 2)
    edit(nodeSelectors=None, ebgpMultiHop=False)
    converged(bgp, ip, 3)
    for node in ("node-a", "node-b"):
        assert children(bgp, node) == before[node]
    assert children(bgp, "node-c") != before["node-c"]


def next_hops(world: World, ip: str) -> set[str]:
    """By which addresses the router has a way to `ip`."""
    said = typed(world, f"show bgp ipv{6 if ':' in ip else 4} unicast {ip} json")
    found = json.loads(said or "{}").get("paths", [])
    every = [hop["ip"] for path in found for hop in path["nexthops"]]
    return {one for one in every if not one.startswith("fe80:")}


def test_a_node_whose_ipv6_address_comes_goes_and_changes_keeps_its_session(bgp: World) -> None:
    bgp.service("moving", ipFamilyPolicy="RequireDualStack")
    bgp.ip("moving")
    ip4, ip6 = sorted(bgp.ips("moving"), key=lambda ip: ":" in ip)
    converged(bgp, ip6, 3)
    before, flaps = {node: children(bgp, node) for node in NODES}, bgp.log("node-b").count("peer-")
    hops6 = {node.name: str(node.ipv6) for node in bgp.lab.nodes}
    everybody, others = set(hops6.values()), {hops6["node-a"], hops6["node-c"]}

    def address(what: str, one: str) -> None:
        assert bgp.lab.exec("node-b", ["ip", "addr", what, f"{one}/64", "dev", "eth0"]).returncode == 0

    def are(expected: set[str]) -> None:
        wait_for(lambda: next_hops(bgp, ip6) == expected, f"the next hops {expected}", 5)
        assert hops(bgp, ip4) == 3

    are(everybody)
    try:
        address("del", hops6["node-b"])
        are(others)
        address("add", "2001:db8::b0b")
        are({*others, "2001:db8::b0b"})
        address("add", hops6["node-b"])
        address("del", "2001:db8::b0b")
        are(everybody)
        for other, length in (("fd55::1", 64), ("2001:db8::b0c", 128)):
            added = bgp.lab.exec("node-b", ["ip", "addr", "add", f"{other}/{length}", "dev", "eth0"])
            assert added.returncode == 0
        time.sleep(1)
        are(everybody)
        assert {node: children(bgp, node) for node in NODES} == before
        assert bgp.log("node-b").count("peer-") == flaps
    finally:
        for other in ("fd55::1/64", "2001:db8::b0c/128"):
            bgp.lab.exec("node-b", ["ip", "addr", "del", other, "dev", "eth0"])
        bgp.delete(f"{SERVICES}/moving")


def test_a_node_whose_ipv4_address_changes_dials_from_the_other_one(bgp: World) -> None:
    """The router knows one of the two."""
    ip = bgp.ip("web")
    converged(bgp, ip, 3)
    (before,) = children(bgp, "node-b")
    mine = next(str(node.ipv4) for node in bgp.lab.nodes if node.name == "node-b")
    namespaces.sysctl(bgp.lab.topology.namespace("node-b"), {"net/ipv4/conf/eth0/promote_secondaries": "1"})

    def move(old: str, new: str) -> None:
        for what, one in (("add", new), ("del", old)):
            done = bgp.lab.exec("node-b", ["ip", "addr", what, f"{one}/24", "dev", "eth0"])
            assert done.returncode == 0, done

    move(mine, "192.0.2.99")
    try:
        wait_for(lambda: children(bgp, "node-b") not in ([], [before]), "another child", 5)
        converged(bgp, ip, 2)
    finally:
        move("192.0.2.99", mine)
    converged(bgp, ip, 3, 10)


def test_the_default_gateway_is_found_by_itself(bgp: World) -> None:
    ip = bgp.ip("web")
    bgp.call("PATCH", f"{CONFIG}/bgppeers/router", {"spec": {"peerAddress": "auto"}}, patch=True)
    time.sleep(3)
    converged(bgp, ip, 3)
