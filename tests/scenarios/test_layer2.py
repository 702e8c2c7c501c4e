"""What users live through with layer 2: the whole system, real processes, a real segment."""

import os
import signal
import sys
import time

import pytest

from tests.scenarios.conftest import CONFIG, SERVICES, Probe, World, wait_for

NODES = "/api/v1/nodes"
pytestmark = [pytest.mark.lab, pytest.mark.timeout(180)]


@pytest.fixture(scope="module", autouse=True)
def web(world: World) -> None:
    """The service of most stories; and nothing is refreshed, so that silence can be judged."""
    world.create("LinkPolicy", "no-refresh", refreshSeconds=0)
    world.service("web")


def test_a_service_becomes_reachable_and_says_so(world: World) -> None:
    ip = world.ip("web")
    world.reachable(ip)
    wait_for(lambda: len(world.events("web")) >= 2, "events")
    allocated, announced = world.events("web")[:2]
    assert allocated == f"Allocated: allocated {ip} from pool lan"
    assert announced == f"Announced: announcing {ip} from {world.owner(ip)} (layer 2, eth0)"


def test_what_a_speaker_writes_is_removed_with_its_node(world: World) -> None:
    nodes = {one["metadata"]["name"]: one["metadata"]["uid"] for one in world.call("GET", NODES)["items"]}
    leases = [lease for lease in world.leases() if lease["metadata"]["name"].startswith("lbspeaker-")]
    owners = [owner for lease in leases for owner in lease["metadata"]["ownerReferences"]]
    assert {(owner["kind"], owner["name"], owner["uid"]) for owner in owners} == {
        ("Node", name, uid) for name, uid in nodes.items()
    }


def test_dual_stack_reaches_both(world: World) -> None:
    world.service("dual", ipFamilyPolicy="RequireDualStack")
    world.ip("dual")
    four, six = world.ips("dual")
    assert ":" in six
    world.reachable(four)
    world.reachable(six)
    world.delete(f"{SERVICES}/dual")  # one IP alone is never spread


def test_a_resync_and_a_touch_send_nothing(world: World) -> None:
    began = world.quiet()
    body = {"metadata": {"labels": {"touched": "yes"}}}
    world.call("PATCH", f"{SERVICES}/web", body, patch=True)
    world.call("PATCH", f"{CONFIG}/ipaddresspools/lan", body, patch=True)
    world.lab.restart("controller")
    wait_for(lambda: world.lab.log("controller").count("starting") == 1, "a new controller")
    time.sleep(2)
    assert world.unsolicited(began) == []


def test_a_service_without_an_ip_says_why(world: World) -> None:
    wrong = {"lbspeaker.io/loadBalancerIPs": "192.0.2.99"}
    world.service("outside", annotations=wrong)
    world.service("taken", annotations={"lbspeaker.io/loadBalancerIPs": world.ip("web")})
    world.service("family", annotations={"lbspeaker.io/loadBalancerIPs": "2001:db8::101"})
    wait_for(lambda: all(world.events(n) for n in ("outside", "taken", "family")), "events")
    assert world.events("outside") == [
        "OutsidePools: 192.0.2.99 is requested, but it is in no pool; "
        "the nearest is lan (192.0.2.100-192.0.2.150)"
    ]
    assert "in use by default/web" in world.events("taken")[0]
    assert world.events("family") == ["WrongFamily: 2001:db8::101 is requested, but the service is IPv4"]
    for name in ("outside", "taken", "family"):
        assert world.ips(name) == []
        world.delete(f"{SERVICES}/{name}")


def test_a_pool_that_becomes_wrong_costs_nobody_an_ip_not_even_over_a_restart(world: World) -> None:
    ip, pool = world.ip("web"), f"{CONFIG}/ipaddresspools/lan"
    right = world.call("GET", pool)["spec"]["addresses"]
    wrong = {"spec": {"addresses": ["192.0.2.150-192.0.2.100"]}}
    world.call("PATCH", pool, wrong, patch=True)
    world.lab.restart("controller")
    wait_for(lambda: world.lab.log("controller").count("ends before it starts") >= 1, "it is told")
    world.service("meanwhile")
    assert world.ip("meanwhile"), "what the pool last said right still counts"
    time.sleep(1)
    assert world.ip("web") == ip
    world.ask(ip)
    world.reachable(ip)
    world.call("PATCH", pool, {"spec": {"addresses": right}}, patch=True)
    world.delete(f"{SERVICES}/meanwhile")


