"""Why a Service has the IP that it has, or none; and why it is announced, or not."""

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import replace

from lbspeaker.core.allocator import ours
from lbspeaker.core.book import families
from lbspeaker.core.choice import deciding, tried
from lbspeaker.core.controller import class_mismatch
from lbspeaker.core.explain import Case, Explanation, Living, Step, Verdict, first, refused, worst
from lbspeaker.core.explain_announcement import CHECK, announcement, how_announced
from lbspeaker.core.nodes import endpoint_refusal
from lbspeaker.core.remedies import remedy
from lbspeaker.facts import Finding, Grade
from lbspeaker.model import Address, Allocation, Endpoint, Reason, Refusal, Service

_BEGIN = {
    "class": "{key} gets no IP",
    "pools": "{key} gets no IP",
    "allocation": "{key} gets no IP",
    "endpoints": "traffic for {key} arrives nowhere",
    "ports": "clients of {key} are refused",
    "advertisements": "{ip} of {key} is announced by nobody",
    "candidates": "no node announces {ip} of {key} on layer 2",
    "speakers": "{ip} of {key} is not announced as it should be",
    "routes": "no router is told of {ip} of {key}",
}
_WAYS = {"owner": "arping it on their segment", "routes": CHECK}


def explain_service(case: Case, key: str, only: Address | None = None) -> Explanation:
    """Explain the Service `key` of the snapshot; `only`: of its IPs, this one."""
    steps = tuple(_steps(case, case.snapshot.services[key], only))
    diagnosis, next_step = _conclusion(case, key, steps)
    return Explanation(key, steps, diagnosis, next_step)


def _steps(case: Case, service: Service, only: Address | None) -> Iterator[Step]:
    served = _class(case, service)
    yield served
    if served.verdict == "no":
        return
    yield _pools(case, service)
    yield _allocation(case, service)
    yield _endpoints(case, service)
    if service.key in case.ports:
        yield _ports(case.ports[service.key])
    settled = case.outcome.snapshot.services[service.key]
    if not service.held:  # what it would get nobody can announce yet
        case = replace(case, living=None)
    for ip in settled.held:
        if only is None or ip == only:
            yield from announcement(case, settled, ip)


def _class(case: Case, service: Service) -> Step:
    has = service.load_balancer_class
    if not service.load_balancer:
        why = "its type is not LoadBalancer"
        namespace, name = service.namespace, service.name
        next_step = f'kubectl -n {namespace} patch svc {name} -p \'{{"spec":{{"type":"LoadBalancer"}}}}\''
        return Step("class", "no", (why,), None, why, None, next_step)
    if not ours(service, case.load_balancer_class):
        return refused("class", class_mismatch(service, case.load_balancer_class), service.key)
    return Step("class", "ok", (f"loadBalancerClass {has}: served here" if has else "none: served here",))


# --- its IPs --------------------------------------------------------------------------------------------


def _pools(case: Case, service: Service) -> Step:
    config, namespaces = case.snapshot.config, case.snapshot.namespaces
    pass_ = deciding(case.outcome.passes, service.key)
    found = tried(config.pools, pass_, namespaces, service.key)
    several = len(families(service)) > 1
    words = {"chosen": "chosen", "no": "no", "aside": "not asked"}
    lines = [
        f"{one.pool}{f' (IPv{one.family})' if several else ''}: {words[one.verdict]}: {one.why}"
        for one in found
    ]
    lines += case.not_in_force("IPAddressPool")
    result = case.outcome.results[service.key]
    if isinstance(result, Refusal):
        return refused("pools", result, service.key, lines)
    return Step("pools", "ok", tuple(lines))


def _allocation(case: Case, service: Service) -> Step:
    result = case.outcome.results[service.key]
    lines = [*_wishes(service)]
    if service.held:
        lines.append(f"its status has {_listed(service.held)}")
    if isinstance(result, Refusal):
        return refused("allocation", result, service.key, [*lines, result.message])
    if case.living is not None and not service.held:
        return _unwritten(case.living, service, result, lines)
    told = {
        (True, True): "it holds {ips}, from pool {pool}",
        (True, False): "it would get {ips}, from pool {pool}, instead of what it has",
        (False, False): "it gets {ips}, from pool {pool}",
    }[bool(service.held), set(service.held) == set(result.ips)]
    lines.append(told.format(ips=_listed(result.ips), pool=result.pool))
    if result.note is not None:
        lines.append(f"{result.note.reason.value}: {result.note.message}")
    return Step("allocation", "ok", tuple(lines))


