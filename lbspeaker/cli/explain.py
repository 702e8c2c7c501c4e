"""`lbspeaker explain`: why a Service, an IP or a node is announced as it is, or not."""

import json
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from rich.console import Console
from rich.text import Text

from lbspeaker.cli.source import ask, cluster, read, unknown
from lbspeaker.config.place import nearest
from lbspeaker.core.explain import Case, Explanation, Living, Step, case
from lbspeaker.core.explain_ip import explain_ip
from lbspeaker.core.explain_node import explain_node
from lbspeaker.core.explain_service import explain_service
from lbspeaker.core.findings_pods import ports
from lbspeaker.core.hearing import cuts, without_cuts
from lbspeaker.errors import plain
from lbspeaker.facts import Evidence
from lbspeaker.model import Address, Service, address_of
from lbspeaker.observe.evidence import from_loaded, of_services
from lbspeaker.observe.said import said

if TYPE_CHECKING:
    from lbspeaker.observe.look import Look

_EXIT = {"ok": 0, "no": 1, "unknown": 3}
_VERDICTS = {
    "ok": "nothing is in the way",
    "no": "something is in the way",
    "unknown": "it cannot be told for certain",
}
_MARKS = {"ok": ("ok", "green"), "no": ("NO", "bold red"), "unknown": ("?", "yellow")}


@click.command()
@click.argument("words", nargs=-1, metavar="[NAMESPACE/SERVICE] [PATH…]")
@click.option("--ip", metavar="IP", help="Ask who has this IP, or why nobody does.")
@click.option("--node", metavar="NODE", help="Ask what this node announces, and why not more.")
@click.option("--lb-class", "load_balancer_class", metavar="CLASS", help="Services of this class are ours.")
@cluster
@click.option("-o", "--output", type=click.Choice(["text", "json"]), default="text", show_default=True)
@click.pass_context
def explain(
    context_: click.Context,
    words: tuple[str, ...],
    ip: str | None,
    node: str | None,
    load_balancer_class: str | None,
    kubeconfig: str | None,
    context: str | None,
    namespace: str,
    output: str,
) -> None:
    """Tell why a Service is announced as it is, or what is in the way.

    The whole chain, in order: class, pools, allocation, endpoints; then for each IP advertisements,
    candidates, owner, what the speakers say, routes. At the end one diagnosis, and one next step. Ask for a
    Service, an IP or a node. PATH is a file, a directory or - (stdin), as for `plan`; without one the cluster
    is asked, and nothing is changed there. Exit status: 0 it is announced, as far as can be seen; 1 something
    is in the way; 2 wrong usage; 3 it cannot be told.

    \b
    Examples:
      lbspeaker explain default/web
      lbspeaker explain default/web examples/layer2
      lbspeaker explain --ip 192.0.2.60 --kubeconfig ~/.kube/config
      kubectl get svc,endpointslices,nodes -A -o yaml | lbspeaker explain --node node-a - pools.yaml
    """
    service, paths = _asked(words, ip, node)
    address = _address(ip)
    about = _about(service, address)
    if paths:
        loaded, snapshot = read(paths, kubeconfig, context, namespace)
        found = case(snapshot, load_balancer_class, None, about)
        evidence = from_loaded(loaded)
    else:
        seen = ask(kubeconfig, context, namespace)
        found = of_cluster(seen, load_balancer_class, time.time(), namespace, about)
        evidence = _behind(kubeconfig, context, _keys(found, service, address))
    asked = frozenset(_keys(found, service, address))
    if asked:
        found = replace(found, ports=ports(replace(evidence, only=asked)))
    explanation = _explained(found, service, address, node)
    if output == "json":
        click.echo(json.dumps(as_json(explanation), indent=2))
    else:
        _print(explanation)
    context_.exit(_EXIT[explanation.verdict])


def _asked(words: tuple[str, ...], ip: str | None, node: str | None) -> tuple[str | None, tuple[str, ...]]:
    """The Service that is asked about, and the paths."""
    if ip is not None and node is not None:
        raise click.UsageError("ask for one thing: NAMESPACE/SERVICE, --ip or --node")
    if ip is not None or node is not None:
        return None, words
    if not words:
        raise click.UsageError("ask for something: NAMESPACE/SERVICE, --ip IP or --node NODE")
    if words[0] == "-" or Path(words[0]).exists():
        raise click.UsageError(f"{words[0]} is a PATH; name a Service before it: NAMESPACE/SERVICE")
    if words[0].count("/") != 1:
        raise click.UsageError(f"{words[0]} is no NAMESPACE/SERVICE; did you mean default/{words[0]}?")
    return words[0], words[1:]


