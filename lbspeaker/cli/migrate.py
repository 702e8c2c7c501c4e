"""`lbspeaker migrate`: MetalLB's configuration, old or new, as objects of lbspeaker."""

import asyncio
import json
import re
import shlex
import sys
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

import click
import yaml

from lbspeaker.cli.check import in_order
from lbspeaker.config import migration
from lbspeaker.config.documents import Document, from_object, printable, read
from lbspeaker.config.migration import Migration, Origin
from lbspeaker.config.text import resolve
from lbspeaker.errors import Problem, Unable, Unavailable, plain
from lbspeaker.model import SecretRef
from lbspeaker.shell import files

# What MetalLB reads, and the versions that may serve it, the best first.
COLLECTIONS = {
    "ipaddresspools": ("v1beta1",),
    "addresspools": ("v1beta1",),
    "l2advertisements": ("v1beta1",),
    "bgppeers": ("v1beta2", "v1beta1"),
    "bgpadvertisements": ("v1beta1",),
    "communities": ("v1beta1",),
    "bfdprofiles": ("v1beta1",),
}
_NAME = re.compile("[a-z0-9]([-a-z0-9.]{0,61}[a-z0-9])?")


@dataclass(frozen=True, slots=True)
class Input:
    """What was read, `told` is where from; `problems` are those of reading, `notes` are for the user."""

    told: str
    documents: Sequence[Document]
    texts: dict[str, str] = field(default_factory=dict)
    problems: Sequence[Problem] = ()
    notes: Sequence[str] = ()


def _name(context: click.Context, option: click.Parameter, value: str) -> str:
    if not _NAME.fullmatch(value):
        raise click.BadParameter(f"{value!r} is not the name of an object")
    return value


@click.command()
@click.argument("paths", metavar="[FILE]...", nargs=-1)
@click.option("--from-cluster", is_flag=True, help="Read MetalLB's configuration from its cluster.")
@click.option(
    "--namespace",
    default="metallb-system",
    show_default=True,
    callback=_name,
    metavar="NAMESPACE",
    help="Where MetalLB lives.",
)
@click.option(
    "--configmap",
    default="config",
    show_default=True,
    callback=_name,
    metavar="NAME",
    help="The ConfigMap of MetalLB before 0.13.",
)
@click.option(
    "--target-namespace",
    default="lbspeaker-system",
    show_default=True,
    callback=_name,
    metavar="NAMESPACE",
    help="Where the objects shall live.",
)
@click.option("--kubeconfig", metavar="FILE", help="Kubeconfig of the cluster (default: as kubectl does).")
@click.option("--context", metavar="NAME", help="Context of the kubeconfig.")
@click.option("--hold", is_flag=True, help="Print objects that announce nothing yet, beside MetalLB.")
@click.option("--med", type=click.IntRange(0, 2**32 - 1), help="MED of all routes; FRR sends 0.")
@click.option("--preflight", is_flag=True, help="Say what the move of a cluster would do, and its commands.")
@click.option("-o", "--output", type=click.Choice(["yaml", "json"]), help="YAML, unless this says otherwise.")
def migrate(
    paths: tuple[str, ...],
    from_cluster: bool,
    namespace: str,
    configmap: str,
    target_namespace: str,
    kubeconfig: str | None,
    context: str | None,
    hold: bool,
    med: int | None,
    preflight: bool,
    output: str | None,
) -> None:
    """Print MetalLB's configuration as objects of lbspeaker that mean the same.

    FILE is a file, a directory or - (stdin), with objects of metallb.io, with the ConfigMap of MetalLB before
    0.13, or with the text in it; other objects are left out. What cannot be taken over is told on stderr.
    Passwords in clear text move into Secrets. Nothing is changed anywhere.

    With --preflight: look at a living cluster, and say in lines like those of `doctor` whether each Service
    would keep its IP, its owner and its routes, what is refused, and what runs; then the commands of the move
    that are left, in their order. What may not be read is UNKNOWN.

    \b
    Examples:
      lbspeaker migrate metallb/ > lbspeaker.yaml
      kubectl get cm -n metallb-system config -o yaml | lbspeaker migrate -
      lbspeaker migrate --from-cluster | kubectl apply -f -
      lbspeaker migrate --preflight

    Exit status: 0 all converted, or nothing fails (warnings allowed), 1 something is wrong (the rest was
    printed), 2 wrong usage, 3 a file or the cluster cannot be read.
    """
    origin = Origin(namespace, configmap)
    if preflight:
        from lbspeaker.cli.migrate_preflight import preflight as look

        if paths or hold or output == "yaml":
            raise click.UsageError(
                "--preflight looks at a cluster: neither files, --hold nor -o yaml go with it"
            )
        look(kubeconfig, context, origin, target_namespace, as_json=output == "json")
    found = _input(paths, from_cluster, origin, kubeconfig, context)
    converted = migration.migrate
    done = converted(found.documents, found.texts, target_namespace, origin, held=hold, med=med)
    problems = in_order([*found.problems, *done.problems])
    click.echo(as_json(done) if output == "json" else as_yaml(done, found.told, problems), nl=False)
    for line in (*found.notes, *map(str, problems), *_summary(done, target_namespace)):
        click.echo(line, err=True)
    wrong = any(problem.severity == "error" for problem in problems)
    if not done.objects and not wrong:
        click.echo(f"nothing to convert in {found.told}", err=True)
    sys.exit(1 if wrong or not done.objects else 0)


