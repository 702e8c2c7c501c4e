"""The upstream router of the lab: FRR, BIRD 2 or ExaBGP, whichever is installed, in the namespace `router`.

AS 64512, peering by eBGP with every node (AS 64513). It takes the lab's service networks and what is inside
them, nothing else. It asks for no short hold time, so that the peer's counts (RFC 4271 §4.2). Up to eight
equal routes to a prefix share the traffic, also in the kernel. FRR speaks BFD with nodes that do. Nothing of
a router that runs on this machine is touched: configuration, sockets and logs are in a directory of the lab.
"""

import grp
import re
import shutil
import stat
import sys
import time
from collections.abc import Callable, Sequence
from ipaddress import ip_address
from pathlib import Path
from typing import Any, Literal, assert_never

import msgspec

from lbspeaker.errors import Unable, Unavailable
from lbspeaker.lab import namespaces
from lbspeaker.lab.topology import NODES_AS, ROUTER_AS, SERVICE_NETWORKS, LabNode, Topology
from lbspeaker.model import Network

RouterKind = Literal["frr", "bird", "exabgp"]
Table = dict[str, list[str]]  # prefix → next hops, both as text, next hops in order
Spawn = Callable[[str, Sequence[str], dict[str, str]], None]  # name, command line, environment

KINDS: tuple[RouterKind, ...] = ("frr", "bird", "exabgp")
MULTIPATH = 8
_START_S = 15.0

_FRR = Path("/usr/lib/frr")


def installed() -> list[RouterKind]:
    """Return the routers that can run here, the preferred first. ExaBGP comes with lbspeaker."""
    return [kind for kind in KINDS if not _obstacle(kind)]


def choose(wanted: RouterKind | None) -> RouterKind:
    """Return `wanted`, or the best there is. Raises Unable if the wanted one cannot run here."""
    if wanted is None:
        return installed()[0]
    if reason := _obstacle(wanted):
        raise Unable(f"router {wanted} cannot run here: {reason}", f"--router {installed()[0]}")
    return wanted


def _obstacle(kind: RouterKind) -> str:
    match kind:
        case "frr":
            if not (_FRR / "bgpd").exists() or not shutil.which("vtysh"):
                return "it is not installed"
            # FRR changes its groups when it starts, which a user namespace of an ordinary user forbids
            if Path("/proc/self/setgroups").read_text().strip() != "allow":
                return "it needs root outside of a user namespace"
            return "" if _frr_group() is not None else "there is no group frr"
        case "bird":
            return "" if shutil.which("bird") and shutil.which("birdc") else "it is not installed"
        case "exabgp":
            return ""
    assert_never(kind)


