"""Addresses and ranges of addresses, as Go's net package reads them: no netmasks, zones or leading zeros."""

import re
from dataclasses import dataclass
from ipaddress import IPv4Address, ip_address, ip_network
from typing import Any

from lbspeaker.config.cel import Rule, with_rules
from lbspeaker.config.place import Place, shown
from lbspeaker.config.values import Text
from lbspeaker.model import Address, Range

# What no neighbour ever asks for, or no router carries: RFC 6890.
_UNREACHABLE = {
    "loopback": ("127.0.0.0/8", "::1/128"),
    "multicast": ("224.0.0.0/4", "ff00::/8"),
    "link-local": ("169.254.0.0/16", "fe80::/10"),
    "unspecified": ("0.0.0.0/8", "::/128"),
}
_UNREACHABLE_RANGES = [
    (f"{name} addresses ({net})", net.version, int(net[0]), int(net[-1]))
    for name, texts in _UNREACHABLE.items()
    for net in map(ip_network, texts)
]

_BROADCAST = IPv4Address("255.255.255.255")
_BLANKS = " \t\r\n"  # CEL's trim() removes these too
_ADDRESS = Text(example="write it like 192.0.2.10 or 2001:db8::10", longest=64)
_RANGE = Text(example="write it like 192.0.2.0/24 or 192.0.2.10-192.0.2.20", longest=128)


def address(text: str) -> Address | None:
    """Return the address, or None. An IPv4-mapped IPv6 address is the IPv4 address (as in Go)."""
    try:
        ip = ip_address(text)
    except ValueError:
        return None
    if isinstance(ip, IPv4Address):
        return ip
    return None if ip.scope_id is not None else ip.ipv4_mapped or ip


def why_no_address(text: str) -> str:
    """Return a hint for text that is not an address."""
    bare = text.partition("%")[0]
    if "%" in text and address(bare):
        return f"write {bare}: a zone (%…) means something on one machine only"
    short = ".".join(part.lstrip("0") or "0" for part in text.split("."))
    if short != text and address(short):
        return f"write {short}, without leading zeros"
    return _ADDRESS.example


# --- one address ----------------------------------------------------------------------------------------

# CEL's isIP() refuses IPv4 addresses written as IPv6 (::ffff:192.0.2.1); the parser decides about those.
_IN_DOUBT = "self.lowerAscii().contains(':ffff:')"


@dataclass(frozen=True, slots=True)
class IP:
    """One address, as IPv4Address or IPv6Address; with `family`, of that family only.

    `instead`: a word that may stand for one, and is returned as it is. `host`: one that a host can have, and
    that needs no link beside it.
    """

    family: int = 0
    instead: str = ""
    host: bool = False

    def parse(self, value: object, place: Place) -> Address | str | None:
        text = _ADDRESS.parse(value, place)
        if text is None or (text == self.instead and text):
            return text
        ip = address(text)
        if ip is None:
            place.error(f"{shown(text)} is not an IP address", why_no_address(text))
        elif self.family and ip.version != self.family:
            place.error(f"{ip} is not an IPv{self.family} address")
            return None
        elif self.host and ip.version == 4 and ":" in text:
            place.error(f"{shown(text)} is an IPv4 address written as IPv6", f"write {ip}")
            return None
        elif self.host and (why := why_no_host(ip)):
            place.error(f"{ip} {why}", "write a global or unique local address")
            return None
        return ip

    def openapi(self) -> dict[str, Any]:
        colon = {4: " && !self.contains(':')", 6: " && self.contains(':')"}.get(self.family, "")
        what = f"this is not an IPv{self.family} address" if self.family else "this is not an IP address"
        word = f" || self == '{self.instead}'" if self.instead else ""
        cel = f"self == ''{word} || (isIP(self){colon}) || {_IN_DOUBT}"
        if self.host:
            what += " that a host can have: unspecified, loopback, multicast, broadcast, link-local, ::ffff:…"
            cel = f"self == ''{word} || (isIP(self){colon} && {_IS_HOST})"
        return with_rules(_ADDRESS.openapi(), [Rule(cel, what, _ADDRESS.example)])


# What Go calls a global unicast address, or 169.254.0.0/16.
_IS_HOST = "(ip(self).isGlobalUnicast() || (ip(self).isLinkLocalUnicast() && !self.contains(':')))"


def why_no_host(ip: Address) -> str:
    """Why no host can be reached by `ip` alone; "" if one can. 169.254.0.0/16 is routed here and there."""
    if ip.is_unspecified:
        return "is nobody's address"
    if ip.is_loopback:
        return "is a loopback address, behind which is always the node itself"
    if ip.is_multicast or ip == _BROADCAST:
        return f"is a {'multicast' if ip.is_multicast else 'broadcast'} address, which no single host has"
    if ip.version == 6 and ip.is_link_local:
        return "is link-local, and nothing says on which link"
    return ""


# --- a range or a CIDR ----------------------------------------------------------------------------------


def _only_if(form: str, cel: str) -> str:
    return f"!({form}) || {_IN_DOUBT} || ({cel})"


_IS_RANGE = "self.contains('-') && !self.contains('/')"
_FIRST, _LAST = "self.split('-', 2)[0].trim()", "self.split('-', 2)[1].trim()"
_IS_CIDR = "self.contains('/') && !self.contains('-')"
_IP, _LENGTH = "self.trim().split('/', 2)[0]", "self.trim().split('/', 2)[1]"


def _number(parts: str) -> str:
    """The IPv4 address in CEL's list of its four parts, as a number."""
    return " + ".join(f"int({parts}[{at}]) * {256 ** (3 - at)}" for at in range(4))


