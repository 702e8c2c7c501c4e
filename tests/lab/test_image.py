"""The container image: what is in it, and that the programs in it run a cluster, confined as on a node."""

import json
import os
import re
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

import lbspeaker
from lbspeaker.errors import LbspeakerError
from lbspeaker.lab import rootless
from lbspeaker.lab.lab import Lab
from tests.lab import contained
from tests.scenarios.conftest import World, wait_for
from tests.test_manifests import needs_kubectl, rendered

ROOT = Path(__file__).parent.parent.parent
IMAGE = ROOT / "build/image"
ROOTFS = IMAGE / "rootfs"
PROGRAM = "/opt/lbspeaker/bin/lbspeaker"
KERNEL_CAPABILITIES = {"NET_RAW": 1 << 13, "SYS_NICE": 1 << 23}


def obstacle() -> str:
    """Why the image says nothing about this tree; empty if it does."""
    if not (IMAGE / "sbom.json").exists():
        return "the image was not built: make image"
    (packed,) = ROOTFS.glob("opt/lbspeaker/lib/python3*/site-packages/lbspeaker")
    for path in (ROOT / "lbspeaker").rglob("*.py"):
        other = packed / path.relative_to(ROOT / "lbspeaker")
        if not other.exists() or other.read_bytes() != path.read_bytes():
            return f"the image was built before {path.name} became what it is: make image"
    return ""


pytestmark = [
    pytest.mark.lab,
    pytest.mark.timeout(180),
    pytest.mark.skipif(os.geteuid() != 0, reason="only root can play a container runtime"),
    pytest.mark.skipif(bool(rootless.obstacle()), reason=rootless.obstacle()),
    pytest.mark.skipif(bool(obstacle()), reason=obstacle()),
    needs_kubectl,
]


@pytest.fixture(scope="module")
def image() -> Any:
    return json.loads((IMAGE / "config.json").read_text())["config"]


def files() -> Iterator[Path]:
    for directory, _, names in os.walk(ROOTFS):
        yield from (Path(directory, name) for name in names)


# --- what is in it --------------------------------------------------------------------------------------


def test_it_says_its_version(image: Any) -> None:
    assert image["Labels"]["org.opencontainers.image.version"] == lbspeaker.__version__


def test_it_runs_as_nobody_in_particular(image: Any) -> None:
    assert image["User"] == "65532:65532"
    assert image["Entrypoint"] == ["lbspeaker"]


def test_nobody_becomes_root_in_it_and_nothing_can_be_built_or_installed() -> None:
    present = {path.name for path in files()}
    assert not present & {"apt-get", "cc", "gcc", "make", "mount", "perl", "pip", "pip3", "su", "sudo"}
    assert not [path for path in files() if not path.is_symlink() and path.stat().st_mode & 0o6000]


def test_it_knows_nothing_of_the_machine_that_built_it() -> None:
    for name in ("etc/resolv.conf", "etc/hostname", "etc/pip.conf", "etc/apt/sources.list"):
        path = ROOTFS / name
        assert not path.exists() or not path.read_text(), name
    places = [str(ROOT).encode(), b"/run/secrets"]
    texts = (path for path in files() if path.suffix in {"", ".json", ".conf", ".cfg", ".pth", ".txt"})
    telling = [path for path in texts if path.is_file() and not path.is_symlink()]
    assert not [path for path in telling if any(place in path.read_bytes() for place in places)]


def test_the_list_of_what_is_in_it_is_complete() -> None:
    listed = {
        part["purl"].partition("@")[0] for part in json.loads((IMAGE / "sbom.json").read_text())["components"]
    }
    assert {"pkg:pypi/exabgp", "pkg:pypi/scapy", "pkg:deb/debian/libc6", "pkg:deb/debian/libssl3"} <= listed
    found = ROOTFS.glob("opt/lbspeaker/lib/python3*/site-packages/*.dist-info")
    assert len([purl for purl in listed if purl.startswith("pkg:pypi/")]) == len(list(found)) - 1  # ours


# --- it runs --------------------------------------------------------------------------------------------


def confine(lab: Lab, image: Any, name: str, overlay: str = "") -> None:
    """Have this process of the lab started as its manifest in config/OVERLAY says, out of the image."""
    process = lab.processes[name]
    objects = yaml.safe_load_all(rendered(overlay))
    of = ("DaemonSet" if name.startswith("speaker") else "Deployment", name.partition("-")[0])
    (found,) = (one for one in objects if (one["kind"], one["metadata"]["name"]) == of)
    spec = found["spec"]["template"]["spec"]
    (container,) = spec["containers"]
    context = spec["securityContext"] | container["securityContext"]
    assert context["readOnlyRootFilesystem"]
    powers = context["capabilities"].get("add", [])
    prefix = contained.command(ROOTFS, lab.directory, context["runAsUser"], powers)
    lab_options = process.argv[process.argv.index("--kubeconfig" if of[0] == "Deployment" else "--node") :]
    process.argv = [*prefix, PROGRAM, *container["args"], *lab_options]
    process.environment = {"IMAGE_ENVIRONMENT": variables(image)}


def variables(image: Any) -> str:
    return "\n".join(image["Env"])