class Router:
    """A router in its namespace; `directory` has its configuration, its sockets and its logs."""

    def __init__(self, kind: RouterKind, namespace: str, directory: Path) -> None:
        self.kind = kind
        self.namespace = namespace
        self.directory = directory

    def start(self, lab: Topology, spawn: Spawn, networks: Sequence[Network] = SERVICE_NETWORKS) -> None:
        """Write the configuration and start the daemons through `spawn`; returns when it takes routes.

        Raises Unavailable if a daemon does not come up.
        """
        self.directory.mkdir(parents=True, exist_ok=True)
        match self.kind:
            case "frr":
                self._start_frr(lab, networks, spawn)
            case "bird":
                self._write("bird.conf", bird(lab, networks))
                control = f"-c {self.directory}/bird.conf -s {self.directory}/bird.ctl"
                spawn("router", ["bird", "-f", *control.split()], {})
                self._wait_for("bird.ctl")
            case "exabgp":
                self._write("table.json", "{}")
                helper = [sys.executable, "-m", "lbspeaker.lab.exarouter", f"{self.directory}/table.json"]
                self._write("exabgp.conf", exabgp(lab, [*helper, *map(str, networks)]))
                spawn(
                    "router",
                    [sys.executable, "-m", "exabgp", "server", f"{self.directory}/exabgp.conf"],
                    _exabgp_environment(lab),
                )
                self._wait_for_port()

    def table(self) -> Table:
        """Return the router's own BGP table: to each prefix the next hops of its equally good best routes.

        Raises Unavailable if the router does not answer.
        """
        match self.kind:
            case "frr":
                return self._frr_table("ipv4") | self._frr_table("ipv6")
            case "bird":
                return bird_table(self._ask(["birdc", "-s", f"{self.directory}/bird.ctl", "show route"]))
            case "exabgp":
                text = (self.directory / "table.json").read_bytes()
                return msgspec.json.decode(text, type=dict[str, list[str]])

    def kernel(self) -> Table:
        """Return the routes that the kernel of the router has by BGP: what packets follow."""
        found: Table = {}
        for family in ("-4", "-6"):
            listing = self._ask(["ip", "-json", family, "route", "show"])
            for route in msgspec.json.decode(listing or "[]"):
                if route.get("protocol") in ("bgp", "bird"):
                    found.setdefault(_prefix(route["dst"]), []).extend(_next_hops(route))
        return {prefix: _ordered(hops) for prefix, hops in found.items()}

    def _start_frr(self, lab: Topology, networks: Sequence[Network], spawn: Spawn) -> None:
        """zebra before bgpd, which else tries again only after ten seconds. All run as user frr."""
        shutil.chown(self.directory, "frr", "frr")
        self._write("zebra.conf", "hostname router\n")
        self._write("bfdd.conf", _FRR_BFD)
        self._write("bgpd.conf", frr(lab, networks))
        for daemon, socket in (("zebra", "zserv.api"), ("bfdd", "bfdd.vty"), ("bgpd", "bgpd.vty")):
            files = f"-f {self.directory}/{daemon}.conf -i {self.directory}/{daemon}.pid"
            sockets = f"-z {self.directory}/zserv.api --vty_socket {self.directory} --vty_port 0"
            sockets += f" --bfdctl {self.directory}/bfdd.sock" if daemon == "bfdd" else ""
            argv = [str(_FRR / daemon), *files.split(), *sockets.split(), "--log", "stdout"]
            spawn("router" if daemon == "bgpd" else f"router-{daemon}", argv, {})
            self._wait_for(socket)

    def _frr_table(self, family: str) -> Table:
        said = self._ask(
            ["vtysh", "--vty_socket", str(self.directory), "-c", f"show bgp {family} unicast json"]
        )
        return frr_table(said)

    def _ask(self, argv: list[str]) -> str:
        done = namespaces.run(self.namespace, argv)
        if done.returncode != 0:
            reason = (done.stderr or done.stdout).strip()
            raise Unavailable(f"the router ({self.kind}) does not answer: {reason}", f"see {self.directory}")
        return done.stdout

    def _write(self, name: str, text: str) -> None:
        path = self.directory / name
        path.write_text(text)
        path.chmod(0o644)

    def _wait_for(self, socket: str) -> None:
        path = self.directory / socket
        self._wait(lambda: path.exists() and stat.S_ISSOCK(path.stat().st_mode), f"{socket} is not there")

    def _wait_for_port(self) -> None:
        listing = ["ss", "-Hltn", "sport = 179"]
        self._wait(lambda: bool(namespaces.run(self.namespace, listing).stdout), "nobody listens on port 179")

    def _wait(self, done: Callable[[], bool], what: str) -> None:
        deadline = time.monotonic() + _START_S
        while not done():
            if time.monotonic() > deadline:
                raise Unavailable(f"the router ({self.kind}) does not start: {what}", f"see {self.directory}")
            time.sleep(0.02)


# --- configurations -------------------------------------------------------------------------------------


# As quick as speakers may wish; the slower wish of both counts.
_FRR_BFD = """hostname router
bfd
 profile NODES
  detect-multiplier 3
  receive-interval 100
  transmit-interval 100
"""


def frr(lab: Topology, networks: Sequence[Network]) -> str:
    """Return bgpd's configuration: each node is a neighbour by name, and calls.

    No listen range: when BFD ends a session that came by one, FRR 8.4 sometimes puts the next one into a peer
    that has no table.
    """
    lines = ["frr defaults traditional", "hostname router"]
    for number, network in enumerate(networks, 1):
        ip = "ip" if network.version == 4 else "ipv6"
        lines.append(
            f"{ip} prefix-list SERVICE-IPS-{network.version} seq {number} "
            f"permit {network} le {network.max_prefixlen}"
        )
    lines += [
        "route-map NODES-IN permit 10",
        " match ip address prefix-list SERVICE-IPS-4",
        "route-map NODES-IN permit 20",
        " match ipv6 address prefix-list SERVICE-IPS-6",
        "route-map NOTHING deny 10",
        f"router bgp {ROUTER_AS}",
        " bgp router-id 192.0.2.1",
        " no bgp default ipv4-unicast",
        " neighbor NODES peer-group",
        f" neighbor NODES remote-as {NODES_AS}",
        " neighbor NODES passive",
        " neighbor NODES bfd profile NODES",
        *(
            f" neighbor {address} peer-group NODES"
            for node in lab.nodes
            for address in (node.ipv4, node.ipv6)
        ),
    ]
    for family in ("ipv4", "ipv6"):
        lines += [
            f" address-family {family} unicast",
            "  neighbor NODES activate",
            "  neighbor NODES route-map NODES-IN in",
            "  neighbor NODES route-map NOTHING out",
            f"  maximum-paths {MULTIPATH}",
            " exit-address-family",
        ]
    return "\n".join(lines) + "\n"


