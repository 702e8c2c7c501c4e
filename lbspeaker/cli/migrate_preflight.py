"""`lbspeaker migrate --preflight`: what the move from MetalLB would do to a cluster, before it begins."""

import asyncio
import json
import sys
from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any

import click

from lbspeaker.cli import doctor
from lbspeaker.cli.migrate_look import Seen, look
from lbspeaker.cli.migrate_programs import Programs, programs
from lbspeaker.cli.migrate_steps import Step, left, switched
from lbspeaker.cli.plan import decide
from lbspeaker.config.migration import ANNOUNCER, HOLD, Origin
from lbspeaker.core.checks import counted, fail, named, warn, well
from lbspeaker.core.election import rank
from lbspeaker.core.findings_node import ipvs_arp
from lbspeaker.facts import Evidence, Finding, Grade
from lbspeaker.model import Peer

_ORDER = {grade: number for number, grade in enumerate(Grade)}


def preflight(
    kubeconfig: str | None, context: str | None, origin: Origin, target: str, *, as_json: bool
) -> None:
    """Print it, and exit. Raises Unable without access, Unavailable if the cluster does not answer."""
    from lbspeaker.observe.once import access

    seen = asyncio.run(look(access(kubeconfig, context), origin, target))
    running = programs(seen.workloads)
    plan = decide(seen.then.snapshot, running.load_balancer_class)
    found = examine(seen, running, plan)
    steps = left(seen, running) if running.speaker and not seen.blind else []
    if as_json:
        told = {"next": [{"what": one.what, "run": one.run} for one in steps]}
        click.echo(json.dumps({**doctor.as_json(found, found), **told}, indent=2))
    else:
        doctor.tell(found, found)
        _tell(steps)
    failed = any(one.grade is Grade.FAIL for one in found)
    sys.exit(1 if failed else 3 if seen.blind or _half_seen(seen) or _missing(seen, running) else 0)


def _tell(steps: list[Step]) -> None:
    if steps:
        click.echo("\nnext, in this order:")
    for number, step in enumerate(steps, 1):
        click.echo(f"\n# {number}. {step.what}")
        for command in step.run:
            click.echo(command)


# --- what is found ---------------------------------------------------------------------------------------


def examine(seen: Seen, running: Programs, plan: Mapping[str, Any]) -> list[Finding]:
    """Return all findings, the worst first."""
    checks = [
        ("metallb", _metallb(seen, running)),
        ("both", _both(seen, running)),
        ("kube-proxy", ipvs_arp(Evidence(proxy=seen.proxy)) if seen.proxy else ()),
    ]
    if not seen.blind:
        checks += [
            ("configuration", _configuration(seen)),
            ("ips", _ips(seen, plan)),
            ("secrets", _secrets(seen)),
        ]
    if not seen.blind and running.speaker:
        checks += [
            ("owners", _owners(seen, plan)),
            ("routes", _routes(seen, plan)),
            ("one-path", _one_path(seen, running, plan)),
            ("attributes", _attributes(seen, running, plan)),
        ]
    found = [replace(one, code=code) for code, some in checks for one in some]
    return sorted([*found, *seen.unread], key=lambda one: _ORDER[one.grade])


def _metallb(seen: Seen, running: Programs) -> Iterator[Finding]:
    theirs = [one for one in (running.controller, running.speaker, running.frr_k8s) if one is not None]
    for part in _missing(seen, running):
        what, why = f"MetalLB's {part} is not found", "its objects are there, and somebody must follow them"
        remedy = (
            f"if it runs, label it app: {'frr-k8s' if part == 'frr-k8s' else 'metallb'}, component: {part}"
        )
        yield Finding("", Grade.UNKNOWN, f"namespace {seen.origin.namespace}", what, why, remedy)
    if not theirs and not _half_seen(seen) and not _missing(seen, running):
        what = "no program of MetalLB runs: there is nothing to stop"
        yield well(f"namespace {seen.origin.namespace}", what)
    for one in theirs:
        release = f", of the Helm release {one.release}" if one.release else ""
        stopped = ", stopped" if one.replicas == 0 else ""
        yield well(str(one), f"runs {', '.join(one.images)}{stopped}{release}")
    if running.speaker:
        yield well("BGP", f"mode {running.mode}")
    if theirs:
        yield from _class(running)
    if running.speaker and running.speaker.flag("ignore-exclude-lb"):
        excluded = [name for name, node in seen.then.snapshot.nodes.items() if node.excluded]
        if excluded:
            what, why = "it runs with --ignore-exclude-lb", "we announce nothing from nodes with that label"
            remedy = "take node.kubernetes.io/exclude-from-external-load-balancers off them"
            yield fail(named(sorted(excluded)), what, why, remedy)


