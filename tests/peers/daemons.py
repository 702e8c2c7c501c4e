"""Four BGP daemons as one kind of router: told the same neighbors, and asked for their tables in one form."""

import json
import re
import shutil
import signal
import subprocess
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from ipaddress import ip_address, ip_network
from pathlib import Path
from typing import Any

import pytest

from lbspeaker.model import Network, Peer
from tests.peers.conftest import (
    BGPD,
    NODE_AS,
    ROUTER_AS,
    ROUTER_IP,
    Bird,
    Frr,
    Seen,
    Segment,
    eventually,
    run,
)

OPENBGPD = Path("/usr/sbin/bgpd")
WELL_KNOWN = {"noExport": "65535:65281", "NO_EXPORT": "65535:65281"}


@dataclass(frozen=True)
class Link:
    """A session, as both of its ends are told."""

    name: str
    node: str
    router: str
    node_as: int = NODE_AS
    password: str | None = None
    hops: int = 1  # more: by way of others
    ttl_hops: int | None = None
    restart: bool = False

    @property
    def ibgp(self) -> bool:
        return self.node_as == ROUTER_AS

    def peer(self) -> Peer:
        return Peer(
            self.name,
            self.node_as,
            ROUTER_AS,
            ip_address(self.router),
            source_address=ip_address(self.node),
            hold_time_s=9,
            ebgp_multihop=self.hops > 1,
            ttl_hops=self.ttl_hops,
            graceful_restart_s=60 if self.restart else None,
            password=self.password,
        )


@dataclass
class Router:
    """A daemon that runs: `table` asks for what it has, `stop` ends it."""

    serve: Callable[[Sequence[Link]], None]
    table: Callable[[], dict[Network, Seen]]
    stop: Callable[[], None]


@contextmanager
def router(name: str, segment: Segment, directory: Path) -> Iterator[Router]:
    """The daemon called `name`, not started; ended at the end. Skips the test where it is not installed."""
    directory.mkdir()
    made = {"frr": _frr, "bird": _bird, "gobgp": _gobgp, "openbgpd": _openbgpd}[name](segment, directory)
    try:
        yield made
    finally:
        made.stop()


def _need(found: object, package: str) -> None:
    if not found:
        pytest.skip(f"{package} is not installed (apt install {package})")


@dataclass
class Process:
    """A daemon in the namespace of the router."""

    segment: Segment
    directory: Path
    process: subprocess.Popen[bytes] | None = None

    def start(self, words: Sequence[str], is_ready: Callable[[], bool]) -> None:
        with (self.directory / "log").open("ab") as log:
            command = self.segment.command(self.segment.router, *words)
            self.process = subprocess.Popen(command, stdout=log, stderr=log)
        if not eventually(is_ready):
            raise RuntimeError(f"{words[0]} does not start: {(self.directory / 'log').read_text()}")

    def stop(self) -> None:
        if self.process is not None:
            self.process.send_signal(signal.SIGTERM)
            with suppress(subprocess.TimeoutExpired):
                self.process.wait(3)
            self.process.kill()
            self.process.wait()
            self.process = None


# --- FRR ------------------------------------------------------------------------------------------------


def _frr(segment: Segment, directory: Path) -> Router:
    _need(BGPD.exists() and shutil.which("vtysh"), "frr")
    daemon = Frr(segment, directory)

    def serve(links: Sequence[Link]) -> None:
        (directory / "bgpd.conf").write_text("\n".join(frr_lines(links)) + "\n")
        daemon.restart()

    def table() -> dict[Network, Seen]:
        return {prefix: _numeric(seen) for prefix, seen in (daemon.table(4) | daemon.table(6)).items()}

    return Router(serve, table, daemon.stop)


def frr_lines(links: Iterable[Link]) -> list[str]:
    lines = ["hostname router", f"router bgp {ROUTER_AS}", f" bgp router-id {ROUTER_IP}"]
    lines += [" no bgp ebgp-requires-policy", " no bgp network import-check", " bgp default ipv6-unicast"]
    for link in links:
        said = [f"remote-as {link.node_as}", "passive", f"update-source {link.router}"]
        said += [f"password {link.password}"] if link.password else []
        said += [f"ebgp-multihop {link.hops}"] if link.hops > 1 else []
        said += [f"ttl-security hops {link.ttl_hops}"] if link.ttl_hops else []
        said += ["graceful-restart-helper"] if link.restart else []
        lines += [f" neighbor {link.node} {words}" for words in said]
    for family in (4, 6):
        lines += [f" address-family ipv{family} unicast"]
        lines += [f"  neighbor {link.node} activate" for link in links]
        lines += [" exit-address-family"]
    return lines