# --- what is read ----------------------------------------------------------------------------------------


def _input(
    paths: Sequence[str], from_cluster: bool, origin: Origin, kubeconfig: str | None, context: str | None
) -> Input:
    if bool(paths) == from_cluster:
        raise click.UsageError("give either files or --from-cluster")
    if from_cluster:
        return asyncio.run(_cluster(origin, kubeconfig, context))
    if kubeconfig or context:
        raise click.UsageError("--kubeconfig and --context go with --from-cluster")
    return _files(paths)


def _files(paths: Sequence[str]) -> Input:
    names = dict.fromkeys(file for path in dict.fromkeys(paths) for file in files.listed(path))
    texts = {name: files.read(name) for name in names}
    documents: list[Document] = []
    problems: list[Problem] = []
    for name, text in texts.items():
        some, wrong = read(text, name)
        documents += some
        problems += wrong
    told = ", ".join("standard input" if path == files.STDIN else printable(path) for path in paths)
    return Input(told, documents, texts, problems)


async def _cluster(origin: Origin, kubeconfig: str | None, context: str | None) -> Input:
    """What MetalLB reads there. Its ConfigMap counts only without objects: no MetalLB reads both."""
    from lbspeaker.shell.apiserver import ApiServer, credentials

    try:
        access = credentials(kubeconfig, context)
    except Unable as error:
        raise Unable(error.what, "give --kubeconfig FILE, or FILE... with what kubectl gets") from error
    namespace = origin.namespace
    async with ApiServer(access, "migrate") as api:
        objects, missing = await metallb_objects(api, namespace)
        core = f"/api/v1/namespaces/{namespace}"
        config_map = await _get(api, f"{core}/configmaps/{origin.config_map}")
        installed = [plural for plural in COLLECTIONS if plural not in missing]
        looked = f"ConfigMap {namespace}/{origin.config_map}"
        if installed:
            looked += f"; {', '.join(installed)} of metallb.io in namespace {namespace}"
        if missing:
            looked += f" (not installed: {', '.join(missing)})"
        notes = []
        if objects and config_map:
            note = f"ConfigMap {namespace}/{origin.config_map} is left out: MetalLB reads the objects instead"
            notes.append(note)
        documents = objects or config_map
        return Input(f"{api.host}: {looked}", documents, notes=notes)


async def metallb_objects(api: Any, namespace: str) -> tuple[list[Document], list[str]]:
    """MetalLB's objects, and the collections that the cluster does not have."""
    objects: list[Document] = []
    missing = []
    for plural, versions in COLLECTIONS.items():
        for version in versions:
            path = f"/apis/metallb.io/{version}/namespaces/{namespace}/{plural}"
            collection = await _get(api, path)
            if collection:
                objects += _items(collection[0])
                break
        else:
            missing.append(plural)
    return objects, missing


async def _get(api: Any, path: str) -> list[Document]:
    """What is at `path`: one document, or none. Raises ApiError, Unavailable."""
    from lbspeaker.shell.apiserver import ApiError

    try:
        value = json.loads(await api.request("GET", path))
    except ApiError as error:
        if error.status == 404:
            return []
        raise
    except ValueError as error:
        raise Unavailable(f"GET {api.host}{path}: the answer is not JSON", "look at what answers") from error
    if not isinstance(value, dict):
        raise Unavailable(f"GET {api.host}{path}: the answer is no object", "look at what answers")
    return [from_object(value)]


