"""What BIRD 2 says of itself: the text of `birdc`, into a RouterView.

Blocks begin at the left margin. BIRD does not say whether a neighbour has a password or GTSM, nor what is in
a filter; it counts what a filter refused. That several next hops are used shows in what it exports to the
kernel, and only there. After an error it lets nobody in for a while (`Error wait`).
"""

import re
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import replace
from ipaddress import ip_address, ip_interface, ip_network

from lbspeaker.errors import Malformed
from lbspeaker.model import Address, Family, Network
from lbspeaker.upstream import Filters, Path, RouterView, Session, Upstream
from lbspeaker.wire.router_frr import excerpt
from lbspeaker.wire.upstream_span import spans

SOFTWARE = "BIRD"
_CHANNELS: dict[str, Family] = {"ipv4": 4, "ipv6": 6}
_HEADER = re.compile(r"(?P<name>[A-Za-z_]\S*)\s+(?P<proto>BGP|BFD|Kernel)\s+")
_FIELD = re.compile(r"^\s+([A-Za-z][A-Za-z /-]*[A-Za-z]):\s*(.*)$")
_ROUTE = re.compile(
    r"^(?P<prefix>[0-9a-f.:]+/\d+)?\s+(?P<how>unicast|unreachable|blackhole|prohibit)\s+"
    r"\[(?P<name>\S+) [^\]]*?(?: from (?P<peer>[0-9a-f.:]+)\S*)?\]\s*(?P<best>\*)?[^(]*\(\d+-?(?P<stale>s?)"
)
_RESTARTING = "Neighbor graceful restart active"  # without a mark at the routes themselves
_HOP = re.compile(r"^\tvia (?P<hop>[0-9a-f.:]+)\S* on ")
_ADDRESS = re.compile(r"^\t(?P<interface>[0-9a-f.:]+/\d+) \((?!.*scope (?:link|host))")
_BFD = re.compile(r"^(?P<peer>[0-9a-f.:]+)\s+\S+\s+(?P<state>Up|Down|Init|AdminDown)\s")

_PROTOCOLS, _BFD_SESSIONS, _INTERFACES = "show protocols all", "show bfd sessions", "show interfaces"
Answers = Mapping[str, str]  # by question


def questions(up: Upstream) -> tuple[str, ...]:
    """Return the commands whose answers are needed at first; see `more`."""
    return (_PROTOCOLS, _INTERFACES, *(f"show route where {w} all" for w in _where(up)))


def more(up: Upstream, answers: Answers) -> tuple[str, ...]:
    """Return the commands that follow from the first answers: what the kernel is given, BFD if it runs.

    Raises Malformed.
    """
    blocks = _blocks(answers[_PROTOCOLS])
    kernels = [name for name, proto, _ in blocks if proto == "Kernel"]
    asked = [f"show route export {name} where {where}" for name in kernels for where in _where(up)]
    return (*asked, *([_BFD_SESSIONS] if any(proto == "BFD" for _, proto, _ in blocks) else []))


def _where(up: Upstream) -> list[str]:
    return [f"net ~ [ {span}+ ]" for family in up.families for span in spans(up, family)]


def parse(answers: Answers) -> RouterView:
    """Raises Malformed if an answer is not what BIRD says."""
    try:
        return _parse(answers)
    except ValueError as error:
        raise Malformed(f"BIRD's answer has not the form that BIRD 2 gives it: {error}") from None


def _parse(answers: Answers) -> RouterView:
    blocks = [block for block in _blocks(answers[_PROTOCOLS]) if block[1] == "BGP"]
    bfd = _bfd(answers.get(_BFD_SESSIONS, ""))
    named = {name: found for name, _, lines in blocks if (found := _session(lines, bfd)) is not None}
    restarting = {name for name, _, lines in blocks if _RESTARTING in map(str.strip, lines)}
    exported: dict[Network, set[Address]] = {}
    for question, text in answers.items():
        if question.startswith("show route export"):
            for prefix, hops in _exported(text):
                exported.setdefault(prefix, set()).update(hops)
    paths: list[Path] = []
    for question, text in answers.items():
        if question.startswith("show route where"):
            paths += _paths(text, named, restarting)
    used = [replace(p, used=p.used or p.next_hop in exported.get(p.prefix, ())) for p in paths]
    asns = {session.local_asn for session in named.values()}
    return RouterView(
        SOFTWARE,
        asns.pop() if len(asns) == 1 else None,
        {session.address: session for session in named.values()},
        tuple(used),
        {prefix: frozenset(hops) for prefix, hops in exported.items()},
        tuple(_connected(answers.get(_INTERFACES, ""))),
    )


def _blocks(text: str) -> list[tuple[str, str, list[str]]]:
    """The protocols of BGP, BFD and the kernel: name, which of these, and their lines. Raises Malformed."""
    if not text.startswith("BIRD ") or "Proto" not in text:
        raise Malformed(f"the answer to `{_PROTOCOLS}` is not BIRD's: {excerpt(text)}")
    found: list[tuple[str, str, list[str]]] = []
    lines: list[str] = []
    for line in text.splitlines():
        if line and not line[0].isspace():
            header = _HEADER.match(line)
            lines = []
            if header:
                found.append((header["name"], header["proto"], lines))
        else:
            lines.append(line)
    return found


