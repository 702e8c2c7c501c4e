"""Where commands that look at a whole cluster look: documents, or the cluster itself."""

from collections.abc import Callable, Iterable
from dataclasses import replace
from typing import TYPE_CHECKING, Any, TypeVar

import click

from lbspeaker.config.place import nearest
from lbspeaker.errors import ConfigError, Unable, Unavailable
from lbspeaker.model import Snapshot
from lbspeaker.observe import Loaded, load

if TYPE_CHECKING:
    from lbspeaker.observe.look import Look

Command = TypeVar("Command", bound=Callable[..., Any])

_CLUSTER = (
    click.option(
        "--kubeconfig", metavar="FILE", help="Kubeconfig of the cluster (default: as kubectl does)."
    ),
    click.option("--context", metavar="NAME", help="Context of the kubeconfig."),
    click.option("--namespace", default="lbspeaker-system", show_default=True, help="Where lbspeaker lives."),
)
_SHOWN = 8  # names


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
    from lbspeaker.ledger import remembered  # it brings the allocator, which status has no use for

    return loaded, remembered(loaded.snapshot, paths)


_NEEDED = ("nodes", "services", "endpointslices", "effectiveconfigurations")


def ask(kubeconfig: str | None, context: str | None, namespace: str) -> "Look":
    """Look at the whole cluster. What is missing is told. Raises Unable, Unavailable."""
    from lbspeaker.observe.look import look  # its HTTP client is not for those who read files
    from lbspeaker.observe.once import FILES

    seen = look(kubeconfig, context, namespace, whole=True, instead=FILES)
    found = sufficient(seen, namespace)
    for what in seen.unread:
        click.echo(f"warning: not known: {what}", err=True)
    return found


def sufficient(seen: "Look", namespace: str) -> "Look":
    """Return `seen`, in which all nodes live if nobody knows.

    Raises Unable or Unavailable if something is missing without which nothing can be told.
    """
    lacks = {one.partition(":")[0]: one for one in seen.unread}
    for name in _NEEDED:
        if name in lacks:
            raise Unable(lacks[name], "without that nothing can be told")
    if not seen.documents:
        hint = "does the controller run? --namespace says where it lives"
        raise Unavailable(f"no configuration is published in namespace {namespace}", hint)
    if "leases" not in lacks:
        return seen
    return replace(seen, snapshot=replace(seen.snapshot, members=frozenset(seen.snapshot.nodes)))


def unknown(what: str, name: str, known: Iterable[str]) -> Unable:
    """Return the error for a name that nobody has: "there is no node x; did you mean y?"."""
    return Unable(f"there is no {what} {name}", meant(name, known))


def meant(name: str, known: Iterable[str]) -> str:
    """Return a sentence: which of the known names is most like this one, or else which there are."""
    names = sorted(known)
    near = nearest(name, tuple(names))
    if near:
        return f"did you mean {near}?"
    more = " …" if len(names) > _SHOWN else "."
    return f"there are: {', '.join(names[:_SHOWN]) or 'none'}{more}"


def right(loaded: Loaded) -> None:
    """Tell the warnings. Raises ConfigError if anything is wrong."""
    errors = [problem for problem in loaded.problems if problem.severity == "error"]
    if errors:
        raise ConfigError(errors)
    for problem in loaded.problems:
        click.echo(str(problem), err=True)