def _items(collection: Document) -> list[Document]:
    items = collection.value.get("items")
    return [collection] if isinstance(items, list) and items else []


# --- what is printed -------------------------------------------------------------------------------------


class _Dumper(yaml.SafeDumper):
    """Writes text so that every reader of YAML takes it for text, and everything in full."""

    def ignore_aliases(self, data: Any) -> bool:
        return True

    def increase_indent(self, flow: bool = False, indentless: bool = False) -> None:
        super().increase_indent(flow, False)


def _text(dumper: yaml.SafeDumper, text: str) -> yaml.ScalarNode:
    plain = isinstance(resolve(text), str) and text not in ("y", "Y", "n", "N")
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style=None if plain else "'")


_Dumper.add_representer(str, _text)


def as_json(done: Migration) -> str:
    """Return the objects as one list."""
    items = [document.value for document in done.objects]
    return json.dumps({"apiVersion": "v1", "kind": "List", "items": items}, indent=2) + "\n"


def as_yaml(done: Migration, told: str, problems: Sequence[Problem]) -> str:
    """Return the objects as documents, each below what is wrong in it; `told` is where they come from."""
    if not done.objects:
        return ""
    by_object: dict[tuple[str, str], list[Problem]] = {}
    for problem in problems:
        by_object.setdefault((problem.file, problem.object), []).append(problem)
    parts = [_header(done, told)]
    for document in done.objects:
        parts.append("---\n")
        about = by_object.get((document.file, document.object), ())
        parts += [f"# {line}\n" for problem in about if _inside(problem, document) for line in _told(problem)]
        parts.append(yaml.dump(document.value, Dumper=_Dumper, sort_keys=False, width=110))
    return "".join(parts)


def _header(done: Migration, told: str) -> str:
    lines = [
        f"MetalLB's configuration as objects of lbspeaker, by `lbspeaker migrate` from {told}.",
        "",
        "  check it:   lbspeaker check FILE",
        "  apply it:   kubectl apply -f FILE       (once lbspeaker is installed)",
        "",
        "Both announcing the same IPs is a conflict: stop MetalLB before lbspeaker takes over.",
    ]
    if any(document.kind == "Secret" for document in done.objects):
        lines.append("There are passwords in here: guard this file like one.")
    return "".join(f"# {line}".rstrip() + "\n" for line in lines)


def _inside(problem: Problem, document: Document) -> bool:
    """Whether the problem is in this object, not in another of the same name."""
    return problem.line is None or problem.line in document.lines.values()


def _told(problem: Problem) -> list[str]:
    """The problem as comments: on lines of their own, whatever is in it."""
    where = f"{problem.path}: " if problem.path else ""
    lines = [f"{problem.severity}: {where}{problem.what}", *([f"  {problem.hint}"] if problem.hint else [])]
    return [plain(line) for line in lines]


def _summary(done: Migration, target_namespace: str) -> list[str]:
    lines = []
    if done.objects:
        lines.append(f"converted: {_counted(done.objects)}")
    if done.left_out:
        lines.append(f"left out: {_counted(done.left_out)}")
    for reference in done.secrets:
        lines += copying(reference, target_namespace)
    return lines


def _counted(documents: Iterable[Document]) -> str:
    kinds = Counter(printable(document.kind) or "object without kind" for document in documents)
    return ", ".join(f"{number} {kind}" for kind, number in kinds.items())


def copying(reference: SecretRef, target: str) -> list[str]:
    """How to copy a Secret, which is not read here."""
    if reference.namespace == target:
        return [f"Secret {printable(target)}/{printable(reference.name)} must stay where it is"]
    name, namespace = shlex.quote(reference.name), shlex.quote(reference.namespace)
    get = f"kubectl get secret {name} -n {namespace} -o yaml"
    change = shlex.quote(f"s/^  namespace: .*/  namespace: {target}/")
    return [
        f"Secret {printable(reference.namespace)}/{printable(reference.name)} is not read; copy it:",
        f"    {get} | sed {change} | kubectl apply -f -",
    ]
