"""What this machine says of itself, read once: sysctls, sockets, processes, links, firmware.

All of it is that of the network namespace that we are in: what the kernel shows under /proc/sys/net and
/proc/thread-self/net, and what netlink tells. Only /sys may be another's, so little is read from there.
"""

import contextlib
import socket
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from ipaddress import ip_interface
from pathlib import Path
from typing import Any

from pyroute2 import IPRoute

from lbspeaker.errors import Unable, plain
from lbspeaker.facts import Bridge, BridgePort
from lbspeaker.model import Network

_PROC = Path("/proc")
_NET = _PROC / "thread-self" / "net"
_SYS = Path("/sys/class")
_TICKS = 100  # USER_HZ: clock ticks of bridges in a second
_FOR_EVER = 0xFFFFFFFF
_LONGEST = 60  # characters of a command line that name a program
_MOST_BYTES = 1 << 24
_KUBELETS = {"kubelet", "k3s-server", "k3s-agent", "k3s", "rke2", "kubelite", "k0s"}
_BOND_MODES = (
    "balance-rr",
    "active-backup",
    "balance-xor",
    "broadcast",
    "802.3ad",
    "balance-tlb",
    "balance-alb",
)
# Flags of a bridge port that keep frames back: by attribute, the value that does so, and bridge(8)'s word.
_FILTERS = (
    ("IFLA_BRPORT_UNICAST_FLOOD", 0, "flood off"),
    ("IFLA_BRPORT_MCAST_FLOOD", 0, "mcast_flood off"),
    ("IFLA_BRPORT_BCAST_FLOOD", 0, "bcast_flood off"),
    ("IFLA_BRPORT_LEARNING", 0, "learning off"),
    ("IFLA_BRPORT_NEIGH_SUPPRESS", 1, "neigh_suppress on"),
    ("IFLA_BRPORT_PROXYARP", 1, "proxy_arp on"),
    ("IFLA_BRPORT_ISOLATED", 1, "isolated on"),
    ("IFLA_BRPORT_LOCKED", 1, "locked on"),
)


@dataclass(frozen=True, slots=True)
class Wires:
    """What is special about links; see facts.Here."""

    bridges: Mapping[str, Bridge] = field(default_factory=dict)
    bridge_ports: Mapping[str, BridgePort] = field(default_factory=dict)
    bonds: Mapping[str, str] = field(default_factory=dict)
    leased: tuple[Network, ...] = ()


def settings(names: Iterable[str]) -> dict[str, str]:
    """Return sysctls by name; those that are not there, or may not be read, are left out.

    In a name a link's own dots stand as they are: "net.ipv4.conf.eth0.5.rp_filter" is of eth0.5.
    """
    found = {}
    for name in names:
        with contextlib.suppress(OSError, UnicodeDecodeError):
            found[name] = _setting_path(name).read_text().strip()
    return found


def _setting_path(name: str) -> Path:
    parts = name.split(".")
    if parts[2:3] == ["conf"] and len(parts) > 5:
        parts = [*parts[:3], ".".join(parts[3:-1]), parts[-1]]
    return _PROC / "sys" / "/".join(parts)


def sockets(protocol: str) -> str:
    """Return the text of /proc/net/tcp, tcp6, udp or udp6; "" if there is none."""
    try:
        with (_NET / protocol).open("rb") as stream:
            return stream.read(_MOST_BYTES).decode("ascii", "replace")
    except OSError:
        return ""


def programs(inodes: frozenset[int]) -> dict[int, str]:
    """Return the command line of who holds each socket, by its inode, as far as this user may see that."""
    wanted = {f"socket:[{inode}]": inode for inode in inodes}
    found: dict[int, str] = {}
    for process in _processes() if wanted else ():
        with contextlib.suppress(OSError):
            for handle in (process / "fd").iterdir():
                with contextlib.suppress(OSError):
                    inode = wanted.get(str(handle.readlink()))
                    if inode is not None:
                        found.setdefault(inode, _command(process))
        if len(found) == len(wanted):
            break
    return found


