"""`lbspeaker upstream`: the router's side, as it must be (`config`) and as it is (`check`)."""

import json
import sys
from pathlib import Path
from typing import Any

import click
from rich.console import Console
from rich.text import Text

from lbspeaker.cli import screen
from lbspeaker.cli.source import Command, cluster, read
from lbspeaker.core.allocator import ours
from lbspeaker.core.upstream import expected as routes_of
from lbspeaker.core.upstream import upstream as decided
from lbspeaker.core.upstream_check import check as compare
from lbspeaker.core.words import listed
from lbspeaker.errors import Unable, plain
from lbspeaker.model import Network, Peer, Snapshot
from lbspeaker.upstream import Expected, Finding, RouterView, Upstream
from lbspeaker.wire import upstream_opnsense
from lbspeaker.wire.upstream_text import ROUTERS

_MOST_NAMED = 6

_SOURCES = (
    click.argument("paths", nargs=-1, metavar="[PATH…]"),
    click.option("--peer", metavar="NAME", help="The BGPPeer whose router is meant, if there are several."),
    cluster,
    click.option("-o", "--output", type=click.Choice(["text", "json"]), default="text", show_default=True),
)


def sources(command: Command) -> Command:
    """The arguments that both commands have."""
    for each in reversed(_SOURCES):
        command = each(command)
    return command


@click.group()
def upstream() -> None:
    """The router's side of BGP: print its configuration, and check what it has."""


@upstream.command()
@click.option("--for", "router", type=click.Choice(list(ROUTERS)), required=True, help="Which router it is.")
@sources
def config(router: str, output: str, peer: str | None, **source: Any) -> None:
    """Print what the router must have: neighbours, import policy, multipath, timers.

    PATH is a file, a directory or - (stdin), with configuration and the Nodes of the cluster; without one the
    cluster itself is asked. FRR's and BIRD's are tested with the real thing, the others are from
    documentation. Exit status: 0 printed, 1 the documents are wrong, 2 wrong usage, 3 it cannot be done.

    \b
    Examples:
      lbspeaker upstream config --for opnsense examples/opnsense
      kubectl get nodes -o yaml | lbspeaker upstream config --for frr - pools.yaml
      lbspeaker upstream config --for bird --kubeconfig ~/.kube/config
    """
    _, snapshot = read(**source)
    up = decided(snapshot, _peer(snapshot, peer))
    text = ROUTERS[router](up)
    if output == "text":
        click.echo(text, nl=False)
        return
    found: dict[str, Any] = {"for": router, "upstream": as_json(up), "configuration": text}
    if router == "opnsense":
        found["steps"] = [
            {"page": step.page, "fields": [{"field": f, "value": v} for f, v in step.fields]}
            for step in upstream_opnsense.steps(up)
        ]
        found["calls"] = [
            {"method": "POST", "path": f"/api/{call.path}", "body": call.body, "keep": call.keep or None}
            for call in upstream_opnsense.calls(up)
        ]
    click.echo(json.dumps(found, indent=2))