def test_an_ip_outside_of_its_pool_that_shrank_is_announced_as_before(world: World) -> None:
    ip, pool = world.ip("web"), f"{CONFIG}/ipaddresspools/lan"
    right = world.call("GET", pool)["spec"]["addresses"]
    owner = world.settle(ip)
    world.call("PATCH", pool, {"spec": {"exclude": [f"{ip}/32"]}}, patch=True)
    wait_for(lambda: any(e.startswith("OutsidePool") for e in world.events("web")), "it is told")
    for program in (f"speaker-{owner}", "controller"):
        world.lab.restart(program)
    assert world.settle(ip) == owner, "who begins anew answers for it, too"
    world.call("PATCH", pool, {"spec": {"addresses": right, "exclude": None}}, patch=True)
    wait_for(lambda: not conditions(world, "web"), "nothing is said any more")
    assert world.ip("web") == ip


def conditions(world: World, name: str) -> list[str]:
    status = world.call("GET", f"{SERVICES}/{name}")["status"]
    return [c["reason"] for c in status.get("conditions") or []]


def test_a_speaker_without_the_permission_ends_with_one_line_and_takes_nothing(world: World) -> None:
    ip = world.ip("web")
    owner = world.settle(ip)
    world.lab.stop(f"speaker-{owner}")
    argv = ["setpriv", "--bounding-set=-net_raw", "--inh-caps=-net_raw", sys.executable, "-m", "lbspeaker"]
    argv += ["speaker", "--node", owner, "--kubeconfig", str(world.lab.node_kubeconfig)]
    done = world.lab.exec(owner, argv)
    assert done.returncode == 3
    assert done.stderr.count("capability NET_RAW is missing") == 1
    assert "securityContext.capabilities.add" in done.stderr
    assert "Traceback" not in done.stderr
    world.reachable(ip)
    world.lab.start(f"speaker-{owner}")
    world.settle(ip)


def test_links_of_pods_come_and_go_and_nothing_is_told_again(world: World) -> None:
    ip = world.ip("web")
    owner = world.settle(ip)
    before = world.log(owner).count("claimed ")
    for number in range(5):
        peer = f"cali{number}"
        world.lab.exec(owner, ["ip", "link", "add", peer, "type", "veth", "peer", "name", f"{peer}x"])
        world.lab.exec(owner, ["ip", "link", "set", peer, "up"])
        world.lab.exec(owner, ["ip", "link", "del", peer])
    time.sleep(0.5)
    assert world.log(owner).count("claimed ") == before
    assert world.answers(ip)


def test_an_interface_that_is_not_there_is_named_and_the_rest_goes_on(world: World) -> None:
    ip = world.ip("web")
    world.create("IPAddressPool", "other", addresses=["198.51.100.1/32"], autoAssign=False)
    world.call("DELETE", f"{CONFIG}/l2advertisements/lan")
    world.create("L2Advertisement", "lan", ipAddressPools=["lan"])
    world.create("L2Advertisement", "other", ipAddressPools=["other"], interfaces=["eth7"])
    world.service("lost", annotations={"lbspeaker.io/address-pool": "other"})
    wait_for(lambda: any(e.startswith("NoNodeLink") for e in world.events("lost")), "an event")
    (event,) = [e for e in world.events("lost") if e.startswith("NoNodeLink")]
    assert "no live node has a link named eth7 that is up, and heard by the others" in event
    assert "(they have: ctl0, eth0)" in event
    assert world.answers(ip)
    for path in (f"{SERVICES}/lost", f"{CONFIG}/l2advertisements/other", f"{CONFIG}/ipaddresspools/other"):
        world.delete(path)


def test_a_speaker_that_is_told_to_end_hands_over_without_a_lost_connection(world: World) -> None:
    ip = world.ip("web")
    owner = world.settle(ip)
    with Probe(world, ip) as probe:
        time.sleep(0.5)
        world.lab.stop(f"speaker-{owner}")
        wait_for(lambda: world.owner(ip) not in ("", owner), "another owner")
        time.sleep(1)
    assert probe.longest_gap() < 0.3
    assert "draining" in world.log(owner)
    assert world.log(owner).rstrip().endswith(f"stopped      node={owner}")
    world.lab.start(f"speaker-{owner}")
    world.settle(ip)


