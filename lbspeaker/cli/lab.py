"""`lbspeaker lab`: a whole cluster on this machine, to try a configuration before it is anybody's network."""

import json
import os
import signal
import sys
from pathlib import Path
from types import FrameType
from typing import NoReturn

import click
from rich.console import Console
from rich.table import Table

from lbspeaker.errors import Unable
from lbspeaker.lab import access, namespaces, rootless, routers
from lbspeaker.lab.lab import DEFAULT_NAME, STANDARD, Lab, remove
from lbspeaker.lab.switch import DEFAULT_GUARD_PPS
from lbspeaker.lab.topology import MAX_NODES

_ENDINGS = (signal.SIGTERM, signal.SIGHUP, signal.SIGINT)
PROFILES = ("standard", "strict", "fast", "off")

name_option = click.option("--name", default=DEFAULT_NAME, show_default=True, help="Which lab.")


@click.group()
def lab() -> None:
    """A whole cluster on this machine: nodes, a switch, a client and a router in network namespaces.

    \b
    Bring it up:                lbspeaker lab up
    Ask it from the client:     lbspeaker lab exec client curl http://192.0.2.10
    Remove it:                  lbspeaker lab down
    """


@lab.command()
@name_option
@click.option("--nodes", type=click.IntRange(1, MAX_NODES), default=3, show_default=True, help="How many.")
@click.option("--router", type=click.Choice(routers.KINDS), help="Default: the first that is installed.")
@click.option(
    "--kubeconfig",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="Use this API server instead of one in memory.",
)
@click.option(
    "--guard", type=click.Choice(PROFILES), default=STANDARD, show_default=True, help="Of the speakers."
)
@click.option(
    "--port-guard/--no-port-guard", default=True, help="Shut a node's port at 16 ARP frames a second."
)
def up(
    name: str,
    nodes: int,
    router: routers.RouterKind | None,
    kubeconfig: Path | None,
    guard: str,
    port_guard: bool,
) -> None:
    """Bring up a lab.

    For root it stays until `lbspeaker lab down`. For others it lives in a user namespace, and only as long as
    this command: leave it in the foreground, and end it with Ctrl-C.

    The ports of its switch shut when more than 15 ARP frames enter in one second, as with Dynamic ARP
    Inspection. Profile `standard` does not count answers: a client that asks for many IPs at once may shut a
    port then; `--guard strict` prevents that, `--no-port-guard` gives a switch that tolerates all.

    \b
    Example:
      lbspeaker lab up --nodes 5 --router bird --guard strict
    """
    _refuse_if_there(name)
    target = access.server(kubeconfig.read_text(), str(kubeconfig)) if kubeconfig else None
    rootless.enter(target)
    pps = DEFAULT_GUARD_PPS if port_guard else None
    for number in _ENDINGS:
        signal.signal(number, _end)
    it = Lab.up(name, nodes, router, guard=guard, guard_pps=pps, kubeconfig=kubeconfig, tell=_tell)
    _tell_what_next(it)
    if it.holder:
        with it:
            click.echo("This lab ends with this command: Ctrl-C removes it.", err=True)
            signal.pause()


@lab.command()
@name_option
def down(name: str) -> None:
    """Remove a lab, or what a crash left of it.

    \b
    Example:
      lbspeaker lab down
    """
    if holder := _holder(name):
        namespaces.end([holder], patience_s=10.0)
        click.echo(f"lab {name} is gone")
        return
    if reason := rootless.obstacle():
        if not Path("/run/netns").is_dir() or not namespaces.existing(f"lbs-{name}-"):
            click.echo(f"there is no lab {name}")
            return
        raise Unable(f"lab {name} cannot be removed: {reason}", f"sudo lbspeaker lab down --name {name}")
    click.echo(f"lab {name} is gone" if remove(name) else f"there is no lab {name}")


