"""From a Service to its Pods: the faults of every day, each of which a client sees as a refused connection.

    selector ─▶ Pods ─▶ ready ─▶ port
       │          │        │       └ target-port, port-name: no Pod listens there
       │          │        └ pods-ready: none takes traffic
       └──────────┴ selector: it selects no Pod;  endpoints: nobody else says where it leads

One cause is told once: a selector that selects nothing explains that there are no endpoints.
"""

import difflib
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace

from lbspeaker.core.checks import Check, counted, fail, named, warn
from lbspeaker.facts import Evidence, Finding, Part, Pod, PodPort, WiredPort, Wiring

_LIKE = 0.6  # how similar a value must be to be taken for a slip of the pen
_MOST_COMPARED = 200  # Services, and kinds of Pods in one namespace
_NUMBERS = re.compile(
    r"-hash$|pod-name$|pod-index$|controller-uid$|job-name$|completion-index$"
)  # of one Pod


def _selecting(evidence: Evidence) -> Iterator[tuple[Wiring, tuple[Pod, ...]]]:
    """The Services that have a selector, with the Pods that it selects."""
    for one in evidence.asked:
        if one.selector and one.type != "ExternalName":
            yield one, evidence.behind[one.key]


# --- no Pod ---------------------------------------------------------------------------------------------


def selector(evidence: Evidence) -> Iterator[Finding]:
    lost = [one for one, pods in _selecting(evidence) if not pods]
    kinds = _kinds(evidence.pods) if lost else {}
    places = _places(kinds)
    for number, one in enumerate(lost):
        what, remedy = _instead(one, kinds, places, compare=number < _MOST_COMPARED)
        why = "there are no endpoints, so connections are refused"
        yield fail(one.key, f"its selector {_pairs(one.selector)} selects no Pod{what}", why, remedy)


_Labels = Mapping[str, str]
_Kind = tuple[_Labels, list[Pod]]  # labels that several Pods have in common, and the Pods


def _kinds(pods: Iterable[Pod]) -> dict[str, list[_Kind]]:
    """Which kinds of Pods there are, by namespace: Pods of one owner are alike but for a number."""
    found: dict[str, dict[tuple[tuple[str, str], ...], list[Pod]]] = {}
    for pod in pods:
        labels = tuple(sorted((k, v) for k, v in pod.labels.items() if not _NUMBERS.search(k)))
        found.setdefault(pod.namespace, {}).setdefault(labels, []).append(pod)
    return {
        namespace: [(dict(labels), alike) for labels, alike in kinds.items()]
        for namespace, kinds in found.items()
    }


def _places(kinds: Mapping[str, Sequence[_Kind]]) -> Mapping[tuple[str, str], list[tuple[str, _Labels]]]:
    """The namespaces where a label has a value, with all labels of such a kind."""
    found: dict[tuple[str, str], list[tuple[str, _Labels]]] = {}
    for namespace, there in kinds.items():
        for labels, _ in there:
            for pair in labels.items():
                found.setdefault(pair, []).append((namespace, labels))
    return found


def _instead(
    one: Wiring,
    kinds: Mapping[str, Sequence[_Kind]],
    places: Mapping[tuple[str, str], list[tuple[str, _Labels]]],
    *,
    compare: bool,
) -> tuple[str, str]:
    """What is there instead, and what to do. `compare` also with what is only similar, which takes time."""
    first = next(iter(one.selector.items()))
    elsewhere = {where for where, labels in places.get(first, ()) if _matches(one.selector, labels)}
    if elsewhere:
        where = named(sorted(elsewhere))
        return (
            f" in {one.namespace}; Pods with these labels are in {where}",
            f"a Service sees only Pods of its own namespace: create it in {where}",
        )
    if one.namespace not in kinds:
        return f": there are no Pods in {one.namespace}", "create them, or look why their owner does not"
    show = f"kubectl -n {one.namespace} get pods --show-labels"
    best = _closest(one.selector, kinds[one.namespace]) if compare else None
    if best is None:
        return "; no Pod there has labels like it" if compare else "", show
    return _nearest(one, *best)


