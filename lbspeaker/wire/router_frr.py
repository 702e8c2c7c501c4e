"""What FRR says of itself: the JSON of `vtysh`, into a RouterView.

Asked is only what shows no secret (a running configuration would), and of the tables only what lies in our
pools: a router may have a million other routes. Each answer is JSON, or several of it one after the other: of
each daemon that knows something. Two shapes of a BGP table are understood, with `detail` and without.

What FRR calls things: `peerState` "Policy" in the summary, and `inboundEbgpRequiresPolicy` of a neighbour,
mean that routes are dropped because there is no policy (RFC 8212); `authenticationEnabled` that a password is
set; `prefixAllowedMax` that a number of routes ends the session; `dynamicPeer` that a range let it in.
"""

import json
from collections.abc import Iterable, Mapping
from ipaddress import ip_address, ip_network
from typing import Any

from lbspeaker.errors import Malformed, plain
from lbspeaker.model import Address, Family, Network
from lbspeaker.upstream import Filters, MapRule, Path, PrefixRule, RouterView, Session, Upstream
from lbspeaker.wire.upstream import IP
from lbspeaker.wire.upstream_span import spans

SOFTWARE = "FRR"
_FAMILIES: dict[Family, str] = {4: "ipv4Unicast", 6: "ipv6Unicast"}
_WELL_KNOWN = {"graceful-shutdown": "65535:0", "no-export": "65535:65281", "no-advertise": "65535:65282"}

Answers = Mapping[str, str]  # by question
Values = Mapping[str, Any]


def questions(up: Upstream) -> tuple[str, ...]:
    """Return the commands whose answers `parse` wants."""
    asked = ["show bgp summary json", "show bgp neighbors json", "show route-map json"]
    for family in up.families:
        asked += [f"show {IP[family]} prefix-list json", f"show {IP[family]} route connected json"]
        for span in spans(up, family):
            asked += [
                f"show bgp ipv{family} unicast {span} longer-prefixes json detail",
                f"show {IP[family]} route {span} longer-prefixes json",
            ]
    return tuple(asked)


def parse(answers: Answers) -> RouterView:
    """Raises Malformed if an answer is not what FRR says."""
    told = {question: documents(question, text) for question, text in answers.items()}
    summaries = [one for question, found in told.items() if "summary" in question for one in found]
    neighbors = [one for question, found in told.items() if "neighbors" in question for one in found]
    tables = [one for question, found in told.items() if question.startswith("show bgp ipv") for one in found]
    routes = [one for question, found in told.items() if " route " in question for one in found]
    lists = [one for question, found in told.items() if "prefix-list" in question for one in found]
    maps = told.get("show route-map json", [])
    try:
        return RouterView(
            SOFTWARE,
            asn_of(summaries),
            sessions(neighbors, summaries),
            tuple(path for table in tables for path in paths(table)),
            installed(routes),
            tuple(connected(routes)),
            _prefix_lists(lists),
            _route_maps(maps),
        )
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise Malformed(f"FRR's answer has not the form that FRR 8 to 10 give it: {error!r}") from None


def documents(question: str, text: str) -> list[Values]:
    """Return the JSON objects in an answer, one after the other. Raises Malformed."""
    found: list[Values] = []
    rest, decoder = text.strip(), json.JSONDecoder()
    while rest:
        try:
            value, end = decoder.raw_decode(rest)
        except (ValueError, RecursionError):
            raise Malformed(f"the answer to `{question}` is not JSON: {excerpt(rest)}") from None
        if not isinstance(value, dict):
            raise Malformed(f"the answer to `{question}` is not an object: {excerpt(rest)}")
        found.append(value)
        rest = rest[end:].strip()
    return found


def excerpt(text: str) -> str:
    """Return the beginning of what somebody else said, so that it can be shown."""
    line = text.strip().splitlines()[0][:80] if text.strip() else ""
    return repr(plain(line)) if line else "it is empty"


# --- sessions -------------------------------------------------------------------------------------------


