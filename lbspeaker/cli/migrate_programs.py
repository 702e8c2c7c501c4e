"""Which programs of MetalLB and of ours a cluster has, told by images and labels: names are a release's."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from lbspeaker.wire import kube_facts

_SPEAKER = re.compile(r"(^|/)metallb/speaker(:[^/]*)?$|(^|/)metallb-speaker(:[^/]*)?$")
_CONTROLLER = re.compile(r"(^|/)metallb/controller(:[^/]*)?$|(^|/)metallb-controller(:[^/]*)?$")
_FRR_K8S = re.compile(r"(^|/)frr-k8s(:[^/]*)?$")
_OWN = re.compile(r"(^|/)lbspeaker(:[^/]*)?$")


@dataclass(frozen=True, slots=True)
class Workload:
    """A Deployment or DaemonSet. `replicas`: that it shall have; None: one on each node that it selects."""

    kind: str
    namespace: str
    name: str
    images: tuple[str, ...] = ()
    arguments: tuple[str, ...] = ()
    environment: Mapping[str, str] = field(default_factory=dict)
    nodes: Mapping[str, str] = field(default_factory=dict)  # its nodeSelector
    replicas: int | None = None
    release: str = ""  # of Helm
    labels: Mapping[str, str] = field(default_factory=dict)

    def __str__(self) -> str:
        return f"{self.kind} {self.namespace}/{self.name}"

    def flag(self, name: str) -> str:
        """The value of `--name=value` or `--name value`; "true" of a bare `--name`; "" if it is not there."""
        for word, following in zip(self.arguments, (*self.arguments, "-")[1:], strict=True):
            flag, equals, value = word.partition("=")
            if flag == f"--{name}":
                return value if equals else "true" if following.startswith("-") else following
        return ""

    def is_part(self, program: str, component: str) -> bool:
        """Whether its labels say that it is this part of a program, whatever its image is called."""
        name, part = (
            self.labels.get(f"app.kubernetes.io/{long}") or self.labels.get(short)
            for long, short in (("name", "app"), ("component", "component"))
        )
        return (name, part) == (program, component)


@dataclass(frozen=True, slots=True)
class Programs:
    """Who runs: MetalLB's, the DaemonSet of FRR-K8s with its sessions, and ours."""

    controller: Workload | None
    speaker: Workload | None
    frr_k8s: Workload | None
    own_controller: Workload | None
    own_speaker: Workload | None

    @property
    def mode(self) -> str:
        return self.speaker.environment.get("METALLB_BGP_TYPE", "native") if self.speaker else ""

    @property
    def load_balancer_class(self) -> str | None:
        flags = (one.flag("lb-class") for one in (self.controller, self.speaker) if one is not None)
        return next(filter(None, flags), None)

    @property
    def announcing(self) -> list[Workload]:
        """MetalLB's DaemonSets, whose Pods answer or speak BGP."""
        return [one for one in (self.speaker, self.frr_k8s if self.mode == "frr-k8s" else None) if one]


def programs(workloads: Sequence[Workload]) -> Programs:
    """Find them by their images or, as a mirror may call those anything, by their labels."""

    def first(kind: str, image: re.Pattern[str], program: str, component: str) -> Workload | None:
        fitting = [one for one in workloads if one.kind == kind]
        by_image = [one for one in fitting if any(image.search(_path(each)) for each in one.images)]
        by_label = [one for one in fitting if one.is_part(program, component)]
        return next(iter((*by_image, *by_label)), None)

    return Programs(
        first("Deployment", _CONTROLLER, "metallb", "controller"),
        first("DaemonSet", _SPEAKER, "metallb", "speaker"),
        first("DaemonSet", _FRR_K8S, "frr-k8s", "frr-k8s"),
        first("Deployment", _OWN, "lbspeaker", "controller"),
        first("DaemonSet", _OWN, "lbspeaker", "speaker"),
    )


def _path(image: str) -> str:
    return image.partition("@")[0]


def workload(kind: str, value: Mapping[str, Any]) -> Workload:
    """Return what an object (plain mapping) of this kind says."""
    (program,) = kube_facts.facts_of({**value, "kind": "DaemonSet"})  # a Deployment has its shape
    metadata, spec = value["metadata"], value.get("spec") or {}
    annotations = metadata.get("annotations") or {}
    return Workload(
        kind,
        metadata.get("namespace", ""),
        metadata.get("name", ""),
        program.images,
        program.arguments,
        program.environment,
        spec.get("template", {}).get("spec", {}).get("nodeSelector") or {},
        spec.get("replicas", 1) if kind == "Deployment" else None,
        annotations.get("meta.helm.sh/release-name", ""),
        metadata.get("labels") or {},
    )
