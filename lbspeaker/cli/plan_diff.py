"""`lbspeaker plan --diff`: what a change would do to living Services, before it is applied."""

import sys
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import click
from rich.console import Console

from lbspeaker.cli.plan import show
from lbspeaker.cli.source import ask, read, right
from lbspeaker.config.documents import Document
from lbspeaker.config.parse import is_configuration
from lbspeaker.core.difference import Difference, IPs, Owner, Told, changed, difference
from lbspeaker.core.outcome import Outcome, outcome
from lbspeaker.model import Refusal, Route, Snapshot
from lbspeaker.observe import load
from lbspeaker.observe.documents import loaded

_LEAVING = "1970-01-01T00:00:00Z"  # when its deletion is asked for: only that it is counts


def compare(
    paths: tuple[str, ...],
    old: tuple[str, ...],
    output: str,
    load_balancer_class: str | None,
    *,
    prune: bool,
    kubeconfig: str | None,
    context: str | None,
    namespace: str,
) -> None:
    """Print the difference, and exit. Raises ConfigError, Malformed, Unable, Unavailable."""
    if "-" in paths and "-" in old:
        raise click.UsageError("stdin (-) can be PATH or --from, not both")
    if old and (kubeconfig or context or prune):
        raise click.UsageError("--kubeconfig, --context and --prune are about a cluster, --from is not")
    snapshot, now = _now(old, kubeconfig, context, namespace)
    before = outcome(snapshot, load_balancer_class, living=not old)
    new = load(paths)
    if not old:
        new = loaded([*new.documents, *_staying(now, new.documents, before, prune=prune)])
    right(new)
    if any(map(is_configuration, now)) and not any(map(is_configuration, new.documents)):
        raise click.UsageError("there is no configuration in PATH; if all of it is to go, say so with --from")
    after = changed(before, new.snapshot, load_balancer_class, added=not old and not prune)
    found = difference(before, after)
    show(as_json(found), output, lambda _: _print(found))
    sys.exit(1 if found.lost else 0)


def _now(
    old: tuple[str, ...], kubeconfig: str | None, context: str | None, namespace: str
) -> tuple[Snapshot, Sequence[Document]]:
    """What is now: the world, and the documents of its configuration."""
    if old:
        documents, snapshot = read(old, kubeconfig, context, namespace)
        return snapshot, documents.documents
    seen = ask(kubeconfig, context, namespace)
    return seen.snapshot, seen.documents


def _staying(
    now: Iterable[Document], new: Iterable[Document], before: Outcome, *, prune: bool
) -> list[Document]:
    """The configuration of a cluster that is there beside what is new: all of it, unless it is deleted.

    A pool of ours that is deleted goes when its last Service has gone: until then it only gives nothing more.
    """
    replaced = {document.object for document in new}
    others = [one for one in now if is_configuration(one) and one.object not in replaced]
    if not prune:
        return others
    used = {name for service in before.snapshot.services.values() for name in _pools(service.held_pool)}
    return [
        one.leaving(_LEAVING)
        for one in others
        if one.kind == "IPAddressPool" and one.api_version.startswith("lbspeaker.io/") and one.name in used
    ]


def _pools(names: str | None) -> list[str]:
    return (names or "").split(",")


# --- for machines ---------------------------------------------------------------------------------------


def as_json(found: Difference) -> dict[str, Any]:
    """Return the difference in the form of `-o json`."""
    return {
        "lost": found.lost,
        "servicesKept": found.kept,
        "ips": [_ips(row) for row in found.ips],
        "owners": [_owner(row) for row in found.owners],
        "routes": [_told(row) for row in found.routes],
        "notes": [{"service": key, **_why(note)} for key, note in found.notes],
        "sessions": list(found.sessions),
    }


def _ips(row: IPs) -> dict[str, Any]:
    ips = {"before": [str(ip) for ip in row.before], "after": [str(ip) for ip in row.after]}
    return {"service": row.service, **ips, **_why(row.why), "lost": row.lost}


