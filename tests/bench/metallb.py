"""MetalLB's own speakers in the lab, beside ours: fifty Services at once, and an owner that loses its power.

It needs MetalLB's speaker, built from its source, and the manifest with its CRDs there
(`config/manifests/metallb-native.yaml`). What MetalLB's controller would write is written here.

`python -m tests.bench.metallb --speaker PATH --manifest PATH`
"""

import argparse
import contextlib
import itertools
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from ipaddress import IPv4Address
from pathlib import Path
from typing import NamedTuple

import yaml

from lbspeaker.errors import Unavailable
from lbspeaker.lab import frames, namespaces
from lbspeaker.lab import lab as labs
from lbspeaker.lab.lab import Lab
from lbspeaker.lab.topology import LabNode
from tests.bench import cluster
from tests.bench.api import SERVICES, Api, each
from tests.bench.manifests import FIRST, POOL, Manifest, service
from tests.bench.prober import Prober
from tests.bench.results import Goal, Reference, Result, result, table

_NAMESPACE = "metallb-system"
_COUNT = 50
_OVER_S = 12.0  # MetalLB repeats for 5 s
_CUTS = 6
_GONE_S, _BACK_S = 15.0, 15.0
_TOGETHER_S = 12.0  # until its speakers know each other


class Seen(NamedTuple):
    """`frames`: unsolicited ARP frames of all nodes for the new IPs; `peak`: at one port, in a second."""

    frames: int
    peak: int
    gaps: list[float]


def compare(speaker: Path, manifest: Path) -> list[Result]:
    with _ours() as (lab, create):
        ours = _measure(lab, create)
    with _theirs(speaker, manifest) as (lab, create):
        theirs = _measure(lab, create)
    what = "MetalLB"
    return [
        result(
            "metallb/storm-peak",
            "unsolicited/s/port",
            [ours.peak],
            Reference(what, [theirs.peak]),
            Goal("<=", 12),
        ),
        result("metallb/storm-frames", "unsolicited", [ours.frames], Reference(what, [theirs.frames])),
        result("metallb/cut", "s", ours.gaps, Reference(what, theirs.gaps)),
        result(
            "metallb/cut-worst", "s", ours.gaps, Reference(what, theirs.gaps, "max"), Goal("<=", 1), "max"
        ),
    ]


Create = Callable[[list[IPv4Address]], None]  # Services with these IPs


def _measure(lab: Lab, create: Create) -> Seen:
    new = [FIRST + number for number in range(_COUNT)]
    began = time.time()
    create(new)
    time.sleep(_OVER_S)
    told = cluster.unsolicited(lab, began)
    peaks = [frames.peak([one.time for one in told if one.port == node.name]) for node in lab.nodes]
    return Seen(len(told), max(peaks), [_cut(lab, ip) for ip in itertools.islice(new, _CUTS)])


def _cut(lab: Lab, ip: IPv4Address) -> float:
    """Take its owner off the networks; how long does a client go without?"""
    prober = Prober(lab, ip)
    try:
        time.sleep(1.0)
        owner = _owner(lab, ip)
        at = time.monotonic()
        lab.cut(owner)
        time.sleep(_GONE_S)
    finally:
        seen = prober.stop()
    lab.heal(owner)
    time.sleep(_BACK_S)
    return seen.gap(at - 0.1, time.monotonic() - _BACK_S - 0.1)


def _owner(lab: Lab, ip: IPv4Address) -> str:
    shown = lab.exec("client", ["ip", "neigh", "show", str(ip), "dev", "eth0"]).stdout
    for node in lab.nodes:
        if node.mac.hex(":") in shown:
            return node.name
    raise Unavailable(f"the client knows no node for {ip}: {shown}")


# --- the two sides --------------------------------------------------------------------------------------


@contextlib.contextmanager
def _ours() -> Iterator[tuple[Lab, Create]]:
    with cluster.lab() as lab:
        yield lab, lambda ips: _create(lab, [_named(ip, loadBalancerIP=str(ip)) for ip in ips])