@upstream.command()
@click.option("--frr", metavar="COMMAND", help="Runs vtysh there: 'ssh router vtysh'.")
@click.option("--bird", metavar="COMMAND", help="Runs birdc there: 'ssh router birdc -r'.")
@click.option("--opnsense", metavar="URL", help="An OPNsense with os-frr: https://192.0.2.1.")
@click.option(
    "--key-file",
    type=click.Path(path_type=Path),
    help="apikey.txt as OPNsense gave it; else $OPNSENSE_KEY and $OPNSENSE_SECRET.",
)
@click.option("--ca", type=click.Path(path_type=Path), help="PEM file: who signed OPNsense's certificate.")
@click.option("--insecure", is_flag=True, help="Believe any certificate of OPNsense.")
@click.option("--timeout", default=30.0, show_default=True, help="Seconds to wait for one answer.")
@click.option("--lb-class", "load_balancer_class", metavar="CLASS", help="Services of this class are ours.")
@sources
def check(
    frr: str | None,
    bird: str | None,
    opnsense: str | None,
    key_file: Path | None,
    ca: Path | None,
    insecure: bool,
    timeout: float,
    load_balancer_class: str | None,
    output: str,
    peer: str | None,
    **source: Any,
) -> None:
    """Ask the router whether our routes are there, and tell what is wrong.

    Nothing is changed there. The COMMAND is run without a shell, a question as its last argument. PATH as
    for `config`, with Services and EndpointSlices, too, so that it is known which routes there should be.
    Exit status: 0 all is well (notes allowed), 1 something is wrong, 2 wrong usage, 3 it cannot be told.

    \b
    Examples:
      lbspeaker upstream check --frr 'ssh router vtysh'
      kubectl get nodes,svc,endpointslices -A -o yaml | lbspeaker upstream check --bird birdc - pools.yaml
      lbspeaker upstream check --opnsense https://192.0.2.1 --key-file apikey.txt
    """
    if sum(one is not None for one in (frr, bird, opnsense)) != 1:
        raise click.UsageError("give one of --frr, --bird and --opnsense")
    if opnsense is None and (key_file or ca or insecure):
        raise click.UsageError("--key-file, --ca and --insecure go with --opnsense")
    _, snapshot = read(**source)
    chosen = _peer(snapshot, peer)
    up = decided(snapshot, chosen)
    view = _view(up, frr, bird, opnsense, key_file, ca, insecure, timeout)
    expected = routes_of(snapshot, chosen.name, load_balancer_class)
    findings = compare(up, expected, view, spreads=_spreads(snapshot, expected, load_balancer_class))
    if output == "json":
        click.echo(json.dumps(_checked(up, expected, view, findings), indent=2))
    else:
        _print(up, expected, view, findings)
    sys.exit(1 if any(finding.severity != "note" for finding in findings) else 0)


# --- what is read ---------------------------------------------------------------------------------------


def _peer(snapshot: Snapshot, name: str | None) -> Peer:
    peers = {peer.name: peer for peer in snapshot.config.peers}
    names = ", ".join(sorted(peers))
    if not peers:
        raise Unable("there is no BGPPeer in the configuration", "create one for the router")
    if name is not None and name not in peers:
        raise Unable(f"there is no BGPPeer {name}", f"there is: {names}")
    if name is None and len(peers) > 1:
        raise click.UsageError(f"there are several BGPPeers; choose one with --peer: {names}")
    return peers[name] if name is not None else next(iter(peers.values()))


def _view(
    up: Upstream,
    frr: str | None,
    bird: str | None,
    opnsense: str | None,
    key_file: Path | None,
    ca: Path | None,
    insecure: bool,
    timeout_s: float,
) -> RouterView:
    from lbspeaker.observe import router
    from lbspeaker.shell.rest import Rest, key_from_environment, key_from_file

    if frr is not None:
        return router.from_frr(frr, up, timeout_s)
    if bird is not None:
        return router.from_bird(bird, up, timeout_s)
    key = key_from_file(key_file) if key_file else key_from_environment()
    return router.from_opnsense(
        Rest(opnsense or "", key, verify=not insecure, ca=ca, timeout_s=timeout_s), up
    )


def _spreads(snapshot: Snapshot, expected: Expected, load_balancer_class: str | None) -> bool:
    several = any(len(routes) > 1 for routes in expected.values())
    services = (s for s in snapshot.services.values() if ours(s, load_balancer_class))
    return several and any(service.held and not service.local for service in services)


# --- for machines ---------------------------------------------------------------------------------------


def as_json(up: Upstream) -> dict[str, Any]:
    """Return what the router must have, in the form of `-o json`."""
    return {
        "peer": up.peer,
        "asn": up.asn,
        "nodesASN": up.nodes_asn,
        "address": str(up.address) if up.address else None,
        "port": up.port,
        "neighbors": [{"node": n.node, "address": str(n.address)} for n in up.neighbors],
        "prefixes": [
            {"list": one.name, "network": str(accepted.network), "length": accepted.length}
            for one in up.prefix_lists
            for accepted in one.entries
        ],
        "families": [f"ipv{family}" for family in up.families],
        "paths": up.paths,
        "holdTimeSeconds": up.hold_time_s,
        "password": up.password or None,
        "multihop": up.multihop,
        "ttlHops": up.ttl_hops,
        "gracefulRestartSeconds": up.graceful_restart_s,
        "bfd": None
        if up.bfd is None
        else {
            "receiveMilliseconds": up.bfd.receive_ms,
            "transmitMilliseconds": up.bfd.transmit_ms,
            "multiplier": up.bfd.multiplier,
        },
        "notes": list(up.notes),
    }