def _address(text: str | None) -> Address | None:
    found = address_of(text) if text is not None else None
    if text is not None and found is None:
        raise click.UsageError(f"--ip {text} is no IP address; write 192.0.2.60 or 2001:db8::60")
    return found


def _explained(found: Case, service: str | None, ip: Address | None, node: str | None) -> Explanation:
    """Raises Unable if there is no such Service or node."""
    if ip is not None:
        explanation = explain_ip(found, ip)
        known = ip in found.outcome.holders or any(ip in pool for pool in found.snapshot.config.pools)
        near = "" if known else nearest(str(ip), tuple(map(str, found.outcome.holders)), 0.75)
        if near:
            return replace(explanation, next_step=f"did you mean {near}? Else {explanation.next_step}")
        return explanation
    if node is not None:
        if node not in found.snapshot.nodes:
            raise unknown("Node", node, found.snapshot.nodes)
        return explain_node(found, node)
    assert service is not None
    if service not in found.snapshot.services:
        raise unknown("Service", service, found.snapshot.services)
    return explain_service(found, service)


def _keys(found: Case, service: str | None, ip: Address | None) -> list[str]:
    """The Services that are explained."""
    if service is not None:
        return [service]
    return [one.key for one in found.outcome.holders.get(ip, ())] if ip is not None else []


# --- what there is to look at ---------------------------------------------------------------------------


def _about(service: str | None, ip: Address | None) -> Callable[[Service], bool] | None:
    """Which Services are asked about; None: all."""
    if service is not None:
        return lambda one: one.key == service
    return (lambda one: ip in one.held) if ip is not None else None


def _behind(kubeconfig: str | None, context: str | None, keys: Sequence[str]) -> Evidence:
    """The Pods of these Services. What is missing is told: the rest is explained without."""
    found = of_services(kubeconfig, context, keys) if keys else Evidence()
    for lack in found.lacks:
        click.echo(f"warning: its ports are not looked at: {lack.why}; {lack.remedy}", err=True)
    return found


def of_cluster(
    seen: "Look",
    class_: str | None,
    now: float,
    namespace: str,
    about: Callable[[Service], bool] | None = None,
) -> Case:
    """What a look at a cluster at `now` (Unix time) shows. What the dead said last counts for nothing."""
    told = said(seen)
    cut = cuts(told, seen.snapshot.links)
    doubt = next((lack for lack in seen.unread if lack.startswith("leases:")), "")
    living = Living(now, told, seen.refused, seen.controller, namespace, cut, doubt)
    return case(without_cuts(seen.snapshot, cut), class_, living, about)


# --- for machines ---------------------------------------------------------------------------------------


def as_json(found: Explanation) -> dict[str, Any]:
    """Return the explanation in the form of `-o json`."""
    return {
        "subject": found.subject,
        "verdict": found.verdict,
        "steps": [_step(step) for step in found.steps],
        "diagnosis": found.diagnosis,
        "nextStep": found.next_step,
    }


def _step(step: Step) -> dict[str, Any]:
    return {
        "step": step.name,
        "ip": str(step.ip) if step.ip is not None else None,
        "verdict": step.verdict,
        "reason": step.reason.value if step.reason is not None else None,
        "lines": list(step.lines),
    }


# --- for people -----------------------------------------------------------------------------------------


def _print(found: Explanation) -> None:
    """One line each, however long: a message in a narrow column is no message."""
    console = Console(highlight=False, soft_wrap=True)
    titles = [f"{step.name} {step.ip}" if step.ip is not None else step.name for step in found.steps]
    width = max(map(len, titles))
    console.print(Text(f"{found.subject}: {_VERDICTS[found.verdict]}", style="bold"))
    for step, title in zip(found.steps, titles, strict=True):
        word, style = _MARKS[step.verdict]
        for number, line in enumerate(step.lines or ("",)):
            mark = Text(f"  {word:2}  " if not number else " " * 6, style=style)
            head = f"{title:{width}}  " if not number else " " * (width + 2)
            console.print(mark + Text(head + plain(line)))
    console.print()
    console.print(Text(f"diagnosis: {plain(found.diagnosis)}"))
    console.print(Text(f"next step: {plain(found.next_step)}"))