def _numeric(seen: Seen) -> Seen:
    communities = tuple(WELL_KNOWN.get(each, each) for each in seen.communities)
    return Seen(seen.next_hop, seen.local_pref, communities, seen.med, seen.prepend)


# --- BIRD -----------------------------------------------------------------------------------------------


def _bird(segment: Segment, directory: Path) -> Router:
    _need(shutil.which("bird") and shutil.which("birdc"), "bird2")
    daemon = Bird(segment, directory)

    def table() -> dict[Network, Seen]:
        return {prefix: _bird_seen(attributes) for prefix, attributes in daemon.table().items()}

    return Router(lambda links: daemon.serve("\n".join(bird_lines(links)) + "\n"), table, daemon.stop)


def bird_lines(links: Iterable[Link]) -> list[str]:
    lines = [f"router id {ROUTER_IP};", "protocol device {}"]
    for link in links:
        options = [f'password "{link.password}";'] if link.password else []
        options += [f"multihop {link.hops};"] if link.hops > 1 else ["direct;"]
        options += ["ttl security on;"] if link.ttl_hops else []
        lines += [
            f"protocol bgp {link.name} {{ local {link.router} as {ROUTER_AS};",
            f"  neighbor {link.node} as {link.node_as}; passive; {' '.join(options)}",
            "  ipv4 { import all; export none; }; ipv6 { import all; export none; }; }",
        ]
    return lines


def _bird_seen(attributes: dict[str, str]) -> Seen:
    standard = re.findall(r"\((\d+),(\d+)\)", attributes.get("community", ""))
    large = re.findall(r"\((\d+), (\d+), (\d+)\)", attributes.get("large_community", ""))
    return Seen(
        attributes["next_hop"].split()[0],
        int(attributes["local_pref"]) if "local_pref" in attributes else None,
        (*(":".join(each) for each in standard), *(":".join(("large", *each)) for each in large)),
        int(attributes["med"]) if "med" in attributes else None,
        _prepend(attributes.get("as_path", "").split()),
    )


def _prepend(path: Sequence[object]) -> int:
    return max(len(path) - 1, 0)


# --- GoBGP ----------------------------------------------------------------------------------------------


def _gobgp(segment: Segment, directory: Path) -> Router:
    _need(shutil.which("gobgpd") and shutil.which("gobgp"), "gobgpd")
    daemon = Process(segment, directory)
    control = f"unix://{directory}/ctl"

    def ask(*words: str) -> str:
        return run("gobgp", "--target", control, "-j", *words, check=False).stdout

    def serve(links: Sequence[Link]) -> None:
        (directory / "conf").write_text(json.dumps(gobgp_configuration(links)))
        words = ["gobgpd", "-t", "json", "-f", f"{directory}/conf", "--api-hosts", control]
        daemon.start([*words, "--pprof-disable"], lambda: ask("neighbor").startswith("["))

    def table() -> dict[Network, Seen]:
        answers = [json.loads(ask("global", "rib", "-a", f"ipv{family}") or "{}") for family in (4, 6)]
        found = [each for answer in answers if isinstance(answer, dict) for each in answer.items()]
        return {ip_network(prefix): _gobgp_seen(paths[0]) for prefix, paths in found}

    return Router(serve, table, daemon.stop)


def gobgp_configuration(links: Iterable[Link]) -> dict[str, Any]:
    everywhere = {"as": ROUTER_AS, "router-id": ROUTER_IP, "local-address-list": ["0.0.0.0", "::"]}
    return {"global": {"config": everywhere}, "neighbors": [_gobgp_neighbor(link) for link in links]}


