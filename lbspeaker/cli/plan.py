"""`lbspeaker plan`: what the whole system would decide for documents on disk."""

import json
from collections.abc import Callable, Mapping
from typing import Any

import click
import yaml
from rich.console import Console

from lbspeaker.cli import screen
from lbspeaker.cli.source import cluster, right
from lbspeaker.core.announce import Picture
from lbspeaker.core.outcome import outcome
from lbspeaker.core.usage import usage
from lbspeaker.ledger import remembered
from lbspeaker.model import Address, Allocation, Refusal, Snapshot
from lbspeaker.observe import load


@click.command()
@click.argument("paths", nargs=-1, required=True, metavar="PATH…")
@click.option(
    "-o", "--output", type=click.Choice(["table", "json", "yaml"]), default="table", show_default=True
)
@click.option("--lb-class", "load_balancer_class", metavar="CLASS", help="Plan Services of this class.")
@click.option("--diff", is_flag=True, help="Tell what PATH would change; 1 if something would be lost.")
@click.option("--from", "old", multiple=True, metavar="OLD", help="With --diff: a PATH of what is now.")
@click.option("--prune", is_flag=True, help="With --diff: what PATH does not have is deleted.")
@cluster
def plan(
    paths: tuple[str, ...],
    output: str,
    load_balancer_class: str | None,
    diff: bool,
    old: tuple[str, ...],
    prune: bool,
    **which: Any,
) -> None:
    """Show which Service would get which IP, and who would announce it.

    PATH is a file, a directory or - (stdin), with configuration, Services, EndpointSlices, Nodes, Namespaces
    and Secrets. Of a directory the allocations count, too, that a speaker without an API server keeps there.
    Every Node counts as alive with a speaker. Nothing is changed anywhere. Exit status: 0 there is a plan
    (with refusals, too), 1 the documents are wrong, 3 they cannot be read.

    With --diff: what would happen to living Services if PATH were applied: IPs that would change, owners that
    would move, routes that would go. What is now is OLD, and PATH is all that is there afterwards; kinds of
    the cluster (Services, Nodes …) that PATH has none of stay as they are in OLD. Without OLD the cluster is
    asked, and PATH is added to what it has (--prune: in place of it). Exit status: 0 nothing would be lost,
    1 something would, or the documents are wrong, 2 wrong usage, 3 it cannot be told.

    \b
    Examples:
      lbspeaker plan examples/layer2
      kubectl get svc,endpointslices,nodes -A -o yaml | lbspeaker plan - pools.yaml
      lbspeaker plan --diff new.yaml --from old.yaml --from cluster.yaml
      lbspeaker plan --diff pools.yaml --kubeconfig ~/.kube/config
    """
    if diff:
        from lbspeaker.cli.plan_diff import compare

        compare(paths, old, output, load_balancer_class, prune=prune, **which)
        return
    if old or prune or which["kubeconfig"] or which["context"]:
        raise click.UsageError("--from, --prune, --kubeconfig and --context go with --diff")
    loaded = load(paths)
    right(loaded)
    show(decide(remembered(loaded.snapshot, paths), load_balancer_class), output, _print)


def show(found: dict[str, Any], output: str, table: Callable[[Mapping[str, Any]], None]) -> None:
    """Print it as JSON, as YAML, or for people."""
    if output == "json":
        click.echo(json.dumps(found, indent=2))
    elif output == "yaml":
        click.echo(yaml.safe_dump(found, sort_keys=False), nl=False)
    else:
        table(found)


def decide(snapshot: Snapshot, load_balancer_class: str | None = None) -> dict[str, Any]:
    """Return the plan for `snapshot`, in the form of `-o json`."""
    found = outcome(snapshot, load_balancer_class)
    held = {s.key: s.held for s in found.passes[0] if s.held}
    return {
        "allocations": _allocations(found.results),
        "changes": _changes(held, found.results),
        "refusals": _refusals(found.refusals),
        "notes": _refusals(found.notes),
        **_announcements(found.picture),
        "pools": _pools(snapshot, found.results),
    }


def _allocations(results: Mapping[str, Allocation | Refusal]) -> list[dict[str, Any]]:
    return [
        {"service": key, "ips": [str(ip) for ip in result.ips], "pool": result.pool}
        for key, result in sorted(results.items())
        if isinstance(result, Allocation)
    ]


