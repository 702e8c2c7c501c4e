"""`lbspeaker controller` and `lbspeaker speaker`: the two programs."""

import asyncio
import contextlib
import signal
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any, TypeVar

import click

from lbspeaker.core.guard import PROFILES
from lbspeaker.errors import LbspeakerError
from lbspeaker.shell import logs

Command = TypeVar("Command", bound=Callable[..., Any])

_SOURCES = (
    click.option(
        "--kubeconfig", metavar="FILE", help="Kubeconfig of the cluster (default: as kubectl does)."
    ),
    click.option("--context", metavar="NAME", help="Context of the kubeconfig."),
    click.option(
        "--namespace", default="lbspeaker-system", show_default=True, help="Where its configuration lives."
    ),
    click.option(
        "--config",
        "directory",
        type=click.Path(path_type=Path),
        metavar="DIR",
        help="Run from YAML files instead of a cluster.",
    ),
    click.option(
        "--lb-class",
        "load_balancer_class",
        metavar="CLASS",
        help="Serve Services of this loadBalancerClass (default: those without one).",
    ),
    click.option(
        "--log-format",
        type=click.Choice(["text", "json"]),
        default="text",
        show_default=True,
        help="Lines for people, or for programs.",
    ),
    click.option(
        "--log-level",
        type=click.Choice(["debug", "info", "warning", "error"]),
        default="info",
        show_default=True,
        help="Log this level and what is worse; debug shows what the guard does.",
    ),
)


def sources(command: Command) -> Command:
    """The options that both programs have."""
    for option in reversed(_SOURCES):
        command = option(command)
    return command


_METRICS = (
    click.option(
        "--metrics",
        metavar="[HOST]:PORT",
        callback=lambda _context, _parameter, value: address(value),
        help="Serve /metrics (Prometheus), /healthz and /readyz here, without authentication (a speaker: "
        "/status, too); without HOST on all addresses. Default: not at all.",
    ),
    click.option(
        "--metrics-compat",
        type=click.Choice(["metallb"]),
        callback=lambda _context, _parameter, value: value is not None,
        help="Have metrics under MetalLB's names, too, where they mean the same.",
    ),
)


def metered(command: Command) -> Command:
    """The options for metrics."""
    for option in reversed(_METRICS):
        command = option(command)
    return command


page_token = click.option(  # of both that serve the status page
    "--page-token",
    type=click.Path(path_type=Path, dir_okay=False),
    metavar="FILE",
    help="Who wants to see the page must know what stands in this file (any user name, this as password; "
    "or as a bearer token). Needed for any address but a loopback one.",
)


@click.command()
@sources
@metered
@click.option(
    "--page",
    metavar="[HOST]:PORT",
    callback=lambda _context, _parameter, value: address(value),
    help="Serve the status page here; kubectl port-forward reaches 127.0.0.1, too. Default: not at all.",
)
@page_token
@click.option(
    "--api-group",
    "group",
    type=click.Choice(["lbspeaker.io", "metallb.io"]),
    default="lbspeaker.io",
    show_default=True,
    help="Whose IPAddressPools, L2Advertisements, BGPPeers ... count.",
)
def controller(log_format: Any, log_level: str, **options: Any) -> None:
    """Give every Service of type LoadBalancer an IP from the pools.

    It writes the status of Services, and what speakers follow. Of several in a cluster one acts at a time.

    \b
    Example:
      lbspeaker controller --kubeconfig ~/.kube/config
      lbspeaker controller --config ./announcements     # without a cluster
      lbspeaker controller --metrics :7473 --metrics-compat metallb --page 127.0.0.1:7475
    """
    from lbspeaker.controller import Options, run

    logs.configure(log_format, log_level)
    _run(run(Options(**options)))


@click.command()
@sources
@click.option(
    "--node", required=True, envvar="NODE_NAME", help="This node's name in the cluster. [$NODE_NAME]"
)
@click.option(
    "--guard",
    type=click.Choice(sorted(PROFILES)),
    default="standard",
    show_default=True,
    help="How much ARP a link may carry that no LinkPolicy is about: standard (11 unsolicited frames a "
    "second), strict (11 frames of all kinds), fast; off is for the lab only.",
)
@click.option(
    "--no-layer2",
    "layer2",
    flag_value=False,
    default=True,
    help="Announce by BGP alone: this node owns no IP on its segments, says no hellos there, and needs no "
    "capability.",
)
@click.option(
    "--runtime-dir",
    type=click.Path(path_type=Path),
    default=Path("/run/lbspeaker"),
    show_default=True,
    help="For sockets and the configuration of BGP sessions.",
)
@metered
def speaker(log_format: Any, log_level: str, **options: Any) -> None:
    """Announce what this node owns, by ARP and by BGP.

    One per node, on the host's network; for ARP and NDP it needs the capability NET_RAW. SIGTERM hands over,
    then ends.

    \b
    Example:
      lbspeaker speaker --node node-a --kubeconfig ~/.kube/config
      lbspeaker speaker --node gateway --config ./announcements     # without a cluster
    """
    from lbspeaker.speaker import Options, run

    logs.configure(log_format, log_level)
    _run(run(Options(**options)))


def address(text: str | None) -> tuple[str, int] | None:
    """Read HOST:PORT, where HOST may be an IPv6 address in brackets, or empty."""
    if not text:
        return None
    host, _, port = text.rpartition(":")
    if not port.isdecimal() or not 0 < int(port) < 65536 or ":" not in text:
        raise click.BadParameter(f"{text!r} is not [HOST]:PORT, as in 127.0.0.1:7472 or :7472")
    return host.strip("[]"), int(port)


def _run(program: Coroutine[Any, Any, None]) -> None:
    """Run a program; out of the group in which its tasks fail, tell the one failure that matters."""
    with contextlib.suppress(KeyboardInterrupt):
        try:
            asyncio.run(_listening(program))
        except* LbspeakerError as failures:
            raise _first(failures) from None


async def _listening(program: Coroutine[Any, Any, None]) -> None:
    """Run a program that logs more, or less, after a SIGUSR1."""
    asyncio.get_running_loop().add_signal_handler(signal.SIGUSR1, logs.change)
    await program


def _first(failures: BaseExceptionGroup[LbspeakerError]) -> LbspeakerError:
    failure: BaseException = failures
    while isinstance(failure, BaseExceptionGroup):
        failure = failure.exceptions[0]
    assert isinstance(failure, LbspeakerError)
    return failure