def _nearest(one: Wiring, labels: _Labels, alike: Sequence[Pod]) -> tuple[str, str]:
    """What differs in the labels of Pods that are alike."""
    differing = [
        f"{label}={labels[label]}" if label in labels else f"no label {label}"
        for label, value in one.selector.items()
        if labels.get(label) != value
    ]
    more = f" and {len(alike) - 1} like it" if len(alike) > 1 else ""
    those = alike[0].key.partition("/")[2] + more
    return (
        f"; the nearest ({those}) has {' and '.join(differing)}",
        "write the labels of the Pods into spec.selector, or those of the selector onto the Pods",
    )


def _closest(wanted: _Labels, kinds: Sequence[_Kind]) -> _Kind | None:
    """The kind of Pods whose labels are most like `wanted`; None if none is like it at all."""
    rated = [(_likeness(wanted, kind[0]), kind) for kind in kinds[:_MOST_COMPARED]]
    likeness, best = max(rated, key=lambda one: one[0])
    return best if likeness >= _LIKE else None


def _likeness(wanted: _Labels, labels: _Labels) -> float:
    """How many of the wanted pairs are there; one with another value counts as far as it is alike."""
    return sum(_alike(value, labels[label]) for label, value in wanted.items() if label in labels)


def _alike(one: str, other: str) -> float:
    ratio = difflib.SequenceMatcher(None, one, other).ratio()
    return max(ratio, 0.8) if one and other and (one in other or other in one) else ratio


def _matches(wanted: _Labels, labels: _Labels) -> bool:
    return all(labels.get(label) == value for label, value in wanted.items())


def _pairs(labels: _Labels) -> str:
    return ",".join(f"{label}={value}" for label, value in sorted(labels.items()))


# --- none ready -----------------------------------------------------------------------------------------


def pods_ready(evidence: Evidence) -> Iterator[Finding]:
    for one, pods in _selecting(evidence):
        waiting = [pod for pod in pods if not pod.ready]
        if not waiting:
            continue
        what = f"{len(waiting)} of {counted(len(pods), 'Pod')} not ready ({_troubles(waiting)})"
        remedy = f"kubectl -n {one.namespace} describe pod {waiting[0].key.partition('/')[2]}"
        if len(waiting) == len(pods):
            yield fail(one.key, what, "there is no ready endpoint, so connections are refused", remedy)
        else:
            yield warn(one.key, what, "the others take their traffic", remedy)


def _troubles(pods: Iterable[Pod]) -> str:
    """ "CrashLoopBackOff, 2 × not ready": the most frequent first."""
    counts = Counter(pod.trouble or "no reason is told" for pod in pods).most_common()
    return named([f"{number} × {text}" if number > 1 else text for text, number in counts])


def endpoints(evidence: Evidence) -> Iterator[Finding]:
    """What the other checks do not explain: endpoints that somebody else should write, or has not yet."""
    for one in evidence.asked:
        told = evidence.snapshot.endpoints.get(one.key, ())
        if one.type == "ExternalName" or any(endpoint.serving for endpoint in told):
            continue
        lack = "none of its endpoints is ready" if told else "it has no endpoints"
        why = "connections are refused, and no node announces its IP"
        if not one.selector:
            remedy = "add a selector, or an EndpointSlice with the label kubernetes.io/service-name"
            yield fail(one.key, f"{lack}, and no selector", why, remedy)
        elif Part.PODS not in evidence.known:
            remedy = "compare its selector with the labels of its Pods; are they ready?"
            yield fail(one.key, lack, why, remedy)
        elif any(pod.ready for pod in evidence.behind[one.key]):
            remedy = "does kube-controller-manager run? kubectl get endpointslices -n " + one.namespace
            yield fail(one.key, f"{lack}, though its selector selects Pods that are ready", why, remedy)


# --- nobody at that port --------------------------------------------------------------------------------


def port_name(evidence: Evidence) -> Iterator[Finding]:
    """A named targetPort is looked up in each Pod; a Pod without it is no endpoint of that port."""
    for one, pods in _selecting(evidence):
        for port in one.ports:
            if not isinstance(port.target, str) or not pods:
                continue
            lacking = [pod for pod in pods if not _has_name(pod, port)]
            if lacking:
                yield _unnamed(one, port, pods, lacking)


def _has_name(pod: Pod, port: WiredPort) -> bool:
    return any(own.name == port.target and own.protocol == port.protocol for own in pod.ports)