# --- sessions -------------------------------------------------------------------------------------------


def _session(lines: list[str], bfd: Mapping[Address, str]) -> Session | None:
    """One protocol; None for the template of a range, which is no neighbour itself."""
    own, channels = _fields(lines)
    if "Neighbor address" not in own:
        return None
    address = ip_address(own["Neighbor address"].partition("%")[0])
    up = own.get("BGP state") == "Established"
    wait = own.get("Error wait", "0").partition("/")[0]
    return Session(
        address,
        own.get("BGP state", ""),
        remote_asn=int(own["Neighbor AS"]) if own.get("Neighbor AS", "").isdecimal() else None,
        local_asn=int(own["Local AS"]) if own.get("Local AS", "").isdecimal() else None,
        families=frozenset(f for f, one in channels.items() if one.get("State") == "UP") if up else None,
        filters={f: Filters(other=_filter(one)) for f, one in channels.items()},
        accepted={f: _first_number(one.get("Routes", "")) for f, one in channels.items()},
        refused={f: _column(one.get("Import updates", ""), 2) for f, one in channels.items()},
        limits={
            f: _first_number(one["Import limit"])
            for f, one in channels.items()
            if "Import limit" in one and one.get("Action") in ("restart", "disable")
        },
        bfd=bfd.get(address, ""),
        last_error=own.get("Last error", "")[:200],
        wait_s=float(wait),
    )


def _fields(lines: Iterable[str]) -> tuple[dict[str, str], dict[Family, dict[str, str]]]:
    """The fields of a protocol, and those of each of its channels."""
    own: dict[str, str] = {}
    channels: dict[Family, dict[str, str]] = {}
    into = own
    for line in lines:
        if line.startswith("  Channel "):
            family = _CHANNELS.get(line.split()[1])
            into = {} if family is None else channels.setdefault(family, {})
        elif found := _FIELD.match(line):
            into.setdefault(found[1], found[2].strip())
    return own, channels


def _filter(channel: Mapping[str, str]) -> str:
    said = channel.get("Input filter", "")
    return "" if said == "ACCEPT" else said


def _first_number(text: str) -> int:
    found = re.match(r"\d+", text)
    return int(found[0]) if found else 0


def _column(text: str, number: int) -> int:
    words = text.split()
    return int(words[number]) if len(words) > number and words[number].isdecimal() else 0


def _bfd(text: str) -> dict[Address, str]:
    found = (_BFD.match(line) for line in text.splitlines())
    return {ip_address(m["peer"]): "up" if m["state"] == "Up" else "down" for m in found if m}


# --- routes ---------------------------------------------------------------------------------------------


def _routes(text: str) -> Iterator[tuple[Network, re.Match[str], list[str]]]:
    """Each route of a listing: its prefix, its first line, and what follows."""
    prefix: Network | None = None
    first: re.Match[str] | None = None
    lines: list[str] = []
    for line in [*text.splitlines(), ""]:
        found = _ROUTE.match(line)
        if (found or not line) and first and prefix:
            yield prefix, first, lines
            first = None
        if found:
            prefix = ip_network(found["prefix"]) if found["prefix"] else prefix
            first, lines = found, []
        else:
            lines.append(line)


def _paths(text: str, named: Mapping[str, Session], restarting: Collection[str]) -> Iterator[Path]:
    for prefix, first, lines in _routes(text):
        session = named.get(first["name"])
        attributes = dict(_attributes(lines))
        hop = attributes.get("BGP.next_hop", "").split()
        if session is None or not hop:
            continue
        yield Path(
            prefix,
            session.address,
            ip_address(hop[0]),
            used=bool(first["best"]),
            valid=first["how"] == "unicast",
            stale=bool(first["stale"]) or first["name"] in restarting,
            as_path=tuple(int(w) for w in attributes.get("BGP.as_path", "").split() if w.isdecimal()),
            origin=attributes.get("BGP.origin", "IGP").replace("Incomplete", "incomplete"),
            med=int(attributes.get("BGP.med", 0)),
            local_pref=int(attributes.get("BGP.local_pref", 100)),
            communities=frozenset(
                f"{high}:{low}"
                for high, low in re.findall(r"\((\d+),(\d+)\)", attributes.get("BGP.community", ""))
            ),
        )


def _attributes(lines: Iterable[str]) -> Iterator[tuple[str, str]]:
    for line in lines:
        name, mark, value = line.strip().partition(": ")
        if mark and name.startswith("BGP."):
            yield name, value


def _exported(text: str) -> Iterator[tuple[Network, set[Address]]]:
    for prefix, _, lines in _routes(text):
        yield prefix, {ip_address(hop["hop"]) for line in lines if (hop := _HOP.match(line))}


def _connected(text: str) -> list[Network]:
    """The networks on its links; not single addresses."""
    found = []
    for line in text.splitlines():
        if match := _ADDRESS.match(line):
            network: Network = ip_interface(match["interface"]).network
            if network.prefixlen < network.max_prefixlen:
                found.append(network)
    return list(dict.fromkeys(found))