def _gobgp_neighbor(link: Link) -> dict[str, Any]:
    config: dict[str, Any] = {"neighbor-address": link.node, "peer-as": link.node_as}
    neighbor = {
        "config": config | ({"auth-password": link.password} if link.password else {}),
        "transport": {"config": {"passive-mode": True, "local-address": link.router}},
        "afi-safis": [{"config": {"afi-safi-name": f"ipv{family}-unicast"}} for family in (4, 6)],
    }
    if link.hops > 1:
        neighbor["ebgp-multihop"] = {"config": {"enabled": True, "multihop-ttl": link.hops}}
    if link.ttl_hops:
        neighbor["ttl-security"] = {"config": {"enabled": True, "ttl-min": 256 - link.ttl_hops}}
    if link.restart:
        neighbor["graceful-restart"] = {"config": {"enabled": True, "helper-only": True, "restart-time": 60}}
        for family in neighbor["afi-safis"]:
            family["mp-graceful-restart"] = {"config": {"enabled": True}}
    return neighbor


def _gobgp_seen(path: dict[str, Any]) -> Seen:
    """The types: 2 AS_PATH, 3 NEXT_HOP, 4 MED, 5 LOCAL_PREF, 8 and 32 communities, 14 MP_REACH_NLRI."""
    by_type = {attribute["type"]: attribute for attribute in path["attrs"]}
    standard = by_type.get(8, {}).get("communities", [])
    large = by_type.get(32, {}).get("value", [])
    return Seen(
        (by_type.get(3) or by_type[14])["nexthop"],
        by_type.get(5, {}).get("value"),
        (
            *(f"{each >> 16}:{each & 0xFFFF}" for each in standard),
            *(f"large:{each['ASN']}:{each['LocalData1']}:{each['LocalData2']}" for each in large),
        ),
        by_type.get(4, {}).get("metric"),
        _prepend([asn for segment in by_type[2].get("as_paths", []) for asn in segment["asns"]]),
    )


# --- OpenBGPD -------------------------------------------------------------------------------------------


def _openbgpd(segment: Segment, directory: Path) -> Router:
    """It confines itself to a directory below /run, which it gets for itself alone."""
    _need(OPENBGPD.exists() and shutil.which("bgpctl"), "openbgpd")
    daemon = Process(segment, directory)

    def ask(*words: str) -> str:
        return run("bgpctl", "-s", f"{directory}/ctl", "-j", *words, check=False).stdout

    def serve(links: Sequence[Link]) -> None:
        file = directory / "conf"
        file.write_text("\n".join(openbgpd_lines(links, f"{directory}/ctl")) + "\n")
        file.chmod(0o600)
        alone = f"mount -t tmpfs none /run && mkdir /run/openbgpd && exec {OPENBGPD} -d -f {file}"
        daemon.start(["sh", "-c", alone], lambda: ask("show").startswith("{"))

    def table() -> dict[Network, Seen]:
        routes = json.loads(ask("show", "rib", "detail") or "{}").get("rib", [])
        return {ip_network(route["prefix"]): _openbgpd_seen(route) for route in routes}

    return Router(serve, table, daemon.stop)


def openbgpd_lines(links: Iterable[Link], control: str) -> list[str]:
    lines = [f"AS {ROUTER_AS}", f"router-id {ROUTER_IP}", "fib-update no", f'socket "{control}"']
    lines += ["listen on 0.0.0.0", "listen on ::"]
    for link in links:
        options = [f'tcp md5sig password "{link.password}"'] if link.password else []
        options += [f"multihop {link.hops}"] if link.hops > 1 else []
        options += ["ttl-security yes"] if link.ttl_hops else []
        lines += [f"neighbor {link.node} {{", f"remote-as {link.node_as}", f"local-address {link.router}"]
        lines += ["passive", "announce IPv4 unicast", "announce IPv6 unicast", *options, "}"]
    return [*lines, "allow from any"]


def _openbgpd_seen(route: dict[str, Any]) -> Seen:
    """It does not tell a MED of 0 from none."""
    communities = [WELL_KNOWN.get(each, each) for each in route.get("communities", [])]
    return Seen(
        route["exit_nexthop"],
        route.get("localpref"),
        (*communities, *(f"large:{each}" for each in route.get("large_communities", []))),
        route.get("metric") or None,
        _prepend(route["aspath"].split()),
    )