def _owner(row: Owner) -> dict[str, Any]:
    where = {"ip": str(row.ip), "services": list(row.services)}
    return {**where, "before": row.before, "after": row.after, **_why(row.why), "lost": row.lost}


def _told(row: Told) -> dict[str, Any]:
    where = {"node": row.node, "peer": row.peer, "prefix": str(row.prefix)}
    return {**where, "before": _route(row.before), "after": _route(row.after), "lost": row.lost}


def _why(refusal: Refusal | None) -> dict[str, Any]:
    if refusal is None:
        return {"reason": None, "message": None}
    return {"reason": refusal.reason.value, "message": refusal.message}


def _route(route: Route | None) -> dict[str, Any] | None:
    if route is None:
        return None
    return {
        "localPref": route.local_pref,
        "med": route.med,
        "asPathPrepend": route.prepend,
        "communities": list(route.communities),
    }


# --- for people -----------------------------------------------------------------------------------------


def _print(found: Difference) -> None:
    """What is lost first; one line each, however long."""
    console = Console(highlight=False, soft_wrap=True)
    lines = [(row.lost, _ips_line(row)) for row in found.ips]
    lines += [(row.lost, _owner_line(row)) for row in found.owners]
    lines += _route_lines(found.routes)
    lines += [(False, f"{key} is told {note.reason.value}: {note.message}") for key, note in found.notes]
    lines += [(False, f"sessions with {peer} may begin anew: its BGPPeer changes") for peer in found.sessions]
    for lost, line in sorted(lines, key=lambda one: not one[0]):
        console.print(f"{'LOST' if lost else '    '}  {line}", markup=False)
    whose, have = ("Service", "it has") if found.kept == 1 else ("Services", "they have")
    kept = f"{found.kept} {whose} would keep what {have}"
    verdict = f"{found.lost} would be lost" if found.lost else "nothing would be lost"
    console.print(f"{verdict}; {kept}" if lines else f"nothing would change; {kept}")


def _ips_line(row: IPs) -> str:
    before, after = (", ".join(map(str, ips)) for ips in (row.before, row.after))
    why = f": {row.why.reason.value}: {row.why.message}" if row.why is not None else ""
    if not row.before:
        return f"{row.service} gets {after}{why}"
    if not row.after:
        return f"{row.service} loses {before}{why or ': it is gone'}"
    return f"{row.service} changes its IP: {before} becomes {after}{why}"


def _owner_line(row: Owner) -> str:
    of = f"{row.ip} ({', '.join(row.services)})"
    if row.before is None:
        return f"{of} is announced on layer 2, by {row.after}"
    if row.after is None:
        why = f": {row.why.reason.value}: {row.why.message}" if row.why is not None else ""
        return f"{of} is announced on layer 2 no more{why}"
    return f"{of} moves from {row.before} to {row.after}"


def _route_lines(rows: Iterable[Told]) -> list[tuple[bool, str]]:
    """The same of several nodes is one line."""
    nodes: dict[tuple[bool, str], list[str]] = {}
    for row in rows:
        nodes.setdefault((row.lost, _route_text(row)), []).append(row.node)
    return [(lost, text.format(", ".join(names))) for (lost, text), names in nodes.items()]


def _route_text(row: Told) -> str:
    where = f"{row.prefix} to {row.peer} from {{}}"
    if row.after is None:
        return f"{where}: the route goes{', and no other node has it' if row.lost else ''}"
    if row.before is None:
        return f"{where}: a new route"
    before, after = _route(row.before), _route(row.after)
    assert before is not None and after is not None
    return f"{where}: {', '.join(_changes(before, after))}"


def _changes(before: Mapping[str, Any], after: Mapping[str, Any]) -> Iterable[str]:
    for name, value in before.items():
        if value != after[name]:
            yield f"{name} {_value(value)} becomes {_value(after[name])}"


def _value(value: Any) -> str:
    if isinstance(value, list):
        return " ".join(value) or "none"
    return "unset" if value is None else str(value)
