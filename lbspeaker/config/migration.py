"""MetalLB's configuration, old and new, as the objects of lbspeaker.io that mean the same.

Every object keeps the lines of what it was made from, so that `parse`, which judges the result, tells the
places of the original. Nothing is dropped in silence: fields that are not served here stay, and are told.

Held, the same objects say nothing yet: a LinkPolicy lets layer 2 only rehearse, and peers are for nodes with
a label, which none has before it is its turn.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from lbspeaker.config import configmap, legacy
from lbspeaker.config.documents import Document, unpack
from lbspeaker.config.kinds import ENVELOPES, LEFT_ALONE, METALLB, OURS
from lbspeaker.config.names import Names
from lbspeaker.config.parse import is_configuration, parse
from lbspeaker.errors import Problem
from lbspeaker.model import SecretRef

_ORDER = (
    "Secret",
    "IPAddressPool",
    "L2Advertisement",
    "LinkPolicy",
    "BFDProfile",
    "BGPPeer",
    "Community",
    "BGPAdvertisement",
)
# Of metadata: what the server wrote, and annotations of tools about the object as it was.
_OF_SERVER = (
    *("creationTimestamp", "deletionGracePeriodSeconds", "deletionTimestamp", "finalizers", "generateName"),
    *("generation", "managedFields", "ownerReferences", "resourceVersion", "selfLink", "uid"),
)
ANNOUNCER = "lbspeaker.io/announcer"  # label of a Node: who speaks BGP there while speakers are changed
HOLD = "00-takeover"  # the LinkPolicy by which layer 2 is held; its name comes before others
_OF_TOOLS = ("kubectl.kubernetes.io/", "meta.helm.sh/", "argocd.argoproj.io/tracking-id")


@dataclass(frozen=True, slots=True)
class Origin:
    """Where MetalLB reads its configuration: its namespace, and the ConfigMap of its older versions."""

    namespace: str = "metallb-system"
    config_map: str = "config"


@dataclass(frozen=True, slots=True)
class Migration:
    """`objects` of ours, to be applied; `left_out`: of other kinds; `secrets`: those that must be copied."""

    objects: tuple[Document, ...]
    problems: tuple[Problem, ...]
    left_out: tuple[Document, ...]
    secrets: tuple[SecretRef, ...]


def migrate(
    documents: Sequence[Document],
    texts: Mapping[str, str],
    target_namespace: str,
    origin: Origin = Origin(),
    *,
    held: bool = False,
    med: int | None = None,
) -> Migration:
    """Return what `documents` mean as objects of ours in `target_namespace`, and all that is wrong.

    `texts` has the text of each document's file, for the lines inside data.config. `held`: they say nothing
    yet, beside MetalLB. `med`: of all routes; FRR sends 0 where nobody asked for one. Never raises for what
    is in a document.
    """
    unpacked, problems = unpack(documents)
    names = _taken(unpacked)
    metallb: list[Document] = []
    left_out = []
    for document in unpacked:
        made, wrong = _converted(document, texts.get(document.file, ""), names, origin)
        problems += wrong
        metallb += made
        if not made and not wrong:
            left_out.append(document)
    judged = [_ours(one, target_namespace) if _is_served(one) else one for one in metallb]
    problems += parse(judged)[1]
    objects = [
        made for one in judged if _is_served(one) for made in _with_secret(one, target_namespace, names)
    ]
    if med is not None:
        objects = [_with_med(one, med) for one in objects]
    if held:
        objects = _held(objects, target_namespace)
    secrets = dict.fromkeys(_secret(one, origin.namespace) for one in metallb)
    return Migration(
        tuple(sorted(objects, key=_rank)),
        tuple(problems),
        tuple(left_out),
        tuple(reference for reference in secrets if reference is not None),
    )


def _taken(documents: Sequence[Document]) -> Names:
    """The names that are given already."""
    references = (_secret(document, "") for document in documents)
    return Names(
        [
            *((document.kind, document.name) for document in documents),
            *(("Secret", reference.name) for reference in references if reference is not None),
        ]
    )


def _converted(
    document: Document, text: str, names: Names, origin: Origin
) -> tuple[list[Document], list[Problem]]:
    """The objects of MetalLB that a document says; none, and no problem: it says nothing of MetalLB."""
    if document.kind == "ConfigMap":
        return _from_config_map(document, text, names, origin)
    if configmap.looks_old(document.value):
        return legacy.convert(configmap.bare(document, text), names)
    if (document.api_version, document.kind) == (METALLB, legacy.ADDRESS_POOL):
        return legacy.convert_address_pool(document, text, names)
    if is_configuration(document) and document.kind not in LEFT_ALONE:
        return [document], []
    return [], []


def _from_config_map(
    document: Document, text: str, names: Names, origin: Origin
) -> tuple[list[Document], list[Problem]]:
    old, problems = configmap.opened(document, text)
    here = document.namespace in ("", origin.namespace)
    named = document.name == origin.config_map and here
    if not named and (old is None or not configmap.looks_old(old.value, strictly=True)):
        return [], []
    if old is None:
        return [], problems
    documents, more = legacy.convert(old, names)
    return documents, [*problems, *more]


def _is_served(document: Document) -> bool:
    """Whether it is of a kind and version that has a counterpart of ours."""
    served = (document.kind, document.api_version) in ENVELOPES
    return served and (document.kind, OURS) in ENVELOPES


def _rank(document: Document) -> tuple[int, list[str | int], str]:
    """The order in the output: by kind, then by name, peer2 before peer10."""
    kind = _ORDER.index(document.kind) if document.kind in _ORDER else len(_ORDER)
    parts = re.split("([0-9]+)", document.name[:253], flags=re.ASCII)
    return kind, [int(part) if number % 2 else part for number, part in enumerate(parts)], document.file


# --- one object ------------------------------------------------------------------------------------------


def _ours(document: Document, namespace: str) -> Document:
    said = {key: value for key, value in document.value.items() if key != "status"}
    value: dict[str, object] = {"apiVersion": OURS, "kind": document.kind}
    if "metadata" in said:
        value["metadata"] = _metadata(said["metadata"], namespace)
    if "spec" in said:
        value["spec"] = _without_secret_namespace(said["spec"])
    rest = {key: said[key] for key in said if key not in value}
    return Document(document.file, value | rest, document.lines)


def _metadata(metadata: object, namespace: str) -> object:
    if not isinstance(metadata, Mapping):
        return metadata
    kept = {key: value for key, value in metadata.items() if key not in _OF_SERVER and value is not None}
    first = {"name": kept.pop("name")} if "name" in kept else {}
    kept["namespace"] = namespace
    annotations = kept.get("annotations")
    if isinstance(annotations, Mapping):
        kept["annotations"] = {
            key: text for key, text in annotations.items() if not key.startswith(_OF_TOOLS)
        }
        if not kept["annotations"]:
            del kept["annotations"]
    order = ("namespace", "labels", "annotations")
    return {**first, **{key: kept.pop(key) for key in order if key in kept}, **kept}


# --- while MetalLB serves --------------------------------------------------------------------------------


def _held(objects: Sequence[Document], namespace: str) -> list[Document]:
    """The same, saying nothing: peers have no node yet, and layer 2 only rehearses.

    The hold asks nobody for IPs (`dad`): MetalLB has them, and would answer.
    """
    policy = {
        "apiVersion": OURS,
        "kind": "LinkPolicy",
        "metadata": {"name": HOLD, "namespace": namespace},
        "spec": {"dryRun": True, "dad": "off"},
    }
    announced = any(document.kind == "L2Advertisement" for document in objects)
    return [*map(_waiting, objects), *([Document("", policy)] if announced else [])]


def _waiting(document: Document) -> Document:
    """A peer of the same nodes, once they have the label."""
    spec = document.value.get("spec")
    if document.kind != "BGPPeer" or not isinstance(spec, Mapping):
        return document
    selectors = spec.get("nodeSelectors") or [{}]
    if not isinstance(selectors, list) or not all(isinstance(one, Mapping) for one in selectors):
        return document  # `parse` has told
    label = {ANNOUNCER: "lbspeaker"}
    turned = [{**one, "matchLabels": {**(one.get("matchLabels") or {}), **label}} for one in selectors]
    return Document(
        document.file, {**document.value, "spec": {**spec, "nodeSelectors": turned}}, document.lines
    )


def _with_med(document: Document, med: int) -> Document:
    spec = document.value.get("spec", {})
    if document.kind != "BGPAdvertisement" or not isinstance(spec, Mapping):
        return document
    return Document(document.file, {**document.value, "spec": {**spec, "med": med}}, document.lines)


# --- Secrets ---------------------------------------------------------------------------------------------


def _reference(spec: object) -> Mapping[str, object] | None:
    reference = spec.get("passwordSecret") if isinstance(spec, Mapping) else None
    return reference if isinstance(reference, Mapping) else None


def _secret(document: Document, namespace: str) -> SecretRef | None:
    """The Secret that a peer names. MetalLB looks for it where the peer is, whatever the reference says."""
    reference = _reference(document.value.get("spec")) if document.kind == "BGPPeer" else None
    name = reference.get("name") if reference else None
    return SecretRef(document.namespace or namespace, name) if name and isinstance(name, str) else None


def _without_secret_namespace(spec: object) -> object:
    reference = _reference(spec)
    if reference is None or not isinstance(spec, Mapping):
        return spec
    kept = {key: value for key, value in reference.items() if key != "namespace"}
    return {**spec, "passwordSecret": kept}


def _with_secret(document: Document, namespace: str, names: Names) -> list[Document]:
    """The object; of a peer with a password in clear text, the peer and a Secret with the password.

    A peer with both a password and a reference stays as it is; `parse` has told that they exclude each other.
    """
    spec = document.value.get("spec")
    if document.kind != "BGPPeer" or not document.name or not isinstance(spec, Mapping):
        return [document]
    password = spec.get("password")
    if not password or not isinstance(password, str) or spec.get("passwordSecret"):
        return [document]
    name = names.free("Secret", f"{document.name[:240]}-password")
    kept = {key: value for key, value in spec.items() if key != "password"}
    value = {**document.value, "spec": {**kept, "passwordSecret": {"name": name}}}
    return [Document(document.file, value, document.lines), _secret_object(name, namespace, password)]


def _secret_object(name: str, namespace: str, password: str) -> Document:
    return Document(
        "",
        {
            "apiVersion": "v1",
            "kind": "Secret",
            "metadata": {"name": name, "namespace": namespace},
            "type": "kubernetes.io/basic-auth",
            "stringData": {"password": password},
        },
    )