def has_kubelet() -> bool:
    """Whether a kubelet runs in this network namespace, under one of the names that it goes by.

    Those of clusters in containers run in another one.
    """
    with contextlib.suppress(OSError):
        own = (_PROC / "thread-self" / "ns" / "net").readlink()
        return any(
            _is_kubelet(process) and (process / "ns" / "net").readlink() == own for process in _processes()
        )
    return False


def _is_kubelet(process: Path) -> bool:
    try:
        return (process / "comm").read_text().strip() in _KUBELETS
    except OSError:
        return False  # it has ended meanwhile


def _processes() -> Iterator[Path]:
    return (path for path in _PROC.iterdir() if path.name.isdecimal())


def _command(process: Path) -> str:
    words = (process / "cmdline").read_bytes()[:1000].replace(b"\0", b" ").decode(errors="replace").strip()
    text = words or (process / "comm").read_text().strip()
    shown = plain(text)
    return shown if len(shown) <= _LONGEST else f"{shown[:_LONGEST]}…"


def firmware() -> str:
    """Return maker and product as the firmware has them: "QEMU Standard PC"; "" if it says nothing."""
    words = []
    for name in ("sys_vendor", "product_name"):
        with contextlib.suppress(OSError):
            words.append((_SYS / "dmi" / "id" / name).read_text(errors="replace").strip())
    return " ".join(word for word in words if word)


def wireless(names: Iterable[str]) -> frozenset[str]:
    """Return which of these links are Wi-Fi."""
    return frozenset(name for name in names if (_SYS / "net" / name / "phy80211").exists())


def wires() -> Wires:
    """Return what netlink tells of bridges, their ports, bonds and leased addresses. Raises Unable."""
    try:
        with IPRoute() as route:
            links = list(route.get_links())
            addresses = list(route.get_addr(family=socket.AF_INET))
    except OSError as error:
        raise Unable(f"the links cannot be looked at: {error.strerror}", "netlink must be allowed") from None
    names = {message["index"]: message.get_attr("IFLA_IFNAME") for message in links}
    told = [(message.get_attr("IFLA_IFNAME"), message) for message in links]
    return Wires(
        bridges={name: _bridge(message) for name, message in told if _kind(message) == "bridge"},
        bridge_ports={name: _port(message, names) for name, message in told if _is_port(message)},
        bonds={name: _mode(message) for name, message in told if _kind(message) == "bond"},
        leased=tuple(dict.fromkeys(_network(message) for message in addresses if _is_leased(message))),
    )


def _kind(message: Any) -> str:
    return str(message.get_nested("IFLA_LINKINFO", "IFLA_INFO_KIND") or "")


def _data(message: Any, name: str) -> int:
    return int(message.get_nested("IFLA_LINKINFO", "IFLA_INFO_DATA", name) or 0)


def _bridge(message: Any) -> Bridge:
    return Bridge(
        _data(message, "IFLA_BR_AGEING_TIME") / _TICKS,
        bool(_data(message, "IFLA_BR_MCAST_SNOOPING")),
        bool(_data(message, "IFLA_BR_MCAST_QUERIER")),
    )


def _is_port(message: Any) -> bool:
    return bool(message.get_nested("IFLA_LINKINFO", "IFLA_INFO_SLAVE_KIND") == "bridge")


def _port(message: Any, names: Mapping[int, str]) -> BridgePort:
    flags = message.get_nested("IFLA_LINKINFO", "IFLA_INFO_SLAVE_DATA")
    bad = tuple(word for name, value, word in _FILTERS if flags is not None and flags.get_attr(name) == value)
    return BridgePort(names.get(message.get_attr("IFLA_MASTER"), ""), bad)


def _mode(message: Any) -> str:
    number = _data(message, "IFLA_BOND_MODE")
    return _BOND_MODES[number] if number < len(_BOND_MODES) else str(number)


def _is_leased(message: Any) -> bool:
    """An IPv4 address that ends some day was given by a DHCP server."""
    lifetime = message.get_attr("IFA_CACHEINFO")
    return lifetime is not None and lifetime["ifa_valid"] != _FOR_EVER


def _network(message: Any) -> Network:
    own = message.get_attr("IFA_LOCAL") or message.get_attr("IFA_ADDRESS")
    return ip_interface(f"{own}/{message['prefixlen']}").network