def _missing(seen: Seen, running: Programs) -> list[str]:
    """The parts of MetalLB that must be there, and are not found. After the move our speaker runs alone."""
    if not seen.migration.objects or _half_seen(seen):
        return []
    moved = running.own_speaker is not None and running.speaker is None
    wanted = {
        "controller": running.controller is None and not moved,
        "speaker": running.speaker is None and not moved,
        "frr-k8s": running.frr_k8s is None and running.mode == "frr-k8s",
    }
    return [part for part, missing in wanted.items() if missing]


def _class(running: Programs) -> Iterator[Finding]:
    """Whose Services MetalLB serves, and ours."""
    wanted = running.load_balancer_class or ""
    ours = [one for one in (running.own_controller, running.own_speaker) if one is not None]
    for one in ours:
        if one.flag("lb-class") != wanted:
            what = f"it serves {_named_class(one.flag('lb-class'))}, and MetalLB {_named_class(wanted)}"
            remedy = f"give it --lb-class={wanted}" if wanted else "take --lb-class off it"
            yield fail(str(one), what, "it would leave MetalLB's Services alone", remedy)
    if wanted and not ours:
        what = f"MetalLB serves {_named_class(wanted)}"
        yield warn(
            str(running.controller), what, "our programs need the flag --lb-class", "it is in the commands"
        )


def _named_class(name: str) -> str:
    return f"Services of the loadBalancerClass {name}" if name else "Services without a loadBalancerClass"


def _half_seen(seen: Seen) -> bool:
    """Whether a program may run that is not seen."""
    return any(one.subject in ("Deployments", "DaemonSets") for one in seen.unread)


def _both(seen: Seen, running: Programs) -> Iterator[Finding]:
    """Whether ours would get in MetalLB's way."""
    if _half_seen(seen):
        return
    kinds = "our CRDs are there" if seen.installed else "our CRDs are not there yet"
    if not running.own_speaker or not running.speaker:
        yield well("lbspeaker", f"{kinds}, {'and it runs' if running.own_speaker else 'it does not run yet'}")
        return
    one, own = running.controller, running.own_controller
    if one and one.replicas and own and own.replicas:
        why = "both give IPs to the same Services"
        remedy = f"kubectl -n {one.namespace} scale deployment {one.name} --replicas=0"
        yield fail(str(one), "it runs, and ours does", why, remedy)
    policies = [one.value.get("spec") for one in seen.ours if (one.kind, one.name) == ("LinkPolicy", HOLD)]
    held = any(isinstance(spec, Mapping) and spec.get("dryRun") is True for spec in policies)
    ours = {one.kind for one in seen.ours}
    theirs = {one.kind for one in seen.migration.objects}
    if "L2Advertisement" in ours and "L2Advertisement" in theirs and not held:
        what, why = "speakers of both answer for IPs", "where they are not on one node, two answer for one IP"
        yield warn("layer 2", what, why, f"end one of them; a LinkPolicy {HOLD} with dryRun holds ours")
    peers = [
        one.name for one in seen.ours if one.kind == "BGPPeer" and ANNOUNCER not in json.dumps(one.value)
    ]
    free = [one for one in running.announcing if ANNOUNCER not in one.nodes]
    if peers and free and "BGPPeer" in theirs:
        what, why = "speakers of both call these peers", "a router takes one session from an address"
        yield fail(named(peers), what, why, "apply them held: lbspeaker migrate --hold")
    yield well("lbspeaker", f"{kinds}, and it runs{', held on layer 2' if held else ''}")


def _configuration(seen: Seen) -> Iterator[Finding]:
    if not seen.migration.objects:
        yield fail(
            f"namespace {seen.origin.namespace}",
            "there is no configuration of MetalLB",
            "",
            "see --namespace",
        )
        return
    problems = [*seen.migration.problems]
    for problem in problems:
        made = fail if problem.severity == "error" else warn
        where = f"{problem.path}: " if problem.path else ""
        yield made(problem.object, f"{where}{problem.what}", "", problem.hint)
    if not problems:
        yield well(
            "configuration",
            f"{counted(len(seen.migration.objects), 'object')}, none refused, no field ignored",
        )


def _ips(seen: Seen, plan: Mapping[str, Any]) -> Iterator[Finding]:
    why = {row["service"]: row for row in plan["refusals"]}
    for row in plan["changes"]:
        said = why.get(row["service"])
        reason = f"{said['reason']}: {said['message']}" if said else "its IP is in no pool that it may use"
        what = f"{', '.join(row['now'])} becomes {', '.join(row['then']) or 'none'}"
        yield fail(row["service"], what, reason, "a pool must have this IP: add it to MetalLB's, too")
    changing = {row["service"] for row in plan["changes"]}
    held = [key for key, one in seen.then.snapshot.services.items() if one.held and key not in changing]
    yield well(counted(len(held), "Service"), "keeps its IP" if len(held) == 1 else "keep their IPs")


