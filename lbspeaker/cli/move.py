"""`lbspeaker drain` and `lbspeaker move`: planned moves, and what they would do, before they are done.

Both say what shall be, by a label of the node or an annotation of the Service; the speakers do it, make
before break, and it stays so when this command has ended.
"""

import asyncio
import json
import time
from collections.abc import Callable
from typing import Any

import click
from rich.console import Console

from lbspeaker.cli import screen
from lbspeaker.cli.source import Command, cluster, unknown
from lbspeaker.core.forecast import Change, hindrances, lost, without
from lbspeaker.core.hearing import cuts, unheard
from lbspeaker.errors import LbspeakerError, Unable, Unavailable
from lbspeaker.model import EXCLUDE, Service
from lbspeaker.observe.look import Look, look
from lbspeaker.observe.said import said
from lbspeaker.shell.apiserver import ApiServer, credentials
from lbspeaker.wire.kube_objects import PREFERRED

_EVERY_S = 0.5
_GET_RIGHT = "get the right to list it, or wait until the API server answers"

_OPTIONS = (
    cluster,
    click.option("--timeout", default=60.0, show_default=True, help="Seconds to wait until it is done."),
    click.option("-o", "--output", type=click.Choice(["text", "json"]), default="text", show_default=True),
)


def options(command: Command) -> Command:
    """The options that both commands have."""
    for each in reversed(_OPTIONS):
        command = each(command)
    return command


@click.command()
@click.argument("node")
@click.option("--simulate", is_flag=True, help="Only say what would move, and what would be lost.")
@click.option("--undo", is_flag=True, help="Let the node announce again.")
@click.option("--force", is_flag=True, help="Also if IPs are lost that only this node can announce.")
@options
def drain(
    node: str, simulate: bool, undo: bool, force: bool, timeout: float, output: str, **access: Any
) -> None:
    """Have a node announce nothing: its IPs move to others first, which loses no connection attempt.

    It gets the label node.kubernetes.io/exclude-from-external-load-balancers, and keeps it until --undo. Pods
    are not touched: that is kubectl drain. Exit code: 0 it is done (or nothing would be lost), 1 IPs would
    have no announcer, 3 it cannot be told, or was not done in time.

    \b
    Example:
      lbspeaker drain node-a --simulate
      lbspeaker drain node-a
      lbspeaker drain node-a --undo
    """
    seen = look(**access)
    _known(seen, node, "nodes")
    if undo:
        _patch(access, f"/api/v1/nodes/{node}", {"labels": {EXCLUDE: None}})
        click.echo(f"{node} may announce again")
        return
    if not force:
        _whole(seen)
    changes = without(seen.snapshot, node, seen.without_session, said(seen))
    gone = lost(changes)
    if output == "json":
        rows = [{"what": c.what, "services": c.services, "now": c.now, "then": c.then} for c in changes]
        click.echo(json.dumps({"node": node, "changes": rows, "lost": len(gone)}, indent=2))
    else:
        _show(node, changes)
        for deaf in _unheard(seen) if changes else ():
            click.echo(f"{deaf}, so it takes nothing over there")
    if simulate or (gone and not force):
        if gone and not simulate:
            click.echo("nothing was changed; --force drains it all the same", err=True)
        click.get_current_context().exit(1 if gone else 0)
    _patch(access, f"/api/v1/nodes/{node}", {"labels": {EXCLUDE: ""}})
    after_s = _wait(lambda: _drained(look(**access), node), timeout, f"{node} still announces something")
    click.echo(f"{node} announces nothing any more, after {after_s:.1f} s", err=output == "json")


@click.command()
@click.argument("service", metavar="NAMESPACE/SERVICE")
@click.option("--to", "node", metavar="NODE", help="Who shall own its IPs on the segment, while it can.")
@click.option("--back", is_flag=True, help="Let the ranking decide again.")
@options
def move(service: str, node: str | None, back: bool, timeout: float, output: str, **access: Any) -> None:
    """Move the IPs of a Service to a node (layer 2), and keep them there while it lives.

    The Service gets the annotation lbspeaker.io/preferred-node. If the node dies, another one takes over; if
    it returns, so do the IPs. Exit code: 0 it is there, 3 it cannot be there, or was not in time.

    \b
    Example:
      lbspeaker move shop/web --to node-b
      lbspeaker move shop/web --back
    """
    if (node is None) is not back:
        raise click.UsageError("say where: --to NODE, or --back")
    seen = look(**access)
    _known(seen, service, "services")
    if node is not None:
        _known(seen, node, "nodes")
        _whole(seen)
        _check(seen, service, node)
    namespace, _, name = service.partition("/")
    path = f"/api/v1/namespaces/{namespace}/services/{name}"
    _patch(access, path, {"annotations": {PREFERRED: node}})
    if node is None:
        said = f"the ranking decides about {service} again"
        click.echo(json.dumps({"service": service, "node": None}) if output == "json" else said)
        return
    held = seen.snapshot.services[service]
    after_s = _wait(lambda: _owns(look(**access), held, node), timeout, f"{node} does not own {service} yet")
    if output == "json":
        click.echo(json.dumps({"service": service, "node": node, "after_s": round(after_s, 1)}))
    else:
        ips = ", ".join(map(str, held.held))
        click.echo(f"{service} ({ips}) is at {node}, after {after_s:.1f} s")


