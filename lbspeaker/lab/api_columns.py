"""The columns of the built-in kinds, as a cluster of today prints them (`pkg/printers/internalversion`)."""

from collections.abc import Iterable, Sequence
from typing import Any

from lbspeaker.lab.api_resources import Resource
from lbspeaker.lab.api_store import TableName
from lbspeaker.lab.api_tables import (
    PLAIN,
    Cells,
    Json,
    age,
    column,
    created,
    custom_layout,
    name_of,
    plain_cells,
)

NONE = "<none>"
_AGE = column("Age")


def _joined(values: Iterable[Any]) -> str:
    return ",".join(str(value) for value in values) or NONE


def _pairs(labels: Json | None) -> str:
    return _joined(f"{key}={value}" for key, value in sorted((labels or {}).items()))


def _selector(selector: Json | None) -> str:
    return _pairs((selector or {}).get("matchLabels"))


# --- services and what is behind them -------------------------------------------------------------------


def _external_ip(spec: Json, status: Json) -> str:
    """Return what people look for: the load balancer's addresses, or <pending>."""
    others = list(spec.get("externalIPs") or [])
    if spec.get("type") == "ExternalName":
        return str(spec.get("externalName", NONE))
    if spec.get("type") == "LoadBalancer":
        ingress = (status.get("loadBalancer") or {}).get("ingress") or []
        points = [point.get("ip") or point.get("hostname") for point in ingress]
        return ",".join([*filter(None, points), *others]) or "<pending>"
    return ",".join(others) or NONE


def _port(port: Json) -> str:
    node_port = f":{port['nodePort']}" if port.get("nodePort") else ""
    return f"{port['port']}{node_port}/{port['protocol']}"


def _service(obj: Json, now_s: float) -> list[Any]:
    spec = obj["spec"]
    return [
        name_of(obj),
        spec["type"],
        spec.get("clusterIP") or NONE,
        _external_ip(spec, obj.get("status") or {}),
        _joined(_port(port) for port in spec.get("ports") or []),
        created(obj, now_s),
        _pairs(spec.get("selector")),
    ]


def _few(values: Sequence[str], most: int = 3) -> str:
    """Return the first values, and how many more there are."""
    shown = ",".join(values[:most])
    return f"{shown} + {len(values) - most} more..." if len(values) > most else shown


def _slice(obj: Json, now_s: float) -> list[Any]:
    ports = [str(port["port"]) if port.get("port") else "*" for port in obj.get("ports") or []]
    addresses = [ip for endpoint in obj.get("endpoints") or [] for ip in endpoint["addresses"]]
    unset = "<unset>"
    return [
        name_of(obj),
        obj["addressType"],
        _few(ports) or unset,
        _few(addresses) or unset,
        created(obj, now_s),
    ]


def _endpoints(obj: Json, now_s: float) -> list[Any]:
    places = [
        f"{address['ip']}:{port['port']}"
        for subset in obj.get("subsets") or []
        for address in subset.get("addresses") or []
        for port in subset.get("ports") or []
    ]
    return [name_of(obj), _few(places) or NONE, created(obj, now_s)]


# --- nodes and what runs on them ------------------------------------------------------------------------

_ROLE = "node-role.kubernetes.io/"


def _node(obj: Json, now_s: float) -> list[Any]:
    status = obj.get("status") or {}
    info = status.get("nodeInfo") or {}
    labels = obj["metadata"].get("labels") or {}
    roles = sorted(label.removeprefix(_ROLE) for label in labels if label.startswith(_ROLE))
    addresses = status.get("addresses") or []

    def address(kind: str) -> str:
        return next((a["address"] for a in addresses if a["type"] == kind), NONE)

    return [
        name_of(obj),
        _node_status(obj),
        _joined(roles),
        created(obj, now_s),
        info.get("kubeletVersion", ""),
        address("InternalIP"),
        address("ExternalIP"),
        info.get("osImage") or "<unknown>",
        info.get("kernelVersion") or "<unknown>",
        info.get("containerRuntimeVersion") or "<unknown>",
    ]


