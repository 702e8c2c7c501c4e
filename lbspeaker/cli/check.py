"""`lbspeaker check`: is this configuration right, and if not, where and why."""

import json
import sys
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import asdict

import click

from lbspeaker.config.documents import Document, printable
from lbspeaker.config.parse import is_configuration
from lbspeaker.errors import Problem
from lbspeaker.observe import load


@click.command()
@click.argument("paths", metavar="PATH...", nargs=-1, required=True)
@click.option("-o", "--output", type=click.Choice(["text", "json"]), default="text", show_default=True)
def check(paths: tuple[str, ...], output: str) -> None:
    """Check configuration documents, ours and MetalLB's, and the cluster's objects that `plan` reads.

    PATH is a file, a directory (all *.yaml, *.yml and *.json in it, at any depth) or - for standard input.
    Names are looked up in everything that is given, so give all of a configuration at once.

    \b
    Examples:
      lbspeaker check pools.yaml
      lbspeaker check deploy/ -o json
      kubectl get ipaddresspools,l2advertisements -A -o yaml | lbspeaker check -

    Exit status: 0 valid (warnings allowed), 1 invalid, 3 a path cannot be read.
    """
    loaded = load(list(dict.fromkeys(paths)))
    problems = in_order(loaded.problems)
    errors = sum(problem.severity == "error" for problem in problems)
    if output == "json":
        click.echo(json.dumps({"valid": not errors, "problems": [asdict(one) for one in problems]}, indent=2))
    else:
        for problem in problems:
            click.echo(str(problem))
        click.echo(summary(paths, loaded.documents, problems))
    sys.exit(1 if errors else 0)


def in_order(problems: Iterable[Problem]) -> list[Problem]:
    """Return the problems of each file together, from its first line to its last."""
    told = list(problems)
    order = {file: number for number, file in enumerate(dict.fromkeys(one.file for one in told))}
    return sorted(told, key=lambda one: (order[one.file], one.line or 0))


def summary(paths: Sequence[str], documents: Sequence[Document], problems: Sequence[Problem]) -> str:
    """Return the last line: how many problems where, or what the valid documents are."""
    errors = sum(problem.severity == "error" for problem in problems)
    warnings = len(problems) - errors
    tail = f" ({_counted(warnings, 'warning')})" if warnings else ""
    if errors:
        files = list(dict.fromkeys(one.file for one in problems if one.severity == "error"))
        return f"{_counted(errors, 'problem')} in {_listed(files)}{tail}"
    ours = [document for document in documents if is_configuration(document)]
    others = [document for document in documents if not is_configuration(document)]
    kinds = Counter(_noun(document) for document in ours + others)
    content = ", ".join(_counted(number, noun) for noun, number in kinds.items())
    if not ours:
        content = f"no configuration in it ({content or 'no documents at all'})"
    return f"{_listed(list(dict.fromkeys(paths)))}: valid: {content}{tail}"


def _noun(document: Document) -> str:
    return {"IPAddressPool": "pool", "": "object without kind"}.get(document.kind) or printable(document.kind)


def _counted(number: int, noun: str) -> str:
    head, space, tail = noun.partition(" ")  # of "object without kind" the first word has a plural
    plural = head[:-1] + "ies" if head.endswith("y") else head + "s"
    return f"{number} {noun if number == 1 or head.endswith('s') else plural + space + tail}"


def _listed(names: Sequence[str]) -> str:
    return ", ".join(names) if len(names) <= 3 else f"{len(names)} files"
