"""What to do about each reason: one next step, with a command where there is one."""

from collections.abc import Mapping

from lbspeaker.model import Reason

# {key}: the Service, {namespace} and {name}: its parts.
REMEDIES: Mapping[Reason, str] = {
    Reason.NO_POOL: "create an IPAddressPool for it, or set autoAssign and serviceAllocation of one",
    Reason.POOL_EXHAUSTED: "add addresses to a pool that may serve it (spec.addresses)",
    Reason.NO_POOL_FOR_FAMILY: "add addresses of this family to a pool",
    Reason.UNKNOWN_POOL: "mend its annotation lbspeaker.io/address-pool, or create the pool",
    Reason.POOL_NOT_FOR_SERVICE: "ask for another pool, or change the serviceAllocation of this one",
    Reason.OUTSIDE_POOLS: "request an IP that is in a pool, or add this one to a pool",
    Reason.WRONG_FAMILY: "request an IP of a family that the Service has, or change its ipFamilies",
    Reason.IN_USE: "request another IP, or give both Services one sharing key and different ports",
    Reason.INVALID_REQUEST: "mend the annotation that it names: kubectl -n {namespace} edit svc {name}",
    Reason.NO_CLUSTER_IP: "take clusterIP: None out of the Service",
    Reason.NOT_DUAL_STACK: "set ipFamilyPolicy: PreferDualStack, or give the cluster both families",
    Reason.POOL_CLOSED: "ask for another pool, or set disabled: false",
    Reason.QUOTA_REACHED: "delete Services of its namespace, or raise namespaceQuota",
    Reason.RESERVED: "request another IP, or change the reservations of the pool",
    Reason.COOLING_DOWN: "wait for the end of the cooldown, or request another IP",
    Reason.CLASS_MISMATCH: "make the Service anew with the right loadBalancerClass (or ask with --lb-class)",
    Reason.OUTSIDE_POOL: "leave it so, or request another IP",
    Reason.NO_ADVERTISEMENT: "create an L2Advertisement or a BGPAdvertisement that selects its pool",
    Reason.NO_ENDPOINT: "look at its selector and at its Pods: kubectl -n {namespace} get endpointslices"
    " -l kubernetes.io/service-name={name}",
    Reason.NO_LOCAL_ENDPOINT: "run Pods on nodes that may announce it, or set externalTrafficPolicy: Cluster",
    Reason.NO_CANDIDATE: "look at the speakers: kubectl -n lbspeaker-system get pods -o wide",
    Reason.NODE_EXCLUDED: "kubectl label node NODE node.kubernetes.io/exclude-from-external-load-balancers-",
    Reason.NODE_NETWORK_UNAVAILABLE: "look at the network plugin of the node",
    Reason.NODE_NOT_SELECTED: "mend the nodeSelectors of the advertisement, or the labels of the nodes",
    Reason.NODE_NOT_LIVE: "look at the speaker of the node: kubectl -n lbspeaker-system get pods -o wide",
    Reason.NO_PEER: "create a BGPPeer for the router, or look at peers and nodeSelectors",
    Reason.NO_LINK: "look at interfaces of the L2Advertisement, and at the links of the owner",
    Reason.NO_NODE_LINK: "look at interfaces and anySubnet of the L2Advertisement, and at the nodes' links",
    Reason.FLAPPING: "look for nodes that come and go: `members` in the logs of the speakers",
    Reason.ADDRESS_CONFLICT: "find that host, or exclude the IP from its pool (spec.exclude)",
    Reason.CONFLICTING_ADVERTISEMENTS: "make the two advertisements agree",
    Reason.NO_NEXT_HOP: "give the node an address of this family",
    Reason.FAMILY_NOT_NEGOTIATED: "activate the family for the neighbour on the router",
    Reason.REFUSED_BY_CHILD: "report it as a bug, with the log of the speaker",
}


def remedy(reason: Reason, service: str) -> str:
    """Return what to do about it, of this Service ("namespace/name")."""
    namespace, _, name = service.partition("/")
    return REMEDIES[reason].format(key=service, namespace=namespace, name=name)
