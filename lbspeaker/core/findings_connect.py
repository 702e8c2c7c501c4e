"""What Pods say to who connects (`lbspeaker doctor --connect`): the proof of what they only declare.

A containerPort is a declaration. Whether somebody listens there, and not at 127.0.0.1 alone, shows when one
connects. A Pod that refuses where it declares nothing is told of by `target-port` alone.
"""

from collections.abc import Iterator

from lbspeaker.core.checks import Check, fail, named, warn
from lbspeaker.core.findings_pods import undeclared
from lbspeaker.facts import Attempt, Evidence, Finding, Grade, Part, Pod, Target, WiredPort, Wiring

_LAST_PORT = 65535


def targets(evidence: Evidence) -> list[Target]:
    """Return where to connect: each TCP port of the asked Services, at each of their Pods that is ready."""
    found = [
        target for one in evidence.asked for port in one.ports for target in _targets(one, port, evidence)
    ]
    return list(dict.fromkeys(found))


def _targets(one: Wiring, port: WiredPort, evidence: Evidence) -> Iterator[Target]:
    if port.protocol != "TCP":
        return
    service = evidence.snapshot.services.get(one.key)
    families = service.families if service else ()
    for pod in evidence.behind[one.key]:
        number = port.target if isinstance(port.target, int) else _named(pod, port.target)
        if pod.ready and 0 < number <= _LAST_PORT:
            for ip in pod.addresses:
                if ip.version in families:
                    yield ip, number


def _named(pod: Pod, name: str) -> int:
    return next((own.number for own in pod.ports if own.name == name and own.protocol == "TCP"), 0)


def connect(evidence: Evidence) -> Iterator[Finding]:
    tried = evidence.tried
    if tried and all(attempt is Attempt.SILENT for attempt in tried.values()):
        what = f"none of {len(tried)} addresses answers"
        why, remedy = "Pods may be out of reach from here", "run it on a node of the cluster"
        yield Finding("", Grade.UNKNOWN, "Pods", what, why, remedy)
        return
    for one in evidence.asked:
        for port in one.ports:
            yield from _port(one, port, evidence)


def _port(one: Wiring, port: WiredPort, evidence: Evidence) -> Iterator[Finding]:
    asked = [target for target in _targets(one, port, evidence) if target in evidence.tried]
    told = {ip for pod in evidence.behind[one.key] if undeclared(pod, port) for ip in pod.addresses}
    refused = [
        target for target in asked if evidence.tried[target] is Attempt.REFUSED and target[0] not in told
    ]
    silent = [target for target in asked if evidence.tried[target] is Attempt.SILENT]
    if refused:
        make = fail if len(refused) == len(asked) else warn
        yield make(
            one.key,
            f"port {port}: {_which(refused)} of {len(asked)} refuse connections",
            "nobody listens there, or only at 127.0.0.1",
            "have the program listen at 0.0.0.0 (or ::) and this port; ss -tln in the Pod shows it",
        )
    if silent:
        yield warn(
            one.key,
            f"port {port}: {_which(silent)} of {len(asked)} do not answer",
            "what is sent there is dropped",
            "look at NetworkPolicies, and at the network between this node and the Pods",
        )


def _which(some: list[Target]) -> str:
    """ "2 (10.0.0.1:80, 10.0.0.2:80)"."""
    return f"{len(some)} ({named([f'[{ip}]:{n}' if ip.version == 6 else f'{ip}:{n}' for ip, n in some])})"


def _was_tried(evidence: Evidence) -> bool:
    return bool(evidence.tried)


CHECKS = (
    Check(
        "connect",
        "Pods accept connections",
        connect,
        frozenset({Part.SERVICES, Part.PODS}),
        concerns=_was_tried,
    ),
)