def _owners(seen: Seen, plan: Mapping[str, Any]) -> Iterator[Finding]:
    """MetalLB elects one node for all IPs of a Service, by the first of them; it may say which."""
    if not any(one.kind == "L2Advertisement" for one in seen.migration.objects):
        return  # it owns nothing, or nothing any more
    snapshot = seen.then.snapshot
    stays = 0
    for row in plan["layer2"]:
        before = {node for key in row["services"] if (node := _owner_now(seen, row, key))}
        if before <= {row["owner"]}:
            stays += 1
            continue
        local = any(snapshot.services[key].local for key in row["services"] if key in snapshot.services)
        why = "neighbours hear of it" + (
            ", and until then reach a node with an endpoint, too" if local else ""
        )
        yield warn(row["ip"], f"moves from {named(sorted(before))} to {row['owner']}", why, "")
    for row in plan["unannounced"]:
        if row["protocol"] == "layer2" and seen.owners and row["service"] in seen.owners:
            yield fail(row["service"], f"{row['ip']} is announced on layer 2 no more", row["message"], "")
    if plan["layer2"]:
        yield well("layer 2", f"{stays} of {counted(len(plan['layer2']), 'IP')} stay on their nodes")


def _owner_now(seen: Seen, row: Mapping[str, Any], key: str) -> str:
    if seen.owners is not None:
        return seen.owners.get(key, "")
    service = seen.then.snapshot.services.get(key)
    first = service.held[0] if service and service.held else None
    return rank(first, dict.fromkeys(row["candidates"], 0))[0] if first else ""


def _routes(seen: Seen, plan: Mapping[str, Any]) -> Iterator[Finding]:
    """By Service, node and peer: what MetalLB says it tells, and what we would; of nodes that are its own."""
    rows = [row for row in plan["bgp"] if row["node"] not in switched(seen)]
    then = {(key, row["node"], row["peer"]) for row in rows for key in row["services"]}
    if seen.tellers is None:
        if then:
            what, why = "what MetalLB announces now is not known", "it has no ServiceBGPStatus"
            yield Finding("", Grade.UNKNOWN, "routes", what, why, "compare with the router's table")
        return
    now = {(key, node, peer) for (key, node), peers in seen.tellers.items() for peer in peers}
    now = {row for row in now if row[1] not in switched(seen)}
    for key, node, peer in sorted(now - then):
        yield fail(key, f"{node} tells {peer} of it, and would no more", "", "see configuration")
    for key, node, peer in sorted(then - now):
        yield warn(key, f"{node} would tell {peer} of it, and does not now", "", "")
    if now & then:
        yield well("routes", f"{counted(len(now & then), 'announcement')} (Service, node, peer) would stay")


def _one_path(seen: Seen, running: Programs, plan: Mapping[str, Any]) -> Iterator[Finding]:
    """Prefixes that a router has from one node only: no other holds the route while that node changes."""
    nodes: dict[tuple[str, str], set[str]] = {}
    for row in plan["bgp"]:
        nodes.setdefault((row["peer"], row["prefix"]), set()).add(row["node"])
    kept = {peer.name for peer in _peers(seen) if peer.graceful_restart_s and running.mode != "native"}
    alone: dict[str, list[str]] = {}
    for (peer, prefix), those in sorted(nodes.items()):
        if len(those) == 1 and peer not in kept:
            alone.setdefault(next(iter(those)), []).append(prefix)
    for node, prefixes in alone.items():
        why = "the router has no route for the seconds in which that node's session changes"
        remedy = "a second node (or endpoint); in the FRR modes, enableGracefulRestart in the BGPPeer"
        yield warn(node, f"it alone announces {named(list(dict.fromkeys(prefixes)))}", why, remedy)
    if nodes and not alone:
        yield well("routes", "other nodes, or graceful restart, hold each while a node changes")


def _attributes(seen: Seen, running: Programs, plan: Mapping[str, Any]) -> Iterator[Finding]:
    """As MetalLB's modes send them: ORIGIN IGP, its own AS, next hop itself, the communities, as we do."""
    inner = {peer.name for peer in _peers(seen) if peer.ibgp}
    unset = sorted({row["peer"] for row in plan["bgp"] if row["peer"] in inner and row["localPref"] is None})
    if running.mode == "native" and unset:
        what = "LOCAL_PREF 0 becomes 100: native mode sends what is unset as 0"
        why = "while speakers change, routers prefer the nodes that have changed; no route is missing"
        yield warn(
            named(unset), what, why, "set localPref in MetalLB's BGPAdvertisements before, 100 for example"
        )
    elif plan["bgp"]:
        yield well(
            "attributes", f"the same ORIGIN, AS path, next hop, LOCAL_PREF and communities{_med(running)}"
        )


def _med(running: Programs) -> str:
    return "; MED 0 as FRR sends it, by --med 0 below" if running.mode in ("frr", "frr-k8s") else ""


def _peers(seen: Seen) -> tuple[Peer, ...]:
    return seen.then.config.peers


def _secrets(seen: Seen) -> Iterator[Finding]:
    for one in seen.migration.secrets:
        yield well(f"Secret {one.namespace}/{one.name}", "its password is to be copied, by a command below")
