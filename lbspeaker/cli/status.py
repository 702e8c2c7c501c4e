"""`lbspeaker status`: whether all is well, in the whole cluster or on one node."""

import http.client
import os
import socket
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future
from pathlib import Path
from threading import Thread
from typing import Any

import click
import msgspec
import yaml
from rich.console import Group, RenderableType
from rich.live import Live
from rich.table import Table
from rich.text import Text

from lbspeaker.cli import screen
from lbspeaker.cli.source import cluster, meant, unknown
from lbspeaker.core.words import ago
from lbspeaker.errors import Unable, Unavailable, plain
from lbspeaker.observe.look import look
from lbspeaker.observe.overview import Overview, only, overview, plainly
from lbspeaker.wire import status as format_

_PATIENCE_S = 5.0
_WATCH_S = 2.0
Show = Callable[[], tuple[RenderableType | str, int]]
_INSTEAD = "ask a speaker: --runtime-dir DIR"


@click.command()
@click.argument("services", nargs=-1, metavar="[NAMESPACE/SERVICE…]")
@click.option("--node", metavar="NODE", help="Only what is about this node.")
@click.option("--problems", is_flag=True, help="Only what is in trouble.")
@click.option("--watch", is_flag=True, help="Look again every 2 s, until Ctrl-C.")
@click.option(
    "-o", "--output", type=click.Choice(["text", "wide", "json", "yaml"]), default="text", show_default=True
)
@cluster
@click.option(
    "--runtime-dir",
    type=click.Path(path_type=Path),
    help="Ask the speaker of this node alone: its --runtime-dir, by default /run/lbspeaker.",
)
def status(
    services: tuple[str, ...],
    node: str | None,
    problems: bool,
    watch: bool,
    output: str,
    runtime_dir: Path | None,
    **access: Any,
) -> None:
    """Show whether all is well: pools, Services and who announces them, peers, guards, speakers.

    The cluster is asked, as kubectl would. On a node with a speaker, and without --kubeconfig, --context and
    $KUBECONFIG, that speaker is asked itself, over a socket that only its own user may open: it needs no API
    server.
    NAMESPACE/SERVICE shows these Services only, NAMESPACE/ all of a namespace.

    Exit code: 0 all is well, 1 there are problems, 3 it cannot be told.

    \b
    Example:
      kubectl lbspeaker status
      lbspeaker status --problems shop/
      kubectl -n lbspeaker-system exec ds/speaker -- lbspeaker status -o json
    """
    local = runtime_dir or _RUN
    elsewhere = access["kubeconfig"] or access["context"] or os.environ.get("KUBECONFIG")
    if runtime_dir is not None or (not elsewhere and _listens(local / format_.SOCKET)):
        if services or node or problems:
            raise click.UsageError(
                "this asks the speaker of this node alone, of which all is shown; to choose from the whole "
                "cluster, give --kubeconfig or --context"
            )
        show: Show = lambda: _of_node(local, output)  # noqa: E731
    else:

        def show() -> tuple[RenderableType | str, int]:
            seen = look(**access, instead=_INSTEAD)
            if seen.is_empty:
                what = f"no configuration is published in namespace {seen.namespace}"
                raise Unavailable(what, "does the controller run? --namespace says where it lives")
            everything = overview(seen, time.time())
            _complain(everything, services, node)
            found = only(everything, services, node, problems=problems)
            return _of_cluster(found, output), 1 if found.problems else 3 if found.unread else 0

    click.get_current_context().exit(_watch(show) if watch else _once(show))


_RUN = Path("/run/lbspeaker")


def _listens(path: Path) -> bool:
    """Whether a speaker is there, and not only the socket of one that was killed."""
    with socket.socket(socket.AF_UNIX) as probe:
        return probe.connect_ex(str(path)) == 0


def _once(show: Show) -> int:
    shown, code = show()
    if isinstance(shown, str):
        click.echo(shown, nl=False)
    else:
        screen.console().print(shown)
    return code


def _watch(show: Show) -> int:
    code = 0
    try:
        while not sys.stdout.isatty():  # into a pipe: one after the other
            code = _once(show)
            sys.stdout.flush()
            time.sleep(_WATCH_S)
        with Live(console=screen.console(), auto_refresh=False) as live:
            for shown, now in looks(show):
                code = now
                live.update(shown, refresh=True)
    except KeyboardInterrupt:
        pass
    return code