def _changes(
    held: Mapping[str, tuple[Address, ...]], results: Mapping[str, Allocation | Refusal]
) -> list[dict[str, Any]]:
    """The services that would not have the IPs any more that they have now."""
    now = {key: results[key] for key in sorted(held)}
    after = {key: result.ips if isinstance(result, Allocation) else () for key, result in now.items()}
    return [
        {"service": key, "now": [str(ip) for ip in held[key]], "then": [str(ip) for ip in after[key]]}
        for key in after
        if set(held[key]) != set(after[key])
    ]


def _refusals(refusals: Mapping[str, Refusal]) -> list[dict[str, Any]]:
    return [
        {"service": key, "reason": refusal.reason.value, "message": refusal.message}
        for key, refusal in sorted(refusals.items())
    ]


def _announcements(found: Picture) -> dict[str, Any]:
    l2 = sorted(found.l2.values(), key=lambda a: (a.ip.version, int(a.ip)))
    return {
        "layer2": [
            {
                "ip": str(a.ip),
                "services": list(a.services),
                "owner": a.owner,
                "candidates": list(a.candidates),
                "interfaces": sorted(a.interfaces),
            }
            for a in l2
        ],
        "bgp": [
            {
                "node": node,
                "peer": peer,
                "prefix": str(prefix),
                "services": list(planned.services),
                "localPref": planned.route.local_pref,
                "med": planned.route.med,
                "asPathPrepend": planned.route.prepend,
                "communities": list(planned.route.communities),
            }
            for node, routes in sorted(found.bgp.items())
            for peer, table in sorted(routes.items())
            for prefix, planned in sorted(table.items(), key=lambda item: str(item[0]))
        ],
        "unannounced": [
            {
                "service": row.service,
                "ip": str(row.ip),
                "protocol": row.protocol,
                "node": row.node,
                "reason": row.refusal.reason.value,
                "message": row.refusal.message,
            }
            for row in found.unannounced
        ],
    }


def _pools(snapshot: Snapshot, results: Mapping[str, Allocation | Refusal]) -> list[dict[str, Any]]:
    used = usage(results, snapshot.config.pools)
    return [
        {
            "name": pool.name,
            "size": {"ipv4": pool.size(4), "ipv6": pool.size(6)},
            "used": {"ipv4": (use := used.of(pool.name)).assigned[4], "ipv6": use.assigned[6]},
            "pending": use.pending,
        }
        for pool in snapshot.config.pools
    ]


# --- for people -----------------------------------------------------------------------------------------


def _print(found: Mapping[str, Any]) -> None:
    console = screen.console()
    owners = {row["ip"]: row["owner"] for row in found["layer2"]}
    routes: dict[str, list[str]] = {}
    for row in found["bgp"]:
        for key in row["services"]:
            routes.setdefault(key, []).append(f"{row['node']}→{row['peer']}")
    table = screen.table("SERVICE", "IP", "POOL", "OWNER (layer 2)", "BGP")
    for row in found["allocations"]:
        for ip in row["ips"]:
            bgp = ", ".join(sorted(set(routes.get(row["service"], ())))) or "-"
            table.add_row(row["service"], ip, row["pool"], owners.get(ip, "-"), bgp)
    console.print(table)
    _print_refusals(console, found)
    pools = screen.table("POOL", "IPV4", "IPV6")
    for row in found["pools"]:
        filled = (
            f"{row['used'][f]} of {row['size'][f]}" if row["size"][f] else "-" for f in ("ipv4", "ipv6")
        )
        pools.add_row(row["name"], *filled)
    console.print(pools)


def _print_refusals(console: Console, found: Mapping[str, Any]) -> None:
    """One line each, however long: a message in a narrow column is no message."""
    for row in found["changes"]:
        then = ", ".join(row["then"]) or "none"
        text = f"{row['service']} changes its IP: {', '.join(row['now'])} becomes {then}"
        console.print(text, soft_wrap=True, highlight=False, markup=False)
    for row in found["refusals"]:
        _line(console, f"{row['service']} gets no IP", row)
    for row in found["notes"]:
        _line(console, f"{row['service']} does not get all that it asks for", row)
    for row in found["unannounced"]:
        where = f" from {row['node']}" if row["node"] else ""
        _line(console, f"{row['service']} {row['ip']} is not announced by {row['protocol']}{where}", row)


def _line(console: Console, what: str, row: Mapping[str, Any]) -> None:
    console.print(f"{what}: {row['reason']}: {row['message']}", soft_wrap=True, highlight=False, markup=False)