def _node_status(obj: Json) -> str:
    conditions = (obj.get("status") or {}).get("conditions") or []
    ready = next((c["status"] for c in conditions if c["type"] == "Ready"), None)
    words = ["Unknown" if ready is None else "Ready" if ready == "True" else "NotReady"]
    if (obj.get("spec") or {}).get("unschedulable"):
        words.append("SchedulingDisabled")
    return ",".join(words)


def _pod(obj: Json, now_s: float) -> list[Any]:
    spec, status = obj["spec"], obj.get("status") or {}
    states = status.get("containerStatuses") or []
    ready = sum(bool(state.get("ready")) for state in states)
    phase = "Terminating" if "deletionTimestamp" in obj["metadata"] else status.get("phase", "Unknown")
    return [
        name_of(obj),
        f"{ready}/{len(spec.get('containers') or [])}",
        status.get("reason") or phase,
        str(sum(state.get("restartCount", 0) for state in states)),
        created(obj, now_s),
        status.get("podIP") or NONE,
        spec.get("nodeName") or NONE,
        status.get("nominatedNodeName") or NONE,
        NONE,
    ]


def _containers(obj: Json) -> list[str]:
    containers = obj["spec"].get("template", {}).get("spec", {}).get("containers") or []
    names, images = ",".join(c["name"] for c in containers), ",".join(c.get("image", "") for c in containers)
    return [names, images, _selector(obj["spec"].get("selector"))]


def _deployment(obj: Json, now_s: float) -> list[Any]:
    status = obj.get("status") or {}
    ready = f"{status.get('readyReplicas', 0)}/{obj['spec'].get('replicas', 1)}"
    counts = [status.get("updatedReplicas", 0), status.get("availableReplicas", 0)]
    return [name_of(obj), ready, *counts, created(obj, now_s), *_containers(obj)]


def _daemon_set(obj: Json, now_s: float) -> list[Any]:
    status = obj.get("status") or {}
    names = ["desiredNumberScheduled", "currentNumberScheduled", "numberReady"]
    names += ["updatedNumberScheduled", "numberAvailable"]
    where = _pairs(obj["spec"].get("template", {}).get("spec", {}).get("nodeSelector"))
    counts = [status.get(name, 0) for name in names]
    return [name_of(obj), *counts, where, created(obj, now_s), *_containers(obj)]


# --- the rest -------------------------------------------------------------------------------------------


def _event(obj: Json, now_s: float) -> list[Any]:
    about = obj.get("involvedObject") or {}
    series, count = obj.get("series") or {}, obj.get("count") or 1
    first = obj.get("firstTimestamp") or obj.get("eventTime")
    last = series.get("lastObservedTime") or obj.get("lastTimestamp") or first
    source = obj.get("source") or {}
    component = source.get("component") or obj.get("reportingComponent", "")
    host = source.get("host") or obj.get("reportingInstance", "")
    return [
        age(last, now_s),
        obj.get("type", ""),
        obj.get("reason", ""),
        f"{about.get('kind', '').lower()}/{about.get('name', '')}",
        about.get("fieldPath", ""),
        f"{component}, {host}" if host else component,
        obj.get("message", "").strip(),
        age(first, now_s),
        series.get("count") or count,
        name_of(obj),
    ]


def _namespace(obj: Json, now_s: float) -> list[Any]:
    return [name_of(obj), (obj.get("status") or {}).get("phase", ""), created(obj, now_s)]


def _secret(obj: Json, now_s: float) -> list[Any]:
    return [name_of(obj), obj.get("type", ""), len(obj.get("data") or {}), created(obj, now_s)]


def _config_map(obj: Json, now_s: float) -> list[Any]:
    count = len(obj.get("data") or {}) + len(obj.get("binaryData") or {})
    return [name_of(obj), count, created(obj, now_s)]


def _lease(obj: Json, now_s: float) -> list[Any]:
    return [name_of(obj), (obj.get("spec") or {}).get("holderIdentity", ""), created(obj, now_s)]


def _binding(obj: Json, now_s: float) -> list[Any]:
    role = obj.get("roleRef") or {}
    subjects: dict[str, list[str]] = {kind: [] for kind in ("User", "Group", "ServiceAccount")}
    for subject in obj.get("subjects") or []:
        name = f"{subject['namespace']}/{subject['name']}" if "namespace" in subject else subject["name"]
        subjects.setdefault(subject["kind"], []).append(name)
    shown = f"{role.get('kind')}/{role.get('name')}"
    return [name_of(obj), shown, created(obj, now_s), *(", ".join(names) for names in subjects.values())]