def bird(lab: Topology, networks: Sequence[Network]) -> str:
    """Return BIRD 2's configuration: one passive protocol per node and family of the session.

    Its waits after an error are minutes by default; here a peer that comes back is welcome at once.
    """
    inner = {
        version: ", ".join(
            f"{net}{{{net.prefixlen},{net.max_prefixlen}}}" for net in networks if net.version == version
        )
        for version in (4, 6)
    }
    lines = ["router id 192.0.2.1;", "protocol device { scan time 1; }"]
    for version in (4, 6):
        lines += [
            f"filter service_ips_{version} {{ if net ~ [ {inner[version]} ] then accept; reject; }}",
            f"protocol kernel kernel{version} {{",
            f"  ipv{version} {{ import none; export where source = RTS_BGP; }};",
            f"  merge paths on limit {MULTIPATH};",
            "}",
        ]
    for node in lab.nodes:
        for version, address in ((4, node.ipv4), (6, node.ipv6)):
            lines += [
                f"protocol bgp {node.name.replace('-', '_')}_{version} {{",
                f"  local as {ROUTER_AS};",
                f"  neighbor {address} as {NODES_AS};",
                "  passive on; error wait time 1, 2; error forget time 1;",
                "  ipv4 { import filter service_ips_4; export none; };",
                "  ipv6 { import filter service_ips_6; export none; };",
                "}",
            ]
    return "\n".join(lines) + "\n"


def exabgp(lab: Topology, helper: Sequence[str]) -> str:
    """Return ExaBGP's configuration: it waits for the nodes, and tells `helper` what they announce."""
    lines = ["process table {", f"    run {' '.join(helper)};", "    encoder json;", "}"]
    for node in lab.nodes:
        lines += _exabgp_neighbor(lab, node, 4) + _exabgp_neighbor(lab, node, 6)
    return "\n".join(lines) + "\n"


def _exabgp_neighbor(lab: Topology, node: LabNode, version: int) -> list[str]:
    peer, local = (node.ipv4, lab.router.ipv4) if version == 4 else (node.ipv6, lab.router.ipv6)
    return [
        f"neighbor {peer} {{",
        f"    router-id {lab.router.ipv4};",
        f"    local-address {local};",
        f"    local-as {ROUTER_AS};",
        f"    peer-as {NODES_AS};",
        "    passive true;",
        "    family { ipv4 unicast; ipv6 unicast; }",
        "    api { processes [ table ]; neighbor-changes; receive { parsed; update; } }",
        "}",
    ]


def _exabgp_environment(lab: Topology) -> dict[str, str]:
    return {
        "exabgp_api_ack": "false",
        "exabgp_api_cli": "false",
        "exabgp_daemon_drop": "false",
        "exabgp_daemon_user": "root",  # the helper gives the kernel its routes
        "exabgp_log_destination": "stderr",
        "exabgp_log_level": "WARNING",
        "exabgp_tcp_bind": f"{lab.router.ipv4} {lab.router.ipv6}",
    }


# --- what they answer -----------------------------------------------------------------------------------


def frr_table(said: str) -> Table:
    """Return the table of FRR's `show bgp ipv4 unicast json`: best routes and those that share with them."""
    routes: dict[str, list[dict[str, Any]]] = msgspec.json.decode(said).get("routes", {})
    table: Table = {}
    for prefix, paths in routes.items():
        used = [path for path in paths if path.get("bestpath") or path.get("multipath")]
        # of the two next hops of IPv6, link-local and global, the global one says who it is
        hops = {hop["ip"] for path in used for hop in path["nexthops"] if not hop["ip"].startswith("fe80:")}
        if hops:
            table[prefix] = _ordered(hops)
    return table


_BIRD_PREFIX = re.compile(r"^([0-9a-f.:]+/\d+)\s+(?:unicast|unreachable)")
_BIRD_NEXT_HOP = re.compile(r"^\tvia ([0-9a-f.:]+) on ")


def bird_table(said: str) -> Table:
    """Return the table of BIRD's `show route`."""
    table: Table = {}
    prefix = ""
    for line in said.splitlines():
        if found := _BIRD_PREFIX.match(line):
            prefix = found[1]
        elif prefix and (found := _BIRD_NEXT_HOP.match(line)):
            table[prefix] = _ordered({*table.get(prefix, []), found[1]})
    return table


def _prefix(destination: str) -> str:
    """`ip` leaves out the length of a host's route."""
    if "/" in destination or destination == "default":
        return destination
    return f"{destination}/{ip_address(destination).max_prefixlen}"


def _next_hops(route: dict[str, Any]) -> list[str]:
    return [hop["gateway"] for hop in route.get("nexthops", [route]) if "gateway" in hop]


def _ordered(hops: Sequence[str] | set[str]) -> list[str]:
    return sorted(set(hops), key=lambda hop: (ip_address(hop).version, int(ip_address(hop))))


def _frr_group() -> int | None:
    try:
        return grp.getgrnam("frr").gr_gid
    except KeyError:
        return None