@pytest.fixture(scope="module")
def world(image: Any) -> Iterator[World]:
    try:
        lab = Lab.up(name=f"i{os.getpid()}", nodes=2, programs=False)
    except LbspeakerError as error:
        pytest.skip(str(error))
    with lab:
        confine(lab, image, "controller")
        for node in lab.nodes:
            confine(lab, image, f"speaker-{node.name}")
        lab.start_programs()
        found = World(lab)
        found.create("IPAddressPool", "lan", addresses=["192.0.2.100-192.0.2.150"])
        found.create("L2Advertisement", "lan")
        router = str(lab.topology.router.ipv4)
        found.create("BGPPeer", "router", myASN=64513, peerASN=64512, peerAddress=router)
        found.create("BGPAdvertisement", "lan")
        found.service("web")
        yield found


def status_of(pid: int) -> dict[str, str]:
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return {key: value.strip() for key, _, value in (line.partition(":") for line in lines)}


@pytest.mark.parametrize(
    ("name", "user", "powers"),
    [("controller", "65532", []), ("speaker-node-a", "0", ["NET_RAW", "SYS_NICE"])],
)
def test_the_programs_have_what_their_manifests_give_them(
    world: World, name: str, user: str, powers: list[str]
) -> None:
    pid = world.lab.processes[name].pid
    status = status_of(pid)
    mask = sum(KERNEL_CAPABILITIES[power] for power in powers)
    assert set(status["Uid"].split()) == {user}
    assert {int(status[field], 16) for field in ("CapPrm", "CapEff", "CapBnd")} == {mask}
    assert status["NoNewPrivs"] == "1"
    (root,) = [
        line for line in Path(f"/proc/{pid}/mountinfo").read_text().splitlines() if line.split()[4] == "/"
    ]
    assert "ro" in root.split()[5].split(",")
    assert Path(f"/proc/{pid}/exe").resolve().name.startswith("python3")


def test_a_service_gets_an_ip_and_the_node_that_owns_it_answers(world: World) -> None:
    ip = world.ip("web")
    world.reachable(ip)
    owner = world.settle(ip)
    assert world.owner(ip) == owner
    curl = world.lab.exec("client", ["curl", "--silent", "--max-time", "5", f"http://{ip}/"])
    assert re.match(r"web-node-[ab]", curl.stdout)


def test_routes_reach_a_router(world: World) -> None:
    """ExaBGP, too, runs out of the image: a process of its own, with a configuration that it reads."""
    ip = world.ip("web")
    wait_for(lambda: len(next_hops(world, ip)) == len(world.lab.nodes), f"routes to {ip} from all nodes", 30)
    world.reachable(ip, "remote")


def next_hops(world: World, ip: str) -> tuple[str, ...]:
    table = {str(prefix): tuple(hops) for prefix, hops in world.lab.router.table().items()}
    return table.get(f"{ip}/32", ())


def test_another_node_takes_over_when_the_owner_dies(world: World) -> None:
    ip = world.ip("web")
    owner = world.settle(ip)
    world.lab.stop(f"speaker-{owner}", patience_s=0)

    def moved() -> bool:
        world.ask(ip)
        time.sleep(0.1)
        return world.owner(ip) not in ("", owner)

    wait_for(moved, "the other node answers", 30)
    world.reachable(ip)


def test_the_health_check_tells_a_program_that_hangs(world: World, image: Any) -> None:
    """As an engine asks, in the container; but here the program is not process 1: ids are the host's."""
    kind, _, *check = image["Healthcheck"]["Test"]
    assert kind == "CMD"
    controller = world.lab.processes["controller"].pid
    check = [word.replace("/proc/1/", f"/proc/{controller}/") for word in check]
    prefix = contained.command(ROOTFS, world.lab.directory, 0, [])
    argv = ["env", f"IMAGE_ENVIRONMENT={variables(image)}", *prefix, "/opt/lbspeaker/bin/python3", *check]
    assert world.lab.exec("control", argv).returncode == 0
    world.lab.signal("controller", signal.SIGSTOP)
    try:
        assert world.lab.exec("control", argv).returncode != 0
    finally:
        world.lab.signal("controller", signal.SIGCONT)


def test_by_bgp_alone_a_speaker_is_nobody_and_has_no_power(world: World, image: Any) -> None:
    """The last story: from here on one node does only that."""
    for node in world.lab.nodes:
        world.lab.start(f"speaker-{node.name}")
    ip = world.ip("web")
    owner = world.settle(ip)
    world.lab.stop(f"speaker-{owner}", patience_s=45)
    confine(world.lab, image, f"speaker-{owner}", "bgp")
    os.chown(world.lab.directory / owner, 65532, 65532)  # what kubelet gives as an emptyDir
    world.lab.start(f"speaker-{owner}")
    wait_for(lambda: len(next_hops(world, ip)) == len(world.lab.nodes), f"routes to {ip} from all nodes", 30)
    status = status_of(world.lab.processes[f"speaker-{owner}"].pid)
    assert set(status["Uid"].split()) == {"65532"}
    assert {int(status[field], 16) for field in ("CapPrm", "CapEff", "CapBnd")} == {0}
    world.ask(ip)
    wait_for(lambda: world.owner(ip) not in ("", owner), "another node answers on the segment")
