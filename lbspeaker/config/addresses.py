"""Addresses and ranges of addresses, as Go's net package reads them: no netmasks, zones or leading zeros."""

import re
from dataclasses import dataclass
from ipaddress import IPv4Address, ip_address, ip_network
from typing import Any

from lbspeaker.config.place import Place, shown
from lbspeaker.config.schema import Text
from lbspeaker.model import Address, Network, Range

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
    return "write it like 192.0.2.10 or 2001:db8::10"


@dataclass(frozen=True, slots=True)
class IP:
    """One address, as IPv4Address or IPv6Address; with `family`, of that family only."""

    family: int = 0

    def parse(self, value: object, place: Place) -> Address | None:
        text = Text().parse(value, place)
        if text is None:
            return None
        ip = address(text)
        if ip is None:
            place.error(f"{shown(text)} is not an IP address", why_no_address(text))
        elif self.family and ip.version != self.family:
            place.error(f"{ip} is not an IPv{self.family} address")
            return None
        return ip

    def openapi(self) -> dict[str, Any]:
        return {"type": "string"}


@dataclass(frozen=True, slots=True)
class RangeOrCidr:
    """`192.0.2.0/24` or `192.0.2.10-192.0.2.20` (spaces around the dash are fine), as Range."""

    def parse(self, value: object, place: Place) -> Range | None:
        text = Text().parse(value, place)
        if text is None:
            return None
        first, dash, last = (part.strip() for part in text.partition("-"))
        if dash and "/" not in text:
            found = _range(first, last, text, place)
        elif "/" in text and not dash:
            found = _cidr(text.strip(), place)
        else:
            ip = address(text.strip())
            hint = (
                f"write {ip}/{ip.max_prefixlen}"
                if ip
                else "write it like 192.0.2.0/24 or 192.0.2.10-192.0.2.20"
            )
            place.error(f"{shown(text)} is neither a CIDR nor a range", hint)
            return None
        if found is not None:
            _warn_unreachable(found, place)
        return found

    def openapi(self) -> dict[str, Any]:
        return {"type": "string"}


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
    network: Network = ip_network((ip, int(length_text)), strict=False)
    if network.network_address != ip:
        place.warn(f"{shown(text)} has host bits; it means {network}", f"write {network}")
    return Range(network.network_address, network.broadcast_address)


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
