"""Other programs in the cluster that give or announce IPs, too: two of them for one Service undo each other.

Who they are is told by their images; what they do, by their arguments, environment and ConfigMaps.
"""

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from lbspeaker.core.checks import Check, fail, warn, well
from lbspeaker.facts import Evidence, Finding, Part, Program

_BOTH = "both give IPs to the same Services, and answer for them"
_ONE_SESSION = "a router takes one session from each address, so one of two BGP speakers on a node stays out"
_OWN = re.compile(r"(^|/)lbspeaker$")


@dataclass(frozen=True, slots=True)
class _Rival:
    """`image`: matches the path of its image, without registry prefix and tag. `judge`: what it means."""

    name: str
    image: re.Pattern[str]
    judge: Callable[[Program, Evidence], Finding]


def rivals(evidence: Evidence) -> Iterator[Finding]:
    told = set()
    for program in sorted(evidence.programs, key=lambda one: (not one.key.startswith("DaemonSet"), one.key)):
        for rival in _RIVALS:
            if rival.name not in told and any(rival.image.search(_path(image)) for image in program.images):
                told.add(rival.name)
                yield rival.judge(program, evidence)


def _path(image: str) -> str:
    """ "quay.io/metallb/speaker" of "quay.io/metallb/speaker:v0.15.2@sha256:…"."""
    return re.sub(r"(:[^/]*)?$", "", image.partition("@")[0])


def own_class(evidence: Evidence) -> str:
    """The loadBalancerClass that our own programs serve, as their arguments say; "": none."""
    ours = [one for one in evidence.programs if any(_OWN.search(_path(image)) for image in one.images)]
    return next((found for one in ours if (found := _flag(one, "lb-class"))), "")


def _flag(program: Program, name: str) -> str:
    """The value of `--name=value` or `--name value`; "true" of a bare `--name`; "" if it is not there."""
    words = program.arguments
    for number, word in enumerate(words):
        flag, equals, value = word.partition("=")
        if flag == f"--{name}":
            following = words[number + 1] if number + 1 < len(words) else "--"
            return value if equals else "true" if following.startswith("-") else following
    return ""


def _yes(text: str) -> bool:
    return text.lower() in ("true", "1", "yes")


# --- one by one -----------------------------------------------------------------------------------------


def _metallb(program: Program, evidence: Evidence) -> Finding:
    theirs, ours = _flag(program, "lb-class"), own_class(evidence)
    if theirs != ours:
        return well(program.key, f"MetalLB serves the class {theirs or '(none)'}, and not ours")
    remedy = (
        f"delete {program.key} and its controller (docs/metallb.md, step by step), or give one a --lb-class"
    )
    return fail(program.key, "MetalLB runs, for the same class of Services", _BOTH, remedy)


def _kube_vip(program: Program, evidence: Evidence) -> Finding:
    environment = program.environment
    if not _yes(environment.get("svc_enable", "")) and not _yes(_flag(program, "services")):
        return well(program.key, "kube-vip keeps the address of the control plane, and no Services")
    if _yes(environment.get("lb_class_only", "")):
        theirs = environment.get("lb_class_name", "") or "kube-vip.io/kube-vip-class"
        if theirs != own_class(evidence):
            return well(program.key, f"kube-vip serves the class {theirs}, and not ours")
    why = "it answers for the IPs of Services that have spec.loadBalancerIP or its annotation, as we do"
    remedy = 'svc_enable "false" in its environment, or lb_class_only "true"'
    return fail(program.key, "kube-vip runs, and serves Services", why, remedy)


def _service_lb(program: Program, evidence: Evidence) -> Finding:
    if own_class(evidence):
        return well(program.key, "ServiceLB of k3s runs, for Services without a class, which are not ours")
    what, why = "ServiceLB of k3s runs", "it writes addresses of nodes into the status of the same Services"
    return fail(program.key, what, why, "start k3s with --disable=servicelb")