def test_a_killed_speaker_is_replaced_within_its_lease(world: World) -> None:
    ip = world.ip("web")
    owner = world.settle(ip)
    with Probe(world, ip) as probe:
        time.sleep(0.5)
        world.lab.signal(f"speaker-{owner}", signal.SIGKILL)
        wait_for(lambda: world.owner(ip) not in ("", owner), "another owner")
        time.sleep(1)
    # kube-proxy still runs there, so who knows the MAC loses nothing; new neighbours wait for the next owner.
    assert probe.longest_gap() < 4.5
    world.lab.start(f"speaker-{owner}")
    world.settle(ip)


def test_a_speaker_that_dies_and_comes_back_at_once_has_its_ips_back(world: World) -> None:
    ip = world.ip("web")
    owner = world.settle(ip)
    began = world.quiet()
    before = len(world.log(owner))
    with Probe(world, ip) as probe:
        world.lab.stop(f"speaker-{owner}", 0)
        world.lab.start(f"speaker-{owner}")
        wait_for(lambda: "serving " in world.log(owner)[before:], "it serves again", 20)
        time.sleep(1)
    assert probe.longest_gap() < 2.5
    world.settle(ip)
    told = [f for f in world.lab.switch.frames(kind="gratuitous", since=began) if f.sender == ip]
    assert 1 <= len(told) <= 2 * 3, "the one who took over, and the one who is back"


def test_a_node_that_is_cut_off_is_replaced(world: World) -> None:
    ip = world.ip("web")
    owner = world.settle(ip)
    with Probe(world, ip) as probe:
        time.sleep(0.5)
        world.lab.cut(owner)
        wait_for(lambda: world.owner(ip) not in ("", owner), "another owner")
        time.sleep(1)
    assert probe.longest_gap() < 4.5
    world.lab.heal(owner)
    world.settle(ip)


def test_a_killed_answerer_is_back_at_once(world: World) -> None:
    ip = world.ip("web")
    owner = world.settle(ip)
    os.kill(world.answerer(owner), signal.SIGKILL)
    world.lab.exec("client", ["ip", "neigh", "flush", "dev", "eth0"])
    world.reachable(ip)
    world.settle(ip)  # others may have taken over, for a moment; or for longer, if it moves too often
    assert "answerer-ended" in world.log(owner)


def test_a_node_whose_answerer_ends_again_and_again_leaves_its_ips_to_others(world: World) -> None:
    ip = world.ip("web")
    owner = world.settle(ip)
    for _ in range(2):
        ends = world.log(owner).split("answerer-ended")
        os.kill(world.answerer(owner), signal.SIGKILL)
        wait_for(lambda ends=ends: len(world.log(owner).split("answerer-ended")) > len(ends), "it has ended")  # type: ignore[misc]
        wait_for(lambda: "heard" in world.log(owner).rpartition("answerer-ended")[2], "it is back")
    said = world.lab.exec(owner, world.status(owner))
    assert said.returncode == 1
    assert "the answerer has ended twice within a minute" in said.stdout
    wait_for(lambda: owner not in world.lab.members(), "it has left the elections")

    def moved() -> bool:
        world.ask(ip)
        world.reachable(ip)
        return world.owner(ip) not in ("", owner)

    wait_for(moved, "another one has it", 5)
    world.lab.restart(f"speaker-{owner}")
    world.settle(ip)


@pytest.mark.alone  # whoever is kept from its hellos for half a second claims again
def test_a_silent_api_server_withdraws_nothing_and_its_return_sends_nothing(world: World) -> None:
    ip = world.ip("web")
    owner = world.settle(ip)
    began = world.quiet()
    with Probe(world, ip) as probe:
        world.lab.signal("apiserver", signal.SIGSTOP)
        time.sleep(8)  # far longer than a Lease
        assert world.owner(ip) == owner
        world.lab.signal("apiserver", signal.SIGCONT)
        time.sleep(6)
    assert probe.longest_gap() < 0.5
    assert world.owner(ip) == owner
    assert world.unsolicited(began) == []
    world.service("later")
    world.reachable(world.ip("later"))


@pytest.mark.alone  # whoever is kept from its hellos for half a second claims again
def test_the_api_server_is_gone_and_nothing_is_withdrawn(world: World) -> None:
    """The last story: the lab's API server loses its objects with its life."""
    ip = world.ip("web")
    owner = world.settle(ip)
    began = world.quiet()
    with Probe(world, ip) as probe:
        world.lab.stop("apiserver", 0)
        time.sleep(8)
    assert probe.longest_gap() < 0.5
    assert world.owner(ip) == owner
    assert world.unsolicited(began) == []
    assert 1 <= world.log(owner).count("api-unavailable") <= 3, "said once, not with each try"
