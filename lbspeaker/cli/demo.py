"""`lbspeaker demo`: the whole story on this machine, in less than a minute, with every claim measured."""

import contextlib
import json
import signal
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict

import click
from rich.console import Console

from lbspeaker.lab import rootless, routers, story
from lbspeaker.lab.lab import Lab
from lbspeaker.lab.story_claims import Claim, held
from lbspeaker.lab.story_cluster import POOL_SIZE
from lbspeaker.lab.story_screen import Screen
from lbspeaker.lab.story_stage import Stage

PROFILES = ("strict", "standard", "fast", "off")
PER_NODE = 8  # so many service IPs storm any port: two frames for each are more than 15


@click.command()
@click.option(
    "--nodes",
    type=click.IntRange(2, routers.MULTIPATH),
    default=3,
    show_default=True,
    help="How many nodes, and so how many next hops.",
)
@click.option(
    "--services",
    type=click.IntRange(1, POOL_SIZE),
    default=50,
    show_default=True,
    help=f"How many at once; at least {PER_NODE} for each node.",
)
@click.option("--router", type=click.Choice(routers.KINDS), help="Default: the first that is installed.")
@click.option(
    "--guard",
    type=click.Choice(PROFILES),
    default="strict",
    show_default=True,
    help="The speakers' profile; strict is for switches that count answers too, like this one; off tells "
    "only what happens without a guard.",
)
@click.option("--keep", is_flag=True, help="Leave the lab up afterwards.")
@click.option("--name", default="demo", show_default=True, help="What the lab is called.")
@click.option("-o", "--output", type=click.Choice(["text", "json"]), default="text", show_default=True)
def demo(
    nodes: int,
    services: int,
    router: routers.RouterKind | None,
    guard: str,
    keep: bool,
    name: str,
    output: str,
) -> None:
    """See it work: a cluster, a switch with a port guard and a router, on this machine.

    Fifty Services at once, with the guard and without it; a node that loses its power; the same over BGP.
    What is claimed is measured: the exit status is 0 if every claim held, and 1 if one did not. Nothing is
    left behind. It needs root, or unprivileged user namespaces.

    \b
    Example:
      lbspeaker demo
      lbspeaker demo --guard off            # only the storm
      lbspeaker demo --keep                 # and then look around with kubectl
    """
    if services < PER_NODE * nodes:
        raise click.UsageError(f"--services {services} is too few for {nodes} nodes: give {PER_NODE * nodes}")
    rootless.enter()
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, lambda number, _frame: sys.exit(128 + number))
    screen = Screen(_console(output))
    began = time.monotonic()
    try:
        lab, claims = _perform(screen, name, nodes, services, router, guard, keep=keep)
    except KeyboardInterrupt:
        screen.say("interrupted; the lab is removed")
        sys.exit(128 + signal.SIGINT)
    seconds = time.monotonic() - began
    screen.table(claims, seconds)
    if output == "json":
        click.echo(json.dumps(_report(lab, services, guard, claims, seconds), indent=2, ensure_ascii=False))
    if keep:
        _tell_what_next(screen, lab)
    sys.exit(0 if held(claims) else 1)


def _perform(
    screen: Screen,
    name: str,
    nodes: int,
    services: int,
    router: routers.RouterKind | None,
    guard: str,
    *,
    keep: bool,
) -> tuple[Lab, list[Claim]]:
    """Bring up a lab, tell the story in it, and remove it, whatever happens."""
    screen.chapter(f"A lab: {nodes} nodes, a switch that shuts a port at 16 ARP frames a second, a router")
    lab = Lab.up(name, nodes, router, guard=guard, tell=screen.say)
    told = False
    try:
        claims = story.tell(Stage(lab, screen, services, guard))
        told = True
    finally:
        if not (keep and told):
            for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
                signal.signal(number, signal.SIG_IGN)  # this must come to its end
            lab.down()
    return lab, claims


def _report(
    lab: Lab, services: int, guard: str, claims: Sequence[Claim], seconds: float
) -> dict[str, object]:
    return {
        "held": held(claims),
        "seconds": round(seconds, 1),
        "nodes": len(lab.nodes),
        "services": services,
        "guard": guard,
        "router": lab.router.kind,
        "claims": [{**asdict(claim), "numbers": _rounded(claim)} for claim in claims],
    }


def _rounded(claim: Claim) -> dict[str, float]:
    return {name: round(number, 4) for name, number in claim.numbers.items()}


def _tell_what_next(screen: Screen, lab: Lab) -> None:
    """Say how to go on; a lab in a user namespace ends with us, so stay."""
    screen.say(f"the lab {lab.name} stays up. Next:")
    screen.say(f"`export KUBECONFIG={lab.kubeconfig}`")
    screen.say("`kubectl get services -o wide`")
    screen.say(f"`lbspeaker lab exec --name {lab.name} remote curl http://192.0.2.10`")
    if lab.holder:
        screen.say("Ctrl-C here removes it")
        with lab, contextlib.suppress(KeyboardInterrupt):
            signal.pause()
    else:
        screen.say(f"`lbspeaker lab down --name {lab.name}` removes it")


def _console(output: str) -> Console:
    """JSON has standard output for itself; a log is wide enough for the table."""
    stderr = output == "json"
    console = Console(stderr=stderr, highlight=False)
    return console if console.is_terminal else Console(stderr=stderr, highlight=False, width=110)