# A list of one is CEL's way to give a value a name, and costs no more than the value.
_ORDERED = (
    f"self.contains(':') || !isIP({_FIRST}) || !isIP({_LAST}) || [{_FIRST}.split('.')].all(a,"
    f" [{_LAST}.split('.')].all(b, {_number('a')} <= {_number('b')}))"
)
_RANGE_RULES = (
    Rule("self.contains('-') != self.contains('/')", "this is neither a CIDR nor a range", _RANGE.example),
    Rule(
        _only_if(_IS_RANGE, f"isIP({_FIRST}) && isIP({_LAST})"),
        "this is no range: its first or its last is not an IP address",
        "write it like 192.0.2.10-192.0.2.20",
    ),
    Rule(
        _only_if(_IS_RANGE, f"{_FIRST}.contains(':') == {_LAST}.contains(':')"),
        "the range starts in one family and ends in the other",
        "write one range for each family",
    ),
    Rule(_only_if(_IS_RANGE, _ORDERED), "the range ends before it starts", "write the lower address first"),
    Rule(
        _only_if(_IS_CIDR, f"isIP({_IP})"),
        "what stands before the / is not an IP address",
        "write it like 192.0.2.0/24 or 2001:db8::/64",
    ),
    Rule(
        _only_if(
            _IS_CIDR,
            f"{_LENGTH}.matches('^[0-9]{{1,3}}$') && int({_LENGTH}) <= (self.contains(':') ? 128 : 32)",
        ),
        "what stands after the / is not a prefix length",
        "write 0 to 32 for IPv4, 0 to 128 for IPv6",
    ),
)


@dataclass(frozen=True, slots=True)
class RangeOrCidr:
    """`192.0.2.0/24` or `192.0.2.10-192.0.2.20` (spaces around the dash are fine), as Range.

    `given`: to services, so that clients must reach them.
    """

    given: bool = True

    def parse(self, value: object, place: Place) -> Range | None:
        text = _RANGE.parse(value, place)
        if text is None:
            return None
        first, dash, last = (part.strip(_BLANKS) for part in text.partition("-"))
        if dash and "/" not in text:
            found = _range(first, last, text, place)
        elif "/" in text and not dash:
            found = _cidr(text.strip(_BLANKS), place)
        else:
            ip = address(text.strip(_BLANKS))
            hint = f"write {ip}/{ip.max_prefixlen}" if ip else _RANGE.example
            place.error(f"{shown(text)} is neither a CIDR nor a range", hint)
            return None
        if found is not None and self.given:
            _warn_unreachable(found, place)
        return found

    def openapi(self) -> dict[str, Any]:
        return with_rules(_RANGE.openapi(), _RANGE_RULES)


def _range(first_text: str, last_text: str, text: str, place: Place) -> Range | None:
    first, last = address(first_text), address(last_text)
    if first is None:
        place.error(
            f"{shown(first_text)}, where the range starts, is not an IP address", why_no_address(first_text)
        )
    if last is None:
        hint = _long_form(first, last_text) or why_no_address(last_text)
        place.error(f"{shown(last_text)}, where the range ends, is not an IP address", hint)
    if first is None or last is None:
        return None
    if first.version != last.version:
        place.error(
            f"{shown(text)} starts in one family and ends in the other", "write one range for each family"
        )
        return None
    if int(first) > int(last):
        place.error(f"{shown(text)} ends before it starts", f"write {last}-{first}")
        return None
    return Range(first, last)


def _long_form(first: Address | None, last: str) -> str:
    """A hint for `192.0.2.10-20`."""
    if not isinstance(first, IPv4Address) or not re.fullmatch("[0-9]{1,3}", last):
        return ""
    meant = address(f"{str(first).rpartition('.')[0]}.{int(last)}")
    return f"write {first}-{meant}" if meant else ""


def _cidr(text: str, place: Place) -> Range | None:
    ip_text, _, length_text = text.partition("/")
    ip = address(ip_text)
    if ip is None or (ip.version == 4 and ":" in ip_text):
        hint = f"write it as IPv4: {ip}/…" if ip else why_no_address(ip_text)
        place.error(f"{shown(ip_text)} in {shown(text)} is not an address of a CIDR", hint)
        return None
    if not re.fullmatch("[0-9]{1,3}", length_text, re.ASCII) or int(length_text) > ip.max_prefixlen:
        what = f"{shown(length_text)} is not a prefix length of IPv{ip.version}, 0 to {ip.max_prefixlen}"
        place.error(what, _length_of_mask(ip, length_text))
        return None
    length = int(length_text)
    found = _range_of_cidr(ip, length)
    if found.first != ip:
        meant = f"{found.first}/{length}"
        place.warn(f"{shown(text)} has host bits; it means {meant}", f"write {meant}")
    return found


def _range_of_cidr(ip: Address, length: int) -> Range:
    host_bits = ip.max_prefixlen - length
    first = int(ip) >> host_bits << host_bits
    make = type(ip)
    return Range(make(first), make(first + (1 << host_bits) - 1))


def _length_of_mask(ip: Address, mask: str) -> str:
    try:
        return f"write {ip}/{ip_network(f'{ip}/{mask}', strict=False).prefixlen}" if address(mask) else ""
    except ValueError:
        return ""


def _warn_unreachable(found: Range, place: Place) -> None:
    version, first, last = found.family, int(found.first), int(found.last)
    for what, of_version, low, high in _UNREACHABLE_RANGES:
        if version == of_version and first <= high and low <= last:
            place.warn(f"{found} holds {what}, which no client can reach")