@lab.command()
@name_option
@click.option("-o", "--output", type=click.Choice(["table", "json"]), default="table", show_default=True)
def status(name: str, output: str) -> None:
    """Show what runs in a lab, and which ports of its switch are down. Exit status 3: there is no such lab.

    \b
    Example:
      lbspeaker lab status -o json
    """
    it = _join(name)
    running = {process.name: process.running for process in it.processes.values() if process.pid}
    if output == "json":
        click.echo(json.dumps(_facts(it, running), indent=2))
        return
    table = Table(box=None, pad_edge=False)
    for column in ("PROCESS", "STATE", "PID"):
        table.add_column(column)
    for process in it.processes.values():
        state = "running" if running.get(process.name) else "ended" if process.pid else "not started"
        table.add_row(process.name, state, str(process.pid or "-"))
    Console().print(table)
    click.echo(f"\nAPI server {it.api()}, router {it.router.kind}, {len(it.nodes)} nodes")
    click.echo(f"logs in {it.directory}")
    if ports := it.switch.ports_down():
        again = f"lbspeaker lab exec{_named(name)} switch ip link set {ports[0]} up"
        click.echo(f"ports down: {', '.join(ports)}; one up again: {again}")


@lab.command("exec", context_settings={"ignore_unknown_options": True, "allow_interspersed_args": False})
@name_option
@click.argument("member", metavar="NODE|client|router|remote|switch|control")
@click.argument("command", nargs=-1, required=True, type=click.UNPROCESSED)
def exec_(name: str, member: str, command: tuple[str, ...]) -> None:
    """Run a command where a node, the client, the router … is. Its exit status is the command's.

    \b
    Example:
      lbspeaker lab exec client curl -s http://192.0.2.60
      lbspeaker lab exec node-a tcpdump -ni eth0 arp
    """
    it = _join(name)
    if member not in it.topology.members:
        raise click.UsageError(f"the lab has no {member}; it has {', '.join(sorted(it.topology.members))}")
    line = namespaces.command(it.topology.namespace(member), command)
    os.execvp(line[0], line)  # noqa: S606


def _refuse_if_there(name: str) -> None:
    """Before a user namespace hides what is there."""
    try:
        Lab.find(name)
    except Unable:
        return
    raise Unable(f"a lab {name!r} is here already, or left over", f"lbspeaker lab down{_named(name)}")


def _join(name: str) -> Lab:
    """Return the lab, from inside of the user namespace that it lives in, if it does."""
    it = Lab.find(name)
    if it.holder and not rootless.inside():
        rootless.join(_holder(name))
    return it


def _holder(name: str) -> int:
    """The living process that holds a rootless lab; 0 if the lab has none."""
    try:
        it = Lab.find(name)
    except Unable:
        return 0
    if it.holder and not namespaces.running(it.holder):
        remove(name)  # it could not tidy up; its namespaces are gone with it
        raise Unable(f"there is no lab {name!r} here any more: its command has ended", "lbspeaker lab up")
    return it.holder


def _facts(it: Lab, running: dict[str, bool]) -> dict[str, object]:
    return {
        "name": it.name,
        "api": it.api(),
        "kubeconfig": str(it.kubeconfig),
        "directory": str(it.directory),
        "router": it.router.kind,
        "nodes": [
            {"name": node.name, "ipv4": str(node.ipv4), "ipv6": str(node.ipv6), "mac": node.mac.hex(":")}
            for node in it.nodes
        ],
        "processes": [
            {"name": process.name, "pid": process.pid, "running": running.get(process.name, False)}
            for process in it.processes.values()
        ],
        "portsDown": it.switch.ports_down(),
    }


def _tell(line: str) -> None:
    click.echo(f"  {line}", err=True)


def _tell_what_next(it: Lab) -> None:
    click.echo(
        f"\nlab {it.name} is up. Next:\n\n"
        f"  export KUBECONFIG={it.kubeconfig}\n"
        f"  kubectl get nodes -o wide\n"
        f"  lbspeaker lab exec{_named(it.name)} client curl http://IP-OF-A-SERVICE\n"
    )


def _named(name: str) -> str:
    return "" if name == DEFAULT_NAME else f" --name {name}"


def _end(_number: int, _frame: FrameType | None) -> NoReturn:
    """End this command once: a second signal must not stop it from tidying up."""
    for number in _ENDINGS:
        signal.signal(number, signal.SIG_IGN)
    sys.exit(0)
