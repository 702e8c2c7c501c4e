"""The kinds of configuration: which versions serve them, and how kubectl calls and prints them.

Names and meanings are those of MetalLB's kinds, so that its documents work unchanged. LinkPolicy and
EffectiveConfiguration are ours alone.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from lbspeaker.config.advertisements import (
    BGP_ADVERTISEMENT,
    BGP_ADVERTISEMENT_OF_METALLB,
    L2_ADVERTISEMENT,
    L2_ADVERTISEMENT_OF_METALLB,
)
from lbspeaker.config.bfd import BFD_PROFILE
from lbspeaker.config.communities import COMMUNITY
from lbspeaker.config.linkpolicies import LINK_POLICY
from lbspeaker.config.peers import PEER, PEER_2, PEER_OLD
from lbspeaker.config.pools import POOL, POOL_OF_METALLB
from lbspeaker.config.schema import AnyObjects, Anything, Field, Record, Schema
from lbspeaker.config.selectors import LABELS
from lbspeaker.config.statuses import EFFECTIVE_STATUS, POOL_STATUS, SPEAKER_STATUS
from lbspeaker.config.values import Text
from lbspeaker.config.versions import METALLB as METALLB
from lbspeaker.config.versions import METALLB_2 as METALLB_2
from lbspeaker.config.versions import OURS as OURS

_EFFECTIVE = Record(
    {
        "documents": Field(
            AnyObjects(), "The accepted configuration objects, written by the controller.", default=()
        )
    }
)


@dataclass(frozen=True, slots=True)
class Column:
    """What `kubectl get` prints; `wide`: only with -o wide."""

    title: str
    path: str
    type: str = "string"
    wide: bool = False


@dataclass(frozen=True, slots=True)
class Kind:
    """A kind: the versions that serve it, each with its spec, and how kubectl calls and prints it.

    `status`: what its status has besides conditions, as OpenAPI.
    """

    name: str
    plural: str
    short: str
    description: str
    versions: Mapping[str, Record]
    columns: tuple[Column, ...] = ()
    status: Mapping[str, Any] = field(default_factory=dict)

    def versions_in(self, group: str) -> list[str]:
        """The versions of `group` that serve it."""
        return [version for version in self.versions if version.startswith(f"{group}/")]


def _of_accepted(title: str, property_: str, wide: bool = False) -> Column:
    return Column(title, f'.status.conditions[?(@.type=="Accepted")].{property_}', wide=wide)


_JUDGED = (
    _of_accepted("Accepted", "status"),
    Column("Age", ".metadata.creationTimestamp", "date"),
    _of_accepted("Reason", "reason", wide=True),
    _of_accepted("Message", "message", wide=True),
)
_POOLS = Column("Pools", ".spec.ipAddressPools")

_ALL = (
    Kind(
        "IPAddressPool",
        "ipaddresspools",
        "ippool",
        "Service IPs that may be given to services.",
        {OURS: POOL, METALLB: POOL_OF_METALLB},
        (
            Column("Auto Assign", ".spec.autoAssign", "boolean"),
            Column("Used IPv4", ".status.assignedIPv4", "integer"),
            Column("Free IPv4", ".status.availableIPv4", "integer"),
            Column("Used IPv6", ".status.assignedIPv6", "integer"),
            Column("Pending", ".status.pending", "integer"),
            Column("Draining", '.status.conditions[?(@.type=="Draining")].status'),
            *_JUDGED,
            Column("Free IPv6", ".status.availableIPv6", "integer", wide=True),
            Column("Addresses", ".spec.addresses", wide=True),
        ),
        POOL_STATUS,
    ),
    Kind(
        "L2Advertisement",
        "l2advertisements",
        "l2ad",
        "Announces the service IPs of pools by ARP and NDP.",
        {OURS: L2_ADVERTISEMENT, METALLB: L2_ADVERTISEMENT_OF_METALLB},
        (_POOLS, Column("Interfaces", ".spec.interfaces"), *_JUDGED),
    ),
    Kind(
        "LinkPolicy",
        "linkpolicies",
        "linkpol",
        "How speakers behave on links: how much they may send, refresh, probing, defence.",
        {OURS: LINK_POLICY},
        (
            Column("Profile", ".spec.profile"),
            Column("Rate", ".spec.rate", "integer"),
            Column("Dry Run", ".spec.dryRun", "boolean"),
            *_JUDGED,
        ),
    ),
    Kind(
        "BGPPeer",
        "bgppeers",
        "bgpp",
        "A router that the speakers have BGP sessions with.",
        {OURS: PEER, METALLB_2: PEER_2, METALLB: PEER_OLD},
        (Column("Address", ".spec.peerAddress"), Column("ASN", ".spec.peerASN", "integer"), *_JUDGED),
    ),
    Kind(
        "BGPAdvertisement",
        "bgpadvertisements",
        "bgpad",
        "Announces the service IPs of pools by BGP.",
        {OURS: BGP_ADVERTISEMENT, METALLB: BGP_ADVERTISEMENT_OF_METALLB},
        (_POOLS, Column("Peers", ".spec.peers"), *_JUDGED),
    ),
    Kind(
        "BFDProfile",
        "bfdprofiles",
        "bfdp",
        "Timers of BFD: how fast a BGPPeer notices that its router is lost, and is noticed.",
        {OURS: BFD_PROFILE, METALLB: BFD_PROFILE},
        (
            Column("Receive ms", ".spec.receiveInterval", "integer"),
            Column("Transmit ms", ".spec.transmitInterval", "integer"),
            Column("Multiplier", ".spec.detectMultiplier", "integer"),
            *_JUDGED,
        ),
    ),
    Kind(
        "Community",
        "communities",
        "comm",
        "Names for BGP communities.",
        {OURS: COMMUNITY, METALLB: COMMUNITY},
        (Column("Names", ".spec.communities[*].name"), *_JUDGED),
    ),
    Kind(
        "EffectiveConfiguration",
        "effectiveconfigurations",
        "effconf",
        "All that the controller accepted; the one thing that speakers read. Not for editing.",
        {OURS: _EFFECTIVE},
        (
            Column("Accepted", ".status.accepted", "integer"),
            Column("Refused", ".status.refused", "integer"),
            Column("Age", ".metadata.creationTimestamp", "date"),
        ),
        EFFECTIVE_STATUS,
    ),
    Kind(
        "Speaker",
        "speakers",
        "spk",
        "What the speaker of a node says of itself, in its status. Not for editing.",
        {OURS: Record({})},
        (
            Column("Reported", ".status.reported", "date"),
            Column("Last-State", ".status.state"),
            Column("Owned", ".status.owned", "integer"),
            Column("Sessions", ".status.sessions"),
            Column("Last-Verdict", ".status.verdict"),
            Column("Started", ".status.started", "date"),
            Column("Members", ".status.alive", "integer", wide=True),
            Column("Version", ".status.version", wide=True),
        ),
        SPEAKER_STATUS,
    ),
)
KINDS = {kind.name: kind for kind in _ALL}
WRITTEN_BY_US = {"EffectiveConfiguration", "Speaker"}
AUTHORED = tuple(kind for kind in _ALL if kind.name not in WRITTEN_BY_US)  # what people write
# Kinds that are no configuration: what speakers, and MetalLB's, say of themselves.
LEFT_ALONE = {"Speaker", "ServiceL2Status", "ServiceBGPStatus", "ConfigurationState"}


def _metadata() -> Record:
    name = Text(
        "[a-z0-9]([-a-z0-9.]{0,251}[a-z0-9])?",
        "a name of an object",
        "use small letters, digits, - and . (not first or last)",
    )
    kept: dict[str, Schema] = {"name": name, "namespace": name, "labels": LABELS}
    others = (
        "annotations creationTimestamp deletionGracePeriodSeconds deletionTimestamp finalizers generateName"
        " generation managedFields ownerReferences resourceVersion selfLink uid"
    )
    fields = {key: Field(schema, "", required=key == "name") for key, schema in kept.items()}
    return Record({**fields, **{key: Field(Anything(), "") for key in others.split()}})


METADATA = _metadata()


def envelope(spec: Record) -> Record:
    """Return the schema of a whole object whose spec is `spec`."""
    fields: dict[str, Field] = {key: Field(Text(), "") for key in ("apiVersion", "kind")}
    fields["metadata"] = Field(METADATA, "", required=True, hint="write metadata: {name: …}")
    fields["spec"] = Field(spec, "What is wanted.", required=spec.demanding, default=spec.defaults())
    fields["status"] = Field(Anything(), "")
    return Record(fields)


ENVELOPES: Mapping[tuple[str, str], Record] = {
    (kind.name, version): envelope(spec) for kind in KINDS.values() for version, spec in kind.versions.items()
}