def asn_of(summaries: Iterable[Values]) -> int | None:
    """Return the AS of the router, as its summaries say."""
    for summary in summaries:
        for family in _FAMILIES.values():
            if "as" in summary.get(family, {}):
                return int(summary[family]["as"])
    return None


def sessions(neighbors: Iterable[Values], summaries: Iterable[Values]) -> dict[Address, Session]:
    """Return what `show bgp neighbors json` and `show bgp summary json` say of each neighbour."""
    lines: dict[str, list[Values]] = {}
    for summary in summaries:
        for family in _FAMILIES.values():
            for peer, line in summary.get(family, {}).get("peers", {}).items():
                lines.setdefault(peer, []).append(line)
    found = {}
    for told in neighbors:
        for peer, values in told.items():
            address = _address(peer)
            if address is not None and isinstance(values, dict):
                found[address] = _session(address, values, lines.get(peer, []))
    return found


def _session(address: Address, values: Values, lines: Iterable[Values]) -> Session:
    families = {family: values.get("addressFamilyInfo", {}).get(key) for family, key in _FAMILIES.items()}
    active: dict[Family, Values] = {family: one for family, one in families.items() if one is not None}
    bfd = values.get("peerBfdInfo")
    said = next((str(line.get("state", "")) for line in lines if "(" in str(line.get("state", ""))), "")
    return Session(
        address,
        said or str(values.get("bgpState", "")),
        remote_asn=_whole(values.get("remoteAs")),
        local_asn=_whole(values.get("localAs")),
        families=_negotiated(values),
        filters={family: _filters(one) for family, one in active.items()},
        ungoverned=frozenset(f for f, one in active.items() if "inboundEbgpRequiresPolicy" in one),
        accepted={f: int(one.get("acceptedPrefixCounter", 0)) for f, one in active.items()},
        limits={
            f: int(one["prefixAllowedMax"])
            for f, one in active.items()
            if "prefixAllowedMax" in one and "prefixAllowedMaxWarning" not in one
        },
        password="authenticationEnabled" in values,
        bfd="" if bfd is None else "up" if str(bfd.get("status", "")).lower() == "up" else "down",
        last_error=_last_error(values),
        dynamic=any(line.get("dynamicPeer") for line in lines) or "dynamicPeer" in values,
    )


def _negotiated(values: Values) -> frozenset[Family] | None:
    if str(values.get("bgpState")) != "Established":
        return None
    said = values.get("neighborCapabilities", {}).get("multiprotocolExtensions", {})
    return frozenset(f for f, key in _FAMILIES.items() if said.get(key, {}).get("advertisedAndReceived"))


def _filters(values: Values) -> Filters:
    prefix_list = values.get("incomingUpdatePrefixFilterList", "")
    others = [
        values.get(key) for key in ("incomingUpdateNetworkFilterList", "incomingUpdateAsPathFilterList")
    ]
    return Filters(
        str(prefix_list),
        str(values.get("routeMapForIncomingAdvertisements", "")),
        next((str(one) for one in others if one), ""),
    )


def _last_error(values: Values) -> str:
    """Why the session ended; what FRR says of one that never was is no error."""
    notification = values.get("lastNotificationReason", "")
    reset = str(values.get("lastResetDueTo", ""))
    waits = ("Waiting for peer OPEN", "No AFI/SAFI activated for peer")
    return str(notification or ("" if reset.startswith(waits) else reset))[:200]


# --- routes ---------------------------------------------------------------------------------------------


def paths(table: Values) -> list[Path]:
    """Return the routes in a BGP table."""
    return [
        found
        for prefix, entries in table.get("routes", {}).items()
        for entry in entries
        if (found := path(ip_network(prefix), entry)) is not None
    ]