@contextlib.contextmanager
def _theirs(speaker: Path, manifest: Path) -> Iterator[tuple[Lab, Create]]:
    name = f"bench{os.getpid()}-metallb"
    with contextlib.ExitStack() as cleaning:
        cleaning.callback(labs.remove, name)
        lab = Lab.up(name, 3, "exabgp", guard_pps=None, programs=False)
        _apply(lab, [one for one in yaml.safe_load_all(manifest.read_text()) if _is_needed(one)])
        with Api(cluster.client_of(lab)) as api:
            for node in lab.nodes:
                pods = f"/api/v1/namespaces/{_NAMESPACE}/pods"
                api.request("POST", pods, _pod(node))
                api.request("PATCH", f"{pods}/speaker-{node.name}/status", {"status": _pod(node)["status"]})
        _apply(lab, [_object("IPAddressPool", {"addresses": [POOL]}), _object("L2Advertisement", {})])
        for node in lab.nodes:
            cleaning.enter_context(_speaker(lab, node, speaker))
        time.sleep(_TOGETHER_S)
        yield lab, lambda ips: _create_with_status(lab, ips)


def _create(lab: Lab, services: list[Manifest]) -> None:
    cluster.create(cluster.client_of(lab), services)


def _create_with_status(lab: Lab, ips: list[IPv4Address]) -> None:
    _create(lab, [_named(ip) for ip in ips])
    given = [(f"{SERVICES}/{_name(ip)}/status", _ingress(ip)) for ip in ips]
    each(cluster.client_of(lab), "PATCH", given)


def _name(ip: IPv4Address) -> str:
    return f"web{int(ip) - int(FIRST)}"


def _named(ip: IPv4Address, **spec: object) -> Manifest:
    return service(_name(ip), **spec)


def _ingress(ip: IPv4Address) -> Manifest:
    return {"status": {"loadBalancer": {"ingress": [{"ip": str(ip)}]}}}


def _is_needed(one: Manifest | None) -> bool:
    if one is None or one["kind"] not in {"Namespace", "CustomResourceDefinition"}:
        return False
    one["spec"] = {key: value for key, value in one.get("spec", {}).items() if key != "conversion"}
    return True


def _apply(lab: Lab, objects: list[Manifest]) -> None:
    argv = ["kubectl", "--kubeconfig", lab.kubeconfig, "apply", "--server-side", "-f", "-"]
    subprocess.run(argv, input=yaml.safe_dump_all(objects), text=True, capture_output=True, check=True)


def _object(kind: str, spec: Manifest) -> Manifest:
    metadata = {"name": "bench", "namespace": _NAMESPACE}
    return {"apiVersion": "metallb.io/v1beta1", "kind": kind, "metadata": metadata, "spec": spec}


def _pod(node: LabNode) -> Manifest:
    """Its speakers find each other by their Pods."""
    ip = str(node.ipv4)
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {
            "name": f"speaker-{node.name}",
            "namespace": _NAMESPACE,
            "labels": {"app": "metallb", "component": "speaker"},
        },
        "spec": {"nodeName": node.name, "containers": [{"name": "speaker", "image": "metallb"}]},
        "status": {"phase": "Running", "podIP": ip, "podIPs": [{"ip": ip}]},
    }


@contextlib.contextmanager
def _speaker(lab: Lab, node: LabNode, program: Path) -> Iterator[None]:
    environment = {
        "KUBECONFIG": str(lab.node_kubeconfig),
        "METALLB_NODE_NAME": node.name,
        "METALLB_POD_NAME": f"speaker-{node.name}",
        "METALLB_NAMESPACE": _NAMESPACE,
        "METALLB_HOST": str(node.ipv4),
        "METALLB_ML_BIND_ADDR": str(node.ipv4),
        "METALLB_ML_LABELS": "app=metallb,component=speaker",
        "METALLB_BGP_TYPE": "native",
    }
    argv = namespaces.command(lab.topology.namespace(node.name), [str(program), "--port=7472"])
    with (lab.directory / f"metallb-{node.name}.log").open("wb") as log:
        process = subprocess.Popen(argv, env=os.environ | environment, stdout=log, stderr=log)
    try:
        yield
    finally:
        process.terminate()
        process.wait(10)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--speaker", type=Path, required=True, help="MetalLB's speaker")
    parser.add_argument("--manifest", type=Path, required=True, help="its manifest with CRDs")
    options = parser.parse_args()
    print(table(compare(options.speaker, options.manifest)))


if __name__ == "__main__":
    sys.exit(main())