def looks(show: Show) -> Iterator[tuple[RenderableType, int]]:
    """Look again and again; while there is no new picture, mark the old one as old.

    Raises what `show` raises where there is no picture yet.
    """
    shown, code = show()
    seen = time.monotonic()
    while True:
        yield shown, code
        time.sleep(_WATCH_S)
        asked, why = _aside(show), "there has been no answer since"
        while True:
            try:
                shown, code = asked.result(_WATCH_S)
                seen = time.monotonic()
                break
            except TimeoutError:
                pass
            except Unavailable as error:
                asked, why = _aside(show), plain(str(error))
                time.sleep(_WATCH_S)
            mark = Text(f"seen {time.monotonic() - seen:.0f} s ago: {why}", style="bold yellow")
            yield Group(mark, shown), 3


def _aside(show: Show) -> "Future[tuple[RenderableType | str, int]]":
    """Look in a thread, for which the end of the program does not wait."""
    asked: Future[tuple[RenderableType | str, int]] = Future()

    def run() -> None:
        try:
            asked.set_result(show())
        except BaseException as error:
            asked.set_exception(error)

    Thread(target=run, daemon=True).start()
    return asked


def _complain(found: Overview, services: Sequence[str], node: str | None) -> None:
    """Raises Unable for names that nobody has."""
    known = sorted({row.service for row in found.services})
    for name in services:
        there = any(one.startswith(name) if name.endswith("/") else one == name for one in known)
        if not there and not any("services" in what.partition(":")[0] for what in found.unread):
            hint = meant(name, known)
            if not name.endswith("/"):
                hint += f" If there is one: lbspeaker explain {name}"
            raise Unable(f"no Service {name} of type LoadBalancer is lbspeaker's", hint)
    nodes = [row.node for row in found.speakers]
    if node is not None and node not in nodes:
        raise unknown("node", node, nodes)


def _text(value: Any, output: str) -> str:
    if output == "yaml":
        return str(yaml.safe_dump(msgspec.to_builtins(value), sort_keys=False))
    return msgspec.json.format(msgspec.json.encode(value)).decode() + "\n"


# --- the cluster ----------------------------------------------------------------------------------------


def _of_cluster(found: Overview, output: str) -> RenderableType | str:
    if output in ("json", "yaml"):
        return _text(plainly(found), output)
    wide = output == "wide"
    parts: list[RenderableType] = [Text(found.verdict, style="bold red" if found.problems else "bold green")]
    parts += [Text(f"  {problem}") for problem in found.problems]
    parts += [Text(f"  not seen: {what}", style="yellow") for what in found.unread]
    parts += [Text(f"  doubtful: {what}", style="yellow") for what in found.doubts]
    tables = (
        _pools(found),
        _services(found, wide),
        _peers(found),
        _guards(found, wide),
        _speakers(found, wide),
    )
    for table in tables:
        if table.row_count:
            parts += [Text(), table]
    return Group(*parts)


def _pools(found: Overview) -> Table:
    table = screen.table("POOL", "FAMILY", "SIZE", "USED", "%", "PENDING")
    for row in found.pools:
        share = f"{row.percent:.0f}" if row.percent >= 1 or not row.used else "<1"
        table.add_row(row.pool, f"IPv{row.family}", str(row.size), str(row.used), share, str(row.pending))
    return table


def _services(found: Overview, wide: bool) -> Table:
    table = screen.table("SERVICE", "IP", "MODE", "OWNER", "SINCE", "MOVES(1h)", "CONFLICT")
    if wide:
        table.add_column("WHY NOT")
    for row in found.services:
        since = _ago(row.since) if row.since else "-"
        cells = [row.service, row.ip, row.mode, row.announcers, since, str(row.moves), row.conflict]
        table.add_row(*(cell or "-" for cell in cells), *([row.why or "-"] if wide else []))
    return table


def _peers(found: Overview) -> Table:
    table = screen.table(
        "NODE", "PEER", "ADDRESS", "AS", "STATE", "SINCE", "SENT", "BFD", "ENDED", "LAST ERROR"
    )
    for node, peer in found.peers:
        table.add_row(node, *_peer(peer))
    return table


def _guards(found: Overview, wide: bool) -> Table:
    table = screen.table(
        "NODE", "LINK", "PROFILE", "SENT", "HELD BACK", "QUEUE", "LONGEST WAIT", "SEGMENT/s", "STORMS"
    )
    for node, one in found.guards:
        sent, held_back = (
            (_counts(one.sent), _counts(one.held_back))
            if wide
            else (str(sum(one.sent.values())), str(sum(one.held_back.values())))
        )
        profile = f"{one.profile} (dry run)" if one.dry_run else one.profile
        waits = (str(one.queue), f"{one.longest_wait_s:.1f} s", f"{one.segment_per_s:g}", str(one.storms))
        table.add_row(node, f"{one.link} {one.protocol}", profile, sent, held_back, *waits)
    return table