def path(prefix: Network, entry: Values) -> Path | None:
    """Return one entry of the table; None for what is no path, or one of the router's own."""
    peer = entry.get("peer", {}).get("peerId", entry.get("peerId"))
    neighbor = _address(peer)
    hops = [hop for hop in entry.get("nexthops", ()) if hop.get("scope") != "link-local"]
    hop = _address(hops[0].get("ip")) if hops else None
    if neighbor is None or hop is None:
        return None
    best = entry.get("bestpath", False)
    best = bool(best.get("overall")) if isinstance(best, dict) else bool(best)
    said = entry.get("aspath", {}).get("string", entry.get("path", ""))
    preference = entry.get("locPrf", entry.get("localpref"))
    communities = entry.get("community")
    return Path(
        prefix,
        neighbor,
        hop,
        used=best or bool(entry.get("multipath")),
        valid=bool(entry.get("valid")),
        stale=bool(entry.get("stale")),
        as_path=tuple(int(word) for word in str(said).split() if word.isdecimal()),
        origin=str(entry.get("origin", "")),
        med=int(entry.get("metric", entry.get("med", 0)) or 0),
        local_pref=_whole(preference),
        communities=None if communities is None else _communities(str(communities.get("string", ""))),
    )


def _communities(text: str) -> frozenset[str]:
    return frozenset(_WELL_KNOWN.get(word, word) for word in text.split())


def installed(tables: Iterable[Values]) -> dict[Network, frozenset[Address]]:
    """Return the next hops of the routes by BGP that forward packets."""
    found: dict[Network, frozenset[Address]] = {}
    for table in tables:
        for prefix, routes in table.items():
            for route in routes:
                if route.get("protocol") == "bgp" and route.get("installed"):
                    hops = (_address(hop.get("ip")) for hop in route.get("nexthops", ()) if hop.get("fib"))
                    found[ip_network(prefix)] = frozenset(hop for hop in hops if hop is not None)
    return found


def connected(tables: Iterable[Values]) -> list[Network]:
    """Return the networks on the router's links."""
    return [
        ip_network(prefix)
        for table in tables
        for prefix, routes in table.items()
        if any(route.get("protocol") == "connected" for route in routes)
    ]


# --- policies -------------------------------------------------------------------------------------------


def _prefix_lists(told: Iterable[Values]) -> dict[tuple[Family, str], tuple[PrefixRule, ...]]:
    """Those of bgpd; every daemon says its own, and they are the same."""
    found: dict[tuple[Family, str], tuple[PrefixRule, ...]] = {}
    for document in told:
        for lists in document.values():
            for name, one in lists.items():
                family: Family = 6 if one.get("addressFamily") == "IPv6" else 4
                found[family, name] = tuple(_prefix_rule(entry) for entry in one.get("entries", ()))
    return found


def _prefix_rule(entry: Values) -> PrefixRule:
    """`any` is told as what it means: 0.0.0.0/0 up to 32, or ::/0 up to 128."""
    network: Network = ip_network(entry["prefix"], strict=False)
    shortest, longest = entry.get("minimumPrefixLength"), entry.get("maximumPrefixLength")
    return prefix_rule(entry.get("type") == "permit", network, shortest, longest)


def prefix_rule(permit: bool, network: Network, ge: int | None, le: int | None) -> PrefixRule:
    """Return a line of a prefix list. Without `ge` and `le`: the network itself; `ge` alone: all longer."""
    longest = le if le is not None else network.prefixlen if ge is None else network.max_prefixlen
    return PrefixRule(permit, network, ge if ge is not None else network.prefixlen, longest)


def _route_maps(told: Iterable[Values]) -> dict[str, tuple[MapRule, ...]]:
    found: dict[str, tuple[MapRule, ...]] = {}
    for document in told:
        for maps in document.values():
            for name, one in maps.items():
                found[name] = tuple(_map_rule(rule) for rule in one.get("rules", ()))
    return found


def _map_rule(rule: Values) -> MapRule:
    clauses = [str(clause) for clause in rule.get("matchClauses", ())]
    lists = [clause.rpartition(" ")[2] for clause in clauses if "address prefix-list " in clause]
    simple = len(lists) == len(clauses) <= 1 and rule.get("action") == "Exit routemap"
    return MapRule(rule.get("type") == "permit", tuple(lists), unclear=not simple)


def _address(text: object) -> Address | None:
    try:
        return ip_address(str(text))
    except ValueError:
        return None


def _whole(value: object) -> int | None:
    return int(value) if isinstance(value, int | str) and str(value).isdecimal() else None
