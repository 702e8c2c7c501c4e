"""Where commands that look at a whole cluster look: documents, or the cluster itself."""

from collections.abc import Callable
from typing import Any, TypeVar

import click

from lbspeaker.errors import ConfigError
from lbspeaker.ledger import remembered
from lbspeaker.model import Snapshot
from lbspeaker.observe import Loaded, load

Command = TypeVar("Command", bound=Callable[..., Any])

_CLUSTER = (
    click.option("--kubeconfig", metavar="FILE", help="Kubeconfig of the cluster, if no PATH is given."),
    click.option("--context", metavar="NAME", help="Context of the kubeconfig."),
    click.option(
        "--namespace", default="lbspeaker-system", show_default=True, help="Where its configuration lives."
    ),
)


def cluster(command: Command) -> Command:
    """The options that say which cluster."""
    for each in reversed(_CLUSTER):
        command = each(command)
    return command


def read(
    paths: tuple[str, ...], kubeconfig: str | None, context: str | None, namespace: str
) -> tuple[Loaded, Snapshot]:
    """Return what the documents say, or without any the cluster; and that with what ledgers remember.

    Warnings are told. Raises ConfigError, Malformed, Unable, Unavailable.
    """
    if paths and (kubeconfig or context):
        raise click.UsageError("give either PATH or --kubeconfig and --context")
    if paths:
        loaded = load(paths)
    else:
        from lbspeaker.observe.once import load_cluster  # its HTTP client is not for those who read files

        loaded = load_cluster(kubeconfig, context, namespace)
    right(loaded)
    return loaded, remembered(loaded.snapshot, paths)


def right(loaded: Loaded) -> None:
    """Tell the warnings. Raises ConfigError if anything is wrong."""
    errors = [problem for problem in loaded.problems if problem.severity == "error"]
    if errors:
        raise ConfigError(errors)
    for problem in loaded.problems:
        click.echo(str(problem), err=True)