def _cilium(program: Program, evidence: Evidence) -> Finding:
    settings = evidence.agents
    if not any(name.startswith("enable-") for name in settings):
        what, why = "Cilium runs, and its settings were not read", "it may announce the same IPs"
        return warn(program.key, what, why, "look into the ConfigMap kube-system/cilium-config")
    if _yes(settings.get("enable-l2-announcements", "")):
        what = "Cilium's L2 announcements are on"
        why = "where a CiliumL2AnnouncementPolicy selects a Service of ours, two nodes answer for its IP"
        return warn(program.key, what, why, 'enable-l2-announcements "false", or policies for other Services')
    if _yes(settings.get("enable-bgp-control-plane", "")):
        what = "Cilium's BGP control plane is on"
        return warn(program.key, what, _ONE_SESSION, "let only one of them peer with a router")
    return well(program.key, "Cilium announces no service IPs")


def _calico(program: Program, evidence: Evidence) -> Finding:
    backend = evidence.agents.get("calico_backend") or program.environment.get("CALICO_NETWORKING_BACKEND")
    if backend in ("vxlan", "none"):
        return well(program.key, f"Calico speaks no BGP (backend {backend})")
    remedy = "peer with routers from one of them only; or let Calico announce (serviceLoadBalancerIPs)"
    return warn(program.key, "Calico runs, and speaks BGP on each node", _ONE_SESSION, remedy)


def _kube_router(program: Program, _: Evidence) -> Finding:
    if _yes(_flag(program, "run-loadbalancer")):
        return fail(program.key, "kube-router gives IPs to Services", _BOTH, "--run-loadbalancer=false")
    if _yes(_flag(program, "advertise-loadbalancer-ip")):
        what = "kube-router announces the IPs of all Services by BGP"
        why = "routers get the same routes from both, and from nodes that we withdraw them on"
        return warn(
            program.key, what, why, "--advertise-loadbalancer-ip=false, or no BGPAdvertisement of ours"
        )
    if _flag(program, "run-router").lower() == "false":
        return well(program.key, "kube-router runs without its router")
    return warn(
        program.key, "kube-router speaks BGP on each node", _ONE_SESSION, "peer from one of them only"
    )


def _purelb(program: Program, evidence: Evidence) -> Finding:
    if own_class(evidence):
        return well(program.key, "PureLB runs, for Services without a class, which are not ours")
    return fail(
        program.key, "PureLB runs", _BOTH, f"delete {program.key} and its allocator, or use --lb-class"
    )


def _by_class(name: str, theirs: str) -> Callable[[Program, Evidence], Finding]:
    def judge(program: Program, evidence: Evidence) -> Finding:
        if theirs == own_class(evidence):
            return fail(program.key, f"{name} runs, for the same class", _BOTH, "give one another class")
        return well(program.key, f"{name} serves only Services that ask for it ({theirs})")

    return judge


def _rival(name: str, image: str, judge: Callable[[Program, Evidence], Finding]) -> _Rival:
    return _Rival(name, re.compile(image), judge)


_RIVALS = (
    _rival("MetalLB", r"metallb/speaker$", _metallb),
    _rival("kube-vip", r"(kube-vip|plndr)/kube-vip(-iptables)?$", _kube_vip),
    _rival("ServiceLB", r"klipper-lb$", _service_lb),
    _rival("Cilium", r"cilium/cilium$", _cilium),
    _rival("Calico", r"calico/node$", _calico),
    _rival("kube-router", r"kube-router$", _kube_router),
    _rival("PureLB", r"purelb/lbnodeagent$", _purelb),
    _rival("OpenELB", r"(openelb|kubesphere)/openelb(-speaker)?$", _by_class("OpenELB", "openelb")),
    _rival("LoxiLB", r"loxilb(-io)?/loxilb$", _by_class("LoxiLB", "loxilb.io/loxilb")),
)

CHECKS = (
    Check(
        "rivals",
        "nobody else in the cluster gives or announces IPs",
        rivals,
        frozenset(),
        frozenset({Part.PROGRAMS, Part.PODS}),
    ),
)
