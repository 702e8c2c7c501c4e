"""`lbspeaker version`: which versions run, and whether they fit together."""

import json
import sys
from typing import Any

import click
from rich.table import Table

from lbspeaker import __version__
from lbspeaker.cli import screen
from lbspeaker.cli.source import cluster
from lbspeaker.core.checks import named
from lbspeaker.core.findings_ours import by_version, nodes_of
from lbspeaker.facts import Ours


@click.command()
@click.option("--client", is_flag=True, help="Only the version of this program; no cluster is asked.")
@cluster
@click.option("-o", "--output", type=click.Choice(["text", "json"]), default="text", show_default=True)
def version(client: bool, output: str, **access: Any) -> None:
    """Show the versions of this program, of the controller that acts, and of each speaker.

    Programs of one minor version (0.1.x) understand each other, and those of the next one, so that a cluster
    can be upgraded node by node.

    Exit code: 0 all are of one minor version, 1 they are not, 3 the cluster cannot be asked.

    \b
    Example:
      kubectl lbspeaker version
      lbspeaker version --client
    """
    if client:
        click.echo(json.dumps({"client": __version__}) if output == "json" else f"client {__version__}")
        return
    from lbspeaker.observe.look import programs  # its HTTP client: not for who asks for the client alone

    try:
        found, unread = programs(**access, instead="or ask for --client alone")
    except Exception:
        if output == "text":
            click.echo(f"client {__version__}")
        raise
    warnings = [*_warnings(found), *(f"not known: {what}" for what in unread)]
    if output == "json":
        told = {"client": __version__, "controller": found.release or None, "speakers": dict(found.releases)}
        click.echo(json.dumps({**told, "warnings": warnings}, indent=2))
    else:
        screen.console().print(_table(found))
    for warning in warnings:
        click.echo(f"warning: {warning}", err=True)
    fit = {_minor(one) for one in (__version__, *_running(found))}
    sys.exit(1 if len(fit) > 1 else 3 if unread else 0)


def _running(found: Ours) -> list[str]:
    return [one for one in (found.release, *found.releases.values()) if one]


def _warnings(found: Ours) -> list[str]:
    warnings = []
    if several := by_version(found):
        warnings.append(f"several versions run: {', '.join(several)}; is an upgrade under way?")
    others = sorted({one for one in _running(found) if _minor(one) != _minor(__version__)})
    if others:
        warnings.append(
            f"this program is {__version__}, and the cluster runs {', '.join(others)}: use that here"
        )
    return warnings


def _minor(release: str) -> tuple[str, ...]:
    return tuple(release.split(".")[:2])


def _table(found: Ours) -> Table:
    table = screen.table("PROGRAM", "VERSION", "WHERE")
    table.add_row("client", __version__, "here")
    table.add_row("controller", found.release or "-", found.controller or "none acts")
    for release, names in nodes_of(found).items():
        table.add_row("speaker" if len(names) == 1 else f"{len(names)} speakers", release, named(names))
    return table