# --- what is asked --------------------------------------------------------------------------------------


def _check(seen: Look, service: str, node: str) -> None:
    """Raises Unable if the node cannot own all IPs of the Service."""
    if not seen.snapshot.services[service].held:
        raise Unable(f"{service} has no IP", "lbspeaker status says why")
    for ip, why in hindrances(seen.snapshot, service, node, said(seen)).items():
        raise Unable(f"{node} cannot own {ip} of {service}: {why}", f"lbspeaker explain {service} says more")


def _unheard(seen: Look) -> list[str]:
    """Who is not heard by the others, each in half a sentence."""
    cut = cuts(said(seen), seen.snapshot.links)
    return [unheard(node, cut) for node in cut]


def _whole(seen: Look) -> None:
    """Raises Unable if something was not seen that may matter."""
    if seen.unread:
        what = f"it cannot be told what would move; not seen: {'; '.join(seen.unread)}"
        raise Unable(what, _GET_RIGHT)


def _known(seen: Look, name: str, resource: str) -> None:
    """Raises Unable for a name that nobody has, or nobody may read."""
    snapshot = seen.snapshot
    names, what = {
        "nodes": (snapshot.nodes.keys(), "node"),
        "services": (snapshot.services.keys(), "Service of type LoadBalancer"),
    }[resource]
    if name in names:
        return
    for lack in seen.unread:
        if lack.partition(":")[0] == resource:
            raise Unable(f"whether there is a {what} {name} cannot be told; {lack}", _GET_RIGHT)
    raise unknown(what, name, names)


def _drained(seen: Look, node: str) -> bool:
    said = seen.speakers.get(node)
    if said is None or node not in seen.snapshot.members:
        return True
    return not any(one.role in ("owner", "lent") for one in said.ips) and not any(p.sent for p in said.peers)


def _owns(seen: Look, service: Service, node: str) -> bool:
    """Whether the node has all its IPs, and nobody else has one of them."""
    owners = {ip: [name for name, one in said(seen).items() if one.owns(ip)] for ip in service.held}
    return all(names == [node] for names in owners.values())


# --- what is done ---------------------------------------------------------------------------------------


def _patch(access: dict[str, Any], path: str, metadata: dict[str, Any]) -> None:
    async def patch() -> None:
        async with ApiServer(credentials(access["kubeconfig"], access["context"]), "move") as api:
            await api.request("PATCH", path, body=json.dumps({"metadata": metadata}).encode())

    asyncio.run(patch())


def _wait(done: Callable[[], bool], timeout_s: float, what: str) -> float:
    """Return after how many seconds it was done; raises Unavailable."""
    began = time.monotonic()
    with Console(stderr=True).status("waiting for the speakers…"):
        while True:
            try:
                if done():
                    return time.monotonic() - began
            except LbspeakerError as error:
                if time.monotonic() - began > timeout_s:
                    raise
                del error  # the API server may be away for a moment
            if time.monotonic() - began > timeout_s:
                raise Unavailable(
                    f"after {timeout_s:.0f} s {what}", "lbspeaker status says what is in the way"
                )
            time.sleep(_EVERY_S)


def _show(node: str, changes: tuple[Change, ...]) -> None:
    console, table = screen.console(), screen.table("WHAT", "SERVICES", "NOW", "THEN")
    for change in changes:
        then = ", ".join(change.then) or "nobody"
        table.add_row(change.what, ", ".join(change.services), ", ".join(change.now), then)
    if changes:
        console.print(table)
    gone = lost(changes)
    if gone:
        console.print(f"without {node}, {len(gone)} of these will have NO announcer", markup=False)
    elif changes:
        console.print(f"without {node}, {len(changes)} change, and each has an announcer", markup=False)
    else:
        console.print(f"{node} announces nothing", markup=False)
