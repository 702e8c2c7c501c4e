"""`lbspeaker doctor`: what is wrong in the cluster and on this node, and what to do about it."""

import asyncio
import json
import re
import sys
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path

import click

from lbspeaker.cli.source import cluster, unknown
from lbspeaker.core.findings import examine, looked_at
from lbspeaker.core.findings_connect import targets
from lbspeaker.errors import Unable, Unavailable, plain
from lbspeaker.facts import Evidence, Finding, Grade, Lack, Part
from lbspeaker.ledger import remembered
from lbspeaker.shell import machine
from lbspeaker.shell.connect import attempts

_KEY = re.compile(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?/[a-z0-9]([-a-z0-9.]*[a-z0-9])?")
_PORTS = frozenset({179, 3784, 4784})  # BGP; BFD over one hop, and over several
_MOST_TRIED, _PATIENCE_S = 2000, 1.0  # connections
_COLORS = {Grade.FAIL: "red", Grade.WARN: "yellow", Grade.UNKNOWN: "magenta", Grade.PASS: "green"}
_ON_A_NODE = "run it on one: kubectl -n lbspeaker-system exec ds/speaker -- lbspeaker doctor"


@click.command()
@click.argument("what", nargs=-1, metavar="[NAMESPACE/SERVICE | PATH]…")
@click.option("--problems", is_flag=True, help="Hide what passes.")
@click.option(
    "--node-facts/--no-node-facts",
    default=None,
    help="Look at this machine, too, or not; by default if it is a node of the cluster.",
)
@click.option("--connect", is_flag=True, help="Open a TCP connection to each Pod's port, from here, too.")
@cluster
@click.option("-o", "--output", type=click.Choice(["text", "json"]), default="text", show_default=True)
def doctor(
    what: tuple[str, ...],
    problems: bool,
    node_facts: bool | None,
    connect: bool,
    kubeconfig: str | None,
    context: str | None,
    namespace: str,
    output: str,
) -> None:
    """Look for what is wrong: Services and their Pods, pools, other load balancers, this node. Nothing is
    changed.

    A finding is one line with what is so and why it matters, and one with what to do. The cluster is asked;
    or PATH is read: a file, a directory or - (stdin). With NAMESPACE/SERVICE only these Services are looked
    at, beside pools and nodes. This machine is looked at if one of the Nodes has an address of it, or, when
    no cluster can be asked, if a kubelet runs on it. What may not be read is UNKNOWN; all else is looked at.
    Exit status: 0 nothing fails (warnings allowed), 1 something fails, 2 wrong usage, 3 nothing could be
    looked at.

    \b
    Examples:
      lbspeaker doctor
      lbspeaker doctor shop/web --problems
      kubectl get svc,endpointslices,pods,nodes,ds -A -o yaml | lbspeaker doctor - pools.yaml
      kubectl -n lbspeaker-system exec ds/speaker -- lbspeaker doctor
    """
    paths, keys = _told_apart(what)
    if paths and (kubeconfig or context):
        raise click.UsageError("give either PATH or --kubeconfig and --context")
    evidence = _evidence(paths, kubeconfig, context, namespace, node_facts)
    if node_facts is None and not paths and Part.NODES not in evidence.known:
        node_facts = machine.has_kubelet() or None
    evidence = _only(_with_node(evidence, node_facts), keys)
    found = examine(_with_attempts(evidence) if connect else evidence)
    shown = [one for one in found if one.grade is not Grade.PASS or not problems]
    if output == "json":
        click.echo(json.dumps(as_json(found, shown), indent=2))
    else:
        tell(found, shown)
    if not looked_at(found):
        sys.exit(3)
    sys.exit(1 if any(one.grade is Grade.FAIL for one in found) else 0)


# --- what is asked for ----------------------------------------------------------------------------------


def _told_apart(words: Sequence[str]) -> tuple[list[str], list[str]]:
    """The paths, and the Services: what is there as a file is a path."""
    paths = [word for word in words if word == "-" or Path(word).exists()]
    keys = [word for word in words if word not in paths]
    for word in keys:
        if not _KEY.fullmatch(word):
            what = f"{word!r} is neither a file nor NAMESPACE/SERVICE"
            raise click.UsageError(what + (f": write default/{word}" if "/" not in word else ""))
    return list(dict.fromkeys(paths)), keys


def _evidence(
    paths: list[str], kubeconfig: str | None, context: str | None, namespace: str, node_facts: bool | None
) -> Evidence:
    """What the documents say, or the cluster; where there is none, a node itself says something."""
    from lbspeaker.observe import evidence

    if paths:
        found = evidence.from_files(paths)
        return replace(found, snapshot=remembered(found.snapshot, paths))
    try:
        return evidence.from_cluster(kubeconfig, context, namespace)
    except (Unable, Unavailable) as error:
        if kubeconfig or context or node_facts is False or not (node_facts or machine.has_kubelet()):
            raise
        lacks = [Lack(part, error.what, error.hint) for part in Part if part is not Part.HERE]
        return Evidence(lacks=tuple(lacks))


def _with_node(evidence: Evidence, wanted: bool | None) -> Evidence:
    """The same with this machine, if it is a node, or shall be looked at."""
    from lbspeaker.observe import here

    if wanted is False:
        return evidence
    name = here.which(evidence.snapshot.nodes.values(), here.own_links())
    if not name and wanted:
        name = here.hostname()
    if not name:
        why = "this machine has the address of no Node" if evidence.snapshot.nodes else "no Node is known"
        lack = Lack(Part.HERE, why, f"{_ON_A_NODE}; or give --node-facts")
        return replace(evidence, lacks=(*evidence.lacks, lack))
    ports = {port.node_port for one in evidence.services.values() for port in one.ports if port.node_port}
    found = here.look(name, _PORTS | ports)
    return replace(evidence, here=found, known=evidence.known | {Part.HERE})


def _with_attempts(evidence: Evidence) -> Evidence:
    """The same with what Pods said to who connects."""
    tried = asyncio.run(attempts(targets(evidence)[:_MOST_TRIED], _PATIENCE_S))
    return replace(evidence, tried=tried)


def _only(evidence: Evidence, keys: Sequence[str]) -> Evidence:
    """The same for these Services. Raises Unable if one is not there."""
    for key in keys:
        if Part.SERVICES in evidence.known and key not in evidence.services:
            raise unknown("Service", key, evidence.services)
    return replace(evidence, only=frozenset(keys))


# --- for machines ---------------------------------------------------------------------------------------


def as_json(found: Iterable[Finding], shown: Iterable[Finding]) -> dict[str, object]:
    """Return the form of `-o json`: counts of all, and the findings that are `shown`."""
    return {
        "counts": {grade.value: number for grade, number in _counts(found).items()},
        "findings": [{**asdict(one), "grade": one.grade.value} for one in shown],
    }


def _counts(found: Iterable[Finding]) -> Mapping[Grade, int]:
    counts = Counter(one.grade for one in found)
    return {grade: counts[grade] for grade in Grade}


# --- for people -----------------------------------------------------------------------------------------


def tell(found: Sequence[Finding], shown: Sequence[Finding]) -> None:
    """Print a verdict, and the findings that are `shown`: what each says, and what to do."""
    counts = {grade: number for grade, number in _counts(found).items() if number}
    told = ", ".join(f"{number} {grade}" for grade, number in counts.items())
    verdict = "well" if not {Grade.FAIL, Grade.WARN, Grade.UNKNOWN} & counts.keys() else told
    click.echo(verdict if verdict == told else f"{verdict}: {told}")
    for codes, one in _merged(shown):
        line = f"{', '.join(codes)}: {one.subject}: {one.what}" + (f"; {one.why}" if one.why else "")
        click.echo(click.style(f"{one.grade:<8}", _COLORS[one.grade]) + _on_one_line(line))
        if one.remedy:
            click.echo(f"        → {_on_one_line(one.remedy)}")


def _merged(shown: Iterable[Finding]) -> list[tuple[list[str], Finding]]:
    """What could not be looked at for one reason is one line, with the codes of all its checks."""
    lines: list[tuple[list[str], Finding]] = []
    places: dict[Finding, int] = {}
    for one in shown:
        key = replace(one, code="")
        if one.grade is Grade.UNKNOWN and key in places:
            lines[places[key]][0].append(one.code)
        else:
            places[key] = len(lines)
            lines.append(([one.code], one))
    return lines


def _on_one_line(text: str) -> str:
    return plain("".join(" " if letter.isspace() else letter for letter in text))
