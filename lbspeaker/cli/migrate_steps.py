"""The commands of the move from MetalLB that are left, in their order, with the names that a cluster has.

Layer 2 is made before it is broken: our speakers answer beside MetalLB's, on the same nodes, before those
stop. BGP goes node by node, by a label that says whose speaker has the session, because a router takes one
from an address; the other nodes hold the route meanwhile.
"""

import json
import shlex
from collections.abc import Iterator
from dataclasses import dataclass

from lbspeaker.cli.migrate import copying
from lbspeaker.cli.migrate_look import Seen
from lbspeaker.cli.migrate_programs import Programs, Workload
from lbspeaker.config.migration import ANNOUNCER, HOLD
from lbspeaker.model import any_selects

_SAVED = "metallb.yaml"
_OF_SERVER = "sed -E '/^    (uid|resourceVersion|creationTimestamp|generation): /d'"
_BOUND = (
    '{"spec":{"updateStrategy":{"type":"OnDelete","rollingUpdate":null},'
    f'"template":{{"spec":{{"nodeSelector":{{"{ANNOUNCER}":"metallb"}}}}}}}}}}'
)
_ANSWER = """'{"spec":{"dryRun":false}}'"""


@dataclass(frozen=True, slots=True)
class Step:
    """What is done, and the lines that do it. `done`: they were run already."""

    what: str
    run: tuple[str, ...]
    done: bool = False


def left(seen: Seen, running: Programs) -> list[Step]:
    """Return the steps that are still to be done."""
    steps = [*_before(seen, running), *_beside(seen, running), *_switch(seen), _after(seen, running)]
    return [step for step in steps if not step.done]


def _before(seen: Seen, running: Programs) -> Iterator[Step]:
    """MetalLB gives no IPs any more; all that it announces stays."""
    namespace = seen.origin.namespace
    kinds = ",".join(f"{plural}.metallb.io" for plural in seen.kinds)
    keep = f"kubectl -n {namespace} get {kinds} -o yaml | {_OF_SERVER} > {_SAVED}"
    begun = bool(switched(seen)) or (_layer2(seen) and not _theirs(seen, "L2Advertisement"))
    yield Step("Keep MetalLB's configuration", (keep,), begun)
    crds = "kubectl apply -f config/base/namespace.yaml -f config/base/crds.yaml"
    yield Step("Our kinds, and the namespace", (crds,), seen.installed)
    if (one := running.controller) is not None:
        stop = f"kubectl -n {one.namespace} scale deployment {one.name} --replicas=0"
        yield Step("MetalLB's controller gives no IPs any more", (stop,), one.replicas == 0)


def _beside(seen: Seen, running: Programs) -> Iterator[Step]:
    """Our programs run, and say nothing."""
    copies = [line.strip() for one in seen.migration.secrets for line in copying(one, seen.target)[1:]]
    wanted = {one.object for one in seen.migration.objects if one.kind != "Secret"}
    there = {one.object for one in seen.ours} >= wanted
    yield Step("The configuration, saying nothing yet", (_apply(seen, running, " --hold"), *copies), there)
    if _bgp(seen):
        label = f"kubectl label nodes --all {ANNOUNCER}=metallb"
        bound = all(ANNOUNCER in one.nodes for one in running.announcing)
        yield Step("A label says who speaks BGP on a node", (label, *map(_bind, running.announcing)), bound)
    lines = (
        "kubectl apply -k config",
        f"kubectl -n {seen.target} rollout status daemonset/speaker --timeout=10m",
        "lbspeaker migrate --preflight",
    )
    controller = running.own_controller
    runs = running.own_speaker is not None and controller is not None and controller.replicas != 0
    yield Step("Our programs, beside MetalLB's speakers", lines, runs)
    name, ours = running.load_balancer_class or "", (controller, running.own_speaker)
    served = all(one is not None and one.flag("lb-class") == name for one in ours)
    what = "They serve the class that MetalLB serves; write that into your overlay, too, for later"
    yield Step(what, tuple(_classed(seen, name)), not name or served)


def _classed(seen: Seen, name: str) -> Iterator[str]:
    add = {"op": "add", "path": "/spec/template/spec/containers/0/args/-", "value": f"--lb-class={name}"}
    patch = shlex.quote(json.dumps([add]))
    for program in ("deployment controller", "daemonset speaker"):
        yield f"kubectl -n {seen.target} patch {program} --type=json -p {patch}"


def _switch(seen: Seen) -> Iterator[Step]:
    if _layer2(seen):
        lines = (
            f"kubectl -n {seen.target} patch linkpolicy {HOLD} --type=merge -p {_ANSWER}",
            "sleep 5",
            f"kubectl -n {seen.origin.namespace} delete l2advertisements.metallb.io --all",
        )
        yield Step("Layer 2: ours answer, then MetalLB's do not", lines, not _theirs(seen, "L2Advertisement"))
    if _bgp(seen):
        done = len(switched(seen)) == len(seen.then.snapshot.nodes)
        yield Step("BGP: one node after the other", tuple(_sessions(seen)), done)


def _after(seen: Seen, running: Programs) -> Step:
    lines = [f"kubectl -n {one.namespace} delete daemonset {one.name}" for one in running.announcing]
    if _bgp(seen):
        lines = [_apply(seen, running), *lines, f"kubectl label nodes --all {ANNOUNCER}-"]
    if _layer2(seen):
        lines.append(f"kubectl -n {seen.target} delete linkpolicy {HOLD}")
    return Step("The end of the move; the way back is longer from here", tuple(lines))


def _layer2(seen: Seen) -> bool:
    return any(one.kind == "L2Advertisement" for one in (*seen.migration.objects, *seen.ours))


def _bgp(seen: Seen) -> bool:
    return bool(seen.then.config.peers)


def _theirs(seen: Seen, kind: str) -> bool:
    return any(one.kind == kind for one in seen.migration.objects)


def switched(seen: Seen) -> list[str]:
    """Return the nodes on which our speakers have the sessions."""
    nodes = seen.then.snapshot.nodes.values()
    return [node.name for node in nodes if node.labels.get(ANNOUNCER) == "lbspeaker"]


def _apply(seen: Seen, running: Programs, more: str = "") -> str:
    """FRR tells routers MED 0 where nobody asked for one; so do we then, and no route changes."""
    where = f"--namespace {seen.origin.namespace} --target-namespace {seen.target}"
    med = " --med 0" if _bgp(seen) and running.mode in ("frr", "frr-k8s") else ""
    return f"lbspeaker migrate {_SAVED} {where}{med}{more} | kubectl apply -f -"


def _bind(one: Workload) -> str:
    """OnDelete: no Pod begins anew for the edit; those on nodes that it selects no more end."""
    return f"kubectl -n {one.namespace} patch daemonset {one.name} --type=merge -p {shlex.quote(_BOUND)}"


def _sessions(seen: Seen) -> Iterator[str]:
    """Each node that has not been switched, and the wait until all of its sessions are up."""
    ours = switched(seen)
    for name, node in sorted(seen.then.snapshot.nodes.items()):
        if name in ours:
            continue
        yield f"kubectl label node {name} {ANNOUNCER}=lbspeaker --overwrite"
        if peers := sum(any_selects(peer.node_selectors, node.labels) for peer in seen.then.config.peers):
            up = f"--for=jsonpath='{{.status.sessions}}'={peers}/{peers} --timeout=90s"
            yield f"kubectl -n {seen.target} wait speakers.lbspeaker.io {name} {up}"