def _budget(obj: Json, now_s: float) -> list[Any]:
    spec, status = obj.get("spec") or {}, obj.get("status") or {}
    bounds = [str(spec.get(name, "N/A")) for name in ("minAvailable", "maxUnavailable")]
    return [name_of(obj), *bounds, status.get("disruptionsAllowed", 0), created(obj, now_s)]


def _priority_class(obj: Json, now_s: float) -> list[Any]:
    policy = obj.get("preemptionPolicy", "PreemptLowerPriority")
    return [name_of(obj), obj.get("value", 0), bool(obj.get("globalDefault")), created(obj, now_s), policy]


def _aged(obj: Json, now_s: float) -> list[Any]:
    return [name_of(obj), created(obj, now_s)]


def _columns(shown: str, wide: str = "") -> list[Json]:
    """Return the definitions of comma-separated columns; those in `wide` only show with -o wide."""
    columns = [column(name) for name in shown.split(",")]
    return columns + [column(name, wide=True) for name in wide.split(",") if name]


_WIDE_NODE = "Internal-IP,External-IP,OS-Image,Kernel-Version,Container-Runtime"
_WIDE_WORK = "Containers,Images,Selector"
_COUNTS = "Desired,Current,Ready,Up-to-date,Available"
_EVENT = [
    *(column(name) for name in ("Last Seen", "Type", "Reason", "Object")),
    *(column(name, wide=True) for name in ("Subobject", "Source")),
    column("Message"),
    *(column(name, wide=True) for name in ("First Seen", "Count", "Name")),
]
_RBAC = "rbac.authorization.k8s.io"
_BINDING = _columns("Name,Role,Age", "Users,Groups,ServiceAccounts")

LAYOUTS: dict[TableName, tuple[Sequence[Json], Cells]] = {
    ("", "services"): (_columns("Name,Type,Cluster-IP,External-IP,Port(s),Age", "Selector"), _service),
    ("", "nodes"): (_columns("Name,Status,Roles,Age,Version", _WIDE_NODE), _node),
    ("", "pods"): (
        _columns("Name,Ready,Status,Restarts,Age", "IP,Node,Nominated Node,Readiness Gates"),
        _pod,
    ),
    ("", "endpoints"): (_columns("Name,Endpoints,Age"), _endpoints),
    ("", "namespaces"): (_columns("Name,Status,Age"), _namespace),
    ("", "secrets"): (_columns("Name,Type,Data,Age"), _secret),
    ("", "configmaps"): (_columns("Name,Data,Age"), _config_map),
    ("", "serviceaccounts"): (_columns("Name,Age"), _aged),
    ("", "events"): (_EVENT, _event),
    ("discovery.k8s.io", "endpointslices"): (_columns("Name,AddressType,Ports,Endpoints,Age"), _slice),
    ("coordination.k8s.io", "leases"): (_columns("Name,Holder,Age"), _lease),
    ("apps", "deployments"): (
        _columns("Name,Ready,Up-to-date,Available,Age", _WIDE_WORK),
        _deployment,
    ),
    ("apps", "daemonsets"): (
        _columns(f"Name,{_COUNTS},Node Selector,Age", _WIDE_WORK),
        _daemon_set,
    ),
    ("policy", "poddisruptionbudgets"): (
        _columns("Name,Min Available,Max Unavailable,Allowed Disruptions,Age"),
        _budget,
    ),
    ("scheduling.k8s.io", "priorityclasses"): (
        _columns("Name,Value,Global-Default,Age,PreemptionPolicy"),
        _priority_class,
    ),
    (_RBAC, "rolebindings"): (_BINDING, _binding),
    (_RBAC, "clusterrolebindings"): (_BINDING, _binding),
}


def layout(resource: Resource) -> tuple[Sequence[Json], Cells]:
    """Return the columns of a resource, and the function that gives an object's cells."""
    if resource.custom:
        return custom_layout(resource.columns)
    return LAYOUTS.get(resource.table, (PLAIN, plain_cells))
