"""The configuration of OPNsense with its plugin os-frr (1.52 and newer): steps for people, calls of its API.

From its documentation and source, not run. FRR is inside; what the plugin has no field for cannot be set:
passive neighbours, and how far away a neighbour may be (GTSM). A neighbour has one prefix list for each
direction, so all pools are in one. A list and its IPv6 twin share a name.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass

from lbspeaker.upstream import Neighbor, Upstream
from lbspeaker.wire.upstream import PASSWORD, commented, far, head, inbound, lengths, name, outbound, ports

_HOLD_TIMES = range(3, 3001)  # what its field takes
_ANY = {4: "0.0.0.0/0 le 32", 6: "::/0 le 128"}
_INET = {4: "inet", 6: "inet6"}


@dataclass(frozen=True, slots=True)
class Step:
    """What to enter on one page: the names of its fields, and their values."""

    page: str
    fields: tuple[tuple[str, str], ...]


@dataclass(frozen=True, slots=True)
class Call:
    """One POST. `keep`: a variable for the uuid in its answer. A value "$…" stands for such a uuid."""

    path: str
    body: Mapping[str, object]
    keep: str = ""


def build(up: Upstream) -> str:
    """Return the steps, and the same as a shell script."""
    lines = ["From the documentation of OPNsense's plugin os-frr 1.54, not run."]
    lines += head(up, "OPNsense", "Either enter it, or run the calls at the end.")
    lines += cautions(up)
    lines = commented("#", lines)
    for number, step in enumerate(steps(up), 1):
        lines += ["#", f"# {number}. {step.page}"]
        width = max(len(label) for label, _ in step.fields)
        lines += [f"#      {label:{width}}  {value}".rstrip() for label, value in step.fields]
    return "\n".join([*lines, "", *_script(up), ""])


def cautions(up: Upstream) -> list[str]:
    """Return what it cannot do, or does not do by itself."""
    lines = [
        "Peer with the address of each router itself, never with a CARP address.",
        "The plugin's own firewall rules are for OSPF; those for BGP must be made.",
    ]
    if up.ttl_hops is not None:
        lines.append("It has no field for ttlSecurity: take that out of the BGPPeer, or use Manual Config.")
    if _timers(up) is None:
        lines.append(
            f"It has no hold time of {up.hold_time_s} s; what it has is negotiated: the smaller one."
        )
    if up.password:
        lines.append("With a password it needs the Local Initiater IP, too; peer groups have no password.")
    return lines


# --- for people -----------------------------------------------------------------------------------------


def steps(up: Upstream) -> tuple[Step, ...]:
    """Return the pages in the order in which they are filled in."""
    found = [
        Step("Routing: General", (("Enable", "✓"),)),
        Step(
            "Routing: BGP, General",
            (
                ("enable", "✓"),
                ("BGP AS Number", f"{up.asn:d}"),
                (f"Maximum Paths{' IBGP' if up.ibgp else ''} (advanced)", f"{up.paths:d}"),
            ),
        ),
        Step("Routing: BGP, Prefix Lists", tuple(("+", _shown(entry)) for entry in _entries(up))),
    ]
    found += [Step("Routing: BGP, Neighbors: +", _fields(up, neighbor)) for neighbor in up.neighbors]
    if up.bfd is not None:
        rows = tuple(("+", _bfd_shown(up, neighbor)) for neighbor in up.neighbors)
        found.append(Step("Routing: BFD", (("enable", "✓"), *rows)))
    rules = tuple(
        ("+", f"Pass, in, {protocol.upper()}, from {neighbor.address} to This Firewall, port {port}")
        for neighbor in up.neighbors
        for protocol, port in ports(up)
    )
    found.append(Step("Firewall: Rules, the interface of the nodes", rules))
    found.append(Step("Routing: BGP", (("Apply", ""),)))
    return tuple(found)


def _shown(entry: Mapping[str, str]) -> str:
    words = f"{entry['name']}, {entry['version']}, Number {entry['seqnumber']}, {entry['action'].title()}"
    return f"{words}, Network {entry['network']}"


def _fields(up: Upstream, neighbor: Neighbor) -> tuple[tuple[str, str], ...]:
    fields = [
        ("Enabled", "✓"),
        ("Description", name(neighbor.label)),
        ("Peer-IP", str(neighbor.address)),
        ("Remote AS", f"{up.nodes_asn:d}"),
    ]
    if up.password:
        fields += [("BGP MD5 Password (advanced)", PASSWORD), ("Local Initiater IP (advanced)", _local(up))]
    if up.multihop:
        fields.append(("Multi-Hop", "✓"))
    if _both(up):
        fields.append(("Multi-Protocol (advanced)", "✓"))
    if up.bfd is not None:
        fields.append(("BFD", "✓"))
    if timers := _timers(up):
        fields += [("Keepalive (advanced)", timers[0]), ("Hold Down Time (advanced)", timers[1])]
    return (*fields, ("Prefix-List In", inbound(up)), ("Prefix-List Out", outbound(up)))


def _bfd_shown(up: Upstream, neighbor: Neighbor) -> str:
    assert up.bfd is not None
    hops = ", Multihop ✓" if far(up) else ""
    times = f"Receive {up.bfd.receive_ms}, Transmit {up.bfd.transmit_ms}, Multiplier {up.bfd.multiplier}"
    return f"Peer-IP {neighbor.address}, Local address {_local(up)}{hops}, {times}"


# --- for its API ----------------------------------------------------------------------------------------


def calls(up: Upstream) -> tuple[Call, ...]:
    """Return the calls of its API that do the same, in order; `INTERFACE` is the one of the nodes."""
    paths = "maximumpathsibgp" if up.ibgp else "maximumpaths"
    found = [
        Call("quagga/general/set", {"general": {"enabled": "1"}}),
        Call("quagga/bgp/set", {"bgp": {"enabled": "1", "asnumber": f"{up.asn:d}", paths: f"{up.paths:d}"}}),
    ]
    for entry in _entries(up):
        keep = "OUT" if entry["action"] == "deny" else "IN"
        found.append(Call("quagga/bgp/addPrefixlist", {"prefixlist": {"enabled": "1", **entry}}, keep))
    found += [Call("quagga/bgp/addNeighbor", {"neighbor": _values(up, n)}) for n in up.neighbors]
    if up.bfd is not None:
        found.append(Call("quagga/bfd/set", {"bfd": {"enabled": "1"}}))
        found += [Call("quagga/bfd/addNeighbor", {"neighbor": _bfd_values(up, n)}) for n in up.neighbors]
    for neighbor in up.neighbors:
        found += [_rule(up, neighbor, protocol, port) for protocol, port in ports(up)]
    found += [Call("firewall/filter/apply", {}), Call("quagga/service/reconfigure", {})]
    return tuple(found)


def _values(up: Upstream, neighbor: Neighbor) -> dict[str, str]:
    values = {
        "enabled": "1",
        "description": name(neighbor.label),
        "address": str(neighbor.address),
        "remoteas": f"{up.nodes_asn:d}",
        "multihop": f"{up.multihop:d}",
        "multiprotocol": f"{_both(up):d}",
        "bfd": f"{up.bfd is not None:d}",
        "linkedPrefixlistIn": "$IN",
        "linkedPrefixlistOut": "$OUT",
    }
    if up.password:
        values |= {"password": PASSWORD, "localip": _local(up)}
    if timers := _timers(up):
        values |= {"keepalive": timers[0], "holddown": timers[1]}
    return values


def _bfd_values(up: Upstream, neighbor: Neighbor) -> dict[str, str]:
    assert up.bfd is not None
    return {
        "enabled": "1",
        "description": name(neighbor.label),
        "address": str(neighbor.address),
        "localaddress": _local(up),
        "multihop": f"{far(up):d}",
        "receive_interval": f"{up.bfd.receive_ms:d}",
        "transmit_interval": f"{up.bfd.transmit_ms:d}",
        "detect_multiplier": f"{up.bfd.multiplier:d}",
    }


def _rule(up: Upstream, neighbor: Neighbor, protocol: str, port: int) -> Call:
    rule = {
        "enabled": "1",
        "action": "pass",
        "interface": "INTERFACE",
        "direction": "in",
        "ipprotocol": _INET[up.family],
        "protocol": protocol.upper(),
        "source_net": str(neighbor.address),
        "destination_net": "(self)",
        "destination_port": f"{port:d}",
        "description": f"{protocol.upper()} {port} from {name(neighbor.label)}",
    }
    return Call("firewall/filter/addRule", {"rule": rule})


def _script(up: Upstream) -> list[str]:
    """The calls with curl; neither key nor secret nor password is ever an argument of it."""
    router = _local(up) if up.address else "ROUTER"
    host = f"[{router}]" if ":" in router else router
    lines = [
        f"ROUTER=https://{host}",
        "NETRC=opnsense.netrc   # mode 0600, one line: machine HOST login KEY password SECRET",
        "api() { curl -sS --fail --netrc-file \"$NETRC\" -H 'Content-Type: application/json' "
        '-d @- "$ROUTER/api/$1"; }',
        'uuid() { sed -n \'s/.*"uuid" *: *"\\([^"]*\\)".*/\\1/p\'; }',
    ]
    for call in calls(up):
        body = json.dumps(call.body)
        if call.keep:
            lines += [f"{call.keep}=$(api {call.path} <<JSON | uuid", body, "JSON", ")"]
        else:
            lines += [f"api {call.path} <<JSON", body, "JSON"]
    return lines


# --- what both have -------------------------------------------------------------------------------------


def _entries(up: Upstream) -> list[dict[str, str]]:
    """The lines of its prefix lists: what comes in, and then that nothing goes out."""
    found: list[dict[str, str]] = []
    for one in up.prefix_lists:
        for accepted in one.entries:
            network = f"{accepted.network}{lengths(accepted)}"
            number = 10 * (len(found) + 1)
            found.append(
                _entry(inbound(up), one.family, number, "permit", network, f"pool {name(one.label)}")
            )
    for number, family in enumerate(up.families, 1):
        found.append(_entry(outbound(up), family, 10 * number, "deny", _ANY[family], "nothing goes out"))
    return found


def _entry(
    list_name: str, family: int, number: int, action: str, network: str, description: str
) -> dict[str, str]:
    return {
        "description": description,
        "name": list_name,
        "version": f"IPv{family}",
        "seqnumber": str(number),
        "action": action,
        "network": network,
    }


def _local(up: Upstream) -> str:
    return str(up.address) if up.address else "ITS-OWN-ADDRESS"


def _both(up: Upstream) -> bool:
    """Whether a session carries more than its own family."""
    return up.families != (up.family,)


def _timers(up: Upstream) -> tuple[str, str] | None:
    return (f"{up.keepalive_s:d}", f"{up.hold_time_s:d}") if up.hold_time_s in _HOLD_TIMES else None
