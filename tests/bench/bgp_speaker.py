"""What a speaker with BGP costs at rest: memory of all its processes together, and time of a core.

The real program, from files, with a thousand Services, and a router at an address of its own for each peer.
Memory is the proportional share (PSS): what processes share counts once. The reference is ExaBGP alone with
the same thousand routes.
"""

import contextlib
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import yaml

from lbspeaker.errors import Unavailable
from tests.bench import bgp
from tests.bench.results import Goal, Reference, Result, result
from tests.peers.daemons import Link

COUNT = 1000
LINKS = tuple(
    bgp.link(node, router=router)
    for node, router in (("10.99.0.1", bgp.ROUTER), ("10.99.0.3", "10.99.0.5"), ("10.99.0.4", "10.99.0.6"))
)
ALONE = bgp.link("10.99.0.8", router="10.99.0.9")
_FIRST = "172.16.0.0"
_ALL_MIB, _FURTHER_MIB, _IDLE_PERCENT = 190, 30, 3
_SETTLE_S = 8.0  # what a start leaves behind is freed by then
_IDLE_S = 20.0


def speaker() -> list[Result]:
    with bgp.place(*LINKS, ALONE) as (router, directory):
        alone_mib, alone_percent = _alone(router, directory)
        with _program(router, directory, LINKS[:2]) as pid:
            _settle(router, LINKS[:2])
            two_mib, percent = pss_mib(pid), _idle_percent(pid)
            _write(directory / "config" / "third.yaml", [_peer(LINKS[2])])
            _settle(router, LINKS)
            three_mib = pss_mib(pid)
    exabgp_mib = Reference("ExaBGP alone", [alone_mib])
    return [
        result("bgp-speaker", "MiB PSS, 2 peers", [two_mib], exabgp_mib, Goal("<", _ALL_MIB)),
        result(
            "bgp-speaker/peer", "MiB PSS, each", [three_mib - two_mib], exabgp_mib, Goal("<", _FURTHER_MIB)
        ),
        result(
            "bgp-speaker/idle",
            "% of a core",
            [percent],
            Reference("ExaBGP alone", [alone_percent]),
            Goal("<", _IDLE_PERCENT),
        ),
    ]


def _alone(router: bgp.Router, directory: Path) -> tuple[float, float]:
    """Return its memory, and what it takes of a core, with the routes of one peer."""
    with bgp.Bare(router.segment, directory / "bare", ALONE) as bare:
        bgp.wait(lambda: router.is_up(ALONE.node), "the session of ExaBGP alone")
        routes = bgp.routes(COUNT, first=_FIRST)
        for start in range(0, COUNT, 500):
            bare.announce(routes[start : start + 500])
        bgp.wait(lambda: router.count(ALONE.node) == COUNT, f"its {COUNT} routes")
        time.sleep(_SETTLE_S)
        assert bare.process
        return pss_mib(bare.process.pid), _idle_percent(bare.process.pid)


def _settle(router: bgp.Router, links: tuple[Link, ...]) -> None:
    for link in links:
        bgp.wait(lambda node=link.node: router.count(node) == COUNT, f"{COUNT} routes from {link.node}")
    time.sleep(_SETTLE_S)


# --- the program ----------------------------------------------------------------------------------------


@contextlib.contextmanager
def _program(router: bgp.Router, directory: Path, links: tuple[Link, ...]) -> Iterator[int]:
    """The speaker of the node, told all of it by files; ended in the end."""
    config = directory / "config"
    config.mkdir()
    _write(config / "bgp.yaml", [*_configuration(), *map(_peer, links)])
    _write(config / "services.yaml", [part for n in range(COUNT) for part in _service(f"s{n:04}")])
    argv = [sys.executable, "-m", "lbspeaker", "speaker", "--node", "node", "--config", str(config)]
    argv += ["--runtime-dir", str(directory / "speaker")]
    with (directory / "speaker.log").open("ab") as log:
        process = subprocess.Popen(
            router.segment.command(router.segment.node, *argv),
            stdout=log,
            stderr=log,
            stdin=subprocess.DEVNULL,
        )
    try:
        yield process.pid
    finally:
        process.terminate()
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(10)
        process.kill()
        process.wait()


def _configuration() -> list[object]:
    return [
        _ours("IPAddressPool", "pool", {"addresses": [f"{_FIRST}/20"]}),
        _ours("BGPAdvertisement", "all", {}),
        {"apiVersion": "v1", "kind": "Node", "metadata": {"name": "node"}},
    ]


def _peer(link: Link) -> object:
    spec = {"myASN": link.node_as, "peerASN": bgp.peer(link).peer_asn, "peerAddress": link.router}
    return _ours("BGPPeer", f"at-{link.router}", spec | {"sourceAddress": link.node})


def _ours(kind: str, name: str, spec: object) -> object:
    return {"apiVersion": "lbspeaker.io/v1beta1", "kind": kind, "metadata": {"name": name}, "spec": spec}


def _service(name: str) -> list[object]:
    labels = {"kubernetes.io/service-name": name}
    return [
        {
            "apiVersion": "v1",
            "kind": "Service",
            "metadata": {"name": name},
            "spec": {"type": "LoadBalancer", "ports": [{"port": 80}]},
        },
        {
            "apiVersion": "discovery.k8s.io/v1",
            "kind": "EndpointSlice",
            "metadata": {"name": name, "labels": labels},
            "addressType": "IPv4",
            "endpoints": [{"addresses": ["10.244.1.10"], "nodeName": "node"}],
        },
    ]


def _write(path: Path, documents: list[object]) -> None:
    path.write_text(yaml.safe_dump_all(documents))


# --- what processes take --------------------------------------------------------------------------------


def pss_mib(pid: int) -> float:
    """Return the share of memory of `pid` and all that it has started (proc(5), smaps_rollup: Pss)."""
    total = 0
    for each in bgp.descendants(pid):
        with contextlib.suppress(OSError):
            lines = Path(f"/proc/{each}/smaps_rollup").read_text().splitlines()
            total += next(int(line.split()[1]) for line in lines if line.startswith("Pss:"))
    if not total:
        raise Unavailable(f"process {pid} has no memory: it has ended")
    return total / 1024


def _idle_percent(pid: int) -> float:
    before, began = _ticks(pid), time.monotonic()
    time.sleep(_IDLE_S)
    ticks = _ticks(pid) - before
    return 100 * ticks / os.sysconf("SC_CLK_TCK") / (time.monotonic() - began)


def _ticks(pid: int) -> int:
    """Return the time that `pid` and all that it has started, and still run, have used (proc(5), stat)."""
    total = 0
    for each in bgp.descendants(pid):
        with contextlib.suppress(OSError):
            fields = Path(f"/proc/{each}/stat").read_text().rpartition(")")[2].split()
            total += int(fields[11]) + int(fields[12])  # utime, stime
    return total