def _speakers(found: Overview, wide: bool) -> Table:
    table = screen.table("NODE", "ALIVE", "STATE", "SINCE", "OWNED", "PROBLEMS")
    for title in ("VERSION", "LINKS", "CONFIG") if wide else ():
        table.add_column(title)
    for row in found.speakers:
        since = _ago(row.since) if row.since else "-"
        cells = [row.node, "yes" if row.alive else "no", row.state, since, str(row.owned), str(row.problems)]
        more = (row.version, ", ".join(row.links), row.config) if wide else ()
        table.add_row(*cells, *(cell or "-" for cell in more))
    return table


def _peer(peer: format_.Peer) -> tuple[str, ...]:
    sent = str(peer.sent) if peer.sent == peer.desired else f"{peer.sent} of {peer.desired}"
    session = (peer.state, _ago(peer.since) if peer.since else "-", sent, peer.bfd or "-", str(peer.ended))
    return (peer.name, peer.address, str(peer.asn or "-"), *session, peer.trouble or "-")


# --- one node -------------------------------------------------------------------------------------------


def _of_node(runtime_dir: Path, output: str) -> tuple[RenderableType | str, int]:
    found = format_.parse(_ask(runtime_dir / format_.SOCKET))
    shown = _text(found, output) if output in ("json", "yaml") else _printed(found)
    return shown, 1 if found.problems else 0


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


def _printed(found: format_.Status) -> RenderableType:
    owned = sum(one.role == "owner" for one in found.ips)
    alive = sum(member.alive for member in found.members)
    verdict = _number(len(found.problems), "problem") if found.problems else "well"
    has = f"owns {_number(owned, 'IP')}, {_number(alive, 'member')}"
    parts: list[RenderableType] = [
        Text(f"{found.node}: {verdict}; {found.state} for {_ago(found.started)}, {has}")
    ]
    parts += [Text(f"  {problem}") for problem in found.problems]
    for table in (_ips(found), _node_guards(found), _node_peers(found), _routers(found), _members(found)):
        if table.row_count:
            parts += [Text(), table]
    return Group(*parts)


def _ips(found: format_.Status) -> Table:
    table = screen.table("IP", "SERVICES", "ROLE", "LINKS", "SINCE", "REASON", "MOVES(1h)", "CONFLICT")
    for one in found.ips:
        conflict = f"{one.conflict} {one.vendor}".strip() or "-"
        since = _ago(one.since) if one.since else "-"
        services, links = ", ".join(one.services), ", ".join(one.links) or "-"
        row = (one.ip, services, one.role, links, since, one.reason or "-", str(one.moves), conflict)
        table.add_row(*row)
    return table


def _node_guards(found: format_.Status) -> Table:
    table = screen.table(
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
    return table


def _node_peers(found: format_.Status) -> Table:
    table = screen.table("PEER", "ADDRESS", "AS", "STATE", "SINCE", "ROUTES", "BFD", "ENDED", "LAST ERROR")
    for peer in found.peers:
        table.add_row(*_peer(peer))
    return table


def _routers(found: format_.Status) -> Table:
    table = screen.table("ROUTER", "BFD", "INTERVAL", "DETECTION", "SENT", "RECEIVED", "DROPPED")
    for each in found.bfd:
        state = f"{each.state}: {each.why}" if each.why else each.state
        times = (f"{each.interval_ms:g} ms", f"{each.detection_ms:g} ms")
        counts = (str(each.sent), str(each.received), _counts(each.dropped))
        table.add_row(each.router, state, *times, *counts)
    return table


def _members(found: format_.Status) -> Table:
    table = screen.table("MEMBER", "ALIVE", "HEARD ON", "SILENT ON")
    for member in found.members:
        heard, silent = ", ".join(member.heard_on) or "-", ", ".join(member.silent_on) or "-"
        table.add_row(member.node, "yes" if member.alive else "no", heard, silent)
    return table


def _number(count: int, what: str) -> str:
    return f"{count} {what}" if count == 1 else f"{count} {what}s"


def _counts(counts: dict[str, int]) -> str:
    return ", ".join(f"{count} {why}" for why, count in sorted(counts.items())) or "0"


def _ago(then: float) -> str:
    return ago(then, time.time())