def _wishes(service: Service) -> Iterator[str]:
    if service.requested_ips:
        yield f"it asks for {_listed(service.requested_ips)}"
    if service.requested_pool is not None:
        yield f"it asks for pool {service.requested_pool}"
    if service.sharing_key:
        yield f"it may share an IP with those of sharing key {service.sharing_key}"
    if service.invalid is not None:
        yield service.invalid.message


def _unwritten(living: Living, service: Service, result: Allocation, lines: list[str]) -> Step:
    """The cluster's controller has given it nothing, whatever it would be given from here."""
    said = service.condition
    reasons = {reason.value: reason for reason in Reason}
    if said is not None and said.status == "False":
        reason = reasons.get(said.reason)
        next_step = remedy(reason, service.key) if reason else "look at the log of the controller"
        line = f"its condition {said.type} says {said.reason}: {said.message}"
        return Step("allocation", "no", (*lines, line), None, said.message, reason, next_step)
    why = f"it would get {_listed(result.ips)}, and no controller has written that into its status"
    next_step = f"does a controller act? kubectl -n {living.namespace} get lease lbspeaker.controller"
    if living.controller == "":
        why += ": none acts"
        next_step = f"look at the controllers, and their logs: kubectl -n {living.namespace} get pods"
    return Step("allocation", "no", (*lines, why), None, why, None, next_step)


def _listed(ips: Sequence[Address]) -> str:
    return ", ".join(map(str, ips))


# --- what is behind it ----------------------------------------------------------------------------------


def _endpoints(case: Case, service: Service) -> Step:
    snapshot = case.snapshot
    refusal = endpoint_refusal(snapshot, service, None)
    lines = [*_by_node(snapshot.endpoints.get(service.key, ()))]
    if service.local:
        lines.append("externalTrafficPolicy Local: only nodes with one of them announce it")
    if refusal is None:
        return Step("endpoints", "ok", tuple(lines))
    if not snapshot.endpoints and case.living is None:
        why = "there is no EndpointSlice in these documents"
        next_step = "give them, too: kubectl get endpointslices -A -o yaml"
        return Step("endpoints", "unknown", (why,), None, why, refusal.reason, next_step)
    return refused("endpoints", refusal, service.key, lines or ("there are none",))


def _ports(found: Sequence[Finding]) -> Step:
    lines = tuple(f"{one.what}; {one.why}" for one in found)
    failing = next((one for one in found if one.grade is Grade.FAIL), None)
    if failing is None:
        return Step("ports", "ok", lines or ("they lead to what its Pods declare, if they declare ports",))
    # A number that no Pod declares may be listened at all the same: declaring it is up to them.
    sure: Verdict = "no" if any(one.code == "port-name" for one in found) else "unknown"
    return Step("ports", sure, lines, None, failing.what, None, failing.remedy)


def _by_node(endpoints: Sequence[Endpoint]) -> Iterator[str]:
    counts: Counter[tuple[str, str]] = Counter()
    for one in endpoints:
        state = "ready" if one.serving and one.ready else "on its way out" if one.serving else "not ready"
        counts[one.node or "no node", state] += 1
    for node in sorted({node for node, _ in counts}):
        states = [f"{count} {state}" for (where, state), count in sorted(counts.items()) if where == node]
        yield f"{node}: {', '.join(states)}"


# --- what it comes to -----------------------------------------------------------------------------------


def _conclusion(case: Case, key: str, steps: Sequence[Step]) -> tuple[str, str]:
    """The diagnosis, and what to do next."""
    blamed = first(steps)
    if blamed is not None and blamed.verdict == "no":
        holds = blamed.name in ("pools", "allocation") and case.snapshot.services[key].held
        begin = f"{key} would lose its IP" if holds else _BEGIN[blamed.name].format(key=key, ip=blamed.ip)
        return f"{begin}: {blamed.why}", blamed.next_step
    ips = dict.fromkeys(step.ip for step in steps if step.ip is not None)
    told = "; ".join(f"{ip} of {key} is announced {how_announced(case, key, ip)}" for ip in ips)
    if blamed is not None:
        return f"{told}, as far as can be seen: {blamed.why}", blamed.next_step
    assert worst(steps) == "ok"
    names = {step.name for step in steps}
    ways = [f"lbspeaker doctor {key}", *(way for name, way in _WAYS.items() if name in names)]
    return told, f"if clients do not reach it: {', then '.join(ways)}"