def _checked(up: Upstream, expected: Expected, view: RouterView, findings: list[Finding]) -> dict[str, Any]:
    return {
        "peer": up.peer,
        "router": {"software": view.software, "asn": view.asn},
        "sessions": _sessions(up, view),
        "routes": _routes(up, expected, view),
        "findings": [
            {
                "code": one.code,
                "severity": one.severity,
                "subjects": list(one.subjects),
                "what": one.what,
                "remedy": one.remedy,
            }
            for one in findings
        ],
    }


def _sessions(up: Upstream, view: RouterView) -> list[dict[str, Any]]:
    rows = []
    for neighbor in up.neighbors:
        session = view.sessions.get(neighbor.address)
        rows.append(
            {
                "node": neighbor.node,
                "address": str(neighbor.address),
                "state": session.state if session else None,
                "accepted": {
                    f"ipv{f}": number for f, number in (session.accepted if session else {}).items()
                },
                "bfd": session.bfd if session else None,
                "lastError": session.last_error if session else "",
            }
        )
    return rows


def _routes(up: Upstream, expected: Expected, view: RouterView) -> list[dict[str, Any]]:
    addresses = {neighbor.address: neighbor.node for neighbor in up.neighbors}
    rows = []
    for prefix in sorted(expected, key=_order):
        paths = [path for path in view.paths if path.prefix == prefix and path.neighbor in addresses]
        installed = None if view.installed is None else view.installed.get(prefix, frozenset())
        rows.append(
            {
                "prefix": str(prefix),
                "expected": sorted(expected[prefix]),
                "received": sorted(addresses[path.neighbor] for path in paths),
                "nextHops": sorted(str(path.next_hop) for path in paths if path.used),
                "installed": None if installed is None else sorted(map(str, installed)),
            }
        )
    return rows


def _order(prefix: Network) -> tuple[int, int, int]:
    return prefix.version, int(prefix.network_address), prefix.prefixlen


# --- for people -----------------------------------------------------------------------------------------


def _print(up: Upstream, expected: Expected, view: RouterView, findings: list[Finding]) -> None:
    console = screen.console()
    wrong = sum(finding.severity != "note" for finding in findings)
    where = f"{up.address or 'the default gateway'}, {view.software}, AS {view.asn or 'unknown'}"
    verdict = "well" if not wrong else f"{wrong} finding{'s' if wrong > 1 else ''}"
    _line(console, f"router of BGPPeer {up.peer} ({where}): {verdict}")
    for finding in findings:
        _line(console, f"\n{finding.severity} {finding.code}: {listed(finding.subjects, _MOST_NAMED)}")
        _line(console, f"  {finding.what}")
        _line(console, f"  → {finding.remedy}")
    console.print()
    table = screen.table("NODE", "ADDRESS", "STATE", "IPV4", "IPV6", "BFD")
    for row in _sessions(up, view):
        counts = [str(row["accepted"].get(f, "-")) for f in ("ipv4", "ipv6")]
        table.add_row(
            row["node"],
            row["address"],
            Text(plain(row["state"] or "unknown there")),
            *counts,
            row["bfd"] or "-",
        )
    console.print(table)
    _print_routes(console, _routes(up, expected, view))


def _print_routes(console: Console, rows: list[dict[str, Any]]) -> None:
    if not rows:
        return
    console.print()
    table = screen.table("PREFIX", "ANNOUNCED BY", "RECEIVED", "USED", "FORWARDING")
    for row in rows:
        total = len(row["expected"])
        forwarding = "-" if row["installed"] is None else f"{len(row['installed'])} of {total}"
        received, used = f"{len(row['received'])} of {total}", f"{len(row['nextHops'])} of {total}"
        table.add_row(row["prefix"], listed(row["expected"], _MOST_NAMED), received, used, forwarding)
    console.print(table)


def _line(console: Console, text: str) -> None:
    console.print("\n".join(map(plain, text.split("\n"))), soft_wrap=True, markup=False)
