"""`lbspeaker status`: what the speaker of this node announces, and whether it is well."""

import http.client
import json
import socket
import sys
import time
from pathlib import Path

import click
from rich.console import Console
from rich.table import Table

from lbspeaker.errors import Unavailable
from lbspeaker.wire import status as format_

_PATIENCE_S = 5.0
_WIDE = 200


@click.command()
@click.option(
    "--runtime-dir",
    type=click.Path(path_type=Path),
    default=Path("/run/lbspeaker"),
    show_default=True,
    help="The --runtime-dir of the speaker.",
)
@click.option("-o", "--output", type=click.Choice(["text", "json"]), default="text", show_default=True)
@click.pass_context
def status(context: click.Context, runtime_dir: Path, output: str) -> None:
    """Show what the speaker of this node does: IPs, BGP peers, members, guards, problems.

    It asks the speaker itself, over a socket that only its own user may open; no cluster is needed.
    Exit code: 0 all is well, 1 there are problems, 3 the speaker cannot be asked.

    \b
    Example:
      lbspeaker status
      kubectl -n lbspeaker-system exec ds/speaker -- lbspeaker status -o json
    """
    body = _ask(runtime_dir / format_.SOCKET)
    found = format_.parse(body)
    if output == "json":
        click.echo(json.dumps(json.loads(body), indent=2))
    else:
        _print(found)
    context.exit(1 if found.problems else 0)


class _Connection(http.client.HTTPConnection):
    """HTTP over a Unix socket."""

    def __init__(self, path: Path) -> None:
        super().__init__("localhost", timeout=_PATIENCE_S)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(self.timeout)
        self.sock.connect(str(self._path))


def _ask(path: Path) -> bytes:
    connection = _Connection(path)
    try:
        connection.request("GET", "/status")
        return connection.getresponse().read()
    except (OSError, http.client.HTTPException) as error:
        hint = "run it on a node with a speaker, as its user; see also: lbspeaker status --help"
        what = f"no speaker can be asked at {path}: {getattr(error, 'strerror', None) or error}"
        raise Unavailable(what, hint) from None
    finally:
        connection.close()


# --- for people -----------------------------------------------------------------------------------------


def _print(found: format_.Status) -> None:
    # In a pipe, and so by `kubectl exec`, there is no width to keep to.
    console = Console(highlight=False, width=None if sys.stdout.isatty() else _WIDE)
    owned = sum(one.role == "owner" for one in found.ips)
    alive = sum(member.alive for member in found.members)
    verdict = _number(len(found.problems), "problem") if found.problems else "well"
    has = f"owns {_number(owned, 'IP')}, {_number(alive, 'member')}"
    line = f"{found.node}: {verdict}; {found.state} for {_ago(found.started)}, {has}"
    console.print(line, soft_wrap=True, markup=False)
    for problem in found.problems:
        console.print(f"  {problem}", soft_wrap=True, markup=False)
    if found.ips:
        console.print()
        table = _table("IP", "SERVICES", "ROLE", "LINKS", "SINCE", "REASON", "CONFLICT")
        for one in found.ips:
            conflict = f"{one.conflict} {one.vendor}".strip() or "-"
            since = _ago(one.since) if one.since else "-"
            services, links = ", ".join(one.services), ", ".join(one.links) or "-"
            table.add_row(one.ip, services, one.role, links, since, one.reason or "-", conflict)
        console.print(table)
    console.print()
    table = _table(
        "LINK", "PROFILE", "SENT", "HELD BACK", "QUEUE", "LONGEST WAIT", "UNPACED", "MEMBERS/s", "STORMS"
    )
    for guard in found.guards:
        profile = f"{guard.profile} (dry run)" if guard.dry_run else guard.profile
        table.add_row(
            f"{guard.link} {guard.protocol}",
            profile,
            _counts(guard.sent),
            _counts(guard.held_back),
            str(guard.queue),
            f"{guard.longest_wait_s:.1f} s",
            str(guard.unpaced),
            f"{guard.segment_per_s:g}",
            str(guard.storms),
        )
    console.print(table)
    if found.peers:
        console.print()
        table = _table("PEER", "ADDRESS", "AS", "STATE", "SINCE", "ROUTES", "BFD", "ENDED", "LAST ERROR")
        for peer in found.peers:
            sent = str(peer.sent) if peer.sent == peer.desired else f"{peer.sent} of {peer.desired}"
            session = (peer.state, _ago(peer.since), sent, peer.bfd or "-", str(peer.ended))
            table.add_row(peer.name, peer.address, str(peer.asn or "-"), *session, peer.last_error or "-")
        console.print(table)
    if found.bfd:
        console.print()
        table = _table("ROUTER", "BFD", "INTERVAL", "DETECTION", "SENT", "RECEIVED", "DROPPED")
        for each in found.bfd:
            state = f"{each.state}: {each.why}" if each.why else each.state
            times = (f"{each.interval_ms:g} ms", f"{each.detection_ms:g} ms")
            counts = (str(each.sent), str(each.received), _counts(each.dropped))
            table.add_row(each.router, state, *times, *counts)
        console.print(table)
    if found.members:
        console.print()
        table = _table("MEMBER", "ALIVE", "HEARD ON", "SILENT ON")
        for member in found.members:
            heard, silent = ", ".join(member.heard_on) or "-", ", ".join(member.silent_on) or "-"
            table.add_row(member.node, "yes" if member.alive else "no", heard, silent)
        console.print(table)


def _number(count: int, what: str) -> str:
    return f"{count} {what}" if count == 1 else f"{count} {what}s"


def _counts(counts: dict[str, int]) -> str:
    return ", ".join(f"{count} {why}" for why, count in sorted(counts.items())) or "0"


def _ago(then: float) -> str:
    seconds = max(time.time() - then, 0.0)
    for unit, size in (("d", 86400), ("h", 3600), ("min", 60)):
        if seconds >= 2 * size:
            return f"{seconds / size:.0f} {unit}"
    return f"{seconds:.0f} s"


def _table(*columns: str) -> Table:
    table = Table(box=None, pad_edge=False, padding=(0, 3, 0, 0))
    for column in columns:
        table.add_column(column, overflow="fold")
    return table
