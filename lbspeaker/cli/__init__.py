"""The command line. Each command lives in a module of its own, imported only when it is asked for.

Exit codes: 0 fine; 1 the answer is "no" (invalid, a claim that did not hold); 2 wrong usage;
3 it could not be done here or now (no API server, no permission, a missing program).
"""

import importlib
import sys

import click

from lbspeaker import __version__
from lbspeaker.errors import ConfigError, LbspeakerError

COMMANDS = {
    "check": "check:check",
    "plan": "plan:plan",
    "explain": "explain:explain",
    "upstream": "upstream:upstream",
    "migrate": "migrate:migrate",
    "controller": "run:controller",
    "speaker": "run:speaker",
    "status": "status:status",
    "page": "page:page",
    "drain": "move:drain",
    "move": "move:move",
    "doctor": "doctor:doctor",
    "version": "version:version",
    "lab": "lab:lab",
    "demo": "demo:demo",
}


class Lazy(click.Group):
    """A group whose commands are imported when they are used, so that each starts fast."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in COMMANDS:
            return None
        module, _, name = COMMANDS[cmd_name].partition(":")
        command: click.Command = getattr(importlib.import_module(f"lbspeaker.cli.{module}"), name)
        return command


@click.group(cls=Lazy, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="lbspeaker")
def lbspeaker() -> None:
    """LoadBalancer Services for Kubernetes clusters without a cloud.

    \b
    Try it on this machine, without a cluster:   lbspeaker demo
    Check a configuration:                       lbspeaker check pools.yaml
    See what it would do:                        lbspeaker plan pools.yaml services.yaml
    Ask why a Service is announced, or not:      lbspeaker explain default/web
    Configure and check a BGP router:            lbspeaker upstream config --for frr pools.yaml nodes.yaml
    See whether all is well:                     lbspeaker status, or in a browser: lbspeaker page
    Take a node out, one Service elsewhere:      lbspeaker drain NODE, lbspeaker move SERVICE --to NODE
    Find out what is wrong, and what to do:      lbspeaker doctor
    Bring MetalLB's configuration over:          lbspeaker migrate metallb.yaml
    """


def main() -> None:
    """Run the command line; a failure that has a cause and a remedy is told in one line."""
    try:
        lbspeaker()
    except ConfigError as error:
        click.echo(str(error), err=True)
        sys.exit(1)
    except LbspeakerError as error:
        click.echo(f"lbspeaker: {error}", err=True)
        sys.exit(3)
