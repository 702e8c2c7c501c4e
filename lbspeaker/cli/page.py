"""`lbspeaker page`: the status page of a cluster, served from here."""

import asyncio
import contextlib
from pathlib import Path
from typing import Any

import click

from lbspeaker.cli import run
from lbspeaker.cli.source import cluster
from lbspeaker.page import serving


@click.command()
@cluster
@click.option(
    "--listen",
    metavar="[HOST]:PORT",
    default="127.0.0.1:7475",
    show_default=True,
    callback=lambda _context, _parameter, value: run.address(value),
    help="Where to serve it; without HOST on all addresses.",
)
@run.page_token
def page(listen: tuple[str, int], page_token: Path | None, **access: Any) -> None:
    """Show a cluster in a browser: who answers where, pools, frames against budgets, what is wrong.

    The page only reads, with your kubeconfig, and only while somebody looks. A controller with --page serves
    the same. /status.json says what `lbspeaker status -o json` does.

    \b
    Example:
      kubectl lbspeaker page                       # then open http://127.0.0.1:7475
      lbspeaker page --listen :7475 --page-token ./token
    """
    options = serving.Options(**access, address=listen, token_file=page_token)
    host = f"[{listen[0]}]" if ":" in listen[0] else listen[0] or "localhost"

    def bound() -> None:
        click.echo(f"the page: http://{host}:{listen[1]}/   (Ctrl-C ends it)", err=True)

    with contextlib.suppress(KeyboardInterrupt):
        asyncio.run(serving.serve(options, bound))
