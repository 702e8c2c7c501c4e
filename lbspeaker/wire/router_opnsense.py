"""What OPNsense says of its FRR: the JSON of the plugin os-frr, into a RouterView.

The plugin hands over what FRR says: as it is (`bgpsummary`, `bgpneighbors`: under "response", which is [] if
there is nothing), or as rows, one for each next hop, for its tables. Prefix lists are its own rows. Nothing
is asked that has passwords in it: `bgp/get` and `searchNeighbor` have.
"""

import json
from collections.abc import Mapping, Sequence
from ipaddress import ip_network
from typing import Any

from lbspeaker.errors import Malformed
from lbspeaker.model import Address, Family, Network
from lbspeaker.upstream import Path, PrefixRule, RouterView, Upstream
from lbspeaker.wire.router_frr import (
    asn_of,
    connected,
    excerpt,
    installed,
    path,
    prefix_rule,
    sessions,
)

SOFTWARE = "OPNsense"
_DIAGNOSTICS = "api/quagga/diagnostics"
_LISTS = "api/quagga/bgp/searchPrefixlist"

Row = Mapping[str, Any]


def questions(up: Upstream) -> tuple[str, ...]:
    """Return the paths of its API whose answers `parse` wants; each is read with GET."""
    return (
        f"{_DIAGNOSTICS}/bgpsummary",
        f"{_DIAGNOSTICS}/bgpneighbors",
        _LISTS,
        *(f"{_DIAGNOSTICS}/searchBgproute{family}" for family in up.families),
        *(f"{_DIAGNOSTICS}/searchGeneralroute{family}" for family in up.families),
    )


def parse(answers: Mapping[str, bytes]) -> RouterView:
    """Raises Malformed if an answer is not what os-frr gives."""
    told = {question: _decoded(question, body) for question, body in answers.items()}
    try:
        summaries = [_response(told[f"{_DIAGNOSTICS}/bgpsummary"])]
        neighbors = [_response(told[f"{_DIAGNOSTICS}/bgpneighbors"])]
        routes = _rows(told, "searchGeneralroute")
        return RouterView(
            SOFTWARE,
            asn_of(summaries),
            sessions(neighbors, summaries),
            tuple(found for row in _rows(told, "searchBgproute") if (found := _path(row)) is not None),
            _installed(routes),
            tuple(connected([_table(routes)])),
            _prefix_lists(_rows(told, "searchPrefixlist")),
        )
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise Malformed(f"OPNsense's answer has not the form that os-frr gives it: {error!r}") from None


def _decoded(question: str, body: bytes) -> Mapping[str, Any]:
    try:
        value = json.loads(body)
    except (ValueError, RecursionError):
        text = excerpt(body[:200].decode(errors="replace"))
        raise Malformed(f"the answer to GET /{question} is not JSON: {text}") from None
    if not isinstance(value, dict):
        raise Malformed(f"the answer to GET /{question} is no object")
    return value


def _response(told: Mapping[str, Any]) -> Mapping[str, Any]:
    """What FRR said; an empty list is PHP's empty object."""
    found = told["response"]
    return found if isinstance(found, dict) else {}


def _rows(told: Mapping[str, Mapping[str, Any]], which: str) -> list[Row]:
    """The rows of all answers to `which`. Raises Malformed if an answer has not all of them."""
    found: list[Row] = []
    for question, value in told.items():
        if which in question:
            rows = value["rows"]
            if int(value.get("total", len(rows))) > len(rows):
                raise Malformed(f"GET /{question} gave {len(rows)} of {value['total']} rows")
            found += rows
    return found


def _path(row: Row) -> Path | None:
    return path(ip_network(row["network"]), {**row, "nexthops": [row]})


def _table(rows: Sequence[Row]) -> dict[str, list[Row]]:
    """The rows as FRR's own JSON has them: routes by prefix."""
    found: dict[str, list[Row]] = {}
    for row in rows:
        found.setdefault(row["prefix"], []).append({**row, "nexthops": [row]})
    return found


def _installed(rows: Sequence[Row]) -> dict[Network, frozenset[Address]]:
    found: dict[Network, frozenset[Address]] = {}
    for prefix, routes in _table(rows).items():
        for route in routes:
            for network, hops in installed([{prefix: [route]}]).items():
                found[network] = found.get(network, frozenset()) | hops
    return found


def _prefix_lists(rows: Sequence[Row]) -> dict[tuple[Family, str], tuple[PrefixRule, ...]]:
    """Lists are rows with the same name; "network" may have ge and le after it."""
    found: dict[tuple[Family, str], list[tuple[int, PrefixRule]]] = {}
    for row in rows:
        if str(row.get("enabled", "1")) != "1":
            continue
        words = str(row["network"]).split()
        network: Network = ip_network(words[0], strict=False)
        bounds = {words[i]: int(words[i + 1]) for i in range(1, len(words) - 1, 2)}
        permit = str(row["action"]).lower() == "permit"
        rule = prefix_rule(permit, network, bounds.get("ge"), bounds.get("le"))
        key: tuple[Family, str] = (network.version, str(row["name"]))
        found.setdefault(key, []).append((int(row["seqnumber"]), rule))
    return {key: tuple(rule for _, rule in sorted(rules, key=lambda r: r[0])) for key, rules in found.items()}