def _unnamed(one: Wiring, port: WiredPort, pods: Sequence[Pod], lacking: Sequence[Pod]) -> Finding:
    ports = _ports(lacking)
    names = [own.name for own in ports if own.name]
    near = difflib.get_close_matches(str(port.target), names, 1)
    remedy = f"did you mean {near[0]}? " if near else ""
    remedy += f"name the containerPort {port.target}, or write its number as targetPort"
    if len(lacking) == len(pods):
        what = (
            f"port {port} leads to the containerPort named {port.target}, and no Pod has one ({_list(ports)})"
        )
        return fail(one.key, what, "this port has no endpoint, so connections are refused", remedy)
    some = f"{len(lacking)} of {len(pods)} Pods"
    what = f"port {port} leads to the containerPort named {port.target}, and {some} have none"
    return warn(one.key, what, "these Pods get nothing of it", remedy)


def target_port(evidence: Evidence) -> Iterator[Finding]:
    """A number that no Pod declares or is probed at. Who declares nothing at all says nothing about it.

    Where a connection showed what is so, what is declared does not matter.
    """
    for one, pods in _selecting(evidence):
        telling = [pod for pod in pods if pod.ports]
        for port in one.ports:
            doubtful = [pod for pod in telling if undeclared(pod, port)]
            lacking = [pod for pod in doubtful if not _accepts(pod, port, evidence)]
            if lacking:
                yield _undeclared(one, port, telling, lacking)


def _accepts(pod: Pod, port: WiredPort, evidence: Evidence) -> bool:
    """Whether a connection to this port of the Pod was accepted."""
    tcp = port.protocol == "TCP" and isinstance(port.target, int)
    return tcp and any((ip, port.target) in evidence.accepting for ip in pod.addresses)


def undeclared(pod: Pod, port: WiredPort) -> bool:
    """Whether a Pod that declares ports does not declare this one, and is not probed at it."""
    if isinstance(port.target, str) or not pod.ports:
        return False
    declared = any(own.number == port.target and own.protocol == port.protocol for own in pod.ports)
    return not declared and not (port.protocol == "TCP" and port.target in pod.probed)


def _undeclared(one: Wiring, port: WiredPort, telling: Sequence[Pod], lacking: Sequence[Pod]) -> Finding:
    ports = _ports(lacking)
    same = [own for own in ports if own.number == port.target]
    if same:
        remedy = f"write protocol: {same[0].protocol}"
    elif len(ports) == 1:
        remedy = f"write targetPort: {ports[0].number}"
    else:
        remedy = "write one of these as targetPort"
    remedy += f"; if the Pods listen at {port.target} all the same, declare it as containerPort"
    if len(lacking) == len(telling):
        what = f"port {port} leads to {port.target}, and no Pod declares that ({_list(ports)})"
        return fail(one.key, what, "where nobody listens, connections are refused", remedy)
    what = (
        f"port {port} leads to {port.target}, and {len(lacking)} of {len(telling)} Pods do not declare that"
    )
    return warn(one.key, what, "connections to these Pods are refused if they do not listen there", remedy)


def _ports(pods: Iterable[Pod]) -> list[PodPort]:
    return list(dict.fromkeys(port for pod in pods for port in pod.ports))


def _list(ports: Sequence[PodPort]) -> str:
    return f"they have {named(ports)}" if ports else "they declare no ports"


def ports(evidence: Evidence) -> Mapping[str, tuple[Finding, ...]]:
    """What is wrong with the ports of each asked Service; it is not there if no Pod is known behind it."""
    checks = (("port-name", port_name), ("target-port", target_port))
    found = [replace(one, code=code) for code, look in checks for one in look(evidence)]
    return {
        one.key: tuple(finding for finding in found if finding.subject == one.key)
        for one, pods in _selecting(evidence)
        if pods
    }


_PODS = frozenset({Part.SERVICES, Part.PODS})
CHECKS = (
    Check("selector", "each selector selects Pods", selector, _PODS),
    Check("pods-ready", "the selected Pods are ready", pods_ready, _PODS),
    Check(
        "endpoints",
        "each Service has an endpoint that serves",
        endpoints,
        frozenset({Part.SERVICES, Part.ENDPOINTS}),
    ),
    Check("port-name", "each named targetPort is a port of the Pods", port_name, _PODS),
    Check("target-port", "each targetPort is one that the Pods declare", target_port, _PODS),
)
